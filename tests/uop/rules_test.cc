// SPDX-License-Identifier: MIT
// Every rule of every list, in the arithmetic the list is named for. Arithmetic rules: the left side is built with
// random leaves and constants, the rule applied, and both sides evaluated. Structure rules are applied inside random
// tensor graphs and kernels, which are evaluated before and after. A rule that never fires has not been tested, and
// fails.
#include <gtest/gtest.h>

#include "graphs.h"

namespace ingot {
namespace {

using Term = Pat::Term;

struct Instance {  // builds a pattern's left side
  Random& r;
  const Pat& pattern;
  std::array<U, 8> at{};
  i64 leaves = 0;
  int cursor = 0;

  U random_leaf(DType dtype) {
    if (dtype == IDX) {
      Expr x = leaf(IDX, leaves++, r.pick<i64>({1, 2, 3, 4, 6, 8, 12, 13}));
      if (r.chance(30))
        x = x * r.pick<i64>({1, 2, 3, 4, 6, -1, -4}) + leaf(IDX, leaves++, r.pick<i64>({1, 2, 3, 4, 5}));
      if (r.chance(15)) x = make_alu(Op::MOD, x, index_constant(r.between(1, 6)));
      if (r.chance(15)) x = make_alu(Op::IDIV, x, index_constant(r.between(1, 6)));
      return r.chance(40) ? U(x + r.between(-9, 9)) : U(x);
    }
    if (dtype.is_int() && r.chance(10)) return constant_of(dtype, random_value(r, dtype));
    if (dtype.is_int() && r.chance(30)) return make(Op::CAST, dtype, {leaf(IDX, leaves++, r.pick<i64>({1, 2, 4, 8}))});
    if (dtype.is_bool() && r.chance(40)) {  // conditions on one value meet
      U x = leaf(IDX, 1000, 13), c = index_constant(r.between(-2, 14));
      return r.chance(50) ? make_alu(Op::CMPLT, x, c) : make_alu(Op::CMPLT, c, x);
    }
    if (dtype.is_bool() && r.chance(20)) return make_alu(Op::CMPLT, leaf(I32, leaves++, 4), constant(I32, 3));
    return leaf(dtype, leaves++, 1);
  }
  U random_constant(DType dtype, Op user) {
    if (user == Op::SHL || user == Op::SHR) return constant(dtype, r.below(dtype == IDX ? 5 : dtype.bits()));
    if (dtype == IDX)
      return index_constant(
          r.pick<i64>({r.between(-12, 12), r.between(1, 8), i64(1) << r.below(6), (i64(1) << r.below(6)) - 1}));
    if (dtype.is_float() && r.chance(50))
      return constant_float(dtype, std::ldexp(r.chance(50) ? 1 : -1, int(r.between(-20, 20))));
    if (dtype.is_int() && r.chance(40)) return constant(dtype, (i64(1) << r.below(dtype.bits() - 1)) - r.below(2));
    return constant_of(dtype, random_value(r, dtype));
  }
  DType any_dtype() { return r.chance(40) ? int_dtypes[r.below(8)] : r.chance(70) ? float_dtypes[r.below(8)] : BOOL; }

