// SPDX-License-Identifier: MIT
// What the tensor programs of rdna.cc compute, in C for clang-19 -O3: the same algorithm with the same work-groups,
// lanes, unrolled copies, accumulators and widths of access that our plan chooses, `restrict` and constant bounds.
// Loops that our plan leaves as loops stay loops, all others are unrolled; nothing else is asked of clang.
// INDEX is the type of indices: what is best depends on the kernel, and each is compared with the best.
// OpenCL C, because clang knows kernels' group sizes there without any header.
#pragma OPENCL EXTENSION cl_khr_fp16 : enable
#define KERNEL(threads) __attribute__((reqd_work_group_size(threads, 1, 1))) kernel void
#define UNROLL _Pragma("clang loop unroll(full)")
#define LOOP _Pragma("clang loop unroll(disable)")
#define group ((INDEX)__builtin_amdgcn_workgroup_id_x())
#define item ((INDEX)__builtin_amdgcn_workitem_id_x())
typedef unsigned u32;
typedef float f2 __attribute__((ext_vector_type(2)));
typedef float f4 __attribute__((ext_vector_type(4)));
typedef float f8 __attribute__((ext_vector_type(8)));
typedef half h4 __attribute__((ext_vector_type(4)));
typedef half h8 __attribute__((ext_vector_type(8)));
typedef half h16 __attribute__((ext_vector_type(16)));
typedef global float* restrict Out;
typedef const global float* restrict In;
typedef const global half* restrict Half;
#define LOAD2(p) (*(const global f2*)(p))
#define LOAD4(p) (*(const global f4*)(p))
#define STORE4(p, v) (*(global f4*)(p) = (v))
#define LOCAL2(p) (*(const local h8*)(p))
#define LOCAL4(p) (*(const local f4*)(p))
#define BARRIER                                       \
  __builtin_amdgcn_fence(__ATOMIC_RELEASE, "workgroup"); \
  __builtin_amdgcn_s_barrier();                       \
  __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "workgroup")

static float bits(u32 u) {
  union {
    u32 u;
    float f;
  } x = {u};
  return x.f;
}
static u32 as_bits(float f) {
  union {
    float f;
    u32 u;
  } x = {f};
  return x.u;
}
// As decomp.cc computes them: exp to 2 ulp with NaN kept, MAX that is NaN if either source is.
static float exponential(float x) {
  x = x < -105.0f ? -105.0f : x;
  x = x > 90.0f ? 90.0f : x;
  float n = __builtin_rintf(x * bits(0x3fb8aa3b));
  float r = __builtin_fmaf(n, bits(0x3102e308), __builtin_fmaf(n, bits(0xbf317218), x));
  float p = __builtin_fmaf(bits(0x3ab50d56), r, bits(0x3c091fe3));
  p = __builtin_fmaf(p, r, bits(0x3d2aac8b));
  p = __builtin_fmaf(p, r, bits(0x3e2aaa45));
  p = __builtin_fmaf(p, r, bits(0x3efffffe));
  p = __builtin_fmaf(r * r, p, r) + 1;
  int i = (int)n, h = i >> 1;
  return p * bits((u32)(h + 127) << 23) * bits((u32)(i - h + 127) << 23);
}
static float maximum(float a, float b) {
  float m = __builtin_fmaxf(a, b);
  return __builtin_isunordered(a, b) ? __builtin_nanf("") : m;
}
static float from_lane(float x, int distance) {
  int i = (int)as_bits(x);
  switch (distance) {
    case 1: i = __builtin_amdgcn_update_dpp(0, i, 0x161, 15, 15, 1); break;
    case 2: i = __builtin_amdgcn_update_dpp(0, i, 0x162, 15, 15, 1); break;
    case 4: i = __builtin_amdgcn_update_dpp(0, i, 0x164, 15, 15, 1); break;
    case 8: i = __builtin_amdgcn_update_dpp(0, i, 0x168, 15, 15, 1); break;
    default: i = (int)__builtin_amdgcn_permlanex16((u32)i, (u32)i, 0x76543210, 0xfedcba98, 0, 0);
  }
  return bits((u32)i);
}
// clang-19 sinks v_permlanex16_b32 under a later `if`, where half of the lanes that it reads are off: HERE keeps it.
#define HERE(x) __asm__ volatile("" : "+v"(x))
static float sum_of_lanes(float x) {
  UNROLL for (int d = 1; d < 32; d *= 2) x += from_lane(x, d);
  HERE(x);
  return x;
}
static float maximum_of_lanes(float x) {
  UNROLL for (int d = 1; d < 32; d *= 2) x = maximum(x, from_lane(x, d));
  HERE(x);
  return x;
}

