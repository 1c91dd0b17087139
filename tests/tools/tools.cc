// SPDX-License-Identifier: MIT
// ingot reg, ring, vm, wave and top: each on a process that runs (through its debug socket), on a snapshot of it, and
// on a model that the tool brings up itself.
#include <gmock/gmock.h>
#include "compiler/runtime/runtime.h"
#include "tests/tools/job.h"
#include "tools/inspect/inspect.h"

namespace ingot {
namespace {
using testing::ContainsRegex, testing::HasSubstr, testing::Not;

class Tools : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder = testing::TempDir() + "ingot_tools_XXXXXX";
    if (!::mkdtemp(folder.data())) throw OsError("mkdtemp", errno);
    ::setenv("XDG_RUNTIME_DIR", folder.c_str(), 1);
    job = new Job;
    snapshot = folder + "/job.snapshot";
    Printed p = tool(reg_main, str("snapshot ", snapshot, " --from ", job->path));
    EXPECT_EQ(p.code, 0) << p.error;
  }
  static void TearDownTestSuite() {
    delete job;
    for (const char* name : {"/job.snapshot", "/other.snapshot", "/ring.snapshot"}) ::unlink((folder + name).c_str());
    ::rmdir((folder + "/ingot").c_str());
    ::rmdir(folder.c_str());
  }
  // Of the running process and of the snapshot.
  static std::vector<std::string> sources() { return {job->path, snapshot}; }
  static Printed at(int (*run)(Arguments), std::string_view line, const std::string& source = job->path) {
    return tool(run, str(line, " --from ", source));
  }
  static Json json(int (*run)(Arguments), std::string_view line, const std::string& source = job->path) {
    Printed p = at(run, str(line, " --json"), source);
    EXPECT_EQ(p.error, "") << line;
    Json j = Json::parse(p.out, nullptr, false);
    EXPECT_FALSE(j.is_discarded()) << line << "\n" << p.out;
    return j;
  }
  static Json state() { return Json::parse(connect({job->path, 0, ""})->reply({.what = Inspect::STATE})); }
  static u64 buffer() { return state()["buffers"][0]["address"]; }
  static Job* job;
  static std::string folder, snapshot;
};
Job* Tools::job = nullptr;
std::string Tools::folder, Tools::snapshot;

