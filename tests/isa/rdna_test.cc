// SPDX-License-Identifier: MIT
// RDNA3 against LLVM 19, in the way of x86_test.cc: golden files that need no LLVM, live comparisons where it is
// installed, and what must hold of the rows by themselves. `make golden` writes the files anew.
//
// LLVM decodes words whose reserved bits are set and forgets the bits; we refuse such words. So where only LLVM
// decodes, the two still agree if LLVM's own text assembles to other words, or to none. Texts that LLVM writes another
// way are in `spelled_otherwise`.
#include <gtest/gtest.h>

#include <unistd.h>

#include <cstdio>
#include <map>
#include <set>

#include "compiler/isa/rdna.h"
#include "tests/isa/examples.h"

namespace ingot::isa {
using namespace rdna;
using namespace rdna::fields;

static const Isa& target() { return *find_isa("rdna", "gfx1100"); }
static std::string assembled(std::string_view text) {
  Instruction i;
  std::string error;
  std::vector<u8> bytes;
  if (!target().parse(text, i, error)) return error;
  return target().encode(i, bytes) ? hex_text(bytes) : "does not encode";
}
static std::string disassembled(std::span<const u8> bytes, size_t* length = nullptr) {
  Instruction i;
  size_t n = target().decode(bytes, i);
  if (length) *length = n;
  return n ? target().print(i) : "";
}

// ---- LLVM ---------------------------------------------------------------------------------------------------------
static std::string output_of(const std::string& command) {
  std::string out;
  FILE* pipe = popen(command.c_str(), "r");
  char buffer[65536];
  while (size_t n = fread(buffer, 1, sizeof buffer, pipe)) out.append(buffer, n);
  pclose(pipe);
  return out;
}
static std::string scratch_file(std::string_view suffix) { return str("/tmp/ingot_rdna_", getpid(), suffix); }
static std::vector<std::string> llvm_words(const std::vector<std::string>& lines, std::string_view cpu = "gfx1100") {
  std::string in = scratch_file(".s"), errors = scratch_file(".err"), text;
  for (const std::string& l : lines) text += l + "\n";
  write_file(in, text);
  std::string out =
      output_of(str("llvm-mc-19 -triple=amdgcn-amd-amdhsa -mcpu=", cpu, " --show-encoding ", in, " 2>", errors));
  std::string messages = read_file(errors);
  EXPECT_EQ(messages.find("not a recognized processor"), messages.npos);
  std::vector<bool> refused(lines.size());
  for (std::string_view l : split(messages, '\n')) {
    size_t at = l.find(": error:");
    if (at == l.npos || !l.starts_with(in)) continue;
    size_t number = std::stoul(std::string(l.substr(in.size() + 1))) - 1;
    if (number < refused.size()) refused[number] = true;
  }
  unlink(in.c_str()), unlink(errors.c_str());
  std::vector<std::string> result(lines.size());
  size_t at = 0;
  for (size_t i = 0; i < lines.size(); i++) {
    if (refused[i]) continue;
    at = out.find("encoding: [", at);
    if (at == out.npos) break;
    at += 11;
    for (std::string_view byte : split(std::string_view(out).substr(at, out.find(']', at) - at), ','))
      result[i] += byte.starts_with("0x") ? std::string(byte.substr(2)) : "00";
  }
  return result;
}
static std::vector<Disassembled> llvm_texts(const std::vector<std::vector<u8>>& strings) {
  std::string in = scratch_file(".s"), object = scratch_file(".o"), text;
  for (size_t i = 0; i < strings.size(); i++) {
    text += str("label", i, ":\n .byte ");
    for (size_t k = 0; k < strings[i].size(); k++) text += str(k ? "," : "", int(strings[i][k]));
    text += "\n .fill 64, 1, 0\n";  // so that no string ends inside an instruction
  }
  write_file(in, text);
  output_of(str("llvm-mc-19 -triple=amdgcn-amd-amdhsa -mcpu=gfx1100 -filetype=obj ", in, " -o ", object));
  std::string out = output_of(str("llvm-objdump-19 -d -z --mcpu=gfx1100 ", object));
  unlink(in.c_str()), unlink(object.c_str());
  std::vector<Disassembled> result(strings.size());
  size_t current = strings.size();
  for (std::string_view l : split(out, '\n')) {
    if (l.ends_with(">:")) {
      current = std::stoul(std::string(l.substr(l.find("<label") + 6)));
      continue;
    }
    size_t comment = l.rfind("// ");
    if (current >= strings.size() || comment == l.npos) continue;
    Disassembled& d = result[current];
    current = strings.size();
    std::string_view words = l.substr(comment + 3);
    words = words.substr(words.find(": ") + 2);
    for (std::string_view w : split(words.substr(0, words.find(" <")), ' ')) d.length += w.size() == 8 ? 4 : 0;
    for (char c : l.substr(0, comment)) {
      if (c == '\t') c = ' ';
      if (c != ' ' || (!d.text.empty() && d.text.back() != ' ')) d.text += c;
    }
    while (!d.text.empty() && d.text.back() == ' ') d.text.pop_back();
    if (size_t label = d.text.rfind(" label"); label != d.text.npos)  // a branch into another string
      d.text = str(d.text.substr(0, label + 1), std::stoul(std::string(words.substr(4, 4)), nullptr, 16));
    // What LLVM comments on is no instruction, nor are formats that have no rows.
    bool other = d.text.find("/*") != d.text.npos || d.text.find("Warning") != d.text.npos;
    for (std::string_view p : {".long", "<unknown>", "buffer_", "tbuffer_", "image_", "exp ", "v_interp", "lds_"})
      other |= d.text.starts_with(p);
    if (other && !d.text.starts_with("buffer_gl")) d = {};
  }
  return result;
}

// ---- operands for every row ---------------------------------------------------------------------------------------
static u32 pick(Random& random, std::initializer_list<u32> values) { return values.begin()[random() % values.size()]; }
static Operand example_operand(const Row& r, int i, Random& random) {
  const OperandSpec& s = r.spec[i];
  u32 count = u32(std::max(1, dwords(s)));
  if (r.kind[i]) {
    i64 bits = s.place == LIT ? 32 : s.imm_bits, top = (i64(1) << (bits - (s.imm_unsigned ? 0 : 1))) - 1;
    i64 values[] = {
        0, 1, top, s.imm_unsigned ? top / 2 + 1 : -top - 1, i64(random() % 4096) & top, i64(random()) & top};
    i64 v = values[random() % 6];
    if (r.kind[i] == KIND_waitcnt) v &= 0xfff7;
    if (r.kind[i] == KIND_delay) v = i64(random() % 12) | i64(random() % 6) << 4 | i64(random() % 12) << 7;
    if (r.kind[i] == KIND_sendmsg || r.kind[i] == KIND_sendmsg_rtn) v &= 255;
    if (r.kind[i] == KIND_uoffset) v &= 4095;
    if (r.kind[i] == KIND_swizzle && !(v & 0x8000))
      v &= ~((v & 31) << 5) & ((v & 31) << 10 | 0x3ff);  // as its text is read
    if (s.place == LIT && !s.imm_unsigned) v = i32(v);
    return imm(v);
  }
  bool scalar = s.cls == RegClass::SCALAR || (s.also == RegClass::SCALAR && random() % 3 == 0);
  if (s.imm_bits && random() % 3 == 0) {
    if (s.imm_bits == 32 && random() % 2) {
      Operand o = imm(i32(pick(random, {65, u32(-17), 0x12345678, 0x3f000001, 0x7fffffff, 0x80000000})));
      if (value_bits(s) == 16 || r.mixed)
        o.imm = pick(random, {65, 0xffef, 0x1234, 0x3801, 0x7fff, 0x8000}), o.modifiers = LITERAL;
      if (float_literal(s)) o.imm = i64(u64(u32(o.imm) & 0x7fffffff) << 32);
      return o;
    }
    for (;;) {
      int code = 128 + int(random() % 121);
      if ((code > 208 && code < 240) || (code >= 240 && s.bits == 16 && !DType{s.type}.is_float())) continue;
      OperandSpec as = s;
      for (i64 v = -16; v <= 64; v++)
        if (inline_code(as, v) == code) return imm(v);
      static constexpr double floats[] = {0.5, -0.5, 1, -1, 2, -2, 4, -4, 0.15915494309189535};
      i64 v = sign_extended(i64(encode_float(floats[code - 240], inline_dtype(s))), value_bits(s));
      if (inline_code(s, v)) return imm(v);
    }
  }
  if (!scalar)
    return reg(RegClass::VECTOR, s.bits,
               pick(random, {0, 1, 2, 4, 127, 128, 200, 256 - count, u32(random() % (257 - count))}));
  for (;;) {
    u32 n = pick(random, {0,
                          2,
                          4,
                          8,
                          16,
                          100,
                          104,
                          105,
                          VCC_LO,
                          VCC_LO + 1,
                          108,
                          112,
                          120,
                          123,
                          NULL_REGISTER,
                          M0_REGISTER,
                          EXEC_LO,
                          EXEC_LO + 1,
                          235,
                          238,
                          253,
                          u32(random() % 106)});
    Operand o = reg(RegClass::SCALAR, s.bits, n);
    if (count > 1 && (n == VCC_LO + 1 || n == EXEC_LO + 1 || n == M0_REGISTER || (n < 106 && n % (count > 2 ? 4 : 2))))
      continue;
    if (std::string_view(r.name).starts_with("s_waitcnt_")) return reg(RegClass::SCALAR, 32, NULL_REGISTER);
    if (n >= 128 && !s.imm_bits) continue;
    if ((s.access & OperandSpec::WRITE && n >= 128) || (count > 2 && n == NULL_REGISTER)) continue;
    return o;
  }
}
// An instruction of this row as its own text is read: what a row does not take goes.
static std::optional<Instruction> example_of(const Row& r, Random& random) {
  for (int attempt = 0; attempt < 200; attempt++) {
    Instruction i;
    Modifiers m;
    i.row = &r, i.n = r.shown;
    for (int k = 0; k < r.shown; k++) i.op[k] = example_operand(r, k, random);
    if (r.format == VOPD) {
      for (size_t n = random() % 16;; n++) {
        const Row& y = static_cast<const Row&>(target().row(n % target().rows));
        if (y.format != VOPD || random() % 16) continue;
        i.second = &y;
        break;
      }
      const Row& y = static_cast<const Row&>(*i.second);
      for (int k = 0; k < y.shown; k++) i.op[i.n++] = example_operand(y, k, random);
    }
    for (int k = 0; k < r.shown; k++) {
      const OperandSpec& s = r.spec[k];
      Operand& o = i.op[k];
      if (s.place == ADDR && r.format == GLOBAL && i.op[r.shown - 2].reg != NULL_REGISTER) o.bits = 32;
      if (s.place == ADDR && r.format == SCRATCH && random() % 3 == 0) o = {};
      if (r.format == VOP3P && r.sel_hi && !r.mixed && s.place >= SRC0 && s.place <= SRC2 && random() % 4)
        o.modifiers |= HALF_HI;
      if (s.place < SRC0 || s.place > SRC2 || random() % 2 || r.kind[k] || s.type == Scalar::BOOL) continue;
      u32 bit = u32(1) << (s.place - SRC0);
      if (float_literal(s) && o.kind == Operand::IMM && !inline_code(s, o.imm))
        continue;  // LLVM takes no modified literal there
      if (r.neg & bit && random() % 3 == 0) o.modifiers |= NEGATE;
      if (r.abs & bit && random() % 3 == 0) o.modifiers |= ABSOLUTE;
      if (r.sel & bit && random() % 3 == 0) o.modifiers |= HALF;
      if (r.sel_hi & bit && random() % 3 == 0) o.modifiers ^= HALF_HI;
    }
    if (r.sel & 8 && random() % 4 == 0) i.op[0].modifiers |= HALF;
    if (r.true16)
      for (int k = 0; k < 2; k++)
        if (i.op[k].cls == RegClass::VECTOR && random() % 2) i.op[k].modifiers |= HALF;
    m.clamp = r.clamp && random() % 4 == 0;
    if (r.omod && random() % 4 == 0) m.omod = random() % 4;
    if (r.encodings & (HAS_DPP | HAS_E64_DPP) && random() % 3 == 0) {
      static constexpr u32 controls[] = {0,     0x1b,  0xe4,  0xff,  0x101, 0x10f, 0x111, 0x11f,
                                         0x121, 0x12f, 0x140, 0x141, 0x150, 0x15f, 0x160, 0x16f};
      m.dpp_kind = 1 + random() % 2;
      m.dpp = m.dpp_kind == 2 ? random() & 0xffffff
                              : controls[random() % 16] | u32(random() % 2) << 11 | u32(random() % 256) << 16;
      m.fetch_inactive = random() % 2;
    }
    if (r.encodings & HAS_BASE && r.encodings & HAS_E64) m.encoding = random() % 3;
    bool loads = (r.format == SMEM && r.effects) || r.format == FLAT || r.format == GLOBAL || r.format == SCRATCH;
    if (loads) m.glc = r.returns || (random() % 2 && r.cls != CLASS_atomic), m.dlc = random() % 2;
    if (loads && r.format != SMEM) m.slc = random() % 2;
    m.gds = r.gds == 2 || (r.gds && random() % 4 == 0);
    i.modifiers = m.bits();
    std::vector<u8> bytes;
    Instruction again;
    std::string error;
    if (!target().encode(i, bytes)) continue;
    if (target().parse(target().print(i), again, error)) return i;  // else more scalars than the constant bus has
  }
  return std::nullopt;
}
struct Sample {
  Instruction instruction;
  std::string text, words;
};
static std::vector<Sample> samples(Random& random, int per_row) {
  std::vector<Sample> out;
  for (size_t r = 0; r < target().rows; r++)
    for (int k = 0; k < per_row; k++) {
      const Row& row = static_cast<const Row&>(target().row(r));
      if (row.opcode[GFX11] == NONE || (row.format == VOPD && row.opcode[GFX11] > 15)) continue;
      auto i = example_of(row, random);
      if (!i) {
        ADD_FAILURE() << name_of(row) << " takes no operands";
        break;
      }
      std::vector<u8> bytes;
      target().encode(*i, bytes);
      out.push_back({*i, target().print(*i), hex_text(bytes)});
    }
  return out;
}

// Words of every format, with the interesting values of a source frequent.
static std::vector<u8> random_words(Random& random) {
  auto source = [&] {
    u32 choice = random() % 8;
    return choice < 3    ? 256 + random() % 256
           : choice == 3 ? random() % 128
           : choice == 4 ? 128 + random() % 81
           : choice == 5 ? 240 + random() % 9
           : choice == 6
               ? pick(random, {255, 250, 233, 234, 253, 254, 235, VCC_LO, NULL_REGISTER, M0_REGISTER, EXEC_LO})
               : random() % 512;
  };
  auto seldom = [&](int bits) { return random() % 3 ? 0u : u32(random()) & ((1u << bits) - 1); };
  u32 w[3] = {u32(random()), u32(random()), u32(random())};
  w[2] = pick(random, {w[2], 1, 0x3f000000, 0x3800, 0xffffffff, 0x40000000, 0xff00e400 | (w[2] & 255),
                       0xff010f00 | (w[2] & 255)});
  u32 two = source() | source() << 9, third = random() % 2 ? source() << 18 : 0;
  switch (random() % 14) {
    case 0: w[0] = 0xBE800000 | (w[0] & 0x7f50ff), w[1] = w[2]; break;
    case 1: w[0] = 0x80000000 | (w[0] & 0x3fffffff), w[1] = w[2]; break;
    case 2: w[0] = 0xBF000000 | (w[0] & 0xffffff), w[1] = w[2]; break;
    case 3: w[0] = 0xB0000000 | (w[0] & 0xfffffff), w[1] = w[2]; break;
    case 4:
      w[0] = 0xF4000000 | (w[0] & 0xffffff), w[1] = (random() % 2 ? 0xf8000000 : w[1] & 0xfe000000) | (w[1] & 0x1fffff);
      break;
    case 5: w[0] = 0x7E000000 | (w[0] & 0x1fffe00) | source(), w[1] = w[2]; break;
    case 6: w[0] = (w[0] & 0x7ffffe00) | source(), w[1] = w[2]; break;
    case 7: w[0] = 0x7C000000 | (w[0] & 0x1fffe00) | source(), w[1] = w[2]; break;
    case 8:
    case 9: w[0] = 0xD4000000 | (w[0] & 0x3ff00ff) | seldom(8) << 8, w[1] = two | third | seldom(5) << 27; break;
    case 10:
      w[0] = 0xCC000000 | (w[0] & 0x7f40ff) | seldom(6) << 8 | seldom(1) << 15,
      w[1] = two | third | (random() % 2 ? 3u << 27 : 0) | seldom(3) << 29;
      break;
    case 11: w[0] = 0xC8000000 | (w[0] & 0x3fffe00) | source(), w[1] = (w[1] & 0xfffffe00) | source(); break;
    case 12: w[0] = 0xD8000000 | (w[0] & 0x3fcffff) | seldom(1) << 17; break;
    case 13:
      w[0] = 0xDC000000 | (w[0] & 0x1ffffff);
      w[1] = (w[1] & 0xff00ffff) | (random() % 2 ? 0x7c0000u : u32(random() % 128) << 16);
      break;
  }
  std::vector<u8> bytes;
  for (u32 x : w)
    for (int k = 0; k < 4; k++) bytes.push_back(u8(x >> 8 * k));
  return bytes;
}

// ---- agreement ----------------------------------------------------------------------------------------------------
// Texts of the same words that LLVM writes otherwise, by mnemonic, and why. Both are read.
static const std::map<std::string_view, std::string_view> spelled_otherwise = {
    {"s_version", "LLVM names versions and flags; we write the number"},
    {"s_delay_alu", "with reserved bits or unknown values: LLVM drops or comments on them; we write the number"},
    {"s_sendmsg", "with reserved bits: LLVM drops them; we write the number"},
    {"s_sendmsghalt", "as s_sendmsg"},
};
static std::string_view mnemonic(std::string_view text) { return text.substr(0, text.find(' ')); }
struct Disagreement {
  std::vector<u8> words;
  Disassembled llvm;
  std::string ours;
};
// Words on which we and LLVM differ beyond what the header allows.
static std::vector<Disagreement> disagreements(const std::vector<std::vector<u8>>& strings, size_t& both,
                                               size_t& reserved) {
  std::vector<Disassembled> want = llvm_texts(strings);
  std::vector<Disagreement> out, only_llvm;
  both = reserved = 0;
  for (size_t k = 0; k < strings.size(); k++) {
    size_t n;
    std::string text = disassembled(strings[k], &n);
    if (n == want[k].length && text == want[k].text) {
      both += n != 0;
      continue;
    }
    if (n && spelled_otherwise.count(mnemonic(text))) continue;
    // A pair whose literal is a multiplier or addend: LLVM shows the other half's use of it as bits.
    if (n == want[k].length && text.find("dot2acc") != text.npos &&
        (text.find("fmaak") != text.npos || text.find("fmamk") != text.npos))
      continue;
    (n ? out : only_llvm).push_back({strings[k], want[k], text});
  }
  std::vector<std::string> lines;
  for (const Disagreement& d : only_llvm) lines.push_back(d.llvm.text);
  std::vector<std::string> again = llvm_words(lines);
  for (size_t k = 0; k < only_llvm.size(); k++)
    if (only_llvm[k].llvm.text.find(" src_") < only_llvm[k].llvm.text.find(','))
      reserved++;  // a result in a read-only register
    else if (again[k] == hex_text(std::span(only_llvm[k].words).first(std::min<size_t>(12, only_llvm[k].llvm.length))))
      out.push_back(only_llvm[k]);
    else
      reserved++;
  return out;
}

// Mnemonics of gfx1100 in the formats that have rows: what LLVM writes for some word of each opcode, without suffixes.
static std::set<std::string> llvm_mnemonics() {
  std::vector<std::vector<u8>> strings;
  auto add = [&](u32 a, u32 b) {
    std::vector<u8> s;
    for (u32 w : {a, b, 0u})
      for (int k = 0; k < 4; k++) s.push_back(u8(w >> 8 * k));
    strings.push_back(s);
  };
  auto each = [&](u32 prefix, int low, u32 opcodes, auto fields) {
    for (u32 op = 0; op < opcodes; op++)
      for (auto [a, b] : fields) add(prefix | op << low | a, b);
  };
  using Pairs = std::vector<std::pair<u32, u32>>;
  u32 v = 0x104 | 0x108 << 9, vvv = v | 0x10c << 18;
  each(0xBE800000, 8, 256, Pairs{{0x40004, 0}, {0x40080, 0}, {0x4, 0}});
  each(0x80000000, 23, 96, Pairs{{0x40804, 0}});
  each(0xBF000000, 16, 128, Pairs{{0x804, 0}});
  each(0xB0000000, 23, 28, Pairs{{0x40000, 0}, {0, 0}});
  each(0xBF800000, 16, 128, Pairs{{0, 0}, {1, 0}});
  each(0xF4000000, 18, 256, Pairs{{0x104, 0xf8000010}, {0, 0xf8000000}, {0, 0}});
  each(0x7E000000, 9, 256, Pairs{{0x80104, 0}, {0x104, 0}, {0, 0}});
  each(0, 25, 62, Pairs{{0x80804, 0}, {0x80904, 0}});
  each(0x7C000000, 17, 256, Pairs{{0x904, 0}});
  each(0xD4000000, 16, 1024,
       Pairs{{4, vvv},
             {4, v},
             {4, 0x104},
             {4, v | 4 << 18},
             {4, 0x104 | 4 << 9 | 4 << 18},
             {4, 4 | 4 << 9},
             {0x7e, v},
             {4, 0x104 | 4 << 9}});
  each(0xCC000000, 16, 128,
       Pairs{{0x4010, vvv | 3u << 27}, {0x4010, v | 3u << 27}, {0x4010, 0x120 | 0x130 << 9 | 0x140 << 18 | 3u << 27}});
  for (u32 op = 0; op < 14; op++) each(0xC8000000 | op << 22, 17, 32, Pairs{{0x904, 0x02020d0b}, {4, 0x0202000b}});
  each(0xD8000000, 18, 256, Pairs{{0, 0}, {1 << 17, 0}});
  for (u32 seg : {0u, 1u, 2u}) each(0xDC000000 | seg << 16, 18, 128, Pairs{{0, 0x007c0000}, {1 << 14, 0x007c0000}});
  std::set<std::string> names;
  for (const Disassembled& d : llvm_texts(strings)) {
    if (!d.length) continue;
    std::vector<std::string> parts{std::string(mnemonic(d.text))};
    if (size_t pair = d.text.find(":: "); pair != d.text.npos)
      parts.push_back(std::string(mnemonic(std::string_view(d.text).substr(pair + 3))));
    for (std::string name : parts) {
      for (std::string_view suffix : {"_e32", "_e64"})
        if (name.ends_with(suffix)) name.resize(name.size() - suffix.size());
      names.insert(name);
    }
  }
  return names;
}

// ---- golden files -------------------------------------------------------------------------------------------------
static bool written_elsewhere(const Sample& s) { return spelled_otherwise.count(mnemonic(s.text)); }

TEST(RdnaGolden, AssembleAndDisassemble) {  // rdna.txt: words, text, and how LLVM writes it back where that differs
  std::string file = read_file(str(golden_folder, "rdna.txt"));
  size_t lines = 0, wrong = 0;
  for (std::string_view l : split(file, '\n')) {
    if (l.empty() || l[0] == '#') continue;
    auto column = split(l, '\t');
    ASSERT_GE(column.size(), 2u) << l;
    lines++;
    std::string words = assembled(column[1]), text = disassembled(hex_bytes(column[0]));
    std::string_view want = column.size() > 2 ? column[2] : column[1];
    if (words == column[0] && text == want) continue;
    if (wrong++ < 20) ADD_FAILURE() << l << "\n  assembled " << words << "\n  disassembled " << text;
  }
  EXPECT_EQ(wrong, 0u);
  EXPECT_GT(lines, 2800u);
}
TEST(RdnaGolden, RandomWords) {  // rdna_random.txt: three words, length of the instruction (0: none) and its text
  std::string file = read_file(str(golden_folder, "rdna_random.txt"));
  size_t lines = 0, wrong = 0, decoded = 0;
  for (std::string_view l : split(file, '\n')) {
    if (l.empty() || l[0] == '#') continue;
    auto column = split(l, '\t');
    ASSERT_EQ(column.size(), 3u) << l;
    lines++;
    size_t n;
    std::string text = disassembled(hex_bytes(column[0]), &n);
    decoded += n != 0;
    if (std::to_string(n) == column[1] && text == column[2]) continue;
    if (wrong++ < 20) ADD_FAILURE() << l << "\n  ours " << n << " " << text;
  }
  EXPECT_EQ(wrong, 0u);
  EXPECT_GT(lines, 3000u);
  EXPECT_GT(decoded, lines / 5);
}
TEST(RdnaGolden, EveryMnemonicHasARow) {  // rdna_mnemonics.txt
  std::string file = read_file(str(golden_folder, "rdna_mnemonics.txt")), missing;
  std::set<std::string_view> names;
  for (std::string_view l : split(file, '\n'))
    if (!l.empty() && l[0] != '#') {
      names.insert(l);
      if (rows_named(target(), l).empty()) missing += str(" ", l);
    }
  EXPECT_EQ(missing, "");
  EXPECT_GT(names.size(), 900u);
  for (size_t r = 0; r < target().rows; r++)  // and no row is invented
    if (static_cast<const Row&>(target().row(r)).opcode[GFX11] != NONE) {
      EXPECT_TRUE(names.count(name_of(target().row(r)))) << name_of(target().row(r));
    }
}
static void write_goldens(Random& random) {
  std::vector<std::string> lines;
  for (const Sample& s : samples(random, 3))
    if (!written_elsewhere(s)) lines.push_back(s.text);
  std::sort(lines.begin(), lines.end());
  lines.erase(std::unique(lines.begin(), lines.end()), lines.end());
  std::vector<std::string> words = llvm_words(lines);
  std::vector<std::vector<u8>> codes;
  for (const std::string& w : words) codes.push_back(w.empty() ? std::vector<u8>{0, 0, 0, 0} : hex_bytes(w));
  std::vector<Disassembled> back = llvm_texts(codes);
  std::string text =
      str("# words, text, and the disassembly where it is written differently. LLVM ", llvm_version(), ", gfx1100\n");
  size_t refused = 0, different = 0;
  for (size_t k = 0; k < lines.size(); k++) {
    if (words[k].empty()) {
      if (refused++ < 20) std::printf("LLVM refuses: %s\n", lines[k].c_str());
      continue;
    }
    if (assembled(lines[k]) != words[k] || disassembled(codes[k]) != back[k].text) {
      std::printf("differs: %s | llvm %s %s | ours %s %s\n", lines[k].c_str(), words[k].c_str(), back[k].text.c_str(),
                  assembled(lines[k]).c_str(), disassembled(codes[k]).c_str());
      different++;
      continue;
    }
    text += str(words[k], "\t", lines[k], back[k].text == lines[k] ? "" : str("\t", back[k].text), "\n");
  }
  write_file(str(golden_folder, "rdna.txt"), text);
  std::printf("rdna.txt: %zu lines, %zu that LLVM does not assemble, %zu that differ and are left out\n", lines.size(),
              refused, different);

  std::vector<std::vector<u8>> strings;
  for (int k = 0; k < 6000; k++) strings.push_back(random_words(random));
  std::vector<Disassembled> d = llvm_texts(strings);
  text = str("# three words, length and text of the first instruction (0: none). LLVM ", llvm_version(), ", gfx1100\n");
  different = 0;
  for (size_t k = 0; k < strings.size(); k++) {
    size_t n;
    bool same = disassembled(strings[k], &n) == d[k].text && n == d[k].length;
    different += !same;
    if (same) text += str(hex_text(strings[k]), "\t", n, "\t", d[k].text, "\n");
  }
  write_file(str(golden_folder, "rdna_random.txt"), text);
  std::printf(
      "rdna_random.txt: %zu strings, %zu left out: reserved bits and listed spellings, see "
      "RdnaLive.AgreementOverRandomWords\n",
      strings.size(), different);

  text = str("# mnemonics that LLVM ", llvm_version(), " decodes for gfx1100 in the formats that have rows\n");
  for (const std::string& name : llvm_mnemonics()) text += name + "\n";
  write_file(str(golden_folder, "rdna_mnemonics.txt"), text);
}
TEST(RdnaGolden, DISABLED_Write) {
  ASSERT_TRUE(have_llvm()) << "install llvm-19";
  Random random(20);
  write_goldens(random);
}

// ---- live, where llvm-19 is installed -----------------------------------------------------------------------------
TEST(RdnaLive, EncodingsEqualLlvm) {
  if (!have_llvm()) GTEST_SKIP() << "llvm-mc-19 is not installed; the golden files were checked";
  u32 seed = std::random_device()();
  Random random(seed);
  std::vector<Sample> s = samples(random, 4);
  std::vector<std::string> lines;
  for (const Sample& a : s) lines.push_back(a.text);
  std::vector<std::string> want = llvm_words(lines);
  size_t refused = 0, wrong = 0;
  std::map<std::string, size_t> refusals;
  for (size_t k = 0; k < s.size(); k++) {
    if (want[k].empty()) {
      refused++;
      if (refusals[std::string(name_of(*s[k].instruction.row))]++ == 0 && refusals.size() < 12)
        std::printf("LLVM refuses %s\n", lines[k].c_str());
    } else if (assembled(lines[k]) != want[k] && wrong++ < 20) {
      ADD_FAILURE() << lines[k] << "\n  llvm " << want[k] << "\n  ours " << assembled(lines[k]);
    }
  }
  std::printf("seed %u: %zu texts, %zu refused by llvm-mc, %zu different\n", seed, s.size(), refused, wrong);
  EXPECT_EQ(wrong, 0u);
  EXPECT_LE(refused, s.size() / 200);
}
TEST(RdnaLive, EveryRowDisassemblesAsLlvmSays) {
  if (!have_llvm()) GTEST_SKIP() << "llvm-objdump-19 is not installed; the golden files were checked";
  u32 seed = std::random_device()();
  Random random(seed);
  std::vector<std::vector<u8>> codes;
  for (const Sample& a : samples(random, 3)) codes.push_back(hex_bytes(a.words));
  size_t both, reserved;
  std::vector<Disagreement> d = disagreements(codes, both, reserved);
  for (size_t k = 0; k < d.size() && k < 20; k++)
    ADD_FAILURE() << hex_text(d[k].words) << "\n  llvm " << d[k].llvm.text << "\n  ours " << d[k].ours;
  std::printf("seed %u: %zu encodings, %zu the same text, %zu different\n", seed, codes.size(), both, d.size());
  EXPECT_TRUE(d.empty());
  EXPECT_GT(both, codes.size() * 99 / 100);
}
TEST(RdnaLive, AgreementOverRandomWords) {
  if (!have_llvm()) GTEST_SKIP() << "llvm-objdump-19 is not installed; the golden files were checked";
  u32 seed = std::random_device()();
  Random random(seed);
  std::vector<std::vector<u8>> strings;
  for (int k = 0; k < 8000; k++) strings.push_back(random_words(random));
  size_t both, reserved;
  std::vector<Disagreement> d = disagreements(strings, both, reserved);
  for (size_t k = 0; k < d.size() && k < 20; k++)
    ADD_FAILURE() << hex_text(d[k].words) << "\n  llvm " << d[k].llvm.length << " " << d[k].llvm.text << "\n  ours "
                  << d[k].ours;
  std::printf("seed %u: %zu strings, %zu decoded the same, %zu only by LLVM which loses reserved bits, %zu different\n",
              seed, strings.size(), both, reserved, d.size());
  EXPECT_TRUE(d.empty());
}
// The column of gfx12 opcodes: where LLVM takes the same text for gfx1200, it makes the same words. The rows have
// gfx11's operands, so some texts it does not take; those rows must have no opcode there.
TEST(RdnaLive, Gfx12Opcodes) {
  if (!have_llvm()) GTEST_SKIP() << "llvm-mc-19 is not installed";
  Random random(12);
  std::vector<std::string> lines, ours;
  std::vector<const Inst*> rows;
  for (Sample& s : samples(random, 6)) {
    const Row& row = static_cast<const Row&>(*s.instruction.row);
    if (row.opcode[GFX12] == NONE ||
        (s.instruction.second && static_cast<const Row*>(s.instruction.second)->opcode[GFX12] == NONE))
      continue;
    Modifiers m = Modifiers::of(s.instruction.modifiers);
    m.glc = m.dlc = m.gds = 0;
    s.instruction.modifiers = m.bits();
    std::vector<u8> bytes;
    if (!rdna::encode(GFX12, s.instruction, bytes)) continue;  // FLAT has another layout there
    if (s.text.find("HW_REG_") != s.text.npos) continue;       // other numbers for some of the names
    lines.push_back(target().print(s.instruction)), ours.push_back(hex_text(bytes)), rows.push_back(&row);
  }
  std::vector<std::string> want = llvm_words(lines, "gfx1200");
  std::set<std::string> confirmed, unknown;
  for (size_t k = 0; k < lines.size(); k++)
    if (want[k].empty())
      continue;
    else if (confirmed.insert(rows[k]->name); want[k] != ours[k])
      ADD_FAILURE() << lines[k] << "\n  llvm " << want[k] << "\n  ours " << ours[k];
  std::string never;
  for (const Inst* r : rows)
    if (!confirmed.count(r->name) && unknown.insert(r->name).second) never += str(" ", r->name);
  std::printf("%zu rows confirmed for gfx1200\n", confirmed.size());
  EXPECT_EQ(never, "");
  EXPECT_GT(confirmed.size(), 500u);
}
TEST(RdnaLive, MnemonicsAreLlvms) {
  if (!have_llvm()) GTEST_SKIP() << "llvm-objdump-19 is not installed; the golden file was checked";
  std::string missing;
  for (const std::string& name : llvm_mnemonics())
    if (rows_named(target(), name).empty()) missing += str(" ", name);
  EXPECT_EQ(missing, "");
}

// ---- the rows by themselves ---------------------------------------------------------------------------------------
TEST(RdnaRows, RoundTrip) {  // encode → decode → print → parse → encode
  Random random(1);
  size_t wrong = 0, n = 0;
  for (const Sample& s : samples(random, 4)) {
    n++;
    std::vector<u8> bytes = hex_bytes(s.words), again;
    Instruction i;
    size_t length = target().decode(bytes, i);
    bool ok = length == bytes.size() && target().encode(i, again) && again == bytes;
    std::string text = ok ? target().print(i) : "";
    ok = ok && i.row == s.instruction.row && text == s.text && assembled(text) == s.words;
    if (!ok && wrong++ < 20)
      ADD_FAILURE() << s.text << " " << s.words << " decodes as " << text << " " << hex_text(again) << ", read as "
                    << assembled(text);
  }
  EXPECT_EQ(wrong, 0u);
  EXPECT_GT(n, 3500u);
}
TEST(RdnaRows, NothingIsAmbiguous) {  // no word matches two encodings of two rows
  std::vector<std::pair<const Row*, Pattern>> all;
  for (size_t r = 0; r < target().rows; r++)
    for (const Pattern& p : patterns_of(static_cast<const Row&>(target().row(r)), GFX11))
      all.push_back({&static_cast<const Row&>(target().row(r)), p});
  EXPECT_GT(all.size(), 1200u);
  for (size_t a = 0; a < all.size(); a++)
    for (size_t b = a + 1; b < all.size(); b++)
      if (!((all[a].second.match ^ all[b].second.match) & all[a].second.mask & all[b].second.mask))
        ADD_FAILURE() << name_of(*all[a].first) << " and " << name_of(*all[b].first);
}
TEST(RdnaRows, DecodeStaysInside) {  // every prefix of a string either decodes within itself or not at all
  Random random(3);
  for (int k = 0; k < 20000; k++) {
    std::vector<u8> s = random_words(random);
    Instruction i;
    size_t whole = target().decode(s, i);
    ASSERT_LE(whole, s.size());
    if (whole) {
      std::vector<u8> again;
      ASSERT_TRUE(target().encode(i, again)) << hex_text(s);
      bool moved = again.size() != whole || !std::equal(again.begin(), again.end(), s.begin());
      ASSERT_FALSE(moved) << hex_text(s) << " " << target().print(i) << " becomes " << hex_text(again);
    }
    for (size_t n = 0; n < s.size(); n++) {
      std::vector<u8> cut(s.begin(), s.begin() + i64(n));  // its own allocation, so that ASan sees a read past it
      size_t length = target().decode(cut, i);
      ASSERT_LE(length, n);
      if (whole && n >= whole && length) {
        ASSERT_EQ(length, whole) << hex_text(s) << " cut to " << n;
      }
    }
  }
}
TEST(RdnaRows, Meanings) {  // every row says what it does, with operands it has
  size_t patterns = 0, calls = 0;
  for (size_t r = 0; r < target().rows; r++) {
    const Row& row = static_cast<const Row&>(target().row(r));
    std::span<const Effect> effects = effects_of(row);
    EXPECT_NE(effects.empty(), row.function == NO_FUNCTION) << name_of(row) << " needs a meaning, and one only";
    patterns += !effects.empty(), calls += effects.empty();
    for (const Effect& e : effects) {
      ASSERT_GE(e.target, 0) << name_of(row);
      ASSERT_LT(size_t(e.target), row.specs) << name_of(row);
      EXPECT_TRUE(row.spec[size_t(e.target)].access & OperandSpec::WRITE) << name_of(row);
      for (u8 h = 0; h < 16; h++)
        if (e.value.binds >> h & 1) {
          ASSERT_LT(h, row.specs) << name_of(row);
          EXPECT_TRUE(row.spec[h].access & OperandSpec::READ || row.spec[h].imm_bits)
              << name_of(row) << " reads operand " << int(h);
          EXPECT_NE(row.spec[h].type, Scalar::VOID) << name_of(row);
        }
    }
  }
  std::printf("%zu rows with patterns, %zu with functions\n", patterns, calls);
  EXPECT_GT(patterns, 800u);
}

// Values of an operand's type for the holes of a meaning.
static U sample_value(DType d, Random& random) {
  auto one = [&] {
    if (d.is_bool()) return i64(random() % 2);
    i64 edges[] = {0, 1, -1, i64(random()), i64(u64(random()) << 32 | random()), i64(u64(1) << (d.bits() - 1))};
    return wrap_to(edges[random() % 6], d.element());
  };
  std::vector<i64> v;
  for (int k = 0; k < d.lanes; k++)
    v.push_back(d.is_float() ? std::bit_cast<i64>(round_to(double(i16(random())) / 16, d.element())) : one());
  return make(Op::CONST, d, {}, v);
}
TEST(RdnaRows, MeaningsAreWellTyped) {  // each builds a graph that the IR accepts, of the type of what it writes
  Arena arena;
  ArenaScope scope(arena);
  Random random(5);
  for (size_t r = 0; r < target().rows; r++) {
    const Row& row = static_cast<const Row&>(target().row(r));
    for (const Effect& e : effects_of(row)) {
      std::vector<U> operands(row.specs);
      for (int k = 0; k < row.specs; k++) {
        DType d = dtype_of(row.spec[k]);
        if (d.scalar != Scalar::VOID) operands[size_t(k)] = sample_value(d, random);
      }
      U value = build_effect(row, e, operands);
      EXPECT_EQ(value->dtype.scalar, row.spec[e.target].type) << name_of(row) << ": " << print(value);
      for (U u : toposort(value))
        EXPECT_EQ(malformed(u->op, u->dtype, u->src(), u->arg()), "") << name_of(row) << ": " << print(value);
    }
  }
}

static bool is_address(const Row& row, const OperandSpec& s) {
  bool address = s.place == ADDR || s.place == SADDR || s.place == SBASE || s.place == SOFFSET || s.place == OFFSET;
  return !s.implicit && address && row.format >= SMEM && (row.format < VOP1 || row.format > VOPD);
}
// What rows compute, against the same written in C++ from AMD's pseudo-code.
static i64 executed(std::string_view text, std::initializer_list<i64> values, int effect = 0) {
  Instruction i;
  std::string error;
  EXPECT_TRUE(target().parse(text, i, error)) << error;
  const Row& row = static_cast<const Row&>(*i.row);
  std::vector<U> operands(row.specs);
  size_t next = 0;  // values are for what is read, in the order of the operands
  for (int k = 0; k < row.specs; k++) {
    const OperandSpec& s = row.spec[k];
    DType d = dtype_of(s);
    if (!(s.access & OperandSpec::READ) || d.scalar == Scalar::VOID || is_address(row, s)) continue;
    if (next == values.size()) break;
    i64 v = values.begin()[next++];
    operands[size_t(k)] = d.is_float() ? constant_float(d, decode_float(u64(v), d)) : constant(d, v);
  }
  EXPECT_EQ(next, values.size()) << text;
  U value = simplify(build_effect(row, effects_of(row)[size_t(effect)], operands));
  EXPECT_TRUE(value->is_const()) << text << ": " << print(value);
  if (!value->is_const()) return 0;
  return value->dtype.is_float() ? i64(encode_float(value->const_float(), value->dtype)) : value->arg(0);
}
TEST(RdnaRows, WhatRowsCompute) {
  Arena arena;
  ArenaScope scope(arena);
  auto f = [](float x) { return i64(std::bit_cast<u32>(x)); };
  constexpr i64 nan = 0x7fc00000;
  EXPECT_EQ(executed("s_add_u32 s0, s1, s2", {0xffffffff, 2}), 1);
  EXPECT_EQ(executed("s_add_u32 s0, s1, s2", {0xffffffff, 2}, 1), 1);
  EXPECT_EQ(executed("s_add_u32 s0, s1, s2", {0x7fffffff, 2}, 1), 0);
  EXPECT_EQ(executed("s_addc_u32 s0, s1, s2", {0xffffffff, 0, 1}), 0);
  EXPECT_EQ(executed("s_addc_u32 s0, s1, s2", {0xffffffff, 0, 1}, 1), 1);
  EXPECT_EQ(executed("s_subb_u32 s0, s1, s2", {5, 5, 1}), 0xffffffff);
  EXPECT_EQ(executed("s_subb_u32 s0, s1, s2", {5, 5, 1}, 1), 1);
  EXPECT_EQ(executed("s_add_i32 s0, s1, s2", {0x7fffffff, 1}, 1), 1);
  EXPECT_EQ(executed("s_sub_i32 s0, s1, s2", {-0x80000000ll, 1}, 1), 1);
  EXPECT_EQ(executed("s_sub_i32 s0, s1, s2", {-5, 1}, 1), 0);
  EXPECT_EQ(executed("s_lshl2_add_u32 s0, s1, s2", {0x40000001, 3}), 7);
  EXPECT_EQ(executed("s_lshl2_add_u32 s0, s1, s2", {0x40000001, 3}, 1), 1);
  EXPECT_EQ(executed("s_ashr_i32 s0, s1, s2", {-256, 36}), -16);
  EXPECT_EQ(executed("s_mul_hi_i32 s0, s1, s2", {-3, 5}), -1);
  EXPECT_EQ(executed("s_pack_lh_b32_b16 s0, s1, s2", {0x11112222, 0x33334444}), 0x33332222);
  EXPECT_EQ(executed("s_bfm_b64 s[0:1], s2, s3", {8, 40}), i64(0xff) << 40);
  EXPECT_EQ(executed("s_bitset0_b32 s0, s1", {0xff, 35}), 0xf7);
  EXPECT_EQ(executed("s_max_i32 s0, s1, s2", {4, 4}, 1), 1);
  EXPECT_EQ(executed("s_min_i32 s0, s1, s2", {4, 4}, 1), 0);
  EXPECT_EQ(executed("s_and_saveexec_b32 s0, s1", {0xf0, 0x3c}), 0x3c);
  EXPECT_EQ(executed("s_and_saveexec_b32 s0, s1", {0xf0, 0x3c}, 1), 0x30);
  EXPECT_EQ(executed("s_cmpk_lt_i32 s0, 0xffff", {-2, -1}), 1);
  EXPECT_EQ(executed("s_cmpk_lt_u32 s0, 0xffff", {0xfffffffe, 0xffff}), 0);
  EXPECT_EQ(executed("s_cbranch_scc1 -2", {-2, 1, 100}), 92);
  EXPECT_EQ(executed("s_cbranch_scc1 -2", {-2, 0, 100}), 100);
  EXPECT_EQ(executed("v_fma_f32 v0, v1, v2, v3", {f(2), f(3), f(0.5)}), f(6.5));
  EXPECT_EQ(executed("v_max_f32 v0, v1, v2", {nan, f(3)}), f(3));
  EXPECT_EQ(executed("v_max_f32 v0, v1, v2", {f(-3), nan}), f(-3));
  EXPECT_EQ(executed("v_subrev_f32 v0, v1, v2", {f(1), f(3)}), f(2));
  EXPECT_EQ(executed("v_mul_dx9_zero_f32 v0, v1, v2", {f(0), 0x7f800000}), 0);
  EXPECT_EQ(executed("v_cndmask_b32 v0, v1, v2, vcc_lo", {7, 8, 1}), 8);
  EXPECT_EQ(executed("v_ashrrev_i32 v0, v1, v2", {33, -4}), -2);
  EXPECT_EQ(executed("v_mul_i32_i24 v0, v1, v2", {0xffffff, 5}), -5);
  EXPECT_EQ(executed("v_mul_hi_u32_u24 v0, v1, v2", {0xffffffff, 0xffffffff}), 0xffff);
  EXPECT_EQ(executed("v_add_co_ci_u32 v0, vcc_lo, v1, v2, vcc_lo", {0xffffffff, 0, 1}, 1), 1);
  EXPECT_EQ(executed("v_cvt_f32_ubyte2_e32 v0, v1", {0x11abcdef}), f(0xab));
  EXPECT_EQ(executed("v_ceil_f32 v0, v1", {f(1.25)}), f(2));
  EXPECT_EQ(executed("v_bfe_u32 v0, v1, v2, v3", {0x12345678, 8, 8}), 0x56);
  EXPECT_EQ(executed("v_bfi_b32 v0, v1, v2, v3", {0xff00, 0x1234, 0x5678}), 0x1278);
  EXPECT_EQ(executed("v_alignbit_b32 v0, v1, v2, v3", {0x11111111, 0x22222222, 4}), 0x12222222);
  EXPECT_EQ(executed("v_alignbyte_b32 v0, v1, v2, v3", {0xaabbccdd, 0x11223344, 3}), 0xbbccdd11);
  EXPECT_EQ(executed("v_med3_i32 v0, v1, v2, v3", {9, -4, 3}), 3);
  EXPECT_EQ(executed("v_mad_u64_u32 v[0:1], s0, v2, v3, v[4:5]", {0xffffffff, 2, -1}, 1), 1);
  EXPECT_EQ(executed("v_lshl_add_u32 v0, v1, v2, v3", {3, 34, 5}), 17);
  EXPECT_EQ(executed("v_cmp_nlt_f32 vcc_lo, v0, v1", {nan, f(1)}), 1);
  EXPECT_EQ(executed("v_cmp_ge_f32 vcc_lo, v0, v1", {nan, f(1)}), 0);
  EXPECT_EQ(executed("v_cmp_le_u32 vcc_lo, v0, v1", {3, 3}), 1);
  EXPECT_EQ(executed("v_cmp_t_f32 vcc_lo, v0, v1", {nan, f(1)}), 1);
  EXPECT_EQ(executed("v_cmpx_gt_i32 v0, v1", {3, -3}), 1);
  EXPECT_EQ(executed("ds_inc_rtn_u32 v0, v1, v2", {7, 7}, 1), 0);
  EXPECT_EQ(executed("ds_dec_rtn_u32 v0, v1, v2", {7, 9}, 1), 7);
  EXPECT_EQ(executed("ds_cmpstore_b32 v0, v1, v2", {5, 6, 6}), 5);
  EXPECT_EQ(executed("ds_cmpstore_b32 v0, v1, v2", {5, 6, 7}), 7);
  EXPECT_EQ(executed("global_load_i8 v0, v[1:2], off", {0x80}), -128);
  EXPECT_EQ(executed("global_load_d16_hi_i8 v0, v[1:2], off", {0x1234, 0x80}), 0xff801234);
  EXPECT_EQ(executed("global_store_d16_hi_b8 v[0:1], v2, off", {0x12345678}), 0x34);
}

// ---- text ---------------------------------------------------------------------------------------------------------
TEST(RdnaText, LabelsAndBranches) {
  EXPECT_EQ(hex_text(assemble(target(), "top:\n  s_nop 0  // comment\n  s_cbranch_scc1 top ; back\n  s_endpgm\n")),
            "000080bffeffa2bf0000b0bf");
  EXPECT_EQ(disassemble(target(), hex_bytes("000080bffeffa2bfffffffff"), false),
            "0000:  s_nop 0\n0004:  s_cbranch_scc1 0\n0008:  .byte 0xff, 0xff, 0xff, 0xff\n");
}
TEST(RdnaText, ShortestEncoding) {
  EXPECT_EQ(assembled("v_add_f32 v1, v2, v3"), "02070206");
  EXPECT_EQ(assembled("v_add_f32 v1, v2, s3"), "010003d502070000");
  EXPECT_EQ(assembled("v_add_f32 v1, -v2, v3"), "010003d502070220");
  EXPECT_EQ(assembled("v_add_f32 v1, 0x40490fdb, v3"), "ff060206db0f4940");
  EXPECT_EQ(assembled("s_mov_b32 s0, 0x40"), "c00080be");
  EXPECT_EQ(assembled("s_waitcnt vmcnt(0)"), "f70389bf");
  EXPECT_EQ(assembled("v_ashrrev_i64 v[0:1], v2, -1"), "00003ed702830100");
  EXPECT_EQ(assembled("v_ashrrev_i64 v[0:1], v2, 0xffffffff"), "00003ed702ff0100ffffffff");
  EXPECT_EQ(disassembled(hex_bytes("00003ed702ff0100ffffffff")), "v_ashrrev_i64 v[0:1], v2, 0xffffffff");
}
TEST(RdnaText, Errors) {
  for (std::string_view bad : {"frobnicate v0",
                               "v_add_f32 v0,",
                               "v_add_f32 v0, v1",
                               "v_add_f32 v0, v1, v2, v3",
                               "v_add_f32 v256, v1, v2",
                               "v_add_f32_e32 v0, v1, s2",
                               "v_fma_f32 v0, s1, s2, s3",
                               "s_mov_b64 s1, s[2:3]",
                               "s_mov_b64 s[1:2], s[2:3]",
                               "v_mov_b32 v0, v1 clamp",
                               "global_load_b32 v0, v1, off",
                               "ds_load_b32 v0, v1 offset:65536",
                               "s_waitcnt vmcnt(64)",
                               "v_add_f32_dpp v0, v1, v2",
                               "v_mov_b32 v0, v1 quad_perm:[0,1,2,4]",
                               "v_dual_add_f32 v0, v1, v2 :: v_dual_add_f32 v2, v3, v4",
                               "s_load_b32 s0, s[2:3], 0x100000",
                               "v_max_num_f32 v0, v1, v2",
                               "",
                               ","}) {
    Instruction i;
    std::string error;
    EXPECT_FALSE(target().parse(bad, i, error)) << bad;
    EXPECT_FALSE(error.empty()) << bad;
  }
  EXPECT_THROW(assemble(target(), "s_nop 0\nbad s0"), Error);
}
TEST(RdnaText, ParserSurvivesMutations) {
  Random random(4);
  const std::string bases[] = {
      "v_fma_f32_e64_dpp v5, -|v1|, v2, s3 clamp mul:2 quad_perm:[0,1,2,3] row_mask:0xf bank_mask:0xf",
      "v_pk_fma_f16 v5, v1, 0.5, s3 op_sel:[1,0,1] op_sel_hi:[0,1,1] neg_lo:[1,0,0] neg_hi:[0,1,0]",
      "s_waitcnt vmcnt(0) expcnt(1) lgkmcnt(2)",
      "s_delay_alu instid0(VALU_DEP_1) | instskip(NEXT) | instid1(SALU_CYCLE_1)",
      "ds_swizzle_b32 v1, v2 offset:swizzle(BITMASK_PERM, \"01pip\")",
      "v_dual_fmamk_f32 v0, v1, 0x123, v2 :: v_dual_add_f32 v1, s1, v3",
      "global_load_b32 v1, v[2:3], s[4:5] offset:-16 glc slc",
      "s_getreg_b32 s0, hwreg(HW_REG_MODE, 0, 5)"};
  for (int k = 0; k < 40000; k++) {
    std::string s = bases[random() % std::size(bases)];
    for (u32 m = 0; m < 1 + random() % 4; m++) s[random() % s.size()] = char(32 + random() % 95);
    if (random() % 2) s.resize(random() % (s.size() + 1));
    Instruction i;
    std::string error;
    if (target().parse(s, i, error)) target().print(i);
  }
}

}  // namespace ingot::isa
