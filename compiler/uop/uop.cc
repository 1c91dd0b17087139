// SPDX-License-Identifier: MIT
// Arenas, interning, pins, and the graph walks that everything shares.
//
// A node is one block: the UOp, its sources, its arguments, its shape. An arena hands out blocks from chunks and finds
// equal nodes in an open-addressing table of pointers; the hash is kept in the node so that the table grows without
// reading sources. sweep() marks from the pins with a worklist and puts dead blocks on free lists by size. Nothing
// recurses: chains are as deep as a user's loop is long.
#include "compiler/uop/uop.h"
#include <unistd.h>
#include <algorithm>
#include <cmath>
#include <cstdlib>

namespace ingot {
namespace {

thread_local Arena* current_arena = nullptr;

u32 hash_node(Op op, DType dtype, std::span<const U> src, std::span<const i64> arg) {
  u64 h = (u64(op) << 32 | u64(dtype.scalar) << 16 | dtype.lanes) * 0x9E3779B97F4A7C15ull;
  for (U s : src) h = (h ^ (u64(s) >> 4)) * 0xBF58476D1CE4E5B9ull, h ^= h >> 29;
  for (i64 v : arg) h = (h ^ u64(v)) * 0x94D049BB133111EBull, h ^= h >> 31;
  return u32(h ^ h >> 32);
}

// The shape of a tensor node, written to `dims`; returns the number of axes. spec.cc says what is legal; here bad
// sources only must not read out of bounds.
int infer_shape(Op op, std::span<const U> src, std::span<const i64> arg, i64* dims) {
  auto take = [&](std::span<const i64> shape) {
    std::copy(shape.begin(), shape.end(), dims);
    return int(shape.size());
  };
  switch (op) {
    case Op::BUFFER: return take(arg.subspan(std::min<size_t>(2, arg.size())));
    case Op::IOTA:
    case Op::RESHAPE:
    case Op::EXPAND: return take(arg);
    case Op::PERMUTE: {
      for (size_t i = 0; i < arg.size(); i++) dims[i] = src[0]->dims[arg[i]];
      return int(arg.size());
    }
    case Op::GATHER: return take(src[1]->shape());
    case Op::ASSIGN:
    case Op::CONTIGUOUS:
    case Op::DETACH:
    case Op::COPY:
    case Op::FLIP: return take(src[0]->shape());
    case Op::PAD:
    case Op::SHRINK: {
      int n = take(src[0]->shape());
      check(arg.size() == size_t(2 * n), op, " of ", src[0]->shape(), " with ", arg);
      for (int i = 0; i < n; i++)
        dims[i] = op == Op::PAD ? dims[i] + arg[size_t(2 * i)] + arg[size_t(2 * i + 1)]
                                : arg[size_t(2 * i + 1)] - arg[size_t(2 * i)];
      return n;
    }
    case Op::WINDOW:
    case Op::UNWINDOW: {
      int n = take(src[0]->shape());
      dims[arg[0]] = arg[4];
      return n;
    }
    case Op::REDUCE_AXIS: {
      int n = take(src[0]->shape());
      for (i64 axis : arg.subspan(1)) dims[axis] = 1;
      return n;
    }
    default:
      if (has(op, ALU))
        for (U s : src)
          if (s->ndim) return take(s->shape());
      return 0;
  }
}

}  // namespace

std::optional<Op> op_from_name(std::string_view name) {
  for (int i = 0; i < int(Op::COUNT); i++)
    if (name == op_rows[i].name) return Op(i);
  return std::nullopt;
}

i64 UOp::elements() const {
  i64 n = 1;
  for (i64 d : shape()) n *= d;
  return n;
}
double UOp::const_float() const { return std::bit_cast<double>(arg(0)); }

Arena::Arena() : table_(256) { environment_to_thread(); }
Arena::~Arena() {
  for (U u : table_)
    if (u && (sizeof(UOp) + u->nsrc * sizeof(U) + (u->narg + u->ndim) * sizeof(i64) + 15) / 16 >= free_.size())
      std::free(const_cast<UOp*>(u));
  for (char* chunk : chunks_) std::free(chunk);
}

Arena&
Arena::main() {  // the first thread's is never destroyed: a Tensor at namespace scope may outlive every destructor
  struct Owner {
    Arena* arena = new Arena;
    ~Owner() {
      if (gettid() != getpid()) delete arena;
    }
  };
  thread_local Owner owner;
  return *owner.arena;
}
Arena& Arena::current() { return current_arena ? *current_arena : main(); }
ArenaScope::ArenaScope(Arena& arena) : outer(current_arena) { current_arena = &arena; }
ArenaScope::~ArenaScope() { current_arena = outer; }

void* Arena::allocate(size_t bytes) {
  size_t units = (bytes + 15) / 16;
  if (units >= free_.size()) return std::malloc(bytes);
  if (void* p = free_[units]) {
    std::memcpy(&free_[units], p, sizeof(void*));
    return p;
  }
  if (size_t(end_ - next_) < units * 16) {
    size_t size = chunks_.empty() ? 1 << 14 : chunks_.size() < 4 ? 1 << 17 : 1 << 20;
    next_ = static_cast<char*>(std::malloc(size));
    check(next_, "out of memory for UOps");
    end_ = next_ + size;
    chunks_.push_back(next_);
  }
  void* p = next_;
  next_ += units * 16;
  return p;
}

void Arena::grow() {
  std::vector<U> old(table_.size() * 2);
  old.swap(table_);
  for (U u : old) {
    if (!u) continue;
    size_t i = u->hash & (table_.size() - 1);
    while (table_[i]) i = (i + 1) & (table_.size() - 1);
    table_[i] = u;
  }
}

U Arena::make(Op op, DType dtype, std::span<const U> src, std::span<const i64> arg) {
  U swapped[2];
  if (has(op, COMMUTES) && src.size() == 2 && src[0]->is_const() && !src[1]->is_const()) {
    swapped[0] = src[1], swapped[1] = src[0];  // constants stand second, so that rules and interning see one order
    src = swapped;
  }
  u32 hash = hash_node(op, dtype, src, arg);
  size_t i = hash & (table_.size() - 1);
  for (; table_[i]; i = (i + 1) & (table_.size() - 1)) {
    U u = table_[i];
    if (u->hash == hash && u->op == op && u->dtype == dtype && std::ranges::equal(u->src(), src) &&
        std::ranges::equal(u->arg(), arg))
      return u;
  }
  check(row(op).sources < 0 || size_t(row(op).sources) == src.size(), op, " takes ", row(op).sources, " sources, not ",
        src.size());
  if (ctx.SPEC > 1) {
    std::string why = malformed(op, dtype, src, arg);
    check(why.empty(), op, ' ', dtype, ' ', why);
  }
  i64 dims[256];
  size_t most = arg.size();
  for (U s : src) most = std::max<size_t>(most, s->ndim);
  check(most < 256 || !has(op, TENSOR), op, ": more than 255 axes");
  int ndim = has(op, TENSOR) || has(op, ALU) ? infer_shape(op, src, arg, dims) : 0;
  size_t bytes = sizeof(UOp) + src.size() * sizeof(U) + (arg.size() + size_t(ndim)) * sizeof(i64);
  UOp* u = static_cast<UOp*>(allocate(bytes));
  U* to_src = reinterpret_cast<U*>(u + 1);
  i64* to_arg = reinterpret_cast<i64*>(to_src + src.size());
  std::copy(src.begin(), src.end(), to_src);
  std::copy(arg.begin(), arg.end(), to_arg);
  std::copy(dims, dims + ndim, to_arg + arg.size());
  u->op = op, u->ndim = u8(ndim), u->dtype = dtype, u->nsrc = u32(src.size()), u->narg = u32(arg.size()),
  u->hash = hash;
  u->mark = 0, u->settled = 0, u->dims = to_arg + arg.size();
  Bounds b = bounds_of(op, dtype, {to_src, src.size()}, {to_arg, arg.size()});
  u->min = b.min, u->max = b.max;
  table_[i] = u;
  if (++count_ * 2 > table_.size()) grow();
  return u;
}

size_t Arena::sweep() {
  std::vector<U> work;
  for (Pin* p = pins_; p; p = p->next())
    if (**p) work.push_back(**p);
  while (!work.empty()) {
    U u = work.back();
    work.pop_back();
    if (u->mark) continue;
    u->mark = 1;
    for (U s : u->src())
      if (!s->mark) work.push_back(s);
  }
  std::vector<U> dead, kept;
  for (U u : table_)
    if (u) (u->mark ? kept : dead).push_back(u);
  for (U u : kept) u->mark = 0;
  if (on_free)
    for (U u : dead) on_free(u);
  size_t live = kept.size();
  size_t size = 256;
  while (size < live * 4) size *= 2;
  table_.assign(size, nullptr);
  for (U u : kept) {
    size_t i = u->hash & (size - 1);
    while (table_[i]) i = (i + 1) & (size - 1);
    table_[i] = u;
  }
  for (U u : dead) {
    size_t units = (sizeof(UOp) + u->nsrc * sizeof(U) + (u->narg + u->ndim) * sizeof(i64) + 15) / 16;
    void* block = const_cast<UOp*>(u);
    if (units >= free_.size()) {
      std::free(block);
    } else {
      std::memcpy(block, &free_[units], sizeof(void*));
      free_[units] = block;
    }
  }
  count_ = live;
  return dead.size();
}

Pin::Pin(U u) : u_(u), arena_(&Arena::current()), next_(arena_->pins_), previous_(nullptr) {
  if (next_) next_->previous_ = this;
  arena_->pins_ = this;
}
Pin::~Pin() {
  if (next_) next_->previous_ = previous_;
  (previous_ ? previous_->next_ : arena_->pins_) = next_;
}

U make_alu(Op op, U a, U b, U c) {
  U src[] = {a, b, c};
  DType dtype = op == Op::WHERE ? b->dtype : has(op, TO_BOOL) ? BOOL.with_lanes(a->dtype.lanes) : a->dtype;
  return make(op, dtype, std::span<const U>(src, c ? 3 : b ? 2 : 1));
}
U constant(DType dtype, i64 value) {
  if (dtype.is_float()) return constant_float(dtype, double(value));
  return make(Op::CONST, dtype, {}, {wrap_to(value, dtype)});
}
U constant_float(DType dtype, double value) {
  if (!dtype.is_float()) return constant(dtype, i64(value));
  return make(Op::CONST, dtype, {}, {std::bit_cast<i64>(round_to(value, dtype))});
}
U index_constant(i64 value) { return make(Op::CONST, IDX, {}, {value}); }
U cast(U x, DType dtype) { return x->dtype == dtype ? x : make(Op::CAST, dtype, {x}); }
U with_sources(U u, std::span<const U> src) {
  return std::ranges::equal(u->src(), src) ? u : make(u->op, u->dtype, src, u->arg());
}

std::vector<U> toposort(std::span<const U> roots) {
  std::vector<U> order;
  std::vector<std::pair<U, u32>> stack;
  UMap<bool> seen;
  for (U root : roots) {
    if (!root || seen.contains(root)) continue;
    seen[root] = true;
    stack.push_back({root, 0});
    while (!stack.empty()) {
      auto& [u, next] = stack.back();
      if (next == u->nsrc) {
        order.push_back(u);
        stack.pop_back();
        continue;
      }
      U s = u->src(int(next++));
      if (!seen.contains(s)) {
        seen[s] = true;
        stack.push_back({s, 0});
      }
    }
  }
  return order;
}

U import(U root) {
  UMap<U> copy;
  std::vector<U> src;
  for (U u : toposort(root)) {
    src.clear();
    for (U s : u->src()) src.push_back(*copy.find(s));
    copy[u] = make(u->op, u->dtype, src, u->arg());
  }
  return *copy.find(root);
}

u64 structural_hash(U root) {
  UMap<u64> hashes;
  std::vector<u64> words;
  for (U u : toposort(root)) {
    words.assign({u64(u->op) << 32 | u64(u->dtype.scalar) << 16 | u->dtype.lanes, u->nsrc});
    for (U s : u->src()) words.push_back(*hashes.find(s));
    for (i64 v : u->arg()) words.push_back(u64(v));
    hashes[u] = hash_bytes(words.data(), words.size() * 8);
  }
  return *hashes.find(root);
}

namespace {
bool both_const(Expr a, Expr b) { return a.u->is_const() && b.u->is_const(); }
}  // namespace
Expr operator+(Expr a, Expr b) {
  if (both_const(a, b)) return a.u->arg(0) + b.u->arg(0);
  return a.u->is_const(0) ? b : b.u->is_const(0) ? a : Expr(make_alu(Op::ADD, a, b));
}
Expr operator-(Expr a, Expr b) {
  if (both_const(a, b)) return a.u->arg(0) - b.u->arg(0);
  return b.u->is_const(0) ? a : a + b * -1;
}
Expr operator*(Expr a, Expr b) {
  if (both_const(a, b)) return a.u->arg(0) * b.u->arg(0);
  if (a.u->is_const(0) || b.u->is_const(0)) return 0;
  return a.u->is_const(1) ? b : b.u->is_const(1) ? a : Expr(make_alu(Op::MUL, a, b));
}
Expr operator/(Expr a, Expr b) {
  if (both_const(a, b) && b.u->arg(0)) {
    i64 q = a.u->arg(0) / b.u->arg(0), r = a.u->arg(0) % b.u->arg(0);
    return q - (r && (r < 0) != (b.u->arg(0) < 0));
  }
  return b.u->is_const(1) ? a : Expr(make_alu(Op::IDIV, a, b));
}
Expr operator%(Expr a, Expr b) {
  if (both_const(a, b) && b.u->arg(0)) return a - a / b * b;
  return b.u->is_const(1) ? Expr(0) : Expr(make_alu(Op::MOD, a, b));
}
Expr operator<(Expr a, Expr b) { return make_alu(Op::CMPLT, a, b); }
Expr operator>=(Expr a, Expr b) { return make_alu(Op::XOR, make_alu(Op::CMPLT, a, b), constant(BOOL, 1)); }
Expr operator==(Expr a, Expr b) { return make_alu(Op::CMPEQ, a, b); }
Expr operator&&(Expr a, Expr b) {
  if (!a.u || !b.u) return a.u ? a : b;
  return a.u == b.u ? a : Expr(make_alu(Op::AND, a, b));
}

}  // namespace ingot
