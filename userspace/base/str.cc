// SPDX-License-Identifier: MIT
// Messages: numbers as the shortest text that reads back, JSON quoting, the nearest known word, a stable hash.
//
// hash_bytes names kernels in caches that outlive a process, so its value is part of the cache format: little-endian
// words of eight bytes, each folded in by one 64 x 64 -> 128 bit multiplication whose halves are combined; the length
// is folded in last, so that a prefix hashes differently.
#include <algorithm>
#include "userspace/base/base.h"

namespace ingot {
namespace {

template <class T>
void append_shortest(std::string& out, T v) {
  char buffer[40];
  out.append(buffer, std::to_chars(buffer, buffer + sizeof buffer, v).ptr);
}

u64 fold_multiply(u64 a, u64 b) {
  unsigned __int128 product = static_cast<unsigned __int128>(a) * b;
  return u64(product) ^ u64(product >> 64);
}

char lower(char c) { return c >= 'A' && c <= 'Z' ? char(c + 32) : c; }

// Edits (insert, delete, replace) that turn one word into the other, without regard to case.
size_t distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); j++) row[j] = j;
  for (size_t i = 1; i <= a.size(); i++) {
    size_t diagonal = std::exchange(row[0], i);
    for (size_t j = 1; j <= b.size(); j++) {
      size_t replace = diagonal + (lower(a[i - 1]) != lower(b[j - 1]));
      diagonal = row[j];
      row[j] = std::min({replace, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

}  // namespace

void append(std::string& out, double v) { append_shortest(out, v); }
void append(std::string& out, float v) { append_shortest(out, v); }

std::string hex(u64 value, int digits) {
  char buffer[16];
  char* end = std::to_chars(buffer, buffer + sizeof buffer, value, 16).ptr;
  std::string out = "0x";
  if (digits > end - buffer) out.append(size_t(digits - (end - buffer)), '0');
  return out.append(buffer, end);
}

std::string quote_json(std::string_view text) {
  std::string out = "\"";
  for (char c : text) switch (c) {
      case '"': out += "\\\""; break;
      case '\\': out += "\\\\"; break;
      case '\n': out += "\\n"; break;
      case '\t': out += "\\t"; break;
      default:
        if (u8(c) < 32)
          out += "\\u00", out += char('0' + (c >> 4)), out += "0123456789abcdef"[c & 15];
        else
          out += c;
    }
  return out += '"';
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (size_t begin = 0;;) {
    size_t end = text.find(separator, begin);
    parts.push_back(text.substr(begin, end - begin));
    if (end == text.npos) return parts;
    begin = end + 1;
  }
}

std::string closest(std::string_view word, std::span<const std::string_view> known) {
  std::string_view best;
  size_t least = std::max<size_t>(1, word.size() * 2 / 5) + 1;
  for (std::string_view k : known)
    if (size_t d = distance(word, k); d < least) least = d, best = k;
  return std::string(best);
}

u64 hash_bytes(const void* data, size_t bytes, u64 seed) {
  const u8* p = static_cast<const u8*>(data);
  u64 h = seed ^ 0x9E3779B97F4A7C15ull;
  size_t left = bytes;
  for (; left >= 8; p += 8, left -= 8) {
    u64 word;
    std::memcpy(&word, p, 8);
    h = fold_multiply(h ^ word, 0xD6E8FEB86659FD93ull) + 0x2545F4914F6CDD1Dull;
  }
  u64 tail = 0;
  if (left) std::memcpy(&tail, p, left);
  h = fold_multiply(h ^ tail, 0xD6E8FEB86659FD93ull) ^ bytes;
  return fold_multiply(h, 0x9E3779B97F4A7C15ull);
}

}  // namespace ingot
