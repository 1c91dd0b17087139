// SPDX-License-Identifier: MIT
// The seams: how a driver reaches a chip, and how a model of a chip runs a program.
//
// Bus is the chip that a driver owns: configuration space, windows (BARs), memory the chip can read, interrupts, time.
// device/pci.cc implements it over a kernel module or vfio-pci, model/bus.cc over a model, and the driver cannot tell:
// it never takes a pointer into a BAR, so a model sees each access, and it never asks the host for the time, so a model
// may let an hour pass in a microsecond. Ioctls is a chip that a kernel driver owns. Wave is the shader core that a
// model dispatches to, which an emulator implements; BlockCompiler is how that emulator reaches the host's back end.
//
// Nothing here throws for what hardware does (an absent chip reads as all ones); Error and OsError are for the host's
// own refusals (no memory, no permission, an access outside of a BAR).
#pragma once
#include <algorithm>
#include <memory>
#include <optional>
#include "userspace/base/base.h"

namespace ingot {

class UOp;

namespace hw {

// ---- Bus -----------------------------------------------------------------------------------------------------------
struct Bar {      // a window of the chip in the host's address space
  i64 bytes = 0;  // 0: the chip does not have it, or nothing could be assigned
  u64 bus = 0;    // where other devices see it, for copies from chip to chip
  bool prefetchable = false;
};
struct DmaMemory {     // host memory that the chip can reach; pinned until freed
  u8* host = nullptr;  // host address, contiguous
  i64 bytes = 0;
  i64 page_bytes = 0;    // bus addresses are contiguous within a page of this size, a power of two
  std::vector<u64> bus;  // bus address of each page
  u64 handle = 0;        // the bus's own
  u64 at(i64 offset) const { return bus[size_t(offset / page_bytes)] + u64(offset % page_bytes); }
};
enum class Reset : u8 { FUNCTION, BUS };  // function-level reset, secondary bus reset of the bridge above
class Bus {
 public:
  virtual ~Bus() = default;
  virtual std::string name() const = 0;  // "0000:03:00.0", "model 0"

  // Configuration space, `bytes` 1, 2 or 4, naturally aligned. All ones where there is nothing.
  virtual u32 config_read(u32 offset, int bytes) = 0;
  virtual void config_write(u32 offset, u32 value, int bytes) = 0;

  // Windows. Error for an access outside. Registers are read and written as aligned dwords, in program order, and a
  // read waits for the writes before it. Doorbells are one 64-bit store. copy_* are for memory apertures: they may be
  // combined and reordered until flush_writes(), and the chip may have more to be told before its engines see them.
  virtual Bar bar(int index) = 0;
  virtual u32 read32(int bar, u64 offset) = 0;
  virtual void write32(int bar, u64 offset, u32 value) = 0;
  virtual void write64(int bar, u64 offset, u64 value) = 0;
  virtual void copy_from(int bar, u64 offset, void* to, i64 bytes) = 0;
  virtual void copy_to(int bar, u64 offset, const void* from, i64 bytes) = 0;
  virtual void flush_writes() = 0;  // a store fence: everything written before is on its way before what follows

  // Memory for the chip. contiguous: one page of bus addresses. The chip reaches it only while bus mastering is on.
  virtual DmaMemory dma_alloc(i64 bytes, bool contiguous) = 0;
  virtual void dma_free(DmaMemory& memory) = 0;

  // Interrupts since the last call; waits for one up to the deadline on this bus's clock. 0: none came.
  virtual u64 wait_interrupt(i64 deadline_ns) = 0;

  // The chip's time, nanoseconds from an arbitrary start. A driver's time-outs are on this clock, and what it polls for
  // may only change across wait_ns (which lets a model run) or an access.
  virtual i64 now_ns() = 0;
  virtual void wait_ns(i64 ns) = 0;

