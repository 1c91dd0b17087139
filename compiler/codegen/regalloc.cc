// SPDX-License-Identifier: MIT
// Register allocation by linear scan, for any ISA: rows say which operands are read and written and in which class.
//
// A virtual register lives from its first definition to its last use; one that enters a loop from outside lives to the
// loop's end. Intervals are served in order of their start. When a class is full, the interval with the least weight
// (uses, tenfold for each loop around them, over length) goes to the frame, or, if it is a constant, is made again at
// each use; then the scan starts over with the short intervals that this leaves, which cannot be spilled again. A value
// that takes several registers in a row evicts all that stand in the lightest place for it.
// Registers that instructions name themselves (division, the call's arguments) are busy between their definition and
// their last use.
#include <algorithm>
#include "compiler/codegen/codegen.h"

namespace ingot {
namespace {

using isa::Operand;
using isa::OperandSpec;
using isa::RegClass;

struct Interval {
  int start = -1, end = -1;
  double uses = 0;
  bool unspillable = false, spilled = false;
  u32 assigned = isa::no_register, hint = isa::no_register;
};
struct Busy {
  RegClass cls;
  u32 reg;
  int start, end;
};

class Allocator {
 public:
  Allocator(MachineCode& code, const RegisterFile& file, const SpillCode& spill, const Target& target)
      : code_(code), file_(file), spill_(spill), target_(target) {}

  bool run(bool may_spill) {
    place_constants();
    for (int round = 0;; round++) {
      check(round < 64, "register allocation does not settle");
      measure();
      if (scan()) break;
      if (!may_spill) return false;
      rewrite();
    }
    assign();
    return true;
  }

 private:
  Interval& at(u32 r) { return intervals_[position_of(r)]; }

  void place_constants() {
    code_.lines.insert(code_.lines.begin() + code_.prologue, code_.constants.begin(), code_.constants.end());
  }

  void measure() {
    std::vector<bool> unspillable(code_.registers.size());
    for (size_t i = 0; i < intervals_.size(); i++) unspillable[i] = intervals_[i].unspillable;
    for (u32 r : fresh_) unspillable[position_of(r)] = true;
    fresh_.clear();
    intervals_.assign(code_.registers.size(), {});
    for (size_t i = 0; i < intervals_.size(); i++) intervals_[i].unspillable = unspillable[i];
    busy_.clear();
    std::vector<std::pair<int, int>> loops;  // start, end line, inner before outer
    std::vector<int> open;
    int depth = 0;
    for (size_t i = 0; i < code_.lines.size(); i++) {
      CodeLine& line = code_.lines[i];
      int at_read = int(2 * i), at_write = at_read + 1;
      if (line.kind == CodeLine::LOOP) depth++, open.push_back(at_read);
      if (line.kind == CodeLine::END) depth--, loops.push_back({open.back(), at_read}), open.pop_back();
      double weight = 1;
      for (int d = 0; d < std::min(depth, 12); d++) weight *= 10;
      each_register(line, [&](u32& r, RegClass cls, bool read, bool written) {
        if (!is_virtual(r)) {
          if (read) {
            Busy* b = last_busy(cls, r);
            if (b)
              b->end = std::max(b->end, at_read);
            else
              busy_.push_back({cls, r, -1, at_read});
          }
          if (written) busy_.push_back({cls, r, at_write, at_write});
          return;
        }
        Interval& v = at(r);
        int first = read ? at_read : at_write, last = written ? at_write : at_read;
        if (v.start < 0 || first < v.start) v.start = first;
        v.end = std::max(v.end, last);
        v.uses += weight;
      });
      if (line.kind == CodeLine::MOVE && line.inst.op[0].kind == Operand::REG && line.inst.op[1].kind == Operand::REG) {
        u32 to = line.inst.op[0].reg, from = line.inst.op[1].reg;
        if (is_virtual(to) && !part_of(to) && at(to).hint == isa::no_register) at(to).hint = from;
        if (is_virtual(from) && !part_of(from) && at(from).hint == isa::no_register) at(from).hint = to;
      }
    }
    for (auto [start, end] : loops)
      for (Interval& v : intervals_)
        if (v.start >= 0 && v.start < start && v.end > start && v.end < end) v.end = end;
  }
  Busy* last_busy(RegClass cls, u32 r) {
    for (size_t i = busy_.size(); i-- > 0;)
      if (busy_[i].cls == cls && busy_[i].reg == r) return &busy_[i];
    return nullptr;
  }

