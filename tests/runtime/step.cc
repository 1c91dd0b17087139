// SPDX-License-Identifier: MIT
// Captured steps as users write them: a replayed training step gives the bits of the plain one; what DEBUG prints;
// counters; saved kernels of a whole step. on the device that DEV names, the CPU when it names none.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>
#include "compiler/tensor/capture.h"
#include "compiler/tensor/optim.h"

namespace ingot {
namespace {
using testing::HasSubstr;
using testing::MatchesRegex;

struct Step : testing::Test {
  Scoped<Text> device{ctx.DEV, ctx.DEV.empty() ? Text("CPU") : ctx.DEV};
};
std::vector<float> data(i64 n, int seed) {
  std::vector<float> v(static_cast<size_t>(n));
  for (size_t i = 0; i < v.size(); i++) v[i] = float((i * 37 + size_t(seed) * 101) % 17) / 17 - 0.5f;
  return v;
}
Tensor batch(Ints shape, i64 n, int seed) { return from_data(std::span<const float>(data(n, seed)), shape); }

struct Net {
  Tensor w1 = batch({8, 6}, 48, 1).requires_grad_(), b1 = zeros({8}).realize(),
         w2 = batch({1, 8}, 8, 2).requires_grad_();
  optim::Adam adam{{w1, w2}, {}};
  Tensor operator()(const Tensor& x, const Tensor& y) {
    adam.zero_grad();
    Tensor loss = mse_loss(linear(linear(x, w1, b1).tanh(), w2), y);
    loss.backward();
    adam.step(std::vector<Tensor>{loss});
    return loss;
  }
};
TEST_F(Step, a_replayed_training_step_gives_the_bits_of_the_plain_one) {
  Net plain, captured;
  auto step = capture([&](Tensor x, Tensor y) { return captured(x, y); });
  for (int i = 0; i < 6; i++) {
    Tensor x = batch({5, 6}, 30, i), y = batch({5, 1}, 5, i + 50);
    float a = plain(x, y).item<float>(), b = step(x, y).item<float>();
    EXPECT_EQ(std::bit_cast<u32>(a), std::bit_cast<u32>(b)) << "step " << i << ": " << a << " and " << b;
    EXPECT_TRUE(i < 1 || step.ready());
  }
  EXPECT_EQ(plain.w1.to_vector<float>(), captured.w1.to_vector<float>());
  EXPECT_EQ(plain.w2.to_vector<float>(), captured.w2.to_vector<float>());
}
TEST_F(Step, random_numbers_are_fresh_at_each_replay_and_those_of_the_plain_step) {
  Tensor x = ones({64}).contiguous().realize();
  std::vector<std::vector<float>> plain;
  manual_seed(7);
  for (int i = 0; i < 4; i++) plain.push_back(dropout(x, 0.5).to_vector<float>());
  EXPECT_NE(plain[0], plain[1]);
  manual_seed(7);
  auto step = capture([](Tensor t) { return dropout(t, 0.5); });
  for (int i = 0; i < 4; i++) EXPECT_EQ(step(x).to_vector<float>(), plain[size_t(i)]) << i;
  EXPECT_TRUE(step.ready());
}
TEST_F(Step, inputs_may_be_reshaped_but_not_lazy) {
  auto step = capture([](Tensor t) { return t * 2; });
  Tensor flat = batch({6}, 6, 3);
  std::vector<float> want = (flat * 2).to_vector<float>();
  EXPECT_EQ(step(flat.reshape({2, 3})).to_vector<float>(), want);
  EXPECT_EQ(step(flat.reshape({2, 3})).to_vector<float>(), want);
  EXPECT_EQ(step(batch({2, 3}, 6, 3)).to_vector<float>(), want);
  try {
    step(flat);
    FAIL();
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), testing::AllOf(HasSubstr("(2, 3)"), HasSubstr("(6)")));
  }
  try {
    step((flat + 1).reshape({2, 3}));
    FAIL();
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("input 0 of the captured step is not in memory"));
  }
}
TEST_F(Step, several_outputs_and_no_inputs) {
  Tensor count = zeros({1}).contiguous().realize();
  auto step = capture([&] {
    count.assign(count + 1);
    return std::vector<Tensor>{count * 1, count * 10};
  });
  for (int i = 1; i <= 4; i++) {
    std::vector<Tensor> out = step();
    EXPECT_EQ(out[0].item(), i);
    EXPECT_EQ(out[1].item(), 10 * i);
  }
}
TEST_F(Step, replays_alone_leave_memory_flat) {
  auto step = capture([](Tensor t) { return t.sum(); });
  i64 most = 0, before = counters().memory_bytes;
  for (int i = 0; i < 600; i++) {
    step(batch({50'000}, 50'000, i));
    most = std::max(most, counters().memory_bytes);
  }
  EXPECT_LT(most, before + (i64(40) << 20));  // of 120 MB
}
TEST_F(Step, DEBUG_2_prints_one_line_per_kernel) {
  if (is_reference(device_number(""))) GTEST_SKIP() << "REF launches no kernels";
  Tensor x = batch({100}, 100, 1);
  Scoped s(ctx.DEBUG, 2);
  u64 before = counters().kernels;
  testing::internal::CaptureStderr();
  (x * 3).realize();
  std::string out = testing::internal::GetCapturedStderr();
  EXPECT_EQ(counters().kernels, before + 1);
  size_t line = out.find("kernel ");
  ASSERT_NE(line, out.npos) << out;
  out = out.substr(line, out.find('\n', line) - line);
  EXPECT_THAT(
      out,
      MatchesRegex("kernel +[0-9]+ [A-Z0-9:a-z]+ +[a-z0-9_]+ +[^ ]*step.cc:[0-9]+ +[0-9]+/[0-9]+ +[0-9.]+ us +[0-9.]+ "
                   "GFLOP/s +[0-9.]+ GB/s +[0-9]+ %"));
}
TEST_F(Step, DEBUG_levels_add_their_lines) {
  if (is_reference(device_number(""))) GTEST_SKIP() << "REF launches no kernels";
  Tensor x = batch({77}, 77, 1);
  Scoped c(ctx.CACHE, 0);
  Scoped s(ctx.DEBUG, 5);
  testing::internal::CaptureStderr();
  (x * 3).realize();
  std::string out = testing::internal::GetCapturedStderr();
  EXPECT_THAT(out, HasSubstr("schedule 1 kernels"));
  EXPECT_THAT(out, HasSubstr("in bounds without a guard"));
  EXPECT_THAT(out, HasSubstr("\n0000: "));
  EXPECT_THAT(out, HasSubstr(" STORE "));
}
TEST_F(Step, every_kernel_of_a_saved_step_runs_again) {
  int number = device_number("");
  if (is_reference(number)) GTEST_SKIP() << "REF launches no kernels";
  std::string folder = str(testing::TempDir(), "ingot_step_", getpid());
  Net net;
  Tensor x = batch({5, 6}, 30, 1), y = batch({5, 1}, 5, 2);
  u64 before = counters().kernels;
  {
    Scoped s(ctx.SAVE_KERNELS, folder);
    net(x, y);
  }
  std::vector<Rerun> all = rerun(folder, number);
  EXPECT_EQ(all.size(), counters().kernels - before);
  for (const Rerun& r : all) EXPECT_EQ(r.problem, "") << r.file << " " << r.kernel;
  EXPECT_EQ(std::system(("rm -r " + folder).c_str()), 0);
}
TEST_F(Step, a_thousand_tiny_kernels_replay_in_a_third_of_a_microsecond_each) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "the time of a sanitized build says nothing";
#endif
  if (is_reference(device_number(""))) GTEST_SKIP() << "REF launches no kernels";
  Tensor x = zeros({8}).contiguous().realize();
  auto step = capture([](Tensor t) {
    for (int i = 0; i < 1000; i++) t = (t + 1).contiguous(), t.realize();
    return t;
  });
  i64 best = i64(1) << 60;
  for (int i = 0; i < 20; i++) {
    i64 start = now_ns();
    step(x);
    if (i > 2) best = std::min(best, now_ns() - start);
  }
  EXPECT_EQ(step.kernels(), 1000u);
  EXPECT_EQ(step(x).to_vector<float>(), std::vector<float>(8, 1000));
  EXPECT_LE(best, 300'000) << "ns for 1,000 kernels";
  std::printf("%.1f ns a kernel\n", double(best) / 1000);
}

}  // namespace
}  // namespace ingot
