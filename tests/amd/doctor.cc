// SPDX-License-Identifier: MIT
// The doctor finds a model healthy, and stops at the step where the chip is broken.
#if defined(CONFIG_TOOL_DOCTOR) && defined(CONFIG_ISA_RDNA)
#include "tools/doctor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include "compiler/runtime/runtime.h"
#include "tests/amd/card.h"

namespace ingot::amd {
namespace {
using model::Injection;
using testing::HasSubstr;

struct Patient {
  model::Chip& chip = make_model({"MODEL", "AMD", "gfx1100", 0});
  Recorder* recorder = nullptr;
  DoctorReport examine(const std::function<void(std::string_view)>& before = {}) {
    chip.on_objection = nullptr;
    return examine_amd(std::make_unique<model::ModelBus>(chip), true, before);
  }
};

TEST(doctor, a_model_is_healthy) {
  Patient p;
  DoctorReport r = p.examine();
  EXPECT_TRUE(r.right()) << text_of(r);
  EXPECT_EQ(r.steps.size(), 10u);
  EXPECT_THAT(text_of(r), HasSubstr("a model: this shows that the doctor works"));
  auto j = nlohmann::json::parse(json_of(r));
  EXPECT_EQ(j["steps"].size(), 10u);
  EXPECT_EQ(j["steps"][7]["name"], "matrix");
  EXPECT_EQ(j["steps"][7]["facts"][0]["seen"], "256");
  EXPECT_TRUE(j["right"]);
  for (const std::string& what : p.chip.objections) EXPECT_THAT(what, HasSubstr("page fault")) << "the one of step 9";
  EXPECT_TRUE(p.examine().right()) << "a second time, warm, after a fault";
}
TEST(doctor, stops_at_the_step_that_is_wrong) {
  constexpr std::pair<const char*, Injection> cases[] = {
      {"bus", Injection::SURPRISE_REMOVAL},
      {"discovery", Injection::SURPRISE_REMOVAL},
      {"boot", Injection::PSP_REFUSAL},
      {"page table", Injection::ECC},
      {"copy", Injection::ECC},
      {"constant", Injection::HANG},
      {"matrix", Injection::PAGE_FAULT},
      {"fault", Injection::HANG},
      {"timing", Injection::HANG},
      {"nop", Injection::SURPRISE_REMOVAL},
  };
  for (auto [step, what] : cases) {
    Patient p;
    DoctorReport r = p.examine([&](std::string_view name) {
      if (name == step) p.chip.inject(what);
    });
    ASSERT_FALSE(r.steps.empty());
    EXPECT_EQ(r.steps.back().name, step) << text_of(r);
    EXPECT_FALSE(r.right());
    EXPECT_FALSE(r.steps.back().right());
    EXPECT_THAT(text_of(r), HasSubstr(str("WRONG  ", step)));
    EXPECT_FALSE(nlohmann::json::parse(json_of(r))["right"]);
  }
}
// A bus that gives one wrong bit where the tables are: what silicon would do if a row were wrong.
TEST(doctor, names_the_fact) {
  struct Wrong final : hw::Bus {
    explicit Wrong(model::Chip& chip) : bus(chip) {}
    model::ModelBus bus;
    std::string name() const override { return bus.name(); }
    u32 config_read(u32 o, int n) override { return bus.config_read(o, n); }
    void config_write(u32 o, u32 v, int n) override { bus.config_write(o, v, n); }
    hw::Bar bar(int i) override { return bus.bar(i); }
    u32 read32(int b, u64 o) override { return bus.read32(b, o); }
    void write32(int b, u64 o, u32 v) override { bus.write32(b, o, v); }
    void write64(int b, u64 o, u64 v) override { bus.write64(b, o, v); }
    void copy_from(int b, u64 o, void* t, i64 n) override {
      bus.copy_from(b, o, t, n);
      if (n == 8) *static_cast<u8*>(t) ^= 1;  // an entry's valid bit
    }
    void copy_to(int b, u64 o, const void* f, i64 n) override { bus.copy_to(b, o, f, n); }
    void flush_writes() override { bus.flush_writes(); }
    hw::DmaMemory dma_alloc(i64 n, bool c) override { return bus.dma_alloc(n, c); }
    void dma_free(hw::DmaMemory& m) override { bus.dma_free(m); }
    u64 wait_interrupt(i64 d) override { return bus.wait_interrupt(d); }
    i64 now_ns() override { return bus.now_ns(); }
    void wait_ns(i64 n) override { bus.wait_ns(n); }
    bool reset(hw::Reset k) override { return bus.reset(k); }
  };
  Patient p;
  DoctorReport r = examine_amd(std::make_unique<Wrong>(p.chip), true);
  EXPECT_EQ(r.steps.back().name, "page table");
  EXPECT_EQ(r.steps.back().facts.back().expected, "valid, in VRAM");
  EXPECT_THAT(r.steps.back().facts.back().what, HasSubstr("level 1"));
}

}  // namespace
}  // namespace ingot::amd
#endif
