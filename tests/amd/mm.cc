// SPDX-License-Identifier: MIT
// Page tables of every generation, read by a walker that shares nothing with mm.cc or the rows: its bits are those of
// the public descriptions (Linux, amdgpu_vm.h), written here as numbers. Random mappings against a map of pages.
#include <gtest/gtest.h>
#include <map>
#include <random>
#include "userspace/amd/amd.h"

namespace ingot::amd {
namespace {

constexpr u64 kib4 = 4096;
bool bit(u64 e, int n) { return e >> n & 1; }
u64 bits(u64 e, int hi, int lo) { return e >> lo & ((u64(2) << (hi - lo)) - 1); }

struct Memory final : PageTableBackend {  // tables as words; freed ones are poison
  Generation generation;
  std::map<u64, std::vector<u64>> tables;
  u64 next = 0x10000000;
  i64 room = 1 << 30;
  bool told = true;  // the TLBs know of every write
  i64 invalidations = 0;
  explicit Memory(Generation g) : generation(g) {}
  u64 leaf_entry(int l, u64 p, PageFlags f, int n) const override { return amd::leaf_entry(generation, l, p, f, n); }
  u64 table_entry(int l, u64 p) const override { return amd::table_entry(generation, l, p); }
  std::optional<u64> alloc_table(i64 bytes) override {
    EXPECT_EQ(bytes, 4096);
    if (i64(tables.size()) >= room) return {};
    u64 at = next;
    next += u64(bytes);
    tables[at].assign(512, ~u64(0));
    return at;
  }
  void free_table(u64 p, i64) override {
    EXPECT_TRUE(told) << "a TLB may still walk this table";
    EXPECT_EQ(tables.erase(p), 1u);
  }
  void write(u64 p, std::span<const u64> words) override {
    auto it = tables.find(p & ~u64(4095));
    ASSERT_NE(it, tables.end());
    ASSERT_LE((p & 4095) / 8 + words.size(), 512u);
    std::copy(words.begin(), words.end(), it->second.begin() + i64((p & 4095) / 8));
    told = false;
  }
  void invalidate(u64, i64) override { told = true, invalidations++; }
};

struct Page {
  u64 physical = 0;
  bool system = false, snooped = false, read = false, write = false, execute = false;
  int mtype = 0;
  bool operator==(const Page&) const = default;
};
struct Leaf {
  Page page;
  int level = 0;
  u64 fragment = 0;
};
// What a hub finds for the address; nullopt: it would fault.
std::optional<Leaf> walk(const Memory& m, u64 root, u64 va) {
  u64 table = root;
  for (int level = 0, shift = 39; level < 4; level++, shift -= 9) {
    auto it = m.tables.find(table);
    EXPECT_NE(it, m.tables.end()) << "a table that was freed is still linked";
    if (it == m.tables.end()) return {};
    u64 e = it->second[size_t(va >> shift & 511)];
    if (!bit(e, 0)) return {};
    bool leaf = m.generation == GFX12                 ? bit(e, 63)
                : level == 3                          ? true
                : m.generation == GFX94 && level == 2 ? !bit(e, 56)
                                                      : bit(e, 54);
    u64 address = bits(e, 47, 12) << 12;
    if (!leaf) {
      if (level == 3) return {};  // gfx12: a leaf that does not say so
      EXPECT_EQ(m.generation == GFX94 ? bits(e, 63, 59) : 0, m.generation == GFX94 && level == 1 ? 9u : 0u);
      EXPECT_FALSE(bit(e, 1)) << "tables are in VRAM";
      table = address;
      continue;
    }
    u64 size = u64(1) << shift;
    EXPECT_EQ(address % size, 0u);
    int mtype = int(m.generation == GFX11   ? bits(e, 50, 48)
                    : m.generation == GFX12 ? bits(e, 55, 54)
                                            : bits(e, 58, 57));
    return Leaf{
        {address + va % size, bit(e, 1), bit(e, 2), bit(e, 5), bit(e, 6), bit(e, 4), mtype}, level, bits(e, 11, 7)};
  }
  return {};
}
Page expected(u64 physical, PageFlags f) {
  return {physical, f.system, f.snooped, f.read, f.write, f.execute, f.uncached ? 3 : 0};
}

TEST(page_tables, random_mappings_of_every_generation) {
  for (Generation g : {GFX11, GFX12, GFX94})
    for (u64 seed = 1; seed <= 8; seed++) {
      std::mt19937_64 random(seed * 3 + g);
      Memory memory(g);
      PageTables tables(memory, page_levels());
      std::map<u64, Page> pages;                   // by virtual address
      u64 window = (u64(1) << 45) + (seed << 30);  // 12 MiB around a place where all levels change
      constexpr i64 span = 3072;
      for (int step = 0; step < 120; step++) {
        u64 va = window - span / 2 * kib4 + random() % u64(span) * kib4;
        i64 count = i64(1 + random() % (u64(1) << random() % 11));
        i64 mapped = 0;
        for (i64 i = 0; i < count; i++) mapped += pages.contains(va + u64(i) * kib4);
        if (random() % 3) {
          std::vector<PhysicalRun> runs;
          for (i64 left = count; left;) {
            i64 n = random() % 2 ? left : i64(1 + random() % u64(left));
            u64 physical = (random() % 2 ? va & 0xffffff : random() & 0xffffff) & ~(kib4 - 1);
            runs.push_back({physical + (random() % 64 << 24), n * i64(kib4)});
            left -= n;
          }
          PageFlags f{.system = bool(random() & 1),
                      .snooped = bool(random() & 1),
                      .uncached = bool(random() & 1),
                      .write = bool(random() & 1),
                      .execute = bool(random() & 1)};
          if (mapped) {
            ASSERT_THROW(tables.map(va, runs, f), Error);
            continue;
          }
          tables.map(va, runs, f);
          u64 at = va;
          for (auto& r : runs)
            for (i64 i = 0; i < r.bytes; i += kib4, at += kib4) pages[at] = expected(r.address + u64(i), f);
        } else {
          if (mapped != count) {
            ASSERT_THROW(tables.unmap(va, count * i64(kib4)), Error);
            continue;
          }
          tables.unmap(va, count * i64(kib4));
          for (i64 i = 0; i < count; i++) pages.erase(va + u64(i) * kib4);
        }
        ASSERT_TRUE(memory.told);
        ASSERT_EQ(i64(memory.tables.size()), tables.tables());
        for (i64 i = -span / 2; i < span / 2 + 1024; i++) {
          u64 at = window + u64(i) * kib4;
          auto leaf = walk(memory, tables.root(), at);
          auto page = pages.find(at);
          ASSERT_EQ(leaf.has_value(), page != pages.end()) << hex(at);
          ASSERT_EQ(tables.find(at).has_value(), leaf.has_value());
          if (!leaf) continue;
          ASSERT_EQ(leaf->page, page->second) << hex(at);
          ASSERT_EQ(tables.find(at)->physical, leaf->page.physical);
          // A TLB may use the whole fragment: it must be one mapping, and no smaller than the entry.
          u64 size = kib4 << leaf->fragment, base = at & -size;
          ASSERT_LE(9 * (3 - leaf->level), int(leaf->fragment));
          if (at == base)
            for (u64 p = 0; p < size; p += kib4) {
              auto other = pages.find(base + p);
              ASSERT_NE(other, pages.end()) << "the fragment at " << hex(base) << " covers what is not mapped";
              Page want = leaf->page;
              want.physical += p;
              ASSERT_EQ(other->second, want);
            }
        }
      }
      while (!pages.empty()) {
        u64 va = pages.begin()->first;
        tables.unmap(va, i64(kib4));
        pages.erase(va);
      }
      EXPECT_EQ(memory.tables.size(), 1u) << "only the root is left";
    }
}
TEST(page_tables, the_largest_entries_that_fit) {
  constexpr u64 gib = u64(1) << 30, mib2 = u64(2) << 20;
  Memory memory(GFX11);
  PageTables tables(memory, page_levels());
  PhysicalRun run{gib * 4, i64(gib * 2 + mib2 + 3 * kib4)};
  tables.map(gib * 64, {&run, 1}, {});
  auto level = [&](u64 va) { return walk(memory, tables.root(), va)->level; };
  auto fragment = [&](u64 va) { return walk(memory, tables.root(), va)->fragment; };
  EXPECT_EQ(level(gib * 64), 1);
  EXPECT_EQ(fragment(gib * 64), 19u) << "2 GiB are one block";
  EXPECT_EQ(level(gib * 66), 2);
  EXPECT_EQ(fragment(gib * 66), 9u);
  EXPECT_EQ(fragment(gib * 66 + mib2), 1u);
  EXPECT_EQ(fragment(gib * 66 + mib2 + 2 * kib4), 0u);
  EXPECT_EQ(tables.tables(), 4);
  // A page out of the middle of 2 GiB: the entries around it shrink, everything else stays.
  tables.unmap(gib * 65, i64(kib4));
  EXPECT_FALSE(walk(memory, tables.root(), gib * 65));
  EXPECT_EQ(fragment(gib * 64), 18u);
  EXPECT_EQ(fragment(gib * 65 + kib4), 0u);
  EXPECT_EQ(fragment(gib * 65 + mib2), 9u);
  EXPECT_EQ(walk(memory, tables.root(), gib * 66 - kib4)->page.physical, gib * 6 - kib4);
  tables.unmap(gib * 64, i64(gib));
  tables.unmap(gib * 65 + kib4, run.bytes - i64(gib + kib4));
  EXPECT_EQ(memory.tables.size(), 1u);
}
TEST(page_tables, no_memory_for_tables_changes_nothing) {
  for (i64 room = 1; room <= 8; room++) {
    Memory memory(GFX12);
    PageTables tables(memory, page_levels());
    memory.room = room;
    std::vector<PhysicalRun> runs;
    for (u64 i = 0; i < 1024; i++) runs.push_back({i * 2 * kib4, i64(kib4)});
    u64 va = (u64(1) << 39) - 512 * kib4;  // two of each of the lower levels
    if (room < 7) {
      EXPECT_THROW(tables.map(va, runs, {}), DeviceError);
      EXPECT_EQ(memory.tables.size(), 1u);
      EXPECT_FALSE(walk(memory, tables.root(), va));
    } else {
      tables.map(va, runs, {});
      EXPECT_EQ(walk(memory, tables.root(), va + 1023 * kib4)->page.physical, 1023 * 2 * kib4);
    }
    EXPECT_TRUE(memory.told);
  }
}
TEST(page_tables, what_is_not_whole_pages_is_refused) {
  Memory memory(GFX11);
  PageTables tables(memory, page_levels());
  auto map = [&](u64 va, u64 physical, i64 bytes) {
    PhysicalRun run{physical, bytes};
    tables.map(va, {&run, 1}, {});
  };
  EXPECT_THROW(map(kib4 + 1, 0, kib4), Error);
  EXPECT_THROW(map(kib4, 8, kib4), Error);
  EXPECT_THROW(map(kib4, 0, 100), Error);
  EXPECT_THROW(map(kib4, 0, 0), Error);
  EXPECT_THROW(map(u64(1) << 48, 0, kib4), Error);
  EXPECT_THROW(map((u64(1) << 48) - kib4, 0, 2 * kib4), Error);
  EXPECT_THROW(tables.unmap(kib4, kib4), Error);
  map((u64(1) << 48) - kib4, 0, kib4);
  EXPECT_TRUE(walk(memory, tables.root(), ~u64(0) >> 16));
}

}  // namespace
}  // namespace ingot::amd
