// SPDX-License-Identifier: MIT
// How a row of x86*.def becomes forms: the manual's notation, read at compile time. Included by the tables and x86.cc
// only.
//
// A row is X86(name, encoding, operands[, meaning, dtype][, features[, latency]]). One row makes one form (Form) per
// scheme, vector length and operand size that it lists; a row that cannot be read does not compile.
//
// clang-format off
// encoding, in the order of the bytes:
//   VEX.128-256.66.0F.WIG 58 /r   lengths: 128 256 512, a range of them, LIG, LZ; prefix: NP 66 F3 F2; map; W0 W1 WIG, or Wy: W0
//                                 with 32-bit and W1 with 64-bit operands, Wv: and 66.W0 with 16-bit ones; {vex}, {evex} or {nf}
//                                 in front is part of the text. APX: ND new destination, NF no flags, SCC by a condition
//   VEX.(…),EVEX.(…) 58 /r        a VEX form and its EVEX twin; decorations of operands apply to EVEX alone
//   o16 o32 o64 ov oy dv dq       legacy operand size: 66, none, REX.W; v = 16 32 64, y = 32 64; d*: 64 bits without REX.W
//   NP 66 F3 F2  0F 0F38 0F3A     legacy mandatory prefixes and maps; 3DNow: opcode after the operands
//   58  50+r  70+cc               opcode; with a register in it; with a condition in it: a form each, which replaces % in the name
//   /r  /0 … /7  C8  C0+i         ModRM: two operands; an extension; fixed; with a register in it
//   a32  rex  rex2                prefix 67; any REX (a prefix byte after REX is an instruction of its own); any REX2
//   asm  dis                      known to the assembler only; to the disassembler only
// operands, in the order of the text: [+|=|-|~] kind size decorations. The first is written and the others are read; + is read
// and written, = written, - read; ~ may change places with the next. Kinds are the manual's opcode-map letters where it has one:
//   general   G ModRM.reg   E ModRM.rm or memory   R ModRM.rm   B VEX.vvvv   Z opcode     a8 c8 dv …  that register
//   vector    V ModRM.reg   W ModRM.rm or memory   U ModRM.rm   H VEX.vvvv   L immediate[7:4]     x0  xmm0
//   mask      KG KE KR KB as G E R B; KP a pair in ModRM.reg        MMX  P Q N as V W U        tile  TG TR TB
//   others    S C D segment, control, debug in ModRM.reg            x87  F ModRM.rm, st0
//   memory    M   A without a size   O absolute   X ds:[rsi]   Y es:[rdi]   vm32x/x  vector index, then the size in the text
//   numbers   I unsigned immediate   Is signed   J pc-relative   1  that number   dfv  flags in VEX.vvvv
// sizes: bits, or v y (above), z = v up to 32, x = vector length, h f e = its half, quarter, eighth
// decorations: /b32 broadcast of 32-bit elements   !32 disp8 counts 32-bit units   {k} {kz} masking   {er} {sae} rounding
//   =cc8 =cc32 =cc7 =cc9: not in the text but a comparison predicate that replaces % in the name
// after `;` what the text does not show: <f reads flags, >f writes them, <>av …
// clang-format on
#pragma once
#include "compiler/isa/isa.h"

#include <algorithm>

