// SPDX-License-Identifier: MIT
// Ordering by latency: chains of instructions as a program would write them one after the other come out interleaved,
// with every dependence kept and no more registers than there are. The cycles are counted by a model of its own.
#include <gtest/gtest.h>
#include <algorithm>
#include <map>
#include "compiler/codegen/codegen.h"

namespace ingot {
namespace {

using isa::Operand;
using isa::RegClass;
const Target target{"x86", "avx512", isa::x86::AVX2 | isa::x86::AVX512};

struct Chains {
  MachineCode code;
  Operand base;
  Operand fresh(RegClass cls, int bits) {
    code.registers.push_back({cls, u16(bits)});
    return isa::reg(cls, bits, isa::first_virtual + u32(code.registers.size()) - 1);
  }
  void put(const char* name, std::initializer_list<Operand> ops) {
    std::span<const Operand> list(ops.begin(), ops.size());
    CodeLine line;
    line.inst.row = isa::find_row(*isa::find_isa("x86"), name, list, target.features);
    ASSERT_TRUE(line.inst.row) << name;
    for (const Operand& o : list) line.inst.op[line.inst.n++] = o;
    code.lines.push_back(line);
  }
  // `count` times: a load, `length` dependent products, a store.
  Chains(int count, int length) {
    base = fresh(RegClass::SCALAR, 64);
    put("mov", {base, isa::imm(4096)});
    for (int i = 0; i < count; i++) {
      Operand v = fresh(RegClass::VECTOR, 512);
      put("vmovups", {v, isa::mem(512, base.reg, i * 64)});
      for (int k = 0; k < length; k++) {
        Operand next = fresh(RegClass::VECTOR, 512);
        put("vmulps", {next, v, v});
        v = next;
      }
      put("vmovups", {isa::mem(512, base.reg, (count + i) * 64), v});
    }
  }
};

// Cycles of a processor that issues four instructions a cycle in their order.
int cycles(MachineCode& code) {
  std::map<u32, int> ready;
  int cycle = 0, issued = 0;
  for (CodeLine& line : code.lines) {
    int start = cycle;
    each_register(line, [&](u32& r, RegClass, bool read, bool) { start = std::max(start, read ? ready[r] : 0); });
    if (start > cycle || ++issued == 4) cycle = std::max(start, cycle + (start == cycle)), issued = 0;
    each_register(line, [&](u32& r, RegClass, bool, bool written) {
      if (written)
        ready[r] = start + std::max<int>(1, line.inst.row->latency) + 5 * (line.inst.op[1].kind == Operand::MEM);
    });
  }
  return cycle;
}
int most_vectors_alive(MachineCode& code) {
  std::map<u32, std::pair<int, int>> life;
  for (int i = 0; i < int(code.lines.size()); i++)
    each_register(code.lines[size_t(i)], [&](u32& r, RegClass cls, bool, bool) {
      if (cls == RegClass::VECTOR) life.try_emplace(r, i, i).first->second.second = i;
    });
  int most = 0;
  for (int i = 0; i < int(code.lines.size()); i++) {
    int alive = 0;
    for (auto& [r, span] : life) alive += span.first <= i && i < span.second;
    most = std::max(most, alive);
  }
  return most;
}

TEST(Order, InterleavesIndependentChains) {
  Chains c(4, 6);
  std::vector<std::string> before, after;
  auto texts = [&] {
    std::vector<std::string> list;
    for (CodeLine& line : c.code.lines) {
      std::string text(isa::name_of(*line.inst.row));
      for (int k = 0; k < line.inst.n; k++) text += str(" ", line.inst.op[k].reg, " ", line.inst.op[k].imm);
      list.push_back(text);
    }
    return list;
  };
  before = texts();
  int slow = cycles(c.code);
  order_by_latency(c.code, register_file_x86(target), 4);
  EXPECT_LT(cycles(c.code), slow * 2 / 3) << slow;
  std::map<u32, bool> written;  // every value is made before it is read
  for (CodeLine& line : c.code.lines)
    each_register(line, [&](u32& r, RegClass, bool read, bool writes) {
      EXPECT_TRUE(!read || written[r]);
      if (writes) written[r] = true;
    });
  after = texts();
  EXPECT_NE(before, after);
  std::ranges::sort(before), std::ranges::sort(after);
  EXPECT_EQ(before, after);  // the same lines
}

TEST(Order, KeepsToTheRegisters) {
  Chains c(60, 4);
  RegisterFile file = register_file_x86(target);
  order_by_latency(c.code, file, 4);
  EXPECT_LE(most_vectors_alive(c.code), int(file.vector.size()));
  EXPECT_GT(most_vectors_alive(c.code), 4);
}

TEST(Order, FlagsReachTheirReader) {
  Chains c(1, 1);
  Operand a = c.fresh(RegClass::SCALAR, 64), b = c.fresh(RegClass::SCALAR, 64), r = c.fresh(RegClass::SCALAR, 64);
  c.put("mov", {a, isa::imm(1)});
  c.put("mov", {r, isa::imm(0)});
  c.put("mov", {b, isa::imm(2)});
  for (int i = 0; i < 3; i++) {
    c.put("add", {b, isa::imm(1)});  // writes flags that nobody reads
    c.put("test", {a, a});
    c.put("cmovne", {r, b});
    c.put("imul", {a, b});
  }
  order_by_latency(c.code, register_file_x86(target), 4);
  std::string_view last;
  for (CodeLine& line : c.code.lines) {
    std::string_view name = isa::name_of(*line.inst.row);
    if (line.inst.row->reads_flags) {
      EXPECT_EQ(last, "test");
    }
    if (line.inst.row->writes_flags) last = name;
  }
}

}  // namespace
}  // namespace ingot
