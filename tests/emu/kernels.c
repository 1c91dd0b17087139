// SPDX-License-Identifier: MIT
// Kernels for the emulator's test, which clang compiles for gfx1100 at every optimisation level and for the host. Work-items of a
// group are fibers on the host: a barrier is a switch to the next one, a value of another lane is exchanged through memory. A kernel
// gets 1024 words to write, 1024 words of random bits, and how many work-items there are.
typedef unsigned char u8;
typedef signed char i8;
typedef unsigned short u16;
typedef short i16;
typedef unsigned u32;
typedef int i32;
typedef unsigned long long u64;
typedef long long i64;
typedef float f32;
typedef double f64;
typedef _Float16 f16;
typedef _Float16 f16x2 __attribute__((ext_vector_type(2)));
typedef i16 i16x2 __attribute__((ext_vector_type(2)));
typedef f32 f32x4 __attribute__((ext_vector_type(4)));

#ifdef __AMDGCN__
#define GLOBAL __attribute__((address_space(1)))
#define LOCAL static __attribute__((address_space(3), loader_uninitialized))
#define CONSTANT static const __attribute__((address_space(4)))
#define LDS_POINTER __attribute__((address_space(3)))
#define KERNEL(name) __attribute__((amdgpu_kernel)) void name(GLOBAL u32* out, GLOBAL const u32* in, u32 n)
#define ITEM __builtin_amdgcn_workitem_id_x()
#define GROUP __builtin_amdgcn_workgroup_id_x()
#define LANE __builtin_amdgcn_mbcnt_lo(~0u, 0)
#define BARRIER                                        \
  do {                                                 \
    __builtin_amdgcn_fence(__ATOMIC_RELEASE, "workgroup"); \
    __builtin_amdgcn_s_barrier();                      \
    __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "workgroup"); \
  } while (0)
#define SHUFFLE(v, lane) ((u32)__builtin_amdgcn_ds_bpermute((int)(lane) * 4, (int)(v)))
#define BALLOT(c) __builtin_amdgcn_ballot_w32(c)
#define FIRST(v) ((u32)__builtin_amdgcn_readfirstlane((int)(v)))
#define READ_LANE(v, lane) ((u32)__builtin_amdgcn_readlane((int)(v), lane))
#else
#define GLOBAL
#define LOCAL static
#define CONSTANT static const
#define LDS_POINTER
#define KERNEL(name) void name(u32* out, const u32* in, u32 n)
u32 host_item, host_group, host_slot[64];
void (*host_barrier)(void);
#define ITEM host_item
#define GROUP host_group
#define LANE (host_item & 31)
#define BARRIER host_barrier()
static u32 exchange(u32 v, u32 lane) {
  host_slot[host_item] = v;
  host_barrier();
  u32 r = host_slot[(host_item & ~31u) + (lane & 31)];
  host_barrier();
  return r;
}
static u32 ballot(_Bool c) {
  host_slot[host_item] = c;
  host_barrier();
  u32 r = 0;
  for (u32 i = 0; i < 32; i++) r |= host_slot[(host_item & ~31u) + i] << i;
  host_barrier();
  return r;
}
#define SHUFFLE exchange
#define READ_LANE exchange
#define BALLOT ballot
#define FIRST(v) exchange(v, 0)
#endif
#define AT (GROUP * 64 + ITEM)
#define NOINLINE static __attribute__((noinline))

static u32 bits_of(f32 x) { return x != x ? 0x7fc00000u : __builtin_bit_cast(u32, x); }
static u64 bits_of64(f64 x) { return x != x ? 0x7ff8000000000000ull : __builtin_bit_cast(u64, x); }
static f32 unit(u32 x) { return (f32)(x >> 8) * 0x1p-24f; }                                // [0, 1)
static f32 any_float(u32 x) { return __builtin_bit_cast(f32, x % 3 ? x : x & 0x80ffffffu); }  // denormals too
static f64 any_double(u32 x, u32 y) { return __builtin_bit_cast(f64, (u64)x << 32 | y); }

// ---- integers
#define INTEGERS(T, name)                                                                    \
  KERNEL(arithmetic_##name) {                                                                \
    u32 i = AT;                                                                              \
    T a = (T)(in[i] | (u64)in[i + 300] << 32), b = (T)(in[i + 100] | (u64)in[i + 500] << 32); \
    T r = (T)(a * b + (a ^ b) - (T)(a & (T)~b));                                             \
    r = (T)(r + (T)(a << (b & 7)) + (T)(b >> (a & 7)));                                      \
    if (a < b) r = (T)(r * 3);                                                               \
    r = (T)(r ^ (a > 5 ? a : b));                                                            \
    out[i] = (u32)r, out[i + 192] = (u32)((u64)r >> 32);                                     \
  }                                                                                          \
  KERNEL(divide_##name) {                                                                    \
    u32 i = AT;                                                                              \
    T a = (T)(in[i] | (u64)in[i + 300] << 32), b = (T)((in[i + 100] >> (in[i] & 31)) | 1);   \
    if (b == (T)-1) b = 7;                                                                   \
    T q = (T)(a / b), m = (T)(a % b);                                                        \
    out[i] = (u32)q, out[i + 192] = (u32)((u64)q >> 32), out[i + 384] = (u32)m;              \
  }                                                                                          \
  KERNEL(minmax_##name) {                                                                    \
    T lo = (T)in[AT], hi = lo;                                                               \
    for (u32 k = 0; k < 9; k++) {                                                            \
      T v = (T)(in[(AT * 7 + k * 13) & 1023] | (u64)in[(AT + k) & 1023] << 32);              \
      lo = v < lo ? v : lo, hi = v > hi ? v : hi;                                            \
    }                                                                                        \
    out[AT] = (u32)lo, out[AT + 192] = (u32)hi, out[AT + 384] = (u32)((u64)(lo ^ hi) >> 20); \
  }
