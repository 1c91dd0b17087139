// SPDX-License-Identifier: MIT
// Instruction selection for x86: from placed UOps to instructions with virtual registers.
//
// Elementwise ops are selected by the rows' own meanings: a row whose pattern matches the node computes it, and the row
// that also takes a load, a broadcast or an immediate as it stands wins. What no pattern can say (moves, masks,
// comparisons through flags, lane shuffles) is a named sequence below. A LOAD with one user in the same loop body is
// not emitted by itself but offered to that user as a memory operand. Values: integers and idx of one lane in 32- or
// 64-bit general registers, narrow ones extended by their sign; bool 0 or 1; floats and vectors in vector registers;
// bool vectors in mask registers, or on AVX2 as lanes of all ones.
#include <algorithm>
#include <bit>
#include <unordered_map>
#include <unordered_set>
#include "compiler/codegen/codegen.h"

namespace ingot {
namespace {

using isa::Inst;
using isa::Operand;
using isa::OperandSpec;
using isa::RegClass;
constexpr u32 RAX = 0, RCX = 1, RDX = 2, RSP = 4, RSI = 6, RDI = 7;

// ---- the rows, indexed for one feature set -------------------------------------------------------------------------
struct Rows {
  std::vector<const Inst*> by_op[int(Op::COUNT)];  // with a meaning, by the root of its pattern
  u64 features;
};
const Rows& rows_for(u64 features) {
  auto build = [](u64 have) {
    Rows rows;
    rows.features = have;
    const isa::Isa& x86 = *isa::find_isa("x86");
    for (size_t i = 0; i < x86.rows; i++) {
      const Inst& row = x86.row(i);
      const isa::Effect* e = isa::effect_of(row);
      if (e && e->value.term[0].kind == Pat::Term::NODE && !(row.features & ~have))
        rows.by_op[e->value.term[0].v].push_back(&row);
    }
    return rows;
  };
  if (features & isa::x86::AVX512) {
    static const Rows wide = build(isa::x86::AVX2 | isa::x86::AVX512);
    return wide;
  }
  static const Rows narrow = build(isa::x86::AVX2);
  return narrow;
}

int vector_width(DType t) { return std::max(128, t.lanes * t.bits()); }
bool in_vector(DType t) { return t.lanes > 1 || t.is_float(); }
int scalar_width(DType t) { return t.bits() == 64 ? 64 : 32; }
bool wide_int(DType t) { return t.bits() == 64; }

class Selector {
 public:
  Selector(const Linear& linear, const Target& target)
      : linear_(linear), avx512_(target.features & isa::x86::AVX512), rows_(rows_for(target.features)) {}

  MachineCode run() {
    count_uses();
    params_ = new_register(RegClass::SCALAR, 64);
    begin_ = new_register(RegClass::SCALAR, 64);
    end_ = new_register(RegClass::SCALAR, 64);
    move(params_, gpr(RDI));
    move(begin_, gpr(RSI));
    move(end_, gpr(RDX));
    place_locals();
    for (size_t i = 0; i < linear_.lines.size(); i++) {
      const Line& line = linear_.lines[i];
      current_ = line.u;
      switch (line.kind) {
        case Line::INIT: init(line.u); break;
        case Line::UPDATE: update(line.u); break;
        case Line::LOOP: loop(line.u); break;
        case Line::END: end(line.u); break;
        case Line::NODE: node(line.u); break;
      }
    }
    code_.prologue = prologue_;
    return std::move(code_);
  }

 private:
  // ---- registers and emission --------------------------------------------------------------------------------------
  Operand new_register(RegClass cls, int bits) {
    code_.registers.push_back({cls, u16(bits)});
    return isa::reg(cls, bits, isa::first_virtual + u32(code_.registers.size()) - 1);
  }
  Operand register_for(DType t) {
    if (t.lanes > 1 && t.is_bool())
      return avx512_ ? new_register(RegClass::PREDICATE, 64)
                     : new_register(RegClass::VECTOR, std::max(128, t.lanes * 32));
    if (in_vector(t)) return new_register(RegClass::VECTOR, vector_width(t));
    return new_register(RegClass::SCALAR, scalar_width(t));
  }
  static Operand gpr(u32 number, int bits = 64) { return isa::reg(RegClass::SCALAR, bits, number); }
  static Operand resized(Operand o, int bits) {
    if (o.kind == Operand::REG) o.bits = u16(bits);
    return o;
  }
  static bool fits(const OperandSpec& s, const Operand& o) {
    switch (o.kind) {
      case Operand::REG:
        return s.cls == o.cls && s.bits == o.bits && !s.vector_index && (s.fixed < 0 || u32(s.fixed) == o.reg);
      case Operand::MEM:
        if (s.vector_index) return false;
        return o.broadcast ? s.broadcast_bits == o.bits : s.mem_bits == o.bits || s.mem_bits == 1;
      case Operand::IMM: {
        if (!s.imm_bits || s.pc_relative || s.vector_index) return false;
        if (s.fixed >= 0) return o.imm == s.fixed;
        i64 n = s.imm_bits == 64 ? 0 : i64(1) << (s.imm_unsigned ? s.imm_bits : s.imm_bits - 1);
        if (s.imm_unsigned && s.imm_bits == 32 && i32(o.imm) == o.imm) return true;  // written as its 32 bits
        return !n || (s.imm_unsigned ? o.imm >= 0 && o.imm < n : o.imm >= -n && o.imm < n);
      }
      default: return false;
    }
  }
  const Inst& find(const char* name, std::span<const Operand> ops, bool masked) {
    u64 key = u64(reinterpret_cast<uintptr_t>(name)) * 31 + masked;
    for (const Operand& o : ops) {
      i64 immediate = o.kind != Operand::IMM         ? 0
                      : o.imm == 1                   ? 1
                      : o.imm >= -128 && o.imm < 128 ? 2
                      : o.imm >= 0 && o.imm < 256    ? 3
                      : i32(o.imm) == o.imm          ? 4
                      : u32(o.imm) == o.imm          ? 5
                                                     : 6;
      u64 fixed = o.kind == Operand::REG && o.reg < isa::first_virtual ? o.reg + 1 : 0;
      key = (key ^ (u64(o.kind) | u64(o.cls) << 4 | u64(o.bits) << 8 | u64(o.broadcast) << 24 | u64(immediate) << 32 |
                    fixed << 40)) *
            0x9E3779B97F4A7C15ull;
    }
    thread_local std::unordered_map<u64, const Inst*> known;
    key ^= avx512_;
    if (auto at = known.find(key); at != known.end()) return *at->second;
    const Inst* best = nullptr;
    for (const Inst* row : rows_named(name)) {
      if (masked && !row->predicable) continue;
      bool ok = row->shown == ops.size();
      for (size_t i = 0; ok && i < ops.size(); i++) ok = fits(row->spec[i], ops[i]);
      // EVEX reaches all 32 registers; else the first, which is shorter
      if (ok && (!best || (avx512_ && is_evex(*row) && !is_evex(*best)))) best = row;
    }
    if (!best) {
      std::string text = name;
      for (const Operand& o : ops)
        text += str(" [kind ", int(o.kind), " class ", int(o.cls), " bits ", o.bits, " broadcast ", int(o.broadcast),
                    " imm ", o.imm, "]");
      check(best, "no row for ", text, masked ? " masked" : "");
    }
    known[key] = best;
    return *best;
  }
  std::vector<const Inst*> rows_named(const char* name) const {
    std::vector<const Inst*> list = isa::rows_named(*isa::find_isa("x86"), name);
    std::erase_if(list, [&](const Inst* row) { return row->features & ~rows_.features; });
    return list;
  }
  bool is_evex(const Inst& row) const { return row.features & isa::x86::AVX512; }

