// SPDX-License-Identifier: MIT
// Matching patterns and building what stands on a rule's right side. A pattern is a few terms in prefix order, so both
// walk it with a cursor; their recursion is as deep as a pattern, never as a graph.
#include <algorithm>
#include "compiler/uop/uop.h"

namespace ingot {
namespace {

using Term = Pat::Term;

int skip(const Pat& p, int i) {
  for (int pending = 1; pending > 0; pending--) pending += p.term[size_t(i++)].sources;
  return i;
}

bool op_among(i64 packed, Op op) {
  for (int shift = 0; shift < 64; shift += 8)
    if (u8(packed >> shift) == u8(op)) return true;
  return false;
}

bool bind(u8 hole, U u, Match& m) {
  if (!m.at[hole]) m.at[hole] = u;
  return m.at[hole] == u;
}

bool equals_literal(U u, const Term& t) {
  if (u->op != Op::CONST || u->narg != 1) return false;
  double value = t.kind == Term::IMM ? double(t.imm) : std::bit_cast<double>(t.imm);
  if (u->dtype.is_float()) return u->arg(0) == std::bit_cast<i64>(value);  // by bits: 0 is +0
  return t.kind == Term::IMM && u->arg(0) == wrap_to(t.imm, u->dtype);
}

bool match_term(const Pat& p, int& i, U u, Match& m) {
  const Term& t = p.term[size_t(i++)];
  if (t.dtype >= 0 && i16(u->dtype.scalar) != t.dtype) return false;
  switch (t.kind) {
    case Term::CONST_HOLE:
      if (u->op != Op::CONST || u->narg != 1) return false;
      [[fallthrough]];
    case Term::HOLE: return bind(t.v, u, m);
    case Term::IMM:
    case Term::FLOAT_IMM: return equals_literal(u, t);
    case Term::ANY_OF:
      if (!op_among(t.imm, u->op)) return false;
      break;
    case Term::NODE:
      if (u->op != Op(t.v)) return false;
      break;
    case Term::FOLD: return false;
  }
  if (u->nsrc < t.sources || (t.name != 255 && !bind(t.name, u, m))) return false;
  int first = i;
  Match before = m;
  bool ok = true;
  for (int k = 0; ok && k < t.sources; k++) ok = match_term(p, i, u->src(k), m);
  if (ok || !has(u->op, COMMUTES) || t.sources != 2) return ok;
  m = before;
  i = first;
  return match_term(p, i, u->src(1), m) && match_term(p, i, u->src(0), m);
}

Value constant_value(U u) {
  Value v;
  if (u->dtype.is_float())
    v.f = u->const_float();
  else
    v.i = u->arg(0);
  return v;
}

// Evaluates a subtree of constants (fold, guards). `dtype` is the arithmetic; comparisons give 0 or 1 in i.
Value evaluate_term(const Pat& p, int& i, const Match& m, DType dtype) {
  const Term& t = p.term[size_t(i++)];
  Value v[3] = {};
  switch (t.kind) {
    case Term::IMM:
      if (dtype.is_float())
        v[0].f = double(t.imm);
      else
        v[0].i = t.imm;
      return v[0];
    case Term::FLOAT_IMM: v[0].f = std::bit_cast<double>(t.imm); return v[0];
    case Term::FOLD: return evaluate_term(p, i, m, dtype);
    case Term::NODE: {
      for (int k = 0; k < t.sources; k++) v[k] = evaluate_term(p, i, m, dtype);
      return evaluate_op(Op(t.v), has(Op(t.v), TO_BOOL) ? BOOL : dtype, dtype, v[0], v[1], v[2]);
    }
    default: {
      U u = m.at[t.v];
      check(u && u->is_const(), "fold and guards take constants");
      return constant_value(u);
    }
  }
}

// dtype of the first bound hole of the subtree at i, if any
std::optional<DType> dtype_of_holes(const Pat& p, int i, const Match& m) {
  for (int end = skip(p, i); i < end; i++) {
    const Term& t = p.term[size_t(i)];
    if ((t.kind == Term::HOLE || t.kind == Term::CONST_HOLE) && m.at[t.v]) return m.at[t.v]->dtype;
  }
  return std::nullopt;
}

U build_term(const Pat& p, int& i, const Match& m, DType dtype) {
  int at = i;
  const Term& t = p.term[size_t(i++)];
  if (t.dtype >= 0) dtype = DType{Scalar(t.dtype), dtype.lanes};
  switch (t.kind) {
    case Term::IMM: return constant(dtype, t.imm);
    case Term::FLOAT_IMM: return constant_float(dtype, std::bit_cast<double>(t.imm));
    case Term::FOLD: {
      DType in = dtype_of_holes(p, i, m).value_or(dtype);
      Value v = evaluate_term(p, i, m, in);
      return dtype.is_float() ? constant_float(dtype, v.f) : constant(dtype, v.i);
    }
    case Term::NODE: {
      Op o = Op(t.v);
      U src[3];
      DType inner = dtype;
      if (has(o, TO_BOOL) || o == Op::CAST || o == Op::BITCAST) inner = dtype_of_holes(p, at, m).value_or(dtype);
      check(t.sources <= 3, "a right-hand side builds ops of up to 3 sources");
      for (int k = 0; k < t.sources; k++)
        src[k] = build_term(p, i, m, o == Op::WHERE && k == 0 ? BOOL.with_lanes(dtype.lanes) : inner);
      return make(o, has(o, TO_BOOL) ? BOOL.with_lanes(src[0]->dtype.lanes) : dtype,
                  std::span<const U>(src, t.sources));
    }
    default: return m.at[t.v];
  }
}

bool arithmetic_holds(Arithmetic a, U u) {
  if (a == Arithmetic::ANY) return true;
  DType t = (has(u->op, TO_BOOL) || u->op == Op::CAST) && u->nsrc ? u->src(0)->dtype : u->dtype;
  switch (a) {
    case Arithmetic::INDEX: return t.scalar == Scalar::IDX;
    case Arithmetic::WRAPPING: return t.is_int() && t.scalar != Scalar::IDX;
    case Arithmetic::FLOAT_EXACT:
    case Arithmetic::FLOAT_FAST: return t.is_float();
    case Arithmetic::LOGICAL: return t.is_bool();
    case Arithmetic::ANY: break;
  }
  return true;
}

std::atomic<int> next_list_id{0};
thread_local u64 fired = 0;

}  // namespace

u64 rules_fired() { return fired; }

bool match(const Pat& pattern, U u, Match& m) {
  int i = 0;
  return match_term(pattern, i, u, m);
}
U build(const Pat& pattern, const Match& m, DType dtype) {
  int i = 0;
  return build_term(pattern, i, m, dtype);
}

RuleList::RuleList(std::initializer_list<RuleSpan> spans) : spans_(spans) { index(); }
RuleList operator+(const RuleList& a, const RuleList& b) {
  RuleList both({});
  both.spans_ = a.spans_;
  both.spans_.insert(both.spans_.end(), b.spans_.begin(), b.spans_.end());
  both.index();
  return both;
}
void RuleList::index() {
  for (auto& entries : by_op_) entries.clear();
  for (const RuleSpan& span : spans_)
    for (const Rule& rule : span.rules) {
      const Term& root = rule.left.term[0];
      for (int o = 0; o < int(Op::COUNT); o++) {
        bool applies = root.kind == Term::NODE         ? Op(root.v) == Op(o)
                       : root.kind == Term::ANY_OF     ? op_among(root.imm, Op(o))
                       : root.kind == Term::CONST_HOLE ? Op(o) == Op::CONST
                                                       : true;
        if (applies) by_op_[o].push_back({&rule, span.arithmetic});
      }
    }
  if (id_ < 0 && !spans_.empty()) {
    int id = next_list_id++;
    id_ = id < 64 ? id : -1;
  }
}

U RuleList::apply(U u, void* context) const {
  for (const Entry& e : by_op_[int(u->op)]) {
    const Rule& rule = *e.rule;
    if (!arithmetic_holds(e.arithmetic, u)) continue;
    Match m;
    if (!match(rule.left, u, m)) continue;
    m.root = u;
    m.context = context;
    if (rule.guard_function) {
      if (!rule.guard_function(m)) continue;
    } else if (rule.guard.term[0].kind != Term::IMM) {
      int i = 0;
      if (!evaluate_term(rule.guard, i, m, dtype_of_holes(rule.guard, 0, m).value_or(IDX)).i) continue;
    }
    U v = rule.function ? rule.function(m) : build(rule.right, m, u->dtype);
    if (!v || v == u) continue;
    if (v->ndim != u->ndim && e.arithmetic != Arithmetic::ANY)
      continue;  // a tensor keeps its shape: x * 0 is not one zero
    fired++;
    if (ctx.TRACE == "rules")
      fprintf(stderr, "%s\n", str(rule.file, ":", rule.line, "  ", rule, "   ", u, "  =>  ", v).c_str());
    return v;
  }
  return nullptr;
}

namespace {
void append_term(std::string& out, const Pat& p, int& i) {
  const Term& t = p.term[size_t(i++)];
  switch (t.kind) {
    case Term::HOLE:
    case Term::CONST_HOLE: out += "xyzwabcd"[t.v]; break;
    case Term::IMM: append(out, t.imm); break;
    case Term::FLOAT_IMM: append(out, std::bit_cast<double>(t.imm)); break;
    default:
      if (t.kind == Term::NODE)
        out += row(Op(t.v)).name;
      else if (t.kind == Term::FOLD)
        out += "fold";
      else
        for (int shift = 0; shift < 64 && u8(t.imm >> shift) != 255; shift += 8) {
          if (shift) out += '|';
          out += row(Op(u8(t.imm >> shift))).name;
        }
      out += '(';
      for (int k = 0; k < t.sources; k++) {
        if (k) out += ", ";
        append_term(out, p, i);
      }
      out += ')';
  }
  if (t.dtype >= 0) out += str(":", DType{Scalar(t.dtype)});
  if (t.name != 255) out += str("=", "xyzwabcd"[t.name]);
}
}  // namespace

void append(std::string& out, const Pat& pattern) {
  int i = 0;
  if (pattern.n) append_term(out, pattern, i);
}
void append(std::string& out, const Rule& rule) {
  append(out, rule.left);
  out += " -> ";
  if (rule.function)
    out += "function";
  else
    append(out, rule.right);
  if (rule.guard_function)
    out += " if function";
  else if (rule.guard.term[0].kind != Term::IMM)
    out += " if ", append(out, rule.guard);
}

}  // namespace ingot
