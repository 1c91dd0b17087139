// SPDX-License-Identifier: MIT
// The arithmetic in which op.def writes its value column: who includes that column includes this. Integers wrap at the
// width of T (32 or 64 bits); the names that are no operators are found beside the type. Floats are themselves.
#pragma once
#include <cmath>
#include "compiler/uop/uop.h"

namespace ingot {

// An integer that wraps; T decides how it compares, divides and shifts right.
template <class T>
struct Wrapping {
  using Bits = std::make_unsigned_t<T>;
  static constexpr Bits last = sizeof(T) * 8 - 1;  // the largest shift
  T v;
  Wrapping(T value = 0) : v(value) {}
  explicit operator bool() const { return v; }
  friend Wrapping operator-(Wrapping a) { return T(-Bits(a.v)); }
  friend Wrapping operator+(Wrapping a, Wrapping b) { return T(Bits(a.v) + Bits(b.v)); }
  friend Wrapping operator-(Wrapping a, Wrapping b) { return T(Bits(a.v) - Bits(b.v)); }
  friend Wrapping operator*(Wrapping a, Wrapping b) { return T(Bits(a.v) * Bits(b.v)); }
  friend Wrapping operator&(Wrapping a, Wrapping b) { return a.v & b.v; }
  friend Wrapping operator|(Wrapping a, Wrapping b) { return a.v | b.v; }
  friend Wrapping operator^(Wrapping a, Wrapping b) { return a.v ^ b.v; }
  friend Wrapping operator>>(Wrapping a, Wrapping b) { return T(a.v >> (Bits(b.v) & last)); }
  friend Wrapping shift_left(Wrapping a, Wrapping b) { return T(Bits(a.v) << (Bits(b.v) & last)); }
  friend Wrapping operator<(Wrapping a, Wrapping b) { return a.v < b.v; }
  friend Wrapping operator==(Wrapping a, Wrapping b) { return a.v == b.v; }
  friend Wrapping operator!=(Wrapping a, Wrapping b) { return a.v != b.v; }
  friend Wrapping floor_div(Wrapping a, Wrapping b) {
    if (b.v == 0) return 0;
    if (b.v == T(-1) && std::is_signed_v<T>) return -a;  // the one quotient that can overflow
    return T(a.v / b.v - (a.v % b.v != 0 && (a.v < 0) != (b.v < 0)));
  }
  friend Wrapping floor_mod(Wrapping a, Wrapping b) { return b.v == 0 ? Wrapping(0) : a - b * floor_div(a, b); }
  friend Wrapping maximum(Wrapping a, Wrapping b) { return a.v < b.v ? b : a; }
  friend Wrapping minimum(Wrapping a, Wrapping b) { return b.v < a.v ? b : a; }
};
template <class T>
concept Floating = std::is_floating_point_v<T>;
// NaN if either is; of two zeros minimum gives -0 and maximum 0, if there is one.
template <Floating T>
T maximum(T a, T b) {
  return a == b ? (std::signbit(a) ? b : a) : a != a ? a : b != b ? b : a < b ? b : a;
}
template <Floating T>
T minimum(T a, T b) {
  return a == b ? (std::signbit(a) ? a : b) : a != a ? a : b != b ? b : b < a ? b : a;
}

}  // namespace ingot
