// SPDX-License-Identifier: MIT
// Register allocation where values take several registers in a row: a program of random instructions computes the same
// with virtual registers and with the few physical ones that it gets.
#include <gtest/gtest.h>
#include <algorithm>
#include <map>
#include <random>
#include "compiler/codegen/codegen.h"

namespace ingot {
namespace {
#ifdef CONFIG_ISA_RDNA

using isa::Operand;
using isa::RegClass;
const Target target{"rdna", "gfx1100"};

CodeLine line_of(const char* name, std::initializer_list<Operand> ops) {
  std::span<const Operand> list(ops.begin(), ops.size());
  CodeLine line;
  line.inst.row = isa::find_row(*isa::find_isa("rdna"), name, list, ~u64(0));
  check(line.inst.row, "no row ", name);
  for (const Operand& o : list) line.inst.op[line.inst.n++] = o;
  return line;
}
// The frame is scratch memory at an offset; the text's own register gives way to the one that is spilled.
template <bool load>
void spill(const Operand& r, i64 offset, const Target&, std::vector<CodeLine>& lines) {
  CodeLine& out = lines.emplace_back();
  std::string words = str("b", r.bits, load ? " " : " off, ", r.bits == 32 ? "v0" : "v[0:1]", load ? ", off" : ""),
              error;
  bool known = isa::find_isa("rdna")->parse(
      str(load ? "scratch_load_" : "scratch_store_", words, ", off offset:", offset), out.inst, error);
  check(known, error);
  for (Operand& o : out.inst.op)
    if (o.kind == Operand::REG && o.cls == RegClass::VECTOR) o = r;
}

// Every instruction writes a number made from its name and what it reads, dword by dword; stores to the program's own
// memory are the result.
using State = std::map<std::pair<int, u32>, u64>;
std::vector<u64> run(std::vector<CodeLine> lines, bool physical) {
  State registers;
  std::map<i64, u64> frame;
  std::vector<u64> out;
  auto cell = [&](const Operand& o, u32 k) -> u64& {  // virtual ones have all their dwords under one number
    return registers[{int(o.cls), physical ? o.reg + k : o.reg * 16 + k}];
  };
  for (CodeLine& line : lines) {
    std::string_view name = isa::name_of(*line.inst.row);
    const Operand* op = line.inst.op;
    if (name.starts_with("scratch")) {
      const Operand& r = op[name.starts_with("scratch_store")];
      for (u32 k = 0; k < r.bits / 32u; k++)
        if (&r == op)
          cell(r, k) = frame.at(op[line.inst.n - 1].imm + 4 * k);
        else
          frame[op[line.inst.n - 1].imm + 4 * k] = cell(r, k);
      continue;
    }
    u64 hash = 14695981039346656037ull;
    for (int i = 1; i < line.inst.n; i++)
      for (u32 k = 0; op[i].kind == Operand::REG && k < op[i].bits / 32u; k++)
        hash = (hash ^ cell(op[i], k)) * 1099511628211ull;
    for (int i = 1; i < line.inst.n; i++)
      if (op[i].kind == Operand::IMM) hash = (hash ^ u64(op[i].imm)) * 1099511628211ull;
    for (u32 k = 0; k < op[0].bits / 32u; k++) cell(op[0], k) = hash + k;
    out.push_back(hash);
  }
  return out;
}

TEST(RegisterGroups, RandomProgramsKeepTheirValues) {
  int spilled = 0;
  for (unsigned seed = 0; seed < 80; seed++) {
    std::mt19937 random(seed);
    MachineCode code;
    std::vector<Operand> values;
    auto fresh = [&](int bits) {
      VirtualRegister r{RegClass::VECTOR, u16(bits)};
      r.count = u8(bits / 32), r.align = u8(seed % 2 ? r.count : 1);
      code.registers.push_back(r);
      return isa::reg(RegClass::VECTOR, bits, isa::first_virtual + u32(code.registers.size()) - 1);
    };
    auto pick = [&](int bits) {
      std::vector<Operand> fit;
      for (const Operand& v : values)
        if (v.bits == bits) fit.push_back(v);
      return fit[random() % fit.size()];
    };
    for (int i = 0; i < 80; i++) {
      int bits = i < 2 ? 32 << i : random() % 2 ? 32 : 64;
      Operand r = fresh(bits);
      if (i < 12)
        code.lines.push_back(bits == 32 ? line_of("v_mov_b32", {r, isa::imm(i)})
                                        : line_of("v_cvt_f64_i32", {r, isa::imm(i)}));
      else if (bits == 32)
        code.lines.push_back(line_of("v_add_f32", {r, pick(32), pick(32)}));
      else
        code.lines.push_back(line_of("v_add_f64", {r, pick(64), pick(64)}));
      values.push_back(r);
      if (values.size() > 14) values.erase(values.begin() + 4 + i64(random() % 8));
      if (std::ranges::none_of(values, [](const Operand& v) { return v.bits == 64; })) values.push_back(r);
    }
    std::vector<u64> expected = run(code.lines, false);
    RegisterFile file;
    for (u32 i = 0; i < 6 + seed % 40; i++) file.vector.push_back(i);
    SpillCode code_of_spills{spill<true>, spill<false>};
    allocate_registers(code, file, code_of_spills, target);
    EXPECT_EQ(run(code.lines, true), expected) << "seed " << seed;
    u32 highest = 0;
    for (CodeLine& line : code.lines)
      each_register(line, [&](u32& r, RegClass cls, bool, bool) {
        if (cls == RegClass::VECTOR) highest = std::max(highest, r);
      });
    EXPECT_LT(highest, file.vector.size());
    spilled += code.frame_bytes > 0;
    if (file.vector.size() > 34) {
      EXPECT_EQ(code.frame_bytes, 0);
    }
  }
  EXPECT_GT(spilled, 10);
}
#endif
}  // namespace
}  // namespace ingot
