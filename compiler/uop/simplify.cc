// SPDX-License-Identifier: MIT
// Bounds of every op, and the identities that hold always. A list is named for the arithmetic it holds in and is fuzzed
// in it (tests/uop/rules_test.cc): index_rules and divmod_rules where integers never overflow (divmod.cc has sums,
// division, remainder and comparison), wrapping_rules where they wrap, float_exact_rules bit for bit with NaN,
// infinities and -0 (any NaN equals any other), float_fast_rules where a user allows what real numbers allow,
// logic_rules on bool, structure_rules for what does not depend on arithmetic.
//
// Contract of every list: a rule keeps dtype and shape, gives nothing rather than the same node, never looks at users,
// and makes the graph smaller or moves it toward a normal form: constants second and outermost, casts and NOT inward,
// one movement op where two stood.
#include <algorithm>
#include <limits>

#include "compiler/uop/uop.h"

namespace ingot {
namespace {
using i128 = __int128;
using namespace holes;

// ---- bounds
constexpr i64 least = std::numeric_limits<i64>::min(), most = std::numeric_limits<i64>::max();

Bounds full(DType dtype) {  // u64 and floats: unknown, whatever the value
  if (dtype.is_bool()) return {0, 1};
  int bits = dtype.bits();
  if (!dtype.is_int() || bits == 64) return {least, most};
  return dtype.is_signed() ? Bounds{-(i64(1) << (bits - 1)), (i64(1) << (bits - 1)) - 1}
                           : Bounds{0, (i64(1) << bits) - 1};
}
// Of a result computed exactly: an index saturates (it never overflows), other integers may have wrapped.
Bounds fit(DType dtype, i128 low, i128 high) {
  Bounds all = full(dtype);
  if (dtype.scalar == Scalar::IDX)
    return {i64(std::clamp<i128>(low, least, most)), i64(std::clamp<i128>(high, least, most))};
  return low < all.min || high > all.max || dtype.scalar == Scalar::U64 ? all : Bounds{i64(low), i64(high)};
}
Bounds corners(DType dtype, Bounds a, Bounds b, i128 (*f)(i128, i128)) {
  i128 v[] = {f(a.min, b.min), f(a.min, b.max), f(a.max, b.min), f(a.max, b.max)};
  return fit(dtype, *std::min_element(v, v + 4), *std::max_element(v, v + 4));
}
i128 floor_div(i128 a, i128 b) { return a / b - (a % b != 0 && (a < 0) != (b < 0)); }
Bounds hull(Bounds a, Bounds b) { return {std::min(a.min, b.min), std::max(a.max, b.max)}; }
i64 ones_above(i64 v) {  // the smallest 2^n - 1 that is not below v >= 0
  return v ? i64(~u64(0) >> __builtin_clzll(u64(v))) : 0;
}

}  // namespace

Bounds bounds_of(Op op, DType dtype, std::span<const U> src, std::span<const i64> arg) {
  Bounds all = full(dtype);
  if (dtype.is_float() || dtype.scalar == Scalar::VOID || dtype.scalar == Scalar::U64) return all;
  auto s = [&](size_t i) { return Bounds{src[i]->min, src[i]->max}; };
  switch (op) {
    case Op::CONST: {
      if (arg.empty()) return all;
      auto [low, high] = std::minmax_element(arg.begin(), arg.end());
      return {*low, *high};
    }
    case Op::IOTA: return fit(dtype, 0, arg.empty() ? 0 : std::max<i64>(arg[0] - 1, 0));
    case Op::RANGE: return {0, std::max<i64>(s(0).max - (s(0).max != most), 0)};
    case Op::RESHAPE:
    case Op::EXPAND:
    case Op::PERMUTE:
    case Op::SHRINK:
    case Op::FLIP:
    case Op::WINDOW:
    case Op::CONTIGUOUS:
    case Op::DETACH:
    case Op::COPY:
    case Op::AFTER:
    case Op::EXTRACT: return src.empty() ? all : s(0);
    case Op::PAD:
    case Op::UNWINDOW:
    case Op::GATHER: return hull(s(0), {0, 0});
    case Op::VECTORIZE: {
      if (src.empty()) return all;
      Bounds b = s(0);
      for (size_t i = 1; i < src.size(); i++) b = hull(b, s(i));
      return b;
    }
    case Op::CAST: {
      DType from = src[0]->dtype;
      if (from.is_float() || from.scalar == Scalar::U64) return all;
      Bounds b = s(0);
      if (dtype.is_bool()) return {b.min > 0 || b.max < 0, b.min != 0 || b.max != 0};
      return b.min >= all.min && b.max <= all.max ? b : all;
    }
    default:
      if (!has(op, ALU)) return all;
  }
  if (op == Op::WHERE) return s(0).min == 1 ? s(1) : s(0).max == 0 ? s(2) : hull(s(1), s(2));
  DType in = src[0]->dtype;
  if (in.is_float() || in.scalar == Scalar::U64) return all;
  Bounds a = s(0), b = src.size() > 1 ? s(1) : a;
  switch (op) {
    case Op::NEG: return dtype.is_bool() ? all : fit(dtype, -i128(a.max), -i128(a.min));
    case Op::ADD: return dtype.is_bool() ? all : fit(dtype, i128(a.min) + b.min, i128(a.max) + b.max);
    case Op::SUB: return dtype.is_bool() ? all : fit(dtype, i128(a.min) - b.max, i128(a.max) - b.min);
    case Op::MUL: return corners(dtype, a, b, [](i128 p, i128 q) { return p * q; });
    case Op::IDIV: {
      if (b.min > 0 || b.max < 0) return corners(dtype, a, b, floor_div);
      i128 m = std::max(-i128(a.min), std::max(i128(a.max), i128(0)));
      return fit(dtype, -m, m);
    }
    case Op::MOD:
      if (b.min > 0 && b.min == b.max && floor_div(a.min, b.min) == floor_div(a.max, b.min)) {
        i64 base = i64(floor_div(a.min, b.min) * b.min);
        return {a.min - base, a.max - base};
      }
      if (b.min > 0 && a.min >= 0) return {0, std::min(a.max, b.max - 1)};
      return {b.min < 0 ? b.min + 1 : 0, b.max > 0 ? b.max - 1 : 0};
    case Op::MAX: return {std::max(a.min, b.min), std::max(a.max, b.max)};
    case Op::MIN: return {std::min(a.min, b.min), std::min(a.max, b.max)};
    case Op::AND:
      if (dtype.is_bool()) return {a.min & b.min, a.max & b.max};
      if (a.min < 0 && b.min < 0) return all;
      return {0, a.min < 0 ? b.max : b.min < 0 ? a.max : std::min(a.max, b.max)};
    case Op::OR:
      if (dtype.is_bool()) return {a.min | b.min, a.max | b.max};
      return a.min < 0 || b.min < 0 ? all : Bounds{std::max(a.min, b.min), ones_above(a.max | b.max)};
    case Op::XOR:
      if (a.min == a.max && b.min == b.max) return {a.min ^ b.min, a.min ^ b.min};
      return a.min < 0 || b.min < 0 ? all : Bounds{0, ones_above(a.max | b.max)};
    case Op::SHL:
      if (b.min < 0 || b.max > 62) return all;
      return corners(dtype, a, b, [](i128 p, i128 q) { return p * (i128(1) << int(q)); });
    case Op::SHR:
      if (b.min < 0 || b.max > 63) return all;
      return corners(dtype, a, b, [](i128 p, i128 q) { return p >> int(q); });
    case Op::CMPLT: return {a.max < b.min, a.min < b.max};
    case Op::CMPEQ: return {a.min == a.max && b.min == b.max && a.min == b.min, a.min <= b.max && b.min <= a.max};
    case Op::CMPNE: return {a.max < b.min || b.max < a.min, !(a.min == a.max && b.min == b.max && a.min == b.min)};
    default: return all;
  }
}

bool always(U condition) { return simplify(condition)->is_const(1); }
bool never(U condition) { return simplify(condition)->is_const(0); }

namespace {

// ---- helpers of the rules
U fold_constants(const Match& m) {
  U u = m.root;
  Value v[3] = {};
  for (int i = 0; i < int(u->nsrc); i++) {
    U s = u->src(i);
    if (s->dtype.is_float())
      v[i].f = s->const_float();
    else
      v[i].i = s->const_int();
  }
  Value r = evaluate_op(u->op, u->dtype, u->src(0)->dtype, v[0], v[1], v[2]);
  return u->dtype.is_float() ? constant_float(u->dtype, r.f) : constant(u->dtype, r.i);
}
constexpr auto folded = [](const Match& m) { return fold_constants(m); };
constexpr auto decided = [](const Match& m) -> U {  // a comparison that the bounds of its sources decide
  return m.root->min == m.root->max ? constant(m.root->dtype, m.root->min) : nullptr;
};
constexpr auto larger = [](const Match& m) -> U {
  U p = m.root->src(0), q = m.root->src(1);
  if (p->dtype.scalar == Scalar::U64) return nullptr;
  bool largest = m.root->op == Op::MAX;
  return p->min >= q->max ? (largest ? p : q) : q->min >= p->max ? (largest ? q : p) : nullptr;
};
constexpr auto mask_keeps = [](const Match& m) {  // a is 2^n - 1 and x cannot exceed it
  i64 mask = m[a]->const_int();
  return mask > 0 && (u64(mask) & (u64(mask) + 1)) == 0 && m[x]->min >= 0 && m[x]->max <= mask;
};

// ---- integers that never overflow; sums, products, quotients and comparisons are in divmod.cc
// clang-format off
constexpr Rule index_table[] = {
  {any({Op::ADD, Op::SUB, Op::MUL, Op::IDIV, Op::MOD, Op::MAX, Op::MIN, Op::AND}, a, b), folded},
  {any({Op::OR, Op::XOR, Op::SHL, Op::SHR, Op::CMPLT, Op::CMPEQ, Op::CMPNE}, a, b), folded},
  {-a,                  fold(-a)},
  {x + 0,               x},
  {x * 1,               x},
  {x << a,              x * fold(Pat(1) << a),  Pat(-1) < a && a < 62},
  {x >> a,              x / fold(Pat(1) << a),  Pat(-1) < a && a < 62},
  {x & a,               Pat(x),                 mask_keeps},
  {max(x, x),           x},
  {min(x, x),           x},
  {max(max(x, a), b),   max(x, fold(max(a, b)))},
  {min(min(x, a), b),   min(x, fold(min(a, b)))},
};
// clang-format on

// ---- integers of a fixed width
constexpr auto power_of_two = [](const Match& m) {
  return m[a]->const_int() > 0 && (m[a]->const_int() & (m[a]->const_int() - 1)) == 0;
};
// clang-format off
constexpr Rule wrapping_table[] = {
  {any({Op::ADD, Op::SUB, Op::MUL, Op::IDIV, Op::MOD, Op::MAX, Op::MIN, Op::AND}, a, b), folded},
  {any({Op::OR, Op::XOR, Op::SHL, Op::SHR, Op::CMPLT, Op::CMPEQ, Op::CMPNE}, a, b), folded},
  {-a,                  fold(-a)},
  {x + 0,               x},
  {x - 0,               x},
  {x * 1,               x},
  {x * 0,               0},
  {x * -1,              -x},
  {x - x,               0},
  {-(-x),               x},
  {x + -y,              x - y},
  {x - -y,              x + y},
  {x - a,               x + fold(-a)},
  {(x + a) + b,         x + fold(a + b)},
  {(x * a) * b,         x * fold(a * b)},
  {x * a + x * b,       x * fold(a + b)},
  {x * a + x,           x * fold(a + 1)},
  {x + x,               x * 2},
  {x / 1,               x},
  {x % 1,               0},
  {x % a,               Pat(x) & fold(a - 1),  power_of_two},
  {x / a,               [](const Match& m) -> U {
     if (!power_of_two(m)) return nullptr;
     return make(Op::SHR, m.root->dtype, {m[x], constant(m.root->dtype, __builtin_ctzll(u64(m[a]->const_int())))}); }},
  {x & 0,               0},
  {x & -1,              x},
  {x & x,               x},
  {x & a,               Pat(x),                mask_keeps},
  {(x & a) & b,         x & fold(a & b)},
  {x | 0,               x},
  {x | -1,              -1},
  {x | x,               x},
  {(x | a) | b,         x | fold(a | b)},
  {x ^ 0,               x},
  {x ^ x,               0},
  {(x ^ a) ^ b,         x ^ fold(a ^ b)},
  {x << 0,              x},
  {x >> 0,              x},
  {max(x, x),           x},
  {min(x, x),           x},
  {max(max(x, a), b),   max(x, fold(max(a, b)))},
  {min(min(x, a), b),   min(x, fold(min(a, b)))},
  {any({Op::MAX, Op::MIN}, x, y), larger},
  {x < x,               0},
  {x == x,              1},
  {x != x,              0},
  {any({Op::CMPLT, Op::CMPEQ, Op::CMPNE}, x, y), decided},
};
// clang-format on

// ---- floats, bit for bit. Not here, though tempting: x + 0 (-0), x * 0 (NaN, infinity, -0), x - x, x == x, -(x - y).
constexpr auto reciprocal_is_exact = [](const Match& m) {  // a power of two whose reciprocal the dtype has, too
  double v = m[a]->const_float(), r = 1 / v;
  return v != 0 && (__builtin_bit_cast(u64, v) << 12) == 0 && r == r && r - r == 0 && round_to(r, m[a]->dtype) == r;
};
// clang-format off
constexpr Rule float_exact_table[] = {
  {any({Op::ADD, Op::SUB, Op::MUL, Op::FDIV, Op::POW, Op::MAX, Op::MIN}, a, b), folded},
  {any({Op::CMPLT, Op::CMPEQ, Op::CMPNE}, a, b), folded},
  {any({Op::NEG, Op::RECIP, Op::SQRT, Op::RSQRT, Op::EXP2, Op::LOG2, Op::EXP, Op::LOG}, a), folded},
  {any({Op::SIN, Op::COS, Op::TAN, Op::TANH, Op::ERF, Op::TRUNC, Op::FLOOR, Op::ROUND}, a), folded},
  {fma(a, b, c),        folded},
  {x + -0.0,            x},
  {x - 0,               x},
  {x * 1,               x},
  {x * -1,              -x},
  {fdiv(x, 1),          x},
  {fdiv(x, a),          x * fold(fdiv(1, a)),  reciprocal_is_exact},
  {-(-x),               x},
  {-(x * a),            x * fold(-a)},
  {-x * a,              x * fold(-a)},
  {-x * -y,             x * y},
  {x + -y,              x - y},
  {x - -y,              x + y},
  {x + x,               x * 2},
  {fma(x, 1, y),        x + y},
  {fma(x, y, -0.0),     x * y},
  {max(x, x),           x},
  {min(x, x),           x},
  {any({Op::TRUNC, Op::FLOOR, Op::ROUND}, any({Op::TRUNC, Op::FLOOR, Op::ROUND}, x).as(y)), y},
  {x < x,               0},
};
// clang-format on

// ---- floats as if they were real numbers; not part of symbolic()
// clang-format off
constexpr Rule float_fast_table[] = {
  {x + 0,               x},
  {x * 0,               0},
  {x - x,               0},
  {fdiv(x, x),          1},
  {(x + a) + b,         x + fold(a + b)},
  {(x * a) * b,         x * fold(a * b)},
  {x * a + x * b,       x * fold(a + b)},
  {fdiv(x, a),          x * fold(fdiv(1, a))},
  {fdiv(fdiv(x, y), z), fdiv(x, y * z)},
  {fdiv(x, op(Op::SQRT, y)), x * op(Op::RSQRT, y)},
  {op(Op::RECIP, op(Op::SQRT, x)), op(Op::RSQRT, x)},
  {op(Op::SQRT, x) * op(Op::SQRT, x), x},
  {op(Op::EXP2, op(Op::LOG2, x)), x},
  {op(Op::EXP, op(Op::LOG, x)), x},
  {op(Op::EXP2, x) * op(Op::EXP2, y), op(Op::EXP2, x + y)},
  {op(Op::EXP, x) * op(Op::EXP, y), op(Op::EXP, x + y)},
};
// clang-format on

// ---- bool. Two comparisons of one value with constants become one, also across a chain of AND.
constexpr Pat i = x.dtype(IDX);
// clang-format off
constexpr Rule conjunction_table[] = {
  {(i < a) & (x < b),   x < fold(min(a, b))},
  {(a < i) & (b < x),   fold(max(a, b)) < x},
  {(i < a) & (b < x),   0,                     a < b + 2},
  {(i < a) & (b < x),   x == fold(a - 1),      a == b + 2},
  {x & x,               x},
  {x & (x ^ 1),         0},
};
constexpr Rule logic_table[] = {
  {any({Op::AND, Op::OR, Op::XOR, Op::CMPLT, Op::CMPEQ, Op::CMPNE}, a, b), folded},
  {x & 1,               x},
  {x & 0,               0},
  {x | 1,               1},
  {x | 0,               x},
  {x | x,               x},
  {x | (x ^ 1),         1},
  {x | (x & y),         x},
  {x & (x | y),         x},
  {x ^ 0,               x},
  {x ^ x,               0},
  {(x ^ 1) ^ 1,         x},
  {(x ^ 1) ^ y,         (x ^ y) ^ 1,           [](const Match& m) { return !m[y]->is_const(); }},
  {op(Op::CMPEQ, x, y) ^ 1, x != y},
  {op(Op::CMPNE, x, y) ^ 1, x == y},
  {(i < y) ^ 1,         y < x + 1},
  {(x ^ 1) & (y ^ 1),   (x | y) ^ 1},
  {(x ^ 1) | (y ^ 1),   (x & y) ^ 1},
  {x == y,              (x ^ y) ^ 1},
  {x != y,              x ^ y},
  {x < y,               (x ^ 1) & y},
  {where(x, y, 0),      x & y},
  {where(x, 1, y),      x | y},
  {where(x, 0, y),      (x ^ 1) & y},
  {where(x, y, 1),      (x ^ 1) | y},
  {(x & y) & z,         [](const Match& m) -> U {
     static const RuleList pairs{{"conjunction_rules", Arithmetic::LOGICAL, conjunction_table}};
     for (auto [p, rest] : {std::pair{m[x], m[y]}, std::pair{m[y], m[x]}})
       if (U both = pairs.apply(make_alu(Op::AND, p, m[z]), nullptr)) return make_alu(Op::AND, rest, both);
     return nullptr; }},
};
// clang-format on

// ---- structure
// Every value of `from` is a value of `to`.
bool holds_all(DType from, DType to) {
  const DTypeRow &f = from.row(), &t = to.row();
  if (from.is_bool()) return true;
  auto largest = [](const DTypeRow& r) {
    return (1 << r.exponent_bits) - (r.specials == Specials::IEEE ? 2 : 1) - r.bias;
  };
  if (from.is_float())
    return to.is_float() && t.specials == Specials::IEEE && t.mantissa_bits >= f.mantissa_bits &&
           t.bias + t.mantissa_bits >= f.bias + f.mantissa_bits && largest(t) >= largest(f);
  if (to.is_float()) return f.bits - from.is_signed() <= t.mantissa_bits + 1 && f.bits <= t.bias;
  return to.is_int() && (from.is_signed() ? to.is_signed() && t.bits >= f.bits
                                          : t.bits > f.bits || (t.bits == f.bits && to.is_unsigned()));
}
U cast_of_cast(const Match& m) {
  DType from = m[x]->dtype, via = m.root->src(0)->dtype, to = m.root->dtype;
  bool low_bits = from.is_int() && via.is_int() && to.is_int() && to.bits() <= via.bits();
  return holds_all(from, via) || low_bits ? cast(m[x], to) : nullptr;
}
U fold_cast(const Match& m) {
  Value v;
  if (m[a]->dtype.is_float())
    v.f = m[a]->const_float();
  else
    v.i = m[a]->const_int();
  v = convert(v, m[a]->dtype, m.root->dtype);
  return m.root->dtype.is_float() ? constant_float(m.root->dtype, v.f) : constant(m.root->dtype, v.i);
}
U with_arg(U root, U source, std::span<const i64> arg) { return make(root->op, root->dtype, {&source, 1}, arg); }

// One movement op: the source itself where nothing moves.
U idle_movement(const Match& m) {
  U u = m.root, s = u->src(0);
  std::span<const i64> arg = u->arg();
  if (!std::ranges::equal(u->shape(), s->shape())) return nullptr;
  bool idle = false;
  switch (u->op) {
    case Op::RESHAPE:
    case Op::EXPAND:
    case Op::SHRINK: idle = true; break;
    case Op::PERMUTE: idle = std::ranges::is_sorted(arg); break;
    case Op::PAD:
    case Op::FLIP: idle = std::ranges::all_of(arg, [](i64 v) { return v == 0; }); break;
    default: break;
  }
  return idle ? s : nullptr;
}
// Two movement ops of one kind: one.
U joined_movement(const Match& m) {
  U u = m.root, inner = u->src(0);
  if (inner->op != u->op) return nullptr;
  std::span<const i64> p = u->arg(), q = inner->arg();
  std::vector<i64> arg(p.begin(), p.end());
  switch (u->op) {
    case Op::RESHAPE:
    case Op::EXPAND: break;
    case Op::PERMUTE:
      for (i64& axis : arg) axis = q[size_t(axis)];
      break;
    case Op::FLIP:
      for (size_t k = 0; k < arg.size(); k++) arg[k] ^= q[k];
      break;
    case Op::PAD:
      for (size_t k = 0; k < arg.size(); k++) arg[k] += q[k];
      break;
    case Op::SHRINK:
      for (size_t k = 0; k < arg.size(); k++) arg[k] += q[k & ~size_t(1)];
      break;
    default: return nullptr;
  }
  return with_arg(u, inner->src(0), arg);
}
// SHRINK of PAD: whatever both cut and pad cancels, and one of them remains if it can.
U shrink_of_pad(const Match& m) {
  U u = m.root, pad = u->src(0);
  std::vector<i64> cut(u->narg), left(u->narg);
  bool pads = false, cuts = false;
  for (size_t k = 0; k < u->narg; k += 2) {
    i64 begin = u->arg()[k] - pad->arg()[k], end = u->arg()[k + 1] - pad->arg()[k], size = m[x]->shape()[k / 2];
    if (begin >= size || end <= 0 || begin == end) return nullptr;  // nothing but padding is left
    cut[k] = std::max<i64>(begin, 0), cut[k + 1] = std::min(end, size);
    left[k] = std::max<i64>(-begin, 0), left[k + 1] = std::max<i64>(end - size, 0);
    pads |= left[k] || left[k + 1], cuts |= cut[k] != 0 || cut[k + 1] != size;
  }
  if (pads && cuts) return nullptr;
  return pads ? with_arg(pad, m[x], left) : cuts ? with_arg(u, m[x], cut) : m[x];
}
// A loop of one round is its variable at 0, and a list of loops does not name it.
U without_constant_ranges(const Match& m) {
  U u = m.root;
  size_t first = u->op == Op::STORE ? 2 : 1;
  if (u->nsrc < first) return nullptr;
  std::vector<U> src(u->src().begin(), u->src().begin() + i64(first));
  for (U r : u->src().subspan(first))
    if (!r->is_const()) src.push_back(r);
  if (src.size() == u->nsrc) return nullptr;
  if (u->op == Op::REDUCE && src.size() == 1 && src[0]->dtype == u->dtype) return src[0];
  return make(u->op, u->dtype, src, u->arg());
}
U lane_of(const Match& m) {
  U v = m[x];
  DType t = m.root->dtype;
  size_t lane = size_t(m.root->arg(0));
  if (v->op == Op::VECTORIZE && v->nsrc == 1 && v->src(0)->dtype.lanes == 1)
    return t.lanes == 1 ? v->src(0) : make(Op::VECTORIZE, t, {v->src(0)});
  if (v->op == Op::VECTORIZE && v->nsrc == v->dtype.lanes)
    return t.lanes == 1 ? v->src(int(lane)) : make(Op::VECTORIZE, t, v->src().subspan(lane, t.lanes));
  if (v->op == Op::CONST) return make(Op::CONST, t, {}, v->narg == 1 ? v->arg() : v->arg().subspan(lane, t.lanes));
  return nullptr;
}
U join_lanes(const Match& m) {
  U u = m.root;
  if (u->nsrc == 1 && u->src(0)->dtype == u->dtype) return u->src(0);
  bool constants = u->nsrc == u->dtype.lanes, lanes = constants;
  for (int k = 0; k < int(u->nsrc); k++) {
    U s = u->src(k);
    constants = constants && s->is_const() && s->dtype.lanes == 1;
    lanes = lanes && s->op == Op::EXTRACT && s->arg(0) == k && s->src(0) == u->src(0)->src(0);
  }
  if (lanes && u->src(0)->src(0)->dtype == u->dtype) return u->src(0)->src(0);
  if (!constants) return nullptr;
  std::vector<i64> arg;
  for (U s : u->src()) arg.push_back(s->arg(0));
  if (std::ranges::count(arg, arg[0]) == i64(arg.size())) arg.resize(1);
  return make(Op::CONST, u->dtype, {}, arg);
}
// Of a tensor's WHERE, whose sources of shape () stand for every element: no source may be missed for its shape.
constexpr auto keeps_shape = [](const Match& m) {
  for (U u : m.at)
    if (u && u->ndim != m.root->ndim) return false;
  return true;
};

constexpr Pat moved = any({Op::RESHAPE, Op::EXPAND, Op::PERMUTE, Op::PAD, Op::SHRINK, Op::FLIP}, x);
constexpr auto through_integers = [](const Match& m) {  // a float in between may quiet a NaN
  return m.root->src(0)->dtype.is_int();
};

// clang-format off
constexpr Rule structure_table[] = {
  {cast(a),             [](const Match& m) -> U { return fold_cast(m); }},
  {cast(x),             [](const Match& m) -> U { return m[x]->dtype == m.root->dtype ? m[x] : nullptr; }},
  {cast(cast(x)),       [](const Match& m) { return cast_of_cast(m); }},
  {op(Op::BITCAST, x),  [](const Match& m) -> U { return m[x]->dtype == m.root->dtype ? m[x] : nullptr; }},
  {op(Op::BITCAST, op(Op::BITCAST, x)), op(Op::BITCAST, x), through_integers},
  {where(x, y, y),      Pat(y),                keeps_shape},
  {where(1, y, z),      Pat(y),                keeps_shape},
  {where(0, z, y),      Pat(y),                keeps_shape},
  {where(op(Op::XOR, x, 1), y, z), where(x, z, y)},
  {where(x, where(x, y, z), w), where(x, y, w),             keeps_shape},
  {where(x, y, where(x, z, w)), where(x, y, w),             keeps_shape},
  {where(x, where(y, z, w), w), where(op(Op::AND, x, y), z, w), keeps_shape},
  {moved,               [](const Match& m) { return idle_movement(m); }},
  {moved,               [](const Match& m) { return joined_movement(m); }},
  {op(Op::SHRINK, op(Op::PAD, x)), [](const Match& m) { return shrink_of_pad(m); }},
  {op(Op::CONTIGUOUS, op(Op::CONTIGUOUS, x).as(y)), y},
  {op(Op::DETACH, op(Op::DETACH, x).as(y)), y},
  {op(Op::REDUCE_AXIS, x), [](const Match& m) -> U {  // over no axes; but a sum starts at 0 and turns -0 into it
     return m.root->narg == 1 && !(m.root->dtype.is_float() && Op(m.root->arg(0)) == Op::ADD) ? m[x] : nullptr; }},
  {op(Op::RANGE, 1),    0},
  {any({Op::STORE, Op::REDUCE}, x), [](const Match& m) { return without_constant_ranges(m); }},
  {op(Op::AFTER, x),    [](const Match& m) -> U { return m.root->nsrc == 1 ? m[x] : nullptr; }},
  {op(Op::EXTRACT, x),  [](const Match& m) { return lane_of(m); }},
  {op(Op::VECTORIZE, x), [](const Match& m) { return join_lanes(m); }},
  {op(Op::INDEX, x, y, 1), [](const Match& m) -> U { return make(Op::INDEX, m.root->dtype, {m[x], m[y]}); }},
  {op(Op::LOAD, op(Op::INDEX, x, y, 0)), 0},
};
// clang-format on

}  // namespace

const RuleSpan index_rules{"index_rules", Arithmetic::INDEX, index_table};
const RuleSpan wrapping_rules{"wrapping_rules", Arithmetic::WRAPPING, wrapping_table};
const RuleSpan float_exact_rules{"float_exact_rules", Arithmetic::FLOAT_EXACT, float_exact_table};
const RuleSpan float_fast_rules{"float_fast_rules", Arithmetic::FLOAT_FAST, float_fast_table};
const RuleSpan conjunction_rules{"conjunction_rules", Arithmetic::LOGICAL, conjunction_table};
const RuleSpan logic_rules{"logic_rules", Arithmetic::LOGICAL, logic_table};
const RuleSpan structure_rules{"structure_rules", Arithmetic::ANY, structure_table};

const RuleList& symbolic() {
  static const RuleList list{structure_rules,   index_rules,       divmod_rules, wrapping_rules,
                             float_exact_rules, conjunction_rules, logic_rules};
  return list;
}
U simplify(U u) { return rewrite(u, symbolic()); }

}  // namespace ingot
