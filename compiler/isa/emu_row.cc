// SPDX-License-Identifier: MIT
// The evaluator: operands as rows see them, the steps of their meanings, and those functions of rdna_function.def that
// look at several lanes or at the state of the wave.
#include <algorithm>
#include <cmath>

#include "compiler/isa/emu.h"

namespace ingot::isa::emu {
using namespace fields;
using Result = hw::WaveResult;

// A register of 32 bits per lane may stand for Lanes: no more of it is there to copy.
static void copy(Lanes& to, const Lanes& from, bool wide) { std::memcpy(&to, &from, sizeof to / (wide ? 1 : 2)); }

// ---- operands ------------------------------------------------------------------------------------------------------
u64 Unit::special64(u32 reg) const {
  const u64 limit = ~u32(0), shared = core_.d.shared_aperture, own = core_.d.private_aperture;
  const u64 values[] = {shared, shared | limit, own, own | limit, 0};  // from src_shared_base on
  return reg == SCC_REGISTER       ? w_->scc()
         : reg == SCC_REGISTER - 1 ? w_->s[EXEC_LO] == 0
         : reg == SCC_REGISTER - 2 ? w_->s[VCC_LO] == 0
         : reg >= 235 && reg < 240 ? values[reg - 235]
                                   : 0;
}
u32 Unit::read_scalar(u32 reg) const { return reg == NULL_REGISTER ? 0 : reg < 128 ? w_->s[reg] : u32(special64(reg)); }
void Unit::write_scalar(u32 reg, u32 value) {
  if (reg < 128 && reg != NULL_REGISTER) w_->s[reg] = value;
}

u32 Unit::raw_dword(const Part& p, int k, int dword, int lane) const {
  if (k < 0) return 0;
  const Place& o = p.place[k];
  switch (o.kind) {
    case Place::VGPR:
      if (c_->m.dpp_kind && k == p.s[0]) {
        lane = dpp_lane_[lane];
        if (lane < 0) return 0;
      }
      return w_->v[o.reg + u32(dword)].lane[lane];
    case Place::SGPR: return w_->s[o.reg + u32(dword)];
    case Place::SPECIAL: return u32(special64(o.reg) >> 32 * dword);
    case Place::CONSTANT: return u32(o.constant >> (dword ? 32 : 0));
    case Place::MASK: return read_scalar(o.reg) >> lane & 1;
    case Place::FLAG: return w_->scc();
    default: return 0;
  }
}

// The bits of one element with the modifiers applied; element -1: of the whole operand, up to 64 bits.
u64 Unit::raw(const Part& p, int k, int element, int lane) const {
  const Place& o = p.place[k];
  const Row& r = *p.row;
  if (o.kind == Place::MASK) return raw_dword(p, k, 0, lane);
  bool halves = o.bits == 16 && r.spec[k].bits == 32;
  bool source = k == p.s[0] || k == p.s[1] || k == p.s[2];
  if (r.mixed && source) {  // f32, or a half of f16
    u32 word = raw_dword(p, k, 0, lane);
    if (o.modifiers & HALF_HI)
      word = __builtin_bit_cast(u32, float(decode_float(word >> (o.modifiers & HALF ? 16 : 0) & 65535, F16)));
    constexpr u32 sign = u32(1) << 31;
    if (o.modifiers & ABSOLUTE) word &= ~sign;
    if (o.modifiers & NEGATE) word ^= sign;
    return word;
  }
  if (element < 0 && halves) return raw(p, k, 0, lane) | raw(p, k, 1, lane) << 16;
  int e = std::max(element, 0);
  u64 v;
  bool negate = o.modifiers & NEGATE, absolute = o.modifiers & ABSOLUTE;
  if (r.spec[k].bits >= 64 && (o.bits == 64 || element < 0)) {
    v = raw_dword(p, k, 2 * e, lane) | u64(raw_dword(p, k, 2 * e + 1, lane)) << 32;
  } else if (o.bits == 16) {
    bool high = halves || r.spec[k].bits > 32 ? e & 1 : o.modifiers & HALF;
    if (r.format == VOP3P && halves && source)
      high = o.modifiers & (e ? HALF_HI : HALF), negate = o.modifiers & (e ? NEGATE_HI : NEGATE), absolute = false;
    v = raw_dword(p, k, e / 2, lane) >> (high ? 16 : 0) & 65535;
  } else {
    v = raw_dword(p, k, e, lane);
  }
  if (source && (negate || absolute) && (r.format != VOP3P || is_float(o.type))) {
    u64 sign = u64(1) << (o.bits - 1);
    if (absolute) v &= ~sign;
    if (negate) v ^= sign;
  }
  return flushes_ && source && is_float(o.type) ? flushed(v, o.type, mode_, false) : v;
}

const Lanes& Unit::fetch(const Part& p, int k, int element, Lanes& to) {
  const Place& o = p.place[k];
  int n = p.scalar ? 1 : wave_lanes;
  switch (o.kind) {
    case Place::VGPR: {
      bool plain = !(o.modifiers & ~LITERAL) && !(c_->m.dpp_kind && k == p.s[0]) && !(flushes_ && is_float(o.type));
      if (plain && o.bits == 32) return reinterpret_cast<const Lanes&>(w_->v[o.reg + u32(element)]);
      if (plain && o.bits == 64) {
        const Vector &low = w_->v[o.reg + 2 * u32(element)], &high = w_->v[o.reg + 2 * u32(element) + 1];
        for (int l = 0; l < n; l++) to.q[l] = low.lane[l] | u64(high.lane[l]) << 32;
        return to;
      }
      for (int l = 0; l < n; l++) decode_lane(o.type, raw(p, k, element, l), to, l);
      return to;
    }
    case Place::MASK: {
      u32 bits = read_scalar(o.reg);
      for (int l = 0; l < n; l++) to.u[l] = bits >> l & 1;
      return to;
    }
    case Place::FLAG:
      for (int l = 0; l < n; l++) to.u[l] = w_->scc();
      return to;
    case Place::COUNTER: return to.q[0] = next_pc_, to;
    case Place::MEMORY:
      if (o.bits == 32 && n > 1) return gather(to.u, host_ + element * 4, offset_, ~u32(0)), to;
      for (int l = 0; l < n; l++) {
        u64 bits = 0;
        std::memcpy(&bits, host_ + offset_[l] + element * (o.bits / 8), size_t(o.bits / 8));
        decode_lane(o.type, bits, to, l);
      }
      return to;
    default: {
      decode_lane(o.type, raw(p, k, element, 0), to, 0);
      if (held_in_64(o.type))
        std::fill(to.q + 1, to.q + n, to.q[0]);
      else
        std::fill(to.u + 1, to.u + n, to.u[0]);
      return to;
    }
  }
}

void Unit::evaluate(const Part& p, int element, const Lanes* (&value)[slots]) {
  value[0] = &temp_[0];
  for (int k = 0; k < p.row->specs; k++) {
    if (!(p.holes >> k & 1)) continue;
    value[k] = &fetch(p, k, element, temp_[k]);
    if (p.saturate && p.place[k].type != Scalar::BOOL) {
      Lanes narrow;
      copy(narrow, *value[k], false);
      conversion(p.place[k].type, Scalar::I64, false)(temp_[k], narrow, narrow, narrow);
      value[k] = &temp_[k];
    }
  }
  for (size_t i = 0; i < p.constant.size(); i++) value[first_constant + i] = &p.constant[i];
  for (const Step& s : p.steps) {
    Lanes& out = temp_[s.out];
    (p.scalar ? s.one : s.many)(out, *value[s.source[0]], *value[s.source[1]], *value[s.source[2]]);
    if (s.settle != Scalar::VOID) settle(out, s.settle, s.saturate, p.scalar ? 1 : wave_lanes, mode_);
    value[s.out] = &out;
  }
}

void Unit::write_bits(const Part& p, int k, int element, int lane, u64 bits) {
  const Place& o = p.place[k];
  if (o.kind != Place::VGPR) return;
  if (o.bits == 16) {
    bool high = p.row->spec[k].bits >= 32 || p.row->function == FMA_MIX_HIGH ? element & 1 : o.modifiers & HALF;
    u32& word = w_->v[o.reg + u32(element) / 2].lane[lane];
    word = high ? (word & 65535) | u32(bits) << 16 : (word & ~u32(65535)) | (u32(bits) & 65535);
  } else if (o.bits == 64) {
    w_->v[o.reg + 2 * u32(element)].lane[lane] = u32(bits);
    w_->v[o.reg + 2 * u32(element) + 1].lane[lane] = u32(bits >> 32);
  } else {
    w_->v[o.reg + u32(element)].lane[lane] = u32(bits);
  }
}

void Unit::write(const Part& p, int k, int element, const Lanes& v, u32 mask, bool nan) {
  const Place& o = p.place[k];
  switch (o.kind) {
    case Place::MASK: {
      u32 bits = 0;
      for (int l = 0; l < wave_lanes; l++) bits |= u32((v.u[l] & 1) << l);
      return write_scalar(o.reg, bits & mask);
    }
    case Place::FLAG: w_->s[scc_word] = v.u[0] & 1; return;
    case Place::COUNTER: next_pc_ = v.q[0]; return;
    case Place::SGPR: {
      u64 bits = encode_lane(o.type, v, 0);
      for (u32 i = 0, n = o.bits / 32; i < n; i++) w_->s[o.reg + n * u32(element) + i] = u32(bits >> 32 * i);
      return;
    }
    case Place::MEMORY:
      if (o.bits == 32) return scatter(v.u, host_ + element * 4, offset_, mask);
      for (int l = 0; l < wave_lanes; l++) {
        u64 bits = encode_lane(o.type, v, l);
        if (mask >> l & 1) std::memcpy(host_ + offset_[l] + element * (o.bits / 8), &bits, size_t(o.bits / 8));
      }
      return;
    case Place::VGPR: break;
    default: return;
  }
  bool limits = p.saturate, finish = c_->valu && is_float(o.type) && (c_->m.clamp || c_->m.omod || flushes_);
  if (o.bits == 32 && !limits && !finish) {
    Vector one;
    if (nan) one_nan_32(one.lane, v.u);
    return copy_under(w_->v[o.reg + u32(element)].lane, nan ? one.lane : v.u, mask);
  }
  for (int l = 0; l < wave_lanes; l++) {
    if (!(mask >> l & 1)) continue;
    u64 bits = limits ? saturated(v.s[l], o.type) : encode_lane(o.type, v, l);
    if (nan) bits = one_nan(bits, o.type);
    if (finish) bits = finish_float(bits, o.type, mode_, c_->m.omod, c_->m.clamp);
    write_bits(p, k, element, l, bits);
  }
}

// Where each lane's first source comes from, and which lanes are written.
void Unit::plan_dpp() {
  u32 word = u32(c_->m.dpp), control = state(CONTROL, word);
  bool eights = c_->m.dpp_kind == 2;
  for (int l = 0; l < wave_lanes; l++) {
    int i = l & 15, from = eights ? (i & 8) + int(word >> 3 * (i & 7) & 7) : (i & 12) + int(control >> 2 * (i & 3) & 3);
    bool there = true;
#define DPP_CONTROL(first, last, name, base, source, exists)                       \
  if (int n = int(control) - base; control >= first && control <= last && !eights) \
    from = source, there = exists, (void)n;
#include "compiler/isa/rdna_kind.def"
    from += l & 16;
    there = there && (c_->m.fetch_inactive || exec_ >> from & 1);
    bool kept = !eights && ((!there && !state(BOUND_CTRL, word)) || !(state(ROW_MASK, word) >> l / 16 & 1) ||
                            !(state(BANK_MASK, word) >> i / 4 & 1));
    if (kept) dpp_mask_ &= ~(u32(1) << l);
    dpp_lane_[l] = there ? i8(from) : i8(-1);
  }
}

// ---- instructions --------------------------------------------------------------------------------------------------
void Unit::execute(const Code& c) {
  if (c.refused) return refuse(c.refused);
  if (c.vgprs > w_->v.size())
    return stop(Result::VIOLATION, str(where(c), ": v", c.vgprs - 1, ", but the wave has ", w_->v.size(), " of them"));
  const Row& r = *c.part[0].row;
  dpp_mask_ = exec_ = w_->s[EXEC_LO];
  if (const u32 m = w_->mode; m != mode_word_) {
    mode_ = {u8(state(ROUND_32, m)), u8(state(ROUND_64, m)), u8(state(DENORM_32, m)), u8(state(DENORM_64, m)),
             state(MODE_CLAMP, m) != 0};
    mode_word_ = m;
  }
  flushes_ = c.valu && (mode_.denorm_32 != 3 || mode_.denorm_64 != 3);
  if (c.m.dpp_kind) plan_dpp();
  if (core_.options.checker) {
    check_before(c);
    if (core_.stopped) return;
    define(c);
  }
  if (r.format >= DS && r.function != NOTHING && r.function != INVALIDATE) return memory(c.part[0]);
  if (r.format == SMEM && r.effects) return scalar_load(c.part[0]);
  Scalar type = c.valu && c.part[0].d0 >= 0 ? c.part[0].place[c.part[0].d0].type : Scalar::VOID;
  HostRounding rounding(!is_float(type) ? 0 : type == Scalar::F32 ? mode_.round_32 : mode_.round_64);
  if (r.function == NO_FUNCTION)
    patterns(c);
  else
    for (int i = 0; i < c.parts && !core_.stopped; i++)
      c.part[i].row->function == NO_FUNCTION ? patterns(c) : function(c.part[i]);
}

void Unit::patterns(const Code& c) {
  const Lanes* value[slots];
  bool once = c.parts == 1 && c.part[0].effects == 1 && c.part[0].elements == 1;
  u32 mask = c.part[0].scalar ? 1 : dpp_mask_;
  auto put = [&](const Part& p, int k, int e, const Lanes& v) {
    write(p, p.effect[k].target, e, v, mask, p.effect[k].one_nan);
  };
  for (int i = 0; i < c.parts; i++) {
    const Part& p = c.part[i];
    for (int e = 0; e < p.elements; e++) {
      evaluate(p, e, value);
      if (once) return put(p, 0, 0, *value[p.effect[0].slot]);
      for (int k = 0; k < p.effects; k++)
        copy(result_lanes_[i][k][e], *value[p.effect[k].slot],
             held_in_64(p.place[p.effect[k].target].type) || p.saturate);
    }
  }
  for (int i = 0; i < c.parts; i++)
    for (int k = 0; k < c.part[i].effects; k++)
      for (int e = 0; e < c.part[i].elements; e++) put(c.part[i], k, e, result_lanes_[i][k][e]);
}

void Unit::wait(const Part& p) {
  std::string_view name = p.row->name;
  if (name == "s_wait_idle") return refuse("not modelled");
  WaveState& w = *w_;
  if (!w.checked) return;
  Checked& k = *w.checked;
  auto until = [&](Counter c, u32 n) {
    if (k.issued[c] > n) k.done[c] = std::max(k.done[c], k.issued[c] - n);
  };
  auto lgkm = [&](u32 n) {  // LDS answers in order, scalar loads in any
    until(LDS, n);
    if (!n) until(SMEM_COUNT, 0);
  };
  u32 imm = u32(p.place[p.simm].constant);
  if (p.row->format == SOPK) {
    u32 n = imm + read_scalar(p.place[p.d0].reg);
    if (name == "s_waitcnt_vscnt") until(VS, n);
    if (name == "s_waitcnt_vmcnt") until(VM, n);
    if (name == "s_waitcnt_lgkmcnt") lgkm(n);
    return;
  }
#define COUNTER(spelling, text, low, bits)                                        \
  if (p.row->kind[0] == KIND_##spelling) {                                        \
    u32 n = imm >> low & ((1 << bits) - 1);                                       \
    if (std::string_view(text) == "vmcnt") until(VM, n);                          \
    if (std::string_view(text) == "lgkmcnt") lgkm(n);                             \
    if (std::string_view(text) == "depctr_va_vdst" && !n) k.trans_clear = k.valu; \
  }
#include "compiler/isa/rdna_kind.def"
}

void Unit::move_relative(const Part& p) {
  std::string_view name = p.row->name;
  if (name.starts_with("v_swaprel")) return refuse("not modelled");
  WaveState& w = *w_;
  u32 m0 = w.s[M0_REGISTER], low = m0, high = m0;
  if (name.ends_with("_2_b32")) low = m0 & 255, high = m0 >> 16 & 1023;
  bool of_source = name.find("rels") != name.npos;
  bool of_result = name.find("reld") != name.npos || name.find("relsd") != name.npos;
  const Place &to = p.place[p.d0], &from = p.place[p.s[0]];
  u32 d = to.reg + (of_result ? high : 0), s = from.reg + (of_source ? low : 0);
  if (p.scalar) {
    u32 n = p.row->spec[p.d0].bits / 32;
    if (d + n > VCC_LO || (from.kind == Place::SGPR && s + n > VCC_LO))
      return object("M0 leads past the scalar registers");
    for (u32 i = 0; i < n; i++) {
      w.s[d + i] = from.kind == Place::SGPR ? w.s[s + i] : raw_dword(p, p.s[0], int(i), 0);
      if (w.checked) w.checked->s[d + i] = true;
    }
    return;
  }
  if (d >= w.v.size() || (from.kind == Place::VGPR && s >= w.v.size()))
    return object("M0 leads past the vector registers");
  bool of_vector = from.kind == Place::VGPR;
  if (Checked* k = w.checked.get()) {
    for (u32 v : {d, of_vector ? s : d})
      if (k->outstanding(k->v_pending[v])) return object(str("v", v, ", which M0 leads to, waits for a load"));
    Defined fresh = of_vector ? k->v[s] : Defined{{~u32(0), ~u32(0)}};
    for (int h = 0; h < 2; h++) k->v[d].half[h] = (k->v[d].half[h] & ~exec_) | (fresh.half[h] & exec_);
  }
  for (int l = 0; l < wave_lanes; l++)
    if (exec_ >> l & 1) w.v[d].lane[l] = of_vector ? w.v[s].lane[l] : raw_dword(p, p.s[0], 0, l);
}

void Unit::hardware_register(const Part& p) {
  WaveState& w = *w_;
  int k = -1;
  for (int i = 0; i < p.row->shown; i++)
    if (p.row->kind[i] == KIND_hwreg) k = i;
  u32 word = u32(p.place[k].constant), at = state(OFFSET_BITS, word), size = state(SIZE_BITS, word) + 1;
  std::string_view reg;
#define SYMBOL(spelling, value, name) \
  if (KIND_##spelling == KIND_hwreg && value == state(REGISTER, word)) reg = name;
#include "compiler/isa/rdna_kind.def"
  u32 mask = u32(((u64(1) << size) - 1) << at);
  if (p.row->function == SET_REGISTER) {
    u32 v = raw_dword(p, k == 0 ? 1 : 0, 0, 0);
    if (reg == "HW_REG_MODE") w.mode = (w.mode & ~mask) | (v << at & mask);
    return;
  }
  u32 v = reg == "HW_REG_MODE" ? w.mode : reg == "HW_REG_SHADER_CYCLES" ? u32(ran_) : 0;
  write_scalar(p.place[p.d0].reg, (v & mask) >> at);
}

void Unit::barrier() {
  WaveState& w = *w_;
  if (Checked* k = w.checked.get()) {
    if (exec_ != w.initial_exec) return object("a barrier that not every work-item of the wave reaches");
    if (k->issued[LDS] > k->done[LDS]) object("a barrier while this wave's LDS operations are on their way (lgkmcnt)");
  }
  w.status = WaveState::AT_BARRIER;
  std::erase(ready_, &w);
  int waiting = 0;
  for (auto& other : w.group->waves) {
    waiting += other->status == WaveState::AT_BARRIER;
    if (other->status == WaveState::ENDED)
      object(str("a barrier that wave ", other->index, ", which has ended, never reaches"));
    if (other->status == WaveState::AT_BARRIER && other.get() != &w && other->pc != next_pc_)
      object(str("a barrier while wave ", other->index, " waits at another, before ", hex(other->pc)));
  }
  if (waiting == w.group->running)
    for (auto& other : w.group->waves)
      if (other->status == WaveState::AT_BARRIER) other->status = WaveState::READY, ready_.push_back(other.get());
}

void Unit::function(const Part& p) {
  const Row& r = *p.row;
  WaveState& w = *w_;
  switch (r.function) {
    case NOTHING:
    case KEEP_TOGETHER:
    case SLEEP:
    case BRANCH_DEBUG: return;
    case WAIT: return wait(p);
    case END: return end(w);
    case BARRIER: return barrier();
    case HALT:
    case TRAP: return refuse("the wave halts");
    case SEND_MESSAGE:
      if (p.d0 >= 0) write_scalar(p.place[p.d0].reg, u32(ran_)), issue(p);
      return;
    case SET_MODE: {
      int at = state_rows[std::string_view(r.name) == "s_round_mode" ? ROUND_32 : DENORM_32].low;
      w.mode = (w.mode & ~(u32(15) << at)) | (u32(p.place[p.simm].constant) & 15) << at;
      return;
    }
    case GET_REGISTER:
    case SET_REGISTER: return hardware_register(p);
    case INVALIDATE: {
      std::string_view name = r.name;
      std::lock_guard lock(core_.mutex);
      return core_.memory->invalidate(name == "s_dcache_inv", name.starts_with("buffer_gl"), name == "s_icache_inv");
    }
    case MOVE_RELATIVE: return move_relative(p);
    case MATRIX: return matrix(p);
    default: return lanes(p);
  }
}

// Functions of rows that look at lanes, one or several.
void Unit::lanes(const Part& p) {
  const Row& r = *p.row;
  WaveState& w = *w_;
  switch (r.function) {
    case READ_LANE: return write_scalar(p.place[p.d0].reg, raw_dword(p, p.s[0], 0, lane_read(p)));
    case WRITE_LANE: w.v[p.place[p.d0].reg].lane[raw_dword(p, p.s[1], 0, 0) & 31] = raw_dword(p, p.s[0], 0, 0); return;
    case COUNT_ONES_BELOW:
      for (int l = 0; l < wave_lanes; l++)
        if (dpp_mask_ >> l & 1) {
          u32 below = std::string_view(r.name).find("_hi_") != std::string_view::npos ? 0 : (u32(1) << l) - 1;
          write_bits(p, p.d0, 0, l,
                     raw_dword(p, p.s[1], 0, l) + u32(__builtin_popcount(raw_dword(p, p.s[0], 0, l) & below)));
        }
      return;
    case PERMUTE_LANES: {
      Vector out = w.v[p.place[p.d0].reg];
      bool crosses = std::string_view(r.name) == "v_permlanex16_b32", plain = p.s[1] < 0;
      bool fetch_inactive = p.place[p.s[0]].modifiers & HALF, bound = !plain && p.place[p.s[1]].modifiers & HALF;
      for (int l = 0; l < wave_lanes; l++) {
        if (!(exec_ >> l & 1)) continue;
        int from = l;
        if (!plain)
          from = ((l & 16) ^ (crosses ? 16 : 0)) + int(raw_dword(p, p.s[l & 8 ? 2 : 1], 0, 0) >> 4 * (l & 7) & 15);
        if (exec_ >> from & 1 || fetch_inactive)
          out.lane[l] = w.v[p.place[p.s[0]].reg].lane[from];
        else if (bound)
          out.lane[l] = 0;
      }
      w.v[p.place[p.d0].reg] = out;
      return;
    }
    default: break;
  }
  LaneCall call;
  call.row = &r, call.clamp = c_->m.clamp, call.mode = &mode_;
  bool masks = r.function == CLASSIFY || p.d1 >= 0;
  u32 mask_out = 0, lanes = p.scalar ? 1 : dpp_mask_;
  int mask_at = p.d1 >= 0 ? p.d1 : p.d0;
  for (int i = 0; i < 2; i++)
    if (p.s[i] >= 0 && p.place[p.s[i]].modifiers & NEGATE && !is_float(p.place[p.s[i]].type))
      call.is_signed |= u8(1 << i);
  u64 results[wave_lanes] = {};
  for (int l = 0; l < (p.scalar ? 1 : wave_lanes); l++) {
    if (!(lanes >> l & 1)) continue;
    for (int i = 0; i < 3; i++)
      if (p.s[i] >= 0) call.s[i] = raw(p, p.s[i], -1, l);
    if (p.d0 >= 0 && !p.scalar && r.function == DOT)
      call.old = p.place[p.d0].kind == Place::VGPR ? w.v[p.place[p.d0].reg].lane[l] : 0;
    call.flag = w.s[VCC_LO] >> l & 1;
    if (!lane_function(call)) return refuse("not modelled");
    results[l] = call.d[0];
    mask_out |= u32(call.out) << l;
  }
  if (p.scalar) {
    const Place& d = p.place[p.d0];
    write_scalar(d.reg, u32(results[0]));
    if (r.spec[p.d0].bits == 64 && d.scalar()) write_scalar(d.reg + 1, u32(results[0] >> 32));
    for (int i = r.shown; i < r.specs; i++)
      if (p.place[i].kind == Place::FLAG && r.spec[i].access & OperandSpec::WRITE) w.s[scc_word] = call.out;
    return;
  }
  if (masks) {
    write_scalar(mask_at >= 0 ? p.place[mask_at].reg : EXEC_LO, mask_out);  // v_cmpx names none
    if (r.function == CLASSIFY) return;
  }
  const Place& d = p.place[p.d0];
  bool whole = r.spec[p.d0].bits == 32 && d.bits == 16;
  for (int l = 0; l < wave_lanes; l++) {
    if (!(lanes >> l & 1)) continue;
    u64 bits = results[l];
    if (is_float(d.type) && !whole && r.function != DIVIDE_SCALE)
      bits = finish_float(bits, d.type, mode_, c_->m.omod, c_->m.clamp);
    if (whole)
      w.v[d.reg].lane[l] = u32(bits);
    else
      write_bits(p, p.d0, r.function == FMA_MIX_HIGH, l, bits);
  }
}

// D = A * B + C. Lane l has row l % 16 of A and column l % 16 of B, elements along k packed from the lowest bits of the
// first register on; C and D: column l % 16, in register r row 2r + l / 16.
void Unit::matrix(const Part& p) {
  const Row& r = *p.row;
  WaveState& w = *w_;
  const Place &d = p.place[p.d0], &a = p.place[p.s[0]], &b = p.place[p.s[1]], &c = p.place[p.s[2]];
  if (core_.options.checker && exec_ != ~u32(0)) return object("a matrix instruction needs every lane");
  bool integers = !is_float(a.type);
  int bits = !integers ? 16 : r.spec[p.s[0]].bits == 128 ? 8 : 4, per_word = 32 / bits;
  double matrix[2][16][16];  // sums of integers are exact too
  for (int i = 0; i < 16; i++)
    for (int k = 0; k < 16; k++)
      for (int second = 0; second < 2; second++) {
        const Place& o = second ? b : a;
        const u32* words = w.v[o.reg + u32(k / per_word)].lane;
        if (core_.options.checker && words[i] != words[i + 16])
          return object(str("lanes ", i, " and ", i + 16, " of ", second ? "B" : "A", " differ"));
        u32 v = words[i] >> (k % per_word * bits) & ((u32(1) << bits) - 1);
        if (!integers && o.modifiers & (k & 1 ? NEGATE_HI : NEGATE)) v ^= 1 << 15;
        matrix[second][i][k] = !integers              ? decode_float(v, {o.type})
                               : o.modifiers & NEGATE ? double(sign_extended(v, bits))
                                                      : v;
      }
  int high = c.modifiers & HALF ? 16 : 0;  // which half of C's and D's registers, when they are of 16 bits
  std::vector<Vector> out(w.v.begin() + d.reg, w.v.begin() + d.reg + 8);
  for (u32 x = 0; x < 8; x++)
    for (int l = 0; l < wave_lanes; l++) {
      u32 word = c.kind == Place::VGPR ? w.v[c.reg + x].lane[l] >> (d.bits == 16 ? high : 0) : u32(c.constant);
      double sum = integers ? i32(word) : decode_float(d.bits == 16 ? word & 65535 : word, {d.type});
      if (c.modifiers & ABSOLUTE) sum = std::abs(sum);
      if (c.modifiers & NEGATE) sum = -sum;
      for (int k = 0; k < 16; k++) sum += matrix[0][2 * x + u32(l) / 16][k] * matrix[1][l % 16][k];
      u32& to = out[x].lane[l];
      if (integers)
        to = u32(c_->m.clamp ? i64(std::clamp(sum, -0x1p31, 0x1p31 - 1)) : i64(sum));
      else if (u32 result = u32(encode_float(sum, {d.type})); d.bits == 16)
        to = (to & ~(u32(65535) << high)) | result << high;
      else
        to = result;
    }
  std::copy(out.begin(), out.end(), w.v.begin() + d.reg);
}

}  // namespace ingot::isa::emu
