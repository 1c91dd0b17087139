// SPDX-License-Identifier: MIT
// The moves, and the heuristic that chooses them.
//
// Every range may be split, r = ((outer * block + b) * unroll + u) * lanes + v (codegen.h, Split). Which range becomes
// lanes is decided by counting: for each candidate, the cost of one pass over the kernel with that range in lanes,
// where an access costs one vector instruction when its address moves by one element or not at all and `lanes` scalar
// ones otherwise, or is packed once into a level's memory with its lanes side by side (STAGE) when enough of the kernel
// reads it again. Unrolling LOOP ranges makes a register tile: the factors that minimise loads per arithmetic
// instruction with all accumulators in registers. The loop with the most independent work goes outermost and is split
// over the cores.
#include <algorithm>
#include <bit>
#include <cmath>
#include "compiler/codegen/codegen.h"

namespace ingot {
namespace {

struct Access {
  U u, index;  // LOAD or STORE, its INDEX
  u64 deps;    // bit per range
  bool store;
};
struct Shape {            // what the heuristic looks at
  std::vector<U> ranges;  // bit i of a mask is ranges[i]
  UMap<u64> deps;         // ranges that a node's value depends on
  std::vector<Access> accesses;
  std::vector<std::pair<U, u64>> alu;  // what computes elements, and the ranges it depends on
  std::vector<U> loops, reduces;       // LOOP ranges of the stores; REDUCE ranges
  U main_reduce = nullptr;             // the REDUCE with most iterations
  u64 bit(U range) const {
    for (size_t i = 0; i < ranges.size(); i++)
      if (ranges[i] == range) return u64(1) << i;
    return 0;
  }
};

i64 bound(U range) { return range->src(0)->arg(0); }

double trips(const Shape& s, u64 mask) {
  double n = 1;
  for (size_t i = 0; i < s.ranges.size(); i++)
    if (mask >> i & 1) n *= double(bound(s.ranges[i]));
  return n;
}

Shape look_at(U sink) {
  Shape s;
  std::vector<U> order = toposort(sink);
  for (U u : order)
    if (u->op == Op::RANGE) s.ranges.push_back(u);
  check(s.ranges.size() <= 64, "kernel with ", s.ranges.size(), " ranges; at most 64");
  double most = 0;
  for (U u : order) {
    u64 d = u->op == Op::RANGE ? s.bit(u) : 0;
    for (U x : u->src()) d |= *s.deps.find(x);
    if (u->op == Op::REDUCE) {
      if (double t = trips(s, d); t > most) most = t, s.main_reduce = u;
      for (U r : u->src().subspan(1)) {
        d &= ~s.bit(r);
        if (std::ranges::find(s.reduces, r) == s.reduces.end()) s.reduces.push_back(r);
      }
    }
    s.deps[u] = d;
    if (has(u->op, ALU) && u->dtype.scalar != Scalar::IDX) s.alu.push_back({u, d});
    if (u->op == Op::LOAD) s.accesses.push_back({u, u->src(0), d, false});
    if (u->op == Op::STORE) {
      s.accesses.push_back({u, u->src(0), d, true});
      for (U r : u->src().subspan(2))
        if (std::ranges::find(s.loops, r) == s.loops.end()) s.loops.push_back(r);
    }
  }
  return s;
}

// Elements by which an access moves when `range` advances by one; nullopt: not by a constant.
std::optional<i64> stride(const Shape& s, U index, U range) {
  u64 bit = s.bit(range);
  i64 total = 0;
  for (auto& [term, coefficient] : linear_form(index->src(1)).terms) {
    if (term == range)
      total += coefficient;
    else if (*s.deps.find(term) & bit)
      return std::nullopt;
  }
  return total;
}

bool fits_i32(U u) { return u->min > -(i64(1) << 31) && u->max < (i64(1) << 31) - 1; }

// Lanes that `range` could have; 1: it cannot be lanes. A vector's width is what the widest element type fills, and
// narrow integers are computed in 32 bits. What lanes need from idx arithmetic they do in i32.
int lanes_for(const Shape& s, const std::vector<U>& order, U range, const Machine& machine) {
  const bool masks_narrow = machine.lane_masks;
  u64 bit = s.bit(range);
  int widest = 32;
  for (U u : order) {
    if (!(*s.deps.find(u) & bit) || u->op == Op::RANGE) continue;
    DType t = u->dtype;
    if (t.scalar == Scalar::IDX) {  // in lanes it is i32, and divides in f64
      if (u->op == Op::IDIV || u->op == Op::MOD) widest = 64;
      continue;
    }
    if (t == VOID) continue;
    widest = std::max(widest, t.bits());
    if (!masks_narrow && t.bits() < 32 && u->op == Op::LOAD && u->src(0)->nsrc > 2) return 1;
    switch (u->op) {  // no lane form: integer division, wide multiplies of AVX2, anything that calls
      case Op::IDIV:
      case Op::MOD: return 1;
      case Op::MUL:
        if (!masks_narrow && t.is_int() && t.bits() == 64) return 1;
        break;
      case Op::CAST: {
        DType from = u->src(0)->dtype;
        if (from.scalar == Scalar::IDX && !fits_i32(u->src(0))) return 1;
        if (!masks_narrow && (from.bits() == 64 || t.bits() == 64) && from.scalar != Scalar::IDX) return 1;
        if (!masks_narrow && (from.is_int() || t.is_int()) && std::min(from.bits(), t.bits()) < 32) return 1;
        break;
      }
      default: break;
    }
    if (!masks_narrow && (t.bits() == 64 || (t.is_int() && t.bits() < 32))) return 1;
    if (has(u->op, TO_BOOL) && u->src(0)->dtype.scalar == Scalar::IDX && (!fits_i32(u->src(0)) || !fits_i32(u->src(1))))
      return 1;
  }
  return machine.lanes(widest);
}

// Ranges whose every iteration runs what depends on `deps`: inside a reduction, all loops around it too.
u64 executed(const Shape& s, u64 deps) {
  u64 loops = 0, reduces = 0;
  for (U r : s.loops) loops |= s.bit(r);
  for (U r : s.reduces) reduces |= s.bit(r);
  return deps & reduces ? deps | loops : deps;
}

// What a load inside the main reduction would cost as a panel: how often it is read again, and its bytes when the parts
// of LOOP ranges inside the panel are `inside` elements long.
constexpr double least_reuse = 32;
double copies_of(const Machine& machine) { return 4 * std::max(machine.workers(), 2); }  // each worker packs its own
constexpr i64 far_apart = 512;                                                           // bytes between two rows
struct Panel {
  double reuse = 0;  // passes over the panel
  i64 bytes = 0;
};
template <class F>
std::optional<Panel> panel_of(const Shape& s, const Access& a, F inside) {
  if (a.store || !s.main_reduce || a.u->dtype.is_bool()) return {};
  u64 inner = *s.deps.find(s.main_reduce->src(0)), closed = 0;
  for (U r : s.main_reduce->src().subspan(1)) closed |= s.bit(r);
  if (!(a.deps & closed) || (a.deps & ~inner)) return {};
  for (U u : toposort(a.index))
    if (u->op == Op::LOAD || u->op == Op::REDUCE) return {};
  Panel p{1, a.u->dtype.bytes()};
  for (U r : s.ranges) {
    if (a.deps & s.bit(r)) {
      i64 n = closed & s.bit(r) ? bound(r) : inside(r);
      if (p.bytes > (i64(1) << 40) / std::max<i64>(n, 1)) return {};
      p.bytes *= n;
      if (!(closed & s.bit(r)) && std::ranges::find(s.loops, r) == s.loops.end()) return {};  // of another REDUCE
    } else if (std::ranges::find(s.loops, r) != s.loops.end()) {
      p.reuse *= double(bound(r));
    }
  }
  if (p.reuse < least_reuse) return {};
  return p;
}

// Cost of one pass with `range` as `lanes` lanes, in scalar-or-vector instructions. `staged`: the access whose panel
// the count relies on.
double pass_cost(const Shape& s, const std::vector<U>& order, U range, int lanes, const Machine& machine,
                 const Access** staged) {
  *staged = nullptr;
  u64 bit = range ? s.bit(range) : 0;
  double cost = 0;
  double shrink = range ? double((bound(range) + lanes - 1) / lanes) / double(bound(range)) : 1;
  for (const Access& a : s.accesses) {
    u64 runs = executed(s, a.deps);
    double n = trips(s, runs) * (runs & bit ? shrink : 1);
    const bool guarded = a.index->nsrc > 2;  // a scalar's guard costs its address, a vector's a mask
    if (!(a.deps & bit)) {
      cost += n * (guarded ? 6 : 0.5);  // a repeated scalar, often an operand of the instruction that uses it
      continue;
    }
    std::optional<i64> step = stride(s, a.index, range);
    double each = step && *step == 1 ? (guarded ? 2.5 : 1) : step && *step == 0 ? 0.5 : 2.0 * lanes;
    if (step && *step == 0 && a.store) each = 2.0 * lanes;
    if (each > 2.5 && !*staged) {
      std::optional<Panel> p = panel_of(s, a, [&](U r) { return i64(r == range ? lanes : 1); });
      double copy = p ? trips(s, a.deps) * (guarded ? 8 : 2) * std::min(copies_of(machine), p->reuse) : 0;
      if (!machine.lane_bits) copy /= lanes;  // lanes that hold any element copy one each
      if (p && machine.room_for(p->bytes) && n + copy < n * each) {
        *staged = &a;
        cost += n + copy;
        continue;
      }
    }
    cost += n * each;
  }
  for (U u : order) {
    if (!has(u->op, ALU) || u->dtype.scalar == Scalar::IDX) continue;
    u64 d = executed(s, *s.deps.find(u));
    cost += trips(s, d) * (d & bit ? shrink : 1);
  }
  if (range && range->range_kind() == RangeKind::REDUCE)  // the horizontal combination at the end
    cost += trips(s, s.main_reduce ? *s.deps.find(s.main_reduce) : 0) * 2 * std::log2(double(lanes));
  return cost;
}

i64 largest_divisor(i64 n, i64 most) {
  for (i64 d = std::min(n, most); d > 1; d--)
    if (n % d == 0) return d;
  return 1;
}

}  // namespace

Split* Plan::split(U range) {
  for (auto& [r, s] : splits)
    if (r == range) return &s;
  splits.push_back({range, {}});
  return &splits.back().second;
}

LinearForm linear_form(U index) {
  LinearForm form;
  std::vector<std::pair<U, i64>> work{{index, 1}};
  while (!work.empty()) {
    auto [u, k] = work.back();
    work.pop_back();
    if (u->is_const())
      form.constant += k * u->arg(0);
    else if (u->op == Op::ADD)
      work.push_back({u->src(1), k}), work.push_back({u->src(0), k});
    else if (u->op == Op::SUB)
      work.push_back({u->src(1), -k}), work.push_back({u->src(0), k});
    else if (u->op == Op::NEG)
      work.push_back({u->src(0), -k});
    else if (u->op == Op::MUL && u->src(1)->is_const())
      work.push_back({u->src(0), k * u->src(1)->arg(0)});
    else if (u->op == Op::SHL && u->src(1)->is_const())
      work.push_back({u->src(0), k << u->src(1)->arg(0)});
    else {
      auto at = std::ranges::find(form.terms, u, &std::pair<U, i64>::first);
      if (at == form.terms.end())
        form.terms.push_back({u, k});
      else
        at->second += k;
    }
  }
  std::erase_if(form.terms, [](auto& t) { return t.second == 0; });
  return form;
}
U identity_of(Op op, DType t) {
  if (op == Op::ADD || op == Op::MUL) return constant(t, op == Op::MUL);
  check(op == Op::MAX || op == Op::MIN, "no identity of ", op);
  if (t.is_float()) return constant_float(t, op == Op::MAX ? -INFINITY : INFINITY);
  if (t.is_bool()) return constant(t, op == Op::MIN);
  i64 least = t.is_signed() ? i64(~u64(0) << (t.bits() - 1)) : 0;
  return constant(t, op == Op::MAX ? least : ~least);
}
U build(const LinearForm& form) {
  Expr sum = 0;
  for (auto& [term, k] : form.terms) sum = sum + Expr(term) * k;
  return sum + Expr(form.constant);
}

namespace {

// A product: two loads in the main reduction, each over LOOP ranges that the other does not depend on.
struct Tile {
  U product = nullptr;                                   // for a matrix unit
  U rows = nullptr, columns = nullptr, inner = nullptr;  // inner: the longest range of the reduction
  const Access* loads[2] = {};                           // over rows, over columns
};
Tile tile_of(const Shape& s) {
  Tile t;
  U vector = nullptr;
  for (const Access& a : s.accesses)
    for (U r : s.loops)
      if (a.store && stride(s, a.index, r) == 1) vector = r;
  if (!s.main_reduce || !vector) return {};
  t.inner = s.main_reduce->src(1), t.columns = vector;
  for (U r : s.main_reduce->src().subspan(1))
    if (bound(r) > bound(t.inner)) t.inner = r;
  const U value = s.main_reduce->src(0);
  t.product = value->op == Op::MATRIX ? value : nullptr;
  std::vector<const Access*> loads;
  for (const Access& a : s.accesses)
    if (!a.store && (a.deps & s.bit(t.inner))) loads.push_back(&a);
  if (loads.size() != 2 || (!t.product && (loads[0]->u->dtype.bits() < 32 || s.main_reduce->nsrc != 2))) return {};
  if (loads[0]->deps & s.bit(vector)) std::swap(loads[0], loads[1]);
  if (loads[0]->deps & s.bit(vector) || !(loads[1]->deps & s.bit(vector)) || loads[1]->u->dtype != loads[0]->u->dtype)
    return {};
  for (U r : s.loops)
    if (r != vector && loads[0]->deps & s.bit(r) && !(loads[1]->deps & s.bit(r)) &&
        (!t.rows || bound(r) > bound(t.rows)))
      t.rows = r;
  if (!t.rows || !stride(s, loads[0]->index, t.inner) || !stride(s, loads[1]->index, t.inner)) return {};
  t.loads[0] = loads[0], t.loads[1] = loads[1];
  return t;
}
// 256 work-items make a square of results, 4 by 4 each, from panels of both operands in the group's memory.
bool stage_tile(Plan& plan, const Shape& s, const Tile& t, const Machine& machine) {
  constexpr i64 side = 16, each = 4, depth = 16;
  if (bound(t.rows) < 2 * side * each || bound(t.columns) < 2 * side * each || bound(t.inner) < 2 * depth) return false;
  for (U r : {t.rows, t.columns}) {
    Split* p = plan.split(r);
    p->lanes = side, p->unroll = each, p->side_by_side = true;
  }
  *plan.split(t.inner) = {depth / 4, 4, 1};
  plan.items = side * side;
  const Level* level = machine.room_for(2 * side * each * depth * t.loads[0]->u->dtype.bytes());
  if (!level) return false;
  for (int k = 0; k < 2; k++)
    plan.stages.push_back(
        {t.loads[k]->u, level->name, int(level - machine.levels.data()), {t.inner, k ? t.columns : t.rows}, 1});
  std::erase(plan.order, t.columns);
  plan.order.push_back(t.columns);
  for (U r : s.loops) plan.split(r)->thread = true;
  return true;
}

// Waves one below the other, up to 4 by 4 tiles each, both operands from panels in the group's memory.
bool matrix_tiles(Plan& plan, const Shape& s, const Tile& t, const Machine& machine) {
  MatrixTiles m{t.product, t.rows, t.columns, t.inner};
  const i64 side = MatrixUnit::side;
  auto padded = [&](U r) { return double((bound(r) + side - 1) / side * side) / double(bound(r)); };
  constexpr double most_padding = 3;  // the unit multiplies four times as fast as v_fma_f32, which must convert besides
  if (!t.product || padded(t.rows) * padded(t.columns) * padded(t.inner) > most_padding) return false;
  auto tiles = [&](U r, i64 most) {
    i64 n = 1;
    while (n < most && bound(r) >= 2 * n * side) n *= 2;
    return n;
  };
  m.column_tiles = tiles(t.columns, 4), m.row_tiles = tiles(t.rows, 4);
  m.waves = tiles(t.rows, 4 * m.row_tiles) / m.row_tiles, m.steps = bound(t.inner) > side ? 2 : 1;
  plan.items = m.waves * machine.lanes(32);
  const i64 bytes = (m.waves * m.row_tiles + m.column_tiles) * side *
                    (m.steps * MatrixUnit::depth * t.loads[0]->u->dtype.bytes() + 16);
  const Level* level = machine.room_for(bytes);
  if (!level) return false;
  for (int k = 0; k < 2; k++)
    plan.stages.push_back(
        {t.loads[k]->u, level->name, int(level - machine.levels.data()), {k ? t.columns : t.rows, t.inner}, 1});
  plan.matrix = m;
  for (U r : {t.rows, t.columns}) std::erase(plan.order, r), plan.order.push_back(r);
  for (U r : s.loops) plan.split(r)->thread = true;
  return true;
}

// For lanes that are work-items: which range's neighbours are neighbouring lanes, and how much one work-item does.
// Every loop that is left becomes work-groups. A candidate's time is what one wave issues, as often as there are more
// waves than the machine runs side by side.
Plan choose_simt_plan(const Shape& s, U sink, const Machine& machine) {
  Plan plan{s.loops, s.reduces, {}, {}, machine.lanes(32)};
  for (U r : s.ranges) plan.split(r);
  const i64 wave = machine.lanes(32);
  const double side_by_side = double(machine.workers()) * 4;  // waves that issue at the same time
  const i64 most_items = 8 * wave, most_group = 32;           // of a work-group; waves of one that reduces together
  int narrowest = 32;                                         // element's bits
  for (const Access& a : s.accesses) narrowest = std::min(narrowest, a.index->dtype.bits());
  double outputs = 1;
  for (U r : s.loops) outputs *= double(bound(r));
  auto rounded = [&](i64 n) { return (n + wave - 1) / wave * wave; };
  auto closed_by_all = [&](U r) {  // a REDUCE inside which another one's lanes run has none
    return std::ranges::all_of(toposort(sink), [&](U u) {
      return u->op != Op::REDUCE || !(*s.deps.find(u->src(0)) & s.bit(r)) ||
             std::ranges::find(u->src(), r) != u->src().end();
    });
  };
  // Reductions one after the other over as many elements share their lanes; of the ranges of one only one has any.
  auto same_lanes = [&](U r, U vector) {
    if (r == vector || vector->range_kind() != RangeKind::REDUCE) return r == vector;
    return bound(r) == bound(vector) && closed_by_all(r) && std::ranges::none_of(toposort(sink), [&](U u) {
             auto alike = [&](U x) { return x == vector || (x->op == Op::RANGE && bound(x) == bound(vector)); };
             return u->op == Op::REDUCE && std::ranges::count(u->src(), r) &&
                    std::ranges::count_if(u->src(), alike) > 1;
           });
  };
  // Of a reduction in lanes: rows that are reduced; neighbours that a lane takes at once; waves that share a row, while
  // there are fewer rows than waves run side by side.
  const u64 row_loops = s.main_reduce ? *s.deps.find(s.main_reduce) : 0;
  const double rows = trips(s, row_loops);
  auto neighbours = [&](U r) {
    i64 f = 128 / narrowest;
    while (f > 1 && (bound(r) % f || bound(r) < 2 * f * wave)) f /= 2;
    return f;
  };
  auto group_waves = [&](U r) {
    i64 n = 1;
    while (n < most_group && bound(r) >= 4 * neighbours(r) * n * wave && rows * double(n) < side_by_side) n *= 2;
    return n;
  };
  auto cost_of = [&](U vector) {
    const u64 bit = vector ? s.bit(vector) : 0;
    double each = 0;
    auto runs = [&](u64 deps) {  // for one work-item
      double n = 1;
      for (size_t i = 0; i < s.ranges.size(); i++)
        if (U r = s.ranges[i]; deps >> i & 1 && r->range_kind() == RangeKind::REDUCE)
          n *= vector && same_lanes(r, vector) ? std::ceil(double(bound(r)) / double(wave)) : double(bound(r));
        else if (deps >> i & 1 && vector && vector->range_kind() == RangeKind::REDUCE && !(row_loops >> i & 1))
          n *= std::ceil(double(bound(s.ranges[i])) / double(wave));
      return n;
    };
    for (const Access& a : s.accesses) {
      std::optional<i64> step = vector ? stride(s, a.index, vector) : 0;
      const double lines = !(a.deps & bit)                ? 0.5
                           : step && std::abs(*step) <= 1 ? 1
                           : step && std::abs(*step) < 8  ? 2
                                                          : 8;
      each += runs(a.deps) * lines * (a.index->nsrc > 2 ? 2 : 1);
    }
    for (auto& [u, d] : s.alu) each += runs(d) * 0.25;
    double waves = outputs, shared = 1;
    if (vector && vector->range_kind() == RangeKind::REDUCE)
      each += 12, waves = rows, shared = double(group_waves(vector));
    else if (vector)
      waves *= double(rounded(bound(vector))) / double(wave) / double(bound(vector));
    return each * std::max(1 / shared, waves / side_by_side) + 1e-9 * waves;
  };
  U vector = nullptr;
  double best = cost_of(nullptr);
  auto consider = [&](U r) {
    if (bound(r) < 2) return;
    if (double cost = cost_of(r); cost < best * 0.999) best = cost, vector = r;
  };
  for (U r : s.loops) consider(r);
  if (s.main_reduce)
    for (U r : s.main_reduce->src().subspan(1))
      if (bound(r) >= wave && closed_by_all(r)) consider(r);
  if (const Tile t = tile_of(s);
      t.loads[1] && (matrix_tiles(plan, s, t, machine) || (!t.product && stage_tile(plan, s, t, machine))))
    return plan;
  const bool across = vector && vector->range_kind() == RangeKind::REDUCE;
  // Register tile: copies of LOOP ranges while enough waves are left.
  double waves = across ? rows * double(group_waves(vector)) : outputs / double(wave);
  if (s.main_reduce) {
    u64 inner = *s.deps.find(s.main_reduce->src(0));
    std::vector<const Access*> loads;
    for (const Access& a : s.accesses)
      if (!a.store && !(a.deps & ~inner)) loads.push_back(&a);
    i64 tile = 1;
    for (bool more = true; more && tile < 16;) {
      more = false;
      double least = 1e30;
      U chosen = nullptr;
      for (U r : s.loops) {  // doubling which range saves most loads per result?
        Split* p = plan.split(r);
        const i64 left = (bound(r) + p->unroll * 2 - 1) / (p->unroll * 2);
        if (!(inner & s.bit(r)) || bound(r) % (p->unroll * 2) || (r == vector && left < wave)) continue;
        double moved = 0;
        for (const Access* a : loads) {
          double n = 1;
          for (U x : s.loops)
            if (a->deps & s.bit(x)) n *= double(plan.split(x)->unroll * (x == r ? 2 : 1));
          moved += n;
        }
        if (moved < least) least = moved, chosen = r;
      }
      if (!chosen || waves / double(tile * 2) < side_by_side) break;
      plan.split(chosen)->unroll *= 2, tile *= 2, more = true;
    }
    i64 room = std::max<i64>(1, 32 / tile);
    for (size_t i = s.main_reduce->nsrc; i-- > 1;) {  // short inner loops vanish
      U r = s.main_reduce->src(int(i));
      if (r == vector) break;
      i64 n = bound(r), f = n <= 8 && n <= room ? n : largest_divisor(n, std::min<i64>(8, room));
      if (f > 1) plan.split(r)->unroll = f, room /= f;
      if (f < n) break;
    }
  } else if (vector) {
    for (i64 f = 128 / narrowest; f > 1; f /= 2)  // neighbours travel together
      if (bound(vector) % f == 0 && bound(vector) / f >= wave &&
          (waves / double(f) >= side_by_side || f * narrowest <= 32)) {
        plan.split(vector)->unroll = f;
        break;
      }
  }
  i64 across_lanes = wave;
  if (across) {  // several waves to a row, while there are fewer rows than waves run side by side
    const i64 f = neighbours(vector);
    across_lanes = wave * group_waves(vector);
    for (U r : s.reduces)
      if (same_lanes(r, vector)) *plan.split(r) = {1, f, across_lanes, false, f > 1};
  } else if (vector) {
    Split* p = plan.split(vector);
    const i64 n = bound(vector) / p->unroll;
    p->side_by_side = p->unroll > 1;
    p->lanes = rounded(n);
    for (i64 lanes = most_items; n > most_items && (p->lanes > most_items || rounded(n) % p->lanes); lanes -= wave)
      p->lanes = lanes;
    if (n * 2 <= wave) {  // a short axis shares the wave with the next
      p->lanes = i64(std::bit_ceil(u64(n)));
      for (size_t i = s.loops.size(); i-- > 0;)
        if (U r = s.loops[i]; r != vector && bound(r) > 1 && plan.split(r)->unroll == 1) {
          plan.split(r)->lanes = wave / p->lanes;
          break;
        }
      i64 items = 1;
      for (auto& [r, x] : plan.splits) items *= x.lanes;
      p = plan.split(vector);
      if (items % wave) p->lanes = wave;
    }
  }
  if (across)  // what is stored over an axis afterwards is stored by the lanes
    for (U store : sink->src())
      for (U r : store->src().subspan(2))
        if (!(*s.deps.find(s.main_reduce) & s.bit(r)) && bound(r) >= wave &&
            std::ranges::none_of(
                plan.splits, [](auto& x) { return x.first->range_kind() == RangeKind::LOOP && x.second.lanes > 1; }))
          plan.split(r)->lanes = across_lanes;
  for (U r : s.loops) plan.split(r)->thread = !across || plan.split(r)->lanes == 1;
  i64 items = across ? across_lanes : 1;
  for (auto& [r, x] : plan.splits)
    if (!across) items *= x.lanes;
  plan.items = std::max(items, wave);
  return plan;
}

}  // namespace

Plan choose_plan(U sink, const Target& target) {
  Shape s = look_at(sink);
  std::vector<U> order = toposort(sink);
  Machine machine = machine_of(target);
  Plan plan{s.loops, s.reduces, {}, {}};
  if (!ctx.OPT) return plan;
  if (machine.simt()) return choose_simt_plan(s, sink, machine);

  // Lanes.
  U vector = nullptr;
  int lanes = 1;
  const Access *staged = nullptr, *candidate = nullptr;
  double best = pass_cost(s, order, nullptr, 1, machine, &candidate);
  std::vector<U> candidates = s.loops;
  if (s.main_reduce)
    for (U r : s.main_reduce->src().subspan(1)) candidates.push_back(r);
  for (U r : candidates) {
    int n = lanes_for(s, order, r, machine);
    while (n > 4 && bound(r) * 2 <= n) n /= 2;  // a short axis takes a narrower vector
    if (n < 2 || bound(r) < 2 || bound(r) >= i64(1) << 31 || (!machine.lane_masks && bound(r) % n)) continue;
    if (r->range_kind() == RangeKind::REDUCE)
      for (U u : order)  // one REDUCE only may have lanes: all that close this range must be alike
        if (u->op == Op::REDUCE && (*s.deps.find(u->src(0)) & s.bit(r)) &&
            std::ranges::find(u->src(), r) == u->src().end())
          n = 1;
    if (n < 2) continue;
    double cost = pass_cost(s, order, r, n, machine, &candidate);
    if (cost < best * 0.999) best = cost, vector = r, lanes = n, staged = candidate;
  }
  if (vector) plan.split(vector)->lanes = lanes;

  // Register tile: unroll LOOP ranges so that loads are reused across accumulators.
  auto blocks = [&](U r) { return r == vector ? (bound(r) + lanes - 1) / lanes : bound(r); };
  int reductions = 0;
  for (U u : order) reductions += u->op == Op::REDUCE;
  if (s.main_reduce) {
    u64 inner = *s.deps.find(s.main_reduce->src(0));
    int budget = machine.registers() * 3 / 4 / std::max(reductions, 1);
    std::vector<const Access*> loads;
    for (const Access& a : s.accesses)
      if (!a.store && (a.deps & ~inner) == 0 && trips(s, a.deps) > 1) loads.push_back(&a);
    std::vector<std::pair<U, std::vector<i64>>> choices;
    for (U r : s.loops) {
      if (!(inner & s.bit(r))) continue;
      std::vector<i64> factors;
      for (i64 f = 1; f <= 16; f++)
        if (blocks(r) % f == 0) factors.push_back(f);
      choices.push_back({r, factors});
    }
    double least = 1e30;
    std::vector<std::pair<U, i64>> chosen;
    auto consider = [&](std::vector<std::pair<U, i64>> tile) {
      double tiles = 1, moved = 0;
      for (auto& [r, f] : tile) tiles *= double(f);
      if (tiles > budget) return;
      auto inside = [&](U r) {
        i64 n = r == vector ? lanes : 1;
        for (auto& [t, f] : tile)
          if (t == r) n *= f;
        return n;
      };
      if (staged && !machine.room_for(panel_of(s, *staged, inside)->bytes)) return;
      for (const Access* a : loads) {
        double n = 1;
        for (auto& [r, f] : tile)
          if (a->deps & s.bit(r)) n *= double(f);
        moved += n;
      }
      double cost = moved / tiles + 0.3 / tiles + (tiles < 8 ? 0.05 * (8 - tiles) : 0);
      for (auto& [r, f] : tile) {
        cost += 1e-4 * double(f);
        for (const Access* a : loads)  // neighbours share cache lines
          if (f > 1 && (a->deps & s.bit(r)) && r != vector && stride(s, a->index, r) != 1) cost += 1e-3;
      }
      if (cost < least) least = cost, chosen = tile;
    };
    consider({});
    for (size_t i = 0; i < choices.size(); i++)
      for (i64 f : choices[i].second) {
        consider({{choices[i].first, f}});
        for (size_t j = i + 1; j < choices.size(); j++)
          for (i64 g : choices[j].second) consider({{choices[i].first, f}, {choices[j].first, g}});
      }
    i64 copies = 1;
    for (auto& [r, f] : chosen)
      if (f > 1) plan.split(r)->unroll = f, copies *= f;
    // Short innermost reduce loops vanish; a long one is unrolled when the tile alone is too small to fill the
    // pipeline.
    i64 room = std::max<i64>(1, 128 / (copies * i64(std::max<size_t>(loads.size(), 1))));
    for (size_t i = s.main_reduce->nsrc; i-- > 1;) {
      U r = s.main_reduce->src(int(i));
      i64 n = blocks(r), f = n <= 8 && n <= room ? n
                             : copies < 8        ? largest_divisor(n, std::min<i64>(8 / copies, room))
                                                 : 1;
      if (f > 1) plan.split(r)->unroll = f, room /= f;
      if (f < n) break;
    }
  } else if (vector) {
    i64 f = largest_divisor(blocks(vector), order.size() > 60 ? 2 : 4);
    if (f > 1) plan.split(vector)->unroll = f;
  }

  // A large operand whose rows lie far apart is packed too, when it is read often enough: rows side by side are streams
  // that the hardware prefetches, and do not fight for the same sets of a cache.
  auto inside = [&](U r) { return plan.split(r)->unroll * plan.split(r)->lanes; };
  if (!staged && vector && s.main_reduce) {
    U step = s.main_reduce->src(s.main_reduce->nsrc - 1);
    for (const Access& a : s.accesses) {
      std::optional<Panel> p = panel_of(s, a, inside);
      if (!p || staged || a.index->nsrc > 2 || !(a.deps & s.bit(vector)) || stride(s, a.index, vector) != 1) continue;
      const i64 bytes = a.u->dtype.bytes(), apart = stride(s, a.index, step).value_or(0) * bytes;
      if (p->reuse >= 4 * least_reuse && apart >= far_apart &&
          a.index->src(0)->arg(1) * bytes > machine.innermost_memory() && machine.room_for(p->bytes))
        staged = &a;
    }
  }

  // Cores: the LOOP range with most outer iterations that every store has, moved outermost. What a panel depends on
  // goes around it, what reads it again inside; when that is the cores' range too, a core takes a block of it at a
  // time.
  std::vector<U> outermost = plan.order;
  if (staged) std::ranges::stable_partition(outermost, [&](U r) { return bool(staged->deps & s.bit(r)); });
  U thread = nullptr;
  i64 most = 1;
  for (U r : outermost) {
    bool everywhere = true;
    for (U store : sink->src()) everywhere &= std::ranges::find(store->src(), r) != store->src().end();
    Split* split = plan.split(r);
    i64 n = (blocks(r) + split->unroll - 1) / split->unroll;
    if (everywhere && n > most && (!thread || most < 4 * target.threads)) most = n, thread = r;
  }
  plan.order = outermost;
  if (thread) {
    plan.split(thread)->thread = true;
    std::erase(plan.order, thread);
    plan.order.insert(plan.order.begin(), thread);
    if (staged && !(staged->deps & s.bit(thread)))
      plan.split(thread)->block = largest_divisor(most, i64(double(most) / copies_of(machine)));
  }
  if (staged) {
    Staging stage{staged->u, {}, 0, {}, stride(s, staged->index, vector) == 1 ? lanes : 1};
    const Level* level = machine.room_for(panel_of(s, *staged, inside)->bytes);
    stage.level = level->name, stage.depth = int(level - machine.levels.data());
    for (U r : s.main_reduce->src().subspan(1))
      if (staged->deps & s.bit(r)) stage.layout.push_back(r);
    for (U r : s.loops)
      if ((staged->deps & s.bit(r)) && r != vector) stage.layout.push_back(r);
    if (staged->deps & s.bit(vector)) stage.layout.push_back(vector);
    plan.stages.push_back(stage);
  }
  return plan;
}

std::string print(const Plan& plan) {
  std::string out;
  for (auto& [r, s] : plan.splits) {
    std::string name = str("r", r->arg(0));
    if (s.lanes > 1) out += str("SPLIT(", name, ", ", s.lanes, ", lane) ");
    if (s.unroll > 1) out += str("UNROLL(", name, ", ", s.unroll, ") ");
    if (s.block > 1)
      out += str("SPLIT(", name, ", ", s.block, ", ", plan.stages.empty() ? "loop" : plan.stages[0].level, ") ");
    if (s.thread) out += str("SPLIT(", name, ", ", bound(r), ", core) ");
  }
  if (plan.matrix.product)
    out +=
        str("MATRIX(r", plan.matrix.rows->arg(0), ", r", plan.matrix.columns->arg(0), ", r", plan.matrix.inner->arg(0),
            ", ", plan.matrix.waves, " waves of ", plan.matrix.row_tiles, "x", plan.matrix.column_tiles, ") ");
  for (const Staging& s : plan.stages) {
    out += str("STAGE(p", s.load->src(0)->src(0)->arg(0), ", ", s.level, ", [");
    for (U r : s.layout) out += str(r == s.layout[0] ? "r" : ", r", r->arg(0));
    out += "]) ";
  }
  if (!plan.order.empty()) {
    out += "ORDER(";
    for (U r : plan.order) out += str(r == plan.order[0] ? "" : ", ", "r", r->arg(0));
    out += ")";
  }
  return out;
}

namespace {

struct Parts {  // of one range
  U value;      // ((outer * block + b) * unroll + u) * lanes + v
  bool whole;   // inside is all of it
  U inside;     // the same without outer, or all of a REDUCE range: a position in a panel
  i64 inside_bound;
  U outer = nullptr, block = nullptr;  // loops that STOREs nest
  std::vector<U> ranges;               // all that replace the range in a REDUCE
  U condition = nullptr;               // value < bound, when the split does not divide
  U clamped = nullptr;                 // the value, or the last one there is
};

class Planner {
 public:
  Planner(U sink, const Plan& plan) : sink_(sink), plan_(plan) {}
  U run() {
    for (U r : plan_.order) take_apart(r);
    for (U r : plan_.reduce_order) take_apart(r);
    for (const Staging& s : plan_.stages) staged_[s.load] = stage(s);
    return rebuild();
  }

