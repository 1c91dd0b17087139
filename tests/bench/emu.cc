// SPDX-License-Identifier: MIT
// Nanoseconds per wave instruction of the RDNA emulator in its three modes, on one thread: an inner loop of fused
// multiply-adds, a naive matrix product and an elementwise kernel as clang-19 -O3 compiles them.
#include <time.h>
#include <cstdio>

#include "compiler/isa/emu.h"
#include "compiler/runtime/runtime.h"
#include "tests/bench/clang.h"

namespace ingot::isa {
namespace {

constexpr u64 code_base = 1 << 20, data_base = 1 << 28, args_base = 1 << 27;
constexpr u32 side = 256;
int only = -1;  // mode

struct HostMemory final : PlainMemory {
  std::vector<u8> code = std::vector<u8>(1 << 16), args = std::vector<u8>(4096),
                  data = std::vector<u8>(3 * side * side * 4);
  u8* find(u64 a, i64 n) override {
    auto in = [&](u64 base, std::vector<u8>& v) { return a >= base && a + u64(n) <= base + v.size(); };
    return in(data_base, data)   ? data.data() + (a - data_base)
           : in(args_base, args) ? args.data() + (a - args_base)
           : in(code_base, code) ? code.data() + (a - code_base)
                                 : nullptr;
  }
};

i64 processor_ns() {  // of this thread
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return t.tv_sec * 1'000'000'000 + t.tv_nsec;
}

void measure(const char* name, std::span<const u8> code, u32 groups, u32 rsrc1, u32 rsrc2) {
  std::printf("%-22s", name);
  for (int mode = 0; mode < 3; mode++) {
    if (only >= 0 && mode != only) continue;
    HostMemory memory;
    memcpy(memory.code.data(), code.data(), code.size());
    u64 args[3] = {data_base, data_base + side * side * 4, data_base + 2 * side * side * 4};
    memcpy(memory.args.data(), args, sizeof args);
    emu::EmulatorOptions options;
    options.checker = mode == 0, options.unaligned = true, options.blocks = mode == 2 ? host_blocks() : nullptr;
    auto wave = emu::make_emulator(options);
    hw::Dispatch d;
    d.groups[0] = groups, d.threads[0] = side, d.entry = code_base;
    d.rsrc[0] = rsrc1, d.rsrc[1] = rsrc2;
    memcpy(d.user_data, &args_base, 8);
    Scoped one(ctx.THREADS, 1);
    hw::WaveResult r;
    i64 instructions = 0, time = 0;
    for (int run = 0; run < (mode ? 12 : 2); run++) {  // the first ones compile
      if (mode == 2 && run < 6) instructions = 0;
      i64 start = processor_ns();
      if (mode == 2 && run < 6) time = 0;
      wave->start(d, memory);
      do {
        r = wave->step(1 << 20);
        instructions += r.instructions;
      } while (r.kind == hw::WaveResult::RUNNING);
      if (mode != 2 || run >= 6) time += processor_ns() - start;
      if (r.kind != hw::WaveResult::DONE) throw Error(r.message, " at ", hex(r.pc));
    }
    std::printf("%12.1f", double(time) / double(instructions));
  }
  std::printf("\n");
}

const char* source = R"(
#define KERNEL __attribute__((amdgpu_kernel)) void
typedef __attribute__((address_space(1))) float F;
KERNEL product(F* c, const F* a, const F* b) {
  unsigned row = __builtin_amdgcn_workgroup_id_x(), column = __builtin_amdgcn_workitem_id_x();
  float s = 0;
  for (unsigned k = 0; k < 256; k++) s += a[row * 256 + k] * b[k * 256 + column];
  c[row * 256 + column] = s;
}
KERNEL elementwise(F* c, const F* a, const F* b) {
  unsigned i = __builtin_amdgcn_workgroup_id_x() * 256 + __builtin_amdgcn_workitem_id_x();
  float x = a[i] * b[i] + 1.0f;
  c[i] = x > 0 ? x : x * 0.01f;
}
)";

void run() {
  std::printf("ns per wave instruction     checked   evaluated    compiled\n");
  std::string loop = "s_movk_i32 s8, 1000\nagain:\n";
  for (int i = 0; i < 64; i++) loop += str("v_fmac_f32 v", 8 + i, ", v", 1 + i % 3, ", v", 4 + i % 4, "\n");
  loop += "s_sub_u32 s8, s8, 1\n s_cmp_lg_u32 s8, 0\n s_cbranch_scc1 again\n s_endpgm";
  std::string start;
  for (int i = 1; i < 72; i++) start += str("v_cvt_f32_u32 v", i, ", v0\n");
  measure("multiply-add loop", assemble(*find_isa("rdna", "gfx1100"), start + loop), 4, 9 | 240 << 12, 16 << 1);
  const std::string at = str("/tmp/ingot_bench_", getpid(), ".c");
  write_file(at, source);
  if (std::optional<std::string> file = clang_object(at, "-ffreestanding")) {
    for (const char* name : {"product", "elementwise"}) {
      const ClangKernel k = clang_kernel(*file, name);
      measure(name, k.code, side, k.rsrc[1], k.rsrc[2]);
    }
  } else {
    std::printf("clang-19 is not installed: no other kernels\n");
  }
  unlink(at.c_str());
}

}  // namespace
}  // namespace ingot::isa

int main(int n, char** arguments) {
  if (n > 1) ingot::isa::only = std::atoi(arguments[1]);
  ingot::environment_to_thread();
  ingot::isa::run();
}
