// SPDX-License-Identifier: MIT
// RDNA: words from rows and rows from words. The rows are in rdna_*.def, their notation is in rdna.h; what stands here
// is what no row can say: which encoding a VALU row takes, source codes and inline constants, DPP, pairs (VOPD), and
// the text.
//
// Every encoding is a set of named fields (a Layout) and every operand of a row names its field, so one loop packs and
// one unpacks; an operand's value is a register, or an immediate as the bits the instruction sees. encode() takes the
// shortest encoding that carries the operands and modifiers, unless the Instruction says which. decode() refuses words
// with bits that mean nothing, so that decoding and encoding again gives the same words. Texts are LLVM 19's, without
// its comments.
#include "compiler/isa/rdna.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <unordered_map>

namespace ingot::isa {
using namespace rdna;
using namespace rdna::fields;
using Bytes = std::vector<u8>;

// ---- tables -------------------------------------------------------------------------------------------------------
extern const TableView<Row> rdna_scalar, rdna_vop, rdna_compare, rdna_vop3, rdna_ds, rdna_flat, rdna_global;
static const TableView<Row>* const table_list[] = {&rdna_scalar, &rdna_vop,  &rdna_compare, &rdna_vop3,
                                                   &rdna_ds,     &rdna_flat, &rdna_global};
static constexpr Tables<Row> tables{table_list};
const Row& rdna::row_at(size_t i) { return tables.row(i); }
std::span<const Effect> rdna_effects(const Inst& r) { return tables.effects(r); }

#define SAME "="
#define ABSENT ""
static constexpr Layout later(const Layout& first, const Layout& other, bool same) { return same ? first : other; }
#define LAYOUT(name, gfx11, gfx12) \
  {Layout(gfx11),                  \
   later(Layout(gfx11), Layout(std::string_view(gfx12) == SAME ? "" : gfx12), std::string_view(gfx12) == SAME)},
static constexpr Layout layouts[LAYOUTS][GENERATIONS] = {
#include "compiler/isa/rdna_format.def"
};
#undef SAME
#undef ABSENT

enum Form : u8 { SHORT, LONG };  // the format's own encoding, or VOP3's
static LayoutName layout_of(const Row& r, Form form) {
  bool long_form = form == LONG && (r.format == VOP1 || r.format == VOP2 || r.format == VOPC);
  if (long_form || r.format == VOP3) return r.has_sdst ? LAYOUT_VOP3SD : LAYOUT_VOP3;
  return formats[r.format].layout;
}
static int opcode_of(const Row& r, Form form, Generation g) {  // VOP3 repeats the short formats in its opcodes
  int op = r.opcode[g];
  if (form == SHORT || op == NONE) return op;
  return op + formats[r.format].vop3;
}
static bool is_valu(const Row& r) { return r.format >= VOP1 && r.format <= VOPD; }

std::vector<Pattern> rdna::patterns_of(const Row& r, Generation g) {
  std::vector<Pattern> out;
  for (Form form : {SHORT, LONG}) {
    if (r.format == VOPD || r.opcode[g] == NONE || !(r.encodings & (form == SHORT ? HAS_BASE : HAS_E64))) continue;
    const Layout& l = layouts[layout_of(r, form)][g];
    Pattern p{l.mask, l.match};
    for (int i = 0; i < l.segments; i++) {
      const Layout::Segment& s = l.segment[i];
      bool glc = s.field == GLC && r.cls == CLASS_atomic;
      if (s.field != OP && !glc) continue;
      u64 bits = (u64(1) << s.bits) - 1, value = glc ? r.returns : u64(opcode_of(r, form, g)) >> s.at & bits;
      p.mask |= bits << s.low, p.match |= value << s.low;
    }
    out.push_back(p);
  }
  return out;
}

namespace {
struct Index {  // rows by generation, layout and opcode; by name; the half of a pair that does the same
  std::map<u32, std::vector<u16>> words;
  std::map<std::string_view, std::vector<u16>> named;
  std::unordered_map<const Inst*, const Row*> half;
  static u32 key(Generation g, LayoutName l, u32 op) { return u32(g) << 24 | u32(l) << 16 | op; }
  Index() {
    for (size_t i = 0; i < tables.rows(); i++) {
      const Row& r = row_at(i);
      named[r.name].push_back(u16(i));
      for (int g = 0; g < GENERATIONS; g++) {
        if (r.opcode[g] == NONE) continue;
        for (Form form : {SHORT, LONG})
          if (r.encodings & (form == SHORT ? HAS_BASE : HAS_E64))
            words[key(Generation(g), layout_of(r, form), u32(opcode_of(r, form, Generation(g))))].push_back(u16(i));
      }
    }
    auto does_the_same = [&](std::string_view single, u16 dual) {
      for (u16 i : named.at(single)) half[&row_at(i)] = &row_at(dual);
    };
    constexpr std::string_view prefix = "v_dual_";
    for (auto& [name, rows] : named)
      if (name.starts_with(prefix)) does_the_same(str("v_", name.substr(prefix.size())), rows[0]);
    does_the_same("v_fma_f32", named.at("v_dual_fmac_f32")[0]);
  }
};
}  // namespace
static const Index& index() {
  static const Index i;
  return i;
}
std::span<const u16> rdna::rows_called(std::string_view name) {
  auto at = index().named.find(name);
  return at == index().named.end() ? std::span<const u16>() : std::span(at->second);
}

// ---- values of operands -------------------------------------------------------------------------------------------

// Whether a scalar operand of so many dwords may start at this number. As a destination only the first 128 exist.
static bool scalar_fits(u32 n, int count, bool written) {
  if (n >= 128 && (written || !((n >= 235 && n <= 239) || (n >= 251 && n <= 254)))) return false;
  if (n == 254) return count == 1;
  if (n == NULL_REGISTER || n >= 128) return true;
  if (count == 1) return true;
  u32 alignment = count == 2 ? 2 : 4;
  if (n < 106) return n % alignment == 0 && n + u32(count) <= 106;
  if (n == VCC_LO || n == EXEC_LO) return count == 2;
  return n >= 108 && n < 124 && (n - 108) % alignment == 0 && n + u32(count) <= 124;
}

static bool scalar_allowed(const OperandSpec& s, u32 n) {
  bool written = s.access & OperandSpec::WRITE, mask = s.type == Scalar::BOOL && !written;
  if (s.cls == RegClass::VECTOR && s.imm_bits == 7 && n < 128 && n != NULL_REGISTER) return false;  // matrices
  if (n == 254 && s.also != RegClass::SCALAR) return false;  // lds_direct feeds the VALU only
  if (mask && (n == EXEC_LO || n == EXEC_LO + 1)) return false;
  return scalar_fits(n, dwords(s), written);
}

// Inline floating-point constants, source codes 240 to 248, as the bits that a 16-, 32- or 64-bit operand sees.
static constexpr double inline_floats[] = {0.5, -0.5, 1, -1, 2, -2, 4, -4, 0.15915494309189535};
DType rdna::inline_dtype(const OperandSpec& s) {
  if (s.type == Scalar::F16 || s.type == Scalar::BF16) return DType{s.type};
  if (s.bits == 16) return F16;
  return s.bits == 64 ? F64 : F32;
}
i64 rdna::sign_extended(i64 v, int bits) { return bits >= 64 ? v : v << (64 - bits) >> (64 - bits); }
int rdna::value_bits(const OperandSpec& s) {  // of an immediate: packed halves see one, long vectors 32
  return s.bits > 64 ? 32 : s.bits < 16 ? 32 : s.bits;
}
static i64 inline_value(const OperandSpec& s, int code) {
  if (code <= 192) return code - 128;
  if (code <= 208) return 192 - code;
  DType d = inline_dtype(s);
  u64 bits =
      code == 248 && d == F64 ? std::bit_cast<u64>(0.15915494309189532) : encode_float(inline_floats[code - 240], d);
  return sign_extended(i64(bits), value_bits(s));
}
int rdna::inline_code(const OperandSpec& s, i64 v) {  // 0: none
  v = sign_extended(v, value_bits(s));
  if (v >= -16 && v <= 64) return v >= 0 ? int(128 + v) : int(192 - v);
  for (int code = 240; code <= 248; code++)
    if (inline_value(s, code) == v) return code;
  return 0;
}
bool rdna::float_literal(const OperandSpec& s) { return s.bits == 64 && s.type == Scalar::F64; }  // holds the high half

namespace {
// ---- words from a row ---------------------------------------------------------------------------------------------
struct Fields {
  u32 v[FIELDS] = {};
  u64 used = 0;
  bool has_literal = false;
  u32 literal = 0;
  void set(Field f, u32 value) { v[f] = value, used |= u64(1) << f; }
  bool set_literal(u32 value) {
    if (has_literal && literal != value) return false;
    has_literal = true, literal = value;
    return true;
  }
};
}  // namespace
static bool pack(const Layout& l, const Fields& f, u64& out) {
  u64 carried = 0;
  out = l.match;
  for (int i = 0; i < l.segments; i++) {
    const Layout::Segment& s = l.segment[i];
    carried |= u64(1) << s.field;
    out |= u64(f.v[s.field] >> s.at & ((u64(1) << s.bits) - 1)) << s.low;
  }
  for (int i = 1; i < FIELDS; i++)
    if (f.v[i] && (!(carried >> i & 1) || u64(f.v[i]) >> l.width(Field(i)))) return false;
  return true;
}
static Fields unpack(const Layout& l, u64 w) {
  Fields f;
  for (int i = 0; i < l.segments; i++) {
    const Layout::Segment& s = l.segment[i];
    f.v[s.field] |= u32(w >> s.low & ((u64(1) << s.bits) - 1)) << s.at;
  }
  return f;
}

// The 9-bit source code of an operand, its literal if it needs one.
static bool source_code(const OperandSpec& s, const Operand& o, Fields& f, u32& code) {
  if (o.kind == Operand::REG && o.cls == RegClass::VECTOR) {
    if ((s.cls != RegClass::VECTOR && s.also != RegClass::VECTOR) || o.reg + u32(dwords(s)) > 256) return false;
    code = 256 + o.reg;
    return true;
  }
  if (o.kind == Operand::REG) {
    if ((s.cls != RegClass::SCALAR && s.also != RegClass::SCALAR) || o.cls != RegClass::SCALAR) return false;
    code = o.reg;
    return scalar_allowed(s, o.reg);
  }
  if (o.kind != Operand::IMM || !s.imm_bits) return false;
  code = o.modifiers & LITERAL ? 0 : u32(inline_code(s, o.imm));
  if (code) return true;
  if (s.imm_bits < 32) return false;
  code = 255;
  if (float_literal(s)) return !(o.imm & 0xffffffff) && f.set_literal(u32(u64(o.imm) >> 32));
  return o.imm >= -(i64(1) << 31) && o.imm <= 0xffffffff && f.set_literal(u32(o.imm));
}

// In the short encodings bit 7 of a 16-bit operand's register is the half; only rows with .l and .h can set it.
static bool half_register(const Row& r, const OperandSpec& s, const Layout& l) {
  return s.bits == 16 && l.bits == 32 && r.format >= VOP1 && r.format <= VOPC;
}

static bool put_operand(const Row& r, int i, const Operand& o, const Layout& l, Fields& f, Field place) {
  const OperandSpec& s = r.spec[i];
  if (place == LIT) return o.kind == Operand::IMM && f.set_literal(u32(o.imm));
  if (r.kind[i]) {
    int bits = s.imm_bits;
    if (place == OFFSET && r.format == SMEM) bits = l.width(OFFSET);
    if (o.kind != Operand::IMM) return false;
    i64 low = s.imm_unsigned ? 0 : -(i64(1) << (bits - 1)),
        high = s.imm_unsigned ? (i64(1) << bits) - 1 : (i64(1) << (bits - 1)) - 1;
    if (r.kind[i] == KIND_shex) high = (i64(1) << bits) - 1;
    if (o.imm < low || o.imm > high) return false;
    f.set(place, u32(o.imm) & u32((u64(1) << bits) - 1));
    return true;
  }
  if (place == ADDR && r.format == SCRATCH) {
    f.set(SVE, o.kind == Operand::REG);
    if (o.kind == Operand::NONE) return f.set(ADDR, 0), true;
  }
  if (o.kind == Operand::REG && o.reg >= first_virtual) return false;
  u32 code;
  if (place == SADDR || place == ADDR) {  // one dword of offset beside a scalar base, else the address
    OperandSpec one = s;
    one.bits = 32;
    bool pair = s.bits == 64 && !(place == ADDR && f.v[SADDR] != NULL_REGISTER && r.format == GLOBAL);
    if (place == ADDR && o.bits != (pair ? 64 : 32)) return false;
    if (place == SADDR && r.format == SCRATCH && o.reg == EXEC_LO + 1) return false;
    if (!source_code(pair ? s : one, o, f, code)) return false;
  } else if (!source_code(s, o, f, code)) {
    return false;
  }
  int width = l.width(place);
  if (!width) return s.type == Scalar::BOOL && code == VCC_LO;  // the short encoding names it by saying nothing
  if (half_register(r, s, l) && code >= 256) {
    if (code >= 256 + 128) return false;
    if (r.true16 && o.modifiers & HALF) code |= 128;
  }
  if (place == SBASE) return code % 2 == 0 && code < 128 && (f.set(SBASE, code / 2), true);
  if (s.cls == RegClass::VECTOR && width == 8) return code >= 256 && (f.set(place, code - 256), true);
  if (width <= 8 && code >= u32(1) << width) return false;
  if (r.format == SMEM && place == SDST && (code >= M0_REGISTER)) return false;
  f.set(place, code);
  return true;
}

static bool put_modifiers(const Row& r, const Instruction& in, Form form, const Modifiers& m, Fields& f) {
  u32 neg = 0, abs = 0, sel = 0, sel_hi = 0;
  for (int i = 0; i < r.shown; i++) {
    u8 o = in.op[i].modifiers & u8(r.true16 ? ~(LITERAL | HALF) : ~LITERAL);
    if (!o) continue;
    Field place = Field(r.spec[i].place);
    if (place == VDST && o == HALF) {
      sel |= 8;
      continue;
    }
    if (place < SRC0 || place > SRC2) return false;
    u32 bit = u32(1) << (place - SRC0);
    if (o & NEGATE) neg |= bit;
    if (o & ABSOLUTE) abs |= bit;
    if (o & HALF) sel |= bit;
    if (o & HALF_HI) sel_hi |= bit;
  }
  if ((neg & ~u32(r.neg)) || (abs & ~u32(r.abs)) || (sel & ~u32(r.sel)) || (sel_hi & ~u32(r.sel_hi))) return false;
  if ((m.clamp && !r.clamp) || (m.omod && !r.omod)) return false;
  if (form == LONG) {
    f.set(NEG, neg), f.set(ABS, abs), f.set(SEL, sel), f.set(SEL_HI, sel_hi), f.set(CLAMP, m.clamp),
        f.set(OMOD, m.omod);
    if (r.format == VOP3P) f.v[SEL_HI] |= 7u & ~u32(r.sel_hi);  // nothing to choose: as if in order
    return true;
  }
  if (m.clamp || m.omod || sel || sel_hi) return false;
  if (m.dpp_kind != 1) return !neg && !abs;
  f.set(NEG0, neg & 1), f.set(NEG1, neg >> 1 & 1), f.set(ABS0, abs & 1), f.set(ABS1, abs >> 1 & 1);
  return neg < 4 && abs < 4;
}

static void put(Bytes& out, u64 word, int bits) {
  for (int i = 0; i < bits; i += 8) out.push_back(u8(word >> i));
}

static bool encode_as(const Row& r, const Instruction& in, Form form, Generation g, Bytes& out) {
  Modifiers m = Modifiers::of(in.modifiers);
  u8 wanted = form == SHORT ? HAS_BASE : HAS_E64;
  if (!(r.encodings & wanted)) return false;
  if (m.dpp_kind && !(r.encodings & wanted << 2)) return false;
  const Layout& l = layouts[layout_of(r, form)][g];
  if (!l.bits) return false;
  Fields f;
  f.set(OP, u32(opcode_of(r, form, g)));
  if (r.format == GLOBAL || r.format == SCRATCH || r.format == FLAT) f.set(SADDR, NULL_REGISTER);
  if (r.format == VOPC && form == LONG && r.spec[0].place != VDST) f.set(VDST, EXEC_LO);  // v_cmpx
  for (int i = r.shown - 1; i >= 0; i--)  // backwards: how wide an address is depends on the scalar base
    if (!put_operand(r, i, in.op[i], l, f, Field(r.spec[i].place))) return false;
  if (!put_modifiers(r, in, form, m, f)) return false;
  if (r.returns) f.set(GLC, 1);
  if (m.glc && !r.returns && r.cls == CLASS_atomic) return false;
  for (auto [field, value] : {std::pair{GLC, u32(m.glc)}, {SLC, u32(m.slc)}, {DLC, u32(m.dlc)}, {GDS, u32(m.gds)}})
    if (value) f.set(field, value);
  if (m.gds ? !r.gds : r.gds == 2) return false;
  u64 dpp_word = 0;
  if (m.dpp_kind) {
    u32 vector = f.v[SRC0] - (l.width(SRC0) == 9 ? 256 : 0);
    if (f.v[SRC0] < 256 || f.has_literal || (r.format == VOP3P && f.v[SRC1] < 256)) return false;
    Fields d;
    d.set(SRC0, vector), d.set(DPP, u32(m.dpp));
    if (m.dpp_kind == 1) d.set(FI, m.fetch_inactive);
    for (Field x : {NEG0, NEG1, ABS0, ABS1}) d.v[x] = f.v[x], f.v[x] = 0;
    if (!pack(layouts[m.dpp_kind == 1 ? LAYOUT_DPP16 : LAYOUT_DPP8][g], d, dpp_word)) return false;
    f.v[SRC0] = m.dpp_kind == 1 ? 250 : 233 + u32(m.fetch_inactive);
  }
  u64 word;
  if (!pack(l, f, word)) return false;
  put(out, word, l.bits);
  if (m.dpp_kind) put(out, dpp_word, 32);
  if (f.has_literal) put(out, f.literal, 32);
  return true;
}

static bool encode_pair(const Instruction& in, Generation g, Bytes& out) {
  const Row &x = static_cast<const Row&>(*in.row), &y = static_cast<const Row&>(*in.second);
  const Layout& l = layouts[LAYOUT_VOPD][g];
  if (in.n != x.shown + y.shown || y.format != VOPD || x.opcode[g] > 15) return false;
  Fields f;
  f.set(OPY, u32(y.opcode[g]));
  for (int i = 0; i < y.shown; i++)
    if (!put_operand(y, i, in.op[x.shown + i], l, f, Field(y.spec[i].place))) return false;
  u32 vdsty = f.v[VDST];
  f.v[VDSTY] = vdsty >> 1, f.v[SRC0Y] = f.v[SRC0], f.v[SRC1Y] = f.v[SRC1];
  f.v[VDST] = f.v[SRC0] = f.v[SRC1] = 0;
  f.set(OP, u32(x.opcode[g]));
  for (int i = 0; i < x.shown; i++)
    if (!put_operand(x, i, in.op[i], l, f, Field(x.spec[i].place))) return false;
  if ((vdsty ^ f.v[VDST]) % 2 == 0) return false;  // one even, one odd: only seven bits of the second are kept
  u64 word;
  if (!pack(l, f, word)) return false;
  put(out, word, 64);
  if (f.has_literal) put(out, f.literal, 32);
  return true;
}

bool rdna::encode(Generation g, const Instruction& in, Bytes& out) {
  const Row& r = static_cast<const Row&>(*in.row);
  if (r.family != Inst::RDNA || r.opcode[g] == NONE) return false;
  if (r.format == VOPD) return in.second && in.second->family == Inst::RDNA && encode_pair(in, g, out);
  if (in.n != r.shown || in.second) return false;
  Modifiers m = Modifiers::of(in.modifiers);
  if (m.encoding != Modifiers::E64 && encode_as(r, in, SHORT, g, out)) return true;
  return m.encoding != Modifiers::BASE && encode_as(r, in, LONG, g, out);
}

// ---- a row from words ---------------------------------------------------------------------------------------------
static bool operand_from_code(const OperandSpec& s, u32 code, std::optional<u32> literal, Operand& o) {
  if (code >= 256) {
    if (s.cls != RegClass::VECTOR && s.also != RegClass::VECTOR) return false;
    o = reg(RegClass::VECTOR, s.bits, code - 256);
    return code - 256 + u32(dwords(s)) <= 256;
  }
  if ((code >= 128 && code <= 208) || (code >= 240 && code <= 248)) {
    o = imm(inline_value(s, int(code)));
    return s.imm_bits;
  }
  if (code == 255) {
    if (s.imm_bits < 32 || !literal) return false;
    bool zero_extended = s.bits == 64 && s.type != Scalar::I64;
    o = imm(float_literal(s) ? i64(u64(*literal) << 32) : zero_extended ? i64(*literal) : i64(i32(*literal)));
    o.modifiers = LITERAL;
    return true;
  }
  o = reg(RegClass::SCALAR, s.bits, code);
  return (s.cls == RegClass::SCALAR || s.also == RegClass::SCALAR) && scalar_allowed(s, code);
}
static bool take_operand(const Row& r, int i, const Layout& l, Fields& f, Field place, Operand& o) {
  const OperandSpec& s = r.spec[i];
  f.used |= u64(1) << place;
  std::optional<u32> literal;
  if (f.has_literal) literal = f.literal;
  if (place == LIT) return o = imm(i64(i32(f.literal))), true;
  if (r.kind[i]) {
    int bits = place == OFFSET && r.format == SMEM ? l.width(OFFSET) : s.imm_bits;
    o = imm(s.imm_unsigned ? i64(f.v[place]) : sign_extended(f.v[place], bits));
    return true;
  }
  int width = l.width(place);
  if (!width) return o = reg(RegClass::SCALAR, s.bits, VCC_LO), true;
  if (r.format == SMEM && place == SDST && f.v[SDST] >= M0_REGISTER) return false;
  if (place == SBASE) return operand_from_code(s, f.v[SBASE] * 2, literal, o);
  OperandSpec one = s;
  one.bits = 32;
  if (place == SADDR) {
    o = reg(RegClass::SCALAR, s.bits, f.v[SADDR]);
    if (r.format == SCRATCH && f.v[SADDR] == EXEC_LO + 1) return false;
    return f.v[SADDR] < 128 && scalar_fits(f.v[SADDR], dwords(s), false);
  }
  if (place == ADDR && r.format == SCRATCH) {
    f.used |= u64(1) << SVE;
    if (!f.v[SVE]) return o = {}, !f.v[ADDR];
  }
  if (place == ADDR && r.format == GLOBAL && f.v[SADDR] != NULL_REGISTER)
    return operand_from_code(one, 256 + f.v[ADDR], literal, o);
  u32 code = f.v[place] + (s.cls == RegClass::VECTOR && width == 8 ? 256 : 0);
  bool high = half_register(r, s, l) && code >= 256 + 128;
  if (high && !r.true16) return false;
  if (!operand_from_code(s, high ? code - 128 : code, literal, o)) return false;
  if (high) o.modifiers |= HALF;
  return true;
}

static bool take_modifiers(const Row& r, Form form, Fields& f, const Fields& dpp, Modifiers& m, Instruction& out) {
  u32 neg = f.v[NEG], abs = f.v[ABS], sel = f.v[SEL], sel_hi = f.v[SEL_HI];
  if (form == SHORT)
    neg = dpp.v[NEG0] | dpp.v[NEG1] << 1, abs = dpp.v[ABS0] | dpp.v[ABS1] << 1;
  else if (dpp.v[NEG0] | dpp.v[NEG1] | dpp.v[ABS0] | dpp.v[ABS1])
    return false;
  if (r.format == VOP3P) {
    if (~sel_hi & 7 & ~u32(r.sel_hi)) return false;
    sel_hi &= r.sel_hi;
  }
  if ((neg & ~u32(r.neg)) || (abs & ~u32(r.abs)) || (sel & ~u32(r.sel)) || (sel_hi & ~u32(r.sel_hi))) return false;
  if ((f.v[CLAMP] && !r.clamp) || (f.v[OMOD] && !r.omod)) return false;
  m.clamp = f.v[CLAMP], m.omod = f.v[OMOD] & 3;
  for (Field x : {NEG, ABS, SEL, SEL_HI, CLAMP, OMOD}) f.used |= u64(1) << x;
  for (int i = 0; i < r.shown; i++) {
    Field place = Field(r.spec[i].place);
    if (place == VDST && sel & 8) out.op[i].modifiers |= HALF;
    if (place < SRC0 || place > SRC2) continue;
    int bit = place - SRC0;
    out.op[i].modifiers |= u8((neg >> bit & 1) * NEGATE | (abs >> bit & 1) * ABSOLUTE | (sel >> bit & 1) * HALF |
                              (sel_hi >> bit & 1) * HALF_HI);
  }
  return true;
}

static u32 word_at(std::span<const u8> bytes, size_t at) {
  return u32(bytes[at]) | u32(bytes[at + 1]) << 8 | u32(bytes[at + 2]) << 16 | u32(bytes[at + 3]) << 24;
}

static bool known_dpp_control(u32 control) {
#define DPP_CONTROL(first, last, ...) \
  if (control >= first && control <= last) return true;
#include "compiler/isa/rdna_kind.def"
  return control < 256;
}

static size_t decode_as(const Row& r, Form form, Generation g, const Layout& l, u64 word, std::span<const u8> bytes,
                        Instruction& out) {
  Fields f = unpack(l, word), dpp;
  size_t length = l.bits / 8;
  out = {};
  out.row = &r;
  Modifiers m;
  m.encoding = r.format != VOP1 && r.format != VOP2 && r.format != VOPC ? 0
               : form == LONG                                           ? Modifiers::E64
                                                                        : Modifiers::BASE;
  f.used |= u64(1) << OP | u64(1) << OPY;
  auto next = [&](u32& w) {
    if (bytes.size() < length + 4) return false;
    w = word_at(bytes, length);
    length += 4;
    return true;
  };
  if (is_valu(r) && l.width(SRC0) == 9 && (f.v[SRC0] == 250 || f.v[SRC0] == 233 || f.v[SRC0] == 234)) {
    u32 w;
    if (!(r.encodings & (form == SHORT ? HAS_DPP : HAS_E64_DPP)) || !next(w)) return 0;
    m.dpp_kind = f.v[SRC0] == 250 ? 1 : 2;
    const Layout& d = layouts[m.dpp_kind == 1 ? LAYOUT_DPP16 : LAYOUT_DPP8][g];
    if ((w & d.mask) != d.match) return 0;
    dpp = unpack(d, w);
    m.dpp = dpp.v[DPP];
    m.fetch_inactive = m.dpp_kind == 1 ? dpp.v[FI] : f.v[SRC0] == 234;
    if (m.dpp_kind == 1 && !known_dpp_control(dpp.v[DPP] & 511)) return 0;
    f.v[SRC0] = 256 + dpp.v[SRC0];
    if (r.format == VOP3P && f.v[SRC1] < 256) return 0;
  }
  for (int i = 0; i < r.shown && !f.has_literal; i++) {
    Field place = Field(r.spec[i].place);
    bool literal = place == LIT || (place >= SRC0 && place <= SRC2 && !r.kind[i] && f.v[place] == 255 &&
                                    r.spec[i].imm_bits && (l.width(place) == 9 || !is_valu(r)));
    if (literal && (f.has_literal = true, !next(f.literal))) return 0;
  }
  if (f.has_literal && m.dpp_kind) return 0;
  for (int i = 0; i < r.shown; i++)
    if (!take_operand(r, i, l, f, Field(r.spec[i].place), out.op[i])) return 0;
  out.n = r.shown;
  if (is_valu(r) && !take_modifiers(r, form, f, dpp, m, out)) return 0;
  if (f.v[GDS] ? !r.gds : r.gds == 2) return 0;
  m.glc = f.v[GLC], m.slc = f.v[SLC], m.dlc = f.v[DLC], m.gds = f.v[GDS];
  if (r.returns && !m.glc) return 0;
  if (r.cls == CLASS_atomic && !r.returns && m.glc) return 0;
  if (r.format != SMEM || r.effects)  // loads
    for (Field x : {GLC, SLC, DLC, GDS}) f.used |= u64(1) << x;
  auto only = [&](Field x, u32 value) { return f.v[x] == value && (f.used |= u64(1) << x); };
  if (r.format == FLAT && !only(SADDR, NULL_REGISTER)) return 0;
  if (r.format == VOPC && form == LONG && r.spec[0].place != VDST && !only(VDST, EXEC_LO)) return 0;  // v_cmpx
  for (int i = 1; i < FIELDS; i++)
    if (f.v[i] && !(f.used >> i & 1)) return 0;
  out.modifiers = m.bits();
  return length;
}

static size_t decode_pair(Generation g, u64 word, std::span<const u8> bytes, Instruction& out) {
  Fields f = unpack(layouts[LAYOUT_VOPD][g], word);
  auto row = [&](u32 op) -> const Row* {
    auto at = index().words.find(Index::key(g, LAYOUT_VOPD, op));
    return at == index().words.end() ? nullptr : &row_at(at->second[0]);
  };
  const Row *x = row(f.v[OP]), *y = row(f.v[OPY]);
  if (!x || !y) return 0;
  out = {};
  out.row = x, out.second = y;
  size_t length = 8;
  auto wants_literal = [&](const Row& r, u32 src0) {
    return src0 == 255 || r.spec[r.shown - 1].place == LIT || r.spec[2].place == LIT;
  };
  if (wants_literal(*x, f.v[SRC0]) || wants_literal(*y, f.v[SRC0Y])) {
    if (bytes.size() < 12) return 0;
    f.has_literal = true, f.literal = word_at(bytes, 8), length = 12;
  }
  for (auto [r, src1] : {std::pair{x, f.v[SRC1]}, {y, f.v[SRC1Y]}})
    if (src1 && r->spec[r->shown - 1].place != SRC1 && r->spec[2].place != SRC1) return 0;
  const Layout& l = layouts[LAYOUT_VOPD][g];
  u32 vdsty = f.v[VDSTY] << 1 | (~f.v[VDST] & 1);
  for (int i = 0; i < x->shown; i++)
    if (!take_operand(*x, i, l, f, Field(x->spec[i].place), out.op[out.n++])) return 0;
  f.v[VDST] = vdsty, f.v[SRC0] = f.v[SRC0Y], f.v[SRC1] = f.v[SRC1Y];
  for (int i = 0; i < y->shown; i++)
    if (!take_operand(*y, i, l, f, Field(y->spec[i].place), out.op[out.n++])) return 0;
  return length;
}

static size_t decode(Generation g, std::span<const u8> bytes, Instruction& out) {
  if (bytes.size() < 4) return 0;
  u64 word = word_at(bytes, 0);
  if (bytes.size() >= 8) word |= u64(word_at(bytes, 4)) << 32;
  for (int name = 0; name < LAYOUT_DPP16; name++) {
    const Layout& l = layouts[name][g];
    if (!l.bits || (word & l.mask) != l.match || bytes.size() * 8 < l.bits) continue;
    u64 w = l.bits == 32 ? word & 0xffffffff : word;
    if (name == LAYOUT_VOPD) return decode_pair(g, w, bytes, out);
    auto at = index().words.find(Index::key(g, LayoutName(name), unpack(l, w).v[OP]));
    if (at == index().words.end()) continue;
    Form form = name == LAYOUT_VOP3 || name == LAYOUT_VOP3SD || name == LAYOUT_VOP3P ? LONG : SHORT;
    for (u16 i : at->second)
      if (size_t n = decode_as(row_at(i), form, g, l, w, bytes, out)) return n;
    return 0;
  }
  return 0;
}

// ---- pairs --------------------------------------------------------------------------------------------------------
// What an instruction is as half of a pair: row and operands. The half takes VCC for its mask and the result for what
// it adds to.
static bool half_of(const Instruction& in, Instruction& out) {
  auto at = index().half.find(in.row);
  Modifiers m = Modifiers::of(in.modifiers);
  if (at == index().half.end() || m.dpp_kind || m.clamp || m.omod) return false;
  out.row = at->second, out.n = out.row->shown;
  for (int i = 0; i < in.n; i++) {
    if (in.op[i].modifiers & ~LITERAL) return false;
    bool mask = in.row->spec[i].type == Scalar::BOOL;
    if (mask ? in.op[i].reg != VCC_LO : i >= out.n && in.op[i] != in.op[0]) return false;
    if (i < out.n) out.op[i] = in.op[i];
  }
  return true;
}
// Exchanges the sources of a sum or a product; false: they are not interchangeable.
static bool swap_sources(Instruction& half) {
  const Pat::Term* t = half.row->effects == 1 ? effect_of(*half.row)->value.term.data() : nullptr;
  bool commutes = t && t->kind == Pat::Term::NODE && (has(Op(t->v), COMMUTES) || Op(t->v) == Op::FMA);
  if (!commutes || half.op[1].kind != Operand::REG || half.op[1].cls != RegClass::VECTOR) return false;
  for (int k : {1, 2})
    if (t[k].kind != Pat::Term::HOLE || t[k].v != k || half.row->spec[k].place == LIT) return false;
  std::swap(half.op[1], half.op[2]);
  return true;
}
template <Generation g>
static bool pair(const Instruction& first, const Instruction& second, Instruction& out) {
  Instruction half[2];
  if (!half_of(first, half[0]) || !half_of(second, half[1])) return false;
  if ((half[0].op[0].reg ^ half[1].op[0].reg) % 2 == 0) return false;  // whatever else: one even, one odd
  for (int order = 0; order < 4; order++) {
    if (order && !swap_sources(half[order % 2])) continue;
    for (int x : {0, 1}) {
      const Instruction& y = half[!x];
      out = half[x];
      out.second = y.row;
      for (int i = 0; i < y.n; i++) out.op[out.n++] = y.op[i];
      if (pair_objection(g, out).empty()) return true;
    }
  }
  return false;
}

// ---- what an ISA is from outside ----------------------------------------------------------------------------------
static std::vector<const Inst*> rows_named(std::string_view name) {
  std::vector<const Inst*> rows;
  for (u16 i : rows_called(name)) rows.push_back(&row_at(i));
  return rows;
}
static const Inst* find_row(std::string_view name, std::span<const Operand> operands, u64 features) {
  for (u16 i : rows_called(name)) {
    const Row& r = row_at(i);
    if ((r.features & ~features) || r.shown != operands.size()) continue;
    bool fits = true;
    for (int k = 0; k < r.shown; k++) {
      const OperandSpec& s = r.spec[k];
      const Operand& o = operands[size_t(k)];
      fits &= o.kind == Operand::IMM
                  ? s.imm_bits != 0
                  : o.kind == Operand::REG && (o.cls == s.cls || o.cls == s.also) && o.bits == s.bits;
    }
    if (fits) return &r;
  }
  return nullptr;
}
static constexpr Waits waits{queues, hazards, delays, hints};
template <Generation g>
static Isa isa_for(std::string_view arch, std::string_view doc) {
  Isa isa;
  isa.name = "rdna", isa.doc = doc, isa.rows = tables.rows();
  isa.row = [](size_t i) -> const Inst& { return row_at(i); };
  isa.encode = [](const Instruction& in, Bytes& out) { return rdna::encode(g, in, out); };
  isa.decode = [](std::span<const u8> bytes, Instruction& out) { return decode(g, bytes, out); };
  isa.print = rdna::print;
  isa.parse = [](std::string_view line, Instruction& out, std::string& error) {
    return rdna::parse(g, line, out, error);
  };
  isa.rows_named = rows_named, isa.find_row = find_row;
  isa.arch = arch, isa.unit = 4, isa.waits = &waits, isa.lane_mask = EXEC_LO, isa.pair = pair<g>;
  return isa;
}
Isa rdna_gfx1100() { return isa_for<GFX11>("gfx1100", "AMD RDNA3 (gfx1100), wave32"); }

}  // namespace ingot::isa
