// SPDX-License-Identifier: MIT
// Basic blocks for an emulator, compiled by the kernel compiler for the host. What a block needs of it is little: its
// lanes become vectors, nothing else moves, and no product is joined to a sum, since the emulator's evaluator would
// round twice.
#include <algorithm>
#include <cstdio>
#include <map>
#include <mutex>
#include "compiler/runtime/runtime.h"
#include "userspace/cpu/cpu.h"

namespace ingot {
#ifdef CONFIG_ISA_X86
namespace {

struct HostBlock final : hw::Block {
  std::unique_ptr<Code> code;
  cpu::Entry entry = nullptr;
  void run(void* const* params) const override { entry(params, 0, 1, nullptr); }
};

class HostBlocks final : public hw::BlockCompiler {
 public:
  explicit HostBlocks(std::unique_ptr<Device> host) : host_(std::move(host)) {
    const DeviceInfo& info = host_->info();
    u64 features = isa::x86::host_features();
    target_ = {info.isa, info.arch, info.arch == "avx2" ? features & isa::x86::AVX2 : features, 1};
  }
  std::unique_ptr<hw::Block> compile(U sink) override {
    Plan plan;
    plan.contract = false;
    std::vector<Param> params;
    int bits = 32;  // of the widest value in lanes
    UMap<bool> in_lanes;
    std::vector<U> order = toposort(sink);
    for (U u : order) {
      bool inside = u->op == Op::RANGE;
      for (U s : u->src()) inside |= *in_lanes.find(s);
      if (u->op == Op::REDUCE) inside = false;
      in_lanes[u] = inside;
      if (inside && u->dtype.scalar != Scalar::IDX)
        bits = std::max(bits, u->op == Op::FMA && u->dtype == F16 ? 64 : u->dtype.bits());
      if (u->op == Op::RANGE) (u->range_kind() == RangeKind::REDUCE ? plan.reduce_order : plan.order).push_back(u);
      if (u->op != Op::PARAM) continue;
      params.resize(std::max(params.size(), size_t(u->arg(0)) + 1));
      params[size_t(u->arg(0))] = {u->dtype, u->arg(1), true, true};
    }
    if (bits == 64 && target_.arch == "avx2") return nullptr;  // its masks of 64-bit lanes do not go with others
    // Where a word is made of the lanes the loops become copies, so that nothing is stored before all is loaded.
    const i64 lanes = machine_of(target_).lanes(bits);
    for (auto* list : {&plan.order, &plan.reduce_order})
      for (U r : *list) {
        i64 n = r->src(0)->arg(0), width = std::min(lanes, n);
        plan.splits.push_back({r, {.unroll = plan.reduce_order.empty() ? 1 : n / width, .lanes = width}});
      }
    counters().blocks++;
    auto block = std::make_unique<HostBlock>();
    Scoped trust(ctx.SPEC, ctx.SPEC == 1 ? 0 : ctx.SPEC);
    Program p = ingot::compile(sink, params, "block", target_, &plan);
    if (ctx.DEBUG >= 5) std::fputs(annotate(p).c_str(), stderr);
    check(!p.local_bytes, "a block has no memory of its own");
    block->code = host_->load(p.code, p.name), block->entry = cpu::entry_of(*block->code);
    return block;
  }

 private:
  std::unique_ptr<Device> host_;
  Target target_;
};

}  // namespace

hw::BlockCompiler* host_blocks(std::string_view arch) {
  static std::mutex mutex;
  static auto* all = new std::map<std::string, std::unique_ptr<HostBlocks>, std::less<>>;  // as long as emulators live
  std::lock_guard lock(mutex);
  auto at = all->find(arch);
  if (at == all->end()) {
    auto host = cpu::open(0, arch);
    at = all->emplace(arch, host ? std::make_unique<HostBlocks>(std::move(host)) : nullptr).first;
  }
  return at->second.get();
}
#else
hw::BlockCompiler* host_blocks(std::string_view) { return nullptr; }
#endif

}  // namespace ingot