// ---- reg -----------------------------------------------------------------------------------------------------------
TEST_F(Tools, reg_reads_by_name_with_fields) {
  for (const std::string& source : sources()) {
    SCOPED_TRACE(source);
    EXPECT_EQ(at(reg_main, "read CP_HQD_ACTIVE --queue 1.0.0", source).out,
              "CP_HQD_ACTIVE 0x00000001  at dword 0x320b\n"
              "  active    [0]      1\n"
              "  busy_gate [1]      0\n");
    EXPECT_EQ(at(reg_main, "read CP_HQD_ACTIVE", source).code, source == snapshot ? 1 : 0) << "the bank of no queue";
    EXPECT_EQ(at(reg_main, "read GCVM_CONTEXT0_CNTL[0].page_table_depth", source).out,
              "GCVM_CONTEXT0_CNTL[0].page_table_depth [2:1] = 3\n");
    Json j = json(reg_main, "read gcvm_context0_cntl[0]", source);
    ASSERT_EQ(j.size(), 1u);
    EXPECT_EQ(j[0]["name"], "GCVM_CONTEXT0_CNTL[0]");
    EXPECT_EQ(j[0]["fields"]["page_table_depth"], 3);
    EXPECT_GT(json(reg_main, "read CP_HQD_* --queue 1.0.0", source).size(), 20u);
    EXPECT_EQ(json(reg_main, "read 0x320b --queue 1.0.0", source)[0]["name"], "CP_HQD_ACTIVE");
  }
}
TEST_F(Tools, reg_lists_and_finds) {
  for (const std::string& source : sources()) {
    EXPECT_THAT(at(reg_main, "list HQD_ACT", source).out, ContainsRegex("^0x0320b +GC CP_HQD_ACTIVE\n$"));
    EXPECT_GT(json(reg_main, "list", source).size(), 300u);
    EXPECT_THAT(at(reg_main, "find page_table_depth", source).out,
                HasSubstr("CONTEXT0_CNTL[0].page_table_depth [2:1]"));
    EXPECT_THAT(at(reg_main, "find 0x320b", source).out, HasSubstr("CP_HQD_ACTIVE"));
    EXPECT_THAT(at(reg_main, "find 0x1", source).out + at(reg_main, "find 0x320b99", source).error,
                HasSubstr("dwords after"));
    EXPECT_THAT(at(reg_main, "find nosuchthing", source).out, HasSubstr("holds 'nosuchthing'"));
  }
}
TEST_F(Tools, reg_suggests_what_was_meant) {
  EXPECT_THAT(at(reg_main, "read GRBM_STATSU").error, HasSubstr("did you mean GRBM_STATUS"));
  EXPECT_THAT(at(reg_main, "read GRBM_STATUS.cp_bsy").error, HasSubstr("did you mean cp_busy"));
  EXPECT_THAT(at(reg_main, "wath GRBM_STATUS").error, HasSubstr("did you mean watch"));
  EXPECT_THAT(at(reg_main, "read HQD_PQ").error, HasSubstr("CP_HQD_PQ"));
  EXPECT_EQ(at(reg_main, "read GRBM_STATSU").code, 2);
  EXPECT_THAT(at(reg_main, "read CP_HQD_ACTIVE --queue 1.0").error, HasSubstr("ME.PIPE.QUEUE"));
  EXPECT_THAT(at(reg_main, "read CP_HQD_ACTIVE --queue 1.0.9").error, HasSubstr("QUEUE is 0 to 7, got 9"));
}
TEST_F(Tools, reg_writes_only_when_told_to) {
  EXPECT_THAT(at(reg_main, "write SCRATCH_REG0[3] 0x1234").error,
              HasSubstr("from 0x00000000 to 0x00001234 needs --yes"));
  EXPECT_EQ(json(reg_main, "read SCRATCH_REG0[3]")[0]["value"], 0);
  Printed p = at(reg_main, "write SCRATCH_REG0[3] 0x1234 --yes");
  EXPECT_EQ(p.out, "SCRATCH_REG0[3] 0x00000000 -> 0x00001234\n") << p.error;
  EXPECT_EQ(json(reg_main, "read SCRATCH_REG0[3]")[0]["value"], 0x1234);
  // One field of several: the others stay.
  u32 before = json(reg_main, "read RLC_SPM_MC_CNTL")[0]["value"];
  EXPECT_EQ(at(reg_main, "writebit RLC_SPM_MC_CNTL.rlc_spm_vmid 3 --yes").code, 0);
  EXPECT_EQ(json(reg_main, "read RLC_SPM_MC_CNTL")[0]["fields"]["rlc_spm_vmid"], 3);
  EXPECT_EQ(at(reg_main, "write RLC_SPM_MC_CNTL rlc_spm_vmid=15 --yes").code, 0);
  EXPECT_EQ(json(reg_main, "read RLC_SPM_MC_CNTL")[0]["value"], before);
  EXPECT_THAT(at(reg_main, "writebit RLC_SPM_MC_CNTL.rlc_spm_vmid 99 --yes").error, HasSubstr("does not fit"));
  EXPECT_THAT(at(reg_main, "write SCRATCH_REG0 1 --yes").error, HasSubstr("is 8 registers"));
  EXPECT_THAT(at(reg_main, "write SCRATCH_REG0[3] 5 --yes", snapshot).error, HasSubstr("is a file"));
  EXPECT_EQ(at(reg_main, "write SCRATCH_REG0[3] 0 --yes").code, 0);
}
TEST_F(Tools, reg_watch_prints_only_changes) {
  Printed p = at(reg_main, "watch SCRATCH_REG0[4] GRBM_SOFT_RESET --count 3 --interval 1");
  EXPECT_EQ(std::count(p.out.begin(), p.out.end(), '\n'), 2) << p.out;
  EXPECT_THAT(at(reg_main, "watch GRBM_STATUS", snapshot).error, HasSubstr("nothing changes in it"));
}
TEST_F(Tools, reg_diff_is_by_field) {
  EXPECT_EQ(at(reg_main, "write SCRATCH_REG0[4] 77 --yes").code, 0);
  EXPECT_EQ(at(reg_main, "writebit RLC_SPM_MC_CNTL.rlc_spm_vmid 2 --yes").code, 0);
  std::string other = folder + "/other.snapshot";
  EXPECT_EQ(at(reg_main, str("snapshot ", other)).code, 0);
  std::string text = tool(reg_main, str("diff ", snapshot, " ", other)).out;
  EXPECT_THAT(text, HasSubstr("SCRATCH_REG0[4] 0x00000000 -> 0x0000004d  scratch_reg0 0 -> 0x4d\n"));
  EXPECT_THAT(text, HasSubstr("rlc_spm_vmid 0xf -> 2"));
  EXPECT_EQ(at(reg_main, str("diff ", other)).out, "");  // with the chip as it is now
  EXPECT_EQ(json(reg_main, str("diff ", other)).size(), 0u);
  EXPECT_EQ(tool(reg_main, str("diff ", snapshot, " ", snapshot)).out, "");
  at(reg_main, "write SCRATCH_REG0[4] 0 --yes"), at(reg_main, "writebit RLC_SPM_MC_CNTL.rlc_spm_vmid 15 --yes");
}

