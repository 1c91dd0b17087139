// SPDX-License-Identifier: MIT
// Instruction selection for RDNA: from the placed UOps of one work-item to a wave's instructions.
//
// What is the same for a wave and integer is computed by the scalar unit, everything else by the vector unit; simt.cc
// says which (scalar_values). Elementwise ops are selected by the rows' own meanings, the row that covers most nodes
// first; sequences stand below. bool is a mask of lanes in a scalar register (all ones or zeros where it is scalar), a
// narrow integer is extended in its 32-bit register, 64 bits take two. An access under a condition runs with EXEC
// narrowed to it, so that its address need not be good elsewhere; outside of such places EXEC is all ones.
// Sources: AMD "RDNA3 Instruction Set Architecture" (2023), sections 3.4 (operands) and 6.1 (constants); the sequences
// of division and square root are those that LLVM 19 emits for gfx1100 (AMDGPUISelLowering, SIISelLowering).
#include <algorithm>
#include <bit>
#include <cmath>
#include <map>
#include "compiler/codegen/codegen.h"
#include "compiler/isa/rdna.h"

namespace ingot {
namespace {

using isa::Inst;
using isa::Operand;
using isa::OperandSpec;
using isa::RegClass;
namespace rdna = isa::rdna;

// ---- the rows, indexed by the op they compute ----------------------------------------------------------------------
// A shift's amount is below the number of bits, so the `& 31` of its meaning is left out.
Pat without_amount_masks(const Pat& p) {
  struct Copy {
    const Pat& from;
    Pat to;
    int at = 0;
    void term(bool amount) {
      auto is = [&](int k, Op op) {
        return from.term[size_t(k)].kind == Pat::Term::NODE && Op(from.term[size_t(k)].v) == op;
      };
      if (amount && is(at, Op::CAST)) at++;
      if (amount && is(at, Op::AND) && from.term[size_t(at) + 1].kind == Pat::Term::HOLE &&
          from.term[size_t(at) + 2].kind == Pat::Term::IMM) {
        to.term[to.n++] = from.term[size_t(at) + 1];
        at += 3;
        return;
      }
      const Pat::Term& kept = from.term[size_t(at)];
      to.term[to.n++] = kept;
      const bool shift = is(at, Op::SHL) || is(at, Op::SHR);
      at++;
      if (kept.kind == Pat::Term::NODE || kept.kind == Pat::Term::ANY_OF)
        for (int i = 0; i < kept.sources; i++) term(shift && i == 1);
    }
  } copy{p, {}, 0};
  copy.to.binds = p.binds;
  copy.term(false);
  return copy.to;
}
struct Candidate {
  const rdna::Row* row;
  Pat meaning;
  int nodes = 0;       // that it covers
  bool signs = false;  // integer signs matter to it
};
struct Rows {
  std::vector<Candidate> by_op[2][int(Op::COUNT)];  // [vector]
};
const Rows& rows() {
  static const Rows all = [] {
    Rows r;
    const isa::Isa& isa = *isa::find_isa("rdna");
    for (size_t i = 0; i < isa.rows; i++) {
      const rdna::Row& row = rdna::row_at(i);
      const isa::Effect* e = isa::effect_of(row);
      if (!e || row.opcode[rdna::GFX11] == rdna::NONE || row.dtype.is_bool()) continue;
      const bool packed = row.format == rdna::VOP3P && row.dtype == F16.with_lanes(2);
      const bool vector = row.format == rdna::VOP1 || row.format == rdna::VOP2 || row.format == rdna::VOP3 || packed;
      if (row.dtype.lanes != 1 && !packed) continue;
      if ((!vector && row.format != rdna::SOP1 && row.format != rdna::SOP2) || row.cls == rdna::CLASS_trans ||
          row.cls == rdna::CLASS_trans64 || row.has_sdst || e->value.term[0].kind != Pat::Term::NODE)
        continue;
      bool plain = row.effects == 1 || !vector;
      for (const OperandSpec& s : isa::operands_of(row)) plain &= !s.implicit || s.access == OperandSpec::WRITE;
      plain &= isa::operands_of(row)[0].access == OperandSpec::WRITE;
      for (const isa::Effect& effect : isa::effects_of(row).subspan(1))
        plain &= isa::operands_of(row)[size_t(effect.target)].cls == RegClass::FLAGS;
      if (!plain) continue;
      Candidate c{&row, without_amount_masks(e->value)};
      for (int k = 0; k < c.meaning.n; k++) {
        const Pat::Term& t = c.meaning.term[size_t(k)];
        if (t.kind != Pat::Term::NODE) continue;
        c.nodes++;
        const Op op = Op(t.v);
        c.signs |= op == Op::SHR || op == Op::MIN || op == Op::MAX || op == Op::CMPLT || op == Op::CAST;
      }
      r.by_op[vector][e->value.term[0].v].push_back(c);
    }
    return r;
  }();
  return all;
}

int dwords_of(DType t) { return t.is_bool() ? 1 : (t.bits() * t.lanes + 31) / 32; }

class Selector {
 public:
  Selector(const Linear& linear, const Target& target) : linear_(linear), target_(target) {}

  MachineCode run() {
    count_uses();
    take_arguments();
    for (const Line& line : linear_.lines) {
      at_ = &line;
      current_ = line.u;
      switch (line.kind) {
        case Line::INIT: init(line.u); break;
        case Line::UPDATE: move(*accumulators_.find(line.u), value(line.u->src(0))); break;
        case Line::LOOP: loop(line.u); break;
        case Line::END: end(line.u); break;
        case Line::NODE: node(line.u); break;
      }
    }
    code_.prologue = prologue_;
    return std::move(code_);
  }

 private:
  // ---- registers ---------------------------------------------------------------------------------------------------
  Operand new_register(RegClass cls, int dwords) {
    VirtualRegister v{cls, u16(dwords * 32)};
    v.count = u8(dwords), v.align = cls == RegClass::SCALAR ? u8(std::min(dwords, 4)) : 1;
    code_.registers.push_back(v);
    return isa::reg(cls, dwords * 32, isa::first_virtual + u32(code_.registers.size()) - 1);
  }
  Operand scalar(int dwords = 1) { return new_register(RegClass::SCALAR, dwords); }
  Operand vector(int dwords = 1) { return new_register(RegClass::VECTOR, dwords); }
  static Operand part(Operand o, int k) {
    if (o.kind == Operand::IMM) return isa::imm(i64(i32(u32(u64(o.imm) >> 32 * k))));
    o.reg = is_virtual(o.reg) ? o.reg + (u32(k) << part_shift) : o.reg + u32(k);
    o.bits = 32;
    return o;
  }
  static Operand parts(Operand o, int first, int n) {
    o = part(o, first);
    o.bits = u16(32 * n);
    return o;
  }
  static bool is_vector(const Operand& o) { return o.kind == Operand::REG && o.cls == RegClass::VECTOR; }
  static bool is_scalar(const Operand& o) { return o.kind == Operand::REG && o.cls == RegClass::SCALAR; }
  static Operand fixed(u32 number, int bits = 32) { return isa::reg(RegClass::SCALAR, bits, number); }
  bool in_scalar_unit(U u) const {
    const bool* s = scalar_.find(u);
    return u->dtype.is_bool() || (s && *s);
  }
  Operand register_for(U u) { return in_scalar_unit(u) ? scalar(dwords_of(u->dtype)) : vector(dwords_of(u->dtype)); }

