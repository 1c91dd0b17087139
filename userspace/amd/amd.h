// SPDX-License-Identifier: MIT
// A Radeon without AMD's software: from a Bus to kernels that run. Sections are in the order in which a chip comes up,
// each named for the file that implements it; device.cc says the order itself.
//
// Addresses have three names. `paddr` is an offset in VRAM. `mc` is what engines use that bypass page tables (PSP,
// interrupt ring, queue descriptors): the start of the frame buffer aperture plus paddr. `va` goes through the page
// tables of VMID 0, the only one used. Every wait is bounded on the bus's clock and ends in a DeviceError that carries
// the registers, decoded.
#pragma once
#include <compare>
#include <functional>
#include "userspace/device/device.h"
#include "userspace/hw/amd/amd.h"
#include "userspace/hw/bus.h"

namespace ingot::amd {

using hw::layout_of;

inline constexpr i64 page_bytes = 4096, mib = 1 << 20, ms = 1'000'000;  // nanoseconds

// ---- discovery.cc --------------------------------------------------------------------------------------------------
struct Version {
  int major = 0, minor = 0, revision = 0;
  auto operator<=>(const Version&) const = default;
  std::string text(char separator) const { return str(major, separator, minor, separator, revision); }
};
struct Discovery {  // what the chip says it is
  Generation generation = GFX11;
  hw::Bases bases;
  std::map<std::pair<int, int>, Version> blocks;                       // {block, instance}, without those fused off
  int shader_engines = 0, arrays_per_engine = 0, units_per_array = 0;  // compute units
  int waves_per_simd = 0, scratch_slots_per_unit = 0, lds_bytes = 0;
  int compute_units() const { return shader_engines * arrays_per_engine * units_per_array; }
  Version version(Block block) const;  // Error: the chip has none
  std::string arch() const;            // "gfx1100"
};
Discovery parse_discovery(std::span<const u8> binary);  // Error says what is wrong with it

struct At {  // which one of a row's registers
  int hub = 0, index = 0, instance = 0;
};
class Chip {  // registers and VRAM
 public:
  explicit Chip(hw::Bus& bus);  // reads the discovery table. DeviceError: not there, or not a chip of this driver
  hw::Bus& bus;
  Discovery ip;
  i64 vram_bytes = 0, visible_bytes = 0;  // visible: through BAR 0
  Generation generation() const { return ip.generation; }

  u32 read_raw(const hw::Layout& layout, At at = {});
  void write_raw(const hw::Layout& layout, u32 value, At at = {});
  template <class R>
  R read(At at = {}) {
    return unpack32<R>(read_raw(layout_of<R>, at), generation());
  }
  template <class R>
  void write(const R& value, At at = {}) {
    write_raw(layout_of<R>, pack32(value, generation()), at);
  }
  template <class R, class F>
  void update(F change, At at = {}) {  // bits in no field stay as they are
    u32 word = read_raw(layout_of<R>, at);
    R value = unpack32<R>(word, generation());
    change(value);
    auto all = hw::members(value);
    for (size_t i = 0; i < all.size(); i++)
      if (const hw::Field& f = layout_of<R>.fields[i]; f.exists(generation()) || all[i])
        hw::set_bits({&word, 1}, layout_of<R>, f, generation(), all[i]);
    write_raw(layout_of<R>, word, at);
  }
  // Polls until done(register) holds; DeviceError "what timed out after …" with the register.
  template <class R, class Done>
  R wait(std::string_view what, i64 timeout_ns, Done done, At at = {}) {
    R value{};
    if (!hw::poll(bus, timeout_ns, [&] { return done(value = read<R>(at)); }))
      timed_out(what, timeout_ns, describe_register(layout_of<R>, at));
    return value;
  }
  [[noreturn]] void timed_out(std::string_view what, i64 timeout_ns, std::string state);
  std::string describe_register(const hw::Layout& layout, At at = {});  // read now
  u64 address(const hw::Layout& layout, At at = {}) const {             // dwords
    return hw::register_address(layout, ip.generation, ip.bases, at.hub, at.index, at.instance);
  }

