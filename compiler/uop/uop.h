// SPDX-License-Identifier: MIT
// The IR: one immutable, interned graph of UOps from the lazy tensor down to the loops of a kernel, and rewrite rules
// over it.
//
// A UOp is an op, a dtype, sources and a list of integer arguments; op.def says what each means. Making the same node
// twice gives the same pointer, so equality of pointers is equality of structure within an arena. A UOp belongs to the
// thread's current arena and lives until that arena's sweep finds no Pin above it. Nothing here knows that devices
// exist.
//
// Two levels share the ops (spec.cc states each as rules):
//   tensors: BUFFER, CONST, IOTA, movement ops, REDUCE_AXIS, GATHER, ASSIGN … and elementwise ops. Every node has a
//   shape. The
//            sources of an elementwise op have one shape, or shape () which stands for every element.
//   kernels: SINK(STORE(INDEX(PARAM, idx[, condition]), value, RANGE …) …). Values are scalars or short vectors. Loops
//   are RANGEs;
//            REDUCE closes its ranges around a value, STORE closes its ranges around itself.
#pragma once
#include <array>
#include <optional>
#include <type_traits>
#include "userspace/base/base.h"

namespace ingot {

// ---- dtype.cc ------------------------------------------------------------------------------------------------------
enum class Scalar : u8 {
#define DTYPE(name, ...) name,
#include "compiler/uop/dtype.def"
#undef DTYPE
};
enum class Kind : u8 { NONE, BOOLEAN, SIGNED, UNSIGNED, FLOATING };
enum class Specials : u8 { IEEE, FN, FNUZ };
struct DTypeRow {
  const char *name, *torch_name;
  Kind kind;
  u8 bits, exponent_bits, mantissa_bits;
  i16 bias;
  Specials specials;
};
inline constexpr DTypeRow dtype_rows[] = {
#define DTYPE(name, text, torch, kind, bits, e, m, bias, specials) \
  {text, torch, Kind::kind, bits, e, m, bias, Specials::specials},
#include "compiler/uop/dtype.def"
#undef DTYPE
};
struct DType {
  Scalar scalar = Scalar::VOID;
  u16 lanes = 1;
  constexpr bool operator==(const DType&) const = default;
  constexpr const DTypeRow& row() const { return dtype_rows[int(scalar)]; }
  constexpr int bits() const { return row().bits; }   // of one lane, as stored; a bool is a byte, 0 or 1
  constexpr int bytes() const { return bits() / 8; }  // of one lane
  constexpr bool is_float() const { return row().kind == Kind::FLOATING; }
  constexpr bool is_signed() const { return row().kind == Kind::SIGNED; }
  constexpr bool is_unsigned() const { return row().kind == Kind::UNSIGNED; }
  constexpr bool is_int() const { return is_signed() || is_unsigned(); }
  constexpr bool is_bool() const { return scalar == Scalar::BOOL; }
  constexpr DType with_lanes(int n) const { return {scalar, u16(n)}; }
  constexpr DType element() const { return {scalar, 1}; }
};
#define DTYPE(name, ...) inline constexpr DType name{Scalar::name};
#include "compiler/uop/dtype.def"
#undef DTYPE
void append(std::string& out, DType dtype);                   // "f32", "f32x8"
std::optional<DType> dtype_from_name(std::string_view name);  // either spelling: "f32", "float32", "f32x8"
DType promote(DType a, DType b);                              // JAX's lattice; Error never
u64 encode_float(double value, DType dtype);                  // to nearest even; the bits in the low bits of the result
double decode_float(u64 bits, DType dtype);                   // exact
double round_to(double value, DType dtype);                   // decode(encode)
i64 wrap_to(i64 value, DType dtype);                          // two's complement, sign- or zero-extended; bool: != 0

// ---- uop.cc --------------------------------------------------------------------------------------------------------
enum class Op : u8 {
#define OP(name, ...) name,
#include "compiler/uop/op.def"
#undef OP
  COUNT
};
enum OpProperty : u16 {
  LEAF = 1,
  TENSOR = 2,
  MOVEMENT = 4,
  ALU = 8,
  KERNEL = 16,
  COMMUTES = 32,
  ASSOCIATES = 64,
  TO_BOOL = 128,
  NUMERIC = 256,  // integers and floats
  FLOAT_ONLY = 512,
  INTEGER = 1024,
  LOGIC = 2048,  // also bool
};
struct OpRow {
  const char* name;
  int sources;  // -1: variable
  u16 properties;
  const char* doc;
};
inline constexpr OpRow op_rows[] = {
#define OP(name, sources, properties, value, doc) {#name, sources, u16(properties), doc},
#include "compiler/uop/op.def"
#undef OP
};
constexpr const OpRow& row(Op op) { return op_rows[int(op)]; }
constexpr bool has(Op op, OpProperty p) { return row(op).properties & p; }
inline void append(std::string& out, Op op) { out += row(op).name; }
std::optional<Op> op_from_name(std::string_view name);

enum class RangeKind : i64 {  // second argument of RANGE
  LOOP,                       // every value of it is independent: may become threads, lanes, unrolled copies
  REDUCE,                     // closed by a REDUCE
  THREAD,  // split over the cores (or workgroups); at most one per kernel on a CPU, and then outermost
  UNROLL,  // expanded into copies before linearisation
  VECTOR,  // becomes the lanes of vectors
};

class UOp;
using U = const UOp*;

class UOp {
 public:
  Op op;
  u8 ndim;      // tensors: number of axes
  DType dtype;  // tensors: of an element
  u32 nsrc, narg, hash;
  mutable u32 mark;     // sweep
  mutable u64 settled;  // bit per rule list that found nothing here (rewrite.cc)
  const i64* dims;      // tensors: the shape
  i64 min, max;         // idx and bool nodes of kernels: inclusive bounds, from the sources' bounds