  // ---- emission ----------------------------------------------------------------------------------------------------
  CodeLine& put(const rdna::Row& row, std::span<const Operand> given, CodeLine::Kind kind = CodeLine::INST) {
    Operand ops[isa::max_operands];
    std::ranges::copy(given, ops);
    const bool vector_unit = row.format >= rdna::VOP1 && row.format <= rdna::VOPD;
    const bool swaps = row.specs >= 3 && (row.format == rdna::VOP2) && row.effects == 1 && commutes(row);
    if (swaps && !is_vector(ops[2]) && is_vector(ops[1])) std::swap(ops[1], ops[2]);
    u32 read[2];  // scalar registers on the constant bus; a literal counts as one
    size_t buses = 0, most = row.cls == rdna::CLASS_mul64 && row.spec[row.shown - 1].bits == 64 ? 1 : 2;
    i64 literal = 0;
    bool has_literal = false;
    for (size_t i = 0; i < given.size(); i++)
      if (row.spec[i].place == rdna::fields::LIT) has_literal = true, literal = ops[i].imm, buses = 1;
    for (size_t i = 0; i < given.size(); i++) {
      const OperandSpec& s = row.spec[i];
      Operand& o = ops[i];
      if (row.kind[i] || !(s.access & OperandSpec::READ) || s.place == rdna::fields::VDST) {
        if (o.kind == Operand::REG && s.place != rdna::fields::ADDR) o.bits = s.bits;
        continue;
      }
      bool to_vector = s.cls == RegClass::VECTOR && !is_vector(o) &&
                       (s.also != RegClass::SCALAR ||
                        (s.place == rdna::fields::SRC1 && vector_unit && !(row.encodings & rdna::HAS_E64)));
      if (o.kind == Operand::IMM && !to_vector) {
        if (rdna::inline_code(s, o.imm) && s.imm_bits) continue;
        const bool known = has_literal && literal == o.imm;
        const bool carried = s.imm_bits == 32 && (s.bits <= 32 || (rdna::float_literal(s) && !u32(o.imm)));
        if (carried && (known || (!has_literal && (!vector_unit || buses < most)))) {
          buses += !known, literal = o.imm, has_literal = true;
          continue;
        }
        if (vector_unit && s.bits <= 32 && s.also == RegClass::SCALAR && buses < most)
          o = scalar_constant(o.imm);
        else
          o = in_register(o, s.bits > 32 ? 2 : 1, !vector_unit && s.cls == RegClass::SCALAR);
      }
      if (to_vector || (is_scalar(o) && s.cls == RegClass::VECTOR && vector_unit && !bus(o, read, buses, most)))
        o = to_vgpr(o, (s.bits + 31) / 32);
      else if (is_scalar(o) && vector_unit && s.type == Scalar::BOOL)
        bus(o, read, buses, most + 1);
      if (s.cls == RegClass::SCALAR && is_vector(o)) o = to_sgpr(o, (s.bits + 31) / 32);
      if (o.kind == Operand::REG && s.place != rdna::fields::ADDR) o.bits = s.bits;
    }
    CodeLine line;
    line.kind = kind;
    line.inst.row = &row;
    line.inst.n = u8(given.size());
    std::copy(ops, ops + given.size(), line.inst.op);
    line.u = current_;
    code_.lines.push_back(line);
    return code_.lines.back();
  }
  static bool bus(const Operand& o, u32* read, size_t& buses, size_t most) {
    if (std::find(read, read + std::min<size_t>(buses, 2), o.reg) != read + std::min<size_t>(buses, 2)) return true;
    if (buses >= most) return false;
    if (buses < 2) read[buses] = o.reg;
    buses++;
    return true;
  }
  static bool commutes(const rdna::Row& row) {
    const isa::Effect* e = isa::effect_of(row);
    return e && e->value.n == 3 && e->value.term[0].kind == Pat::Term::NODE && has(Op(e->value.term[0].v), COMMUTES);
  }
  CodeLine& ins(std::string_view name, std::initializer_list<Operand> ops, CodeLine::Kind kind = CodeLine::INST) {
    for (u16 i : rdna::rows_called(name)) {
      const rdna::Row& row = rdna::row_at(i);
      if (row.shown == ops.size() && row.opcode[rdna::GFX11] != rdna::NONE)
        return put(row, std::span(ops.begin(), ops.size()), kind);
    }
    throw Error("rdna: no row ", name, " of ", ops.size(), " operands");
  }
  Operand to_vgpr(const Operand& o, int dwords) {
    if (is_vector(o)) return o;
    Operand r = vector(dwords);
    for (int k = 0; k < dwords; k++) ins("v_mov_b32", {part(r, k), part(o, k)});
    return r;
  }
  Operand to_sgpr(const Operand& o, int dwords) {  // of a value that all lanes share
    if (is_scalar(o)) return o;
    Operand r = scalar(dwords);
    for (int k = 0; k < dwords; k++)
      ins(o.kind == Operand::IMM ? "s_mov_b32" : "v_readfirstlane_b32", {part(r, k), part(o, k)});
    return r;
  }
  Operand scalar_constant(i64 bits) {  // made once, at the entry
    if (auto known = constants_.find(bits); known != constants_.end()) return known->second;
    Operand r = scalar();
    code_.registers.back().constant = int(code_.constants.size());
    ins("s_mov_b32", {r, isa::imm(bits)});
    code_.constants.push_back(code_.lines.back());
    code_.lines.pop_back();
    return constants_[bits] = r;
  }
  Operand in_register(const Operand& o, int dwords, bool scalar_unit) {
    return scalar_unit ? to_sgpr(o, dwords) : to_vgpr(o, dwords);
  }
  void move(const Operand& to, Operand from) {
    if (to == from) return;
    if (to.bits == 64 && is_scalar(to) && is_scalar(from)) {
      ins("s_mov_b64", {to, from}).kind = CodeLine::MOVE;
      return;
    }
    for (int k = 0; k < to.bits / 32; k++) {
      const Operand source = from.kind == Operand::IMM && k > 1 ? part(from, k % 2) : part(from, k);
      const char* name = to.cls == RegClass::VECTOR ? "v_mov_b32"
                         : is_vector(source)        ? "v_readfirstlane_b32"
                                                    : "s_mov_b32";
      CodeLine& line = ins(name, {part(to, k), source});
      if (source.kind == Operand::REG && source.cls == to.cls) line.kind = CodeLine::MOVE;
    }
  }
  void mark(CodeLine::Kind kind, int label, U u) {
    CodeLine line;
    line.kind = kind, line.label = label, line.u = u;
    code_.lines.push_back(line);
  }

  // ---- arguments ---------------------------------------------------------------------------------------------------
  void take_arguments() {
    std::vector<U> stores;
    for (const Line& line : linear_.lines)
      if (line.kind == Line::NODE && line.u->op == Op::STORE) stores.push_back(line.u);
    U sink = make(Op::SINK, VOID, stores);
    scalar_ = scalar_values(sink);
    Operand arguments = scalar(2), group = scalar(), item = vector();
    move(arguments, fixed(0, 64));
    move(group, fixed(15));
    move(item, isa::reg(RegClass::VECTOR, 32, 0));
    i64 local = 0;
    std::vector<U> params;
    for (U u : toposort(sink)) {
      if (u->op == Op::PARAM) {
        params.push_back(u);
      } else if (u->op == Op::LOCAL) {
        registers_[u] = isa::imm(local);
        local += (u->arg(1) * u->dtype.bytes() + 15) / 16 * 16;
      } else if (u->op == Op::RANGE && u->range_kind() == RangeKind::THREAD) {
        registers_[u] = group;
      } else if (u->op == Op::RANGE && u->range_kind() == RangeKind::VECTOR) {
        registers_[u] = item;
      }
    }
    std::ranges::sort(params, {}, [](U u) { return u->arg(0); });
    for (size_t i = 0, n; i < params.size(); i += n) {  // neighbours together
      for (n = 1; n < 4 && i + n < params.size() && params[i + n]->arg(0) == params[i]->arg(0) + i64(n);) n++;
      n = std::bit_floor(n);
      Operand r = scalar(int(2 * n));
      ins(str("s_load_b", 64 * n), {r, arguments, fixed(rdna::NULL_REGISTER), isa::imm(params[i]->arg(0) * 8)});
      for (size_t k = 0; k < n; k++) registers_[params[i + k]] = parts(r, int(2 * k), 2);
    }
    code_.local_bytes = local;
    prologue_ = int(code_.lines.size());
    find_neighbours();
  }

  // ---- values ------------------------------------------------------------------------------------------------------
  static i64 bits_of(U c) {
    if (c->dtype.is_bool()) return c->arg(0) ? -1 : 0;
    if (!c->dtype.is_float()) return c->arg(0);
    u64 bits = encode_float(std::bit_cast<double>(c->arg(0)), c->dtype.element());
    return c->dtype.bits() == 64 ? i64(bits) : i64(i32(u32(bits)));
  }
  Operand value(U u) {
    if (Operand* r = registers_.find(u)) return *r;
    if (u->op == Op::CONST) return isa::imm(dwords_of(u->dtype) == 1 ? i64(i32(bits_of(u))) : bits_of(u));
    if (u->op == Op::AFTER) return value(u->src(0));
    check(deferred_.contains(u), "value of ", u, " is not computed yet");
    emit(u);
    return *registers_.find(u);
  }
  void define(U u, const Operand& r) { registers_[u] = r; }
  Operand result(U u) {
    Operand* acc = accumulator_of_.find(u);
    Operand r = acc ? *acc : register_for(u);
    define(u, r);
    return r;
  }
  void count_uses() {
    for (const Line& line : linear_.lines) {
      if (line.kind == Line::UPDATE) {
        uses_[line.u->src(0)] += 2;
        mark_update(line.u);
      }
      if (line.kind != Line::NODE || (line.u->op == Op::REDUCE && line.u->arg(1) >= 0)) continue;
      for (U s : line.u->src()) {
        uses_[s]++, user_[s] = line.u;
        if (s->op == Op::INDEX && s->dtype != VOID)
          for (U x : s->src()) uses_[x]++, user_[x] = s;
      }
    }
  }
  // From an accumulator to its update, what computes a new value of it does so in its register.
  void mark_update(U reduce) {
    Operand acc = vector(dwords_of(reduce->dtype));
    accumulators_[reduce] = acc;
    const U start = make(Op::ACC, reduce->dtype, {}, {reduce->arg(1)});
    std::vector<U> chain;
    U u = reduce->src(0);
    while (u != start) {
      chain.push_back(u);
      if (u->op == Op::FMA || u->op == Op::WHERE || (u->op == Op::MATRIX && u->nsrc == 3))
        u = u->src(2);
      else if (u->op == Op(reduce->arg(0)) && u->nsrc == 2)
        u = u->src(u->src(1)->op == Op::ACC);
      else
        return;
    }
    for (U link : chain) accumulator_of_[link] = acc;
  }
  // A value with one user in the same loop body may be covered by that user's row: it waits until somebody asks.
  static constexpr int deepest = 4;
  bool may_wait(U u) {
    const int *uses = uses_.find(u), *depth = linear_.depth.find(u);
    U* user = user_.find(u);
    if (u->op == Op::NEG && u->dtype.is_float()) return true;  // a modifier of most sources
    if (is_twice(u)) return true;                              // its users choose the half
    if (!has(u->op, ALU) || !uses || *uses != 1 || !depth || accumulator_of_.contains(u) || !has((*user)->op, ALU))
      return false;
    const int* at = linear_.depth.find(*user);
    if (!at || *at != *depth || in_scalar_unit(u) != in_scalar_unit(*user)) return false;
    int waiting = 1;
    for (U s : u->src()) {
      if (s->op == Op::ACC) return false;  // it changes
      if (int* d = deferred_.find(s); d && !registers_.contains(s)) waiting = std::max(waiting, *d + 1);
    }
    if (waiting > deepest) return false;
    if (u->dtype.is_bool()) return has(u->op, TO_BOOL) && (*user)->op == Op::WHERE && compares_in_scalar_unit(u);
    deferred_[u] = waiting;
    return !u->dtype.is_float();
  }
  static bool is_twice(U u) { return u->op == Op::VECTORIZE && u->nsrc == 2 && u->src(0) == u->src(1); }
  void node(U u) {
    if (u->op == Op::AFTER) {
      if (memory_is_local(u)) unsynchronised_ = true, filled_at_ = loop_labels_.size();
      return;
    }
    if (u->op == Op::REDUCE && u->arg(1) >= 0) return define(u, *accumulators_.find(u));
    if (absorbed_.contains(u)) return;
    if (may_wait(u)) {
      if (!deferred_.contains(u)) deferred_[u] = 1;
      return;
    }
    emit(u);
  }
  static bool memory_is_local(U u) {
    while (u->op == Op::AFTER) u = u->src(0);
    return u->op == Op::LOCAL;
  }

