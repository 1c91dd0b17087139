// SPDX-License-Identifier: MIT
// From a tensor graph to an ordered list of kernels. Movement ops become index arithmetic over RANGEs; elementwise
// chains and reductions fuse where legal and not a loss; what crosses a kernel boundary is a buffer. Knows no device
// and no ISA.
#pragma once
#include <unordered_map>
#include "compiler/uop/uop.h"

namespace ingot {

struct KernelBuffer {
  U buffer = nullptr;  // a BUFFER of the graph (input, assigned, or given for an output); nullptr: internal
  i64 internal = -1;   // number of the internal (planned) buffer
  DType dtype;
  i64 elements = 0;
  bool written = false, read = false;
};
struct ScheduledKernel {
  U sink = nullptr;  // kernel-level SINK(STORE …), in the current arena; PARAM slot i is buffers[i]
  std::vector<KernelBuffer> buffers;
  std::string name;    // what it computes: "conv2d_relu_512_32_20_20", readable, [a-z0-9_]
  std::string source;  // file:line of the tensor it came from; may be empty
  U copy = nullptr;    // a COPY between devices instead of code (sink is null then): buffers[0] <- buffers[1]
};
struct InternalBuffer {
  DType dtype;
  i64 elements = 0;
  i64 offset = 0;  // bytes in the plan's one allocation, set by plan_memory
};
struct Schedule {
  std::vector<ScheduledKernel> kernels;  // in an order that honours read and write hazards
  std::vector<InternalBuffer> internals;
  i64 plan_bytes = 0;
  std::vector<U> outputs;  // for each root: the BUFFER that holds it afterwards
};

// roots: tensor nodes to bring into memory. A root that is an ASSIGN ends in its buffer; another root gets
// `new_buffer(root)`, a fresh BUFFER of its shape and dtype (a root that already is a BUFFER stays itself).
Schedule schedule(std::span<const U> roots, const std::function<U(U)>& new_buffer);
void plan_memory(Schedule&);         // plan.cc: offsets by lifetime, 64-byte aligned
std::string print(const Schedule&);  // stable text: golden tests, DEBUG=3

// ---- index.cc: one element of a tensor node as a kernel-level expression ---------------------------------------
// in_memory gives tensor nodes that live in memory a number and how many elements that memory has; they become
// LOAD(INDEX(PARAM(number, elements), …)) and are noted in `reads`. Everything else is computed.
struct InMemory {
  i64 number, elements;
};
class Indexer {
 public:
  // first_range: the id of the first REDUCE range; the caller has the ones below
  Indexer(const UMap<InMemory>& in_memory, i64 first_range) : in_memory_(in_memory), next_range_(first_range) {}
  U value(U node, std::span<const U> index);     // index: one IDX expression an axis
  U computed(U node, std::span<const U> index);  // the same, but node itself is computed even if it lives in memory
  std::vector<U> reads;                          // in order of first use, each once
 private:
  struct Key {
    U node, at;
    bool operator==(const Key&) const = default;
  };
  struct KeyHash {
    size_t operator()(const Key& k) const { return (size_t(k.node) >> 4) * 0x9E3779B97F4A7C15ull ^ size_t(k.at) >> 4; }
  };
  struct Frame;
  U run(U node, U at, bool force);
  U load(U node, U at);
  const UMap<InMemory>& in_memory_;
  std::unordered_map<Key, U, KeyHash> memo_;
  UMap<bool> read_;
  i64 next_range_;
};
U flat_offset(std::span<const U> index, std::span<const i64> shape);
// The index into a tensor of shape `from` of the element that `index` names in shape `to`: the same elements,
// row-major.
std::vector<U> reshape_index(std::span<const U> index, std::span<const i64> to, std::span<const i64> from);
// A kernel's final form: adjacent loops that all index expressions walk as one are merged, ranges are numbered (LOOPs
// from the outermost, then the REDUCE ranges), and PARAMs get the slots 0, 1, … in order of use. memory_of[number] says
// which numbers are one memory, and get one slot; slots[i] becomes the memory in slot i.
U normalize(U sink, std::span<const i64> memory_of, std::vector<i64>& slots);

// ---- names.cc ---------------------------------------------------------------------------------------------
std::string kernel_name(U sink);  // from a normalized kernel: what it computes and over which loops

// Where a tensor node was made, for kernel names: set by the tensor API, kept beside the arena, dropped with it.
void set_source(U, const char* file, int line);
void copy_source(U to, U from);  // `to` was made because of `from`, as a gradient is; does not replace a line
void forget_source(U);           // before the arena frees the node: its address will be another's
std::string source_of(U);

}  // namespace ingot
