// SPDX-License-Identifier: MIT
// A shader core in software: a hw::Wave for models to dispatch to, made by make_emulator(). The rest is what its two
// parts share: emu.cc is the machine and its checker, emu_lanes.cc the arithmetic.
#pragma once
#include "compiler/isa/rdna.h"
#include "userspace/hw/bus.h"

namespace ingot::isa::emu {

// ---- emu.cc --------------------------------------------------------------------------------------------------------
struct EmulatorOptions {
  std::string arch = "gfx1100";
  std::string kernel;      // its name, for reports
  bool checker = true;     // objects to missing waits, hazards, undefined registers, divergent barriers
  bool unaligned = false;  // SH_MEM_CONFIG.alignment_mode is UNALIGNED: only atomic operations must be aligned
  std::function<std::string(u64 pc)> source;  // what the instruction there was made from, for reports
};
std::unique_ptr<hw::Wave> make_emulator(const EmulatorOptions& options);

inline constexpr int wave_lanes = 32;

// One value per lane. A dtype of up to 32 bits is held in 32: integers sign- or zero-extended, floats as f32.
union alignas(64) Lanes {
  u32 u[wave_lanes];
  i32 i[wave_lanes];
  u64 q[wave_lanes];
  i64 s[wave_lanes];
  f32 f[wave_lanes];
  f64 d[wave_lanes];
};
inline bool held_in_64(Scalar s) { return dtype_rows[int(s)].bits == 64; }

// ---- emu_lanes.cc --------------------------------------------------------------------------------------------------
struct FloatMode {  // the MODE register's part
  u8 round_32 = 0, round_64 = 0, denorm_32 = 3, denorm_64 = 3;
  bool clamp_nan = true;  // to 0
};
using Loop = void (*)(Lanes& out, const Lanes& a, const Lanes& b, const Lanes& c);
// The value column of op.def over all lanes, or over lane 0 alone. Casts of floats to integers saturate and NaN gives
// 0, as the hardware has it. nullptr: not for this dtype.
Loop arithmetic(Op op, Scalar source, bool one_lane);
Loop conversion(Scalar from, Scalar to, bool one_lane);
void settle(Lanes& v, Scalar dtype, bool saturate, int lanes, const FloatMode& mode);  // wraps or rounds to the dtype
u64 encode_lane(Scalar dtype, const Lanes& v, int lane);                               // bits, zero-extended
void decode_lane(Scalar dtype, u64 bits, Lanes& v, int lane);
u64 saturated(i64 v, Scalar dtype);
u64 flushed(u64 bits, Scalar dtype, const FloatMode& mode, bool result);  // a denormal becomes zero where MODE says so
u64 finish_float(u64 bits, Scalar dtype, const FloatMode& mode, int omod, bool clamp);
// Rounds the host's arithmetic as the mode says, for its lifetime.
struct HostRounding {
  explicit HostRounding(int mode);
  ~HostRounding();
  bool changed;
};

// A function of rdna_function.def that needs one lane only: bits in, bits out.
struct LaneCall {
  const rdna::Row* row;
  u64 s[3] = {};      // S0, S1, S2, their modifiers applied
  u64 old = 0;        // D0 before
  bool flag = false;  // VCC in this lane
  u8 is_signed = 0;   // bit per source: neg of integer dot products
  bool clamp = false;
  const FloatMode* mode = nullptr;
  u64 d[4] = {};     // D0, from the lowest dword on in 64-bit pieces
  bool out = false;  // SCC, or D1 in this lane
};
bool lane_function(LaneCall& call);  // false: not a function of one lane

}  // namespace ingot::isa::emu
