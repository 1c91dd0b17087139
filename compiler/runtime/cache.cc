// SPDX-License-Identifier: MIT
// The kernel cache on disk: one sqlite file that several processes may use at the same time.
//
// A row is (key, build, value). `build` identifies the code generator: the linker's build id of the object that holds
// it, so another build never reads what this one wrote. `value` is a Program as encode_program() lays it out, with a
// hash at its end; whatever does not decode, or was made for another target, counts as absent. A file that is not ours,
// damaged or locked is left alone: one note, and the process goes on without it. Nothing is opened before a kernel is
// worth looking up; rows are written in one transaction when a few have gathered and when the process exits.
#include <elf.h>
#include <link.h>
#include <sqlite3.h>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include "compiler/runtime/runtime.h"

namespace ingot {
namespace {

constexpr u32 format_version = 1;
constexpr char magic[] = "ingotK02";
constexpr int application_id = 0x696e676f;
constexpr int most_rows = 20'000;
constexpr size_t most_bytes = 64 << 20;  // of one program
constexpr size_t write_after = 8;        // kernels

u64 build_hash() {
  static const u64 hash = [] {
    struct Search {
      u64 code, hash;
    } s{reinterpret_cast<u64>(&compile), 0};
    dl_iterate_phdr(
        [](dl_phdr_info* info, size_t, void* data) {
          Search& s = *static_cast<Search*>(data);
          bool here = false;
          for (int i = 0; i < info->dlpi_phnum; i++) {
            const ElfW(Phdr)& h = info->dlpi_phdr[i];
            here |= h.p_type == PT_LOAD && s.code - (info->dlpi_addr + h.p_vaddr) < h.p_memsz;
          }
          if (!here) return 0;
          for (int i = 0; i < info->dlpi_phnum; i++) {
            const ElfW(Phdr)& h = info->dlpi_phdr[i];
            if (h.p_type != PT_NOTE) continue;
            const u8 *p = reinterpret_cast<const u8*>(info->dlpi_addr + h.p_vaddr), *end = p + h.p_memsz;
            while (p + sizeof(ElfW(Nhdr)) <= end) {
              ElfW(Nhdr) note;
              std::memcpy(&note, p, sizeof note);
              const u8* name = p + sizeof note;
              const u8* id = name + (note.n_namesz + 3) / 4 * 4;
              if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 && !std::memcmp(name, "GNU", 4))
                s.hash = hash_bytes(id, note.n_descsz, format_version);
              p = id + (note.n_descsz + 3) / 4 * 4;
            }
          }
          return 1;
        },
        &s);
    return s.hash;
  }();
  return hash;
}

struct Writer {
  std::string out;
  void number(i64 v) { out.append(reinterpret_cast<const char*>(&v), 8); }
  void text(std::string_view v) { number(i64(v.size())), out += v; }
};
struct Reader {
  std::string_view in;
  bool ok = true;
  i64 number() {
    if (in.size() < 8) return ok = false, 0;
    i64 v;
    std::memcpy(&v, in.data(), 8);
    in.remove_prefix(8);
    return v;
  }
  std::string_view text() {
    i64 n = number();
    if (n < 0 || u64(n) > in.size()) return ok = false, std::string_view();
    std::string_view v = in.substr(0, size_t(n));
    in.remove_prefix(size_t(n));
    return v;
  }
  i64 count(i64 least_bytes) {  // a number of items that each take so many bytes
    i64 n = number();
    if (n < 0 || u64(n) > in.size() / u64(least_bytes)) return ok = false, 0;
    return n;
  }
};

struct Statement {
  sqlite3_stmt* s = nullptr;
  Statement(sqlite3* db, const char* sql) {
    if (sqlite3_prepare_v2(db, sql, -1, &s, nullptr) != SQLITE_OK) s = nullptr;
  }
  ~Statement() { sqlite3_finalize(s); }
  int step() { return s ? sqlite3_step(s) : SQLITE_ERROR; }
};

void close_at_exit();

struct Disk {
  std::mutex mutex;
  sqlite3* db = nullptr;
  std::string path;
  bool broken = false;
  std::map<u64, std::string> pending;

