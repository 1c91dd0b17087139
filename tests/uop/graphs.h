// SPDX-License-Identifier: MIT
// Random graphs for the tests of compiler/uop, and the value of an expression under an assignment of its leaves.
#pragma once
#include <random>

#include "compiler/uop/uop.h"

namespace ingot {

struct Random {
  std::mt19937_64 engine;
  explicit Random(u64 seed) : engine(seed) {}
  i64 below(i64 n) { return i64(engine() % u64(n)); }
  i64 between(i64 low, i64 high) { return low + below(high - low + 1); }
  bool chance(int percent) { return below(100) < percent; }
  template <class T>
  T pick(std::initializer_list<T> list) {
    return list.begin()[below(i64(list.size()))];
  }
};

inline constexpr DType float_dtypes[] = {F64, F32, F16, BF16, E4M3, E5M2, E4M3FNUZ, E5M2FNUZ};
inline constexpr DType int_dtypes[] = {I8, U8, I16, U16, I32, U32, I64, U64};

inline Value random_value(Random& r, DType dtype) {
  if (dtype.is_bool()) return {.i = r.below(2)};
  if (!dtype.is_float()) {
    i64 v =
        r.pick<i64>({r.below(8), -r.below(8), i64(r.engine()), i64(1) << r.below(63), -1 - (i64(1) << r.below(63))});
    return {.i = wrap_to(v, dtype)};
  }
  u64 mask = ~u64(0) >> (64 - dtype.bits());
  if (r.chance(40)) return {.f = round_to(double(r.between(-64, 64)) / 8, dtype)};
  u64 bits = r.engine() & mask;
  if (r.chance(30))
    bits = r.pick<u64>(
        {0, mask ^ mask >> 1, 1, mask >> 1, encode_float(1.0 / 0.0, dtype), encode_float(-1.0 / 0.0, dtype)});
  return {.f = decode_float(encode_float(decode_float(bits, dtype), dtype), dtype)};
}

inline U constant_of(DType dtype, Value v) {
  return dtype.is_float() ? constant_float(dtype, v.f) : constant(dtype, v.i);
}

// An unknown of a kernel: a loop variable, or an element of a parameter; `id` keeps them apart.
inline U leaf(DType dtype, i64 id, i64 bound) {
  if (dtype == IDX) return make(Op::RANGE, IDX, {index_constant(bound)}, {id, i64(RangeKind::LOOP)});
  U param = make(Op::PARAM, dtype, {}, {id, bound});
  return make(Op::LOAD, dtype, {make(Op::INDEX, dtype, {param, index_constant(0)})});
}
inline bool is_leaf(U u) { return u->op == Op::RANGE || u->op == Op::LOAD; }

// The values of an expression of leaves, constants and elementwise ops, for one assignment of its leaves after another.
struct Expression {
  struct Node {
    U u;
    Value value;
    std::array<int, 3> src;
  };
  std::vector<Node> nodes;  // sources first; memory and offsets of leaves are left out
  explicit Expression(U root) {
    UMap<int> number;
    for (U u : toposort(root)) {
      if (!is_leaf(u) && u->op != Op::CONST && !has(u->op, ALU)) continue;
      Node n{u, {.i = 0}, {}};
      if (u->op == Op::CONST) n.value = u->dtype.is_float() ? Value{.f = u->const_float()} : Value{.i = u->const_int()};
      if (has(u->op, ALU))
        for (int i = 0; i < int(u->nsrc); i++) n.src[size_t(i)] = *number.find(u->src(i));
      number[u] = int(nodes.size());
      nodes.push_back(n);
    }
  }
  Value operator()(const UMap<Value>& leaves) {
    for (Node& n : nodes) {
      auto src = [&](size_t i) { return nodes[size_t(n.src[i])].value; };
      if (is_leaf(n.u))
        n.value = *leaves.find(n.u);
      else if (n.u->op != Op::CONST)
        n.value = evaluate_op(n.u->op, n.u->dtype, n.u->src(0)->dtype, src(0), src(1), src(2));
    }
    return nodes.back().value;
  }
};
inline void assign_leaves(Random& r, U root, UMap<Value>& leaves) {
  for (U u : toposort(root))
    if (is_leaf(u) && !leaves.contains(u))
      leaves[u] = u->op == Op::RANGE ? Value{.i = r.below(u->max + 1)} : random_value(r, u->dtype);
}
inline bool same_value(Value a, Value b, DType dtype) {  // any NaN equals any other
  return dtype.is_float() ? (a.f != a.f && b.f != b.f) || __builtin_bit_cast(u64, a.f) == __builtin_bit_cast(u64, b.f)
                          : a.i == b.i;
}

// A tensor graph of movement ops, elementwise ops and reductions over a few buffers; at most a few hundred elements.
U random_tensor(Random& r, int steps);
// A kernel with loops, reductions, guarded loads and vectors. Parameter 0 is written, 1 and 2 are read; all f32, 64
// elements.
U random_kernel(Random& r);

}  // namespace ingot
