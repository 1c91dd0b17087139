// SPDX-License-Identifier: MIT
// Two independent vector instructions become one where the ISA can issue them together (Isa::pair), after registers are
// allocated and before waits are put in.
//
// Between two lines that nothing crosses, each instruction looks for the nearest later one that pairs with it and can
// be moved: the later one up to it, or it down to the later one. What lies between must not touch what the one that
// moves writes, nor write what it reads; vector instructions read the mask of lanes besides. The two themselves are
// issued at once: the second must not read or write what the first writes, but may write what the first reads.
#include <bitset>
#include "compiler/codegen/codegen.h"

namespace ingot {
namespace {

using isa::Inst;
using isa::OperandSpec;
using Registers = std::bitset<allocated_registers>;

constexpr size_t window = 24;  // lines that an instruction looks ahead: further ones it would keep waiting

struct Touched {
  Registers reads, writes;
};
Touched touched(const isa::Instruction& inst, u32 lane_mask) {
  Touched t;
  each_allocated(inst, [&](u32 reg, const OperandSpec& s, int) {
    if (s.access & OperandSpec::READ) t.reads.set(reg);
    if (s.access & OperandSpec::WRITE) t.writes.set(reg);
  });
  if (inst.row->traits & Inst::VECTOR_ALU) t.reads.set(isa::first_virtual + lane_mask);
  return t;
}
bool touch(const Registers& a, const Registers& b) { return (a & b).any(); }

bool is_fence(const CodeLine& line) {
  constexpr u16 crossed_by_none = Inst::LEAVES | Inst::STOPS | Inst::MEETS_WAVES | Inst::RELATIVE | Inst::SETS_MODE;
  return (line.kind != CodeLine::INST && line.kind != CodeLine::MOVE) || !line.inst.row ||
         line.inst.row->traits & crossed_by_none;
}

}  // namespace

void pair_instructions(MachineCode& code, const Target& target) {
  const isa::Isa* isa = isa::find_isa(target.isa, target.arch);
  if (!isa || !isa->pair) return;
  std::vector<CodeLine>& lines = code.lines;
  std::vector<Touched> touches(lines.size());
  for (size_t i = 0; i < lines.size(); i++)
    if (lines[i].inst.row) touches[i] = touched(lines[i].inst, isa->lane_mask);
  std::vector<bool> gone(lines.size());
  auto candidate = [&](size_t i) {
    return !gone[i] && lines[i].inst.row->traits & Inst::VECTOR_ALU && !lines[i].inst.second;
  };
  for (size_t i = 0; i < lines.size(); i++) {
    if (is_fence(lines[i]) || !candidate(i)) continue;
    const Touched& first = touches[i];
    Touched between;
    for (size_t j = i + 1, seen = 0; j < lines.size() && seen < window && !is_fence(lines[j]); j++) {
      if (gone[j]) continue;
      seen++;
      const Touched& second = touches[j];
      isa::Instruction both;
      bool apart = !touch(first.writes, second.reads) && !touch(first.writes, second.writes);
      if (candidate(j) && apart) {
        bool up = !touch(second.writes, between.reads) && !touch(second.writes, between.writes) &&
                  !touch(second.reads, between.writes);
        bool down = !touch(first.writes, between.reads) && !touch(first.writes, between.writes) &&
                    !touch(first.reads, between.writes);
        if ((up || down) && isa->pair(lines[i].inst, lines[j].inst, both)) {
          size_t stays = up ? i : j;
          lines[stays].kind = CodeLine::INST, lines[stays].inst = both;
          touches[stays] = touched(both, isa->lane_mask);
          gone[up ? j : i] = true;
          break;
        }
      }
      between.reads |= second.reads, between.writes |= second.writes;
    }
  }
  size_t n = 0;
  for (size_t i = 0; i < lines.size(); i++)
    if (!gone[i]) {
      if (n != i) lines[n] = std::move(lines[i]);
      n++;
    }
  lines.resize(n);
}

}  // namespace ingot
