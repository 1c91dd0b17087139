// SPDX-License-Identifier: MIT
// The two drivers of rewrite rules. Both work on an explicit stack, sources before users, and remember what every node
// became, so shared subgraphs are rewritten once. A list without context notes in the node itself that it has nothing
// to say there (UOp::settled): rewriting what is already in normal form costs one look per node.
#include "compiler/uop/uop.h"

namespace ingot {
namespace {

U rebuild(U u, const UMap<U>& became) {
  U small[8];
  std::vector<U> large;
  U* src = small;
  if (u->nsrc > 8) large.resize(u->nsrc), src = large.data();
  bool same = true;
  for (u32 k = 0; k < u->nsrc; k++) {
    const U* s = became.find(u->src(int(k)));
    src[k] = s ? *s : u->src(int(k));
    same &= src[k] == u->src(int(k));
  }
  return same ? u : make(u->op, u->dtype, std::span<const U>(src, u->nsrc), u->arg());
}

}  // namespace

U rewrite(U root, const RuleList& rules, void* context) {
  u64 bit = rules.id_ >= 0 && !context && ctx.TRACE.empty() ? u64(1) << rules.id_ : 0;
  UMap<U> became;
  enum Step : u8 { ENTER, SOURCES_DONE, CHAIN };
  struct Frame {
    U u, next;
    Step step;
  };
  std::vector<Frame> stack{{root, nullptr, ENTER}};
  while (!stack.empty()) {
    Frame f = stack.back();
    stack.pop_back();
    if (f.step == ENTER) {
      if (became.contains(f.u)) continue;
      if (f.u->settled & bit) {  // whole subgraph is in normal form: it settled only after its sources had
        became[f.u] = f.u;
        continue;
      }
      stack.push_back({f.u, nullptr, SOURCES_DONE});
      for (U s : f.u->src())
        if (!became.contains(s)) stack.push_back({s, nullptr, ENTER});
    } else if (f.step == SOURCES_DONE) {
      U v = rebuild(f.u, became);
      if (U* known = v != f.u ? became.find(v) : nullptr) {
        U result = *known;
        became[f.u] = result;
        continue;
      }
      U next = v->settled & bit ? nullptr : rules.apply(v, context);
      if (!next) {
        v->settled |= bit;
        became[v] = v;
        if (v != f.u) became[f.u] = v;
      } else {
        stack.push_back({f.u, next, CHAIN});
        stack.push_back({next, nullptr, ENTER});
        if (v != f.u && !became.contains(v)) stack.insert(stack.end() - 1, {v, next, CHAIN});
      }
    } else {
      U result = *became.find(f.next);
      became[f.u] = result;
    }
  }
  return *became.find(root);
}

U walk(U root, const RuleList& rules, void* context) {
  UMap<U> became;
  for (U u : toposort(root)) {
    U v = rebuild(u, became);
    U next = rules.apply(v, context);
    became[u] = next ? next : v;
  }
  return *became.find(root);
}

U substitute(U root, UMap<U>& map) {
  UMap<U> became;
  std::vector<std::pair<U, bool>> stack{{root, false}};
  while (!stack.empty()) {
    auto [u, ready] = stack.back();
    stack.pop_back();
    if (!ready) {
      if (became.contains(u)) continue;
      if (U* to = map.find(u)) {
        U result = *to;
        became[u] = result;
        continue;
      }
      stack.push_back({u, true});
      for (U s : u->src())
        if (!became.contains(s)) stack.push_back({s, false});
    } else {
      U v = rebuild(u, became);
      became[u] = v;
    }
  }
  return *became.find(root);
}

}  // namespace ingot
