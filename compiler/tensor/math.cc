// SPDX-License-Identifier: MIT
// What computes: the elementwise methods (their definitions are rows of elementwise.def), reductions, products,
// convolutions, pools, normalisations and losses, each in terms of the ones before it. Nothing is materialised here:
// what becomes a kernel is the scheduler's decision. Numerically: narrow floats (under 32 bits) accumulate in F32 and
// round once; softmaxes subtract the maximum; variances take two passes.
#include <cmath>
#include <limits>
#include <numeric>
#include "compiler/tensor/tensor.h"

namespace ingot {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

bool narrow(DType t) { return t.is_float() && t.bits() < 32; }
Tensor wide(const Tensor& t) { return narrow(t.dtype()) ? t.to(F32) : t; }
i64 at_axis(const Ints& list, i64 i) { return list.size() == 1 ? list[0] : list[size_t(i)]; }

// x + x²/2! + … : relative error below 2^-53 for |x| < 0.5 (16 terms of the Taylor series, Horner's scheme)
Tensor expm1_near_zero(const Tensor& x) {
  Tensor sum = full({}, 1, x.dtype());
  for (int n = x.dtype() == F64 ? 16 : 9; n > 1; n--) sum = sum * x / n + 1;
  return sum * x;
}
// Kahan's correction: log(u) x / (u - 1), u = 1 + x rounded, loses nothing where x is small (HP-15C manual, appendix 4)
Tensor log1p_of(const Tensor& x) {
  Tensor u = 1 + x, plain = u == 1;
  Tensor d = where(plain | (u == infinity), 1, u - 1);
  return where(plain, x, u.log() * where(u == infinity, 1, x / d));
}
// atan x = 2 atan(x / (1 + sqrt(1 + x²))): twice brings |x| below tan(pi/8) / (1 + …) < 0.1990, where 11 terms of the
// series do
Tensor atan_of(const Tensor& x) {
  Tensor a = x.abs(), big = a > 1, t = where(big, 1 / where(big, a, 1), a);
  for (int i = 0; i < 2; i++) t = t / (1 + (1 + t * t).sqrt());
  Tensor z = t * t, sum = full({}, 0, x.dtype());
  for (int n = x.dtype() == F64 ? 12 : 6; n >= 0; n--) sum = sum * z + (n % 2 ? -1.0 : 1.0) / (2 * n + 1);
  Tensor r = sum * t * 4;
  r = where(big, 1.57079632679489661923 - r, r);
  return where(x < 0, -r, r);
}

Tensor reduce(const Tensor& t, Op op, const Ints& axes, bool keepdim) {
  std::vector<bool> gone(static_cast<size_t>(t.dim()), axes.empty());
  for (i64 axis : axes) {
    i64 i = t.axis_of(axis);
    if (!t.dim()) continue;
    if (gone[size_t(i)]) throw Error("axis ", axis, " appears twice in ", axes.vec(), " for a tensor ", t.describe());
    gone[size_t(i)] = true;
  }
  Shape list, kept;
  i64 n = 1;
  for (i64 i = 0; i < t.dim(); i++)
    if (!gone[size_t(i)])
      kept.push_back(t.size(i));
    else
      list.push_back(i), n *= t.size(i);
  if (!n && (op == Op::MAX || op == Op::MIN))
    throw Error("the maximum or minimum of no elements: ", t.describe(), " over ", axes.vec());
  if (!t.numel()) {  // nothing to read: the sum is 0, the product 1
    Tensor zero = full(kept, op == Op::MUL, t.dtype());
    for (i64 axis : list) zero = keepdim ? zero.unsqueeze(axis) : zero;
    return zero;
  }
  Tensor r(lazy::reduce(t.uop(), op, list));
  return keepdim ? r : r.reshape(kept);
}
Tensor sum_like(const Tensor& t, const Ints& axes, bool keepdim) {  // in t's dtype
  return reduce(wide(t), Op::ADD, axes, keepdim).to(t.dtype());
}
i64 count_of(const Tensor& t, const Ints& axes) {
  i64 n = axes.empty() ? t.numel() : 1;
  for (i64 axis : axes) n *= t.dim() ? t.size(axis) : 1;
  return n;
}
Tensor apply(Reduction r, const Tensor& loss) {
  return r == Reduction::SUM ? loss.sum() : r == Reduction::MEAN ? loss.mean() : loss;
}
void expect_float(const char* what, const Tensor& t) {
  if (!t.is_float()) throw Error(what, " of ", t.describe(), ": floats only");
}

}  // namespace

DType promote(const Operand& a, const Operand& b) {
  if (a.tensor && b.tensor) return promote(a.tensor->dtype(), b.tensor->dtype());
  if (!a.tensor && !b.tensor) return promote(a.weak, b.weak);
  DType t = a.tensor ? a.tensor->dtype() : b.tensor->dtype(), weak = a.tensor ? b.weak : a.weak;
  return weak.is_float() ? (t.is_float() ? t : F32) : weak.is_bool() || !t.is_bool() ? t : I64;
}

