// SPDX-License-Identifier: MIT
// Memory, machine code and launches on the host.
//
// Memory. Blocks from 256 KiB up are mapped, advised to be huge pages, and kept when freed: a training step allocates
// the same sizes again, and a page fault costs more than writing the page. What is kept is bounded by an eighth of the
// machine's memory and dropped when an allocation fails. GUARD=1 gives every buffer its own mapping between two
// inaccessible pages, at the end and at the start in turn, filled with 0xff (NaN in every float format with NaNs, -1,
// an illegal bool); the bytes between the buffer and the far page are checked when it is freed.
//
// Code. Each kernel has pages of its own in a reserved region: inaccessible, then writable while it is copied, then
// executable. No page is ever both, and no page that holds one kernel is made writable to add another while the first
// runs. Kernels start at different cache lines of their pages, since otherwise a train of kernels would fight for one
// set of the L1 cache.
#include "userspace/cpu/cpu.h"
#include <sys/mman.h>
#include <unistd.h>
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

namespace ingot::cpu {
namespace {

constexpr i64 page = 4096, line = 64;
constexpr i64 mapped_from = 256 << 10;  // blocks of this size and more are mapped and kept
constexpr i64 huge_page = 2 << 20;
constexpr u8 guard_fill = 0xff;

i64 round_up(i64 n, i64 unit) { return (n + unit - 1) / unit * unit; }

// A size class: at most an eighth larger, so that blocks kept are found again.
i64 block_bytes(i64 bytes) {
  i64 unit = page;
  while (unit * 16 < bytes) unit *= 2;
  return round_up(bytes, bytes >= huge_page ? std::max(unit, huge_page / 8) : unit);
}

struct CodePages {  // free list of pages in reserved regions
  std::mutex mutex;
  std::multimap<i64, u8*> free;
  u8 *next = nullptr, *end = nullptr;
  i64 colour = 0;
  static constexpr i64 region_bytes = 64 << 20;  // reserved, not committed

  u8* take(i64 bytes) {
    std::lock_guard lock(mutex);
    if (auto it = free.find(bytes); it != free.end()) {
      u8* p = it->second;
      free.erase(it);
      return p;
    }
    if (end - next < bytes) {
      i64 size = std::max(region_bytes, bytes);
      void* p = mmap(nullptr, size_t(size), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (p == MAP_FAILED) throw OsError("cannot reserve pages for machine code", errno);
      next = static_cast<u8*>(p), end = next + size;
    }
    return std::exchange(next, next + bytes);
  }
  void give_back(u8* p, i64 bytes) {
    madvise(p, size_t(bytes), MADV_DONTNEED);
    mprotect(p, size_t(bytes), PROT_NONE);
    std::lock_guard lock(mutex);
    free.emplace(bytes, p);
  }
};
CodePages& code_pages() {
  static CodePages* pages = new CodePages;
  return *pages;
}

struct CpuCode final : Code {
  Entry entry = nullptr;
  u8* pages = nullptr;
  i64 bytes = 0;
  ~CpuCode() override { code_pages().give_back(pages, bytes); }
};

#if defined(__x86_64__)
constexpr unsigned default_mxcsr = 0x1f80;
struct FloatMode {  // the default float environment until the end of the block
  unsigned old = _mm_getcsr();
  FloatMode() {
    if ((old & ~0x3fu) != default_mxcsr) _mm_setcsr(default_mxcsr);
  }
  ~FloatMode() {
    if ((old & ~0x3fu) != default_mxcsr) _mm_setcsr(old);
  }
};
std::string processor_name() {
  unsigned words[12] = {};
  for (unsigned i = 0; i < 3; i++)
    if (!__get_cpuid(0x80000002 + i, &words[i * 4], &words[i * 4 + 1], &words[i * 4 + 2], &words[i * 4 + 3]))
      return "x86-64";
  std::string text(reinterpret_cast<const char*>(words), sizeof words);
  text.resize(std::min(text.find('\0'), text.size()));
  text.erase(0, text.find_first_not_of(' '));
  return text;
}
#else
struct FloatMode {};
std::string processor_name() { return "host"; }
#endif

// A thread's scratch memory for kernels: grows, and goes with the thread. Under GUARD=1 it ends at an inaccessible
// page.
struct Scratch {
  u8* data = nullptr;
  i64 bytes = 0;
  ~Scratch() { drop(); }
  void drop() {
    if (data) munmap(data, size_t(bytes + page));
    data = nullptr, bytes = 0;
  }
  void* at_least(i64 wanted) {
    if (!wanted) return nullptr;
    if (i64 size = round_up(wanted, page); size > bytes) {
      drop();
      void* p = mmap(nullptr, size_t(size + page), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (p == MAP_FAILED) throw OsError(str("cannot map ", wanted, " bytes of scratch memory"), errno);
      data = static_cast<u8*>(p), bytes = size;
      mprotect(data + bytes, size_t(page), PROT_NONE);
    }
    if (ctx.GUARD) std::memset(data, guard_fill, size_t(bytes));
    return ctx.GUARD ? data + (bytes - round_up(wanted, line)) : data;
  }
};
thread_local Scratch scratch;

class Cpu final : public Device {
 public:
  explicit Cpu(DeviceInfo info) : info_(std::move(info)) {}
  ~Cpu() override { drop_kept(); }

