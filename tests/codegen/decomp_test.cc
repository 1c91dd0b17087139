// SPDX-License-Identifier: MIT
// Decompositions against the C library in the next wider type, over inputs spread evenly through the codes of a float.
// `make ulp` covers every input; here a prime stride keeps it to seconds. Each graph is also checked to hold native ops
// only.
#include <gtest/gtest.h>

#include <bit>

#include "compiler/codegen/codegen.h"
#include "tests/codegen/lanes.h"

namespace ingot {
namespace {

const Target avx2{"x86", "avx2", isa::x86::AVX2}, avx512{"x86", "avx512", isa::x86::AVX2 | isa::x86::AVX512};

U param(DType dtype, int slot = 0) { return make(Op::PARAM, dtype, {}, {slot, 1}); }

// Distance from the exact result in units of the last place of the result's type, whose subnormals are not smaller.
double ulps(float got, double want) {
  if (std::isnan(got) || std::isnan(want)) return std::isnan(got) && std::isnan(want) ? 0 : INFINITY;
  float nearest = float(want);
  if (got == nearest)
    return got == 0 && std::signbit(got) != std::signbit(want) ? INFINITY
           : std::isinf(got)                                   ? 0
                             : std::fabs(got - want) / std::ldexp(1.0, std::max(std::ilogb(want), -126) - 23);
  if (std::isinf(want)) return INFINITY;
  double value = std::isinf(got) ? std::copysign(0x1p128, got) : got;
  return std::fabs(value - want) / std::ldexp(1.0, std::max(std::ilogb(want), -126) - 23);
}

void expect_native(U graph, const Target& target) {
  NativeOps native = native_ops(target);
  for (U u : toposort(graph)) {
    if (!has(u->op, ALU) || u->op == Op::BITCAST) continue;
    DType source = has(u->op, TO_BOOL) || u->op == Op::CAST ? u->src(0)->dtype : u->dtype;
    if (source.is_bool() && u->op != Op::CAST) continue;
    EXPECT_TRUE(u->op == Op::CAST ? native.has_cast(source, u->dtype) : native.has(u->op, source))
        << str(u->op, " of ", source, " to ", u->dtype, " on ", target.arch);
  }
}

struct Function {
  Op op;
  double (*exact)(double);
  double limit;  // ulp; the goal is 2, these are what `make ulp` measured, rounded up
};
const Function functions[] = {
    {Op::EXP2, std::exp2, 0.9},
    {Op::EXP, std::exp, 1.0},
    {Op::LOG2, std::log2, 1.1},
    {Op::LOG, std::log, 1.0},
    {Op::SIN, std::sin, 1.6},
    {Op::COS, std::cos, 1.6},
    {Op::TAN, std::tan, 0.6},
    {Op::TANH, std::tanh, 1.6},
    {Op::ERF, std::erf, 1.1},
    {Op::SQRT, std::sqrt, 0.5},
    {Op::RECIP, [](double v) { return 1 / v; }, 0.5},
    {Op::RSQRT, [](double v) { return 1 / std::sqrt(v); }, 1.5},
};

class F32Function : public testing::TestWithParam<Function> {};
TEST_P(F32Function, IsWithinItsUlps) {
  auto [op, exact, limit] = GetParam();
  Arena arena;
  ArenaScope scope(arena);
  U graph = decompose(make(op, F32, {param(F32)}), avx512);
  expect_native(graph, avx512);
  expect_native(decompose(make(op, F32.with_lanes(8), {param(F32.with_lanes(8))}), avx2), avx2);
  Lanes lanes(graph);
  auto check_batch = [&](i64 n) {
    lanes.run(n);
    for (i64 i = 0; i < n; i++) {
      float v = lanes.in<f32>(0)[i], got = lanes.out<f32>()[i];
      double error = ulps(got, exact(v));
      ASSERT_LE(error, limit) << str(op, " of ", double(v), " gives ", double(got), ", not ", exact(v));
    }
  };
  u64 code = 12345;
  for (i64 batch = 0; batch < 1000; batch++) {
    for (i64 i = 0; i < Lanes::width; i++, code += 4194301) lanes.in<u32>(0)[i] = u32(code);
    ASSERT_NO_FATAL_FAILURE(check_batch(Lanes::width));
  }
  // Neighbourhoods of where pieces meet and of the special values.
  for (float centre : {0.0f,   0x1p-149f,  0x1p-126f,  0x1p-125f, 0.375f,  0.5f,     0.70710677f, 0.9f,
                       1.0f,   1.5707964f, 3.1415927f, 4.0f,      9.01f,   88.72f,   103.9f,      128.0f,
                       149.0f, 150.0f,     0x1p24f,    0x1p46f,   0x1p52f, 0x1p127f, INFINITY}) {
    for (int sign = 0; sign < 2; sign++) {
      u32 first = std::bit_cast<u32>(centre) - 256 + (u32(sign) << 31);
      for (u32 i = 0; i < 512; i++) lanes.in<u32>(0)[i] = first + i;
      ASSERT_NO_FATAL_FAILURE(check_batch(512));
    }
  }
}
INSTANTIATE_TEST_SUITE_P(Decomp, F32Function, testing::ValuesIn(functions),
                         [](const auto& info) { return std::string(row(info.param.op).name); });

}  // namespace
}  // namespace ingot
