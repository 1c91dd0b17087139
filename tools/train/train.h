// SPDX-License-Identifier: MIT
// What `ingot train` is made of: reading IDX files, finding or making a data set, and the jobs. Sections are named for
// the file that implements them.
#pragma once
#include "tools/tools.h"

namespace ingot {

// ---- idx.cc: the format of the MNIST files
// Big-endian: two zero bytes, type (8: u8), number of axes, a u32 for each axis, then the elements, row-major, and
// nothing else. Source: yann.lecun.com/exdb/mnist, "the IDX file format".
struct Idx {
  std::vector<i64> shape;
  std::vector<u8> data;
};
// Plain or gzip. Error names the file, the offset and the rule broken.
Idx parse_idx(std::span<const u8> bytes, std::string_view name);
Idx read_idx(const std::string& path);

// ---- digits.cc
struct Images {  // n images of 28 x 28, white on black, and what digit each shows
  std::vector<u8> pixels, labels;
  i64 n() const { return i64(labels.size()); }
};
Images draw_digits(i64 n, u64 seed);                       // handwriting-like, learnable, the same for the same seed
std::vector<i64> permutation(i64 n, u64 seed, u64 epoch);  // the order in which an epoch visits n samples
struct Random {  // splitmix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014
  u64 state;
  u64 next() {
    u64 z = state += 0x9E3779B97F4A7C15ull;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ z >> 27) * 0x94D049BB133111EBull;
    return z ^ z >> 31;
  }
  i64 below(i64 n) { return i64(u64((unsigned __int128)next() * u64(n) >> 64)); }
  double uniform(double lo, double hi) { return lo + (hi - lo) * double(next() >> 11) * 0x1p-53; }
};

// ---- mnist_data.cc
struct DataSet {
  Images train, test;
  std::string source;  // a sentence for people: where it came from
  bool synthetic = false;
};
// In this order: `folder` if given (Error if the files are not there), ctx.INGOT_DATA, the cache folder, a download
// into the cache folder (unless `offline`), drawn digits. A folder that holds only the test set is split: nine tenths
// train, the rest test. The folder "synthetic" asks for drawn digits.
DataSet mnist_data(const std::string& folder, bool offline = false);

// ---- peak.cc
double peak_flops();  // float32 operations a second of all threads together, measured; 0: not known

// ---- mnist.cc
int mnist_main(Arguments args);

}  // namespace ingot
