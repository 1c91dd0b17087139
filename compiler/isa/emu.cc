// SPDX-License-Identifier: MIT
// A shader core in software: runs the waves of a dispatch from the meanings of their rows, and objects to what silicon
// would punish without a word.
//
// What runs from an address on until the program counter may jump is decoded once, into a trace (emu_decode.cc). There
// are two ways to run it. The evaluator takes one instruction at a time (emu_row.cc, emu_memory.cc, emu_lanes.cc).
// Without the checker the stretches of a trace that are arithmetic alone become graphs (emu_block.cc), which the host's
// back end compiles once they have run often; the rest is evaluated. Both ways give the same bits.
//
// With the checker (emu_check.cc) several groups are in flight at once, and which wave is next is drawn between
// instructions from the dispatch's seed, so that a missing barrier shows. Without it a group runs from start to end,
// and where all memory is at hand groups are spread over the pool of threads. They start in their order, and an atomic
// operation waits until the groups before it have ended, so that what comes out does not depend on how many threads
// there are.
//
// What is not modelled stops the wave as an illegal instruction and says so: wave64, traps, buffers, what counts quads
// or sums bytes for graphics, v_swaprel, v_trig_preop, cube maps, appends, the global data share, clamped sums of 64
// bits. Exceptions of MODE never happen. A NaN that arithmetic gives is always the same one (quiet_nan()), where
// silicon hands on the first that it reads.
#include <algorithm>

#include "compiler/isa/emu.h"