  // Mnemonics end with what they compute on: ps pd ss sd for floats, b w d q for integers.
  static const char* named(std::string text) {
    thread_local std::unordered_set<std::string> names;
    return names.insert(std::move(text)).first->c_str();
  }
  static const char* ps(DType t) { return t.bits() == 64 ? (t.lanes > 1 ? "pd" : "sd") : (t.lanes > 1 ? "ps" : "ss"); }
  static const char* dq(DType t) { return t.bits() == 8 ? "b" : t.bits() == 16 ? "w" : t.bits() == 32 ? "d" : "q"; }
  static const char* blend(DType t) { return t.bits() == 64 ? "vblendvpd" : "vblendvps"; }

  CodeLine& put(const Inst& row, std::span<const Operand> ops) {
    CodeLine line;
    line.inst.row = &row;
    line.inst.n = u8(ops.size());
    line.u = current_;
    for (size_t i = 0; i < ops.size(); i++) {
      const OperandSpec& s = row.spec[i];
      Operand& o = line.inst.op[i] = ops[i];
      if (o.kind == Operand::IMM && s.imm_unsigned && s.imm_bits == 32) o.imm = u32(o.imm);
      if (!is_evex(row) && o.kind == Operand::REG && o.cls == RegClass::VECTOR && o.reg >= isa::first_virtual)
        code_.registers[o.reg - isa::first_virtual].low = true;
    }
    code_.lines.push_back(line);
    return code_.lines.back();
  }
  CodeLine& ins(const char* name, std::initializer_list<Operand> ops) {
    std::span<const Operand> list(ops.begin(), ops.size());
    return put(find(name, list, false), list);
  }
  CodeLine& masked(const char* name, const Operand& mask, bool zeroing, std::initializer_list<Operand> ops) {
    std::span<const Operand> list(ops.begin(), ops.size());
    CodeLine& line = put(find(name, list, true), list);
    line.inst.predicate = mask.reg;
    line.inst.zeroing = zeroing;
    return line;
  }
  void move(const Operand& to, const Operand& from) {
    if (to == from) return;
    const char* name = to.cls == RegClass::SCALAR ? "mov" : to.cls == RegClass::PREDICATE ? "kmovq" : "vmovaps";
    ins(name, {to, from}).kind = CodeLine::MOVE;
  }
  void mark(CodeLine::Kind kind, U u, int label = -1) {
    CodeLine line;
    line.kind = kind, line.u = u, line.label = label;
    code_.lines.push_back(line);
  }
  void jump(const char* name, int to) {
    for (const Inst* row : rows_named(name))
      if (isa::operands_of(*row)[0].imm_bits == 32) {
        Operand zero = isa::imm(0);
        CodeLine& line = put(*row, std::span(&zero, 1));
        line.kind = CodeLine::JUMP;
        line.label = to;
        return;
      }
    check(false, "no rel32 form of ", name);
  }

  Operand number(i64 v, int bits) {
    Operand r = new_register(RegClass::SCALAR, bits);
    ins("mov", {r, isa::imm(v)});
    return r;
  }
  void broadcast(const Operand& r, const Operand& lane, int bits) {
    bool pair = bits == 64 && r.bits == 128;
    ins(pair ? "vmovddup" : named(str(bits >= 32 ? "vbroadcasts" : "vpbroadcast", lane_letter(bits))), {r, lane});
  }
  static const char* lane_letter(int bits) { return bits == 64 ? "d" : bits == 32 ? "s" : bits == 16 ? "w" : "b"; }
  Operand all_ones_where(const Operand& bit) {  // a 0 or 1 as lanes of a vector register
    Operand bits = new_register(RegClass::SCALAR, 64), mask = new_register(RegClass::VECTOR, 128);
    ins("mov", {resized(bits, 32), bit});
    ins("neg", {bits});
    ins("vmovq", {mask, bits});
    return mask;
  }

  // ---- literals ----------------------------------------------------------------------------------------------------
  Operand pool(const void* data, size_t bytes, int bits, int broadcast = 0) {
    size_t at = 0;
    for (; at + bytes <= code_.pool.size(); at += bytes)
      if (!std::memcmp(&code_.pool[at], data, bytes)) break;
    if (at + bytes > code_.pool.size()) {
      at = (code_.pool.size() + bytes - 1) / bytes * bytes;
      code_.pool.resize(at + bytes);
      std::memcpy(&code_.pool[at], data, bytes);
    }
    Operand o = isa::mem(bits, isa::no_register, i64(at));
    o.cls = RegClass::POINTER;
    o.broadcast = u8(broadcast);
    return o;
  }
  static u64 lane_bits(U c, int lane) {
    i64 v = c->arg(c->narg == 1 ? 0 : lane);
    return c->dtype.is_float() ? encode_float(std::bit_cast<double>(v), c->dtype.element()) : u64(v);
  }
  Operand literal(U c) {  // a CONST in the pool, as a memory operand of the register's width (or one repeated lane)
    DType t = c->dtype;
    int lanes = t.lanes, bits = t.bits();
    if (t.is_bool()) bits = 32;
    if (c->narg == 1) {
      u64 v = t.is_bool() ? (lane_bits(c, 0) ? ~u64(0) : 0) : lane_bits(c, 0);
      return pool(&v, size_t(bits / 8), bits, lanes > 1 ? vector_width(t.with_lanes(lanes)) / bits : 0);
    }
    std::vector<u8> bytes(size_t(std::max(128, lanes * bits) / 8));
    for (int i = 0; i < lanes; i++) {
      u64 v = t.is_bool() ? (lane_bits(c, i) ? ~u64(0) : 0) : lane_bits(c, i);
      std::memcpy(&bytes[size_t(i * bits / 8)], &v, size_t(bits / 8));
    }
    return pool(bytes.data(), bytes.size(), int(bytes.size()) * 8);
  }
  Operand constant_register(U c) {
    DType t = c->dtype;
    Operand r = register_for(t);
    code_.registers[r.reg - isa::first_virtual].constant = int(code_.constants.size());
    std::vector<CodeLine> body;
    body.swap(code_.lines);
    if (t.lanes > 1 && t.is_bool() && avx512_) {
      u64 mask = 0;
      for (int i = 0; i < t.lanes; i++) mask |= u64(lane_bits(c, i) & 1) << i;
      ins("kmovq", {r, pool(&mask, 8, 64)});
    } else if (!in_vector(t)) {
      i64 v = i64(lane_bits(c, 0));
      ins("mov", {r, isa::imm(r.bits == 32 ? i64(i32(v)) : v)});
    } else if (c->narg == 1 && lane_bits(c, 0) == 0) {
      ins(avx512_ ? "vpxord" : "vpxor", {r, r, r});
      Operand* op = code_.lines.back().inst.op;  // reads nothing: the sources are the result itself
      op[1] = op[2] = op[0];
    } else if (t.lanes == 1) {
      Operand m = literal(c);
      if (t.bits() < 32) {  // a half in the low bits
        u32 v = u32(lane_bits(c, 0));
        m = pool(&v, 4, 32);
      }
      ins(t.bits() == 64 ? "vmovsd" : "vmovss", {r, m});
    } else {
      Operand m = literal(c);
      if (m.broadcast) {
        m.broadcast = 0;
        broadcast(r, m, m.bits);
      } else {
        ins("vmovups", {r, m});
      }
    }
    check(code_.lines.size() == 1, "a constant takes one instruction");
    code_.constants.push_back(code_.lines[0]);
    code_.lines.swap(body);
    return r;
  }

