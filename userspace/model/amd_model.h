// SPDX-License-Identifier: MIT
// An AMD chip in software, as its blocks: registers behind BAR 5, memory hubs with TLBs and page walks, the interrupt
// ring, the two management processors, compute queues, copy engines. Sections are named for the file that implements
// them. It knows the chip from the rows of userspace/hw/amd only; no code is shared with a driver.
#pragma once
#include <bitset>
#include <deque>
#include <set>
#include "userspace/hw/amd/amd.h"
#include "userspace/model/model.h"

namespace ingot::model {

using namespace amd;
using hw::Layout;

struct Client {  // who asks a memory hub: its hub, and its number in a fault's status
  Hub hub;
  u64 cid;
};
inline constexpr Client CPF{GFXHUB, GFXHUB_CLIENT::CPF}, CPC{GFXHUB, GFXHUB_CLIENT::CPC},
    TCP{GFXHUB, GFXHUB_CLIENT::TCP}, SQC_INST{GFXHUB, GFXHUB_CLIENT::SQC_INST},
    SQC_DATA{GFXHUB, GFXHUB_CLIENT::SQC_DATA}, SDMA_CLIENT{GFXHUB, GFXHUB_CLIENT::SDMA0}, IH_MEMORY{MMHUB_HUB, 0},
    MP0_MEMORY{MMHUB_HUB, 1}, MP1_MEMORY{MMHUB_HUB, 2};

struct Translation {
  u64 address = 0;  // in VRAM, or on the bus
  bool system = false, uncached = false, readable = false, writeable = false, executable = false;
};
// A cache of memory: whole pages of bytes, those that are there and those that memory does not have yet.
struct CachePage {
  std::array<u8, 4096> data;
  std::bitset<4096> valid, dirty, bypass;
};
using Cache = std::unordered_map<u64, CachePage>;  // by page, system memory with the top bit set

class AmdModel;
class ShaderMemory final : public hw::WaveMemory {  // what a dispatch sees
 public:
  ShaderMemory(AmdModel& chip, u32 vmid) : chip_(chip), vmid_(vmid) {}
  bool access(hw::Access kind, u64 address, void* data, i64 bytes) override;
  u8* direct(hw::Access kind, u64 address, i64 bytes) override;
  void invalidate(bool scalar, bool vector, bool instruction) override;

 private:
  AmdModel& chip_;
  u32 vmid_;
  struct Recent {
    u64 page = ~u64(0), epoch = 0;
    u8* host = nullptr;
    u8 kinds = 0;  // of access that are allowed
  };
  std::array<Recent, 256> recent_;
};

struct Packet {  // the last one a queue looked at
  const Layout* row = nullptr;
  std::vector<u32> words;
  std::string text(Generation generation) const {
    return row ? describe(*row, words, generation) : words.empty() ? "none" : "dword " + hex(words[0]);
  }
};
struct Stream {  // where a queue reads packets: its ring, or an indirect buffer
  u64 address = 0;
  u64 at = 0, end = 0;  // dwords; of a ring they go on growing
  u64 ring_dwords = 0;  // 0: not a ring
  u32 vmid = 0;
};
struct Queue {  // one compute queue: its bank of registers is the HQD
  u32 bank = 0;
  std::deque<Stream> streams;        // front: the ring
  std::string halted;                // why it goes no further; "": it does
  std::deque<hw::Dispatch> pending;  // dispatches that may still run
  bool running = false;              // the shader core has one of them
  i64 instructions = 0;              // that it has run
  i64 budget = 0;                    // that may run now
  bool hung = false;                 // injected
  std::unique_ptr<ShaderMemory> memory;
  Packet last;
};
struct CopyEngine {
  std::deque<Stream> streams;
  std::string halted;
  Packet last;
  u64 wptr = 0;
};

class AmdModel final : public Chip {
 public:
  explicit AmdModel(const AmdOptions& options);
  ~AmdModel() override;
  void inject(Injection what) override;
  void break_now(Injection what);
  void inject_later(Injection what, i64 dispatches) override { later_.push_back({what, dispatches}); }
  void plug_in() override;
  std::string state() const override;

 private:
  friend class ShaderMemory;
  // ---- amd_model.cc: registers, reset, doorbells, interrupts, discovery
  void memory_read(u64 offset, void* to, i64 bytes) override;
  void memory_write(u64 offset, const void* from, i64 bytes) override;
  void doorbell(u64 offset, u64 value) override;
  u32 register_read(u64 offset) override;
  void register_write(u64 offset, u32 value) override;
  void run(i64 ns) override;
  void reset(hw::Reset kind) override;

