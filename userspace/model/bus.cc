// SPDX-License-Identifier: MIT
// The bus under a model: configuration space, windows, memory for DMA, interrupts, the clock.
//
// Configuration space has the standard header, and capabilities for power management, PCI Express and MSI, and answers
// the probing of BAR sizes as PCI says. Memory that a driver allocates for DMA gets bus addresses page by page,
// scattered on purpose, so that a driver which takes them for contiguous fails. While the command register does not
// enable memory, the windows read as all ones; while it does not enable bus mastering, DMA goes nowhere.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>
#include "userspace/model/model.h"

namespace ingot::model {
namespace {

enum Config : u32 {  // PCI Local Bus Specification 3.0, 6.1
#define CONFIG(name, offset, doc) name = offset,
#include "userspace/model/pci.def"
#undef CONFIG
};
enum Command : u32 { MEMORY_SPACE = 2, BUS_MASTER = 4, INTERRUPT_DISABLE = 1 << 10 };
constexpr i64 page_bytes = 4096;
constexpr i64 access_ns = 100;  // what an access takes
constexpr i64 engine_step_ns = 1000;

u32 get(const std::vector<u8>& bytes, u32 at, int n) {
  u32 value = 0;
  for (int i = 0; i < n; i++) value |= u32(bytes[at + size_t(i)]) << (8 * i);
  return value;
}
void put(std::vector<u8>& bytes, u32 at, u64 value, int n) {
  for (int i = 0; i < n; i++) bytes[at + size_t(i)] = u8(value >> (8 * i));
}

}  // namespace

// ---- Chip ----------------------------------------------------------------------------------------------------------
Chip::Chip(const PciIdentity& id) : identity_(id), config_(page_bytes), writable_(page_bytes) {
  put(config_, VENDOR_ID, id.vendor, 2);
  put(config_, DEVICE_ID, id.device, 2);
  put(config_, CLASS_REVISION, id.class_code << 8 | id.revision, 4);
  put(config_, SUBSYSTEM_VENDOR_ID, id.subsystem_vendor, 2);
  put(config_, SUBSYSTEM_ID, id.subsystem, 2);
  put(config_, STATUS, 1 << 4, 2);  // has capabilities
  put(writable_, COMMAND, MEMORY_SPACE | BUS_MASTER | INTERRUPT_DISABLE, 2);
  u64 assigned = u64(1) << 40;  // where firmware has put the windows
  for (int i = 0; i < 6; i++) {
    if (!id.bar_bytes[i]) continue;
    u64 bytes = u64(id.bar_bytes[i]);
    check((bytes & (bytes - 1)) == 0, "BAR ", i, " has ", bytes, " bytes");
    u32 at = BAR0 + 4 * u32(i);
    u64 flags = (id.bar_64bit[i] ? 4 : 0) | (id.bar_prefetchable[i] ? 8 : 0);
    assigned = (assigned + bytes - 1) & ~(bytes - 1);
    u64 base = id.bar_64bit[i] ? assigned : u64(1) << 31;
    put(config_, at, base | flags, id.bar_64bit[i] ? 8 : 4);
    put(writable_, at, ~(bytes - 1), id.bar_64bit[i] ? 8 : 4);
    assigned += bytes;
  }
  put(config_, CAPABILITIES, CAPABILITY_PM, 1);
  put(config_, CAPABILITY_PM, 1 | CAPABILITY_EXPRESS << 8 | 3 << 16, 4);
  put(writable_, CAPABILITY_PM + 4, 3, 2);                                    // power state
  put(config_, CAPABILITY_EXPRESS, 0x10 | CAPABILITY_MSI << 8 | 2 << 16, 4);  // an endpoint
  put(config_, CAPABILITY_MSI, 5 | 1 << 23, 4);                               // 64-bit addresses, one vector
  put(writable_, CAPABILITY_MSI + 2, 1, 2);
  put(writable_, CAPABILITY_MSI + 4, ~u64(3), 8);
  put(writable_, CAPABILITY_MSI + 12, ~u64(0), 2);
}
u32 Chip::config_read(u32 offset, int bytes) const {
  if (gone || offset + u32(bytes) > config_.size()) return u32((u64(1) << (8 * bytes)) - 1);
  return get(config_, offset, bytes);
}
void Chip::config_write(u32 offset, u32 value, int bytes) {
  if (gone || offset + u32(bytes) > config_.size()) return;
  u32 mask = get(writable_, offset, bytes);
  put(config_, offset, (get(config_, offset, bytes) & ~mask) | (value & mask), bytes);
  mapping_epoch++;
}
bool Chip::bus_master() const { return get(config_, COMMAND, 2) & BUS_MASTER; }
void Chip::object(std::string what) {
  constexpr size_t enough = 1000;
  if (on_objection) on_objection(what);
  if (objections.size() < enough) objections.push_back(std::move(what));
}
u8* Chip::dma_pointer(u64 bus, i64 bytes, bool write) {
  u64 offset = bus % page_bytes;
  if (machine) {
    u8* host = !gone && bus_master() ? machine->memory(bus, bytes, write) : nullptr;
    dropped_dma += !host;
    return host;
  }
  auto page = dma_pages_.find(bus / page_bytes);
  if (gone || !bus_master() || page == dma_pages_.end() || i64(offset) + bytes > page_bytes) {
    dropped_dma++;
    return nullptr;
  }
  return page->second + offset;
}
bool Chip::dma(u64 bus, void* data, i64 bytes, bool write) {
  for (u8* at = static_cast<u8*>(data); bytes;) {
    i64 n = std::min(bytes, page_bytes - i64(bus % page_bytes));
    u8* host = dma_pointer(bus, n, write);
    if (!host) return false;
    write ? memcpy(host, at, size_t(n)) : memcpy(at, host, size_t(n));
    at += n, bus += u64(n), bytes -= n;
  }
  return true;
}
void Chip::advance(i64 ns) {
  now_ns += ns;
  if (!gone) run(std::exchange(unrun_ns_, 0) + ns);
}
void Chip::accessed() {
  now_ns += access_ns, unrun_ns_ += access_ns;
  if (unrun_ns_ >= engine_step_ns) advance(0);
}

// ---- ModelBus ------------------------------------------------------------------------------------------------------
ModelBus::~ModelBus() {
  std::lock_guard lock(chip_.mutex);
  chip_.mapping_epoch++;
  for (auto& [handle, m] : memory_) unmap(m);
}
void ModelBus::unmap(Memory& m) {
  for (u64 bus : m.bus) chip_.dma_pages_.erase(bus / page_bytes);
  ::munmap(m.host, size_t(m.bytes));
  if (m.file >= 0) ::close(m.file);
}
u32 ModelBus::config_read(u32 offset, int bytes) {
  std::lock_guard lock(chip_.mutex);
  return chip_.config_read(offset, bytes);
}
void ModelBus::config_write(u32 offset, u32 value, int bytes) {
  std::lock_guard lock(chip_.mutex);
  chip_.config_write(offset, value, bytes);
}
i64 ModelBus::now_ns() {
  std::lock_guard lock(chip_.mutex);
  return chip_.now_ns;
}
void ModelBus::wait_ns(i64 ns) {
  std::lock_guard lock(chip_.mutex);
  chip_.advance(ns);
}
hw::Bar ModelBus::bar(int index) {
  std::lock_guard lock(chip_.mutex);
  check(index >= 0 && index < 6, "BAR ", index);
  const PciIdentity& id = chip_.identity_;
  if (!id.bar_bytes[index]) return {};
  u32 at = BAR0 + 4 * u32(index);
  u64 base = get(chip_.config_, at, 4) & ~u32(15);
  if (id.bar_64bit[index]) base |= u64(get(chip_.config_, at + 4, 4)) << 32;
  return {id.bar_bytes[index], base, id.bar_prefetchable[index]};
}
bool ModelBus::reachable(int bar, u64 offset, i64 bytes) {
  i64 size = bar >= 0 && bar < 6 ? chip_.identity_.bar_bytes[bar] : 0;
  if (offset > u64(size) || bytes < 0 || u64(bytes) > u64(size) - offset)
    throw Error(name_, ": ", bytes, " bytes at ", hex(offset), " are outside of BAR ", bar, ", which has ", size);
  return !chip_.gone && get(chip_.config_, COMMAND, 2) & MEMORY_SPACE;
}
u32 ModelBus::read32(int bar, u64 offset) {
  check(offset % 4 == 0, name_, ": a register read at ", hex(offset));
  std::lock_guard lock(chip_.mutex);
  chip_.accessed();
  if (!reachable(bar, offset, 4)) return ~u32(0);
  if (bar == 5) return chip_.register_read(offset);
  u32 value = 0;
  if (bar == 0) chip_.memory_read(offset, &value, 4);
  return value;
}
void ModelBus::write32(int bar, u64 offset, u32 value) {
  check(offset % 4 == 0, name_, ": a register write at ", hex(offset));
  std::lock_guard lock(chip_.mutex);
  chip_.accessed();
  if (!reachable(bar, offset, 4)) return;
  if (bar == 5) chip_.register_write(offset, value);
  if (bar == 0) chip_.memory_write(offset, &value, 4);
  if (bar == 2) chip_.object(str("a doorbell of 32 bits at ", hex(offset)));
}
void ModelBus::write64(int bar, u64 offset, u64 value) {
  check(offset % 8 == 0, name_, ": a doorbell at ", hex(offset));
  std::lock_guard lock(chip_.mutex);
  chip_.accessed();
  if (!reachable(bar, offset, 8)) return;
  if (bar == 2) chip_.doorbell(offset, value);
  if (bar == 0) chip_.memory_write(offset, &value, 8);
  if (bar == 5) chip_.object(str("a register write of 64 bits at ", hex(offset)));
}
void ModelBus::copy_from(int bar, u64 offset, void* to, i64 bytes) {
  std::lock_guard lock(chip_.mutex);
  chip_.accessed();
  if (!reachable(bar, offset, bytes) || bar != 0)
    memset(to, -1, size_t(bytes));
  else
    chip_.memory_read(offset, to, bytes);
}
void ModelBus::copy_to(int bar, u64 offset, const void* from, i64 bytes) {
  std::lock_guard lock(chip_.mutex);
  chip_.accessed();
  if (reachable(bar, offset, bytes) && bar == 0) chip_.memory_write(offset, from, bytes);
}
hw::DmaMemory ModelBus::dma_alloc(i64 bytes, bool contiguous) {
  if (bytes <= 0) throw Error(name_, ": ", bytes, " bytes for DMA");
  bytes = (bytes + page_bytes - 1) / page_bytes * page_bytes;
  // Sealed, so that it stays as long as it is mapped whatever the other process does.
  int file = shared_ ? ::memfd_create("ingot dma", MFD_CLOEXEC | MFD_ALLOW_SEALING) : -1;
  bool made = !shared_ || (file >= 0 && !::ftruncate(file, bytes) &&
                           !::fcntl(file, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL));
  int flags = shared_ ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS;
  void* host = made ? ::mmap(nullptr, size_t(bytes), PROT_READ | PROT_WRITE, flags, file, 0) : MAP_FAILED;
  if (host == MAP_FAILED) {
    int number = errno;
    if (file >= 0) ::close(file);
    throw OsError(str(name_, ": ", bytes, " bytes for DMA"), number);
  }
  std::lock_guard lock(chip_.mutex);
  Memory m{static_cast<u8*>(host), bytes, {}, file};
  u64 pages = u64(bytes / page_bytes), first = chip_.next_bus_page_ + (1 << 20);
  chip_.next_bus_page_ += 2 * pages + 1;
  for (u64 i = 0; i < pages; i++) {
    u64 bus = contiguous ? first + i : first + 2 * (pages - 1 - i);  // backwards, with a hole after each
    chip_.dma_pages_[bus] = m.host + i64(i) * page_bytes;
    m.bus.push_back(bus * page_bytes);
  }
  hw::DmaMemory out{m.host, bytes, page_bytes, m.bus, next_handle_++};
  if (contiguous) out.page_bytes = i64(std::bit_ceil(u64(bytes))), out.bus.resize(1);
  memory_.emplace(out.handle, std::move(m));
  return out;
}
void ModelBus::dma_free(hw::DmaMemory& memory) {
  std::lock_guard lock(chip_.mutex);
  auto m = memory_.find(memory.handle);
  check(m != memory_.end(), name_, ": DMA memory freed twice");
  chip_.mapping_epoch++;
  unmap(m->second);
  memory_.erase(m);
  memory = {};
}
void ModelBus::memory_moved() {
  std::lock_guard lock(chip_.mutex);
  chip_.mapping_epoch++;
}
u64 ModelBus::wait_interrupt(i64 deadline_ns) {
  std::lock_guard lock(chip_.mutex);
  for (i64 step = 1000; !chip_.interrupts_ && chip_.now_ns < deadline_ns && !chip_.gone; step += step / 8)
    chip_.advance(std::min(step, deadline_ns - chip_.now_ns));
  bool enabled = get(chip_.config_, CAPABILITY_MSI + 2, 2) & 1;
  return enabled ? std::exchange(chip_.interrupts_, 0) : 0;
}
bool ModelBus::reset(hw::Reset kind) {
  std::lock_guard lock(chip_.mutex);
  if (chip_.gone) return false;
  chip_.reset(kind);
  return true;
}

}  // namespace ingot::model
