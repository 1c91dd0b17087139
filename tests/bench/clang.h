// SPDX-License-Identifier: MIT
// Kernels that clang-19 compiles for gfx1100 while a benchmark runs. The kernel descriptor:
// https://llvm.org/docs/AMDGPUUsage.html#kernel-descriptor
#pragma once
#include <elf.h>
#include <stdlib.h>
#include <unistd.h>
#include <optional>

#include "compiler/isa/isa.h"
#include "userspace/hw/bus.h"

namespace ingot::isa {

// What a kernel reads and writes: no translation, nothing held back.
struct PlainMemory : hw::WaveMemory {
  virtual u8* find(u64 address, i64 bytes) = 0;  // nullptr: nothing is there
  bool access(hw::Access kind, u64 a, void* to, i64 n) override {
    u8* p = find(a, n);
    if (p) kind == hw::Access::WRITE ? memcpy(p, to, size_t(n)) : memcpy(to, p, size_t(n));
    return p;
  }
  u8* direct(hw::Access, u64 a, i64 n) override { return find(a, n); }
  void invalidate(bool, bool, bool) override {}
};

// The code object; nothing when clang-19 is not installed or does not take the source.
inline std::optional<std::string> clang_object(const std::string& source, const std::string& flags) {
  char folder[] = "/tmp/ingot_bench_XXXXXX";
  const std::string at = mkdtemp(folder), out = at + "/k.elf";
  const bool ok = !system(
      str("clang-19 --target=amdgcn-amd-amdhsa -mcpu=gfx1100 -nogpulib -O3 ", flags, " -o ", out, " ", source).c_str());
  std::optional<std::string> file;
  if (ok) file = read_file(out);
  (void)!system(("rm -r " + at).c_str());
  return file;
}

struct ClangKernel {
  std::span<const u8> code;
  u32 rsrc[3];  // COMPUTE_PGM_RSRC3, 1, 2, as the descriptor has them
  u32 local_bytes, private_bytes;
};
inline ClangKernel clang_kernel(const std::string& file, const std::string& name) {
  auto* e = reinterpret_cast<const Elf64_Ehdr*>(file.data());
  auto* sections = reinterpret_cast<const Elf64_Shdr*>(file.data() + e->e_shoff);
  auto* segments = reinterpret_cast<const Elf64_Phdr*>(file.data() + e->e_phoff);
  auto at = [&](u64 address) -> const char* {
    for (int i = 0; i < e->e_phnum; i++)
      if (segments[i].p_type == PT_LOAD && address - segments[i].p_vaddr < segments[i].p_filesz)
        return file.data() + segments[i].p_offset + address - segments[i].p_vaddr;
    throw Error(name, ": nothing is loaded at ", hex(address));
  };
  for (int i = 0; i < e->e_shnum; i++) {
    if (sections[i].sh_type != SHT_SYMTAB) continue;
    const char* names = file.data() + sections[sections[i].sh_link].sh_offset;
    auto* s = reinterpret_cast<const Elf64_Sym*>(file.data() + sections[i].sh_offset);
    const Elf64_Sym *code = nullptr, *descriptor = nullptr;
    for (size_t k = 0; k < sections[i].sh_size / sizeof *s; k++) {
      if (names + s[k].st_name == name) code = &s[k];
      if (names + s[k].st_name == name + ".kd") descriptor = &s[k];
    }
    if (!code || !descriptor) continue;
    ClangKernel k{{reinterpret_cast<const u8*>(at(code->st_value)), code->st_size}, {}, 0, 0};
    const char* d = at(descriptor->st_value);
    memcpy(&k.local_bytes, d, 4), memcpy(&k.private_bytes, d + 4, 4), memcpy(k.rsrc, d + 44, 12);
    return k;
  }
  throw Error("clang made no kernel ", name);
}

}  // namespace ingot::isa