 private:
  U range(i64 n, RangeKind kind) { return make(Op::RANGE, IDX, {index_constant(n)}, {next_id_++, i64(kind)}); }

  // Of a product for the matrix unit: what its loads see of an axis is in Parts::inside, what stores see in value.
  void take_apart_tiles(U r) {
    const MatrixTiles& m = plan_.matrix;
    const i64 side = MatrixUnit::side, n = bound(r);
    const i64 tiles = r == m.rows ? m.waves * m.row_tiles : r == m.columns ? m.column_tiles : m.steps;
    Parts p{};
    auto part = [&](i64 count, RangeKind kind) {
      U x = count > 1 ? range(count, kind) : index_constant(0);
      if (count > 1) p.ranges.push_back(x);
      return Expr(x);
    };
    p.outer = range((n + tiles * side - 1) / (tiles * side), r == m.inner ? RangeKind::REDUCE : RangeKind::THREAD);
    p.ranges.push_back(p.outer);
    Expr tile = 0, stored = 0;
    if (r == m.inner) {
      tile = part(m.steps, RangeKind::REDUCE);
    } else if (r == m.columns) {
      tile = part(m.column_tiles, RangeKind::UNROLL);
      column_ = part(side, RangeKind::VECTOR);
      stored = column_;
    } else {
      tile = part(m.waves, RangeKind::VECTOR) * m.row_tiles;
      tile = tile + part(m.row_tiles, RangeKind::UNROLL);
      result_ = part(MatrixUnit::results, RangeKind::UNROLL);
      stored = Expr(result_) * 2 + part(2, RangeKind::VECTOR);
    }
    p.inside_bound = tiles * side;
    p.inside = tile * side;
    p.value = p.clamped = Expr(p.outer) * p.inside_bound + tile * side + stored;
    if (n % p.inside_bound) {
      p.condition = Expr(p.value) < Expr(n);
      if (r != m.inner) p.clamped = make_alu(Op::MIN, p.value, index_constant(n - 1));
    }
    parts_[r] = p;
  }
  // Sixteen neighbours of a panel along the inner axis: a lane's part of an operand.
  static U fragment(U load) {
    const DType t = load->dtype.with_lanes(int(MatrixUnit::depth));
    return make(Op::LOAD, t, {make(Op::INDEX, t, load->src(0)->src())});
  }
  void take_apart(U r) {
    const MatrixTiles& m = plan_.matrix;
    if (m.product && (r == m.rows || r == m.columns || r == m.inner)) return take_apart_tiles(r);
    Split split;
    for (auto& [k, v] : plan_.splits)
      if (k == r) split = v;
    i64 n = bound(r), tile = split.unroll * split.lanes, block = split.block * tile, outer = (n + block - 1) / block;
    Parts p{};
    Expr begin = 0, inside = 0;
    if (outer > 1 || split.thread) {
      p.outer = range(outer, split.thread ? RangeKind::THREAD : r->range_kind());
      begin = Expr(p.outer) * block;
      p.ranges.push_back(p.outer);
    }
    if (split.block > 1) {
      p.block = range(split.block, r->range_kind());
      inside = Expr(p.block) * tile;
      p.ranges.push_back(p.block);
    }
    if (split.unroll > 1) {
      p.ranges.push_back(range(split.unroll, RangeKind::UNROLL));
      inside = inside + Expr(p.ranges.back()) * (split.side_by_side ? 1 : split.lanes);
    }
    if (split.lanes > 1) {
      p.ranges.push_back(range(split.lanes, RangeKind::VECTOR));
      inside = inside + Expr(p.ranges.back()) * (split.side_by_side ? split.unroll : 1);
    }
    bool whole = r->range_kind() == RangeKind::REDUCE && split.block == 1;
    p.value = begin + inside;
    p.whole = whole;
    p.inside = whole ? p.value : U(inside);
    p.inside_bound = whole ? outer * block : block;
    p.clamped = p.value;
    if (outer * block != n) {
      const i64 step = split.side_by_side && n % split.unroll == 0 ? split.unroll : 1;  // all copies are there or none
      U at = simplify(Expr(p.value) / step);
      p.condition = Expr(at) < Expr(n / step);
      if (plan_.items)
        p.clamped = Expr(make_alu(Op::MIN, at, index_constant(n / step - 1))) * step +
                    (step > 1 ? Expr(p.value) % step : Expr(0));
    }
    parts_[r] = p;
  }

