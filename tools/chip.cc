// SPDX-License-Identifier: MIT
// `ingot chip --serve SOCKET`: a model of a chip that outlives the processes that use it, as a card does: what one
// leaves in it, in order or not, the next one finds. Each user has a bus of its own, which goes with its connection:
// a process that dies loses its memory for DMA, and what the chip still does there goes nowhere. Only this user may
// connect. What comes over the socket is checked like any other input: sizes, alignment, windows, handles.
#include "tools/chip.h"

#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdio>

#include "compiler/runtime/runtime.h"
#include "tools/tools.h"
#include "userspace/model/model.h"

namespace ingot {
namespace {

using namespace model;
volatile sig_atomic_t stopped = 0, unplugged = 0;
void until_stopped() {
  struct sigaction stop {
  }, unplug{};
  stop.sa_handler = [](int) { stopped = 1; }, unplug.sa_handler = [](int) { unplugged = 1; };
  stopped = 0;
  unplugged = 0;
  for (int signal : {SIGINT, SIGTERM}) sigaction(signal, &stop, nullptr);
  sigaction(SIGUSR1, &unplug, nullptr);
}

constexpr i64 most_dma_bytes = i64(1) << 30, most_dma_total = i64(8) << 30;  // of one allocation, of a user
constexpr u64 most_wait_ns = 1'000'000'000'000;

struct User {
  int socket;
  pid_t process;
  ModelBus bus;
  struct Memory {
    hw::DmaMemory dma;
    int file;
  };
  std::map<u64, Memory> memory;
  i64 total = 0;
  User(Chip& chip, int s, pid_t p, const std::string& path)
      : socket(s), process(p), bus(chip, "model at " + path, true) {}
  ~User() { close(socket); }

  // The answer's data; Error: refused.
  std::vector<u8> answer(const wire::Request& q, std::span<const u8> data, wire::Reply& reply, int& file) {
    auto must = [&](bool ok, const char* what) {
      if (!ok) throw Error("request ", q.op, ", ", q.bytes, " bytes at ", hex(q.offset), " of BAR ", q.bar, ": ", what);
    };
    auto bytes_of = [](const auto& v) {
      const u8* p = reinterpret_cast<const u8*>(&v);
      return std::vector<u8>(p, p + sizeof v);
    };
    must(q.bar >= 0 && q.bar < 6, "there are BARs 0 to 5");
    must(q.op == wire::COPY_TO ? i64(data.size()) == q.bytes : data.empty(), "it has another length");
    switch (q.op) {
      case wire::CONFIG_READ:
      case wire::CONFIG_WRITE:
        must((q.bytes == 1 || q.bytes == 2 || q.bytes == 4) && q.offset % u64(q.bytes) == 0 && q.offset < 4096,
             "1, 2 or 4 aligned bytes of configuration space");
        if (q.op == wire::CONFIG_READ)
          reply.value = bus.config_read(u32(q.offset), int(q.bytes));
        else
          bus.config_write(u32(q.offset), u32(q.value), int(q.bytes));
        return {};
      case wire::BAR: return bytes_of(bus.bar(q.bar));
      case wire::READ32:
      case wire::WRITE32:
        must(q.offset % 4 == 0, "registers are aligned dwords");
        if (q.op == wire::READ32)
          reply.value = bus.read32(q.bar, q.offset);
        else
          bus.write32(q.bar, q.offset, u32(q.value));
        return {};
      case wire::WRITE64:
        must(q.offset % 8 == 0, "doorbells are aligned");
        bus.write64(q.bar, q.offset, q.value);
        return {};
      case wire::COPY_FROM: {
        must(q.bytes >= 0 && q.bytes <= wire::most_data, "more than a message holds");
        std::vector<u8> out(static_cast<size_t>(q.bytes));
        bus.copy_from(q.bar, q.offset, out.data(), q.bytes);
        return out;
      }
      case wire::COPY_TO: bus.copy_to(q.bar, q.offset, data.data(), q.bytes); return {};
      case wire::DMA_ALLOC: {
        must(q.bytes > 0 && q.bytes <= most_dma_bytes && total + q.bytes <= most_dma_total, "too much memory for DMA");
        hw::DmaMemory m = bus.dma_alloc(q.bytes, q.value & 1);
        total += m.bytes, file = bus.dma_file(m.handle);
        wire::Dma d{m.handle, m.bytes, m.page_bytes};
        memory[m.handle] = {std::move(m), file};
        return bytes_of(d);
      }
      case wire::DMA_PAGES: {
        auto m = memory.find(q.value);
        must(m != memory.end() && q.offset < m->second.dma.bus.size(), "no such memory");
        std::span<const u64> all = std::span(m->second.dma.bus).subspan(q.offset);
        all = all.first(std::min(all.size(), size_t(wire::most_data / 8)));
        const u8* p = reinterpret_cast<const u8*>(all.data());
        return {p, p + all.size_bytes()};
      }
      case wire::DMA_FREE: {
        auto m = memory.find(q.value);
        must(m != memory.end(), "no such memory");
        total -= m->second.dma.bytes;
        bus.dma_free(m->second.dma);
        memory.erase(m);
        return {};
      }
      case wire::INTERRUPT:
        reply.value = bus.wait_interrupt(std::min(i64(q.value), bus.now_ns() + i64(most_wait_ns)));
        return {};
      case wire::WAIT:
        must(q.value <= most_wait_ns, "too long");
        bus.wait_ns(i64(q.value));
        return {};
      case wire::RESET:
        must(q.value <= u64(hw::Reset::BUS), "no such reset");
        reply.value = bus.reset(hw::Reset(q.value));
        return {};
      default: must(false, "no such request");
    }
    return {};
  }

