// SPDX-License-Identifier: MIT
// Drivers joined to what they drive. A model in this process lives as long as the process, since the devices that drive
// it do; the emulator is its shader core. What either objects to goes to standard error as it happens: the driver above
// sees no more of it than of a card's, which is a hang.
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

#ifdef CONFIG_DEVICE_MODEL
model::Chip& make_model(const DeviceName& name) {
  model::AmdOptions o;
  if (!name.arch.empty()) o.target = name.arch;
  o.vram_bytes = i64(4) << 30;  // pages are there when they are written
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

Reached reach_model(const DeviceName& name) {
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

#ifdef CONFIG_DEVICE_AMD
std::unique_ptr<Device> drive_amd(Reached chip) {
  amd::Options o;
  o.firmware = amd::system_firmware(ctx.FIRMWARE), o.exclusive = !chip.is_model;
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
