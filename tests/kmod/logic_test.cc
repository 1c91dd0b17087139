// SPDX-License-Identifier: MIT
// The arithmetic of the kernel module, in user space: the same kmod/logic.c that is in ingot.ko, here under sanitizers.
// Every refusal that ingot_uapi.h promises, every boundary, and a loop of hostile arguments whose accepted ones are
// checked against the properties that the kernel relies on.

#include <errno.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <cstring>
#include <random>
#include <vector>

extern "C" {
#include "kmod/logic.h"
}

namespace {

constexpr __u64 kPage = 4096, kTop = ~0ULL;

constexpr __u32 kCalls[] = {INGOT_GET_INFO,  INGOT_GET_BAR,     INGOT_CFG_READ, INGOT_CFG_OP,     INGOT_MEM_ALLOC,
                            INGOT_MEM_PIN,   INGOT_MEM_SEGS,    INGOT_MEM_FREE, INGOT_MEM_EXPORT, INGOT_MEM_IMPORT,
                            INGOT_PEER_MAP,  INGOT_IRQ_SET,     INGOT_IRQ_INFO, INGOT_RESET,      INGOT_EVENT_SET,
                            INGOT_EVENT_GET, INGOT_DEBUG_INJECT};

ingot_args blank(__u32 nr) {
  ingot_args a;
  memset(&a, 0, sizeof a);
  a.header.argsz = ingot_rule_of(nr)->size;
  return a;
}

TEST(KmodRules, EveryCallHasOneAndOnlyTheyHave) {
  for (__u32 nr : kCalls) {
    const ingot_call_rule* rule = ingot_rule_of(nr);
    ASSERT_NE(rule, nullptr) << nr;
    EXPECT_EQ(rule->nr, nr);
    EXPECT_GE(rule->min_size, sizeof(ingot_header));
    EXPECT_LE(rule->min_size, rule->size);
    EXPECT_LE(rule->size, sizeof(ingot_args));
  }
  int known = 0;
  for (__u32 n = 0; n < 256; n++) known += ingot_rule_of(_IO(INGOT_IOC_TYPE, n)) != nullptr;
  EXPECT_EQ(known, int(std::size(kCalls)));
  EXPECT_EQ(ingot_rule_of(_IO(INGOT_IOC_TYPE, 0x17)), nullptr) << "a number that is not used again";
  EXPECT_EQ(ingot_rule_of(0), nullptr);
  ingot_args a = {};
  EXPECT_EQ(ingot_args_check(0, &a), -ENOTTY);
}

TEST(KmodRules, UnknownFlagsAreRefused) {
  for (__u32 nr : kCalls)
    for (int bit = 0; bit < 32; bit++) {
      if (ingot_rule_of(nr)->flags & (1u << bit)) continue;
      ingot_args a = blank(nr);
      a.header.flags = 1u << bit;
      EXPECT_EQ(ingot_args_check(nr, &a), -EINVAL) << nr << " bit " << bit;
    }
}

TEST(KmodRange, DoesNotOverflow) {
  EXPECT_TRUE(ingot_range_ok(0, 1, 1));
  EXPECT_FALSE(ingot_range_ok(0, 0, 1));
  EXPECT_FALSE(ingot_range_ok(0, 2, 1));
  EXPECT_FALSE(ingot_range_ok(1, 1, 1));
  EXPECT_FALSE(ingot_range_ok(kTop, 2, kTop));
  EXPECT_FALSE(ingot_range_ok(2, kTop, kTop));
  EXPECT_FALSE(ingot_range_ok(kTop - 1, 2, kTop)) << "the sum is 0";
  EXPECT_TRUE(ingot_range_ok(kTop - 1, 1, kTop));
  EXPECT_FALSE(ingot_range_ok(0, 1, 0));
  EXPECT_TRUE(ingot_pages_ok(kPage, kPage, 2 * kPage));
  EXPECT_FALSE(ingot_pages_ok(1, kPage, 2 * kPage));
  EXPECT_FALSE(ingot_pages_ok(0, kPage + 1, 4 * kPage));
}

TEST(KmodArgs, Memory) {
  struct Row {
    __u32 flags;
    __u64 size;
    __s32 node;
    int want;
  } rows[] = {
      {0, kPage, 0, 0},
      {0, 0, 0, -EINVAL},
      {0, kPage + 1, 0, -EINVAL},
      {0, INGOT_MAX_BYTES, 0, 0},
      {0, INGOT_MAX_BYTES + kPage, 0, -EINVAL},
      {0, kTop & ~(kPage - 1), 0, -EINVAL},
      {0, kPage, 1, -EINVAL},
      {INGOT_MEM_NODE, kPage, 1, 0},
      {INGOT_MEM_CONTIG, INGOT_MAX_CONTIG, 0, 0},
      {INGOT_MEM_CONTIG, INGOT_MAX_CONTIG + kPage, 0, -EINVAL},
      {INGOT_MEM_HUGE, INGOT_HUGE_BYTES, 0, 0},
      {INGOT_MEM_HUGE, INGOT_HUGE_BYTES + kPage, 0, -EINVAL},
  };
  for (const Row& r : rows) {
    ingot_args a = blank(INGOT_MEM_ALLOC);
    a.header.flags = r.flags, a.mem_alloc.size = r.size, a.mem_alloc.numa_node = r.node;
    EXPECT_EQ(ingot_args_check(INGOT_MEM_ALLOC, &a), r.want) << r.flags << " " << r.size << " " << r.node;
    a.mem_alloc.reserved = 1;
    EXPECT_EQ(ingot_args_check(INGOT_MEM_ALLOC, &a), -EINVAL);
  }
  for (auto [va, size, want] : {std::tuple<__u64, __u64, int>{kPage, kPage, 0},
                                {kPage + 1, kPage, -EINVAL},
                                {kTop & ~(kPage - 1), kPage, -EINVAL},
                                {kTop & ~(kPage - 1), 2 * kPage, -EINVAL},
                                {kPage, INGOT_MAX_BYTES + kPage, -EINVAL},
                                {kPage, 0, -EINVAL}}) {
    ingot_args a = blank(INGOT_MEM_PIN);
    a.mem_pin.va = va, a.mem_pin.size = size;
    EXPECT_EQ(ingot_args_check(INGOT_MEM_PIN, &a), want) << va << " " << size;
  }
}

TEST(KmodArgs, Config) {
  for (__u32 width = 0; width < 10; width++)
    for (__u32 offset : {0u, 1u, 2u, 3u, 4u, 4092u, 4094u, 4095u, 4096u, ~0u, ~3u}) {
      ingot_args a = blank(INGOT_CFG_READ);
      a.cfg_read.width = width, a.cfg_read.offset = offset;
      bool ok = (width == 1 || width == 2 || width == 4) && offset % width == 0 && offset < 4096;
      EXPECT_EQ(ingot_args_check(INGOT_CFG_READ, &a), ok ? 0 : -EINVAL) << width << " at " << offset;
    }
  for (__u32 op = 0; op < 6; op++)
    for (__u32 arg : {0u, 1u, 2u, 64u, 128u, 129u, 4096u, 8192u, ~0u}) {
      ingot_args a = blank(INGOT_CFG_OP);
      a.cfg_op.op = op, a.cfg_op.arg = arg;
      bool ok = ((op == INGOT_CFG_MASTER || op == INGOT_CFG_RELAXED) && arg <= 1) ||
                (op == INGOT_CFG_ATOMICS && arg == 1) || (op == INGOT_CFG_READ_SIZE && (arg == 128 || arg == 4096));
      EXPECT_EQ(ingot_args_check(INGOT_CFG_OP, &a), ok ? 0 : -EINVAL) << op << " " << arg;
    }
}

TEST(KmodState, WhatWorksWhere) {
  const enum ingot_state states[] = {INGOT_STATE_FREE, INGOT_STATE_OWNED, INGOT_STATE_RESETTING, INGOT_STATE_LOST,
                                     INGOT_STATE_GONE};
  const int want[3][5] = {{0, 0, 0, 0, 0}, {-ENODEV, 0, -EAGAIN, 0, -ENODEV}, {-ENODEV, 0, -EAGAIN, -EIO, -ENODEV}};
  for (int needs = 0; needs < 3; needs++)
    for (int s = 0; s < 5; s++)
      EXPECT_EQ(ingot_state_check(ingot_needs(needs), states[s]), want[needs][s]) << needs << " " << s;
}

TEST(KmodMmap, Offsets) {
  ingot_region r;
  for (__u32 bar = 0; bar < 16; bar++) {
    bool ok = (bar & 7) < INGOT_NUM_BARS;
    EXPECT_EQ(ingot_region_decode(__u64(bar) << INGOT_MMAP_SHIFT, kPage, &r), ok ? 0 : -EINVAL) << bar;
    if (!ok) continue;
    EXPECT_TRUE(!r.memory && r.index == (bar & 7) && r.wc == (bar >= 8) && r.offset == 0);
  }
  for (__u32 handle : {1u, 2u, INGOT_MAX_HANDLES}) {
    ASSERT_EQ(ingot_region_decode(ingot_region_encode(handle) + 3 * kPage, kPage, &r), 0);
    EXPECT_TRUE(r.memory && r.index == handle && r.offset == 3 * kPage);
  }
  EXPECT_EQ(ingot_region_decode(ingot_region_encode(0), kPage, &r), -EINVAL);
  EXPECT_EQ(ingot_region_decode(ingot_region_encode(INGOT_MAX_HANDLES + 1), kPage, &r), -EINVAL);
  EXPECT_EQ(ingot_region_decode(kTop & ~(kPage - 1), kPage, &r), -EINVAL);
  EXPECT_EQ(ingot_region_decode(INGOT_MMAP_SPAN - kPage, 2 * kPage, &r), -EINVAL) << "into the next BAR";
  EXPECT_EQ(ingot_region_decode(0, 0, &r), -EINVAL);
  EXPECT_EQ(ingot_region_decode(0, kTop, &r), -EINVAL);
  EXPECT_LT(ingot_region_encode(INGOT_MAX_HANDLES), 1ULL << 63) << "an off_t";
}

TEST(KmodAccounting, Fits) {
  EXPECT_TRUE(ingot_fits(0, 16, 16));
  EXPECT_FALSE(ingot_fits(1, 16, 16));
  EXPECT_FALSE(ingot_fits(17, 0, 16)) << "others went over the limit with CAP_IPC_LOCK";
  EXPECT_FALSE(ingot_fits(1, kTop, kTop));
  EXPECT_TRUE(ingot_fits(0, kTop, kTop));
  EXPECT_FALSE(ingot_fits(kTop, 1, kTop));
}

TEST(KmodSegs, MergeAndKeepEveryByte) {
  std::mt19937 rng(7);
  for (int round = 0; round < 200; round++) {
    std::vector<ingot_seg> segs(64);
    std::vector<std::pair<__u64, __u64>> pieces;
    size_t count = 0;
    __u64 at = rng() % 2 * kPage;
    for (int i = 0; i < 64; i++) {
      if (rng() % 3 == 0) at += kPage * (1 + rng() % 5);
      __u64 len = kPage * (1 + rng() % 4);
      count = ingot_segs_add(segs.data(), count, at, len);
      pieces.emplace_back(at, len);
      at += len;
    }
    size_t k = 0;
    __u64 inside = 0;
    for (auto [dma, len] : pieces) {
      if (inside == segs[k].len) k++, inside = 0;
      ASSERT_LT(k, count);
      ASSERT_EQ(segs[k].dma + inside, dma);
      inside += len;
      ASSERT_LE(inside, segs[k].len);
    }
    EXPECT_EQ(k + 1, count);
    for (size_t i = 1; i < count; i++) EXPECT_NE(segs[i - 1].dma + segs[i - 1].len, segs[i].dma) << "not merged";
  }
}

TEST(KmodRate, StormsOnly) {
  ingot_rate r = {};
  for (int i = 0; i < 100; i++) EXPECT_FALSE(ingot_rate_exceeded(&r, 1, 100)) << i;
  EXPECT_TRUE(ingot_rate_exceeded(&r, 1, 100));
  EXPECT_FALSE(ingot_rate_exceeded(&r, 2, 100)) << "a new window";
  for (int i = 0; i < 1000; i++) EXPECT_FALSE(ingot_rate_exceeded(&r, 3, 0)) << "no limit";
}

// Whatever is accepted must be safe to use without another look.
TEST(KmodFuzz, HostileArguments) {
  std::mt19937_64 rng(1);
  const __u64 nasty[] = {0,       1,        2,   4,          7,          8,          4095, 4096,      8192,
                         2 << 20, 1u << 31, ~0u, 1ull << 32, 1ull << 40, 1ull << 63, kTop, kTop << 12};
  int accepted = 0;
  for (int n = 0; n < 300000; n++) {
    __u32 nr = kCalls[rng() % std::size(kCalls)];
    ingot_args a;
    auto* words = reinterpret_cast<unsigned char*>(&a);
    memset(&a, 0, sizeof a);
    for (size_t i = 0; i + 4 <= sizeof a; i += 4) {
      __u32 v = rng() % 3 ? __u32(nasty[rng() % std::size(nasty)]) : __u32(rng());
      if (rng() % 2) memcpy(words + i, &v, 4);
    }
    if (rng() % 2) a.header.flags &= ingot_rule_of(nr)->flags;
    int ret = ingot_args_check(nr, &a);
    ASSERT_TRUE(ret == 0 || ret == -EINVAL);
    if (ret) continue;
    accepted++;
    ASSERT_EQ(a.header.flags & ~ingot_rule_of(nr)->flags, 0u);
    switch (nr) {
      case INGOT_GET_BAR: ASSERT_LT(a.bar.index, unsigned(INGOT_NUM_BARS)); break;
      case INGOT_PEER_MAP: ASSERT_LT(a.peer_map.bar, unsigned(INGOT_NUM_BARS)); break;
      case INGOT_CFG_READ: ASSERT_LE(a.cfg_read.offset + a.cfg_read.width, 4096u); break;
      case INGOT_MEM_ALLOC: ASSERT_LE(a.mem_alloc.size, INGOT_MAX_BYTES); break;
      case INGOT_MEM_PIN:
        ASSERT_LE(a.mem_pin.size, INGOT_MAX_BYTES);
        ASSERT_GT(a.mem_pin.va + a.mem_pin.size, a.mem_pin.va);
        break;
      case INGOT_MEM_EXPORT:
        ASSERT_GT(a.mem_export.offset + a.mem_export.length, a.mem_export.offset);
        ASSERT_TRUE(!(a.header.flags & INGOT_EXPORT_BAR) || a.mem_export.source < INGOT_NUM_BARS);
        break;
      case INGOT_IRQ_SET:
      case INGOT_IRQ_INFO:
        ASSERT_GE(a.irq_set.count, 1u);
        ASSERT_LE(__u64(a.irq_set.first) + a.irq_set.count, INGOT_MAX_IRQS);
        break;
      case INGOT_MEM_FREE: ASSERT_NE(a.mem_free.handle, 0u); break;
    }
  }
  EXPECT_GT(accepted, 10000) << "a fuzzer that is always refused tests one line";
  for (int n = 0; n < 300000; n++) {
    ingot_region r;
    __u64 offset = rng() % 2 ? (rng() % (1 << 20)) << (rng() % 45) : rng(),
          length = rng() % 2 ? kPage * (rng() % 512) : rng();
    if (ingot_region_decode(offset, length, &r)) continue;
    ASSERT_TRUE(r.memory ? r.index >= 1 && r.index <= INGOT_MAX_HANDLES : r.index < unsigned(INGOT_NUM_BARS));
    ASSERT_LE(r.offset + length, INGOT_MMAP_SPAN);
    ASSERT_GT(r.offset + length, r.offset);
  }
}

// The layout that a 32-bit process sees is the one that a 64-bit kernel reads: no member moves with the alignment of
// __u64.
#define SAME(type, member, offset) static_assert(offsetof(type, member) == (offset), #type "." #member)
TEST(KmodUapi, Offsets) {
  SAME(ingot_info, abi_major, 8);
  SAME(ingot_info, class_rev, 20);
  SAME(ingot_info, numa_node, 48);
  SAME(ingot_info, caps, 56);
  SAME(ingot_bar, bar_flags, 12);
  SAME(ingot_bar, size, 16);
  SAME(ingot_bar, off_wc, 32);
  SAME(ingot_cfg_read, value, 16);
  SAME(ingot_cfg_op, arg, 12);
  SAME(ingot_mem_alloc, size, 8);
  SAME(ingot_mem_alloc, handle, 20);
  SAME(ingot_mem_alloc, mmap_offset, 32);
  SAME(ingot_mem_pin, va, 8);
  SAME(ingot_mem_pin, handle, 24);
  SAME(ingot_mem_segs, first, 12);
  SAME(ingot_mem_segs, total, 20);
  SAME(ingot_mem_segs, segs, 24);
  SAME(ingot_mem_export, fd, 12);
  SAME(ingot_mem_export, length, 24);
  SAME(ingot_mem_import, handle, 12);
  SAME(ingot_mem_import, size, 24);
  SAME(ingot_peer_map, offset, 16);
  SAME(ingot_peer_map, handle, 32);
  SAME(ingot_irq_set, fds, 16);
  SAME(ingot_irq_info, counts, 16);
  SAME(ingot_irq_count, masked, 8);
  SAME(ingot_reset, generation, 16);
  SAME(ingot_event_get, reasons, 12);
  SAME(ingot_event_get, generation, 16);
  // IRQ_SET and IRQ_INFO share their check.
  static_assert(offsetof(ingot_irq_set, first) == offsetof(ingot_irq_info, first));
  static_assert(offsetof(ingot_irq_set, count) == offsetof(ingot_irq_info, count));
  EXPECT_EQ(INGOT_GET_INFO, 0xE700u) << "the size is not part of the number";
}

}  // namespace
