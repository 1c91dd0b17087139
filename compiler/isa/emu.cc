// SPDX-License-Identifier: MIT
// A shader core in software: runs the waves of a dispatch from the meanings of their rows, and objects to what silicon
// would punish without a word.
//
// An instruction is decoded once. Its row's patterns become a list of steps over Lanes (emu_lanes.cc), its operands
// places to fetch from, so that running it is: fetch, steps, write under EXEC. What a pattern cannot say is a function
// here (across lanes, memory at two addresses, the wave's state) or in emu_lanes.cc (one lane). A work-group's waves
// and several groups are in flight at once, and which wave is next is drawn between instructions from the dispatch's
// seed, so that a missing barrier shows.
//
// Loads finish at once but their registers stay pending until a wait has brought the counter down far enough: reading
// or overwriting one before that is a violation, whatever the timing on silicon would have been. Stores stay pending in
// the same way for everybody but the wave that made them. Undefined registers spread like values, and are a violation
// where they choose an address, a branch or EXEC, or leave for memory that others see; so a copy of garbage is no error
// and a use of it is. Hazards: LLVM 19, GCNHazardRecognizer.cpp.
//
// What is not modelled stops the wave as an illegal instruction and says so: wave64, traps, buffers, what counts quads
// or sums bytes for graphics, v_swaprel, v_trig_preop, cube maps, appends, the global data share, clamped sums of 64
// bits. Exceptions of MODE never happen. Blocks compiled by the host's back end (hw::BlockCompiler) would replace
// patterns().
#include <algorithm>
#include <cmath>
#include <unordered_map>

#include "compiler/isa/emu.h"

