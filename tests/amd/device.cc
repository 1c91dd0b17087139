// SPDX-License-Identifier: MIT
// The driver on the model of the chip, strict: boot, copies, launches, steps, and what goes wrong.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>
#include <random>
#include "tests/amd/card.h"

namespace ingot::amd {
namespace {
using testing::HasSubstr;

struct Machine {
  FakeShader shader;
  std::unique_ptr<model::Chip> chip;
  std::unique_ptr<Device> device;
  explicit Machine(const char* target = "gfx1100", i64 visible = 0, i64 vram = 256 * mib) {
    chip = model::make_amd({.target = target, .vram_bytes = vram, .visible_vram_bytes = visible, .shader = &shader});
    shader.programs[1] = [](FakeShader::Run& r) {  // c = a + b, 32 bits
      u64 c = r.argument(0), a = r.argument(1), b = r.argument(2);
      for (i64 i = 0; i < r.items() && r.ok; i++)
        r.store(c + u64(i) * 4, r.load<u32>(a + u64(i) * 4) + r.load<u32>(b + u64(i) * 4));
    };
    shader.programs[2] = nullptr;  // never ends
    shader.programs[3] = [](FakeShader::Run& r) { r.store(r.argument(0), u32(7)); };
  }
  Device& open() { return *(device = amd::open(std::make_unique<model::ModelBus>(*chip), stand_ins())); }
  void expect_objection(const char* of) {  // the model's own word for what the test does to it
    EXPECT_THAT(chip->objections, testing::Each(HasSubstr(of)));
    chip->objections.clear();
  }
  ~Machine() {
    device.reset();
    EXPECT_TRUE(chip->objections.empty()) << str(chip->objections);
  }
};
std::vector<u32> numbers(i64 n, u32 seed) {
  std::mt19937 random(seed);
  std::vector<u32> v(static_cast<size_t>(n));
  for (u32& x : v) x = u32(random());
  return v;
}
BufferRef buffer_of(Device& d, const std::vector<u32>& v) {
  BufferRef b = d.alloc(i64(v.size()) * 4);
  d.copy_in(*b, 0, v.data(), i64(v.size()) * 4);
  return b;
}
std::vector<u32> contents(Device& d, const Buffer& b) {
  std::vector<u32> v(size_t(b.bytes / 4));
  d.copy_out(v.data(), b, 0, b.bytes);
  return v;
}
void launch(Device& d, Code& code, std::vector<u64> arguments, u32 groups = 1, u32 threads = 32) {
  std::vector<void*> params;
  for (u64 a : arguments) params.push_back(reinterpret_cast<void*>(a));
  Launch l{.code = &code, .params = params.data(), .groups = {groups, 1, 1}, .threads = {threads, 1, 1}};
  d.run({&l, 1});
}
void add_vectors(Device& d, i64 n) {
  auto x = numbers(n, 1), y = numbers(n, 2);
  BufferRef a = buffer_of(d, x), b = buffer_of(d, y), c = d.alloc(n * 4);
  auto code = d.load(program(1, 3), "add");
  launch(d, *code, {c->address, a->address, b->address}, u32(n / 32));
  d.wait();
  auto z = contents(d, *c);
  for (size_t i = 0; i < z.size(); i++) ASSERT_EQ(z[i], x[i] + y[i]) << i;
}

TEST(device, one_process_drives_a_chip) {
  Machine m;
  amd::Options o = stand_ins();
  o.exclusive = true;
  auto bus = [&](const char* address) { return std::make_unique<model::ModelBus>(*m.chip, address); };
  m.device = amd::open(bus("0000:03:00.0"), o);
  try {
    amd::open(bus("0000:03:00.0"), o);
    FAIL() << "opened twice";
  } catch (const Error& e) {
    EXPECT_THAT(e.what(),
                testing::AllOf(HasSubstr("0000:03:00.0.lock is held by process "), HasSubstr(str(::getpid()))));
  }
  add_vectors(*m.device, 128);  // nobody has touched it
  { FileLock other(str(runtime_folder(), "/0000:83:00.0.lock")); }
  m.device.reset();
  m.device = amd::open(bus("0000:03:00.0"), o);
  add_vectors(*m.device, 128);
}

TEST(device, cold_boot_and_a_vector_addition) {
  for (const char* target : {"gfx1100", "gfx1201"}) {
    Machine m(target);
    Device& d = m.open();
    EXPECT_EQ(d.info().arch, target);
    EXPECT_EQ(d.info().memory_bytes, 256 * mib);
    EXPECT_EQ(d.info().threads, 8);
    add_vectors(d, 1024);
    const hw::Dispatch& last = m.shader.dispatches.back();
    EXPECT_EQ(last.groups[0], 32u);
    EXPECT_EQ(last.threads[0], 32u);
    EXPECT_TRUE(last.wave32);
  }
}
TEST(device, copies_of_every_size_reach_all_of_vram) {
  for (i64 visible : {i64(0), 64 * mib}) {  // large BAR; small BAR, whose end is inside of what is allocated
    Machine m("gfx1100", visible);
    Device& d = m.open();
    std::mt19937 random(3);
    std::vector<std::pair<BufferRef, std::vector<u32>>> held;
    for (i64 bytes : {4, 60, 4096, 4100, 65536, 65540, 1 << 20, (1 << 20) + 4, 5 << 20, 40 << 20}) {
      auto v = numbers(bytes / 4, u32(bytes));
      held.emplace_back(buffer_of(d, v), v);
    }
    for (auto& [b, v] : held) EXPECT_EQ(contents(d, *b), v) << b->bytes;
    auto& [b, v] = held[8];  // a part, at odd places
    for (int round = 0; round < 20; round++) {
      i64 at = i64(random() % (5 << 20)), n = std::min<i64>(i64(random() % 100000), (5 << 20) - at);
      std::string bytes(size_t(n), char(round + 1)), back(size_t(n), 0);
      d.copy_in(*b, at, bytes.data(), n);
      std::memcpy(reinterpret_cast<u8*>(v.data()) + at, bytes.data(), size_t(n));
      d.copy_out(back.data(), *b, at, n);
      ASSERT_EQ(back, bytes);
    }
    EXPECT_EQ(contents(d, *b), v);
  }
}
TEST(device, memory_comes_back_and_its_end_is_an_error) {
  Machine m;
  Device& d = m.open();
  for (int round = 0; round < 50; round++) {
    BufferRef a = d.alloc(60 * mib), b = d.alloc(60 * mib);
    EXPECT_NE(a->address, b->address);
    try {
      d.alloc(60 * mib);
      FAIL() << "160 MiB do not hold 180";
    } catch (const DeviceError& e) {
      EXPECT_THAT(e.what(), HasSubstr("out of memory"));
      EXPECT_THAT(e.state, HasSubstr("largest block"));
    }
  }
  add_vectors(d, 64);
}
TEST(device, launches_in_order_each_sees_the_ones_before) {
  Machine m;
  Device& d = m.open();
  auto v = numbers(64, 5);
  BufferRef a = buffer_of(d, v), b = d.alloc(256);
  auto code = d.load(program(1, 3), "add");
  // Enough for both halves of the arguments and for the ring to be used again and again.
  for (int round = 0; round < 40; round++) {
    std::vector<Launch> list;
    std::vector<void*> params = {reinterpret_cast<void*>(a->address), reinterpret_cast<void*>(a->address),
                                 reinterpret_cast<void*>(a->address)};
    for (int i = 0; i < 300; i++)
      list.push_back({.code = code.get(), .params = params.data(), .groups = {2, 1, 1}, .threads = {32, 1, 1}});
    if (round % 8) list.resize(1);
    d.run(list);
    for (u32& x : v)
      for (size_t i = 0; i < std::min<size_t>(list.size(), 32); i++) x += x;
  }
  d.wait();
  EXPECT_EQ(contents(d, *a), v);
  auto greedy = d.load(program(1, 3, 100 << 10), "greedy");
  EXPECT_THROW(launch(d, *greedy, {0, 0, 0}), Error) << "LDS";
  EXPECT_THROW(d.load(std::vector<u8>(10), "short"), Error);
}
TEST(device, scratch_is_there_when_a_kernel_wants_it) {
  Machine m;
  Device& d = m.open();
  BufferRef a = d.alloc(4);
  auto code = d.load(program(3, 1, 0, 100), "spills");
  launch(d, *code, {a->address});
  d.wait();
  const hw::Dispatch& last = m.shader.dispatches.back();
  EXPECT_GE(last.scratch_wave_bytes, 100 * 32);
  EXPECT_NE(last.scratch_base, 0u);
  EXPECT_EQ(contents(d, *a)[0], 7u);
}
TEST(device, warm_attach_after_a_clean_end_cold_after_a_crash) {
  Machine m;
  m.open();
  add_vectors(*m.device, 64);
  m.device.reset();
  EXPECT_THAT(m.open().info().description, HasSubstr("attached"));
  add_vectors(*m.device, 64);
  // A process that dies: its bus goes, and nothing is put in order. What it leaves marked as in use is not attached to.
  m.device.reset();
  {
    Recorder* recorder = nullptr;
    auto bus = std::make_unique<Recorder>(std::make_unique<model::ModelBus>(*m.chip));
    recorder = bus.get();
    std::vector<std::string> log;
    recorder->log = &log;
    Chip chip(*recorder);
    chip.write_raw(layout_SCRATCH_REG0, 1, {.index = 6});
  }
  EXPECT_THAT(m.open().info().description, testing::Not(HasSubstr("attached")));
  add_vectors(*m.device, 64);
}
TEST(device, a_hang_is_reported_and_the_process_goes_on) {
  Machine m;
  Device& d = m.open();
  BufferRef a = d.alloc(4096);
  auto endless = d.load(program(2, 1), "endless");
  launch(d, *endless, {a->address});
  try {
    d.wait();
    FAIL() << "it ended";
  } catch (const DeviceError& e) {
    EXPECT_THAT(e.what(), HasSubstr("no progress for 10000 ms"));
    EXPECT_THAT(e.state, HasSubstr("endless"));
    EXPECT_THAT(e.state, HasSubstr("CP_HQD_ACTIVE active=1"));
    EXPECT_THAT(e.state, HasSubstr("restarted"));
  }
  add_vectors(d, 256);
}
TEST(device, a_page_fault_names_the_buffer) {
  Machine m;
  Device& d = m.open();
  BufferRef a = d.alloc(5000);
  auto code = d.load(program(3, 1), "stores");
  launch(d, *code, {a->address + 8192 + 64});
  try {
    d.wait();
    FAIL() << "no fault";
  } catch (const DeviceError& e) {
    EXPECT_THAT(e.what(), HasSubstr("page fault"));
    EXPECT_THAT(e.state, HasSubstr("PROTECTION_FAULT_STATUS"));
    EXPECT_THAT(e.state, HasSubstr("0 bytes after a buffer of 8192 bytes at " + hex(a->address))) << e.state;
    EXPECT_THAT(e.state, HasSubstr("interrupt UTCL2_FAULT of GFX, vmid 0, page " + hex(a->address + 8192)));
  }
  m.expect_objection("page fault");
  add_vectors(d, 256);
}
TEST(device, injected_faults_end_in_an_error_or_in_the_right_numbers) {
  using model::Injection;
  for (Injection what : {Injection::HANG, Injection::PAGE_FAULT, Injection::LOST_DOORBELL}) {
    Machine m;
    Device& d = m.open();
    for (int round = 0; round < 3; round++) {
      m.chip->inject(what);
      try {
        add_vectors(d, 64);
      } catch (const DeviceError& e) {
        EXPECT_THAT(e.state, HasSubstr("restarted")) << e.what();
      }
      add_vectors(d, 64);
    }
    m.expect_objection("page fault");
  }
  Machine m;
  m.chip->inject(Injection::PSP_REFUSAL);
  EXPECT_THROW(m.open(), DeviceError);
  m.expect_objection("refused (injected)");
  m.open();
  add_vectors(*m.device, 64);
}
TEST(device, random_faults_never_hang_and_never_give_a_wrong_number) {
  using model::Injection;
  constexpr Injection kinds[] = {Injection::HANG, Injection::PAGE_FAULT, Injection::LOST_DOORBELL, Injection::ECC};
  for (const char* target : {"gfx1100", "gfx1201"}) {
    Machine m(target);
    Device& d = m.open();
    std::mt19937 random(7);
    auto code = d.load(program(1, 3), "add");
    auto x = numbers(256, 1), y = numbers(256, 2);
    BufferRef a = buffer_of(d, x), b = buffer_of(d, y), c = d.alloc(1024);
    int failed = 0, fine = 0;
    for (int round = 0; round < 150; round++) {
      if (random() % 3 == 0) m.chip->inject(kinds[random() % 4]);
      try {
        if (random() % 2) d.copy_in(*a, 0, x.data(), 1024);
        launch(d, *code, {c->address, a->address, b->address}, 8);
        if (random() % 2) d.wait();
        if (random() % 4 == 0) m.chip->inject(kinds[random() % 4]);
        BufferRef other = d.alloc(1 + i64(random() % 100000));
        std::vector<u32> z = contents(d, *c);
        for (size_t i = 0; i < z.size(); i++) ASSERT_EQ(z[i], x[i] + y[i]) << round;
        fine++;
      } catch (const DeviceError& e) {
        ASSERT_THAT(e.state, HasSubstr("restarted")) << e.what();
        failed++;
      }
    }
    EXPECT_GT(failed, 30);
    EXPECT_GT(fine, 30);
    m.expect_objection("page fault");
  }
}
TEST(device, a_card_that_leaves_the_bus_is_an_error_and_not_a_hang) {
  Machine m;
  Device& d = m.open();
  BufferRef a = d.alloc(4096);
  std::vector<u32> v(1024);
  m.chip->inject(model::Injection::SURPRISE_REMOVAL);
  EXPECT_THROW(d.copy_out(v.data(), *a, 0, 4096), DeviceError);
  EXPECT_THROW(d.copy_in(*a, 0, v.data(), 4096), DeviceError);
  EXPECT_THROW(d.alloc(4096), DeviceError);
  a = {};
  m.device.reset();
  EXPECT_THROW(m.open(), DeviceError);
}

}  // namespace
}  // namespace ingot::amd
