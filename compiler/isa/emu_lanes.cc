// SPDX-License-Identifier: MIT
// The arithmetic of the emulator: op.def's value column as loops over the lanes of a wave, and those functions of
// rdna_function.def that look at one lane. Sources: AMD "RDNA3 Instruction Set Architecture" (2023), chapter 16, but
// for what silicon does otherwise: the scale of v_div_fmas goes by the quotient's exponent (Newton steps that
// v_div_scale prepared need it so), v_bcnt adds S1, s_bfe writes SCC, v_alignbyte looks at two bits.
#include <algorithm>
#include <cfenv>

#include "compiler/isa/emu.h"
#include "compiler/uop/value.h"

namespace ingot::isa::emu {
using namespace rdna;

namespace {

// ---- loops over lanes ----------------------------------------------------------------------------------------------
template <class T, class L>
auto at(L& v) {
  return reinterpret_cast<std::conditional_t<std::is_const_v<L>, const T, T>*>(&v);
}
template <class T>
using Element = std::conditional_t<std::is_floating_point_v<T>, T, Wrapping<T>>;
template <class T>
T value_of(Element<T> v) {
  if constexpr (std::is_floating_point_v<T>)
    return v;
  else
    return v.v;
}

// The same loop for whatever processor this is built for, and for one with what WIDE names.
#if defined(__x86_64__)
#define WIDE __attribute__((target("avx2,fma")))
#ifdef __SANITIZE_THREAD__
#define CLONED  // its resolver would run before the sanitizer does
#else
#define CLONED __attribute__((target_clones("avx2", "default")))
#endif
bool wide() {
  static const bool has = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  return has;
}
#else
#define WIDE
#define CLONED
bool wide() { return false; }
#endif
#define LOOP_WITH(attribute, ...)                                                                           \
  [](Lanes& __restrict o, const Lanes& x, [[maybe_unused]] const Lanes& y, [[maybe_unused]] const Lanes& z) \
      attribute {                                                                                           \
        for (int i = 0; i < n; i++) __VA_ARGS__                                                             \
      }
#define LOOP(...)                                           \
  if (n > 1 && wide()) return LOOP_WITH(WIDE, __VA_ARGS__); \
  return LOOP_WITH(, __VA_ARGS__)

template <class T, int n>
Loop typed(Op op) {
  using E = Element<T>;
  constexpr bool is_float = std::is_floating_point_v<T>;
  if (op == Op::WHERE) {
    LOOP({ at<T>(o)[i] = x.u[i] ? at<T>(y)[i] : at<T>(z)[i]; });
  }
  switch (op) {
#define OP(name, sources, properties, value_, doc)                                                       \
  case Op::name:                                                                                         \
    if constexpr (((properties) & (is_float ? NUMERIC | FLOAT_ONLY : NUMERIC | INTEGER | LOGIC)) != 0) { \
      LOOP({                                                                                             \
        [[maybe_unused]] E a = at<T>(x)[i], b = at<T>(y)[i], c = at<T>(z)[i];                            \
        if constexpr (((properties)&TO_BOOL) != 0)                                                       \
          o.u[i] = bool(value_);                                                                         \
        else                                                                                             \
          at<T>(o)[i] = value_of<T>(value_);                                                             \
      });                                                                                                \
    }                                                                                                    \
    return nullptr;
#include "compiler/uop/op.def"
#undef OP
    default: return nullptr;
  }
}

template <class From, class To, int n>
Loop convert() {
  LOOP({
    From v = at<From>(x)[i];
    if constexpr (std::is_floating_point_v<From> && !std::is_floating_point_v<To>) {
      constexpr From low = From(std::numeric_limits<To>::min());
      constexpr From end = From(u64(1) << (sizeof(To) * 8 - 1)) * (std::is_signed_v<To> ? 1 : 2);
      at<To>(o)[i] = v != v     ? To(0)
                     : v < low  ? std::numeric_limits<To>::min()
                     : v >= end ? std::numeric_limits<To>::max()
                                : To(v);
    } else {
      at<To>(o)[i] = To(v);
    }
  });
}

template <class F>
auto by_storage(Scalar s, F f) {
  const DTypeRow& r = dtype_rows[int(s)];
  if (r.kind == Kind::FLOATING) return r.bits == 64 ? f(f64()) : f(f32());
  if (r.kind == Kind::SIGNED) return r.bits == 64 ? f(i64()) : f(i32());
  return r.bits == 64 ? f(u64()) : f(u32());
}

template <int n>
void fma_f16(Lanes& o, const Lanes& a, const Lanes& b,
             const Lanes& c) {  // rounded once: a double holds it exactly enough
  for (int i = 0; i < n; i++) o.f[i] = float(round_to(double(a.f[i]) * b.f[i] + c.f[i], F16));
}

}  // namespace

Loop arithmetic(Op op, Scalar source, bool one_lane) {
  if (op == Op::FMA && source == Scalar::F16) return one_lane ? fma_f16<1> : fma_f16<wave_lanes>;
  return by_storage(source,
                    [&](auto t) { return one_lane ? typed<decltype(t), 1>(op) : typed<decltype(t), wave_lanes>(op); });
}
Loop conversion(Scalar from, Scalar to, bool one_lane) {
  return by_storage(from, [&](auto f) {
    return by_storage(to, [&](auto t) -> Loop {
      using From = decltype(f);
      using To = decltype(t);
      return one_lane ? convert<From, To, 1>() : convert<From, To, wave_lanes>();
    });
  });
}

// ---- dtypes --------------------------------------------------------------------------------------------------------
// Half precision by the table-driven coder of dtype.cc is exact but slow, so its results stand in a table.
static float half(u64 bits) {
  static const std::vector<float> values = [] {
    std::vector<float> v(65536);
    for (u64 i = 0; i < v.size(); i++) v[i] = float(decode_float(i, F16));
    return v;
  }();
  return values[bits & 65535];
}
static u64 half_bits(double v, int round) {
  u64 sign = std::signbit(v) ? 1 << 15 : 0, raw = __builtin_bit_cast(u64, std::abs(v)), infinity = 31 << 10;
  if (v != v) return sign | infinity | 1 << 9;
  if (std::isinf(v) || !raw) return sign | (raw ? infinity : 0);
  int exponent = int(raw >> 52), least = 1023 - 14, drop = 42 + std::clamp(least - exponent, 0, 20);
  u64 mantissa = (raw & ((u64(1) << 52) - 1)) | u64(1) << 52, rest = mantissa & ((u64(1) << drop) - 1),
      tie = u64(1) << (drop - 1);
  u64 out = (mantissa >> drop) + (u64(std::max(exponent - least, 0)) << 10);
  bool away = round == 1 ? !sign : round == 2 && sign;  // of the magnitude
  out += round == 0 ? rest > tie || (rest == tie && out & 1) : away && rest;
  return sign | std::min(out, infinity - (round != 0 && !away));
}

void settle(Lanes& v, Scalar dtype, bool saturate, int lanes, const FloatMode& mode) {
  const DTypeRow& r = dtype_rows[int(dtype)];
  if (dtype == Scalar::F16) {
    for (int i = 0; i < lanes; i++) v.f[i] = half(half_bits(v.f[i], mode.round_64));
  } else if (r.kind == Kind::FLOATING) {
    for (int i = 0; i < lanes; i++) v.f[i] = float(round_to(v.f[i], {dtype}));
  } else if (saturate && r.kind == Kind::SIGNED) {
    i32 limit = (1 << (r.bits - 1)) - 1;
    for (int i = 0; i < lanes; i++) v.i[i] = std::clamp(v.i[i], -limit - 1, limit);
  } else if (saturate) {
    for (int i = 0; i < lanes; i++) v.u[i] = std::min(v.u[i], (u32(1) << r.bits) - 1);
  } else {
    for (int i = 0; i < lanes; i++) v.u[i] = u32(wrap_to(v.i[i], {dtype}));
  }
}

u64 encode_lane(Scalar dtype, const Lanes& v, int lane) {
  const DTypeRow& r = dtype_rows[int(dtype)];
  if (r.bits == 64) return v.q[lane];
  if (r.bits == 32 || dtype == Scalar::BOOL) return v.u[lane];
  if (r.kind != Kind::FLOATING) return v.u[lane] & ((u32(1) << r.bits) - 1);
  return dtype == Scalar::F16 ? half_bits(v.f[lane], 0) : encode_float(v.f[lane], {dtype});
}
void decode_lane(Scalar dtype, u64 bits, Lanes& v, int lane) {
  const DTypeRow& r = dtype_rows[int(dtype)];
  if (r.bits == 64)
    v.q[lane] = bits;
  else if (r.bits == 32 || dtype == Scalar::BOOL)
    v.u[lane] = u32(bits);
  else if (dtype == Scalar::F16)
    v.f[lane] = half(bits);
  else if (r.kind == Kind::FLOATING)
    v.f[lane] = float(decode_float(bits & ((u64(1) << r.bits) - 1), {dtype}));
  else
    v.u[lane] = u32(wrap_to(i64(bits), {dtype}));
}

struct FloatBits {  // where the parts of a float are
  int bits, mantissa;
  u64 sign, exponent_mask;
  explicit FloatBits(Scalar s)
      : bits(dtype_rows[int(s)].bits),
        mantissa(dtype_rows[int(s)].mantissa_bits),
        sign(u64(1) << (bits - 1)),
        exponent_mask(sign - (u64(1) << mantissa)) {}
  int exponent(u64 v) const { return int((v & exponent_mask) >> mantissa); }
  bool is_nan(u64 v) const { return (v & (sign - 1)) > exponent_mask; }
  bool is_infinite(u64 v) const { return (v & (sign - 1)) == exponent_mask; }
  bool is_zero(u64 v) const { return !(v & (sign - 1)); }
  bool is_denormal(u64 v) const { return !exponent(v) && !is_zero(v); }
  u64 quiet() const { return u64(1) << (mantissa - 1); }
  u64 nan() const { return exponent_mask | quiet(); }
};
u64 quiet_nan(Scalar dtype) { return FloatBits(dtype).nan(); }
u64 one_nan(u64 bits, Scalar dtype) {
  FloatBits f(dtype);
  return f.is_nan(bits) ? f.nan() : bits;
}
u64 flushed(u64 bits, Scalar dtype, const FloatMode& mode, bool result) {
  int keeps = dtype == Scalar::F32 ? mode.denorm_32 : mode.denorm_64;
  if (keeps >> int(result) & 1) return bits;
  FloatBits f(dtype);
  return f.is_denormal(bits) ? bits & f.sign : bits;
}
u64 finish_float(u64 bits, Scalar dtype, const FloatMode& mode, int omod, bool clamp) {
  FloatBits f(dtype);
  if (f.is_nan(bits)) return clamp && mode.clamp_nan ? 0 : bits | f.quiet();
  if (omod || clamp) {
    double v = decode_float(bits, {dtype});
    if (omod) v = omod == 3 ? v / 2 : v * (omod == 2 ? 4 : 2);
    if (clamp) v = v < 0 ? 0 : v > 1 ? 1 : v == 0 ? 0 : v;
    bits = encode_float(v, {dtype});
  }
  return flushed(bits, dtype, mode, true);
}
void round_host(int mode) {
  static constexpr int modes[] = {FE_TONEAREST, FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO};
  std::fesetround(modes[mode]);
}

// ---- lanes and memory ----------------------------------------------------------------------------------------------
CLONED void one_nan_32(u32* to, const u32* from) {
  constexpr u32 magnitude = ~u32(0) >> 1, infinity = 255u << 23, nan = infinity | 1 << 22;
  for (int l = 0; l < wave_lanes; l++) to[l] = (from[l] & magnitude) > infinity ? nan : from[l];
}
CLONED void copy_under(u32* to, const u32* from, u32 mask) {
  u32 mixed[wave_lanes];  // of its own, so that the loop becomes vectors
  if (mask == ~u32(0)) return void(std::memmove(to, from, sizeof mixed));
  for (int l = 0; l < wave_lanes; l++) mixed[l] = mask >> l & 1 ? from[l] : to[l];
  std::memcpy(to, mixed, sizeof mixed);
}
void gather(u32* to, const u8* host, const u32* offset, u32 mask) {
  u32 got[wave_lanes];
  u32* into = mask == ~u32(0) ? to : got;
  for (int l = 0; l < wave_lanes; l++) std::memcpy(into + l, host + offset[l], 4);
  if (into == got) copy_under(to, got, mask);
}
void scatter(const u32* from, u8* host, const u32* offset, u32 mask) {
  for (int l = 0; l < wave_lanes; l++)
    if (mask >> l & 1) std::memcpy(host + offset[l], from + l, 4);
}
CLONED Extent offsets_of(u32* to, const u32* low, u32 base, u32 mask) {
  u32 at[wave_lanes];
  for (int l = 0; l < wave_lanes; l++) at[l] = low[l] + base;
  const u32 inside = at[__builtin_ctz(mask)];
  if (mask != ~u32(0))
    for (int l = 0; l < wave_lanes; l++) at[l] = mask >> l & 1 ? at[l] : inside;
  u32 first = inside, last = inside;
  for (int l = 0; l < wave_lanes; l++) first = std::min(first, at[l]), last = std::max(last, at[l]);
  std::memcpy(to, at, sizeof at);
  return {first, last};
}
CLONED u64 relative_of(u32* to, const u32* low, const u32* high, u32 mask) {
  const int lane = __builtin_ctz(mask);
  const u64 origin = (low[lane] | u64(high[lane]) << 32) - (u64(1) << 31);
  u32 at[wave_lanes], beyond[wave_lanes], any = 0;
  for (int l = 0; l < wave_lanes; l++) {  // the borrow of the low words, and what is left of the high ones
    at[l] = low[l] - u32(origin);
    beyond[l] = high[l] - u32(origin >> 32) - (low[l] < u32(origin) ? 1 : 0);
  }
  for (int l = 0; l < wave_lanes; l++) any |= mask >> l & 1 ? beyond[l] : 0;
  std::memcpy(to, at, sizeof at);
  return any ? 0 : origin;
}

// ---- functions of one lane -----------------------------------------------------------------------------------------
namespace {
using std::bit_cast;

i64 signed_field(u64 v, int at, int bits) { return i64(v << (64 - at - bits)) >> (64 - bits); }
u64 ones(int bits) { return bits >= 64 ? ~u64(0) : (u64(1) << bits) - 1; }

u64 saturate(i64 v, int bits, bool is_signed) {
  i64 high = is_signed ? i64(ones(bits - 1)) : i64(ones(bits)), low = is_signed ? -high - 1 : 0;
  return u64(std::clamp(v, low, high)) & ones(bits);
}
u64 float_to_integer(double v, int bits, bool is_signed) {  // toward zero
  if (v != v) return 0;
  return saturate(i64(std::clamp(std::trunc(v), -0x1p62, 0x1p62)), bits, is_signed);
}

double number(u64 bits, Scalar s) { return decode_float(bits & ones(dtype_rows[int(s)].bits), {s}); }

u64 minnum_bits(u64 a, u64 b, Scalar s, bool smaller) {
  FloatBits f(s);
  if (f.is_nan(a)) return f.is_nan(b) ? a | f.quiet() : b;
  if (f.is_nan(b)) return a;
  double x = number(a, s), y = number(b, s);
  if (x == y) return (a & f.sign) == smaller * f.sign ? a : b;
  return (x < y) == smaller ? a : b;
}

void divide_scale(LaneCall& c, Scalar s) {
  FloatBits f(s);
  bool wide = s == Scalar::F64;
  u64 x = c.s[0], denominator = c.s[1], numerator = c.s[2];
  double n = number(numerator, s), d = number(denominator, s);
  int step = wide ? 128 : 64;
  auto denormal = [&](double v) { return v != 0 && std::abs(v) < (wide ? 0x1p-1022 : 0x1p-126); };
  // The quotients are of the format's own range: in double those of f64 may round to the smallest normal, which
  // the hardware's estimate by exponents does not know either.
  auto scaled = [&](int by) { return encode_float(std::ldexp(number(x, s), by), {s}); };
  c.d[0] = x;
  c.out = false;
  if (n == 0 || d == 0) {
    c.d[0] = f.nan();
  } else if (f.exponent(numerator) - f.exponent(denominator) >= (wide ? 768 : 96)) {
    c.out = true;
    if (x == denominator) c.d[0] = scaled(step);
  } else if (f.is_denormal(denominator)) {
    c.d[0] = scaled(step);
  } else if (denormal(1 / d) && denormal(n / d)) {
    c.out = true;
    if (x == denominator) c.d[0] = scaled(-step);
  } else if (denormal(1 / d)) {
    c.d[0] = scaled(-step);
  } else if (denormal(n / d)) {
    c.out = true;
    if (x == numerator) c.d[0] = scaled(step);
  } else if (f.exponent(numerator) <= (wide ? 53 : 23)) {
    c.d[0] = scaled(step);
  }
}

u64 divide_fixup(const LaneCall& c, Scalar s) {
  FloatBits f(s);
  u64 q = c.s[0], d = c.s[1], n = c.s[2], sign = (d ^ n) & f.sign;
  if (f.is_nan(n)) return n | f.quiet();
  if (f.is_nan(d)) return d | f.quiet();
  if ((f.is_zero(d) && f.is_zero(n)) || (f.is_infinite(d) && f.is_infinite(n))) return f.nan() | f.sign;
  if (f.is_zero(d) || f.is_infinite(n)) return sign | f.exponent_mask;
  if (f.is_infinite(d) || f.is_zero(n)) return sign;
  if (s != Scalar::F16) {
    bool wide = s == Scalar::F64;
    if (f.exponent(n) - f.exponent(d) < (wide ? -1075 : -150)) return sign;
  }
  if (f.is_nan(q)) return sign | f.exponent_mask;
  return sign | (q & (f.sign - 1));
}

u64 classify(u64 v, Scalar s) {  // one bit: sNaN qNaN -inf -normal -denormal -0 +0 +denormal +normal +inf
  FloatBits f(s);
  if (f.is_nan(v)) return v & f.quiet() ? 2 : 1;
  bool negative = v & f.sign;
  int at = f.is_infinite(v) ? 9 : f.is_zero(v) ? 6 : f.is_denormal(v) ? 7 : 8;
  return u64(1) << (negative ? 11 - at : at);
}

u64 permute_bytes(u64 high, u64 low, u64 selector) {
  u64 both = high << 32 | low, out = 0;
  for (int i = 0; i < 4; i++) {
    u64 s = selector >> 8 * i & 255;
    u64 byte = s <= 7 ? both >> 8 * s & 255 : s <= 11 ? (both >> (16 * (s - 8) + 15) & 1) * 255 : s == 12 ? 0 : 255;
    out |= byte << 8 * i;
  }
  return out;
}

void dot(LaneCall& c) {
  std::string_view name = c.row->name;
  u64 a = c.s[0], b = c.s[1];
  bool accumulates = name.find("acc") != name.npos;
  auto has = [&](std::string_view s) { return name.find(s) != name.npos; };
  if (has("dot2")) {
    Scalar s = has("bf16") ? Scalar::BF16 : Scalar::F16;
    auto part = [&](u64 v, int i) { return float(number(v >> 16 * i, s)); };
    if (has("dot2_f16") || has("dot2_bf16")) {
      double sum = number(c.s[2], s) + double(part(a, 0)) * part(b, 0) + double(part(a, 1)) * part(b, 1);
      c.d[0] = encode_float(sum, {s});
      return;
    }
    float sum = bit_cast<float>(u32(accumulates ? c.old : c.s[2]));
    sum = std::fma(part(a, 0), part(b, 0), sum);
    c.d[0] = bit_cast<u32>(std::fma(part(a, 1), part(b, 1), sum));
    return;
  }
  int bits = has("dot8") ? 4 : 8;
  bool either = has("iu");
  i64 sum = either ? i64(i32(c.s[2])) : i64(u32(c.s[2]));
  for (int i = 0; i < 32 / bits; i++) {
    auto part = [&](u64 v, bool is_signed) {
      return is_signed ? signed_field(v, bits * i, bits) : i64(v >> bits * i & ones(bits));
    };
    sum += part(a, either && c.is_signed & 1) * part(b, either && c.is_signed & 2);
  }
  c.d[0] = c.clamp ? saturate(sum, 32, either) : u64(sum) & ones(32);
}

u64 normalized(double v, bool is_signed) {
  double x = v != v ? 0 : std::clamp(v, is_signed ? -1.0 : 0.0, 1.0);
  return float_to_integer(std::nearbyint(x * (is_signed ? 32767 : 65535)), 16, is_signed);
}
u64 pack_one(std::string_view name, u64 v) {  // half of v_cvt_pk_*
  auto has = [&](std::string_view s) { return name.find(s) != name.npos; };
  bool is_signed = has("i16");
  if (has("rtz")) return half_bits(bit_cast<float>(u32(v)), 3);
  if (has("norm")) return normalized(number(v, has("_f16") ? Scalar::F16 : Scalar::F32), is_signed);
  if (has("_f32")) return float_to_integer(number(v, Scalar::F32), 16, is_signed);
  return saturate(is_signed ? i64(i32(v)) : i64(u32(v)), 16, is_signed);
}
}  // namespace

u64 saturated(i64 v, Scalar dtype) {
  return saturate(v, dtype_rows[int(dtype)].bits, dtype_rows[int(dtype)].kind == Kind::SIGNED);
}

bool lane_function(LaneCall& c) {
  const Row& r = *c.row;
  std::string_view name = r.name;
  const OperandSpec& d = r.spec[0];
  Scalar type = Scalar::VOID;  // of S0
  int bits = 32;
  for (int i = 0; i < r.shown; i++)
    if (r.spec[i].place == fields::SRC0) type = r.spec[i].type, bits = r.spec[i].bits;
  u64 a = c.s[0], b = c.s[1];
  u64& out = c.d[0];
  auto finish = [&](u64 v, int n) {
    out = v & ones(n);
    c.out = out != 0;
    return true;
  };
  switch (r.function) {
    case BIT_REVERSE: {
      u64 v = 0;
      for (int i = 0; i < bits; i++) v |= (a >> i & 1) << (bits - 1 - i);
      return finish(v, bits);
    }
    case COUNT_TRAILING_ZEROS: return finish(a ? u64(__builtin_ctzll(a)) : ~u64(0), 32);
    case COUNT_LEADING_ZEROS: return finish(a ? u64(__builtin_clzll(a) - (64 - bits)) : ~u64(0), 32);
    case COUNT_LEADING_SIGN: {
      u64 x = (a ^ (a >> (bits - 1) & 1 ? ones(bits) : 0)) & ones(bits);
      return finish(x ? u64(__builtin_clzll(x) - (64 - bits)) : ~u64(0), 32);
    }
    case COUNT_ZEROS: return finish(u64(bits - __builtin_popcountll(a)), 32);
    case COUNT_ONES: return finish(u64(__builtin_popcountll(a)) + (r.format == VOP3 ? b : 0), 32);
    case SCALAR_BIT_FIELD: {
      int at = int(b) & (bits - 1), width = int(b >> 16) & 127;
      bool is_signed = dtype_rows[int(type)].kind == Kind::SIGNED;
      if (!width) return finish(0, bits);
      i64 v = is_signed ? signed_field(a, 0, bits) >> at : i64(a >> at);
      if (width < bits) v = is_signed ? signed_field(u64(v), 0, width) : i64(u64(v) & ones(width));
      return finish(u64(v), bits);
    }
    case CONVERT_OFFSET_I4: return finish(bit_cast<u32>(float(signed_field(a, 0, 4)) / 16), 32);
    case FREXP_EXPONENT: {
      FloatBits f(type);
      int e = 0;
      if (!f.is_nan(a) && !f.is_infinite(a)) std::frexp(number(a, type), &e);
      return finish(u64(i64(e)), d.bits);
    }
    case FREXP_MANTISSA: {
      FloatBits f(type);
      int e;
      if (f.is_nan(a) || f.is_infinite(a)) return finish(a, bits);
      return finish(encode_float(std::frexp(number(a, type), &e), {type}), bits);
    }
    case LDEXP: {
      int by = type == Scalar::F16 ? int(signed_field(b, 0, 16)) : int(std::clamp(i32(b), -5000, 5000));
      double v = std::ldexp(number(a, type), by);
      return finish(type == Scalar::F16 ? half_bits(v, c.mode->round_64) : encode_float(v, {type}), bits);
    }
    case CONVERT_NORMALIZED: return finish(normalized(number(a, type), d.type == Scalar::I16), 16);
    case CONVERT_PACK:
      if (name == "v_cvt_pk_u8_f32") {
        int at = 8 * int(b & 3);
        u64 byte = float_to_integer(std::nearbyint(number(a, Scalar::F32)), 8, false);
        return finish((c.s[2] & ~(u64(255) << at)) | byte << at, 32);
      }
      return finish(pack_one(name, a) | pack_one(name, b) << 16, 32);
    case SATURATE_PACK:
      return finish(saturate(signed_field(a, 0, 16), 8, false) | saturate(signed_field(a, 16, 16), 8, false) << 8, 16);
    case PACK: return finish((a & ones(16)) | b << 16, 32);
    case BIT_FIELD_SIGNED: {
      int at = int(b & 31), width = int(c.s[2] & 31);
      i64 v = i64(i32(a)) >> at;
      return finish(width ? u64(signed_field(u64(v), 0, width)) : 0, 32);
    }
    case PERMUTE_BYTES: return finish(permute_bytes(a, b, c.s[2]), 32);
    case MINIMUM_NUMBER_3:
    case MAXIMUM_NUMBER_3: {
      bool smaller = r.function == MINIMUM_NUMBER_3;
      return finish(minnum_bits(minnum_bits(a, b, type, smaller), c.s[2], type, smaller), bits);
    }
    case MEDIAN_NUMBER_3: {
      FloatBits f(type);
      u64 x = c.s[2];
      if (f.is_nan(a) || f.is_nan(b) || f.is_nan(x))
        return finish(minnum_bits(minnum_bits(a, b, type, true), x, type, true), bits);
      u64 low = minnum_bits(a, b, type, true), high = minnum_bits(a, b, type, false);
      return finish(minnum_bits(minnum_bits(high, x, type, true), low, type, false), bits);
    }
    case MAXIMUM_THEN_MINIMUM: return finish(minnum_bits(minnum_bits(a, b, type, false), c.s[2], type, true), bits);
    case MINIMUM_THEN_MAXIMUM: return finish(minnum_bits(minnum_bits(a, b, type, true), c.s[2], type, false), bits);
    case DIVIDE_SCALE: return divide_scale(c, type), true;
    case DIVIDE_FMA_SCALED: {
      bool wide = type == Scalar::F64;
      FloatBits f(type);
      int by = !c.flag ? 0 : (f.exponent(c.s[2]) > (wide ? 1023 : 127) ? 1 : -1) * (wide ? 128 : 64);
      double x = number(a, type), y = number(b, type), z = number(c.s[2], type);
      if (wide) return finish(encode_float(std::ldexp(std::fma(x, y, z), by), F64), 64);
      // one rounding: the sum in twice the precision, made odd, then scaled
      double exact = x * y, sum = exact + z, error = (exact - (sum - (sum - exact))) + (z - (sum - exact));
      if (error != 0 && std::isfinite(sum)) {
        u64 raw = bit_cast<u64>(sum);
        if (!(raw & 1)) sum = bit_cast<double>((error > 0) == (sum > 0) ? raw | 1 : raw - 1);
      }
      return finish(encode_float(std::ldexp(sum, by), F32), 32);
    }
    case DIVIDE_FIXUP: return finish(divide_fixup(c, type), bits);
    case MULTIPLY_ADD_I64: {
      __int128 v = __int128(i64(i32(a)) * i64(i32(b))) + i64(c.s[2]);
      out = u64(v);
      c.out = v != __int128(i64(v));
      return true;
    }
    case DOT: return dot(c), c.out = false, true;
    case FMA_MIX_HIGH: {
      double v = double(bit_cast<float>(u32(a))) * bit_cast<float>(u32(b)) + bit_cast<float>(u32(c.s[2]));
      return finish(half_bits(float(v), c.mode->round_64), 16);
    }
    case CLASSIFY: c.out = classify(a, type) & b; return true;
    default: return false;
  }
}

}  // namespace ingot::isa::emu
