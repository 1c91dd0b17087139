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
    if (source.is_bool() && (u->op == Op::AND || u->op == Op::OR || u->op == Op::XOR)) continue;
    if (u->op == Op::MUL && source.scalar == Scalar::U64 && fits_u32(u->src(0)) && fits_u32(u->src(1))) continue;
    EXPECT_TRUE(u->op == Op::CAST ? native.has_cast(source, u->dtype) : native.has(u->op, source))
        << str(u->op, " of ", source, " to ", u->dtype, " on ", target.arch);
  }
}

struct Random {  // splitmix64
  u64 state;
  u64 operator()() {
    u64 v = state += 0x9E3779B97F4A7C15ull;
    v = (v ^ v >> 30) * 0xBF58476D1CE4E5B9ull;
    v = (v ^ v >> 27) * 0x94D049BB133111EBull;
    return v ^ v >> 31;
  }
};

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

// F64 against the 64-bit mantissa of long double, on random codes and on arguments of moderate size.
TEST(Decomp, F64FunctionsAreWithinFourUlps) {
  struct Wide {
    Op op;
    long double (*exact)(long double);
  };
  Random random{6};
  for (auto [op, exact] : {Wide{Op::EXP2, std::exp2}, Wide{Op::EXP, std::exp}, Wide{Op::LOG2, std::log2},
                           Wide{Op::LOG, std::log}, Wide{Op::SIN, std::sin}, Wide{Op::COS, std::cos},
                           Wide{Op::TAN, std::tan}, Wide{Op::TANH, std::tanh}, Wide{Op::ERF, std::erf}}) {
    Arena arena;
    ArenaScope scope(arena);
    U graph = decompose(make(op, F64, {param(F64)}), avx512);
    expect_native(graph, avx512);
    expect_native(decompose(make(op, F64.with_lanes(4), {param(F64.with_lanes(4))}), avx2), avx2);
    Lanes lanes(graph);
    for (int batch = 0; batch < 100; batch++) {
      for (i64 i = 0; i < Lanes::width; i++) {
        double v = std::bit_cast<double>(random());
        lanes.in<f64>(0)[i] =
            batch & 1 ? std::ldexp(v, v == 0 || !std::isfinite(v) ? 0 : -std::ilogb(v) + int(random() % 12) - 6) : v;
      }
      double special[] = {0.0,       -0.0, INFINITY, -INFINITY, double(NAN), 0x1p-1074,
                          0x1p-1022, 1.0,  0x1p45,   0x1.8p45,  0x1p52,      0x1.fffffffffffffp1023};
      std::copy(std::begin(special), std::end(special), lanes.in<f64>(0));
      lanes.run();
      for (i64 i = 0; i < Lanes::width; i++) {
        double v = lanes.in<f64>(0)[i], got = lanes.out<f64>()[i];
        long double want = exact(v);
        if (std::isnan(want) || std::isinf(double(want)) || want == 0) {
          ASSERT_TRUE(std::isnan(want) ? std::isnan(got)
                                       : got == double(want) && std::signbit(got) == std::signbit(want))
              << row(op).name << v << " gives " << got;
          continue;
        }
        double error = double(std::fabs(got - want) / std::ldexp(1.0L, std::max(std::ilogb(want), -1022) - 52));
        ASSERT_LE(error, 4) << row(op).name << " of " << v << " gives " << got;
      }
    }
  }
}

TEST(Decomp, F64PowIsWithinFourUlps) {
  Random random{7};
  Arena arena;
  ArenaScope scope(arena);
  U graph = decompose(make(Op::POW, F64, {param(F64, 0), param(F64, 1)}), avx512);
  expect_native(graph, avx512);
  Lanes lanes(graph);
  const double special[] = {0.0, 1.0, 2.0, 3.0, 0.5, 1.5, 1e300, 1e-320, 0x1p53, 0x1p53 - 1, INFINITY, NAN};
  constexpr size_t specials = std::size(special);
  for (int batch = 0; batch < 100; batch++) {
    for (size_t i = 0; i < size_t(Lanes::width); i++) {
      double v = std::bit_cast<double>(random());
      if (batch & 1)
        v = std::ldexp(std::fabs(v),
                       v == 0 || !std::isfinite(v) ? 0 : -std::ilogb(v));  // near 1, where the logarithm cancels
      double y = batch & 2 ? double(int(random() % 64) - 32)
                           : double(i64(random())) * 0x1p-63 * 1090 / std::log2(std::fabs(v));
      if (batch == 0 && i < 4 * specials * specials) {
        v = std::copysign(special[i / 4 / specials], i & 1 ? -1 : 1);
        y = std::copysign(special[i / 4 % specials], i & 2 ? -1 : 1);
      }
      lanes.in<f64>(0)[i] = v, lanes.in<f64>(1)[i] = y;
    }
    lanes.run();
    for (i64 i = 0; i < Lanes::width; i++) {
      double v = lanes.in<f64>(0)[i], y = lanes.in<f64>(1)[i], got = lanes.out<f64>()[i];
      long double want = std::pow(static_cast<long double>(v), static_cast<long double>(y));
      if (std::isnan(want) || std::isinf(double(want)) || double(want) == 0) {
        ASSERT_TRUE(std::isnan(want) ? std::isnan(got) : got == double(want) && std::signbit(got) == std::signbit(want))
            << v << " to the " << y << " gives " << got;
        continue;
      }
      double error = double(std::fabs(got - want) / std::ldexp(1.0L, std::max(std::ilogb(want), -1022) - 52));
      ASSERT_LE(error, 4) << v << " to the " << y << " gives " << got;
    }
  }
}

