// SPDX-License-Identifier: MIT
// What the operator tests share: where a computation runs, its result as bytes, and comparing two results.
#pragma once
#include "compiler/tensor/tensor.h"

namespace ingot::ops {

struct Place {
  const char* device;
  int guard;
};
inline constexpr Place reference{"REF", 0}, avx2{"CPU::avx2", 1}, avx512{"CPU::avx512", 1},
    gfx1100{"MODEL+AMD::gfx1100", 0},
    gfx1100_blocks{"MODEL+AMD:1:gfx1100", 0};  // its emulator compiles what it runs: see blocks_on()
// Why tests cannot run there (no such processor, device not built); empty: they can.
std::string absent(const Place& place);

struct Result {
  DType dtype;
  Shape shape;
  std::vector<u8> bytes;
  i64 size() const { return i64(bytes.size()) / dtype.bytes(); }
  Value operator[](i64 i) const { return load_element(bytes.data(), i, dtype); }
  double number(i64 i) const { return dtype.is_float() ? (*this)[i].f : double((*this)[i].i); }
};
Result result_of(const Tensor& t);  // realises

struct Tolerance {  // |x - y| <= epsilons * epsilon(dtype) * max(|y|, scale); exact: same bits, any NaN equals any NaN
  bool exact = false;
  double epsilons = 0, scale = 0;
  double allowed(double y, DType dtype) const;
};
// The first element where `got` is not close to `wanted`, as text; empty if there is none.
std::string difference(const Result& got, const Result& wanted, const Tolerance& tolerance);

}  // namespace ingot::ops
