// SPDX-License-Identifier: MIT
// Narrow neighbours side by side in a 32-bit register, between work_item() and linearise().
//
// Elements of 8 and 16 bits whose copies are neighbours in memory are loaded and stored a dword at a time (what then
// are neighbouring dwords, instruction selection joins further). What stores a dword of f16 computes it in packed
// arithmetic as far as both halves do the same; where they part, VECTORIZE joins them. An element of a loaded dword is
// an EXTRACT. Rounding is that of the single operations: nothing is contracted or reassociated here.
#include <bit>
#include <map>
#include "compiler/codegen/codegen.h"

namespace ingot {
namespace {

constexpr int dword = 32;
bool is_narrow(DType t) { return t.lanes == 1 && t.bits() < dword && !t.is_bool(); }

constexpr i64 upper = (i64(1) << 32) - (1 << 16);
U upper_half_of(U u) {  // nullptr: it is none
  while (u->op == Op::BITCAST && u->dtype.bits() == 16) u = u->src(0);
  if (u->op != Op::CAST || u->dtype != U16 || u->src(0)->op != Op::SHR || !u->src(0)->src(1)->is_const(16))
    return nullptr;
  return u->src(0)->dtype == U32 ? u->src(0)->src(0) : nullptr;
}

class Packer {
 public:
  U run(U sink) {
    std::vector<U> order = toposort(sink), loads;
    for (U u : order)
      if (u->op == Op::LOAD && is_narrow(u->dtype)) loads.push_back(u);
    for (const std::vector<U>& word : words(loads))
      for (size_t k = 0; k < word.size(); k++) place_[word[k]] = {word[0], i64(k)};
    for (U u : order) became_[u] = rebuild(u);
    return *became_.find(sink);
  }

 private:
  struct Place {
    U first;
    i64 lane;
  };
  // Groups of accesses that fill an aligned dword, in order.
  static std::vector<std::vector<U>> words(const std::vector<U>& accesses) {
    struct Key {
      Scalar type;
      U where, offset, condition;
      std::vector<U> ranges;
      auto operator<=>(const Key&) const = default;
    };
    std::map<Key, std::map<i64, U>> groups;
    for (U u : accesses) {
      U index = u->src(0), where = index->src(0), offset = index->src(1);
      if ((!offset->is_const() && zero_bits(offset) < 2) || (where->op == Op::INDEX && zero_bits(where->src(1)) < 2))
        continue;
      std::vector<U> ranges(u->src().begin() + (u->op == Op::STORE ? 2 : 1), u->src().end());
      groups[{index->dtype.scalar, where, offset->is_const() ? nullptr : offset,
              index->nsrc > 2 ? index->src(2) : nullptr, ranges}][displacement(index)] = u;
    }
    std::vector<std::vector<U>> found;
    for (auto& [key, at] : groups)
      for (auto& [from, u] : at) {
        std::vector<U> word;
        for (i64 d = from; from % 4 == 0 && d < from + 4 && at.contains(d); d += u->src(0)->dtype.bytes())
          word.push_back(at[d]);
        if (i64(word.size()) * u->src(0)->dtype.bits() == dword) found.push_back(word);
      }
    return found;
  }
  static U index_of(U index, const std::vector<U>& src) {
    return make(Op::INDEX, index->dtype.with_lanes(dword / index->dtype.bits()), src, index->arg());
  }
  U became(U u) const { return *became_.find(u); }
  std::vector<U> sources(U u) const {
    std::vector<U> src;
    for (U s : u->src()) src.push_back(became(s));
    return src;
  }
  U rebuild(U u) {
    if (Place* p = place_.find(u)) {
      U index = index_of(p->first->src(0), sources(p->first->src(0)));
      return make(Op::EXTRACT, u->dtype, {make(Op::LOAD, index->dtype, {index})}, {p->lane});
    }
    std::vector<U> src = sources(u);
    if (u->op == Op::SINK || u->op == Op::AFTER) join_stores(src);
    return with_sources(u, src);
  }
  // The STOREs among what a SINK or AFTER waits for.
  void join_stores(std::vector<U>& src) {
    std::vector<U> narrow;
    for (U s : src)
      if (s->op == Op::STORE && is_narrow(s->src(0)->dtype)) narrow.push_back(s);
    for (const std::vector<U>& word : words(narrow)) {
      U first = word[0], index = first->src(0);
      std::vector<U> values, store(first->src().begin(), first->src().end());
      for (U s : word) values.push_back(s->src(1));
      store[0] = index_of(index, {index->src().begin(), index->src().end()});
      store[1] = values.size() == 2 ? pair(values[0], values[1]) : join(values);
      for (U s : word) std::erase(src, s);
      src.push_back(make(Op::STORE, VOID, store));
    }
  }
  static U join(const std::vector<U>& v) {
    DType t = v[0]->dtype.with_lanes(int(v.size()));
    bool constant = true;
    u32 bits = 0;  // narrow floats' constants are the bits of integers
    for (size_t k = 0; k < v.size(); k++) {
      U c = v[k]->op == Op::BITCAST ? v[k]->src(0) : v[k];
      constant = constant && c->is_const() && c->dtype.is_int();
      if (constant) bits |= (u32(c->arg(0)) & ((u32(1) << t.bits()) - 1)) << (int(k) * t.bits());
    }
    if (constant) return make(Op::BITCAST, t, {ingot::constant(U32, i64(bits))});
    if (U low = upper_half_of(v[0]), high = upper_half_of(v[1]); low && high)
      return make(Op::BITCAST, t,
                  {make(Op::OR, U32,
                        {make(Op::AND, U32, {high, ingot::constant(U32, upper)}),
                         make(Op::SHR, U32, {low, ingot::constant(U32, 16)})})});
    return simplify(make(Op::VECTORIZE, t, v));
  }
  static bool packs(U a, U b) {
    return a->dtype == F16 && a->op == b->op &&
           (a->op == Op::ADD || a->op == Op::SUB || a->op == Op::MUL || a->op == Op::FMA || a->op == Op::NEG);
  }
  U pair(U a, U b) {
    std::vector<std::pair<U, U>> work{{a, b}};
    while (!work.empty()) {
      auto [x, y] = work.back();
      U& made = pairs_[{x, y}];
      if (!made && !packs(x, y)) made = join({x, y});
      if (!made) {
        const size_t waiting = work.size();
        std::vector<U> src;
        for (int i = 0; i < int(x->nsrc); i++) {
          src.push_back(pairs_[{x->src(i), y->src(i)}]);
          if (!src.back()) work.push_back({x->src(i), y->src(i)});
        }
        if (work.size() > waiting) continue;
        const DType t = x->dtype.with_lanes(2);
        if (x->op == Op::SUB) src[1] = make(Op::NEG, t, {src[1]});
        made = make(x->op == Op::SUB ? Op::ADD : x->op, t, src);
      }
      work.pop_back();
    }
    return pairs_[{a, b}];
  }

