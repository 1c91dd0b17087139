// SPDX-License-Identifier: MIT
// The chip as a Device: the order in which it comes up, memory, copies, launches, and what happens when it hangs.
//
// Boot is cold or warm (tinygrad, runtime/support/am/amdev.py). Warm: two scratch registers that outlive a process say
// that the last one had this layout of the boot region and left nothing behind; then only what belongs to a process is
// set up anew. Cold: whatever runs on the chip is reset with it. Registers say "in use" while we are here, so that a
// process that dies makes the next boot a cold one.
//
// Copies between host and VRAM go through staging memory and the copy engine, which also reaches what BAR 0 does not;
// short writes go through BAR 0. Compute and copies wait for each other's timelines. Memory that is freed while the
// chip may still use it waits for its timeline.
#include <linux/pci_regs.h>
#include <algorithm>
#include <cstdio>
#include <deque>
#include <unordered_map>
#include "userspace/amd/amd.h"

namespace ingot::amd {
namespace {

// Of SCRATCH_REG0: which holds what. The magic changes with the order or sizes of what is in the boot region.
constexpr int in_use_register = 6, layout_register = 7;
constexpr u32 layout_magic = u32('i') << 24 | u32('n') << 16 | u32('g') << 8 | 1;
constexpr i64 staging_bytes = mib, arguments_bytes = mib, direct_bytes = 64 << 10;
constexpr i64 code_tail = 4 * 128;         // instructions are read ahead, three lines at most (Gfx, SH_MEM_CONFIG)
constexpr i64 group_lds_bytes = 64 << 10;  // the most that a work-group can have (LLVM, AMDGPUBaseInfo.cpp)

struct AmdCode final : Code {
  Kernel kernel;
  Memory memory;
  class AmdDevice* device = nullptr;
  ~AmdCode() override;
};

// Of amd::Step: it is made again when the scratch memory has moved, which its packets name.
struct AmdStep final : ingot::Step {
  class AmdDevice& device;
  std::span<const Launch> launches;
  std::vector<void* const*> changing;
  std::unique_ptr<amd::Step> packets;
  u64 scratch = 0;
  std::vector<u64> values;
  std::string names;
  AmdStep(AmdDevice& d, std::span<const Launch> l, std::span<void* const* const> c)
      : device(d), launches(l), changing(c.begin(), c.end()) {}
  ~AmdStep() override;
  void run() override;
};

class AmdDevice final : public Device {
 public:
  AmdDevice(std::unique_ptr<hw::Bus> bus, const Options& options)
      : owner_(options.exclusive ? std::make_unique<FileLock>(str(runtime_folder(), "/", bus->name(), ".lock"))
                                 : nullptr),
        bus_(answering(std::move(bus))),
        options_(options),
        chip_(*bus_),
        gmc_(chip_),
        psp_(chip_, gmc_),
        smu_(chip_, gmc_),
        ih_(chip_, gmc_),
        gfx_(chip_, gmc_),
        sdma_(chip_) {
    boot(load_firmware(chip_.ip, options.firmware, options.exact_firmware));
    compute_ = std::make_unique<Queue>(chip_, gmc_, Queue::COMPUTE);
    copies_ = std::make_unique<Queue>(chip_, gmc_, Queue::COPY);
    start_queues();
    staging_ = gmc_.alloc_system(staging_bytes);
    arguments_ = gmc_.alloc_system(arguments_bytes);
    const Discovery& ip = chip_.ip;
    info_.name = "AMD";
    info_.isa = "rdna", info_.arch = ip.arch();
    info_.threads = ip.compute_units();
    info_.memory_bytes = chip_.vram_bytes;
    info_.description = str("Radeon ", info_.arch, " at ", bus_->name(), ", ", ip.compute_units(), " compute units, ",
                            chip_.vram_bytes / mib, " MiB", warm_ ? ", attached" : "");
  }
  ~AmdDevice() override { close(); }
  void close() override {
    std::lock_guard lock(mutex_);
    if (std::exchange(closed_, true)) return;
    if (lost_) return bus_master(false);  // what still runs must not write to memory that goes now
    compute_->wait(compute_->last(), options_.timeout_ns);
    gfx_.stop_queue(0, true);
    sdma_.stop();
    chip_.write_raw(layout_SCRATCH_REG0, 0, {.index = in_use_register});
  }
  hw::Bus& bus() { return *bus_; }

