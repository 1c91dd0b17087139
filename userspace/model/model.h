// SPDX-License-Identifier: MIT
// Chips in software, behind hw::Bus: what a driver does to a model is what it would do to the card, and a driver's
// mistake fails the way it would fail there.
//
// A Chip outlives the processes that use it: each opens a ModelBus, and what one leaves behind (registers, VRAM, a
// queue that runs) the next one finds. Its time is simulated: it passes with each access and in wait_ns, engines run
// while it passes, so a hang costs a driver its time-out on the chip's clock and the host almost nothing. `strict`
// makes caches and write buffers hold on to data for as long as the hardware may. What a model notices that no driver
// should do is a line of `objections`; a test of a correct driver expects none.
#pragma once
#include <map>
#include <mutex>
#include <unordered_map>
#include "userspace/hw/bus.h"

namespace ingot::model {

enum class Injection : u8 {
  HANG,             // the next dispatch never ends
  PAGE_FAULT,       // the next translation of a shader's access fails
  LOST_DOORBELL,    // the next doorbell does not arrive
  PSP_REFUSAL,      // the next command to the security processor is refused
  ECC,              // an uncorrectable memory error is reported
  SURPRISE_REMOVAL  // the card leaves the bus for good
};
struct PciIdentity {
  u16 vendor = 0, device = 0, subsystem_vendor = 0, subsystem = 0;
  u32 class_code = 0;  // 24 bits
  u8 revision = 0;
  i64 bar_bytes[6] = {};  // powers of two, 0: absent; a 64-bit BAR takes its number and the next one
  bool bar_64bit[6] = {}, bar_prefetchable[6] = {};
};

// ---- bus.cc --------------------------------------------------------------------------------------------------------
class Chip {
 public:
  explicit Chip(const PciIdentity& identity);
  virtual ~Chip() = default;
  virtual void inject(Injection what) = 0;
  virtual void inject_later(Injection what, i64 dispatches) = 0;  // when so many more have started
  virtual void plug_in() = 0;                                     // after SURPRISE_REMOVAL: as after power-on
  virtual std::string state() const = 0;                          // decoded, a line each, for people

  // The machine that the chip is plugged into, when that is not this process: its memory and its interrupts.
  struct Machine {
    virtual u8* memory(u64 bus, i64 bytes, bool write) = 0;  // within a page; nullptr: nothing answers
    virtual void interrupt() = 0;
  };
  Machine* machine = nullptr;

  bool strict = true;
  std::vector<std::string> objections;
  std::function<void(const std::string&)> on_objection;
  i64 now_ns = 0;
  u64 dropped_dma = 0;  // accesses to host memory that went nowhere

 protected:
  friend class ModelBus;
  std::mutex mutex;  // an access is whole
  // The windows; offsets are checked. BAR 0 is memory, 2 doorbells, 5 registers.
  virtual void memory_read(u64 offset, void* to, i64 bytes) = 0;
  virtual void memory_write(u64 offset, const void* from, i64 bytes) = 0;
  virtual void doorbell(u64 offset, u64 value) = 0;
  virtual u32 register_read(u64 offset) = 0;
  virtual void register_write(u64 offset, u32 value) = 0;
  virtual void run(i64 ns) = 0;  // engines, for so long; now_ns is at the end of it already
  virtual void reset(hw::Reset kind) = 0;

  void object(std::string what);
  bool dma(u64 bus, void* data, i64 bytes, bool write);  // false: bus mastering is off, or nobody is there
  u8* dma_pointer(u64 bus, i64 bytes, bool write);       // within one page; nullptr likewise
  void raise_interrupt() { machine ? machine->interrupt() : void(interrupts_++); }
  bool bus_master() const;
  bool gone = false;
  u64 mapping_epoch = 1;  // grows when a pointer that dma_pointer() gave may be wrong

