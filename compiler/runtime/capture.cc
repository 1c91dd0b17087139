// SPDX-License-Identifier: MIT
// A step recorded once and replayed as data: launches, one block of argument addresses, and a patch table that says
// which of them are inputs. A replay writes those addresses and hands the list to the device.
//
// What may be recorded is stated in runtime.h. The checks compare the Pins and graphs of before with those of after, so
// no arena is swept while recording.
#include <algorithm>
#include <unordered_map>
#include <unordered_set>
#include "compiler/runtime/runtime.h"

namespace ingot {
namespace {

std::string describe(U u) {
  std::string source = source_of(u);
  return str(u->dtype, " ", u->shape(), source.empty() ? "" : " made at ", source);
}

// Reading it later reads memory as it is then: a BUFFER, or movements of one.
bool is_view(U u) {
  while (has(u->op, MOVEMENT)) u = u->src(0);
  return u->op == Op::BUFFER;
}

}  // namespace

struct Recording::State {
  struct Input {
    DType dtype;
    std::vector<i64> shape;
    i64 id = -1;
    bool written = false;
    Buffer* memory = nullptr;  // at the recording, to compare only
  };
  struct Patch {
    u32 param;  // index of the address
    u32 input;
  };
  struct Segment {  // launches begin … end-1, or one copy
    u32 begin, end;
    bool copy;
    std::unique_ptr<Step> step = nullptr;  // the launches
  };
  int attempts = 0, number = -1;
  bool ready = false;
  std::vector<Input> inputs;
  std::vector<Pin> outputs;
  std::vector<Call> calls;  // an input's memory is left empty between replays
  // DEV=REF: graphs in an arena of their own, where no realize() rewrites them, and the memory of their BUFFERs
  std::vector<Evaluation> evaluations;
  std::unique_ptr<Arena> graphs;
  std::unordered_map<i64, BufferRef> memory;
  // Fast path
  std::vector<void*> params;
  std::vector<Launch> launches;
  std::vector<Segment> segments;
  std::vector<Patch> patches;
  std::vector<std::pair<Kernel*, u64>> used;
  std::unordered_set<const Buffer*> reads, writes;  // memory of anything but the inputs
  u64 operations = 0, bytes = 0;
  int threads = 0;

  // While recording
  std::unordered_map<const Pin*, U> pins_before;
  UMap<bool> known_before;  // every node that a Pin reached
  UMap<bool> executed;      // every node below a realised root
  std::unordered_set<i64> created, assigned;
  std::vector<std::string> problems;