  const DeviceInfo& info() const override { return info_; }
  Inspect* inspect() override { return &view_; }

  BufferRef alloc(i64 bytes) override {
    std::lock_guard lock(mutex_);
    usable();
    reclaim();
    auto [it, fresh] = memory_.emplace(next_handle_, gmc_.alloc_vram(bytes));
    Buffer* b = make_buffer(*this, bytes);
    b->address = it->second.va, b->handle = next_handle_++;
    if (ctx.GUARD) {
      Packets p(chip_);
      p.fill(it->second.va, ~u32(0), it->second.bytes);
      finish(*copies_, copies_->submit(p.words));
    }
    return BufferRef(b);
  }
  void free(Buffer& b) override {
    std::lock_guard lock(mutex_);
    auto it = memory_.find(b.handle);
    garbage_.push_back({compute_->last(), std::move(it->second)});
    memory_.erase(it);  // and reclaimed by a function that may throw
  }

  void copy_in(Buffer& to, i64 offset, const void* from, i64 bytes) override {
    check(offset >= 0 && bytes >= 0 && offset + bytes <= to.bytes, offset, " + ", bytes, " of ", to.bytes);
    std::lock_guard lock(mutex_);
    usable();
    finish(*compute_, compute_->last());
    put(memory_.at(to.handle), offset, from, bytes);
  }
  void copy_out(void* to, const Buffer& from, i64 offset, i64 bytes) override {
    check(offset >= 0 && bytes >= 0 && offset + bytes <= from.bytes, offset, " + ", bytes, " of ", from.bytes);
    std::lock_guard lock(mutex_);
    usable();
    finish(*compute_, compute_->last());
    const Memory& m = memory_.at(from.handle);
    for (i64 at = 0; at < bytes; at += staging_bytes) {
      i64 n = std::min(staging_bytes, bytes - at);
      Packets p(chip_);
      p.copy(staging_.va, m.va + u64(offset + at), n);
      finish(*copies_, copies_->submit(p.words));
      gmc_.read(staging_, 0, static_cast<u8*>(to) + at, n);
    }
  }

  std::unique_ptr<Code> load(std::span<const u8> code, std::string_view name, const Resources* needs) override {
    std::lock_guard lock(mutex_);
    usable();
    auto c = std::make_unique<AmdCode>();
    std::vector<u8> described;
    if (needs) code = described = with_descriptor(code, *needs, chip_.generation());
    parse_kernel(code, name, 0, chip_.generation());  // before there is memory to give back
    std::vector<u8> padded(code.begin(), code.end());
    while (padded.size() % 4) padded.push_back(0);
    for (i64 i = 0; i < code_tail; i++) padded.push_back(u8(CODE::S_CODE_END >> 8 * (i % 4)));
    c->memory = gmc_.alloc_vram(i64(padded.size()));
    c->device = this;
    c->kernel = parse_kernel(code, name, c->memory.va, chip_.generation());
    c->address = c->kernel.entry;
    put(c->memory, 0, padded.data(), i64(padded.size()));
    codes_[c->memory.va] = c.get();
    return c;
  }
  void unload(AmdCode& c) {
    std::lock_guard lock(mutex_);
    codes_.erase(c.memory.va);
    garbage_.push_back({compute_->last(), std::move(c.memory)});
  }

