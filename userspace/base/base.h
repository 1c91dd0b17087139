// SPDX-License-Identifier: MIT
// The project's language: integers, messages, errors, context variables, files, and a pool of threads.
// Everything may include this; it includes nothing of ours. Sections are named for the file that implements them.
#pragma once
#include <atomic>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <exception>
#include <functional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ingot {

using i8 = int8_t;
using i16 = int16_t;
using i32 = int32_t;
using i64 = int64_t;
using u8 = uint8_t;
using u16 = uint16_t;
using u32 = uint32_t;
using u64 = uint64_t;
using f32 = float;
using f64 = double;

// ---- str.cc: messages ----------------------------------------------------------------------------------------------
// str("shape ", a, " does not broadcast to ", b) concatenates anything append() knows. A type joins by defining
// `void append(std::string&, const T&)` in its own namespace.
inline void append(std::string& out, std::string_view v) { out += v; }
inline void append(std::string& out, const char* v) { out += v; }
inline void append(std::string& out, char v) { out += v; }
inline void append(std::string& out, bool v) { out += v ? "true" : "false"; }
void append(std::string& out, double v);  // shortest text that reads back to the same value
void append(std::string& out, float v);
template <class T>
concept Integer = std::is_integral_v<T> && !std::is_same_v<T, bool> && !std::is_same_v<T, char>;
template <class T>
concept List = !std::is_convertible_v<const T&, std::string_view> && requires(const T& v) {
  std::span(v).data();
};
template <Integer T>
void append(std::string& out, T v) {
  char buffer[24];
  out.append(buffer, std::to_chars(buffer, buffer + sizeof buffer, v).ptr);
}
template <List T>
void append(std::string& out, const T& values) {
  out += '(';
  for (bool first = true; const auto& v : values) {
    if (!first) out += ", ";
    first = false;
    append(out, v);
  }
  out += ')';
}
template <class... A>
std::string str(const A&... parts) {
  std::string out;
  (append(out, parts), ...);
  return out;
}
std::string hex(u64 value, int digits = 0);     // "0x1f"; at least `digits` digits
std::string quote_json(std::string_view text);  // with the quotation marks
std::vector<std::string_view> split(std::string_view text, char separator);
std::string closest(std::string_view word, std::span<const std::string_view> known);  // "" when nothing is near
u64 hash_bytes(const void* data, size_t bytes, u64 seed = 0);  // stable across runs and hosts; not cryptographic

// ---- error.cc ------------------------------------------------------------------------------------------------------
// Cannot continue: one of three exceptions. Cannot happen: check(). Normal absence is optional or nullptr.
struct Error : std::runtime_error {  // the user asked for the impossible; the text says what would be accepted
  using std::runtime_error::runtime_error;
  template <class... A>
  explicit Error(const A&... parts) : std::runtime_error(str(parts...)) {}
};
struct OsError : Error {  // a system call failed; the text ends with strerror(number)
  int number;
  OsError(std::string_view what, int errno_value);
};
struct DeviceError : Error {  // a device hung, faulted or vanished; `state` holds its decoded registers, a line each
  std::string state;
  DeviceError(std::string_view what, std::string decoded_state);
};
[[noreturn]] void check_failed(const char* file, int line, const char* condition, const std::string& message);
#define check(condition, ...) \
  ((condition) ? void(0) : ::ingot::check_failed(__FILE__, __LINE__, #condition, ::ingot::str(__VA_ARGS__)))
[[noreturn]] inline void unreachable() { check_failed("", 0, "unreachable", ""); }

// ---- context.cc: variables for people ------------------------------------------------------------------------------
// ctx.DEBUG reads one; Scoped s(ctx.BEAM, 4) overrides it until the end of the block. Rows are in context.def. Each
// thread has its own copy: the first thread starts with the environment's values, pool workers inherit the copy of the
// thread that gave them work, and another thread gets the environment's with its first arena or when it calls
// environment_to_thread().
struct Text : std::string_view {  // of a variable: kept for the life of the process, so that ctx needs no destructor
  constexpr Text() = default;
  Text(std::string_view text);
  Text(const std::string& text) : Text(std::string_view(text)) {}
  constexpr Text(const char* text) {
    if (*text) *this = Text(std::string_view(text));
  }
  operator std::string() const { return std::string(data(), size()); }
};
struct Context {
#define VAR(name, type, default_value, doc) type name = default_value;
#include "userspace/base/context.def"
#undef VAR
  bool from_environment = false;
  void set(std::string_view name, std::string_view value);  // Error names the accepted variables or values
};
extern constinit thread_local Context ctx;  // constant-initialised: reading it is one load, without a wrapper call
void environment_to_thread();               // once per thread: ctx = the environment's values
void check_environment();  // Error if a variable of the environment has a value that its row does not accept
struct VariableRow {
  std::string_view name, type, default_value, doc;
};
std::span<const VariableRow> context_rows();
bool set_from_argument(std::string_view argument);  // "NAME=value", NAME in capitals; false if not of that form
template <class T>
struct Scoped {
  T& variable;
  T old;
  template <class V>
  Scoped(T& target, V&& value) : variable(target), old(target) {
    variable = std::forward<V>(value);
  }
  ~Scoped() { variable = std::move(old); }
  Scoped(const Scoped&) = delete;
  Scoped& operator=(const Scoped&) = delete;
};
template <class T, class V>
Scoped(T&, V&&) -> Scoped<T>;

// ---- file.cc -------------------------------------------------------------------------------------------------------
std::string read_file(const std::string& path);                       // OsError
void write_file(const std::string& path, std::string_view contents);  // to a temporary file beside it, then renamed
bool file_exists(const std::string& path);
void make_folders(const std::string& path);  // mkdir -p
std::string cache_folder();                  // $XDG_CACHE_HOME/ingot or ~/.cache/ingot, made
std::string runtime_folder();                // $XDG_RUNTIME_DIR/ingot or /tmp/ingot-UID, made; nobody else's. Error
class FileLock {  // this process alone has what the file stands for, until ~FileLock or its end
 public:
  explicit FileLock(const std::string& path);  // Error names the process that has it
  ~FileLock();
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

 private:
  int file_;
};
class MappedFile {  // read-only mapping
 public:
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  std::span<const u8> bytes() const { return {data_, size_}; }

 private:
  const u8* data_ = nullptr;
  size_t size_ = 0;
};

// ---- sha256.cc -----------------------------------------------------------------------------------------------------
std::string sha256(std::span<const u8> bytes);  // 64 hexadecimal digits. Source: FIPS 180-4

// ---- pool.cc: threads ----------------------------------------------------------------------------------------------
// parallel(n, f) calls f(0) … f(n-1), each once, on this thread and the pool's; returns when all are done and rethrows
// the first exception. Nested calls run on the calling thread. ctx.THREADS bounds the width (0: one per core).
int thread_count();
void parallel(i64 n, const std::function<void(i64)>& f);
i64 now_ns();  // monotonic

}  // namespace ingot
