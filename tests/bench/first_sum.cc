// SPDX-License-Identifier: MIT
// From process start to the first result of a small tensor sum. `make accept` measures the whole process from outside.
#include <cstdio>

#include "compiler/tensor/tensor.h"

int main() {
  using namespace ingot;
  Tensor t = tensor({1.0f, 2.0f, 3.5f});
  std::printf("%g\n", t.sum().item());
}