  const DeviceInfo& info() const override { return info_; }

  BufferRef alloc(i64 bytes) override {
    check(bytes >= 0, bytes, " bytes");
    void* p = ctx.GUARD              ? guarded(bytes)
              : bytes >= mapped_from ? mapped(bytes)
                                     : std::aligned_alloc(line, size_t(round_up(std::max<i64>(bytes, 1), line)));
    if (!p) throw DeviceError(str("out of memory: ", bytes, " bytes on ", info_.name), state());
    Buffer* b = make_buffer(*this, bytes);
    b->host = p;
    b->address = u64(p);
    b->handle = ctx.GUARD ? GUARDED : bytes >= mapped_from ? MAPPED : SMALL;
    return BufferRef(b);
  }

  void free(Buffer& b) override {
    if (b.handle == SMALL) return std::free(b.host);
    if (b.handle == GUARDED) return free_guarded(b);
    i64 size = block_bytes(b.bytes);
    {
      std::lock_guard lock(mutex_);
      if (kept_bytes_ + size <= info_.memory_bytes / 8) {
        kept_.emplace(size, b.host);
        kept_bytes_ += size;
        return;
      }
    }
    munmap(b.host, size_t(size));
  }

  void copy_in(Buffer& to, i64 offset, const void* from, i64 bytes) override {
    check(offset >= 0 && bytes >= 0 && offset + bytes <= to.bytes, offset, " + ", bytes, " of ", to.bytes);
    if (bytes) std::memcpy(static_cast<u8*>(to.host) + offset, from, size_t(bytes));
  }
  void copy_out(void* to, const Buffer& from, i64 offset, i64 bytes) override {
    check(offset >= 0 && bytes >= 0 && offset + bytes <= from.bytes, offset, " + ", bytes, " of ", from.bytes);
    if (bytes) std::memcpy(to, static_cast<const u8*>(from.host) + offset, size_t(bytes));
  }

  std::unique_ptr<Code> load(std::span<const u8> machine_code, std::string_view name, const Resources*) override {
    if (info_.isa.empty()) throw Error(info_.name, " runs no machine code; kernel ", name);
    CodePages& pages = code_pages();
    auto code = std::make_unique<CpuCode>();
    i64 size = i64(machine_code.size()), last_page = size % page ? page - size % page : 0;
    i64 colours = last_page / line;  // lines by which the start can move without another page
    static std::atomic<i64> serial{0};
    i64 shift = colours > 1 ? serial++ * 5 % colours * line : 0;
    code->bytes = std::max(page, round_up(shift + size, page));
    code->pages = pages.take(code->bytes);
    if (mprotect(code->pages, size_t(code->bytes), PROT_READ | PROT_WRITE))
      throw OsError(str("cannot make pages writable for the kernel ", name), errno);
    std::memset(code->pages, 0xcc, size_t(code->bytes));  // int3
    std::memcpy(code->pages + shift, machine_code.data(), machine_code.size());
    if (mprotect(code->pages, size_t(code->bytes), PROT_READ | PROT_EXEC))
      throw OsError(str("cannot make the kernel ", name, " executable"), errno);
    __builtin___clear_cache(reinterpret_cast<char*>(code->pages), reinterpret_cast<char*>(code->pages + code->bytes));
    code->entry = reinterpret_cast<Entry>(code->pages + shift);
    code->address = u64(code->entry);
    return code;
  }

  void run(std::span<const Launch> launches) override {
    FloatMode mode;
    for (const Launch& l : launches) {
      Entry entry = static_cast<CpuCode*>(l.code)->entry;
      if (l.pieces <= 1) {
        entry(l.params, 0, l.extent, scratch.at_least(l.local_bytes));
        continue;
      }
      parallel(l.pieces, [&l, entry](i64 i) {
        FloatMode worker_mode;
        auto bound = [&](i64 k) { return i64(static_cast<__int128>(l.extent) * k / l.pieces); };
        if (bound(i) < bound(i + 1)) entry(l.params, bound(i), bound(i + 1), scratch.at_least(l.local_bytes));
      });
    }
  }
  void wait() override {}

 private:
  enum Origin : u64 { SMALL, MAPPED, GUARDED };