  bool serve() {  // one request; false: the user is gone, or not one of ours
    wire::Request q;
    wire::Reply reply;
    std::vector<u8> data, out;
    int file = -1;
    if (wire::receive(socket, &q, sizeof q, data, nullptr) <= 0) return false;
    try {
      out = answer(q, data, reply, file);
    } catch (const Error& e) {
      reply.refused = 1, file = -1;
      std::string_view why = e.what();
      out.assign(why.begin(), why.begin() + i64(std::min<size_t>(why.size(), 1000)));
    }
    reply.now_ns = bus.now_ns();
    return wire::send(socket, &reply, sizeof reply, out, file);
  }
};

struct Listener {
  std::string path;
  FileLock lock;
  int socket = -1;
  Listener(const std::string& p, int kind) : path(p), lock(p + ".lock") {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path) throw Error(path, " is too long for a socket");
    std::memcpy(address.sun_path, path.data(), path.size());
    unlink(path.c_str());  // of a server that died: the lock says that there is none
    socket = ::socket(AF_UNIX, kind | SOCK_CLOEXEC, 0);
    const mode_t mask = umask(0077);
    const bool bound =
        socket >= 0 && !bind(socket, reinterpret_cast<sockaddr*>(&address), sizeof address) && !listen(socket, 8);
    umask(mask);
    if (!bound) throw OsError("cannot listen at " + path, errno);
  }
  ~Listener() {
    if (socket >= 0) close(socket);
    unlink(path.c_str());
  }
};

}  // namespace

void serve_chip(Chip& chip, const std::string& path) {
  Listener listener(path, SOCK_SEQPACKET);
  until_stopped();
  std::unique_ptr<User> user;
  while (!stopped) {
    pollfd wait[2] = {{listener.socket, POLLIN, 0}, {user ? user->socket : -1, POLLIN, 0}};
    if (poll(wait, 2, 1000) <= 0) continue;
    if (wait[1].revents && !user->serve()) {
      if (ctx.DEBUG >= 1) fprintf(stderr, "chip: process %d has left\n", int(user->process));
      user.reset();
    }
    if (!(wait[0].revents & POLLIN)) continue;
    const int socket = accept4(listener.socket, nullptr, nullptr, SOCK_CLOEXEC);
    if (socket < 0) continue;
    ucred who{};
    socklen_t size = sizeof who;
    getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &who, &size);
    std::string why;
    if (who.uid != geteuid()) why = str("served for user ", geteuid(), ", not ", who.uid);
    if (pollfd p{user ? user->socket : -1, POLLIN, 0}; poll(&p, 1, 0) > 0 && p.revents & POLLHUP) user.reset();
    if (user) why = str("in use by process ", user->process);
    const wire::Reply greeting{.refused = !why.empty(), .value = wire::version, .now_ns = chip.now_ns};
    wire::send(socket, &greeting, sizeof greeting, {reinterpret_cast<const u8*>(why.data()), why.size()}, -1);
    if (!why.empty()) {
      close(socket);
      continue;
    }
    if (ctx.DEBUG >= 1) fprintf(stderr, "chip: process %d\n", int(who.pid));
    const timeval patience{10, 0};  // a user that does not read its answers is none
    setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    user = std::make_unique<User>(chip, socket, who.pid, path);
  }
}