  // ---- memory ------------------------------------------------------------------------------------------------------
  static const char* suffix(DType t, bool load) {
    if (t.is_bool()) return load ? "u8" : "b8";
    switch (t.bits() * t.lanes) {
      case 8: return !load ? "b8" : t.is_signed() ? "i8" : "u8";
      case 16: return !load ? "b16" : t.is_signed() && !t.is_float() ? "i16" : "u16";
      case 32: return "b32";
      default: return "b64";
    }
  }
  struct Address {
    Operand offset, base;
    i64 displacement;
  };
  Address address(U index) {
    U where = index->src(0);
    Address a{value(index->src(1)), value(where), index->arg(0)};
    if (a.base.kind == Operand::IMM) {  // LDS
      a.displacement += a.base.imm;
      if (a.displacement > 65535) {
        Operand sum = vector();
        ins("v_add_nc_u32", {sum, isa::imm(a.displacement), to_vgpr(a.offset, 1)});
        a.offset = sum, a.displacement = 0;
      }
      a.offset = to_vgpr(a.offset, 1);
      return a;
    }
    a.base = to_sgpr(a.base, 2);
    if (index->src(1)->dtype.bits() == 64) {  // base and offset in the lanes
      Operand sum = vector(2), offset = to_vgpr(a.offset, 2);
      add_64(sum, offset, a.base, false);
      return {sum, fixed(rdna::NULL_REGISTER, 64), a.displacement};
    }
    a.offset = to_vgpr(a.offset, 1);
    return a;
  }
  static std::string named(std::string_view a, std::string_view b) { return std::string(a) + std::string(b); }
  // What runs where a condition holds. The same for a wave: behind a branch. Else with EXEC narrowed to it, and over it
  // a branch for waves without such a lane where what it saves takes longer than the branch.
  template <class F>
  void where_lanes(U condition, F f) {
    const bool* uniform = scalar_.find(condition);
    const int label = next_label_++;
    const Operand mask = value(condition);
    if (uniform && *uniform && mask.kind == Operand::REG) {
      ins("s_cmp_lg_u32", {mask, isa::imm(0)});
      ins("s_cbranch_scc0", {isa::imm(0)}, CodeLine::JUMP).label = label;
      f();
      return mark(CodeLine::LABEL, label, nullptr);
    }
    const Operand saved = scalar();
    ins("s_and_saveexec_b32", {saved, mask}, CodeLine::FENCE);
    const size_t begin = code_.lines.size();
    CodeLine branch = ins("s_cbranch_execz", {isa::imm(0)}, CodeLine::JUMP);
    branch.label = label;
    code_.lines.pop_back();
    f();
    int cycles = 0;
    for (size_t k = begin; k < code_.lines.size(); k++) cycles += code_.lines[k].inst.row->latency;
    if (cycles > branch.inst.row->latency) {
      code_.lines.insert(code_.lines.begin() + i64(begin), branch);
      mark(CodeLine::LABEL, label, nullptr);
    }
    ins("s_mov_b32", {fixed(rdna::EXEC_LO), saved}, CodeLine::FENCE);
  }
  void load(U u) {
    const Chunk* chunk = chunk_of(u);
    if (chunk && registers_.contains(u)) return;  // came with its neighbours
    meet_before(u->src(0));
    U first = chunk ? chunk->members[0] : u, index = first->src(0);
    DType t = u->dtype;
    const int each = dwords_of(t), n = chunk ? int(chunk->members.size()) * each : each;
    Operand r;
    if (in_scalar_unit(u) && !t.is_bool()) {
      Operand base = to_sgpr(value(index->src(0)), 2);
      r = chunk ? scalar(n) : result(u);
      i64 offset = index->src(1)->arg(0) + index->arg(0);
      ins(str("s_load_b", 32 * n), {r, base, fixed(rdna::NULL_REGISTER), isa::imm(offset)});
    } else {
      r = chunk || t.is_bool() ? vector(n) : result(u);
      const Address a = address(index);
      auto read = [&] {
        if (chunk || n <= 2) return access("load_", chunk ? str("b", 32 * n) : suffix(t, true), r, index, a);
        const int zeros = std::min({zero_bits(index->src(1)), std::countr_zero(u64(displacement(index)) | 16), 4});
        const int wide = 1 << std::max(zeros - 2, 0);  // a part of a matrix
        for (int k = 0; k < n; k += wide) {
          access("load_", str("b", 32 * wide), parts(r, k, wide), index, {a.offset, a.base, a.displacement + 4 * k});
        }
      };
      if (index->nsrc > 2) {
        for (int k = 0; k < n; k++) ins("v_mov_b32", {part(r, k), isa::imm(0)});
        where_lanes(index->src(2), read);
      } else {
        read();
      }
    }
    if (t.is_bool()) ins("v_cmp_ne_u32", {result(u), isa::imm(0), r});
    if (chunk)
      for (size_t k = 0; k < chunk->members.size(); k++) define(chunk->members[k], parts(r, int(k) * each, each));
  }
  void store(U u) {
    Chunk* chunk = chunk_of(u);
    if (chunk && --chunk->waiting) return;  // the last one stores all
    U index = chunk ? chunk->members[0]->src(0) : u->src(0), v = u->src(1);
    DType t = v->dtype;
    const int each = dwords_of(t);
    Operand data;
    if (chunk) {
      const Operand first = value(chunk->members[0]->src(1));
      bool together = is_vector(first) && is_virtual(first.reg);
      for (size_t k = 1; k < chunk->members.size(); k++)
        together = together && value(chunk->members[k]->src(1)) == parts(first, int(k) * each, each);
      data = together ? parts(first, 0, chunk->data.bits / 32) : chunk->data;
      for (size_t k = 0; k < chunk->members.size() && !together; k++)
        move(parts(data, int(k) * each, each), value(chunk->members[k]->src(1)));
    } else if (t.is_bool()) {
      data = vector();
      ins("v_cndmask_b32", {data, isa::imm(0), isa::imm(1), value(v)});
    } else {
      data = to_vgpr(value(v), each);
    }
    const Address a = address(index);
    auto write = [&] { access("store_", chunk || each > 2 ? str("b", data.bits) : suffix(t, false), data, index, a); };
    index->nsrc > 2 ? where_lanes(index->src(2), write) : write();
  }
  void meet_before(U index) {  // a load from LDS that was filled
    if (memory_is_local(index->src(0)) && std::exchange(unsynchronised_, false)) ins("s_barrier", {}, CodeLine::FENCE);
  }
  void access(std::string_view what, std::string_view type, const Operand& data, U index, const Address& a) {
    const bool local = memory_is_local(index->src(0)), reads = what == "load_";
    const CodeLine::Kind kind = index->nsrc > 2 ? CodeLine::FENCE : CodeLine::INST;
    const std::string name = str(local ? "ds_" : "global_", what, type);
    const Operand first = reads ? data : a.offset, second = reads ? a.offset : data;
    CodeLine& line = local ? ins(name, {first, second, isa::imm(a.displacement)}, kind)
                           : ins(name, {first, second, a.base, isa::imm(a.displacement)}, kind);
    line.space = local ? 1 : std::ranges::find(stored_, indexed_memory(index)) == stored_.end() ? 0 : 2;
    line.stores = !reads;
  }

