// SPDX-License-Identifier: MIT
// A shader core in software: a hw::Wave for models to dispatch to, made by make_emulator(). The rest is what its parts
// share, in sections named for their files.
#pragma once
#include <atomic>
#include <mutex>
#include <unordered_map>

#include "compiler/isa/rdna.h"
#include "userspace/hw/bus.h"

namespace ingot::isa::emu {
using namespace rdna;

// ---- emu.cc --------------------------------------------------------------------------------------------------------
struct EmulatorOptions {
  std::string arch = "gfx1100";
  bool checker = true;     // objects to missing waits, hazards, undefined registers, divergent barriers
  bool prefetch = false;   // instructions are read ahead, so what follows code must be mapped
  bool unaligned = false;  // SH_MEM_CONFIG.alignment_mode is UNALIGNED: only atomic operations must be aligned
  std::function<std::string(u64 pc)> source;  // what the instruction there was made from, for reports
  // Without the checker: compiles what runs often, and must outlive the emulator. nullptr: everything is evaluated.
  hw::BlockCompiler* blocks = nullptr;
  i64 hot = 500;  // compiled after so many runs
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
inline bool is_float(Scalar s) { return dtype_rows[int(s)].kind == Kind::FLOATING; }
inline bool is_narrow(Scalar s) { return dtype_rows[int(s)].bits < 32 && s != Scalar::BOOL; }

enum Word : u8 { RSRC1, RSRC2, MODE, HWREG, DPP_WORD };
enum State : u8 {
#define STATE(name, ...) name,
#define DPP DPP_WORD
#include "compiler/isa/rdna_state.def"
};
struct StateRow {
  Word word;
  u8 low, bits;
};
inline constexpr StateRow state_rows[] = {
#define STATE(name, word, low, bits, doc) {word, low, bits},
#include "compiler/isa/rdna_state.def"
#undef DPP
};
constexpr u32 state(State s, u64 word) { return u32(word >> state_rows[s].low & ((u64(1) << state_rows[s].bits) - 1)); }

// ---- emu_lanes.cc: arithmetic --------------------------------------------------------------------------------------
struct FloatMode {  // the MODE register's part
  u8 round_32 = 0, round_64 = 0, denorm_32 = 3, denorm_64 = 3;
  bool clamp_nan = true;  // to 0
  bool plain() const { return !round_32 && !round_64 && denorm_32 == 3 && denorm_64 == 3; }
};
using Loop = void (*)(Lanes& out, const Lanes& a, const Lanes& b, const Lanes& c);
// The value column of op.def over all lanes, or over lane 0 alone; `out` is none of the others. Casts of floats to
// integers saturate and NaN gives 0, as the hardware has it. nullptr: not for this dtype.
Loop arithmetic(Op op, Scalar source, bool one_lane);
Loop conversion(Scalar from, Scalar to, bool one_lane);
void settle(Lanes& v, Scalar dtype, bool saturate, int lanes, const FloatMode& mode);  // wraps or rounds to the dtype
u64 encode_lane(Scalar dtype, const Lanes& v, int lane);                               // bits, zero-extended
void decode_lane(Scalar dtype, u64 bits, Lanes& v, int lane);
u64 saturated(i64 v, Scalar dtype);
u64 flushed(u64 bits, Scalar dtype, const FloatMode& mode, bool result);  // a denormal becomes zero where MODE says so
u64 finish_float(u64 bits, Scalar dtype, const FloatMode& mode, int omod, bool clamp);
u64 quiet_nan(Scalar dtype);                          // what arithmetic gives where it gives NaN: 0x7fc00000
u64 one_nan(u64 bits, Scalar dtype);                  // that for any NaN
void one_nan_32(u32* to, const u32* from);            // over lanes of f32
void copy_under(u32* to, const u32* from, u32 mask);  // lanes of the mask; they may be the same
// Lanes of 32 bits from or to host memory at byte offsets, under a mask; a gather reads for lanes outside of it too.
void gather(u32* to, const u8* host, const u32* offset, u32 mask);
void scatter(const u32* from, u8* host, const u32* offset, u32 mask);
struct Extent {
  u32 first, last;
};
// to = low + base. Lanes outside of the mask, which is not empty, get what one inside gets.
Extent offsets_of(u32* to, const u32* low, u32 base, u32 mask);
// Addresses of 64 bits as distances from the one that is returned; 0: they are too far apart.
u64 relative_of(u32* to, const u32* low, const u32* high, u32 mask);
void round_host(int mode);
struct HostRounding {  // rounds the host's arithmetic as MODE says, for its lifetime
  explicit HostRounding(int mode) : changed(mode) {
    if (changed) round_host(mode);
  }
  ~HostRounding() {
    if (changed) round_host(0);
  }
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

// ---- emu_decode.cc: instructions, decoded once ---------------------------------------------------------------------
struct Place {  // where an operand of a row is
  // SPECIAL: null, scc …
  enum Kind : u8 { NOWHERE, VGPR, SGPR, SPECIAL, CONSTANT, MASK, FLAG, COUNTER, MEMORY } kind = NOWHERE;
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
inline constexpr int first_temp = 8, first_constant = 40, slots = 56;
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
struct Part {  // one row with its operands; a pair (VOPD) has two
  const Row* row = nullptr;
  Place place[Inst::max_specs];
  std::vector<Step> steps;
  struct {
    u8 target, slot;
    bool one_nan;  // it computes floats: whatever NaN comes out is the one
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
  Instruction in;
  Modifiers m;
  Part part[2];
  u8 parts = 0;
  u32 vgprs = 0;                                   // as many it needs
  u32 window = 0;                                  // Unit::windows_, for memory
  bool valu = false, trans = false, ends = false;  // ends: what runs next is not what stands next
  const char* refused = nullptr;
};
// What runs from an address on until the program counter may jump.
struct Trace {
  struct Item {  // codes [first, end): compiled in one piece, or evaluated one by one
    u32 first, end;
    bool graph = false;
    std::atomic<i64> runs[2] = {};  // and whether EXEC was not full
    std::atomic<hw::Block*> block[2] = {};
    std::unique_ptr<hw::Block> owned[2];
    Item(u32 f, u32 e, bool g) : first(f), end(e), graph(g) {}
  };
  u64 pc = 0, end = 0;
  u32 epoch = 0, vgprs = 0;
  std::vector<u8> words;
  std::vector<std::unique_ptr<Code>> code;
  std::vector<std::unique_ptr<Item>> items;
};
std::unique_ptr<Code> decode(const Isa& isa, std::span<const u8> words, u64 pc);  // bytes 0: the words go on

// ---- emu_block.cc: traces as graphs --------------------------------------------------------------------------------
// PARAMs of a graph: vector registers, scalar registers and SCC, a bit per lane, the program counter.
enum Buffer : u8 { VECTORS, SCALARS, LANE_BITS, PC, BUFFERS };
inline constexpr u32 scc_word = 128, most_vectors = 256;  // SCC stands after the scalar registers
bool has_graph(const Code& code);                         // with MODE at its default
void cut(Trace& trace);                                   // into items
// SINK of the stores that run the codes; full: every lane takes part.
U build_graph(std::span<const std::unique_ptr<Code>> codes, bool full);

// ---- waves ---------------------------------------------------------------------------------------------------------
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
struct Checked {  // what the checker knows of a wave
  std::vector<Defined> v;
  bool s[128] = {}, scc = false;
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
struct Group;
struct WaveState {
  Group* group = nullptr;
  int index = 0;
  u64 pc = 0;
  Trace* trace = nullptr;  // that the program counter is in, if known
  u32 at = 0;              // position in it
  enum { READY, AT_BARRIER, ENDED } status = READY;
  u32 s[129] = {};
  u32 mode = 0, initial_exec = 0, number = 0;
  std::vector<Vector> v;
  i64 scratch_slot = 0;
  std::unique_ptr<Checked> checked;
  bool scc() const { return s[scc_word]; }
};
struct Store {  // who wrote a dword last, and until which count it is on its way
  u32 wave = 0;
  u8 counter = VS;
  bool atomic = false;
  u32 at = 0;
  u8 bytes = 15;  // bit per byte that it wrote
};
struct Group {
  i64 number = 0;
  u32 id[3] = {};
  std::vector<std::unique_ptr<WaveState>> waves;
  std::vector<u8> lds;
  std::vector<Store> lds_store;  // by dword
  int running = 0;
};

class Core;
class Unit {  // runs waves: one of them with the checker, otherwise one per thread
 public:
  Unit(Core& core, i64 number) : core_(core), number_(number) {}
  void start();
  i64 run(i64 instructions);  // returns how many it ran
  void report(std::vector<hw::WaveReport>& out) const;
  bool idle() const { return live_.empty(); }
  u64 pc() const { return ready_.empty() ? 0 : ready_[0]->pc; }
  std::atomic<i64> oldest{no_group};  // number of the group that it runs
  static constexpr i64 no_group = i64(1) << 62;

