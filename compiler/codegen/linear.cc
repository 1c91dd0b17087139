// SPDX-License-Identifier: MIT
// Where in the loop nest each node is computed, and in which order.
//
// Loops form a tree: a STORE's ranges nest from the root, a REDUCE's ranges nest below the place of its result, those
// of a STORE that an AFTER waits for below the place of the AFTER. A node goes to the outermost loop body that contains
// every range it depends on (so invariant code is hoisted by construction). Offsets are first rebuilt as sums ordered
// by loop depth with the constant last, so that each loop level adds one term and copies that differ by a constant
// share an address. Inside a body, a topological order that follows a depth-first walk from the uses keeps few values
// alive.
#include <algorithm>
#include <queue>
#include "compiler/codegen/codegen.h"

namespace ingot {
namespace {

struct Item {
  U u;
  int rank, home, inside;  // position in the topological order, body of the result, innermost body of a REDUCE
};
struct Body {
  U range = nullptr;  // nullptr: the kernel
  int parent = -1, level = 0, depth = 0;
  std::vector<int> children;
  std::vector<Item> nodes;
  std::vector<U> reduces;  // whose accumulators are initialised before this loop
};

bool placed(U u) {  // takes part in the order; leaves are named by their users
  return u->op != Op::CONST && u->op != Op::PARAM && u->op != Op::LOCAL && u->op != Op::RANGE && u->op != Op::ACC &&
         (u->op != Op::INDEX || u->dtype == VOID) && u->op != Op::SINK;
}

bool has_loops(U u) { return u->op == Op::REDUCE && u->arg(1) >= 0; }  // else it is one across lanes

class Lineariser {
 public:
  Linear run(U sink) {
    sink = order_offsets(sink);
    order_ = toposort(sink);
    measure();
    bodies_.push_back({});
    place();
    for (size_t i = 0; i < order_.size(); i++) {
      U u = order_[i];
      if (!placed(u)) continue;
      const int home = *home_.find(u), inside = has_loops(u) ? *inside_.find(u) : -1;
      items_.push_back({u, int(i), home, inside});
      bodies_[size_t(home)].nodes.push_back(items_.back());
    }
    emit(0);
    for (U u : order_)
      if (int* h = home_.find(u)) result_.depth[u] = bodies_[size_t(*h)].depth;
    return std::move(result_);
  }

 private:
  // Ranges in nesting order; the bits of a mask are positions in ranges_.
  void rank_ranges(const std::vector<U>& order) {
    ranges_.clear();
    auto add = [&](U r) {
      if (std::ranges::find(ranges_, r) == ranges_.end()) ranges_.push_back(r);
    };
    for (size_t i = order.size(); i-- > 0;)  // users first: the kernel's loops, then those of copies inside them
      if (order[i]->op == Op::SINK || order[i]->op == Op::AFTER)
        for (U s : order[i]->src())
          if (s->op == Op::STORE)
            for (U r : s->src().subspan(2)) add(r);
    for (size_t i = order.size(); i-- > 0;)
      if (has_loops(order[i]))
        for (U r : order[i]->src().subspan(1)) add(r);
    check(ranges_.size() <= 64, "more than 64 loops");
  }
  u64 bit(U r) const {  // none for the number of a work-group or work-item
    auto at = std::ranges::find(ranges_, r);
    return at == ranges_.end() ? 0 : u64(1) << (at - ranges_.begin());
  }
  UMap<u64> dependencies(const std::vector<U>& order) {
    UMap<u64> deps;
    std::vector<u64> carried;  // by accumulator: the loops that it is carried round
    for (U u : order)
      if (has_loops(u)) {
        carried.resize(std::max(carried.size(), size_t(u->arg(1)) + 1));
        for (U r : u->src().subspan(1)) carried[size_t(u->arg(1))] |= bit(r);
      }
    for (U u : order) {
      u64 d = u->op == Op::RANGE ? bit(u) : u->op == Op::ACC ? carried[size_t(u->arg(0))] : 0;
      for (U s : u->src()) d |= *deps.find(s);
      if (u->op == Op::REDUCE || u->op == Op::STORE)
        for (U r : u->src().subspan(u->op == Op::STORE ? 2 : 1)) d &= ~bit(r);
      deps[u] = d;
    }
    return deps;
  }

