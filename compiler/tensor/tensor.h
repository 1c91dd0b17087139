// SPDX-License-Identifier: MIT
// Tensors, with torch's names. A Tensor is a handle: copies of it are the same tensor, as in torch. Methods build UOps
// and compute nothing; realize(), item(), to_vector() and printing bring values into memory.
//
//   Tensor w = randn({64, 784}).requires_grad_(), x = rand({8, 784});
//   Tensor loss = (x.matmul(w.T()) - 1).square().mean();
//   loss.backward();  // fills w.grad(); gradients are graphs too, so it works to any order
//
// Values, not views: t[{0}] and t.reshape(…) are new values; writing to t later does not change them, nor the reverse.
// Writing is assign(), slice_assign() and the compound operators.
// Numbers are weakly typed: half + 1.5 is half, an integer tensor + 1.5 is F32, a bool + 1 is I64. Two tensors promote
// by JAX's lattice (dtype.cc). Sums and products of narrow floats accumulate in F32 and round once; sums of bools and
// integers are I64. Every public method remembers its caller's line, and kernels are named by it. Errors say shapes,
// dtypes and the rule broken.
#pragma once
#include <algorithm>
#include <map>
#include <memory>
#include <source_location>
#include <utility>
#include "compiler/runtime/runtime.h"

namespace ingot {

class Tensor;
using At = std::source_location;
using Shape = std::vector<i64>;

class Ints {  // a shape, a list of axes, sizes: 3, {2, 3}, a Shape. Holds up to 32 of them
 public:
  Ints() = default;
  Ints(i64 one) : Ints({one}) {}
  Ints(int one) : Ints({i64(one)}) {}
  Ints(std::initializer_list<i64> list) : Ints(std::span(list.begin(), list.size())) {}
  Ints(const Shape& list) : Ints(std::span(list)) {}
  Ints(std::span<const i64> list) : size_(list.size()) {
    if (size_ > 32) throw Error("a list of ", size_, " axes; at most 32 are supported");
    std::copy(list.begin(), list.end(), data_);
  }
  size_t size() const { return size_; }
  bool empty() const { return !size_; }
  const i64* begin() const { return data_; }
  const i64* end() const { return data_ + size_; }
  i64 operator[](size_t i) const { return data_[i]; }
  Shape vec() const { return {begin(), end()}; }

 private:
  size_t size_ = 0;
  i64 data_[32];
};

class Operand {  // a Tensor or a weakly typed number, with the line that wrote it
 public:
  Operand(const Tensor& tensor, At at = At::current()) : tensor(&tensor), at(at) {}
  template <class T>
  requires std::is_arithmetic_v<T> Operand(T number, At at = At::current()) : at(at) {
    if constexpr (std::is_floating_point_v<T>)
      weak = F32, real = double(number);
    else
      weak = std::is_same_v<T, bool> ? BOOL : I64, integer = i64(number);
  }
  Tensor as(DType dtype) const;  // converted; a number becomes a constant of shape ()

