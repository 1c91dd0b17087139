// SPDX-License-Identifier: MIT
// The rows of rdna_flat.def, as constants.
#include "compiler/isa/rdna.h"

namespace ingot::isa {
using namespace rdna;
using namespace rdna::names;
static constexpr Source sources[] = {
#define RDNA(...) {__VA_ARGS__},
#include "compiler/isa/rdna_flat.def"
#undef RDNA
};
static constexpr auto table = make_table<count_meanings(sources)>(sources);
extern const TableView rdna_flat;
constexpr TableView rdna_flat{table.rows.data(), table.rows.size(), table.meanings.data()};
}  // namespace ingot::isa