namespace ingot::isa {
using namespace rdna;
using namespace rdna::fields;
using namespace emu;
using hw::Access;
using Result = hw::WaveResult;

namespace {

enum Word : u8 { RSRC1, RSRC2, MODE, HWREG, DPP_WORD };
enum State : u8 {
#define STATE(name, ...) name,
#define DPP DPP_WORD
#include "compiler/isa/rdna_state.def"
#undef STATE
};
struct StateRow {
  Word word;
  u8 low, bits;
};
constexpr StateRow state_rows[] = {
#define STATE(name, word, low, bits, doc) {word, low, bits},
#include "compiler/isa/rdna_state.def"
#undef STATE
#undef DPP
};
constexpr u32 state(State s, u64 word) { return u32(word >> state_rows[s].low & ((u64(1) << state_rows[s].bits) - 1)); }

// ---- decoded instructions ------------------------------------------------------------------------------------------
struct Place {  // where an operand of a row is
  enum Kind : u8 {
    NOWHERE,
    VGPR,
    SGPR,
    SPECIAL,
    CONSTANT,
    MASK,
    FLAG,
    COUNTER,
    MEMORY
  } kind = NOWHERE;  // SPECIAL: null, scc …
  u8 modifiers = 0;
  u8 bits = 0;   // of an element
  u8 count = 1;  // registers
  Scalar type = Scalar::VOID;
  u32 reg = 0;
  u64 constant = 0;
  bool scalar() const { return kind == SGPR || kind == MASK; }
};
struct Step {
  Loop many, one;
  u8 out, source[3];
  Scalar settle = Scalar::VOID;  // VOID: nothing to do
  bool saturate = false;
};
constexpr int first_temp = 8, first_constant = 40, slots = 56;
// How undefined parts of sources reach the result: all of it as a rule; otherwise
enum Flow : u8 {
  ANY,
  COPY,        // each dword from the same dword
  WIDE,        // 64-bit sums and products: the low dword needs the low dwords only
  CHOOSES,     // one of two sources, by a mask
  BYTES,       // v_perm_b32 with a constant selector
  HALVES,      // by a row of half_flows
  HIGH,        // a load that leaves the low half alone
  READS_LANE,  // from the lane that is read
};
struct HalfFlow {  // for each half of the result the halves it needs: source number, l(ow), h(igh), b(y op_sel)
  std::string_view name;
  int shift_source;  // -1, or the source that must be the constant 16
  std::string_view low, high;
};
constexpr HalfFlow half_flows[] = {
    {"v_mov_b32", -1, "0l", "0h"},          {"v_not_b32", -1, "0l", "0h"},
    {"v_dual_mov_b32", -1, "0l", "0h"},     {"v_and_b32", -1, "0l1l", "0h1h"},
    {"v_dual_and_b32", -1, "0l1l", "0h1h"}, {"v_or_b32", -1, "0l1l", "0h1h"},
    {"v_xor_b32", -1, "0l1l", "0h1h"},      {"v_xnor_b32", -1, "0l1l", "0h1h"},
    {"v_or3_b32", -1, "0l1l2l", "0h1h2h"},  {"v_xor3_b32", -1, "0l1l2l", "0h1h2h"},
    {"v_bfi_b32", -1, "0l1l2l", "0h1h2h"},  {"v_and_or_b32", -1, "0l1l2l", "0h1h2h"},
    {"v_lshlrev_b32", 0, "", "1l"},         {"v_dual_lshlrev_b32", 0, "", "1l"},
    {"v_lshrrev_b32", 0, "1h", ""},         {"v_ashrrev_i32", 0, "1h", "1h"},
    {"v_lshl_or_b32", 1, "2l", "0l2h"},     {"v_pack_b32_f16", -1, "0b", "1b"},
};
struct Part {  // one row with its operands; a pair (VOPD) has two
  const Row* row = nullptr;
  Place place[Inst::max_specs];
  std::vector<Step> steps;
  struct {
    u8 target, slot;
  } effect[3] = {};
  i8 choice[3] = {-1, -1, -1};  // of CHOOSES: the operand that is the mask, the one where it holds, the other
  u8 effects = 0, elements = 1, holes = 0;
  Flow flow = ANY;
  const HalfFlow* halves = nullptr;
  std::vector<Lanes> constant;
  bool scalar = false, saturate = false, is_float = false, by_lane = false;  // by_lane: addresses count on by lane
  i64 unit = 0;                                                              // of two offsets, in bytes
  i8 d0 = -1, d1 = -1, s[3] = {-1, -1, -1}, data = -1, data2 = -1, addr = -1, saddr = -1, offset = -1, mem = -1,
     simm = -1;
};
struct Code {
  u64 pc = 0;
  u32 bytes = 0;
  u32 epoch = 0;
  u8 words[16] = {};
  Instruction in;
  Modifiers m;
  Part part[2];
  u8 parts = 0;
  u32 vgprs = 0;  // as many it needs
  bool valu = false, trans = false;
  const char* refused = nullptr;
  Code* next = nullptr;
};

std::string scalar_name(u32 reg) {
  return reg < VCC_LO ? str("s", reg) : reg < VCC_LO + 2 ? "vcc" : reg == M0_REGISTER ? "m0" : "exec";
}
bool is_float(Scalar s) { return dtype_rows[int(s)].kind == Kind::FLOATING; }
// A register of 32 bits per lane may stand for Lanes: no more of it is there to copy.
void copy(Lanes& to, const Lanes& from, bool wide) { std::memcpy(&to, &from, sizeof to / (wide ? 1 : 2)); }
bool is_narrow(Scalar s) { return dtype_rows[int(s)].bits < 32 && s != Scalar::BOOL; }

// Turns a row's meaning, as UOps over its operands, into steps.
struct Compiler {
  Part& part;
  UMap<u8> slot{};
  u8 next_temp = first_temp;
  Scalar widened(DType d) const {  // sums that saturate are made in 64 bits
    return part.saturate && d.is_int() ? Scalar::I64 : d.scalar;
  }
  bool emit(U u, Loop many, Loop one, Scalar settle, bool saturate = false) {
    if (!many || next_temp == first_constant) return false;
    Step step{many, one, slot[u] = next_temp++, {}, settle, saturate};
    for (size_t i = 0; i < u->nsrc; i++) step.source[i] = slot[u->src()[i]];
    part.steps.push_back(step);
    return true;
  }
  bool node(U u) {
    Scalar to = widened(u->dtype), from = u->nsrc ? widened(u->src(int(u->op == Op::WHERE))->dtype) : to;
    if (u->op == Op::ACC) {
      part.holes |= u8(1 << u->arg(0));
      return slot[u] = u8(u->arg(0)), true;
    }
    if (u->op == Op::CONST) {
      Lanes v;
      for (int i = 0; i < wave_lanes; i++)
        decode_lane(to, is_float(to) ? encode_float(u->const_float(), {to}) : u64(u->const_int()), v, i);
      slot[u] = u8(first_constant + part.constant.size());
      return part.constant.push_back(v), part.constant.size() <= slots - first_constant;
    }
    if (u->op == Op::CAST || u->op == Op::BITCAST) {
      bool saturates = is_float(from) && !is_float(to);
      bool narrows =
          is_narrow(to) && (dtype_rows[int(from)].bits > dtype_rows[int(to)].bits || is_float(to) != is_float(from));
      bool same = held_in_64(from) == held_in_64(to) && is_float(from) == is_float(to) && !narrows;
      if (u->op == Op::BITCAST || same)  // the bits in the lane are right as they are
        return slot[u] = slot[u->src(0)], true;
      return emit(u, conversion(from, to, false), conversion(from, to, true), narrows ? to : Scalar::VOID, saturates);
    }
    bool settles = is_narrow(to) && u->op != Op::WHERE && !(u->op == Op::FMA && from == Scalar::F16);
    return emit(u, arithmetic(u->op, from, false), arithmetic(u->op, from, true), settles ? to : Scalar::VOID);
  }
  bool effect(const Effect& e, int at) {
    Arena arena;
    ArenaScope scope(arena);
    slot.clear();
    U operands[Inst::max_specs];
    for (int k = 0; k < part.row->specs; k++) operands[k] = make(Op::ACC, dtype_of(part.row->spec[k]), {}, {k});
    U root = build_effect(*part.row, e, operands);
    for (U u : toposort(root))
      if (!node(u)) return false;
    part.effect[at] = {u8(e.target), slot[root]};
    if (root->op == Op::WHERE && root->src(0)->op == Op::ACC && part.place[root->src(0)->arg(0)].kind == Place::MASK &&
        root->src(1)->op == Op::ACC && root->src(2)->op == Op::ACC)
      for (int i = 0; i < 3; i++) part.choice[i] = i8(root->src(i)->arg(0));
    return true;
  }
};

Place place_of(const OperandSpec& s, const Operand& o, bool implicit) {
  Place p;
  p.type = s.type, p.bits = s.type == Scalar::BOOL ? 32 : u8(dtype_rows[int(s.type)].bits), p.modifiers = o.modifiers;
  if (implicit) {
    p.kind = s.cls == RegClass::FLAGS     ? Place::FLAG
             : s.cls == RegClass::POINTER ? Place::COUNTER
             : s.cls == RegClass::MEMORY  ? Place::MEMORY
             : s.type == Scalar::BOOL     ? Place::MASK
                                          : Place::SGPR;
    p.reg = p.kind == Place::MASK || p.kind == Place::SGPR ? u32(s.fixed) : 0;
    p.count = u8(std::max(1, (s.bits + 31) / 32));
  } else if (o.kind == Operand::IMM) {
    p.kind = Place::CONSTANT, p.constant = u64(o.imm);
    if (s.type == Scalar::U64 && o.imm < 0 && (o.modifiers & LITERAL)) p.constant = u32(o.imm);
  } else if (o.kind == Operand::REG) {
    p.kind = o.cls == RegClass::VECTOR                ? Place::VGPR
             : o.reg >= 128 || o.reg == NULL_REGISTER ? Place::SPECIAL
             : s.type == Scalar::BOOL                 ? Place::MASK
                                                      : Place::SGPR;
    p.reg = o.reg, p.count = u8(std::max(1, (std::max<int>(o.bits, s.type == Scalar::BOOL ? 32 : 1) + 31) / 32));
  }
  return p;
}

Flow flow_of(Part& p) {
  const Row& r = *p.row;
  std::string_view name = r.name;
  if (r.function == READ_LANE) return p.place[p.s[0]].kind == Place::VGPR ? READS_LANE : ANY;
  if (p.choice[0] >= 0) return CHOOSES;
  if (r.format >= DS) return name.find("d16_hi") != name.npos ? HIGH : ANY;
  if (p.d0 >= 0 && p.place[p.d0].bits == 64 && !is_float(p.place[p.d0].type) && r.function == NO_FUNCTION &&
      name.find("shr") == name.npos)
    return p.steps.empty() ? COPY : WIDE;
  if (name == "v_perm_b32" && p.place[p.s[2]].kind == Place::CONSTANT) return BYTES;
  for (const HalfFlow& f : half_flows)
    if (f.name == name && (f.shift_source < 0 || (p.place[p.s[f.shift_source]].kind == Place::CONSTANT &&
                                                  p.place[p.s[f.shift_source]].constant == 16)))
      return p.halves = &f, HALVES;
  return ANY;
}

bool compile(Part& p, const Row& r, const Operand* op, const Modifiers& m) {
  p.row = &r;
  p.scalar = r.format <= SMEM;
  i8 at[FIELDS];
  std::fill(at, at + FIELDS, i8(-1));
  for (int i = 0; i < r.specs; i++) {
    p.place[i] = place_of(r.spec[i], op[i], i >= r.shown);
    if (i < r.shown) at[r.spec[i].place] = i8(i);
    if (p.place[i].kind == Place::MEMORY) p.mem = i8(i);
  }
  for (int i = 0; i < 3; i++) p.s[i] = at[SRC0 + i];
  p.d0 = at[VDST] < 0 ? at[SDST] : at[VDST], p.d1 = at[VDST] < 0 ? i8(-1) : at[SDST];
  p.data = std::max(at[DATA], at[SOFFSET]), p.data2 = at[DATA2], p.addr = at[ADDR],
  p.saddr = std::max(at[SADDR], at[SBASE]);
  p.offset = at[OFFSET], p.simm = std::max(at[SIMM], at[LIT]);
  std::span<const Effect> effects = effects_of(r);
  p.elements = r.effects ? u8(std::max<u16>(1, r.dtype.lanes)) : 1;
  p.is_float = p.d0 >= 0 && is_float(p.place[p.d0].type);
  if (m.clamp && !p.is_float && r.effects &&
      !(p.s[0] >= 0 && is_float(p.place[p.s[0]].type))) {  // casts saturate by themselves
    p.saturate = true;
    for (int i = 0; i < r.shown; i++) p.saturate &= !held_in_64(p.place[i].type);
    if (effects.size() > 1 || !p.saturate) return false;
  }
  Compiler c{p};
  for (const Effect& e : effects)
    if (!c.effect(e, p.effects++)) return false;
  p.flow = flow_of(p);
  std::string_view name = r.name;
  p.by_lane = name.find("addtid") != name.npos;
  if (p.offset >= 0 && r.kind[p.offset] == KIND_offset2)
    p.unit = r.spec[p.mem].bits / 8 * (name.find("stride64") != name.npos ? 64 : 1);
  return true;
}

// ---- the machine ---------------------------------------------------------------------------------------------------
using Counter = QueueName;
struct Pending {  // the counts after which a result is there, up to two of them (flat: vmcnt and lgkmcnt); 0: none
  u32 at[QUEUES] = {};
  u64 pc = 0;
};
struct Defined {  // lanes whose low and high half of a register something has set
  u32 half[2] = {};
  u32 both() const { return half[0] & half[1]; }
};
struct alignas(64) Vector {
  u32 lane[wave_lanes] = {};
};
struct Group;
struct WaveState {
  Group* group = nullptr;
  int index = 0;
  u64 pc = 0;
  Code* code = nullptr;  // at pc, if known
  enum { READY, AT_BARRIER, ENDED } status = READY;
  bool scc = false, scc_defined = false;
  u32 s[128] = {};
  u32 mode = 0, initial_exec = 0, number = 0;
  std::vector<Vector> v;
  i64 scratch_slot = 0;
  // the checker's
  std::vector<Defined> v_defined;
  bool s_defined[128] = {};
  u32 issued[QUEUES] = {}, done[QUEUES] = {};
  Pending v_pending[256], s_pending[128];
  u32 valu = 0, trans = 0, trans_clear = 0;  // instructions so far; those up to trans_clear were waited for
  struct {
    u32 valu = 0, trans = 0;
  } trans_write[256];
  u32 matrix_first = 0, matrix_count = 0;            // D of the WMMA just before
  bool cmpx = false;                                 // v_cmpx since the last VALU instruction
  const char* outstanding(const Pending& p) const {  // the counter to wait for; nullptr: none
    for (int c = 0; c < QUEUES; c++)
      if (p.at[c] > done[c]) return queues[c].counter.data();
    return nullptr;
  }
};
struct Store {  // who wrote a dword last, and until which count it is on its way
  u32 wave = 0;
  u8 counter = VS;
  bool atomic = false;
  u32 at = 0;
  u8 bytes = 15;  // bit per byte that it wrote
};
struct Group {
  u32 id[3] = {};
  std::vector<std::unique_ptr<WaveState>> waves;
  std::vector<u8> lds;
  std::vector<Store> lds_store;  // by dword
  int running = 0;
};

class Core final : public hw::Wave {
 public:
  explicit Core(const EmulatorOptions& options) : options_(options), isa_(*find_isa("rdna", options.arch)) {}
  void start(const hw::Dispatch& dispatch, hw::WaveMemory& memory) override;
  Result step(i64 instructions) override;
  std::vector<hw::WaveReport> waves() const override;