  int input_of(i64 id) const {
    for (size_t k = 0; k < inputs.size(); k++)
      if (id >= 0 && inputs[k].id == id) return int(k);
    return -1;
  }
  void snapshot();
  std::vector<U> left_behind();
  void find_rebound();
  void build();
  void check_inputs(std::span<const U> now, std::span<const BufferRef> memory) const;
};

namespace {
thread_local Recording::State* now_recording = nullptr;
}  // namespace

void Recording::State::snapshot() {
  pins_before.clear(), known_before.clear(), executed.clear(), created.clear(), assigned.clear(), problems.clear();
  calls.clear(), evaluations.clear(), memory.clear(), number = -1;
  graphs = std::make_unique<Arena>();
  std::vector<U> graphs;
  for (Pin* p = Arena::current().first_pin(); p; p = p->next())
    if (**p) pins_before[p] = **p, graphs.push_back(**p);
  for (U u : toposort(graphs)) known_before[u] = true;
}

// Graphs of Pins that are new, or changed, and not in memory yet.
std::vector<U> Recording::State::left_behind() {
  std::vector<U> out;
  for (Pin* p = Arena::current().first_pin(); p; p = p->next()) {
    if (!**p || is_view(**p)) continue;
    auto it = pins_before.find(p);
    if (it == pins_before.end() || it->second != **p) out.push_back(**p);
  }
  return out;
}

// A Pin that held what the step reads and now holds what the step made: the next run would read the new one, a replay
// the old one.
void Recording::State::find_rebound() {
  for (Pin* p = Arena::current().first_pin(); p; p = p->next()) {
    auto it = pins_before.find(p);
    if (it == pins_before.end() || it->second == **p || !**p || !executed.contains(it->second)) continue;
    for (U u : toposort(**p))
      if (u->op == Op::BUFFER && created.contains(u->arg(0))) {
        problems.push_back(str("the tensor ", describe(it->second),
                               " is read by the step and then replaced by a new one; use assign()"));
        break;
      }
  }
  if (attempts > 1) return;
  for (Pin* p = Arena::current().first_pin(); p; p = p->next())
    if (**p && (**p)->op == Op::BUFFER && created.contains((**p)->arg(0)) && assigned.contains((**p)->arg(0)))
      problems.push_back(str("the state ", describe(**p), " is made by the step itself"));
}

void Recording::State::build() {
  params.clear(), launches.clear(), segments.clear(), patches.clear(), used.clear(), reads.clear(), writes.clear();
  operations = bytes = 0;
  threads = thread_count();
  size_t total = 0;
  for (const Call& c : calls) total += c.arguments.size();
  params.reserve(total);
  std::unordered_map<Kernel*, u64> count;
  for (Call& c : calls) {
    Launch l = c.kernel ? launch_of(*c.kernel, params.data() + params.size()) : Launch();
    for (Argument& a : c.arguments) {
      if (int k = input_of(a.id); k >= 0) {
        patches.push_back({u32(params.size()), u32(k)});
        inputs[size_t(k)].written |= a.written;
        params.push_back(nullptr);
        a.memory = {};
      } else {
        (a.written ? writes : reads).insert(a.memory.get());
        if (a.written && a.read) reads.insert(a.memory.get());
        params.push_back(a.address());
      }
    }
    u32 i = u32(launches.size());
    if (c.kernel) {
      const Program& p = c.kernel->program;
      operations += u64(p.operations), bytes += u64(p.bytes);
      count[c.kernel]++;
    }
    launches.push_back(l);
    if (c.kernel && !segments.empty() && !segments.back().copy)
      segments.back().end = i + 1;
    else
      segments.push_back({i, i + 1, !c.kernel});
  }
  std::vector<void* const*> changing;
  for (Patch p : patches) changing.push_back(params.data() + p.param);
  for (Segment& g : segments)
    if (!g.copy) g.step = device(number).prepare(std::span(launches).subspan(g.begin, g.end - g.begin), changing);
  used.assign(count.begin(), count.end());
  for (const Evaluation& e : evaluations) {
    if (int k = input_of(e.to->arg(0)); k >= 0)
      inputs[size_t(k)].written = true;
    else
      writes.insert(memory[e.to->arg(0)].get());
    for (U u : toposort(e.value))
      if (u->op == Op::BUFFER && input_of(u->arg(0)) < 0) reads.insert(memory[u->arg(0)].get());
  }
}

void Recording::State::check_inputs(std::span<const U> now, std::span<const BufferRef> memory) const {
  if (now.size() != inputs.size()) throw Error("the captured step takes ", inputs.size(), " inputs, not ", now.size());
  for (size_t k = 0; k < now.size(); k++) {
    const Input& in = inputs[k];
    if (now[k]->dtype != in.dtype || !std::ranges::equal(now[k]->shape(), in.shape))
      throw Error("input ", k, " of the captured step was ", in.dtype, " ", in.shape,
                  " when it was recorded and is now ", now[k]->dtype, " ", now[k]->shape(),
                  "; capture another step for it");
    const Buffer* m = memory[k].get();
    if (&m->device != &device(number))
      throw Error("input ", k, " is on ", m->device.info().name, "; the step was recorded on ", device_name(number));
    if (writes.contains(m) || (in.written && reads.contains(m)))
      throw Error("input ", k, " of the captured step, ", now[k]->dtype, " ", now[k]->shape(), ", shares memory with ",
                  writes.contains(m) ? "a tensor that the step writes (an output or state)"
                                     : "a tensor that the step reads, and is written",
                  "; pass a clone()");
    for (size_t j = 0; j < k; j++)
      if (memory[j].get() == m && inputs[j].memory != in.memory)
        throw Error("inputs ", j, " and ", k,
                    " of the captured step are the same memory; they were not when it was recorded. Pass a clone()");
  }
}

Recording::Recording() : state_(std::make_unique<State>()) {}
Recording::~Recording() = default;
Recording::Recording(Recording&&) noexcept = default;
bool Recording::ready() const { return state_->ready; }
size_t Recording::kernels() const { return state_->calls.size() + state_->evaluations.size(); }

namespace {
U base_of(U u) {
  while (u && u->op == Op::RESHAPE) u = u->src(0);
  return u;
}
std::vector<BufferRef> memory_of_inputs(std::span<const U> inputs) {
  std::vector<BufferRef> memory;
  for (size_t k = 0; k < inputs.size(); k++) {
    if (!inputs[k] || base_of(inputs[k])->op != Op::BUFFER)
      throw Error("input ", k, " of the captured step is not in memory", inputs[k] ? ": " : "",
                  inputs[k] ? describe(inputs[k]) : std::string(), "; realize() it first");
    memory.push_back(buffer_of(base_of(inputs[k])));
  }
  return memory;
}
struct Active {
  explicit Active(Recording::State* s) { now_recording = s; }
  ~Active() { now_recording = nullptr; }
};
}  // namespace

std::vector<U> Recording::record(std::span<const U> given, const std::function<std::vector<U>()>& step) {
  State& s = *state_;
  if (now_recording)
    throw Error("a captured step is called inside another one; call it outside, or pass the function itself");
  std::vector<BufferRef> memory = memory_of_inputs(given);
  s.ready = false;
  s.attempts++;
  s.inputs.clear(), s.outputs.clear();
  for (size_t k = 0; k < given.size(); k++)
    s.inputs.push_back({given[k]->dtype,
                        {given[k]->shape().begin(), given[k]->shape().end()},
                        given[k]->arg(0),
                        false,
                        memory[k].get()});
  s.snapshot();
  {
    Active active(&s);
    std::vector<U> roots = step();
    for (U u : roots) {
      check(u, "the step returned an undefined tensor");
      s.outputs.emplace_back(u);
    }
    std::vector<U> all = roots;
    std::vector<U> rest = s.left_behind();
    all.insert(all.end(), rest.begin(), rest.end());
    std::vector<U> done = realize(all);
    for (size_t i = 0; i < roots.size(); i++) s.outputs[i] = done[i];
  }
  s.find_rebound();
  std::vector<U> outputs;
  for (const Pin& p : s.outputs) outputs.push_back(*p);
  for (size_t k = 0; k < outputs.size(); k++)
    if (s.input_of(outputs[k]->arg(0)) >= 0)
      s.problems.push_back(str("output ", k, " is an input; return a clone() of it"));
  for (const State::Input& in : s.inputs) s.memory.erase(in.id);
  s.pins_before.clear(), s.known_before.clear(), s.executed.clear();
  if (!s.problems.empty()) {
    s.calls.clear(), s.evaluations.clear(), s.memory.clear();
    if (s.attempts > 1) throw Error("the step cannot be captured: ", s.problems[0]);
    return outputs;
  }
  if (s.number < 0) s.number = given.empty() ? device_number("") : int(base_of(given[0])->arg(1));
  s.build();
  s.check_inputs(given, memory);
  s.ready = true;
  return outputs;
}

void Recording::replay(std::span<const U> given) {
  State& s = *state_;
  check(s.ready, "replay() before record()");
  if (now_recording)
    throw Error("a captured step is called inside another one; call it outside, or pass the function itself");
  std::vector<BufferRef> memory = memory_of_inputs(given);
  s.check_inputs(given, memory);
  if (!s.evaluations.empty()) {
    run_evaluations(s.evaluations, [&](U u) {
      int k = s.input_of(u->arg(0));
      return k >= 0 ? memory[size_t(k)] : s.memory[u->arg(0)];
    });
    return sweep_if_grown();
  }
  if (s.threads != thread_count()) {
    s.threads = thread_count();
    for (size_t i = 0; i < s.calls.size(); i++)
      if (s.calls[i].kernel) s.launches[i].pieces = pieces_of(s.calls[i].kernel->program);
  }
  if (ctx.DEBUG >= 2 || !ctx.SAVE_KERNELS.empty()) {
    auto each_input = [&](auto f) {
      for (Call& c : s.calls)
        for (Argument& a : c.arguments)
          if (int k = s.input_of(a.id); k >= 0) f(a, memory[size_t(k)]);
    };
    each_input([](Argument& a, const BufferRef& m) { a.memory = m; });
    run_calls(s.calls, s.number);
    return each_input([](Argument& a, const BufferRef&) { a.memory = {}; });
  }
  for (State::Patch p : s.patches) s.params[p.param] = reinterpret_cast<void*>(memory[p.input]->address);
  for (const State::Segment& g : s.segments) {
    if (!g.copy) {
      g.step->run();
      continue;
    }
    const Argument &to = s.calls[g.begin].arguments[0], &from = s.calls[g.begin].arguments[1];
    auto memory_of = [&](const Argument& a) -> Buffer& {
      int k = s.input_of(a.id);
      return k >= 0 ? *memory[size_t(k)] : *a.memory;
    };
    copy_between(memory_of(to), to.offset, memory_of(from), from.offset, to.elements * to.dtype.bytes());
  }
  sweep_if_grown();
  counters().kernels += s.calls.size(), counters().operations += s.operations, counters().bytes += s.bytes;
  for (auto [kernel, count] : s.used) kernel->launches += count;
}

namespace recording {

bool active() { return now_recording; }

void created(U u, bool from_host) {
  if (!now_recording) return;
  now_recording->created.insert(u->arg(0));
  if (from_host)
    now_recording->problems.push_back(
        str("the step makes the tensor ", describe(u),
            " from values of the host, which a replay would repeat; make it before the step, or pass it as an input"));
}

void no_host_read(U u) {
  if (now_recording)
    throw Error("the values of ", describe(u),
                " are read inside a captured step; return the tensor and read it outside");
}

void add(std::vector<Call> calls, int number) {
  Recording::State* s = now_recording;
  if (!s) return;
  if (s->number >= 0 && s->number != number) s->problems.push_back("the step runs on two devices");
  s->number = number;
  for (Call& c : calls) s->calls.push_back(std::move(c));
}
void add(std::vector<Evaluation> list, int number) {
  Recording::State* s = now_recording;
  if (!s) return;
  if (s->number >= 0 && s->number != number) s->problems.push_back("the step runs on two devices");
  s->number = number;
  for (Evaluation& e : list) {
    for (U u : toposort(std::vector<U>{e.value, e.to}))
      if (u->op == Op::BUFFER) s->memory[u->arg(0)] = buffer_of(u);
    ArenaScope scope(*s->graphs);
    s->evaluations.push_back({import(e.value), import(e.to), std::move(e.region)});
  }
}

void executing(std::span<const U> roots, std::span<const U> assigns) {
  Recording::State* s = now_recording;
  if (!s) return;
  for (U u : assigns) {
    U base = u;
    while (base->op == Op::ASSIGN) base = base->src(0);
    s->assigned.insert(base->arg(0));
    if (s->known_before.contains(u))
      s->problems.push_back(
          str("an assignment to ", describe(base), " was pending before the step; realize() it first"));
  }
  for (U u : roots)
    if (u->op != Op::ASSIGN && s->known_before.contains(u))
      s->problems.push_back(str("the tensor ", describe(u), " was unrealised before the step; realize() it first"));
  for (U u : toposort(roots)) s->executed[u] = true;
}

}  // namespace recording
}  // namespace ingot
