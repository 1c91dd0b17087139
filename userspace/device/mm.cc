// SPDX-License-Identifier: MIT
// Page tables. The host keeps a copy of every table (Node), because reading VRAM over PCIe costs a microsecond a word;
// the chip's copy is only written. What keeps a chip that is walking the tables safe is the order of writes: a table is
// filled before an entry points at it, entries are cleared before the TLBs are told, and a table's memory is given back
// only when the TLBs (which cache directories too) have been told.
#include <algorithm>
#include <bit>
#include "userspace/device/device.h"

namespace ingot {

struct PageTables::Entry {
  enum Kind : u8 { NONE, LEAF, TABLE } kind = NONE;
  u8 fragment = 0;
  PageFlags flags;
  u64 physical = 0;  // of a leaf
  std::unique_ptr<Node> table;
};
struct PageTables::Node {
  u64 physical = 0;
  int level = 0, used = 0;
  std::vector<Entry> entries;
};

PageTables::PageTables(PageTableBackend& backend, std::span<const PageLevel> levels)
    : backend_(backend), levels_(levels.begin(), levels.end()) {
  root_ = make(0, nullptr);
  if (!root_) throw DeviceError("no memory for the root page table", "");
}
PageTables::~PageTables() = default;
u64 PageTables::root() const { return root_->physical; }

size_t PageTables::index(u64 address, int level) const {
  const PageLevel& l = levels_[size_t(level)];
  return size_t(address >> l.shift & ((u64(1) << l.bits) - 1));
}
bool PageTables::in_range(u64 address, i64 bytes) const {
  u64 end = u64(1) << (levels_[0].shift + levels_[0].bits);
  return bytes > 0 && bytes % page() == 0 && address % u64(page()) == 0 && address < end && u64(bytes) <= end - address;
}

// An empty table, or one that maps what the leaf `splits` did. nullptr: out of memory.
std::unique_ptr<PageTables::Node> PageTables::make(int level, const Entry* splits) {
  const PageLevel& l = levels_[size_t(level)];
  i64 count = i64(1) << l.bits;
  std::optional<u64> physical = backend_.alloc_table(count * 8);
  if (!physical) return nullptr;
  auto node = std::make_unique<Node>();
  node->physical = *physical, node->level = level;
  node->entries.resize(size_t(count));
  std::vector<u64> words(static_cast<size_t>(count));
  for (size_t i = 0; splits && i < words.size(); i++) {
    Entry& e = node->entries[i];
    e.kind = Entry::LEAF, e.flags = splits->flags, e.fragment = splits->fragment;
    e.physical = splits->physical + (u64(i) << l.shift);
    words[i] = backend_.leaf_entry(level, e.physical, e.flags, e.fragment);
    node->used++;
  }
  backend_.write(node->physical, words);
  tables_++;
  return node;
}

// The table of `level` on the way to the address, made if it is not there. nullptr: out of memory.
PageTables::Node* PageTables::descend(u64 address, int level) {
  Node* node = root_.get();
  while (node->level < level) {
    size_t i = index(address, node->level);
    Entry& e = node->entries[i];
    if (e.kind != Entry::TABLE) {
      auto table = make(node->level + 1, e.kind == Entry::LEAF ? &e : nullptr);
      if (!table) return nullptr;
      node->used += e.kind == Entry::NONE;
      e = Entry(), e.kind = Entry::TABLE, e.table = std::move(table);
      u64 word = backend_.table_entry(node->level, e.table->physical);
      backend_.write(node->physical + i * 8, {&word, 1});
    }
    node = e.table.get();
  }
  return node;
}

// Writes leaves for a contiguous run, over whatever is there. False: out of memory, part of it may be written.
bool PageTables::write_run(u64 address, u64 physical, i64 bytes, PageFlags flags) {
  std::vector<u64> words;
  while (bytes) {
    // The largest naturally aligned block that starts here, and the level whose entries are at most that large.
    i64 block = i64(std::bit_floor(u64(bytes)));
    if (u64 both = address | physical) block = std::min(block, i64(1) << std::min(62, std::countr_zero(both)));
    int level = 0, fragment = std::countr_zero(u64(block / page()));
    while (!levels_[size_t(level)].leaf || i64(1) << levels_[size_t(level)].shift > block) level++;
    i64 step = i64(1) << levels_[size_t(level)].shift;
    for (i64 done = 0; done < block;) {
      Node* node = descend(address, level);
      if (!node) return false;
      size_t first = index(address, level), i = first;
      for (words.clear(); i < node->entries.size() && done < block; i++, done += step) {
        Entry& e = node->entries[i];
        check(e.kind != Entry::TABLE, "a table in the way at ", hex(address));
        node->used += e.kind == Entry::NONE;
        e.kind = Entry::LEAF, e.physical = physical, e.flags = flags, e.fragment = u8(fragment);
        words.push_back(backend_.leaf_entry(level, physical, flags, fragment));
        address += u64(step), physical += u64(step);
      }
      backend_.write(node->physical + first * 8, words);
    }
    bytes -= block;
  }
  return true;
}

std::optional<PageTables::Mapping> PageTables::find(u64 address) const {
  if (!in_range(address & -u64(page()), page())) return {};
  for (const Node* node = root_.get();;) {
    const Entry& e = node->entries[index(address, node->level)];
    if (e.kind == Entry::NONE) return {};
    if (e.kind == Entry::TABLE) {
      node = e.table.get();
      continue;
    }
    u64 inside = address & ((u64(1) << levels_[size_t(node->level)].shift) - 1);
    return Mapping{e.physical + inside, e.flags, node->level, e.fragment};
  }
}

// Offset of the first page that is (or is not) mapped; -1: none is.
i64 PageTables::gap(u64 address, i64 bytes, bool mapped) const {
  for (i64 at = 0; at < bytes;) {
    const Node* node = root_.get();
    const Entry* e = &node->entries[index(address + u64(at), 0)];
    while (e->kind == Entry::TABLE) node = e->table.get(), e = &node->entries[index(address + u64(at), node->level)];
    if ((e->kind == Entry::LEAF) == mapped) return at;
    i64 step = i64(1) << levels_[size_t(node->level)].shift;
    at = i64(((address + u64(at)) & -u64(step)) + u64(step) - address);
  }
  return -1;
}

void PageTables::map(u64 address, std::span<const PhysicalRun> runs, PageFlags flags) {
  i64 bytes = 0;
  for (const PhysicalRun& r : runs) {
    if (r.bytes <= 0 || r.bytes % page() || r.address % u64(page()))
      throw Error("cannot map ", r.bytes, " bytes of memory at ", hex(r.address), ": pages are ", page(), " bytes");
    bytes += r.bytes;
  }
  if (!in_range(address, bytes))
    throw Error("cannot map ", bytes, " bytes at ", hex(address), ": not whole pages inside of the address space");
  if (i64 at = gap(address, bytes, true); at >= 0)
    throw Error("cannot map ", bytes, " bytes at ", hex(address), ": ", hex(address + u64(at)), " is mapped already");
  u64 at = address;
  bool fits = true;
  for (size_t i = 0, end; i < runs.size() && fits; i = end) {
    PhysicalRun run = runs[i];  // joined with those that continue it
    for (end = i + 1; end < runs.size() && runs[end].address == run.address + u64(run.bytes); end++)
      run.bytes += runs[end].bytes;
    fits = write_run(at, run.address, run.bytes, flags);
    at += u64(run.bytes);
  }
  std::vector<std::unique_ptr<Node>> garbage;
  if (!fits) clear(address, bytes, garbage);
  backend_.invalidate(address, bytes);
  for (auto& node : garbage) backend_.free_table(node->physical, i64(node->entries.size()) * 8);
  if (!fits) throw DeviceError(str("no memory for page tables to map ", bytes, " bytes at ", hex(address)), "");
}

// Makes `address` a boundary: no entry and no fragment spans it. False: out of memory.
bool PageTables::split(u64 address) {
  std::optional<Mapping> m = in_range(address, page()) ? find(address) : std::nullopt;
  if (!m) return true;
  i64 block = std::max(page() << m->fragment, i64(1) << levels_[size_t(m->level)].shift);
  i64 before = i64(address & u64(block - 1));
  if (!before) return true;
  u64 physical = m->physical - u64(before);
  // The path first: after it, nothing that the two halves need can be missing except tables of the same path.
  return write_run(address - u64(before), physical, before, m->flags) &&
         write_run(address, m->physical, block - before, m->flags);
}

// Takes away what is mapped in the range, whose ends are boundaries, and the tables that map nothing any more.
void PageTables::clear(u64 address, i64 bytes, std::vector<std::unique_ptr<Node>>& garbage) {
  for (i64 at = 0; at < bytes;) {
    u64 here = address + u64(at);
    std::vector<Node*> path = {root_.get()};
    while (Node* next = path.back()->entries[index(here, path.back()->level)].table.get()) path.push_back(next);
    Node* node = path.back();
    i64 step = i64(1) << levels_[size_t(node->level)].shift;
    size_t first = index(here, node->level), i = first;
    at = i64((here & -u64(step)) - address);
    for (; i < node->entries.size() && at < bytes && !node->entries[i].table; i++, at += step) {
      node->used -= node->entries[i].kind == Entry::LEAF;
      node->entries[i] = {};
    }
    backend_.write(node->physical + first * 8, std::vector<u64>(i - first));
    for (; path.size() > 1 && !path.back()->used; path.pop_back()) {
      Node* parent = path[path.size() - 2];
      size_t k = index(here, parent->level);
      u64 none = 0;
      backend_.write(parent->physical + k * 8, {&none, 1});
      garbage.push_back(std::move(parent->entries[k].table));
      parent->entries[k] = {};
      parent->used--;
      tables_--;
    }
  }
}

void PageTables::unmap(u64 address, i64 bytes) {
  if (!in_range(address, bytes))
    throw Error("cannot unmap ", bytes, " bytes at ", hex(address), ": not whole pages inside of the address space");
  if (i64 at = gap(address, bytes, false); at >= 0)
    throw Error("cannot unmap ", bytes, " bytes at ", hex(address), ": ", hex(address + u64(at)), " is not mapped");
  if (!split(address) || !split(address + u64(bytes)))
    throw DeviceError(str("no memory for page tables to unmap a part at ", hex(address)), "");
  std::vector<std::unique_ptr<Node>> garbage;
  clear(address, bytes, garbage);
  backend_.invalidate(address, bytes);
  for (auto& node : garbage) backend_.free_table(node->physical, i64(node->entries.size()) * 8);
}

}  // namespace ingot
