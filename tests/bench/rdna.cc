// SPDX-License-Identifier: MIT
// The quality of our code for gfx1100, measured without a chip: kernels of our heuristic's plans beside the same
// algorithm in C (rdna_peers.cl), compiled by clang-19 -O3 for the best of three types of index.
//
// Counted are the instructions of the innermost loops (of the kernel, when it has none) over what they are for: bytes
// that they load from and store to memory, or multiply-adds, both read off the instructions. A VOPD pair is one
// instruction, for clang as for us; s_delay_alu, s_clause, s_nop and s_set_inst_prefetch_distance, which no unit
// executes, are none for either; s_waitcnt is one. The loops of both sides must do the same work in one turn, or their
// unrolling differs and the row says so; and both kernels run on the emulator with the same inputs, where their results
// must agree. Registers are the highest ones named; spills, instructions that go to scratch or to lanes of a register.
//
// The last lines say how much of the time the matrix unit works in the inner loop of matmul_wmma; see `occupied`.
#include <cmath>
#include <cstdio>
#include <map>
#include <random>

#include "compiler/codegen/codegen.h"
#include "compiler/isa/emu.h"
#include "compiler/runtime/runtime.h"
#include "compiler/tensor/tensor.h"
#include "tests/bench/clang.h"
#include "userspace/amd/amd.h"