  const Tensor* tensor = nullptr;
  DType weak;  // of a number: BOOL, I64 or F32
  i64 integer = 0;
  double real = 0;
  At at;
};

struct Slice {  // begin, end and step as in Python; negative begin and end count from the end; step may be negative
  std::optional<i64> begin = {}, end = {};
  i64 step = 1;
};
enum class NoneType { NONE };
enum class EllipsisType { ELLIPSIS };
inline constexpr NoneType None = NoneType::NONE;
inline constexpr EllipsisType Ellipsis = EllipsisType::ELLIPSIS;
struct Index {  // one item between the brackets of t[{…}]
  enum Kind : u8 { INTEGER, SLICE, NONE, ELLIPSIS, TENSOR } kind;
  i64 integer = 0;
  Slice slice;
  const Tensor* tensor = nullptr;  // of integers: selects along its axis (one such item at most)
  Index(int i) : kind(INTEGER), integer(i) {}
  Index(i64 i) : kind(INTEGER), integer(i) {}
  Index(Slice s) : kind(SLICE), slice(s) {}
  Index(NoneType) : kind(NONE) {}
  Index(EllipsisType) : kind(ELLIPSIS) {}
  Index(const Tensor& t) : kind(TENSOR), tensor(&t) {}
};

template <class T>
constexpr DType dtype_of() {
  if constexpr (std::is_same_v<T, bool>)
    return BOOL;
  else if constexpr (std::is_same_v<T, float>)
    return F32;
  else if constexpr (std::is_same_v<T, double>)
    return F64;
  else if constexpr (sizeof(T) == 1)
    return std::is_signed_v<T> ? I8 : U8;
  else if constexpr (sizeof(T) == 2)
    return std::is_signed_v<T> ? I16 : U16;
  else if constexpr (sizeof(T) == 4)
    return std::is_signed_v<T> ? I32 : U32;
  else
    return std::is_signed_v<T> ? I64 : U64;
}

struct TensorState;  // tensor.cc

// ---- movement.cc: the movement ops on UOps, for what is below the Tensor; a movement that changes nothing adds no
// node
namespace lazy {
U reshape(U u, std::span<const i64> shape);
U expand(U u,
         std::span<const i64> shape);  // adds axes in front, repeats axes of size 1; a shape that does not fit is a bug
U permute(U u, std::span<const i64> order);
U pad(U u, std::span<const i64> before_after);  // two for each axis
U shrink(U u, std::span<const i64> begin_end);
U flip(U u, std::span<const i64> flags);
U reduce(U u, Op op, std::span<const i64> axes);  // keeps the axes with size 1
U iota(i64 n, int axis, int ndim);                // I32 0 … n-1 along one axis of ndim
}  // namespace lazy

class Tensor {
 public:
  Tensor() = default;  // undefined: no value, as an absent bias
  explicit Tensor(U uop);
  Tensor(const Tensor& o);
  Tensor(Tensor&& o) noexcept : state_(std::exchange(o.state_, nullptr)) {}
  Tensor& operator=(Tensor o) noexcept { return std::swap(state_, o.state_), *this; }
  ~Tensor();
  bool defined() const { return state_; }
  explicit operator bool() const = delete;

  // ---- tensor.cc: what it is
  U uop() const;  // its graph; Error if undefined
  DType dtype() const { return uop()->dtype; }
  std::span<const i64> shape() const { return uop()->shape(); }
  i64 size(i64 axis) const { return shape()[size_t(axis_of(axis))]; }
  i64 dim() const { return uop()->ndim; }
  i64 numel() const { return uop()->elements(); }
  bool is_float() const { return dtype().is_float(); }
  i64 nbytes() const { return numel() * dtype().bytes(); }
  std::string device() const;
  bool same(const Tensor& o) const { return state_ == o.state_; }  // the same tensor, not equal values

  // ---- tensor.cc: bring into memory
  const Tensor& realize() const;
  bool is_realized() const;  // a BUFFER, or a reshape of one
  template <class T = double>
  T item() const {
    return (expect_one(), to_vector<T>()[0]);
  }
  template <class T>
  std::vector<T> to_vector() const {  // row-major, converted to T
    if constexpr (std::is_same_v<T, bool>) {
      std::vector<u8> bytes = to_vector<u8>();
      return {bytes.begin(), bytes.end()};
    } else {
      std::vector<T> out(static_cast<size_t>(numel()));
      read(out.data(), dtype_of<T>());
      return out;
    }
  }
  void read(void* to, DType as) const;  // row-major bytes of the values converted to `as`

  // ---- tensor.cc: convert, mark, write
  Tensor to(DType dtype) const;
  Tensor to(std::string_view device) const;
  Tensor cast(DType dtype) const { return to(dtype); }
  Tensor floating() const { return is_float() ? *this : to(F32); }
  Tensor bitcast(DType dtype) const;  // torch's view(dtype); sizes must be equal
  Tensor contiguous() const;          // stored in memory when computed
  Tensor detach() const;
  Tensor clone() const { return Tensor(make(Op::CONTIGUOUS, dtype(), {lazy::expand(uop(), shape())})); }
  Tensor& requires_grad_(bool on = true);
  bool requires_grad() const;
  Tensor grad() const;  // undefined before backward()
  void set_grad(const Tensor& g);
  void zero_grad() { set_grad({}); }
  // Writes `value` (broadcast and converted) into this tensor's memory; *this afterwards has the new value. A tensor
  // that is not in memory takes the value instead.
  Tensor& assign(Operand value);
  Tensor& copy_(Operand value) { return assign(value); }
  Tensor& slice_assign(std::initializer_list<Index> where, Operand value);  // steps must be 1
  Tensor& zero_() { return assign(0); }
  Tensor& fill_(Operand value) { return assign(value); }
  Tensor& operator+=(Operand o);
  Tensor& operator-=(Operand o);
  Tensor& operator*=(Operand o);
  Tensor& operator/=(Operand o);

