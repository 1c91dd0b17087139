// SPDX-License-Identifier: MIT
// Values: shapes and indexing, promotion, reductions, products, convolutions and pools against loops written here.
#include "tests/tensor/tensor_test.h"

namespace ingot {
namespace {

std::vector<double> numbers(const Tensor& t) { return t.to_vector<double>(); }
Shape shape_of(const Tensor& t) { return {t.shape().begin(), t.shape().end()}; }
using D = std::vector<double>;
constexpr double infinity = INFINITY;

TEST(Movement, index) {
  Tensor t = arange(24).reshape({2, 3, 4});
  EXPECT_EQ(t[1][2][3].item<i64>(), 23);
  EXPECT_EQ(numbers(t[{-1, Slice{1, 3}, 0}]), (D{16, 20}));
  EXPECT_EQ(numbers(t[{0, 0, Slice{{}, {}, -1}}]), (D{3, 2, 1, 0}));
  EXPECT_EQ(numbers(t[{0, 0, Slice{3, 0, -2}}]), (D{3, 1}));
  EXPECT_EQ(numbers(t[{0, 0, Slice{{}, {}, 3}}]), (D{0, 3}));
  EXPECT_EQ(numbers(t[{0, 0, Slice{-3, -1}}]), (D{1, 2}));
  EXPECT_EQ(shape_of(t[{Ellipsis, None, Slice{0, 2}}]), (Shape{2, 3, 1, 2}));
  EXPECT_EQ(shape_of(t[{0, Slice{2, 1}}]), (Shape{0, 4}));
  Tensor which = tensor({{2, 0}, {1, 1}});
  EXPECT_EQ(shape_of(t[{Slice{}, which}]), (Shape{2, 2, 2, 4}));
  EXPECT_EQ(numbers(t[{1, which, 0}]), (D{20, 12, 16, 16}));
  EXPECT_EQ(error_of([&] { t[2]; }), "index 2 on axis 0 of a tensor i64 (2, 3, 4)");
}
TEST(Movement, shapes) {
  Tensor t = arange(6).reshape({2, 3});
  EXPECT_EQ(numbers(t.T()), (D{0, 3, 1, 4, 2, 5}));
  EXPECT_EQ(numbers(t.pad({1, 0, 0, 1}, 9)), (D{9, 0, 1, 2, 9, 3, 4, 5, 9, 9, 9, 9}));
  EXPECT_EQ(numbers(t.pad({-1, 1})), (D{1, 2, 0, 4, 5, 0}));
  EXPECT_EQ(numbers(t.pad({2, 1}, 0, "reflect")[0]), (D{2, 1, 0, 1, 2, 1}));
  EXPECT_EQ(numbers(t.pad({2, 1}, 0, "circular")[0]), (D{1, 2, 0, 1, 2, 0}));
  EXPECT_EQ(numbers(t.pad({2, 1}, 0, "replicate")[0]), (D{0, 0, 0, 1, 2, 2}));
  EXPECT_EQ(numbers(t.roll(1, 1)), (D{2, 0, 1, 5, 3, 4}));
  EXPECT_EQ(numbers(t.tril()), (D{0, 0, 0, 3, 4, 0}));
  EXPECT_EQ(numbers(t.triu(1)), (D{0, 1, 2, 0, 0, 5}));
  EXPECT_EQ(numbers(t.diagonal()), (D{0, 4}));
  EXPECT_EQ(numbers(t.repeat({2, 1, 2})[1][0]), (D{0, 1, 2, 0, 1, 2}));
  EXPECT_EQ(numbers(t.repeat_interleave(2, 1)[0]), (D{0, 0, 1, 1, 2, 2}));
  EXPECT_EQ(numbers(cat({t, t + 10}, 1)[0]), (D{0, 1, 2, 10, 11, 12}));
  EXPECT_EQ(numbers(stack({t[0], t[1]}, -1)), (D{0, 3, 1, 4, 2, 5}));
  EXPECT_EQ(t.split(2, 1)[1].size(1), 1);
  EXPECT_EQ(shape_of(t.unsqueeze(-1).squeeze().flatten()), Shape{6});
  EXPECT_EQ(numbers(eye(2)), (D{1, 0, 0, 1}));
  EXPECT_EQ(numbers(linspace(0, 1, 3)), (D{0, .5, 1}));
  EXPECT_EQ(numbers(arange(1., 2., .25)), (D{1, 1.25, 1.5, 1.75}));
  EXPECT_EQ(numbers(arange(5, 0, -2)), (D{5, 3, 1}));
  EXPECT_EQ(numbers(tensor({0, 2}).one_hot(3)), (D{1, 0, 0, 0, 0, 1}));
  Tensor zero = cat({tensor({-0.f}), tensor({1.f})});
  EXPECT_TRUE(std::signbit(numbers(zero)[0]));
}
TEST(Movement, gather_and_scatter) {
  Tensor t = arange(6).reshape({2, 3}), at = tensor({{2, 2}, {0, 7}});
  EXPECT_EQ(numbers(t.gather(1, at)), (D{2, 2, 3, 0}));
  EXPECT_EQ(numbers(t.scatter(1, at, tensor({{10, 11}, {12, 13}}))), (D{0, 1, 11, 12, 4, 5}));
  EXPECT_EQ(numbers(t.scatter_add(1, at, tensor({{10, 11}, {12, 13}}))), (D{0, 1, 23, 15, 4, 5}));
}
TEST(Movement, errors_name_shapes) {
  EXPECT_EQ(error_of([] {
              zeros({2, 3}) + zeros({2, 4});
            }),
            "shapes (2, 3) and (2, 4) do not broadcast: axis -1 is 3 and 4; sizes must be equal or 1");
  EXPECT_EQ(error_of([] {
              zeros({2, 3}).reshape({4, -1});
            }),
            "reshape of f32 (2, 3), 6 elements, to (4, 1), 4 elements");
  EXPECT_EQ(error_of([] { zeros({2, 3}).sum(2); }), "axis 2 of a tensor f32 (2, 3): expected -2 to 1");
  EXPECT_EQ(error_of([] { zeros({2, 3}).sum({1, -1}); }), "axis -1 appears twice in (1, -1) for a tensor f32 (2, 3)");
  EXPECT_EQ(error_of([] { zeros({2, 3}).matmul(zeros({2, 3})); }).find("matmul of f32 (2, 3) and f32 (2, 3): "), 0u);
  EXPECT_EQ(error_of([] { zeros(2).permute({0, 0}); }), "permute of f32 (2) by (0, 0): each axis once");
  EXPECT_EQ(error_of([] { zeros(2) & ones(2); }), "AND (bitwise and) of f32 (2) and f32 (2): not defined for f32");
  EXPECT_EQ(error_of([] {
              conv2d(zeros({1, 3, 4, 4}), zeros({2, 2, 3, 3}));
            }).find("conv of f32 (1, 3, 4, 4) with weight f32 (2, 2, 3, 3) in 1 groups"),
            0u);
  EXPECT_EQ(error_of([] {
              max_pool2d(zeros({1, 1, 2, 2}), 3);
            }),
            "a window of (3, 3) with dilation (1, 1) does not fit into f32 (1, 1, 2, 2)");
  EXPECT_EQ(error_of([] { Tensor().relu(); }).find("this tensor is undefined"), 0u);
  EXPECT_EQ(error_of([] { zeros(2).item(); }), "item() of a tensor f32 (2): it needs exactly one element");
}

TEST(Math, promotion) {
  Tensor half = ones(2, F16), integer = ones(2, I32), truth = ones(2, BOOL), byte = ones(2, U8);
  EXPECT_EQ((half + 1.5).dtype(), F16);
  EXPECT_EQ((1 - half).dtype(), F16);
  EXPECT_EQ((integer + 1.5).dtype(), F32);
  EXPECT_EQ((integer + 1).dtype(), I32);
  EXPECT_EQ((truth + 1).dtype(), I64);
  EXPECT_EQ((integer + half).dtype(), F16);
  EXPECT_EQ((integer / 2).dtype(), F32);
  EXPECT_EQ((integer == 1).dtype(), BOOL);
  EXPECT_EQ((byte + truth).dtype(), U8);
  EXPECT_EQ(truth.sum().dtype(), I64);
  EXPECT_EQ(numbers(where(truth, 1.5, 0)), (D{1.5, 1.5}));
  EXPECT_EQ((truth & truth).dtype(), BOOL);
  EXPECT_EQ(numbers(tensor({-7, 7}).remainder(3)), (D{2, 1}));
  EXPECT_EQ(numbers(tensor({-7, 7}).fmod(3)), (D{-1, 1}));
  EXPECT_EQ(numbers(tensor({-7, 7}).div(2, "trunc")), (D{-3, 3}));
  EXPECT_EQ(numbers(tensor({-7, 7}).div(2, "floor")), (D{-4, 3}));
  EXPECT_EQ(numbers(tensor({-3, 2}).pow(3)), (D{-27, 8}));
}
TEST(Math, reductions) {
  Tensor t = tensor({{3.f, 1.f, 3.f}, {-1.f, -5.f, 0.f}});
  EXPECT_EQ(numbers(t.sum(0)), (D{2, -4, 3}));
  EXPECT_EQ(numbers(t.prod(1)), (D{9, 0}));
  EXPECT_EQ(numbers(t.argmax(1)), (D{0, 2}));
  EXPECT_EQ(numbers(t.argmin(1)), (D{1, 1}));
  EXPECT_EQ(t.argmax().item<i64>(), 0);
  EXPECT_EQ(numbers(tensor({1.f, float(NAN), 2.f}).argmax(0)), (D{1}));
  EXPECT_EQ(numbers(tensor({3, 1, 1}).argmin(0)), (D{1}));
  EXPECT_EQ(numbers(t.any(1)), (D{1, 1}));
  EXPECT_EQ(numbers(t.all(1)), (D{1, 0}));
  expect_near(t.var(1), {4. / 3, 7}, 1e-6, "var");
  expect_near(t.std(1, 0), {std::sqrt(8. / 9), std::sqrt(14. / 3)}, 1e-6, "std");
  expect_near(t.softmax(1).sum(1), {1, 1}, 1e-6, "softmax");
  expect_near((t * 1000).log_softmax(1)[0], {-std::log(2.), -2000 - std::log(2.), -std::log(2.)}, 1e-6,
              "log_softmax of large numbers");
  expect_near(full({2, 3}, -INFINITY).logsumexp(1), {-INFINITY, -INFINITY}, 0, "logsumexp of nothing");
  EXPECT_EQ(numbers(zeros({2, 0}).sum(1)), (D{0, 0}));
  Tensor halves = full(4096, 1, F16);
  EXPECT_EQ(halves.sum().item(), 4096);  // f16 cannot count past 2048 one by one
}
TEST(Math, cumulative) {
  D in = spread(600), sum = in, product = in;
  for (double& v : product) v = 1 + v * 0.001;
  Tensor factors = of(product, {600});
  for (size_t i = 1; i < in.size(); i++) sum[i] += sum[i - 1], product[i] *= product[i - 1];
  expect_near(of(in, {600}).cumsum(0), sum, 1e-12, "cumsum");
  expect_near(factors.cumprod(0), product, 1e-12, "cumprod");
  EXPECT_EQ(numbers(arange(6).reshape({2, 3}).cumsum(0)), (D{0, 1, 2, 3, 5, 7}));
}
TEST(Math, functions) {
  // The compositions of elementwise.def against libm.
  const std::pair<const char*, std::pair<Tensor (Tensor::*)(At) const, double (*)(double)>> table[] = {
      {"expm1", {&Tensor::expm1, [](double x) { return std::expm1(x); }}},
      {"log1p", {&Tensor::log1p, [](double x) { return std::log1p(x); }}},
      {"asin", {&Tensor::asin, [](double x) { return std::asin(x); }}},
      {"acos", {&Tensor::acos, [](double x) { return std::acos(x); }}},
      {"atan", {&Tensor::atan, [](double x) { return std::atan(x); }}},
      {"sinh", {&Tensor::sinh, [](double x) { return std::sinh(x); }}},
      {"cosh", {&Tensor::cosh, [](double x) { return std::cosh(x); }}},
      {"asinh", {&Tensor::asinh, [](double x) { return std::asinh(x); }}},
      {"atanh", {&Tensor::atanh, [](double x) { return std::atanh(x); }}},
      {"log10", {&Tensor::log10, [](double x) { return std::log10(x); }}},
      {"erfc", {&Tensor::erfc, [](double x) { return std::erfc(x); }}},
  };
  for (auto& [name, f] : table)
    for (double scale : {1., 1e-6}) {
      D in = spread(64, -.99, .99), want;
      for (double& v : in) want.push_back(f.second(v *= scale));
      {
        Scoped reference(ctx.DEV, "REF");  // F64 shows the composition's error, not a decomposition's
        expect_near((of(in, {64}).*f.first)(At::current()), want, 1e-15 * 8, name);
      }
      D narrow, again;
      for (double v : in) narrow.push_back(float(v)), again.push_back(f.second(float(v)));
      expect_near((of(in, {64}, F32).*f.first)(At::current()), again, 1e-6, std::string(name) + " in f32");
    }
  expect_near(tensor({-infinity, -100., 0., 100., infinity}).atan(),
              {-M_PI_2, std::atan(-100.), 0, std::atan(100.), M_PI_2}, 1e-15, "atan");
  expect_near(tensor({-100.f, 0.f, 100.f}).softplus(), {0, std::log(2.), 100}, 1e-6, "softplus");
  expect_near(tensor({INFINITY, -1.f}).log1p(), {INFINITY, -INFINITY}, 0, "log1p");
}
TEST(Math, matmul) {
  Tensor a = values({2, 3, 4}), b = values({4, 5}, F64, -2, 2, 1);
  D x = numbers(a), y = numbers(b), want;
  for (int i = 0; i < 6; i++)
    for (int j = 0; j < 5; j++) {
      double sum = 0;
      for (int k = 0; k < 4; k++) sum += x[size_t(4 * i + k)] * y[size_t(5 * k + j)];
      want.push_back(sum);
    }
  expect_near(a.matmul(b), want, 1e-12, "matmul");
  expect_near(einsum("nij,jk->nik", {a, b}), want, 1e-12, "einsum");
  expect_near(einsum("nij, jk", {a, b}).permute({2, 0, 1}), want, 1e-12, "einsum without output");
  Tensor c = values({3, 4, 2}), d = values({2, 1, 2, 4}, F64, -2, 2, 1),
         product = d.matmul(c);  // batches (3) and (2, 1)
  ASSERT_EQ(shape_of(product), (Shape{2, 3, 2, 2}));
  for (i64 i = 0; i < 2; i++)
    for (i64 j = 0; j < 3; j++) expect_near(product[i][j], numbers(d[i][0].matmul(c[j])), 1e-12, "matmul of batches");
  EXPECT_EQ(shape_of(values({4}).matmul(c)), (Shape{3, 2}));
  EXPECT_EQ(shape_of(values({4}).matmul(b)), Shape{5});
  EXPECT_EQ(shape_of(a.matmul(values({4}))), (Shape{2, 3}));
  EXPECT_EQ(values({4}).matmul(values({4})).dim(), 0);
  EXPECT_EQ(tensor({{1, 2}}).matmul(tensor({{3}, {4}})).item<i64>(), 11);
}
TEST(Math, convolution) {
  struct Case {
    i64 n, c, h, w, o, kh, kw, groups;
    std::array<i64, 2> stride, dilation;
    std::array<i64, 4> padding;
  };
  for (const Case& t : {Case{2, 3, 6, 5, 4, 3, 2, 1, {1, 1}, {1, 1}, {0, 0, 0, 0}},
                        Case{1, 4, 7, 8, 6, 3, 3, 2, {2, 3}, {1, 2}, {1, 2, 0, 3}},
                        Case{1, 2, 5, 5, 2, 1, 1, 2, {2, 2}, {1, 1}, {0, 0, 0, 0}},
                        Case{1, 1, 6, 6, 1, 2, 2, 1, {2, 2}, {1, 1}, {1, 1, 1, 1}}}) {
    Tensor x = values({t.n, t.c, t.h, t.w}), w = values({t.o, t.c / t.groups, t.kh, t.kw}, F64, -1, 1, 1),
           b = values({t.o}, F64, -1, 1, 2);
    D xs = numbers(x), ws = numbers(w), bs = numbers(b), want;
    i64 oh = (t.h + t.padding[0] + t.padding[1] - t.dilation[0] * (t.kh - 1) - 1) / t.stride[0] + 1;
    i64 ow = (t.w + t.padding[2] + t.padding[3] - t.dilation[1] * (t.kw - 1) - 1) / t.stride[1] + 1,
        cg = t.c / t.groups;
    for (i64 n = 0; n < t.n; n++)
      for (i64 o = 0; o < t.o; o++)
        for (i64 i = 0; i < oh; i++)
          for (i64 j = 0; j < ow; j++) {
            double sum = bs[size_t(o)];
            for (i64 c = 0; c < cg; c++)
              for (i64 k = 0; k < t.kh; k++)
                for (i64 l = 0; l < t.kw; l++) {
                  i64 y = i * t.stride[0] + k * t.dilation[0] - t.padding[0],
                      z = j * t.stride[1] + l * t.dilation[1] - t.padding[2];
                  if (y < 0 || y >= t.h || z < 0 || z >= t.w) continue;
                  i64 channel = o / (t.o / t.groups) * cg + c;
                  sum += xs[size_t(((n * t.c + channel) * t.h + y) * t.w + z)] *
                         ws[size_t(((o * cg + c) * t.kh + k) * t.kw + l)];
                }
            want.push_back(sum);
          }
    ConvOptions o{.stride = {t.stride[0], t.stride[1]},
                  .padding = std::span<const i64>(t.padding),
                  .dilation = {t.dilation[0], t.dilation[1]},
                  .groups = t.groups};
    expect_near(conv2d(x, w, b, o), want, 1e-12, "conv2d");
    expect_near(conv2d(x.to(F32), w.to(F32), b.to(F32), o), want, 1e-5, "conv2d, f32");
  }
}
TEST(Math, attention_mask) {
  Tensor q = values({2, 3}), k = values({2, 3}, F64, -2, 2, 1), v = values({2, 3}, F64, -2, 2, 2);
  Tensor only_first = scaled_dot_product_attention(q, k, v, tensor({{true, false}, {true, false}}));
  expect_near(only_first, numbers(v[0].expand({2, 3})), 1e-12, "mask");
}

TEST(Memory, assign) {
  Tensor t = tensor({1.f, 2.f, 3.f}), before = t * 10, alias = t;
  t += 1;
  t[{0}];
  t.slice_assign({Slice{1, 3}}, tensor({7, 8}));
  alias *= 2;
  expect_near(t, {4, 14, 16}, 0, "written");
  expect_near(before, {10, 20, 30}, 0, "computed from the old value");
  EXPECT_TRUE(t.same(alias));
  Tensor lazy = zeros({2, 2});
  lazy.slice_assign({1}, 5);
  lazy.slice_assign({Slice{}, 0}, tensor({1, 2}));
  expect_near(lazy, {1, 0, 2, 5}, 0, "an unrealised tensor");
  Tensor view = t.reshape({3, 1});
  view.assign(0);
  expect_near(view, {0, 0, 0}, 0, "view");
  EXPECT_EQ(error_of([&] { t.assign(ones(2)); }),
            "expand of f32 (2) to (3): axes of size 1 repeat, others keep their size");
}
TEST(Memory, conversions) {
  Tensor t = tensor({1.5f, -2.5f});
  EXPECT_EQ(t.to_vector<int>(), (std::vector<int>{1, -2}));
  EXPECT_EQ(t.to(F16).bitcast(U16).to_vector<int>(), (std::vector<int>{0x3E00, 0xC100}));
  EXPECT_EQ(str(t), "f32 (2) (1.5, -2.5)");
  EXPECT_EQ(tensor({true, false}).to_vector<bool>(), (std::vector<bool>{true, false}));
  EXPECT_EQ(zeros({0, 3}).to_vector<float>().size(), 0u);
}
TEST(Memory, sources_name_the_users_line) {
  Tensor x = ones(3).contiguous().realize(), y = x.exp() + 1;
  i64 line = __LINE__ - 1;
  EXPECT_EQ(source_of(y.uop()), str("tests/tensor/math.cc:", line));
  EXPECT_EQ(source_of(y.uop()->src(0)), str("tests/tensor/math.cc:", line));
  Tensor d = gradient(y.sum(), {x})[0];  // named by the line it is the gradient of
  EXPECT_EQ(source_of(d.uop()), str("tests/tensor/math.cc:", line));
}

}  // namespace
}  // namespace ingot