const double nan = std::nan(""), inf = INFINITY;

TEST(Decomp, PowIsWithinItsUlps) {
  Arena arena;
  ArenaScope scope(arena);
  U graph = decompose(make(Op::POW, F32, {param(F32, 0), param(F32, 1)}), avx512);
  expect_native(graph, avx512);
  Lanes lanes(graph);
  auto check_batch = [&] {
    lanes.run();
    for (i64 i = 0; i < Lanes::width; i++) {
      float a = lanes.in<f32>(0)[i], b = lanes.in<f32>(1)[i], got = lanes.out<f32>()[i];
      ASSERT_LE(ulps(got, std::pow(double(a), double(b))), 0.6) << a << " to the " << b << " gives " << got;
    }
  };
  const float values[] = {0.0f,   1.0f,       2.0f,        3.0f,        0.5f,      0.33333334f,
                          1.5f,   7.0f,       16777215.0f, 16777216.0f, 1e10f,     1e38f,
                          1e-40f, 1.0000001f, 0.99999994f, float(inf),  float(nan)};
  std::vector<float> all;
  for (float v : values) all.push_back(v), all.push_back(-v);
  for (size_t i = 0; i < all.size() * all.size(); i += size_t(Lanes::width)) {
    for (size_t k = 0; k < size_t(Lanes::width); k++) {
      size_t j = (i + k) % (all.size() * all.size());
      lanes.in<f32>(0)[k] = all[j / all.size()], lanes.in<f32>(1)[k] = all[j % all.size()];
    }
    ASSERT_NO_FATAL_FAILURE(check_batch());
  }
  Random random{1};
  for (int batch = 0; batch < 300; batch++) {
    for (i64 i = 0; i < Lanes::width; i++) {
      lanes.in<u32>(0)[i] = u32(random());
      float l = std::log2(std::fabs(lanes.in<f32>(0)[i]));  // mostly results that are neither 0 nor infinity
      lanes.in<f32>(1)[i] =
          batch & 1 ? float(i64(random() >> 32) - (i64(1) << 31)) * 0x1p-31f * 150 / l : float(int(random() % 64) - 32);
    }
    ASSERT_NO_FATAL_FAILURE(check_batch());
  }
}

// Every op of integers and bool, on every dtype and width, against the reference.
i64 interesting(DType t, Random& random) {
  u64 r = random();
  i64 v = i64(random());
  switch (r % 8) {
    case 0: v = i64(r >> 8) % 4; break;
    case 1: v = -(i64(r >> 8) % 4); break;
    case 2: v = i64(u64(1) << (r >> 8 & 63)); break;
    case 3: v = i64((u64(1) << (r >> 8 & 63)) - 1); break;
    case 4: v = i64(-(u64(1) << (r >> 8 & 63))); break;
    case 5: v >>= r >> 8 & 63; break;
    default: break;
  }
  return wrap_to(v, t);
}
// Runs op(p0, p1, p2) decomposed and compares it with evaluate_op on values from `source`.
template <class Source>
void compare(Op op, DType t, U graph, int params, const std::string& what, Source&& source) {
  Lanes lanes(graph);
  DType result = has(op, TO_BOOL) ? BOOL : t;
  std::vector<std::array<Value, 3>> in(static_cast<size_t>(Lanes::width));
  for (size_t i = 0; i < in.size(); i++)
    for (int k = 0; k < params; k++) {
      in[i][size_t(k)].i = source(k);
      store_element(lanes.in<u8>(k), i64(i), op == Op::WHERE && k == 0 ? BOOL : t, in[i][size_t(k)]);
    }
  lanes.run();
  for (size_t i = 0; i < in.size(); i++) {
    Value want = evaluate_op(op, result, t, in[i][0], in[i][1], in[i][2]);
    Value got = load_element(lanes.out<u8>(), i64(i), result);
    ASSERT_EQ(got.i, want.i) << what << " of " << in[i][0].i << ", " << in[i][1].i << ", " << in[i][2].i;
  }
}
struct Machine {
  const Target& target;
  int lanes;
};
const Machine machines[] = {{avx2, 1}, {avx2, 8}, {avx512, 1}, {avx512, 16}};