  void give_up(std::string_view why) {
    std::fprintf(stderr, "ingot: the kernel cache %s is not used: %.*s\n", path.c_str(), int(why.size()), why.data());
    sqlite3_close(db);
    db = nullptr;
    broken = true;
  }
  int pragma(const char* sql) {
    Statement s(db, sql);
    int status = s.step();
    return status == SQLITE_ROW ? sqlite3_column_int(s.s, 0) : status == SQLITE_DONE ? 0 : -1;
  }
  bool open() {
    std::string wanted;
    try {
      wanted = ctx.CACHE_DB.empty() ? cache_folder() + "/kernels.db" : std::string(ctx.CACHE_DB);
    } catch (const Error& e) {
      path = "folder";
      if (!broken) give_up(e.what());
      return false;
    }
    if (wanted != path) sqlite3_close(std::exchange(db, nullptr)), path = wanted, broken = false;
    if (db || broken) return db;
    close_at_exit();
    if (!build_hash()) return give_up("this program was linked without a build id"), false;
    if (sqlite3_open_v2(path.c_str(), &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, nullptr) !=
        SQLITE_OK)
      return give_up(sqlite3_errmsg(db)), false;
    sqlite3_busy_timeout(db, 2000);
    int id = pragma("PRAGMA application_id");
    if (id < 0) return give_up(sqlite3_errmsg(db)), false;
    if (!id && pragma("SELECT count(*) FROM sqlite_master") == 0) {
      char sql[512];
      std::snprintf(
          sql, sizeof sql,
          "PRAGMA journal_mode=WAL; BEGIN IMMEDIATE; PRAGMA application_id=%d; PRAGMA user_version=%u;"
          "CREATE TABLE IF NOT EXISTS kernels(number INTEGER PRIMARY KEY, key INTEGER NOT NULL, build INTEGER NOT NULL,"
          " value BLOB NOT NULL, UNIQUE(key, build)); COMMIT;",
          application_id, format_version);
      if (sqlite3_exec(db, sql, nullptr, nullptr, nullptr) != SQLITE_OK) return give_up(sqlite3_errmsg(db)), false;
    }
    if (!id) id = pragma("PRAGMA application_id");  // made here, or meanwhile by another process
    if (id != application_id) return give_up("it is a database of something else; set CACHE_DB"), false;
    if (int version = pragma("PRAGMA user_version"); version != int(format_version))
      return give_up(str("its format is version ", version, ", this program's is ", format_version, "; delete it")),
             false;
    sqlite3_exec(db, "PRAGMA synchronous=OFF", nullptr, nullptr, nullptr);
    return true;
  }
  void write() {
    if (pending.empty() || !open()) return pending.clear();
    if (sqlite3_exec(db, "BEGIN IMMEDIATE", nullptr, nullptr, nullptr) != SQLITE_OK) {
      if (sqlite3_errcode(db) != SQLITE_BUSY) give_up(sqlite3_errmsg(db));
      return pending.clear();  // another process is writing: it was only a cache
    }
    {
      Statement insert(db, "INSERT OR REPLACE INTO kernels(key, build, value) VALUES(?, ?, ?)");
      for (auto& [key, value] : pending) {
        if (!insert.s) break;
        sqlite3_bind_int64(insert.s, 1, i64(key));
        sqlite3_bind_int64(insert.s, 2, i64(build_hash()));
        sqlite3_bind_blob(insert.s, 3, value.data(), int(value.size()), SQLITE_STATIC);
        insert.step();
        sqlite3_reset(insert.s);
      }
    }
    char sql[128];
    std::snprintf(sql, sizeof sql, "DELETE FROM kernels WHERE number <= (SELECT max(number) FROM kernels) - %d; COMMIT",
                  most_rows);
    if (sqlite3_exec(db, sql, nullptr, nullptr, nullptr) != SQLITE_OK) give_up(sqlite3_errmsg(db));
    pending.clear();
  }
};
Disk& disk() {
  static Disk* d = new Disk;
  return *d;
}

// With the last connection closed, what the log beside the file holds goes into the file.
void close_cache() {
  Disk& d = disk();
  std::lock_guard lock(d.mutex);
  d.write();
  sqlite3_close(std::exchange(d.db, nullptr));
}
void close_at_exit() {
  static const int registered = std::atexit(close_cache);
  (void)registered;
}

}  // namespace