  std::span<const U> src() const { return {reinterpret_cast<const U*>(this + 1), nsrc}; }
  U src(int i) const { return reinterpret_cast<const U*>(this + 1)[i]; }
  std::span<const i64> arg() const {
    return {reinterpret_cast<const i64*>(reinterpret_cast<const U*>(this + 1) + nsrc), narg};
  }
  i64 arg(int i) const { return arg()[size_t(i)]; }
  std::span<const i64> shape() const { return {dims, ndim}; }
  i64 elements() const;  // tensors: product of the shape
  bool is_const() const { return op == Op::CONST; }
  bool is_const(i64 value) const { return op == Op::CONST && narg == 1 && !dtype.is_float() && arg(0) == value; }
  double const_float() const;  // CONST of a float dtype
  i64 const_int() const { return arg(0); }
  RangeKind range_kind() const { return RangeKind(arg(1)); }
};

class Pin;
class Arena {
 public:
  Arena();
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;
  U make(Op op, DType dtype, std::span<const U> src, std::span<const i64> arg);
  // Frees every node that no Pin reaches; calls on_free (if set) with each before it goes. Returns how many went.
  size_t sweep();
  size_t size() const { return count_; }
  void (*on_free)(U) = nullptr;
  static Arena& current();  // the innermost ArenaScope's of this thread, else this thread's main arena
  static Arena& main();
  Pin* first_pin() const { return pins_; }

 private:
  friend class Pin;
  friend struct ArenaScope;
  void* allocate(size_t bytes);
  void grow();
  std::vector<U> table_;
  std::vector<char*> chunks_;
  std::array<void*, 33> free_{};  // free lists by size in units of 16 bytes
  char *next_ = nullptr, *end_ = nullptr;
  size_t count_ = 0;
  Pin* pins_ = nullptr;
};
struct ArenaScope {  // nodes made in this block (by this thread) belong to `arena`
  explicit ArenaScope(Arena& arena);
  ~ArenaScope();
  Arena* outer;
};
class Pin {  // keeps a node of the current arena alive through sweeps; assignable
 public:
  Pin() : Pin(nullptr) {}
  Pin(U u);
  Pin(const Pin& o) : Pin(o.u_) {}
  Pin& operator=(const Pin& o) { return u_ = o.u_, *this; }
  Pin& operator=(U u) { return u_ = u, *this; }
  ~Pin();
  U operator*() const { return u_; }
  U operator->() const { return u_; }
  Pin* next() const { return next_; }