// ---- elementwise
Tensor Tensor::alu(Op op) const {
  DType t = dtype();
  if (has(op, FLOAT_ONLY) ? !t.is_float() : t.is_bool() && !has(op, LOGIC))
    throw Error(row(op).doc, " (", op, ") of ", describe());
  return Tensor(make_alu(op, uop()));
}
Tensor Tensor::alu(Op op, const Tensor& o) const {
  U a = uop(), b = o.uop();
  DType t = a->dtype;
  if (t != b->dtype || (has(op, FLOAT_ONLY) && !t.is_float()) || (t.is_bool() && !has(op, LOGIC)) ||
      (has(op, INTEGER) && t.is_float()))
    throw Error(op, " (", row(op).doc, ") of ", describe(), " and ", o.describe(), ": not defined for ", t);
  if (a->ndim && b->ndim && !std::ranges::equal(a->shape(), b->shape())) {
    Shape s = broadcast_shapes(a->shape(), b->shape());
    a = lazy::expand(a, s), b = lazy::expand(b, s);
  }
  return Tensor(make_alu(op, a, b));
}
Tensor where(const Tensor& condition, Operand a, Operand b) {
  Here here(a.at);
  DType t = promote(a, b);
  U src[] = {condition.to(BOOL).uop(), a.as(t).uop(), b.as(t).uop()};
  Shape s;
  for (U u : src)
    if (u->ndim) s = broadcast_shapes(s, u->shape());
  for (U& u : src)
    if (u->ndim) u = lazy::expand(u, s);
  return Tensor(make(Op::WHERE, t, src));
}

#define UNARY(name, low, high, value, what) \
  Tensor Tensor::name(At at) const {        \
    Here here(at);                          \
    const Tensor& x = *this;                \
    return value;                           \
  }
#define BINARY(name, value, what)                  \
  Tensor Tensor::name(Operand other) const {       \
    Here here(other.at);                           \
    DType both = promote(*this, other);            \
    const Tensor x = to(both), y = other.as(both); \
    return value;                                  \
  }
#include "compiler/tensor/elementwise.def"
#undef UNARY
#undef BINARY

#define OPERATOR(symbol, name)                                         \
  Tensor operator symbol(Operand a, Operand b) {                       \
    Here here(a.at);                                                   \
    return a.tensor ? a.tensor->name(b) : a.as(promote(a, b)).name(b); \
  }
// clang-format off
OPERATOR(+, add) OPERATOR(-, sub) OPERATOR(*, mul) OPERATOR(/, div) OPERATOR(%, remainder) OPERATOR(<, lt) OPERATOR(>, gt)
OPERATOR(<=, le) OPERATOR(>=, ge) OPERATOR(==, eq) OPERATOR(!=, ne) OPERATOR(&, bitwise_and) OPERATOR(|, bitwise_or)
OPERATOR(^, bitwise_xor) OPERATOR(<<, bitwise_left_shift) OPERATOR(>>, bitwise_right_shift)
// clang-format on
#undef OPERATOR

            Tensor Tensor::div(Operand other, std::string_view mode) const {
  if (mode != "floor" && mode != "trunc") throw Error("div: rounding mode '", mode, "' is neither floor nor trunc");
  return mode == "floor" ? floor_divide(other) : trunc_divide(other);
}
Tensor Tensor::pow(Operand e) const {
  Here here(e.at);
  if (!e.tensor) {
    double n = e.weak.is_float() ? e.real : double(e.integer);
    if (n == 0.5) return sqrt();
    if (n == -0.5) return rsqrt();
    if (n == std::trunc(n) && std::abs(n) <= 8) {  // by squaring: exact for integers, and cheaper
      Tensor square = promote(*this, e) == dtype() ? *this : to(promote(*this, e)), product;
      if (n < 0) return pow({-n, e.at}).reciprocal();
      for (int bits = int(n); bits; bits >>= 1) {
        if (bits & 1) product = product.defined() ? product * square : square;
        if (bits > 1) square = square * square;
      }
      return product.defined() ? product : full_like(square, 1);
    }
  }
  DType t = promote(*this, e);
  if (!t.is_float()) return (to(F64).pow({e.as(F64), e.at}).round()).to(t);
  return to(t).alu(Op::POW, e.as(t));
}
Tensor Tensor::clamp(std::optional<Operand> low, std::optional<Operand> high, At at) const {
  Here here(at);
  if (!low && !high) throw Error("clamp of ", describe(), " with neither bound");
  Tensor t = low ? maximum(*low) : *this;
  return high ? t.minimum(*high) : t;
}
Tensor Tensor::clip(std::optional<Operand> low, std::optional<Operand> high, At at) const {
  return clamp(low, high, at);
}
Tensor Tensor::leaky_relu(double slope, At at) const {
  Here here(at);
  return where(*this > 0, *this, *this * slope);
}
Tensor Tensor::elu(double alpha, At at) const {
  Here here(at);
  return where(*this > 0, *this, minimum(0).expm1() * alpha);
}
Tensor Tensor::softplus(double beta, At at) const {
  Here here(at);
  Tensor z = *this * beta;
  return (z.relu() + (-z.abs()).exp().log1p()) / beta;
}
Tensor Tensor::gelu(std::string_view approximate, At at) const {
  Here here(at);
  const Tensor& x = *this;
  if (approximate == "none") return x * 0.5 * (1 + (x * 0.70710678118654752440).erf());
  if (approximate != "tanh") throw Error("gelu: approximation '", approximate, "' is neither none nor tanh");
  return x * 0.5 * (1 + (0.79788456080286535588 * (x + 0.044715 * x * x * x)).tanh());
}
Tensor Tensor::lerp(const Tensor& end, Operand weight) const {
  Here here(weight.at);
  return *this + (end - *this) * weight;
}
Tensor Tensor::masked_fill(const Tensor& mask, Operand value) const {
  Here here(value.at);
  return where(mask, value.as(dtype()), *this);
}

