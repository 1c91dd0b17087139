// SPDX-License-Identifier: MIT
// The waits, hazard fillers and delay hints that insert_waits() puts into machine code, and the pairs that
// pair_instructions() makes: of small programs, as text, and of the kernels that clang compiled, whose own are taken
// out first. Those must still leave what the host leaves, the checker must not object, they must not wait more than
// clang has them wait, and every single wait must be missed when it is taken out.
#include "compiler/codegen/codegen.h"
#include "tests/emu/harness.h"

namespace ingot::isa {
namespace {

const Isa& gfx1100() {
  static const Isa& isa = *find_isa("rdna", "gfx1100");
  return isa;
}
const Target target{"rdna", "gfx1100", 0, 1};

bool has_text(const CodeLine& line, std::string_view name) { return line.inst.row && name_of(*line.inst.row) == name; }
bool is_self_move(const Instruction& in) {
  return name_of(*in.row) == "v_mov_b32" && in.op[0] == in.op[1] && !rdna::Modifiers::of(in.modifiers).dpp_kind;
}
bool is_filler(const Instruction& in) {
  std::string_view name = name_of(*in.row);
  return name.starts_with("s_waitcnt") || name == "s_delay_alu" || name == "s_nop" || name == "v_nop" ||
         is_self_move(in);
}

// ---- text ----------------------------------------------------------------------------------------------------------
MachineCode lines_of(std::string_view text) {
  MachineCode code;
  std::map<std::string, int> labels;
  auto label = [&](std::string_view name) { return labels.emplace(name, int(labels.size())).first->second; };
  for (std::string_view s : split(text, '\n')) {
    while (!s.empty() && s[0] == ' ') s.remove_prefix(1);
    if (s.empty()) continue;
    CodeLine line;
    if (s.back() == ':') {
      line.kind = CodeLine::LABEL, line.label = label(s.substr(0, s.size() - 1));
    } else {
      std::string one(s), error;
      if (size_t space = s.rfind(' '); one.find("branch") != one.npos)
        line.kind = CodeLine::JUMP, line.label = label(s.substr(space + 1)), one = str(s.substr(0, space), " 0");
      if (!gfx1100().parse(one, line.inst, error)) throw Error(one, ": ", error);
    }
    code.lines.push_back(line);
  }
  return code;
}
std::string text_of(const MachineCode& code, bool hints) {
  std::string out;
  for (const CodeLine& line : code.lines) {
    if (line.kind == CodeLine::LABEL) out += str("L", line.label, ":\n");
    if (!line.inst.row || (!hints && has_text(line, "s_delay_alu"))) continue;
    std::string text = gfx1100().print(line.inst);
    if (line.kind == CodeLine::JUMP) text = str(text.substr(0, text.rfind(' ')), " L", line.label);
    out += text + "\n";
  }
  return out;
}
// Lines of `text` that begin with + are what insert_waits() must add, and all that it may add.
void expect_waits(std::string_view text, bool hints = false) {
  std::string before, after;
  for (std::string_view line : split(text, '\n')) {
    while (!line.empty() && line[0] == ' ') line.remove_prefix(1);
    bool added = line.starts_with("+");
    if (added) line.remove_prefix(1);
    if (!added) before += str(line, "\n");
    after += str(line, "\n");
  }
  MachineCode code = lines_of(before);
  insert_waits(code, target);
  EXPECT_EQ(text_of(code, hints), text_of(lines_of(after), true));
}

TEST(Wait, CountersOfLoads) {
  // the first reader waits, and only as much as it must
  expect_waits(R"(global_load_b32 v1, v0, s[2:3]
                  global_load_b32 v2, v0, s[2:3] offset:4
                  global_load_b32 v3, v0, s[2:3] offset:8
                  v_mov_b32 v9, 0
                 +s_waitcnt vmcnt(2)
                  v_add_f32 v4, v1, v1
                  v_add_f32 v5, v1, v1
                 +s_waitcnt vmcnt(0)
                  v_add_f32 v4, v3, v2)");
  // an overwriting one too, unless it comes through the same queue
  expect_waits(R"(global_load_b64 v[2:3], v0, s[2:3]
                  ds_load_b32 v5, v0
                  global_load_b32 v3, v0, s[2:3]
                  ds_load_b32 v5, v1
                 +s_waitcnt vmcnt(1)
                  v_mov_b32 v2, 0
                 +s_waitcnt vmcnt(0)
                  ds_load_b32 v3, v0
                 +s_waitcnt lgkmcnt(1)
                  global_load_b32 v5, v0, s[2:3])");
  // scalar loads answer in any order
  expect_waits(R"(s_load_b64 s[4:5], s[0:1], 0x0
                  s_load_b32 s6, s[0:1], 0x8
                  ds_load_b32 v1, v0
                  ds_load_b32 v2, v0 offset:4
                 +s_waitcnt lgkmcnt(1)
                  v_mov_b32 v1, v1
                 +s_waitcnt lgkmcnt(0)
                  v_add_nc_u32 v3, s4, v2
                  s_mov_b32 s7, s6)");
  // several counters, one instruction
  expect_waits(R"(s_load_b32 s6, s[0:1], 0x8
                  global_load_b32 v1, v0, s[2:3]
                 +s_waitcnt vmcnt(0) lgkmcnt(0)
                  v_add_nc_u32 v3, s6, v1)");
  // flat answers through both
  expect_waits(R"(flat_load_b32 v1, v[2:3]
                 +s_waitcnt vmcnt(0) lgkmcnt(0)
                  global_load_b32 v1, v0, s[2:3])");
  // an address, a branch, an implicit operand
  expect_waits(R"(s_load_b32 vcc_lo, s[0:1], 0x0
                 +s_waitcnt lgkmcnt(0)
                  s_cbranch_vccz over
                  ds_load_b32 v1, v0
                 +s_waitcnt lgkmcnt(0)
                  ds_load_b32 v2, v1
                 over:
                  s_endpgm)");
  expect_waits(R"(s_sendmsg_rtn_b32 s4, sendmsg(MSG_RTN_GET_REALTIME)
                 +s_waitcnt lgkmcnt(0)
                  s_mov_b32 s5, s4)");
}

TEST(Wait, Stores) {
  // what a store reads may be overwritten, and nothing waits for it at the end
  expect_waits(R"(global_store_b32 v0, v1, s[2:3]
                  ds_store_b32 v0, v1
                  v_mov_b32 v1, 0
                  s_endpgm)");
  // atomics that return the old value are loads
  expect_waits(R"(global_atomic_add_u32 v1, v0, v2, s[2:3] glc
                  global_atomic_add_u32 v0, v2, s[2:3]
                 +s_waitcnt vmcnt(0)
                  v_mov_b32 v3, v1)");
}

TEST(Wait, BarriersAndCaches) {
  expect_waits(R"(ds_store_b32 v0, v1
                 +s_waitcnt lgkmcnt(0)
                  s_barrier
                  s_barrier
                  global_store_b32 v0, v1, s[2:3]
                 +s_waitcnt_vscnt null, 0x0
                  s_barrier
                  global_atomic_add_u32 v1, v0, v2, s[2:3] glc
                  global_load_b32 v7, v0, s[2:3]
                 +s_waitcnt vmcnt(1)
                  s_barrier
                  scratch_store_b32 off, v0, off offset:4
                  s_barrier
                  s_load_b32 s6, s[0:1], 0x8
                  s_barrier
                 +s_waitcnt vmcnt(0) lgkmcnt(0)
                  buffer_gl0_inv
                  v_mov_b32 v8, v7)");
}

TEST(Wait, ControlFlow) {
  // a load of the iteration before is waited for where the loop begins again
  expect_waits(R"(global_load_b32 v1, v0, s[2:3]
                 loop:
                 +s_waitcnt vmcnt(0)
                  v_mov_b32 v2, v1
                  global_load_b32 v1, v0, s[2:3]
                  s_cmp_lg_u32 s4, s5
                  s_cbranch_scc1 loop
                  s_endpgm)");
  // only there, when nothing is on its way at the entry; two loads deep
  expect_waits(R"(v_mov_b32 v1, 0
                  v_mov_b32 v2, 0
                 loop:
                 +s_waitcnt vmcnt(1)
                  v_mov_b32 v4, v1
                  v_mov_b32 v1, v0
                 inner:
                  s_cmp_lg_u32 s6, s7
                  s_cbranch_scc1 inner
                 +s_waitcnt vmcnt(0)
                  v_mov_b32 v3, v2
                  global_load_b32 v1, v0, s[2:3]
                  global_load_b32 v2, v0, s[2:3]
                  s_cmp_lg_u32 s4, s5
                  s_cbranch_scc1 loop
                  s_endpgm)");
  // where paths meet the stricter one counts
  expect_waits(R"(global_load_b32 v1, v0, s[2:3]
                  s_cbranch_scc1 over
                  global_load_b32 v2, v0, s[2:3]
                  global_load_b32 v3, v0, s[2:3]
                 over:
                 +s_waitcnt vmcnt(0)
                  v_mov_b32 v2, v1
                  global_load_b32 v3, v0, s[2:3]
                  s_branch end
                  v_mov_b32 v3, v3
                 end:
                 +s_waitcnt vmcnt(0)
                  v_mov_b32 v5, v3)");
  // a call
  expect_waits(R"(s_load_b64 s[4:5], s[0:1], 0x0
                  global_load_b32 v1, v0, s[2:3]
                  v_rcp_f32 v2, v0
                 +s_waitcnt vmcnt(0) lgkmcnt(0)
                 +s_waitcnt_depctr depctr_va_vdst(0)
                  s_swappc_b64 s[30:31], s[4:5]
                  v_add_f32 v3, v2, v1
                 +s_waitcnt vmcnt(0) lgkmcnt(0)
                 +s_waitcnt_vscnt null, 0x0
                  s_barrier
                  s_endpgm)");
  // code that returns has been called
  expect_waits(R"(+s_waitcnt vmcnt(0) lgkmcnt(0)
                 +s_waitcnt_vscnt null, 0x0
                  s_barrier
                  s_barrier
                  s_setpc_b64 s[30:31])");
}

TEST(Wait, Hazards) {
  expect_waits(R"(v_rcp_f32 v1, v0
                 +s_waitcnt_depctr depctr_va_vdst(0)
                  v_add_f32 v2, v1, v1
                  v_add_f32 v2, v1, v1)");
  std::string five, six;
  for (int i = 0; i < 6; i++) (i < 5 ? five : six) += str("v_mov_b32 v", i + 10, ", 0\n");
  expect_waits(str("v_rcp_f32 v1, v0\n", five, "+s_waitcnt_depctr depctr_va_vdst(0)\nv_add_f32 v2, v1, v1"));
  expect_waits(str("v_rcp_f32 v1, v0\n", five, six, "v_add_f32 v2, v1, v1"));
  expect_waits("v_rcp_f32 v1, v0\nv_rcp_f32 v2, v0\nv_rcp_f32 v3, v0\nv_add_f32 v2, v1, v1");
  expect_waits("v_rcp_f32 v1, v0\nv_rcp_f32 v2, v0\n+s_waitcnt_depctr depctr_va_vdst(0)\nv_add_f32 v2, v1, v1");
  expect_waits("v_rcp_f32 v1, v0\nds_store_b32 v0, v1\nv_add_f32 v2, v1, v1");  // memory has waited
  expect_waits(R"(v_mov_b32 v1, 0
                 loop:
                 +s_waitcnt_depctr depctr_va_vdst(0)
                  v_dual_add_f32 v2, v3, v1 :: v_dual_mov_b32 v5, 0
                  v_rcp_f32 v1, v0
                  s_cbranch_scc1 loop)");
  expect_waits(R"(v_cmpx_eq_u32 v0, v1
                 +v_mov_b32 v3, v3
                  v_permlane16_b32 v1, v3, 0, 0
                  v_cmpx_eq_u32 v0, v1
                  v_mov_b32 v2, v3
                  v_permlane16_b32 v1, v3, 0, 0
                  v_cmpx_eq_u32 v0, v1
                  v_nop
                 +v_mov_b32 v3, v3
                  v_permlanex16_b32 v1, v3, 0, 0)");
  const char *wmma = "v_wmma_f32_16x16x16_f16 v[24:31], v[8:15], v[16:23], v[32:39]\n",
             *uses_d = "v_wmma_f32_16x16x16_f16 v[40:47], v[8:15], v[31:38], v[48:55]\n",
             *adds_d = "v_wmma_f32_16x16x16_f16 v[24:31], v[8:15], v[16:23], v[24:31]\n";
  expect_waits(str(wmma, "+v_nop\n", uses_d));
  expect_waits(str(wmma, adds_d, adds_d, "v_mov_b32 v0, 0\n", uses_d));
}

TEST(Wait, Delays) {
  expect_waits(R"(v_add_f32 v1, v0, v0
                  v_mov_b32 v5, 0
                 +s_delay_alu instid0(VALU_DEP_2) | instskip(NEXT) | instid1(VALU_DEP_2)
                  v_add_f32 v2, v1, v1
                  v_add_f32 v3, v5, v5
                  s_mov_b32 s4, 0
                 +s_delay_alu instid0(SALU_CYCLE_1)
                  v_add_f32 v4, s4, v0)",
               true);
  // a transcendental result: of instructions that the hazard lets pass
  expect_waits(R"(v_exp_f32 v1, v0
                  v_exp_f32 v2, v0
                 +s_waitcnt_depctr depctr_va_vdst(0)
                  v_add_f32 v3, v1, v0
                  v_add_f32 v3, v2, v0)",
               true);
  expect_waits(R"(v_rsq_f64 v[2:3], v[0:1]
                  v_exp_f32 v1, v0
                  v_exp_f32 v1, v0
                 +s_delay_alu instid0(TRANS32_DEP_3)
                  v_mov_b32 v4, v2)",
               true);
  expect_waits("v_add_f32 v1, v0, v0\nglobal_store_b32 v0, v1, s[2:3]\nv_add_f32 v2, v1, v1", true);
}