 private:
  U u_;
  Arena* arena_;
  Pin *next_, *previous_;
};

inline U make(Op op, DType dtype, std::span<const U> src, std::span<const i64> arg = {}) {
  return Arena::current().make(op, dtype, src, arg);
}
inline U make(Op op, DType dtype, std::initializer_list<U> src, std::initializer_list<i64> arg = {}) {
  return Arena::current().make(op, dtype, {src.begin(), src.size()}, {arg.begin(), arg.size()});
}
U make_alu(Op op, U a, U b = nullptr, U c = nullptr);  // dtype from the sources (comparisons: bool; WHERE: b's)
U constant(DType dtype, i64 value);                 // wrapped to the dtype; a float dtype gets the float of that value
U constant_float(DType dtype, double value);        // rounded to the dtype
U index_constant(i64 value);                        // of dtype IDX
U cast(U x, DType dtype);                           // x itself if it has the dtype
U with_sources(U u, std::span<const U> src);        // same op, dtype, arg
U import(U u);                                      // copies a graph of another arena into the current one
std::vector<U> toposort(std::span<const U> roots);  // sources before users, each once; no recursion
inline std::vector<U> toposort(U root) { return toposort(std::span(&root, 1)); }
u64 structural_hash(U u);  // equal for equal graphs in any arena, process or run

// Convenience for building index arithmetic and conditions; constants fold at once, `x + 0` and the like vanish.
struct Expr {  // Expr(r) * 3 + 1 builds UOps; converts from and to U
  U u;
  Expr(U x) : u(x) {}
  Expr(i64 value) : u(index_constant(value)) {}
  Expr(int value) : u(index_constant(value)) {}
  template <class T>
  requires std::is_same_v<T, U>  // a template, so that no built-in pointer arithmetic competes with the operators below
  operator T() const { return u; }
};
Expr operator+(Expr a, Expr b);
Expr operator-(Expr a, Expr b);
template <class T>
requires std::is_same_v<T, U>  // Clang also weighs the built-in difference of pointers; an exact match settles it
    Expr operator-(Expr a, T b) {
  return a - Expr(b);
}
Expr operator*(Expr a, Expr b);
Expr operator/(Expr a, Expr b);  // floor
Expr operator%(Expr a, Expr b);  // floor
Expr operator<(Expr a, Expr b);
Expr operator>=(Expr a, Expr b);
Expr operator==(Expr a, Expr b);
Expr operator&&(Expr a, Expr b);

// A hash table from nodes to V, with open addressing. Iteration order is unspecified.
template <class V>
class UMap {
 public:
  V* find(U key) {
    if (slots_.empty()) return nullptr;
    for (size_t i = slot(key);; i = (i + 1) & (slots_.size() - 1)) {
      if (slots_[i].first == key) return &slots_[i].second;
      if (!slots_[i].first) return nullptr;
    }
  }
  const V* find(U key) const { return const_cast<UMap*>(this)->find(key); }
  bool contains(U key) const { return find(key); }
  V& operator[](U key) {
    if (slots_.empty()) grow();
    size_t i = slot(key);
    for (; slots_[i].first; i = (i + 1) & (slots_.size() - 1))
      if (slots_[i].first == key) return slots_[i].second;
    if ((count_ + 1) * 4 > slots_.size() * 3) {
      grow();
      for (i = slot(key); slots_[i].first;) i = (i + 1) & (slots_.size() - 1);
    }
    slots_[i].first = key;
    count_++;
    return slots_[i].second;
  }
  size_t size() const { return count_; }
  void clear() { slots_.clear(), count_ = 0; }

