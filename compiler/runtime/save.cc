// SPDX-License-Identifier: MIT
// SAVE_KERNELS=DIR: every launch as one JSON file beside raw binaries, so that a kernel can be looked at, sent to
// somebody, and run again (`ingot rerun DIR`) on any device of its ISA. The format, version 1; unknown members are
// ignored:
//
//   NNNNNN.json     {"format": "ingot-kernel", "version": 1,
//                    "name", "source": texts,  "device", "isa", "arch": where it ran and what it was compiled for,
//                    "code": {"file", "bytes"},
//                    "geometry": {"extent", "pieces",       the kernel's outermost range, and how many pieces ran at a
//                    time
//                                 "local_bytes",            scratch memory of each piece; absent: none
//                                 "threads", "scalars", "vectors", "frame_bytes"},   GPUs: work-items of each piece,
//                                 registers of a wave, private memory of a work-item
//                    "arguments": {"layout": "pointers",    the block is an array of 64-bit addresses, one per
//                    slot
//                                  "bytes": 8 * slots,
//                                  "slots": [{"dtype", "elements", "bytes", "read", "written",
//                                             "same_as": an earlier slot with the same address, or -1,
//                                             "before", "after": files with the buffer's contents}]}}
//   NNNNNN.code     machine code, called as codegen.h says for its ISA
//   NNNNNN.S.before, NNNNNN.S.after    slot S's buffer, raw
//
// Running a saved kernel runs its machine code: do it only with files from somebody you trust. The files themselves are
// checked, and on a CPU the code runs in a child process with a time limit, so that a damaged one is a report, not a
// crash.
#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#include <algorithm>
#include <cerrno>
#include <nlohmann/json.hpp>
#include "compiler/runtime/runtime.h"