// ---- reductions
Tensor Tensor::sum(Ints axes, bool keepdim, At at) const {
  Here here(at);
  return is_float() ? sum_like(*this, axes, keepdim) : reduce(to(I64), Op::ADD, axes, keepdim);
}
Tensor Tensor::prod(Ints axes, bool keepdim, At at) const {
  Here here(at);
  return is_float() ? reduce(wide(*this), Op::MUL, axes, keepdim).to(dtype()) : reduce(to(I64), Op::MUL, axes, keepdim);
}
Tensor Tensor::mean(Ints axes, bool keepdim, At at) const {
  Here here(at);
  Tensor x = floating();
  return (reduce(wide(x), Op::ADD, axes, keepdim) / double(count_of(x, axes))).to(x.dtype());
}
Tensor Tensor::amax(Ints axes, bool keepdim, At at) const {
  Here here(at);
  return dtype().is_bool() ? any(axes, keepdim) : reduce(*this, Op::MAX, axes, keepdim);
}
Tensor Tensor::amin(Ints axes, bool keepdim, At at) const {
  Here here(at);
  return dtype().is_bool() ? all(axes, keepdim) : reduce(*this, Op::MIN, axes, keepdim);
}
Tensor Tensor::any(Ints axes, bool keepdim, At at) const {
  Here here(at);
  return numel() ? reduce(to(BOOL).to(I32), Op::MAX, axes, keepdim).to(BOOL) : sum(axes, keepdim).to(BOOL);
}
Tensor Tensor::all(Ints axes, bool keepdim, At at) const {
  Here here(at);
  return numel() ? reduce(to(BOOL).to(I32), Op::MIN, axes, keepdim).to(BOOL) : prod(axes, keepdim).to(BOOL);
}
std::pair<Tensor, Tensor> Tensor::var_mean(Ints axes, i64 correction, bool keepdim, At at) const {
  Here here(at);
  Tensor x = wide(floating()), mean = x.mean(axes, true), v = (x - mean).square().sum(axes, keepdim);
  DType out = floating().dtype();
  v = v / double(std::max<i64>(count_of(x, axes) - correction, 0));
  return {v.to(out), (keepdim ? mean : mean.reshape(v.shape())).to(out)};
}
Tensor Tensor::var(Ints axes, i64 correction, bool keepdim, At at) const {
  return var_mean(axes, correction, keepdim, at).first;
}
Tensor Tensor::std(Ints axes, i64 correction, bool keepdim, At at) const {
  Here here(at);
  return var(axes, correction, keepdim).sqrt();
}
Tensor Tensor::norm(Ints axes, bool keepdim, At at) const {
  Here here(at);
  return square().sum(axes, keepdim).sqrt();
}
Tensor Tensor::argmax(std::optional<i64> axis, bool keepdim, At at) const {
  Here here(at);
  if (!axis) return keepdim ? flatten().argmax(0, false).reshape(Shape(size_t(dim()), 1)) : flatten().argmax(0, false);
  i64 a = axis_of(*axis), n = dim() ? size(a) : 1;
  if (!dim()) return zeros({}, I64);
  Tensor x = dtype().is_bool() ? to(I32) : *this, hit = x == x.amax(a, true);
  if (is_float()) hit = hit | x.isnan();
  Tensor last_first = n - Tensor(lazy::iota(n, int(a), int(dim())));  // the first of ties has the largest number
  return n - where(hit, last_first, 0).amax(a, keepdim).to(I64);
}
Tensor Tensor::argmin(std::optional<i64> axis, bool keepdim, At at) const {
  Here here(at);
  return (is_float() ? -*this : bitwise_not()).argmax(axis, keepdim);  // ~x turns the order of integers around
}
Tensor Tensor::logsumexp(Ints axes, bool keepdim, At at) const {
  Here here(at);
  Tensor x = wide(floating()), m = x.amax(axes, true).detach();
  m = where(m.isfinite(), m, 0);
  Tensor s = (x - m).exp().sum(axes, keepdim).log();
  return (s + m.reshape(s.shape())).to(floating().dtype());
}
Tensor Tensor::softmax(i64 axis, At at) const {
  Here here(at);
  Tensor x = wide(floating()), e = (x - x.amax(axis, true).detach()).exp();
  return (e / e.sum(axis, true)).to(floating().dtype());
}
Tensor Tensor::log_softmax(i64 axis, At at) const {
  Here here(at);
  Tensor x = wide(floating()), s = x - x.amax(axis, true).detach();
  return (s - s.exp().sum(axis, true).log()).to(floating().dtype());
}
namespace {
// Blocks of 256: n²/2 operations inside a block, then the same over the blocks' totals.
Tensor scan(const Tensor& x, Op op, i64 axis) {
  constexpr i64 block = 256;
  i64 n = x.size(axis), blocks = (n + block - 1) / block;
  if (n > block) {
    Ints padding({0, blocks * block - n});
    Tensor t = x.movedim(axis, -1).pad(padding, op == Op::MUL).unflatten(-1, {blocks, block});
    t = scan(t, op, t.dim() - 1);
    Tensor totals = t.select(-1, block - 1), before = scan(totals, op, totals.dim() - 1);
    before = before.narrow(-1, 0, blocks - 1).pad({1, 0}, op == Op::MUL).unsqueeze(-1);
    t = op == Op::MUL ? t * before : t + before;
    return t.flatten(-2, -1).narrow(-1, 0, n).movedim(-1, axis);
  }
  int ndim = int(x.dim()) + 1;
  Tensor to = Tensor(lazy::iota(n, int(axis), ndim)), from = Tensor(lazy::iota(n, int(axis) + 1, ndim));
  return reduce(where(from <= to, x.unsqueeze(axis), op == Op::MUL), op, axis + 1, false);
}
Tensor scan_of(const Tensor& t, Op op, i64 axis) {
  Tensor x = t.is_float() ? wide(t) : t.to(I64);
  return (t.dim() && t.numel() ? scan(x, op, t.axis_of(axis)) : x).to(t.is_float() ? t.dtype() : I64);
}
}  // namespace
Tensor Tensor::cumsum(i64 axis, At at) const {
  Here here(at);
  return scan_of(*this, Op::ADD, axis);
}
Tensor Tensor::cumprod(i64 axis, At at) const {
  Here here(at);
  return scan_of(*this, Op::MUL, axis);
}

