// SPDX-License-Identifier: MIT
// `ingot wave`: the waves that are on the chip now: where each is, in which kernel, at which instruction; their
// registers, and the code around the pc. On silicon a running wave goes on while it is read, so its registers are of
// several moments; `halt` stops all waves of a chip first (SQ_CMD), `resume` lets them go on.
#include <cstdio>
#include "compiler/isa/isa.h"
#include "tools/inspect/inspect.h"

namespace ingot {
namespace {

using namespace amd;

struct Line {
  u64 pc;
  std::string text;
  bool now;
};
// Instructions from some before the pc to some after. Which bytes before it start one is known only from the kernel's
// entry on; without a kernel the first line is the pc.
std::vector<Line> code_around(View& view, u64 pc, int before, int after, std::string& problem) {
  std::vector<Line> out;
  const isa::Isa* isa = isa::find_isa("rdna", view.ip.arch());
  if (!isa) return problem = str("no disassembler for ", view.ip.arch()), out;
  const Json* kernel = view.kernel_at(pc);
  u64 start = kernel ? kernel->value("entry", pc) : pc;
  constexpr u64 most = 1 << 20;
  if (pc - start > most) start = pc;
  std::vector<u8> bytes = view.memory(start, i64(pc - start) + (after + 1) * 8, problem);
  for (size_t i = 0; i < bytes.size();) {
    isa::Instruction in;
    size_t n = isa->decode(std::span(bytes).subspan(i), in);
    out.push_back({start + i, n ? isa->print(in) : "?", start + i == pc});
    if (out.back().pc > pc && i64(out.size()) > after && out[out.size() - size_t(after) - 1].pc >= pc) break;
    i += n ? n : isa->unit;
  }
  auto here = std::find_if(out.begin(), out.end(), [](const Line& l) { return l.now; });
  if (here - out.begin() > before) out.erase(out.begin(), here - before);
  return out;
}

void print_registers(View& view, const WaveRegisters& r, int lanes) {
  Generation g = view.generation();
  for (auto& [layout, value] : r.state)
    printf("    %-16s %s %s\n", layout->name + strlen("SQ_WAVE_"), hex(value, 8).c_str(),
           describe_fields(*layout, {&value, 1}, g).c_str());
  constexpr size_t vcc = 106;
  for (size_t i = 0; i < vcc; i += 8) {
    bool any = false;
    for (size_t k = i; k < std::min(i + 8, vcc); k++) any |= r.scalar[k] != 0;
    if (!any) continue;
    printf("    s%-4zu", i);
    for (size_t k = i; k < std::min(i + 8, vcc); k++) printf(" %s", hex(r.scalar[k], 8).c_str());
    printf("\n");
  }
  printf("    vcc   %s%s  m0 %s\n", hex(r.scalar[vcc + 1], 8).c_str(), hex(r.scalar[vcc], 8).substr(2).c_str(),
         hex(r.m0, 8).c_str());
  for (size_t v = 0; v < r.vector.size(); v++) {
    bool any = false;
    for (u32 x : r.vector[v]) any |= x != 0;
    if (!any) continue;
    printf("    v%-4zu", v);
    for (int lane = 0; lane < lanes; lane++) printf(" %s", hex(r.vector[v][size_t(lane)], 8).c_str());
    printf("%s\n", lanes < int(r.vector[v].size()) ? " …" : "");
  }
}

// SQ_CMD to every wave of every SIMD. Linux, include/soc21_enum.h: SETHALT 1, mode BROADCAST 1.
int command(View& view, u64 halt, bool yes) {
  SQ_CMD c{.cmd = 1, .mode = 1, .data = halt};
  if (!yes) throw UsageError("ingot wave ", halt ? "halt" : "resume", " writes SQ_CMD and needs --yes");
  GRBM_GFX_INDEX all{.sa_broadcast_writes = 1, .instance_broadcast_writes = 1, .se_broadcast_writes = 1};
  u64 bank = u64(pack32(all, view.generation())) << 32 | ChipInspect::select_index;
  u64 at = hw::register_address(layout_SQ_CMD, view.generation(), view.ip.bases);
  view.write(at, pack32(c, view.generation()), bank, yes);
  printf("SQ_CMD %s\n", describe_fields(layout_SQ_CMD, pack(c, view.generation()), view.generation()).c_str());
  return 0;
}

}  // namespace

int wave_main(Arguments args) {
  ingot::Options o("ingot wave", args);
  View view(o);
  bool json = o.flag("json", "print JSON"), registers = o.flag("registers", "all registers of each wave"),
       yes = o.flag("yes", "really write");
  i64 before = o.number("before", 4, "instructions to show before the pc");
  i64 after = o.number("after", 4, "and after it");
  i64 lanes = o.number("lanes", 8, "lanes of vector registers to show");
  i64 most = o.number("most", 8, "show the code of so many waves");
  auto words = o.rest("[halt | resume | SLOT]",
                      "Lists the waves on the chip, with the instructions around the pc of each.\n"
                      "SLOT is a wave as it is listed: se0.sa1.wgp0.simd2.5",
                      0, 1);
  if (before < 0 || after < 0 || lanes < 1 || lanes > 32 || before > 1000 || after > 1000)
    throw UsageError("ingot wave: --before and --after are 0 to 1000, --lanes 1 to 32");
  view.look();
  std::string_view word = words.empty() ? "" : words[0];
  if (word == "halt" || word == "resume") return command(view, word == "halt", yes);
  std::vector<WaveInfo> waves = view.waves();
  size_t on_chip = waves.size();
  if (!word.empty()) std::erase_if(waves, [&](const WaveInfo& w) { return w.at.text() != word; });
  if (!word.empty() && waves.empty()) throw Error("no wave ", word, " is on the chip; ", on_chip, " others are");
  Generation g = view.generation();
  Json out = Json::array();
  if (!json) printf("%s: %zu waves\n", view.where.c_str(), on_chip);
  for (size_t i = 0; i < waves.size(); i++) {
    const WaveInfo& w = waves[i];
    std::string owner = view.owner_of(w.pc), problem;
    bool detail = i64(i) < most;
    std::vector<Line> code;
    if (detail) code = code_around(view, w.pc, int(before), int(after), problem);
    WaveRegisters r;
    if (registers && detail) r = view.registers_of(w);
    std::string status = describe_fields(layout_SQ_WAVE_STATUS, {&w.status, 1}, g);
    if (json) {
      Json j{{"slot", w.at.text()}, {"pc", w.pc}, {"at", owner}, {"exec", w.exec}, {"status", w.status}};
      if (const Json* k = view.kernel_at(w.pc)) j["kernel"] = k->value("name", "?");
      for (const Line& l : code) j["code"].push_back({{"pc", l.pc}, {"text", l.text}, {"now", l.now}});
      if (registers && detail) {
        for (auto& [layout, value] : r.state) j["state"][layout->name] = value;
        j["scalar"] = r.scalar, j["m0"] = r.m0, j["vector"] = r.vector;
      }
      out.push_back(j);
      continue;
    }
    printf("%s  pc %s%s%s  exec %s  %s\n", bold(w.at.text()).c_str(), hex(w.pc, 12).c_str(), owner.empty() ? "" : ", ",
           owner.c_str(), hex(w.exec, 8).c_str(), status.c_str());
    for (const Line& l : code) printf("  %s %s  %s\n", l.now ? "=>" : "  ", hex(l.pc, 12).c_str(), l.text.c_str());
    if (!problem.empty() && code.empty()) printf("     %s\n", problem.c_str());
    if (registers && detail) print_registers(view, r, int(lanes));
  }
  if (json) print_json(out);
  view.save();
  return 0;
}

}  // namespace ingot
