// SPDX-License-Identifier: MIT
// Reads IDX files, plain or gzip, from people who may hand us anything: every length is checked before it is used, the
// size that the header declares bounds how much is unpacked, and a byte too few or too many is an error.
#include <zlib.h>

#include "tools/train/train.h"

namespace ingot {

constexpr i64 largest_bytes = i64(1) << 32;

static u32 big_endian(const u8* p) { return u32(p[0]) << 24 | u32(p[1]) << 16 | u32(p[2]) << 8 | p[3]; }

// Unpacks as it is asked for, so that the header can be judged before memory is spent on its claim.
struct Reader {
  std::span<const u8> bytes;
  std::string_view name;
  bool gzip;
  size_t at = 0;  // plain files
  z_stream z{};
  bool ended = false;

  Reader(std::span<const u8> b, std::string_view n)
      : bytes(b), name(n), gzip(b.size() >= 2 && b[0] == 0x1f && b[1] == 0x8b) {
    if (!gzip) return;
    if (bytes.size() > ~uInt(0)) throw Error(name, ": ", bytes.size(), " bytes of gzip, more than 4 GiB");
    z.next_in = const_cast<Bytef*>(bytes.data());
    z.avail_in = uInt(bytes.size());
    check(inflateInit2(&z, 15 + 16) == Z_OK, "zlib would not start");
  }
  ~Reader() {
    if (gzip) inflateEnd(&z);
  }
  size_t offset() const { return gzip ? z.total_out : at; }

  size_t take(u8* to, size_t n) {  // returns how many bytes there were, at most n
    if (!gzip) {
      n = std::min(n, bytes.size() - at);
      if (n) memcpy(to, bytes.data() + at, n);
      at += n;
      return n;
    }
    size_t done = 0;
    while (done < n && !ended) {
      const uInt part = uInt(std::min<size_t>(n - done, 1 << 30));
      z.next_out = to + done;
      z.avail_out = part;
      const int result = inflate(&z, Z_NO_FLUSH);
      const size_t made = part - z.avail_out;
      done += made;
      ended = result == Z_STREAM_END;
      if (result != Z_OK && !ended)
        throw Error(name, ": damaged gzip near byte ", z.total_in, ": ", z.msg ? z.msg : "it ends too early");
    }
    return done;
  }
  void read(u8* to, size_t n, std::string_view what) {
    const size_t had = take(to, n);
    if (had < n)
      throw Error(name, ": ends at byte ", offset(), ": ", what, " needs ", n, " bytes and ", had, " are left");
  }
  void finish() {  // also makes zlib compare its checksum
    u8 more;
    if (take(&more, 1) || (gzip && z.avail_in))
      throw Error(name, ": bytes are left after the last element, at byte ", offset());
  }
};

Idx parse_idx(std::span<const u8> bytes, std::string_view name) {
  Reader in(bytes, name);
  u8 head[4];
  in.read(head, 4, "the magic number");
  if (head[0] || head[1])
    throw Error(name, ": not an IDX file: it starts with bytes ", int(head[0]), " ", int(head[1]), ", expected 0 0");
  if (head[2] != 8)
    throw Error(name, ": elements of IDX type ", int(head[2]), "; only 8 (unsigned bytes) is supported");
  if (head[3] < 1 || head[3] > 8) throw Error(name, ": ", int(head[3]), " axes; expected 1 to 8");
  Idx idx;
  i64 size = 1;
  for (int axis = 0; axis < head[3]; axis++) {
    u8 word[4];
    in.read(word, 4, "the shape");
    const i64 n = big_endian(word);
    if (n == 0) throw Error(name, ": axis ", axis, " has size 0");
    if (n > largest_bytes / size) throw Error(name, ": axis ", axis, " of size ", n, " makes it larger than 4 GiB");
    size *= n;
    idx.shape.push_back(n);
  }
  if (!in.gzip && size != i64(bytes.size() - in.at))
    throw Error(name, ": shape ", idx.shape, " needs ", size, " bytes of elements, the file has ",
                bytes.size() - in.at);
  // deflate cannot shrink data by more than 1032 : 1 (zlib's technical notes), so a larger claim is a lie
  if (in.gzip && size / 1100 > i64(bytes.size()))
    throw Error(name, ": shape ", idx.shape, " cannot come from ", bytes.size(), " bytes");
  idx.data.resize(size_t(size));
  in.read(idx.data.data(), idx.data.size(), "the elements");
  in.finish();
  return idx;
}

Idx read_idx(const std::string& path) {
  MappedFile file(path);
  return parse_idx(file.bytes(), path);
}

}  // namespace ingot
