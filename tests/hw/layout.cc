// SPDX-License-Identifier: MIT
// The engine that reads rows: every row of the tables packs and unpacks, describes and parses back, survives random and
// short words; what cannot be right is refused at compile time or throws with the row's name.
#include "userspace/hw/layout.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <random>
#include "userspace/hw/amd/amd.h"

namespace ingot::amd {
namespace {
using hw::Field;
using hw::Layout;
using testing::HasSubstr;

template <class F>
std::string error_of(F f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}
u64 all_ones(int width) { return width >= 64 ? ~u64(0) : (u64(1) << width) - 1; }

TEST(layout, fields_of_every_row_hold_what_they_are_given) {
  std::mt19937_64 random(1);
  for (const Layout* l : rows)
    for (int g = 0; g < 3; g++) {
      if (!l->exists(g) && !l->exists(g, 1)) continue;
      std::vector<u32> words(size_t(std::max<i64>(1, l->dwords[size_t(g)])));
      std::vector<u64> values;
      for (const Field& f : l->fields) {
        values.push_back(f.exists(g) ? random() & all_ones(f.width(g)) : 0);
        if (f.exists(g)) set_bits(words, *l, f, g, values.back());
      }
      for (size_t i = 0; i < values.size(); i++)
        EXPECT_EQ(get_bits(words, l->fields[i], g), values[i]) << l->name << "." << l->fields[i].name;
    }
}
TEST(layout, random_words_describe_and_parse_back_exactly) {
  std::mt19937 random(2);
  for (const Layout* l : rows)
    for (int g = 0; g < 3; g++) {
      if (l->kind == hw::Kind::ENUM || (!l->exists(g) && !l->exists(g, 1))) continue;
      for (int round = 0; round < 8; round++) {
        std::vector<u32> words(size_t(l->dwords[size_t(g)]));
        for (u32& w : words) w = round == 0 ? 0 : round == 1 ? ~u32(0) : random() & random();
        std::string text = describe_fields(*l, words, g);
        if (l->kind == hw::Kind::REGISTER && !l->exists(g)) continue;
        EXPECT_EQ(parse_fields(*l, text, g), words) << l->name << ": " << text;
      }
    }
}
TEST(layout, short_words_are_read_as_zero_and_not_written) {
  for (const Layout* l : rows)
    for (const Field& f : l->fields)
      for (int g = 0; g < 3; g++) {
        EXPECT_EQ(get_bits({}, f, g), 0u);
        if (f.exists(g)) set_bits(std::span<u32>(), *l, f, g, 1);
      }
}
TEST(layout, pack_and_unpack_are_inverse) {
  std::mt19937_64 random(3);
  for (int round = 0; round < 100; round++) {
    RELEASE_MEM p{.event_type = random() & 63, .int_sel = random() & 7, .address = random(), .data = random()};
    std::vector<u32> words = pack(p, GFX12);
    ASSERT_EQ(words.size(), 7u);
    EXPECT_EQ(hw::members(hw::unpack<RELEASE_MEM>(words, GFX12)), hw::members(p));
    EXPECT_EQ(words[2] | u64(words[3]) << 32, p.address);
  }
  // The same field, other bits.
  EXPECT_EQ(hw::pack64(PTE{.valid = 1, .address = 0x12345, .mtype = PTE::MTYPE_UC}, GFX11), 0x0003'0000'1234'5001u);
  EXPECT_EQ(hw::pack64(PTE{.valid = 1, .address = 0x12345, .mtype = PTE::MTYPE_UC}, GFX12), 0x00c0'0000'1234'5001u);
  EXPECT_EQ(hw::pack64(PTE{.valid = 1, .address = 0x12345, .mtype = PTE::MTYPE_UC}, GFX94), 0x0600'0000'1234'5001u);
}
TEST(layout, describe_prints_names_numbers_and_stray_bits) {
  std::vector<u32> words = pack(RELEASE_MEM{.event_type = EVENT_TYPE::CACHE_FLUSH_AND_INV_TS_EVENT,
                                            .event_index = RELEASE_MEM::END_OF_PIPE,
                                            .data_sel = RELEASE_MEM::DATA_64,
                                            .address = 0x7f00'1234'5678,
                                            .data = 7},
                                GFX11);
  EXPECT_EQ(describe(layout_RELEASE_MEM, words, GFX11),
            "RELEASE_MEM event_type=CACHE_FLUSH_AND_INV_TS_EVENT event_index=END_OF_PIPE data_sel=DATA_64 "
            "address=0x7f0012345678 data=7");
  words[1] |= 1;
  EXPECT_THAT(describe(layout_RELEASE_MEM, words, GFX11), HasSubstr(" ?1=0x1"));
  EXPECT_EQ(describe(layout_NOP, {}, GFX11), "NOP");
}
TEST(layout, errors_name_the_row_and_what_it_has) {
  EXPECT_EQ(error_of([] { hw::pack32(CP_MEC_RS64_CNTL{.mec_halt = 1}, GFX94); }),
            "CP_MEC_RS64_CNTL does not exist on gfx94");
  EXPECT_EQ(error_of([] { pack32(GRBM_GFX_CNTL{.ctxid = 1}, GFX94); }), "GRBM_GFX_CNTL.ctxid does not exist on gfx94");
  EXPECT_EQ(error_of([] { pack(HDP_FLUSH{}, GFX94); }), "HDP_FLUSH does not exist on gfx94");
  EXPECT_EQ(error_of([] { hw::pack32(GRBM_GFX_CNTL{.pipeid = 4}, GFX11); }),
            "GRBM_GFX_CNTL.pipeid has 2 bits, 0x4 does not fit");
  EXPECT_THAT(error_of([] { parse_fields(layout_GRBM_GFX_CNTL, "pipe=1", GFX11); }),
              HasSubstr("GRBM_GFX_CNTL has no field pipe; it has (pipeid, meid, vmid, queueid, ctxid)"));
  EXPECT_THAT(error_of([] { parse_fields(layout_WRITE_DATA, "dst_sel=MOON", GFX11); }), HasSubstr("MOON"));
  hw::Bases none;
  EXPECT_EQ(error_of([&] { register_address(layout_RLC_RLCS_BOOTLOAD_STATUS, GFX94, none); }),
            "RLC_RLCS_BOOTLOAD_STATUS does not exist on gfx94");
  EXPECT_THAT(error_of([&] { register_address(layout_GRBM_CNTL, GFX11, none); }), HasSubstr("no segment 0"));
}
TEST(layout, overlap_and_overflow_are_found_per_generation) {
  Layout l{.name = "X",
           .kind = hw::Kind::STRUCT,
           .family = "",
           .code = {},
           .dwords = {1, 1, 1, 1},
           .block = {},
           .where = {},
           .prefix = {"", ""},
           .fields = {},
           .values = {},
           .generations = generation_names};
  auto disjoint = [&](std::vector<Field> fields) {
    l.fields = fields;
    return hw::all_disjoint(l);
  };
  auto same = [](i16 hi, i16 lo) { return hw::Cells<hw::Bits>({hi, lo}).at; };
  EXPECT_TRUE(disjoint({{"a", 0, same(7, 0)}, {"b", 0, same(31, 8)}}));
  EXPECT_FALSE(disjoint({{"a", 0, same(8, 0)}, {"b", 0, same(31, 8)}}));
  EXPECT_FALSE(disjoint({{"a", 0, same(32, 8)}}));
  EXPECT_FALSE(disjoint({{"a", 0, same(0, 1)}}));
  EXPECT_FALSE(disjoint({{"a", 0, same(7, 0)}, {"b", 0, hw::Cells<hw::Bits>(hw::absent, {7, 7}, hw::absent).at}}));
  EXPECT_TRUE(disjoint({{"a", 0, hw::Cells<hw::Bits>({7, 0}, hw::absent, hw::absent).at},
                        {"b", 0, hw::Cells<hw::Bits>(hw::absent, {7, 0}, {7, 0}).at}}));
}
TEST(layout, registers_are_found_by_address_and_back) {
  hw::Bases bases;
  int block = 0;
  for (const char* name : block_names) {
    (void)name;
    for (int instance = 0; instance < 2; instance++)
      for (int segment = 0; segment < 9; segment++)
        bases.at[{block, instance, segment}] = (u64(block) << 32) + (u64(instance) << 28) + (u64(segment) << 24);
    block++;
  }
  for (int g = 0; g < 3; g++) {
    hw::RegisterMap map(rows, g, bases);
    EXPECT_GT(map.all().size(), 300u);
    for (const Layout* l : rows)
      for (int copy = 0; copy < 2 && l->kind == hw::Kind::REGISTER; copy++)
        for (int i = 0; i < l->count; i++)
          if (l->where[copy][size_t(g)].exists() && (!copy || *l->prefix[1])) {
            const hw::RegisterName* found = map.find(register_address(*l, g, bases, copy, i, 1));
            ASSERT_TRUE(found) << l->name;
            EXPECT_EQ(found->layout, l) << l->name << " and " << found->layout->name << " are at one address";
            EXPECT_EQ(found->index, i);
            EXPECT_EQ(found->instance, 1);
          }
    EXPECT_EQ(map.find(register_address(layout_VM_CONTEXT0_CNTL, g, bases, MMHUB_HUB, 3))->text(),
              "MMVM_CONTEXT0_CNTL[3]");
    EXPECT_EQ(map.find(~u64(0)), nullptr);
  }
  EXPECT_EQ(hw::find_layout(rows, "GCVM_L2_CNTL"), &layout_VM_L2_CNTL);
  EXPECT_EQ(hw::find_layout(rows, "MMVM_L2_CNTL"), &layout_VM_L2_CNTL);
  EXPECT_EQ(hw::find_code(rows, "PM4", layout_RELEASE_MEM.code[GFX11], GFX11), &layout_RELEASE_MEM);
  EXPECT_EQ(hw::find_code(rows, "PM4", 0xff, GFX11), nullptr);
}
// Driver settings whose register values follow from the fields; computed by hand from the manual's bit positions.
TEST(layout, worked_values) {
  auto invalidate = [](int g) {
    return hw::pack32(VM_INVALIDATE_ENG0_REQ{.per_vmid_invalidate_req = 1,
                                             .invalidate_l2_ptes = 1,
                                             .invalidate_l2_pde0 = 1,
                                             .invalidate_l2_pde1 = 1,
                                             .invalidate_l2_pde2 = 1,
                                             .invalidate_l1_ptes = 1},
                      g);
  };
  EXPECT_EQ(invalidate(GFX11), 0x00f80001u);
  EXPECT_EQ(invalidate(GFX12), 0x00f80001u);
  EXPECT_EQ(invalidate(GFX94), 0x007c0001u);
  auto tlb = [](int g) {
    return hw::pack32(
        MC_VM_MX_L1_TLB_CNTL{
            .enable_l1_tlb = 1, .system_access_mode = 3, .enable_advanced_driver_model = 1, .mtype = 3},
        g);
  };
  EXPECT_EQ(tlb(GFX11), 0x1859u);
  EXPECT_EQ(tlb(GFX94), 0x1859u);
  EXPECT_EQ(hw::pack32(CP_HQD_PQ_CONTROL{.queue_size = 21, .rptr_block_size = 5}, GFX11), 0x515u);
  EXPECT_EQ(
      hw::pack32(
          CP_HQD_PQ_CONTROL{
              .queue_size = 21, .rptr_block_size = 5, .queue_full_en = 1, .slot_based_wptr = 2, .no_update_rptr = 1},
          GFX94),
      0x0c004515u);
  EXPECT_EQ(
      hw::pack32(COMPUTE_DISPATCH_INITIATOR{.compute_shader_en = 1, .force_start_at_000 = 1, .cs_w32_en = 1}, GFX11),
      0x8005u);
  EXPECT_EQ(hw::pack32(SH_MEM_BASES{.private_base = APERTURE::PRIVATE, .shared_base = APERTURE::SHARED}, GFX11),
            0x10002u);
}

}  // namespace
}  // namespace ingot::amd
