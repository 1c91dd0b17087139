// SPDX-License-Identifier: MIT
// A Radeon's model as a device of the runtime, before any compiler takes part: machine code written by hand, launched
// the way compiled kernels are; tensors that come and go; steps; reports; saved kernels.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>
#include <cstdlib>
#include "compiler/isa/isa.h"
#include "compiler/runtime/runtime.h"
#include "compiler/tensor/tensor.h"
#if defined(CONFIG_DEVICE_AMD) && defined(CONFIG_DEVICE_MODEL) && defined(CONFIG_ISA_RDNA)
#include "userspace/model/model.h"

namespace ingot {
namespace {
using testing::HasSubstr;

constexpr const char* device_text = "MODEL+AMD::gfx1100";

// p0[i] = p1[i] + p2[i], 32 bits, for the work-item i of groups of 64
constexpr const char* add = R"(
  s_clause 0x1
  s_load_b128 s[4:7], s[0:1], 0x0
  s_load_b64 s[8:9], s[0:1], 0x10
  s_lshl_b32 s2, s15, 6
  v_add_nc_u32_e32 v0, s2, v0
  v_lshlrev_b32_e32 v0, 2, v0
  s_waitcnt lgkmcnt(0)
  global_load_b32 v1, v0, s[6:7]
  global_load_b32 v2, v0, s[8:9]
  s_waitcnt vmcnt(0)
  v_add_nc_u32_e32 v1, v1, v2
  global_store_b32 v0, v1, s[4:5]
  s_endpgm
)";
// p0[i] = i of the group, through LDS, read from the other end, and private memory
constexpr const char* reverse = R"(
  s_load_b64 s[4:5], s[0:1], 0x0
  v_lshlrev_b32_e32 v1, 2, v0
  v_sub_nc_u32_e32 v2, 63, v0
  v_lshlrev_b32_e32 v2, 2, v2
  ds_store_b32 v1, v0
  s_waitcnt lgkmcnt(0)
  s_barrier
  ds_load_b32 v3, v2
  s_waitcnt lgkmcnt(0)
  scratch_store_b32 off, v3, off offset:4
  s_waitcnt_vscnt null, 0x0
  scratch_load_b32 v4, off, off offset:4
  s_waitcnt vmcnt(0)
  global_store_b32 v1, v4, s[4:5]
  s_endpgm
)";
constexpr const char* endless = "  s_branch -1\n";
// As `add`, without the wait for what it loads.
std::string without_wait() {
  std::string text = add;
  return text.erase(text.find("  s_waitcnt vmcnt(0)\n"), 21);
}

struct Amd : testing::Test {
  int number = device_number(device_text);
  Device& d = device(number);
  void TearDown() override { model_of(number)->objections.clear(); }

  std::unique_ptr<Kernel> kernel(std::string name, const std::string& text, int params, i64 groups) {
    auto k = std::make_unique<Kernel>();
    Program& p = k->program;
    p.name = std::move(name), p.isa = "rdna", p.arch = "gfx1100";
    p.code = isa::assemble(*isa::find_isa("rdna", "gfx1100"), text);
    p.code_bytes = i64(p.code.size());
    p.params.assign(size_t(params), {I32, groups * 64, false, false});
    p.extent = groups, p.threads = 64, p.scalars = 16, p.vectors = 5;
    return k;
  }
  BufferRef numbers(i64 n, i32 factor) {
    std::vector<i32> v(static_cast<size_t>(n));
    for (i64 i = 0; i < n; i++) v[size_t(i)] = i32(i) * factor;
    BufferRef b = d.alloc(n * 4);
    d.copy_in(*b, 0, v.data(), n * 4);
    return b;
  }
  std::vector<i32> contents(const BufferRef& b) {
    std::vector<i32> v(size_t(b->bytes / 4));
    d.copy_out(v.data(), *b, 0, b->bytes);
    return v;
  }
  Call call(Kernel& k, const BufferRef& to, const BufferRef& a, const BufferRef& b) {
    return {&k,
            "add",
            "x.cc:1",
            {{to, 0, I32, to->bytes / 4, true, false, -1},
             {a, 0, I32, a->bytes / 4, false, true, -1},
             {b, 0, I32, b->bytes / 4, false, true, -1}}};
  }
};