 private:
  // emu.cc
  bool start_group();
  void fill(Group& g);
  void end(WaveState& w);
  bool enter(WaveState& w);  // finds the trace at its program counter
  void run_one(WaveState& w);
  i64 run_trace(WaveState& w);
  void stop(hw::WaveResult::Kind kind, std::string message);
  void refuse(std::string_view why) { stop(hw::WaveResult::ILLEGAL_INSTRUCTION, str(where(*c_), ": ", why)); }
  void object(std::string message);
  std::string where(const Code& c) const;
  u32 random() { return u32((random_ = random_ * 6364136223846793005u + 1442695040888963407u) >> 33); }

  // emu_row.cc: operands, meanings
  u32 read_scalar(u32 reg) const;
  u64 read_scalar64(u32 reg) const {
    return reg >= 128 ? special64(reg) : read_scalar(reg) | u64(read_scalar(reg + 1)) << 32;
  }
  u64 special64(u32 reg) const;
  void write_scalar(u32 reg, u32 value);
  u64 raw(const Part& p, int k, int element, int lane) const;  // bits, modifiers applied
  u32 raw_dword(const Part& p, int k, int dword, int lane) const;
  const Lanes& fetch(const Part& p, int k, int element, Lanes& to);
  void evaluate(const Part& p, int element, const Lanes* (&value)[slots]);
  void write(const Part& p, int k, int element, const Lanes& v, u32 mask, bool one_nan);
  void write_bits(const Part& p, int k, int element, int lane, u64 bits);
  void plan_dpp();
  int lane_read(const Part& p) const {  // by v_readlane, or v_readfirstlane
    return p.s[1] >= 0 ? int(raw_dword(p, p.s[1], 0, 0) & 31) : exec_ ? __builtin_ctz(exec_) : 0;
  }
  void execute(const Code& c);
  void patterns(const Code& c);
  void function(const Part& p);
  void lanes(const Part& p);
  void matrix(const Part& p);
  void wait(const Part& p);
  void barrier();
  void move_relative(const Part& p);
  void hardware_register(const Part& p);

