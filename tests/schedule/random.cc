// SPDX-License-Identifier: MIT
// Random graphs of integers, which wrap and so compare exactly: every op, chained and shared, with several roots.
#include "tests/schedule/graphs.h"

namespace ingot {
namespace {

struct Generator {
  World world;
  std::vector<U> pool;
  i64 random(i64 n) { return world.random(n); }
  U pick() { return pool[size_t(random(i64(pool.size())))]; }
  Shape random_shape() {
    Shape s;
    for (i64 n = random(4); n >= 0; n--) s.push_back(1 + random(5));
    return s;
  }
  // x in the given shape, by whatever movement it takes.
  U fit(U x, const Shape& shape) {
    if (product(shape) == x->elements()) return reshape(x, shape);
    if (x->elements() == 1) return expand(reshape(x, Shape(shape.size(), 1)), shape);
    i64 n = product(shape), have = x->elements();
    U flat = reshape(x, {have});
    if (have > n) return reshape(shrink(flat, {have - n, have}), shape);
    i64 before = random(n - have + 1);
    return reshape(pad(flat, {before, n - have - before}), shape);
  }
  U step() {
    U x = pick();
    Shape s = dims(x);
    i64 rank = i64(s.size()), axis = rank ? random(rank) : 0;
    switch (random(15)) {
      case 0: return make_alu(Op::NEG, x);
      case 1: return add(x, fit(pick(), s));
      case 2: return mul(x, fit(pick(), s));
      case 3: return make_alu(Op::MAX, x, number(double(random(7) - 3), I32));
      case 4: return make_alu(Op::WHERE, make_alu(Op::CMPLT, x, fit(pick(), s)), fit(pick(), s), x);
      case 5: {  // permute
        Shape order(s.size());
        for (size_t i = 0; i < order.size(); i++) order[i] = i64(i);
        for (size_t i = order.size(); i-- > 1;) std::swap(order[i], order[size_t(random(i64(i) + 1))]);
        return permute(x, order);
      }
      case 6: {  // pad
        Shape both;
        for (i64 i = 0; i < 2 * rank; i++) both.push_back(random(3));
        return pad(x, both);
      }
      case 7: {  // shrink
        Shape both;
        for (i64 n : s) {
          i64 begin = random(n), end = begin + 1 + random(n - begin);
          both.push_back(begin), both.push_back(end);
        }
        return shrink(x, both);
      }
      case 8: {
        Shape axes;
        for (i64 i = 0; i < rank; i++) axes.push_back(random(2));
        return flip(x, axes);
      }
      case 9: {  // repeat along a new axis
        Shape with = s, to = s;
        i64 n = 1 + random(4);
        with.insert(with.begin() + axis, 1), to.insert(to.begin() + axis, n);
        return product(to) > 4000 ? x : expand(reshape(x, with), to);
      }
      case 10: {  // window or its adjoint
        if (!rank) return x;
        i64 n = s[size_t(axis)], k = 1 + random(3), stride = 1 + random(2), dilation = 1 + random(2);
        Shape with = s, to = s;
        with.insert(with.begin() + axis + 1, 1), to.insert(to.begin() + axis + 1, k);
        if (product(to) > 4000) return x;
        U e = expand(reshape(x, with), to);
        i64 span = (k - 1) * dilation + 1;
        if (random(2))
          return n < span ? x : move(Op::WINDOW, e, {axis, axis + 1, stride, dilation, (n - span) / stride + 1});
        return move(Op::UNWINDOW, e, {axis, axis + 1, stride, dilation, (n - 1) * stride + span + random(2)});
      }
      case 11: {  // reduce
        Op op = std::array{Op::ADD, Op::MUL, Op::MAX, Op::MIN}[size_t(random(4))];
        Shape axes;
        for (i64 i = 0; i < rank; i++)
          if (random(2)) axes.push_back(i);
        return axes.empty() ? x : reduce(random(2) ? Op::ADD : op, x, axes);
      }
      case 12: {  // gather, sometimes out of range
        if (!rank) return x;
        return make(Op::GATHER, I32, {x, fit(pick(), s)}, {axis});
      }
      case 13: return random(3) ? x : contiguous(x);
      default: {
        Shape to = random_shape();
        return fit(x, to);
      }
    }
  }
};

TEST(Random, Graphs) {
  for (u64 seed = 1; seed <= 300; seed++) {
    SCOPED_TRACE(str("seed ", seed));
    Generator g{World(seed * 0x9E3779B97F4A7C15ull), {}};
    for (int i = 0; i < 3; i++) g.pool.push_back(buffer(g.random_shape(), I32));
    g.pool.push_back(make(Op::IOTA, I32, {}, {1 + g.random(6)}));
    g.pool.push_back(number(3, I32));
    i64 steps = 4 + g.random(20);
    for (i64 i = 0; i < steps; i++) g.pool.push_back(g.step());
    std::vector<U> roots{g.pool.back()};
    for (i64 n = g.random(3); n > 0; n--) roots.push_back(g.pick());
    run_and_compare(roots, World(seed));
    if (HasFailure()) break;
  }
}

}  // namespace
}  // namespace ingot
