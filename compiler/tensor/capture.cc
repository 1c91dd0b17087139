// SPDX-License-Identifier: MIT
// Between the tensors of a captured function and the BUFFERs of a Recording. The function sees its inputs as new
// tensors over the same memory: a tensor that it also reaches by another way (a weight passed as an input) stays what
// it is at a replay.
#include "compiler/tensor/capture.h"

namespace ingot {

void run_captured(Recording& recording, std::vector<Tensor>& outputs, std::span<const Tensor> inputs,
                  const CapturedBody& body) {
  std::vector<U> given;
  for (const Tensor& t : inputs) given.push_back(t.uop());
  if (recording.ready()) return recording.replay(given);
  std::vector<Tensor> fresh;
  for (size_t i = 0; i < given.size(); i++) {
    if (!inputs[i].is_realized())
      throw Error("input ", i, " of the captured step, ", inputs[i].describe(),
                  ", is not in memory; realize() it first");
    U memory = given[i];
    while (memory->op == Op::RESHAPE) memory = memory->src(0);
    fresh.emplace_back(buffer_on(buffer_of(memory), memory->dtype, given[i]->shape(), int(memory->arg(1))));
    fresh.back().requires_grad_(inputs[i].requires_grad());
    given[i] = fresh.back().uop();
  }
  std::vector<Tensor> made;
  std::vector<U> buffers = recording.record(given, [&] {
    made = body(fresh);
    realize(std::span<const Tensor>(made));
    std::vector<U> roots;
    for (const Tensor& t : made) {
      U u = t.uop();
      while (u->op == Op::RESHAPE) u = u->src(0);
      roots.push_back(u);
    }
    return roots;
  });
  outputs.clear();
  for (size_t i = 0; i < made.size(); i++) outputs.emplace_back(lazy::reshape(buffers[i], made[i].shape()));
}

const std::vector<Tensor>& Captured::operator()(std::span<const Tensor> inputs) {
  run_captured(recording_, outputs_, inputs, step_);
  return outputs_;
}

}  // namespace ingot