  // ---- values ------------------------------------------------------------------------------------------------------
  Operand value(U u) {
    if (Operand* r = registers_.find(u)) return *r;
    if (u->op == Op::CONST) {
      Operand r = constant_register(u);
      return registers_[u] = r;
    }
    if (u->op == Op::PARAM) {  // loaded once, before everything
      Operand r = registers_[u] = new_register(RegClass::SCALAR, 64);
      indexed_memory(r) = int(u->arg(0));
      CodeLine line;
      Operand ops[] = {r, isa::mem(64, params_.reg, u->arg(0) * 8)};
      line.inst.row = &find("mov", ops, false);
      line.inst.n = 2, line.inst.op[0] = ops[0], line.inst.op[1] = ops[1];
      line.u = u;
      code_.lines.insert(code_.lines.begin() + prologue_++, line);
      return r;
    }
    if (u->op == Op::AFTER) return value(u->src(0));
    check(deferred_.contains(u), "value of ", u, " is not computed yet");
    deferred_[u] = false;
    emit(u);
    return *registers_.find(u);
  }
  static constexpr int first_local = 1 << 20;  // VirtualRegister::memory of LOCALs, behind the PARAMs
  int& indexed_memory(const Operand& base) { return code_.registers[base.reg - isa::first_virtual].memory; }
  void define(U u, const Operand& r) { registers_[u] = r; }
  Operand result(U u) {  // where the value of u goes: its accumulator if it is part of an update
    Operand* acc = accumulator_of_.find(u);
    Operand r = acc ? *acc : register_for(u->dtype);
    return registers_[u] = r;
  }
  bool is_deferred(U u) const {
    const bool* d = deferred_.find(u);
    return d && *d;
  }

  // LOCALs stand one after another in the memory that the launch gives.
  void place_locals() {
    Operand local;
    for (const Line& line : linear_.lines) {
      U memory = line.kind == Line::NODE && line.u->op == Op::STORE ? line.u->src(0)->src(0) : nullptr;
      if (!memory || memory->op != Op::LOCAL || registers_.contains(memory)) continue;
      if (local.kind == Operand::NONE) move(local = new_register(RegClass::SCALAR, 64), gpr(RCX));
      Operand r = local;
      if (code_.local_bytes)
        ins("lea", {r = new_register(RegClass::SCALAR, 64), isa::mem(1, local.reg, code_.local_bytes)});
      registers_[memory] = r;
      indexed_memory(r) = first_local + int(memory->arg(0));
      code_.local_bytes += (memory->arg(1) * memory->dtype.bytes() + 63) / 64 * 64;
    }
    prologue_ = int(code_.lines.size());
  }

  // An offset plus a constant that fits an instruction's displacement is never computed by itself.
  static bool is_displacement(U u) {
    return u->op == Op::ADD && u->dtype.scalar == Scalar::IDX && u->src(1)->is_const() &&
           std::abs(u->src(1)->arg(0)) < i64(1) << 27;
  }
  void count_uses() {
    for (const Line& line : linear_.lines) {
      if (line.kind == Line::NODE || line.kind == Line::UPDATE)
        for (U s : line.u->src()) {
          if (s->op != Op::INDEX)
            needed_[s] = true;
          else if (s->nsrc > 2)
            needed_[s->src(2)] = needed_[s->src(1)] = true;
        }
      if (line.kind == Line::UPDATE) {
        uses_[line.u->src(0)]++;
        mark_update(line.u);
      }
      if (line.kind != Line::NODE) continue;
      if (line.u->op == Op::STORE) stored_.push_back(line.u->src(0)->src(0));
      if (line.u->op == Op::REDUCE) continue;
      for (U s : line.u->src()) {
        uses_[s]++;
        if (s->op == Op::INDEX)
          for (U x : s->src()) uses_[x]++;
        last_user_[s] = line.u;
      }
    }
  }
  // The value that `u` updates, if u may compute in its register: FMA and the reduction's own op do, and so does either
  // under a mask where the masked lanes keep that value.
  static U updated(U u) {
    if (u->op == Op::FMA) return u->src(2);
    if (u->op == Op::WHERE) {
      U before = u->src(1)->op == Op::WHERE ? nullptr : updated(u->src(1));
      bool keeps = before && (before == u->src(2) ||
                              (before->op == Op::WHERE && before->src(0) == u->src(0) && before->src(2) == u->src(2)));
      return keeps ? before : nullptr;
    }
    return u->nsrc == 2 && has(u->op, ALU) ? u->src(u->src(1)->op == Op::ACC) : nullptr;
  }
  // Nodes on the way from an accumulator to its update compute in the accumulator's own register.
  void mark_update(U reduce) {
    Operand acc = register_for(reduce->dtype);
    accumulators_[reduce] = acc;
    U acc_node = make(Op::ACC, reduce->dtype, {}, {reduce->arg(1)});
    std::vector<U> chain;
    U u = reduce->src(0);
    for (; u && u != acc_node; u = updated(u)) {
      if (u->op != Op::FMA && u->op != Op::WHERE && u->op != Op(reduce->arg(0))) return;
      chain.push_back(u);
    }
    if (!u) return;
    for (U link : chain) accumulator_of_[link] = acc;
  }
  bool may_fold(U u) const {  // a LOAD that its one user can take as memory
    const int* d = linear_.depth.find(u);
    U user = last_user_.find(u) ? *last_user_.find(u) : nullptr;
    if (!user || *uses_.find(u) != 1 || !d) return false;
    const int* at = linear_.depth.find(user);
    return at && *at == *d;
  }
  void node(U u) {
    if (u->op == Op::AFTER || (is_displacement(u) && !needed_.contains(u))) return;
    if (u->op == Op::REDUCE) {
      if (u->arg(1) >= 0) define(u, *accumulators_.find(u));
      return;
    }
    bool defer = false;
    if (u->op == Op::LOAD)
      defer = may_fold(u) && std::ranges::find(stored_, u->src(0)->src(0)) == stored_.end();
    else if (u->op == Op::VECTORIZE && u->nsrc == 1)
      defer = may_fold(u) && u->src(0)->op == Op::LOAD && is_deferred(u->src(0));
    else if (U* user = last_user_.find(u); user && avx512_ && u->dtype.lanes > 1 && (*user)->op == Op::WHERE &&
                                           accumulator_of_.find(*user) && (*user)->src(1) == u && !u->dtype.is_bool())
      defer = may_fold(u) && (u->op == Op::FMA || u->op == Op::ADD || u->op == Op::MUL) && u->dtype.is_float();
    else if (has(u->op, TO_BOOL))
      defer = may_fold(u) && (*last_user_.find(u))->op == Op::WHERE;
    if (defer)
      deferred_[u] = true;
    else
      emit(u);
  }

