// SPDX-License-Identifier: MIT
// Counters, and what DEBUG prints. All of it goes to stderr, one fact per line, columns at fixed places:
//
//   kernel     12 CPU          conv2d_relu_512_32_20_20             mnist.cc:40        512/2    1234.5 us   456.7
//   GFLOP/s   12.3 GB/s  45 % word 1 "kernel", 2 count in this process, 3 device, 4 name, 5 source line or -, 6
//   extent/pieces, then time, arithmetic rate, rate over the unique bytes, and the share of the roof: the least time
//   that the machine's measured peaks allow, divided by the time taken.
//
// The peaks are measured once per process, when DEBUG=2 first needs them: clock by a chain of dependent additions,
// memory by a read of a block larger than most last-level caches' share.
#include <unistd.h>
#include <algorithm>
#include <cstdio>
#include "compiler/runtime/runtime.h"

namespace ingot {
namespace {

bool colour() {
  static const bool terminal = isatty(STDERR_FILENO);
  return terminal && ctx.NO_COLOR.empty();
}

struct Roof {
  double flops_per_ns = 0, bytes_per_ns = 0;
};

#if defined(__x86_64__)
double cycles_per_ns() {
  double best = 0;
  for (int trial = 0; trial < 5; trial++) {
    constexpr i64 steps = 200'000;
    i64 start = now_ns();
    u64 v = 1;
    for (i64 i = 0; i < steps; i += 8)
      asm volatile(
          "add $1, %0\n add $1, %0\n add $1, %0\n add $1, %0\n add $1, %0\n add $1, %0\n add $1, %0\n add $1, %0"
          : "+r"(v));
    best = std::max(best, double(steps) / double(std::max<i64>(1, now_ns() - start)));
  }
  return best;
}
#else
double cycles_per_ns() { return 1; }
#endif

const Roof& roof(int number) {
  static const Roof measured = [number] {
    const DeviceInfo& info = device(number).info();
    int threads = thread_count();
    Roof r;
    // Two FMA units per core, each a vector of floats wide and two operations per lane.
    r.flops_per_ns = cycles_per_ns() * threads * 2 * 2 * (info.arch == "avx512" ? 16 : 8);
    constexpr i64 bytes = 64 << 20;
    BufferRef block = device(number).alloc(bytes);
    const u64* words = static_cast<const u64*>(block->host);
    std::memset(block->host, 1, bytes);
    for (int trial = 0; trial < 2; trial++) {
      std::atomic<u64> sum{0};
      i64 start = now_ns();
      parallel(threads, [&](i64 t) {
        i64 n = bytes / 8 / threads / 8 * 8;
        u64 s[8] = {};
        for (i64 i = n * t; i < n * (t + 1); i += 8)
          for (i64 j = 0; j < 8; j++) s[j] += words[i + j];
        sum += s[0] + s[1] + s[2] + s[3] + s[4] + s[5] + s[6] + s[7];
      });
      r.bytes_per_ns = std::max(r.bytes_per_ns, double(bytes) / double(std::max<i64>(1, now_ns() - start)));
    }
    return r;
  }();
  return measured;
}

}  // namespace

Counters& counters() {
  static Counters c;
  c.memory_bytes = buffer_bytes();
  c.memory_peak_bytes = buffer_peak_bytes();
  return c;
}

void report_schedule(const Schedule& s, i64 time_ns) {
  std::fprintf(stderr, "schedule %zu kernels, %zu internal buffers in %lld bytes, %.1f us\n", s.kernels.size(),
               s.internals.size(), static_cast<long long>(s.plan_bytes), double(time_ns) / 1e3);
  if (ctx.DEBUG >= 3) std::fputs(print(s).c_str(), stderr);
}

void report_compile(size_t kernels, size_t compiled, i64 time_ns) {
  std::fprintf(stderr, "compile  %zu of %zu kernels, %.1f us\n", compiled, kernels, double(time_ns) / 1e3);
}

void report_launch(const Call& c, int number, i64 time_ns) {
  double ns = double(std::max<i64>(1, time_ns)), flops = 0, bytes = 0, share = 0;
  i64 extent = 1, pieces = 1;
  if (c.kernel) {
    const Program& p = c.kernel->program;
    bool gpu = p.threads > 1;
    flops = double(p.operations), bytes = double(p.bytes);
    if (!gpu) share = std::max(flops / roof(number).flops_per_ns, bytes / roof(number).bytes_per_ns) / ns * 100;
    extent = p.extent, pieces = gpu ? p.threads : pieces_of(p);
  } else {
    bytes = 2.0 * double(c.arguments[0].elements * c.arguments[0].dtype.bytes());
  }
  const char *dim = colour() ? "\033[2m" : "", *bold = colour() ? "\033[1m" : "", *off = colour() ? "\033[0m" : "";
  static std::atomic<u64> serial{0};
  std::string split = str(extent, "/", pieces);
  std::fprintf(stderr, "kernel %6llu %-12s %s%-44s%s %s%-28s%s %12s %10.1f us %8.1f GFLOP/s %7.1f GB/s %3.0f %%\n",
               static_cast<unsigned long long>(++serial), device_name(number).c_str(), bold, c.name.c_str(), off, dim,
               c.source.empty() ? "-" : c.source.c_str(), off, split.c_str(), ns / 1e3, flops / ns, bytes / ns, share);
}

void report_compiled(const Program& p, U sink) {
  std::string text = str("compiled ", p.name, ", ", p.code.size(), " bytes of ", p.isa, " for ", p.arch,
                         ", in bounds without a guard ", p.accesses_proven, " of ", p.accesses, "\n");
  if (!p.moves.empty())
    text += str("moves ", p.name, ": ", p.moves, "  estimate ", double(p.estimate_ns) / 1e3, " us on one thread\n");
  if (ctx.DEBUG >= 5) text += print(sink) + "\n";
  if (ctx.DEBUG >= 4) text += annotate(p);
  std::fwrite(text.data(), 1, text.size(), stderr);  // at once: kernels compile in parallel
}

}  // namespace ingot
