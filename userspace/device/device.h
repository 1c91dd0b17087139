// SPDX-License-Identifier: MIT
// What all devices share. A back end is one class that implements Device and one row of compiler/runtime/backends.def.
#pragma once
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <unordered_map>
#include "userspace/base/base.h"
#include "userspace/hw/bus.h"

namespace ingot {

class Device;

// ---- buffer.cc -----------------------------------------------------------------------------------------------------
class Buffer {  // device memory with an intrusive count; share it through BufferRef
 public:
  Device& device;
  i64 bytes;
  u64 address = 0;       // device address
  void* host = nullptr;  // host pointer where the device shares memory with the host, else nullptr
  u64 handle = 0;        // the device's own
 private:
  friend class BufferRef;
  friend class Device;
  Buffer(Device& d, i64 n) : device(d), bytes(n) {}
  std::atomic<int> count_{0};
};
// Between any two devices; when it returns, it is done.
void copy_between(Buffer& to, i64 to_offset, const Buffer& from, i64 from_offset, i64 bytes);
i64 buffer_bytes();       // of all buffers alive, on all devices
i64 buffer_peak_bytes();  // the most there ever were
class BufferRef {
 public:
  BufferRef() = default;
  explicit BufferRef(Buffer* b);
  BufferRef(const BufferRef& o) : BufferRef(o.buffer_) {}
  BufferRef(BufferRef&& o) noexcept : buffer_(o.buffer_) { o.buffer_ = nullptr; }
  BufferRef& operator=(BufferRef o) noexcept { return std::swap(buffer_, o.buffer_), *this; }
  ~BufferRef();
  Buffer* operator->() const { return buffer_; }
  Buffer& operator*() const { return *buffer_; }
  Buffer* get() const { return buffer_; }
  explicit operator bool() const { return buffer_; }

