// SPDX-License-Identifier: MIT
// Traces as graphs: a stretch of instructions whose rows have patterns for meanings becomes one UOp graph over the
// state of the wave, which a hw::BlockCompiler turns into host code. Vector registers are an array with 32 lanes each,
// the lanes a RANGE; scalar values stand outside of it. EXEC does not change inside of a stretch, so what inactive
// lanes hold matters only where a register is stored, once, at the end. There are two graphs of each stretch: one for
// a full EXEC, and one that keeps what inactive lanes have.
//
// A mask is a bool per lane while it is used as one; its word is the sum over the lanes of their bits. Floats are
// compared with the evaluator bit by bit, so a NaN becomes quiet_nan() where its bits are looked at, minimum and
// maximum say which zero they take, and casts to integers say what they do with what does not fit.
#include <algorithm>
#include <bitset>

#include "compiler/isa/emu.h"

namespace ingot::isa::emu {
namespace {

bool exact(Op op) {  // the host back end gives the evaluator's bits
  return !(has(op, FLOAT_ONLY) && op != Op::RECIP && op != Op::SQRT && op != Op::RSQRT && op != Op::FDIV &&
           op != Op::TRUNC && op != Op::FLOOR && op != Op::ROUND && op != Op::FMA);
}

class Builder {
 public:
  explicit Builder(bool full) : full_(full) {
    lane_ = range(0, RangeKind::LOOP);
    buffer_[VECTORS] = make(Op::PARAM, U32, {}, {VECTORS, most_vectors * wave_lanes});
    buffer_[SCALARS] = make(Op::PARAM, U32, {}, {SCALARS, scc_word + 1});
    buffer_[LANE_BITS] = make(Op::PARAM, U32, {}, {LANE_BITS, wave_lanes});
    buffer_[PC] = make(Op::PARAM, U64, {}, {PC, 1});
    if (!full_) active_ = mask(EXEC_LO);
  }
  void add(const Code& c) {
    struct Write {
      const Part* part;
      int operand, element;
      U value;
      bool one_nan;
    };
    std::vector<Write> writes;
    for (int i = 0; i < c.parts; i++) {
      const Part& p = c.part[i];
      for (int e = 0; e < p.elements; e++) {
        U operands[Inst::max_specs] = {};
        for (int k = 0; k < p.row->specs; k++)
          if (p.holes >> k & 1) operands[k] = read(c, p, k, e);
        for (int k = 0; k < p.effects; k++)
          writes.push_back({&p, p.effect[k].target, e, settled(build_effect(*p.row, effects_of(*p.row)[k], operands)),
                            p.effect[k].one_nan});
      }
    }
    for (const Write& w : writes) write(*w.part, w.operand, w.element, w.value, w.one_nan);
  }
  U sink() {
    std::vector<U> stores;
    for (u32 k = 0; k < most_vectors; k++) {
      if (!vector_[k].written) continue;
      U v = bits(k);
      if (!full_) v = make_alu(Op::WHERE, active_, v, load(VECTORS, lanes_of(k)));
      stores.push_back(store(VECTORS, lanes_of(k), v, lane_));
    }
    for (u32 k = 0; k <= scc_word; k++)
      if (scalar_[k].written) stores.push_back(store(SCALARS, i64(k), word(k)));
    if (pc_) stores.push_back(store(PC, 0, pc_));
    return simplify(make(Op::SINK, VOID, stores));
  }

 private:
  struct Register {
    U bits = nullptr, number = nullptr, mask = nullptr;  // as u32; vectors: as f32, any NaN; scalars: a bool per lane
    bool written = false;
  };

  static U range(i64 id, RangeKind kind) { return make(Op::RANGE, IDX, {index_constant(wave_lanes)}, {id, i64(kind)}); }
  Expr lanes_of(u32 k) const { return Expr(lane_) + i64(k) * wave_lanes; }
  U index(Buffer b, Expr at) { return make(Op::INDEX, buffer_[b]->dtype, {buffer_[b], simplify(at)}); }
  U load(Buffer b, Expr at) { return make(Op::LOAD, buffer_[b]->dtype, {index(b, at)}); }
  U store(Buffer b, Expr at, U value, U over = nullptr) {
    return over ? make(Op::STORE, VOID, {index(b, at), value, over}) : make(Op::STORE, VOID, {index(b, at), value});
  }
  static U bitcast(U x, DType t) { return x->dtype == t ? x : make(Op::BITCAST, t, {x}); }
  static U both(U low, U high) {
    return make_alu(Op::ADD, cast(low, U64), make_alu(Op::SHL, cast(high, U64), constant(U64, 32)));
  }
  static U half(U x, bool high) { return high ? cast(make_alu(Op::SHR, x, constant(U64, 32)), U32) : cast(x, U32); }
  static U one_nan(U x) {
    DType bits = x->dtype.bits() == 16 ? U16 : x->dtype.bits() == 32 ? U32 : U64;
    return make_alu(Op::WHERE, make_alu(Op::CMPNE, x, x),
                    bitcast(constant(bits, i64(quiet_nan(x->dtype.scalar))), x->dtype), x);
  }