 private:
  size_t slot(U key) const { return (size_t(key) >> 4) * 0x9E3779B97F4A7C15ull >> 20 & (slots_.size() - 1); }
  void grow() {
    std::vector<std::pair<U, V>> old(slots_.empty()         ? 16
                                     : slots_.size() < 4096 ? slots_.size() * 4
                                                            : slots_.size() * 2);
    old.swap(slots_);
    for (auto& s : old) {
      if (!s.first) continue;
      size_t i = slot(s.first);
      while (slots_[i].first) i = (i + 1) & (slots_.size() - 1);
      slots_[i] = std::move(s);
    }
  }
  std::vector<std::pair<U, V>> slots_;
  size_t count_ = 0;
};

// ---- pattern.cc: patterns and rules are constexpr data -------------------------------------------------------------
// x y z w match any node, a b c d match CONST; a name
// used twice must match the same node. Commutative ops are tried both ways. Literals match constants of that value. An
// unbound name on the right, or a wrong number of sources, does not compile.
struct Pat {
  struct Term {
    enum Kind : u8 { HOLE, CONST_HOLE, IMM, FLOAT_IMM, NODE, ANY_OF, FOLD } kind;
    u8 v;            // hole number, or op
    u8 sources;      // NODE, ANY_OF: number of source patterns that follow
    u8 name = 255;   // NODE, ANY_OF, HOLE: bound to this hole too (255: not)
    i16 dtype = -1;  // Scalar that the node must have (left) or gets (right); -1: any, or derived
    i64 imm = 0;     // value; FLOAT_IMM: bits of the double; ANY_OF: up to 8 ops, a byte each, low first, 255-filled
  };
  std::array<Term, 18> term{};
  u8 n = 0;
  u16 binds = 0;
  constexpr Pat() = default;
  constexpr Pat(int value) { term[n++] = {Term::IMM, 0, 0, 255, -1, value}; }
  constexpr Pat(double value) { term[n++] = {Term::FLOAT_IMM, 0, 0, 255, -1, __builtin_bit_cast(i64, value)}; }
  static constexpr Pat hole(u8 i, bool is_constant) {
    Pat p;
    p.term[p.n++] = {is_constant ? Term::CONST_HOLE : Term::HOLE, i, 0};
    p.binds = u16(1 << i);
    return p;
  }
  constexpr void add(const Pat& o) {
    for (int i = 0; i < o.n; i++) term.at(n++) = o.term[i];
    binds |= o.binds;
  }
  constexpr Pat dtype(DType d) const {
    Pat p = *this;
    p.term[0].dtype = i16(d.scalar);
    return p;
  }
  constexpr Pat as(const Pat& name) const {
    Pat p = *this;
    p.term[0].name = name.term[0].v;
    p.binds |= name.binds;
    return p;
  }
};
template <class... P>
constexpr Pat op(Op o, const P&... sources) {
  Pat p;
  p.term[p.n++] = {Pat::Term::NODE, u8(o), u8(sizeof...(sources))};
  (p.add(Pat(sources)), ...);
  if (row(o).sources >= 0 && int(sizeof...(sources)) != row(o).sources) throw "wrong number of sources";
  return p;  // an op with variable sources: the first ones match, the rest may be anything
}
template <class... P>
constexpr Pat any(std::initializer_list<Op> ops, const P&... sources) {
  Pat p;
  u64 packed = ~u64(0);
  int shift = 0;
  for (Op o : ops) {
    if (shift == 64) throw "any() takes up to 8 ops";
    packed = (packed & ~(u64(255) << shift)) | u64(o) << shift;
    shift += 8;
  }
  p.term[p.n++] = {Pat::Term::ANY_OF, 0, u8(sizeof...(sources)), 255, -1, i64(packed)};
  (p.add(Pat(sources)), ...);
  return p;
}
constexpr Pat fold(const Pat& x) {
  Pat p;
  p.term[p.n++] = {Pat::Term::FOLD, 0, 1};
  p.add(x);
  return p;
}
// clang-format off
#define BINARY(symbol, name) constexpr Pat operator symbol(const Pat& a, const Pat& b) { return op(Op::name, a, b); }
BINARY(+, ADD)    BINARY(-, SUB)    BINARY(*, MUL)    BINARY(/, IDIV)    BINARY(%, MOD)
BINARY(&, AND)    BINARY(|, OR)     BINARY(^, XOR)    BINARY(<<, SHL)    BINARY(>>, SHR)
BINARY(<, CMPLT)  BINARY(==, CMPEQ) BINARY(!=, CMPNE) BINARY(&&, AND)    BINARY(||, OR)
#undef BINARY
    // clang-format on
    constexpr Pat
    operator<=(const Pat& a, const Pat& b) {
  return op(Op::XOR, b < a, 1);
}  // guards only
constexpr Pat operator-(const Pat& a) { return op(Op::NEG, a); }
constexpr Pat where(const Pat& c, const Pat& a, const Pat& b) { return op(Op::WHERE, c, a, b); }
constexpr Pat max(const Pat& a, const Pat& b) { return op(Op::MAX, a, b); }
constexpr Pat min(const Pat& a, const Pat& b) { return op(Op::MIN, a, b); }
constexpr Pat fdiv(const Pat& a, const Pat& b) { return op(Op::FDIV, a, b); }
constexpr Pat fma(const Pat& a, const Pat& b, const Pat& c) { return op(Op::FMA, a, b, c); }
constexpr Pat cast(const Pat& x) { return op(Op::CAST, x); }  // on the right, give it .dtype(…) unless it is the root
namespace holes {
inline constexpr Pat x = Pat::hole(0, false), y = Pat::hole(1, false), z = Pat::hole(2, false), w = Pat::hole(3, false);
inline constexpr Pat a = Pat::hole(4, true), b = Pat::hole(5, true), c = Pat::hole(6, true), d = Pat::hole(7, true);
}  // namespace holes

struct Match {
  std::array<U, 8> at{};
  U root = nullptr;
  void* context = nullptr;  // what rewrite() was given
  U operator[](const Pat& hole) const { return at[hole.term[0].v]; }
};
using RuleFunction = U (*)(const Match&);  // nullptr: does not apply after all
using GuardFunction = bool (*)(const Match&);
struct Rule {
  Pat left, right, guard;
  RuleFunction function = nullptr;
  GuardFunction guard_function = nullptr;
  const char* file;
  int line;
  consteval Rule(Pat l, Pat r, Pat g = 1, const char* f = __builtin_FILE(), int n = __builtin_LINE())
      : left(l), right(r), guard(g), file(f), line(n) {
    if ((r.binds | g.binds) & ~l.binds) throw "the right-hand side or guard uses a name the pattern does not bind";
  }
  template <class F>
  requires(std::is_class_v<F>&& std::is_convertible_v<F, RuleFunction>) consteval Rule(
      Pat l, F f, Pat g = 1, const char* file_ = __builtin_FILE(), int n = __builtin_LINE())
      : left(l), guard(g), function(f), file(file_), line(n) {
    if (g.binds & ~l.binds) throw "the guard uses a name the pattern does not bind";
  }
  template <class G>
  requires(std::is_class_v<G>&& std::is_convertible_v<G, GuardFunction> &&
           !std::is_convertible_v<G, Pat>) consteval Rule(Pat l, Pat r, G g, const char* f = __builtin_FILE(),
                                                          int n = __builtin_LINE())
      : left(l), right(r), guard(1), guard_function(g), file(f), line(n) {
    if (r.binds & ~l.binds) throw "the right-hand side uses a name the pattern does not bind";
  }
};
// The arithmetic a list holds in: it is applied only to nodes of such dtypes, and fuzzed in it. For comparisons the
// dtype of the first source counts. ANY lists are for structure (movement, loads, loops).
enum class Arithmetic : u8 { ANY, INDEX, WRAPPING, FLOAT_EXACT, FLOAT_FAST, LOGICAL };
struct RuleSpan {
  const char* name;
  Arithmetic arithmetic;
  std::span<const Rule> rules;
};
class RuleList {  // make it `static const` or at namespace scope inside a function; composition with +
 public:
  RuleList(std::initializer_list<RuleSpan> spans);
  friend RuleList operator+(const RuleList& a, const RuleList& b);
  U apply(U u, void* context) const;  // first rule that gives another node; nullptr if none
  std::span<const RuleSpan> spans() const { return spans_; }

