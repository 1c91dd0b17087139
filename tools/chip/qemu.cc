// SPDX-License-Identifier: MIT
// `ingot chip --qemu SOCKET`: the model as a PCI device of a virtual machine, behind QEMU's x-pci-proxy-dev. The other
// end of the socket is inherited by QEMU (-device x-pci-proxy-dev,fd=N), which sends every access to configuration
// space and BARs as a message, and waits for the answer; and the files that are the machine's memory, so that DMA is a
// copy. What that protocol lacks comes through QEMU's -qtest socket, a line each way: interrupts are a write to the
// APIC's window, the IOMMU's registers say where the tables are that we then walk as it would. (QEMU 7.2,
// hw/remote/mpqemu-link.c, proxy.c, proxy-memory-listener.c, softmmu/qtest.c.)
//
// One thread does everything: messages, answers of qtest, and the chip's engines in slices between them, so nothing is
// locked. Its invariants: QEMU's main loop may be waiting for us during configuration cycles and resets, so qtest is
// never waited for there, only before a register is touched (then only a virtual processor waits); engines do not run
// while an answer is outstanding. The chip's time is the host's, as far as the emulator can follow.
//
// The configuration space here is what the guest sees: QEMU decodes 32-bit BARs below 1 GiB only, so doorbells and
// registers are declared so. VRAM is either a small trapped BAR, or hidden from QEMU's probe and a real 64-bit one
// afterwards, over which an ivshmem-plain device is moved that maps the same file: then the guest reaches it at full
// speed. BAR 4 is the server's own: the table of MSI-X and a port for tests, see Port.
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cstdio>
#include <deque>

#include "tools/chip.h"
#include "userspace/model/model.h"

