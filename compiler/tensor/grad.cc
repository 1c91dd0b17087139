// SPDX-License-Identifier: MIT
// Autodiff: reverse mode over UOps, as a list of rules. A row says, for an op, what flows to each source: w is the
// gradient that arrives, x y z are the sources, and a name given by as() is the result. Movement ops flow through their
// adjoints, which are movement ops; WINDOW and UNWINDOW are each other's. So a gradient is a graph of the same ops and
// can be derived again.
//
// Conventions where the derivative is not unique: at ties, maximum() and minimum() halve the gradient, amax() and
// amin() share it equally (as torch does); a maximum with a constant, as in relu, passes nothing at the tie. That rule
// asks the result and not the source, so that a backward pass needs one of them in memory only. prod() is right to
// first order where factors are zero. A gradient of shape () stands for every element, as elsewhere: most chains start
// as the constant 1 and stay small.
#include "compiler/tensor/tensor.h"

namespace ingot {
namespace {

using namespace holes;

struct GradRule {
  Pat left, d[3];  // d[i]: what flows to the node that hole i (x, y, z) names; empty: nothing
  consteval GradRule(Pat l, Pat dx, Pat dy = {}, Pat dz = {}) : left(l), d{dx, dy, dz} {
    if ((dx.binds | dy.binds | dz.binds) & ~(l.binds | w.binds))
      throw "a gradient uses a name the pattern does not bind";
  }
};

// clang-format off
constexpr GradRule rules[] = {
  {op(Op::NEG, x),             -w},
  {op(Op::RECIP, x).as(y),     -(w * y * y)},
  {op(Op::SQRT, x).as(y),      fdiv(w * 0.5, y)},
  {op(Op::RSQRT, x).as(y),     w * -0.5 * y * y * y},
  {op(Op::EXP, x).as(y),       w * y},
  {op(Op::EXP2, x).as(y),      w * (y * 0.69314718055994530942)},
  {op(Op::LOG, x),             fdiv(w, x)},
  {op(Op::LOG2, x),            fdiv(w * 1.44269504088896340736, x)},
  {op(Op::SIN, x),             w * op(Op::COS, x)},
  {op(Op::COS, x),             -(w * op(Op::SIN, x))},
  {op(Op::TAN, x).as(y),       w * (y * y + 1.0)},
  {op(Op::TANH, x).as(y),      w * (1.0 - y * y)},
  {op(Op::ERF, x),             w * (op(Op::EXP, -(x * x)) * 1.12837916709551257390)},
  {x + y,                      w, w},
  {x - y,                      w, -w},
  {x * y,                      w * y, w * x},
  {fdiv(x, y).as(z),           fdiv(w, y), -fdiv(w * z, y)},
  {op(Op::POW, x, y).as(z),    where(y == 0.0, 0.0, w * y * op(Op::POW, x, y - 1.0)), where(x == 0.0, 0.0, w * z * op(Op::LOG, x))},
  {max(x, a).as(z),            where(a < z, w, 0.0)},
  {min(x, a).as(z),            where(z < a, w, 0.0)},
  {max(x, y),                  where(y < x, w, where(x == y, w * 0.5, 0.0)), where(x < y, w, where(x == y, w * 0.5, 0.0))},
  {min(x, y),                  where(x < y, w, where(x == y, w * 0.5, 0.0)), where(y < x, w, where(x == y, w * 0.5, 0.0))},
  {where(x, y, z),             Pat(), where(x, w, 0.0), where(x, 0.0, w)},
  {fma(x, y, z),               w * y, w * x, w},
};
// clang-format on

class Backward {
 public:
  explicit Backward(std::span<const U> order) : order_(order) {}
  UMap<U> gradient;   // what has arrived at a node
  UMap<bool> wanted;  // nodes that a target reaches

  void run() {
    for (size_t i = order_.size(); i--;) {
      U u = order_[i], *g = gradient.find(u);
      if (!g || !wanted.contains(u) || stop.contains(u)) continue;
      now_ = u;
      if (has(u->op, ALU) && u->op != Op::CAST)
        elementwise(u, *g);
      else
        structure(u, *g);
    }
  }
  UMap<bool> stop;  // targets: nothing flows through them unless another target is behind

 private:
  std::span<const U> order_;
  U now_ = nullptr;  // whose sources receive; a gradient is named by the line of what it is the gradient of

  // `g` stands for every element of a node of this shape
  static U whole(U g, std::span<const i64> shape) { return lazy::expand(g, shape); }
  static U where_(U condition, U yes, U no) { return make(Op::WHERE, yes->dtype, {condition, yes, no}); }
  static U zero(DType t) { return constant_float(t, 0); }

