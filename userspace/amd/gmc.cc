// SPDX-License-Identifier: MIT
// Memory: the two hubs (GFXHUB translates for shaders, command processor and copy engines; MMHUB for the rest), one
// address space of four levels in VMID 0, VRAM, host memory. Linux, amdgpu/gfxhub_v3_0.c, mmhub_v3_0.c, gmc_v11_0.c;
// tinygrad, runtime/support/am/ip.py, which also runs everything in VMID 0.
//
// Invariants. Context 0 starts at address 0, so that a virtual address indexes the tables directly. Both hubs have the
// same root and both are told of every change before memory is used again. The boot region is handed out in the same
// order by every process: a warm attach finds ring and tables where the last process had them.
#include <algorithm>
#include "userspace/amd/amd.h"

namespace ingot::amd {
namespace {

// Ours: tables, firmware and rings in the first 32 MiB; the PSP's trusted memory and the discovery table in the
// last 64.
constexpr i64 boot_bytes = 32 * mib, reserved_bytes = 64 * mib;
constexpr u64 va_base = u64(1) << 45, va_end = u64(1) << 47;  // above what a host address or a null pointer looks like
constexpr int levels = 4, invalidate_engine = 17, invalidate_engines = 18;
constexpr PageLevel page_level[levels] = {{39, 9, false}, {30, 9}, {21, 9}, {12, 9}};
constexpr int ptb = 3, pdb0 = 2, pdb1 = 1;

u64 low32(u64 v) { return v & ~u32(0); }
i64 round_up(i64 n, i64 unit) { return (n + unit - 1) / unit * unit; }

}  // namespace

std::span<const PageLevel> page_levels() { return page_level; }

u64 leaf_entry(Generation g, int level, u64 physical, PageFlags f, int fragment) {
  PTE e{.valid = 1,
        .system = f.system,
        .snooped = f.snooped,
        .executable = f.execute,
        .readable = f.read,
        .writeable = f.write,
        .fragment = u64(std::min(fragment, 31)),
        .address = physical >> 12,
        .mtype = f.uncached ? PTE::MTYPE_UC : 0};
  // Which entries say that they are leaves: gfx12 all; before, those that are not in the last level, where in gfx9's
  // PDB0 it is the absence of `tf` that says so.
  e.pde_pte = g == GFX12 || (level != ptb && !(g == GFX94 && level == pdb0));
  return pack64(e, g);
}
u64 table_entry(Generation g, int level, u64 physical) {
  PDE e{.valid = 1, .address = physical >> 12};
  if (g == GFX94) e.block_fragment_size = level == pdb1 ? 9 : 0, e.tf = level == pdb0;
  return pack64(e, g);
}

Gmc::Gmc(Chip& chip)
    : chip_(chip),
      boot_(0, std::min(boot_bytes, chip.vram_bytes), page_bytes),
      vram_(u64(boot_bytes), std::max<i64>(0, chip.vram_bytes - boot_bytes - reserved_bytes), page_bytes),
      va_(va_base, i64(va_end - va_base), page_bytes) {
  fb_base_ = chip.read<MC_VM_FB_LOCATION_BASE>({.hub = MMHUB_HUB}).fb_base << 24;
  fb_end_ = chip.read<MC_VM_FB_LOCATION_TOP>({.hub = MMHUB_HUB}).fb_top << 24;
  scratch_page_ = alloc_boot(page_bytes);
  dummy_page_ = alloc_boot(page_bytes);
}
void Gmc::create_tables() { tables_ = std::make_unique<PageTables>(*this, page_level); }

u64 Gmc::alloc_boot(i64 bytes, i64 align) {
  std::optional<u64> at = boot_.alloc(bytes, align);
  if (!at) throw DeviceError(str("no room for ", bytes, " bytes in the boot region of VRAM"), "");
  return *at;
}

// ---- hubs ----------------------------------------------------------------------------------------------------------
void Gmc::init_hub(Hub hub) {
  At at{.hub = hub};
  Chip& c = chip_;
  // No AGP aperture: its bottom is above its top.
  c.write(MC_VM_AGP_BASE{}, at);
  c.write(MC_VM_AGP_BOT{.agp_bot = (u64(1) << 24) - 1}, at);
  c.write(MC_VM_AGP_TOP{}, at);
  // Addresses of the frame buffer aperture are VRAM; stray ones go to a page of their own.
  c.write(MC_VM_SYSTEM_APERTURE_LOW_ADDR{.logical_addr = fb_base_ >> 18}, at);
  c.write(MC_VM_SYSTEM_APERTURE_HIGH_ADDR{.logical_addr = fb_end_ >> 18}, at);
  c.write(MC_VM_SYSTEM_APERTURE_DEFAULT_ADDR_LSB{.physical_page_number_lsb = low32(scratch_page_ >> 12)}, at);
  c.write(MC_VM_SYSTEM_APERTURE_DEFAULT_ADDR_MSB{.physical_page_number_msb = scratch_page_ >> 44}, at);
  c.write(VM_L2_PROTECTION_FAULT_DEFAULT_ADDR_LO32{.physical_page_addr_lo32 = low32(dummy_page_ >> 12)}, at);
  c.write(VM_L2_PROTECTION_FAULT_DEFAULT_ADDR_HI32{.physical_page_addr_hi4 = dummy_page_ >> 44}, at);
  c.update<VM_L2_PROTECTION_FAULT_CNTL2>([](auto& r) { r.active_page_migration_pte_read_retry = 1; }, at);
  c.update<MC_VM_MX_L1_TLB_CNTL>(
      [](auto& r) {
        r.enable_l1_tlb = 1, r.system_access_mode = 3, r.enable_advanced_driver_model = 1;
        r.system_aperture_unmapped_access = 0, r.mtype = PTE::MTYPE_UC;
      },
      at);
  c.update<VM_L2_CNTL>(
      [](auto& r) {
        r.enable_l2_cache = 1, r.enable_default_page_out_to_system_memory = 1, r.enable_l2_fragment_processing = 0;
        r.l2_pde0_cache_tag_generation_mode = 0, r.pde_fault_classification = 0;
        r.context1_identity_access_mode = 1, r.identity_mode_fragment_size = 0;
      },
      at);
  c.update<VM_L2_CNTL2>([](auto& r) { r.invalidate_all_l1_tlbs = 1, r.invalidate_l2_cache = 1; }, at);
  c.write(VM_L2_CNTL3{.bank_select = 9,
                      .l2_cache_bigk_fragment_size = 6,
                      .l2_cache_bigk_associativity = 1,
                      .l2_cache_4k_associativity = 1},
          at);
  c.write(VM_L2_CNTL4{.l2_cache_4k_partition_count = 1}, at);
  c.write(VM_L2_CNTL5{.walker_priority_client_id = 511}, at);
  // Context 0: all addresses, all faults reported and answered with the dummy page.
  u64 last = (va_end - 1) >> 12, root = pack64(PDE{.valid = 1, .address = tables_->root() >> 12}, c.generation());
  c.write(VM_CONTEXT0_PAGE_TABLE_START_ADDR_LO32{}, at);
  c.write(VM_CONTEXT0_PAGE_TABLE_START_ADDR_HI32{}, at);
  c.write(VM_CONTEXT0_PAGE_TABLE_END_ADDR_LO32{.logical_page_number_lo32 = low32(last)}, at);
  c.write(VM_CONTEXT0_PAGE_TABLE_END_ADDR_HI32{.logical_page_number_hi4 = last >> 32}, at);
  c.write(VM_CONTEXT0_PAGE_TABLE_BASE_ADDR_LO32{.page_directory_entry_lo32 = low32(root)}, at);
  c.write(VM_CONTEXT0_PAGE_TABLE_BASE_ADDR_HI32{.page_directory_entry_hi32 = root >> 32}, at);
  VM_CONTEXT0_CNTL context{.enable_context = 1,
                           .page_table_depth = levels - 1,
                           .range_protection_fault_enable_interrupt = 1,
                           .range_protection_fault_enable_default = 1,
                           .dummy_page_protection_fault_enable_interrupt = 1,
                           .dummy_page_protection_fault_enable_default = 1,
                           .pde0_protection_fault_enable_interrupt = 1,
                           .pde0_protection_fault_enable_default = 1,
                           .valid_protection_fault_enable_interrupt = 1,
                           .valid_protection_fault_enable_default = 1,
                           .read_protection_fault_enable_interrupt = 1,
                           .read_protection_fault_enable_default = 1,
                           .write_protection_fault_enable_interrupt = 1,
                           .write_protection_fault_enable_default = 1,
                           .execute_protection_fault_enable_interrupt = 1,
                           .execute_protection_fault_enable_default = 1};
  c.write_raw(layout_VM_CONTEXT0_CNTL, pack32(context, c.generation()) | u32(CONTEXT_CNTL::CONTEXT_CNTL_KEPT), at);
  // No identity aperture: its low end is above its high end.
  c.write(VM_L2_CONTEXT1_IDENTITY_APERTURE_LOW_ADDR_LO32{.logical_page_number_lo32 = ~u32(0)}, at);
  c.write(VM_L2_CONTEXT1_IDENTITY_APERTURE_LOW_ADDR_HI32{.logical_page_number_hi4 = 15}, at);
  c.write(VM_L2_CONTEXT1_IDENTITY_APERTURE_HIGH_ADDR_LO32{}, at);
  c.write(VM_L2_CONTEXT1_IDENTITY_APERTURE_HIGH_ADDR_HI32{}, at);
  c.write(VM_L2_CONTEXT_IDENTITY_PHYSICAL_OFFSET_LO32{}, at);
  c.write(VM_L2_CONTEXT_IDENTITY_PHYSICAL_OFFSET_HI32{}, at);
  for (int engine = 0; engine < invalidate_engines; engine++) {
    At of{.hub = hub, .index = engine};
    c.write(VM_INVALIDATE_ENG0_ADDR_RANGE_LO32{.s_bit = 1, .logi_page_addr_range_lo31 = (u64(1) << 31) - 1}, of);
    c.write(VM_INVALIDATE_ENG0_ADDR_RANGE_HI32{.logi_page_addr_range_hi5 = 31}, of);
  }
  ready_[hub] = true;
}

// A hub that is not set up yet has nothing to forget, and does not answer.
void Gmc::invalidate(Hub hub) {
  chip_.flush_hdp();
  if (!ready_[hub]) return;
  Chip& c = chip_;
  At at{.hub = hub, .index = invalidate_engine};
  std::string name = str(hubs[hub].prefix, "HUB's TLB invalidation");
  if (hub == MMHUB_HUB)  // shared with the firmware: the engine is taken by reading a one
    c.wait<VM_INVALIDATE_ENG0_SEM>(
        str(name, " (semaphore)"), 100 * ms, [](auto& r) { return r.semaphore; }, at);
  else
    c.read<VM_L2_PROTECTION_FAULT_STATUS>({.hub = hub});  // Linux: without this read the hub may drop the request
  c.write(VM_INVALIDATE_ENG0_REQ{.per_vmid_invalidate_req = 1,
                                 .invalidate_l2_ptes = 1,
                                 .invalidate_l2_pde0 = 1,
                                 .invalidate_l2_pde1 = 1,
                                 .invalidate_l2_pde2 = 1,
                                 .invalidate_l1_ptes = 1},
          at);
  c.wait<VM_INVALIDATE_ENG0_ACK>(
      name, 100 * ms, [](auto& r) { return r.per_vmid_invalidate_ack & 1; }, at);
  if (hub == MMHUB_HUB) {
    c.write(VM_INVALIDATE_ENG0_SEM{}, at);
    c.update<VM_L2_BANK_SELECT_RESERVED_CID2>([](auto& r) { r.reserved_cache_private_invalidation = 1; }, {.hub = hub});
    c.read<VM_L2_BANK_SELECT_RESERVED_CID2>({.hub = hub});
  }
}

std::optional<Gmc::Fault> Gmc::fault(Hub hub) {
  At at{.hub = hub};
  u32 status = chip_.read_raw(layout_VM_L2_PROTECTION_FAULT_STATUS, at);
  if (!status) return {};
  u64 page = chip_.read<VM_L2_PROTECTION_FAULT_ADDR_LO32>(at).logical_page_addr_lo32 |
             chip_.read<VM_L2_PROTECTION_FAULT_ADDR_HI32>(at).logical_page_addr_hi4 << 32;
  return Fault{page << 12, chip_.describe_register(layout_VM_L2_PROTECTION_FAULT_STATUS, at)};
}
void Gmc::clear_fault(Hub hub) {
  chip_.update<VM_L2_PROTECTION_FAULT_CNTL>([](auto& r) { r.clear_protection_fault_status_addr = 1; }, {.hub = hub});
  chip_.update<VM_L2_PROTECTION_FAULT_CNTL>([](auto& r) { r.clear_protection_fault_status_addr = 0; }, {.hub = hub});
}

// ---- for the page tables -------------------------------------------------------------------------------------------
u64 Gmc::leaf_entry(int level, u64 physical, PageFlags flags, int fragment) const {
  return amd::leaf_entry(chip_.generation(), level, physical, flags, fragment);
}
u64 Gmc::table_entry(int level, u64 physical) const { return amd::table_entry(chip_.generation(), level, physical); }
// Where the host can write quickly however small BAR 0 is, while there is room.
std::optional<u64> Gmc::alloc_table(i64 bytes) {
  if (auto at = boot_.alloc(bytes, bytes)) return at;
  return vram_.alloc(bytes, bytes);
}
void Gmc::free_table(u64 physical, i64) { (i64(physical) < boot_bytes ? boot_ : vram_).free(physical); }
void Gmc::write(u64 physical, std::span<const u64> words) {
  chip_.write_vram(physical, words.data(), i64(words.size_bytes()));
}
void Gmc::invalidate(u64, i64) {
  invalidate(MMHUB_HUB);
  invalidate(GFXHUB);
}

// ---- allocations ---------------------------------------------------------------------------------------------------
namespace {
template <class F>
struct Unless {  // undoes what a failing function has done so far
  F undo;
  bool done = false;
  ~Unless() {
    if (!done) undo();
  }
};
template <class F>
Unless(F) -> Unless<F>;
}  // namespace

// Aligned so that large entries can be used, and followed by a page that is never mapped: an overrun faults.
void Gmc::place(Memory& m, std::span<const PhysicalRun> runs, PageFlags flags) {
  i64 align = std::min<i64>(i64(std::bit_ceil(u64(m.bytes))), 2 * mib);
  std::optional<u64> va = va_.alloc(m.bytes + page_bytes, align);
  if (!va) throw DeviceError(str("no virtual addresses left for ", m.bytes, " bytes"), "");
  Unless guard{[&] { va_.free(*va); }};
  tables_->map(*va, runs, flags);
  m.va = *va;
  guard.done = true;
}

Memory Gmc::alloc_vram(i64 bytes, bool uncached) {
  free_discarded();
  Memory m;
  m.bytes = round_up(std::max<i64>(bytes, 1), page_bytes);
  i64 align = std::min<i64>(i64(std::bit_floor(u64(m.bytes))), 2 * mib);
  std::optional<u64> at = vram_.alloc(m.bytes, align);
  if (!at) at = vram_.alloc(m.bytes);
  if (!at)
    throw DeviceError(str("out of memory: ", bytes, " bytes of VRAM"),
                      str("  VRAM: ", chip_.vram_bytes, " bytes, free ", vram_.free_bytes(), ", largest block ",
                          vram_.largest(), "\n"));
  Unless guard{[&] { vram_.free(*at); }};
  m.paddr = *at;
  PhysicalRun run{m.paddr, m.bytes};
  place(m, {&run, 1}, {.uncached = uncached});
  guard.done = true;
  return m;
}

Memory Gmc::alloc_system(i64 bytes, bool contiguous) {
  free_discarded();
  Memory m;
  m.system = true;
  m.bytes = round_up(std::max<i64>(bytes, 1), page_bytes);
  m.dma = chip_.bus.dma_alloc(m.bytes, contiguous);
  Unless guard{[&] { chip_.bus.dma_free(m.dma); }};
  std::vector<PhysicalRun> runs;
  for (i64 at = 0; at < m.bytes; at += m.dma.page_bytes)
    runs.push_back({m.dma.at(at), std::min(m.dma.page_bytes, m.bytes - at)});
  place(m, runs, {.system = true, .snooped = true, .uncached = true});
  host_[m.va] = {m.dma.host, size_t(m.bytes)};
  guard.done = true;
  return m;
}

void Gmc::free(Memory& m) {
  if (!m.bytes) return;
  tables_->unmap(m.va, m.bytes);
  va_.free(m.va);
  host_.erase(m.va);
  if (m.system)
    chip_.bus.dma_free(m.dma);
  else
    vram_.free(m.paddr);
  m = {};
}
std::span<const u8> Gmc::host(u64 va) const {
  auto after = host_.upper_bound(va);
  if (after == host_.begin()) return {};
  auto& [start, bytes] = *--after;
  return va - start < bytes.size() ? bytes.subspan(va - start) : std::span<const u8>();
}
void Gmc::free_discarded() {
  for (; !discarded_.empty(); discarded_.pop_back()) free(discarded_.back());
}
Gmc::~Gmc() {  // the chip is stopped, or gone
  for (Memory& m : discarded_)
    if (m.system) chip_.bus.dma_free(m.dma);
}

void Gmc::write(const Memory& to, i64 offset, const void* from, i64 bytes) {
  check(offset >= 0 && bytes >= 0 && offset + bytes <= to.bytes, offset, " + ", bytes, " of ", to.bytes);
  if (!bytes) return;  // and perhaps no `from`
  if (to.system)
    std::memcpy(to.dma.host + offset, from, size_t(bytes));
  else
    chip_.write_vram(to.paddr + u64(offset), from, bytes);
}
void Gmc::read(const Memory& from, i64 offset, void* to, i64 bytes) {
  check(offset >= 0 && bytes >= 0 && offset + bytes <= from.bytes, offset, " + ", bytes, " of ", from.bytes);
  if (from.system)
    std::memcpy(to, from.dma.host + offset, size_t(bytes));
  else
    chip_.read_vram(from.paddr + u64(offset), to, bytes);
}

}  // namespace ingot::amd