 private:
  // scheduling
  bool start_group();
  Code* code_at(u64 pc);
  void run(WaveState& w);
  void end(WaveState& w);
  void stop(Result::Kind kind, std::string message);
  bool stopped() const { return result_.kind != Result::DONE; }
  void refuse(std::string_view why) { stop(Result::ILLEGAL_INSTRUCTION, str(where(*c_), ": ", why)); }
  void object(std::string message);
  u32 random() { return u32((random_ = random_ * 6364136223846793005u + 1442695040888963407u) >> 33); }

  // operands
  u32 read_scalar(u32 reg) const;
  u64 read_scalar64(u32 reg) const {
    return reg >= 128 ? special64(reg) : read_scalar(reg) | u64(read_scalar(reg + 1)) << 32;
  }
  u64 special64(u32 reg) const;
  void write_scalar(u32 reg, u32 value);
  u64 raw(const Part& p, int k, int element, int lane) const;  // bits, modifiers applied
  u32 raw_dword(const Part& p, int k, int dword, int lane) const;
  const Lanes& fetch(const Part& p, int k, int element, Lanes& to);
  u64 source_dpp(int lane, u64 value) const;
  void evaluate(Part& p, int element, const Lanes* (&value)[slots]);
  void write(const Part& p, int k, int element, const Lanes& v, u32 mask);
  void write_bits(const Part& p, int k, int element, int lane, u64 bits);
  void plan_dpp();
  int lane_read(const Part& p) const {  // by v_readlane, or v_readfirstlane
    return p.s[1] >= 0 ? int(raw_dword(p, p.s[1], 0, 0) & 31) : exec_ ? __builtin_ctz(exec_) : 0;
  }

  // instructions
  void execute(Code& c);
  void patterns(Code& c);
  void function(Part& p);
  void lanes(Part& p);
  void matrix(Part& p);
  void memory(Part& p);
  void scalar_load(Part& p);
  void wait(Part& p);
  void move_relative(Part& p);
  void hardware_register(Part& p);
  u64 address(const Part& p, int lane, int which);
  enum class Space : u8 { GLOBAL, LDS, SCRATCH };
  void unseen(const Store& last, u64 address);
  void audit(Access kind, int lane, i64 bytes);
  void reach(Access kind, int lane, void* data, i64 bytes);
  void reach_all(Access kind, i64 bytes);

  // checker
  void check_before(Code& c);
  void check_registers(const Part& p, bool reads);
  void define(Code& c);
  void issue(Part& p);
  std::string where(const Code& c) const;

  EmulatorOptions options_;
  const Isa& isa_;
  hw::Dispatch d_;
  hw::WaveMemory* memory_ = nullptr;
  Result result_;
  std::unordered_map<u64, std::unique_ptr<Code>> codes_;
  u32 epoch_ = 0;
  u64 random_ = 0;
  i64 next_group_ = 0, groups_ = 0;
  std::vector<std::unique_ptr<Group>> live_;
  std::vector<WaveState*> ready_;
  std::vector<bool> slots_used_;
  std::unordered_map<u64, Store> stores_;             // global memory by dword
  std::vector<WaveState*> wave_;                      // by number, from 1 on; nullptr: ended
  std::vector<std::array<u32, QUEUES>> last_counts_;  // what the ended ones had waited for

