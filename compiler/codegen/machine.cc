// SPDX-License-Identifier: MIT
// The tree of levels that a target is, read from machine.def. The cost model in opt.cc and the heuristic ask it;
// nothing else knows how wide a vector or how large a cache is.
#include "compiler/codegen/codegen.h"

namespace ingot {
namespace {
struct LevelRow {
  std::string_view machine;
  Level level;
};
constexpr LevelRow level_rows[] = {
#define LEVEL(machine, name, fanout, bytes, rate, latency, runs) \
  {#machine, {#name, fanout, bytes, rate, latency, runs}},
#include "compiler/codegen/machine.def"
#undef LEVEL
};
}  // namespace

const Level& Machine::level(std::string_view wanted) const {
  for (const Level& l : levels)
    if (l.name == wanted) return l;
  throw Error("machine ", name, " has no level ", wanted);
}
int Machine::vector_bits() const { return level("lane").fanout * 32; }
int Machine::registers() const { return level("register").fanout; }

Machine machine_of(const Target& target) {
  Machine m;
  for (const LevelRow& r : level_rows) {
    if (r.machine != target.arch) continue;
    m.name = r.machine;
    m.levels.push_back(r.level);
    if (r.level.name == "core") m.levels.back().fanout = target.threads;
  }
  check(!m.levels.empty(), "no machine tree for ", target.arch);
  return m;
}

std::string print(const Machine& m) {
  std::string out = str("machine ", m.name, "\n");
  for (const Level& l : m.levels)
    out += str("  ", l.name, ": ", l.fanout, " x ", l.memory_bytes, " bytes, ", l.bytes_per_ns, " bytes/ns, ",
               l.latency_ns, " ns: ", l.runs, "\n");
  return out;
}

}  // namespace ingot
