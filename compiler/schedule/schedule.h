// SPDX-License-Identifier: MIT
// From a tensor graph to an ordered list of kernels. Movement ops become index arithmetic over RANGEs; elementwise chains and
// reductions fuse where legal and not a loss; what crosses a kernel boundary is a buffer. Knows no device and no ISA.
#pragma once
#include "compiler/uop/uop.h"

namespace ingot {

struct KernelBuffer {
  U buffer = nullptr;      // a BUFFER of the graph (input, assigned, or given for an output); nullptr: internal
  i64 internal = -1;       // number of the internal (planned) buffer
  DType dtype;
  i64 elements = 0;
  bool written = false, read = false;
};
struct ScheduledKernel {
  U sink = nullptr;                    // kernel-level SINK(STORE …), in the current arena; PARAM slot i is buffers[i]
  std::vector<KernelBuffer> buffers;
  std::string name;                    // what it computes: "conv2d_relu_512_32_20_20", readable, [a-z0-9_]
  std::string source;                  // file:line of the tensor it came from; may be empty
  U copy = nullptr;                    // a COPY between devices instead of code (sink is null then): buffers[0] <- buffers[1]
};
struct InternalBuffer {
  DType dtype;
  i64 elements = 0;
  i64 offset = 0;                      // bytes in the plan's one allocation, set by plan_memory
};
struct Schedule {
  std::vector<ScheduledKernel> kernels;     // in an order that honours read and write hazards
  std::vector<InternalBuffer> internals;
  i64 plan_bytes = 0;
  std::vector<U> outputs;                   // for each root: the BUFFER that holds it afterwards
};

// roots: tensor nodes to bring into memory. A root that is an ASSIGN ends in its buffer; another root gets `new_buffer(root)`,
// a fresh BUFFER of its shape and dtype (a root that already is a BUFFER stays itself).
Schedule schedule(std::span<const U> roots, const std::function<U(U)>& new_buffer);
void plan_memory(Schedule&);                // plan.cc: offsets by lifetime, 64-byte aligned
std::string print(const Schedule&);         // stable text: golden tests, DEBUG=3

// Where a tensor node was made, for kernel names: set by the tensor API, kept beside the arena, dropped with it.
void set_source(U, const char* file, int line);
std::string source_of(U);

}  // namespace ingot
