// SPDX-License-Identifier: MIT
// The rows against a second list, taken from other sources than the rows (each line of golden/*.txt names its own):
// driver and model share the rows, so a wrong number in one would otherwise make both wrong together. What no line
// covers is counted and printed; a register or packet that nothing covers must be in the list of exceptions here, with
// the reason.
#include <gtest/gtest.h>
#include <map>
#include <set>
#include "userspace/hw/amd/amd.h"

namespace ingot::amd {
namespace {
using hw::Field;
using hw::Layout;

std::vector<std::vector<std::string>> lines(const char* file) {
  std::vector<std::vector<std::string>> out;
  std::string text = read_file(str("tests/hw/golden/", file));
  for (std::string_view line : split(text, '\n')) {
    if (line.empty() || line.starts_with('#')) continue;
    auto& words = out.emplace_back();
    for (std::string_view word : split(line, ' ')) words.emplace_back(word);
  }
  return out;
}
int number(const std::string& text) { return int(std::stol(text, nullptr, 0)); }
int generation(const std::string& name) {
  for (size_t g = 0; g < std::size(generation_names); g++)
    if (name == generation_names[g]) return int(g);
  throw Error("no generation ", name);
}
// Names that rows may not have as identifiers: the port or ring number in front, a digit first.
std::string field_name(const std::string& row, const std::string& given) {
  std::string name = given;
  for (char& c : name) c = char(tolower(c));
  for (std::string_view prefix : {"s2a_doorbell_port", "s2a_doorbell_", "bif_doorbell"})
    if (row.find("DOORBELL") != row.npos && row.find("_CTRL") != row.npos && name.starts_with(prefix)) {
      name.erase(0, prefix.size());
      while (!name.empty() && isdigit(name[0])) name.erase(0, 1);
      if (name.starts_with('_')) name.erase(0, 1);
      break;
    }
  return !name.empty() && isdigit(name[0]) ? "_" + name : name;
}
struct Covered {
  std::set<std::pair<const Layout*, int>> rows;
  void expect_all(std::string_view what, auto belongs, const std::set<std::string>& exceptions) {
    size_t total = 0, found = 0;
    std::string missing;
    for (const Layout* l : amd::rows)
      for (int g = 0; g < 3; g++) {
        if (!belongs(*l) || (!l->exists(g, 0) && !l->exists(g, 1))) continue;
        total++;
        if (rows.count({l, g}))
          found++;
        else if (!exceptions.count(l->name))
          missing += str(" ", generation_names[g], ":", l->name);
      }
    std::cout << what << ": " << found << " of " << total << " rows (times generations) have a second source\n";
    EXPECT_EQ(missing, "");
  }
};

TEST(golden, register_places) {
  Covered covered;
  for (auto& w : lines("registers.txt")) {
    const Layout* l = hw::find_layout(rows, w[1]);
    ASSERT_TRUE(l) << w[1];
    int g = generation(w[0]), copy = number(w[2]), index = number(w[3]);
    const hw::Where& where = l->where[copy][size_t(g)];
    ASSERT_TRUE(where.exists()) << w[0] << " " << w[6] << ": the row says that it is absent";
    EXPECT_EQ(where.offset + unsigned(index) * l->stride, unsigned(number(w[4])))
        << w[0] << " " << w[6] << " in " << w[7];
    EXPECT_EQ(where.segment, number(w[5])) << w[0] << " " << w[6] << " in " << w[7];
    EXPECT_LT(index, l->count) << w[6];
    covered.rows.insert({l, g});
  }
  // FIXED registers are absolute: RCC_CONFIG_MEMSIZE is RCC_DEV0_EPF0_RCC_CONFIG_MEMSIZE at the usual bases.
  covered.expect_all(
      "registers", [](const Layout& l) { return l.kind == hw::Kind::REGISTER; },
      {"MM_INDEX", "MM_DATA", "MM_INDEX_HI", "RCC_CONFIG_MEMSIZE", "CP_HQD_RESERVED_90", "CP_HQD_RESERVED_9A"});
}

TEST(golden, register_fields) {
  std::map<std::pair<const Layout*, int>, std::set<std::string>> seen;
  for (auto& w : lines("fields.txt")) {
    const Layout* l = hw::find_layout(rows, w[1]);
    ASSERT_TRUE(l) << w[1];
    int g = generation(w[0]);
    std::string name = field_name(w[1], w[3]);
    const Field* f = hw::find_field(*l, name);
    if (!f) f = hw::find_field(*l, name + "_");
    // The other hub has a few fields of its own, and the mailboxes have one field without a meaning.
    if (number(w[2]) == 1 && (!f || !f->exists(g))) continue;
    ASSERT_TRUE(f && f->exists(g)) << w[0] << " " << w[1] << "." << w[3] << " is in " << w[6] << " but not in the row";
    hw::Bits bits = f->bits[size_t(g)];
    if (number(w[2]) == 1 && bits.hi != number(w[4])) {
      EXPECT_STREQ(l->name, "VM_L2_CNTL5") << name << ": the hubs differ";
      continue;
    }
    EXPECT_EQ(bits.hi, number(w[4])) << w[0] << " " << w[1] << "." << w[3] << " in " << w[6];
    EXPECT_EQ(bits.lo, number(w[5])) << w[0] << " " << w[1] << "." << w[3] << " in " << w[6];
    seen[{l, g}].insert(f->name);
  }
  size_t total = 0, found = 0;
  for (const Layout* l : rows)
    if (l->kind == hw::Kind::REGISTER)
      for (int g = 0; g < 3; g++)
        if (l->exists(g))
          for (const Field& f : l->fields) total += f.exists(g), found += f.exists(g) && seen[{l, g}].count(f.name);
  std::cout << "register fields: " << found << " of " << total << " have a second source\n";
  EXPECT_GT(found * 100, total * 95);
}

TEST(golden, packets_and_structures) {
  Covered covered;
  std::set<std::tuple<const Layout*, const Field*, int>> seen;
  int compared = 0;
  for (auto& w : lines("structures.txt")) {
    const Layout* l = w[0] == "block" ? nullptr
                                      : hw::find_layout(rows, w[0] == "opcode"  ? w[2]
                                                              : w[0] == "value" ? w[1]
                                                              : w[0] == "code"  ? w[2]
                                                                                : w[1]);
    if (w[0] == "block") {
      for (size_t b = 0; b < std::size(block_names); b++)
        if (w[1] == block_names[b]) {
          EXPECT_EQ(block_ids[b], number(w[2])) << w[1];
          compared++;
        }
    } else if (w[0] == "opcode") {
      ASSERT_TRUE(l) << w[2];
      for (int g = 0; g < 3; g++)
        if (l->exists(g)) {
          EXPECT_EQ(l->code[size_t(g)], number(w[3])) << w[2];
          covered.rows.insert({l, g}), compared++;
        }
    } else if (w[0] == "code") {
      if (!l) continue;  // a message that we do not use
      int g = generation(w[1]);
      EXPECT_EQ(l->code[size_t(g)], number(w[3])) << w[1] << " " << w[2] << " in " << w[4];
      covered.rows.insert({l, g}), compared++;
    } else if (w[0] == "value") {
      ASSERT_TRUE(l) << w[1];
      for (const hw::Value& v : l->values)
        if (w[2] == v.name) {
          EXPECT_EQ(v.value, u64(number(w[3]))) << w[1] << "::" << w[2] << " in " << w[4];
          compared++;
        }
    } else {
      ASSERT_TRUE(l) << w[1];
      int g = generation(w[0]), dword = number(w[3]), hi = number(w[4]), lo = number(w[5]);
      const Field* f = hw::find_field(*l, w[2]);
      ASSERT_TRUE(f) << w[1] << "." << w[2] << " is in " << w[7] << " but not in the row";
      if (!f->exists(g)) {
        ADD_FAILURE() << w[0] << " " << w[1] << "." << w[2] << " is in " << w[7] << " but absent in the row";
        continue;
      }
      int ours_lo = f->dword * 32 + f->bits[size_t(g)].lo, ours_hi = f->dword * 32 + f->bits[size_t(g)].hi;
      int theirs_lo = dword * 32 + lo, theirs_hi = dword * 32 + hi;
      std::string at = str(w[0], " ", w[1], ".", w[2], ": ours ", ours_hi, ":", ours_lo, ", theirs ", theirs_hi, ":",
                           theirs_lo, " in ", w[7]);
      bool agree = w[6] == "="   ? ours_lo == theirs_lo && ours_hi == theirs_hi
                   : w[6] == "<" ? ours_lo <= theirs_lo && ours_hi >= theirs_hi
                                 : ours_lo >= theirs_lo && ours_hi <= theirs_hi;
      EXPECT_TRUE(agree) << at;
      seen.insert({l, f, g});
      covered.rows.insert({l, g}), compared++;
    }
  }
  std::cout << compared << " facts compared\n";
  size_t total = 0;
  for (const Layout* l : rows)
    if (l->kind != hw::Kind::REGISTER)
      for (const Field& f : l->fields)
        for (int g = 0; g < 3; g++) total += f.exists(g) && l->exists(g);
  std::cout << "fields of packets and structures: " << seen.size() << " of " << total << " have a second source\n";
  covered.expect_all("packets, messages, structures",
                     [](const Layout& l) { return l.kind != hw::Kind::REGISTER && l.kind != hw::Kind::ENUM; },
                     {// Headers and answers of our own naming; sources print them without a table.
                      "PSP_MAILBOX", "ADDRESS", "DPM_FREQ", "IH_FAULT_CONTEXT", "SQ_INTERRUPT",
                      "PSP_FIRMWARE_HEADER_V2", "HARVEST_HEADER", "HARVEST_INFO",
                      // Commands without a body.
                      "CMD_DESTROY_TMR", "CMD_AUTOLOAD_RLC",
                      // In LLVM's and the HSA runtime's prose only.
                      "KERNEL_DESCRIPTOR", "DISPATCH_PACKET",
                      // Not decoded by umr, Mesa has only the opcode or nothing.
                      "INVALIDATE_TLBS", "SET_RESOURCES", "MAP_PROCESS", "QUERY_STATUS", "SDMA_NOP"});
}

// Values that amdgpu had in these registers on a running Radeon RX 7900 XTX: tinygrad/7900xtx, docs/launching.md and
// its register dumps. They are what the fields mean together, from silicon.
TEST(golden, values_seen_on_a_7900_xtx) {
  EXPECT_EQ(hw::pack32(VM_L2_CNTL{.enable_l2_cache = 1,
                                  .enable_l2_pte_cache_lru_update_by_write = 1,
                                  .enable_l2_pde0_cache_lru_update_by_write = 1,
                                  .enable_default_page_out_to_system_memory = 1,
                                  .context1_identity_access_mode = 1},
                       GFX11),
            0x00080e01u);
  EXPECT_EQ(hw::pack32(VM_L2_CNTL5{.walker_priority_client_id = 0x1ff}, GFX11), 0x3fe0u);
  CP_HQD_PQ_CONTROL aql = hw::unpack32<CP_HQD_PQ_CONTROL>(0x08084511, GFX11);
  EXPECT_EQ(aql.queue_size, 17u);  // 2^18 dwords: 1 MiB
  EXPECT_EQ(aql.rptr_block_size, 5u);
  EXPECT_EQ(aql.queue_full_en, 1u);
  EXPECT_EQ(aql.slot_based_wptr, 2u);
  EXPECT_EQ(aql.no_update_rptr, 1u);
  CP_HQD_PERSISTENT_STATE running = hw::unpack32<CP_HQD_PERSISTENT_STATE>(0xc0085501, GFX11);
  EXPECT_EQ(running.preload_req, 1u);
  EXPECT_EQ(running.preload_size, 0x55u);
  EXPECT_EQ(running.disp_active, 1u);
  CP_HQD_PQ_DOORBELL_CONTROL bell = hw::unpack32<CP_HQD_PQ_DOORBELL_CONTROL>(0xe0004002, GFX11);
  EXPECT_EQ(bell.doorbell_offset, 0x1000u);
  EXPECT_EQ(bell.doorbell_en, 1u);
  EXPECT_EQ(bell.doorbell_hit, 1u);
  VM_CONTEXT0_CNTL context8 = hw::unpack32<VM_CONTEXT0_CNTL>(0x01fffe07, GFX11);
  EXPECT_EQ(context8.enable_context, 1u);
  EXPECT_EQ(context8.page_table_depth, 3u);
  EXPECT_EQ(context8.execute_protection_fault_enable_default, 1u);
}

}  // namespace
}  // namespace ingot::amd
