// SPDX-License-Identifier: MIT
// A process that owns a chip and works on it: a model with the emulator, the driver on it, a kernel that never ends,
// and the debug socket. The tools look at it from the test's own process. Also: what a tool prints, caught.
#pragma once
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cstdlib>
#include "compiler/isa/emu.h"
#include "compiler/isa/isa.h"
#include "tools/tools.h"
#include "userspace/amd/amd.h"
#include "userspace/model/model.h"

namespace ingot {

struct Printed {
  int code = 0;
  std::string out, error;
};
// As main() would: the message of an exception instead of what it throws.
inline Printed tool(int (*run)(Arguments), std::string_view line) {
  std::vector<std::string_view> words;
  for (std::string_view w : split(line, ' '))
    if (!w.empty()) words.push_back(w);
  Printed p;
  testing::internal::CaptureStdout();
  try {
    p.code = run(words);
  } catch (const UsageError& e) {
    p.code = 2, p.error = e.what();
  } catch (const std::exception& e) {
    p.code = 1, p.error = e.what();
  }
  fflush(stdout);
  p.out = testing::internal::GetCapturedStdout();
  return p;
}

// The chip with two launches behind it and one that runs for ever.
struct Busy {
  std::unique_ptr<hw::Wave> shader;
  std::unique_ptr<model::Chip> chip;
  std::unique_ptr<Device> device;
  BufferRef buffer;
  std::unique_ptr<Code> store, loop;
  explicit Busy(std::unique_ptr<hw::Bus> (*wrap)(std::unique_ptr<hw::Bus>) = nullptr) {
    shader = isa::emu::make_emulator(isa::emu::EmulatorOptions());  // with its checker, which knows what is defined
    chip = model::make_amd({.shader = shader.get(), .hang_instructions = 1 << 16});
    std::unique_ptr<hw::Bus> bus = std::make_unique<model::ModelBus>(*chip);
    amd::Options o;
    o.firmware = model::stand_in_firmware, o.exact_firmware = false;
    device = amd::open(wrap ? wrap(std::move(bus)) : std::move(bus), o);
    buffer = device->alloc(4096);
    // s[0:1]: the arguments' address; v0: the work-item.
    store = load("stores",
                 "s_load_b64 s[4:5], s[0:1], null\nv_mov_b32 v1, 7\nv_lshlrev_b32 v2, 2, v0\ns_waitcnt lgkmcnt(0)\n"
                 "global_store_b32 v2, v1, s[4:5]\ns_endpgm\n");
    loop = load("spins", "s_mov_b32 s9, 42\nv_mov_b32 v3, v0\ns_nop 0\nagain:\ns_nop 1\ns_branch again\ns_endpgm\n");
    launch(*store), launch(*store);
    device->wait();
    u32 stored = 0;
    device->copy_out(&stored, *buffer, 0, 4);
    check(stored == 7, stored);
  }
  std::unique_ptr<Code> load(const char* name, const char* text) {
    const isa::Isa* isa = isa::find_isa("rdna", "gfx1100");
    Resources needs{.params = 1, .scalars = 16, .vectors = 8};
    return device->load(isa::assemble(*isa, text), name, &needs);
  }
  void launch(Code& code, u32 groups = 1) {
    void* param = reinterpret_cast<void*>(buffer->address);
    Launch l{.code = &code, .params = &param, .groups = {groups, 1, 1}, .threads = {32, 1, 1}};
    device->run({&l, 1});
  }
  void advance() { amd::bus_of(*device).wait_ns(100); }
};

class Job {  // Busy, in a process of its own
 public:
  std::string path;
  pid_t pid;
  Job() {
    int ready[2];
    if (::pipe(ready)) throw OsError("pipe", errno);
    pid = ::fork();
    if (!pid) try {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        Busy busy;
        DebugSocket socket(*busy.device->inspect(), "test");
        busy.launch(*busy.loop, 3);
        for (int i = 0; i < 100; i++) busy.advance();
        if (::write(ready[1], "x", 1) != 1) ::_exit(1);
        for (;; ::usleep(2000)) busy.advance();
      } catch (const std::exception& e) {
        fprintf(stderr, "the job: %s\n", e.what());
        ::_exit(1);
      }
    char c;
    ssize_t got = ::read(ready[0], &c, 1);
    ::close(ready[0]), ::close(ready[1]);
    if (got != 1) throw Error("the job did not start");
    path = str(runtime_folder(), "/", pid, "-test");
  }
  ~Job() {
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
    ::unlink(path.c_str());
  }
  Job(const Job&) = delete;
};

}  // namespace ingot
