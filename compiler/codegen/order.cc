// SPDX-License-Identifier: MIT
// The order of instructions between two labels, by latency, for any ISA: before registers are allocated.
//
// A block's dependences are those of registers (their rewriting too), flags and memory; its critical path is what the
// rows' latencies add up to. List scheduling issues, cycle by cycle, the ready instruction with the longest path to the
// end of the block. Values that live in the block alone are counted on the way: when they fill the registers that the
// block leaves free, only what ends as many values as it starts is issued. An order that needs more registers at once
// than the one it replaces, and more than there are, is dropped.
#include <algorithm>
#include <array>
#include <queue>
#include "compiler/codegen/codegen.h"

namespace ingot {
namespace {

using isa::Operand;
using isa::RegClass;

constexpr int load_latency = 5;  // cycles of an L1 hit, on top of the row's own
constexpr size_t shortest = 4;   // lines worth ordering
constexpr int groups = 3;        // of registers: scalar, vector, predicate
constexpr size_t fixed = 256;    // scalar registers that instructions name and nobody allocates

class Orderer {
 public:
  Orderer(MachineCode& code, const RegisterFile& file, int width)
      : code_(code), file_(file), width_(width), values_(code.registers.size() + fixed) {
    const std::vector<u32>* lists[groups] = {&file.scalar, &file.vector, &file.predicate};
    for (int g = 0; g < groups; g++) available_[g] = int(lists[g]->size());
  }
  i64 run() {
    measure();
    size_t begin = size_t(code_.prologue);
    for (size_t i = begin; i <= code_.lines.size(); i++) {
      if (i < code_.lines.size() && !ends_block(code_.lines[i])) continue;
      size_t end = i;
      if (i < code_.lines.size() && code_.lines[i].kind == CodeLine::JUMP &&
          code_.lines[i].inst.row->reads_flags) {  // the comparison stays with its branch
        while (end > begin && !code_.lines[end - 1].inst.row->writes_flags) end--;
        if (end > begin) end--;
      }
      if (end >= begin + shortest) order(begin, end);
      begin = i + 1;
    }
    return cycles_;
  }

 private:
  struct Value {  // a virtual register
    int references = 0, first = -1, last = -1;
    // In the block that is ordered:
    int here = 0, left = 0, writer = -1;
    std::vector<int> readers;
    bool starts_here = false;
  };
  struct Touch {
    u32 value;  // position in values_
    bool read, written;
  };
  struct Node {
    struct Next {
      int node;
      bool result;  // it needs the result, and does not only come later
    };
    std::vector<Next> next;  // that wait for it
    std::vector<Touch> touches;
    int waits = 0, latency = 1, path = 0, ready = 0;
  };

  struct Access {  // of memory
    int line;
    bool store;
    int memory;             // VirtualRegister::memory of the base
    int base_at, index_at;  // lines of the block that wrote base and index
    const Operand* at;
  };
  int memory_of(const Operand& o) const { return code_.registers[position_of(o.reg)].memory; }
  static bool overlap(const Access& a, const Access& b) {
    if (!a.store && !b.store) return false;
    if (a.memory != b.memory) return a.memory < 0 || b.memory < 0;
    if (a.at->reg != b.at->reg || a.at->index != b.at->index || a.at->scale != b.at->scale || a.base_at != b.base_at ||
        a.index_at != b.index_at)
      return true;
    auto end = [](const Access& x) { return x.at->imm + (x.at->bits + 7) / 8; };
    return a.at->imm < end(b) && b.at->imm < end(a);
  }

