// SPDX-License-Identifier: MIT
// Shapes: everything that moves elements without computing. Six ops on UOps (namespace lazy) carry all of it; the
// methods check what the user wrote and are sequences of them. A movement that changes nothing adds no node, RESHAPE of
// RESHAPE and PERMUTE of PERMUTE are one, so graphs stay small and equal graphs stay equal. Strided slices are pad,
// reshape and shrink; sliding windows are EXPAND of a new axis and the op WINDOW, whose adjoint is the op UNWINDOW: no
// gradient needs a division.
#include <numeric>
#include "compiler/tensor/tensor.h"

namespace ingot {
namespace lazy {

U reshape(U u, std::span<const i64> shape) {
  if (std::ranges::equal(u->shape(), shape)) return u;
  while (u->op == Op::RESHAPE) u = u->src(0);
  return std::ranges::equal(u->shape(), shape) ? u : make(Op::RESHAPE, u->dtype, std::span(&u, 1), shape);
}
U expand(U u, std::span<const i64> shape) {
  if (std::ranges::equal(u->shape(), shape)) return u;
  Shape ones(shape.size() - u->ndim, 1);
  ones.insert(ones.end(), u->shape().begin(), u->shape().end());
  u = reshape(u, ones);
  if (std::ranges::equal(ones, shape)) return u;
  if (u->op == Op::EXPAND) u = u->src(0);
  return make(Op::EXPAND, u->dtype, std::span(&u, 1), shape);
}
U permute(U u, std::span<const i64> order) {
  Shape o(order.begin(), order.end());
  if (u->op == Op::PERMUTE) {
    for (i64& axis : o) axis = u->arg(int(axis));
    u = u->src(0);
  }
  return std::ranges::is_sorted(o) ? u : make(Op::PERMUTE, u->dtype, std::span(&u, 1), o);
}
U pad(U u, std::span<const i64> before_after) {
  bool none = std::ranges::all_of(before_after, [](i64 n) { return n == 0; });
  return none ? u : make(Op::PAD, u->dtype, std::span(&u, 1), before_after);
}
U shrink(U u, std::span<const i64> begin_end) {
  bool none = true;
  for (int i = 0; i < u->ndim; i++) none &= begin_end[2 * i] == 0 && begin_end[2 * i + 1] == u->dims[i];
  return none ? u : make(Op::SHRINK, u->dtype, std::span(&u, 1), begin_end);
}
U flip(U u, std::span<const i64> flags) {
  bool none = true;
  for (int i = 0; i < u->ndim; i++) none &= !flags[i] || u->dims[i] == 1;
  return none ? u : make(Op::FLIP, u->dtype, std::span(&u, 1), flags);
}
U reduce(U u, Op op, std::span<const i64> axes) {
  std::vector<i64> arg = {i64(op)};
  for (i64 axis : axes)
    if (u->dims[axis] != 1) arg.push_back(axis);
  return arg.size() == 1 ? u : make(Op::REDUCE_AXIS, u->dtype, std::span(&u, 1), arg);
}
U iota(i64 n, int axis, int ndim) {
  Shape shape(size_t(ndim), 1);
  shape[size_t(axis)] = n;
  return reshape(make(Op::IOTA, I32, {}, {n}), shape);
}

}  // namespace lazy

namespace {
// begin, end for each axis, everything but one axis whole
Tensor cut(const Tensor& t, i64 axis, i64 begin, i64 end) {
  Shape arg;
  for (i64 i = 0; i < t.dim(); i++) arg.insert(arg.end(), {i == axis ? begin : 0, i == axis ? end : t.size(i)});
  return Tensor(lazy::shrink(t.uop(), arg));
}
Tensor pad_axis(const Tensor& t, i64 axis, i64 before, i64 after) {
  Shape arg(size_t(2 * t.dim()), 0);
  arg[size_t(2 * axis)] = before, arg[size_t(2 * axis + 1)] = after;
  return Tensor(lazy::pad(t.uop(), arg));
}
// out[.., i, ..] = t[.., i * step, ..]
Tensor every(const Tensor& t, i64 axis, i64 step) {
  i64 n = t.size(axis), count = (n + step - 1) / step;
  if (step == 1) return t;
  return pad_axis(t, axis, 0, count * step - n).unflatten(axis, {count, step}).select(axis + 1, 0);
}
Tensor mask_of(const Tensor& t, Op compare, i64 diagonal) {  // row + diagonal `compare` column
  if (t.dim() < 2) throw Error("tril and triu need at least 2 axes, not ", t.describe());
  U row = lazy::iota(t.size(-2), 0, 2), column = lazy::iota(t.size(-1), 1, 2);
  Tensor r = Tensor(row) + diagonal, c = Tensor(column);
  return compare == Op::CMPLT ? c > r : c < r;
}
}  // namespace

Shape broadcast_shapes(std::span<const i64> a, std::span<const i64> b) {
  Shape out(std::max(a.size(), b.size()), 1);
  for (size_t i = 0; i < out.size(); i++) {
    i64 x = i < a.size() ? a[a.size() - 1 - i] : 1, y = i < b.size() ? b[b.size() - 1 - i] : 1;
    if (x != y && x != 1 && y != 1)
      throw Error("shapes ", a, " and ", b, " do not broadcast: axis -", i + 1, " is ", x, " and ", y,
                  "; sizes must be equal or 1");
    out[out.size() - 1 - i] = x == 1 ? y : x;
  }
  return out;
}

Tensor Tensor::reshape(Ints shape) const {
  Shape s = shape.vec();
  i64 known = 1, unknown = -1;
  for (size_t i = 0; i < s.size(); i++) {
    if (s[i] < -1 || (s[i] == -1 && unknown >= 0))
      throw Error("reshape of ", describe(), " to ", s, ": one size may be -1");
    if (s[i] == -1)
      unknown = i64(i);
    else
      known *= s[i];
  }
  if (unknown >= 0 && known) s[size_t(unknown)] = numel() / known, known *= s[size_t(unknown)];
  if (known != numel())
    throw Error("reshape of ", describe(), ", ", numel(), " elements, to ", s, ", ", known, " elements");
  return Tensor(lazy::reshape(uop(), s));
}
Tensor Tensor::expand(Ints shape) const {
  Shape s = shape.vec();
  i64 added = i64(s.size()) - dim();
  if (added < 0) throw Error("expand of ", describe(), " to ", s, ": fewer axes than before");
  for (i64 i = 0; i < i64(s.size()); i++) {
    i64 n = i < added ? 1 : size(i - added);
    i64& want = s[size_t(i)];
    if (want == -1 && i >= added) want = n;
    if (want < 0 || (n != want && n != 1))
      throw Error("expand of ", describe(), " to ", shape.vec(), ": axes of size 1 repeat, others keep their size");
  }
  return Tensor(lazy::expand(uop(), s));
}
Tensor Tensor::permute(Ints order) const {
  Shape o;
  for (i64 axis : order) o.push_back(axis_of(axis));
  Shape sorted = o;
  std::ranges::sort(sorted);
  for (i64 i = 0; i < i64(sorted.size()); i++)
    if (sorted[size_t(i)] != i) throw Error("permute of ", describe(), " by ", order.vec(), ": each axis once");
  if (i64(o.size()) != dim()) throw Error("permute of ", describe(), " by ", order.vec(), ": each axis once");
  return Tensor(lazy::permute(uop(), o));
}
Tensor Tensor::transpose(i64 a, i64 b) const {
  Shape order(static_cast<size_t>(dim()));
  std::iota(order.begin(), order.end(), 0);
  std::swap(order[size_t(axis_of(a))], order[size_t(axis_of(b))]);
  return permute(order);
}
Tensor Tensor::movedim(i64 from, i64 to) const {
  from = axis_of(from), to = axis_of(to);
  Shape order;
  for (i64 i = 0; i < dim(); i++)
    if (i != from) order.push_back(i);
  order.insert(order.begin() + to, from);
  return permute(order);
}
Tensor Tensor::shrink(std::span<const std::pair<i64, i64>> begin_end) const {
  Shape arg;
  if (i64(begin_end.size()) != dim()) throw Error("shrink of ", describe(), " with ", begin_end.size(), " pairs");
  for (i64 i = 0; auto [begin, end] : begin_end) {
    if (begin < 0 || begin > end || end > size(i++))
      throw Error("shrink of ", describe(), ": ", begin, " to ", end, " on axis ", i - 1);
    arg.insert(arg.end(), {begin, end});
  }
  return Tensor(lazy::shrink(uop(), arg));
}
Tensor Tensor::pad(Ints before_after, Operand value, std::string_view mode) const {
  Here here(value.at);
  i64 axes = i64(before_after.size()) / 2;
  if (before_after.size() % 2 || axes > dim())
    throw Error("pad of ", describe(), " by ", before_after.vec(), ": two numbers for each axis, the last axis first");
  Tensor t = *this;
  if (mode != "constant") {
    for (i64 i = 0; i < axes; i++) {
      i64 axis = dim() - 1 - i, n = size(axis), b = before_after[size_t(2 * i)], a = before_after[size_t(2 * i + 1)];
      i64 most = mode == "reflect" ? n - 1 : mode == "circular" ? n : mode == "replicate" && n ? INT64_MAX : -1;
      if (most < 0) throw Error("pad mode '", mode, "' of ", describe(), ": constant, reflect, replicate or circular");
      if (b < 0 || a < 0 || b > most || a > most)
        throw Error("pad of ", describe(), " by ", b, ", ", a, " in mode ", mode, ": at most ", most);
      auto piece = [&](i64 begin, i64 end) { return cut(t, axis, begin, end); };
      auto repeated = [&](i64 at, i64 times) {
        Shape s(t.shape().begin(), t.shape().end());
        s[size_t(axis)] = times;
        return piece(at, at + 1).expand(s);
      };
      t = mode == "reflect"    ? cat({piece(1, b + 1).flip(axis), t, piece(n - 1 - a, n - 1).flip(axis)}, axis)
          : mode == "circular" ? cat({piece(n - b, n), t, piece(0, a)}, axis)
                               : cat({repeated(0, b), t, repeated(n - 1, a)}, axis);
    }
    return t;
  }
  Shape arg(size_t(2 * dim()), 0), crop;
  for (i64 i = 0; i < dim(); i++) {
    bool given = dim() - 1 - i < axes;
    size_t from = size_t(2 * (dim() - 1 - i));
    i64 b = given ? before_after[from] : 0, a = given ? before_after[from + 1] : 0;
    if (size(i) + std::min<i64>(b, 0) + std::min<i64>(a, 0) < 0)
      throw Error("pad of ", describe(), " by ", before_after.vec());
    crop.insert(crop.end(), {std::max<i64>(-b, 0), size(i) - std::max<i64>(-a, 0)});
    arg[size_t(2 * i)] = std::max<i64>(b, 0), arg[size_t(2 * i + 1)] = std::max<i64>(a, 0);
  }
  U inner = lazy::shrink(uop(), crop), padded = lazy::pad(inner, arg);
  if (padded == inner || (!value.tensor && !value.integer && !value.real)) return Tensor(padded);
  U inside = lazy::pad(lazy::expand(constant(BOOL, 1), inner->shape()), arg);
  return where(Tensor(inside), Tensor(padded), value.as(dtype()));
}
Tensor Tensor::flip(Ints axes) const {
  Shape flags(size_t(dim()), 0);
  for (i64 axis : axes) flags[size_t(axis_of(axis))] = 1;
  return Tensor(lazy::flip(uop(), flags));
}
Tensor Tensor::squeeze(std::optional<i64> axis) const {
  Shape s;
  for (i64 i = 0; i < dim(); i++)
    if (size(i) != 1 || (axis && axis_of(*axis) != i)) s.push_back(size(i));
  return reshape(s);
}
Tensor Tensor::unsqueeze(i64 axis) const {
  if (axis < -dim() - 1 || axis > dim())
    throw Error("unsqueeze of ", describe(), " at ", axis, ": expected ", -dim() - 1, " to ", dim());
  Shape s(shape().begin(), shape().end());
  s.insert(s.begin() + (axis < 0 ? axis + dim() + 1 : axis), 1);
  return reshape(s);
}
Tensor Tensor::flatten(i64 begin, i64 end) const {
  if (!dim()) return reshape(1);
  begin = axis_of(begin), end = axis_of(end);
  if (begin > end) throw Error("flatten of ", describe(), " from axis ", begin, " to ", end);
  Shape s(shape().begin(), shape().begin() + begin + 1);
  for (i64 i = begin + 1; i < dim(); i++)
    if (i <= end)
      s.back() *= size(i);
    else
      s.push_back(size(i));
  return reshape(s);
}
Tensor Tensor::unflatten(i64 axis, Ints sizes) const {
  axis = axis_of(axis);
  Shape part = sizes.vec(), s(shape().begin(), shape().begin() + axis);
  i64 known = 1;
  for (i64 n : part) known *= n == -1 ? 1 : n;
  for (i64& n : part)
    if (n == -1) n = size(axis) / std::max<i64>(known, 1), known *= n;
  if (known != size(axis)) throw Error("unflatten of axis ", axis, " of ", describe(), " to ", sizes.vec());
  s.insert(s.end(), part.begin(), part.end());
  s.insert(s.end(), shape().begin() + axis + 1, shape().end());
  return reshape(s);
}
Tensor Tensor::narrow(i64 axis, i64 begin, i64 length) const {
  axis = axis_of(axis);
  if (begin < 0 || length < 0 || begin + length > size(axis))
    throw Error("narrow of ", describe(), ": ", begin, " to ", begin + length, " on axis ", axis);
  return cut(*this, axis, begin, begin + length);
}
Tensor Tensor::select(i64 axis, i64 i) const {
  axis = axis_of(axis);
  if (i < -size(axis) || i >= size(axis)) throw Error("index ", i, " on axis ", axis, " of a tensor ", describe());
  i += i < 0 ? size(axis) : 0;
  return cut(*this, axis, i, i + 1).squeeze(axis);
}
std::vector<Tensor> Tensor::split(Ints sizes, i64 axis) const {
  axis = axis_of(axis);
  i64 total = 0, n = size(axis);
  Shape s = sizes.vec();
  if (s.size() == 1 && s[0] > 0) {
    i64 each = s[0];
    for (s.clear(); total < n; total += s.back()) s.push_back(std::min(each, n - total));
  } else {
    total = std::accumulate(s.begin(), s.end(), i64(0));
  }
  if (total != n)
    throw Error("split of axis ", axis, " of ", describe(), " into ", sizes.vec(), ": the sum is not ", n);
  std::vector<Tensor> out;
  for (i64 at = 0; i64 length : s) out.push_back(narrow(axis, at, length)), at += length;
  return out;
}
std::vector<Tensor> Tensor::chunk(i64 pieces, i64 axis) const {
  if (pieces < 1) throw Error("chunk of ", describe(), " into ", pieces, " pieces");
  return split(std::max<i64>((size(axis) + pieces - 1) / pieces, 1), axis);
}
std::vector<Tensor> Tensor::unbind(i64 axis) const {
  std::vector<Tensor> out;
  for (i64 i = 0; i < size(axis); i++) out.push_back(select(axis, i));
  return out;
}
Tensor Tensor::repeat(Ints times) const {
  if (i64(times.size()) < dim())
    throw Error("repeat of ", describe(), " by ", times.vec(), ": one number for each axis or more");
  Shape ones, wide, out;
  for (size_t i = 0; i < times.size(); i++) {
    i64 axis = i64(i) - i64(times.size()) + dim(), n = axis < 0 ? 1 : size(axis);
    ones.insert(ones.end(), {1, n}), wide.insert(wide.end(), {times[i], n}), out.push_back(times[i] * n);
  }
  return reshape(ones).expand(wide).reshape(out);
}
Tensor Tensor::repeat_interleave(i64 times, i64 axis) const {
  axis = axis_of(axis);
  Tensor t = unsqueeze(axis + 1);
  Shape s(t.shape().begin(), t.shape().end());
  s[size_t(axis + 1)] = times;
  return t.expand(s).flatten(axis, axis + 1);
}
Tensor Tensor::roll(Ints shifts, Ints axes) const {
  if (shifts.size() != axes.size()) throw Error("roll: ", shifts.size(), " shifts for ", axes.size(), " axes");
  Tensor t = *this;
  for (size_t i = 0; i < axes.size(); i++) {
    i64 axis = axis_of(axes[i]), n = size(axis), k = n ? (shifts[i] % n + n) % n : 0;
    if (k) t = cat({cut(t, axis, n - k, n), cut(t, axis, 0, n - k)}, axis);
  }
  return t;
}
Tensor Tensor::tril(i64 diagonal) const { return masked_fill(mask_of(*this, Op::CMPLT, diagonal), 0); }
Tensor Tensor::triu(i64 diagonal) const { return masked_fill(mask_of(*this, Op::SUB, diagonal), 0); }
Tensor Tensor::diagonal() const {
  if (dim() < 2) throw Error("diagonal needs at least 2 axes, not ", describe());
  i64 n = std::min(size(-2), size(-1));
  Tensor square = narrow(-2, 0, n).narrow(-1, 0, n).flatten(-2, -1);  // element (i, i) stands at i (n + 1)
  return pad_axis(square, square.dim() - 1, 0, n).unflatten(-1, {n, n + 1}).select(-1, 0);
}

Tensor Tensor::index(std::span<const Index> items) const {
  i64 used = 0, ellipses = 0;
  for (const Index& item : items)
    used += item.kind != Index::NONE && item.kind != Index::ELLIPSIS, ellipses += item.kind == Index::ELLIPSIS;
  if (used > dim() || ellipses > 1)
    throw Error("index with ", items.size(), " items, ", ellipses, " of them Ellipsis, into ", describe());
  Tensor t = *this;
  i64 axis = 0;
  for (const Index& item : items) switch (item.kind) {
      case Index::INTEGER: t = t.select(axis, item.integer); break;
      case Index::NONE: t = t.unsqueeze(axis++); break;
      case Index::ELLIPSIS: axis += dim() - used; break;
      case Index::TENSOR: {
        i64 n = item.tensor->dim();
        t = t.index_select(axis, item.tensor->flatten()).unflatten(axis, item.tensor->shape());
        axis += n;
        break;
      }
      case Index::SLICE: {
        i64 n = t.size(axis), step = item.slice.step;
        if (!step) throw Error("a Slice of step 0 of axis ", axis, " of ", describe());
        auto place = [&](std::optional<i64> v, i64 absent, i64 low, i64 high) {
          return v ? std::clamp(*v < 0 ? *v + n : *v, low, high) : absent;
        };
        i64 low = step < 0 ? -1 : 0, high = step < 0 ? n - 1 : n;
        i64 begin = place(item.slice.begin, step < 0 ? high : low, low, high);
        i64 end = place(item.slice.end, step < 0 ? low : high, low, high);
        if (step < 0)
          t = cut(t, axis, std::min(end, begin) + 1, begin + 1).flip(axis);
        else
          t = cut(t, axis, begin, std::max(begin, end));
        t = every(t, axis, std::abs(step));
        axis++;
      }
    }
  return t;
}
Tensor Tensor::gather(i64 axis, const Tensor& index) const {
  axis = axis_of(axis);
  bool fits = index.dim() == dim() && index.dtype().is_int();
  Shape common(shape().begin(), shape().end());
  for (i64 i = 0; fits && i < dim(); i++)
    if (i != axis) fits = index.size(i) <= size(i), common[size_t(i)] = index.size(i);
  if (!fits)
    throw Error("gather on axis ", axis, " of ", describe(), " with index ", index.describe(),
                ": integers, as many axes, and no other axis longer than the tensor's");
  Tensor t = *this;
  for (i64 i = 0; i < dim(); i++) t = cut(t, i, 0, common[size_t(i)]);
  U src[] = {t.uop(), index.uop()};
  return Tensor(make(Op::GATHER, dtype(), src, std::span<const i64>(&axis, 1)));
}
Tensor Tensor::index_select(i64 axis, const Tensor& index) const {
  axis = axis_of(axis);
  if (index.dim() != 1 || !index.dtype().is_int())
    throw Error("index_select: the index must be a vector of integers, not ", index.describe());
  Shape ones(size_t(dim()), 1), wide(shape().begin(), shape().end());
  ones[size_t(axis)] = wide[size_t(axis)] = index.size(0);
  return gather(axis, index.reshape(ones).expand(wide));
}
namespace {
// For scatter: x (.., V, 1, ..) against index (.., 1, J, ..): where they meet.
Tensor meets(const Tensor& x, i64 axis, const Tensor& index) {
  if (index.dim() != x.dim() || !index.dtype().is_int())
    throw Error("scatter on axis ", axis, " of ", x.describe(), " with index ", index.describe(),
                ": integers and as many axes");
  for (i64 i = 0; i < x.dim(); i++)
    if (i != axis && index.size(i) != x.size(i))
      throw Error("scatter on axis ", axis, " of ", x.describe(), " with index ", index.describe(),
                  ": other axes must be equal");
  return index.unsqueeze(axis) == Tensor(lazy::iota(x.size(axis), int(axis), int(x.dim()) + 1));
}
}  // namespace
Tensor Tensor::scatter_add(i64 axis, const Tensor& index, const Tensor& value) const {
  axis = axis_of(axis);
  Tensor v = value.to(dtype()).expand(index.shape()).unsqueeze(axis);
  return *this + where(meets(*this, axis, index), v, 0).sum(axis + 1).to(dtype());
}
Tensor Tensor::scatter(i64 axis, const Tensor& index, Operand value) const {
  Here here(value.at);
  axis = axis_of(axis);
  Tensor order = Tensor(lazy::iota(index.size(axis), int(axis) + 1, int(dim()) + 1)) + 1;
  Tensor last = where(meets(*this, axis, index), order, 0).amax(axis + 1);  // 0: nobody writes here
  Tensor v = value.as(dtype()).expand(index.shape()).gather(axis, (last - 1).maximum(0));
  return where(last > 0, v, *this);
}
Tensor Tensor::one_hot(i64 classes, At at) const {
  Here here(at);
  if (!dtype().is_int()) throw Error("one_hot of ", describe(), ": integers only");
  return (unsqueeze(-1) == Tensor(lazy::iota(classes, int(dim()), int(dim()) + 1))).to(I64);
}
Tensor Tensor::window(i64 axis, i64 window_axis, i64 stride, i64 dilation, i64 n) const {
  axis = axis_of(axis), window_axis = axis_of(window_axis);
  if (axis == window_axis || stride < 1 || dilation < 1 || n < 0 ||
      (n - 1) * stride + (size(window_axis) - 1) * dilation >= size(axis))
    throw Error("window of ", describe(), ": ", n, " windows of ", size(window_axis), ", stride ", stride,
                ", dilation ", dilation, " on axis ", axis);
  return Tensor(make(Op::WINDOW, dtype(), {uop()}, {axis, window_axis, stride, dilation, n}));
}
Tensor Tensor::windows(Ints sizes, Ints strides, Ints dilations) const {
  i64 k = i64(sizes.size()), first = dim() - k;
  Tensor t = *this;
  Shape order;
  for (i64 i = 0; i < first; i++) order.push_back(i);
  for (i64 i = 0; i < 2 * k; i++) order.push_back(first + i % k * 2 + i / k);
  for (i64 i = 0; i < k; i++) {
    i64 axis = first + 2 * i, size = sizes[size_t(i)], stride = strides[size_t(i)], dilation = dilations[size_t(i)];
    i64 room = t.size(axis) - dilation * (size - 1) - 1, n = room < 0 ? 0 : room / stride + 1;
    if (n < 1 || size < 1)
      throw Error("a window of ", sizes.vec(), " with dilation ", dilations.vec(), " does not fit into ", describe());
    if (stride == size && dilation == 1) {  // no overlap: a reshape, whose gradient is a reshape
      t = cut(t, axis, 0, n * size).unflatten(axis, {n, size});
      continue;
    }
    t = t.unsqueeze(axis + 1);
    Shape wide(t.shape().begin(), t.shape().end());
    wide[size_t(axis + 1)] = size;
    t = t.expand(wide).window(axis, axis + 1, stride, dilation, n);
  }
  return t.permute(order);
}

Tensor cat(std::span<const Tensor> tensors, i64 axis) {
  if (tensors.empty()) throw Error("cat of no tensors");
  const Tensor& first = tensors[0];
  axis = first.axis_of(axis);
  i64 total = 0;
  DType dtype = first.dtype();
  for (const Tensor& t : tensors) {
    bool fits = t.dim() == first.dim();
    for (i64 i = 0; fits && i < t.dim(); i++) fits = i == axis || t.size(i) == first.size(i);
    if (!fits)
      throw Error("cat on axis ", axis, " of ", first.describe(), " and ", t.describe(), ": other axes must be equal");
    total += t.size(axis), dtype = promote(dtype, t.dtype());
  }
  Tensor at = Tensor(lazy::iota(total, int(axis), int(first.dim()))), out;
  for (i64 before = 0; const Tensor& t : tensors) {
    if (!t.size(axis)) continue;
    Tensor part = pad_axis(t.to(dtype), axis, before, total - before - t.size(axis));
    out = out.defined() ? where(at < before, out, part) : part;  // a sum would turn -0 into 0
    before += t.size(axis);
  }
  return out.defined() ? out : first.to(dtype);
}
Tensor stack(std::span<const Tensor> tensors, i64 axis) {
  std::vector<Tensor> all;
  for (const Tensor& t : tensors) {
    if (!std::ranges::equal(t.shape(), tensors[0].shape()))
      throw Error("stack of ", tensors[0].describe(), " and ", t.describe(), ": shapes must be equal");
    all.push_back(t.unsqueeze(axis));
  }
  if (all.empty()) throw Error("stack of no tensors");
  return cat(all, axis < 0 ? axis + all[0].dim() : axis);
}

}  // namespace ingot