TEST_F(Amd, is_a_device_like_any_other) {
  EXPECT_EQ(d.info().isa, "rdna");
  Target t = target_of(number);
  EXPECT_EQ(t.isa, "rdna");
  EXPECT_EQ(t.arch, "gfx1100");
  EXPECT_FALSE(is_reference(number));
  auto error_of = [](const char* name) {
    try {
      device_number(name);
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string("no error");
  };
  EXPECT_THAT(error_of("AMD"), HasSubstr("no AMD card"));
  EXPECT_THAT(error_of("INGOT+AMD"), HasSubstr("no INGOT+AMD card"));
  EXPECT_THAT(error_of("MODEL+AMD::gfx1201"), HasSubstr("no machine code for it"));
  EXPECT_THAT(error_of("MODEL+AMD::gfx900"), HasSubstr("there are (gfx1100, gfx1201)"));
  EXPECT_THAT(device_name(device_number("")), testing::Not(HasSubstr("AMD")));
}
TEST_F(Amd, draws_no_more_than_it_may) {
  Scoped limit(ctx.POWER_LIMIT, 5000);
  EXPECT_THROW(device(device_number("MODEL+AMD:1:gfx1100")), DeviceError) << "the chip refuses it";
  Scoped less(ctx.POWER_LIMIT, 200);
  EXPECT_EQ(device(device_number("MODEL+AMD:1:gfx1100")).info().isa, "rdna");
}
TEST_F(Amd, tensors_come_and_go) {
  std::vector<float> v(100'000);
  for (size_t i = 0; i < v.size(); i++) v[i] = float(i) * 0.5f;
  Tensor on_device = from_bytes(v.data(), F32, {100, 1000}, device_text);
  EXPECT_EQ(on_device.to_vector<float>(), v);
  Tensor here = on_device.to("CPU");  // and again
  EXPECT_EQ(here.to_vector<float>(), v);
  EXPECT_EQ((here + 1.f).to(device_text).to("REF").to_vector<float>()[10], v[10] + 1);
}
TEST_F(Amd, a_kernel_does_not_mix_devices) {
  Tensor x = from_bytes("12345678", U8, 8, device_text), y = from_bytes("12345678", U8, 8, "CPU");
  try {
    (x + y).realize();
    FAIL() << "it ran";
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("uses a tensor on CPU"));
    EXPECT_THAT(e.what(), HasSubstr("to() copies it"));
  }
  EXPECT_EQ((x + y.to(device_text)).to_vector<u8>()[1], 100);
  // What another device still needs of a value that is assigned to is taken there first.
  Tensor old = x.to("CPU") + 1;
  x.assign(x * 2);
  EXPECT_EQ(x.to_vector<u8>()[0], 98);
  EXPECT_EQ(old.to_vector<u8>()[0], 50);
}
TEST_F(Amd, launches_go_through_calls) {
  auto k = kernel("add", add, 3, 16);
  k->code = load(k->program, d);
  BufferRef a = numbers(1024, 3), b = numbers(1024, 5), c = d.alloc(4096);
  std::vector<Call> calls{call(*k, c, a, b), call(*k, a, c, c), call(*k, c, a, b)};
  run_calls(calls, number);
  std::vector<i32> out = contents(c);
  for (i32 i = 0; i < 1024; i++) ASSERT_EQ(out[size_t(i)], i * (16 + 5));
  EXPECT_TRUE(model_of(number)->objections.empty()) << str(model_of(number)->objections);
}
TEST_F(Amd, shared_and_private_memory) {
  auto k = kernel("reverse", reverse, 1, 3);
  k->program.local_bytes = 256, k->program.frame_bytes = 16;
  k->code = load(k->program, d);
  BufferRef c = d.alloc(256);
  Call one{k.get(), "reverse", "", {{c, 0, I32, 64, true, false, -1}}};
  run_calls({&one, 1}, number);
  std::vector<i32> out = contents(c);
  for (i32 i = 0; i < 64; i++) ASSERT_EQ(out[size_t(i)], 63 - i);
  EXPECT_TRUE(model_of(number)->objections.empty()) << str(model_of(number)->objections);
}
TEST_F(Amd, a_step_runs_again_with_other_addresses) {
  auto k = kernel("add", add, 3, 1), wide = kernel("reverse", reverse, 1, 1);
  wide->program.local_bytes = 256, wide->program.frame_bytes = 4000;
  k->code = load(k->program, d), wide->code = load(wide->program, d);
  BufferRef a = numbers(64, 1), b = numbers(64, 100), c = d.alloc(256), other = d.alloc(256);
  std::vector<void*> params;
  for (const BufferRef* m : {&c, &a, &b, &a, &c, &b}) params.push_back(reinterpret_cast<void*>((*m)->address));
  std::vector<Launch> list{launch_of(*k, params.data()), launch_of(*k, params.data() + 3)};  // c = a + b, a = c + b
  void* const* changing[] = {&params[1], &params[3]};                                        // a
  std::unique_ptr<Step> step = d.prepare(list, changing);
  for (i32 round = 1; round <= 3; round++) {
    step->run();
    std::vector<i32> out = contents(a);
    for (i32 i = 0; i < 64; i++) ASSERT_EQ(out[size_t(i)], i + round * 200 * i);
  }
  // Scratch memory that grows moves: the packets follow.
  void* to = reinterpret_cast<void*>(other->address);
  Launch l = launch_of(*wide, &to);
  d.run({&l, 1});
  params[1] = params[3] = to;
  step->run();
  std::vector<i32> out = contents(other);
  for (i32 i = 0; i < 64; i++) ASSERT_EQ(out[size_t(i)], 63 - i + 200 * i);
  EXPECT_TRUE(model_of(number)->objections.empty()) << str(model_of(number)->objections);
}
TEST_F(Amd, what_hangs_or_is_wrong_is_reported_and_the_device_goes_on) {
  BufferRef a = numbers(64, 3), c = d.alloc(256);
  auto hangs = kernel("endless", endless, 1, 1), wrong = kernel("hasty", without_wait(), 3, 1),
       right = kernel("add", add, 3, 1);
  for (Kernel* k : {hangs.get(), wrong.get(), right.get()}) k->code = load(k->program, d);
  model_of(number)->inject(model::Injection::HANG);
  Call bad = call(*wrong, c, a, a), good = call(*right, c, a, a);
  run_calls({&good, 1}, number);
  EXPECT_THROW(d.wait(), DeviceError);
  testing::internal::CaptureStderr();
  run_calls({&bad, 1}, number);
  EXPECT_THROW(d.wait(), DeviceError);
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("v_add_nc_u32"));
  run_calls({&good, 1}, number);
  std::vector<i32> out = contents(c);
  for (i32 i = 0; i < 64; i++) ASSERT_EQ(out[size_t(i)], 6 * i);
}
// A compiled kernel that has lost its waits: the checker's report says in which kernel, for which operation, whose
// line.
TEST_F(Amd, a_report_names_kernel_operation_and_line) {
  U i = make(Op::RANGE, IDX, {index_constant(64)}, {0, i64(RangeKind::LOOP)});
  auto at = [&](i64 n) { return make(Op::INDEX, F32, {make(Op::PARAM, F32, {}, {n, 64}), i}); };
  U sum = make(Op::ADD, F32, {make(Op::LOAD, F32, {at(1)}), make(Op::LOAD, F32, {at(2)})});
  U sink = make(Op::SINK, VOID, {make(Op::STORE, VOID, {at(0), sum, i})});
  const Param params[] = {{F32, 64, true, false}, {F32, 64, false, true}, {F32, 64, false, true}};
  Kernel k;
  k.program = compile(sink, params, "sum_64", target_of(number));
  k.program.source = "user.cc:7";
  EXPECT_THAT(annotate(k.program), HasSubstr("; LOAD f32 of buffer 1"));
  EXPECT_THAT(annotate(k.program), HasSubstr("; STORE f32 of buffer 0"));
  const isa::Isa& isa = *isa::find_isa("rdna", "gfx1100");
  const std::vector<u8> nop = isa::assemble(isa, "s_nop 0");
  std::span<u8> code = k.program.code;
  std::optional<size_t> last;  // wait, which is for what is loaded
  for (size_t n, offset = 0; offset < size_t(k.program.code_bytes); offset += n) {
    isa::Instruction in;
    n = isa.decode(code.subspan(offset), in);
    ASSERT_GT(n, 0u);
    if (isa.print(in).starts_with("s_waitcnt")) last = offset;
  }
  ASSERT_TRUE(last);
  std::copy(nop.begin(), nop.end(), code.begin() + i64(*last));
  k.code = load(k.program, d);
  BufferRef a = numbers(64, 3), c = d.alloc(256);
  Call bad = call(k, c, a, a);
  testing::internal::CaptureStderr();
  run_calls({&bad, 1}, number);
  EXPECT_THROW(d.wait(), DeviceError);
  std::string report = testing::internal::GetCapturedStderr();
  for (const char* part : {"v_add_f32", "before its load at", "from sum_64 + 0x", ": ADD f32", ", user.cc:7 in group"})
    EXPECT_THAT(report, HasSubstr(part));
}
TEST_F(Amd, saved_kernels_run_again) {
  std::string folder = str(testing::TempDir(), "ingot_amd_saved_", getpid());
  auto k = kernel("add", add, 3, 2);
  k->code = load(k->program, d);
  BufferRef a = numbers(128, 3), b = numbers(128, 4), c = numbers(128, 0);
  Call one = call(*k, c, a, b);
  {
    Scoped save(ctx.SAVE_KERNELS, folder);
    run_calls({&one, 1}, number);
  }
  std::vector<Rerun> r = rerun(folder, number);
  ASSERT_EQ(r.size(), 1u);
  EXPECT_EQ(r[0].problem, "");
  r = rerun(folder, device_number("CPU"));
  EXPECT_THAT(r[0].problem, HasSubstr("it is rdna code"));
  ASSERT_EQ(std::system(("rm -rf " + folder).c_str()), 0);
}

}  // namespace
}  // namespace ingot
#endif
