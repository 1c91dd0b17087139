// SPDX-License-Identifier: MIT
// Text of graphs: it reads back to the same graph; hostile text is refused with a line number and never crashes;
// legality.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "graphs.h"

namespace ingot {
namespace {
using testing::HasSubstr;

std::string error_of(auto f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

TEST(Print, IsWhatPeopleRead) {
  Arena arena;
  ArenaScope scope(arena);
  U b = make(Op::BUFFER, F32, {}, {7, 0, 2, 3});
  U sum = make(Op::REDUCE_AXIS, F32, {make_alu(Op::ADD, b, constant_float(F32, 1.5))}, {i64(Op::ADD), 1});
  EXPECT_EQ(print(sum),
            "%0 = BUFFER f32 (2, 3) [7, 0, 2, 3]\n"
            "%1 = CONST f32 [1.5]\n"
            "%2 = ADD f32 (2, 3) %0 %1\n"
            "%3 = REDUCE_AXIS f32 (2, 1) %2 [ADD, 1]\n");
  Expr r0 = make(Op::RANGE, IDX, {index_constant(8)}, {0, 0}), r1 = make(Op::RANGE, IDX, {index_constant(8)}, {1, 0});
  EXPECT_EQ(print_expression((r0 * 3 + r1) % 7 < 5), "(r0*3 + r1) % 7 < 5");
  EXPECT_EQ(print_expression((r0 + r1) * (r0 - 4) / (r1 / 2)), "(r0 + r1)*(r0 - 4) / (r1 / 2)");
  EXPECT_EQ(print_expression((r0 < 3) && (r0 >= r1)), "r0 < 3 & !(r0 < r1)");
}

TEST(Print, RandomGraphsReadBack) {
  Random r(1);
  for (int i = 0; i < 500; i++) {
    Arena arena;
    ArenaScope scope(arena);
    U u = i % 2 ? random_kernel(r) : random_tensor(r, 10);
    ASSERT_EQ(parse_uops(print(u)), u) << print(u);
    Arena other;
    ArenaScope within(other);
    ASSERT_EQ(print(parse_uops(print(u))), print(u));
  }
  Arena arena;
  ArenaScope scope(arena);
  for (DType t : float_dtypes)
    for (int i = 0; i < 50; i++) {
      U c = constant_float(t, random_value(r, t).f);
      ASSERT_EQ(parse_uops(print(c)), c) << print(c);
    }
  U lanes = make(Op::CONST, I8.with_lanes(3), {}, {1, -2, 127});
  EXPECT_EQ(parse_uops("# a comment\n\n" + print(lanes)), lanes);
}

TEST(Print, HostileTextIsRefused) {
  Random r(2);
  constexpr std::string_view pieces[] = {"%",
                                         "0",
                                         "1",
                                         "-1",
                                         " ",
                                         "=",
                                         "[",
                                         "]",
                                         "(",
                                         ")",
                                         ",",
                                         "\n",
                                         "99999999999999999999",
                                         "4611686018427387904",
                                         "ADD",
                                         "RESHAPE",
                                         "PERMUTE",
                                         "WINDOW",
                                         "STORE",
                                         "RANGE",
                                         "SINK",
                                         "PAD",
                                         "f32",
                                         "idx",
                                         "f32x8",
                                         "void",
                                         "bool",
                                         "0x",
                                         "nan",
                                         "1e999"};
  int refused = 0, accepted = 0;
  for (int i = 0; i < 20000; i++) {
    Arena arena;
    ArenaScope scope(arena);
    std::string text = print(i % 2 ? random_kernel(r) : random_tensor(r, 6));
    for (i64 k = r.between(1, 3); k > 0; k--) {
      size_t at = size_t(r.below(i64(text.size()) + 1));
      switch (r.below(4)) {
        case 0: text.erase(at, size_t(r.below(6))); break;
        case 1: text.insert(at, pieces[size_t(r.below(std::size(pieces)))]); break;
        case 2:
          if (at < text.size()) text[at] = char(r.below(256));
          break;
        case 3:
          text.replace(at, std::min<size_t>(2, text.size() - at), pieces[size_t(r.below(std::size(pieces)))]);
          break;
      }
    }
    try {
      U u = parse_uops(text);
      ASSERT_EQ(parse_uops(print(u)), u);
      print_expression(u);
      accepted++;
    } catch (const Error& e) {
      ASSERT_THAT(e.what(), testing::AnyOf(HasSubstr("line "), HasSubstr("holds no node"))) << text;
      refused++;
    }
  }
  EXPECT_GT(refused, 5000);
  EXPECT_GT(accepted, 500);
}

TEST(Print, ErrorsNameLineAndReason) {
  Arena arena;
  ArenaScope scope(arena);
  auto refuse = [](std::string_view text) { return error_of([&] { parse_uops(text); }); };
  EXPECT_EQ(refuse(""), "the text holds no node");
  EXPECT_EQ(refuse("%0 = CONST f32 [1]\n%1 = FROB f32 %0"), "line 2: no op is called \"FROB\"");
  EXPECT_EQ(refuse("%0 = CONST f33 [1]"), "line 1: no dtype is called \"f33\"");
  EXPECT_EQ(refuse("%0 = CONST i8 [300]"), "line 1: CONST: a value is no i8");
  EXPECT_EQ(refuse("%0 = CONST f32 [1]\n%1 = CONST i32 [1]\n%2 = ADD f32 %0 %1"), "line 3: ADD: of f32 and i32");
  EXPECT_EQ(refuse("%0 = CONST f32 [1]\n%1 = NEG f32 %1"), "line 2: a source is the number of an earlier line");
  EXPECT_EQ(refuse("%0 = BUFFER f32 (2, 4) [0, 0, 2, 3]"), "line 1: BUFFER has shape (2, 3), not (2, 4)");
  EXPECT_EQ(refuse("%0 = BUFFER f32 (2, 3) [0, 0, 2, 3]\n%1 = PERMUTE f32 (3, 2) %0 [1, 1]"),
            "line 2: PERMUTE: (1, 1) is no order of 2 axes");
}

TEST(Spec, NamesPassNodeAndRule) {
  Scoped unchecked(ctx.SPEC, 1);  // SPEC=2 would not let the illegal nodes be made
  Arena arena;
  ArenaScope scope(arena);
  U param = make(Op::PARAM, F32, {}, {0, 4}), zero = index_constant(0);
  U load = make(Op::LOAD, F32, {make(Op::INDEX, F32, {param, zero})});
  std::string why = error_of([&] { check_spec(load, Stage::TENSOR, "fuse"); });
  EXPECT_THAT(why, HasSubstr("after fuse"));
  EXPECT_THAT(why, HasSubstr("PARAM f32 does not belong there"));
  U range = make(Op::RANGE, IDX, {index_constant(4)}, {0, i64(RangeKind::VECTOR)});
  U store = make(Op::STORE, VOID, {make(Op::INDEX, F32, {param, range}), load, range});
  U sink = make(Op::SINK, VOID, {store});
  check_spec(sink, Stage::KERNEL, "lower");
  EXPECT_THAT(error_of([&] { check_spec(sink, Stage::EXPANDED, "expand"); }), HasSubstr("RANGE idx breaks the rule"));
  U wrong = make(Op::ADD, F32, {load, range});
  EXPECT_THAT(error_of([&] { check_spec(wrong, Stage::KERNEL, "x"); }), HasSubstr("of f32 and idx: p0[0] + r0"));
  U not_a_loop = make(Op::SINK, VOID, {make(Op::STORE, VOID, {make(Op::INDEX, F32, {param, zero}), load, zero})});
  EXPECT_THAT(error_of([&] { check_spec(not_a_loop, Stage::KERNEL, "x"); }), HasSubstr("STORE void breaks the rule"));
  Random r(1);
  for (int i = 0; i < 200; i++) check_spec(random_tensor(r, 10), Stage::TENSOR, "random_tensor");
}

}  // namespace
}  // namespace ingot