  // ---- movement.cc. An axis may be negative; Error if out of range
  Tensor reshape(Ints shape) const;  // one size may be -1
  Tensor view(Ints shape) const { return reshape(shape); }
  Tensor expand(Ints shape) const;  // -1 keeps a size
  Tensor broadcast_to(Ints shape) const { return expand(shape); }
  Tensor expand_as(const Tensor& o) const { return expand(o.shape()); }
  Tensor permute(Ints order) const;
  Tensor transpose(i64 a = -2, i64 b = -1) const;
  Tensor T() const { return transpose(); }
  Tensor movedim(i64 from, i64 to) const;
  Tensor shrink(std::span<const std::pair<i64, i64>> begin_end) const;
  // before_after as in torch: pairs for the last axis first. Modes: constant, reflect, replicate, circular.
  Tensor pad(Ints before_after, Operand value = 0, std::string_view mode = "constant") const;
  Tensor flip(Ints axes) const;
  Tensor squeeze(std::optional<i64> axis = {}) const;
  Tensor unsqueeze(i64 axis) const;
  Tensor flatten(i64 begin = 0, i64 end = -1) const;
  Tensor unflatten(i64 axis, Ints sizes) const;
  std::vector<Tensor> split(Ints sizes, i64 axis = 0) const;  // one size: pieces of that size, the last may be smaller
  std::vector<Tensor> chunk(i64 pieces, i64 axis = 0) const;
  std::vector<Tensor> unbind(i64 axis = 0) const;
  Tensor repeat(Ints times) const;
  Tensor repeat_interleave(i64 times, i64 axis) const;
  Tensor roll(Ints shifts, Ints axes) const;
  Tensor tril(i64 diagonal = 0) const;
  Tensor triu(i64 diagonal = 0) const;
  Tensor diagonal() const;  // of the last two axes
  Tensor narrow(i64 axis, i64 begin, i64 length) const;
  Tensor select(i64 axis, i64 index) const;
  Tensor operator[](std::initializer_list<Index> items) const { return index({items.begin(), items.size()}); }
  Tensor operator[](Index item) const { return index({&item, 1}); }
  Tensor index(std::span<const Index> items) const;
  Tensor gather(i64 axis, const Tensor& index) const;  // zero where the index is out of range
  Tensor index_select(i64 axis, const Tensor& index) const;
  Tensor take_along_dim(const Tensor& index, i64 axis) const { return gather(axis, index); }
  Tensor scatter(i64 axis, const Tensor& index, Operand value) const;  // duplicates: the last one wins
  Tensor scatter_add(i64 axis, const Tensor& index, const Tensor& value) const;
  Tensor one_hot(i64 classes, At at = At::current()) const;  // I64
  // out[.., o, .., k, ..] = in[.., o * stride + k * dilation, .., k, ..]: the op WINDOW. n: how many o
  Tensor window(i64 axis, i64 window_axis, i64 stride, i64 dilation, i64 n) const;
  // Sliding windows over the last sizes.size() axes: (.., H, W) to (.., OH, OW, KH, KW)
  Tensor windows(Ints sizes, Ints strides, Ints dilations) const;

