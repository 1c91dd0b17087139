// SPDX-License-Identifier: MIT
// Runs in the lab's guest: hw::Bus over a driver of a real kernel, against the model's own BAR 4 (tools/chip/qemu.cc,
// Port), which rings vectors and copies through the machine's IOMMU on request.
//
//   bus DRIVER        all of it, over vfio-pci or ingot; the first thing that is wrong ends it
//   bus DRIVER count  what the chip has counted, as "refused faults interrupts"
//   bus DRIVER hold   opens the card, says so, touches it until that fails, says how
#include <linux/pci_regs.h>
#include <unistd.h>

#include <cstdio>

#include "userspace/device/device.h"

namespace ingot {
namespace {

constexpr u16 amd = 0x1002;
constexpr int port = 4;
enum Port : u64 {
  RING = 2064,
  ADDRESS = 2080,
  LENGTH = 2088,
  COMMAND = 2096,
  RESULT = 2100,
  DONE = 2104,
  REFUSED = 2108,
  FAULTS = 2112,
  INTERRUPTS = 2116
};
constexpr i64 second = 1'000'000'000, mib = 1 << 20;

void must(bool ok, auto... what) {
  if (!ok) throw Error(what...);
}
template <class E, class F>
bool throws(F f) {
  try {
    f();
  } catch (const E&) {
    return true;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "instead: %s\n", e.what());
  }
  return false;
}
std::unique_ptr<hw::Bus> open(std::string_view driver) {
  std::string all;
  for (const PciCard& c : pci_cards(amd)) {
    if (c.driver == driver) return open_card(c);
    all += c.address + ": " + c.driver + " ";
  }
  throw Error("no card is bound to ", driver, ": ", all);
}
void command(hw::Bus& bus, u32 bits, bool on) {
  const u32 now = bus.config_read(PCI_COMMAND, 2);
  bus.config_write(PCI_COMMAND, on ? now | bits : now & ~bits, 2);
}
i64 copies(hw::Bus& bus, u64 address, i64 bytes, u32 what) {  // as the chip: how far it gets
  bus.write32(port, ADDRESS, u32(address)), bus.write32(port, ADDRESS + 4, u32(address >> 32));
  bus.write32(port, LENGTH, u32(bytes)), bus.write32(port, LENGTH + 4, u32(bytes >> 32));
  bus.write32(port, COMMAND, what);
  i64 before = -1, done = 0;
  for (int same = 0; done != bytes && same < 100; same = done == before ? same + 1 : 0) {
    before = done, done = bus.read32(port, DONE);
    bus.wait_ns(1'000'000);
  }
  return done;
}

void windows(hw::Bus& bus) {
  must((bus.config_read(PCI_VENDOR_ID, 4) & 65535) == amd, "another vendor");
  must(bus.bar(0).bytes >= 256 * mib && bus.bar(2).bytes == 2 * mib && bus.bar(5).bytes == mib, "sizes of windows");
  must(!bus.bar(1).bytes, "half of a window is one");
  must(throws<Error>([&] { bus.read32(5, u64(mib)); }) && throws<Error>([&] { bus.read32(1, 0); }),
       "outside of a window");
  bus.read32(port, DONE);  // only then QEMU is told where VRAM is (tools/chip/qemu.cc)
  std::vector<u8> out(8 * mib), in(8 * mib);
  for (size_t i = 0; i < out.size(); i++) out[i] = u8(i * 7 + i / 4096);
  bus.copy_to(0, 128 * mib + 4, out.data(), i64(out.size()));
  bus.flush_writes();
  bus.copy_from(0, 128 * mib + 4, in.data(), i64(in.size()));
  must(in == out, "VRAM does not keep what is written");
  bus.write32(0, 128 * mib, 17);
  must(bus.read32(0, 128 * mib) == 17, "VRAM does not keep a dword");
}
void dma(hw::Bus& bus) {
  command(bus, PCI_COMMAND_MASTER, true);
  const u32 faults = bus.read32(port, FAULTS);
  for (auto [bytes, contiguous] :
       {std::pair{i64(4096), false}, {i64(1000), true}, {mib, true}, {3 * mib + 4096, false}, {64 * mib, false}}) {
    hw::DmaMemory m = bus.dma_alloc(bytes, contiguous);
    must(m.bytes >= bytes && (!contiguous || m.bus.size() == 1), bytes, " bytes came as ", m.bytes, " in ",
         m.bus.size());
    const i64 piece = std::min(m.page_bytes, m.bytes);
    for (i64 at = 0; at < m.bytes; at += piece) {
      const i64 n = std::min(piece, m.bytes - at), got = copies(bus, m.at(at), n, 1);
      must(got == n, "the chip wrote ", got, " of ", n, " bytes at ", hex(m.at(at)));
      for (i64 i = 0; i < n; i += 4096)
        must(m.host[at + i] == u8(m.at(at + i) >> 12) && m.host[at + i + 4095] == m.host[at + i], "page ", i,
             " is another one");
    }
    for (i64 i = 0; i < 4096; i++) m.host[i] = u8(i * i >> 3);
    u32 sum = 0;
    for (i64 i = 0; i < 4096; i++) sum += m.host[i];
    copies(bus, m.at(0), 4096, 2);
    must(bus.read32(port, RESULT) == sum, "the chip does not see what we write");
    const u64 was = m.at(0);
    bus.dma_free(m);
    must(copies(bus, was, 4096, 2) == 0, "memory is within the chip's reach after it was freed");
  }
  must(bus.read32(port, FAULTS) == faults + 5, "faults: ", bus.read32(port, FAULTS) - faults);
  std::vector<hw::DmaMemory> many;
  for (int i = 0; i < 300; i++) many.push_back(bus.dma_alloc(4096 * (1 + i % 7), false));
  for (auto& m : many) must(copies(bus, m.at(m.bytes - 4096), 4096, 1) == 4096, "one of many");
  for (auto& m : many) bus.dma_free(m);
  hw::DmaMemory m = bus.dma_alloc(4096, true);
  const u32 refused = bus.read32(port, REFUSED);
  command(bus, PCI_COMMAND_MASTER, false);
  must(copies(bus, m.at(0), 4096, 1) == 0 && bus.read32(port, REFUSED) == refused + 1,
       "bus mastering is off, and it writes");
  bus.dma_free(m);
}
void interrupts(hw::Bus& bus) {
  command(bus, PCI_COMMAND_MASTER, true);
  while (bus.wait_interrupt(bus.now_ns() + second / 50)) {}
  for (int i = 0; i < 100; i++) {
    bus.write32(port, RING, 0);
    const u64 came = bus.wait_interrupt(bus.now_ns() + second);
    must(came == 1, "interrupt ", i, " came ", came, " times");
  }
  must(!bus.wait_interrupt(bus.now_ns() + second / 10), "one that nobody made");
}
void resets(hw::Bus& bus) {
  for (hw::Reset kind : {hw::Reset::FUNCTION, hw::Reset::BUS}) {
    must(bus.reset(kind), "reset ", int(kind));
    command(bus, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, true);
    windows(bus);
    interrupts(bus);
  }
}
void revoked(hw::Bus& bus, std::string_view driver) {
  if (driver != "vfio-pci") return;  // ingot.ko has no call for this; its row unbinds
  command(bus, PCI_COMMAND_MEMORY, false);
  must(throws<DeviceError>([&] { bus.read32(port, DONE); }), "a window that is off can be read");
  must(throws<DeviceError>([&] {
         u8 byte;
         bus.copy_from(0, 0, &byte, 1);
       }),
       "VRAM that is off can be read");
  command(bus, PCI_COMMAND_MEMORY, true);
  bus.read32(port, DONE);
}

int run(std::string_view driver, std::string_view what) {
  std::unique_ptr<hw::Bus> bus = open(driver);
  command(*bus, PCI_COMMAND_MEMORY, true);
  if (what == "count") {
    std::printf("%u %u %u\n", bus->read32(port, REFUSED), bus->read32(port, FAULTS), bus->read32(port, INTERRUPTS));
  } else if (what == "hold") {
    std::printf("holding\n"), std::fflush(stdout);
    try {
      while (bus->read32(port, DONE) != ~u32(0)) bus->wait_ns(1'000'000);
      std::printf("it reads as ones\n");
    } catch (const DeviceError& e) {
      std::printf("DeviceError: %s\n", e.what());
    }
  } else {
    must(throws<Error>([&] { open(driver); }), "two processes have it");
    windows(*bus), dma(*bus), interrupts(*bus), revoked(*bus, driver), resets(*bus);
    std::printf("windows, DMA, interrupts, revocation, resets\n");
  }
  return 0;
}

}  // namespace
}  // namespace ingot

int main(int count, char** words) {
  try {
    return ingot::run(count > 1 ? words[1] : "", count > 2 ? words[2] : "");
  } catch (const std::exception& e) {
    std::printf("%s\n", e.what());
    return 1;
  }
}
