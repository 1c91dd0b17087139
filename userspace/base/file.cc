// SPDX-License-Identifier: MIT
// Files. A file that others may read appears whole or not at all: it is written beside its name, flushed to the disk,
// then renamed.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cerrno>
#include <utility>
#include "userspace/base/base.h"

namespace ingot {
namespace {

struct Descriptor {
  int fd;
  explicit Descriptor(int f) : fd(f) {}
  Descriptor(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

}  // namespace

std::string read_file(const std::string& path) {
  Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.fd < 0) throw OsError("cannot open " + path, errno);
  struct stat s;
  std::string contents;
  if (!fstat(file.fd, &s) && s.st_size > 0) contents.reserve(size_t(s.st_size));
  char buffer[1 << 16];
  for (;;) {
    ssize_t n = ::read(file.fd, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw OsError("cannot read " + path, errno);
    if (!n) return contents;
    contents.append(buffer, size_t(n));
  }
}

void write_file(const std::string& path, std::string_view contents) {
  static std::atomic<u64> serial{0};
  std::string temporary = str(path, ".tmp.", ::getpid(), ".", serial++);
  Descriptor file(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
  if (file.fd < 0) throw OsError("cannot create " + temporary, errno);
  auto fail = [&](const char* what) {
    int number = errno;
    ::unlink(temporary.c_str());
    throw OsError(str("cannot ", what, " ", path), number);
  };
  while (!contents.empty()) {
    ssize_t n = ::write(file.fd, contents.data(), contents.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail("write");
    contents.remove_prefix(size_t(n));
  }
  if (::fsync(file.fd) && errno != EINVAL) fail("flush");
  if (::close(std::exchange(file.fd, -1))) fail("close");
  if (::rename(temporary.c_str(), path.c_str())) fail("rename the new");
}

bool file_exists(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

void make_folders(const std::string& path) {
  for (size_t end = 1; end != path.npos;) {
    end = path.find('/', end + 1);
    std::string part = path.substr(0, end);
    if (::mkdir(part.c_str(), 0777) && errno != EEXIST && !file_exists(part))
      throw OsError("cannot make the folder " + part, errno);
  }
}

FileLock::FileLock(const std::string& path) : file_(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)) {
  Descriptor file(file_);
  if (file.fd < 0) throw OsError("cannot open " + path, errno);
  char owner[24] = {};
  if (::flock(file.fd, LOCK_EX | LOCK_NB)) {
    if (errno != EWOULDBLOCK) throw OsError("cannot lock " + path, errno);
    ssize_t n = ::pread(file.fd, owner, sizeof owner - 1, 0);
    throw Error(path, " is held by process ", n > 0 ? owner : "?");
  }
  std::string self = str(::getpid());
  if (::ftruncate(file.fd, 0) || ::pwrite(file.fd, self.data(), self.size(), 0) < 0)
    throw OsError("cannot write " + path, errno);
  file.fd = -1;
}
FileLock::~FileLock() { ::close(file_); }

MappedFile::MappedFile(const std::string& path) {
  Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.fd < 0) throw OsError("cannot open " + path, errno);
  struct stat s;
  if (fstat(file.fd, &s)) throw OsError("cannot read " + path, errno);
  if (!S_ISREG(s.st_mode)) throw Error(path, " is not a regular file");
  size_ = size_t(s.st_size);
  if (!size_) return;
  void* p = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.fd, 0);
  if (p == MAP_FAILED) throw OsError("cannot map " + path, errno);
  data_ = static_cast<const u8*>(p);
}
MappedFile::~MappedFile() {
  if (data_) ::munmap(const_cast<u8*>(data_), size_);
}

}  // namespace ingot
