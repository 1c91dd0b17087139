// SPDX-License-Identifier: MIT
// The one place where tensors, kernels and devices meet: it fills the device registry, brings tensor graphs into memory, caches
// and compiles kernels, records launch lists for replay, and prints what DEBUG asks for.
#pragma once
#include "compiler/codegen/codegen.h"
#include "compiler/schedule/schedule.h"
#include "userspace/device/device.h"

namespace ingot {

// ---- devices.cc: the registry, from backends.def ---------------------------------------------------------------------
std::span<const Backend> backends();
int device_number(std::string_view name);  // "" is ctx.DEV or the best present; opens it on first use; Error if absent
Device& device(int number);
const std::string& device_name(int number);
Target target_of(int device_number);
bool is_reference(int device_number);      // DEV=REF: graphs are evaluated by eval.cc on host memory

// ---- realize.cc --------------------------------------------------------------------------------------------------------
U new_buffer(DType dtype, std::span<const i64> shape, int device);                        // uninitialised memory
U buffer_from_host(const void* data, DType dtype, std::span<const i64> shape, int device);
U buffer_on(const BufferRef& memory, DType dtype, std::span<const i64> shape, int device); // wraps existing memory
BufferRef buffer_of(U buffer);                                                            // of a BUFFER node
int device_of(U tensor);                                                                  // of its first BUFFER; -1: none
// Brings the roots into memory. result[i] is the BUFFER that holds roots[i]. Afterwards every live Pin whose graph contained a
// realised root refers to the BUFFER instead. An ASSIGN also realises, first, any live graph that still needs the old value.
std::vector<U> realize(std::span<const U> roots);
void read_back(U buffer, void* to);  // waits; row-major bytes. Error inside a capture

// ---- compile.cc, cache.cc --------------------------------------------------------------------------------------------
struct Kernel {  // compiled and loaded
  Program program;
  std::unique_ptr<Code> code;
  u64 launches = 0;
};
Kernel& kernel_for(const ScheduledKernel&, int device);                       // from the cache, else compiled
void compile_all(std::span<const ScheduledKernel>, int device);               // in parallel, into the cache
void sync_cache();                                                            // writes what is new to disk; also at exit

// ---- capture.cc: a step recorded once, replayed as a launch list -----------------------------------------------------
class Recording {
 public:
  Recording();
  ~Recording();
  // Runs `step` with the inputs (BUFFERs) and records every launch it makes. The roots it returns are the outputs.
  std::vector<U> record(std::span<const U> inputs, const std::function<std::vector<U>()>& step);
  // Launches the list with these inputs in place of the recorded ones. Error if a shape or dtype differs, if an input is not a
  // BUFFER, or if two inputs (or an input and an output) share memory where the recording's did not.
  void replay(std::span<const U> inputs);
  bool ready() const;
  size_t kernels() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// ---- stats.cc --------------------------------------------------------------------------------------------------------
struct Counters {
  u64 kernels = 0, operations = 0, bytes = 0, time_ns = 0;  // launched by this process; time only while DEBUG >= 2
  u64 compiled = 0, cache_hits = 0, compile_ns = 0, schedule_ns = 0;
  i64 memory_bytes = 0, memory_peak_bytes = 0;
};
Counters& counters();

}  // namespace ingot
