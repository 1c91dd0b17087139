// SPDX-License-Identifier: MIT
// Nanoseconds per wave instruction of the RDNA emulator in its three modes, on one thread: an inner loop of fused
// multiply-adds, a naive matrix product and an elementwise kernel as clang-19 -O3 compiles them.
#include <elf.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include <cstdio>

#include "compiler/isa/emu.h"
#include "compiler/runtime/runtime.h"

namespace ingot::isa {
namespace {

constexpr u64 code_base = 1 << 20, data_base = 1 << 28, args_base = 1 << 27;
constexpr u32 side = 256;
int only = -1;  // mode

struct HostMemory final : hw::WaveMemory {
  std::vector<u8> code = std::vector<u8>(1 << 16), args = std::vector<u8>(4096),
                  data = std::vector<u8>(3 * side * side * 4);
  u8* find(u64 a, i64 n) {
    auto in = [&](u64 base, std::vector<u8>& v) { return a >= base && a + u64(n) <= base + v.size(); };
    return in(data_base, data)   ? data.data() + (a - data_base)
           : in(args_base, args) ? args.data() + (a - args_base)
           : in(code_base, code) ? code.data() + (a - code_base)
                                 : nullptr;
  }
  bool access(hw::Access kind, u64 a, void* to, i64 n) override {
    u8* p = find(a, n);
    if (p) kind == hw::Access::WRITE ? memcpy(p, to, size_t(n)) : memcpy(to, p, size_t(n));
    return p;
  }
  u8* direct(hw::Access, u64 a, i64 n) override { return find(a, n); }
  void invalidate(bool, bool, bool) override {}
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

// A kernel of clang's: its code, and the registers that it wants.
void measure_clang(const std::string& file, const char* name, u32 groups) {
  auto* e = reinterpret_cast<const Elf64_Ehdr*>(file.data());
  auto* sections = reinterpret_cast<const Elf64_Shdr*>(file.data() + e->e_shoff);
  auto* segments = reinterpret_cast<const Elf64_Phdr*>(file.data() + e->e_phoff);
  auto at = [&](u64 address) -> u64 {
    for (int i = 0; i < e->e_phnum; i++)
      if (segments[i].p_type == PT_LOAD && address - segments[i].p_vaddr < segments[i].p_filesz)
        return segments[i].p_offset + address - segments[i].p_vaddr;
    return 0;
  };
  for (int i = 0; i < e->e_shnum; i++) {
    if (sections[i].sh_type != SHT_SYMTAB) continue;
    const char* names = file.data() + sections[sections[i].sh_link].sh_offset;
    auto* s = reinterpret_cast<const Elf64_Sym*>(file.data() + sections[i].sh_offset);
    const Elf64_Sym *code = nullptr, *descriptor = nullptr;
    for (size_t k = 0; k < sections[i].sh_size / sizeof *s; k++) {
      if (names + s[k].st_name == std::string(name)) code = &s[k];
      if (names + s[k].st_name == std::string(name) + ".kd") descriptor = &s[k];
    }
    if (!code || !descriptor) continue;
    u32 rsrc[3];  // https://llvm.org/docs/AMDGPUUsage.html#kernel-descriptor
    memcpy(rsrc, file.data() + at(descriptor->st_value) + 44, 12);
    measure(name, {reinterpret_cast<const u8*>(file.data()) + at(code->st_value), code->st_size}, groups, rsrc[1],
            rsrc[2]);
  }
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
  char folder[] = "/tmp/ingot_emu_XXXXXX";
  std::string at = mkdtemp(folder);
  write_file(at + "/k.c", source);
  if (!system(str("clang-19 --target=amdgcn-amd-amdhsa -mcpu=gfx1100 -nogpulib -ffreestanding -O3 -o ", at, "/k.elf ",
                  at, "/k.c")
                  .c_str())) {
    std::string file = read_file(at + "/k.elf");
    measure_clang(file, "product", side);
    measure_clang(file, "elementwise", side);
  } else {
    std::printf("clang-19 is not installed: no other kernels\n");
  }
  (void)!system(("rm -r " + at).c_str());
}

}  // namespace
}  // namespace ingot::isa

int main(int n, char** arguments) {
  if (n > 1) ingot::isa::only = std::atoi(arguments[1]);
  ingot::environment_to_thread();
  ingot::isa::run();
}