  // What other lines must not cross: labels, branches, and instructions that name registers which are allocated.
  bool ends_block(CodeLine& line) const {
    if ((line.kind != CodeLine::INST && line.kind != CodeLine::MOVE) || !line.inst.row) return true;
    bool named = false;
    each_register(line, [&](u32& r, RegClass c, bool, bool) {
      named |= !is_virtual(r) && (c != RegClass::SCALAR || r >= fixed || std::ranges::count(file_.scalar, r));
    });
    for (const Operand& o : std::span(line.inst.op).first(line.inst.n))
      named |= o.kind == Operand::MEM && !is_virtual(o.reg);  // the frame
    return named;
  }
  size_t value_of(u32 r) const { return is_virtual(r) ? position_of(r) : code_.registers.size() + r; }
  int group(u32 v) const {
    RegClass c = code_.registers[v].cls;
    return c == RegClass::SCALAR ? 0 : c == RegClass::VECTOR ? 1 : 2;
  }
  bool local(u32 v) const { return values_[v].starts_here && values_[v].here == values_[v].references; }

  void measure() {
    std::vector<std::pair<int, int>> loops;  // inner before outer
    std::vector<int> open;
    for (size_t i = 0; i < code_.lines.size(); i++) {
      CodeLine& line = code_.lines[i];
      if (line.kind == CodeLine::LOOP) open.push_back(int(i));
      if (line.kind == CodeLine::END) loops.push_back({open.back(), int(i)}), open.pop_back();
      each_register(line, [&](u32& r, RegClass, bool, bool) {
        if (!is_virtual(r)) return;
        Value& v = values_[position_of(r)];
        v.references++, v.last = int(i);
        if (v.first < 0) v.first = int(i);
      });
    }
    for (auto [start, end] : loops)
      for (Value& v : values_)
        if (v.first >= 0 && v.first < start && v.last > start && v.last < end) v.last = end;
    alive_.resize(code_.lines.size() + 2);
    for (u32 v = 0; v < code_.registers.size(); v++) {
      if (values_[v].first < 0) continue;
      const int g = group(v);
      if (code_.registers[v].constant >= 0)
        available_[g]--;  // made at the entry
      else
        alive_[size_t(values_[v].first) + 1][size_t(g)]++, alive_[size_t(values_[v].last) + 1][size_t(g)]--;
    }
    for (size_t i = 1; i < alive_.size(); i++)
      for (size_t g = 0; g < groups; g++) alive_[i][g] += alive_[i - 1][g];
  }

