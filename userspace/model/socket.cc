// SPDX-License-Identifier: MIT
// A chip that another process keeps alive (`ingot chip --serve`), as a Bus: each access is a message over a Unix socket
// that keeps message boundaries, and its answer. Memory for DMA is the server's, sealed so that neither side can shrink
// it under the other, and mapped here. Time only passes with what this process does, so each answer brings the time.
//
// A server that dies is a card that left the bus: reads are ones, writes and interrupts go nowhere.
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "userspace/model/model.h"

namespace ingot::model {
namespace wire {

bool send(int socket, const void* head, i64 head_bytes, std::span<const u8> data, int file) {
  iovec parts[2] = {{const_cast<void*>(head), size_t(head_bytes)}, {const_cast<u8*>(data.data()), data.size()}};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr m{};
  m.msg_iov = parts, m.msg_iovlen = 2;
  if (file >= 0) {
    m.msg_control = control, m.msg_controllen = sizeof control;
    cmsghdr* c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET, c->cmsg_type = SCM_RIGHTS, c->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(c), &file, sizeof(int));
  }
  ssize_t n;
  do n = ::sendmsg(socket, &m, MSG_NOSIGNAL);
  while (n < 0 && errno == EINTR);
  return n == head_bytes + i64(data.size());
}

i64 receive(int socket, void* head, i64 head_bytes, std::vector<u8>& data, int* file) {
  data.resize(size_t(most_data));
  iovec parts[2] = {{head, size_t(head_bytes)}, {data.data(), data.size()}};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * 8)] = {};
  msghdr m{};
  m.msg_iov = parts, m.msg_iovlen = 2, m.msg_control = control, m.msg_controllen = sizeof control;
  ssize_t n;
  do n = ::recvmsg(socket, &m, MSG_CMSG_CLOEXEC);
  while (n < 0 && errno == EINTR);
  for (cmsghdr* c = n > 0 ? CMSG_FIRSTHDR(&m) : nullptr; c; c = CMSG_NXTHDR(&m, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    for (size_t at = 0; at + CMSG_LEN(0) + sizeof(int) <= c->cmsg_len; at += sizeof(int)) {
      int given;
      std::memcpy(&given, CMSG_DATA(c) + at, sizeof given);
      if (file && *file < 0)
        *file = given;
      else
        ::close(given);
    }
  }
  bool whole = n >= head_bytes && !(m.msg_flags & MSG_TRUNC);
  data.resize(whole ? size_t(n - head_bytes) : 0);
  return n <= 0 ? n : whole ? 1 : -1;
}

}  // namespace wire

