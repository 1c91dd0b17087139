// SPDX-License-Identifier: MIT
// The interrupt ring: what an engine has to say, 32 bytes at a time, in VRAM. Pointers are byte offsets. Linux,
// amdgpu/ih_v6_0.c. Nothing waits for an interrupt here: signals are memory that is polled, and the ring is read when
// something has gone wrong, to say what.
#include <bit>
#include "userspace/amd/amd.h"

namespace ingot::amd {
namespace {
constexpr i64 ring_bytes = 256 << 10, entry_bytes = 32;
}  // namespace

Ih::Ih(Chip& chip, Gmc& gmc) : chip_(chip), gmc_(gmc) {
  for (int i = 0; i < 2; i++) ring_[i] = gmc.alloc_boot(ring_bytes), wptr_[i] = gmc.alloc_boot(page_bytes);
}

void Ih::boot() {
  for (int i = 0; i < 2; i++) {
    At at{.index = i};
    u64 base = gmc_.mc(ring_[i]) >> 8, wptr = gmc_.mc(wptr_[i]);
    chip_.write(IH_RB_BASE{.addr = base & ~u32(0)}, at);
    chip_.write(IH_RB_BASE_HI{.addr = base >> 32}, at);
    chip_.write(IH_RB_CNTL{.rb_size = u64(std::countr_zero(u64(ring_bytes / 4))),
                           .rb_full_drain_enable = i == 1,
                           .wptr_overflow_enable = i == 0,
                           .mc_snoop = 1,
                           .rptr_rearm = i == 0,
                           .mc_space = 4,
                           .wptr_overflow_clear = 1},
                at);
    if (i == 0) {
      chip_.write(IH_RB_WPTR_ADDR_LO{.addr = (wptr & ~u32(0)) >> 2});
      chip_.write(IH_RB_WPTR_ADDR_HI{.addr = wptr >> 32});
    }
    chip_.write(IH_RB_WPTR{}, at);
    chip_.write(IH_RB_RPTR{}, at);
    chip_.write(IH_DOORBELL_RPTR{}, at);
  }
  // Repeated faults of one page must not fill the ring: the memory hub (client 18) is a storm client.
  chip_.update<IH_STORM_CLIENT_LIST_CNTL>([](auto& r) { r.client18_is_storm_client = 1; });
  chip_.update<IH_INT_FLOOD_CNTL>([](auto& r) { r.flood_cntl_enable = 1; });
  chip_.update<IH_MSI_STORM_CTRL>([](auto& r) { r.delay = 3; });
  for (int i = 0; i < 2; i++)
    chip_.update<IH_RB_CNTL>([i](auto& r) { r.rb_enable = 1, r.enable_intr = i == 0, r.wptr_overflow_clear = 0; },
                             {.index = i});
  rptr_ = 0;
}

std::vector<IH_ENTRY> Ih::drain() {
  std::vector<IH_ENTRY> entries;
  auto wptr = chip_.read<IH_RB_WPTR>();
  u32 end = u32(wptr.offset * 4) % ring_bytes;
  rptr_ = u32(chip_.read<IH_RB_RPTR>().offset * 4) % ring_bytes;
  lost_ = wptr.rb_overflow;
  for (i64 left = ring_bytes / entry_bytes; rptr_ != end && left;
       left--, rptr_ = u32((rptr_ + entry_bytes) % ring_bytes)) {
    u32 words[entry_bytes / 4];
    chip_.read_vram(ring_[0] + rptr_, words, entry_bytes);
    entries.push_back(unpack<IH_ENTRY>(words, chip_.generation()));
  }
  rptr_ = end;
  chip_.write(IH_RB_RPTR{.offset = rptr_ / 4});
  if (lost_) {  // the flag is cleared in the pointer, then the writer is told
    chip_.update<IH_RB_WPTR>([](auto& r) { r.rb_overflow = 0; });
    chip_.update<IH_RB_CNTL>([](auto& r) { r.wptr_overflow_clear = 1; });
    chip_.update<IH_RB_CNTL>([](auto& r) { r.wptr_overflow_clear = 0; });
  }
  return entries;
}

std::string Ih::text(const IH_ENTRY& e, Generation g) {
  auto name = [](const char* field, u64 value) {
    std::string known = value_name(layout_IH_ENTRY, field, value);
    return known.empty() ? str(value) : known;
  };
  u32 contexts[2] = {u32(e.context_id0), u32(e.context_id1)};
  std::string out =
      str("interrupt ", name("source_id", e.source_id), " of ", name("client_id", e.client_id), ", vmid ", e.vmid);
  if (e.source_id == IH_SOURCE::SQ_INTERRUPT_ID) return out + ", " + describe_fields(layout_SQ_INTERRUPT, contexts, g);
  if (e.source_id == IH_SOURCE::UTCL2_FAULT)
    return str(out, ", page ", hex(unpack<IH_FAULT_CONTEXT>(contexts, g).page << 12));
  return str(out, ", contexts ", hex(e.context_id0), " ", hex(e.context_id1), " ", hex(e.context_id2), " ",
             hex(e.context_id3));
}

}  // namespace ingot::amd
