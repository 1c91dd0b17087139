// SPDX-License-Identifier: MIT
// What can be known of a chip by asking for its registers and memory (inspect.h): mappings, rings, waves, who owns an
// address.
#include "tools/inspect/inspect.h"

namespace ingot {
namespace {

using amd::pack32;
using Request = Inspect::Request;
constexpr u64 page_bytes = 4096;

}  // namespace

u64 WaveSlot::bank() const {
  amd::GRBM_GFX_INDEX place{.instance_index = u64(wgp << 2 | simd), .sa_index = u64(array), .se_index = u64(engine)};
  return u64(pack32(place, amd::GFX11)) << 32 | amd::ChipInspect::select_index;
}
std::vector<u32> View::wave(const WaveSlot& slot, u64 index, int count, int lane) {
  amd::SQ_IND_INDEX to{.wave_id = u64(slot.slot), .workitem_id = u64(lane), .auto_incr = count > 1, .index = index};
  u32 bytes = u32(count) * 4;
  std::string reply =
      ask({.what = Inspect::WAVE, .bytes = bytes, .address = pack32(to, generation()), .bank = slot.bank()});
  if (reply.size() != bytes) throw Error(where, ": ", reply.size(), " bytes of a wave, not ", bytes);
  std::vector<u32> words(static_cast<size_t>(count));
  std::memcpy(words.data(), reply.data(), bytes);
  return words;
}

std::vector<u8> View::vram(u64 at, i64 bytes) {
  std::vector<u8> out;
  while (i64(out.size()) < bytes) {
    u32 n = u32(std::min<i64>(bytes - i64(out.size()), Request::most_bytes));
    std::string part = ask({.what = Inspect::VRAM, .bytes = n, .address = at + out.size()});
    if (part.size() != n) throw Error(where, ": ", part.size(), " bytes of VRAM, not ", n);
    out.insert(out.end(), part.begin(), part.end());
  }
  return out;
}

// ---- page tables ---------------------------------------------------------------------------------------------------
// As the hub walks them: the context's registers, then an entry of 8 bytes at each level. Own code on purpose: the
// driver writes these tables with another, the model reads them with a third.
Mapping View::walk(u64 va, int vmid, amd::Hub hub) {
  using namespace amd;
  Mapping m;
  At at{.hub = hub, .index = vmid}, of_hub{.hub = hub};
  u64 low = get<MC_VM_FB_LOCATION_BASE>(of_hub).fb_base << 24, high = (get<MC_VM_FB_LOCATION_TOP>(of_hub).fb_top + 1)
                                                                      << 24;
  if (!vmid && va >= low && va < high) {
    m.physical = va - low, m.bytes = i64(high - va);
    m.steps.push_back({"frame buffer aperture", 0, 0, 0, true});
    return m;
  }
  auto control = get<VM_CONTEXT0_CNTL>(at);
  if (!control.enable_context) return m.problem = str("context ", vmid, " is not enabled"), m;
  constexpr int shifts[] = {12, 21, 30, 39};
  constexpr const char* names[] = {"PTB", "PDB0", "PDB1", "PDB2"};
  int level = int(control.page_table_depth);
  if (va >> 48 || va >> (shifts[level] + 9))
    return m.problem = str(hex(va), " is outside of ", level + 1, " levels"), m;
  u64 entry = pair<VM_CONTEXT0_PAGE_TABLE_BASE_ADDR_LO32, VM_CONTEXT0_PAGE_TABLE_BASE_ADDR_HI32>(at);
  m.steps.push_back({"root", 0, 0, entry, false});
  for (; level >= 0; level--) {
    u64 table = unpack64<PDE>(entry, generation()).address << 12;
    u64 index = va >> shifts[level] & 511, place = table + index * 8;
    if (i64(place) + 8 > vram_bytes) return m.problem = str("a table at ", hex(table), " is outside of VRAM"), m;
    std::memcpy(&entry, vram(place, 8).data(), 8);
    auto e = unpack64<PTE>(entry, generation());
    bool leaf = !level || e.pde_pte;
    m.steps.push_back({names[level], index, place, entry, leaf});
    if (!e.valid) return m.problem = "not mapped: the entry is not valid", m;
    if (!leaf) continue;
    u64 inside = va & ((u64(1) << shifts[level]) - 1);
    m.system = e.system, m.physical = (e.address << 12) + inside, m.bytes = i64((u64(1) << shifts[level]) - inside);
    return m;
  }
  return m;
}

std::vector<u8> View::memory(u64 va, i64 bytes, std::string& problem, int vmid) {
  std::vector<u8> out;
  try {
    while (i64(out.size()) < bytes) {
      u64 at = va + out.size();
      Mapping m = walk(at, vmid);
      if (!m.problem.empty()) return problem = str(hex(at), ": ", m.problem), out;
      i64 n = std::min({bytes - i64(out.size()), m.bytes, i64(Request::most_bytes)});
      if (m.system) {
        std::string part = ask({.what = Inspect::HOST, .bytes = u32(n), .address = at});
        out.insert(out.end(), part.begin(), part.end());
      } else {
        std::vector<u8> part = vram(m.physical, n);
        out.insert(out.end(), part.begin(), part.end());
      }
    }
  } catch (const Error& e) {  // a piece that cannot be had is what the reader wants to know, in its place
    problem = e.what();
  }
  return out;
}

// ---- names ---------------------------------------------------------------------------------------------------------
static u64 number_in(const Json& object, const char* name) {
  auto it = object.find(name);
  return it != object.end() && it->is_number_unsigned() ? it->get<u64>() : 0;
}
static const Json& list_in(const Json& object, const char* name) {
  static const Json empty = Json::array();
  auto it = object.find(name);
  return it != object.end() && it->is_array() ? *it : empty;
}
const Json* View::kernel_at(u64 va) {
  state();
  for (const Json& k : list_in(*state_, "kernels"))
    if (va >= number_in(k, "entry") && va < number_in(k, "end")) return &k;
  return nullptr;
}
std::string View::owner_of(u64 va) {
  if (const Json* k = kernel_at(va))
    return str("kernel ", k->value("name", "?"), " + ", hex(va - number_in(*k, "entry")));
  for (const char* list : {"buffers", "memory"})
    for (const Json& m : list_in(*state_, list))
      if (u64 at = number_in(m, "address"), bytes = number_in(m, "bytes"); va - at < bytes)
        return str(m.value("what", "?"), " of ", bytes, " bytes at ", hex(at), " + ", hex(va - at));
  for (const Json& q : list_in(*state_, "queues"))
    if (u64 ring = number_in(q, "ring"); ring && va >= ring && va < ring + (u64(1) << 20) + 2 * page_bytes)
      return str("ring of the ", q.value("name", "?"), " queue + ", hex(va - ring));
  return "";
}

// ---- rings, waves --------------------------------------------------------------------------------------------------
// Queues of the first micro engine's pipes that are active, and the copy engines' first queues.
std::vector<Ring> View::rings() {
  using namespace amd;
  std::vector<Ring> out;
  constexpr int pipes = 4, queues = 8;
  auto add = [&](Ring r) {
    if (!r.va || !r.dwords) return;
    r.rptr %= r.dwords, r.wptr %= r.dwords;
    out.push_back(std::move(r));
  };
  for (int pipe = 0; pipe < pipes; pipe++)
    for (int queue = 0; queue < queues; queue++) {
      u64 bank = pack32(GRBM_GFX_CNTL{.pipeid = u64(pipe), .meid = 1, .queueid = u64(queue)}, generation());
      if (!get<CP_HQD_ACTIVE>({}, bank).active) continue;
      add({str("compute 1.", pipe, ".", queue), true, pair<CP_HQD_PQ_BASE, CP_HQD_PQ_BASE_HI>({}, bank) << 8,
           u64(2) << get<CP_HQD_PQ_CONTROL>({}, bank).queue_size, read(layout_CP_HQD_PQ_RPTR, {}, bank),
           read(layout_CP_HQD_PQ_WPTR_LO, {}, bank)});
    }
  for (int engine = 0; engine < 2; engine++) {
    At at{.index = engine};
    auto control = get<SDMA0_QUEUE0_RB_CNTL>(at);
    if (!control.rb_enable) continue;
    add({str("copy ", engine), false, pair<SDMA0_QUEUE0_RB_BASE, SDMA0_QUEUE0_RB_BASE_HI>(at) << 8,
         u64(1) << control.rb_size, read(layout_SDMA0_QUEUE0_RB_RPTR, at) / 4,
         read(layout_SDMA0_QUEUE0_RB_WPTR, at) / 4});
  }
  return out;
}
std::vector<u32> View::ring_words(const Ring& ring, u64 first, u64 count) {
  std::vector<u32> out;
  check(count <= ring.dwords, count);
  while (out.size() < count) {
    u64 at = (first + out.size()) % ring.dwords, n = std::min(count - out.size(), ring.dwords - at);
    std::string problem;
    std::vector<u8> bytes = memory(ring.va + at * 4, i64(n) * 4, problem);
    if (!problem.empty()) throw Error("the ring of ", ring.name, " cannot be read: ", problem);
    size_t old = out.size();
    out.resize(old + n);
    std::memcpy(&out[old], bytes.data(), bytes.size());
  }
  return out;
}

std::vector<WaveInfo> View::waves() {
  using namespace amd;
  auto code = [&](const hw::Layout& l) { return u64(l.code[size_t(generation())]); };
  constexpr int simds = 4;
  constexpr u64 exec_lo = 126;  // operand encoding
  std::vector<WaveInfo> out;
  WaveSlot w;
  for (w.engine = 0; w.engine < ip.shader_engines; w.engine++)
    for (w.array = 0; w.array < ip.arrays_per_engine; w.array++)
      for (w.wgp = 0; w.wgp < ip.units_per_array / 2; w.wgp++)
        for (w.simd = 0; w.simd < simds; w.simd++)
          for (w.slot = 0; w.slot < ip.waves_per_simd; w.slot++) {
            u32 status = wave(w, code(layout_SQ_WAVE_STATUS), 1)[0];
            if (!unpack32<SQ_WAVE_STATUS>(status, generation()).valid) continue;
            u64 pc = wave(w, code(layout_SQ_WAVE_PC_LO), 1)[0] | u64(wave(w, code(layout_SQ_WAVE_PC_HI), 1)[0]) << 32;
            u64 exec = wave(w, SQ_IND::SGPRS + exec_lo, 1)[0] | u64(wave(w, SQ_IND::SGPRS + exec_lo + 1, 1)[0]) << 32;
            out.push_back({w, pc, exec, status, wave(w, code(layout_SQ_WAVE_HW_ID2), 1)[0]});
          }
  return out;
}

WaveRegisters View::registers_of(const WaveInfo& w) {
  using namespace amd;
  constexpr int scalars = 108, m0 = 125, lanes = 32, granule = 8, most = 256;
  WaveRegisters out;
  for (const hw::Layout* l : rows)
    if (std::string_view(l->family) == "SQ_WAVE" && l->exists(generation()))
      out.state.emplace_back(l, wave(w.at, u64(l->code[size_t(generation())]), 1)[0]);
  out.scalar = wave(w.at, SQ_IND::SGPRS, scalars);
  out.m0 = wave(w.at, SQ_IND::SGPRS + m0, 1)[0];
  u32 alloc = wave(w.at, u64(layout_SQ_WAVE_GPR_ALLOC.code[size_t(generation())]), 1)[0];
  int count = std::min((int(unpack32<SQ_WAVE_GPR_ALLOC>(alloc, generation()).vgpr_size) + 1) * granule, most);
  out.vector.assign(size_t(count), std::vector<u32>(lanes));
  for (int lane = 0; lane < lanes; lane++) {
    std::vector<u32> all = wave(w.at, SQ_IND::VGPRS, count, lane);
    for (size_t v = 0; v < all.size(); v++) out.vector[v][size_t(lane)] = all[v];
  }
  return out;
}

}  // namespace ingot