INTEGERS(u8, u8)
INTEGERS(i8, i8)
INTEGERS(u16, u16)
INTEGERS(i16, i16)
INTEGERS(u32, u32)
INTEGERS(i32, i32)
INTEGERS(u64, u64)
INTEGERS(i64, i64)

KERNEL(bits) {
  u32 i = AT, x = in[i], y = in[i + 64];
  u64 w = (u64)x << 32 | y;
  out[i] = (u32)__builtin_popcount(x) + (u32)__builtin_popcountll(w) * 64;
  out[i + 192] = (x ? (u32)__builtin_clz(x) : 32) + (y ? (u32)__builtin_ctz(y) : 32) * 64 + (w ? (u32)__builtin_clzll(w) : 64) * 4096;
  out[i + 384] = __builtin_bitreverse32(x) ^ __builtin_bswap32(y);
  out[i + 576] = (u32)(__builtin_bitreverse64(w) >> 16) ^ (x << (y & 31) | x >> (-y & 31)) ^ (u32)(w >> (x & 63));
}
KERNEL(fields) {
  u32 i = AT, x = in[i], y = in[i + 192];
  struct {
    u32 a : 5, b : 11, c : 16;
  } f = {x & 31, x >> 7 & 2047, y & 65535};
  i32 s = (i32)(x << 9) >> 20, t = (i32)(y << 3) >> 27;
  out[i] = f.a * f.b + f.c, out[i + 192] = (u32)(s * t), out[i + 384] = (x & 0xff00ff) | (y & ~0xff00ffu);
}
KERNEL(carries) {
  u32 i = AT;
  unsigned __int128 a = (u64)in[i] << 32 | in[i + 1], b = (u64)in[i + 2] << 32 | in[i + 3];
  unsigned __int128 p = a * b + (a << 50) - (b << 3);
  for (int k = 0; k < 4; k++) out[i + 192 * (u32)k] = (u32)(p >> 32 * k);
}
KERNEL(overflow) {
  u32 i = AT;
  i32 r;
  u32 v;
  u64 w;
  u32 f = (u32)__builtin_sadd_overflow((i32)in[i], (i32)in[i + 9], &r);
  out[i] = (u32)r;
  f |= (u32)__builtin_usub_overflow(in[i], in[i + 17], &v) << 1;
  out[i + 192] = v;
  f |= (u32)__builtin_umulll_overflow(in[i], (u64)in[i + 3] << 11, &w) << 2;
  out[i + 384] = (u32)w ^ f, out[i + 576] = f;
}
KERNEL(saturating) {
  u32 i = AT;
  out[i] = (u32)__builtin_elementwise_add_sat((i32)in[i], (i32)in[i + 1]);
  out[i + 192] = __builtin_elementwise_sub_sat(in[i], in[i + 1]);
  out[i + 384] = (u32)(u16)__builtin_elementwise_add_sat((i16)in[i], (i16)in[i + 1]);
  out[i + 576] = (u32)(u16)__builtin_elementwise_sub_sat((u16)in[i], (u16)in[i + 1]);
}
KERNEL(hash) {
  u32 h = 2166136261u;
  for (u32 k = 0; k < 16; k++) {
    h = (h ^ in[(AT + k * 31) & 1023]) * 16777619u;
    h = h << 13 | h >> 19;
  }
  out[AT] = h;
}
KERNEL(crc) {
  u32 c = ~0u;
  for (u32 k = 0; k < 4; k++) {
    c ^= in[AT * 4 + k];
    for (int b = 0; b < 32; b++) c = c >> 1 ^ (0xedb88320u & -(c & 1));
  }
  out[AT] = ~c;
}
KERNEL(collatz) {
  u64 x = (in[AT] & 0xffff) + 1;
  u32 steps = 0;
  while (x != 1) x = x & 1 ? 3 * x + 1 : x / 2, steps++;
  out[AT] = steps;
}
KERNEL(gcd) {
  u32 a = in[AT] >> 8, b = in[AT + 64] >> 8;
  while (b) {
    u32 t = a % b;
    a = b, b = t;
  }
  out[AT] = a;
}
KERNEL(square_root) {
  u64 v = (u64)in[AT] << 20, r = 0;
  for (u64 bit = (u64)1 << 52; bit; bit >>= 2) {
    if (v >= r + bit) {
      v -= r + bit;
      r = (r >> 1) + bit;
    } else {
      r >>= 1;
    }
  }
  out[AT] = (u32)r;
}
KERNEL(packed_integers) {
  i16x2 a = __builtin_bit_cast(i16x2, in[AT]), b = __builtin_bit_cast(i16x2, in[AT + 5]);
  i16x2 r = a * b + (a - b), s = a << (b & (i16)15), t = a > b ? a : b;
  out[AT] = __builtin_bit_cast(u32, r), out[AT + 192] = __builtin_bit_cast(u32, s);
  out[AT + 384] = __builtin_bit_cast(u32, t), out[AT + 576] = __builtin_bit_cast(u32, (i16x2)(a.yx + b.xx));
}