  // ---- math.cc: elementwise, from elementwise.def
#define UNARY(name, low, high, value, what) Tensor name(At at = At::current()) const;
#define BINARY(name, value, what) Tensor name(Operand other) const;
#include "compiler/tensor/elementwise.def"
#undef UNARY
#undef BINARY
  Tensor div(Operand other, std::string_view rounding_mode) const;  // "floor" or "trunc"
  Tensor pow(Operand exponent) const;
  Tensor clamp(std::optional<Operand> low, std::optional<Operand> high, At at = At::current()) const;
  Tensor clip(std::optional<Operand> low, std::optional<Operand> high, At at = At::current()) const;
  Tensor clamp_min(Operand low) const { return maximum(low); }
  Tensor clamp_max(Operand high) const { return minimum(high); }
  Tensor leaky_relu(double negative_slope = 0.01, At at = At::current()) const;
  Tensor elu(double alpha = 1, At at = At::current()) const;
  Tensor softplus(double beta = 1, At at = At::current()) const;
  Tensor gelu(std::string_view approximate = "none", At at = At::current()) const;  // or "tanh"
  Tensor lerp(const Tensor& end, Operand weight) const;
  Tensor masked_fill(const Tensor& mask, Operand value) const;
  Tensor alu(Op op) const;                       // one UOp; the sources must have the op's dtypes already
  Tensor alu(Op op, const Tensor& other) const;  // broadcasts
  friend Tensor operator+(Operand a, Operand b);
  friend Tensor operator-(Operand a, Operand b);
  friend Tensor operator*(Operand a, Operand b);
  friend Tensor operator/(Operand a, Operand b);  // true quotient
  friend Tensor operator%(Operand a, Operand b);  // remainder()
  friend Tensor operator<(Operand a, Operand b);
  friend Tensor operator>(Operand a, Operand b);
  friend Tensor operator<=(Operand a, Operand b);
  friend Tensor operator>=(Operand a, Operand b);
  friend Tensor operator==(Operand a, Operand b);
  friend Tensor operator!=(Operand a, Operand b);
  friend Tensor operator&(Operand a, Operand b);
  friend Tensor operator|(Operand a, Operand b);
  friend Tensor operator^(Operand a, Operand b);
  friend Tensor operator<<(Operand a, Operand b);
  friend Tensor operator>>(Operand a, Operand b);
  Tensor operator-() const { return neg(); }
  Tensor operator~() const { return bitwise_not(); }
  Tensor operator!() const { return logical_not(); }

  // ---- math.cc: reductions. No axes: all of them
  Tensor sum(Ints axes = {}, bool keepdim = false, At at = At::current()) const;
  Tensor prod(Ints axes = {}, bool keepdim = false, At at = At::current()) const;
  Tensor mean(Ints axes = {}, bool keepdim = false, At at = At::current()) const;
  Tensor amax(Ints axes = {}, bool keepdim = false, At at = At::current()) const;  // the gradient is shared among ties
  Tensor amin(Ints axes = {}, bool keepdim = false, At at = At::current()) const;
  Tensor max(Ints axes = {}, bool keepdim = false, At at = At::current()) const { return amax(axes, keepdim, at); }
  Tensor min(Ints axes = {}, bool keepdim = false, At at = At::current()) const { return amin(axes, keepdim, at); }
  Tensor any(Ints axes = {}, bool keepdim = false, At at = At::current()) const;
  Tensor all(Ints axes = {}, bool keepdim = false, At at = At::current()) const;
  Tensor var(Ints axes = {}, i64 correction = 1, bool keepdim = false, At at = At::current()) const;
  Tensor std(Ints axes = {}, i64 correction = 1, bool keepdim = false, At at = At::current()) const;
  std::pair<Tensor, Tensor> var_mean(Ints axes = {}, i64 correction = 1, bool keepdim = false,
                                     At at = At::current()) const;
  Tensor norm(Ints axes = {}, bool keepdim = false, At at = At::current()) const;  // Euclidean
  Tensor argmax(std::optional<i64> axis = {}, bool keepdim = false,
                At at = At::current()) const;  // I64; the first of ties
  Tensor argmin(std::optional<i64> axis = {}, bool keepdim = false, At at = At::current()) const;
  Tensor logsumexp(Ints axes, bool keepdim = false, At at = At::current()) const;
  Tensor softmax(i64 axis = -1, At at = At::current()) const;
  Tensor log_softmax(i64 axis = -1, At at = At::current()) const;
  Tensor cumsum(i64 axis, At at = At::current()) const;
  Tensor cumprod(i64 axis, At at = At::current()) const;
  Tensor sort(i64 axis, bool descending, At at) const = delete;  // a later issue

  // ---- math.cc: products
  Tensor matmul(const Tensor& o, At at = At::current()) const;  // torch's rules for 1, 2 and more axes
  Tensor dot(const Tensor& o, At at = At::current()) const { return matmul(o, at); }
  Tensor mm(const Tensor& o, At at = At::current()) const { return matmul(o, at); }
  Tensor bmm(const Tensor& o, At at = At::current()) const { return matmul(o, at); }

  // ---- grad.cc
  // Adds d this / d leaf, times `upstream` (ones for a scalar), to the grad() of every live tensor with requires_grad()
  // that this one was computed from. Call it before this tensor is realised: a realised tensor has no history.
  void backward(At at = At::current()) const;
  void backward(const Tensor& upstream, At at = At::current()) const;

