// SPDX-License-Identifier: MIT
// `ingot doctor --amd`: is this Radeon what the driver takes it for? Steps from the bus to the matrix unit, each of
// which rests on the ones before. A step notes facts, and what they should be; the first wrong fact ends the
// examination, because what comes after would only repeat it. The report is what a person without such a card needs to
// mend the tables: firmware_notes/unproven.md lists what only a card can say, and each step says which of it it proves.
// On a model it proves that the doctor works.
#include "tools/doctor.h"

#include <linux/pci_regs.h>

#include <algorithm>
#include <bit>
#include <cstdio>
#include <random>

#include "compiler/isa/isa.h"
#include "compiler/runtime/runtime.h"
#include "tools/tools.h"
#include "userspace/amd/amd.h"
#include "userspace/model/model.h"

namespace ingot {
namespace {
using namespace amd;

struct Patient {
  hw::Bus* bus;  // of the device, once there is one
  std::unique_ptr<hw::Bus> own;
  bool is_model;
  std::unique_ptr<amd::Chip> chip;
  std::unique_ptr<Device> device;
  StepReport* now = nullptr;

  void note(std::string what, std::string seen) { now->facts.push_back({std::move(what), std::move(seen), "", true}); }
  void expect(std::string what, std::string seen, std::string expected) {
    const bool right = seen == expected;
    now->facts.push_back({std::move(what), std::move(seen), std::move(expected), right});
    if (!right) throw Error("");  // the fact says it
  }
  void expect(std::string what, bool right, std::string seen, std::string expected) {
    now->facts.push_back({std::move(what), std::move(seen), std::move(expected), right});
    if (!right) throw Error("");
  }
  std::unique_ptr<Code> load(std::string_view name, std::string_view text, int params) {
    const isa::Isa* isa = isa::find_isa("rdna", device->info().arch);
    if (!isa) throw Error("no assembler for ", device->info().arch);
    const Resources needs{params, 16, 32, 0};
    return device->load(isa::assemble(*isa, text), name, &needs);
  }
  // Simulated or real nanoseconds of the bus's clock.
  i64 run(Code& code, std::initializer_list<const Buffer*> buffers, u32 groups = 1, u32 threads = 32) {
    std::vector<void*> params;
    for (const Buffer* b : buffers) params.push_back(reinterpret_cast<void*>(b->address));
    Launch l{.code = &code, .params = params.data(), .groups = {groups, 1, 1}, .threads = {threads, 1, 1}};
    const i64 start = bus->now_ns();
    device->run({&l, 1});
    device->wait();
    return bus->now_ns() - start;
  }
};

template <class T>
std::vector<T> random_values(i64 n, u32 seed) {
  std::mt19937 random(seed);
  std::vector<T> v(static_cast<size_t>(n));
  for (T& x : v) x = T(random());
  return v;
}
std::string of_bytes(i64 wrong, i64 all) { return str(wrong, " of ", all, " bytes differ"); }
i64 different(const void* a, const void* b, i64 bytes) {
  i64 n = 0;
  for (i64 i = 0; i < bytes; i++) n += static_cast<const u8*>(a)[i] != static_cast<const u8*>(b)[i];
  return n;
}

// ---- the steps -----------------------------------------------------------------------------------------------------
void bus_step(Patient& p) {
  hw::Bus& b = *p.bus;
  const u32 id = b.config_read(PCI_VENDOR_ID, 4), ones = ~u32(0);
  p.expect("the card answers on the bus", id != ones, hex(id, 8), "not all ones");
  p.note("PCI vendor and device", str(hex(id & 65535, 4), " ", hex(id >> 16, 4)));
  p.note("PCI class and revision", hex(b.config_read(PCI_CLASS_REVISION, 4), 8));
  for (int i : {0, 2, 5}) {
    const hw::Bar bar = b.bar(i);
    p.expect(str("BAR ", i, " is there"), bar.bytes > 0, str(bar.bytes, " bytes at ", hex(bar.bus)),
             "more than 0 bytes");
  }
  b.config_write(PCI_COMMAND, b.config_read(PCI_COMMAND, 2) | PCI_COMMAND_MEMORY, 2);
}
void discovery_step(Patient& p) {
  p.chip = std::make_unique<amd::Chip>(*p.bus);
  const Discovery& ip = p.chip->ip;
  p.note("VRAM", str(p.chip->vram_bytes / mib, " MiB, ", p.chip->visible_bytes / mib, " through BAR 0"));
  for (Block block : {GC, MP0, MP1, SDMA0, MMHUB, OSSSYS, HDP, NBIO})
    if (ip.blocks.count({block, 0})) p.note(block_names[block], ip.version(block).text('.'));
  p.expect("graphics core", ip.arch() == "gfx1100" || ip.arch() == "gfx1201", ip.arch(), "gfx1100 or gfx1201");
  p.note("shader engines, arrays, compute units",
         str(ip.shader_engines, ", ", ip.arrays_per_engine, ", ", ip.compute_units()));
  p.note("waves per SIMD, scratch slots, LDS",
         str(ip.waves_per_simd, ", ", ip.scratch_slots_per_unit, ", ", ip.lds_bytes));
  // Every register must be somewhere that the bus reaches.
  const hw::RegisterMap map(amd::rows, ip.generation, ip.bases);
  p.note("registers of the tables that this chip has", str(map.all().size()));
}
void boot_step(Patient& p) {
  p.chip.reset();
  amd::Options o;
  o.firmware = amd::system_firmware(ctx.FIRMWARE), o.exclusive = !p.is_model;
  if (p.is_model) o.firmware = model::stand_in_firmware, o.exact_firmware = false;
  p.device = amd::open(std::move(p.own), o);
  p.bus = &bus_of(*p.device);
  p.chip = std::make_unique<amd::Chip>(*p.bus);
  p.note("the driver", p.device->info().description);
  const u32 running = p.chip->read_raw(layout_RLC_RLCS_BOOTLOAD_STATUS);
  p.expect("firmware has started", unpack32<RLC_RLCS_BOOTLOAD_STATUS>(running, p.chip->generation()).bootload_complete,
           hex(running, 8), "bootload_complete");
}
// A buffer's address through the tables by hand; what the copy engine wrote there must lie where they say.
void page_table_step(Patient& p) {
  amd::Chip& c = *p.chip;
  const i64 bytes = 3 * page_bytes + 64;
  BufferRef b = p.device->alloc(bytes);
  const std::vector<u8> put = random_values<u8>(bytes, 1);
  p.device->copy_in(*b, 0, put.data(), bytes);
  const At hub{.hub = GFXHUB};
  const u64 root = c.read_raw(layout_VM_CONTEXT0_PAGE_TABLE_BASE_ADDR_LO32, hub) |
                   u64(c.read_raw(layout_VM_CONTEXT0_PAGE_TABLE_BASE_ADDR_HI32, hub)) << 32;
  std::vector<u8> seen(static_cast<size_t>(bytes));
  for (i64 at = 0; at < bytes; at += page_bytes) {
    const u64 va = b->address + u64(at);
    PDE directory = unpack64<PDE>(root, c.generation());
    std::string path = hex(root);
    for (size_t level = 0; level < page_levels().size(); level++) {
      const PageLevel& l = page_levels()[level];
      if (!directory.valid || directory.system)
        p.expect(str("level ", level, " for ", hex(va)), path, "valid, in VRAM");
      u64 entry = 0;
      c.read_vram(directory.address * u64(page_bytes) + (va >> l.shift & ((u64(1) << l.bits) - 1)) * 8, &entry, 8);
      path += " > " + hex(entry);
      const PTE leaf = unpack64<PTE>(entry, c.generation());
      directory = unpack64<PDE>(entry, c.generation());
      if (level + 1 < page_levels().size() && !leaf.pde_pte) continue;
      const u64 inside = va & ((u64(1) << l.shift) - 1) & ~u64(page_bytes - 1);
      if (!at || !leaf.valid || leaf.system)
        p.expect(str("the entry of ", hex(va)), leaf.valid && !leaf.system, path, "valid, in VRAM");
      c.read_vram(leaf.address * u64(page_bytes) + inside, &seen[size_t(at)], std::min(page_bytes, bytes - at));
      break;
    }
  }
  const i64 wrong = different(put.data(), seen.data(), bytes);
  p.expect("what the tables point at", of_bytes(wrong, bytes), of_bytes(0, bytes));
}
void nop_step(Patient& p) {  // a submission without a dispatch: waits, cache control, the fence
  auto code = p.load("nothing", "s_endpgm\n", 0);
  const i64 time = p.run(*code, {}, 0);
  p.note("an empty submission takes", str(time / 1000, " us"));
  p.expect("fault status", hex(p.chip->read_raw(layout_VM_L2_PROTECTION_FAULT_STATUS, {.hub = GFXHUB})), "0x0");
}
void copy_step(Patient& p) {
  for (const i64 bytes : {i64(4), i64(4097), 16 * mib + 12}) {
    const std::vector<u8> put = random_values<u8>(bytes, u32(bytes));
    std::vector<u8> seen(static_cast<size_t>(bytes));
    BufferRef b = p.device->alloc(bytes);
    i64 start = p.bus->now_ns();
    p.device->copy_in(*b, 0, put.data(), bytes);
    const i64 in = p.bus->now_ns() - start;
    start = p.bus->now_ns();
    p.device->copy_out(seen.data(), *b, 0, bytes);
    const i64 out = p.bus->now_ns() - start, wrong = different(put.data(), seen.data(), bytes);
    p.expect(str(bytes, " bytes there and back"), of_bytes(wrong, bytes), of_bytes(0, bytes));
    if (bytes > mib)
      p.note("MB/s there, back", str(bytes * 1000 / std::max<i64>(1, in), ", ", bytes * 1000 / std::max<i64>(1, out)));
  }
}
void constant_step(Patient& p) {
  auto code = p.load("constant", R"(
    s_load_b64 s[4:5], s[0:1], 0x0
    s_lshl_b32 s6, s15, 5
    v_add_nc_u32_e32 v0, s6, v0
    v_lshlrev_b32_e32 v0, 2, v0
    v_mov_b32_e32 v1, 42
    s_waitcnt lgkmcnt(0)
    global_store_b32 v0, v1, s[4:5]
    s_endpgm
  )",
                     1);
  constexpr u32 groups = 64;
  BufferRef b = p.device->alloc(groups * 32 * 4);
  std::vector<u32> seen(groups * 32);
  p.device->copy_in(*b, 0, seen.data(), b->bytes);
  p.run(*code, {b.get()}, groups);
  p.device->copy_out(seen.data(), *b, 0, b->bytes);
  const i64 right = std::ranges::count(seen, 42u);
  p.expect("work-items that stored 42", str(right), str(seen.size()));
}
u16 half(int value) {  // -8 … 8
  const u32 f = std::bit_cast<u32>(float(value));
  return value ? u16((f >> 16 & (1 << 15)) | ((f >> 23 & 255) - 112) << 10 | (f >> 13 & 1023)) : u16(0);
}
void matrix_step(Patient& p) {
  auto code = p.load("matrix", R"(
    s_load_b128 s[4:7], s[0:1], 0x0
    s_load_b64 s[8:9], s[0:1], 0x10
    v_and_b32_e32 v1, 15, v0
    v_lshlrev_b32_e32 v1, 5, v1
    v_lshlrev_b32_e32 v2, 2, v0
    v_mov_b32_e32 v24, 0
    v_mov_b32_e32 v25, 0
    v_mov_b32_e32 v26, 0
    v_mov_b32_e32 v27, 0
    v_mov_b32_e32 v28, 0
    v_mov_b32_e32 v29, 0
    v_mov_b32_e32 v30, 0
    v_mov_b32_e32 v31, 0
    s_waitcnt lgkmcnt(0)
    global_load_b128 v[8:11], v1, s[6:7]
    global_load_b128 v[12:15], v1, s[6:7] offset:16
    global_load_b128 v[16:19], v1, s[8:9]
    global_load_b128 v[20:23], v1, s[8:9] offset:16
    s_waitcnt vmcnt(0)
    v_wmma_f32_16x16x16_f16 v[24:31], v[8:15], v[16:23], v[24:31]
    global_store_b32 v2, v24, s[4:5]
    global_store_b32 v2, v25, s[4:5] offset:128
    global_store_b32 v2, v26, s[4:5] offset:256
    global_store_b32 v2, v27, s[4:5] offset:384
    global_store_b32 v2, v28, s[4:5] offset:512
    global_store_b32 v2, v29, s[4:5] offset:640
    global_store_b32 v2, v30, s[4:5] offset:768
    global_store_b32 v2, v31, s[4:5] offset:896
    s_endpgm
  )",
                     3);
  std::mt19937 random(5);
  int a[16][16], b[16][16];
  u16 a_half[16][16], b_half[16][16];  // rows of A, columns of B
  for (int i = 0; i < 16; i++)
    for (int k = 0; k < 16; k++) {
      a[i][k] = int(random() % 17) - 8, b[i][k] = int(random() % 17) - 8;
      a_half[i][k] = half(a[i][k]), b_half[i][k] = half(b[i][k]);
    }
  BufferRef c = p.device->alloc(1024), x = p.device->alloc(512), y = p.device->alloc(512);
  p.device->copy_in(*x, 0, a_half, 512);
  p.device->copy_in(*y, 0, b_half, 512);
  p.run(*code, {c.get(), x.get(), y.get()});
  float seen[16][16];
  p.device->copy_out(seen, *c, 0, 1024);
  int right = 0;
  for (int i = 0; i < 16; i++)
    for (int j = 0; j < 16; j++) {
      int sum = 0;
      for (int k = 0; k < 16; k++) sum += a[i][k] * b[j][k];
      right += seen[i][j] == float(sum);
    }
  p.expect("elements of v_wmma_f32_16x16x16_f16 that are right", str(right), "256");
}
void fault_step(Patient& p) {  // a store to nowhere must be told, and the chip must go on
  auto code = p.load("astray", R"(
    s_load_b64 s[4:5], s[0:1], 0x0
    v_mov_b32_e32 v1, 42
    v_mov_b32_e32 v0, 0
    s_waitcnt lgkmcnt(0)
    global_store_b32 v0, v1, s[4:5]
    s_endpgm
  )",
                     1);
  BufferRef b = p.device->alloc(page_bytes);
  void* nowhere = reinterpret_cast<void*>(b->address ^ u64(1) << 40);
  Launch l{.code = code.get(), .params = &nowhere, .groups = {1, 1, 1}, .threads = {32, 1, 1}};
  std::string said;
  try {
    p.device->run({&l, 1});
    p.device->wait();
  } catch (const DeviceError& e) {
    said = e.what();
  }
  auto has = [&](std::string what, std::string_view words) {
    const bool there = said.find(words) != said.npos;
    p.expect(std::move(what), there, there ? str(words) : said, str(words));
  };
  has("a store to nowhere is reported", "page fault");
  has("its address", hex(u64(nowhere)));
  has("the engines", "restarted; what was submitted is gone");
  constant_step(p);
}
void timing_step(Patient& p) {
  auto loop = [&](const char* name, std::string_view count) {
    return p.load(name,
                  str("s_mov_b32 s2, ", count, "\nagain:\ns_sub_i32 s2, s2, 1\ns_cmp_lg_u32 s2, 0\n",
                      "s_cbranch_scc1 again\ns_endpgm\n"),
                  0);
  };
  auto few = loop("loop_10000", "10000"), many = loop("loop_500000", "500000");
  p.run(*few, {});  // clocks up
  const i64 short_ns = p.run(*few, {}), long_ns = p.run(*many, {});
  p.note("a loop of 10,000 takes", str(short_ns, " ns"));
  p.expect("one of 500,000 takes longer", long_ns > short_ns, str(long_ns, " ns"), "more");
}