namespace ingot {
namespace {

using namespace model;

enum Fact : u64 {
#define FACT(name, value, doc) name = value,
#include "userspace/model/qemu.def"
};
enum Message : i32 { SYNC_MEMORY, RETURN, CONFIG_WRITE, CONFIG_READ, BAR_WRITE, BAR_READ, SET_IRQ_FILES, DEVICE_RESET };
struct Header {
  i32 message;
  u32 padding;
  u64 bytes;
};
constexpr int most_sections = 8;
struct Body {
  union {
    struct {
      u32 offset, value;
      i32 bytes;
    } config;
    struct {
      u64 address, value;
      u32 bytes;
      u8 memory, padding[3];
    } bar;
    struct {
      u64 address[most_sections], bytes[most_sections], offset[most_sections];
    } sync;
  };
};
static_assert(sizeof(Header) == 16 && sizeof(Body) == 192 && sizeof(Body::bar) == 24);

constexpr u32 config_bytes = 256, capability_pm = 72, capability_express = 96, capability_msi = 160,
              capability_msix = 192;
constexpr int own_bar = 4, vectors = 4;
constexpr u64 page_bytes = 4096, own_bytes = page_bytes;
// What BAR 4 has after the table (16 bytes a vector) and, at PENDING, the bits of vectors that wait. A test rings
// vectors itself, and lets the port copy between its page of memory and the machine's, through the IOMMU, as an engine
// would.
enum Port : u64 {
  PENDING = 2048,
  RING = 2048 + 16,       // write: raises this vector
  ADDRESS = 2048 + 32,    // of memory, 64 bits
  LENGTH = 2048 + 40,     // in bytes; 64 bits
  COMMAND = 2048 + 48,    // write: 1 fills the memory with the low byte of ADDRESS's page number, 2 sums its bytes
  RESULT = 2048 + 52,     // the sum
  DONE = 2048 + 56,       // bytes so far
  REFUSED = 2048 + 60,    // accesses while bus mastering was off
  FAULTS = 2048 + 64,     // that the IOMMU or nobody answered
  INTERRUPTS = 2048 + 68  // that were sent
};

i64 host_ns() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return i64(t.tv_sec) * 1'000'000'000 + t.tv_nsec;
}

class Function final : Chip::Machine {
 public:
  Function(Chip& chip, int socket, const QemuOptions& o)
      : chip_(chip), bus_(chip, "model in QEMU"), socket_(socket), options_(o) {
    hidden_ = o.aperture_slot >= 0;
    const hw::Bar vram = bus_.bar(0);
    if (!hidden_ && vram.bytes > i64(1) << 30)
      throw Error("QEMU traps at most 1 GiB of VRAM, not ", vram.bytes >> 20, " MiB; --aperture maps it instead");
    power_on();
    chip_.machine = this;
    was_ns_ = host_ns();
    const timeval patience{10, 0};  // a message that has begun goes on, and answers are read
    setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(socket_, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  }
  ~Function() {
    chip_.machine = nullptr;
    bus_.memory_moved();
    for (Section& s : sections_) ::munmap(s.map, s.map_bytes);
    if (qtest_ >= 0) close(qtest_);
    close(socket_);
  }

  // Serves for at most a millisecond or so. False: QEMU is gone, or what it sends is no message.
  bool serve() {
    pollfd wait[2] = {{socket_, POLLIN, 0}, {qtest_, POLLIN, 0}};
    poll(wait, 2, behind_ || port_command_ ? 0 : 1);
    if (wait[1].revents) hear();
    if (wait[0].revents && !message()) return false;
    if (questions_.empty()) run();
    return true;
  }
  std::string report() const {
    return str(messages_, " messages, ", sent_, " interrupts and ", lost_, " lost, DMA: ", refused_, " refused, ",
               faults_, " faults");
  }

 private:
  // ---- messages
  bool receive(void* to, size_t bytes, std::vector<int>& files) {
    for (u8* at = static_cast<u8*>(to); bytes;) {
      iovec part{at, bytes};
      alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * 16)];
      msghdr m{};
      m.msg_iov = &part, m.msg_iovlen = 1, m.msg_control = control, m.msg_controllen = sizeof control;
      const ssize_t n = ::recvmsg(socket_, &m, MSG_CMSG_CLOEXEC);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return false;
      for (cmsghdr* c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c))
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
          for (size_t i = 0; CMSG_LEN((i + 1) * sizeof(int)) <= c->cmsg_len; i++)
            std::memcpy(&files.emplace_back(), CMSG_DATA(c) + i * sizeof(int), sizeof(int));
      at += n, bytes -= size_t(n);
    }
    return true;
  }
  bool answer(u64 value) {
    struct {
      Header header{RETURN, 0, 8};
      u64 value;
    } reply{.value = value};
    return ::send(socket_, &reply, sizeof reply, MSG_NOSIGNAL) == sizeof reply;
  }
  bool message() {
    Header h{};
    Body b{};
    std::vector<int> files;
    const bool whole = receive(&h, sizeof h, files) && h.bytes <= sizeof b && receive(&b, size_t(h.bytes), files);
    const bool ok = whole && act(h, b, files);
    if (whole && !ok)
      fprintf(stderr, "chip: QEMU sent message %d with %llu bytes\n", h.message, (unsigned long long)h.bytes);
    for (int file : files) close(file);
    messages_++;
    return ok;
  }
  bool act(const Header& h, const Body& b, const std::vector<int>& files) {
    const bool config = h.bytes == sizeof b.config && b.config.offset < config_bytes &&
                        (b.config.bytes == 1 || b.config.bytes == 2 || b.config.bytes == 4);
    const bool bar = h.bytes == sizeof b.bar && b.bar.bytes <= 8 && std::has_single_bit(b.bar.bytes);
    switch (h.message) {
      case SYNC_MEMORY: return h.bytes == sizeof b.sync && synchronise(b, files);
      case CONFIG_READ: return config && answer(config_read(b.config.offset, b.config.bytes));
      case CONFIG_WRITE:
        if (config) config_write(b.config.offset, b.config.value, b.config.bytes);
        return config && answer(0);
      case BAR_READ: return bar && answer(access(b, false));
      case BAR_WRITE: return bar && (access(b, true), answer(0));
      case SET_IRQ_FILES: return true;  // INTx, which the chip does not have
      case DEVICE_RESET:
        reset(hw::Reset::BUS);
        live_ = true;
        return answer(0);
      default: return false;
    }
  }

  // ---- the machine's memory
  struct Section {
    u64 address, bytes;
    u8* host;
    dev_t device;
    ino_t file;
    u64 offset;
    void* map;
    size_t map_bytes;
  };
  bool synchronise(const Body& b, const std::vector<int>& files) {
    std::vector<Section> now;
    for (size_t i = 0; i < std::min<size_t>(files.size(), most_sections); i++) {
      Section s{b.sync.address[i], b.sync.bytes[i], nullptr, 0, 0, b.sync.offset[i], nullptr, 0};
      struct stat file {};
      const u64 end = s.offset + s.bytes;
      if (!s.bytes || end < s.offset || s.address + s.bytes < s.address || fstat(files[i], &file) ||
          end > u64(file.st_size))
        continue;  // of no memory that we could reach
      s.device = file.st_dev, s.file = file.st_ino;
      auto known = std::find_if(sections_.begin(), sections_.end(), [&](const Section& o) {
        return o.address == s.address && o.bytes == s.bytes && o.offset == s.offset && o.device == s.device &&
               o.file == s.file;
      });
      if (known != sections_.end()) {
        now.push_back(*known);
        sections_.erase(known);
        continue;
      }
      const u64 inside = s.offset % page_bytes;
      s.map_bytes = size_t(s.bytes + inside);
      s.map = ::mmap(nullptr, s.map_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, files[i], i64(s.offset - inside));
      if (s.map == MAP_FAILED) continue;
      s.host = static_cast<u8*>(s.map) + inside;
      now.push_back(s);
    }
    for (Section& s : sections_) ::munmap(s.map, s.map_bytes);
    sections_ = std::move(now);
    forget();
    return true;
  }
  void forget() {
    translations_.clear();
    bus_.memory_moved();
  }
  u8* physical(u64 address, u64 bytes) {
    for (Section& s : sections_)
      if (address >= s.address && address - s.address < s.bytes && bytes <= s.bytes - (address - s.address))
        return s.host + (address - s.address);
    return nullptr;
  }
  u64 word(u64 address) {
    u64 value = 0;
    if (u8* at = physical(address, 8)) std::memcpy(&value, at, 8);
    return value;  // 0: an entry that is not present
  }
  // VT-d in legacy mode: root entry of the bus, context entry of the function, then up to five levels of 512 entries.
  std::optional<u64> translate(u64 address, bool write) {
    if (!(iommu_status_ >> 31 & 1)) return address;
    const u64 root = word((iommu_root_ & TABLE_ADDRESS) + 16 * u64(options_.bus));
    if (!(root & 1)) return {};
    const u64 context = (root & TABLE_ADDRESS) + 16 * u64(options_.function), low = word(context),
              high = word(context + 8);
    if (!(low & 1)) return {};
    if ((low >> 2 & 3) == 2) return address;  // passed through
    u64 table = low & TABLE_ADDRESS;
    const int top = int(high & 7) + 2;
    if (top > 5 || address >> (12 + 9 * top)) return {};
    for (int level = top;; level--) {
      const int shift = 12 + 9 * (level - 1);
      const u64 entry = word(table + 8 * (address >> shift & 511)), mask = (u64(1) << shift) - 1;
      if (!(entry & (write ? 2 : 1))) return {};
      if (level == 1 || entry >> 7 & 1) return (entry & TABLE_ADDRESS & ~mask) | (address & mask);
      table = entry & TABLE_ADDRESS;
    }
  }
  // For one slice of time a translation stays as it is, as in an IOTLB that is never late for long.
  u8* memory(u64 bus, i64 bytes, bool write) override {
    const u64 page = bus / page_bytes * page_bytes, inside = bus - page;
    if (!(command() & PCI_COMMAND_MASTER)) return refused_++, nullptr;
    auto [known, fresh] = translations_.try_emplace(page | u64(write));
    if (fresh) {
      const std::optional<u64> at = translate(page, write);
      known->second = at ? physical(*at, page_bytes) : nullptr;
    }
    if (!known->second || inside + u64(bytes) > page_bytes) {
      if (faults_++ < 8) fprintf(stderr, "chip: DMA fault, %s of %s\n", write ? "write" : "read", hex(bus).c_str());
      return nullptr;
    }
    return known->second + inside;
  }

  // ---- qtest
  using Answered = void (Function::*)(u64 value);
  void ask(const std::string& line, Answered then = nullptr) {
    if (options_.qtest.empty()) return;
    if (qtest_ < 0) {
      sockaddr_un address{};
      address.sun_family = AF_UNIX;
      options_.qtest.copy(address.sun_path, sizeof address.sun_path - 1);
      qtest_ = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
      if (connect(qtest_, reinterpret_cast<sockaddr*>(&address), sizeof address)) {
        fprintf(stderr, "chip: no qtest at %s: there will be no interrupts\n", options_.qtest.c_str());
        return hung_up();
      }
    }
    questions_.push_back(then);
    const std::string text = line + "\n";
    if (::send(qtest_, text.data(), text.size(), MSG_NOSIGNAL) != i64(text.size())) hung_up();
  }
  void hear() {
    char text[4096];
    const ssize_t n = ::recv(qtest_, text, sizeof text, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) return hung_up();
    if (n > 0) heard_.append(text, size_t(n));
    for (size_t end; (end = heard_.find('\n')) != heard_.npos; heard_.erase(0, end + 1)) {
      const std::string line = heard_.substr(0, end);
      if (line.starts_with("IRQ") || questions_.empty()) continue;
      const Answered then = questions_.front();
      questions_.pop_front();
      if (then) (this->*then)(line.size() > 3 ? std::strtoull(line.c_str() + 3, nullptr, 0) : 0);
    }
  }
  void hung_up() {  // the machine is going down
    if (qtest_ >= 0) close(std::exchange(qtest_, -1));
    options_.qtest.clear(), questions_.clear();
  }
  void settle() {  // only while QEMU's main loop does not wait for us
    for (const i64 start = host_ns(); !questions_.empty() && host_ns() - start < 5'000'000'000;) {
      pollfd wait{qtest_, POLLIN, 0};
      if (poll(&wait, 1, 100) > 0) hear();
    }
  }
  void ask_iommu() {
    if (!options_.iommu) return;
    ask("readl " + hex(IOMMU_GSTS), &Function::heard_status);
    ask("readq " + hex(IOMMU_RTADDR), &Function::heard_root);
    ask("readq " + hex(IOMMU_IRTA), &Function::heard_interrupts);
  }
  void heard_status(u64 value) { iommu_status_ = value, forget(); }
  void heard_root(u64 value) { iommu_root_ = value, forget(); }
  void heard_interrupts(u64 value) { iommu_interrupts_ = value; }
  // Puts ivshmem's memory where BAR 0 is. Only while a virtual processor waits for us in an access to another BAR: QEMU
  // lets go of its lock while it tells us of the new memory, and a configuration cycle that comes then is lost.
  void place_aperture() {
    moved_ = false;
    const u64 at = ECAM + u64(options_.aperture_slot) * 8 * page_bytes;
    ask("writew " + hex(at + PCI_COMMAND) + " 0");
    ask("writel " + hex(at + PCI_BASE_ADDRESS_2) + " " +
        hex(u32(base(0)) | PCI_BASE_ADDRESS_MEM_TYPE_64 | PCI_BASE_ADDRESS_MEM_PREFETCH));
    ask("writel " + hex(at + PCI_BASE_ADDRESS_3) + " " + hex(base(0) >> 32));
    ask("writew " + hex(at + PCI_COMMAND) + " 2");
    ask("readl " + hex(at + PCI_BASE_ADDRESS_3), &Function::heard_high);
    ask("readl " + hex(at + PCI_BASE_ADDRESS_2), &Function::heard_low);
  }
  void heard_high(u64 value) { aperture_high_ = value << 32; }
  void heard_low(u64 value) {
    if ((aperture_high_ | (value & ~u64(15))) != base(0) && tries_++ < 100)
      place_aperture();
    else
      tries_ = 0;
  }

  // ---- configuration space
  u32 get(u32 at, int n) const {
    u32 value = 0;
    for (int i = 0; i < n; i++) value |= u32(config_[at + u32(i)]) << (8 * i);
    return value;
  }
  void put(u32 at, u64 value, int n, u64 writable = 0) {
    for (int i = 0; i < n; i++)
      config_[at + u32(i)] = u8(value >> (8 * i)), writable_[at + u32(i)] = u8(writable >> (8 * i));
  }
  u32 command() const { return get(PCI_COMMAND, 2); }
  i64 bar_bytes(int i) { return i == own_bar ? i64(own_bytes) : bus_.bar(i).bytes; }
  u64 base(int i) const {
    u64 low = get(PCI_BASE_ADDRESS_0 + 4 * u32(i), 4) & ~u32(15);
    return hidden_ && i == 0 ? low | u64(get(PCI_BASE_ADDRESS_1, 4)) << 32 : low;
  }
  void power_on() {
    config_ = {}, writable_ = {};
    for (u32 at : {PCI_VENDOR_ID, PCI_CLASS_REVISION}) put(at, bus_.config_read(at, 4), 4);
    put(PCI_SUBSYSTEM_VENDOR_ID, QEMU_SUBSYSTEM, 4);
    put(PCI_COMMAND, 0, 2, COMMAND_WRITABLE);
    put(PCI_STATUS, PCI_STATUS_CAP_LIST, 2);
    put(PCI_INTERRUPT_LINE, 0, 1, 255);
    for (int i = 0; i < 6; i++) {
      const u64 bytes = u64(bar_bytes(i));
      if (bytes && !(i == 0 && hidden_))
        put(PCI_BASE_ADDRESS_0 + 4 * u32(i), i ? 0 : PCI_BASE_ADDRESS_MEM_PREFETCH, 4, -bytes);
      if (bytes && i == 0 && hidden_)
        put(PCI_BASE_ADDRESS_0, PCI_BASE_ADDRESS_MEM_PREFETCH | PCI_BASE_ADDRESS_MEM_TYPE_64, 8, -bytes);
    }
    put(PCI_CAPABILITY_LIST, capability_pm, 1);
    put(capability_pm, PCI_CAP_ID_PM | capability_express << 8 | 3 << 16, 4);
    put(capability_pm + PCI_PM_CTRL, PCI_PM_CTRL_NO_SOFT_RESET, 2, PCI_PM_CTRL_STATE_MASK);
    put(capability_express, PCI_CAP_ID_EXP | capability_msi << 8 | 2 << 16, 4);
    put(capability_express + PCI_EXP_DEVCAP, DEVICE_CAPS, 4);
    put(capability_express + PCI_EXP_DEVCTL, 0, 2, ~u64(0));
    put(capability_express + PCI_EXP_LNKCAP, LINK_CAPS, 4);
    put(capability_express + PCI_EXP_LNKSTA, LINK_STATUS, 2);
    put(capability_msi, PCI_CAP_ID_MSI | capability_msix << 8 | PCI_MSI_FLAGS_64BIT << 16, 4);
    put(capability_msi + PCI_MSI_FLAGS, PCI_MSI_FLAGS_64BIT, 2, PCI_MSI_FLAGS_ENABLE);
    put(capability_msi + PCI_MSI_ADDRESS_LO, 0, 8, ~u64(3));
    put(capability_msi + PCI_MSI_DATA_64, 0, 2, ~u64(0));
    put(capability_msix, PCI_CAP_ID_MSIX, 2);
    put(capability_msix + PCI_MSIX_FLAGS, vectors - 1, 2, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
    put(capability_msix + PCI_MSIX_TABLE, own_bar, 4);
    put(capability_msix + PCI_MSIX_PBA, PENDING | own_bar, 4);
    own_ = {};
    for (u64 v = 0; v < vectors; v++) own_[16 * v + PCI_MSIX_ENTRY_VECTOR_CTRL] = PCI_MSIX_ENTRY_CTRL_MASKBIT;
    port_command_ = 0, half_doorbell_ = {};
    forward_command();
  }
  void forward_command() { bus_.config_write(PCI_COMMAND, command() & (PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER), 2); }
  void reset(hw::Reset kind) {
    power_on();
    bus_.reset(kind);
  }
  u32 config_read(u32 at, int n) {
    const u32 ones = u32((u64(1) << (8 * n)) - 1);
    if (bus_.config_read(PCI_VENDOR_ID, 4) == ~u32(0) || at + u32(n) > config_bytes) return ones;  // it has left
    if (hidden_ && !live_ && at >= PCI_BASE_ADDRESS_0 && at < PCI_BASE_ADDRESS_2) return 0;
    return get(at, n);
  }
  void config_write(u32 at, u32 value, int n) {
    if (at + u32(n) > config_bytes) return;
    const u32 command_before = command(), msix_before = get(capability_msix + PCI_MSIX_FLAGS, 2);

    for (u32 i = at; i < at + u32(n); i++, value >>= 8)
      config_[i] = u8((config_[i] & ~writable_[i]) | (u8(value) & writable_[i]));
    u32 control = get(capability_express + PCI_EXP_DEVCTL, 2);
    if (control & PCI_EXP_DEVCTL_BCR_FLR) return reset(hw::Reset::FUNCTION);
    if (command() != command_before) forward_command();
    if (command() & ~command_before & PCI_COMMAND_MASTER) ask_iommu();
    // Also when nothing changes: whoever enables it means to use it, and may have moved ivshmem's memory before.
    if (hidden_ && live_ && command() & PCI_COMMAND_MEMORY && at < PCI_BASE_ADDRESS_2) moved_ = true;
    if (msix_before != get(capability_msix + PCI_MSIX_FLAGS, 2)) deliver();
  }

  // ---- BARs
  u64 access(const Body& b, bool write) {
    if (moved_) place_aperture();
    settle();
    slice_ns_ = least_slice_ns;  // a doorbell may have set off work
    const u64 ones = ~u64(0);
    const int bytes = int(b.bar.bytes);
    if (!b.bar.memory || !(command() & PCI_COMMAND_MEMORY)) return ones;
    for (int i = 0; i < 6; i++) {
      const u64 size = u64(bar_bytes(i)), at = b.bar.address - base(i);
      if (!size || at >= size || u64(bytes) > size - at || (i == 0 && hidden_)) continue;
      try {
        return i == own_bar ? own(at, bytes, b.bar.value, write) : window(i, at, bytes, b.bar.value, write);
      } catch (const Error& e) {  // a register that the model does not have
        fprintf(stderr, "chip: %s\n", e.what());
        return ones;
      }
    }
    return ones;
  }
  // The chip takes registers as dwords and doorbells as eight bytes, which KVM cuts into two halves.
  u64 window(int bar, u64 at, int bytes, u64 value, bool write) {
    if (bar == 0) {
      write ? bus_.copy_to(0, at, &value, bytes) : bus_.copy_from(0, at, &value, bytes);
      return value;
    }
    if (bytes < 4 || at % u64(bytes))
      return fprintf(stderr, "chip: %d bytes at %s of BAR %d\n", bytes, hex(at).c_str(), bar), ~u64(0);
    if (!write) {
      const u64 low = bus_.read32(bar, at);
      return bytes == 4 ? low : low | u64(bus_.read32(bar, at + 4)) << 32;
    }
    if (bytes == 8) return bus_.write64(bar, at, value), 0;
    if (bar != 2) return bus_.write32(bar, at, u32(value)), 0;
    if (at % 8 == 0) return half_doorbell_ = {at, u32(value)}, 0;
    if (half_doorbell_ && half_doorbell_->first == at - 4)
      bus_.write64(bar, at - 4, half_doorbell_->second | value << 32);
    return half_doorbell_.reset(), 0;
  }
  u64 own(u64 at, int bytes, u64 value, bool write) {
    auto number = [&](u64 where, auto v) { std::memcpy(&own_[where], &v, sizeof v); };
    if (!write) {
      number(REFUSED, u32(refused_)), number(FAULTS, u32(faults_)), number(INTERRUPTS, u32(sent_));
      value = 0;
      std::memcpy(&value, &own_[at], size_t(bytes));
      return value;
    }
    if (at >= PENDING && at < RING) return 0;
    std::memcpy(&own_[at], &value, size_t(bytes));
    if (at < PENDING) deliver();
    if (at == RING && value < vectors) raise(int(value));
    if (at == COMMAND) port_command_ = u32(value), number(RESULT, u32(0)), number(DONE, u32(0));
    return 0;
  }
  void run_port() {  // a page of it
    u64 address = 0, bytes = 0;
    u32 done = 0, sum = 0;
    std::memcpy(&address, &own_[ADDRESS], 8), std::memcpy(&bytes, &own_[LENGTH], 8);
    std::memcpy(&done, &own_[DONE], 4), std::memcpy(&sum, &own_[RESULT], 4);
    const u64 at = address + done, n = std::min(bytes - std::min<u64>(done, bytes), page_bytes - at % page_bytes);
    u8* host = n ? memory(at, i64(n), port_command_ == 1) : nullptr;
    if (!host) {  // the end, or as far as it got
      port_command_ = 0;
      return raise(0);
    }
    if (port_command_ == 1) std::memset(host, u8(at / page_bytes), n);
    for (u64 i = 0; i < n; i++) sum += host[i];
    done += u32(n);
    std::memcpy(&own_[DONE], &done, 4), std::memcpy(&own_[RESULT], &sum, 4);
  }

  // ---- interrupts
  void interrupt() override { raise(0); }
  void raise(int vector) {
    const u32 msix = get(capability_msix + PCI_MSIX_FLAGS, 2), msi = get(capability_msi + PCI_MSI_FLAGS, 2);
    if (msix & PCI_MSIX_FLAGS_ENABLE) {
      own_[PENDING] |= u8(1 << vector);
      return deliver();
    }
    const u64 address = get(capability_msi + PCI_MSI_ADDRESS_LO, 4) | u64(get(capability_msi + PCI_MSI_ADDRESS_HI, 4))
                                                                          << 32;
    if (msi & PCI_MSI_FLAGS_ENABLE && vector == 0) return send(address, get(capability_msi + PCI_MSI_DATA_64, 2));
    lost_++;
  }
  void deliver() {  // what MSI-X no longer masks
    const u32 flags = get(capability_msix + PCI_MSIX_FLAGS, 2);
    if (!(flags & PCI_MSIX_FLAGS_ENABLE) || flags & PCI_MSIX_FLAGS_MASKALL) return;
    for (int v = 0; v < vectors; v++) {
      u64 address = 0;
      u32 data = 0, control = 0;
      std::memcpy(&address, &own_[16 * u64(v)], 8), std::memcpy(&data, &own_[16 * u64(v) + 8], 4);
      std::memcpy(&control, &own_[16 * u64(v) + 12], 4);
      if (!(own_[PENDING] >> v & 1) || control & PCI_MSIX_ENTRY_CTRL_MASKBIT) continue;
      own_[PENDING] &= u8(~(1 << v));
      send(address, data);
    }
  }
  void send(u64 address, u32 data) {
    if (!(command() & PCI_COMMAND_MASTER)) return void(lost_++);          // it is a write to memory
    if ((address & MSI_WINDOW_MASK) == MSI_WINDOW && address >> 4 & 1) {  // remappable: the entry says which one it is
      const u64 handle = (address >> 5 & ((1 << 15) - 1)) | (address >> 2 & 1) << 15,
                entry = (iommu_interrupts_ & TABLE_ADDRESS) + 16 * (handle + (address >> 3 & 1 ? u16(data) : 0)),
                low = word(entry);
      if (!(low & 1)) return void(lost_++);
      const u64 to = iommu_interrupts_ >> 11 & 1 ? low >> 32 : low >> 40 & 255;
      address = MSI_WINDOW | (to & 255) << 12 | (low >> 3 & 1) << 3 | (low >> 2 & 1) << 2;
      data = u32((low >> 16 & 255) | (low >> 5 & 7) << 8 | (low >> 4 & 1) << 15 | (low >> 4 & 1) << 14);
    }
    sent_++;
    ask("writel " + hex(address) + " " + hex(data));
  }

  // ---- time
  // Slices are short after an access and grow while there is nothing to do in them. What the emulator cannot keep up
  // with is time that did not pass.
  void run() {
    if (port_command_) run_port();
    const i64 now = host_ns(), due = now - was_ns_;
    const i64 slice = std::min(due, slice_ns_);
    translations_.clear();
    bus_.memory_moved();
    try {
      bus_.wait_ns(slice);
    } catch (const Error& e) {  // the emulator's, of code that a guest should not have run
      fprintf(stderr, "chip: %s\n", e.what());
    }
    const bool cheap = host_ns() - now < slice;
    slice_ns_ = cheap ? std::min(2 * slice_ns_, most_slice_ns) : least_slice_ns;
    was_ns_ = cheap ? was_ns_ + slice : host_ns();
    behind_ = !cheap || due > slice;
  }

  static constexpr i64 least_slice_ns = 5'000, most_slice_ns = 200'000;
  Chip& chip_;
  ModelBus bus_;
  int socket_, qtest_ = -1;
  QemuOptions options_;
  bool hidden_ = false, live_ = false, behind_ = false, moved_ = false;  // moved_: BAR 0, for its aperture to follow
  std::array<u8, config_bytes> config_{}, writable_{};
  std::array<u8, own_bytes> own_{};
  std::vector<Section> sections_;
  std::unordered_map<u64, u8*> translations_;  // by page, and 1 for writing
  std::deque<Answered> questions_;
  std::string heard_;
  u64 iommu_status_ = 0, iommu_root_ = 0, iommu_interrupts_ = 0, aperture_high_ = 0;
  std::optional<std::pair<u64, u64>> half_doorbell_;
  u32 port_command_ = 0;
  int tries_ = 0;
  i64 was_ns_ = 0, slice_ns_ = least_slice_ns;
  u64 messages_ = 0, sent_ = 0, lost_ = 0, refused_ = 0, faults_ = 0;
};

}  // namespace

std::string serve_qemu(Chip& chip, int socket, const QemuOptions& o, const volatile sig_atomic_t& stopped,
                       volatile sig_atomic_t* unplug) {
  Function function(chip, socket, o);
  while (!stopped && function.serve())
    if (unplug && *unplug) {
      *unplug = 0;
      chip.inject(Injection::SURPRISE_REMOVAL);
    }
  return function.report();
}

}  // namespace ingot
