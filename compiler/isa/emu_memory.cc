// SPDX-License-Identifier: MIT
// Memory for the emulator: global, LDS and scratch.
//
// Every lane's address is known before anything is read. Where the checker is off and the lanes' addresses lie in one
// stretch of host memory (WaveMemory::direct, kept per instruction), data moves between it and the registers at once.
// Otherwise each lane is asked for by itself, by way of mem_: then the checker looks on, and the model's caches do.
#include <algorithm>
#include <thread>

#include "compiler/isa/emu.h"

namespace ingot::isa::emu {
using namespace fields;
using hw::Access;
using Result = hw::WaveResult;

static i64 offset_of(const Part& p, int which) {
  i64 offset = p.offset >= 0 ? i64(p.place[p.offset].constant) : 0;
  return p.unit ? (which ? offset >> 8 & 255 : offset & 255) * p.unit : offset;
}
u64 Unit::address(const Part& p, int lane, int which) {
  const Row& r = *p.row;
  const i64 offset = offset_of(p, which);
  const bool by_lane = p.by_lane;
  if (r.format == DS) {
    u32 base = by_lane ? (w_->s[M0_REGISTER] & 65535) + 4 * u32(lane) : raw_dword(p, p.addr, 0, lane);
    return spaces_[lane] = Space::LDS, u32(base + u32(offset));
  }
  bool scalar_base = p.saddr >= 0 && p.place[p.saddr].kind == Place::SGPR;
  if (r.format == SCRATCH) {
    u32 at = u32(offset);
    if (p.place[p.addr].kind == Place::VGPR) at += raw_dword(p, p.addr, 0, lane);
    if (scalar_base) at += read_scalar(p.place[p.saddr].reg);
    return spaces_[lane] = Space::SCRATCH, at;
  }
  spaces_[lane] = Space::GLOBAL;
  if (scalar_base)
    return read_scalar64(p.place[p.saddr].reg) + (by_lane ? 4 * u32(lane) : raw_dword(p, p.addr, 0, lane)) +
           u64(offset);
  u64 at = (raw_dword(p, p.addr, 0, lane) | u64(raw_dword(p, p.addr, 1, lane)) << 32) + u64(offset);
  if (r.format != FLAT) return at;
  if (core_.d.shared_aperture && at >> 32 == core_.d.shared_aperture >> 32) return spaces_[lane] = Space::LDS, u32(at);
  if (core_.d.private_aperture && at >> 32 == core_.d.private_aperture >> 32)
    return spaces_[lane] = Space::SCRATCH, u32(at);
  return at;
}

template <class F>
void Unit::each_lane(F f) {
  for (int l = 0; l < wave_lanes; l++)
    if (exec_ >> l & 1 && !core_.stopped) f(l);
}

bool Unit::access(Access kind, u64 at, void* data, i64 bytes) {
  std::unique_lock lock(core_.mutex, std::defer_lock);
  if (core_.direct) lock.lock();
  return core_.memory->access(kind, at, data, bytes);
}

void Unit::reach(Access kind, int lane, void* data, i64 bytes) {
  const u64 address = addresses_[lane];
  bool write = kind == Access::WRITE;
  if (core_.options.checker) audit(kind, lane, bytes);
  if (spaces_[lane] == Space::LDS) {
    std::vector<u8>& lds = w_->group->lds;
    bool inside = address + u64(bytes) <= lds.size();  // the hardware reads zero and drops stores
    if (!inside)
      object(str("lane ", lane, " reaches ", bytes, " bytes of LDS at ", address, ", past its ", lds.size()));
    if (!write) std::memset(data, 0, size_t(bytes));
    if (inside) std::memcpy(write ? lds.data() + address : data, write ? data : lds.data() + address, size_t(bytes));
    return;
  }
  if (spaces_[lane] == Space::SCRATCH) {
    i64 limit = core_.d.scratch_wave_bytes / wave_lanes;
    if (i64(address) + bytes > limit)
      return stop(
          core_.options.checker ? Result::VIOLATION : Result::FAULT,
          str(where(*c_), ": lane ", lane, " reaches ", bytes, " bytes of scratch at ", address, ", past its ", limit));
    u64 base = core_.d.scratch_base + u64(w_->scratch_slot * core_.d.scratch_wave_bytes) + 4 * u64(lane);
    for (i64 done = 0, n; done < bytes && !core_.stopped; done += n) {  // dwords of the lanes alternate
      u64 at = address + u64(done);
      n = std::min<i64>(bytes - done, 4 - i64(at & 3));
      if (!access(kind, base + (at & ~u64(3)) * wave_lanes + (at & 3), static_cast<u8*>(data) + done, n))
        stop(Result::FAULT, str(where(*c_), ": scratch at ", hex(at)));
    }
    return;
  }
  if (!access(kind, address, data, bytes))
    stop(Result::FAULT,
         str(where(*c_), ": lane ", lane, write ? " writes " : " reads ", bytes, " bytes at ", hex(address)));
}

// Every active lane; where their addresses follow each other memory is asked once.
void Unit::reach_all(Access kind, i64 bytes) {
  u8 block[wave_lanes * 16];
  int first = exec_ ? __builtin_ctz(exec_) : 0, n = __builtin_popcount(exec_);
  bool dense = n > 1 && bytes <= 16, write = kind == Access::WRITE;
  for (int l = first; l < first + n && dense; l++)
    dense = l < wave_lanes && exec_ >> l & 1 && spaces_[l] == Space::GLOBAL &&
            addresses_[l] == addresses_[first] + u64((l - first) * bytes);
  if (!dense) return each_lane([&](int l) { reach(kind, l, mem_[l], bytes); });
  if (core_.options.checker) each_lane([&](int l) { audit(kind, l, bytes); });
  auto each = [&](auto f) {
    for (int i = 0; i < n; i++) f(block + i * bytes, mem_[first + i]);
  };
  if (write) each([&](u8* to, u8* from) { std::memcpy(to, from, size_t(bytes)); });
  if (core_.stopped) return;
  if (!access(kind, addresses_[first], block, n * bytes))
    return stop(Result::FAULT, str(where(*c_), write ? ": writes " : ": reads ", bytes, " bytes at ",
                                   hex(addresses_[first]), " and on"));
  if (!write) each([&](u8* from, u8* to) { std::memcpy(to, from, size_t(bytes)); });
}

// Host memory of [first, last], and of what follows as far as it stands in one piece, remembered with the instruction.
u8* Unit::window(Access kind, u64 first, u64 last) {
  constexpr u64 page = 4096, most_pages = 256;
  Window& w = windows_[c_->window % std::size(windows_)];
  if (last < first) return nullptr;
  if (first >= w.first && last <= w.last) return w.host + (first - w.first);
  if (!core_.direct || last - first > most_pages * page) return nullptr;
  std::lock_guard lock(core_.mutex);
  w = {first & ~(page - 1), 0, nullptr};
  w.last = w.first - 1;
  for (u64 n = 0; n < most_pages; n++) {
    u8* at = core_.memory->direct(kind, w.first + n * page, page);
    if (!at || (n && at != w.host + n * page)) break;
    if (!n) w.host = at;
    w.last += page;
  }
  if (!w.host) w = {};
  return w.host && last <= w.last ? w.host + (first - w.first) : nullptr;
}

// Where the lanes' memory is, into host_ and offset_. False: not known.
bool Unit::reachable(const Part& p, int which, i64 bytes, Access kind) {
  const Row& r = *p.row;
  const bool by_register = p.addr >= 0 && p.place[p.addr].kind == Place::VGPR && !p.by_lane;
  if (core_.options.checker || !exec_ || !by_register || (r.format != DS && r.format != GLOBAL)) return false;
  const i64 offset = offset_of(p, which);
  const Vector* v = &w_->v[p.place[p.addr].reg];
  if (r.format == DS) {
    Extent e = offsets_of(offset_, v->lane, u32(offset), exec_);
    host_ = w_->group->lds.data();
    return e.last + u64(bytes) <= w_->group->lds.size();
  }
  u64 base = u64(offset);
  const u32* low = v->lane;
  if (p.saddr >= 0 && p.place[p.saddr].kind == Place::SGPR) {
    base += read_scalar64(p.place[p.saddr].reg);
  } else {
    u64 origin = relative_of(offset_, low, v[1].lane, exec_);
    if (!origin) return false;
    base += origin, low = offset_;
  }
  Extent e = offsets_of(offset_, low, 0, exec_);
  u8* host = window(kind, base + e.first, base + e.last + u64(bytes) - 1);
  if (!host) return false;
  host_ = host - e.first;
  return true;
}
void Unit::one_by_one(const Part& p, int which) {
  host_ = mem_[0];
  for (u32 l = 0; l < wave_lanes; l++) offset_[l] = l * u32(sizeof mem_[0]);
  each_lane([&](int l) { addresses_[l] = address(p, l, which); });
}

void Unit::memory(const Part& p) {
  const Row& r = *p.row;
  WaveState& w = *w_;
  const i64 bytes = p.mem >= 0 ? r.spec[p.mem].bits / 8 : 0;
  const bool reads = p.mem >= 0 && r.spec[p.mem].access & OperandSpec::READ;
  const bool writes = p.mem >= 0 && r.spec[p.mem].access & OperandSpec::WRITE;
  const bool atomic_row = r.cls == CLASS_atomic, two = r.function == LOAD_TWO || r.function == STORE_TWO;
  const bool dwords = two || (p.steps.empty() && bytes % 4 == 0);  // moved as they are
  if (atomic_row && r.format != DS && !my_turn()) return;
  issue(p);
  const Lanes* value[slots];
  if (two || (r.function == NO_FUNCTION && !atomic_row)) {
    const bool load = two ? r.function == LOAD_TWO : reads;
    for (int which = 0; which < 1 + two && !core_.stopped; which++) {
      const bool known = reachable(p, which, bytes, load ? Access::READ : Access::WRITE);
      if (!known) one_by_one(p, which);
      if (load && !known) reach_all(c_->m.glc || two ? Access::SHARED_READ : Access::READ, bytes);
      if (core_.stopped) return;
      for (i64 i = 0; dwords && i < bytes / 4; i++) {
        const int data = which ? p.data2 : p.data;
        if (load)
          gather(w.v[p.place[p.d0].reg + u32(which * bytes / 4 + i)].lane, host_ + i * 4, offset_, exec_);
        else
          scatter(w.v[p.place[data].reg + u32(i)].lane, host_ + i * 4, offset_, exec_);
      }
      for (int e = 0; e < p.elements && !dwords; e++) {
        evaluate(p, e, value);
        for (int k = 0; k < p.effects; k++) write(p, p.effect[k].target, e, *value[p.effect[k].slot], exec_, false);
      }
      if (writes && !known) reach_all(Access::WRITE, bytes);
    }
    return;
  }
  if (p.mem >= 0) one_by_one(p, 0);
  switch (r.function) {
    case NO_FUNCTION: return atomic(p, bytes);
    case EXCHANGE_TWO:
      for (int which = 0; which < 2; which++) {
        each_lane([&](int l) {
          addresses_[l] = address(p, l, which);
          reach(Access::SHARED_READ, l, mem_[l] + which * bytes, bytes);
          u64 fresh = raw(p, which ? p.data2 : p.data, -1, l);
          reach(Access::WRITE, l, &fresh, bytes);
        });
      }
      for (u32 i = 0; i < u32(bytes) / 2; i++)
        each_lane([&](int l) { std::memcpy(&w.v[p.place[p.d0].reg + i].lane[l], mem_[l] + 4 * i, 4); });
      return;
    case COMPARE_SWAP:
      each_lane([&](int l) {
        u64 old = 0, fresh = 0, expected = 0;
        for (int i = 0; i < int(bytes) / 4; i++) {
          fresh |= u64(raw_dword(p, p.data, i, l)) << 32 * i;
          expected |= u64(raw_dword(p, p.data, i + int(bytes) / 4, l)) << 32 * i;
        }
        reach(Access::SHARED_READ, l, &old, bytes);
        bool equal = is_float(p.place[p.mem].type)
                         ? decode_float(old, {p.place[p.mem].type}) == decode_float(expected, {p.place[p.mem].type})
                         : old == expected;
        if (equal && !core_.stopped) reach(Access::WRITE, l, &fresh, bytes);
        if (p.d0 >= 0) write_bits(p, p.d0, 0, l, old);
      });
      return;
    case SWIZZLE:
    case PERMUTE:
    case PERMUTE_BACKWARD: {
      Vector out;
      u32 offset = u32(p.place[p.offset].constant);
      each_lane([&](int l) {
        u32 from = (raw_dword(p, p.addr, 0, l) + offset) / 4 % wave_lanes;
        if (r.function == PERMUTE) return void(out.lane[from] = raw_dword(p, p.data, 0, l));
        int source = p.data;
        if (r.function == SWIZZLE) {
          u32 i = u32(l);
          source = p.addr;
          if (offset >> 14 == 3) return refuse("not modelled");  // rotations and FFT order
          if (offset >> 15)
            from = (i & ~3u) + (offset >> 2 * (i & 3) & 3);
          else
            from = ((i & (offset & 31)) | (offset >> 5 & 31)) ^ (offset >> 10 & 31);
        }
        if (exec_ >> from & 1) out.lane[l] = raw_dword(p, source, 0, int(from));
      });
      each_lane([&](int l) { w.v[p.place[p.d0].reg].lane[l] = out.lane[l]; });
      return;
    }
    default: return refuse("not modelled");
  }
}

// Lanes with an address of their own at once, the others after each other.
void Unit::atomic(const Part& p, i64 bytes) {
  const Lanes* value[slots];
  Vector old[2];
  for (u32 left = exec_, now; left && !core_.stopped; left &= ~now) {
    now = 0;
    for (int l = 0; l < wave_lanes; l++) {
      bool clash = !(left >> l & 1);
      for (int k = 0; k < l && !clash; k++)
        clash = now >> k & 1 && addresses_[k] == addresses_[l] && spaces_[k] == spaces_[l];
      if (!clash) now |= u32(1) << l;
    }
    std::swap(exec_, now);
    each_lane([&](int l) {
      reach(Access::SHARED_READ, l, mem_[l], bytes);
      for (int i = 0; i < bytes / 4; i++) std::memcpy(&old[i].lane[l], mem_[l] + 4 * i, 4);
    });
    evaluate(p, 0, value);
    for (int k = 0; k < p.effects; k++)
      if (p.effect[k].target == p.mem) write(p, p.mem, 0, *value[p.effect[k].slot], exec_, p.effect[k].one_nan);
    each_lane([&](int l) { reach(Access::WRITE, l, mem_[l], bytes); });
    std::swap(exec_, now);
  }
  for (u32 i = 0; p.d0 >= 0 && i < u32(bytes) / 4; i++)
    copy_under(w_->v[p.place[p.d0].reg + i].lane, old[i].lane, exec_);
}

// An atomic operation waits for the groups before this one, which run on other threads; false: for longer than this
// step lasts.
bool Unit::my_turn() {
  for (;;) {
    bool first = true;
    for (auto& other : core_.units) first &= other.get() == this || other->oldest > oldest;
    if (first) return true;
    if (core_.running < int(core_.units.size()) || core_.stopped) return blocked_ = true, false;  // theirs may rest
    std::this_thread::yield();
  }
}

void Unit::scalar_load(const Part& p) {
  const Row& r = *p.row;
  if (r.spec[p.saddr].bits == 128) return refuse("buffers are not modelled");
  i64 bytes = r.spec[p.mem].bits / 8,
      offset = i64(p.place[p.offset].constant) + (p.data >= 0 ? raw_dword(p, p.data, 0, 0) : 0);
  u64 at = read_scalar64(p.place[p.saddr].reg) + u64(offset);
  issue(p);
  if (at & 3) object(str("a scalar load from ", hex(at), ", which is not aligned to 4"));
  at &= ~u64(3);
  if (const u8* host = core_.options.checker ? nullptr : window(Access::SCALAR_READ, at, at + u64(bytes) - 1))
    std::memcpy(mem_[0], host, size_t(bytes));
  else if (!access(Access::SCALAR_READ, at, mem_[0], bytes))
    return stop(Result::FAULT, str(where(*c_), ": reads ", bytes, " bytes at ", hex(at)));
  if (core_.options.checker) audit_scalar(at, bytes);
  for (u32 i = 0; i < u32(bytes) / 4 && p.place[p.d0].scalar(); i++) {
    u32 word;
    std::memcpy(&word, mem_[0] + 4 * i, 4);
    write_scalar(p.place[p.d0].reg + i, word);
  }
}

}  // namespace ingot::isa::emu
