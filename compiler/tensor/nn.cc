// SPDX-License-Identifier: MIT
// The layers' first weights and what they do beyond one function of tensor.h. Names, shapes and initial distributions
// are torch's (PyTorch documentation, torch.nn), so that its checkpoints load.
#include "compiler/tensor/nn.h"
#include <cmath>

namespace ingot::nn {
namespace {

thread_local bool training = false;

Tensor weight_of(Ints shape) { return kaiming_uniform(shape).requires_grad_(); }
Tensor bias_of(bool wanted, i64 n, i64 fan_in) {
  double bound = 1 / std::sqrt(double(fan_in));
  return wanted ? uniform(n, -bound, bound).requires_grad_() : Tensor();
}
Tensor constant_of(bool wanted, Ints shape, double value) {
  return wanted ? full(shape, value, F32).requires_grad_() : Tensor();
}

}  // namespace

bool is_training() { return training; }
Training::Training(bool on) : outer(training) { training = on; }
Training::~Training() { training = outer; }

void load_state_dict(StateDict to, const StateDict& from) {
  std::string trouble;
  for (auto& [name, t] : to) {
    auto it = from.find(name);
    if (it == from.end())
      trouble += str("\n  missing ", name, ", ", t.describe());
    else if (!std::ranges::equal(t.shape(), it->second.shape()))
      trouble += str("\n  ", name, " is ", it->second.describe(), ", expected ", t.describe());
  }
  for (auto& [name, t] : from)
    if (!to.count(name)) trouble += str("\n  unexpected ", name, ", ", t.describe());
  if (!trouble.empty()) throw Error("state does not fit the model:", trouble);
  std::vector<Tensor> changed;
  for (auto& [name, t] : to) changed.push_back(t.assign(from.at(name)));
  realize(std::span<const Tensor>(changed));
}

Linear::Linear(i64 in, i64 out, bool with_bias) : weight(weight_of({out, in})), bias(bias_of(with_bias, out, in)) {}
Conv2d::Conv2d(i64 in, i64 out, Ints window, const ConvOptions& o, bool with_bias) : options(o) {
  if (o.groups < 1 || in % o.groups || out % o.groups)
    throw Error("Conv2d from ", in, " to ", out, " channels in ", o.groups, " groups");
  i64 h = window[0], w = window.size() > 1 ? window[1] : h;
  weight = weight_of({out, in / o.groups, h, w}), bias = bias_of(with_bias, out, in / o.groups * h * w);
}
BatchNorm2d::BatchNorm2d(i64 n, double eps, double momentum, bool affine)
    : weight(constant_of(affine, n, 1)), bias(constant_of(affine, n, 0)), eps(eps), momentum(momentum) {
  std::vector<float> zero(size_t(n), 0), one(size_t(n), 1);
  running_mean = tensor(zero), running_var = tensor(one), num_batches_tracked = tensor(i64(0));
}
Tensor BatchNorm2d::operator()(const Tensor& x, At at) const {
  Here here(at);
  if (!training) return batch_norm(x, running_mean, running_var, weight, bias, eps);
  Shape axes = {0};
  for (i64 i = 2; i < x.dim(); i++) axes.push_back(i);
  auto [var, mean] = x.var_mean(axes, 0);
  double n = double(x.numel()) / double(x.size(1));  // the running variance is the unbiased one
  Tensor new_mean = running_mean, new_var = running_var, seen = num_batches_tracked;
  new_mean.assign(running_mean * (1 - momentum) + mean.detach() * momentum);
  new_var.assign(running_var * (1 - momentum) + var.detach() * (momentum * n / std::max(n - 1, 1.0)));
  seen.assign(seen + 1);
  for (const Tensor& t : {new_mean, new_var, seen}) realize_with_next(t);
  return batch_norm(x, mean, var, weight, bias, eps);
}
LayerNorm::LayerNorm(Ints s, double eps, bool affine)
    : weight(constant_of(affine, s, 1)), bias(constant_of(affine, s, 0)), shape(s.vec()), eps(eps) {}
GroupNorm::GroupNorm(i64 groups, i64 channels, double eps, bool affine)
    : weight(constant_of(affine, channels, 1)), bias(constant_of(affine, channels, 0)), groups(groups), eps(eps) {}
RMSNorm::RMSNorm(i64 width, double eps) : weight(constant_of(true, width, 1)), eps(eps) {}
Embedding::Embedding(i64 classes, i64 width) : weight(randn({classes, width}).requires_grad_()) {}

MultiheadAttention::MultiheadAttention(i64 width, i64 heads, double dropout_p)
    : in_proj_weight(xavier_uniform({3 * width, width}).requires_grad_()),
      in_proj_bias(constant_of(true, 3 * width, 0)),
      out_proj(width, width),
      heads(heads),
      p(dropout_p) {
  if (heads < 1 || width % heads) throw Error("attention of width ", width, " in ", heads, " heads: must divide");
  out_proj.bias = constant_of(true, width, 0);
}
Tensor MultiheadAttention::operator()(const Tensor& x, const Tensor& mask, bool is_causal, At at) const {
  Here here(at);
  if (x.dim() != 3) throw Error("MultiheadAttention of ", x.describe(), ": expected (N, L, E)");
  i64 n = x.size(0), l = x.size(1), e = x.size(2);
  Tensor qkv = linear(x, in_proj_weight, in_proj_bias).reshape({n, l, 3, heads, e / heads}).permute({2, 0, 3, 1, 4});
  Tensor y = scaled_dot_product_attention(qkv[0], qkv[1], qkv[2], mask, is_causal, training ? p : 0);
  return out_proj(y.transpose(1, 2).reshape({n, l, e}));
}

}  // namespace ingot::nn
