// SPDX-License-Identifier: MIT
// Kernels: from the cache in memory, else from disk (cache.cc), else compiled, each in an arena of its own, in
// parallel.
//
// Equal kernels are compiled once: the key hashes the structure of the graph, its parameters and the target, never a
// pointer.
#include <map>
#include <mutex>
#include "compiler/runtime/runtime.h"

namespace ingot {
namespace {

struct Addresses {  // of code on devices, for reports; a lock of its own, since a model asks while a device works
  struct Placed {
    std::string name, source;
    u64 bytes;
    std::vector<std::pair<u32, std::string>> notes;
  };
  std::mutex mutex;
  std::map<u64, Placed> programs;
};
Addresses& addresses() {
  static Addresses* a = new Addresses;
  return *a;
}

struct Kernels {
  std::mutex mutex;
  std::map<std::pair<int, u64>, std::unique_ptr<Kernel>> loaded;  // by device number and key
  std::vector<std::unique_ptr<Kernel>> retired;                   // CACHE=0: recordings may still launch them
};
Kernels& kernels() {
  static Kernels* k = new Kernels;
  return *k;
}

Program compile_one(const ScheduledKernel& k, const Target& target) {
  std::vector<Param> params;
  for (const KernelBuffer& b : k.buffers) params.push_back({b.dtype, b.elements, b.written, b.read});
  Arena arena;
  ArenaScope scope(arena);
  U sink = import(k.sink);
  Program p = compile(sink, params, k.name, target);
  p.source = k.source;
  if (ctx.DEBUG >= 3) report_compiled(p, sink);
  return p;
}

}  // namespace

u64 kernel_key(const ScheduledKernel& k, const Target& target) {
  std::vector<u64> words{structural_hash(k.sink), target.features, u64(target.threads), u64(ctx.OPT)};
  for (const KernelBuffer& b : k.buffers)
    words.insert(words.end(), {u64(b.dtype.scalar), u64(b.elements), u64(b.written) << 1 | u64(b.read)});
  words.push_back(hash_bytes(target.isa.data(), target.isa.size(), hash_bytes(target.arch.data(), target.arch.size())));
  return hash_bytes(words.data(), words.size() * 8);
}

std::vector<Kernel*> compile_all(std::span<const ScheduledKernel> list, int number) {
  i64 start = now_ns();
  Target target = target_of(number);
  struct Job {
    const ScheduledKernel* kernel;
    u64 key;
    Program program;
  };
  std::vector<Job> jobs;
  std::vector<u64> keys(list.size());
  std::vector<Kernel*> out(list.size());
  Kernels& all = kernels();
  {
    std::lock_guard lock(all.mutex);
    std::map<u64, bool> wanted;
    for (size_t i = 0; i < list.size(); i++) {
      if (!list[i].sink) continue;
      keys[i] = kernel_key(list[i], target);
      if (ctx.CACHE && all.loaded.contains({number, keys[i]}))
        counters().cache_hits++;
      else if (!std::exchange(wanted[keys[i]], true))
        jobs.push_back({&list[i], keys[i], {}});
    }
  }
  // Opening the file costs as much as compiling a small kernel or two: a process that needs no more never opens it.
  constexpr size_t nodes_worth_opening = 100;
  static std::atomic<size_t> nodes{0};
  for (const Job& j : jobs) nodes += toposort(j.kernel->sink).size();
  bool on_disk = ctx.CACHE == 1 && nodes > nodes_worth_opening;
  std::vector<Job*> missing;
  for (Job& j : jobs) {
    if (auto p = on_disk ? load_program(j.key, target) : std::nullopt)
      j.program = std::move(*p), counters().cache_hits++;
    else
      missing.push_back(&j);
  }
  parallel(i64(missing.size()), [&](i64 i) {
    Job& j = *missing[size_t(i)];
    j.program = compile_one(*j.kernel, target);
  });
  counters().compiled += missing.size();
  for (Job* j : missing)
    if (on_disk) store_program(j->key, j->program);
  Device& d = device(number);
  std::lock_guard lock(all.mutex);
  for (Job& j : jobs) {
    std::unique_ptr<Kernel>& slot = all.loaded[{number, j.key}];
    if (slot && ctx.CACHE) continue;  // another thread was faster
    auto kernel = std::make_unique<Kernel>();
    kernel->code = load(j.program, d);
    kernel->program = std::move(j.program);
    if (slot) all.retired.push_back(std::move(slot));
    slot = std::move(kernel);
  }
  i64 time = now_ns() - start;
  counters().compile_ns += u64(time);
  if (ctx.DEBUG >= 1) report_compile(list.size(), missing.size(), time);
  for (size_t i = 0; i < list.size(); i++)
    if (list[i].sink) out[i] = all.loaded.find({number, keys[i]})->second.get();
  return out;
}

std::unique_ptr<Code> load(const Program& p, Device& d) {
  Resources needs{int(p.params.size()), p.scalars, p.vectors, p.frame_bytes};
  std::unique_ptr<Code> code = d.load(p.code, p.name, &needs);
  std::lock_guard lock(addresses().mutex);
  addresses().programs[code->address] = {p.name, p.source, p.code.size(), p.notes};
  return code;
}

void forget_kernels(int number) {
  Kernels& all = kernels();
  std::lock_guard lock(all.mutex);
  for (auto it = all.loaded.lower_bound({number, 0}); it != all.loaded.end() && it->first.first == number;) {
    all.retired.push_back(std::move(it->second));
    it = all.loaded.erase(it);
  }
}

std::string kernel_at(u64 address) {
  std::lock_guard lock(addresses().mutex);
  auto it = addresses().programs.upper_bound(address);
  if (it == addresses().programs.begin() || address - (--it)->first >= it->second.bytes) return "";
  const Addresses::Placed& p = it->second;
  u64 offset = address - it->first;
  std::string_view note;
  for (auto& [at, text] : p.notes)
    if (at <= offset) note = text;
  return str(p.name, " + ", hex(offset), note.empty() ? "" : ": ", note, p.source.empty() ? "" : ", ", p.source);
}

}  // namespace ingot
