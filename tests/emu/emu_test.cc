// SPDX-License-Identifier: MIT
// The emulator on programs that it did not help to make: what kernels that clang compiled leave in memory must be what
// they leave on the host. The checker must not object to any of them, and must object when a wait or a hazard's
// instruction is taken out. Short programs in text run without clang too.
#include "tests/emu/harness.h"

namespace ingot::isa {

// Checked, evaluated without the checker, and in compiled blocks.
void kernels_give_what_the_host_gives(bool checker, hw::BlockCompiler* blocks) {
  if (!clang().missing.empty()) GTEST_SKIP() << clang().missing;
  int kernels = 0;
  std::map<std::string, std::vector<u32>> expected;
  for (int o = 0; o < 4; o++) {
    // All of -O2; elsewhere what runs several times.
    Machine machine(clang().objects[size_t(o)], checker, blocks, o == 2 ? 0 : 8);
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
TEST(Clang, KernelsGiveWhatTheHostGives) { kernels_give_what_the_host_gives(true, nullptr); }
TEST(Clang, KernelsGiveItWithoutTheChecker) { kernels_give_what_the_host_gives(false, nullptr); }
TEST(Clang, KernelsGiveItInCompiledBlocks) { kernels_give_what_the_host_gives(false, host_blocks()); }

void expect_missed(const std::vector<CodeObject>& objects, i64 share) {
  const Isa& isa = *find_isa("rdna", "gfx1100");
  std::vector<u8> nop = assemble(isa, "s_nop 0"), trap = assemble(isa, "s_trap 2");
#ifdef __SANITIZE_ADDRESS__
  share *= 5;  // a run is slow here
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
  for (int o = 0; o < int(objects.size()); o++) {
    Machine machine(objects[size_t(o)]);
    for (const Kernel& k : objects[size_t(o)].kernels) {
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
        bool filler = name == "v_nop" || (name == "v_mov_b32" && in.op[0] == in.op[1] && n == 4);
        bool branch = name.starts_with("s_cbranch") || name.starts_with("s_branch") || name.starts_with("s_swappc");
        if (branch || targets.contains(at)) busy[0] = busy[1] = busy[2] = true;
        bool flat = name.starts_with("flat"), vector = flat || name.starts_with("global"),
             store = name.find("store") != name.npos || name.find("atomic") != name.npos;
        busy[0] |= (vector || name.starts_with("scratch_load")) && operands_of(*in.row)[0].access == OperandSpec::WRITE;
        busy[1] |= flat || name.starts_with("ds_") || name.starts_with("s_load");
        busy[2] |= vector && store;
        if (filler) {
          waits.push_back({at, name, {0, 0}, run++, false});
        } else if (name.starts_with("s_waitcnt")) {
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
          if (count == &weakened && (w.name == "s_waitcnt_depctr" || w.name[0] == 'v')) continue;
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

TEST(Clang, AMissingOrWeakWaitIsReported) {
  if (!clang().missing.empty()) GTEST_SKIP() << clang().missing;
  expect_missed(clang().objects, 1);
}

// ---- what the checker objects to, and what it lets pass -------------------------------------------------------------
constexpr const char* store_v1 = "v_lshlrev_b32 v2, 2, v0\n global_store_b32 v2, v1, s[0:1]\n s_endpgm\n";

TEST(Checker, Objections) {
  using testing::HasSubstr;
  auto program = [](std::string_view start, std::string_view end = store_v1) { return str(start, "\n", end); };
  // name pc, instruction, source
  std::string text = verdict(program("v_mov_b32 v1, v7"));
  for (const char* part : {"0x10000", "`global_store_b32 v2, v1, s[0:1]`", "from line at",
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
  // which the hardware answers with zero, and drops
  std::vector<u32> out;
  EXPECT_EQ(verdict(str("v_dual_mov_b32 v3, 0x200 :: v_dual_mov_b32 v4, 7\n ds_store_b32 v3, v4\n v_mov_b32 v1, 9\n"
                        "ds_load_b32 v1, v3\n s_waitcnt lgkmcnt(0)\n",
                        store_v1),
                    {.checker = false}, &out),
            "");
  EXPECT_EQ(out[0], 0u);
  EXPECT_EQ(verdict(str("v_dual_mov_b32 v3, 0x1fc :: v_dual_mov_b32 v4, 7\n ds_store_b32 v3, v4\n v_mov_b32 v1, 9\n"
                        "ds_load_b32 v1, v3\n s_waitcnt lgkmcnt(0)\n",
                        store_v1),
                    {.checker = false}, &out),
            "");
  EXPECT_EQ(out[0], 7u);
  // code at the end of its mapping: 64 bytes follow it here, and up to three lines of 128 are read ahead
  EXPECT_EQ(verdict("s_endpgm"), "");
  EXPECT_THAT(verdict("s_endpgm", {.prefetch = true}), HasSubstr("nothing after it to read ahead"));
  std::string long_tail = "s_endpgm\n";
  for (int i = 0; i < 4 * 128 / 4; i++) long_tail += "s_code_end\n";
  EXPECT_EQ(verdict(long_tail, {.prefetch = true}), "");
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

}  // namespace ingot::isa