// ---- elementwise ---------------------------------------------------------------------------------------------------
KERNEL(256) add(Out c, In a, In b) {
  INDEX i = group * 1024 + item * 4;
  STORE4(c + i, LOAD4(a + i) + LOAD4(b + i));
}
KERNEL(256) multiply_add(Out d, In a, In b, In c) {
  INDEX i = group * 1024 + item * 4;
  STORE4(d + i, LOAD4(a + i) * LOAD4(b + i) + LOAD4(c + i));
}
KERNEL(256) scale_bias_relu(Out y, In x, In bias) {
  INDEX i = group * 1024 + item * 4;
  f4 v = LOAD4(x + i) * 3 + LOAD4(bias + item * 4);
  UNROLL for (int k = 0; k < 4; k++) v[k] = v[k] < 0 ? 0 : v[k];
  STORE4(y + i, v);
}
KERNEL(256) leaky_relu(Out y, In x) {
  INDEX i = group * 1024 + item * 4;
  f4 v = LOAD4(x + i);
  UNROLL for (int k = 0; k < 4; k++) v[k] = v[k] < 0 ? v[k] * 0.01f : v[k];
  STORE4(y + i, v);
}
KERNEL(256) exponentials(Out y, In x) {
  INDEX i = group * 1024 + item * 4;
  f4 v = LOAD4(x + i);
  UNROLL for (int k = 0; k < 4; k++) v[k] = exponential(v[k]);
  STORE4(y + i, v);
}
KERNEL(256) half_multiply_add(global half* restrict d, Half a, Half b, Half c) {
#pragma clang fp contract(off)
  INDEX i = group * 2048 + item * 8;
  *(global h8*)(d + i) = *(const global h8*)(a + i) * *(const global h8*)(b + i) + *(const global h8*)(c + i);
}