  void run(std::span<const Launch> launches) override {
    std::lock_guard lock(mutex_);
    usable();
    reclaim();
    launches_ += launches.size();
    for (size_t i = 0; i < launches.size();) {
      Packets p(chip_);
      p.wait(copies_->timeline(), u32(copies_->last()));
      p.flush_hdp();
      p.acquire(true);
      std::string names;
      constexpr size_t most = 32 << 10;  // dwords of one submission, well below the ring
      for (; i < launches.size() && p.words.size() < most; i++) {
        const Launch& l = launches[i];
        if (!l.groups[0] || !l.groups[1] || !l.groups[2]) continue;
        Kernel k = kernel_of(l);
        p.dispatch(k, l.groups, l.threads, place_arguments(l, k), k.scratch_bytes ? scratch_ : Scratch());
        append(names, names.empty() ? k.name : ", " + k.name);
      }
      u64 value = compute_->submit(p.words);
      half_used_[half_] = value;
      submitted(value, std::move(names));
    }
  }
  std::unique_ptr<ingot::Step> prepare(std::span<const Launch> launches,
                                       std::span<void* const* const> changing) override {
    return std::make_unique<AmdStep>(*this, launches, changing);
  }
  void retire(std::unique_ptr<amd::Step>& step) {
    std::lock_guard lock(mutex_);
    garbage_.push_back({compute_->last(), {}, std::move(step)});
  }
  void run(AmdStep& step) {
    std::lock_guard lock(mutex_);
    usable();
    reclaim();
    if (!step.packets || step.scratch != scratch_.va) {
      garbage_.push_back({compute_->last(), {}, std::move(step.packets)});
      build(step);
    }
    for (size_t i = 0; i < step.changing.size(); i++) step.values[i] = u64(*step.changing[i]);
    u64 value = step.packets->replay(*compute_, step.values, options_.timeout_ns);
    if (!value) finish(*compute_, compute_->last());  // which says why
    launches_ += step.launches.size();
    submitted(value, step.names);
  }
  void wait() override {
    std::lock_guard lock(mutex_);
    usable();
    finish(*compute_, compute_->last());
    reclaim();
  }

 private:
  struct Launched {
    u64 value;
    std::string names;
  };
  struct Garbage {
    u64 value;
    Memory memory;
    std::unique_ptr<amd::Step> step = nullptr;
  };

  // ---- boot
  static std::unique_ptr<hw::Bus> answering(std::unique_ptr<hw::Bus> bus) {  // windows on, before the first register
    bus->config_write(PCI_COMMAND, bus->config_read(PCI_COMMAND, 2) | PCI_COMMAND_MEMORY, 2);
    return bus;
  }
  void bus_master(bool on) {
    u32 command = bus_->config_read(PCI_COMMAND, 2);
    bus_->config_write(PCI_COMMAND, on ? command | PCI_COMMAND_MASTER : command & ~u32(PCI_COMMAND_MASTER), 2);
    bus_->config_read(PCI_COMMAND, 2);  // it has arrived
  }
  void boot(const Firmware& firmware) {
    auto scratch = [&](int i) { return chip_.read_raw(layout_SCRATCH_REG0, {.index = i}); };
    warm_ =
        scratch(layout_register) == layout_magic && !scratch(in_use_register) && psp_.alive() && !gmc_.fault(GFXHUB);
    if (!warm_ && psp_.alive() && smu_.alive()) {
      bus_master(false);  // nothing may write to the host while the chip forgets where it was
      smu_.mode1_reset();
    }
    bus_master(true);
    chip_.write_raw(layout_SCRATCH_REG0, 1, {.index = in_use_register});
    gmc_.create_tables();
    if (!warm_) chip_.update<RCC_DEV0_EPF2_STRAP2>([](auto& r) { r.strap_no_soft_reset_dev0_f2 = 0; });
    chip_.write(RCC_DEV0_EPF0_RCC_DOORBELL_APER_EN{.bif_doorbell_aper_en = 1});
    gmc_.init_hub(MMHUB_HUB);  // also when warm: the root is where it was, but the tables are new
    gmc_.invalidate(MMHUB_HUB);
    if (!warm_) {
      ih_.boot();
      psp_.boot(firmware);
      smu_.boot();
    }
    gfx_.boot(firmware, warm_);
    gmc_.invalidate(GFXHUB);
    sdma_.boot();
    if (options_.power_limit_watts) smu_.set_power_limit(options_.power_limit_watts);
    if (!warm_) {
      smu_.set_clocks(!options_.power_limit_watts);
      chip_.update<HDP_MEM_POWER_CTRL>([](auto& r) { r.atomic_mem_power_ctrl_en = 1, r.atomic_mem_power_ds_en = 1; });
      gfx_.clock_gating();
    }
    chip_.write_raw(layout_SCRATCH_REG0, layout_magic, {.index = layout_register});
    if (ctx.DEBUG >= 1) std::fprintf(stderr, "amd %s: %s boot\n", bus_->name().c_str(), warm_ ? "warm" : "cold");
  }
  void start_queues() {
    compute_->set_doorbell(gfx_.start_queue(0, compute_->memory()));
    copies_->set_doorbell(sdma_.start_queue(copies_->memory()));
  }

