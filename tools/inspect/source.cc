// SPDX-License-Identifier: MIT
// Where the tools look (inspect.h): three implementations of Inspect, and what they all need on top of it.
#include <dirent.h>
#include <linux/pci_regs.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>
#include <cstdio>
#include "compiler/runtime/runtime.h"
#include "tools/inspect/inspect.h"

namespace ingot {
namespace {

using amd::layout_of, amd::pack32;
using Request = Inspect::Request;

// ---- a running process ---------------------------------------------------------------------------------------------
int open_socket(const std::string& path) {
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
  if (path.size() >= sizeof address.sun_path) return errno = ENAMETOOLONG, -1;
  path.copy(address.sun_path, path.size());
  int file = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (file < 0) return -1;
  timeval patience{5, 0};  // of a process that is stopped, say
  ::setsockopt(file, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  if (!::connect(file, reinterpret_cast<sockaddr*>(&address), sizeof address)) return file;
  int problem = errno;
  ::close(file);
  return errno = problem, -1;
}

class SocketInspect final : public Inspect {
 public:
  explicit SocketInspect(const std::string& path) : path_(path), file_(open_socket(path)) {
    if (file_ < 0) throw OsError("cannot reach the debug socket " + path, errno);
  }
  ~SocketInspect() override { ::close(file_); }
  std::string reply(const Request& request) override {
    Header header;
    if (::send(file_, &request, sizeof request, MSG_NOSIGNAL) != ssize_t(sizeof request))
      throw OsError("cannot ask at " + path_, errno);
    receive(&header, sizeof header);
    constexpr u32 most = 64 << 20;
    if (header.bytes > most) throw Error(path_, ": a reply of ", header.bytes, " bytes; ", most, " are the most");
    std::string body(header.bytes, 0);
    receive(body.data(), body.size());
    if (header.failed) throw Error(body);
    return body;
  }

 private:
  void receive(void* to, size_t bytes) {
    for (char* at = static_cast<char*>(to); bytes;) {
      ssize_t n = ::recv(file_, at, bytes, 0);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        throw Error(path_, ": no answer within 5 s; is the process stopped?");
      if (n < 0) throw OsError("no answer from " + path_, errno);
      if (!n) throw Error(path_, ": the process has ended, or refuses this user");
      at += n, bytes -= size_t(n);
    }
  }
  std::string path_;
  int file_;
};

// ---- a chip of our own ---------------------------------------------------------------------------------------------
class LocalInspect final : public Inspect {
 public:
  explicit LocalInspect(std::unique_ptr<hw::Bus> bus) : bus_(answering(std::move(bus))), chip_(*bus_), view_(chip_) {}
  std::string reply(const Request& request) override { return view_.reply(request); }

 private:
  static std::unique_ptr<hw::Bus> answering(std::unique_ptr<hw::Bus> bus) {  // its windows on, and nothing else
    bus->config_write(PCI_COMMAND, bus->config_read(PCI_COMMAND, 2) | PCI_COMMAND_MEMORY, 2);
    return bus;
  }
  std::unique_ptr<hw::Bus> bus_;
  amd::Chip chip_;
  amd::ChipInspect view_;
};
class DeviceInspect final : public Inspect {  // one that the registry has opened and keeps
 public:
  explicit DeviceInspect(Inspect& view) : view_(view) {}
  std::string reply(const Request& request) override { return view_.reply(request); }

 private:
  Inspect& view_;
};

constexpr const char* what_names[] = {"state", "metrics", "register", "write", "wave", "vram", "host"};
static_assert(std::size(what_names) == Inspect::what_count);
bool is_memory(u32 what) { return what == Inspect::VRAM || what == Inspect::HOST; }
constexpr u64 page_bytes = 4096;

}  // namespace

std::vector<Running> running_processes() {
  std::vector<Running> out;
  std::string folder = runtime_folder();
  DIR* d = ::opendir(folder.c_str());
  if (!d) throw OsError("cannot read " + folder, errno);
  while (dirent* e = ::readdir(d)) {
    Running r{str(folder, "/", e->d_name), 0, ""};
    std::string_view name = e->d_name;
    auto [end, problem] = std::from_chars(name.data(), name.data() + name.size(), r.pid);
    if (problem != std::errc() || end == name.data() + name.size() || *end != '-') continue;
    r.device = end + 1;
    if (int file = open_socket(r.path); file >= 0)
      ::close(file), out.push_back(r);
    else if (errno == ECONNREFUSED)
      ::unlink(r.path.c_str());  // its process died
  }
  ::closedir(d);
  std::sort(out.begin(), out.end(), [](auto& a, auto& b) { return std::tie(a.pid, a.path) < std::tie(b.pid, b.path); });
  return out;
}
std::unique_ptr<Inspect> connect(const Running& where) { return std::make_unique<SocketInspect>(where.path); }

// ---- snapshots -----------------------------------------------------------------------------------------------------
void Snapshot::keep(const Request& r, const std::string& answer) {
  if (!is_memory(r.what)) {
    if (r.what != WRITE_REGISTER) answers[{r.what, r.address, r.bank, r.bytes}] = answer;
    return;
  }
  for (u64 i = 0; i < answer.size(); i++) {
    u64 at = r.address + i;
    Page& page = memory_[r.what == HOST][at / page_bytes];
    page.bytes[at % page_bytes] = u8(answer[i]), page.known[at % page_bytes] = true;
  }
}

std::string Snapshot::reply(const Request& r) {
  if (r.what == WRITE_REGISTER) throw Error(source, " is a file; nothing can be written");
  if (!is_memory(r.what)) {
    auto found = answers.find({r.what, r.address, r.bank, r.bytes});
    if (found == answers.end())
      throw Error(source, " does not hold ", what_names[r.what], " ", hex(r.address), " of bank ", hex(r.bank));
    return found->second;
  }
  std::string out(r.bytes, 0);
  for (u64 i = 0; i < r.bytes; i++) {
    u64 at = r.address + i;
    auto page = memory_[r.what == HOST].find(at / page_bytes);
    if (page == memory_[r.what == HOST].end() || !page->second.known[at % page_bytes])
      throw Error(source, " does not hold ", r.what == HOST ? "host memory" : "VRAM", " at ", hex(at));
    out[i] = char(page->second.bytes[at % page_bytes]);
  }
  return out;
}

namespace {
std::string hex_bytes(std::string_view bytes) {
  std::string out;
  for (char c : bytes) out += "0123456789abcdef"[u8(c) >> 4], out += "0123456789abcdef"[u8(c) & 15];
  return out;
}
std::optional<std::string> bytes_of(std::string_view text) {
  std::string out;
  if (text.size() % 2) return {};
  for (size_t i = 0; i < text.size(); i += 2) {
    u8 byte = 0;
    auto [end, problem] = std::from_chars(&text[i], &text[i] + 2, byte, 16);
    if (problem != std::errc() || end != &text[i] + 2) return {};
    out += char(byte);
  }
  return out;
}
constexpr std::string_view first_line = "ingot snapshot 1";
}  // namespace

std::string Snapshot::text(const std::function<std::string(u64 dword)>& comment) const {
  std::string out = str(first_line, "\nsource ", source, "\n");
  for (auto& [key, answer] : answers) {
    bool is_text = key[0] == STATE || key[0] == METRICS;
    append(out, what_names[key[0]]);
    if (!is_text) append(out, str(" ", hex(key[1]), " ", hex(key[2]), " ", key[3]));
    append(out, str(" ", is_text ? answer : hex_bytes(answer)));
    if (key[0] == REGISTER) append(out, "  # " + comment(key[1]));
    out += '\n';
  }
  constexpr u64 line_bytes = 64;
  for (int space = 0; space < 2; space++)
    for (auto& [number, page] : memory_[space])
      for (u64 at = 0; at < page_bytes; at++) {
        if (!page.known[at]) continue;
        u64 end = at;
        while (end < page_bytes && page.known[end] && end / line_bytes == at / line_bytes) end++;
        std::string_view bytes(reinterpret_cast<const char*>(&page.bytes[at]), end - at);
        append(out,
               str(what_names[space ? HOST : VRAM], " ", hex(number * page_bytes + at), " ", hex_bytes(bytes), "\n"));
        at = end - 1;
      }
  return out;
}

std::unique_ptr<Snapshot> Snapshot::parse(std::string_view text, const std::string& file) {
  auto s = std::make_unique<Snapshot>();
  i64 number = 0;
  for (std::string_view line : split(text, '\n')) {
    number++;
    auto fail = [&](auto... why) { throw Error(file, ":", number, ": ", why...); };
    if (number == 1 && line != first_line) fail("not a snapshot; its first line would be \"", first_line, "\"");
    if (number == 1 || line.empty()) continue;
    std::string_view what = line.substr(0, line.find(' ')), rest = line.substr(std::min(line.size(), what.size() + 1));
    if (what == "source") continue;
    auto known = std::find(std::begin(what_names), std::end(what_names), what);
    if (known == std::end(what_names) || what == "write") fail("\"", what, "\" is not what a snapshot holds");
    Request r{.what = u32(known - what_names)};
    if (r.what == STATE || r.what == METRICS) {
      if (!Json::accept(rest)) fail("not JSON");
      s->keep(r, std::string(rest));
      continue;
    }
    std::vector<std::string_view> words = split(rest.substr(0, rest.find("  #")), ' ');
    size_t wanted = is_memory(r.what) ? 2 : 4;
    if (words.size() != wanted) fail(words.size(), " values, not ", wanted);
    auto value = [&](size_t i) {
      bool is_hex = words[i].starts_with("0x");
      u64 v = 0;
      const char* begin = words[i].data() + (is_hex ? 2 : 0);
      auto [end, problem] = std::from_chars(begin, words[i].data() + words[i].size(), v, is_hex ? 16 : 10);
      if (problem != std::errc() || end != words[i].data() + words[i].size())
        fail("\"", words[i], "\" is not a number");
      return v;
    };
    r.address = value(0);
    if (wanted == 4) r.bank = value(1), r.bytes = u32(value(2));
    std::optional<std::string> bytes = bytes_of(words.back());
    if (!bytes || bytes->empty()) fail("\"", words.back(), "\" is not bytes");
    if (r.what == REGISTER && bytes->size() != 4) fail("a register has 4 bytes, not ", bytes->size());
    if (r.what == WAVE && bytes->size() != r.bytes) fail("not the ", r.bytes, " bytes that the line says");
    s->keep(r, *bytes);
  }
  s->source = file;
  return s;
}

// ---- the view ------------------------------------------------------------------------------------------------------
View::View(Options& o) {
  from_ = o.value("from", "", "look at this: a process (its number), a debug socket, a snapshot");
  boot_ = o.flag("boot", "with DEV: bring the chip up with the driver first");
  save_ = o.value("save", "", "write all that was looked at to a snapshot, for --from");
}
View::~View() = default;

static std::unique_ptr<Inspect> open_local(bool boot) {
  if (boot) {
    Inspect* view = device(device_number("")).inspect();
    if (!view) throw Error("DEV=", ctx.DEV, " has no registers to show; DEV=MODEL+AMD and DEV=AMD have");
    return std::make_unique<DeviceInspect>(*view);
  }
  if (parse_device_name(ctx.DEV).name != "AMD")
    throw Error("DEV=", ctx.DEV, " has no registers to show; DEV=MODEL+AMD and DEV=AMD have");
  return std::make_unique<LocalInspect>(reach(ctx.DEV).bus);
}

void View::look() {
  bool number = !from_.empty() && from_.find_first_not_of("0123456789") == from_.npos;
  if (!from_.empty() && !number) {
    if (!file_exists(from_)) throw Error("--from ", from_, ": there is no such process, socket or file");
    int file = open_socket(from_);
    is_file_ = file < 0;
    if (file >= 0) ::close(file);
    where = from_;
    if (is_file_)
      chip_ = Snapshot::parse(read_file(from_), from_);
    else
      chip_ = connect({from_, 0, ""});
  } else if (!ctx.DEV.empty() && !number) {
    where = ctx.DEV;
    chip_ = open_local(boot_);
  } else {
    std::vector<Running> all = running_processes();
    if (number) std::erase_if(all, [&](const Running& r) { return str(r.pid) != from_; });
    if (all.empty())
      throw Error(number ? str("process ", from_, " serves no debug socket") : "no running process owns a GPU",
                  "; name a chip by DEV=MODEL+AMD::gfx1100, or a snapshot by --from FILE");
    if (all.size() > 1) {
      std::vector<std::string> known;
      for (const Running& r : all) known.push_back(r.path);
      throw Error("there are several; name one by --from: ", known);
    }
    where = str("pid ", all[0].pid, ", ", all[0].device);
    chip_ = connect(all[0]);
  }
  // The chip says what it is: its discovery table is where the size of its VRAM says.
  ip.bases.at[{amd::FIXED, 0, 0}] = 0;
  vram_bytes = i64(get<amd::RCC_CONFIG_MEMSIZE>().config_memsize) << 20;
  if (u32(vram_bytes >> 20) == ~u32(0)) throw Error(where, ": the chip does not answer");
  if (vram_bytes < i64(amd::DISCOVERY::OFFSET)) throw Error(where, ": ", vram_bytes, " bytes of VRAM");
  ip = amd::parse_discovery(vram(u64(vram_bytes) - amd::DISCOVERY::OFFSET, i64(amd::DISCOVERY::SIZE)));
  registers = hw::RegisterMap(amd::rows, ip.generation, ip.bases);
}

void View::save() {
  if (save_.empty()) return;
  kept_.source = where;
  write_file(save_, kept_.text([&](u64 dword) {
    const hw::RegisterName* name = registers.find(dword);
    return name ? name->text() : "no register";
  }));
}

std::string View::ask(const Request& request) {
  std::string answer = chip_->reply(request);
  if (!save_.empty()) kept_.keep(request, answer);
  return answer;
}

static Json parse_reply(const std::string& text, const std::string& where) {
  Json value = Json::parse(text, nullptr, false);
  if (!value.is_object()) throw Error(where, ": what it says of itself is not JSON");
  return value;
}
Json View::state() {
  if (!state_) state_ = parse_reply(ask({.what = Inspect::STATE}), where);
  return *state_;
}
Json View::metrics() { return parse_reply(ask({.what = Inspect::METRICS}), where); }

static u32 dword_of(const std::string& bytes, const std::string& where) {
  u32 value = 0;
  if (bytes.size() != 4) throw Error(where, ": a register of ", bytes.size(), " bytes");
  std::memcpy(&value, bytes.data(), 4);
  return value;
}
u32 View::read(u64 dword, u64 bank) {
  return dword_of(ask({.what = Inspect::REGISTER, .address = dword, .bank = bank}), where);
}
void View::write(u64 dword, u32 value, u64 bank, bool yes) {
  if (!yes) throw Error("writing a register needs --yes");
  ask({.what = Inspect::WRITE_REGISTER, .address = dword, .bank = bank, .value = value, .yes = 1});
}
u32 View::read(const hw::Layout& layout, amd::At at, u64 bank) {
  return read(hw::register_address(layout, generation(), ip.bases, at.hub, at.index, at.instance), bank);
}

std::string bits_text(const hw::Field& field, int generation) {
  hw::Bits b = field.bits[size_t(generation)];
  int low = b.lo + field.dword * 32, high = b.hi + field.dword * 32;
  return low == high ? str("[", low, "]") : str("[", high, ":", low, "]");
}
void print_json(const Json& value) {
  printf("%s\n", value.dump(1, ' ', false, Json::error_handler_t::replace).c_str());
}
u64 parse_number(std::string_view text, std::string_view what) {
  bool is_hex = text.starts_with("0x") || text.starts_with("0X");
  u64 value = 0;
  const char* end = text.data() + text.size();
  auto [stop, problem] = std::from_chars(text.data() + (is_hex ? 2 : 0), end, value, is_hex ? 16 : 10);
  if (problem != std::errc() || stop != end) throw UsageError(what, " is a number, 0x… or decimal, got '", text, "'");
  return value;
}
bool matches(std::string_view pattern, std::string_view name) {
  size_t p = 0, n = 0, star = pattern.npos, mark = 0;
  auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? char(c + 32) : c; };
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*')
      star = p++, mark = n;
    else if (p < pattern.size() && (pattern[p] == '?' || lower(pattern[p]) == lower(name[n])))
      p++, n++;
    else if (star != pattern.npos)
      p = star + 1, n = ++mark;
    else
      return false;
  }
  while (p < pattern.size() && pattern[p] == '*') p++;
  return p == pattern.size();
}

}  // namespace ingot