// ---- products
Tensor Tensor::matmul(const Tensor& o, At at) const {
  Here here(at);
  auto fail = [&] {
    throw Error("matmul of ", describe(), " and ", o.describe(), ": the last axis of the first must equal the ",
                o.dim() < 2 ? "last" : "second to last", " of the second, and the axes before must broadcast");
  };
  if (!dim() || !o.dim() || size(-1) != o.size(o.dim() > 1 ? -2 : -1)) fail();
  for (i64 i = 3; i <= std::min(dim(), o.dim()); i++)
    if (size(-i) != o.size(-i) && size(-i) != 1 && o.size(-i) != 1) fail();
  DType t = promote(dtype(), o.dtype());
  Tensor a = wide(to(t)), b = wide(o.to(t));
  if (b.dim() == 1) return reduce(a * b, Op::ADD, -1, false).to(t);
  b = b.transpose();  // (…, M, 1, K) times (…, 1, N, K)
  if (a.dim() > 1) a = a.unsqueeze(-2), b = b.dim() > 2 ? b.unsqueeze(-3) : b;
  return reduce(a * b, Op::ADD, -1, false).to(t);
}
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias, At at) {
  Here here(at);
  if (weight.dim() != 2 || !x.dim() || x.size(-1) != weight.size(1))
    throw Error("linear of ", x.describe(), " with weight ", weight.describe(), ": expected (out, ",
                x.dim() ? x.size(-1) : 0, ")");
  Tensor y = x.matmul(weight.T());
  return bias.defined() ? y + bias : y;
}
Tensor einsum(std::string_view formula, std::span<const Tensor> operands, At at) {
  Here here(at);
  std::string text;
  for (char c : formula)
    if (c != ' ') text += c;
  size_t arrow = text.find("->");
  std::string inputs = text.substr(0, arrow), output, axes;
  std::vector<std::string_view> terms = split(inputs, ',');
  auto fail = [&](const auto&... why) { throw Error("einsum '", formula, "': ", why...); };
  if (terms.size() != operands.size()) fail(terms.size(), " terms for ", operands.size(), " operands");
  std::map<char, i64> sizes, uses;
  for (size_t k = 0; k < terms.size(); k++) {
    if (i64(terms[k].size()) != operands[k].dim()) fail("term ", terms[k], " for ", operands[k].describe());
    for (size_t i = 0; i < terms[k].size(); i++) {
      char c = terms[k][i];
      i64 n = operands[k].size(i64(i));
      if (!std::isalpha(u8(c))) fail("'", c, "' is not a letter");
      if (terms[k].find(c, i + 1) != std::string_view::npos)
        fail("axis ", c, " twice in one term; take the diagonal first");
      if (!sizes.emplace(c, n).second && sizes[c] != n) fail("axis ", c, " is both ", sizes[c], " and ", n);
      uses[c]++;
    }
  }
  if (arrow != std::string::npos)
    output = text.substr(arrow + 2);
  else
    for (auto [c, n] : uses)
      if (n == 1) output += c;
  axes = output;
  for (auto [c, n] : sizes)
    if (axes.find(c) == std::string::npos) axes += c;
  for (size_t i = 0; i < output.size(); i++)
    if (!sizes.count(output[i]) || output.find(output[i], i + 1) != std::string::npos) fail("output axis ", output[i]);
  DType t = operands[0].dtype();
  for (const Tensor& o : operands) t = promote(t, o.dtype());
  Tensor product;
  for (size_t k = 0; k < terms.size(); k++) {
    Shape order, shape;
    for (char c : axes)
      if (size_t i = terms[k].find(c); i != std::string_view::npos)
        order.push_back(i64(i)), shape.push_back(sizes[c]);
      else
        shape.push_back(1);
    Tensor x = wide(operands[k].to(t)).permute(order).reshape(shape);
    product = product.defined() ? product * x : x;
  }
  Shape summed;
  for (size_t i = output.size(); i < axes.size(); i++) summed.push_back(i64(i));
  return summed.empty() ? product.to(t) : reduce(product, Op::ADD, summed, false).to(t);
}

