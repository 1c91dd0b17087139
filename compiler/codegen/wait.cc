// SPDX-License-Identifier: MIT
// Waits, hazard fillers and latency hints, put into machine code whose registers are allocated.
//
// Some hardware issues an instruction although what it reads is still on its way. Such an ISA has rows (isa::Waits) of
// queues, which counters count, of hazards and of delays, and its instructions say in which queues they are and what
// they are to a hazard (Inst::queues, Inst::traits); this file knows no instruction and no counter by name.
//
// The one idea: everything is a time. A track is a queue, a side of a hazard or of a delay; its clock counts what that
// row counts (instructions in the queue, vector instructions, cycles) and at_[track][register] is its clock when the
// register was last written by such an instruction. What is still on its way, how many may stay so and how far apart
// two instructions are is then a difference. Between blocks times are relative to the clocks; where paths meet the
// youngest counts, so that a state only grows and the loop over the blocks ends.
//
// A wait stands right before the first instruction that reads or overwrites what is on its way, with the largest count
// that is enough: with n younger ones in an ordered queue n may stay, whatever else its counter counts. Overwriting by
// the same ordered queue needs none, nor does reusing a register that a store reads (it is read at issue). Barriers
// wait until other waves can see what was written; a load may stay on its way across one, so what waves of a group
// pass to each other through memory must not be overwritten by another wave behind the very next barrier. Caches that
// are told to forget wait for the loads before. A clause waits in front for all that its instructions need. Calls and
// returns wait for every register; what others are to see may then be on its way from anybody.
#include <algorithm>
#include <array>
#include <map>
#include "compiler/codegen/codegen.h"

namespace ingot {
namespace {

using isa::Inst;
using isa::OperandSpec;
using isa::RegClass;

constexpr u32 vectors = isa::first_virtual;
// Behind the registers: what other waves are to see, what was loaded; for hazards any register.
enum : u32 { SEEN = allocated_registers, LOADED, ANY, REGISTERS };
constexpr i32 never = -(1 << 30);
constexpr i32 reach = 100;  // how far times go back and on between blocks, but for queues

class Inserter {
 public:
  Inserter(MachineCode& code, const isa::Isa& isa)
      : code_(code),
        isa_(isa),
        queues_(isa.waits->queues),
        hazards_(isa.waits->hazards),
        delays_(isa.waits->delays),
        tracks_(queues_.size() + 2 * (hazards_.size() + delays_.size())),
        at_(tracks_ * REGISTERS),
        clock_(tracks_) {}

  void run() {
    find_blocks();
    for (bool changed = true; changed;) {
      changed = false;
      for (Block& b : blocks_)
        if (std::exchange(b.changed, false)) walk(b), changed = true;
    }
    emits_ = true;
    for (Block& b : blocks_) walk(b);
    code_.lines = std::move(out_);
  }

 private:
  struct Block {
    size_t begin, end;
    std::vector<int> next;
    std::vector<i8> in;  // [track][register], relative to the clocks; empty: nothing is on its way
    bool changed = true;
  };
  struct Touch {
    u32 reg;
    int position;  // among the operands, from 0 on in each half of a pair; -1: needs no hint
    bool read, written;
  };
  static constexpr i8 idle = -128;

  // ---- control flow
  void find_blocks() {
    std::vector<int> at_label;
    std::vector<CodeLine>& lines = code_.lines;
    for (size_t i = 0, begin = 0; i < lines.size(); i++) {
      const CodeLine& line = lines[i];
      if (line.kind == CodeLine::LABEL) {
        if (i > begin) blocks_.push_back({begin, i, {}, {}}), begin = i;
        if (size_t(line.label) >= at_label.size()) at_label.resize(size_t(line.label) + 1, -1);
        at_label[size_t(line.label)] = int(blocks_.size());
      }
      constexpr u16 returns = Inst::STOPS | Inst::LEAVES;
      const u16 traits = line.inst.row ? line.inst.row->traits : u16(0);
      returns_ |= (traits & returns) == returns;
      bool ends = line.kind == CodeLine::JUMP || traits & returns;
      if (ends || i + 1 == lines.size()) blocks_.push_back({begin, i + 1, {}, {}}), begin = i + 1;
    }
    for (size_t b = 0; b < blocks_.size(); b++) {
      const CodeLine& last = lines[blocks_[b].end - 1];
      if (last.kind == CodeLine::JUMP) {
        check(size_t(last.label) < at_label.size() && at_label[size_t(last.label)] >= 0, "no label ", last.label);
        blocks_[b].next.push_back(at_label[size_t(last.label)]);
      }
      if (b + 1 < blocks_.size() && !(last.inst.row && last.inst.row->traits & Inst::STOPS))
        blocks_[b].next.push_back(int(b) + 1);
    }
  }

