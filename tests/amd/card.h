// SPDX-License-Identifier: MIT
// What the tests of the driver need around it: firmware files that have the headers of the real ones and nothing of
// their contents, a shader whose programs are functions, a bus that writes down what passes.
#pragma once
#include <functional>
#include "userspace/amd/amd.h"
#include "userspace/model/model.h"

namespace ingot::amd {

// Headers by byte offsets, as Linux' amdgpu_ucode.h has them, so that the driver's rows are not checked against
// themselves.
struct Blob {
  std::string bytes;
  void set(size_t at, u32 value) {
    if (bytes.size() < at + 4) bytes.resize(at + 4);
    std::memcpy(&bytes[at], &value, 4);
  }
  u32 add(u32 size, char fill) {  // contents; where they start
    while (bytes.size() % 256) bytes.push_back(0);
    u32 at = u32(bytes.size());
    bytes.append(size, fill);
    return at;
  }
  void header(u16 major, u16 minor, u32 code, u32 code_bytes) {
    set(0, u32(bytes.size())), set(4, 256), set(8, major | u32(minor) << 16), set(12, 11), set(16, 1),
        set(20, code_bytes), set(24, code);
  }
};
inline std::string stand_in(std::string_view name) {
  Blob b;
  b.bytes.resize(256);
  if (name.ends_with("_sos")) {
    constexpr u32 types[] = {1, 2, 3, 4, 5, 7, 8, 9, 10};  // SOS, SYS, KDB, TOC, SPL, SOC, INTF, DBG, RAS
    u32 start = 0;
    for (u32 i = 0; i < std::size(types); i++) {
      u32 at = b.add(5000 + i, char('A' + i));
      if (!i) start = at;
      b.set(36 + i * 16, types[i]), b.set(40 + i * 16, 1), b.set(44 + i * 16, at - start), b.set(48 + i * 16, 5000 + i);
    }
    b.set(32, std::size(types));
    b.header(2, 0, start, u32(b.bytes.size()) - start);
  } else if (name.starts_with("sdma_6")) {
    u32 th0 = b.add(3000, 's'), th1 = b.add(2000, 't');
    b.set(36, 3000), b.set(48, th1), b.set(52, 2000);
    b.header(2, 0, th0, 5000);
  } else if (name.starts_with("sdma")) {
    u32 th0 = b.add(3000, 's');
    b.set(36, th0), b.set(40, 3000);
    b.header(3, 0, th0, 3000);
  } else if (name.starts_with("smu")) {
    u32 code = b.add(6000, 'u');
    b.header(1, 0, code, 6000);
  } else if (name.ends_with("_imu")) {
    u32 iram = b.add(1024, 'i');
    b.bytes.append(2048, 'd');
    b.set(32, 1024), b.set(36, iram), b.set(40, 2048), b.set(44, iram + 1024);
    b.header(1, 0, iram, 3072);
  } else if (name.ends_with("_rlc")) {
    u32 g = b.add(4000, 'g');
    for (u32 at : {116, 132, 148, 156, 164, 180, 196}) {
      u32 list = b.add(500, char('a' + at % 26));
      b.set(at, 500), b.set(at + 4, list);
    }
    b.header(2, 3, g, 4000);
  } else {  // pfp, me, mec
    u32 code = b.add(7000, 'c'), data = b.add(900, 'd');
    b.set(36, 7000), b.set(40, code), b.set(44, 900), b.set(48, data), b.set(52, 0x3000), b.set(56, 0);
    b.header(2, 0, code, 7000);
  }
  b.set(0, u32(b.bytes.size()));
  return b.bytes;
}
inline Options stand_ins() {
  Options o;
  o.firmware = [](std::string_view name) { return std::optional(stand_in(name)); };
  o.exact_firmware = false;
  return o;
}

struct FakeShader final : hw::Wave {  // programs by the first dword at their entry
  struct Run {
    const hw::Dispatch& d;
    hw::WaveMemory& memory;
    bool ok = true;
    template <class T>
    T load(u64 at) {
      T v{};
      ok &= memory.access(hw::Access::READ, at, &v, sizeof v);
      return v;
    }
    template <class T>
    void store(u64 at, T v) {
      ok &= memory.access(hw::Access::WRITE, at, &v, sizeof v);
    }
    u64 arguments() const { return d.user_data[0] | u64(d.user_data[1]) << 32; }
    u64 argument(int i) { return load<u64>(arguments() + u64(i) * 8); }
    i64 items() const {
      i64 n = 1;
      for (int i = 0; i < 3; i++) n *= i64(d.groups[i]) * d.threads[i];
      return n;
    }
  };
  std::map<u32, std::function<void(Run&)>> programs;  // an empty function never ends
  std::vector<hw::Dispatch> dispatches;
  hw::WaveMemory* memory = nullptr;
  void start(const hw::Dispatch& d, hw::WaveMemory& m) override { dispatches.push_back(d), memory = &m; }
  hw::WaveResult step(i64 instructions) override {
    const hw::Dispatch& d = dispatches.back();
    Run run{d, *memory};
    u32 id = 0;
    if (!memory->access(hw::Access::FETCH, d.entry, &id, 4)) return {hw::WaveResult::FAULT, d.entry, ""};
    auto p = programs.find(id);
    if (p == programs.end()) return {hw::WaveResult::ILLEGAL_INSTRUCTION, d.entry, "no program"};
    if (!p->second) return {hw::WaveResult::RUNNING, d.entry, "", instructions};
    p->second(run);
    return {run.ok ? hw::WaveResult::DONE : hw::WaveResult::FAULT, d.entry, ""};
  }
  std::vector<hw::WaveReport> waves() const override { return {}; }
};
// A kernel: the descriptor by byte offsets (LLVM, AMDGPUUsage), code at 256 that starts with the program's number.
inline std::vector<u8> program(u32 id, u32 arguments, u32 lds = 0, u32 scratch = 0) {
  std::vector<u8> out(512);
  auto set = [&](size_t at, u32 v) { std::memcpy(&out[at], &v, 4); };
  set(0, lds), set(4, scratch), set(8, arguments * 8), set(16, 256);
  set(48, 0x60af0080), set(52, 15 << 1 | 1 << 7), set(56, 1 << 3 | 1 << 10);  // what clang-19 makes for gfx1100
  set(256, id);
  return out;
}

class Recorder final : public hw::Bus {  // every register access as text
 public:
  explicit Recorder(std::unique_ptr<hw::Bus> b) : bus(std::move(b)) {}
  std::unique_ptr<hw::Bus> bus;
  std::vector<std::string>* log = nullptr;
  std::function<std::string(u64 dword, u32 value)> text;
  std::string name() const override { return bus->name(); }
  u32 config_read(u32 o, int n) override { return bus->config_read(o, n); }
  void config_write(u32 o, u32 v, int n) override {
    if (log) log->push_back(str("config ", hex(o), " = ", hex(v)));
    bus->config_write(o, v, n);
  }
  hw::Bar bar(int i) override { return bus->bar(i); }
  u32 read32(int b, u64 o) override { return bus->read32(b, o); }
  void write32(int b, u64 o, u32 v) override {
    if (std::string line = text && log && b == 5 ? text(o / 4, v) : ""; !line.empty()) log->push_back(line);
    bus->write32(b, o, v);
  }
  void write64(int b, u64 o, u64 v) override {
    if (log) log->push_back(str("doorbell ", o / 8));
    bus->write64(b, o, v);
  }
  void copy_from(int b, u64 o, void* t, i64 n) override { bus->copy_from(b, o, t, n); }
  void copy_to(int b, u64 o, const void* f, i64 n) override { bus->copy_to(b, o, f, n); }
  void flush_writes() override { bus->flush_writes(); }
  hw::DmaMemory dma_alloc(i64 n, bool c) override { return bus->dma_alloc(n, c); }
  void dma_free(hw::DmaMemory& m) override { bus->dma_free(m); }
  u64 wait_interrupt(i64 d) override { return bus->wait_interrupt(d); }
  i64 now_ns() override { return bus->now_ns(); }
  void wait_ns(i64 n) override { bus->wait_ns(n); }
  bool reset(hw::Reset k) override { return bus->reset(k); }
};

}  // namespace ingot::amd
