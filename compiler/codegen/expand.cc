// SPDX-License-Identifier: MIT
// UNROLL ranges become copies, REDUCEs get their accumulators, and the VECTOR range becomes the lanes of vectors.
//
// Two passes, each over the graph in topological order. unroll() makes, for every node, one copy per value of the
// UNROLL ranges that it depends on; a REDUCE's copies over its own UNROLL ranges become a chain of updates of an
// accumulator. VECTOR ranges are still ordinary ranges then. vectorise() gives every node that depends on one (the
// kernel's, and each copy into a panel has its own) a vector form: an access whose address moves by one element becomes
// a vector access, by none a repeated scalar, any other way one scalar access per lane. Conditions on the lane number
// become masks computed in i32.
#include <algorithm>
#include "compiler/codegen/codegen.h"

namespace ingot {
namespace {

constexpr int accumulators_wanted = 8;  // FMA latency 4, two a cycle: fewer independent chains leave the units idle

// a op b, where a product that is added becomes an FMA, and a value that counts only under a condition updates only
// under it.
U combine(Op op, U a, U b) {
  DType t = a->dtype;
  if (b->op == Op::WHERE && b->src(2) == identity_of(op, t))
    return make(Op::WHERE, t, {b->src(0), combine(op, a, b->src(1)), a});
  if (op == Op::ADD && b->op == Op::MATRIX) return make(Op::MATRIX, t, {b->src(0), b->src(1), a});
  if (op == Op::ADD && b->op == Op::MUL && (t.scalar == Scalar::F32 || t.scalar == Scalar::F64))
    return make(Op::FMA, t, {b->src(0), b->src(1), a});
  return make(op, t, {a, b});
}

// ---- copies --------------------------------------------------------------------------------------------------------
class Unroller {
 public:
  U run(U sink) {
    std::vector<U> order = toposort(sink);
    for (U u : order)
      if (u->op == Op::RANGE && u->range_kind() == RangeKind::UNROLL) axes_.push_back(u);
    check(axes_.size() <= 32, "more than 32 unrolled ranges");
    for (U u : order) copy(u);
    return copies_.find(sink)->at[0];
  }

 private:
  struct Copies {
    u32 mask = 0;       // axes that the node depends on
    std::vector<U> at;  // one per combination, the last axis fastest
  };
  i64 size(size_t axis) const { return axes_[axis]->src(0)->arg(0); }
  i64 combinations(u32 mask) const {
    i64 n = 1;
    for (size_t i = 0; i < axes_.size(); i++)
      if (mask >> i & 1) n *= size(i);
    return n;
  }
  void coordinates(i64 k, u32 mask, i64* at) const {
    for (size_t i = axes_.size(); i-- > 0;)
      if (mask >> i & 1) at[i] = k % size(i), k /= size(i);
  }
  U at(const Copies& c, const i64* coordinate) const {
    i64 k = 0;
    for (size_t i = 0; i < axes_.size(); i++)
      if (c.mask >> i & 1) k = k * size(i) + coordinate[i];
    return c.at[size_t(k)];
  }

