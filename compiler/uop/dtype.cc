// SPDX-License-Identifier: MIT
// Element types: their names, exact conversion between doubles and every float format, and promotion.
//
// One pair of functions serves every format that a row of dtype.def describes. A value is rounded once, to nearest,
// ties to even, subnormals included; a double holds every value of every format, so decoding is exact and no path
// rounds twice. Outside the finite range, as in ml_dtypes and PyTorch (nothing saturates):
//   IEEE (f64 f32 f16 bf16 e5m2)  what rounds beyond the largest finite value becomes infinity; NaN keeps its sign and
//   the top
//                                 bits of its payload and becomes quiet.
//   FN   (e4m3)                   no infinity: overflow and infinity become the NaN 0x7f, with the sign.
//   FNUZ (e4m3fnuz e5m2fnuz)      no infinity, no -0, one NaN (0x80): overflow and infinity become it, -0 becomes 0.
// Promotion is JAX's type promotion lattice for arrays (docs.jax.dev, "Type promotion semantics"), extended where JAX
// refuses (two float8 types) or has no such type (idx).
#include <bit>

#include "compiler/uop/uop.h"

namespace ingot {

void append(std::string& out, DType dtype) {
  out += dtype.row().name;
  if (dtype.lanes != 1) out += 'x', append(out, dtype.lanes);
}

std::optional<DType> dtype_from_name(std::string_view name) {
  for (size_t i = 0; i < std::size(dtype_rows); i++)
    for (std::string_view text : {dtype_rows[i].name, dtype_rows[i].torch_name}) {
      if (name == text) return DType{Scalar(i)};
      if (!name.starts_with(text) || name[text.size()] != 'x') continue;
      u16 lanes = 0;
      auto [end, error] = std::from_chars(name.data() + text.size() + 1, name.data() + name.size(), lanes);
      if (error == std::errc() && end == name.data() + name.size() && lanes > 1) return DType{Scalar(i), lanes};
    }
  return {};
}

u64 encode_float(double value, DType dtype) {
  const DTypeRow& t = dtype.row();
  check(dtype.is_float(), "encode_float to ", dtype);
  u64 bits = std::bit_cast<u64>(value);
  if (t.bits == 64) return bits;
  if (t.bits == 32) return std::bit_cast<u32>(float(value));
  int m = t.mantissa_bits;
  u64 sign = (bits >> 63) << (t.bits - 1), top = (u64(1) << (t.bits - 1)) - 1;  // top: every bit but the sign
  u64 infinity = ((u64(1) << t.exponent_bits) - 1) << m;  // also the first NaN or finite code of FN, FNUZ
  u64 fraction = bits & ((u64(1) << 52) - 1);
  int exponent = int(bits >> 52 & 2047) - 1023;
  if (exponent == 1024) {
    if (t.specials == Specials::FNUZ) return top + 1;
    if (t.specials == Specials::FN) return sign | top;
    return sign | infinity | (fraction ? fraction >> (52 - m) | u64(1) << (m - 1) : 0);
  }
  if (exponent == -1023)
    exponent++;
  else
    fraction |= u64(1) << 52;                  // value = fraction * 2^(exponent - 52)
  int scale = std::max(exponent, 1 - t.bias);  // exponent of the result before rounding
  int drop = std::min(52 - m + scale - exponent, 60);
  u64 kept = fraction >> drop, rest = fraction & ((u64(1) << drop) - 1), half = u64(1) << (drop - 1);
  kept += rest > half || (rest == half && kept & 1);
  u64 code = (u64(scale + t.bias - 1) << m) + kept;  // a carry runs into the exponent, as it should
  switch (t.specials) {
    case Specials::IEEE: return sign | std::min(code, infinity);
    case Specials::FN: return sign | std::min(code, top);
    case Specials::FNUZ: return code > top ? top + 1 : code ? sign | code : 0;
  }
  unreachable();
}

double decode_float(u64 bits, DType dtype) {
  const DTypeRow& t = dtype.row();
  check(dtype.is_float(), "decode_float from ", dtype);
  if (t.bits == 64) return std::bit_cast<double>(bits);
  if (t.bits == 32) return std::bit_cast<float>(u32(bits));
  int m = t.mantissa_bits;
  u64 top = (u64(1) << (t.bits - 1)) - 1, code = bits & top, sign = (bits & (top + 1)) << (64 - t.bits);
  u64 infinity = ((u64(1) << t.exponent_bits) - 1) << m, nan = u64(0x7ff8) << 48;
  if (t.specials == Specials::FNUZ && sign && !code) return std::bit_cast<double>(nan);
  if (t.specials == Specials::FN && code == top) return std::bit_cast<double>(sign | nan);
  if (t.specials == Specials::IEEE && code >= infinity)
    return std::bit_cast<double>(sign | u64(0x7ff) << 52 | (code - infinity) << (52 - m));
  double magnitude;
  if (code >> m)
    magnitude = std::bit_cast<double>((code << (52 - m)) + (u64(1023 - t.bias) << 52));
  else
    magnitude = double(code) * std::bit_cast<double>(u64(1023 + 1 - t.bias - m) << 52);
  return std::bit_cast<double>(std::bit_cast<u64>(magnitude) | sign);
}

double round_to(double value, DType dtype) {
  if (dtype.scalar == Scalar::F64) return value;
  if (dtype.scalar == Scalar::F32) return float(value);
  return decode_float(encode_float(value, dtype), dtype);
}

i64 wrap_to(i64 value, DType dtype) {
  switch (dtype.scalar) {
    case Scalar::BOOL: return value != 0;
    case Scalar::I8: return i8(value);
    case Scalar::U8: return u8(value);
    case Scalar::I16: return i16(value);
    case Scalar::U16: return u16(value);
    case Scalar::I32: return i32(value);
    case Scalar::U32: return u32(value);
    default: return value;
  }
}

// The lattice: bool < integers < floats. Unsigned meets signed in the next wider signed type; u64 meets signed in the
// default float, which is f64 where 64-bit types are enabled. An integer meets a float in that float. f16 and bf16 meet
// in f32. Ours: two float8 types meet in f16, which holds the values of each; float8 meets a wider float in that; idx
// beats integers.
DType promote(DType a, DType b) {
  if (a.row().kind > b.row().kind || (a.row().kind == b.row().kind && a.bits() > b.bits())) std::swap(a, b);
  if (a.scalar == b.scalar || a.scalar == Scalar::VOID || a.is_bool()) return b;
  if (b.is_float()) return a.is_int() || a.bits() < b.bits() ? b : b.bits() == 8 ? F16 : F32;
  if (a == IDX || b == IDX) return IDX;
  if (a.row().kind == b.row().kind) return b;
  if (b.bits() == 64) return F64;
  return a.bits() > b.bits() ? a : b.bits() == 8 ? I16 : b.bits() == 16 ? I32 : I64;
}

}  // namespace ingot
