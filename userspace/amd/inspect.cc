// SPDX-License-Identifier: MIT
// What a tool can see of the chip (device.h, Inspect). Reading a register is what the tool asked for and nothing else:
// no mailbox, no other queue's state; the two selecting registers are as they were when a reply is complete.
#include <unistd.h>
#include "userspace/amd/amd.h"

namespace ingot::amd {
namespace {

class Selected {  // as a request's bank says, while this lives
 public:
  Selected(Chip& chip, u64 bank) : chip_(chip), bank_(bank) {
    if (control()) chip.write_raw(layout_GRBM_GFX_CNTL, control());
    if (!(bank & ChipInspect::select_index)) return;
    index_ = chip.read_raw(layout_GRBM_GFX_INDEX);
    chip.write_raw(layout_GRBM_GFX_INDEX, u32(bank >> 32));
  }
  ~Selected() {
    if (control()) chip_.write_raw(layout_GRBM_GFX_CNTL, 0);  // what every function of the driver leaves
    if (bank_ & ChipInspect::select_index) chip_.write_raw(layout_GRBM_GFX_INDEX, index_);
  }
  Selected(const Selected&) = delete;

 private:
  u32 control() const { return u32(bank_ & (ChipInspect::select_index - 1)); }
  Chip& chip_;
  u64 bank_;
  u32 index_ = 0;
};

}  // namespace

std::string ChipInspect::facts() {
  return str("{\"device\": \"AMD\", \"arch\": ", quote_json(chip_.ip.arch()),
             ", \"bus\": ", quote_json(chip_.bus.name()), ", \"pid\": ", ::getpid(),
             ", \"process\": ", quote_json(program_invocation_short_name), ", \"units\": ", chip_.ip.compute_units(),
             ", \"vram_bytes\": ", chip_.vram_bytes);
}
SMU_METRICS ChipInspect::metrics() { throw Error(chip_.bus.name(), ": no driver runs, so nobody measures"); }
std::span<const u8> ChipInspect::host(u64) { return {}; }

std::string ChipInspect::reply(const Request& r) {
  return chip_.gate.look([&] {
    Selected selected(chip_, r.bank);
    std::vector<u32> words;
    std::string bytes;
    switch (r.what) {
      case STATE: return state();
      case METRICS: {
        auto values = hw::members(metrics());
        for (size_t i = 0; i < values.size(); i++)
          if (const hw::Field& f = layout_SMU_METRICS.fields[i]; f.exists(chip_.generation()))
            append(bytes, str(bytes.empty() ? "{" : ", ", quote_json(f.name), ": ", values[i]));
        return bytes + "}";
      }
      case REGISTER: words.push_back(chip_.read_dword(r.address)); break;
      case WRITE_REGISTER: chip_.write_dword(r.address, r.value); break;
      case WAVE:
        chip_.write_raw(layout_SQ_IND_INDEX, u32(r.address));
        for (u32 i = 0; i < r.bytes / 4; i++) words.push_back(chip_.read_raw(layout_SQ_IND_DATA));
        break;
      case VRAM:
        if (r.address > u64(chip_.vram_bytes) || r.bytes > u64(chip_.vram_bytes) - r.address)
          throw Error(r.bytes, " bytes at ", hex(r.address), " are outside of VRAM, which has ", chip_.vram_bytes);
        bytes.resize(r.bytes);
        chip_.read_vram(r.address, bytes.data(), r.bytes);
        return bytes;
      case HOST: {
        std::span<const u8> memory = host(r.address);
        if (memory.size() < r.bytes)
          throw Error("no ", r.bytes, " bytes of the process's own memory are at ", hex(r.address));
        return std::string(reinterpret_cast<const char*>(memory.data()), r.bytes);
      }
      default: break;
    }
    return std::string(reinterpret_cast<const char*>(words.data()), words.size() * 4);
  });
}

}  // namespace ingot::amd
