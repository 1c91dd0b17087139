// SPDX-License-Identifier: MIT
// The rows of one table, as constants: what rdna_*.cc include, one each so that they compile side by side. TABLE names
// the table and its .def.
#pragma once
#include "compiler/isa/rdna.h"

// A path has no blanks.
// clang-format off
#define TABLE_TEXT(name) #name
#define TABLE_FILE(name) TABLE_TEXT(compiler/isa/name.def)
// clang-format on
namespace ingot::isa {
using namespace rdna;
using namespace rdna::names;
static constexpr Source sources[] = {
#define RDNA(...) {__VA_ARGS__},
#include TABLE_FILE(TABLE)
#undef RDNA
};
static constexpr auto table = make_table<count_meanings(sources)>(sources);
extern const TableView<Row> TABLE;
constexpr TableView<Row> TABLE{table.rows.data(), table.rows.size(), table.meanings.data()};
}  // namespace ingot::isa
