// SPDX-License-Identifier: MIT
// The waves of the dispatch that runs, through SQ_IND_INDEX and SQ_IND_DATA as a debugger reads them. Which slot of
// which SIMD a wave has is not modelled: they fill the slots in order. What the emulator does not tell reads as zero.
#include <charconv>
#include "userspace/model/amd_model.h"

namespace ingot::model {
namespace {

constexpr u64 simds = 4, slots = 16;
constexpr u32 vcc = 106, m0 = 125, exec = 126;  // operand encodings of scalar registers

// A wave's report is text: "running, exec 0x…, vcc 0x…, …", then a line for each register, "s3 0x…", "v7 0x… 0x… …".
u32 number_after(const std::string& text, const std::string& name, u32 which = 0) {
  size_t at = text.find(name);
  if (at == text.npos) return 0;
  for (at += name.size(); which && at != text.npos && text[at] != '\n'; which--) at = text.find_first_of(" \n", at + 1);
  u32 value = 0;
  if (at = text.find_first_not_of(' ', at); at != text.npos && text.compare(at, 2, "0x") == 0)
    std::from_chars(text.data() + at + 2, text.data() + text.size(), value, 16);
  return value;
}
u32 scalar(const std::string& text, u64 n) {
  return n == vcc    ? number_after(text, "vcc ")
         : n == m0   ? number_after(text, "m0 ")
         : n == exec ? number_after(text, "exec ")
                     : number_after(text, str("\ns", n, " "));
}

}  // namespace

u32 AmdModel::wave_register() {
  const Queue* runs = nullptr;
  for (auto& [bank, queue] : queues_)
    if (queue.running) runs = &queue;
  auto place = reg<GRBM_GFX_INDEX>();
  auto index = reg<SQ_IND_INDEX>();
  u64 wgp = place.instance_index / simds, simd = place.instance_index % simds;
  u64 n = (((place.se_index * row_.arrays + place.sa_index) * row_.wgps + wgp) * simds + simd) * slots + index.wave_id;
  bool there = place.se_index < row_.shader_engines && place.sa_index < row_.arrays && wgp < row_.wgps;
  u64 at = index.index;
  if (index.auto_incr) index.index++;
  raw<SQ_IND_INDEX>() = pack32(index, generation_);
  if (!runs || !options_.shader || !there || index.wave_id >= slots) return 0;
  if (std::exchange(waves_at_, runs->instructions) != runs->instructions) waves_ = options_.shader->waves();
  if (n >= waves_.size()) return 0;
  const hw::WaveReport& wave = waves_[n];
  if (at >= SQ_IND::VGPRS) return number_after(wave.text, str("\nv", at - SQ_IND::VGPRS, " "), u32(index.workitem_id));
  if (at >= SQ_IND::SGPRS) return scalar(wave.text, at - SQ_IND::SGPRS);
  const Layout* l = hw::find_code(rows, "SQ_WAVE", i64(at), generation_);
  if (l == &layout_SQ_WAVE_PC_LO) return u32(wave.pc);
  if (l == &layout_SQ_WAVE_PC_HI) return u32(wave.pc >> 32);
  if (l == &layout_SQ_WAVE_HW_ID1)
    return pack32(
        SQ_WAVE_HW_ID1{
            .wave_id = index.wave_id, .simd_id = simd, .wgp_id = wgp, .sa_id = place.sa_index, .se_id = place.se_index},
        generation_);
  if (l == &layout_SQ_WAVE_HW_ID2) return pack32(SQ_WAVE_HW_ID2{.me_id = 1, .wg_id = wave.group[0] % 32}, generation_);
  if (l == &layout_SQ_WAVE_GPR_ALLOC)
    return pack32(SQ_WAVE_GPR_ALLOC{.vgpr_size = reg<COMPUTE_PGM_RSRC1>(0, 0, runs->bank).vgprs}, generation_);
  bool gfx11 = generation_ == GFX11;
  if (l == &layout_SQ_WAVE_STATUS)
    return pack32(SQ_WAVE_STATUS{.scc = gfx11 && wave.text.find("scc 1") != wave.text.npos,
                                 .execz = !scalar(wave.text, exec),
                                 .vccz = !scalar(wave.text, vcc),
                                 .in_barrier = gfx11 && wave.text.starts_with("at a barrier"),
                                 .valid = 1},
                  generation_);
  return 0;
}

}  // namespace ingot::model