// ---- pairs ---------------------------------------------------------------------------------------------------------
std::string paired(std::string_view text) {
  MachineCode code = lines_of(text);
  pair_instructions(code, target);
  return text_of(code, true);
}
void expect_pairs(std::string_view before, std::string_view after) {
  EXPECT_EQ(paired(before), text_of(lines_of(after), true));
}
TEST(Pair, WhatThePairsMayBe) {
  expect_pairs("v_add_f32 v0, v1, v2\nv_mul_f32 v3, v4, v5", "v_dual_add_f32 v0, v1, v2 :: v_dual_mul_f32 v3, v4, v5");
  for (const char* apart : {"v_add_f32 v0, v1, v2\nv_mul_f32 v4, v4, v5",                 // results both even
                            "v_sub_f32 v0, v1, v2\nv_sub_f32 v3, v5, v4",                 // first sources: a bank
                            "v_sub_f32 v0, v1, v2\nv_sub_f32 v3, v4, v6",                 // second ones
                            "v_add_f32 v0, v1, v1\nv_mul_f32 v3, v5, v5",                 // whichever way round
                            "v_fma_f32 v0, v1, v2, v4\nv_mov_b32 v3, 0",                  // adds to another
                            "v_fmac_f32 v0, v1, v2\nv_fmamk_f32 v3, v4, 0x42280000, v6",  // third ones
                            "v_add_f32 v0, s1, v2\nv_fmamk_f32 v3, s4, 0x42280000, v5",   // three scalars
                            "v_mov_b32 v0, 0x42280000\nv_mov_b32 v1, 0x42290000",         // two literals
                            "v_lshlrev_b32 v0, 2, v2\nv_and_b32 v3, 1, v5",               // second halves only
                            "v_cndmask_b32 v0, v1, v2, s4\nv_mov_b32 v3, 0",              // not VCC
                            "v_add_f32 v0, |v1|, v2\nv_mov_b32 v3, 0",                    // modifiers
                            "v_add_f32 v0, v1, v2 clamp\nv_mov_b32 v3, 0",                //
                            "v_mov_b32_dpp v0, v0 row_shl:1 row_mask:0xf bank_mask:0xf\nv_mov_b32 v3, 0",
                            "v_add_f32 v0, v1, v2\nv_mul_f32 v3, v0, v5",   // needs the first
                            "v_add_f32 v0, v1, v2\nv_xor_b32 v3, v4, v5"})  // has no half
    EXPECT_EQ(paired(apart), text_of(lines_of(apart), true)) << apart;
  // the second alone can only be the second half
  expect_pairs("v_and_b32 v0, 1, v2\nv_mov_b32 v3, v4", "v_dual_mov_b32 v3, v4 :: v_dual_and_b32 v0, 1, v2");
  expect_pairs("v_cndmask_b32 v0, s3, v2, vcc_lo\nv_cndmask_b32 v3, 1.0, v5, vcc_lo",
               "v_dual_cndmask_b32 v0, s3, v2 :: v_dual_cndmask_b32 v3, 1.0, v5");
  expect_pairs("v_mov_b32 v0, 0x42280000\nv_fmaak_f32 v1, s4, v2, 0x42280000",
               "v_dual_mov_b32 v0, 0x42280000 :: v_dual_fmaak_f32 v1, s4, v2, 0x42280000");
  // sources change places where that helps, and an FMA adds to its result
  expect_pairs("v_add_f32 v0, v1, v2\nv_mul_f32 v3, v5, v4", "v_dual_add_f32 v0, v1, v2 :: v_dual_mul_f32 v3, v4, v5");
  expect_pairs("v_fma_f32 v0, v1, s2, v0\nv_sub_f32 v3, v4, v6",
               "v_dual_fmac_f32 v0, s2, v1 :: v_dual_sub_f32 v3, v4, v6");
  // both read before either writes
  expect_pairs("v_mov_b32 v0, v1\nv_mov_b32 v1, v2", "v_dual_mov_b32 v0, v1 :: v_dual_mov_b32 v1, v2");
}
TEST(Pair, WhatMayBeCrossed) {
  const char *first = "v_add_f32 v0, v1, v2\n", *second = "v_mul_f32 v3, v4, v5\n",
             *both = "v_dual_add_f32 v0, v1, v2 :: v_dual_mul_f32 v3, v4, v5\n";
  auto expect = [&](std::string_view between, std::string_view after) {
    expect_pairs(str(first, between, "\n", second), after);
  };
  expect("v_xor_b32 v6, v4, v1", str(both, "v_xor_b32 v6, v4, v1"));
  expect("v_xor_b32 v4, v6, v7", str("v_xor_b32 v4, v6, v7\n", both));  // the first moves
  expect("v_xor_b32 v6, v3, v7", str("v_xor_b32 v6, v3, v7\n", both));
  expect("v_xor_b32 v3, v6, v7", str("v_xor_b32 v3, v6, v7\n", both));
  expect("s_nop 0", str(both, "s_nop 0"));
  expect("global_load_b32 v9, v8, s[2:3]", str(both, "global_load_b32 v9, v8, s[2:3]"));
  for (const char* between : {"v_xor_b32 v4, v0, v7", "s_mov_b32 exec_lo, s4", "v_cmpx_eq_u32 v6, v7", "s_barrier",
                              "here:", "s_cbranch_scc0 there", "s_round_mode 0x1", "v_movrels_b32 v8, v9"}) {
    std::string text = str(first, between, "\n", second, "there:\n");
    EXPECT_EQ(paired(text), text_of(lines_of(text), true)) << between;
  }
}