  // The loops that fill a panel, and what each range of its layout is in them.
  UMap<U> copy_loops(const Staging& s, std::vector<U>& loops) {
    UMap<U> position;
    for (U r : s.layout) {
      const Parts& p = *parts_.find(r);
      i64 lanes = r == s.layout.back() ? s.lanes : 1,
          unroll = r == s.layout.back() && lanes == 1 ? largest_divisor(p.inside_bound, 8) : 1;
      Expr i = 0;
      if (i64 n = p.inside_bound / (lanes * unroll); n > 1) {
        loops.push_back(range(n, RangeKind::LOOP));
        i = Expr(loops.back()) * (lanes * unroll);
      }
      if (lanes * unroll > 1) {
        loops.push_back(range(lanes * unroll, lanes > 1 ? RangeKind::VECTOR : RangeKind::UNROLL));
        i = i + Expr(loops.back());
      }
      position[r] = i;
    }
    return position;
  }
  // All work-items of a group fill it together, neighbours along the axis whose elements are neighbours in memory.
  UMap<U> shared_copy(const Staging& s, std::vector<U>& loops) {
    LinearForm address = linear_form(s.load->src(0)->src(1));
    auto step = [&](U r) {
      i64 k = i64(1) << 40;
      for (auto& [term, coefficient] : address.terms)
        if (term == r) k = std::abs(coefficient);
      return k;
    };
    std::vector<U> order = s.layout;
    std::ranges::stable_sort(order, std::greater<>{}, step);
    i64 elements = 1;
    for (U r : order) elements *= parts_.find(r)->inside_bound;
    const int bits = s.load->dtype.bits();
    i64 each = 128 / std::min(bits, 32);
    while (each > 1 && (step(order.back()) != 1 || parts_.find(order.back())->inside_bound % each ||
                        elements % (plan_.items * each)))
      each /= 2;
    const i64 rounds = (elements + plan_.items * each - 1) / (plan_.items * each);
    Expr at = 0;
    if (rounds > 1)
      loops.push_back(range(rounds, rounds <= 8 ? RangeKind::UNROLL : RangeKind::LOOP)),
          at = Expr(loops.back()) * plan_.items;
    loops.push_back(range(plan_.items, RangeKind::VECTOR));
    at = (at + Expr(loops.back())) * each;
    if (each > 1) loops.push_back(range(each, RangeKind::UNROLL)), at = at + Expr(loops.back());
    if (rounds * plan_.items * each != elements) at = make_alu(Op::MIN, at, index_constant(elements - 1));
    UMap<U> position;
    for (size_t i = order.size(); i-- > 0;) {
      const i64 n = parts_.find(order[i])->inside_bound;
      position[order[i]] = simplify(i ? at % n : at);
      at = simplify(at / n);
    }
    return position;
  }