  void copy(U u) {
    Copies result;
    if (u->op == Op::RANGE && u->range_kind() == RangeKind::UNROLL) {
      size_t axis = size_t(std::ranges::find(axes_, u) - axes_.begin());
      result.mask = u32(1) << axis;
      for (i64 i = 0; i < size(axis); i++) result.at.push_back(index_constant(i));
      copies_[u] = std::move(result);
      return;
    }
    bool closes = u->op == Op::REDUCE || u->op == Op::STORE;
    u32 own = 0;  // axes closed here
    for (size_t i = 0; i < u->nsrc; i++) {
      u32 m = copies_.find(u->src(int(i)))->mask;
      result.mask |= m;
      if (closes && u->src(int(i))->op == Op::RANGE && i >= (u->op == Op::STORE ? 2u : 1u)) own |= m;
    }
    if (u->op == Op::SINK || u->op == Op::AFTER) {  // all copies of their effects
      std::vector<U> all;
      for (U s : u->src()) {
        const Copies& c = *copies_.find(s);
        all.insert(all.end(), c.at.begin(), c.at.end());
      }
      result.mask = 0;
      result.at.push_back(make(u->op, u->dtype, all));
      copies_[u] = std::move(result);
      return;
    }
    if (u->op == Op::REDUCE) result.mask &= ~own;
    i64 n = combinations(result.mask);
    std::vector<U> src;
    i64 coordinate[32] = {};
    for (i64 k = 0; k < n; k++) {
      coordinates(k, result.mask, coordinate);
      if (u->op == Op::REDUCE) {
        result.at.push_back(reduce(u, own, coordinate, n));
        continue;
      }
      src.clear();
      for (U s : u->src()) {
        const Copies& c = *copies_.find(s);
        if (closes && s->op == Op::RANGE && c.mask) continue;  // the unrolled loop is gone
        src.push_back(at(c, coordinate));
      }
      U v = std::ranges::equal(src, u->src()) ? u : make(u->op, u->dtype, src, u->arg());
      if (u->op == Op::INDEX) v = simplify(v);
      if (u->op == Op::EXTRACT && v->nsrc == 2)
        v = make(Op::EXTRACT, v->dtype, {v->src(0)}, {v->arg(0) + v->src(1)->arg(0)});
      result.at.push_back(v);
    }
    copies_[u] = std::move(result);
  }

  // One copy of a REDUCE: chains of updates over its own unrolled axes, in as many accumulators as keep the units busy.
  U reduce(U u, u32 own, i64* coordinate, i64 copies) {
    Op op = Op(u->arg(0));
    std::vector<U> loops;
    for (U r : u->src().subspan(1))
      if (r->range_kind() != RangeKind::UNROLL) loops.push_back(*copies_.find(r)->at.begin());
    bool looped = std::ranges::any_of(loops, [](U r) { return r->range_kind() != RangeKind::VECTOR; });
    i64 n = combinations(own);
    i64 chains = looped ? std::clamp<i64>(accumulators_wanted / copies, 1, n) : 1;
    std::vector<U> chain(static_cast<size_t>(chains));
    std::vector<i64> ids;
    for (U& c : chain)
      if (looped) c = make(Op::ACC, u->dtype, {}, {next_acc_}), ids.push_back(next_acc_++);
    const Copies& value = *copies_.find(u->src(0));
    for (i64 k = 0; k < n; k++) {
      coordinates(k, own, coordinate);
      U& c = chain[size_t(k % chains)];
      U v = at(value, coordinate);
      c = c ? combine(op, c, v) : v;
    }
    U result = nullptr;
    for (size_t i = 0; i < chain.size(); i++) {
      std::vector<U> src{chain[i]};
      src.insert(src.end(), loops.begin(), loops.end());
      U r = loops.empty() ? chain[i] : make(Op::REDUCE, u->dtype, src, std::array{i64(op), looped ? ids[i] : -1});
      result = result ? make(op, u->dtype, {result, r}) : r;
    }
    return result;
  }

  std::vector<U> axes_;
  UMap<Copies> copies_;
  i64 next_acc_ = 0;
};

// ---- lanes ---------------------------------------------------------------------------------------------------------
class Vectoriser {
 public:
  Vectoriser(U range) : range_(range), lanes_(int(range->src(0)->arg(0))) {}
  U run(U sink) {
    std::vector<U> order = toposort(sink);
    for (U u : order) {
      bool open = u == range_;
      for (U s : u->src()) open |= s->op != Op::STORE && *depends_.find(s);  // a STORE closes it
      bool closes = u->op == Op::REDUCE && std::ranges::find(u->src(), range_) != u->src().end();
      depends_[u] = open && !closes;
      if (u->op == Op::REDUCE && open && u->arg(1) >= 0)
        form_[make(Op::ACC, u->dtype, {}, {u->arg(1)})] = make(Op::ACC, u->dtype.with_lanes(lanes_), {}, {u->arg(1)});
    }
    for (U u : order) convert(u);
    return *form_.find(sink);
  }