 private:
  Buffer* buffer_ = nullptr;
};

// ---- registry.cc ---------------------------------------------------------------------------------------------------
struct DeviceInfo {
  std::string name;         // "CPU"
  std::string description;  // "Intel Xeon …, 2 cores, AVX-512"
  std::string isa, arch;    // for codegen: "x86", "avx512"
  u64 features = 0;
  int threads = 1;
  i64 memory_bytes = 0;
};
struct Code {  // machine code loaded on a device; freed by ~Code
  virtual ~Code() = default;
  u64 address = 0;  // of its first instruction, for the device
};
struct Resources {               // what a GPU must know to start machine code
  int params = 0;                // addresses of buffers
  int scalars = 0, vectors = 0;  // registers of a wave
  i64 frame_bytes = 0;           // private memory of a work-item
};
struct Launch {  // one entry of a launch list
  Code* code = nullptr;
  void* const* params = nullptr;  // addresses of the buffers, in PARAM order: the host's for a CPU, else the device's
  i64 extent = 1;
  i64 pieces = 1;       // how many pieces to split the extent into (1: run on the calling thread)
  i64 local_bytes = 0;  // scratch memory that each piece needs while it runs
  u32 groups[3] = {1, 1, 1}, threads[3] = {1, 1, 1};  // GPU: work-groups, and work-items of each
};
struct Step {  // a launch list made ready to run many times
  virtual ~Step() = default;
  virtual void run() = 0;  // as Device::run()
};
class Inspect;
class Device {
 public:
  virtual ~Device() = default;
  virtual const DeviceInfo& info() const = 0;
  // 64-byte aligned and uninitialised; DeviceError when out of memory. Under GUARD=1 a buffer may be aligned to its
  // element only.
  virtual BufferRef alloc(i64 bytes) = 0;
  virtual void copy_in(Buffer& to, i64 offset, const void* from, i64 bytes) = 0;
  virtual void copy_out(void* to, const Buffer& from, i64 offset, i64 bytes) = 0;
  // needs: nullptr for a CPU, and for code that brings its own description in the device's format.
  virtual std::unique_ptr<Code> load(std::span<const u8> machine_code, std::string_view name,
                                     const Resources* needs = nullptr) = 0;
  virtual void run(std::span<const Launch> launches) = 0;  // in order; each sees the ones before
  // The launches and their params stay where they are while the step lives. `changing`: the params whose values may
  // differ from run to run; those of the others are taken now.
  virtual std::unique_ptr<Step> prepare(std::span<const Launch> launches, std::span<void* const* const> changing);
  virtual void wait() = 0;                // until everything given to run() is done
  virtual void free(Buffer& buffer) = 0;  // called by BufferRef
  virtual void close() {}  // the process ends: no more work, and the device is left as the next one likes to find it
  virtual Inspect* inspect() { return nullptr; }  // for tools, while it works; nullptr: nothing to see
 protected:
  static Buffer* make_buffer(Device& device, i64 bytes);
};
struct DeviceName {  // [PREFIX+]NAME[:index][:ARCH]
  std::string prefix, name, arch;
  int index = 0;
};
DeviceName parse_device_name(std::string_view text);  // Error names what is accepted

// ---- inspect.cc: for tools -----------------------------------------------------------------------------------------
// What a tool can learn of a chip that a driver owns: in this process, behind the debug socket of another, or from a
// file. Everything is one kind of request, answered by bytes, so that the three cannot differ in what they can do.
class Inspect {
 public:
  enum What : u32 {
    STATE,           // JSON: the process, queues, kernels, memory
    METRICS,         // JSON: clocks, power, temperatures, as the chip's firmware measures them
    REGISTER,        // a dword; address in dwords
    WRITE_REGISTER,  // nothing; value, and yes must be 1
    WAVE,            // dwords of a wave's registers; address: what goes into the index register
    VRAM,            // memory; address: offset in VRAM
    HOST,            // memory of the owning process that the chip reaches; address: virtual, the chip's
    what_count
  };
  struct Request {  // on the socket as it is here
    u32 what = STATE;
    u32 bytes = 0;  // wanted, of WAVE, VRAM and HOST
    u64 address = 0;
    u64 bank = 0;  // of registers that exist several times: what the driver's selecting registers are set to, if not 0
    u32 value = 0, yes = 0;
    static constexpr u32 most_bytes = 1 << 20;
  };
  struct Header {  // of a reply on the socket; then the bytes: the answer, or the text of the error
    u32 failed = 0, bytes = 0;
  };
  virtual ~Inspect() = default;
  virtual std::string reply(const Request& request) = 0;  // Error: what cannot be answered, and why
};
// Takes the first request out of `received` and gives the bytes to send back, or nothing while it is not all there.
std::string serve_request(Inspect& chip, std::string& received, bool may_write);

// A chip's lock: held by a call of its user from start to end, but for the moments between its polls in which whoever
// looks may look. So a tool sees a queue that hangs, and never one that is half written.
class Gate {
 public:
  void lock() { call_.lock(), chip_.lock(); }
  void unlock() { chip_.unlock(), call_.unlock(); }
  void pass();  // by the holder, when the chip is in order: lets those in who wait
  template <class F>
  auto look(F f) {
    waiting_++;
    std::lock_guard lock(chip_);
    waiting_--;
    return f();
  }

 private:
  std::mutex call_, chip_;
  std::atomic<int> waiting_{0};
};

// The debug socket of a chip that this process owns: runtime_folder()/PID-NAME. One thread serves all clients, whose
// user must be ours or root; only ours may write. A client that stalls or lies costs itself.
class DebugSocket {
 public:
  DebugSocket(Inspect& chip, std::string_view name);  // OsError
  ~DebugSocket();
  const std::string path;

 private:
  struct Client {
    int file;
    bool may_write;
    std::string in, out;
  };
  void serve();
  bool exchange(Client& client, short events);
  void accept();
  Inspect& chip_;
  int listener_ = -1, stop_[2] = {-1, -1};
  std::vector<Client> clients_;
  std::thread thread_;
};

// ---- alloc.cc ------------------------------------------------------------------------------------------------------
// Two-level segregated fit over a range of addresses that the host need not be able to reach: VRAM, GTT, virtual
// addresses. Blocks start at and are rounded up to multiples of `unit`, a power of two. Constant time, not thread-safe.
class Tlsf {
 public:
  Tlsf(u64 start, i64 bytes, i64 unit);
  std::optional<u64> alloc(i64 bytes, i64 align = 1);  // nullopt: no free block is large enough
  void free(u64 address);                              // Error: not the start of a block in use (freed twice, wild)
  i64 size_of(u64 address) const;                      // of a block in use; Error as above
  i64 free_bytes() const { return free_units_ * unit_; }
  i64 largest() const;                              // bytes of the largest free block
  i64 in_use() const { return i64(used_.size()); }  // blocks; 0 when nothing leaked
  void verify() const;                              // check() of every invariant, linear: for tests

