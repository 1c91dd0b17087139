// SPDX-License-Identifier: MIT
// The first copy engine and its queue 0. Ring pointers are bytes. Linux, amdgpu/sdma_v6_0.c and sdma_v7_0.c; tinygrad,
// runtime/support/am/ip.py.
#include <bit>
#include "userspace/amd/amd.h"

namespace ingot::amd {

void Sdma::boot() {
  bool mcu = chip_.generation() == GFX12;                                        // the engine's processor: F32 before
  chip_.update<SDMA0_WATCHDOG_CNTL>([](auto& r) { r.queue_hang_count = 100; });  // 10 s
  chip_.update<SDMA0_UTCL1_CNTL>([](auto& r) { r.resp_mode = 3, r.redo_delay = 9; });
  chip_.update<SDMA0_UTCL1_PAGE>([&](auto& r) {
    r.rd_l2_policy = 2, r.wr_l2_policy = 3;
    if (!mcu) r.llc_noalloc = 1;
  });
  if (mcu)
    chip_.update<SDMA0_MCU_CNTL>([](auto& r) { r.halt = 0, r.reset = 0; });
  else
    chip_.update<SDMA0_F32_CNTL>([](auto& r) { r.halt = 0, r.th1_reset = 0; });
  chip_.update<SDMA0_CNTL>([](auto& r) { r.trap_enable = 1; });
  chip_.write(S2A_DOORBELL_ENTRY_0_CTRL{.enable = 1,
                                        .awid = 14,
                                        .range_offset = DOORBELL::SDMA_ENGINE0 * 2,
                                        .range_size = 4,
                                        .awaddr_31_28_value = 3},
              {.index = DOORBELL_PORT::SDMA});
}

u64 Sdma::start_queue(const QueueMemory& m) {
  u64 low = ~u32(0), doorbell = DOORBELL::SDMA_ENGINE0;
  chip_.write(SDMA0_QUEUE0_MINOR_PTR_UPDATE{.enable = 1});
  chip_.write(SDMA0_QUEUE0_RB_RPTR{});
  chip_.write(SDMA0_QUEUE0_RB_RPTR_HI{});
  chip_.write(SDMA0_QUEUE0_RB_WPTR{});
  chip_.write(SDMA0_QUEUE0_RB_WPTR_HI{});
  chip_.write(SDMA0_QUEUE0_RB_BASE{.addr = m.ring >> 8 & low});
  chip_.write(SDMA0_QUEUE0_RB_BASE_HI{.addr = m.ring >> 40});
  chip_.write(SDMA0_QUEUE0_RB_RPTR_ADDR_LO{.addr = (m.rptr & low) >> 2});
  chip_.write(SDMA0_QUEUE0_RB_RPTR_ADDR_HI{.addr = m.rptr >> 32});
  chip_.write(SDMA0_QUEUE0_RB_WPTR_POLL_ADDR_LO{.addr = (m.wptr & low) >> 2});
  chip_.write(SDMA0_QUEUE0_RB_WPTR_POLL_ADDR_HI{.addr = m.wptr >> 32});
  chip_.update<SDMA0_QUEUE0_DOORBELL_OFFSET>([&](auto& r) { r.offset = doorbell * 2; });
  chip_.update<SDMA0_QUEUE0_DOORBELL>([](auto& r) { r.enable = 1; });
  chip_.write(SDMA0_QUEUE0_MINOR_PTR_UPDATE{});
  SDMA0_QUEUE0_RB_CNTL control{.rb_enable = 1,
                               .rb_size = u64(std::countr_zero(u64(m.ring_bytes / 4))),
                               .rptr_writeback_enable = 1,
                               .rptr_writeback_timer = 4,
                               .rb_priv = 1};
  (chip_.generation() == GFX12 ? control.mcu_wptr_poll_enable : control.f32_wptr_poll_enable) = 1;
  chip_.write(control);
  chip_.update<SDMA0_QUEUE0_IB_CNTL>([](auto& r) { r.ib_enable = 1; });
  return doorbell;
}

void Sdma::stop() {
  chip_.update<SDMA0_QUEUE0_RB_CNTL>([](auto& r) { r.rb_enable = 0; });
  chip_.update<SDMA0_QUEUE0_IB_CNTL>([](auto& r) { r.ib_enable = 0; });
  chip_.update<SDMA0_QUEUE0_DOORBELL>([](auto& r) { r.enable = 0; });
  chip_.write(GRBM_SOFT_RESET{.soft_reset_sdma0 = 1});
  chip_.bus.wait_ns(10 * ms);
  chip_.write(GRBM_SOFT_RESET{});
}

std::string Sdma::state() {
  std::string out;
  for (const hw::Layout* l : {&layout_SDMA0_QUEUE0_RB_CNTL, &layout_SDMA0_QUEUE0_RB_RPTR, &layout_SDMA0_QUEUE0_RB_WPTR,
                              &layout_SDMA0_QUEUE0_DOORBELL})
    out += chip_.describe_register(*l);
  return out;
}

}  // namespace ingot::amd