  i64 axis_of(i64 axis) const;   // 0 <= result < dim(); Error
  std::string describe() const;  // "f32 (2, 3)"

 private:
  friend struct TensorState;
  friend void realize(std::span<const Tensor>);
  void expect_one() const;
  TensorState* state_ = nullptr;
};
struct Here {  // nodes made in this block are named by the line of the outermost Here
  explicit Here(const At& at);
  ~Here();
  const At* outer;
};
void append(std::string& out, const Tensor& t);  // values, at most 1,000 of them; realises
inline void append(std::string& out, const At& at) { out += str(at.file_name(), ':', at.line()); }

// ---- tensor.cc: creation. Values like zeros() are constants of the graph until something needs them in memory ------
template <class T>
Tensor from_data(std::span<const T> data, Ints shape);                                       // copies
Tensor from_bytes(const void* data, DType dtype, Ints shape, std::string_view device = "");  // copies
Tensor from_blob(const BufferRef& memory, DType dtype, Ints shape);                          // shares
template <class T>
Tensor from_data(std::span<const T> data, Ints shape) {
  i64 n = 1;
  for (i64 s : shape) n *= s;
  if (n != i64(data.size())) throw Error("from_data: ", data.size(), " values do not fill shape ", shape.vec());
  return from_bytes(data.data(), dtype_of<T>(), shape);
}
template <class T>
Tensor tensor(const std::vector<T>& data) {
  return from_data(std::span<const T>(data), {i64(data.size())});
}
template <class T>
requires std::is_arithmetic_v<T> Tensor tensor(std::initializer_list<T> data) {
  return from_data(std::span<const T>(data.begin(), data.size()), {i64(data.size())});
}
template <class T>
requires std::is_arithmetic_v<T> Tensor tensor(std::initializer_list<std::initializer_list<T>> rows) {
  size_t width = rows.size() ? rows.begin()->size() : 0, at = 0;
  auto all = std::make_unique<T[]>(rows.size() * width);  // a vector<bool> would have no memory to read
  for (const auto& r : rows) {
    if (r.size() != width) throw Error("tensor: rows of ", width, " and ", r.size(), " values");
    for (T v : r) all[at++] = v;
  }
  return from_data(std::span<const T>(all.get(), at), {i64(rows.size()), i64(width)});
}
template <class T>
requires std::is_arithmetic_v<T> Tensor tensor(T scalar) { return from_data(std::span<const T>(&scalar, 1), {}); }
Tensor empty(Ints shape, DType dtype = F32);  // memory with any values
Tensor full(Ints shape, Operand value, std::optional<DType> dtype = {});
Tensor zeros(Ints shape, DType dtype = F32);
Tensor ones(Ints shape, DType dtype = F32);
Tensor full_like(const Tensor& t, Operand value);
Tensor zeros_like(const Tensor& t);
Tensor ones_like(const Tensor& t);
Tensor empty_like(const Tensor& t);
Tensor eye(i64 n, i64 m = -1, DType dtype = F32);
Tensor arange(Operand end);  // torch's: I64 if every argument is an integer, else F32
Tensor arange(Operand begin, Operand end, Operand step = 1, std::optional<DType> dtype = {});
Tensor linspace(double begin, double end, i64 steps, DType dtype = F32);
void realize(std::span<const Tensor> tensors);  // together: one schedule
// The next realize() includes it: for what must not pile up unrealised step after step, as running statistics.
void realize_with_next(const Tensor& tensor);
template <class... More>
void realize(const Tensor& first, const More&... more) {
  const Tensor all[] = {first, more...};
  realize(std::span<const Tensor>(all));
}

// ---- movement.cc ---------------------------------------------------------------------------------------------------
Shape broadcast_shapes(std::span<const i64> a, std::span<const i64> b);  // Error names both
Tensor cat(std::span<const Tensor> tensors, i64 axis = 0);
Tensor stack(std::span<const Tensor> tensors, i64 axis = 0);
inline Tensor cat(std::initializer_list<Tensor> t, i64 axis = 0) { return cat(std::span(t.begin(), t.size()), axis); }
inline Tensor stack(std::initializer_list<Tensor> t, i64 axis = 0) {
  return stack(std::span(t.begin(), t.size()), axis);
}

// ---- math.cc -------------------------------------------------------------------------------------------------------
DType promote(const Operand& a, const Operand& b);
Tensor where(const Tensor& condition, Operand a, Operand b);
inline Tensor maximum(const Tensor& a, Operand b) { return a.maximum(b); }
inline Tensor minimum(const Tensor& a, Operand b) { return a.minimum(b); }
Tensor einsum(std::string_view formula, std::span<const Tensor> operands, At at = At::current());  // "bij,bjk->bik"
inline Tensor einsum(std::string_view formula, std::initializer_list<Tensor> operands, At at = At::current()) {
  return einsum(formula, std::span(operands.begin(), operands.size()), at);
}
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias = {}, At at = At::current());  // x W^T + b
// Spatial options: one value for every axis, or one per axis. Padding also {before, after, before, after …} in order of
// the axes.
struct ConvOptions {
  Ints stride = 1, padding = 0, dilation = 1;
  i64 groups = 1;
  Ints output_padding = 0;  // conv_transpose2d only
};
struct PoolOptions {
  Ints stride = {};  // empty: the window size
  Ints padding = 0, dilation = 1;
  bool ceil_mode = false, count_include_pad = true;
};
// x (N, C, spatial…), weight (O, C / groups, window…): any number of spatial axes.
Tensor conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias = {}, const ConvOptions& o = {},
              At at = At::current());