namespace ingot::isa::emu {
using hw::Access;
using Result = hw::WaveResult;

// ---- a dispatch ----------------------------------------------------------------------------------------------------
void Core::start(const hw::Dispatch& dispatch, hw::WaveMemory& m) {
  d = dispatch, memory = &m, result = {}, stopped = false, epoch_++;
  slots_used.assign(size_t(d.scratch_waves), false);
  next_group = 0, groups = i64(d.groups[0]) * d.groups[1] * d.groups[2];
  u8 word[4];
  direct = !options.checker && m.direct(Access::FETCH, d.entry, sizeof word);
  size_t wanted = direct ? size_t(std::clamp<i64>(groups, 1, thread_count())) : 1;
  while (units.size() < wanted) units.push_back(std::make_unique<Unit>(*this, i64(units.size())));
  for (auto& u : units) u->start();
  if (!d.wave32) result = {Result::ILLEGAL_INSTRUCTION, 0, "waves of 64 lanes are not modelled"}, stopped = true;
}

Result Core::step(i64 instructions) {
  std::atomic<i64> ran{0};
  size_t busy = 0;
  for (auto& u : units) busy += !u->idle();
  size_t width = direct ? std::min<size_t>(units.size(), busy + size_t(groups - next_group)) : 1;
  if (width > 1) {
    parallel(i64(units.size()), [&](i64 i) {
      running++;
      ran += units[size_t(i)]->run(instructions / i64(units.size()) + 1);
      running--;
    });
  } else {
    for (auto& u : units) ran += u->run(instructions);
  }
  Result r = result;
  bool done = next_group == groups && std::ranges::all_of(units, [](auto& u) { return u->idle(); });
  if (!stopped && !done) {
    r.kind = Result::RUNNING;
    for (auto& u : units) r.pc = std::max(r.pc, u->pc());
  }
  r.instructions = ran;
  return r;
}

std::vector<hw::WaveReport> Core::waves() const {
  std::vector<hw::WaveReport> out;
  for (auto& u : units) u->report(out);
  return out;
}

// ---- traces --------------------------------------------------------------------------------------------------------
Trace* Core::trace_at(u64 pc) {
  constexpr size_t longest = 512;
  std::lock_guard lock(mutex);
  std::unique_ptr<Trace>& slot = traces_[pc];
  if (slot && slot->epoch != epoch_) {  // an earlier dispatch's: does it stand there still?
    std::vector<u8> now(slot->words.size());
    if (memory->access(Access::FETCH, pc, now.data(), i64(now.size())) && now == slot->words)
      slot->epoch = epoch_;
    else
      slot = nullptr;
  }
  if (slot) return slot.get();
  auto t = std::make_unique<Trace>();
  t->pc = t->end = pc, t->epoch = epoch_;
  while (t->code.size() < longest && (t->code.empty() || !t->code.back()->ends)) {
    std::vector<u8> words;
    std::unique_ptr<Code> c;
    do {  // no further than the instruction is long
      words.resize(words.size() + 4);
      if (!memory->access(Access::FETCH, t->end + words.size() - 4, words.data() + words.size() - 4, 4)) break;
      c = decode(isa, words, t->end);
    } while (!c->bytes && words.size() < 16);
    if (!c || (!c->bytes && words.size() < 16)) break;
    if (!c->bytes) c->refused = "not an instruction", c->ends = true;
    t->end += c->bytes, t->vgprs = std::max(t->vgprs, c->vgprs);
    t->words.insert(t->words.end(), words.begin(), words.end());
    t->code.push_back(std::move(c));
  }
  if (t->code.empty()) return nullptr;
  // SH_MEM_CONFIG.initial_inst_prefetch at its most: three lines after the one that runs (LLVM, EmitCodeEnd).
  constexpr u64 line = 128, lines = 3;
  for (u64 n = 1; options.prefetch && n <= lines; n++)
    if (u8 ahead[4]; !memory->access(Access::FETCH, (t->end - 1) / line * line + n * line, ahead, sizeof ahead))
      return nullptr;
  if (!options.checker) cut(*t);
  return (slot = std::move(t)).get();
}

hw::Block* Core::compile(Trace& t, Trace::Item& item, bool partial) {
  std::lock_guard lock(mutex);
  if (hw::Block* b = item.block[partial]) return b;
  Arena arena;
  ArenaScope scope(arena);
  item.owned[partial] =
      options.blocks->compile(build_graph(std::span(t.code).subspan(item.first, item.end - item.first), !partial));
  item.block[partial] = item.owned[partial].get();
  if (!item.block[partial]) item.runs[partial] = std::numeric_limits<i64>::min();  // not again
  return item.block[partial];
}

// ---- reports -------------------------------------------------------------------------------------------------------
void Unit::stop(Result::Kind kind, std::string message) {
  std::lock_guard lock(core_.mutex);
  i64 group = w_ ? w_->group->number : 0;
  if (core_.stopped && group >= core_.result_group) return;  // the first one counts
  core_.result = {kind, c_ ? c_->pc : w_ ? w_->pc : 0, std::move(message), 0}, core_.result_group = group;
  core_.stopped = true;
  if (w_ && c_) w_->pc = c_->pc;
}
std::string Unit::where(const Code& c) const {
  const EmulatorOptions& o = core_.options;
  std::string out = str(hex(c.pc), " `", core_.isa.print(c.in), "`");
  if (std::string from = o.source ? o.source(c.pc) : ""; !from.empty()) out += str(" from ", from);
  if (w_) out += str(" in group ", std::span(w_->group->id), " wave ", w_->index, ", seed ", core_.d.seed);
  return out;
}
void Unit::object(std::string message) {
  if (core_.options.checker && c_ && !core_.stopped) stop(Result::VIOLATION, str(where(*c_), ": ", message));
}

void Unit::report(std::vector<hw::WaveReport>& out) const {
  for (auto& g : live_)
    for (auto& w : g->waves) {
      if (w->status == WaveState::ENDED) continue;
      hw::WaveReport r;
      std::copy(g->id, g->id + 3, r.group);
      r.wave = w->index, r.pc = w->pc;
      r.at_barrier = w->status == WaveState::AT_BARRIER, r.scc = w->scc();
      for (u32 k = 0; k < scc_word; k++) r.scalar.push_back(!w->checked || w->checked->s[k] ? w->s[k] : 0);
      r.vector.resize(w->v.size());
      for (size_t k = 0; k < w->v.size(); k++)
        if (!w->checked || w->checked->v[k].half[0]) std::copy_n(w->v[k].lane, wave_lanes, r.vector[k].begin());
      out.push_back(std::move(r));
    }
}

// ---- groups and waves ----------------------------------------------------------------------------------------------
void Unit::start() {
  random_ = core_.d.seed * 2 + 1;
  for (auto& g : live_) spare_.push_back(std::move(g));
  live_.clear(), ready_.clear(), stores_.clear();
  wave_.assign(1, nullptr), last_counts_.assign(1, {});
  for (auto& n : near_) n.trace = nullptr;
  for (Window& w : windows_) w = {};
  w_ = nullptr, c_ = nullptr, oldest = no_group;
}

bool Unit::start_group() {
  const hw::Dispatch& d = core_.d;
  i64 threads = i64(d.threads[0]) * d.threads[1] * d.threads[2], count = (threads + wave_lanes - 1) / wave_lanes;
  std::unique_ptr<Group> g;
  if (!spare_.empty())
    g = std::move(spare_.back()), spare_.pop_back();
  else
    g = std::make_unique<Group>();
  bool too_few = false;
  {
    std::lock_guard lock(core_.mutex);
    i64 free_slots = std::ranges::count(core_.slots_used, false);
    bool lacks = d.scratch_wave_bytes && free_slots < count;
    too_few = lacks && free_slots == i64(core_.slots_used.size()) && core_.next_group < core_.groups;
    if (core_.next_group == core_.groups || lacks) {
      spare_.push_back(std::move(g));
    } else {
      g->number = core_.next_group++;
      while (i64(g->waves.size()) < count) g->waves.push_back(std::make_unique<WaveState>());
      g->waves.resize(size_t(count));
      for (auto& w : g->waves) {
        if (!d.scratch_wave_bytes) continue;
        w->scratch_slot = std::ranges::find(core_.slots_used, false) - core_.slots_used.begin();
        core_.slots_used[size_t(w->scratch_slot)] = true;
      }
      if (live_.empty()) oldest = g->number;
    }
  }
  if (too_few)
    stop(Result::VIOLATION, str(count, " waves of a group, but ", core_.slots_used.size(), " scratch slots"));
  if (!g) return false;
  fill(*g);
  live_.push_back(std::move(g));
  return true;
}

void Unit::fill(Group& g) {
  const hw::Dispatch& d = core_.d;
  const bool checker = core_.options.checker;
  const u32 n = u32(g.number);
  g.id[0] = d.first[0] + n % d.groups[0];
  g.id[1] = d.first[1] + n / d.groups[0] % d.groups[1];
  g.id[2] = d.first[2] + n / d.groups[0] / d.groups[1];
  g.lds.assign(state(LDS_SIZE, d.rsrc[1]) * 512, 0);
  if (checker) g.lds_store.assign(g.lds.size() / 4, {});
  g.running = int(g.waves.size()), turn_ = 0, row_ = 0;
  const i64 threads = i64(d.threads[0]) * d.threads[1] * d.threads[2];
  for (i64 i = 0; i < g.running; i++) {
    WaveState* w = g.waves[size_t(i)].get();
    w->group = &g, w->index = int(i), w->pc = d.entry, w->number = u32(wave_.size());
    w->trace = nullptr, w->at = 0, w->status = WaveState::READY;
    w->v.assign((state(VGPRS, d.rsrc[0]) + 1) * 8, {});
    w->mode = state(FLOAT_MODE, d.rsrc[0]) | state(DX10_CLAMP, d.rsrc[0]) << state_rows[MODE_CLAMP].low |
              state(IEEE, d.rsrc[0]) << state_rows[MODE_IEEE].low;
    std::fill(std::begin(w->s), std::end(w->s), 0);
    w->checked = nullptr;
    if (checker) {  // what nobody defines holds garbage that differs from wave to wave
      for (u32& s : w->s) s = random();
      w->s[scc_word] &= 1;
      for (Vector& v : w->v)
        for (u32& x : v.lane) x = random();
      w->checked = std::make_unique<Checked>();
      w->checked->v.resize(w->v.size());
      wave_.push_back(w), last_counts_.push_back({});
    }
    u32 at = state(USER_SGPRS, d.rsrc[1]);
    for (u32 k = 0; k < at && k < 16; k++) w->s[k] = d.user_data[k];
    auto push = [&](bool wanted, u32 value) {
      if (wanted) w->s[at++] = value;
    };
    push(state(GROUP_X, d.rsrc[1]), g.id[0]);
    push(state(GROUP_Y, d.rsrc[1]), g.id[1]);
    push(state(GROUP_Z, d.rsrc[1]), g.id[2]);
    push(state(GROUP_INFO, d.rsrc[1]), u32(g.running) | u32(i == 0) << 31);
    if (at < 16)  // gfx1100 initialises fewer wrongly (LLVM: FeatureUserSGPRInit16Bug)
      for (u32 k = 0; k < at; k++) w->s[k] = ~w->s[k];
    u32 ids = state(ITEM_IDS, d.rsrc[1]), lanes = 0;
    u32 x = u32(i * wave_lanes) % d.threads[0], row = u32(i * wave_lanes) / d.threads[0];
    for (i64 l = 0; l < std::min<i64>(wave_lanes, threads - i * wave_lanes); l++) {
      w->v[0].lane[l] = x | (ids > 0 ? row % d.threads[1] << 10 : 0) | (ids > 1 ? row / d.threads[1] << 20 : 0);
      lanes |= u32(1) << l;
      if (++x == d.threads[0]) x = 0, row++;
    }
    w->s[EXEC_LO] = w->initial_exec = lanes;
    w->s[EXEC_LO + 1] = 0;
    if (Checked* k = w->checked.get()) {
      k->v[0] = {{lanes, lanes}};
      if (at >= 16) std::fill(k->s, k->s + at, true);
      k->s[EXEC_LO] = k->s[EXEC_LO + 1] = k->s[NULL_REGISTER] = true;
    }
    ready_.push_back(w);
  }
}

void Unit::end(WaveState& w) {
  w.status = WaveState::ENDED;
  std::erase(ready_, &w);
  if (w.checked) {
    wave_[w.number] = nullptr;
    std::copy(w.checked->done, w.checked->done + QUEUES, last_counts_[w.number].begin());
  }
  Group* g = w.group;
  for (auto& other : g->waves)
    if (other->status == WaveState::AT_BARRIER) object(str("ends while wave ", other->index, " waits at a barrier"));
  std::unique_lock lock(core_.mutex, std::defer_lock);
  if (core_.d.scratch_wave_bytes) lock.lock(), core_.slots_used[size_t(w.scratch_slot)] = false;
  if (--g->running) return;
  w_ = nullptr;
  auto at = std::ranges::find_if(live_, [&](auto& p) { return p.get() == g; });
  spare_.push_back(std::move(*at));
  live_.erase(at);
  oldest = no_group;
}

// ---- running -------------------------------------------------------------------------------------------------------
constexpr size_t groups_in_flight = 4;  // of the checker: enough for their orders to matter
constexpr int traces_in_a_row = 64;     // of a wave, while others of its group could run

i64 Unit::run(i64 instructions) {
  const bool checker = core_.options.checker;
  ran_ = 0, blocked_ = false;
  while (ran_ < instructions && !core_.stopped && !blocked_) {
    while (live_.size() < (checker ? groups_in_flight : 1) && start_group()) {}
    if (live_.empty() || core_.stopped) break;
    if (ready_.empty()) {
      stop(Result::VIOLATION, "every wave waits at a barrier");
    } else if (checker) {
      run_one(*ready_[random() % ready_.size()]);
      ran_++;
    } else {
      // Turns do not depend on how long a step is: atomic operations of a group's waves keep their order.
      WaveState& w = *ready_[turn_ % ready_.size()];
      w_ = &w;
      for (; row_ < traces_in_a_row && w_ && w.status == WaveState::READY && ran_ < instructions; row_++) {
        if (!enter(w)) break;
        ran_ += run_trace(w);
        if (core_.stopped || blocked_) break;
      }
      if (row_ == traces_in_a_row || !w_ || w.status != WaveState::READY) turn_++, row_ = 0;
    }
  }
  return ran_;
}

bool Unit::enter(WaveState& w) {
  auto& near = near_[w.pc / 4 % std::size(near_)];
  if (!near.trace || near.pc != w.pc) {
    c_ = nullptr;
    if (w.pc % 4) return stop(Result::ILLEGAL_INSTRUCTION, str("the program counter is ", hex(w.pc))), false;
    near = {w.pc, core_.trace_at(w.pc)};
    if (!near.trace)
      return stop(Result::FAULT, str("no instruction at ", hex(w.pc), ", or nothing after it to read ahead")), false;
  }
  w.trace = near.trace, w.at = 0;
  return true;
}

void Unit::run_one(WaveState& w) {
  w_ = &w;
  if ((!w.trace || w.at == w.trace->code.size()) && !enter(w)) return;
  c_ = w.trace->code[w.at].get();
  next_pc_ = w.pc + c_->bytes;
  execute(*c_);
  if (!w_ || w.status == WaveState::ENDED) return void(c_ = nullptr);
  if (core_.stopped) return;
  w.at = next_pc_ == w.pc + c_->bytes ? w.at + 1 : u32(w.trace->code.size());
  w.pc = next_pc_;
}

i64 Unit::run_trace(WaveState& w) {
  Trace& t = *w.trace;
  void* buffers[BUFFERS];
  static constexpr auto lane_bits = [] {
    std::array<u32, wave_lanes> bits{};
    for (u32 l = 0; l < wave_lanes; l++) bits[l] = u32(1) << l;
    return bits;
  }();
  buffers[VECTORS] = w.v.data(), buffers[SCALARS] = w.s, buffers[LANE_BITS] = const_cast<u32*>(lane_bits.data());
  buffers[PC] = &w.pc;
  const bool graphs = core_.options.blocks && t.vgprs <= w.v.size();
  constexpr u32 float_mode = (1 << state_rows[MODE_CLAMP].low) - 1,
                keeps_denormals = 3 << state_rows[DENORM_32].low | 3 << state_rows[DENORM_64].low;
  w.pc = t.end;
  for (auto& item : t.items) {
    if (item->graph && graphs && (w.mode & float_mode) == keeps_denormals) {
      const bool partial = w.s[EXEC_LO] != ~u32(0);
      hw::Block* block = item->block[partial].load(std::memory_order_acquire);
      if (!block && item->runs[partial].fetch_add(1, std::memory_order_relaxed) >= core_.options.hot)
        block = core_.compile(t, *item, partial);
      if (block) {
        block->run(buffers);
        continue;
      }
    }
    for (u32 i = item->first; i < item->end; i++) {
      c_ = t.code[i].get();
      next_pc_ = c_->pc + c_->bytes;
      execute(*c_);
      if (core_.stopped) return i;
      if (blocked_) return w.pc = c_->pc, i;
      if (c_->ends) w.pc = next_pc_;
    }
  }
  return i64(t.code.size());
}

std::unique_ptr<hw::Wave> make_emulator(const EmulatorOptions& options) { return std::make_unique<Core>(options); }

}  // namespace ingot::isa::emu
