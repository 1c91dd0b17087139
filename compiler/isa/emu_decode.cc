// SPDX-License-Identifier: MIT
// Decoding for the emulator: an instruction becomes places to fetch operands from and, for each effect of its row's
// meaning, steps over Lanes (emu_lanes.cc). Running it is then: fetch, steps, write under EXEC. What a pattern cannot
// say has no steps and is a function in emu_row.cc, emu_memory.cc or emu_lanes.cc.
#include <algorithm>

#include "compiler/isa/emu.h"

namespace ingot::isa::emu {
using namespace fields;

namespace {
constexpr HalfFlow half_flows[] = {
    {"v_mov_b32", -1, "0l", "0h"},          {"v_not_b32", -1, "0l", "0h"},
    {"v_dual_mov_b32", -1, "0l", "0h"},     {"v_and_b32", -1, "0l1l", "0h1h"},
    {"v_dual_and_b32", -1, "0l1l", "0h1h"}, {"v_or_b32", -1, "0l1l", "0h1h"},
    {"v_xor_b32", -1, "0l1l", "0h1h"},      {"v_xnor_b32", -1, "0l1l", "0h1h"},
    {"v_or3_b32", -1, "0l1l2l", "0h1h2h"},  {"v_xor3_b32", -1, "0l1l2l", "0h1h2h"},
    {"v_bfi_b32", -1, "0l1l2l", "0h1h2h"},  {"v_and_or_b32", -1, "0l1l2l", "0h1h2h"},
    {"v_lshlrev_b32", 0, "", "1l"},         {"v_dual_lshlrev_b32", 0, "", "1l"},
    {"v_lshrrev_b32", 0, "1h", ""},         {"v_ashrrev_i32", 0, "1h", "1h"},
    {"v_lshl_or_b32", 1, "2l", "0l2h"},     {"v_pack_b32_f16", -1, "0b", "1b"},
};
// Turns a row's meaning, as UOps over its operands, into steps.
struct Compiler {
  Part& part;
  UMap<u8> slot{};
  u8 next_temp = first_temp;
  Scalar widened(DType d) const {  // sums that saturate are made in 64 bits
    return part.saturate && d.is_int() ? Scalar::I64 : d.scalar;
  }
  bool emit(U u, Loop many, Loop one, Scalar settle, bool saturate = false) {
    if (!many || next_temp == first_constant) return false;
    Step step{many, one, slot[u] = next_temp++, {}, settle, saturate};
    for (size_t i = 0; i < u->nsrc; i++) step.source[i] = slot[u->src()[i]];
    part.steps.push_back(step);
    return true;
  }
  bool node(U u) {
    Scalar to = widened(u->dtype), from = u->nsrc ? widened(u->src(int(u->op == Op::WHERE))->dtype) : to;
    if (u->op == Op::ACC) {
      part.holes |= u8(1 << u->arg(0));
      return slot[u] = u8(u->arg(0)), true;
    }
    if (u->op == Op::CONST) {
      Lanes v;
      for (int i = 0; i < wave_lanes; i++)
        decode_lane(to, is_float(to) ? encode_float(u->const_float(), {to}) : u64(u->const_int()), v, i);
      slot[u] = u8(first_constant + part.constant.size());
      return part.constant.push_back(v), part.constant.size() <= slots - first_constant;
    }
    if (u->op == Op::CAST || u->op == Op::BITCAST) {
      bool saturates = is_float(from) && !is_float(to);
      bool narrows =
          is_narrow(to) && (dtype_rows[int(from)].bits > dtype_rows[int(to)].bits || is_float(to) != is_float(from));
      bool same = held_in_64(from) == held_in_64(to) && is_float(from) == is_float(to) && !narrows;
      if (u->op == Op::BITCAST || same)  // the bits in the lane are right as they are
        return slot[u] = slot[u->src(0)], true;
      return emit(u, conversion(from, to, false), conversion(from, to, true), narrows ? to : Scalar::VOID, saturates);
    }
    bool settles = is_narrow(to) && u->op != Op::WHERE && !(u->op == Op::FMA && from == Scalar::F16);
    return emit(u, arithmetic(u->op, from, false), arithmetic(u->op, from, true), settles ? to : Scalar::VOID);
  }
  bool effect(const Effect& e, int at) {
    Arena arena;
    ArenaScope scope(arena);
    slot.clear();
    U operands[Inst::max_specs];
    for (int k = 0; k < part.row->specs; k++) operands[k] = make(Op::ACC, dtype_of(part.row->spec[k]), {}, {k});
    U root = build_effect(*part.row, e, operands);
    for (U u : toposort(root))
      if (!node(u)) return false;
    bool computes = false;
    for (U u : toposort(root))
      computes |= u->dtype.is_float() && has(u->op, ALU) && u->op != Op::WHERE && u->op != Op::BITCAST;
    part.effect[at] = {u8(e.target), slot[root], computes && root->dtype.is_float()};
    if (root->op == Op::WHERE && root->src(0)->op == Op::ACC && part.place[root->src(0)->arg(0)].kind == Place::MASK &&
        root->src(1)->op == Op::ACC && root->src(2)->op == Op::ACC)
      for (int i = 0; i < 3; i++) part.choice[i] = i8(root->src(i)->arg(0));
    return true;
  }
};

Place place_of(const OperandSpec& s, const Operand& o, bool implicit) {
  Place p;
  p.type = s.type, p.bits = s.type == Scalar::BOOL ? 32 : u8(dtype_rows[int(s.type)].bits), p.modifiers = o.modifiers;
  if (implicit) {
    p.kind = s.cls == RegClass::FLAGS     ? Place::FLAG
             : s.cls == RegClass::POINTER ? Place::COUNTER
             : s.cls == RegClass::MEMORY  ? Place::MEMORY
             : s.type == Scalar::BOOL     ? Place::MASK
                                          : Place::SGPR;
    p.reg = p.kind == Place::MASK || p.kind == Place::SGPR ? u32(s.fixed) : 0;
    p.count = u8(std::max(1, (s.bits + 31) / 32));
  } else if (o.kind == Operand::IMM) {
    p.kind = Place::CONSTANT, p.constant = u64(o.imm);
    if (s.type == Scalar::U64 && o.imm < 0 && (o.modifiers & LITERAL)) p.constant = u32(o.imm);
  } else if (o.kind == Operand::REG) {
    p.kind = o.cls == RegClass::VECTOR                ? Place::VGPR
             : o.reg >= 128 || o.reg == NULL_REGISTER ? Place::SPECIAL
             : s.type == Scalar::BOOL                 ? Place::MASK
                                                      : Place::SGPR;
    p.reg = o.reg, p.count = u8(std::max(1, (std::max<int>(o.bits, s.type == Scalar::BOOL ? 32 : 1) + 31) / 32));
  }
  return p;
}

Flow flow_of(Part& p) {
  const Row& r = *p.row;
  std::string_view name = r.name;
  if (r.function == READ_LANE) return p.place[p.s[0]].kind == Place::VGPR ? READS_LANE : ANY;
  if (p.choice[0] >= 0) return CHOOSES;
  if (r.format >= DS) return name.find("d16_hi") != name.npos ? HIGH : ANY;
  if (p.d0 >= 0 && p.place[p.d0].bits == 64 && !is_float(p.place[p.d0].type) && r.function == NO_FUNCTION &&
      name.find("shr") == name.npos)
    return p.steps.empty() ? COPY : WIDE;
  if (name == "v_perm_b32" && p.place[p.s[2]].kind == Place::CONSTANT) return BYTES;
  for (const HalfFlow& f : half_flows)
    if (f.name == name && (f.shift_source < 0 || (p.place[p.s[f.shift_source]].kind == Place::CONSTANT &&
                                                  p.place[p.s[f.shift_source]].constant == 16)))
      return p.halves = &f, HALVES;
  return ANY;
}

bool compile(Part& p, const Row& r, const Operand* op, const Modifiers& m) {
  p.row = &r;
  p.scalar = r.format <= SMEM;
  i8 at[FIELDS];
  std::fill(at, at + FIELDS, i8(-1));
  for (int i = 0; i < r.specs; i++) {
    p.place[i] = place_of(r.spec[i], op[i], i >= r.shown);
    if (i < r.shown) at[r.spec[i].place] = i8(i);
    if (p.place[i].kind == Place::MEMORY) p.mem = i8(i);
  }
  for (int i = 0; i < 3; i++) p.s[i] = at[SRC0 + i];
  p.d0 = at[VDST] < 0 ? at[SDST] : at[VDST], p.d1 = at[VDST] < 0 ? i8(-1) : at[SDST];
  p.data = std::max(at[DATA], at[SOFFSET]), p.data2 = at[DATA2], p.addr = at[ADDR],
  p.saddr = std::max(at[SADDR], at[SBASE]);
  p.offset = at[OFFSET], p.simm = std::max(at[SIMM], at[LIT]);
  std::span<const Effect> effects = effects_of(r);
  p.elements = r.effects ? u8(std::max<u16>(1, r.dtype.lanes)) : 1;
  p.is_float = p.d0 >= 0 && is_float(p.place[p.d0].type);
  if (m.clamp && !p.is_float && r.effects &&
      !(p.s[0] >= 0 && is_float(p.place[p.s[0]].type))) {  // casts saturate by themselves
    p.saturate = true;
    for (int i = 0; i < r.shown; i++) p.saturate &= !held_in_64(p.place[i].type);
    if (effects.size() > 1 || !p.saturate) return false;
  }
  Compiler c{p};
  for (const Effect& e : effects)
    if (!c.effect(e, p.effects++)) return false;
  p.flow = flow_of(p);
  std::string_view name = r.name;
  p.by_lane = name.find("addtid") != name.npos;
  if (p.offset >= 0 && r.kind[p.offset] == KIND_offset2)
    p.unit = r.spec[p.mem].bits / 8 * (name.find("stride64") != name.npos ? 64 : 1);
  return true;
}

}  // namespace

std::unique_ptr<Code> decode(const Isa& isa, std::span<const u8> words, u64 pc) {
  auto code = std::make_unique<Code>();
  Code& c = *code;
  c.pc = pc, c.bytes = u32(isa.decode(words, c.in));
  if (!c.bytes) return code;
  c.m = Modifiers::of(c.in.modifiers);
  const Row& row = static_cast<const Row&>(*c.in.row);
  bool ok = compile(c.part[0], row, c.in.op, c.m);
  c.parts = 1;
  if (c.in.second)
    ok &= compile(c.part[1], static_cast<const Row&>(*c.in.second), c.in.op + row.shown, c.m), c.parts = 2;
  c.valu = row.format >= VOP1 && row.format <= VOPD;
  c.trans = row.cls == CLASS_trans || row.cls == CLASS_trans64;
  for (const Part& p : c.part)
    for (const Place& o : p.place)
      if (o.kind == Place::VGPR) c.vgprs = std::max(c.vgprs, o.reg + o.count);
  if (!ok) c.refused = "this use of it is not modelled";
  static std::atomic<u32> windows{0};
  if (c.part[0].mem >= 0) c.window = windows++;
  const Function f = row.function;
  c.ends = c.refused || f == END || f == BARRIER || f == HALT || f == TRAP;
  for (int k = 0; k < row.specs; k++)
    c.ends |= c.part[0].place[k].kind == Place::COUNTER && row.spec[k].access & OperandSpec::WRITE;
  return code;
}

}  // namespace ingot::isa::emu
