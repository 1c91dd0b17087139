// SPDX-License-Identifier: MIT
// A kernel as one work-item of a GPU sees it: between expand() and linearise(), for machines whose lanes are threads.
//
// The numbers of the work-group and of the work-item inside it are given, so THREAD and VECTOR ranges are no loops:
// their values are taken from those two numbers. A REDUCE over a VECTOR range becomes one across the lanes of a wave,
// and through LDS across the waves of the group when the range is longer than a wave. Addresses split into what is the
// same for a wave, computed once by the scalar unit, and a 32-bit byte offset for each lane; idx arithmetic becomes i32
// where its bounds fit, else i64. Afterwards, an INDEX in memory names a base, a byte offset (unsigned when it has 32
// bits) and in `arg` a displacement in bytes that an instruction can carry; an INDEX of dtype VOID is such a base: a
// PARAM and bytes from its start.
#include <algorithm>
#include <bit>
#include "compiler/codegen/codegen.h"

namespace ingot {
namespace {

constexpr i64 near = 4096;                // displacements of global memory: 13 bits, signed
constexpr i64 near_local = i64(1) << 16;  // of LDS: 16 bits
constexpr i64 far_away = i64(1) << 32;    // bytes that a 32-bit offset reaches

bool is_given(U u) {
  return u->op == Op::RANGE && (u->range_kind() == RangeKind::THREAD || u->range_kind() == RangeKind::VECTOR);
}
i64 bound(U range) { return range->src(0)->arg(0); }
bool fits_i32(U u) { return u->min >= -(i64(1) << 31) && u->max < i64(1) << 31; }

class WorkItem {
 public:
  WorkItem(U sink, Program& program) : sink_(sink), program_(program) {}
  U run() {
    number();
    sink_ = place();
    sink_ = split_addresses();
    return narrow();
  }