// ---- convolutions and pools
namespace {
struct Spatial {  // options, one value for each of k axes
  Shape stride, dilation, before, after;
};
Spatial spatial(const char* what, i64 k, const Ints& stride, const Ints& padding, const Ints& dilation) {
  auto given = [&](const Ints& list) { return list.size() == 1 || i64(list.size()) == k; };
  if (!given(stride) || !given(dilation) || (!given(padding) && i64(padding.size()) != 2 * k))
    throw Error(what, " with ", k, " spatial axes: stride ", stride.vec(), ", padding ", padding.vec(), ", dilation ",
                dilation.vec(), ": one value, or one per axis; padding also two per axis");
  Spatial s;
  for (i64 i = 0; i < k; i++) {
    bool both = padding.size() != 1 && i64(padding.size()) == 2 * k;
    s.stride.push_back(at_axis(stride, i)), s.dilation.push_back(at_axis(dilation, i));
    s.before.push_back(both ? padding[size_t(2 * i)] : at_axis(padding, i));
    s.after.push_back(both ? padding[size_t(2 * i + 1)] : at_axis(padding, i));
    if (s.stride.back() < 1 || s.dilation.back() < 1 || s.before.back() < 0 || s.after.back() < 0)
      throw Error(what, ": stride ", stride.vec(), " and dilation ", dilation.vec(), " must be positive, padding ",
                  padding.vec(), " not negative");
  }
  return s;
}
Tensor pad_spatial(const Tensor& x, const Spatial& s, Operand value) {
  Shape list;
  for (size_t i = s.before.size(); i--;) list.insert(list.end(), {s.before[i], s.after[i]});
  return x.pad(list, value);
}
Shape axes_from(i64 begin, i64 end) {
  Shape out(size_t(end - begin));
  std::iota(out.begin(), out.end(), begin);
  return out;
}
Tensor add_channels(const Tensor& y, const Tensor& bias, i64 spatial_axes) {
  if (!bias.defined()) return y;
  if (bias.dim() != 1 || bias.size(0) != y.size(1))
    throw Error("bias ", bias.describe(), " for an output ", y.describe(), ": expected (", y.size(1), ")");
  Shape s(size_t(spatial_axes + 1), 1);
  s[0] = bias.size(0);
  return y + bias.reshape(s);
}
}  // namespace

