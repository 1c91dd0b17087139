// SPDX-License-Identifier: MIT
// `ingot vm`: what an address means to the chip: the registers of its context, the entry of each level of the page
// tables, decoded, and where that leads; or everything that is mapped.
#include <cstdio>
#include "tools/inspect/inspect.h"

namespace ingot {
namespace {

using namespace amd;

std::string fields_of(const Mapping::Step& s, Generation g) {
  u32 words[] = {u32(s.entry), u32(s.entry >> 32)};
  return s.level == "root" || !s.leaf ? describe_fields(layout_PDE, words, g) : describe_fields(layout_PTE, words, g);
}
std::string place_of(const Mapping& m) {
  return m.system ? str("system memory, bus address ", hex(m.physical)) : str("VRAM ", hex(m.physical));
}

int walk(View& view, u64 va, int vmid, Hub hub, i64 dump, bool json) {
  Generation g = view.generation();
  Mapping m = view.walk(va, vmid, hub);
  std::string owner = view.owner_of(va), problem;
  std::vector<u8> bytes;
  if (dump && m.problem.empty()) bytes = view.memory(va, dump, problem, vmid);
  if (json) {
    Json steps = Json::array();
    for (const Mapping::Step& s : m.steps)
      steps.push_back({{"level", s.level},
                       {"index", s.index},
                       {"address", s.at},
                       {"entry", s.entry},
                       {"leaf", s.leaf},
                       {"text", fields_of(s, g)}});
    Json out{{"address", va},        {"vmid", vmid},           {"steps", steps},     {"mapped", m.problem.empty()},
             {"problem", m.problem}, {"physical", m.physical}, {"system", m.system}, {"owner", owner}};
    if (dump) out["bytes"] = bytes;
    print_json(out);
    return m.problem.empty() ? 0 : 1;
  }
  printf("%s in context %d of the %sHUB\n", bold(hex(va, 12)).c_str(), vmid, hubs[hub].prefix);
  for (const hw::Layout* l : {&layout_VM_CONTEXT0_CNTL, &layout_VM_CONTEXT0_PAGE_TABLE_BASE_ADDR_LO32,
                              &layout_VM_CONTEXT0_PAGE_TABLE_BASE_ADDR_HI32}) {
    u32 value = view.read(*l, {.hub = hub, .index = vmid});
    hw::RegisterName name{l, hub, vmid, 0};
    printf("  %s %s %s\n", name.text().c_str(), hex(value, 8).c_str(), describe_fields(*l, {&value, 1}, g).c_str());
  }
  for (const Mapping::Step& s : m.steps) {
    if (s.level == "root")
      printf("  root                             %s  %s\n", hex(s.entry, 16).c_str(), fields_of(s, g).c_str());
    else if (s.entry || s.at)
      printf("  %-4s [%3llu] at VRAM %-12s %s  %s%s\n", s.level.c_str(), (unsigned long long)s.index, hex(s.at).c_str(),
             hex(s.entry, 16).c_str(), s.leaf ? "" : "table ", fields_of(s, g).c_str());
    else
      printf("  %s\n", s.level.c_str());
  }
  if (m.problem.empty())
    printf("  -> %s, %lld bytes to the end of its entry\n", place_of(m).c_str(), (long long)m.bytes);
  else
    printf("  -> %s\n", m.problem.c_str());
  if (!owner.empty()) printf("  %s\n", owner.c_str());
  for (size_t i = 0; i < bytes.size(); i += 16) {
    printf("  %s ", hex(va + i, 12).c_str());
    for (size_t k = i; k < std::min(bytes.size(), i + 16); k++) printf("%s%02x", k % 4 ? "" : " ", bytes[k]);
    printf("\n");
  }
  if (!problem.empty()) printf("  %s\n", problem.c_str());
  return m.problem.empty() ? 0 : 1;
}

// All leaves, in order of address; neighbours of one kind and physical order are one line.
struct Run {
  u64 va = 0, bytes = 0, physical = 0, entry = 0;
  bool system = false;
};
void collect(View& view, u64 table, int level, u64 base, std::vector<Run>& out) {
  constexpr int shifts[] = {12, 21, 30, 39};
  constexpr size_t most = 1 << 20;
  std::vector<u8> bytes = view.vram(table, 4096);
  for (u64 i = 0; i < 512 && out.size() < most; i++) {
    u64 entry = 0;
    std::memcpy(&entry, &bytes[i * 8], 8);
    auto e = unpack64<PTE>(entry, view.generation());
    if (!e.valid) continue;
    u64 va = base + (i << shifts[level]), size = u64(1) << shifts[level];
    if (level && !e.pde_pte) {
      u64 next = unpack64<PDE>(entry, view.generation()).address << 12;
      if (i64(next) + 4096 <= view.vram_bytes) collect(view, next, level - 1, va, out);  // as deep as there are levels
      continue;
    }
    u64 flags = entry & ~(((u64(1) << 48) - 1) & ~u64(127)), physical = e.address << 12;
    flags &= ~(u64(31) << 7);
    if (!out.empty() && out.back().va + out.back().bytes == va && out.back().entry == flags &&
        (e.system || out.back().physical + out.back().bytes == physical))
      out.back().bytes += size;
    else
      out.push_back({va, size, physical, flags, e.system != 0});
  }
}
int list(View& view, int vmid, Hub hub, bool json) {
  At at{.hub = hub, .index = vmid};
  auto control = view.get<VM_CONTEXT0_CNTL>(at);
  if (!control.enable_context) throw Error(view.where, ": context ", vmid, " is not enabled");
  u64 root = view.pair<VM_CONTEXT0_PAGE_TABLE_BASE_ADDR_LO32, VM_CONTEXT0_PAGE_TABLE_BASE_ADDR_HI32>(at);
  std::vector<Run> runs;
  collect(view, unpack64<PDE>(root, view.generation()).address << 12, int(control.page_table_depth), 0, runs);
  Json out = Json::array();
  for (const Run& r : runs) {
    u32 words[] = {u32(r.entry), u32(r.entry >> 32)};
    std::string owner = view.owner_of(r.va);
    if (json)
      out.push_back(
          {{"address", r.va}, {"bytes", r.bytes}, {"system", r.system}, {"physical", r.physical}, {"owner", owner}});
    else
      printf("%s %10llu bytes  %-6s %-12s %s%s%s\n", hex(r.va, 12).c_str(), (unsigned long long)r.bytes,
             r.system ? "system" : "VRAM", r.system ? "" : hex(r.physical).c_str(),
             describe_fields(layout_PTE, words, view.generation()).c_str(), owner.empty() ? "" : "  ", owner.c_str());
  }
  if (json) print_json(out);
  return 0;
}

}  // namespace

int vm_main(Arguments args) {
  ingot::Options o("ingot vm", args);
  View view(o);
  bool json = o.flag("json", "print JSON"), all = o.flag("list", "everything that is mapped, instead of an address");
  i64 vmid = o.number("vmid", 0, "whose page tables");
  std::string hub = o.value("hub", "gc", "gc: the graphics core's memory hub; mm: everything else's");
  i64 dump = o.number("dump", 0, "show so many bytes there");
  auto words = o.rest("ADDRESS | --list",
                      "Walks the page tables for a virtual address, level by level. Exit code 1: not mapped.", 0, 1);
  if (words.empty() != all) throw UsageError("ingot vm: an address, or --list");
  if (vmid < 0 || vmid > 15) throw UsageError("--vmid is 0 to 15, got ", vmid);
  if (hub != "gc" && hub != "mm") throw UsageError("--hub is gc or mm, got '", hub, "'");
  if (dump < 0 || dump > 1 << 20) throw UsageError("--dump is 0 to ", 1 << 20, ", got ", dump);
  u64 va = all ? 0 : parse_number(words[0], "an address");
  view.look();
  Hub which = hub == "mm" ? MMHUB_HUB : GFXHUB;
  int code = all ? list(view, int(vmid), which, json) : walk(view, va, int(vmid), which, dump, json);
  view.save();
  return code;
}

}  // namespace ingot