 private:
  // ---- the numbers of group and item -------------------------------------------------------------------------------
  void number() {
    i64 id = 0;
    for (U u : toposort(sink_)) {
      if (u->op == Op::RANGE) id = std::max(id, u->arg(0) + 1);
      if (u->op == Op::LOCAL) next_local_ = std::max(next_local_, u->arg(0) + 1);
    }
    auto add = [](std::vector<U>& list, U r) {
      if (std::ranges::find(list, r) == list.end()) list.push_back(r);
    };
    std::vector<U> groups, items, lanes;  // lanes: what REDUCEs close, the innermost
    for (U store : sink_->src())
      for (U r : store->src().subspan(2)) {
        if (r->range_kind() == RangeKind::THREAD) add(groups, r);
        if (r->range_kind() == RangeKind::VECTOR) add(items, r);
      }
    for (U u : toposort(sink_))
      if (u->op == Op::REDUCE)
        for (U r : u->src().subspan(1))
          if (r->range_kind() == RangeKind::VECTOR) add(lanes, r);
    if (!lanes.empty()) across_ = bound(lanes[0]);
    for (U r : lanes)
      check(bound(r) == across_ && across_ % lanes_of_a_wave == 0, "a reduction over ", bound(r), " lanes");
    if (!lanes.empty()) share_lanes(items, lanes);
    i64 threads = across_, extent = 1;
    for (U r : items) threads *= bound(r);
    for (U r : groups) extent *= bound(r);
    const i64 whole = (threads + lanes_of_a_wave - 1) / lanes_of_a_wave * lanes_of_a_wave;
    check(whole == threads || items.size() <= 1, threads, " work-items are no whole number of waves");
    program_.extent = extent, program_.threads = int(whole);
    group_ = make(Op::RANGE, IDX, {index_constant(extent)}, {id, i64(RangeKind::THREAD)});
    item_ = make(Op::RANGE, IDX, {index_constant(whole)}, {id + 1, i64(RangeKind::VECTOR)});
    given_ = groups;
    given_.insert(given_.end(), items.begin(), items.end());
    given_.insert(given_.end(), lanes.begin(), lanes.end());
    const bool spare = whole != threads;  // lanes beyond the only range, or the only lane: they do what the first does
    take_apart(groups, group_, 1);
    for (U r : lanes) value_[r] = simplify(Expr(item_) % across_);
    take_apart(items, item_, across_);
    if (spare && !items.empty())
      spare_ = Expr(item_) < Expr(threads), value_[items[0]] = make_alu(Op::WHERE, spare_, item_, index_constant(0));
    if (spare && items.empty()) spare_ = Expr(item_) < Expr(1);
  }
  // What stores over the lanes, after reductions over them that do not depend on it, has the same lanes.
  void share_lanes(std::vector<U>& items, std::vector<U>& lanes) {
    std::vector<U> order = toposort(sink_);
    for (size_t i = items.size(); i-- > 0;) {
      if (bound(items[i]) != across_) continue;
      UMap<bool> depends;
      bool inside = false;
      for (U u : order) {
        bool d = u == items[i];
        for (U s : u->src()) d |= *depends.find(s);
        depends[u] = d;
        inside |= d && u->op == Op::REDUCE && std::ranges::any_of(u->src(), is_given);
      }
      if (inside) continue;
      lanes.push_back(items[i]);
      items.erase(items.begin() + i64(i));
      return;
    }
  }
  void take_apart(const std::vector<U>& ranges, U whole, i64 inner) {
    for (size_t i = ranges.size(); i-- > 0;) {  // the last one changes fastest
      Expr v = Expr(whole) / inner;
      if (i) v = v % bound(ranges[i]);
      value_[ranges[i]] = simplify(v);
      inner *= bound(ranges[i]);
    }
  }
  // What a lane that is one of several with the same STORE must be to make it.
  U owner_of(U store) {
    U all = spare_;
    for (U r : given_) {
      auto same = [&](U s) { return value_.contains(s) && *value_.find(s) == *value_.find(r); };
      if (std::ranges::any_of(store->src(), same)) continue;
      U first = make_alu(Op::CMPEQ, *value_.find(r), index_constant(0));
      all = all ? make_alu(Op::AND, all, first) : first;
    }
    return all;
  }
  // Each wave's result goes into LDS; every lane combines those of its waves, in their order.
  U across_waves(Op op, U v) {
    const i64 waves = across_ / lanes_of_a_wave;
    const Expr item = item_;
    U memory = make(Op::LOCAL, v->dtype, {}, {next_local_++, program_.threads / lanes_of_a_wave, 0});
    U to = make(Op::INDEX, v->dtype,
                {memory, simplify(item / lanes_of_a_wave), simplify(item % lanes_of_a_wave < Expr(1))});
    U filled = make(Op::AFTER, v->dtype, {memory, make(Op::STORE, VOID, {to, v})}), all = nullptr;
    for (i64 k = 0; k < waves; k++) {
      U from = make(Op::INDEX, v->dtype, {filled, simplify(item / across_ * waves + k)});
      U one = make(Op::LOAD, v->dtype, {from});
      all = all ? make(op, v->dtype, {all, one}) : one;
    }
    return all;
  }
  U place() {
    UMap<U> became;
    struct Partial {
      Op op;
      U value;
    };
    UMap<Partial> partial;  // what each lane has of a sum that they share
    std::vector<U> src;
    for (U u : toposort(sink_)) {
      if (is_given(u)) {
        U* v = value_.find(u);
        became[u] = v ? *v : item_;  // of a copy into LDS that all work-items make together
        check(v || bound(u) == program_.threads, "a copy over ", bound(u), " of ", program_.threads, " work-items");
        continue;
      }
      src.clear();
      bool lanes = false;
      const bool closes = u->op == Op::REDUCE || u->op == Op::STORE;
      for (U s : u->src()) {
        lanes |= u->op == Op::REDUCE && is_given(s);
        if (!closes || !is_given(s)) src.push_back(*became.find(s));
      }
      if (u->op == Op::STORE && std::ranges::find(sink_->src(), u) != sink_->src().end()) {
        if (U owner = owner_of(u)) {
          U index = src[0];
          U condition = index->nsrc > 2 ? make_alu(Op::AND, index->src(2), owner) : owner;
          src[0] = make(Op::INDEX, index->dtype, std::array{index->src(0), index->src(1), condition}, index->arg());
        }
      }
      U v = lanes ? src[0] : make(u->op, u->dtype, src, u->arg());
      Op op = u->op;
      if (lanes) {
        op = Op(u->arg(0));
        if (src.size() > 1) v = make(Op::REDUCE, u->dtype, src, u->arg());
      } else if (u->nsrc == 2) {  // of the accumulators of one sum
        const Partial *a = partial.find(u->src(0)), *b = partial.find(u->src(1));
        lanes = a && b && a->op == op && b->op == op;
        if (lanes) v = make_alu(op, a->value, b->value);
      }
      if (lanes) {
        partial[u] = {op, v};
        v = make(Op::REDUCE, u->dtype, std::array{v, item_}, std::array{i64(op), i64(-1)});
        if (across_ > lanes_of_a_wave) v = across_waves(op, v);
      }
      became[u] = v;
    }
    return simplify(*became.find(sink_));
  }

