// SPDX-License-Identifier: MIT
// The passes of the kernel compiler, in order, and what it reports about a kernel.
#include <algorithm>
#include "compiler/codegen/codegen.h"

namespace ingot {
namespace {

// A REDUCE that needs the result of another over the same range gets a range of its own, because it takes a second
// loop.
U separate_reductions(U sink) {
  std::vector<U> order = toposort(sink);
  UMap<int> level;
  std::vector<std::pair<U, int>> closed;  // range, level of the REDUCE that closes it
  i64 next_id = 0;
  bool clash = false;
  for (U u : order) {
    int l = 0;
    for (U s : u->src()) l = std::max(l, *level.find(s));
    level[u] = l + (u->op == Op::REDUCE);
    if (u->op == Op::RANGE) next_id = std::max(next_id, u->arg(0) + 1);
    if (u->op != Op::REDUCE) continue;
    for (U r : u->src().subspan(1)) {
      for (auto& [other, at] : closed) clash |= other == r && at != l + 1;
      closed.push_back({r, l + 1});
    }
  }
  if (!clash) return sink;
  UMap<U> became;
  std::vector<std::pair<std::pair<U, int>, U>> renamed;
  for (U u : order) {
    std::vector<U> src;
    for (U s : u->src()) {
      U* b = became.find(s);
      src.push_back(b ? *b : s);
    }
    if (u->op == Op::REDUCE && *level.find(u) > 1) {
      UMap<U> map;
      for (size_t i = 1; i < src.size(); i++) {
        auto key = std::pair(src[i], *level.find(u));
        auto at = std::ranges::find(renamed, key, &std::pair<std::pair<U, int>, U>::first);
        if (at == renamed.end()) {
          renamed.push_back({key, make(Op::RANGE, IDX, src[i]->src(), std::array{next_id++, src[i]->arg(1)})});
          at = renamed.end() - 1;
        }
        map[src[i]] = at->second;
        src[i] = at->second;
      }
      // Inner REDUCEs keep their own ranges: they do not depend on the value of these.
      for (U inner : toposort(src[0]))
        if (inner->op == Op::REDUCE) map[inner] = inner;
      src[0] = substitute(src[0], map);
    }
    became[u] = with_sources(u, src);
  }
  return *became.find(sink);
}

// Every access is proven in bounds from its ranges or carries a condition; one that does neither gets the condition
// here.
U prove_accesses(U sink, Program& program) {
  UMap<U> became;
  for (U u : toposort(sink)) {
    std::vector<U> src;
    for (U s : u->src()) src.push_back(*became.find(s));
    U v = with_sources(u, src);
    if (u->op == Op::INDEX) {
      program.accesses++;
      i64 elements = src[0]->arg(1);
      bool proven = src[1]->min >= 0 && src[1]->max < elements;
      program.accesses_proven += proven && src.size() == 2;
      if (!proven && src.size() == 2) {
        Expr at = src[1];
        src.push_back((at >= Expr(0)) && (at < Expr(elements)));
        v = simplify(make(Op::INDEX, u->dtype, src, u->arg()));
      }
    }
    became[u] = v;
  }
  return *became.find(sink);
}

constexpr Rule contract_rules[] = {
    {op(Op::ADD, op(Op::MUL, holes::x, holes::y), holes::z), fma(holes::x, holes::y, holes::z),
     [](const Match& m) { return m.root->dtype.bits() >= 32; }},
};
// What the lane forms leave that no row computes: bool to and from numbers.
constexpr Rule lane_rules[] = {
    {op(Op::CAST, holes::x),
     [](const Match& m) -> U {
       U x = m[holes::x];
       DType t = m.root->dtype;
       if (x->dtype.is_bool() && t.lanes > 1 && !t.is_bool())
         return t.bits() >= 32 ? make_alu(Op::WHERE, x, constant(t, 1), constant(t, 0))
                               : cast(cast(x, I32.with_lanes(t.lanes)), t);
       if (t.is_bool() && !x->dtype.is_bool()) {
         U wide = x->dtype.is_int() && x->dtype.bits() < 32 ? cast(x, I32.with_lanes(t.lanes)) : x;
         return make_alu(Op::CMPNE, wide, constant(wide->dtype, 0));
       }
       return nullptr;
     }},
};

i64 operations(U sink) {  // of the whole kernel
  std::vector<U> order = toposort(sink);
  UMap<std::vector<U>> open;
  i64 total = 0;
  for (U u : order) {
    std::vector<U> ranges;
    if (u->op == Op::RANGE) ranges.push_back(u);
    for (U s : u->src())
      for (U r : *open.find(s))
        if (std::ranges::find(ranges, r) == ranges.end()) ranges.push_back(r);
    i64 n = 1;
    for (U r : ranges) n *= r->src(0)->arg(0);
    if (has(u->op, ALU) && u->dtype.scalar != Scalar::IDX && !u->dtype.is_bool() && u->op != Op::CAST &&
        u->op != Op::BITCAST && u->op != Op::WHERE)
      total += u->op == Op::FMA ? 2 * n : n;
    if (u->op == Op::REDUCE) {
      total += n;
      for (U r : u->src().subspan(1)) std::erase(ranges, r);
    }
    open[u] = std::move(ranges);
  }
  return total;
}

}  // namespace

Program compile(U sink, std::span<const Param> params, std::string name, const Target& target) {
  Program program;
  program.name = std::move(name);
  program.isa = target.isa;
  program.arch = target.arch;
  program.params.assign(params.begin(), params.end());
  program.operations = operations(sink);
  for (const Param& p : params) program.bytes += p.elements * p.dtype.bytes() * (p.read + p.written);

  auto spec = [&](U u, Stage stage, const char* pass) {
    if (ctx.SPEC) check_spec(u, stage, pass);
    return u;
  };
  static const RuleList contract{{"contract", Arithmetic::FLOAT_FAST, contract_rules}};
  static const RuleList lanes{{"lanes", Arithmetic::ANY, lane_rules}};
  sink = spec(separate_reductions(sink), Stage::KERNEL, "separate_reductions");
  sink = prove_accesses(sink, program);
  sink = rewrite(sink, contract);
  sink = rewrite(decompose(sink, target), lanes);
  Plan plan = choose_plan(sink, target);
  program.moves = print(plan);
  sink = apply_plan(sink, plan);
  for (U u : toposort(sink))
    if (u->op == Op::RANGE && u->range_kind() == RangeKind::THREAD) program.extent = u->src(0)->arg(0);
  sink = simplify(sink);
  sink = simplify(expand(sink, target));
  sink = spec(rewrite(decompose(sink, target), lanes), Stage::EXPANDED, "expand");
  Linear linear = linearise(sink);
#ifdef CONFIG_ISA_X86
  MachineCode code = select_x86(linear, target);
  allocate_registers(code, register_file_x86(target), spill_code_x86, target);
  emit_x86(code, program);
#else
  throw Error("this build compiles nothing for ", target.isa, " (Kconfig: ISA_X86)");
#endif

  Machine machine = machine_of(target);
  double flops_per_ns = machine.vector_bits() / 32 * 2 * 2 * 2.0, bytes_per_ns = machine.level("core").bytes_per_ns;
  program.estimate_ns = i64(std::max(double(program.operations) / flops_per_ns, double(program.bytes) / bytes_per_ns));
  return program;
}

std::string annotate(const Program& p) {
  std::string out = str("; ", p.name, "  ", p.isa, " ", p.arch, "  ", p.code.size(), " bytes\n; ", p.moves, "\n");
  const isa::Isa* isa = isa::find_isa(p.isa);
  check(isa, "no ISA ", p.isa);
  return out + isa::disassemble(*isa, std::span(p.code).first(size_t(p.code_bytes)), true);
}

}  // namespace ingot
