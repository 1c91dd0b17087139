// SPDX-License-Identifier: MIT
// The reference evaluator against values written out by hand and loops written in the plainest way. Everything else in
// the tree is judged by it, so nothing here may use it on both sides.
#include <gtest/gtest.h>

#include <bit>
#include <chrono>
#include <cmath>

#include "graphs.h"

namespace ingot {
namespace {

struct Eval : testing::Test {
  Arena arena;
  ArenaScope scope{arena};
  std::vector<std::vector<float>> buffers;

  U buffer(std::vector<i64> shape, std::vector<float> values) {
    std::vector<i64> arg{i64(buffers.size()), 0};
    arg.insert(arg.end(), shape.begin(), shape.end());
    buffers.push_back(std::move(values));
    return make(Op::BUFFER, F32, {}, arg);
  }
  U counting(std::vector<i64> shape) {
    i64 n = 1;
    for (i64 d : shape) n *= d;
    std::vector<float> v;
    for (i64 i = 0; i < n; i++) v.push_back(float(i));
    return buffer(shape, v);
  }
  template <class T = float>
  std::vector<T> run(U t) {
    std::vector<u8> bytes = evaluate(t, [&](U b) {
      return Memory{buffers[size_t(b->arg(0))].data(), i64(buffers[size_t(b->arg(0))].size())};
    });
    std::vector<T> out(bytes.size() / sizeof(T));
    std::copy(bytes.begin(), bytes.end(), reinterpret_cast<u8*>(out.data()));
    return out;
  }
  using V = std::vector<float>;
};

i64 int_op(Op op, DType t, i64 a, i64 b) {
  return evaluate_op(op, has(op, TO_BOOL) ? BOOL : t, t, {.i = a}, {.i = b}, {}).i;
}
double float_op(Op op, DType t, double a, double b = 0, double c = 0) {
  return evaluate_op(op, t, t, {.f = a}, {.f = b}, {.f = c}).f;
}

TEST(EvaluateOp, DivisionAndRemainderFloor) {
  for (i64 a = -9; a <= 9; a++)
    for (i64 b = -4; b <= 4; b++) {
      i64 q = b ? i64(std::floor(double(a) / double(b))) : 0;
      EXPECT_EQ(int_op(Op::IDIV, I32, a, b), q) << a << " / " << b;
      EXPECT_EQ(int_op(Op::MOD, I32, a, b), b ? a - b * q : 0) << a << " % " << b;
    }
  EXPECT_EQ(int_op(Op::IDIV, I8, -128, -1), -128);
  EXPECT_EQ(int_op(Op::IDIV, I64, std::numeric_limits<i64>::min(), -1), std::numeric_limits<i64>::min());
  EXPECT_EQ(int_op(Op::MOD, I64, std::numeric_limits<i64>::min(), -1), 0);
  EXPECT_EQ(u64(int_op(Op::IDIV, U64, -1, 10)), ~u64(0) / 10);
  EXPECT_EQ(int_op(Op::CMPLT, U64, 1, -1), 1);
  EXPECT_EQ(int_op(Op::CMPLT, I64, 1, -1), 0);
  EXPECT_EQ(int_op(Op::SHR, U64, -1, 63), 1);
  EXPECT_EQ(int_op(Op::SHR, I8, -128, 3), -16);
}

TEST(EvaluateOp, NarrowIntegersWrapAsTheHosts) {
  for (i64 a = -128; a < 128; a++)
    for (i64 b = -128; b < 128; b += 3) {
      ASSERT_EQ(int_op(Op::ADD, I8, a, b), i8(a + b));
      ASSERT_EQ(int_op(Op::MUL, I8, a, b), i8(a * b));
      ASSERT_EQ(int_op(Op::SUB, U8, a & 255, b & 255), u8(a - b));
      ASSERT_EQ(int_op(Op::MAX, U8, a & 255, b & 255), std::max(a & 255, b & 255));
    }
  EXPECT_EQ(int_op(Op::NEG, I8, -128, 0), -128);
  EXPECT_EQ(int_op(Op::SHL, U16, 0xffff, 4), 0xfff0);
}

TEST(EvaluateOp, SinglesAreIeee) {
  Random r(1);
  for (int i = 0; i < 20000; i++) {
    float a = float(random_value(r, F32).f), b = float(random_value(r, F32).f), c = float(random_value(r, F32).f);
    auto same = [](double x, float y) { return same_value({.f = x}, {.f = y}, F32); };
    ASSERT_TRUE(same(float_op(Op::ADD, F32, a, b), a + b)) << a << " " << b;
    ASSERT_TRUE(same(float_op(Op::SUB, F32, a, b), a - b)) << a << " " << b;
    ASSERT_TRUE(same(float_op(Op::MUL, F32, a, b), a * b)) << a << " " << b;
    ASSERT_TRUE(same(float_op(Op::FDIV, F32, a, b), a / b)) << a << " " << b;
    ASSERT_TRUE(same(float_op(Op::SQRT, F32, a), std::sqrt(a))) << a;
    ASSERT_TRUE(same(float_op(Op::FMA, F32, a, b, c), std::fma(a, b, c))) << a << " " << b << " " << c;
    ASSERT_EQ(evaluate_op(Op::CMPLT, BOOL, F32, {.f = a}, {.f = b}, {}).i, a < b);
    ASSERT_EQ(evaluate_op(Op::CMPNE, BOOL, F32, {.f = a}, {.f = b}, {}).i, a != b);
  }
  EXPECT_TRUE(std::isnan(float_op(Op::MAX, F32, NAN, 1)) && std::isnan(float_op(Op::MAX, F32, 1, NAN)));
  EXPECT_TRUE(std::isnan(float_op(Op::MIN, F32, NAN, 1)) && std::isnan(float_op(Op::MIN, F32, 1, NAN)));
  EXPECT_EQ(float_op(Op::ROUND, F32, 2.5), 2);
  EXPECT_EQ(float_op(Op::ROUND, F32, -3.5), -4);
  EXPECT_THROW(float_op(Op::AND, F32, 1, 1), Error);
  EXPECT_THROW(int_op(Op::SQRT, I32, 4, 0), Error);
}

TEST(EvaluateOp, HalfIsRoundedOnce) {
  Random r(2);
  for (int i = 0; i < 20000; i++) {
    double a = random_value(r, F16).f, b = random_value(r, F16).f, c = random_value(r, F16).f;
    ASSERT_TRUE(
        same_value({.f = float_op(Op::MUL, F16, a, b)}, {.f = double(_Float16(_Float16(a) * _Float16(b)))}, F16));
    long double exact =
        (long double)(a)*b + c;  // 22 bits and 11 bits, at most 65 apart: long double rounds to odd bits nowhere
    if (std::isfinite(a) && std::isfinite(b) && std::isfinite(c)) {
      ASSERT_EQ(float_op(Op::FMA, F16, a, b, c), double(_Float16(exact))) << a << " " << b << " " << c;
    }
  }
}

TEST(Convert, RoundsOnceAndTruncates) {
  EXPECT_EQ(convert({.f = -1.9}, F32, I32).i, -1);
  EXPECT_EQ(convert({.f = -1}, F32, U8).i, 255);
  EXPECT_EQ(convert({.f = 0x1p63}, F64, U64).i, i64(u64(1) << 63));
  EXPECT_EQ(convert({.f = NAN}, F32, I32).i, 0);
  EXPECT_EQ(convert({.f = NAN}, F32, BOOL).i, 1);
  EXPECT_EQ(convert({.f = 0.25}, F32, BOOL).i, 1);
  EXPECT_EQ(convert({.i = 256}, I32, BOOL).i, 1);
  EXPECT_EQ(convert({.i = -1}, I32, U64).i, -1);
  EXPECT_EQ(convert({.i = -1}, U64, F32).f, 0x1p64);
  i64 sticky = (i64(1) << 62) + (i64(1) << 38) + 1;  // a tie of f32 but for its last bit, which a double cannot hold
  EXPECT_EQ(convert({.i = sticky}, I64, F32).f, double(float(sticky)));
  EXPECT_EQ(convert({.i = -sticky}, I64, F32).f, double(float(-sticky)));
  EXPECT_EQ(convert({.i = (i64(1) << 62) + (i64(1) << 54) + 1}, I64, BF16).f, 0x1p62 + 0x1p55);
  EXPECT_EQ(convert({.f = 2049}, F32, F16).f, 2048);
}

TEST_F(Eval, Movement) {
  U t = counting({2, 3});
  auto op1 = [](Op op, U x, std::initializer_list<i64> arg) { return make(op, x->dtype, {x}, arg); };
  EXPECT_EQ(run(op1(Op::PERMUTE, t, {1, 0})), (V{0, 3, 1, 4, 2, 5}));
  EXPECT_EQ(run(op1(Op::FLIP, t, {0, 1})), (V{2, 1, 0, 5, 4, 3}));
  EXPECT_EQ(run(op1(Op::SHRINK, t, {0, 2, 1, 3})), (V{1, 2, 4, 5}));
  EXPECT_EQ(run(op1(Op::PAD, t, {1, 0, 0, 1})), (V{0, 0, 0, 0, 0, 1, 2, 0, 3, 4, 5, 0}));
  EXPECT_EQ(run(op1(Op::EXPAND, op1(Op::RESHAPE, counting({2}), {2, 1}), {2, 2})), (V{0, 0, 1, 1}));
  EXPECT_EQ(run(op1(Op::SHRINK, t, {1, 1, 0, 3})), V{});
  // WINDOW of 0 … 6 with 3 taps, stride 2, dilation 1: [0 1 2] [2 3 4] [4 5 6]
  U wide = op1(Op::EXPAND, op1(Op::RESHAPE, counting({7}), {7, 1}), {7, 3});
  EXPECT_EQ(run(op1(Op::WINDOW, wide, {0, 1, 2, 1, 3})), (V{0, 1, 2, 2, 3, 4, 4, 5, 6}));
  EXPECT_EQ(run(op1(Op::WINDOW, wide, {0, 1, 1, 2, 3})), (V{0, 2, 4, 1, 3, 5, 2, 4, 6}));
  // UNWINDOW puts (o, k) at (2 o + k, k): 0 1 2 / 3 4 5 over four positions
  EXPECT_EQ(run(op1(Op::UNWINDOW, t, {0, 1, 2, 1, 4})), (V{0, 0, 0, 0, 1, 0, 3, 0, 2, 0, 4, 0}));
}

// UNWINDOW is WINDOW's adjoint: <WINDOW x, y> = <x, UNWINDOW y>, and both are what op.def says element by element.
TEST_F(Eval, WindowAndItsAdjoint) {
  Random r(5);
  for (int i = 0; i < 100; i++) {
    i64 k = r.between(1, 3), stride = r.between(1, 3), dilation = r.between(1, 3),
        n = (k - 1) * dilation + 1 + r.below(6);
    i64 out = (n - (k - 1) * dilation - 1) / stride + 1;
    auto fill = [&](i64 count) {
      V v;
      while (i64(v.size()) < count) v.push_back(float(r.between(-8, 8)));
      return v;
    };
    V xs = fill(n * k), ys = fill(out * k);
    V w = run(make(Op::WINDOW, F32, {buffer({n, k}, xs)}, {0, 1, stride, dilation, out}));
    V a = run(make(Op::UNWINDOW, F32, {buffer({out, k}, ys)}, {0, 1, stride, dilation, n}));
    double left = 0, right = 0;
    for (size_t j = 0; j < w.size(); j++) left += w[j] * ys[j];
    for (size_t j = 0; j < a.size(); j++) right += a[j] * xs[j];
    ASSERT_EQ(left, right);
    for (i64 p = 0; p < n; p++)
      for (i64 q = 0; q < k; q++) {
        i64 o = p - q * dilation;
        bool hit = o >= 0 && o % stride == 0 && o / stride < out;
        ASSERT_EQ(a[size_t(p * k + q)], hit ? ys[size_t(o / stride * k + q)] : 0);
      }
  }
}

TEST_F(Eval, ReductionsGatherAndElementwise) {
  U t = counting({2, 3});
  EXPECT_EQ(run(make(Op::REDUCE_AXIS, F32, {t}, {i64(Op::ADD), 1})), (V{3, 12}));
  EXPECT_EQ(run(make(Op::REDUCE_AXIS, F32, {t}, {i64(Op::MAX), 0, 1})), (V{5}));
  EXPECT_EQ(run(make(Op::REDUCE_AXIS, F32, {t}, {i64(Op::MUL), 0})), (V{0, 4, 10}));
  EXPECT_EQ(run(make(Op::REDUCE_AXIS, F32, {buffer({0}, {})}, {i64(Op::MAX), 0})), (V{-INFINITY}));
  EXPECT_EQ(run(make_alu(Op::ADD, t, constant(F32, 10))), (V{10, 11, 12, 13, 14, 15}));
  EXPECT_EQ(run(make_alu(Op::WHERE, make_alu(Op::CMPLT, t, constant(F32, 2)), constant(F32, 7), t)),
            (V{7, 7, 2, 3, 4, 5}));
  U index = cast(buffer({2, 2}, {2, 0, -1, 3}), I32);
  EXPECT_EQ(run(make(Op::GATHER, F32, {t, index}, {1})), (V{2, 0, 0, 0}));
  // A sum that f32 cannot accumulate: 2^24 ones and more, as 1 + 2^-24 …
  U tiny = buffer({3}, {1, 0x1p-24f, 0x1p-24f});
  EXPECT_EQ(run(make(Op::REDUCE_AXIS, F32, {tiny}, {i64(Op::ADD), 0})), (V{1 + 0x1p-23f}));
  EXPECT_EQ(run<i32>(make(Op::IOTA, I32, {}, {3})), (std::vector<i32>{0, 1, 2}));
  EXPECT_EQ(run<u16>(cast(t, F16)), (std::vector<u16>{0, 0x3c00, 0x4000, 0x4200, 0x4400, 0x4500}));
  EXPECT_EQ(run<u32>(make(Op::BITCAST, U32, {constant(F32, 1)})), (std::vector<u32>{0x3f800000}));
}

TEST_F(Eval, AssignStoresAndReadersOfTheBufferSeeTheOldValue) {
  U b = counting({4});
  U value = make_alu(Op::ADD, make(Op::SHRINK, F32, {b}, {1, 3}), constant(F32, 10));
  U assigned = make(Op::ASSIGN, F32, {b, value}, {1, 3});
  EXPECT_EQ(run(make_alu(Op::ADD, assigned, b)), (V{0, 12, 14, 6}));
  EXPECT_EQ(buffers[0], (V{0, 11, 12, 3}));
  U again = make(Op::ASSIGN, F32, {make(Op::ASSIGN, F32, {b, constant(F32, 1)}), make_alu(Op::MUL, b, b)});
  EXPECT_EQ(run(again), (V{0, 121, 144, 9}));
  EXPECT_EQ(buffers[0], (V{0, 121, 144, 9}));
}

TEST_F(Eval, AMillionElementsTakeAMoment) {
  U t = counting({1000, 1000});
  U u = make_alu(Op::EXP2, make_alu(Op::MUL, t, constant_float(F32, 1e-6)));
  u = make_alu(Op::ADD, make(Op::PERMUTE, F32, {u}, {1, 0}), u);
  u = make(Op::REDUCE_AXIS, F32, {u}, {i64(Op::ADD), 0, 1});
  i64 start = now_ns();
  float sum = run(u)[0];
  EXPECT_LT(now_ns() - start, 20'000'000'000) << "0.1 s on an idle machine without sanitizers";
  EXPECT_NEAR(sum, 2e6 / std::log(2), 20);
}

// ---- kernels

struct Kernel : testing::Test {
  Arena arena;
  ArenaScope scope{arena};
  static Expr range(i64 id, i64 bound, RangeKind kind = RangeKind::LOOP) {
    return make(Op::RANGE, IDX, {index_constant(bound)}, {id, i64(kind)});
  }
  static U param(i64 slot, i64 elements) { return make(Op::PARAM, F32, {}, {slot, elements}); }
  static U at(U memory, Expr i, U condition = nullptr) {
    return condition ? make(Op::INDEX, memory->dtype, {memory, i, condition})
                     : make(Op::INDEX, memory->dtype, {memory, i});
  }
  static U load(U memory, Expr i, U condition = nullptr) {
    return make(Op::LOAD, memory->dtype, {at(memory, i, condition)});
  }
  static U store(U index, U value, std::vector<U> ranges) {
    std::vector<U> src{index, value};
    src.insert(src.end(), ranges.begin(), ranges.end());
    return make(Op::STORE, VOID, src);
  }
  static std::vector<float> run(U store, size_t elements, std::vector<std::vector<float>> in) {
    std::vector<float> out(elements, -1);
    std::vector<Memory> params{{out.data(), i64(elements)}};
    for (auto& v : in) params.push_back({v.data(), i64(v.size())});
    U sink = make(Op::SINK, VOID, {store});
    check_spec(sink, Stage::KERNEL, "the test");
    evaluate_kernel(sink, params);
    return out;
  }
  using V = std::vector<float>;
};

TEST_F(Kernel, Matmul) {
  Expr i = range(0, 2), j = range(1, 2), k = range(2, 3, RangeKind::REDUCE);
  U product = make_alu(Op::MUL, load(param(1, 6), i * 3 + k), load(param(2, 6), k * 2 + j));
  U sum = make(Op::REDUCE, F32, {product, k}, {i64(Op::ADD)});
  EXPECT_EQ(run(store(at(param(0, 4), i * 2 + j), sum, {i, j}), 4, {{1, 2, 3, 4, 5, 6}, {1, 0, 0, 1, 1, 1}}),
            (V{4, 5, 10, 11}));
}

TEST_F(Kernel, NestedReductionsShareALoad) {  // sum_k (x_k - max x)
  Expr i = range(0, 2), k = range(1, 3, RangeKind::REDUCE), m = range(2, 3, RangeKind::REDUCE);
  U largest = make(Op::REDUCE, F32, {load(param(1, 6), i * 3 + m), m}, {i64(Op::MAX)});
  U sum = make(Op::REDUCE, F32, {make_alu(Op::SUB, load(param(1, 6), i * 3 + k), largest), k}, {i64(Op::ADD)});
  EXPECT_EQ(run(store(at(param(0, 2), i), sum, {i}), 2, {{1, 2, 3, 6, 6, 7}}), (V{-3, -2}));
}

TEST_F(Kernel, GuardsAndBounds) {
  Expr i = range(0, 4);
  U guarded = load(param(1, 4), i - 1, Expr(0) < i);
  EXPECT_EQ(run(store(at(param(0, 4), i), guarded, {i}), 4, {{1, 2, 3, 4}}), (V{0, 1, 2, 3}));
  EXPECT_EQ(run(store(at(param(0, 4), i, i < 2), constant(F32, 5), {i}), 4, {}), (V{5, 5, -1, -1}));
  try {
    run(store(at(param(0, 4), i), load(param(1, 4), i + 1), {i}), 4, {{1, 2, 3, 4}});
    FAIL() << "read past the end";
  } catch (const Error& e) {
    EXPECT_STREQ(e.what(), "out of bounds: p1[r0 + 1] names element 4 of 4");
  }
  EXPECT_THROW(run(store(at(param(0, 4), i - 1), constant(F32, 1), {i}), 4, {}), Error);
  EXPECT_THROW(run(store(at(param(0, 4), i), load(param(3, 4), i), {i}), 4, {}), Error);
}

TEST_F(Kernel, LocalMemoryIsFilledBeforeItIsRead) {
  Expr i = range(0, 2), j = range(1, 3), k = range(2, 3);
  U local = make(Op::LOCAL, F32, {}, {0, 3, 1});
  U fill = store(at(local, j), make_alu(Op::MUL, load(param(1, 6), i * 3 + j), constant(F32, 2)), {j});
  U filled = make(Op::AFTER, F32, {local, fill});
  U reversed = load(filled, Expr(2) - k);
  EXPECT_EQ(run(store(at(param(0, 6), i * 3 + k), reversed, {i, k}), 6, {{1, 2, 3, 4, 5, 6}}), (V{6, 4, 2, 12, 10, 8}));
}

TEST_F(Kernel, VectorsLaneByLane) {
  DType f4 = F32.with_lanes(4);
  U wide = make(Op::LOAD, f4, {make(Op::INDEX, f4, {param(1, 8), range(0, 2) * 4})});
  U doubled =
      make_alu(Op::ADD, wide,
               make(Op::CONST, f4, {}, {0, std::bit_cast<i64>(1.0), std::bit_cast<i64>(2.0), std::bit_cast<i64>(3.0)}));
  U to = make(Op::INDEX, f4, {param(0, 8), range(0, 2) * 4});
  EXPECT_EQ(run(store(to, doubled, {range(0, 2)}), 8, {{0, 0, 0, 0, 1, 1, 1, 1}}), (V{0, 1, 2, 3, 1, 2, 3, 4}));
  U offsets = make(Op::CONST, IDX.with_lanes(4), {}, {3, 2, 1, 0}),
    mask = make(Op::CONST, BOOL.with_lanes(4), {}, {1, 1, 0, 1});
  U gathered = make(Op::LOAD, f4, {make(Op::INDEX, f4, {param(1, 4), offsets, mask})});
  EXPECT_EQ(run(store(make(Op::INDEX, f4, {param(0, 4), index_constant(0)}), gathered, {}), 4, {{1, 2, 3, 4}}),
            (V{4, 3, 0, 1}));
  U lane = make(Op::EXTRACT, F32, {gathered}, {3});
  EXPECT_EQ(run(store(at(param(0, 1), 0), lane, {}), 1, {{1, 2, 3, 4}}), V{1});
}

TEST_F(Kernel, OpenLoopsAreErrors) {
  Expr i = range(0, 2);
  U sink = make(Op::SINK, VOID, {store(at(param(0, 4), i), constant(F32, 1), {})});
  EXPECT_THROW(evaluate_kernel(sink, {}), Error);
  EXPECT_THROW(check_spec(sink, Stage::KERNEL, "the test"), Error);
}

}  // namespace
}  // namespace ingot
