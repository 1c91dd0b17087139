// SPDX-License-Identifier: MIT
// The registry: backends.def made into devices, opened on first use and alive until the process ends. A device is known
// by its number, which graphs carry in BUFFER nodes; the number says nothing outside this process.
#include <algorithm>
#include <cstdio>
#include <mutex>
#include "compiler/runtime/runtime.h"
#include "userspace/cpu/cpu.h"

namespace ingot {
namespace {

constexpr Backend rows[] = {
#define BACKEND(name, open, isa, description) {name, isa, description, open},
#include "compiler/runtime/backends.def"
#undef BACKEND
};

struct Open {
  std::string name;
  std::unique_ptr<Device> device;
  const Backend* backend;
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

std::unique_ptr<Device> open_row(const Backend& row, const DeviceName& name) { return row.open(name.index, name.arch); }

int add(std::string name, std::unique_ptr<Device> device, const Backend& row) {
  Registry& r = registry();
  int number = r.count;
  if (number == most) throw Error("more than ", most, " devices are open; cannot open ", name);
  if (ctx.DEBUG >= 1)
    std::fprintf(stderr, "device %d: %s, %s\n", number, name.c_str(), device->info().description.c_str());
  r.open[number] = {std::move(name), std::move(device), &row};
  r.count = number + 1;
  if (ctx.DEBUG >= 3 && !r.open[number].device->info().isa.empty())
    std::fputs(print(machine_of(target_of(number))).c_str(), stderr);
  return number;
}

}  // namespace

std::span<const Backend> backends() { return rows; }

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
      if (row.name == "REF") continue;
      for (int i = 0; i < r.count; i++)
        if (r.open[i].name == row.name) return found(i);
      if (auto device = open_row(row, {})) return found(add(std::string(row.name), std::move(device), row));
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
  std::vector<std::string_view> known;
  for (const Backend& row : rows) known.push_back(row.name);
  auto row = std::ranges::find(rows, name.name, &Backend::name);
  if (row == std::end(rows) || !name.prefix.empty()) {
    std::string near = name.prefix.empty() ? closest(name.name, known) : "";
    throw Error("DEV=", text, ": no such device", near.empty() ? "" : ", did you mean ", near, "? There are ", known);
  }
  auto device = open_row(*row, name);
  if (!device) throw Error("DEV=", text, ": not on this machine. ", row->name, " is ", row->description);
  return found(add(canonical, std::move(device), *row));
}

namespace {
const Open& at(int number) {
  check(number >= 0 && number < registry().count, "device ", number);
  return registry().open[number];
}
}  // namespace

Device& device(int number) { return *at(number).device; }
const std::string& device_name(int number) { return at(number).name; }
bool is_reference(int number) { return at(number).backend->isa.empty(); }

Target target_of(int number) {
  const DeviceInfo& info = device(number).info();
  Target t{info.isa, info.arch, info.features, thread_count()};
#ifdef CONFIG_ISA_X86
  if (t.isa == "x86") {
    t.features = isa::x86::host_features();
    if (t.arch == "avx2") t.features &= isa::x86::AVX2;
  }
#endif
  return t;
}

}  // namespace ingot
