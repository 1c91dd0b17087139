// SPDX-License-Identifier: MIT
// The algebra on what the scheduler and the code generator ask of it, as text; and on random expressions against enumeration.
#include <gtest/gtest.h>

#include <random>

#include "compiler/uop/uop.h"

namespace ingot {
namespace {

Expr range(i64 id, i64 bound) { return make(Op::RANGE, IDX, {index_constant(bound)}, {id, i64(RangeKind::LOOP)}); }
std::string simple(Expr e) { return print_expression(simplify(e)); }

TEST(Simplify, SumsHaveOneForm) {
  Arena arena;
  ArenaScope scope(arena);
  Expr r0 = range(0, 8), r1 = range(1, 5), r2 = range(2, 7);
  EXPECT_EQ(simple((r1 + r0) * 3 + r1 * 2 - r0), "r0*2 + r1*5");
  EXPECT_EQ(simplify(r0 + r1 + r2), simplify(r2 + (r1 + r0)));
  EXPECT_EQ(simple(((r0 * 5 + r1) * 7 + r2) * 2 + 4), "r0*70 + r1*14 + r2*2 + 4");
  EXPECT_EQ(simple(r0 - r0), "0");
}

TEST(Simplify, FlattenedShapesUnflatten) {
  Arena arena;
  ArenaScope scope(arena);
  Expr n = range(0, 4), c = range(1, 6), y = range(2, 10), x = range(3, 12);
  Expr flat = ((n * 6 + c) * 10 + y) * 12 + x;
  EXPECT_EQ(simple(flat / (6 * 10 * 12)), "r0");
  EXPECT_EQ(simple(flat / (10 * 12) % 6), "r1");
  EXPECT_EQ(simple(flat / 12 % 10), "r2");
  EXPECT_EQ(simple(flat % 12), "r3");
  EXPECT_EQ(simple(flat / 120), "r0*6 + r1");
  EXPECT_EQ(simple(flat % 120), "r2*12 + r3");
  EXPECT_EQ(simple(flat / 4 % 3), "r3 / 4");  // an axis of 12 seen as (3, 4)
  Expr f = range(4, 4 * 6 * 10 * 12);
  EXPECT_EQ(simple((f / 720 * 6 + f / 120 % 6) * 120 + f % 120), "r4");
  EXPECT_EQ(simple(f / 12 / 10), "r4 / 120");
  EXPECT_EQ(simple(f % 120 / 12), "r4 / 12 % 10");
  EXPECT_EQ(simple(f % 120 % 12), "r4 % 12");
}

TEST(Simplify, ConvolutionAndPooling) {
  Arena arena;
  ArenaScope scope(arena);
  Expr y = range(0, 14), x = range(1, 14), ky = range(2, 2), kx = range(3, 2);
  Expr pooled = (y * 2 + ky) * 28 + (x * 2 + kx);
  EXPECT_EQ(simple(pooled / 28), "r0*2 + r2");
  EXPECT_EQ(simple(pooled / 28 / 2), "r0");
  EXPECT_EQ(simple(pooled / 28 % 2), "r2");
  EXPECT_EQ(simple(pooled % 28 / 2), "r1");
  EXPECT_EQ(simple((y * 2 + ky < 28) && (Expr(-1) < y)), "1");
}

TEST(Simplify, ConditionsOfPaddingAndWindows) {
  Arena arena;
  ArenaScope scope(arena);
  Expr y = range(0, 30), k = range(1, 3), r = range(2, 4), s = range(3, 3);
  EXPECT_EQ(simple(r * 3 + s < 12), "1");
  EXPECT_EQ(simple(r * 3 + s < 9), "r2 < 3");
  EXPECT_EQ(simple(r * 3 + s < 10), "r2*3 + r3 < 10");
  EXPECT_EQ(simple(Expr(8) < r * 3 + s), "2 < r2");
  EXPECT_EQ(simple((y + k >= 1) && (y + k < 31)), "0 < r0 + r1 & r0 + r1 < 31");
  EXPECT_EQ(simple(y / 4 < 3), "r0 < 12");
  EXPECT_EQ(simple(Expr(2) < y / 4), "11 < r0");
  EXPECT_EQ(simple((y - k * 2) % 2), "r0 % 2");
  EXPECT_EQ(simple((y * 2 - k * 2) / 2), "r0 + r1*-1");
  EXPECT_EQ(simple((y < 5) && (y < 3)), "r0 < 3");
  EXPECT_EQ(simple((y < 5) && (k < 2) && (y < 3)), "r1 < 2 & r0 < 3");
  EXPECT_EQ(simple((y < 3) && (y >= 3)), "0");
  EXPECT_TRUE(always(y < 30));
  EXPECT_TRUE(never(Expr(29) < y));
}

}  // namespace
}  // namespace ingot