  void walk(Block& b) {
    std::fill(clock_.begin(), clock_.end(), 0);
    for (size_t i = 0; i < at_.size(); i++) at_[i] = b.in.empty() || b.in[i] == idle ? never : b.in[i];
    if (returns_ && !b.begin) anybody_stores();
    hint_ = -1, end_ = code_.lines.data() + b.end;
    for (size_t i = b.begin; i < b.end; i++) code_.lines[i].inst.row ? step(code_.lines[i]) : emit(code_.lines[i]);
    if (emits_) return;
    for (size_t i = 0; i < at_.size(); i++) {  // as the next blocks see it
      size_t track = i / REGISTERS;
      i32 most = track < queues_.size() ? queues_[track].most - 1 : reach;
      if (at_[i] != never && track >= queues_.size() && at_[i] < clock_[track] - reach) at_[i] = never;
      if (at_[i] != never) at_[i] = std::clamp(at_[i] - clock_[track], -most, reach);
    }
    for (int to : b.next) {
      Block& n = blocks_[size_t(to)];
      if (n.in.empty()) n.in.assign(at_.size(), idle);
      for (size_t i = 0; i < at_.size(); i++)
        if (at_[i] != never && at_[i] > n.in[i]) n.in[i] = i8(at_[i]), n.changed = true;
    }
  }

  // ---- one instruction
  i32& at(size_t track, u32 r) { return at_[track * REGISTERS + r]; }
  void forget(size_t track) { std::fill_n(at_.begin() + i64(track * REGISTERS), u32(REGISTERS), never); }
  size_t hazard_track(size_t h) const { return queues_.size() + 2 * h; }
  size_t delay_track(size_t d) const { return queues_.size() + 2 * (hazards_.size() + d); }
  void emit(const CodeLine& line) {
    if (emits_) out_.push_back(line);
  }
  const CodeLine& line_of(const std::string& text) {
    auto [at, fresh] = made_.try_emplace(text);
    std::string error;
    check(!fresh || isa_.parse(text, at->second.inst, error), text, ": ", error);
    return at->second;
  }
  static std::string fill_in(std::string_view text, auto first, auto second) {
    std::string out(text);
    if (size_t i = out.find("{}"); i != out.npos) out.replace(i, 2, str(first));
    if (size_t i = out.find("{}"); i != out.npos) out.replace(i, 2, str(second));
    return out;
  }

  void step(const CodeLine& line) {
    const Inst& row = *line.inst.row;
    std::vector<Touch> touches = touched(line.inst);
    Need need;
    need.fill(never);
    require(row, touches, need);
    const CodeLine* member = &line;
    for (i64 n = row.traits & Inst::CLAUSE ? line.inst.op[0].imm + 1 : 0; n > 0 && ++member < end_; n--)
      if (member->inst.row) require(*member->inst.row, touched(member->inst), need);
    wait(need);
    avoid_hazards(row, touches);
    if (row.traits & (Inst::VECTOR_ALU | Inst::SCALAR_ALU)) hint(touches);
    if (row.traits & Inst::MEMORY_UNIT) drain();
    emit(line);
    record(row, touches);
  }

  static std::vector<Touch> touched(const isa::Instruction& inst) {
    std::vector<Touch> out;
    each_allocated(inst, [&](u32 reg, const OperandSpec& s, int position) {
      bool forwarded = s.type == Scalar::BOOL;  // a mask of lanes
      out.push_back(
          {reg, forwarded ? -1 : position, bool(s.access & OperandSpec::READ), bool(s.access & OperandSpec::WRITE)});
    });
    return out;
  }

  void drain() {  // the vector unit has finished
    for (size_t d = 0; d < delays_.size(); d++) forget(delay_track(d) + 1);
    for (size_t h = 0; h < hazards_.size(); h++)
      if (hazards_[h].drains) forget(hazard_track(h));
  }

