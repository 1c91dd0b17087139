// SPDX-License-Identifier: MIT
// The AMD model works for a driver that does everything, and fails one that leaves something out, the way the card
// would. Each test of a broken driver first shows that the same driver unbroken works (the fixture does) and then the
// one mistake.
//
// What a driver gets wrong, and the test that sees it fail (A: tests/amd/device.cc, S: tests/amd/socket.cc, E:
// tests/emu/emu_test.cc, Checker.Objections; the rest is here):
//   host data path not flushed             without_flushing_hdp_the_ring_has_old_bytes, …_psp_sees_no_image
//   TLB not invalidated, or of one hub     stale_translations_stay_until_their_hub_drops_them
//   entry of another generation            a_wrong_entry_faults_with_its_level
//   page of tables freed while in use      a_freed_page_table_page_is_walked_as_what_it_became
//   doorbell aperture, range, enable       doorbells_need_aperture_route_range_and_enable
//   HQD without GRBM select                a_queue_programmed_without_selecting_it_is_another_one
//   MQD, ring or EOP buffer missing        a_queue_needs_its_descriptor_its_ring_and_its_eop_buffer
//   ring wrap, units of pointers           a_ring_wraps, wrong_units_of_ring_pointers_reach_garbage
//   registers out of a window, counts      packets_are_checked
//   PRED_EXEC in a ring                    pred_exec_gates_in_an_indirect_buffer_only
//   caches not written back, invalidated   a_kernel_s_writes_…, a_kernel_sees_new_data_…, a_kernel_after_a_kernel_…
//   SDMA: misaligned indirect buffer       sdma_wants_aligned_indirect_buffers
//   SDMA: a count wider than its field     a_count_wider_than_its_field_is_no_packet
//   mode1 with bus mastering, too early    mode1_wants_bus_mastering_off_and_half_a_second, bus_mastering_gates_dma
//   second process, unclean exit           registers_and_vram_survive_…; A warm_attach_…; S a_killed_process_leaves_…
//   endless kernel, dequeue 1 and 2        an_endless_kernel_does_not_drain_but_can_be_killed
//   scratch too small                      E
//   LDS past its end                       E
//   code at the end of its mapping         E
//   fewer than 16 scalar registers         E
//   addresses past 48 bits, the VA hole    addresses_beyond_the_tables_and_48_bits_fault
//   XCC number, harvest mask               none: of MI300, for which there is no chip row yet
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <random>
#include "tests/model/card.h"