  void arrive(U source, U g, U at) {
    if (!wanted.contains(source) || !source->dtype.is_float()) return;
    if (!source->ndim && at->ndim) {  // one value stood for every element
      Shape axes;
      for (int i = 0; i < at->ndim; i++) axes.push_back(i);
      g = lazy::reshape(lazy::reduce(whole(g, at->shape()), Op::ADD, axes), {});
    }
    copy_source(g, now_);
    U& sum = gradient[source];
    if (sum) copy_source(g = make_alu(Op::ADD, sum, g), now_);
    sum = g;
  }
  void elementwise(U u, U g) {
    for (const GradRule& rule : rules) {
      Match m;
      if (Op(rule.left.term[0].v) != u->op || !match(rule.left, u, m)) continue;
      m.at[w.term[0].v] = g;
      for (int i = 0; i < 3; i++)
        if (rule.d[i].n && m.at[size_t(i)] && wanted.contains(m.at[size_t(i)]))
          arrive(m.at[size_t(i)], build(rule.d[i], m, u->dtype), u);
      return;
    }
  }
  void structure(U u, U g) {
    U s = u->nsrc ? u->src(0) : nullptr;
    auto arg = [&](int i) { return u->arg(i); };
    Shape a;
    switch (u->op) {
      case Op::CAST: return arrive(s, cast(g, s->dtype), u);
      case Op::CONTIGUOUS: return arrive(s, g, u);
      case Op::COPY:
        return arrive(s, make(Op::COPY, g->dtype, {whole(g, u->shape())}, {device_of(s) < 0 ? arg(0) : device_of(s)}),
                      u);
      case Op::RESHAPE: return arrive(s, lazy::reshape(whole(g, u->shape()), s->shape()), s);
      case Op::EXPAND:
        for (int i = 0; i < u->ndim; i++)
          if (s->dims[i] != u->dims[i]) a.push_back(i);
        return arrive(s, lazy::reduce(whole(g, u->shape()), Op::ADD, a), s);
      case Op::PERMUTE:
        a.resize(u->ndim);
        for (int i = 0; i < u->ndim; i++) a[size_t(arg(i))] = i;
        return arrive(s, lazy::permute(whole(g, u->shape()), a), s);
      case Op::PAD:
        for (int i = 0; i < u->ndim; i++) a.insert(a.end(), {arg(2 * i), arg(2 * i) + s->dims[i]});
        return arrive(s, lazy::shrink(whole(g, u->shape()), a), s);
      case Op::SHRINK:
        for (int i = 0; i < u->ndim; i++) a.insert(a.end(), {arg(2 * i), s->dims[i] - arg(2 * i + 1)});
        return arrive(s, lazy::pad(whole(g, u->shape()), a), s);
      case Op::FLIP: return arrive(s, lazy::flip(whole(g, u->shape()), u->arg()), s);
      case Op::WINDOW:
      case Op::UNWINDOW: {
        Op adjoint = u->op == Op::WINDOW ? Op::UNWINDOW : Op::WINDOW;
        return arrive(
            s, make(adjoint, g->dtype, {whole(g, u->shape())}, {arg(0), arg(1), arg(2), arg(3), s->dims[arg(0)]}), s);
      }
      case Op::REDUCE_AXIS: return arrive(s, reduction(u, s, whole(g, u->shape())), s);
      case Op::GATHER: return arrive(s, scattered(u, s, whole(g, u->shape())), s);
      case Op::ASSIGN:
        if (!u->narg) return arrive(u->src(1), g, u);
        for (int i = 0; i < u->ndim; i++) a.insert(a.end(), {arg(2 * i), u->dims[i] - arg(2 * i + 1)});
        arrive(u->src(1), lazy::shrink(whole(g, u->shape()), u->arg()), u->src(1));
        return arrive(s, where_(lazy::pad(lazy::expand(constant(BOOL, 1), u->src(1)->shape()), a), zero(g->dtype), g),
                      u);
      default: return;  // DETACH, and what has no gradient
    }
  }
  static U reduction(U u, U s, U g) {
    std::span<const i64> axes = u->arg().subspan(1);
    DType t = s->dtype;
    auto spread = [&](U v) { return lazy::expand(v, s->shape()); };
    auto sum_of = [&](U mask) { return lazy::reduce(cast(mask, t), Op::ADD, axes); };
    switch (Op(u->arg(0))) {
      case Op::ADD: return spread(g);
      case Op::MAX:
      case Op::MIN: {
        U hit = make_alu(Op::CMPEQ, s, spread(u));
        return where_(hit, spread(make_alu(Op::FDIV, g, sum_of(hit))), zero(t));
      }
      case Op::MUL: {  // the product of the others: result / x without zeros; with one zero, only it has a gradient
        U is_zero = make_alu(Op::CMPEQ, s, zero(t)), others = where_(is_zero, constant_float(t, 1), s);
        U p = lazy::reduce(others, Op::MUL, axes), zeros = sum_of(is_zero);
        U at_zero = spread(where_(make_alu(Op::CMPEQ, zeros, constant_float(t, 1)), p, zero(t)));
        U elsewhere =
            where_(spread(make_alu(Op::CMPEQ, zeros, zero(t))), make_alu(Op::FDIV, spread(p), others), zero(t));
        return make_alu(Op::MUL, spread(g), where_(is_zero, at_zero, elsewhere));
      }
      default: unreachable();
    }
  }
  // out[.., j, ..] = x[.., index[.., j, ..], ..]: element v of x gets the sum of g over the j whose index is v.
  static U scattered(U u, U s, U g) {
    int axis = int(u->arg(0));
    U index = u->src(1);
    Shape one(index->shape().begin(), index->shape().end());
    one.insert(one.begin() + axis, 1);
    Shape all = one;
    all[size_t(axis)] = s->dims[axis];
    U place = lazy::expand(cast(lazy::iota(s->dims[axis], axis, u->ndim + 1), index->dtype), all);
    U hit = make_alu(Op::CMPEQ, lazy::expand(lazy::reshape(index, one), all), place);
    U values = where_(hit, lazy::expand(lazy::reshape(g, one), all), zero(g->dtype));
    i64 over[] = {axis + 1};
    return lazy::reshape(lazy::reduce(values, Op::ADD, over), s->shape());
  }
};

// Gradients of root at each target; nullptr where root does not depend on it.
std::vector<U> gradients(U root, U upstream, std::span<const U> targets) {
  std::vector<U> order = toposort(root);
  Backward b(order);
  UMap<bool> leaf;
  for (U t : targets) leaf[t] = true;
  for (U u : order) {
    bool behind = false;  // a target lies behind u
    if (u->op != Op::DETACH)
      for (U s : u->src()) behind |= b.wanted.contains(s);
    if (behind || leaf.contains(u)) b.wanted[u] = true;
    if (!behind && leaf.contains(u)) b.stop[u] = true;
  }
  if (b.wanted.contains(root)) b.gradient[root] = upstream;
  b.run();
  std::vector<U> out;
  for (U t : targets) {
    U* g = b.gradient.find(t);
    out.push_back(g ? lazy::expand(*g, t->shape()) : nullptr);
  }
  return out;
}

U upstream_of(const Tensor& value, const Tensor& upstream) {
  if (!value.is_float()) throw Error("the gradient of a tensor ", value.describe(), ": only floats have gradients");
  if (!upstream.defined()) {
    if (value.numel() != 1)
      throw Error("the gradient of a tensor ", value.describe(),
                  ": it has more than one element; give the upstream gradient, or take sum() or mean()");
    return constant_float(value.dtype(), 1);
  }
  if (!std::ranges::equal(upstream.shape(), value.shape()))
    throw Error("upstream gradient ", upstream.describe(), " for ", value.describe(), ": shapes must be equal");
  return upstream.to(value.dtype()).uop();
}

}  // namespace

std::vector<Tensor> gradient(const Tensor& value, std::span<const Tensor> targets, const Tensor& upstream, At) {
  std::vector<U> nodes;
  for (const Tensor& t : targets) {
    if (!t.is_float())
      throw Error("the gradient with respect to a tensor ", t.describe(), ": only floats have gradients");
    nodes.push_back(t.uop());
  }
  std::vector<U> found = gradients(value.uop(), upstream_of(value, upstream), nodes);
  std::vector<Tensor> out;
  for (size_t i = 0; i < targets.size(); i++) out.push_back(found[i] ? Tensor(found[i]) : zeros_like(targets[i]));
  return out;
}

void Tensor::backward(At at) const { backward({}, at); }
void Tensor::backward(const Tensor& upstream, At) const {  // named by the lines of what is derived, not by this one
  std::vector<TensorState*> leaves;
  std::vector<U> nodes;
  for (TensorState* s = TensorState::first_leaf; s; s = s->next) leaves.push_back(s), nodes.push_back(*s->uop);
  std::vector<U> found = gradients(uop(), upstream_of(*this, upstream), nodes);
  bool any = false;
  for (size_t i = 0; i < leaves.size(); i++) {
    if (!found[i]) continue;
    Tensor g(found[i]), &sum = leaves[i]->grad;
    sum = sum.defined() ? sum + g : g;
    any = true;
  }
  if (!any)
    throw Error("backward of ", describe(),
                ": it was computed from no live tensor with requires_grad_(); a tensor that was "
                "realised (item(), to_vector(), realize()) has no history, so call backward() before");
}

}  // namespace ingot
