// SPDX-License-Identifier: MIT
// RDNA: text. Operands in the order of the row, then modifiers; every spelling has a print_ and a parse_ side by side,
// and the names they use are rows of rdna_kind.def. Texts are LLVM 19's: what it prints is printed, and what it prints
// is read.
#include "compiler/isa/rdna.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <tuple>

namespace ingot::isa {
using namespace rdna;
using namespace rdna::fields;

namespace {

bool take_float(Text& t, double& v) {
  t.spaces();
  auto [end, problem] = std::from_chars(t.s.data(), t.s.data() + t.s.size(), v);
  std::string_view taken(t.s.data(), size_t(end - t.s.data()));
  if (problem != std::errc() || taken.find_first_of(".eE") == taken.npos) return false;
  if (taken.size() < t.s.size() && Text::is_word(*end)) return false;
  t.s.remove_prefix(taken.size());
  return true;
}

// ---- immediates by kind -------------------------------------------------------------------------------------------
struct Symbol {
  ImmediateKind kind;
  u32 value;
  std::string_view name;
};
constexpr Symbol symbols[] = {
#define SYMBOL(kind, value, name) {KIND_##kind, value, name},
#include "compiler/isa/rdna_kind.def"
};
struct Counter {
  ImmediateKind kind;
  std::string_view name;
  u8 low, bits;
  u32 max() const { return (u32(1) << bits) - 1; }
};
constexpr Counter counters[] = {
#define COUNTER(kind, name, low, bits) {KIND_##kind, name, low, bits},
#include "compiler/isa/rdna_kind.def"
};
const Symbol* symbol(ImmediateKind kind, u32 value) {
  for (const Symbol& s : symbols)
    if (s.kind == kind && s.value == value) return &s;
  return nullptr;
}
bool take_symbol(Text& t, ImmediateKind kind, i64& value) {
  for (const Symbol& s : symbols)
    if (s.kind == kind && t.take_word(s.name)) return value = s.value, true;
  return false;
}

std::string print_hex(i64 v) { return hex(u64(v)); }
std::string print_dec(i64 v) { return v >= -16 && v <= 64 ? str(v) : hex(u64(v)); }
std::string print_shex(i64 v) { return hex(u64(v) & 0xffff); }
std::string print_branch(i64 v) { return str(v < 0 ? v & 0xffff : v); }
std::string print_code(i64 v) { return v ? str(v) : ""; }
std::string print_dword(i64 v) { return hex(u64(v) & 0xffffffff); }
std::string print_byte(i64 v) { return v < 0 ? str("-", hex(u64(-v))) : hex(u64(v)); }
std::string print_offset(i64 v) { return v ? str(" offset:", v) : ""; }
std::string print_offset2(i64 v) {
  return str(v & 255 ? str(" offset0:", v & 255) : "", v >> 8 ? str(" offset1:", v >> 8) : "");
}
bool parse_number(Text& t, i64& v) { return t.integer(v); }
bool parse_branch(Text& t, i64& v) {  // LLVM writes it unsigned
  if (!t.integer(v)) return false;
  if (v > 32767 && v < 65536) v -= 65536;
  return true;
}
bool parse_code(Text& t, i64& v) { return t.at_end() ? (v = 0, true) : t.integer(v); }
bool parse_offset(Text& t, i64& v) { return t.take("offset:") ? t.integer(v) : (v = 0, true); }
bool parse_offset2(Text& t, i64& v) {
  i64 low = 0, high = 0;
  if (t.take("offset0:") && !t.integer(low)) return false;
  if (t.take("offset1:") && !t.integer(high)) return false;
  v = low | high << 8;
  return low >= 0 && low < 256 && high >= 0 && high < 256;
}

// Counters: those that wait for something; all of them when none does.
std::string print_counters(ImmediateKind kind, i64 v) {
  bool any = false;
  for (const Counter& c : counters) any |= c.kind == kind && (v >> c.low & c.max()) != c.max();
  std::string out;
  for (const Counter& c : counters)
    if (u32 n = u32(v >> c.low) & c.max(); c.kind == kind && (!any || n != c.max()))
      out += str(out.empty() ? "" : " ", c.name, "(", n, ")");
  return out;
}
bool parse_counters(Text& t, ImmediateKind kind, u32 start, i64& v) {
  if (t.integer(v)) return true;
  v = start;
  bool any = false;
  for (bool more = true; more;) {
    more = false;
    for (const Counter& c : counters) {
      i64 n;
      if (c.kind != kind || !t.take_word(c.name)) continue;
      if (!t.take("(") || !t.integer(n) || !t.take(")") || n < 0 || n > c.max()) return false;
      v = (v & ~(i64(c.max()) << c.low)) | n << c.low;
      any = more = true;
      if (!t.take(",")) t.take("&");
    }
  }
  return any;
}
u32 all_counters(ImmediateKind kind) {
  u32 v = 0;
  for (const Counter& c : counters)
    if (c.kind == kind) v |= c.max() << c.low;
  return v;
}
std::string print_waitcnt(i64 v) { return print_counters(KIND_waitcnt, v); }
bool parse_waitcnt(Text& t, i64& v) { return parse_counters(t, KIND_waitcnt, all_counters(KIND_waitcnt), v); }
std::string print_depctr(i64 v) {
  return v & ~i64(all_counters(KIND_depctr)) ? hex(u64(v)) : print_counters(KIND_depctr, v);
}
bool parse_depctr(Text& t, i64& v) { return parse_counters(t, KIND_depctr, all_counters(KIND_depctr), v); }

// instid0 [3:0], instskip [6:4], instid1 [10:7]
std::string print_delay(i64 v) {
  std::string out;
  auto part = [&](std::string_view what, u32 value, u32 base) {
    if (!value) return true;
    const Symbol* s = symbol(KIND_delay, base + value);
    if (s) out += str(out.empty() ? "" : " | ", what, "(", s->name, ")");
    return s != nullptr;
  };
  bool known = part("instid0", u32(v) & 15, 0);
  known &= part("instskip", u32(v) >> 4 & 7, 16);
  known &= part("instid1", u32(v) >> 7 & 15, 0);
  if (!known || v >> 11) return hex(u64(v));
  return out.empty() ? "0" : out;
}
bool parse_delay(Text& t, i64& v) {
  if (t.integer(v)) return true;
  v = 0;
  do {
    i64 n;
    bool skip = t.take_word("instskip"), first = !skip && t.take_word("instid0");
    if (!skip && !first && !t.take_word("instid1")) return false;
    if (!t.take("(")) return false;
    if (t.take_word("NO_DEP") || t.take_word("SAME"))
      n = 0;
    else if (!take_symbol(t, KIND_delay, n) || (n >= 16) != skip)
      return false;
    if (!t.take(")")) return false;
    v |= (n & 15) << (skip ? 4 : first ? 0 : 7);
  } while (t.take("|"));
  return true;
}

// id [5:0], offset [10:6], size - 1 [15:11]
std::string print_hwreg(i64 v) {
  const Symbol* s = symbol(KIND_hwreg, u32(v) & 63);
  i64 offset = v >> 6 & 31, size = (v >> 11) + 1;
  return str("hwreg(", s ? std::string(s->name) : str(v & 63),
             offset || size != 32 ? str(", ", offset, ", ", size) : "", ")");
}
bool parse_hwreg(Text& t, i64& v) {
  if (t.integer(v)) return true;
  i64 offset = 0, size = 32;
  if (!t.take_word("hwreg") || !t.take("(") || (!take_symbol(t, KIND_hwreg, v) && !t.integer(v))) return false;
  if (t.take(",") && (!t.integer(offset) || !t.take(",") || !t.integer(size))) return false;
  if (!t.take(")") || v < 0 || v > 63 || offset < 0 || offset > 31 || size < 1 || size > 32) return false;
  v |= offset << 6 | (size - 1) << 11;
  return true;
}

std::string print_sendmsg(i64 v) {
  if (const Symbol* s = symbol(KIND_sendmsg, u32(v))) return str("sendmsg(", s->name, ")");
  return v < 256 ? str("sendmsg(", v, ", 0, 0)") : str(v);
}
bool parse_sendmsg(Text& t, i64& v) {
  if (t.integer(v)) return true;
  i64 zero = 0;
  if (!t.take_word("sendmsg") || !t.take("(") || (!take_symbol(t, KIND_sendmsg, v) && !t.integer(v))) return false;
  while (t.take(","))
    if (!t.integer(zero) || zero) return false;
  return t.take(")");
}

// ds_swizzle_b32: bit 15 set: four lanes of two bits; else and [4:0], or [9:5], xor [14:10] masks on the lane number,
// with names for the common ones. Above 0xC000 (rotations and FFT order) only the number.
std::string print_swizzle(i64 v) {
  if (!v) return "";
  std::string out = " offset:";
  if (v >> 8 == 128)
    return str(out, "swizzle(QUAD_PERM,", v & 3, ",", v >> 2 & 3, ",", v >> 4 & 3, ",", v >> 6 & 3, ")");
  i64 and_mask = v & 31, or_mask = v >> 5 & 31, xor_mask = v >> 10 & 31;
  if (v & 0x8000) return str(out, v);
  if (and_mask == 31 && !or_mask && std::has_single_bit(u32(xor_mask))) return str(out, "swizzle(SWAP,", xor_mask, ")");
  if (and_mask == 31 && !or_mask && xor_mask && std::has_single_bit(u32(xor_mask + 1)))
    return str(out, "swizzle(REVERSE,", xor_mask + 1, ")");
  i64 group = 32 - and_mask;
  if (group > 1 && std::has_single_bit(u32(group)) && or_mask < group && !xor_mask)
    return str(out, "swizzle(BROADCAST,", group, ",", or_mask, ")");
  out += "swizzle(BITMASK_PERM,\"";
  for (i64 bit = 16; bit; bit /= 2) {
    bool zero = or_mask & bit, one = zero, flipped = xor_mask & bit;
    if (!(and_mask & bit) || zero)
      out += one != flipped ? '1' : '0';
    else
      out += flipped ? 'i' : 'p';
  }
  return out + "\")";
}
bool parse_swizzle(Text& t, i64& v) {
  v = 0;
  if (!t.take("offset:")) return true;
  if (t.integer(v)) return true;
  if (!t.take_word("swizzle") || !t.take("(")) return false;
  std::string_view mode = t.word();
  i64 n[4] = {};
  if (mode == "BITMASK_PERM") {
    if (!t.take(",") || !t.take("\"")) return false;
    for (i64 bit = 16; bit; bit /= 2) {
      char c = t.s.empty() ? 0 : t.s[0];
      if (c == 'p' || c == 'i') v |= bit;
      if (c == '1') v |= bit << 5;
      if (c == 'i') v |= bit << 10;
      if (c != '0' && c != '1' && c != 'p' && c != 'i') return false;
      t.s.remove_prefix(1);
    }
    return t.take("\"") && t.take(")");
  }
  int count = mode == "QUAD_PERM" ? 4 : mode == "BROADCAST" ? 2 : mode == "SWAP" || mode == "REVERSE" ? 1 : 0;
  for (int k = 0; k < count; k++)
    if (!t.take(",") || !t.integer(n[k]) || n[k] < 0 || n[k] > (count == 4 ? 3 : 32)) return false;
  if (!count || !t.take(")")) return false;
  if (count == 4) return v = 0x8000 | n[0] | n[1] << 2 | n[2] << 4 | n[3] << 6, true;
  if (!std::has_single_bit(u32(n[0])) || (count == 2 && (n[0] < 2 || n[1] >= n[0]))) return false;
  if (count == 2)
    v = (32 - n[0]) | n[1] << 5;
  else if (mode == "SWAP")
    v = 31 | n[0] << 10;
  else
    v = 31 | (n[0] - 1) << 10;
  return n[0] < 32 || (n[0] == 32 && mode != "SWAP");
}

struct Spelling {
  std::string (*print)(i64);
  bool (*parse)(Text&, i64&);
};
constexpr Spelling spellings[] = {
    {nullptr, nullptr},
#define KIND(name, place, bits, is_signed, print, parse) {print_##print, parse_##parse},
#include "compiler/isa/rdna_kind.def"
};
bool after_operands(ImmediateKind k) {  // written without a comma, after the operands
  return k == KIND_offset || k == KIND_offset2 || k == KIND_swizzle || k == KIND_soffset || k == KIND_uoffset;
}

// ---- registers ----------------------------------------------------------------------------------------------------
struct Special {
  u32 code;
  std::string_view name;
  u8 widths;  // 1: one dword, 2: two or more
};
constexpr Special specials[] = {
#define SPECIAL(code, name, widths) {code, name, widths},
#include "compiler/isa/rdna_kind.def"
};
std::string print_register(const Operand& o) {
  int count = std::max(1, (o.bits + 31) / 32);
  std::string_view file = o.cls == RegClass::VECTOR ? "v" : "s";
  u32 n = o.reg;
  if (n >= first_virtual) return str("%", file, n - first_virtual);  // only before registers are allocated
  if (o.cls == RegClass::SCALAR && n >= 106) {
    for (const Special& s : specials)
      if (s.code == n && s.widths & (count == 1 ? 1 : 2)) return std::string(s.name);
    file = "ttmp", n -= 108;
  }
  return count == 1 ? str(file, n) : str(file, "[", n, ":", n + u32(count) - 1, "]");
}
// The bits of the operand are set to what the text says; 0 where a name has any width.
bool parse_register(Text& t, Operand& o) {
  Text start = t;
  std::string_view w = t.word();
  for (const Special& s : specials)
    if (w == s.name || (s.name.starts_with("src_") && w == s.name.substr(4)))
      return o = reg(RegClass::SCALAR, s.widths == 1 ? 32 : s.widths == 2 ? 64 : 0, s.code), true;
  RegClass cls = w.starts_with("v") ? RegClass::VECTOR : RegClass::SCALAR;
  u32 base = w.starts_with("ttmp") ? 108 : 0, limit = base ? 16 : cls == RegClass::VECTOR ? 256 : 106;
  std::string_view digits = w.substr(base ? 4 : std::min<size_t>(1, w.size()));
  bool known = base || w.starts_with("v") || w.starts_with("s");
  u8 half = 0;
  int bits = 32;
  if (digits.ends_with(".l") || digits.ends_with(".h"))
    half = digits.back() == 'h' ? HALF : 0, bits = 16, digits.remove_suffix(2);
  i64 first, last;
  if (known && digits.empty() && t.take("[")) {
    if (!t.integer(first)) return t = start, false;
    last = first;
    if (t.take(":") && !t.integer(last)) return t = start, false;
    if (!t.take("]")) return t = start, false;
  } else {
    Text d{digits};
    if (!known || digits.empty() || digits[0] == '-' || !d.integer(first) || !d.s.empty()) return t = start, false;
    last = first;
  }
  if (first < 0 || last < first || last >= i64(limit) || last - first >= 32) return t = start, false;
  o = reg(cls, bits == 16 ? 16 : int(last - first + 1) * 32, base + u32(first));
  o.modifiers = half;
  return true;
}

// ---- operands -----------------------------------------------------------------------------------------------------
std::string print_float(double v, bool is_double) {
  if (v == std::trunc(v)) return str(v, std::string_view(str(v)).find('.') == std::string_view::npos ? ".0" : "");
  return std::abs(v) == 0.5 ? str(v) : is_double ? "0.15915494309189532" : "0.15915494";
}
std::string print_immediate(const Row& r, const OperandSpec& spec, const Operand& o) {
  OperandSpec s = spec;
  bool literal = o.modifiers & LITERAL || !inline_code(s, o.imm);
  if (r.mixed && literal) s.type = Scalar::F16, s.bits = 16;  // LLVM shows the half that counts
  bool integer16 = s.bits == 16 && !DType{s.type}.is_float();
  if (integer16 && literal && !r.mixed) {  // LLVM knows the constants of 32 bits but shows 16
    s.type = Scalar::U32, s.bits = 32;
    if (!inline_code(s, o.imm)) return hex(u64(o.imm) & 0xffff);
    integer16 = false;
  }
  int bits = value_bits(s);
  i64 v = sign_extended(o.imm, bits);
  if (s.type == Scalar::I64 && o.modifiers & LITERAL) v = i64(u32(v));  // shown as the dword that it is
  int code = inline_code(s, v);
  if (code && code <= 208) return str(v);
  if (code && !integer16)
    return print_float(decode_float(u64(v), inline_dtype(s)), inline_dtype(s) == F64 || s.bits > 64);
  if (float_literal(s)) return hex(u64(v) >> 32);
  if (s.type == Scalar::BF16 && s.bits == 16) return hex(u64(o.imm) & 0xffffffff);
  return hex(u64(v) & (bits == 64 ? 0xffffffff : (u64(1) << bits) - 1));
}
std::string print_operand(const Row& r, int i, const Operand& o) {
  const OperandSpec& s = r.spec[i];
  if (r.kind[i] == KIND_simm32) return print_immediate(r, s, o);
  if (r.kind[i]) return spellings[r.kind[i]].print(o.imm);
  if (o.kind == Operand::NONE || (s.place == SADDR && o.reg == NULL_REGISTER)) return "off";
  std::string text = o.kind == Operand::IMM ? print_immediate(r, s, o) : print_register(o);
  if (o.kind == Operand::REG && r.true16 && s.bits == 16 && o.cls == RegClass::VECTOR)
    text += o.modifiers & HALF ? ".h" : ".l";
  if (r.format == VOP3P && !r.mixed) return text;
  bool negative = o.modifiers & NEGATE, absolute = o.modifiers & ABSOLUTE;
  if (negative && r.sext && !DType{s.type}.is_float()) return str("sext(", text, ")");
  if (absolute) text = str("|", text, "|");
  if (negative) text = o.kind == Operand::IMM && !absolute ? str("neg(", text, ")") : str("-", text);
  return text;
}

bool parse_immediate(Text& t, const OperandSpec& s, Operand& o) {
  i64 v;
  double d;
  int bits = value_bits(s);
  DType type = inline_dtype(s);
  if (s.place == LIT && t.integer(v)) return o = imm(v), v >= -(i64(1) << 31) && v <= 0xffffffff;
  if (take_float(t, d)) {
    u64 encoded = encode_float(d, type);
    if (type == F64 && s.type == Scalar::F64 && !inline_code(s, i64(encoded)))
      encoded = encoded >> 32 << 32;
    else if (type == F64 && !inline_code(s, i64(encoded)))
      encoded >>= 32;
    if (type == F64 && std::abs(d - 0.15915494) < 1e-8) encoded = std::bit_cast<u64>(0.15915494309189532);
    o = imm(sign_extended(i64(encoded), bits));
  } else if (t.integer(v)) {
    if (v < -(i64(1) << 31) || v > 0xffffffff) return false;
    if (v > 0x7fffffff && bits == 32) v = i32(v);
    bool extended = s.type == Scalar::I64 && v > 0x7fffffff;  // a negative literal, never an inline constant
    if (extended) v = i32(v);
    if (bits == 16 && v > 32767 && v < 65536) v -= 65536;
    bool is_inline = v >= -16 && v <= 64;
    if (bits == 16 && !is_inline && (v < -32768 || v > 32767) && s.type != Scalar::BF16) return false;
    if (float_literal(s) && !is_inline) v = i64(u64(u32(v)) << 32);
    o = imm(v);
    if (extended) o.modifiers |= LITERAL;
  } else {
    return false;
  }
  bool is_int = !DType{s.type}.is_float();
  if (s.bits == 16 && (is_int ? o.imm < -16 || o.imm > 64 : !inline_code(s, o.imm)))
    o.imm &= o.imm == i16(o.imm) ? 0xffff : 0xffffffff, o.modifiers |= LITERAL;
  return true;
}

bool parse_operand(Text& t, const Row& r, int i, Operand& o) {
  const OperandSpec& s = r.spec[i];
  if (s.place == LIT) return parse_immediate(t, s, o);
  if (r.kind[i]) {
    i64 v;
    if (!spellings[r.kind[i]].parse(t, v)) return false;
    o = imm(v);
    return true;
  }
  if (t.take_word("off")) {
    o = {};
    if (s.place == SADDR) o = reg(RegClass::SCALAR, s.bits, NULL_REGISTER);
    return s.place == SADDR || (s.place == ADDR && r.format == SCRATCH);
  }
  u8 modifiers = 0;
  int closing = 0;
  Text start = t;
  i64 number;
  double real;
  bool is_number = t.integer(number);
  t = start;
  is_number |= take_float(t, real);
  t = start;
  if (!is_number && t.take("-")) modifiers |= NEGATE;
  if ((t.take_word("neg") || (r.sext && t.take_word("sext"))) && t.take("(")) modifiers |= NEGATE, closing |= 1;
  bool bars = t.take("|");
  if (bars || (t.take_word("abs") && t.take("("))) modifiers |= ABSOLUTE, closing |= bars ? 4 : 2;
  if (!parse_immediate(t, s, o) && !parse_register(t, o)) return false;
  if (closing & 4 && !t.take("|")) return false;
  if (closing & 2 && !t.take(")")) return false;
  if (closing & 1 && !t.take(")")) return false;
  if (o.kind == Operand::REG) {
    int wanted = s.place == ADDR && r.format == GLOBAL && o.bits == 32 ? 32 : dwords(s) * 32;
    if (o.bits == 16 && !r.true16) return false;
    if (o.bits != 0 && o.bits != 16 && o.bits != wanted) return false;
    o.bits = u16(s.bits ? s.bits : 32);
    if (wanted == 32 && s.bits == 64) o.bits = 32;
  }
  o.modifiers |= modifiers;
  return true;
}

// How many sources op_sel lists outside VOP3P.
int selectable(const Row& r) { return std::bit_width(u32(r.sel & 7)); }

// ---- instructions -------------------------------------------------------------------------------------------------
std::string print_list(std::string_view name, const Instruction& in, u8 modifier, int n, bool with_result) {
  std::string out = str(" ", name, ":[");
  const Row& r = static_cast<const Row&>(*in.row);
  for (int k = 0; k < n; k++)
    for (int i = 0; i < r.shown; i++)
      if (r.spec[i].place == SRC0 + k) out += str(k ? "," : "", in.op[i].modifiers & modifier ? 1 : 0);
  if (with_result && r.spec[0].access == OperandSpec::READ_WRITE) out += ",0";  // the result is the third source too
  if (with_result) out += str(",", in.op[0].modifiers & modifier ? 1 : 0);
  return out + "]";
}
std::string print_dpp(const Modifiers& m) {
  std::string out;
  if (m.dpp_kind == 2) {
    out = " dpp8:[";
    for (int k = 0; k < 8; k++) out += str(k ? "," : "", u32(m.dpp) >> 3 * k & 7);
    return out + (m.fetch_inactive ? "] fi:1" : "]");
  }
  u32 control = m.dpp & 511;
  if (control < 256)
    out = str(" quad_perm:[", control & 3, ",", control >> 2 & 3, ",", control >> 4 & 3, ",", control >> 6, "]");
#define DPP_CONTROL(first, last, name, from, ...) \
  if (control >= first && control <= last) out = first == last ? str(" ", name) : str(" ", name, ":", control - from);
#include "compiler/isa/rdna_kind.def"
  out += str(" row_mask:", hex(m.dpp >> 20 & 15), " bank_mask:", hex(m.dpp >> 16 & 15));
  if (m.dpp >> 11 & 1) out += " bound_ctrl:1";
  if (m.fetch_inactive) out += " fi:1";
  return out;
}
std::string print_one(const Row& r, const Operand* op, std::string_view suffix) {
  std::string out = str(r.name, suffix), tail;
  bool first = true;
  for (int i = 0; i < r.shown; i++) {
    std::string text = print_operand(r, i, op[i]);
    if (after_operands(r.kind[i])) {
      tail += text;
      continue;
    }
    if (r.kind[i] == KIND_byte) {  // SMEM: a number instead of the register, or after it
      bool alone = op[i - 1].reg == NULL_REGISTER;
      if (op[i].imm) out += str(alone ? ", " : " offset:", text);
      continue;
    }
    if (r.spec[i].place == SOFFSET && op[i].reg == NULL_REGISTER && op[i + 1].imm) continue;
    if (text.empty()) continue;
    out += str(first ? " " : ", ", text);
    first = false;
  }
  return out + tail;
}
}  // namespace

std::string rdna::print(const Instruction& in) {
  const Row& r = static_cast<const Row&>(*in.row);
  Modifiers m = Modifiers::of(in.modifiers);
  if (in.second) {
    const Row& y = static_cast<const Row&>(*in.second);
    return str(print_one(r, in.op, ""), " :: ", print_one(y, in.op + r.shown, ""));
  }
  bool both = (r.encodings & (HAS_BASE | HAS_E64)) == (HAS_BASE | HAS_E64), is_long = m.encoding == Modifiers::E64;
  if (both && m.encoding == Modifiers::SHORTEST) {
    std::vector<u8> bytes;
    Instruction as_short = in;
    Modifiers s = m;
    s.encoding = Modifiers::BASE;
    as_short.modifiers = s.bits();
    is_long = !rdna::encode(GFX11, as_short, bytes);
  }
  is_long |= r.format == VOP3 || r.format == VOP3P;
  std::string_view suffix = m.dpp_kind && is_long ? "_e64_dpp"
                            : m.dpp_kind          ? (r.format == VOPC ? "" : "_dpp")
                            : r.true16            ? "_e32"
                            : !both               ? ""
                            : is_long             ? "_e64"
                                                  : "_e32";
  std::string out = print_one(r, in.op, suffix);
  int sources = 0;
  u8 all = 0;
  u8 common = u8(~0);
  bool vop3p = r.format == VOP3P;
  for (int i = 0; i < r.shown; i++) {
    if (r.spec[i].place >= SRC0 && r.spec[i].place <= SRC2) sources++, common &= in.op[i].modifiers;
    all |= in.op[i].modifiers;
  }
  if (is_long && !r.true16 && r.sel && all & HALF)
    out += print_list("op_sel", in, HALF, vop3p ? sources : selectable(r), !vop3p && r.sel & 8);
  if (vop3p) {
    bool packed = r.sel_hi && !r.mixed;
    if (r.sel_hi && (packed ? !(common & HALF_HI) : all & HALF_HI))
      out += print_list("op_sel_hi", in, HALF_HI, sources, false);
    if (!r.mixed) {
      if (all & NEGATE) out += print_list("neg_lo", in, NEGATE, sources, false);
      if (all & NEGATE_HI) out += print_list("neg_hi", in, NEGATE_HI, sources, false);
    }
  }
  if (m.clamp) out += " clamp";
  if (m.omod) out += m.omod == 1 ? " mul:2" : m.omod == 2 ? " mul:4" : " div:2";
  if (m.dpp_kind) out += print_dpp(m);
  if (m.gds) out += " gds";
  if (m.glc) out += " glc";
  if (m.slc) out += " slc";
  if (m.dlc) out += " dlc";
  return out;
}

namespace {

bool parse_list(Text& t, i64* values, int& n, i64 limit) {
  n = 0;
  if (!t.take("[")) return false;
  do {
    if (n == 8 || !t.integer(values[n]) || values[n] < 0 || values[n] >= limit) return false;
    n++;
  } while (t.take(","));
  return t.take("]");
}
// One modifier after the operands; false when the text is none, or a wrong one.
bool parse_modifier(Text& t, Modifiers& m, Instruction& in, bool& masks) {
  const Row& r = static_cast<const Row&>(*in.row);
  i64 v[8];
  int n;
  auto per_operand = [&](u8 modifier) {
    if (!parse_list(t, v, n, 2)) return false;
    int sources = 0;
    for (int i = 0; i < r.shown && (r.format == VOP3P || sources < selectable(r)); i++)
      if (r.spec[i].place >= SRC0 && r.spec[i].place <= SRC2 && r.spec[i].type != Scalar::BOOL) {
        if (sources >= n) return false;
        in.op[i].modifiers = u8((in.op[i].modifiers & ~modifier) | (v[sources++] ? modifier : 0));
      }
    if (r.spec[0].access == OperandSpec::READ_WRITE && n == sources + 2 && !v[sources]) sources++;
    if (n == sources + 1 && v[sources]) in.op[0].modifiers |= modifier;
    return n == sources || n == sources + 1;
  };
  auto number = [&](i64 low, i64 high, auto&& store) {
    i64 x;
    if (!t.integer(x) || x < low || x > high) return false;
    store(u64(x));
    return true;
  };
  auto dpp16 = [&] {
    if (!masks) m.dpp = m.dpp | u64(255) << 16, masks = true;
    m.dpp_kind = 1;
  };
  if (t.take("op_sel_hi:")) return per_operand(HALF_HI);
  if (t.take("op_sel:")) return per_operand(HALF);
  if (t.take("neg_lo:")) return r.format == VOP3P && per_operand(NEGATE);
  if (t.take("neg_hi:")) return r.format == VOP3P && per_operand(NEGATE_HI);
  if (t.take_word("clamp")) return m.clamp = 1, true;
  if (t.take("mul:")) return number(1, 4, [&](u64 x) { m.omod = x == 2 ? 1 : x == 4 ? 2 : 0; });
  if (t.take("div:")) return number(2, 2, [&](u64) { m.omod = 3; });
  if (t.take_word("glc")) return m.glc = 1, true;
  if (t.take_word("slc")) return m.slc = 1, true;
  if (t.take_word("dlc")) return m.dlc = 1, true;
  if (t.take_word("gds")) return m.gds = 1, true;
  if (t.take("dpp8:")) {
    if (!parse_list(t, v, n, 8) || n != 8) return false;
    m.dpp_kind = 2, m.dpp = 0;
    for (int k = 0; k < 8; k++) m.dpp = m.dpp | u64(v[k]) << 3 * k;
    return true;
  }
  if (t.take("quad_perm:")) {
    if (!parse_list(t, v, n, 4) || n != 4) return false;
    dpp16();
    m.dpp = (m.dpp & ~u64(511)) | u64(v[0] | v[1] << 2 | v[2] << 4 | v[3] << 6);
    return true;
  }
#define DPP_CONTROL(first, last, name, from, ...)                                   \
  if (first == last ? t.take_word(name) : t.take(name ":")) {                       \
    dpp16();                                                                        \
    auto set = [&](u64 x) { m.dpp = (m.dpp & ~u64(511)) | (from + x); };            \
    return first == last ? (set(0), true) : number(first - from, last - from, set); \
  }
#include "compiler/isa/rdna_kind.def"
  if (t.take("row_mask:")) return dpp16(), number(0, 15, [&](u64 x) { m.dpp = (m.dpp & ~(u64(15) << 20)) | x << 20; });
  if (t.take("bank_mask:")) return dpp16(), number(0, 15, [&](u64 x) { m.dpp = (m.dpp & ~(u64(15) << 16)) | x << 16; });
  if (t.take("bound_ctrl:")) return number(0, 1, [&](u64) { m.dpp = m.dpp | u64(1) << 11; });
  if (t.take("fi:")) return number(0, 1, [&](u64 x) { m.fetch_inactive = x & 1; });
  return false;
}

// At most two scalar registers and literals together feed a VALU instruction ("constant bus").
struct Scalars {
  u32 seen[2 * Inst::max_specs];
  int n = 0;
  bool literal = false, literals = false;
  i64 value = 0;
  void scalar(u32 number) {
    if (number != NULL_REGISTER && std::find(seen, seen + n, number) == seen + n) seen[n++] = number;
  }
  void add(const Row& r, const Operand* op) {
    for (int i = 0; i < r.specs; i++) {
      const OperandSpec& s = r.spec[i];
      if (!(s.access & OperandSpec::READ)) continue;
      if (s.implicit) {
        if (s.cls == RegClass::SCALAR && s.fixed == int(VCC_LO)) scalar(VCC_LO);
        continue;
      }
      if (op[i].kind == Operand::REG && op[i].cls == RegClass::SCALAR) scalar(op[i].reg);
      if (op[i].kind != Operand::IMM || (r.kind[i] && s.place != LIT)) continue;
      if (s.place != LIT && !(op[i].modifiers & LITERAL) && inline_code(s, op[i].imm)) continue;
      i64 bits = float_literal(s) ? i64(u64(op[i].imm) >> 32) : op[i].imm & 0xffffffff;
      literals |= literal && value != bits;
      literal = true, value = bits;
    }
  }
  bool too_many(int limit = 2) const { return n + literal > limit || literals; }
};

bool parse_row(Generation g, Text t, const Row& r, Modifiers m, std::string_view suffix, Instruction& out,
               std::string& error) {
  Instruction in;
  in.row = &r;
  in.n = r.shown;
  bool first = true, masks = false;
  auto fail = [&](auto&&... why) { return error = str(r.name, ": ", why...), false; };
  for (int i = 0; i < r.shown; i++) {
    const OperandSpec& s = r.spec[i];
    if (after_operands(r.kind[i])) {
      if (!parse_operand(t, r, i, in.op[i])) return fail("cannot read the offset at \"", t.s, "\"");
      continue;
    }
    if (r.kind[i] == KIND_byte) {
      if (in.op[i - 1].kind == Operand::IMM) {
        in.op[i] = in.op[i - 1];
        in.op[i - 1] = reg(RegClass::SCALAR, 32, NULL_REGISTER);
      } else if (t.take("offset:")) {
        if (!parse_operand(t, r, i, in.op[i])) return fail("cannot read the offset at \"", t.s, "\"");
      } else {
        in.op[i] = imm(0);
      }
      continue;
    }
    if (!first && !t.take(",")) {
      if (r.kind[i] == KIND_code && t.at_end()) continue;
      return fail(t.at_end() ? "operands are missing" : str("\",\" expected before \"", t.s, "\""));
    }
    first = false;
    i64 number;
    Text before = t;
    if (s.place == SOFFSET && t.integer(number))
      in.op[i] = imm(number);
    else if (t = before; !parse_operand(t, r, i, in.op[i])) {
      t.spaces();
      return t.s.empty() ? fail("operands are missing") : fail("operand ", i + 1, " cannot be \"", before.s, "\"");
    }
  }
  if (r.format == VOP3P && r.sel_hi && !r.mixed)
    for (int i = 0; i < r.shown; i++)
      if (r.spec[i].place >= SRC0 && r.spec[i].place <= SRC2) in.op[i].modifiers |= HALF_HI;
  while (!t.at_end()) {
    Text before = t;
    if (!parse_modifier(t, m, in, masks)) return fail("\"", before.s, "\" is not a modifier that it takes");
  }
  if (r.returns && !m.glc) return fail("the old value comes back only with glc");
  if ((suffix == "_dpp" || suffix == "_e64_dpp") != (m.dpp_kind != 0) && (!m.dpp_kind || !suffix.empty()))
    return fail(m.dpp_kind ? "DPP needs the suffix _dpp" : "the suffix _dpp needs DPP controls");
  in.modifiers = m.bits();
  if (r.format == SMEM && r.spec[1].bits == 128 && in.op[3].imm < 0)
    return fail("the offset into a buffer is not negative");
  for (int i = 0; i < r.shown && m.dpp_kind; i++)
    if (r.spec[i].place == SRC1 && in.op[i].cls != RegClass::VECTOR)
      return fail("the second source of DPP is a vector register");
  Scalars scalars;
  scalars.add(r, in.op);
  bool shift64 = r.cls == CLASS_mul64 && r.shown == 3 && r.spec[0].bits == 64;
  if (r.format >= VOP1 && r.format <= VOP3P && scalars.too_many(shift64 ? 1 : 2))
    return fail("more than ", shift64 ? "one" : "two", " scalar operands and literals, or two different literals");
  std::vector<u8> bytes;
  if (!rdna::encode(g, in, bytes)) return fail("no encoding takes these operands and modifiers");
  out = in;
  return true;
}

}  // namespace

// Sources of the two halves come from different banks (four, for third sources two); together they take what one
// instruction may.
std::string_view rdna::pair_objection(Generation g, const Instruction& in) {
  const Row* row[2] = {static_cast<const Row*>(in.row), static_cast<const Row*>(in.second)};
  const Operand* op[2] = {in.op, in.op + row[0]->shown};
  auto operand = [&](int k, Field place) -> const Operand* {
    for (int i = 0; i < row[k]->shown; i++)
      if (row[k]->spec[i].place == place) return &op[k][i];
    return nullptr;
  };
  auto third = [&](int k) {  // of fmamk its register, of an accumulation the result
    bool multiplies = row[k]->shown > 3 && row[k]->spec[2].place == LIT;
    return multiplies ? operand(k, SRC1) : row[k]->spec[0].access == OperandSpec::READ_WRITE ? op[k] : nullptr;
  };
  auto second = [&](int k) { return third(k) == operand(k, SRC1) ? nullptr : operand(k, SRC1); };
  for (auto [a, b, banks] :
       {std::tuple{operand(0, SRC0), operand(1, SRC0), 4u}, {second(0), second(1), 4u}, {third(0), third(1), 2u}})
    if (a && b && a->cls == RegClass::VECTOR && b->cls == RegClass::VECTOR && a->reg % banks == b->reg % banks)
      return "both halves read from one bank of vector registers";
  Scalars scalars;
  for (int k = 0; k < 2; k++) scalars.add(*row[k], op[k]);
  if (scalars.too_many()) return "more than two scalar operands and literals, or two different literals";
  std::vector<u8> bytes;
  if (!rdna::encode(g, in, bytes))
    return "no pair takes these operands (destinations one even and one odd, one literal)";
  return "";
}

bool rdna::parse(Generation g, std::string_view line, Instruction& out, std::string& error) {
  if (size_t both = line.find("::"); both != line.npos) {
    std::string_view half[2] = {line.substr(0, both), line.substr(both + 2)};
    Instruction part[2];
    for (int k = 0; k < 2; k++) {
      Text t{half[k]};
      std::string_view name = t.word();
      const Row* row = nullptr;
      for (u16 i : rows_called(name))
        if (row_at(i).format == VOPD && row_at(i).opcode[g] != NONE) row = &row_at(i);
      if (!row) return error = str("\"", name, "\" is not half of a pair"), false;
      part[k].row = row, part[k].n = row->shown;
      for (int i = 0; i < row->shown; i++)
        if ((i && !t.take(",")) || !parse_operand(t, *row, i, part[k].op[i]))
          return error = str(name, ": operand ", i + 1, " cannot be \"", t.s, "\""), false;
      if (!t.at_end()) return error = str(name, ": \"", t.s, "\" is too much"), false;
    }
    Instruction in = part[0];
    in.second = part[1].row;
    for (int i = 0; i < part[1].n; i++) in.op[in.n++] = part[1].op[i];
    if (std::string_view why = pair_objection(g, in); !why.empty()) return error = str(why, ": \"", line, "\""), false;
    out = in;
    return true;
  }
  Text t{line};
  std::string_view name = t.word(), suffix;
  if (name.empty()) return error = str("an instruction is expected: \"", line, "\""), false;
  std::span<const u16> rows = rows_called(name);
  Modifiers m;
  for (std::string_view s : {"_e64_dpp", "_dpp", "_e32", "_e64"})
    if (rows.empty() && name.ends_with(s)) {
      rows = rows_called(name.substr(0, name.size() - s.size()));
      suffix = s;
      m.encoding = s == "_e64" || s == "_e64_dpp" ? Modifiers::E64 : Modifiers::BASE;
    }
  error.clear();
  for (u16 i : rows) {
    const Row& r = row_at(i);
    if (r.opcode[g] == NONE || r.format == VOPD) continue;
    Modifiers want = m;
    bool both = (r.encodings & (HAS_BASE | HAS_E64)) == (HAS_BASE | HAS_E64);
    if (!both && (suffix == "_e64_dpp" || suffix == "_dpp" || suffix == "_e64")) want.encoding = Modifiers::SHORTEST;
    std::string why;
    if (parse_row(g, t, r, want, suffix, out, why)) return true;
    if (error.empty()) error = why;
  }
  if (error.empty()) error = str("no instruction of this processor is called \"", name, "\"");
  return false;
}

}  // namespace ingot::isa