namespace ingot::isa {

namespace x86 {
enum Scheme : u8 { LEGACY, VEX, EVEX, XOP, NOW3D };
enum Place : u8 { NOWHERE, MODRM_REG, MODRM_RM, VVVV, OPCODE, IS4, IMMEDIATE, ABSOLUTE };
enum Size : u8 { ANY_SIZE, O16, O32, O64, D16, D64 };
enum ModRM : u8 { NO_MODRM, SLASH_R, SLASH_DIGIT, FIXED_MODRM, MODRM_PLUS };
enum Flags : u32 {
  MASK = 1,
  ZERO = 2,
  ROUND = 4,
  SAE = 8,
  EXPLICIT_VEX = 16,
  EXPLICIT_EVEX = 32,
  ASM_ONLY = 64,
  READS = 128,
  WRITES = 256,
  ADDRESS32 = 512,
  AFTER_REX = 1024,
  COMMUTES = 2048,
  DECODE_ONLY = 4096,
  NEEDS_REX2 = 8192,
  EXPLICIT_NF = 1 << 14,  // {nf} is part of the text
  NEW_DATA = 1 << 15,     // APX: the destination is VEX.vvvv
  NO_FLAGS = 1 << 16,     // APX: EVEX.NF
  CONDITIONAL = 1 << 17   // APX: Form::condition decides; VEX.vvvv holds flags
};
inline constexpr u16 opaque_bits = 1;  // mem_bits of memory that has no size in the text
inline constexpr u32 high_byte = 64;   // register numbers of ah ch dh bh: 64 + 4 … 7

// clang-format off
inline constexpr std::string_view conditions[] = {
    "o", "no", "b", "ae", "e", "ne", "be", "a", "s", "ns", "p", "np", "l", "ge", "le", "g"};
inline constexpr std::string_view predicates[] = {
    "eq",     "lt",     "le",    "unord",  "neq",    "nlt",      "nle",    "ord",   "eq_uq",   "nge",    "ngt",
    "false",  "neq_oq", "ge",    "gt",     "true",   "eq_os",    "lt_oq",  "le_oq", "unord_s", "neq_us", "nlt_uq",
    "nle_uq", "ord_s",  "eq_us", "nge_uq", "ngt_uq", "false_os", "neq_os", "ge_oq", "gt_oq",   "true_us"};
inline constexpr std::string_view integer_predicates[] = {
    "eq", "lt", "le", "false", "neq", "nlt", "nle", "true"};
inline constexpr std::string_view xop_predicates[] = {
    "lt", "le", "gt", "ge", "eq", "neq", "false", "true"};
// clang-format on

struct Word {  // of an encoding, and of an operand's decorations: what it sets, and to what
  std::string_view text;
  enum What : u8 { PREFIX, MAP, FLAG, SCHEME, SIZES, LENGTHS, W, W_SIZE } what;
  u32 value[3] = {};
};
// clang-format off
inline constexpr Word words[] = {
    {"NP", Word::PREFIX, {0}}, {"66", Word::PREFIX, {1}}, {"F3", Word::PREFIX, {2}}, {"F2", Word::PREFIX, {3}},
    {"0F", Word::MAP, {1}}, {"0F38", Word::MAP, {2}}, {"0F3A", Word::MAP, {3}}, {"MAP4", Word::MAP, {4}},
    {"MAP5", Word::MAP, {5}}, {"MAP6", Word::MAP, {6}}, {"MAP8", Word::MAP, {8}}, {"MAP9", Word::MAP, {9}},
    {"MAP10", Word::MAP, {10}},
    {"a32", Word::FLAG, {ADDRESS32}}, {"dis", Word::FLAG, {DECODE_ONLY}}, {"asm", Word::FLAG, {ASM_ONLY}},
    {"rex", Word::FLAG, {AFTER_REX}}, {"rex2", Word::FLAG, {NEEDS_REX2 | DECODE_ONLY}},
    {"ND", Word::FLAG, {NEW_DATA}}, {"NF", Word::FLAG, {NO_FLAGS}}, {"SCC", Word::FLAG, {CONDITIONAL}},
    {"3DNow", Word::SCHEME, {NOW3D}}, {"VEX", Word::SCHEME, {VEX}}, {"EVEX", Word::SCHEME, {EVEX}}, {"XOP", Word::SCHEME, {XOP}},
    {"o16", Word::SIZES, {O16}}, {"o32", Word::SIZES, {O32}}, {"o64", Word::SIZES, {O64}}, {"ov", Word::SIZES, {O16, O32, O64}},
    {"oy", Word::SIZES, {O32, O64}}, {"dv", Word::SIZES, {D16, D64}}, {"dq", Word::SIZES, {D64}},
    {"128", Word::LENGTHS, {0, 0}}, {"LZ", Word::LENGTHS, {0, 0}}, {"256", Word::LENGTHS, {1, 1}}, {"512", Word::LENGTHS, {2, 2}},
    {"128-256", Word::LENGTHS, {0, 1}}, {"128-512", Word::LENGTHS, {0, 2}}, {"256-512", Word::LENGTHS, {1, 2}},
    {"LIG", Word::LENGTHS, {255, 255}},
    {"W0", Word::W, {0}}, {"W1", Word::W, {1}}, {"WIG", Word::W, {255}}, {"Wy", Word::W_SIZE, {'y'}}, {"Wv", Word::W_SIZE, {'v'}},
};
inline constexpr Word evex_decorations[] = {
    {"{kz}", Word::FLAG, {MASK | ZERO}}, {"{k}", Word::FLAG, {MASK}}, {"{er}", Word::FLAG, {ROUND}}, {"{sae}", Word::FLAG, {SAE}},
};
struct NamedRegister {
  std::string_view text;
  RegClass cls;
  u16 bits;
  i16 number;
};
inline constexpr NamedRegister named_registers[] = {
    {"x0", RegClass::VECTOR, 128, 0}, {"st0", RegClass::X87, 80, 0},
    {"es", RegClass::SEGMENT, 16, 0}, {"cs", RegClass::SEGMENT, 16, 1}, {"ss", RegClass::SEGMENT, 16, 2},
    {"ds", RegClass::SEGMENT, 16, 3}, {"fs", RegClass::SEGMENT, 16, 4}, {"gs", RegClass::SEGMENT, 16, 5},
};
struct OperandKind {
  char letter;
  RegClass cls;
  Place place;
  bool memory = false;
  u16 bits = 0;    // of the register; 0: as the operand says
  i16 fixed = -1;
};
inline constexpr OperandKind operand_kinds[] = {
    {'G', RegClass::SCALAR, MODRM_REG}, {'E', RegClass::SCALAR, MODRM_RM, true}, {'R', RegClass::SCALAR, MODRM_RM},
    {'B', RegClass::SCALAR, VVVV}, {'Z', RegClass::SCALAR, OPCODE},
    {'V', RegClass::VECTOR, MODRM_REG}, {'W', RegClass::VECTOR, MODRM_RM, true}, {'U', RegClass::VECTOR, MODRM_RM},
    {'H', RegClass::VECTOR, VVVV}, {'L', RegClass::VECTOR, IS4},
    {'P', RegClass::MMX, MODRM_REG}, {'Q', RegClass::MMX, MODRM_RM, true, 64}, {'N', RegClass::MMX, MODRM_RM},
    {'S', RegClass::SEGMENT, MODRM_REG, false, 16}, {'C', RegClass::CONTROL, MODRM_REG}, {'D', RegClass::DEBUG, MODRM_REG},
    {'F', RegClass::X87, MODRM_RM, false, 80}, {'K', RegClass::PREDICATE, MODRM_RM, false, 64}, {'T', RegClass::TILE, MODRM_RM, false, 64},
    {'M', RegClass::NONE, MODRM_RM, true}, {'A', RegClass::NONE, MODRM_RM, true}, {'O', RegClass::NONE, ABSOLUTE, true},
    {'X', RegClass::NONE, NOWHERE, true, 0, 6}, {'Y', RegClass::NONE, NOWHERE, true, 0, 7},
};
// clang-format on

struct Form : Inst {
  x86::Scheme scheme = x86::LEGACY;
  u8 map = 0;       // 0 one byte, 1 0F, 2 0F38, 3 0F3A, 4 5 6 EVEX, 8 9 10 XOP
  u8 prefix = 255;  // legacy: 255 any; 0 NP, 1 66, 2 F3, 3 F2
  u8 opcode = 0;
  x86::ModRM modrm_kind = x86::NO_MODRM;
  u8 modrm = 0;     // extension, fixed byte, or first byte of a range
  u8 length = 255;  // 0 128, 1 256, 2 512; 255 ignored
  u8 w = 255;       // 0, 1; 255 ignored
  x86::Size size = x86::ANY_SIZE;
  u8 disp8_bytes = 1;
  u8 condition = 0;
  u32 flags = 0;
};

struct Row {
  std::string_view name, encoding, operands;
  Effect effect;
  DType type;
  u64 features = 0;
  u8 cycles = 1;
  int forms = 0;