  // Accesses of one loop body to neighbouring elements become one instruction, of up to 4 dwords in the vector unit and
  // 8 in the scalar unit.
  struct Chunk {
    std::vector<U> members;  // by displacement
    Operand data;            // of stores: their values
    int waiting = 0;         // stores that have not come by
  };
  Chunk* chunk_of(U u) {
    int* k = chunk_of_.find(u);
    return k ? &chunks_[size_t(*k)] : nullptr;
  }
  void find_neighbours() {
    struct Key {
      int body;
      bool store, scalar;
      Scalar type;
      U where, offset, condition;
      auto operator<=>(const Key&) const = default;
    };
    std::map<Key, std::vector<U>> groups;
    std::vector<int> bodies{0};
    int next = 0;
    for (const Line& line : linear_.lines)
      if (line.kind == Line::NODE && line.u->op == Op::STORE) stored_.push_back(indexed_memory(line.u->src(0)));
    for (const Line& line : linear_.lines) {
      if (line.kind == Line::LOOP) bodies.push_back(++next);
      if (line.kind == Line::END) bodies.pop_back();
      if (line.kind != Line::NODE || (line.u->op != Op::LOAD && line.u->op != Op::STORE)) continue;
      U u = line.u, index = u->src(0);
      const bool store = u->op == Op::STORE, scalar = !store && in_scalar_unit(u);
      if (index->dtype.is_bool() || index->dtype.bits() * index->dtype.lanes < 32 || dwords_of(index->dtype) > 2)
        continue;
      U m = indexed_memory(index);
      if (!store && m->op == Op::PARAM && std::ranges::find(stored_, m) != stored_.end()) continue;
      groups[{bodies.back(), store, scalar, index->dtype.scalar, index->src(0),
              index->src(1)->is_const() ? nullptr : index->src(1), index->nsrc > 2 ? index->src(2) : nullptr}]
          .push_back(u);
    }
    for (auto& [key, list] : groups) {
      std::ranges::stable_sort(list, {}, [&](U u) { return displacement(u->src(0)); });
      const i64 size = dwords_of(list[0]->src(0)->dtype) * 4;
      const bool local = indexed_memory(list[0]->src(0))->op == Op::LOCAL;
      for (size_t i = 0, n; i < list.size(); i += n) {
        auto at = [&](size_t k) { return displacement(list[k]->src(0)); };
        for (n = 1; i + n < list.size() && at(i + n) == at(i) + i64(n) * size;) n++;
        size_t dwords = std::min<size_t>(n * size_t(size) / 4, key.scalar ? 8 : 4);
        if (key.scalar || local) dwords = std::bit_floor(dwords);
        while (local && dwords > 1 &&
               ((key.offset && (1 << zero_bits(key.offset)) % (4 * i64(dwords))) || at(i) % (4 * i64(dwords))))
          dwords /= 2;
        n = std::max<size_t>(dwords * 4 / size_t(size), 1);
        if (n < 2) continue;
        Chunk c{{list.begin() + i64(i), list.begin() + i64(i + n)}, {}, int(n)};
        for (U u : c.members) chunk_of_[u] = int(chunks_.size());
        if (key.store) {  // values that nothing else needs are computed in their place
          c.data = vector(int(dwords));
          for (size_t k = 0; k < n; k++) {
            U v = c.members[k]->src(1);
            while (v->op == Op::BITCAST && *uses_.find(v) == 1 && dwords_of(v->src(0)->dtype) == dwords_of(v->dtype))
              v = v->src(0);
            if ((has(v->op, ALU) || v->op == Op::VECTORIZE) && *uses_.find(v) == 1 && !accumulator_of_.contains(v) &&
                !in_scalar_unit(v))
              accumulator_of_[v] = parts(c.data, int(k) * int(size) / 4, int(size) / 4);
          }
        }
        chunks_.push_back(std::move(c));
      }
    }
  }

  // ---- selection by meaning ----------------------------------------------------------------------------------------
  static bool accepts(const OperandSpec& s, U x, bool signs) {
    const Scalar wanted = s.type, given = x->dtype.scalar;
    if (wanted == given) return true;
    DType w{wanted, 1}, g{given, 1};
    return !signs && w.is_int() && g.is_int() && w.bits() == g.bits();
  }
  static bool amount_of_shift(const Candidate& c, size_t operand) {  // its dtype says nothing
    for (int k = 0; k + 1 < c.meaning.n; k++) {
      const Pat::Term& t = c.meaning.term[size_t(k)];
      if (t.kind != Pat::Term::NODE || (Op(t.v) != Op::SHL && Op(t.v) != Op::SHR)) continue;
      int at = k + 1;  // skip the first source
      for (int open = 1; open > 0; at++) {
        const Pat::Term& s = c.meaning.term[size_t(at)];
        open += (s.kind == Pat::Term::NODE || s.kind == Pat::Term::ANY_OF ? s.sources : 0) - 1;
      }
      if (c.meaning.term[size_t(at)].kind == Pat::Term::HOLE && c.meaning.term[size_t(at)].v == operand) return true;
    }
    return false;
  }
  bool by_meaning(U u) {
    const Candidate* best = nullptr;
    Match best_match;
    int best_cost = 1 << 20;
    const bool vector_unit = !in_scalar_unit(u);
    for (const Candidate& c : rows().by_op[vector_unit][int(u->op)]) {
      DType rt = c.row->dtype, t = u->dtype;
      if (rt.lanes != t.lanes) continue;
      if (rt.scalar != t.scalar && (c.signs || !rt.is_int() || !t.is_int() || rt.bits() != t.bits())) continue;
      Match m;
      if (!match(c.meaning, u, m)) continue;
      std::span<const OperandSpec> specs = isa::operands_of(*c.row);
      bool ok = true;
      int cost = 8 - 8 * c.nodes + (c.row->format == rdna::VOP3);
      for (size_t i = 1; ok && i < c.row->shown; i++) {
        U x = m.at[i];
        ok = x && (accepts(specs[i], x, c.signs) || amount_of_shift(c, i)) && !x->dtype.is_bool();
        if (!ok) break;
        if (c.row->kind[i]) ok = x->is_const();
        if (c.row->format == rdna::VOP2 && i == 2 && (x->is_const() || in_scalar_unit(x)) && !commutes(*c.row)) cost++;
      }
      ok &= covered(c, u);
      if (ok && cost < best_cost) best = &c, best_cost = cost, best_match = m;
    }
    if (!best) return false;
    Operand ops[isa::max_operands];
    std::span<const OperandSpec> specs = isa::operands_of(*best->row);
    u8 modifiers[isa::max_operands] = {};
    const bool packed = best->row->format == rdna::VOP3P;
    for (size_t i = 1; i < best->row->shown; i++) {
      U x = best_match.at[i];
      if (packed) modifiers[i] = rdna::HALF_HI;
      if (x->op == Op::NEG && x->dtype.is_float() && !registers_.contains(x) && deferred_.contains(x) &&
          negates(*best->row, specs[i]))
        x = x->src(0), modifiers[i] |= packed ? rdna::NEGATE | rdna::ABSOLUTE : rdna::NEGATE;
      if (packed && is_twice(x)) x = x->src(0), modifiers[i] &= u8(~rdna::HALF_HI);
      ops[i] = value(x);
      if (specs[i].bits == 32 && ops[i].kind == Operand::REG && ops[i].bits == 64) ops[i] = part(ops[i], 0);
    }
    for (size_t i = 1; i < best->row->shown; i++)
      check(ops[i].kind != Operand::REG || specs[i].bits <= 32 || ops[i].bits >= specs[i].bits, best->row->name,
            " takes ", specs[i].bits, " bits: ", u, " ", u->src(0)->dtype);
    ops[0] = result(u);
    CodeLine& line = put(*best->row, std::span<const Operand>(ops, best->row->shown));
    for (size_t i = 1; i < best->row->shown; i++) line.inst.op[i].modifiers |= modifiers[i];
    return true;
  }
  static bool negates(const rdna::Row& row, const OperandSpec& s) {
    const bool short_only = row.format == rdna::VOP2 && !(row.encodings & rdna::HAS_E64);  // v_fmamk_f32
    return !short_only && s.place >= rdna::fields::SRC0 && s.place <= rdna::fields::SRC2 &&
           row.neg >> (s.place - rdna::fields::SRC0) & 1 && (row.format == rdna::VOP3P || !commutes(row));
  }
  // Nodes below the root that a row covers must wait still, or they would be computed twice.
  bool covered(const Candidate& c, U root) {
    if (c.nodes == 1) return true;
    // The terms of the pattern in order, beside the nodes that they stand for; either order of commutative sources.
    struct Walk {
      const Candidate& c;
      Selector& self;
      int at = 0;
      bool term(U u) {
        const Pat::Term& t = c.meaning.term[size_t(at++)];
        if (t.kind != Pat::Term::NODE) return true;
        if (u->op != Op(t.v) || u->nsrc != t.sources) return false;
        if (at > 1 && (!self.deferred_.contains(u) || self.registers_.contains(u))) return false;
        const int begin = at;
        bool ok = true;
        for (int i = 0; ok && i < t.sources; i++) ok = term(u->src(i));
        if (ok || !has(u->op, COMMUTES) || t.sources != 2) return ok;
        at = begin;
        return term(u->src(1)) && term(u->src(0));
      }
    };
    return Walk{c, *this}.term(root);
  }

