// SPDX-License-Identifier: MIT
// A driver in miniature, for tests of the AMD model: each step of the bring-up as one function, so that a test can
// leave one out or do it wrongly. It reaches the chip through hw::Bus only.
#pragma once
#include <functional>
#include "userspace/hw/amd/amd.h"
#include "userspace/model/model.h"

namespace ingot::model {

using namespace amd;

struct FakeShader final : hw::Wave {  // a "program" is a function, chosen by its entry address
  std::map<u64, std::function<bool(const hw::Dispatch&, hw::WaveMemory&)>> programs;
  hw::Dispatch dispatch;
  hw::WaveMemory* memory = nullptr;
  void start(const hw::Dispatch& d, hw::WaveMemory& m) override { dispatch = d, memory = &m; }
  hw::WaveResult step(i64 instructions) override {
    auto p = programs.find(dispatch.entry);
    if (p == programs.end()) return {hw::WaveResult::ILLEGAL_INSTRUCTION, dispatch.entry, "no program", 0};
    if (!p->second) return {hw::WaveResult::RUNNING, dispatch.entry, "", instructions};  // an endless loop
    return {p->second(dispatch, *memory) ? hw::WaveResult::DONE : hw::WaveResult::FAULT, dispatch.entry, "", 1};
  }
  std::vector<hw::WaveReport> waves() const override { return {}; }
};

struct Card {
  Chip& chip;
  ModelBus bus;
  Generation g;
  hw::Bases bases;
  u64 vram_bytes = 0, frame = 0;
  u64 next_page = 1 << 20;  // of VRAM, bump
  // Where things are: virtual addresses, and VRAM offsets.
  static constexpr u64 va_base = u64(1) << 45, ring_va = va_base, data_va = va_base + (1 << 24),
                       sdma_va = va_base + (2 << 24), eop_va = va_base + (3 << 24), system_va = va_base + (4 << 24);
  u64 root = 0, ring = 0, data = 0, sdma_ring = 0, ih_ring = 0, psp_ring = 0, psp_command = 0, psp_fence = 0, image = 0;
  u64 ring_wptr = 0, second_wptr = 0, sdma_wptr = 0, psp_wptr = 0;
  hw::DmaMemory system;

  Card(Chip& c, Generation generation) : chip(c), bus(c), g(generation) {}

  // ---- access
  template <class T>
  u64 address(int index = 0, int copy = 0) {
    return register_address(hw::layout_of<T>, g, bases, copy, index);
  }
  u32 read(u64 dword) {
    if (dword * 4 < u64(bus.bar(5).bytes)) return bus.read32(5, dword * 4);
    bus.write32(5, address<BIF_BX_PF0_RSMU_INDEX>() * 4, u32(dword * 4));
    return bus.read32(5, address<BIF_BX_PF0_RSMU_DATA>() * 4);
  }
  void write(u64 dword, u32 value) {
    if (dword * 4 < u64(bus.bar(5).bytes)) return bus.write32(5, dword * 4, value);
    bus.write32(5, address<BIF_BX_PF0_RSMU_INDEX>() * 4, u32(dword * 4));
    bus.write32(5, address<BIF_BX_PF0_RSMU_DATA>() * 4, value);
  }
  template <class T>
  T get(int index = 0, int copy = 0) {
    return unpack32<T>(read(address<T>(index, copy)), g);
  }
  template <class T>
  u32 get_raw(int index = 0, int copy = 0) {
    return read(address<T>(index, copy));
  }
  template <class T>
  void set(const T& value, int index = 0, int copy = 0) {
    write(address<T>(index, copy), pack32(value, g));
  }
  template <class T>
  void set_raw(u32 value, int index = 0, int copy = 0) {
    write(address<T>(index, copy), value);
  }
  template <class Lo, class Hi>
  void set_pair(u64 value, int index = 0, int copy = 0) {
    set_raw<Lo>(u32(value), index, copy), set_raw<Hi>(u32(value >> 32), index, copy);
  }
  void flush() { write(get_raw<BIF_BX0_REMAP_HDP_MEM_FLUSH_CNTL>() / 4, 0); }
  void vram_write(u64 offset, const std::vector<u32>& words) {
    bus.copy_to(0, offset, words.data(), i64(words.size() * 4));
  }
  std::vector<u32> vram_read(u64 offset, size_t dwords) {
    std::vector<u32> words(dwords);
    bus.copy_from(0, offset, words.data(), i64(dwords * 4));
    return words;
  }
  u64 page(u64 n = 1) { return std::exchange(next_page, next_page + n * 4096); }

