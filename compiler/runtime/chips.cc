// SPDX-License-Identifier: MIT
// Drivers joined to what they drive. A model in this process lives as long as the process, since the devices that drive
// it do; the emulator is its shader core. What either objects to goes to standard error as it happens: the driver above
// sees no more of it than of a card's, which is a hang.
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <unistd.h>
#include <cstdio>
#include "compiler/runtime/runtime.h"
#ifdef CONFIG_DEVICE_MODEL
#include "userspace/model/model.h"
#endif
#ifdef CONFIG_DEVICE_AMD
#include "userspace/amd/amd.h"
#endif
#ifdef CONFIG_ISA_RDNA
#include "compiler/isa/emu.h"
#endif

namespace ingot {

enum Fact : u64 {
#define FACT(name, value, doc) name = value,
#include "userspace/model/qemu.def"
};

#ifdef CONFIG_DEVICE_MODEL
model::Chip& make_model(const DeviceName& name, i64 vram_mib, const std::string& vram_file) {
  model::AmdOptions o;
  if (!name.arch.empty()) o.target = name.arch;
  o.vram_bytes = vram_mib << 20;  // pages are there when they are written
  if (!vram_file.empty()) {
    o.vram_file = ::open(vram_file.c_str(), O_RDWR | O_CLOEXEC);
    if (o.vram_file < 0) throw OsError(vram_file, errno);
    o.vram_bytes = ::lseek(o.vram_file, 0, SEEK_END);
  }
  o.strict = ctx.MODEL_STRICT;
  o.hang_instructions = i64(1) << 30;
#ifdef CONFIG_ISA_RDNA
  isa::emu::EmulatorOptions e;
  e.arch = o.target, e.checker = ctx.MODEL_CHECK, e.prefetch = ctx.MODEL_CHECK, e.source = kernel_at;
  e.blocks = ctx.MODEL_HOT < 0 ? nullptr : host_blocks(), e.hot = ctx.MODEL_HOT;
  if (e.arch == "gfx1100") o.shader = isa::emu::make_emulator(e).release();
#endif
  static std::vector<model::Chip*>& made = *new std::vector<model::Chip*>;  // never freed, and never out of reach
  model::Chip* chip = made.emplace_back(model::make_amd(o).release());
  chip->on_objection = [](const std::string& what) { std::fprintf(stderr, "model: %s\n", what.c_str()); };
  return *chip;
}

Reached reach_model(const DeviceName& name, const Backend&) {
  if (!ctx.MODEL_SOCKET.empty()) return {model::connect(ctx.MODEL_SOCKET), true, nullptr};
  model::Chip& chip = make_model(name);
  return {std::make_unique<model::ModelBus>(chip, str("model ", name.index)), true, &chip};
}

Reached reach_again(model::Chip& chip) {
  chip.plug_in();
  return {std::make_unique<model::ModelBus>(chip), true, &chip};
}
#else
Reached reach_again(model::Chip&) { unreachable(); }
#endif

Reached reach_card(const DeviceName& name, const Backend& row) {
  const std::string_view driver = name.prefix == "VFIO" ? "vfio-pci" : name.prefix == "INGOT" ? "ingot" : "";
  int seen = 0;
  std::string there;
  for (const PciCard& card : pci_cards(row.vendor)) {
    append(there, str("\n  ", card.address, ": ", card.unusable.empty() ? "bound to " + card.driver : card.unusable));
    if (!card.unusable.empty() || (!driver.empty() && card.driver != driver) || seen++ != name.index) continue;
    std::unique_ptr<hw::Bus> bus = open_card(card);
    const bool is_model = bus->config_read(PCI_SUBSYSTEM_VENDOR_ID, 4) == QEMU_SUBSYSTEM;
    return {std::move(bus), is_model, nullptr};
  }
  const std::string wanted = str(name.prefix, name.prefix.empty() ? "" : "+", row.name);
  throw Error("no ", wanted, " card number ", name.index, there.empty() ? ": this machine has none" : ":" + there);
}

#ifdef CONFIG_DEVICE_AMD
std::unique_ptr<Device> drive_amd(Reached chip) {
  amd::Options o;
  o.firmware = amd::system_firmware(ctx.FIRMWARE), o.exclusive = !chip.is_model;
  o.power_limit_watts = ctx.POWER_LIMIT;
#ifdef CONFIG_DEVICE_MODEL
  if (chip.is_model) o.firmware = model::stand_in_firmware, o.exact_firmware = false;
#endif
  std::unique_ptr<Device> device = amd::open(std::move(chip.bus), o);
  const std::string& arch = device->info().arch;
  if (arch != "gfx1100")
    throw Error(arch, ": the driver brings it up, but there is no machine code for it yet; gfx1100 has");
  return device;
}
#endif

}  // namespace ingot