// ---- floats
KERNEL(float_arithmetic) {
  f32 a = any_float(in[AT]), b = any_float(in[AT + 70]), c = any_float(in[AT + 140]);
  out[AT] = bits_of(a + b), out[AT + 192] = bits_of(a * b), out[AT + 384] = bits_of(__builtin_fmaf(a, b, c)), out[AT + 576] = bits_of(a - c);
}
KERNEL(float_division) {
  f32 a = any_float(in[AT]), b = any_float(in[AT + 70]);
  out[AT] = bits_of(a / b), out[AT + 192] = bits_of(unit(in[AT]) / (unit(in[AT + 1]) + 0x1p-9f)), out[AT + 384] = bits_of(1.0f / a);
}
KERNEL(float_root) {
  f32 a = any_float(in[AT] & 0x7fffffffu);
  out[AT] = bits_of(__builtin_sqrtf(a)), out[AT + 192] = bits_of(__builtin_sqrtf(unit(in[AT])));
}
KERNEL(float_rounding) {
  f32 a = (unit(in[AT]) - 0.5f) * (f32)(1 << (in[AT] & 24)), b = any_float(in[AT + 3]);
  out[AT] = bits_of(__builtin_floorf(a)) ^ bits_of(__builtin_ceilf(b)), out[AT + 192] = bits_of(__builtin_truncf(a));
  out[AT + 384] = bits_of(__builtin_rintf(a)) ^ bits_of(__builtin_truncf(b)), out[AT + 576] = bits_of(__builtin_roundf(a));
}
KERNEL(float_compare) {
  f32 a = any_float(in[AT]), b = in[AT] & 8 ? a : any_float(in[AT + 50]);
  if ((in[AT] & 255) == 7) b = __builtin_nanf("");
  out[AT] = (u32)(a < b) | (u32)(a <= b) << 1 | (u32)(a > b) << 2 | (u32)(a >= b) << 3 | (u32)(a == b) << 4 | (u32)(a != b) << 5 |
            (u32)__builtin_isunordered(a, b) << 6 | (u32)!(a < b) << 7 | (u32)__builtin_isgreater(a, b) << 8;
  out[AT + 192] = bits_of(a < b ? a : b), out[AT + 384] = bits_of(__builtin_fabsf(a) - __builtin_copysignf(1.0f, b));
}
KERNEL(float_minmax) {
  f32 a = unit(in[AT]) - 0.5f, b = unit(in[AT + 7]) - 0.5f, c = unit(in[AT + 9]) - 0.5f;
  out[AT] = bits_of(__builtin_fminf(a, b)), out[AT + 192] = bits_of(__builtin_fmaxf(a, __builtin_fminf(b, c)));
  f32 clamped = a * 4 < 0 ? 0 : a * 4 > 1 ? 1 : a * 4;
  out[AT + 384] = bits_of(__builtin_fmaxf(__builtin_fmaxf(a, b), c)), out[AT + 576] = bits_of(clamped);
}
KERNEL(float_scale) {
  int e;
  f32 a = any_float(in[AT] & 0xbfffffffu), m = __builtin_frexpf(a, &e);
  out[AT] = bits_of(m), out[AT + 192] = (u32)e, out[AT + 384] = bits_of(__builtin_ldexpf(a, (int)(in[AT + 1] & 127) - 64));
}
KERNEL(classes) {
  f32 a = any_float(in[AT] | (in[AT] & 7 ? 0 : 0x7f800000u));
  out[AT] = (u32)__builtin_isnan(a) | (u32)__builtin_isinf(a) << 1 | (u32)__builtin_isnormal(a) << 2 | (u32)__builtin_isfinite(a) << 3 |
            (u32)__builtin_signbit(a) << 4;
}
KERNEL(polynomial) {
  f32 x = unit(in[AT]) * 2 - 1, y = 0;
  CONSTANT f32 c[8] = {1, -0.5f, 0.25f, 3, -2, 0.125f, 7, -1};
  for (int k = 0; k < 8; k++) y = y * x + c[k];
  out[AT] = bits_of(y);
}
KERNEL(dot_product) {
  f32 s = 0;
  for (u32 k = 0; k < 50; k++) s += unit(in[(AT + k) & 1023]) * unit(in[(k * 3) & 1023]);
  out[AT] = bits_of(s);
}
KERNEL(vectors) {
  GLOBAL const f32x4* v = (GLOBAL const f32x4*)in;
  f32x4 a = {unit(in[AT]), unit(in[AT + 1]), unit(in[AT + 2]), unit(in[AT + 3])}, b = a.wzyx * 3.0f + a;
  *((GLOBAL f32x4*)out + AT) = b;
  (void)v;
}
KERNEL(double_arithmetic) {
  f64 a = any_double(in[AT], in[AT + 1]), b = any_double(in[AT + 2], in[AT + 3]), c = any_double(in[AT + 4], in[AT + 5]);
  u64 r[4] = {bits_of64(a + b), bits_of64(a * b), bits_of64(__builtin_fma(a, b, c)), bits_of64(a - c)};
  for (u32 k = 0; k < 4; k++) out[AT + k * 192] = (u32)(r[k] ^ r[k] >> 29);
}
KERNEL(double_division) {
  f64 a = unit(in[AT]) * 100.0, b = unit(in[AT + 2]) + 0x1p-7;
  u64 q = bits_of64(a / b), r = bits_of64(__builtin_sqrt(a)), s = bits_of64(any_double(in[AT] >> 1, in[AT + 1]) / any_double(in[AT + 2], 1));
  out[AT] = (u32)q, out[AT + 192] = (u32)(q >> 32), out[AT + 384] = (u32)(r ^ r >> 31), out[AT + 576] = (u32)(s ^ s >> 31);
}
KERNEL(double_rounding) {
  f64 a = (unit(in[AT]) - 0.5) * 1000;
  out[AT] = (u32)(bits_of64(__builtin_floor(a)) >> 20), out[AT + 192] = (u32)(bits_of64(__builtin_trunc(a)) >> 20);
  out[AT + 384] = (u32)(bits_of64(__builtin_rint(a)) >> 20), out[AT + 576] = (u32)(a < 3) | (u32)(a >= 100) << 1;
}
KERNEL(half_arithmetic) {
  f16 a = (f16)(unit(in[AT]) * 8 - 4), b = (f16)(unit(in[AT + 60]) * 8 - 4), c = (f16)unit(in[AT + 61]);
  f16 r = a * b + c, s = a - b, t = (f16)(a < b ? a : b);
  out[AT] = (u32)__builtin_bit_cast(u16, r) | (u32)__builtin_bit_cast(u16, s) << 16;
  out[AT + 192] = (u32)__builtin_bit_cast(u16, t) | (u32)__builtin_bit_cast(u16, (f16)(a / (c + (f16)1))) << 16;
}
KERNEL(half_packed) {
  f16x2 a = {(f16)unit(in[AT]), (f16)unit(in[AT + 1])}, b = {(f16)unit(in[AT + 2]), (f16)unit(in[AT + 3])};
  f16x2 s = a;
  for (int k = 0; k < 5; k++) s = s * b + a.yx, b = b - s * (f16)0.25f;
  out[AT] = __builtin_bit_cast(u32, s), out[AT + 192] = __builtin_bit_cast(u32, b);
}
KERNEL(newton) {
  f32 a = unit(in[AT]) + 1, x = a;
  for (int k = 0; k < 6; k++) x = 0.5f * (x + a / x);
  out[AT] = bits_of(x);
}

