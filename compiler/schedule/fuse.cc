// SPDX-License-Identifier: MIT
// What becomes one kernel, and in which order kernels run.
//
// The one decision is which tensor nodes live in memory; everything between them is computed where it is used
// (index.cc). Forced: roots, CONTIGUOUS, both sides of a COPY, ASSIGN. Chosen, sources before users: the end of a
// reduction's epilogue, and what would be recomputed at a loss. Each node in memory is one STORE; a kernel is one or
// more STOREs over the same loops.
//
// A Value is one content of a memory: an input, a result, a version of an assigned buffer. Kernels are ordered by two
// kinds of edges: a value is written before it is read, and read before it is overwritten.
#include <algorithm>
#include <queue>
#include "compiler/schedule/schedule.h"

namespace ingot {
namespace {

struct Value {
  U node = nullptr;
  i64 memory = -1;
  int kernel = -1;        // that writes it; -1: an input
  int overwritten = -1;   // the value that follows in the same memory
  int previous = -1;      // the value it overwrites
  bool boundary = false;  // CONTIGUOUS asked for it: readers load it
};
struct Place {         // one memory
  U buffer = nullptr;  // nullptr: internal
  DType dtype;
  i64 elements = 0;
};
struct Kernel {
  std::vector<U> stores;           // STORE nodes; PARAM numbers are values
  std::vector<int> reads, writes;  // values
  U origin = nullptr;              // the tensor node it is named for
  U copy = nullptr;
  // summarize():
  U loops = nullptr;  // SINK of the LOOP ranges
  std::vector<U> reduce_ranges, loads;
  size_t nodes = 0;
};

struct Cost;

class Scheduler {
 public:
  Schedule run(std::span<const U> roots, const std::function<U(U)>& new_buffer);

 private:
  bool in_memory(U u) const { return in_memory_.contains(u); }
  int add_value(U node, i64 memory);
  i64 add_place(U buffer, DType dtype, i64 elements);
  void keep(U u, U buffer = nullptr);  // u lives in memory
  void keep_assign(U u);
  void keep_below(U u);
  void choose();
  void choose_shared();
  void split_reductions(std::vector<U>& roots);
  Cost cost(U u, int limit);
  void lower(U u);
  void lower_store(U u, int target, U computed_node, bool forced);
  int value_of(U access) const { return int(access->src(0)->src(0)->arg(0)); }  // of a LOAD or STORE
  void summarize(Kernel&);
  template <class F>
  void each_before(const Kernel&, F);
  bool path_between(int from, int to);
  bool order_in_place(std::vector<U>& stores) const;
  bool merge(int j, int k);
  void merge_all();
  std::vector<int> ordered();
  std::string source_near(U root);
  Schedule emit();

