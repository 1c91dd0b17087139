// SPDX-License-Identifier: MIT
// Runs a graph of elementwise ops over arrays: what a decomposition computes, before and beside machine code.
// The graph's leaves are PARAMs (slot 0, 1, …), read one element per lane. It becomes a list of steps once; each step
// is a loop over up to `width` elements, in the arithmetic of the dtype (f32 in float, so that every rounding is the
// target's).
#pragma once
#include <cmath>

#include "compiler/uop/uop.h"

namespace ingot {

class Lanes {
 public:
  static constexpr i64 width = 1024;
  explicit Lanes(U root) {
    UMap<u32> slots;
    values_.emplace_back(size_t(width), 0);  // slot 0: parameters that the graph does not read
    for (U u : toposort(root)) {
      Step s{u->op, u->dtype.scalar, u->nsrc ? u->src(0)->dtype.scalar : Scalar::VOID, {}, 0};
      for (u32 k = 0; k < u->nsrc; k++) s.src[k] = *slots.find(u->src(int(k)));
      slots[u] = s.out = u32(values_.size());
      steps_.push_back(s);
      values_.emplace_back(size_t(width), 0);
      if (u->op == Op::CONST) fill(s.out, u);
      if (u->op == Op::PARAM)
        params_.resize(std::max(params_.size(), size_t(u->arg(0)) + 1)), params_[size_t(u->arg(0))] = s.out;
    }
  }
  template <class T>
  T* in(int param) {
    return at<T>(size_t(param) < params_.size() ? params_[size_t(param)] : 0);
  }  // fill these, run(), read out()
  template <class T>
  const T* out() {
    return at<T>(u32(values_.size() - 1));
  }
  size_t steps() const { return steps_.size(); }

  __attribute__((target("avx2,fma"), optimize("O3"))) void run(i64 n = width) {
    for (const Step& s : steps_) {
      switch (s.source) {
        case Scalar::F32: floats<f32, u32>(s, n); break;
        case Scalar::F64: floats<f64, u64>(s, n); break;
        case Scalar::I32: integers<i32>(s, n); break;
        case Scalar::U32: integers<u32>(s, n); break;
        case Scalar::I64:
        case Scalar::IDX: integers<i64>(s, n); break;
        case Scalar::U64: integers<u64>(s, n); break;
        case Scalar::I8: integers<i8>(s, n); break;
        case Scalar::U8: integers<u8>(s, n); break;
        case Scalar::I16: integers<i16>(s, n); break;
        case Scalar::U16: integers<u16>(s, n); break;
        case Scalar::BOOL: bools(s, n); break;
        case Scalar::VOID: break;  // CONST, PARAM
        default: narrow(s, n);
      }
    }
  }

