// SPDX-License-Identifier: MIT
// The forms of one table of rows, as constants: what x86_*.cc include, one each so that they compile side by side.
// TABLE names the table and its .def.
#pragma once
#include "compiler/isa/x86.h"

// A path has no blanks.
// clang-format off
#define TABLE_TEXT(name) #name
#define TABLE_FILE(name) TABLE_TEXT(compiler/isa/name.def)
// clang-format on
namespace ingot::isa {
using namespace operands;
using namespace x86;
static constexpr Row rows[] = {
#define X86(...) {__VA_ARGS__},
#include TABLE_FILE(TABLE)
#undef X86
};
static constexpr auto table = make_table<count_forms(rows), count_meanings(rows)>(rows);
extern const TableView<Form> TABLE;
constexpr TableView<Form> TABLE{table.forms.data(), table.forms.size(), table.meanings.data()};
}  // namespace ingot::isa
