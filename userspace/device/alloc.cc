// SPDX-License-Identifier: MIT
// TLSF (Masmano, Ripoll, Crespo, Real: "TLSF: a new dynamic memory allocator for real-time systems", 2004) with its
// headers beside the memory instead of in it, since the memory is a chip's. A free block is in the list of its class:
// the power of two below its size, cut into 16. Two bit masks find the first class whose every block is large enough;
// neighbours merge when freed, so that two free blocks never touch.
#include <algorithm>
#include <bit>
#include "userspace/device/device.h"

namespace ingot {
namespace {
struct Class {
  int first, second;
};
constexpr int log2_floor(i64 n) { return 63 - std::countl_zero(u64(n)); }
Class class_of(i64 units) {  // of a free block: every block in it is at least as large as the class's bound
  if (units < 16) return {0, int(units)};
  int f = log2_floor(units);
  return {f - 3, int(units >> (f - 4) & 15)};
}
i64 round_up(i64 n, i64 unit) { return (n + unit - 1) & -unit; }
}  // namespace

Tlsf::Tlsf(u64 start, i64 bytes, i64 unit) : start_(start), unit_(unit), second_(FIRST), heads_(FIRST * SECOND, -1) {
  check(bytes >= 0 && std::has_single_bit(u64(unit)) && start % u64(unit) == 0, start, " ", bytes, " ", unit);
  if (i64 units = bytes / unit) insert(make({.start = 0, .units = units}));
}

int Tlsf::make(Block block) {
  if (spare_.empty()) return blocks_.push_back(block), int(blocks_.size()) - 1;
  int i = spare_.back();
  spare_.pop_back();
  blocks_[size_t(i)] = block;
  return i;
}

void Tlsf::insert(int i) {
  Block& b = blocks_[size_t(i)];
  Class c = class_of(b.units);
  int& head = heads_[size_t(c.first * SECOND + c.second)];
  b.free = true, b.previous = -1, b.next = head;
  if (head >= 0) blocks_[size_t(head)].previous = i;
  head = i;
  first_ |= u64(1) << c.first;
  second_[size_t(c.first)] |= 1u << c.second;
  free_units_ += b.units;
}

void Tlsf::remove(int i) {
  Block& b = blocks_[size_t(i)];
  Class c = class_of(b.units);
  int& head = heads_[size_t(c.first * SECOND + c.second)];
  if (b.previous >= 0)
    blocks_[size_t(b.previous)].next = b.next;
  else
    head = b.next;
  if (b.next >= 0) blocks_[size_t(b.next)].previous = b.previous;
  if (head < 0) second_[size_t(c.first)] &= ~(1u << c.second);
  if (!second_[size_t(c.first)]) first_ &= ~(u64(1) << c.first);
  b.free = false;
  free_units_ -= b.units;
}

// A block of at least so many units. The classes from the next bound on are sure to fit; only the list of the class
// that the size itself is in must be looked through, which finds what rounding up would miss.
int Tlsf::find_fit(i64 units) const {
  Class c = class_of(units);
  i64 step = units < 16 ? 1 : i64(1) << (log2_floor(units) - 4);
  Class sure = class_of(round_up(units, step));
  u32 second = second_[size_t(sure.first)] & (~u32(0) << sure.second);
  int first = sure.first;
  if (!second) {
    u64 above = first_ & (sure.first == 63 ? 0 : ~u64(0) << (sure.first + 1));
    if (above) second = second_[size_t(first = std::countr_zero(above))];
  }
  if (second) return heads_[size_t(first * SECOND + std::countr_zero(second))];
  for (int i = heads_[size_t(c.first * SECOND + c.second)]; i >= 0; i = blocks_[size_t(i)].next)
    if (blocks_[size_t(i)].units >= units) return i;
  return -1;
}

std::optional<u64> Tlsf::alloc(i64 bytes, i64 align) {
  check(bytes >= 0 && std::has_single_bit(u64(align)), bytes, " bytes aligned to ", align);
  if (bytes > free_bytes()) return {};
  i64 units = std::max<i64>(1, (bytes + unit_ - 1) / unit_);
  auto skip_of = [&](const Block& b) {  // units before the first aligned address
    u64 at = start_ + u64(b.start * unit_), up = (at + u64(align) - 1) & -u64(align);
    return i64(up - at) / unit_;
  };
  int i = find_fit(units);
  if (i >= 0 && skip_of(blocks_[size_t(i)]) + units > blocks_[size_t(i)].units)
    i = find_fit(units + align / unit_ - 1);  // such a block is large enough wherever it starts
  if (i < 0) return {};
  remove(i);
  // What is before and after the block goes back.
  if (i64 skip = skip_of(blocks_[size_t(i)])) {
    Block b = blocks_[size_t(i)];
    int front = make({.start = b.start, .units = skip, .before = b.before, .after = i});
    if (b.before >= 0) blocks_[size_t(b.before)].after = front;
    blocks_[size_t(i)].start += skip, blocks_[size_t(i)].units -= skip, blocks_[size_t(i)].before = front;
    insert(front);
  }
  if (i64 rest = blocks_[size_t(i)].units - units) {
    Block b = blocks_[size_t(i)];
    int back = make({.start = b.start + units, .units = rest, .before = i, .after = b.after});
    if (b.after >= 0) blocks_[size_t(b.after)].before = back;
    blocks_[size_t(i)].units = units, blocks_[size_t(i)].after = back;
    insert(back);
  }
  used_[blocks_[size_t(i)].start] = i;
  return start_ + u64(blocks_[size_t(i)].start * unit_);
}

void Tlsf::free(u64 address) {
  size_of(address);
  auto it = used_.find(i64(address - start_) / unit_);
  int i = it->second;
  used_.erase(it);
  auto merge = [&](int left, int right) {  // right becomes part of left
    Block &l = blocks_[size_t(left)], &r = blocks_[size_t(right)];
    l.units += r.units, l.after = r.after;
    if (r.after >= 0) blocks_[size_t(r.after)].before = left;
    spare_.push_back(right);
    r = {};
  };
  if (int after = blocks_[size_t(i)].after; after >= 0 && blocks_[size_t(after)].free) remove(after), merge(i, after);
  if (int before = blocks_[size_t(i)].before; before >= 0 && blocks_[size_t(before)].free)
    remove(before), merge(before, i), i = before;
  insert(i);
}

i64 Tlsf::size_of(u64 address) const {
  auto it = (address - start_) % u64(unit_) ? used_.end() : used_.find(i64(address - start_) / unit_);
  if (address < start_ || it == used_.end())
    throw Error("no block in use starts at ", hex(address), "; it was freed twice or never allocated");
  return blocks_[size_t(it->second)].units * unit_;
}

i64 Tlsf::largest() const {
  if (!first_) return 0;
  int f = 63 - std::countl_zero(first_), s = 31 - std::countl_zero(second_[size_t(f)]);
  i64 most = 0;
  for (int i = heads_[size_t(f * SECOND + s)]; i >= 0; i = blocks_[size_t(i)].next)
    most = std::max(most, blocks_[size_t(i)].units);
  return most * unit_;
}

void Tlsf::verify() const {
  i64 listed = 0, free_units = 0, walked = 0;
  for (int f = 0; f < FIRST; f++)
    for (int s = 0; s < SECOND; s++) {
      int head = heads_[size_t(f * SECOND + s)];
      bool marked = second_[size_t(f)] & 1u << s;
      check(marked ? head >= 0 : head < 0, "class ", f, ".", s);
      for (int i = head, previous = -1; i >= 0; previous = i, i = blocks_[size_t(i)].next) {
        const Block& b = blocks_[size_t(i)];
        Class c = class_of(b.units);
        check(b.free && b.previous == previous && c.first == f && c.second == s, "block ", i);
        listed++, free_units += b.units;
      }
    }
  check(free_units == free_units_, free_units, " ", free_units_);
  for (size_t i = 0; i < blocks_.size(); i++) {
    const Block& b = blocks_[i];
    if (!b.units) continue;
    walked++;
    if (b.after >= 0) {
      const Block& next = blocks_[size_t(b.after)];
      check(next.before == int(i) && next.start == b.start + b.units && !(b.free && next.free), "block ", i);
    }
    check(b.free || used_.at(b.start) == int(i), "block ", i);
  }
  check(walked == listed + in_use(), walked, " ", listed);
}

}  // namespace ingot
