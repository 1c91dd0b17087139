// SPDX-License-Identifier: MIT
// From one kernel (SINK of STOREs over RANGEs) to machine code for one target. Sections are named for their files, and
// stand in the order in which compile() runs them: this header is the compiler's table of contents.
#pragma once
#include <algorithm>
#include "compiler/isa/isa.h"
#include "compiler/uop/uop.h"

namespace ingot {

struct Target {
  std::string isa;   // "x86"
  std::string arch;  // "avx512", "avx2"
  u64 features = 0;  // isa::x86::Feature …
  int threads = 1;   // width of the outermost level, for the heuristics
};
struct Param {
  DType dtype;
  i64 elements;
  bool written, read;
};
// A compiled kernel. x86 calling convention (System V): void f(void* const* params, i64 begin, i64 end, void* local),
// which runs the values begin … end-1 of the kernel's one THREAD range (0 … 1 when it has none). `local`: local_bytes
// of memory, 64-byte aligned, that no other run uses at the same time; its contents mean nothing before and after.
// rdna calling convention: a one-dimensional dispatch of `extent` work-groups of `threads` work-items, wave32. s[0:1]
// is the address of the kernel arguments: the 8-byte addresses of the buffers, in PARAM order; s15 is the number of the
// work-group (gfx1100 cannot start with fewer than 16 scalar registers set: LLVM, FeatureUserSGPRInit16Bug); v0 holds
// the number of the work-item in bits 9:0. LDS: local_bytes for a work-group.
struct Program {
  std::string name, source, isa, arch;
  std::vector<u8> code;  // instructions, then literals
  std::vector<Param> params;
  i64 code_bytes = 0;                              // of the instructions
  i64 extent = 1;                                  // bound of the THREAD range; pieces of it may run at the same time
  int threads = 1;                                 // GPU: work-items of each piece, a multiple of the wave
  int scalars = 0, vectors = 0;                    // GPU: registers of a wave
  i64 frame_bytes = 0;                             // GPU: private memory of a work-item
  i64 local_bytes = 0;                             // of the LOCALs, for each piece that runs
  i64 operations = 0;                              // arithmetic operations, an FMA counted as 2
  i64 bytes = 0;                                   // unique bytes read and written (buffer sizes touched)
  i64 estimate_ns = 0;                             // the cost model's time on one thread
  i64 accesses = 0, accesses_proven = 0;           // loads and stores: all, and proven in bounds without a guard
  std::string moves;                               // the moves chosen, as text (DEBUG=3)
  std::vector<std::pair<u32, std::string>> notes;  // code offset → what is computed from there on: "ADD f32"
};

// ---- compile.cc ----------------------------------------------------------------------------------------------------
struct Plan;
// plan: the moves to apply, for the ranges and loads of a sink that the passes before leave alone; nullptr: the
// heuristic's.
Program compile(U sink, std::span<const Param> params, std::string name, const Target& target,
                const Plan* plan = nullptr);
void note(Program&, U);                // what the instruction that comes next is for
std::string annotate(const Program&);  // DEBUG=4: assembly with encodings and notes

// ---- decomp.cc: ops that targets lack, from ops that they have -----------------------------------------------------
// What a target computes itself: a bit per elementwise op and
// dtype (of the first source for comparisons and CAST, else of the result), for one lane and for vectors. native_ops()
// derives it from rows; isel must cover every bit, and only those: decompose() leaves nothing else. Always native:
// CONST (but none of a float narrower than F32), BITCAST between equal sizes, and AND OR XOR of bool. One MUL of U64
// stays where a vector unit has none: fits_u32() holds for both sources (x86: vpmuludq).
struct NativeOps {
  static constexpr size_t dtypes = std::size(dtype_rows);
  u64 ops[2][dtypes] = {};    // [lanes > 1][dtype]: bit per Op
  u32 casts[2][dtypes] = {};  // [lanes > 1][from]: bit per Scalar cast to
  bool keep_index = false;    // idx arithmetic stays affine: before lanes and copies are chosen
  bool has(Op op, DType dtype) const { return ops[dtype.lanes > 1][int(dtype.scalar)] >> int(op) & 1; }
  bool has_cast(DType from, DType to) const { return casts[from.lanes > 1][int(from.scalar)] >> int(to.scalar) & 1; }
};
bool fits_u32(U u);                   // the upper 32 bits of every lane of a 64-bit value are known to be 0
NativeOps native_ops(const Target&);  // Error for an isa without rows
const RuleList& decompositions();     // context: a const NativeOps*
// Any graph (usually a kernel's SINK): keeps lanes and dtypes. Accuracy: f32 functions at most 2 ulp over all inputs,
// denormals included; f64 at most 4 ulp (`make ulp` measures; its figures are in tests/codegen/ulp.txt); narrower
// floats compute in f32 and round. No tables, no control flow. Run float_fast_rules before, never after: the
// polynomials rely on every rounding.
U decompose(U root, const NativeOps& native);
U decompose(U root, const Target& target);

// ---- machine.cc: the tree of levels, from machine.def --------------------------------------------------------------
struct Level {
  std::string_view name;  // "core", "lane"
  RangeKind kind;         // of the range that a SPLIT over this level makes
  int fanout;             // children a parent has
  i64 memory_bytes;       // of this level's memory; 0: none of its own
  double bytes_per_ns;    // between that memory and the level below, for one unit
  double latency_ns;
  std::string_view runs;  // what runs here
};
struct MatrixUnit {
  std::string_view instruction;
  DType input, output;
  static constexpr i64 side = 16, depth = 16, results = 8;  // results: of a lane
};
struct Occupancy {  // waves that share the vector registers of a SIMD
  int vectors = 0, granule = 1, most = 0;
  int waves(int used) const;       // that use so many registers each
  int registers(int waves) const;  // that so many waves may use
};
struct Machine {
  std::string_view name;
  bool lane_masks;            // accesses of any element width take a mask of lanes
  int issue_width;            // instructions a cycle
  int lane_bits;              // a lane's width, when wide elements take several lanes; 0: a lane holds any element
  Occupancy occupancy;        // most == 0: none
  std::vector<Level> levels;  // outermost first
  std::vector<MatrixUnit> matrix_units;
  const MatrixUnit* matrix_unit(DType input) const;  // nullptr: none takes it
  bool simt() const { return !lane_bits; }           // lanes are work-items
  const Level& level(std::string_view name) const;
  const Level& outer() const;  // what pieces of a kernel run on: the THREAD level
  int workers() const { return outer().fanout; }
  int lanes(int element_bits) const;  // elements of a lane group
  int registers() const;              // vector registers of a lane group
  // The innermost level inside the THREAD level with a memory of at least twice as many bytes; nullptr: none.
  const Level* room_for(i64 bytes) const;
  i64 innermost_memory() const;  // bytes
};
Machine machine_of(const Target& target);
std::string print(const Machine&);

// ---- opt.cc: the moves, and a heuristic that chooses them ----------------------------------------------------------
// SPLIT: a range r becomes
// ((outer * block + b) * unroll + u) * lanes + v: outer stays a loop (or vanishes), b is a loop inside the level whose
// memory holds what is staged, u is expanded, v are vector lanes.
struct Split {
  i64 block = 1, unroll = 1, lanes = 1;
  bool thread = false;        // outer is the THREAD range (a GPU may have several)
  bool side_by_side = false;  // the unrolled copies are neighbours: ((outer * block + b) * lanes + v) * unroll + u
};
// STAGE: what a LOAD reads while the outer parts of its ranges stand still is packed into a level's memory first, as a
// row-major array over `layout`; where the loads fail their condition it holds zeros. A panel packed for a core's cache
// and a tile in LDS differ only in the level.
struct Staging {
  U load;
  std::string_view level;  // name and position in the machine tree
  int depth = 0;
  std::vector<U> layout;  // the ranges that the LOAD depends on, outermost first; REDUCE ranges whole
  i64 lanes = 1;          // of the copy, along the last of them
};
// MATRIX: rows, columns and inner of a product go through a wave's matrix unit: tiles of 16 x 16 x 16. The waves of a
// group stand one below the other; each makes row_tiles by column_tiles of them, `steps` at a time from its panels.
struct MatrixTiles {
  U product = nullptr, rows = nullptr, columns = nullptr, inner = nullptr;  // product: the MATRIX inside the REDUCE
  i64 waves = 4, row_tiles = 1, column_tiles = 1, steps = 2;
};
struct Plan {
  std::vector<U> order;  // LOOP ranges, outermost first: outer parts, then blocks
  std::vector<U> reduce_order;
  std::vector<std::pair<U, Split>> splits;
  std::vector<Staging> stages;
  // GPU: work-items of a group, which fill what is staged together; beyond a range's end they load its last element,
  // and only stores are masked. 0: lanes are a vector's.
  i64 items = 0;
  bool contract = true;     // a product and a sum may become one FMA
  MatrixTiles matrix = {};  // product nullptr: none
  Split* split(U range);
};
Plan choose_plan(U sink, const Target& target);
U apply_plan(
    U sink,
    const Plan& plan);  // ranges of kinds LOOP, REDUCE, THREAD, UNROLL, VECTOR; masks where a split does not divide
std::string print(const Plan&);
struct LinearForm {  // constant + sum of coefficient * term; a term is anything that is not a sum or a scaling
  std::vector<std::pair<U, i64>> terms;
  i64 constant = 0;
};
LinearForm linear_form(U index);
U build(const LinearForm&);
U identity_of(Op op, DType dtype);  // of ADD, MUL, MAX, MIN

// ---- expand.cc: UNROLL ranges become copies, the VECTOR range lanes, REDUCEs accumulators --------------------------
// Afterwards: RANGE kinds LOOP, REDUCE, THREAD only; REDUCE(update, ranges; arg op, id)
// where update reads ACC(id); values are scalars or vectors; VECTORIZE of one source repeats it; EXTRACT takes
// dtype.lanes lanes from arg on.
U expand(U sink, const Target& target);

// ---- simt.cc: the kernel as one work-item of a GPU sees it, after expand() ------------------------------------------
U work_item(U sink, Program& program);  // sets extent and threads
UMap<bool> scalar_values(U sink);       // of each node: is it the same for a wave, and computed by its scalar unit?

U indexed_memory(U index);  // the PARAM or LOCAL that it names an element of
i64 displacement(U index);  // its constant bytes, after work_item()

// ---- pack.cc: narrow neighbours side by side in registers of 32 bits, where lanes are work-items
// ---------------------
U pack_narrow(U sink);  // LOADs and STOREs of vectors of 32 bits, f16x2 arithmetic between them
int zero_bits(U u);     // how many low bits of it are known to be 0

// ---- linear.cc: where in the loop nest each node is computed, and in which order -----------------------------------
struct Line {
  enum Kind : u8 { NODE, LOOP, END, INIT, UPDATE } kind;  // INIT, UPDATE: of the accumulator of a REDUCE (u)
  U u = nullptr;                                          // NODE: any; LOOP, END: the RANGE
};
struct Linear {
  std::vector<Line> lines;
  UMap<int> depth;  // loop depth of each node
};
Linear linearise(U sink);

// ---- isel_x86.cc: instructions with virtual registers --------------------------------------------------------------
struct CodeLine {
  // MOVE: a copy between registers, dropped when both become one; JUMP: its target is `label`; FENCE: an instruction
  // that no other moves across.
  enum Kind : u8 { INST, MOVE, LABEL, JUMP, LOOP, END, FENCE } kind = INST;
  isa::Instruction inst;
  int label = -1;
  u8 space = 0;         // accesses of one space, up to 3, keep their order unless both load; 0: order does not matter
  bool stores = false;  // to that space
  U u = nullptr;        // what it computes, for annotations
};
struct VirtualRegister {
  isa::RegClass cls = isa::RegClass::NONE;
  u16 bits = 0;
  u8 count = 1, align = 1;  // registers in a row that it takes, the first a multiple of `align`
  bool low = false;         // an instruction names it that reaches only the first 16 vector registers
  int constant = -1;        // line of `constants` that makes it: spilling it means making it again
  int memory = -1;  // as a base: number of the PARAM or LOCAL that it points into; different ones do not overlap
};
struct MachineCode {
  std::vector<CodeLine> lines;
  std::vector<CodeLine> constants;         // definitions of values without sources
  std::vector<VirtualRegister> registers;  // of number isa::first_virtual + position; see part_of()
  std::vector<u8> pool;                    // literals; operands with RegClass::POINTER address it by offset
  i64 frame_bytes = 0;                     // scratch and spill slots at the stack pointer
  i64 scalar_frame_bytes = 0;              // spill slots of scalars, where SpillCode keeps them elsewhere
  i64 local_bytes = 0;                     // of the LOCALs
  int prologue = 0;                        // lines that take the arguments; constants follow them
};
MachineCode select_x86(const Linear&, const Target&);

// ---- isel_rdna.cc: the same for RDNA, its registers and its bytes
// ----------------------------------------------------
struct RegisterFile;
struct SpillCode;
MachineCode select_rdna(const Linear&, const Target&);
RegisterFile register_file_rdna(const Target&);
extern const SpillCode spill_code_rdna;
void emit_rdna(const MachineCode& code, Program& program);

// ---- order.cc: between labels, by latency, shared by all ISAs ------------------------------------------------------
inline bool is_virtual(u32 r) { return r >= isa::first_virtual && r != isa::no_register; }
// A value that takes several registers is named as a whole by its number, from its second register on with the
// position in the upper bits.
constexpr int part_shift = 24;
inline u32 part_of(u32 r) { return is_virtual(r) ? r >> part_shift : 0; }
inline u32 whole_of(u32 r) { return is_virtual(r) ? r & ((u32(1) << part_shift) - 1) : r; }
inline u32 position_of(u32 r) { return whole_of(r) - isa::first_virtual; }  // in MachineCode::registers

// Calls f(register field, class, read, written) for every register that a line touches.
template <class F>
void each_register(CodeLine& line, F f) {
  if (!line.inst.row) return;
  bool merges = line.inst.predicate != isa::no_register && !line.inst.zeroing;
  size_t k = 0;
  u32 fixed;
  for (const isa::OperandSpec& s : isa::operands_of(*line.inst.row)) {
    if (s.implicit) {
      if (s.cls == isa::RegClass::SCALAR || s.cls == isa::RegClass::VECTOR) {
        fixed = u32(s.fixed);
        f(fixed, s.cls, s.access & isa::OperandSpec::READ, s.access & isa::OperandSpec::WRITE);
      }
      continue;
    }
    isa::Operand& o = line.inst.op[k++];
    if (o.kind == isa::Operand::REG) {
      f(o.reg, o.cls, bool(s.access & isa::OperandSpec::READ) || (merges && k == 1),
        bool(s.access & isa::OperandSpec::WRITE));
    } else if (o.kind == isa::Operand::MEM) {
      if (o.reg != isa::no_register) f(o.reg, isa::RegClass::SCALAR, true, false);
      if (o.index != isa::no_register)
        f(o.index, o.vector_index ? isa::RegClass::VECTOR : isa::RegClass::SCALAR, true, false);
    }
  }
  if (line.inst.predicate != isa::no_register) f(line.inst.predicate, isa::RegClass::PREDICATE, true, false);
}
// width: instructions issued in a cycle. The result: cycles of all blocks.
i64 order_by_latency(MachineCode&, const RegisterFile&, int width);

// ---- regalloc.cc: linear scan, shared by all ISAs ------------------------------------------------------------------
struct SpillCode {  // how an ISA moves a register to and from the frame
  void (*load)(const isa::Operand& to, i64 frame_offset, const Target&, std::vector<CodeLine>& out);
  void (*store)(const isa::Operand& from, i64 frame_offset, const Target&, std::vector<CodeLine>& out);
  bool scalars_apart = false;  // scalars have slots of their own, in MachineCode::scalar_frame_bytes
};
struct RegisterFile {  // registers to allocate, in order of preference
  std::vector<u32> scalar, vector, predicate;
  u32 low_vectors = 16;  // VirtualRegister::low: numbers below this
};
// false: something would have to go to the frame, and may not.
bool allocate_registers(MachineCode&, const RegisterFile&, const SpillCode&, const Target&, bool may_spill = true);

// ---- pair.cc: two instructions as one, after registers are allocated
// ------------------------------------------------- Calls f(register, spec, position among the operands) for every
// register that an instruction touches, after allocation: vector registers count from 0, scalar ones from first_virtual
// on. -1: not in the text.
template <class F>
void each_allocated(const isa::Instruction& inst, F f) {
  auto add = [&](isa::RegClass cls, u32 reg, int bits, const isa::OperandSpec& s, int position) {
    if (cls != isa::RegClass::VECTOR && cls != isa::RegClass::SCALAR) return;
    u32 base = cls == isa::RegClass::VECTOR ? 0 : isa::first_virtual, limit = isa::first_virtual >> (base > 0);
    for (u32 r = reg; r < reg + u32(std::max(bits, 32) + 31) / 32 && r < limit; r++) f(base + r, s, position);
  };
  int k = 0;
  for (const isa::Inst* row : {inst.row, inst.second}) {
    int position = 0;  // from 0 on in each half of a pair
    for (const isa::OperandSpec& s : row ? isa::operands_of(*row) : std::span<const isa::OperandSpec>()) {
      if (s.implicit) {
        add(s.cls, u32(s.fixed), s.bits, s, -1);
        continue;
      }
      const isa::Operand& o = inst.op[k++];
      if (o.kind == isa::Operand::REG) add(o.cls, o.reg, o.bits, s, position);
      position++;
    }
  }
}
constexpr u32 allocated_registers = isa::first_virtual + isa::first_virtual / 2;
void pair_instructions(MachineCode&, const Target&);

// ---- wait.cc: what hardware does not wait for by itself, after registers are allocated ------------------------------
// Inserts the waits, hazard NOPs and delay hints that a target's rows ask for; x86 needs none.
void insert_waits(MachineCode&, const Target&);

// ---- emit_x86.cc: prologue, encodings, branches, literals ----------------------------------------------------------
RegisterFile register_file_x86(const Target&);
extern const SpillCode spill_code_x86;
void emit_x86(const MachineCode&, Program& program);

}  // namespace ingot
