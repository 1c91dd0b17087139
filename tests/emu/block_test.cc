// SPDX-License-Identifier: MIT
// Compiled blocks against the evaluator.
//
// Random programs over every row that becomes a graph: v8 to v31 and s32 to s63 hold random words, many of them special
// floats, EXEC and VCC random masks; afterwards everything goes to memory, which must be the same bits in both modes.
#include "tests/emu/harness.h"

namespace ingot::isa {
namespace {

constexpr u32 first_v = 8, most_v = 24, first_s = 32, most_s = 32;

class RandomPrograms {
 public:
  explicit RandomPrograms(u32 seed) : random_(seed) {
    std::string here = __FILE__, file = read_file(here.substr(0, here.rfind("emu/")) + "isa/golden/rdna.txt");
    for (std::string_view line : split(file, '\n')) {
      if (line.empty() || line[0] == '#') continue;
      std::vector<u8> code;
      for (size_t i = 0; i + 1 < line.find('\t'); i += 2)
        code.push_back(u8(std::stoul(std::string(line.substr(i, 2)), nullptr, 16)));
      auto c = emu::decode(isa_, code, 0);
      if (c->bytes && !c->ends && emu::has_graph(*c)) all_.push_back(c->in), rows_.insert(name_of(*c->in.row));
    }
    in_.resize(8192 / 4);
    constexpr u32 special[] = {0x8000,     0x80008000, 1,          2,          31,         32,         ~0u,
                               0x7f800000, 0xff800000, 0x7fc12345, 0xffa00001, 0x3f800000, 0xbf800000, 0x4f000000,
                               0xcf000000, 0x4f800000, 0x00000001, 0x807fffff, 0x7bff7c00, 0xfc017e01, 0x80003c00,
                               0x7fefffff, 0x3ff00000, 0x43e00000, 0xc3e00000};
    for (u32& x : in_) {
      const u32 kind = random_() % 4;  // zeros with either sign are many, so that they meet
      x = kind == 0 ? u32(random_() % 2) << 31 : kind == 1 ? special[random_() % std::size(special)] : u32(random_());
    }
    in_[4000 / 4] = random_() % 2 ? ~0u : u32(random_());  // EXEC
  }
  size_t size() const { return all_.size(); }
  size_t rows() const { return rows_.size(); }
  // Encoding n with registers of the test's.
  std::optional<Instruction> instruction(size_t n) {
    for (int tries = 0; tries < 50; tries++) {  // pairs want registers of different banks
      Instruction in = all_[n];
      for (int k = 0; k < in.n; k++) {
        Operand& o = in.op[k];
        if (o.kind != Operand::REG) continue;
        u32 words = std::max(1, (o.bits + 31) / 32);
        if (o.cls == RegClass::VECTOR)
          o.reg = first_v + u32(random_()) % (most_v - words + 1);
        else if (o.reg < 128 && o.reg != rdna::VCC_LO && o.reg != rdna::NULL_REGISTER)
          o.reg = first_s + u32(random_()) % (most_s / words) * words;
      }
      std::vector<u8> bytes;
      if (isa_.encode(in, bytes)) return in;
    }
    return std::nullopt;
  }
  std::vector<u8> run(std::span<const Instruction> program, hw::BlockCompiler* blocks) {
    std::string start = "v_lshlrev_b32 v1, 2, v0\n s_mov_b64 s[4:5], s[2:3]\n", end;
    for (u32 i = 0; i < most_v; i++)
      start += str("global_load_b32 v", first_v + i, ", v1, s[4:5] offset:", i * 128, "\n");
    for (u32 i = 0; i < most_s; i += 16)
      start += str("s_load_b512 s[", first_s + i, ":", first_s + i + 15, "], s[4:5], ", hex(3200 + i * 4), "\n");
    start +=
        "s_load_b64 vcc, s[4:5], 0xfa8\n s_load_b32 s8, s[4:5], 0xfa0\n s_waitcnt vmcnt(0) lgkmcnt(0)\n "
        "s_mov_b32 exec_lo, s8\n "
        "s_cmp_lg_u32 s32, 0\n";
    end = "s_cselect_b32 s6, 1, 0\n s_mov_b32 s7, exec_lo\n s_mov_b32 exec_lo, -1\n";
    for (u32 i = 0; i < most_v; i++)
      end += str("global_store_b32 v1, v", first_v + i, ", s[0:1] offset:", i * 128, "\n");
    end += "s_add_u32 s0, s0, 3072\n s_addc_u32 s1, s1, 0\n";
    auto scalar = [&](std::string_view name, u32 at) {
      end += str("v_mov_b32 v2, ", name, "\n global_store_b32 v1, v2, s[0:1] offset:", at * 128, "\n");
      if (at == 31) end += "s_add_u32 s0, s0, 4096\n s_addc_u32 s1, s1, 0\n";
    };
    for (u32 i = 0; i < most_s; i++) scalar(str("s", first_s + i), i % 32);
    scalar("vcc_lo", 0), scalar("vcc_hi", 1), scalar("s6", 2), scalar("s7", 3);
    std::vector<u8> code = assemble(isa_, start), tail = assemble(isa_, end + "s_endpgm");
    for (const Instruction& in : program) isa_.encode(in, code);
    code.insert(code.end(), tail.begin(), tail.end());
    HostMemory memory;
    memory.regions.push_back({image_base, code, false});
    memory.regions.push_back({out_base, std::vector<u8>(12288), true});
    memory.regions.push_back({in_base, std::vector<u8>(8192), false});
    memcpy(memory.regions[2].bytes.data(), in_.data(), 8192);
    emu::EmulatorOptions options;
    options.checker = false, options.unaligned = true, options.blocks = blocks, options.hot = 0;
    auto wave = emu::make_emulator(options);
    hw::Dispatch d;
    d.threads[0] = 32, d.entry = image_base, d.rsrc[0] = 7 | 0xf0 << 12, d.rsrc[1] = 16 << 1;
    u64 pointers[2] = {out_base, in_base};
    memcpy(d.user_data, pointers, 16);
    wave->start(d, memory);
    hw::WaveResult r = wave->step(10000);
    EXPECT_EQ(r.kind, hw::WaveResult::DONE) << r.message;
    return memory.regions[1].bytes;
  }
  const Isa& isa() const { return isa_; }