  // ---- addresses ---------------------------------------------------------------------------------------------------
  U split_addresses() {
    UMap<bool> scalar = scalar_values(sink_);
    UMap<i64> depth;  // the innermost loop that a value depends on
    UMap<U> became;
    std::vector<U> src;
    for (U u : toposort(sink_)) {
      i64 d = u->op == Op::RANGE && !is_given(u) ? u->arg(0) + 1 : 0;
      for (U s : u->src()) d = std::max(d, *depth.find(s));
      depth[u] = d;
      src.clear();
      for (U s : u->src()) src.push_back(*became.find(s));
      U v = u->op == Op::INDEX ? address(u, src, scalar, depth) : with_sources(u, src);
      became[u] = v;
      if (v != u) depth[v] = d, scalar[v] = bool(*scalar.find(u));
    }
    return *became.find(sink_);
  }
  U address(U u, const std::vector<U>& src, const UMap<bool>& scalar, const UMap<i64>& depth) {
    const i64 size = u->src(0)->dtype.bytes();
    U memory = indexed_memory(u);
    LinearForm all = linear_form(src[1]), base, lane;
    std::ranges::stable_sort(all.terms, {}, [&](const auto& t) {
      const i64* d = depth.find(t.first);
      return d ? *d : 0;
    });
    const bool local = memory->op == Op::LOCAL;
    bool looped = false;
    for (auto& [term, k] : all.terms) {
      const bool* s = scalar.find(term);
      const bool uniform = !local && (term->is_const() || (s && *s));
      (uniform ? base : lane).terms.push_back({term, k * size});
      if (const i64* d = depth.find(term); uniform && d) looped |= *d > 0;
    }
    i64 displacement = all.constant * size;
    auto index = [&](U where, U offset) {
      std::vector<U> s{where, offset};
      if (src.size() > 2) s.push_back(src[2]);
      return make(Op::INDEX, u->dtype, s, std::array{displacement});
    };
    if (local) {
      const i64 far = displacement >= 0 && displacement < near_local ? 0 : displacement;
      lane.constant = far, displacement -= far;
      return index(src[0], build(lane));
    }
    U offset = build(lane);
    if (offset->min < 0 && offset->min > -far_away) {
      displacement += offset->min;
      lane.constant = -offset->min;
      offset = build(lane);
    }
    if (offset->min < 0 || offset->max >= far_away) {  // no bounds: all of it in the lanes
      for (auto& [term, k] : all.terms) k *= size;
      all.constant *= size, displacement = 0;
      return index(src[0], build(all));
    }
    bool in_lanes = looped;
    if (!looped && !lane.terms.empty()) {  // one vector addition for all buffers, not a scalar one of 64 bits for each
      LinearForm whole = base;
      whole.terms.insert(whole.terms.end(), lane.terms.begin(), lane.terms.end()), whole.constant = lane.constant;
      U sum = build(whole);
      in_lanes = sum->min >= 0 && sum->max < far_away;
      if (in_lanes) lane = whole, offset = sum, base.terms.clear();
    }
    const i64 kept = ((displacement % (2 * near)) + 3 * near) % (2 * near) - near, far = displacement - kept;
    displacement = kept;
    if (far && in_lanes && far > 0 && offset->max + far < far_away && !offset->is_const())
      lane.constant += far, offset = build(lane);
    else
      base.constant = far;
    if (base.terms.empty() && !base.constant) return index(src[0], offset);
    return index(make(Op::INDEX, VOID, std::array{src[0], build(base)}, std::array{i64(0)}), offset);
  }