struct Row {
  const char* name;
  void (*run)(Patient&);
  const char* proves;  // of firmware_notes/unproven.md
};
constexpr Row step_rows[] = {
    {"bus", bus_step, "PCI identity and the sizes of BARs"},
    {"discovery", discovery_step, "places of the discovery table; where registers are"},
    {"boot", boot_step, "that real firmware files parse; orders of PSP and SMU; boot in userspace/amd"},
    {"page table", page_table_step, "layout of page table entries"},
    {"nop", nop_step, "HQD, doorbell, RELEASE_MEM and the timeline"},
    {"copy", copy_step, "SDMA packets, the HDP flush"},
    {"constant", constant_step, "dispatch registers, the kernel descriptor, initial registers of a wave"},
    {"matrix", matrix_step, "lane layout of v_wmma_f32_16x16x16_f16"},
    {"fault", fault_step, "the fault status, recovery of the GFXHUB without a mode1 reset"},
    {"timing", timing_step, "that clocks run"},
};

}  // namespace

bool StepReport::right() const {
  return error.empty() && std::ranges::all_of(facts, [](const Fact& f) { return f.right; });
}

DoctorReport examine_amd(std::unique_ptr<hw::Bus> bus, bool is_model,
                         const std::function<void(std::string_view)>& before) {
  DoctorReport out{bus->name(), is_model, {}, {}};
  Patient p{bus.get(), std::move(bus), is_model, nullptr, nullptr};
  for (const Row& row : step_rows) {
    if (!out.steps.empty() && !out.steps.back().right()) {
      out.not_tried.push_back(row.name);
      continue;
    }
    out.steps.push_back({row.name, row.proves, {}, ""});
    p.now = &out.steps.back();
    try {
      if (before) before(row.name);
      row.run(p);
    } catch (const Error& e) {
      p.now->error = e.what();
      if (p.now->error.empty() && p.now->right()) p.now->error = "failed";
    }
  }
  return out;
}