  U order_offsets(U sink) {
    std::vector<U> order = toposort(sink);
    rank_ranges(order);
    UMap<u64> deps = dependencies(order);
    UMap<U> became;
    for (U u : order) {
      std::vector<U> src;
      for (U s : u->src()) src.push_back(*became.find(s));
      if (u->op == Op::INDEX && u->src(1)->dtype.scalar == Scalar::IDX) {
        LinearForm f = linear_form(u->src(1));
        std::stable_sort(f.terms.begin(), f.terms.end(), [&](auto& a, auto& b) {
          const u64 *x = deps.find(a.first), *y = deps.find(b.first);
          return (x ? *x : 0) < (y ? *y : 0);  // inner ranges are higher bits
        });
        for (auto& [term, k] : f.terms)
          if (U* t = became.find(term)) term = *t;
        src[1] = build(f);
      }
      became[u] = with_sources(u, src);
    }
    return *became.find(sink);
  }

  // Levels: a REDUCE that needs another's result cannot share its loop.
  void measure() {
    rank_ranges(order_);
    deps_ = dependencies(order_);
    for (U u : order_) {
      int level = 0;
      for (U s : u->src()) level = std::max(level, *level_.find(s));
      level_[u] = level + has_loops(u);
    }
  }

  int child(int body, U range, int level) {
    for (int c : bodies_[size_t(body)].children)
      if (bodies_[size_t(c)].range == range && bodies_[size_t(c)].level == level) return c;
    bodies_.push_back({range, body, level, bodies_[size_t(body)].depth + 1, {}, {}, {}});
    bodies_[size_t(body)].children.push_back(int(bodies_.size()) - 1);
    return int(bodies_.size()) - 1;
  }
  int common(int a, int b) const {
    while (a != b)
      (bodies_[size_t(a)].depth >= bodies_[size_t(b)].depth ? a : b) =
          bodies_[size_t(bodies_[size_t(a)].depth >= bodies_[size_t(b)].depth ? a : b)].parent;
    return a;
  }
  // The outermost body on the path to `body` that contains every range of `mask`.
  int hoist(int body, u64 mask) const {
    while (body && !(mask & bit(bodies_[size_t(body)].range))) body = bodies_[size_t(body)].parent;
    return body;
  }
  void need(U u, int body) {
    int* at = context_.find(u);
    if (at)
      *at = common(*at, body);
    else
      context_[u] = body;
  }
  std::vector<U> in_order(std::span<const U> ranges) const {
    std::vector<U> sorted(ranges.begin(), ranges.end());
    std::ranges::sort(sorted, {}, [&](U r) { return bit(r); });
    return sorted;
  }

  void place() {
    for (size_t i = order_.size(); i-- > 0;) {  // users first
      U u = order_[i];
      if (u->op == Op::SINK || u->op == Op::RANGE) continue;
      int home;
      if (u->op != Op::STORE && !context_.contains(u)) continue;  // the bound of a RANGE
      if (u->op == Op::STORE) {
        int* after = context_.find(u);
        home = after ? *after : 0;                                 // all that an AFTER waits for share their loops
        for (U r : u->src().subspan(2)) home = child(home, r, 0);  // in the order the plan gave
      } else {
        home = hoist(*context_.find(u), *deps_.find(u));
      }
      home_[u] = home;
      int inside = home;
      if (has_loops(u)) {
        for (U r : in_order(u->src().subspan(1))) inside = child(inside, r, *level_.find(u));
        int outermost = inside;
        while (bodies_[size_t(outermost)].parent != home) outermost = bodies_[size_t(outermost)].parent;
        bodies_[size_t(outermost)].reduces.push_back(u);
        inside_[u] = inside;
      }
      for (U s : u->src())
        if (s->op != Op::RANGE) need(s, inside);
    }
  }

  int within(int body, int ancestor)
      const {  // the child of `ancestor` on the way to `body`; -1: body is ancestor or not below it
    int below = -1;
    while (body != ancestor) {
      if (body < 0) return -1;
      below = body;
      body = bodies_[size_t(body)].parent;
    }
    return below;
  }