  // The LOAD from a panel, after the STORE that fills it.
  U stage(const Staging& s) {
    std::vector<U> loops;
    UMap<U> at;  // what each range is while the panel is filled
    U condition = s.load->src(0)->nsrc > 2 ? s.load->src(0)->src(2) : nullptr;
    UMap<U> position = plan_.items ? shared_copy(s, loops) : copy_loops(s, loops);
    Expr to = 0, from = 0;
    i64 elements = 1;
    for (U r : s.layout) {
      const Parts& p = *parts_.find(r);
      Expr i = *position.find(r), value = p.whole || !p.outer ? i : Expr(p.outer) * p.inside_bound + i;
      at[r] = value;
      if (p.condition && plan_.items && !(plan_.matrix.product && r == plan_.matrix.inner)) {
        at[r] = make_alu(Op::MIN, value, index_constant(bound(r) - 1));
      } else if (p.condition) {
        U fits = value < Expr(bound(r));
        condition = condition ? make_alu(Op::AND, condition, fits) : fits;
      }
      Expr inside = p.inside;
      if (plan_.matrix.product && r != plan_.matrix.inner) inside = inside + Expr(column_);
      // Rows for a matrix unit stand 16 bytes apart: the lanes that LDS serves at once are then in different banks.
      const i64 apart = plan_.matrix.product && r == s.layout.back() ? 16 / s.load->dtype.bytes() : 0;
      to = to * (p.inside_bound + apart) + i;
      from = from * (p.inside_bound + apart) + inside;
      elements *= p.inside_bound + apart;
    }
    U memory = make(Op::LOCAL, s.load->dtype, {}, std::array{next_local_++, elements, i64(s.depth)});
    std::vector<U> src{s.load->src(0)->src(0), s.load->src(0)->src(1)};
    if (condition) src.push_back(condition);
    for (auto& r : plan_.order)  // axes that it does not pack stand still
      if (!at.contains(r)) at[r] = parts_.find(r)->clamped;
    for (auto& r : plan_.reduce_order)
      if (!at.contains(r)) at[r] = parts_.find(r)->clamped;
    U load = substitute(make(Op::LOAD, s.load->dtype, {make(Op::INDEX, s.load->dtype, src)}), at);
    src = {make(Op::INDEX, s.load->dtype, {memory, to}), load};
    src.insert(src.end(), loops.begin(), loops.end());
    U filled = make(Op::AFTER, memory->dtype, {memory, make(Op::STORE, VOID, src)});
    U index = make(Op::INDEX, s.load->dtype, {filled, from});
    check(index->src(1)->min >= 0 && index->src(1)->max < elements, "a panel read out of bounds: ", index);
    return make(Op::LOAD, s.load->dtype, {index});
  }