  // VRAM: through BAR 0 where that reaches, else a dword at a time. The chip sees writes after flush_hdp().
  void write_vram(u64 paddr, const void* from, i64 bytes);
  void read_vram(u64 paddr, void* to, i64 bytes);
  void flush_hdp();

  Gate gate;  // whoever uses the chip holds it; the functions here do not
  u32 read_dword(u64 dword);
  void write_dword(u64 dword, u32 value);

 private:
  void window(u64 paddr, u32* data, bool write);
  u64 hdp_flush_ = 0;  // byte address of the register whose write flushes
};

// ---- gmc.cc: memory ------------------------------------------------------------------------------------------------
u64 leaf_entry(Generation generation, int level, u64 physical, PageFlags flags, int fragment);  // level 0 is PDB2
u64 table_entry(Generation generation, int level, u64 physical);
std::span<const PageLevel> page_levels();

struct Memory {  // one allocation; move it, free it through Gmc::free
  u64 va = 0;
  i64 bytes = 0;
  bool system = false;
  u64 paddr = 0;      // VRAM
  hw::DmaMemory dma;  // system
};
class Gmc final : public PageTableBackend {
 public:
  explicit Gmc(Chip& chip);
  ~Gmc() override;
  u64 mc(u64 paddr) const { return fb_base_ + paddr; }
  // The boot region: the first 32 MiB of VRAM, which outlives a process. Always the same order, so the same places.
  u64 alloc_boot(i64 bytes, i64 align = page_bytes);
  void create_tables();  // once VRAM is there to stay
  void init_hub(Hub hub);
  bool hub_ready(Hub hub) const { return ready_[hub]; }
  void invalidate(Hub hub);

  // Mapped for reading, writing and executing. DeviceError: out of memory. uncached: the chip's L2 keeps nothing of it.
  Memory alloc_vram(i64 bytes, bool uncached = false);
  Memory alloc_system(i64 bytes, bool contiguous = false);
  void free(Memory& memory);
  void discard(Memory& memory) {  // for destructors: free() when the next memory is wanted, without touching the chip
    if (memory.bytes) discarded_.push_back(std::exchange(memory, {}));
  }
  void write(const Memory& to, i64 offset, const void* from, i64 bytes);  // by the host; VRAM: then flush_hdp()
  void read(const Memory& from, i64 offset, void* to, i64 bytes);
  i64 free_vram() const { return vram_.free_bytes(); }
  std::span<const u8> host(u64 va) const;  // of an allocation in system memory, from va to its end; empty: none
  const PageTables& tables() const { return *tables_; }

  struct Fault {
    u64 va = 0;
    std::string text;  // "GCVM_L2_PROTECTION_FAULT_STATUS vmid=0 cid=TCP …"
  };
  std::optional<Fault> fault(Hub hub);  // the sticky fault status
  void clear_fault(Hub hub);

  u64 leaf_entry(int level, u64 physical, PageFlags flags, int fragment) const override;
  u64 table_entry(int level, u64 physical) const override;
  std::optional<u64> alloc_table(i64 bytes) override;
  void free_table(u64 physical, i64 bytes) override;
  void write(u64 physical, std::span<const u64> words) override;
  void invalidate(u64 address, i64 bytes) override;

