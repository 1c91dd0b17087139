// SPDX-License-Identifier: MIT
// Tensor nodes at loop indices: movement ops disappear into index arithmetic.
//
// Indexer::value(node, index) is the kernel-level expression of one element of a tensor node, the element that `index`
// (one IDX expression an axis) names. It walks from the node to what is in memory; a movement op changes the index on
// the way, an elementwise op keeps it, a REDUCE_AXIS adds RANGEs to it. Where a movement op invents zeros (PAD,
// UNWINDOW, GATHER out of range), the condition that there is an element travels down with the index: a LOAD that is
// not proven in bounds from its ranges carries it, so that nothing outside a buffer is ever read, and the value above
// becomes WHERE(condition, value, 0) unless a guarded LOAD says so already. `at` below is the index and that condition
// as one interned node: the memo's key.
//
// normalize() then gives a kernel its final form: adjacent loops that every index expression walks as one become one,
// and slots and ids are numbered in the order of use, so that equal kernels are equal nodes.
#include <algorithm>
#include <limits>
#include "compiler/schedule/schedule.h"

namespace ingot {
namespace {

using Index = std::vector<U>;

U make_at(std::span<const U> index, U guard) {
  Index all(index.begin(), index.end());
  all.push_back(guard ? guard : constant(BOOL, 1));
  return make(Op::SINK, VOID, all);
}
std::span<const U> index_of(U at) { return at->src().first(at->nsrc - 1); }
U guard_of(U at) {
  U guard = at->src(int(at->nsrc) - 1);
  return guard->is_const(1) ? nullptr : guard;
}

void conjuncts(U condition, std::vector<U>& out) {
  for (std::vector<U> work{condition}; !work.empty();) {
    U c = work.back();
    work.pop_back();
    if (c->op == Op::AND) {
      work.push_back(c->src(1)), work.push_back(c->src(0));
    } else if (std::ranges::find(out, c) == out.end()) {
      out.push_back(c);
    }
  }
}
// The conjunction, each part once, without what is proven. nullptr: always true.
U both(U a, U b) {
  std::vector<U> parts;
  if (a) conjuncts(a, parts);
  if (b) conjuncts(b, parts);
  Expr all(static_cast<U>(nullptr));
  for (U part : parts)
    if (!always(part)) all = all && Expr(part);
  return all;
}
bool implies(U strong, U weak) {
  std::vector<U> have, want;
  conjuncts(strong, have), conjuncts(weak, want);
  return std::ranges::all_of(want, [&](U w) { return std::ranges::find(have, w) != have.end(); });
}

// Turns the index of a movement op's element into that of its source's, and adds what must hold for there to be one.
void move_index(U u, std::vector<U>& index, U& condition) {
  std::span<const i64> arg = u->arg(), from = u->src(0)->shape();
  Expr inside(static_cast<U>(nullptr));
  switch (u->op) {
    case Op::RESHAPE: index = reshape_index(index, u->shape(), from); return;
    case Op::EXPAND:
      for (size_t i = 0; i < from.size(); i++)
        if (from[i] == 1) index[i] = index_constant(0);
      return;
    case Op::PERMUTE: {
      Index out(index.size());
      for (size_t i = 0; i < index.size(); i++) out[size_t(arg[i])] = index[i];
      index = std::move(out);
      return;
    }
    case Op::SHRINK:
      for (size_t i = 0; i < from.size(); i++) index[i] = simplify(Expr(index[i]) + arg[2 * i]);
      return;
    case Op::FLIP:
      for (size_t i = 0; i < from.size(); i++)
        if (arg[i]) index[i] = simplify(Expr(from[i] - 1) - index[i]);
      return;
    case Op::PAD:
      for (size_t i = 0; i < from.size(); i++) {
        i64 before = arg[2 * i], after = arg[2 * i + 1];
        if (before > 0) inside = inside && Expr(index[i]) >= before;
        if (after > 0) inside = inside && Expr(index[i]) < before + from[i];
        index[i] = simplify(Expr(index[i]) - before);
      }
      break;
    case Op::WINDOW: {
      U& at = index[size_t(arg[0])];
      at = simplify(Expr(at) * arg[2] + Expr(index[size_t(arg[1])]) * arg[3]);
      return;
    }
    case Op::UNWINDOW: {
      U& at = index[size_t(arg[0])];
      Expr distance = Expr(at) - Expr(index[size_t(arg[1])]) * arg[3], o = distance / arg[2];
      inside = distance >= 0 && Expr(distance < Expr((from[size_t(arg[0])] - 1) * arg[2] + 1));
      if (arg[2] != 1) inside = inside && distance % arg[2] == 0;
      at = simplify(o);
      break;
    }
    default: unreachable();
  }
  if (inside.u) condition = both(simplify(inside), nullptr);
}

U zero(DType dtype) { return constant(dtype, 0); }
bool is_zero(U v) { return v->is_const() && v->narg == 1 && v->arg(0) == 0; }

// v where c holds, else zero.
U masked(U v, U c) {
  if (!c || is_zero(v)) return v;
  if (never(c)) return zero(v->dtype);
  U load = v->op == Op::CAST ? v->src(0) : v;  // zero stays zero through a CAST
  if (load->op == Op::LOAD) {
    U index = load->src(0);
    if (index->nsrc == 3 && implies(index->src(2), c)) return v;
    U guard = both(index->nsrc == 3 ? index->src(2) : nullptr, c);
    load = make(Op::LOAD, load->dtype, {make(Op::INDEX, load->dtype, {index->src(0), index->src(1), guard})});
    return v->op == Op::CAST ? make(Op::CAST, v->dtype, {load}) : load;
  }
  if (v->op == Op::WHERE && is_zero(v->src(2))) c = both(c, v->src(0)), v = v->src(1);
  return make_alu(Op::WHERE, c, v, zero(v->dtype));
}

// The identity of a reduction: what it gives over no elements.
U identity(Op op, DType dtype) {
  i64 lowest = dtype.is_signed() ? -(i64(1) << (dtype.bits() - 1)) : 0;
  i64 highest = dtype.is_bool() ? 1 : dtype.is_signed() ? ~lowest : i64(~u64(0) >> (64 - dtype.bits()));
  double infinity = std::numeric_limits<double>::infinity();
  switch (op) {
    case Op::MUL: return constant(dtype, 1);
    case Op::MAX: return dtype.is_float() ? constant_float(dtype, -infinity) : constant(dtype, lowest);
    case Op::MIN: return dtype.is_float() ? constant_float(dtype, infinity) : constant(dtype, highest);
    default: return zero(dtype);
  }
}

// REDUCE over the ranges. A sum of guarded sums is one guarded sum: convolution's gradient becomes one loop nest.
U reduce(Op op, U v, std::vector<U> ranges) {
  DType dtype = v->dtype;
  for (;;) {
    if (v->op == Op::REDUCE && v->arg(0) == i64(op)) {
      ranges.insert(ranges.end(), v->src().begin() + 1, v->src().end());
      v = v->src(0);
    } else if (op == Op::ADD && v->op == Op::WHERE && is_zero(v->src(2)) && v->src(1)->op == Op::REDUCE &&
               v->src(1)->arg(0) == i64(Op::ADD)) {
      U inner = v->src(1);
      ranges.insert(ranges.end(), inner->src().begin() + 1, inner->src().end());
      v = masked(inner->src(0), v->src(0));
    } else {
      break;
    }
  }
  if (ranges.empty()) return v;
  ranges.insert(ranges.begin(), v);
  return make(Op::REDUCE, dtype, ranges, std::array{i64(op)});
}

}  // namespace

U flat_offset(std::span<const U> index, std::span<const i64> shape) {
  Expr offset = 0;
  i64 stride = 1;
  for (size_t i = shape.size(); i-- > 0; stride *= shape[i]) offset = Expr(index[i]) * stride + offset;
  return simplify(offset);
}

// Runs of axes with equal products are converted each on its own, so that untouched axes stay what they are.
std::vector<U> reshape_index(std::span<const U> index, std::span<const i64> to, std::span<const i64> from) {
  Index out(from.size(), index_constant(0));
  size_t i = 0, j = 0;
  for (;;) {
    while (i < to.size() && to[i] == 1) i++;
    while (j < from.size() && from[j] == 1) j++;
    if (i == to.size() || j == from.size()) return out;
    size_t i_end = i + 1, j_end = j + 1;
    for (i64 a = to[i], b = from[j]; a != b;) {
      if (a < b ? i_end == to.size() : j_end == from.size()) return out;  // only where there are no elements
      if (a < b)
        a *= to[i_end++];
      else
        b *= from[j_end++];
    }
    Expr flat = 0;
    i64 stride = 1;
    for (size_t k = i_end; k-- > i; stride *= to[k]) flat = Expr(index[k]) * stride + flat;
    stride = 1;
    for (size_t k = j_end; k-- > j; stride *= from[k]) {
      Expr axis = flat / stride;
      out[k] = simplify(k == j ? axis : axis % from[k]);
    }
    i = i_end, j = j_end;
  }
}

U Indexer::load(U node, U at) {
  const InMemory& memory = *in_memory_.find(node);
  if (!read_.contains(node)) read_[node] = true, reads.push_back(node);
  U param = make(Op::PARAM, node->dtype, {}, {memory.number, memory.elements});
  U offset = flat_offset(index_of(at), node->shape()), guard = guard_of(at);
  if (offset->min >= 0 && offset->max < memory.elements) guard = nullptr;
  U index =
      guard ? make(Op::INDEX, node->dtype, {param, offset, guard}) : make(Op::INDEX, node->dtype, {param, offset});
  return make(Op::LOAD, node->dtype, {index});
}

// A node being computed. Sources are asked for through `source`, and the node is visited again when they are known;
// what the first visit worked out stays in `at`, `condition` and `ranges`.
struct Indexer::Frame {
  Key key;
  int step = 0;
  U at = nullptr, condition = nullptr;  // where the source is taken; what masks the result
  std::vector<U> ranges = {};
};

U Indexer::run(U root, U root_at, bool force) {
  std::vector<Frame> stack;
  stack.push_back({{root, root_at}});
  while (!stack.empty()) {
    size_t top = stack.size() - 1;
    auto [u, at] = stack[top].key;
    bool forced = force && top == 0;
    if (!forced && memo_.contains({u, at})) {
      stack.pop_back();
      continue;
    }
    bool missing = false;
    auto source = [&](U node, U where) -> U {
      auto it = memo_.find({node, where});
      if (it != memo_.end()) return it->second;
      stack.push_back({{node, where}});
      missing = true;
      return nullptr;
    };
    U result = nullptr;
    if (u->op == Op::CONST) {
      result = u;
    } else if (!forced && in_memory_.contains(u)) {
      result = load(u, at);
    } else if (u->op == Op::IOTA) {
      result = cast(at->src(0), u->dtype);
    } else if (u->op == Op::DETACH || u->op == Op::CONTIGUOUS || u->op == Op::COPY || u->op == Op::AFTER) {
      result = source(u->src(0), at);
    } else if (u->op == Op::ASSIGN) {
      result = source(u->src(1), at);
    } else if (has(u->op, ALU)) {
      U values[3] = {};
      U everywhere = nullptr;  // a source of shape ()
      for (u32 i = 0; i < u->nsrc; i++) {
        U s = u->src(int(i));
        if (!s->ndim && u->ndim && !everywhere) everywhere = make_at({}, guard_of(at));
        values[i] = source(s, s->ndim ? at : u->ndim ? everywhere : at);
      }
      if (!missing) result = make(u->op, u->dtype, std::span<const U>(values, u->nsrc), u->arg());
    } else if (has(u->op, MOVEMENT)) {
      if (!stack[top].at) {
        Index index(index_of(at).begin(), index_of(at).end());
        U condition = nullptr;
        move_index(u, index, condition);
        stack[top].condition = condition;
        stack[top].at = make_at(index, both(guard_of(at), condition));
      }
      if (stack[top].condition && never(stack[top].condition)) {
        result = zero(u->dtype);
      } else if (U v = source(u->src(0), stack[top].at); !missing) {
        result = masked(v, stack[top].condition);
      }
    } else if (u->op == Op::REDUCE_AXIS) {
      Op op = Op(u->arg(0));
      std::span<const i64> shape = u->src(0)->shape();
      bool none = false;
      for (i64 axis : u->arg().subspan(1)) none |= shape[size_t(axis)] == 0;
      if (none) {
        result = identity(op, u->dtype);
      } else {
        if (!stack[top].at) {
          Index index(index_of(at).begin(), index_of(at).end());
          for (i64 axis : u->arg().subspan(1)) {
            i64 n = shape[size_t(axis)];
            if (n == 1) continue;
            index[size_t(axis)] = make(Op::RANGE, IDX, {index_constant(n)}, {next_range_++, i64(RangeKind::REDUCE)});
            stack[top].ranges.push_back(index[size_t(axis)]);
          }
          stack[top].at = make_at(index, guard_of(at));
        }
        if (U v = source(u->src(0), stack[top].at); !missing) result = reduce(op, v, stack[top].ranges);
      }
    } else if (u->op == Op::GATHER) {
      size_t axis = size_t(u->arg(0));
      U picked = source(u->src(1), at);
      if (!missing && !stack[top].at) {
        Index index(index_of(at).begin(), index_of(at).end());
        Expr i = index[axis] = cast(picked, IDX);
        U inside = i >= 0 && i < u->src(0)->shape()[axis];
        stack[top].condition = both(simplify(inside), nullptr);
        stack[top].at = make_at(index, both(guard_of(at), stack[top].condition));
      }
      if (!missing)
        if (U v = source(u->src(0), stack[top].at); !missing) result = masked(v, stack[top].condition);
    } else {
      throw Error("schedule: ", u->op, " of shape ", u->shape(), " is neither computed nor in memory");
    }
    if (!result) continue;
    if (forced) return result;
    memo_[{u, at}] = result;
    stack.pop_back();
  }
  return memo_[{root, root_at}];
}

U Indexer::value(U node, std::span<const U> index) { return run(node, make_at(index, nullptr), false); }
U Indexer::computed(U node, std::span<const U> index) { return run(node, make_at(index, nullptr), true); }

// Merging loops a and b (inside a) is sound where every maximal linear index expression has coefficient(a) ==
// coefficient(b) * bound(b): then a's bound times b's is one loop in b's place. Other IDX nodes (divisions, casts of
// loaded values) are atoms whose own operands obey the same test.
U normalize(U sink, std::span<const i64> memory_of, std::vector<i64>& slots) {
  std::vector<U> order = toposort(sink), ranges;
  UMap<int> number;  // of ranges
  for (RangeKind kind : {RangeKind::LOOP, RangeKind::REDUCE}) {
    size_t first = ranges.size();
    for (U u : order)
      if (u->op == Op::RANGE && u->range_kind() == kind) ranges.push_back(u);
    if (kind == RangeKind::LOOP)
      std::sort(ranges.begin(), ranges.end(), [](U a, U b) { return a->arg(0) < b->arg(0); });
    for (size_t i = first; i < ranges.size(); i++) number[ranges[i]] = int(i);
  }
  size_t n = ranges.size();
  std::vector<i64> bounds(n);
  for (size_t i = 0; i < n; i++) bounds[i] = ranges[i]->src(0)->const_int();

  // Linear forms: coefficients of the ranges in every IDX node, and which nodes are maximal.
  UMap<size_t> row;
  std::vector<i64> coefficients;
  std::vector<size_t> maximal;
  std::vector<std::vector<int>> nests;
  for (U u : order) {
    bool linear = u->dtype == IDX && (u->op == Op::ADD || u->op == Op::SUB || u->op == Op::NEG ||
                                      (u->op == Op::MUL && u->src(1)->is_const()));
    size_t values = u->op == Op::STORE ? 2 : u->op == Op::REDUCE ? 1 : u->op == Op::RANGE ? 0 : u->nsrc;
    if (!linear)
      for (size_t i = 0; i < values; i++)
        if (const size_t* r = row.find(u->src(int(i)))) maximal.push_back(*r);
    if ((u->op == Op::STORE || u->op == Op::REDUCE) && u->nsrc > values) {
      nests.emplace_back();
      for (size_t i = values; i < u->nsrc; i++) nests.back().push_back(*number.find(u->src(int(i))));
    }
    if (u->dtype != IDX) continue;
    size_t at = coefficients.size();
    row[u] = at;
    coefficients.resize(at + n);
    if (u->op == Op::RANGE) coefficients[at + size_t(*number.find(u))] = 1;
    if (!linear) continue;
    size_t a = *row.find(u->src(0)), b = u->nsrc > 1 ? *row.find(u->src(1)) : 0;
    for (size_t i = 0; i < n; i++) {
      i64 x = coefficients[a + i], y = u->nsrc > 1 ? coefficients[b + i] : 0;
      coefficients[at + i] = u->op == Op::ADD   ? x + y
                             : u->op == Op::SUB ? x - y
                             : u->op == Op::NEG ? -x
                                                : x * u->src(1)->const_int();
    }
  }
  std::sort(maximal.begin(), maximal.end());
  maximal.erase(std::unique(maximal.begin(), maximal.end()), maximal.end());

  std::vector<bool> gone(n);
  auto mergeable = [&](int a, int b) {
    for (auto& nest : nests) {
      auto i = std::ranges::find(nest, a), j = std::ranges::find(nest, b);
      if ((i == nest.end()) != (j == nest.end())) return false;
      if (i != nest.end() && i + 1 != j) return false;
    }
    return std::ranges::all_of(maximal, [&](size_t r) {
      return coefficients[r + size_t(a)] == coefficients[r + size_t(b)] * bounds[size_t(b)];
    });
  };
  for (size_t k = 0; k < nests.size(); k++)
    for (size_t i = nests[k].size(); i-- > 1;) {
      int a = nests[k][i - 1], b = nests[k][i];
      if (!mergeable(a, b)) continue;
      bounds[size_t(b)] *= bounds[size_t(a)];
      gone[size_t(a)] = true;
      for (auto& nest : nests) std::erase(nest, a);
    }

  UMap<U> became;
  i64 id = 0;
  for (size_t i = 0; i < n; i++)
    became[ranges[i]] =
        gone[i] ? index_constant(0) : make(Op::RANGE, IDX, {index_constant(bounds[i])}, {id++, ranges[i]->arg(1)});
  slots.clear();
  std::vector<U> src;
  for (U u : order) {
    if (u->op == Op::RANGE) continue;
    U v = u;
    if (u->op == Op::PARAM) {
      i64 memory = memory_of[size_t(u->arg(0))];
      size_t slot = size_t(std::ranges::find(slots, memory) - slots.begin());
      if (slot == slots.size()) slots.push_back(memory);
      v = make(Op::PARAM, u->dtype, {}, {i64(slot), u->arg(1)});
    } else if (u->nsrc) {
      src.clear();
      size_t values = u->op == Op::STORE ? 2 : u->op == Op::REDUCE ? 1 : u->nsrc;
      for (size_t i = 0; i < u->nsrc; i++) {
        U s = *became.find(u->src(int(i)));
        if (i < values || s->op == Op::RANGE) src.push_back(s);
      }
      if (u->dtype == IDX && u->op == Op::ADD)
        v = Expr(src[0]) + src[1];
      else if (u->dtype == IDX && u->op == Op::MUL)
        v = Expr(src[0]) * src[1];
      else
        v = std::ranges::equal(src, u->src()) ? u : make(u->op, u->dtype, src, u->arg());
    }
    became[u] = v;
  }
  return *became.find(sink);
}

}  // namespace ingot