 private:
  U splat(U x) {
    if (x->dtype.lanes > 1) return x;
    DType t = x->dtype.with_lanes(lanes_);
    return x->is_const() ? make(Op::CONST, t, {}, x->arg()) : make(Op::VECTORIZE, t, {x});
  }
  U form(U x) {
    U* f = form_.find(x);
    return f ? *f : x;
  }
  static U one_lane(U v, i64 lane) {  // a mask has no lanes to take: its numbers do
    DType t = v->dtype.is_bool() ? I32.with_lanes(v->dtype.lanes) : v->dtype;
    U numbers = v->dtype.is_bool() ? make(Op::WHERE, t, {v, constant(t, 1), constant(t, 0)}) : v;
    return cast(make(Op::EXTRACT, t.element(), {numbers}, {lane}), v->dtype.element());
  }
  U at_lane(U x, i64 lane) {
    UMap<U> map;
    map[range_] = index_constant(lane);
    for (U r : reduces_) map[r] = one_lane(*form_.find(r), lane);
    return simplify(substitute(x, map));
  }
  // The lanes of an idx or bool expression in the lane number; integers as i32. Depth is that of an index expression.
  U lanes_of(U x) {
    if (!depends_on_lane(x)) return splat(x->dtype.scalar == Scalar::IDX ? cast(x, I32) : form(x));
    if (x->dtype.scalar == Scalar::IDX) {
      LinearForm f = linear_form(x), rest;
      rest.constant = f.constant;
      i64 step = 0;
      bool affine = true;
      for (auto& [term, k] : f.terms) {
        if (term == range_)
          step = k;
        else
          affine &= !depends_on_lane(term), rest.terms.push_back({term, k});
      }
      if (affine) {
        std::vector<i64> counts;
        for (i64 i = 0; i < lanes_; i++) counts.push_back(i * step);
        DType t = I32.with_lanes(lanes_);
        U base = build(rest);
        if (base->is_const()) {
          for (i64& c : counts) c += base->arg(0);
          return make(Op::CONST, t, {}, counts);
        }
        return make(Op::ADD, t, {splat(cast(base, I32)), make(Op::CONST, t, {}, counts)});
      }
      if (x->op == Op::CAST) {
        U y = form(x->src(0));
        return cast(splat(y), I32.with_lanes(lanes_));
      }
    }
    if (has(x->op, TO_BOOL) && x->src(0)->dtype.scalar != Scalar::IDX) return splat(form(x));
    if (x->op == Op::LOAD) return splat(form(x));
    std::vector<U> src;
    for (U s : x->src()) src.push_back(lanes_of(form(s)));
    DType t = (x->dtype.scalar == Scalar::IDX ? I32 : x->dtype).with_lanes(lanes_);
    if (has(x->op, TO_BOOL))  // constant masks need no code
      if (U folded = fold_compare(x->op, src)) return folded;
    if (x->op == Op::AND || x->op == Op::OR || x->op == Op::XOR)
      if (U folded = fold_logic(x->op, t, src)) return folded;
    return make(x->op, t, src, x->arg());
  }
  static bool literal(U x) { return x->op == Op::CONST; }
  static i64 lane(U x, int i) { return x->arg(x->narg == 1 ? 0 : i); }
  U fold_compare(Op op, const std::vector<U>& src) {
    // base + [constants] against a repeated scalar: compare the lane numbers with the scalar difference, clamped to i32
    // range
    if (literal(src[0]) && literal(src[1])) {
      std::vector<i64> bits;
      for (int i = 0; i < lanes_; i++) {
        i64 a = lane(src[0], i), b = lane(src[1], i);
        bits.push_back(op == Op::CMPLT ? a < b : op == Op::CMPEQ ? a == b : a != b);
      }
      return mask(bits);
    }
    return nullptr;
  }
  U fold_logic(Op op, DType t, const std::vector<U>& src) {
    if (!literal(src[0]) || !literal(src[1])) return nullptr;
    std::vector<i64> v;
    for (int i = 0; i < lanes_; i++) {
      i64 a = lane(src[0], i), b = lane(src[1], i);
      v.push_back(op == Op::AND ? a & b : op == Op::OR ? a | b : a ^ b);
    }
    return t.is_bool() ? mask(v) : make(Op::CONST, t, {}, v);
  }
  U mask(std::vector<i64> bits) {
    bool same = std::ranges::all_of(bits, [&](i64 b) { return b == bits[0]; });
    if (same) bits.resize(1);
    return make(Op::CONST, BOOL.with_lanes(lanes_), {}, bits);
  }
  bool depends_on_lane(U x) {
    if (const bool* known = depends_.find(x)) return *known;
    bool d = x == range_;
    for (U s : x->src()) d |= depends_on_lane(s);
    depends_[x] = d;
    return d;
  }

