// SPDX-License-Identifier: MIT
// The one place where tensors, kernels and devices meet: it fills the device registry, brings tensor graphs into
// memory, caches and compiles kernels, records launch lists for replay, and prints what DEBUG asks for.
#pragma once
#include "compiler/codegen/codegen.h"
#include "compiler/schedule/schedule.h"
#include "userspace/device/device.h"
#include "userspace/hw/bus.h"

namespace ingot {
namespace model {
class Chip;
}

// ---- chips.cc: drivers and what they drive -------------------------------------------------------------------------
struct Reached {
  std::unique_ptr<hw::Bus> bus;
  bool is_model = false;        // here or on the other side of a virtual machine: its firmware has headers and no code
  model::Chip* chip = nullptr;  // the model itself, if it is in this process
};
// A chip of software for as long as the process lives, as MODEL_STRICT and MODEL_CHECK say when it is made. Its VRAM is
// so large, or is that file.
model::Chip& make_model(const DeviceName& name, i64 vram_mib = 4096, const std::string& vram_file = "");
Reached reach_model(const DeviceName& name, const struct Backend& row);
Reached reach_card(const DeviceName& name, const Backend& row);  // DEV=AMD:1 is the second one
Reached reach_again(model::Chip& chip);                          // plugged in anew
std::unique_ptr<Device> drive_amd(Reached chip);

// ---- devices.cc: the registry, from backends.def -------------------------------------------------------------------
struct Backend {
  std::string_view name, isa, description;
  std::unique_ptr<Device> (*open)(int index, std::string_view arch);  // nullptr: not on this machine
  std::unique_ptr<Device> (*drive)(Reached chip);                     // of a CHIP, which has no open
  u16 vendor;                                                         // of its cards
};
struct Way {
  std::string_view prefix, description;
  Reached (*reach)(const DeviceName& name, const Backend& row);
};
Reached reach(std::string_view text);  // the chip that DEV=text drives; Error: not one, or no way there
std::span<const Backend> backends();
std::span<const Way> ways();
int device_number(std::string_view name);  // "" is ctx.DEV or the best present; opens it on first use; Error if absent
Device& device(int number);
// For a device that says it cannot be recovered: opened anew under its number. What it held is lost: memory, captured
// steps; using them is an error.
void reopen(int number);
const std::string& device_name(int number);
Target target_of(int device_number);
bool is_reference(int device_number);      // DEV=REF: graphs are evaluated by eval.cc on host memory
model::Chip* model_of(int device_number);  // under the driver, in this process; nullptr: none

// ---- blocks.cc -----------------------------------------------------------------------------------------------------
hw::BlockCompiler* host_blocks(std::string_view arch = "");  // for emulators; nullptr where the host has no back end

// ---- realize.cc ----------------------------------------------------------------------------------------------------
U new_buffer(DType dtype, std::span<const i64> shape, int device);  // uninitialised memory
U buffer_from_host(const void* data, DType dtype, std::span<const i64> shape, int device);
bool is_lost(U buffer);                                                                     // by reopen()
U buffer_on(const BufferRef& memory, DType dtype, std::span<const i64> shape, int device);  // wraps existing memory
BufferRef buffer_of(U buffer);                                                              // of a BUFFER node
int device_of(U tensor);  // of its first BUFFER; -1: none
// Brings the roots into memory. result[i] is the BUFFER that holds roots[i]. Afterwards every live Pin whose graph
// contained a realised root refers to the BUFFER instead. An ASSIGN also realises, first, any live graph that still
// needs the old value.
std::vector<U> realize(std::span<const U> roots);
void read_back(U buffer, void* to);  // waits; row-major bytes. Error inside a capture
// Frees what no Pin reaches, nodes and memory, now. realize() does it by itself when enough has gathered.
void sweep_now();
void sweep_if_grown();  // after realize() and replay()

// ---- compile.cc, cache.cc ------------------------------------------------------------------------------------------
struct Kernel {  // compiled and loaded
  Program program;
  std::unique_ptr<Code> code;
  u64 launches = 0;
};
std::unique_ptr<Code> load(const Program&, Device&);
void forget_kernels(int device);     // they are compiled and loaded again when they are wanted
std::string kernel_at(u64 address);  // "r_64_32 + 0x1c: ADD f32, user.cc:7", of an instruction; "": no kernel of ours
std::vector<Kernel*> compile_all(std::span<const ScheduledKernel>,
                                 int device);                 // in parallel, into the cache; copies: nullptr
u64 kernel_key(const ScheduledKernel&, const Target&);        // equal for kernels that compile to the same code
std::optional<Program> load_program(u64 key, const Target&);  // from disk; nullopt also if it is off or damaged
void store_program(u64 key, const Program&);                  // written by sync_cache()
void sync_cache();                                            // writes what is new to disk; also at exit
// The cache's value, with a hash of itself and its key at the end: a damaged file cannot give the program of another
// key.
std::string encode_program(const Program&, u64 key);
std::optional<Program> decode_program(std::string_view bytes, u64 key);  // nullopt: not what encode_program wrote

// ---- launches: what realize() hands to the device, a recording, statistics and SAVE_KERNELS ------------------------
struct Argument {
  BufferRef memory;
  i64 offset = 0;  // bytes
  DType dtype;
  i64 elements = 0;
  bool written = false, read = false;
  i64 id = -1;  // of the BUFFER node; -1: internal
  void* address() const { return reinterpret_cast<void*>(memory->address + u64(offset)); }  // for the device
};
struct Call {
  Kernel* kernel = nullptr;  // nullptr: a copy of arguments[1] to arguments[0]
  std::string name, source;
  std::vector<Argument> arguments;
};
struct Evaluation {  // DEV=REF: one graph evaluated into a BUFFER, or into a region of it
  U value, to;
  std::vector<i64> region;  // begin, end for each axis; empty: all of it
};
void run_calls(std::span<const Call> calls, int device);  // prints and saves where DEBUG and SAVE_KERNELS ask for it
void run_evaluations(std::span<const Evaluation>, const std::function<BufferRef(U)>& memory_of);
i64 pieces_of(const Program&);
Launch launch_of(const Kernel&, void* const* params);

// ---- capture.cc: a step recorded once, replayed as a launch list ---------------------------------------------------
// record() runs a step and keeps every launch it makes. Inputs
// are BUFFERs made for this call (so that the same tensor reached by another way is not mistaken for the input). A
// recording is kept only if replaying it does what running the step again would do:
//   - no tensor that existed before was still unrealised and got memory, and no ASSIGN made before ran (it would run at
//   each replay);
//   - no state made by the step itself is assigned to, or replaces a tensor that the step reads (rebinding instead of
//   assign());
//   - no memory is filled from the host inside (its contents would be those of the recording).
// The first call may break these, because lazily made state settles in it; then ready() stays false and the next call
// records again. A second call that still breaks them is an Error that names the tensor, as is a host read in any call.
// What the step leaves behind unrealised (gradients, running averages) is realised within it, so each replay refreshes
// it. Outputs are the same BUFFERs at each replay. Host code of the step does not run at a replay.
class Recording {
 public:
  Recording();
  ~Recording();
  Recording(Recording&&) noexcept;
  std::vector<U> record(std::span<const U> inputs, const std::function<std::vector<U>()>& step);  // returns the outputs
  // Launches the list with these inputs in place of the recorded ones. Error if a shape or dtype differs, if an input
  // is not a BUFFER, if two inputs share memory where the recording's did not, or if one shares memory that the step
  // writes.
  void replay(std::span<const U> inputs);
  bool ready() const;
  size_t kernels() const;
  struct State;

