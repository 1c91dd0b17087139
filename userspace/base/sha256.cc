// SPDX-License-Identifier: MIT
// SHA-256 as FIPS 180-4 states it, to check downloads and firmware. Its constants are the fractional bits of the cube
// and square roots of the first primes; they are computed here, from that definition, with integers.
#include <array>
#include "userspace/base/base.h"

namespace ingot {

// The first 32 fractional bits of the root-th root of n: the largest r with r^root <= n * 2^(32 root).
static constexpr u32 root_bits(u64 n, int root) {
  using Wide = unsigned __int128;
  u64 r = 0;
  for (u64 bit = u64(1) << 36; bit; bit >>= 1) {
    const Wide t = r | bit;
    // compared after dividing by t once, so that nothing exceeds 128 bits
    const bool fits = root == 2 ? t * t <= Wide(n) << 64 : t * t <= (Wide(n) << 96) / t;
    if (fits) r |= bit;
  }
  return u32(r);
}
struct Constants {
  std::array<u32, 64> k{};
  std::array<u32, 8> start{};
  constexpr Constants() {
    for (u32 n = 2, i = 0; i < 64; n++) {
      bool prime = true;
      for (u32 d = 2; d * d <= n; d++) prime &= n % d != 0;
      if (!prime) continue;
      if (i < 8) start[i] = root_bits(n, 2);
      k[i++] = root_bits(n, 3);
    }
  }
};
static constexpr Constants constants;
static_assert(constants.k[0] == 0x428a2f98 && constants.k[63] == 0xc67178f2 && constants.start[7] == 0x5be0cd19);

static u32 right(u32 x, int n) { return x >> n | x << (32 - n); }

static void block(std::array<u32, 8>& state, const u8* p) {
  u32 w[64];
  for (int i = 0; i < 16; i++)
    w[i] = u32(p[4 * i]) << 24 | u32(p[4 * i + 1]) << 16 | u32(p[4 * i + 2]) << 8 | p[4 * i + 3];
  for (int i = 16; i < 64; i++) {
    const u32 s0 = right(w[i - 15], 7) ^ right(w[i - 15], 18) ^ w[i - 15] >> 3;
    const u32 s1 = right(w[i - 2], 17) ^ right(w[i - 2], 19) ^ w[i - 2] >> 10;
    w[i] = w[i - 16] + s0 + w[i - 7] + s1;
  }
  auto [a, b, c, d, e, f, g, h] = state;
  for (int i = 0; i < 64; i++) {
    const u32 t1 =
        h + (right(e, 6) ^ right(e, 11) ^ right(e, 25)) + ((e & f) ^ (~e & g)) + constants.k[size_t(i)] + w[i];
    const u32 t2 = (right(a, 2) ^ right(a, 13) ^ right(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
    h = g, g = f, f = e, e = d + t1, d = c, c = b, b = a, a = t1 + t2;
  }
  const u32 add[8] = {a, b, c, d, e, f, g, h};
  for (size_t i = 0; i < 8; i++) state[i] += add[i];
}

std::string sha256(std::span<const u8> bytes) {
  std::array<u32, 8> state = constants.start;
  size_t i = 0;
  for (; i + 64 <= bytes.size(); i += 64) block(state, &bytes[i]);
  u8 last[128] = {};
  const size_t left = bytes.size() - i, padded = left < 56 ? 64 : 128;
  if (left) memcpy(last, &bytes[i], left);
  last[left] = 0x80;
  for (size_t k = 0; k < 8; k++) last[padded - 1 - k] = u8(u64(bytes.size()) * 8 >> 8 * k);
  for (size_t k = 0; k < padded; k += 64) block(state, last + k);
  std::string hex;
  for (u32 word : state)
    for (int shift = 28; shift >= 0; shift -= 4) hex += "0123456789abcdef"[word >> shift & 15];
  return hex;
}

}  // namespace ingot