 private:
  friend U rewrite(U, const RuleList&, void*);
  void index();
  struct Entry {
    const Rule* rule;
    Arithmetic arithmetic;
  };
  std::vector<RuleSpan> spans_;
  std::vector<Entry> by_op_[int(Op::COUNT)];
  int id_ = -1;  // bit in UOp::settled; -1 when there are no bits left
};
bool match(const Pat& pattern, U u, Match& m);
U build(const Pat& pattern, const Match& m, DType dtype);  // dtype of the result
void append(std::string& out, const Pat& pattern);
void append(std::string& out, const Rule& rule);

// ---- rewrite.cc: the two drivers. Neither recurses; both share work over the whole graph ---------------------------
// Contract of a rule: keep the dtype (and shape) unless the list says otherwise; return
// nothing rather than the same node; make the graph smaller or state the direction; never look at users.
U rewrite(U root, const RuleList& rules, void* context = nullptr);  // to a fixed point, sources first
U walk(U root, const RuleList& rules,
       void* context = nullptr);     // each node once, sources first; results are not revisited
U substitute(U root, UMap<U>& map);  // replaces the keys (not inside replacements)
u64 rules_fired();                   // by this thread, since its start

// ---- eval.cc: the value of any graph -------------------------------------------------------------------------------
union Value {  // one element: integers and bool in i (wrapped to the dtype), floats in f (rounded to the dtype)
  i64 i;
  double f;
};
Value evaluate_op(Op op, DType result, DType source, Value a, Value b,
                  Value c);                    // elementwise ops; source: dtype of a (WHERE: of b)
Value convert(Value v, DType from, DType to);  // CAST
Value load_element(const void* memory, i64 index, DType dtype);
void store_element(void* memory, i64 index, DType dtype, Value v);
struct Memory {  // an evaluated buffer
  void* data;
  i64 elements;
};
// Evaluates a tensor graph: returns the bytes of the root, row-major. `memory_of` gives a BUFFER's memory. ASSIGN
// stores into it.
std::vector<u8> evaluate(U tensor, const std::function<Memory(U)>& memory_of);
// Runs a kernel (SINK of STOREs). params[slot] is its memory. Error on an access out of bounds that no condition
// guards.
void evaluate_kernel(U sink, std::span<const Memory> params);

// ---- simplify.cc, divmod.cc: algebra -------------------------------------------------------------------------------
extern const RuleSpan index_rules, divmod_rules, wrapping_rules, float_exact_rules, float_fast_rules, conjunction_rules,
    logic_rules, structure_rules;
const RuleList& symbolic();  // all of them but float_fast_rules: always true
U simplify(U u);             // rewrite(u, symbolic())
bool always(U condition);    // proven true from bounds
bool never(U condition);
struct Bounds {
  i64 min, max;
};
Bounds bounds_of(Op op, DType dtype, std::span<const U> src, std::span<const i64> arg);  // used by Arena::make

// ---- spec.cc: what a legal graph is --------------------------------------------------------------------------------
enum class Stage : u8 { TENSOR, KERNEL, EXPANDED };
// Why make() must not be called with these; empty if it may. Says nothing about stages.
std::string malformed(Op op, DType dtype, std::span<const U> src, std::span<const i64> arg);
void check_spec(U root, Stage stage, std::string_view after_pass);  // Error names the node and the rule it breaks

// ---- print.cc ------------------------------------------------------------------------------------------------------
std::string print(U root);            // one line per node, sources first: "%3 = ADD f32 (2, 3) %1 %2 [args]"
U parse_uops(std::string_view text);  // what print() wrote, into the current arena; Error with line and reason
std::string print_expression(U u);    // one line: "(r0*3 + r1) % 7 < 5"
void append(std::string& out, U u);   // print_expression

}  // namespace ingot