  // Calls f with each form of the row, shortest scheme and length first.
  template <class F>
  constexpr void expand(F f) const {
    std::string_view e = encoding;
    u32 explicit_scheme = e.starts_with("{vex} ")    ? EXPLICIT_VEX
                          : e.starts_with("{evex} ") ? EXPLICIT_EVEX
                          : e.starts_with("{nf} ")   ? EXPLICIT_NF
                                                     : Flags{};
    if (e.starts_with("a32 EVEX.")) explicit_scheme = ADDRESS32;
    if (explicit_scheme) e.remove_prefix(e.find(' ') + 1);
    std::string_view first = e.substr(0, e.find(' '));
    if (first.starts_with("VEX.") || first.starts_with("EVEX.") || first.starts_with("XOP.")) {
      e.remove_prefix(first.size());
      bool twins = first.find(',') != first.npos;
      while (!first.empty()) {
        std::string_view one = next_word(first, ',');
        Form i;
        int low = 255, high = 255, w_low = 255, w_high = 255;
        char w_size = 0;  // y, v: an operand size by W, and v 16 bits by 66
        prefixed(i, one, low, high, w_low, w_size);
        w_high = w_low;
        if (w_size) w_low = w_size == 'v' ? -1 : 0, w_high = 1;
        i.flags |= explicit_scheme;
        i.features = i.scheme == EVEX                                ? (features ? features : u64(AVX512))
                     : i.scheme == VEX && !(features & ~u64(AVX512)) ? u64(AVX2)
                     : twins                                         ? u64(OTHER)
                                                                     : features;
        for (int w = w_low; w <= w_high; w++)
          for (int l = low; l <= high; l++) {
            Form form = i;
            form.w = u8(w < 0 ? 0 : w), form.length = u8(l);
            if (w < 0) form.prefix = 1;
            finish(form, e, !w_size ? 0 : w < 0 ? 16 : w ? 64 : 32, l == 255 ? 128 : 128 << l, f);
          }
      }
      return;
    }
    Form i;
    i.features = features;
    Size sizes[3] = {ANY_SIZE};
    int n = 1;
    for (bool more = true; more;) {
      std::string_view t = e.substr(0, e.find(' '));
      const size_t found = t.size() == e.size() ? no_word : word(t);  // the last one is the opcode, even when it is 66
      if (found == no_word) break;
      const Word& w = words[found];
      set(i, w);
      more = w.what != Word::MAP;
      for (n = w.what == Word::SIZES ? 0 : n; w.what == Word::SIZES && n < 3 && w.value[n]; n++)
        sizes[n] = Size(w.value[n]);
      e.remove_prefix(t.size() + 1);
    }
    for (int k = 0; k < n; k++) {
      Form form = i;
      form.size = sizes[k];
      int bits = sizes[k] == O16 || sizes[k] == D16 ? 16 : sizes[k] == O32 ? 32 : sizes[k] == ANY_SIZE ? 0 : 64;
      finish(form, e, bits, 128, f);
    }
  }

