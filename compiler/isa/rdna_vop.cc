// SPDX-License-Identifier: MIT
// The rows of rdna_vop.def, as constants.
#include "compiler/isa/rdna.h"

namespace ingot::isa {
using namespace rdna;
using namespace rdna::names;
static constexpr Source sources[] = {
#define RDNA(...) {__VA_ARGS__},
#include "compiler/isa/rdna_vop.def"
#undef RDNA
};
static constexpr auto table = make_table<count_meanings(sources)>(sources);
extern const TableView rdna_vop;
constexpr TableView rdna_vop{table.rows.data(), table.rows.size(), table.meanings.data()};
}  // namespace ingot::isa