// One virtual machine after the other: for each its chip has been off.
static void serve_machines(Chip& chip, const std::string& path, const QemuOptions& options) {
  Listener listener(path, SOCK_STREAM);
  until_stopped();
  printf("%s\nwaiting for QEMU at %s\n", chip.state().c_str(), path.c_str());
  fflush(stdout);
  for (bool first = true; !stopped; first = false) {
    const int socket = accept4(listener.socket, nullptr, nullptr, SOCK_CLOEXEC);
    if (socket < 0) continue;
    unplugged = 0;
    if (!first) chip.plug_in();
    const std::string report = serve_qemu(chip, socket, options, stopped, &unplugged);
    fprintf(stderr, "chip: %s\n", report.c_str());
  }
}

int chip_main(Arguments args) {
  Options o("ingot chip", args);
  const std::string path = o.value("serve", "", "keep the chip alive at this socket, for MODEL_SOCKET");
  const std::string qemu =
      o.value("qemu", "", "be a PCI device at this socket, for QEMU's x-pci-proxy-dev (tests/lab)");
  const std::string device = o.value("device", "AMD", "which chip: AMD or AMD::gfx1201");
  QemuOptions q;
  q.qtest = o.value("qtest", "", "--qemu: socket of QEMU's -qtest, for interrupts and the IOMMU");
  q.iommu = o.flag("iommu", "--qemu: the machine has an intel-iommu");
  const std::string at = o.value("at", "1:0", "--qemu: bus:device where the guest sees the chip");
  const std::string vram = o.value("vram", "", "--qemu: a file that is the VRAM, as large as it shall be");
  q.aperture_slot = int(o.number("aperture", -1, "--qemu: device on bus 0 of the ivshmem-plain that maps --vram"));
  o.rest("", "Runs a model of a chip that outlives the processes or machines that drive it, until Ctrl-C.", 0, 0);
  if (path.empty() == qemu.empty()) throw UsageError("ingot chip: either --serve SOCKET or --qemu SOCKET says where");
  const DeviceName name = parse_device_name(device);
  if (name.name != "AMD") throw UsageError("ingot chip: --device ", device, ": there are models of AMD");
  if (sscanf(at.c_str(), "%d:%d", &q.bus, &q.function) != 2 || q.bus < 0 || q.bus > 255 || q.function < 0 ||
      q.function > 31)
    throw UsageError("ingot chip: --at ", at, " is not BUS:DEVICE, as in 1:0");
  if (q.aperture_slot >= 0 && (q.aperture_slot > 31 || vram.empty() || q.qtest.empty()))
    throw UsageError("ingot chip: --aperture 0 to 31 needs --vram FILE and --qtest SOCKET");
  q.function *= 8;
  struct stat file {};
  if (!vram.empty() &&
      (stat(vram.c_str(), &file) || file.st_size < i64(256) << 20 || !std::has_single_bit(u64(file.st_size))))
    throw UsageError("ingot chip: --vram ", vram, " is no file of a power of two, of at least 256 MiB");
  if (!qemu.empty()) {
    Chip& chip = make_model(name, 256, vram);
    serve_machines(chip, qemu, q);
    return 0;
  }
  Chip& chip = make_model(name);
  printf("%s\nto use it: MODEL_SOCKET=%s DEV=MODEL+AMD ingot ...\n", chip.state().c_str(), path.c_str());
  fflush(stdout);
  serve_chip(chip, path);
  return 0;
}

}  // namespace ingot