  // ---- launches
  Kernel kernel_of(const Launch& l) {  // as it is launched here
    Kernel k = static_cast<AmdCode*>(l.code)->kernel;
    k.lds_bytes += l.local_bytes;
    if (i64 most_lds = std::min<i64>(chip_.ip.lds_bytes, group_lds_bytes); k.lds_bytes > most_lds)
      throw Error("kernel ", k.name, " needs ", k.lds_bytes, " bytes of LDS, a work-group can have ", most_lds);
    if (k.scratch_bytes) need_scratch(k.scratch_bytes);
    return k;
  }
  void submitted(u64 value, std::string names) {
    running_.push_back({value, std::move(names)});
    while (running_.size() > 64) running_.pop_front();
  }
  void build(AmdStep& step) {
    std::unordered_map<void* const*, int> slots;
    for (size_t i = 0; i < step.changing.size(); i++) slots[step.changing[i]] = int(i);
    std::deque<Kernel> kernels;
    std::vector<amd::Step::Call> calls;
    step.names.clear();
    for (const Launch& l : step.launches) {
      if (!l.groups[0] || !l.groups[1] || !l.groups[2]) continue;
      const Kernel& k = kernels.emplace_back(kernel_of(l));
      amd::Step::Call c{
          &k, {l.groups[0], l.groups[1], l.groups[2]}, {l.threads[0], l.threads[1], l.threads[2]}, {}, {}};
      for (i64 i = 0; i < k.argument_bytes / 8; i++) {
        auto slot = slots.find(l.params + i);
        c.slots.push_back(slot == slots.end() ? -1 : slot->second);
        c.arguments.push_back(slot == slots.end() ? u64(l.params[i]) : 0);
      }
      calls.push_back(std::move(c));
      append(step.names, step.names.empty() ? k.name : ", " + k.name);
    }
    step.packets = std::make_unique<amd::Step>(chip_, gmc_, calls, scratch_);
    step.scratch = scratch_.va;
    step.values.resize(step.changing.size());
  }
  // Arguments stay until the launch is done: two halves in turn, each waited for before it is used again.
  u64 place_arguments(const Launch& l, const Kernel& k) {
    constexpr i64 half_bytes = arguments_bytes / 2;
    i64 bytes = (std::max<i64>(k.argument_bytes, 1) + 63) / 64 * 64;
    check(bytes <= half_bytes, k.name);
    if (arguments_at_ + bytes > half_bytes) {
      half_used_[half_] = std::max(half_used_[half_], compute_->last() + 1);  // the submission that is being written
      half_ ^= 1, arguments_at_ = 0;
      if (half_used_[half_] > compute_->last()) throw Error("more launches at once than there is room for arguments");
      finish(*compute_, half_used_[half_]);
    }
    i64 at = half_ * half_bytes + std::exchange(arguments_at_, arguments_at_ + bytes);
    gmc_.write(arguments_, at, l.params, k.argument_bytes);
    return arguments_.va + u64(at);
  }
  // For as many waves as the chip can have in flight.
  void need_scratch(i64 bytes_per_thread) {
    constexpr i64 lanes = 64, unit = 256;
    i64 wave = (bytes_per_thread * lanes + unit - 1) / unit * unit;
    if (wave <= scratch_.wave_bytes) return;
    const Discovery& ip = chip_.ip;
    i64 per_engine = i64(ip.compute_units()) * ip.scratch_slots_per_unit / ip.shader_engines;
    Memory bigger = gmc_.alloc_vram(wave * per_engine * ip.shader_engines);
    garbage_.push_back({compute_->last() + 1, std::exchange(scratch_memory_, std::move(bigger))});
    scratch_ = {scratch_memory_.va, wave, per_engine};
  }

  // ---- memory
  void put(const Memory& to, i64 offset, const void* from, i64 bytes) {
    bool visible = to.system || i64(to.paddr) + offset + bytes <= chip_.visible_bytes;
    if (visible && bytes <= direct_bytes) {
      gmc_.write(to, offset, from, bytes);
      return chip_.flush_hdp();
    }
    for (i64 at = 0; at < bytes; at += staging_bytes) {
      i64 n = std::min(staging_bytes, bytes - at);
      gmc_.write(staging_, 0, static_cast<const u8*>(from) + at, n);
      Packets p(chip_);
      p.copy(to.va + u64(offset + at), staging_.va, n);
      finish(*copies_, copies_->submit(p.words));
    }
  }
  void reclaim() {
    u64 done = compute_->done();
    std::erase_if(garbage_, [&](Garbage& g) {
      if (g.value > done) return false;
      gmc_.free(g.memory);
      return true;
    });
  }

