// SPDX-License-Identifier: MIT
// The graphics core without graphics: the compute micro engine (MEC 1, pipe 0) and its queues. A queue is a descriptor
// in VRAM (MQD) whose middle is an image of the registers of one hardware queue (HQD); we write both ourselves, so
// that no scheduler firmware is needed. Linux, amdgpu/gfx_v11_0.c and gfx_v12_0.c; tinygrad, runtime/support/am/ip.py.
//
// Registers of queues and of VMIDs are banked: GRBM_GFX_CNTL says whose are seen. Every function here leaves it at 0.
#include <bit>
#include "userspace/amd/amd.h"

namespace ingot::amd {
namespace {
constexpr i64 mqd_bytes = 4096;
constexpr int vmids = 16, compute = 1;  // micro engine 1
u64 log2_of(i64 n) { return u64(std::countr_zero(u64(n))); }
}  // namespace

Gfx::Gfx(Chip& chip, Gmc& gmc) : chip_(chip), gmc_(gmc) {
  for (u64& mqd : mqd_) mqd = gmc.alloc_boot(mqd_bytes);
}

void Gfx::select(int me, int pipe, int queue, int vmid) {
  chip_.write(GRBM_GFX_CNTL{.pipeid = u64(pipe), .meid = u64(me), .vmid = u64(vmid), .queueid = u64(queue)});
}

void Gfx::boot(const Firmware& firmware, bool warm) {
  mec_start_ = firmware.mec_start, pfp_start_ = firmware.pfp_start, me_start_ = firmware.me_start;
  // The run-list controller starts everything that the PSP has loaded; until it has, nothing here answers.
  auto ready = [&] {
    return !chip_.read_raw(layout_CP_STAT) && chip_.read<RLC_RLCS_BOOTLOAD_STATUS>().bootload_complete;
  };
  if (!hw::poll(chip_.bus, 1'000 * ms, ready))
    chip_.timed_out("the graphics core's start", 1'000 * ms,
                    chip_.describe_register(layout_CP_STAT) + chip_.describe_register(layout_RLC_RLCS_BOOTLOAD_STATUS));
  gmc_.init_hub(GFXHUB);
  if (warm) return reset();  // what follows has survived
  start_address(firmware);
  chip_.write_raw(layout_TCP_CNTL, chip_.read_raw(layout_TCP_CNTL) | u32(GOLDEN::TCP_CNTL_SET));
  chip_.write(RLC_CNTL{.rlc_enable_f32 = 1});
  chip_.update<RLC_SRM_CNTL>([](auto& r) { r.srm_enable = 1, r.auto_incr_addr = 1; });
  chip_.write(RLC_SPM_MC_CNTL{.rlc_spm_vmid = vmids - 1});
  // Doorbells of both compute engines; awid and the address bits are what the engines listen to.
  chip_.write(S2A_DOORBELL_ENTRY_0_CTRL{.enable = 1, .awid = 3, .awaddr_31_28_value = 3}, {.index = DOORBELL_PORT::CP});
  chip_.write(S2A_DOORBELL_ENTRY_0_CTRL{.enable = 1, .awid = 6, .awaddr_31_28_value = 3},
              {.index = DOORBELL_PORT::CP_SECOND});
  chip_.update<GRBM_CNTL>([](auto& r) { r.read_timeout = 255; });
  for (int vmid = 0; vmid < vmids; vmid++) {
    select(0, 0, 0, vmid);
    chip_.write(SH_MEM_CONFIG{.alignment_mode = 3, .initial_inst_prefetch = 3});  // 64-bit addresses, unaligned access
    chip_.write(SH_MEM_BASES{.private_base = APERTURE::PRIVATE, .shared_base = APERTURE::SHARED});
  }
  select();
  // In bytes of BAR 2, whose doorbells are 8 bytes: those of the compute rings.
  chip_.write(CP_MEC_DOORBELL_RANGE_LOWER{});
  chip_.write(CP_MEC_DOORBELL_RANGE_UPPER{.doorbell_range_upper = DOORBELL::USERQUEUE_START * 8 / 4});
  enable();
}

// Where each engine's firmware begins, then a pulse on its reset so that it goes there.
void Gfx::start_address(const Firmware& f) {
  auto low = [](u64 start) { return start >> 2 & ~u32(0); };
  if (chip_.generation() == GFX12) {
    chip_.write(CP_PFP_PRGRM_CNTR_START{.ip_start = low(f.pfp_start)});
    chip_.write(CP_PFP_PRGRM_CNTR_START_HI{.ip_start = f.pfp_start >> 34});
    chip_.update<CP_ME_CNTL>([](auto& r) { r.pfp_pipe0_reset = 1; });
    chip_.update<CP_ME_CNTL>([](auto& r) { r.pfp_pipe0_reset = 0; });
    chip_.write(CP_ME_PRGRM_CNTR_START{.ip_start = low(f.me_start)});
    chip_.write(CP_ME_PRGRM_CNTR_START_HI{.ip_start = f.me_start >> 34});
    chip_.update<CP_ME_CNTL>([](auto& r) { r.me_pipe0_reset = 1; });
    chip_.update<CP_ME_CNTL>([](auto& r) { r.me_pipe0_reset = 0; });
  }
  select(compute);
  chip_.write(CP_MEC_RS64_PRGRM_CNTR_START{.ip_start = low(f.mec_start)});
  chip_.write(CP_MEC_RS64_PRGRM_CNTR_START_HI{.ip_start = f.mec_start >> 34});
  select();
  chip_.update<CP_MEC_RS64_CNTL>([](auto& r) { r.mec_pipe0_reset = 1; });
  chip_.update<CP_MEC_RS64_CNTL>([](auto& r) { r.mec_pipe0_reset = 0; });
}

void Gfx::enable() {
  chip_.update<CP_MEC_RS64_CNTL>([](auto& r) { r.mec_pipe0_reset = 0, r.mec_pipe0_active = 1, r.mec_halt = 0; });
  chip_.bus.wait_ns(50 * ms);
}

u64 Gfx::start_queue(int queue, const QueueMemory& m) {
  Generation g = chip_.generation();
  u64 mqd = gmc_.mc(mqd_[queue]), doorbell = DOORBELL::MEC_RING0 + u64(queue), all = ~u32(0);
  MQD d{.header = MQD::COMPUTE_HEADER,
        .compute_static_thread_mgmt_se0 = all,
        .compute_static_thread_mgmt_se1 = all,
        .compute_static_thread_mgmt_se2 = all,
        .compute_static_thread_mgmt_se3 = all,
        .compute_static_thread_mgmt_se4 = all,
        .compute_static_thread_mgmt_se5 = all,
        .compute_static_thread_mgmt_se6 = all,
        .compute_static_thread_mgmt_se7 = all};
  d.cp_mqd_base_addr_lo = mqd & all, d.cp_mqd_base_addr_hi = mqd >> 32;
  d.cp_hqd_persistent_state = pack32(CP_HQD_PERSISTENT_STATE{.preload_req = 1, .preload_size = 0x55}, g);
  d.cp_hqd_pipe_priority = 2, d.cp_hqd_queue_priority = 15;
  d.cp_hqd_quantum = pack32(CP_HQD_QUANTUM{.quantum_en = 1, .quantum_scale = 1, .quantum_duration = 1}, g);
  d.cp_hqd_pq_base_lo = m.ring >> 8 & all, d.cp_hqd_pq_base_hi = m.ring >> 40;
  d.cp_hqd_pq_rptr_report_addr_lo = m.rptr & all, d.cp_hqd_pq_rptr_report_addr_hi = m.rptr >> 32;
  d.cp_hqd_pq_wptr_poll_addr_lo = m.wptr & all, d.cp_hqd_pq_wptr_poll_addr_hi = m.wptr >> 32;
  d.cp_hqd_pq_doorbell_control =
      pack32(CP_HQD_PQ_DOORBELL_CONTROL{.doorbell_offset = 2 * doorbell, .doorbell_en = 1}, g);
  d.cp_hqd_pq_control = pack32(CP_HQD_PQ_CONTROL{.queue_size = log2_of(m.ring_bytes / 4) - 1, .rptr_block_size = 5}, g);
  d.cp_hqd_ib_control = pack32(CP_HQD_IB_CONTROL{.min_ib_avail_size = 3}, g);
  d.cp_hqd_hq_status0 = MQD::HQ_STATUS0_START;
  d.cp_mqd_control = pack32(CP_MQD_CONTROL{.priv_state = 1}, g);
  d.cp_hqd_eop_base_addr_lo = m.eop >> 8 & all, d.cp_hqd_eop_base_addr_hi = m.eop >> 40;
  d.cp_hqd_eop_control = pack32(CP_HQD_EOP_CONTROL{.eop_size = log2_of(m.eop_bytes / 4) - 1}, g);
  std::vector<u32> image = pack(d, g);
  chip_.write_vram(mqd_[queue], image.data(), i64(image.size()) * 4);
  chip_.flush_hdp();

  select(compute, 0, queue);
  u64 first = chip_.address(layout_CP_MQD_BASE_ADDR), last = first + (MQD_PART::HQD_LAST - MQD_PART::HQD_FIRST);
  hw::RegisterMap map(rows, g, chip_.ip.bases);
  for (auto it = map.all().lower_bound(first); it != map.all().end() && it->first <= last; ++it)
    chip_.write_raw(*it->second.layout, image[size_t(MQD_PART::HQD_FIRST + it->first - first)],
                    {.index = it->second.index});
  chip_.write(CP_HQD_ACTIVE{.active = 1});
  chip_.flush_hdp();
  select();
  return doorbell;
}

// Draining waits for waves that may never end, so their waves are reset instead.
void Gfx::stop_queue(int queue, bool broken) {
  constexpr u64 reset_waves = 2;
  select(compute, 0, queue);
  if (chip_.read<CP_HQD_ACTIVE>().active) {
    chip_.write(CP_HQD_DEQUEUE_REQUEST{.dequeue_req = reset_waves});
    chip_.write(SPI_COMPUTE_QUEUE_RESET{.reset = 1});
    bool stopped = hw::poll(chip_.bus, 100 * ms, [&] { return !chip_.read<CP_HQD_ACTIVE>().active; });
    if (!stopped && !broken) {
      std::string registers =
          chip_.describe_register(layout_CP_HQD_ACTIVE) + chip_.describe_register(layout_CP_HQD_DEQUEUE_REQUEST);
      select();
      chip_.timed_out(str("taking compute queue ", queue, " off the engine"), 100 * ms, registers);
    }
  }
  select();
}

void Gfx::reset() {
  for (int queue = 0; queue < int(std::size(mqd_)); queue++) stop_queue(queue, true);
  if (chip_.generation() != GFX12) {  // there the pulse on the pipe does it
    chip_.write(GRBM_SOFT_RESET{.soft_reset_cp = 1, .soft_reset_cpc = 1});
    chip_.bus.wait_ns(50 * ms);
    chip_.write(GRBM_SOFT_RESET{});
  }
  Firmware f;
  f.mec_start = mec_start_, f.pfp_start = pfp_start_, f.me_start = me_start_;
  start_address(f);
  enable();
}

void Gfx::clock_gating() {
  auto safe = [&](u64 enter) {
    chip_.write(RLC_SAFE_MODE{.cmd = 1, .message = enter});
    chip_.wait<RLC_SAFE_MODE>("the RLC's safe mode", 1'000 * ms, [](auto& r) { return !r.cmd; });
  };
  safe(1);
  chip_.update<RLC_CGCG_CGLS_CTRL>(
      [](auto& r) { r.cgcg_gfx_idle_threshold = 0x36, r.cgcg_en = 1, r.cgls_rep_compansat_delay = 15, r.cgls_en = 1; });
  chip_.update<CP_RB_WPTR_POLL_CNTL>([](auto& r) { r.poll_frequency = 256, r.idle_poll_count = 0x90; });
  chip_.update<CP_INT_CNTL>(
      [](auto& r) { r.cntx_busy_int_enable = 1, r.cntx_empty_int_enable = 1, r.cmp_busy_int_enable = 1; });
  for (int engine = 0; engine < 2; engine++)
    chip_.update<SDMA0_RLC_CGCG_CTRL>([](auto& r) { r.cgcg_int_enable = 1; }, {.index = engine});
  chip_.update<RLC_CGTT_MGCG_OVERRIDE>([](auto& r) {
    r.perfmon_clock_state = 1, r.gfxip_repeater_fgcg_override = 0, r.gfxip_fgcg_override = 0;
    r.grbm_cgtt_sclk_override = 0, r.rlc_cgtt_sclk_override = 0, r.gfxip_mgcg_override = 0;
    r.gfxip_cgls_override = 0, r.gfxip_cgcg_override = 0;
  });
  safe(0);
}

std::string Gfx::state(int queue) {
  std::string out;
  for (const hw::Layout* l :
       {&layout_GRBM_STATUS, &layout_GRBM_STATUS2, &layout_CP_STAT, &layout_CP_CPC_STATUS, &layout_CP_MEC_RS64_CNTL})
    out += chip_.describe_register(*l);
  select(compute, 0, queue);
  for (const hw::Layout* l :
       {&layout_CP_HQD_ACTIVE, &layout_CP_HQD_PQ_RPTR, &layout_CP_HQD_PQ_WPTR_LO, &layout_CP_HQD_PQ_DOORBELL_CONTROL,
        &layout_CP_HQD_IB_CONTROL, &layout_CP_HQD_IB_RPTR, &layout_CP_HQD_ERROR})
    out += chip_.describe_register(*l);
  select();
  return out;
}

}  // namespace ingot::amd
