// SPDX-License-Identifier: MIT
// Which graphs become how many kernels, and that the kernels compute what the graph says.
#include "tests/schedule/graphs.h"

namespace ingot {
namespace {

size_t count(std::vector<U> roots) { return run_and_compare(std::move(roots)).kernels.size(); }

TEST(Kernels, Elementwise) {
  U a = buffer({5, 7}), b = buffer({5, 7});
  EXPECT_EQ(count({relu(add(mul(a, b), number(2)))}), 1u);
}
TEST(Kernels, Movement) {
  U a = buffer({4, 6});
  EXPECT_EQ(count({permute(a, {1, 0})}), 1u);
  EXPECT_EQ(count({reshape(permute(a, {1, 0}), {3, 8})}), 1u);
  EXPECT_EQ(count({pad(a, {1, 2, 0, 3})}), 1u);
  EXPECT_EQ(count({pad(add(a, number(1)), {1, 2, 0, 3})}), 1u);
  EXPECT_EQ(count({flip(shrink(a, {1, 3, 2, 6}), {1, 1})}), 1u);
  EXPECT_EQ(count({reshape(pad(reshape(a, {24}), {3, 3}), {5, 6})}), 1u);
}
TEST(Kernels, Sum) {
  U a = buffer({6, 10, 4});
  EXPECT_EQ(count({sum(a, {1})}), 1u);
  EXPECT_EQ(count({sum(a, {0, 2})}), 1u);
  EXPECT_EQ(count({sum_all(a)}), 1u);
}
TEST(Kernels, Matmul) {
  U a = buffer({6, 5}), b = buffer({5, 7}), bias = buffer({7});
  EXPECT_EQ(count({matmul(a, b)}), 1u);
  EXPECT_EQ(count({relu(add(matmul(a, b), like(reshape(bias, {1, 7}), matmul(a, b))))}), 1u);
}
TEST(Kernels, Convolution) {
  U x = buffer({2, 3, 7, 6}), w = buffer({4, 3, 3, 3}), bias = buffer({4});
  for (i64 stride : {1, 2})
    for (i64 padding : {0, 1}) {
      U y = conv2d(x, w, stride, padding).out;
      EXPECT_EQ(count({relu(add(y, like(reshape(bias, {1, 4, 1, 1}), y)))}), 1u);
      U g = buffer(y->shape());
      EXPECT_EQ(count({conv2d_grad_input(g, x, w, stride, padding)}), 1u);
      EXPECT_EQ(count({conv2d_grad_weight(g, x, w, stride, padding)}), 1u);
    }
}
U mean_of(U x, i64 axis) { return mul(sum(x, {axis}), number(1.0 / double(x->dims[axis]))); }
TEST(Kernels, Adam) {
  for (i64 n : {12, 6000}) {
    U p = buffer({n}), m = buffer({n}), v = buffer({n}), g = buffer({n}), t = buffer({});
    U now = assign(t, add(t, number(1)));
    U m1 = assign(m, add(mul(m, number(0.5)), mul(g, number(0.5))));
    U v1 = assign(v, add(mul(v, number(0.25)), mul(mul(g, g), number(0.75))));
    U step = make_alu(Op::FDIV, mul(m1, now), add(make_alu(Op::SQRT, v1), number(1)));
    EXPECT_EQ(count({assign(p, sub(p, step)), m1, v1, now}), 2u);  // the counter, the parameter
  }
}
TEST(Kernels, SiluStoresOnce) {
  U a = buffer({6, 5}), b = buffer({5, 7});
  U z = matmul(a, b);
  Schedule s = run_and_compare({mul(z, add(make_alu(Op::NEG, z), number(3)))});
  EXPECT_EQ(s.kernels.size(), 1u);
  EXPECT_EQ(s.internals.size(), 0u);
}
TEST(Kernels, SeveralResultsOfOneChain) {
  U a = buffer({6, 5}), b = buffer({5, 7});
  U z = matmul(a, b), y = relu(z);
  EXPECT_EQ(count({z, y, mul(y, y)}), 1u);
}
TEST(Kernels, SumsOverTheSame) {
  U g = buffer({200, 90}), x = buffer({200, 90});
  EXPECT_EQ(count({sum(g, {0}), sum(mul(g, x), {0})}), 1u);
  EXPECT_EQ(count({sum(g, {0}), sum(x, {0})}), 2u);
}
TEST(Kernels, LongReductionsAreSplit) {
  U x = buffer({70000});
  EXPECT_EQ(count({sum_all(x)}), 2u);
  EXPECT_EQ(count({sum_all(buffer({70001}))}), 2u);
  EXPECT_EQ(count({reduce(Op::MAX, buffer({70001}), {0})}), 1u);
  U y = buffer({300, 2, 300});
  EXPECT_EQ(count({sum(y, {0, 2})}), 2u);
  EXPECT_EQ(count({sum(y, {0, 2}), sum(mul(y, y), {0, 2})}), 2u);
}
TEST(Kernels, CostlySharedValuesAreStored) {
  U x = buffer({10, 12});
  U cheap = mul(x, x), costly = make_alu(Op::EXP, make_alu(Op::SIN, x));
  EXPECT_EQ(count({sum(cheap, {0}), sum(cheap, {1})}), 2u);
  EXPECT_EQ(count({sum(costly, {0}), sum(costly, {1})}), 3u);
}
TEST(Kernels, OperandOfAContraction) {
  U a = buffer({40, 40}), b = buffer({40, 40});
  EXPECT_EQ(count({matmul(a, b)}), 1u);
  EXPECT_EQ(count({matmul(relu(a), b)}), 2u);
  EXPECT_EQ(count({matmul(matmul(a, b), a)}), 2u);
}
TEST(Kernels, Softmax) {
  U x = buffer({6, 10});
  U top = reduce(Op::MAX, x, {1});
  U e = sub(x, like(top, x));
  U e2 = mul(e, e);
  run_and_compare({make_alu(Op::FDIV, add(e2, number(1)), like(sum(add(e2, number(1)), {1}), x))});
}
TEST(Kernels, LayerNorm) {
  U x = buffer({6, 10});
  U mean = mean_of(x, 1);
  U d = sub(x, like(mean, x));
  U var = mean_of(mul(d, d), 1);
  run_and_compare({make_alu(Op::FDIV, d, like(make_alu(Op::SQRT, add(var, number(1))), x))});
}
std::string text_of(std::vector<U> roots) {
  return print(schedule(roots, [](U root) { return buffer(root->shape(), root->dtype); }));
}
TEST(Text, Golden) {
  U x = buffer({8, 3, 7, 6}), w = buffer({4, 3, 3, 3}), bias = buffer({4}), a = buffer({4, 6});
  U y = conv2d(x, w, 1, 1).out;
  EXPECT_EQ(
      text_of({relu(add(y, like(reshape(bias, {1, 4, 1, 1}), y)))}),
      "reduce_add_relu_add_mul_8x4x7x6_r3x3x3 b0:f32[1344]w b1:f32[1008] b2:f32[108] b3:f32[4]\n"
      "  p0[r0*168 + r1*42 + r2*6 + r3] = max(reduce[ADD](p1[r0*126 + r2*6 + r3 + r4*42 + r5*6 + r6 - 7 if "
      "0 < r2 + r5 & r2 + r5 < 8 & 0 < r3 + r6 & r3 + r6 < 7]*p2[r1*27 + r4*9 + r5*3 + r6], r4, r5, r6) + p3[r1], 0) "
      "for r0, r1, r2, r3\n"
      "1 kernels, 0 internal buffers, 0 bytes\n");
  EXPECT_EQ(text_of({add(a, number(1))}),
            "add_24 b0:f32[24]w b1:f32[24]\n"
            "  p0[r0] = p1[r0] + 1 for r0\n"
            "1 kernels, 0 internal buffers, 0 bytes\n");
  EXPECT_EQ(text_of({permute(pad(a, {0, 0, 1, 1}), {1, 0})}),
            "copy_8x4 b0:f32[32]w b1:f32[24]\n"
            "  p0[r0*4 + r1] = p1[r0 + r1*6 - 1 if 0 < r0 & r0 < 7] for r0, r1\n"
            "1 kernels, 0 internal buffers, 0 bytes\n");
}
TEST(Text, EqualKernelsAreEqualNodes) {
  U a = buffer({6, 5}), b = buffer({5, 7}), c = buffer({6, 5}), d = buffer({5, 7});
  Schedule s = schedule(std::vector<U>{matmul(a, b), contiguous(matmul(c, d)), matmul(c, b)},
                        [](U root) { return buffer(root->shape(), root->dtype); });
  for (auto& k : s.kernels) EXPECT_EQ(k.sink, s.kernels[0].sink);
}
TEST(Plan, LivesThatOverlapDoNotShare) {
  U x = buffer({64, 64});
  for (int i = 0; i < 6; i++) x = matmul(x, x);
  Schedule s = run_and_compare({mul(x, number(0))});
  EXPECT_EQ(s.internals.size(), 5u);
  EXPECT_EQ(s.plan_bytes, 2 * 64 * 64 * 4);
  for (auto& b : s.internals) EXPECT_EQ(b.offset % 64, 0);
}
TEST(Kernels, ContiguousIsABoundary) {
  U x = buffer({16});
  for (int i = 0; i < 20; i++) x = contiguous(add(x, number(1)));
  EXPECT_EQ(count({x}), 20u);
}
TEST(Assign, OfNothingKeepsTheOrder) {
  U a = buffer({8});
  U once = assign(a, add(a, number(1))), same = assign(once, shrink(a, {3, 3}), {2, 2});
  run_and_compare({mul(same, number(2)), same});
}
TEST(Assign, InPlace) {
  U a = buffer({8}), b = buffer({8});
  EXPECT_EQ(count({assign(a, add(a, b))}), 1u);
}
TEST(Assign, ShiftReadsElsewhere) {
  U a = buffer({8});
  EXPECT_EQ(count({assign(a, shrink(a, {0, 7}), {1, 8})}), 2u);
  EXPECT_EQ(count({assign(a, shrink(a, {1, 8}), {0, 7})}), 2u);
  EXPECT_EQ(count({assign(a, flip(a, {1}))}), 2u);
}
TEST(Assign, Swap) {
  U a = buffer({8}), b = buffer({8});
  EXPECT_EQ(count({assign(a, b), assign(b, a)}), 3u);
}
TEST(Assign, OldAndNewInOneValue) {
  U a = buffer({8});
  U now = assign(a, add(a, number(1)));
  run_and_compare({add(mul(now, number(3)), a)});
}
TEST(Assign, Chain) {
  U a = buffer({8}), c = buffer({8});
  U first = assign(a, add(a, number(1))), second = assign(first, mul(first, c)), third = assign(second, c, {0, 8});
  run_and_compare({third, add(first, number(2)), add(second, number(1))});
}
TEST(Assign, TwoOfOneContentIsAnError) {
  U a = buffer({8}), c = buffer({8});
  EXPECT_THROW(schedule(std::vector<U>{assign(a, c), assign(a, number(1))}, [](U u) { return u; }), Error);
}

}  // namespace
}  // namespace ingot