  // ---- memory ------------------------------------------------------------------------------------------------------
  Operand address(U index, int bits) {
    U offset = index->src(1);
    i64 displacement = 0;
    if (offset->op == Op::ADD && offset->src(1)->is_const())
      displacement = offset->src(1)->arg(0), offset = offset->src(0);
    if (offset->is_const()) displacement += offset->arg(0), offset = nullptr;
    int size = index->src(0)->dtype.bytes();
    displacement *= size;
    Operand base = value(index->src(0));
    if (displacement > 0x7fffffff || displacement < -i64(0x80000000)) {  // too far for a displacement: computed
      Operand at = number(displacement, 64), sum = new_register(RegClass::SCALAR, 64);
      ins("lea", {sum, isa::mem(1, base.reg, 0, at.reg, 1)});
      indexed_memory(sum) = indexed_memory(base);
      base = sum, displacement = 0;
    }
    return isa::mem(bits, base.reg, displacement, offset ? value(offset).reg : isa::no_register, size);
  }
  // A condition on a scalar access: the offset becomes 0 where it fails, so that the address is always good.
  Operand guarded_address(U index, int bits) {
    Operand c = value(index->src(2)), offset = value(index->src(1)), base = value(index->src(0)), at = number(0, 64);
    ins("test", {c, c});
    ins("cmovne", {at, offset});
    return isa::mem(bits, base.reg, 0, at.reg, index->src(0)->dtype.bytes());
  }
  void load_scalar(U u, const Operand& r, const Operand& m) {
    DType t = u->dtype;
    Operand from = m;
    from.bits = u16(t.bits());
    if (t.is_float()) {
      if (t.bits() >= 32) {
        ins(t.bits() == 64 ? "vmovsd" : "vmovss", {r, from});
      } else {
        Operand w = new_register(RegClass::SCALAR, 32);
        ins("movzx", {w, from});
        ins("vmovd", {r, w});
      }
    } else if (t.bits() >= 32) {
      ins("mov", {r, from});
    } else {
      ins(t.is_signed() ? "movsx" : "movzx", {r, from});
    }
  }
  static const char* vector_move(DType t, bool masks) {
    if (t.is_float() && t.bits() == 32) return "vmovups";
    if (t.is_float() && t.bits() == 64) return "vmovupd";
    return masks ? named(str("vmovdqu", t.bits())) : "vmovups";
  }
  void load(U u) {
    U index = u->src(0);
    DType t = u->dtype;
    Operand r = result(u);
    if (t.lanes == 1) {
      if (index->nsrc == 2) return load_scalar(u, r, address(index, t.bits()));
      Operand m = guarded_address(index, t.bits()), c = value(index->src(2));
      if (in_vector(t)) {
        Operand loaded = new_register(RegClass::VECTOR, 128);
        load_scalar(u, loaded, m);
        ins(avx512_ ? "vpandq" : "vpand", {r, all_ones_where(c), loaded});
      } else {
        load_scalar(u, r, m);
        Operand zero = number(0, r.bits);
        ins("test", {c, c});
        ins("cmove", {r, zero});
      }
      return;
    }
    int width = t.lanes * t.bits();
    if (index->nsrc == 2) {
      Operand m = address(index, width);
      if (width < 128)
        ins(width == 64 ? "vmovq" : width == 32 ? "vmovd" : "vpinsrw", {r, m});
      else
        ins(vector_move(t, avx512_), {r, m});
      return;
    }
    Operand mask = value(index->src(2));
    Operand m = address(index, r.bits);
    if (avx512_)
      masked(vector_move(t, true), mask, true, {r, m});
    else
      ins(t.is_float() ? "vmaskmovps" : "vpmaskmovd", {r, mask, m});
  }
  void store_scalar(DType t, const Operand& m, const Operand& r) {
    if (t.is_float() && t.bits() >= 32) return void(ins(t.bits() == 64 ? "vmovsd" : "vmovss", {m, r}));
    Operand w = t.is_float() ? new_register(RegClass::SCALAR, 32) : r;
    if (t.is_float()) ins("vmovd", {w, r});
    ins("mov", {m, resized(w, t.bits())});
  }
  void store(U u) {
    U index = u->src(0), v = u->src(1);
    DType t = v->dtype;
    if (t.lanes == 1) {
      int skip = -1;
      Operand r = value(v), c;
      if (index->nsrc > 2) c = value(index->src(2));
      Operand m = address(index, t.bits());
      if (index->nsrc > 2) {
        ins("test", {c, c});
        jump("je", skip = next_label_++);
      }
      store_scalar(t, m, r);
      if (skip >= 0) mark(CodeLine::LABEL, nullptr, skip);
      return;
    }
    int width = t.lanes * t.bits();
    Operand r = value(v);
    if (index->nsrc == 2) {
      Operand m = address(index, width);
      if (width < 128)
        ins(width == 64 ? "vmovq" : "vmovd", {m, r});
      else
        ins(vector_move(t, avx512_), {m, r});
      return;
    }
    Operand mask = value(index->src(2)), m = address(index, r.bits);
    if (avx512_)
      masked(vector_move(t, true), mask, false, {m, r});
    else
      ins(t.is_float() ? "vmaskmovps" : "vpmaskmovd", {m, mask, r});
  }