namespace {

class SocketBus final : public hw::Bus {
 public:
  explicit SocketBus(const std::string& path) : name_("model at " + path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path) throw Error("MODEL_SOCKET=", path, " is too long for a socket");
    std::memcpy(address.sun_path, path.data(), path.size());
    socket_ = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (socket_ < 0 || ::connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address)) {
      int number = errno;
      if (socket_ >= 0) ::close(socket_);
      throw OsError(str("MODEL_SOCKET=", path, ": nobody serves a chip there (ingot chip --serve ", path, ")"), number);
    }
    wire::Reply greeting;
    std::vector<u8> why;
    bool greeted = wire::receive(socket_, &greeting, sizeof greeting, why, nullptr) > 0;
    if (!greeted || greeting.refused || greeting.value != wire::version) {
      ::close(socket_);
      throw Error(name_, ": ",
                  !greeted           ? std::string_view("no answer")
                  : greeting.refused ? std::string_view(reinterpret_cast<char*>(why.data()), why.size())
                                     : std::string_view("the server is of another version"));
    }
    now_ns_ = greeting.now_ns;
  }
  ~SocketBus() override {
    for (auto& [handle, m] : memory_) ::munmap(m.first, size_t(m.second));
    if (socket_ >= 0) ::close(socket_);
  }
  std::string name() const override { return name_; }
  u32 config_read(u32 offset, int bytes) override {
    return u32(value({.op = wire::CONFIG_READ, .offset = offset, .bytes = bytes}));
  }
  void config_write(u32 offset, u32 v, int bytes) override {
    value({.op = wire::CONFIG_WRITE, .offset = offset, .value = v, .bytes = bytes});
  }
  hw::Bar bar(int index) override {
    hw::Bar bar;
    std::vector<u8> data = ask({.op = wire::BAR, .bar = index}, {}, nullptr);
    if (data.size() == sizeof bar) std::memcpy(&bar, data.data(), sizeof bar);
    return bar;
  }
  u32 read32(int bar, u64 offset) override { return u32(value({.op = wire::READ32, .bar = bar, .offset = offset})); }
  void write32(int bar, u64 offset, u32 v) override {
    value({.op = wire::WRITE32, .bar = bar, .offset = offset, .value = v});
  }
  void write64(int bar, u64 offset, u64 v) override {
    value({.op = wire::WRITE64, .bar = bar, .offset = offset, .value = v});
  }
  void copy_from(int bar, u64 offset, void* to, i64 bytes) override {
    for (i64 at = 0; at < bytes; at += wire::most_data) {
      i64 n = std::min(wire::most_data, bytes - at);
      std::vector<u8> data =
          ask({.op = wire::COPY_FROM, .bar = bar, .offset = offset + u64(at), .bytes = n}, {}, nullptr);
      data.resize(size_t(n), u8(~0));
      std::memcpy(static_cast<u8*>(to) + at, data.data(), size_t(n));
    }
  }
  void copy_to(int bar, u64 offset, const void* from, i64 bytes) override {
    for (i64 at = 0; at < bytes; at += wire::most_data) {
      i64 n = std::min(wire::most_data, bytes - at);
      ask({.op = wire::COPY_TO, .bar = bar, .offset = offset + u64(at), .bytes = n},
          {static_cast<const u8*>(from) + at, size_t(n)}, nullptr);
    }
  }
  void flush_writes() override {}
  hw::DmaMemory dma_alloc(i64 bytes, bool contiguous) override {
    int file = -1;
    std::vector<u8> data =
        ask({.op = wire::DMA_ALLOC, .value = contiguous, .bytes = bytes}, {}, "memory for DMA", &file);
    wire::Dma d;
    void* host = MAP_FAILED;
    if (file >= 0 && data.size() == sizeof d) {
      std::memcpy(&d, data.data(), sizeof d);
      host = ::mmap(nullptr, size_t(d.bytes), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    }
    if (file >= 0) ::close(file);
    if (host == MAP_FAILED) throw OsError(str(name_, ": ", bytes, " bytes for DMA"), errno);
    memory_[d.handle] = {host, d.bytes};
    hw::DmaMemory m{static_cast<u8*>(host), d.bytes, d.page_bytes, {}, d.handle};
    for (size_t pages = size_t(std::max<i64>(1, d.bytes / d.page_bytes)); m.bus.size() < pages;) {
      data = ask({.op = wire::DMA_PAGES, .offset = m.bus.size(), .value = d.handle}, {}, "memory for DMA");
      size_t had = m.bus.size(), more = std::min(data.size() / 8, pages - had);
      if (!more) throw Error(name_, ": no bus addresses for ", bytes, " bytes");
      m.bus.resize(had + more);
      std::memcpy(&m.bus[had], data.data(), more * 8);
    }
    return m;
  }
  void dma_free(hw::DmaMemory& memory) override {
    auto m = memory_.find(memory.handle);
    check(m != memory_.end(), name_, ": DMA memory freed twice");
    value({.op = wire::DMA_FREE, .value = memory.handle});
    ::munmap(m->second.first, size_t(m->second.second));
    memory_.erase(m);
    memory = {};
  }
  u64 wait_interrupt(i64 deadline_ns) override {
    u64 n = value({.op = wire::INTERRUPT, .value = u64(deadline_ns)});
    return n == ~u64(0) ? 0 : n;
  }
  // Nothing happens without the server, but a time-out still must come.
  i64 now_ns() override { return now_ns_; }
  void wait_ns(i64 ns) override {
    i64 then = now_ns_ + ns;
    if (value({.op = wire::WAIT, .value = u64(ns)}) == ~u64(0)) now_ns_ = then;
  }
  bool reset(hw::Reset kind) override { return value({.op = wire::RESET, .value = u64(kind)}) == 1; }

 private:
  u64 value(const wire::Request& request) {
    u64 v = ~u64(0);
    ask(request, {}, nullptr, nullptr, &v);
    return v;
  }
  // what: throw if the server does not do it; nullptr: silence is an answer. The server's own refusals always throw.
  std::vector<u8> ask(const wire::Request& request, std::span<const u8> data, const char* what, int* file = nullptr,
                      u64* v = nullptr) {
    std::lock_guard lock(mutex_);
    wire::Reply reply;
    std::vector<u8> answer;
    if (socket_ >= 0 && (!wire::send(socket_, &request, sizeof request, data, -1) ||
                         wire::receive(socket_, &reply, sizeof reply, answer, file) <= 0))
      ::close(std::exchange(socket_, -1));
    if (socket_ < 0) {
      if (what) throw Error(name_, ": ", what, ": the server is gone");
      return {};
    }
    now_ns_ = reply.now_ns;
    if (reply.refused)
      throw Error(name_, ": ", std::string_view(reinterpret_cast<const char*>(answer.data()), answer.size()));
    if (v) *v = reply.value;
    return answer;
  }
  std::string name_;
  int socket_ = -1;
  i64 now_ns_ = 0;
  std::mutex mutex_;
  std::map<u64, std::pair<void*, i64>> memory_;
};

}  // namespace

std::unique_ptr<hw::Bus> connect(const std::string& path) { return std::make_unique<SocketBus>(path); }

}  // namespace ingot::model
