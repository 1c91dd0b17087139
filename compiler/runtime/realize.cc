// SPDX-License-Identifier: MIT
// From tensor graphs to memory.
//
// realize() decides what must be computed together, has it scheduled, compiled and run, and then makes every live Pin
// forget the past: a Pin whose graph contained a realised root, or an ASSIGN that ran, refers to the BUFFER instead.
//
// Hazards. A BUFFER in a graph means its value before any ASSIGN of that graph; the ASSIGN node means its value
// afterwards. So when an ASSIGN runs, every live graph that reads the BUFFER, but not through that ASSIGN, must be
// computed in the same schedule, or it would later read the new value. Such graphs are added to the roots until there
// are no more.
//
// Memory. A BUFFER node owns memory under its id in a table; when the sweep frees the node, Arena::on_free drops the
// memory. Internal buffers of a schedule live in one block per thread, reused by the next realize.
#include <algorithm>
#include <mutex>
#include <unordered_map>
#include "compiler/runtime/runtime.h"

namespace ingot {
namespace {

struct Table {  // BUFFER id → memory
  struct Entry {
    BufferRef memory;
    U owner;  // copies of the node in other arenas do not free it
  };
  std::mutex mutex;
  std::unordered_map<i64, Entry> entries;
};
Table& table() {
  static Table* t = new Table;
  return *t;
}

void on_free(U u) {
  forget_source(u);
  if (u->op != Op::BUFFER) return;
  BufferRef dropped;  // after the lock
  std::lock_guard lock(table().mutex);
  auto it = table().entries.find(u->arg(0));
  if (it == table().entries.end() || it->second.owner != u) return;
  dropped = std::move(it->second.memory);
  table().entries.erase(it);
}

i64 bytes_of(DType dtype, std::span<const i64> shape) {
  i64 n = dtype.bytes();
  for (i64 d : shape)
    if (d < 0 || __builtin_mul_overflow(n, d, &n)) throw Error("a tensor of shape ", shape, " is too large");
  return n;
}

constexpr size_t fewest_nodes = 1 << 12;  // more than twice as many, or than the last sweep left, are worth a sweep
// What grew since the last sweep decides about the next one.
struct Growth {
  size_t nodes_after_sweep = fewest_nodes;
  i64 bytes_after_sweep = 0;
};
thread_local Growth growth;
constexpr i64 sweep_bytes = 32 << 20;  // garbage below this is not worth a sweep

U assigned_buffer(U u) {
  while (u->op == Op::ASSIGN) u = u->src(0);
  if (u->op != Op::BUFFER)
    throw Error("ASSIGN to ", u->op, " ", u->shape(), ", which is not in memory; realize() it first");
  return u;
}

bool any_pin(const std::function<bool(U)>& f) {
  for (Pin* p = Arena::current().first_pin(); p; p = p->next())
    if (**p && f(**p)) return true;
  return false;
}

std::vector<U> pinned_graphs() {  // each once; BUFFERs left out
  std::vector<U> out;
  UMap<bool> seen;
  any_pin([&](U u) {
    if (u->op != Op::BUFFER && !seen.contains(u)) seen[u] = true, out.push_back(u);
    return false;
  });
  return out;
}

// Adds the live graphs that still need what an ASSIGN of `roots` overwrites; returns the ASSIGNs that will run.
std::vector<U> add_hazards(std::vector<U>& roots) {
  for (;;) {
    std::vector<U> assigns;
    UMap<bool> replaced, assigned;
    for (U u : toposort(roots))
      if (u->op == Op::ASSIGN) assigns.push_back(u), replaced[u] = true, assigned[assigned_buffer(u)] = true;
    if (assigns.empty()) return assigns;
    for (U u : roots) replaced[u] = true;
    std::vector<U> graphs = pinned_graphs();
    UMap<bool> needs_old;
    auto needs = [&](U u) { return *needs_old.find(u); };
    for (U u : toposort(graphs)) {
      bool old = false;
      if (u->op == Op::BUFFER) {
        old = assigned.contains(u);
      } else if (!replaced.contains(u)) {
        for (u32 i = 0; i < u->nsrc; i++) {
          bool target = i == 0 && u->op == Op::ASSIGN && u->src(0)->op == Op::BUFFER;  // written, not read
          old = old || (!target && needs(u->src(int(i))));
        }
      }
      needs_old[u] = old;
    }
    size_t before = roots.size();
    for (U u : graphs)
      if (needs(u)) roots.push_back(u);
    if (roots.size() == before) return assigns;
  }
}

// ---- DEV=REF

// Every ASSIGN becomes a pure value first, so that all reads of a BUFFER see its old contents; the buffers are written
// last. Reductions and gathers are cut out too: roots that share them would evaluate them once each.
std::vector<U> realize_by_evaluation(std::span<const U> roots, int number, std::vector<Evaluation>& list) {
  UMap<U> cut;                           // node → BUFFER that holds it
  std::vector<std::pair<U, U>> written;  // assigned BUFFER, its new contents
  UMap<bool> is_root;
  for (U u : roots) is_root[u] = true;
  for (U u : toposort(roots)) {
    bool heavy = u->op == Op::REDUCE_AXIS || u->op == Op::GATHER || u->op == Op::CONTIGUOUS;
    if (u->op == Op::ASSIGN) {
      U base = assigned_buffer(u), before = u->src(0) == base ? base : *cut.find(u->src(0));
      U after = new_buffer(u->dtype, u->shape(), number);
      std::vector<i64> region(u->arg().begin(), u->arg().end());
      if (!region.empty()) list.push_back({before, after, {}});
      list.push_back({substitute(u->src(1), cut), after, std::move(region)});
      cut[u] = after;
      std::erase_if(written, [&](auto& w) { return w.first == base; });
      written.push_back({base, after});
    } else if (u->op != Op::BUFFER && (heavy || is_root.contains(u))) {
      U to = new_buffer(u->dtype, u->shape(), u->op == Op::COPY ? int(u->arg(0)) : number);
      std::vector<U> sources;
      for (U s : u->src()) sources.push_back(substitute(s, cut));
      list.push_back({with_sources(u, sources), to, {}});
      cut[u] = to;
    }
  }
  for (auto [base, contents] : written) list.push_back({contents, base, {}});
  std::vector<U> results;
  for (U u : roots)
    results.push_back(u->op == Op::BUFFER ? u : u->op == Op::ASSIGN ? assigned_buffer(u) : *cut.find(u));
  return results;
}

// ---- devices that run machine code

Argument whole(U buffer, DType dtype, i64 elements) {
  return {buffer_of(buffer), 0, dtype, elements, false, false, buffer->arg(0)};
}

std::vector<Call> calls_of(const Schedule& s, int number) {
  thread_local std::map<int, BufferRef> blocks;
  std::vector<BufferRef> own;  // GUARD=1: every internal buffer stands alone
  if (ctx.GUARD) {
    for (const InternalBuffer& b : s.internals) own.push_back(device(number).alloc(b.elements * b.dtype.bytes()));
  } else if (BufferRef& block = blocks[number];
             s.plan_bytes > (block ? block->bytes : 0) || (block && &block->device != &device(number))) {
    block = {};
    block = device(number).alloc(s.plan_bytes);
  }
  std::vector<Kernel*> kernels = compile_all(s.kernels, number);
  std::vector<Call> calls;
  for (size_t i = 0; i < s.kernels.size(); i++) {
    const ScheduledKernel& k = s.kernels[i];
    Call c{kernels[i], k.name, k.source, {}};
    for (const KernelBuffer& b : k.buffers) {
      Argument a;
      if (b.buffer)
        a = whole(b.buffer, b.dtype, b.elements);
      else if (ctx.GUARD)
        a = {own[size_t(b.internal)], 0, b.dtype, b.elements, false, false, -1};
      else
        a = {blocks[number], s.internals[size_t(b.internal)].offset, b.dtype, b.elements, false, false, -1};
      a.written = b.written, a.read = b.read;
      const Device& owner = a.memory->device;
      if (kernels[i] && &owner != &device(number) && !(a.memory->host && target_of(number).isa == "x86"))
        throw Error(k.name, " runs on ", device_name(number), " and uses a tensor on ", owner.info().name,
                    k.source.empty() ? "" : ", " + k.source, "; to() copies it");
      check(a.offset + a.elements * a.dtype.bytes() <= a.memory->bytes, k.name, ": ", a.elements, " of ", a.dtype,
            " in ", a.memory->bytes, " bytes");
      c.arguments.push_back(std::move(a));
    }
    calls.push_back(std::move(c));
  }
  return calls;
}

// Every Pin forgets what became memory. One pass over all of them, so that what they share is rebuilt once.
void substitute_pins(UMap<U>& became) {
  std::vector<U> graphs = pinned_graphs();
  if (graphs.empty()) return;
  U after = substitute(make(Op::SINK, VOID, graphs), became);
  UMap<U> map;
  for (size_t i = 0; i < graphs.size(); i++) map[graphs[i]] = after->src(int(i));
  for (Pin* p = Arena::current().first_pin(); p; p = p->next())
    if (U* u = **p ? map.find(**p) : nullptr) *p = *u;
}

}  // namespace

U buffer_on(const BufferRef& memory, DType dtype, std::span<const i64> shape, int number) {
  static std::atomic<i64> serial{0};
  i64 bytes = bytes_of(dtype, shape);
  if (bytes > memory->bytes)
    throw Error("shape ", shape, " of ", dtype, " needs ", bytes, " bytes; the memory has ", memory->bytes);
  std::vector<i64> arg{serial++, number};
  arg.insert(arg.end(), shape.begin(), shape.end());
  Arena& arena = Arena::current();
  arena.on_free = on_free;
  U u = arena.make(Op::BUFFER, dtype, {}, arg);
  std::lock_guard lock(table().mutex);
  table().entries[u->arg(0)] = {memory, u};
  return u;
}

U new_buffer(DType dtype, std::span<const i64> shape, int number) {
  U u = buffer_on(device(number).alloc(bytes_of(dtype, shape)), dtype, shape, number);
  recording::created(u, false);
  return u;
}

U buffer_from_host(const void* data, DType dtype, std::span<const i64> shape, int number) {
  U u = new_buffer(dtype, shape, number);
  recording::created(u, true);
  device(number).copy_in(*buffer_of(u), 0, data, bytes_of(dtype, shape));
  return u;
}

BufferRef buffer_of(U u) {
  check(u->op == Op::BUFFER, u->op, " is not a BUFFER");
  std::lock_guard lock(table().mutex);
  auto it = table().entries.find(u->arg(0));
  check(it != table().entries.end(), "buffer ", u->arg(0), " has no memory: its node was swept, nothing pinned it");
  return it->second.memory;
}

bool is_lost(U u) { return &buffer_of(u)->device != &device(int(u->arg(1))); }

int device_of(U root) {
  UMap<bool> seen;
  std::vector<U> work{root};
  while (!work.empty()) {
    U u = work.back();
    work.pop_back();
    if (seen.contains(u)) continue;
    seen[u] = true;
    if (u->op == Op::BUFFER) return int(u->arg(1));
    if (u->op == Op::COPY) return int(u->arg(0));
    for (size_t i = u->nsrc; i-- > 0;) work.push_back(u->src(int(i)));
  }
  return -1;
}

void read_back(U u, void* to) {
  recording::no_host_read(u);
  BufferRef memory = buffer_of(u);
  memory->device.wait();
  memory->device.copy_out(to, *memory, 0, bytes_of(u->dtype, u->shape()));
}

namespace {
// Where a root is computed: a COPY where its source is. -1: anywhere.
int place_of(U root) { return device_of(root->op == Op::COPY ? root->src(0) : root); }

// Each device computes what is its own: what a COPY takes to another one is realised first, and so are roots of other
// devices than the first's. Returns what is left, and where.
std::vector<U> roots_of_one_device(std::span<const Pin> asked, int& number) {
  for (;;) {
    std::vector<U> roots, before;
    UMap<bool> seen;
    number = -1;
    for (const Pin& p : asked)
      if ((*p)->op != Op::BUFFER && !seen.contains(*p)) seen[*p] = true, roots.push_back(*p);
    for (size_t i = 0; i < roots.size() && number < 0; i++) number = place_of(roots[i]);
    for (U u : toposort(roots))
      if (u->op == Op::COPY && !seen.contains(u) && before.empty()) before = {u};
    if (before.empty())
      for (U u : roots)
        if (int n = place_of(u); n >= 0 && n != number) before.push_back(u);
    if (before.empty()) return roots;
    realize(before);
  }
}
}  // namespace

std::vector<U> realize(std::span<const U> given) {
  std::vector<Pin> asked;
  for (U u : given) asked.emplace_back(u);
  int number = -1;
  std::vector<U> roots, assigns, elsewhere;
  do {
    roots = roots_of_one_device(asked, number);
    if (roots.empty()) return {given.begin(), given.end()};
    size_t own = roots.size();
    assigns = add_hazards(roots);
    elsewhere.clear();  // what another device still needs of an old value
    for (size_t i = own; i < roots.size(); i++)
      if (int n = place_of(roots[i]); n >= 0 && n != number) elsewhere.push_back(roots[i]);
    if (!elsewhere.empty()) realize(elsewhere);
  } while (!elsewhere.empty());
  if (number < 0) number = device_number("");

  recording::executing(roots, assigns);
  std::vector<U> outputs;
  if (is_reference(number)) {
    std::vector<Evaluation> list;
    outputs = realize_by_evaluation(roots, number, list);
    run_evaluations(list, buffer_of);
    recording::add(std::move(list), number);
  } else {
    i64 start = now_ns();
    Schedule s = schedule(
        roots, [&](U u) { return new_buffer(u->dtype, u->shape(), u->op == Op::COPY ? int(u->arg(0)) : number); });
    plan_memory(s);
    i64 time = now_ns() - start;
    counters().schedule_ns += u64(time);
    if (ctx.DEBUG >= 1) report_schedule(s, time);
    outputs = s.outputs;
    std::vector<Call> calls = calls_of(s, number);
    run_calls(calls, number);
    recording::add(std::move(calls), number);
  }

  UMap<U> became, buffers;  // one buffer may hold roots of several shapes
  for (U u : assigns) became[u] = assigned_buffer(u);
  for (size_t i = 0; i < roots.size(); i++) {
    U buffer = buffers[roots[i]] = outputs[i];
    bool same = std::ranges::equal(buffer->shape(), roots[i]->shape());
    became[roots[i]] = same ? buffer : make(Op::RESHAPE, buffer->dtype, std::span(&buffer, 1), roots[i]->shape());
  }
  std::vector<Pin> results;
  for (const Pin& u : asked) results.emplace_back((*u)->op == Op::BUFFER ? *u : *buffers.find(*u));
  substitute_pins(became);

  sweep_if_grown();
  std::vector<U> out;
  for (const Pin& p : results) out.push_back(*p);
  return out;
}

void sweep_if_grown() {
  if (recording::active()) return;  // it compares nodes from before and after by address
  if (Arena::current().size() > 2 * growth.nodes_after_sweep ||
      buffer_bytes() > growth.bytes_after_sweep + std::max(sweep_bytes, growth.bytes_after_sweep / 2))
    sweep_now();
}

void sweep_now() {
  Arena& arena = Arena::current();
  arena.sweep();
  growth = {std::max(arena.size(), fewest_nodes), buffer_bytes()};
}

void run_evaluations(std::span<const Evaluation> list, const std::function<BufferRef(U)>& memory_of) {
  auto memory = [&](U u) {
    BufferRef m = memory_of(u);
    check(m->host || !m->bytes, "a BUFFER on ", m->device.info().name, " is evaluated on the host");
    return Memory{m->host, u->elements()};
  };
  for (const Evaluation& e : list) {
    std::vector<u8> bytes = evaluate(e.value, memory);
    BufferRef to = memory_of(e.to);
    counters().kernels++;
    if (e.region.empty()) {
      check(i64(bytes.size()) == bytes_of(e.to->dtype, e.to->shape()), bytes.size(), " bytes for ", e.to->shape());
      to->device.copy_in(*to, 0, bytes.data(), i64(bytes.size()));
      continue;
    }
    // Rows along the last axis of the region, each contiguous in the target.
    std::span<const i64> shape = e.to->shape();
    size_t n = shape.size();
    i64 item = e.to->dtype.bytes(), row = (e.region[2 * n - 1] - e.region[2 * n - 2]) * item, from = 0;
    std::vector<i64> at(n);
    for (size_t i = 0; i < n; i++) at[i] = e.region[2 * i];
    while (from < i64(bytes.size())) {
      i64 offset = 0;
      for (size_t i = 0; i < n; i++) offset = offset * shape[i] + at[i];
      to->device.copy_in(*to, offset * item, bytes.data() + from, row);
      from += row;
      for (size_t i = n - 1; i-- > 0;) {
        if (++at[i] < e.region[2 * i + 1]) break;
        at[i] = e.region[2 * i];
      }
    }
  }
}

i64 pieces_of(const Program& p) {
  // Handing a piece to another core costs about a microsecond.
  constexpr i64 worth_splitting_ns = 10'000, fine_grain_ns = 400'000;
  i64 threads = thread_count();
  if (threads == 1 || p.extent <= 1 || p.estimate_ns < worth_splitting_ns) return 1;
  return std::min(p.extent, p.estimate_ns >= fine_grain_ns ? threads * 4 : threads);
}

Launch launch_of(const Kernel& k, void* const* params) {
  const Program& p = k.program;
  Launch l{.code = k.code.get(), .params = params, .extent = p.extent, .pieces = pieces_of(p)};
  l.local_bytes = p.local_bytes;
  l.groups[0] = u32(p.extent), l.threads[0] = u32(p.threads);
  check(p.threads == 1 || p.extent == i64(l.groups[0]), p.name, ": ", p.extent, " work-groups");
  return l;
}

void run_calls(std::span<const Call> calls, int number) {
  Device& d = device(number);
  std::vector<void*> params;
  std::vector<Launch> launches;
  size_t total = 0;
  for (const Call& c : calls) total += c.arguments.size();
  params.reserve(total);  // launches point into it
  for (const Call& c : calls) {
    launches.push_back(c.kernel ? launch_of(*c.kernel, params.data() + params.size()) : Launch());
    for (const Argument& a : c.arguments) params.push_back(a.address());
    if (c.kernel) {
      c.kernel->launches++;
      counters().operations += u64(c.kernel->program.operations), counters().bytes += u64(c.kernel->program.bytes);
    }
  }
  counters().kernels += calls.size();
  i64 run_start = now_ns();
  bool one_by_one = ctx.DEBUG >= 2 || !ctx.SAVE_KERNELS.empty();
  for (size_t i = 0, end; i < calls.size(); i = end) {
    end = i + 1;
    const Call& c = calls[i];
    if (!one_by_one && c.kernel) {
      while (end < calls.size() && calls[end].kernel) end++;
      d.run(std::span(launches).subspan(i, end - i));
      continue;
    }
    std::vector<std::string> before;
    if (!ctx.SAVE_KERNELS.empty() && c.kernel) before = arguments_before(c);
    i64 start = now_ns();
    if (c.kernel) {
      d.run(std::span(launches).subspan(i, 1));
      d.wait();
    } else {
      const Argument &to = c.arguments[0], &from = c.arguments[1];
      copy_between(*to.memory, to.offset, *from.memory, from.offset, to.elements * to.dtype.bytes());
    }
    i64 time = now_ns() - start;
    if (ctx.DEBUG >= 2) counters().time_ns += u64(time), report_launch(c, number, time);
    if (!ctx.SAVE_KERNELS.empty() && c.kernel) save_launch(ctx.SAVE_KERNELS, c, number, before);
  }
  counters().run_ns += u64(now_ns() - run_start);
}

}  // namespace ingot
