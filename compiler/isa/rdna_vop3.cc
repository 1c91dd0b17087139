// SPDX-License-Identifier: MIT
// The rows of rdna_vop3.def, as constants.
#include "compiler/isa/rdna.h"

namespace ingot::isa {
using namespace rdna;
using namespace rdna::names;
static constexpr Source sources[] = {
#define RDNA(...) {__VA_ARGS__},
#include "compiler/isa/rdna_vop3.def"
#undef RDNA
};
static constexpr auto table = make_table<count_meanings(sources)>(sources);
extern const TableView rdna_vop3;
constexpr TableView rdna_vop3{table.rows.data(), table.rows.size(), table.meanings.data()};
}  // namespace ingot::isa