 private:
  static constexpr int hex_byte(std::string_view t) {
    auto digit = [](char c) -> int {
      if (c >= '0' && c <= '9') return c - '0';
      if (c >= 'A' && c <= 'F') return c - 'A' + 10;
      throw "expected an upper-case hexadecimal byte";
    };
    if (t.size() != 2) throw "expected a byte";
    return digit(t[0]) << 4 | digit(t[1]);
  }
  // An index, since GCC's sanitizers know of no constant null pointer here.
  static constexpr size_t no_word = std::size(words);
  static constexpr size_t word(std::string_view t) {
    for (size_t i = 0; i < no_word; i++)
      if (words[i].text[0] == t[0] && words[i].text == t) return i;
    return no_word;
  }
  static constexpr void set(Form& i, const Word& w) {
    if (w.what == Word::PREFIX) i.prefix = u8(w.value[0]);
    if (w.what == Word::MAP) i.map = u8(w.value[0]);
    if (w.what == Word::FLAG) i.flags |= w.value[0];
    if (w.what == Word::SCHEME) i.scheme = Scheme(w.value[0]);
  }
  static constexpr void prefixed(Form& i, std::string_view text, int& low, int& high, int& w, char& w_size) {
    bool has_map = false;
    i.prefix = 0;
    while (!text.empty()) {
      const size_t found = word(next_word(text, '.'));
      if (found == no_word) throw "unknown part of a VEX or EVEX prefix";
      const Word& part = words[found];
      set(i, part);
      has_map |= part.what == Word::MAP;
      if (part.what == Word::LENGTHS) low = int(part.value[0]), high = int(part.value[1]);
      if (part.what == Word::W) w = int(part.value[0]);
      if (part.what == Word::W_SIZE) w_size = char(part.value[0]);
    }
    if (!has_map) throw "prefix has no map";
  }

