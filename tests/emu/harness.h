// SPDX-License-Identifier: MIT
// What the tests of this folder share: clang-19 compiles kernels.c for gfx1100 at -O0 to -O3 and for the host; a
// Machine runs one of them on the emulator with the checker on, a Host runs the same one as fibers; verdict() runs a
// program that is text. Without clang-19 Clang::missing says so.
#pragma once
#include <dlfcn.h>
#include <elf.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <ucontext.h>
#include <unistd.h>

#include <map>
#include <memory>
#include <random>
#include <set>

#include "compiler/isa/emu.h"
#include "compiler/runtime/runtime.h"

namespace ingot::isa {

// ---- memory, code objects ------------------------------------------------------------------------------------------
struct Region {
  u64 base;
  std::vector<u8> bytes;
  bool writable;
};
struct HostMemory final : hw::WaveMemory {
  std::vector<Region> regions;
  u64 faulted = 0;
  u8* find(u64 address, i64 bytes, bool write) {
    for (Region& r : regions)
      if (address >= r.base && u64(bytes) <= r.bytes.size() && address - r.base <= r.bytes.size() - u64(bytes))
        return write && !r.writable ? nullptr : r.bytes.data() + (address - r.base);
    return nullptr;
  }
  bool access(hw::Access kind, u64 address, void* data, i64 bytes) override {
    u8* p = find(address, bytes, kind == hw::Access::WRITE);
    if (!p) return faulted = address, false;
    kind == hw::Access::WRITE ? memcpy(p, data, size_t(bytes)) : memcpy(data, p, size_t(bytes));
    return true;
  }
  u8* direct(hw::Access kind, u64 address, i64 bytes) override {
    return find(address, bytes, kind == hw::Access::WRITE);
  }
  void invalidate(bool, bool, bool) override {}
};

struct Kernel {
  std::string name;
  u64 descriptor, entry, bytes;  // addresses in the image
};
struct CodeObject {
  std::vector<u8> image;
  std::vector<Kernel> kernels;
  std::map<u64, u64> functions;  // of kernels too: from, bytes
  explicit CodeObject(const std::string& file) {
    auto* e = reinterpret_cast<const Elf64_Ehdr*>(file.data());
    auto* segments = reinterpret_cast<const Elf64_Phdr*>(file.data() + e->e_phoff);
    for (int i = 0; i < e->e_phnum; i++) {
      if (segments[i].p_type != PT_LOAD) continue;
      image.resize(std::max<size_t>(image.size(), segments[i].p_vaddr + segments[i].p_memsz + 256));
      memcpy(image.data() + segments[i].p_vaddr, file.data() + segments[i].p_offset, segments[i].p_filesz);
    }
    auto* sections = reinterpret_cast<const Elf64_Shdr*>(file.data() + e->e_shoff);
    std::map<std::string, std::pair<u64, u64>> symbols;
    for (int i = 0; i < e->e_shnum; i++) {
      if (sections[i].sh_type != SHT_SYMTAB) continue;
      const char* names = file.data() + sections[sections[i].sh_link].sh_offset;
      auto* s = reinterpret_cast<const Elf64_Sym*>(file.data() + sections[i].sh_offset);
      for (size_t k = 0; k < sections[i].sh_size / sizeof *s; k++)
        symbols[names + s[k].st_name] = {s[k].st_value, s[k].st_size};
      for (size_t k = 0; k < sections[i].sh_size / sizeof *s; k++)
        if (ELF64_ST_TYPE(s[k].st_info) == STT_FUNC) functions[s[k].st_value] = s[k].st_size;
    }
    for (auto& [name, at] : symbols)
      if (name.ends_with(".kd")) {
        auto code = symbols.at(name.substr(0, name.size() - 3));
        kernels.push_back({name.substr(0, name.size() - 3), at.first, code.first, code.second});
      }
  }
};

// ---- one dispatch --------------------------------------------------------------------------------------------------
constexpr u64 image_base = 1 << 20, out_base = 1 << 28, in_base = 2 << 28, args_base = 3u << 28,
              scratch_base = u64(1) << 32;
constexpr u32 groups = 3, threads = 64, words = 1024;

struct Outcome {
  hw::WaveResult result;
  std::vector<u32> out;
  i64 steps = 0;
};
inline std::vector<u32> random_words() {
  std::mt19937 random(7);
  std::vector<u32> in(words);
  for (u32& x : in) x = u32(random());
  return in;
}
inline std::vector<u32> initial_words() {
  std::vector<u32> out(words);
  for (u32 i = 900; i < words; i++) out[i] = i < 1000 ? i * 2654435761u : 0;
  return out;
}
struct Machine {
  HostMemory memory;
  std::unique_ptr<hw::Wave> wave;
  emu::EmulatorOptions options;
  explicit Machine(const CodeObject& object, bool checker = true, hw::BlockCompiler* blocks = nullptr, i64 hot = 0) {
    memory.regions.push_back({image_base, object.image, false});
    memory.regions.push_back({out_base, std::vector<u8>(words * 4), true});
    memory.regions.push_back({in_base, std::vector<u8>(words * 4), false});
    memory.regions.push_back({args_base, std::vector<u8>(512), false});
    memory.regions.push_back({scratch_base, std::vector<u8>(64 * 32 * 4096), true});
    std::vector<u32> in = random_words();
    memcpy(memory.regions[2].bytes.data(), in.data(), words * 4);
    options.checker = checker, options.unaligned = true, options.blocks = blocks, options.hot = hot;
    wave = emu::make_emulator(options);
  }
  Outcome run(const Kernel& k, u32 seed) {
    std::vector<u32> initial = initial_words();
    memcpy(memory.regions[1].bytes.data(), initial.data(), words * 4);
    struct {
      u64 out = out_base, in = in_base;
      u32 n = groups * threads;
    } arguments;
    memcpy(memory.regions[3].bytes.data(), &arguments, sizeof arguments);
    u16 sizes[3] = {threads, 1, 1};  // hsa_kernel_dispatch_packet_t
    u32 grid[3] = {groups * threads, 1, 1};
    memcpy(memory.regions[3].bytes.data() + 256 + 4, sizes, 6),
        memcpy(memory.regions[3].bytes.data() + 256 + 12, grid, 12);
    // The kernel descriptor: https://llvm.org/docs/AMDGPUUsage.html#kernel-descriptor
    const u8* descriptor = memory.regions[0].bytes.data() + k.descriptor;
    u32 fixed[4], rsrc[3];
    u16 properties;
    memcpy(fixed, descriptor, 16), memcpy(rsrc, descriptor + 44, 12), memcpy(&properties, descriptor + 56, 2);
    hw::Dispatch d;
    d.groups[0] = groups, d.threads[0] = threads, d.entry = image_base + k.entry, d.seed = seed;
    d.rsrc[0] = rsrc[1], d.rsrc[1] = rsrc[2], d.rsrc[2] = rsrc[0];
    d.rsrc[1] = (d.rsrc[1] & ~(u32(511) << 15)) | (fixed[0] + 511) / 512 << 15;  // the dispatcher's part
    d.scratch_base = scratch_base, d.scratch_waves = 64;
    d.scratch_wave_bytes =
        properties >> 11 & 1 ? 4096 * 32 : i64(fixed[1]) * 32;  // a stack whose size clang cannot tell
    d.shared_aperture = u64(1) << 48, d.private_aperture = u64(2) << 48;
    int at = 0;
    auto user = [&](int bit, int dwords, u64 value) {
      if (!(properties >> bit & 1)) return;
      for (int i = 0; i < dwords && at < 16; i++) d.user_data[at++] = i < 2 ? u32(value >> 32 * i) : 0;
    };
    user(0, 4, 0), user(1, 2, args_base + 256), user(2, 2, args_base + 256), user(3, 2, args_base), user(4, 2, 1),
        user(5, 2, 0), user(6, 1, fixed[1]);
    wave->start(d, memory);
    Outcome r;
    for (; r.steps < 40; r.steps++) {
      r.result = wave->step(20000);
      if (r.result.kind != hw::WaveResult::RUNNING) break;
    }
    r.out.resize(words);
    memcpy(r.out.data(), memory.regions[1].bytes.data(), words * 4);
    return r;
  }
};

// ---- the same kernels on the host: work-items are fibers -----------------------------------------------------------
struct Host {
  void* library;
  u32 *item, *group;
  ucontext_t main, fiber[threads];
  std::vector<std::vector<char>> stacks{threads, std::vector<char>(64 << 10)};
  bool done[threads];
  u32 current = 0;
  void (*body)(u32*, const u32*, u32) = nullptr;
  u32* out = nullptr;
  const u32* in = nullptr;
  static inline Host* self = nullptr;
  explicit Host(const std::string& path) : library(dlopen(path.c_str(), RTLD_NOW)) {
    if (!library) return;
    item = static_cast<u32*>(dlsym(library, "host_item")), group = static_cast<u32*>(dlsym(library, "host_group"));
    *static_cast<void (**)()>(dlsym(library, "host_barrier")) = [] {
      swapcontext(&self->fiber[self->current], &self->main);
    };
    self = this;
  }
  static void enter() {
    self->body(self->out, self->in, groups * threads);
    self->done[self->current] = true;
    swapcontext(&self->fiber[self->current], &self->main);
  }
  std::vector<u32> run(const std::string& kernel) {
    std::vector<u32> result = initial_words(), random = random_words();
    body = reinterpret_cast<decltype(body)>(dlsym(library, kernel.c_str()));
    out = result.data(), in = random.data();
    for (*group = 0; *group < groups; ++*group) {
      for (u32 i = 0; i < threads; i++) {
        done[i] = false;
        getcontext(&fiber[i]);
        fiber[i].uc_stack.ss_sp = stacks[i].data(), fiber[i].uc_stack.ss_size = stacks[i].size(),
        fiber[i].uc_link = nullptr;
        makecontext(&fiber[i], enter, 0);
      }
      for (u32 left = threads; left;) {
        left = 0;
        for (current = 0; current < threads; current++) {
          if (done[current]) continue;
          *item = current;
          swapcontext(&main, &fiber[current]);
          left += !done[current];
        }
      }
    }
    return result;
  }
};

// ---- clang's kernels -----------------------------------------------------------------------------------------------
struct Clang {
  std::string folder;
  std::vector<CodeObject> objects;  // by optimisation level
  std::unique_ptr<Host> host;
  std::string missing;
  Clang() {
    if (system("clang-19 --version >/dev/null 2>&1")) {
      missing = "clang-19 is not installed";
      return;
    }
    char name[] = "/tmp/ingot_emu_XXXXXX";
    folder = mkdtemp(name);
    std::string source = std::string(__FILE__).substr(0, std::string(__FILE__).rfind('/')) + "/kernels.c", all;
    for (int o = 0; o < 4; o++)
      all += str("clang-19 --target=amdgcn-amd-amdhsa -mcpu=gfx1100 -nogpulib -ffreestanding -ffp-contract=off -O", o,
                 " -o ", folder, "/", o, ".elf ", source, " && ");
    all += str("clang-19 -O1 -shared -fPIC -ffp-contract=off -Xclang -ffloat16-excess-precision=none -o ", folder,
               "/host.so ", source, " -lm");
    if (system(all.c_str())) {
      missing = "clang-19 cannot compile for gfx1100 and the host (lld-19 missing?)";
      return;
    }
    for (int o = 0; o < 4; o++) objects.emplace_back(read_file(str(folder, "/", o, ".elf")));
    host = std::make_unique<Host>(folder + "/host.so");
  }
  ~Clang() {
    if (!folder.empty()) (void)!system(("rm -r " + folder).c_str());
  }
};
inline Clang& clang() {
  static Clang c;
  return c;
}

// ---- programs in text ----------------------------------------------------------------------------------------------
struct Program {
  u32 vgprs = 24, user = 16, waves = 1, groups_x = 1, lds_bytes = 512, scratch_bytes = 0;
  bool unaligned = false, prefetch = false, checker = true;
};
// s0-s1 hold the address of 4 KiB that may be written, s2-s3 of 4 KiB that may be read; returns the objection or "".
inline std::string verdict(std::string_view text, Program p = {}, std::vector<u32>* out = nullptr) {
  HostMemory memory;
  std::vector<u8> code = assemble(*find_isa("rdna", "gfx1100"), text);
  code.resize(code.size() + 64);
  memory.regions.push_back({image_base, code, false});
  memory.regions.push_back({out_base, std::vector<u8>(4096), true});
  memory.regions.push_back({in_base, std::vector<u8>(4096, 1), false});
  memory.regions.push_back({scratch_base, std::vector<u8>(1 << 16), true});
  emu::EmulatorOptions options;
  options.unaligned = p.unaligned, options.prefetch = p.prefetch, options.checker = p.checker;
  options.source = [](u64 pc) { return str("line at ", pc); };
  auto wave = emu::make_emulator(options);
  hw::Dispatch d;
  d.groups[0] = p.groups_x, d.threads[0] = p.waves * 32, d.entry = image_base, d.seed = 5;
  d.rsrc[0] = (p.vgprs / 8 - 1) | 0xf0 << 12, d.rsrc[1] = p.user << 1 | (p.lds_bytes / 512) << 15;
  u64 pointers[2] = {out_base, in_base};
  memcpy(d.user_data, pointers, 16);
  d.scratch_base = scratch_base, d.scratch_wave_bytes = p.scratch_bytes * 32, d.scratch_waves = 16;
  d.shared_aperture = u64(1) << 48, d.private_aperture = u64(2) << 48;
  wave->start(d, memory);
  hw::WaveResult r;
  for (int i = 0; i < 100 && (r = wave->step(1000)).kind == hw::WaveResult::RUNNING; i++) {}
  if (out) {
    out->resize(1024);
    memcpy(out->data(), memory.regions[1].bytes.data(), 4096);
  }
  return r.kind == hw::WaveResult::DONE ? "" : r.message.empty() ? "no message" : r.message;
}

// ---- emu_test.cc ---------------------------------------------------------------------------------------------------
// Takes every wait and every filler of a hazard out of every kernel, one at a time, and lets every wait be content with
// one less. One that is not missed counts as a miss of the checker unless nothing ran it (a trap in its place is never
// met), a neighbour waits for as much, or nothing can be on its way: since the wait before, in straight line, no
// instruction has counted (stores to scratch aside, which only their own lane sees). share: of the waits one in so
// many.
//
// What is left, 0.8 % of clang's waits and of ours, is printed. Two kinds were found in it: at -O0 waits before
// barriers when nothing but scratch has been written since the one before; and waits where two ways meet of which one
// has waited already and the other, around a branch that some lane of every wave takes, is not gone on this input.
void expect_missed(const std::vector<CodeObject>& objects, i64 share);

}  // namespace ingot::isa