  void order(size_t begin, size_t end) {
    std::vector<Node> nodes(end - begin);
    auto edge = [&](int from, int to, bool result = true) {
      if (from >= 0 && from != to) nodes[size_t(from)].next.push_back({to, result}), nodes[size_t(to)].waits++;
    };
    // Flags: a writer that nobody reads only keeps out of the way of those that somebody does.
    std::vector<bool> live(nodes.size());
    for (size_t i = nodes.size(), needed = 0; i-- > 0;) {
      const isa::Inst& row = *code_.lines[begin + i].inst.row;
      if (row.writes_flags) live[i] = std::exchange(needed, 0);
      if (row.reads_flags) needed = 1;
    }
    int flags = -1;
    std::vector<int> flag_readers, dead;
    std::vector<Access> accesses;
    struct Space {
      int store = -1;
      std::vector<int> loads;
    } spaces[4];
    std::vector<u32> touched;
    for (int i = 0; i < int(nodes.size()); i++) {
      CodeLine& line = code_.lines[begin + size_t(i)];
      const isa::Inst& row = *line.inst.row;
      Node& node = nodes[size_t(i)];
      each_register(line, [&](u32& r, RegClass, bool read, bool written) {
        u32 v = u32(value_of(r));
        if (!values_[v].here++) {
          values_[v].starts_here = !read && is_virtual(r) && code_.registers[v].constant < 0;
          touched.push_back(v);
        }
        node.touches.push_back({v, read, written});
        if (read) edge(values_[v].writer, i);
      });
      for (const Touch& t : node.touches)
        if (t.read) values_[t.value].readers.push_back(i);
      for (const Touch& t : node.touches) {
        if (!t.written) continue;
        Value& v = values_[t.value];
        const bool in_parts = t.value < code_.registers.size() && code_.registers[t.value].count > 1 && !t.read;
        edge(v.writer, i, !in_parts);
        for (int reader : v.readers) edge(reader, i);
        v.writer = i, v.readers.clear();
      }
      if (Space& space = spaces[line.space]; line.space) {
        edge(space.store, i);
        if (line.stores)
          for (int load : std::exchange(space.loads, {})) edge(load, i);
        line.stores ? void(space.store = i) : space.loads.push_back(i);
      }
      bool reads = false;
      size_t k = 0;
      for (const isa::OperandSpec& spec : isa::operands_of(row)) {
        if (spec.implicit) continue;
        const Operand& o = line.inst.op[k++];
        if (o.kind != Operand::MEM || o.cls == RegClass::POINTER || o.bits == 1) continue;  // literals, lea
        reads |= spec.access & isa::OperandSpec::READ;
        Access access{i,
                      bool(spec.access & isa::OperandSpec::WRITE),
                      memory_of(o),
                      values_[o.reg - isa::first_virtual].writer,
                      o.index == isa::no_register ? -1 : values_[o.index - isa::first_virtual].writer,
                      &o};
        for (const Access& before : accesses)
          if (overlap(before, access)) edge(before.line, i);
        accesses.push_back(access);
      }
      node.latency = line.kind == CodeLine::MOVE ? 0 : std::max<int>(1, row.latency) + (reads ? load_latency : 0);
      if (row.reads_flags) edge(flags, i), flag_readers.push_back(i);
      if (!row.writes_flags) continue;
      for (int reader : flag_readers) edge(reader, i);
      if (!live[size_t(i)]) {
        dead.push_back(i);
        continue;
      }
      for (int d : dead) edge(d, i);
      dead.clear(), flag_readers.clear();
      flags = i;
    }
    int room[groups];  // for values of this block alone
    for (int g = 0; g < groups; g++) room[g] = available_[g] - alive_[begin][size_t(g)];
    for (u32 v : touched)
      if (values_[v].first >= int(begin) && !local(v)) room[group(v)]--;
    schedule(begin, nodes, room);
    for (u32 v : touched) values_[v].here = 0, values_[v].writer = -1, values_[v].readers.clear();
  }

  void schedule(size_t begin, std::vector<Node>& nodes, const int* room) {
    const int n = int(nodes.size());
    for (int i = n; i-- > 0;) {
      Node& node = nodes[size_t(i)];
      node.path = node.latency;
      for (auto [to, result] : node.next)
        node.path = std::max(node.path, (result ? node.latency : 0) + nodes[size_t(to)].path);
    }
    std::vector<int> came(static_cast<size_t>(n)), chosen;
    for (int i = 0; i < n; i++) came[size_t(i)] = i;

    using Entry = std::pair<int, int>;
    std::priority_queue<Entry> ready;  // longest path first, then the order they came in
    std::priority_queue<Entry, std::vector<Entry>, std::greater<>> waiting;  // by cycle
    int cycle = 0, issued = 0;
    begin_counting(nodes);
    std::priority_queue<int, std::vector<int>, std::greater<>> oldest;  // of those in `ready`; some are gone already
    std::vector<bool> gone(static_cast<size_t>(n));
    std::vector<Entry> aside;
    auto make_ready = [&](int i) { ready.push({nodes[size_t(i)].path, -i}), oldest.push(i); };
    for (int i = 0; i < n; i++)
      if (!nodes[size_t(i)].waits) make_ready(i);
    while (int(chosen.size()) < n) {
      for (; !waiting.empty() && waiting.top().first <= cycle; waiting.pop()) make_ready(waiting.top().second);
      while (!ready.empty() && gone[size_t(-ready.top().second)]) ready.pop();
      if (ready.empty() || issued == width_) {
        cycle = ready.empty() ? std::max(cycle + 1, waiting.top().first) : cycle + 1;
        issued = 0;
        continue;
      }
      int next = -1;
      for (aside.clear(); next < 0 && !ready.empty() && aside.size() < 4; ready.pop())
        if (int i = -ready.top().second; !gone[size_t(i)])
          fits(nodes[size_t(i)], room) ? void(next = i) : aside.push_back(ready.top());
      for (const Entry& e : aside) ready.push(e);
      if (next < 0 && width_ == 1 && !waiting.empty()) {  // one at a time: what ends values is worth waiting for
        cycle = std::max(cycle + 1, waiting.top().first), issued = 0;
        continue;
      }
      if (next < 0) {  // the registers are full: the one that came first ends values soonest
        while (gone[size_t(oldest.top())]) oldest.pop();
        next = oldest.top();
      }
      gone[size_t(next)] = true;
      Node& node = nodes[size_t(next)];
      take(node);
      chosen.push_back(next);
      issued++;
      for (auto [to, result] : node.next) {
        Node& t = nodes[size_t(to)];
        t.ready = std::max(t.ready, cycle + (result ? node.latency : 0));
        if (!--t.waits) t.ready <= cycle ? make_ready(to) : waiting.push({t.ready, to});
      }
    }
    int after[groups];
    std::copy(peak_, peak_ + groups, after);
    begin_counting(nodes);
    for (int i : came) take(nodes[size_t(i)]);
    bool better = true;
    for (int g = 0; g < groups; g++) better &= after[g] <= std::max(peak_[g], room[g]);
    cycles_ += length(better ? chosen : came, nodes);
    if (!better) return;
    std::vector<CodeLine> lines;
    lines.reserve(size_t(n));
    for (int i : chosen) lines.push_back(code_.lines[begin + size_t(i)]);
    std::ranges::move(lines, code_.lines.begin() + i64(begin));
  }

