// SPDX-License-Identifier: MIT
// TLSF against a naive allocator that knows every unit: what is given does not overlap, is aligned and inside; nothing
// is refused that fits in one free block; everything comes back.
#include <gtest/gtest.h>
#include <random>
#include "userspace/device/device.h"

namespace ingot {
namespace {

constexpr u64 start = u64(1) << 45;

struct Naive {  // one flag per unit
  std::vector<bool> taken;
  i64 unit;
  Naive(i64 bytes, i64 u) : taken(size_t(bytes / u)), unit(u) {}
  void take(u64 address, i64 bytes) {
    for (i64 i = i64(address - start) / unit, end = i + (bytes + unit - 1) / unit; i < end; i++) {
      ASSERT_LT(size_t(i), taken.size());
      ASSERT_FALSE(taken[size_t(i)]) << "unit " << i << " is given twice";
      taken[size_t(i)] = true;
    }
  }
  void give(u64 address, i64 bytes) {
    for (i64 i = i64(address - start) / unit, end = i + (bytes + unit - 1) / unit; i < end; i++)
      taken[size_t(i)] = false;
  }
  i64 largest(i64 align) const {  // bytes of the largest free block that starts aligned
    i64 most = 0, run = 0;
    for (size_t i = 0; i < taken.size(); i++) {
      if (taken[i])
        run = 0;
      else if (run || (start + i * u64(unit)) % u64(align) == 0)
        most = std::max(most, ++run);
    }
    return most * unit;
  }
  i64 free_bytes() const { return i64(std::count(taken.begin(), taken.end(), false)) * unit; }
};

TEST(tlsf, agrees_with_a_naive_allocator) {
  for (u64 seed = 1; seed <= 30; seed++) {
    std::mt19937_64 random(seed);
    i64 unit = i64(1) << random() % 13, bytes = unit * i64(500 + random() % 1500);
    Tlsf tlsf(start, bytes, unit);
    Naive naive(bytes, unit);
    std::vector<std::pair<u64, i64>> held;
    for (int step = 0; step < 1500; step++) {
      if (random() % 100 < 55) {
        i64 size = i64(random() % u64(unit * (i64(1) << random() % 9))), align = i64(1) << random() % 18;
        std::optional<u64> got = tlsf.alloc(size, align);
        i64 units = std::max<i64>(size, 1);
        if (!got) {
          // Without an alignment that matters nothing that fits is refused; with one, what has room for the worst
          // start.
          i64 worst = align > unit ? units + align : units;
          ASSERT_LT(naive.largest(unit), (worst + unit - 1) / unit * unit) << size << " aligned to " << align;
          continue;
        }
        ASSERT_EQ(*got % u64(std::max(align, unit)), 0u);
        naive.take(*got, units);
        ASSERT_EQ(tlsf.size_of(*got), (units + unit - 1) / unit * unit);
        held.emplace_back(*got, units);
      } else if (!held.empty()) {
        size_t i = random() % held.size();
        tlsf.free(held[i].first);
        naive.give(held[i].first, held[i].second);
        held[i] = held.back();
        held.pop_back();
      }
      ASSERT_EQ(tlsf.in_use(), i64(held.size()));
      ASSERT_EQ(tlsf.free_bytes(), naive.free_bytes());
      if (step % 16 == 0) {
        tlsf.verify();
        ASSERT_EQ(tlsf.largest(), naive.largest(unit)) << "seed " << seed;
      }
    }
    for (auto [address, size] : held) tlsf.free(address);
    tlsf.verify();
    EXPECT_EQ(tlsf.in_use(), 0);
    EXPECT_EQ(tlsf.largest(), bytes / unit * unit) << "free neighbours have merged";
  }
}
TEST(tlsf, refuses_what_was_never_given) {
  Tlsf tlsf(start, 1 << 20, 4096);
  u64 a = *tlsf.alloc(10000), b = *tlsf.alloc(1);
  EXPECT_EQ(tlsf.size_of(a), 3 * 4096);
  for (u64 wild : {a + 4096, a + 1, b + 4096, start - 4096, u64(0), ~u64(0)}) EXPECT_THROW(tlsf.free(wild), Error);
  tlsf.free(a);
  EXPECT_THROW(tlsf.free(a), Error) << "twice";
  EXPECT_EQ(tlsf.in_use(), 1);
  tlsf.free(b);
  tlsf.verify();
}
TEST(tlsf, all_of_it_and_not_a_byte_more) {
  Tlsf tlsf(start, (1 << 20) + 100, 4096);
  EXPECT_FALSE(tlsf.alloc((1 << 20) + 1));
  EXPECT_EQ(tlsf.alloc(1 << 20), start);
  EXPECT_FALSE(tlsf.alloc(1));
  EXPECT_FALSE(tlsf.alloc(0)) << "also an empty block has an address of its own";
  EXPECT_EQ(tlsf.largest(), 0);
  Tlsf empty(start, 0, 4096);
  EXPECT_FALSE(empty.alloc(1));
  empty.verify();
  // Terabytes of addresses cost nothing.
  Tlsf huge(start, i64(1) << 44, 4096);
  EXPECT_EQ(huge.alloc(i64(1) << 43, i64(1) << 43), start + (-start & ((u64(1) << 43) - 1)));
  huge.verify();
}

}  // namespace
}  // namespace ingot