 private:
  void place(Memory& memory, std::span<const PhysicalRun> runs, PageFlags flags);
  void free_discarded();
  Chip& chip_;
  u64 fb_base_ = 0, fb_end_ = 0, scratch_page_ = 0, dummy_page_ = 0;
  Tlsf boot_, vram_, va_;
  std::unique_ptr<PageTables> tables_;
  std::vector<Memory> discarded_;
  std::map<u64, std::span<const u8>> host_;  // system memory by va
  bool ready_[2] = {};
};

// ---- psp.cc: firmware ----------------------------------------------------------------------------------------------
using FirmwareReader = std::function<std::optional<std::string>(std::string_view name)>;  // "gc_11_0_0_mec": its file
FirmwareReader system_firmware(std::string folder = "");  // "": where linux-firmware is installed
struct Firmware {
  struct Part {
    std::string name;        // "gc_11_0_0_mec RS64_MEC"
    std::vector<u64> types;  // GFX_FW_TYPE: sent once for each
    std::string bytes;
  };
  std::map<u64, std::string> sos;  // by PSP_FW_TYPE
  std::vector<Part> smu, parts;    // in the order of loading
  u64 mec_start = 0, pfp_start = 0, me_start = 0;
};
// Error names the file, where it was looked for and what is wrong with it. exact: contents must be those of
// firmware.def.
Firmware load_firmware(const Discovery& ip, const FirmwareReader& reader, bool exact);

class Psp {
 public:
  Psp(Chip& chip, Gmc& gmc);
  bool alive();  // the secure OS runs
  void boot(const Firmware& firmware);

 private:
  void load_component(u64 type, u64 command, std::string_view image);
  void create_ring();
  template <class T>
  PSP_CMD_RESP submit(const T& body, std::string_view what);
  void place(std::string_view image, std::string_view what);
  void load(const Firmware::Part& part);
  Chip& chip_;
  Gmc& gmc_;
  u64 image_, command_, fence_, ring_, tmr_ = 0;
  bool boot_time_tmr_;
};

// ---- smu.cc: clocks, power, reset ----------------------------------------------------------------------------------
class Smu {
 public:
  Smu(Chip& chip, Gmc& gmc);
  template <class T>
  u32 send(const T& message, i64 timeout_ns = 10'000 * ms) {  // the argument that comes back
    const hw::Layout& l = layout_of<T>;
    std::vector<u32> words = pack(message, chip_.generation());
    return exchange(l, words.empty() ? 0 : words[0], timeout_ns);
  }
  bool alive();
  void boot();
  void mode1_reset();  // everything but the PCIe link; bus mastering must be off
  SMU_METRICS metrics();
  void set_power_limit(int watts);
  void set_clocks(bool highest);

 private:
  u32 exchange(const hw::Layout& message, u32 argument, i64 timeout_ns);
  Chip& chip_;
  Gmc& gmc_;
  u64 table_;
};

// ---- ih.cc: interrupts ---------------------------------------------------------------------------------------------
class Ih {
 public:
  Ih(Chip& chip, Gmc& gmc);
  void boot();
  std::vector<IH_ENTRY> drain();  // what came since the last call, oldest first
  bool lost() const { return lost_; }
  static std::string text(const IH_ENTRY& entry, Generation generation);

 private:
  Chip& chip_;
  Gmc& gmc_;
  u64 ring_[2], wptr_[2];
  u32 rptr_ = 0;
  bool lost_ = false;
};

// ---- gfx.cc, sdma.cc: engines --------------------------------------------------------------------------------------
struct QueueMemory {  // what an engine must know of a queue; addresses are va
  u64 ring = 0, rptr = 0, wptr = 0, eop = 0;
  i64 ring_bytes = 0, eop_bytes = 0;
};
class Gfx {
 public:
  Gfx(Chip& chip, Gmc& gmc);
  void boot(const Firmware& firmware, bool warm);
  u64 start_queue(int queue, const QueueMemory& memory);  // index of its doorbell
  void stop_queue(int queue, bool broken);                // broken: kill waves, and do not insist that it stops
  void reset();                                           // the compute micro engine; all queues are gone
  void clock_gating();
  std::string state(int queue);  // registers, one a line

