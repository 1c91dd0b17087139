// SPDX-License-Identifier: MIT
// What a legal graph is.
//
// malformed() says why arguments, sources and dtype do not fit an op at all: how many, axes that do not exist, shapes
// that overflow, dtypes that differ. Arena::make relies on it, so whoever makes nodes from text asks it first.
// check_spec() says whether a graph is one that a stage may hold. A stage is a list of rules: a node is legal if the
// pattern and the guard of one of them hold; the right sides are not used. The Error names the pass, the node and the
// rule that it came closest to.
#include <algorithm>

#include "compiler/uop/uop.h"

namespace ingot {
namespace {
using namespace holes;
using Shape = std::span<const i64>;

std::string shape_trouble(Shape shape) {
  i64 n = 1;
  if (shape.size() > 64) return str(shape.size(), " axes, of which 64 are possible");
  for (i64 d : shape)
    if (d < 0 || __builtin_mul_overflow(n, std::max<i64>(d, 1), &n) || n > i64(1) << 48)
      return str("no shape is ", shape);
  return {};
}
i64 elements_of(Shape shape) {
  i64 n = 1;
  for (i64 d : shape) n *= d;
  return n;
}
bool reduces(Op op, DType dtype) {
  if (op == Op::AND || op == Op::OR) return dtype.is_bool() || dtype.is_int();
  return op == Op::MAX || op == Op::MIN || ((op == Op::ADD || op == Op::MUL) && !dtype.is_bool());
}

std::string malformed_movement(Op op, Shape in, Shape arg) {
  constexpr i64 limit = i64(1) << 40;  // of an argument: products of two stay far from 64 bits
  size_t n = in.size();
  auto takes = [&](size_t count) { return str("takes ", count, " arguments on shape ", in, ", not ", arg); };
  if (!std::ranges::all_of(arg, [](i64 v) { return v >= 0 && v <= limit; }))
    return str("arguments out of range: ", arg);
  std::vector<i64> out(in.begin(), in.end());
  switch (op) {
    case Op::RESHAPE:
      out.assign(arg.begin(), arg.end());
      if (std::string why = shape_trouble(out); !why.empty()) return why;
      return elements_of(in) == elements_of(out) ? "" : str("cannot give ", in, " the shape ", out);
    case Op::EXPAND:
      if (arg.size() != n) return takes(n);
      for (size_t i = 0; i < n; i++)
        if (in[i] != 1 && in[i] != arg[i]) return str("cannot expand ", in, " to ", arg);
      return shape_trouble(arg);
    case Op::PERMUTE:
      if (arg.size() != n) return takes(n);
      out.assign(arg.begin(), arg.end());
      std::ranges::sort(out);
      for (size_t i = 0; i < n; i++)
        if (out[i] != i64(i)) return str(arg, " is no order of ", n, " axes");
      return {};
    case Op::PAD:
    case Op::SHRINK:
      if (arg.size() != 2 * n) return takes(2 * n);
      for (size_t i = 0; i < n; i++) {
        if (op == Op::SHRINK && (arg[2 * i] > arg[2 * i + 1] || arg[2 * i + 1] > in[i]))
          return str("cannot cut ", arg, " out of ", in);
        if (op == Op::PAD) out[i] += arg[2 * i] + arg[2 * i + 1];
      }
      return shape_trouble(out);
    case Op::FLIP:
      if (arg.size() != n) return takes(n);
      return std::ranges::all_of(arg, [](i64 v) { return v <= 1; }) ? "" : str("takes 0 or 1 for each axis, not ", arg);
    default: break;
  }
  if (arg.size() != 5) return takes(5);  // WINDOW, UNWINDOW
  i64 i = arg[0], k = arg[1], stride = arg[2], dilation = arg[3], count = arg[4];
  if (i >= i64(n) || k >= i64(n) || i == k) return str("axes ", i, " and ", k, " of ", in);
  if (stride < 1) return "a stride is at least 1";
  i64 last = (count - 1) * stride + (in[size_t(k)] - 1) * dilation;
  if (op == Op::WINDOW && count > 0 && in[size_t(k)] > 0 && last >= in[size_t(i)])
    return str("window ", arg, " ends at ", last, " of ", in);
  out[size_t(i)] = count;
  return shape_trouble(out);
}

std::string malformed_elementwise(Op op, DType dtype, std::span<const U> src, Shape arg) {
  const OpRow& r = row(op);
  if (!arg.empty()) return str("takes no arguments, not ", arg);
  Shape shape;
  for (U s : src) {
    if (s->dtype.lanes != dtype.lanes && op != Op::BITCAST)
      return str("has ", dtype.lanes, " lanes, a source ", s->dtype.lanes);
    if (s->dtype.scalar == Scalar::VOID) return str("of an effect, ", s->op);
    if (s->ndim && !shape.empty() && !std::ranges::equal(shape, s->shape()))
      return str("of shapes ", shape, " and ", s->shape());
    if (s->ndim) shape = s->shape();
  }
  if (op == Op::CAST) return dtype.scalar == Scalar::VOID ? "to void" : "";
  if (op == Op::BITCAST)
    return dtype.bits() * dtype.lanes == src[0]->dtype.bits() * src[0]->dtype.lanes && !dtype.is_bool()
               ? ""
               : str("of ", src[0]->dtype, " to ", dtype);
  size_t first = op == Op::WHERE;
  if (first && !src[0]->dtype.is_bool()) return str("chooses by a bool, not ", src[0]->dtype);
  DType in = src[first]->dtype;
  for (U s : src.subspan(first))
    if (s->dtype != in) return str("of ", in, " and ", s->dtype);
  if (dtype != (has(op, TO_BOOL) ? BOOL.with_lanes(in.lanes) : in)) return str("of ", in, " cannot be ", dtype);
  int p = r.properties;
  bool fits = in.is_float() ? p & (NUMERIC | FLOAT_ONLY) : in.is_bool() ? p & LOGIC : p & (NUMERIC | INTEGER);
  return fits ? "" : str("does not exist for ", in);
}

}  // namespace

std::string malformed(Op op, DType dtype, std::span<const U> src, std::span<const i64> arg) {
  const OpRow& r = row(op);
  if (r.sources >= 0 && src.size() != size_t(r.sources)) return str("takes ", r.sources, " sources, not ", src.size());
  if (dtype.lanes < 1 || dtype.lanes > 1024) return str(dtype.lanes, " lanes");
  auto source = [&](size_t i) { return i < src.size() ? src[i] : nullptr; };
  U x = source(0), y = source(1);
  if (has(op, ALU)) return malformed_elementwise(op, dtype, src, arg);
  bool passes = has(op, MOVEMENT) || op == Op::CONTIGUOUS || op == Op::DETACH || op == Op::COPY ||
                op == Op::REDUCE_AXIS || op == Op::GATHER || op == Op::ASSIGN;
  if (passes && x->dtype != dtype) return str("of ", x->dtype, " cannot be ", dtype);
  if (has(op, MOVEMENT)) return malformed_movement(op, x->shape(), arg);
  auto takes = [&](size_t n) { return arg.size() == n ? std::string() : str("takes ", n, " arguments, not ", arg); };
  switch (op) {
    case Op::CONST:
      if (dtype.scalar == Scalar::VOID) return "a constant has a value";
      if (arg.size() != 1 && arg.size() != dtype.lanes)
        return str("takes one value or ", dtype.lanes, ", not ", arg.size());
      for (i64 v : arg) {
        double f = __builtin_bit_cast(double, v);
        if (dtype.is_float() ? f == f && round_to(f, dtype) != f : wrap_to(v, dtype) != v)
          return str("a value is no ", dtype.element());
      }
      return {};
    case Op::BUFFER: return arg.size() < 2 ? "takes an id, a device number and a shape" : shape_trouble(arg.subspan(2));
    case Op::IOTA:
      if (!dtype.is_int() && !dtype.is_float()) return str("counts in numbers, not ", dtype);
      return arg.size() != 1 ? takes(1) : shape_trouble(arg);
    case Op::REDUCE_AXIS: {
      if (arg.empty() || arg[0] < 0 || arg[0] >= i64(Op::COUNT) || !reduces(Op(arg[0]), dtype))
        return str("cannot reduce ", dtype, " with ", arg);
      std::vector<bool> seen(x->ndim);
      for (i64 axis : arg.subspan(1)) {
        if (axis < 0 || axis >= x->ndim || seen[size_t(axis)])
          return str("over axes ", arg.subspan(1), " of ", x->shape());
        seen[size_t(axis)] = true;
      }
      return {};
    }
    case Op::GATHER:
      if (arg.size() != 1) return takes(1);
      if (!y->dtype.is_int()) return str("takes integer indices, not ", y->dtype);
      if (arg[0] < 0 || arg[0] >= x->ndim || x->ndim != y->ndim)
        return str("axis ", arg, " of ", x->shape(), " at ", y->shape());
      for (int i = 0; i < x->ndim; i++)
        if (i != arg[0] && y->dims[i] > x->dims[i]) return str("of ", x->shape(), " at ", y->shape());
      return {};
    case Op::ASSIGN: {
      if (y->dtype != dtype) return str("of ", y->dtype, " to ", dtype);
      std::vector<i64> region(x->shape().begin(), x->shape().end());
      if (!arg.empty() && arg.size() != 2 * region.size()) return takes(2 * region.size());
      for (size_t i = 0; 2 * i < arg.size(); i++) {
        if (arg[2 * i] < 0 || arg[2 * i] > arg[2 * i + 1] || arg[2 * i + 1] > region[i])
          return str("to ", arg, " of ", x->shape());
        region[i] = arg[2 * i + 1] - arg[2 * i];
      }
      return !y->ndim || std::ranges::equal(region, y->shape()) ? "" : str("of ", y->shape(), " to ", region);
    }
    case Op::CONTIGUOUS:
    case Op::DETACH: return takes(0);
    case Op::COPY: return takes(1);
    case Op::PARAM: return arg.size() != 2 ? takes(2) : arg[0] < 0 || arg[1] < 0 ? str("no buffer is ", arg) : "";
    case Op::LOCAL:
      return arg.size() != 3 ? takes(3) : arg[1] < 0 || arg[1] > i64(1) << 40 ? str("no memory is ", arg) : "";
    case Op::RANGE:
      if (dtype != IDX || x->dtype != IDX) return "a loop variable and its bound are idx";
      return arg.size() != 2                                 ? takes(2)
             : arg[1] < 0 || arg[1] > i64(RangeKind::VECTOR) ? str("no kind is ", arg[1])
                                                             : "";
    case Op::INDEX: {
      if (src.size() < 2 || src.size() > 3) return "takes memory, an offset and perhaps a condition";
      U memory = x;
      while ((memory->op == Op::AFTER || (memory->op == Op::INDEX && memory->dtype == VOID)) && memory->nsrc)
        memory = memory->src(0);
      if (arg.size() == 1 && y->dtype.is_int()) return "";  // an address in bytes
      if (memory->op != Op::PARAM && memory->op != Op::LOCAL) return str("into ", memory->op);
      if (memory->dtype.scalar != dtype.scalar &&
          !(memory->dtype.is_bool() && dtype.scalar == Scalar::U8))  // lanes of bool
        return str("of ", memory->dtype, " cannot be ", dtype);
      if (y->dtype.scalar != Scalar::IDX) return str("by ", y->dtype, " instead of idx");
      if (src.size() == 3 && !src[2]->dtype.is_bool()) return str("under ", src[2]->dtype, " instead of bool");
      for (U s : src.subspan(1))
        if (s->dtype.lanes != 1 && s->dtype.lanes != dtype.lanes) return str("of ", dtype, " by ", s->dtype);
      return takes(0);
    }
    case Op::LOAD:
      if (x->op != Op::INDEX) return str("of ", x->op);
      return x->dtype != dtype ? str("of ", x->dtype, " cannot be ", dtype) : takes(0);
    case Op::STORE:
      if (!y || x->op != Op::INDEX) return "takes an INDEX and a value";
      return x->dtype != y->dtype ? str("of ", y->dtype, " to ", x->dtype) : takes(0);
    case Op::REDUCE:
      if (!x || x->dtype.scalar != dtype.scalar || x->dtype.lanes % dtype.lanes) return "takes a value of its dtype";
      if (arg.size() != 1 && arg.size() != 2) return takes(1);  // expanded: also its accumulator's id
      return arg[0] >= 0 && arg[0] < i64(Op::COUNT) && reduces(Op(arg[0]), dtype)
                 ? ""
                 : str("cannot reduce ", dtype, " with ", arg);
    case Op::AFTER: return !x || x->dtype != dtype ? "takes a value of its dtype" : takes(0);
    case Op::VECTORIZE: {
      int lanes = 0;
      for (U s : src) {
        if (s->dtype.scalar != dtype.scalar) return str("of ", s->dtype, " cannot be ", dtype);
        lanes += s->dtype.lanes;
      }
      return lanes == dtype.lanes || (src.size() == 1 && lanes == 1) ? takes(0)
                                                                     : str(lanes, " lanes cannot be ", dtype);
    }
    case Op::MATRIX: {
      if (src.size() < 2 || src.size() > 3 || x->dtype != y->dtype)
        return "takes two operands of a dtype, and perhaps a sum";
      return src.size() == 3 && src[2]->dtype != dtype ? str("of ", dtype, " plus ", src[2]->dtype) : takes(0);
    }
    case Op::EXTRACT:
      if (!x || src.size() > 2 || (y && y->dtype.scalar != Scalar::IDX)) return "takes a vector and perhaps an idx";
      if (x->dtype.element() != dtype.element()) return str("of ", x->dtype, " cannot be ", dtype);
      return arg.size() != 1                                       ? takes(1)
             : arg[0] < 0 || arg[0] + dtype.lanes > x->dtype.lanes ? str("lane ", arg[0], " of ", x->dtype)
                                                                   : "";
    default: return {};
  }
}

namespace {

constexpr auto scalar_tensor = [](const Match& m) { return m.root->dtype.lanes == 1; };
constexpr auto to_buffer = [](const Match& m) {
  U base = m.root;
  while (base->op == Op::ASSIGN || base->op == Op::AFTER) base = base->src(0);
  return base->op == Op::BUFFER;
};
constexpr auto no_shape = [](const Match& m) { return m.root->ndim == 0; };
constexpr auto ranges_follow = [](const Match& m) {
  for (U r : m.root->src().subspan(m.root->op == Op::STORE ? 2 : 1))
    if (r->op != Op::RANGE) return false;
  return true;
};
constexpr auto effects_only = [](const Match& m) {
  return std::ranges::all_of(m.root->src(), [](U s) { return s->op == Op::STORE || s->op == Op::AFTER; });
};
constexpr auto kept_loop = [](const Match& m) {
  return m.root->range_kind() != RangeKind::UNROLL && m.root->range_kind() != RangeKind::VECTOR;
};

// The elementwise ops, as any() takes them.
// clang-format off
#define ELEMENTWISE(guard)                                                                                    \
  {any({Op::CAST, Op::BITCAST, Op::NEG, Op::RECIP, Op::SQRT, Op::RSQRT, Op::EXP2, Op::LOG2}, x), 1, guard},   \
  {any({Op::EXP, Op::LOG, Op::SIN, Op::COS, Op::TAN, Op::TANH, Op::ERF}, x), 1, guard},                       \
  {any({Op::TRUNC, Op::FLOOR, Op::ROUND}, x), 1, guard},                                                      \
  {any({Op::ADD, Op::SUB, Op::MUL, Op::FDIV, Op::IDIV, Op::MOD, Op::POW, Op::MAX}, x, y), 1, guard},          \
  {any({Op::MIN, Op::AND, Op::OR, Op::XOR, Op::SHL, Op::SHR, Op::CMPLT}, x, y), 1, guard},                    \
  {any({Op::CMPEQ, Op::CMPNE}, x, y), 1, guard},                                                              \
  {any({Op::WHERE, Op::FMA}, x, y, z), 1, guard}

constexpr Rule tensor_table[] = {
  {any({Op::CONST, Op::BUFFER, Op::IOTA}), 1, scalar_tensor},
  {any({Op::RESHAPE, Op::EXPAND, Op::PERMUTE, Op::PAD, Op::SHRINK, Op::FLIP}, x), 1, scalar_tensor},
  {any({Op::WINDOW, Op::UNWINDOW, Op::REDUCE_AXIS, Op::CONTIGUOUS, Op::DETACH, Op::COPY}, x), 1, scalar_tensor},
  {op(Op::GATHER, x, y),  1, scalar_tensor},
  {op(Op::ASSIGN, x, y),  1, to_buffer},
  {op(Op::AFTER, x),      1, scalar_tensor},
  {any({Op::SINK}),       1},
  ELEMENTWISE(scalar_tensor),
};
constexpr Rule kernel_table[] = {
  {any({Op::CONST, Op::PARAM, Op::LOCAL}), 1},
  {op(Op::RANGE, x),      1},
  {op(Op::INDEX, x, y),   1},
  {op(Op::LOAD, x),       1},
  {op(Op::STORE, x, y),   1, ranges_follow},
  {op(Op::REDUCE, x),     1, ranges_follow},
  {op(Op::AFTER, x),      1},
  {any({Op::VECTORIZE, Op::EXTRACT}, x), 1},
  {op(Op::MATRIX, x, y), 1},
  {any({Op::SINK}),       1, effects_only},
  ELEMENTWISE(no_shape),
};
constexpr Rule expanded_table[] = {
  {any({Op::CONST, Op::PARAM, Op::LOCAL, Op::ACC}), 1},
  {op(Op::RANGE, x),      1, kept_loop},
  {op(Op::INDEX, x, y),   1},
  {op(Op::LOAD, x),       1},
  {op(Op::STORE, x, y),   1, ranges_follow},
  {op(Op::REDUCE, x),     1, ranges_follow},
  {op(Op::AFTER, x),      1},
  {any({Op::VECTORIZE, Op::EXTRACT}, x), 1},
  {any({Op::SINK}),       1, effects_only},
  ELEMENTWISE(no_shape),
};
// clang-format on
#undef ELEMENTWISE

struct StageRow {
  const char* name;
  std::span<const Rule> rules;
};
constexpr StageRow stages[] = {{"tensor", tensor_table}, {"kernel", kernel_table}, {"expanded", expanded_table}};

}  // namespace

void check_spec(U root, Stage stage, std::string_view after_pass) {
  const StageRow& s = stages[int(stage)];
  std::array<std::array<const Rule*, 4>, int(Op::COUNT)> candidates{};  // by root op
  for (const Rule& r : s.rules) {
    const Pat::Term& t = r.left.term[0];
    auto add = [&](u8 op) {
      if (op < int(Op::COUNT)) *std::find(candidates[op].begin(), candidates[op].end(), nullptr) = &r;
    };
    if (t.kind == Pat::Term::NODE)
      add(t.v);
    else
      for (int shift = 0; shift < 64; shift += 8) add(u8(t.imm >> shift));
  }
  UMap<u64> open;  // loops around a node, a bit each; those beyond 64 are not followed
  UMap<int> loop;
  for (U u : toposort(root)) {
    auto fail = [&](const std::string& why) {
      throw Error("after ", after_pass, ", an illegal ", s.name, " graph: ", u->op, ' ', u->dtype, ' ', why, ": ", u);
    };
    if (std::string why = malformed(u->op, u->dtype, u->src(), u->arg()); !why.empty()) fail(why);
    const Rule* broken = nullptr;
    bool legal = false;
    for (const Rule* r : candidates[int(u->op)]) {
      if (!r || legal) break;
      Match m;
      m.root = u;
      broken = r;
      legal = match(r->left, u, m) && (!r->guard_function || r->guard_function(m));
    }
    if (!legal)
      fail(broken ? str("breaks the rule ", *broken, " of spec.cc:", broken->line) : str("does not belong there"));
    if (stage == Stage::TENSOR) continue;
    u64 around = 0;
    for (U x : u->src()) around |= *open.find(x);
    if (u->op == Op::RANGE) {
      int n = int(loop.size());
      loop[u] = n;
      if (n < 64) around |= u64(1) << n;
    }
    if (u->op == Op::STORE || u->op == Op::REDUCE)
      for (U r : u->src().subspan(u->op == Op::STORE ? 2 : 1))
        if (int n = *loop.find(r); n < 64) around &= ~(u64(1) << n);
    if (u->op == Op::SINK && around) fail("holds a loop that nothing closes");
    open[u] = around;
  }
}

}  // namespace ingot
