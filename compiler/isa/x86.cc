// SPDX-License-Identifier: MIT
// x86-64: bytes from rows and rows from bytes. The tables are x86*.def, their notation is in x86.h; what stands here is
// what no row can say: prefixes, ModRM and SIB, the three payload formats (REX, VEX, EVEX), register names, Intel
// syntax.
//
// encode() carries out exactly the row it is given; parse() tries every row of that name and keeps the one that an
// assembler would: no EVEX where VEX will do, then the fewest bytes, then the first in the table. decode() does the
// reverse, and reads APX too, which encode() does not write. The forms are constants in the read-only image; only the
// two indexes (by opcode, by name) are built, on first use. Facts: Intel SDM volume 2, AMD APM volumes 3 to 6, the APX
// specification; choices among equals, prefixes that mean nothing, and texts as in LLVM 19.
#include "compiler/isa/x86.h"

#include <cpuid.h>
#include <algorithm>

namespace ingot::isa {

using namespace x86;
using Bytes = std::vector<u8>;

// ---- tables -------------------------------------------------------------------------------------------------------
extern const TableView<Form> x86_integer, x86_float, x86_vector, x86_fp16, x86_sse, x86_other, x86_apx;
static const TableView<Form>* const table_list[] = {&x86_integer, &x86_float, &x86_vector, &x86_fp16,
                                                    &x86_sse,     &x86_other, &x86_apx};
static constexpr Tables<Form> tables{table_list};
static const Form& form_at(size_t i) { return tables.row(i); }
static const Inst& row_at(size_t i) { return form_at(i); }
std::span<const Effect> x86_effects(const Inst& r) { return tables.effects(r); }

// ---- names --------------------------------------------------------------------------------------------------------
enum Prefixes : u16 { LOCK = 1, REP = 2, REPNE = 4, ADDR32 = 8 };  // Instruction::prefixes
constexpr std::string_view segment_names[] = {"es", "cs", "ss", "ds", "fs", "gs"};
constexpr std::string_view rounding_names[] = {"", "{rn-sae}", "{rd-sae}", "{ru-sae}", "{rz-sae}", "{sae}"};
// clang-format off
struct RegisterFile {
  RegClass cls;
  u16 bits;
  std::string_view stem;
  u32 limit;
};
static constexpr RegisterFile register_files[] = {
    {RegClass::VECTOR, 128, "xmm", 32}, {RegClass::VECTOR, 256, "ymm", 32}, {RegClass::VECTOR, 512, "zmm", 32},
    {RegClass::TILE, 64, "tmm", 8}, {RegClass::MMX, 64, "mm", 8}, {RegClass::CONTROL, 64, "cr", 16},
    {RegClass::DEBUG, 64, "dr", 16}, {RegClass::PREDICATE, 64, "k", 8},
};
struct OldRegister {  // with a name of its own
  std::string_view name;
  u16 bits;
  u32 number;
};
static constexpr OldRegister old_registers[] = {
    {"rax", 64, 0}, {"rcx", 64, 1}, {"rdx", 64, 2}, {"rbx", 64, 3}, {"rsp", 64, 4}, {"rbp", 64, 5}, {"rsi", 64, 6}, {"rdi", 64, 7},
    {"eax", 32, 0}, {"ecx", 32, 1}, {"edx", 32, 2}, {"ebx", 32, 3}, {"esp", 32, 4}, {"ebp", 32, 5}, {"esi", 32, 6}, {"edi", 32, 7},
    {"ax", 16, 0}, {"cx", 16, 1}, {"dx", 16, 2}, {"bx", 16, 3}, {"sp", 16, 4}, {"bp", 16, 5}, {"si", 16, 6}, {"di", 16, 7},
    {"al", 8, 0}, {"cl", 8, 1}, {"dl", 8, 2}, {"bl", 8, 3}, {"spl", 8, 4}, {"bpl", 8, 5}, {"sil", 8, 6}, {"dil", 8, 7},
    {"ah", 8, high_byte + 4}, {"ch", 8, high_byte + 5}, {"dh", 8, high_byte + 6}, {"bh", 8, high_byte + 7},
};
struct SizeName {
  std::string_view name;
  u16 bits;
};
static constexpr SizeName size_names[] = {
    {"byte", 8}, {"word", 16}, {"dword", 32}, {"fword", 48}, {"qword", 64}, {"tbyte", 80}, {"xword", 80}, {"xmmword", 128},
    {"ymmword", 256}, {"zmmword", 512},
};
// clang-format on

static std::string register_name(RegClass cls, int bits, u32 n) {
  if (n >= first_virtual) return str("%", n - first_virtual);  // only before registers are allocated
  for (const RegisterFile& f : register_files)
    if (f.cls == cls && (cls != RegClass::VECTOR || f.bits == bits)) return str(f.stem, n);
  for (const OldRegister& r : old_registers)
    if (cls == RegClass::SCALAR && r.bits == bits && r.number == n) return std::string(r.name);
  switch (cls) {
    case RegClass::SCALAR: return str("r", n, bits == 64 ? "" : bits == 32 ? "d" : bits == 16 ? "w" : "b");
    case RegClass::X87: return str("st(", n, ")");
    case RegClass::SEGMENT: return std::string(segment_names[n]);
    case RegClass::POINTER: return "rip";
    default: return "?";
  }
}
static std::string size_name(int bits) {
  for (const SizeName& s : size_names)
    if (s.bits == bits) return str(s.name, " ptr ");
  return "";
}

// ---- does an operand fit? -----------------------------------------------------------------------------------------
static bool extended_registers(const Form& r) { return r.scheme == EVEX; }
static bool moves_tile(const Form& r) {  // its memory takes a SIB byte always
  return r.spec[0].cls == RegClass::TILE || (r.shown > 1 && r.spec[1].cls == RegClass::TILE);
}
static bool fits_immediate(const OperandSpec& s, i64 v) {
  if (s.fixed >= 0) return v == s.fixed;
  if (s.imm_bits >= 64) return true;
  i64 half = i64(1) << (s.imm_bits - 1);
  if (v >= -half && v < half) return true;
  if (s.pc_relative) return false;
  if (s.imm_unsigned && s.bits != 64) return v >= 0 && v < half * 2;
  if (s.imm_unsigned && s.imm_bits < 32) return v >= 0 && v < half * 2;
  // sign-extended to the operation's width: the same value, written unsigned
  return s.bits && s.bits < 64 && v >= (i64(1) << s.bits) - half && v < i64(1) << s.bits;
}
static bool fits(const Form& r, const OperandSpec& s, const Operand& o, bool allow_virtual) {
  switch (o.kind) {
    case Operand::REG: {
      if (s.cls == RegClass::NONE || s.cls != o.cls || s.imm_bits) return false;
      if (s.cls != RegClass::PREDICATE && s.cls != RegClass::TILE && s.bits != o.bits) return false;
      if (s.fixed >= 0) return o.reg == u32(s.fixed);
      if (o.reg >= first_virtual) return allow_virtual;
      switch (s.cls) {
        case RegClass::VECTOR: return o.reg < (extended_registers(r) ? 32 : 16);
        case RegClass::SCALAR:
          return o.reg < 16 || (s.bits == 8 && r.scheme == LEGACY && o.reg >= high_byte + 4 && o.reg < high_byte + 8);
        case RegClass::SEGMENT: return o.reg < 6;
        case RegClass::CONTROL:
        case RegClass::DEBUG: return o.reg < 16;
        default: return o.reg < 8 && !(s.pair && o.reg & 1);
      }
    }
    case Operand::MEM: {
      if (!s.mem_bits || s.vector_index != o.vector_index) return false;
      if (o.imm != i32(o.imm) && s.place != ABSOLUTE) return false;
      if (o.broadcast) {
        if (!s.broadcast_bits || (o.bits && o.bits != s.broadcast_bits) || o.broadcast * s.broadcast_bits != s.mem_bits)
          return false;
      } else if (o.bits && s.mem_bits != opaque_bits && o.bits != s.mem_bits) {
        return false;
      }
      if (s.place == NOWHERE) return o.reg == u32(s.fixed) && o.index == no_register && !o.imm && o.address_bits;
      if (s.place == ABSOLUTE)
        return o.reg == no_register && o.index == no_register && o.address_bits == (r.flags & ADDRESS32 ? 32 : 64);
      if (r.flags & ADDRESS32 && o.address_bits != 32) return false;
      if (!allow_virtual && ((o.reg != no_register && o.reg >= 16) || (o.index != no_register && o.index >= 32)))
        return false;
      if (o.scale != 1 && o.scale != 2 && o.scale != 4 && o.scale != 8) return false;
      if (o.vector_index)
        return o.index != no_register && o.index_bits == s.bits &&
               (o.index < (extended_registers(r) ? 32u : 16u) || (allow_virtual && o.index >= first_virtual));
      if (o.cls == RegClass::POINTER) return o.index == no_register && !moves_tile(r);
      return o.index == no_register || o.index < 16 || o.index >= first_virtual;  // index 4 is none: riz in the text
    }
    case Operand::IMM: {
      if (!s.imm_bits) return false;
      bool byte_operation = s.imm_bits == 8 && (r.spec[0].bits == 8 || r.spec[0].mem_bits == 8) && !s.pc_relative;
      if (s.fixed < 0 && (byte_operation || (s.imm_bits == 16 && !s.pc_relative)) && o.imm >= 0 &&
          o.imm >> s.imm_bits == 0)
        return true;
      return fits_immediate(s, o.imm);
    }
    default: return false;
  }
}
static bool fits(const Form& r, std::span<const Operand> operands, bool allow_virtual) {
  if (operands.size() != r.shown) return false;
  for (size_t i = 0; i < operands.size(); i++)
    if (!fits(r, r.spec[i], operands[i], allow_virtual)) return false;
  return true;
}

// ---- bytes from a row ---------------------------------------------------------------------------------------------
static void put(Bytes& out, i64 value, int bytes) {
  for (int i = 0; i < bytes; i++) out.push_back(u8(u64(value) >> (8 * i)));
}
constexpr u8 prefix_byte[] = {0, 0x66, 0xF3, 0xF2};
constexpr u8 segment_byte[] = {0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65};

static void put_memory(Bytes& out, const Operand& m, int reg_field, int disp8_bytes, bool sib) {
  i64 d = m.imm;
  bool pc = m.cls == RegClass::POINTER, base = m.reg != no_register && !pc, index = m.index != no_register;
  auto modrm = [&](int mod, int rm) { out.push_back(u8(mod << 6 | (reg_field & 7) << 3 | rm)); };
  int scale = m.scale == 8 ? 3 : m.scale == 4 ? 2 : m.scale == 2 ? 1 : 0;
  if (pc) {
    modrm(0, 5);
    put(out, d, 4);
  } else if (!base) {
    modrm(0, 4);
    out.push_back(u8(scale << 6 | (index ? m.index & 7 : 4) << 3 | 5));
    put(out, d, 4);
  } else {
    bool small = d % disp8_bytes == 0 && d / disp8_bytes >= -128 && d / disp8_bytes <= 127;
    int mod = d == 0 && (m.reg & 7) != 5 ? 0 : small ? 1 : 2;
    if (sib || index || (m.reg & 7) == 4) {
      modrm(mod, 4);
      out.push_back(u8(scale << 6 | (index ? m.index & 7 : 4) << 3 | (m.reg & 7)));
    } else {
      modrm(mod, int(m.reg & 7));
    }
    put(out, mod == 1 ? d / disp8_bytes : d, mod == 1 ? 1 : mod == 2 ? 4 : 0);
  }
}

static bool encode(const Instruction& in, Bytes& out) {
  const Form& r = static_cast<const Form&>(*in.row);
  if (!fits(r, std::span(in.op, in.n), false)) return false;
  if (in.predicate != no_register && (!(r.flags & MASK) || in.predicate > 7 || (in.predicate == 0 && !in.zeroing)))
    return false;
  if (in.zeroing && (!(r.flags & ZERO) || in.predicate == no_register)) return false;
  if (in.rounding && !(r.flags & (in.rounding == 5 ? SAE : ROUND))) return false;
  u32 reg_field = r.modrm_kind == SLASH_DIGIT ? r.modrm : 0, vvvv = 0, opcode_reg = 0, is4 = 0;
  const Operand *rm = nullptr, *memory = nullptr;
  const OperandSpec* rm_spec = nullptr;
  bool force_rex = false, high = false, string_destination = false;
  for (int i = 0; i < in.n; i++) {
    const Operand& o = in.op[i];
    if (o.kind == Operand::REG && o.cls == RegClass::SCALAR && o.bits == 8 && r.spec[i].fixed < 0)
      (o.reg >= high_byte ? high : force_rex) |= o.reg >= 4;
    if (o.kind == Operand::MEM) {
      memory = &o;
      string_destination = r.spec[i].place == NOWHERE && r.spec[i].fixed == 7;  // always es:[rdi]
    }
    u32 n = o.reg >= high_byte ? o.reg - high_byte : o.reg;
    switch (r.spec[i].place) {
      case MODRM_REG: reg_field = n; break;
      case MODRM_RM: rm = &o, rm_spec = &r.spec[i]; break;
      case VVVV: vvvv = n; break;
      case OPCODE: opcode_reg = n; break;
      case IS4: is4 = n; break;
      default: break;
    }
  }
  if (r.flags & (NEEDS_REX2 | NO_FLAGS) || r.map == 4) return false;  // APX is decoded only
  if (r.map == 0 && r.opcode == 0x90 && r.size == O32 && r.specs && !opcode_reg)
    return false;  // nop would not clear the upper half
  u32 rm_reg = rm && rm->kind == Operand::REG ? (rm->reg >= high_byte ? rm->reg - high_byte : rm->reg) : 0;
  bool is_memory = rm && rm->kind == Operand::MEM;
  u32 base = is_memory && rm->reg != no_register && rm->cls != RegClass::POINTER ? rm->reg : 0;
  u32 index = is_memory && rm->index != no_register ? rm->index : 0;
  if (is_memory && in.rounding) return false;
  bool R = reg_field >> 3 & 1, X = index >> 3 & 1,
       B = (is_memory                  ? base
            : r.modrm_kind == NO_MODRM ? opcode_reg
                                       : rm_reg) >>
               3 &
           1;

  size_t start = out.size();
  if (in.prefixes & LOCK) out.push_back(0xF0);
  if (in.prefixes & REP) out.push_back(0xF3);
  if (in.prefixes & REPNE) out.push_back(0xF2);
  if (in.prefixes & ADDR32) out.push_back(0x67);
  if (r.flags & ADDRESS32) out.push_back(0x67);
  if (r.flags & AFTER_REX) out.push_back(0x40);
  if (memory && memory->segment && !string_destination) out.push_back(segment_byte[memory->segment - 1]);
  if (memory && memory->address_bits == 32 && !(r.flags & ADDRESS32)) out.push_back(0x67);
  switch (r.scheme) {
    case LEGACY:
    case NOW3D: {
      if (r.size == O16 || r.size == D16) out.push_back(0x66);
      if (r.prefix != 255 && r.prefix) out.push_back(prefix_byte[r.prefix]);
      u8 rex = u8((r.size == O64) << 3 | R << 2 | X << 1 | B);
      if (rex || force_rex) {
        if (high) return out.resize(start), false;
        out.push_back(0x40 | rex);
      }
      if (r.map) out.push_back(0x0F);
      if (r.map == 2) out.push_back(0x38);
      if (r.map == 3) out.push_back(0x3A);
      break;
    }
    case VEX:
    case XOP: {
      int l = r.length == 255 ? 0 : r.length, w = r.w == 255 ? 0 : r.w;
      if (r.scheme == VEX && !X && !B && !w && r.map == 1) {
        put(out, 0xC5, 1);
        out.push_back(u8(!R << 7 | (~vvvv & 15) << 3 | u32(l) << 2 | r.prefix));
      } else {
        put(out, r.scheme == XOP ? 0x8F : 0xC4, 1);
        out.push_back(u8(!R << 7 | !X << 6 | !B << 5 | r.map));
        out.push_back(u8(u32(w) << 7 | (~vvvv & 15) << 3 | u32(l) << 2 | r.prefix));
      }
      break;
    }
    case EVEX: {
      bool R4 = reg_field >> 4 & 1, V4 = (is_memory && rm->vector_index ? index : vvvv) >> 4 & 1;
      if (!is_memory) X = rm_reg >> 4 & 1;
      bool b = in.rounding || (is_memory && rm->broadcast);
      int l = in.rounding == 5  ? 0
              : in.rounding     ? in.rounding - 1
              : r.length == 255 ? 0
                                : r.length,
          w = r.w == 255 ? 0 : r.w;
      put(out, 0x62, 1);
      out.push_back(u8(!R << 7 | !X << 6 | !B << 5 | !R4 << 4 | r.map));
      out.push_back(u8(u32(w) << 7 | (~vvvv & 15) << 3 | 1 << 2 | r.prefix));
      out.push_back(u8(u32(in.zeroing) << 7 | u32(l) << 5 | u32(b) << 4 | u32(!V4) << 3 |
                       (in.predicate == no_register ? 0 : in.predicate)));
      break;
    }
  }
  if (r.scheme == NOW3D)
    put(out, 0x0F, 1);
  else
    out.push_back(u8(r.opcode | (opcode_reg & 7)));
  int disp8_bytes = r.scheme != EVEX ? 1 : is_memory && rm->broadcast ? rm_spec->broadcast_bits / 8 : r.disp8_bytes;
  if (r.modrm_kind == FIXED_MODRM)
    out.push_back(r.modrm);
  else if (r.modrm_kind == MODRM_PLUS)
    out.push_back(u8(r.modrm | (rm_reg & 7)));
  else if (is_memory)
    put_memory(out, *rm, int(reg_field), disp8_bytes, moves_tile(r));
  else if (r.modrm_kind != NO_MODRM)
    out.push_back(u8(0xC0 | (reg_field & 7) << 3 | (rm_reg & 7)));
  if (r.scheme == NOW3D) out.push_back(r.opcode);
  bool has_is4 = false;
  for (int i = 0; i < r.specs; i++) {
    const OperandSpec& s = r.spec[i];
    if (s.place == IS4) has_is4 = true;
    if (s.place == ABSOLUTE) put(out, in.op[i].imm, r.flags & ADDRESS32 ? 4 : 8);
    if (s.place == IMMEDIATE && !has_is4) put(out, s.implicit ? s.fixed : in.op[i].imm, s.imm_bits / 8);
  }
  if (has_is4) {
    u8 low = 0;
    for (int i = 0; i < r.shown; i++)
      if (r.spec[i].imm_bits == 4) low = u8(in.op[i].imm & 15);
    out.push_back(u8(is4 << 4 | low));
  }
  return true;
}

// ---- a row from bytes ---------------------------------------------------------------------------------------------
// Left to right, once: prefixes; the payload of the format and the opcode; of the opcode's forms the best; then what
// its operands ask for.
struct Index {  // forms by scheme, map and opcode
  std::vector<u32> begin;
  std::vector<u16> form;
  static size_t key(int scheme, int map, int opcode) { return size_t(scheme << 12 | map << 8 | opcode); }
  Index() : begin((5 << 12) + 1) {
    auto each = [](auto f) {
      for (size_t i = 0; i < tables.rows(); i++) {
        const Form& r = form_at(i);
        if (r.flags & ASM_ONLY) continue;
        bool in_opcode = false;
        for (const OperandSpec& s : operands_of(r)) in_opcode |= s.place == OPCODE;
        for (int k = 0; k < (in_opcode ? 8 : 1); k++) f(key(r.scheme, r.map, r.opcode + k), u16(i));
      }
    };
    each([&](size_t k, u16) { begin[k + 1]++; });
    for (size_t k = 1; k < begin.size(); k++) begin[k] += begin[k - 1];
    form.resize(begin.back());
    std::vector<u32> next = begin;
    each([&](size_t k, u16 i) { form[next[k]++] = i; });
  }
};

struct Cursor {
  std::span<const u8> bytes;
  size_t at = 0;
  bool truncated = false;
  u8 peek(size_t ahead = 0) {
    if (at + ahead >= bytes.size()) return truncated = true, u8(0);
    return bytes[at + ahead];
  }
  u8 next() {
    u8 b = peek();
    return at++, b;
  }
  i64 read(int n) {  // sign-extended
    u64 v = 0;
    for (int i = 0; i < n; i++) v |= u64(next()) << (8 * i);
    return n && n < 8 ? i64(v << (64 - 8 * n)) >> (64 - 8 * n) : i64(v);
  }
  size_t after_address() {  // distance to what follows ModRM, SIB and displacement
    int rm = peek() & 7, mod = peek() >> 6;
    if (mod == 3) return 1;
    bool sib = rm == 4, no_base = rm == 5 || (sib && (peek(1) & 7) == 5);
    return size_t(1 + sib + (mod == 1 ? 1 : mod == 2 || no_base ? 4 : 0));
  }
};

struct Head {  // everything in front of the operands
  Scheme scheme = LEGACY;
  int map = 0, opcode = 0, length = 0;
  int prefix = 0;  // VEX, XOP, EVEX: as Form::prefix
  u8 modrm = 0;
  bool has_modrm = false, memory = false;  // there is a byte that could be ModRM; if it is, it means memory
  // Prefix bytes: whether they are there and, for 66 F2 F3 (1 3 2 as in Form::prefix), what they do. `mandatory` is the
  // one in front of the escape byte, `repeat` and `data66` are what rows of that prefix compare with.
  bool data16 = false, address32 = false, lock = false, rex = false, rex2 = false, data66 = false;
  int rep = 0, mandatory = 0, repeat = 0, segment = 0;
  // Bits of REX, REX2, VEX and EVEX, upright.
  bool W = false, R = false, X = false, B = false, R4 = false, X4 = false, B4 = false, V4 = false;
  bool b = false, z = false;
  u32 vvvv = 0, aaa = 0;
};

// Which of 66 F2 F3 is mandatory follows LLVM: the last F2 or F3 right before 66, REX or 0F; else a 66 right before REX
// or 0F.
static void read_prefixes(Cursor& c, Head& h) {
  for (; c.at < c.bytes.size(); c.at++) {
    u8 byte = c.peek(), follower = c.peek(1);
    bool escape = follower == 0x0F || ((follower & 0xF0) == 0x40 && c.peek(2) == 0x0F);
    switch (byte) {
      case 0x66:
        h.data16 = true;
        if (!h.mandatory && escape) h.mandatory = 1;
        break;
      case 0x67: h.address32 = true; break;
      case 0xF0:
        if (c.at == 0) return;  // alone
        h.lock = true;
        break;
      case 0xF2:
      case 0xF3:
        if (follower == 0xF0 || (follower & 0xFE) == 0x86 ||
            ((follower & 0xF8) == 0x90 && !(byte == 0xF3 && follower == 0x90)) ||
            (byte == 0xF3 && (follower == 0x88 || follower == 0x89 || follower == 0xC6 || follower == 0xC7)))
          return;  // xacquire, xrelease
        h.rep = byte == 0xF2 ? 3 : 2;
        if (escape || follower == 0x66 || follower == 0xD5) h.mandatory = h.rep;
        break;
      default: {
        auto segment = std::ranges::find(segment_byte, byte);
        if (segment == std::end(segment_byte)) return;
        h.segment = int(segment - segment_byte) + 1;
      }
    }
  }
}

static bool read_opcode(Cursor& c, Head& h) {
  u8 rex = (c.peek() & 0xF0) == 0x40 ? c.next() : u8(0), first = c.next();
  auto rxb = [&](u8 q) { h.R = !(q >> 7), h.X = !(q >> 6 & 1), h.B = !(q >> 5 & 1); };
  auto wvvvvpp = [&](u8 q) { h.W = q >> 7, h.vvvv = ~u32(q >> 3) & 15, h.prefix = q & 3; };
  if (first == 0xC5) {
    u8 q = c.next();
    h.scheme = VEX, h.map = 1, h.length = q >> 2 & 1;
    wvvvvpp(q & 0x7F);
    h.R = !(q >> 7);
  } else if (first == 0xC4 || (first == 0x8F && (c.peek() & 31) >= 8)) {
    u8 q = c.next(), s = c.next();
    h.scheme = first == 0xC4 ? VEX : XOP, h.map = q & 31, h.length = s >> 2 & 1;
    rxb(q), wvvvvpp(s);
  } else if (first == 0x62) {
    u8 q = c.next(), s = c.next(), t = c.next();
    h.scheme = EVEX, h.map = q & 7;
    rxb(q), wvvvvpp(s);
    h.R4 = !(q >> 4 & 1), h.B4 = q >> 3 & 1, h.X4 = !(s >> 2 & 1), h.V4 = !(t >> 3 & 1);
    h.z = t >> 7, h.length = t >> 5 & 3, h.b = t >> 4 & 1, h.aaa = t & 7;
  } else if (first == 0xD5) {
    u8 q = c.next();
    if (rex) return false;
    h.rex = h.rex2 = true, h.map = q >> 7;
    h.W = q >> 3 & 1, h.R = q >> 2 & 1, h.X = q >> 1 & 1, h.B = q & 1;
    h.R4 = q >> 6 & 1, h.X4 = q >> 5 & 1, h.B4 = q >> 4 & 1;
  } else {
    h.rex = rex, h.W = rex >> 3 & 1, h.R = rex >> 2 & 1, h.X = rex >> 1 & 1, h.B = rex & 1;
  }
  if (rex && h.scheme != LEGACY) return false;
  h.opcode = h.scheme == LEGACY && !h.rex2 ? first : c.next();
  if (h.opcode == 0x0F && h.scheme == LEGACY && !h.rex2) {
    h.map = 1, h.opcode = c.next();
    if (h.opcode == 0x0F)
      h.scheme = NOW3D, h.opcode = c.peek(c.after_address());
    else if (h.opcode == 0x38 || h.opcode == 0x3A)
      h.map = h.opcode == 0x38 ? 2 : 3, h.opcode = c.next();
  }
  if (c.truncated || h.map > 10) return false;
  h.has_modrm = c.at < c.bytes.size();
  if (h.has_modrm) h.modrm = c.bytes[c.at], h.memory = h.modrm < 0xC0;

  bool legacy = h.scheme == LEGACY, pause = h.opcode == 0x90 && h.rep == 2;
  if (legacy && h.map == 0) h.mandatory = 0;
  h.repeat = h.mandatory == 1 ? 0 : h.mandatory ? h.mandatory : h.map || pause ? h.rep : 0;
  bool anywhere = legacy && ((h.map == 1 && h.opcode == 0xAE) || (h.map == 2 && h.opcode == 0xF8));  // 66 counts there
  h.data66 = h.mandatory == 1 || ((!h.mandatory || anywhere) && h.data16 && !h.W);
  return true;
}

// How well a form fits the bytes: 0 not at all, else larger is better. First what all formats share.
static bool fits_modrm(const Form& r, const Head& h) {
  if (r.modrm_kind == NO_MODRM) return true;
  if (!h.has_modrm) return false;
  if (r.modrm_kind == FIXED_MODRM) return h.modrm == r.modrm;
  if (r.modrm_kind == MODRM_PLUS) return (h.modrm & 0xF8) == r.modrm;
  if (r.modrm_kind == SLASH_DIGIT && (h.modrm >> 3 & 7) != r.modrm) return false;
  if (moves_tile(r) && h.memory && (h.modrm & 7) != 4) return false;
  for (const OperandSpec& s : operands_of(r))
    if (s.place == MODRM_RM) return h.memory ? s.mem_bits != 0 : s.cls != RegClass::NONE;
  return !h.memory && (r.modrm_kind != SLASH_R || !(h.modrm & 7));  // without an operand, rm is 0
}

static int score_legacy(const Form& r, const Head& h) {
  bool stands_alone = r.map == 0 && !r.specs && (r.opcode == 0xF0 || r.opcode == 0xF2 || r.opcode == 0xF3);
  if (bool(r.flags & AFTER_REX) != h.rex && (r.flags & AFTER_REX || stands_alone)) return 0;
  if ((r.flags & NEEDS_REX2 && !h.rex2) || (r.flags & ADDRESS32 && !h.address32)) return 0;
  if (h.opcode == 0x90 && h.map == 0 && (r.specs != 0) != (h.B || h.B4)) return 0;  // nop, not xchg eax, eax
  int s = 1 + (r.flags & NEEDS_REX2 ? 4 : 0) + (r.flags & ADDRESS32 ? 2 : 0);
  bool data16 = h.data16 && !h.W, both = h.repeat && data16 && h.data66;  // only 16-bit forms of F2 and F3 take both
  switch (r.prefix) {
    case 0:
      if (both) return 0;
      s += h.repeat || h.data66 ? 0 : 4;
      break;
    case 1:
      if (!h.data66 || h.repeat) return 0;
      data16 = false;
      s += 8;
      break;
    case 2:
    case 3:
      if (h.repeat != r.prefix || (both && r.size != O16)) return 0;
      s += 16;
      break;
    default:
      if (both) return 0;
  }
  switch (r.size) {  // a form of another size is a fallback, one of any size comes between
    case O16:
    case D16: return data16 ? s + 2 : 0;
    case O32: return data16 || h.W ? s : s + 2;
    case O64: return h.W ? s + 2 : 0;
    case D64: return data16 ? s : s + 2;
    default: return s + 1;
  }
}

static bool fits_payload(const Form& r, const Head& h) {  // VEX, XOP and EVEX
  if (r.prefix != h.prefix || (r.w != 255 && r.w != h.W) || (r.flags & ADDRESS32 && !h.address32)) return false;
  bool uses_vvvv = false, gathers = false, broadcasts = false;
  for (const OperandSpec& s : operands_of(r))
    uses_vvvv |= s.place == VVVV, gathers |= s.vector_index, broadcasts |= s.broadcast_bits != 0;
  if (!uses_vvvv && (h.vvvv || (h.V4 && !gathers))) return false;
  bool rounds = false;
  if (h.scheme == EVEX) {
    if (h.X4 && (!h.memory || gathers)) return false;  // only a general index has a fifth bit there
    if (gathers && !h.aaa) return false;               // it counts its mask down: k0 will not do
    if (h.z && !(r.flags & ZERO)) return false;
    if (r.flags & CONDITIONAL) {
      if (r.condition != (u32(!h.V4) << 3 | h.aaa)) return false;
    } else if (h.aaa != (r.flags & NO_FLAGS ? 4 : 0) && !(r.flags & MASK)) {
      return false;
    }
    if (h.map == 4) {
      if (h.b != bool(r.flags & NEW_DATA)) return false;
    } else if (h.b) {
      rounds = !h.memory;
      if (rounds ? !(r.flags & (ROUND | SAE)) : !broadcasts) return false;
    }
  }
  return r.length == 255 || rounds || r.length == std::min(h.length, 2);
}

static const Form* find_form(Cursor c, const Head& h) {
  static const Index index;
  const Form* best = nullptr;
  int best_score = 0;
  size_t k = Index::key(h.scheme, h.map, h.opcode);
  for (u32 i = index.begin[k]; i < index.begin[k + 1]; i++) {
    const Form& r = form_at(index.form[i]);
    if (!fits_modrm(r, h)) continue;
    int s = h.scheme == LEGACY ? score_legacy(r, h) : h.scheme == NOW3D ? !(h.repeat && h.data66) : fits_payload(r, h);
    for (const OperandSpec& f : operands_of(r)) {
      if (s && f.place == IMMEDIATE && f.fixed >= 0) {  // a predicate in the name: is it this one? It is the last byte.
        bool same = c.peek(c.after_address()) == f.fixed && !c.truncated;
        s = same ? s + 16 : 0;
      }
    }
    if (s > best_score) best = &r, best_score = s;
  }
  return best;
}

// ModRM has been read. false: not an address of this form.
static bool read_memory(Cursor& c, const Head& h, const Form& r, const OperandSpec& s, Operand& m) {
  int rm = h.modrm & 7, mod = h.modrm >> 6, disp = mod == 1 ? 1 : mod == 2 ? 4 : 0;
  m.kind = Operand::MEM, m.bits = s.mem_bits;
  m.segment = u8(h.segment), m.address_bits = h.address32 ? 32 : 64;
  if (h.b && s.broadcast_bits) m.bits = s.broadcast_bits, m.broadcast = u8(s.mem_bits / s.broadcast_bits);
  if (s.vector_index && rm != 4) return false;
  if (rm == 5 && mod == 0) {
    m.cls = RegClass::POINTER, disp = 4;
  } else {
    u32 base = u32(rm);
    if (rm == 4) {
      u8 sib = c.next();
      base = sib & 7;
      m.scale = u8(1 << (sib >> 6));
      m.index = (sib >> 3 & 7) | u32(h.X) << 3;
      if (s.vector_index)
        m.index |= u32(h.V4) << 4, m.vector_index = true, m.index_bits = s.bits;
      else
        m.index |= u32(h.X4) << 4;
      if (base == 5 && mod == 0) disp = 4, base = no_register;
      // Index 4 is none. LLVM shows it, as riz, where the address could do without a SIB byte or a scale.
      bool sib_is_needed = base == no_register || (base == 4 && !h.B4);
      if (m.index == 4 && !m.vector_index && (moves_tile(r) || (m.scale == 1 && sib_is_needed)))
        m.index = no_register, m.scale = 1;
    }
    if (base != no_register) m.reg = base | u32(h.B) << 3 | u32(h.B4) << 4;
  }
  m.imm = c.read(disp);
  if (disp == 1 && h.scheme == EVEX) m.imm *= m.broadcast ? s.broadcast_bits / 8 : r.disp8_bytes;
  return true;
}

static bool fits_class(const OperandSpec& s, const Head& h, u32& n) {  // a number from the bytes, or not of this class
  switch (s.cls) {
    case RegClass::SCALAR:
      if (s.bits == 8 && n >= 4 && n < 8 && h.scheme == LEGACY && !h.rex) n += high_byte;
      return true;
    case RegClass::PREDICATE:
      if (n > 7) return false;
      if (s.pair) n &= 6;
      return true;
    case RegClass::TILE: return n < 8;
    case RegClass::CONTROL:
    case RegClass::DEBUG: return n < 16;
    case RegClass::SEGMENT: return (n &= 7) < 6;
    case RegClass::MMX:
    case RegClass::X87: n &= 7; return true;
    default: return true;
  }
}

static size_t decode(std::span<const u8> bytes, Instruction& out) {
  Cursor c{bytes.first(std::min<size_t>(bytes.size(), 15))};  // what is longer is no instruction
  Head h;
  read_prefixes(c, h);
  c.truncated = false;
  if (!read_opcode(c, h)) return 0;
  const Form* row = find_form(c, h);
  if (!row) return 0;
  const Form& r = *row;
  out = Instruction{};
  out.row = row, out.n = r.shown;
  if (r.modrm_kind != NO_MODRM) c.at++;
  bool memory = h.memory && (r.modrm_kind == SLASH_R || r.modrm_kind == SLASH_DIGIT);
  if (h.scheme == EVEX) {
    if (r.flags & MASK && (h.aaa || h.z)) out.predicate = h.aaa;
    out.zeroing = h.z;
    if (h.b && !memory && r.flags & (ROUND | SAE)) out.rounding = r.flags & ROUND ? u8(1 + h.length) : 5;
  }
  Operand address;
  for (const OperandSpec& s : operands_of(r))
    if (memory && s.place == MODRM_RM && !read_memory(c, h, r, s, address)) return 0;
  bool addresses = r.flags & ADDRESS32 || address.reg != no_register || address.cls == RegClass::POINTER ||
                   (address.index != no_register && !address.vector_index);  // then 67 shows in a name
  u8 is4 = 0;
  for (int i = 0; i < r.specs; i++) {
    const OperandSpec& s = r.spec[i];
    Operand o;
    u32 n = s.fixed >= 0 ? u32(s.fixed) : 0;
    switch (s.place) {
      case MODRM_REG:
        n = (h.modrm >> 3 & 7) | u32(h.R) << 3;
        if (s.cls != RegClass::PREDICATE || s.pair) n |= u32(h.R4) << 4;
        break;
      case MODRM_RM:
        n = (h.modrm & 7) | u32(h.B) << 3;
        if (s.cls == RegClass::VECTOR && h.scheme == EVEX)
          n |= u32(h.X) << 4;
        else if (s.cls == RegClass::SCALAR || s.cls == RegClass::VECTOR)
          n |= u32(h.B4) << 4;
        break;
      case VVVV: n = h.vvvv | u32(h.V4) << 4; break;
      case OPCODE: n = u32(h.opcode & 7) | u32(h.B) << 3 | u32(h.B4) << 4; break;
      case IS4: is4 = c.next(), n = is4 >> 4; break;
      default: break;
    }
    if (s.imm_bits) {
      o.kind = Operand::IMM;
      o.imm = s.place == VVVV        ? ~h.vvvv & 15
              : s.imm_bits == 4      ? is4 & 15
              : s.place == IMMEDIATE ? c.read(s.imm_bits / 8)
                                     : s.fixed;
      if (s.place == IMMEDIATE && s.imm_unsigned && s.imm_bits < 64 && !(s.imm_bits == 32 && s.bits == 64))
        o.imm &= i64((u64(1) << s.imm_bits) - 1);
    } else if (s.place == ABSOLUTE) {
      bool narrow = r.flags & ADDRESS32;
      o = mem(s.mem_bits, no_register, narrow ? i64(u32(c.read(4))) : c.read(8));
      o.segment = u8(h.segment), o.address_bits = narrow ? 32 : 64;
    } else if (s.place == NOWHERE && s.mem_bits) {
      o = mem(s.mem_bits, u32(s.fixed));
      o.segment = s.fixed == 6 ? u8(h.segment) : 0, o.address_bits = h.address32 ? 32 : 64;
      addresses = true;
    } else if (s.place == MODRM_RM && memory) {
      o = address;
    } else {
      if (s.fixed < 0 && !fits_class(s, h, n)) return 0;
      o = reg(s.cls, s.bits, n);
    }
    if (!s.implicit && i < max_operands) out.op[i] = o;
  }
  if (!h.mandatory) {
    if (h.lock) out.prefixes |= LOCK;
    if (h.rep && !(h.rep == 2 && h.opcode == 0x90)) out.prefixes |= h.rep == 2 ? REP : REPNE;
  }
  if (h.address32 && !addresses) out.prefixes |= ADDR32;
  if (h.scheme == NOW3D) c.at++;
  return c.truncated ? 0 : c.at;
}

// ---- text ---------------------------------------------------------------------------------------------------------
static void print_memory(std::string& out, const OperandSpec& s, const Operand& m) {
  if (s.mem_bits != opaque_bits) out += size_name(m.bits);
  if (s.place == NOWHERE) {
    out += s.fixed == 7 ? "es:[" : m.segment ? str(segment_names[m.segment - 1], ":[") : "[";
    out += register_name(RegClass::SCALAR, m.address_bits, m.reg) + "]";
    return;
  }
  if (m.segment) out += str(segment_names[m.segment - 1], ":");
  out += '[';
  bool any = true;
  if (m.cls == RegClass::POINTER)
    out += m.address_bits == 32 ? "eip" : "rip";
  else if (m.reg != no_register)
    out += register_name(RegClass::SCALAR, m.address_bits, m.reg);
  else
    any = false;
  if (m.index != no_register) {
    if (any) out += " + ";
    if (m.scale != 1 || !any) out += str(m.scale, "*");
    out += m.vector_index ? register_name(RegClass::VECTOR, m.index_bits, m.index)
           : m.index == 4 ? std::string(m.address_bits == 32 ? "eiz" : "riz")
                          : register_name(RegClass::SCALAR, m.address_bits, m.index);
    any = true;
  }
  if (!any)
    append(out, m.imm);
  else if (m.imm > 0)
    out += str(" + ", m.imm);
  else if (m.imm < 0)
    out += str(" - ", u64(-m.imm));
  out += ']';
  if (m.broadcast) out += str("{1to", int(m.broadcast), "}");
}

static std::string flags_text(u32 flags) {  // the default flag values of ccmp and ctest
  std::string out;
  constexpr std::string_view names[] = {"cf", "zf", "sf", "of"};
  for (u32 k = 4; k--;)
    if (flags >> k & 1) out += str(out.empty() ? "" : ",", names[k]);
  return "{dfv=" + out + "}";
}

static std::string print(const Instruction& in) {
  const Form& r = static_cast<const Form&>(*in.row);
  std::string out;
  if (in.prefixes & LOCK) out += "lock ";
  if (in.prefixes & REP) out += "rep ";
  if (in.prefixes & REPNE) out += "repne ";
  if (r.flags & EXPLICIT_VEX) out += "{vex} ";
  if (r.flags & EXPLICIT_EVEX) out += "{evex} ";
  if (r.flags & EXPLICIT_NF) out += "{nf} ";
  if (in.prefixes & ADDR32) out += "addr32 ";
  out += r.name;
  std::string mask;
  if (in.predicate != no_register) mask = str(" {", register_name(RegClass::PREDICATE, 64, in.predicate), "}");
  if (in.zeroing) mask += " {z}";
  if (in.n == 1) out += mask + (mask.empty() ? "" : ",");  // a prefetch has no destination that could carry it
  for (int i = 0; i < in.n; i++) {
    const Operand& o = in.op[i];
    out += !i || (i == 1 && r.flags & CONDITIONAL) ? " " : ", ";
    if (!i && r.flags & CONDITIONAL)
      out += flags_text(u32(o.imm));
    else if (o.kind == Operand::REG)
      out += o.cls == RegClass::X87 && r.spec[i].fixed == 0 ? "st" : register_name(o.cls, o.bits, o.reg);
    else if (o.kind == Operand::MEM)
      print_memory(out, r.spec[i], o);
    else
      append(out, o.imm);
    if (i == 0 && in.n > 1) out += mask;
    auto follows = [&](int k) {  // the rounding comes after the last vector or mask
      return k == in.n || in.op[k].kind == Operand::IMM || in.op[k].cls == RegClass::SCALAR;
    };
    if (in.rounding && follows(i + 1) && !follows(i)) out += str(", ", rounding_names[in.rounding]);
  }
  return out;
}

// ---- a row from text ----------------------------------------------------------------------------------------------
struct Names {  // open addressing: name -> first form of the table with it, then a chain in table order
  std::vector<u16> slot, next;
  static constexpr u16 none = 0xFFFF;
  static size_t hash(std::string_view s) {
    u32 h = 2166136261u;
    for (char c : s) h = (h ^ u8(c)) * 16777619u;
    return h ^ h >> 15;
  }
  Names() : slot(16384, none), next(tables.rows(), none) {
    const size_t n = tables.rows() - x86_apx.n;  // APX is decoded only
    for (size_t i = n, k = 0; i-- > 0;) {        // backwards, so that chains run forwards
      const Form& row = form_at(i);
      if (i + 1 == n || memcmp(row.name, form_at(i + 1).name, sizeof row.name)) k = find(row.name);
      next[i] = slot[k];
      slot[k] = u16(i);
    }
  }
  size_t find(std::string_view name) const {
    for (size_t k = hash(name) & (slot.size() - 1);; k = (k + 1) & (slot.size() - 1))
      if (slot[k] == none || name == form_at(slot[k]).name) return k;
  }
};
static const Names& names() {
  static const Names n;
  return n;
}

static std::vector<const Inst*> rows_named(std::string_view name) {
  std::vector<const Inst*> rows;
  for (u16 i = names().slot[names().find(name)]; i != Names::none; i = names().next[i]) rows.push_back(&form_at(i));
  return rows;
}

static const Inst* find_row(std::string_view name, std::span<const Operand> operands, u64 features) {
  const Form* found = nullptr;
  for (u16 i = names().slot[names().find(name)]; i != Names::none; i = names().next[i]) {
    const Form& r = form_at(i);
    if ((r.features & ~features) || r.flags & DECODE_ONLY || !fits(r, operands, true)) continue;
    if (r.scheme != EVEX) return &r;
    if (!found) found = &r;
  }
  return found;
}

static bool numbered(std::string_view w, std::string_view stem, u32 limit, u32& n) {
  if (!w.starts_with(stem) || w.size() == stem.size()) return false;
  auto [end, error] = std::from_chars(w.data() + stem.size(), w.data() + w.size(), n);
  return error == std::errc() && end == w.data() + w.size() && n < limit;
}
static bool register_from_name(std::string_view w, Operand& o) {
  u32 n;
  for (const OldRegister& r : old_registers)
    if (w == r.name) return o = reg(RegClass::SCALAR, r.bits, r.number), true;
  for (u32 i = 0; i < 6; i++)
    if (w == segment_names[i]) return o = reg(RegClass::SEGMENT, 16, i), true;
  if (w.size() > 1 && w[0] == 'r' && w[1] >= '0' && w[1] <= '9') {
    int bits = w.back() == 'd' ? 32 : w.back() == 'w' ? 16 : w.back() == 'b' ? 8 : 64;
    std::string_view t = bits == 64 ? w : w.substr(0, w.size() - 1);
    return numbered(t, "r", 32, n) && n >= 8 && (o = reg(RegClass::SCALAR, bits, n), true);
  }
  if (w == "riz" || w == "eiz") return o = reg(RegClass::POINTER, w == "riz" ? 64 : 32, 4), true;
  for (const RegisterFile& f : register_files)
    if (numbered(w, f.stem, f.limit, n)) return o = reg(f.cls, f.bits, n), true;
  return false;
}
static bool parse_memory(Text& t, Operand& o) {
  while (!t.take("]")) {
    bool minus = t.take("-");
    if (!minus) t.take("+");
    i64 v;
    if (t.integer(v)) {
      if (t.take("*")) {
        o.scale = u8(v);
        Operand r;
        if (minus || o.index != no_register || !register_from_name(t.word(), r)) return false;
        o.index = r.reg;
        if (r.cls == RegClass::VECTOR)
          o.vector_index = true, o.index_bits = r.bits;
        else if (r.cls != RegClass::SCALAR)
          return false;
        else
          o.address_bits = u8(r.bits);
      } else {
        o.imm += minus ? -v : v;
      }
      continue;
    }
    std::string_view w = t.word();
    Operand r;
    if (minus) return false;
    if (w == "rip" || w == "eip") {
      o.cls = RegClass::POINTER;
      o.address_bits = w == "eip" ? 32 : 64;
      continue;
    }
    if (!register_from_name(w, r)) return false;
    if (r.cls == RegClass::VECTOR) {
      if (o.index != no_register) return false;
      o.index = r.reg, o.vector_index = true, o.index_bits = r.bits;
      continue;
    }
    if ((r.cls != RegClass::SCALAR && r.cls != RegClass::POINTER) || (r.bits != 64 && r.bits != 32)) return false;
    o.address_bits = u8(r.bits);
    if (t.take("*")) {
      if (!t.integer(v) || o.index != no_register) return false;
      o.index = r.reg, o.scale = u8(v);
    } else if (o.reg == no_register && o.cls != RegClass::POINTER) {
      o.reg = r.reg;
    } else if (o.index == no_register) {
      o.index = r.reg;
    } else {
      return false;
    }
  }
  if (o.index == 4 && !o.vector_index && o.scale == 1 && o.reg != no_register)
    std::swap(o.reg, o.index);  // [rax + rsp]
  if (t.take("{1to")) {
    i64 n;
    if (!t.integer(n) || !t.take("}")) return false;
    o.broadcast = u8(n);
  }
  return true;
}
static bool parse_operand(Text& t, Operand& o) {
  i64 v;
  if (t.integer(v)) return o = imm(v), true;
  o = Operand{};
  if (t.take("[")) return o.kind = Operand::MEM, parse_memory(t, o);
  std::string_view w = t.word();
  u16 bits = 0;
  for (auto& s : size_names)
    if (w == s.name) bits = s.bits;
  if (bits) {
    if (!t.take("ptr")) return false;
    if (t.take("[")) {
      o.kind = Operand::MEM, o.bits = bits;
      return parse_memory(t, o);
    }
    w = t.word();
  }
  if (w == "st") {
    i64 n = 0;
    if (t.take("(") && (!t.integer(n) || !t.take(")"))) return false;
    return n >= 0 && n < 8 && (o = reg(RegClass::X87, 80, u32(n)), true);
  }
  for (u32 i = 0; i < 6; i++)
    if (w == segment_names[i] && t.take(":")) {
      if (!t.take("[")) return false;
      o.kind = Operand::MEM, o.bits = bits, o.segment = u8(i + 1);
      return parse_memory(t, o);
    }
  return !bits && register_from_name(w, o);
}

static bool parse(std::string_view line, Instruction& out, std::string& error) {
  std::string lower(line);
  for (char& c : lower)
    if (c >= 'A' && c <= 'Z') c = char(c + 32);
  Text t{lower};
  Instruction in;
  bool want_vex = false, want_evex = false;
  std::string_view name;
  for (;;) {
    bool vex = t.take("{vex}"), evex = t.take("{evex}");
    want_vex |= vex, want_evex |= evex;
    if (vex || evex) continue;
    name = t.word();
    if (name == "lock")
      in.prefixes |= LOCK;
    else if (name == "rep" || name == "repe" || name == "repz")
      in.prefixes |= REP;
    else if (name == "repne" || name == "repnz")
      in.prefixes |= REPNE;
    else
      break;
  }
  auto decorations = [&] {
    while (t.take("{")) {
      u32 k;
      std::string_view w = t.word();
      if (w == "z")
        in.zeroing = true;
      else if (numbered(w, "k", 8, k) && k)
        in.predicate = k;
      else
        return error = str("unknown decoration {", w, "} in \"", line, "\""), false;
      if (!t.take("}")) return error = str("} expected in \"", line, "\""), false;
    }
    return true;
  };
  t.spaces();
  while (!t.s.empty()) {
    bool braces = in.n == 0 && t.s.starts_with("{k");  // vgatherpf0dps {k1}, [...]
    for (u8 k = 1; k <= 5; k++)
      if (t.take(rounding_names[k])) in.rounding = k, braces = true;
    if (!braces) {
      if (in.n == max_operands || !parse_operand(t, in.op[in.n]))
        return error = str("cannot read operand ", in.n + 1, " of \"", line, "\""), false;
      in.n++;
    }
    if (!decorations()) return false;
    t.spaces();
    if (t.s.empty()) break;
    if (!t.take(",")) return error = str("\",\" expected before \"", t.s, "\" in \"", line, "\""), false;
    t.spaces();
    if (t.s.empty()) return error = str("operand expected after \",\" in \"", line, "\""), false;
  }
  Bytes best, bytes;
  const Form* row = nullptr;
  u16 first = names().slot[names().find(name)];
  if (first == Names::none) return error = str("no instruction is called \"", name, "\""), false;
  for (u16 i = first; i != Names::none; i = names().next[i]) {
    const Form& r = form_at(i);
    if (((r.flags & EXPLICIT_VEX) && !want_vex) || ((r.flags & EXPLICIT_EVEX) && !want_evex)) continue;
    if ((want_vex && r.scheme != VEX) || (want_evex && r.scheme != EVEX)) continue;
    if (r.flags & DECODE_ONLY) continue;
    in.row = &r;
    bytes.clear();
    if (!encode(in, bytes)) continue;
    if (row) {
      bool was = row->scheme == EVEX, is = r.scheme == EVEX;
      if (was < is || (was == is && bytes.size() >= best.size())) continue;
    }
    row = &r;
    best = bytes;
  }
  if (!row) return error = str("no form of ", name, " takes these operands: \"", line, "\""), false;
  // A source above 7 in ModRM.rm costs a third VEX byte that it would not cost in VEX.vvvv.
  bool symmetric = row->flags & COMMUTES && row->scheme == VEX && row->w != 1 && row->map == 1;
  if (in.n > 3)
    symmetric &= ((in.op[3].imm + 1) & 3) < 2;  // so are predicates 0 3 4 7 modulo 8
  else if (row->specs > row->shown)
    symmetric &= ((row->spec[row->shown].fixed + 1) & 3) < 2;  // in the name
  if (symmetric && in.op[2].kind == Operand::REG && in.op[2].reg >= 8 && in.op[1].reg < 8)
    std::swap(in.op[1], in.op[2]);
  in.row = row;
  for (int i = 0; i < in.n; i++)
    if (in.op[i].kind == Operand::MEM && !in.op[i].bits)
      in.op[i].bits = in.op[i].broadcast ? row->spec[i].broadcast_bits : row->spec[i].mem_bits;
  out = in;
  return true;
}

Isa x86_isa() {
  return {"x86",         "x86-64 with AVX2, AVX-512 and the rest of the opcode map",
          tables.rows(), row_at,
          encode,        decode,
          print,         parse,
          rows_named,    find_row};
}

// ---- features -----------------------------------------------------------------------------------------------------
u64 x86::host_features() {
  u32 a, b, c, d, b7 = 0, c7 = 0, d7 = 0, a71 = 0;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c >> 27 & 1)) return 0;  // OSXSAVE: the kernel saves extended state
  u32 xcr0_low, xcr0_high;
  __asm__("xgetbv" : "=a"(xcr0_low), "=d"(xcr0_high) : "c"(0));
  bool fma = c >> 12 & 1, f16c = c >> 29 & 1, avx = c >> 28 & 1;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) b7 = b, c7 = c, d7 = d;
  if (b7 && __get_cpuid_count(7, 1, &a, &b, &c, &d)) a71 = a;
  u64 f = 0;
  if ((xcr0_low & 6) == 6 && avx && fma && f16c && (b7 >> 5 & 1) && (b7 >> 3 & 1) && (b7 >> 8 & 1)) f |= AVX2;
  constexpr u32 wanted = 1u << 16 | 1u << 17 | 1u << 28 | 1u << 30 | 1u << 31;  // F DQ CD BW VL
  if (f && (xcr0_low & 0xE6) == 0xE6 && (b7 & wanted) == wanted) {
    f |= AVX512;
    if (c7 >> 11 & 1) f |= VNNI;
    if (a71 >> 5 & 1) f |= BF16;
    if (d7 >> 23 & 1) f |= FP16;
    if (c7 >> 1 & 1) f |= VBMI;
  }
  return f;
}

}  // namespace ingot::isa