  // ---- selection by meaning ----------------------------------------------------------------------------------------
  // An operand for hole
  // `x` at a position of a row: memory or an immediate if the row takes it as it stands. cost: lower is better.
  bool operand_for(U x, const OperandSpec& s, Operand& out, int& cost, bool commit) {
    if (x->op == Op::CONST && x->dtype.lanes == 1 && !x->dtype.is_float() && s.imm_bits && s.fixed < 0) {
      Operand i = isa::imm(x->arg(0));
      if (scalar_width(x->dtype) == 32) i.imm = s.imm_unsigned ? i64(u32(x->arg(0))) : i64(i32(x->arg(0)));
      if (fits(s, i)) {
        out = i;
        return true;
      }
    }
    if (s.imm_bits) return false;
    if (s.mem_bits || s.broadcast_bits) {
      U load = x->op == Op::VECTORIZE && x->nsrc == 1 && is_deferred(x) ? x->src(0) : x;
      if (load->op == Op::LOAD && is_deferred(load) && load->src(0)->nsrc == 2) {
        bool repeated = load != x;
        int bits = repeated ? load->dtype.bits() : x->dtype.lanes * x->dtype.bits();
        bool ok = repeated ? s.broadcast_bits == bits && in_vector(x->dtype) && vector_width(x->dtype) == s.bits
                           : s.mem_bits == bits && (x->dtype.lanes > 1 || x->dtype.is_float() || bits == s.bits);
        if (ok) {
          cost -= 2;
          if (commit) {
            out = address(load->src(0), bits);
            if (repeated) out.broadcast = u8(s.bits / bits);
            deferred_[x] = deferred_[load] = false;
          }
          return true;
        }
      }
    }
    DType t = x->dtype;
    bool vector = in_vector(t);
    if (t.lanes > 1 && t.is_bool()) {
      if (s.cls != (avx512_ ? RegClass::PREDICATE : RegClass::VECTOR)) return false;
    } else if (s.cls != (vector ? RegClass::VECTOR : RegClass::SCALAR) ||
               s.bits != (vector ? vector_width(t) : scalar_width(t))) {
      return false;
    }
    if (s.fixed >= 0) return false;
    if (commit) out = resized(value(x), s.bits);
    return true;
  }
  bool by_meaning(U u) {
    const Inst* best = nullptr;
    Match best_match;
    int best_cost = 1 << 20;
    DType t = u->dtype;
    for (const Inst* row : rows_.by_op[int(u->op)]) {
      DType rt = isa::dtype_of(*row);
      bool same_size_int = rt.is_int() && t.is_int() && rt.bits() == t.bits() && u->op != Op::CAST &&
                           u->op != Op::SHR && u->op != Op::CMPLT && u->op != Op::MIN && u->op != Op::MAX &&
                           u->op != Op::IDIV && u->op != Op::MOD && u->op != Op::WHERE;
      bool index = t.scalar == Scalar::IDX && rt.scalar == Scalar::I64;
      if (rt.scalar != t.scalar && !same_size_int && !index) continue;
      if ((rt.lanes == 1) != (t.lanes == 1)) continue;
      std::span<const OperandSpec> specs = isa::operands_of(*row);
      const isa::Effect& e = *isa::effect_of(*row);
      const OperandSpec& target = specs[size_t(e.target)];
      if (target.implicit || (in_vector(t) ? target.cls != RegClass::VECTOR || target.bits != vector_width(t)
                                           : target.cls != RegClass::SCALAR || target.bits != scalar_width(t)))
        continue;
      Match m;
      if (!match(e.value, u, m)) continue;
      int cost = row->latency + (avx512_ && !is_evex(*row) && in_vector(t) ? 1 : 0);
      bool ok = true;
      for (size_t i = 0; ok && i < specs.size(); i++) {
        if (specs[i].implicit) {
          ok = specs[i].cls == RegClass::FLAGS || specs[i].fixed >= 0;
          if (specs[i].cls != RegClass::FLAGS && specs[i].cls != RegClass::NONE && !specs[i].imm_bits) ok = false;
          continue;
        }
        Operand o;
        if (i < 8 && m.at[i]) {
          if (int(i) == e.target) {
            cost += 1;  // its source is overwritten: a copy
            Operand *acc = accumulator_of_.find(u), *source = registers_.find(m.at[i]);
            if (acc) cost += source && *source == *acc ? -4 : 4;  // an accumulator stays where it is
            ok = !(m.at[i]->dtype.lanes > 1 && m.at[i]->dtype.is_bool());
          } else {
            ok = operand_for(m.at[i], specs[i], o, cost, false);
          }
        } else if (int(i) != e.target) {
          ok = specs[i].cls == RegClass::VECTOR;  // not in the meaning: upper lanes come from anywhere
        }
      }
      if (ok && cost < best_cost) best = row, best_cost = cost, best_match = m;
    }
    if (!best) return false;
    std::span<const OperandSpec> specs = isa::operands_of(*best);
    const isa::Effect& e = *isa::effect_of(*best);
    Operand ops[isa::max_operands];
    size_t n = 0;
    int unused = 0;
    Operand tied;
    for (size_t i = 0; i < specs.size(); i++) {
      if (specs[i].implicit) continue;
      n++;
      if (int(i) == e.target) {
        if (best_match.at[i]) tied = value(best_match.at[i]);
      } else if (best_match.at[i]) {
        operand_for(best_match.at[i], specs[i], ops[i], unused, true);
      }
    }
    Operand r = result(u);
    if (tied.kind == Operand::REG) {
      for (size_t i = 0; i < n; i++)  // a source in the destination would be overwritten by the copy
        if (int(i) != e.target && !(tied == r) && ops[i].kind == Operand::REG && ops[i].reg == r.reg) {
          Operand t2 = new_register(r.cls, r.bits);
          move(t2, resized(ops[i], r.bits));
          ops[i] = resized(t2, ops[i].bits);
        }
      move(r, tied);
    }
    ops[e.target] = r;
    for (size_t i = 0; i < n; i++)
      if (ops[i].kind == Operand::NONE) ops[i] = upper_source(specs[i], ops, n);
    put(*best, std::span<const Operand>(ops, n));
    return true;
  }
  Operand upper_source(const OperandSpec& s, const Operand* ops, size_t n) {
    for (size_t i = 1; i < n; i++)
      if (ops[i].kind == Operand::REG && ops[i].cls == s.cls && ops[i].bits == s.bits) return ops[i];
    U zero = constant_float(F32, 0);
    return resized(value(zero), s.bits);
  }
  // ---- named sequences ---------------------------------------------------------------------------------------------
  void emit(U u) {
    current_ = u;
    DType t = u->dtype;
    switch (u->op) {
      case Op::LOAD: return load(u);
      case Op::STORE: return store(u);
      case Op::VECTORIZE: return vectorize(u);
      case Op::EXTRACT: return extract(u);
      case Op::BITCAST: return bitcast(u);
      case Op::CAST: return cast_to(u);
      case Op::WHERE:
        if (by_meaning(u)) return;
        return select(u);
      case Op::CMPLT:
      case Op::CMPEQ:
      case Op::CMPNE: return compare(u);
      case Op::AND:
      case Op::OR:
      case Op::XOR:
        if (t.is_bool()) return logic(u);
        break;
      case Op::SHL:
      case Op::SHR: return shift(u);
      case Op::NEG:
        if (in_vector(t)) return negate(u);
        break;
      case Op::ROUND:
      case Op::FLOOR:
      case Op::TRUNC: return round(u);
      case Op::MIN:
      case Op::MAX: return extreme(u);
      case Op::IDIV:
      case Op::MOD: return divide(u);
      case Op::MUL:
        if (!in_vector(t)) return multiply(u);
        break;
      case Op::ADD:
        if (!in_vector(t) && scalar_width(t) == 64) return add(u);
        break;
      default: break;
    }
    if (by_meaning(u)) return;
    fallback(u);
  }
  [[noreturn]] static void fallback(U u) {
    throw Error("x86: no row computes ", u->op, " ", u->dtype, u->nsrc ? str(" from ", u->src(0)->dtype) : "");
  }