// ---- the kernels of clang with our waits ---------------------------------------------------------------------------
struct Tally {
  // Instructions; counts of 0 among the waits. At calls clang waits behind the entry, we before a call and a return:
  // not comparable.
  i64 waits = 0, drains = 0, at_calls = 0, depctr = 0, fillers = 0, hints = 0, pairs = 0;
  std::vector<std::string> recent;
  void add(const Instruction& in) {
    std::string text = gfx1100().print(in);
    if (text.starts_with("s_waitcnt_depctr")) depctr++;
    if (text.starts_with("s_waitcnt") && !text.starts_with("s_waitcnt_depctr")) recent.push_back(text);
    if (!is_filler(in)) {
      for (const std::string& wait : recent) {
        bool call = in.row->traits & Inst::LEAVES || wait.find("expcnt") != wait.npos;
        (call ? at_calls : waits)++;
        for (const char* zero : {"vmcnt(0)", "lgkmcnt(0)", "null, 0x0"})
          drains += !call && wait.find(zero) != wait.npos;
      }
      recent.clear();
    }
    fillers += text == "v_nop" || is_self_move(in);
    hints += text.starts_with("s_delay_alu");
    pairs += in.second != nullptr;
  }
};
// A code object whose functions are taken apart, given new waits and put behind its other bytes. What is relative to
// the program counter is put right: branches, and s_getpc_b64 with the additions that follow.
struct Rewritten {
  CodeObject object;
  Tally clangs, ours;
  i64 broken_clauses = 0;