  struct Known {
    hw::RegisterName name;
    enum Bank : u8 { NONE, QUEUE, VMID } bank = NONE;
  };
  const Known* find(u64 dword_address) const;
  u32 bank_of(const Known& known) const;
  u32& cell(const Layout& layout, int index = 0, int copy = 0, u32 bank = 0);
  template <class T>
  u32& raw(int index = 0, int copy = 0, u32 bank = 0) {
    return cell(hw::layout_of<T>, index, copy, bank);
  }
  template <class T>
  T reg(int index = 0, int copy = 0, u32 bank = 0) {
    return unpack32<T>(raw<T>(index, copy, bank), generation_);
  }
  template <class Lo, class Hi>
  u64 pair(int index = 0, int copy = 0, u32 bank = 0) {
    return raw<Lo>(index, copy, bank) | u64(raw<Hi>(index, copy, bank)) << 32;
  }
  u32 read(u64 dword_address, bool from_host);
  bool write(u64 dword_address, u32 value, bool from_host);  // false: no such register
  void written(const Known& known, u32 value, u32 bank);
  void power_on();
  void mode1_reset();
  void interrupt(const IH_ENTRY& entry);
  void drop_doorbell(u64 offset, std::string why);
  void write_discovery();
  std::string where_is(u64 dword_address) const;

  // ---- amd_memory.cc: VRAM, host data path, page walks, caches
  std::optional<Translation> translate(const Client& client, u32 vmid, u64 address, hw::Access kind,
                                       bool quiet = false);
  std::optional<Translation> walk(Hub hub, u32 vmid, u64 address, u64& status);
  void fault(const Client& client, u32 vmid, u64 address, bool write, u64 status);
  bool access(const Client& client, u32 vmid, u64 address, void* data, i64 bytes, bool write, bool through_l2 = false);
  bool physical(const Translation& t, void* data, i64 bytes, bool write);
  bool through_l2(const Translation& t, void* data, i64 bytes, bool write);
  void flush_hdp();
  void invalidate_tlb(Hub hub, u32 vmids);
  void write_back_l2();
  void invalidate_l2();
  void end_of_dispatch();

  // ---- amd_firmware.cc: PSP and SMU
  void bootloader(u32 command);
  void psp_mailbox(u32 command);
  void psp_ring();
  u32 psp_command(std::span<u32> command);
  u32 load_firmware(u64 address, u64 bytes, u64 type);
  void smu_message(bool debug);
  void write_metrics(u64 address);
  bool firmware_running() const { return rlc_done_ns_ && now_ns >= rlc_done_ns_; }

  // ---- amd_queues.cc: compute queues, PM4, dispatch
  enum Outcome { DONE, BLOCKED, HALTED };
  void activate(u32 bank);
  void run_queue(Queue& queue, i64 ns);
  Outcome step(Queue& queue);
  Outcome packet(Queue& queue, u32 opcode, std::span<const u32> body, u64& next);
  Outcome set_registers(Queue& queue, u64 window, u64 end, std::span<const u32> body);
  Outcome halt(Queue& queue, std::string why, u64 source);
  Outcome dispatch(Queue& queue, const u32 (&groups)[3], u32 initiator);
  bool run_dispatches(Queue& queue);  // true: none left
  bool compare(u64 function, u32 value, u32 reference) const;
  void cache_control(bool l2_wb, bool l2_inv, bool vector_inv, bool scalar_inv, bool instruction_inv);
  u32 fetch(const Client& client, const Stream& s, u64 at, bool& ok);

  // ---- amd_waves.cc: what a debugger sees of them
  u32 wave_register();

  // ---- amd_sdma.cc: copy engines
  void run_engine(int number, i64 ns);
  Outcome step(int number, CopyEngine& engine);
  Outcome halt(int number, CopyEngine& engine, std::string why, u64 source);

  AmdOptions options_;
  Generation generation_;
  const struct ChipRow& row_;
  hw::Bases bases_;
  std::unordered_map<u64, Known> known_;
  std::unordered_map<u64, u32> cells_;                            // by address, bank in the top half
  std::unordered_map<const Layout*, std::array<u64, 2>> places_;  // address of the first register of each copy
  u8* vram_ = nullptr;
  u64 vram_bytes_ = 0;

  Cache hdp_, l2_, vector_, scalar_, instruction_;
  struct Aperture {  // of VMID 0, straight to VRAM; as the hub's registers say
    bool known = false, enabled = false;
    u64 low = 0, high = 0, frame = 0;
  } aperture_[2];
  const Aperture& aperture(Hub hub);
  std::unordered_map<u64, Translation> tlb_[2];  // by page, VMID in the top bits
  std::vector<std::string> sos_components_;
  std::set<u64> firmware_;
  bool sos_ = false, tmr_ = false, refuse_psp_ = false, hang_next_ = false, fault_next_ = false, lose_doorbell_ = false;
  struct Later {
    Injection what;
    i64 dispatches;
  };
  std::vector<Later> later_;
  i64 reset_until_ns_ = 0, rlc_done_ns_ = 0, psp_ready_ns_ = 0;
  u64 psp_rptr_ = 0, smu_table_ = 0;
  bool smu_features_ = false;
  u32 ppt_limit_ = 0;
  std::map<u32, Queue> queues_;
  std::vector<hw::WaveReport> waves_;
  i64 waves_at_ = -1;  // when the running dispatch had run so many instructions
  CopyEngine engines_[2];
};

struct ChipRow {
  const char* target;
  Generation generation;
  u16 device;
  u32 shader_engines, arrays, wgps;
  u64 memory_base;
};
struct IpRow {
  const char* target;
  Block block;
  u8 instance, major, minor, revision;
  std::vector<u64> bases;
};

}  // namespace ingot::model