  struct Use;
  struct State {
    bool pending = false;  // computing it runs a reduction
    bool plain = false;    // it is a reduction, moved
    i64 reduce = 0;        // whose op this is
    i64 trips = 0;         // how long the reduction is
    int operations = 0, loads = 0;
  };
  std::vector<U> order_;
  UMap<int> users_;
  UMap<State> state_;
  UMap<bool> cost_seen_;
  UMap<U> origin_;  // of nodes that split_reductions() made
  UMap<InMemory> in_memory_;
  std::vector<Value> values_;
  std::vector<Place> places_;
  UMap<i64> place_of_buffer_;
  std::vector<Kernel> kernels_;
  std::vector<std::vector<int>> readers_;  // by value: kernels
  std::vector<U> outputs_;
};

U assigned_buffer(U u) {
  while (u->op == Op::ASSIGN || u->op == Op::AFTER) u = u->src(0);
  if (u->op != Op::BUFFER)
    throw Error("assign: the target is ", u->op, " of shape ", u->shape(), "; only memory can be assigned");
  return u;
}

i64 Scheduler::add_place(U buffer, DType dtype, i64 elements) {
  places_.push_back({buffer, dtype, elements});
  return i64(places_.size()) - 1;
}
int Scheduler::add_value(U node, i64 memory) {
  values_.push_back({node, memory});
  int number = int(values_.size()) - 1;
  if (node) in_memory_[node] = {number, places_[size_t(memory)].elements};
  return number;
}
void Scheduler::keep(U u, U buffer) {
  if (in_memory(u)) return;
  if (buffer) {
    add_value(u, place_of_buffer_[buffer] = add_place(buffer, u->dtype, u->elements()));
  } else if (u->op == Op::BUFFER) {
    add_value(u, place_of_buffer_[u] = add_place(u, u->dtype, u->elements()));
  } else {
    add_value(u, add_place(nullptr, u->dtype, u->elements()));
  }
}
void Scheduler::keep_assign(U u) {
  U buffer = assigned_buffer(u), before = u->src(0);
  while (before->op == Op::AFTER) before = before->src(0);
  keep(buffer);
  if (!u->src(1)->elements()) {  // nothing changes
    in_memory_[u] = InMemory(*in_memory_.find(before));
    return;
  }
  int old = int(in_memory_.find(before)->number), now = add_value(u, *place_of_buffer_.find(buffer));
  if (values_[size_t(old)].overwritten >= 0)
    throw Error("assign: two assignments of buffer ", buffer->arg(0), " of shape ", buffer->shape(),
                " replace the same content; make one the target of the other so that their order is known");
  values_[size_t(old)].overwritten = now, values_[size_t(now)].previous = old;
}

// ---- what lives in memory --------------------------------------------------------------------------------

int op_cost(U u) {
  switch (u->op) {
    case Op::CAST:
      return u->dtype.is_float() && u->src(0)->dtype.is_float() && u->dtype.bits() > u->src(0)->dtype.bits() ? 0 : 1;
    case Op::RECIP:
    case Op::SQRT:
    case Op::RSQRT:
    case Op::FDIV:
    case Op::IDIV:
    case Op::MOD: return 4;
    case Op::EXP2:
    case Op::LOG2:
    case Op::EXP:
    case Op::LOG:
    case Op::SIN:
    case Op::COS:
    case Op::TAN:
    case Op::TANH:
    case Op::ERF:
    case Op::POW: return 10;
    default: return 1;
  }
}

// Operations and loads to compute one element of u from memory; counting stops past the limit, when there is a load.
struct Cost {
  int operations = 0, loads = 0;
};
Cost Scheduler::cost(U root, int limit) {
  Cost total;
  cost_seen_.clear();
  for (std::vector<U> work{root}; !work.empty() && (total.operations <= limit || !total.loads);) {
    U u = work.back();
    work.pop_back();
    if (u->op == Op::CONST || cost_seen_.contains(u)) continue;
    cost_seen_[u] = true;
    if (in_memory(u)) {
      total.loads++;
      continue;
    }
    if (has(u->op, ALU)) total.operations += op_cost(u);
    for (U s : u->src()) work.push_back(s);
  }
  return total;
}

// How often an element is asked for where its users end: at a REDUCE, or in memory. Padding asks for nothing new.
struct Scheduler::Use {
  double growth = 1;
  bool reduced = false;  // the path with that growth ends in a REDUCE
};
double growth_through(U user, U source) {
  switch (user->op) {
    case Op::EXPAND:
    case Op::WINDOW:
    case Op::SHRINK:
    case Op::GATHER: return double(user->elements()) / double(std::max<i64>(1, source->elements()));
    default: return 1;
  }
}

// u is computed once, into memory. Movement ops that make no smaller tensor are left to the readers.
void Scheduler::keep_below(U u) {
  for (;; u = u->src(0)) {
    State& state = *state_.find(u);
    state.pending = state.plain = false;
    bool free = u->op == Op::DETACH || u->op == Op::AFTER || u->op == Op::CONTIGUOUS ||
                (has(u->op, MOVEMENT) && u->src(0)->elements() <= u->elements());
    if (in_memory(u) || u->op == Op::CONST) return;
    if (!free) break;
  }
  keep(u);
}

void Scheduler::choose() {
  constexpr int too_many_operations = 512, too_many_loads = 24;
  UMap<Use> uses;
  for (size_t i = order_.size(); i-- > 0;) {
    U u = order_[i];
    const Use* known = uses.find(u);
    Use use = known && !in_memory(u) ? *known : Use{};
    for (U s : u->src()) {
      Use through{use.growth * growth_through(u, s), use.reduced};
      if (u->op == Op::REDUCE_AXIS) through = {1, true};
      Use& at = uses[s];
      if (through.growth > at.growth || (through.growth == at.growth && through.reduced)) at = through;
    }
  }
  for (U u : order_) {
    State& state = state_[u];
    auto pending = [&](U s) { return state_.find(s)->pending; };
    switch (u->op) {
      case Op::EXPAND: {
        U s = u->src(0);
        if (pending(s)) {
          keep_below(s);
        } else if (u->elements() > s->elements() && s->elements() > 1) {
          Use* use = uses.find(u);
          double growth = (use ? use->growth : 1) * growth_through(u, s);
          int worth = use && use->reduced && growth >= 4 ? 1 : growth >= 2 ? 10 : too_many_operations;
          Cost c = cost(s, worth);
          if (c.operations >= worth && c.loads) keep_below(s);
        }
        break;
      }
      case Op::GATHER:
        for (U s : u->src())
          if (pending(s)) keep_below(s);
        break;
      case Op::REDUCE_AXIS: {
        U s = u->src(0);
        const State& inner = *state_.find(s);
        bool small = s->elements() <= 256 * u->elements();
        if (inner.pending && !(inner.plain && inner.reduce == u->arg(0) && small)) keep_below(s);
        break;
      }
      default:
        if (has(u->op, ALU)) {
          U chosen =
              nullptr;  // one reduction a kernel: the longest stays, unless it is a scalar that all elements share
          for (U s : u->src()) {
            if (!pending(s)) continue;
            if (s->elements() < u->elements()) {
              keep_below(s);
            } else if (!chosen || chosen == s) {
              chosen = s;
            } else {
              bool longer = state_.find(s)->trips > state_.find(chosen)->trips;
              keep_below(longer ? chosen : s);
              if (longer) chosen = s;
            }
          }
        }
    }
    for (U s : u->src()) {
      const State& from = *state_.find(s);
      state.pending |= from.pending, state.trips = std::max(state.trips, from.trips);
      state.operations = std::min(state.operations + (s->op == Op::CONST ? 0 : from.operations), 1 << 20);
      state.loads = std::min(state.loads + from.loads, 1 << 20);
    }
    if (u->op == Op::REDUCE_AXIS) {
      state.pending = state.plain = true, state.reduce = u->arg(0);
      state.trips = u->src(0)->elements() / std::max<i64>(1, u->elements()) * std::max<i64>(1, state.trips);
    } else if (has(u->op, MOVEMENT) || u->op == Op::DETACH) {
      state.plain = state_.find(u->src(0))->plain, state.reduce = state_.find(u->src(0))->reduce;
    } else if (has(u->op, ALU)) {
      state.operations += op_cost(u);
    }
    if (!in_memory(u)) {
      if (state.pending && users_[u] > 1) keep_below(u);
      if (state.operations > too_many_operations || state.loads > too_many_loads) {  // sums count shared sources twice
        Cost exact = cost(u, too_many_operations);
        if (exact.operations > too_many_operations || exact.loads > too_many_loads)
          keep_below(u);
        else
          state.operations = exact.operations, state.loads = exact.loads;
      }
    }
    if (in_memory(u)) state.pending = state.plain = false, state.operations = 0, state.loads = 1, state.trips = 0;
  }
}

// What several kernels would compute again, if that costs more than to store it once and load it. Only the last node
// that the same kernels share is worth it: `sinks` are the nodes in memory (up to four) that a node ends in.
void Scheduler::choose_shared() {
  constexpr int worth = 12, worth_scalar = 100, worth_loads = 6;
  struct Sinks {
    std::array<U, 4> at{};
    bool last = false;  // some user ends in fewer
    size_t size() const { return size_t(std::ranges::find(at, nullptr) - at.begin()); }
    void add(U u) {
      for (U& s : at)
        if (!s || s == u) return void(s = u);
    }
  };
  UMap<Sinks> sinks;
  for (size_t i = order_.size(); i-- > 0;) {
    U u = order_[i];
    Sinks own = sinks[u];
    if (in_memory(u)) own = {{u}};
    for (U s : u->src()) {
      Sinks& to = sinks[s];
      for (size_t k = 0; k < own.size(); k++) to.add(own.at[k]);
    }
  }
  for (U u : order_)
    for (U s : u->src()) {
      Sinks& below = *sinks.find(s);
      below.last |= in_memory(u) || sinks.find(u)->size() < below.size();
    }
  for (U u : order_) {
    const Sinks& own = *sinks.find(u);
    if (in_memory(u) || !has(u->op, ALU) || own.size() < 2 || !own.last) continue;
    int limit = u->elements() == 1 ? worth_scalar : worth;
    Cost c = cost(u, limit);
    if (c.operations >= limit || c.loads >= worth_loads) keep(u);
  }
}

// A long reduction to few outputs becomes two, so that cores and lanes have work: one over all but an axis (or a part
// of one), then one over that. The order of the sums is fixed by the shapes alone.
U split_reduction(U u, U x) {
  constexpr i64 few_outputs = 64, long_reduction = 1 << 16, parts = 256;
  i64 outputs = u->elements(), trips = outputs ? x->elements() / outputs : 0;
  auto same = [&](U from) { return make(Op::REDUCE_AXIS, u->dtype, std::span<const U>(&from, 1), u->arg()); };
  if (outputs >= few_outputs || trips <= long_reduction) return same(x);
  std::vector<i64> shape(x->shape().begin(), x->shape().end()), axes(u->arg().begin() + 1, u->arg().end());
  std::sort(axes.begin(), axes.end());
  i64 kept = -1;
  for (i64 axis : axes)
    if (kept < 0 && shape[size_t(axis)] >= 16 && shape[size_t(axis)] <= 4096) kept = axis;
  if (kept < 0) {  // no axis fits: the longest is cut
    i64 axis = *std::ranges::max_element(axes, {}, [&](i64 a) { return shape[size_t(a)]; });
    i64 n = shape[size_t(axis)], more = (parts - n % parts) % parts;
    if (more && u->arg(0) != i64(Op::ADD)) return same(x);
    if (more) {
      std::vector<i64> both(shape.size() * 2);
      both[size_t(axis) * 2 + 1] = more;
      x = make(Op::PAD, x->dtype, std::span<const U>(&x, 1), both);
    }
    shape[size_t(axis)] = parts;
    shape.insert(shape.begin() + axis + 1, (n + more) / parts);
    x = make(Op::RESHAPE, x->dtype, std::span<const U>(&x, 1), shape);
    for (i64& a : axes) a += a >= axis;
    axes.push_back(axis);
    kept = axis;
  }
  std::vector<i64> arg{u->arg(0)};
  for (i64 axis : axes)
    if (axis != kept) arg.push_back(axis);
  if (arg.size() == 1) return same(x);
  U part = make(Op::REDUCE_AXIS, u->dtype, std::span<const U>(&x, 1), arg);
  part = make(Op::CONTIGUOUS, u->dtype, {part});
  U whole = make(Op::REDUCE_AXIS, u->dtype, {part}, {u->arg(0), kept});
  return make(Op::RESHAPE, u->dtype, std::span<const U>(&whole, 1), u->shape());
}

// The graph with its long reductions split.
void Scheduler::split_reductions(std::vector<U>& roots) {
  UMap<U> became;
  std::vector<U> src;
  for (U u : order_) {
    src.clear();
    for (U s : u->src()) src.push_back(*became.find(s));
    U v = u->op == Op::REDUCE_AXIS ? split_reduction(u, src[0]) : with_sources(u, src);
    became[u] = v;
    if (v != u) origin_[v] = u;
  }
  for (U& root : roots) root = *became.find(root);
}

// ---- lowering --------------------------------------------------------------------------------------------

// The STORE of `node` (computed even if it is in memory, when forced) into the value `target`, for the tensor node u.
void Scheduler::lower_store(U u, int target, U node, bool forced) {
  const Place& place = places_[size_t(values_[size_t(target)].memory)];
  std::vector<i64> shape(node->shape().begin(), node->shape().end());
  bool slice = u->op == Op::ASSIGN && u->narg;
  if (u->op == Op::ASSIGN && !node->ndim) {
    shape.assign(u->shape().begin(), u->shape().end());
    for (size_t i = 0; slice && i < shape.size(); i++) shape[i] = u->arg(int(2 * i + 1)) - u->arg(int(2 * i));
  }
  std::vector<U> index, ranges;
  for (i64 n : shape) {
    index.push_back(index_constant(0));
    if (n == 1) continue;
    index.back() = make(Op::RANGE, IDX, {index_constant(n)}, {i64(ranges.size()), i64(RangeKind::LOOP)});
    ranges.push_back(index.back());
  }
  Indexer indexer(in_memory_, i64(ranges.size()));
  std::span<const U> at(index.data(), node->ndim);
  U value = forced ? indexer.computed(node, at) : indexer.value(node, at);
  std::vector<U> to = index;
  if (slice)
    for (size_t i = 0; i < to.size(); i++) to[i] = Expr(to[i]) + Expr(u->arg(int(2 * i)));
  U offset = flat_offset(to, slice ? u->shape() : std::span<const i64>(shape));
  U param = make(Op::PARAM, place.dtype, {}, {target, place.elements});
  std::vector<U> src{make(Op::INDEX, place.dtype, {param, offset}), value};
  src.insert(src.end(), ranges.begin(), ranges.end());
  Kernel k;
  k.stores = {make(Op::STORE, VOID, src)};
  for (U read : indexer.reads) k.reads.push_back(int(in_memory_.find(read)->number));
  k.writes = {target};
  k.origin = u;
  values_[size_t(target)].kernel = int(kernels_.size());
  kernels_.push_back(std::move(k));
}

// A value that reads its own buffer elsewhere than where it is stored goes through an internal buffer.
bool reads_elsewhere(U store, int old) {
  for (U u : toposort(store->src(1)))
    if (u->op == Op::INDEX && u->src(0)->arg(0) == old && u->src(1) != store->src(0)->src(1)) return true;
  return false;
}

void Scheduler::lower(U u) {
  int target = int(in_memory_.find(u)->number);
  if (!u->elements() || (u->op == Op::ASSIGN && !u->src(1)->elements())) return;
  if (u->op == Op::COPY) {
    Kernel k;
    k.copy = k.origin = u;
    k.reads = {int(in_memory_.find(u->src(0))->number)};
    k.writes = {target};
    values_[size_t(target)].kernel = int(kernels_.size());
    kernels_.push_back(std::move(k));
    return;
  }
  if (u->op != Op::ASSIGN) return lower_store(u, target, u, true);
  U value = u->src(1), before = u->src(0);
  if (value->dtype != u->dtype) throw Error("assign: a value of ", value->dtype, " to a buffer of ", u->dtype);
  while (before->op == Op::AFTER) before = before->src(0);
  lower_store(u, target, value, false);
  Kernel& k = kernels_.back();
  if (!reads_elsewhere(k.stores[0], int(in_memory_.find(before)->number))) return;
  kernels_.pop_back();
  keep(value);
  lower_store(value, int(in_memory_.find(value)->number), value, true);
  lower_store(u, target, value, false);
}

// ---- several stores in one kernel ------------------------------------------------------------------------

void Scheduler::summarize(Kernel& k) {
  k.reads.clear(), k.writes.clear(), k.loads.clear(), k.reduce_ranges.clear();
  std::vector<U> order = toposort(k.stores);
  k.nodes = order.size();
  for (U u : order)
    if (u->op == Op::LOAD) {
      int v = value_of(u);
      k.loads.push_back(u);
      if (std::ranges::find(k.reads, v) == k.reads.end()) k.reads.push_back(v);
    } else if (u->op == Op::RANGE && u->range_kind() == RangeKind::REDUCE) {
      k.reduce_ranges.push_back(u);
    }
  for (U store : k.stores) k.writes.push_back(value_of(store));
  k.loops = make(Op::SINK, VOID, k.stores[0]->src().subspan(2));
}

// Calls f with every kernel that must run before k.
template <class F>
void Scheduler::each_before(const Kernel& k, F f) {
  for (int v : k.reads)
    if (int p = values_[size_t(v)].kernel; p >= 0) f(p);
  for (int w : k.writes) {
    int old = values_[size_t(w)].previous;
    if (old < 0) continue;
    if (int p = values_[size_t(old)].kernel; p >= 0) f(p);
    for (int reader : readers_[size_t(old)]) f(reader);
  }
}

// Is there a way from kernel `from` to `to` through a third one? A long search answers yes.
bool Scheduler::path_between(int from, int to) {
  std::vector<int> work;
  std::vector<bool> seen(kernels_.size());
  size_t visited = 0;
  bool found = false;
  auto visit = [&](int p, bool direct) {
    if (p == from) found |= !direct;
    if (p == from || p == to || seen[size_t(p)]) return;
    seen[size_t(p)] = true;
    work.push_back(p);
  };
  each_before(kernels_[size_t(to)], [&](int p) { visit(p, true); });
  while (!work.empty() && !found) {
    if (++visited > 1000) return true;
    int k = work.back();
    work.pop_back();
    each_before(kernels_[size_t(k)], [&](int p) { visit(p, false); });
  }
  return found;
}

// Puts the stores in an order in which they may run in one loop or one after the other: what loads a content goes
// before what overwrites it, and loads only the element that is stored. False if there is none.
bool Scheduler::order_in_place(std::vector<U>& stores) const {
  size_t n = stores.size();
  std::vector<u32> first(n);  // bits: stores that go before
  for (size_t i = 0; i < n; i++) {
    int old = values_[size_t(value_of(stores[i]))].previous;
    if (old < 0) continue;
    for (size_t j = 0; j < n; j++) {
      if (value_of(stores[j]) == old) first[i] |= 1u << j;
      for (U u : toposort(stores[j]->src(1))) {
        if (u->op != Op::LOAD || value_of(u) != old) continue;
        if (u->src(0)->src(1) != stores[i]->src(0)->src(1)) return false;
        if (i != j) first[i] |= 1u << j;
      }
    }
  }
  std::vector<U> out;
  for (u32 done = 0; out.size() < n;) {
    size_t i = 0;
    while (i < n && ((done >> i & 1) || (first[i] & ~done))) i++;
    if (i == n) return false;
    done |= 1u << i;
    out.push_back(stores[i]);
  }
  stores = std::move(out);
  return true;
}

// Makes kernel k part of kernel j, if that is legal and no loss: k reads j's results where j stores them, or both read
// the same.
bool Scheduler::merge(int j_number, int k_number) {
  constexpr size_t most_stores = 8, most_nodes = 1500;
  constexpr i64 small = 1 << 14;  // iterations: not worth a kernel of their own
  Kernel &j = kernels_[size_t(j_number)], &k = kernels_[size_t(k_number)];
  if (j.loops != k.loops || j.stores.size() + k.stores.size() > most_stores || j.nodes + k.nodes > most_nodes)
    return false;
  i64 iterations = 1;
  for (U range : j.loops->src()) iterations *= range->src(0)->const_int();
  for (U load : j.loads)  // what k stores is not there yet where j reads it
    for (U store : k.stores)
      if (value_of(store) == value_of(load)) return false;
  UMap<U> forwarded;
  bool shared = false;
  for (U load : k.loads) {
    int v = value_of(load);
    for (U store : j.stores)
      if (value_of(store) == v) {
        if (values_[size_t(v)].boundary || load->src(0)->nsrc == 3 || load->src(0)->src(1) != store->src(0)->src(1))
          return false;
        forwarded[load] = store->src(1);
      }
    bool large = !j.reduce_ranges.empty() || load->src(0)->src(0)->arg(1) >= iterations;
    shared |= large && std::ranges::find(j.loads, load) != j.loads.end();
  }
  if (forwarded.size()) {
    if (!k.reduce_ranges.empty()) return false;
  } else {
    for (U range : j.reduce_ranges) iterations *= range->src(0)->const_int();
    if (j.reduce_ranges != k.reduce_ranges || !(shared || iterations <= small)) return false;
  }
  if (path_between(j_number, k_number) || path_between(k_number, j_number)) return false;
  std::vector<U> stores = j.stores;
  for (U store : k.stores) stores.push_back(forwarded.size() ? substitute(store, forwarded) : store);
  if (!order_in_place(stores)) return false;

  for (int v : j.reads) std::erase(readers_[size_t(v)], j_number);
  for (int v : k.reads) std::erase(readers_[size_t(v)], k_number);
  j.stores = std::move(stores);
  k = Kernel{};
  summarize(j);
  for (int v : j.reads) readers_[size_t(v)].push_back(j_number);
  for (int w : j.writes) values_[size_t(w)].kernel = j_number;
  return true;
}

void Scheduler::merge_all() {
  readers_.assign(values_.size(), {});
  for (size_t k = 0; k < kernels_.size(); k++) {
    if (!kernels_[k].copy) summarize(kernels_[k]);
    for (int v : kernels_[k].reads) readers_[size_t(v)].push_back(int(k));
  }
  UMap<std::vector<int>> alike;  // kernels by loops
  for (int k = 0; k < int(kernels_.size()); k++) {
    if (kernels_[size_t(k)].copy) continue;
    std::vector<int>& others = alike[kernels_[size_t(k)].loops];
    int at = k;
    for (bool again = true; again;) {
      again = false;
      size_t first = others.size() > 16 ? others.size() - 16 : 0;
      for (size_t i = others.size(); i-- > first;) {
        if (others[i] == at || !merge(others[i], at)) continue;
        std::erase(others, at);
        at = others[i];
        again = true;
        break;
      }
    }
    if (at == k) others.push_back(k);
  }
  // What only its own kernel read needs no memory any more.
  for (size_t k = 0; k < kernels_.size(); k++) {
    Kernel& kernel = kernels_[k];
    size_t before = kernel.stores.size();
    std::erase_if(kernel.stores, [&](U store) {
      int v = value_of(store);
      return !places_[size_t(values_[size_t(v)].memory)].buffer && readers_[size_t(v)].empty();
    });
    if (kernel.stores.size() != before && !kernel.stores.empty()) summarize(kernel);
  }
  std::vector<Kernel> left;
  for (Kernel& k : kernels_)
    if (k.copy || !k.stores.empty()) {
      for (int w : k.writes) values_[size_t(w)].kernel = int(left.size());
      left.push_back(std::move(k));
    }
  kernels_ = std::move(left);
}

// ---- order -----------------------------------------------------------------------------------------------

// Kahn's algorithm, the kernel made first goes first. Where reads-before-overwrites close a cycle (a and b swapped),
// one reader gets a copy of the old content made before.
std::vector<int> Scheduler::ordered() {
  for (;;) {
    size_t n = kernels_.size();
    std::vector<std::vector<int>> after(n);
    std::vector<int> waits(n), order;
    auto edge = [&](int a, int b) {
      if (a >= 0 && b >= 0 && a != b) after[size_t(a)].push_back(b), waits[size_t(b)]++;
    };
    for (size_t k = 0; k < n; k++)
      for (int v : kernels_[k].reads) {
        edge(values_[size_t(v)].kernel, int(k));
        if (int next = values_[size_t(v)].overwritten; next >= 0) edge(int(k), values_[size_t(next)].kernel);
      }
    for (const Value& v : values_)
      if (v.overwritten >= 0) edge(v.kernel, values_[size_t(v.overwritten)].kernel);
    std::priority_queue<int, std::vector<int>, std::greater<int>> ready;
    for (size_t k = 0; k < n; k++)
      if (!waits[k]) ready.push(int(k));
    while (!ready.empty()) {
      int k = ready.top();
      ready.pop();
      order.push_back(k);
      for (int b : after[size_t(k)])
        if (!--waits[size_t(b)]) ready.push(b);
    }
    if (order.size() == n) return order;
    bool broken = false;
    for (size_t k = 0; k < n && !broken; k++) {
      if (!waits[k]) continue;
      for (int& v : kernels_[k].reads) {
        int next = values_[size_t(v)].overwritten;
        int writer = next < 0 ? -1 : values_[size_t(next)].kernel;
        if (writer < 0 || writer == int(k) || !waits[size_t(writer)]) continue;
        const Value old = values_[size_t(v)];
        i64 elements = places_[size_t(old.memory)].elements;
        DType dtype = places_[size_t(old.memory)].dtype;
        int snapshot = add_value(nullptr, add_place(nullptr, dtype, elements));
        U from = make(Op::PARAM, dtype, {}, {v, elements}), to = make(Op::PARAM, dtype, {}, {snapshot, elements});
        UMap<U> map;
        map[from] = to;
        for (U& store : kernels_[k].stores) store = substitute(store, map);
        U i = make(Op::RANGE, IDX, {index_constant(elements)}, {0, i64(RangeKind::LOOP)});
        Kernel copy;
        copy.stores = {
            make(Op::STORE, VOID,
                 {make(Op::INDEX, dtype, {to, i}), make(Op::LOAD, dtype, {make(Op::INDEX, dtype, {from, i})}), i})};
        copy.reads = {v};
        copy.writes = {snapshot};
        copy.origin = old.node;
        values_[size_t(snapshot)].kernel = int(n);
        v = snapshot;
        kernels_.push_back(std::move(copy));
        broken = true;
        break;
      }
    }
    check(broken, "kernels depend on each other in a cycle without an assignment");
  }
}

// The line that made a node, or one of the nodes it is computed from: gradients have no line of their own.
std::string Scheduler::source_near(U root) {
  std::vector<U> near{root};
  for (size_t i = 0; root && i < near.size() && i < 32; i++) {
    const U* original = origin_.find(near[i]);
    std::string source = source_of(original ? *original : near[i]);
    if (!source.empty()) return source;
    near.insert(near.end(), near[i]->src().begin(), near[i]->src().end());
  }
  return "";
}

Schedule Scheduler::emit() {
  Schedule out;
  std::vector<int> order = ordered();  // first: it may add values
  std::vector<i64> memory_of, internal(places_.size(), -1), slots;
  for (const Value& v : values_) memory_of.push_back(v.memory);
  for (int number : order) {
    const Kernel& k = kernels_[size_t(number)];
    ScheduledKernel s;
    s.source = source_near(k.origin);
    slots.clear();
    if (k.copy) {
      s.copy = k.copy;
      s.name = "copy";
      slots = {values_[size_t(k.writes[0])].memory, values_[size_t(k.reads[0])].memory};
    } else {
      s.sink = normalize(make(Op::SINK, VOID, k.stores), memory_of, slots);
      s.name = kernel_name(s.sink);
    }
    for (i64 memory : slots) {
      const Place& place = places_[size_t(memory)];
      KernelBuffer b;
      b.buffer = place.buffer, b.dtype = place.dtype, b.elements = place.elements;
      if (!place.buffer) {
        i64& at = internal[size_t(memory)];
        if (at < 0) at = i64(out.internals.size()), out.internals.push_back({place.dtype, place.elements});
        b.internal = at;
      }
      for (int v : k.writes) b.written |= values_[size_t(v)].memory == memory;
      for (int v : k.reads) b.read |= values_[size_t(v)].memory == memory;
      s.buffers.push_back(b);
    }
    out.kernels.push_back(std::move(s));
  }
  out.outputs = std::move(outputs_);
  plan_memory(out);
  return out;
}

// What has the same elements in the same order as u.
U same_memory(U u) {
  while (u->op == Op::DETACH || u->op == Op::AFTER || u->op == Op::CONTIGUOUS || u->op == Op::RESHAPE) u = u->src(0);
  return u;
}

Schedule Scheduler::run(std::span<const U> given, const std::function<U(U)>& new_buffer) {
  std::vector<U> roots(given.begin(), given.end());
  order_ = toposort(roots);
  split_reductions(roots);
  if (origin_.size()) order_ = toposort(roots);
  for (U u : order_)
    for (size_t i = 0; i < u->nsrc; i++)
      if (std::ranges::find(u->src().first(i), u->src(int(i))) == u->src().begin() + i64(i)) users_[u->src(int(i))]++;
  for (U u : order_)
    if (u->op == Op::BUFFER)
      keep(u);
    else if (u->op == Op::ASSIGN)
      keep_assign(u);
  for (size_t i = 0; i < roots.size(); i++) {
    U root = roots[i];
    U base = same_memory(root), plain = root;
    while (plain->op == Op::DETACH || plain->op == Op::AFTER) plain = plain->src(0);
    if (plain->op == Op::BUFFER || plain->op == Op::ASSIGN) {
      outputs_.push_back(assigned_buffer(plain));
    } else if (const InMemory* m = in_memory_.find(root)) {
      outputs_.push_back(places_[size_t(values_[size_t(m->number)].memory)].buffer);
    } else {
      outputs_.push_back(new_buffer(given[i]));
      keep(in_memory(base) ? root : base, outputs_.back());
    }
  }
  for (U u : order_) {
    if (u->op == Op::COPY) keep(u);
    if ((u->op == Op::COPY || u->op == Op::CONTIGUOUS) && !in_memory(same_memory(u->src(0)))) {
      keep(u->src(0));
      values_.back().boundary = u->op == Op::CONTIGUOUS;
    }
    if (u->op == Op::COPY) keep(u->src(0));
  }
  choose();
  choose_shared();
  for (U u : order_)
    if (u->op != Op::BUFFER && in_memory(u)) lower(u);
  merge_all();
  return emit();
}

}  // namespace

Schedule schedule(std::span<const U> roots, const std::function<U(U)>& new_buffer) {
  return Scheduler().run(roots, new_buffer);
}

}  // namespace ingot
