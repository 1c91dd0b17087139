// SPDX-License-Identifier: MIT
// Index arithmetic in one normal form: sums of terms with constant coefficients, and floor division, remainder and
// comparison of such sums by constants.
//
// A Sum is c0*t0 + c1*t1 + … + k, where a term t is anything that is not itself a sum or a multiple. Terms stand in one
// order that depends on their structure only (loop variables first, by number), so equal sums are one node, in every
// run. Everything here rests on one step: split a sum at g into g*Q + R, where R holds the terms whose coefficients g
// does not divide. When bounds show that R stays within one bucket b*g … b*g + g-1, then for every multiple d = g*e
//     sum / d = (Q + b) / e        sum % d = ((Q + b) % e) * g + (R - b*g)        sum < K  <=>  Q + b < ceil(K / g) or
//     nearby.
// Flattened shapes, convolution windows, pooling and padding all reduce to it. Values never overflow (an idx is 64 bits
// and a buffer is smaller); bounds saturate. Sums of more than 24 terms are left as they are, which bounds the work per
// node.
#include <algorithm>
#include <limits>
#include <numeric>

#include "compiler/uop/uop.h"

namespace ingot {
namespace {
using i128 = __int128;
using namespace holes;

i64 floor_div(i64 a, i64 b) { return a / b - (a % b != 0 && (a < 0) != (b < 0)); }
i64 floor_mod(i64 a, i64 b) { return a - b * floor_div(a, b); }
i64 ceil_div(i64 a, i64 b) { return -floor_div(-a, b); }
constexpr i64 least = std::numeric_limits<i64>::min(), most = std::numeric_limits<i64>::max();
i64 saturate(i128 v) { return v < least ? least : v > most ? most : i64(v); }

// Structural order: loop variables first, then by op, arguments, sources. Ties beyond the depth keep the order they
// came in.
int compare(U a, U b, int depth = 8) {
  if (a == b || depth == 0) return 0;
  auto rank = [](U u) { return u->op == Op::RANGE ? -1 : int(u->op); };
  if (a->op != b->op) return rank(a) < rank(b) ? -1 : 1;
  if (a->nsrc != b->nsrc) return a->nsrc < b->nsrc ? -1 : 1;
  if (!std::ranges::equal(a->arg(), b->arg())) return std::ranges::lexicographical_compare(a->arg(), b->arg()) ? -1 : 1;
  for (int i = 0; i < int(a->nsrc); i++)
    if (int c = compare(a->src(i), b->src(i), depth - 1)) return c;
  return 0;
}

struct Sum {
  struct Term {
    U u;
    i64 c;
  };
  static constexpr int capacity = 24;
  std::array<Term, capacity> terms;
  int n = 0;
  i64 k = 0;
  bool ok = true;  // false: too long, or a coefficient left 64 bits