  // ---- waiting, and what goes wrong
  void usable() {
    if (closed_) throw DeviceError(str(bus_->name(), ": the process is about to end"), "");
    if (lost_)
      throw DeviceError(str(bus_->name(), ": the chip could not be recovered; open it anew, which resets it"), "");
  }
  bool memory_error() {
    auto r = chip_.read<BIF_BX0_BIF_DOORBELL_INT_CNTL>();
    return r.ras_cntlr_interrupt_status || r.ras_athub_err_event_interrupt_status;
  }
  // Waits; what has ended is only believed if the chip met no page fault and no memory error meanwhile.
  void finish(Queue& queue, u64 value) {
    bool ended = queue.wait(value, options_.timeout_ns);
    u32 faulted = chip_.read_raw(layout_VM_L2_PROTECTION_FAULT_STATUS, {.hub = GFXHUB});
    bool ecc = memory_error(), gone = faulted == ~u32(0);
    if (ended && !faulted && !ecc) return;
    fail(str(bus_->name(), ": ", queue.engine == Queue::COMPUTE ? "compute" : "copy",
             gone      ? " cannot be reached: the chip has left the bus"
             : ecc     ? " met an uncorrectable memory error"
             : faulted ? " met a page fault"
                       : str(" made no progress for ", options_.timeout_ns / ms, " ms")));
  }
  // Everything there is to say, then the engines anew; throws in every case.
  [[noreturn]] void fail(std::string what) {
    std::string report;
    for (Hub hub : {GFXHUB, MMHUB_HUB})
      if (auto f = gmc_.fault(hub)) report += f->text + "  address " + hex(f->va) + ": " + near(f->va) + "\n";
    if (memory_error()) report += chip_.describe_register(layout_BIF_BX0_BIF_DOORBELL_INT_CNTL);
    u64 done = compute_->done();
    for (const Launched& l : running_)
      if (l.value > done) {
        report += str("  kernels of the submission ", l.value, ": ", l.names, "\n");
        break;
      }
    report += compute_->pending() + copies_->pending() + gfx_.state(0) + sdma_.state();
    for (const IH_ENTRY& e : ih_.drain()) report += "  " + Ih::text(e, chip_.generation()) + "\n";
    if (ih_.lost()) report += "  interrupts were lost\n";
    lost_ = true;
    for (int attempt = 0; attempt < 3 && lost_; attempt++) lost_ = !recover();
    report +=
        lost_ ? "  the engines could not be restarted\n" : "  the engines were restarted; what was submitted is gone\n";
    throw DeviceError(std::move(what), std::move(report));
  }
  bool recover() {
    gfx_.reset();
    sdma_.stop();
    sdma_.boot();
    for (Hub hub : {GFXHUB, MMHUB_HUB}) gmc_.clear_fault(hub);
    chip_.update<BIF_BX0_BIF_DOORBELL_INT_CNTL>(
        [](auto& r) { r.ras_cntlr_interrupt_clear = 1, r.ras_athub_err_event_interrupt_clear = 1; });
    ih_.drain();
    compute_->restart();
    copies_->restart();
    running_.clear();
    half_used_[0] = half_used_[1] = 0;
    start_queues();
    // They run if each does nothing and says so.
    return compute_->wait(compute_->submit({}), 1'000 * ms) && copies_->wait(copies_->submit({}), 1'000 * ms) &&
           !gmc_.fault(GFXHUB);
  }
  std::string near(u64 va) {  // which of our memory an address is in or after
    const Memory* best = nullptr;
    std::string kind;
    auto look = [&](const Memory& m, std::string_view what) {
      if (m.bytes && m.va <= va && (!best || m.va > best->va)) best = &m, kind = what;
    };
    for (auto& [handle, m] : memory_) look(m, "a buffer");
    for (auto& [at, c] : codes_) look(c->memory, "the code of " + c->kernel.name);
    for (Garbage& g : garbage_) look(g.memory, "freed memory");
    look(staging_, "staging memory"), look(arguments_, "kernel arguments"), look(scratch_memory_, "scratch memory");
    if (!best) return "nothing of ours is below it";
    i64 inside = i64(va - best->va);
    return inside < best->bytes
               ? str("inside of ", kind, " of ", best->bytes, " bytes at ", hex(best->va))
               : str(inside - best->bytes, " bytes after ", kind, " of ", best->bytes, " bytes at ", hex(best->va));
  }