  // ---- bring-up, in order
  void pci() {
    bus.config_write(4, 6, 2);     // memory, bus master
    bus.config_write(0xa2, 1, 2);  // MSI
  }
  void discover() {
    bases.at[{FIXED, 0, 0}] = 0;
    vram_bytes = u64(get_raw<RCC_CONFIG_MEMSIZE>()) << 20;
    std::vector<u32> binary = vram_read(vram_bytes - DISCOVERY::OFFSET, DISCOVERY::SIZE / 4);
    const u8* bytes = reinterpret_cast<const u8*>(binary.data());
    auto at = [&](u64 byte, size_t dwords) {
      std::vector<u32> words(dwords);
      memcpy(words.data(), bytes + byte, dwords * 4);
      return words;
    };
    auto header = unpack<BINARY_HEADER>(at(0, 3), g);
    check(header.binary_signature == BINARY_HEADER::BINARY_SIGNATURE, hex(header.binary_signature));
    u64 sum = 0;
    for (u64 i = DISCOVERY::CHECKSUM_START; i < header.binary_size; i++) sum = (sum + bytes[i]) & ((1 << 16) - 1);
    check(sum == header.binary_checksum, "checksum ", sum, " and not ", header.binary_checksum);
    auto table = unpack<TABLE_INFO>(at(12, 2), g);
    auto dies = unpack<IP_DISCOVERY_HEADER>(at(table.offset, 20), g);
    check(dies.signature == IP_DISCOVERY_HEADER::DISCOVERY_TABLE_SIGNATURE && dies.num_dies == 1, hex(dies.signature));
    auto die = unpack<DIE_INFO>(at(table.offset + DISCOVERY::DIE_INFO, 1), g);
    u64 place = die.die_offset;
    u64 records = unpack<DIE_HEADER>(at(place, 1), g).num_ips;
    place += 4;
    for (u64 i = 0; i < records; i++) {
      auto ip = unpack<IP_RECORD>(at(place, 2), g);
      place += 8;
      for (u64 b = 0; b < ip.num_base_address; b++, place += 4)
        for (size_t block = 0; block < std::size(block_ids); block++)
          if (block_ids[block] == ip.hw_id) bases.at[{int(block), int(ip.instance_number), int(b)}] = at(place, 1)[0];
    }
    frame = u64(get<MC_VM_FB_LOCATION_BASE>(0, MMHUB_HUB).fb_base) << 24;
  }
  u64 mc(u64 vram_offset) const { return frame + vram_offset; }