namespace ingot::model {
namespace {
using testing::Contains;
using testing::HasSubstr;

struct amd_model : testing::TestWithParam<const char*> {
  FakeShader shader;
  std::unique_ptr<Chip> chip;
  std::unique_ptr<Card> card;
  Generation g = GFX11;
  void SetUp() override {
    g = std::string_view(GetParam()) == "gfx1100" ? GFX11 : GFX12;
    start();
  }
  void start() {
    card.reset();
    chip = make_amd({.target = GetParam(), .vram_bytes = i64(128) << 20, .shader = &shader});
    card = std::make_unique<Card>(*chip, g);
  }
  void objection(const char* what) { EXPECT_THAT(chip->objections, Contains(HasSubstr(what))) << chip->state(); }
  bool saw(u64 source) {
    for (const IH_ENTRY& e : card->entries())
      if (e.source_id == source) return true;
    return false;
  }
};
INSTANTIATE_TEST_SUITE_P(chips, amd_model, testing::Values("gfx1100", "gfx1201"));

// ---- a driver that is right ----------------------------------------------------------------------------------------
TEST_P(amd_model, comes_up_and_signals_without_objections) {
  card->bring_up();
  card->signal(0, 7).submit();
  EXPECT_TRUE(card->arrives(0, 7)) << chip->state();
  EXPECT_THAT(chip->objections, testing::IsEmpty());
  // The read pointer is reported in dwords of the ring.
  EXPECT_EQ(*card->cell(32), card->ring_wptr);
}
TEST_P(amd_model, writes_copies_waits_and_tells_the_time) {
  card->bring_up();
  Card& c = *card;
  c.add(WRITE_DATA{.dst_sel = WRITE_DATA::MEMORY, .wr_confirm = 1, .address = Card::data_va}, {11, 22, 33});
  c << COPY_DATA{.src_sel = COPY_DATA::SRC_MEMORY,
                 .dst_sel = COPY_DATA::DST_MEMORY,
                 .count_sel = 1,
                 .src = Card::data_va,
                 .dst = Card::data_va + 64};
  c << COPY_DATA{.src_sel = COPY_DATA::GPU_CLOCK_COUNT,
                 .dst_sel = COPY_DATA::DST_MEMORY,
                 .count_sel = 1,
                 .dst = Card::system_va + 512};
  c << WAIT_REG_MEM{.function = WAIT_FUNCTION::GREATER_EQUAL,
                    .memspace = WAIT_REG_MEM::MEMORY,
                    .address = Card::system_va + 1024,
                    .reference = 5,
                    .mask = ~u32(0)};
  c << RELEASE_MEM{.event_type = EVENT_TYPE::CACHE_FLUSH_AND_INV_TS_EVENT,
                   .event_index = RELEASE_MEM::END_OF_PIPE,
                   .data_sel = RELEASE_MEM::GPU_CLOCK_COUNT,
                   .address = Card::system_va + 520};
  c.signal(0, 1).submit();
  EXPECT_FALSE(c.arrives(0, 1, 1'000'000)) << "it has to wait for cell 256";
  *c.cell(256) = 5;
  EXPECT_TRUE(c.arrives(0, 1)) << chip->state();
  EXPECT_EQ(c.vram_read(c.data + 64, 2), (std::vector<u32>{11, 22}));
  u64 first, second;
  memcpy(&first, c.cell(128), 8), memcpy(&second, c.cell(130), 8);
  EXPECT_GE(second, first + 1'000'000 / 10) << "100 MHz";
  EXPECT_THAT(chip->objections, testing::IsEmpty());
}
TEST_P(amd_model, indirect_buffers_run_and_return) {
  card->bring_up();
  Card& c = *card;
  c.signal(1, 5);
  std::vector<u32> ib = std::exchange(c.pending, {});
  c.vram_write(c.data, ib);
  c << INDIRECT_BUFFER{.address = Card::data_va, .ib_size = ib.size(), .valid = 1};
  c.signal(0, 6).submit();
  EXPECT_TRUE(c.arrives(0, 6)) << chip->state();
  EXPECT_EQ(*c.cell(1), 5u);
}
TEST_P(amd_model, dispatches_get_their_registers_and_memory) {
  card->bring_up();
  Card& c = *card;
  hw::Dispatch seen;
  shader.programs[0x1234500] = [&](const hw::Dispatch& d, hw::WaveMemory& m) {
    seen = d;
    u32 value = 99;
    return m.access(hw::Access::WRITE, Card::data_va + 256, &value, 4);
  };
  c.set_sh<COMPUTE_USER_DATA_0>({1, 2, 3});
  c.set_sh<COMPUTE_PGM_RSRC1>({0x60af0080, 0x84});
  c.acquire().run(0x1234500).signal(0, 1).submit();
  EXPECT_TRUE(c.arrives(0, 1)) << chip->state();
  EXPECT_EQ(c.vram_read(c.data + 256, 1)[0], 99u);
  EXPECT_EQ(seen.user_data[2], 3u);
  EXPECT_EQ(seen.rsrc[0], 0x60af0080u);
  EXPECT_EQ(seen.threads[0], 32u);
  EXPECT_TRUE(seen.wave32);
  EXPECT_EQ(seen.shared_aperture, u64(1) << 48);
  EXPECT_EQ(seen.private_aperture, u64(2) << 48);
}
TEST_P(amd_model, sdma_copies_fills_fences_and_traps) {
  card->bring_up();
  Card& c = *card;
  std::vector<u32> words(3000);
  for (size_t i = 0; i < words.size(); i++) words[i] = u32(i * 77);
  c.vram_write(c.data, words);
  c.copy(SDMA_COPY_LINEAR{.count = words.size() * 4 - 1, .src_addr = Card::data_va, .dst_addr = Card::data_va + 65536});
  c.copy(SDMA_WRITE_LINEAR{.dst_addr = Card::data_va + 131072, .count = 1}, {5, 6});
  c.copy(SDMA_CONSTANT_FILL{
      .fillsize = SDMA_CONSTANT_FILL::DWORDS, .dst_addr = Card::data_va + 131080, .src_data = 9, .count = 7});
  c.copy(SDMA_FENCE{.mtype = SDMA_FENCE::MTYPE_UC, .addr = Card::system_va, .data = 3});
  c.copy(SDMA_TRAP{.int_context = 42});
  c.submit_copies();
  EXPECT_TRUE(c.arrives(0, 3)) << chip->state();
  EXPECT_GT(c.bus.wait_interrupt(c.bus.now_ns() + 1'000'000), 0u);
  EXPECT_EQ(c.vram_read(c.data + 65536, words.size()), words);
  EXPECT_EQ(c.vram_read(c.data + 131072, 4), (std::vector<u32>{5, 6, 9, 9}));
  std::vector<IH_ENTRY> entries = c.entries();
  ASSERT_EQ(entries.size(), 1u);
  EXPECT_EQ(entries[0].source_id, IH_SOURCE::SDMA_TRAP);
  EXPECT_EQ(entries[0].context_id0, 42u);
  EXPECT_EQ(*c.cell(64), c.sdma_wptr) << "the read pointer of an SDMA ring is bytes";
  EXPECT_THAT(chip->objections, testing::IsEmpty());
}
TEST_P(amd_model, smu_answers_and_fills_its_table) {
  card->bring_up();
  Card& c = *card;
  auto message = [&](const hw::Layout& m, u32 argument) {
    c.set_raw<MP1_SMN_C2PMSG_90>(0), c.set_raw<MP1_SMN_C2PMSG_82>(argument),
        c.set_raw<MP1_SMN_C2PMSG_66>(u32(m.code[g]));
    return c.get_raw<MP1_SMN_C2PMSG_90>();
  };
  EXPECT_EQ(message(layout_PPSMC_MSG_TestMessage, 4), SMU_RESPONSE::OK);
  EXPECT_EQ(c.get_raw<MP1_SMN_C2PMSG_82>(), 5u);
  EXPECT_EQ(message(layout_PPSMC_MSG_TransferTableSmu2Dram, SMU_TABLE::SMU_METRICS), SMU_RESPONSE::CMD_REJECTED_PREREQ);
  u64 table = c.page(4);
  EXPECT_EQ(message(layout_PPSMC_MSG_SetDriverDramAddrHigh, u32(c.mc(table) >> 32)), SMU_RESPONSE::OK);
  EXPECT_EQ(message(layout_PPSMC_MSG_SetDriverDramAddrLow, u32(c.mc(table))), SMU_RESPONSE::OK);
  EXPECT_EQ(message(layout_PPSMC_MSG_SetSoftMaxByFreq, 0), SMU_RESPONSE::CMD_REJECTED_PREREQ);
  EXPECT_EQ(message(layout_PPSMC_MSG_EnableAllSmuFeatures, 0), SMU_RESPONSE::OK);
  EXPECT_EQ(message(layout_PPSMC_MSG_SetPptLimit, 200), SMU_RESPONSE::OK);
  EXPECT_EQ(message(layout_PPSMC_MSG_SetPptLimit, 9000), SMU_RESPONSE::FAILED);
  EXPECT_EQ(message(layout_PPSMC_MSG_TransferTableSmu2Dram, SMU_TABLE::SMU_METRICS), SMU_RESPONSE::OK);
  auto m = unpack<SMU_METRICS>(c.vram_read(table, size_t(layout_SMU_METRICS.dwords[g])), g);
  EXPECT_EQ(m.dGPU_W_MAX, 200u);
  EXPECT_EQ(m.CurrClock_GFXCLK, 2500u);
  c.set_raw<MP1_SMN_C2PMSG_66>(0xfff);
  EXPECT_EQ(c.get_raw<MP1_SMN_C2PMSG_90>(), SMU_RESPONSE::UNKNOWN_CMD);
}

// ---- drivers that are wrong ----------------------------------------------------------------------------------------
TEST_P(amd_model, without_flushing_hdp_the_ring_has_old_bytes) {
  card->bring_up();
  card->signal(0, 1).submit();
  ASSERT_TRUE(card->arrives(0, 1));
  card->signal(0, 2).submit(false);
  EXPECT_FALSE(card->arrives(0, 2));
  objection("not a packet of type 3");
  EXPECT_TRUE(saw(IH_SOURCE::CP_BAD_OPCODE_ERROR));
}
TEST_P(amd_model, without_flushing_hdp_psp_sees_no_image) {
  Card& c = *card;
  c.pci(), c.discover(), c.memory();
  c.image = 1 << 21;
  c.vram_write(c.image, std::vector<u32>(1024, 1));
  c.set_raw<MP0_SMN_C2PMSG_36>(u32(c.mc(c.image) >> 20));
  c.set_raw<MP0_SMN_C2PMSG_35>(u32(PSP_BL::LOAD_KEY_DATABASE));
  objection("was the host data path flushed");
  EXPECT_NE(unpack32<PSP_MAILBOX>(c.get_raw<MP0_SMN_C2PMSG_35>(), g).status, 0u);
  // And the ring's frame.
  start();
  card->pci(), card->discover(), card->memory(), card->psp_boot();
  EXPECT_EQ(card->psp(GFX_CMD_ID::LOAD_TOC, CMD_LOAD_TOC{}, false), ~u32(0));
  objection("a frame without a command or a fence");
}
TEST_P(amd_model, psp_wants_its_order) {
  card->pci(), card->discover(), card->memory();
  EXPECT_NE(card->boot_component(PSP_BL::LOAD_SYSDRV), 0u);
  objection("before the key database");
  start();
  card->pci(), card->discover(), card->memory(), card->psp_boot();
  if (g == GFX11) {
    EXPECT_NE(card->load(GFX_FW_TYPE::RS64_MEC), 0u);
    objection("before the trusted region");
    EXPECT_NE(card->psp(GFX_CMD_ID::SETUP_TMR,
                        CMD_SETUP_TMR{.buf_phy_addr = card->mc(64 << 20), .buf_size = 1 << 20, .virt_phy_addr = 1}),
              0u);
    objection("before the firmware of the SMU");
  }
  EXPECT_NE(card->psp(GFX_CMD_ID::AUTOLOAD_RLC, CMD_AUTOLOAD_RLC{}), 0u);
  objection("AUTOLOAD_RLC: without IMU_I");
}
TEST_P(amd_model, stale_translations_stay_until_their_hub_drops_them) {
  card->bring_up();
  Card& c = *card;
  u64 other = c.page();
  c.vram_write(other, {0xaaaa}), c.vram_write(c.data, {0xbbbb}), c.flush();
  auto read_first = [&](u32 signal) {
    c << COPY_DATA{.src_sel = COPY_DATA::SRC_MEMORY,
                   .dst_sel = COPY_DATA::DST_MEMORY,
                   .src = Card::data_va,
                   .dst = Card::system_va + 64};
    c.signal(0, signal).submit();
    EXPECT_TRUE(c.arrives(0, signal)) << chip->state();
    return *c.cell(16);
  };
  EXPECT_EQ(read_first(1), 0xbbbbu);
  c.map(Card::data_va, other, 1, c.vram_flags()), c.flush();
  EXPECT_EQ(read_first(2), 0xbbbbu) << "no hub was told";
  c.invalidate(MMHUB_HUB);
  EXPECT_EQ(read_first(3), 0xbbbbu) << "the other hub was told";
  c.set(VM_INVALIDATE_ENG0_REQ{.per_vmid_invalidate_req = 1, .invalidate_l2_ptes = 1}, 17, GFXHUB);
  EXPECT_EQ(read_first(4), 0xbbbbu) << "the L1s were not told";
  objection("invalidates no translations");
  c.invalidate(GFXHUB);
  EXPECT_EQ(read_first(5), 0xaaaau);
}
TEST_P(amd_model, a_wrong_entry_faults_with_its_level) {
  card->bring_up();
  Card& c = *card;
  auto fault_of = [&](PTE pte, u64 va) {
    u64 at = c.page();
    c.map(va, at, 1, pte);
    c.flush(), c.invalidate(GFXHUB);
    c.copy(SDMA_WRITE_LINEAR{.dst_addr = va}, {1});
    c.submit_copies();
    c.wait([] { return false; }, 1'000'000);
    auto status = c.get<VM_L2_PROTECTION_FAULT_STATUS>(0, GFXHUB);
    EXPECT_EQ(c.get_raw<VM_L2_PROTECTION_FAULT_ADDR_LO32>(0, GFXHUB), u32(va >> 12));
    return status;
  };
  PTE invalid = c.vram_flags(), wrong = c.vram_flags(), readonly = c.vram_flags();
  invalid.valid = 0, readonly.writeable = 0;
  wrong.pde_pte = !wrong.pde_pte;  // gfx12 must have it in the last level, where gfx11 does not care
  if (g == GFX12) {
    EXPECT_EQ(fault_of(wrong, Card::data_va + (8 << 20)).walker_error, 1u);
  } else {
    EXPECT_EQ(fault_of(invalid, Card::data_va + (8 << 20)).walker_error, 1u);
  }
  std::vector<IH_ENTRY> entries = c.entries();
  ASSERT_FALSE(entries.empty());
  EXPECT_EQ(entries[0].source_id, IH_SOURCE::UTCL2_FAULT);
  EXPECT_EQ(entries[0].context_id0, u32((Card::data_va + (8 << 20)) >> 12));
  start();
  card->bring_up();
  Card& d = *card;
  d.map(Card::data_va + (9 << 20), d.page(), 1, readonly);
  d.flush();
  d.copy(SDMA_WRITE_LINEAR{.dst_addr = Card::data_va + (9 << 20)}, {1}), d.submit_copies();
  d.wait([] { return false; }, 1'000'000);
  auto status = d.get<VM_L2_PROTECTION_FAULT_STATUS>(0, GFXHUB);
  EXPECT_EQ(status.permission_faults, 4u);
  EXPECT_EQ(status.rw, 1u);
  EXPECT_EQ(status.cid, 13u);
  objection("SDMA0 halted: page fault");
  // It stays until it is cleared.
  d.set(VM_L2_PROTECTION_FAULT_CNTL{.clear_protection_fault_status_addr = 1}, 0, GFXHUB);
  EXPECT_EQ(d.get_raw<VM_L2_PROTECTION_FAULT_STATUS>(0, GFXHUB), 0u);
}
TEST_P(amd_model, a_freed_page_table_page_is_walked_as_what_it_became) {
  card->bring_up();
  Card& c = *card;
  c.vram_write(c.root, std::vector<u32>(1024, 0xdeadbee0));  // what the next owner of the page put there
  c.flush(), c.invalidate(GFXHUB);
  c.signal(0, 1).submit();
  EXPECT_FALSE(c.arrives(0, 1));
  objection("page fault");
  EXPECT_EQ(c.get<VM_L2_PROTECTION_FAULT_STATUS>(0, GFXHUB).walker_error, 4u) << "1 + the level of PDB2";
}
TEST_P(amd_model, addresses_beyond_the_tables_and_48_bits_fault) {
  for (u64 va : {Card::va_base + (u64(1) << 43), u64(1) << 47, u64(1) << 60, Card::va_base - 4096}) {
    start();
    card->bring_up();
    card->add(WRITE_DATA{.dst_sel = WRITE_DATA::MEMORY, .address = va}, {1});
    card->signal(0, 1).submit();
    EXPECT_FALSE(card->arrives(0, 1)) << hex(va);
    objection("page fault");
    EXPECT_TRUE(saw(IH_SOURCE::UTCL2_FAULT)) << hex(va);
  }
}
TEST_P(amd_model, doorbells_need_aperture_route_range_and_enable) {
  card->bring_up();
  Card& c = *card;
  auto dropped = [&](const char* why) {
    size_t before = chip->objections.size();
    c.submit();
    ASSERT_GT(chip->objections.size(), before) << why;
    EXPECT_THAT(chip->objections.back(), HasSubstr(why));
  };
  c.set(RCC_DEV0_EPF0_RCC_DOORBELL_APER_EN{});
  dropped("the aperture is off");
  c.set(RCC_DEV0_EPF0_RCC_DOORBELL_APER_EN{.bif_doorbell_aper_en = 1});
  c.set(S2A_DOORBELL_ENTRY_0_CTRL{}, DOORBELL_PORT::CP);
  dropped("port CP is not routed");
  c.doorbells();
  c.set_raw<CP_MEC_DOORBELL_RANGE_UPPER>(8);
  dropped("outside of CP_MEC_DOORBELL_RANGE");
  c.doorbells();
  c.bus.write64(2, 0x7f8, 1);
  objection("no queue has it");
  c.set(S2A_DOORBELL_ENTRY_0_CTRL{.enable = 1, .range_offset = 4, .range_size = 4}, DOORBELL_PORT::SDMA);
  c.submit_copies();
  objection("port SDMA is not routed there");
}
TEST_P(amd_model, a_queue_programmed_without_selecting_it_is_another_one) {
  Card& c = *card;
  c.pci(), c.discover(), c.memory(), c.interrupts(), c.firmware(), c.hub(GFXHUB), c.doorbells();
  c.compute_queue({.no_select = true});
  objection("no compute engine is selected");
  c.set(GRBM_GFX_CNTL{.meid = 1});
  EXPECT_EQ(c.get_raw<CP_HQD_PQ_BASE>(), 0u) << "what was meant for this bank is in that of me 0";
  c.set(GRBM_GFX_CNTL{});
  EXPECT_EQ(c.get_raw<CP_HQD_PQ_BASE>(), u32(Card::ring_va >> 8));
}
TEST_P(amd_model, a_queue_needs_its_descriptor_its_ring_and_its_eop_buffer) {
  for (auto& [broken, why] :
       std::initializer_list<std::pair<Card::QueueFaults, const char*>>{{{.bad_mqd = true}, "its MQD at"},
                                                                        {{.bad_ring = true}, "page fault"},
                                                                        {{.no_eop = true}, "no end-of-pipe buffer"}}) {
    start();
    Card& c = *card;
    c.pci(), c.discover(), c.memory(), c.interrupts(), c.firmware(), c.hub(GFXHUB), c.doorbells();
    c.compute_queue(broken);
    c.signal(0, 1).submit();
    EXPECT_FALSE(c.arrives(0, 1)) << why;
    objection(why);
    EXPECT_TRUE(saw(IH_SOURCE::CP_GPF)) << why;
  }
}
TEST_P(amd_model, wrong_units_of_ring_pointers_reach_garbage) {
  card->bring_up();
  card->signal(0, 1).submit();
  ASSERT_TRUE(card->arrives(0, 1));
  card->bus.write64(2, DOORBELL::MEC_RING0 * 8, card->ring_wptr * 4);  // bytes, where dwords are meant
  card->wait([] { return false; }, 1'000'000);
  objection("not a packet of type 3");
  start();
  card->bring_up();
  card->bus.write64(2, DOORBELL::MEC_RING0 * 8, 1 << 20);
  card->wait([] { return false; }, 1'000'000);
  objection("ahead in a ring of 4096");
  card->bus.write64(2, DOORBELL::SDMA_ENGINE0 * 8, 2);
  card->wait([] { return false; }, 1'000'000);
  objection("is not a number of bytes of whole dwords");
}
TEST_P(amd_model, a_ring_wraps) {
  card->bring_up();
  for (u32 i = 1; i <= 700; i++) {  // 8 dwords each, in a ring of 4096
    card->signal(0, i).submit();
    ASSERT_TRUE(card->arrives(0, i)) << chip->state();
  }
  EXPECT_THAT(chip->objections, testing::IsEmpty());
}
TEST_P(amd_model, packets_are_checked) {
  auto halts = [&](const char* why, u64 source, auto build) {
    start();
    card->bring_up();
    build(*card);
    card->signal(0, 1).submit();
    EXPECT_FALSE(card->arrives(0, 1, 1'000'000)) << why;
    objection(why);
    EXPECT_TRUE(saw(source)) << why;
  };
  halts("reach out of the window", IH_SOURCE::CP_PM4_PKT_RSVD_BIT_ERROR, [](Card& c) {
    c.add(SET_SH_REG{.reg_offset = 0x3ff}, {1, 2});
  });
  halts("no register at dword", IH_SOURCE::CP_PRIV_REG_FAULT, [](Card& c) { c.add(SET_SH_REG{.reg_offset = 1}, {1}); });
  halts("its length is", IH_SOURCE::CP_PM4_PKT_RSVD_BIT_ERROR, [](Card& c) { c.add(EVENT_WRITE{}, {0}); });
  halts("reserved bits", IH_SOURCE::CP_PM4_PKT_RSVD_BIT_ERROR, [](Card& c) {
    c << EVENT_WRITE{};
    c.pending.back() |= 1 << 30;
  });
  halts("unknown opcode", IH_SOURCE::CP_BAD_OPCODE_ERROR, [](Card& c) {
    c.pending.push_back(0xc000ff00);
    c.pending.push_back(0);
  });
  halts("without its valid bit", IH_SOURCE::CP_PM4_PKT_RSVD_BIT_ERROR,
        [](Card& c) { c << INDIRECT_BUFFER{.address = Card::data_va, .ib_size = 4}; });
  halts("no register at dword", IH_SOURCE::CP_PRIV_REG_FAULT,
        [](Card& c) { c.add(WRITE_DATA{.dst_sel = WRITE_DATA::REGISTER, .address = 0x3fffff}, {1}); });
}
TEST_P(amd_model, pred_exec_gates_in_an_indirect_buffer_only) {
  card->bring_up();
  Card& c = *card;
  auto gated = [&] {
    c << PRED_EXEC{.exec_count = 8, .device_select = 2};  // not for XCC 0
    c.signal(1, 5);
    return c.pending.size();
  };
  gated();
  c.signal(0, 1).submit();
  ASSERT_TRUE(c.arrives(0, 1)) << chip->state();
  EXPECT_EQ(*c.cell(1), 5u);
  objection("PRED_EXEC in a ring gates nothing");
  *c.cell(1) = 0;
  u64 dwords = gated();
  c.vram_write(c.data, std::exchange(c.pending, {}));
  c << INDIRECT_BUFFER{.address = Card::data_va, .ib_size = dwords, .valid = 1};
  c.signal(0, 2).submit();
  ASSERT_TRUE(c.arrives(0, 2)) << chip->state();
  EXPECT_EQ(*c.cell(1), 0u);
}
TEST_P(amd_model, sdma_wants_aligned_indirect_buffers) {
  card->bring_up();
  card->copy(SDMA_INDIRECT{.ib_base = Card::data_va, .ib_size = 8}), card->submit_copies();
  card->wait([] { return false; }, 1'000'000);
  objection("does not end on a multiple of 8 dwords");
  start();
  card->bring_up();
  card->copy(SDMA_NOP{.count = 1}, {0}), card->copy(SDMA_INDIRECT{.ib_base = Card::data_va + 4, .ib_size = 8}),
      card->submit_copies();
  card->wait([] { return false; }, 1'000'000);
  objection("not aligned to 32 bytes");
}
TEST_P(amd_model, a_count_wider_than_its_field_is_no_packet) {
  const int width = hw::find_field(layout_SDMA_COPY_LINEAR, "count")->width(g);
  EXPECT_NO_THROW(pack(SDMA_COPY_LINEAR{.count = (u64(1) << width) - 1}, g));
  EXPECT_THROW(pack(SDMA_COPY_LINEAR{.count = u64(1) << width}, g), Error);
}

// ---- visibility ----------------------------------------------------------------------------------------------------
TEST_P(amd_model, a_kernel_s_writes_reach_the_host_and_sdma_when_written_back) {
  card->bring_up();
  Card& c = *card;
  shader.programs[256] = [](const hw::Dispatch&, hw::WaveMemory& m) {
    u32 value = 77;
    return m.access(hw::Access::WRITE, Card::data_va, &value, 4);
  };
  c.run(256).signal(0, 1, false).submit();
  ASSERT_TRUE(c.arrives(0, 1));
  EXPECT_EQ(c.vram_read(c.data, 1)[0], 0u) << "still in L2";
  c.copy(SDMA_COPY_LINEAR{.count = 3, .src_addr = Card::data_va, .dst_addr = Card::system_va + 64})
      .copy(SDMA_FENCE{.addr = Card::system_va, .data = 2});
  c.submit_copies();
  ASSERT_TRUE(c.arrives(0, 2));
  EXPECT_EQ(*c.cell(16), 0u);
  c.signal(0, 3).submit();
  ASSERT_TRUE(c.arrives(0, 3));
  EXPECT_EQ(c.vram_read(c.data, 1)[0], 77u);
}
TEST_P(amd_model, a_kernel_sees_new_data_when_caches_are_invalidated) {
  card->bring_up();
  Card& c = *card;
  u32 seen = 0;
  for (hw::Access kind : {hw::Access::READ, hw::Access::SCALAR_READ, hw::Access::FETCH}) {
    shader.programs[256] = [&, kind](const hw::Dispatch&, hw::WaveMemory& m) {
      return m.access(kind, Card::data_va, &seen, 4);
    };
    auto read = [&](u32 signal, bool acquire) {
      if (acquire) c.acquire();
      c.run(256).signal(0, signal).submit();
      EXPECT_TRUE(c.arrives(0, signal)) << chip->state();
      return seen;
    };
    c.vram_write(c.data, {1}), c.flush();
    EXPECT_EQ(read(1, true), 1u);
    c.vram_write(c.data, {2}), c.flush();
    EXPECT_EQ(read(2, false), 1u) << "from a cache";
    EXPECT_EQ(read(3, true), 2u);
  }
}
TEST_P(amd_model, a_kernel_after_a_kernel_needs_its_private_caches_emptied) {
  card->bring_up();
  Card& c = *card;
  u32 seen = 0, own = 0;
  shader.programs[256] = [&](const hw::Dispatch&, hw::WaveMemory& m) {
    return m.access(hw::Access::READ, Card::data_va, &seen, 4);
  };
  shader.programs[512] = [&](const hw::Dispatch&, hw::WaveMemory& m) {
    u32 value = 5;
    return m.access(hw::Access::WRITE, Card::data_va, &value, 4) && m.access(hw::Access::READ, Card::data_va, &own, 4);
  };
  c.run(256).run(512).run(256).signal(0, 1).submit();
  ASSERT_TRUE(c.arrives(0, 1));
  EXPECT_EQ(own, 5u) << "a dispatch sees what it wrote";
  EXPECT_EQ(seen, 0u) << "another one may not";
  c.acquire().run(256).signal(0, 2).submit();
  ASSERT_TRUE(c.arrives(0, 2));
  EXPECT_EQ(seen, 5u);
}
TEST_P(amd_model, kernels_without_a_wait_between_them_run_in_any_order) {
  card->bring_up();
  Card& c = *card;
  std::string order;
  shader.programs[256] = [&](const hw::Dispatch&, hw::WaveMemory&) { return order += 'a', true; };
  shader.programs[512] = [&](const hw::Dispatch&, hw::WaveMemory&) { return order += 'b', true; };
  c.run(256, false).run(512, false).signal(0, 1).submit();
  ASSERT_TRUE(c.arrives(0, 1));
  EXPECT_EQ(order, "ba");
  c.run(256).run(512).signal(0, 2).submit();
  ASSERT_TRUE(c.arrives(0, 2));
  EXPECT_EQ(order, "baab");
}
TEST_P(amd_model, many_small_kernels_take_little_time) {
  card->bring_up();
  int ran = 0;
  shader.programs[256] = [&](const hw::Dispatch&, hw::WaveMemory&) { return ++ran, true; };
  for (int i = 0; i < 200; i++) card->run(256);
  card->signal(0, 1).submit();
  i64 before = chip->now_ns;
  EXPECT_TRUE(card->arrives(0, 1)) << chip->state();
  EXPECT_EQ(ran, 200);
  EXPECT_LT(chip->now_ns - before, 1'000'000);
}
TEST_P(amd_model, loose_memory_needs_none_of_it) {
  chip->strict = false;
  card->bring_up();
  Card& c = *card;
  shader.programs[256] = [](const hw::Dispatch&, hw::WaveMemory& m) {
    u8* at = m.direct(hw::Access::WRITE, Card::data_va + 4, 4);
    if (!at) return false;
    u32 value = 6;
    return memcpy(at, &value, 4), true;
  };
  c.run(256).signal(0, 1, false).submit(false);
  ASSERT_TRUE(c.arrives(0, 1)) << chip->state();
  EXPECT_EQ(c.vram_read(c.data + 4, 1)[0], 6u);
  // Pointers are forgotten when a mapping changes, and a fault is reported once.
  u64 other = c.page();
  c.map(Card::data_va, other, 1, c.vram_flags()), c.invalidate(GFXHUB);
  c.run(256).signal(0, 2).submit();
  ASSERT_TRUE(c.arrives(0, 2)) << chip->state();
  EXPECT_EQ(c.vram_read(other + 4, 1)[0], 6u);
  shader.programs[512] = [](const hw::Dispatch&, hw::WaveMemory& m) {
    u32 value = 0;
    return m.access(hw::Access::READ, Card::data_va + (512 << 12), &value, 4);
  };
  c.run(512).signal(0, 3).submit();
  EXPECT_FALSE(c.arrives(0, 3));
  EXPECT_EQ(c.entries().size(), 1u);
  EXPECT_FALSE(c.get<VM_L2_PROTECTION_FAULT_STATUS>(0, GFXHUB).more_faults);
}

// ---- resets, processes, hangs --------------------------------------------------------------------------------------
TEST_P(amd_model, bus_mastering_gates_dma) {
  card->bring_up();
  card->bus.config_write(4, 2, 2);
  card->signal(0, 1).submit();
  EXPECT_FALSE(card->arrives(0, 1));
  EXPECT_GT(chip->dropped_dma, 0u);
}
TEST_P(amd_model, memory_space_gates_the_windows) {
  card->pci(), card->discover();
  u64 at = card->address<SCRATCH_REG0>() * 4;
  card->bus.write32(5, at, 5);
  EXPECT_EQ(card->bus.read32(5, at), 5u);
  card->bus.config_write(4, 4, 2);
  EXPECT_EQ(card->bus.read32(5, at), ~u32(0));
  card->bus.write32(5, at, 6);
  card->bus.config_write(4, 6, 2);
  EXPECT_EQ(card->bus.read32(5, at), 5u);
}
TEST_P(amd_model, mode1_wants_bus_mastering_off_and_half_a_second) {
  card->bring_up();
  Card& c = *card;
  c.set_raw<SCRATCH_REG0>(123, 7);
  c.set_raw<MP1_SMN_C2PMSG_53>(0), c.set_raw<MP1_SMN_C2PMSG_75>(u32(SMU_DEBUG_MESSAGE::MODE1_RESET));
  objection("while bus mastering is on");
  EXPECT_EQ(c.get_raw<RCC_CONFIG_MEMSIZE>(), ~u32(0));
  c.set_raw<SCRATCH_REG0>(1, 7);
  objection("during a reset");
  c.bus.wait_ns(500'000'000);
  EXPECT_EQ(c.get_raw<RCC_CONFIG_MEMSIZE>(), 128u);
  EXPECT_EQ(c.get_raw<SCRATCH_REG0>(7), 0u);
  EXPECT_EQ(c.get_raw<MP0_SMN_C2PMSG_81>(), 0u) << "the secure OS is gone";
  chip->objections.clear();
  Card again(*chip, g);
  again.bring_up();
  again.signal(0, 1).submit();
  EXPECT_TRUE(again.arrives(0, 1)) << chip->state();
}
TEST_P(amd_model, registers_and_vram_survive_a_process_and_its_memory_does_not) {
  card->bring_up();
  card->set_raw<SCRATCH_REG0>(0xa0000008u, 7);
  card->vram_write(card->data, {42}), card->flush();
  u64 data = card->data, late = card->ring_wptr;
  card->signal(0, 1);
  for (u32 word : card->pending) card->vram_write(card->ring + late++ * 4, {word});
  card->flush();
  card = std::make_unique<Card>(*chip, g);  // the process is gone: its DMA memory too
  card->pci(), card->discover();
  EXPECT_EQ(card->get_raw<SCRATCH_REG0>(7), 0xa0000008u);
  EXPECT_EQ(card->vram_read(data, 1)[0], 42u);
  card->bus.write64(2, DOORBELL::MEC_RING0 * 8, late);  // what the old queue writes now goes nowhere
  card->bus.wait_ns(1'000'000);
  EXPECT_GT(chip->dropped_dma, 0u);
}
TEST_P(amd_model, an_endless_kernel_does_not_drain_but_can_be_killed) {
  card->bring_up();
  Card& c = *card;
  shader.programs[256] = nullptr;
  c.run(256).signal(0, 1).submit();
  EXPECT_FALSE(c.arrives(0, 1, 10'000'000'000)) << "ten seconds of the chip's time";
  c.set(GRBM_GFX_CNTL{.meid = 1});
  c.set(CP_HQD_DEQUEUE_REQUEST{.dequeue_req = 1});
  EXPECT_FALSE(c.wait([&] { return !c.get_raw<CP_HQD_ACTIVE>(); }));
  c.set(CP_HQD_DEQUEUE_REQUEST{.dequeue_req = 2});
  EXPECT_TRUE(c.wait([&] { return !c.get_raw<CP_HQD_ACTIVE>(); }));
  c.set(GRBM_GFX_CNTL{});
  c.ring_wptr = 0, c.compute_queue();
  c.signal(0, 2).submit();
  EXPECT_TRUE(c.arrives(0, 2)) << chip->state();
}
TEST_P(amd_model, injected_faults_look_like_real_ones) {
  shader.programs[256] = [](const hw::Dispatch&, hw::WaveMemory& m) {
    u32 value = 1;
    return m.access(hw::Access::WRITE, Card::data_va, &value, 4);
  };
  auto fails = [&](Injection what) {
    start();
    card->bring_up();
    chip->inject(what);
    card->run(256).signal(0, 1).submit();
    bool ok = card->arrives(0, 1);
    return !ok;
  };
  EXPECT_TRUE(fails(Injection::HANG));
  EXPECT_TRUE(fails(Injection::PAGE_FAULT));
  EXPECT_TRUE(saw(IH_SOURCE::UTCL2_FAULT));
  EXPECT_EQ(card->get<VM_L2_PROTECTION_FAULT_STATUS>(0, GFXHUB).cid, 8u);
  EXPECT_TRUE(fails(Injection::LOST_DOORBELL));
  card->submit();  // ringing again is enough
  EXPECT_TRUE(card->arrives(0, 1));
  EXPECT_FALSE(fails(Injection::ECC));
  EXPECT_TRUE(saw(IH_SOURCE::CP_ECC_ERROR));
  EXPECT_TRUE(card->get<BIF_BX0_BIF_DOORBELL_INT_CNTL>().ras_cntlr_interrupt_status);
  EXPECT_FALSE(fails(Injection::PSP_REFUSAL));
  EXPECT_NE(card->load(GFX_FW_TYPE::RLC_P), 0u);
  EXPECT_EQ(card->load(GFX_FW_TYPE::RLC_P), 0u) << "the next one is taken";
  EXPECT_TRUE(fails(Injection::SURPRISE_REMOVAL));
  EXPECT_EQ(card->bus.config_read(0, 2), u32((1 << 16) - 1));
  EXPECT_EQ(card->bus.read32(5, 0), ~u32(0));
}
TEST_P(amd_model, unknown_registers_are_an_error_that_names_the_neighbour) {
  card->pci(), card->discover();
  try {
    card->write(card->address<GRBM_CNTL>() + 1, 0);
    FAIL();
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("1 after GRBM_CNTL"));
  }
  EXPECT_THROW(card->bus.read32(5, 2 << 20), Error);
  EXPECT_THROW(make_amd({.target = "gfx906"}), Error);
}

TEST_P(amd_model, vram_is_reached_through_the_index_registers_too) {
  card->pci(), card->discover();
  u64 at = 0x123450;
  card->vram_write(at, {77}), card->flush();
  card->set(MM_INDEX{.mm_offset = at, .mm_aper = 1}), card->set_raw<MM_INDEX_HI>(0);
  EXPECT_EQ(card->get_raw<MM_DATA>(), 77u);
  card->set_raw<MM_DATA>(78);
  EXPECT_EQ(card->vram_read(at, 1)[0], 78u);
  card->set(MM_INDEX{.mm_offset = at});
  card->get_raw<MM_DATA>();
  objection("without the aperture bit");
}
TEST_P(amd_model, a_small_bar_shows_the_first_part_of_vram) {
  card.reset();
  chip = make_amd({.target = GetParam(), .vram_bytes = i64(128) << 20, .visible_vram_bytes = 16 << 20});
  ModelBus bus(*chip);
  EXPECT_EQ(bus.bar(0).bytes, 16 << 20);
  u32 word = 0;
  EXPECT_THROW(bus.copy_to(0, 16 << 20, &word, 4), Error);
}
TEST_P(amd_model, bars_answer_to_sizing) {
  for (u32 bar : {0u, 2u, 5u}) {
    u32 at = 16 + 4 * bar, old = card->bus.config_read(at, 4);
    card->bus.config_write(at, ~u32(0), 4);
    u32 mask = card->bus.config_read(at, 4) & ~u32(15);
    EXPECT_EQ(i64(~mask) + 1, card->bus.bar(int(bar)).bytes) << bar;
    card->bus.config_write(at, old, 4);
  }
  EXPECT_EQ(card->bus.config_read(0, 2), 0x1002u);
  EXPECT_EQ(card->bus.config_read(5000, 4), ~u32(0));
}
TEST_P(amd_model, a_full_interrupt_ring_loses_entries_and_says_so) {
  card->bring_up();
  for (int i = 0; i < 200; i++) card->copy(SDMA_TRAP{.int_context = u64(i)});  // 128 entries of 32 bytes fit, less one
  card->submit_copies();
  card->wait([] { return false; }, 10'000'000);
  EXPECT_TRUE(card->get<IH_RB_WPTR>().rb_overflow);
  EXPECT_EQ(card->entries().size(), 127u);
  objection("the ring is full");
}
TEST_P(amd_model, a_queue_s_registers_can_be_loaded_from_its_descriptor) {
  card->bring_up();
  card->second_queue();
  card->signal(0, 9).submit_second();
  EXPECT_TRUE(card->arrives(0, 9)) << chip->state();
  EXPECT_THAT(chip->objections, testing::IsEmpty());
}
TEST_P(amd_model, queues_share_the_shader_core_but_not_a_hang) {
  card.reset();
  chip = make_amd(
      {.target = GetParam(), .vram_bytes = i64(128) << 20, .shader = &shader, .hang_instructions = 1'000'000'000});
  card = std::make_unique<Card>(*chip, g);
  Card& c = *card;
  c.bring_up(), c.second_queue();
  shader.programs[256] = nullptr;
  shader.programs[512] = [](const hw::Dispatch&, hw::WaveMemory&) { return true; };
  c.run(256).signal(0, 1).submit();
  EXPECT_FALSE(c.arrives(0, 1, 1'000'000));
  EXPECT_EQ(shader.dispatch.entry, 256u);
  c.run(512).signal(1, 2).submit_second();
  EXPECT_FALSE(c.arrives(1, 2, 100'000)) << "the first one still runs";
  EXPECT_EQ(shader.dispatch.entry, 256u);
  EXPECT_TRUE(c.arrives(1, 2)) << "it was stuck: " << chip->state();
  EXPECT_EQ(*c.cell(0), 0u);
}
TEST_P(amd_model, a_semaphore_of_an_invalidation_engine_is_taken_once) {
  card->pci(), card->discover();
  EXPECT_EQ(card->get_raw<VM_INVALIDATE_ENG0_SEM>(17, MMHUB_HUB), 1u);
  EXPECT_EQ(card->get_raw<VM_INVALIDATE_ENG0_SEM>(17, MMHUB_HUB), 0u);
  card->set_raw<VM_INVALIDATE_ENG0_SEM>(0, 17, MMHUB_HUB);
  EXPECT_EQ(card->get_raw<VM_INVALIDATE_ENG0_SEM>(17, MMHUB_HUB), 1u);
}

// ---- hostile input -------------------------------------------------------------------------------------------------
// Whatever a ring contains, the queue goes on or halts with a reason; it reads and writes nothing that the page tables
// do not give it. Half of the words are packets of the right form with random fields, so that the fuzz gets past the
// header.
TEST_P(amd_model, random_rings_halt_with_a_reason) {
  std::mt19937 random(4);
  auto word = [&]() -> u32 {
    switch (random() % 4) {
      case 0: return random();
      case 1: return random() % 16;
      case 2: return u32(Card::data_va >> (random() % 2 * 32)) + random() % 65536;
      default: return u32(1) << random() % 32;
    }
  };
  shader.programs[0] = [](const hw::Dispatch&, hw::WaveMemory& m) {
    u32 value = 0;
    return m.access(hw::Access::READ, 0, &value, 4);
  };
  int halted = 0, reached = 0;
  for (int round = 0; round < 60; round++) {
    start();
    card->bring_up();
    for (int p = 0; p < 40; p++) {
      const hw::Layout* row = rows[random() % std::size(rows)];
      if (row->kind != hw::Kind::PACKET || row->dwords[g] < 0) continue;
      u64 length = u64(row->dwords[g]) + (random() % 8 ? 0 : random() % 4);
      if (row->family == std::string_view("PM4")) {
        card->pending.push_back(
            pack32(PM4_HEADER{.opcode = u64(row->code[g]), .count = length ? length - 1 : 0, .type = 3}, g));
        for (u64 i = 0; i < std::max<u64>(length, 1); i++) card->pending.push_back(word());
      } else {
        card->copies.push_back(u32(row->code[g]) | (random() % 4 ? 0 : random() << 16));
        for (u64 i = 1; i < length; i++) card->copies.push_back(word());
      }
    }
    for (int i = 0; i < 16; i++) card->pending.push_back(random()), card->copies.push_back(random());
    card->submit(), card->submit_copies();
    card->wait([] { return false; }, 2'000'000);
    reached += chip->now_ns > 0;
    for (auto& line : chip->objections) halted += line.find("halted: ") != line.npos;
  }
  EXPECT_EQ(reached, 60);
  EXPECT_GT(halted, 60);
}

// Whatever a driver writes to registers and doorbells, the model stands.
TEST_P(amd_model, random_registers_do_no_harm) {
  std::mt19937 random(5);
  for (int round = 0; round < 20; round++) {
    start();
    round % 4 ? card->bring_up() : (card->pci(), card->discover());
    hw::RegisterMap map(rows, g, card->bases);
    std::vector<u64> addresses;
    for (auto& [address, name] : map.all()) addresses.push_back(address);
    for (int i = 0; i < 400; i++) {
      u64 at = addresses[random() % addresses.size()];
      u32 value = random() % 2 ? random() : u32(1) << random() % 32;
      try {
        random() % 4 ? card->write(at, value) : void(card->read(at));
        if (random() % 16 == 0) card->bus.write64(2, random() % 4096 * 8, random() % 3 ? random() % 8192 : random());
        if (random() % 16 == 0) card->bus.wait_ns(random() % 100'000);
      } catch (const Error&) {  // an indirect access to a register that is none
      }
    }
    card->bus.wait_ns(1'000'000'000);
    EXPECT_FALSE(chip->state().empty());
  }
}

}  // namespace
}  // namespace ingot::model