  Rewritten(const CodeObject& from, bool pairs) : object(from), pairs_(pairs) {
    std::vector<Function> functions;
    for (auto [at, bytes] : from.functions) functions.push_back(take_apart(at, bytes));
    for (Function& f : functions)
      if (pairs) pair_instructions(f.code, target);
    u64 end = (object.image.size() + 255) & ~u64(255);
    for (Function& f : functions) {
      insert_waits(f.code, target);
      f.at = end;
      moved_[f.from] = f.at;
      u64 bytes = 0;
      for (const CodeLine& line : f.code.lines) bytes += size(line);
      f.bytes = bytes, end = (end + bytes + 255) & ~u64(255);
    }
    object.image.resize(end + 256);
    for (Function& f : functions) put_together(f);
    for (Kernel& k : object.kernels) {
      u64 was = k.entry;
      k.entry = moved_.at(was);
      for (const Function& f : functions)
        if (f.from == was) k.bytes = f.bytes;
    }
  }

 private:
  struct Function {
    u64 from = 0, at = 0, bytes = 0;
    MachineCode code;
  };
  std::vector<u64> targets_;  // of s_getpc_b64; CodeLine::label of its lines is the position here
  std::map<u64, u64> moved_;  // functions

  bool pairs_;

  static u64 size(const CodeLine& line) {
    std::vector<u8> bytes;
    if (line.inst.row) check(gfx1100().encode(line.inst, bytes), gfx1100().print(line.inst));
    return bytes.size();
  }
  Function take_apart(u64 at, u64 bytes) {
    Function f;
    f.from = at;
    std::map<u64, int> labels;
    std::vector<std::pair<u64, CodeLine>> lines;
    for (u64 pc = at, n; pc < at + bytes; pc += n) {
      CodeLine line;
      n = gfx1100().decode(std::span(object.image).subspan(pc, 12), line.inst);
      check(n, "nothing decodes at ", hex(pc));
      if (operands_of(*line.inst.row).size() && operands_of(*line.inst.row)[0].pc_relative) {
        u64 to = pc + n + u64(line.inst.op[0].imm * 4);
        check(to >= at && to <= at + bytes, "a branch leaves its function at ", hex(pc));
        line.kind = CodeLine::JUMP, line.label = labels.emplace(to, int(labels.size())).first->second;
      }
      lines.push_back({pc, line});
      if (!has_text(line, "s_getpc_b64")) continue;
      lines.back().second.label = int(targets_.size());
      targets_.push_back(pc + n);
    }
    for (size_t i = 0; i < lines.size(); i++) {
      if (!has_text(lines[i].second, "s_getpc_b64")) continue;
      u32 reg = lines[i].second.inst.op[0].reg;
      int destination = lines[i].second.label, parts = 0;
      for (size_t k = i + 1; k < std::min(i + 8, lines.size()) && parts < 2; k++)
        for (bool high : {false, true}) {
          CodeLine& line = lines[k].second;
          Operand* o = line.inst.op;
          if (!has_text(line, high ? "s_addc_u32" : "s_add_u32") || o[0].reg != reg + high) continue;
          check(o[1].reg == reg + high && o[2].kind == Operand::IMM, "not an address");
          targets_[size_t(destination)] += u64(o[2].imm & 0xffffffff) << 32 * high;
          line.label = destination, parts++;
        }
      check(parts == 2, "s_getpc_b64 without an addition");
    }
    for (size_t i = 0; i < lines.size(); i++) {
      auto& [pc, line] = lines[i];
      if (auto label = labels.find(pc); label != labels.end()) {
        CodeLine mark;
        mark.kind = CodeLine::LABEL, mark.label = label->second;
        f.code.lines.push_back(mark);
      }
      clangs.add(line.inst);
      bool frees = has_text(line, "s_nop") && i + 1 < lines.size() && has_text(lines[i + 1].second, "s_sendmsg");
      if (is_filler(line.inst) && !frees) continue;
      f.code.lines.push_back(line);
      if (pairs_ && line.inst.second) split(f.code.lines);
    }
    if (auto label = labels.find(at + bytes); label != labels.end()) {
      CodeLine mark;
      mark.kind = CodeLine::LABEL, mark.label = label->second;
      f.code.lines.push_back(mark);
    }
    return f;
  }
  // The last line, a pair, as two instructions, unless each needs the other's registers as they were.
  static void split(std::vector<CodeLine>& lines) {
    Instruction half[2];
    std::set<u32> reads[2], writes[2];
    const Instruction both = lines.back().inst;
    for (int k = 0, at = 0; k < 2; k++) {
      const Inst& row = k ? *both.second : *both.row;
      half[k].row = gfx1100().rows_named(str("v_", name_of(row).substr(strlen("v_dual_"))))[0];
      for (int i = 0; i < row.shown; i++) half[k].op[half[k].n++] = both.op[at++];
      if (half[k].row->shown > row.shown) half[k].op[half[k].n++] = reg(RegClass::SCALAR, 32, rdna::VCC_LO);
      each_allocated(half[k], [&](u32 r, const OperandSpec& s, int) {
        if (s.access & OperandSpec::READ) reads[k].insert(r);
        if (s.access & OperandSpec::WRITE) writes[k].insert(r);
      });
    }
    for (int first : {0, 1}) {
      if (reads[!first].contains(*writes[first].begin())) continue;
      lines.back().inst = half[first];
      lines.push_back(lines.back());
      lines.back().inst = half[!first];
      return;
    }
  }
  void put_together(const Function& f) {
    std::map<int, u64> labels, counters;
    u64 pc = f.at;
    for (const CodeLine& line : f.code.lines) {
      if (line.kind == CodeLine::LABEL) labels[line.label] = pc;
      pc += size(line);
      if (has_text(line, "s_getpc_b64")) counters[line.label] = pc;
    }
    pc = f.at;
    i64 clause = 0;
    for (const CodeLine& line : f.code.lines) {
      if (!line.inst.row) continue;
      Instruction in = line.inst;
      ours.add(in);
      broken_clauses += clause > 0 && is_filler(in);
      clause = has_text(line, "s_clause") ? in.op[0].imm + 1 : std::max<i64>(0, clause - 1);
      pc += size(line);
      if (line.kind == CodeLine::JUMP) in.op[0].imm = (i64(labels.at(line.label)) - i64(pc)) / 4;
      if (line.kind == CodeLine::INST && line.label >= 0 && !has_text(line, "s_getpc_b64")) {
        u64 to = targets_[size_t(line.label)];
        if (moved_.contains(to)) to = moved_.at(to);
        to -= counters.at(line.label);
        in.op[2].imm = i32(has_text(line, "s_addc_u32") ? to >> 32 : to);
        in.op[2].modifiers |= rdna::LITERAL;
      }
      std::vector<u8> bytes;
      check(gfx1100().encode(in, bytes) && bytes.size() == size(line), gfx1100().print(in));
      std::copy(bytes.begin(), bytes.end(), object.image.begin() + i64(pc - bytes.size()));
    }
  }
};
template <bool pairs>
std::vector<Rewritten>& rewritten() {
  static std::vector<Rewritten> all = [] {
    std::vector<Rewritten> r;
    for (const CodeObject& object : clang().objects) r.emplace_back(object, pairs);
    return r;
  }();
  return all;
}

