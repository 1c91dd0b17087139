// SPDX-License-Identifier: MIT
// The reference: the value of any graph, from the value column of op.def and loops a reader can check by eye.
//
// An element is a Value: integers wrapped to their dtype, floats rounded to it. A float op of any width is computed in
// double and rounded once. That is the IEEE result for + - * / sqrt of every narrower type (a double has more than 2p+2
// bits) and half an ulp from the truth for the others; FMA on f32 uses the exact float function, for narrower types
// double suffices too. Sums and products over floats are accumulated in double in index order and rounded once at the
// end: more exact than any kernel, so that a tolerance against it measures the kernel's error only. CAST of a float to
// an integer truncates and keeps the low bits; NaN and what exceeds 64 bits gives 0 there, and hardware may differ. MAX
// and MIN treat -0 and 0 as equal: either may come out. BUFFERs are read when first met, which is before any ASSIGN
// above them: whoever reads the BUFFER itself sees the old value, whoever reads the ASSIGN the new one.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "compiler/uop/value.h"

namespace ingot {
namespace {

// Rounds doubles, or wraps integers, to a dtype.
void settle(Value* v, i64 n, DType dtype) {
  auto each = [&](auto f) {
    for (i64 i = 0; i < n; i++) f(v[i]);
  };
  switch (dtype.scalar) {
    case Scalar::F64:
    case Scalar::I64:
    case Scalar::U64:
    case Scalar::IDX:
    case Scalar::VOID: return;
    case Scalar::F32: return each([](Value& x) { x.f = float(x.f); });
    case Scalar::I32: return each([](Value& x) { x.i = i32(x.i); });
    default:
      if (dtype.is_float())
        each([&](Value& x) { x.f = round_to(x.f, dtype); });
      else
        each([&](Value& x) { x.i = wrap_to(x.i, dtype); });
  }
}

// out[i] = op(a[i * step[0]], b[i * step[1]], c[i * step[2]]); a step of 0 repeats an element. `source` is the dtype of
// a.
void elementwise(Op op, DType result, DType source, i64 n, Value* out, const Value* a, const Value* b, const Value* c,
                 std::array<i64, 3> step) {
  if (op == Op::WHERE) {
    for (i64 i = 0; i < n; i++) out[i] = a[i * step[0]].i ? b[i * step[1]] : c[i * step[2]];
    return;
  }
  if (op == Op::FMA && source.scalar == Scalar::F32) {
    for (i64 i = 0; i < n; i++)
      out[i].f = std::fma(float(a[i * step[0]].f), float(b[i * step[1]].f), float(c[i * step[2]].f));
    return;
  }
  auto loop = [&](auto value) {
    for (i64 i = 0; i < n; i++) out[i] = value(a[i * step[0]], b[i * step[1]], c[i * step[2]]);
  };
  auto floats = [&](auto value) {
    loop([&](Value p, Value q, Value r) {
      auto v = value(p.f, q.f, r.f);
      if constexpr (std::is_same_v<decltype(v), bool>)
        return Value{.i = v};
      else
        return Value{.f = v};
    });
  };
  auto integers = [&]<class T>(T, auto value) {
    loop([&](Value p, Value q, Value r) {
      return Value{.i = i64(value(Wrapping<T>(T(p.i)), Wrapping<T>(T(q.i)), Wrapping<T>(T(r.i))).v)};
    });
  };
  auto by_op = [&](auto) {  // generic, so that what a row's properties exclude is not instantiated
    switch (op) {
#define OP(name, sources, properties, value, doc)                                                             \
  case Op::name: {                                                                                            \
    auto f = []([[maybe_unused]] auto a, [[maybe_unused]] auto b, [[maybe_unused]] auto c) { return value; }; \
    if constexpr (((properties) & (NUMERIC | FLOAT_ONLY)) != 0)                                               \
      if (source.is_float()) return floats(f);                                                                \
    if constexpr (((properties) & (NUMERIC | INTEGER | LOGIC)) != 0)                                          \
      if (!source.is_float()) return source.scalar == Scalar::U64 ? integers(u64(), f) : integers(i64(), f);  \
    break;                                                                                                    \
  }
#include "compiler/uop/op.def"
#undef OP
      default: break;
    }
    throw Error("cannot evaluate ", op, " on ", source);
  };
  by_op(0);
  if (!has(op, TO_BOOL)) settle(out, n, result);
}

// The double that rounds to every narrower float as the integer itself would: nearest, but odd when bits are lost.
double to_double_odd(u64 v) {
  if (v >> 53 == 0) return double(v);
  int drop = 64 - 53 - __builtin_clzll(v);
  return std::ldexp(double(v >> drop | ((v & ((u64(1) << drop) - 1)) != 0)), drop);
}
i64 float_to_int(double v) {
  v = std::trunc(v);
  if (v >= -0x1p63 && v < 0x1p63) return i64(v);
  return v >= 0 && v < 0x1p64 ? i64(u64(v)) : 0;
}

void convert_all(Value* v, i64 n, DType from, DType to) {
  if (from.element() == to.element()) return;
  auto each = [&](auto f) {
    for (i64 i = 0; i < n; i++) f(v[i]);
  };
  if (from.is_float()) {
    if (to.is_bool()) return each([](Value& x) { x.i = x.f != 0; });
    if (!to.is_float()) each([](Value& x) { x.i = float_to_int(x.f); });
  } else if (to.is_float()) {
    if (from.scalar == Scalar::U64)
      each([&](Value& x) { x.f = to == F64 ? double(u64(x.i)) : to_double_odd(u64(x.i)); });
    else if (from.bits() < 64)
      each([](Value& x) { x.f = double(x.i); });
    else
      each([&](Value& x) {
        x.f = to.scalar == Scalar::F64 ? double(x.i) : x.i < 0 ? -to_double_odd(-u64(x.i)) : to_double_odd(u64(x.i));
      });
  }
  settle(v, n, to);
}

void bitcast_all(Value* v, i64 n, DType from, DType to) {
  for (i64 i = 0; i < n; i++) {
    u64 bits = from.is_float() ? encode_float(v[i].f, from) : u64(v[i].i);
    if (to.is_float())
      v[i].f = decode_float(to.bits() < 64 ? bits & ((u64(1) << to.bits()) - 1) : bits, to);
    else
      v[i].i = wrap_to(i64(bits), to);
  }
}

Value identity_of(Op op, DType dtype) {  // of a reduction; integers: MAX of nothing is the smallest value
  bool f = dtype.is_float();
  double infinity = std::numeric_limits<double>::infinity();
  int bits = dtype.bits();
  i64 highest = dtype.is_bool() ? 1 : i64(~u64(0) >> (64 - bits + (dtype.is_signed() ? 1 : 0)));
  switch (op) {
    case Op::ADD:
    case Op::OR:
    case Op::XOR: return f ? Value{.f = 0} : Value{.i = 0};
    case Op::MUL: return f ? Value{.f = 1} : Value{.i = 1};
    case Op::AND: return Value{.i = wrap_to(-1, dtype)};
    case Op::MAX:
      return f ? Value{.f = dtype.row().specials == Specials::IEEE
                                ? -infinity
                                : -decode_float((u64(1) << (bits - 1)) - (dtype.row().specials == Specials::FN ? 2 : 1),
                                                dtype)}
               : Value{.i = dtype.is_signed() ? -highest - 1 : 0};
    case Op::MIN: return f ? Value{.f = -identity_of(Op::MAX, dtype).f} : Value{.i = highest};
    default: throw Error("cannot reduce with ", op);
  }
}
DType accumulator(DType dtype) { return dtype.is_float() ? F64 : dtype; }

Value const_value(U u, int lane) {
  i64 bits = u->arg(u->arg().size() == 1 ? 0 : lane);
  return u->dtype.is_float() ? Value{.f = __builtin_bit_cast(double, bits)} : Value{.i = bits};
}

// ---- tensors
using Values = std::vector<Value>;
using Strides = std::vector<i64>;
Strides row_major(std::span<const i64> shape) {
  Strides s(shape.size(), 1);
  for (size_t i = shape.size(); i-- > 1;) s[i - 1] = s[i] * shape[i];
  return s;
}
// f(k, offset) for every index of `shape` in row-major order: k counts, offset = base + index . strides.
template <class F>
void for_offsets(std::span<const i64> shape, const Strides& strides, i64 base, F f) {
  i64 n = 1;
  for (i64 d : shape) n *= d;
  if (n == 0) return;
  if (shape.empty()) return f(i64(0), base);
  i64 inner = shape.back(), step = strides.back();
  std::vector<i64> index(shape.size(), 0);
  for (i64 k = 0; k < n;) {
    for (i64 j = 0; j < inner; j++) f(k++, base + j * step);
    for (size_t axis = shape.size() - 1; axis-- > 0;) {
      base += strides[axis];
      if (++index[axis] < shape[axis]) break;
      base -= strides[axis] * shape[axis];
      index[axis] = 0;
    }
  }
}

struct TensorEvaluator {
  const std::function<Memory(U)>& memory_of;
  UMap<Values> values{};
  UMap<int> uses{};

