// SPDX-License-Identifier: MIT
// The two management processors as state machines: PSP, which loads firmware, and SMU, which runs clocks and resets.
//
// PSP first runs its bootloader: images one by one through C2PMSG_35 and 36 in their order, until the secure OS is one
// of them. Then a ring of command frames. What matters of an image here is that its bytes have arrived where the driver
// says (an image whose visible bytes are all zero was not flushed, or is not there), and that the order holds that the
// hardware needs: SMU firmware before the trusted region, that before the other firmware, all of graphics before the
// autoload. SMU answers once its firmware is loaded, and refuses what lacks its precondition.
#include "userspace/model/amd_model.h"

namespace ingot::model {
namespace {

constexpr i64 psp_ns = 1'000'000;       // how long a mailbox command takes
constexpr i64 autoload_ns = 5'000'000;  // how long the RLC takes to start what PSP has loaded
constexpr u64 max_image = u64(64) << 20;
// The bootloader's images in their order; those in between may be absent.
constexpr u64 boot_order[] = {PSP_BL::LOAD_KEY_DATABASE, PSP_BL::LOAD_TOS_SPL_TABLE, PSP_BL::LOAD_SYSDRV,
                              PSP_BL::LOAD_SOCDRV,       PSP_BL::LOAD_INTFDRV,       PSP_BL::LOAD_DBGDRV,
                              PSP_BL::LOAD_RASDRV,       PSP_BL::LOAD_IPKEYMGRDRV,   PSP_BL::LOAD_SOSDRV};
constexpr u32 failed = 0xff;

}  // namespace

// Every piece of a file is the same bytes, after a header.
std::optional<std::string> stand_in_firmware(std::string_view name) {
  constexpr u64 start = 256, bytes = 4096;
  std::vector<u32> header(start / 4);
  auto put = [&](const auto& row, u64 at = 0) {
    std::vector<u32> words = pack(row, GFX11);
    for (size_t i = 0; i < words.size(); i++) header[at + i] |= words[i];
  };
  FIRMWARE_HEADER common{.size_bytes = start + bytes, .header_size_bytes = start, .header_version_major = 2};
  common.ucode_size_bytes = bytes, common.ucode_array_offset_bytes = start;
  if (name.ends_with("_sos")) {
    constexpr u64 types = PSP_FW_TYPE::PSP_RAS_DRV, first = 9;
    header[first - 1] = types;
    for (u64 i = 0; i < types; i++)
      put(PSP_FW_BIN_DESC{.fw_type = PSP_FW_TYPE::PSP_SOS + i, .size_bytes = bytes}, first + i * 4);
  } else if (name.starts_with("smu") || name.ends_with("_imu")) {
    common.header_version_major = 1;
    put(IMU_FIRMWARE_HEADER_V1{.imu_iram_ucode_size_bytes = bytes / 2, .imu_dram_ucode_size_bytes = bytes / 2});
  } else if (name.starts_with("sdma_6")) {
    put(SDMA_FIRMWARE_HEADER_V2{
        .ctx_ucode_size_bytes = bytes, .ctl_ucode_offset = start, .ctl_ucode_size_bytes = bytes});
  } else if (name.starts_with("sdma")) {
    common.header_version_major = 3;
    put(SDMA_FIRMWARE_HEADER_V3{.ucode_offset_bytes = start, .ucode_size_bytes = bytes});
  } else if (!name.ends_with("_rlc")) {
    put(GFX_FIRMWARE_HEADER_V2{.ucode_size_bytes = bytes, .data_size_bytes = bytes, .data_offset_bytes = start});
  }
  put(common);
  std::string out(reinterpret_cast<const char*>(header.data()), start);
  return out.append(bytes, char(failed));
}

void AmdModel::bootloader(u32 command) {
  auto fail = [&](std::string why) {
    object(str("PSP bootloader: ", why));
    raw<MP0_SMN_C2PMSG_35>() = pack32(PSP_MAILBOX{.status = failed, .ready = 1}, generation_);
  };
  if (now_ns < psp_ready_ns_) return fail("a command before the one before it is done");
  if (sos_) return fail("a command after the secure OS has started");
  std::string name = value_name(layout_PSP_BL, "command", command);
  auto place = std::find(std::begin(boot_order), std::end(boot_order), command);
  if (place == std::end(boot_order)) return fail(str("unknown component ", hex(command)));
  if (sos_components_.empty() && place != std::begin(boot_order)) return fail(name + " before the key database");
  for (auto later = place; later != std::end(boot_order); later++)
    if (std::find(sos_components_.begin(), sos_components_.end(), value_name(layout_PSP_BL, "command", *later)) !=
        sos_components_.end())
      return fail(str(name, " after ", value_name(layout_PSP_BL, "command", *later)));
  u64 address = u64(raw<MP0_SMN_C2PMSG_36>()) << 20;
  if (load_firmware(address, 4096, 0)) return fail(str(name, ": no image at ", hex(address)));
  if (std::exchange(refuse_psp_, false)) return fail(name + " refused (injected)");
  sos_components_.push_back(name);
  psp_ready_ns_ = now_ns + psp_ns;
  sos_ = command == PSP_BL::LOAD_SOSDRV;
  raw<MP0_SMN_C2PMSG_35>() = raw<MP0_SMN_C2PMSG_64>() = pack32(PSP_MAILBOX{.ready = 1}, generation_);
}

void AmdModel::psp_mailbox(u32 value) {
  auto mailbox = unpack32<PSP_MAILBOX>(value, generation_);
  auto answer = [&](u64 status) {
    raw<MP0_SMN_C2PMSG_64>() = pack32(PSP_MAILBOX{.status = status, .ready = 1}, generation_);
  };
  psp_ready_ns_ = now_ns + psp_ns;
  if (mailbox.command == PSP_MAILBOX::MODE1_RST) return mode1_reset();
  if (!sos_) return object("PSP: a ring command before the secure OS runs"), answer(failed);
  if (mailbox.command == PSP_MAILBOX::DESTROY_RINGS) {
    raw<MP0_SMN_C2PMSG_71>() = 0;
    return answer(0);
  }
  bool fits = mailbox.command == PSP_MAILBOX::INIT_GPCOM_RING && raw<MP0_SMN_C2PMSG_71>();
  psp_rptr_ = 0;
  raw<MP0_SMN_C2PMSG_67>() = 0;
  answer(fits ? 0 : failed);
}

// Reads frames up to the write pointer, in dwords of the ring.
void AmdModel::psp_ring() {
  u64 ring = pair<MP0_SMN_C2PMSG_69, MP0_SMN_C2PMSG_70>(), dwords = raw<MP0_SMN_C2PMSG_71>() / 4;
  constexpr u64 frame_dwords = 16;
  dwords -= dwords % frame_dwords;
  if (!sos_ || !dwords) return object("PSP: a ring write pointer without a ring");
  for (u64 wptr = raw<MP0_SMN_C2PMSG_67>() % dwords; psp_rptr_ != wptr;
       psp_rptr_ = (psp_rptr_ + frame_dwords) % dwords) {
    std::vector<u32> words(frame_dwords), command(256);
    if (wptr % frame_dwords) return object("PSP: the write pointer is inside of a frame");
    if (!access(MP0_MEMORY, 0, ring + psp_rptr_ * 4, words.data(), frame_dwords * 4, false))
      return object("PSP: no ring in memory");
    auto frame = unpack<PSP_RB_FRAME>(words, generation_);
    if (!frame.cmd_buf_addr || !frame.fence_addr) {
      object("PSP: a frame without a command or a fence; was the host data path flushed?");
      continue;
    }
    if (!access(MP0_MEMORY, 0, frame.cmd_buf_addr, command.data(), 1024, false)) continue;
    u32 status = std::exchange(refuse_psp_, false) ? failed : psp_command(command);
    set_bits(command, layout_PSP_CMD_RESP, *hw::find_field(layout_PSP_CMD_RESP, "status"), generation_, status);
    access(MP0_MEMORY, 0, frame.cmd_buf_addr, command.data(), 1024, true);
    u32 fence = u32(frame.fence_value);
    access(MP0_MEMORY, 0, frame.fence_addr, &fence, 4, true);
  }
}

u32 AmdModel::load_firmware(u64 address, u64 bytes, u64 type) {
  std::vector<u8> image(bytes);
  if (!bytes || bytes > max_image || !access(MP0_MEMORY, 0, address, image.data(), i64(bytes), false)) return failed;
  bool empty = std::all_of(image.begin(), image.end(), [](u8 b) { return b == 0; });
  if (empty)
    return object(str("PSP: the image at ", hex(address), " is all zeros; was the host data path flushed?")), failed;
  if (type) firmware_.insert(type);
  return 0;
}

u32 AmdModel::psp_command(std::span<u32> words) {
  auto header = unpack<PSP_CMD_RESP>(words, generation_);
  std::span<const u32> body = words.subspan(PSP_COMMAND::BODY);
  auto refuse = [&](std::string why) {
    object(str("PSP: ", value_name(layout_PSP_CMD_RESP, "cmd_id", header.cmd_id), ": ", why));
    return failed;
  };
  switch (header.cmd_id) {
    case GFX_CMD_ID::LOAD_TOC: {
      auto c = unpack<CMD_LOAD_TOC>(body, generation_);
      if (load_firmware(c.toc_phy_addr, c.toc_size, GFX_FW_TYPE::TOC)) return failed;
      set_bits(words, layout_PSP_CMD_RESP, *hw::find_field(layout_PSP_CMD_RESP, "tmr_size"), generation_,
               u64(19) << 20);
      return 0;
    }
    case GFX_CMD_ID::SETUP_TMR: {
      auto c = unpack<CMD_SETUP_TMR>(body, generation_);
      if (generation_ == GFX12) return refuse("this chip makes its trusted region at boot");
      if (!firmware_.count(GFX_FW_TYPE::SMU)) return refuse("before the firmware of the SMU");
      u64 base = row_.memory_base;
      if (!c.virt_phy_addr || c.buf_phy_addr % (1 << 20) || c.buf_phy_addr < base ||
          c.buf_phy_addr - base + c.buf_size > vram_bytes_)
        return refuse(str("no region at ", hex(c.buf_phy_addr), ", ", c.buf_size, " bytes"));
      tmr_ = true;
      return 0;
    }
    case GFX_CMD_ID::LOAD_IP_FW: {
      auto c = unpack<CMD_LOAD_IP_FW>(body, generation_);
      bool smu = c.fw_type == GFX_FW_TYPE::SMU;
      if (generation_ == GFX11 && !smu && !tmr_) return refuse("before the trusted region");
      if (value_name(layout_CMD_LOAD_IP_FW, "fw_type", c.fw_type).empty())
        return refuse(str("unknown firmware ", c.fw_type));
      return load_firmware(c.fw_phy_addr, c.fw_size, c.fw_type);
    }
    case GFX_CMD_ID::AUTOLOAD_RLC: {
      for (u64 needed : {GFX_FW_TYPE::IMU_I, GFX_FW_TYPE::IMU_D, GFX_FW_TYPE::RLC_G, GFX_FW_TYPE::RS64_MEC,
                         GFX_FW_TYPE::RS64_MEC_P0_STACK, GFX_FW_TYPE::SDMA_UCODE_TH0})
        if (!firmware_.count(needed))
          return refuse(str("without ", value_name(layout_CMD_LOAD_IP_FW, "fw_type", needed)));
      rlc_done_ns_ = now_ns + autoload_ns;
      return 0;
    }
    case GFX_CMD_ID::DESTROY_TMR: tmr_ = false; return 0;
    case GFX_CMD_ID::BOOT_CFG: return 0;
    default: return refuse(str("command ", header.cmd_id, " is not one of this chip"));
  }
}

// ---- SMU -----------------------------------------------------------------------------------------------------------
void AmdModel::smu_message(bool debug) {
  if (debug) {
    if (raw<MP1_SMN_C2PMSG_75>() != SMU_DEBUG_MESSAGE::MODE1_RESET)
      return void(raw<MP1_SMN_C2PMSG_54>() = SMU_RESPONSE::UNKNOWN_CMD);
    return mode1_reset();
  }
  if (!firmware_.count(GFX_FW_TYPE::SMU)) return;  // nobody is there: no response
  u32 argument = raw<MP1_SMN_C2PMSG_82>();
  const Layout* message = hw::find_code(rows, "SMU", raw<MP1_SMN_C2PMSG_66>(), generation_);
  u64 response = SMU_RESPONSE::OK;
  u32 result = argument;
  auto is = [&](const Layout& l) { return message == &l; };
  constexpr u32 clocks[4][3] = {
      {500, 1500, 2500}, {480, 800, 1200}, {96, 772, 1249}, {500, 1200, 2000}};  // MHz, by PPCLK
  if (!message) {
    response = SMU_RESPONSE::UNKNOWN_CMD;
  } else if (is(layout_PPSMC_MSG_TestMessage)) {
    result = argument + 1;
  } else if (is(layout_PPSMC_MSG_GetSmuVersion)) {
    result = 78 << 16 | 46 << 8;
  } else if (is(layout_PPSMC_MSG_GetDriverIfVersion)) {
    result = generation_ == GFX11 ? 61 : 46;
  } else if (is(layout_PPSMC_MSG_SetDriverDramAddrHigh)) {
    smu_table_ = (smu_table_ & ~u32(0)) | u64(argument) << 32;
  } else if (is(layout_PPSMC_MSG_SetDriverDramAddrLow)) {
    smu_table_ = (smu_table_ >> 32 << 32) | argument;
  } else if (is(layout_PPSMC_MSG_EnableAllSmuFeatures) || is(layout_PPSMC_MSG_DisableAllSmuFeatures)) {
    smu_features_ = is(layout_PPSMC_MSG_EnableAllSmuFeatures);
  } else if (is(layout_PPSMC_MSG_TransferTableSmu2Dram)) {
    auto m = unpack32<PPSMC_MSG_TransferTableSmu2Dram>(argument, generation_);
    response = !smu_table_                         ? SMU_RESPONSE::CMD_REJECTED_PREREQ
               : m.table == SMU_TABLE::SMU_METRICS ? SMU_RESPONSE::OK
                                                   : SMU_RESPONSE::FAILED;
    if (response == SMU_RESPONSE::OK) write_metrics(smu_table_);
  } else if (is(layout_PPSMC_MSG_GetDpmFreqByIndex)) {
    auto m = unpack32<PPSMC_MSG_GetDpmFreqByIndex>(argument, generation_);
    if (m.clock >= 4 || (m.level >= 3 && m.level != PPSMC_MSG_GetDpmFreqByIndex::COUNT))
      response = SMU_RESPONSE::FAILED;
    else
      result = m.level == PPSMC_MSG_GetDpmFreqByIndex::COUNT ? 3 : clocks[m.clock][m.level];
  } else if (is(layout_PPSMC_MSG_SetSoftMinByFreq) || is(layout_PPSMC_MSG_SetSoftMaxByFreq)) {
    if (!smu_features_) response = SMU_RESPONSE::CMD_REJECTED_PREREQ;
  } else if (is(layout_PPSMC_MSG_SetPptLimit)) {
    if (argument < 100 || argument > 400)
      response = SMU_RESPONSE::FAILED;
    else
      ppt_limit_ = argument;
  } else if (is(layout_PPSMC_MSG_GetPptLimit)) {
    result = ppt_limit_;
  } else if (is(layout_PPSMC_MSG_Mode1Reset)) {
    return mode1_reset();
  }
  raw<MP1_SMN_C2PMSG_82>() = result;
  raw<MP1_SMN_C2PMSG_90>() = u32(response);
}

void AmdModel::write_metrics(u64 address) {
  SMU_METRICS m{.CurrClock_GFXCLK = 2500, .CurrClock_SOCCLK = 1200, .CurrClock_UCLK = 1249};
  m.CurrClock_FCLK = 2000;
  m.AverageGfxclkFrequencyPostDs = 2480;
  m.dGPU_W_MAX = ppt_limit_;
  m.MetricsCounter = u64(now_ns / 1'000'000) & ~u32(0);
  bool busy = std::any_of(queues_.begin(), queues_.end(), [](auto& q) { return q.second.running; });
  m.AverageGfxActivity = busy ? 100 : 0;
  m.AverageSocketPower = std::min<u64>(ppt_limit_, busy ? 250 : 30);
  m.AvgTemperature_EDGE = busy ? 65 : 40, m.AvgTemperature_HOTSPOT = busy ? 80 : 45, m.AvgTemperature_MEM = 60;
  m.AvgFanRpm = busy ? 1500 : 0;
  m.PcieRate = 3, m.PcieWidth = 6;
  std::vector<u32> words = pack(m, generation_);
  if (!access(MP1_MEMORY, 0, address, words.data(), i64(words.size() * 4), true))
    object("SMU: its table cannot be written");
}

}  // namespace ingot::model