// ---- conversions
KERNEL(float_to_integer) {
  f32 a = (unit(in[AT]) - 0.5f) * 0x1p30f, b = unit(in[AT]) * 0x1p31f, s = (unit(in[AT + 1]) - 0.5f) * 200;
  out[AT] = (u32)(i32)a, out[AT + 192] = (u32)b, out[AT + 384] = (u32)(i8)s ^ (u32)(i16)(s * 100) << 8, out[AT + 576] = (u32)((i64)(a * 0x1p20f) >> 15);
}
KERNEL(integer_to_float) {
  u32 x = in[AT], y = in[AT + 1];
  out[AT] = bits_of((f32)x) ^ bits_of((f32)(i32)y), out[AT + 192] = bits_of((f32)((u64)x << 32 | y));
  out[AT + 384] = bits_of((f32)(i64)((u64)x << 32 | y)), out[AT + 576] = bits_of((f32)(u8)(x >> 8) + (f32)(u8)(x >> 24));
}
KERNEL(widths) {
  f64 a = any_double((in[AT] & 0x8fffffffu) | 0x30000000u, in[AT + 1]);
  out[AT] = bits_of((f32)a), out[AT + 192] = (u32)(bits_of64((f64)any_float(in[AT])) >> 22);
  out[AT + 384] = (u32)(bits_of64((f64)(i32)in[AT]) >> 11) + (u32)(i32)(unit(in[AT]) * 1e9), out[AT + 576] = (u32)(bits_of64((f64)in[AT + 1]) >> 11);
}
KERNEL(half_conversion) {
  f32 a = any_float((in[AT] & 0x87ffffffu) | 0x38000000u), b = unit(in[AT]) * 0x1p-14f;
  f16 h = (f16)a, g = (f16)b;
  out[AT] = (u32)__builtin_bit_cast(u16, h) | (u32)__builtin_bit_cast(u16, g) << 16, out[AT + 192] = bits_of((f32)h);
  out[AT + 384] = (u32)(i32)(f32)(h * (f16)0.125f), out[AT + 576] = (u32)__builtin_bit_cast(u16, (f16)(i16)(in[AT] >> 22));
}

