// SPDX-License-Identifier: MIT
// Machine code. One row per instruction (x86.def …) drives the assembler, the text parser, the disassembler,
// instruction selection and documentation; later the emulator. This header is what an ISA looks like from outside; each
// ISA adds its operand kinds and encoding in its own .cc and one row in isa.cc.
#pragma once
#include "compiler/uop/uop.h"

namespace ingot::isa {

// ---- isa.cc: what every ISA shares ---------------------------------------------------------------------------------
// x86: r*, xmm/ymm/zmm, k*, rflags, rip; the rest is never allocated
enum class RegClass : u8 {
  NONE,
  SCALAR,
  VECTOR,
  PREDICATE,
  FLAGS,
  POINTER,
  MMX,
  X87,
  SEGMENT,
  CONTROL,
  DEBUG,
  TILE,
  MEMORY
};
inline constexpr u32 first_virtual = 256;  // register numbers from here on are virtual
inline constexpr u32 no_register = ~u32(0);

struct Operand {  // an actual operand
  enum Kind : u8 { NONE, REG, MEM, IMM } kind = NONE;
  RegClass cls = RegClass::NONE;  // REG
  u16 bits = 0;             // REG: width of the access (32 = eax, 256 = ymm); MEM: bytes accessed * 8, before broadcast
  u32 reg = no_register;    // REG: number; MEM: base (no_register: none; or RegClass::POINTER in cls: pc-relative)
  u32 index = no_register;  // MEM; with `vector_index` a vector register (gathers)
  u8 scale = 1;
  bool vector_index = false;
  u16 index_bits = 0;    // width of a vector index register
  u8 broadcast = 0;      // MEM: 0, or the number of copies {1toN}; bits is then one copy's
  u8 segment = 0;        // MEM, x86: 1 + number of an overriding segment register (es cs ss ds fs gs)
  u8 address_bits = 64;  // MEM, x86: width of base and index
  u8 modifiers = 0;      // the ISA's, on a value that is read or on the write (rdna.h: neg, abs, halves)
  i64 imm = 0;           // IMM: value; MEM: displacement
  bool operator==(const Operand&) const = default;
};
Operand reg(RegClass cls, int bits, u32 number);
Operand imm(i64 value);
Operand mem(int bits, u32 base, i64 displacement = 0, u32 index = no_register, int scale = 1);

inline constexpr int max_operands = 8;
struct OperandSpec {  // what a row accepts at one position, in the order of the text
  enum Access : u8 { READ = 1, WRITE = 2, READ_WRITE = 3 };
  RegClass cls = RegClass::NONE;  // register class accepted; NONE: no register form
  u16 bits = 0;                   // its width
  u16 mem_bits = 0;               // memory accepted: its width in bits; 0: none
  u8 broadcast_bits = 0;          // element width where {1toN} is accepted
  u8 imm_bits = 0;                // immediate accepted, sign-extended from so many bits unless imm_unsigned
  bool imm_unsigned = false, pc_relative = false;
  i16 fixed = -1;             // the only register number accepted (cl, eax, xmm0), or the only immediate if imm_bits
  bool vector_index = false;  // memory with a vector register of `bits` bits as its index
  bool pair = false;          // the register and its successor; even
  bool implicit = false;      // takes part in uses and definitions but not in the text or the encoding
  Access access = READ;
  u8 place = 0;  // per-ISA: which encoding field carries it
  Scalar type =
      Scalar::VOID;  // as what the meaning reads or writes it, as many lanes as fit in `bits`; VOID: as dtype_of
  RegClass also = RegClass::NONE;  // a second class accepted: scalar registers where vectors are
};

struct Effect {  // operand `target` = value; hole i of the pattern is operand i of the text
  i8 target = -1;
  Pat value;
};
namespace operands {  // holes for meanings: o0 is the first operand of the text
struct Hole : Pat {
  u8 id;
  constexpr Hole(u8 i) : Pat(Pat::hole(i, false)), id(i) {}
  constexpr Effect operator=(const Pat& value) const { return {i8(id), value}; }
};
inline constexpr Hole o0{0}, o1{1}, o2{2}, o3{3};
}  // namespace operands

struct Inst {  // one row, as codegen sees it; each ISA derives its own with what its encoding needs
  static constexpr int max_specs = 8;
  char name[38] = {};
  enum Family : u8 { X86, RDNA } family = X86;
  bool predicable = false;  // accepts {k}
  bool reads_flags = false, writes_flags = false;
  u8 latency = 0;           // class in cycles, for scheduling
  u8 shown = 0, specs = 0;  // operands in the text, all operands
  u8 effects = 0;           // how many assignments its meaning has
  i16 effect = -1;          // the first, an index into the meanings of its table; -1: no pattern meaning
  DType dtype;              // of the result: of one element of the pattern, lanes = how many
  u64 features = 0;         // bits the target must have
  OperandSpec spec[max_specs] = {};
  // What it is to the hardware, for waits and hazards.
  enum Trait : u16 {
    NO_TRAIT = 0,
    SCALAR_ALU = 1,
    VECTOR_ALU = 2,
    TRANSCENDENTAL = 4,
    MATRIX_UNIT = 8,
    MEMORY_UNIT = 16,  // waits for all vector arithmetic before it
    PRIVATE = 32,      // memory that its own lane sees alone
    WRITES_MASK = 64,  // a vector instruction sets the mask of lanes
    PERMUTES = 128,    // moves lanes
    NO_OPERATION = 256,
    MEETS_WAVES = 512,  // what was written must be seen when it is over
    FORGETS = 1024,     // caches: what was loaded must be there
    RELATIVE = 2048,    // registers that a register counts on from
    LEAVES = 4096,      // for code that is not known here; it may come back
    STOPS = 8192,       // the next line is not reached from here
    CLAUSE = 16384,     // the next instructions, one more than its immediate says, stay together
    SETS_MODE = 32768,  // of arithmetic: rounding, denormals
  };
  u16 traits = 0;
  u8 queues = 0;  // of Waits::queues, a bit each, in which it is until its results are there
};

struct Instruction {  // a row with operands
  const Inst* row = nullptr;
  Operand op[max_operands];
  u8 n = 0;
  u32 predicate = no_register;   // EVEX {k1}; no_register: none
  bool zeroing = false;          // {z}
  u8 rounding = 0;               // 0 none; EVEX: 1 {rn-sae} 2 {rd-sae} 3 {ru-sae} 4 {rz-sae} 5 {sae}
  u16 prefixes = 0;              // x86: bytes in front that no row asks for (lock, rep, …), as bits known to x86.cc
  const Inst* second = nullptr;  // RDNA: the row issued beside this one (VOPD); its operands follow this one's
  u64 modifiers = 0;             // RDNA: encoding and modifiers of the whole instruction, a rdna::Modifiers
};

// Every row, described the same way for codegen.
inline std::string_view name_of(const Inst& r) { return r.name; }
inline std::span<const OperandSpec> operands_of(const Inst& r) {
  return {r.spec, r.specs};
}  // text order, then implicit
std::span<const Effect> effects_of(const Inst&);  // empty: no pattern meaning
// An effect as UOps over the values of the row's operands (by position, null where not read). Types flow up from the
// operands; an immediate of the pattern has the type of the source beside it, else the one that is wanted of the node.
U build_effect(const Inst&, const Effect&, std::span<const U> operands);
DType dtype_of(const OperandSpec& s);  // as what the meaning sees an operand of a row that mixes types
inline const Effect* effect_of(const Inst& r) { return r.effect < 0 ? nullptr : effects_of(r).data(); }
inline DType dtype_of(const Inst& r) { return r.dtype; }

// What hardware does not wait for by itself: rows of each ISA that has such.
struct Queue {                                           // instructions on their way
  std::string_view name, counter, instruction, operand;  // a wait is `instruction`, {} in its operand the count
  int most;                                              // largest count
  bool in_order;                                         // answers come in order; else only a count of 0 says something
  bool whole_at_barrier;                                 // a barrier waits for loads too
};
struct Hazard {  // `second` must not follow `first` closely
  std::string_view name;
  u16 first, second;  // traits
  std::string_view
      operands;  // of the second, that read what the first wrote: digits, by position; "": whatever it reads
  int vector, transcendental;  // instructions between them that end it; 0: none do
  bool nops, drains;           // v_nop counts; it ends when the vector unit has finished: by access to memory, by `fix`
  std::string_view fix;        // goes between; {}: the second's first source register
};
struct Delay {  // a hint that an instruction depends on a recent one
  u16 unit;     // trait; the first row that fits
  std::string_view name;
  int most;     // number after the name
  bool cycles;  // which is of cycles left, else of instructions of the unit back
};
struct Waits {
  std::span<const Queue> queues;
  std::span<const Hazard> hazards;
  std::span<const Delay> delays;
  std::span<const std::string_view> hints;  // of one dependence; then of two, the second 0, 1, … instructions later
};

struct Isa {
  std::string_view name;  // "x86"
  std::string_view doc;
  size_t rows = 0;
  const Inst& (*row)(size_t i) = nullptr;
  bool (*encode)(const Instruction&, std::vector<u8>& out) = nullptr;  // false: an operand the row cannot carry
  // Decodes the first instruction of `bytes`; 0 when it is not one we know, else its length. A pc-relative operand
  // holds the distance from the end of the instruction, in print and parse too; disassemble() shows and assemble()
  // takes targets.
  size_t (*decode)(std::span<const u8> bytes, Instruction& out) = nullptr;
  std::string (*print)(const Instruction&) = nullptr;  // llvm-mc's Intel syntax for x86: "vaddps zmm1, zmm2, zmm3"
  bool (*parse)(std::string_view line, Instruction& out,
                std::string& error) = nullptr;  // chooses the shortest encoding
  std::vector<const Inst*> (*rows_named)(std::string_view name) = nullptr;
  const Inst* (*find_row)(std::string_view name, std::span<const Operand> operands, u64 features) = nullptr;
  std::string_view arch = "";  // where an ISA has several: gfx1100
  size_t unit = 1;  // bytes that disassemble() skips where nothing decodes, and the unit of pc-relative operands
  const Waits* waits = nullptr;  // nullptr: the hardware waits by itself
  u32 lane_mask = no_register;   // the scalar register that says for which lanes vector instructions write
  // One instruction that does what two do which need nothing of each other; false: there is none. nullptr: never.
  bool (*pair)(const Instruction& first, const Instruction& second, Instruction& out) = nullptr;
};
std::span<const Isa> isas();
const Isa* find_isa(std::string_view name, std::string_view arch = "");  // without arch the first of that name
std::string isa_names();                                                 // "x86, rdna gfx1100", for messages
inline std::vector<const Inst*> rows_named(const Isa& isa, std::string_view name) {  // in the order of the table
  return isa.rows_named(name);
}
inline const Inst* find_row(const Isa& isa, std::string_view name, std::span<const Operand> operands, u64 features) {
  return isa.find_row(name, operands, features);
}
std::string disassemble(const Isa&, std::span<const u8> code, bool with_encoding);  // one line per instruction
std::vector<u8> assemble(const Isa&,
                         std::string_view text);  // lines, `label:` and comments after # or ;  Error with line

// ---- what the ISAs are written with --------------------------------------------------------------------------------
template <class R>
struct TableView {  // rows of one .def, and the meanings that they count into
  const R* rows;
  size_t n;
  const Effect* meanings;
};
template <class R>
struct Tables {  // those of an ISA, one after another
  std::span<const TableView<R>* const> list;
  size_t rows() const {
    size_t n = 0;
    for (const TableView<R>* t : list) n += t->n;
    return n;
  }
  const R& row(size_t i) const {
    auto t = list.begin();
    for (; i >= (*t)->n; t++) i -= (*t)->n;
    return (*t)->rows[i];
  }
  std::span<const Effect> effects(const Inst& r) const {
    for (const TableView<R>* t : list)
      if (!std::less<>()(&r, static_cast<const Inst*>(t->rows)) &&
          std::less<>()(&r, static_cast<const Inst*>(t->rows + t->n)))
        return {t->meanings + r.effect, r.effects};
    unreachable();
  }
};
// What stands before the next c; that and the c come off the front.
constexpr std::string_view next_word(std::string_view& s, char c = ' ') {
  std::string_view w = s.substr(0, s.find(c));
  s.remove_prefix(std::min(s.size(), w.size() + 1));
  return w;
}
constexpr int take_number(std::string_view& s) {
  if (s.empty() || s[0] < '0' || s[0] > '9') throw "number expected";
  int v = 0;
  for (; !s.empty() && s[0] >= '0' && s[0] <= '9'; s.remove_prefix(1)) v = v * 10 + (s[0] - '0');
  return v;
}
struct Text {  // a line being read: what is taken comes off its front
  std::string_view s;
  static bool is_word(char c);
  void spaces();
  bool at_end() { return spaces(), s.empty(); }
  bool take(std::string_view t);
  bool take_word(std::string_view t);  // not as the beginning of a longer one
  std::string_view word();
  bool integer(i64& v);  // decimal or 0x…, with a sign
};

// ---- x86.cc: features (bits of features_of) ------------------------------------------------------------------------
namespace x86 {
enum Feature : u64 {
  AVX2 = 1,    // AVX2, FMA, F16C, BMI1/2: our baseline
  AVX512 = 2,  // F, BW, DQ, VL, CD
  VNNI = 4,
  BF16 = 8,
  FP16 = 16,
  VBMI = 32,
  OTHER = 64,  // OTHER: assembled and disassembled but never selected
};
u64 host_features();  // CPUID and XGETBV: what the processor and the kernel allow
}  // namespace x86

}  // namespace ingot::isa
