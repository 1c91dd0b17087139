// SPDX-License-Identifier: MIT
// Tensor graphs by hand, and a way to run a schedule on the reference evaluator.
#pragma once
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <map>
#include "compiler/schedule/schedule.h"

namespace ingot {

using Shape = std::vector<i64>;

inline i64 product(std::span<const i64> shape) {
  i64 n = 1;
  for (i64 d : shape) n *= d;
  return n;
}
inline U buffer(std::span<const i64> shape, DType dtype = F32) {
  static i64 next = 1;
  std::vector<i64> arg{next++, 0};
  arg.insert(arg.end(), shape.begin(), shape.end());
  return make(Op::BUFFER, dtype, {}, arg);
}
inline U buffer(std::initializer_list<i64> shape, DType dtype = F32) {
  return buffer(std::span<const i64>(shape.begin(), shape.size()), dtype);
}
inline U move(Op op, U x, const Shape& arg) { return make(op, x->dtype, std::span<const U>(&x, 1), arg); }
inline U reshape(U x, const Shape& shape) { return move(Op::RESHAPE, x, shape); }
inline U expand(U x, const Shape& shape) {
  return x->shape().size() == shape.size() && std::ranges::equal(x->shape(), shape) ? x : move(Op::EXPAND, x, shape);
}
inline U permute(U x, const Shape& order) { return move(Op::PERMUTE, x, order); }
inline U pad(U x, const Shape& both) { return move(Op::PAD, x, both); }
inline U shrink(U x, const Shape& both) { return move(Op::SHRINK, x, both); }
inline U flip(U x, const Shape& axes) { return move(Op::FLIP, x, axes); }
inline U contiguous(U x) { return make(Op::CONTIGUOUS, x->dtype, {x}); }
inline U assign(U b, U value, std::initializer_list<i64> arg = {}) {
  return make(Op::ASSIGN, b->dtype, {b, value}, arg);
}
inline U number(double v, DType dtype = F32) { return constant_float(dtype, v); }
inline U reduce(Op op, U x, const Shape& axes) {
  Shape arg{i64(op)};
  arg.insert(arg.end(), axes.begin(), axes.end());
  return make(Op::REDUCE_AXIS, x->dtype, std::span<const U>(&x, 1), arg);
}
inline U sum(U x, const Shape& axes) { return reduce(Op::ADD, x, axes); }
inline U sum_all(U x) {
  Shape axes;
  for (int i = 0; i < x->ndim; i++) axes.push_back(i);
  return reshape(sum(x, axes), {});
}
inline U add(U a, U b) { return make_alu(Op::ADD, a, b); }
inline U sub(U a, U b) { return make_alu(Op::SUB, a, b); }
inline U mul(U a, U b) { return make_alu(Op::MUL, a, b); }
inline U relu(U a) { return make_alu(Op::MAX, a, number(0)); }
inline Shape dims(U x) { return Shape(x->shape().begin(), x->shape().end()); }
inline U like(U small, U big) { return expand(small, dims(big)); }

// (m, k) x (k, n)
inline U matmul(U a, U b) {
  i64 m = a->dims[0], k = a->dims[1], n = b->dims[1];
  U x = expand(reshape(a, {m, 1, k}), {m, n, k});
  U y = expand(reshape(permute(b, {1, 0}), {1, n, k}), {m, n, k});
  return reshape(sum(mul(x, y), {2}), {m, n});
}
// x (n, c, h, w): windows (n, c, oh, kh, ow, kw)
inline U windows(U x, i64 kh, i64 kw, i64 stride, i64 dilation = 1) {
  i64 n = x->dims[0], c = x->dims[1], h = x->dims[2], w = x->dims[3];
  i64 oh = (h - (kh - 1) * dilation - 1) / stride + 1, ow = (w - (kw - 1) * dilation - 1) / stride + 1;
  U e = expand(reshape(x, {n, c, h, 1, w, 1}), {n, c, h, kh, w, kw});
  return move(Op::WINDOW, move(Op::WINDOW, e, {2, 3, stride, dilation, oh}), {4, 5, stride, dilation, ow});
}
inline U windows_back(U g, i64 h, i64 w, i64 stride, i64 dilation = 1) {  // the adjoint of windows()
  U u = move(Op::UNWINDOW, move(Op::UNWINDOW, g, {4, 5, stride, dilation, w}), {2, 3, stride, dilation, h});
  U s = sum(u, {3, 5});
  return reshape(s, {s->dims[0], s->dims[1], h, w});
}
struct Conv {
  U product, out;  // (n, co, ci, oh, kh, ow, kw), (n, co, oh, ow)
};
inline Conv conv2d(U x, U w, i64 stride = 1, i64 padding = 0) {
  if (padding) x = pad(x, {0, 0, 0, 0, padding, padding, padding, padding});
  i64 co = w->dims[0], ci = w->dims[1], kh = w->dims[2], kw = w->dims[3];
  U v = windows(x, kh, kw, stride);
  i64 n = v->dims[0], oh = v->dims[2], ow = v->dims[4];
  Shape full{n, co, ci, oh, kh, ow, kw};
  U a = expand(reshape(v, {n, 1, ci, oh, kh, ow, kw}), full);
  U b = expand(reshape(w, {1, co, ci, 1, kh, 1, kw}), full);
  U p = mul(a, b);
  return {p, reshape(sum(p, {2, 4, 6}), {n, co, oh, ow})};
}
// The two gradients of conv2d(x, w).out by the chain rule; g has the shape of the output.
inline U conv2d_grad_input(U g, U x, U w, i64 stride = 1, i64 padding = 0) {
  i64 n = x->dims[0], co = w->dims[0], ci = w->dims[1], kh = w->dims[2], kw = w->dims[3], oh = g->dims[2],
      ow = g->dims[3];
  Shape full{n, co, ci, oh, kh, ow, kw};
  U p = mul(expand(reshape(g, {n, co, 1, oh, 1, ow, 1}), full), expand(reshape(w, {1, co, ci, 1, kh, 1, kw}), full));
  U d = windows_back(reshape(sum(p, {1}), {n, ci, oh, kh, ow, kw}), x->dims[2] + 2 * padding, x->dims[3] + 2 * padding,
                     stride);
  if (!padding) return d;
  return shrink(d, {0, n, 0, ci, padding, padding + x->dims[2], padding, padding + x->dims[3]});
}
inline U conv2d_grad_weight(U g, U x, U w, i64 stride = 1, i64 padding = 0) {
  if (padding) x = pad(x, {0, 0, 0, 0, padding, padding, padding, padding});
  i64 n = x->dims[0], co = w->dims[0], ci = w->dims[1], kh = w->dims[2], kw = w->dims[3], oh = g->dims[2],
      ow = g->dims[3];
  Shape full{n, co, ci, oh, kh, ow, kw};
  U v = expand(reshape(windows(x, kh, kw, stride), {n, 1, ci, oh, kh, ow, kw}), full);
  U p = mul(v, expand(reshape(g, {n, co, 1, oh, 1, ow, 1}), full));
  return reshape(sum(p, {0, 3, 5}), {co, ci, kh, kw});
}

struct World {  // contents of buffers
  std::map<U, std::vector<u8>> bytes;
  u64 seed;
  explicit World(u64 s = 1) : seed(s) {}
  i64 random(i64 n) {
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    return i64((seed >> 33) % u64(n));
  }
  Memory memory(U b) {
    auto& v = bytes[b];
    i64 n = b->elements();
    if (v.empty()) {
      v.resize(size_t(std::max<i64>(1, n * b->dtype.bytes())));
      for (i64 i = 0; i < n; i++) {
        i64 x = b->dtype.is_bool() ? random(2) : b->dtype.is_unsigned() ? random(8) : random(9) - 4;
        store_element(v.data(), i, b->dtype, b->dtype.is_float() ? Value{.f = double(x)} : Value{.i = x});
      }
    }
    return {v.data(), n};
  }
};

// Runs the schedule of the roots on evaluate_kernel and compares every output with evaluate() of the graph.
inline Schedule run_and_compare(std::vector<U> roots, World world = World(7), double tolerance = 0) {
  for (U u : toposort(roots))
    if (u->op == Op::BUFFER) world.memory(u);
  World expected = world, actual = world;
  Schedule s = schedule(roots, [](U root) { return buffer(root->shape(), root->dtype); });
  // One walk over all roots at once, so that every assignment happens once.
  std::map<U, std::vector<u8>> want;
  for (size_t i = 0; i < roots.size(); i++) {
    World fresh = expected;
    want[roots[i]] = evaluate(roots[i], [&](U b) { return fresh.memory(b); });
  }
  std::vector<u8> plan(size_t(s.plan_bytes), 0xEE);
  for (auto& k : s.kernels) {
    std::vector<Memory> params;
    for (auto& b : k.buffers) {
      Memory m;
      if (b.internal >= 0) {
        m = {plan.data() + s.internals[size_t(b.internal)].offset, b.elements};
      } else {
        m = actual.memory(b.buffer);
        if (b.written && !b.read && !world.bytes.contains(b.buffer))
          std::fill_n(static_cast<u8*>(m.data), b.elements * b.dtype.bytes(), 0xEE);
      }
      params.push_back(m);
    }
    EXPECT_TRUE(k.sink);
    if (k.sink) check_spec(k.sink, Stage::KERNEL, "schedule"), evaluate_kernel(k.sink, params);
  }
  EXPECT_EQ(s.outputs.size(), roots.size());
  for (size_t i = 0; i < roots.size(); i++) {
    U out = s.outputs[i];
    Memory m = actual.memory(out);
    auto& w = want[roots[i]];
    i64 bad = 0;
    double scale = 0;  // of the largest element
    for (i64 e = 0; tolerance > 0 && e < roots[i]->elements(); e++)
      if (double y = load_element(w.data(), e, F32).f; std::isfinite(y)) scale = std::max(scale, std::abs(y));
    for (i64 e = 0; e < roots[i]->elements() && bad < 4; e++) {
      Value a = load_element(m.data, e, out->dtype), b = load_element(w.data(), e, out->dtype);
      double x = out->dtype.is_float() ? a.f : double(a.i), y = out->dtype.is_float() ? b.f : double(b.i);
      bool same = (std::isnan(x) && std::isnan(y)) || x == y ||
                  std::abs(x - y) <= 1e-5 * (std::abs(x) + std::abs(y)) + tolerance * scale;
      if (!same) bad++, ADD_FAILURE() << "root " << i << " element " << e << ": " << x << ", expected " << y;
    }
    if (bad) ADD_FAILURE() << print(s);
  }
  return s;
}
inline size_t kernels_of(std::vector<U> roots) {
  return schedule(roots, [](U root) { return buffer(root->shape(), root->dtype); }).kernels.size();
}

}  // namespace ingot