  // ---- registers
  U bits(u32 k) {
    Register& r = vector_[k];
    if (!r.bits) r.bits = r.number ? bitcast(one_nan(r.number), U32) : load(VECTORS, lanes_of(k));
    return r.bits;
  }
  U word(u32 k) {
    Register& r = scalar_[k];
    if (r.bits) return r.bits;
    if (!r.mask) return r.bits = load(SCALARS, i64(k));
    U over = range(++ranges_, RangeKind::REDUCE);  // its own: no two words are made in one loop
    UMap<U> other;
    other[lane_] = over;
    U bit = make_alu(Op::WHERE, substitute(r.mask, other), load(LANE_BITS, over), constant(U32, 0));
    return r.bits = make(Op::REDUCE, U32, {bit, over}, {i64(Op::ADD)});
  }
  U mask(u32 k) {
    Register& r = scalar_[k];
    if (!r.mask) r.mask = make_alu(Op::CMPNE, make_alu(Op::AND, word(k), load(LANE_BITS, lane_)), constant(U32, 0));
    return r.mask;
  }
  U dword(const Place& o, u32 n) {
    switch (o.kind) {
      case Place::VGPR: return bits(o.reg + n);
      case Place::SGPR: return o.reg + n == NULL_REGISTER ? constant(U32, 0) : word(o.reg + n);
      case Place::SPECIAL: return o.reg == SCC_REGISTER && !n ? word(scc_word) : constant(U32, 0);
      default: return constant(U32, i64(u32(o.constant >> (n ? 32 : 0))));
    }
  }

  // ---- operands, as Unit::raw and Unit::write_bits have them
  U read(const Code& c, const Part& p, int k, int e) {
    const Place& o = p.place[k];
    const Row& r = *p.row;
    const DType type{o.type};
    if (o.kind == Place::MASK) return o.reg == NULL_REGISTER ? constant(BOOL, 0) : mask(o.reg);
    if (o.kind == Place::FLAG) return make_alu(Op::CMPNE, word(scc_word), constant(U32, 0));
    if (o.kind == Place::COUNTER) return constant(U64, i64(c.pc + c.bytes));
    const bool halves = o.bits == 16 && r.spec[k].bits == 32, source = k == p.s[0] || k == p.s[1] || k == p.s[2];
    if (type.is_bool()) return make_alu(Op::CMPNE, make_alu(Op::AND, dword(o, 0), constant(U32, 1)), constant(U32, 0));
    if (r.mixed && source) {
      U v = dword(o, 0);
      if (o.modifiers & HALF_HI) v = bitcast(cast(bitcast(narrow(v, o.modifiers & HALF), F16), F32), U32);
      return bitcast(signs(v, o.modifiers & NEGATE, o.modifiers & ABSOLUTE), F32);
    }
    bool negate = o.modifiers & NEGATE, absolute = o.modifiers & ABSOLUTE;
    U v;
    if (o.bits == 64) {
      v = both(dword(o, 2 * u32(e)), dword(o, 2 * u32(e) + 1));
    } else if (o.bits == 16) {
      bool high = halves || r.spec[k].bits > 32 ? e & 1 : o.modifiers & HALF;
      if (r.format == VOP3P && halves && source)
        high = o.modifiers & (e ? HALF_HI : HALF), negate = o.modifiers & (e ? NEGATE_HI : NEGATE), absolute = false;
      v = narrow(dword(o, u32(e) / 2), high);
    } else {
      bool plain = !(source && (negate || absolute));
      if (o.kind == Place::VGPR && type == F32 && plain && vector_[o.reg + u32(e)].number)
        return vector_[o.reg + u32(e)].number;
      v = dword(o, u32(e));
    }
    if (source && (r.format != VOP3P || type.is_float())) v = signs(v, negate, absolute);
    return bitcast(v, type);
  }
  static U narrow(U word, bool high) { return cast(high ? make_alu(Op::SHR, word, constant(U32, 16)) : word, U16); }
  static U signs(U v, bool negate, bool absolute) {
    const u64 sign = u64(1) << (v->dtype.bits() - 1);
    if (absolute) v = make_alu(Op::AND, v, constant(v->dtype, i64(sign - 1)));
    return negate ? make_alu(Op::XOR, v, constant(v->dtype, i64(sign))) : v;
  }

