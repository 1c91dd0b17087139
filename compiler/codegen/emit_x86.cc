// SPDX-License-Identifier: MIT
// Bytes: prologue and epilogue of the System V calling convention, encodings, branches and the literal pool behind the
// code. Source: System V Application Binary Interface, AMD64 Architecture Processor Supplement 1.0, section 3.2.
#include <algorithm>
#include "compiler/codegen/codegen.h"

namespace ingot {
namespace {

using isa::Operand;
using isa::RegClass;
constexpr u32 RSP = 4;
constexpr u32 callee_saved[] = {3, 5, 12, 13, 14, 15};  // rbx rbp r12 … r15

const isa::Isa& x86() {
  static const isa::Isa& isa = *isa::find_isa("x86");
  return isa;
}
isa::Instruction instruction(const char* name, std::initializer_list<Operand> ops) {
  isa::Instruction i;
  std::span<const Operand> list(ops.begin(), ops.size());
  i.row = isa::find_row(x86(), name, list, isa::x86::AVX2);
  check(i.row, "x86 has no row ", name, " of these operands");
  for (const Operand& o : list) i.op[i.n++] = o;
  return i;
}
void encode(const isa::Instruction& i, std::vector<u8>& out) {
  check(x86().encode(i, out), "x86 cannot encode ", isa::name_of(*i.row), ": ", x86().print(i));
}

void spill_move(Operand r, i64 offset, bool load, const Target& target, std::vector<CodeLine>& lines) {
  CodeLine& out = lines.emplace_back();
  if (r.cls == RegClass::SCALAR) r.bits = 64;
  const char* name = r.cls == RegClass::SCALAR ? "mov" : r.cls == RegClass::PREDICATE ? "kmovq" : "vmovups";
  Operand m = isa::mem(r.cls == RegClass::PREDICATE ? 64 : r.bits, RSP, offset);
  Operand ops[2] = {load ? r : m, load ? m : r};
  bool wide = target.features & isa::x86::AVX512;
  const std::vector<const isa::Inst*> rows = isa::rows_named(x86(), name);
  // The row that reaches every register: EVEX where there is one.
  for (u64 features : {u64(isa::x86::AVX2 | isa::x86::AVX512), u64(isa::x86::AVX2)}) {
    if (features & isa::x86::AVX512 && !wide) continue;
    for (const isa::Inst* row : rows) {
      if (out.inst.row || (row->features & ~features)) continue;
      if (r.cls == RegClass::VECTOR && wide && !(row->features & isa::x86::AVX512)) continue;
      auto specs = isa::operands_of(*row);
      if (specs.size() < 2) continue;
      const isa::OperandSpec &reg = specs[load ? 0 : 1], &memory = specs[load ? 1 : 0];
      if (reg.cls == r.cls && reg.bits == r.bits && reg.fixed < 0 && memory.mem_bits == m.bits) out.inst.row = row;
    }
    if (out.inst.row) break;
  }
  check(out.inst.row, "x86 has no row to spill ", int(r.cls), " of ", r.bits, " bits");
  out.inst.n = 2;
  out.inst.op[0] = ops[0], out.inst.op[1] = ops[1];
}

}  // namespace

const SpillCode spill_code_x86 = {[](const Operand& r, i64 offset, const Target& t, std::vector<CodeLine>& out) {
                                    spill_move(r, offset, true, t, out);
                                  },
                                  [](const Operand& r, i64 offset, const Target& t, std::vector<CodeLine>& out) {
                                    spill_move(r, offset, false, t, out);
                                  }};

RegisterFile register_file_x86(const Target& target) {
  RegisterFile f;
  f.scalar = {0, 1, 2, 6, 7, 8, 9, 10, 11, 3, 5, 12, 13, 14, 15};
  bool wide = target.features & isa::x86::AVX512;
  for (u32 i = 16; wide && i < 32; i++) f.vector.push_back(i);  // the low ones last: some instructions reach only those
  for (u32 i = 0; i < 16; i++) f.vector.push_back(i);
  for (u32 i = 1; wide && i < 8; i++) f.predicate.push_back(i);
  return f;
}

void emit_x86(const MachineCode& code, Program& program) {
  std::vector<u8>& out = program.code;
  std::vector<u32> saved;
  bool vectors = false;
  for (const CodeLine& line : code.lines)
    for (int k = 0; k < line.inst.n; k++) {
      const Operand& o = line.inst.op[k];
      vectors |= o.kind == Operand::REG && o.cls == RegClass::VECTOR && o.bits > 128;
      for (u32 r : {o.reg, o.index})
        if ((o.kind == Operand::MEM || (o.cls == RegClass::SCALAR && r == o.reg)) &&
            std::ranges::find(callee_saved, r) != std::end(callee_saved) && std::ranges::find(saved, r) == saved.end())
          saved.push_back(r);
    }
  i64 frame = (code.frame_bytes + 63) / 64 * 64;
  for (u32 r : saved) encode(instruction("push", {isa::reg(RegClass::SCALAR, 64, r)}), out);
  if (frame) encode(instruction("sub", {isa::reg(RegClass::SCALAR, 64, RSP), isa::imm(frame)}), out);

  std::vector<i64> labels;
  struct Fix {
    size_t at, end;
    i64 target;
    bool literal;
  };
  std::vector<Fix> fixes;
  for (const CodeLine& line : code.lines) {
    if (line.kind == CodeLine::LABEL) {
      if (size_t(line.label) >= labels.size()) labels.resize(size_t(line.label) + 1, -1);
      labels[size_t(line.label)] = i64(out.size());
      continue;
    }
    if (!line.inst.row) continue;
    note(program, line.u);
    isa::Instruction inst = line.inst;
    i64 literal = -1;
    for (int k = 0; k < inst.n; k++)
      if (inst.op[k].kind == Operand::MEM && inst.op[k].cls == RegClass::POINTER) {
        literal = inst.op[k].imm;
        inst.op[k].imm = 0x12345678;  // found again below: an immediate may follow the displacement
      }
    encode(inst, out);
    if (line.kind == CodeLine::JUMP) fixes.push_back({out.size() - 4, out.size(), line.label, false});
    if (literal >= 0) {
      size_t at = out.size() - 4;
      while (std::memcmp(&out[at], "\x78\x56\x34\x12", 4) != 0) at--;
      fixes.push_back({at, out.size(), literal, true});
    }
  }
  if (frame) encode(instruction("add", {isa::reg(RegClass::SCALAR, 64, RSP), isa::imm(frame)}), out);
  for (size_t i = saved.size(); i-- > 0;) encode(instruction("pop", {isa::reg(RegClass::SCALAR, 64, saved[i])}), out);
  if (vectors) encode(instruction("vzeroupper", {}), out);
  encode(instruction("ret", {}), out);
  program.code_bytes = i64(out.size());
  while (out.size() % 64) out.push_back(0xCC);
  i64 pool = i64(out.size());
  out.insert(out.end(), code.pool.begin(), code.pool.end());
  for (const Fix& f : fixes) {
    i64 target = f.literal ? pool + f.target : labels[size_t(f.target)];
    i32 distance = i32(target - i64(f.end));
    std::memcpy(&out[f.at], &distance, 4);
  }
}

}  // namespace ingot
