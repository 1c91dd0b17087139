// SPDX-License-Identifier: MIT
// The chip's surface: registers, doorbells, the interrupt ring, resets, the discovery binary.
//
// A register access of the host to an address that no row names is refused with an Error: on silicon it would read as
// something and teach nothing. Registers of queues and of VMIDs are banked by GRBM_GFX_CNTL as on the chip, so what is
// written without selecting a queue lands in the wrong one. During a reset and while the card is gone all reads are
// ones.
#include "userspace/model/amd_model.h"
#include <sys/mman.h>

namespace ingot::model {
namespace {

constexpr u16 vendor_id =
#define VENDOR(id) id
#include "userspace/model/amd_chip.def"
    ;
constexpr ChipRow chip_rows[] = {
#define CHIP(target, generation, device, se, sa, wgps, base) {#target, generation, device, se, sa, wgps, base},
#include "userspace/model/amd_chip.def"
};
const std::vector<IpRow>& ip_rows() {
  static const std::vector<IpRow> rows_ = {
#define IP(target, block, instance, major, minor, revision, ...) \
  {#target, block, instance, major, minor, revision, {__VA_ARGS__}},
#include "userspace/model/amd_chip.def"
  };
  return rows_;
}
const ChipRow& chip_row(const std::string& target) {
  std::vector<std::string_view> known;
  for (const ChipRow& row : chip_rows) {
    if (target == row.target) return row;
    known.push_back(row.target);
  }
  throw Error("there is no model of ", target, "; there are ", known);
}
PciIdentity pci_identity(const AmdOptions& o) {
  PciIdentity id{.vendor = 0, .device = chip_row(o.target).device, .class_code = 3 << 16};
  id.vendor = id.subsystem_vendor = vendor_id;
  id.bar_bytes[0] = i64(std::bit_ceil(u64(o.visible_vram_bytes ? o.visible_vram_bytes : o.vram_bytes)));
  id.bar_bytes[2] = 2 << 20;
  id.bar_bytes[5] = 1 << 20;
  id.bar_64bit[0] = id.bar_64bit[2] = id.bar_prefetchable[0] = id.bar_prefetchable[2] = true;
  return id;
}
constexpr u64 mmio_dwords = (1 << 20) / 4;
constexpr i64 mode1_ns = 400'000'000;           // a driver waits 500 ms
constexpr i64 function_reset_ns = 100'000'000;  // at most (PCI Express Base 5.0, 6.6.2)
constexpr u64 hdp_flush_byte =
    (1 << 18) - 4096;  // where this model has the flush trigger; drivers ask REMAP_HDP_MEM_FLUSH_CNTL

}  // namespace

AmdModel::AmdModel(const AmdOptions& o)
    : Chip(pci_identity(o)), options_(o), generation_(chip_row(o.target).generation), row_(chip_row(o.target)) {
  strict = o.strict;
  vram_bytes_ = u64(o.vram_bytes);
  int flags = o.vram_file >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  void* memory = ::mmap(nullptr, vram_bytes_, PROT_READ | PROT_WRITE, flags, o.vram_file, 0);
  if (memory == MAP_FAILED) throw OsError(str("VRAM of ", o.vram_bytes, " bytes"), errno);
  vram_ = static_cast<u8*>(memory);
  bases_.at[{FIXED, 0, 0}] = 0;
  for (const IpRow& ip : ip_rows())
    if (ip.target == o.target)
      for (size_t segment = 0; segment < ip.bases.size(); segment++)
        bases_.at[{ip.block, ip.instance, int(segment)}] = ip.bases[segment];
  hw::RegisterMap map(rows, generation_, bases_);
  for (auto& [address, name] : map.all()) {
    std::string_view n = name.layout->name;
    bool queue = n.starts_with("CP_HQD_") || n.starts_with("CP_MQD_") || n.starts_with("COMPUTE_");
    known_[address] = {name, queue ? Known::QUEUE : n.starts_with("SH_MEM_") ? Known::VMID : Known::NONE};
  }
  power_on();
}
AmdModel::~AmdModel() { ::munmap(vram_, vram_bytes_); }

void AmdModel::power_on() {
  cells_.clear(), queues_.clear(), l2_.clear(), vector_.clear(), scalar_.clear(), instruction_.clear(), hdp_.clear();
  tlb_[0].clear(), tlb_[1].clear(), firmware_.clear(), sos_components_.clear();
  for (CopyEngine& e : engines_) e = {};
  aperture_[0] = aperture_[1] = {};
  mapping_epoch++;
  sos_ = tmr_ = smu_features_ = false, rlc_done_ns_ = 0, psp_rptr_ = 0, smu_table_ = 0;
  ppt_limit_ = 300;
  for (int hub : {GFXHUB, MMHUB_HUB}) {
    raw<MC_VM_FB_LOCATION_BASE>(0, hub) = u32(row_.memory_base >> 24);
    raw<MC_VM_FB_LOCATION_TOP>(0, hub) = u32((row_.memory_base + vram_bytes_ - 1) >> 24);
  }
  raw<RCC_CONFIG_MEMSIZE>() = u32(vram_bytes_ >> 20);
  raw<BIF_BX0_REMAP_HDP_MEM_FLUSH_CNTL>() = hdp_flush_byte;
  raw<MP0_SMN_C2PMSG_35>() = pack32(PSP_MAILBOX{.ready = 1}, generation_);
  raw<CP_MEC_RS64_CNTL>() = pack32(CP_MEC_RS64_CNTL{.mec_halt = 1}, GFX11);
  for (int e = 0; e < 2; e++)
    if (generation_ == GFX12)
      raw<SDMA0_MCU_CNTL>(e) = pack32(SDMA0_MCU_CNTL{.halt = 1}, generation_);
    else
      raw<SDMA0_F32_CNTL>(e) = pack32(SDMA0_F32_CNTL{.halt = 1}, generation_);
  write_discovery();
}
void AmdModel::mode1_reset() {
  if (bus_master()) object("mode1 reset while bus mastering is on: what the chip had in flight went nowhere");
  reset_until_ns_ = now_ns + mode1_ns;
  power_on();
}
void AmdModel::reset(hw::Reset kind) {
  reset_until_ns_ = now_ns + (kind == hw::Reset::FUNCTION ? function_reset_ns : mode1_ns);
  power_on();
}
void AmdModel::inject(Injection what) {
  std::lock_guard lock(mutex);
  break_now(what);
}
void AmdModel::break_now(Injection what) {
  switch (what) {
    case Injection::HANG: hang_next_ = true; break;
    case Injection::PAGE_FAULT: fault_next_ = true; break;
    case Injection::LOST_DOORBELL: lose_doorbell_ = true; break;
    case Injection::PSP_REFUSAL: refuse_psp_ = true; break;
    case Injection::ECC: {
      auto status = reg<BIF_BX0_BIF_DOORBELL_INT_CNTL>();
      status.ras_cntlr_interrupt_status = 1;
      raw<BIF_BX0_BIF_DOORBELL_INT_CNTL>() = pack32(status, generation_);
      interrupt({.client_id = IH_CLIENT::GRBM_CP, .source_id = IH_SOURCE::CP_ECC_ERROR});
      break;
    }
    case Injection::SURPRISE_REMOVAL: gone = true, mapping_epoch++; break;
  }
}

void AmdModel::plug_in() {
  std::lock_guard lock(mutex);
  gone = false;
  power_on();
}

// ---- registers -----------------------------------------------------------------------------------------------------
u32& AmdModel::cell(const Layout& layout, int index, int copy, u32 bank) {
  auto [place, added] = places_.try_emplace(&layout);
  if (added)
    for (int c = 0; c < 2; c++)
      place->second[size_t(c)] =
          layout.where[c][generation_].exists() ? register_address(layout, generation_, bases_, c) : ~u64(0);
  u64 first = place->second[size_t(copy)];
  check(first != ~u64(0) && index < layout.count, layout.name, " ", index);
  return cells_[(first + u64(index) * layout.stride) | u64(bank) << 40];
}
const AmdModel::Known* AmdModel::find(u64 dword_address) const {
  auto i = known_.find(dword_address);
  return i == known_.end() ? nullptr : &i->second;
}
// Queues are numbered by GRBM_GFX_CNTL's own bits: queue, me and pipe; VMIDs by theirs. 0 is a bank too.
u32 AmdModel::bank_of(const Known& known) const {
  auto* self = const_cast<AmdModel*>(this);
  auto select = self->reg<GRBM_GFX_CNTL>();
  if (known.bank == Known::QUEUE) return u32(1 + (select.meid << 5 | select.pipeid << 3 | select.queueid));
  return known.bank == Known::VMID ? u32(1 + select.vmid) : 0;
}
std::string AmdModel::where_is(u64 dword_address) const {
  const Known* known = find(dword_address);
  if (known) return known->name.text();
  std::string near = "below all registers";
  u64 best = 0;
  for (auto& [address, k] : known_)
    if (address < dword_address && address >= best)
      best = address, near = str(dword_address - address, " after ", k.name.text());
  return near;
}

u32 AmdModel::register_read(u64 offset) {
  if (now_ns < reset_until_ns_) return ~u32(0);
  if (offset == hdp_flush_byte) return 0;
  return read(offset / 4, true);
}
void AmdModel::register_write(u64 offset, u32 value) {
  if (now_ns < reset_until_ns_) return object(str("write to ", where_is(offset / 4), " during a reset"));
  if (offset == hdp_flush_byte) return flush_hdp();
  write(offset / 4, value, true);
}

u32 AmdModel::read(u64 address, bool from_host) {
  const Known* known = find(address);
  if (!known) {
    if (from_host) throw Error("model: read of an unknown register at dword ", hex(address), ", ", where_is(address));
    return ~u32(0);
  }
  const Layout* l = known->name.layout;
  u32 bank = bank_of(*known);
  u32& value = cells_[address | u64(bank) << 40];
  if (l == &layout_MM_DATA) {
    u64 at = u64(reg<MM_INDEX>().mm_offset) | u64(raw<MM_INDEX_HI>()) << 31;
    u32 out = 0;
    if (!reg<MM_INDEX>().mm_aper) return object("MM_DATA without the aperture bit of MM_INDEX"), 0;
    memory_read(at, &out, 4);
    return out;
  }
  if (l == &layout_BIF_BX_PF0_RSMU_DATA) return read(raw<BIF_BX_PF0_RSMU_INDEX>() / 4, from_host);
  if (l == &layout_SQ_IND_DATA) return wave_register();
  if (l == &layout_VM_INVALIDATE_ENG0_SEM) return !std::exchange(value, 1);  // 1: taken by this read
  if (l == &layout_CP_HQD_PQ_RPTR) {
    auto q = queues_.find(bank);
    return q == queues_.end() || q->second.streams.empty() ? value : u32(q->second.streams.front().at);
  }
  if (l == &layout_RLC_RLCS_BOOTLOAD_STATUS)
    return firmware_running() ? pack32(RLC_RLCS_BOOTLOAD_STATUS{.bootload_complete = 1}, generation_) : 0;
  if (l == &layout_CP_STAT) return rlc_done_ns_ && !firmware_running() ? pack32(CP_STAT{.cp_busy = 1}, generation_) : 0;
  if (l == &layout_MP0_SMN_C2PMSG_81) return sos_ && now_ns >= psp_ready_ns_ ? 1 : 0;
  if ((l == &layout_MP0_SMN_C2PMSG_35 || l == &layout_MP0_SMN_C2PMSG_64) && now_ns < psp_ready_ns_) return 0;
  return value;
}

bool AmdModel::write(u64 address, u32 value, bool from_host) {
  const Known* known = find(address);
  if (!known) {
    if (from_host)
      throw Error("model: write of ", hex(value), " to an unknown register at dword ", hex(address), ", ",
                  where_is(address));
    return false;
  }
  if (known->name.layout == &layout_BIF_BX_PF0_RSMU_DATA)
    return write(raw<BIF_BX_PF0_RSMU_INDEX>() / 4, value, from_host);
  if (from_host && address >= mmio_dwords && address != raw<BIF_BX_PF0_RSMU_INDEX>() / 4)
    object(str("direct access to ", known->name.text(), ", which is outside of BAR 5"));
  u32 bank = bank_of(*known);
  cells_[address | u64(bank) << 40] = value;
  aperture_[0].known = aperture_[1].known = false;
  mapping_epoch++;
  written(*known, value, bank);
  return true;
}

// What a write sets off.
void AmdModel::written(const Known& known, u32 value, u32 bank) {
  const Layout* l = known.name.layout;
  int index = known.name.index, copy = known.name.copy;
  if (l == &layout_MM_DATA) {
    u64 at = u64(reg<MM_INDEX>().mm_offset) | u64(raw<MM_INDEX_HI>()) << 31;
    memory_write(at, &value, 4);
  } else if (l == &layout_BIF_BX_PF0_GPU_HDP_FLUSH_REQ) {
    flush_hdp();
    raw<BIF_BX_PF0_GPU_HDP_FLUSH_DONE>() = value;
  } else if (l == &layout_BIF_BX0_BIF_DOORBELL_INT_CNTL) {
    auto r = unpack32<BIF_BX0_BIF_DOORBELL_INT_CNTL>(value, generation_);
    if (r.ras_cntlr_interrupt_clear) r.ras_cntlr_interrupt_status = 0;
    if (r.ras_athub_err_event_interrupt_clear) r.ras_athub_err_event_interrupt_status = 0;
    r.ras_cntlr_interrupt_clear = r.ras_athub_err_event_interrupt_clear = 0;
    raw<BIF_BX0_BIF_DOORBELL_INT_CNTL>() = pack32(r, generation_);
  } else if (l == &layout_VM_INVALIDATE_ENG0_REQ) {
    auto r = unpack32<VM_INVALIDATE_ENG0_REQ>(value, generation_);
    if (r.invalidate_l2_ptes && r.invalidate_l1_ptes)
      invalidate_tlb(Hub(copy), u32(r.per_vmid_invalidate_req));
    else
      object(str(known.name.text(), " invalidates no translations: L1 and L2 have to be asked for"));
    if (r.clear_protection_fault_status_addr) raw<VM_L2_PROTECTION_FAULT_STATUS>(0, copy) = 0;
    raw<VM_INVALIDATE_ENG0_ACK>(index, copy) = u32(r.per_vmid_invalidate_req);
  } else if (l == &layout_VM_L2_CNTL2) {
    if (unpack32<VM_L2_CNTL2>(value, generation_).invalidate_l2_cache) invalidate_tlb(Hub(copy), ~u32(0));
  } else if (l == &layout_VM_L2_PROTECTION_FAULT_CNTL) {
    if (unpack32<VM_L2_PROTECTION_FAULT_CNTL>(value, generation_).clear_protection_fault_status_addr)
      raw<VM_L2_PROTECTION_FAULT_STATUS>(0, copy) = 0;
  } else if (l == &layout_MP0_SMN_C2PMSG_35) {
    bootloader(value);
  } else if (l == &layout_MP0_SMN_C2PMSG_64) {
    psp_mailbox(value);
  } else if (l == &layout_MP0_SMN_C2PMSG_67) {
    psp_ring();
  } else if (l == &layout_MP1_SMN_C2PMSG_66) {
    smu_message(false);
  } else if (l == &layout_MP1_SMN_C2PMSG_75) {
    smu_message(true);
  } else if (l == &layout_CP_HQD_ACTIVE) {
    value & 1 ? activate(bank) : void(queues_.erase(bank));
  } else if (l == &layout_RLC_SAFE_MODE) {
    auto r = unpack32<RLC_SAFE_MODE>(value, generation_);
    r.cmd = 0;
    raw<RLC_SAFE_MODE>() = pack32(r, generation_);
  } else if (l == &layout_GRBM_SOFT_RESET) {
    auto r = unpack32<GRBM_SOFT_RESET>(value, generation_);
    if (r.soft_reset_cp || r.soft_reset_cpc)
      for (auto& [b, queue] : queues_) queue.halted.clear(), queue.pending.clear(), queue.running = queue.hung = false;
    if (generation_ != GFX94 && r.soft_reset_sdma0) engines_[0] = {};
    if (generation_ != GFX94 && r.soft_reset_sdma1) engines_[1] = {};
  } else if (l == &layout_IH_RB_CNTL) {
    auto r = unpack32<IH_RB_CNTL>(value, generation_);
    if (r.wptr_overflow_clear) raw<IH_RB_WPTR>(index) &= ~u32(1);
  } else if (l == &layout_SDMA0_QUEUE0_RB_WPTR || l == &layout_SDMA0_QUEUE0_RB_WPTR_HI) {
    engines_[index].wptr = pair<SDMA0_QUEUE0_RB_WPTR, SDMA0_QUEUE0_RB_WPTR_HI>(index);
  } else if (l == &layout_SDMA0_QUEUE0_RB_RPTR || l == &layout_SDMA0_QUEUE0_RB_CNTL) {
    if (!unpack32<SDMA0_QUEUE0_RB_CNTL>(raw<SDMA0_QUEUE0_RB_CNTL>(index), generation_).rb_enable)
      engines_[index].streams.clear();
  }
}

// ---- doorbells -----------------------------------------------------------------------------------------------------
void AmdModel::drop_doorbell(u64 offset, std::string why) {
  object(str("doorbell at ", hex(offset), " dropped: ", why));
}
void AmdModel::doorbell(u64 offset, u64 value) {
  if (now_ns < reset_until_ns_) return;
  if (std::exchange(lose_doorbell_, false)) return;
  if (!reg<RCC_DEV0_EPF0_RCC_DOORBELL_APER_EN>().bif_doorbell_aper_en)
    return drop_doorbell(offset, "the aperture is off");
  auto routed = [&](int port) {
    auto entry = reg<S2A_DOORBELL_ENTRY_0_CTRL>(port);
    u64 first = entry.range_offset * 4, bytes = entry.range_size * 4;
    return entry.enable && (!bytes || (offset >= first && offset < first + bytes * 2));
  };
  bool matched = false;
  u64 lower = raw<CP_MEC_DOORBELL_RANGE_LOWER>(), upper = raw<CP_MEC_DOORBELL_RANGE_UPPER>();
  for (auto& [bank, queue] : queues_) {
    auto control = reg<CP_HQD_PQ_DOORBELL_CONTROL>(0, 0, bank);
    if (!control.doorbell_en || control.doorbell_offset * 4 != offset) continue;
    if (!routed(DOORBELL_PORT::CP)) return drop_doorbell(offset, "port CP is not routed");
    if (offset < lower || offset > upper) return drop_doorbell(offset, "outside of CP_MEC_DOORBELL_RANGE");
    control.doorbell_hit = 1;
    raw<CP_HQD_PQ_DOORBELL_CONTROL>(0, 0, bank) = pack32(control, generation_);
    raw<CP_HQD_PQ_WPTR_LO>(0, 0, bank) = u32(value), raw<CP_HQD_PQ_WPTR_HI>(0, 0, bank) = u32(value >> 32);
    matched = true;
  }
  for (int e = 0; e < 2; e++) {
    if (!reg<SDMA0_QUEUE0_DOORBELL>(e).enable || reg<SDMA0_QUEUE0_DOORBELL_OFFSET>(e).offset * 4 != offset) continue;
    if (!routed(DOORBELL_PORT::SDMA)) return drop_doorbell(offset, "port SDMA is not routed there");
    engines_[e].wptr = value;
    raw<SDMA0_QUEUE0_RB_WPTR>(e) = u32(value), raw<SDMA0_QUEUE0_RB_WPTR_HI>(e) = u32(value >> 32);
    matched = true;
  }
  if (!matched) drop_doorbell(offset, "no queue has it");
}

// ---- interrupts ----------------------------------------------------------------------------------------------------
void AmdModel::interrupt(const IH_ENTRY& given) {
  auto control = reg<IH_RB_CNTL>();
  if (!control.rb_enable) return;
  IH_ENTRY entry = given;
  entry.timestamp = u64(now_ns / 10) & ((u64(1) << 48) - 1);
  std::vector<u32> words = pack(entry, generation_);
  u64 base = (u64(raw<IH_RB_BASE>()) | u64(reg<IH_RB_BASE_HI>().addr) << 32) << 8, bytes = u64(4) << control.rb_size;
  u64 wptr = reg<IH_RB_WPTR>().offset * 4, rptr = reg<IH_RB_RPTR>().offset * 4;
  u64 next = (wptr + words.size() * 4) % bytes;
  IH_RB_WPTR pointer{.offset = next / 4};
  if (next == rptr) {  // full: the entry is lost
    pointer = reg<IH_RB_WPTR>();
    pointer.rb_overflow = control.wptr_overflow_enable;
    object("an interrupt was lost: the ring is full");
  } else if (!access(IH_MEMORY, 0, base + wptr, words.data(), i64(words.size() * 4), true)) {
    return object(str("an interrupt was lost: its ring at ", hex(base), " cannot be written"));
  }
  raw<IH_RB_WPTR>() = pack32(pointer, generation_);
  u64 copy_to = u64(reg<IH_RB_WPTR_ADDR_HI>().addr) << 32 | (u64(reg<IH_RB_WPTR_ADDR_LO>().addr) << 2);
  u32 shadow = raw<IH_RB_WPTR>();
  if (control.wptr_writeback_enable) access(IH_MEMORY, 0, copy_to, &shadow, 4, true);
  if (control.enable_intr) raise_interrupt();
}

// ---- discovery -----------------------------------------------------------------------------------------------------
void AmdModel::write_discovery() {
  std::vector<u32> binary(DISCOVERY::SIZE / 4);
  auto place = [&](u64 byte, const std::vector<u32>& words) {
    for (size_t i = 0; i < words.size(); i++) memcpy(reinterpret_cast<u8*>(binary.data()) + byte + 4 * i, &words[i], 4);
    return byte + 4 * words.size();
  };
  constexpr u64 ip_table = 256, die = 512, gc_table = 4096;  // bytes
  u64 at = die + 4, count = 0;
  for (const IpRow& ip : ip_rows()) {
    if (ip.target != options_.target) continue;
    count++;
    at = place(at, pack(IP_RECORD{.hw_id = block_ids[ip.block],
                                  .instance_number = ip.instance,
                                  .num_base_address = ip.bases.size(),
                                  .major = ip.major,
                                  .minor = ip.minor,
                                  .revision = ip.revision},
                        generation_));
    for (u64 base : ip.bases) at = place(at, {u32(base)});
  }
  place(die, pack(DIE_HEADER{.num_ips = count}, generation_));
  place(ip_table, pack(IP_DISCOVERY_HEADER{.signature = IP_DISCOVERY_HEADER::DISCOVERY_TABLE_SIGNATURE,
                                           .version = 4,
                                           .size = at - ip_table,
                                           .num_dies = 1},
                       generation_));
  place(ip_table + DISCOVERY::DIE_INFO, pack(DIE_INFO{.die_offset = die}, generation_));
  u64 gc = place(gc_table,
                 pack(
                     GPU_INFO_HEADER{
                         .table_id = GPU_INFO_HEADER::GC_TABLE_ID, .version_major = 1, .version_minor = 1, .size = 100},
                     generation_));
  place(gc, pack(GC_INFO_V1{.gc_num_se = row_.shader_engines,
                            .gc_num_wgp0_per_sa = row_.wgps,
                            .gc_wave_size = 32,
                            .gc_max_waves_per_simd = 16,
                            .gc_max_scratch_slots_per_cu = 32,
                            .gc_lds_size = 128,
                            .gc_num_sa_per_se = row_.arrays},
                 generation_));
  u64 tables = 12;
  auto table = [&](u64 which, u64 offset, u64 size) {
    place(tables + 8 * which, pack(TABLE_INFO{.offset = offset, .size = size}, generation_));
  };
  table(DISCOVERY_TABLE::IP_DISCOVERY, ip_table, at - ip_table);
  table(DISCOVERY_TABLE::GC, gc_table, 100);
  BINARY_HEADER header{
      .binary_signature = BINARY_HEADER::BINARY_SIGNATURE, .version_major = 1, .binary_size = DISCOVERY::SIZE};
  place(0, pack(header, generation_));
  const u8* bytes = reinterpret_cast<const u8*>(binary.data());
  for (u64 i = DISCOVERY::CHECKSUM_START; i < DISCOVERY::SIZE; i++)
    header.binary_checksum = (header.binary_checksum + bytes[i]) & ((1 << 16) - 1);
  place(0, pack(header, generation_));
  memcpy(vram_ + vram_bytes_ - DISCOVERY::OFFSET, bytes, DISCOVERY::SIZE);
}

// ---- time ----------------------------------------------------------------------------------------------------------
void AmdModel::run(i64 ns) {
  if (now_ns < reset_until_ns_) return;
  for (auto& [bank, queue] : queues_) run_queue(queue, ns);
  for (int e = 0; e < 2; e++) run_engine(e, ns);
}

std::string AmdModel::state() const {
  std::string out =
      str(options_.target, " model, ", vram_bytes_ >> 20, " MiB, t = ", now_ns, " ns", gone ? ", gone" : "", "\n");
  for (auto& [bank, q] : queues_)
    out += str("queue ", bank - 1, ": ", q.halted.empty() ? q.running ? "runs a dispatch" : "runs" : q.halted,
               ", last ", q.last.text(generation_), "\n");
  for (int e = 0; e < 2; e++)
    if (!engines_[e].streams.empty())
      out += str("SDMA", e, ": ", engines_[e].halted.empty() ? "runs" : engines_[e].halted, ", last ",
                 engines_[e].last.text(generation_), "\n");
  for (auto& what : objections) out += str("objection: ", what, "\n");
  return out;
}

std::unique_ptr<Chip> make_amd(const AmdOptions& options) { return std::make_unique<AmdModel>(options); }

}  // namespace ingot::model
