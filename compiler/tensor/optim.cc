// SPDX-License-Identifier: MIT
// The update rules, as PyTorch's documentation states them (torch.optim.SGD, Adam, AdamW). State is F32 or wider.
#include "compiler/tensor/optim.h"

namespace ingot::optim {

Optimizer::Optimizer(std::vector<Tensor> parameters, double rate)
    : lr(tensor(float(rate))), parameters_(std::move(parameters)) {
  for (const Tensor& p : parameters_)
    if (!p.requires_grad())
      throw Error("an optimiser's parameter ", p.describe(), " does not require a gradient; call requires_grad_()");
  realize(std::span<const Tensor>(parameters_));
}
Tensor& Optimizer::add_state(std::string name, double value) {
  return numbers_[std::move(name)] = tensor(float(value));
}
std::vector<Tensor>& Optimizer::add_states(std::string name) {
  std::vector<Tensor>& list = states_[std::move(name)];
  for (const Tensor& p : parameters_) list.push_back(empty(p.shape(), p.dtype() == F64 ? F64 : F32).assign(0));
  realize(std::span<const Tensor>(list));
  return list;
}
void Optimizer::zero_grad() {
  for (Tensor& p : parameters_) p.zero_grad();
}
std::vector<Tensor> Optimizer::assignments(At at) {
  Here here(at);
  if (std::ranges::none_of(parameters_, [](const Tensor& p) { return p.grad().defined(); }))
    throw Error("step of an optimiser: none of its ", parameters_.size(),
                " parameters has a gradient; call backward() before");
  std::vector<Tensor> out;
  begin(out);
  for (size_t i = 0; i < parameters_.size(); i++) {
    Tensor g = parameters_[i].grad();
    if (!g.defined()) continue;
    update(i, g.to(g.dtype() == F64 ? F64 : F32).detach(), out);
    parameters_[i].zero_grad();  // its graph reads the old parameter: alive, it would have to be stored
  }
  return out;
}
void Optimizer::step(std::span<const Tensor> also, At at) {
  std::vector<Tensor> all = assignments(at);
  all.insert(all.end(), also.begin(), also.end());
  realize(std::span<const Tensor>(all));
}
nn::StateDict Optimizer::state_dict() const {
  nn::StateDict out = {{"lr", lr}};
  out.insert(numbers_.begin(), numbers_.end());
  for (const auto& [name, list] : states_)
    for (size_t i = 0; i < list.size(); i++) out.emplace(str(name, '.', i), list[i]);
  return out;
}

SGD::SGD(std::vector<Tensor> parameters, const SGDOptions& o) : Optimizer(std::move(parameters), o.lr), o_(o) {
  if (o.nesterov ? o.momentum <= 0 || o.dampening : o.dampening && !o.momentum)
    throw Error("SGD: nesterov needs a momentum and no dampening; dampening needs a momentum");
  if (o.momentum) add_states("momentum");
  if (o.dampening) add_state("damping", 0);
}
void SGD::begin(std::vector<Tensor>& out) {
  if (!o_.dampening) return;
  Tensor& next = numbers_.at("damping");
  damping_ = Tensor(next.uop());  // 0 for the first step, whose gradient is not damped
  out.push_back(next.assign(o_.dampening));
}
void SGD::update(size_t i, const Tensor& gradient, std::vector<Tensor>& out) {
  Tensor p = parameters_[i], g = o_.weight_decay ? gradient + p * o_.weight_decay : gradient;
  if (o_.momentum) {
    Tensor b = states_.at("momentum")[i], now = b * o_.momentum + (o_.dampening ? g * (1 - damping_) : g);
    g = o_.nesterov ? g + now * o_.momentum : now;
    out.push_back(b.assign(now));
  }
  out.push_back(p.assign(p - lr * g));
}

Adam::Adam(std::vector<Tensor> parameters, const AdamOptions& o) : Optimizer(std::move(parameters), o.lr), o_(o) {
  add_states("exp_avg"), add_states("exp_avg_sq"), add_state("beta1_power", 1), add_state("beta2_power", 1);
}
void Adam::begin(std::vector<Tensor>& out) {
  Tensor& a = numbers_["beta1_power"].assign(numbers_["beta1_power"] * o_.beta1);
  Tensor& b = numbers_["beta2_power"].assign(numbers_["beta2_power"] * o_.beta2);
  out.push_back(a), out.push_back(b);
  step_size_ = lr / (1 - a), scale_ = (1 - b).rsqrt();
}
void Adam::update(size_t i, const Tensor& gradient, std::vector<Tensor>& out) {
  Tensor p = parameters_[i], m = states_["exp_avg"][i], v = states_["exp_avg_sq"][i];
  Tensor g = o_.weight_decay && !o_.decoupled ? gradient + p * o_.weight_decay : gradient;
  Tensor m_now = m * o_.beta1 + g * (1 - o_.beta1), v_now = v * o_.beta2 + g * g * (1 - o_.beta2);
  Tensor base = o_.decoupled && o_.weight_decay ? p - p * (lr * o_.weight_decay) : p;
  Tensor p_now = base - step_size_ * m_now / (v_now.sqrt() * scale_ + o_.eps);
  out.push_back(m.assign(m_now)), out.push_back(v.assign(v_now)), out.push_back(p.assign(p_now));
}

}  // namespace ingot::optim
