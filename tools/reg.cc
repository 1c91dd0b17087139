// SPDX-License-Identifier: MIT
// `ingot reg`: registers by name, with their bit fields. A name is a row's ("CP_HQD_ACTIVE"), with [3] one of several,
// with .field a bit field; * and ? stand for letters; a number is an address in dwords, as the rows' documentation and
// the chip's own registers have it. Registers of queues and VMIDs exist once per queue and VMID, those of the shader
// engines once for each: --queue, --vmid, --se say whose.
#include <unistd.h>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <set>
#include <thread>
#include "tools/inspect/inspect.h"

namespace ingot {
namespace {

using hw::Field, hw::Layout, hw::RegisterName;

// Reading these does something, so only who names one reads it.
constexpr const Layout* not_for_reading[] = {
    &amd::layout_VM_INVALIDATE_ENG0_SEM,  // takes the semaphore
    &amd::layout_MM_DATA,
    &amd::layout_BIF_BX_PF0_RSMU_DATA,  // reads whatever the index register names
    &amd::layout_SQ_IND_DATA,
    &amd::layout_BIF_BX0_PCIE_DATA2,
};

struct Chosen {  // a register, and one of its fields if that was named
  u64 dword = 0;
  const RegisterName* name = nullptr;  // nullptr: no row
  const Field* field = nullptr;
  std::string text() const { return name ? str(name->text(), field ? str(".", field->name) : "") : hex(dword); }
};

struct Bank {
  u64 bits = 0;
  std::string text;  // " (queue 1.0.2)"
};
Bank take_bank(Options& o) {
  std::string queue = o.value("queue", "", "of compute queue ME.PIPE.QUEUE, for CP_HQD_*, CP_MQD_* and COMPUTE_*");
  i64 vmid = o.number("vmid", 0, "of this address space, for SH_MEM_*");
  std::string engine = o.value("se", "", "of shader engine ENGINE[.ARRAY[.INSTANCE]], the others: all");
  Bank out;
  amd::GRBM_GFX_CNTL select;
  auto part = [](const std::vector<std::string_view>& parts, size_t i, u64 most, const char* what) -> u64 {
    if (i >= parts.size()) return 0;
    u64 v = parse_number(parts[i], what);
    if (v > most) throw UsageError(what, " is 0 to ", most, ", got ", v);
    return v;
  };
  if (!queue.empty()) {
    auto parts = split(queue, '.');
    if (parts.size() != 3) throw UsageError("--queue is ME.PIPE.QUEUE, for example 1.0.0, got '", queue, "'");
    select.meid = part(parts, 0, 3, "ME"), select.pipeid = part(parts, 1, 3, "PIPE");
    select.queueid = part(parts, 2, 7, "QUEUE");
    out.text = str(" (queue ", queue, ")");
  }
  if (vmid < 0 || vmid > 15) throw UsageError("--vmid is 0 to 15, got ", vmid);
  if (vmid) select.vmid = u64(vmid), out.text += str(" (vmid ", vmid, ")");
  out.bits = amd::pack32(select, amd::GFX11);
  if (!engine.empty()) {
    auto parts = split(engine, '.');
    amd::GRBM_GFX_INDEX place;
    place.se_index = part(parts, 0, 7, "ENGINE");
    place.sa_broadcast_writes = parts.size() < 2, place.instance_broadcast_writes = parts.size() < 3;
    place.sa_index = part(parts, 1, 1, "ARRAY"), place.instance_index = part(parts, 2, 63, "INSTANCE");
    out.bits |= u64(amd::pack32(place, amd::GFX11)) << 32 | amd::ChipInspect::select_index;
    out.text += str(" (se ", engine, ")");
  }
  return out;
}

bool same(std::string_view a, std::string_view b) { return matches(a, b) && matches(b, a); }

// Every register that a word names; UsageError with what is near when there is none.
std::vector<Chosen> choose(const View& view, std::string_view word) {
  std::vector<Chosen> out;
  if (word.starts_with("0x") || (!word.empty() && isdigit(word[0]))) {
    u64 dword = parse_number(word, "an address in dwords");
    return {{dword, view.registers.find(dword), nullptr}};
  }
  size_t dot = word.find('.');
  std::string_view row = word.substr(0, dot), field = dot == word.npos ? "" : word.substr(dot + 1);
  const Layout* found = nullptr;
  std::set<std::string_view> known;
  for (auto& [dword, name] : view.registers.all()) {
    std::string full = name.text();
    std::string_view plain = std::string_view(full).substr(0, full.find('['));
    known.insert(name.layout->name);
    if (name.instance || (!matches(row, full) && !matches(row, plain) && !same(row, name.layout->name))) continue;
    found = name.layout;
    const Field* f = nullptr;
    for (const Field& one : name.layout->fields)
      if (!field.empty() && same(field, one.name) && one.exists(view.generation())) f = &one;
    if (field.empty() || f) out.push_back({dword, &name, f});
  }
  if (!out.empty()) return out;
  if (found) {
    std::vector<std::string_view> fields;
    for (const Field& f : found->fields)
      if (f.exists(view.generation())) fields.push_back(f.name);
    std::string near = closest(field, fields);
    throw UsageError(found->name, " has no field '", field, "'", near.empty() ? "" : "; did you mean ", near,
                     "? It has ", fields);
  }
  std::vector<std::string_view> names(known.begin(), known.end());
  std::string near = closest(row, names);
  if (near.empty())
    for (std::string_view n : names)
      if (near.empty() && matches(str("*", row, "*"), n)) near = n;
  throw UsageError("no register '", row, "' on ", view.ip.arch(), near.empty() ? "" : "; did you mean ", near,
                   near.empty() ? "; `ingot reg list` names all" : "?");
}
std::vector<Chosen> choose_all(const View& view, std::span<const std::string_view> words) {
  std::vector<Chosen> out;
  for (std::string_view w : words)
    for (const Chosen& c : choose(view, w)) out.push_back(c);
  return out;
}

u64 field_of(const Field& f, u32 value, int generation) { return hw::get_bits({&value, 1}, f, generation); }
std::string value_text(const Layout& l, const Field& f, u64 value) {
  std::string name = hw::value_name(l, f.name, value);
  std::string number = value < 10 ? str(value) : str(hex(value), " (", value, ")");
  return name.empty() ? number : str(name, " = ", number);
}
Json json_of(const View& view, const Chosen& c, u32 value) {
  Json j{{"name", c.name ? c.name->text() : ""}, {"address", c.dword}, {"value", value}};
  if (!c.name) return j;
  Json fields = Json::object(), names = Json::object();
  for (const Field& f : c.name->layout->fields) {
    if (!f.exists(view.generation()) || (c.field && c.field != &f)) continue;
    u64 v = field_of(f, value, view.generation());
    fields[f.name] = v;
    if (std::string n = hw::value_name(*c.name->layout, f.name, v); !n.empty()) names[f.name] = n;
  }
  j["fields"] = fields, j["names"] = names;
  return j;
}
// One line with the fields that are set; `all`: a line for each field.
void print_register(const View& view, const Chosen& c, u32 value, bool all) {
  int g = view.generation();
  if (c.field) {
    printf("%s %s = %s\n", c.text().c_str(), bits_text(*c.field, g).c_str(),
           value_text(*c.name->layout, *c.field, field_of(*c.field, value, g)).c_str());
    return;
  }
  printf("%s %s", bold(c.text()).c_str(), hex(value, 8).c_str());
  if (!all) {
    std::string fields = c.name ? hw::describe_fields(*c.name->layout, {&value, 1}, g) : "";
    printf("%s%s\n", fields.empty() ? "" : " ", fields.c_str());
    return;
  }
  printf("  at dword %s\n", hex(c.dword).c_str());
  if (!c.name) return;
  size_t width = 0;
  for (const Field& f : c.name->layout->fields) width = std::max(width, strlen(f.name));
  for (const Field& f : c.name->layout->fields)
    if (f.exists(g))
      printf("  %-*s %-8s %s\n", int(width), f.name, bits_text(f, g).c_str(),
             value_text(*c.name->layout, f, field_of(f, value, g)).c_str());
  if (u32 stray = hw::stray_bits(*c.name->layout, {&value, 1}, g)[0])
    printf("  %-*s          %s\n", int(width), "(no field)", hex(stray).c_str());
}

std::string block_of(const RegisterName& name) {
  int block = name.layout->block[name.copy];
  return amd::block_names[block];
}

int list(View& view, std::span<const std::string_view> patterns, bool json) {
  Json out = Json::array();
  for (auto& [dword, name] : view.registers.all()) {
    std::string text = name.text();
    bool wanted = patterns.empty();
    for (std::string_view p : patterns) wanted |= matches(p, text) || matches(str("*", p, "*"), text);
    if (!wanted) continue;
    if (json)
      out.push_back({{"name", text}, {"block", block_of(name)}, {"address", dword}});
    else
      printf("%-8s %s %s\n", hex(dword, 5).c_str(), block_of(name).c_str(), text.c_str());
  }
  if (json) print_json(out);
  return 0;
}

// Names, fields and named values that hold a word; what an address is.
int find(View& view, std::string_view word, bool json) {
  Json out = Json::array();
  std::string pattern = str("*", word, "*");
  std::set<const Layout*> seen;
  i64 hits = 0;
  auto hit = [&](const Chosen& c, const Field* f, const char* value, u64 number) {
    hits++;
    if (json) {
      out.push_back({{"name", c.name->text()}, {"address", c.dword}});
      if (f) out.back()["field"] = f->name;
      if (value) out.back()["value"] = value, out.back()["number"] = number;
      return;
    }
    printf("%-8s %s", hex(c.dword, 5).c_str(), c.name->text().c_str());
    if (f) printf(".%s %s", f->name, bits_text(*f, view.generation()).c_str());
    if (value) printf(" %s = %s", value, hex(number).c_str());
    printf("\n");
  };
  if (word.starts_with("0x") || (!word.empty() && isdigit(word[0]))) {
    u64 dword = parse_number(word, "an address in dwords");
    auto after = view.registers.all().upper_bound(dword);
    if (after == view.registers.all().begin()) throw Error(hex(dword), " is below all registers that have a row");
    auto& [first, name] = *std::prev(after);
    if (first != dword) throw Error("no row at ", hex(dword), "; it is ", dword - first, " dwords after ", name.text());
    hit({dword, &name, nullptr}, nullptr, nullptr, 0);
  } else {
    for (auto& [dword, name] : view.registers.all()) {
      if (!seen.insert(name.layout).second) continue;
      Chosen c{dword, &name, nullptr};
      if (matches(pattern, name.layout->name)) hit(c, nullptr, nullptr, 0);
      for (const Field& f : name.layout->fields)
        if (f.exists(view.generation()) && matches(pattern, f.name)) hit(c, &f, nullptr, 0);
      for (const hw::Value& v : name.layout->values) {
        const Field* f = hw::find_field(*name.layout, v.field);
        if (!v.names && matches(pattern, v.name)) hit(c, f, v.name, v.value);
        for (const hw::Value* one = v.names; one && one->name; one++)
          if (matches(pattern, one->name)) hit(c, f, one->name, one->value);
      }
    }
    if (hits == 0 && !json)
      printf("no register, field or value of %s holds '%s'\n", view.ip.arch().c_str(), std::string(word).c_str());
  }
  if (json) print_json(out);
  return 0;
}

int read(View& view, std::span<const std::string_view> words, const Bank& bank, bool json, bool all) {
  std::vector<Chosen> chosen = choose_all(view, words);
  bool one = chosen.size() == words.size() && chosen.size() <= 4;
  Json out = Json::array();
  for (const Chosen& c : chosen) {
    bool quiet = c.name && !one && std::ranges::count(not_for_reading, c.name->layout);
    if (quiet) continue;
    u32 value = view.read(c.dword, bank.bits);
    if (json)
      out.push_back(json_of(view, c, value));
    else
      print_register(view, c, value, all || one);
  }
  if (json) print_json(out);
  return 0;
}

// REGISTER VALUE, REGISTER field=value…, REGISTER.field VALUE: fields that are not named stay.
u32 changed(const View& view, const Chosen& c, u32 old, std::span<const std::string_view> values) {
  int g = view.generation();
  u32 value = old;
  auto set = [&](const Field& f, std::string_view text) {
    u32 word = 0;
    std::vector<u32> parsed = hw::parse_fields(*c.name->layout, str(f.name, "=", text), g);
    word = parsed[0];
    hw::set_bits({&value, 1}, *c.name->layout, f, g, field_of(f, word, g));
  };
  for (std::string_view text : values) {
    size_t equals = text.find('=');
    if (equals == text.npos) {
      if (values.size() > 1) throw UsageError("'", text, "' is not field=value");
      if (c.field) {
        set(*c.field, text);
      } else {
        u64 whole = parse_number(text, "a register's value");
        if (whole > ~u32(0)) throw UsageError(hex(whole), " does not fit a register of 32 bits");
        value = u32(whole);
      }
      continue;
    }
    if (!c.name || c.field) throw UsageError("'", text, "': field=value needs a register with a name and fields");
    std::vector<Chosen> of = choose(view, str(c.name->text(), ".", text.substr(0, equals)));
    set(*of[0].field, text.substr(equals + 1));
  }
  return value;
}
int write(View& view, std::span<const std::string_view> words, const Bank& bank, bool yes, bool json) {
  if (words.size() < 2) throw UsageError("ingot reg write REGISTER VALUE, or REGISTER field=value…");
  std::vector<Chosen> chosen = choose(view, words[0]);
  if (chosen.size() != 1) {
    std::vector<std::string> known;
    for (const Chosen& c : chosen) known.push_back(c.text());
    throw UsageError("'", words[0], "' is ", chosen.size(), " registers; write one of ", known);
  }
  const Chosen& c = chosen[0];
  u32 old = view.read(c.dword, bank.bits), value = changed(view, c, old, words.subspan(1));
  if (!yes)
    throw UsageError("writing ", c.text(), bank.text, " from ", hex(old, 8), " to ", hex(value, 8), " needs --yes");
  view.write(c.dword, value, bank.bits, true);
  u32 now = view.read(c.dword, bank.bits);
  Chosen whole{c.dword, c.name, nullptr};
  if (json)
    print_json({{"name", c.text()}, {"address", c.dword}, {"before", old}, {"written", value}, {"now", now}});
  else
    printf("%s%s %s -> %s%s\n", whole.text().c_str(), bank.text.c_str(), hex(old, 8).c_str(), hex(value, 8).c_str(),
           now == value ? "" : str(", reads ", hex(now, 8)).c_str());
  return 0;
}

// "cp_busy 0 -> 1, gui_active 0 -> 1", with the names of values.
std::string changes(const Layout* l, u32 before, u32 after, int g) {
  std::string out;
  if (l)
    for (const Field& f : l->fields) {
      u64 a = field_of(f, before, g), b = field_of(f, after, g);
      if (!f.exists(g) || a == b) continue;
      auto text = [&](u64 v) {
        std::string n = hw::value_name(*l, f.name, v);
        return !n.empty() ? n : v < 10 ? str(v) : hex(v);
      };
      append(out, str(out.empty() ? "" : ", ", f.name, " ", text(a), " -> ", text(b)));
    }
  return out;
}

int watch(View& view, std::span<const std::string_view> words, const Bank& bank, i64 interval_ms, i64 count,
          bool json) {
  std::vector<Chosen> chosen = choose_all(view, words);
  if (!view.live()) throw UsageError(view.where, " is a file; nothing changes in it");
  if (interval_ms < 1) throw UsageError("--interval is at least 1 ms, got ", interval_ms);
  std::vector<u32> last;
  auto start = std::chrono::steady_clock::now();
  for (i64 round = 0; count <= 0 || round < count; round++) {
    if (round) std::this_thread::sleep_for(std::chrono::milliseconds(interval_ms));
    double s = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    for (size_t i = 0; i < chosen.size(); i++) {
      const Chosen& c = chosen[i];
      u32 value = view.read(c.dword, bank.bits);
      if (c.field) value = u32(field_of(*c.field, value, view.generation()));
      if (round && value == last[i]) continue;
      std::string what = round && c.name && !c.field ? changes(c.name->layout, last[i], value, view.generation()) : "";
      if (json)
        printf("%s\n", Json{{"seconds", s}, {"name", c.text()}, {"value", value}}.dump().c_str());
      else
        printf("%10.3f  %s %s%s%s\n", s, c.text().c_str(), hex(value, c.field ? 0 : 8).c_str(),
               what.empty() ? "" : "  ", what.c_str());
      round ? void(last[i] = value) : last.push_back(value);
    }
    fflush(stdout);
  }
  return 0;
}

// Every register that can be read without doing anything, those of queues for each queue of micro engine 1, pipe 0.
using Values = std::map<std::pair<u64, u64>, u32>;  // by bank and dword
constexpr int queues = 2;
bool banked(const RegisterName& n) {
  std::string_view name = n.layout->name;
  return name.starts_with("CP_HQD_") || name.starts_with("CP_MQD_") || name.starts_with("COMPUTE_");
}
Values all_values(View& view, i64* missing = nullptr) {
  Values out;
  for (auto& [dword, name] : view.registers.all()) {
    if (std::ranges::count(not_for_reading, name.layout)) continue;
    for (int q = 0; q < (banked(name) ? queues : 1); q++) {
      amd::GRBM_GFX_CNTL select;
      if (banked(name)) select.meid = 1, select.queueid = u64(q);
      u64 bank = amd::pack32(select, amd::GFX11);
      if (!missing) {
        out[{bank, dword}] = view.read(dword, bank);
        continue;
      }
      try {  // a snapshot of another command holds what that command read
        out[{bank, dword}] = view.read(dword, bank);
      } catch (const Error&) {
        ++*missing;
      }
    }
  }
  return out;
}
int diff(View& before, View& after, bool json) {
  if (before.generation() != after.generation())
    throw Error(before.where, " is ", before.ip.arch(), ", ", after.where, " is ", after.ip.arch());
  i64 missing = 0;
  Values a = all_values(before, &missing), b = all_values(after, &missing);
  Json out = Json::array();
  int g = before.generation();
  i64 compared = 0;
  for (auto& [key, x] : a) {
    auto y = b.find(key);
    if (y == b.end()) continue;
    compared++;
    if (y->second == x) continue;
    const RegisterName& name = *before.registers.find(key.second);
    u64 queue = amd::unpack32<amd::GRBM_GFX_CNTL>(u32(key.first), g).queueid;
    std::string text = banked(name) ? str(name.text(), " (queue 1.0.", queue, ")") : name.text();
    if (json)
      out.push_back({{"name", text}, {"address", key.second}, {"before", x}, {"after", y->second}});
    else
      printf("%s %s -> %s  %s\n", bold(text).c_str(), hex(x, 8).c_str(), hex(y->second, 8).c_str(),
             changes(name.layout, x, y->second, g).c_str());
  }
  if (json) print_json(out);
  if (!json && missing)
    printf("(%lld registers compared; %lld are in only one)\n", (long long)compared, (long long)missing);
  return 0;
}

}  // namespace

int reg_main(Arguments args) {
  Options o("ingot reg", args);
  View view(o);
  bool json = o.flag("json", "print JSON"), yes = o.flag("yes", "really write");
  bool all = o.flag("fields", "read: a line for every field, also of many registers");
  Bank bank = take_bank(o);
  i64 interval = o.number("interval", 100, "watch: milliseconds between reads");
  i64 count = o.number("count", 0, "watch: read so often, then end (0: until interrupted)");
  auto words = o.rest("list | find | read | write | writebit | watch | snapshot | diff …",
                      "Reads and writes registers by name.\n"
                      "  list [PATTERN…]             names, blocks, addresses\n"
                      "  find WORD | ADDRESS         in names, fields and values; what is at an address (in dwords)\n"
                      "  read NAME…                  NAME, NAME[2], NAME.field, CP_HQD_*, 0x1234\n"
                      "  write NAME VALUE --yes      or NAME field=value…: the other fields stay\n"
                      "  writebit NAME.field V --yes one field\n"
                      "  watch NAME…                 prints what changes\n"
                      "  snapshot FILE               everything that can be read, for --from FILE\n"
                      "  diff FILE [FILE]            by field; with one file: that and the chip now",
                      1);
  std::string_view verb = words[0];
  std::span<const std::string_view> rest = std::span(words).subspan(1);
  auto operands = [&](size_t least, size_t most) {
    if (rest.size() < least || rest.size() > most)
      throw UsageError("ingot reg ", verb, ": got ", rest.size(), " operands");
  };
  constexpr std::string_view verbs[] = {"list", "find", "read", "write", "writebit", "watch", "snapshot", "diff"};
  if (!std::ranges::count(verbs, verb)) {
    std::string near = closest(verb, verbs);
    throw UsageError("ingot reg: no verb '", verb, "'", near.empty() ? "" : "; did you mean ", near, "? There are ",
                     std::vector<std::string_view>(std::begin(verbs), std::end(verbs)));
  }
  if (verb == "diff") {
    operands(1, 2);
    View before{std::string(rest[0])};
    before.look();
    if (rest.size() == 1) return view.look(), diff(before, view, json);
    View after{std::string(rest[1])};
    return after.look(), diff(before, after, json);
  }
  if (verb == "snapshot") operands(1, 1), view.save_to(std::string(rest[0]));
  if (verb == "find") operands(1, 1);
  if (verb == "read" || verb == "watch") operands(1, ~size_t(0));
  if (verb == "writebit") {
    operands(2, 2);
    if (rest[0].find('.') == rest[0].npos) throw UsageError("ingot reg writebit NAME.field VALUE, got '", rest[0], "'");
  }
  view.look();
  int code = 0;
  if (verb == "list") code = list(view, rest, json);
  if (verb == "find") code = find(view, rest[0], json);
  if (verb == "read") code = read(view, rest, bank, json, all);
  if (verb == "write" || verb == "writebit") code = write(view, rest, bank, yes, json);
  if (verb == "watch") code = watch(view, rest, bank, interval, count, json);
  if (verb == "snapshot") {
    size_t n = all_values(view).size();
    look_at_everything(view);
    if (json)
      print_json({{"file", rest[0]}, {"registers", n}});
    else
      printf("%zu registers, rings, page tables and waves are in %s\n", n, std::string(rest[0]).c_str());
  }
  view.save();
  return code;
}

}  // namespace ingot
