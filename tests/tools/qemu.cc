// SPDX-License-Identifier: MIT
// The server of `ingot chip --qemu` against a QEMU that is played here: the order of its probe, memory and the IOMMU's
// tables in it, interrupts through a qtest that is played too, and messages that nobody sane would send.
#include <gtest/gtest.h>
#include <linux/pci_regs.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <random>
#include <thread>

#include "tools/chip.h"
#include "userspace/model/model.h"

namespace ingot {
namespace {

enum Message : i32 { SYNC_MEMORY, RETURN, CONFIG_WRITE, CONFIG_READ, BAR_WRITE, BAR_READ, SET_IRQ_FILES, DEVICE_RESET };
constexpr i64 ram_bytes = 1 << 20;
// BAR 4 of the server, see Port in tools/chip/qemu.cc.
constexpr u64 ring = 2064, port_address = 2080, port_length = 2088, port_command = 2096, port_result = 2100,
              port_done = 2104, port_refused = 2108, port_faults = 2112;

class Machine {
 public:
  explicit Machine(QemuOptions o = {}) {
    int pair[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    wire = pair[0];
    const timeval patience{10, 0};
    setsockopt(wire, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    chip = model::make_amd({.vram_bytes = i64(128) << 20});
    server = std::thread([this, o, end = pair[1]] { serve_qemu(*chip, end, o, stopped); });
    ram_file = memfd_create("ram", MFD_CLOEXEC);
    EXPECT_EQ(ftruncate(ram_file, ram_bytes), 0);
    ram = static_cast<u8*>(mmap(nullptr, ram_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, ram_file, 0));
  }
  ~Machine() {
    close(wire);
    server.join();
    munmap(ram, ram_bytes);
    close(ram_file);
  }
  bool send(i32 message, const void* body, size_t bytes, std::vector<int> files = {}, u64 claimed = ~u64(0)) {
    struct {
      i32 message;
      u32 padding;
      u64 bytes;
    } head{message, 0, claimed == ~u64(0) ? bytes : claimed};
    iovec parts[2] = {{&head, sizeof head}, {const_cast<void*>(body), bytes}};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * 32)] = {};
    msghdr m{};
    m.msg_iov = parts, m.msg_iovlen = 2;
    if (!files.empty()) {
      m.msg_control = control, m.msg_controllen = CMSG_SPACE(sizeof(int) * files.size());
      cmsghdr* c = CMSG_FIRSTHDR(&m);
      c->cmsg_level = SOL_SOCKET, c->cmsg_type = SCM_RIGHTS, c->cmsg_len = CMSG_LEN(sizeof(int) * files.size());
      std::memcpy(CMSG_DATA(c), files.data(), sizeof(int) * files.size());
    }
    return sendmsg(wire, &m, MSG_NOSIGNAL) > 0;
  }
  u64 answer() {
    u64 reply[3] = {};
    EXPECT_EQ(recv(wire, reply, sizeof reply, MSG_WAITALL), i64(sizeof reply));
    EXPECT_EQ(reply[0], u64(RETURN));
    return reply[2];
  }
  u32 config(u32 at, int bytes) {
    const u32 body[] = {at, 0, u32(bytes)};
    send(CONFIG_READ, body, sizeof body);
    return u32(answer());
  }
  void config(u32 at, int bytes, u32 value) {
    const u32 body[] = {at, value, u32(bytes)};
    send(CONFIG_WRITE, body, sizeof body);
    answer();
  }
  u64 bar(i32 message, u64 address, int bytes, u64 value = 0) {
    const u64 body[] = {address, value, u64(bytes) | u64(1) << 32};
    send(message, body, sizeof body);
    return answer();
  }
  u64 read(u64 address, int bytes = 4) { return bar(BAR_READ, address, bytes); }
  void write(u64 address, u64 value, int bytes = 4) { bar(BAR_WRITE, address, bytes, value); }
  void share() {
    u64 body[24] = {};
    body[8] = ram_bytes;
    send(SYNC_MEMORY, body, sizeof body, {ram_file});
  }
  // As QEMU does it before the machine runs, then as firmware does.
  void start() {
    share();
    send(SET_IRQ_FILES, nullptr, 0);
    for (u32 i = 0; i < 7; i++) {
      const u32 at = PCI_BASE_ADDRESS_0 + 4 * i, was = config(at, 4);
      config(at, 4, ~u32(0));
      sizes[i] = -(config(at, 4) & ~u32(15));
      config(at, 4, was);
    }
    send(DEVICE_RESET, nullptr, 0);
    answer();
    for (u32 i : {0, 2, 4, 5}) config(PCI_BASE_ADDRESS_0 + 4 * i, 4, base(i));
    config(PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
  }
  static u32 base(u32 i) { return (8 + i) << 28; }
  u64 port(u64 address, u64 bytes, u32 command) {  // runs it, returns how far it got
    write(base(4) + port_address, address, 8);
    write(base(4) + port_length, bytes, 8);
    write(base(4) + port_command, command);
    u64 before = ~u64(0), done = 0;
    for (int same = 0; done != bytes && same < 50; same = done == before ? same + 1 : 0)
      before = std::exchange(done, read(base(4) + port_done)), usleep(1000);
    return done;
  }
  void put(u64 at, u64 value) { std::memcpy(ram + at, &value, 8); }

  int wire = -1, ram_file = -1;
  u8* ram = nullptr;
  u64 sizes[7] = {};
  volatile sig_atomic_t stopped = 0;
  std::unique_ptr<model::Chip> chip;
  std::thread server;
};

// QEMU's qtest: memory that can be read, and what was written to it.
class Qtest {
 public:
  Qtest() : path("/tmp/ingot-qtest-" + std::to_string(getpid())) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.data(), path.size());
    unlink(path.c_str());
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    EXPECT_EQ(bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(listen(listener, 1), 0);
    thread = std::thread([this] { serve(); });
  }
  ~Qtest() {
    shutdown(listener, SHUT_RDWR);
    thread.join();
    close(listener);
    unlink(path.c_str());
  }
  void serve() {
    const int client = accept(listener, nullptr, nullptr);
    std::string line;
    for (char c; client >= 0 && recv(client, &c, 1, 0) == 1;) {
      if (c != '\n') {
        line += c;
        continue;
      }
      std::lock_guard lock(mutex);
      unsigned long long at = 0, value = 0;
      std::string reply = "OK\n";
      if (sscanf(line.c_str(), "read%*c %llx", &at) == 1) reply = "OK " + hex(memory[at]) + "\n";
      if (sscanf(line.c_str(), "write%*c %llx %llx", &at, &value) == 2)
        written.push_back({at, value}), memory[at] = value;
      ::send(client, "IRQ raise 1\n", 12, MSG_NOSIGNAL);  // which nobody asked for
      ::send(client, reply.data(), reply.size(), MSG_NOSIGNAL);
      line.clear();
    }
    if (client >= 0) close(client);
  }
  std::vector<std::pair<u64, u64>> wait(size_t n) {
    for (int i = 0; i < 2000; i++, usleep(1000))
      if (std::lock_guard lock(mutex); written.size() >= n) break;
    usleep(10'000);  // more than was asked for would be wrong
    std::lock_guard lock(mutex);
    return written;
  }
  const std::string path;
  int listener = -1;
  std::mutex mutex;
  std::map<u64, u64> memory;
  std::vector<std::pair<u64, u64>> written;
  std::thread thread;
};

TEST(qemu, the_probe_finds_sizes_and_the_guest_capabilities) {
  Machine m;
  m.start();
  EXPECT_EQ(m.sizes[0], u64(128) << 20);
  EXPECT_EQ(m.sizes[2], u64(2) << 20);
  EXPECT_EQ(m.sizes[4], u64(4096));
  EXPECT_EQ(m.sizes[5], u64(1) << 20);
  for (int i : {1, 3, 6}) EXPECT_EQ(u32(m.sizes[i]), 0u) << i;
  std::vector<u32> kinds;
  for (u32 at = m.config(PCI_CAPABILITY_LIST, 1); at; at = m.config(at + 1, 1)) kinds.push_back(m.config(at, 1));
  EXPECT_EQ(kinds, (std::vector<u32>{PCI_CAP_ID_PM, PCI_CAP_ID_EXP, PCI_CAP_ID_MSI, PCI_CAP_ID_MSIX}));
  EXPECT_EQ(m.config(PCI_ROM_ADDRESS, 4), 0u);
}

TEST(qemu, hidden_vram_is_64_bits_wide_once_the_probe_is_over) {
  Qtest q;
  QemuOptions o;
  o.qtest = q.path, o.aperture_slot = 6;
  Machine m(o);
  m.start();
  EXPECT_EQ(m.sizes[0], 0u);
  m.config(PCI_COMMAND, 2, 0);
  m.config(PCI_BASE_ADDRESS_0, 4, ~u32(0)), m.config(PCI_BASE_ADDRESS_1, 4, ~u32(0));
  EXPECT_EQ(u64(m.config(PCI_BASE_ADDRESS_1, 4)) << 32 | (m.config(PCI_BASE_ADDRESS_0, 4) & ~u32(15)),
            -(u64(128) << 20));
  m.config(PCI_BASE_ADDRESS_0, 4, 0), m.config(PCI_BASE_ADDRESS_1, 4, 3);
  m.config(PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
  m.read(m.base(5));  // before this is answered the aperture is where VRAM is
  std::lock_guard lock(q.mutex);
  EXPECT_EQ(q.memory[(u64(11) << 28) + (6 << 15) + PCI_BASE_ADDRESS_3], 3u);
}

TEST(qemu, vram_is_memory_and_nothing_answers_while_memory_is_off) {
  Machine m;
  m.start();
  m.send(DEVICE_RESET, nullptr, 0), m.answer();
  for (u32 i : {0, 2, 4, 5}) m.config(PCI_BASE_ADDRESS_0 + 4 * i, 4, m.base(i));
  EXPECT_EQ(u32(m.read(m.base(0))), ~u32(0));
  m.config(PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
  usleep(600'000);  // what a reset takes
  for (int bytes : {1, 2, 4, 8}) {
    m.write(m.base(0) + 64, u64(m.base(1)) * 3 + u64(bytes), bytes);
    const u64 mask = bytes == 8 ? ~u64(0) : (u64(1) << 8 * bytes) - 1;
    EXPECT_EQ(m.read(m.base(0) + 64, bytes) & mask, (u64(m.base(1)) * 3 + u64(bytes)) & mask) << bytes;
  }
  EXPECT_EQ(m.read(m.base(1)), ~u64(0)) << "outside of all BARs";
  EXPECT_EQ(m.read(m.base(5) + (1 << 20) - 2, 4), ~u64(0)) << "beyond the end of one";
  m.chip->inject(model::Injection::SURPRISE_REMOVAL);
  EXPECT_EQ(m.config(PCI_VENDOR_ID, 4), ~u32(0));
  EXPECT_EQ(u32(m.read(m.base(5))), ~u32(0));
}

TEST(qemu, dma_needs_bus_mastering_and_memory) {
  Machine m;
  m.start();
  EXPECT_EQ(m.port(3 << 12, 10'000, 1), 10'000u);
  EXPECT_EQ(m.ram[3 << 12], 3);
  EXPECT_EQ(m.ram[(5 << 12) + 1807], 5);
  EXPECT_EQ(m.ram[(5 << 12) + 1808], 0) << "one byte more than it was told";
  EXPECT_EQ(m.port(3 << 12, 8192, 2), 8192u);
  EXPECT_EQ(m.read(m.base(4) + port_result), u64(4096 * 3 + 4096 * 4));
  EXPECT_EQ(m.port(ram_bytes - 4096, 8192, 1), 4096u) << "there is no more memory";
  EXPECT_EQ(m.read(m.base(4) + port_faults), 1u);
  m.config(PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
  EXPECT_EQ(m.port(0, 4096, 1), 0u);
  EXPECT_EQ(m.read(m.base(4) + port_refused), 1u);
}

TEST(qemu, dma_goes_through_the_tables_of_the_iommu) {
  Qtest q;
  // Root table at 0, context table at 4096, then three levels; the page 5 of the bus is page 9 of memory, read-only 6.
  q.memory[0xfed9001c] = u64(1) << 31;  // GSTS
  q.memory[0xfed90020] = 0;             // RTADDR
  QemuOptions o;
  o.qtest = q.path, o.iommu = true;
  Machine m(o);
  m.put(16, 4096 | 1);
  m.put(4096, 8192 | 1), m.put(4096 + 8, 1);
  m.put(8192, 12288 | 3), m.put(12288, 16384 | 3);
  m.put(16384 + 5 * 8, (9 << 12) | 3), m.put(16384 + 6 * 8, (10 << 12) | 1);
  m.put(12288 + 8, (u64(1) << 21) | 3 | 128);  // a large page, where no memory is
  m.start();
  EXPECT_EQ(m.port(5 << 12, 8192, 1), 4096u) << "the second page may not be written";
  EXPECT_EQ(m.ram[9 << 12], 5);
  EXPECT_EQ(m.ram[10 << 12], 0);
  EXPECT_EQ(m.port(5 << 12, 8192, 2), 8192u);
  EXPECT_EQ(m.port(7 << 12, 4096, 2), 0u) << "not mapped";
  EXPECT_EQ(m.port(u64(1) << 21, 4096, 2), 0u);
  EXPECT_EQ(m.port(u64(1) << 45, 4096, 2), 0u) << "beyond the levels";
  m.put(16384 + 5 * 8, 0);
  EXPECT_EQ(m.port(5 << 12, 4096, 2), 0u) << "unmapped again";
  m.put(4096, 8192 | 1 | 2 << 2);
  EXPECT_EQ(m.port(9 << 12, 4096, 2), 4096u) << "passed through";
}

TEST(qemu, interrupts_are_writes_that_masks_hold_back) {
  Qtest q;
  QemuOptions o;
  o.qtest = q.path;
  Machine m(o);
  m.start();
  u32 msi = 0, msix = 0;
  for (u32 at = m.config(PCI_CAPABILITY_LIST, 1); at; at = m.config(at + 1, 1))
    (m.config(at, 1) == PCI_CAP_ID_MSI ? msi : msix) = at;
  const u64 window = u64(0xfee) << 20, table = m.base(4);
  m.config(msi + PCI_MSI_ADDRESS_LO, 4, u32(window)), m.config(msi + PCI_MSI_DATA_64, 2, 33);
  m.write(table + ring, 0);  // nothing is enabled: lost
  m.config(msi + PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_ENABLE);
  m.write(table + ring, 0);
  EXPECT_EQ(q.wait(1), (std::vector<std::pair<u64, u64>>{{window, 33}}));
  m.config(msi + PCI_MSI_FLAGS, 2, 0);
  for (u64 v = 0; v < 4; v++)
    m.write(table + 16 * v, window + 4096), m.write(table + 16 * v + 8, 40 + v), m.write(table + 16 * v + 12, v == 2);
  m.config(msix + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
  for (u64 v : {3, 2, 2}) m.write(table + ring, v);
  EXPECT_EQ(q.wait(1).size(), 1u);
  EXPECT_EQ(m.read(table + 2048), 12u) << "both are pending";
  m.config(msix + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
  EXPECT_EQ(q.wait(2).back(), (std::pair<u64, u64>{window + 4096, 43}));
  m.write(table + 16 * 2 + 12, 0);
  EXPECT_EQ(q.wait(3).back(), (std::pair<u64, u64>{window + 4096, 42}));
  EXPECT_EQ(q.wait(3).size(), 3u) << "what was pending twice is one interrupt";
  m.config(PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
  m.write(table + ring, 0);
  EXPECT_EQ(q.wait(3).size(), 3u) << "an interrupt is a write to memory";
}

// Whatever is said, the server survives it, and the next machine finds a chip.
TEST(qemu, hostile_messages) {
  std::mt19937_64 random(1);
  for (int round = 0; round < 300; round++) {
    Machine m;
    if (round % 2) m.start();
    bool there = true;
    for (int i = 0; i < 200 && there; i++) {
      u64 body[24];
      for (u64& word : body) {
        word = random();
        if (random() % 2) word >>= random() % 64;
        if (random() % 8 == 0) word = m.base(u32(random() % 6)) + random() % 8192;
      }
      const i32 message = random() % 16 ? i32(random() % 8) : i32(random());
      size_t bytes[] = {192, 0, 12, 12, 24, 24, 0, 0};
      size_t n = random() % 16 ? bytes[u32(message) % 8] : random() % 193;
      if (message == CONFIG_READ || message == CONFIG_WRITE)
        body[1] = 1u << random() % 3, body[0] = (body[0] & 255) | random() << 32;
      if (message == BAR_READ || message == BAR_WRITE) body[2] = u64(1) << random() % 4 | u64(1) << 32;
      std::vector<int> files;
      for (u64 f = random() % 4 ? 0 : random() % 20; f; f--) files.push_back(m.ram_file);
      there = m.send(message, body, n, files, random() % 64 ? ~u64(0) : random() >> random() % 64);
      u8 drop[4096];
      while (recv(m.wire, drop, sizeof drop, MSG_DONTWAIT) > 0) {}
    }
    if (round % 3 == 0) m.send(CONFIG_READ, nullptr, 0, {}, 12);  // and it ends in the middle of one
  }
  Machine m;
  m.start();
  EXPECT_NE(m.config(PCI_VENDOR_ID, 4), ~u32(0));
}

}  // namespace
}  // namespace ingot