  std::optional<i64> step_of(U offset, U* base) {
    LinearForm f = linear_form(offset), rest;
    rest.constant = f.constant;
    i64 step = 0;
    for (auto& [term, k] : f.terms) {
      if (term == range_)
        step = k;
      else if (depends_on_lane(term))
        return std::nullopt;
      else
        rest.terms.push_back({term, k});
    }
    *base = build(rest);
    return step;
  }
  U condition_lanes(U index) {  // nullptr: always
    if (index->nsrc < 3) return nullptr;
    U m = lanes_of(index->src(2));
    return m->is_const() && m->narg == 1 && m->arg(0) ? nullptr : m;
  }
  U index_of(U index, U offset, U condition, DType t) {
    std::vector<U> src{index->src(0), offset};
    if (condition) src.push_back(condition);
    return make(Op::INDEX, t, src);
  }

  U load(U u) {
    U index = form(u->src(0)), base = nullptr;
    std::optional<i64> step = step_of(index->src(1), &base);
    if (step && *step == 0 && (index->nsrc < 3 || !depends_on_lane(index->src(2)))) return splat(u);
    if (step && *step == 1) {
      DType t = u->dtype.is_bool() ? U8.with_lanes(lanes_) : u->dtype.with_lanes(lanes_);
      U v = make(Op::LOAD, t, {index_of(index, base, condition_lanes(index), t)});
      if (!u->dtype.is_bool()) return v;
      U wide = cast(v, I32.with_lanes(lanes_));
      return make_alu(Op::CMPNE, wide, constant(wide->dtype, 0));
    }
    std::vector<U> each;
    DType t = (u->dtype.is_bool() ? I32 : u->dtype).with_lanes(lanes_);
    for (int i = 0; i < lanes_; i++) each.push_back(cast(at_lane(u, i), t.element()));
    U v = make(Op::VECTORIZE, t, each);
    return u->dtype.is_bool() ? make_alu(Op::CMPNE, v, constant(t, 0)) : v;
  }

  void store(U u, std::vector<U>& out) {
    U index = form(u->src(0)), value = form(u->src(1)), base = nullptr;
    std::vector<U> ranges;
    for (U r : u->src().subspan(2))
      if (r != range_) ranges.push_back(r);
    std::optional<i64> step = step_of(index->src(1), &base);
    auto emit = [&](U where, U what) {
      std::vector<U> src{where, what};
      src.insert(src.end(), ranges.begin(), ranges.end());
      out.push_back(make(Op::STORE, VOID, src));
    };
    if (step && *step == 1) {
      value = splat(value);
      if (value->dtype.is_bool()) {
        DType t = I32.with_lanes(lanes_);
        value = cast(make(Op::WHERE, t, {value, constant(t, 1), constant(t, 0)}), U8.with_lanes(lanes_));
      }
      emit(index_of(index, base, condition_lanes(index), value->dtype), value);
      return;
    }
    for (int i = 0; i < lanes_; i++) {
      U where = at_lane(index, i);
      if (where->nsrc > 2 && where->src(2)->is_const(0)) continue;
      U what = value->dtype.lanes > 1 ? one_lane(value, i) : value;
      emit(where, what);
    }
  }