  void* mapped(i64 bytes) {
    i64 size = block_bytes(bytes);
    {
      std::lock_guard lock(mutex_);
      if (auto it = kept_.find(size); it != kept_.end()) {
        void* p = it->second;
        kept_.erase(it);
        kept_bytes_ -= size;
        return p;
      }
    }
    for (bool again : {true, false}) {
      // Huge pages need an aligned start: map more, then return both ends.
      i64 extra = size >= huge_page ? huge_page : 0;
      void* p = mmap(nullptr, size_t(size + extra), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (p != MAP_FAILED) {
        if (!extra) return p;
        u8 *begin = static_cast<u8*>(p), *start = reinterpret_cast<u8*>(round_up(i64(begin), huge_page));
        if (start > begin) munmap(begin, size_t(start - begin));
        if (i64 after = begin + size + extra - (start + size)) munmap(start + size, size_t(after));
        madvise(start, size_t(size), MADV_HUGEPAGE);
        return start;
      }
      if (again) drop_kept();
    }
    return nullptr;
  }

  void drop_kept() {
    std::lock_guard lock(mutex_);
    for (auto [size, p] : kept_) munmap(p, size_t(size));
    kept_.clear();
    kept_bytes_ = 0;
  }

  void* guarded(i64 bytes) {
    i64 inside = round_up(std::max<i64>(bytes, 1), page);
    void* p = mmap(nullptr, size_t(inside + 2 * page), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return nullptr;
    u8* start = static_cast<u8*>(p) + page;
    if (mprotect(start, size_t(inside), PROT_READ | PROT_WRITE)) return munmap(p, size_t(inside + 2 * page)), nullptr;
    std::memset(start, guard_fill, size_t(inside));
    return guards_++ % 2 ? start : start + (inside - std::max<i64>(bytes, 1));
  }
  void free_guarded(Buffer& b) {
    i64 inside = round_up(std::max<i64>(b.bytes, 1), page);
    u8 *data = static_cast<u8*>(b.host), *start = reinterpret_cast<u8*>(i64(data) / page * page);
    for (u8* q = start; q < start + inside; q++)
      if ((q < data || q >= data + b.bytes) && *q != guard_fill) {
        std::fprintf(stderr, "GUARD: a kernel wrote %lld bytes %s a buffer of %lld bytes\n",
                     (long long)(q < data ? data - q : q - (data + b.bytes) + 1), q < data ? "before" : "after",
                     (long long)b.bytes);
        std::abort();
      }
    munmap(start - page, size_t(inside + 2 * page));
  }

  std::string state() {
    std::lock_guard lock(mutex_);
    return str("memory: ", info_.memory_bytes, " bytes, in use ", buffer_bytes(), ", kept for reuse ", kept_bytes_);
  }

  DeviceInfo info_;
  std::mutex mutex_;
  std::multimap<i64, void*> kept_;
  i64 kept_bytes_ = 0;
  std::atomic<u64> guards_{0};
};

DeviceInfo host_info(std::string name) {
  DeviceInfo info;
  info.name = std::move(name);
  info.threads = thread_count();
  info.memory_bytes = i64(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE);
  return info;
}

}  // namespace

std::unique_ptr<Device> open(int index, std::string_view arch) {
#if defined(__x86_64__)
  if (index) return nullptr;
  __builtin_cpu_init();
  bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c") &&
              __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
  bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                __builtin_cpu_supports("avx512cd");
  DeviceInfo info = host_info("CPU");
  std::string processor = processor_name();
  const char* has = avx512 ? "avx2 and avx512" : avx2 ? "avx2" : "neither";
  if (arch.empty()) arch = avx512 ? "avx512" : "avx2";
  if (arch != "avx2" && arch != "avx512")
    throw Error("CPU::", arch, ": no such architecture. There are avx2 and avx512; ", processor, " has ", has);
  if (arch == "avx512" ? !avx512 : !avx2) throw Error("CPU::", arch, ": ", processor, " (or its kernel) has ", has);
  info.isa = "x86";
  info.arch = arch;
  info.description = str(processor, ", ", info.threads, info.threads == 1 ? " core, " : " cores, ",
                         arch == "avx512" ? "AVX-512" : "AVX2");
  return std::make_unique<Cpu>(std::move(info));
#else
  (void)index, (void)arch;
  return nullptr;
#endif
}

Entry entry_of(const Code& code) { return static_cast<const CpuCode&>(code).entry; }

std::unique_ptr<Device> open_memory(int index, std::string_view arch) {
  if (index || !arch.empty()) return nullptr;
  DeviceInfo info = host_info("REF");
  info.description = "the reference evaluator: every op as its row in op.def says, one element at a time";
  info.threads = 1;
  return std::make_unique<Cpu>(std::move(info));
}

}  // namespace ingot::cpu
