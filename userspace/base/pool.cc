// SPDX-License-Identifier: MIT
// The pool of threads behind parallel().
//
// One job at a time. Its state is one word, `ticket`: the job's number in the high half, the items not yet taken in the
// low half. Taking an item is a compare-and-swap on that word alone, so a worker that wakes late sees another number,
// or none left, and touches nothing: the caller never waits for a sleeping worker, only for items that somebody has
// taken. After a job a worker spins for some microseconds (steps are trains of short kernels), then sleeps on the
// ticket. Threads start with the first job that can use them, and are never joined: a process may exit, or fork, while
// they sleep.
#include <sched.h>
#include <time.h>
#include <algorithm>
#include <mutex>
#include <thread>
#include "userspace/base/base.h"

namespace ingot {
namespace {

constexpr i64 spin_ns = 20'000;
constexpr u64 left_mask = 0xFFFFFFFF;

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

thread_local bool inside_job = false;  // this thread runs an item now: a nested parallel() stays on it

struct Pool {
  std::mutex busy;                 // held by the thread whose job runs
  std::atomic<u64> ticket{0};      // job number << 32 | items not yet taken
  std::atomic<u32> wake{0};        // changes with each job: what sleeping workers wait on
  std::atomic<u32> unfinished{0};  // items of the job that are not done
  std::atomic<bool> caller_sleeps{false};
  // The job; written before its ticket is published, valid while an item of it is taken and not finished.
  std::atomic<const std::function<void(i64)>*> function{nullptr};
  std::atomic<u32> items{0};
  std::atomic<int> width{1};
  Context context;
  std::atomic<bool> failed{false};
  std::mutex exception_mutex;
  std::exception_ptr exception;
  int threads = 0;  // started, under `busy`

  // Takes items of job `number` until none is left. `inherit`: copy the job's variables with the first item.
  void work(u32 number, bool inherit) {
    for (u64 t = ticket.load(std::memory_order_acquire);;) {
      if (u32(t >> 32) != number || !(t & left_mask)) return;
      if (!ticket.compare_exchange_weak(t, t - 1, std::memory_order_acq_rel)) continue;
      u32 item = items.load(std::memory_order_relaxed) - u32(t & left_mask);
      if (std::exchange(inherit, false)) ctx = context;
      if (!failed.load(std::memory_order_relaxed)) {
        inside_job = true;
        try {
          (*function.load(std::memory_order_relaxed))(i64(item));
        } catch (...) {
          std::lock_guard lock(exception_mutex);
          if (!failed.exchange(true)) exception = std::current_exception();
        }
        inside_job = false;
      }
      if (unfinished.fetch_sub(1) == 1 && caller_sleeps.load()) unfinished.notify_all();
      t = ticket.load(std::memory_order_acquire);
    }
  }

  void worker(int id) {
    for (u32 seen = 0;;) {
      i64 deadline = 0;
      u32 now;
      for (int i = 1; (now = wake.load(std::memory_order_acquire)) == seen; i++) {
        pause();
        if (i % 64) continue;
        i64 time = now_ns();
        if (!deadline) deadline = time + spin_ns;
        if (time > deadline) wake.wait(seen, std::memory_order_acquire);
      }
      seen = now;
      if (id < width.load(std::memory_order_relaxed) - 1) work(now, true);
    }
  }

  void run(i64 n, int wide, const std::function<void(i64)>& f) {
    for (; threads < wide - 1; threads++) std::thread([this, id = threads] { worker(id); }).detach();
    function.store(&f, std::memory_order_relaxed);
    items.store(u32(n), std::memory_order_relaxed);
    width.store(wide, std::memory_order_relaxed);
    context = ctx;
    failed.store(false, std::memory_order_relaxed);
    unfinished.store(u32(n), std::memory_order_relaxed);
    u32 number = wake.load(std::memory_order_relaxed) + 1;
    ticket.store(u64(number) << 32 | u64(n), std::memory_order_release);
    wake.store(number);
    wake.notify_all();
    work(number, false);
    i64 deadline = 0;
    for (int i = 1; u32 left = unfinished.load(std::memory_order_acquire); i++) {
      pause();
      if (i % 64) continue;
      i64 time = now_ns();
      if (!deadline) deadline = time + spin_ns;
      if (time < deadline) continue;
      caller_sleeps.store(true);
      if ((left = unfinished.load())) unfinished.wait(left);
      caller_sleeps.store(false);
    }
    if (failed.load(std::memory_order_relaxed)) std::rethrow_exception(std::exchange(exception, nullptr));
  }
};

}  // namespace

i64 now_ns() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return i64(t.tv_sec) * 1'000'000'000 + t.tv_nsec;
}

int thread_count() {
  static const int cores = [] {
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) ? 1 : std::max(1, CPU_COUNT(&set));
  }();
  return ctx.THREADS > 0 ? ctx.THREADS : cores;
}

void parallel(i64 n, const std::function<void(i64)>& f) {
  static Pool* pool = new Pool;
  int wide = int(std::min<i64>(n, thread_count()));
  if (wide > 1 && !inside_job && n < i64(left_mask)) {
    if (std::unique_lock lock(pool->busy, std::try_to_lock); lock) return pool->run(n, wide, f);
  }
  for (i64 i = 0; i < n; i++) f(i);
}

}  // namespace ingot