  i64 length(const std::vector<int>& sequence, const std::vector<Node>& nodes) const {  // issued in that order
    std::vector<i64> ready(nodes.size());
    i64 cycle = 0, end = 0;
    int issued = 0;
    for (int i : sequence) {
      if (ready[size_t(i)] > cycle || issued == width_) cycle = std::max(cycle + 1, ready[size_t(i)]), issued = 0;
      issued++;
      for (auto [to, result] : nodes[size_t(i)].next)
        if (result) ready[size_t(to)] = std::max(ready[size_t(to)], cycle + nodes[size_t(i)].latency);
      end = std::max(end, cycle + nodes[size_t(i)].latency);
    }
    return end;
  }

  // ---- values of this block alone that are alive
  void begin_counting(const std::vector<Node>& nodes) {
    std::fill(live_, live_ + groups, 0), std::fill(peak_, peak_ + groups, 0);
    for (const Node& node : nodes)
      for (const Touch& t : node.touches) values_[t.value].left = values_[t.value].here;
  }
  bool starts(const Touch& t) const { return t.written && values_[t.value].left == values_[t.value].here; }
  bool fits(const Node& node, const int* room) const {
    int change[groups] = {};
    for (const Touch& t : node.touches)
      if (local(t.value)) change[group(t.value)] += starts(t) - (values_[t.value].left == 1);
    for (int g = 0; g < groups; g++)
      if (change[g] > 0 && live_[g] + change[g] > room[g]) return false;
    return true;
  }
  void take(const Node& node) {  // what it reads last may give its register to what it writes
    for (bool begins : {false, true})
      for (const Touch& t : node.touches) {
        if (!local(t.value) || starts(t) != begins) continue;
        int g = group(t.value);
        if (begins) peak_[g] = std::max(peak_[g], ++live_[g]);
        if (!--values_[t.value].left) live_[g]--;
      }
  }

  MachineCode& code_;
  const RegisterFile& file_;
  int width_;
  i64 cycles_ = 0;
  int available_[groups], live_[groups], peak_[groups];
  std::vector<Value> values_;
  std::vector<std::array<int, groups>> alive_;  // before each line: values made above and read from there on
};

}  // namespace

i64 order_by_latency(MachineCode& code, const RegisterFile& file, int width) {
  return Orderer(code, file, width).run();
}

}  // namespace ingot