namespace ingot {
namespace {

using nlohmann::json;
constexpr i64 most_bytes = i64(16) << 30;  // of one buffer
constexpr i64 most_local_bytes = i64(1) << 30;
constexpr int time_limit_ms = 60'000;

struct Slot {
  i64 bytes, same_as;
  std::string before, after;
};
struct Saved {
  std::string name, isa, arch, code;
  i64 extent = 1, pieces = 1, local_bytes = 0, threads = 1, scalars = 0, vectors = 0, frame_bytes = 0;
  std::vector<Slot> slots;
};

// Members of a file that anybody may have written. Each says which one is wrong.
const json& member(const json& j, const char* key) {
  auto it = j.is_object() ? j.find(key) : j.end();
  if (!j.is_object() || it == j.end()) throw Error("no member \"", key, "\"");
  return *it;
}
std::string text_of(const json& j, const char* key) {
  const json& v = member(j, key);
  if (!v.is_string()) throw Error("\"", key, "\" is not a text");
  return v.get_ref<const std::string&>();
}
i64 number_of(const json& j, const char* key, i64 low, i64 high) {
  const json& v = member(j, key);
  if (!v.is_number_integer() || (v.is_number_unsigned() && v.get<u64>() > u64(high)) || v.get<i64>() < low ||
      v.get<i64>() > high)
    throw Error("\"", key, "\" is not a number from ", low, " to ", high);
  return v.get<i64>();
}
std::string contents_of(const std::string& folder, const json& j, const char* key, i64 bytes) {
  std::string file = text_of(j, key);
  if (file.empty() || file[0] == '.' || file.find('/') != file.npos || file.find('\0') != file.npos)
    throw Error("\"", key, "\" is not the name of a file beside it");
  std::string contents = read_file(folder + "/" + file);
  if (i64(contents.size()) != bytes) throw Error(file, " has ", contents.size(), " bytes, not ", bytes);
  return contents;
}

Saved read_saved(const std::string& folder, const std::string& file) {
  json j = json::parse(read_file(folder + "/" + file), nullptr, false);
  if (j.is_discarded()) throw Error("not JSON");
  if (text_of(j, "format") != "ingot-kernel") throw Error("\"format\" is not ingot-kernel");
  if (i64 v = number_of(j, "version", 0, 1 << 30); v != 1) throw Error("version ", v, "; this program reads version 1");
  Saved s;
  s.name = text_of(j, "name"), s.isa = text_of(j, "isa"), s.arch = text_of(j, "arch");
  const json& code = member(j, "code");
  s.code = contents_of(folder, code, "file", number_of(code, "bytes", 1, 64 << 20));
  const json& geometry = member(j, "geometry");
  s.extent = number_of(geometry, "extent", 0, i64(1) << 40);
  s.pieces = number_of(geometry, "pieces", 1, std::max<i64>(1, s.extent));
  constexpr i64 most_threads = 1024, most_registers = 1024, most_frame = 1 << 20;
  auto optional = [&](const char* key, i64& value, i64 low, i64 high) {
    if (geometry.contains(key)) value = number_of(geometry, key, low, high);
  };
  optional("local_bytes", s.local_bytes, 0, most_local_bytes);
  optional("threads", s.threads, 1, most_threads);
  optional("scalars", s.scalars, 0, most_registers);
  optional("vectors", s.vectors, 0, most_registers);
  optional("frame_bytes", s.frame_bytes, 0, most_frame);
  const json& arguments = member(j, "arguments");
  if (text_of(arguments, "layout") != "pointers") throw Error("\"layout\" is not pointers");
  const json& slots = member(arguments, "slots");
  if (!slots.is_array() || slots.size() > 1024) throw Error("\"slots\" is not a list of at most 1024");
  if (number_of(arguments, "bytes", 0, 8 * 1024) != i64(8 * slots.size())) throw Error("\"bytes\" is not 8 per slot");
  for (const json& v : slots) {
    i64 bytes = number_of(v, "bytes", 0, most_bytes), same_as = number_of(v, "same_as", -1, i64(s.slots.size()) - 1);
    auto dtype = dtype_from_name(text_of(v, "dtype"));
    if (!dtype || dtype->lanes != 1 || !dtype->bytes()) throw Error("\"dtype\" is none of ours");
    if (number_of(v, "elements", 0, most_bytes) * dtype->bytes() != bytes)
      throw Error("\"bytes\" is not elements times size");
    if (same_as >= 0 && s.slots[size_t(same_as)].bytes != bytes) throw Error("\"same_as\" is a slot of another size");
    s.slots.push_back(
        {bytes, same_as, contents_of(folder, v, "before", bytes), contents_of(folder, v, "after", bytes)});
  }
  return s;
}

// Runs it and returns the problem, "" if there is none.
std::string run_saved(const Saved& s, Device& d) {
  Resources needs{int(s.slots.size()), int(s.scalars), int(s.vectors), s.frame_bytes};
  std::unique_ptr<Code> code = d.load({reinterpret_cast<const u8*>(s.code.data()), s.code.size()}, s.name, &needs);
  std::vector<BufferRef> buffers;
  std::vector<void*> params;
  for (const Slot& slot : s.slots) {
    buffers.push_back(slot.same_as >= 0 ? buffers[size_t(slot.same_as)] : d.alloc(slot.bytes));
    if (slot.same_as < 0) d.copy_in(*buffers.back(), 0, slot.before.data(), slot.bytes);
    params.push_back(reinterpret_cast<void*>(buffers.back()->address));
  }
  Launch l{code.get(), params.data(), s.extent, s.pieces, s.local_bytes};
  l.groups[0] = u32(s.extent), l.threads[0] = u32(s.threads);
  d.run({&l, 1});
  d.wait();
  for (size_t i = 0; i < s.slots.size(); i++) {
    std::string after(size_t(s.slots[i].bytes), 0);
    d.copy_out(after.data(), *buffers[i], 0, s.slots[i].bytes);
    auto [a, b] = std::ranges::mismatch(after, s.slots[i].after);
    if (a == after.end()) continue;
    i64 different = 0;
    for (size_t k = 0; k < after.size(); k++) different += after[k] != s.slots[i].after[k];
    return str("slot ", i, ": ", different, " of ", after.size(), " bytes differ, the first at ", a - after.begin(),
               " (", hex(u8(*a), 2), ", saved ", hex(u8(*b), 2), ")");
  }
  return "";
}

std::string run_in_child(const Saved& s, Device& d) {
  int ends[2];
  if (pipe(ends)) throw OsError("cannot make a pipe", errno);
  pid_t child = fork();
  if (child < 0) throw OsError("cannot fork", errno);
  if (!child) {
    std::string problem;
    try {
      problem = run_saved(s, d);
    } catch (const std::exception& e) {
      problem = e.what();
    }
    ssize_t n = write(ends[1], problem.data(), std::min<size_t>(problem.size(), 4000));
    _exit(n < 0);
  }
  close(ends[1]);
  std::string problem;
  i64 deadline = now_ns() + i64(time_limit_ms) * 1'000'000;
  for (char buffer[4096];;) {
    pollfd p{ends[0], POLLIN, 0};
    i64 left_ms = (deadline - now_ns()) / 1'000'000;
    if (poll(&p, 1, int(std::max<i64>(0, left_ms))) == 0) {
      kill(child, SIGKILL);
      problem = str("still running after ", time_limit_ms, " ms");
      break;
    }
    ssize_t n = read(ends[0], buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    problem.append(buffer, size_t(n));
  }
  close(ends[0]);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {}
  if (WIFSIGNALED(status) && problem.empty())
    problem = str("it crashed: ", strsignal(WTERMSIG(status)));
  else if (WIFEXITED(status) && WEXITSTATUS(status) && problem.empty())
    problem = str("it exited with ", WEXITSTATUS(status));
  return problem;
}

std::string contents(const Argument& a) {
  std::string out(size_t(a.elements * a.dtype.bytes()), 0);
  a.memory->device.copy_out(out.data(), *a.memory, a.offset, i64(out.size()));
  return out;
}

}  // namespace

std::vector<std::string> arguments_before(const Call& c) {
  std::vector<std::string> out;
  for (const Argument& a : c.arguments) out.push_back(contents(a));
  return out;
}

void save_launch(const std::string& folder, const Call& c, int number, std::span<const std::string> before) {
  static std::atomic<int> serial{0};
  make_folders(folder);
  const Program& p = c.kernel->program;
  std::string stem = std::to_string(serial++);
  stem.insert(0, stem.size() < 6 ? 6 - stem.size() : 0, '0');
  json slots = json::array();
  for (size_t i = 0; i < c.arguments.size(); i++) {
    const Argument& a = c.arguments[i];
    i64 same_as = -1;
    for (size_t k = 0; k < i && same_as < 0; k++)
      if (c.arguments[k].address() == a.address() && c.arguments[k].elements == a.elements &&
          c.arguments[k].dtype == a.dtype)
        same_as = i64(k);
    std::string file = str(stem, ".", i);
    write_file(str(folder, "/", file, ".before"), before[i]);
    write_file(str(folder, "/", file, ".after"), contents(a));
    slots.push_back({{"dtype", str(a.dtype)},
                     {"elements", a.elements},
                     {"bytes", before[i].size()},
                     {"read", a.read},
                     {"written", a.written},
                     {"same_as", same_as},
                     {"before", file + ".before"},
                     {"after", file + ".after"}});
  }
  write_file(str(folder, "/", stem, ".code"), {reinterpret_cast<const char*>(p.code.data()), p.code.size()});
  json j = {{"format", "ingot-kernel"},
            {"version", 1},
            {"name", c.name},
            {"source", c.source},
            {"device", device_name(number)},
            {"isa", p.isa},
            {"arch", p.arch},
            {"code", {{"file", stem + ".code"}, {"bytes", p.code.size()}}},
            {"geometry",
             {{"extent", p.extent},
              {"pieces", pieces_of(p)},
              {"local_bytes", p.local_bytes},
              {"threads", p.threads},
              {"scalars", p.scalars},
              {"vectors", p.vectors},
              {"frame_bytes", p.frame_bytes}}},
            {"arguments", {{"layout", "pointers"}, {"bytes", 8 * c.arguments.size()}, {"slots", slots}}}};
  write_file(str(folder, "/", stem, ".json"), j.dump(1, ' ', false, json::error_handler_t::replace) + "\n");
}

std::vector<Rerun> rerun(const std::string& folder, int number) {
  std::vector<std::string> files;
  DIR* dir = opendir(folder.c_str());
  if (!dir) throw OsError("cannot open the folder " + folder, errno);
  while (dirent* e = readdir(dir))
    if (std::string_view name = e->d_name; name.ends_with(".json") && name[0] != '.') files.emplace_back(name);
  closedir(dir);
  if (files.empty())
    throw Error("no saved kernels in ", folder, "; SAVE_KERNELS=", folder, " on a command that runs some saves them");
  std::ranges::sort(files);
  Device& d = device(number);
  std::vector<Rerun> out;
  for (const std::string& file : files) {
    Rerun r{file, "", ""};
    try {
      Saved s = read_saved(folder, file);
      r.kernel = s.name;
      Target target = target_of(number);
      if (s.isa != target.isa)
        r.problem =
            str("it is ", s.isa, " code; ", device_name(number), " runs ", target.isa.empty() ? "none" : target.isa);
      else if (s.arch != target.arch && (s.arch == "avx512" || s.isa != "x86"))
        r.problem = str("it is for ", s.arch, "; ", device_name(number), " is ", target.arch);
      else
        r.problem = s.isa == "x86" ? run_in_child(s, d) : run_saved(s, d);  // a driver's time-out ends what hangs
    } catch (const Error& e) {
      r.problem = e.what();
    }
    out.push_back(std::move(r));
  }
  return out;
}

}  // namespace ingot
