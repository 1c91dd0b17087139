// SPDX-License-Identifier: MIT
// RDNA rows: the notation of rdna_*.def, read at compile time. Included by the tables and rdna.cc only; outside, a row
// is an Inst.
//
// A row is RDNA(format, name, {opcode per generation}, "operands; columns"[, meaning]). One row is one instruction: the
// 32-bit, VOP3 and DPP encodings of a VALU instruction are ways to write the same row, modifiers (neg, abs, clamp,
// omod, op_sel, DPP) are part of an Instruction, never of a row. A row that cannot be read does not compile.
//
// clang-format off
// opcodes:   {gfx11, gfx12}; NONE where the generation lacks the instruction. VOP1, VOP2 and VOPC give the short opcode
// operands, in the order of the text, each [access][class:]type or [access]kind[=place]:
//   type     a dtype; u32 also stands for AMD's b32. x2, x4 … lanes. mask: a bit per lane, the wave's width
//   access   the first operand is written and the rest are read; + read and written, = written, - read
//   class    s: scalar registers only   v: vector registers only   c: scalar registers and inline constants   l: these and literals
//            m: vector registers and inline constants. Without one the place says it: sources of VALU rows take all
//   kind     an immediate, by its spelling in rdna_kind.def: hex, branch, waitcnt, lit, offset …
//   =place   the field that carries it, where it is not the next of the format's list in rdna_format.def; _ leaves a place empty
// columns, after `;`:
//   <x >x <>x   reads, writes x = scc vcc exec m0 pc mem without naming it. What a meaning says need not be said again
//   mem:type    what stands in memory at the address;  returns: the form of an atomic that gives the old value
//   clamp omod neg abs sel sext gds, with - not and :n for which sources (sel: bit 3 is the result), where types do not tell: neg and
//            abs are for floats (sext: also for integers), clamp for rows with floats, omod for float results, gds for DS
//   -dpp dpp -e64   encodings: DPP where everything has 32 bits or less; mixed (fma_mix) true16 (.l and .h): see Row
//   trans f64 lane wmma store …   the class that latencies, waits and hazards go by (rdna_class.def)
// meaning: one effect, {up to three}, or call(FUNCTION) of rdna_function.def where a pattern cannot say it. Names are AMD's:
//   D0 D1 written, S0 S1 S2 read, in the order of the text; DATA DATA2 of memory rows; SIMM the immediate; SCC VCC EXEC M0; PC of the
//   next instruction; MEM the memory at the row's address. All values are read before any is written. A vector row means this for
//   every active lane, and masks are then bools; in a scalar row they are numbers. A 16-bit result leaves the other half alone.
//   Conversions saturate, either zero of two may be the smaller (silicon: -0), denormals and rounding are MODE's.
// clang-format on
#pragma once
#include "compiler/isa/isa.h"

#include <bit>