  // ---- named sequences ---------------------------------------------------------------------------------------------
  void emit(U u) {
    current_ = u;
    DType t = u->dtype;
    switch (u->op) {
      case Op::LOAD: return load(u);
      case Op::STORE: return store(u);
      case Op::INDEX: return base(u);
      case Op::REDUCE: return reduce_lanes(u);
      case Op::CAST: return cast_to(u);
      case Op::VECTORIZE: return pack(u);
      case Op::EXTRACT: return extract(u);
      case Op::MATRIX: return multiply_matrices(u);
      case Op::BITCAST: return bitcast(u);
      case Op::WHERE: return select(u);
      case Op::CMPLT:
      case Op::CMPEQ:
      case Op::CMPNE: return compare(u);
      case Op::FDIV: return divide(u);
      case Op::SQRT: return t.bits() == 64 ? square_root_64(u) : square_root_32(u);
      case Op::AND:
      case Op::OR:
      case Op::XOR:
        if (t.is_bool()) return logic(u);
        break;
      case Op::MIN:
      case Op::MAX:
        if (t.is_float()) return extreme(u);
        break;
      case Op::NEG: return negate(u);
      case Op::SUB:
        if (t.scalar == Scalar::F64) {
          Operand a = value(u->src(0)), b = to_vgpr(value(u->src(1)), 2);
          ins("v_add_f64", {result(u), a, b}).inst.op[2].modifiers = rdna::NEGATE;
          return;
        }
        break;
      default: break;
    }
    if (by_meaning(u)) return;
    if (t.is_int() && t.bits() == 64) return wide(u);
    throw Error("rdna: no row computes ", u->op, " ", u->dtype, u->nsrc ? str(" from ", u->src(0)->dtype) : "");
  }

  // The base of addresses that share a PARAM and a scalar offset.
  void base(U u) {
    Operand a = value(u->src(0)), b = value(u->src(1)), r = scalar(2);
    define(u, r);
    if (u->src(1)->dtype.bits() == 64) {
      b = to_sgpr(b, 2);
      ins("s_add_u32", {part(r, 0), part(a, 0), part(b, 0)});
      ins("s_addc_u32", {part(r, 1), part(a, 1), part(b, 1)});
      return;
    }
    sum_of_base(r, a, b, u->src(1)->min < 0);
  }
  void sum_of_base(const Operand& r, const Operand& a, Operand b, bool may_be_negative) {
    if (b.kind != Operand::IMM) b = to_sgpr(b, 1);
    Operand high = isa::imm(b.kind == Operand::IMM && b.imm < 0 ? -1 : 0);
    if (b.kind == Operand::REG && may_be_negative) ins("s_ashr_i32", {high = scalar(), b, isa::imm(31)});
    ins("s_add_u32", {part(r, 0), part(a, 0), b});
    ins("s_addc_u32", {part(r, 1), part(a, 1), high});
  }
  void add_64(const Operand& r, const Operand& a, const Operand& b, bool subtract) {
    Operand carry = scalar(), unused = scalar();
    ins(subtract ? "v_sub_co_u32" : "v_add_co_u32", {part(r, 0), carry, part(a, 0), part(b, 0)});
    ins(subtract ? "v_sub_co_ci_u32" : "v_add_co_ci_u32", {part(r, 1), unused, part(a, 1), part(b, 1), carry});
  }
  void wide(U u) {  // 64-bit integers, by halves
    Operand a = value(u->src(0)), b = u->nsrc > 1 ? value(u->src(1)) : Operand{};
    const bool scalar_unit = in_scalar_unit(u);
    Operand r = result(u);
    switch (u->op) {
      case Op::ADD:
      case Op::SUB:
        if (!scalar_unit) return add_64(r, a, b, u->op == Op::SUB);
        ins(u->op == Op::ADD ? "s_add_u32" : "s_sub_u32", {part(r, 0), part(a, 0), part(b, 0)});
        ins(u->op == Op::ADD ? "s_addc_u32" : "s_subb_u32", {part(r, 1), part(a, 1), part(b, 1)});
        return;
      case Op::AND:
      case Op::OR:
      case Op::XOR: {
        const char* names[2][3] = {{"s_and_b32", "s_or_b32", "s_xor_b32"}, {"v_and_b32", "v_or_b32", "v_xor_b32"}};
        const char* name = names[!scalar_unit][u->op == Op::AND ? 0 : u->op == Op::OR ? 1 : 2];
        for (int k = 0; k < 2; k++) ins(name, {part(r, k), part(a, k), part(b, k)});
        return;
      }
      case Op::MUL: {  // of two values that fit 32 bits
        if (scalar_unit) {
          ins("s_mul_i32", {part(r, 0), part(a, 0), part(b, 0)});
          ins("s_mul_hi_u32", {part(r, 1), part(a, 0), part(b, 0)});
        } else {
          ins("v_mad_u64_u32", {r, scalar(), part(a, 0), part(b, 0), isa::imm(0)});
        }
        return;
      }
      default: throw Error("rdna: no sequence computes ", u->op, " ", u->dtype);
    }
  }
  void negate(U u) {
    DType t = u->dtype;
    Operand a = value(u->src(0)), r = result(u);
    if (t.is_float()) {
      const i64 half = i64(1) << 15, sign = t.lanes > 1 ? half << 16 | half : t.bits() == 16 ? half : half << 16;
      if (t.bits() == 64) move(part(r, 0), part(a, 0));
      const int last = t.bits() == 64;
      ins("v_xor_b32", {part(r, last), isa::imm(i64(i32(u32(sign)))), part(a, last)});
    } else if (t.bits() == 64) {
      if (in_scalar_unit(u)) {
        ins("s_sub_u32", {part(r, 0), isa::imm(0), part(a, 0)});
        ins("s_subb_u32", {part(r, 1), isa::imm(0), part(a, 1)});
      } else {
        add_64(r, isa::imm(0), a, true);
      }
    } else {
      ins(in_scalar_unit(u) ? "s_sub_i32" : "v_sub_nc_u32", {r, isa::imm(0), a});
    }
  }
  void logic(U u) {
    Operand a = value(u->src(0)), b = value(u->src(1)), r = result(u);
    ins(u->op == Op::AND ? "s_and_b32" : u->op == Op::OR ? "s_or_b32" : "s_xor_b32", {r, a, b});
  }
  bool compares_in_scalar_unit(U u) const {
    for (U s : u->src())
      if (const bool* k = scalar_.find(s); !k || !*k) return false;
    const bool* own = scalar_.find(u);
    return own && *own;
  }
  void scalar_compare(U u) {  // sets SCC
    DType t = u->src(0)->dtype;
    const bool equal = u->op == Op::CMPEQ, wide = t.bits() == 64;
    ins(u->op == Op::CMPLT ? (t.is_signed() ? "s_cmp_lt_i32" : "s_cmp_lt_u32")
                           : str("s_cmp_", equal ? "eq_u" : "lg_u", wide ? 64 : 32),
        {value(u->src(0)), value(u->src(1))});
  }
  void compare(U u) {
    DType t = u->src(0)->dtype;
    if (compares_in_scalar_unit(u)) {
      scalar_compare(u);
      ins("s_cselect_b32", {result(u), isa::imm(-1), isa::imm(0)});
      return;
    }
    Operand a = value(u->src(0)), b = value(u->src(1));
    const char* type = t.is_float()     ? (t.bits() == 64 ? "f64" : "f32")
                       : t.bits() == 64 ? (t.is_signed() ? "i64" : "u64")
                       : t.is_signed()  ? "i32"
                                        : "u32";
    const char* relation = u->op == Op::CMPLT ? "lt_" : u->op == Op::CMPEQ ? "eq_" : t.is_float() ? "neq_" : "ne_";
    ins(str("v_cmp_", relation, type), {result(u), a, b});
  }
  void select(U u) {
    U c = u->src(0);
    const int n = dwords_of(u->dtype);
    if (in_scalar_unit(u) && !u->dtype.is_bool()) {
      if (deferred_.contains(c) && !registers_.contains(c) && has(c->op, TO_BOOL)) {
        Operand a = value(u->src(1)), b = value(u->src(2));
        scalar_compare(c);
        ins(n == 2 ? "s_cselect_b64" : "s_cselect_b32", {result(u), a, b});
        return;
      }
      Operand a = value(u->src(1)), b = value(u->src(2)), mask = value(c);
      ins("s_cmp_lg_u32", {mask, isa::imm(0)});
      ins(n == 2 ? "s_cselect_b64" : "s_cselect_b32", {result(u), a, b});
      return;
    }
    Operand mask = value(c), a = value(u->src(1)), b = value(u->src(2)), r;
    if (mask.kind == Operand::IMM) mask = to_sgpr(mask, 1);
    r = result(u);
    for (int k = 0; k < n; k++) {
      Operand x = part(a, k), y = part(b, k);
      ins("v_cndmask_b32", {part(r, k), y, x, mask});
    }
  }
  // NaN if either source is one; the instruction gives the other one then.
  void extreme(U u) {
    DType t = u->dtype;
    U x = u->src(0), y = u->src(1);
    const bool largest = u->op == Op::MAX;
    const std::string type = t.bits() == 64 ? "f64" : "f32";
    Operand a = value(x), b = value(y), mask = scalar();
    const int n = dwords_of(t);
    if (y->is_const() && y->const_float() == y->const_float()) {
      Operand r = result(u);
      ins(named(largest ? "v_cmp_lt_" : "v_cmp_gt_", type), {mask, a, b});
      for (int k = 0; k < n; k++) ins("v_cndmask_b32", {part(r, k), part(a, k), part(b, k), mask});
      return;
    }
    Operand m = vector(n), r;
    ins(named("v_cmp_u_", type), {mask, a, b});
    ins(named(largest ? "v_max_" : "v_min_", type), {m, a, b});
    const i64 nan = t.bits() == 64 ? bits_of(constant_float(F64, NAN)) : bits_of(constant_float(F32, NAN));
    r = result(u);
    for (int k = 0; k < n; k++) ins("v_cndmask_b32", {part(r, k), part(m, k), part(isa::imm(nan), k), mask});
  }
  static Operand negated(Operand o) {
    o.modifiers |= rdna::NEGATE;
    return o;
  }
  Operand fused(const std::string& type, const Operand& x, const Operand& y, const Operand& z) {  // x * y + z
    Operand r = vector(type == "f64" ? 2 : 1), plain = x;
    plain.modifiers = 0;
    ins(named("v_fma_", type), {r, plain, y, z}).inst.op[1].modifiers = x.modifiers;
    return r;
  }
  void divide(U u) {
    const bool wide = u->dtype.bits() == 64;
    const std::string type = wide ? "f64" : "f32";
    const int n = wide ? 2 : 1;
    const Operand a = to_vgpr(value(u->src(0)), n), b = to_vgpr(value(u->src(1)), n);
    const Operand one = isa::imm(bits_of(constant_float(u->dtype, 1))), divisor = vector(n), dividend = vector(n),
                  estimate = vector(n), first = vector(n), scaled = vector(n);
    auto remainder = [&](const Operand& q, const Operand& of) { return fused(type, negated(divisor), q, of); };
    ins(named("v_div_scale_", type), {divisor, scalar(), b, b, a});
    ins(named("v_rcp_", type), {estimate, divisor});
    Operand r = fused(type, remainder(estimate, one), estimate, estimate);
    if (wide) r = fused(type, remainder(r, one), r, r);
    ins(named("v_div_scale_", type), {dividend, fixed(rdna::VCC_LO), a, b, a});
    ins(named("v_mul_", type), {first, dividend, r});
    const Operand q = wide ? first : fused(type, remainder(first, dividend), r, first);
    ins(named("v_div_fmas_", type), {scaled, remainder(q, dividend), r, q});
    ins(named("v_div_fixup_", type), {result(u), scaled, b, a});
  }
  // The approximation is one unit off at most: the neighbours' remainders say which is nearest.
  void square_root_32(U u) {
    auto f = [](double v) { return isa::imm(bits_of(constant_float(F32, v))); };
    auto compute = [&](const char* name, const Operand& x, const Operand& y) {
      Operand r = vector();
      ins(name, {r, x, y});
      return r;
    };
    auto choose = [&](const Operand& otherwise, const Operand& x, const Operand& mask) {
      Operand r = vector();
      ins("v_cndmask_b32", {r, otherwise, x, mask});
      return r;
    };
    const Operand x = to_vgpr(value(u->src(0)), 1), small = scalar(), special = scalar(), low_fits = scalar(),
                  high_fits = scalar(), root = vector();
    ins("v_cmp_gt_f32", {small, f(0x1p-96), x});
    const Operand scaled = choose(x, compute("v_mul_f32", f(0x1p32), x), small);
    ins("v_sqrt_f32", {root, scaled});
    const Operand low = compute("v_add_nc_u32", isa::imm(-1), root), high = compute("v_add_nc_u32", isa::imm(1), root);
    ins("v_cmp_ge_f32", {low_fits, isa::imm(0), fused("f32", negated(low), root, scaled)});
    ins("v_cmp_lt_f32", {high_fits, isa::imm(0), fused("f32", negated(high), root, scaled)});
    const Operand nearest = choose(choose(root, low, low_fits), high, high_fits);
    const Operand unscaled = choose(nearest, compute("v_mul_f32", f(0x1p-16), nearest), small);
    ins("v_cmp_class_f32", {special, scaled, isa::imm(zero_or_infinity)});
    ins("v_cndmask_b32", {result(u), unscaled, scaled, special});
  }
  void square_root_64(U u) {
    auto f = [](double v) { return isa::imm(bits_of(constant_float(F64, v))); };
    const Operand x = to_vgpr(value(u->src(0)), 2), small = scalar(), special = scalar(), up = vector(),
                  down = vector(), scaled = vector(2), estimate = vector(2), g0 = vector(2), h0 = vector(2),
                  back = vector(2);
    ins("v_cmp_gt_f64", {small, to_vgpr(f(0x1p-767), 2), x});
    ins("v_cndmask_b32", {up, isa::imm(0), isa::imm(256), small});
    ins("v_ldexp_f64", {scaled, x, up});
    ins("v_rsq_f64", {estimate, scaled});
    ins("v_mul_f64", {g0, scaled, estimate});
    ins("v_mul_f64", {h0, f(0.5), estimate});
    const Operand r = fused("f64", negated(h0), g0, f(0.5)), h = fused("f64", h0, r, h0);
    Operand g = fused("f64", g0, r, g0);
    for (int i = 0; i < 2; i++) g = fused("f64", fused("f64", negated(g), g, scaled), h, g);
    ins("v_cndmask_b32", {down, isa::imm(0), isa::imm(-128), small});
    ins("v_ldexp_f64", {back, g, down});
    ins("v_cmp_class_f64", {special, scaled, isa::imm(zero_or_infinity)});
    const Operand out = result(u);
    for (int k = 0; k < 2; k++) ins("v_cndmask_b32", {part(out, k), part(back, k), part(scaled, k), special});
  }
  static constexpr i64 zero_or_infinity = 1 << 5 | 1 << 6 | 1 << 9;  // -0, +0, +infinity: of v_cmp_class

