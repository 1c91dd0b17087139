// SPDX-License-Identifier: MIT
// The forms of x86_apx.def, as constants.
#include "compiler/isa/x86.h"

namespace ingot::isa {
using namespace operands;
using namespace x86;
static constexpr Row rows[] = {
#define X86(...) {__VA_ARGS__},
#include "compiler/isa/x86_apx.def"
#undef X86
};
static constexpr auto table = make_table<count_forms(rows), count_meanings(rows)>(rows);
extern const TableView x86_apx;
constexpr TableView x86_apx{table.forms.data(), table.forms.size(), table.meanings.data()};
}  // namespace ingot::isa