  void set(u32 k, U bits, U number = nullptr) { vector_[k] = {bits, number, nullptr, true}; }
  void set_scalar(u32 k, U bits, U mask = nullptr) {
    if (k != NULL_REGISTER) scalar_[k] = {bits, nullptr, mask, true};
  }
  void write(const Part& p, int k, int e, U value, bool nan) {
    const Place& o = p.place[k];
    switch (o.kind) {
      case Place::MASK: return set_scalar(o.reg, nullptr, full_ ? value : make_alu(Op::AND, value, active_));
      case Place::FLAG: return set_scalar(scc_word, cast(value, U32));
      case Place::COUNTER: pc_ = value; return;
      case Place::SGPR:
      case Place::VGPR: break;
      default: return;
    }
    const bool vector = o.kind == Place::VGPR;
    const DType type{o.type};
    auto put = [&](u32 at, U word) { vector ? set(at, word) : set_scalar(at, word); };
    if (type == F32 && nan && vector) return set(o.reg + u32(e), nullptr, value);
    if (nan) value = one_nan(value);
    if (o.bits == 64) {
      value = bitcast(value, U64);
      put(o.reg + 2 * u32(e), half(value, false)), put(o.reg + 2 * u32(e) + 1, half(value, true));
    } else if (o.bits == 16) {
      bool high = p.row->spec[k].bits >= 32 ? e & 1 : o.modifiers & HALF;
      U fresh = cast(bitcast(value, U16), U32), old = bits(o.reg + u32(e) / 2);
      if (high) fresh = make_alu(Op::SHL, fresh, constant(U32, 16));
      U kept = make_alu(Op::AND, old, constant(U32, high ? 65535 : ~i64(65535)));
      put(o.reg + u32(e) / 2, make_alu(Op::OR, kept, fresh));
    } else {
      put(o.reg + u32(e), type.is_bool() ? cast(value, U32) : bitcast(value, U32));
    }
  }

  // ---- what meanings leave to the target
  static U settled(U root) {
    UMap<U> became;
    for (U u : toposort(root)) {
      std::vector<U> src;
      for (U s : u->src()) src.push_back(*became.find(s));
      became[u] = settled_node(with_sources(u, src));
    }
    return *became.find(root);
  }
  static U settled_node(U u) {
    const DType t = u->dtype;
    if (u->op == Op::CAST && t.is_int() && u->src(0)->dtype.is_float()) {
      U x = u->src(0)->dtype.bits() < 32 ? cast(u->src(0), F32) : u->src(0);
      const int width = t.bits() - t.is_signed();
      const double end = width == 64 ? 0x1p64 : double(u64(1) << width), low = t.is_signed() ? -end : 0;
      const i64 most = width == 64 ? -1 : i64((u64(1) << width) - 1), least = t.is_signed() ? -most - 1 : 0;
      U v = cast(x, t.bits() < 32 ? I32 : t);
      if (v->dtype != t) v = cast(v, t);
      v = make_alu(Op::WHERE, make_alu(Op::CMPLT, x, constant_float(x->dtype, end)), v, constant(t, most));
      v = make_alu(Op::WHERE, make_alu(Op::CMPLT, x, constant_float(x->dtype, low)), constant(t, least), v);
      return make_alu(Op::WHERE, make_alu(Op::CMPNE, x, x), constant(t, 0), v);
    }
    if ((u->op != Op::MIN && u->op != Op::MAX) || !t.is_float()) return u;
    U a = u->src(0), b = u->src(1);
    DType raw = t.bits() == 16 ? U16 : t.bits() == 32 ? U32 : U64;
    const bool least = u->op == Op::MIN;
    U equal = bitcast(make_alu(least ? Op::OR : Op::AND, bitcast(a, raw), bitcast(b, raw)), t);
    U v = make_alu(Op::WHERE, least ? make_alu(Op::CMPLT, b, a) : make_alu(Op::CMPLT, a, b), b, a);
    v = make_alu(Op::WHERE, make_alu(Op::CMPEQ, a, b), equal, v);
    return make_alu(Op::WHERE, make_alu(Op::CMPNE, b, b), b, v);
  }

