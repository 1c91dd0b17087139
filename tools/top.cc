// SPDX-License-Identifier: MIT
// `ingot top`: the GPUs that processes of this user own, once a second: how busy, how fast, how hot, whose, and which
// kernel. Everything comes through the debug sockets; a process that is stopped or goes away is a line that says so,
// and the others go on. A snapshot or a chip of DEV can be shown too.
#include <unistd.h>
#include <chrono>
#include <cmath>
#include <cstdio>
#include "tools/inspect/inspect.h"
// Last: it defines names of ours as macros.
#define NCURSES_NOMACROS
#include <ncurses.h>

namespace ingot {
namespace {

using Clock = std::chrono::steady_clock;

struct Sample {
  std::string who, problem;
  Json state, metrics;
  Clock::time_point at;
};
Sample ask(Inspect& chip, std::string who) {
  Sample s{std::move(who), "", Json::object(), Json::object(), Clock::now()};
  auto get = [&](Inspect::What what) {
    Json j = Json::parse(chip.reply({.what = what}), nullptr, false);
    return j.is_object() ? j : Json::object();
  };
  try {
    s.state = get(Inspect::STATE);
    s.metrics = get(Inspect::METRICS);
  } catch (const Error& e) {
    s.problem = e.what();
  }
  return s;
}
std::vector<Sample> ask_everybody() {
  std::vector<Sample> out;
  for (const Running& r : running_processes()) {
    try {
      out.push_back(ask(*connect(r), str(r.pid)));
    } catch (const Error& e) {
      out.push_back({str(r.pid), e.what(), Json::object(), Json::object(), Clock::now()});
    }
    std::string& problem = out.back().problem;  // the process stands beside it
    if (problem.starts_with(r.path + ": ")) problem.erase(0, r.path.size() + 2);
  }
  return out;
}

struct Row {
  std::string pid, process, device, problem, kernel;
  std::optional<f64> busy_percent, memory_percent, clock_mhz, memory_clock_mhz, power_watts, temperature_c, hotspot_c,
      fan_rpm, launches_per_second;
  i64 used_bytes = 0, total_bytes = 0;
  u64 launches = 0, kernels = 0;
};
std::optional<f64> number(const Json& j, const char* name) {
  auto it = j.find(name);
  return it != j.end() && it->is_number() ? std::optional(it->get<f64>()) : std::nullopt;
}
Row row_of(const Sample& s, const std::vector<Sample>& before) {
  Row r;
  const Json &state = s.state, &m = s.metrics;
  r.pid = s.who, r.problem = s.problem;
  r.process = state.value("process", "?"),
  r.device = str(state.value("device", "?"), " ", state.value("arch", ""), " ", state.value("bus", ""));
  r.busy_percent = number(m, "AverageGfxActivity"), r.memory_percent = number(m, "AverageUclkActivity");
  r.clock_mhz = number(m, "AverageGfxclkFrequencyPostDs"),
  r.memory_clock_mhz = number(m, "AverageMemclkFrequencyPostDs");
  if (!r.clock_mhz.value_or(0)) r.clock_mhz = number(m, "CurrClock_GFXCLK");
  if (!r.memory_clock_mhz.value_or(0)) r.memory_clock_mhz = number(m, "CurrClock_UCLK");
  r.power_watts = number(m, "AverageSocketPower"), r.temperature_c = number(m, "AvgTemperature_EDGE");
  r.hotspot_c = number(m, "AvgTemperature_HOTSPOT"), r.fan_rpm = number(m, "AvgFanRpm");
  r.total_bytes = state.value("vram_bytes", i64(0));
  r.used_bytes = r.total_bytes - state.value("free_bytes", r.total_bytes);
  r.launches = state.value("launches", u64(0));
  r.kernels = state.value("kernels", Json::array()).size();
  if (Json running = state.value("running", Json::array()); !running.empty() && running[0].is_string())
    r.kernel = running[0].get<std::string>();
  if (state.value("lost", false)) r.problem = "the chip is lost";
  for (const Sample& b : before) {
    f64 seconds = std::chrono::duration<f64>(s.at - b.at).count();
    if (b.who == s.who && b.state.contains("launches") && state.contains("launches") && seconds > 0)
      r.launches_per_second = f64(i64(r.launches - b.state.value("launches", u64(0)))) / seconds;
  }
  return r;
}

std::string cell(std::optional<f64> v, const char* unit) { return v ? str(i64(std::lround(*v)), unit) : "-"; }
std::string size_text(i64 bytes) {
  constexpr i64 mib = 1 << 20;
  return bytes < 10'000 * mib ? str(bytes / mib, "M") : str(bytes / (1024 * mib), "G");
}
std::vector<std::string> table(const std::vector<Row>& rows, size_t columns = ~size_t(0)) {
  std::vector<std::vector<std::string>> cells = {{"PID", "PROCESS", "DEVICE", "BUSY", "MEM", "CLOCK", "MCLK", "POWER",
                                                  "TEMP", "HOT", "FAN", "VRAM", "LAUNCH/S", "KERNEL"}};
  for (const Row& r : rows)
    cells.push_back({r.pid, r.process, r.device, cell(r.busy_percent, "%"), cell(r.memory_percent, "%"),
                     cell(r.clock_mhz, "MHz"), cell(r.memory_clock_mhz, "MHz"), cell(r.power_watts, "W"),
                     cell(r.temperature_c, "C"), cell(r.hotspot_c, "C"), cell(r.fan_rpm, ""),
                     str(size_text(r.used_bytes), "/", size_text(r.total_bytes)), cell(r.launches_per_second, ""),
                     r.problem.empty() ? r.kernel.empty() ? "idle" : r.kernel : r.problem});
  auto width_of = [&](size_t column) {
    size_t width = 0;
    for (auto& line : cells) width = std::max(width, line[column].size());
    return width;
  };
  auto total = [&] {  // of a kernel's name the beginning will do
    size_t n = std::min<size_t>(width_of(cells[0].size() - 1), 24);
    for (size_t i = 0; i + 1 < cells[0].size(); i++) n += width_of(i) + 2;
    return n;
  };
  for (std::string_view least : {"FAN", "HOT", "MCLK", "MEM", "VRAM", "CLOCK", "PROCESS", "TEMP", "POWER"}) {
    if (total() <= columns) break;  // else what matters least goes
    auto at = std::ranges::find(cells[0], least) - cells[0].begin();
    for (auto& line : cells) line.erase(line.begin() + at);
  }
  std::vector<std::string> out;
  for (auto& line : cells) {
    std::string text;
    for (size_t i = 0; i < line.size(); i++) {
      if (i) text += "  ";
      bool is_text = cells[0][i] == "PID" || cells[0][i] == "PROCESS" || cells[0][i] == "DEVICE";
      std::string pad(width_of(i) - line[i].size(), ' ');
      text += i + 1 == line.size() ? line[i] : is_text ? line[i] + pad : pad + line[i];
    }
    out.push_back(std::move(text));
  }
  return out;
}
Json json_of(const Sample& s, const Row& r) {
  auto maybe = [](std::optional<f64> v) { return v ? Json(*v) : Json(); };
  return {{"pid", r.pid},
          {"process", r.process},
          {"device", r.device},
          {"problem", r.problem},
          {"busy_percent", maybe(r.busy_percent)},
          {"memory_busy_percent", maybe(r.memory_percent)},
          {"clock_mhz", maybe(r.clock_mhz)},
          {"memory_clock_mhz", maybe(r.memory_clock_mhz)},
          {"power_watts", maybe(r.power_watts)},
          {"temperature_c", maybe(r.temperature_c)},
          {"hotspot_c", maybe(r.hotspot_c)},
          {"fan_rpm", maybe(r.fan_rpm)},
          {"memory_used_bytes", r.used_bytes},
          {"memory_bytes", r.total_bytes},
          {"launches", r.launches},
          {"launches_per_second", maybe(r.launches_per_second)},
          {"kernels", r.kernels},
          {"running", r.kernel},
          {"metrics", s.metrics}};
}

}  // namespace

int top_main(Arguments args) {
  Options o("ingot top", args);
  View view(o);
  bool json = o.flag("json", "print JSON"), once = o.flag("once", "print the table once and end");
  i64 interval =
      o.number("interval", 1000, "milliseconds between looks; with --once, of the one that rates are taken over");
  o.rest(
      "",
      "Shows the GPUs that running processes own: how busy, clocks, power, temperature, memory, kernels.\nq ends it.",
      0, 0);
  if (interval < 1) throw UsageError("--interval is at least 1 ms, got ", interval);
  bool everybody = !view.named();
  if (!everybody) view.look();
  auto look = [&] {
    if (everybody) return ask_everybody();
    std::vector<Sample> one;
    one.push_back(ask(view.inspect(), view.where));
    return one;
  };
  bool screen = !once && !json && on_terminal();
  std::vector<Sample> before = look();
  if (!screen) {  // a second look, for rates
    std::vector<Sample> now = before;
    if (view.live() && !before.empty()) ::usleep(useconds_t(interval * 1000)), now = look();
    std::vector<Row> rows;
    Json out = Json::array();
    for (const Sample& s : now) rows.push_back(row_of(s, before)), out.push_back(json_of(s, rows.back()));
    if (json)
      print_json(out);
    else if (rows.empty())
      printf("no running process owns a GPU\n");
    else
      for (const std::string& line : table(rows)) printf("%s\n", line.c_str());
    return view.save(), 0;
  }
  ::initscr(), ::cbreak(), ::noecho(), ::curs_set(0), ::timeout(int(interval));
  struct End {
    ~End() { ::endwin(); }
  } end;
  for (int key = 0; key != 'q' && key != 'Q';) {
    std::vector<Sample> now = look();
    std::vector<Row> rows;
    for (const Sample& s : now) rows.push_back(row_of(s, before));
    before = std::move(now);
    ::erase();
    std::vector<std::string> lines = table(rows, size_t(COLS));
    if (rows.empty()) lines.push_back("no running process owns a GPU; q ends");
    for (int i = 0; i < LINES && i < int(lines.size()); i++) {
      if (!i) ::attron(A_REVERSE);
      mvaddnstr(i, 0, lines[size_t(i)].c_str(), COLS);
      if (!i) ::attroff(A_REVERSE);
    }
    if (rows.empty()) mvaddnstr(2, 0, "no running process owns a GPU", COLS);
    ::refresh();
    key = ::getch();
  }
  return 0;
}

}  // namespace ingot