  // ---- counters
  using Need = std::array<i32, 8>;  // by queue: what came until then must be there; never: nothing
  void require(const Inst& row, const std::vector<Touch>& touches, Need& need) {
    auto of = [&](u32 reg, u32 queues) {
      for (size_t q = 0; q < queues_.size(); q++)
        if (i32 t = at(q, reg); queues >> q & 1 && t != never)
          need[q] = std::max(need[q], queues_[q].in_order ? std::max(t, clock_[q] - queues_[q].most + 1) : clock_[q]);
    };
    for (const Touch& t : touches) {
      u32 pending = 0;
      for (size_t q = 0; q < queues_.size(); q++) pending |= u32(at(q, t.reg) != never) << q;
      bool behind = !t.read && pending && pending == row.queues && !(pending & (pending - 1)) &&
                    queues_[size_t(__builtin_ctz(pending))].in_order;
      if (!behind) of(t.reg, pending);
    }
    constexpr u32 every = ~u32(0);
    if (row.traits & (Inst::MEETS_WAVES | Inst::FORGETS)) of(SEEN, every);
    if (row.traits & (Inst::FORGETS | Inst::LEAVES | Inst::RELATIVE)) of(LOADED, every);
  }
  void wait(const Need& need) {
    std::vector<std::string> texts;
    std::string_view instruction;
    for (size_t q = 0; q < queues_.size(); q++) {
      i32 count = -1;
      for (size_t p = 0; p < queues_.size(); p++)  // those that share the counter wait as the strictest does
        if (queues_[p].counter == queues_[q].counter && need[p] != never)
          count = count < 0 ? clock_[p] - need[p] : std::min(count, clock_[p] - need[p]);
      if (count < 0) continue;
      for (u32 r = 0; r < REGISTERS; r++)
        if (i32& t = at(q, r); count == 0 || (queues_[q].in_order && t <= clock_[q] - count)) t = never;
      if (std::any_of(queues_.begin(), queues_.begin() + i64(q),
                      [&](const isa::Queue& p) { return p.counter == queues_[q].counter; }))
        continue;
      std::string operand = fill_in(queues_[q].operand, count, 0);
      if (queues_[q].instruction == instruction)
        texts.back() += " " + operand;
      else
        texts.push_back(str(instruction = queues_[q].instruction, " ", operand));
    }
    for (const std::string& text : texts) {
      emit(line_of(text));
      tick(*line_of(text).inst.row);
    }
  }

  // ---- hazards
  void avoid_hazards(const Inst& row, const std::vector<Touch>& touches) {
    for (size_t h = 0; h < hazards_.size(); h++) {
      const isa::Hazard& hazard = hazards_[h];
      bool anything = row.traits & Inst::LEAVES;  // may come next
      if (!(row.traits & hazard.second) && !anything) continue;
      size_t track = hazard_track(h);
      auto close = [&](u32 reg) {
        return at(track, reg) != never && clock_[track] - at(track, reg) < hazard.vector &&
               (!hazard.transcendental || clock_[track + 1] - at(track + 1, reg) < hazard.transcendental);
      };
      bool found = close(ANY) && (anything || hazard.operands.empty() || row.traits & Inst::RELATIVE);
      u32 source = 0;
      for (const Touch& t : touches) {
        if (!t.read || t.reg >= vectors) continue;
        if (t.position == 1) source = t.reg;
        found |= hazard.operands.find(char('0' + t.position)) != hazard.operands.npos && close(t.reg);
      }
      if (!found) continue;
      hazard.drains ? drain() : forget(track);
      step(line_of(fill_in(hazard.fix, source, source)));
    }
  }

  // ---- delays
  void hint(const std::vector<Touch>& touches) {
    std::vector<std::string> names;
    i32 later = never;  // what is ready no later than something else waited for needs no name of its own
    for (size_t d = 0; d < delays_.size() && names.size() < 2; d++) {
      size_t track = delay_track(d);
      i32 ready = never, number = never;
      for (const Touch& t : touches) {
        if (!t.read || t.position < 0 || at(track + 1, t.reg) <= clock_[track + 1]) continue;
        i32 n = delays_[d].cycles ? at(track + 1, t.reg) - clock_[track + 1] : clock_[track] - at(track, t.reg) + 1;
        if (n <= delays_[d].most) ready = std::max(ready, at(track + 1, t.reg));
        if (n <= delays_[d].most)
          number = number == never ? n : delays_[d].cycles ? std::max(number, n) : std::min(number, n);
        at(track + 1, t.reg) = never;
      }
      if (number == never || (!delays_[d].cycles && ready <= later)) continue;
      if (!delays_[d].cycles) later = ready;
      names.push_back(str(delays_[d].name, number));
    }
    if (names.empty() || !emits_) return;
    std::span<const std::string_view> texts = isa_.waits->hints;
    size_t later_by = 1;  // instructions between the hint before and this one: one hint may speak for two
    for (size_t i = size_t(hint_) + 1; hint_ >= 0 && i < out_.size(); i++) later_by += out_[i].inst.row != nullptr;
    if (names.size() == 1 && hint_ >= 0 && later_by < texts.size()) {
      out_[size_t(hint_)] = line_of(fill_in(texts[later_by], hinted_, names[0]));
      hint_ = -1;
      return;
    }
    hinted_ = names[0], hint_ = names.size() == 1 ? i64(out_.size()) : -1;
    emit(line_of(fill_in(texts[names.size() - 1], names[0], names.back())));
  }