// ---- ring ----------------------------------------------------------------------------------------------------------
TEST_F(Tools, ring_links_dispatches_to_kernels) {
  for (const std::string& source : sources()) {
    SCOPED_TRACE(source);
    std::string text = at(ring_main, "compute --last 4000", source).out;
    EXPECT_THAT(text, HasSubstr("DISPATCH_DIRECT dim_x=1 dim_y=1 dim_z=1"));
    EXPECT_THAT(text, ContainsRegex("kernel stores at 0x[0-9a-f]+, 1x1x1 groups of 32x1x1"));
    EXPECT_THAT(text, ContainsRegex("kernel spins at 0x[0-9a-f]+, 3x1x1 groups of 32x1x1"));
    EXPECT_THAT(text, ContainsRegex("0x[0-9a-f]+ a buffer of 4096 bytes"));
    EXPECT_THAT(text, HasSubstr("COMPUTE_PGM_RSRC1 "));
    EXPECT_THAT(text, HasSubstr("--- the engine has taken what is above"));
    EXPECT_THAT(text, Not(HasSubstr("is no packet")));
    Json j = json(ring_main, "compute --last 4000", source);
    ASSERT_EQ(j.size(), 1u);
    std::vector<std::string> kernels;
    for (const Json& p : j[0]["packets"])
      if (p.contains("kernel")) kernels.push_back(p["kernel"]);
    EXPECT_THAT(kernels, testing::ElementsAre("stores", "stores", "spins"));
    EXPECT_THAT(at(ring_main, "copy", source).out, HasSubstr("SDMA_FENCE"));
    u64 ring = j[0]["address"];
    EXPECT_THAT(at(ring_main, str("--ib ", ring, " --dwords 16"), source).out, HasSubstr("WAIT_REG_MEM"));
  }
  EXPECT_THAT(at(ring_main, "compute --last 8").out, HasSubstr("RELEASE_MEM")) << "what waits is always shown";
  EXPECT_THAT(at(ring_main, "frobnicate").error, HasSubstr("compute | copy"));
  EXPECT_EQ(at(ring_main, "--follow --count 2 --interval 1").error, "");
  EXPECT_THAT(at(ring_main, "--ib 0x1000").error, HasSubstr("not mapped"));
}
TEST_F(Tools, a_command_saves_what_it_saw) {
  std::string file = folder + "/ring.snapshot";
  std::string text = at(ring_main, str("compute --save ", file)).out;
  EXPECT_EQ(at(ring_main, "compute", file).out, text);
  EXPECT_THAT(at(reg_main, "read GRBM_STATUS", file).error, HasSubstr("does not hold register"));
}