  Term* begin() { return terms.data(); }
  Term* end() { return terms.data() + n; }
  const Term* begin() const { return terms.data(); }
  const Term* end() const { return terms.data() + n; }
  Term* find(U u) {
    for (Term& t : *this)
      if (t.u == u) return &t;
    return nullptr;
  }
  i64 coefficient(U u) {
    Term* t = find(u);
    return t ? t->c : 0;
  }
  void add_constant(i64 v) { ok &= !__builtin_add_overflow(k, v, &k); }
  void add(U u, i64 c) {
    if (c == 0) return;
    ok &= c != least;
    if (Term* t = find(u)) {
      ok &= !__builtin_add_overflow(t->c, c, &t->c) && t->c != least;
      if (t->c == 0) std::move(t + 1, end(), t), n--;
      return;
    }
    if (n == capacity) {
      ok = false;
      return;
    }
    int i = n++;
    for (; i > 0 && compare(u, terms[size_t(i - 1)].u) < 0; i--) terms[size_t(i)] = terms[size_t(i - 1)];
    terms[size_t(i)] = {u, c};
  }
  void add(const Sum& o, i64 scale) {
    i64 v = 0;
    ok &= o.ok && !__builtin_mul_overflow(o.k, scale, &v);
    add_constant(v);
    for (const Term& t : o) {
      ok &= !__builtin_mul_overflow(t.c, scale, &v);
      add(t.u, v);
    }
  }
  void add_node(U root, i64 scale) {
    struct Item {
      U u;
      i64 c;
    } stack[2 * capacity];
    int depth = 0;
    stack[depth++] = {root, scale};
    while (depth && ok) {
      auto [u, c] = stack[--depth];
      if (depth + 2 > 2 * capacity)
        ok = false;
      else if (u->op == Op::ADD)
        stack[depth++] = {u->src(1), c}, stack[depth++] = {u->src(0), c};
      else if (u->op == Op::SUB && c != least)
        stack[depth++] = {u->src(1), -c}, stack[depth++] = {u->src(0), c};
      else if (u->op == Op::NEG && c != least)
        stack[depth++] = {u->src(0), -c};
      else if (u->is_const() && u->narg == 1) {
        i64 v = 0;
        ok &= !__builtin_mul_overflow(u->const_int(), c, &v);
        add_constant(v);
      } else if (u->op == Op::MUL && u->src(1)->is_const() && u->src(1)->narg == 1) {
        i64 v = 0;
        ok &= !__builtin_mul_overflow(u->src(1)->const_int(), c, &v);
        stack[depth++] = {u->src(0), v};
      } else
        add(u, c);
    }
  }
  U build(DType dtype) const {
    U sum = nullptr;
    for (const Term& t : *this) {
      U product = t.c == 1 ? t.u : make(Op::MUL, dtype, {t.u, constant(dtype, t.c)});
      sum = sum ? make(Op::ADD, dtype, {sum, product}) : product;
    }
    if (!sum) return constant(dtype, k);
    return k ? make(Op::ADD, dtype, {sum, constant(dtype, k)}) : sum;
  }
  Bounds bounds() const {
    i128 low = k, high = k;
    for (const Term& t : *this) {
      i128 p = i128(t.c) * t.u->min, q = i128(t.c) * t.u->max;
      low += std::min(p, q), high += std::max(p, q);
    }
    return {saturate(low), saturate(high)};
  }
  i64 gcd() const {
    i64 g = 0;
    for (const Term& t : *this) g = std::gcd(g, t.c);
    return g;
  }
};
Sum sum_of(U u) {
  Sum s;
  s.add_node(u, 1);
  return s;
}

bool one_bucket(Bounds b, i64 g) {
  return b.min != least && b.max != most && floor_div(b.min, g) == floor_div(b.max, g);
}

struct Split {  // sum = g * quotient + rest
  Sum quotient, rest;
};
Split split(const Sum& s, i64 g) {
  Split p;
  for (const Sum::Term& t : s)
    if (t.c % g == 0)
      p.quotient.terms[size_t(p.quotient.n++)] = {t.u, t.c / g};
    else
      p.rest.terms[size_t(p.rest.n++)] = t;
  p.quotient.k = floor_div(s.k, g);
  p.rest.k = floor_mod(s.k, g);
  return p;
}
// As split, but every term leaves its remainder behind: 5*x at 4 is 4*(x) + x. The remainder nearest to zero, or the
// positive.
Split split_all(const Sum& s, i64 g, bool nearest) {
  Split p;
  for (const Sum::Term& t : s) {
    i64 r = floor_mod(t.c, g);
    if (nearest && r > g / 2) r -= g;
    if (r) p.rest.terms[size_t(p.rest.n++)] = {t.u, r};
    if (t.c != r) p.quotient.terms[size_t(p.quotient.n++)] = {t.u, i64((i128(t.c) - r) / g)};
  }
  p.quotient.k = floor_div(s.k, g);
  p.rest.k = floor_mod(s.k, g);
  return p;
}
// Common divisors of some coefficients with d, and d itself, largest first.
struct Candidates {
  std::array<i64, Sum::capacity + 1> at;
  int n = 0;
  const i64* begin() const { return at.data(); }
  const i64* end() const { return at.data() + n; }
};
Candidates candidates(const Sum& s, i64 d) {
  Candidates g;
  if (d > 1) g.at[size_t(g.n++)] = d;
  for (const Sum::Term& t : s)
    if (i64 v = std::gcd(t.c, d); v > 1) g.at[size_t(g.n++)] = v;
  std::sort(g.at.begin(), g.at.begin() + g.n, std::greater<>());
  g.n = int(std::unique(g.at.begin(), g.at.begin() + g.n) - g.at.begin());
  return g;
}
bool is_op_by_const(U u, Op op) {
  return u->op == op && u->src(1)->is_const() && u->src(1)->narg == 1 && u->src(1)->const_int() > 0;
}

U modulo(U x, i64 d);

// floor(x / d), d > 0. Each call on a quotient or numerator divides d or removes a nested division, so this ends soon.
U divide(U x, i64 d) {
  DType dtype = x->dtype;
  if (d == 1) return x;
  if (one_bucket({x->min, x->max}, d)) return constant(dtype, floor_div(x->min, d));
  U same = make(Op::IDIV, dtype, {x, constant(dtype, d)});
  Sum s = sum_of(x);
  if (!s.ok) return same;
  for (i64 g : candidates(s, d)) {
    Split p = split(s, g);
    Bounds r = p.rest.bounds();
    if (!one_bucket(r, g)) continue;
    p.quotient.add_constant(floor_div(r.min, g));
    return divide(p.quotient.build(dtype), d / g);
  }
  for (bool nearest : {false, true}) {
    Split p = split_all(s, d, nearest);
    Bounds r = p.rest.bounds();
    if (!one_bucket(r, d)) continue;
    p.quotient.add_constant(floor_div(r.min, d));
    return p.quotient.build(dtype);
  }
  Split p = split(s, d);
  Sum& r = p.rest;
  if (i64 g = std::gcd(r.gcd(), d); g > 1) {
    for (Sum::Term& t : r) t.c /= g;
    r.k = floor_div(r.k, g), d /= g;
  }
  U inner = nullptr;
  if (r.n == 1 && r.terms[0].c == 1) {
    U t = r.terms[0].u;
    i64 a = 0, ad = 0;
    if (is_op_by_const(t, Op::IDIV) && (a = t->src(1)->const_int(), !__builtin_mul_overflow(a, d, &ad))) {
      Sum numerator = sum_of(t->src(0));
      Sum offset;
      offset.k = r.k;
      numerator.add(offset, a);
      if (numerator.ok) inner = divide(numerator.build(dtype), ad);
    } else if (is_op_by_const(t, Op::MOD) && r.k == 0 && t->src(1)->const_int() % d == 0) {
      inner = modulo(divide(t->src(0), d), t->src(1)->const_int() / d);
    }
  }
  if (!inner) {
    U numerator = r.build(dtype);
    inner = numerator->is_const() ? divide(numerator, d) : make(Op::IDIV, dtype, {numerator, constant(dtype, d)});
  }
  if (p.quotient.n == 0 && p.quotient.k == 0) return inner;
  p.quotient.add_node(inner, 1);
  return p.quotient.ok ? p.quotient.build(dtype) : same;
}

// x mod d with 0 <= result < d, d > 0
U modulo(U x, i64 d) {
  DType dtype = x->dtype;
  if (d == 1) return constant(dtype, 0);
  U same = make(Op::MOD, dtype, {x, constant(dtype, d)});
  Sum s = sum_of(x);
  if (!s.ok) return same;
  auto in_bucket = [&](Sum& r, i64 g) {
    Bounds b = r.bounds();
    if (!one_bucket(b, g)) return false;
    r.add_constant(-g * floor_div(b.min, g));
    return r.ok;
  };
  Sum whole = s;
  if (in_bucket(whole, d)) return whole.build(dtype);
  for (bool nearest : {false, true})
    if (Split p = split_all(s, d, nearest); in_bucket(p.rest, d)) return p.rest.build(dtype);
  for (i64 g : candidates(s, d)) {
    if (g == d) continue;
    Split p = split(s, g);
    i64 bucket = floor_div(p.rest.bounds().min, g);
    if (!in_bucket(p.rest, g)) continue;
    p.quotient.add_constant(bucket);
    p.rest.add_node(modulo(p.quotient.build(dtype), d / g), g);
    return p.rest.ok ? p.rest.build(dtype) : same;
  }
  Sum r;
  for (const Sum::Term& t : split_all(s, d, true).rest) {  // c * (y % a) is c * y where a * c is a multiple of d
    if (is_op_by_const(t.u, Op::MOD) && i128(t.c) * t.u->src(1)->const_int() % d == 0)
      r.add_node(t.u->src(0), t.c);
    else
      r.add(t.u, t.c);
  }
  r.add_constant(s.k);
  if (!r.ok) return same;
  if (i64 g = std::gcd(r.gcd(), d); g > 1) {
    i64 low = floor_mod(r.k, g);
    for (Sum::Term& t : r) t.c /= g;
    r.k = floor_div(r.k, g);
    Sum out;
    out.k = low;
    out.add_node(modulo(r.build(dtype), d / g), g);
    return out.ok ? out.build(dtype) : same;
  }
  r = split_all(r, d, true).rest;
  U numerator = r.build(dtype);
  return numerator->is_const() ? constant(dtype, floor_mod(numerator->const_int(), d))
                               : make(Op::MOD, dtype, {numerator, constant(dtype, d)});
}

// c*(x % a) + c*a*(x / a) is c*x, whatever form x / a took.
void recombine(Sum& s, DType dtype) {
  for (int i = 0; i < s.n; i++) {
    auto [u, c] = s.terms[size_t(i)];
    if (!is_op_by_const(u, Op::MOD)) continue;
    i64 a = u->src(1)->const_int(), ca = 0;
    if (__builtin_mul_overflow(a, c, &ca)) continue;
    Sum q = sum_of(divide(u->src(0), a));
    bool all = q.ok && q.n > 0;
    for (const Sum::Term& t : q) all = all && i128(t.c) * ca == s.coefficient(t.u);
    if (!all || ca == least) continue;
    Sum out = s;
    out.add(q, -ca);
    out.add(u, -c);
    out.add_node(u->src(0), c);
    if (out.ok && out.n < s.n) return s = out, recombine(s, dtype);
  }
}

U normal_sum(const Match& m) {
  U u = m.root;
  if (u->op == Op::MUL && !u->src(1)->is_const()) {  // a product of terms: constants out, factors in order
    Sum p = sum_of(u->src(0)), q = sum_of(u->src(1));
    if (!p.ok || !q.ok || !p.n || !q.n) return nullptr;
    i64 c = 1;
    U x = u->src(0), y = u->src(1);
    if (p.n == 1 && p.k == 0) x = p.terms[0].u, c = p.terms[0].c;
    if (q.n == 1 && q.k == 0) y = q.terms[0].u, p.ok = !__builtin_mul_overflow(c, q.terms[0].c, &c);
    if (compare(x, y) > 0) std::swap(x, y);
    U product = make(Op::MUL, u->dtype, {x, y});
    return !p.ok ? nullptr : c == 1 ? product : make(Op::MUL, u->dtype, {product, constant(u->dtype, c)});
  }
  Sum s = sum_of(u);
  if (!s.ok) return nullptr;
  recombine(s, u->dtype);
  return s.build(u->dtype);
}

// positive terms < negative terms + constant, or constant < negative terms
U build_comparison(Op op, const Sum& s, DType dtype) {
  Sum left, right;
  for (const Sum::Term& t : s) (t.c > 0 ? left : right).add(t.u, t.c > 0 ? t.c : -t.c);
  (left.n ? right : left).k = left.n ? -s.k : s.k;
  U x = left.build(dtype), y = right.build(dtype);
  return make(op, BOOL.with_lanes(dtype.lanes), {x, y});
}

// x < y, as sum < 0
U less(const Match& m) {
  U x = m.root->src(0), y = m.root->src(1);
  DType dtype = x->dtype;
  Sum s;
  s.add_node(x, 1);
  s.add_node(y, -1);
  if (!s.ok || s.k == least) return nullptr;
  Bounds b = s.bounds();
  if (b.max < 0 || b.min >= 0) return constant(m.root->dtype, b.max < 0);
  for (bool again = true; again;) {
    again = false;
    std::array<i64, Sum::capacity> gs;
    int n = 0;
    for (const Sum::Term& t : s)
      if (std::abs(t.c) > 1) gs[size_t(n++)] = std::abs(t.c);
    std::sort(gs.begin(), gs.begin() + n, std::greater<>());
    for (int i = 0; i < n;
         i++) {  // g*Q + R < 0 with R in one bucket for the purpose: Q < ceil(-R / g) for each value of R
      i64 g = gs[size_t(i)];
      Split p = split(s, g);
      Bounds r = p.rest.bounds();
      if (r.min == least || r.max == most || ceil_div(-r.min, g) != ceil_div(-r.max, g)) continue;
      p.quotient.add_constant(-ceil_div(-r.min, g));
      if (!p.quotient.ok) return nullptr;
      s = p.quotient;
      again = true;
      break;
    }
    if (s.n != 1 || std::abs(s.terms[0].c) != 1 || !is_op_by_const(s.terms[0].u, Op::IDIV)) continue;
    U t = s.terms[0].u;  // t/d < K is t < K*d;  K < t/d is (K+1)*d - 1 < t
    i64 d = t->src(1)->const_int(), v = 0;
    bool below = s.terms[0].c == 1;
    if (__builtin_mul_overflow(below ? s.k : s.k + 1, d, &v)) break;
    Sum next;
    next.k = below ? v : v - 1;
    next.add_node(t->src(0), below ? 1 : -1);
    if (!next.ok) break;
    s = next, again = true;
  }
  b = s.bounds();
  return b.max < 0 || b.min >= 0 ? constant(m.root->dtype, b.max < 0) : build_comparison(Op::CMPLT, s, dtype);
}

U equal(const Match& m) {
  U x = m.root->src(0), y = m.root->src(1);
  DType dtype = x->dtype;
  Sum s;
  s.add_node(x, 1);
  s.add_node(y, -1);
  if (!s.ok || s.k == least) return nullptr;
  Bounds b = s.bounds();
  bool eq = m.root->op == Op::CMPEQ;
  i64 g = s.gcd();
  if (b.min > 0 || b.max < 0 || (g && s.k % g)) return constant(m.root->dtype, !eq);
  if (b.min == 0 && b.max == 0) return constant(m.root->dtype, eq);
  i64 sign = s.terms[0].c < 0 ? -g : g;
  for (Sum::Term& t : s) t.c /= sign;
  s.k /= sign;
  return build_comparison(m.root->op, s, dtype);
}

U larger_or_smaller(const Match& m) {
  U x = m.root->src(0), y = m.root->src(1);
  Sum s;
  s.add_node(x, 1);
  s.add_node(y, -1);
  if (!s.ok) return nullptr;
  Bounds b = s.bounds();
  bool largest = m.root->op == Op::MAX;
  if (b.min >= 0) return largest ? x : y;
  if (b.max <= 0) return largest ? y : x;
  return compare(y, x) < 0 && !y->is_const() ? make(m.root->op, m.root->dtype, {y, x}) : nullptr;
}

// clang-format off
constexpr Rule divmod_table[] = {
  {any({Op::ADD, Op::SUB, Op::MUL}, x, y), [](const Match& m) { return normal_sum(m); }},
  {-x,                            [](const Match& m) { return normal_sum(m); }},
  {x / a,                         [](const Match& m) { return divide(m[x], m[a]->const_int()); },  0 < a},
  {x % a,                         [](const Match& m) { return modulo(m[x], m[a]->const_int()); },  0 < a},
  {x / a,                         -x / fold(-a),     a < 0},
  {x % a,                         -(-x % fold(-a)),  a < 0},
  {x < y,                         [](const Match& m) { return less(m); }},
  {any({Op::CMPEQ, Op::CMPNE}, x, y), [](const Match& m) { return equal(m); }},
  {any({Op::MAX, Op::MIN}, x, y), [](const Match& m) { return larger_or_smaller(m); }},
};
// clang-format on

}  // namespace

const RuleSpan divmod_rules{"divmod_rules", Arithmetic::INDEX, divmod_table};

}  // namespace ingot
