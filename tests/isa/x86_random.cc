// SPDX-License-Identifier: MIT
// Our disassembler against llvm-objdump-19 over random byte strings: the same length and the same text, or both refuse.
// What differs by spelling, or because LLVM 19 departs from the manuals, stands in one table, is counted and printed;
// any other difference fails. SDM: Intel 64 and IA-32 Software Developer's Manual, volume 2; APX: Intel Advanced
// Performance Extensions Architecture Specification.
//
//   build/test_isa --gtest_filter='X86Random.*' --strings=N --seed=S
#include <gtest/gtest.h>

#include "tests/isa/examples.h"

namespace ingot::isa {

i64 random_strings = 30000, random_seed = -1;  // main.cc sets them; -1: a fixed seed and a new one

namespace {
struct Side {
  size_t length = 0;
  std::string text;
};
struct Case {
  std::span<const u8> bytes;
  Side llvm, ours;
  bool has_66 = false, has_67 = false, repeat = false;
  u8 rex = 0;
  size_t at = 0;  // of what follows legacy prefixes and REX

  Case(std::span<const u8> bytes, Side llvm, Side ours) : bytes(bytes), llvm(std::move(llvm)), ours(std::move(ours)) {
    for (; at < bytes.size(); at++) {
      switch (bytes[at]) {
        case 0x66: has_66 = true; continue;
        case 0x67: has_67 = true; continue;
        case 0xF2:
        case 0xF3: repeat = true; continue;
        case 0x26:
        case 0x2E:
        case 0x36:
        case 0x3E:
        case 0x64:
        case 0x65:
        case 0xF0: continue;
        default: break;
      }
      break;
    }
    if ((byte(0) & 0xF0) == 0x40) rex = byte(0), at++;
  }
  u8 byte(size_t i) const { return at + i < bytes.size() ? bytes[at + i] : 0; }
  bool rex2() const { return byte(0) == 0xD5; }
  bool evex() const { return byte(0) == 0x62; }
  bool escape(u8 opcode) const {
    return byte(0) == 0x0F ? byte(1) == opcode : rex2() && byte(1) & 128 && byte(2) == opcode;
  }
  bool rex_w() const { return (rex2() ? byte(1) : rex) & 8; }
  u8 evex_map() const { return evex() ? byte(1) & 7 : 0; }
  u8 evex_mod() const { return byte(5) >> 6; }
  bool same_length() const { return llvm.length && llvm.length == ours.length; }
  bool says(std::string_view mine) const { return ours.text.find(mine) != std::string::npos; }
  bool llvm_alone() const { return llvm.length && !ours.length; }
  bool ours_alone() const { return !llvm.length && ours.length; }
  bool becomes(std::string_view theirs, std::string_view mine) const {  // the only difference in the text
    size_t found = llvm.text.find(theirs);
    return same_length() && found != std::string::npos &&
           std::string(llvm.text).replace(found, theirs.size(), mine) == ours.text;
  }
};

struct Listed {
  const char* reason;
  bool (*applies)(const Case&);
};
constexpr Listed listed[] = {
    // spelling
    {"66 and 67 before an 8-bit absolute move: addr32 movabs is mov",
     [](const Case& c) { return c.becomes("addr32 movabs", "mov"); }},
    {"F3 REX.W 90: xchg rax, rax is pause", [](const Case& c) { return c.becomes("xchg rax, rax", "pause"); }},
    // LLVM 19 against the manuals
    {"longer than 15 bytes: a general protection exception (SDM 2.3.11)",
     [](const Case& c) { return c.llvm.length > 15 && !c.ours.length; }},
    {"wbinvd is 0F 09 without NP: 66 and F2 in front are ignored (SDM, WBINVD)",
     [](const Case& c) { return c.ours_alone() && c.ours.text.ends_with("wbinvd"); }},
    {"66 or REX.W does not undo 67: the count is ecx (SDM, JECXZ)",
     [](const Case& c) { return c.becomes("addr32 jrcxz", "jecxz"); }},
    {"F2 or F3, then 66: LLVM names 16-bit registers but 32-bit memory",
     [](const Case& c) { return c.repeat && c.has_66 && c.becomes("dword ptr", "word ptr"); }},
    {"F3 0F 7E ignores W (SDM, MOVQ); LLVM prints the MMX move 0F 7E",
     [](const Case& c) { return c.escape(0x7E) && c.rex_w() && c.repeat && c.same_length() && c.says("movq xmm"); }},
    {"0F AE and 0F38 F8 with REX.W: LLVM forgets F3, and takes 67 for 66",
     [](const Case& c) {
       bool f8 = c.byte(0) == 0x0F && c.byte(1) == 0x38 && c.byte(2) == 0xF8;
       return c.rex_w() && (f8 ? c.has_67 && c.llvm_alone() : c.escape(0xAE) && c.same_length());
     }},
    {"66 before XOP is #UD (APM volume 3, 1.2.4); LLVM reads 16 bits of the 32-bit immediate",
     [](const Case& c) {
       return c.byte(0) == 0x8F && c.has_66 &&
              (c.ours.length == c.llvm.length + 2 || (c.llvm_alone() && c.llvm.length > 13));
     }},
    {"66 before VEX is #UD (SDM 2.3.3); LLVM minds it at opcode AE only",
     [](const Case& c) {
       bool ae = c.byte(0) == 0xC5 ? c.byte(2) == 0xAE : c.byte(0) == 0xC4 && c.byte(3) == 0xAE;
       return ae && c.has_66 && c.ours_alone();
     }},
    {"66 before EVEX is #UD (SDM 2.7.11); under map 4 LLVM takes it for 16-bit operands",
     [](const Case& c) {
       return c.evex_map() == 4 && c.has_66 &&
              (c.same_length() || (c.llvm_alone() && c.byte(4) == 0xF8) || c.ours.length == c.llvm.length + 2 ||
               (c.llvm_alone() && c.llvm.length > 13));
     }},
    {"EVEX P[10] is 1 when ModRM.rm is a register or SIB.index a vector (SDM 2.7.1)",
     [](const Case& c) {
       size_t memory = c.llvm.text.find('[');
       bool gather = memory != std::string::npos && c.llvm.text.find("mm", memory) != std::string::npos;
       return c.evex() && !(c.byte(2) & 4) && (c.evex_mod() == 3 || gather) && c.llvm_alone();
     }},
    {"EVEX.B4 does not extend a vector register: LLVM adds 16 to it, and past 31 names anything",
     [](const Case& c) {
       int rm = (c.byte(5) & 7) | (~c.byte(1) >> 5 & 1) << 3 | (~c.byte(1) >> 6 & 1) << 4;
       return c.evex() && c.byte(1) & 8 && c.evex_mod() == 3 && c.same_length() && c.says(str("mm", rm));
     }},
    {"SIB.base 101 under mod 00 is no base whatever extends it (SDM table 2-3, APX 3.1.4)",
     [](const Case& c) {
       bool b4 = c.evex() ? c.byte(1) & 8 : c.rex2() && c.byte(1) & 16;
       size_t modrm = c.evex() ? 5 : 3;
       bool no_base = b4 && (c.byte(modrm) & 0xC7) == 4 && (c.byte(modrm + 1) & 7) == 5;
       return no_base && c.llvm.length &&
              (c.ours.length == c.llvm.length + 4 || (c.llvm_alone() && c.llvm.length > 11));
     }},
    {"0F after REX2 is #UD (APX 3.1.2)",
     [](const Case& c) { return c.rex2() && !(c.byte(1) & 0x80) && c.byte(2) == 0x0F && c.llvm_alone(); }},
    {"90 with REX2.B4 exchanges r16: LLVM minds B3 only",
     [](const Case& c) { return c.rex2() && c.byte(2) == 0x90 && c.same_length() && c.says("r16"); }},
    {"APX under EVEX: z, L'L and P[17:16] are 0; under NF pp is NP or 66, and 66 takes W0 (APX 3.1.2.3)",
     [](const Case& c) {
       bool nf = c.byte(3) & 4, odd_pp = (c.byte(2) & 3) > 1 || (c.byte(2) & 0x83) == 0x81;
       bool apx = c.evex_map() == 4 || (c.evex_map() == 2 && nf && c.byte(4) >= 0xF0);
       bool narrow_f8 = c.byte(4) == 0xF8 && c.has_67;  // takes ND and W1
       return apx && (c.byte(3) & 0xE3 || (nf && odd_pp) || narrow_f8) && c.llvm_alone();
     }},
    {"{nf} imulzu: LLVM has imulzu without NF only (APX, IMUL)",
     [](const Case& c) { return c.ours_alone() && c.says("{nf} ") && c.says("imulzu "); }},
    {"disp8 of set counts bytes; LLVM scales it by 16 under EVEX",
     [](const Case& c) { return c.evex_map() == 4 && c.evex_mod() == 1 && c.same_length() && c.says("set"); }},
    {"disp8 of prefetching gathers counts elements (SDM table 2-35); LLVM has 4 and 8 the wrong way round",
     [](const Case& c) {
       return c.evex_map() == 2 && c.evex_mod() == 1 && c.same_length() && (c.says("gatherpf") || c.says("scatterpf"));
     }},
    {"disp8 of a broadcast counts elements (SDM table 2-34); LLVM has 1 for vgf2p8affine",
     [](const Case& c) {
       return c.evex_map() == 3 && c.evex_mod() == 1 && c.same_length() && c.says("vgf2p8affine") && c.says("{1to");
     }},
};

struct Tally {
  size_t strings = 0, decoded = 0, wrong = 0;
  std::array<size_t, std::size(listed)> count = {};
  std::array<std::string, std::size(listed)> first;