  const Values& of(U u) { return *values.find(u); }

  void write_back(U buffer, const Values& v) {
    while (buffer->op == Op::ASSIGN || buffer->op == Op::AFTER) buffer = buffer->src(0);
    if (buffer->op != Op::BUFFER) throw Error("ASSIGN to ", buffer->op, " instead of a BUFFER");
    Memory memory = memory_of(buffer);
    if (memory.elements < i64(v.size()))
      throw Error("ASSIGN of ", v.size(), " elements to a buffer of ", memory.elements);
    for (size_t i = 0; i < v.size(); i++) store_element(memory.data, i64(i), buffer->dtype, v[i]);
  }

  Values value(U u) {
    Values out(size_t(u->elements()));
    i64 n = i64(out.size());
    auto src = [&](int i) -> const Values& { return of(u->src(i)); };
    auto in_shape = [&] { return u->src(0)->shape(); };
    auto gather = [&](const Strides& strides, i64 base) {
      const Values& in = src(0);
      for_offsets(u->shape(), strides, base, [&](i64 k, i64 offset) { out[size_t(k)] = in[size_t(offset)]; });
      return std::move(out);
    };
    switch (u->op) {
      case Op::CONST: std::fill(out.begin(), out.end(), const_value(u, 0)); return out;
      case Op::IOTA:
        for (i64 i = 0; i < n; i++) out[size_t(i)].i = i;
        convert_all(out.data(), n, I64, u->dtype);
        return out;
      case Op::BUFFER: {
        Memory memory = memory_of(u);
        if (memory.elements < n)
          throw Error("a BUFFER of shape ", u->shape(), " is backed by ", memory.elements, " elements");
        for (i64 i = 0; i < n; i++) out[size_t(i)] = load_element(memory.data, i, u->dtype);
        return out;
      }
      case Op::RESHAPE:
      case Op::CONTIGUOUS:
      case Op::DETACH:
      case Op::COPY:
      case Op::AFTER: return src(0);
      case Op::EXPAND: {
        Strides strides = row_major(in_shape());
        strides.insert(strides.begin(), u->ndim - strides.size(), 0);  // a scalar repeats too
        for (size_t i = 0, lead = u->ndim - in_shape().size(); i < in_shape().size(); i++)
          if (in_shape()[i] == 1) strides[lead + i] = 0;
        return gather(strides, 0);
      }
      case Op::PERMUTE: {
        Strides in = row_major(in_shape()), strides;
        for (i64 axis : u->arg()) strides.push_back(in[size_t(axis)]);
        return gather(strides, 0);
      }
      case Op::SHRINK: {
        Strides strides = row_major(in_shape());
        i64 base = 0;
        for (size_t i = 0; i < strides.size(); i++) base += strides[i] * u->arg()[2 * i];
        return gather(strides, base);
      }
      case Op::FLIP: {
        Strides strides = row_major(in_shape());
        i64 base = 0;
        for (size_t i = 0; i < strides.size(); i++)
          if (u->arg()[i]) base += strides[i] * (in_shape()[i] - 1), strides[i] = -strides[i];
        return gather(strides, base);
      }
      case Op::PAD: {
        Strides strides = row_major(u->shape());
        i64 base = 0;
        for (size_t i = 0; i < strides.size(); i++) base += strides[i] * u->arg()[2 * i];
        std::fill(out.begin(), out.end(), Value{.i = 0});
        for_offsets(in_shape(), strides, base, [&](i64 k, i64 offset) { out[size_t(offset)] = src(0)[size_t(k)]; });
        return out;
      }
      case Op::WINDOW: {
        Strides strides = row_major(in_shape());
        size_t i = size_t(u->arg(0)), k = size_t(u->arg(1));
        strides[k] += u->arg(3) * strides[i];
        strides[i] *= u->arg(2);
        return gather(strides, 0);
      }
      case Op::UNWINDOW: {  // element (o, k) of the source goes to (o * stride + k * dilation, k) where that exists
        Strides strides = row_major(u->shape()), position(strides.size(), 0);
        size_t i = size_t(u->arg(0)), k = size_t(u->arg(1));
        position[i] = u->arg(2), position[k] = u->arg(3);
        strides[k] += u->arg(3) * strides[i];
        strides[i] *= u->arg(2);
        std::vector<i64> at(src(0).size());
        for_offsets(in_shape(), position, 0, [&](i64 j, i64 p) { at[size_t(j)] = p; });
        std::fill(out.begin(), out.end(), Value{.i = 0});
        for_offsets(in_shape(), strides, 0, [&](i64 j, i64 offset) {
          if (at[size_t(j)] < u->shape()[i]) out[size_t(offset)] = src(0)[size_t(j)];
        });
        return out;
      }
      case Op::REDUCE_AXIS: {
        Op op = Op(u->arg(0));
        Strides strides = row_major(u->shape());
        for (i64 axis : u->arg().subspan(1)) strides[size_t(axis)] = 0;
        std::fill(out.begin(), out.end(), identity_of(op, u->dtype));
        DType wide = accumulator(u->dtype);
        auto reduce = [&](auto combine) {
          for_offsets(in_shape(), strides, 0,
                      [&](i64 k, i64 offset) { combine(out[size_t(offset)], src(0)[size_t(k)]); });
        };
        if (op == Op::ADD && wide == F64)
          reduce([](Value& a, Value b) { a.f += b.f; });
        else if (op == Op::MAX && wide == F64)
          reduce([](Value& a, Value b) { a.f = maximum(a.f, b.f); });
        else
          reduce([&](Value& a, Value b) { elementwise(op, wide, wide, 1, &a, &a, &b, &b, {}); });
        settle(out.data(), n, u->dtype);
        return out;
      }
      case Op::GATHER: {
        size_t axis = size_t(u->arg(0));
        Strides strides = row_major(in_shape());
        i64 step = strides[axis], size = in_shape()[axis];
        strides[axis] = 0;
        for_offsets(u->shape(), strides, 0, [&](i64 k, i64 offset) {
          i64 j = src(1)[size_t(k)].i;
          out[size_t(k)] = j >= 0 && j < size ? src(0)[size_t(offset + j * step)] : Value{.i = 0};
        });
        return out;
      }
      case Op::ASSIGN: {
        const Values& v = src(1);
        auto from = [&](i64 k) { return v[v.size() == 1 ? 0 : size_t(k)]; };
        if (u->arg().empty()) {
          for (i64 i = 0; i < n; i++) out[size_t(i)] = from(i);
        } else {
          out = src(0);
          Strides strides = row_major(u->shape());
          std::vector<i64> region(strides.size());
          i64 base = 0;
          for (size_t i = 0; i < strides.size(); i++)
            base += strides[i] * u->arg()[2 * i], region[i] = u->arg()[2 * i + 1] - u->arg()[2 * i];
          for_offsets(region, strides, base, [&](i64 k, i64 offset) { out[size_t(offset)] = from(k); });
        }
        write_back(u->src(0), out);
        return out;
      }
      case Op::CAST:
      case Op::BITCAST:
        out = src(0);
        (u->op == Op::CAST ? convert_all : bitcast_all)(out.data(), n, u->src(0)->dtype, u->dtype);
        return out;
      case Op::SINK: return {};
      default: break;
    }
    if (!has(u->op, ALU)) throw Error("cannot evaluate ", u->op, " in a tensor graph");
    const Value* in[3];
    std::array<i64, 3> step{};
    for (int i = 0; i < 3; i++) {
      const Values& v = src(std::min(i, int(u->nsrc) - 1));
      check(i64(v.size()) == n || v.size() == 1, u->op, " of ", n, " elements has a source of ", v.size());
      in[i] = v.data(), step[size_t(i)] = v.size() == 1 ? 0 : 1;
    }
    elementwise(u->op, u->dtype, u->src(0)->dtype, n, out.data(), in[0], in[1], in[2], step);
    return out;
  }
};

// ---- kernels
// A scope is a loop nest: a STORE's or REDUCE's ranges around what depends on them. Each node is evaluated once per
// iteration of the innermost loop that it depends on, into its slot of one array, by a list that is made once per
// scope.
struct KernelEvaluator {
  std::span<const Memory> params;
  std::vector<U> order{};
  UMap<i64> number{};
  std::vector<size_t> slot{};  // of node i: where its lanes are
  Values lanes{};
  std::vector<std::vector<int>> open{};  // of node i: numbers of the RANGEs it depends on and does not close, sorted
  std::vector<std::vector<Value>> locals{};
  struct Scope {
    std::vector<int> ranges;
    std::vector<std::vector<int>> level;  // level[j]: nodes to evaluate once ranges[0 … j-1] are set
  };
  std::vector<Scope> scopes{};  // of node i; used by STORE, REDUCE and the root