std::string text_of(const DoctorReport& r) {
  std::string out =
      str(r.chip, r.is_model ? ", a model: this shows that the doctor works, nothing of silicon" : "", "\n");
  for (const StepReport& s : r.steps) {
    append(out, str(s.right() ? "ok     " : "WRONG  ", s.name, "\n"));
    for (const Fact& f : s.facts)
      append(out,
             str("         ", f.what, ": ", f.seen, f.right ? "" : str("\n         expected: ", f.expected), "\n"));
    if (!s.error.empty()) append(out, str("         ", s.error, "\n"));
    if (s.right() && !r.is_model) append(out, str("         proves: ", s.proves, "\n"));
  }
  for (const std::string& name : r.not_tried) append(out, str("       ", name, ": not tried\n"));
  append(out, r.right() ? "this chip is what the driver takes it for\n"
                        : "send this report: the first wrong fact is where the tables and the chip differ\n");
  return out;
}
std::string json_of(const DoctorReport& r) {
  std::string out = str("{\"chip\": ", quote_json(r.chip), ", \"model\": ", r.is_model, ", \"right\": ", r.right(),
                        ",\n \"steps\": [");
  for (size_t i = 0; i < r.steps.size(); i++) {
    const StepReport& s = r.steps[i];
    append(out, str(i ? ",\n  " : "\n  ", "{\"name\": ", quote_json(s.name), ", \"right\": ", s.right(),
                    ", \"proves\": ", quote_json(s.proves), ", \"error\": ", quote_json(s.error), ", \"facts\": ["));
    for (size_t k = 0; k < s.facts.size(); k++)
      append(out,
             str(k ? ", " : "", "{\"what\": ", quote_json(s.facts[k].what), ", \"seen\": ", quote_json(s.facts[k].seen),
                 ", \"expected\": ", quote_json(s.facts[k].expected), ", \"right\": ", s.facts[k].right, "}"));
    out += "]}";
  }
  out += "],\n \"not_tried\": [";
  for (size_t i = 0; i < r.not_tried.size(); i++) append(out, str(i ? ", " : "", quote_json(r.not_tried[i])));
  return out + "]}\n";
}

int doctor_main(Arguments args) {
  ingot::Options o("ingot doctor", args);
  const bool amd = o.flag("amd", "examine the Radeon that DEV names, from its bus to its matrix unit");
  const bool json = o.flag("json", "print the report as JSON");
  const std::string file = o.value("output", "", "write the report as JSON to this file, too");
  o.rest("", "Finds the first fact about a chip that is not as the driver takes it. DEV=MODEL+AMD examines a model.", 0,
         0);
  if (!amd) throw UsageError("ingot doctor: --amd says what to examine");
  Reached chip = reach(ctx.DEV.empty() ? "AMD" : std::string_view(ctx.DEV));
  const DoctorReport r = examine_amd(std::move(chip.bus), chip.is_model);
  fputs((json ? json_of(r) : text_of(r)).c_str(), stdout);
  if (!file.empty()) write_file(file, json_of(r));
  return r.right() ? 0 : 1;
}

}  // namespace ingot