  UMap<Place> place_;
  UMap<U> became_;
  std::map<std::pair<U, U>, U> pairs_;
};

// bf16 is the upper half of an f32: what widens one half of a dword, or a value just narrowed, is one operation.
constexpr Rule widening_rules[] = {
    {op(Op::SHL, op(Op::CAST, holes::x), 16),
     [](const Match& m) -> U {
       U x = m[holes::x];
       while (x->op == Op::BITCAST && x->dtype.bits() == 16 && x->src(0)->dtype.lanes == 1) x = x->src(0);
       if (m.root->dtype != U32 || x->dtype.bits() != 16) return nullptr;
       if (U whole = upper_half_of(x)) return make(Op::AND, U32, {whole, constant(U32, upper)});
       if (x->op != Op::EXTRACT || x->src(0)->dtype.lanes != 2) return nullptr;
       U whole = make(Op::BITCAST, U32, {x->src(0)});
       return x->arg(0) ? make(Op::AND, U32, {whole, constant(U32, upper)})
                        : make(Op::SHL, U32, {whole, constant(U32, 16)});
     }},
};

}  // namespace

int zero_bits(U u) {
  if (u->is_const()) return u->arg(0) ? std::countr_zero(u64(u->arg(0))) : dword;
  if (u->op == Op::SHL && u->src(1)->is_const()) return zero_bits(u->src(0)) + int(u->src(1)->arg(0));
  if (u->op == Op::ADD || u->op == Op::OR) return std::min(zero_bits(u->src(0)), zero_bits(u->src(1)));
  if (u->op == Op::MUL) return zero_bits(u->src(0)) + zero_bits(u->src(1));
  return 0;
}

U pack_narrow(U sink) {
  static const RuleList widening{{"widening", Arithmetic::ANY, widening_rules}};
  return rewrite(Packer().run(sink), widening);
}

}  // namespace ingot