  void map(u64 va, u64 address, u64 pages, PTE flags) {  // tables in VRAM
    if (!root) root = new_table();
    for (u64 i = 0; i < pages; i++) {
      u64 offset = va + i * 4096 - va_base, table = root;
      for (int level = 3; level > 0; level--) {
        u64 slot = table + (offset >> (12 + 9 * level) & 511) * 8;
        std::vector<u32> entry = vram_read(slot, 2);
        PDE pde = unpack<PDE>(entry, g);
        if (!pde.valid) {
          pde = {.valid = 1, .address = new_table() >> 12};
          vram_write(slot, pack(pde, g));
        }
        table = pde.address << 12;
      }
      PTE pte = flags;
      pte.address = (address >> 12) + i;
      vram_write(table + (offset >> 12 & 511) * 8, pack(pte, g));
    }
  }
  u64 new_table() {
    u64 at = page();
    vram_write(at, std::vector<u32>(1024));
    return at;
  }
  PTE vram_flags() const {
    PTE p{.valid = 1, .executable = 1, .readable = 1, .writeable = 1};
    p.pde_pte = g == GFX12;
    return p;
  }
  PTE system_flags() const {
    PTE p = vram_flags();
    p.system = p.snooped = 1, p.mtype = PTE::MTYPE_UC;
    return p;
  }
  void memory() {
    ring = page(16), data = page(64), sdma_ring = page(16);
    u64 eop = page();
    map(ring_va, ring, 16, vram_flags());
    map(data_va, data, 64, vram_flags());
    map(sdma_va, sdma_ring, 16, vram_flags());
    map(eop_va, eop, 1, vram_flags());
    system = bus.dma_alloc(4 * 4096, false);
    for (u64 i = 0; i < 4; i++) map(system_va + i * 4096, system.bus[size_t(i)], 1, system_flags());
    flush();
    hub(MMHUB_HUB);
  }
  void hub(int which) {
    set(MC_VM_SYSTEM_APERTURE_LOW_ADDR{.logical_addr = frame >> 18}, 0, which);
    set(MC_VM_SYSTEM_APERTURE_HIGH_ADDR{.logical_addr = (frame + vram_bytes - 1) >> 18}, 0, which);
    set(
        MC_VM_MX_L1_TLB_CNTL{
            .enable_l1_tlb = 1, .system_access_mode = 3, .enable_advanced_driver_model = 1, .mtype = 3},
        0, which);
    set_pair<VM_CONTEXT0_PAGE_TABLE_START_ADDR_LO32, VM_CONTEXT0_PAGE_TABLE_START_ADDR_HI32>(va_base >> 12, 0, which);
    set_pair<VM_CONTEXT0_PAGE_TABLE_END_ADDR_LO32, VM_CONTEXT0_PAGE_TABLE_END_ADDR_HI32>(
        (va_base + (u64(1) << 44) - 1) >> 12, 0, which);
    set_pair<VM_CONTEXT0_PAGE_TABLE_BASE_ADDR_LO32, VM_CONTEXT0_PAGE_TABLE_BASE_ADDR_HI32>(root | 1, 0, which);
    set(VM_CONTEXT0_CNTL{.enable_context = 1, .page_table_depth = 3}, 0, which);
    invalidate(which);
  }
  void invalidate(int which) {
    set(VM_INVALIDATE_ENG0_REQ{.per_vmid_invalidate_req = 1,
                               .invalidate_l2_ptes = 1,
                               .invalidate_l2_pde0 = 1,
                               .invalidate_l2_pde1 = 1,
                               .invalidate_l2_pde2 = 1,
                               .invalidate_l1_ptes = 1},
        17, which);
    check(get_raw<VM_INVALIDATE_ENG0_ACK>(17, which) & 1, "no answer to an invalidation");
  }
  void interrupts() {
    ih_ring = page(2);
    flush();
    set_pair<IH_RB_BASE, IH_RB_BASE_HI>(mc(ih_ring) >> 8);
    set(IH_RB_CNTL{.rb_enable = 1, .rb_size = 10, .wptr_overflow_enable = 1, .enable_intr = 1});
  }
  std::vector<IH_ENTRY> entries() {
    std::vector<IH_ENTRY> out;
    for (u64 rptr = get<IH_RB_RPTR>().offset * 4, wptr = get<IH_RB_WPTR>().offset * 4; rptr != wptr;
         rptr = (rptr + 32) % 4096) {
      out.push_back(unpack<IH_ENTRY>(vram_read(ih_ring + rptr, 8), g));
      set(IH_RB_RPTR{.offset = (rptr + 32) % 4096 / 4});
    }
    return out;
  }
  bool wait(const std::function<bool()>& done, i64 ns = 100'000'000) { return hw::poll(bus, ns, done); }

