// SPDX-License-Identifier: MIT
// Context variables: context.def made into values. The only getenv of the tree is here.
//
// `ctx` is constant-initialised and has no destructor, so every access is a plain thread-local load. The environment is
// read once, before main; a value that does not fit its row is remembered and thrown by check_environment(), which runs
// when the first device opens and first thing in a tool's main, because nobody could catch it before main. Texts are
// interned and never freed: people set a handful.
#include <sys/stat.h>
#include <unistd.h>
#include <cerrno>
#include <cstdlib>
#include <mutex>
#include <set>
#include "userspace/base/base.h"

namespace ingot {

constinit thread_local Context ctx;

namespace {

constexpr VariableRow rows[] = {
#define VAR(name, type, default_value, doc) {#name, #type, #default_value, doc},
#include "userspace/base/context.def"
#undef VAR
};

Context environment;  // written before main, read-only afterwards
std::string* environment_problem = nullptr;

void parse(const VariableRow& row, std::string_view text, int& out) {
  int value = 0;
  auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (problem != std::errc() || end != text.data() + text.size())
    throw Error(row.name, "=", text, " is not a number. ", row.name, ": ", row.doc);
  if (value < 0) throw Error(row.name, "=", text, " is negative. ", row.name, ": ", row.doc);
  out = value;
}
void parse(const VariableRow&, std::string_view text, Text& out) { out = text; }

__attribute__((constructor)) void read_environment() {
  for (const VariableRow& row : rows) {
    const char* value = std::getenv(std::string(row.name).c_str());
    if (!value) continue;
    try {
      environment.set(row.name, value);
    } catch (const Error& e) {
      if (!environment_problem) environment_problem = new std::string(e.what());
    }
  }
  environment_to_thread();
}

}  // namespace

Text::Text(std::string_view text) {
  static std::mutex mutex;
  static std::set<std::string, std::less<>>* kept = new std::set<std::string, std::less<>>;
  if (text.empty()) return;
  std::lock_guard lock(mutex);
  auto it = kept->find(text);
  static_cast<std::string_view&>(*this) = it != kept->end() ? *it : *kept->emplace(text).first;
}

void Context::set(std::string_view name, std::string_view value) {
#define VAR(variable, type, default_value, doc) \
  if (name == #variable) return parse({#variable, #type, #default_value, doc}, value, variable);
#include "userspace/base/context.def"
#undef VAR
  std::vector<std::string_view> known;
  for (const VariableRow& row : rows) known.push_back(row.name);
  std::string near = closest(name, known);
  throw Error("no variable ", name, near.empty() ? "" : ", did you mean ", near, "? There are ", known);
}

void environment_to_thread() {
  if (ctx.from_environment) return;
  ctx = environment;
  ctx.from_environment = true;
}

void check_environment() {
  if (environment_problem) throw Error(*environment_problem);
}

std::span<const VariableRow> context_rows() { return rows; }

bool set_from_argument(std::string_view argument) {
  size_t equals = argument.find('=');
  if (equals == 0 || equals == argument.npos) return false;
  for (char c : argument.substr(0, equals))
    if (!((c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_')) return false;
  ctx.set(argument.substr(0, equals), argument.substr(equals + 1));
  return true;
}

std::string cache_folder() {
  const char* base = std::getenv("XDG_CACHE_HOME");
  const char* home = std::getenv("HOME");
  std::string folder = base && *base ? str(base, "/ingot") : home && *home ? str(home, "/.cache/ingot") : "/tmp/ingot";
  make_folders(folder);
  return folder;
}

// In /tmp anybody may have been there first.
std::string runtime_folder() {
  const char* base = std::getenv("XDG_RUNTIME_DIR");
  std::string folder = base && *base ? str(base, "/ingot") : str("/tmp/ingot-", ::geteuid());
  struct stat s;
  if (::mkdir(folder.c_str(), 0700) && errno != EEXIST) throw OsError("cannot make the folder " + folder, errno);
  if (::lstat(folder.c_str(), &s)) throw OsError("cannot look at " + folder, errno);
  if (!S_ISDIR(s.st_mode) || s.st_uid != ::geteuid() || s.st_mode & 077)
    throw Error(folder, " is not a folder that only you may enter; remove it, or set XDG_RUNTIME_DIR");
  return folder;
}

}  // namespace ingot