  const std::vector<u32>& list(RegClass cls) const {
    return cls == RegClass::SCALAR ? file_.scalar : cls == RegClass::VECTOR ? file_.vector : file_.predicate;
  }
  double weight(u32 r) {
    Interval& v = at(r);
    if (v.unspillable) return 1e300;
    double w = v.uses / (v.end - v.start + 1);
    return code_.registers[position_of(r)].constant >= 0 ? w * 0.5 : w;
  }
  bool free_for(u32 physical, RegClass cls, const Interval& v) const {
    for (const Busy& b : busy_)
      if (b.cls == cls && b.reg == physical && b.start <= v.end && v.start <= b.end) return false;
    return true;
  }

  bool scan() {
    std::vector<u32> order;
    for (size_t i = 0; i < intervals_.size(); i++)
      if (intervals_[i].start >= 0) order.push_back(isa::first_virtual + u32(i));
    std::ranges::sort(order, {}, [&](u32 r) { return std::pair(at(r).start, r); });
    auto group = [](RegClass c) { return c == RegClass::SCALAR ? 0 : c == RegClass::VECTOR ? 1 : 2; };
    std::vector<u32> active[3];
    constexpr u32 outside = isa::no_register - 1;  // not of the file
    std::vector<u32> taken[3];                     // by physical register: who has it
    for (RegClass c : {RegClass::SCALAR, RegClass::VECTOR, RegClass::PREDICATE}) {
      taken[group(c)].assign(isa::first_virtual + 16, outside);
      for (u32 p : list(c)) taken[group(c)][p] = isa::no_register;
    }
    bool complete = true;
    for (u32 r : order) {
      Interval& v = at(r);
      const VirtualRegister& reg = code_.registers[position_of(r)];
      std::vector<u32>& owner = taken[group(reg.cls)];
      std::vector<u32>& alive = active[group(reg.cls)];
      auto give = [&](u32 who, u32 to) {
        for (u32 k = 0; k < code_.registers[position_of(who)].count; k++) owner[at(who).assigned + k] = to;
      };
      std::erase_if(alive, [&](u32 other) {
        if (at(other).end >= v.start) return false;
        give(other, isa::no_register);
        return true;
      });
      auto usable = [&](u32 p) {
        bool ok = p % reg.align == 0;
        for (u32 k = p; ok && k < p + reg.count; k++)
          ok = owner[k] != outside && !(reg.low && k >= file_.low_vectors) && free_for(k, reg.cls, v);
        return ok;
      };
      auto free = [&](u32 p) {
        for (u32 k = p; k < p + reg.count; k++)
          if (owner[k] != isa::no_register) return false;
        return usable(p);
      };
      u32 chosen = isa::no_register;
      if (v.hint != isa::no_register) {
        u32 p = is_virtual(v.hint) ? at(v.hint).assigned : v.hint;
        if (p != isa::no_register && free(p + part_of(v.hint))) chosen = p + part_of(v.hint);
      }
      const std::vector<u32>& file = list(reg.cls);
      if (chosen == isa::no_register)
        if (auto p = std::ranges::find_if(file, free); p != file.end()) chosen = *p;
      if (chosen == isa::no_register) {  // the lightest goes: this one, or those whose registers it can take
        double least = weight(r);
        std::vector<u32> evicted;
        for (u32 p : file) {
          if (!usable(p)) continue;
          std::vector<u32> there;
          double sum = 0;
          for (u32 k = p; k < p + reg.count; k++)
            if (owner[k] != isa::no_register && std::ranges::find(there, owner[k]) == there.end())
              there.push_back(owner[k]), sum += weight(owner[k]);
          if (sum < least) least = sum, evicted = there, chosen = p;
        }
        complete = false;
        if (chosen == isa::no_register) {
          check(!v.unspillable, "too few registers for one instruction");
          v.spilled = true;
          continue;
        }
        for (u32 other : evicted) {
          at(other).spilled = true;
          give(other, isa::no_register);
          std::erase(alive, other);
        }
      }
      v.assigned = chosen;
      give(r, r);
      alive.push_back(r);
    }
    return complete;
  }

