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

inline constexpr std::string_view conditions[] = {"o", "no", "b", "ae", "e", "ne", "be", "a",
                                                  "s", "ns", "p", "np", "l", "ge", "le", "g"};
inline constexpr std::string_view predicates[] = {
    "eq",     "lt",     "le",    "unord",  "neq",    "nlt",      "nle",    "ord",   "eq_uq",   "nge",    "ngt",
    "false",  "neq_oq", "ge",    "gt",     "true",   "eq_os",    "lt_oq",  "le_oq", "unord_s", "neq_us", "nlt_uq",
    "nle_uq", "ord_s",  "eq_us", "nge_uq", "ngt_uq", "false_os", "neq_os", "ge_oq", "gt_oq",   "true_us"};
inline constexpr std::string_view integer_predicates[] = {"eq", "lt", "le", "false", "neq", "nlt", "nle", "true"};
inline constexpr std::string_view xop_predicates[] = {"lt", "le", "gt", "ge", "eq", "neq", "false", "true"};

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
        std::string_view one = first.substr(0, first.find(','));
        first.remove_prefix(std::min(first.size(), one.size() + 1));
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
    for (bool more = true; more && !e.empty();) {
      std::string_view t = e.substr(0, e.find(' '));
      if (t.size() == e.size()) break;  // the opcode, even when it is 66
      if (t == "NP")
        i.prefix = 0;
      else if (t == "66")
        i.prefix = 1;
      else if (t == "F3")
        i.prefix = 2;
      else if (t == "F2")
        i.prefix = 3;
      else if (t == "o16")
        sizes[0] = O16;
      else if (t == "o32")
        sizes[0] = O32;
      else if (t == "o64")
        sizes[0] = O64;
      else if (t == "ov")
        sizes[0] = O16, sizes[1] = O32, sizes[2] = O64, n = 3;
      else if (t == "oy")
        sizes[0] = O32, sizes[1] = O64, n = 2;
      else if (t == "dv")
        sizes[0] = D16, sizes[1] = D64, n = 2;
      else if (t == "dq")
        sizes[0] = D64;
      else if (t == "a32")
        i.flags |= ADDRESS32;
      else if (t == "dis")
        i.flags |= DECODE_ONLY;
      else if (t == "rex2")
        i.flags |= NEEDS_REX2 | DECODE_ONLY;
      else if (t == "rex")
        i.flags |= AFTER_REX;
      else if (t == "asm")
        i.flags |= ASM_ONLY;
      else if (t == "3DNow")
        i.scheme = NOW3D;
      else if (t == "0F")
        i.map = 1, more = false;
      else if (t == "0F38")
        i.map = 2, more = false;
      else if (t == "0F3A")
        i.map = 3, more = false;
      else {
        more = false;
        continue;
      }
      e.remove_prefix(std::min(e.size(), t.size() + 1));
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
  static constexpr int number(std::string_view& t) {
    if (t.empty() || t[0] < '0' || t[0] > '9') throw "expected a number";
    int v = 0;
    while (!t.empty() && t[0] >= '0' && t[0] <= '9') v = v * 10 + (t[0] - '0'), t.remove_prefix(1);
    return v;
  }
  static constexpr void prefixed(Form& i, std::string_view text, int& low, int& high, int& w, char& w_size) {
    bool has_map = false;
    i.prefix = 0;
    for (bool first = true; !text.empty(); first = false) {
      std::string_view p = text.substr(0, text.find('.'));
      text.remove_prefix(std::min(text.size(), p.size() + 1));
      if (first)
        i.scheme = p == "VEX" ? VEX : p == "EVEX" ? EVEX : XOP;
      else if (p == "128" || p == "LZ")
        low = high = 0;
      else if (p == "256")
        low = high = 1;
      else if (p == "512")
        low = high = 2;
      else if (p == "128-256")
        low = 0, high = 1;
      else if (p == "128-512")
        low = 0, high = 2;
      else if (p == "256-512")
        low = 1, high = 2;
      else if (p == "LIG")
        low = high = 255;
      else if (p == "NP")
        i.prefix = 0;
      else if (p == "66")
        i.prefix = 1;
      else if (p == "F3")
        i.prefix = 2;
      else if (p == "F2")
        i.prefix = 3;
      else if (p == "0F")
        i.map = 1, has_map = true;
      else if (p == "0F38")
        i.map = 2, has_map = true;
      else if (p == "0F3A")
        i.map = 3, has_map = true;
      else if (p.starts_with("MAP")) {
        p.remove_prefix(3);
        i.map = u8(number(p));
        has_map = true;
      } else if (p == "W0")
        w = 0;
      else if (p == "W1")
        w = 1;
      else if (p == "WIG")
        w = 255;
      else if (p == "Wy" || p == "Wv")
        w_size = p[1];
      else if (p == "ND")
        i.flags |= NEW_DATA;
      else if (p == "NF")
        i.flags |= NO_FLAGS;
      else if (p == "SCC")
        i.flags |= CONDITIONAL;
      else
        throw "unknown part of a VEX or EVEX prefix";
    }
    if (!has_map) throw "prefix has no map";
  }

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
        i.modrm = u8(number(t));
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
      i.dtype = type.is_signed() ? (operand_bits == 16   ? I16
                                    : operand_bits == 32 ? I32
                                                         : I64)
                                 : (operand_bits == 16   ? U16
                                    : operand_bits == 32 ? U32
                                                         : U64);
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
    if (c >= '0' && c <= '9') return number(t);
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
    if (t == "x0") {
      s.cls = RegClass::VECTOR, s.bits = 128, s.fixed = 0;
      return true;
    }
    if (t == "st0") {
      s.cls = RegClass::X87, s.bits = 80, s.fixed = 0;
      return true;
    }
    constexpr std::string_view segments[] = {"es", "cs", "ss", "ds", "fs", "gs"};
    for (int k = 0; k < 6; k++)
      if (t == segments[k]) {
        s.cls = RegClass::SEGMENT, s.bits = 16, s.fixed = i16(k);
        return true;
      }
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
      number(t);
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
      bool memory = false, only_memory = false;
      s.bits = u16(bits);
      switch (kind) {
        case 'G': s.cls = RegClass::SCALAR, s.place = MODRM_REG; break;
        case 'E': s.cls = RegClass::SCALAR, s.place = MODRM_RM, memory = true; break;
        case 'R': s.cls = RegClass::SCALAR, s.place = MODRM_RM; break;
        case 'B': s.cls = RegClass::SCALAR, s.place = VVVV; break;
        case 'Z': s.cls = RegClass::SCALAR, s.place = OPCODE; break;
        case 'V': s.cls = RegClass::VECTOR, s.place = MODRM_REG, s.bits = vector(bits); break;
        case 'W': s.cls = RegClass::VECTOR, s.place = MODRM_RM, s.bits = vector(bits), memory = true; break;
        case 'U': s.cls = RegClass::VECTOR, s.place = MODRM_RM, s.bits = vector(bits); break;
        case 'H': s.cls = RegClass::VECTOR, s.place = VVVV, s.bits = vector(bits); break;
        case 'L': s.cls = RegClass::VECTOR, s.place = IS4, s.bits = vector(bits); break;
        case 'P': s.cls = RegClass::MMX, s.place = MODRM_REG; break;
        case 'Q': s.cls = RegClass::MMX, s.place = MODRM_RM, s.bits = 64, memory = true; break;
        case 'N': s.cls = RegClass::MMX, s.place = MODRM_RM; break;
        case 'S': s.cls = RegClass::SEGMENT, s.place = MODRM_REG, s.bits = 16; break;
        case 'C': s.cls = RegClass::CONTROL, s.place = MODRM_REG; break;
        case 'D': s.cls = RegClass::DEBUG, s.place = MODRM_REG; break;
        case 'F': s.cls = RegClass::X87, s.place = MODRM_RM, s.bits = 80; break;
        case 'M': s.place = MODRM_RM, memory = only_memory = true; break;
        case 'A': s.place = MODRM_RM, memory = only_memory = true, bits = opaque_bits; break;
        case 'O': s.place = ABSOLUTE, memory = only_memory = true; break;
        case 'X': s.place = NOWHERE, s.fixed = 6, memory = only_memory = true; break;
        case 'Y': s.place = NOWHERE, s.fixed = 7, memory = only_memory = true; break;
        case 'K':
        case 'T':
          s.cls = kind == 'K' ? RegClass::PREDICATE : RegClass::TILE, s.bits = 64;
          s.place = sub == 'G' || sub == 'P' ? MODRM_REG : sub == 'B' ? VVVV : MODRM_RM;
          memory = sub == 'E';
          s.pair = sub == 'P';
          if (sub != 'G' && sub != 'B' && sub != 'E' && sub != 'R' && sub != 'P') throw "K and T want G, E, R or B";
          break;
        case 'I':
          is_signed |= bits == 16 && i.map == 4;  // LLVM shows them so
          s.imm_bits = u8(bits), s.imm_unsigned = !is_signed, s.bits = u16(operand_bits), s.place = IMMEDIATE;
          break;
        case 'J': s.imm_bits = u8(bits), s.pc_relative = true, s.bits = 64, s.place = IMMEDIATE; break;
        default: throw "unknown kind of operand";
      }
      if (memory) {
        if (!bits) throw "memory needs a size";
        s.mem_bits = u16(bits);
        i.disp8_bytes = u8(bits < 8 || i.map == 4 ? 1 : bits / 8);
      }
      if (only_memory) s.cls = RegClass::NONE, s.bits = 0;
    }
    while (!t.empty()) {
      if (t.starts_with("/b")) {
        t.remove_prefix(2);
        int b = number(t);
        if (evex) s.broadcast_bits = u8(b);
      } else if (t[0] == '!') {
        t.remove_prefix(1);
        i.disp8_bytes = u8(number(t) / 8);
      } else if (t.starts_with("{kz}")) {
        t.remove_prefix(4);
        if (evex) i.flags |= MASK | ZERO;
      } else if (t.starts_with("{k}")) {
        t.remove_prefix(3);
        if (evex) i.flags |= MASK;
      } else if (t.starts_with("{er}")) {
        t.remove_prefix(4);
        if (evex && (vector_bits == 512 || i.length == 255 || encoding.starts_with("EVEX.128."))) i.flags |= ROUND;
      } else if (t.starts_with("{sae}")) {
        t.remove_prefix(5);
        if (evex && (vector_bits == 512 || i.length == 255 || encoding.starts_with("EVEX.128."))) i.flags |= SAE;
      } else if (t == "=cc8") {
        t = {};
        predicate_list = 8, s.implicit = true;
      } else if (t == "=cc7") {
        t = {};
        predicate_list = 7, s.implicit = true;
      } else if (t == "=cc9") {
        t = {};
        predicate_list = 9, s.implicit = true;
      } else if (t == "=cc32") {
        t = {};
        predicate_list = 32, s.implicit = true;
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

struct TableView {
  const Form* forms;
  size_t n;
  const Effect* meanings;
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
