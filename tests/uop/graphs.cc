// SPDX-License-Identifier: MIT
#include "graphs.h"

namespace ingot {

U random_tensor(Random& r, int steps) {
  std::vector<i64> arg = {r.below(2), 0};
  for (i64 i = r.below(4); i > 0; i--) arg.push_back(r.pick<i64>({1, 2, 3, 4}));
  U t = make(Op::BUFFER, F32, {}, arg);
  for (int step = 0; step < steps; step++) {
    std::vector<i64> shape(t->shape().begin(), t->shape().end());
    size_t n = shape.size();
    arg.clear();
    Op op = r.pick({Op::RESHAPE, Op::EXPAND, Op::PERMUTE, Op::PAD, Op::SHRINK, Op::FLIP, Op::WINDOW, Op::UNWINDOW,
                    Op::REDUCE_AXIS, Op::NEG, Op::ADD, Op::WHERE, Op::CONTIGUOUS, Op::DETACH, Op::GATHER, Op::CAST});
    switch (op) {
      case Op::RESHAPE:
        arg = shape;
        if (n > 1 && r.chance(50)) {
          arg[0] *= arg[1];
          arg.erase(arg.begin() + 1);
        } else if (r.chance(80)) {
          arg.insert(arg.begin() + r.below(i64(n) + 1), 1);
        }
        break;
      case Op::EXPAND:
        arg = shape;
        for (i64& d : arg)
          if (d == 1 && t->elements() < 100) d = r.between(1, 3);
        break;
      case Op::PERMUTE:
        for (size_t i = 0; i < n; i++) arg.push_back(i64(i));
        if (r.chance(80)) std::shuffle(arg.begin(), arg.end(), r.engine);
        break;
      case Op::PAD:
        for (size_t i = 0; i < 2 * n; i++) arg.push_back(t->elements() < 100 && r.chance(40) ? r.below(3) : 0);
        break;
      case Op::SHRINK:
        for (i64 d : shape) {
          i64 begin = r.chance(60) ? 0 : r.below(d + 1), end = r.chance(60) ? d : r.between(begin, d);
          arg.insert(arg.end(), {begin, end});
        }
        break;
      case Op::FLIP:
        for (size_t i = 0; i < n; i++) arg.push_back(r.below(2));
        break;
      case Op::WINDOW:
      case Op::UNWINDOW: {
        if (n < 2) continue;
        i64 i = r.below(i64(n)), k = (i + 1 + r.below(i64(n) - 1)) % i64(n), stride = r.between(1, 3),
            dilation = r.between(1, 2);
        i64 span = (shape[size_t(k)] - 1) * dilation + 1;
        arg = {i, k, stride, dilation, op == Op::UNWINDOW ? r.between(1, 6) : (shape[size_t(i)] - span) / stride + 1};
        if (op == Op::WINDOW && (shape[size_t(k)] == 0 || shape[size_t(i)] < span)) continue;
        break;
      }
      case Op::REDUCE_AXIS:
        arg = {i64(r.pick({Op::ADD, Op::MAX, Op::MIN, Op::MUL}))};
        for (size_t i = 0; i < n; i++)
          if (r.chance(40)) arg.push_back(i64(i));
        break;
      case Op::GATHER: {
        if (n == 0) continue;
        U iota = make(Op::IOTA, I32, {}, {t->elements()});
        U index = make(Op::RESHAPE, I32, {&iota, 1}, shape);
        t = make(Op::GATHER, t->dtype, {t, index}, {r.below(i64(n))});
        continue;
      }
      case Op::ADD: t = make_alu(Op::ADD, t, r.chance(50) ? t : constant_float(t->dtype, 2)); continue;
      case Op::WHERE:
        t = make_alu(Op::WHERE, make_alu(Op::CMPLT, t, constant_float(t->dtype, 0)), t, make_alu(Op::NEG, t));
        continue;
      case Op::CAST: t = cast(t, t->dtype == F32 ? F16 : F32); continue;
      default: break;
    }
    if (!malformed(op, t->dtype, {&t, 1}, arg).empty()) continue;
    t = make(op, t->dtype, {&t, 1}, arg);
  }
  return t;
}

U random_kernel(Random& r) {
  U p[] = {make(Op::PARAM, F32, {}, {0, 64}), make(Op::PARAM, F32, {}, {1, 64}), make(Op::PARAM, F32, {}, {2, 64})};
  auto range = [&](i64 id, i64 bound, RangeKind kind) {
    return make(Op::RANGE, IDX, {index_constant(bound)}, {id, i64(kind)});
  };
  i64 n0 = r.pick<i64>({1, 1, 3, 4}), n1 = r.pick<i64>({1, 2, 4});
  U r0 = range(0, n0, RangeKind::LOOP), r1 = range(1, n1, RangeKind::LOOP);
  U k0 = range(2, r.between(1, 3), RangeKind::REDUCE), k1 = range(3, r.between(1, 2), RangeKind::REDUCE);
  auto load = [&](i64 slot, Expr at) -> U {
    U condition = r.pick<U>({constant(BOOL, 1), constant(BOOL, 0), at < 5, Expr(2) < at, nullptr});
    U index = condition ? make(Op::INDEX, F32, {p[slot], at, condition}) : make(Op::INDEX, F32, {p[slot], at});
    return make(Op::LOAD, F32, {index});
  };
  Expr at = Expr(r0) * n1 + r1;
  U value = load(1, at);
  for (i64 i = r.between(1, 4); i > 0; i--) switch (r.below(7)) {
      case 0:
        value = make_alu(Op::MUL, value, load(2, Expr(k0) * 3 + r0 + k1));
        value = make(Op::REDUCE, F32, {value, k0, k1}, {i64(r.pick({Op::ADD, Op::MAX, Op::MIN}))});
        break;
      case 1: {
        U vector = make(Op::VECTORIZE, F32.with_lanes(2), {value, load(2, Expr(r1) * 2)});
        if (r.chance(50)) vector = make_alu(Op::NEG, vector);
        if (r.chance(30)) {
          U x = make(Op::EXTRACT, F32, {vector}, {0}), y = make(Op::EXTRACT, F32, {vector}, {1});
          vector = make(Op::VECTORIZE, F32.with_lanes(2), {x, y});
        }
        value = make(Op::EXTRACT, F32, {vector}, {r.below(2)});
        break;
      }
      case 2: {
        U constants =
            make(Op::VECTORIZE, F32.with_lanes(2), {constant_float(F32, double(r.below(3))), constant_float(F32, 2)});
        U two = make(Op::VECTORIZE, F32.with_lanes(2), {value, value});
        value = make(Op::REDUCE, F32, {make_alu(Op::ADD, two, constants)}, {i64(Op::ADD)});
        break;
      }
      case 3: value = make(Op::REDUCE, F32, {value, k0}, {i64(Op::ADD)}); break;
      case 4:
        value = make(Op::EXTRACT, F32, {make(Op::CONST, F32.with_lanes(2), {}, {0, __builtin_bit_cast(i64, 2.0)})},
                     {r.below(2)});
        break;
      case 5: value = make(Op::AFTER, F32, {value}); break;
      case 6: value = make_alu(Op::ADD, make(Op::VECTORIZE, F32, {value}), load(1, r0)); break;
    }
  U index = make(Op::INDEX, F32, {p[0], at});
  return make(Op::SINK, VOID, {make(Op::STORE, VOID, {index, value, r0, r1})});
}

}  // namespace ingot
