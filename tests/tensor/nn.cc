// SPDX-License-Identifier: MIT
// Layers, state dictionaries and optimisers against PyTorch (expected_torch.def, made by expected_torch.py); captured
// steps.
#include "compiler/tensor/nn.h"
#include <set>
#include "compiler/tensor/optim.h"
#include "tests/tensor/tensor_test.h"

namespace ingot {
struct Block {
  nn::Conv2d conv;
  nn::BatchNorm2d norm;
  Tensor operator()(const Tensor& x) const { return norm(conv(x)).relu(); }
};
struct Model {
  Block first{.conv = {1, 2, 3}, .norm = nn::BatchNorm2d(2)};
  std::vector<nn::Linear> layers{{8, 4}, {4, 3}};
  std::optional<nn::LayerNorm> norm, absent;
  std::array<Tensor, 2> scales{Tensor(), tensor({2.f}).requires_grad_()};
  nn::Dropout dropout{0.5};
  double not_a_tensor = 1;
  i64 step = 0;
};
namespace {
struct Inside {  // names must not depend on linkage
  Tensor weight_2, _bias;
};

std::vector<double> expected(std::string_view name) {
#define EXPECTED(row, ...) \
  if (name == #row) return {__VA_ARGS__};
#include "tests/tensor/expected_torch.def"
#undef EXPECTED
  throw Error("no row ", name, " in expected_torch.def");
}

TEST(State, names_of_fields) {
  Model m;
  m.norm = nn::LayerNorm(4);
  std::vector<std::string> names;
  nn::visit(m, [&](const std::string& name, const Tensor&) { names.push_back(name); });
  EXPECT_EQ(names,
            (std::vector<std::string>{"first.conv.weight", "first.conv.bias", "first.norm.weight", "first.norm.bias",
                                      "first.norm.running_mean", "first.norm.running_var",
                                      "first.norm.num_batches_tracked", "layers.0.weight", "layers.0.bias",
                                      "layers.1.weight", "layers.1.bias", "norm.weight", "norm.bias", "scales.1"}));
  EXPECT_EQ(nn::parameters(m).size(), 11u);
  EXPECT_EQ(nn::state_dict(Inside{zeros(1), zeros(2)}).begin()->first, "_bias");
  EXPECT_EQ(nn::state_dict(Inside{zeros(1), zeros(2)}).rbegin()->first, "weight_2");
}
TEST(State, loads_all_or_nothing) {
  Inside to{zeros(2).contiguous().realize(), zeros(3).contiguous().realize()};
  std::string text = error_of([&] { nn::load_state_dict(to, {{"weight_2", ones(3)}, {"extra", ones(1)}}); });
  EXPECT_EQ(text,
            "state does not fit the model:\n  missing _bias, f32 (3)\n  weight_2 is f32 (3), expected f32 (2)\n  "
            "unexpected extra, f32 (1)");
  expect_near(to.weight_2, {0, 0}, 0, "unchanged");
  nn::load_state_dict(to, {{"weight_2", tensor({1, 2})}, {"_bias", tensor({3., 4., 5.})}});
  expect_near(to.weight_2, {1, 2}, 0, "weight");
  expect_near(to._bias, {3, 4, 5}, 0, "bias");
  EXPECT_EQ(to._bias.dtype(), F32);
}
TEST(Nn, batch_norm_as_torch) {
  nn::BatchNorm2d bn(4);
  bn.weight = values({4}, F32, -1, 1, 2), bn.bias = values({4}, F32, -1, 1, 3);
  Tensor x = values({2, 4, 3, 3}, F32, -2, 2, 1);
  {
    nn::Training training;
    expect_near(bn(x)[{0, Slice{0, 2}}], expected("batch_norm_training"), 2e-5, "training");
  }
  EXPECT_TRUE(bn.running_mean.is_realized());  // realised with the output
  expect_near(bn.running_mean, expected("batch_norm_mean"), 1e-6, "mean");
  expect_near(bn.running_var, expected("batch_norm_var"), 1e-6, "var");
  EXPECT_EQ(bn.num_batches_tracked.item<i64>(), 1);
  expect_near(bn(x)[{0, Slice{0, 2}}], expected("batch_norm_eval"), 2e-5, "eval");
}
TEST(Nn, layers_as_torch) {
  Tensor x = values({2, 4, 3, 3}, F32, -2, 2, 1), w = values({4}, F32, -1, 1, 2), b = values({4}, F32, -1, 1, 3);
  expect_near(group_norm(x, 2, w, b)[{1, Slice{1, 3}}], expected("group_norm"), 2e-5, "group_norm");
  nn::MultiheadAttention att(4, 2);
  att.in_proj_weight = values({12, 4}, F32, -1, 1, 2), att.in_proj_bias = values({12}, F32, -1, 1, 3);
  att.out_proj.weight = values({4, 4}, F32, -1, 1, 4), att.out_proj.bias = values({4}, F32, -1, 1, 5);
  Tensor s = values({2, 3, 4}, F32, -2, 2, 6);
  expect_near(att(s), expected("attention"), 2e-5, "attention");
  expect_near(att(s, {}, true), expected("attention_causal"), 2e-5, "attention, causal");
  expect_near(conv_transpose2d(values({1, 4, 2, 3}, F32, -2, 2, 1), values({4, 1, 3, 2}, F32, -1, 1, 2),
                               values({2}, F32, -1, 1, 3),
                               {.stride = 2, .padding = 1, .dilation = {1, 2}, .groups = 2, .output_padding = 1}),
              expected("conv_transpose2d"), 2e-5, "conv_transpose2d");
  Tensor p = values({1, 1, 5, 6}, F32, -2, 2, 4);
  expect_near(max_pool2d(p, 3, {.stride = 2, .padding = 1, .ceil_mode = true}), expected("max_pool2d_ceil"), 1e-6,
              "max_pool2d");
  expect_near(avg_pool2d(p, 3, {.stride = 2, .padding = 1, .ceil_mode = true}), expected("avg_pool2d_ceil"), 1e-6,
              "avg_pool2d");
  expect_near(avg_pool2d(p, {3, 2}, {.stride = 2, .padding = 1, .ceil_mode = true, .count_include_pad = false}),
              expected("avg_pool2d_ceil_inside"), 1e-6, "avg_pool2d, inside");
  Tensor logits = values({2, 3, 3}, F32, -2, 2, 8), classes = tensor({{0, 2, 1}, {1, 1, 0}});
  expect_near(cross_entropy(logits, classes), expected("cross_entropy"), 1e-6, "cross_entropy");
  expect_near(cross_entropy(logits, classes, {.label_smoothing = .2, .ignore_index = 1}),
              expected("cross_entropy_smooth"), 1e-6, "smooth");
  expect_near(cross_entropy(logits, classes, {.reduction = Reduction::NONE}), expected("cross_entropy_none"), 1e-6,
              "none");
}

void check_optimizer(std::string_view name,
                     const std::function<std::unique_ptr<optim::Optimizer>(std::vector<Tensor>)>& make) {
  for (bool resumed : {false, true}) {  // resumed: a new optimiser continues from the saved state after the first step
    Tensor p = values({4}, F32).requires_grad_(), target = values({4}, F32, -2, 2, 5);
    std::unique_ptr<optim::Optimizer> optimizer = make({p});
    for (int i = 0; i < 3; i++) {
      optimizer->zero_grad();
      Tensor loss = ((p - target).square() * p.sin()).sum();
      loss.backward();
      optimizer->step({loss});
      EXPECT_TRUE(loss.is_realized());
      EXPECT_TRUE(p.is_realized());
      if (i || !resumed) continue;
      nn::StateDict saved;
      for (auto& [key, t] : optimizer->state_dict())
        saved[key] = from_data(std::span<const float>(t.to_vector<float>()), t.shape());
      optimizer = make({p});
      nn::load_state_dict(optimizer->state_dict(), saved);
    }
    expect_near(p, expected(name), 1e-5, std::string(name));
  }
}
TEST(Optim, as_torch) {
  using optim::Adam, optim::AdamW, optim::SGD;
  using P = std::vector<Tensor>;
  check_optimizer("sgd", [](P p) { return std::make_unique<SGD>(p, optim::SGDOptions{.lr = .1}); });
  check_optimizer("sgd_momentum", [](P p) {
    return std::make_unique<SGD>(p, optim::SGDOptions{.lr = .1, .momentum = .9, .weight_decay = .01});
  });
  check_optimizer("sgd_nesterov", [](P p) {
    return std::make_unique<SGD>(p, optim::SGDOptions{.lr = .1, .momentum = .9, .nesterov = true});
  });
  check_optimizer("sgd_dampening", [](P p) {
    return std::make_unique<SGD>(p, optim::SGDOptions{.lr = .1, .momentum = .9, .dampening = .5});
  });
  check_optimizer("adam", [](P p) { return std::make_unique<Adam>(p, optim::AdamOptions{.lr = .1}); });
  check_optimizer("adam_decay", [](P p) {
    return std::make_unique<Adam>(
        p, optim::AdamOptions{.lr = .1, .beta1 = .8, .beta2 = .9, .eps = 1e-3, .weight_decay = .1});
  });
  check_optimizer("adamw",
                  [](P p) { return std::make_unique<AdamW>(p, optim::AdamOptions{.lr = .1, .weight_decay = .1}); });
}
TEST(Optim, learning_rate_is_a_tensor) {
  Tensor p = tensor({1.f}).requires_grad_();
  optim::SGD optimizer({p}, {.lr = 1});
  optimizer.lr.assign(.25);
  (p * 2).sum().backward();
  optimizer.step();
  EXPECT_EQ(p.item(), .5);
}
TEST(Optim, errors) {
  EXPECT_NE(error_of([] { optim::SGD({zeros(2)}, {.lr = .1}); }).find("does not require a gradient"),
            std::string::npos);
  Tensor p = zeros(2).requires_grad_();
  optim::SGD optimizer({p}, {.lr = .1});
  EXPECT_NE(error_of([&] { optimizer.step(); }).find("none of its 1 parameters has a gradient"), std::string::npos);
}

// A small training step with dropout, batch norm and Adam; losses of n steps.
std::vector<double> train(bool captured, int n) {
  manual_seed(3);
  Block block{.conv = {1, 2, 3}, .norm = nn::BatchNorm2d(2)};
  nn::Linear last(8, 3);
  std::vector<Tensor> parameters = nn::parameters(block);
  for (const Tensor& t : nn::parameters(last)) parameters.push_back(t);
  optim::Adam optimizer(parameters, {.lr = .01});
  auto step = [&](std::span<const Tensor> in) {
    nn::Training training;
    Tensor loss = cross_entropy(last(dropout(block(in[0]).flatten(1), .25)), in[1]);
    loss.backward();
    optimizer.step({loss});
    return std::vector{loss};
  };
  Captured capture(step);
  std::vector<double> losses;
  for (int i = 0; i < n; i++) {
    Tensor in[] = {values({3, 1, 4, 4}, F32, -2, 2, i),
                   from_data(std::span<const i64>(std::vector<i64>{i % 3, 1, 2}), 3)};
    losses.push_back((captured ? capture(in) : step(in))[0].item());
  }
  losses.push_back(block.norm.running_mean.sum().item());
  losses.push_back(double(random_state()[1].item<i64>()));
  return losses;
}
TEST(Captured, trains_as_the_plain_step_does) {
  std::vector<double> plain = train(false, 6);
  EXPECT_EQ(train(true, 6), plain);
  EXPECT_EQ(std::set<double>(plain.begin(), plain.end()).size(), plain.size());  // every step drew its own numbers
}
TEST(Captured, refuses_what_it_did_not_record) {
  Captured twice([](std::span<const Tensor> in) { return std::vector{(in[0] * 2).realize()}; });
  for (float v : {1.f, 2.f, 3.f, 4.f}) EXPECT_EQ(twice({tensor({v})})[0].item(), 2 * v);
  EXPECT_NE(error_of([&] { twice({tensor({1.f, 2.f})}); }), "no error");
  EXPECT_NE(error_of([&] { twice({tensor({1})}); }), "no error");
  EXPECT_EQ(
      error_of([&] { twice({tensor({1.f}) * 3}); }).find("input 0 of the captured step is not in memory: f32 (1)"), 0u);
  Captured reads([](std::span<const Tensor> in) { return std::vector{in[0] * in[0].item()}; });
  EXPECT_NE(error_of([&] { reads({tensor({1.f})}); }).find("are read inside a captured step"), std::string::npos);
}

}  // namespace
}  // namespace ingot