 private:
  std::unique_ptr<State> state_;
};
namespace recording {  // what realize.cc tells the recording in progress on this thread, if any
bool active();
void created(U buffer, bool from_host);
void no_host_read(U buffer);  // Error while recording
void add(std::vector<Call> calls, int device);
void add(std::vector<Evaluation> evaluations, int device);
void executing(std::span<const U> roots, std::span<const U> assigns);  // realize() is about to
}  // namespace recording

// ---- stats.cc ------------------------------------------------------------------------------------------------------
struct Counters {
  u64 kernels = 0, operations = 0, bytes = 0, time_ns = 0;  // launched by this process; time only while DEBUG >= 2
  u64 compiled = 0, cache_hits = 0, compile_ns = 0, schedule_ns = 0, run_ns = 0;  // wall time of this process
  u64 blocks = 0;  // of an emulator's code, compiled for the host
  i64 memory_bytes = 0, memory_peak_bytes = 0;
};
Counters& counters();
void report_launch(const Call&, int device, i64 time_ns);           // DEBUG=2: one line
void report_compiled(const Program&, U sink);                       // DEBUG=3, 4, 5
void report_schedule(const Schedule&, i64 time_ns);                 // DEBUG=1
void report_compile(size_t kernels, size_t compiled, i64 time_ns);  // DEBUG=1

// ---- save.cc: SAVE_KERNELS. The format is described in save.cc and is stable ---------------------------------------
std::vector<std::string> arguments_before(const Call&);  // a copy of every buffer
void save_launch(const std::string& folder, const Call&, int device, std::span<const std::string> before);
struct Rerun {
  std::string file, kernel, problem;  // problem: "" when every buffer is equal byte for byte
};
std::vector<Rerun> rerun(const std::string& folder, int device);  // every launch saved there; Error if there is none

}  // namespace ingot
