// SPDX-License-Identifier: MIT
// The most float32 operations a second that this processor does, measured: every thread runs independent fused
// multiply-adds in registers for a few milliseconds. It is the roof that a training run is compared with.
#include <algorithm>

#include "tools/train/train.h"

namespace ingot {

#ifdef __x86_64__
// Twelve accumulators cover latency 4 at two a cycle with room to spare; all registers hold zeros, so nothing
// overflows.
#define TWELVE(r)                                                                                                  \
  "vfmadd231ps %%" r "14, %%" r "15, %%" r "0\n vfmadd231ps %%" r "14, %%" r "15, %%" r "1\n vfmadd231ps %%" r     \
  "14, %%" r "15, %%" r "2\n vfmadd231ps %%" r "14, %%" r "15, %%" r "3\n vfmadd231ps %%" r "14, %%" r "15, %%" r  \
  "4\n vfmadd231ps %%" r "14, %%" r "15, %%" r "5\n vfmadd231ps %%" r "14, %%" r "15, %%" r "6\n vfmadd231ps %%" r \
  "14, %%" r "15, %%" r                                                                                            \
  "7\n"                                                                                                            \
  "vfmadd231ps %%" r "14, %%" r "15, %%" r "8\n vfmadd231ps %%" r "14, %%" r "15, %%" r "9\n vfmadd231ps %%" r     \
  "14, %%" r "15, %%" r "10\n vfmadd231ps %%" r "14, %%" r "15, %%" r "11\n"
#define ZERO(n) "vxorps %%xmm" #n ", %%xmm" #n ", %%xmm" #n "\n"
#define RUN(r)                                                                                                   \
  asm volatile(ZERO(0) ZERO(1) ZERO(2) ZERO(3) ZERO(4) ZERO(5) ZERO(6) ZERO(7) ZERO(8) ZERO(9) ZERO(10) ZERO(11) \
                   ZERO(14) ZERO(15) "1: " TWELVE(r) "dec %0\n jnz 1b\n vzeroupper\n"                            \
               : "+r"(rounds)::"xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",   \
                 "xmm10", "xmm11", "xmm14", "xmm15", "cc")

double peak_flops() {
  const bool wide = __builtin_cpu_supports("avx512f");
  if (!wide && !(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))) return 0;
  constexpr i64 per_thread = 400'000;
  const i64 threads = thread_count();
  double best = 0;
  for (int attempt = 0; attempt < 5; attempt++) {  // the first warms the cores up; noise only ever makes it slower
    const i64 begin = now_ns();
    parallel(threads, [&](i64) {
      i64 rounds = per_thread;
      if (wide)
        RUN("zmm");
      else
        RUN("ymm");
    });
    const double operations = double(per_thread) * double(threads) * 12 * 2 * (wide ? 16 : 8);
    best = std::max(best, operations / (double(now_ns() - begin) * 1e-9));
  }
  return best;
}
#else
double peak_flops() { return 0; }
#endif

}  // namespace ingot
