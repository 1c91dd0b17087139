// SPDX-License-Identifier: MIT
// Optimisers. step() turns the parameters' grad()s into assignments of parameters and state and realises them in one
// schedule, together with whatever else is given (the loss, running statistics). The learning rate and the state are
// tensors, so a captured step can change the one and continues the other. A parameter without a gradient is left alone.
// Unlike in torch, a step consumes the gradients: grad() is undefined afterwards, so that gradients need not be kept in
// memory.
//
// The new parameter is written in terms of the old state and the gradient, not of the stored new state: parameter and
// states of one tensor are then the same loop over the same inputs, which a scheduler can store from one kernel.
#pragma once
#include "compiler/tensor/nn.h"

namespace ingot::optim {

class Optimizer {
 public:
  virtual ~Optimizer() = default;
  void zero_grad();
  void step(std::span<const Tensor> also = {}, At at = At::current());
  void step(std::initializer_list<Tensor> also, At at = At::current()) {
    step(std::span(also.begin(), also.size()), at);
  }
  std::vector<Tensor> assignments(
      At at = At::current());        // what step() realises, for several optimisers in one schedule
  nn::StateDict state_dict() const;  // lr and state: "lr", "momentum.0", …; load with nn::load_state_dict
  Tensor lr;                         // F32 (); optimizer.lr.assign(1e-4)

 protected:
  Optimizer(std::vector<Tensor> parameters, double lr);
  Tensor& add_state(std::string name, double value);                             // a number
  std::vector<Tensor>& add_states(std::string name);                             // zeros for each parameter
  virtual void begin(std::vector<Tensor>& out) { (void)out; }                    // what is common to all parameters
  virtual void update(size_t i, const Tensor& g, std::vector<Tensor>& out) = 0;  // assigns; pushes what it assigned
  std::vector<Tensor> parameters_;
  std::map<std::string, Tensor> numbers_;
  std::map<std::string, std::vector<Tensor>> states_;
};
struct SGDOptions {
  double lr = 1e-3, momentum = 0, dampening = 0, weight_decay = 0;
  bool nesterov = false;
};
class SGD final : public Optimizer {
 public:
  SGD(std::vector<Tensor> parameters, const SGDOptions& o);

 private:
  void begin(std::vector<Tensor>& out) override;
  void update(size_t i, const Tensor& g, std::vector<Tensor>& out) override;
  SGDOptions o_;
  Tensor damping_;  // of this step
};
struct AdamOptions {
  double lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
  bool decoupled = false;  // AdamW: the decay acts on the parameter, not on the gradient
};
class Adam : public Optimizer {
 public:
  Adam(std::vector<Tensor> parameters, const AdamOptions& o = {});

 private:
  void begin(std::vector<Tensor>& out) override;
  void update(size_t i, const Tensor& g, std::vector<Tensor>& out) override;
  AdamOptions o_;
  Tensor step_size_, scale_;  // of this step: lr / (1 - beta1^t), 1 / sqrt(1 - beta2^t)
};
class AdamW final : public Adam {
 public:
  AdamW(std::vector<Tensor> parameters, AdamOptions o = {.weight_decay = 1e-2})
      : Adam(std::move(parameters), (o.decoupled = true, o)) {}
};

}  // namespace ingot::optim
