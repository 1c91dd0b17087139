// SPDX-License-Identifier: MIT
// Faults on purpose, for `ingot train`: see faults.cc.
#pragma once
#include "compiler/tensor/nn.h"
#include "tools/train/train.h"

namespace ingot {

class Faults {
 public:
  Faults(i64 count, u64 seed, bool json);  // 0: none, and nothing below does anything
  bool on() const { return count_; }
  // Of the faults that are due by this step, the next; it strikes within so many dispatches.
  void inject(i64 step, i64 steps, i64 dispatches);
  bool due(i64 step, i64 steps) const { return injected_ < count_ * (step + 1) / steps; }
  void survived(i64 step);
  void failed(i64 step, const DeviceError& e);  // rethrows what no fault of ours explains
  // The state that a step starts from.
  void keep(const nn::StateDict& state);
  bool put_back(const nn::StateDict& state);  // into the same memory; false: it is gone
  nn::StateDict kept() const;                 // as new tensors
  void open_again();
  void summary() const;

 private:
  struct Kept {
    DType dtype;
    std::vector<i64> shape;
    std::vector<u8> bytes;
  };
  struct Tally {
    i64 injected = 0, completed = 0, failed = 0;
  };
  void report(i64 step, const char* outcome, std::string_view what) const;
  i64 count_, injected_ = 0, reopened_ = 0, unexpected_ = 0;
  bool json_, pending_ = false;
  size_t kind_ = 0;
  int number_ = -1;
  Random random_;
  std::vector<Tally> tally_;
  std::map<std::string, Kept> kept_;
};

}  // namespace ingot
