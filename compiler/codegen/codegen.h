// SPDX-License-Identifier: MIT
// From one kernel (SINK of STOREs over RANGEs) to machine code for one target. Sections are named for their files.
#pragma once
#include "compiler/isa/isa.h"
#include "compiler/uop/uop.h"

namespace ingot {

struct Target {
  std::string isa;       // "x86"
  std::string arch;      // "avx512", "avx2"
  u64 features = 0;      // isa::x86::Feature …
  int threads = 1;       // width of the outermost level, for the heuristics
};
struct Param {
  DType dtype;
  i64 elements;
  bool written, read;
};
// A compiled kernel. x86 calling convention (System V): void f(void* const* params, i64 begin, i64 end), which runs
// the values begin … end-1 of the kernel's one THREAD range (0 … 1 when it has none).
struct Program {
  std::string name, source, isa, arch;
  std::vector<u8> code;
  std::vector<Param> params;
  i64 extent = 1;             // bound of the THREAD range; pieces of it may run at the same time
  i64 operations = 0;         // arithmetic operations, an FMA counted as 2
  i64 bytes = 0;              // unique bytes read and written (buffer sizes touched)
  i64 estimate_ns = 0;        // the cost model's time on one thread
  i64 accesses = 0, accesses_proven = 0;  // loads and stores: all, and proven in bounds without a guard
  std::string moves;          // the moves chosen, as text (DEBUG=3)
  std::vector<std::pair<u32, std::string>> notes;  // code offset → annotation for DEBUG=4
};
Program compile(U sink, std::span<const Param> params, std::string name, const Target& target);
std::string annotate(const Program&);  // DEBUG=4: assembly with encodings and annotations

// ---- decomp.cc: ops that targets lack, from ops that they have -------------------------------------------------------
// What a target computes itself: a bit per elementwise op and dtype (of the first source for comparisons and CAST, else of the
// result), for one lane and for vectors. native_ops() derives it from rows; isel must cover every bit, and only those:
// decompose() leaves nothing else (constants, BITCAST between equal sizes, bool AND OR XOR and WHERE are always native).
struct NativeOps {
  static constexpr size_t dtypes = std::size(dtype_rows);
  u64 ops[2][dtypes] = {};     // [lanes > 1][dtype]: bit per Op
  u32 casts[2][dtypes] = {};   // [lanes > 1][from]: bit per Scalar cast to
  bool has(Op op, DType dtype) const { return ops[dtype.lanes > 1][int(dtype.scalar)] >> int(op) & 1; }
  bool has_cast(DType from, DType to) const { return casts[from.lanes > 1][int(from.scalar)] >> int(to.scalar) & 1; }
};
NativeOps native_ops(const Target&);       // Error for an isa without rows
const RuleList& decompositions();          // context: a const NativeOps*
// Any graph (usually a kernel's SINK): keeps lanes and dtypes. Accuracy: f32 functions at most 2 ulp over all inputs, denormals
// included (`make ulp` measures); f64 at most 4 ulp; narrower floats compute in f32 and round. No tables, no control flow. Run
// float_fast_rules before, never after: the polynomials rely on every rounding.
U decompose(U root, const NativeOps& native);
U decompose(U root, const Target& target);

}  // namespace ingot