  void add(U u) {  // three-operand addition through lea, constants as displacements
    Operand a = value(u->src(0));
    U y = u->src(1);
    bool near = y->is_const() && i32(y->arg(0)) == y->arg(0);
    Operand sum = near ? isa::mem(1, a.reg, y->arg(0)) : isa::mem(1, a.reg, 0, value(y).reg, 1);
    ins("lea", {result(u), sum});
  }
  void multiply(U u) {
    Operand a = value(u->src(0));
    U y = u->src(1);
    if (y->is_const()) {
      i64 k = y->arg(0);
      Operand r = result(u);
      if (k > 0 && (k & (k - 1)) == 0) {
        move(r, a);
        ins("shl", {r, isa::imm(std::countr_zero(u64(k)))});
        return;
      }
      if (i32(k) == k) return void(ins("imul", {r, a, isa::imm(k)}));
    }
    Operand b = value(y), r = result(u);
    move(r, a);
    ins("imul", {r, b});
  }
  void shift(U u) {
    DType t = u->dtype;
    U by = u->src(1);
    bool left = u->op == Op::SHL;
    Operand a = value(u->src(0));
    if (in_vector(t)) {
      bool immediate = by->is_const() && by->narg == 1;
      Operand b = immediate ? isa::imm(by->arg(0)) : value(by), r = result(u);
      const char* name = left ? "vpsll" : t.is_signed() ? "vpsra" : "vpsrl";
      ins(named(str(name, immediate ? "" : "v", wide_int(t) ? "q" : "d")), {r, a, b});
      return;
    }
    const char* name = left ? "shl" : t.is_signed() ? "sar" : "shr";
    if (by->is_const()) {
      Operand r = result(u);
      move(r, a);
      if (by->arg(0)) ins(name, {r, isa::imm(by->arg(0))});
      return;
    }
    Operand b = resized(value(by), a.bits), r = result(u);
    ins(left ? "shlx" : t.is_signed() ? "sarx" : "shrx", {r, a, b});
  }
  void negate(U u) {
    DType t = u->dtype;
    U zero = t.lanes > 1 ? constant(t, 0) : constant(t.element(), 0);
    if (!t.is_float()) {
      Operand a = value(u->src(0)), z = value(zero), r = result(u);
      ins(wide_int(t) ? "vpsubq" : "vpsubd", {r, z, a});
      return;
    }
    DType bits = t.bits() == 64 ? I64 : I32;
    Operand sign = value(make(Op::CONST, bits.with_lanes(int(vector_width(t)) / t.bits()), {},
                              {wrap_to(i64(u64(1) << (t.bits() - 1)), bits)}));
    Operand a = value(u->src(0)), r = result(u);
    ins(avx512_ ? (t.bits() == 64 ? "vpxorq" : "vpxord") : "vpxor", {r, a, sign});
  }
  void round(U u) {
    DType t = u->dtype;
    Operand a = value(u->src(0)), r = result(u);
    Operand mode = isa::imm(u->op == Op::ROUND ? 8 : u->op == Op::FLOOR ? 9 : 11);  // 8: no inexact exception
    const char* name = named(str(avx512_ ? "vrndscale" : "vround", ps(t)));
    t.lanes == 1 ? ins(name, {r, a, a, mode}) : ins(name, {r, a, mode});
  }
  // MIN and MAX give NaN if either source is; the instruction gives its second source then. With a constant second that
  // suffices the other way round; otherwise a sum (NaN if either is) replaces the result where the sources are
  // unordered.
  void extreme(U u) {
    DType t = u->dtype;
    bool largest = u->op == Op::MAX;
    if (t.is_float()) {
      const char* name = named(str(largest ? "vmax" : "vmin", ps(t)));
      U x = u->src(0), y = u->src(1);
      Operand a = value(x), b = value(y);
      auto number = [](U c) { return c->is_const() && c->narg == 1 && c->const_float() == c->const_float(); };
      if (number(y)) return void(ins(name, {result(u), b, a}));
      const char *unordered = named(str("vcmpunord", ps(t))), *add = named(str("vadd", ps(t)));
      Operand m = new_register(RegClass::VECTOR, a.bits);
      Operand k = avx512_ ? new_register(RegClass::PREDICATE, 64) : new_register(RegClass::VECTOR, a.bits);
      Operand sum = avx512_ ? m : new_register(RegClass::VECTOR, a.bits), r = result(u);
      ins(unordered, {k, a, b});
      ins(name, {m, a, b});
      if (avx512_) {
        masked(add, k, false, {m, a, b});
        move(r, m);
      } else {
        ins(add, {sum, a, b});
        ins(blend(t), {r, m, sum, k});
      }
      return;
    }
    Operand a = value(u->src(0)), b = value(u->src(1)), r = result(u);
    if (in_vector(t)) {
      const char* name = named(str(largest ? "vpmax" : "vpmin", t.is_signed() ? "s" : "u", dq(t)));
      ins(name, {r, a, b});
      return;
    }
    Operand chosen = new_register(RegClass::SCALAR, r.bits);
    move(chosen, a);
    ins("cmp", {a, b});
    ins(t.is_signed() ? (largest ? "cmovl" : "cmovg") : (largest ? "cmovb" : "cmova"), {chosen, b});
    move(r, chosen);
  }
  static constexpr const char* relations[] = {"lt", "eq", "neq"};
  void compare(U u) {
    U x = u->src(0), y = u->src(1);
    DType t = x->dtype;
    int which = u->op == Op::CMPLT ? 0 : u->op == Op::CMPEQ ? 1 : 2;
    if (t.lanes > 1) {
      if (t.is_bool()) {  // of masks: equal is not xor, less is not a and b
        logic_of_masks(u, which);
        return;
      }
      Operand a = value(x), b = value(y), r = result(u);
      if (t.is_float() || avx512_) {
        const char* sign = which == 0 && !t.is_signed() ? "u" : "";
        ins(named(t.is_float() ? str("vcmp", relations[which], ps(t))
                               : str("vpcmp", relations[which], sign, wide_int(t) ? "q" : "d")),
            {r, a, b});
        return narrow_mask(r, t);
      }
      which ? ins("vpcmpeqd", {r, a, b}) : ins("vpcmpgtd", {r, b, a});
      if (which == 2) ins("vpxor", {r, r, value(make(Op::CONST, I32.with_lanes(r.bits / 32), {}, {-1}))});
      return;
    }
    if (t.is_float()) {
      Operand mask = float_compare(u), r = result(u);
      ins("vmovd", {r, mask});
      ins("and", {r, isa::imm(1)});
      return;
    }
    const char* condition = int_compare(u);
    Operand r = result(u);
    ins(named(str("set", condition)), {resized(r, 8)});
    ins("movzx", {r, resized(r, 8)});
  }
  // A mask register's bits above the lanes are zero: fewer than 8 lanes of a 128-bit comparison may leave some set.
  void narrow_mask(const Operand& r, DType t) {
    if (!avx512_ || t.lanes * t.bits() >= 128) return;
    Operand keep = value(make(Op::CONST, BOOL.with_lanes(t.lanes), {}, {1}));
    ins("kandw", {r, r, keep});
  }
  Operand float_compare(U u) {  // all ones or zeros in the low lane
    DType t = u->src(0)->dtype;
    int which = u->op == Op::CMPLT ? 0 : u->op == Op::CMPEQ ? 1 : 2;
    Operand a = value(u->src(0)), b = value(u->src(1)), mask = new_register(RegClass::VECTOR, 128);
    ins(named(str("vcmp", relations[which], ps(t))), {mask, a, b});
    return mask;
  }
  const char* int_compare(U u) {  // sets the flags; returns the condition
    U x = u->src(0), y = u->src(1);
    Operand a = value(x);
    bool immediate = y->is_const() && i32(y->arg(0)) == y->arg(0);
    ins("cmp", {a, immediate ? isa::imm(y->arg(0)) : value(y)});
    return u->op == Op::CMPEQ ? "e" : u->op == Op::CMPNE ? "ne" : x->dtype.is_signed() ? "l" : "b";
  }
  void logic(U u) {
    DType t = u->dtype;
    Operand a = value(u->src(0)), b = value(u->src(1)), r = result(u);
    const char* name = u->op == Op::AND ? "and" : u->op == Op::OR ? "or" : "xor";
    if (t.lanes > 1) return void(ins(named(str(avx512_ ? "k" : "vp", name, avx512_ ? "q" : "")), {r, a, b}));
    Operand both = new_register(RegClass::SCALAR, 32);
    move(both, a);
    ins(name, {both, b});
    move(r, both);
  }
  void logic_of_masks(U u, int which) {
    Operand a = value(u->src(0)), b = value(u->src(1)), r = result(u);
    Operand ones = value(make(Op::CONST, BOOL.with_lanes(u->dtype.lanes), {}, {1}));
    const char* names[] = {avx512_ ? "kandnq" : "vpandn", avx512_ ? "kxorq" : "vpxor"};
    ins(names[which != 0], {r, a, b});
    if (which == 1) ins(avx512_ ? "kxorq" : "vpxor", {r, r, ones});
  }

  void select(U u) {
    DType t = u->dtype;
    U c = u->src(0), x = u->src(1), y = u->src(2);
    if (t.lanes > 1) {
      if (t.is_bool()) {  // (c and x) or (not c and y)
        Operand m = value(c), a = value(x), b = value(y), r = result(u);
        Operand p = register_for(t), q = register_for(t);
        ins(avx512_ ? "kandq" : "vpand", {p, m, a});
        ins(avx512_ ? "kandnq" : "vpandn", {q, m, b});
        ins(avx512_ ? "korq" : "vpor", {r, p, q});
        return;
      }
      Operand m = value(c);
      if (accumulator_of_.contains(u) && is_deferred(x) && has(x->op, ALU) &&
          value(updated(u)) == *accumulator_of_.find(u)) {
        Operand acc = *accumulator_of_.find(u);
        deferred_[x] = false;  // the update itself, under the mask
        accumulator_of_[x] = acc;
        check(by_meaning(x), "x86: no row updates with ", x->op);
        isa::Instruction& last = code_.lines.back().inst;
        check(last.row->predicable && last.op[0] == acc, "x86: ", isa::name_of(*last.row),
              " cannot update under a mask");
        last.predicate = m.reg;
        define(u, acc);
        return;
      }
      Operand a = value(x), b = value(y);
      Operand r = result(u);
      if (!avx512_) return void(ins(blend(t), {r, b, a, m}));
      const char* name = named(t.is_float() && t.bits() >= 32 ? str("vblendm", ps(t)) : str("vpblendm", dq(t)));
      masked(name, m, false, {r, b, a});
      return;
    }
    if (in_vector(t)) {
      Operand mask;
      if (is_deferred(c) && has(c->op, TO_BOOL) && c->src(0)->dtype == t && t.bits() >= 32) {
        deferred_[c] = false;
        mask = float_compare(c);
      } else {
        mask = all_ones_where(value(c));
      }
      Operand a = value(x), b = value(y), r = result(u);
      ins(blend(t), {r, b, a, mask});
      return;
    }
    Operand a = value(x), b = value(y), chosen = new_register(RegClass::SCALAR, scalar_width(t));
    const char* condition = "ne";
    if (is_deferred(c) && has(c->op, TO_BOOL) && !c->src(0)->dtype.is_float()) {
      deferred_[c] = false;
      for (U s : c->src())  // before the flags are set
        if (!(s->is_const() && i32(s->arg(0)) == s->arg(0))) value(s);
      condition = int_compare(c);
    } else {
      Operand bit = value(c);
      ins("test", {bit, bit});
    }
    move(chosen, b);  // mov keeps the flags
    ins(named(str("cmov", condition)), {chosen, a});
    move(result(u), chosen);
  }