 private:
  void select(int me = 0, int pipe = 0, int queue = 0, int vmid = 0);
  void start_address(const Firmware& firmware);
  void enable();
  Chip& chip_;
  Gmc& gmc_;
  u64 mqd_[2];
  u64 mec_start_ = 0, pfp_start_ = 0, me_start_ = 0;
};
class Sdma {
 public:
  explicit Sdma(Chip& chip) : chip_(chip) {}
  void boot();
  u64 start_queue(const QueueMemory& memory);
  void stop();
  std::string state();

 private:
  Chip& chip_;
};

// ---- queue.cc: packets ---------------------------------------------------------------------------------------------
struct Kernel {  // of a program in memory, from its KERNEL_DESCRIPTOR
  std::string name;
  u64 entry = 0;  // va
  u32 rsrc[3] = {};
  i64 lds_bytes = 0, scratch_bytes = 0, argument_bytes = 0;
  bool wave32 = true, dispatch_pointer = false;
  int first_user = 0;  // user data registers before the address of the arguments
};
Kernel parse_kernel(std::span<const u8> code, std::string_view name, u64 va, Generation generation);  // Error
// Bare machine code behind a descriptor of its own, as parse_kernel() wants it. It starts with the address of its
// arguments in s[0:1], the number of its work-group in s15, that of each work-item in v0; floats round to nearest even
// and keep denormals; a work-group stays on one compute unit.
std::vector<u8> with_descriptor(std::span<const u8> code, const Resources& needs, Generation generation);
struct Scratch {  // private memory of all waves
  u64 va = 0;
  i64 wave_bytes = 0;
  i64 waves = 0;  // per shader engine
};
class Packets {  // PM4 and SDMA packets as words
 public:
  explicit Packets(const Chip& chip) : chip_(chip) {}
  std::vector<u32> words;
  template <class P>
  size_t pm4(const P& packet, std::span<const u32> tail = {}) {  // index of the packet's first dword
    size_t at = words.size();
    std::vector<u32> body = pack(packet, chip_.generation());
    body.insert(body.end(), tail.begin(), tail.end());
    header(layout_of<P>, body.size());
    words.insert(words.end(), body.begin(), body.end());
    return at;
  }
  template <class P>
  size_t sdma(const P& packet, std::span<const u32> tail = {}) {
    size_t at = words.size();
    std::vector<u32> body = pack(packet, chip_.generation());
    words.insert(words.end(), body.begin(), body.end());
    words.insert(words.end(), tail.begin(), tail.end());
    return at;
  }
  template <class R>
  void set_sh(std::span<const u32> values, int index = 0) {  // consecutive registers from R on
    set_sh(layout_of<R>, values, index);
  }
  void set_sh(const hw::Layout& first, std::span<const u32> values, int index);
  // Compute.
  void flush_hdp();                 // by the chip: the host's writes through BAR 0 before it become visible
  void acquire(bool everything);    // caches forget; everything: L2 and instructions too
  void release(u64 va, u64 value);  // caches written back, then the 64-bit value
  void timestamp(u64 va);           // 64 bits, 10 ns each, when everything before has ended
  void wait(u64 va, u32 at_least);  // until the dword is
  void dispatch(const Kernel& kernel, const u32 groups[3], const u32 threads[3], u64 arguments, const Scratch& scratch);
  void indirect(u64 va, i64 dwords);
  // Copy engine.
  void copy(u64 to, u64 from, i64 bytes);
  void fill(u64 to, u32 value, i64 bytes);
  void sdma_fence(u64 va, u32 value);
  void sdma_timestamp(u64 va);
  void sdma_wait(u64 va, u32 at_least);