  static constexpr DType signed_types[] = {I16, I32, I64}, unsigned_types[] = {U16, U32, U64};  // by bits / 32
  template <class F>
  constexpr void finish(Form& i, std::string_view e, int operand_bits, int vector_bits, F& f) const {
    bool has_opcode = false, by_condition = false;
    while (!e.empty()) {
      if (e[0] == ' ') {
        e.remove_prefix(1);
        continue;
      }
      std::string_view t = e.substr(0, e.find(' '));
      e.remove_prefix(t.size());
      if (t == "/r")
        i.modrm_kind = SLASH_R;
      else if (t[0] == '/') {
        i.modrm_kind = SLASH_DIGIT;
        t.remove_prefix(1);
        i.modrm = u8(take_number(t));
        if (i.modrm > 7) throw "extension above 7";
      } else if (!has_opcode) {
        i.opcode = u8(hex_byte(t.substr(0, 2)));
        has_opcode = true;
        t.remove_prefix(2);
        if (t == "+cc")
          by_condition = true;
        else if (!t.empty() && t != "+r")
          throw "unknown opcode suffix";
      } else {
        i.modrm = u8(hex_byte(t.substr(0, 2)));
        t.remove_prefix(2);
        i.modrm_kind = t == "+i" ? MODRM_PLUS : FIXED_MODRM;
        if (!t.empty() && t != "+i") throw "unknown ModRM suffix";
      }
    }
    if (!has_opcode) throw "row has no opcode";
    i.latency = cycles;
    i.dtype = type;
    if (operand_bits && type.is_int() && operand_bits != type.bits() && i.scheme == LEGACY)  // one row, several widths
      i.dtype = (type.is_signed() ? signed_types : unsigned_types)[operand_bits / 32];
    int predicate_list = 0;
    bool evex = i.scheme == EVEX, hidden = false;
    std::string_view o = operands;
    i.disp8_bytes = 1;
    while (!o.empty()) {
      if (o[0] == ' ' || o[0] == ',') {
        o.remove_prefix(1);
        continue;
      }
      if (o[0] == ';') {
        hidden = true;
        o.remove_prefix(1);
        continue;
      }
      size_t n = 0;
      while (n < o.size() && o[n] != ',' && o[n] != ';' && o[n] != ' ') n++;
      std::string_view t = o.substr(0, n);
      o.remove_prefix(n);
      operand(i, t, hidden, evex, operand_bits, vector_bits, predicate_list);
    }
    i.predicable = i.flags & MASK, i.reads_flags = i.flags & READS, i.writes_flags = i.flags & WRITES;
    if (i.scheme != LEGACY && i.length != 255 && i.spec[0].cls == RegClass::VECTOR && i.dtype.bits())
      i.dtype = i.dtype.with_lanes(i.spec[0].bits / i.dtype.bits());  // packed: as many as fill the register
    if (by_condition) {
      for (int c = 0; c < 16; c++) named(i, conditions[c], u8(i.opcode + c), -1, f);
    } else if (i.flags & CONDITIONAL) {
      for (int c = 0; c < 16; c++) {
        i.condition = u8(c);
        named(i, c == 10 ? "t" : c == 11 ? "f" : conditions[c], i.opcode, -1, f);  // always and never, not parity
      }
    } else if (predicate_list) {
      std::span<const std::string_view> list = predicate_list == 32  ? std::span<const std::string_view>(predicates)
                                               : predicate_list == 9 ? std::span<const std::string_view>(xop_predicates)
                                               : predicate_list == 7
                                                   ? std::span<const std::string_view>(integer_predicates)
                                                   : std::span<const std::string_view>(predicates).first(8);
      for (int c = 0; c < int(list.size()); c++) {
        if (predicate_list == 7 && (c == 3 || c == 7)) continue;  // "false" and "true" stay numbers in the text
        named(i, list[size_t(c)], i.opcode, c, f);
      }
    } else {
      named(i, "", i.opcode, -1, f);
    }
  }
  template <class F>
  constexpr void named(const Form& shape, std::string_view part, u8 opcode, int predicate, F& f) const {
    Form i = shape;
    size_t n = 0;
    for (char c : name) {
      if (c == '%')
        for (char d : part) i.name[n++] = d;
      else
        i.name[n++] = c;
      if (n >= sizeof i.name - 1) throw "name too long";
    }
    i.opcode = opcode;
    if (predicate >= 0) {
      for (OperandSpec& s : i.spec)
        if (s.place == IMMEDIATE) s.fixed = i16(predicate);
      i.effect = predicate == 0   ? 2
                 : predicate == 1 ? 1
                 : predicate == 4 ? 3
                                  : 0;  // which comparison: see effect_of_form
    }
    f(i);
  }