  void divide(U u) {  // floor; 0 where the divisor is 0. Unsigned and provably non-negative values need no correction
    DType t = u->dtype;
    int bits = scalar_width(t);
    Operand a = value(u->src(0)), b = value(u->src(1)), r = result(u);
    bool positive = t.is_unsigned() || (t.scalar == Scalar::IDX && u->src(0)->min >= 0 && u->src(1)->min > 0);
    bool may_be_zero =
        !(u->src(1)->is_const() && u->src(1)->arg(0) != 0) && !(t.scalar == Scalar::IDX && u->src(1)->min > 0);
    Operand divisor = new_register(RegClass::SCALAR, bits);
    move(divisor, b);
    Operand bad;  // 1 where the divisor is 0: it divides by 1 instead
    if (may_be_zero) {
      Operand one = number(1, bits);
      bad = number(0, 32);
      ins("test", {divisor, divisor});
      ins("cmove", {bad, resized(one, 32)});
      ins("cmove", {divisor, one});
    }
    Operand quotient = new_register(RegClass::SCALAR, bits), rest = new_register(RegClass::SCALAR, bits);
    Operand dividend = a;
    if (!t.is_unsigned() &&
        !positive) {  // minimum / -1 traps: it is -a, remainder 0, which dividing by 1 after negation gives
      dividend = new_register(RegClass::SCALAR, bits);
      Operand negated = new_register(RegClass::SCALAR, bits);
      move(dividend, a);
      move(negated, a);
      ins("neg", {negated});
      Operand one = number(1, bits);
      ins("cmp", {divisor, isa::imm(-1)});
      ins("cmove", {dividend, negated});
      ins("cmove", {divisor, one});
    }
    move(gpr(RAX, bits), dividend);
    if (t.is_unsigned() || positive) {
      ins("mov", {gpr(RDX, 32), isa::imm(0)});
      ins("div", {divisor});
    } else {
      ins(bits == 64 ? "cqo" : "cdq", {});
      ins("idiv", {divisor});
    }
    move(quotient, gpr(RAX, bits));
    move(rest, gpr(RDX, bits));
    if (!positive) {  // remainder and divisor of different signs: one less, and the remainder moves by the divisor
      Operand sign = new_register(RegClass::SCALAR, bits), fix = new_register(RegClass::SCALAR, bits);
      move(sign, rest);
      ins("xor", {sign, divisor});
      ins("shr", {sign, isa::imm(bits - 1)});  // 1: signs differ
      Operand off = number(0, 32);
      ins("test", {rest, rest});
      ins("setne", {resized(off, 8)});
      ins("and", {resized(sign, 32), off});  // and the remainder is not 0
      Operand zero = number(0, bits);
      move(fix, divisor);
      if (u->op == Op::IDIV) {
        ins("sub", {quotient, sign});
      } else {
        ins("test", {resized(sign, 32), resized(sign, 32)});
        ins("cmove", {fix, zero});
        ins("add", {rest, fix});
      }
    }
    Operand out = u->op == Op::IDIV ? quotient : rest;
    if (may_be_zero) {
      Operand zero = number(0, bits);
      ins("test", {bad, bad});
      ins("cmovne", {out, zero});
    }
    move(r, out);
  }

  void bitcast(U u) {
    Operand a = value(u->src(0));
    DType from = u->src(0)->dtype, to = u->dtype;
    if (to.lanes > 1 || in_vector(from) == in_vector(to)) {
      if (to.lanes == 1 && !in_vector(to)) return extend(result(u), a, to);  // narrow: by its own sign
      return define(u, a);
    }
    Operand r = result(u);
    if (in_vector(from) && to.bits() < 32) {
      ins("vmovd", {r, a});
      extend(r, r, to);
    } else {
      ins(to.bits() == 64 ? "vmovq" : "vmovd", {r, a});
    }
  }
  void extend(const Operand& r, const Operand& a, DType t) {
    if (t.bits() == 8 || t.bits() == 16)
      ins(t.is_signed() ? "movsx" : "movzx", {r, resized(a, t.bits())});
    else if (r.bits == 64 && a.bits == 32)
      ins("mov", {resized(r, 32), a});
    else
      move(r, resized(a, r.bits));
  }
  void cast_to(U u) {
    DType from = u->src(0)->dtype, to = u->dtype;
    if (from.is_float() || to.is_float()) {
      if (to.scalar == Scalar::F16) {
        Operand a = value(u->src(0)), r = result(u);
        if (to.lanes > 1 && vector_width(to) < to.lanes * 16) unreachable();
        ins("vcvtps2ph", {r, a, isa::imm(0)});
        return;
      }
      if (from.scalar == Scalar::F16 && to.lanes == 1) {
        Operand a = value(u->src(0)), r = result(u);
        ins("vcvtph2ps", {r, a});
        return;
      }
      if (from.scalar == Scalar::IDX) {  // the rows know it as i64
        U same = make(Op::CAST, to, {u->src(0)});
        if (by_meaning(same)) return define(u, *registers_.find(same));
      }
      if (to.lanes == 1 && !from.is_float() && from.bits() >= 32) {
        Operand a = value(u->src(0)), r = result(u), upper = value(constant_float(F32, 0));
        ins(named(str(from.is_unsigned() ? "vcvtusi2" : "vcvtsi2", ps(to))), {r, upper, a});
        return;
      }
      if (to.lanes == 1 && to.is_int() && from.is_float()) {
        Operand a = value(u->src(0)), r = result(u);
        ins(named(str("vcvtt", ps(from), to.is_unsigned() ? "2usi" : "2si")), {r, a});
        return;
      }
      if (by_meaning(u)) return;
      return fallback(u);
    }
    if (to.lanes == 1) {
      Operand a = value(u->src(0)), r = result(u);
      if (to.bits() < from.bits() ||
          (to.bits() < 32 && !(from.is_unsigned() && from.bits() < to.bits()) && !from.is_bool())) {
        if (to.bits() < 32)
          extend(r, a, to);
        else
          move(r, resized(a, r.bits));
        if (to.bits() == 32) code_.lines.back().kind = CodeLine::INST;
      } else if (r.bits == 64 && from.bits() < 64) {
        if (from.is_signed())
          ins("movsxd", {r, resized(a, 32)});
        else
          ins("mov", {resized(r, 32), resized(a, 32)});
      } else {
        move(r, resized(a, r.bits));
      }
      return;
    }
    Operand a = value(u->src(0));
    if (to.bits() == from.bits()) return define(u, a);
    Operand r = result(u);
    if (to.bits() > from.bits())
      return void(ins(named(str(from.is_signed() ? "vpmovsx" : "vpmovzx", dq(from), dq(to))), {r, a}));
    if (!avx512_) return narrow(r, a, from, to);
    ins(named(str("vpmov", dq(from), dq(to))), {r, a});
  }