  // Ranges become their values, INDEX nodes gain the masks of the ranges that they depend on.
  U rebuild() {
    UMap<U> became;
    UMap<std::vector<U>> masked;  // ranges with a condition that a node depends on
    std::vector<U> src;
    for (U u : toposort(sink_)) {
      if (u->op == Op::RANGE) {
        Parts* p = parts_.find(u);
        check(p, "a range that no STORE or REDUCE closes: ", u);
        became[u] = simplify(p->clamped);
        if (p->condition) masked[u] = {u};
        continue;
      }
      std::vector<U> mask;
      src.clear();
      for (U x : u->src()) {
        if (std::vector<U>* m = masked.find(x))
          for (U r : *m)
            if (std::ranges::find(mask, r) == mask.end()) mask.push_back(r);
        if (x->op == Op::RANGE && u->op == Op::REDUCE)
          for (U part : parts_.find(x)->ranges) src.push_back(part);
        else if (x->op != Op::RANGE || u->op != Op::STORE)
          src.push_back(*became.find(x));
      }
      if (u->op == Op::STORE) nest(u, src);
      auto condition = [&](const std::vector<U>& ranges) {
        U all = nullptr;
        for (U r : ranges) all = all ? make_alu(Op::AND, all, parts_.find(r)->condition) : parts_.find(r)->condition;
        return all;
      };
      auto guard = [&](std::vector<U>& index) {
        U all = condition(mask);
        if (index.size() > 2)
          index[2] = make_alu(Op::AND, index[2], all);
        else
          index.push_back(all);
      };
      if (u->op == Op::INDEX && !mask.empty() && !plan_.items) guard(src);
      if (u->op == Op::STORE && !mask.empty() && plan_.items) {
        std::vector<U> index(src[0]->src().begin(), src[0]->src().end());
        guard(index);
        src[0] = make(Op::INDEX, src[0]->dtype, index, src[0]->arg());
      }
      if (u->op == Op::REDUCE) {
        std::vector<U> own;
        for (U r : mask)
          if (std::ranges::find(u->src(), r) != u->src().end()) own.push_back(r);
        Op o = Op(u->arg(0));
        const bool matrix = plan_.matrix.product && u->src(0) == plan_.matrix.product;
        if (matrix) std::erase_if(own, [&](U r) { return r == plan_.matrix.inner; });  // zeros in the panels
        if (matrix) std::erase_if(mask, [&](U r) { return r == plan_.matrix.inner; });
        if (!own.empty()) {
          src[0] = make_alu(Op::WHERE, condition(own), src[0], identity_of(o, u->dtype));
          std::erase_if(mask, [&](U r) { return std::ranges::find(own, r) != own.end(); });
        }
      }
      U* panel = staged_.find(u);
      if (plan_.matrix.product && u == plan_.matrix.product) {
        const DType t = u->dtype.with_lanes(int(MatrixUnit::results));
        became[u] = make(Op::MATRIX, t, {fragment(src[0]), fragment(src[1])});
      } else if (plan_.matrix.product && u->op == Op::REDUCE && u->src(0) == plan_.matrix.product) {
        U sum = make(Op::REDUCE, src[0]->dtype, src, u->arg());
        became[u] = make(Op::EXTRACT, u->dtype, std::array{sum, result_}, std::array{i64(0)});
      } else {
        became[u] = panel ? *panel : make(u->op, u->dtype, src, u->arg());
      }
      if (!mask.empty()) masked[u] = mask;
    }
    return *became.find(sink_);
  }
  // The loops of a STORE in the plan's order: outer parts, blocks, then what is expanded.
  void nest(U store, std::vector<U>& src) {
    std::vector<U> own;
    for (U r : plan_.order)
      if (std::ranges::find(store->src().subspan(2), r) != store->src().end()) own.push_back(r);
    for (U r : own)
      if (U outer = parts_.find(r)->outer) src.push_back(outer);
    for (U r : own)
      if (U block = parts_.find(r)->block) src.push_back(block);
    for (U r : own)
      for (U part : parts_.find(r)->ranges)
        if (part != parts_.find(r)->outer && part != parts_.find(r)->block) src.push_back(part);
  }

  U sink_;
  const Plan& plan_;
  UMap<Parts> parts_;
  UMap<U> staged_;
  U result_ = nullptr, column_ = nullptr;  // of a matrix unit's tile
  i64 next_id_ = 0, next_local_ = 0;
};

}  // namespace

U apply_plan(U sink, const Plan& plan) { return Planner(sink, plan).run(); }

}  // namespace ingot