  constexpr void operand(Form& i, std::string_view t, bool hidden, bool evex, int operand_bits, int vector_bits,
                         int& predicate_list) const {
    OperandSpec s;
    if (hidden) {  // <f >f <>av …
      u8 access = 0;
      if (t.starts_with('<')) access |= OperandSpec::READ, t.remove_prefix(1);
      if (t.starts_with('>')) access |= OperandSpec::WRITE, t.remove_prefix(1);
      if (!access) throw "an implicit operand needs < or >";
      s.access = OperandSpec::Access(access);
      s.implicit = true;
      if (t == "f") {
        s.cls = RegClass::FLAGS, s.bits = 64, s.fixed = 0;
        i.flags |= (access & OperandSpec::READ ? READS : Flags{}) | (access & OperandSpec::WRITE ? WRITES : Flags{});
      } else if (!fixed_register(s, t, operand_bits))
        throw "unknown implicit register";
    } else {
      s.access = i.shown ? OperandSpec::READ : OperandSpec::WRITE;
      if (t[0] == '~') i.flags |= COMMUTES, t.remove_prefix(1);
      if (t[0] == '+')
        s.access = OperandSpec::READ_WRITE, t.remove_prefix(1);
      else if (t[0] == '=')
        s.access = OperandSpec::WRITE, t.remove_prefix(1);
      else if (t[0] == '-')
        s.access = OperandSpec::READ, t.remove_prefix(1);
      if (t == "1")
        s.imm_bits = 8, s.fixed = 1;
      else if (!fixed_register(s, t, operand_bits))
        explicit_operand(i, s, t, evex, operand_bits, vector_bits, predicate_list);
      if (!s.implicit) i.shown++;
    }
    if (i.specs == Form::max_specs) throw "too many operands";
    if (s.implicit) {
      i.spec[i.specs++] = s;
      return;
    }
    for (int k = i.specs++; k >= i.shown; k--) i.spec[k] = i.spec[k - 1];  // shown ones stay in front
    i.spec[i.shown - 1] = s;
  }