void expect_results(std::vector<Rewritten>& all) {
#ifdef __SANITIZE_ADDRESS__
  const int share = 4;  // of the kernels one in so many: a run is slow here
#else
  const int share = 1;
#endif
  int kernels = 0;
  for (Rewritten& r : all) {
    Machine machine(r.object);
    for (const Kernel& k : r.object.kernels) {
      if (kernels++ % share) continue;
      Outcome outcome = machine.run(k, u32(kernels));
      EXPECT_EQ(outcome.result.kind, hw::WaveResult::DONE)
          << k.name << ": " << outcome.result.message << " pc " << outcome.result.pc;
      if (outcome.result.kind != hw::WaveResult::DONE) continue;
      EXPECT_EQ(outcome.out, clang().host->run(k.name)) << k.name;
    }
    EXPECT_EQ(r.broken_clauses, 0);
  }
  std::printf("%d kernels\n", kernels);
  EXPECT_GE(kernels, 200);
}
TEST(Wait, KernelsGiveWhatTheHostGives) {
  if (!clang().missing.empty()) GTEST_SKIP() << clang().missing;
  expect_results(rewritten<false>());
}
TEST(Pair, KernelsGiveWhatTheHostGives) {
  if (!clang().missing.empty()) GTEST_SKIP() << clang().missing;
  expect_results(rewritten<true>());
  for (size_t o = 0; o < clang().objects.size(); o++) {
    const Rewritten& r = rewritten<true>()[o];
    std::printf("-O%zu pairs: clang %lld, ours %lld; waits: clang %lld, ours %lld\n", o, (long long)r.clangs.pairs,
                (long long)r.ours.pairs, (long long)r.clangs.waits, (long long)r.ours.waits);
    EXPECT_GE(r.ours.pairs, r.clangs.pairs);
    EXPECT_LE(r.ours.waits, r.clangs.waits);
  }
}

