// SPDX-License-Identifier: MIT
// The algebra on what the scheduler and the code generator ask of it, as text; and on random expressions against
// enumeration.
#include <gtest/gtest.h>

#include "graphs.h"

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

// A random index expression over three loops, in the shapes that index arithmetic takes.
U random_index(Random& r, int depth) {
  if (depth == 0 || r.chance(15))
    return r.chance(20) ? index_constant(r.between(-9, 9)) : U(range(r.below(3), 0 + r.pick<i64>({3, 4, 5})));
  Expr x = random_index(r, depth - 1);
  i64 c = r.pick<i64>({1, 2, 3, 4, 5, 6, 8, 12, -1, -3});
  switch (r.below(9)) {
    case 0:
    case 1: return x * c + random_index(r, depth - 1);
    case 2: return x - random_index(r, depth - 1);
    case 3: return make_alu(Op::IDIV, x, index_constant(c));
    case 4: return make_alu(Op::MOD, x, index_constant(c));
    case 5: return x / std::abs(c) * std::abs(c) + x % std::abs(c);
    case 6: return make_alu(r.pick({Op::MAX, Op::MIN, Op::MUL}), x, random_index(r, depth - 1));
    case 7:
      return make_alu(Op::WHERE, make_alu(r.pick({Op::CMPLT, Op::CMPEQ, Op::CMPNE}), x, random_index(r, depth - 1)), x,
                      random_index(r, depth - 1));
    default: return x + r.between(-20, 20);
  }
}
U random_condition(Random& r, int depth) {
  U c = make_alu(r.pick({Op::CMPLT, Op::CMPLT, Op::CMPEQ, Op::CMPNE}), random_index(r, depth),
                 r.chance(60) ? index_constant(r.between(-9, 30)) : random_index(r, depth));
  if (r.chance(30)) c = make_alu(Op::XOR, c, constant(BOOL, 1));
  return r.chance(40) ? make_alu(r.pick({Op::AND, Op::OR}), c, random_condition(r, depth - 1 > 0 ? depth - 1 : 1)) : c;
}

TEST(Simplify, RandomExpressionsKeepTheirValues) {
  Random r(7);
  i64 before = 0, after = 0;
  for (int i = 0; i < 4000; i++) {
    Arena arena;
    ArenaScope scope(arena);
    U u = i % 3 ? random_index(r, int(r.between(1, 4))) : random_condition(r, 2);
    U v = simplify(u);
    ASSERT_EQ(simplify(v), v);
    before += i64(toposort(u).size()), after += i64(toposort(v).size());
    std::vector<U> ranges;
    for (U x : toposort(make(Op::SINK, VOID, {u, v})))
      if (x->op == Op::RANGE) ranges.push_back(x);
    Expression left(u), right(v);
    i64 points = 1;
    for (U x : ranges) points *= x->max + 1;
    for (i64 p = 0; p<points; p += points> 400 ? 7 : 1) {
      UMap<Value> at;
      i64 rest = p;
      for (U x : ranges) at[x] = {.i = rest % (x->max + 1)}, rest /= x->max + 1;
      i64 expected = left(at).i, actual = right(at).i;
      ASSERT_EQ(expected, actual) << print_expression(u) << "  =>  " << print_expression(v) << "\n" << print(u);
      ASSERT_TRUE(u->min <= expected && expected <= u->max && v->min <= expected && expected <= v->max)
          << print_expression(u) << "  =>  " << print_expression(v) << " is " << expected << ", bounds " << u->min
          << " … " << u->max << " and " << v->min << " … " << v->max;
    }
  }
  EXPECT_LT(after, before * 9 / 10);
}

// Reshapes of reshapes: whatever axes a flat index is split into and joined again, the original index comes back.
TEST(Simplify, RandomReshapesCancel) {
  Random r(8);
  for (int i = 0; i < 500; i++) {
    Arena arena;
    ArenaScope scope(arena);
    std::vector<i64> shape;
    for (i64 n = r.between(2, 5); n > 0; n--) shape.push_back(r.pick<i64>({2, 3, 4, 5, 7, 12, 32}));
    Expr flat = 0;
    for (size_t k = 0; k < shape.size(); k++) flat = flat * shape[k] + range(i64(k), shape[k]);
    Expr x = simplify(flat);
    std::vector<i64> other = shape;  // join neighbours, and split by a factor
    for (size_t k = 0; k + 1 < other.size(); k++)
      if (r.chance(50)) other[k] *= other[k + 1], other.erase(other.begin() + i64(k) + 1);
    Expr rejoined = 0, rest = flat;
    std::vector<Expr> axes;
    for (size_t k = other.size(); k-- > 0;) axes.insert(axes.begin(), rest % other[k]), rest = rest / other[k];
    for (size_t k = 0; k < other.size(); k++) rejoined = rejoined * other[k] + axes[k];
    ASSERT_EQ(simplify(rejoined), x.u) << print_expression(simplify(rejoined)) << " instead of " << print_expression(x);
    rest = flat;
    for (size_t k = shape.size(); k-- > 0; rest = rest / shape[k])
      ASSERT_EQ(simplify(rest % shape[k]), range(i64(k), shape[k]).u);
  }
}

// The adjoint of WINDOW asks: is (i - k*d) a multiple of the stride, and is the quotient an output?
TEST(Simplify, ExactDivisibilityOfUnwindow) {
  Arena arena;
  ArenaScope scope(arena);
  Expr i = range(0, 28), k = range(1, 3);
  for (i64 stride : {1, 2, 3, 4}) {
    Expr position = i - k;
    Expr exact = position % stride == Expr(0), inside = (Expr(-1) < position) && (position / stride < 26 / stride);
    U all = simplify(exact && inside);
    i64 divisions = 0;
    for (U u : toposort(all)) divisions += u->op == Op::IDIV;
    EXPECT_EQ(divisions, 0) << print_expression(all);
    if (stride == 1) {
      EXPECT_EQ(print_expression(all), "r1 < r0 + 1 & r0 < r1 + 26");
    }
  }
}

TEST(Simplify, CostsMicroseconds) {
  Arena arena;
  ArenaScope scope(arena);
  Random r(9);
  std::vector<U> expressions;
  size_t nodes = 0;
  for (int i = 0; i < 2000; i++)
    expressions.push_back(random_index(r, 4)), nodes += toposort(expressions.back()).size();
  i64 start = now_ns();
  for (U u : expressions) simplify(u);
  double each = double(now_ns() - start) / double(nodes);
  RecordProperty("ns_per_node", int(each));
  EXPECT_LT(each, 200e3) << "ns a node";  // 100 times what it takes without sanitizers on an idle machine
}

}  // namespace
}  // namespace ingot