  // ---- idx becomes i32 or i64 --------------------------------------------------------------------------------------
  U low(U u) { return u->dtype.scalar == Scalar::IDX ? *low_.find(u) : u; }
  U wide(U u) {
    U* w = wide_.find(u);
    return w ? *w : wide_[u] = cast(low(u), I64);
  }
  void narrow_index(U u) {
    if (u->op == Op::RANGE) {
      low_[u] = make(Op::CAST, I32, {u});
      return;
    }
    bool exact = fits_i32(u);
    for (U s : u->src()) exact &= s->dtype.scalar != Scalar::IDX || fits_i32(s);
    auto as = [&](DType t) {
      std::vector<U> src;
      for (U s : u->src()) src.push_back(s->dtype.is_bool() ? became(s) : t == I32 ? low(s) : wide(s));
      return make_alu(u->op, src);
    };
    switch (u->op) {
      case Op::CONST:
        low_[u] = constant(I32, i64(i32(u->arg(0))));
        if (!fits_i32(u)) wide_[u] = constant(I64, u->arg(0));
        return;
      case Op::CAST: {
        U x = became(u->src(0));
        low_[u] = cast(x, I32);
        if (!fits_i32(u)) wide_[u] = cast(x, I64);
        return;
      }
      case Op::ADD:
      case Op::SUB:
      case Op::MUL:
      case Op::NEG:
      case Op::AND:
      case Op::OR:
      case Op::XOR:  // the lower half of the result needs only those of the sources
        low_[u] = as(I32);
        if (!fits_i32(u)) wide_[u] = as(I64);
        return;
      default:
        if (exact) {
          low_[u] = as(I32);
        } else {
          wide_[u] = as(I64);
          low_[u] = cast(*wide_.find(u), I32);
        }
    }
  }
  static U make_alu(Op op, U a, U b) { return ingot::make_alu(op, a, b); }
  static U make_alu(Op op, U a, U b, U c) { return ingot::make_alu(op, a, b, c); }
  static U make_alu(Op op, const std::vector<U>& src) {
    if (i64 k = src.back()->is_const() ? src.back()->arg(0) : 0; op == Op::MUL && k > 1 && std::has_single_bit(u64(k)))
      return make(Op::SHL, src[0]->dtype, {src[0], constant(src[0]->dtype, std::countr_zero(u64(k)))});
    return simplify(make(op, has(op, TO_BOOL) ? BOOL : src.back()->dtype, src));
  }
  U became(U u) { return *became_.find(u); }
  U narrow() {
    std::vector<U> src;
    for (U u : toposort(sink_)) {
      if (u->dtype.scalar == Scalar::IDX) {
        became_[u] = u;
        narrow_index(u);
        continue;
      }
      src.clear();
      bool wide_sources = false;
      const bool keeps = u->op == Op::STORE || u->op == Op::REDUCE;
      for (U s : u->src())
        wide_sources |=
            s->dtype.scalar == Scalar::IDX && (u->op == Op::BITCAST || (s->op != Op::RANGE && !fits_i32(s)));
      if (u->op == Op::INDEX) {
        U memory = indexed_memory(u), offset = u->src(1);
        i64 bytes = memory->arg(1) * memory->dtype.bytes();
        wide_sources = u->dtype == VOID ? !fits_i32(offset)
                                        : memory->op == Op::PARAM && bytes > far_away &&
                                              (offset->min < 0 || offset->max >= far_away);
      }
      for (U s : u->src())
        src.push_back(s->dtype.scalar != Scalar::IDX || (keeps && s->op == Op::RANGE) ? became(s)
                      : wide_sources                                                  ? wide(s)
                                                                                      : low(s));
      if (u->op == Op::CAST && src[0] != u->src(0)) {
        became_[u] = cast(src[0], u->dtype);
        continue;
      }
      became_[u] = with_sources(u, src);
    }
    return became(sink_);
  }