// ---- control flow
KERNEL(nested) {
  u32 x = in[AT], r = 0;
  if (x & 1) {
    if (x & 2)
      for (u32 k = 0; k < (x >> 4 & 7); k++) r += k * x;
    else if (x & 4)
      r = x / 3;
  } else {
    for (u32 k = 0; k < 10; k++) {
      if ((x >> k & 3) == 3) break;
      if (x >> k & 1) continue;
      r = r * 5 + k;
    }
  }
  out[AT] = r;
}
KERNEL(cases) {
  u32 x = in[AT], r;
  switch (x & 15) {
    case 0: r = x + 1; break;
    case 1: r = x * 3; break;
    case 2: r = x ^ 0x55; break;
    case 3: r = x >> 3; break;
    case 4: r = x << 5; break;
    case 5: r = ~x; break;
    case 6:
    case 7: r = x / 7; break;
    case 9: r = x % 11; break;
    case 12: r = (u32)__builtin_popcount(x); break;
    default: r = 42;
  }
  out[AT] = r;
}
KERNEL(uniform_loop) {
  u32 s = 0;
  for (u32 k = 0; k < n / 8; k++) s += in[k] * (k + ITEM);
  out[AT] = s;
}
KERNEL(early_exit) {
  if (in[AT] & 3) return;
  out[AT] = in[AT] + 5;
}
KERNEL(search) {
  u32 low = 0, high = 1023, want = AT * 5;
  while (low < high) {
    u32 mid = (low + high) / 2;
    if (mid * 3 + (mid & 7) < want)
      low = mid + 1;
    else
      high = mid;
  }
  out[AT] = low;
}
KERNEL(sort_private) {
  u32 v[12];
  for (u32 k = 0; k < 12; k++) v[k] = in[(AT * 12 + k) & 1023];
  for (u32 i = 1; i < 12; i++)
    for (u32 k = i; k > 0 && v[k - 1] > v[k]; k--) {
      u32 t = v[k];
      v[k] = v[k - 1], v[k - 1] = t;
    }
  out[AT] = v[0] ^ v[11], out[AT + 192] = v[5], out[AT + 384] = v[AT % 12];
}
KERNEL(private_bytes) {
  u8 v[40];
  for (u32 k = 0; k < 40; k++) v[k] = (u8)(in[AT] >> (k & 24)) ^ (u8)k;
  u32 s = 0, at = in[AT + 1];
  for (u32 k = 0; k < 20; k++) at = (at * 5 + 1) % 40, s = s * 31 + v[at], v[at] = (u8)s;
  out[AT] = s;
}
NOINLINE u32 mix(u32 a, u32 b) { return (a ^ b >> 3) * 2654435761u + b; }
NOINLINE f32 curve(f32 x, i32 depth) { return depth > 2 ? x : x * x - (f32)depth + curve(x * 0.5f, depth + 1); }
KERNEL(calls) {
  u32 x = in[AT];
  for (u32 k = 0; k < 5; k++) x = mix(x, in[(AT + k) & 1023]);
  if (x & 1) x = mix(x, 77);
  out[AT] = x;
}
KERNEL(deep_calls) { out[AT] = bits_of(curve(unit(in[AT]), 0)); }
NOINLINE void fill(u32* to, u32 count, u32 seed) {
  for (u32 k = 0; k < count; k++) to[k] = seed = seed * 1664525u + 1013904223u;
}
KERNEL(pointers) {
  u32 v[10];
  fill(v, 10, in[AT]);
  fill(v + 3, 4, v[2]);
  u32 s = 0;
  for (u32 k = 0; k < 10; k++) s = s * 3 + v[k];
  out[AT] = s;
}
KERNEL(structures) {
  struct {
    u32 a;
    u16 b[3];
    u8 c;
    f64 d;
  } s[4];
  for (u32 k = 0; k < 4; k++) {
    s[k].a = in[AT + k], s[k].c = (u8)(in[AT] >> 8 * k), s[k].d = (f64)in[AT + 9 + k];
    for (u32 j = 0; j < 3; j++) s[k].b[j] = (u16)(in[AT + j] * (k + 1));
  }
  u32 k = in[AT] & 3;
  out[AT] = s[k].a + s[k].b[in[AT + 1] % 3] + s[3 - k].c, out[AT + 192] = (u32)s[k].d;
}
KERNEL(table) {
  CONSTANT u32 primes[16] = {2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53};
  out[AT] = primes[in[AT] & 15] * primes[in[AT] >> 28];
}
KERNEL(bytes) {
  GLOBAL const u8* b = (GLOBAL const u8*)in;
  GLOBAL const i16* h = (GLOBAL const i16*)in;
  GLOBAL u8* o = (GLOBAL u8*)out;
  GLOBAL u16* oh = (GLOBAL u16*)(out + 192);
  o[AT] = (u8)(b[AT * 3] + b[AT]), oh[AT] = (u16)(h[AT * 2 + 1] * 3 - h[AT]);
  out[AT + 384] = (u32)(i8)b[AT + 5] + (u32)h[AT];
}
KERNEL(wide_loads) {
  GLOBAL const u64* w = (GLOBAL const u64*)in;
  u64 s = w[AT] * 3 + w[AT + 64], t = w[AT * 2 & 511] ^ w[AT * 2 + 1 & 511];
  ((GLOBAL u64*)out)[AT] = s, ((GLOBAL u64*)out)[AT + 192] = t;
}
KERNEL(read_after_write) {
  out[AT] = in[AT];
  for (u32 k = 1; k < 6; k++) out[AT] = out[AT] * 3 + in[(AT + k) & 1023];
}

