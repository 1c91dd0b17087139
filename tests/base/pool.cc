// SPDX-License-Identifier: MIT
// The pool of threads: every item once, on any number of threads, with exceptions, nesting, rival callers, and after a
// fork.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <array>
#include <set>
#include <thread>
#include "userspace/base/base.h"

namespace ingot {
namespace {

TEST(pool, every_item_once) {
  for (int threads : {1, 2, 5})
    for (i64 n : {0, 1, 2, 3, 100, 10'000}) {
      Scoped s(ctx.THREADS, threads);
      std::vector<std::atomic<int>> hits(static_cast<size_t>(n));
      parallel(n, [&](i64 i) { hits[size_t(i)]++; });
      for (auto& h : hits) ASSERT_EQ(h, 1);
    }
}
// Jobs of changing size follow each other closely: a worker that wakes late for one must not take an item of the next.
TEST(pool, every_item_once_in_a_train_of_jobs_that_grow_and_shrink) {
  Scoped s(ctx.THREADS, 4);
  std::array<std::atomic<int>, 16> runs{};
  for (int job = 0; job < 100'000; job++) {
    i64 n = 2 + (job * 7) % 15;
    parallel(n, [&](i64 i) { runs[size_t(i)]++; });
    for (i64 i = 0; i < 16; i++) ASSERT_EQ(runs[size_t(i)].exchange(0), i < n) << "job " << job << " item " << i;
  }
}

TEST(pool, items_see_what_was_written_before_and_we_see_their_writes) {
  Scoped s(ctx.THREADS, 4);
  std::vector<i64> data(64), sums(64);
  for (int round = 0; round < 2000; round++) {
    for (i64& d : data) d += round;
    parallel(64, [&](i64 i) { sums[size_t(i)] = data[size_t(i)] + i; });
    for (size_t i = 0; i < 64; i++) ASSERT_EQ(sums[i], data[i] + i64(i));
  }
}
TEST(pool, uses_several_threads_and_they_inherit_variables) {
  Scoped s(ctx.THREADS, 3);
  Scoped d(ctx.OPT, 42);
  std::mutex mutex;
  std::set<std::thread::id> ids;
  std::atomic<int> wrong{0}, waiting{0};
  i64 deadline = now_ns() + 5'000'000'000;
  parallel(3, [&](i64) {
    waiting++;
    while (waiting < 3 && now_ns() < deadline) std::this_thread::yield();  // all three at once
    wrong += ctx.OPT != 42;
    std::lock_guard lock(mutex);
    ids.insert(std::this_thread::get_id());
  });
  EXPECT_EQ(ids.size(), 3u);
  EXPECT_EQ(wrong, 0);
}
TEST(pool, THREADS_bounds_the_width) {
  {
    Scoped s(ctx.THREADS, 6);  // start many
    parallel(100, [](i64) {});
  }
  Scoped s(ctx.THREADS, 2);
  std::atomic<int> now{0}, most{0};
  parallel(200, [&](i64) {
    int n = ++now;
    for (int m = most; m < n && !most.compare_exchange_weak(m, n);) {}
    std::this_thread::yield();
    now--;
  });
  EXPECT_LE(most, 2);
}
TEST(pool, first_exception_comes_back_and_the_pool_goes_on) {
  Scoped s(ctx.THREADS, 4);
  for (int round = 0; round < 100; round++) {
    try {
      parallel(50, [&](i64 i) {
        if (i % 7 == 3) throw Error("item ", i);
      });
      FAIL();
    } catch (const Error& e) {
      EXPECT_EQ(std::string(e.what()).substr(0, 5), "item ");
    }
    std::atomic<int> count{0};
    parallel(50, [&](i64) { count++; });
    ASSERT_EQ(count, 50);
  }
}
TEST(pool, nested_calls_stay_on_their_thread) {
  Scoped s(ctx.THREADS, 4);
  std::atomic<int> count{0}, strangers{0};
  parallel(8, [&](i64) {
    auto me = std::this_thread::get_id();
    parallel(8, [&](i64) { count++, strangers += std::this_thread::get_id() != me; });
  });
  EXPECT_EQ(count, 64);
  EXPECT_EQ(strangers, 0);
}
TEST(pool, rival_callers_all_finish) {
  std::atomic<i64> count{0};
  std::vector<std::thread> callers;
  for (int t = 0; t < 3; t++)
    callers.emplace_back([&] {
      Scoped s(ctx.THREADS, 3);
      for (int round = 0; round < 300; round++) parallel(10, [&](i64) { count++; });
    });
  for (std::thread& t : callers) t.join();
  EXPECT_EQ(count, 3 * 300 * 10);
}
TEST(pool, sleeps_when_idle) {
  Scoped s(ctx.THREADS, 4);
  parallel(100, [](i64) {});
  usleep(20'000);  // past the spinning
  timespec a, b;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
  usleep(200'000);
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
  i64 used_ns = (b.tv_sec - a.tv_sec) * 1'000'000'000 + b.tv_nsec - a.tv_nsec;
  EXPECT_LT(used_ns, 50'000'000);
}
#if !defined(__SANITIZE_THREAD__)
TEST(pool, works_in_a_forked_child) {
  Scoped s(ctx.THREADS, 3);
  parallel(10, [](i64) {});
  pid_t child = fork();
  if (!child) {
    alarm(10);
    std::atomic<int> count{0};
    for (int round = 0; round < 100; round++) parallel(10, [&](i64) { count++; });
    _exit(count == 1000 ? 0 : 1);
  }
  int status = -1;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
}
#endif

}  // namespace
}  // namespace ingot