  Value* at(U u) { return &lanes[slot[size_t(*number.find(u))]]; }
  static size_t first_range(U u) { return u->op == Op::STORE ? 2 : u->op == Op::REDUCE ? 1 : u->nsrc; }
  static std::span<const U> closed(U u) { return u->src().subspan(std::min<size_t>(first_range(u), u->nsrc)); }

  void prepare(U sink) {
    order = toposort(sink);
    size_t total = 0;
    for (size_t i = 0; i < order.size(); i++) {
      U u = order[i];
      number[u] = i64(i);
      slot.push_back(total);
      total += u->dtype.lanes;
      std::vector<int> ranges;
      for (U s : u->src()) {
        const auto& o = open[size_t(*number.find(s))];
        ranges.insert(ranges.end(), o.begin(), o.end());
      }
      if (u->op == Op::RANGE) ranges.push_back(int(i));
      std::sort(ranges.begin(), ranges.end());
      ranges.erase(std::unique(ranges.begin(), ranges.end()), ranges.end());
      for (U r : closed(u)) std::erase(ranges, int(*number.find(r)));
      open.push_back(std::move(ranges));
    }
    lanes.resize(total);
    scopes.resize(order.size());
    for (U u : sink->src())
      for (int r : open[size_t(*number.find(u))])
        throw Error("nothing closes ", print_expression(order[size_t(r)]), " around ", u->op);
    build(int(order.size()) - 1);
  }
  // Lists what the scope of node `owner` evaluates; then does the same for the scopes found there.
  void build(int owner) {
    U u = order[size_t(owner)];
    Scope& scope = scopes[size_t(owner)];
    if (!scope.level.empty()) return;
    for (U r : closed(u))
      if (r->op == Op::RANGE) scope.ranges.push_back(int(*number.find(r)));
    std::vector<int> active = open[size_t(owner)];  // loops that run around one evaluation of the scope's body
    active.insert(active.end(), scope.ranges.begin(), scope.ranges.end());
    scope.level.resize(scope.ranges.size() + 1);
    std::vector<bool> seen(order.size(), false);
    seen[size_t(owner)] = true;
    std::vector<U> todo(u->src().begin(), u->src().begin() + i64(std::min<size_t>(first_range(u), u->nsrc)));
    for (U r : closed(u)) todo.insert(todo.end(), r->src().begin(), r->src().end());
    std::vector<int> mine;
    while (!todo.empty()) {
      U s = todo.back();
      todo.pop_back();
      int i = int(*number.find(s));
      if (seen[size_t(i)]) continue;
      seen[size_t(i)] = true;
      const auto& needs = open[size_t(i)];
      bool here = u->op == Op::SINK && needs.empty(), inside = true;
      for (int r : needs) {
        here |= std::count(scope.ranges.begin(), scope.ranges.end(), r) > 0;
        inside &= std::count(active.begin(), active.end(), r) > 0;
      }
      if (here && inside && s->op != Op::RANGE) mine.push_back(i);
      todo.insert(todo.end(), s->src().begin(), s->src().end());
    }
    std::sort(mine.begin(), mine.end());
    for (int i : mine) {
      size_t level = 0;
      for (size_t j = 0; j < scope.ranges.size(); j++)
        if (std::count(open[size_t(i)].begin(), open[size_t(i)].end(), scope.ranges[j])) level = j + 1;
      scope.level[level].push_back(i);
    }
    for (int i : mine)
      if (order[size_t(i)]->op == Op::STORE || order[size_t(i)]->op == Op::REDUCE) build(i);
  }
  template <class F>
  void run(int owner, size_t depth, F body) {
    const Scope& scope = scopes[size_t(owner)];
    for (int i : scope.level[depth]) compute(i);
    if (depth == scope.ranges.size()) return body();
    U r = order[size_t(scope.ranges[depth])];
    i64 bound = at(r->src(0))->i;
    Value* v = at(r);
    for (i64 i = 0; i < bound; i++) {
      v->i = i;
      run(owner, depth + 1, body);
    }
  }