Tensor conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias, const ConvOptions& o, At at) {
  Here here(at);
  i64 k = x.dim() - 2, g = o.groups;
  if (k < 1 || weight.dim() != x.dim() || g < 1 || x.size(1) != weight.size(1) * g || weight.size(0) % g)
    throw Error("conv of ", x.describe(), " with weight ", weight.describe(), " in ", g,
                " groups: expected (N, C, spatial…) and (O, C / groups, window…)");
  Spatial s = spatial("conv", k, o.stride, o.padding, o.dilation);
  DType t = promote(x.dtype(), weight.dtype());
  Ints window(weight.shape().subspan(2));
  Tensor in = pad_spatial(wide(x.to(t)), s, 0).windows(window, s.stride, s.dilation);  // N C out… window…
  in = in.unflatten(1, {g, 1, x.size(1) / g});                                         // N G 1 C/G out… window…
  Shape ws = {1, g, weight.size(0) / g, weight.size(1)};
  ws.insert(ws.end(), size_t(k), 1);
  ws.insert(ws.end(), window.begin(), window.end());
  Tensor product = in * wide(weight.to(t)).reshape(ws);  // N G O/G C/G out… window…
  Shape axes = axes_from(4 + k, 4 + 2 * k);
  axes.insert(axes.begin(), 3);
  return add_channels(reduce(product, Op::ADD, axes, false).flatten(1, 2).to(t), bias, k);
}
// The adjoint of conv2d with respect to its input, by the adjoint of WINDOW: one product and one sum.
Tensor conv_transpose2d(const Tensor& x, const Tensor& weight, const Tensor& bias, const ConvOptions& o, At at) {
  Here here(at);
  i64 k = x.dim() - 2, g = o.groups;
  if (k < 1 || weight.dim() != x.dim() || g < 1 || x.size(1) != weight.size(0) || x.size(1) % g)
    throw Error("conv_transpose of ", x.describe(), " with weight ", weight.describe(), " in ", g,
                " groups: expected (N, C, spatial…) and (C, O / groups, window…)");
  Spatial s = spatial("conv_transpose", k, o.stride, o.padding, o.dilation);
  DType t = promote(x.dtype(), weight.dtype());
  i64 c = x.size(1) / g, out = weight.size(1);
  Tensor in = wide(x.to(t)).unflatten(1, {g, 1, c});  // N G 1 C/G, then i, k for each spatial axis
  Shape ws = {1, g, c, out};
  std::vector<std::pair<i64, i64>> crop;
  for (i64 i = 0; i < k; i++) {
    i64 axis = 4 + 2 * i, extra = at_axis(o.output_padding, i), n = x.size(2 + i), w = weight.size(2 + i),
        st = s.stride[size_t(i)], d = s.dilation[size_t(i)];
    in = in.unsqueeze(axis + 1);
    Shape wider(in.shape().begin(), in.shape().end());
    wider[size_t(axis + 1)] = w;
    i64 full = (n - 1) * st + (w - 1) * d + 1 + extra;
    if (full - s.before[size_t(i)] - s.after[size_t(i)] < 1 || extra < 0)
      throw Error("conv_transpose of ", x.describe(), ": the padding leaves nothing");
    in = Tensor(make(Op::UNWINDOW, in.dtype(), {in.expand(wider).uop()}, {axis, axis + 1, st, d, full}));
    ws.insert(ws.end(), {1, w});
    crop.push_back({s.before[size_t(i)], full - s.after[size_t(i)]});
  }
  Tensor w = wide(weight.to(t)).reshape(ws).transpose(2, 3);  // 1 G O/G C/G, then 1, k
  Shape axes = {3};
  for (i64 i = 0; i < k; i++) axes.push_back(5 + 2 * i);
  Tensor y = reduce(in * w, Op::ADD, axes, false).flatten(1, 2);
  crop.insert(crop.begin(), {{0, y.size(0)}, {0, y.size(1)}});
  return add_channels(y.shrink(crop).to(t), bias, k);
}
namespace {
// x's windows over the last axes, padded with `value`; ceil_mode adds what a last window that starts inside needs.
Tensor pool_windows(const Tensor& x, const Ints& window, const PoolOptions& o, Operand value) {
  i64 k = i64(window.size());
  if (k < 1 || x.dim() < k) throw Error("a pool of window ", window.vec(), " over ", x.describe());
  Spatial s = spatial("pool", k, o.stride.empty() ? window : o.stride, o.padding, o.dilation);
  for (i64 i = 0; o.ceil_mode && i < k; i++) {
    size_t j = size_t(i);
    i64 n = x.size(x.dim() - k + i), reach = s.dilation[j] * (window[j] - 1) + 1,
        room = n + s.before[j] + s.after[j] - reach;
    i64 extra = (s.stride[j] - room % s.stride[j]) % s.stride[j], start = room + extra;
    if (room >= 0 && start < n + s.before[j]) s.after[j] += extra;
  }
  return pad_spatial(x, s, value).windows(window, s.stride, s.dilation);
}
Ints window_of(const Ints& window) { return window.size() == 1 ? Ints({window[0], window[0]}) : window; }
}  // namespace
Tensor max_pool2d(const Tensor& x, Ints window, const PoolOptions& o, At at) {
  Here here(at);
  Ints w = window_of(window);
  Operand lowest = x.is_float() ? Operand(-infinity) : Operand(i64(1) << 63 >> (64 - x.dtype().bits()));
  Tensor t = pool_windows(x, w, o, x.dtype().is_unsigned() ? Operand(0) : lowest);
  return t.amax(axes_from(t.dim() - i64(w.size()), t.dim()));
}
Tensor avg_pool2d(const Tensor& x, Ints window, const PoolOptions& o, At at) {
  Here here(at);
  expect_float("avg_pool2d", x);
  Ints w = window_of(window);
  Tensor t = pool_windows(x, w, o, 0);
  Shape axes = axes_from(t.dim() - i64(w.size()), t.dim());
  bool padded = std::ranges::any_of(o.padding, [](i64 p) { return p != 0; });
  if (!o.ceil_mode && (o.count_include_pad || !padded)) return t.mean(axes);
  // Only what is inside counts: x, or x and its padding but not what ceil_mode added.
  PoolOptions inner = o;
  Tensor inside = ones(x.shape().last(w.size()), wide(x).dtype());
  if (o.count_include_pad) {
    inside = pad_spatial(inside, spatial("pool", i64(w.size()), 1, o.padding, 1), 1);
    inner.padding = 0;
  }
  if (o.count_include_pad) {
    Spatial s = spatial("pool", i64(w.size()), o.stride.empty() ? w : o.stride, 0, o.dilation);
    for (size_t i = 0; i < w.size(); i++) {
      i64 need = (t.size(t.dim() - 2 * i64(w.size()) + i64(i)) - 1) * s.stride[i] + s.dilation[i] * (w[i] - 1) + 1;
      s.after[i] = std::max<i64>(0, need - inside.size(i64(i)));
    }
    inside = pad_spatial(inside, s, 0).windows(w, s.stride, s.dilation);
  } else {
    inside = pool_windows(inside, w, inner, 0);
  }
  return (wide(t).sum(axes) / inside.sum(axes_from(inside.dim() - i64(w.size()), inside.dim()))).to(x.dtype());
}

