// SPDX-License-Identifier: MIT
// What all devices share. A back end is one class that implements Device and one row of compiler/runtime/backends.def.
#pragma once
#include <map>
#include <memory>
#include "userspace/base/base.h"

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
};
struct Launch {  // one entry of a launch list
  Code* code = nullptr;
  void* const* params = nullptr;  // CPU: addresses of the buffers, in PARAM order
  i64 extent = 1;
  i64 pieces = 1;       // how many pieces to split the extent into (1: run on the calling thread)
  i64 local_bytes = 0;  // scratch memory that each piece needs while it runs
};
class Device {
 public:
  virtual ~Device() = default;
  virtual const DeviceInfo& info() const = 0;
  // 64-byte aligned and uninitialised; DeviceError when out of memory. Under GUARD=1 a buffer may be aligned to its
  // element only.
  virtual BufferRef alloc(i64 bytes) = 0;
  virtual void copy_in(Buffer& to, i64 offset, const void* from, i64 bytes) = 0;
  virtual void copy_out(void* to, const Buffer& from, i64 offset, i64 bytes) = 0;
  virtual std::unique_ptr<Code> load(std::span<const u8> machine_code, std::string_view name) = 0;
  virtual void run(std::span<const Launch> launches) = 0;  // in order; each sees the ones before
  virtual void wait() = 0;                                 // until everything given to run() is done
  virtual void free(Buffer& buffer) = 0;                   // called by BufferRef
 protected:
  static Buffer* make_buffer(Device& device, i64 bytes);
};
struct Backend {
  std::string_view name, isa, description;
  std::unique_ptr<Device> (*open)(int index, std::string_view arch);  // nullptr: not on this machine
};
struct DeviceName {  // [PREFIX+]NAME[:index][:ARCH]
  std::string prefix, name, arch;
  int index = 0;
};
DeviceName parse_device_name(std::string_view text);  // Error names what is accepted

}  // namespace ingot