 private:
  const Isa& isa_ = *find_isa("rdna", "gfx1100");
  std::mt19937 random_;
  std::vector<Instruction> all_;
  std::set<std::string_view> rows_;
  std::vector<u32> in_;
};

void blocks_agree(const char* arch, u32 seed, size_t stride) {
  hw::BlockCompiler* blocks = host_blocks(arch);
  if (!blocks) GTEST_SKIP() << "this host has no back end " << arch;
  constexpr size_t length = 12;
  RandomPrograms programs(seed);
  std::set<std::string> wrong;
  size_t ran = 0;
  for (size_t n = seed % stride; n < programs.size();) {
    std::vector<Instruction> program;
    for (; program.size() < length && n < programs.size(); n += stride)
      if (auto in = programs.instruction(n)) program.push_back(*in);
    ran += program.size();
    if (programs.run(program, nullptr) == programs.run(program, blocks)) continue;
    size_t first = 1;
    auto agrees = [&](size_t count) {
      std::span part(program.data(), count);
      return programs.run(part, nullptr) == programs.run(part, blocks);
    };
    while (first < program.size() && agrees(first)) first++;
    wrong.insert(programs.isa().print(program[first - 1]));
  }
  std::printf("%zu of %zu encodings, %zu rows\n", ran, (programs.size() + stride - 1) / stride, programs.rows());
  EXPECT_GT(ran + 5, programs.size() / stride);
  for (const std::string& line : wrong) ADD_FAILURE() << "the block and the evaluator disagree after " << line;
  EXPECT_GT(programs.rows(), 450u);
}
TEST(Blocks, AgreeWithTheEvaluatorOnEveryRow) { blocks_agree("", 1, 1); }
TEST(Blocks, AgreeOnOtherRegistersAndWords) {
  for (u32 seed : {2, 3, 4, 5}) blocks_agree("", seed, 7);
}
TEST(Blocks, AgreeWithTheNarrowerBackEnd) { blocks_agree("avx2", 6, 3); }

// Sums of floats depend on their order: every group adds to one word, by atomic operations in a loop.
TEST(Groups, ThreadsDoNotChangeWhatComesOut) {
  std::vector<u8> code =
      assemble(*find_isa("rdna", "gfx1100"),
               "v_mov_b32 v2, 0\n v_cvt_f32_u32 v1, v0\n v_cvt_f32_u32 v3, s16\n"
               "v_fma_f32 v1, v3, 0x3dcccccd, v1\n v_mul_f32 v1, 0x3eaaaaab, v1\n s_movk_i32 s8, 20\n"
               "again:\n global_atomic_add_f32 v2, v1, s[0:1]\n v_mul_f32 v1, 0x3f8147ae, v1\n"
               "s_sub_u32 s8, s8, 1\n s_cmp_lg_u32 s8, 0\n s_cbranch_scc1 again\n s_endpgm");
  auto sum = [&](int threads, hw::BlockCompiler* blocks) {
    Scoped width(ctx.THREADS, threads);
    HostMemory memory;
    memory.regions.push_back({image_base, code, false});
    memory.regions.push_back({out_base, std::vector<u8>(4096), true});
    emu::EmulatorOptions options;
    options.checker = false, options.blocks = blocks, options.hot = 3;
    auto wave = emu::make_emulator(options);
    hw::Dispatch d;
    d.groups[0] = 100, d.threads[0] = 64, d.entry = image_base, d.rsrc[0] = 3 | 0xf0 << 12,
    d.rsrc[1] = 16 << 1 | 1 << 7;
    memcpy(d.user_data, &out_base, 8);
    wave->start(d, memory);
    hw::WaveResult r;
    i64 instructions = 0;
    for (int i = 0; i < 1000 && (r = wave->step(500)).kind == hw::WaveResult::RUNNING; i++)
      instructions += r.instructions;
    EXPECT_EQ(r.kind, hw::WaveResult::DONE) << r.message;
    EXPECT_EQ(instructions + r.instructions, 100 * 2 * (6 + 20 * 5 + 1));
    u32 bits;
    memcpy(&bits, memory.regions[1].bytes.data(), 4);
    return bits;
  };
  const u32 alone = sum(1, nullptr);
  EXPECT_NE(alone, 0u);
  for (int run = 0; run < 5; run++)
    for (int threads : {1, 2, 4})
      EXPECT_EQ(sum(threads, run % 2 ? host_blocks() : nullptr), alone) << threads << " threads";
}

}  // namespace
}  // namespace ingot::isa
