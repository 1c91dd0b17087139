// SPDX-License-Identifier: MIT
// The CPU device with machine code written by hand (bytes by GNU as), before any compiler takes part: launches, W^X,
// guard pages, float mode, memory kept for reuse, saved kernels and the cost of a launch.
#include "userspace/cpu/cpu.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <bit>
#include <fstream>
#include <thread>
#include "compiler/runtime/runtime.h"
#if defined(__x86_64__)
#include <immintrin.h>

namespace ingot {
namespace {
using testing::HasSubstr;

using Bytes = std::vector<u8>;
// p0[0]++:           mov rax,[rdi]; inc qword ptr [rax]; ret
const Bytes increment{0x48, 0x8b, 0x07, 0x48, 0xff, 0x00, 0xc3};
// p0[i] = i (i64):   mov rax,[rdi]; 1: cmp rsi,rdx; jge 2f; mov [rax+rsi*8],rsi; inc rsi; jmp 1b; 2: ret
const Bytes fill{0x48, 0x8b, 0x07, 0x48, 0x39, 0xd6, 0x7d, 0x09, 0x48,
                 0x89, 0x34, 0xf0, 0x48, 0xff, 0xc6, 0xeb, 0xf2, 0xc3};
// p0[2] = p0[0] * p0[1] (f32)
const Bytes multiply{0x48, 0x8b, 0x07, 0xf3, 0x0f, 0x10, 0x00, 0xf3, 0x0f,
                     0x59, 0x40, 0x04, 0xf3, 0x0f, 0x11, 0x40, 0x08, 0xc3};
// a byte 7 at p1 + p0[0]:   mov rax,[rdi]; mov rax,[rax]; add rax,[rdi+8]; mov byte ptr [rax],7; ret
const Bytes poke{0x48, 0x8b, 0x07, 0x48, 0x8b, 0x00, 0x48, 0x03, 0x47, 0x08, 0xc6, 0x00, 0x07, 0xc3};
// p0[i] = p1[i] + 1 (i32)
const Bytes plus_one{0x48, 0x8b, 0x07, 0x48, 0x8b, 0x4f, 0x08, 0x48, 0x39, 0xd6, 0x7d, 0x10, 0x44, 0x8b, 0x04,
                     0xb1, 0x41, 0xff, 0xc0, 0x44, 0x89, 0x04, 0xb0, 0x48, 0xff, 0xc6, 0xeb, 0xeb, 0xc3};
const Bytes illegal{0x0f, 0x0b};

template <class F>
std::string error_of(F f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}
struct Cpu : testing::Test {
  int number = device_number("CPU::avx2");
  Device& d = device(number);
  std::vector<i64> numbers(const BufferRef& b) {
    std::vector<i64> out(size_t(b->bytes / 8));
    d.copy_out(out.data(), *b, 0, i64(out.size()) * 8);
    return out;
  }
};

TEST_F(Cpu, launches_in_order_and_splits_into_pieces) {
  Scoped threads(ctx.THREADS, 4);
  auto inc = d.load(increment, "increment"), iota = d.load(fill, "fill");
  BufferRef b = d.alloc(1000 * 8);
  void* params[] = {b->host};
  Launch list[] = {{iota.get(), params, 1000, 7}, {inc.get(), params, 1, 1}, {inc.get(), params, 1, 1}};
  d.run(list);
  std::vector<i64> v = numbers(b);
  EXPECT_EQ(v[0], 2);
  for (i64 i = 1; i < 1000; i++) ASSERT_EQ(v[size_t(i)], i);
  Launch none{iota.get(), params, 0, 1};  // an empty range
  d.run({&none, 1});
  EXPECT_EQ(numbers(b), v);
}
TEST_F(Cpu, more_pieces_than_values) {
  auto iota = d.load(fill, "fill");
  BufferRef b = d.alloc(24);
  void* params[] = {b->host};
  Launch l{iota.get(), params, 3, 64};
  d.run({&l, 1});
  EXPECT_THAT(numbers(b), testing::ElementsAre(0, 1, 2));
}

// Every mapping of this process at this moment.
void expect_no_page_writable_and_executable() {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);)
    EXPECT_FALSE(line.find(" rwx") != line.npos || line.find(" -wx") != line.npos) << line;
}
TEST_F(Cpu, code_is_never_writable_and_executable) {
  std::atomic<bool> done{false};
  std::thread watcher([&] {
    while (!done) expect_no_page_writable_and_executable();
  });
  std::vector<std::unique_ptr<Code>> codes;
  BufferRef b = d.alloc(8);
  i64 zero = 0;
  d.copy_in(*b, 0, &zero, 8);
  void* params[] = {b->host};
  for (int i = 0; i < 500; i++) {
    codes.push_back(d.load(increment, "increment"));
    Launch l{codes.back().get(), params, 1, 1};
    d.run({&l, 1});
    if (i % 3 == 0) codes.erase(codes.begin() + i % i64(codes.size()));
  }
  done = true;
  watcher.join();
  expect_no_page_writable_and_executable();
  EXPECT_EQ(numbers(b)[0], 500);
}
TEST_F(Cpu, pages_of_freed_code_are_used_again) {
  auto resident = [] {
    std::ifstream maps("/proc/self/maps");
    int lines = 0;
    for (std::string line; std::getline(maps, line);) lines++;
    return lines;
  };
  for (int i = 0; i < 100; i++) d.load(increment, "increment");
  int before = resident();
  for (int i = 0; i < 20'000; i++) d.load(increment, "increment");
  EXPECT_LE(resident(), before + 10);
}

// Runs `poke` at `offset` of a guarded buffer in a child; returns the signal that ended it.
int signal_of_poke(Device& d, i64 bytes, i64 offset, bool at_start) {
  fflush(stdout);
  pid_t child = fork();
  if (!child) {
    for (int s : {SIGSEGV, SIGABRT, SIGBUS}) signal(s, SIG_DFL);
    freopen("/dev/null", "w", stderr);
    ctx.GUARD = 1;
    auto code = d.load(poke, "poke");
    ctx.GUARD = 0;
    BufferRef where = d.alloc(8);
    d.copy_in(*where, 0, &offset, 8);
    ctx.GUARD = 1;
    {
      BufferRef target = d.alloc(bytes);
      if ((target->address % 4096 == 0) != at_start) target = d.alloc(bytes);
      if ((target->address % 4096 == 0) != at_start) _exit(3);
      void* params[] = {where->host, target->host};
      Launch l{code.get(), params, 1, 1};
      d.run({&l, 1});
    }
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? WTERMSIG(status) : -WEXITSTATUS(status);
}
TEST_F(Cpu, guard_pages_catch_every_byte_outside) {
#if defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "AddressSanitizer handles the signals of the child itself";
#endif
  for (i64 bytes : {4, 100, 4096, 5000}) {
    EXPECT_EQ(signal_of_poke(d, bytes, 0, true), 0);
    EXPECT_EQ(signal_of_poke(d, bytes, -1, true), SIGSEGV);
    EXPECT_EQ(signal_of_poke(d, bytes, bytes, true),
              bytes % 4096 ? SIGABRT : SIGSEGV);  // the rest of the page is checked
    if (bytes % 4096 == 0) continue;
    EXPECT_EQ(signal_of_poke(d, bytes, bytes - 1, false), 0);
    EXPECT_EQ(signal_of_poke(d, bytes, bytes, false), SIGSEGV);
    EXPECT_EQ(signal_of_poke(d, bytes, -1, false), SIGABRT);
  }
}
TEST_F(Cpu, guarded_buffers_are_filled_with_nan) {
  Scoped g(ctx.GUARD, 1);
  for (int i = 0; i < 2; i++) {
    BufferRef b = d.alloc(40);
    for (i64 v : numbers(b)) EXPECT_EQ(v, -1);
    EXPECT_TRUE(std::isnan(std::bit_cast<f32>(u32(numbers(b)[0]))));
  }
}

TEST_F(Cpu, kernels_keep_denormals_whatever_the_caller_does) {
  Scoped threads(ctx.THREADS, 3);
  auto code = d.load(multiply, "multiply");
  BufferRef b = d.alloc(12);
  float in[3] = {1e-30f, 1e-10f, 0};
  d.copy_in(*b, 0, in, 12);
  void* params[] = {b->host};
  unsigned old = _mm_getcsr();
  _mm_setcsr(0x1f80 | 0x8040 | 0x6000);  // flush to zero, denormals are zero, round toward zero
  for (i64 pieces : {1, 3}) {
    Launch l{code.get(), params, 3, pieces};
    d.run({&l, 1});
    unsigned during = _mm_getcsr();
    _mm_setcsr(old);
    float out[3];
    d.copy_out(out, *b, 0, 12);
    EXPECT_EQ(std::bit_cast<u32>(out[2]), 71362u) << pieces;  // 1e-40 is 71362.4 times 2^-149
    EXPECT_EQ(during & 0xe040, 0xe040u);                      // the caller's mode is restored
    _mm_setcsr(0x1f80 | 0x8040 | 0x6000);
  }
  _mm_setcsr(old);
}

TEST_F(Cpu, large_blocks_are_kept_and_small_ones_aligned) {
  void* first;
  {
    BufferRef b = d.alloc(10 << 20);
    first = b->host;
    std::memset(first, 1, 10 << 20);
    EXPECT_EQ(u64(first) % (2 << 20), 0u);
  }
  BufferRef again = d.alloc((10 << 20) - 100);
  EXPECT_EQ(again->host, first);
  for (i64 bytes : {0, 1, 63, 64, 65, 100'000, 300'000}) EXPECT_EQ(d.alloc(bytes)->address % 64, 0u) << bytes;
  EXPECT_THAT(error_of([&] { d.alloc(i64(1) << 50); }), HasSubstr("out of memory"));
}
TEST_F(Cpu, counts_the_bytes_alive) {
  i64 before = buffer_bytes();
  {
    BufferRef a = d.alloc(1000), b = a, c = std::move(b);
    EXPECT_EQ(buffer_bytes(), before + 1000);
    EXPECT_GE(buffer_peak_bytes(), before + 1000);
  }
  EXPECT_EQ(buffer_bytes(), before);
}
TEST_F(Cpu, architecture_is_forced_by_name) {
  EXPECT_EQ(target_of(number).arch, "avx2");
  EXPECT_EQ(target_of(number).features, isa::x86::host_features() & isa::x86::AVX2);
  if (isa::x86::host_features() & isa::x86::AVX512)
    EXPECT_EQ(target_of(device_number("CPU::avx512")).arch, "avx512");
  else
    EXPECT_THAT(error_of([] { device_number("CPU::avx512"); }), HasSubstr("has avx2"));
  EXPECT_THAT(error_of([] { device(device_number("REF")).load(increment, "x"); }),
              HasSubstr("REF runs no machine code"));
}
TEST_F(Cpu, a_launch_of_a_tiny_kernel_is_a_call) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "the time of a sanitized build says nothing";
#endif
  auto code = d.load(increment, "increment");
  BufferRef b = d.alloc(8);
  i64 zero = 0;
  d.copy_in(*b, 0, &zero, 8);
  void* params[] = {b->host};
  std::vector<Launch> list(1000, Launch{code.get(), params, 1, 1});
  i64 best = 1 << 30;
  for (int trial = 0; trial < 20; trial++) {
    i64 start = now_ns();
    d.run(list);
    best = std::min(best, now_ns() - start);
  }
  EXPECT_EQ(numbers(b)[0], 20'000);
  EXPECT_LE(best, 300 * 1000) << "ns for 1,000 kernels";
  RecordProperty("ns_per_kernel", std::to_string(double(best) / 1000));
}

// ---- SAVE_KERNELS

struct Saved : Cpu {
  std::string folder = str(testing::TempDir(), "ingot_saved_", getpid());
  Kernel kernel;
  Call call;
  BufferRef in, out;
  void SetUp() override {
    kernel.program.name = "plus_one_100", kernel.program.isa = "x86", kernel.program.arch = "avx2";
    use(plus_one);
    in = d.alloc(400), out = d.alloc(400);
    std::vector<i32> v(100);
    for (i32 i = 0; i < 100; i++) v[size_t(i)] = i * i;
    d.copy_in(*in, 0, v.data(), 400);
    d.copy_in(*out, 0, v.data(), 400);
    call = {
        &kernel, "plus_one_100", "x.cc:3", {{out, 0, I32, 100, true, false, -1}, {in, 0, I32, 100, false, true, -1}}};
  }
  void TearDown() override { ASSERT_EQ(std::system(("rm -rf " + folder).c_str()), 0); }
  void use(const Bytes& code) {
    kernel.program.code = code;
    kernel.program.extent = 100;
    kernel.code = d.load(code, "saved");
  }
  void save() {
    Scoped s(ctx.SAVE_KERNELS, folder);
    run_calls({&call, 1}, number);
  }
  std::string only_file(const std::string& end) {
    for (std::string stem : {"00000", "0000"})
      for (int i = 0; i < 100; i++)
        if (std::string path = str(folder, "/", stem, i, end); path.size() && file_exists(path)) return path;
    return "none";
  }
};
TEST_F(Saved, runs_again_and_compares_every_byte) {
  save();
  std::vector<Rerun> r = rerun(folder, number);
  ASSERT_EQ(r.size(), 1u);
  EXPECT_EQ(r[0].problem, "");
  EXPECT_EQ(r[0].kernel, "plus_one_100");
  std::string after = only_file(".0.after"), bytes = read_file(after);
  bytes[7] ^= 1;
  write_file(after, bytes);
  EXPECT_THAT(rerun(folder, number)[0].problem, HasSubstr("slot 0: 1 of 400 bytes differ, the first at 7"));
}
TEST_F(Saved, the_same_buffer_in_two_slots_stays_one) {
  call.arguments[1].memory = out;
  save();
  EXPECT_THAT(read_file(only_file(".json")), HasSubstr("\"same_as\": 0"));
  EXPECT_EQ(rerun(folder, number)[0].problem, "");
}
TEST_F(Saved, a_crash_is_a_report) {
#if defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "AddressSanitizer handles the signals of the child itself";
#endif
  save();
  write_file(only_file(".code"), {reinterpret_cast<const char*>(illegal.data()), illegal.size()});
  std::string json = read_file(only_file(".json"));
  size_t at = json.find(str("\"bytes\": ", plus_one.size()));
  ASSERT_NE(at, json.npos);
  write_file(only_file(".json"), json.replace(at, str("\"bytes\": ", plus_one.size()).size(), "\"bytes\": 2"));
  EXPECT_THAT(rerun(folder, number)[0].problem, HasSubstr("it crashed: Illegal instruction"));
}
TEST_F(Saved, another_isa_or_a_missing_folder_is_an_error) {
  save();
  EXPECT_THAT(rerun(folder, device_number("REF"))[0].problem, HasSubstr("it is x86 code; REF runs none"));
  EXPECT_THAT(error_of([&] { rerun("/nonexistent", number); }), HasSubstr("cannot open the folder"));
  EXPECT_THAT(error_of([&] { rerun("/proc/self/fdinfo", number); }), HasSubstr("no saved kernels"));
}
TEST_F(Saved, mutated_json_is_refused_or_runs_but_never_crashes) {
  save();
  std::string path = only_file(".json"), json = read_file(path);
  u64 seed = 1;
  auto random = [&](u64 n) {
    return (seed = seed * 6364136223846793005ull + 1442695040888963407ull) >> 33 & 0x7fffffff ? (seed >> 33) % n : 0;
  };
  const char* pieces[] = {"-1",   "99999999999999999999", "null",    "[]", "{", "\"../x\"", "1e5",
                          "true", "\"\\u0000\"",          "[[[[[[[["};
  int refused = 0;
  for (int i = 0; i < 400; i++) {
    std::string m = json;
    for (u64 k = random(3) + 1; k > 0; k--) {
      size_t at = random(m.size());
      switch (random(4)) {
        case 0: m[at] = char(random(256)); break;
        case 1: m.erase(at, random(20)); break;
        case 2: m.insert(at, pieces[random(std::size(pieces))]); break;
        default: {  // a value
          size_t colon = m.find(": ", at);
          if (colon == m.npos) break;
          size_t end = m.find_first_of(",}\n", colon);
          if (end != m.npos) m.replace(colon + 2, end - colon - 2, pieces[random(std::size(pieces))]);
        }
      }
    }
    write_file(path, m);
    refused += !rerun(folder, number)[0].problem.empty();
  }
  EXPECT_GT(refused, 200);
}

}  // namespace
}  // namespace ingot
#endif