 private:
  void header(const hw::Layout& layout, size_t payload);
  const Chip& chip_;
};
// "0x10: RELEASE_MEM …" a line each, for DEBUG=6, reports and tools; what does not decode is shown as words.
std::string describe_pm4(std::span<const u32> words, Generation generation, const hw::RegisterMap* names = nullptr);
std::string describe_sdma(std::span<const u32> words, Generation generation);

class Queue {  // a ring that an engine reads, in system memory, and its timeline
 public:
  enum Engine : u8 { COMPUTE, COPY };
  Queue(Chip& chip, Gmc& gmc, Engine engine, i64 ring_bytes = mib);
  ~Queue();
  Queue(const Queue&) = delete;
  Engine engine;
  QueueMemory memory() const;
  void set_doorbell(u64 index) { doorbell_ = index; }
  // Puts the words, a fence to the next timeline value and the doorbell; the value. Waits for room in the ring.
  u64 submit(std::span<const u32> words);
  u64 done();  // the timeline's value
  u64 last() const { return last_; }
  bool wait(u64 value, i64 timeout_ns);
  u64 timeline() const;   // va of the timeline's value, for waits of other queues
  i64 unread();           // dwords in the ring that the engine has not taken
  std::string pending();  // the packets it takes next, decoded
  void restart();         // the engine starts anew: nothing is pending any more, the timeline is at last()

 private:
  void ring_doorbell();
  Chip& chip_;
  Gmc& gmc_;
  Memory memory_;
  i64 ring_dwords_;
  u64 write_ = 0, last_ = 0, doorbell_ = 0;
};

// A captured step: the packets of many launches and their arguments, built once. A replay writes the addresses that
// differ from run to run into the arguments, and submits one indirect buffer: a microsecond or two whatever its length.
class Step {
 public:
  struct Call {
    const Kernel* kernel;
    u32 groups[3], threads[3];
    std::vector<u64> arguments;
    std::vector<int> slots;  // per argument: the replay's value that is added to it; -1: none
  };
  Step(Chip& chip, Gmc& gmc, std::span<const Call> calls, const Scratch& scratch);
  ~Step();
  Step(const Step&) = delete;
  // The timeline's value when it is done. Waits for its own last replay, whose arguments it would overwrite.
  u64 replay(Queue& queue, std::span<const u64> values, i64 timeout_ns);

 private:
  struct Patch {
    i64 offset;
    int slot;
    u64 add;
  };
  Gmc& gmc_;
  Memory memory_;  // arguments, then packets
  u64 packets_ = 0;
  i64 dwords_ = 0;
  std::vector<Patch> patches_;
  u64 last_ = 0;
  const Queue* last_queue_ = nullptr;
  std::vector<u32> submission_;
};

// ---- inspect.cc: for tools -----------------------------------------------------------------------------------------
// Registers, waves and VRAM of a chip, whoever has brought it up, under its gate. While a request is answered, its bank
// is in GRBM_GFX_CNTL, and with select_index its upper half in GRBM_GFX_INDEX.
class ChipInspect : public Inspect {
 public:
  static constexpr u64 select_index = u64(1) << 31;
  explicit ChipInspect(Chip& chip) : chip_(chip) {}
  std::string reply(const Request& request) override;

 protected:
  virtual std::string state() { return facts() + "}"; }
  virtual SMU_METRICS metrics();                  // Error here: they need the driver's memory
  virtual std::span<const u8> host(u64 address);  // to the end of the allocation; empty: none of ours
  std::string facts();                            // a JSON object without its end: what the chip is, whose process
  Chip& chip_;
};

// ---- device.cc -----------------------------------------------------------------------------------------------------
struct Options {
  FirmwareReader firmware = system_firmware();
  bool exact_firmware = true;
  bool exclusive = false;        // a lock in the runtime folder keeps other processes from driving it: Error names who
  int power_limit_watts = 0;     // 0: the chip's own, with its clocks pinned to their highest level
  i64 timeout_ns = 10'000 * ms;  // of a submission without progress
};
// Boots the chip, or attaches to one that the last process left in order. Error, DeviceError: why it cannot.
std::unique_ptr<Device> open(std::unique_ptr<hw::Bus> bus, const Options& options);
// Of a Device that open() made, for tools that look at the chip while it works. What takes several accesses (an index
// register and its data, GRBM_GFX_INDEX) is not safe from the driver's own.
hw::Bus& bus_of(Device& device);

}  // namespace ingot::amd