  virtual bool reset(Reset kind) = 0;  // false: not possible here
};

// Polls until `done` holds; false when timeout_ns of the chip's time have passed first. The steps grow, so that a long
// time-out on a model is a few hundred polls.
template <class Done>
bool poll(Bus& bus, i64 timeout_ns, Done done) {
  for (i64 start = bus.now_ns(), step = 1000;;) {
    if (done()) return true;
    i64 passed = bus.now_ns() - start;
    if (passed >= timeout_ns) return done();
    step = std::min(std::max(step, passed / 32), timeout_ns - passed);
    bus.wait_ns(step);
  }
}

// ---- Ioctls --------------------------------------------------------------------------------------------------------
// How a driver reaches a chip that a kernel driver owns: the system calls, and nothing else of the system. Negative
// results are -errno, as the kernel's own.
class Ioctls {
 public:
  virtual ~Ioctls() = default;
  virtual int open(const char* path, int flags) = 0;
  virtual void close(int file) = 0;
  virtual int ioctl(int file, unsigned long request, void* argument) = 0;
  virtual void* mmap(void* address, size_t bytes, int protection, int flags, int file,
                     i64 offset) = 0;  // or MAP_FAILED
  virtual int munmap(void* address, size_t bytes) = 0;
  virtual int poll(int file, int timeout_ms) = 0;
  virtual std::optional<std::string> read_file(const char* path) = 0;  // sysfs; nullopt: absent
};

// ---- Wave ----------------------------------------------------------------------------------------------------------
// The memory that a dispatch sees: virtual addresses of one VMID, through the model's TLBs, page tables and caches.
// SHARED_READ: a load that may not come from a cache of one core. An atomic operation is one of those and a WRITE,
// between which a model lets nothing else run. FETCH: instructions.
enum class Access : u8 { READ, SCALAR_READ, SHARED_READ, WRITE, FETCH };
struct WaveMemory {
  virtual ~WaveMemory() = default;
  // Copies between `data` and memory. False: the access faulted; the model has recorded the fault, the wave stops.
  virtual bool access(Access kind, u64 address, void* data, i64 bytes) = 0;
  // A host pointer to `bytes` at the address for kind of access, valid until the dispatch ends, or nullptr: use
  // access(). For memory whose visibility the model does not check, so that an emulator can run compiled blocks at
  // speed.
  virtual u8* direct(Access kind, u64 address, i64 bytes) = 0;
  virtual void invalidate(bool scalar, bool vector, bool instruction) = 0;  // caches a shader instruction drops
};
struct Dispatch {
  u32 groups[3] = {1, 1, 1};   // work-groups
  u32 first[3] = {};           // number of the first one (START_*), in groups
  u32 threads[3] = {1, 1, 1};  // work-items of a group
  u64 entry = 0;               // address of the first instruction
  u32 rsrc[3] = {};            // COMPUTE_PGM_RSRC1 to 3, raw: registers, LDS, float mode, which ids are wanted
  u32 user_data[16] = {};      // initial scalar registers, RSRC2.user_sgpr of them
  bool wave32 = true;
  u64 scratch_base = 0;        // private memory: address of the first slot
  i64 scratch_wave_bytes = 0;  // bytes of a wave's slot; 0: none
  i64 scratch_waves = 0;       // slots
  u64 shared_aperture = 0;     // flat addresses of LDS and of scratch start here
  u64 private_aperture = 0;
  u32 seed = 0;  // order of waves
};
struct WaveReport {  // one wave, for a report of a hang or a fault
  u32 group[3] = {};
  int wave = 0;
  u64 pc = 0;
  bool at_barrier = false, scc = false;
  std::vector<u32> scalar;                  // by operand number: VCC, M0 and EXEC too; what nothing has set is 0
  std::vector<std::array<u32, 32>> vector;  // by register, then lane
};
struct WaveResult {
  enum Kind : u8 {
    DONE,
    RUNNING,  // the budget is used up: call step() again
    FAULT,    // an access faulted: the model knows which
    ILLEGAL_INSTRUCTION,
    VIOLATION  // the checker objects: `message` says to what, with pc and register
  } kind = DONE;
  u64 pc = 0;
  std::string message;
  i64 instructions = 0;  // that this step ran, over all waves
};
class Wave {  // a shader core: runs one dispatch at a time
 public:
  virtual ~Wave() = default;
  // Takes the dispatch in; `memory` must outlive it. The dispatch before is forgotten.
  virtual void start(const Dispatch& dispatch, WaveMemory& memory) = 0;
  virtual WaveResult step(i64 instructions) = 0;      // runs about so many, over all waves
  virtual std::vector<WaveReport> waves() const = 0;  // those that have started and not ended
};

// ---- BlockCompiler -------------------------------------------------------------------------------------------------
// Turns the graph of a basic block, a SINK of STOREs, into host code. Inputs and outputs are loads from and stores to
// its PARAMs, whose addresses a call gets in their order; what they are is between the emulator and its graphs. A graph
// loads all that it needs of a PARAM before it stores to it, and every operation is rounded by itself.
struct Block {
  virtual ~Block() = default;
  virtual void run(void* const* params) const = 0;
};
class BlockCompiler {
 public:
  virtual ~BlockCompiler() = default;
  virtual std::unique_ptr<Block> compile(const UOp* sink) = 0;  // nullptr: not on this host
};

}  // namespace hw
}  // namespace ingot