  void emit(int body) {
    Body& b = bodies_[size_t(body)];
    // Items: the nodes placed here, then the child loops. An item waits for what it uses.
    size_t n = b.nodes.size(), total = n + b.children.size();
    UMap<int> item;
    for (size_t i = 0; i < n; i++) item[b.nodes[i].u] = int(i);
    std::vector<std::vector<int>> users(total);
    std::vector<int> waits(total, 0), priority(total, 1 << 30);
    auto edge = [&](int from, int to) {
      if (from != to) users[size_t(from)].push_back(to), waits[size_t(to)]++;
    };
    auto item_of_body = [&](int inner) {  // child loop item that contains body `inner`
      int c = within(inner, body);
      return c < 0 ? -1 : int(n) + int(std::ranges::find(b.children, c) - b.children.begin());
    };
    // What a node needs from this body: itself if placed here, through INDEX nodes transparently.
    std::vector<U> work;
    auto connect = [&](U u, int to) {
      work.assign(u->src().begin(), u->src().end());
      while (!work.empty()) {
        U s = work.back();
        work.pop_back();
        if (s->op == Op::INDEX && !placed(s))
          work.insert(work.end(), s->src().begin(), s->src().end());
        else if (int* i = item.find(s))
          edge(*i, to);
        else if (int copy = s->op == Op::STORE ? item_of_body(*home_.find(s)) : -1; copy >= 0)
          edge(copy, to);
      }
    };
    for (size_t i = 0; i < n; i++) {
      const Item& x = b.nodes[i];
      priority[i] = x.rank;
      connect(x.u, int(i));
      if (x.inside >= 0) edge(item_of_body(x.inside), int(i));
    }
    for (const Item& x : items_) {
      // A REDUCE's update is computed at the end of the inner loop.
      if (int c = x.inside < 0 ? -1 : item_of_body(x.inside); c >= 0) {
        connect(x.u, c);
        priority[size_t(c)] = std::min(priority[size_t(c)], x.rank);
      }
      int c = item_of_body(x.home);
      if (c < 0) continue;
      connect(x.u, c);
      if (x.u->op == Op::STORE) priority[size_t(c)] = std::min(priority[size_t(c)], x.rank);
    }
    // A value is loaded before anything here is stored to its buffer.
    for (size_t i = 0; i < n; i++) {
      if (b.nodes[i].u->op != Op::STORE) continue;
      U to = b.nodes[i].u->src(0)->src(0);
      for (size_t j = 0; j < n; j++)
        if (b.nodes[j].u->op == Op::LOAD && b.nodes[j].u->src(0)->src(0) == to) edge(int(j), int(i));
    }
    std::priority_queue<std::pair<int, int>, std::vector<std::pair<int, int>>, std::greater<>> ready;
    for (size_t i = 0; i < total; i++)
      if (!waits[i]) ready.push({priority[i], int(i)});
    std::vector<Line>& out = result_.lines;
    size_t done = 0;
    while (!ready.empty()) {
      int i = ready.top().second;
      ready.pop();
      done++;
      if (size_t(i) < n) {
        out.push_back({Line::NODE, b.nodes[size_t(i)].u});
      } else {
        int c = b.children[size_t(i) - n];
        for (U r : bodies_[size_t(c)].reduces) out.push_back({Line::INIT, r});
        out.push_back({Line::LOOP, bodies_[size_t(c)].range});
        emit(c);
        for (const Item& x : items_)  // accumulators move on at the end of their innermost loop
          if (x.inside == c) out.push_back({Line::UPDATE, x.u});
        out.push_back({Line::END, bodies_[size_t(c)].range});
      }
      for (int to : users[size_t(i)])
        if (!--waits[size_t(to)]) ready.push({priority[size_t(to)], to});
    }
    check(done == total, "cycle between loops");
  }

  std::vector<U> order_, ranges_;
  std::vector<Item> items_;
  UMap<int> level_, home_, context_, inside_;
  UMap<u64> deps_;
  std::vector<Body> bodies_;
  Linear result_;
};

}  // namespace

Linear linearise(U sink) { return Lineariser().run(sink); }

}  // namespace ingot