  // Keeps the low bytes of each 32-bit lane: a byte shuffle in both halves, then the halves side by side.
  void narrow(const Operand& r, const Operand& a, DType from, DType to) {
    check(from.bits() == 32, "x86: narrowing ", from, " to ", to, " in lanes takes AVX-512");
    int keep = to.bytes();
    std::vector<u8> pick(size_t(a.bits / 8), 0x80);  // 0x80: zero
    for (size_t half = 0; half < pick.size(); half += 16)
      for (int i = 0; i < 4 * keep; i++) pick[half + size_t(i)] = u8(i / keep * 4 + i % keep);
    Operand picked = new_register(RegClass::VECTOR, a.bits);
    ins("vpshufb", {picked, a, pool(pick.data(), pick.size(), a.bits)});
    if (a.bits == 128) return move(r, picked);
    Operand high = new_register(RegClass::VECTOR, 128), low = resized(picked, 128);
    ins("vextracti128", {high, picked, isa::imm(1)});
    ins(keep == 1 ? "vpunpckldq" : "vpunpcklqdq", {resized(r, 128), low, high});
  }
  Operand scratch(int bits, i64 offset) {  // a place on the stack, for values that change class lane by lane
    code_.frame_bytes = std::max<i64>(code_.frame_bytes, 64);
    return isa::mem(bits, RSP, offset);
  }
  void vectorize(U u) {
    DType t = u->dtype;
    if (u->nsrc > 1) {  // through the stack, lane by lane
      for (u32 i = 0; i < u->nsrc; i++) {
        Operand v = value(u->src(int(i)));
        i64 at = i64(i) * t.bytes();
        check(!t.is_bool(), "a vector of single bools");
        store_scalar(t, scratch(t.bits(), at), v);
      }
      Operand r = result(u);
      int width = t.lanes * t.bits();
      if (width < 128)
        ins(width == 64 ? "vmovq" : "vmovd", {r, scratch(width, 0)});
      else
        ins("vmovups", {r, scratch(r.bits, 0)});
      return;
    }
    U x = u->src(0);
    if (t.is_bool()) {
      Operand bit = value(x), bits = new_register(RegClass::SCALAR, 64), r = result(u);
      ins("mov", {resized(bits, 32), resized(bit, 32)});
      ins("neg", {bits});
      if (avx512_) {
        if (t.lanes < 64) {
          ins("shl", {bits, isa::imm(64 - t.lanes)});
          ins("shr", {bits, isa::imm(64 - t.lanes)});
        }
        ins("kmovq", {r, bits});
      } else {
        Operand low = new_register(RegClass::VECTOR, 128);
        ins("vmovd", {low, resized(bits, 32)});
        ins("vpbroadcastd", {r, low});
      }
      return;
    }
    if (x->op == Op::LOAD && is_deferred(x) && x->src(0)->nsrc == 2 && t.bits() >= 32) {
      deferred_[x] = false;
      Operand m = address(x->src(0), t.bits()), r = result(u);
      return broadcast(r, m, t.bits());
    }
    Operand a = value(x), r = result(u);
    if (a.cls == RegClass::SCALAR) {
      if (avx512_) return void(ins(named(str("vpbroadcast", dq(t))), {r, resized(a, t.bits() == 64 ? 64 : 32)}));
      Operand low = new_register(RegClass::VECTOR, 128);
      ins(t.bits() == 64 ? "vmovq" : "vmovd", {low, resized(a, t.bits() == 64 ? 64 : 32)});
      a = low;
    }
    broadcast(r, a, t.bits());
  }
  void extract(U u) {
    DType t = u->dtype, from = u->src(0)->dtype;
    i64 lane = u->arg(0);
    Operand a = value(u->src(0));
    check(!t.is_bool(), "lanes of a mask");
    int bits = t.bits();
    i64 at = lane * bits;
    if (t.lanes == 1 && (from.lanes * bits > 128 || bits < 32) && lane) {  // any lane: through the stack
      if (extracted_ != u->src(0) || extracted_lines_ != code_.lines.size()) {
        ins("vmovups", {scratch(a.bits, 0), a});
        extracted_ = u->src(0);
      }
      Operand r = result(u);
      load_scalar(u, r, scratch(bits, at / 8));
      extracted_lines_ = code_.lines.size();
      return;
    }
    Operand part = a;  // the 128 or 256 bits that hold the lanes, at their bottom
    if (at >= 256 && a.bits == 512) {
      part = new_register(RegClass::VECTOR, 256);
      ins("vextractf64x4", {part, a, isa::imm(1)});
      at -= 256;
    } else {
      part = resized(part, std::min<int>(part.bits, 256));
    }
    if (at >= 128) {
      Operand whole = std::exchange(part, new_register(RegClass::VECTOR, 128));
      ins(avx512_ ? "vextractf32x4" : "vextractf128", {part, whole, isa::imm(1)});
      at -= 128;
    } else if (std::max(128, t.lanes * bits) == 128) {
      part = resized(part, 128);
    }
    if (at) {
      Operand whole = std::exchange(part, new_register(RegClass::VECTOR, 128));
      bool pairs = at % 64 == 0;
      ins(pairs ? "vpermilpd" : "vpermilps", {part, whole, isa::imm(pairs ? 1 : at / 32)});
    }
    Operand r = result(u);
    if (in_vector(t)) return move(r, resized(part, r.bits));
    ins(bits == 64 ? "vmovq" : "vmovd", {r, part});
    if (bits < 32) extend(r, r, t);
  }

  // ---- loops -------------------------------------------------------------------------------------------------------
  void init(U reduce) {
    if (reduce->arg(1) < 0) return;
    Operand acc = *accumulators_.find(reduce);
    registers_[make(Op::ACC, reduce->dtype, {}, {reduce->arg(1)})] = acc;
    U identity = identity_of(Op(reduce->arg(0)), reduce->dtype);
    move(acc, value(identity));
  }
  void update(U reduce) {
    if (reduce->arg(1) < 0) return;
    move(*accumulators_.find(reduce), value(reduce->src(0)));
  }
  void loop(U range) {
    Operand counter = new_register(RegClass::SCALAR, 64);
    define(range, counter);
    if (range->range_kind() == RangeKind::THREAD)
      move(counter, begin_);
    else
      ins("mov", {counter, isa::imm(0)});
    mark(CodeLine::LOOP, range);
    loop_labels_.push_back(next_label_);
    mark(CodeLine::LABEL, nullptr, next_label_++);
  }
  void end(U range) {
    Operand counter = *registers_.find(range);
    ins("add", {counter, isa::imm(1)});
    if (range->range_kind() == RangeKind::THREAD) {
      ins("cmp", {counter, end_});
    } else {
      i64 n = range->src(0)->arg(0);
      ins("cmp", {counter, i32(n) == n ? isa::imm(n) : value(range->src(0))});
    }
    jump("jl", loop_labels_.back());
    loop_labels_.pop_back();
    mark(CodeLine::END, range);
  }

  const Linear& linear_;
  bool avx512_;
  const Rows& rows_;
  MachineCode code_;
  UMap<Operand> registers_, accumulators_, accumulator_of_;
  UMap<int> uses_;
  UMap<U> last_user_;
  UMap<bool> deferred_, needed_;
  std::vector<U> stored_;
  std::vector<int> loop_labels_;
  U current_ = nullptr, extracted_ = nullptr;
  size_t extracted_lines_ = 0;
  Operand params_, begin_, end_;
  int next_label_ = 0;
  int prologue_ = 0;  // lines that take the arguments and load the PARAMs
};

}  // namespace

MachineCode select_x86(const Linear& linear, const Target& target) { return Selector(linear, target).run(); }

}  // namespace ingot
