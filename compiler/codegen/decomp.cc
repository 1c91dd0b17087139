// SPDX-License-Identifier: MIT
// Ops that targets lack, from ops that they have: rows where a pattern says it, functions where something is computed.
//
// One idea: a decomposition is a rewrite rule like any other. A rule takes one op out of the graph and puts in ops that
// are nearer to the machine, which the driver rewrites again until only what NativeOps allows is left. Everything is
// lane-wise and free of branches and tables, so one rule serves a scalar, a vector of 64 and a GPU wave alike.
#include <cmath>
#include <limits>

#include "compiler/codegen/codegen.h"

namespace ingot {
namespace {
using namespace holes;

// ---- what targets have ---------------------------------------------------------------------------------------------
enum Width : u8 { SCALAR = 1, VECTOR = 2, BOTH = 3 };
constexpr u64 ops(std::initializer_list<Op> list) {
  u64 bits = 0;
  for (Op o : list) bits |= u64(1) << int(o);
  return bits;
}
constexpr u32 types(std::initializer_list<DType> list) {
  u32 bits = 0;
  for (DType t : list) bits |= u32(1) << int(t.scalar);
  return bits;
}
static_assert(int(Op::FMA) < 64, "elementwise ops no longer fit the bits of NativeOps");

struct OpsRow {
  const char* isa;
  u64 features;  // that the target must have
  Width width;
  u32 dtypes;
  u64 ops;
};
struct CastRow {
  const char* isa;
  u64 features;
  Width width;
  u32 from, to;
};
using enum Op;
constexpr u64 AVX2 = isa::x86::AVX2, AVX512 = isa::x86::AVX2 | isa::x86::AVX512;
constexpr u32 any_int = types({I8, U8, I16, U16, I32, U32, I64, U64, IDX}), int32s = types({I32, U32}),
              int64s = types({I64, U64, IDX}), floats = types({F32, F64});
constexpr u64 bit_ops = ops({ADD, SUB, NEG, AND, OR, XOR, SHL, CMPEQ, CMPNE, WHERE});
// Facts: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2. What takes a fixed handful of
// instructions without a constant in memory (a vector narrowing, NaN-propagating MIN) counts as native; isel does it.
// clang-format off
constexpr OpsRow native_rows[] = {
    {"x86", AVX2,   BOTH,   floats,               ops({ADD, SUB, MUL, FDIV, SQRT, FMA, NEG, MIN, MAX, ROUND, FLOOR, TRUNC,
                                                       CMPLT, CMPEQ, CMPNE, WHERE})},
    {"x86", AVX2,   BOTH,   any_int & (int32s | int64s), bit_ops},
    {"x86", AVX2,   BOTH,   int32s,               ops({MUL, SHR})},
    {"x86", AVX2,   VECTOR, int32s,               ops({MIN, MAX})},
    {"x86", AVX2,   BOTH,   types({I32, I64, IDX}), ops({CMPLT})},
    {"x86", AVX2,   BOTH,   types({U64}),         ops({SHR})},
    {"x86", AVX2,   SCALAR, int32s | int64s,      ops({IDIV, MOD, CMPLT})},
    {"x86", AVX2,   SCALAR, int64s,               ops({MUL, SHR})},
    {"x86", AVX512, VECTOR, int32s | int64s,      ops({CMPLT, MIN, MAX})},
    {"x86", AVX512, VECTOR, int64s,               ops({MUL, SHR})},
    {"rdna", 0,     SCALAR, floats,               ops({ADD, SUB, MUL, FDIV, SQRT, FMA, NEG, MIN, MAX, ROUND, FLOOR, TRUNC,
                                                       CMPLT, CMPEQ, CMPNE, WHERE})},
    {"rdna", 0,     SCALAR, types({F16}),         ops({ADD, SUB, MUL, FMA, NEG})},
    {"rdna", 0,     SCALAR, int32s,               bit_ops | ops({MUL, SHR, CMPLT, MIN, MAX})},
    {"rdna", 0,     SCALAR, int64s,               bit_ops | ops({SHR, CMPLT})},
    {"rdna", 0,     SCALAR, types({IDX}),         ops({MUL, IDIV, MOD, MIN, MAX})},  // work_item() makes it i32 or i64
};
constexpr CastRow native_casts[] = {
    {"x86", AVX2,   BOTH,   any_int,              any_int},
    {"x86", AVX2,   BOTH,   types({F32, F16}),    types({F32, F16})},
    {"x86", AVX2,   BOTH,   floats,               floats | types({I32})},
    {"x86", AVX2,   BOTH,   types({I32}),         floats},
    {"x86", AVX2,   SCALAR, floats,               types({I64, IDX})},
    {"x86", AVX2,   SCALAR, types({I64, IDX}),    floats},
    {"x86", AVX512, BOTH,   floats,               int32s | int64s},
    {"x86", AVX512, BOTH,   int32s | int64s,      floats},
    {"rdna", 0,     SCALAR, any_int,              any_int},
    {"rdna", 0,     SCALAR, types({F32, F16}),    types({F32, F16})},
    {"rdna", 0,     SCALAR, floats,               floats | int32s},
    {"rdna", 0,     SCALAR, int32s,               floats},
};
// clang-format on

// ---- building ------------------------------------------------------------------------------------------------------
// A value under construction. Numbers in an expression take the dtype of the value beside them.
struct V {
  U u;
  operator U() const { return u; }
  DType dtype() const { return u->dtype; }
};
V lift(V, V v) { return v; }
V lift(V like, double v) { return {constant_float(like.dtype(), v)}; }
V lift(V like, int v) { return {constant(like.dtype(), v)}; }
V lift(V like, i64 v) { return {constant(like.dtype(), v)}; }
// clang-format off
#define BINARY(symbol, name) \
  template <class T>         \
  V operator symbol(V p, T q) { return {make_alu(name, p, lift(p, q))}; }
BINARY(+, ADD) BINARY(-, SUB) BINARY(*, MUL) BINARY(/, FDIV) BINARY(&, AND) BINARY(|, OR) BINARY(^, XOR) BINARY(<<, SHL)
BINARY(>>, SHR) BINARY(<, CMPLT) BINARY(==, CMPEQ)
#undef BINARY
    // clang-format on
    template <class T>
    V fma(V p, T q, V r) {
  return {make_alu(FMA, p, lift(p, q), r)};
}
template <class T>
V where(V condition, V p, T q) {
  return {make_alu(WHERE, condition, p, lift(p, q))};
}
V round(V v) { return {make_alu(ROUND, v)}; }
V to(DType t, V v) { return {cast(v, t.with_lanes(v.dtype().lanes))}; }
V bits_as(DType t, V v) {
  t = t.with_lanes(v.dtype().lanes);
  return v.dtype() == t ? v : V{make(BITCAST, t, {v})};
}
V above(V v, double low) { return where(v < low, lift(v, low), v); }  // the larger, and NaN where v is
V below(V v, double high) { return where(lift(v, high) < v, lift(v, high), v); }

// A float's bits. F64 works on exponents in its upper 32 bits, because few vector units shift 64-bit integers with
// sign.
struct Format {
  DType type, bits;
  int mantissa, bias;
  bool wide() const { return bits == I64; }
};
Format format_of(V v) {
  return v.dtype().scalar == Scalar::F64 ? Format{F64, I64, 52, 1023} : Format{F32, I32, 23, 127};
}
i64 sign_bit(V v) { return i64(u64(1) << (v.dtype().bits() - 1)); }
V integer(V v) { return bits_as(format_of(v).bits, v); }
V absolute(V v) { return bits_as(v.dtype().element(), integer(v) & ~sign_bit(v)); }
V with_sign_of(V magnitude, V v) {
  return bits_as(v.dtype().element(), integer(magnitude) | (integer(v) & sign_bit(v)));
}
V power_of_two(V n, const Format& f) { return bits_as(f.type, to(f.bits, n + f.bias) << f.mantissa); }  // n: I32

using Coefficients = std::initializer_list<double>;  // constant term first
V polynomial(V v, Coefficients c) {
  V sum = lift(v, c.end()[-1]);
  for (size_t i = c.size() - 1; i-- > 0;) sum = fma(sum, v, lift(v, c.begin()[i]));
  return sum;
}

// ---- transcendental functions --------------------------------------------------------------------------------------
// Each reduces its argument to
// a short interval, evaluates a minimax polynomial there and undoes the reduction. The coefficients are rows of
// minimax.def. Splits of constants into a float and the rest: high + low has twice the bits.
constexpr double LOG2_E = 0x1.71547652b82fep0, LOG2_E_LOW64 = 0x1.777d0ffda0d24p-56;
constexpr double LOG2_E32 = 0x1.715476p0, LOG2_E_LOW32 = 0x1.4ae0cp-26;
constexpr double LN2 = 0x1.62e42fefa39efp-1, LN2_LOW64 = 0x1.abc9e3b39803fp-56;
constexpr double LN2_32 = 0x1.62e43p-1, LN2_LOW32 = -0x1.05c61p-29;
constexpr double HALF_PI = 0x1.921fb54442d18p0, HALF_PI_LOW = 0x1.1a62633145c07p-54,
                 HALF_PI_LOWEST = -0x1.f1976b7ed8fbcp-110;

#define POLYNOMIAL(name, ...) constexpr Coefficients name = {__VA_ARGS__};
#include "compiler/codegen/minimax.def"
#undef POLYNOMIAL

V scaled(V v, V n) {  // v * 2^n, rounded once however small it gets; |n| up to twice the largest exponent
  Format f = format_of(v);
  V half = n >> 1;
  return v * power_of_two(half, f) * power_of_two(n - half, f);
}
struct Reduced {
  V tail, n;
};  // 2^x or e^x = 2^n * (1 + tail)
Reduced exp2_reduced(V v) {
  V n = round(v), f = v - n;
  return {f * polynomial(f, format_of(v).wide() ? exp2_f64 : exp2_f32), to(I32, n)};
}
Reduced exp_reduced(V v) {
  bool wide = format_of(v).wide();
  V n = round(v * LOG2_E);
  V r = fma(n, wide ? -LN2_LOW64 : -LN2_LOW32, fma(n, wide ? -LN2 : -LN2_32, v));
  return {fma(r * r, polynomial(r, wide ? exp_f64 : exp_f32), r), to(I32, n)};
}
U exp2_of(const Match& m) {
  V v{m[x]};
  bool wide = format_of(v).wide();
  V n = round(v = below(above(v, wide ? -1080 : -152), wide ? 1030 : 130)), f = v - n;
  return scaled(fma(f, polynomial(f, wide ? exp2_f64 : exp2_f32), lift(v, 1)), to(I32, n));
}
U exp_of(const Match& m) {
  V v{m[x]};
  bool wide = format_of(v).wide();
  Reduced e = exp_reduced(below(above(v, wide ? -750 : -105), wide ? 710 : 90));
  return scaled(e.tail + 1, e.n);
}

// x = 2^e * (1 + f) with f near 0; ln(1 + f) = f + g.
struct Logarithm {
  V e, f, g;
};
Logarithm log_reduced(V v) {
  Format t = format_of(v);
  V tiny = v < lift(v, t.wide() ? 0x1p-1022 : 0x1p-126);
  V s = where(tiny, v * (t.wide() ? 0x1p54 : 0x1p24), v), i = integer(s);
  V top = t.wide() ? to(I32, bits_as(U64, s) >> 32) : i;
  V k = (top - (t.wide() ? 0x3fe6a09e : 0x3f3504f3)) >> (t.wide() ? 20 : 23);  // 1 + f starts at the square root of 1/2
  V f = bits_as(t.type, i - (to(t.bits, k) << t.mantissa)) - 1;
  V e = to(t.type, k - where(tiny, lift(k, t.wide() ? 54 : 24), 0));
  if (!t.wide()) return {e, f, f * f * polynomial(f, log_f32)};
  V q = f / (f + 2), q2 = q * q, h = f * f * 0.5;  // ln(1 + f) = 2 atanh(q) = f - q f + q^3 (...), and q f = h - q h
  return {e, f, fma(q, fma(q2, polynomial(q2, log_f64), h), lift(h, 0) - h)};
}
V log_specials(V v, V result) {
  constexpr double infinity = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();
  V not_positive = where(v == 0, lift(v, -infinity), nan);
  return where(lift(v, 0) < v, where(v < infinity, result, v), not_positive);
}
U log_of(const Match& m) {
  V v{m[x]};
  bool wide = format_of(v).wide();
  auto [e, f, g] = log_reduced(v);
  return log_specials(v, fma(e, wide ? LN2 : LN2_32, f + fma(e, wide ? LN2_LOW64 : LN2_LOW32, g)));
}
U log2_of(const Match& m) {
  V v{m[x]};
  bool wide = format_of(v).wide();
  auto [e, f, g] = log_reduced(v);
  double high = wide ? LOG2_E : LOG2_E32;
  V product = f * high;  // f * log2(e) in two parts: alone it would cost an ulp where e is 0
  V rest = fma(f, high, lift(f, 0) - product);
  rest = fma(g, high, fma(f, wide ? LOG2_E_LOW64 : LOG2_E_LOW32, rest));
  return log_specials(v, e + (product + rest));
}

// x = n * pi/2 + r with |r| a little over pi/4 at most, computed in F64. Up to 2^46, x - n * HALF_PI has at most 53
// bits, so both FMAs are exact enough. Above, 4x / 2pi is taken modulo 4: 1/2pi is cut in pieces of 28 bits, so that
// the product with the 24 bits of x is exact, and whole quarters are dropped from every piece before it is added, and
// from the sum: what is left of an x next to a multiple of pi/2 is as small as r, and keeps its precision. The first 22
// bits of 1/2pi make whole turns only.
struct Angle {
  V r, n;
};  // n: F64, exact modulo 4
Angle reduce_angle_f32(V v) {
  // The bits of 1/2pi from 2^-23 on, floor((1/2pi mod 2^-22) * 2^(22 + 28 k)) by pieces; tests/codegen/minimax.py
  // prints them.
  constexpr double inverse_2pi[] = {0x36e4e44p-50,  0x1529fc2p-78,  0x757d1f5p-106,
                                    0x34ddc0dp-134, 0xb629599p-162, 0x3c43904p-190};
  V wide = to(F64, v);
  V n = round(wide * (1 / HALF_PI));
  V r = fma(n, -HALF_PI_LOW, fma(n, -HALF_PI, wide));
  V part = lift(wide, 0), dropped = part;
  for (int i = 0; i < 6; i++) {
    V quarters = wide * (4 * inverse_2pi[i]);
    if (i > 3) {  // less than a sixteenth, whatever v is
      part = part + quarters;
      continue;
    }
    quarters = fma(round(quarters * 0.25), -4.0, quarters);
    V whole = round(quarters);
    part = i ? part + (quarters - whole) : quarters - whole;
    dropped = i ? dropped + whole : whole;
    if (!i) continue;
    whole = round(part);
    part = part - whole;
    dropped = dropped + whole;
  }
  V huge = lift(v, 0x1p46) < absolute(v);
  n = where(huge, dropped, n);
  return {where(huge, part * HALF_PI, r), fma(round(n * 0.25), -4.0, n)};
}
// F64 arguments: three parts of pi/2 serve up to 2^45 (x - n * HALF_PI is exact, and the parts hold 159 bits). Above,
// 1/2pi as words of 32 bits is shifted so that it starts where the product with the 53-bit integer of x turns less than
// whole: a barrel of WHEREs picks 7 words by the exponent, SHL aligns 6 of them, and two rows of 32-bit products add up
// modulo one turn.
Angle reduce_angle_f64(V v) {
  V n = round(v * (1 / HALF_PI));
  V r = fma(n, -HALF_PI_LOWEST, fma(n, -HALF_PI_LOW, fma(n, -HALF_PI, v)));
  constexpr u32 words[] = {0,          0x28be60db, 0x9391054a, 0x7f09d5f4, 0x7d4d3770, 0x36d8a566, 0x4f10e410,
                           0x7f9458ea, 0xf7aef158, 0x6dc91b8e, 0x909374b8, 0x1924bba,  0x82746487, 0x3f877ac7,
                           0x2c4a69cf, 0xba208d7d, 0x4baed121, 0x3a671c09, 0xad17df90, 0x4e64758e, 0x60d4ce7d,
                           0x272117e2, 0xef7e4a0e, 0xc7fe25ff, 0xf7816603, 0xfbcbc462, 0xd6829b47, 0xdb4d9fb3,
                           0xc9f2c26d, 0xd3d18fd9, 0xa797fa8b, 0x5d49eeb1, 0xfaf97c5e, 0xcf41ce7d, 0xe294a4ba,
                           0x9afed7ec, 0x47e35742, 0x1580cc11};
  V b = integer(absolute(v)),
    exponent = to(I32, bits_as(U64, b) >> 52) - (1023 + 52 - 32);  // bits to skip; words start 32 early
  V skip = exponent >> 5, shift = to(U64, bits_as(U32, exponent & 31));
  constexpr int needed = 7, levels = 5;
  std::vector<V> picked;
  for (u32 word : words) picked.push_back({constant(U64.with_lanes(v.dtype().lanes), word)});
  for (int level = levels; level-- > 0;) {
    V here = (skip & (1 << level)) == 0;
    size_t keep = size_t(needed) + (size_t(1) << level) - 1;
    std::vector<V> next;
    for (size_t i = 0; i < keep; i++)
      next.push_back(where(here, picked[i], picked[std::min(i + (size_t(1) << level), picked.size() - 1)]));
    picked = next;
  }
  constexpr i64 low = 0xffffffff;
  V mantissa = bits_as(U64, (b & ((i64(1) << 52) - 1)) | (i64(1) << 52)), m0 = mantissa & low, m1 = mantissa >> 32;
  // Word k of the window has weight 2^-32(k+1) of a turn times the units of the mantissa.
  V limb[needed - 1], carry = lift(mantissa, 0);
  for (int k = 0; k < needed - 1; k++)
    limb[k] = (((picked[size_t(k)] << shift) & low) | ((picked[size_t(k) + 1] << shift) >> 32)) & low;
  V sum[needed - 1];
  for (int k = needed - 2; k >= 0;
       k--) {  // column k: m0 * limb[k] low, m0 * limb[k + 1] … the upper halves go one column up
    V p0 = m0 * limb[k], column = (p0 & low) + carry;
    carry = p0 >> 32;
    if (k + 1 < needed - 1) {
      V p1 = m1 * limb[k + 1];
      column = column + (p1 & low);
      carry = carry + (p1 >> 32);
    }
    sum[k] = column & low;
    carry = carry + (column >> 32);
  }
  // The turn in 1/2^64 and what follows: quarters from the top bits, the rest signed.
  V top = (sum[0] << 32) | sum[1];
  V quarter = (top + (i64(1) << 61)) >> 62;
  V rest = bits_as(I64, top - (quarter << 62));
  auto f64 = [](V word) { return to(F64, word); };
  V upper = f64(bits_as(I32, to(U32, bits_as(U64, rest) >> 32))), middle = f64(to(U32, bits_as(U64, rest) & low));
  V whole = fma(upper, 0x1p32, middle), error = fma(upper, 0x1p32, lift(whole, 0) - whole) + middle;
  V tail =
      fma(f64(to(U32, sum[2])), 0x1p-32, fma(f64(to(U32, sum[3])), 0x1p-64, f64(to(U32, sum[4])) * 0x1p-96)) + error;
  V fraction = whole + tail, lost = tail - (fraction - whole);
  constexpr double scale = 0x1p-62;
  V large = fma(fraction, HALF_PI * scale, fma(fraction, HALF_PI_LOW * scale, lost * (HALF_PI * scale)));
  large = bits_as(F64, integer(large) ^ (integer(v) & sign_bit(v)));
  V quarters = f64(bits_as(I32, to(U32, quarter)));
  quarters = where(v < 0, lift(v, 0) - quarters, quarters);
  V huge = lift(v, 0x1p45) < absolute(v), infinite = (absolute(v) < std::numeric_limits<double>::infinity()) == 0;
  r = where(huge, large, r);
  n = where(huge, quarters, n);
  return {where(infinite, lift(v, std::numeric_limits<double>::quiet_NaN()), r), fma(round(n * 0.25), -4.0, n)};
}
Angle reduce_angle(V v) { return format_of(v).wide() ? reduce_angle_f64(v) : reduce_angle_f32(v); }

V sin_near_zero(V r) {
  V s = r * r;
  return fma(s * r, polynomial(s, format_of(r).wide() ? sin_f64 : sin_f32), r);
}
V cos_near_zero(V r) {
  V s = r * r;
  return fma(s * s, polynomial(s, format_of(r).wide() ? cos_f64 : cos_f32), fma(s, -0.5, lift(s, 1)));
}
V sine(V v, int quarter) {  // sin(v + quarter * pi/2)
  Angle angle = reduce_angle(v);
  V r = to(v.dtype().element(), angle.r), n = to(I32, angle.n) + quarter;
  V result = where((n & 1) == 0, sin_near_zero(r), cos_near_zero(r));
  Format t = format_of(v);
  return bits_as(t.type, integer(result) ^ to(t.bits, n & 2) << (t.wide() ? 62 : 30));
}
U sin_of(const Match& m) {
  V v{m[x]};
  return where(v == 0, v, sine(v, 0));  // the sign of -0
}
U cos_of(const Match& m) { return sine(V{m[x]}, 1); }
U tan_of(const Match& m) {
  V v{m[x]};
  Angle angle = reduce_angle(v);
  V s = sin_near_zero(angle.r), c = cos_near_zero(angle.r), even = (to(I32, angle.n) & 1) == 0;
  V t = where(even, s, c) / where(even, c, lift(s, 0) - s);
  return where(v == 0, v, to(v.dtype().element(), t));
}

// tanh |x| = E / (E + 2) with E = e^2|x| - 1 = 2^n * tail + (2^n - 1). Its roundings add up to 2.5 ulp of an F32 near
// zero.
U tanh_of(const Match& m) {
  V v{m[x]};
  Format t = format_of(v);
  V a = absolute(v);
  auto [tail, n] = exp_reduced(below(a + a, t.wide() ? 44 : 22));
  V p = power_of_two(n, t), e = fma(tail, p, p - 1);
  V far = e / (e + 2);
  if (t.wide()) return with_sign_of(far, v);
  V s = a * a, near = fma(s * a, polynomial(s, tanh_f32), a);
  return with_sign_of(where(a < 0.375, near, far), v);
}

U erf_of(const Match& m) {
  V v{m[x]}, a = absolute(v);
  Format t = format_of(v);
  V near = fma(a, polynomial(a * a, t.wide() ? erf_f64 : erf_f32), a);
  auto [tail, n] = exp2_reduced(polynomial(below(a, t.wide() ? 6 : 4), t.wide() ? log2_erfc_f64 : log2_erfc_f32));
  V p = power_of_two(n, t), far = (lift(p, 1) - p) - tail * p;
  return with_sign_of(where(a < (t.wide() ? 1.0 : 0.9), near, far), v);
}

// The special cases of IEEE 754-2019 pow, around |x|^y = 2^(y log2 |x|).
V pow_specials(V v, V y, V magnitude) {
  constexpr double infinity = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();
  V half = y * 0.5, whole = V{make_alu(FLOOR, y)} == y,
    odd = whole & V{make_alu(CMPNE, V{make_alu(FLOOR, half)}, half)};
  V sign = where(odd, integer(v) & sign_bit(v), 0);
  V signed_result = bits_as(v.dtype().element(), integer(magnitude) | sign);
  V no_result = (v < 0) & (lift(v, -infinity) < v) & (whole ^ 1);
  V result = where(no_result, lift(v, nan), signed_result);
  return where((y == 0) | (v == 1), lift(v, 1), result);
}
U pow_of(const Match& m) {  // F32 through F64
  V v{m[x]}, exponent{m[y]};
  V l{make_alu(LOG2, to(F64, absolute(v)))};
  V product = where(l == 0, l, l * to(F64, exponent));  // 1 to the infinity is 1
  return pow_specials(v, exponent, to(F32, {make_alu(EXP2, product)}));
}

// F64 has no wider type: log2 |x| is carried in two parts, to about 2^-65 of it, because y multiplies its error by up
// to 1075.
struct Pair {
  V high, low;
};
V minus(V v) { return {make_alu(NEG, v)}; }
Pair sum_of(V p, V q) {  // exact where |p| >= |q| or p is 0
  V s = p + q;
  return {s, q - (s - p)};
}
Pair product_of(V p, V q) {
  V s = p * q;
  return {s, fma(p, q, minus(s))};
}
Pair multiply(Pair p, Pair q) {
  auto [high, low] = product_of(p.high, q.high);
  return {high, low + fma(p.high, q.low, p.low * q.high)};
}
U pow_wide_of(const Match& m) {
  V v{m[x]}, exponent{m[y]}, a = absolute(v);
  auto [e, f, unused] = log_reduced(a);
  V t = f + 2, t_low = f - (t - 2), q = f / t;  // ln(1 + f) = 2 q + q s (2/3 + s …) with q = f / (2 + f), s = q q
  Pair quotient = {q, (fma(minus(q), t, f) - q * t_low) / t}, s = multiply(quotient, quotient);
  Pair tail = sum_of(lift(s.high, 2.0 / 3), s.high * polynomial(s.high, log_long_f64));
  tail.low = tail.low + 0x1.5555555555555p-55;  // of 2/3
  tail = multiply(s, tail);
  Pair factor = sum_of(lift(tail.high, 2.0), tail.high);
  factor.low = factor.low + tail.low;
  Pair l = multiply(multiply(quotient, factor), {lift(q, LOG2_E), lift(q, LOG2_E_LOW64)});
  Pair shifted = sum_of(e, l.high), whole = sum_of(shifted.high, shifted.low + l.low);
  V high = log_specials(a, whole.high), product = where(high == 0, high, high * exponent);  // 1 to the infinity is 1
  V rest = fma(exponent, whole.low, fma(high, exponent, minus(product)));
  V in_range = (absolute(product) < 1100.0) & V{make_alu(CMPNE, high, lift(high, 0))};
  product = below(above(product, -1100), 1100);
  V n = round(product), part = (product - n) + where(in_range, rest, 0);
  return pow_specials(v, exponent, scaled(fma(part, polynomial(part, exp2_f64), lift(part, 1)), to(I32, n)));
}

// clang-format off
constexpr Rule function_rules[] = {
    {op(RECIP, x), fdiv(1.0, x)},
    {op(RSQRT, x), fdiv(1.0, op(SQRT, x))},
    {op(EXP2, x), [](const Match& m) { return exp2_of(m); }},
    {op(EXP, x),  [](const Match& m) { return exp_of(m); }},
    {op(LOG2, x), [](const Match& m) { return log2_of(m); }},
    {op(LOG, x),  [](const Match& m) { return log_of(m); }},
    {op(SIN, x),  [](const Match& m) { return sin_of(m); }},
    {op(COS, x),  [](const Match& m) { return cos_of(m); }},
    {op(TAN, x),  [](const Match& m) { return tan_of(m); }},
    {op(TANH, x), [](const Match& m) { return tanh_of(m); }},
    {op(ERF, x),  [](const Match& m) { return erf_of(m); }},
    {op(POW, x.dtype(F32), y), [](const Match& m) { return pow_of(m); }},
    {op(POW, x.dtype(F64), y), [](const Match& m) { return pow_wide_of(m); }},
};
// clang-format on

// ---- rules that ask the target -------------------------------------------------------------------------------------
const NativeOps& native(const Match& m) { return *static_cast<const NativeOps*>(m.context); }
DType dtype_read(U u) { return has(u->op, TO_BOOL) || u->op == CAST ? u->src(0)->dtype : u->dtype; }
bool lacks(const Match& m) { return !native(m).has(m.root->op, dtype_read(m.root)); }
bool lacks_cast(const Match& m) { return !native(m).has_cast(m.root->src(0)->dtype, m.root->dtype); }
bool is_narrow_float(DType t) { return t.is_float() && t.bits() < 32; }
bool is_small_int(DType t) { return t.is_int() && t.bits() < 32; }
V source(const Match& m, int i = 0) { return {m.root->src(i)}; }

// A constant of another dtype, or a cast.
U converted(U u, DType t) {
  t = t.with_lanes(u->dtype.lanes);
  if (!u->is_const() || u->narg != 1) return cast(u, t);
  if (u->dtype.is_float()) return t.is_float() ? constant_float(t, u->const_float()) : cast(u, t);
  return constant(t, u->const_int());
}
// The op on sources of dtype t, and its result in the dtype that the node had.
U compute_in(DType t, U u) {
  U src[3];
  for (u32 k = 0; k < u->nsrc; k++) src[k] = u->op == WHERE && k == 0 ? u->src(0) : converted(u->src(int(k)), t);
  DType result = has(u->op, TO_BOOL) ? u->dtype : t.with_lanes(u->dtype.lanes);
  return cast(make(u->op, result, std::span<const U>(src, u->nsrc), u->arg()), u->dtype);
}

// ---- narrow floats: stored as they are, computed in F32 ------------------------------------------------------------
// F32 holds every product and sum of theirs to more
// than 2p + 2 bits, so rounding it again is the right result; FMA needs F64.
U narrow_op(const Match& m) {
  DType t = dtype_read(m.root);
  if (!is_narrow_float(t) || m.root->op == CAST || !lacks(m)) return nullptr;
  DType same_bits = t.bits() == 8 ? U8 : U16;
  if (m.root->op == WHERE)
    return bits_as(t.element(), {make_alu(WHERE, m.root->src(0), bits_as(same_bits, source(m, 1)),
                                          bits_as(same_bits, source(m, 2)))});
  return compute_in(m.root->op == FMA ? F64 : F32, m.root);
}
U narrow_constant(const Match& m) {
  DType t = m.root->dtype;
  if (!is_narrow_float(t)) return nullptr;
  std::vector<i64> codes;
  for (i64 v : m.root->arg()) codes.push_back(i64(encode_float(std::bit_cast<double>(v), t)));
  return bits_as(t.element(), {make(CONST, (t.bits() == 8 ? U8 : U16).with_lanes(t.lanes), {}, codes)});
}

// The facts of a narrow format that conversions need, as codes of its magnitude.
struct Narrow {
  const DTypeRow& t;
  i64 drop = 23 - t.mantissa_bits, rebias = 127 - t.bias;  // against F32
  i64 top = (i64(1) << (t.bits - 1)) - 1;                  // every bit but the sign
  i64 infinity = ((i64(1) << t.exponent_bits) - 1) << t.mantissa_bits;
  i64 smallest_normal = i64(1) << t.mantissa_bits;
  double quantum = std::ldexp(1.0, 1 - t.bias - t.mantissa_bits);  // of subnormals
};
V encode_narrow(V v, DType type) {  // F32 to the codes, as encode_float()
  Narrow f{type.row()};
  V b = bits_as(U32, v);
  if (f.drop == 16 && !f.rebias)  // bf16, the upper half: carries run into the exponent as they should
    return where(v == v, b + ((b >> 16 & 1) + 0x7fff), b | 1 << 22) >> 16;
  V magnitude = b & 0x7fffffff, sign = (b & i64(0x80000000)) >> (32 - f.t.bits);
  V odd = (magnitude >> f.drop) & 1;
  V code = ((magnitude + (odd + ((i64(1) << (f.drop - 1)) - 1))) >> f.drop) - (f.rebias << f.t.mantissa_bits);
  if (f.rebias) {  // the adder rounds subnormals: beside this number the last place is their quantum
    double anchor = std::ldexp(f.quantum, 23);
    V sum = bits_as(F32, magnitude) + anchor;
    V small = bits_as(U32, sum) - i64(std::bit_cast<u32>(float(anchor)));
    code = where(magnitude < ((f.rebias + 1) << 23), small, code);
  }
  if (f.t.specials == Specials::FNUZ)
    return where(lift(code, f.top) < code, lift(code, f.top + 1), where(code == 0, code, sign | code));
  if (f.t.specials == Specials::FN) return sign | where(lift(code, f.top) < code, lift(code, f.top), code);
  V nan = ((magnitude & 0x7fffff) >> f.drop) | (f.infinity | f.smallest_normal >> 1);
  code = where(lift(code, f.infinity) < code, lift(code, f.infinity), code);
  return sign | where(lift(magnitude, 0x7f800000) < magnitude, nan, code);
}
V decode_narrow(V code, DType type) {  // the codes, in U32, to F32, as decode_float()
  Narrow f{type.row()};
  if (!f.rebias) return bits_as(F32, code << f.drop);
  V magnitude = code & f.top, sign = (code ^ magnitude) << (32 - f.t.bits);
  V normal = (magnitude << f.drop) + (f.rebias << 23);
  V small = bits_as(U32, to(F32, bits_as(I32, magnitude)) * f.quantum);
  V v = where(magnitude < f.smallest_normal, small, normal);
  constexpr i64 quiet_nan = 0x7fc00000;
  if (f.t.specials == Specials::FNUZ) return bits_as(F32, where(code == f.top + 1, lift(v, quiet_nan), v | sign));
  if (f.t.specials == Specials::FN) return bits_as(F32, where(magnitude == f.top, lift(v, quiet_nan), v) | sign);
  V special = (magnitude << f.drop) + ((255 - (f.infinity >> f.t.mantissa_bits)) << 23);
  return bits_as(F32, where(magnitude < f.infinity, v, special) | sign);
}
// F64 to an F32 that rounds to any narrower float as the F64 does: truncated, and odd where bits were lost.
V to_odd_f32(V v) {
  V nearest = to(F32, v), back = to(F64, nearest), b = bits_as(I32, nearest);
  V odd = where(absolute(v) < absolute(back), b - 1, b) | 1;
  return where({make_alu(CMPNE, back, v)}, bits_as(F32, where(v == v, odd, b)), nearest);
}
// A 64-bit integer to one that any float rounds alike and F64 holds: where it has more than 53 bits, the last 11 become
// one.
V sticky_53_bits(V v) {
  bool is_signed = v.dtype().is_signed();
  V sticky = (v & ~i64(2047)) | where((v & 2047) == 0, lift(v, 0), 1 << 11);
  V large = lift(v, i64(1) << 53) < v;
  if (is_signed) large = large | (v < lift(v, -(i64(1) << 53)));
  return where(large, sticky, v);
}
U narrow_cast(const Match& m) {
  V v = source(m);
  DType from = v.dtype(), t = m.root->dtype;
  if ((!is_narrow_float(from) && !is_narrow_float(t)) || from.is_bool() || t.is_bool() || !lacks_cast(m))
    return nullptr;
  DType f32 = F32.with_lanes(t.lanes);
  if (is_narrow_float(from)) {
    if (t != f32) return cast(to(F32, v), t);
    return decode_narrow(to(U32, bits_as(from.bits() == 8 ? U8 : U16, v)), from);
  }
  if (from == f32) return bits_as(t.element(), to(t.bits() == 8 ? U8 : U16, encode_narrow(v, t)));
  if (from.scalar == Scalar::F64) return cast(to_odd_f32(v), t);
  if (from.bits() == 64) v = sticky_53_bits(v);
  return cast(to(from.bits() < 32 ? F32 : F64, v), t);
}

// ---- bool ----------------------------------------------------------------------------------------------------------
U to_bool(const Match& m) {
  if (!m.root->dtype.is_bool() || m.root->src(0)->dtype.is_bool()) return nullptr;
  V v = source(m);
  return make_alu(CMPNE, v, lift(v, 0));
}
U from_bool(const Match& m) {
  if (!m.root->src(0)->dtype.is_bool() || m.root->dtype.is_bool()) return nullptr;
  return make_alu(WHERE, m.root->src(0), constant(m.root->dtype, 1), constant(m.root->dtype, 0));
}

// ---- integers ------------------------------------------------------------------------------------------------------
U small_op(const Match& m) {
  DType t = dtype_read(m.root);
  return is_small_int(t) && m.root->op != CAST && lacks(m) ? compute_in(I32, m.root) : nullptr;
}
// A vector narrowed and widened again only normalises: two shifts or a mask, without packing.
U normalise(const Match& m) {
  DType narrow = m.root->src(0)->dtype;
  V v{m[x]};
  if (!is_small_int(narrow) || m.root->dtype != v.dtype() || v.dtype().lanes == 1) return nullptr;
  if (narrow.is_unsigned()) return v & ((i64(1) << narrow.bits()) - 1);
  return (v << (32 - narrow.bits())) >> (32 - narrow.bits());
}
U unsigned_less(const Match& m) {
  V p{m[x]}, q{m[y]};
  if (!p.dtype().is_unsigned() || p.dtype().bits() < 32 || !lacks(m)) return nullptr;
  DType s = p.dtype().bits() == 32 ? I32 : I64;
  return bits_as(s, p ^ sign_bit(p)) < bits_as(s, q ^ sign_bit(q));
}
U signed_shift(const Match& m) {
  V v{m[x]}, n{m[y]};
  if (!v.dtype().is_signed() || v.dtype().bits() != 64 || !lacks(m)) return nullptr;
  n = V{n.u->is_const() ? converted(n, U64) : bits_as(U64, n).u};
  V bit = lift(n, sign_bit(v)), sign = n.u->is_const() ? lift(n, i64(u64(sign_bit(v)) >> n.u->const_int())) : bit >> n;
  return bits_as(v.dtype().element(), (((bits_as(U64, v) >> n) ^ sign) - sign));
}
U multiply_64(const Match& m) {  // by 32-bit halves
  V p{m[x]}, q{m[y]};
  if (p.dtype().bits() != 64 || !lacks(m) || (p.dtype().scalar == Scalar::U64 && fits_u32(p) && fits_u32(q)))
    return nullptr;
  constexpr i64 low = 0xffffffff;
  auto halves = [](V v) { return std::pair{V{v.u->is_const() ? converted(v, U64) : bits_as(U64, v).u}, fits_u32(v)}; };
  auto [a64, a_fits] = halves(p);
  auto [b64, b_fits] = halves(q);
  auto low_of = [&](V v) { return V{v.u->is_const() ? lift(v, v.u->const_int() & low) : v & low}; };
  auto high_of = [&](V v) { return V{v.u->is_const() ? lift(v, i64(u64(v.u->const_int()) >> 32)) : v >> 32}; };
  V product = low_of(a64) * low_of(b64);
  if (!a_fits) product = product + (high_of(a64) * low_of(b64) << 32);
  if (!b_fits) product = product + (low_of(a64) * high_of(b64) << 32);
  return bits_as(p.dtype().element(), product);
}

// Casts between wide integers and floats, from casts of I32 (and I64 where a scalar unit has them).
U int_to_float(const Match& m) {
  V v = source(m);
  DType from = v.dtype(), t = m.root->dtype, f64 = F64.with_lanes(t.lanes);
  if (!from.is_int() || !t.is_float() || is_narrow_float(t) || !lacks_cast(m)) return nullptr;
  if (from.bits() < 32) return cast(to(I32, v), t);
  if (from.bits() == 32) {  // U32
    if (native(m).has_cast(I64.with_lanes(t.lanes), t)) return cast(to(I64, v), t);
    return cast(to(F64, bits_as(I32, v ^ sign_bit(v))) + 0x1p31, t);
  }
  if (t != f64) return cast(to(F64, sticky_53_bits(v)), t);
  V b = bits_as(U64, v), high = to(U32, b >> 32), low = to(F64, to(U32, b));
  return fma(to(F64, from.is_signed() ? bits_as(I32, high) : high), 0x1p32, low);
}
U float_to_int(const Match& m) {
  V v = source(m);
  DType from = v.dtype(), t = m.root->dtype;
  if (!from.is_float() || !t.is_int() || is_narrow_float(from) || !lacks_cast(m)) return nullptr;
  bool has_i64 = native(m).has_cast(from, I64.with_lanes(t.lanes));
  if (t.bits() < 32) return cast(to(I32, v), t);
  if (t.bits() == 32) {
    if (has_i64) return cast(to(I64, v), t);
    V large = (v < 0x1p31) == 0;
    V n = to(I32, where(large, v - 0x1p31, v));
    return bits_as(U32, where(large, n ^ sign_bit(n), n));
  }
  if (has_i64) {
    V large = (v < 0x1p63) == 0;
    V n = to(I64, where(large, v - 0x1p63, v));
    return bits_as(t.element(), where(large, n ^ sign_bit(n), n));
  }
  V whole{make_alu(TRUNC, to(F64, v))}, high{make_alu(FLOOR, whole * 0x1p-32)};
  V low = fma(high, -0x1p32, whole);
  V upper = t.is_signed() ? bits_as(U32, to(I32, high)) : to(U32, high);
  return bits_as(t.element(), to(U64, upper) << 32 | to(U64, to(U32, low)));
}

// ---- division ------------------------------------------------------------------------------------------------------
// By a
// constant: multiply by its reciprocal in 2^shift-ths, rounded up, and shift. For t <= 2^31 and 2^(l-1) < d <= 2^l, M =
// ceil(2^(31+l) / d) < 2^32 gives (t * M) >> (31 + l) = t / d, because M * d exceeds 2^(31+l) by less than 2^l.
// Negative t: floor(t / d) = ~(~t / d). (Granlund and Montgomery, "Division by invariant integers using
// multiplication", 1994.)
V divide_31_bits(V t, i64 d, bool negative) {  // t of a 64-bit dtype, -2^31 <= t <= 2^31; d > 1
  int l = 64 - __builtin_clzll(u64(d - 1));
  i64 reciprocal = i64(((u64(1) << (31 + l)) + u64(d) - 1) / u64(d));
  if (!negative) return (t * reciprocal) >> (31 + l);
  V sign = t >> 63;
  return (((t ^ sign) * reciprocal) >> (31 + l)) ^ sign;
}
U divide_by_constant(const Match& m) {
  V v{m[x]};
  DType t = v.dtype();
  i64 d = m[a]->const_int();
  if (t.bits() < 32 || (t.scalar == Scalar::IDX && native(m).keep_index)) return nullptr;
  if (d == 0) return constant(t, 0);
  if (d == 1) return v;
  if (d > 0 && (d & (d - 1)) == 0) return v >> __builtin_ctzll(u64(d));
  if (d == -1) return lift(v, 0) - v;
  if (t.scalar == Scalar::I32 && d > 0 && v.u->min >= 0)
    return bits_as(I32, to(U32, divide_31_bits(to(U64, bits_as(U32, v)), d, false)));
  if (t.scalar == Scalar::I32) {  // -v / |d| where d is negative; the magnitude is unsigned, as vector units multiply
    V sign = d < 0 ? where(lift(v, 0) < v, lift(v, -1), 0) : v >> 31, dividend = d < 0 ? lift(v, 0) - v : v;
    V quotient = divide_31_bits(to(U64, bits_as(U32, dividend ^ sign)), std::abs(d), false);
    return bits_as(I32, to(U32, quotient)) ^ sign;
  }
  if (t.scalar == Scalar::U32 && d > 0) {  // M has 33 bits: t * M = t * 2^32 + t * (M - 2^32)
    int l = 64 - __builtin_clzll(u64(d - 1));
    i64 reciprocal = i64(u64((((__int128(1) << (32 + l)) + d - 1) / d) - (__int128(1) << 32)));
    V wide = to(U64, v);
    return to(U32, (wide + (wide * reciprocal >> 32)) >> l);
  }
  if (t.scalar == Scalar::IDX && d > 0 && d < (i64(1) << 31) && v.u->min >= -(i64(1) << 31) &&
      v.u->max < (i64(1) << 31))
    return divide_31_bits(v, d, v.u->min < 0);
  return nullptr;
}
// By a variable, where a target has no division: F64 divides 32-bit integers exactly enough, since a quotient that is
// no integer is at least 1/b away from one, and a / b is rounded by less.
// 64 bits: F64 gives a quotient that is too small by less than 2^-49 of itself, the rest divided again one that is too
// small by 1 at most.
V divide_64(V p, V q) {  // unsigned
  V real = to(F64, q);
  auto below = [&](V n) { return to(U64, to(F64, n) / real * (1 - 0x1p-50)); };
  V first = below(p), rest = p - first * q, second = below(rest), last = rest - second * q;
  return first + second + where(last < q, lift(p, 0), 1);
}
U divide_wide(V p, V q) {
  if (p.dtype().is_unsigned()) return where(q == 0, lift(p, 0), divide_64(p, q));
  V sign = p >> 63, other = q >> 63, flip = sign ^ other;
  V a = bits_as(U64, (p ^ sign) - sign), b = bits_as(U64, (q ^ other) - other), quotient = divide_64(a, b);
  V truncated = (bits_as(I64, quotient) ^ flip) - flip;  // toward zero; downward where something is left
  V exact = quotient * b == a;
  return where(q == 0, lift(p, 0), where(exact, truncated, truncated + flip));
}
U divide(const Match& m) {
  V p{m[x]}, q{m[y]};
  if (p.dtype().bits() == 64 && p.dtype().scalar != Scalar::IDX && lacks(m)) return divide_wide(p, q);
  if (p.dtype().bits() != 32 || !lacks(m)) return nullptr;
  V quotient{make_alu(FLOOR, to(F64, p) / to(F64, q))};
  V result = to(p.dtype().element(), quotient);
  if (p.dtype().is_signed()) result = where(q == -1, lift(p, 0) - p, result);  // the one quotient out of range
  return where(q == 0, lift(p, 0), result);
}
U remainder_of(const Match& m) {
  V p{m[x]}, q{m[y]};
  DType t = p.dtype();
  if (t.scalar == Scalar::IDX && native(m).keep_index) return nullptr;
  bool constant_divisor = q.u->is_const() && q.u->narg == 1;
  if (constant_divisor) {
    i64 d = q.u->const_int();
    if (t.bits() < 32) return nullptr;
    if (d == 0 || d == 1) return constant(t, 0);
    if (d > 0 && (d & (d - 1)) == 0) return p & (d - 1);
    Match divided = m;
    divided.at[4] = q;
    if (U quotient = divide_by_constant(divided)) return p - V{quotient} * q;
  }
  if (!lacks(m)) return nullptr;
  V rest = p - V{make_alu(IDIV, p, q)} * q;
  return constant_divisor ? rest : where(q == 0, lift(p, 0), rest);
}

#define RULE(f) [](const Match& m) -> U { return f(m); }
#define IF_LACKING [](const Match& m) { return lacks(m); }
// clang-format off
constexpr Rule representation_rules[] = {
    {op(CAST, x),                                                          RULE(to_bool)},
    {op(CAST, x),                                                          RULE(from_bool)},
    {op(CAST, x),                                                          RULE(narrow_cast)},
    {op(CONST),                                                            RULE(narrow_constant)},
    {any({NEG, RECIP, SQRT, RSQRT, EXP2, LOG2, EXP, LOG}, x),              RULE(narrow_op)},
    {any({SIN, COS, TAN, TANH, ERF, TRUNC, FLOOR, ROUND}, x),              RULE(narrow_op)},
    {any({ADD, SUB, MUL, FDIV, POW, MAX, MIN}, x, y),                      RULE(narrow_op)},
    {any({CMPLT, CMPEQ, CMPNE}, x, y),                                     RULE(narrow_op)},
    {any({WHERE, FMA}, x, y, z),                                           RULE(narrow_op)},
    {any({NEG}, x),                                                        RULE(small_op)},
    {any({ADD, SUB, MUL, IDIV, MOD, MAX, MIN}, x, y),                      RULE(small_op)},
    {any({AND, OR, XOR, SHL, SHR, CMPLT, CMPEQ, CMPNE}, x, y),             RULE(small_op)},
    {op(WHERE, x, y, z),                                                   RULE(small_op)},
    {op(CAST, op(CAST, x.dtype(I32))).dtype(I32),                          RULE(normalise)},
};
constexpr Rule bool_rules[] = {
    {op(CMPNE, x, y),     op(XOR, x, y).dtype(BOOL)},
    {op(CMPEQ, x, y),     op(XOR, op(XOR, x, y).dtype(BOOL), 1).dtype(BOOL)},
    {op(CMPLT, x, y),     op(AND, op(XOR, x, 1).dtype(BOOL), y).dtype(BOOL)},
    {op(WHERE, x, y, z),  op(OR, op(AND, x, y), op(AND, op(XOR, x, 1), z))},
};
constexpr Rule integer_rules[] = {
    {op(IDIV, x, a),      RULE(divide_by_constant)},
    {op(MOD, x, y),       RULE(remainder_of)},
    {op(IDIV, x, y),      RULE(divide)},
    {op(MAX, x, y),       where(x < y, y, x), IF_LACKING},
    {op(MIN, x, y),       where(y < x, y, x), IF_LACKING},
    {op(CMPLT, x, y),     RULE(unsigned_less)},
    {op(SHR, x, y),       RULE(signed_shift)},
    {op(MUL, x, y),       RULE(multiply_64)},
    {op(CAST, x),         RULE(int_to_float)},
    {op(CAST, x),         RULE(float_to_int)},
};
// clang-format on
#undef RULE
#undef IF_LACKING

}  // namespace

bool fits_u32(U u) {
  constexpr i64 low = 0xffffffff;
  switch (u->op) {
    case CONST: return u->narg == 1 && u->const_int() >= 0 && u->const_int() <= low;
    case AND: return u->src(1)->op == CONST && fits_u32(u->src(1));
    case SHR:
      return u->dtype.is_unsigned() && u->src(1)->is_const() && u->src(1)->narg == 1 && u->src(1)->const_int() >= 32;
    case CAST: return u->src(0)->dtype.is_unsigned() && u->src(0)->dtype.bits() <= 32;
    default: return u->dtype.scalar == Scalar::IDX && u->min >= 0 && u->max <= low;
  }
}

NativeOps native_ops(const Target& target) {
  NativeOps native;
  bool known = false;
  auto each = [](Width width, u32 dtypes, auto&& f) {
    for (int vector = 0; vector < 2; vector++)
      for (size_t t = 0; t < NativeOps::dtypes; t++)
        if (width >> vector & 1 && dtypes >> t & 1) f(vector, t);
  };
  for (const OpsRow& r : native_rows)
    if (target.isa == r.isa && (target.features & r.features) == r.features)
      known = true, each(r.width, r.dtypes, [&](int vector, size_t t) { native.ops[vector][t] |= r.ops; });
  for (const CastRow& r : native_casts)
    if (target.isa == r.isa && (target.features & r.features) == r.features)
      each(r.width, r.from, [&](int vector, size_t t) { native.casts[vector][t] |= r.to; });
  if (!known) throw Error("no native ops are known for ", target.isa, " with features ", hex(target.features));
  return native;
}

const RuleList& decompositions() {
  static const RuleList list{{"representation", Arithmetic::ANY, representation_rules},
                             {"bool", Arithmetic::LOGICAL, bool_rules},
                             {"functions", Arithmetic::FLOAT_FAST, function_rules},
                             {"integers", Arithmetic::ANY, integer_rules}};
  return list;
}
U decompose(U root, const NativeOps& native) {
  return rewrite(root, decompositions(), const_cast<NativeOps*>(&native));
}
U decompose(U root, const Target& target) { return decompose(root, native_ops(target)); }

}  // namespace ingot