// ---- reductions: a wave takes four rows, four neighbours a lane, with two accumulators each; or a lane a column ------
#define ROWS(r) UNROLL for (int r = 0; r < 4; r++)
#define ROW_STEPS LOOP for (INDEX k = item * 4; k < 1024; k += 128)
#define ACCUMULATORS(x) {{x, x}, {x, x}, {x, x}, {x, x}}
KERNEL(32) sum_rows(Out y, In x) {
  float s[4][2] = ACCUMULATORS(0);
  ROW_STEPS ROWS(r) {
    f4 v = LOAD4(x + (group * 4 + r) * 1024 + k);
    UNROLL for (int u = 0; u < 4; u++) s[r][u % 2] += v[u];
  }
  f4 all;
  ROWS(r) all[r] = sum_of_lanes(s[r][0] + s[r][1]);
  if (item == 0) STORE4(y + group * 4, all);
}
KERNEL(256) sum_columns(Out y, In x) {
  float s[8] = {0, 0, 0, 0, 0, 0, 0, 0};
  LOOP for (INDEX k = 0; k < 1024; k += 8)
    UNROLL for (INDEX u = 0; u < 8; u++) s[u] += x[(k + u) * 8192 + group * 256 + item];
  UNROLL for (int u = 1; u < 8; u++) s[0] += s[u];
  y[group * 256 + item] = s[0];
}
KERNEL(32) max_rows(Out y, In x) {
  float s[4][2] = ACCUMULATORS(-__builtin_inff());
  ROW_STEPS ROWS(r) {
    f4 v = LOAD4(x + (group * 4 + r) * 1024 + k);
    UNROLL for (int u = 0; u < 4; u++) s[r][u % 2] = maximum(s[r][u % 2], v[u]);
  }
  f4 all;
  ROWS(r) all[r] = maximum_of_lanes(maximum(s[r][0], s[r][1]));
  if (item == 0) STORE4(y + group * 4, all);
}
KERNEL(32) dot_rows(Out y, In a, In b) {
  float s[4][2] = ACCUMULATORS(0);
  ROW_STEPS ROWS(r) {
    f4 v = LOAD4(a + (group * 4 + r) * 1024 + k), w = LOAD4(b + (group * 4 + r) * 1024 + k);
    UNROLL for (int u = 0; u < 4; u++) s[r][u % 2] += v[u] * w[u];
  }
  f4 all;
  ROWS(r) all[r] = sum_of_lanes(s[r][0] + s[r][1]);
  if (item == 0) STORE4(y + group * 4, all);
}
KERNEL(32) max_pool(Out y, In x) {
  float s[16];
  UNROLL for (int r = 0; r < 16; r++) s[r] = -__builtin_inff();
  LOOP for (INDEX k = 0; k < 2; k++)
    UNROLL for (int r = 0; r < 16; r++) {
      f2 v = LOAD2(x + (group * 16 + r) * 128 + k * 64 + item * 2);
      s[r] = maximum(maximum(s[r], v.x), v.y);
    }
  UNROLL for (int r = 0; r < 16; r++) y[(group * 16 + r) * 32 + item] = s[r];
}

// ---- softmax, layer norm -------------------------------------------------------------------------------------------
KERNEL(32) softmax_sums(Out y, In x, In largest) {
  float s[4][2] = ACCUMULATORS(0);
  ROW_STEPS ROWS(r) {
    f4 v = LOAD4(x + (group * 4 + r) * 1024 + k);
    UNROLL for (int u = 0; u < 4; u++) s[r][u % 2] += exponential(v[u] - largest[group * 4 + r]);
  }
  f4 all;
  ROWS(r) all[r] = sum_of_lanes(s[r][0] + s[r][1]);
  if (item == 0) STORE4(y + group * 4, all);
}
KERNEL(256) softmax(Out y, In x, In largest, In sum) {
  INDEX i = group * 1024 + item * 4;
  f4 v = LOAD4(x + i);
  UNROLL for (int k = 0; k < 4; k++) v[k] = exponential(v[k] - largest[group]) / sum[group];
  STORE4(y + i, v);
}
KERNEL(32) layer_norm_deviation(Out y, In x, In mean) {
  float s[4][2] = ACCUMULATORS(0);
  ROW_STEPS ROWS(r) {
    f4 v = LOAD4(x + (group * 4 + r) * 1024 + k) - mean[group * 4 + r];
    UNROLL for (int u = 0; u < 4; u++) s[r][u % 2] += v[u] * v[u];
  }
  f4 all;
  ROWS(r) all[r] = 1 / __builtin_sqrtf(sum_of_lanes(s[r][0] + s[r][1]) * bits(0x3a800000) + 1e-5f);
  if (item == 0) STORE4(y + group * 4, all);
}
KERNEL(256) layer_norm(Out y, In x, In mean, In scale) {
  INDEX i = group * 1024 + item * 4;
  STORE4(y + i, (LOAD4(x + i) - mean[group]) * scale[group]);
}