// ---- vm ------------------------------------------------------------------------------------------------------------
TEST_F(Tools, vm_walks_level_by_level) {
  u64 va = buffer();
  for (const std::string& source : sources()) {
    SCOPED_TRACE(source);
    std::string text = at(vm_main, hex(va), source).out;
    for (const char* level : {"root", "PDB2", "PDB1", "PDB0", "PTB", "-> VRAM 0x", "a buffer of 4096 bytes"})
      EXPECT_THAT(text, HasSubstr(level));
    Json j = json(vm_main, hex(va), source);
    EXPECT_TRUE(j["mapped"]);
    EXPECT_EQ(j["steps"].size(), 5u);
    EXPECT_TRUE(j["steps"][4]["leaf"]);
    EXPECT_THAT(j["steps"][4]["text"].get<std::string>(), HasSubstr("readable=1"));
  }
  Printed nothing = at(vm_main, "0x123456789000");
  EXPECT_EQ(nothing.code, 1);
  EXPECT_THAT(nothing.out, HasSubstr("not mapped"));
  EXPECT_THAT(at(vm_main, "0xffff123456789000").out, HasSubstr("is outside of 4 levels"));
  // What the kernel `stores` left there: 7 in each dword.
  EXPECT_THAT(at(vm_main, str(hex(va), " --dump 16")).out, HasSubstr("07000000 07000000 07000000 07000000"));
  EXPECT_THAT(at(vm_main, "--list").out, ContainsRegex("VRAM +0x[0-9a-f]+ +valid=1.*a buffer of 4096"));
  bool found = false;
  for (const Json& m : json(vm_main, "--list")) found |= m["address"] == va;
  EXPECT_TRUE(found);
  EXPECT_THAT(at(vm_main, "").error, HasSubstr("an address, or --list"));
  EXPECT_THAT(at(vm_main, "xyz").error, HasSubstr("got 'xyz'"));
}

// ---- wave ----------------------------------------------------------------------------------------------------------
TEST_F(Tools, wave_shows_registers_and_code_around_the_pc) {
  for (const std::string& source : sources()) {
    SCOPED_TRACE(source);
    std::string text = at(wave_main, "", source).out;
    EXPECT_THAT(text, HasSubstr(": 3 waves\n"));
    EXPECT_THAT(text, ContainsRegex("se0.sa0.wgp0.simd0.0  pc 0x[0-9a-f]+, kernel spins \\+ 0x"));
    EXPECT_THAT(text, ContainsRegex("=> 0x[0-9a-f]+  s_(branch|nop)"));
    EXPECT_THAT(text, HasSubstr("s_mov_b32 s9, 42"));
    Json j = json(wave_main, "--registers", source);
    ASSERT_EQ(j.size(), 3u);
    EXPECT_EQ(j[1]["kernel"], "spins");
    EXPECT_EQ(j[1]["scalar"][9], 42);
    EXPECT_EQ(j[2]["vector"][3][5], 5);
    EXPECT_EQ(j[0]["exec"], ~u32(0));
    EXPECT_EQ(j[0]["state"]["SQ_WAVE_PC_LO"], j[0]["pc"].get<u64>() & ~u32(0));
    EXPECT_EQ(json(wave_main, "se0.sa0.wgp0.simd0.1", source).size(), 1u);
  }
  EXPECT_THAT(at(wave_main, "se0.sa0.wgp0.simd0.9").error, HasSubstr("3 others are"));
  EXPECT_THAT(at(wave_main, "halt").error, HasSubstr("needs --yes"));
}

