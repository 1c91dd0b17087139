// SPDX-License-Identifier: MIT
// `ingot ring`: the packets in the queues of a GPU, those that the engine has taken and those that wait, with what they
// start; or an indirect buffer by its address. --follow prints packets as they come.
#include <chrono>
#include <cstdio>
#include <thread>
#include "tools/inspect/inspect.h"

namespace ingot {
namespace {

void print_packets(const std::vector<PacketAt>& packets, int depth, bool& first_pending) {
  std::string indent(size_t(depth) * 4, ' ');
  for (const PacketAt& p : packets) {
    if (p.pending && std::exchange(first_pending, false))
      printf("%s--- the engine has taken what is above\n", indent.c_str());
    printf("%s%s  %s\n", indent.c_str(), hex(p.va, 12).c_str(), p.text.c_str());
    for (const std::string& note : p.notes)
      for (std::string_view line : split(note, '\n'))
        printf("%s                %.*s\n", indent.c_str(), int(line.size()), line.data());
    print_packets(p.inside, depth + 1, first_pending);
  }
}
Json json_of(const std::vector<PacketAt>& packets, amd::Generation g) {
  Json out = Json::array();
  for (const PacketAt& p : packets) {
    Json j{{"address", p.va}, {"packet", p.row ? p.row->name : ""}, {"words", p.words}, {"pending", p.pending}};
    if (p.row) {
      Json fields = Json::object();
      std::span<const u32> words = std::span(p.words).subspan(std::string_view(p.row->family) == "PM4" ? 1 : 0);
      for (const hw::Field& f : p.row->fields)
        if (f.exists(g)) fields[f.name] = hw::get_bits(words, f, g);
      j["fields"] = fields;
    }
    if (!p.notes.empty()) j["notes"] = p.notes;
    if (!p.kernel.empty()) j["kernel"] = p.kernel;
    if (!p.inside.empty()) j["inside"] = json_of(p.inside, g);
    out.push_back(j);
  }
  return out;
}

// From each write pointer to the next one.
void follow(View& view, std::vector<Ring> rings, i64 interval_ms, i64 count, bool json) {
  if (!view.live()) throw UsageError(view.where, " is a file; nothing comes to it");
  if (interval_ms < 1) throw UsageError("--interval is at least 1 ms, got ", interval_ms);
  std::vector<Decoder> decoders(rings.size(), Decoder(view));
  for (i64 round = 0; count <= 0 || round < count; round++) {
    std::this_thread::sleep_for(std::chrono::milliseconds(interval_ms));
    view.forget();
    std::vector<Ring> now = view.rings();
    for (size_t i = 0; i < rings.size(); i++)
      for (const Ring& r : now) {
        if (r.name != rings[i].name || r.wptr == rings[i].wptr) continue;
        u64 n = (r.wptr + r.dwords - rings[i].wptr) % r.dwords;
        std::vector<u32> words = view.ring_words(r, rings[i].wptr, n);
        u64 va = r.va + rings[i].wptr * 4;
        std::vector<PacketAt> packets = r.pm4 ? decoders[i].pm4(words, va) : decoders[i].sdma(words, va);
        bool none = false;
        if (json)
          printf("%s\n", Json{{"ring", r.name}, {"packets", json_of(packets, view.generation())}}.dump().c_str());
        else
          printf("%s\n", bold(r.name).c_str()), print_packets(packets, 0, none);
        rings[i] = r;
      }
    fflush(stdout);
  }
}

}  // namespace

int ring_main(Arguments args) {
  Options o("ingot ring", args);
  View view(o);
  bool json = o.flag("json", "print JSON"), follows = o.flag("follow", "go on: print packets as they come");
  i64 last = o.number("last", 256, "dwords before the write pointer to show");
  std::string buffer = o.value("ib", "", "decode the indirect buffer at this virtual address instead");
  i64 dwords = o.number("dwords", 64, "with --ib: its length");
  bool sdma = o.flag("sdma", "with --ib: of a copy engine");
  i64 interval = o.number("interval", 100, "with --follow: milliseconds between looks");
  i64 count = o.number("count", 0, "with --follow: look so often, then end (0: until interrupted)");
  auto names =
      o.rest("[compute | copy]",
             "Decodes the rings of a GPU's queues: which packets were taken, which wait, what they start.", 0, 1);
  if (last < 0 || dwords < 1 || dwords > 1 << 20)
    throw UsageError("ingot ring: --last is at least 0, --dwords 1 to ", 1 << 20);
  view.look();
  if (!buffer.empty()) {
    std::string problem;
    u64 va = parse_number(buffer, "--ib");
    if (va % 4) throw UsageError("--ib ", buffer, " is not a multiple of 4");
    std::vector<u8> bytes = view.memory(va, dwords * 4, problem);
    std::vector<u32> words(bytes.size() / 4);
    if (!words.empty()) std::memcpy(words.data(), bytes.data(), words.size() * 4);
    if (!problem.empty() && words.empty()) throw Error(problem);
    Decoder decoder(view);
    std::vector<PacketAt> packets = sdma ? decoder.sdma(words, va) : decoder.pm4(words, va);
    bool none = false;
    json ? print_json(json_of(packets, view.generation())) : print_packets(packets, 0, none);
    if (!problem.empty()) fprintf(stderr, "%s\n", problem.c_str());
    return view.save(), 0;
  }
  std::vector<Ring> rings = view.rings();
  if (!names.empty()) {
    if (names[0] != "compute" && names[0] != "copy")
      throw UsageError("ingot ring [compute | copy], got '", names[0], "'");
    std::erase_if(rings, [&](const Ring& r) { return !r.name.starts_with(names[0]); });
  }
  if (rings.empty())
    throw Error(view.where, ": no queue is active", view.live() ? "; --boot starts them on a chip of DEV" : "");
  Json out = Json::array();
  for (const Ring& r : rings) {
    if (follows) continue;
    std::vector<PacketAt> packets = Decoder(view).ring(r, u64(last));
    u64 waiting = (r.wptr + r.dwords - r.rptr) % r.dwords;
    if (json) {
      out.push_back({{"ring", r.name},
                     {"address", r.va},
                     {"dwords", r.dwords},
                     {"rptr", r.rptr},
                     {"wptr", r.wptr},
                     {"packets", json_of(packets, view.generation())}});
      continue;
    }
    printf("%s at %s, %llu dwords, rptr %s, wptr %s, %llu wait\n", bold(r.name).c_str(), hex(r.va).c_str(),
           (unsigned long long)r.dwords, hex(r.rptr).c_str(), hex(r.wptr).c_str(), (unsigned long long)waiting);
    bool first_pending = true;
    print_packets(packets, 0, first_pending);
  }
  if (json && !follows) print_json(out);
  if (follows) follow(view, rings, interval, count, json);
  view.save();
  return 0;
}

}  // namespace ingot