inline Tensor conv1d(const Tensor& x, const Tensor& weight, const Tensor& bias = {}, const ConvOptions& o = {},
                     At at = At::current()) {
  return conv2d(x, weight, bias, o, at);
}
// x (N, C, spatial…), weight (C, O / groups, window…)
Tensor conv_transpose2d(const Tensor& x, const Tensor& weight, const Tensor& bias = {}, const ConvOptions& o = {},
                        At at = At::current());
Tensor max_pool2d(const Tensor& x, Ints window, const PoolOptions& o = {}, At at = At::current());
Tensor avg_pool2d(const Tensor& x, Ints window, const PoolOptions& o = {}, At at = At::current());
Tensor batch_norm(const Tensor& x, const Tensor& mean, const Tensor& var, const Tensor& weight = {},
                  const Tensor& bias = {}, double eps = 1e-5,
                  At at = At::current());  // with given statistics, per channel (axis 1)
Tensor layer_norm(const Tensor& x, Ints normalized_shape, const Tensor& weight = {}, const Tensor& bias = {},
                  double eps = 1e-5, At at = At::current());
Tensor group_norm(const Tensor& x, i64 groups, const Tensor& weight = {}, const Tensor& bias = {}, double eps = 1e-5,
                  At at = At::current());
Tensor rms_norm(const Tensor& x, const Tensor& weight = {}, double eps = 1e-6,
                At at = At::current());  // over the last axis
// q (.., L, E), k (.., S, E), v (.., S, EV); mask: bool (true takes part) or added to the scores
Tensor scaled_dot_product_attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask = {},
                                    bool is_causal = false, double dropout_p = 0, At at = At::current());
Tensor embedding(const Tensor& index, const Tensor& weight, At at = At::current());
enum class Reduction : u8 { NONE, MEAN, SUM };
struct LossOptions {
  Reduction reduction = Reduction::MEAN;
  double label_smoothing = 0;
  std::optional<i64> ignore_index = {};  // class numbers that do not count; unlike torch, none by default
};
// logits (N, C, …); target: class numbers (N, …), or probabilities with the shape of logits
Tensor cross_entropy(const Tensor& logits, const Tensor& target, const LossOptions& o = {}, At at = At::current());
Tensor nll_loss(const Tensor& log_probabilities, const Tensor& target, const LossOptions& o = {},
                At at = At::current());
Tensor mse_loss(const Tensor& a, const Tensor& b, Reduction reduction = Reduction::MEAN, At at = At::current());
Tensor l1_loss(const Tensor& a, const Tensor& b, Reduction reduction = Reduction::MEAN, At at = At::current());
Tensor binary_cross_entropy(const Tensor& p, const Tensor& target, Reduction r = Reduction::MEAN,
                            At at = At::current());
Tensor binary_cross_entropy_with_logits(const Tensor& logits, const Tensor& target, Reduction r = Reduction::MEAN,
                                        At at = At::current());

// ---- grad.cc -------------------------------------------------------------------------------------------------------
// d value / d target for each target, times `upstream` (ones for a scalar); zeros for a target that value does not
// depend on.
std::vector<Tensor> gradient(const Tensor& value, std::span<const Tensor> targets, const Tensor& upstream = {},
                             At at = At::current());
