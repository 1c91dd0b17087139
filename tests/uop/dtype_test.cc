// SPDX-License-Identifier: MIT
// Float formats over all their codes against three independent computations: the compiler's _Float16, integer
// arithmetic on f32 bits for bf16, and a search for the nearest value in a list made from the definition of each
// format.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <map>

#include "graphs.h"

namespace ingot {
namespace {

constexpr DType small_floats[] = {E4M3, E5M2, E4M3FNUZ, E5M2FNUZ, F16, BF16};
constexpr double infinity = std::numeric_limits<double>::infinity();

// The value of a code as the specifications define it; NaN where they say so.
double defined_value(u64 code, DType t) {
  int m = t.row().mantissa_bits, e = t.row().exponent_bits;
  u64 mantissa = code & ((1u << m) - 1), exponent = code >> m & ((1u << e) - 1), sign = code >> (m + e);
  if (t == E4M3 && (code & 0x7f) == 0x7f) return NAN;
  if ((t == E4M3FNUZ || t == E5M2FNUZ) && code == 0x80) return NAN;
  if ((t == E5M2 || t == F16 || t == BF16) && exponent == (1u << e) - 1)
    return mantissa ? NAN : sign ? -infinity : infinity;
  int bias = t == E4M3 ? 7 : t == E4M3FNUZ ? 8 : t == E5M2FNUZ ? 16 : t == BF16 ? 127 : 15;
  double v = exponent ? std::ldexp(double(mantissa + (1u << m)), int(exponent) - bias - m)
                      : std::ldexp(double(mantissa), 1 - bias - m);
  return sign ? -v : v;
}

TEST(DType, EveryCodeDecodesAndComesBack) {
  for (DType t : small_floats)
    for (u64 code = 0; code < u64(1) << t.bits(); code++) {
      double v = decode_float(code, t), expected = defined_value(code, t);
      ASSERT_TRUE(same_value({.f = v}, {.f = expected}, t)) << str(t, " ", hex(code), " ", v, " ", expected);
      u64 back = encode_float(v, t), quiet = u64(1) << (t.row().mantissa_bits - 1);
      ASSERT_EQ(back, v != v && t.row().specials == Specials::IEEE ? code | quiet : code) << str(t);
    }
}

// Doubles where rounding decides: each value, the middle to the next, and the doubles beside both.
template <class F>
void for_critical_values(DType t, F f) {
  u64 count = u64(1) << (t.bits() - 1);
  for (u64 code = 0; code < count; code++) {
    double v = defined_value(code, t), next = defined_value(std::min(code + 1, count - 1), t);
    if (!(v < infinity)) continue;
    double step = code ? v - defined_value(code - 1, t) : defined_value(1, t);
    double middle =
        next < infinity ? v + (next - v) / 2 : v + step / 2;  // beyond the largest: as if the format went on
    for (double d : {v, middle})
      for (double x : {std::nextafter(d, 0), d, std::nextafter(d, infinity)}) f(x), f(-x);
  }
  for (double x : {infinity, 1e300, 1e-300, 4.9e-324, 0.0, 65519.99, 65520.0, 57344.0, 61440.0, 464.0, 480.0, 240.0,
                   248.0, 3.4e38})
    f(x), f(-x);
}

TEST(DType, RoundsToTheNearestValueTiesToEven) {
  for (DType t : small_floats) {
    std::map<double, u64> codes;  // finite magnitudes; a tie goes to the even code
    u64 count = u64(1) << (t.bits() - 1);
    for (u64 code = 0; code < count; code++)
      if (double v = defined_value(code, t); v < infinity) codes[v] = code;
    auto [largest, largest_code] = *codes.rbegin();
    double limit = largest + (largest - std::prev(codes.end(), 2)->first) /
                                 2;  // a tie here rounds to even, which overflows if odd
    for_critical_values(t, [&](double x) {
      double a = std::abs(x);
      u64 sign = std::signbit(x) ? count : 0, expected;
      if (a > limit || (a == limit && largest_code & 1)) {
        expected = t.row().specials == Specials::FNUZ ? count : t == E4M3 ? sign | 0x7f : sign | (largest_code + 1);
      } else {
        auto above = codes.lower_bound(a);
        if (above == codes.end()) above = std::prev(above);
        auto below = above == codes.begin() || above->first <= a ? above : std::prev(above);
        double up = above->first - a, down = a - below->first;
        u64 code = up < down           ? above->second
                   : down < up         ? below->second
                   : above->second & 1 ? below->second
                                       : above->second;
        expected = t.row().specials == Specials::FNUZ && code == 0 ? 0 : sign | code;
      }
      ASSERT_EQ(encode_float(x, t), expected) << str(t, " ", x);
    });
  }
}

TEST(DType, HalfAgreesWithTheCompiler) {
  for_critical_values(F16, [](double x) { ASSERT_EQ(encode_float(x, F16), std::bit_cast<u16>(_Float16(x))) << x; });
  for (u32 code = 0; code < 65536; code++) {
    double v = double(std::bit_cast<_Float16>(u16(code)));
    ASSERT_TRUE(same_value({.f = decode_float(code, F16)}, {.f = v}, F16));
  }
}

TEST(DType, Bfloat16AgreesWithIntegerArithmetic) {
  Random r(1);
  for (int i = 0; i < 200000; i++) {
    u32 bits = u32(r.engine());
    if (i < 65536 * 3) bits = u32(i / 3) << 16 | (i % 3 == 0 ? 0x7fffu : i % 3 == 1 ? 0x8000u : 0x8001u);
    float f = std::bit_cast<float>(bits);
    if (f != f) continue;
    u32 expected = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    ASSERT_EQ(encode_float(f, BF16), expected) << f;
  }
}

TEST(DType, SinglesAndDoublesAreTheHosts) {
  Random r(2);
  for (int i = 0; i < 10000; i++) {
    u64 bits = r.engine();
    double d = std::bit_cast<double>(bits);
    EXPECT_EQ(encode_float(d, F64), bits);
    if (d != d) continue;
    EXPECT_EQ(encode_float(d, F32), std::bit_cast<u32>(float(d)));
    EXPECT_EQ(round_to(d, F32), double(float(d)));
  }
}

TEST(DType, IntegersWrap) {
  Random r(3);
  for (int i = 0; i < 10000; i++) {
    i64 v = i64(r.engine()) >> r.below(64);
    EXPECT_EQ(wrap_to(v, I8), i8(v));
    EXPECT_EQ(wrap_to(v, U8), u8(v));
    EXPECT_EQ(wrap_to(v, I16), i16(v));
    EXPECT_EQ(wrap_to(v, U16), u16(v));
    EXPECT_EQ(wrap_to(v, I32), i32(v));
    EXPECT_EQ(wrap_to(v, U32), i64(u32(v)));
    EXPECT_EQ(wrap_to(v, I64), v);
    EXPECT_EQ(wrap_to(v, BOOL), v != 0);
  }
}

// The table of docs.jax.dev, "Type promotion semantics" (accessed 2026), without complex and weak types; f* stands as
// f8.
TEST(DType, PromotionIsJaxs) {
  constexpr DType types[] = {BOOL, U8, U16, U32, U64, I8, I16, I32, I64, BF16, F16, F32, F64};
  constexpr const char* names[] = {"b1", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "bf", "f2", "f4", "f8"};
  constexpr const char* table[] = {
      "b1 u1 u2 u4 u8 i1 i2 i4 i8 bf f2 f4 f8", "u1 u1 u2 u4 u8 i2 i2 i4 i8 bf f2 f4 f8",
      "u2 u2 u2 u4 u8 i4 i4 i4 i8 bf f2 f4 f8", "u4 u4 u4 u4 u8 i8 i8 i8 i8 bf f2 f4 f8",
      "u8 u8 u8 u8 u8 f8 f8 f8 f8 bf f2 f4 f8", "i1 i2 i4 i8 f8 i1 i2 i4 i8 bf f2 f4 f8",
      "i2 i2 i4 i8 f8 i2 i2 i4 i8 bf f2 f4 f8", "i4 i4 i4 i8 f8 i4 i4 i4 i8 bf f2 f4 f8",
      "i8 i8 i8 i8 f8 i8 i8 i8 i8 bf f2 f4 f8", "bf bf bf bf bf bf bf bf bf bf f4 f4 f8",
      "f2 f2 f2 f2 f2 f2 f2 f2 f2 f4 f2 f4 f8", "f4 f4 f4 f4 f4 f4 f4 f4 f4 f4 f4 f4 f8",
      "f8 f8 f8 f8 f8 f8 f8 f8 f8 f8 f8 f8 f8",
  };
  for (size_t i = 0; i < std::size(types); i++)
    for (size_t j = 0; j < std::size(types); j++) {
      std::string_view cell = split(table[i], ' ')[j];
      size_t k = 0;
      while (cell != names[k]) k++;
      EXPECT_EQ(str(promote(types[i], types[j])), str(types[k])) << names[i] << " " << names[j];
    }
  EXPECT_EQ(promote(E4M3, I64), E4M3);
  EXPECT_EQ(promote(E4M3, E5M2), F16);
  EXPECT_EQ(promote(BF16, E5M2FNUZ), BF16);
  EXPECT_EQ(promote(I32, IDX), IDX);
}

TEST(DType, NamesReadBack) {
  for (size_t i = 1; i < std::size(dtype_rows); i++) {
    DType t{Scalar(i)};
    EXPECT_EQ(dtype_from_name(t.row().name), t);
    EXPECT_EQ(dtype_from_name(t.row().torch_name), t);
    EXPECT_EQ(dtype_from_name(str(t.with_lanes(16))), t.with_lanes(16));
  }
  for (const char* bad : {"", "f", "f3", "f32x", "f32x0", "f32x1", "f32x-2", "f32x70000", "f32x4 ", "x4", "float"})
    EXPECT_FALSE(dtype_from_name(bad)) << bad;
}

}  // namespace
}  // namespace ingot