  // Spilled registers become short ones around each line that touches them.
  void rewrite() {
    std::vector<CodeLine> lines;
    lines.reserve(code_.lines.size() * 2);
    std::vector<i64> slot(code_.registers.size(), -1);
    size_t known = intervals_.size();
    for (CodeLine& line : code_.lines) {
      std::vector<CodeLine> after;
      std::vector<std::pair<u32, u32>> renamed;
      bool dropped = false;
      CodeLine original = line;
      each_register(original, [&](u32& raw, RegClass, bool, bool) {
        const u32 r = whole_of(raw);
        if (!is_virtual(r) || position_of(r) >= known || !at(r).spilled) return;
        if (std::ranges::find(renamed, r, &std::pair<u32, u32>::first) != renamed.end()) return;
        VirtualRegister info = code_.registers[position_of(r)];
        bool read = false, written = false;
        each_register(original, [&](u32& other, RegClass, bool reads, bool writes) {
          if (whole_of(other) == r) read |= reads, written |= writes;
        });
        for (const Operand& o : original.inst.op)  // what is written in part keeps the rest
          read |= written && o.kind == Operand::REG && whole_of(o.reg) == r && o.bits < 32 * info.count;
        u32 fresh = isa::first_virtual + u32(code_.registers.size());
        VirtualRegister copy = info;
        copy.constant = -1;
        if (info.constant >= 0) {
          if (written) {  // its definition: each use gets its own
            dropped = true;
            return;
          }
          code_.registers.push_back(copy);
          fresh_.push_back(fresh);
          CodeLine again = code_.constants[size_t(info.constant)];
          each_register(again, [&](u32& x, RegClass, bool, bool) {
            if (x == r) x = fresh;
          });
          lines.push_back(again);
        } else {
          code_.registers.push_back(copy);
          fresh_.push_back(fresh);
          Operand o = isa::reg(info.cls, info.bits, fresh);
          i64& offset = slot[position_of(r)];
          if (offset < 0) offset = new_slot(info);
          auto from = [&](std::vector<CodeLine>& list, size_t first) {
            for (size_t k = first; k < list.size(); k++) list[k].u = line.u;
          };
          if (size_t first = lines.size(); read) spill_.load(o, offset, target_, lines), from(lines, first);
          if (size_t first = after.size(); written) spill_.store(o, offset, target_, after), from(after, first);
        }
        renamed.push_back({r, fresh});
      });
      if (dropped) continue;
      each_register(line, [&](u32& r, RegClass, bool, bool) {
        for (auto [from, to] : renamed)
          if (whole_of(r) == from) {
            r = to | part_of(r) << part_shift;
            break;
          }
      });
      lines.push_back(line);
      lines.insert(lines.end(), after.begin(), after.end());
    }
    code_.lines.swap(lines);
  }
  i64 new_slot(const VirtualRegister& v) {
    const bool apart = spill_.scalars_apart && v.cls == RegClass::SCALAR;
    i64& frame = apart ? code_.scalar_frame_bytes : code_.frame_bytes;
    i64 bytes =
        spill_.scalars_apart ? v.count * 4 : std::max<i64>(v.cls == RegClass::VECTOR ? v.bits / 8 : 8, v.count * 4);
    i64 unit = spill_.scalars_apart ? 4 : bytes, offset = (frame + unit - 1) / unit * unit;
    frame = offset + bytes;
    return offset;
  }

  void assign() {
    std::erase_if(code_.lines, [&](CodeLine& line) {
      each_register(line, [&](u32& r, RegClass, bool, bool) {
        if (is_virtual(r)) r = at(r).assigned + part_of(r);
      });
      const Operand *to = &line.inst.op[0], *from = &line.inst.op[1];
      return line.kind == CodeLine::MOVE && to->kind == Operand::REG && from->kind == Operand::REG &&
             to->reg == from->reg && to->cls == from->cls;
    });
  }

  MachineCode& code_;
  const RegisterFile& file_;
  const SpillCode& spill_;
  const Target& target_;
  std::vector<Interval> intervals_;
  std::vector<Busy> busy_;
  std::vector<u32> fresh_;
};

}  // namespace

bool allocate_registers(MachineCode& code, const RegisterFile& file, const SpillCode& spill, const Target& target,
                        bool may_spill) {
  return Allocator(code, file, spill, target).run(may_spill);
}

}  // namespace ingot