// ---- LDS and barriers
KERNEL(reverse) {
  LOCAL u32 v[64];
  v[ITEM] = in[AT];
  BARRIER;
  out[AT] = v[63 - ITEM] + v[ITEM ^ 33];
}
KERNEL(group_sum) {
  LOCAL u32 v[64];
  v[ITEM] = in[AT];
  BARRIER;
  for (u32 s = 32; s; s >>= 1) {
    if (ITEM < s) v[ITEM] += v[ITEM + s];
    BARRIER;
  }
  if (ITEM == 0) out[GROUP] = v[0];
}
KERNEL(prefix_sum) {
  LOCAL f32 a[64], b[64];
  a[ITEM] = unit(in[AT]);
  BARRIER;
  for (u32 s = 1; s < 64; s *= 2) {
    b[ITEM] = ITEM >= s ? a[ITEM] + a[ITEM - s] : a[ITEM];
    BARRIER;
    a[ITEM] = b[ITEM];
    BARRIER;
  }
  out[AT] = bits_of(a[ITEM]);
}
KERNEL(bitonic_sort) {
  LOCAL u32 v[64];
  v[ITEM] = in[AT];
  BARRIER;
  for (u32 k = 2; k <= 64; k *= 2)
    for (u32 j = k / 2; j; j /= 2) {
      u32 other = ITEM ^ j, a = v[ITEM], b = v[other];
      _Bool up = (ITEM & k) == 0, keep_small = (ITEM < other) == up;
      BARRIER;
      v[ITEM] = keep_small ? (a < b ? a : b) : (a < b ? b : a);
      BARRIER;
    }
  out[AT] = v[ITEM];
}
KERNEL(matrix_product) {
  LOCAL f32 a[8][8], b[8][9];
  u32 r = ITEM / 8, c = ITEM % 8;
  f32 s = 0;
  for (u32 t = 0; t < 4; t++) {
    a[r][c] = unit(in[(r * 32 + t * 8 + c) & 1023]), b[r][c] = unit(in[((t * 8 + r) * 8 + c + GROUP) & 1023]);
    BARRIER;
    for (u32 k = 0; k < 8; k++) s += a[r][k] * b[k][c];
    BARRIER;
  }
  out[AT] = bits_of(s);
}
KERNEL(transpose) {
  LOCAL u16 v[8][8];
  LOCAL u64 w[64];
  v[ITEM / 8][ITEM % 8] = (u16)in[AT], w[ITEM] = (u64)in[AT] * in[AT + 1];
  BARRIER;
  out[AT] = v[ITEM % 8][ITEM / 8], out[AT + 192] = (u32)(w[63 - ITEM] >> 17);
}
KERNEL(histogram) {
  LOCAL u32 bins[16];
  if (ITEM < 16) bins[ITEM] = 0;
  BARRIER;
  __atomic_fetch_add(&bins[in[AT] & 15], 1 + (in[AT] >> 30), __ATOMIC_RELAXED);
  BARRIER;
  if (ITEM < 16) out[GROUP * 16 + ITEM] = bins[ITEM];
}
KERNEL(group_extremes) {
  LOCAL u32 low, high;
  LOCAL i32 sum;
  if (ITEM == 0) low = ~0u, high = 0, sum = 0;
  BARRIER;
  __atomic_fetch_min(&low, in[AT], __ATOMIC_RELAXED);
  __atomic_fetch_max(&high, in[AT], __ATOMIC_RELAXED);
  __atomic_fetch_sub(&sum, (i32)in[AT], __ATOMIC_RELAXED);
  BARRIER;
  if (ITEM == 5) out[GROUP] = low, out[GROUP + 8] = high, out[GROUP + 16] = (u32)sum;
}
NOINLINE u32 sum_of(const LDS_POINTER u32* v, u32 count) {
  u32 s = 0;
  for (u32 k = 0; k < count; k++) s += v[k];
  return s;
}
KERNEL(lds_pointer) {
  LOCAL u32 v[80];
  v[ITEM] = in[AT];
  if (ITEM < 16) v[64 + ITEM] = ITEM;
  BARRIER;
  out[AT] = sum_of(v + (ITEM & 15), 20);
}

