// SPDX-License-Identifier: MIT
// What people read: kernel names, source lines, and a schedule as text.
#include <algorithm>
#include "compiler/schedule/schedule.h"

namespace ingot {
namespace {

struct SourceLine {
  const char* file = nullptr;  // nullptr: the node is gone, or never had a line
  int line = 0;
};
thread_local UMap<SourceLine> source_lines;
const SourceLine* line_of(U u) {
  const SourceLine* s = source_lines.find(u);
  return s && s->file ? s : nullptr;
}

std::string lower_case(const char* text) {
  std::string out;
  for (; *text; text++) out += *text == '_' ? '_' : char(*text | 32);
  return out;
}

void append_bounds(std::string& out, U sink, RangeKind kind) {
  std::vector<U> ranges;
  for (U u : toposort(sink))
    if (u->op == Op::RANGE && u->range_kind() == kind) ranges.push_back(u);
  std::sort(ranges.begin(), ranges.end(), [](U a, U b) { return a->arg(0) < b->arg(0); });
  for (size_t i = 0; i < ranges.size(); i++) {
    out += i ? "x" : kind == RangeKind::LOOP ? "_" : "_r";
    append(out, ranges[i]->src(0)->const_int());
  }
}

}  // namespace

// The ops nearest the outputs, the reductions first; then the bounds of the loops.
std::string kernel_name(U sink) {
  std::vector<std::string> words;
  auto add = [&](std::string word) {
    if (words.size() < 4 && std::ranges::find(words, word) == words.end()) words.push_back(std::move(word));
  };
  bool loads = false;
  std::vector<U> work, seen, reductions, others;
  for (U store : sink->src()) work.push_back(store->src(1));
  while (!work.empty()) {  // values only: neither indices nor the conditions of padding
    U u = work.back();
    work.pop_back();
    if (std::ranges::find(seen, u) != seen.end() || seen.size() > 256) continue;
    seen.push_back(u);
    loads |= u->op == Op::LOAD;
    bool padding = u->op == Op::WHERE && u->src(2)->is_const() && u->src(1)->op != Op::CONST;
    if (u->op == Op::REDUCE)
      reductions.push_back(u);
    else if (has(u->op, ALU) && u->dtype != IDX && u->op != Op::CAST && !padding)
      others.push_back(u);
    if (u->op == Op::LOAD || u->dtype == IDX) continue;
    size_t first = padding ? 1 : 0, count = u->op == Op::REDUCE ? 1 : u->nsrc;
    for (size_t i = count; i-- > first;) work.push_back(u->src(int(i)));
  }
  for (U u : reductions) add(str("reduce_", lower_case(row(Op(u->arg(0))).name)));
  for (U u : others) {
    bool relu = u->op == Op::MAX && u->src(1)->is_const() && u->src(1)->arg(0) == 0;
    add(relu ? "relu" : lower_case(row(u->op).name));
  }
  if (words.empty()) add(loads ? "copy" : "fill");
  std::string name;
  for (auto& word : words) name += name.empty() ? word : "_" + word;
  append_bounds(name, sink, RangeKind::LOOP);
  append_bounds(name, sink, RangeKind::REDUCE);
  return name;
}

void set_source(U u, const char* file, int line) { source_lines[u] = {file, line}; }
void forget_source(U u) {
  if (SourceLine* s = source_lines.find(u)) *s = {};
}
void copy_source(U to, U from) {
  if (const SourceLine* s = line_of(from); s && !line_of(to)) {
    SourceLine line = *s;  // the table may move
    source_lines[to] = line;
  }
}
std::string source_of(U u) {  // the nearest line below, for what stands for its source: movement, casts, stores
  for (int steps = 0; u && steps < 32; steps++) {
    if (const SourceLine* s = line_of(u)) return str(s->file, ":", s->line);
    u = u->nsrc ? u->src(u->op == Op::ASSIGN) : nullptr;
  }
  return "";
}

std::string print(const Schedule& schedule) {
  std::string out;
  std::vector<U> seen;  // buffers are numbered in order of appearance: their ids differ from run to run
  auto number = [&](U b) {
    size_t i = size_t(std::ranges::find(seen, b) - seen.begin());
    if (i == seen.size()) seen.push_back(b);
    return i;
  };
  auto buffer = [&](const KernelBuffer& b) {
    out += ' ';
    append(out, b.internal >= 0 ? str("t", b.internal) : str("b", number(b.buffer)));
    append(out, str(":", b.dtype, "[", b.elements, "]", b.written ? b.read ? "rw" : "w" : ""));
  };
  for (const ScheduledKernel& k : schedule.kernels) {
    out += k.name;
    for (const KernelBuffer& b : k.buffers) buffer(b);
    if (!k.source.empty()) out += str(" # ", k.source);
    out += '\n';
    if (!k.sink) continue;
    for (U store : k.sink->src()) out += str("  ", store, "\n");
  }
  out += str(schedule.kernels.size(), " kernels, ", schedule.internals.size(), " internal buffers, ",
             schedule.plan_bytes, " bytes\n");
  return out;
}

}  // namespace ingot
