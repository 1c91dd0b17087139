// SPDX-License-Identifier: MIT
// Threefry against the known answers of Random123 (kat_vectors, threefry2x32 with 20 rounds); the stream;
// distributions.
#include "tests/tensor/tensor_test.h"

namespace ingot {
namespace {

TEST(Random, known_answers) {
  const u32 rows[][6] = {
      // counter, key, result
      {0, 0, 0, 0, 0x6b200159, 0x99ba4efe},
      {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0x1cb996fc, 0xbb002be7},
      {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xc4923a9c, 0x483df7a0},
  };
  for (auto& r : rows) {
    auto [a, b] = threefry2x32(tensor({r[2]}), tensor({r[3]}), tensor({r[0]}), tensor({r[1]}));
    EXPECT_EQ(a.item<u32>(), r[4]);
    EXPECT_EQ(b.item<u32>(), r[5]);
  }
}
TEST(Random, a_stream_continues_and_repeats) {
  manual_seed(7);
  std::vector<float> first = rand(5).to_vector<float>(), second = rand(5).to_vector<float>();
  EXPECT_NE(first, second);
  manual_seed(7);
  Tensor a = rand(5), b = rand({5});  // drawn before anything is computed: the same numbers
  EXPECT_EQ(b.to_vector<float>(), second);
  EXPECT_EQ(a.to_vector<float>(), first);
  Tensor state = random_state();
  EXPECT_EQ(state.to_vector<u64>(), (std::vector<u64>{7, 10}));
  std::vector<float> third = rand(5).to_vector<float>();
  set_random_state(state);
  EXPECT_EQ(rand(5).to_vector<float>(), third);
  manual_seed(8);
  EXPECT_NE(rand(5).to_vector<float>(), first);
  EXPECT_EQ(error_of([] { set_random_state(zeros(2)); }), "random state f32 (2): expected u64 (2), {seed, counter}");
}
TEST(Random, distributions) {
  manual_seed(1);
  constexpr i64 n = 20000;
  auto moments = [](const Tensor& t) {
    std::vector<double> v = t.to_vector<double>();
    double mean = 0, square = 0, low = 1e9, high = -1e9;
    for (double x : v) mean += x / n, square += x * x / n, low = std::min(low, x), high = std::max(high, x);
    return std::array{mean, square - mean * mean, low, high};
  };
  for (DType t : {F32, F64, F16}) {
    auto [mean, var, low, high] = moments(rand(n, t));
    EXPECT_NEAR(mean, .5, .01) << str(t);
    EXPECT_NEAR(var, 1. / 12, .005) << str(t);
    EXPECT_GE(low, 0);
    EXPECT_LT(high, 1);
  }
  auto [mean, var, low, high] = moments(randn(n));
  EXPECT_NEAR(mean, 0, .03);
  EXPECT_NEAR(var, 1, .04);
  EXPECT_LT(low, -3);
  EXPECT_GT(high, 3);
  std::vector<i64> dice = randint(1, 7, n).to_vector<i64>();
  for (i64 face = 0; face <= 7; face++)
    EXPECT_NEAR(double(std::ranges::count(dice, face)), face % 7 ? n / 6. : 0, face % 7 ? 250 : 0) << face;
  EXPECT_NEAR(moments(bernoulli(full(n, .3)))[0], .3, .015);
  Tensor dropped = dropout(ones(n), .25);
  EXPECT_NEAR(moments(dropped)[0], 1, .02);
  EXPECT_NEAR(dropped.amax().item(), 1 / .75, 1e-6);
  EXPECT_EQ(moments(dropout(ones(n), .25, false))[2], 1);
  std::vector<i64> order = randperm(1000).to_vector<i64>(), sorted = order;
  std::ranges::sort(sorted);
  EXPECT_EQ(sorted, arange(1000).to_vector<i64>());
  EXPECT_NE(sorted, order);
  double bound = 1 / std::sqrt(50.);
  auto [m, v, l, h] = moments(kaiming_uniform({n / 50, 50}));
  EXPECT_TRUE(l >= -bound && h <= bound && h > bound * .99 && std::abs(m) < .01 && v > 0);
}
TEST(Random, uses_differ_within_a_step) {
  Tensor x = ones(100), a = dropout(x), b = dropout(x);
  realize(a, b);
  EXPECT_NE(a.to_vector<float>(), b.to_vector<float>());
}

}  // namespace
}  // namespace ingot