  static constexpr int size_of(std::string_view& t, int operand_bits, int vector_bits) {
    if (t.empty() || t[0] == '!' || t[0] == '{') return 0;
    char c = t[0];
    if (c >= '0' && c <= '9') return take_number(t);
    t.remove_prefix(1);
    if (c == 'v' || c == 'y' || c == 'z') {
      if (!operand_bits) throw "v, y and z need operand sizes in the encoding";
      return c == 'z' && operand_bits > 32 ? 32 : operand_bits;
    }
    if (c == 'x') return vector_bits;
    if (c == 'h') return vector_bits / 2;
    if (c == 'f') return vector_bits / 4;
    if (c == 'e') return vector_bits / 8;
    throw "unknown size letter";
  }
  static constexpr bool fixed_register(OperandSpec& s, std::string_view t, int operand_bits) {
    constexpr std::string_view names[] = {"a", "c", "d", "b", "sp", "bp", "si", "di"};
    for (const NamedRegister& r : named_registers)
      if (t == r.text) return s.cls = r.cls, s.bits = r.bits, s.fixed = r.number, true;
    for (int k = 7; k >= 0; k--) {
      if (!t.starts_with(names[k])) continue;
      std::string_view rest = t.substr(names[k].size());
      if (rest.empty()) return false;
      s.bits = u16(size_of(rest, operand_bits, 0));
      if (!rest.empty()) return false;
      s.cls = RegClass::SCALAR, s.fixed = i16(k);
      return true;
    }
    return false;
  }
  constexpr void explicit_operand(Form& i, OperandSpec& s, std::string_view t, bool evex, int operand_bits,
                                  int vector_bits, int& predicate_list) const {
    auto vector = [](int bits) { return u16(bits < 128 ? 128 : bits); };
    if (t.starts_with(
            "vm")) {  // vm32x/x: index element width is documentation; index register; then the size in the text
      t.remove_prefix(2);
      take_number(t);
      if (t.starts_with(':')) t.remove_prefix(1);
      s.bits = vector(size_of(t, operand_bits, vector_bits));
      if (!t.starts_with('/')) throw "vm needs a size";
      t.remove_prefix(1);
      s.mem_bits = u16(size_of(t, operand_bits, vector_bits));
      s.place = MODRM_RM;
      s.vector_index = true;
      i.disp8_bytes = u8(s.mem_bits / 8 < 128 ? s.mem_bits / 8 : 64);
    } else if (t == "dfv") {
      t = {};
      s.imm_bits = 4, s.imm_unsigned = true, s.bits = 0, s.place = VVVV;
    } else {
      char kind = t[0], sub = 0;
      t.remove_prefix(1);
      if (kind == 'K' || kind == 'T') sub = t[0], t.remove_prefix(1);
      bool is_signed = kind == 'I' && t.starts_with('s');
      if (is_signed) t.remove_prefix(1);
      int bits = size_of(t, operand_bits, vector_bits);
      s.bits = u16(bits);
      if (kind == 'I') {
        is_signed |= bits == 16 && i.map == 4;  // LLVM shows them so
        s.imm_bits = u8(bits), s.imm_unsigned = !is_signed, s.bits = u16(operand_bits), s.place = IMMEDIATE;
      } else if (kind == 'J') {
        s.imm_bits = u8(bits), s.pc_relative = true, s.bits = 64, s.place = IMMEDIATE;
      } else {
        const OperandKind* k = std::begin(operand_kinds);
        while (k->letter != kind) k++;  // past the end: does not compile
        s.cls = k->cls, s.place = k->place, s.fixed = k->fixed;
        if (k->cls == RegClass::VECTOR) s.bits = vector(bits);
        if (k->cls == RegClass::NONE) s.bits = 0;
        if (k->bits) s.bits = k->bits;
        if (kind == 'A') bits = opaque_bits;
        if (sub) {
          s.place = sub == 'G' || sub == 'P' ? MODRM_REG : sub == 'B' ? VVVV : MODRM_RM;
          s.pair = sub == 'P';
          if (sub != 'G' && sub != 'B' && sub != 'E' && sub != 'R' && sub != 'P') throw "K and T want G, E, R or B";
        }
        if (k->memory || sub == 'E') {
          if (!bits) throw "memory needs a size";
          s.mem_bits = u16(bits);
          i.disp8_bytes = u8(bits < 8 || i.map == 4 ? 1 : bits / 8);
        }
      }
    }
    while (!t.empty()) {
      if (t.starts_with("/b")) {
        t.remove_prefix(2);
        int b = take_number(t);
        if (evex) s.broadcast_bits = u8(b);
      } else if (t[0] == '!') {
        t.remove_prefix(1);
        i.disp8_bytes = u8(take_number(t) / 8);
      } else if (t.starts_with("=cc")) {
        t.remove_prefix(3);
        predicate_list = take_number(t), s.implicit = true;
      } else if (t[0] == '{') {
        const Word* d = std::begin(evex_decorations);
        while (!t.starts_with(d->text)) d++;  // past the end: does not compile
        t.remove_prefix(d->text.size());
        bool rounds = d->value[0] & (ROUND | SAE),
             whole = vector_bits == 512 || i.length == 255 || encoding.starts_with("EVEX.128.");
        if (evex && (!rounds || whole)) i.flags |= d->value[0];
      } else
        throw "unknown decoration of an operand";
    }
  }