  // The element that lane `lane` of INDEX u names; nullptr where its condition fails. PARAMs and LOCALs differ in
  // representation.
  struct Place {
    void* data;
    Value* local;
    i64 index;
  };
  std::optional<Place> place(U u, int lane) {
    check(u->op == Op::INDEX, "LOAD and STORE take an INDEX, not ", u->op);
    U base = u->src(0), offset = u->src(1);
    if (u->nsrc > 2 && !at(u->src(2))[u->src(2)->dtype.lanes > 1 ? lane : 0].i) return {};
    while (base->op == Op::AFTER) base = base->src(0);
    i64 index = offset->dtype.lanes > 1 ? at(offset)[lane].i : at(offset)->i + lane;
    i64 size = base->arg(1);
    if (base->op == Op::PARAM) {
      if (base->arg(0) < 0 || base->arg(0) >= i64(params.size()))
        throw Error("PARAM ", base->arg(0), " of a kernel that was given ", params.size());
      size = std::min(size, params[size_t(base->arg(0))].elements);
    }
    if (index < 0 || index >= size)
      throw Error("out of bounds: ", print_expression(u), " names element ", index, " of ", size);
    if (base->op == Op::PARAM) return Place{params[size_t(base->arg(0))].data, nullptr, index};
    check(base->op == Op::LOCAL, "INDEX of ", base->op);
    auto& memory = locals_of(base);
    return Place{nullptr, &memory[size_t(index)], index};
  }
  std::vector<Value>& locals_of(U local) {
    size_t i = size_t(*number.find(local));
    if (locals.size() <= i) locals.resize(i + 1);
    if (locals[i].empty()) locals[i].resize(size_t(local->arg(1)));
    return locals[i];
  }

