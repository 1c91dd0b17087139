// SPDX-License-Identifier: MIT
// The handle, its memory and its creation.
//
// A TensorState holds a Pin to the tensor's graph. realize() of the runtime moves every Pin from a graph to the BUFFER
// that holds its value, so a handle never has to know what became of it. Equal graphs are one node, therefore whatever
// needs an identity (a leaf with a gradient, a state that is written) owns a BUFFER of its own: own_memory() makes one,
// and the graph becomes the ASSIGN that fills it. States with requires_grad are linked, so that backward() finds them.
#include "compiler/tensor/tensor.h"
#include <cmath>

namespace ingot {
namespace {
thread_local const At* current_at = nullptr;
struct Pending {
  Pending() { Arena::main(); }  // made first, so that it outlives the tensors' Pins
  std::vector<Tensor> tensors;
};
thread_local Pending pending;

// The BUFFER, or ASSIGNs to it, below reshapes; nullptr if the value is computed.
U memory_of(U u) {
  while (u->op == Op::RESHAPE) u = u->src(0);
  return u->op == Op::BUFFER || u->op == Op::ASSIGN ? u : nullptr;
}
int device_for(U u) {
  int d = device_of(u);
  return d < 0 ? device_number("") : d;
}
void own_memory(TensorState& s) {
  U u = *s.uop;
  if (memory_of(u) && u->op != Op::RESHAPE) return;
  s.uop = make(Op::ASSIGN, u->dtype, {new_buffer(u->dtype, u->shape(), device_for(u)), lazy::expand(u, u->shape())});
}
}  // namespace

thread_local TensorState* TensorState::first_leaf = nullptr;

Here::Here(const At& at) : outer(current_at) {
  if (!outer) current_at = &at;
}
Here::~Here() { current_at = outer; }

Tensor::Tensor(U u) : state_(new TensorState{.uop = u}) {
  if (current_at && (has(u->op, ALU) || u->op == Op::REDUCE_AXIS || u->op == Op::GATHER))
    set_source(u, current_at->file_name(), int(current_at->line()));
}
Tensor::Tensor(const Tensor& o) : state_(o.state_) {
  if (state_) state_->count++;
}
Tensor::~Tensor() {
  if (!state_ || --state_->count) return;
  if (state_->requires_grad) state_->unlink();
  delete state_;
}
U Tensor::uop() const {
  if (!state_) throw Error("this tensor is undefined: it was never given a value, or it is a grad() before backward()");
  return *state_->uop;
}
std::string Tensor::device() const { return device_name(device_for(uop())); }
std::string Tensor::describe() const { return defined() ? str(dtype(), ' ', shape()) : "undefined"; }
i64 Tensor::axis_of(i64 axis) const {
  if (axis < -dim() || axis >= std::max<i64>(dim(), 1))
    throw Error("axis ", axis, " of a tensor ", describe(), ": expected ", -dim(), " to ", dim() - 1);
  return axis < 0 ? axis + dim() : axis;
}

// ---- memory
bool Tensor::is_realized() const {
  U m = memory_of(uop());
  return m && m->op == Op::BUFFER;
}
void realize_with_next(const Tensor& t) {
  for (const Tensor& p : pending.tensors)
    if (p.same(t)) return;
  pending.tensors.push_back(t);
}
void realize(std::span<const Tensor> tensors) {
  std::vector<U> roots;
  std::vector<TensorState*> states;
  auto add = [&](TensorState* s) {
    U memory = memory_of(*s->uop);
    if (memory && memory->op == Op::BUFFER) return;
    roots.push_back(memory ? memory : *s->uop), states.push_back(s);
  };
  for (const Tensor& t : tensors) t.uop(), add(t.state_);
  if (roots.empty()) return;
  std::vector<Tensor> more = std::move(pending.tensors);
  pending.tensors.clear();
  for (const Tensor& t : more) add(t.state_);
  if (TensorState* s = advance_random()) add(s);
  std::vector<U> buffers = realize(std::span<const U>(roots));
  for (size_t i = 0; i < states.size(); i++) states[i]->uop = lazy::reshape(buffers[i], states[i]->uop->shape());
}
const Tensor& Tensor::realize() const {
  ingot::realize(*this);
  return *this;
}
void Tensor::read(void* to, DType as) const {
  Tensor t = this->to(as);
  t.realize();
  if (t.numel()) read_back(memory_of(t.uop()), to);
}
void Tensor::expect_one() const {
  if (numel() != 1) throw Error("item() of a tensor ", describe(), ": it needs exactly one element");
}
void append(std::string& out, const Tensor& t) {
  append(out, t.describe());
  i64 n = t.defined() ? std::min<i64>(t.numel(), 1000) : 0;
  if (!n) return;
  std::vector<double> values = t.to_vector<double>();
  out += ' ';
  append(out, std::span(values.data(), size_t(n)));
  if (n < t.numel()) out += "…";
}

// ---- convert, mark, write
Tensor Tensor::to(DType dtype) const { return dtype == uop()->dtype ? *this : Tensor(ingot::cast(uop(), dtype)); }
Tensor Tensor::to(std::string_view device) const {
  int n = device_number(device);
  return n == device_for(uop()) ? *this : Tensor(make(Op::COPY, dtype(), {lazy::expand(uop(), shape())}, {n}));
}
Tensor Tensor::bitcast(DType to) const {
  if (to.bits() != dtype().bits()) throw Error("bitcast of ", describe(), " to ", to, ": sizes must be equal");
  return to == dtype() ? *this : Tensor(make(Op::BITCAST, to, {uop()}));
}
Tensor Tensor::contiguous() const {
  return is_realized() ? *this : Tensor(make(Op::CONTIGUOUS, dtype(), {lazy::expand(uop(), shape())}));
}
Tensor Tensor::detach() const { return Tensor(make(Op::DETACH, dtype(), {uop()})); }

Tensor& Tensor::requires_grad_(bool on) {
  if (on && !is_float()) throw Error("requires_grad_ of a tensor ", describe(), ": only floats have gradients");
  if (on == state_->requires_grad) return *this;
  if (on)
    own_memory(*state_), state_->link();
  else
    state_->unlink();
  state_->requires_grad = on;
  return *this;
}
bool Tensor::requires_grad() const { return state_ && state_->requires_grad; }
Tensor Tensor::grad() const { return state_ ? state_->grad : Tensor(); }
void Tensor::set_grad(const Tensor& g) {
  if (g.defined() && !std::ranges::equal(g.shape(), shape()))
    throw Error("set_grad of ", g.describe(), " on a tensor ", describe(), ": shapes must be equal");
  uop(), state_->grad = g;
}
Tensor& Tensor::assign(Operand value) {
  Here here(value.at);
  U u = uop(), v = value.as(dtype()).broadcast_to(shape()).uop();
  U memory = memory_of(u);
  if (!memory) return state_->uop = v, *this;
  U stored = make(Op::ASSIGN, u->dtype, {memory, lazy::reshape(v, memory->shape())});
  return state_->uop = lazy::reshape(stored, u->shape()), *this;
}
Tensor& Tensor::slice_assign(std::initializer_list<Index> where, Operand value) {
  Here here(value.at);
  if (where.size() > size_t(dim())) throw Error("slice_assign: ", where.size(), " items for a tensor ", describe());
  std::vector<i64> begin_end, kept;
  for (i64 axis = 0; axis < dim(); axis++) {
    i64 n = size(axis), begin = 0, end = n;
    if (size_t(axis) < where.size()) {
      const Index& item = where.begin()[axis];
      if (item.kind == Index::INTEGER) {
        begin = item.integer < 0 ? item.integer + n : item.integer, end = begin + 1;
      } else if (item.kind == Index::SLICE && item.slice.step == 1) {
        begin = item.slice.begin.value_or(0), end = item.slice.end.value_or(n);
        begin += begin < 0 ? n : 0, end += end < 0 ? n : 0;
      } else {
        throw Error("slice_assign: item ", axis, " must be an integer or a Slice of step 1");
      }
      if (begin < 0 || begin > end || end > n)
        throw Error("slice_assign: ", begin, " to ", end, " on axis ", axis, " of a tensor ", describe());
      if (item.kind != Index::INTEGER) kept.push_back(end - begin);
    } else {
      kept.push_back(n);
    }
    begin_end.insert(begin_end.end(), {begin, end});
  }
  Tensor v = value.as(dtype()).broadcast_to(kept);
  Shape full;
  for (size_t i = 0; i < begin_end.size(); i += 2) full.push_back(begin_end[i + 1] - begin_end[i]);
  if (uop()->op == Op::RESHAPE || !memory_of(uop())) own_memory(*state_);
  U src[] = {uop(), lazy::reshape(v.uop(), full)};
  return state_->uop = make(Op::ASSIGN, dtype(), src, begin_end), *this;
}
Tensor& Tensor::operator+=(Operand o) { return assign({*this + o, o.at}); }
Tensor& Tensor::operator-=(Operand o) { return assign({*this - o, o.at}); }
Tensor& Tensor::operator*=(Operand o) { return assign({*this * o, o.at}); }
Tensor& Tensor::operator/=(Operand o) { return assign({*this / o, o.at}); }

Tensor Operand::as(DType dtype) const {
  if (tensor) return tensor->to(dtype);
  if (weak.is_float()) return Tensor(dtype.is_float() ? constant_float(dtype, real) : constant(dtype, i64(real)));
  return Tensor(constant(dtype, integer));
}

// ---- creation
Tensor from_bytes(const void* data, DType dtype, Ints shape, std::string_view device) {
  return Tensor(buffer_from_host(data, dtype, std::span(shape.begin(), shape.size()), device_number(device)));
}
Tensor from_blob(const BufferRef& memory, DType dtype, Ints shape) {
  return Tensor(buffer_on(memory, dtype, std::span(shape.begin(), shape.size()), device_number("")));
}
Tensor empty(Ints shape, DType dtype) {
  return Tensor(new_buffer(dtype, std::span(shape.begin(), shape.size()), device_number("")));
}
Tensor full(Ints shape, Operand value, std::optional<DType> dtype) {
  Here here(value.at);
  return value.as(dtype.value_or(value.tensor ? value.tensor->dtype() : value.weak)).expand(shape);
}
Tensor zeros(Ints shape, DType dtype) { return full(shape, 0, dtype); }
Tensor ones(Ints shape, DType dtype) { return full(shape, 1, dtype); }
Tensor full_like(const Tensor& t, Operand value) { return full(t.shape(), value, t.dtype()); }
Tensor zeros_like(const Tensor& t) { return full_like(t, 0); }
Tensor ones_like(const Tensor& t) { return full_like(t, 1); }
Tensor empty_like(const Tensor& t) { return empty(t.shape(), t.dtype()); }
Tensor eye(i64 n, i64 m, DType dtype) {
  return (Tensor(lazy::iota(n, 0, 2)) == Tensor(lazy::iota(m < 0 ? n : m, 1, 2))).to(dtype);
}
Tensor arange(Operand end) { return arange({0, end.at}, end); }
Tensor arange(Operand begin, Operand end, Operand step, std::optional<DType> dtype) {
  Here here(begin.at);
  auto number = [](const Operand& o) {
    if (o.tensor) throw Error("arange takes numbers, not a tensor ", o.tensor->describe());
    return o.weak.is_float() ? o.real : double(o.integer);
  };
  double b = number(begin), e = number(end), s = number(step), n = std::ceil((e - b) / s);
  if (!(std::abs(n) < 0x1p62)) throw Error("arange(", b, ", ", e, ", ", s, "): the step must lead from begin to end");
  bool real = begin.weak.is_float() || end.weak.is_float() || step.weak.is_float();
  DType out = dtype.value_or(real ? F32 : I64), in = out.is_float() ? F64 : I64;
  Tensor i = Tensor(make(Op::IOTA, I64, {}, {std::max<i64>(i64(n), 0)})).to(in);
  return (i * step.as(in) + begin.as(in)).to(out);
}
Tensor linspace(double begin, double end, i64 steps, DType dtype) {
  if (steps < 1) throw Error("linspace with ", steps, " steps: at least 1");
  Tensor t = arange(steps).to(F64) * (steps > 1 ? (end - begin) / double(steps - 1) : 0) + begin;
  return steps > 1 ? where(arange(steps) == steps - 1, full({}, end, F64), t).to(dtype) : t.to(dtype);
}

}  // namespace ingot