// ---- normalisations, attention, losses
Tensor batch_norm(const Tensor& x, const Tensor& mean, const Tensor& var, const Tensor& weight, const Tensor& bias,
                  double eps, At at) {
  Here here(at);
  if (x.dim() < 2) throw Error("batch_norm of ", x.describe(), ": expected (N, C, …)");
  Shape s(size_t(x.dim() - 1), 1);
  s[0] = x.size(1);
  auto channel = [&](const char* what, const Tensor& t) {
    if (t.numel() != x.size(1))
      throw Error("batch_norm of ", x.describe(), " with ", what, ' ', t.describe(), ": expected (", x.size(1), ")");
    return t.reshape(s);
  };
  Tensor scale = (channel("variance", var) + eps).rsqrt();
  if (weight.defined()) scale = scale * channel("weight", weight);
  Tensor y = (x - channel("mean", mean)) * scale;
  return bias.defined() ? y + channel("bias", bias) : y;
}
namespace {
Tensor normalise(const Tensor& x, const Ints& axes, double eps) {
  auto [var, mean] = wide(x).var_mean(axes, 0, true);
  return ((wide(x) - mean) * (var + eps).rsqrt()).to(x.dtype());
}
Tensor affine(const Tensor& y, const Tensor& weight, const Tensor& bias) {
  Tensor t = weight.defined() ? y * weight : y;
  return bias.defined() ? t + bias : t;
}
}  // namespace
Tensor layer_norm(const Tensor& x, Ints shape, const Tensor& weight, const Tensor& bias, double eps, At at) {
  Here here(at);
  i64 k = i64(shape.size());
  if (k > x.dim() || !std::ranges::equal(x.shape().last(size_t(k)), shape))
    throw Error("layer_norm of ", x.describe(), " over ", shape.vec(), ": must be the last axes");
  return affine(normalise(x, axes_from(x.dim() - k, x.dim()), eps), weight, bias);
}
Tensor group_norm(const Tensor& x, i64 groups, const Tensor& weight, const Tensor& bias, double eps, At at) {
  Here here(at);
  if (x.dim() < 2 || groups < 1 || x.size(1) % groups)
    throw Error("group_norm of ", x.describe(), " in ", groups, " groups: expected (N, C, …), C divisible");
  Tensor t = x.unflatten(1, {groups, x.size(1) / groups});
  Shape s(size_t(x.dim() - 1), 1);
  s[0] = x.size(1);
  auto channel = [&](const Tensor& c) { return c.defined() ? c.reshape(s) : c; };
  return affine(normalise(t, axes_from(2, t.dim()), eps).reshape(x.shape()), channel(weight), channel(bias));
}
Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps, At at) {
  Here here(at);
  expect_float("rms_norm", x);
  Tensor y = wide(x) * (wide(x).square().mean(-1, true) + eps).rsqrt();
  return affine(y.to(x.dtype()), weight, {});
}
Tensor scaled_dot_product_attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask,
                                    bool is_causal, double dropout_p, At at) {
  Here here(at);
  if (q.dim() < 2 || k.dim() < 2 || v.dim() < 2 || q.size(-1) != k.size(-1) || k.size(-2) != v.size(-2))
    throw Error("attention of q ", q.describe(), ", k ", k.describe(), ", v ", v.describe(),
                ": expected (…, L, E), (…, S, E), (…, S, EV)");
  Tensor scores = wide(q).matmul(wide(k).T()) * (1 / std::sqrt(double(q.size(-1))));
  if (is_causal) scores = scores.masked_fill(ones({q.size(-2), k.size(-2)}, BOOL).tril().logical_not(), -infinity);
  if (mask.defined())
    scores = mask.dtype().is_bool() ? scores.masked_fill(mask.logical_not(), -infinity) : scores + mask;
  return dropout(scores.softmax(-1), dropout_p, dropout_p > 0).matmul(wide(v)).to(q.dtype());
}
Tensor embedding(const Tensor& index, const Tensor& weight, At at) {
  Here here(at);
  if (weight.dim() != 2 || !index.dtype().is_int())
    throw Error("embedding of ", index.describe(), " in ", weight.describe(),
                ": expected integers and (classes, width)");
  Shape s(index.shape().begin(), index.shape().end());
  s.push_back(weight.size(1));
  return weight.index_select(0, index.flatten()).reshape(s);
}
namespace {
// Axis 1 of x against class numbers: true at the target's class. A class out of range is nowhere true.
Tensor at_class(const char* what, const Tensor& x, const Tensor& target) {
  bool fits = x.dim() == target.dim() + 1 && target.dtype().is_int() && x.dim() >= 1;
  i64 axis = x.dim() > 1 ? 1 : 0;
  for (i64 i = 0; fits && i < target.dim(); i++) fits = target.size(i) == x.size(i + (i >= axis));
  if (!fits)
    throw Error(what, " of ", x.describe(), " and target ", target.describe(),
                ": expected (N, C, …) and integers (N, …)");
  return target.unsqueeze(axis) == Tensor(lazy::iota(x.size(axis), int(axis), int(x.dim()))).to(target.dtype());
}
Tensor class_loss(const Tensor& loss, const Tensor& target, const LossOptions& o) {  // loss: one per target
  if (!o.ignore_index) return apply(o.reduction, loss);
  Tensor counts = target != *o.ignore_index, kept = where(counts, loss, 0);
  return o.reduction == Reduction::MEAN ? kept.sum() / counts.to(loss.dtype()).sum() : apply(o.reduction, kept);
}
}  // namespace
Tensor nll_loss(const Tensor& logp, const Tensor& target, const LossOptions& o, At at) {
  Here here(at);
  Tensor hit = at_class("nll_loss", logp, target);
  return class_loss(-sum_like(where(hit, logp, 0), logp.dim() > 1 ? 1 : 0, false), target, o);
}
Tensor cross_entropy(const Tensor& logits, const Tensor& target, const LossOptions& o, At at) {
  Here here(at);
  i64 axis = logits.dim() > 1 ? 1 : 0;
  Tensor logp = logits.log_softmax(axis);
  double smooth = o.label_smoothing / double(logits.dim() ? logits.size(axis) : 1);
  if (target.is_float()) {
    if (!std::ranges::equal(target.shape(), logits.shape()))
      throw Error("cross_entropy of ", logits.describe(), " and probabilities ", target.describe(),
                  ": shapes must be equal");
    Tensor loss = -sum_like(logp * (target * (1 - o.label_smoothing) + smooth), axis, false);
    i64 n = std::max<i64>(loss.numel(), 1);
    return o.reduction == Reduction::MEAN ? loss.sum() / double(n) : apply(o.reduction, loss);
  }
  Tensor hit = at_class("cross_entropy", logits, target);
  Tensor p = o.label_smoothing ? logp * where(hit, 1 - o.label_smoothing + smooth, smooth) : where(hit, logp, 0);
  return class_loss(-sum_like(p, axis, false), target, o);
}
Tensor mse_loss(const Tensor& a, const Tensor& b, Reduction r, At at) {
  Here here(at);
  return apply(r, (a - b).square());
}
Tensor l1_loss(const Tensor& a, const Tensor& b, Reduction r, At at) {
  Here here(at);
  return apply(r, (a - b).abs());
}
Tensor binary_cross_entropy(const Tensor& p, const Tensor& target, Reduction r, At at) {
  Here here(at);  // torch bounds the logarithms at -100
  return apply(r, -(target * p.log().maximum(-100) + (1 - target) * (-p).log1p().maximum(-100)));
}
Tensor binary_cross_entropy_with_logits(const Tensor& x, const Tensor& target, Reduction r, At at) {
  Here here(at);
  return apply(r, x.relu() - x * target + (-x.abs()).exp().log1p());
}

}  // namespace ingot