TEST(Decomp, IntegerOpsAgreeWithTheReference) {
  Random random{2};
  for (auto [target, n] : machines)
    for (DType t : {BOOL, I8, U8, I16, U16, I32, U32, I64, U64, IDX})
      for (int o = 0; o < int(Op::COUNT); o++) {
        Op op = Op(o);
        if (!has(op, ALU) || has(op, FLOAT_ONLY) || op == Op::CAST || op == Op::BITCAST) continue;
        if (t.is_bool() ? !has(op, LOGIC) : false) continue;
        bool divides = op == Op::IDIV || op == Op::MOD;
        if (divides && n > 1 && t.bits() == 64) continue;  // vectors of 64-bit divisions are for isel to take apart
        Arena arena;
        ArenaScope scope(arena);
        int params = row(op).sources;
        U src[3];
        for (int k = 0; k < params; k++) src[k] = param((op == Op::WHERE && k == 0 ? BOOL : t).with_lanes(n), k);
        U graph = decompose(make_alu(op, src[0], params > 1 ? src[1] : nullptr, params > 2 ? src[2] : nullptr), target);
        std::string what = str(op, " ", t.with_lanes(n), " ", target.arch);
        SCOPED_TRACE(what);
        expect_native(graph, target);
        ASSERT_NO_FATAL_FAILURE(compare(op, t, graph, params, what, [&](int k) -> i64 {
          if (k == 1 && (op == Op::SHL || op == Op::SHR)) return i64(random() % u64(t.bits()));
          return interesting(op == Op::WHERE && k == 0 ? BOOL : t, random);
        }));
      }
}

TEST(Decomp, DivisionByConstants) {
  Random random{3};
  for (auto [target, n] : machines)
    for (DType t : {I8, U8, I16, U16, I32, U32, IDX})
      for (Op op : {Op::IDIV, Op::MOD})
        for (int round = 0; round < 60; round++) {
          Arena arena;
          ArenaScope scope(arena);
          i64 d = round < 20 ? wrap_to(round - 4, t) : interesting(t == IDX ? I32 : t, random);
          if (t == IDX && d < 0) continue;
          U x = param(t.with_lanes(n));
          if (t == IDX) {  // a loop variable knows its bounds
            i64 bound = round & 1 ? i64(1) << 31 : 1000;
            x = make(Op::RANGE, IDX.with_lanes(n), {index_constant(bound)}, {0, i64(RangeKind::LOOP)});
            ASSERT_EQ(x->max, bound - 1);
            if (round & 2) x = make_alu(Op::SUB, x, constant(x->dtype, bound / 2));
          }
          U node = make_alu(op, x, constant(x->dtype, d)), graph = decompose(node, target);
          std::string what = str(op, " by ", d, " ", t.with_lanes(n), " ", target.arch);
          SCOPED_TRACE(what);
          expect_native(graph, target);
          for (U u : toposort(graph)) ASSERT_TRUE(u->op != Op::IDIV && u->op != Op::MOD);
          i64 low = x->min, high = x->max;
          if (t == IDX) {
            UMap<U> leaf;
            leaf[x] = param(x->dtype);
            graph = substitute(graph, leaf);
          }
          Lanes lanes(graph);
          for (i64 i = 0; i < Lanes::width; i++)
            store_element(lanes.in<u8>(0), i, t,
                          {.i = t == IDX ? low + i64(random() % u64(high - low + 1)) : interesting(t, random)});
          lanes.run();
          for (i64 i = 0; i < Lanes::width; i++) {
            Value v = load_element(lanes.in<u8>(0), i, t), want = evaluate_op(op, t, t, v, {.i = d}, {});
            ASSERT_EQ(load_element(lanes.out<u8>(), i, t).i, want.i) << what << " of " << v.i;
          }
        }
}

