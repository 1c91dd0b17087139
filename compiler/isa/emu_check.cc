// SPDX-License-Identifier: MIT
// The checker: what silicon punishes without a word.
//
// Loads finish at once but their registers stay pending until a wait has brought the counter down far enough: reading
// or overwriting one before that is a violation, whatever the timing on silicon would have been. Stores stay pending in
// the same way for everybody but the wave that made them. Undefined registers spread like values, and are a violation
// where they choose an address, a branch or EXEC, or leave for memory that others see; so a copy of garbage is no error
// and a use of it is. Hazards: LLVM 19, GCNHazardRecognizer.cpp.
#include <algorithm>

#include "compiler/isa/emu.h"

namespace ingot::isa::emu {
using namespace fields;
using hw::Access;

static std::string scalar_name(u32 reg) {
  return reg < VCC_LO ? str("s", reg) : reg < VCC_LO + 2 ? "vcc" : reg == M0_REGISTER ? "m0" : "exec";
}

// Counts the instruction and makes its results wait for that count.
void Unit::issue(const Part& p) {
  const Row& r = *p.row;
  if (!w_->checked) return;
  Checked& seen = *w_->checked;
  Pending pending;
  pending.pc = c_->pc;
  for (int c = 0; c < QUEUES; c++)
    if (r.queues >> c & 1) pending.at[c] = ++seen.issued[c];
  if (p.d0 < 0) return;
  const Place& d = p.place[p.d0];
  for (u32 i = 0; i < d.count; i++) {
    if (d.kind == Place::VGPR) seen.v_pending[d.reg + i] = pending;
    if (d.scalar()) seen.s_pending[d.reg + i] = pending;
  }
}

// Reads what another wave has written: it must have waited for the store.
void Unit::unseen(const Store& last, u64 address) {
  const WaveState* other = wave_[last.wave];
  if ((other ? other->checked->done[last.counter] : last_counts_[last.wave][last.counter]) >= last.at) return;
  object(str(
      "reads ", hex(address), ", which ",
      other ? str("group ", std::span(other->group->id), " wave ", other->index) : std::string("a wave that has ended"),
      " wrote and has not waited for (", queues[last.counter].counter, ")"));
}

// Is the access aligned; who wrote this last, and may it be seen yet?
void Unit::audit(Access kind, int lane, i64 bytes) {
  const u64 address = addresses_[lane], last = (address + u64(bytes) - 1) / 4;
  const Row& r = *c_->part[0].row;
  bool atomic = r.cls == CLASS_atomic, lds = spaces_[lane] == Space::LDS;
  i64 alignment = bytes == 12                          ? 4
                  : atomic || !core_.options.unaligned ? std::min<i64>(bytes, atomic || lds ? 16 : 4)
                                                       : 1;
  if (address & u64(alignment - 1))
    return object(str("lane ", lane, " reaches ", bytes, " bytes at ", hex(address), ", not aligned to ", alignment));
  if (spaces_[lane] == Space::SCRATCH || (lds && last >= w_->group->lds_store.size())) return;
  for (u64 a = address / 4; a <= last; a++) {
    u64 first = std::max(address, a * 4) - a * 4, end = std::min(address + u64(bytes), a * 4 + 4) - a * 4;
    u8 mask = u8((1 << end) - (1 << first));
    if (kind == Access::WRITE) {
      Counter c = lds ? LDS : atomic && r.returns ? VM : VS;
      Store& s = lds ? w_->group->lds_store[a] : stores_[a];
      s = {w_->number, u8(c), atomic, w_->checked->issued[c], u8(mask | (s.wave == w_->number ? s.bytes : 0))};
      continue;
    }
    auto in_memory = lds ? stores_.end() : stores_.find(a);
    if (!lds && in_memory == stores_.end()) continue;
    const Store& before = lds ? w_->group->lds_store[a] : in_memory->second;
    if (before.wave && before.wave != w_->number && before.bytes & mask && !before.atomic &&
        kind != Access::SHARED_READ)
      unseen(before, address);
  }
}
void Unit::audit_scalar(u64 at, i64 bytes) {
  for (u64 a = at / 4; a < (at + u64(bytes)) / 4; a++)
    if (auto last = stores_.find(a); last != stores_.end() && last->second.wave != w_->number)
      unseen(last->second, a * 4);
}

void Unit::check_registers(const Part& p, bool reads) {
  const Row& r = *p.row;
  Checked& seen = *w_->checked;
  bool load = (r.format >= FLAT || r.format == DS) && p.d0 >= 0;
  for (int k = 0; k < r.specs; k++) {
    const Place& o = p.place[k];
    if (!(r.spec[k].access & (reads ? OperandSpec::READ : OperandSpec::WRITE))) continue;
    std::string_view verb = reads ? "read" : "written";
    if (o.kind == Place::VGPR) {
      for (u32 i = o.reg; i < o.reg + o.count; i++) {
        const Pending& pending = seen.v_pending[i];
        const char* counter = seen.outstanding(pending);
        bool in_order = !reads && load && r.format != FLAT && !(pending.at[VM] && pending.at[LDS]) &&
                        ((r.format == DS) == bool(pending.at[LDS]));  // answers of one kind come in order
        if (counter && !in_order)
          return object(str("v", i, " is ", verb, " before its load at ", hex(pending.pc), " has been waited for (",
                            counter, ")"));
      }
    } else if (o.scalar()) {
      for (u32 i = o.reg; i < o.reg + o.count; i++)
        if (seen.outstanding(seen.s_pending[i]))
          return object(str(scalar_name(i), " is ", verb, " before its load at ", hex(seen.s_pending[i].pc),
                            " has been waited for (lgkmcnt)"));
    }
  }
}

void Unit::check_before(const Code& c) {
  Checked& seen = *w_->checked;
  for (int i = 0; i < c.parts; i++) {
    const Part& p = c.part[i];
    const Row& r = *p.row;
    check_registers(p, true);
    check_registers(p, false);
    if (core_.stopped) return;
    int stored_bits = p.mem >= 0 ? r.spec[p.mem].bits : 32,
        stored_high = r.format >= DS && std::string_view(r.name).find("_hi") != std::string_view::npos;
    auto defined = [&](int k, u32 lanes) {
      const Place& o = p.place[k];
      for (u32 n = 0; n < o.count; n++) {
        if (o.kind == Place::VGPR && (seen.v[o.reg + n].both() & lanes) != lanes &&
            !(r.format >= DS && stored_bits < 32 && (seen.v[o.reg].half[stored_high] & lanes) == lanes))
          return str("v", o.reg + n);
        if (o.scalar() && !seen.s[o.reg + n]) return scalar_name(o.reg + n);
      }
      return o.kind == Place::FLAG && !seen.scc ? std::string("scc") : std::string();
    };
    auto must = [&](int k, u32 lanes, std::string_view purpose) {
      if (k < 0) return;
      if (std::string name = defined(k, lanes); !name.empty())
        object(str(purpose, " comes from ", name, ", which nothing has set"));
    };
    if (r.format >= DS && r.function != INVALIDATE && r.function != NOTHING) {
      bool crosses = r.cls == CLASS_lane;
      if (!crosses || r.function != SWIZZLE) must(p.addr, exec_, "the address");
      must(p.saddr, exec_, "the address");
      if (r.format != SCRATCH && !crosses)
        must(p.data, exec_, "what is stored"), must(p.data2, exec_, "what is stored");
    }
    if (r.format == SMEM && r.shown) must(p.saddr, 0, "the address"), must(p.data, 0, "the address");
    bool branches = false, sets_exec = false;
    for (int k = 0; k < r.specs; k++) {
      branches |= p.place[k].kind == Place::COUNTER && r.spec[k].access & OperandSpec::WRITE;
      sets_exec |= p.place[k].scalar() && p.place[k].reg == EXEC_LO && r.spec[k].access & OperandSpec::WRITE;
    }
    if (branches || sets_exec)
      for (int k = 0; k < r.specs; k++)
        if (r.spec[k].access & OperandSpec::READ) must(k, exec_, branches ? "the branch" : "exec");
    if (!c.valu) continue;
    for (int k = 0; k < r.specs; k++) {
      const Place& o = p.place[k];
      if (o.kind != Place::VGPR || !(r.spec[k].access & OperandSpec::READ)) continue;
      for (u32 v = o.reg; v < o.reg + o.count; v++) {
        auto& t = seen.trans_write[v];
        const Hazard& h = hazards[VALUTransUse];
        if (t.valu > seen.trans_clear && seen.valu - t.valu < u32(h.vector) &&
            seen.trans - t.trans < u32(h.transcendental))
          return object(str("v", v, " is read too soon after a transcendental instruction (VALUTransUse)"));
      }
    }
    if (r.function == MATRIX)
      for (int k : {p.s[0], p.s[1]})
        if (seen.matrix_count && p.place[k].reg < seen.matrix_first + seen.matrix_count &&
            seen.matrix_first < p.place[k].reg + p.place[k].count)
          return object("a matrix of it is the result of the one just before: an instruction must stand between");
    if (r.function == PERMUTE_LANES && seen.cmpx)
      return object("follows v_cmpx without another vector instruction between (VcmpxPermlane)");
  }
}

// What an instruction writes is as defined as what it reads: as a rule all of it or nothing, but the halves and dwords
// of registers go their own ways through what compilers put words together with.
void Unit::define(const Code& c) {
  Checked& seen = *w_->checked;
  for (int i = 0; i < c.parts; i++) {
    const Part& p = c.part[i];
    const Row& r = *p.row;
    const Flow flow = p.flow;
    bool memory_row = r.format >= DS && r.cls != CLASS_lane;
    constexpr u32 every = ~u32(0);
    auto dword = [&](int k, u32 n) -> Defined {
      const Place& o = p.place[k];
      if (o.kind == Place::FLAG) return seen.scc ? Defined{{every, every}} : Defined{};
      if (o.scalar()) return seen.s[o.reg + n] ? Defined{{every, every}} : Defined{};
      if (o.kind != Place::VGPR) return {{every, every}};
      Defined from = seen.v[o.reg + n], out;
      if (!c.m.dpp_kind || k != p.s[0]) return from;
      for (int h = 0; h < 2; h++)
        for (int l = 0; l < wave_lanes; l++)
          out.half[h] |= (dpp_lane_[l] < 0 ? 1 : from.half[h] >> dpp_lane_[l] & 1) << l;
      return out;
    };
    auto operand = [&](int k, int only) {  // dword `only`, or -1: all of them
      const Place& o = p.place[k];
      u32 out = every;
      for (u32 n = 0; n < o.count; n++) {
        if (only >= 0 && o.count == 2 && (flow == COPY ? n != u32(only) : n > u32(only))) continue;
        Defined d = dword(k, n);
        out &= o.bits == 16 && r.spec[k].bits == 16 ? d.half[bool(o.modifiers & HALF)] : d.both();
      }
      return out;
    };
    auto read = [&](int k) {
      if (!(r.spec[k].access & OperandSpec::READ) || memory_row) return false;
      return !(k == p.d0 &&
               (r.function == WRITE_LANE || c.m.dpp_kind || p.place[k].bits == 16));  // what is kept is no input
    };
    auto all = [&](int only) {
      u32 out = every;
      for (int k = 0; k < r.specs; k++)
        if (read(k)) out &= operand(k, only);
      return out;
    };
    auto one = [&](int source) { return dword(p.s[source], 0); };
    Defined result[2];
    u32 lanes = every;
    switch (flow) {
      case READS_LANE:
        lanes = one(0).both() >> lane_read(p) & 1 ? every : 0;
        result[0] = {{lanes, lanes}};
        break;
      case CHOOSES: {
        u32 pick = read_scalar(p.place[p.choice[0]].reg), mask = operand(p.choice[0], -1);
        for (int h = 0; h < 2; h++)
          result[0].half[h] = mask & ((pick & dword(p.choice[1], 0).half[h]) | (~pick & dword(p.choice[2], 0).half[h]));
        lanes = result[0].both();
        break;
      }
      case HALVES:
        for (int h = 0; h < 2; h++) {
          std::string_view needs = h ? p.halves->high : p.halves->low;
          result[0].half[h] = every;
          for (size_t n = 0; n < needs.size(); n += 2) {
            int k = p.s[needs[n] - '0'];
            bool zero = p.place[k].kind == Place::CONSTANT && !(p.place[k].constant >> 16 * h & 65535);
            if (zero && p.halves->name.find("and_b32") != std::string_view::npos) {
              result[0].half[h] = every;
              break;
            }
            result[0].half[h] &= needs[n + 1] == 'b' ? operand(k, -1) : dword(k, 0).half[needs[n + 1] == 'h'];
          }
        }
        lanes = result[0].both();
        break;
      case BYTES:
        result[0] = {{every, every}};
        for (int b = 0; b < 4; b++)
          if (u32 pick = u32(p.place[p.s[2]].constant >> 8 * b & 255); pick <= 7)
            result[0].half[b / 2] &= one(pick < 4).half[pick / 2 % 2];
        lanes = result[0].both();
        break;
      default:
        lanes = all(-1);
        for (int n = 0; n < 2; n++) {
          u32 d = flow == WIDE || flow == COPY ? all(n) : lanes;
          result[n] = {{d, d}};
        }
    }
    u32 mask = p.scalar ? every : r.format >= DS ? exec_ : dpp_mask_;
    if (r.function == WRITE_LANE) mask = u32(1) << (raw_dword(p, p.s[1], 0, 0) & 31);
    bool whole = (lanes & mask) == mask;
    for (int k = 0; k < r.specs; k++) {
      const Place& o = p.place[k];
      if (!(r.spec[k].access & OperandSpec::WRITE) || r.function == MOVE_RELATIVE) continue;
      bool wide = k == p.d0 && (flow == WIDE || flow == COPY), high_only = memory_row && o.bits == 32 && flow == HIGH;
      for (u32 n = 0; n < o.count; n++) {
        const Defined& fresh = k == p.d0 ? result[wide ? n & 1 : 0] : Defined{{lanes, lanes}};
        if (o.kind == Place::VGPR) {
          Defined& d = seen.v[o.reg + n];
          for (int h = 0; h < 2; h++) {
            if (high_only && !h) continue;
            if (o.bits == 16 && r.spec[k].bits == 16 && h != bool(o.modifiers & HALF)) continue;
            d.half[h] = (d.half[h] & ~mask) | (fresh.half[h] & mask);
          }
          seen.trans_write[o.reg + n] = {};
          if (c.trans) seen.trans_write[o.reg + n] = {seen.valu + 1, seen.trans + 1};
        } else if (o.scalar()) {
          seen.s[o.reg + n] = p.scalar ? fresh.both() == every : whole;
        }
      }
      if (o.kind == Place::FLAG) seen.scc = whole;
    }
    if (r.function == MATRIX)
      seen.matrix_first = p.place[p.d0].reg, seen.matrix_count = p.place[p.d0].count;
    else if (c.valu)
      seen.matrix_count = 0;
    if (c.valu && r.function != NOTHING) seen.cmpx = r.cls == CLASS_cmpx;
  }
  if (c.valu) seen.valu++, seen.trans += c.trans;
  if (c.part[0].row->traits & Inst::MEMORY_UNIT) seen.trans_clear = seen.valu;  // it has waited for them
}

}  // namespace ingot::isa::emu
