// SPDX-License-Identifier: MIT
#include "tests/isa/examples.h"

#include <unistd.h>

#include <cstdio>
#include <optional>

namespace ingot::isa {

template <class T>
static T pick(Random& random, std::initializer_list<T> values) {
  return values.begin()[random() % values.size()];
}

static Operand example_memory(const Inst& row, const OperandSpec& s, Random& random, bool evex) {
  Operand m = mem(s.mem_bits == 1 ? 0 : s.mem_bits, no_register);
  if (s.mem_bits == 1) m.bits = 1;
  (void)row;
  int unit = 1;
  if (evex) {
    unit = std::max(1, s.mem_bits / 8);
    if (s.broadcast_bits && random() % 2) {
      m.bits = s.broadcast_bits;
      m.broadcast = u8(s.mem_bits / s.broadcast_bits);
      unit = s.broadcast_bits / 8;
    }
  }
  m.imm = pick<i64>(random,
                    {0, 0, 1, 127, 128, -128, -129, 1000000, unit * 127, unit * 128, unit * -128, unit * -129, unit});
  auto scalar = [&] { return pick<u32>(random, {0, 1, 3, 4, 5, 7, 8, 12, 13, 15}); };
  if (s.vector_index) {
    m.vector_index = true, m.index_bits = s.bits;
    m.index = pick<u32>(random, {2, 6, 11, evex ? 27u : 14u});
    m.scale = pick<u8>(random, {1, 2, 4, 8});
    m.reg = scalar();
    return m;
  }
  switch (random() % 8) {
    case 0: m.cls = RegClass::POINTER; break;                                                    // [rip + d]
    case 1: m.index = pick<u32>(random, {1, 13}), m.scale = pick<u8>(random, {2, 4, 8}); break;  // [s*i + d]
    case 2: m.imm = random() % 100000; break;                                                    // [d]
    case 3:
    case 4:
      m.reg = scalar();
      do m.index = scalar();
      while (m.index == 4);
      m.scale = pick<u8>(random, {1, 2, 4, 8});
      break;
    default: m.reg = scalar();
  }
  if (random() % 16 == 0) m.segment = pick<u8>(random, {5, 6});
  return m;
}

std::optional<Instruction> example(const Inst& row, Random& random) {
  Instruction i;
  i.row = &row;
  bool evex = false, gather = false;
  for (const OperandSpec& s : operands_of(row)) evex |= s.broadcast_bits != 0, gather |= s.vector_index;
  evex |= row.predicable;
  u32 seen_vector = 0;
  for (const OperandSpec& s : operands_of(row)) {
    if (s.implicit) continue;
    Operand& o = i.op[i.n++];
    bool register_form = s.cls != RegClass::NONE && !s.vector_index && !s.imm_bits;
    if (s.imm_bits) {
      i64 half = i64(1) << (std::min<int>(s.imm_bits, 63) - 1);
      i64 v =
          pick<i64>(random, {0, 1, 5, half - 1, s.imm_unsigned ? half : -half, s.imm_unsigned ? 2 * half - 1 : -1, -1});
      if (s.imm_unsigned && v < 0) v = 3;
      if (s.imm_bits >= 64) v = pick<i64>(random, {0x123456789abcdef0, -5, i64(1) << 31, i64(1) << 62});
      o = imm(s.fixed >= 0 ? s.fixed : v);
    } else if (s.mem_bits && s.place == 0 && s.fixed >= 0) {  // string operand
      o = mem(s.mem_bits, u32(s.fixed));
    } else if (s.mem_bits && s.cls == RegClass::NONE && s.place == 7) {  // absolute
      o = mem(s.mem_bits, no_register, 0x123456789abcdef);
    } else if (register_form && (!s.mem_bits || random() % 2)) {
      u32 limit = s.cls == RegClass::VECTOR                                ? (evex ? 32 : 16)
                  : s.cls == RegClass::SCALAR                              ? 16
                  : s.cls == RegClass::SEGMENT                             ? 6
                  : s.cls == RegClass::CONTROL || s.cls == RegClass::DEBUG ? 16
                                                                           : 8;
      u32 n = random() % limit;
      if (random() % 2) n %= 8;
      if (s.pair) n &= 6;
      if (gather && s.cls == RegClass::VECTOR) n = seen_vector++ ? 9 : 3;
      if (s.cls == RegClass::TILE) n = seen_vector++;
      if (s.cls == RegClass::CONTROL) n = pick<u32>(random, {0, 2, 3, 4, 8});
      if (s.fixed >= 0) n = u32(s.fixed);
      o = reg(s.cls, s.bits, n);
    } else if (s.mem_bits) {
      o = example_memory(row, s, random, evex);
    } else {
      return std::nullopt;
    }
  }
  const Isa& x86 = *find_isa("x86");
  std::vector<u8> bytes;
  Instruction plain = i;
  if (row.predicable && (gather || random() % 2)) i.predicate = 1 + random() % 7;
  if (i.predicate != no_register && random() % 2) i.zeroing = true;
  if (random() % 3 == 0) i.rounding = u8(1 + random() % 5);
  for (int attempt = 0; attempt < 4; attempt++) {  // what this row does not take goes
    bytes.clear();
    if (x86.encode(i, bytes)) return i;
    if (attempt == 0 && i.rounding)
      i.rounding = 5;
    else if (attempt <= 1)
      i.rounding = 0;
    else
      i.zeroing = false;
  }
  bytes.clear();
  if (x86.encode(plain, bytes)) return plain;
  return std::nullopt;
}

bool has_pc_relative(const Inst& row) {
  for (const OperandSpec& s : operands_of(row))
    if (s.pc_relative) return true;
  return false;
}

std::string hex_text(std::span<const u8> bytes) {
  std::string out;
  for (u8 b : bytes) out += hex(b, 2).substr(2);
  return out;
}
std::vector<u8> hex_bytes(std::string_view text) {
  std::vector<u8> out;
  for (size_t i = 0; i + 1 < text.size(); i += 2)
    out.push_back(u8(std::stoi(std::string(text.substr(i, 2)), nullptr, 16)));
  return out;
}
// Prefix bytes in any number and order: redundant ones, contradicting ones, REX and REX2 in the wrong place.
static void put_prefixes(std::vector<u8>& s, Random& random, u32 most) {
  for (u32 n = random() % (most + 1); n--;)
    s.push_back(random() % 8
                    ? pick<u8>(random, {0x66, 0x66, 0x67, 0xF0, 0xF2, 0xF2, 0xF3, 0xF3, 0x2E, 0x3E, 0x26, 0x64})
                    : u8(0x40 | random() % 16));
}
std::vector<u8> random_string(Random& random) {
  std::vector<u8> s;
  u32 kind = random() % 8;
  if (kind == 1 || kind == 2) put_prefixes(s, random, kind == 1 ? 4 : 14);
  switch (kind) {
    case 3:  // the two- and three-byte maps
      put_prefixes(s, random, 1);
      if (random() % 4 == 0) s.push_back(u8(0x40 | random() % 16));
      s.push_back(0x0F);
      if (random() % 2) s.push_back(pick<u8>(random, {0x38, 0x3A, 0x01, 0x0F}));
      break;
    case 4:  // VEX and XOP
      if (random() % 8 == 0) put_prefixes(s, random, 2);
      if (random() % 4 == 0)
        s.push_back(0xC5);
      else
        s.push_back(random() % 4 ? 0xC4 : 0x8F),
            s.push_back(u8(random() % 8 << 5 | ((s.back() == 0xC4 ? 1 : 8) + random() % 3)));
      s.push_back(u8(random() | (random() % 2 ? 0x78 : 0)));
      break;
    case 5:  // EVEX; one in four as APX would have it
      if (random() % 8 == 0) put_prefixes(s, random, 2);
      s.push_back(0x62);
      if (random() % 4 == 0) {
        s.push_back(u8((random() & 0xF0) | 4 | (random() % 2 ? 8 : 0)));
        s.push_back(u8((random() & 0xFC) | 4 | (random() % 8 ? random() % 2 : random() % 4)));
        s.push_back(u8(random() & (random() % 8 ? 0x1C : 0xFF)));
        if (random() % 2) s.back() |= 8, s[s.size() - 2] |= 0x78;
        break;
      }
      s.push_back(u8((random() & 0xF0) | (random() % 8 ? pick<u8>(random, {1, 2, 3, 5, 6}) : random() % 16)));
      s.push_back(u8(random() | (random() % 8 ? 4 : 0) | (random() % 2 ? 0x78 : 0)));
      s.push_back(u8(random() & (random() % 2 ? 0x7F : 0xFF) & (random() % 2 ? 0xF8 : 0xFF)));
      if (random() % 2) s.back() |= 8;
      break;
    case 6:
    case 7: {  // an encoding with a few bytes or bits changed, or prefixes in front
      const Isa& x86 = *find_isa("x86");
      if (auto i = example(x86.row(random() % x86.rows), random)) {
        if (random() % 4 == 0) put_prefixes(s, random, 3);
        x86.encode(*i, s);
        for (u32 n = random() % 3; n--;) {
          u8& b = s[random() % s.size()];
          b = random() % 2 ? u8(random()) : u8(b ^ 1 << random() % 8);
        }
      }
      break;
    }
    default: break;  // no help at all
  }
  while (s.size() < 15) s.push_back(u8(random()));
  s.resize(15);
  return s;
}

// ---- LLVM ---------------------------------------------------------------------------------------------------------
bool have_llvm() { return access("/usr/bin/llvm-mc-19", X_OK) == 0 && access("/usr/bin/llvm-objdump-19", X_OK) == 0; }
static std::string run(const std::string& command) {
  std::string out;
  FILE* pipe = popen(command.c_str(), "r");
  char buffer[65536];
  while (size_t n = fread(buffer, 1, sizeof buffer, pipe)) out.append(buffer, n);
  pclose(pipe);
  return out;
}
static std::string temporary(std::string_view suffix) { return str("/tmp/ingot_isa_", getpid(), suffix); }
std::string llvm_version() {
  std::string v = run("llvm-mc-19 --version");
  size_t at = v.find("version ");
  return at == v.npos ? "?" : v.substr(at + 8, v.find('\n', at) - at - 8);
}
constexpr const char* attributes =
    "+avx512f,+avx512bw,+avx512dq,+avx512vl,+avx512cd,+avx512vnni,+avx512bf16,+avx512fp16,+avx512vbmi,+avx512vbmi2,"
    "+avx512bitalg,+avx512ifma,+avx512vpopcntdq,+avx512vp2intersect,+gfni,+vaes,+vpclmulqdq,+aes,+pclmul,+fma,+f16c,+"
    "bmi,+bmi2,"
    "+lzcnt,+popcnt,+xop,+fma4,+tbm,+lwp,+sse4a,+3dnowa,+sha,+sha512,+sm3,+sm4,+avxvnni,+avxvnniint8,+avxvnniint16,+"
    "avxifma,"
    "+avxneconvert,+amx-tile,+amx-int8,+amx-bf16,+amx-fp16,+amx-complex,+kl,+widekl,+uintr,+cmpccxadd,+raoint,+movdiri,"
    "+movdir64b,+enqcmd,+waitpkg,+ptwrite,+serialize,+prefetchi,+rdpid,+rdpru,+rdrnd,+rdseed,+adx,+mwaitx,+clzero,+"
    "invpcid,"
    "+fsgsbase,+xsave,+xsavec,+xsaves,+xsaveopt,+rtm,+shstk,+cldemote,+clwb,+clflushopt,+wbnoinvd,+pconfig,+pku,+"
    "tsxldtrk,"
    "+usermsr,+movbe,+crc32,+cx16,+fxsr,+mmx,+hreset,+prfchw,+sahf";

std::vector<std::string> llvm_assemble(const std::vector<std::string>& lines) {
  std::string in = temporary(".s"), errors = temporary(".err"), text = ".intel_syntax noprefix\n";
  for (const std::string& l : lines) text += l + "\n";
  write_file(in, text);
  std::string out = run(str("llvm-mc-19 -triple=x86_64 -mattr=", attributes, " --show-encoding ", in, " 2>", errors));
  std::vector<bool> refused(lines.size());
  std::string messages = read_file(errors);
  for (std::string_view l : split(messages, '\n')) {
    size_t at = l.find(": error:");
    if (at == l.npos || !l.starts_with(in)) continue;
    size_t number = std::stoul(std::string(l.substr(in.size() + 1))) - 2;
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
    std::string_view list = std::string_view(out).substr(at, out.find(']', at) - at);
    for (std::string_view byte : split(list, ','))
      result[i] += byte.starts_with("0x") ? std::string(byte.substr(2)) : "00";
  }
  return result;
}

std::vector<Disassembled> llvm_disassemble(const std::vector<std::vector<u8>>& strings) {
  std::string in = temporary(".s"), object = temporary(".o"), text;
  for (size_t i = 0; i < strings.size(); i++) {
    text += str("s", i, ":\n .byte ");
    for (u8 byte : strings[i]) text += str(int(byte), ",");
    text += "0\n";  // LLVM looks one byte further to tell xrelease from rep; not into the next string
  }
  write_file(in, text);
  run(str("llvm-mc-19 -triple=x86_64 -filetype=obj ", in, " -o ", object));
  std::string out = run(str("llvm-objdump-19 -d -M intel --no-print-imm-hex ", object));
  unlink(in.c_str()), unlink(object.c_str());
  std::vector<Disassembled> result(strings.size());
  size_t current = strings.size();
  for (std::string_view l : split(out, '\n')) {
    if (l.ends_with(">:")) {
      current = std::stoul(std::string(l.substr(l.find("<s") + 2)));
      continue;
    }
    size_t colon = l.find(": ");
    if (current >= strings.size() || colon == l.npos || colon > 12) continue;
    Disassembled& d = result[current];
    current = strings.size();
    u64 address = std::stoull(std::string(l.substr(0, colon)), nullptr, 16);
    std::string_view rest = l.substr(colon + 2);
    size_t tab = rest.find('\t');
    for (char c : rest.substr(0, tab)) d.length += c != ' ';
    d.length /= 2;
    if (tab == rest.npos) continue;
    for (char c : rest.substr(tab + 1)) {  // one space for tabs and runs of spaces
      if (c == '\t') c = ' ';
      if (c != ' ' || (!d.text.empty() && d.text.back() != ' ')) d.text += c;
    }
    if (d.text.starts_with("<unknown>")) {
      d = {};
      continue;
    }
    if (size_t comment = d.text.find(" #"); comment != d.text.npos) d.text.resize(comment);
    if (size_t symbol = d.text.find(" <"); symbol != d.text.npos) d.text.resize(symbol);
    size_t last = d.text.rfind(' ');
    if (last != d.text.npos && d.text.compare(last + 1, 2, "0x") == 0 && d.text.find(',') == d.text.npos) {
      i64 target = i64(std::stoull(d.text.substr(last + 1), nullptr, 16));
      d.text = str(d.text.substr(0, last + 1), target - i64(address + d.length));
    }
    while (!d.text.empty() && d.text.back() == ' ') d.text.pop_back();
  }
  return result;
}

}  // namespace ingot::isa
