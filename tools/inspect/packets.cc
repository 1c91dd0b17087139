// SPDX-License-Identifier: MIT
// Packets as a reader wants them (inspect.h): fields by name, what registers they set, the kernel that a dispatch
// starts with its arguments, the indirect buffers that they name, read in turn.
//
// Where packets begin in a ring that has gone round is not written anywhere. They end at the write pointer, though, so
// the first place from which a chain of packets that exist leads exactly there is taken.
#include "tools/inspect/inspect.h"

namespace ingot {
namespace {

using namespace amd;
using hw::Layout;

constexpr int most_depth = 4;
constexpr u64 most_dwords = 1 << 16;  // of one indirect buffer that is shown

struct Head {
  const Layout* row = nullptr;
  size_t dwords = 1;  // with the header
};
Head head_of(std::span<const u32> words, Generation g, bool pm4) {
  if (pm4) {
    auto h = unpack32<PM4_HEADER>(words[0], g);
    const Layout* row = h.type == PM4_HEADER::TYPE3 ? hw::find_code(rows, "PM4", i64(h.opcode), g) : nullptr;
    return {row, !row || h.count == PM4_HEADER::HEADER_ONLY ? 1 : size_t(h.count) + 2};
  }
  const Layout* row = hw::find_code(rows, "SDMA", i64(words[0] & ((1 << 16) - 1)), g);
  if (!row) return {};
  size_t n = size_t(hw::words_of(*row, g));
  if (row == &layout_SDMA_NOP) n += unpack<SDMA_NOP>(words, g).count;
  if (row == &layout_SDMA_WRITE_LINEAR) n += unpack<SDMA_WRITE_LINEAR>(words, g).count + 1;
  return {row, n};
}

// The first offset from which packets lead to the end of the words.
size_t first_packet(std::span<const u32> words, Generation g, bool pm4) {
  std::vector<bool> leads(words.size() + 1);
  leads[words.size()] = true;
  size_t first = words.size();
  for (size_t i = words.size(); i-- > 0;) {
    Head h = head_of(words.subspan(i), g, pm4);
    leads[i] = h.row && i + h.dwords <= words.size() && leads[i + h.dwords];
    if (leads[i]) first = i;
  }
  return first;
}

struct Window {
  const Layout* packet;
  u64 first;
} constexpr windows[] = {{&layout_SET_SH_REG, REG_WINDOW::SH},
                         {&layout_SET_UCONFIG_REG, REG_WINDOW::UCONFIG},
                         {&layout_SET_CONTEXT_REG, REG_WINDOW::CONTEXT},
                         {&layout_SET_CONFIG_REG, REG_WINDOW::CONFIG}};

}  // namespace

void Decoder::dispatch(PacketAt& p, const u32 groups[3]) {
  auto at = [&](const Layout& l, int index = 0) -> std::optional<u32> {
    auto row = set_.find(&l);
    if (row == set_.end() || !row->second.count(index)) return {};
    return row->second.at(index);
  };
  auto low = at(layout_COMPUTE_PGM_LO), high = at(layout_COMPUTE_PGM_HI);
  if (!low || !high) {
    p.notes.push_back("its program was set before what is shown");
    return;
  }
  u64 entry = (*low | u64(*high) << 32) << 8;
  const Json* kernel = view_.kernel_at(entry);
  p.kernel = kernel ? kernel->value("name", "?") : "";
  auto threads = [&](const Layout& l) { return at(l).value_or(0); };
  p.notes.push_back(str(kernel ? str("kernel ", p.kernel) : "a program that no kernel of the process has", " at ",
                        hex(entry), ", ", groups[0], "x", groups[1], "x", groups[2], " groups of ",
                        threads(layout_COMPUTE_NUM_THREAD_X), "x", threads(layout_COMPUTE_NUM_THREAD_Y), "x",
                        threads(layout_COMPUTE_NUM_THREAD_Z)));
  auto user = [&](int i) { return at(layout_COMPUTE_USER_DATA_0, i); };
  if (!arguments_ || !user(0) || !user(1)) return;
  u64 place = *user(0) | u64(*user(1)) << 32;
  constexpr i64 shown = 8;
  std::string problem;
  std::vector<u8> bytes = view_.memory(place, shown * 8, problem);
  if (!problem.empty()) return p.notes.push_back(str("arguments at ", hex(place), ": ", problem));
  std::string text = str("arguments at ", hex(place), ":");
  for (i64 i = 0; i < shown; i++) {
    u64 value = 0;
    std::memcpy(&value, &bytes[size_t(i) * 8], 8);
    std::string owner = view_.owner_of(value);
    if (owner.empty()) break;  // what follows is no address of this process: the end of them, or what they were before
    append(text, str("\n  ", hex(value), " ", owner));
  }
  if (text.back() != ':') p.notes.push_back(text);
}

std::vector<PacketAt> Decoder::pm4(std::span<const u32> words, u64 va, int depth) {
  Generation g = view_.generation();
  std::vector<PacketAt> out;
  for (size_t i = 0; i < words.size();) {
    Head h = head_of(words.subspan(i), g, true);
    size_t n = std::min(h.dwords, words.size() - i);
    PacketAt p{va + i * 4, h.row, {words.begin() + i64(i), words.begin() + i64(i + n)}, "", {}, "", false, {}};
    std::span<const u32> body = std::span(p.words).subspan(1);
    i += n;
    if (!p.row) {
      p.text = str(hex(p.words[0], 8), " is no packet");
      out.push_back(std::move(p));
      continue;
    }
    size_t fixed = std::min(body.size(), size_t(hw::words_of(*p.row, g)));
    p.text = describe(*p.row, body.first(fixed), g);
    bool sets = false;
    for (const Window& w : windows)
      if (p.row == w.packet && fixed) {
        sets = true;
        for (size_t k = fixed; k < body.size(); k++) {
          u64 dword = w.first + unpack<SET_SH_REG>(body, g).reg_offset + (k - fixed);
          const hw::RegisterName* r = view_.registers.find(dword);
          p.notes.push_back(r ? str(r->text(), " ", hex(body[k]), " ", describe_fields(*r->layout, {&body[k], 1}, g))
                              : str("dword ", hex(dword), " ", hex(body[k])));
          if (r) set_[r->layout][r->index] = body[k];
        }
      }
    if (!sets && fixed < body.size() && p.row != &layout_NOP) {
      p.text += " data";
      for (size_t k = fixed; k < body.size(); k++) p.text += " " + hex(body[k]);
    }
    if (p.row == &layout_WAIT_REG_MEM && unpack<WAIT_REG_MEM>(body, g).memspace != WAIT_REG_MEM::MEMORY) {
      u64 a = unpack<WAIT_REG_MEM>(body, g).address;
      for (u64 dword : {a & ~u32(0), a >> 32})
        if (const hw::RegisterName* r = view_.registers.find(dword); r && dword)
          p.notes.push_back("register " + r->text());
    }
    if (p.row == &layout_DISPATCH_DIRECT) {
      auto d = unpack<DISPATCH_DIRECT>(body, g);
      u32 groups[] = {u32(d.dim_x), u32(d.dim_y), u32(d.dim_z)};
      dispatch(p, groups);
    }
    if (p.row == &layout_INDIRECT_BUFFER) {
      auto ib = unpack<INDIRECT_BUFFER>(body, g);
      u64 n_dwords = std::min(ib.ib_size, most_dwords);
      std::string problem;
      if (depth >= most_depth) {
        p.notes.push_back("nested too deep to be followed");
      } else {
        std::vector<u8> bytes = view_.memory(ib.address & ~u64(3), i64(n_dwords) * 4, problem, int(ib.ib_vmid));
        std::vector<u32> inside(bytes.size() / 4);
        if (!inside.empty()) std::memcpy(inside.data(), bytes.data(), inside.size() * 4);
        p.inside = pm4(inside, ib.address & ~u64(3), depth + 1);
        if (n_dwords < ib.ib_size) p.notes.push_back(str("the first ", n_dwords, " dwords of it"));
        if (!problem.empty()) p.notes.push_back(problem);
      }
    }
    out.push_back(std::move(p));
  }
  return out;
}

std::vector<PacketAt> Decoder::sdma(std::span<const u32> words, u64 va) {
  Generation g = view_.generation();
  std::vector<PacketAt> out;
  for (size_t i = 0; i < words.size();) {
    Head h = head_of(words.subspan(i), g, false);
    size_t n = std::min(h.dwords, words.size() - i);
    if (!words[i] && !out.empty() && out.back().row == h.row && !out.back().words.back()) {  // padding
      out.back().words.push_back(0);
      out.back().text = str("SDMA_NOP, ", out.back().words.size(), " times");
      i++;
      continue;
    }
    PacketAt p{va + i * 4, h.row, {words.begin() + i64(i), words.begin() + i64(i + n)}, "", {}, "", false, {}};
    i += n;
    p.text = p.row ? describe(*p.row, std::span(p.words).first(std::min(n, size_t(hw::words_of(*p.row, g)))), g)
                   : str(hex(p.words[0], 8), " is no packet");
    out.push_back(std::move(p));
  }
  return out;
}

std::vector<PacketAt> Decoder::ring(const Ring& ring, u64 dwords) {
  u64 waiting = (ring.wptr + ring.dwords - ring.rptr) % ring.dwords;
  u64 count = std::min(std::max(waiting, dwords), ring.dwords - 1),
      first = (ring.wptr + ring.dwords - count) % ring.dwords;
  std::vector<u32> words = view_.ring_words(ring, first, count);
  u64 skip = first_packet(words, view_.generation(), ring.pm4);
  if (skip > count - waiting) skip = count - waiting;  // not a chain: show all that waits
  std::span<const u32> from = std::span(words).subspan(skip);
  std::vector<PacketAt> out = ring.pm4 ? pm4(from, 0) : sdma(from, 0);
  if (waiting < count && !out.empty() && out[0].row == &layout_SDMA_NOP && !out[0].words.back())
    out.erase(out.begin());  // never written
  for (PacketAt& p : out) {
    u64 position = p.va / 4 + skip;  // in words
    p.pending = position >= count - waiting;
    p.va = ring.va + (first + position) % ring.dwords * 4;
  }
  return out;
}

void look_at_everything(View& view) {
  Json state = view.state();
  try {
    view.metrics();
  } catch (const Error&) {  // without a driver there are none
  }
  constexpr u64 history = 4096;
  constexpr i64 most_code = 64 << 10;
  std::string problem;
  for (const Ring& r : view.rings()) Decoder(view).ring(r, history);
  for (const Json& k : state.value("kernels", Json::array())) {
    u64 entry = k.value("entry", u64(0)), end = k.value("end", u64(0));
    if (end > entry) view.memory(entry, std::min(i64(end - entry), most_code), problem);
  }
  for (const char* list : {"buffers", "memory"})
    for (const Json& m : state.value(list, Json::array())) view.walk(m.value("address", u64(0)));
  for (const WaveInfo& w : view.waves()) view.registers_of(w);
}

}  // namespace ingot