std::string encode_program(const Program& p, u64 key) {
  Writer w;
  w.out = std::string_view(magic, 8);
  for (const std::string* s : {&p.name, &p.source, &p.isa, &p.arch, &p.moves}) w.text(*s);
  w.text({reinterpret_cast<const char*>(p.code.data()), p.code.size()});
  for (i64 v : {p.code_bytes, p.extent, i64(p.threads), i64(p.scalars), i64(p.vectors), p.frame_bytes, p.local_bytes,
                p.operations, p.bytes, p.estimate_ns, p.accesses, p.accesses_proven})
    w.number(v);
  w.number(i64(p.params.size()));
  for (const Param& q : p.params) w.number(i64(q.dtype.scalar)), w.number(q.elements), w.number(q.written * 2 + q.read);
  w.number(i64(p.notes.size()));
  for (auto& [offset, note] : p.notes) w.number(offset), w.text(note);
  w.number(i64(hash_bytes(w.out.data(), w.out.size(), key)));
  return w.out;
}

std::optional<Program> decode_program(std::string_view bytes, u64 key) {
  if (bytes.size() < 16 || bytes.size() > most_bytes || bytes.substr(0, 8) != std::string_view(magic, 8)) return {};
  Reader end{bytes.substr(bytes.size() - 8)};
  bytes.remove_suffix(8);
  if (u64(end.number()) != hash_bytes(bytes.data(), bytes.size(), key)) return {};
  Reader r{bytes.substr(8)};
  Program p;
  for (std::string* s : {&p.name, &p.source, &p.isa, &p.arch, &p.moves}) *s = r.text();
  std::string_view code = r.text();
  p.code.assign(code.begin(), code.end());
  i64 threads = 0, scalars = 0, vectors = 0;
  for (i64* v : {&p.code_bytes, &p.extent, &threads, &scalars, &vectors, &p.frame_bytes, &p.local_bytes, &p.operations,
                 &p.bytes, &p.estimate_ns, &p.accesses, &p.accesses_proven})
    *v = r.number();
  constexpr i64 most_registers = 1024, most_threads = 1024;
  if (threads < 1 || threads > most_threads || std::min(scalars, vectors) < 0 ||
      std::max(scalars, vectors) > most_registers || p.frame_bytes < 0 || p.code_bytes < 0 ||
      u64(p.code_bytes) > p.code.size())
    return {};
  p.threads = int(threads), p.scalars = int(scalars), p.vectors = int(vectors);
  for (i64 n = r.count(24); n > 0; n--) {
    i64 scalar = r.number(), elements = r.number(), access = r.number();
    if (scalar < 0 || scalar >= i64(std::size(dtype_rows)) || elements < 0 || access < 0 || access > 3) return {};
    p.params.push_back({DType{Scalar(scalar)}, elements, bool(access & 2), bool(access & 1)});
  }
  for (i64 n = r.count(16); n > 0; n--) {
    i64 offset = r.number();
    if (offset < 0 || u64(offset) > p.code.size()) return {};
    p.notes.emplace_back(u32(offset), r.text());
  }
  if (!r.ok || !r.in.empty() || p.extent < 0 || p.local_bytes < 0 || p.code.empty()) return {};
  return p;
}

std::optional<Program> load_program(u64 key, const Target& target) {
  Disk& d = disk();
  std::lock_guard lock(d.mutex);
  if (auto it = d.pending.find(key); it != d.pending.end()) return decode_program(it->second, key);
  if (!d.open()) return {};
  Statement query(d.db, "SELECT value FROM kernels WHERE key = ? AND build = ?");
  if (!query.s) return d.give_up(sqlite3_errmsg(d.db)), std::nullopt;
  sqlite3_bind_int64(query.s, 1, i64(key));
  sqlite3_bind_int64(query.s, 2, i64(build_hash()));
  int status = query.step();
  if (status == SQLITE_CORRUPT || status == SQLITE_NOTADB) {
    std::string why = sqlite3_errmsg(d.db);
    sqlite3_finalize(std::exchange(query.s, nullptr));
    return d.give_up(why), std::nullopt;
  }
  if (status != SQLITE_ROW || sqlite3_column_type(query.s, 0) != SQLITE_BLOB) return {};
  const char* data = static_cast<const char*>(sqlite3_column_blob(query.s, 0));
  auto p = decode_program({data, size_t(sqlite3_column_bytes(query.s, 0))}, key);
  if (!p || p->isa != target.isa || p->arch != target.arch) return {};
  return p;
}

void store_program(u64 key, const Program& p) {
  Disk& d = disk();
  std::lock_guard lock(d.mutex);
  if (d.broken) return;
  close_at_exit();
  d.pending[key] = encode_program(p, key);
  if (d.pending.size() >= write_after) d.write();
}

void sync_cache() {
  Disk& d = disk();
  std::lock_guard lock(d.mutex);
  d.write();
}

}  // namespace ingot