  // For tools: JSON that goes on from the chip's facts.
  std::string state(std::string out) {
    auto list = [&](const char* name, const auto& all, auto text) {
      std::string items;
      for (const auto& one : all) items += (items.empty() ? "" : ", ") + text(one);
      append(out, str(", \"", name, "\": [", items, "]"));
    };
    auto memory = [](const Memory& m, std::string_view what) {
      return str("{\"address\": ", m.va, ", \"bytes\": ", m.bytes, ", \"what\": ", quote_json(what), "}");
    };
    append(out, str(", \"lost\": ", lost_, ", \"launches\": ", launches_, ", \"free_bytes\": ", gmc_.free_vram()));
    list("queues", std::array{compute_.get(), copies_.get()}, [&](Queue* q) {
      return str("{\"name\": \"", q->engine == Queue::COMPUTE ? "compute" : "copy", "\", \"ring\": ", q->memory().ring,
                 ", \"done\": ", q->done(), ", \"last\": ", q->last(), "}");
    });
    std::erase_if(running_, [&, done = compute_->done()](const Launched& l) { return l.value <= done; });
    list("running", running_, [](const Launched& l) { return quote_json(l.names); });
    list("kernels", codes_, [](const auto& c) {
      return str("{\"name\": ", quote_json(c.second->kernel.name), ", \"entry\": ", c.second->kernel.entry,
                 ", \"end\": ", c.first + u64(c.second->memory.bytes), "}");
    });
    list("buffers", memory_, [&](const auto& m) { return memory(m.second, "a buffer"); });
    list("memory", std::array{&staging_, &arguments_, &scratch_memory_}, [&](const Memory* m) {
      return memory(*m, m == &staging_ ? "staging memory" : m == &arguments_ ? "kernel arguments" : "scratch memory");
    });
    return out + "}";
  }

  std::unique_ptr<FileLock> owner_;  // first: nothing is read from a chip that another process drives
  std::unique_ptr<hw::Bus> bus_;
  Options options_;
  Chip chip_;
  Gmc gmc_;
  Psp psp_;
  Smu smu_;
  Ih ih_;
  Gfx gfx_;
  Sdma sdma_;
  DeviceInfo info_;
  bool warm_ = false, lost_ = false, closed_ = false;
  Gate& mutex_ = chip_.gate;
  struct View final : ChipInspect {
    AmdDevice& device;
    explicit View(AmdDevice& d) : ChipInspect(d.chip_), device(d) {}
    std::string state() override { return device.state(facts()); }
    SMU_METRICS metrics() override { return device.usable(), device.smu_.metrics(); }
    std::span<const u8> host(u64 address) override { return device.gmc_.host(address); }
  } view_{*this};
  std::unique_ptr<Queue> compute_, copies_;
  u64 launches_ = 0;
  Memory staging_, arguments_, scratch_memory_;
  Scratch scratch_;
  i64 arguments_at_ = 0;
  int half_ = 0;
  u64 half_used_[2] = {};
  std::map<u64, Memory> memory_;  // buffers by handle
  std::map<u64, AmdCode*> codes_;
  std::vector<Garbage> garbage_;
  std::deque<Launched> running_;
  u64 next_handle_ = 1;
};

AmdCode::~AmdCode() {
  if (device) device->unload(*this);
}
void AmdStep::run() { device.run(*this); }
AmdStep::~AmdStep() { device.retire(packets); }

}  // namespace

std::unique_ptr<Device> open(std::unique_ptr<hw::Bus> bus, const Options& options) {
  return std::make_unique<AmdDevice>(std::move(bus), options);
}
hw::Bus& bus_of(Device& device) { return static_cast<AmdDevice&>(device).bus(); }

}  // namespace ingot::amd