inline std::vector<Tensor> gradient(const Tensor& value, std::initializer_list<Tensor> targets,
                                    const Tensor& upstream = {}, At at = At::current()) {
  return gradient(value, std::span(targets.begin(), targets.size()), upstream, at);
}

// ---- random.cc: Threefry-2x32, 20 rounds, counter based. Same seed, same values on every device --------------------
// The state, U64 {seed, counter}, is a buffer that realize() advances on the device, so a
// captured step draws fresh numbers at each replay. Save it with a checkpoint.
void manual_seed(u64 seed);
Tensor random_state();
void set_random_state(const Tensor& state);
std::pair<Tensor, Tensor> threefry2x32(const Tensor& key0, const Tensor& key1, const Tensor& count0,
                                       const Tensor& count1);       // U32
Tensor rand(Ints shape, DType dtype = F32, At at = At::current());  // [0, 1)
Tensor randn(Ints shape, DType dtype = F32, At at = At::current());
Tensor randint(i64 low, i64 high, Ints shape, DType dtype = I64, At at = At::current());  // low <= value < high
Tensor uniform(Ints shape, double low, double high, DType dtype = F32, At at = At::current());
Tensor normal(Ints shape, double mean, double std, DType dtype = F32, At at = At::current());
Tensor kaiming_uniform(Ints shape, double a = 2.23606797749979,
                       At at = At::current());  // torch's default for layers: a = sqrt(5)
Tensor xavier_uniform(Ints shape, double gain = 1, At at = At::current());
Tensor randperm(i64 n, At at = At::current());             // I64; computed on the host from the same generator
Tensor bernoulli(const Tensor& p, At at = At::current());  // 1 with probability p, in p's dtype
Tensor dropout(const Tensor& x, double p = 0.5, bool training = true, At at = At::current());

// ---- io.cc: safetensors --------------------------------------------------------------------------------------------
struct TensorFile {
  std::map<std::string, Tensor> tensors;
  std::map<std::string, std::string> metadata;
};
void save_safetensors(const std::string& path, const std::map<std::string, Tensor>& tensors,
                      const std::map<std::string, std::string>& metadata = {});
TensorFile load_safetensors(const std::string& path);                            // Error names what is malformed
TensorFile parse_safetensors(std::span<const u8> bytes, std::string_view name);  // never reads past the span

// ---- capture.cc: captured steps ------------------------------------------------------------------------------------
// Captured step([&](std::span<const Tensor> in) { …; return std::vector{loss}; });  step({x, y})[0].item();
// A call runs the step and records its launches; later calls launch the list with the new inputs and do not run the
// step's code. If state is still made in the first call, the second one records (runtime.h states the rules). Inputs
// must be realised and keep their shapes and dtypes. Outputs are overwritten by the next call: clone() what must stay.
// capture.h has the same for functions of named tensors.
class Captured {
 public:
  explicit Captured(std::function<std::vector<Tensor>(std::span<const Tensor>)> step) : step_(std::move(step)) {}
  const std::vector<Tensor>& operator()(std::span<const Tensor> inputs);
  const std::vector<Tensor>& operator()(std::initializer_list<Tensor> inputs) {
    return (*this)(std::span(inputs.begin(), inputs.size()));
  }
  bool ready() const { return recording_.ready(); }  // the next call replays
  size_t kernels() const { return recording_.kernels(); }

 private:
  std::function<std::vector<Tensor>(std::span<const Tensor>)> step_;
  Recording recording_;
  std::vector<Tensor> outputs_;
};

// ---- for the files of this folder ----------------------------------------------------------------------------------
struct TensorState {  // what the handles of a tensor share
  Pin uop;
  Tensor grad = {};
  int count = 1;
  bool requires_grad = false;
  TensorState *next = nullptr, *previous = nullptr;  // among this thread's states with requires_grad

  static thread_local TensorState* first_leaf;
  static TensorState& of(const Tensor& t) { return *t.state_; }
  void link() {
    if ((next = first_leaf)) next->previous = this;
    first_leaf = this, previous = nullptr;
  }
  void unlink() {
    if (next) next->previous = previous;
    (previous ? previous->next : first_leaf) = next;
  }
};

// random.cc: the random state with the ASSIGN that skips the numbers drawn since the last call; nullptr if none were.
TensorState* advance_random();

}  // namespace ingot