// Every pair of dtypes. Floats to integers: in range, since outside hardware may differ.
TEST(Decomp, CastsAgreeWithTheReference) {
  Random random{4};
  const DType all[] = {BOOL, I8,   U8,   I16,      U16,      I32, U32,  I64, U64,
                       IDX,  E4M3, E5M2, E4M3FNUZ, E5M2FNUZ, F16, BF16, F32, F64};
  for (auto [target, n] : machines)
    for (DType from : all)
      for (DType to : all) {
        if (from == to) continue;
        Arena arena;
        ArenaScope scope(arena);
        U graph = decompose(cast(param(from.with_lanes(n)), to.with_lanes(n)), target);
        std::string what = str("cast ", from.with_lanes(n), " to ", to, " ", target.arch);
        SCOPED_TRACE(what);
        expect_native(graph, target);
        Lanes lanes(graph);
        for (int batch = 0; batch < (from.bits() > 16 ? 8 : from.bits() == 16 ? 64 : 1); batch++) {
          for (i64 i = 0; i < Lanes::width; i++) {
            u64 code = from.bits() <= 16 ? u64(batch * Lanes::width + i) : random();
            if (from.is_float() && from.bits() > 16 &&
                batch & 1) {  // exponents and halfway cases of the narrower format
              double v =
                  std::ldexp(double(i64(random() >> 48)) + (random() & 1 ? 0x1p-20 : 0), int(random() % 70) - 45);
              code = encode_float(random() & 1 ? -v : v, from);
            }
            if (from.is_int()) code = u64(interesting(from, random));
            if (from.is_bool()) code &= 1;
            if (from.is_float() && to.is_int()) {
              double v = decode_float(code & (~u64(0) >> (64 - from.bits())), from);
              double low = to.is_signed() ? std::ldexp(-1, to.bits() - 1) : -1,
                     high = std::ldexp(1, to.bits() - to.is_signed());
              if (!(v > low && v < high)) code = 0;
            }
            std::memcpy(lanes.in<u8>(0) + i * from.bytes(), &code, size_t(from.bytes()));
          }
          lanes.run();
          for (i64 i = 0; i < Lanes::width; i++) {
            Value v = load_element(lanes.in<u8>(0), i, from), want = convert(v, from, to),
                  got = load_element(lanes.out<u8>(), i, to);
            if (to.is_float() && to.bits() >= 32 && std::isnan(got.f) && std::isnan(want.f))
              continue;  // signalling ones are quieted
            auto code = [&](Value r) { return to.is_float() ? encode_float(r.f, to) : u64(r.i); };
            ASSERT_EQ(hex(code(got)), hex(code(want))) << what << " of " << (from.is_float() ? v.f : double(v.i));
          }
        }
      }
}

// Arithmetic of narrow floats: every op on random codes equals the reference, which computes in double and rounds once.
TEST(Decomp, NarrowFloatOpsAgreeWithTheReference) {
  Random random{5};
  for (DType t : {E4M3, E5M2, E4M3FNUZ, E5M2FNUZ, F16, BF16})
    for (Op op : {Op::ADD, Op::SUB, Op::MUL, Op::FDIV, Op::FMA, Op::MAX, Op::MIN, Op::NEG, Op::SQRT, Op::FLOOR,
                  Op::CMPLT, Op::WHERE}) {
      Arena arena;
      ArenaScope scope(arena);
      int params = row(op).sources;
      U src[3];
      for (int k = 0; k < params; k++) src[k] = param((op == Op::WHERE && k == 0 ? BOOL : t).with_lanes(8), k);
      U graph = decompose(make_alu(op, src[0], params > 1 ? src[1] : nullptr, params > 2 ? src[2] : nullptr), avx2);
      SCOPED_TRACE(str(op, " ", t));
      expect_native(graph, avx2);
      Lanes lanes(graph);
      for (i64 i = 0; i < Lanes::width * t.bytes(); i++)
        for (int k = 0; k < params; k++) lanes.in<u8>(k)[i] = u8(random()) & (op == Op::WHERE && k == 0 ? 1 : 255);
      lanes.run();
      for (i64 i = 0; i < Lanes::width; i++) {
        Value v[3] = {};
        for (int k = 0; k < params; k++) v[k] = load_element(lanes.in<u8>(k), i, op == Op::WHERE && k == 0 ? BOOL : t);
        DType result = has(op, TO_BOOL) ? BOOL : t;
        Value want = evaluate_op(op, result, t, v[0], v[1], v[2]), got = load_element(lanes.out<u8>(), i, result);
        if (result.is_float() && std::isnan(want.f) && std::isnan(got.f)) continue;
        auto code = [&](Value r) { return result.is_float() ? encode_float(r.f, t) : u64(r.i); };
        ASSERT_EQ(hex(code(got)), hex(code(want))) << v[0].f << ", " << v[1].f << ", " << v[2].f;
      }
    }
}

}  // namespace
}  // namespace ingot