// ---- atomics on memory
KERNEL(counters) {
  __atomic_fetch_add(&out[in[AT] & 7], in[AT] >> 9, __ATOMIC_RELAXED);
  __atomic_fetch_or(&out[8 + (in[AT] & 3)], 1u << (in[AT] >> 27), __ATOMIC_RELAXED);
  __atomic_fetch_xor(&out[16], in[AT], __ATOMIC_RELAXED);
  __atomic_fetch_max((GLOBAL i32*)&out[17], (i32)in[AT], __ATOMIC_RELAXED);
  __atomic_fetch_add((GLOBAL u64*)&out[20], (u64)in[AT] * in[AT + 1], __ATOMIC_RELAXED);
}
KERNEL(tickets) {
  u32 t = __atomic_fetch_add(&out[1000], 1, __ATOMIC_RELAXED);
  out[t] = 1;
}
KERNEL(compare_and_swap) {
  GLOBAL u32* p = &out[in[AT] & 3];
  u32 old = *p, next;
  do {
    next = old > in[AT] ? old : in[AT];
  } while (!__atomic_compare_exchange_n(p, &old, next, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
}
KERNEL(exchange_words) {
  u32 got = __atomic_exchange_n(&out[AT], in[AT], __ATOMIC_RELAXED);
  out[AT + 192] = got + __atomic_load_n(&out[AT], __ATOMIC_RELAXED);
  __atomic_store_n(&out[AT + 384], AT, __ATOMIC_RELAXED);
}
KERNEL(last_group) {  // whoever comes last adds up what all wrote
  LOCAL u32 last;
  out[AT] = in[AT] * 2;
  BARRIER;
  if (ITEM == 0) last = __atomic_fetch_add(&out[1000], 1, __ATOMIC_ACQ_REL) == n / 64 - 1;
  BARRIER;
  if (!last || ITEM >= 16) return;
  u32 s = 0;
  for (u32 k = ITEM; k < n; k += 16) s += out[k] * (k + 1);
  out[300 + ITEM] = s;
}

// ---- other lanes
KERNEL(shuffles) {
  u32 v = in[AT];
  out[AT] = SHUFFLE(v, LANE ^ 5), out[AT + 192] = SHUFFLE(v, (LANE + 7) & 31), out[AT + 384] = FIRST(v) + READ_LANE(v, 13);
}
KERNEL(votes) {
  u32 b = BALLOT(in[AT] & 1);
  out[AT] = b, out[AT + 192] = (u32)__builtin_popcount(b & ((1u << LANE) - 1));
}
KERNEL(wave_sum) {
  u32 v = in[AT];
  for (u32 s = 16; s; s >>= 1) v += SHUFFLE(v, LANE ^ s);
  out[AT] = v;
}
KERNEL(wave_softmax) {
  f32 x = unit(in[AT]), m = x;
  for (u32 s = 16; s; s >>= 1) m = __builtin_fmaxf(m, __builtin_bit_cast(f32, SHUFFLE(__builtin_bit_cast(u32, m), LANE ^ s)));
  f32 e = (x - m) * (x - m) + 1, t = e;
  for (u32 s = 16; s; s >>= 1) t += __builtin_bit_cast(f32, SHUFFLE(__builtin_bit_cast(u32, t), LANE ^ s));
  out[AT] = bits_of(e / t);
}
KERNEL(dpp) {
  u32 v = in[AT], a, b, c, d;
#ifdef __AMDGCN__
  a = (u32)__builtin_amdgcn_update_dpp(0, (int)v, 0x111, 15, 15, 1);              // row_shr:1, zeros come in
  b = (u32)__builtin_amdgcn_update_dpp((int)v, (int)v, 0x140, 15, 15, 0);         // row_mirror
  c = (u32)__builtin_amdgcn_update_dpp(77, (int)v, 0x104, 15, 5, 0);              // row_shl:4, banks 0 and 2
  d = (u32)__builtin_amdgcn_mov_dpp8(v, 0x688FAC & 0xffffff);
#else
  u32 l = LANE & 15, s[16], g[16];
  for (u32 k = 0; k < 16; k++) s[k] = SHUFFLE(v, (LANE & 16) + k);
  for (u32 k = 0; k < 8; k++) g[k] = s[(l & 8) + k];
  a = l ? s[l - 1] : 0, b = s[15 - l], c = (l / 4 == 0 || l / 4 == 2) && l + 4 < 16 ? s[l + 4] : 77;
  d = g[0x688FACu >> 3 * (l & 7) & 7];
#endif
  out[AT] = a, out[AT + 192] = b, out[AT + 384] = c, out[AT + 576] = d;
}
KERNEL(permlane) {
  u32 v = in[AT], a, b, c;
#ifdef __AMDGCN__
  a = __builtin_amdgcn_permlane16(v, v, 0x76543210u, 0x01234567u, 0, 0);
  b = __builtin_amdgcn_permlanex16(v, v, 0xfedcba98u, 0x76543210u, 0, 0);
  c = (u32)__builtin_amdgcn_ds_swizzle((int)v, 0x041f);
#else
  u32 l = LANE, m = l & 15;
  a = SHUFFLE(v, (l & 16) + (m < 8 ? m : 15 - m));
  b = SHUFFLE(v, ((l & 16) ^ 16) + (m ^ 8));
  c = SHUFFLE(v, l ^ 1);
#endif
  out[AT] = a, out[AT + 192] = b, out[AT + 384] = c;
}
KERNEL(divergent_votes) {
  u32 r = 0;
#ifdef __AMDGCN__
  if (in[AT] & 1) r = BALLOT(in[AT] & 2);
#else
  u32 odd = BALLOT(in[AT] & 1), two = BALLOT(in[AT] & 2);
  if (in[AT] & 1) r = odd & two;
#endif
  out[AT] = r;
}

// ---- matrices: 16x16x16, a wave each
typedef f16 f16x16 __attribute__((ext_vector_type(16)));
typedef f32 f32x8 __attribute__((ext_vector_type(8)));
typedef i32 i32x4 __attribute__((ext_vector_type(4)));
typedef i32 i32x8 __attribute__((ext_vector_type(8)));
#define SMALL(i, k) ((i32)(in[((i) * 16 + (k) + GROUP * 7) & 1023] >> 13 & 15) - 8)
KERNEL(wmma_f16) {
#ifdef __AMDGCN__
  f16x16 a, b;
  f32x8 c;
  u32 l = LANE & 15;
  for (u32 k = 0; k < 16; k++) a[k] = (f16)SMALL(l, k), b[k] = (f16)SMALL(l + 20, k);
  for (u32 r = 0; r < 8; r++) c[r] = (f32)SMALL(r * 2 + LANE / 16, l);
  c = __builtin_amdgcn_wmma_f32_16x16x16_f16_w32(a, b, c);
  c = __builtin_amdgcn_wmma_f32_16x16x16_f16_w32(b, a, c);
  for (u32 r = 0; r < 4; r++) out[AT + r * 192] = bits_of(c[r * 2]) ^ bits_of(c[r * 2 + 1]) << 1;
#else
  for (u32 r = 0; r < 4; r++) {
    u32 v[2], j = LANE & 15;
    for (u32 h = 0; h < 2; h++) {
      u32 i = (r * 2 + h) * 2 + LANE / 16;
      i32 s = SMALL(i, j);
      for (u32 k = 0; k < 16; k++) s += SMALL(i, k) * SMALL(j + 20, k) + SMALL(i + 20, k) * SMALL(j, k);
      v[h] = bits_of((f32)s);
    }
    out[AT + r * 192] = v[0] ^ v[1] << 1;
  }
#endif
}
KERNEL(wmma_i8) {
#ifdef __AMDGCN__
  i32x4 a, b;
  i32x8 c = {};
  u32 l = LANE & 15;
  for (u32 r = 0; r < 4; r++) a[r] = (i32)in[l * 4 + r], b[r] = (i32)in[l * 4 + r + 100];
  c = __builtin_amdgcn_wmma_i32_16x16x16_iu8_w32(1, a, 0, b, c, 0);
  for (u32 r = 0; r < 4; r++) out[AT + r * 192] = (u32)c[r * 2] ^ (u32)c[r * 2 + 1] << 1;
#else
  const i8* a = (const i8*)in;
  const u8* b = (const u8*)(in + 100);
  for (u32 r = 0; r < 4; r++) {
    i32 v[2];
    for (u32 h = 0; h < 2; h++) {
      v[h] = 0;
      for (u32 k = 0; k < 16; k++) v[h] += a[((r * 2 + h) * 2 + LANE / 16) * 16 + k] * b[(LANE & 15) * 16 + k];
    }
    out[AT + r * 192] = (u32)v[0] ^ (u32)v[1] << 1;
  }
#endif
}
KERNEL(byte_dot) {
#ifdef __AMDGCN__
  out[AT] = (u32)__builtin_amdgcn_sudot4(1, (int)in[AT], 0, (int)in[AT + 1], (int)in[AT + 2], 0);
  out[AT + 192] = __builtin_amdgcn_udot4(in[AT], in[AT + 1], in[AT + 2], 0);
#else
  u32 s = in[AT + 2], t = s;
  for (int k = 0; k < 32; k += 8)
    s += (u32)((i8)(in[AT] >> k) * (i32)(u8)(in[AT + 1] >> k)), t += (u32)(u8)(in[AT] >> k) * (u8)(in[AT + 1] >> k);
  out[AT] = s, out[AT + 192] = t;
#endif
}
KERNEL(relative) {  // an array that stays in registers, indexed at run time
  u32 v[8];
  for (u32 k = 0; k < 8; k++) v[k] = in[AT + k * 3];
  u32 s = 0;
  for (u32 k = 0; k < n / 32; k++) s = s * 7 + v[(k * 3 + GROUP) & 7];
  out[AT] = s;
}
