// SPDX-License-Identifier: MIT
// capture(): a function of tensors recorded once and replayed as a launch list.
//
//   auto step = capture([&](Tensor x, Tensor y) { Tensor loss = …; loss.backward(); optimizer.step(); return loss; });
//   for (…) printf("%g\n", step(x, y).item());
//
// The function returns a Tensor, or a std::vector<Tensor>. Its C++ runs while it is recorded (the first call, or the
// first two when state is made lazily) and never again, so a choice made in C++ stays as it was; what must change
// between calls is an input or a tensor that is assign()ed. What cannot be replayed faithfully is an Error that names
// it: see Recording in runtime.h.
#pragma once
#include "compiler/tensor/tensor.h"

namespace ingot {

using CapturedBody = std::function<std::vector<Tensor>(std::span<const Tensor>)>;
// Replays if the recording is ready, else runs `body` and records it.
void run_captured(Recording& recording, std::vector<Tensor>& outputs, std::span<const Tensor> inputs,
                  const CapturedBody& body);

template <class F>
class CapturedFunction {
 public:
  explicit CapturedFunction(F f) : f_(std::move(f)) {}
  template <class... T>
  auto operator()(const T&... inputs) {
    const std::array<Tensor, sizeof...(T)> in{inputs...};
    using Result = std::decay_t<decltype(f_(inputs...))>;
    run_captured(recording_, outputs_, in,
                 [&](std::span<const Tensor> given) { return call<Result>(given, std::index_sequence_for<T...>{}); });
    if constexpr (std::is_same_v<Result, Tensor>)
      return outputs_[0];
    else
      return std::vector<Tensor>(outputs_);
  }
  bool ready() const { return recording_.ready(); }  // the next call replays
  size_t kernels() const { return recording_.kernels(); }

 private:
  template <class Result, size_t... i>
  std::vector<Tensor> call(std::span<const Tensor> given, std::index_sequence<i...>) {
    (void)given;
    if constexpr (std::is_same_v<Result, Tensor>)
      return {f_(given[i]...)};
    else
      return f_(given[i]...);
  }
  F f_;
  Recording recording_;
  std::vector<Tensor> outputs_;
};
template <class F>
CapturedFunction<F> capture(F f) {
  return CapturedFunction<F>(std::move(f));
}

}  // namespace ingot