  static constexpr i64 lanes_of_a_wave = 32;
  U sink_;
  Program& program_;
  U group_ = nullptr, item_ = nullptr, spare_ = nullptr;
  i64 across_ = 1, next_local_ = 0;  // lanes that a REDUCE combines: of one wave or several
  std::vector<U> given_;
  UMap<U> value_, low_, wide_, became_;
};

// Has the scalar unit this op, for this dtype (of its first source)? It has no floats, no comparison for order of 64
// bits and multiplies 32 bits.
bool scalar_unit_has(U u) {
  DType t = u->nsrc > 1 || has(u->op, TO_BOOL) ? u->src(u->op == Op::WHERE ? 1 : 0)->dtype : u->dtype;
  const bool idx = t.scalar == Scalar::IDX;
  switch (u->op) {
    case Op::WHERE: return t.is_bool() || t.bits() >= 32;
    case Op::CAST: return !u->src(0)->dtype.is_float() && !u->dtype.is_float();
    case Op::BITCAST: return u->dtype.bits() >= 32;
    case Op::MIN:
    case Op::MAX:
    case Op::CMPLT: return !t.is_float() && (idx || t.bits() == 32);
    case Op::IDIV:
    case Op::MOD: return idx;
    case Op::MUL: return !t.is_float() && (idx || t.bits() == 32 || t.scalar == Scalar::U64);
    case Op::ADD:
    case Op::SUB:
    case Op::NEG:
    case Op::AND:
    case Op::OR:
    case Op::XOR:
    case Op::SHL:
    case Op::SHR:
    case Op::CMPEQ:
    case Op::CMPNE: return !t.is_float() && (t.is_bool() || t.bits() >= 32);
    default: return false;
  }
}

}  // namespace

U indexed_memory(U index) {
  U m = index->src(0);
  while (m->op == Op::AFTER || m->op == Op::INDEX) m = m->src(0);
  return m;
}
i64 displacement(U index) { return index->arg(0) + (index->src(1)->is_const() ? index->src(1)->arg(0) : 0); }
UMap<bool> scalar_values(U sink) {
  UMap<bool> known;
  std::vector<U> order = toposort(sink), stored;
  for (U u : order)
    if (u->op == Op::STORE) stored.push_back(indexed_memory(u->src(0)));
  for (U u : order) {
    bool all = true;
    for (U s : u->src()) all &= *known.find(s);
    switch (u->op) {
      case Op::CONST:
      case Op::PARAM:
      case Op::LOCAL:
      case Op::INDEX: break;
      case Op::RANGE: all = u->range_kind() != RangeKind::VECTOR; break;
      case Op::LOAD:
        all &= u->dtype.bits() >= 32 && u->src(0)->nsrc == 2 && indexed_memory(u->src(0))->op == Op::PARAM &&
               std::ranges::find(stored, indexed_memory(u->src(0))) == stored.end();
        break;
      default: all &= scalar_unit_has(u);
    }
    known[u] = all;
  }
  return known;
}

U work_item(U sink, Program& program) { return WorkItem(sink, program).run(); }

}  // namespace ingot