  // PSP: returns the status of the mailbox.
  u32 boot_component(u64 id) {
    if (!image) image = next_page = (next_page + (1 << 20) - 1) >> 20 << 20, next_page += 1 << 20;
    wait([&] { return unpack32<PSP_MAILBOX>(get_raw<MP0_SMN_C2PMSG_35>(), g).ready; });
    vram_write(image, std::vector<u32>(1024, 0x24505331));
    flush();
    set_raw<MP0_SMN_C2PMSG_36>(u32(mc(image) >> 20));
    set_raw<MP0_SMN_C2PMSG_35>(u32(id));
    wait([&] { return unpack32<PSP_MAILBOX>(get_raw<MP0_SMN_C2PMSG_35>(), g).ready; });
    return u32(unpack32<PSP_MAILBOX>(get_raw<MP0_SMN_C2PMSG_35>(), g).status);
  }
  void psp_boot() {
    for (u64 id : {PSP_BL::LOAD_KEY_DATABASE, PSP_BL::LOAD_TOS_SPL_TABLE, PSP_BL::LOAD_SYSDRV, PSP_BL::LOAD_SOCDRV,
                   PSP_BL::LOAD_INTFDRV, PSP_BL::LOAD_DBGDRV, PSP_BL::LOAD_SOSDRV})
      check(boot_component(id) == 0, "component ", hex(id));
    check(wait([&] { return get_raw<MP0_SMN_C2PMSG_81>() != 0; }), "the secure OS does not start");
    psp_ring = page(16), psp_command = page(), psp_fence = page();
    vram_write(psp_fence, {0});
    set_pair<MP0_SMN_C2PMSG_69, MP0_SMN_C2PMSG_70>(mc(psp_ring));
    set_raw<MP0_SMN_C2PMSG_71>(16 * 4096);
    set_raw<MP0_SMN_C2PMSG_64>(pack32(PSP_MAILBOX{.command = PSP_MAILBOX::INIT_GPCOM_RING}, g));
    check(wait([&] { return get_raw<MP0_SMN_C2PMSG_64>() == pack32(PSP_MAILBOX{.ready = 1}, g); }), "no PSP ring");
  }
  template <class T>
  u32 psp(u64 id, const T& body, bool flush_first = true) {  // status, ~0 without a fence
    std::vector<u32> words = pack(PSP_CMD_RESP{.cmd_id = id}, g), part = pack(body, g);
    std::copy(part.begin(), part.end(), words.begin() + PSP_COMMAND::BODY);
    vram_write(psp_command, words);
    u64 fence = psp_wptr + 1;
    vram_write(
        psp_ring + psp_wptr * 4,
        pack(PSP_RB_FRAME{.cmd_buf_addr = mc(psp_command), .fence_addr = mc(psp_fence), .fence_value = fence}, g));
    if (flush_first) flush();
    psp_wptr = (psp_wptr + 16) % (16 * 1024);
    set_raw<MP0_SMN_C2PMSG_67>(u32(psp_wptr));
    if (!wait([&] { return vram_read(psp_fence, 1)[0] == fence; })) return ~u32(0);
    return unpack<PSP_CMD_RESP>(vram_read(psp_command, 256), g).status & ~u32(0);
  }
  u32 load(u64 type) {
    vram_write(image, std::vector<u32>(1024, u32(type) | 1 << 16));
    flush();
    return psp(GFX_CMD_ID::LOAD_IP_FW, CMD_LOAD_IP_FW{.fw_phy_addr = mc(image), .fw_size = 4096, .fw_type = type});
  }
  void firmware() {
    psp_boot();
    check(load(GFX_FW_TYPE::SMU) == 0, "SMU");
    if (g == GFX11)
      check(psp(GFX_CMD_ID::SETUP_TMR,
                CMD_SETUP_TMR{.buf_phy_addr = mc(64 << 20), .buf_size = 16 << 20, .virt_phy_addr = 1}) == 0,
            "TMR");
    for (u64 type : {GFX_FW_TYPE::SDMA_UCODE_TH0, GFX_FW_TYPE::RS64_MEC, GFX_FW_TYPE::RS64_MEC_P0_STACK,
                     GFX_FW_TYPE::IMU_I, GFX_FW_TYPE::IMU_D, GFX_FW_TYPE::RLC_G})
      check(load(type) == 0, "firmware ", type);
    check(psp(GFX_CMD_ID::AUTOLOAD_RLC, CMD_AUTOLOAD_RLC{}) == 0, "autoload");
    check(wait([&] { return get<RLC_RLCS_BOOTLOAD_STATUS>().bootload_complete && !get_raw<CP_STAT>(); }),
          "autoload does not end");
  }
  void doorbells() {
    set(RCC_DEV0_EPF0_RCC_DOORBELL_APER_EN{.bif_doorbell_aper_en = 1});
    set(S2A_DOORBELL_ENTRY_0_CTRL{.enable = 1, .awid = 3, .awaddr_31_28_value = 3}, DOORBELL_PORT::CP);
    set(S2A_DOORBELL_ENTRY_0_CTRL{.enable = 1,
                                  .awid = 14,
                                  .range_offset = DOORBELL::SDMA_ENGINE0 * 2,
                                  .range_size = 4,
                                  .awaddr_31_28_value = 3},
        DOORBELL_PORT::SDMA);
    set_raw<CP_MEC_DOORBELL_RANGE_LOWER>(0), set_raw<CP_MEC_DOORBELL_RANGE_UPPER>(0xf8);
  }
  struct QueueFaults {  // what a broken driver does
    bool no_select = false, no_eop = false, bad_mqd = false, bad_ring = false;
  };
  void compute_queue() { compute_queue(QueueFaults{}); }
  void compute_queue(const QueueFaults& broken) {
    for (u64 v = 0; v < 16; v++) {
      set(GRBM_GFX_CNTL{.vmid = v});
      set(SH_MEM_BASES{.private_base = APERTURE::PRIVATE, .shared_base = APERTURE::SHARED});
    }
    set(CP_MEC_RS64_CNTL{.mec_pipe0_active = 1});
    set(GRBM_GFX_CNTL{.meid = broken.no_select ? u64(0) : 1});
    set_pair<CP_MQD_BASE_ADDR, CP_MQD_BASE_ADDR_HI>(broken.bad_mqd ? u64(1) << 46 : mc(page()));
    set_pair<CP_HQD_PQ_BASE, CP_HQD_PQ_BASE_HI>((broken.bad_ring ? va_base + (u64(1) << 40) : ring_va) >> 8);
    set(CP_HQD_PQ_CONTROL{.queue_size = 11, .rptr_block_size = 5});  // 4096 dwords
    set(CP_HQD_PQ_DOORBELL_CONTROL{.doorbell_offset = DOORBELL::MEC_RING0 * 2, .doorbell_en = 1});
    set_pair<CP_HQD_PQ_RPTR_REPORT_ADDR, CP_HQD_PQ_RPTR_REPORT_ADDR_HI>(system_va + 128);
    if (!broken.no_eop) set_pair<CP_HQD_EOP_BASE_ADDR, CP_HQD_EOP_BASE_ADDR_HI>(eop_va >> 8);
    set_raw<CP_HQD_PQ_RPTR>(0), set_pair<CP_HQD_PQ_WPTR_LO, CP_HQD_PQ_WPTR_HI>(0);
    set_raw<CP_HQD_ACTIVE>(1);
    set(GRBM_GFX_CNTL{});
  }
  // Queue 1 of the same pipe, loaded from an MQD as drivers do; its ring is in the data.
  static constexpr u64 second_va = data_va + (1 << 17);
  void second_queue() {
    set(GRBM_GFX_CNTL{.meid = 1, .queueid = 1});
    u64 mqd_at = mc(page());
    MQD mqd{.header = MQD::COMPUTE_HEADER};
    mqd.cp_mqd_base_addr_lo = u32(mqd_at), mqd.cp_mqd_base_addr_hi = mqd_at >> 32;
    mqd.cp_hqd_pq_base_lo = u32(second_va >> 8), mqd.cp_hqd_pq_base_hi = second_va >> 40;
    mqd.cp_hqd_pq_control = pack32(CP_HQD_PQ_CONTROL{.queue_size = 11}, g);
    mqd.cp_hqd_pq_doorbell_control =
        pack32(CP_HQD_PQ_DOORBELL_CONTROL{.doorbell_offset = (DOORBELL::MEC_RING0 + 1) * 2, .doorbell_en = 1}, g);
    mqd.cp_hqd_eop_base_addr_lo = u32(eop_va >> 8), mqd.cp_hqd_eop_base_addr_hi = eop_va >> 40;
    std::vector<u32> words = pack(mqd, g);
    u64 first = address<CP_MQD_BASE_ADDR>();
    for (u64 d = MQD_PART::HQD_FIRST; d <= MQD_PART::HQD_LAST; d++) write(first + d - MQD_PART::HQD_FIRST, words[d]);
    set_raw<CP_HQD_ACTIVE>(1);
    set(GRBM_GFX_CNTL{});
  }
  void submit_second() {
    for (u32 word : pending) vram_write(data + (second_va - data_va) + second_wptr++ % 4096 * 4, {word});
    pending.clear();
    flush();
    bus.write64(2, (DOORBELL::MEC_RING0 + 1) * 8, second_wptr);
  }
  void copy_queue() {
    if (g == GFX12)
      set(SDMA0_MCU_CNTL{});
    else
      set(SDMA0_F32_CNTL{});
    set(SDMA0_CNTL{.trap_enable = 1});
    set_pair<SDMA0_QUEUE0_RB_BASE, SDMA0_QUEUE0_RB_BASE_HI>(sdma_va >> 8);
    set_pair<SDMA0_QUEUE0_RB_RPTR, SDMA0_QUEUE0_RB_RPTR_HI>(0),
        set_pair<SDMA0_QUEUE0_RB_WPTR, SDMA0_QUEUE0_RB_WPTR_HI>(0);
    set_raw<SDMA0_QUEUE0_RB_RPTR_ADDR_LO>(u32(system_va + 256)),
        set_raw<SDMA0_QUEUE0_RB_RPTR_ADDR_HI>((system_va + 256) >> 32);
    set(SDMA0_QUEUE0_DOORBELL_OFFSET{.offset = DOORBELL::SDMA_ENGINE0 * 2});
    set(SDMA0_QUEUE0_DOORBELL{.enable = 1});
    set(SDMA0_QUEUE0_RB_CNTL{.rb_enable = 1, .rb_size = 14, .rptr_writeback_enable = 1, .rb_priv = 1});
  }
  void bring_up() {
    pci(), discover(), memory(), interrupts(), firmware();
    hub(GFXHUB);
    doorbells(), compute_queue(), copy_queue();
  }

