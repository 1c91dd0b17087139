// SPDX-License-Identifier: MIT
// Gradients against central differences in F64 on the reference evaluator, then the same gradient in F32 on the device
// that DEV names against it. Second order: Hessian-vector products against differences of gradients.
#include "tests/tensor/tensor_test.h"

namespace ingot {
namespace {

using Inputs = std::vector<Tensor>;
using Function = std::function<Tensor(const Inputs&)>;
struct Case {
  std::string name;
  Function f;
  std::vector<Shape> shapes;
  double low = -2, high = 2;
};

Inputs inputs_of(const Case& c, DType dtype) {
  Inputs in;
  for (const Shape& s : c.shapes) in.push_back(values(s, dtype, c.low, c.high, int(in.size())));
  return in;
}
Tensor loss_of(const Case& c, const Inputs& in) {  // weighted, so that no symmetry hides an error
  Tensor y = c.f(in);
  Shape s(y.shape().begin(), y.shape().end());
  return (y * values(s, y.dtype(), -1, 1, 7)).sum();
}
std::vector<double> flat(const std::vector<Tensor>& tensors) {
  std::vector<double> out;
  for (const Tensor& t : tensors)
    for (double v : t.to_vector<double>()) out.push_back(v);
  return out;
}
// d/d(step) of g along `direction`, central
std::vector<double> difference(const std::function<std::vector<double>(const Inputs&)>& g, const Inputs& in,
                               const std::vector<double>& direction) {
  constexpr double h = 1e-5;
  std::vector<double> side[2];
  for (int k = 0; k < 2; k++) {
    Inputs moved;
    size_t at = 0;
    for (const Tensor& t : in) {
      std::vector<double> v = t.to_vector<double>();
      for (double& x : v) x += (k ? h : -h) * direction[at++];
      moved.push_back(of(v, {t.shape().begin(), t.shape().end()}));
    }
    side[k] = g(moved);
  }
  for (size_t i = 0; i < side[0].size(); i++) side[1][i] = (side[1][i] - side[0][i]) / (2 * h);
  return side[1];
}
void expect_close(const std::vector<double>& got, const std::vector<double>& want, double tolerance,
                  const std::string& what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  double scale = 1;
  for (double w : want) scale = std::max(scale, std::abs(w));
  for (size_t i = 0; i < want.size(); i++) ASSERT_NEAR(got[i], want[i], tolerance * scale) << what << ", element " << i;
}
void check_gradient(const Case& c) {
  std::vector<double> exact;
  {
    Scoped reference(ctx.DEV, "REF");
    Inputs in = inputs_of(c, F64);
    exact = flat(gradient(loss_of(c, in), in));
    std::vector<double> numeric;
    for (size_t i = 0; i < exact.size(); i++) {
      std::vector<double> direction(exact.size(), 0);
      direction[i] = 1;
      numeric.push_back(
          difference([&](const Inputs& x) { return loss_of(c, x).to_vector<double>(); }, in, direction)[0]);
    }
    expect_close(exact, numeric, 2e-7, c.name);
  }
  Inputs in = inputs_of(c, F32);
  expect_close(flat(gradient(loss_of(c, in), in)), exact, 2e-4, c.name + " on the device");
}
void check_second_order(const Case& c) {
  Scoped reference(ctx.DEV, "REF");
  Inputs in = inputs_of(c, F64), direction;
  for (const Tensor& t : in) direction.push_back(values({t.shape().begin(), t.shape().end()}, F64, -1, 1, 3));
  std::vector<Tensor> g = gradient(loss_of(c, in), in);
  Tensor along = zeros({}, F64);
  for (size_t i = 0; i < in.size(); i++) along = along + (g[i] * direction[i]).sum();
  std::vector<double> exact = flat(gradient(along, in));
  expect_close(exact,
               difference([&](const Inputs& x) { return flat(gradient(loss_of(c, x), x)); }, in, flat(direction)), 1e-6,
               c.name + ", second order");
}

TEST(Grad, elementwise_table) {
#define UNARY(name, low, high, value, what) \
  if (low < high) check_gradient({#name, [](const Inputs& x) { return x[0].name(); }, {{7}}, low, high});
#define BINARY(...)
#include "compiler/tensor/elementwise.def"
#undef UNARY
#undef BINARY
}
// clang-format off
#define F [](const Inputs& x)
TEST(Grad, elementwise) {
  const Case cases[] = {
    {"add", F{ return x[0] + x[1]; }, {{2, 3}, {3}}},
    {"sub", F{ return x[0] - x[1]; }, {{2, 1}, {3}}},
    {"mul", F{ return x[0] * x[1]; }, {{2, 3}, {2, 3}}},
    {"mul with itself", F{ return x[0] * x[0] * x[0]; }, {{5}}},
    {"scalar tensor", F{ return x[0] * x[1] + x[1]; }, {{2, 3}, {}}},
    {"div", F{ return x[0] / x[1]; }, {{2, 3}, {3}}, .3, 2},
    {"pow", F{ return x[0].pow(x[1]); }, {{2, 3}, {3}}, .3, 2},
    {"pow 3", F{ return x[0].pow(3); }, {{5}}},
    {"pow -2", F{ return x[0].pow(-2); }, {{5}}, .3, 2},
    {"pow 2.5", F{ return x[0].pow(2.5); }, {{5}}, .3, 2},
    {"number over", F{ return 2 / x[0]; }, {{5}}, .3, 2},
    {"maximum", F{ return x[0].maximum(x[1]); }, {{6}, {6}}},
    {"minimum", F{ return x[0].minimum(x[1]); }, {{6}, {6}}},
    {"where", F{ return where(x[0] > x[1], x[0] * 2, x[1].square()); }, {{6}, {6}}},
    {"clamp", F{ return x[0].clamp(-1, 1) * x[0]; }, {{7}}},
    {"leaky_relu", F{ return x[0].leaky_relu(.1); }, {{7}}},
    {"elu", F{ return x[0].elu(1.5); }, {{7}}},
    {"softplus", F{ return x[0].softplus(2); }, {{7}}},
    {"gelu", F{ return x[0].gelu(); }, {{7}}},
    {"gelu tanh", F{ return x[0].gelu("tanh"); }, {{7}}},
    {"lerp", F{ return x[0].lerp(x[1], x[2]); }, {{4}, {4}, {4}}},
    {"remainder", F{ return x[0].remainder(0.7); }, {{7}}, .1, .6},
    {"masked_fill", F{ return x[0].masked_fill(x[0] < 0, 3) * x[0]; }, {{7}}},
    {"detach", F{ return x[0] + (x[0] * 5).detach() * 0; }, {{3}}},
    {"contiguous", F{ return (x[0] * 2).contiguous().exp(); }, {{3}}},
  };
  for (const Case& c : cases) check_gradient(c);
}
TEST(Grad, movement) {
  const Case cases[] = {
    {"reshape", F{ return x[0].reshape({3, -1}).square(); }, {{2, 3}}},
    {"expand", F{ return x[0].expand({4, 2, 3}).square(); }, {{2, 1}}},
    {"permute", F{ return x[0].permute({2, 0, 1}).square(); }, {{2, 3, 2}}},
    {"pad", F{ return x[0].pad({1, 2, 0, 1}, 3).square(); }, {{2, 3}}},
    {"pad reflect", F{ return x[0].pad({2, 1}, 0, "reflect").square(); }, {{2, 4}}},
    {"pad circular", F{ return x[0].pad({2, 1}, 0, "circular").square(); }, {{2, 3}}},
    {"pad replicate", F{ return x[0].pad({2, 1}, 0, "replicate").square(); }, {{2, 3}}},
    {"index", F{ return x[0][{1, Slice{{}, {}, -2}, None}].square(); }, {{2, 5}}},
    {"flip", F{ return x[0].flip({0, 1}).square(); }, {{2, 3}}},
    {"cat", F{ return cat({x[0], x[1], x[0]}, 1).square(); }, {{2, 2}, {2, 1}}},
    {"stack", F{ return stack({x[0], x[1]}, -1).square(); }, {{2, 2}, {2, 2}}},
    {"repeat", F{ return x[0].repeat({2, 1, 2}).square(); }, {{2, 2}}},
    {"roll", F{ return x[0].roll({1, -1}, {0, 1}).square(); }, {{3, 3}}},
    {"tril", F{ return x[0].tril(-1).square(); }, {{3, 3}}},
    {"diagonal", F{ return x[0].diagonal().square(); }, {{3, 4}}},
    {"gather", F{ return x[0].gather(1, tensor({{0, 0}, {2, 1}})).square(); }, {{2, 3}}},
    {"index_select", F{ return x[0].index_select(0, tensor({2, 0, 2, 2})).square(); }, {{3, 2}}},
    {"scatter", F{ return x[0].scatter(1, tensor({{0, 0}, {2, 1}}), x[1]).square(); }, {{2, 3}, {2, 2}}},
    {"scatter_add", F{ return x[0].scatter_add(1, tensor({{0, 0}, {2, 1}}), x[1]).square(); }, {{2, 3}, {2, 2}}},
    {"windows", F{ return x[0].windows({2, 3}, {2, 1}, {2, 1}).square(); }, {{5, 4}}},
    {"embedding", F{ return embedding(tensor({{1, 0}, {1, 1}}), x[0]).square(); }, {{3, 2}}},
  };
  for (const Case& c : cases) check_gradient(c);
}
TEST(Grad, reductions) {
  const Case cases[] = {
    {"sum", F{ return x[0].square().sum(1); }, {{2, 3}}},
    {"sum all", F{ return x[0].square().sum() * 2; }, {{2, 3}}},
    {"mean", F{ return x[0].square().mean({0, 2}, true); }, {{2, 3, 2}}},
    {"prod", F{ return x[0].prod(1); }, {{2, 3}}},
    {"amax", F{ return x[0].square().amax(1); }, {{2, 3}}},
    {"amin", F{ return x[0].square().amin({0, 1}); }, {{2, 3}}},
    {"var", F{ return x[0].var(1); }, {{2, 4}}},
    {"std", F{ return x[0].std(0, 0, true); }, {{4, 2}}},
    {"norm", F{ return x[0].norm(1); }, {{2, 3}}},
    {"logsumexp", F{ return x[0].logsumexp(1); }, {{2, 3}}},
    {"softmax", F{ return x[0].softmax(1); }, {{2, 3}}},
    {"log_softmax", F{ return x[0].log_softmax(0); }, {{2, 3}}},
    {"cumsum", F{ return x[0].square().cumsum(1); }, {{2, 4}}},
    {"cumprod", F{ return x[0].cumprod(0); }, {{4, 2}}},
  };
  for (const Case& c : cases) check_gradient(c);
}
TEST(Grad, products) {
  const Case cases[] = {
    {"matmul", F{ return x[0].matmul(x[1]).square(); }, {{2, 3}, {3, 2}}},
    {"matmul batched", F{ return x[0].matmul(x[1]).square(); }, {{2, 1, 2, 3}, {2, 3, 2}}},
    {"matmul vector", F{ return x[0].matmul(x[1]).square(); }, {{3}, {3, 2}}},
    {"linear", F{ return linear(x[0], x[1], x[2]).square(); }, {{2, 3}, {2, 3}, {2}}},
    {"einsum", F{ return einsum("bij,kj->bki", {x[0], x[1]}).square(); }, {{2, 2, 3}, {2, 3}}},
    {"conv2d", F{
       return conv2d(x[0], x[1], x[2], {.stride = {2, 1}, .padding = {1, 0, 2, 1}, .dilation = {1, 2}, .groups = 2}).square();
     }, {{1, 4, 4, 4}, {4, 2, 2, 2}, {4}}},
    {"conv_transpose2d", F{
       return conv_transpose2d(x[0], x[1], x[2], {.stride = 2, .padding = 1, .dilation = {1, 2}, .groups = 2, .output_padding = 1}).square();
     }, {{1, 4, 2, 3}, {4, 1, 3, 2}, {2}}},
    {"max_pool2d", F{ return max_pool2d(x[0], 2, {.stride = 1, .padding = 1}).square(); }, {{1, 1, 3, 4}}},
    {"max_pool2d apart", F{ return max_pool2d(x[0], 2).square(); }, {{1, 2, 5, 4}}},
    {"avg_pool2d", F{
       return avg_pool2d(x[0], 3, {.stride = 2, .padding = 1, .count_include_pad = false}).square();
     }, {{1, 1, 5, 4}}},
    {"batch_norm", F{
       auto [v, m] = x[0].var_mean({0, 2}, 0);
       return batch_norm(x[0], m, v, x[1], x[2]).square();
     }, {{3, 2, 2}, {2}, {2}}},
    {"layer_norm", F{ return layer_norm(x[0], {2, 3}, x[1], x[2]).square(); }, {{2, 2, 3}, {2, 3}, {2, 3}}},
    {"group_norm", F{ return group_norm(x[0], 2, x[1], x[2]).square(); }, {{2, 4, 2}, {4}, {4}}},
    {"rms_norm", F{ return rms_norm(x[0], x[1]).square(); }, {{2, 3}, {3}}},
    {"attention", F{
       return scaled_dot_product_attention(x[0], x[1], x[2], {}, true);
     }, {{1, 3, 2}, {1, 3, 2}, {1, 3, 2}}},
    {"cross_entropy", F{ return cross_entropy(x[0], tensor({1, 2}), {.label_smoothing = .1}); }, {{2, 3}}},
    {"cross_entropy of probabilities", F{ return cross_entropy(x[0], x[1]); }, {{2, 3}, {2, 3}}},
    {"nll_loss", F{ return nll_loss(x[0], tensor({1, 5, 0}), {.ignore_index = 5}); }, {{3, 3}}},
    {"mse_loss", F{ return mse_loss(x[0], x[1]); }, {{2, 3}, {2, 3}}},
    {"binary_cross_entropy", F{ return binary_cross_entropy(x[0], x[1]); }, {{4}, {4}}, .1, .9},
    {"binary_cross_entropy_with_logits", F{ return binary_cross_entropy_with_logits(x[0], x[1]); }, {{4}, {4}}},
  };
  for (const Case& c : cases) check_gradient(c);
}
TEST(Grad, second_order) {
  const Case cases[] = {
    {"elementwise", F{ return x[0].tanh() * x[1].exp() + (x[0] * x[1]).sin(); }, {{4}, {4}}},
    {"div, log, sqrt", F{ return (x[0] / x[1]).log() * x[0].sqrt(); }, {{4}, {4}}, .3, 2},
    {"prod", F{ return x[0].prod(1); }, {{2, 3}}},
    {"convnet", F{
       Tensor h = conv2d(x[0], x[1], x[2], {.padding = 1});
       auto [v, m] = h.var_mean({0, 2, 3}, 0);
       h = max_pool2d(batch_norm(h, m, v).relu(), 2);
       return cross_entropy(linear(h.flatten(1), x[3]), tensor({0, 2}));
     }, {{2, 1, 4, 4}, {2, 1, 3, 3}, {2}, {3, 8}}},
    {"strided convolution", F{
       return conv2d(x[0], x[1], {}, {.stride = 2, .dilation = 2}).tanh().sum();
     }, {{1, 1, 5, 5}, {2, 1, 2, 2}}},
    {"attention block", F{
       Tensor h = layer_norm(x[0], 4), q = h.matmul(x[1]), k = h.matmul(x[2]), v = h.matmul(x[3]);
       h = x[0] + scaled_dot_product_attention(q, k, v, {}, true);
       return h + h.matmul(x[1]).gelu("tanh");
     }, {{1, 3, 4}, {4, 4}, {4, 4}, {4, 4}}, -1, 1},
  };
  for (const Case& c : cases) check_second_order(c);
}
#undef F
// clang-format on

TEST(Grad, ties) {
  Tensor x = tensor({1.f, 3.f, 3.f, 2.f});
  expect_near(gradient(x.amax(), {x})[0], {0, .5, .5, 0}, 0, "amax shares");
  expect_near(gradient(x.maximum(tensor({3.f, 3.f, 1.f, 2.f})).sum(), {x})[0], {0, .5, 1, .5}, 0, "maximum halves");
  expect_near(gradient((x - 3).relu().sum(), {x})[0], {0, 0, 0, 0}, 0, "relu passes nothing at 0");
}
TEST(Grad, prod_with_zeros) {
  Tensor x = tensor({{2.f, 0.f, 3.f}, {0.f, 0.f, 4.f}, {1.f, 2.f, 3.f}});
  expect_near(gradient(x.prod(1).sum(), {x})[0], {0, 6, 0, 0, 0, 0, 6, 3, 2}, 0, "prod");
}
TEST(Grad, backward_accumulates_into_leaves) {
  Tensor w = tensor({1.f, 2.f}).requires_grad_(), b = zeros(2).requires_grad_(), c = zeros(2).requires_grad_();
  Tensor x = tensor({3.f, 4.f});
  EXPECT_NE(b.uop(), c.uop());  // equal values, different leaves
  (w * x + b).sum().backward();
  expect_near(w.grad(), {3, 4}, 0, "w");
  expect_near(b.grad(), {1, 1}, 0, "b");
  EXPECT_FALSE(c.grad().defined());
  (w * w).sum().backward();
  expect_near(w.grad(), {5, 8}, 0, "w, summed");
  w.zero_grad();
  EXPECT_FALSE(w.grad().defined());
}
TEST(Grad, upstream_and_errors) {
  Tensor x = tensor({1.f, 2.f}).requires_grad_();
  expect_near(gradient(x * 3, {x}, tensor({10.f, 1.f}))[0], {30, 3}, 0, "upstream");
  expect_near(gradient(x.sum(), {ones({2, 2})})[0], {0, 0, 0, 0}, 0, "independent");
  EXPECT_EQ(
      error_of([&] { (x * 3).backward(); }).find("the gradient of a tensor f32 (2): it has more than one element"), 0u);
  Tensor y = (x * 3).sum().realize();
  EXPECT_NE(error_of([&] { y.backward(); }).find("has no history"), std::string::npos);
  EXPECT_NE(error_of([&] { gradient(x * 3, {x}, ones(3)); }).find("(3) for f32 (2): shapes must be equal"),
            std::string::npos);
  EXPECT_NE(error_of([&] { tensor({1}).requires_grad_(); }).find("only floats"), std::string::npos);
}

}  // namespace
}  // namespace ingot