 private:
  void advance(i64 ns);  // time passes
  void accessed();       // a little of it: engines run when enough has come together
  i64 unrun_ns_ = 0;
  u32 config_read(u32 offset, int bytes) const;
  void config_write(u32 offset, u32 value, int bytes);
  PciIdentity identity_;
  std::vector<u8> config_, writable_;       // and which bits of it can be written
  std::unordered_map<u64, u8*> dma_pages_;  // host memory by bus page
  u64 next_bus_page_ = 0;
  u64 interrupts_ = 0;
};

// One user of a chip, as a process is: its memory goes when it goes, and what the chip then still writes is dropped.
class ModelBus final : public hw::Bus {
 public:
  // shared: memory for DMA is a file each, for another process.
  explicit ModelBus(Chip& chip, std::string name = "model 0", bool shared = false)
      : chip_(chip), name_(std::move(name)), shared_(shared) {}
  ~ModelBus() override;
  std::string name() const override { return name_; }
  u32 config_read(u32 offset, int bytes) override;
  void config_write(u32 offset, u32 value, int bytes) override;
  hw::Bar bar(int index) override;
  u32 read32(int bar, u64 offset) override;
  void write32(int bar, u64 offset, u32 value) override;
  void write64(int bar, u64 offset, u64 value) override;
  void copy_from(int bar, u64 offset, void* to, i64 bytes) override;
  void copy_to(int bar, u64 offset, const void* from, i64 bytes) override;
  void flush_writes() override {}
  hw::DmaMemory dma_alloc(i64 bytes, bool contiguous) override;
  void dma_free(hw::DmaMemory& memory) override;
  u64 wait_interrupt(i64 deadline_ns) override;
  i64 now_ns() override;
  void wait_ns(i64 ns) override;
  bool reset(hw::Reset kind) override;
  void memory_moved();  // of the machine: pointers into it are asked for again
  int dma_file(u64 handle) const { return memory_.at(handle).file; }

 private:
  bool reachable(int bar, u64 offset, i64 bytes);  // Error when outside; false while the chip does not answer
  Chip& chip_;
  std::string name_;
  bool shared_;
  struct Memory {
    u8* host;
    i64 bytes;
    std::vector<u64> bus;
    int file;
  };
  void unmap(Memory& memory);
  std::map<u64, Memory> memory_;
  u64 next_handle_ = 1;
};

// ---- socket.cc: a chip of another process -------------------------------------------------------------------------
// What passes between a Bus here and `ingot chip --serve`, over a socket of the kind SOCK_SEQPACKET. The server begins
// with a Reply: the version, or why not. Then the user sends Requests, with `bytes` of data for COPY_TO, and gets a
// Reply to each, with data (COPY_FROM, BAR, DMA_PAGES: bus addresses), a Dma and the memory's file (DMA_ALLOC), or with
// why it is refused.
namespace wire {
enum Op : u32 {
  CONFIG_READ,
  CONFIG_WRITE,
  BAR,
  READ32,
  WRITE32,
  WRITE64,
  COPY_FROM,
  COPY_TO,
  DMA_ALLOC,
  DMA_PAGES,
  DMA_FREE,
  INTERRUPT,
  WAIT,
  RESET
};
struct Request {
  u32 op = 0;
  i32 bar = 0;
  u64 offset = 0, value = 0;
  i64 bytes = 0;
};
struct Reply {
  u64 refused = 0, value = 0;
  i64 now_ns = 0;
};
struct Dma {
  u64 handle = 0;
  i64 bytes = 0, page_bytes = 0;
};
inline constexpr u64 version = 1;
inline constexpr i64 most_data = 32 << 10;  // of one message
bool send(int socket, const void* head, i64 head_bytes, std::span<const u8> data, int file);
// 1: a message; 0: the other side is gone; -1: an error, or not a message. file: receives one that came along.
i64 receive(int socket, void* head, i64 head_bytes, std::vector<u8>& data, int* file);
}  // namespace wire
std::unique_ptr<hw::Bus> connect(const std::string& path);  // OsError: nobody is there; Error: it is in use

// ---- amd_model.cc --------------------------------------------------------------------------------------------------
struct AmdOptions {
  std::string target = "gfx1100";  // a row of amd_chip.def
  i64 vram_bytes = i64(256) << 20;
  i64 visible_vram_bytes = 0;  // BAR 0; 0: all of it
  int vram_file = -1;          // that VRAM is, for somebody else to map; -1: memory of this process
  bool strict = true;
  hw::Wave* shader = nullptr;            // nullptr: a dispatch hangs
  i64 hang_instructions = i64(1) << 32;  // a dispatch that has run so many does no more work, but time passes
};
std::unique_ptr<Chip> make_amd(const AmdOptions& options);

// ---- amd_firmware.cc -----------------------------------------------------------------------------------------------
// A file with the headers of linux-firmware's `name`.bin and no code, which is what a model takes.
std::optional<std::string> stand_in_firmware(std::string_view name);

}  // namespace ingot::model