  // ---- conversions -------------------------------------------------------------------------------------------------
  Operand low_half(U x) {  // of a 64-bit value that is the extension of 32 bits
    return part(value(x), 0);
  }
  void cast_to(U u) {
    U x = u->src(0);
    DType from = x->dtype, t = u->dtype;
    if (x->op == Op::RANGE) return define(u, value(x));
    if (t.is_bool()) {
      Operand a = value(x);
      if (from.is_float()) {
        ins(from.bits() == 64 ? "v_cmp_neq_f64" : "v_cmp_neq_f32", {result(u), isa::imm(0), a});
      } else if (compares_in_scalar_unit(u)) {
        from.bits() == 64 ? ins("s_cmp_lg_u64", {a, isa::imm(0)}) : ins("s_cmp_lg_u32", {a, isa::imm(0)});
        ins("s_cselect_b32", {result(u), isa::imm(-1), isa::imm(0)});
      } else {
        ins(from.bits() == 64 ? "v_cmp_ne_u64" : "v_cmp_ne_u32", {result(u), isa::imm(0), a});
      }
      return;
    }
    if (from.is_bool()) {
      Operand mask = value(x), r = result(u);
      const i64 one = t.is_float() ? bits_of(constant_float(t, 1)) : 1;
      for (int k = 0; k < dwords_of(t); k++) {
        const Operand number = part(isa::imm(t.bits() == 64 ? one : i64(u32(one))), k);
        if (is_scalar(r))
          ins("s_and_b32", {part(r, k), mask, number});
        else
          ins("v_cndmask_b32", {part(r, k), isa::imm(0), number, mask.kind == Operand::IMM ? to_sgpr(mask, 1) : mask});
      }
      return;
    }
    if (t.is_int() && from.is_int()) return resize(u);
    if (by_meaning(u)) return;
    throw Error("rdna: no row converts ", from, " to ", t);
  }
  void resize(U u) {
    U x = u->src(0);
    DType from = x->dtype, t = u->dtype;
    const bool scalar_unit = in_scalar_unit(u);
    if (t.bits() == 32 && x->op == Op::SHR && !registers_.contains(x) && deferred_.contains(x) &&
        x->src(0)->op == Op::MUL && x->src(1)->is_const() && x->src(1)->arg(0) >= 32 && from.scalar == Scalar::U64 &&
        fits_u32(x->src(0)->src(0)) && fits_u32(x->src(0)->src(1)) && deferred_.contains(x->src(0)) &&
        !registers_.contains(x->src(0))) {
      Operand a = low_half(x->src(0)->src(0)), b = low_half(x->src(0)->src(1));
      const i64 shift = x->src(1)->arg(0) - 32;
      Operand r = result(u), high = shift ? (scalar_unit ? scalar() : vector()) : r;
      ins(scalar_unit ? "s_mul_hi_u32" : "v_mul_hi_u32", {high, a, b});
      if (!shift) return;
      if (scalar_unit)
        ins("s_lshr_b32", {r, high, isa::imm(shift)});
      else
        ins("v_lshrrev_b32", {r, isa::imm(shift), high});
      return;
    }
    Operand a = value(x);
    if (a.kind == Operand::IMM) a = in_register(a, dwords_of(from), scalar_unit);
    if (t.bits() == 64) {
      if (from.bits() == 64) return define(u, a);
      Operand r = result(u);
      move(part(r, 0), a);
      if (from.is_unsigned())
        ins(scalar_unit ? "s_mov_b32" : "v_mov_b32", {part(r, 1), isa::imm(0)});
      else if (scalar_unit)
        ins("s_ashr_i32", {part(r, 1), a, isa::imm(31)});
      else
        ins("v_ashrrev_i32", {part(r, 1), isa::imm(31), a});
      return;
    }
    if (from.bits() == 64) a = part(a, 0);
    const bool kept = t.bits() == 32 || (from.bits() < t.bits() && (from.is_unsigned() || t.is_signed())) ||
                      (from.bits() == t.bits() && from.is_signed() == t.is_signed());
    if (kept) return define(u, a);
    Operand r = result(u);
    const i64 mask = (i64(1) << t.bits()) - 1;
    if (t.is_unsigned())
      ins(scalar_unit ? "s_and_b32" : "v_and_b32", {r, isa::imm(mask), a});
    else if (scalar_unit)
      ins(t.bits() == 8 ? "s_sext_i32_i8" : "s_sext_i32_i16", {r, a});
    else
      ins("v_bfe_i32", {r, a, isa::imm(0), isa::imm(t.bits())});
  }
  void bitcast(U u) {
    U x = u->src(0);
    Operand a = value(x);
    DType t = u->dtype, from = x->dtype;
    if (t.bits() < 32 && t.is_int() && from.bits() == t.bits() &&
        (from.is_float() || from.is_signed() != t.is_signed())) {
      Operand r = result(u);  // narrow integers are extended
      const i64 mask = (i64(1) << t.bits()) - 1;
      if (t.is_unsigned())
        ins("v_and_b32", {r, isa::imm(mask), a});
      else
        ins("v_bfe_i32", {r, in_register(a, 1, false), isa::imm(0), isa::imm(t.bits())});
      return;
    }
    if (a.kind == Operand::IMM) a = in_register(a, dwords_of(from), in_scalar_unit(u));
    define(u, a);
  }