 private:
  static constexpr int SECOND = 16, FIRST = 64;  // each power of two has 16 size classes
  struct Block {
    i64 start = 0, units = 0;
    int before = -1, after = -1;   // neighbours in address order
    int previous = -1, next = -1;  // of the same class, while free
    bool free = false;
  };
  int make(Block block);
  void insert(int block);
  void remove(int block);
  int find_fit(i64 units) const;
  u64 start_;
  i64 unit_, free_units_ = 0;
  u64 first_ = 0;            // bit f: some class of the power 2^f has a block
  std::vector<u32> second_;  // bit s: class s has one
  std::vector<int> heads_;
  std::vector<Block> blocks_;
  std::vector<int> spare_;             // unused elements of blocks_
  std::unordered_map<i64, int> used_;  // block in use by its first unit
};

// ---- mm.cc ---------------------------------------------------------------------------------------------------------
// Page tables of any vendor. A mapping is written with the largest entries and fragments (naturally aligned blocks that
// are contiguous in both address spaces) that fit; taking part of one away splits it. Tables appear and go with what
// they map. The back end encodes entries from its rows, gives memory for tables and invalidates TLBs.
struct PageFlags {
  bool system = false, snooped = false, uncached = false;  // host memory (else VRAM); coherent with host caches; MTYPE
  bool read = true, write = true, execute = true;
  bool operator==(const PageFlags&) const = default;
};
struct PhysicalRun {
  u64 address = 0;
  i64 bytes = 0;
};
struct PageLevel {
  int shift = 0, bits = 0;  // index = address >> shift, so many bits of it
  bool leaf = true;         // an entry may map memory itself
};
class PageTableBackend {
 public:
  virtual ~PageTableBackend() = default;
  // fragment: logarithm of the block in pages of the last level.
  virtual u64 leaf_entry(int level, u64 physical, PageFlags flags, int fragment) const = 0;
  virtual u64 table_entry(int level, u64 physical) const = 0;  // an entry of `level` that points at a table
  virtual std::optional<u64> alloc_table(i64 bytes) = 0;       // aligned to its size; nullopt: out of memory
  virtual void free_table(u64 physical, i64 bytes) = 0;        // after invalidate()
  virtual void write(u64 physical, std::span<const u64> words) = 0;
  virtual void invalidate(u64 address, i64 bytes) = 0;  // no TLB knows an old translation when this returns
};
class PageTables {
 public:
  PageTables(PageTableBackend& backend, std::span<const PageLevel> levels);  // root first. DeviceError: out of memory
  ~PageTables();                                                             // tables are not given back
  u64 root() const;
  // Error: an address or a length is not whole pages, outside of the levels, or mapped already (map) or not (unmap);
  // DeviceError: no memory for tables. Then nothing has changed.
  void map(u64 address, std::span<const PhysicalRun> runs, PageFlags flags);
  void unmap(u64 address, i64 bytes);
  struct Mapping {
    u64 physical = 0;
    PageFlags flags;
    int level = 0, fragment = 0;
  };
  std::optional<Mapping> find(u64 address) const;
  i64 tables() const { return tables_; }

 private:
  struct Node;
  struct Entry;
  i64 page() const { return i64(1) << levels_.back().shift; }
  size_t index(u64 address, int level) const;
  bool in_range(u64 address, i64 bytes) const;
  std::unique_ptr<Node> make(int level, const Entry* splits);
  Node* descend(u64 address, int level);
  bool write_run(u64 address, u64 physical, i64 bytes, PageFlags flags);
  bool split(u64 address);
  void clear(u64 address, i64 bytes, std::vector<std::unique_ptr<Node>>& garbage);
  i64 gap(u64 address, i64 bytes, bool mapped) const;
  PageTableBackend& backend_;
  std::vector<PageLevel> levels_;
  std::unique_ptr<Node> root_;
  i64 tables_ = 0;
};

// ---- pci.cc --------------------------------------------------------------------------------------------------------
struct PciCard {
  std::string address;  // 0000:03:00.0
  u16 device = 0;
  std::string driver;    // the kernel's, that it is bound to
  std::string node;      // what we open to drive it
  std::string unusable;  // why we cannot; empty: we can
  hw::Bar bars[6];
};
std::vector<PciCard> pci_cards(u16 vendor);               // GPUs and accelerators, by address
std::unique_ptr<hw::Bus> open_card(const PciCard& card);  // Error: unusable, or in use; OsError

}  // namespace ingot