  // ---- packets
  std::vector<u32> pending, copies;
  template <class T>
  Card& operator<<(const T& packet) {
    std::vector<u32> body = pack(packet, g);
    return put(hw::layout_of<T>, body);
  }
  template <class T>
  Card& add(const T& packet, const std::vector<u32>& tail) {
    std::vector<u32> body = pack(packet, g);
    body.insert(body.end(), tail.begin(), tail.end());
    return put(hw::layout_of<T>, body);
  }
  Card& put(const hw::Layout& row, const std::vector<u32>& body) {
    pending.push_back(pack32(PM4_HEADER{.opcode = u64(row.code[g]),
                                        .count = body.empty() ? PM4_HEADER::HEADER_ONLY : body.size() - 1,
                                        .type = PM4_HEADER::TYPE3},
                             g));
    pending.insert(pending.end(), body.begin(), body.end());
    return *this;
  }
  void submit(bool flush_first = true) {
    for (u32 word : pending) vram_write(ring + ring_wptr++ % 4096 * 4, {word});
    pending.clear();
    if (flush_first) flush();
    bus.write64(2, DOORBELL::MEC_RING0 * 8, ring_wptr);
  }
  template <class T>
  Card& copy(const T& packet, const std::vector<u32>& tail = {}) {
    std::vector<u32> words = pack(packet, g);
    copies.insert(copies.end(), words.begin(), words.end());
    copies.insert(copies.end(), tail.begin(), tail.end());
    return *this;
  }
  void submit_copies() {
    for (u32 word : copies) vram_write(sdma_ring + sdma_wptr % (4 * 16384), {word}), sdma_wptr += 4;
    copies.clear();
    flush();
    bus.write64(2, DOORBELL::SDMA_ENGINE0 * 8, sdma_wptr);
  }
  // A value that arrives in system memory.
  u32* cell(u64 index) { return reinterpret_cast<u32*>(system.host) + index; }
  Card& signal(u64 index, u32 value, bool write_back = true) {
    return *this << RELEASE_MEM{.event_type = EVENT_TYPE::CACHE_FLUSH_AND_INV_TS_EVENT,
                                .event_index = RELEASE_MEM::END_OF_PIPE,
                                .gl2_wb = write_back,
                                .data_sel = RELEASE_MEM::DATA_32,
                                .address = system_va + 4 * index,
                                .data = value};
  }
  bool arrives(u64 index, u32 value, i64 ns = 10'000'000) {
    return wait([&] { return *static_cast<volatile u32*>(cell(index)) == value; }, ns);
  }
  Card& acquire() { return *this << ACQUIRE_MEM{.gli_inv = 1, .glk_inv = 1, .glv_inv = 1, .gl1_inv = 1, .gl2_inv = 1}; }
  template <class First>
  Card& set_sh(const std::vector<u32>& values) {
    return add(SET_SH_REG{.reg_offset = address<First>() - REG_WINDOW::SH}, values);
  }
  Card& run(u64 entry, bool wait_for_it = true) {
    set_sh<COMPUTE_PGM_LO>({u32(entry >> 8), u32(entry >> 40)});
    set_sh<COMPUTE_NUM_THREAD_X>({32, 1, 1});
    *this << DISPATCH_DIRECT{
        .dim_x = 1,
        .dim_y = 1,
        .dim_z = 1,
        .dispatch_initiator =
            pack32(COMPUTE_DISPATCH_INITIATOR{.compute_shader_en = 1, .force_start_at_000 = 1, .cs_w32_en = 1}, g)};
    if (wait_for_it)
      *this << EVENT_WRITE{.event_type = EVENT_TYPE::CS_PARTIAL_FLUSH, .event_index = EVENT_WRITE::PARTIAL_FLUSH};
    return *this;
  }
};

}  // namespace ingot::model
