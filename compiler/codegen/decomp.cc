// SPDX-License-Identifier: MIT
// Ops that targets lack, from ops that they have: rows where a pattern says it, functions where something is computed.
//
// One idea: a decomposition is a rewrite rule like any other. A rule takes one op out of the graph and puts in ops that are
// nearer to the machine, which the driver rewrites again until only what NativeOps allows is left. Everything is
// lane-wise and free of branches and tables, so one rule serves a scalar, a vector of 64 and a GPU wave alike.
#include "compiler/codegen/codegen.h"

namespace ingot {
namespace {
using namespace holes;

// ---- what targets have ---------------------------------------------------------------------------------------------
enum Width : u8 { SCALAR = 1, VECTOR = 2, BOTH = 3 };
constexpr u64 ops(std::initializer_list<Op> list) {
  u64 bits = 0;
  for (Op o : list) bits |= u64(1) << int(o);
  return bits;
}
constexpr u32 types(std::initializer_list<DType> list) {
  u32 bits = 0;
  for (DType t : list) bits |= u32(1) << int(t.scalar);
  return bits;
}
static_assert(int(Op::FMA) < 64, "elementwise ops no longer fit the bits of NativeOps");

struct OpsRow {
  const char* isa;
  u64 features;  // that the target must have
  Width width;
  u32 dtypes;
  u64 ops;
};
struct CastRow {
  const char* isa;
  u64 features;
  Width width;
  u32 from, to;
};
using enum Op;
constexpr u64 AVX2 = isa::x86::AVX2, AVX512 = isa::x86::AVX2 | isa::x86::AVX512;
constexpr u32 any_int = types({I8, U8, I16, U16, I32, U32, I64, U64, IDX}), int32s = types({I32, U32}),
              int64s = types({I64, U64, IDX}), floats = types({F32, F64});
constexpr u64 bit_ops = ops({ADD, SUB, NEG, AND, OR, XOR, SHL, CMPEQ, CMPNE, WHERE});
// Facts: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2. What takes a fixed handful of instructions
// without a constant in memory (a vector narrowing, NaN-propagating MIN) counts as native; isel does it.
constexpr OpsRow native_rows[] = {
    {"x86", AVX2,   BOTH,   floats,               ops({ADD, SUB, MUL, FDIV, SQRT, FMA, NEG, MIN, MAX, ROUND, FLOOR, TRUNC,
                                                       CMPLT, CMPEQ, CMPNE, WHERE})},
    {"x86", AVX2,   BOTH,   any_int & (int32s | int64s), bit_ops},
    {"x86", AVX2,   BOTH,   int32s,               ops({MUL, SHR})},
    {"x86", AVX2,   VECTOR, int32s,               ops({MIN, MAX})},
    {"x86", AVX2,   BOTH,   types({I32, I64, IDX}), ops({CMPLT})},
    {"x86", AVX2,   BOTH,   types({U64}),         ops({SHR})},
    {"x86", AVX2,   SCALAR, int32s | int64s,      ops({IDIV, MOD, CMPLT})},
    {"x86", AVX2,   SCALAR, int64s,               ops({MUL, SHR})},
    {"x86", AVX512, VECTOR, int32s | int64s,      ops({CMPLT, MIN, MAX})},
    {"x86", AVX512, VECTOR, int64s,               ops({MUL, SHR})},
};
constexpr CastRow native_casts[] = {
    {"x86", AVX2,   BOTH,   any_int,              any_int},
    {"x86", AVX2,   BOTH,   types({F32, F16}),    types({F32, F16})},
    {"x86", AVX2,   BOTH,   floats,               floats | types({I32})},
    {"x86", AVX2,   BOTH,   types({I32}),         floats},
    {"x86", AVX2,   SCALAR, floats,               types({I64, IDX})},
    {"x86", AVX2,   SCALAR, types({I64, IDX}),    floats},
    {"x86", AVX512, BOTH,   floats,               int32s | int64s},
    {"x86", AVX512, BOTH,   int32s | int64s,      floats},
};

// ---- identities ------------------------------------------------------------------------------------------------------
constexpr Rule identity_rules[] = {
    {op(RECIP, x), fdiv(1.0, x)},
    {op(RSQRT, x), fdiv(1.0, op(SQRT, x))},
};

}  // namespace

NativeOps native_ops(const Target& target) {
  NativeOps native;
  bool known = false;
  auto each = [](Width width, u32 dtypes, auto&& f) {
    for (int vector = 0; vector < 2; vector++)
      for (size_t t = 0; t < NativeOps::dtypes; t++)
        if (width >> vector & 1 && dtypes >> t & 1) f(vector, t);
  };
  for (const OpsRow& r : native_rows)
    if (target.isa == r.isa && (target.features & r.features) == r.features)
      known = true, each(r.width, r.dtypes, [&](int vector, size_t t) { native.ops[vector][t] |= r.ops; });
  for (const CastRow& r : native_casts)
    if (target.isa == r.isa && (target.features & r.features) == r.features)
      each(r.width, r.from, [&](int vector, size_t t) { native.casts[vector][t] |= r.to; });
  if (!known) throw Error("no native ops are known for ", target.isa, " with features ", hex(target.features));
  return native;
}

const RuleList& decompositions() {
  static const RuleList list{{"identities", Arithmetic::FLOAT_EXACT, identity_rules}};
  return list;
}
U decompose(U root, const NativeOps& native) {
  return rewrite(root, decompositions(), const_cast<NativeOps*>(&native));
}
U decompose(U root, const Target& target) { return decompose(root, native_ops(target)); }

}  // namespace ingot