 private:
  struct Step {
    Op op;
    Scalar dtype, source;
    u32 src[3], out;
  };
  template <class T>
  T* at(u32 slot) {
    return reinterpret_cast<T*>(values_[slot].data());
  }
  void fill(u32 slot, U u) {
    Value v{.i = u->arg(0)};
    if (u->dtype.is_float()) v.f = u->const_float();
    for (i64 i = 0; i < width; i++) store_element(values_[slot].data(), i, u->dtype, v);
  }
#define EACH(T, R, ...)                                                  \
  {                                                                      \
    [[maybe_unused]] const T *a = at<T>(s.src[0]), *b = at<T>(s.src[1]); \
    R* r = at<R>(s.out);                                                 \
    for (i64 i = 0; i < n; i++) r[i] = R(__VA_ARGS__);                   \
    return;                                                              \
  }
#define KERNEL __attribute__((target("avx2,fma"), optimize("O3"), noinline))
  template <class T>
  KERNEL void choose(const Step& s, i64 n) {
    const u8* c = at<u8>(s.src[0]);
    const T *p = at<T>(s.src[1]), *q = at<T>(s.src[2]);
    T* r = at<T>(s.out);
    for (i64 i = 0; i < n; i++) r[i] = c[i] ? p[i] : q[i];
  }
  template <class T, class B>
  KERNEL void floats(const Step& s, i64 n) {
    const T* c = at<T>(s.src[2]);
    switch (s.op) {
      case Op::ADD: EACH(T, T, a[i] + b[i])
      case Op::SUB: EACH(T, T, a[i] - b[i])
      case Op::MUL: EACH(T, T, a[i] * b[i])
      case Op::FDIV: EACH(T, T, a[i] / b[i])
      case Op::FMA: EACH(T, T, std::fma(a[i], b[i], c[i]))
      case Op::NEG: EACH(T, T, -a[i])
      case Op::SQRT: EACH(T, T, std::sqrt(a[i]))
      case Op::ROUND: EACH(T, T, std::nearbyint(a[i]))
      case Op::FLOOR: EACH(T, T, std::floor(a[i]))
      case Op::TRUNC: EACH(T, T, std::trunc(a[i]))
      case Op::MAX: EACH(T, T, a[i] != a[i] ? a[i] : b[i] != b[i] ? b[i] : a[i] < b[i] ? b[i] : a[i])
      case Op::MIN: EACH(T, T, a[i] != a[i] ? a[i] : b[i] != b[i] ? b[i] : b[i] < a[i] ? b[i] : a[i])
      case Op::CMPLT: EACH(T, u8, a[i] < b[i])
      case Op::CMPEQ: EACH(T, u8, a[i] == b[i])
      case Op::CMPNE: EACH(T, u8, a[i] != b[i])
      case Op::BITCAST: EACH(B, B, a[i])
      case Op::CAST:
        switch (s.dtype) {
          case Scalar::F32: EACH(T, f32, a[i])
          case Scalar::F64: EACH(T, f64, a[i])
          case Scalar::I32: EACH(T, i32, a[i] >= T(-0x1p31) && a[i] < T(0x1p31) ? i32(a[i]) : INT32_MIN)  // as x86
          case Scalar::I64:
          case Scalar::IDX: EACH(T, i64, a[i] >= T(-0x1p63) && a[i] < T(0x1p63) ? i64(a[i]) : INT64_MIN)
          case Scalar::U32: EACH(T, u32, a[i] > -1 && a[i] < T(0x1p32) ? u32(a[i]) : UINT32_MAX)
          case Scalar::U64: EACH(T, u64, a[i] > -1 && a[i] < T(0x1p64) ? u64(a[i]) : UINT64_MAX)
          default: return narrow(s, n);
        }
      default: throw Error("lanes cannot run ", s.op, " on floats");
    }
  }
  template <class T>
  KERNEL void integers(const Step& s, i64 n) {
    using Unsigned = std::make_unsigned_t<T>;
    constexpr int mask = sizeof(T) * 8 - 1;
    switch (s.op) {
      case Op::ADD: EACH(Unsigned, Unsigned, a[i] + b[i])
      case Op::SUB: EACH(Unsigned, Unsigned, a[i] - b[i])
      case Op::MUL: EACH(Unsigned, Unsigned, u64(a[i]) * u64(b[i]))
      case Op::NEG: EACH(Unsigned, Unsigned, -u64(a[i]))
      case Op::AND: EACH(T, T, a[i] & b[i])
      case Op::OR: EACH(T, T, a[i] | b[i])
      case Op::XOR: EACH(T, T, a[i] ^ b[i])
      case Op::SHL: EACH(Unsigned, Unsigned, u64(a[i]) << (b[i] & mask))
      case Op::SHR: EACH(T, T, a[i] >> (b[i] & mask))
      case Op::MAX: EACH(T, T, a[i] < b[i] ? b[i] : a[i])
      case Op::MIN: EACH(T, T, b[i] < a[i] ? b[i] : a[i])
      case Op::CMPLT: EACH(T, u8, a[i] < b[i])
      case Op::CMPEQ: EACH(T, u8, a[i] == b[i])
      case Op::CMPNE: EACH(T, u8, a[i] != b[i])
      case Op::BITCAST: EACH(T, T, a[i])
      case Op::CAST:
        switch (s.dtype) {
          case Scalar::F32: EACH(T, f32, a[i])
          case Scalar::F64: EACH(T, f64, a[i])
          case Scalar::I8:
          case Scalar::U8: EACH(T, u8, a[i])
          case Scalar::I16:
          case Scalar::U16: EACH(T, u16, a[i])
          case Scalar::I32:
          case Scalar::U32: EACH(T, u32, a[i])
          case Scalar::I64:
          case Scalar::U64:
          case Scalar::IDX: EACH(T, u64, i64(a[i]))
          default: return narrow(s, n);
        }
      default: narrow(s, n);
    }
  }
  KERNEL void bools(const Step& s, i64 n) {
    if (s.op == Op::WHERE) {
      switch (DType{s.dtype}.bits()) {
        case 8: return choose<u8>(s, n);
        case 16: return choose<u16>(s, n);
        case 32: return choose<u32>(s, n);
        default: return choose<u64>(s, n);
      }
    }
    switch (s.op) {
      case Op::AND: EACH(u8, u8, a[i] & b[i])
      case Op::OR: EACH(u8, u8, a[i] | b[i])
      case Op::XOR: EACH(u8, u8, a[i] ^ b[i])
      default: narrow(s, n);
    }
  }
  void narrow(const Step& s, i64 n) {  // anything else, an element at a time through the reference
    DType from{s.source}, to{s.dtype};
    int count = row(s.op).sources;
    for (i64 i = 0; i < n; i++) {
      Value v[3] = {};
      for (int k = 0; k < count; k++) v[k] = load_element(values_[s.src[k]].data(), i, from);
      Value r = s.op == Op::CAST ? convert(v[0], from, to) : evaluate_op(s.op, to, from, v[0], v[1], v[2]);
      store_element(values_[s.out].data(), i, to, r);
    }
  }
#undef KERNEL
#undef EACH

  std::vector<Step> steps_;
  std::vector<std::vector<u64>> values_;
  std::vector<u32> params_;
};

}  // namespace ingot