  const bool full_;
  U lane_, buffer_[BUFFERS], active_ = nullptr, pc_ = nullptr;
  i64 ranges_ = 0;
  Register vector_[most_vectors], scalar_[scc_word + 1];
};

bool writes_exec(const Code& c) {
  for (int i = 0; i < c.parts; i++)
    for (int k = 0; k < c.part[i].effects; k++)
      if (const Place& o = c.part[i].place[c.part[i].effect[k].target];
          o.scalar() && o.reg <= EXEC_LO && o.reg + o.count > EXEC_LO)
        return true;
  return false;
}
bool does_nothing(const Code& c) {
  const Function f = c.part[0].row->function;
  return !c.refused && (f == NOTHING || f == KEEP_TOGETHER || f == WAIT || f == SLEEP || f == BRANCH_DEBUG) &&
         std::string_view(c.part[0].row->name) != "s_wait_idle";
}

}  // namespace

bool has_graph(const Code& c) {
  if (c.refused || c.m.dpp_kind || (c.valu && (c.m.clamp || c.m.omod))) return false;
  for (int i = 0; i < c.parts; i++) {
    const Part& p = c.part[i];
    if (p.row->function != NO_FUNCTION || !p.effects || p.row->format == SMEM || p.row->format >= DS) return false;
    for (int k = 0; k < p.row->specs; k++) {
      const Place& o = p.place[k];
      if (o.kind == Place::SPECIAL && o.reg != SCC_REGISTER && o.reg != NULL_REGISTER) return false;
    }
    Arena arena;
    ArenaScope scope(arena);
    U operands[Inst::max_specs];
    for (int k = 0; k < p.row->specs; k++) operands[k] = make(Op::ACC, dtype_of(p.row->spec[k]), {}, {k});
    for (const Effect& e : effects_of(*p.row))
      for (U u : toposort(build_effect(*p.row, e, operands)))
        if (!exact(u->op)) return false;
  }
  return true;
}

// Arithmetic moves up past loads and stores that it has nothing to do with, so that a trace has few and long graphs.
static void gather_graphs(Trace& t) {
  using Registers = std::bitset<scc_word + 1 + most_vectors>;
  struct Touched {
    Registers read, written;
  };
  auto touched = [](const Code& c) {
    Touched out;
    for (int i = 0; i < c.parts; i++)
      for (int k = 0; k < c.part[i].row->specs; k++) {
        const Place& o = c.part[i].place[k];
        const OperandSpec& s = c.part[i].row->spec[k];
        const bool vector = o.kind == Place::VGPR, flag = o.kind == Place::FLAG || o.reg == SCC_REGISTER;
        if (!vector && !flag && !o.scalar()) continue;
        for (u32 n = 0; n < o.count; n++) {
          u32 at = vector ? scc_word + 1 + o.reg + n : flag ? scc_word : o.reg + n;
          if (s.access & OperandSpec::READ || o.bits == 16) out.read.set(at);
          if (s.access & OperandSpec::WRITE) out.written.set(at);
        }
      }
    return out;
  };
  auto moves_data = [](const Code& c) {
    const Part& p = c.part[0];
    const Row& r = *p.row;
    return !c.refused && !p.by_lane && r.cls != CLASS_atomic && r.cls != CLASS_lane &&
           (r.function == NO_FUNCTION || r.function == LOAD_TWO || r.function == STORE_TWO) &&
           (r.format == SMEM || r.format == DS || r.format == GLOBAL);
  };
  std::vector<std::unique_ptr<Code>> order;
  size_t end = 0;      // of the graph that may still grow
  Touched in_between;  // by what stands after it
  for (auto& c : t.code) {
    const bool graph = has_graph(*c) || does_nothing(*c);
    const Touched now = touched(*c);
    if (graph && !c->ends && !writes_exec(*c) && !(now.written & (in_between.read | in_between.written)).any() &&
        !(now.read & in_between.written).any()) {
      order.insert(order.begin() + i64(end++), std::move(c));
      continue;
    }
    if (!graph && moves_data(*c)) {
      in_between.read |= now.read, in_between.written |= now.written;
      order.push_back(std::move(c));
      continue;
    }
    order.push_back(std::move(c));
    end = order.size(), in_between = {};
  }
  t.code = std::move(order);
}

void cut(Trace& t) {
  gather_graphs(t);
  const u32 n = u32(t.code.size());
  for (u32 i = 0, end; i < n; i = end) {
    bool graph = false, closed = false;  // something to compute; EXEC changes after it
    for (end = i; end < n && !closed; end++) {
      if (does_nothing(*t.code[end])) continue;
      if (!has_graph(*t.code[end])) break;
      graph = true, closed = writes_exec(*t.code[end]);
    }
    if (graph) t.items.push_back(std::make_unique<Trace::Item>(i, end, true));
    if (end == i) t.items.push_back(std::make_unique<Trace::Item>(i, ++end, false));
  }
}

U build_graph(std::span<const std::unique_ptr<Code>> codes, bool full) {
  Builder b(full);
  for (auto& c : codes)
    if (!does_nothing(*c)) b.add(*c);
  return b.sink();
}

}  // namespace ingot::isa::emu
