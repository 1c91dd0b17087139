// SPDX-License-Identifier: MIT
// The registry: backends.def made into devices, opened on first use and alive until the process ends. A device is known
// by its number, which graphs carry in BUFFER nodes; the number says nothing outside this process.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include "compiler/runtime/runtime.h"
#include "userspace/cpu/cpu.h"

namespace ingot {
namespace {

constexpr Backend rows[] = {
#define BACKEND(name, open, isa, description) {name, isa, description, open, nullptr, 0},
#define CHIP(name, vendor, drive, isa, description) {name, isa, description, nullptr, drive, vendor},
#define WAY(...)
#include "compiler/runtime/backends.def"
};
constexpr Way way_rows[] = {
#define BACKEND(...)
#define CHIP(...)
#define WAY(prefix, reach, description) {prefix, description, reach},
#include "compiler/runtime/backends.def"
};

struct Open {
  std::string name;
  std::unique_ptr<Device> device;
  const Backend* backend;
  model::Chip* chip;
  std::unique_ptr<DebugSocket> socket;
};
constexpr int most = 64;
struct Registry {
  std::mutex mutex;
  std::atomic<int> count{0};
  Open open[most];
};
Registry& registry() {
  static Registry* r = new Registry;  // kernels may run while the process exits
  return *r;
}

void close_all() {
  Registry& r = registry();
  for (int i = 0; i < r.count; i++) r.open[i].socket.reset(), r.open[i].device->close();
}
std::unique_ptr<DebugSocket> serve(Device& device, std::string_view name) {
  Inspect* chip = ctx.DEBUG_SOCKET ? device.inspect() : nullptr;
  try {
    return chip ? std::make_unique<DebugSocket>(*chip, name) : nullptr;
  } catch (const Error& e) {  // nobody can look, and the job goes on
    std::fprintf(stderr, "%s\n", e.what());
    return nullptr;
  }
}

int add(std::string name, std::unique_ptr<Device> device, const Backend& row, model::Chip* chip = nullptr) {
  Registry& r = registry();
  int number = r.count;
  if (number == most) throw Error("more than ", most, " devices are open; cannot open ", name);
  if (ctx.DEBUG >= 1)
    std::fprintf(stderr, "device %d: %s, %s\n", number, name.c_str(), device->info().description.c_str());
  static const int registered = std::atexit(close_all);
  (void)registered;
  std::unique_ptr<DebugSocket> socket = serve(*device, name);
  r.open[number] = {std::move(name), std::move(device), &row, chip, std::move(socket)};
  r.count = number + 1;
  if (ctx.DEBUG >= 3 && !r.open[number].device->info().isa.empty())
    std::fputs(print(machine_of(target_of(number))).c_str(), stderr);
  return number;
}

const Backend& row_of(std::string_view text, const DeviceName& name) {
  std::vector<std::string_view> known;
  for (const Backend& row : rows) {
    if (row.name == name.name) return row;
    known.push_back(row.name);
  }
  std::string near = closest(name.name, known);
  throw Error("DEV=", text, ": no such device", near.empty() ? "" : ", did you mean ", near, "? There are ", known);
}

}  // namespace

Reached reach(std::string_view text) {
  DeviceName name = parse_device_name(text);
  const Backend& row = row_of(text, name);
  if (!row.drive) throw Error("DEV=", text, ": ", row.name, " is not a chip that is reached over a bus");
  std::vector<std::string> there;
  for (const Way& way : ways()) {
    if (way.prefix == name.prefix) return way.reach(name, row);
    there.push_back(str(way.prefix, way.prefix.empty() ? "" : "+", row.name, ", ", way.description));
  }
  throw Error("DEV=", text, ": no ", row.name, " card is reached by that prefix; there are ", there);
}

std::span<const Backend> backends() { return rows; }
std::span<const Way> ways() { return way_rows; }

int device_number(std::string_view text) {
  thread_local std::string last_text = "?";
  thread_local int last = -1;
  if (text.empty()) text = ctx.DEV;
  if (text == last_text) return last;
  check_environment();
  Registry& r = registry();
  std::lock_guard lock(r.mutex);
  auto found = [&](int number) { return last_text = text, last = number; };
  if (text.empty()) {
    for (const Backend& row : rows) {
      if (row.name == "REF" || !row.open) continue;
      for (int i = 0; i < r.count; i++)
        if (r.open[i].name == row.name) return found(i);
      if (auto device = row.open(0, "")) return found(add(std::string(row.name), std::move(device), row));
    }
    throw Error("no device on this machine; DEV=REF evaluates graphs without one");
  }
  DeviceName name = parse_device_name(text);
  std::string canonical = name.prefix.empty() ? name.name : name.prefix + "+" + name.name;
  if (name.index || !name.arch.empty()) canonical += ':';
  if (name.index) append(canonical, name.index);
  if (!name.arch.empty()) canonical += ":" + name.arch;
  for (int i = 0; i < r.count; i++)
    if (r.open[i].name == canonical) return found(i);
  const Backend& row = row_of(text, name);
  if (row.open) {
    if (!name.prefix.empty()) throw Error("DEV=", text, ": ", row.name, " is this system's; nothing stands before it");
    auto device = row.open(name.index, name.arch);
    if (!device) throw Error("DEV=", text, ": not on this machine. ", row.name, " is ", row.description);
    return found(add(canonical, std::move(device), row));
  }
  Reached chip = reach(text);
  model::Chip* inside = chip.chip;
  return found(add(canonical, row.drive(std::move(chip)), row, inside));
}

namespace {
const Open& at(int number) {
  check(number >= 0 && number < registry().count, "device ", number);
  return registry().open[number];
}
}  // namespace

void reopen(int number) {
  Registry& r = registry();
  std::lock_guard lock(r.mutex);
  Open& o = r.open[number];
  if (!o.backend->drive) throw Error(o.name, " cannot be opened anew");
  o.device->close();
  forget_kernels(number);
  static std::vector<std::unique_ptr<Device>>* gone = new std::vector<std::unique_ptr<Device>>;  // Buffers refer to it
  auto device = o.backend->drive(o.chip ? reach_again(*o.chip) : reach(o.name));
  gone->push_back(std::exchange(o.device, std::move(device)));
}

Device& device(int number) { return *at(number).device; }
const std::string& device_name(int number) { return at(number).name; }
bool is_reference(int number) { return at(number).backend->isa.empty(); }
model::Chip* model_of(int number) { return at(number).chip; }

Target target_of(int number) {
  const DeviceInfo& info = device(number).info();
  Target t{info.isa, info.arch, info.features, info.isa == "x86" ? thread_count() : info.threads};
#ifdef CONFIG_ISA_X86
  if (t.isa == "x86") {
    t.features = isa::x86::host_features();
    if (t.arch == "avx2") t.features &= isa::x86::AVX2;
  }
#endif
  return t;
}

}  // namespace ingot
