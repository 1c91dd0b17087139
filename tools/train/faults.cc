// SPDX-License-Identifier: MIT
// `ingot train mnist --faults N`: what a chip can do to a training run, done to it on purpose. N faults of random kinds
// at random dispatches, over the steps of the run; each ends in a step that is completed all the same, or in a report,
// the state of the step before written back, and the step tried again. Nothing may hang, and the run's losses are those
// of a run without faults, bit for bit. Only a model in this process can be broken so.
#include "tools/train/faults.h"

#include <algorithm>
#include <cinttypes>
#include <cstdio>

#include "compiler/runtime/runtime.h"
#include "userspace/model/model.h"

namespace ingot {
namespace {

struct Kind {
  const char* name;
  model::Injection what;
  i64 weight;  // of 100
};
constexpr Kind kinds[] = {
    {"hang", model::Injection::HANG, 25},
    {"page fault", model::Injection::PAGE_FAULT, 25},
    {"lost doorbell", model::Injection::LOST_DOORBELL, 22},
    {"memory error", model::Injection::ECC, 24},
    {"removal", model::Injection::SURPRISE_REMOVAL, 2},
    {"refused firmware", model::Injection::PSP_REFUSAL, 2},  // at the boot after a removal, the only time it is asked
};

U buffer_below(const Tensor& t) {
  U u = t.uop();
  while (u->op == Op::RESHAPE) u = u->src(0);
  return u->op == Op::BUFFER ? u : nullptr;
}

}  // namespace

Faults::Faults(i64 count, u64 seed, bool json) : count_(count), json_(json), random_{seed} {
  if (!count) return;
  number_ = device_number("");
  if (!model_of(number_))
    throw Error("--faults breaks a model of a chip in this process: DEV=MODEL+AMD::gfx1100, not ",
                device_name(number_));
  tally_.resize(std::size(kinds));
}

void Faults::inject(i64 step, i64 steps, i64 dispatches) {
  pending_ = false;
  if (injected_ >= count_ * (step + 1) / steps) return;
  i64 at = random_.below(100), k = 0;
  for (; at >= kinds[k].weight; k++) at -= kinds[k].weight;
  kind_ = size_t(k), pending_ = true;
  injected_++, tally_[kind_].injected++;
  model::Chip& chip = *model_of(number_);
  chip.objections.clear();
  const i64 when = random_.below(std::max<i64>(1, dispatches));
  switch (kinds[k].what) {
    case model::Injection::LOST_DOORBELL: chip.inject(kinds[k].what); break;
    case model::Injection::PSP_REFUSAL:
      chip.inject(kinds[k].what);
      chip.inject_later(model::Injection::SURPRISE_REMOVAL, when);
      break;
    default: chip.inject_later(kinds[k].what, when);
  }
}
void Faults::report(i64 step, const char* outcome, std::string_view what) const {
  const std::string_view line = what.substr(0, what.find('\n'));
  if (json_)
    printf("{\"fault\": %" PRId64 ", \"kind\": %s, \"step\": %" PRId64 ", \"outcome\": \"%s\", \"report\": %s}\n",
           injected_, quote_json(kinds[kind_].name).c_str(), step + 1, outcome, quote_json(what).c_str());
  else
    printf("fault %" PRId64 " at step %" PRId64 ", %s: %s%s%s\n", injected_, step + 1, kinds[kind_].name, outcome,
           line.empty() ? "" : ": ", std::string(line).c_str());
  fflush(stdout);
}
void Faults::survived(i64 step) {
  if (!std::exchange(pending_, false)) return;
  tally_[kind_].completed++;
  report(step, "completed", "");
}
void Faults::failed(i64 step, const DeviceError& e) {
  if (!count_) throw e;
  if (!pending_) {  // one that waited: a later dispatch than the step had, or while the state was written back
    if (++unexpected_ > count_ + 10) throw e;
    return;
  }
  pending_ = false;
  if (e.state.empty() && kinds[kind_].what != model::Injection::SURPRISE_REMOVAL &&
      kinds[kind_].what != model::Injection::PSP_REFUSAL)
    throw Error("a failure without a report: ", e.what());
  tally_[kind_].failed++;
  report(step, "failed", e.what());
}

void Faults::keep(const nn::StateDict& state) {
  if (!count_) return;
  std::map<std::string, Kept> now;
  for (const auto& [name, t] : state) {
    Kept& k = now[name];
    k.dtype = t.dtype(), k.shape.assign(t.shape().begin(), t.shape().end());
    k.bytes.resize(size_t(t.nbytes()));
    if (t.numel()) t.read(k.bytes.data(), k.dtype);
  }
  kept_ = std::move(now);  // all of it or nothing
}
bool Faults::put_back(const nn::StateDict& state) {
  for (int attempt = 0; attempt < 4; attempt++) try {
      for (const auto& [name, t] : state) {
        U u = buffer_below(t);
        if (!u || is_lost(u)) return false;
        BufferRef memory = buffer_of(u);
        const Kept& k = kept_.at(name);
        memory->device.copy_in(*memory, 0, k.bytes.data(), i64(k.bytes.size()));
      }
      device(number_).wait();
      return true;
    } catch (const DeviceError&) {}
  return false;
}
void Faults::open_again() {
  for (int attempt = 0;; attempt++) try {
      reopen(number_);
      reopened_++;
      return;
    } catch (const DeviceError& e) {
      if (attempt == 5) throw;
      if (!json_) printf("opening again: %s\n", std::string(split(e.what(), '\n')[0]).c_str());
    }
}
nn::StateDict Faults::kept() const {
  nn::StateDict out;
  for (const auto& [name, k] : kept_) out.emplace(name, from_bytes(k.bytes.data(), k.dtype, k.shape));
  return out;
}
void Faults::summary() const {
  if (!count_) return;
  i64 completed = 0, failed = 0;
  for (size_t k = 0; k < tally_.size(); k++) {
    completed += tally_[k].completed, failed += tally_[k].failed;
    if (!json_)
      printf("%-18s %5" PRId64 " injected, %5" PRId64 " steps completed, %5" PRId64 " failed and tried again\n",
             kinds[k].name, tally_[k].injected, tally_[k].completed, tally_[k].failed);
  }
  if (json_)
    printf("{\"faults\": %" PRId64 ", \"completed\": %" PRId64 ", \"failed\": %" PRId64 ", \"reopened\": %" PRId64
           "}\n",
           injected_, completed, failed, reopened_);
  else
    printf("%" PRId64 " faults: %" PRId64 " steps completed, %" PRId64
           " failed and were tried again, the chip was opened anew %" PRId64 " times\n",
           injected_, completed, failed, reopened_);
}

}  // namespace ingot
