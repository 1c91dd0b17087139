// SPDX-License-Identifier: MIT
// The training step of the convolutional network that `make run` trains, as kernels: how many, how fast found, and that
// a small one computes what its graph says.
#include "compiler/tensor/optim.h"
#include "tests/schedule/graphs.h"

namespace ingot {
namespace {

Tensor in_memory(std::initializer_list<i64> shape, DType dtype = F32) { return Tensor(buffer(shape, dtype)); }
Tensor parameter(std::initializer_list<i64> shape) { return in_memory(shape).requires_grad_(); }

struct Norm {
  Tensor weight, bias, mean, var;
  explicit Norm(i64 n) : weight(parameter({n})), bias(parameter({n})), mean(in_memory({n})), var(in_memory({n})) {}
  Tensor operator()(const Tensor& x, std::vector<Tensor>& changed) {
    auto [v, m] = x.var_mean({0, 2, 3}, 0);
    changed.push_back(mean.assign(mean * 0.9 + m.detach() * 0.1));
    changed.push_back(var.assign(var * 0.9 + v.detach() * 0.1));
    return batch_norm(x, m, v, weight, bias, 1e-5);
  }
};

struct Step {  // what beautiful_mnist does, with `batch` images of size x size and channels c and 2c
  std::vector<U> roots;
  Step(i64 batch, i64 size, i64 c, i64 k) {
    Tensor images = in_memory({60, 1, size, size}, U8), labels = in_memory({60}, U8);
    Tensor w1 = parameter({c, 1, k, k}), b1 = parameter({c}), w2 = parameter({c, c, k, k}), b2 = parameter({c});
    Tensor w3 = parameter({2 * c, c, 3, 3}), b3 = parameter({2 * c}), w4 = parameter({2 * c, 2 * c, 3, 3}),
           b4 = parameter({2 * c});
    Norm n1(c), n2(2 * c);
    i64 half = (size - 2 * (k - 1)) / 2, quarter = (half - 4) / 2;
    Tensor w5 = parameter({10, 2 * c * quarter * quarter}), b5 = parameter({10});
    std::vector<Tensor> parameters{w1, b1, w2, b2, n1.weight, n1.bias, w3, b3, w4, b4, n2.weight, n2.bias, w5, b5},
        changed;
    std::vector<Tensor> m, v;
    Tensor count = in_memory({}), power = in_memory({}), chosen = in_memory({batch}, I64);

    Tensor x = images.index_select(0, chosen).to(F32) / 255, y = labels.index_select(0, chosen).to(I64);
    x = conv2d(x, w1, b1).relu();
    x = conv2d(x, w2, b2).relu();
    x = max_pool2d(n1(x, changed), 2);
    x = conv2d(x, w3, b3).relu();
    x = conv2d(x, w4, b4).relu();
    x = max_pool2d(n2(x, changed), 2);
    Tensor loss = cross_entropy(linear(x.flatten(1), w5, b5), y);
    loss.backward();
    roots.push_back(loss.uop());
    for (Tensor& t : changed) roots.push_back(t.uop());
    changed = {count.assign(count * 0.9), power.assign(power * 0.999)};
    Tensor rate = 1e-3 / (1 - count), scale = (1 + power * power).rsqrt();
    for (Tensor& p : parameters) {
      Tensor g = p.grad(), m = Tensor(buffer(p.shape())), v = Tensor(buffer(p.shape()));
      Tensor m1 = m * 0.9 + g * 0.1, v1 = v * 0.999 + g * g * 0.001;
      Tensor p1 = p - rate * m1 / (v1.sqrt() * scale + 1e-8);
      changed.insert(changed.end(), {m.assign(m1), v.assign(v1), p.assign(p1)});
    }
    for (Tensor& t : changed) roots.push_back(t.uop());
  }
};

TEST(Convnet, TrainingStep) {
  Step step(512, 28, 32, 5);
  auto fresh = [](U root) { return buffer(root->shape(), root->dtype); };
  i64 best = i64(1) << 60;
  Schedule s;
  for (int i = 0; i < 5; i++) {
    i64 start = now_ns();
    s = schedule(step.roots, fresh);
    best = std::min(best, now_ns() - start);
  }
  RecordProperty("kernels", int(s.kernels.size()));
  RecordProperty("microseconds", int(best / 1000));
  EXPECT_LE(s.kernels.size(), 60u);
  EXPECT_LT(best, 100'000'000);  // 4 ms without sanitizers and company; far from it means something is quadratic
}
TEST(Convnet, SmallStepComputesItsGraph) {
  Step step(3, 16, 2, 3);
  run_and_compare(step.roots, World(5), 1e-4);
}
TEST(Convnet, ChainOfManyNodes) {
  U x = buffer({4}), y = x;
  for (int i = 0; i < 50'000; i++) y = add(y, i % 2 ? number(1) : x);
  EXPECT_GE(kernels_of({y}), 10u);  // kernels have bounded size
}

}  // namespace
}  // namespace ingot