// ---- transposes ----------------------------------------------------------------------------------------------------
KERNEL(256) transpose(Out y, In x) {
  f4 v = LOAD4(x + group * 1024 + item * 4);
  UNROLL for (INDEX k = 0; k < 4; k++) y[(item * 4 + k) * 1024 + group] = v[k];
}
KERNEL(256) add_transposed(Out y, In a, In b) {
  f4 v = LOAD4(a + group * 1024 + item * 4);
  UNROLL for (INDEX k = 0; k < 4; k++) v[k] += b[(item * 4 + k) * 1024 + group];
  STORE4(y + group * 1024 + item * 4, v);
}
KERNEL(32) permute(Out y, In x) {
  INDEX batch = group / 128, row = group % 128;
  f4 v = LOAD4(x + (batch * 128 + row) * 128 + item * 4);
  UNROLL for (INDEX k = 0; k < 4; k++) y[(batch * 128 + item * 4 + k) * 128 + row] = v[k];
}

// ---- products ------------------------------------------------------------------------------------------------------
KERNEL(32) matrix_vector(Out y, In a, In x) {  // a wave takes sixteen rows
  float s[16];
  UNROLL for (int r = 0; r < 16; r++) s[r] = 0;
  ROW_STEPS {
    f4 w = LOAD4(x + k);
    UNROLL for (int r = 0; r < 16; r++) {
      f4 v = LOAD4(a + (group * 16 + r) * 1024 + k);
      UNROLL for (int u = 0; u < 4; u++) s[r] += v[u] * w[u];
    }
  }
  UNROLL for (int r = 0; r < 16; r++) s[r] = sum_of_lanes(s[r]);
  if (item == 0)
    UNROLL for (int r = 0; r < 16; r += 4) STORE4(y + group * 16 + r, ((f4){s[r], s[r + 1], s[r + 2], s[r + 3]}));
}
KERNEL(256) matmul_naive(Out c, In a, In b) {  // 64 x 256 by 256 x 4096: 4 rows of 4 columns each
  INDEX rows = group / 4 * 4, columns = group % 4 * 1024 + item * 4;
  f4 s[4];
  UNROLL for (int r = 0; r < 4; r++) s[r] = 0;
  LOOP for (INDEX k = 0; k < 256; k += 2)
    UNROLL for (int u = 0; u < 2; u++) {
      f4 v = LOAD4(b + (k + u) * 4096 + columns);
      UNROLL for (int r = 0; r < 4; r++) s[r] += a[(rows + r) * 256 + k + u] * v;
    }
  UNROLL for (int r = 0; r < 4; r++) STORE4(c + (rows + r) * 4096 + columns, s[r]);
}
KERNEL(256) matmul_tiled(Out c, In a, In b) {  // 512 x 512: tiles of 64 x 64 by 16, 4 x 4 results each
  local float tile_a[16 * 64], tile_b[16 * 64];
  INDEX row0 = group / 8 * 64, column0 = group % 8 * 64, row = item / 16 * 4, column = item % 16 * 4;
  f4 s[4];
  UNROLL for (int r = 0; r < 4; r++) s[r] = 0;
  LOOP for (INDEX k0 = 0; k0 < 512; k0 += 16) {
    f4 v = LOAD4(a + (row0 + item / 4) * 512 + k0 + item % 4 * 4);
    f4 w = LOAD4(b + (k0 + item / 16) * 512 + column0 + item % 16 * 4);
    UNROLL for (INDEX u = 0; u < 4; u++) tile_a[(item % 4 * 4 + u) * 64 + item / 4] = v[u];
    *(local f4*)&tile_b[item * 4] = w;
    BARRIER;
    LOOP for (INDEX k1 = 0; k1 < 16; k1 += 4)
      UNROLL for (INDEX u = 0; u < 4; u++) {
        f4 x = *(const local f4*)&tile_a[(k1 + u) * 64 + row];
        f4 y = *(const local f4*)&tile_b[(k1 + u) * 64 + column];
        UNROLL for (int r = 0; r < 4; r++) s[r] += x[r] * y;
      }
    BARRIER;
  }
  UNROLL for (INDEX r = 0; r < 4; r++) STORE4(c + (row0 + row + r) * 512 + column0 + column, s[r]);
}
#define PITCH 40  // of a panel's row: 32 elements and 8 that no one uses, so that rows stand in different banks
KERNEL(128) matmul_wmma(Out c, Half a, Half b) {  // 1024 x 1024: 4 waves of 4 x 4 tiles, 32 deep
  local __attribute__((aligned(16))) half panel_a[256 * PITCH], panel_b[64 * PITCH];
  INDEX row0 = group / 16 * 256, column0 = group % 16 * 64, lane = item % 16, wave = item / 32;
  f8 s[4][4];
  UNROLL for (int r = 0; r < 4; r++) UNROLL for (int q = 0; q < 4; q++) s[r][q] = 0;
  LOOP for (INDEX k0 = 0; k0 < 1024; k0 += 32) {
    UNROLL for (INDEX u = 0; u < 8; u++) {
      INDEX i = u * 128 + item;
      *(local h8*)&panel_a[i / 4 * PITCH + i % 4 * 8] =
          *(const global h8*)(a + (row0 + i / 4) * 1024 + k0 + i % 4 * 8);
    }
    UNROLL for (INDEX u = 0; u < 4; u++) {
      INDEX i = u * 128 + item;
      h4 v = *(const global h4*)(b + (k0 + i / 16) * 1024 + column0 + i % 16 * 4);
      UNROLL for (INDEX q = 0; q < 4; q++) panel_b[(i % 16 * 4 + q) * PITCH + i / 16] = v[q];
    }
    BARRIER;
    LOOP for (INDEX k1 = 0; k1 < 32; k1 += 16) {
      h16 x[4], y[4];
      UNROLL for (INDEX r = 0; r < 4; r++) {
        *(h8*)&x[r] = *(const local h8*)&panel_a[(wave * 64 + r * 16 + lane) * PITCH + k1];
        ((h8*)&x[r])[1] =
            *(const local h8*)&panel_a[(wave * 64 + r * 16 + lane) * PITCH + k1 + 8];
        *(h8*)&y[r] = *(const local h8*)&panel_b[(r * 16 + lane) * PITCH + k1];
        ((h8*)&y[r])[1] = *(const local h8*)&panel_b[(r * 16 + lane) * PITCH + k1 + 8];
      }
      UNROLL for (int r = 0; r < 4; r++)
        UNROLL for (int q = 0; q < 4; q++) s[r][q] = __builtin_amdgcn_wmma_f32_16x16x16_f16_w32(x[r], y[q], s[r][q]);
    }
    BARRIER;
  }
  UNROLL for (INDEX r = 0; r < 4; r++)
    UNROLL for (INDEX i = 0; i < 8; i++)
      UNROLL for (INDEX q = 0; q < 4; q++)
        c[(row0 + wave * 64 + r * 16 + i * 2 + item / 16 % 2) * 1024 + column0 + q * 16 + lane] = s[r][q][i];
}
KERNEL(32) convolution(Out y, In x, In w) {  // 16 x 32 x 34 x 34 by 64 x 32 x 3 x 3: 4 images by 4 channels each
  INDEX images = group / 512 * 4, channels = group / 32 % 16 * 4, row = group % 32;
  float s[4][4];
  UNROLL for (int i = 0; i < 4; i++) UNROLL for (int o = 0; o < 4; o++) s[i][o] = 0;
  LOOP for (INDEX c = 0; c < 32; c++)
    LOOP for (INDEX ky = 0; ky < 3; ky++)
      LOOP for (INDEX kx = 0; kx < 3; kx++)
        UNROLL for (INDEX i = 0; i < 4; i++) {
          float v = x[(((images + i) * 32 + c) * 34 + row + ky) * 34 + item + kx];
          UNROLL for (INDEX o = 0; o < 4; o++) s[i][o] += v * w[(((channels + o) * 32 + c) * 3 + ky) * 3 + kx];
        }
  UNROLL for (INDEX i = 0; i < 4; i++)
    UNROLL for (INDEX o = 0; o < 4; o++)
      y[(((images + i) * 64 + channels + o) * 32 + row) * 32 + item] = s[i][o];
}
