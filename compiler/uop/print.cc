// SPDX-License-Identifier: MIT
// Graphs as text. print() writes one line per node, sources first and the root last, and parse_uops() reads it back:
//     %2 = ADD f32 (2, 3) %0 %1
//     %3 = REDUCE_AXIS f32 (2, 1) %2 [ADD, 1]
// that is: name, op, dtype, shape (tensors with axes only; checked when read), sources, arguments. Arguments are
// integers except where names say more: the op of a reduction, the kind of a RANGE, the value of a float constant (a
// NaN as its bits in hex).
// `#` starts a comment. print_expression() is for people: one line of infix notation, cut short when it grows long.
#include <algorithm>
#include <cmath>
#include <limits>

#include "compiler/uop/uop.h"

namespace ingot {
namespace {

constexpr std::string_view range_kinds[] = {"LOOP", "REDUCE", "THREAD", "UNROLL", "VECTOR"};
bool names_op(Op op, size_t position) { return position == 0 && (op == Op::REDUCE || op == Op::REDUCE_AXIS); }
bool names_kind(Op op, size_t position) { return position == 1 && op == Op::RANGE; }

void append_arg(std::string& out, U u, size_t i) {
  i64 v = u->arg()[i];
  double f = __builtin_bit_cast(double, v);
  if (names_op(u->op, i) && v >= 0 && v < int(Op::COUNT))
    append(out, Op(v));
  else if (names_kind(u->op, i) && v >= 0 && v < i64(std::size(range_kinds)))
    append(out, range_kinds[size_t(v)]);
  else if (u->op == Op::CONST && u->dtype.is_float() && f != f)
    append(out, hex(u64(v)));
  else if (u->op == Op::CONST && u->dtype.is_float())
    append(out, f);
  else
    append(out, v);
}

// One line of parse_uops' text. A reader moves a cursor and never past the end.
struct Reader {
  std::string_view text;
  size_t at = 0;
  void space() {
    while (at < text.size() && (text[at] == ' ' || text[at] == '\t' || text[at] == '\r')) at++;
  }
  bool eat(char c) {
    space();
    if (at == text.size() || text[at] != c) return false;
    return at++, true;
  }
  std::string_view word() {  // up to a delimiter
    space();
    size_t start = at;
    while (at < text.size() && std::string_view(" \t\r,()[]=%").find(text[at]) == std::string_view::npos) at++;
    return text.substr(start, at - start);
  }
  template <class T>
  static bool number(std::string_view w, T& v) {
    bool is_hex = std::is_integral_v<T> && w.starts_with("0x");
    if (is_hex) w.remove_prefix(2);
    std::from_chars_result r;
    if constexpr (std::is_integral_v<T>)
      r = std::from_chars(w.data(), w.data() + w.size(), v, is_hex ? 16 : 10);
    else
      r = std::from_chars(w.data(), w.data() + w.size(), v);
    return !w.empty() && r.ec == std::errc() && r.ptr == w.data() + w.size();
  }
};

i64 read_arg(Reader& r, Op op, DType dtype, size_t position) {
  std::string_view w = r.word();
  i64 v = 0;
  if (std::optional<Op> named; names_op(op, position) && (named = op_from_name(w))) return i64(*named);
  if (names_kind(op, position))
    for (size_t k = 0; k < std::size(range_kinds); k++)
      if (w == range_kinds[k]) return i64(k);
  if (u64 bits = 0; w.starts_with("0x") && Reader::number(w, bits)) return i64(bits);
  if (double f = 0; op == Op::CONST && dtype.is_float()) {
    if (Reader::number(w, f)) return __builtin_bit_cast(i64, f);
  } else if (Reader::number(w, v)) {
    return v;
  }
  throw Error("\"", w, "\" is no argument of ", op);
}

}  // namespace

std::string print(U root) {
  UMap<i64> number;
  std::string out;
  for (U u : toposort(root)) {
    i64 n = i64(number.size());
    number[u] = n;
    out += str('%', n, " = ", u->op, ' ', u->dtype);
    if (u->ndim) out += ' ', append(out, u->shape());
    for (U s : u->src()) out += str(" %", *number.find(s));
    if (u->narg) {
      out += " [";
      for (size_t i = 0; i < u->narg; i++) {
        if (i) out += ", ";
        append_arg(out, u, i);
      }
      out += ']';
    }
    out += '\n';
  }
  return out;
}

U parse_uops(std::string_view text) {
  std::vector<U> nodes;
  int line_number = 0;
  for (std::string_view line : split(text, '\n')) {
    line_number++;
    Reader r{line.substr(0, line.find('#'))};
    r.space();
    if (r.at == r.text.size()) continue;
    try {
      i64 name = 0;
      if (!r.eat('%') || !Reader::number(r.word(), name) || !r.eat('=')) throw Error("a line starts with %N =");
      if (name != i64(nodes.size())) throw Error("node %", name, " stands where %", nodes.size(), " is due");
      std::string_view w = r.word();
      std::optional<Op> op = op_from_name(w);
      if (!op) throw Error("no op is called \"", w, '"');
      w = r.word();
      std::optional<DType> dtype = dtype_from_name(w);
      if (!dtype) throw Error("no dtype is called \"", w, '"');
      std::vector<i64> shape, arg;
      std::vector<U> src;
      bool has_shape = r.eat('(');
      while (has_shape && !r.eat(')')) {
        i64 v = 0;
        if (!Reader::number(r.word(), v)) throw Error("a shape is a list of integers in parentheses");
        shape.push_back(v);
        if (!r.eat(',') && !(r.space(), r.at < r.text.size() && r.text[r.at] == ')'))
          throw Error("the shape does not end");
      }
      while (r.eat('%')) {
        u64 v = 0;
        if (!Reader::number(r.word(), v) || v >= nodes.size()) throw Error("a source is the number of an earlier line");
        src.push_back(nodes[size_t(v)]);
      }
      bool has_args = r.eat('[');
      while (has_args && !r.eat(']')) {
        arg.push_back(read_arg(r, *op, *dtype, arg.size()));
        if (!r.eat(',') && !(r.space(), r.at < r.text.size() && r.text[r.at] == ']'))
          throw Error("the arguments do not end");
      }
      r.space();
      if (r.at != r.text.size()) throw Error("\"", r.text.substr(r.at), "\" follows the node");
      if (std::string why = malformed(*op, *dtype, src, arg); !why.empty()) throw Error(*op, ": ", why);
      U u = make(*op, *dtype, src, arg);
      if (!std::ranges::equal(u->shape(), shape)) throw Error(*op, " has shape ", u->shape(), ", not ", shape);
      nodes.push_back(u);
    } catch (const Error& e) {
      throw Error("line ", line_number, ": ", e.what());
    }
  }
  if (nodes.empty()) throw Error("the text holds no node");
  return nodes.back();
}

namespace {

struct Infix {
  Op op;
  const char* text;
  int level;
};
constexpr Infix infix[] = {
    {Op::OR, " | ", 1},    {Op::XOR, " ^ ", 2},  {Op::AND, " & ", 3},  {Op::CMPEQ, " == ", 4}, {Op::CMPNE, " != ", 4},
    {Op::CMPLT, " < ", 5}, {Op::SHL, " << ", 6}, {Op::SHR, " >> ", 6}, {Op::ADD, " + ", 7},    {Op::SUB, " - ", 7},
    {Op::MUL, "*", 8},     {Op::IDIV, " / ", 8}, {Op::MOD, " % ", 8},  {Op::FDIV, " / ", 8},
};
constexpr int unary_level = 9, most_depth = 40;
constexpr size_t most_text = 2000;

// Recursion ends at most_depth, and the text at most_text, however large the graph.
void expression(std::string& out, U u, int level, int depth) {
  if (depth > most_depth || out.size() > most_text) {
    if (!out.ends_with("…")) out += "…";
    return;
  }
  auto source = [&](int i, int at) { expression(out, u->src(i), at, depth + 1); };
  auto list = [&](size_t from, size_t to) {
    for (size_t i = from; i < to; i++) {
      if (i > from) out += ", ";
      source(int(i), 0);
    }
  };
  if (u->op == Op::XOR && u->dtype.is_bool() && u->src(1)->is_const(1)) {
    out += '!';
    return source(0, unary_level);
  }
  for (const Infix& i : infix) {
    if (i.op != u->op) continue;
    if (i.level < level) out += '(';
    U right = u->src(1);
    if (u->op == Op::ADD && right->is_const() && right->narg == 1 && right->dtype.is_int() && right->const_int() < 0 &&
        right->const_int() != std::numeric_limits<i64>::min()) {
      source(0, i.level);
      out += str(" - ", -right->const_int());
    } else {
      source(0, i.level);
      out += i.text;
      source(1, i.level + 1);
    }
    if (i.level < level) out += ')';
    return;
  }
  switch (u->op) {
    case Op::CONST:
      if (u->narg != 1) out += '{';
      for (size_t i = 0; i < u->narg; i++) {
        if (i) out += ", ";
        append_arg(out, u, i);
      }
      if (u->narg != 1) out += '}';
      return;
    case Op::RANGE: return void(out += str('r', u->arg(0)));
    case Op::PARAM: return void(out += str('p', u->arg(0)));
    case Op::LOCAL: return void(out += str("local", u->arg(0)));
    case Op::BUFFER: return void(out += str("buffer", u->arg(0)));
    case Op::NEG: out += '-'; return source(0, unary_level);
    case Op::INDEX:
      source(0, unary_level);
      out += '[';
      source(1, 0);
      if (u->nsrc > 2) out += " if ", source(2, 0);
      out += ']';
      return;
    case Op::LOAD: return source(0, level);
    case Op::STORE:
      source(0, 0);
      out += " = ";
      source(1, 0);
      if (u->nsrc > 2) out += " for ", list(2, u->nsrc);
      return;
    case Op::WHERE:
      if (level) out += '(';
      source(0, 1);
      out += " ? ";
      source(1, 1);
      out += " : ";
      source(2, 0);
      if (level) out += ')';
      return;
    case Op::CAST: append(out, u->dtype); break;
    default:
      for (char c : std::string_view(row(u->op).name)) out += char(c >= 'A' && c <= 'Z' ? c + 32 : c);
  }
  if (u->narg) {
    out += '[';
    for (size_t i = 0; i < u->narg; i++) {
      if (i) out += ", ";
      append_arg(out, u, i);
    }
    out += ']';
  }
  out += '(';
  list(0, u->nsrc);
  out += ')';
}

}  // namespace

std::string print_expression(U u) {
  std::string out;
  append(out, u);
  return out;
}
void append(std::string& out, U u) {
  std::string text;
  if (u)
    expression(text, u, 0, 0);
  else
    text = "nothing";
  out += text;
}

}  // namespace ingot
