// SPDX-License-Identifier: MIT
// What the tensor tests share: test values, and comparison of tensors with numbers.
#pragma once
#include <gtest/gtest.h>
#include <cmath>
#include "compiler/tensor/tensor.h"

namespace ingot {

inline i64 product(const Shape& shape) {
  i64 n = 1;
  for (i64 s : shape) n *= s;
  return n;
}
// Numbers spread over (low, high) that repeat nowhere and follow no axis; other numbers for another `seed`.
inline std::vector<double> spread(i64 n, double low = -2, double high = 2, int seed = 0) {
  std::vector<double> out;
  for (i64 i = 0; i < n; i++) {
    double u = std::fmod(0.754877666246693 * double(i + 1) + 0.569840290998053 * (seed + 1), 1);
    out.push_back(low + (high - low) * (0.02 + 0.96 * u));
  }
  return out;
}
inline Tensor values(const Shape& shape, DType dtype = F64, double low = -2, double high = 2, int seed = 0) {
  return from_data(std::span<const double>(spread(product(shape), low, high, seed)), shape).to(dtype).realize();
}
inline Tensor of(const std::vector<double>& data, const Shape& shape, DType dtype = F64) {
  return from_data(std::span<const double>(data), shape).to(dtype).realize();
}
inline void expect_near(const Tensor& got, const std::vector<double>& want, double tolerance, const std::string& what) {
  std::vector<double> values = got.to_vector<double>();
  ASSERT_EQ(values.size(), want.size()) << what;
  for (size_t i = 0; i < want.size(); i++) {
    if (std::isnan(want[i]) && std::isnan(values[i])) continue;
    if (std::isinf(want[i]) && values[i] == want[i]) continue;
    ASSERT_NEAR(values[i], want[i], tolerance * std::max(1.0, std::abs(want[i]))) << what << ", element " << i;
  }
}
template <class F>
std::string error_of(F f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

}  // namespace ingot
