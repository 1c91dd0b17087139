// SPDX-License-Identifier: MIT
// SMU: a message is an argument and a number in two registers, the answer a third. Linux, pm/swsmu/smu_cmn.c and
// smu13/smu_v13_0_0_ppt.c; tinygrad, runtime/support/am/ip.py.
#include "userspace/amd/amd.h"

namespace ingot::amd {
namespace {
constexpr i64 table_bytes = 16 << 10;
}  // namespace

Smu::Smu(Chip& chip, Gmc& gmc) : chip_(chip), gmc_(gmc), table_(gmc.alloc_boot(table_bytes)) {}

u32 Smu::exchange(const hw::Layout& message, u32 argument, i64 timeout_ns) {
  i64 number = message.code[chip_.generation()];
  if (number < 0) throw Error(message.name, " does not exist on ", generation_names[chip_.generation()]);
  chip_.write(MP1_SMN_C2PMSG_90{.content = SMU_RESPONSE::NONE});
  chip_.write(MP1_SMN_C2PMSG_82{.content = argument});
  chip_.write(MP1_SMN_C2PMSG_66{.content = u64(number)});
  std::string text = describe(message, {&argument, 1}, chip_.generation());
  u64 response =
      chip_.wait<MP1_SMN_C2PMSG_90>(str("SMU ", text), timeout_ns, [](auto& r) { return r.content; }).content;
  if (response != SMU_RESPONSE::OK) {
    std::string name = value_name(layout_SMU_RESPONSE, "content", response);
    throw DeviceError(str(chip_.bus.name(), ": SMU answers ", name.empty() ? hex(response) : name, " to ", text),
                      chip_.describe_register(layout_MP1_SMN_C2PMSG_82));
  }
  return u32(chip_.read<MP1_SMN_C2PMSG_82>().content);
}

bool Smu::alive() {
  chip_.write(MP1_SMN_C2PMSG_90{.content = SMU_RESPONSE::NONE});
  chip_.write(MP1_SMN_C2PMSG_82{});
  chip_.write(MP1_SMN_C2PMSG_66{.content = u64(layout_PPSMC_MSG_GetSmuVersion.code[chip_.generation()])});
  return hw::poll(chip_.bus, 100 * ms, [&] { return chip_.read<MP1_SMN_C2PMSG_90>().content; });
}

void Smu::boot() {
  u64 mc = gmc_.mc(table_);
  send(PPSMC_MSG_SetDriverDramAddrHigh{.address = mc >> 32});
  send(PPSMC_MSG_SetDriverDramAddrLow{.address = mc & ~u32(0)});
  send(PPSMC_MSG_EnableAllSmuFeatures{});
}

void Smu::mode1_reset() {
  chip_.write(MP1_SMN_C2PMSG_54{.content = SMU_RESPONSE::NONE});
  chip_.write(MP1_SMN_C2PMSG_53{});
  chip_.write(MP1_SMN_C2PMSG_75{.content = SMU_DEBUG_MESSAGE::MODE1_RESET});
  chip_.bus.wait_ns(500 * ms);
  chip_.wait<RCC_CONFIG_MEMSIZE>("the chip after its reset", 5'000 * ms,
                                 [](auto& r) { return r.config_memsize && u32(r.config_memsize) != ~u32(0); });
}

SMU_METRICS Smu::metrics() {
  send(PPSMC_MSG_TransferTableSmu2Dram{.table = SMU_TABLE::SMU_METRICS});
  std::vector<u32> words(size_t(hw::words_of(layout_SMU_METRICS, chip_.generation())));
  chip_.flush_hdp();
  chip_.read_vram(table_, words.data(), i64(words.size()) * 4);
  return unpack<SMU_METRICS>(words, chip_.generation());
}

void Smu::set_power_limit(int watts) { send(PPSMC_MSG_SetPptLimit{.watts = u64(watts)}); }

// Each clock to its highest level, or to whatever the SMU likes.
void Smu::set_clocks(bool highest) {
  for (u64 clock : {PPCLK::UCLK, PPCLK::FCLK, PPCLK::SOCCLK, PPCLK::GFXCLK}) {
    u64 low = 0, high = u64(1 << 16) - 1;
    if (highest) {
      auto level = [&](u64 n) {
        return unpack32<DPM_FREQ>(send(PPSMC_MSG_GetDpmFreqByIndex{.level = n, .clock = clock}), chip_.generation())
            .mhz;
      };
      u64 levels = level(PPSMC_MSG_GetDpmFreqByIndex::COUNT);
      if (!levels) continue;
      low = high = level(levels - 1);
    }
    // The maximum first: a minimum above it would be refused.
    send(PPSMC_MSG_SetSoftMaxByFreq{.mhz = high, .clock = clock});
    send(PPSMC_MSG_SetSoftMinByFreq{.mhz = low, .clock = clock});
  }
}

}  // namespace ingot::amd
