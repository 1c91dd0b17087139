// SPDX-License-Identifier: MIT
// The emulator on programs that it did not help to make: clang-19 compiles kernels.c for gfx1100 at -O0 to -O3 and for
// the host, and what they leave in memory must be the same. The checker must not object to any of them, and must object
// when a wait or a hazard's instruction is taken out. Without clang-19 the test says so and skips; short programs in
// text then still run.
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

namespace ingot::isa {
namespace {

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
      if (address >= r.base && address + u64(bytes) <= r.base + r.bytes.size())
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
std::vector<u32> random_words() {
  std::mt19937 random(7);
  std::vector<u32> in(words);
  for (u32& x : in) x = u32(random());
  return in;
}
std::vector<u32> initial_words() {
  std::vector<u32> out(words);
  for (u32 i = 900; i < words; i++) out[i] = i < 1000 ? i * 2654435761u : 0;
  return out;
}
struct Machine {
  HostMemory memory;
  std::unique_ptr<hw::Wave> wave;
  emu::EmulatorOptions options;
  explicit Machine(const CodeObject& object, bool checker = true) {
    memory.regions.push_back({image_base, object.image, false});
    memory.regions.push_back({out_base, std::vector<u8>(words * 4), true});
    memory.regions.push_back({in_base, std::vector<u8>(words * 4), false});
    memory.regions.push_back({args_base, std::vector<u8>(512), false});
    memory.regions.push_back({scratch_base, std::vector<u8>(64 * 32 * 4096), true});
    std::vector<u32> in = random_words();
    memcpy(memory.regions[2].bytes.data(), in.data(), words * 4);
    options.checker = checker, options.unaligned = true;
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
  static Host* self;
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
Host* Host::self = nullptr;

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
Clang& clang() {
  static Clang c;
  return c;
}

TEST(Clang, KernelsGiveWhatTheHostGives) {
  if (!clang().missing.empty()) GTEST_SKIP() << clang().missing;
  int kernels = 0;
  std::map<std::string, std::vector<u32>> expected;
  for (int o = 0; o < 4; o++) {
    Machine machine(clang().objects[size_t(o)]);
    for (const Kernel& k : clang().objects[size_t(o)].kernels) {
      auto& want = expected[k.name];
      if (want.empty()) want = clang().host->run(k.name);
      Outcome r = machine.run(k, u32(kernels));
      EXPECT_EQ(r.result.kind, hw::WaveResult::DONE)
          << k.name << " -O" << o << ": " << r.result.message << " pc " << r.result.pc;
      if (r.result.kind == hw::WaveResult::DONE)
        for (u32 i = 0; i < words; i++)
          if (r.out[i] != want[i]) {
            ADD_FAILURE() << k.name << " -O" << o << ": word " << i << " is " << hex(r.out[i], 8) << ", the host has "
                          << hex(want[i], 8);
            break;
          }
      kernels++;
    }
  }
  std::printf("%d kernels compiled by clang-19\n", kernels);
  EXPECT_GE(kernels, 200);
}

// Takes every wait out of every kernel, one at a time, and lets every wait be content with one less. One that is not
// missed counts as a miss of the checker unless nothing ran it (a trap in its place is never met), a neighbour waits
// for as much, or nothing can be on its way: since the wait before, in straight line, no instruction has counted
// (stores to scratch aside, which only their own lane sees).
TEST(Clang, AMissingOrWeakWaitIsReported) {
  if (!clang().missing.empty()) GTEST_SKIP() << clang().missing;
  const Isa& isa = *find_isa("rdna", "gfx1100");
  std::vector<u8> nop = assemble(isa, "s_nop 0"), trap = assemble(isa, "s_trap 2");
#ifdef __SANITIZE_ADDRESS__
  const i64 share = 5;  // of the waits one in so many: a run is slow here
#else
  const i64 share = 1;
#endif
  struct {
    i64 changed = 0, reported = 0, never_run = 0, covered = 0;
    std::string silent;
  } taken_out, weakened;
  i64 seen = 0;
  struct Wait {
    u64 at;
    std::string name;
    i64 counts[2];  // vmcnt and lgkmcnt, or the one of the name
    size_t run;     // waits that follow each other share it
    bool idle;      // nothing can be on its way
  };
  for (int o = 0; o < 4; o++) {
    Machine machine(clang().objects[size_t(o)]);
    for (const Kernel& k : clang().objects[size_t(o)].kernels) {
      std::vector<u8>& image = machine.memory.regions[0].bytes;
      std::vector<Wait> waits;
      size_t run = 0;
      std::set<u64> targets;
      for (u64 at = k.entry, n; at < k.entry + k.bytes; at += n) {
        Instruction in;
        n = isa.decode(std::span(image).subspan(at, 12), in);
        ASSERT_GT(n, 0u) << k.name << " at " << at;
        if (operands_of(*in.row).size() && operands_of(*in.row)[0].pc_relative)
          targets.insert(at + n + u64(in.op[0].imm * 4));
      }
      bool busy[3] = {true, true, true};  // vmcnt, lgkmcnt, vscnt
      for (u64 at = k.entry; at < k.entry + k.bytes;) {
        Instruction in;
        size_t n = isa.decode(std::span(image).subspan(at, 12), in);
        std::string name(name_of(*in.row));
        bool branch = name.starts_with("s_cbranch") || name.starts_with("s_branch") || name.starts_with("s_swappc");
        if (branch || targets.contains(at)) busy[0] = busy[1] = busy[2] = true;
        bool flat = name.starts_with("flat"), vector = flat || name.starts_with("global"),
             store = name.find("store") != name.npos || name.find("atomic") != name.npos;
        busy[0] |= (vector || name.starts_with("scratch_load")) && operands_of(*in.row)[0].access == OperandSpec::WRITE;
        busy[1] |= flat || name.starts_with("ds_") || name.starts_with("s_load");
        busy[2] |= vector && store;
        if (name.starts_with("s_waitcnt")) {
          i64 imm = in.op[in.n - 1].imm;
          bool both = name == "s_waitcnt", stores = name == "s_waitcnt_vscnt";
          i64 vm = imm >> 10 & 63, lgkm = imm >> 4 & 63;
          bool idle = both ? (vm == 63 || !busy[0]) && (lgkm == 63 || !busy[1]) : stores && !busy[2];
          waits.push_back({at, name, {both ? vm : imm, both ? lgkm : 0}, run, idle});
          if (both && !vm) busy[0] = false;
          if (both && !lgkm) busy[1] = false;
          if (stores && !imm) busy[2] = false;
        } else if (name != "s_nop" && name != "s_delay_alu") {
          run++;
        }
        at += n;
      }
      auto with = [&](u64 at, const std::vector<u8>& code) {
        u8 old[4];
        memcpy(old, image.data() + at, 4), memcpy(image.data() + at, code.data(), 4);
        Outcome r = machine.run(k, u32(seen));
        memcpy(image.data() + at, old, 4);
        return r.result.kind;
      };
      for (const Wait& w : waits) {
        if (seen++ % share) continue;
        u32 word;
        memcpy(&word, image.data() + w.at, 4);
        word += w.name != "s_waitcnt" ? 1 : w.counts[0] < 63 ? 1 << 10 : 1 << 4;  // one more may be on its way
        std::vector<u8> weak(4);
        memcpy(weak.data(), &word, 4);
        for (auto* count : {&taken_out, &weakened}) {
          if (count == &weakened && w.name == "s_waitcnt_depctr") continue;
          count->changed++;
          bool twice = w.idle;
          for (const Wait& x : waits)
            twice |= x.at != w.at && x.run == w.run && x.name == w.name && x.counts[0] <= w.counts[0] &&
                     x.counts[1] <= w.counts[1];
          if (with(w.at, count == &taken_out ? nop : weak) == hw::WaveResult::VIOLATION)
            count->reported++;
          else if (twice)
            count->covered++;
          else if (with(w.at, trap) == hw::WaveResult::DONE)
            count->never_run++;
          else
            count->silent += str("  ", k.name, " -O", o, " ", hex(w.at), " ", w.name, "\n");
        }
      }
    }
  }
  for (auto* count : {&taken_out, &weakened}) {
    i64 matter = count->changed - count->never_run - count->covered;
    std::printf(
        "%lld waits %s one by one: %lld never run, %lld with nothing to wait for, of the others %lld reported (%.2f "
        "%%)\n%s",
        (long long)count->changed, count == &taken_out ? "taken out" : "weakened by 1", (long long)count->never_run,
        (long long)count->covered, (long long)count->reported, 100.0 * double(count->reported) / double(matter),
        count->silent.c_str());
    const double of_a_sample = share > 1 ? 0.01 : 0;  // which waits it holds is chance
    EXPECT_GE(double(count->reported), ((count == &taken_out ? 0.99 : 0.98) - of_a_sample) * double(matter));
  }
}

// ---- programs in text: what the checker objects to, and what it lets pass ------------------------------------------
struct Program {
  u32 vgprs = 24, user = 16, waves = 1, groups_x = 1, lds_bytes = 512, scratch_bytes = 0;
  bool unaligned = false;
};
// s0-s1 hold the address of 4 KiB that may be written, s2-s3 of 4 KiB that may be read; returns the objection or "".
std::string verdict(std::string_view text, Program p = {}, std::vector<u32>* out = nullptr) {
  HostMemory memory;
  std::vector<u8> code = assemble(*find_isa("rdna", "gfx1100"), text);
  code.resize(code.size() + 64);
  memory.regions.push_back({image_base, code, false});
  memory.regions.push_back({out_base, std::vector<u8>(4096), true});
  memory.regions.push_back({in_base, std::vector<u8>(4096, 1), false});
  memory.regions.push_back({scratch_base, std::vector<u8>(1 << 16), true});
  emu::EmulatorOptions options;
  options.kernel = "text", options.unaligned = p.unaligned;
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
constexpr const char* store_v1 = "v_lshlrev_b32 v2, 2, v0\n global_store_b32 v2, v1, s[0:1]\n s_endpgm\n";

TEST(Checker, Objections) {
  using testing::HasSubstr;
  auto program = [](std::string_view start, std::string_view end = store_v1) { return str(start, "\n", end); };
  // name kernel, pc, instruction, source
  std::string text = verdict(program("v_mov_b32 v1, v7"));
  for (const char* part : {"text: 0x10000", "`global_store_b32 v2, v1, s[0:1]`", "from line at",
                           "group (0, 0, 0) wave 0, seed 5", "v1, which nothing has set"})
    EXPECT_THAT(text, HasSubstr(part));
  EXPECT_EQ(verdict(program("v_mov_b32 v1, 1.0")), "");
  // undefined values: a copy is none of the checker's business, a use is
  EXPECT_EQ(verdict("v_mov_b32 v1, v7\n v_add_nc_u32 v1, v1, v1\n s_endpgm"), "");
  EXPECT_THAT(verdict("s_cmp_eq_u32 s20, 0\n s_cbranch_scc1 0\n s_endpgm"), HasSubstr("the branch comes from scc"));
  EXPECT_THAT(verdict("s_mov_b32 exec_lo, s30\n s_endpgm"), HasSubstr("exec comes from s30"));
  EXPECT_THAT(verdict("global_load_b32 v1, v9, s[0:1]\n s_endpgm"), HasSubstr("the address comes from v9"));
  EXPECT_THAT(verdict("s_load_b32 s8, s[40:41], 0x0\n s_endpgm"), HasSubstr("the address comes from s40"));
  EXPECT_EQ(verdict(program("v_mov_b32 v3, 0xffff\n v_and_b32 v1, 0, v9")), "");
  EXPECT_THAT(verdict(program("v_mov_b32 v1, 0"), {.user = 8}),
              HasSubstr("s0, which nothing has set"));  // the hardware's bug
  // waits
  const char *load = "v_lshlrev_b32 v3, 2, v0\n global_load_b32 v1, v3, s[2:3]\n",
             *two = "global_load_b32 v4, v3, s[2:3]\n";
  EXPECT_THAT(verdict(program(load)), HasSubstr("v1 is read before its load at 0x10000"));
  EXPECT_EQ(verdict(program(str(load, "s_waitcnt vmcnt(0)"))), "");
  EXPECT_EQ(verdict(program(str(load, two, "s_waitcnt vmcnt(1)"))), "");
  EXPECT_THAT(verdict(program(str(load, two, "s_waitcnt vmcnt(2)"))), HasSubstr("(vmcnt)"));
  EXPECT_THAT(verdict(program(str(load, "v_mov_b32 v1, 0\n s_waitcnt vmcnt(0)"))),
              HasSubstr("v1 is written before its load"));
  EXPECT_THAT(verdict(program(str(load, "s_waitcnt lgkmcnt(0)"))), HasSubstr("(vmcnt)"));
  const char* scalars = "s_load_b32 s8, s[2:3], 0x0\n s_load_b32 s9, s[2:3], 0x4\n";
  EXPECT_EQ(verdict(program(str(scalars, "s_waitcnt lgkmcnt(0)\n v_mov_b32 v1, s8"))), "");
  EXPECT_THAT(verdict(program(str(scalars, "s_waitcnt lgkmcnt(1)\n v_mov_b32 v1, s8"))),
              HasSubstr("s8 is read before its load"));  // any order
  const char* lds = "v_lshlrev_b32 v3, 2, v0\n ds_store_b32 v3, v0\n ds_load_b32 v1, v3\n ds_load_b32 v4, v3\n";
  EXPECT_EQ(verdict(program(str(lds, "s_waitcnt lgkmcnt(1)"))), "");
  EXPECT_THAT(verdict(program(str(lds, "s_waitcnt lgkmcnt(2)"))), HasSubstr("(lgkmcnt)"));
  // hazards
  EXPECT_THAT(verdict(program("v_mov_b32 v3, 2.0\n v_rcp_f32 v1, v3\n v_add_f32 v1, v1, v1")),
              HasSubstr("VALUTransUse"));
  EXPECT_EQ(verdict(program("v_mov_b32 v3, 2.0\n v_rcp_f32 v1, v3\n s_waitcnt_depctr 0xfff\n v_add_f32 v1, v1, v1")),
            "");
  EXPECT_THAT(verdict(program("v_cmpx_eq_u32 v0, v0\n v_permlane16_b32 v1, v0, 0, 0")), HasSubstr("VcmpxPermlane"));
  EXPECT_EQ(verdict(program("v_cmpx_eq_u32 v0, v0\n v_mov_b32 v1, v0\n v_permlane16_b32 v1, v0, 0, 0")), "");
  std::string matrix;
  for (int i = 8; i < 40; i++) matrix += str("v_mov_b32 v", i, ", 0\n");
  std::string multiply = "v_wmma_f32_16x16x16_f16 v[24:31], v[8:15], v[16:23], v[32:39]\n",
              again = "v_wmma_f32_16x16x16_f16 v[32:39], v[24:31], v[16:23], v[32:39]\n";
  EXPECT_THAT(verdict(str(matrix, multiply, again, "s_endpgm"), {.vgprs = 48}),
              HasSubstr("result of the one just before"));
  EXPECT_EQ(verdict(str(matrix, multiply, "v_nop\n", again, "s_endpgm"), {.vgprs = 48}), "");
  EXPECT_THAT(verdict(str(matrix, "v_mov_b32 v8, v0\n", multiply, "s_endpgm"), {.vgprs = 48}),
              HasSubstr("lanes 0 and 16 of A differ"));
  // where memory ends
  EXPECT_THAT(verdict(program("v_mov_b32 v1, 0\n s_add_u32 s0, s0, 0x1000")),
              HasSubstr("writes 4 bytes at 0x10001000"));
  EXPECT_THAT(verdict("v_mov_b32 v1, 0\n global_store_b32 v1, v1, s[2:3]\n s_endpgm"),
              HasSubstr("writes 4 bytes"));  // read-only
  EXPECT_THAT(verdict("v_mov_b32 v1, 0\n ds_store_b32 v1, v1 offset:512\n s_endpgm"),
              HasSubstr("bytes of LDS at 512, past its 512"));
  EXPECT_THAT(verdict("scratch_load_b32 v1, off, off offset:64\n s_endpgm", {.scratch_bytes = 64}),
              HasSubstr("of scratch at 64, past its 64"));
  EXPECT_THAT(verdict("v_mov_b32 v30, 0\n s_endpgm"), HasSubstr("v30, but the wave has 24"));
  const char* odd = "v_mov_b32 v1, 2\n global_load_b32 v2, v1, s[2:3]\n s_endpgm";
  EXPECT_THAT(verdict(odd), HasSubstr("not aligned to 4"));
  EXPECT_EQ(verdict(odd, {.unaligned = true}), "");
  EXPECT_THAT(verdict("v_mov_b32 v1, 2\n global_atomic_add_u32 v1, v1, s[0:1]\n s_endpgm", {.unaligned = true}),
              HasSubstr("not aligned"));
  // barriers, and what other waves see
  EXPECT_EQ(verdict("s_barrier\n s_endpgm", {.waves = 2}), "");
  EXPECT_THAT(
      verdict("v_readfirstlane_b32 s4, v0\n s_cmp_eq_u32 s4, 0\n s_cbranch_scc1 over\n s_barrier\n over: s_endpgm",
              {.waves = 2}),
      HasSubstr("barrier"));
  EXPECT_THAT(verdict("v_cmpx_gt_u32 16, v0\n s_barrier\n s_endpgm"), HasSubstr("not every work-item"));
  std::string exchange =
                  "v_mov_b32 v3, 4\n v_xor_b32 v4, 32, v0\n v_lshlrev_b32 v2, 2, v0\n v_lshlrev_b32 v4, 2, v4\n "
                  "global_store_b32 v2, v0, s[0:1]\n",
              fetch =
                  "global_load_b32 v1, v4, s[0:1]\n s_waitcnt vmcnt(0)\n global_store_b32 v2, v1, s[0:1] offset:1024\n "
                  "s_endpgm";
  EXPECT_EQ(verdict(str(exchange, "s_waitcnt_vscnt null, 0x0\n s_barrier\n", fetch), {.waves = 2}), "");
  EXPECT_THAT(verdict(str(exchange, "s_barrier\n", fetch), {.waves = 2}),
              HasSubstr("wrote and has not waited for (vscnt)"));
  EXPECT_THAT(verdict("v_lshlrev_b32 v2, 2, v0\n ds_store_b32 v2, v0\n s_barrier\n s_endpgm", {.waves = 2}),
              HasSubstr("LDS operations are on their way"));
}

// Every encoding of the golden file, alone: it runs, faults on its random address, or is one of few that say so.
TEST(Rows, EveryEncodingRuns) {
  std::string here = __FILE__, file = read_file(here.substr(0, here.rfind("emu/")) + "isa/golden/rdna.txt");
  const Isa& isa = *find_isa("rdna", "gfx1100");
  std::vector<u8> end = assemble(isa, "s_endpgm");
  std::set<std::string_view> refused, ran;
  for (std::string_view line : split(file, '\n')) {
    if (line.empty() || line[0] == '#') continue;
    std::vector<u8> code;
    for (size_t i = 0; i + 1 < line.find('\t'); i += 2)
      code.push_back(u8(std::stoul(std::string(line.substr(i, 2)), nullptr, 16)));
    Instruction in;
    ASSERT_TRUE(isa.decode(code, in)) << line;
    code.insert(code.end(), end.begin(), end.end());
    for (bool checker : {false, true}) {
      HostMemory memory;
      memory.regions.push_back({image_base, code, false});
      emu::EmulatorOptions options;
      options.checker = checker;
      auto wave = emu::make_emulator(options);
      hw::Dispatch d;
      d.threads[0] = 32, d.entry = image_base, d.rsrc[0] = 31 | 0xf0 << 12, d.rsrc[1] = 16 << 1 | 1 << 15;
      wave->start(d, memory);
      hw::WaveResult r = wave->step(50);
      if (!checker) (r.message.find("not modelled") == std::string::npos ? ran : refused).insert(name_of(*in.row));
    }
  }
  for (std::string_view name : ran) refused.erase(name);  // with other modifiers
  std::printf("%zu instructions run, %zu are not modelled:", ran.size(), refused.size());
  for (std::string_view name : refused) std::printf(" %s", std::string(name).c_str());
  std::printf("\n");
  EXPECT_GT(ran.size(), 900u);
  EXPECT_LT(refused.size(), 50u);
}

}  // namespace
}  // namespace ingot::isa
