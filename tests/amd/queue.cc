// SPDX-License-Identifier: MIT
// Packets and queues on the model, without a Device around them: one WRITE_DATA, waits between engines, timestamps,
// rings that wrap, captured steps, and what describe makes of packets.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <random>
#include "tests/amd/card.h"

namespace ingot::amd {
namespace {
using testing::HasSubstr;

struct Parts {  // brought up as device.cc does, with queues of the test's own size
  FakeShader shader;
  std::unique_ptr<model::Chip> model_chip;
  Recorder bus;
  Chip chip;
  Gmc gmc;
  Psp psp;
  Smu smu;
  Ih ih;
  Gfx gfx;
  Sdma sdma;
  std::unique_ptr<Queue> compute, copies;
  static std::unique_ptr<hw::Bus> on(std::unique_ptr<hw::Bus> b) {
    b->config_write(4, 6, 2);
    return b;
  }
  explicit Parts(const char* target = "gfx1100", i64 ring_bytes = 16 << 10)
      : model_chip(model::make_amd({.target = target, .shader = &shader})),
        bus(on(std::make_unique<model::ModelBus>(*model_chip))),
        chip(bus),
        gmc(chip),
        psp(chip, gmc),
        smu(chip, gmc),
        ih(chip, gmc),
        gfx(chip, gmc),
        sdma(chip) {
    gmc.create_tables();
    chip.write(RCC_DEV0_EPF0_RCC_DOORBELL_APER_EN{.bif_doorbell_aper_en = 1});
    gmc.init_hub(MMHUB_HUB);
    gmc.Gmc::invalidate(MMHUB_HUB);
    ih.boot();
    Firmware fw = load_firmware(chip.ip, stand_ins().firmware, false);
    psp.boot(fw);
    smu.boot();
    gfx.boot(fw, false);
    gmc.Gmc::invalidate(GFXHUB);
    sdma.boot();
    compute = std::make_unique<Queue>(chip, gmc, Queue::COMPUTE, ring_bytes);
    copies = std::make_unique<Queue>(chip, gmc, Queue::COPY, ring_bytes);
    compute->set_doorbell(gfx.start_queue(0, compute->memory()));
    copies->set_doorbell(sdma.start_queue(copies->memory()));
  }
  ~Parts() { EXPECT_TRUE(model_chip->objections.empty()) << str(model_chip->objections); }
  bool run(Queue& q, const Packets& p) { return q.wait(q.submit(p.words), 1000 * ms); }
  u32 word(const Memory& m, i64 index) {
    u32 v;
    gmc.read(m, index * 4, &v, 4);
    return v;
  }
};

TEST(queue, one_write_data) {
  for (const char* target : {"gfx1100", "gfx1201"}) {
    Parts c(target);
    Memory m = c.gmc.alloc_system(4096);
    Packets p(c.chip);
    u32 data[] = {0x12345678, 9};
    p.pm4(WRITE_DATA{.dst_sel = WRITE_DATA::MEMORY, .wr_confirm = 1, .address = m.va + 8}, data);
    EXPECT_TRUE(c.run(*c.compute, p));
    EXPECT_EQ(c.word(m, 2), 0x12345678u);
    EXPECT_EQ(c.word(m, 3), 9u);
    EXPECT_EQ(c.word(m, 1), 0u);
    EXPECT_EQ(c.compute->done(), 1u);
    EXPECT_EQ(c.compute->unread(), 0);
    c.gmc.free(m);
  }
}
TEST(queue, rings_wrap_anywhere) {
  Parts c("gfx1100", 4096);
  Memory m = c.gmc.alloc_system(8192);
  std::mt19937 random(1);
  for (int round = 0; round < 400; round++) {
    Packets p(c.chip), q(c.chip);
    std::vector<u32> data(1 + random() % 200);
    for (u32& v : data) v = u32(random());
    p.pm4(WRITE_DATA{.dst_sel = WRITE_DATA::MEMORY, .wr_confirm = 1, .address = m.va}, data);
    ASSERT_TRUE(c.run(*c.compute, p)) << round;
    for (size_t i = 0; i < data.size(); i++) ASSERT_EQ(c.word(m, i64(i)), data[i]);
    for (u32 n = random() % 5; n; n--) q.fill(m.va, u32(random()), 64);
    q.copy(m.va + 4096, m.va, i64(data.size()) * 4);
    ASSERT_TRUE(c.run(*c.copies, q)) << round;
    for (size_t i = 16; i < data.size(); i++) ASSERT_EQ(c.word(m, 1024 + i64(i)), data[i]);
    ASSERT_EQ(c.copies->unread(), 0);
  }
  std::vector<u32> huge(1024);
  EXPECT_THROW(c.compute->submit(huge), Error);
  c.gmc.free(m);
}
TEST(queue, many_submissions_wait_for_room) {
  Parts c("gfx1100", 4096);
  Memory m = c.gmc.alloc_system(4096);
  for (u32 i = 0; i < 500; i++) {
    Packets p(c.chip);
    u32 data[] = {i};
    p.pm4(WRITE_DATA{.dst_sel = WRITE_DATA::MEMORY, .wr_confirm = 1, .address = m.va + 4 * i}, data);
    c.compute->submit(p.words);
  }
  EXPECT_TRUE(c.compute->wait(500, 1000 * ms));
  for (u32 i = 0; i < 500; i++) EXPECT_EQ(c.word(m, i), i);
  c.gmc.free(m);
}
TEST(queue, engines_wait_for_each_other_and_tell_the_time) {
  for (const char* target : {"gfx1100", "gfx1201"}) {
    Parts c(target);
    Memory m = c.gmc.alloc_vram(4096), out = c.gmc.alloc_system(4096);
    // Copies first in line, but after compute; compute after copies.
    Packets q(c.chip), p(c.chip);
    q.sdma_wait(c.compute->timeline(), 1);
    q.copy(out.va, m.va, 64);
    q.sdma_timestamp(out.va + 128);
    u64 second = c.copies->submit(q.words);
    c.bus.wait_ns(5 * ms);
    EXPECT_EQ(c.copies->done(), 0u) << "it waits";
    u32 data[16] = {1, 2, 3};
    p.timestamp(out.va + 136);
    p.pm4(WRITE_DATA{.dst_sel = WRITE_DATA::MEMORY, .wr_confirm = 1, .address = m.va}, data);
    c.compute->submit(p.words);
    Packets r(c.chip);
    r.wait(c.copies->timeline(), u32(second));
    r.timestamp(out.va + 144);
    EXPECT_TRUE(c.run(*c.compute, r));
    EXPECT_EQ(c.word(out, 2), 3u);
    u64 times[3];
    c.gmc.read(out, 128, times, 24);  // copy, before, after
    EXPECT_LT(times[1], times[0] + 1);
    EXPECT_LT(times[0], times[2] + 1);
    EXPECT_GT(times[2], 0u);
    c.gmc.free(m), c.gmc.free(out);
  }
}
TEST(queue, a_step_replays_with_other_buffers_and_one_doorbell) {
  Parts c;
  c.shader.programs[1] = [](FakeShader::Run& r) {  // c = a + b
    u64 to = r.argument(0), a = r.argument(1), b = r.argument(2);
    for (i64 i = 0; i < r.items(); i++)
      r.store(to + u64(i) * 4, r.load<u32>(a + u64(i) * 4) + r.load<u32>(b + u64(i) * 4));
  };
  Memory code = c.gmc.alloc_vram(4096), m = c.gmc.alloc_system(16384);
  std::vector<u8> bytes = program(1, 3);
  c.gmc.write(code, 0, bytes.data(), i64(bytes.size()));
  c.chip.flush_hdp();
  Kernel k = parse_kernel(bytes, "add", code.va, GFX11);
  u32* words = reinterpret_cast<u32*>(m.dma.host);
  for (u32 i = 0; i < 32; i++) words[i] = i, words[1024 + i] = 100, words[2048 + i] = 5;
  // out = (x + y) + y, x and out given at replay.
  Step::Call first{&k, {1, 1, 1}, {32, 1, 1}, {m.va + 12288, 0, m.va + 4096}, {-1, 0, -1}};
  Step::Call second{&k, {1, 1, 1}, {32, 1, 1}, {0, m.va + 12288, m.va + 4096}, {1, -1, -1}};
  Step::Call calls[] = {first, second};
  Step step(c.chip, c.gmc, calls, {});
  std::vector<std::string> log;
  c.bus.log = &log;
  for (u64 x : {m.va, m.va + 8192, m.va}) {
    u64 values[] = {x, x + 2048};
    u64 done = step.replay(*c.compute, values, 1000 * ms);
    EXPECT_TRUE(c.compute->wait(done, 1000 * ms));
    size_t at = size_t(x - m.va) / 4;
    for (u32 i = 0; i < 32; i++) ASSERT_EQ(words[at + 512 + i], words[at + i] + 200);
  }
  EXPECT_EQ(std::count_if(log.begin(), log.end(), [](auto& s) { return s.starts_with("doorbell"); }), 3);
  // Replays that are not waited for do not overtake each other's arguments.
  u64 done = 0;
  for (int i = 0; i < 5; i++) {
    u64 values[] = {m.va + u64(i % 2) * 8192, m.va + 256 + u64(i) * 128};
    done = step.replay(*c.compute, values, 1000 * ms);
  }
  EXPECT_TRUE(c.compute->wait(done, 1000 * ms));
  for (u32 i = 0; i < 5; i++) EXPECT_EQ(words[64 + i * 32 + 3], (i % 2 ? 5u : 3u) + 200);
  c.gmc.free(code), c.gmc.free(m);
}
TEST(queue, telemetry_and_power) {
  Parts c;
  c.smu.set_power_limit(250);
  SMU_METRICS m = c.smu.metrics();
  EXPECT_EQ(m.dGPU_W_MAX, 250u);
  EXPECT_GT(m.AvgTemperature_EDGE, 20u);
  EXPECT_THROW(c.smu.set_power_limit(5000), DeviceError) << "the SMU refuses it";
  c.smu.set_clocks(true);
  c.smu.set_clocks(false);
  EXPECT_EQ(c.smu.send(PPSMC_MSG_TestMessage{.value = 41}), 42u);
  try {
    c.smu.send(PPSMC_MSG_TransferTableSmu2Dram{.table = SMU_TABLE::PPTABLE});
    FAIL();
  } catch (const DeviceError& e) {
    EXPECT_THAT(e.what(), HasSubstr("SMU answers FAILED to PPSMC_MSG_TransferTableSmu2Dram"));
  }
}
TEST(queue, packets_are_printed_by_name) {
  Parts c;
  Packets p(c.chip);
  Kernel k{.name = "k", .entry = 0x200000001000, .rsrc = {0, 15 << 1, 0}};
  u32 groups[3] = {4, 2, 1}, threads[3] = {32, 1, 1};
  p.dispatch(k, groups, threads, 0x200000002000, {});
  p.release(0x200000003000, 7);
  hw::RegisterMap names(rows, GFX11, c.chip.ip.bases);
  std::string text = describe_pm4(p.words, GFX11, &names);
  for (const char* line : {"SET_SH_REG", "COMPUTE_PGM_LO data=0x10", "COMPUTE_NUM_THREAD_X num_thread_full=0x20",
                           "COMPUTE_USER_DATA_0[0] data=0x2000", "DISPATCH_DIRECT dim_x=4 dim_y=2 dim_z=1",
                           "EVENT_WRITE event_type=CS_PARTIAL_FLUSH", "data=7"})
    EXPECT_THAT(text, HasSubstr(line));
  // Whatever stands in a ring is printed, and all of it.
  std::mt19937 random(3);
  for (int round = 0; round < 2000; round++) {
    std::vector<u32> words(random() % 40);
    for (u32& w : words) w = random() % 2 ? random() : 3u << 30 | (random() % 8) << 16 | (random() % 256) << 8;
    describe_pm4(words, GFX11, &names);
    describe_sdma(words, GFX12);
  }
  Packets q(c.chip);
  q.copy(1 << 20, 2 << 20, 9 << 20);
  q.sdma_fence(64, 3);
  EXPECT_THAT(describe_sdma(q.words, GFX11),
              testing::AllOf(HasSubstr("SDMA_COPY_LINEAR"), HasSubstr("count=0xfffff"), HasSubstr("SDMA_FENCE")));
}

}  // namespace
}  // namespace ingot::amd
