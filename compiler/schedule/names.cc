// SPDX-License-Identifier: MIT
// What people read: kernel names, source lines, and a schedule as text.
#include <algorithm>
#include "compiler/schedule/schedule.h"

namespace ingot {
namespace {

struct SourceLine {
  const char* file;
  int line;
};
thread_local UMap<SourceLine> source_lines;

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
  std::vector<U> order = toposort(sink);
  for (U u : order)
    if (u->op == Op::REDUCE) add(str("reduce_", lower_case(row(Op(u->arg(0))).name)));
  for (size_t i = order.size(); i-- > 0;) {
    U u = order[i];
    if (u->dtype == IDX || !has(u->op, ALU) || u->op == Op::CAST) continue;
    bool relu = u->op == Op::MAX && u->src(1)->is_const() && u->src(1)->arg(0) == 0;
    if (!u->nsrc || u->src(0)->dtype != IDX) add(relu ? "relu" : lower_case(row(u->op).name));
  }
  if (words.empty()) add(std::ranges::any_of(order, [](U u) { return u->op == Op::LOAD; }) ? "copy" : "fill");
  std::string name;
  for (auto& word : words) name += name.empty() ? word : "_" + word;
  append_bounds(name, sink, RangeKind::LOOP);
  append_bounds(name, sink, RangeKind::REDUCE);
  return name;
}

void set_source(U u, const char* file, int line) { source_lines[u] = {file, line}; }
std::string source_of(U u) {
  const SourceLine* s = source_lines.find(u);
  return s ? str(s->file, ":", s->line) : "";
}

std::string print(const Schedule& schedule) {
  std::string out;
  auto buffer = [&](const KernelBuffer& b) {
    out += ' ';
    append(out, b.internal >= 0 ? str("t", b.internal) : str("b", b.buffer->arg(0)));
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