  U build(DType dtype, Op user) {
    const Term& t = pattern.term[size_t(cursor++)];
    if (t.dtype >= 0) dtype = DType{Scalar(t.dtype)};
    switch (t.kind) {
      case Term::HOLE: return at[t.v] ? at[t.v] : at[t.v] = random_leaf(dtype);
      case Term::CONST_HOLE: return at[t.v] ? at[t.v] : at[t.v] = random_constant(dtype, user);
      case Term::IMM: return constant(dtype, t.imm);
      case Term::FLOAT_IMM: return constant_float(dtype, __builtin_bit_cast(double, t.imm));
      default: break;
    }
    Op o = Op(t.v);
    if (t.kind == Term::ANY_OF) {
      std::vector<Op> ops;
      for (int shift = 0; shift < 64 && u8(t.imm >> shift) != 255; shift += 8) ops.push_back(Op(u8(t.imm >> shift)));
      o = ops[size_t(r.below(i64(ops.size())))];
    }
    U src[3];
    DType of = dtype;  // of the sources
    if (has(o, TO_BOOL)) {
      of = operand;
      for (int k = cursor, end = cursor + t.sources; k < end; k++)  // a source names its dtype, or is bound already
        if (const Term& s = pattern.term[size_t(k)]; s.dtype >= 0)
          of = DType{Scalar(s.dtype)};
        else if (s.kind <= Term::CONST_HOLE && at[s.v])
          of = at[s.v]->dtype;
    }
    if (o == Op::CAST) of = any_dtype();
    if (o == Op::BITCAST) do
        of = any_dtype();
      while (of.bits() != dtype.bits());
    for (int k = 0; k < t.sources; k++) src[k] = build(o == Op::WHERE && k == 0 ? BOOL : of, o);
    U u = make(o, has(o, TO_BOOL) ? BOOL : dtype, std::span<const U>(src, t.sources));
    return t.name == 255 ? u : at[t.name] = u;
  }
  DType operand;  // what comparisons compare
};

std::vector<DType> dtypes_of(Arithmetic a) {
  switch (a) {
    case Arithmetic::INDEX: return {IDX};
    case Arithmetic::WRAPPING: return {std::begin(int_dtypes), std::end(int_dtypes)};
    case Arithmetic::FLOAT_EXACT: return {std::begin(float_dtypes), std::end(float_dtypes)};
    case Arithmetic::FLOAT_FAST: return {F32, F64};
    case Arithmetic::LOGICAL: return {BOOL};
    case Arithmetic::ANY: return {I8, U32, F32, F16, BOOL, E4M3, E5M2FNUZ, I64, IDX};
  }
  return {};
}

// Whether the value of every node lies in the bounds that make() gave it.
void expect_bounds_hold(const Expression& e, const std::string& what) {
  for (auto& [u, value, src] : e.nodes)
    if ((u->dtype.is_int() || u->dtype.is_bool()) && u->dtype != U64) {
      ASSERT_TRUE(value.i >= u->min && value.i <= u->max)
          << what << ": " << print_expression(u) << " = " << value.i << " outside " << u->min << " … " << u->max;
    }
}

void fuzz_rule(const RuleSpan& span, const Rule& rule, Random& r) {
  RuleList only{{span.name, span.arithmetic, {&rule, 1}}};
  std::string name = str(rule.file, ":", rule.line, " ", rule);
  int fired = 0;
  bool boolean = has(Op(rule.left.term[0].v), TO_BOOL) && rule.left.term[0].kind == Term::NODE;
  if (rule.left.term[0].kind == Term::ANY_OF) boolean = has(Op(u8(rule.left.term[0].imm)), TO_BOOL);
  for (int attempt = 0; attempt < 20000 && fired < 150; attempt++) {
    if (attempt == 4000 && fired == 0) break;
    Arena arena;
    ArenaScope scope(arena);
    std::vector<DType> dtypes = dtypes_of(span.arithmetic);
    DType dtype = dtypes[size_t(r.below(i64(dtypes.size())))];
    bool any_operand = span.arithmetic == Arithmetic::LOGICAL && !boolean;  // comparisons below AND and the like
    Instance instance{r, rule.left, {}, 0, 0, any_operand ? r.pick({I8, F32, IDX}) : dtype};
    U u = instance.build(boolean ? BOOL : dtype, Op::SINK);
    bool overflows = false;  // or is no graph at all
    for (U node : toposort(u)) {
      overflows |= node->dtype == IDX && (node->min < -(i64(1) << 60) || node->max > i64(1) << 60);
      overflows |= !malformed(node->op, node->dtype, node->src(), node->arg()).empty();
    }
    if (overflows) continue;
    U v = only.apply(u, nullptr);
    if (!v) continue;
    fired++;
    ASSERT_EQ(str(u->dtype), str(v->dtype)) << name;
    Expression left(u), right(v);
    for (int trial = 0; trial < 20; trial++) {
      UMap<Value> leaves;
      assign_leaves(r, u, leaves);
      assign_leaves(r, v, leaves);
      Value p = left(leaves), q = right(leaves);
      if (span.arithmetic == Arithmetic::FLOAT_FAST && u->dtype.is_float()) {
        double scale = 1, smallest = 1;
        for (auto* e : {&left, &right})
          for (auto& node : e->nodes) {
            if (node.u->dtype.is_float()) scale = std::max(scale, std::abs(node.value.f));
            if (is_leaf(node.u)) smallest = std::min(smallest, std::abs(node.value.f));
          }
        if (!(scale < 1e15)) continue;  // real arithmetic has no infinities
        if (p.f != p.f || q.f != q.f) continue;
        if (smallest < 1e-15) continue;  // nor do they lose digits to denormals
        ASSERT_LE(std::abs(p.f - q.f), 1e-3 * scale)
            << name << ": " << print_expression(u) << "  =>  " << print_expression(v);
        continue;
      }
      ASSERT_TRUE(same_value(p, q, u->dtype))
          << name << " in " << str(dtype) << ": " << print_expression(u) << " = "
          << (u->dtype.is_float() ? str(p.f) : str(p.i)) << " but " << print_expression(v) << " = "
          << (u->dtype.is_float() ? str(q.f) : str(q.i)) << "\n"
          << print(u);
      expect_bounds_hold(left, name);
      expect_bounds_hold(right, name);
    }
  }
  EXPECT_GE(fired, 10) << name << " was not tested";
}

Op root_op(const Rule& rule) {
  const Term& t = rule.left.term[0];
  return t.kind == Term::ANY_OF ? Op(u8(t.imm)) : Op(t.v);
}

TEST(Rules, HoldInTheirArithmetic) {
  Scoped unchecked(ctx.SPEC, 1);  // what is malformed is made, and left out
  Random r(1);
  for (const RuleSpan* span : {&index_rules, &divmod_rules, &wrapping_rules, &float_exact_rules, &float_fast_rules,
                               &conjunction_rules, &logic_rules, &structure_rules})
    for (const Rule& rule : span->rules)
      if (has(root_op(rule), ALU)) fuzz_rule(*span, rule, r);
}

TEST(Rules, StructureOfTensors) {
  Random r(2);
  std::vector<float> data[2];
  for (auto& d : data)
    for (int i = 0; i < 64; i++) d.push_back(float(r.between(-8, 8)) / 2);
  auto memory = [&](U buffer) { return Memory{data[buffer->arg(0)].data(), 64}; };
  for (const Rule& rule : structure_rules.rules) {
    if (!has(root_op(rule), TENSOR) || has(root_op(rule), KERNEL)) continue;
    RuleList only{{"one", Arithmetic::ANY, {&rule, 1}}};
    int fired = 0;
    for (int attempt = 0; attempt < 3000 && fired < 40; attempt++) {
      Arena arena;
      ArenaScope scope(arena);
      U t = random_tensor(r, 8);
      u64 before = rules_fired();
      U v = rewrite(t, only);
      fired += int(rules_fired() - before);
      if (v == t) continue;
      ASSERT_EQ(str(t->shape()), str(v->shape())) << str(rule);
      ASSERT_EQ(evaluate(t, memory), evaluate(v, memory)) << str(rule) << "\n" << print(t) << print(v);
    }
    EXPECT_GE(fired, 20) << str(rule.file, ":", rule.line, " ", rule);
  }
}

TEST(Rules, StructureOfKernels) {
  Random r(3);
  std::vector<float> in[2];
  for (auto& d : in)
    for (int i = 0; i < 64; i++) d.push_back(float(r.between(-8, 8)) / 2);
  auto run = [&](U kernel) {
    std::vector<float> out(64, -1);
    Memory params[] = {{out.data(), 64}, {in[0].data(), 64}, {in[1].data(), 64}};
    evaluate_kernel(kernel, params);
    return out;
  };
  for (const Rule& rule : structure_rules.rules) {
    if (!has(root_op(rule), KERNEL)) continue;
    RuleList only{{"one", Arithmetic::ANY, {&rule, 1}}};
    int fired = 0;
    for (int attempt = 0; attempt < 3000 && fired < 40; attempt++) {
      Arena arena;
      ArenaScope scope(arena);
      U k = random_kernel(r);
      check_spec(k, Stage::KERNEL, "random_kernel");
      for (const Rule& other : structure_rules.rules)  // the rule on lists of loops follows the one that removes loops
        if (root_op(rule) == Op::STORE && root_op(other) == Op::RANGE)
          k = rewrite(k, RuleList{{"", Arithmetic::ANY, {&other, 1}}});
      u64 before = rules_fired();
      U v = rewrite(k, only);
      fired += int(rules_fired() - before);
      ASSERT_EQ(run(k), run(v)) << str(rule) << "\n" << print(k) << print(v);
    }
    EXPECT_GE(fired, 20) << str(rule.file, ":", rule.line, " ", rule);
  }
}

}  // namespace
}  // namespace ingot
