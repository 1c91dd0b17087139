// SPDX-License-Identifier: MIT
// Operands for every row, and LLVM's assembler and disassembler as judges (when llvm-19 is installed).
#pragma once
#include <random>

#include "compiler/isa/isa.h"

namespace ingot::isa {

using Random = std::mt19937;
// An instruction of this row with operands drawn from its edges: low and high registers, every kind of address,
// displacements around the 8-bit limits, broadcast, masks, rounding, immediates. nullopt where the row cannot be drawn.
std::optional<Instruction> example(const Inst& row, Random& random);

bool have_llvm();
std::string llvm_version();
// Encodings of lines by llvm-mc-19, in hexadecimal; "" where it refuses.
std::vector<std::string> llvm_assemble(const std::vector<std::string>& lines);
struct Disassembled {
  size_t length = 0;  // 0: not an instruction
  std::string text;   // pc-relative operands as distances from the end of the instruction
};
// The first instruction of each string by llvm-objdump-19.
std::vector<Disassembled> llvm_disassemble(const std::vector<std::vector<u8>>& strings);

std::string hex_text(std::span<const u8> bytes);
std::vector<u8> hex_bytes(std::string_view text);
bool has_pc_relative(const Inst& row);
std::vector<u8> random_string(Random& random);  // 15 bytes: uniform, heaps of prefixes, wide formats, changed encodings
constexpr const char* golden_folder = "tests/isa/golden/";

}  // namespace ingot::isa