  // the instruction being run
  WaveState* w_ = nullptr;
  Code* c_ = nullptr;
  u64 next_pc_ = 0;
  u32 exec_ = 0;  // lanes that take part
  FloatMode mode_;
  bool flushes_ = false;
  i8 dpp_lane_[wave_lanes];  // source lane; -1: zero, -2: none
  u32 dpp_mask_ = 0;
  Lanes temp_[first_constant], result_lanes_[2][3][16];
  alignas(64) u8 mem_[wave_lanes][64];
  u64 addresses_[wave_lanes];
  Space spaces_[wave_lanes];
};

// ---- waves ---------------------------------------------------------------------------------------------------------
void Core::start(const hw::Dispatch& dispatch, hw::WaveMemory& memory) {
  d_ = dispatch, memory_ = &memory, result_ = {}, epoch_++;
  random_ = d_.seed * 2 + 1;
  live_.clear(), ready_.clear(), stores_.clear();
  slots_used_.assign(size_t(d_.scratch_waves), false);
  next_group_ = 0, groups_ = i64(d_.groups[0]) * d_.groups[1] * d_.groups[2];
  wave_.assign(1, nullptr), last_counts_.assign(1, {});
  if (!d_.wave32) stop(Result::ILLEGAL_INSTRUCTION, "waves of 64 lanes are not modelled");
}

void Core::stop(Result::Kind kind, std::string message) {
  if (stopped()) return;  // the first one counts
  result_ = {kind, c_ ? c_->pc : 0, std::move(message)};
}
std::string Core::where(const Code& c) const {
  std::string out = str(options_.kernel, options_.kernel.empty() ? "" : ": ", hex(c.pc), " `", isa_.print(c.in), "`");
  if (std::string from = options_.source ? options_.source(c.pc) : ""; !from.empty()) out += str(" from ", from);
  if (w_) out += str(" in group ", std::span(w_->group->id), " wave ", w_->index, ", seed ", d_.seed);
  return out;
}
void Core::object(std::string message) {
  if (options_.checker && c_) stop(Result::VIOLATION, str(where(*c_), ": ", message));
}

bool Core::start_group() {
  i64 threads = i64(d_.threads[0]) * d_.threads[1] * d_.threads[2], count = (threads + wave_lanes - 1) / wave_lanes;
  i64 free_slots = 0;
  for (bool used : slots_used_) free_slots += !used;
  if (next_group_ == groups_ || (d_.scratch_wave_bytes && free_slots < count && !live_.empty())) return false;
  if (d_.scratch_wave_bytes && free_slots < count)
    return stop(Result::VIOLATION, str(count, " waves of a group, but ", free_slots, " scratch slots")), false;
  auto group = std::make_unique<Group>();
  i64 n = next_group_++;
  group->id[0] = d_.first[0] + u32(n % d_.groups[0]);
  group->id[1] = d_.first[1] + u32(n / d_.groups[0] % d_.groups[1]);
  group->id[2] = d_.first[2] + u32(n / d_.groups[0] / d_.groups[1]);
  group->lds.assign(state(LDS_SIZE, d_.rsrc[1]) * 512, 0);
  group->lds_store.resize(options_.checker ? group->lds.size() / 4 : 0);
  group->running = int(count);
  for (i64 i = 0; i < count; i++) {
    auto w = std::make_unique<WaveState>();
    w->group = group.get(), w->index = int(i), w->pc = d_.entry, w->number = u32(wave_.size());
    wave_.push_back(w.get()), last_counts_.push_back({});
    w->v.resize((state(VGPRS, d_.rsrc[0]) + 1) * 8);
    w->v_defined.assign(w->v.size(), {});
    w->mode = state(FLOAT_MODE, d_.rsrc[0]) | state(DX10_CLAMP, d_.rsrc[0]) << state_rows[MODE_CLAMP].low |
              state(IEEE, d_.rsrc[0]) << state_rows[MODE_IEEE].low;
    // What nobody defines holds garbage that differs from wave to wave.
    for (u32& s : w->s) s = random();
    for (Vector& v : w->v)
      for (u32& x : v.lane) x = random();
    u32 at = state(USER_SGPRS, d_.rsrc[1]);
    for (u32 k = 0; k < at && k < 16; k++) w->s[k] = d_.user_data[k], w->s_defined[k] = true;
    auto push = [&](bool wanted, u32 value) {
      if (wanted) w->s[at] = value, w->s_defined[at++] = true;
    };
    push(state(GROUP_X, d_.rsrc[1]), group->id[0]);
    push(state(GROUP_Y, d_.rsrc[1]), group->id[1]);
    push(state(GROUP_Z, d_.rsrc[1]), group->id[2]);
    push(state(GROUP_INFO, d_.rsrc[1]), u32(count) | u32(i == 0) << 31);
    if (at < 16)  // gfx1100 initialises fewer wrongly (LLVM: FeatureUserSGPRInit16Bug)
      for (u32 k = 0; k < at; k++) w->s[k] = random(), w->s_defined[k] = false;
    u32 ids = state(ITEM_IDS, d_.rsrc[1]), lanes = 0;
    for (int l = 0; l < wave_lanes; l++) {
      i64 item = i * wave_lanes + l;
      if (item >= threads) break;
      u32 x = u32(item % d_.threads[0]), y = u32(item / d_.threads[0] % d_.threads[1]),
          z = u32(item / d_.threads[0] / d_.threads[1]);
      w->v[0].lane[l] = x | (ids > 0 ? y << 10 : 0) | (ids > 1 ? z << 20 : 0);
      lanes |= u32(1) << l;
    }
    w->v_defined[0] = {{lanes, lanes}};
    w->s[EXEC_LO] = w->initial_exec = lanes;
    w->s[EXEC_LO + 1] = 0;
    w->s_defined[EXEC_LO] = w->s_defined[EXEC_LO + 1] = w->s_defined[NULL_REGISTER] = true;
    if (d_.scratch_wave_bytes) {
      size_t slot = size_t(std::find(slots_used_.begin(), slots_used_.end(), false) - slots_used_.begin());
      slots_used_[slot] = true, w->scratch_slot = i64(slot);
    }
    ready_.push_back(w.get());
    group->waves.push_back(std::move(w));
  }
  live_.push_back(std::move(group));
  return true;
}

void Core::end(WaveState& w) {
  w.status = WaveState::ENDED;
  std::erase(ready_, &w);
  wave_[w.number] = nullptr;
  std::copy(w.done, w.done + QUEUES, last_counts_[w.number].begin());
  if (d_.scratch_wave_bytes) slots_used_[size_t(w.scratch_slot)] = false;
  Group* g = w.group;
  for (auto& other : g->waves)
    if (other->status == WaveState::AT_BARRIER) object(str("ends while wave ", other->index, " waits at a barrier"));
  if (--g->running == 0) {
    w_ = nullptr;
    std::erase_if(live_, [&](auto& p) { return p.get() == g; });
  }
}

// Groups in flight: enough for their orders to matter.
constexpr size_t groups_in_flight = 4;

Result Core::step(i64 instructions) {
  i64 left = instructions;
  for (; left > 0 && !stopped(); left--) {
    while (live_.size() < groups_in_flight && start_group()) {}
    if (live_.empty() || stopped()) break;
    if (ready_.empty()) {
      stop(Result::VIOLATION, "every wave waits at a barrier");
      break;
    }
    run(*ready_[random() % ready_.size()]);
  }
  bool running = !stopped() && (!live_.empty() || next_group_ < groups_);
  Result r = running ? Result{Result::RUNNING, ready_.empty() ? 0 : ready_[0]->pc, ""} : result_;
  r.instructions = instructions - left;
  return r;
}

std::vector<hw::WaveReport> Core::waves() const {
  std::vector<hw::WaveReport> out;
  for (auto& g : live_)
    for (auto& w : g->waves) {
      if (w->status == WaveState::ENDED) continue;
      hw::WaveReport r;
      std::copy(g->id, g->id + 3, r.group);
      r.wave = w->index, r.pc = w->pc;
      r.text = str(w->status == WaveState::AT_BARRIER ? "at a barrier" : "running", ", exec ", hex(w->s[EXEC_LO], 8),
                   ", vcc ", hex(w->s[VCC_LO], 8), ", scc ", int(w->scc), ", m0 ", hex(w->s[M0_REGISTER], 8), "\n");
      if (w->code) r.text += str("next: ", isa_.print(w->code->in), "\n");
      for (u32 k = 0; k < VCC_LO; k++)
        if (w->s_defined[k]) r.text += str("s", k, " ", hex(w->s[k], 8), "\n");
      for (size_t k = 0; k < w->v.size(); k++) {
        if (!w->v_defined[k].half[0]) continue;
        r.text += str("v", k);
        for (u32 x : w->v[k].lane) r.text += str(" ", hex(x, 8));
        r.text += "\n";
      }
      out.push_back(std::move(r));
    }
  return out;
}

// ---- decoding ------------------------------------------------------------------------------------------------------
Code* Core::code_at(u64 pc) {
  auto& slot = codes_[pc];
  if (slot && slot->epoch == epoch_) return slot.get();
  if (pc % 4) return stop(Result::ILLEGAL_INSTRUCTION, str("the program counter is ", hex(pc))), nullptr;
  auto fresh = std::make_unique<Code>();
  for (u64 n = 0; !fresh->bytes && n < sizeof fresh->words; n += 4) {  // no further than the instruction is long
    if (!memory_->access(Access::FETCH, pc + n, fresh->words + n, 4))
      return stop(Result::FAULT, str("no instruction at ", hex(pc + n))), nullptr;
    fresh->bytes = u32(isa_.decode(std::span(fresh->words, n + 4), fresh->in));
  }
  if (slot && slot->bytes == fresh->bytes && !std::memcmp(slot->words, fresh->words, slot->bytes)) {
    slot->epoch = epoch_, slot->next = nullptr;  // an earlier dispatch's
    return slot.get();
  }
  slot = std::move(fresh);
  Code& c = *slot;
  c.pc = pc, c.epoch = epoch_;
  if (!c.bytes) return c.refused = "not an instruction", &c;
  c.m = Modifiers::of(c.in.modifiers);
  const Row& row = static_cast<const Row&>(*c.in.row);
  bool ok = compile(c.part[0], row, c.in.op, c.m);
  c.parts = 1;
  if (c.in.second)
    ok &= compile(c.part[1], static_cast<const Row&>(*c.in.second), c.in.op + row.shown, c.m), c.parts = 2;
  c.valu = row.format >= VOP1 && row.format <= VOPD;
  c.trans = row.cls == CLASS_trans || row.cls == CLASS_trans64;
  for (const Part& p : c.part)
    for (const Place& o : p.place)
      if (o.kind == Place::VGPR) c.vgprs = std::max(c.vgprs, o.reg + o.count);
  if (!ok) c.refused = "this use of it is not modelled";
  return &c;
}

void Core::run(WaveState& w) {
  w_ = &w;
  if (!w.code) w.code = code_at(w.pc);
  if (!w.code) return;
  c_ = w.code;
  next_pc_ = w.pc + c_->bytes;
  execute(*c_);
  if (!w_ || w.status == WaveState::ENDED) return void(c_ = nullptr);
  if (next_pc_ == w.pc + c_->bytes) {
    if (!c_->next) c_->next = code_at(next_pc_);
    w.code = c_->next;
  } else {
    w.code = nullptr;
  }
  w.pc = next_pc_;
}

// ---- operands ------------------------------------------------------------------------------------------------------
u64 Core::special64(u32 reg) const {
  const u64 limit = ~u32(0), shared = d_.shared_aperture, own = d_.private_aperture;
  const u64 values[] = {shared, shared | limit, own, own | limit, 0};  // from src_shared_base on
  return reg == SCC_REGISTER       ? w_->scc
         : reg == SCC_REGISTER - 1 ? w_->s[EXEC_LO] == 0
         : reg == SCC_REGISTER - 2 ? w_->s[VCC_LO] == 0
         : reg >= 235 && reg < 240 ? values[reg - 235]
                                   : 0;
}
u32 Core::read_scalar(u32 reg) const { return reg == NULL_REGISTER ? 0 : reg < 128 ? w_->s[reg] : u32(special64(reg)); }
void Core::write_scalar(u32 reg, u32 value) {
  if (reg < 128 && reg != NULL_REGISTER) w_->s[reg] = value;
}

u32 Core::raw_dword(const Part& p, int k, int dword, int lane) const {
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
    case Place::FLAG: return w_->scc;
    default: return 0;
  }
}

// The bits of one element with the modifiers applied; element -1: of the whole operand, up to 64 bits.
u64 Core::raw(const Part& p, int k, int element, int lane) const {
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

const Lanes& Core::fetch(const Part& p, int k, int element, Lanes& to) {
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
      for (int l = 0; l < n; l++) to.u[l] = w_->scc;
      return to;
    case Place::COUNTER: return to.q[0] = next_pc_, to;
    case Place::MEMORY:
      for (int l = 0; l < n; l++) {
        u64 bits = 0;
        std::memcpy(&bits, mem_[l] + element * (o.bits / 8), size_t(o.bits / 8));
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

void Core::evaluate(Part& p, int element, const Lanes* (&value)[slots]) {
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

void Core::write_bits(const Part& p, int k, int element, int lane, u64 bits) {
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

void Core::write(const Part& p, int k, int element, const Lanes& v, u32 mask) {
  const Place& o = p.place[k];
  switch (o.kind) {
    case Place::MASK: {
      u32 bits = 0;
      for (int l = 0; l < wave_lanes; l++) bits |= u32((v.u[l] & 1) << l);
      return write_scalar(o.reg, bits & mask);
    }
    case Place::FLAG: w_->scc = v.u[0] & 1; return;
    case Place::COUNTER: next_pc_ = v.q[0]; return;
    case Place::SGPR: {
      u64 bits = encode_lane(o.type, v, 0);
      for (u32 i = 0, n = o.bits / 32; i < n; i++) w_->s[o.reg + n * u32(element) + i] = u32(bits >> 32 * i);
      return;
    }
    case Place::MEMORY:
      for (int l = 0; l < (p.scalar ? 1 : wave_lanes); l++) {
        u64 bits = encode_lane(o.type, v, l);
        std::memcpy(mem_[l] + element * (o.bits / 8), &bits, size_t(o.bits / 8));
      }
      return;
    case Place::VGPR: break;
    default: return;
  }
  bool limits = p.saturate, finish = c_->valu && is_float(o.type) && (c_->m.clamp || c_->m.omod || flushes_);
  if (o.bits == 32 && !limits && !finish) {
    u32* to = w_->v[o.reg + u32(element)].lane;
    if (mask == ~u32(0)) {
      std::memmove(to, v.u, sizeof(Vector));
    } else {
      for (int l = 0; l < wave_lanes; l++)
        if (mask >> l & 1) to[l] = v.u[l];
    }
    return;
  }
  for (int l = 0; l < wave_lanes; l++) {
    if (!(mask >> l & 1)) continue;
    u64 bits = limits ? saturated(v.s[l], o.type) : encode_lane(o.type, v, l);
    if (finish) bits = finish_float(bits, o.type, mode_, c_->m.omod, c_->m.clamp);
    write_bits(p, k, element, l, bits);
  }
}

// Where each lane's first source comes from, and which lanes are written.
void Core::plan_dpp() {
  u32 word = u32(c_->m.dpp), control = state(CONTROL, word);
  bool eights = c_->m.dpp_kind == 2;
  for (int l = 0; l < wave_lanes; l++) {
    int i = l & 15, from = eights ? (i & 8) + int(word >> 3 * (i & 7) & 7) : (i & 12) + int(control >> 2 * (i & 3) & 3);
    bool there = true;
#define DPP_CONTROL(first, last, name, base, source, exists)                       \
  if (int n = int(control) - base; control >= first && control <= last && !eights) \
    from = source, there = exists, (void)n;
#include "compiler/isa/rdna_kind.def"
#undef DPP_CONTROL
    from += l & 16;
    there = there && (c_->m.fetch_inactive || exec_ >> from & 1);
    bool kept = !eights && ((!there && !state(BOUND_CTRL, word)) || !(state(ROW_MASK, word) >> l / 16 & 1) ||
                            !(state(BANK_MASK, word) >> i / 4 & 1));
    if (kept) dpp_mask_ &= ~(u32(1) << l);
    dpp_lane_[l] = there ? i8(from) : i8(-1);
  }
}

// ---- instructions --------------------------------------------------------------------------------------------------
void Core::execute(Code& c) {
  if (c.refused) return refuse(c.refused);
  if (c.vgprs > w_->v.size())
    return stop(Result::VIOLATION, str(where(c), ": v", c.vgprs - 1, ", but the wave has ", w_->v.size(), " of them"));
  const Row& r = *c.part[0].row;
  exec_ = w_->s[EXEC_LO];
  dpp_mask_ = exec_;
  if (c.valu) {
    const u32 m = w_->mode;
    mode_ = {u8(state(ROUND_32, m)), u8(state(ROUND_64, m)), u8(state(DENORM_32, m)), u8(state(DENORM_64, m)),
             state(MODE_CLAMP, m) != 0};
    flushes_ = mode_.denorm_32 != 3 || mode_.denorm_64 != 3;
    if (c.m.dpp_kind) plan_dpp();
  } else {
    flushes_ = false;
  }
  if (options_.checker) {
    check_before(c);
    if (stopped()) return;
  }
  if (options_.checker) define(c);
  Scalar type = c.valu && c.part[0].d0 >= 0 ? c.part[0].place[c.part[0].d0].type : Scalar::VOID;
  HostRounding rounding(!is_float(type) ? 0 : type == Scalar::F32 ? mode_.round_32 : mode_.round_64);
  if (r.format >= DS && r.function != NOTHING && r.function != INVALIDATE)
    memory(c.part[0]);
  else if (r.format == SMEM && r.effects)
    scalar_load(c.part[0]);
  else if (r.function == NO_FUNCTION)
    patterns(c);
  else
    for (int i = 0; i < c.parts && !stopped(); i++)
      c.part[i].row->function == NO_FUNCTION ? patterns(c) : function(c.part[i]);
}

void Core::patterns(Code& c) {
  const Lanes* value[slots];
  bool once = c.parts == 1 && c.part[0].effects == 1 && c.part[0].elements == 1;
  u32 mask = c.part[0].scalar ? 1 : dpp_mask_;
  for (int i = 0; i < c.parts; i++) {
    Part& p = c.part[i];
    for (int e = 0; e < p.elements; e++) {
      evaluate(p, e, value);
      for (int k = 0; k < p.effects && !once; k++)
        copy(result_lanes_[i][k][e], *value[p.effect[k].slot],
             held_in_64(p.place[p.effect[k].target].type) || p.saturate);
    }
  }
  if (once) return write(c.part[0], c.part[0].effect[0].target, 0, *value[c.part[0].effect[0].slot], mask);
  for (int i = 0; i < c.parts; i++)
    for (int k = 0; k < c.part[i].effects; k++)
      for (int e = 0; e < c.part[i].elements; e++)
        write(c.part[i], c.part[i].effect[k].target, e, result_lanes_[i][k][e], mask);
}

void Core::wait(Part& p) {
  std::string_view name = p.row->name;
  WaveState& w = *w_;
  auto until = [&](Counter c, u32 n) {
    if (w.issued[c] > n) w.done[c] = std::max(w.done[c], w.issued[c] - n);
  };
  auto lgkm = [&](u32 n) {  // LDS answers in order, scalar loads in any
    until(LDS, n);
    if (!n) until(SMEM_COUNT, 0);
  };
  if (name == "s_wait_idle") return refuse("not modelled");
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
    if (std::string_view(text) == "depctr_va_vdst" && !n) w.trans_clear = w.valu; \
  }
#include "compiler/isa/rdna_kind.def"
#undef COUNTER
}

void Core::move_relative(Part& p) {
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
    for (u32 i = 0; i < n; i++)
      w.s[d + i] = from.kind == Place::SGPR ? w.s[s + i] : raw_dword(p, p.s[0], int(i), 0), w.s_defined[d + i] = true;
    return;
  }
  if (d >= w.v.size() || (from.kind == Place::VGPR && s >= w.v.size()))
    return object("M0 leads past the vector registers");
  bool of_vector = from.kind == Place::VGPR;
  if (w.outstanding(w.v_pending[d]) || (of_vector && w.outstanding(w.v_pending[s])))
    return object(str("v", w.outstanding(w.v_pending[d]) ? d : s, ", which M0 leads to, waits for a load"));
  Defined fresh = of_vector ? w.v_defined[s] : Defined{{~u32(0), ~u32(0)}};
  for (int l = 0; l < wave_lanes; l++)
    if (exec_ >> l & 1) w.v[d].lane[l] = of_vector ? w.v[s].lane[l] : raw_dword(p, p.s[0], 0, l);
  for (int h = 0; h < 2; h++) w.v_defined[d].half[h] = (w.v_defined[d].half[h] & ~exec_) | (fresh.half[h] & exec_);
}

void Core::hardware_register(Part& p) {
  WaveState& w = *w_;
  int k = -1;
  for (int i = 0; i < p.row->shown; i++)
    if (p.row->kind[i] == KIND_hwreg) k = i;
  u32 word = u32(p.place[k].constant), at = state(OFFSET_BITS, word), size = state(SIZE_BITS, word) + 1;
  std::string_view reg;
#define SYMBOL(spelling, value, name) \
  if (KIND_##spelling == KIND_hwreg && value == state(REGISTER, word)) reg = name;
#include "compiler/isa/rdna_kind.def"
#undef SYMBOL
  u32 mask = u32(((u64(1) << size) - 1) << at);
  if (p.row->function == SET_REGISTER) {
    u32 v = raw_dword(p, k == 0 ? 1 : 0, 0, 0);
    if (reg == "HW_REG_MODE") w.mode = (w.mode & ~mask) | (v << at & mask);
    return;
  }
  u32 v = reg == "HW_REG_MODE" ? w.mode : reg == "HW_REG_SHADER_CYCLES" ? w.valu : 0;
  write_scalar(p.place[p.d0].reg, (v & mask) >> at);
}

void Core::function(Part& p) {
  const Row& r = *p.row;
  WaveState& w = *w_;
  switch (r.function) {
    case NOTHING:
    case KEEP_TOGETHER:
    case SLEEP:
    case BRANCH_DEBUG: return;
    case WAIT: return wait(p);
    case END: return end(w);
    case BARRIER: {
      if (options_.checker && exec_ != w.initial_exec)
        return object("a barrier that not every work-item of the wave reaches");
      if (w.issued[LDS] > w.done[LDS]) object("a barrier while this wave's LDS operations are on their way (lgkmcnt)");
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
      return;
    }
    case HALT:
    case TRAP: return refuse("the wave halts");
    case SEND_MESSAGE:
      if (p.d0 >= 0) write_scalar(p.place[p.d0].reg, w.valu), issue(p);
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
      return memory_->invalidate(name == "s_dcache_inv", name.starts_with("buffer_gl"), name == "s_icache_inv");
    }
    case MOVE_RELATIVE: return move_relative(p);
    case MATRIX: return matrix(p);
    default: return lanes(p);
  }
}

// Functions of rows that look at lanes, one or several.
void Core::lanes(Part& p) {
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
      if (p.place[i].kind == Place::FLAG && r.spec[i].access & OperandSpec::WRITE) w.scc = call.out;
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
void Core::matrix(Part& p) {
  const Row& r = *p.row;
  WaveState& w = *w_;
  const Place &d = p.place[p.d0], &a = p.place[p.s[0]], &b = p.place[p.s[1]], &c = p.place[p.s[2]];
  if (options_.checker && exec_ != ~u32(0)) return object("a matrix instruction needs every lane");
  bool integers = !is_float(a.type);
  int bits = !integers ? 16 : r.spec[p.s[0]].bits == 128 ? 8 : 4, per_word = 32 / bits;
  double matrix[2][16][16];  // sums of integers are exact too
  for (int i = 0; i < 16; i++)
    for (int k = 0; k < 16; k++)
      for (int second = 0; second < 2; second++) {
        const Place& o = second ? b : a;
        const u32* words = w.v[o.reg + u32(k / per_word)].lane;
        if (options_.checker && words[i] != words[i + 16])
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

// ---- memory --------------------------------------------------------------------------------------------------------
u64 Core::address(const Part& p, int lane, int which) {
  const Row& r = *p.row;
  i64 offset = p.offset >= 0 ? i64(p.place[p.offset].constant) : 0;
  const bool by_lane = p.by_lane;
  if (r.format == DS) {
    if (p.unit) offset = (which ? offset >> 8 & 255 : offset & 255) * p.unit;
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
  if (d_.shared_aperture && at >> 32 == d_.shared_aperture >> 32) return spaces_[lane] = Space::LDS, u32(at);
  if (d_.private_aperture && at >> 32 == d_.private_aperture >> 32) return spaces_[lane] = Space::SCRATCH, u32(at);
  return at;
}

// Reads what another wave has written: it must have waited for the store.
void Core::unseen(const Store& last, u64 address) {
  const WaveState* other = wave_[last.wave];
  if ((other ? other->done[last.counter] : last_counts_[last.wave][last.counter]) >= last.at) return;
  object(str(
      "reads ", hex(address), ", which ",
      other ? str("group ", std::span(other->group->id), " wave ", other->index) : std::string("a wave that has ended"),
      " wrote and has not waited for (", queues[last.counter].counter, ")"));
}

// Is the access aligned; who wrote this last, and may it be seen yet?
void Core::audit(Access kind, int lane, i64 bytes) {
  const u64 address = addresses_[lane], last = (address + u64(bytes) - 1) / 4;
  const Row& r = *c_->part[0].row;
  bool atomic = r.cls == CLASS_atomic, lds = spaces_[lane] == Space::LDS;
  i64 alignment = bytes == 12 ? 4 : atomic || !options_.unaligned ? std::min<i64>(bytes, atomic || lds ? 16 : 4) : 1;
  if (address & u64(alignment - 1))
    return object(str("lane ", lane, " reaches ", bytes, " bytes at ", hex(address), ", not aligned to ", alignment));
  if (spaces_[lane] == Space::SCRATCH || (lds && last >= w_->group->lds_store.size())) return;
  for (u64 a = address / 4; a <= last; a++) {
    u64 first = std::max(address, a * 4) - a * 4, end = std::min(address + u64(bytes), a * 4 + 4) - a * 4;
    u8 mask = u8((1 << end) - (1 << first));
    if (kind == Access::WRITE) {
      Counter c = lds ? LDS : atomic && r.returns ? VM : VS;
      Store& s = lds ? w_->group->lds_store[a] : stores_[a];
      s = {w_->number, u8(c), atomic, w_->issued[c], u8(mask | (s.wave == w_->number ? s.bytes : 0))};
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

void Core::reach(Access kind, int lane, void* data, i64 bytes) {
  const u64 address = addresses_[lane];
  bool write = kind == Access::WRITE;
  if (options_.checker) audit(kind, lane, bytes);
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
    i64 limit = d_.scratch_wave_bytes / wave_lanes;
    if (i64(address) + bytes > limit)
      return stop(
          options_.checker ? Result::VIOLATION : Result::FAULT,
          str(where(*c_), ": lane ", lane, " reaches ", bytes, " bytes of scratch at ", address, ", past its ", limit));
    u64 base = d_.scratch_base + u64(w_->scratch_slot * d_.scratch_wave_bytes) + 4 * u64(lane);
    for (i64 done = 0, n; done < bytes && !stopped(); done += n) {  // dwords of the lanes alternate
      u64 at = address + u64(done);
      n = std::min<i64>(bytes - done, 4 - i64(at & 3));
      if (!memory_->access(kind, base + (at & ~u64(3)) * wave_lanes + (at & 3), static_cast<u8*>(data) + done, n))
        stop(Result::FAULT, str(where(*c_), ": scratch at ", hex(at)));
    }
    return;
  }
  if (!memory_->access(kind, address, data, bytes))
    stop(Result::FAULT,
         str(where(*c_), ": lane ", lane, write ? " writes " : " reads ", bytes, " bytes at ", hex(address)));
}

// Every active lane; where their addresses follow each other memory is asked once.
void Core::reach_all(Access kind, i64 bytes) {
  u8 block[wave_lanes * 16];
  int first = exec_ ? __builtin_ctz(exec_) : 0, n = __builtin_popcount(exec_), k = 0;
  bool dense = n > 1 && bytes <= 16;
  for (int l = first; l < first + n && dense; l++)
    dense = l < wave_lanes && exec_ >> l & 1 && spaces_[l] == Space::GLOBAL &&
            addresses_[l] == addresses_[first] + u64((l - first) * bytes);
  for (int l = 0; l < wave_lanes && !stopped(); l++) {
    if (!(exec_ >> l & 1)) continue;
    if (!dense) reach(kind, l, mem_[l], bytes);
    if (dense && options_.checker) audit(kind, l, bytes);
    if (dense) std::memcpy(block + bytes * k++, mem_[l], size_t(bytes));
  }
  if (!dense || stopped()) return;
  if (!memory_->access(kind, addresses_[first], block, n * bytes))
    return stop(Result::FAULT, str(where(*c_), kind == Access::WRITE ? ": writes " : ": reads ", bytes, " bytes at ",
                                   hex(addresses_[first]), " and on"));
  for (int l = first; l < first + n; l++) std::memcpy(mem_[l], block + (l - first) * bytes, size_t(bytes));
}

void Core::memory(Part& p) {
  const Row& r = *p.row;
  WaveState& w = *w_;
  i64 bytes = p.mem >= 0 ? r.spec[p.mem].bits / 8 : 0;
  auto each_lane = [&](auto f) {
    for (int l = 0; l < wave_lanes; l++)
      if (exec_ >> l & 1 && !stopped()) f(l);
  };
  auto plan = [&](int which) { each_lane([&](int l) { addresses_[l] = address(p, l, which); }); };
  bool reads = p.mem >= 0 && r.spec[p.mem].access & OperandSpec::READ;
  bool writes = p.mem >= 0 && r.spec[p.mem].access & OperandSpec::WRITE;
  if (p.mem >= 0) plan(0);
  issue(p);
  const Lanes* value[slots];
  switch (r.function) {
    case NO_FUNCTION: break;
    case LOAD_TWO:
    case STORE_TWO:
    case EXCHANGE_TWO:
      for (int which = 0; which < 2; which++) {
        plan(which);
        each_lane([&](int l) {
          if (r.function != STORE_TWO) reach(Access::SHARED_READ, l, mem_[l] + which * bytes, bytes);
          u64 fresh = r.function == LOAD_TWO ? 0 : raw(p, which ? p.data2 : p.data, -1, l);
          if (r.function != LOAD_TWO) reach(Access::WRITE, l, &fresh, bytes);
        });
      }
      for (u32 i = 0; r.function != STORE_TWO && i < u32(bytes) / 2; i++)
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
        if (equal && !stopped()) reach(Access::WRITE, l, &fresh, bytes);
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
  if (r.cls == CLASS_atomic) {  // lanes with an address of their own at once, the others after each other
    Vector old[2];
    for (u32 left = exec_, now; left && !stopped(); left &= ~now) {
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
        if (p.effect[k].target == p.mem) write(p, p.mem, 0, *value[p.effect[k].slot], exec_);
      each_lane([&](int l) { reach(Access::WRITE, l, mem_[l], bytes); });
      std::swap(exec_, now);
    }
    for (u32 i = 0; p.d0 >= 0 && i < u32(bytes) / 4; i++)
      each_lane([&](int l) { w.v[p.place[p.d0].reg + i].lane[l] = old[i].lane[l]; });
    return;
  }
  if (reads) reach_all(c_->m.glc ? Access::SHARED_READ : Access::READ, bytes);
  if (stopped()) return;
  for (int e = 0; e < p.elements; e++) {
    evaluate(p, e, value);
    for (int k = 0; k < p.effects; k++) write(p, p.effect[k].target, e, *value[p.effect[k].slot], exec_);
  }
  if (writes) reach_all(Access::WRITE, bytes);
}

void Core::scalar_load(Part& p) {
  const Row& r = *p.row;
  if (r.spec[p.saddr].bits == 128) return refuse("buffers are not modelled");
  i64 bytes = r.spec[p.mem].bits / 8,
      offset = i64(p.place[p.offset].constant) + (p.data >= 0 ? raw_dword(p, p.data, 0, 0) : 0);
  u64 at = read_scalar64(p.place[p.saddr].reg) + u64(offset);
  issue(p);
  if (at & 3) object(str("a scalar load from ", hex(at), ", which is not aligned to 4"));
  at &= ~u64(3);
  if (!memory_->access(Access::SCALAR_READ, at, mem_[0], bytes))
    return stop(Result::FAULT, str(where(*c_), ": reads ", bytes, " bytes at ", hex(at)));
  if (options_.checker)
    for (u64 a = at / 4; a < (at + u64(bytes)) / 4; a++)
      if (auto last = stores_.find(a); last != stores_.end() && last->second.wave != w_->number)
        unseen(last->second, a * 4);
  const Lanes* value[slots];
  for (int e = 0; e < p.elements; e++) {
    evaluate(p, e, value);
    write(p, p.effect[0].target, e, *value[p.effect[0].slot], 1);
  }
}

// ---- the checker ---------------------------------------------------------------------------------------------------
// Counts the instruction and makes its results wait for that count.
void Core::issue(Part& p) {
  const Row& r = *p.row;
  WaveState& w = *w_;
  Pending pending;
  pending.pc = c_->pc;
  for (int c = 0; c < QUEUES; c++)
    if (r.queues >> c & 1) pending.at[c] = ++w.issued[c];
  if (p.d0 < 0 || !options_.checker) return;
  const Place& d = p.place[p.d0];
  for (u32 i = 0; i < d.count; i++) {
    if (d.kind == Place::VGPR) w.v_pending[d.reg + i] = pending;
    if (d.scalar()) w.s_pending[d.reg + i] = pending;
  }
}

void Core::check_registers(const Part& p, bool reads) {
  const Row& r = *p.row;
  WaveState& w = *w_;
  bool load = (r.format >= FLAT || r.format == DS) && p.d0 >= 0;
  for (int k = 0; k < r.specs; k++) {
    const Place& o = p.place[k];
    if (!(r.spec[k].access & (reads ? OperandSpec::READ : OperandSpec::WRITE))) continue;
    std::string_view verb = reads ? "read" : "written";
    if (o.kind == Place::VGPR) {
      for (u32 i = o.reg; i < o.reg + o.count; i++) {
        const Pending& pending = w.v_pending[i];
        const char* counter = w.outstanding(pending);
        bool in_order = !reads && load && r.format != FLAT && !(pending.at[VM] && pending.at[LDS]) &&
                        ((r.format == DS) == bool(pending.at[LDS]));  // answers of one kind come in order
        if (counter && !in_order)
          return object(str("v", i, " is ", verb, " before its load at ", hex(pending.pc), " has been waited for (",
                            counter, ")"));
      }
    } else if (o.scalar()) {
      for (u32 i = o.reg; i < o.reg + o.count; i++)
        if (w.outstanding(w.s_pending[i]))
          return object(str(scalar_name(i), " is ", verb, " before its load at ", hex(w.s_pending[i].pc),
                            " has been waited for (lgkmcnt)"));
    }
  }
}

void Core::check_before(Code& c) {
  WaveState& w = *w_;
  for (int i = 0; i < c.parts; i++) {
    Part& p = c.part[i];
    const Row& r = *p.row;
    check_registers(p, true);
    check_registers(p, false);
    if (stopped()) return;
    int stored_bits = p.mem >= 0 ? r.spec[p.mem].bits : 32,
        stored_high = std::string_view(r.name).find("_hi") != std::string_view::npos;
    auto defined = [&](int k, u32 lanes) {
      const Place& o = p.place[k];
      for (u32 n = 0; n < o.count; n++) {
        if (o.kind == Place::VGPR && (w.v_defined[o.reg + n].both() & lanes) != lanes &&
            !(r.format >= DS && stored_bits < 32 && (w.v_defined[o.reg].half[stored_high] & lanes) == lanes))
          return str("v", o.reg + n);
        if (o.scalar() && !w.s_defined[o.reg + n]) return scalar_name(o.reg + n);
      }
      return o.kind == Place::FLAG && !w.scc_defined ? std::string("scc") : std::string();
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
        auto& t = w.trans_write[v];
        const Hazard& h = hazards[VALUTransUse];
        if (t.valu > w.trans_clear && w.valu - t.valu < u32(h.vector) && w.trans - t.trans < u32(h.transcendental))
          return object(str("v", v, " is read too soon after a transcendental instruction (VALUTransUse)"));
      }
    }
    if (r.function == MATRIX)
      for (int k : {p.s[0], p.s[1]})
        if (w.matrix_count && p.place[k].reg < w.matrix_first + w.matrix_count &&
            w.matrix_first < p.place[k].reg + p.place[k].count)
          return object("a matrix of it is the result of the one just before: an instruction must stand between");
    if (r.function == PERMUTE_LANES && w.cmpx)
      return object("follows v_cmpx without another vector instruction between (VcmpxPermlane)");
  }
}

// What an instruction writes is as defined as what it reads: as a rule all of it or nothing, but the halves and dwords
// of registers go their own ways through what compilers put words together with.
void Core::define(Code& c) {
  WaveState& w = *w_;
  for (int i = 0; i < c.parts; i++) {
    Part& p = c.part[i];
    const Row& r = *p.row;
    const Flow flow = p.flow;
    bool memory_row = r.format >= DS && r.cls != CLASS_lane;
    constexpr u32 every = ~u32(0);
    auto dword = [&](int k, u32 n) -> Defined {
      const Place& o = p.place[k];
      if (o.kind == Place::FLAG) return w.scc_defined ? Defined{{every, every}} : Defined{};
      if (o.scalar()) return w.s_defined[o.reg + n] ? Defined{{every, every}} : Defined{};
      if (o.kind != Place::VGPR) return {{every, every}};
      Defined from = w.v_defined[o.reg + n], out;
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
          Defined& d = w.v_defined[o.reg + n];
          for (int h = 0; h < 2; h++) {
            if (high_only && !h) continue;
            if (o.bits == 16 && r.spec[k].bits == 16 && h != bool(o.modifiers & HALF)) continue;
            d.half[h] = (d.half[h] & ~mask) | (fresh.half[h] & mask);
          }
          w.trans_write[o.reg + n] = {};
          if (c.trans) w.trans_write[o.reg + n] = {w.valu + 1, w.trans + 1};
        } else if (o.scalar()) {
          w.s_defined[o.reg + n] = p.scalar ? fresh.both() == every : whole;
        }
      }
      if (o.kind == Place::FLAG) w.scc_defined = whole;
    }
    if (r.function == MATRIX)
      w.matrix_first = p.place[p.d0].reg, w.matrix_count = p.place[p.d0].count;
    else if (c.valu)
      w.matrix_count = 0;
    if (c.valu && r.function != NOTHING) w.cmpx = r.cls == CLASS_cmpx;
  }
  if (c.valu) w.valu++, w.trans += c.trans;
  if (c.part[0].row->traits & Inst::MEMORY_UNIT) w.trans_clear = w.valu;  // it has waited for them
}

}  // namespace

std::unique_ptr<hw::Wave> emu::make_emulator(const EmulatorOptions& options) { return std::make_unique<Core>(options); }

}  // namespace ingot::isa