  // ---- matrices
  // -------------------------------------------------------------------------------------------------------- Narrow
  // numbers side by side in registers: from neighbours in memory at once, else one by one.
  void pack(U u) {
    const int bits = u->dtype.bits(), n = u->dtype.lanes, per_dword = 32 / bits;
    Operand r = result(u);
    std::vector<Operand> v;
    for (U x : u->src()) v.push_back(in_register(value(x), 1, false));
    for (int k = 0; k < n; k += per_dword) {
      Operand low = v[size_t(k)], to = part(r, k / per_dword);
      auto halves = [&](const Operand& d, const Operand& a, const Operand& b, i64 bytes) {
        ins("v_perm_b32", {d, b, a, isa::imm(i64(i32(u32(bytes))))});
      };
      if (per_dword == 2) {
        halves(to, low, v[size_t(k) + 1], low_halves);
        continue;
      }
      Operand pairs[2] = {vector(), vector()};
      for (int i = 0; i < 2; i++) halves(pairs[i], v[size_t(k + 2 * i)], v[size_t(k + 2 * i) + 1], low_bytes);
      halves(to, pairs[0], pairs[1], low_halves);
    }
  }
  // Selectors of v_perm_b32: which byte of {first, second source} goes where, the lowest last.
  static constexpr u32 low_halves = 5 << 24 | 4 << 16 | 1 << 8, low_bytes = 12 << 24 | 12 << 16 | 4 << 8;
  // An element of a dword of narrow ones; a float's upper half means nothing, an integer is extended.
  void extract(U u) {
    const DType t = u->dtype;
    const int bits = t.bits(), at = int(u->arg(0)) * bits;
    Operand v = value(u->src(0));
    if (bits * t.lanes >= 32) return define(u, parts(v, at / 32, dwords_of(t)));
    if (t.is_float() && !at) return define(u, v);
    Operand r = result(u);
    if (t.is_signed() && !t.is_float())
      ins("v_bfe_i32", {r, v, isa::imm(at), isa::imm(bits)});
    else if (at + bits == 32)
      ins("v_lshrrev_b32", {r, isa::imm(at), v});
    else
      ins("v_bfe_u32", {r, v, isa::imm(at), isa::imm(bits)});
  }
  void multiply_matrices(U u) {
    const Machine machine = machine_of(target_);
    const MatrixUnit* unit = machine.matrix_unit(u->src(0)->dtype.element());
    Operand a = value(u->src(0)), b = value(u->src(1));
    Operand c = u->nsrc == 3 ? value(u->src(2)) : isa::imm(0), r = result(u);
    CodeLine& line = ins(unit->instruction, {r, a, b, c});
    if (unit->input.is_int() && unit->input.is_signed())
      line.inst.op[1].modifiers = line.inst.op[2].modifiers = rdna::NEGATE;
  }

  // ---- across lanes ------------------------------------------------------------------------------------------------
  // Halving distances: lane i takes what lane i ^ 1, 2, 4, 8 has through DPP, then the other row of 16 by permlanex16.
  void reduce_lanes(U u) {
    DType t = u->dtype;
    const Op op = Op(u->arg(0));
    const int n = dwords_of(t);
    Operand x = to_vgpr(value(u->src(0)), n);
    u64 identity = 0;
    for (u64 k = 0; k < 16; k++) identity |= k << 4 * k;
    const char* fused = op != Op::ADD          ? nullptr
                        : t == F32             ? "v_add_f32"
                        : t == I32 || t == U32 ? "v_add_nc_u32"
                                               : nullptr;
    for (int distance = 1; distance < 32; distance *= 2) {
      if (fused && distance < 16) {
        const Operand sum = vector();
        ins(fused, {sum, x, x}).inst.modifiers = row_xmask(distance);
        x = sum;
        continue;
      }
      Operand other = vector(n);
      for (int k = 0; k < n; k++) {
        if (distance < 16) {
          ins("v_mov_b32", {part(other, k), part(x, k)}).inst.modifiers = row_xmask(distance);
        } else {
          move(part(other, k), part(x, k));
          code_.lines.back().kind = CodeLine::INST;
          ins("v_permlanex16_b32",
              {part(other, k), part(x, k), scalar_constant(i32(u32(identity))), scalar_constant(i32(identity >> 32))});
        }
      }
      U leaves[2] = {make(Op::ACC, t, {}, {next_leaf_++}), make(Op::ACC, t, {}, {next_leaf_++})};
      registers_[leaves[0]] = x, registers_[leaves[1]] = other;
      U sum = decompose(make(op, t, {leaves[0], leaves[1]}), target_);
      for (U node : toposort(sum))
        if (node->op != Op::CONST && node->op != Op::ACC) emit(node);
      x = value(sum);
    }
    current_ = u;
    move(result(u), x);
  }
  static u64 row_xmask(int distance) {  // all rows and banks
    static const u64 none = [] {
      isa::Instruction i;
      std::string error;
      bool ok = isa::find_isa("rdna")->parse("v_mov_b32_dpp v0, v0 row_xmask:0 row_mask:0xf bank_mask:0xf", i, error);
      check(ok, error);
      return i.modifiers;
    }();
    rdna::Modifiers m = rdna::Modifiers::of(none);
    m.dpp += u64(distance);
    return m.bits();
  }