  void compare(std::span<const u8> bytes, const Disassembled& want) {
    Instruction i;
    size_t n = find_isa("x86")->decode(bytes, i);
    Case c(bytes, {want.length, want.text}, {n, n ? find_isa("x86")->print(i) : ""});
    strings++, decoded += n != 0;
    if (c.llvm.length == c.ours.length && c.llvm.text == c.ours.text) return;
    std::string line = str(hex_text(bytes), "  llvm ", want.length, " ", want.text, " | ours ", n, " ", c.ours.text);
    for (size_t k = 0; k < std::size(listed); k++)
      if (listed[k].applies(c)) {
        if (!count[k]++) first[k] = line;
        return;
      }
    if (wrong++ < 40) ADD_FAILURE() << line;
  }
  void print(std::string_view title) const {
    size_t all = 0;
    for (size_t n : count) all += n;
    std::printf("%s: %zu strings, %zu instructions; %zu differ, %zu of them listed:\n", std::string(title).c_str(),
                strings, decoded, all + wrong, all);
    for (size_t k = 0; k < std::size(listed); k++)
      if (count[k]) std::printf("  %7zu  %s\n           %s\n", count[k], listed[k].reason, first[k].c_str());
  }
};

void against_llvm(u32 seed, i64 strings) {
  Random random(seed);
  Tally tally;
  for (i64 left = strings; left > 0; left -= 50000) {
    std::vector<std::vector<u8>> batch(size_t(std::min<i64>(left, 50000)));
    for (auto& s : batch) s = random_string(random);
    std::vector<Disassembled> want = llvm_disassemble(batch);
    for (size_t k = 0; k < batch.size(); k++) tally.compare(batch[k], want[k]);
  }
  tally.print(str("seed ", seed));
  EXPECT_EQ(tally.wrong, 0u) << "again with --strings=" << strings << " --seed=" << seed;
  EXPECT_GT(tally.decoded, size_t(strings) / 3);
}
}  // namespace

TEST(X86Random, AgreesWithLlvm) {
  if (!have_llvm()) GTEST_SKIP() << "llvm-objdump-19 is not installed; the golden files were checked";
  if (random_seed >= 0) return against_llvm(u32(random_seed), random_strings);
  against_llvm(1, random_strings);
  against_llvm(std::random_device()(), random_strings);
}
TEST(X86Random, DISABLED_LongAgreesWithLlvm) {
  if (!have_llvm()) GTEST_SKIP() << "llvm-objdump-19 is not installed";
  for (u32 seed : {101, 102, 103}) against_llvm(seed, 2000000);
}

}  // namespace ingot::isa
