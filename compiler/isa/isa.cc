// SPDX-License-Identifier: MIT
// What every ISA shares: the list of them, rows seen from outside, and text with labels to bytes and back.
//
// assemble() makes two kinds of pass: the first pretends that every label is near and grows the branches that do not
// reach until nothing changes (branches only grow, so it ends), the last emits. So a branch is as short as it can be.
#include "compiler/isa/isa.h"

#include <algorithm>
#include <charconv>
#include <map>

namespace ingot::isa {

Isa x86_isa(), rdna_gfx1100();
std::span<const Isa> isas() {
  static const std::vector<Isa> list = {
#ifdef CONFIG_ISA_X86
      x86_isa(),
#endif
#ifdef CONFIG_ISA_RDNA
      rdna_gfx1100(),
#endif
  };
  return list;
}
std::span<const Effect> x86_effects(const Inst&), rdna_effects(const Inst&);
std::span<const Effect> effects_of(const Inst& r) {
  if (r.effect < 0) return {};
  switch (r.family) {
#ifdef CONFIG_ISA_X86
    case Inst::X86: return x86_effects(r);
#endif
#ifdef CONFIG_ISA_RDNA
    case Inst::RDNA: return rdna_effects(r);
#endif
    default: return {};
  }
}
DType dtype_of(const OperandSpec& s) {
  DType d{s.type};
  return d.bits() && !d.is_bool() && s.bits > d.bits() ? d.with_lanes(s.bits / d.bits()) : d;
}

namespace {
struct Builder {
  const Pat& pattern;
  std::span<const U> operands;
  int at = 0;
  // The subtree at `at`; nullptr for an immediate, which waits in `literal` until its type is known.
  U build(DType wanted, const Pat::Term*& literal) {
    const Pat::Term& t = pattern.term[size_t(at++)];
    literal = nullptr;
    if (t.kind == Pat::Term::HOLE) return operands[t.v];
    if (t.kind == Pat::Term::IMM || t.kind == Pat::Term::FLOAT_IMM) return literal = &t, nullptr;
    check(t.kind == Pat::Term::NODE && t.sources <= 3, "a meaning is made of operands, immediates and ops");
    Op op = Op(t.v);
    if (t.dtype >= 0) wanted = DType{Scalar(t.dtype), wanted.lanes};
    U source[3];
    const Pat::Term* pending[3];
    for (int k = 0; k < t.sources; k++) source[k] = build(wanted, pending[k]);
    int first = op == Op::WHERE;  // a condition has its own type
    DType beside = wanted;
    for (int k = t.sources; k-- > first;)
      if (source[k]) beside = source[k]->dtype;
    for (int k = 0; k < t.sources; k++)
      if (pending[k]) source[k] = immediate(*pending[k], beside);
    if (op == Op::CAST) return cast(source[0], wanted.with_lanes(source[0]->dtype.lanes));
    DType type = has(op, TO_BOOL) ? BOOL.with_lanes(source[0]->dtype.lanes) : op == Op::BITCAST ? wanted : beside;
    return make(op, type, std::span<const U>(source, t.sources));
  }
  static U immediate(const Pat::Term& t, DType d) {
    return t.kind == Pat::Term::IMM ? constant(d, t.imm) : constant_float(d, std::bit_cast<double>(t.imm));
  }
};
}  // namespace

U build_effect(const Inst& row, const Effect& e, std::span<const U> operands) {
  const Pat::Term* literal;
  DType wanted = dtype_of(row.spec[e.target]);
  Builder b{e.value, operands};
  U value = b.build(wanted, literal);
  return value ? value : Builder::immediate(*literal, wanted);
}

const Isa* find_isa(std::string_view name, std::string_view arch) {
  for (const Isa& isa : isas())
    if (isa.name == name && (arch.empty() || isa.arch == arch)) return &isa;
  return nullptr;
}

std::string isa_names() {
  std::string out;
  for (const Isa& isa : isas()) out += str(out.empty() ? "" : ", ", isa.name, isa.arch.empty() ? "" : " ", isa.arch);
  return out.empty() ? "none in this build" : out;
}

Operand reg(RegClass cls, int bits, u32 number) {
  Operand o;
  o.kind = Operand::REG, o.cls = cls, o.bits = u16(bits), o.reg = number;
  return o;
}
Operand imm(i64 value) {
  Operand o;
  o.kind = Operand::IMM, o.imm = value;
  return o;
}
Operand mem(int bits, u32 base, i64 displacement, u32 index, int scale) {
  Operand o;
  o.kind = Operand::MEM, o.bits = u16(bits), o.reg = base, o.imm = displacement, o.index = index, o.scale = u8(scale);
  return o;
}

bool Text::is_word(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.';
}
void Text::spaces() { s.remove_prefix(std::min(s.size(), s.find_first_not_of(" \t"))); }
bool Text::take(std::string_view t) {
  spaces();
  if (!s.starts_with(t)) return false;
  s.remove_prefix(t.size());
  return true;
}
bool Text::take_word(std::string_view t) {
  spaces();
  return (s.size() <= t.size() || !is_word(s[t.size()])) && take(t);
}
std::string_view Text::word() {
  spaces();
  size_t n = 0;
  while (n < s.size() && is_word(s[n])) n++;
  std::string_view w = s.substr(0, n);
  s.remove_prefix(n);
  return w;
}
bool Text::integer(i64& v) {
  spaces();
  std::string_view t = s;
  bool minus = t.starts_with("-");
  if (minus || t.starts_with("+")) t.remove_prefix(1);
  int base = t.starts_with("0x") || t.starts_with("0X") ? 16 : 10;
  if (base == 16) t.remove_prefix(2);
  u64 value;
  auto [end, problem] = std::from_chars(t.data(), t.data() + t.size(), value, base);
  if (problem != std::errc() || (end != t.data() + t.size() && is_word(*end))) return false;
  v = minus ? i64(-value) : i64(value);
  s.remove_prefix(size_t(end - s.data()));
  return true;
}

std::string disassemble(const Isa& isa, std::span<const u8> code, bool with_encoding) {
  std::string out;
  size_t digits = code.size() > 0xfff ? 8 : 4;
  for (size_t at = 0; at < code.size();) {
    Instruction i;
    size_t n = isa.decode(code.subspan(at), i);
    std::string address = hex(at, int(digits)).substr(2), line;
    if (n) {
      for (u8 k = 0; k < i.n; k++)  // show where it goes, not how far
        if (i.op[k].kind == Operand::IMM && k < i.row->shown && i.row->spec[k].pc_relative)
          i.op[k].imm = i.op[k].imm * i64(isa.unit) + i64(at + n);
      line = isa.print(i);
    } else {
      n = std::min(isa.unit, code.size() - at);
      line = ".byte ";
      for (size_t k = 0; k < n; k++) line += str(k ? ", " : "", hex(code[at + k], 2));
    }
    out += address + ":";
    if (with_encoding) {
      size_t column = out.size();
      for (size_t k = 0; k < n; k++) out += ' ' + hex(code[at + k], 2).substr(2);
      size_t used = out.size() - column;
      out.append(used < 33 ? 33 - used : 0, ' ');
    }
    out += "  " + line + "\n";
    at += n;
  }
  return out;
}

std::vector<u8> assemble(const Isa& isa, std::string_view text) {
  struct Line {
    std::string text, label;  // with `label` a branch to it; the text then has {} in its place
    int number;
    size_t at = 0, size = 0;
  };
  auto trim = [](std::string_view s) {
    while (!s.empty() && (s.front() == ' ' || s.front() == '\t' || s.front() == '\r')) s.remove_prefix(1);
    while (!s.empty() && (s.back() == ' ' || s.back() == '\t' || s.back() == '\r')) s.remove_suffix(1);
    return s;
  };
  auto is_name = [](std::string_view s) {
    return !s.empty() && !(s[0] >= '0' && s[0] <= '9') &&
           std::ranges::all_of(s, [](char c) { return Text::is_word(c) || c == '$'; });
  };
  std::vector<Line> lines;
  std::map<std::string, size_t, std::less<>> labels;  // name -> line that follows
  int number = 0;
  for (std::string_view raw : split(text, '\n')) {
    number++;
    std::string_view s = trim(raw.substr(0, std::min(raw.find_first_of("#;"), raw.find("//"))));
    for (size_t colon; (colon = s.find(':')) != s.npos && is_name(trim(s.substr(0, colon)));
         s = trim(s.substr(colon + 1)))
      if (!labels.emplace(std::string(trim(s.substr(0, colon))), lines.size()).second)
        throw Error("line ", number, ": label ", trim(s.substr(0, colon)), " is defined twice");
    if (!s.empty()) lines.push_back({std::string(s), "", number});
  }
  for (Line& l : lines) {
    size_t space = l.text.rfind(' ');
    if (space == l.text.npos) continue;
    std::string word = l.text.substr(space + 1);
    if (!labels.count(word)) continue;
    l.label = word;
    l.text.resize(space);
  }
  std::vector<u8> out;
  auto encode_line = [&](Line& l, i64 distance) {
    std::string error;
    Instruction i;
    if (l.text.starts_with(".byte ")) {
      for (std::string_view v : split(std::string_view(l.text).substr(6), ',')) {
        std::string byte(trim(v));
        char* end = nullptr;
        long value = std::strtol(byte.c_str(), &end, 0);
        if (*end || byte.empty() || value < -128 || value > 255)
          throw Error("line ", l.number, ": ", byte, " is not a byte");
        out.push_back(u8(value));
      }
      return;
    }
    std::string one = l.label.empty() ? l.text : str(l.text, " ", distance / i64(isa.unit));
    if (!isa.parse(one, i, error)) throw Error("line ", l.number, ": ", error);
    check(isa.encode(i, out), one);
  };
  auto target = [&](const Line& l) {
    size_t line = labels.find(l.label)->second;
    return line < lines.size() ? lines[line].at : lines.empty() ? 0 : lines.back().at + lines.back().size;
  };
  for (bool changed = true; changed;) {
    changed = false;
    size_t at = 0;
    for (Line& l : lines) {
      l.at = at;
      at += l.size;
    }
    for (Line& l : lines) {
      out.clear();
      encode_line(l, l.label.empty() ? 0 : i64(target(l)) - i64(l.at + l.size));
      if (out.size() > l.size) l.size = out.size(), changed = true;
    }
  }
  out.clear();
  for (Line& l : lines) {
    encode_line(l, l.label.empty() ? 0 : i64(target(l)) - i64(l.at + l.size));
    check(out.size() == l.at + l.size, "line ", l.number, " has shrunk");
  }
  return out;
}

}  // namespace ingot::isa