namespace ingot::isa::rdna {

enum Generation : u8 { GFX11, GFX12, GENERATIONS };
inline constexpr i16 NONE = -1;

// ---- layouts ------------------------------------------------------------------------------------------------------
// clang-format off
inline constexpr std::string_view field_names[] = {
  "", "op", "opy", "vdst", "sdst", "src0", "src1", "src2", "simm", "lit", "addr", "data", "data2", "saddr", "sbase", "soffset", "offset",
  "vdsty", "src0y", "src1y", "neg", "abs", "sel", "sel_hi", "clamp", "omod", "dpp", "fi", "neg0", "abs0", "neg1", "abs1",
  "glc", "slc", "dlc", "gds", "sve", "th", "scope"};
namespace fields {
enum Field : u8 {
  NOWHERE, OP, OPY, VDST, SDST, SRC0, SRC1, SRC2, SIMM, LIT, ADDR, DATA, DATA2, SADDR, SBASE, SOFFSET, OFFSET,
  VDSTY, SRC0Y, SRC1Y, NEG, ABS, SEL, SEL_HI, CLAMP, OMOD, DPP, FI, NEG0, ABS0, NEG1, ABS1,
  GLC, SLC, DLC, GDS, SVE, TH, SCOPE, FIELDS};
}  // namespace fields
using fields::Field;
// clang-format on
constexpr Field field_named(std::string_view s) {
  for (size_t i = 1; i < std::size(field_names); i++)
    if (field_names[i] == s) return Field(i);
  throw "no field has this name";
}

struct Layout {
  struct Segment {
    Field field;
    u8 low, bits, at;  // bits [low, low + bits) of the words hold bits [at, at + bits) of the field
  };
  Segment segment[24] = {};
  u8 segments = 0, bits = 0;
  u64 mask = 0, match = 0;
  consteval Layout(std::string_view text) {
    int position = 0;
    auto each = [&](bool emit) {
      std::string_view s = text;
      while (!s.empty()) {
        std::string_view w = next_word(s);
        if (w.empty()) continue;
        if (w[0] == '0' || w[0] == '1') {
          for (char c : w) {
            if (c != '0' && c != '1') throw "a fixed bit is 0 or 1";
            position--;
            if (emit) mask |= u64(1) << position, match |= u64(c == '1') << position;
          }
          continue;
        }
        size_t n = w.find_first_of(":[");
        if (n == w.npos) throw "a field is name:width or name[hi:lo]";
        std::string_view rest = w.substr(n + 1);
        int high = take_number(rest), low = high;
        if (w[n] == ':') {
          high--, low = 0;
        } else if (rest[0] == ':') {
          rest.remove_prefix(1);
          low = take_number(rest);
        }
        position -= high - low + 1;
        if (emit) segment[segments++] = {field_named(w.substr(0, n)), u8(position), u8(high - low + 1), u8(low)};
      }
    };
    if (text.empty()) return;
    each(false);
    position = bits = u8(-position);
    if (bits != 32 && bits != 64) throw "a layout has 32 or 64 bits";
    each(true);
  }
  constexpr int width(Field f) const {  // 0: the layout has no such field
    int w = 0;
    for (int i = 0; i < segments; i++)
      if (segment[i].field == f && segment[i].at + segment[i].bits > w) w = segment[i].at + segment[i].bits;
    return w;
  }
};
enum LayoutName : u8 {
#define LAYOUT(name, ...) LAYOUT_##name,
#include "compiler/isa/rdna_format.def"
  LAYOUTS
};
enum Format : u8 {
#define FORMAT(name, ...) name,
#include "compiler/isa/rdna_format.def"
  FORMATS
};
enum QueueName : u8 {
#define QUEUE(name, ...) name,
#include "compiler/isa/rdna_wait.def"
  QUEUES
};
inline constexpr Queue queues[] = {
#define QUEUE(name, counter, instruction, operand, most, in_order, whole, doc) \
  {#name, counter, instruction, operand, most, in_order, whole},
#include "compiler/isa/rdna_wait.def"
};
constexpr u8 queues_named(std::string_view s) {
  u8 bits = 0;
  while (!s.empty()) {
    std::string_view w = next_word(s);
    size_t i = 0;
    while (queues[i].name != w) i++;  // past the end: does not compile
    bits |= u8(1 << i);
  }
  return bits;
}
enum HazardName : u8 {
#define HAZARD(name, ...) name,
#include "compiler/isa/rdna_wait.def"
};
inline constexpr Hazard hazards[] = {
#define HAZARD(name, first, second, ...) {#name, Inst::first, Inst::second, __VA_ARGS__},
#include "compiler/isa/rdna_wait.def"
};
inline constexpr Delay delays[] = {
#define DELAY(unit, ...) {Inst::unit, __VA_ARGS__},
#include "compiler/isa/rdna_wait.def"
};
inline constexpr std::string_view hints[] = {
#define HINT(text) text,
#include "compiler/isa/rdna_wait.def"
};
struct FormatRow {
  std::string_view name;
  u16 cycles;
  i16 vop3;
  u16 trait;
  u8 answers, silent;  // queues
  std::string_view places;
  LayoutName layout;
};
inline constexpr FormatRow formats[] = {
#define FORMAT(name, cycles, vop3, trait, answers, silent, places) \
  {#name, cycles, vop3, Inst::trait, queues_named(answers), queues_named(silent), places, LAYOUT_##name},
#include "compiler/isa/rdna_format.def"
};

// ---- classes and functions ----------------------------------------------------------------------------------------
enum Class : u8 {
  PLAIN,
#define CLASS(name, ...) CLASS_##name,
#include "compiler/isa/rdna_class.def"
};
struct ClassRow {
  std::string_view name;
  u16 cycles, trait;
  std::string_view doc;
};
inline constexpr ClassRow classes[] = {
    {"", 0, 0, "the format's"},
#define CLASS(name, cycles, trait, doc) {#name, cycles, Inst::trait, doc},
#include "compiler/isa/rdna_class.def"
};
enum Function : u8 {
  NO_FUNCTION,
#define FUNCTION(name, ...) name,
#include "compiler/isa/rdna_function.def"
};
struct FunctionRow {
  std::string_view name, doc;
};
inline constexpr FunctionRow functions[] = {
    {"", ""},
#define FUNCTION(name, doc) {#name, doc},
#include "compiler/isa/rdna_function.def"
};

// ---- operands -----------------------------------------------------------------------------------------------------
enum ImmediateKind : u8 {  // how an immediate is spelled
  NOT_IMMEDIATE,
#define KIND(name, ...) KIND_##name,
#include "compiler/isa/rdna_kind.def"
};
struct KindRow {
  std::string_view name;
  Field place;
  u8 bits;
  bool is_signed;
};
inline constexpr KindRow kinds[] = {
    {"", fields::NOWHERE, 0, false},
#define KIND(name, place, bits, is_signed, ...) {#name, fields::place, bits, is_signed},
#include "compiler/isa/rdna_kind.def"
};
// Special numbers of scalar registers: those of the 8-bit source field (rdna_kind.def has their names).
inline constexpr u32 VCC_LO = 106, NULL_REGISTER = 124, M0_REGISTER = 125, EXEC_LO = 126, SCC_REGISTER = 253;

// Operand::modifiers, as encoded: a packed row whose halves are in order has HALF_HI everywhere.
enum OperandModifier : u8 {
  NEGATE = 1,     // neg, neg_lo
  ABSOLUTE = 2,   // abs, after which neg
  NEGATE_HI = 2,  // VOP3P: neg_hi
  HALF = 4,       // op_sel: the high half of a 16-bit operand, of the result; VOP3P: for the low result
  HALF_HI = 8,    // op_sel_hi: VOP3P, the high half for the high result; fma_mix: the operand is f16
  LITERAL = 16,   // an immediate in a dword of its own although a shorter way exists
};
struct Modifiers {  // Instruction::modifiers, as bits
  enum Encoding : u8 { SHORTEST, BASE, E64 };
  u64 dpp : 24 = 0;      // DPP16: bits 23-8 of its dword without neg and abs; DPP8: eight lane numbers
  u64 dpp_kind : 2 = 0;  // 0 none, 1 DPP16, 2 DPP8
  u64 fetch_inactive : 1 = 0;
  u64 encoding : 2 = 0;  // an Encoding
  u64 clamp : 1 = 0;
  u64 omod : 2 = 0;  // 1 *2, 2 *4, 3 /2
  u64 glc : 1 = 0, slc : 1 = 0, dlc : 1 = 0, gds : 1 = 0;
  u64 unused : 27 = 0;
  static Modifiers of(u64 bits) { return std::bit_cast<Modifiers>(bits); }
  u64 bits() const { return std::bit_cast<u64>(*this); }
};

// ---- meanings -----------------------------------------------------------------------------------------------------
// Named operands: while a row is read these numbers are replaced by positions in its list of operands.
enum Name : u8 { N_D0, N_D1, N_S0, N_S1, N_S2, N_SIMM, N_SCC, N_VCC, N_EXEC, N_M0, N_PC, N_MEM, N_DATA, N_DATA2 };
struct Meaning {
  Effect effect[3];
  u8 effects = 0;
  Function function = NO_FUNCTION;
  constexpr Meaning() = default;
  constexpr Meaning(Effect a) : effect{a}, effects(1) {}
  constexpr Meaning(Effect a, Effect b) : effect{a, b}, effects(2) {}
  constexpr Meaning(Effect a, Effect b, Effect c) : effect{a, b, c}, effects(3) {}
  constexpr Meaning(Function f) : function(f) {}
};
namespace names {
using ingot::isa::operands::Hole;
inline constexpr Hole D0{N_D0}, D1{N_D1}, S0{N_S0}, S1{N_S1}, S2{N_S2}, SIMM{N_SIMM}, SCC{N_SCC}, VCC{N_VCC},
    EXEC{N_EXEC}, M0{N_M0}, PC{N_PC}, MEM{N_MEM}, DATA{N_DATA}, DATA2{N_DATA2};
}  // namespace names
constexpr Meaning call(Function f) { return f; }
// Types flow up from the operands; an immediate has the type beside it.
constexpr Pat to(const Pat& x, DType d) { return op(Op::CAST, x).dtype(d); }
constexpr Pat as(const Pat& x, DType d) { return op(Op::BITCAST, x).dtype(d); }
constexpr Pat operator~(const Pat& x) { return x ^ -1; }
constexpr Pat low(const Pat& x) { return x & 65535; }
constexpr Pat bit(const Pat& n) { return Pat(1) << n; }
constexpr Pat not_(const Pat& x) { return op(Op::XOR, x, 1); }  // of a bool
constexpr Pat never(const Pat& a, const Pat& b) { return (a != a) && (b != b) && (a == b); }
constexpr Pat always(const Pat& a, const Pat& b) { return not_(never(a, b)); }
constexpr Pat minnum(const Pat& a, const Pat& b) {
  return where(a != a, b, where(b != b, a, min(a, b)));
}  // IEEE 754-2008
constexpr Pat maxnum(const Pat& a, const Pat& b) { return where(a != a, b, where(b != b, a, max(a, b))); }
constexpr Pat signed24(const Pat& x) { return (x << 8) >> 8; }
constexpr Pat unsigned24(const Pat& x) { return x & 0xffffff; }
constexpr Pat high_half(const Pat& old, const Pat& x) { return low(old) | to(x, U32) << 16; }
constexpr Pat wrap_increment(const Pat& x, const Pat& limit) { return where(x < limit, x + 1, 0); }
constexpr Pat wrap_decrement(const Pat& x, const Pat& limit) { return where((x == 0) || (limit < x), limit, x - 1); }
inline constexpr double turn = 6.283185307179586;  // v_sin and v_cos count revolutions

// ---- a row --------------------------------------------------------------------------------------------------------
enum Encodings : u8 { HAS_BASE = 1, HAS_E64 = 2, HAS_DPP = 4, HAS_E64_DPP = 8 };
struct Row : Inst {
  Format format = SOP1;
  i16 opcode[GENERATIONS] = {};
  Class cls = PLAIN;
  Function function = NO_FUNCTION;
  u8 encodings = HAS_BASE;
  u8 neg = 0, abs = 0, sel = 0, sel_hi = 0;  // bit per source; sel bit 3: the result
  bool has_sdst = false, sext = false;
  // Of columns: a modifier that may be given (gds 2: it must); fma_mix: op_sel_hi says that an operand is f16; 16-bit
  // registers are named .l and .h.
  u8 clamp = 0, omod = 0, gds = 0, returns = 0, mixed = 0, true16 = 0;
  ImmediateKind kind[max_specs] = {};
};

// clang-format off
struct Column {
  std::string_view text;
  u8 Row::*member;
  u8 value;
};
inline constexpr Column plain_columns[] = {
    {"clamp", &Row::clamp, 1}, {"-clamp", &Row::clamp, 0}, {"omod", &Row::omod, 1}, {"-omod", &Row::omod, 0},
    {"-abs", &Row::abs, 0}, {"returns", &Row::returns, 1}, {"gds", &Row::gds, 2}, {"-gds", &Row::gds, 0},
    {"mixed", &Row::mixed, 1}, {"true16", &Row::true16, 1},
};
struct ImplicitOperand {  // as scalar rows see it: VCC and EXEC are numbers
  std::string_view text;
  RegClass cls;
  u32 number;
  u16 bits;
  Scalar type;
};
inline constexpr ImplicitOperand implicit_operands[] = {
    {"scc",  RegClass::FLAGS,   SCC_REGISTER, 1,  Scalar::BOOL}, {"vcc", RegClass::SCALAR, VCC_LO,      32, Scalar::U32},
    {"exec", RegClass::SCALAR,  EXEC_LO,      32, Scalar::U32},  {"m0",  RegClass::SCALAR, M0_REGISTER, 32, Scalar::U32},
    {"pc",   RegClass::POINTER, 0,            64, Scalar::U64},  {"mem", RegClass::MEMORY, 0,           0,  Scalar::VOID},
};  // from N_SCC on
struct NamedField {
  Name name;
  Field field;
};
inline constexpr NamedField named_fields[] = {
    {N_D0, fields::VDST}, {N_D0, fields::SDST}, {N_S0, fields::SRC0}, {N_S1, fields::SRC1}, {N_S2, fields::SRC2},
    {N_SIMM, fields::SIMM}, {N_SIMM, fields::LIT}, {N_DATA, fields::DATA}, {N_DATA2, fields::DATA2},
};  // the first that the row has
struct FunctionTrait {
  Function function;
  u16 trait;
};
inline constexpr FunctionTrait function_traits[] = {
    {NOTHING, Inst::NO_OPERATION}, {KEEP_TOGETHER, Inst::CLAUSE}, {INVALIDATE, Inst::FORGETS}, {MOVE_RELATIVE, Inst::RELATIVE},
    {SET_MODE, Inst::SETS_MODE}, {SET_REGISTER, Inst::SETS_MODE},
};
// clang-format on

struct Source {  // a row as written, before its meaning goes into the table's list
  using enum fields::Field;
  Row row;
  Meaning meaning;
  consteval Source(Format format, std::string_view name, std::initializer_list<i16> opcodes, std::string_view text,
                   Meaning m = {})
      : meaning(m) {
    row.family = Inst::RDNA;
    row.format = format;
    row.latency = 0;
    for (i16& o : row.opcode) o = NONE;
    size_t n = 0;
    for (i16 o : opcodes) row.opcode[n++] = o;
    if (name.size() >= sizeof row.name) throw "name too long";
    for (n = 0; n < name.size(); n++) row.name[n] = name[n];
    std::string_view columns;
    if (size_t semicolon = text.find(';'); semicolon != text.npos)
      columns = text.substr(semicolon + 1), text = text.substr(0, semicolon);
    read_operands(text);
    suggest_modifiers();
    row.gds = row.format == DS;
    while (!columns.empty()) {
      std::string_view w = next_word(columns);
      if (!w.empty()) column(w);
    }
    bind_meaning();
    row.latency = u8(std::min<int>(255, classes[row.cls].cycles ? classes[row.cls].cycles : formats[format].cycles));
    row.function = m.function;
    find_traits();
  }

 private:
  constexpr bool valu() const { return row.format >= VOP1 && row.format <= VOPD; }
  static constexpr bool starts(std::string_view s, std::string_view t) { return s.substr(0, t.size()) == t; }
  // Clang counts every step of a constant expression: look at first letters before comparing.
  static constexpr size_t n_kinds = std::size(kinds), n_classes = std::size(classes), n_dtypes = std::size(dtype_rows);
  static constexpr Scalar scalar_named(std::string_view s) {
    for (size_t i = 0; i < n_dtypes; i++)
      if (s[0] == dtype_rows[i].name[0] && s == dtype_rows[i].name) return Scalar(i);
    throw "no dtype has this name";
  }
  static constexpr void read_type(OperandSpec& s, std::string_view t) {
    if (t == "mask") {
      s.type = Scalar::BOOL, s.bits = 32;
      return;
    }
    int lanes = 1;
    if (size_t x = t.find('x'); x != t.npos) {
      std::string_view digits = t.substr(x + 1);
      lanes = take_number(digits), t = t.substr(0, x);
    }
    s.type = scalar_named(t);
    s.bits = u16(dtype_rows[int(s.type)].bits * lanes);
  }
  static constexpr ImmediateKind kind_named(std::string_view t) {
    if (t[0] == 'u' || t[0] == 'f') return t == "uoffset" ? KIND_uoffset : NOT_IMMEDIATE;  // nearly all are dtypes
    for (size_t i = 1; i < n_kinds; i++)
      if (kinds[i].name[0] == t[0] && kinds[i].name == t) return ImmediateKind(i);
    return NOT_IMMEDIATE;
  }
  constexpr void read_operands(std::string_view text) {
    std::string_view places = formats[row.format].places;
    if (row.format == VOP3SD) row.format = VOP3, row.has_sdst = true;
    auto next_place = [&] {
      std::string_view w = next_word(places);
      if (w.empty()) throw "the format has no place for this operand";
      return field_named(w);
    };
    while (!text.empty()) {
      std::string_view t = next_word(text);
      if (t.empty()) continue;
      if (t == "_") {  // this place stays empty
        next_place();
        continue;
      }
      OperandSpec& s = row.spec[row.specs];
      char access = 0, letter = 0;
      if (t[0] == '+' || t[0] == '=' || t[0] == '-') access = t[0], t.remove_prefix(1);
      if (t.size() > 2 && t[1] == ':') letter = t[0], t.remove_prefix(2);
      Field place = NOWHERE;
      if (size_t at = t.find('='); at != t.npos) place = field_named(t.substr(at + 1)), t = t.substr(0, at);
      ImmediateKind kind = kind_named(t);
      if (kind) {
        if (place == NOWHERE) place = kinds[kind].place;
        s.imm_bits = kinds[kind].bits, s.imm_unsigned = !kinds[kind].is_signed;
        s.type = t == "lit"              ? Scalar::F32
                 : t == "lit16"          ? Scalar::F16
                 : kinds[kind].is_signed ? Scalar::I32
                                         : Scalar::U32;
        s.bits = t == "lit16" ? 16 : 32;
        s.pc_relative = t == "branch";
      } else {
        if (place == NOWHERE) place = next_place();
        if (place == SDST && row.format != SOP1 && row.format != SOP2 && row.format != SOPK && row.format != SMEM)
          row.has_sdst = true;
        read_type(s, t);
        s.cls = RegClass::SCALAR;
        bool source = place == SRC0 || place == SRC1 || place == SRC2;
        if (place == VDST || place == ADDR || place == DATA || place == DATA2) s.cls = RegClass::VECTOR;
        if (letter == 's' || letter == 'c' || letter == 'l') {
          s.cls = RegClass::SCALAR, s.imm_bits = letter == 's' ? 0 : letter == 'c' ? 7 : 32;
        } else if (letter == 'm') {
          s.cls = RegClass::VECTOR, s.also = RegClass::SCALAR, s.imm_bits = 7;  // of the scalars what is not an SGPR
        } else if (letter == 'v') {
          s.cls = RegClass::VECTOR;
        } else if (source && s.type != Scalar::BOOL) {
          s.imm_bits = 32;
          if (valu()) s.cls = RegClass::VECTOR, s.also = RegClass::SCALAR;
        }
      }
      s.place = place;
      bool written = place == VDST || place == SDST;
      s.access = access == '+'   ? OperandSpec::READ_WRITE
                 : access == '=' ? OperandSpec::WRITE
                 : access == '-' ? OperandSpec::READ
                 : written       ? OperandSpec::WRITE
                                 : OperandSpec::READ;
      row.kind[row.specs++] = kind;
      row.shown = row.specs;
    }
  }
  constexpr void suggest_modifiers() {
    if (row.format < VOP1 || row.format > VOP3P) return;
    bool wide = false;
    u8 floats = 0;
    Scalar result = Scalar::VOID;
    for (int i = 0; i < row.shown; i++) {
      const OperandSpec& s = row.spec[i];
      wide |= s.bits > 32;
      if (s.place == VDST) result = s.type;
      if (s.place >= SRC0 && s.place <= SRC2 && dtype_rows[int(s.type)].kind == Kind::FLOATING)
        floats |= u8(1 << (s.place - SRC0));
    }
    bool float_result = dtype_rows[int(result)].kind == Kind::FLOATING;
    if (row.format != VOP3P) row.neg = row.abs = floats;
    row.clamp = floats || float_result;
    row.omod = float_result && row.format != VOP3P;
    if (row.format == VOP3)
      row.encodings = wide ? HAS_E64 : HAS_E64 | HAS_E64_DPP;
    else if (row.format == VOP3P) {
      row.encodings = HAS_E64;
      row.sel = row.sel_hi = sources();
      if (floats) row.neg = row.abs = sources();
    } else
      row.encodings = wide ? HAS_BASE | HAS_E64 : HAS_BASE | HAS_E64 | HAS_DPP | HAS_E64_DPP;
  }
  constexpr u8 sources() const {  // a bit each, but for masks
    u8 bits = 0;
    for (int i = 0; i < row.shown; i++)
      if (row.spec[i].place >= SRC0 && row.spec[i].place <= SRC2 && row.spec[i].type != Scalar::BOOL)
        bits |= u8(1 << (row.spec[i].place - SRC0));
    return bits;
  }
  constexpr void column(std::string_view w) {
    for (size_t c = 1; c < n_classes; c++)
      if (classes[c].name[0] == w[0] && classes[c].name == w) {
        row.cls = Class(c);
        return;
      }
    for (const Column& c : plain_columns)
      if (c.text == w) {
        row.*c.member = c.value;
        return;
      }
    if (w[0] == '<' || w[0] == '>') {
      u8 access = 0;
      if (w[0] == '<') access |= OperandSpec::READ, w.remove_prefix(1);
      if (!w.empty() && w[0] == '>') access |= OperandSpec::WRITE, w.remove_prefix(1);
      for (size_t i = 0; i < std::size(implicit_operands); i++)
        if (implicit_operands[i].text == w) return add_implicit(Name(N_SCC + i), access);
      throw "unknown implicit operand";
    } else if (starts(w, "mem:")) {
      add_implicit(N_MEM, 0);
      OperandSpec& s = row.spec[position(N_MEM)];
      read_type(s, w.substr(4));
      s.mem_bits = s.bits;
    } else if (w == "neg")
      row.neg = row.abs = sources();
    else if (w == "sext")
      row.neg = sources(), row.sext = true;
    else if (w == "-neg")
      row.neg = row.abs = 0;
    else if (starts(w, "neg:"))
      row.neg = row.abs = u8(w[4] - '0');
    else if (starts(w, "abs:"))
      row.abs = u8(w[4] - '0');
    else if (w == "sel")
      row.sel = u8(sources() | 8);
    else if (starts(w, "sel:"))
      row.sel = u8(w[4] <= '9' ? w[4] - '0' : w[4] - 'a' + 10);
    else if (w == "-sel")
      row.sel = row.sel_hi = 0;
    else if (w == "-dpp")
      row.encodings &= u8(~(HAS_DPP | HAS_E64_DPP));
    else if (w == "dpp")
      row.encodings |= u8(row.encodings << 2);
    else if (w == "-e64")
      row.encodings &= u8(~(HAS_E64 | HAS_E64_DPP));
    else
      throw "unknown column";
  }
  constexpr void add_implicit(Name name, u8 access) {
    int i = position(name);
    if (i < 0) {
      if (row.specs == Inst::max_specs) throw "too many operands";
      i = row.specs++;
      OperandSpec& s = row.spec[i];
      s.implicit = true, s.access = OperandSpec::Access(access);
      const ImplicitOperand& implicit = implicit_operands[name - N_SCC];
      s.cls = implicit.cls, s.fixed = i16(implicit.number), s.bits = implicit.bits, s.type = implicit.type;
      bool mask = name == N_VCC || name == N_EXEC;
      if (mask && valu()) s.type = Scalar::BOOL;  // lane by lane, not the whole mask
      if (name == N_EXEC && !valu() && row.shown && row.spec[0].bits == 64) s.bits = 64, s.type = Scalar::U64;
    }
    OperandSpec& s = row.spec[i];
    s.access = OperandSpec::Access(s.access | access);
    if (name == N_SCC) row.reads_flags |= bool(s.access & 1), row.writes_flags |= bool(s.access & 2);
  }
  // Which operand of this row a name stands for; -1: none.
  constexpr int position(Name name) const {
    auto at = [&](Field f) {
      for (int i = 0; i < row.shown; i++)
        if (row.spec[i].place == f) return i;
      return -1;
    };
    if (name >= N_SCC && name <= N_MEM) {
      const ImplicitOperand& s = implicit_operands[name - N_SCC];
      for (int i = row.shown; i < row.specs; i++)
        if (row.spec[i].cls == s.cls && row.spec[i].fixed == i16(s.number)) return i;
      return -1;
    }
    if (name == N_D1) return at(VDST) >= 0 ? at(SDST) : -1;
    for (const NamedField& f : named_fields)
      if (f.name == name && at(f.field) >= 0) return at(f.field);
    return -1;
  }
  constexpr void find_traits() {
    bool answers = false, direct = false, conditional = false;
    for (int i = 0; i < row.specs; i++) {
      const OperandSpec& s = row.spec[i];
      answers |= !s.implicit && (s.place == VDST || s.place == SDST) && s.access & OperandSpec::WRITE;
      direct |= s.pc_relative;
      conditional |= s.implicit && s.access & OperandSpec::READ && s.cls != RegClass::POINTER;
    }
    int pc = position(N_PC);
    bool jumps = row.function == RETURN_FROM_TRAP || (pc >= 0 && row.spec[pc].access & OperandSpec::WRITE);
    const FormatRow& f = formats[row.format];
    row.traits = u16(f.trait | classes[row.cls].trait);
    if (f.trait == Inst::PRIVATE) row.traits |= Inst::MEMORY_UNIT;
    for (const FunctionTrait& t : function_traits)
      if (t.function == row.function) row.traits |= t.trait;
    if (jumps && (answers || !direct)) row.traits |= Inst::LEAVES;
    if ((jumps && !conditional && !answers) || row.function == END) row.traits |= Inst::STOPS;
    if (row.function != NOTHING && row.function != INVALIDATE) row.queues = answers ? f.answers : f.silent;
    if (row.cls == CLASS_message && answers) row.queues = 1 << SMEM_COUNT;
  }
  constexpr int bound(u8 name, u8 access) {
    if (name >= N_SCC && name <= N_MEM) add_implicit(Name(name), access);
    int i = position(Name(name));
    if (i < 0) throw "the meaning names an operand that the row does not have";
    if (access == OperandSpec::WRITE && !(row.spec[i].access & OperandSpec::WRITE))
      throw "the meaning writes an operand that is read";
    if (access == OperandSpec::READ) row.spec[i].access = OperandSpec::Access(row.spec[i].access | OperandSpec::READ);
    return i;
  }
  constexpr void bind_meaning() {
    for (int e = 0; e < meaning.effects; e++) {
      Pat& p = meaning.effect[e].value;
      p.binds = 0;
      for (int k = 0; k < p.n; k++)
        if (p.term[size_t(k)].kind == Pat::Term::HOLE) {
          p.term[size_t(k)].v = u8(bound(p.term[size_t(k)].v, OperandSpec::READ));
          p.binds |= u16(1 << p.term[size_t(k)].v);
        }
      meaning.effect[e].target = i8(bound(u8(meaning.effect[e].target), OperandSpec::WRITE));
      if (e == 0) {
        const OperandSpec& s = row.spec[meaning.effect[0].target];
        row.dtype = {s.type, 1};
        if (s.type != Scalar::BOOL && row.dtype.bits()) row.dtype.lanes = u16(s.bits / row.dtype.bits());
      }
    }
  }
};

template <size_t Rows, size_t Meanings>
struct Table {
  std::array<Row, Rows> rows;
  std::array<Effect, Meanings> meanings;
};
template <size_t N>
constexpr size_t count_meanings(const Source (&sources)[N]) {
  size_t n = 0;
  for (const Source& s : sources) n += s.meaning.effects;
  return n;
}
template <size_t Meanings, size_t N>
constexpr Table<N, Meanings> make_table(const Source (&sources)[N]) {
  Table<N, Meanings> t{};
  size_t m = 0;
  for (size_t i = 0; i < N; i++) {
    t.rows[i] = sources[i].row;
    t.rows[i].effects = sources[i].meaning.effects;
    t.rows[i].effect = sources[i].meaning.effects ? i16(m) : i16(-1);
    for (int e = 0; e < sources[i].meaning.effects; e++) t.meanings[m++] = sources[i].meaning.effect[e];
  }
  return t;
}

// ---- rdna.cc: rows and words; rdna_text.cc: text -------------------------------------------------------------------
const Row& row_at(size_t i);
std::span<const u16> rows_called(std::string_view name);
struct Pattern {  // what the words of an encoding have in common
  u64 mask, match;
};
std::vector<Pattern> patterns_of(const Row& r, Generation g);  // a pair's halves: none
bool encode(Generation g, const Instruction& in, std::vector<u8>& out);
std::string print(const Instruction& in);
bool parse(Generation g, std::string_view line, Instruction& out, std::string& error);
std::string_view pair_objection(Generation g, const Instruction& pair);  // why it cannot be issued as one; "": it can
inline int dwords(const OperandSpec& s) { return (s.bits + 31) / 32; }
i64 sign_extended(i64 v, int bits);
DType inline_dtype(const OperandSpec& s);          // what 0.5 stands for
int value_bits(const OperandSpec& s);              // how many bits an immediate gives
int inline_code(const OperandSpec& s, i64 value);  // source code of an inline constant; 0: none
bool float_literal(const OperandSpec& s);          // a literal is the high half of a double

}  // namespace ingot::isa::rdna
