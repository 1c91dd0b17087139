// SPDX-License-Identifier: MIT
// The debug socket against clients that lie, stall and go away, and the lock that lets a tool look at a chip whose
// owner waits for it.
#include <gmock/gmock.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <random>
#include <thread>
#include "tests/tools/job.h"
#include "tools/inspect/inspect.h"

namespace ingot {
namespace {
using testing::HasSubstr;
using Request = Inspect::Request;

struct FakeChip final : Inspect {  // counts, and answers as many bytes as were asked for
  int writes = 0, asked = 0;
  std::string reply(const Request& r) override {
    asked++;
    EXPECT_LT(r.what, u32(what_count));
    EXPECT_LE(r.bytes, r.most_bytes);
    EXPECT_LE(r.yes, 1u);
    writes += r.what == WRITE_REGISTER;
    if (r.what == STATE) throw Error("no state");
    return std::string(r.bytes, 'x');
  }
};
std::string bytes_of(const Request& r) { return std::string(reinterpret_cast<const char*>(&r), sizeof r); }
std::string served(FakeChip& chip, const Request& r, bool may_write, bool& failed) {
  std::string in = bytes_of(r), out = serve_request(chip, in, may_write);
  EXPECT_EQ(in, "");
  Inspect::Header h;
  EXPECT_GE(out.size(), sizeof h);
  std::memcpy(&h, out.data(), sizeof h);
  EXPECT_EQ(out.size(), sizeof h + h.bytes);
  failed = h.failed;
  return out.substr(sizeof h);
}

TEST(requests, what_makes_no_sense_is_refused_by_value) {
  FakeChip chip;
  bool failed = false;
  auto refused = [&](Request r, bool may_write = true) {
    std::string text = served(chip, r, may_write, failed);
    EXPECT_TRUE(failed) << text;
    return text;
  };
  EXPECT_THAT(refused({.what = 99}), HasSubstr("request 99 is not known; 0 to 6 are"));
  EXPECT_THAT(refused({.what = Inspect::VRAM, .bytes = 0}), HasSubstr("1 to 1048576 can be"));
  EXPECT_THAT(refused({.what = Inspect::VRAM, .bytes = ~u32(0)}), HasSubstr("4294967295 bytes"));
  EXPECT_THAT(refused({.what = Inspect::REGISTER, .bytes = 4}), HasSubstr("0 can be"));
  EXPECT_THAT(refused({.what = Inspect::WAVE, .bytes = 6}), HasSubstr("are not dwords"));
  EXPECT_THAT(refused({.what = Inspect::WRITE_REGISTER}), HasSubstr("needs --yes"));
  EXPECT_THAT(refused({.what = Inspect::WRITE_REGISTER, .yes = 1}, false), HasSubstr("only the user"));
  EXPECT_THAT(refused({.what = Inspect::WRITE_REGISTER, .yes = 7}), HasSubstr("not 0 or 1"));
  EXPECT_EQ(chip.asked, 0);
  EXPECT_EQ(refused({.what = Inspect::STATE}), "no state");
  EXPECT_EQ(chip.asked, 1);
  served(chip, {.what = Inspect::WRITE_REGISTER, .yes = 1}, true, failed);
  EXPECT_FALSE(failed);
  EXPECT_EQ(chip.writes, 1);
}
TEST(requests, random_bytes_give_whole_replies) {
  FakeChip chip;
  std::mt19937_64 random(1);
  for (int round = 0; round < 20'000; round++) {
    Request r;
    u64 words[sizeof r / 8];
    for (u64& w : words) w = random() & random() & (random() % 2 ? ~u64(0) : u64(15));
    std::memcpy(&r, words, sizeof r);
    if (random() % 2) r.what %= 8, r.bytes %= 4096;
    bool failed = false, may_write = random() % 2;
    int writes = chip.writes;
    served(chip, r, may_write, failed);
    EXPECT_TRUE(chip.writes == writes || (may_write && r.yes == 1));
    std::string part = bytes_of(r).substr(0, random() % sizeof r), kept = part;
    EXPECT_EQ(serve_request(chip, part, true), "");
    EXPECT_EQ(part, kept);
  }
  EXPECT_GT(chip.asked, 1000);
}

struct Folder {  // for the sockets of a test
  std::string path = testing::TempDir() + "ingot_socket_XXXXXX";
  Folder() {
    if (!::mkdtemp(path.data())) throw OsError("mkdtemp", errno);
    ::setenv("XDG_RUNTIME_DIR", path.c_str(), 1);
  }
  ~Folder() { ::rmdir((path + "/ingot").c_str()), ::rmdir(path.c_str()); }
};
int client_of(const std::string& path) {
  sockaddr_un a{.sun_family = AF_UNIX, .sun_path = {}};
  path.copy(a.sun_path, sizeof a.sun_path - 1);
  int file = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  EXPECT_EQ(::connect(file, reinterpret_cast<sockaddr*>(&a), sizeof a), 0) << strerror(errno);
  return file;
}

TEST(sockets, clients_that_stall_or_vanish_cost_only_themselves) {
  Folder folder;
  FakeChip chip;
  {
    DebugSocket socket(chip, "fake");
    struct stat s;
    ASSERT_EQ(::stat((folder.path + "/ingot").c_str(), &s), 0);
    EXPECT_EQ(s.st_mode & 0777, 0700u);
    int half = client_of(socket.path), deaf = client_of(socket.path), gone = client_of(socket.path);
    std::string request = bytes_of({.what = Inspect::VRAM, .bytes = Request::most_bytes});
    EXPECT_EQ(::send(half, request.data(), 7, 0), 7);
    for (int i = 0; i < 200; i++)  // 200 MiB wanted, and never read
      if (::send(deaf, request.data(), request.size(), MSG_DONTWAIT) < 0) break;
    ::send(gone, request.data(), request.size(), 0);
    ::close(gone);
    std::unique_ptr<Inspect> good = connect({socket.path, 0, ""});
    for (int i = 0; i < 50; i++) EXPECT_EQ(good->reply({.what = Inspect::VRAM, .bytes = 100}).size(), 100u);
    EXPECT_EQ(good->reply({.what = Inspect::VRAM, .bytes = Request::most_bytes}).size(), Request::most_bytes);
    EXPECT_THROW(good->reply({.what = Inspect::STATE}), Error);
    std::vector<int> crowd;  // more than it serves: some are turned away, the others stay
    for (int i = 0; i < 40; i++) crowd.push_back(client_of(socket.path));
    EXPECT_EQ(good->reply({.what = Inspect::HOST, .bytes = 10}).size(), 10u);
    for (int file : crowd) ::close(file);
    ::close(half), ::close(deaf);
    EXPECT_LT(chip.asked, 100);
  }
  EXPECT_TRUE(running_processes().empty()) << "the socket goes with its server";
}
TEST(sockets, what_a_dead_process_left_is_removed) {
  Folder folder;
  FakeChip chip;
  std::string path = runtime_folder() + "/123456-dead";
  sockaddr_un a{.sun_family = AF_UNIX, .sun_path = {}};
  path.copy(a.sun_path, sizeof a.sun_path - 1);
  int file = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ASSERT_EQ(::bind(file, reinterpret_cast<sockaddr*>(&a), sizeof a), 0);
  ::close(file);
  EXPECT_TRUE(file_exists(path));
  EXPECT_TRUE(running_processes().empty());
  EXPECT_FALSE(file_exists(path));
}
TEST(sockets, a_folder_of_somebody_else_is_not_used) {
  Folder folder;
  ASSERT_EQ(::mkdir((folder.path + "/ingot").c_str(), 0777), 0);
  ASSERT_EQ(::chmod((folder.path + "/ingot").c_str(), 0777), 0);
  EXPECT_THROW(runtime_folder(), Error);
  ASSERT_EQ(::rmdir((folder.path + "/ingot").c_str()), 0);
  ASSERT_EQ(::symlink("/tmp", (folder.path + "/ingot").c_str()), 0);
  EXPECT_THROW(runtime_folder(), Error);
  ::unlink((folder.path + "/ingot").c_str());
}

// A bus on which waiting takes a while in the real world too.
class SlowBus final : public hw::Bus {
 public:
  explicit SlowBus(std::unique_ptr<hw::Bus> b) : bus(std::move(b)) {}
  std::unique_ptr<hw::Bus> bus;
  std::string name() const override { return bus->name(); }
  u32 config_read(u32 o, int n) override { return bus->config_read(o, n); }
  void config_write(u32 o, u32 v, int n) override { bus->config_write(o, v, n); }
  hw::Bar bar(int i) override { return bus->bar(i); }
  u32 read32(int b, u64 o) override { return bus->read32(b, o); }
  void write32(int b, u64 o, u32 v) override { bus->write32(b, o, v); }
  void write64(int b, u64 o, u64 v) override { bus->write64(b, o, v); }
  void copy_from(int b, u64 o, void* t, i64 n) override { bus->copy_from(b, o, t, n); }
  void copy_to(int b, u64 o, const void* f, i64 n) override { bus->copy_to(b, o, f, n); }
  void flush_writes() override { bus->flush_writes(); }
  hw::DmaMemory dma_alloc(i64 n, bool c) override { return bus->dma_alloc(n, c); }
  void dma_free(hw::DmaMemory& m) override { bus->dma_free(m); }
  u64 wait_interrupt(i64 d) override { return bus->wait_interrupt(d); }
  i64 now_ns() override { return bus->now_ns(); }
  void wait_ns(i64 n) override { ::usleep(300), bus->wait_ns(n); }
  bool reset(hw::Reset k) override { return bus->reset(k); }
};

TEST(gate, a_tool_looks_while_the_owner_waits_for_a_hang) {
  Busy busy(
      [](std::unique_ptr<hw::Bus> b) -> std::unique_ptr<hw::Bus> { return std::make_unique<SlowBus>(std::move(b)); });
  busy.launch(*busy.loop);
  std::atomic<bool> waits = false, ended = false;
  std::string report;
  std::thread owner([&] {
    waits = true;
    try {
      busy.device->wait();
    } catch (const DeviceError& e) {
      report = e.state;
    }
    ended = true;
  });
  while (!waits) std::this_thread::yield();
  int looks = 0, saw_spinning = 0;
  while (!ended) {
    Json state = Json::parse(busy.device->inspect()->reply({.what = Inspect::STATE}));
    if (!ended) looks++, saw_spinning += !state["running"].empty() && state["running"][0] == "spins";
    ::usleep(1000);
  }
  owner.join();
  EXPECT_GT(looks, 5);
  EXPECT_GT(saw_spinning, 5) << "of " << looks;
  EXPECT_THAT(report, HasSubstr("spins"));
  busy.launch(*busy.store);  // and the chip goes on
  busy.device->wait();
  busy.chip->objections.clear();
}

}  // namespace
}  // namespace ingot