  // ---- loops -------------------------------------------------------------------------------------------------------
  void init(U reduce) {
    Operand acc = *accumulators_.find(reduce);
    registers_[make(Op::ACC, reduce->dtype, {}, {reduce->arg(1)})] = acc;
    move(acc, value(identity_of(Op(reduce->arg(0)), reduce->dtype)));
  }
  // Work-items that filled LDS meet before a loop that reads it, not in each of its turns.
  bool loop_reads_local() const {
    int depth = 0;
    for (const Line* l = at_; l->kind != Line::END || --depth; l++) {
      depth += l->kind == Line::LOOP;
      for (U s : l->u->src())
        if (l->kind == Line::NODE && s->op == Op::INDEX && l->u->op != Op::STORE && memory_is_local(s->src(0)))
          return true;
    }
    return false;
  }
  // What grows by the same in every turn is kept in a register and added to at the end of the loop, not computed from
  // the number of the turn. When nobody else asks for that number, it counts up to 0 and its carry ends the loop.
  struct Turns {
    bool counted = false;  // from 0 up to the bound
    Operand counter;
    std::vector<std::pair<Operand, i64>> growing;  // and by how much
  };
  struct Growth {
    i64 step = 0;
    U start = nullptr;  // what it is in the first turn, from outside of the loop; nullptr: 0
  };
  std::optional<Growth> growth(U u, U range, const UMap<Growth>& known) const {
    auto of = [&](U s) { return known.find(s); };
    auto from_outside = [&](U s) {
      const int* depth = linear_.depth.find(s);
      return s->is_const() || (depth && *depth <= int(loop_labels_.size()));
    };
    if (u->op == Op::INDEX && u->dtype == VOID) {  // the base of addresses
      const Growth* g = of(u->src(1));
      const bool exact = u->src(1)->dtype.bits() == 32 && u->src(1)->min >= 0;
      return g && g->step > 0 && exact ? std::optional(*g) : std::nullopt;
    }
    if (u->dtype != I32) return {};
    if (u->op == Op::CAST && u->src(0) == range) return Growth{1, nullptr};
    for (int i = 0; i < 2 && u->op == Op::ADD; i++)
      if (const Growth* g = of(u->src(i)); g && !g->start && from_outside(u->src(1 - i)))
        return Growth{g->step, u->src(1 - i)};
    const Growth* g = u->op == Op::SHL || u->op == Op::MUL ? of(u->src(0)) : nullptr;
    if (!g || g->start || !u->src(1)->is_const()) return {};
    return Growth{u->op == Op::SHL ? g->step << u->src(1)->arg(0) : g->step * u->src(1)->arg(0), nullptr};
  }
  Turns keep_growing(U range) {
    UMap<Growth> known;
    UMap<bool> asked;  // by what does not itself grow
    std::vector<U> order;
    Turns turns;
    int depth = 0;
    for (const Line* l = at_; l == at_ || depth; l++) {
      if (l->kind == Line::NODE && depth == 1)
        if (std::optional<Growth> g = growth(l->u, range, known)) known[l->u] = *g, order.push_back(l->u);
      depth += l->kind == Line::LOOP ? 1 : l->kind == Line::END ? -1 : 0;
    }
    depth = 0;
    for (const Line* l = at_; l == at_ || depth; l++) {
      depth += l->kind == Line::LOOP ? 1 : l->kind == Line::END ? -1 : 0;
      const bool node = l->kind == Line::NODE && !(l->u->op == Op::REDUCE && l->u->arg(1) >= 0);
      if (!node && l->kind != Line::UPDATE) continue;
      for (U s : node ? l->u->src() : l->u->src().first(1)) {
        if (!known.contains(l->u)) asked[s] = true, turns.counted |= s == range && l->u->op != Op::STORE;
        if (s->op == Op::INDEX && s->dtype != VOID)
          for (U x : s->src()) asked[x] = true;
      }
    }
    for (U u : order) {
      const Growth& g = *known.find(u);
      const bool number = u->op == Op::CAST;
      turns.counted |= number && asked.contains(u);
      if (!number) absorbed_[u] = true;
      if (number || !asked.contains(u)) continue;
      Operand r;
      if (u->op == Op::INDEX) {
        r = scalar(2);
        g.start ? sum_of_base(r, value(u->src(0)), value(g.start), false) : move(r, value(u->src(0)));
      } else {
        r = register_for(u);
        move(r, g.start ? value(g.start) : isa::imm(0));
      }
      define(u, r);
      turns.growing.push_back({r, i64(i32(u32(g.step)))});
    }
    for (U u : order)
      if (u->op == Op::CAST && !turns.counted) absorbed_[u] = true;
    return turns;
  }
  void loop(U range) {
    if (unsynchronised_ && loop_reads_local()) unsynchronised_ = false, ins("s_barrier", {}, CodeLine::FENCE);
    Turns turns = keep_growing(range);
    Operand counter = scalar();
    if (turns.counted) define(range, counter);
    ins("s_mov_b32", {counter, isa::imm(turns.counted ? 0 : -range->src(0)->arg(0))});
    turns.counter = counter;
    turns_.push_back(std::move(turns));
    mark(CodeLine::LOOP, -1, range);
    loop_labels_.push_back(next_label_);
    mark(CodeLine::LABEL, next_label_++, nullptr);
  }
  void end(U range) {
    const Turns turns = std::move(turns_.back());
    turns_.pop_back();
    if (filled_at_ && filled_at_ == loop_labels_.size())
      ins("s_barrier", {}, CodeLine::FENCE), filled_at_ = 0;  // nobody fills LDS again before all have read it
    for (auto& [r, step] : turns.growing) {
      if (r.bits == 64) {
        ins("s_add_u32", {part(r, 0), part(r, 0), isa::imm(step)});
        ins("s_addc_u32", {part(r, 1), part(r, 1), isa::imm(0)});
      } else if (is_vector(r)) {
        ins("v_add_nc_u32", {r, isa::imm(step), r});
      } else {
        ins("s_add_i32", {r, r, isa::imm(step)});
      }
    }
    ins(turns.counted ? "s_add_i32" : "s_add_u32", {turns.counter, turns.counter, isa::imm(1)});
    if (turns.counted) ins("s_cmp_lt_i32", {turns.counter, isa::imm(range->src(0)->arg(0))});
    CodeLine& jump = ins(turns.counted ? "s_cbranch_scc1" : "s_cbranch_scc0", {isa::imm(0)}, CodeLine::JUMP);
    jump.label = loop_labels_.back();
    loop_labels_.pop_back();
    mark(CodeLine::END, -1, range);
  }

  const Linear& linear_;
  const Target& target_;
  MachineCode code_;
  UMap<bool> scalar_;
  UMap<Operand> registers_, accumulators_, accumulator_of_;
  UMap<int> uses_, deferred_;  // deferred: how many nodes deep
  UMap<U> user_;
  std::vector<U> stored_;  // memory that the kernel writes
  UMap<int> chunk_of_;
  std::vector<Chunk> chunks_;
  std::map<i64, Operand> constants_;  // in scalar registers
  std::vector<int> loop_labels_;
  std::vector<Turns> turns_;
  UMap<bool> absorbed_;  // nobody needs its value, or a register holds it that grows
  U current_ = nullptr;
  const Line* at_ = nullptr;
  size_t filled_at_ = 0;         // loops around what fills LDS
  bool unsynchronised_ = false;  // LDS was filled, and other waves need not have done so yet
  i64 next_leaf_ = i64(1) << 32;
  int next_label_ = 0, prologue_ = 0;
};

// ---- after registers are known -------------------------------------------------------------------------------------
constexpr u32 spill_vectors_from = 255;  // scalars are spilled to lanes of vector registers, from here downwards

template <bool load>
void spill(const Operand& r, i64 offset, const Target&, std::vector<CodeLine>& out) {
  const bool to_lanes = r.cls == RegClass::SCALAR;
  const Operand base = isa::reg(RegClass::SCALAR, 32, rdna::NULL_REGISTER);
  for (int k = 0; k < r.bits / 32; k++, offset += 4) {
    Operand dword = r, lanes = isa::reg(RegClass::VECTOR, 32, spill_vectors_from - u32(offset / 128));
    dword.bits = 32, dword.reg += u32(k) << part_shift;
    const char* name =
        to_lanes ? (load ? "v_readlane_b32" : "v_writelane_b32") : (load ? "scratch_load_b32" : "scratch_store_b32");
    isa::Instruction& inst = out.emplace_back().inst;
    inst.row = &rdna::row_at(rdna::rows_called(name)[0]);
    auto put = [&](const Operand& o) { inst.op[inst.n++] = o; };
    const Operand there = to_lanes ? lanes : Operand{};
    put(load ? dword : there), put(load ? there : dword);
    if (!to_lanes) put(base);
    put(isa::imm(to_lanes ? offset / 4 % 32 : offset));
  }
}

}  // namespace

MachineCode select_rdna(const Linear& linear, const Target& target) { return Selector(linear, target).run(); }

const SpillCode spill_code_rdna = {spill<true>, spill<false>, true};

RegisterFile register_file_rdna(const Target&) {
  RegisterFile f;
  for (u32 i = 0; i < 106; i++) f.scalar.push_back(i);
  for (u32 i = 0; i < spill_vectors_from - 3; i++) f.vector.push_back(i);
  return f;
}

// Branches in dwords from the next instruction; s_endpgm; then code that the instruction prefetch may read.
void emit_rdna(const MachineCode& code, Program& program) {
  const isa::Isa& isa = *isa::find_isa("rdna", program.arch);
  std::vector<u8>& out = program.code;
  std::vector<i64> labels;
  struct Fix {
    size_t at;
    int label;
  };
  std::vector<Fix> fixes;
  auto put = [&](const isa::Instruction& i) { check(isa.encode(i, out), "rdna cannot encode ", isa.print(i)); };
  auto row = [&](const char* name) {
    isa::Instruction i;
    i.row = isa::rows_named(isa, name)[0];
    for (const OperandSpec& s : isa::operands_of(*i.row))
      if (!s.implicit) i.op[i.n++] = isa::imm(0);
    return i;
  };
  for (const CodeLine& line : code.lines) {
    if (line.kind == CodeLine::LABEL) {
      if (size_t(line.label) >= labels.size()) labels.resize(size_t(line.label) + 1, -1);
      labels[size_t(line.label)] = i64(out.size());
    }
    if (!line.inst.row) continue;
    note(program, line.u);
    isa::Instruction inst = line.inst;
    if (isa::name_of(*inst.row) == "v_fma_f32" && inst.op[2].cls != RegClass::VECTOR) std::swap(inst.op[1], inst.op[2]);
    if (isa::name_of(*inst.row) == "v_fma_f32" && inst.op[0] == inst.op[3] && inst.op[2].cls == RegClass::VECTOR &&
        !inst.op[1].modifiers && !inst.op[2].modifiers && !inst.modifiers) {
      inst.row = isa::rows_named(isa, "v_fmac_f32")[0];
      inst.n = 3;
    }
    if (line.kind == CodeLine::JUMP) fixes.push_back({out.size(), line.label});
    put(inst);
    for (const isa::Operand& o : std::span(inst.op).first(inst.n)) {
      if (o.kind != Operand::REG) continue;
      const int last = int(o.reg) + std::max(1, o.bits / 32);
      if (o.cls == RegClass::VECTOR) program.vectors = std::max(program.vectors, last);
      if (o.cls == RegClass::SCALAR && o.reg < 106) program.scalars = std::max(program.scalars, last);
    }
  }
  put(row("s_endpgm"));
  for (const Fix& f : fixes) {
    const i64 distance = (labels[size_t(f.label)] - i64(f.at) - 4) / 4;
    check(distance == i16(distance), "a branch over ", distance, " dwords");
    const i16 d = i16(distance);
    std::memcpy(&out[f.at], &d, 2);
  }
  program.code_bytes = i64(out.size());
  program.frame_bytes = code.frame_bytes;
  constexpr int prefetched = 64;  // dwords
  for (int i = 0; i < prefetched; i++) put(row("s_code_end"));
}

}  // namespace ingot