// ---- top -----------------------------------------------------------------------------------------------------------
TEST_F(Tools, top_shows_who_runs_what) {
  for (const std::string& source : sources()) {
    Json j = json(top_main, "--once --interval 1", source);
    ASSERT_EQ(j.size(), 1u);
    EXPECT_EQ(j[0]["running"], "spins");
    EXPECT_EQ(j[0]["launches"], 3);
    EXPECT_EQ(j[0]["kernels"], 2);
    EXPECT_GT(j[0]["memory_used_bytes"], 0);
    EXPECT_GT(j[0]["clock_mhz"], 0);
    EXPECT_EQ(j[0]["problem"], "");
  }
  Printed all = tool(top_main, "--once --json --interval 1");
  Json j = Json::parse(all.out);
  ASSERT_EQ(j.size(), 1u) << "the socket in XDG_RUNTIME_DIR";
  EXPECT_EQ(j[0]["pid"], str(job->pid));
  EXPECT_THAT(tool(top_main, "--once --interval 1").out, ContainsRegex("PID +PROCESS.*\n.*spins\n"));
}
TEST_F(Tools, the_only_process_is_found_by_itself) {
  EXPECT_EQ(tool(reg_main, "read CP_HQD_ACTIVE.active --queue 1.0.0").out, "CP_HQD_ACTIVE.active [0] = 1\n");
  EXPECT_EQ(tool(reg_main, str("read CP_HQD_ACTIVE.active --queue 1.0.0 --from ", job->pid)).out,
            "CP_HQD_ACTIVE.active [0] = 1\n");
  EXPECT_THAT(tool(reg_main, "read GRBM_STATUS --from 1").error, HasSubstr("process 1 serves no debug socket"));
  EXPECT_THAT(tool(reg_main, "read GRBM_STATUS --from nosuchfile").error, HasSubstr("no such process, socket or file"));
}

// ---- a chip of the tool's own --------------------------------------------------------------------------------------
TEST_F(Tools, on_a_model_that_the_tool_opens) {
  Scoped dev(ctx.DEV, "MODEL+AMD::gfx1100");
  Scoped no_socket(ctx.DEBUG_SOCKET, 0);
  EXPECT_THAT(tool(reg_main, "read RCC_CONFIG_MEMSIZE").out, HasSubstr("0x00001000"));
  EXPECT_THAT(tool(ring_main, "").error, HasSubstr("no queue is active"));
  EXPECT_THAT(tool(ring_main, "--boot").out, HasSubstr("compute 1.0.0 at 0x"));
  EXPECT_EQ(tool(wave_main, "--boot").out, "MODEL+AMD::gfx1100: 0 waves\n");
  EXPECT_EQ(tool(reg_main, "read CP_HQD_ACTIVE.active --queue 1.0.0 --boot").out, "CP_HQD_ACTIVE.active [0] = 1\n");
  EXPECT_THAT(tool(vm_main, "0x200000000000 --boot").out, HasSubstr("ring of the compute queue"));
  EXPECT_EQ(Json::parse(tool(top_main, "--once --json --boot --interval 1").out)[0]["running"], "");
  Scoped cpu(ctx.DEV, "CPU");
  EXPECT_THAT(tool(reg_main, "list").error, HasSubstr("has no registers to show"));
}

// ---- snapshots that are not whole ----------------------------------------------------------------------------------
TEST_F(Tools, a_damaged_snapshot_is_an_error_with_its_line) {
  std::string text = read_file(snapshot);
  auto parse = [](const std::string& t) -> std::string {
    try {
      Snapshot::parse(t, "f");
      return "";
    } catch (const Error& e) {
      return e.what();
    }
  };
  EXPECT_EQ(parse(text), "");
  EXPECT_THAT(parse("hello"), HasSubstr("f:1: not a snapshot"));
  EXPECT_THAT(parse("ingot snapshot 1\nregister 1 2\n"), HasSubstr("f:2: 2 values, not 4"));
  EXPECT_THAT(parse("ingot snapshot 1\nregister zz 0 0 00000000\n"), HasSubstr("f:2: \"zz\" is not a number"));
  EXPECT_THAT(parse("ingot snapshot 1\nregister 0x1 0 0 0000\n"), HasSubstr("f:2: a register has 4 bytes, not 2"));
  EXPECT_THAT(parse("ingot snapshot 1\nvram 0x0 0g\n"), HasSubstr("is not bytes"));
  EXPECT_THAT(parse("ingot snapshot 1\nstate {\n"), HasSubstr("f:2: not JSON"));
  u64 seed = 1;
  auto random = [&](size_t n) { return size_t((seed = seed * 6364136223846793005u + 1442695040888963407u) >> 33) % n; };
  text.resize(std::min<size_t>(text.size(), 20'000));
  for (int round = 0; round < 300; round++) {
    std::string t = text;
    for (size_t k = 0; k < 1 + random(4); k++) t[random(t.size())] = char(random(256));
    parse(t);  // an Error or not: nothing else
  }
}

}  // namespace
}  // namespace ingot
