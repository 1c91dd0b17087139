// SPDX-License-Identifier: MIT
// Arenas, pins and the rewrite drivers at the sizes users reach: a million nodes, chains 200,000 deep. Run under
// AddressSanitizer, these tests are also the proof that nothing leaks and no stack overflows.
#include <gtest/gtest.h>

#include <thread>

#include "graphs.h"

namespace ingot {
namespace {

U unknown(i64 id) { return make(Op::PARAM, I32, {}, {id, 1}); }
U value(i64 id) { return make(Op::LOAD, I32, {make(Op::INDEX, I32, {unknown(id), index_constant(0)})}); }
constexpr int deep = 200'000;
U chain(U u, int length) {
  for (int i = 0; i < length; i++) u = make_alu(i % 2 ? Op::MUL : Op::XOR, u, constant(I32, i % 7 + 2));
  return u;
}

TEST(Arena, EqualNodesAreOneNode) {
  Arena arena;
  ArenaScope scope(arena);
  U a = value(0), b = value(1);
  EXPECT_EQ(make_alu(Op::SUB, a, b), make_alu(Op::SUB, a, b));
  EXPECT_NE(make_alu(Op::SUB, a, b), make_alu(Op::SUB, b, a));
  EXPECT_EQ(make_alu(Op::ADD, constant(I32, 3), a), make_alu(Op::ADD, a, constant(I32, 3)));
  EXPECT_NE(constant(I32, 3), constant(I64, 3));
  EXPECT_NE(constant_float(F32, 0.0), constant_float(F32, -0.0));
}

TEST(Arena, AMillionNodesAndASweep) {
  Arena arena;
  ArenaScope scope(arena);
  U a = value(0), kept = nullptr;
  for (int i = 0; i < 1'000'000; i++) {
    U u = make_alu(Op::ADD, a, constant(I32, i));
    if (i == 500'000) kept = u;
  }
  size_t size = arena.size();
  EXPECT_GE(size, 2'000'000u);
  Pin pin(kept);
  static size_t freed;
  freed = 0;
  arena.on_free = [](U) { freed++; };
  size_t swept = arena.sweep();
  EXPECT_EQ(swept, freed);
  EXPECT_EQ(arena.size(), size - swept);
  EXPECT_EQ(arena.size(), 6u);  // PARAM, offset, INDEX, LOAD, constant, sum
}

TEST(Arena, SweptMemoryIsUsedAgain) {
  Arena arena;
  ArenaScope scope(arena);
  Pin pin(value(0));
  for (int round = 0; round < 50; round++) {
    chain(*pin, 2000);
    arena.sweep();
  }
  EXPECT_EQ(make_alu(Op::NEG, *pin)->src(0), value(0)) << "what a Pin holds is found again";
}

TEST(Arena, DeepChainsAreMadeRewrittenPrintedReadAndSwept) {
  Arena arena;
  ArenaScope scope(arena);
  U u = chain(value(0), deep);
  EXPECT_EQ(toposort(u).size(), size_t(deep) + 4 + 7);
  EXPECT_EQ(simplify(simplify(u)), simplify(u));
  std::string text = print(u);
  EXPECT_EQ(parse_uops(text), u);
  EXPECT_LT(print_expression(u).size(), 5000u);
  UMap<U> map;
  map[value(0)] = value(1);
  U other = substitute(u, map);
  EXPECT_EQ(other, chain(value(1), deep));
  EXPECT_NE(structural_hash(u), structural_hash(other));
  {
    Arena inner;
    ArenaScope within(inner);
    U copy = import(u);
    EXPECT_NE(copy, u);
    EXPECT_EQ(structural_hash(copy), structural_hash(u));
  }
  EXPECT_GT(arena.sweep(), size_t(2 * deep));
  EXPECT_EQ(arena.size(), 0u);
}

TEST(Arena, DeepSumsOfIndicesAreSimplified) {
  Arena arena;
  ArenaScope scope(arena);
  Expr sum = 0;
  for (int i = 0; i < deep; i++) sum = sum + make(Op::RANGE, IDX, {index_constant(4)}, {i % 1000, 0});
  U u = simplify(sum);
  EXPECT_EQ(u->max, i64(deep) * 3);
}

TEST(Arena, PinsAreCopiedMovedAndAssigned) {
  Arena arena;
  ArenaScope scope(arena);
  U a = value(0);
  {
    Pin p(a), q(p), none;
    none = q;
    p = nullptr;
    std::vector<Pin> many(100, q);
    many.erase(many.begin(), many.begin() + 50);
    EXPECT_EQ(*none, a);
    arena.sweep();
    EXPECT_EQ(value(0), a);
  }
  EXPECT_EQ(arena.first_pin(), nullptr);
  arena.sweep();
  EXPECT_EQ(arena.size(), 0u);
}

TEST(Arena, EachThreadHasItsOwn) {
  U here = value(0);
  U there = nullptr;
  std::thread([&] {
    there = value(0);
    EXPECT_EQ(&Arena::current(), &Arena::main());
  }).join();
  EXPECT_NE(&here, &there);
  Arena inner;
  {
    ArenaScope scope(inner);
    EXPECT_EQ(&Arena::current(), &inner);
    EXPECT_NE(value(0), here);
  }
  EXPECT_EQ(value(0), here);
}

using namespace holes;
constexpr Rule peel[] = {{x ^ a, x}};
constexpr Rule step_down[] = {{x + a, x + fold(a - 1), 0 < a}};
constexpr Rule count_visits[] = {
    {op(Op::NEG, x), [](const Match& m) -> U { return ++*static_cast<int*>(m.context), nullptr; }}};

TEST(Rewrite, ToAFixedPointAndOnce) {
  Arena arena;
  ArenaScope scope(arena);
  RuleList peels{{"peel", Arithmetic::WRAPPING, peel}}, down{{"down", Arithmetic::WRAPPING, step_down}};
  U v = value(0);
  EXPECT_EQ(rewrite(chain(v, 1), peels), v);
  U ten = make_alu(Op::ADD, v, constant(I32, 10));
  EXPECT_EQ(rewrite(ten, down), make_alu(Op::ADD, v, constant(I32, 0)));
  EXPECT_EQ(walk(ten, down), make_alu(Op::ADD, v, constant(I32, 9)));
  EXPECT_EQ(rewrite(make_alu(Op::NEG, ten), down + peels), make_alu(Op::NEG, make_alu(Op::ADD, v, constant(I32, 0))));
}

TEST(Rewrite, SharedNodesAreVisitedOnce) {
  Arena arena;
  ArenaScope scope(arena);
  RuleList counts{{"count", Arithmetic::ANY, count_visits}};
  U u = make_alu(Op::NEG, value(0));
  for (int i = 0; i < 60; i++) u = make_alu(Op::MUL, u, u);  // 2^60 paths
  int visits = 0;
  EXPECT_EQ(rewrite(u, counts, &visits), u);
  EXPECT_EQ(visits, 1);
}

TEST(Rewrite, MatchesBothOrdersAndBindsOnce) {
  Arena arena;
  ArenaScope scope(arena);
  U p = value(0), q = value(1);
  U c = constant(I32, 5);
  for (U u : {make_alu(Op::ADD, p, make_alu(Op::MUL, p, c)), make_alu(Op::ADD, make_alu(Op::MUL, p, c), p)}) {
    Match m;
    EXPECT_TRUE(match(x * a + x, u, m));
    EXPECT_EQ(m[x], p);
    EXPECT_EQ(m[a], c);
  }
  Match m;
  EXPECT_FALSE(match(x * a + x, make_alu(Op::ADD, q, make_alu(Op::MUL, p, c)), m));
}

}  // namespace
}  // namespace ingot