 public:
  // Below expand(), so that Clang has instantiated it when a row calls the constructor.
  consteval Row(std::string_view n, std::string_view e, std::string_view o, u64 f = 0, int l = 1)
      : Row(n, e, o, Effect{}, VOID, f, l) {}
  consteval Row(std::string_view n, std::string_view e, std::string_view o, Effect m, DType d, u64 f = 0, int l = 1)
      : name(n), encoding(e), operands(o), effect(m), type(d), features(f), cycles(u8(l)), forms(0) {
    expand([this](const Form&) { forms++; });
    if (!forms) throw "row has no form";
  }
};

// The forms of a table, and the meanings they point to: a form's `effect` is an index into `meanings`, or -1.
template <size_t Forms, size_t Meanings>
struct Table {
  std::array<Form, Forms> forms;
  std::array<Effect, Meanings> meanings;
};
template <size_t N>
constexpr size_t count_forms(const Row (&rows)[N]) {
  size_t n = 0;
  for (const Row& r : rows) n += size_t(r.forms);
  return n;
}
template <size_t N>
constexpr size_t count_meanings(const Row (&rows)[N]) {
  size_t n = 0;
  for (const Row& r : rows)
    if (r.effect.target >= 0) n += r.name.find('%') != r.name.npos ? 3 : 1;
  return n;
}
template <size_t Forms, size_t Meanings, size_t N>
constexpr Table<Forms, Meanings> make_table(const Row (&rows)[N]) {
  Table<Forms, Meanings> t{};
  size_t n = 0, m = 0;
  for (const Row& r : rows) {
    bool has = r.effect.target >= 0, compares = r.name.find('%') != r.name.npos;
    r.expand([&](const Form& i) {
      int kind = i.effect;  // of a comparison: 0 not expressible, 1 less, 2 equal, 3 not equal
      t.forms[n] = i;
      t.forms[n].effect = !has ? i16(-1) : !compares ? i16(m) : kind > 0 ? i16(m + size_t(kind) - 1) : i16(-1);
      t.forms[n].effects = t.forms[n].effect >= 0, n++;
    });
    if (!has) continue;
    if (!compares) {
      t.meanings[m++] = r.effect;
      continue;
    }
    for (Op o : {Op::CMPLT, Op::CMPEQ, Op::CMPNE}) {
      t.meanings[m] = r.effect;
      t.meanings[m++].value.term[0].v = u8(o);
    }
  }
  return t;
}
}  // namespace x86
}  // namespace ingot::isa