  // ---- what it leaves behind
  void anybody_stores() {  // callers and callees
    for (size_t q = 0; q < queues_.size(); q++) at(q, SEEN) = clock_[q];
  }
  bool counts(size_t track, const Inst& row) const {
    if (track < queues_.size()) return row.queues >> track & 1;
    track -= queues_.size();
    if (track < 2 * hazards_.size()) {
      if (track % 2) return row.traits & Inst::TRANSCENDENTAL;
      return row.traits & Inst::VECTOR_ALU && (hazards_[track / 2].nops || !(row.traits & Inst::NO_OPERATION));
    }
    track -= 2 * hazards_.size();
    return track % 2 || unit_of(row) == track / 2;
  }
  size_t unit_of(const Inst& row) const {
    size_t d = 0;
    while (d < delays_.size() && !(row.traits & delays_[d].unit)) d++;
    return d;
  }
  void tick(const Inst& row) {
    for (size_t t = 0; t < tracks_; t++) clock_[t] += counts(t, row);
  }
  void record(const Inst& row, const std::vector<Touch>& touches) {
    bool answers = false;
    i32 now = clock_[tracks_ - 1];  // cycles
    tick(row);
    for (const Touch& t : touches) {
      if (!t.written) continue;
      answers = true;
      for (size_t q = 0; q < queues_.size(); q++)
        if (row.queues >> q & 1) at(q, t.reg) = clock_[q];
      for (size_t h = 0; h < hazards_.size(); h++)
        if (row.traits & hazards_[h].first)
          for (size_t track : {hazard_track(h), hazard_track(h) + 1}) at(track, t.reg) = at(track, ANY) = clock_[track];
      for (size_t d = 0; d < delays_.size(); d++) at(delay_track(d) + 1, t.reg) = never;
      if (size_t d = unit_of(row); d < delays_.size())
        at(delay_track(d), t.reg) = clock_[delay_track(d)], at(delay_track(d) + 1, t.reg) = now + row.latency;
    }
    if (row.traits & Inst::LEAVES) anybody_stores();
    bool writes = false;
    for (const OperandSpec& s : isa::operands_of(row))
      writes |= s.cls == RegClass::MEMORY && s.access & OperandSpec::WRITE && !(row.traits & Inst::PRIVATE);
    for (size_t q = 0; q < queues_.size(); q++) {
      if (!(row.queues >> q & 1)) continue;
      if (answers) at(q, LOADED) = clock_[q];
      if (writes || queues_[q].whole_at_barrier) at(q, SEEN) = clock_[q];
    }
  }

  MachineCode& code_;
  const isa::Isa& isa_;
  std::span<const isa::Queue> queues_;
  std::span<const isa::Hazard> hazards_;
  std::span<const isa::Delay> delays_;
  size_t tracks_;
  std::vector<i32> at_;     // [track][register]; of delays the second track says when the result is ready
  std::vector<i32> clock_;  // [track]
  std::vector<Block> blocks_;
  const CodeLine* end_ = nullptr;  // of the block
  std::vector<CodeLine> out_;
  bool emits_ = false, returns_ = false;
  i64 hint_ = -1;  // the last hint in out_ with room for a second dependence
  std::string hinted_;
  std::map<std::string, CodeLine> made_;
};

}  // namespace

void insert_waits(MachineCode& code, const Target& target) {
  const isa::Isa* isa = isa::find_isa(target.isa, target.arch);
  if (isa && isa->waits) Inserter(code, *isa).run();
}

}  // namespace ingot
