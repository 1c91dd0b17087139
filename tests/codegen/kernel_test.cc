// SPDX-License-Identifier: MIT
// Kernels through the whole code generator against the kernel evaluator, on every x86 level that the host has.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <cmath>
#include <cstring>
#include <random>
#include "compiler/codegen/codegen.h"
#include "compiler/isa/emu.h"

namespace ingot {
namespace {

std::vector<Target> targets() {
  u64 have = isa::x86::host_features();
  std::vector<Target> list{{"x86", "avx2", isa::x86::AVX2, 2}};
  if (have & isa::x86::AVX512) list.push_back({"x86", "avx512", isa::x86::AVX2 | isa::x86::AVX512, 2});
  list.push_back({"rdna", "gfx1100", 0, 96});
  return list;
}

// Buffers, code and arguments for the emulator, each with nothing around it.
struct Regions final : hw::WaveMemory {
  struct Region {
    u64 base;
    std::span<u8> bytes;
    bool writable;
  };
  std::vector<Region> regions;
  u64 faulted = 0;
  u8* direct(hw::Access kind, u64 address, i64 bytes) override {
    for (Region& r : regions)
      if (address >= r.base && address + u64(bytes) <= r.base + r.bytes.size())
        return kind == hw::Access::WRITE && !r.writable ? nullptr : r.bytes.data() + (address - r.base);
    return nullptr;
  }
  bool access(hw::Access kind, u64 address, void* data, i64 bytes) override {
    u8* p = direct(kind, address, bytes);
    if (!p) return faulted = address, false;
    kind == hw::Access::WRITE ? std::memcpy(p, data, size_t(bytes)) : std::memcpy(data, p, size_t(bytes));
    return true;
  }
  void invalidate(bool, bool, bool) override {}
};
void emulate(const Program& p, std::vector<std::vector<u8>>& buffers) {
  Regions memory;
  std::vector<u8> code = p.code, arguments, scratch(size_t(p.frame_bytes) * 32 * 64);
  std::vector<u64> addresses;
  for (size_t i = 0; i < buffers.size(); i++) {
    addresses.push_back((u64(i) + 1) << 33);
    memory.regions.push_back({addresses.back(), buffers[i], p.params[i].written});
  }
  arguments.resize(std::max<size_t>(addresses.size() * 8, 8));
  std::memcpy(arguments.data(), addresses.data(), addresses.size() * 8);
  memory.regions.push_back({1 << 20, code, false});
  memory.regions.push_back({1 << 16, arguments, false});
  memory.regions.push_back({1 << 28, scratch, true});
  isa::emu::EmulatorOptions options;
  options.source = [&](u64) { return p.name; };
  auto wave = isa::emu::make_emulator(options);
  hw::Dispatch d;
  d.groups[0] = u32(p.extent), d.threads[0] = u32(p.threads), d.entry = 1 << 20;
  d.rsrc[0] = u32((std::max(p.vectors, 1) + 7) / 8 - 1) | u32(255) << 12;  // VGPRs in eights; FLOAT_MODE: all denormals
  d.rsrc[0] = (d.rsrc[0] & ~(u32(255) << 12)) | u32(0xf0) << 12;
  d.rsrc[1] = 15 << 1 | 1 << 7 | u32((p.local_bytes + 511) / 512) << 15 | (p.frame_bytes ? 1 : 0);
  d.user_data[0] = 1 << 16;
  d.scratch_base = 1 << 28, d.scratch_waves = 64, d.scratch_wave_bytes = p.frame_bytes * 32;
  d.shared_aperture = u64(1) << 48, d.private_aperture = u64(2) << 48;
  wave->start(d, memory);
  hw::WaveResult r;
  do r = wave->step(1000000);
  while (r.kind == hw::WaveResult::RUNNING);
  ASSERT_EQ(r.kind, hw::WaveResult::DONE)
      << r.message << " at " << hex(r.pc - (1 << 20)) << ", address " << hex(memory.faulted) << "\n"
      << annotate(p);
}

void run(const Program& p, std::vector<std::vector<u8>>& buffers) {
  if (p.isa == "rdna") return emulate(p, buffers);
  size_t size = (p.code.size() + 4095) / 4096 * 4096;
  void* page = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(page, MAP_FAILED);
  std::memcpy(page, p.code.data(), p.code.size());
  ASSERT_EQ(mprotect(page, size, PROT_READ | PROT_EXEC), 0);
  std::vector<void*> params;
  for (auto& b : buffers) params.push_back(b.data());
  i64 half = p.extent / 2;                                   // in two pieces, as two cores would
  std::vector<u8> memory(size_t(p.local_bytes) + 64, 0xff);  // any contents
  u8* local = memory.data() + (64 - reinterpret_cast<uintptr_t>(memory.data()) % 64) % 64;
  auto f = reinterpret_cast<void (*)(void* const*, i64, i64, void*)>(page);
  if (half) f(params.data(), 0, half, local);
  f(params.data(), half, p.extent, local);
  munmap(page, size);
}

struct Kernel {
  std::vector<Param> params;
  i64 ids = 0;
  U param(DType t, i64 n, bool written = false) {
    params.push_back({t, n, written, !written});
    return make(Op::PARAM, t, {}, {i64(params.size()) - 1, n});
  }
  U range(i64 n, RangeKind kind = RangeKind::LOOP) {
    return make(Op::RANGE, IDX, {index_constant(n)}, {ids++, i64(kind)});
  }
  static U load(U p, U at, U condition = nullptr) {
    U index = condition ? make(Op::INDEX, p->dtype, {p, simplify(at), simplify(condition)})
                        : make(Op::INDEX, p->dtype, {p, simplify(at)});
    return make(Op::LOAD, p->dtype, {index});
  }
  static U store(U p, U at, U value, std::vector<U> ranges) {
    std::vector<U> src{make(Op::INDEX, p->dtype, {p, simplify(at)}), value};
    src.insert(src.end(), ranges.begin(), ranges.end());
    return make(Op::STORE, VOID, src);
  }
  static U reduce(Op o, U value, std::vector<U> ranges) {
    ranges.insert(ranges.begin(), value);
    return make(Op::REDUCE, value->dtype, ranges, std::array{i64(o)});
  }
};

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool sanitized = true;
#else
constexpr bool sanitized = false;
#endif
constexpr i64 most_emulated = sanitized ? 300000 : i64(1) << 40;  // operations

// Runs the kernel both ways on random data. Floats may differ by rounding: tolerance relative to the largest magnitude.
void agree(const Kernel& k, std::vector<U> stores, double tolerance, const char* what) {
  U sink = simplify(make(Op::SINK, VOID, stores));
  std::mt19937 random(1);
  std::vector<std::vector<u8>> input;
  for (const Param& p : k.params) {
    std::vector<u8> b(size_t(std::max<i64>(p.elements, 1) * p.dtype.bytes()));
    for (i64 i = 0; i < p.elements; i++) {
      Value v;
      if (p.dtype.is_float())
        v.f = round_to(double(int(random() % 2001) - 1000) / 256, p.dtype);
      else
        v.i = wrap_to(i64(random() % 200) - 100, p.dtype);
      store_element(b.data(), i, p.dtype, v);
    }
    input.push_back(b);
  }
  auto expected = input;
  std::vector<Memory> memory;
  for (size_t i = 0; i < expected.size(); i++) memory.push_back({expected[i].data(), k.params[i].elements});
  evaluate_kernel(sink, memory);
  for (const Target& t : targets()) {
    for (int opt : {0, 1}) {
      Scoped s(ctx.OPT, opt);
      Program p = compile(sink, k.params, what, t);
      if (t.isa == "rdna" && p.operations > (opt ? most_emulated : 20000))
        continue;  // without OPT one lane does it all
      auto got = input;
      run(p, got);
      for (size_t b = 0; b < got.size(); b++)
        for (i64 i = 0; i < k.params[b].elements; i++) {
          DType d = k.params[b].dtype;
          Value x = load_element(expected[b].data(), i, d), y = load_element(got[b].data(), i, d);
          bool same = d.is_float() ? x.f == y.f || (x.f != x.f && y.f != y.f) ||
                                         std::abs(x.f - y.f) <= tolerance * std::max(1.0, std::abs(x.f))
                                   : x.i == y.i;
          ASSERT_TRUE(same) << what << " on " << t.arch << " OPT=" << opt << ": buffer " << b << " element " << i
                            << ": " << (d.is_float() ? y.f : double(y.i)) << ", expected "
                            << (d.is_float() ? x.f : double(x.i)) << "\n"
                            << annotate(p);
        }
    }
  }
}

TEST(Kernel, Elementwise) {
  for (DType t : {F32, F64, I32, I64, U8, I8, I16, U16, U32, U64, F16, BF16})
    for (i64 n : {1, 3, 8, 16, 17, 31, 100}) {
      Kernel k;
      U a = k.param(t, n), b = k.param(t, n), c = k.param(t, n, true), r = k.range(n);
      U sum = make_alu(Op::ADD, k.load(a, r), k.load(b, r));
      agree(k, {k.store(c, r, sum, {r})}, 0, str("add ", t, " ", n).c_str());
    }
}

TEST(Kernel, Operations) {
  for (DType t : {F32, F64, I32, I64, U32, U64, I8, U8, I16, U16})
    for (Op o : {Op::ADD, Op::SUB, Op::MUL, Op::MIN, Op::MAX, Op::AND, Op::OR, Op::XOR, Op::IDIV, Op::MOD, Op::FDIV,
                 Op::CMPLT, Op::CMPEQ, Op::CMPNE}) {
      if (t.is_float() ? has(o, INTEGER) : has(o, FLOAT_ONLY)) continue;
      for (i64 n : {5, 37}) {
        Kernel k;
        bool compares = has(o, TO_BOOL);
        U a = k.param(t, n), b = k.param(t, n), c = k.param(compares ? BOOL : t, n, true), r = k.range(n);
        agree(k, {k.store(c, r, make_alu(o, k.load(a, r), k.load(b, r)), {r})}, 0, str(o, " ", t, " ", n).c_str());
      }
    }
}

TEST(Kernel, NarrowNeighboursInPlace) {  // read, added to and read before the write, a dword at a time
  for (DType t : {U16, I8, F16})
    for (i64 n : {640, 642}) {
      Kernel k;
      U a = k.param(t, n, true), b = k.param(t, n, true), c = k.param(t, n, true), d = k.param(t, n), r = k.range(n);
      U sum = make_alu(Op::ADD, k.load(b, r), k.load(d, r));
      agree(k, {k.store(a, r, k.load(b, r), {r}), k.store(c, r, sum, {r}), k.store(b, r, sum, {r})}, 0,
            str("in place ", t, " ", n).c_str());
    }
}

// Two elements of 16 bits in a register: one load, one store and one instruction of arithmetic for both; each rounds as
// it does alone. What the halves do not share is joined.
TEST(Kernel, PackedHalves) {
  auto value = [](Kernel& k, DType t, U a, U b, U r) {
    U x = k.load(a, r), y = k.load(b, r);
    U v = make_alu(Op::SUB, make_alu(Op::ADD, make_alu(Op::MUL, x, y), constant_float(t, 0.3)), x);
    return make_alu(Op::MAX, make_alu(Op::FMA, make_alu(Op::NEG, v), y, x), constant_float(t, -2));
  };
  for (DType t : {F16, BF16, F32})
    for (i64 n : {64, 1 << 15, (1 << 15) + 4, (1 << 15) + 2, (1 << 15) + 1}) {
      Kernel k;
      U a = k.param(t, n), b = k.param(t, n), c = k.param(t, n, true), r = k.range(n);
      Scoped opt(ctx.OPT, 1);
      agree(k, {k.store(c, r, value(k, t, a, b, r), {r})}, 0, str("packed ", t, " ", n).c_str());
    }
  Kernel k;
  const i64 n = 1 << 16;
  U a = k.param(F16, n), c = k.param(F16, n, true), r = k.range(n), x = k.load(a, r);
  U v = make_alu(Op::ADD, make_alu(Op::MUL, x, x), x);
  std::string text =
      annotate(compile(make(Op::SINK, VOID, {k.store(c, r, v, {r})}), k.params, "packed", {"rdna", "gfx1100", 0, 96}));
  auto count = [&](std::string_view what) {
    size_t found = 0;
    for (size_t at = 0; (at = text.find(what, at)) != text.npos; at++) found++;
    return found;
  };
  EXPECT_EQ(count("global_load_b128"), 1u) << text;
  EXPECT_EQ(count("v_pk_mul_f16"), 4u) << text;
  EXPECT_EQ(count("v_pk_add_f16"), 4u) << text;
  EXPECT_EQ(count("v_cvt"), 0u) << text;
}

TEST(Kernel, Casts) {
  for (DType from : {F32, F64, I32, I64, U8, I8, I16, U16, U32, F16, BF16, BOOL})
    for (DType to : {F32, F64, I32, I64, U8, I8, I16, U16, U32, F16, BF16, BOOL}) {
      if (from.is_float() && to.is_unsigned())
        continue;  // random data has negative values, whose result is unspecified
      for (i64 n : {3, 35}) {
        Kernel k;
        U a = k.param(from, n), c = k.param(to, n, true), r = k.range(n);
        agree(k, {k.store(c, r, cast(k.load(a, r), to), {r})}, 0, str("cast ", from, " to ", to, " ", n).c_str());
      }
    }
}

TEST(Kernel, WhereAndComparisons) {
  for (DType t : {F32, F64, I32, I64, U8})
    for (i64 n : {5, 40}) {
      Kernel k;
      U a = k.param(t, n), b = k.param(t, n), c = k.param(t, n, true), r = k.range(n);
      U x = k.load(a, r), y = k.load(b, r);
      U less = make_alu(Op::CMPLT, x, y), tail = make_alu(Op::CMPLT, r, index_constant(n / 2));
      agree(k, {k.store(c, r, make_alu(Op::WHERE, make_alu(Op::AND, less, tail), x, make_alu(Op::ADD, x, y)), {r})}, 0,
            str("where ", t, " ", n).c_str());
    }
}

TEST(Kernel, Matmul) {
  for (auto [m, n, kk] :
       {std::array<i64, 3>{4, 16, 8}, {3, 5, 7}, {17, 33, 65}, {32, 64, 40}, {1, 100, 10}, {100, 1, 10}}) {
    for (DType t : {F32, F64, I32}) {
      Kernel k;
      U a = k.param(t, m * kk), b = k.param(t, kk * n), c = k.param(t, m * n, true);
      U i = k.range(m), j = k.range(n), l = k.range(kk, RangeKind::REDUCE);
      U product = make_alu(Op::MUL, k.load(a, Expr(i) * kk + l), k.load(b, Expr(l) * n + j));
      agree(k, {k.store(c, Expr(i) * n + j, k.reduce(Op::ADD, product, {l}), {i, j})}, 1e-5,
            str("matmul ", t, " ", m, "x", n, "x", kk).c_str());
    }
  }
}

TEST(Kernel, MatrixUnits) {
  for (DType t : {F16, BF16, I8, U8})
    for (auto [m, n, kk] :
         {std::array<i64, 3>{16, 16, 16}, {64, 64, 32}, {8, 40, 14}, {64, 6, 30}, {100, 70, 50}, {256, 128, 64}})
      for (bool transposed : {false, true}) {
        Kernel k;
        DType sum = t.is_float() ? F32 : I32;
        U a = k.param(t, m * kk), b = k.param(t, kk * n), c = k.param(sum, m * n, true);
        U i = k.range(m), j = k.range(n), l = k.range(kk, RangeKind::REDUCE);
        U right = k.load(b, transposed ? Expr(j) * kk + l : Expr(l) * n + j);
        U product = make_alu(Op::MUL, cast(k.load(a, Expr(i) * kk + l), sum), cast(right, sum));
        Scoped opt(ctx.OPT, 1);
        agree(k, {k.store(c, Expr(i) * n + j, k.reduce(Op::ADD, product, {l}), {i, j})}, 1e-5,
              str("matrix ", t, " ", m, "x", n, "x", kk).c_str());
        Program p = compile(
            simplify(make(Op::SINK, VOID, {k.store(c, Expr(i) * n + j, k.reduce(Op::ADD, product, {l}), {i, j})})),
            k.params, "matrix", {"rdna", "gfx1100", 0, 96});
        EXPECT_NE(annotate(p).find("v_wmma"), std::string::npos) << annotate(p);
      }
}

TEST(Kernel, ReductionsInLanes) {
  for (Op o : {Op::ADD, Op::MAX, Op::MIN, Op::MUL})
    for (DType t : {F32, F64, I32})
      for (i64 n : {1, 7, 16, 100, 129}) {
        Kernel k;
        U a = k.param(t, 5 * n), c = k.param(t, 5, true), i = k.range(5), l = k.range(n, RangeKind::REDUCE);
        U v = k.load(a, Expr(i) * n + l);
        if (o == Op::MUL)
          v = t.is_float() ? make_alu(Op::ADD, make_alu(Op::MUL, v, constant_float(t, 0.01)), constant(t, 1)) : v;
        agree(k, {k.store(c, i, k.reduce(o, v, {l}), {i})}, 1e-4, str("reduce ", o, " ", t, " ", n).c_str());
      }
}

TEST(Kernel, CountsUnderACondition) {  // the update is the accumulator plus a constant: it must not leave its loop
  for (i64 n : {2, 16, 40}) {
    Kernel k;
    U a = k.param(F32, 24 * n), c = k.param(F32, 24, true), i = k.range(24), l = k.range(n, RangeKind::REDUCE);
    U less = make_alu(Op::CMPLT, k.load(a, Expr(i) * n + l), constant_float(F32, 0.5));
    agree(k, {k.store(c, i, k.reduce(Op::ADD, cast(less, F32), {l}), {i})}, 0, str("count ", n).c_str());
  }
}

TEST(Kernel, SoftmaxTwoReductions) {
  for (i64 n : {5, 16, 50}) {
    Kernel k;
    U a = k.param(F32, 4 * n), c = k.param(F32, 4 * n, true), i = k.range(4), j = k.range(n),
      l = k.range(n, RangeKind::REDUCE);
    U most = k.reduce(Op::MAX, k.load(a, Expr(i) * n + l), {l});
    U sum = k.reduce(Op::ADD, make_alu(Op::SUB, k.load(a, Expr(i) * n + l), most), {l});
    U v = make_alu(Op::FDIV, make_alu(Op::SUB, k.load(a, Expr(i) * n + j), most), sum);
    agree(k, {k.store(c, Expr(i) * n + j, v, {i, j})}, 1e-4, str("two reductions ", n).c_str());
  }
}

// Few long rows: several waves reduce one and meet in LDS.
TEST(Kernel, ReductionsAcrossWaves) {
  const Target gpu{"rdna", "gfx1100", 0, 96};
  Scoped opt(ctx.OPT, 1);
  for (Op o : {Op::ADD, Op::MAX, Op::MIN})
    for (DType t : {F32, F64, I32, F16})
      for (i64 n : {1000, 1024, 4099}) {
        Kernel k;
        U a = k.param(t, 3 * n), c = k.param(t, 3, true), i = k.range(3), l = k.range(n, RangeKind::REDUCE);
        agree(k, {k.store(c, i, k.reduce(o, k.load(a, Expr(i) * n + l), {l}), {i})}, t == F16 ? 1e-2 : 1e-4,
              str("row ", o, " ", t, " ", n).c_str());
      }
  for (auto [m, n] : {std::array<i64, 2>{1, 1024}, {3, 512}, {5, 1000}}) {  // the second after the first, then stores
    Kernel k;
    U a = k.param(F32, m * n), c = k.param(F32, m * n, true), i = k.range(m), j = k.range(n),
      l = k.range(n, RangeKind::REDUCE);
    U most = k.reduce(Op::MAX, k.load(a, Expr(i) * n + l), {l});
    U sum = k.reduce(Op::ADD, make_alu(Op::SUB, k.load(a, Expr(i) * n + l), most), {l});
    U v = make_alu(Op::FDIV, make_alu(Op::SUB, k.load(a, Expr(i) * n + j), most), sum);
    agree(k, {k.store(c, Expr(i) * n + j, v, {i, j})}, 1e-4, str("rows ", m, "x", n).c_str());
    Program p =
        compile(simplify(make(Op::SINK, VOID, {k.store(c, Expr(i) * n + j, v, {i, j})})), k.params, "rows", gpu);
    EXPECT_NE(annotate(p).find("s_barrier"), std::string::npos) << annotate(p);
    EXPECT_EQ(p.extent, m) << annotate(p);
  }
  Kernel k;
  const i64 n = 1 << 20;
  U a = k.param(F32, n), c = k.param(F32, 1, true), l = k.range(n, RangeKind::REDUCE);
  U store = k.store(c, index_constant(0), k.reduce(Op::ADD, k.load(a, l), {l}), {});
  EXPECT_EQ(compile(make(Op::SINK, VOID, {store}), k.params, "sum", gpu).threads, 1024);
  agree(k, {store}, 1e-4, "sum of 2^20");
}

TEST(Kernel, ConvolutionForwardAndPadded) {
  for (i64 w : {6, 20, 24}) {
    Kernel k;
    i64 n = 2, ci = 3, co = 4, h = 5, f = 3, ow = w - f + 1, oh = h - f + 1;
    U x = k.param(F32, n * ci * h * w), g = k.param(F32, co * ci * f * f), y = k.param(F32, n * co * oh * ow, true);
    U b = k.range(n), o = k.range(co), r = k.range(oh), s = k.range(ow);
    U c = k.range(ci, RangeKind::REDUCE), p = k.range(f, RangeKind::REDUCE), q = k.range(f, RangeKind::REDUCE);
    U v = make_alu(Op::MUL, k.load(x, ((Expr(b) * ci + c) * h + r + p) * w + s + q),
                   k.load(g, ((Expr(o) * ci + c) * f + p) * f + q));
    agree(k, {k.store(y, ((Expr(b) * co + o) * oh + r) * ow + s, k.reduce(Op::ADD, v, {c, p, q}), {b, o, r, s})}, 1e-4,
          str("convolution ", w).c_str());
    // Backward data: conditions on the lane axis and on a loop.
    Kernel d;
    U dy = d.param(F32, n * co * oh * ow), g2 = d.param(F32, co * ci * f * f), dx = d.param(F32, n * ci * h * w, true);
    U b2 = d.range(n), c2 = d.range(ci), i = d.range(h), j = d.range(w);
    U o2 = d.range(co, RangeKind::REDUCE), p2 = d.range(f, RangeKind::REDUCE), q2 = d.range(f, RangeKind::REDUCE);
    Expr yy = Expr(i) - p2, xx = Expr(j) - q2;
    U ok = (yy >= Expr(0)) && (yy < Expr(oh)) && (xx >= Expr(0)) && (xx < Expr(ow));
    U v2 = make_alu(Op::MUL, d.load(dy, ((Expr(b2) * co + o2) * oh + yy) * ow + xx, ok),
                    d.load(g2, ((Expr(o2) * ci + c2) * f + p2) * f + q2));
    agree(d, {d.store(dx, ((Expr(b2) * ci + c2) * h + i) * w + j, d.reduce(Op::ADD, v2, {o2, p2, q2}), {b2, c2, i, j})},
          1e-4, str("backward data ", w).c_str());
  }
}

// STAGE. The plan packs an operand; what apply_plan() makes of it computes the same, on every machine tree.
struct Product {
  Kernel k;
  U sink;
  Product(DType t, i64 m, i64 n, i64 kk, bool transposed) {
    U a = k.param(t, m * kk), b = k.param(t, kk * n), c = k.param(t, m * n, true);
    U i = k.range(m), j = k.range(n), l = k.range(kk, RangeKind::REDUCE);
    U right = k.load(b, transposed ? Expr(j) * kk + l : Expr(l) * n + j);
    U value = k.reduce(Op::ADD, make_alu(Op::MUL, k.load(a, Expr(i) * kk + l), right), {l});
    sink = make(Op::SINK, VOID, {k.store(c, Expr(i) * n + j, value, {i, j})});
  }
};

// Two ranges of one reduction are as long: one of them has the lanes of a wave, the other stays a loop.
TEST(Kernel, LanesOfOneRange) {
  for (i64 n : {64, 128}) {
    Kernel k;
    U a = k.param(F32, n * 3 * n), c = k.param(F32, 3, true), i = k.range(3);
    U x = k.range(n, RangeKind::REDUCE), y = k.range(n, RangeKind::REDUCE);
    U sum = k.reduce(Op::ADD, k.load(a, (Expr(x) * 3 + i) * n + y), {x, y});
    Scoped opt(ctx.OPT, 1);
    agree(k, {k.store(c, i, sum, {i})}, 1e-3, str("square of ", n).c_str());
  }
}

// A loop of a GPU adds to its addresses, and counts with a carry unless its body asks for the number of the turn.
TEST(Kernel, TurnsOfALoop) {
  const Target gpu{"rdna", "gfx1100", 0, 96};
  std::string text;
  auto count = [&](std::string_view what) {
    size_t found = 0;
    for (size_t at = 0; (at = text.find(what, at)) != text.npos; at++) found++;
    return found;
  };
  Product p(F32, 64, 4096, 256, false);
  text = annotate(compile(p.sink, p.k.params, "product", gpu));
  EXPECT_EQ(count("s_cmp_"), 0u) << text;
  ASSERT_EQ(count("s_cbranch_scc0"), 1u) << text;
  const size_t end = text.find("s_cbranch_scc0"), begin = text.rfind("s_mov_b32", end);
  EXPECT_EQ(text.substr(begin, end - begin).find("s_lshl"), std::string::npos) << text;
  Kernel k;
  U a = k.param(F32, 121 * 40), c = k.param(F32, 40, true), i = k.range(40);
  U outer = k.range(11, RangeKind::REDUCE), inner = k.range(11, RangeKind::REDUCE);
  U weighted = make_alu(Op::MUL, k.load(a, (Expr(outer) * 11 + inner) * 40 + i), cast(inner, F32));
  U sink = make(Op::SINK, VOID, {k.store(c, i, k.reduce(Op::ADD, weighted, {outer, inner}), {i})});
  text = annotate(compile(sink, k.params, "weighted", gpu));
  EXPECT_EQ(count("s_cmp_lt_i32"), 1u) << text;    // of the inner loop
  EXPECT_EQ(count("s_cbranch_scc0"), 1u) << text;  // of the outer one
  agree(k, {k.store(c, i, k.reduce(Op::ADD, weighted, {outer, inner}), {i})}, 1e-5, "weighted");
}

TEST(Stage, PacksWhatLanesCannotReadSideBySide) {
  for (const Target& t : targets()) {
    if (t.isa != "x86") continue;
    Product far(F32, 256, 64, 100, true), near(F32, 40, 64, 8, false), wide(F32, 512, 512, 64, false);
    Plan plan = choose_plan(far.sink, t);
    ASSERT_EQ(plan.stages.size(), 1u) << print(plan);
    EXPECT_EQ(plan.stages[0].load->src(0)->src(0)->arg(0), 1);  // the right operand
    EXPECT_EQ(plan.stages[0].lanes, 1);
    EXPECT_NE(print(plan).find("STAGE(p1, L"), std::string::npos) << print(plan);
    EXPECT_TRUE(choose_plan(near.sink, t).stages.empty());  // small and side by side: it stays where it is
    plan = choose_plan(wide.sink, t);
    ASSERT_EQ(plan.stages.size(), 1u) << print(plan);
    EXPECT_EQ(plan.stages[0].lanes, machine_of(t).lanes(32));
  }
}

TEST(Stage, ComputesTheSame) {
  for (auto [m, n, kk] : {std::array<i64, 3>{256, 64, 100}, {100, 33, 65}, {64, 17, 3}, {129, 130, 64}})
    for (DType t : {F32, F64, I32, F16})
      for (bool transposed : {false, true}) {
        if (t == F16 && (m > 128 || !transposed)) continue;
        Product p(t, m, n, kk, transposed);
        agree(p.k, {p.sink->src(0)}, t == F16 ? 5e-2 : 1e-4, str("staged ", t, " ", m, "x", n, "x", kk).c_str());
      }
}

TEST(Stage, PanelsOfAnyShapeOnEveryMachine) {  // plans by hand: splits that do not divide, conditions, several panels
  std::vector<Target> all = targets();
  all.push_back({"rdna", "gfx1100", 0, 96});
  for (const Target& t : all)
    for (i64 seed = 0; seed < 40; seed++) {
      std::mt19937 random{unsigned(seed)};
      auto pick = [&](std::initializer_list<i64> list) { return list.begin()[random() % list.size()]; };
      Product p(F32, pick({5, 16, 33}), pick({7, 16, 40}), pick({3, 8, 21}), random() % 2);
      U store = p.sink->src(0), reduce = store->src(1), product = reduce->src(0), i = store->src(2), j = store->src(3);
      U l = reduce->src(1);
      Plan plan{{i, j}, {l}, {}, {}};
      if (random() % 2) std::swap(plan.order[0], plan.order[1]);
      Split* a = plan.split(i);
      a->unroll = pick({1, 2, 3}), a->block = pick({1, 2, 5}), a->thread = random() % 2;
      Split* b = plan.split(j);
      b->lanes = pick({1, 4, 8}), b->unroll = pick({1, 2}), b->block = pick({1, 3});
      plan.split(l)->unroll = pick({1, 2});
      for (int operand : {0, 1})
        if (random() % 3) {
          Staging s{product->src(operand), "L1", 1, {}, 1};
          s.layout = {l, operand ? j : i};
          if (random() % 2) std::swap(s.layout[0], s.layout[1]);
          plan.stages.push_back(s);
        }
      std::vector<std::vector<float>> data;
      for (const Param& q : p.k.params) {
        data.emplace_back(size_t(q.elements));
        for (float& v : data.back()) v = float(int(random() % 17) - 8);
      }
      std::vector<std::vector<float>> expected = data, got = data;
      auto memory = [&](std::vector<std::vector<float>>& d) {
        std::vector<Memory> m;
        for (auto& v : d) m.push_back({v.data(), i64(v.size())});
        return m;
      };
      evaluate_kernel(p.sink, memory(expected));
      U applied = simplify(apply_plan(simplify(p.sink), plan));
      check_spec(applied, Stage::KERNEL, "apply_plan");
      evaluate_kernel(applied, memory(got));
      EXPECT_EQ(got, expected) << print(plan);
      if (t.isa != "x86") continue;
      std::vector<std::vector<u8>> bytes;
      for (auto& v : data)
        bytes.emplace_back(reinterpret_cast<u8*>(v.data()), reinterpret_cast<u8*>(v.data() + v.size()));
      Program program = compile(simplify(p.sink), p.k.params, "planned", t, &plan);
      EXPECT_EQ(program.local_bytes > 0, !plan.stages.empty());
      run(program, bytes);
      EXPECT_EQ(std::memcmp(bytes[2].data(), expected[2].data(), bytes[2].size()), 0)
          << print(plan) << annotate(program);
    }
}

TEST(Stage, ATileInLdsIsTheSameMove) {
  Product p(F32, 128, 128, 32, true);
  Target gpu{"rdna", "gfx1100", 0, 96};
  Plan plan = choose_plan(p.sink, gpu);
  ASSERT_EQ(plan.stages.size(), 2u) << print(plan);
  EXPECT_EQ(plan.stages[0].level, "workgroup") << print(plan);
  EXPECT_NE(print(machine_of(gpu)).find("workgroup x 1: 128 KiB"), std::string::npos) << print(machine_of(gpu));
  if (sanitized) GTEST_SKIP() << "the evaluator takes minutes for a whole group when it is sanitized";
  std::vector<float> a(128 * 32), b(128 * 32), c(128 * 128), d(128 * 128);
  for (size_t i = 0; i < a.size(); i++) a[i] = float(i * 7 % 13), b[i] = float(i * 5 % 11);
  Memory before[] = {{a.data(), i64(a.size())}, {b.data(), i64(b.size())}, {c.data(), i64(c.size())}};
  Memory after[] = {before[0], before[1], {d.data(), i64(d.size())}};
  evaluate_kernel(p.sink, before);
  evaluate_kernel(simplify(apply_plan(p.sink, plan)), after);
  EXPECT_EQ(c, d) << print(plan);
}

TEST(Kernel, TransposeAndFlip) {
  Kernel k;
  U a = k.param(F32, 12 * 40), c = k.param(F32, 12 * 40, true), i = k.range(12), j = k.range(40);
  agree(k, {k.store(c, Expr(j) * 12 + i, k.load(a, Expr(i) * 40 + 39 - j), {i, j})}, 0, "transpose");
}

TEST(Kernel, SpillsUnderPressure) {
  Kernel k;
  i64 n = 48;
  U a = k.param(F32, n * 64), c = k.param(F32, n, true), r = k.range(n);
  std::vector<U> all;
  for (int i = 0; i < 64; i++) all.push_back(k.load(a, Expr(r) + i * n));
  U sum = all[0];
  for (int i = 1; i < 64; i++) sum = make_alu(Op::ADD, sum, all[size_t(i)]);
  for (int i = 63; i >= 0; i--)
    sum = make_alu(Op::SUB, make_alu(Op::MUL, sum, constant_float(F32, 0.5)), all[size_t(i)]);
  agree(k, {k.store(c, r, sum, {r})}, 1e-4, "pressure");
}

TEST(Kernel, StaysBelowAStepOfOccupancy) {
  const Target gpu{"rdna", "gfx1100", 0, 96};
  const Occupancy o = machine_of(gpu).occupancy;  // LLVM 19 for gfx1100: --amdgpu-num-vgpr and Occupancy
  for (auto [registers, waves] : {std::pair{1, 16}, {96, 16}, {97, 12}, {120, 12}, {121, 10}, {209, 7}, {256, 5}})
    EXPECT_EQ(o.waves(registers), waves) << registers;
  for (int waves = 5; waves <= 16; waves++) EXPECT_GE(o.waves(o.registers(waves)), waves);
  Kernel k;  // all values could be on their way at once, but they are added one after the other
  const i64 n = 8192, rows = 140;
  U a = k.param(F32, n * rows), c = k.param(F32, n, true), r = k.range(n), sum = k.load(a, r);
  for (i64 i = 1; i < rows; i++) sum = make_alu(Op::ADD, sum, k.load(a, Expr(r) + i * n));
  Program p = compile(make(Op::SINK, VOID, {k.store(c, r, sum, {r})}), k.params, "chain", gpu);
  EXPECT_LE(p.vectors, 96) << annotate(p);
  EXPECT_EQ(p.frame_bytes, 0);
  EXPECT_NE(annotate(p).find("16 waves a SIMD"), std::string::npos) << annotate(p);
  agree(k, {k.store(c, r, sum, {r})}, 1e-4, "chain");
}

// A condition that a wave shares branches over its access; one of lanes narrows EXEC, and branches when no lane is
// left.
TEST(Kernel, BranchesOverWhatNoLaneDoes) {
  const Target gpu{"rdna", "gfx1100", 0, 96};
  for (bool uniform : {true, false}) {
    Kernel k;
    const i64 n = 8192;
    U a = k.param(F32, 8 * n), c = k.param(F32, 10 * n, true), i = k.range(10), j = k.range(n);
    U inside = uniform ? Expr(i) < Expr(8) : (Expr(i) < Expr(8)) && (Expr(j) < Expr(5001));
    U store = k.store(c, Expr(i) * n + j, k.load(a, Expr(i) * n + j, inside), {i, j});
    agree(k, {store}, 0, uniform ? "a row or none" : "a corner");
    Scoped opt(ctx.OPT, 1);
    std::string text = annotate(compile(simplify(make(Op::SINK, VOID, {store})), k.params, "guarded", gpu));
    EXPECT_EQ(text.find("s_cbranch_scc0") != text.npos, uniform) << text;
    EXPECT_EQ(text.find("s_cbranch_execz") != text.npos, !uniform) << text;
    EXPECT_EQ(text.find("saveexec") != text.npos, !uniform) << text;
  }
}

TEST(Kernel, TheShortMultiplyAddIsTheSameOne) {  // v_fmac_f32, where nothing that it cannot say is said
  const isa::Isa& rdna = *isa::find_isa("rdna", "gfx1100");
  for (auto [given, wanted] : {std::pair{"v_fma_f32 v0, v1, v2, v0", "v_fmac_f32"},
                               {"v_fma_f32 v0, v1, v2, v3", "v_fma_f32 v0, v1, v2, v3"},
                               {"v_fma_f32 v0, v1, v2, v0 clamp", "v_fma_f32 v0, v1, v2, v0 clamp"},
                               {"v_fma_f32 v0, v1, v2, v0 mul:2", "v_fma_f32 v0, v1, v2, v0 mul:2"},
                               {"v_fma_f32 v0, -v1, v2, v0", "v_fma_f32 v0, -v1, v2, v0"},
                               {"v_fma_f32 v0, v1, v2, -v0", "v_fma_f32 v0, v1, v2, -v0"}}) {
    MachineCode code;
    std::string error;
    ASSERT_TRUE(rdna.parse(given, code.lines.emplace_back().inst, error)) << given << ": " << error;
    Program p;
    p.isa = "rdna", p.arch = "gfx1100";
    emit_rdna(code, p);
    EXPECT_NE(annotate(p).find(wanted), std::string::npos) << annotate(p);
  }
}

}  // namespace
}  // namespace ingot
