// SPDX-License-Identifier: MIT
// The debug socket. A request has one size and its fields are checked here, so that whoever answers sees only requests
// that make sense; a reply is a length and bytes. Nothing waits for a client: its file does not block, and it is read
// again only when it has taken the last reply. The lock of the chip is held while a reply is made, never while it is
// sent.
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <algorithm>
#include <cerrno>
#include "userspace/device/device.h"

namespace ingot {
namespace {

constexpr size_t most_clients = 16;

void check_request(const Inspect::Request& r, bool may_write) {
  using I = Inspect;
  if (r.what >= I::what_count) throw Error("request ", r.what, " is not known; 0 to ", I::what_count - 1, " are");
  bool sized = r.what == I::WAVE || r.what == I::VRAM || r.what == I::HOST;
  if (sized ? !r.bytes || r.bytes > r.most_bytes : r.bytes != 0)
    throw Error(r.bytes, " bytes asked for; ", sized ? str("1 to ", r.most_bytes) : "0", " can be");
  if (r.what == I::WAVE && r.bytes % 4) throw Error(r.bytes, " bytes of a wave's registers are not dwords");
  if (r.yes > 1) throw Error("the flag that allows writing is ", r.yes, ", not 0 or 1");
  if (r.what == I::WRITE_REGISTER && !may_write) throw Error("only the user whose process owns the chip may write");
  if (r.what == I::WRITE_REGISTER && !r.yes) throw Error("writing a register needs --yes");
}

}  // namespace

std::string serve_request(Inspect& chip, std::string& received, bool may_write) {
  Inspect::Request request;
  if (received.size() < sizeof request) return "";
  std::memcpy(&request, received.data(), sizeof request);
  received.erase(0, sizeof request);
  Inspect::Header header;
  std::string body;
  try {  // the place where a tool's error ends is the tool
    check_request(request, may_write);
    body = chip.reply(request);
  } catch (const std::exception& e) {
    header.failed = 1, body = e.what();
  }
  header.bytes = u32(body.size());
  return std::string(reinterpret_cast<const char*>(&header), sizeof header) + body;
}

void Gate::pass() {
  if (!waiting_) return;
  chip_.unlock();
  while (waiting_) std::this_thread::yield();  // until they have the lock: a mutex alone would not let them in
  chip_.lock();
}

DebugSocket::DebugSocket(Inspect& chip, std::string_view name)
    : path(str(runtime_folder(), "/", ::getpid(), "-", name)), chip_(chip) {
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
  if (path.size() >= sizeof address.sun_path) throw Error(path, " is too long for a socket's name");
  path.copy(address.sun_path, path.size());
  ::unlink(path.c_str());  // of a process that had our number
  listener_ = ::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  bool made = listener_ >= 0 && !::bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address) &&
              !::listen(listener_, int(most_clients)) && !::pipe2(stop_, O_CLOEXEC);
  if (!made) throw OsError("cannot make the debug socket " + path, errno);
  thread_ = std::thread([this] { serve(); });
}
DebugSocket::~DebugSocket() {
  ::close(stop_[1]);
  thread_.join();
  for (const Client& c : clients_) ::close(c.file);
  ::close(listener_), ::close(stop_[0]);
  ::unlink(path.c_str());
}

void DebugSocket::accept() {
  int file = ::accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (file < 0) return;
  ucred peer{};
  socklen_t size = sizeof peer;
  bool known = !::getsockopt(file, SOL_SOCKET, SO_PEERCRED, &peer, &size);
  if (!known || (peer.uid != ::geteuid() && peer.uid != 0) || clients_.size() >= most_clients)
    ::close(file);
  else
    clients_.push_back({file, peer.uid == ::geteuid(), "", ""});
}

bool DebugSocket::exchange(Client& c, short events) {  // false: it is gone
  if (events & POLLIN) {
    char bytes[sizeof(Inspect::Request)];
    ssize_t n = ::recv(c.file, bytes, sizeof bytes - c.in.size(), 0);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) return false;
    c.in.append(bytes, size_t(std::max<ssize_t>(n, 0)));
    c.out = serve_request(chip_, c.in, c.may_write);
  } else if (!(events & POLLOUT)) {
    return false;
  }
  while (!c.out.empty()) {
    ssize_t n = ::send(c.file, c.out.data(), c.out.size(), MSG_NOSIGNAL);
    if (n < 0) return errno == EAGAIN || errno == EINTR;
    c.out.erase(0, size_t(n));
  }
  return true;
}

void DebugSocket::serve() {
  for (std::vector<pollfd> files;; files.clear()) {
    files = {{stop_[0], POLLIN, 0}, {listener_, POLLIN, 0}};
    for (const Client& c : clients_) files.push_back({c.file, short(c.out.empty() ? POLLIN : POLLOUT), 0});
    if (::poll(files.data(), files.size(), -1) < 0 && errno != EINTR) return;
    if (files[0].revents) return;
    for (size_t i = clients_.size(); i-- > 0;)
      if (files[i + 2].revents && !exchange(clients_[i], files[i + 2].revents)) {
        ::close(clients_[i].file);
        clients_.erase(clients_.begin() + i64(i));
      }
    if (files[1].revents) accept();
  }
}

}  // namespace ingot