  U across(Op op, U v) {  // combines the lanes, halving
    while (v->dtype.lanes > 1) {
      int half = v->dtype.lanes / 2;
      DType t = v->dtype.with_lanes(half);
      v = make(op, t, {make(Op::EXTRACT, t, {v}, {0}), make(Op::EXTRACT, t, {v}, {half})});
    }
    return v;
  }

  void convert(U u) {
    if (u->op == Op::STORE) {
      std::vector<U> out;
      if (*depends_.find(u))
        store(u, out);
      else
        out.push_back(rebuild(u));
      stores_[u] = out;
      return;
    }
    if (u->op == Op::SINK || u->op == Op::AFTER) {
      std::vector<U> all;
      for (U s : u->src()) {
        if (s->op != Op::STORE) {
          all.push_back(form(s));
          continue;
        }
        const std::vector<U>& v = *stores_.find(s);
        all.insert(all.end(), v.begin(), v.end());
      }
      form_[u] = make(u->op, u->dtype, all);
      return;
    }
    if (u->op == Op::RANGE || u->op == Op::ACC) return;
    if (u->op == Op::INDEX || u->dtype.scalar == Scalar::IDX) {  // stays in terms of the lane number
      U v = symbolic(u);
      if (v != u) form_[u] = v;
      return;
    }
    bool closes = u->op == Op::REDUCE && std::ranges::find(u->src(), range_) != u->src().end();
    if (closes) {
      std::vector<U> src{splat(form(u->src(0)))};
      for (U r : u->src().subspan(1))
        if (r != range_) src.push_back(r);
      U v = src.size() > 1 ? make(Op::REDUCE, u->dtype.with_lanes(lanes_), src, u->arg()) : src[0];
      form_[u] = across(Op(u->arg(0)), v);
      return;
    }
    // A REDUCE over a lane form that its accumulator alone brings in (its value is the same in every lane) stays
    // scalar.
    if (!depends_on_lane(u)) {
      bool vector_source = false;
      for (U s : u->src()) vector_source |= form(s)->dtype.lanes > s->dtype.lanes;
      if (!vector_source) {
        U v = rebuild(u);
        if (v != u) form_[u] = v;
        return;
      }
    }
    if (u->op == Op::LOAD) {
      form_[u] = load(u);
      return;
    }
    if (has(u->op, TO_BOOL) && u->src(0)->dtype.scalar == Scalar::IDX) {
      form_[u] = lanes_of(symbolic(u));
      return;
    }
    std::vector<U> src;
    for (U s : u->src()) {
      if (s->op == Op::RANGE && u->op == Op::REDUCE)
        src.push_back(s);
      else if (s->dtype.scalar == Scalar::IDX)
        src.push_back(lanes_of(form(s)));
      else
        src.push_back(splat(form(s)));
    }
    form_[u] = make(u->op, u->dtype.with_lanes(lanes_), src, u->arg());
    if (u->op == Op::REDUCE) reduces_.push_back(u);
  }
  U symbolic(U u) {  // with what has one value in all lanes in its place
    std::vector<U> src;
    for (U s : u->src()) src.push_back(form(s)->dtype.lanes == 1 ? form(s) : s);
    return with_sources(u, src);
  }
  U rebuild(U u) {
    std::vector<U> src;
    for (U s : u->src()) src.push_back(form(s));
    return with_sources(u, src);
  }

  U range_;
  int lanes_;
  UMap<bool> depends_;
  std::vector<U> reduces_;  // that have a value in each lane
  UMap<U> form_;
  UMap<std::vector<U>> stores_;
};

}  // namespace

U expand(U sink, const Target& target) {
  sink = Unroller().run(sink);
  if (machine_of(target).simt()) return sink;
  std::vector<U> vectors;
  for (U u : toposort(sink))
    if (u->op == Op::RANGE && u->range_kind() == RangeKind::VECTOR) vectors.push_back(u);
  for (U range : vectors) sink = Vectoriser(range).run(sink);
  return sink;
}

}  // namespace ingot
