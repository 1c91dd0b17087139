// SPDX-License-Identifier: MIT
// What the chip says it is, whatever it says; firmware files, whatever is in them; and the order of the writes that
// bring the chip up, as text.
#include <dlfcn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>
#include <random>
#include "tests/amd/card.h"

namespace ingot::amd {
namespace {
using testing::HasSubstr;

template <class F>
std::string error_of(F f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

// A table by byte offsets (Linux, include/discovery.h).
struct Table {
  std::vector<u8> bytes = std::vector<u8>(10240);
  void u16_at(size_t at, u32 v) { bytes[at] = u8(v), bytes[at + 1] = u8(v >> 8); }
  void u32_at(size_t at, u32 v) { u16_at(at, v), u16_at(at + 2, v >> 16); }
  size_t next = 256 + 80 + 4;
  int blocks = 0;
  void block(u32 id, u32 instance, u32 major, u32 minor, u32 revision, std::vector<u32> bases) {
    u16_at(next, id), bytes[next + 2] = u8(instance), bytes[next + 3] = u8(bases.size());
    bytes[next + 4] = u8(major), bytes[next + 5] = u8(minor), bytes[next + 6] = u8(revision);
    next += 8;
    for (u32 b : bases) u32_at(next, b), next += 4;
    u16_at(256 + 80 + 2, u32(++blocks));
  }
  Table() {
    u32_at(0, 0x28211407), u16_at(4, 1), u16_at(10, 10240);
    u16_at(12, 256), u16_at(20, 4096), u16_at(28, 6144);  // blocks, graphics core, harvest
    u32_at(256, 0x53445049), u16_at(260, 3), u16_at(256 + 12, 1), u16_at(256 + 16, 256 + 80);
    block(11, 0, 11, 0, 0, {0x1260, 0xa000, 0x1c000, 0x2402c00});
    block(42, 0, 6, 0, 0, {0x1260});
    block(34, 0, 3, 0, 0, {0x1a000});
    block(34, 1, 3, 0, 0, {0x5a000});
    block(255, 0, 13, 0, 0, {0x16000});
    block(1, 0, 13, 0, 0, {0x16000});
    block(777, 0, 1, 2, 3, {1, 2, 3});
    u32_at(4096, 0x4347), u16_at(4100, 1);
    const u32 core[] = {6, 3, 1, 4, 6, 1024, 32, 32, 0, 512, 1, 32, 16, 32, 64, 1, 2};  // a 7900 XTX
    for (size_t i = 0; i < std::size(core); i++) u32_at(4108 + i * 4, core[i]);
    u32_at(6144, 0x56524148), u16_at(6152, 34), bytes[6154] = 1;
    sign();
  }
  void sign() {
    u16 sum = 0;
    for (size_t i = 10; i < bytes.size(); i++) sum = u16(sum + bytes[i]);
    u16_at(8, sum);
  }
};

TEST(discovery, a_table_is_read) {
  Discovery d = parse_discovery(Table().bytes);
  EXPECT_EQ(d.generation, GFX11);
  EXPECT_EQ(d.arch(), "gfx1100");
  EXPECT_EQ(d.compute_units(), 96);
  EXPECT_EQ(d.lds_bytes, 64 << 10);
  EXPECT_EQ(d.version(MP0).text('_'), "13_0_0");
  EXPECT_EQ((d.bases.at.at({GC, 0, 2})), 0x1c000u);
  EXPECT_EQ((d.bases.at.count({MMHUB, 1, 0})), 0u) << "fused off";
  EXPECT_THAT(error_of([&] { d.version(VCN); }), HasSubstr("no VCN"));
  Table rdna4;
  rdna4.next = 256 + 80 + 4, rdna4.blocks = 0;
  rdna4.block(11, 0, 12, 0, 1, {0x1260});
  rdna4.sign();
  EXPECT_EQ(parse_discovery(rdna4.bytes).arch(), "gfx1201");
}
TEST(discovery, errors_say_what_is_wrong) {
  auto with = [](auto change, bool sign = true) {
    Table t;
    change(t);
    if (sign) t.sign();
    return error_of([&] { parse_discovery(t.bytes); });
  };
  EXPECT_THAT(with([](Table& t) { t.bytes[0]++; }), HasSubstr("starts with 0x28211408"));
  EXPECT_THAT(with([](Table& t) { t.bytes[5000]++; }, false), HasSubstr("sum to"));
  EXPECT_THAT(with([](Table& t) { t.u16_at(10, 60000); }), HasSubstr("60000 bytes, there are 10240"));
  EXPECT_THAT(with([](Table& t) { t.u16_at(12, 10239); }), HasSubstr("outside"));
  EXPECT_THAT(with([](Table& t) { t.u16_at(256 + 12, 17); }), HasSubstr("17 dies"));
  EXPECT_THAT(with([](Table& t) { t.u16_at(256 + 80 + 2, 60000); }), HasSubstr("outside"));
  EXPECT_THAT(with([](Table& t) { t.bytes[256 + 80 + 4 + 4] = 9; }), HasSubstr("graphics core 9.0.0"));
  EXPECT_THAT(with([](Table& t) { t.u32_at(4108, 0); }), HasSubstr("0 shader engines"));
  EXPECT_THAT(with([](Table& t) { t.u16_at(4100, 2); }), HasSubstr("version 2.0"));
}
TEST(discovery, hostile_tables_end_in_an_error_or_a_plausible_chip) {
  std::mt19937 random(1);
  int good = 0;
  for (int round = 0; round < 20000; round++) {
    Table t;
    for (u32 n = 1 + random() % 4; n; n--) {
      size_t places[] = {random() % 40, 256 + random() % 300, 4096 + random() % 80, 6144 + random() % 20,
                         random() % 10240};
      t.bytes[places[random() % 5]] = u8(random());
    }
    if (random() % 8 == 0) t.bytes.resize(random() % 10240);
    if (t.bytes.size() > 10) t.sign();
    try {
      Discovery d = parse_discovery(t.bytes);
      ASSERT_GT(d.compute_units(), 0);
      ASSERT_LT(d.compute_units(), 32 * 4 * 64 + 1);
      good++;
    } catch (const Error&) {}
  }
  EXPECT_GT(good, 1000);
  EXPECT_LT(good, 19000);
  for (size_t n = 0; n < 100; n++) EXPECT_THROW(parse_discovery(std::vector<u8>(n)), Error);
}

Discovery xtx() { return parse_discovery(Table().bytes); }

TEST(firmware, parts_in_the_order_of_loading) {
  Firmware f = load_firmware(xtx(), stand_ins().firmware, false);
  std::vector<std::string> names;
  for (auto& p : f.smu) names.push_back(p.name);
  for (auto& p : f.parts) names.push_back(p.name);
  EXPECT_THAT(names,
              testing::ElementsAre("smu_13_0_0 SMU", "sdma_6_0_0 SDMA_UCODE_TH1", "sdma_6_0_0 SDMA_UCODE_TH0",
                                   "gc_11_0_0_mec RS64_MEC", "gc_11_0_0_mec RS64_MEC_P0_STACK", "gc_11_0_0_imu IMU_I",
                                   "gc_11_0_0_imu IMU_D", "gc_11_0_0_rlc RLC_RESTORE_LIST_SRM_CNTL",
                                   "gc_11_0_0_rlc RLC_RESTORE_LIST_GPM_MEM", "gc_11_0_0_rlc RLC_RESTORE_LIST_SRM_MEM",
                                   "gc_11_0_0_rlc RLC_IRAM", "gc_11_0_0_rlc RLC_DRAM_BOOT", "gc_11_0_0_rlc RLC_P",
                                   "gc_11_0_0_rlc RLC_V", "gc_11_0_0_rlc RLC_G"));
  EXPECT_EQ(f.sos.size(), 9u);
  EXPECT_EQ(f.sos.at(PSP_FW_TYPE::PSP_KDB), std::string(5002, 'C'));
  EXPECT_EQ(f.mec_start, 0x3000u);
  EXPECT_EQ(f.parts[1].bytes, std::string(3000, 's')) << "TH0 is the context part";
  EXPECT_EQ(f.parts[5].bytes, std::string(2048, 'd')) << "IMU_D";
}
// What other distributions install: each file compressed, by the library that made it.
struct Packed {
  std::string folder = str(testing::TempDir(), "ingot_firmware_", ::getpid()), path = folder + "/psp_13_0_0_sos.bin";
  Packed() { make_folders(folder); }
  ~Packed() {
    for (const char* end : {"", ".xz", ".zst"}) ::unlink((path + end).c_str());
    ::rmdir(folder.c_str());
  }
  std::optional<std::string> read() { return system_firmware(folder)("psp_13_0_0_sos"); }
};
template <class F>
F* function(const char* library, const char* name) {
  void* handle = ::dlopen(library, RTLD_NOW);
  return reinterpret_cast<F*>(handle ? ::dlsym(handle, name) : nullptr);
}
std::string packed_xz(const std::string& in) {
  auto encode = function<int(u32 preset, int check, const void* allocator, const void* in, size_t in_bytes, void* out,
                             size_t* out_at, size_t out_bytes)>("liblzma.so.5", "lzma_easy_buffer_encode");
  std::string out(in.size() + 4096, 0);
  size_t n = 0;
  if (!encode || encode(1, 1, nullptr, in.data(), in.size(), out.data(), &n, out.size())) return "";
  return out.substr(0, n);
}
std::string packed_zst(const std::string& in) {
  auto encode = function<size_t(void* out, size_t out_bytes, const void* in, size_t in_bytes, int level)>(
      "libzstd.so.1", "ZSTD_compress");
  std::string out(in.size() + 4096, 0);
  return encode ? out.substr(0, encode(out.data(), out.size(), in.data(), in.size(), 1)) : "";
}
TEST(firmware, compressed_files_are_unpacked_and_hostile_ones_refused) {
  Packed p;
  const std::string plain = stand_in("psp_13_0_0_sos");
  std::mt19937 random(4);
  using Pack = std::string (*)(const std::string&);
  for (auto [end, pack] : {std::pair<const char*, Pack>{".xz", packed_xz}, {".zst", packed_zst}}) {
    std::string good = pack(plain);
    if (good.empty()) GTEST_SKIP() << "no library for " << end;
    write_file(p.path + end, good);
    EXPECT_EQ(p.read(), plain) << end;
    int refused = 0, rounds = 300;
    for (int round = 0; round < rounds; round++) {
      std::string bad = good;
      if (round % 3 == 0)
        bad.resize(random() % bad.size());
      else if (round % 3 == 1)
        bad[random() % bad.size()] ^= char(1 << random() % 8);
      else
        bad += char(random());
      write_file(p.path + end, bad);
      try {  // zstd's frames may have no checksum: what comes out is then other bytes, which load_firmware() looks at
        if (std::optional<std::string> out = p.read()) {
          EXPECT_LE(out->size(), plain.size() + 4096);
        }
      } catch (const Error& e) {
        EXPECT_THAT(e.what(), testing::AllOf(HasSubstr(p.path + end), HasSubstr("does not unpack")));
        refused++;
      }
    }
    EXPECT_GT(refused, rounds / 2) << end;
    write_file(p.path + end, pack(std::string(64 << 20, 0)));  // little that becomes much
    EXPECT_THAT(error_of([&] { p.read(); }), HasSubstr("does not unpack")) << end;
    write_file(p.path + end, "");
    EXPECT_TRUE(end == std::string(".zst") || !error_of([&] { p.read(); }).empty());
    ::unlink((p.path + end).c_str());
  }
  write_file(p.path + ".xz", packed_xz("other"));
  write_file(p.path, plain);
  EXPECT_EQ(p.read(), plain) << "what is not compressed comes first";
}
TEST(firmware, what_is_absent_short_or_different_is_named) {
  Discovery ip = xtx();
  auto missing = [](std::string_view name) {
    return name.ends_with("_imu") ? std::nullopt : std::optional(stand_in(name));
  };
  EXPECT_THAT(error_of([&] { load_firmware(ip, missing, false); }),
              testing::AllOf(HasSubstr("gc_11_0_0_imu.bin"), HasSubstr("linux-firmware")));
  EXPECT_THAT(error_of([&] { load_firmware(ip, stand_ins().firmware, true); }),
              testing::AllOf(HasSubstr("psp_13_0_0_sos: SHA-256"), HasSubstr("b5592f46885585b935e013f46c949db8")));
  EXPECT_THAT(error_of([&] { load_firmware(ip, system_firmware("/nonexistent"), true); }),
              HasSubstr("no firmware psp_13_0_0_sos"));
  // Every prefix of every file, and random bytes in its header.
  std::mt19937 random(2);
  int refused = 0;
  for (int round = 0; round < 3000; round++) {
    u32 which = random() % 8, cut = random();
    u32 at = 0;
    auto broken = [&](std::string_view name) {
      std::string b = stand_in(name);
      if (at++ != which) return std::optional(b);
      if (cut % 2)
        b.resize(random() % b.size());
      else
        for (int i = 0; i < 3; i++) b[random() % 220] = char(random());
      return std::optional(b);
    };
    try {
      Firmware f = load_firmware(ip, broken, false);
      for (auto& p : f.parts) ASSERT_LT(p.bytes.size(), 100000u);
    } catch (const Error&) {
      refused++;
    }
  }
  EXPECT_GT(refused, 1000);
}

// ---- the order of a cold boot --------------------------------------------------------------------------------------
struct Log {
  std::vector<std::string> lines;
  hw::RegisterMap map;
  size_t find(std::string_view start, size_t from = 0) const {
    for (size_t i = from; i < lines.size(); i++)
      if (std::string_view(lines[i]).starts_with(start)) return i;
    ADD_FAILURE() << "nothing starts with " << start << " after line " << from;
    return lines.size();
  }
};
TEST(boot, writes_in_the_order_that_the_hardware_needs) {
  auto chip = model::make_amd({.target = "gfx1100"});
  Log log;
  {
    auto bus = std::make_unique<Recorder>(std::make_unique<model::ModelBus>(*chip));
    bus->config_write(4, 2, 2);
    {
      Chip probe(*bus);  // for the names
      log.map = hw::RegisterMap(rows, probe.generation(), probe.ip.bases);
    }
    bus->log = &log.lines;
    bus->text = [&, indirect = u64(0)](u64 dword, u32 value) mutable {
      if (const hw::RegisterName* n = log.map.find(dword); n && n->layout == &layout_BIF_BX_PF0_RSMU_INDEX)
        return indirect = value / 4, std::string();
      else if (n && n->layout == &layout_BIF_BX_PF0_RSMU_DATA)
        dword = indirect;
      const hw::RegisterName* n = log.map.find(dword);
      return n ? str(n->text(), " ", describe_fields(*n->layout, {&value, 1}, GFX11), " ", hex(value, 8))
               : "?" + hex(dword);
    };
    auto device = open(std::move(bus), stand_ins());
  }
  EXPECT_TRUE(chip->objections.empty()) << str(chip->objections);
  // Blocks, each after the one it needs.
  size_t at = 0;
  for (const char* start : {"config 0x4 = 0x6",
                            "SCRATCH_REG0[6] scratch_reg0=1",
                            "RCC_DEV0_EPF2_STRAP2",
                            "RCC_DEV0_EPF0_RCC_DOORBELL_APER_EN",
                            "MMMC_VM_AGP_BASE",
                            "MMVM_CONTEXT0_PAGE_TABLE_BASE_ADDR_LO32",
                            "MMVM_CONTEXT0_CNTL",
                            "MMVM_INVALIDATE_ENG0_REQ[17]",
                            "IH_RB_BASE",
                            "IH_RB_CNTL[0]",
                            "MP0_SMN_C2PMSG_36",
                            "MP0_SMN_C2PMSG_35 content=LOAD_KEY_DATABASE",
                            "MP0_SMN_C2PMSG_69",
                            "MP0_SMN_C2PMSG_67",
                            "MP1_SMN_C2PMSG_66",
                            "GCMC_VM_AGP_BASE",
                            "GCVM_CONTEXT0_CNTL",
                            "CP_MEC_RS64_PRGRM_CNTR_START",
                            "RLC_CNTL",
                            "S2A_DOORBELL_ENTRY_0_CTRL[0]",
                            "SH_MEM_CONFIG",
                            "CP_MEC_DOORBELL_RANGE_UPPER",
                            "CP_MEC_RS64_CNTL mec_pipe0_active=1",
                            "GCVM_INVALIDATE_ENG0_REQ[17]",
                            "SDMA0_WATCHDOG_CNTL",
                            "RLC_SAFE_MODE",
                            "SCRATCH_REG0[7]",
                            "CP_HQD_PQ_BASE",
                            "CP_HQD_ACTIVE active=1",
                            "GRBM_GFX_CNTL",
                            "SDMA0_QUEUE0_RB_BASE",
                            "SDMA0_QUEUE0_RB_CNTL"}) {
    std::string_view s = start;
    if (s.find("LOAD_KEY") != s.npos) s = "MP0_SMN_C2PMSG_35";
    at = log.find(s, at);
  }
  // Worked values of the reference tables, from AM's settings.
  for (auto [name, value] :
       std::initializer_list<std::pair<const char*, u32>>{{"GCVM_CONTEXT0_CNTL", 0x01fffe07},
                                                          {"MMVM_INVALIDATE_ENG0_REQ[17]", 0x00f80001},
                                                          {"GCVM_L2_CNTL3", 0x80130009},
                                                          {"GCMC_VM_MX_L1_TLB_CNTL", 0x1859},
                                                          {"SH_MEM_CONFIG", 0xc00c},
                                                          {"CP_HQD_PQ_DOORBELL_CONTROL", 0x40000018},
                                                          {"CP_HQD_PERSISTENT_STATE", 0x5501},
                                                          {"CP_HQD_EOP_CONTROL", 0x9},
                                                          {"CP_HQD_IB_CONTROL", 0x300000},
                                                          {"CP_HQD_QUANTUM", 0x111},
                                                          {"IH_RB_CNTL[0]", 0xc0310020},
                                                          {"S2A_DOORBELL_ENTRY_0_CTRL[0]", 0x30000007},
                                                          {"S2A_DOORBELL_ENTRY_0_CTRL[3]", 0x3000000d},
                                                          {"S2A_DOORBELL_ENTRY_0_CTRL[2]", 0x3009001d}})
    EXPECT_THAT(log.lines[log.find(name)], testing::EndsWith(hex(value, 8))) << name;
  // Whoever selects a queue's bank puts it back before anything else is written.
  std::string selected;
  for (const std::string& line : log.lines) {
    if (line.starts_with("GRBM_GFX_CNTL")) selected = line.ends_with("0x00000000") ? "" : line;
    bool banked = line.starts_with("CP_HQD_") || line.starts_with("CP_MQD_") ||
                  line.starts_with("SPI_COMPUTE_QUEUE_RESET") || line.starts_with("CP_MEC_RS64_PRGRM");
    bool neutral = line.starts_with("GRBM_GFX_CNTL") || line.starts_with("?") || line.starts_with("SH_MEM_") ||
                   line.find("HDP") != line.npos;
    EXPECT_TRUE((!banked && neutral) || selected.empty() == !banked) << line;
  }
}

TEST(boot, debug_prints_registers_and_packets_by_name) {
  auto chip = model::make_amd({.target = "gfx1201"});
  testing::internal::CaptureStderr();
  {
    Scoped debug(ctx.DEBUG, 7);
    auto device = open(std::make_unique<model::ModelBus>(*chip), stand_ins());
    BufferRef b = device->alloc(1 << 20);
    std::vector<u8> v(1 << 20);
    device->copy_in(*b, 0, v.data(), 1 << 20);
  }
  std::string out = testing::internal::GetCapturedStderr();
  for (const char* line :
       {"write NBIO RCC_DEV0_EPF0_RCC_DOORBELL_APER_EN bif_doorbell_aper_en=1\n", "write GC GRBM_GFX_CNTL meid=1\n",
        "read  MP0 MP0_SMN_C2PMSG_81", "write MMHUB MMVM_INVALIDATE_ENG0_REQ[17] per_vmid_invalidate_req=1",
        "amd model 0: cold boot\n", "SDMA_COPY_LINEAR", "SDMA_FENCE"})
    EXPECT_THAT(out, HasSubstr(line));
}
struct Nothing final : hw::Bus {  // every register reads the same
  i64 clock = 0;
  u32 answer = ~u32(0);
  std::string name() const override { return "nothing"; }
  u32 config_read(u32, int) override { return answer; }
  void config_write(u32, u32, int) override {}
  hw::Bar bar(int i) override { return {i == 0 ? 256 * mib : mib, 0, false}; }
  u32 read32(int, u64) override { return answer; }
  void write32(int, u64, u32) override {}
  void write64(int, u64, u64) override {}
  void copy_from(int, u64, void* to, i64 bytes) override { std::memset(to, int(answer & 255), size_t(bytes)); }
  void copy_to(int, u64, const void*, i64) override {}
  void flush_writes() override {}
  hw::DmaMemory dma_alloc(i64, bool) override { return {}; }
  void dma_free(hw::DmaMemory&) override {}
  u64 wait_interrupt(i64) override { return 0; }
  i64 now_ns() override { return clock += 1000; }
  void wait_ns(i64 ns) override { clock += ns; }
  bool reset(hw::Reset) override { return false; }
};
TEST(boot, a_bus_without_a_chip_or_with_a_foreign_one) {
  EXPECT_THAT(error_of([] { open(std::make_unique<Nothing>(), stand_ins()); }), HasSubstr("does not answer"));
  for (u32 answer : {1u, 256u, 4096u}) {
    auto bus = std::make_unique<Nothing>();
    bus->answer = answer;
    EXPECT_THAT(error_of([&] { open(std::move(bus), stand_ins()); }), HasSubstr("discovery table: starts with"));
  }
}

}  // namespace
}  // namespace ingot::amd