  void compute(int i) {
    U u = order[size_t(i)];
    Value* out = &lanes[slot[size_t(i)]];
    int n = u->dtype.lanes;
    auto src = [&](int k, int lane) { return at(u->src(k))[u->src(k)->dtype.lanes > 1 ? lane : 0]; };
    switch (u->op) {
      case Op::CONST:
        for (int l = 0; l < n; l++) out[l] = const_value(u, l);
        return;
      case Op::PARAM:
      case Op::LOCAL:
      case Op::INDEX:
      case Op::SINK: return;
      case Op::LOAD:
        for (int l = 0; l < n; l++) {
          auto p = place(u->src(0), l);
          out[l] = !p ? Value{.i = 0} : p->local ? *p->local : load_element(p->data, p->index, u->dtype.element());
        }
        return;
      case Op::STORE:
        return run(i, 0, [&] {
          U value = u->src(1);
          for (int l = 0; l < value->dtype.lanes; l++) {
            auto p = place(u->src(0), l);
            if (!p) continue;
            if (p->local)
              *p->local = at(value)[l];
            else
              store_element(p->data, p->index, value->dtype.element(), at(value)[l]);
          }
        });
      case Op::REDUCE: {
        Op op = Op(u->arg(0));
        DType wide = accumulator(u->dtype);
        Values sum(size_t(n), identity_of(op, u->dtype));
        run(i, 0, [&] {
          for (int l = 0; l < u->src(0)->dtype.lanes; l++) {  // a vector reduced to fewer lanes folds onto them
            Value v = at(u->src(0))[l], &s = sum[size_t(l % n)];
            elementwise(op, wide, wide, 1, &s, &s, &v, &v, {});
          }
        });
        settle(sum.data(), n, u->dtype);
        std::copy(sum.begin(), sum.end(), out);
        return;
      }
      case Op::AFTER:
        if (u->src(0)->op != Op::LOCAL && u->src(0)->op != Op::PARAM)
          for (int l = 0; l < n; l++) out[l] = src(0, l);
        return;
      case Op::VECTORIZE: {
        int l = 0;
        for (U s : u->src())
          for (int k = 0; k < s->dtype.lanes; k++) out[l++] = at(s)[k];
        while (l < n) out[l++] = out[0];  // one source stands in every lane
        return;
      }
      case Op::EXTRACT:
        for (int l = 0; l < n; l++) out[l] = at(u->src(0))[u->arg(0) + l];
        return;
      case Op::CAST:
      case Op::BITCAST:
        for (int l = 0; l < n; l++) out[l] = src(0, l);
        return (u->op == Op::CAST ? convert_all : bitcast_all)(out, n, u->src(0)->dtype, u->dtype);
      default: break;
    }
    if (!has(u->op, ALU)) throw Error("cannot evaluate ", u->op, " in a kernel");
    const Value* in[3];
    std::array<i64, 3> step{};
    for (int k = 0; k < 3; k++) {
      U s = u->src(std::min(k, int(u->nsrc) - 1));
      in[k] = at(s), step[size_t(k)] = s->dtype.lanes > 1;
    }
    elementwise(u->op, u->dtype, u->src(0)->dtype, n, out, in[0], in[1], in[2], step);
  }
};

}  // namespace

Value evaluate_op(Op op, DType result, DType source, Value a, Value b, Value c) {
  Value out;
  if (op == Op::CAST || op == Op::BITCAST) {
    (op == Op::CAST ? convert_all : bitcast_all)(&a, 1, source, result);
    return a;
  }
  elementwise(op, result, source, 1, &out, &a, &b, &c, {});
  return out;
}

Value convert(Value v, DType from, DType to) { return convert_all(&v, 1, from, to), v; }

Value load_element(const void* memory, i64 index, DType dtype) {
  const u8* p = static_cast<const u8*>(memory) + index * dtype.bytes();
  auto read = [&]<class T>(T v) { return std::memcpy(&v, p, sizeof v), v; };
  switch (dtype.scalar) {
    case Scalar::F32: return {.f = read(float())};
    case Scalar::F64: return {.f = read(double())};
    case Scalar::I32: return {.i = read(i32())};
    default: break;
  }
  u64 bits = dtype.bytes() == 1   ? read(u8())
             : dtype.bytes() == 2 ? read(u16())
             : dtype.bytes() == 4 ? read(u32())
                                  : read(u64());
  return dtype.is_float() ? Value{.f = decode_float(bits, dtype)} : Value{.i = wrap_to(i64(bits), dtype)};
}

void store_element(void* memory, i64 index, DType dtype, Value v) {
  u64 bits = dtype.is_float() ? encode_float(v.f, dtype) : u64(v.i);  // low bytes first: the host is little-endian
  std::memcpy(static_cast<u8*>(memory) + index * dtype.bytes(), &bits, size_t(dtype.bytes()));
}

std::vector<u8> evaluate(U tensor, const std::function<Memory(U)>& memory_of) {
  TensorEvaluator e{memory_of};
  std::vector<U> order = toposort(tensor);
  for (U u : order)
    for (U s : u->src()) e.uses[s]++;
  for (U u : order) {
    Values v = e.value(u);
    e.values[u] = std::move(v);
    for (U s : u->src())
      if (--e.uses[s] == 0) Values().swap(*e.values.find(s));  // the last reader has been
  }
  const Values& root = e.of(tensor);
  std::vector<u8> out(root.size() * size_t(tensor->dtype.bytes()));
  for (size_t i = 0; i < root.size(); i++) store_element(out.data(), i64(i), tensor->dtype, root[i]);
  return out;
}

void evaluate_kernel(U sink, std::span<const Memory> params) {
  check(sink->op == Op::SINK, "a kernel is a SINK, not ", sink->op);
  KernelEvaluator e{params};
  e.prepare(sink);
  e.run(int(e.order.size()) - 1, 0, [] {});
}

}  // namespace ingot
