// SPDX-License-Identifier: MIT
// A tensor program against the installed library: fits a line to points by gradient descent.
//   c++ -std=c++20 hello.cc $(pkg-config --cflags --libs ingot) -o hello && ./hello && DEBUG=2 ./hello
// prints: y = 3.00 x + 0.50
#include <ingot/tensor.h>

#include <cstdio>

int main() {
  using namespace ingot;
  Tensor x = arange(16).to(F32) / 16, y = x * 3 + 0.5;
  Tensor a = zeros({1}).requires_grad_(), b = zeros({1}).requires_grad_();
  for (int step = 0; step < 400; step++) {
    std::vector<Tensor> slope = gradient((a * x + b - y).square().mean(), {a, b});
    a.assign(a - slope[0] * 0.5);
    b.assign(b - slope[1] * 0.5);
    realize(a, b);  // lazy until here: one graph, fused, compiled once
  }
  std::printf("y = %.2f x + %.2f\n", a.item(), b.item());
}
