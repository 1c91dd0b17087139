// SPDX-License-Identifier: MIT
// Comparing results of different devices and of other libraries: see ops.h.
#include "tests/ops/ops.h"

#include <bit>
#include <cmath>

namespace ingot::ops {

std::string absent(const Place& place) {
  try {
    device_number(place.device);
    return "";
  } catch (const Error& e) {
    return str(place.device, " is not here: ", e.what());
  }
}

Result result_of(const Tensor& t) {
  Result r{t.dtype(), Shape(t.shape().begin(), t.shape().end()), std::vector<u8>(size_t(t.nbytes()))};
  t.read(r.bytes.data(), r.dtype);
  return r;
}

double Tolerance::allowed(double y, DType dtype) const {
  if (exact || !dtype.is_float()) return 0;
  const DTypeRow& row = dtype.row();
  const double smallest = std::ldexp(1., 1 - row.bias - row.mantissa_bits);  // subnormal numbers are that far apart
  return std::max(epsilons * std::ldexp(std::max(std::abs(y), scale), -row.mantissa_bits),
                  std::min(epsilons, 1.) * smallest);
}

std::string difference(const Result& got, const Result& wanted, const Tolerance& tolerance) {
  if (got.dtype != wanted.dtype || got.shape != wanted.shape)
    return str(got.dtype, " ", got.shape, ", expected ", wanted.dtype, " ", wanted.shape);
  for (i64 i = 0; i < got.size(); i++) {
    const Value x = got[i], y = wanted[i];
    bool same;
    if (!got.dtype.is_float())
      same = x.i == y.i;
    else if (std::isnan(x.f) || std::isnan(y.f))
      same = std::isnan(x.f) && std::isnan(y.f);
    else if (tolerance.exact)
      same = std::bit_cast<u64>(x.f) == std::bit_cast<u64>(y.f);
    else
      same = x.f == y.f || std::abs(x.f - y.f) <= tolerance.allowed(y.f, got.dtype);  // inf - inf is NaN: not close
    if (same) continue;
    std::string at = str("element ", i, " of ", got.dtype, " ", got.shape, ": ");
    return got.dtype.is_float() ? str(at, x.f, ", expected ", y.f) : str(at, x.i, ", expected ", y.i);
  }
  return "";
}

}  // namespace ingot::ops