namespace ingot {
namespace {

enum Unit { BYTE, FMA };
struct Row {
  std::string_view name;  // of the kernel in rdna_peers.cl
  Unit unit;
  Tensor (*make)();
  size_t kernel = 0;  // of its schedule
};
constexpr i64 million = 1 << 20, side = 1024;
Tensor square(DType t = F32) { return empty({side, side}, t); }
Tensor normalised() {
  Tensor x = square(), d = x - x.mean(1, true);
  return d * ((d * d).mean(1, true) + 1e-5).rsqrt();
}
constexpr Row rows[] = {
    {"add", BYTE, [] { return empty({million}) + empty({million}); }},
    {"multiply_add", BYTE, [] { return empty({million}) * empty({million}) + empty({million}); }},
    {"scale_bias_relu", BYTE, [] { return (square() * 3 + empty({side})).relu(); }},
    {"leaky_relu", BYTE,
     [] {
       Tensor x = empty({million});
       return where(x < 0, x * 0.01, x);
     }},
    {"exponentials", BYTE, [] { return empty({million}).exp(); }},
    {"half_multiply_add", BYTE, [] { return empty({million}, F16) * empty({million}, F16) + empty({million}, F16); }},
    {"sum_rows", BYTE, [] { return square().sum(1); }},
    {"sum_columns", BYTE,
     [] {
       return empty({1024, 8192}).sum(0);
     }},
    {"max_rows", BYTE, [] { return square().max(1); }},
    {"dot_rows", BYTE, [] { return (square() * square()).sum(1); }},
    {"max_pool", BYTE,
     [] {
       return max_pool2d(empty({16, 64, 64, 64}), {2, 2});
     }},
    {"softmax_sums", BYTE, [] { return square().softmax(1); }, 1},
    {"softmax", BYTE, [] { return square().softmax(1); }, 2},
    {"layer_norm_deviation", BYTE, normalised, 1},
    {"layer_norm", BYTE, normalised, 2},
    {"transpose", BYTE, [] { return square().T().contiguous(); }},
    {"add_transposed", BYTE, [] { return square() + square().T(); }},
    {"permute", BYTE,
     [] {
       return empty({64, 128, 128}).permute({0, 2, 1}).contiguous();
     }},
    {"matrix_vector", FMA,
     [] {
       return empty({4096, 1024}).matmul(empty({1024, 1}));
     }},
    {"matmul_naive", FMA,
     [] {
       return empty({64, 256}).matmul(empty({256, 4096}));
     }},
    {"matmul_tiled", FMA,
     [] {
       return empty({512, 512}).matmul(empty({512, 512}));
     }},
    {"matmul_wmma", FMA, [] { return square(F16).to(F32).matmul(square(F16).to(F32)); }},
    {"convolution", FMA,
     [] {
       return conv2d(empty({16, 32, 34, 34}), empty({64, 32, 3, 3}));
     }},
};

// ---- reading code --------------------------------------------------------------------------------------------------
struct Decoded {
  i64 at, target = -1;  // target: of a branch
  isa::Instruction inst;
  std::string_view name() const { return isa::name_of(*inst.row); }
};
std::vector<Decoded> decode(std::span<const u8> code) {
  const isa::Isa& rdna = *isa::find_isa("rdna", "gfx1100");
  std::vector<Decoded> out;
  for (size_t at = 0, n; at < code.size(); at += n) {
    Decoded d{i64(at), -1, {}};
    n = rdna.decode(code.subspan(at), d.inst);
    if (!n) throw Error("no instruction at ", at, ": ", hex(code[at]));
    if (d.name() == "s_code_end") break;
    for (int k = 0; k < d.inst.n; k++)
      if (d.inst.row->spec[k].pc_relative) d.target = d.inst.op[k].imm * i64(rdna.unit) + i64(at + n);
    out.push_back(d);
  }
  return out;
}

struct Count {
  i64 instructions = 0, work = 0;
  int vectors = 0, scalars = 0, spills = 0;
  double each() const { return double(instructions) / double(work); }
};
bool executed(std::string_view name) {
  for (const char* hint : {"s_delay_alu", "s_clause", "s_nop", "s_set_inst_prefetch_distance"})
    if (name == hint) return false;
  return true;
}
i64 bytes_of(std::string_view name) {  // that a lane moves
  if (!name.starts_with("global_") && !name.starts_with("buffer_")) return 0;
  for (auto [suffix, bytes] : {std::pair{"_b128", 16}, {"_b96", 12}, {"_b64", 8}, {"_b32", 4}, {"16", 2}, {"8", 1}})
    if (name.ends_with(suffix) || (bytes < 4 && name.find(str(suffix, "_")) != name.npos)) return bytes;
  throw Error("how much does ", name, " move?");
}
i64 multiply_adds(const isa::Instruction& i) {  // of a lane
  i64 n = 0;
  for (const isa::Inst* row : {i.row, i.second}) {
    if (!row) continue;
    const std::string_view name = isa::name_of(*row);
    if (name.starts_with("v_wmma")) n += 16 * 16 * 16 / 32;
    if (name.find("_fma") != name.npos) n += name.starts_with("v_pk_") ? 2 : 1;
  }
  return n;
}
struct Loop {
  size_t first, last;
};
std::vector<Loop> innermost_loops(const std::vector<Decoded>& code) {
  std::vector<Loop> all, inner;
  for (size_t i = 0; i < code.size(); i++)
    if (code[i].target >= 0 && code[i].target <= code[i].at)
      all.push_back({size_t(std::ranges::lower_bound(code, code[i].target, {}, &Decoded::at) - code.begin()), i});
  for (const Loop& l : all)
    if (std::ranges::none_of(all, [&](const Loop& m) {
          return m.first >= l.first && m.last <= l.last && (m.first > l.first || m.last < l.last);
        }))
      inner.push_back(l);
  return inner;
}
Count count(const std::vector<Decoded>& code, Unit unit) {
  Count c;
  std::vector<Loop> loops = innermost_loops(code);
  if (loops.empty()) loops.push_back({0, code.size() - 1});
  for (const Loop& l : loops) {
    Count here;
    for (size_t i = l.first; i <= l.last; i++) {
      here.instructions += executed(code[i].name());
      here.work += unit == BYTE ? bytes_of(code[i].name()) : multiply_adds(code[i].inst);
    }
    if (here.work) c.instructions += here.instructions, c.work += here.work;
  }
  for (const Decoded& d : code) {
    c.spills += d.name().starts_with("scratch_") || d.name() == "v_writelane_b32";
    each_allocated(d.inst, [&](u32 reg, const isa::OperandSpec&, int) {
      if (reg < 256)
        c.vectors = std::max(c.vectors, int(reg) + 1);
      else if (reg >= isa::first_virtual && reg < isa::first_virtual + 106)
        c.scalars = std::max(c.scalars, int(reg - isa::first_virtual) + 1);
    });
  }
  return c;
}

// ---- running it ----------------------------------------------------------------------------------------------------
constexpr u64 code_base = 1 << 20, args_base = 1 << 27, data_base = 1 << 28, data_step = 1 << 28;
struct Memory final : isa::PlainMemory {
  std::vector<u8> code, args = std::vector<u8>(4096);
  std::vector<std::vector<u8>> data;
  u8* find(u64 a, i64 n) override {
    auto in = [&](u64 base, std::vector<u8>& v) { return a >= base && a + u64(n) <= base + v.size(); };
    for (size_t i = 0; i < data.size(); i++)
      if (in(data_base + i * data_step, data[i])) return &data[i][a - data_base - i * data_step];
    return in(args_base, args) ? &args[a - args_base] : in(code_base, code) ? &code[a - code_base] : nullptr;
  }
};
struct Executable {
  std::vector<u8> code;
  u32 rsrc[3];
  i64 local_bytes;
};
Executable executable(const Program& p) {
  const std::vector<u8> image =
      amd::with_descriptor(p.code, {int(p.params.size()), p.scalars, p.vectors, p.frame_bytes}, amd::GFX11);
  Executable e{p.code, {}, p.local_bytes};
  memcpy(e.rsrc, &image[44], 12);
  return e;
}
double number(const std::vector<u8>& bytes, i64 i, DType t) {
  u32 bits = 0;
  memcpy(&bits, &bytes[size_t(i * t.bytes())], size_t(t.bytes()));
  return decode_float(bits, t);
}
std::vector<u8> result_of(const Executable& e, const Program& p, i64* instructions) {
  Memory memory;
  memory.code = e.code;
  memory.code.resize(e.code.size() + 256);
  std::mt19937 random(7);
  for (size_t i = 0; i < p.params.size(); i++) {
    const Param& param = p.params[i];
    std::vector<u8>& to = memory.data.emplace_back(size_t(param.elements * param.dtype.bytes()));
    for (i64 k = 0; k < param.elements && !param.written; k++) {
      const u64 bits = encode_float((double(random() >> 8) / (1 << 24) + 0.25) * (random() & 1 ? 1 : -1), param.dtype);
      memcpy(&to[size_t(k * param.dtype.bytes())], &bits, size_t(param.dtype.bytes()));
    }
    const u64 address = data_base + i * data_step;
    memcpy(&memory.args[i * 8], &address, 8);
  }
  isa::emu::EmulatorOptions options;
  options.checker = false, options.unaligned = true, options.blocks = host_blocks();
  auto wave = isa::emu::make_emulator(options);
  hw::Dispatch d;
  d.groups[0] = u32(p.extent), d.threads[0] = u32(p.threads), d.entry = code_base;
  d.rsrc[0] = e.rsrc[1], d.rsrc[1] = e.rsrc[2] | u32(e.local_bytes + 511) / 512 << 15;
  memcpy(d.user_data, &args_base, 8);
  wave->start(d, memory);
  hw::WaveResult r;
  *instructions = 0;
  do {
    r = wave->step(1 << 20);
    *instructions += r.instructions;
  } while (r.kind == hw::WaveResult::RUNNING);
  if (r.kind != hw::WaveResult::DONE) throw Error(p.name, ": ", r.message, " at ", hex(r.pc));
  return memory.data[0];
}
double largest_difference(const std::vector<u8>& a, const std::vector<u8>& b, DType t) {  // relative, of 1 and more
  double most = 0;
  for (i64 i = 0; i < i64(a.size()) / t.bytes(); i++) {
    const double x = number(a, i, t), y = number(b, i, t), apart = std::abs(x - y) / std::max(1.0, std::abs(x));
    if (!(apart <= most)) most = std::isnan(apart) ? INFINITY : apart;
  }
  return most;
}

Program ours(const Row& row) {
  const Tensor result = row.make();
  const U root = result.uop();
  const int device = device_number("");
  const Schedule s = schedule({&root, 1}, [&](U u) { return new_buffer(u->dtype, u->shape(), device); });
  check(row.kernel < s.kernels.size(), row.name, " has ", s.kernels.size(), " kernels");
  const ScheduledKernel& k = s.kernels[row.kernel];
  std::vector<Param> params;
  for (const KernelBuffer& b : k.buffers) params.push_back({b.dtype, b.elements, b.written, b.read});
  Arena arena;
  ArenaScope scope(arena);
  return compile(import(k.sink), params, std::string(row.name), {"rdna", "gfx1100", 0, 96});
}

struct Peers {  // by type of index
  std::vector<std::string> files;
  Peers() {
    const std::string here = std::string(__FILE__).substr(0, std::string(__FILE__).rfind('/'));
    for (const char* type : {"uint", "int", "ulong"})
      if (auto file = isa::clang_object(here + "/rdna_peers.cl",
                                        str("-x cl -cl-std=CL2.0 -cl-fp32-correctly-rounded-divide-sqrt "
                                            "-ffp-contract=fast -DINDEX=",
                                            type)))
        files.push_back(*file);
  }
};

// ---- how much of its time the matrix unit works --------------------------------------------------------------------
// A model of one compute unit in which the waves that fit run the loop over the inner axis, from panels in LDS:
//
// - A SIMD issues one instruction a cycle, of its oldest wave that can go on; silicon issues one of each kind, so this
//   is too strict. v_wmma holds the vector unit for 32 cycles: "32 clocks of optimal work scheduling", and 512
//   operations a clock of a compute unit with two SIMDs (GPUOpen, "How to accelerate AI applications on RDNA 3 using
//   WMMA").
// - LDS serves both SIMDs with 32 banks of 4 bytes a cycle (AMD, "RDNA3 Instruction Set Architecture", 12.1): a lane's
// 16
//   bytes are served for 8 lanes at once (ROCm, "Understanding AMD GPU LDS and Bank Conflicts"), 4 turns a wave when
//   the rows of a panel stand in different banks, which `turns` checks for the panel's pitch. Answers come in order,
//   `lds_latency` later. No public source has measured that on this chip; 64 cycles stand for it.
// - Global loads move 64 bytes a cycle and answer after 375 cycles: Chips and Cheese, "Latency Testing is Hard",
//   measured 150.3 ns from the Infinity Cache at about 2.5 GHz. Panels are read again by neighbouring groups, so most
//   answers come from nearer.
// - s_waitcnt waits for the counters as the code says, s_barrier for the group. A work-group stays on one compute unit
//   (COMPUTE_PGM_RSRC1.WGP_MODE is 0): 64 KiB of LDS, 1536 registers of 32 lanes a SIMD in pieces of 24.
//
// Not in it: power limits, refills of the instruction cache (the loop is 1.5 KiB of 32), stores of LDS that meet in one
// bank, the cost of the first and last turns. The error is therefore shown as a range: the same with all latencies
// halved and doubled, and with WMMA at 16 cycles, below anything AMD states, where everything else weighs twice as
// much.
struct Costs {
  i64 wmma = 32, lds_latency = 64, memory_latency = 375;
};
i64 turns(i64 pitch) {  // of LDS for 16 bytes of each lane, row `lane` of a panel
  i64 most = 0, times[32] = {};
  for (i64 lane = 0; lane < 8; lane++)
    for (i64 k = 0; k < 4; k++) most = std::max(most, ++times[(lane * pitch / 4 + k) % 32]);
  return 4 * most;
}
struct Occupied {
  double share;
  i64 waves;  // of a SIMD
};
Occupied occupied(const std::vector<Decoded>& code, i64 inner_trips, i64 groups, i64 waves_of_group, i64 pitch,
                  const Costs& costs, bool inner_only) {
  const Loop inner = innermost_loops(code).at(0);
  size_t first = inner.first, last = inner.last;
  for (size_t i = inner.last + 1; i < code.size() && !inner_only; i++)  // the loop around it
    if (code[i].target >= 0 && code[i].target <= code[inner.first].at)
      first = size_t(std::ranges::lower_bound(code, code[i].target, {}, &Decoded::at) - code.begin()), last = i;
  struct Op {
    enum Kind { OTHER, VALU, WMMA, LDS, MEMORY, WAIT, BARRIER, BACK } kind = OTHER;
    i64 cycles = 1, vm = 99, lgkm = 99;
    bool loads = false;
  };
  const isa::Isa& rdna = *isa::find_isa("rdna", "gfx1100");
  std::vector<Op> ops;
  size_t inner_first = 0, inner_last = 0;
  for (size_t i = first; i <= last; i++) {
    const std::string_view name = code[i].name();
    if (!executed(name)) continue;
    if (i == inner.first) inner_first = ops.size();
    if (i == inner.last) inner_last = ops.size();
    Op op;
    op.loads = name.find("_load") != name.npos;
    if (name.starts_with("v_wmma")) {
      op.kind = Op::WMMA, op.cycles = costs.wmma;
    } else if (name.starts_with("ds_")) {
      op.kind = Op::LDS, op.cycles = name.ends_with("b128") ? (op.loads ? turns(pitch) : 4) : 1;
    } else if (i64 bytes = bytes_of(name)) {
      op.kind = Op::MEMORY, op.cycles = std::max<i64>(1, bytes * 32 / 64);
    } else if (name == "s_waitcnt") {
      op.kind = Op::WAIT;
      const std::string text = rdna.print(code[i].inst);
      auto wanted = [&](std::string_view counter, i64& to) {
        if (size_t at = text.find(counter); at != text.npos) to = std::atoll(&text[at + counter.size()]);
      };
      wanted("vmcnt(", op.vm), wanted("lgkmcnt(", op.lgkm);
    } else if (name == "s_barrier") {
      op.kind = Op::BARRIER;
    } else if (name.starts_with("v_")) {
      op.kind = Op::VALU;
    }
    ops.push_back(op);
  }
  struct Wave {
    i64 group;
    size_t at = 0;
    i64 trip = 0, turn = 0, barriers = 0;
    std::vector<i64> vm, lgkm;  // when what is on its way is there
  };
  constexpr i64 all_turns = 12;
  std::vector<Wave> simd[2];
  for (i64 g = 0; g < groups; g++)
    for (i64 w = 0; w < waves_of_group; w++) simd[w % 2].push_back({g, 0, 0, 0, 0, {}, {}});
  std::vector<std::vector<i64>> met(size_t(groups), std::vector<i64>(1000));  // waves at a group's n-th barrier
  i64 vector_free[2] = {}, lds_free = 0, memory_free = 0, busy = 0, now = 0, begin = -1;
  for (bool ends = false; !ends; now++)
    for (int s = 0; s < 2; s++)
      for (Wave& w : simd[s]) {
        const Op& op = ops[w.at];
        auto late = [&](std::vector<i64>& times, i64 may) {
          std::erase_if(times, [&](i64 t) { return t <= now; });
          return i64(times.size()) > may;
        };
        const bool vector = op.kind == Op::VALU || op.kind == Op::WMMA;
        if (vector && vector_free[s] > now) continue;
        if (op.kind == Op::WAIT && (late(w.vm, op.vm) || late(w.lgkm, op.lgkm))) continue;
        if (op.kind == Op::BARRIER) {
          i64& waves = met[size_t(w.group)][size_t(w.barriers)];
          if (w.trip >= 0) waves++, w.trip = ~w.trip;  // it has come; ~trip while it waits
          if (waves < waves_of_group) continue;
          w.trip = ~w.trip, w.barriers++;
        }
        if (vector) vector_free[s] = now + op.cycles;
        if (op.kind == Op::WMMA && begin >= 0) busy += op.cycles;
        if (op.kind == Op::LDS) {
          lds_free = std::max(lds_free, now) + op.cycles;
          w.lgkm.push_back(lds_free + costs.lds_latency);
        }
        if (op.kind == Op::MEMORY) {
          memory_free = std::max(memory_free, now) + op.cycles;
          w.vm.push_back(memory_free + costs.memory_latency);
        }
        if (w.at == inner_last && ++w.trip < inner_trips)
          w.at = inner_first;
        else if (w.at == inner_last)
          w.trip = 0, w.at++;
        else
          w.at++;
        if (w.at == ops.size()) {  // counted from the second turn of the first wave on, until its last
          w.at = 0, ends |= ++w.turn == all_turns;
          if (w.turn == 1 && begin < 0) begin = now;
        }
        break;  // one instruction a cycle
      }
  return {double(busy) / 2 / double(now - begin), i64(simd[0].size())};
}
void report_matrix_unit(const Program& p, bool json) {
  const std::vector<Decoded> code = decode(std::span(p.code).first(size_t(p.code_bytes)));
  constexpr i64 steps = 2, pitch = (32 + 8) * 2, lds = 64 << 10, registers = 1536, granule = 24;
  const i64 waves = p.threads / 32, each = (p.vectors + granule - 1) / granule * granule;
  const i64 fit = std::min(lds / p.local_bytes, std::min<i64>(16, registers / each) * 2 / waves);
  auto share = [&](i64 groups, const Costs& costs, bool inner) {
    return 100 * occupied(code, steps, groups, waves, pitch, costs, inner).share;
  };
  const Costs half{32, 32, 187}, twice{32, 128, 750}, quick{16, 64, 375};
  const double inner = share(fit, {}, true), alone = share(1, {}, true), whole = share(fit, {}, false);
  if (json)
    std::printf("{\"matrix_unit\": %.1f, \"one_group\": %.1f, \"with_copies\": %.1f, \"waves\": %lld}\n", inner, alone,
                whole, (long long)(fit * waves / 2));
  else
    std::printf(
        "matmul_wmma, share of its time that the matrix unit works, by the model in rdna.cc:\n"
        "  inner loop, %lld waves a SIMD   %5.1f %%   latencies halved %5.1f, doubled %5.1f; WMMA of 16 cycles %5.1f\n"
        "  inner loop, one group alone  %5.1f %%   latencies halved %5.1f, doubled %5.1f; WMMA of 16 cycles %5.1f\n"
        "  with the copies into LDS     %5.1f %%   latencies halved %5.1f, doubled %5.1f; WMMA of 16 cycles %5.1f\n",
        (long long)(fit * waves / 2), inner, share(fit, half, true), share(fit, twice, true), share(fit, quick, true),
        alone, share(1, half, true), share(1, twice, true), share(1, quick, true), whole, share(fit, half, false),
        share(fit, twice, false), share(fit, quick, false));
}

int run(bool json, bool execute, std::string_view only) {
  const Program matrix = ours(*std::ranges::find(rows, "matmul_wmma", &Row::name));
  if (system("clang-19 --version >/dev/null 2>&1")) {
    std::printf(json ? "{\"missing\": \"clang-19\"}\n" : "clang-19 is not installed: no comparison\n");
    report_matrix_unit(matrix, json);
    return 0;
  }
  const Peers peers;
  check(peers.files.size() == 3, "clang-19 does not compile rdna_peers.cl");
  if (!json)
    std::printf(
        "gfx1100, instructions of the innermost loops       ours   clang   each   ratio  VGPRs     SGPRs     spills   "
        "executed\n");
  double sum = 0, worst = 0;
  int n = 0, unlike = 0;
  for (const Row& row : rows) {
    if (!only.empty() && only != row.name) continue;
    const Program program = ours(row);
    const Count a = count(decode(std::span(program.code).first(size_t(program.code_bytes))), row.unit);
    Count b;
    isa::ClangKernel peer{};
    for (const std::string& file : peers.files) {
      const isa::ClangKernel k = isa::clang_kernel(file, std::string(row.name));
      const Count c = count(decode(k.code), row.unit);
      if (!b.work || c.each() < b.each()) b = c, peer = k;
    }
    std::string objection = a.work != b.work ? str("work differs: ", a.work, " and ", b.work) : "";
    i64 steps[2] = {};
    if (execute) {
      const Executable theirs{
          {peer.code.begin(), peer.code.end()}, {peer.rsrc[0], peer.rsrc[1], peer.rsrc[2]}, i64(peer.local_bytes)};
      const double apart = largest_difference(result_of(executable(program), program, &steps[0]),
                                              result_of(theirs, program, &steps[1]), program.params[0].dtype);
      if (!(apart < 1e-3)) objection += str(" results differ by ", apart);
    }
    const double ratio = a.each() / b.each();
    sum += std::log(ratio), worst = std::max(worst, ratio), n++, unlike += !objection.empty();
    if (json)
      std::printf(
          "{\"kernel\": \"%s\", \"ours\": %lld, \"clang\": %lld, \"work\": %lld, \"unit\": \"%s\", \"ratio\": %.3f, "
          "\"vgprs\": [%d, %d], \"sgprs\": [%d, %d], \"spills\": [%d, %d], \"executed\": [%lld, %lld], "
          "\"objection\": \"%s\"}\n",
          row.name.data(), (long long)a.instructions, (long long)b.instructions, (long long)a.work,
          row.unit == BYTE ? "byte" : "fma", ratio, a.vectors, b.vectors, a.scalars, b.scalars, a.spills, b.spills,
          (long long)steps[0], (long long)steps[1], objection.c_str());
    else
      std::printf("%-24s%8.3f a lane's %-13s%6lld %7lld %6.2f  %6.2f  %3d %3d   %3d %3d   %3d %3d  %8.2f  %s\n",
                  row.name.data(), a.each(), row.unit == BYTE ? "byte" : "multiply-add", (long long)a.instructions,
                  (long long)b.instructions, b.each(), ratio, a.vectors, b.vectors, a.scalars, b.scalars, a.spills,
                  b.spills, steps[1] ? double(steps[0]) / double(steps[1]) : 0.0, objection.c_str());
  }
  std::printf(json ? "{\"kernels\": %d, \"geomean\": %.3f, \"worst\": %.3f, \"unlike\": %d}\n"
                   : "%d kernels: geometric mean %.3f, worst %.3f; %d that cannot be compared\n",
              n, std::exp(sum / n), worst, unlike);
  report_matrix_unit(matrix, json);
  return 0;
}

}  // namespace
}  // namespace ingot

int main(int n, char** arguments) {
  bool json = false, execute = true;
  std::string_view only;
  for (int i = 1; i < n; i++) {
    const std::string_view a = arguments[i];
    json |= a == "--json", execute &= a != "--no-run";
    if (!a.starts_with("--")) only = a;
  }
  ingot::environment_to_thread();
  ingot::Scoped device(ingot::ctx.DEV, "CPU");
  return ingot::run(json, execute, only);
}
