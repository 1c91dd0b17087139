// SPDX-License-Identifier: MIT
// Cards of this machine, and hw::Bus over what holds them: vfio-pci (a stock kernel, an IOMMU) or ingot.ko. A card
// belongs to us only when somebody has bound it to one of the two; nothing is taken from a driver that has it.
//
// Windows are mapped for good, and every access may meet a card that has left or is being reset: then the kernel sends
// SIGBUS, which comes back out of the access as a DeviceError. Over vfio-pci, memory for DMA is ordinary memory at bus
// addresses that we choose, one piece each. Over ingot.ko the kernel makes it, in pieces where no IOMMU puts them
// together. (Linux, Documentation/driver-api/vfio.rst, include/uapi/linux/vfio.h; kmod/ingot_uapi.h.)
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <bit>
#include <filesystem>
#include "kmod/ingot_uapi.h"
#include "userspace/device/device.h"
#include "userspace/hw/bus.h"
extern "C" {
#include <pci/pci.h>
}
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"  // the rest of an ioctl's argument is zero

namespace ingot {
namespace {

constexpr i64 page_bytes = 4096;
constexpr int accelerator = 0x12;  // PCI Code and ID Assignment: processing accelerators
// Bus addresses above what 32-bit devices and message windows use, below what the smallest IOMMU (39 bits) translates.
constexpr u64 first_bus_address = u64(1) << 32;

thread_local sigjmp_buf* volatile landing = nullptr;
struct sigaction before_us;
void on_sigbus(int, siginfo_t*, void*) {
  if (landing) siglongjmp(*landing, 1);
  sigaction(SIGBUS, &before_us, nullptr);  // not ours: it happens again
}
template <class F>
[[gnu::noinline]] bool survives(const F& access) {
  sigjmp_buf here;
  if (sigsetjmp(here, 0)) return landing = nullptr, false;
  landing = &here;
  access();
  landing = nullptr;
  return true;
}

struct File {
  int number = -1;
  File() = default;
  File(const std::string& path) : number(::open(path.c_str(), O_RDWR | O_CLOEXEC)) {
    if (number < 0 && errno == EBUSY) throw Error(path, " is in use by another process");
    if (number < 0) throw OsError(path, errno);
  }
  ~File() {
    if (number >= 0) ::close(number);
  }
};

class CardBus : public hw::Bus {
 public:
  explicit CardBus(const PciCard& card) : card_(card) {
    static const bool caught [[maybe_unused]] = [] {
      struct sigaction action {};
      action.sa_sigaction = on_sigbus, action.sa_flags = SA_SIGINFO | SA_NODEFER;
      return sigaction(SIGBUS, &action, &before_us) == 0;
    }();
    interrupts_.number = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (interrupts_.number < 0) throw OsError(str(name(), ": an eventfd"), errno);
  }
  ~CardBus() override {
    for (int i = 0; i < 6; i++)
      if (windows_[i]) ::munmap(windows_[i], size_t(card_.bars[i].bytes));
  }
  std::string name() const override { return card_.address; }
  hw::Bar bar(int index) override {
    check(index >= 0 && index < 6, "BAR ", index);
    return windows_[index] ? card_.bars[index] : hw::Bar();
  }
  u32 read32(int bar, u64 offset) override {
    u32 value = 0;
    touch(bar, offset, 4, [&](u8* at) { value = *reinterpret_cast<volatile u32*>(at); });
    return value;
  }
  void write32(int bar, u64 offset, u32 value) override {
    touch(bar, offset, 4, [&](u8* at) { *reinterpret_cast<volatile u32*>(at) = value; });
  }
  void write64(int bar, u64 offset, u64 value) override {
    touch(bar, offset, 8, [&](u8* at) { *reinterpret_cast<volatile u64*>(at) = value; });
  }
  void copy_from(int bar, u64 offset, void* to, i64 bytes) override {
    touch(bar, offset, bytes, [&](u8* at) { std::memcpy(to, at, size_t(bytes)); });
  }
  void copy_to(int bar, u64 offset, const void* from, i64 bytes) override {
    touch(bar, offset, bytes, [&](u8* at) { std::memcpy(at, from, size_t(bytes)); });
  }
  void flush_writes() override { __sync_synchronize(); }
  void dma_free(hw::DmaMemory& m) override {
    ::munmap(m.host, size_t(m.bytes));
    release(m);
    m = {};
  }
  u64 wait_interrupt(i64 deadline_ns) override {
    pollfd wait{interrupts_.number, POLLIN, 0};
    u64 count = 0;
    ::poll(&wait, 1, int(std::clamp<i64>((deadline_ns - now_ns() + 999'999) / 1'000'000, 0, 1 << 30)));
    return ::read(interrupts_.number, &count, sizeof count) == sizeof count ? count : 0;
  }
  i64 now_ns() override {
    timespec t;
    ::clock_gettime(CLOCK_MONOTONIC, &t);
    return i64(t.tv_sec) * 1'000'000'000 + t.tv_nsec;
  }
  void wait_ns(i64 ns) override {
    const i64 end = now_ns() + ns;
    if (ns > 50'000) std::this_thread::sleep_for(std::chrono::nanoseconds(ns));
    while (now_ns() < end) {}
  }

 protected:
  virtual void release(hw::DmaMemory& memory) = 0;
  template <class F>
  void touch(int bar, u64 offset, i64 bytes, F access) {
    const i64 size = bar >= 0 && bar < 6 && windows_[bar] ? card_.bars[bar].bytes : 0;
    if (offset > u64(size) || bytes < 0 || u64(bytes) > u64(size) - offset)
      throw Error(name(), ": ", bytes, " bytes at ", hex(offset), " are outside of BAR ", bar, ", which has ", size);
    u8* at = windows_[bar] + offset;
    if (!survives([&] { access(at); }))
      throw DeviceError(str(name(), ": no access to BAR ", bar, " at ", hex(offset), ": it is gone or was reset"), "");
  }
  int call(int file, unsigned long request, void* argument, const char* what) {
    const int result = ::ioctl(file, request, argument);
    if (result < 0) throw OsError(str(name(), ": ", what), errno);
    return result;
  }
  void map(int bar, int file, u64 offset, i64 bytes) {
    windows_[bar] = mapped(bytes, MAP_SHARED, file, offset), card_.bars[bar].bytes = bytes;
  }
  u8* mapped(i64 bytes, int flags, int file, u64 offset) {
    void* at = ::mmap(nullptr, size_t(bytes), PROT_READ | PROT_WRITE, flags, file, i64(offset));
    if (at == MAP_FAILED) throw OsError(str(name(), ": ", bytes, " bytes"), errno);
    return static_cast<u8*>(at);
  }
  PciCard card_;
  u8* windows_[6] = {};
  File interrupts_;
};

// ---- vfio-pci ------------------------------------------------------------------------------------------------------
class VfioBus final : public CardBus {
 public:
  explicit VfioBus(const PciCard& card)
      : CardBus(card),
        container_("/dev/vfio/vfio"),
        group_(card.node),
        addresses_(first_bus_address, i64(1) << 37, page_bytes) {
    vfio_group_status status{.argsz = sizeof status, .flags = 0};
    call(group_.number, VFIO_GROUP_GET_STATUS, &status, "its group");
    if (!(status.flags & VFIO_GROUP_FLAGS_VIABLE))
      throw Error(name(), ": the kernel drives another device of ", card.node, "; bind all of them to vfio-pci");
    call(group_.number, VFIO_GROUP_SET_CONTAINER, &container_.number, "its group");
    call(container_.number, VFIO_SET_IOMMU, reinterpret_cast<void*>(VFIO_TYPE1v2_IOMMU), "the IOMMU");
    device_.number = call(group_.number, VFIO_GROUP_GET_DEVICE_FD, const_cast<char*>(card.address.c_str()), "vfio-pci");
    for (int i = 0; i < 6; i++)
      if (auto r = region(i); r.size && r.flags & VFIO_REGION_INFO_FLAG_MMAP)
        map(i, device_.number, r.offset, i64(r.size));
    config_ = region(VFIO_PCI_CONFIG_REGION_INDEX).offset;
    listen();
  }
  u32 config_read(u32 offset, int bytes) override {
    u32 value = 0;
    const bool whole = ::pread(device_.number, &value, size_t(bytes), i64(config_ + offset)) == bytes;
    return whole ? value : ~u32(0) >> (32 - 8 * bytes);
  }
  void config_write(u32 offset, u32 value, int bytes) override {
    if (::pwrite(device_.number, &value, size_t(bytes), i64(config_ + offset)) != bytes && errno != ENODEV)
      throw OsError(str(name(), ": configuration space at ", offset), errno);
  }
  hw::DmaMemory dma_alloc(i64 bytes, bool) override {
    bytes = (bytes + page_bytes - 1) & -page_bytes;
    u8* at = mapped(bytes, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ::madvise(at, size_t(bytes), MADV_DONTFORK);  // a child's copy would not be what the card sees
    const std::optional<u64> bus = addresses_.alloc(bytes);
    vfio_iommu_type1_dma_map m{sizeof m, VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE};
    m.vaddr = u64(at), m.iova = bus.value_or(0), m.size = u64(bytes);
    if (bus && !::ioctl(container_.number, VFIO_IOMMU_MAP_DMA, &m))
      return {at, bytes, i64(std::bit_ceil(u64(bytes))), {*bus}, *bus};
    const int number = bus ? errno : ENOSPC;
    if (bus) addresses_.free(*bus);
    ::munmap(at, size_t(bytes));
    throw OsError(str(name(), ": ", bytes, " bytes for DMA, of those that `ulimit -l` lets a process pin"), number);
  }
  bool reset(hw::Reset kind) override {
    u32 all[] = {16, 0, 1, u32(group_.number)};  // vfio_pci_hot_reset: size, flags, how many groups, which
    return !::ioctl(device_.number, kind == hw::Reset::FUNCTION ? VFIO_DEVICE_RESET : VFIO_DEVICE_PCI_HOT_RESET, all);
  }

 private:
  vfio_region_info region(int index) {
    vfio_region_info r{.argsz = sizeof r, .index = u32(index)};
    call(device_.number, VFIO_DEVICE_GET_REGION_INFO, &r, "its regions");
    return r;
  }
  void release(hw::DmaMemory& m) override {
    vfio_iommu_type1_dma_unmap u{.argsz = sizeof u, .iova = m.handle, .size = u64(m.bytes)};
    ::ioctl(container_.number, VFIO_IOMMU_UNMAP_DMA, &u);
    addresses_.free(m.handle);
  }
  void listen() {  // no interrupts where there is no MSI
    // vfio_irq_set: size, flags, index, the first, how many, eventfds
    constexpr u32 flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
    u32 set[] = {24, flags, VFIO_PCI_MSI_IRQ_INDEX, 0, 1, u32(interrupts_.number)};
    ::ioctl(device_.number, VFIO_DEVICE_SET_IRQS, set);
  }
  File container_, group_, device_;
  Tlsf addresses_;
  u64 config_ = 0;
};

// ---- ingot.ko ------------------------------------------------------------------------------------------------------
class IngotBus final : public CardBus {
 public:
  explicit IngotBus(const PciCard& card) : CardBus(card), device_(card.node) {
    ingot_info info = ask<INGOT_GET_INFO>(ingot_info{}, "ingot.ko");
    if (info.abi_major != INGOT_ABI_MAJOR)
      throw Error(name(), ": ingot.ko is of version ", info.abi_major, ", this program needs ", INGOT_ABI_MAJOR);
    for (int i = 0; i < 6; i++) {
      ingot_bar b{.argsz = sizeof b, .index = u32(i)};
      if (::ioctl(device_.number, INGOT_GET_BAR, &b) || !(b.bar_flags & INGOT_BAR_MMAP)) continue;
      const bool combining = i == 0 && b.bar_flags & INGOT_BAR_WC;  // memory; registers keep their order
      map(i, device_.number, combining ? b.off_wc : b.off_uc, i64(b.size));
    }
    listen();
  }
  u32 config_read(u32 offset, int bytes) override {
    ingot_cfg_read r{.argsz = sizeof r, .offset = offset, .width = u32(bytes)};
    return ::ioctl(device_.number, INGOT_CFG_READ, &r) ? ~u32(0) >> (32 - 8 * bytes) : r.value;
  }
  // The module lets nobody write there, but does what a driver wants of it. Windows are always on.
  void config_write(u32 offset, u32 value, int bytes) override {
    if (offset != PCI_COMMAND || bytes != 2)
      throw Error(name(), ": ingot.ko does not let a process write configuration space at ", offset);
    ask<INGOT_CFG_OP>(ingot_cfg_op{.op = INGOT_CFG_MASTER, .arg = !!(value & PCI_COMMAND_MASTER)}, "bus mastering");
  }
  hw::DmaMemory dma_alloc(i64 bytes, bool contiguous) override {
    bytes = (bytes + page_bytes - 1) & -page_bytes;
    auto a = ask<INGOT_MEM_ALLOC>(ingot_mem_alloc{.flags = contiguous ? u32(INGOT_MEM_CONTIG) : 0, .size = u64(bytes)},
                                  "memory for DMA");
    hw::DmaMemory m{mapped(bytes, MAP_SHARED, device_.number, a.mmap_offset), bytes, page_bytes, {}, a.handle};
    std::vector<ingot_seg> pieces(a.num_segs);
    ask<INGOT_MEM_SEGS>(ingot_mem_segs{.handle = a.handle, .count = a.num_segs, .segs = u64(pieces.data())},
                        "its pages");
    for (auto [dma, bytes_of_it] : pieces)
      for (u64 p = 0; p < bytes_of_it; p += page_bytes) m.bus.push_back(dma + p);
    if (pieces.size() == 1) m.page_bytes = i64(std::bit_ceil(u64(bytes))), m.bus.resize(1);
    return m;
  }
  bool reset(hw::Reset kind) override {
    const u32 how = kind == hw::Reset::FUNCTION ? INGOT_RESET_FLR : INGOT_RESET_BUS;
    ingot_reset r{.argsz = sizeof r, .flags = INGOT_RESET_KEEP_MEM, .method = how};
    const bool done = !::ioctl(device_.number, INGOT_RESET, &r);
    listen();
    return done;
  }

 private:
  template <unsigned long request, class T>
  T ask(T argument, const char* what) {
    argument.argsz = sizeof argument;
    call(device_.number, request, &argument, what);
    return argument;
  }
  void release(hw::DmaMemory& m) override {
    ingot_mem_free f{.argsz = sizeof f, .handle = u32(m.handle)};
    ::ioctl(device_.number, INGOT_MEM_FREE, &f);
  }
  void listen() {  // no interrupts where there is no MSI
    i32 file = interrupts_.number;
    ingot_irq_set s{.argsz = sizeof s, .count = 1, .fds = u64(&file)};
    ::ioctl(device_.number, INGOT_IRQ_SET, &s);
  }
  File device_;
};

}  // namespace

std::vector<PciCard> pci_cards(u16 vendor) {
  std::vector<PciCard> cards;
  const std::string devices = "/sys/bus/pci/devices";
  if (::access(devices.c_str(), R_OK)) return cards;  // for which libpci would end the process
  std::unique_ptr<pci_access, void (*)(pci_access*)> access(pci_alloc(), pci_cleanup);
  access->method = PCI_ACCESS_SYS_BUS_PCI;
  pci_init(access.get());
  pci_scan_bus(access.get());
  for (pci_dev* d = access->devices; d; d = d->next) {
    pci_fill_info(d, PCI_FILL_IDENT | PCI_FILL_CLASS | PCI_FILL_BASES | PCI_FILL_SIZES | PCI_FILL_IO_FLAGS |
                         PCI_FILL_DRIVER | PCI_FILL_IOMMU_GROUP);
    const int kind = d->device_class >> 8;
    if (d->vendor_id != vendor || (kind != PCI_BASE_CLASS_DISPLAY && kind != accelerator)) continue;
    auto text = [&](u32 what) {
      const char* s = pci_get_string_property(d, what);
      return std::string(s ? s : "");
    };
    PciCard c;
    char address[32];
    std::snprintf(address, sizeof address, "%04x:%02x:%02x.%d", u32(d->domain), d->bus, d->dev, d->func);
    c.address = address, c.device = d->device_id, c.driver = text(PCI_FILL_DRIVER);
    for (int i = 0; i < 6; i++)
      c.bars[i] = {i64(d->size[i]), d->base_addr[i] & PCI_ADDR_MEM_MASK, (d->flags[i] & PCI_IORESOURCE_PREFETCH) != 0};
    const std::string group = text(PCI_FILL_IOMMU_GROUP);
    std::error_code absent;
    if (c.driver == "vfio-pci")
      c.node = group.empty() ? "" : "/dev/vfio/" + group;
    else if (c.driver == "ingot")
      for (auto& e : std::filesystem::directory_iterator(devices + "/" + c.address + "/ingot", absent))
        c.node = "/dev/" + e.path().filename().string();
    if (c.driver != "vfio-pci" && c.driver != "ingot")
      c.unusable = str(c.driver.empty() ? "no driver" : "the kernel's " + c.driver,
                       " has it; bind it to vfio-pci or ingot (", devices, "/", c.address, "/driver_override)");
    else if (c.node.empty())
      c.unusable = "vfio-pci needs an IOMMU, and it is in no group of one";
    else if (::access(c.node.c_str(), R_OK | W_OK))
      c.unusable = str("no permission to open ", c.node);
    cards.push_back(std::move(c));
  }
  std::sort(cards.begin(), cards.end(), [](const PciCard& a, const PciCard& b) { return a.address < b.address; });
  return cards;
}

std::unique_ptr<hw::Bus> open_card(const PciCard& card) {
  if (!card.unusable.empty()) throw Error(card.address, ": ", card.unusable);
  if (card.driver == "ingot") return std::make_unique<IngotBus>(card);
  return std::make_unique<VfioBus>(card);
}

}  // namespace ingot
