// SPDX-License-Identifier: MIT
// The waves of the dispatch that runs, through SQ_IND_INDEX and SQ_IND_DATA as a debugger reads them. Which slot of
// which SIMD a wave has is not modelled: they fill the slots in order. What the emulator does not tell reads as zero.
#include "userspace/model/amd_model.h"

namespace ingot::model {
namespace {

constexpr u64 simds = 4, slots = 16;
constexpr u32 vcc = 106, exec = 126;  // operand encodings of scalar registers

u32 scalar(const hw::WaveReport& wave, u64 n) { return n < wave.scalar.size() ? wave.scalar[n] : 0; }

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
  if (u64 v = at - SQ_IND::VGPRS; at >= SQ_IND::VGPRS)
    return v < wave.vector.size() && index.workitem_id < wave.vector[v].size() ? wave.vector[v][index.workitem_id] : 0;
  if (at >= SQ_IND::SGPRS) return scalar(wave, at - SQ_IND::SGPRS);
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
    return pack32(SQ_WAVE_STATUS{.scc = gfx11 && wave.scc,
                                 .execz = !scalar(wave, exec),
                                 .vccz = !scalar(wave, vcc),
                                 .in_barrier = gfx11 && wave.at_barrier,
                                 .valid = 1},
                  generation_);
  return 0;
}

}  // namespace ingot::model
