// SPDX-License-Identifier: MIT
// Training from end to end: a small convnet on the device against REF, captured against eager, twice with one seed,
// over many steps; and `ingot train mnist` itself on a folder of drawn digits: resumed, interrupted, counted.
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cmath>
#include <thread>

#include "compiler/tensor/nn.h"
#include "compiler/tensor/optim.h"
#include "tools/train/train.h"

namespace ingot {
namespace {

bool device_present() {
  try {
    device_number("CPU");
    return true;
  } catch (const Error&) {
    return false;
  }
}
#define NEEDS_DEVICE \
  if (!device_present()) GTEST_SKIP() << "no CPU device in this build"

struct SmallNet {
  nn::Conv2d conv{1, 4, 3};
  nn::BatchNorm2d norm{4};
  nn::Linear linear{36, 10};
  Tensor operator()(const Tensor& x) const { return linear(max_pool2d(norm(conv(x).relu()), 2).flatten(1)); }
};

struct Training {  // of a SmallNet with batches of 8
  bool seeded = (manual_seed(3), true);
  SmallNet net;
  optim::Adam optimizer{nn::parameters(net), {.lr = 1e-2}};
  Random random{5};

  std::vector<Tensor> batch() {
    std::vector<float> x(8 * 64);
    std::vector<i32> y(8);
    for (size_t i = 0; i < 8; i++) {
      y[i] = i32(random.below(10));
      for (size_t k = 0; k < 64; k++) x[i * 64 + k] = float(random.uniform(-1, 1)) + (k / 6 == size_t(y[i]) ? 1 : 0);
    }
    return {from_data(std::span<const float>(x), {8, 1, 8, 8}), from_data(std::span<const i32>(y), {8})};
  }
  std::vector<Tensor> step(std::span<const Tensor> in) {
    nn::Training training;
    optimizer.zero_grad();
    Tensor loss = cross_entropy(net(in[0]), in[1]);
    loss.backward();
    optimizer.step({loss});
    return {loss};
  }
};

std::vector<float> losses(const char* device, int steps, bool captured) {
  Scoped dev(ctx.DEV, device);
  Training t;
  Captured step([&](std::span<const Tensor> in) { return t.step(in); });
  std::vector<float> out;
  for (int i = 0; i < steps; i++) {
    const std::vector<Tensor> in = t.batch();
    out.push_back(captured ? step(in)[0].item<float>() : t.step(in)[0].item<float>());
  }
  return out;
}

TEST(Train, DeviceAgreesWithReference) {
  NEEDS_DEVICE;
  const std::vector<float> wanted = losses("REF", 12, false), got = losses("CPU", 12, false);
  for (size_t i = 0; i < got.size(); i++) EXPECT_NEAR(got[i], wanted[i], 2e-3 * double(i + 1)) << "step " << i;
  EXPECT_NEAR(got[0], wanted[0], 1e-5);
}
TEST(Train, LossFalls) {
  NEEDS_DEVICE;
  const std::vector<float> l = losses("CPU", 60, true);
  EXPECT_LT(l.back(), l.front() / 3);
}
TEST(Train, CapturedIsEager) {
  NEEDS_DEVICE;
  EXPECT_EQ(losses("CPU", 8, true), losses("CPU", 8, false));
}
TEST(Train, SameSeedSameBits) {
  NEEDS_DEVICE;
  EXPECT_EQ(losses("CPU", 8, true), losses("CPU", 8, true));
}

// A model of a Radeon, strict and with every check of its emulator on.
constexpr const char* chip = "MODEL+AMD::gfx1100";
bool chip_present() {
  try {
    device_number(chip);
    return device_present();
  } catch (const Error&) {
    return false;
  }
}
TEST(TrainOnModel, AgreesWithTheCpu) {
  if (!chip_present()) GTEST_SKIP() << "no model of a Radeon in this build";
  const std::vector<float> wanted = losses("CPU", 20, false), got = losses(chip, 20, false);
  for (size_t i = 0; i < got.size(); i++) EXPECT_NEAR(got[i], wanted[i], 1e-3) << "step " << i;
}
TEST(TrainOnModel, CapturedIsEager) {
  if (!chip_present()) GTEST_SKIP() << "no model of a Radeon in this build";
  EXPECT_EQ(losses(chip, 6, true), losses(chip, 6, false));
}

i64 resident_bytes() {
  const std::string text = read_file("/proc/self/statm");
  return std::stol(text.substr(text.find(' '))) * sysconf(_SC_PAGESIZE);
}
void memory_is_flat(int steps) {
  NEEDS_DEVICE;
  Scoped dev(ctx.DEV, "CPU");
  Training t;
  Captured step([&](std::span<const Tensor> in) { return t.step(in); });
  i64 buffers = 0, nodes = 0, peak[2] = {};  // resident, of the second quarter and of the second half
  for (int i = 0; i < steps; i++) {
    step(t.batch())[0].item<float>();
    if (i >= steps / 4) peak[i > steps / 2] = std::max(peak[i > steps / 2], resident_bytes());
    if (i != steps / 2) continue;
    sweep_now();  // replays leave their inputs for a sweep, which comes when it pays
    buffers = counters().memory_bytes, nodes = i64(Arena::main().size());
  }
  sweep_now();
  EXPECT_EQ(counters().memory_bytes, buffers);
  EXPECT_EQ(i64(Arena::main().size()), nodes);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // whose quarantine grows
  EXPECT_LE(peak[1], peak[0] + (1 << 20));
#endif
}
TEST(Train, MemoryIsFlat) { memory_is_flat(200); }
TEST(Train, DISABLED_LongMemoryIsFlat) { memory_is_flat(40'000); }  // make check-long

// ---- ingot train mnist

class Mnist : public testing::Test {
 protected:
  void SetUp() override {
    NEEDS_DEVICE;
    folder_ = str(testing::TempDir(), "ingot_mnist_", getpid());
    make_folders(folder_);
    const Images images = draw_digits(80, 1);
    auto write = [&](const char* name, std::string head, const std::vector<u8>& body) {
      head.append(body.begin(), body.end());
      write_file(folder_ + "/" + name, head);
    };
    write("t10k-images-idx3-ubyte", std::string("\0\0\x8\3\0\0\0\x50\0\0\0\x1c\0\0\0\x1c", 16), images.pixels);
    write("t10k-labels-idx1-ubyte", std::string("\0\0\x8\1\0\0\0\x50", 8), images.labels);
  }
  void TearDown() override {
    for (const char* name : {"t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte", "a.safetensors", "b.safetensors"})
      unlink((folder_ + "/" + name).c_str());
    rmdir(folder_.c_str());
  }
  std::string file(const char* name) const { return folder_ + "/" + name; }

  // Exit code; what it printed is in output_.
  int train(const std::string& save, const std::string& resume, const char* steps,
            const std::vector<std::string_view>& more = {}) {
    const std::string all[] = {"--json", "--batch",  "8",    "--data",  folder_, "--save",
                               save,     "--resume", resume, "--steps", steps};
    std::vector<std::string_view> args;
    for (const std::string& a : all) args.push_back(a);
    args.insert(args.end(), more.begin(), more.end());
    testing::internal::CaptureStdout();
    int status = -1;
    try {
      status = mnist_main(args);
    } catch (const Error& e) {
      error_ = e.what();
    }
    output_ = testing::internal::GetCapturedStdout();
    return status;
  }
  std::vector<std::string> losses() const {  // as printed, which reads back to the same bits
    std::vector<std::string> out;
    for (size_t at = 0; (at = output_.find("\"loss\": ", at)) != std::string::npos; at++)
      out.push_back(output_.substr(at + 8, output_.find(',', at) - at - 8));
    return out;
  }
  std::string folder_, output_, error_;
};

TEST_F(Mnist, ResumesBitForBit) {
  ASSERT_EQ(train("", "", "6"), 0) << error_;
  const std::vector<std::string> whole = losses();
  ASSERT_EQ(whole.size(), 6u);
  ASSERT_EQ(train(file("a.safetensors"), "", "3"), 0) << error_;
  EXPECT_EQ(losses(), std::vector<std::string>(whole.begin(), whole.begin() + 3));
  ASSERT_EQ(train(file("b.safetensors"), file("a.safetensors"), "6"), 0) << error_;
  EXPECT_EQ(losses(), std::vector<std::string>(whole.begin() + 3, whole.end()));
}

TEST_F(Mnist, AStepIsAtMostAHundredKernels) {
  ASSERT_EQ(train("", "", "3"), 0) << error_;
  const size_t at = output_.find("\"kernels\": ");
  ASSERT_NE(at, std::string::npos) << output_;
  const i64 kernels = std::stol(output_.substr(at + 11));
  EXPECT_GT(kernels, 5);
  EXPECT_LE(kernels, 100);
  RecordProperty("kernels", int(kernels));
}

TEST_F(Mnist, InterruptSavesAndExits130) {
  std::atomic<bool> done = false;
  std::thread user([&] {  // presses Ctrl-C once training has asked for it
    for (struct sigaction now{}; !done; usleep(1000)) {
      sigaction(SIGINT, nullptr, &now);
      if (now.sa_handler == SIG_DFL || now.sa_handler == SIG_IGN) continue;
      usleep(20000);
      kill(getpid(), SIGINT);
      return;
    }
  });
  const int status = train(file("a.safetensors"), "", "100000");
  done = true;
  user.join();
  ASSERT_EQ(status, 130) << error_;
  const size_t steps = losses().size();
  const std::vector<std::string> before = losses();
  ASSERT_EQ(train("", file("a.safetensors"), std::to_string(steps + 1).c_str()), 0) << error_;
  const std::string resumed = losses().at(0);
  ASSERT_EQ(train("", "", std::to_string(steps + 1).c_str()), 0) << error_;
  EXPECT_EQ(losses().back(), resumed);
}

TEST_F(Mnist, FaultsDoNotChangeTheLosses) {
  if (!chip_present()) GTEST_SKIP() << "no model of a Radeon in this build";
  Scoped strict(ctx.MODEL_STRICT, 0), checker(ctx.MODEL_CHECK, 0);  // for a chip of its own
  Scoped dev(ctx.DEV, "MODEL+AMD:1:gfx1100");
  ASSERT_EQ(train("", "", "4", {"--channels", "1"}), 0) << error_;
  const std::vector<std::string> whole = losses();
  ASSERT_EQ(whole.size(), 4u);
  std::map<std::string, int> outcomes;
  for (const char* seed : {"1", "4"}) {  // seed 1 has a removal
    ASSERT_EQ(train("", "", "4", {"--channels", "1", "--faults", "25", "--seed", "1", "--fault-seed", seed}), 0)
        << error_;
    EXPECT_EQ(losses(), whole);
    for (size_t at = 0; (at = output_.find("\"outcome\": \"", at)) != std::string::npos; at++)
      outcomes[output_.substr(at + 12, output_.find('"', at + 12) - at - 12)]++;
  }
  EXPECT_EQ(outcomes["completed"] + outcomes["failed"], 50);
  EXPECT_GT(outcomes["completed"], 5);
  EXPECT_GT(outcomes["failed"], 15);
  Scoped cpu(ctx.DEV, "CPU");
  EXPECT_EQ(train("", "", "1", {"--faults", "1"}), -1);
  EXPECT_NE(error_.find("--faults breaks a model"), std::string::npos) << error_;
}

TEST_F(Mnist, RefusesWhatDoesNotFit) {
  ASSERT_EQ(train(file("a.safetensors"), "", "1"), 0) << error_;
  EXPECT_EQ(train("", file("t10k-labels-idx1-ubyte"), "2"), -1);
  EXPECT_NE(error_, "");
  std::string bytes = read_file(file("a.safetensors"));
  write_file(file("b.safetensors"), bytes.substr(0, bytes.size() - 8));
  error_.clear();
  EXPECT_EQ(train("", file("b.safetensors"), "2"), -1);
  EXPECT_NE(error_, "");
}

}  // namespace
}  // namespace ingot