TEST(Wait, NoMoreThanClang) {
  if (!clang().missing.empty()) GTEST_SKIP() << clang().missing;
  for (size_t o = 0; o < rewritten<false>().size(); o++) {
    const Tally &a = rewritten<false>()[o].clangs, &b = rewritten<false>()[o].ours;
    auto row = [&](const char* name, i64 Tally::*n) {
      std::printf("-O%zu %-28s clang %5lld, ours %5lld\n", o, name, (long long)(a.*n), (long long)(b.*n));
    };
    row("waits", &Tally::waits), row("counts of 0", &Tally::drains), row("waits at calls", &Tally::at_calls);
    row("s_waitcnt_depctr", &Tally::depctr);
    row("v_nop, v_mov v, v", &Tally::fillers), row("s_delay_alu", &Tally::hints);
    EXPECT_LE(b.waits, a.waits);
    EXPECT_LE(b.drains, a.drains);
    EXPECT_LE(b.depctr, a.depctr);
  }
}

void expect_ours_missed(i64 share) {
  if (!clang().missing.empty()) GTEST_SKIP() << clang().missing;
  std::vector<CodeObject> objects;
  for (const Rewritten& r : rewritten<false>()) objects.push_back(r.object);
  expect_missed(objects, share);
}
TEST(Wait, AMissingOneIsReported) { expect_ours_missed(4); }
TEST(Wait, DISABLED_LongEveryMissingOneIsReported) { expect_ours_missed(1); }

}  // namespace
}  // namespace ingot::isa
