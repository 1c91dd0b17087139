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
  const char* name;  // of the kernel in rdna_peers.cl
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
const Row rows[] = {
    {"add", BYTE, [] { return empty({million}) + empty({million}); }},
    {"multiply_add", BYTE, [] { return empty({million}) * empty({million}) + empty({million}); }},
    {"scale_bias_relu", BYTE, [] { return (square() * 3 + empty({side})).relu(); }},
    {"leaky_relu", BYTE,
     [] {
       Tensor x = empty({million});
       return where(x < 0, x * 0.01, x);
     }},
    {"exponentials", BYTE, [] { return empty({million}).exp(); }},
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
struct Memory final : hw::WaveMemory {
  std::vector<u8> code, args = std::vector<u8>(4096);
  std::vector<std::vector<u8>> data;
  u8* find(u64 a, i64 n) {
    auto in = [&](u64 base, std::vector<u8>& v) { return a >= base && a + u64(n) <= base + v.size(); };
    for (size_t i = 0; i < data.size(); i++)
      if (in(data_base + i * data_step, data[i])) return &data[i][a - data_base - i * data_step];
    return in(args_base, args) ? &args[a - args_base] : in(code_base, code) ? &code[a - code_base] : nullptr;
  }
  bool access(hw::Access kind, u64 a, void* to, i64 n) override {
    u8* p = find(a, n);
    if (p) kind == hw::Access::WRITE ? memcpy(p, to, size_t(n)) : memcpy(to, p, size_t(n));
    return p;
  }
  u8* direct(hw::Access, u64 a, i64 n) override { return find(a, n); }
  void invalidate(bool, bool, bool) override {}
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
  return compile(import(k.sink), params, row.name, {"rdna", "gfx1100", 0, 96});
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

int run(bool json, bool execute, std::string_view only) {
  if (system("clang-19 --version >/dev/null 2>&1")) {
    std::printf(json ? "{\"missing\": \"clang-19\"}\n" : "clang-19 is not installed: no comparison\n");
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
      const isa::ClangKernel k = isa::clang_kernel(file, row.name);
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
          row.name, (long long)a.instructions, (long long)b.instructions, (long long)a.work,
          row.unit == BYTE ? "byte" : "fma", ratio, a.vectors, b.vectors, a.scalars, b.scalars, a.spills, b.spills,
          (long long)steps[0], (long long)steps[1], objection.c_str());
    else
      std::printf("%-24s%8.3f a lane's %-13s%6lld %7lld %6.2f  %6.2f  %3d %3d   %3d %3d   %3d %3d  %8.2f  %s\n",
                  row.name, a.each(), row.unit == BYTE ? "byte" : "multiply-add", (long long)a.instructions,
                  (long long)b.instructions, b.each(), ratio, a.vectors, b.vectors, a.scalars, b.scalars, a.spills,
                  b.spills, steps[1] ? double(steps[0]) / double(steps[1]) : 0.0, objection.c_str());
  }
  std::printf(json ? "{\"kernels\": %d, \"geomean\": %.3f, \"worst\": %.3f, \"unlike\": %d}\n"
                   : "%d kernels: geometric mean %.3f, worst %.3f; %d that cannot be compared\n",
              n, std::exp(sum / n), worst, unlike);
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
