// SPDX-License-Identifier: MIT
// The tree of levels that a target is, read from machine.def. The cost model in opt.cc and the heuristic ask it;
// nothing else knows how wide a vector or how large a cache is.
#include <algorithm>
#include "compiler/codegen/codegen.h"

namespace ingot {
namespace {
struct MachineRow {
  std::string_view name;
  bool lane_masks;
  int issue_width, lane_bits;
  Occupancy occupancy;
};
constexpr MachineRow machine_rows[] = {
#define MACHINE(name, masks, width, lane_bits, ...) {#name, masks, width, lane_bits, {__VA_ARGS__}},
#define LEVEL(...)
#define MATRIX(...)
#include "compiler/codegen/machine.def"
#undef MACHINE
#undef LEVEL
#undef MATRIX
};
struct MatrixRow {
  std::string_view machine;
  MatrixUnit unit;
};
constexpr MatrixRow matrix_rows[] = {
#define MACHINE(...)
#define LEVEL(...)
#define MATRIX(machine, instruction, input, output) {#machine, {instruction, input, output}},
#include "compiler/codegen/machine.def"
#undef MACHINE
#undef LEVEL
#undef MATRIX
};
struct LevelRow {
  std::string_view machine;
  Level level;
};
constexpr LevelRow level_rows[] = {
#define MACHINE(...)
#define LEVEL(machine, name, kind, fanout, bytes, rate, latency, runs) \
  {#machine, {#name, RangeKind::kind, fanout, bytes, rate, latency, runs}},
#define MATRIX(...)
#include "compiler/codegen/machine.def"
#undef MACHINE
#undef LEVEL
#undef MATRIX
};
}  // namespace

int Occupancy::waves(int used) const {
  return std::min(most, vectors / ((std::max(used, 1) + granule - 1) / granule * granule));
}
int Occupancy::registers(int waves) const { return vectors / waves / granule * granule; }
const Level& Machine::level(std::string_view wanted) const {
  for (const Level& l : levels)
    if (l.name == wanted) return l;
  throw Error("machine ", name, " has no level ", wanted);
}
const MatrixUnit* Machine::matrix_unit(DType input) const {
  auto at = std::ranges::find(matrix_units, input, &MatrixUnit::input);
  return at == matrix_units.end() ? nullptr : &*at;
}
const Level& Machine::outer() const { return *std::ranges::find(levels, RangeKind::THREAD, &Level::kind); }
int Machine::lanes(int element_bits) const {
  int n = level("lane").fanout;
  return lane_bits && element_bits > lane_bits ? n * lane_bits / element_bits : n;
}
int Machine::registers() const { return level("register").fanout; }
const Level* Machine::room_for(i64 bytes) const {
  for (size_t i = levels.size(); i-- > 0 && levels[i].kind != RangeKind::THREAD;)
    if (levels[i].memory_bytes / 2 >= bytes) return &levels[i];
  return nullptr;
}
i64 Machine::innermost_memory() const {
  const Level* l = room_for(1);
  return l ? l->memory_bytes : 0;
}

Machine machine_of(const Target& target) {
  Machine m{};
  for (const MachineRow& r : machine_rows)
    if (r.name == target.arch) m = {r.name, r.lane_masks, r.issue_width, r.lane_bits, r.occupancy, {}, {}};
  for (const MatrixRow& r : matrix_rows)
    if (r.machine == target.arch) m.matrix_units.push_back(r.unit);
  check(!m.name.empty(), "no machine tree for ", target.arch);
  for (const LevelRow& r : level_rows) {
    if (r.machine != target.arch) continue;
    m.levels.push_back(r.level);
    if (r.level.name == "core") m.levels.back().fanout = target.threads;
  }
  return m;
}

std::string print(const Machine& m) {
  std::string out = str("machine ", m.name, "\n");
  for (const Level& l : m.levels) {
    out += str("  ", l.name, " x ", l.fanout, ": ");
    if (l.memory_bytes)
      out += l.memory_bytes >= 1 << 20 ? str(l.memory_bytes >> 20, " MiB, ") : str(l.memory_bytes >> 10, " KiB, ");
    out += str(l.bytes_per_ns, " GB/s, ");
    if (l.latency_ns > 0) out += str(l.latency_ns, " ns, ");
    out += str(l.runs, "\n");
  }
  return out;
}

}  // namespace ingot
