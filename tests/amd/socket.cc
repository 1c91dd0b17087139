// SPDX-License-Identifier: MIT
// A chip that a process of its own keeps alive, and those that drive it: one after the other, two at once, one that is
// killed, and one that sends whatever it likes.
#ifdef CONFIG_TOOL_CHIP
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <random>
#include "tests/amd/card.h"
#include "tools/chip.h"

namespace ingot::amd {
namespace {
using testing::HasSubstr;

template <class F>
pid_t in_child(F f) {
  const pid_t child = fork();
  if (child) return child;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  int code = 1;
  try {
    code = f();
  } catch (const std::exception& e) {
    fprintf(stderr, "child: %s\n", e.what());
  }
  _exit(code);
}
int exit_code(pid_t child) {
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

struct Socket : testing::Test {
  std::string path = str(testing::TempDir(), "ingot_chip_", getpid());
  pid_t server = 0;
  void SetUp() override {
    server = in_child([&] {
      FakeShader shader;
      shader.programs[1] = [](FakeShader::Run& r) {  // c = a + b
        u64 c = r.argument(0), a = r.argument(1), b = r.argument(2);
        for (i64 i = 0; i < r.items() && r.ok; i++)
          r.store(c + u64(i) * 4, r.load<u32>(a + u64(i) * 4) + r.load<u32>(b + u64(i) * 4));
      };
      shader.programs[2] = nullptr;  // never ends
      auto chip = model::make_amd({.vram_bytes = 128 * mib, .shader = &shader});
      serve_chip(*chip, path);
      return 0;
    });
    int s;
    for (int i = 0; i < 500 && (s = raw()) < 0; i++) usleep(10'000);
    close(s);
  }
  void TearDown() override {
    kill(server, SIGTERM);
    EXPECT_EQ(exit_code(server), 0);
    EXPECT_NE(access(path.c_str(), F_OK), 0);
    unlink((path + ".lock").c_str());
  }
  std::unique_ptr<Device> open() { return amd::open(model::connect(path), stand_ins()); }
  static bool adds(Device& d) {
    std::vector<u32> x(256), z(256);
    for (u32 i = 0; i < 256; i++) x[i] = i * 7;
    BufferRef a = d.alloc(1024), c = d.alloc(1024);
    d.copy_in(*a, 0, x.data(), 1024);
    auto code = d.load(program(1, 3), "add");
    void* params[] = {reinterpret_cast<void*>(c->address), reinterpret_cast<void*>(a->address),
                      reinterpret_cast<void*>(a->address)};
    Launch l{.code = code.get(), .params = params, .groups = {8, 1, 1}, .threads = {32, 1, 1}};
    d.run({&l, 1});
    d.copy_out(z.data(), *c, 0, 1024);
    for (u32 i = 0; i < 256; i++)
      if (z[i] != i * 14) return false;
    return true;
  }
  int raw() {  // a connection that nothing has been said over
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.data(), path.size());
    int s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (!::connect(s, reinterpret_cast<sockaddr*>(&address), sizeof address)) return s;
    close(s);
    return -1;
  }
};

TEST_F(Socket, one_process_after_another) {
  auto use = [&](bool attached) {
    return in_child([=, this] {
      auto d = open();
      bool warm = d->info().description.ends_with("attached");
      return warm == attached && adds(*d) ? 0 : 2;
    });
  };
  EXPECT_EQ(exit_code(use(false)), 0);
  EXPECT_EQ(exit_code(use(true)), 0);
  EXPECT_EQ(exit_code(use(true)), 0);
}
TEST_F(Socket, only_one_at_a_time) {
  auto d = open();
  EXPECT_TRUE(adds(*d));
  try {
    model::connect(path);
    FAIL() << "two";
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr(str("in use by process ", getpid())));
  }
  EXPECT_TRUE(adds(*d));
  try {
    auto chip = model::make_amd({.vram_bytes = 128 * mib});
    serve_chip(*chip, path);
    FAIL() << "served twice";
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr(str("held by process ", server)));
  }
  d.reset();
  EXPECT_TRUE(adds(*open()));
}
TEST_F(Socket, a_killed_process_leaves_a_chip_that_the_next_one_boots) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  for (int round = 0; round < 3; round++) {
    pid_t child = in_child([&] {
      auto d = open();
      if (!adds(*d)) return 2;
      auto code = d->load(program(round % 2 ? 2 : 1, 3), "last");
      BufferRef a = d->alloc(1 << 20);
      void* params[3];
      std::fill(params, params + 3, reinterpret_cast<void*>(a->address));
      Launch l{.code = code.get(), .params = params, .groups = {1000, 1, 1}, .threads = {32, 1, 1}};
      std::vector<Launch> list(20, l);
      d->run(list);
      if (write(ends[1], "x", 1) != 1) return 3;
      for (;;) d->copy_in(*a, 0, params, 8);  // while it works
    });
    char x;
    ASSERT_EQ(read(ends[0], &x, 1), 1);
    kill(child, SIGKILL);
    EXPECT_EQ(exit_code(child), -SIGKILL);
    auto d = open();
    EXPECT_THAT(d->info().description, testing::Not(HasSubstr("attached")));
    EXPECT_TRUE(adds(*d));
  }
  close(ends[0]), close(ends[1]);
}
TEST_F(Socket, a_server_that_dies_is_a_card_that_left) {
  auto d = open();
  EXPECT_TRUE(adds(*d));
  kill(server, SIGKILL);
  EXPECT_EQ(exit_code(server), -SIGKILL);
  EXPECT_THROW(adds(*d), Error);
  d.reset();
  EXPECT_THROW(open(), OsError);
  SetUp();
  EXPECT_TRUE(adds(*open()));
}
TEST_F(Socket, whatever_it_is_sent_the_server_goes_on) {
  std::mt19937 random(11);
  auto some = [&]() -> u64 {
    static constexpr u64 interesting[] = {0, 1, 2, 3, 4, 8, 4095, 4096, 1 << 20, u64(1) << 31, u64(1) << 40, ~u64(0)};
    return random() % 3 ? interesting[random() % std::size(interesting)] : u64(random()) << random() % 33;
  };
  for (int round = 0; round < 20; round++) {
    int s = raw(), answered = 0;
    model::wire::Reply greeting;
    std::vector<u8> nothing;
    ASSERT_EQ(model::wire::receive(s, &greeting, sizeof greeting, nothing, nullptr), 1);
    for (int i = 0; i < 200; i++) {
      model::wire::Request q{u32(random() % 18), i32(random() % 8) - 1, some(), some(), i64(some())};
      if (random() % 2) q.bytes = i64(random() % 40000);
      if (q.op == model::wire::WAIT || q.op == model::wire::INTERRUPT) q.value %= 1'000'000;
      std::vector<u8> data(q.op == model::wire::COPY_TO && q.bytes >= 0 && q.bytes < 32768 ? size_t(q.bytes)
                                                                                           : random() % 2 * 100);
      int file = random() % 8 ? -1 : dup(s);  // and files that nobody asked for
      bool sent = model::wire::send(s, &q, random() % 50 ? i64(sizeof q) : i64(random() % sizeof q), data, file);
      if (file >= 0) close(file);
      model::wire::Reply reply;
      int given = -1;
      if (!sent || model::wire::receive(s, &reply, sizeof reply, data, &given) <= 0) break;
      if (given >= 0) {
        EXPECT_NE(ftruncate(given, 0), 0) << "memory for DMA can be taken away from the server";
        close(given);
      }
      answered++;
    }
    EXPECT_GT(answered, 0);
    close(s);
  }
  auto bus = model::connect(path);
  EXPECT_TRUE(bus->reset(hw::Reset::FUNCTION));
  bus->wait_ns(1000 * ms);
  EXPECT_TRUE(adds(*amd::open(std::move(bus), stand_ins())));
}

}  // namespace
}  // namespace ingot::amd
#endif
