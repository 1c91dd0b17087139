// SPDX-License-Identifier: MIT
// The passes of the kernel compiler, in order, and what it reports about a kernel.
#include <algorithm>
#include "compiler/codegen/codegen.h"

namespace ingot {
namespace {

// REDUCEs share a loop only if neither needs the other and both stand in the same loops. Others that close the same
// range get a range of their own, because theirs is another loop.
U separate_reductions(U sink) {
  struct Claim {
    U range, renamed;
    u64 open;
    int level;
  };
  std::vector<U> order = toposort(sink), ranges;
  UMap<int> level;
  UMap<u64> open;  // ranges around a node, a bit each
  UMap<U> became;
  std::vector<Claim> claims;
  i64 next_id = 0;
  for (U u : order)
    if (u->op == Op::RANGE) ranges.push_back(u), next_id = std::max(next_id, u->arg(0) + 1);
  auto bit = [&](U r) { return u64(1) << std::min<i64>(std::ranges::find(ranges, r) - ranges.begin(), 63); };
  for (U u : order) {
    std::vector<U> src;
    for (U s : u->src()) src.push_back(*became.find(s));
    int l = 0;
    u64 around = u->op == Op::RANGE ? bit(u) : 0;
    for (U s : u->src()) l = std::max(l, *level.find(s)), around |= *open.find(s);
    if (u->op == Op::REDUCE) {
      l++;
      u64 inside = around;
      for (U r : u->src().subspan(1)) around &= ~bit(r);
      UMap<U> map;
      for (size_t i = 1; i < src.size(); i++) {
        U r = u->src(int(i));
        auto same = [&](const Claim& c) { return c.range == r && c.open == around && c.level == l; };
        auto at = std::ranges::find_if(claims, same);
        if (at == claims.end()) {
          bool taken = std::ranges::any_of(claims, [&](const Claim& c) { return c.range == r; });
          U own = taken ? make(Op::RANGE, IDX, r->src(), std::array{next_id++, r->arg(1)}) : r;
          at = claims.insert(claims.end(), {r, own, around, l});
        }
        if (at->renamed != r) map[r] = src[i] = at->renamed;
      }
      if (map.size()) {
        for (U inner : toposort(u->src(0)))  // what closes the range itself, or stands outside it, stays
          if (inner->op == Op::REDUCE && !(*open.find(inner) & inside & ~around))
            map[*became.find(inner)] = *became.find(inner);
        src[0] = substitute(src[0], map);
      }
    }
    if (u->op == Op::STORE)
      for (U r : u->src().subspan(2)) around &= ~bit(r);
    level[u] = l;
    open[u] = around;
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
// A reduction of narrow numbers is one of wide numbers, narrowed once.
constexpr Rule widen_rules[] = {
    {op(Op::REDUCE, holes::x),
     [](const Match& m) -> U {
       DType t = m.root->dtype;
       if (t.bits() >= 32) return nullptr;
       std::vector<U> src(m.root->src().begin(), m.root->src().end());
       src[0] = cast(src[0], t.is_float() ? F32 : I32);
       return cast(make(Op::REDUCE, src[0]->dtype, src, m.root->arg()), t);
     }},
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

// The sum of products that a matrix unit takes: MATRIX(a, b) is the exact product until the plan has decided.
constexpr Rule matrix_rules[] = {
    {op(Op::REDUCE, holes::x),
     [](const Match& m) -> U {
       const Machine& machine = *static_cast<const Machine*>(m.context);
       U v = m[holes::x];
       if (Op(m.root->arg(0)) != Op::ADD) return nullptr;
       if (v->op == Op::CAST && v->src(0)->op == Op::MUL) v = v->src(0);
       if (v->op != Op::MUL) return nullptr;
       auto narrow = [](U u) { return u->op == Op::CAST ? u->src(0) : u; };
       U a = narrow(v->src(0)), b = narrow(v->src(1));
       const MatrixUnit* unit = machine.matrix_unit(a->dtype);
       if (!unit || a->dtype != b->dtype || a->op != Op::LOAD || b->op != Op::LOAD || m.root->dtype != unit->output)
         return nullptr;
       std::vector<U> src(m.root->src().begin(), m.root->src().end());
       src[0] = make(Op::MATRIX, unit->output, {a, b});
       return make(Op::REDUCE, m.root->dtype, src, m.root->arg());
     }},
};
constexpr Rule product_rules[] = {
    {op(Op::MATRIX, holes::x, holes::y),
     [](const Match& m) -> U {
       DType t = m.root->dtype;
       return t.lanes > 1 ? nullptr : make_alu(Op::MUL, cast(m[holes::x], t), cast(m[holes::y], t));
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

int vectors_of(const MachineCode& code) {  // registers that allocated code touches
  u32 most = 0;
  for (const CodeLine& line : code.lines)
    if (line.inst.row)
      each_allocated(line.inst, [&](u32 r, const isa::OperandSpec&, int) {
        if (r < isa::first_virtual) most = std::max(most, r + 1);
      });
  return int(most);
}

// From placed nodes to bytes.
void assemble(const Linear& linear, const Target& target, const Machine& machine, Program& program) {
  struct BackEnd {
    std::string_view isa;
    MachineCode (*select)(const Linear&, const Target&);
    RegisterFile (*register_file)(const Target&);
    const SpillCode* spill_code;
    void (*emit)(const MachineCode&, Program&);
  };
  static const BackEnd back_ends[] = {
#ifdef CONFIG_ISA_X86
      {"x86", select_x86, register_file_x86, &spill_code_x86, emit_x86},
#endif
#ifdef CONFIG_ISA_RDNA
      {"rdna", select_rdna, register_file_rdna, &spill_code_rdna, emit_rdna},
#endif
  };
  auto b = std::ranges::find(back_ends, target.isa, &BackEnd::isa);
  if (b == std::end(back_ends))
    throw Error("this build compiles nothing for ", target.isa, " (Kconfig: ISA_X86, ISA_RDNA)");
  const RegisterFile registers = b->register_file(target);
  MachineCode code = b->select(linear, target), selected;
  const Occupancy& occupancy = machine.occupancy;
  if (occupancy.most) selected = code;
  const i64 cycles = order_by_latency(code, registers, machine.issue_width);
  allocate_registers(code, registers, *b->spill_code, target);
  // Another wave that the SIMD has room for is taken where it makes no block longer and spills nothing.
  while (occupancy.most) {
    const int waves = occupancy.waves(vectors_of(code));
    if (waves >= occupancy.most) break;
    RegisterFile fewer = registers;
    fewer.vector.resize(std::min(fewer.vector.size(), size_t(occupancy.registers(waves + 1))));
    MachineCode trial = selected;
    if (order_by_latency(trial, fewer, machine.issue_width) > cycles ||
        !allocate_registers(trial, fewer, *b->spill_code, target, false))
      break;
    code = std::move(trial);
  }
  pair_instructions(code, target);
  insert_waits(code, target);
  program.local_bytes = code.local_bytes;
  b->emit(code, program);
}

}  // namespace

Program compile(U sink, std::span<const Param> params, std::string name, const Target& target, const Plan* given) {
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
  static const RuleList matrix{{"matrix", Arithmetic::ANY, matrix_rules}};
  static const RuleList products{{"products", Arithmetic::ANY, product_rules}};
  static const RuleList widen{{"widen", Arithmetic::ANY, widen_rules}};
  static const RuleList lanes{{"lanes", Arithmetic::ANY, lane_rules}};
  sink = spec(separate_reductions(sink), Stage::KERNEL, "separate_reductions");
  sink = prove_accesses(sink, program);
  sink = rewrite(sink, widen);
  if (!given || given->contract) sink = rewrite(sink, contract);
  Machine machine = machine_of(target);
  if (!machine.matrix_units.empty() && ctx.OPT) sink = rewrite(sink, matrix, &machine);
  NativeOps native = native_ops(target);
  native.keep_index = true;
  sink = rewrite(decompose(sink, native), lanes);
  Plan plan = given ? *given : choose_plan(sink, target);
  program.moves = print(plan);
  if (!plan.matrix.product) sink = rewrite(decompose(rewrite(sink, products), native), lanes);
  sink = apply_plan(sink, plan);
  for (U u : toposort(sink))
    if (u->op == Op::RANGE && u->range_kind() == RangeKind::THREAD) program.extent = u->src(0)->arg(0);
  sink = simplify(sink);
  sink = simplify(expand(sink, target));
  if (machine.simt()) sink = work_item(separate_reductions(sink), program);
  sink = rewrite(decompose(sink, target), lanes);
  if (machine.simt()) sink = pack_narrow(sink);
  if (!machine.simt()) sink = spec(separate_reductions(sink), Stage::EXPANDED, "expand");
  assemble(linearise(sink), target, machine, program);

  double flops_per_ns = machine.lanes(32) * 2 * 2 * 2.0, bytes_per_ns = machine.outer().bytes_per_ns;
  program.estimate_ns = i64(std::max(double(program.operations) / flops_per_ns, double(program.bytes) / bytes_per_ns));
  return program;
}

void note(Program& p, U u) {
  if (!u) return;
  U memory = u->op == Op::LOAD || u->op == Op::STORE ? u->src(0) : nullptr;
  while (memory && memory->op != Op::PARAM && memory->op != Op::LOCAL) memory = memory->src(0);
  std::string text = str(u->op);
  if (DType t = u->op == Op::STORE ? u->src(1)->dtype : u->dtype; t != VOID) append(text, str(" ", t));
  if (memory) append(text, str(memory->op == Op::PARAM ? " of buffer " : " of local ", memory->arg(0)));
  if (p.notes.empty() || p.notes.back().second != text) p.notes.emplace_back(u32(p.code.size()), std::move(text));
}

std::string annotate(const Program& p) {
  std::string out = str("; ", p.name, "  ", p.isa, " ", p.arch, "  ", p.code.size(), " bytes");
  if (p.vectors)
    out += str(", ", p.extent, " groups of ", p.threads, ", ", p.vectors, " VGPRs, ", p.scalars, " SGPRs, ",
               p.local_bytes, " bytes of LDS, ", p.frame_bytes, " of scratch, ",
               machine_of({p.isa, p.arch}).occupancy.waves(p.vectors), " waves a SIMD");
  out += str("\n; ", p.moves, "\n");
  const isa::Isa* isa = isa::find_isa(p.isa);
  check(isa, "no ISA ", p.isa);
  std::string text = isa::disassemble(*isa, std::span(p.code).first(size_t(p.code_bytes)), true);
  auto note = p.notes.begin();
  for (std::string_view line : split(text, '\n')) {
    bool starts = note != p.notes.end() && !line.empty() && std::stoul(std::string(line), nullptr, 16) >= note->first;
    out += line;
    if (starts) out += str("  ; ", note++->second);
    out += '\n';
  }
  return out;
}

}  // namespace ingot