  // emu_memory.cc
  enum class Space : u8 { GLOBAL, LDS, SCRATCH };
  void memory(const Part& p);
  bool reachable(const Part& p, int which, i64 bytes, hw::Access kind);
  void one_by_one(const Part& p, int which);
  u8* window(hw::Access kind, u64 first, u64 last);
  void atomic(const Part& p, i64 bytes);
  bool my_turn();
  void scalar_load(const Part& p);
  u64 address(const Part& p, int lane, int which);
  void reach(hw::Access kind, int lane, void* data, i64 bytes);
  void reach_all(hw::Access kind, i64 bytes);
  bool access(hw::Access kind, u64 address, void* data, i64 bytes);
  template <class F>
  void each_lane(F f);

  // emu_check.cc
  void check_before(const Code& c);
  void check_registers(const Part& p, bool reads);
  void define(const Code& c);
  void issue(const Part& p);
  void unseen(const Store& last, u64 address);
  void audit(hw::Access kind, int lane, i64 bytes);
  void audit_scalar(u64 at, i64 bytes);

  Core& core_;
  const i64 number_;
  u64 random_ = 0;
  i64 ran_ = 0;
  std::vector<std::unique_ptr<Group>> live_, spare_;
  std::vector<WaveState*> ready_;
  size_t turn_ = 0;
  int row_ = 0;  // traces that the wave whose turn it is has run
  struct {
    u64 pc;
    Trace* trace;
  } near_[256] = {};  // traces by address, those of this dispatch
  struct Window {     // host memory of addresses [first, last]
    u64 first = 1, last = 0;
    u8* host = nullptr;
  } windows_[64];
  // the checker's
  std::unordered_map<u64, Store> stores_;             // global memory by dword
  std::vector<WaveState*> wave_;                      // by number, from 1 on; nullptr: ended
  std::vector<std::array<u32, QUEUES>> last_counts_;  // what the ended ones had waited for

  // the instruction being run
  WaveState* w_ = nullptr;
  const Code* c_ = nullptr;
  u64 next_pc_ = 0;
  u32 exec_ = 0;  // lanes that take part
  u32 mode_word_ = ~u32(0);
  FloatMode mode_;
  bool flushes_ = false, blocked_ = false;
  i8 dpp_lane_[wave_lanes];  // source lane; -1: zero
  u32 dpp_mask_ = 0;
  Lanes temp_[first_constant], result_lanes_[2][3][16];
  // Memory as the instruction sees it: lane l's is at host_ + offset_[l].
  u8* host_ = nullptr;
  u32 offset_[wave_lanes];
  alignas(64) u8 mem_[wave_lanes][64];
  u64 addresses_[wave_lanes];
  Space spaces_[wave_lanes];
};

class Core final : public hw::Wave {
 public:
  explicit Core(const EmulatorOptions& o) : options(o), isa(*find_isa("rdna", o.arch)) {}
  void start(const hw::Dispatch& dispatch, hw::WaveMemory& memory) override;
  hw::WaveResult step(i64 instructions) override;
  std::vector<hw::WaveReport> waves() const override;

  // what the units share; from `mutex` on under it where there are several
  const EmulatorOptions options;
  const Isa& isa;
  hw::Dispatch d;
  hw::WaveMemory* memory = nullptr;
  i64 groups = 0;
  bool direct = false;  // all memory may be asked for by address
  std::atomic<bool> stopped{false};
  std::atomic<int> running{0};  // units
  std::vector<std::unique_ptr<Unit>> units;
  std::mutex mutex;
  i64 next_group = 0, result_group = 0;
  hw::WaveResult result;
  std::vector<bool> slots_used;  // of scratch
  Trace* trace_at(u64 pc);       // nullptr: nothing can be fetched there
  hw::Block* compile(Trace& t, Trace::Item& item, bool partial);

 private:
  u32 epoch_ = 0;
  std::unordered_map<u64, std::unique_ptr<Trace>> traces_;
};

}  // namespace ingot::isa::emu
