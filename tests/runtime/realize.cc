// SPDX-License-Identifier: MIT
// realize(), hazards, sweeping and recordings, on whatever device DEV names (the CPU when it names none), from UOps up.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <cmath>
#include "compiler/runtime/runtime.h"

namespace ingot {
namespace {
using testing::ElementsAre;
using testing::HasSubstr;

struct Realize : testing::Test {
  Scoped<Text> device{ctx.DEV, ctx.DEV.empty() ? Text("CPU") : ctx.DEV};
  int number = device_number("");
  U vector(std::vector<float> v) {
    i64 n = i64(v.size());
    return buffer_from_host(v.data(), F32, {&n, 1}, number);
  }
  std::vector<float> values(U u) {
    std::vector<float> out(size_t(u->elements()));
    read_back(u, out.data());
    return out;
  }
  std::vector<float> compute(U u) { return values(realize({&u, 1})[0]); }
};
U number_like(U x, double v) {
  std::vector<i64> ones(x->ndim, 1), shape(x->shape().begin(), x->shape().end());
  return make(Op::EXPAND, x->dtype,
              {make(Op::RESHAPE, x->dtype, {constant_float(x->dtype, v)}, std::initializer_list<i64>{1})}, {shape[0]});
}
U plus(U x, double v) { return make_alu(Op::ADD, x, number_like(x, v)); }
U times(U x, double v) { return make_alu(Op::MUL, x, number_like(x, v)); }
U assign(U buffer, U value) { return make(Op::ASSIGN, buffer->dtype, {buffer, value}); }
template <class F>
std::string error_of(F f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

TEST_F(Realize, computes_and_makes_pins_forget) {
  Pin x = vector({1, 2, 3}), y = plus(*x, 10), z = times(*y, 2);
  realize(std::vector<U>{*y});
  EXPECT_EQ(y->op, Op::BUFFER);
  ASSERT_EQ(z->op, Op::MUL);
  EXPECT_EQ(z->src(0), *y);  // z's graph now starts at y's memory
  EXPECT_THAT(compute(*z), ElementsAre(22, 24, 26));
  EXPECT_THAT(values(*y), ElementsAre(11, 12, 13));
}
TEST_F(Realize, equal_roots_and_buffers_are_computed_once) {
  Pin x = vector({1, 2});
  Pin y = plus(*x, 1);
  auto out = realize(std::vector<U>{*y, *x, *y});
  EXPECT_EQ(out[0], out[2]);
  EXPECT_EQ(out[1], *x);
}
TEST_F(Realize, assign_writes_in_place_and_keeps_the_address) {
  Pin w = vector({1, 2, 3});
  void* memory = buffer_of(*w)->host;
  U buffer = *w;
  w = assign(*w, plus(*w, 1));
  realize(std::vector<U>{*w});
  EXPECT_EQ(*w, buffer);
  EXPECT_EQ(buffer_of(*w)->host, memory);
  EXPECT_THAT(values(*w), ElementsAre(2, 3, 4));
}
TEST_F(Realize, region_assign_writes_only_the_region) {
  Pin w = vector({1, 2, 3, 4});
  Pin v = vector({8, 9});
  w = make(Op::ASSIGN, F32, {*w, *v}, {1, 3});
  EXPECT_THAT(compute(*w), ElementsAre(1, 8, 9, 4));
}
TEST_F(Realize, live_graphs_of_the_old_value_are_computed_before_it_is_overwritten) {
  Pin w = vector({1, 2, 3});
  Pin old_sum = make(Op::REDUCE_AXIS, F32, {*w}, {i64(Op::ADD), 0}), old_double = times(*w, 2), alias = *w;
  w = assign(*w, times(*w, 10));
  realize(std::vector<U>{*w});
  EXPECT_THAT(values(*w), ElementsAre(10, 20, 30));
  EXPECT_THAT(values(*alias), ElementsAre(10, 20, 30));  // the memory itself
  EXPECT_EQ(old_double->op, Op::BUFFER);
  EXPECT_THAT(values(*old_double), ElementsAre(2, 4, 6));
  EXPECT_THAT(compute(*old_sum), ElementsAre(6));
}
TEST_F(Realize, graphs_of_the_new_value_are_left_alone) {
  Pin w = vector({1, 2});
  w = assign(*w, plus(*w, 1));
  Pin after = times(*w, 2);
  realize(std::vector<U>{*w});
  EXPECT_NE(after->op, Op::BUFFER);
  EXPECT_THAT(compute(*after), ElementsAre(4, 6));
}
TEST_F(Realize, an_assign_inside_a_realised_graph_runs_once) {
  Pin w = vector({1, 2});
  w = assign(*w, plus(*w, 1));
  Pin y = times(*w, 3);
  realize(std::vector<U>{*y});
  EXPECT_EQ(w->op, Op::BUFFER);
  EXPECT_THAT(values(*y), ElementsAre(6, 9));
  EXPECT_THAT(compute(*w), ElementsAre(2, 3));
}
TEST_F(Realize, two_assigns_read_each_others_old_value) {
  Pin a = vector({1, 2}), b = vector({10, 20});
  U new_a = assign(*a, make_alu(Op::ADD, *a, *b)), new_b = assign(*b, make_alu(Op::SUB, *b, *a));
  a = new_a, b = new_b;
  realize(std::vector<U>{*a, *b});
  EXPECT_THAT(values(*a), ElementsAre(11, 22));
  EXPECT_THAT(values(*b), ElementsAre(9, 18));
}
TEST_F(Realize, assigns_chain) {
  Pin w = vector({1, 1});
  for (int i = 0; i < 5; i++) w = assign(*w, times(*w, 2));
  EXPECT_THAT(compute(*w), ElementsAre(32, 32));
}
TEST_F(Realize, memory_and_nodes_stay_flat_over_1000_steps) {
  Pin w = vector(std::vector<float>(50'000, 1)), loss;
  sweep_now();
  i64 before = counters().memory_bytes, most = 0;
  size_t nodes = 0;
  for (int step = 0; step < 1000; step++) {
    Pin x = vector(std::vector<float>(50'000, float(step)));
    loss = make(Op::REDUCE_AXIS, F32, {*x}, {i64(Op::ADD), 0});
    if (step % 20 == 0) w = assign(*w, plus(*w, 1));
    realize(std::vector<U>{*loss, *w});
    most = std::max(most, counters().memory_bytes);
    nodes = std::max(nodes, Arena::main().size());
  }
  EXPECT_LT(most, before + (i64(36) << 20));  // of 200 MB
  EXPECT_LT(nodes, 40'000u);
  EXPECT_FLOAT_EQ(values(*w)[7], 51);
}
TEST_F(Realize, memory_of_a_dropped_tensor_goes_with_the_sweep) {
  sweep_now();
  i64 before = counters().memory_bytes;
  { Pin x = vector(std::vector<float>(100'000)); }
  EXPECT_GE(counters().memory_bytes, before + 400'000);
  sweep_now();
  EXPECT_EQ(counters().memory_bytes, before);
}
TEST_F(Realize, errors_name_the_cause) {
  EXPECT_THAT(error_of([&] {
                std::vector<i64> s{i64(1) << 40, i64(1) << 40};
                new_buffer(F32, s, number);
              }),
              HasSubstr("too large"));
  EXPECT_THAT(error_of([] { device_number("CPUU"); }), HasSubstr("did you mean CPU?"));
  EXPECT_THAT(error_of([] { device_number("cpu"); }), HasSubstr("capitals"));
  EXPECT_THAT(error_of([] { device_number("CPU:0:avx3"); }), HasSubstr("There are avx2 and avx512"));
  EXPECT_THAT(error_of([] { device_number("CPU:7"); }), HasSubstr("not on this machine"));
  EXPECT_THAT(error_of([] { device_number("MODEL+CPU"); }), HasSubstr("nothing stands before"));
  EXPECT_THAT(error_of([] { device_number("CPU:x"); }), HasSubstr("not a number"));
}

// ---- recordings

struct Capture : Realize {
  Recording r;
  // What the user-facing wrapper does: inputs are made anew as BUFFERs over the same memory.
  std::vector<U> call(std::vector<U> in, const std::function<std::vector<U>(std::vector<U>)>& step) {
    if (r.ready()) return r.replay(in), outputs;
    std::vector<U> fresh;
    for (U u : in) fresh.push_back(u->op == Op::BUFFER ? buffer_on(buffer_of(u), u->dtype, u->shape(), number) : u);
    outputs = r.record(fresh, [&] { return step(fresh); });
    for (U u : outputs) pins.emplace_back(u);
    return outputs;
  }
  std::vector<U> outputs;
  std::vector<Pin> pins;
};

TEST_F(Capture, replays_with_other_inputs_into_the_same_outputs) {
  int runs = 0;
  auto step = [&](std::vector<U> in) { return runs++, std::vector<U>{plus(times(in[0], 2), 1)}; };
  Pin a = vector({1, 2}), b = vector({10, 20}), c = vector({-1, -2});
  U out = call({*a}, step)[0];
  EXPECT_THAT(values(out), ElementsAre(3, 5));
  ASSERT_TRUE(r.ready());
  EXPECT_EQ(call({*b}, step)[0], out);
  EXPECT_THAT(values(out), ElementsAre(21, 41));
  call({*c}, step);
  EXPECT_THAT(values(out), ElementsAre(-1, -3));
  EXPECT_EQ(runs, 1);
}
TEST_F(Capture, state_assigned_in_place_advances) {
  Pin w = vector({1, 1}), count = vector({0});
  auto step = [&](std::vector<U> in) {
    w = assign(*w, make_alu(Op::ADD, *w, in[0]));
    count = assign(*count, plus(*count, 1));  // left behind: nobody returns it
    return std::vector<U>{times(*w, 10)};
  };
  Pin x = vector({1, 2});
  for (int i = 1; i <= 5; i++) EXPECT_THAT(values(call({*x}, step)[0]), ElementsAre(10 * (1 + i), 10 * (1 + 2 * i)));
  EXPECT_TRUE(r.ready());
  EXPECT_THAT(values(*w), ElementsAre(6, 11));
  EXPECT_THAT(values(*count), ElementsAre(5));
}
TEST_F(Capture, state_made_lazily_settles_in_the_first_call) {
  Pin x = vector({1, 2}), momentum;
  Pin w = plus(number_like(*x, 3), 1);  // never realised before the step
  auto step = [&](std::vector<U> in) {
    if (!*momentum) momentum = realize(std::vector<U>{number_like(in[0], 0)})[0];
    momentum = assign(*momentum, make_alu(Op::ADD, times(*momentum, 0.5), in[0]));
    w = w->op == Op::BUFFER ? assign(*w, make_alu(Op::SUB, *w, *momentum)) : make_alu(Op::SUB, *w, *momentum);
    return std::vector<U>{*w};
  };
  std::vector<float> m{0, 0}, v{4, 4};
  for (int i = 0; i < 6; i++) {
    for (int k = 0; k < 2; k++) m[size_t(k)] = m[size_t(k)] * 0.5f + float(k + 1), v[size_t(k)] -= m[size_t(k)];
    U out = call({*x}, step)[0];
    EXPECT_THAT(values(out), ElementsAre(v[0], v[1])) << "call " << i;
    EXPECT_EQ(r.ready(), i >= 1);
  }
}
TEST_F(Capture, graphs_left_in_live_tensors_are_refreshed) {
  Pin w = vector({1, 2}), gradient;
  auto step = [&](std::vector<U> in) {
    gradient = make_alu(Op::MUL, *w, in[0]);
    w = assign(*w, make_alu(Op::ADD, *w, in[0]));
    return std::vector<U>{plus(in[0], 0.5)};
  };
  Pin a = vector({1, 1}), b = vector({2, 3});
  call({*a}, step);
  ASSERT_TRUE(r.ready());
  EXPECT_THAT(compute(*gradient), ElementsAre(1, 2));
  call({*b}, step);
  EXPECT_THAT(compute(*gradient), ElementsAre(4, 9));
}
TEST_F(Capture, refuses_other_shapes_dtypes_counts_and_lazy_inputs) {
  auto step = [&](std::vector<U> in) { return std::vector<U>{make_alu(Op::ADD, in[0], in[1])}; };
  Pin a = vector({1, 2}), b = vector({3, 4}), longer = vector({1, 2, 3}), lazy = plus(*a, 1);
  EXPECT_THAT(error_of([&] { call({*a, *lazy}, step); }), HasSubstr("input 1 of the captured step is not in memory"));
  call({*a, *b}, step);
  ASSERT_TRUE(r.ready());
  EXPECT_THAT(error_of([&] {
                call({*a, *longer}, step);
              }),
              testing::AllOf(HasSubstr("input 1"), HasSubstr("(2)"), HasSubstr("(3)")));
  i64 n = 2;
  std::vector<i32> ints{1, 2};
  Pin i = buffer_from_host(ints.data(), I32, {&n, 1}, number);
  EXPECT_THAT(error_of([&] { call({*i, *b}, step); }), testing::AllOf(HasSubstr("input 0"), HasSubstr("i32")));
  EXPECT_THAT(error_of([&] { call({*a}, step); }), HasSubstr("takes 2 inputs, not 1"));
  EXPECT_THAT(error_of([&] { call({*a, *lazy}, step); }), HasSubstr("input 1 of the captured step is not in memory"));
  EXPECT_THAT(values(call({*b, *a}, step)[0]), ElementsAre(4, 6));  // still works after all that
}
TEST_F(Capture, refuses_inputs_that_share_memory) {
  Pin w = vector({1, 2});
  auto step = [&](std::vector<U> in) {
    w = assign(*w, make_alu(Op::ADD, *w, in[0]));
    return std::vector<U>{make_alu(Op::MUL, in[0], in[1])};
  };
  Pin a = vector({1, 2}), b = vector({3, 4});
  U out = call({*a, *b}, step)[0];
  ASSERT_TRUE(r.ready());
  EXPECT_THAT(error_of([&] {
                call({*a, *a}, step);
              }),
              HasSubstr("inputs 0 and 1 of the captured step are the same memory"));
  EXPECT_THAT(error_of([&] { call({out, *b}, step); }), HasSubstr("shares memory with a tensor that the step writes"));
  EXPECT_THAT(error_of([&] { call({*b, *w}, step); }), HasSubstr("shares memory with a tensor that the step writes"));
  EXPECT_THAT(values(*w), ElementsAre(2, 4));  // none of these ran
  EXPECT_THAT(values(call({*b, *a}, step)[0]), ElementsAre(3, 8));
}
TEST_F(Capture, inputs_shared_at_the_recording_may_be_shared_later) {
  auto step = [&](std::vector<U> in) { return std::vector<U>{make_alu(Op::MUL, in[0], in[1])}; };
  Pin a = vector({1, 2}), b = vector({3, 4});
  call({*a, *a}, step);
  EXPECT_THAT(values(call({*b, *b}, step)[0]), ElementsAre(9, 16));
  EXPECT_THAT(values(call({*a, *b}, step)[0]), ElementsAre(3, 8));
}
TEST_F(Capture, refuses_a_host_read_inside) {
  Pin x = vector({1, 2});
  EXPECT_THAT(
      error_of([&] { call({*x}, [&](std::vector<U> in) { return values(in[0]), std::vector<U>{plus(in[0], 1)}; }); }),
      HasSubstr("read inside a captured step"));
  EXPECT_FALSE(recording::active());
  EXPECT_THAT(values(*x), ElementsAre(1, 2));
}
TEST_F(Capture, refuses_tensors_made_from_the_host_in_every_call) {
  Pin x = vector({1, 2});
  auto step = [&](std::vector<U> in) { return std::vector<U>{make_alu(Op::ADD, in[0], vector({5, 6}))}; };
  EXPECT_THAT(values(call({*x}, step)[0]), ElementsAre(6, 8));
  EXPECT_FALSE(r.ready());
  EXPECT_THAT(error_of([&] { call({*x}, step); }),
              testing::AllOf(HasSubstr("the step makes the tensor f32 (2)"), HasSubstr("pass it as an input")));
}
TEST_F(Capture, refuses_state_that_is_rebound_instead_of_assigned) {
  Pin x = vector({1, 2}), average = vector({0, 0});
  auto step = [&](std::vector<U> in) {
    average = make_alu(Op::ADD, times(*average, 0.5), in[0]);
    return std::vector<U>{plus(in[0], 1)};
  };
  call({*x}, step);
  EXPECT_FALSE(r.ready());
  EXPECT_THAT(error_of([&] { call({*x}, step); }),
              HasSubstr("is read by the step and then replaced by a new one; use assign()"));
}
TEST_F(Capture, refuses_an_assignment_that_was_pending) {
  Pin x = vector({1, 2}), w = vector({0, 0});
  auto step = [&](std::vector<U> in) { return std::vector<U>{make_alu(Op::ADD, *w, in[0])}; };
  w = assign(*w, plus(*w, 1));
  EXPECT_THAT(values(call({*x}, step)[0]), ElementsAre(2, 3));
  EXPECT_FALSE(r.ready());
  EXPECT_THAT(values(call({*x}, step)[0]), ElementsAre(2, 3));
  EXPECT_TRUE(r.ready());
  EXPECT_THAT(values(call({*x}, step)[0]), ElementsAre(2, 3));
}
TEST_F(Capture, refuses_a_capture_inside_a_capture) {
  Pin x = vector({1, 2});
  Recording inner;
  EXPECT_THAT(
      error_of([&] {
        call({*x}, [&](std::vector<U> in) { return inner.record(in, [&] { return std::vector<U>{plus(in[0], 1)}; }); });
      }),
      HasSubstr("inside another one"));
}
TEST_F(Capture, the_same_tensor_by_two_ways_is_not_confused) {
  Pin w = vector({1, 2}), other = vector({10, 20});
  auto step = [&](std::vector<U> in) { return std::vector<U>{make_alu(Op::MUL, *w, in[0])}; };
  EXPECT_THAT(values(call({*w}, step)[0]), ElementsAre(1, 4));
  EXPECT_THAT(values(call({*other}, step)[0]), ElementsAre(10, 40));  // w stays w
}

}  // namespace
}  // namespace ingot
