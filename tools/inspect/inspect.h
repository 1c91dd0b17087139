// SPDX-License-Identifier: MIT
// What the tools that look at a chip share (reg, ring, vm, wave, top): where they look, and the first things anyone
// wants to know there. A tool asks an Inspect (userspace/device/device.h) and cannot tell whose: of a chip that it
// opened itself, of a process that runs, of a snapshot. Nothing here takes an answer for true that a sick chip gave:
// every address is checked before it is used, every list and every walk has an end.
#pragma once
#include <bitset>
#include <nlohmann/json.hpp>
#include "tools/tools.h"
#include "userspace/amd/amd.h"

namespace ingot {

using Json = nlohmann::ordered_json;

// ---- inspect.cc: where to look -------------------------------------------------------------------------------------
struct Running {  // a process with a debug socket
  std::string path;
  i64 pid = 0;
  std::string device;
};
std::vector<Running> running_processes();                // those that answer; sockets that nobody serves are removed
std::unique_ptr<Inspect> connect(const Running& where);  // Error

// Answers remembered, written as text and read back. A line is `what key… value`, memory 64 bytes to a line.
class Snapshot final : public Inspect {
 public:
  std::string reply(const Request& request) override;  // Error: not in the file
  void keep(const Request& request, const std::string& answer);
  std::string text(const std::function<std::string(u64 dword)>& comment) const;
  static std::unique_ptr<Snapshot> parse(std::string_view text, const std::string& file);  // Error: file:line
  std::string source = "a snapshot";

  using Key = std::array<u64, 4>;  // what, address, bank, bytes
  std::map<Key, std::string> answers;

 private:
  struct Page {
    std::array<u8, 4096> bytes{};
    std::bitset<4096> known;
  };
  std::map<u64, Page> memory_[2];  // VRAM and HOST
};

struct WaveSlot {
  int engine = 0, array = 0, wgp = 0, simd = 0, slot = 0;
  u64 bank() const;
  std::string text() const { return str("se", engine, ".sa", array, ".wgp", wgp, ".simd", simd, ".", slot); }
};
struct WaveInfo {
  WaveSlot at;
  u64 pc = 0, exec = 0;
  u32 status = 0, hw_id2 = 0;
};
struct WaveRegisters {
  std::vector<std::pair<const hw::Layout*, u32>> state;  // SQ_WAVE_*
  std::vector<u32> scalar;                               // s0 to s105, VCC
  u32 m0 = 0;
  std::vector<std::vector<u32>> vector;  // by register, then by lane
};
struct Ring {
  std::string name;  // "compute 1.0.0", "copy 0"
  bool pm4 = false;
  u64 va = 0, dwords = 0, rptr = 0, wptr = 0;  // pointers in dwords, inside of the ring
};
struct Mapping {  // what a walk of the page tables found
  struct Step {
    std::string level;
    u64 index = 0, at = 0, entry = 0;  // at: of the entry, in VRAM
    bool leaf = false;
  };
  std::vector<Step> steps;
  std::string problem;  // why there is no memory; "": there is
  u64 physical = 0;     // in VRAM, or on the bus
  bool system = false;
  i64 bytes = 0;  // from the address to the end of what its entry maps
};

// A chip, found and identified.
class View {
 public:
  // Takes --from, --save, --boot; look() then opens what they name.
  explicit View(Options& options);
  explicit View(std::string from) : from_(std::move(from)) {}
  ~View();
  View(const View&) = delete;
  void look();
  void save_to(std::string file) { save_ = std::move(file); }
  void save();  // writes what was asked for, if --save says so

  amd::Generation generation() const { return ip.generation; }
  amd::Discovery ip;
  hw::RegisterMap registers;
  std::string where;  // "pid 4711", "crash.snapshot"
  i64 vram_bytes = 0;
  Json state();  // asked for once, until forget()
  void forget() { state_.reset(); }
  Json metrics();  // anew
  u32 read(u64 dword, u64 bank = 0);
  void write(u64 dword, u32 value, u64 bank, bool yes);
  u32 read(const hw::Layout& layout, amd::At at = {}, u64 bank = 0);
  template <class R>
  R get(amd::At at = {}, u64 bank = 0) {
    return amd::unpack32<R>(read(hw::layout_of<R>, at, bank), generation());
  }
  template <class Lo, class Hi>
  u64 pair(amd::At at = {}, u64 bank = 0) {
    return read(hw::layout_of<Lo>, at, bank) | u64(read(hw::layout_of<Hi>, at, bank)) << 32;
  }
  std::vector<u32> wave(const WaveSlot& slot, u64 index, int count, int lane = 0);
  std::vector<u8> vram(u64 at, i64 bytes);
  Mapping walk(u64 va, int vmid = 0, amd::Hub hub = amd::GFXHUB);
  // Virtual memory; what cannot be had ends it, and `problem` says why.
  std::vector<u8> memory(u64 va, i64 bytes, std::string& problem, int vmid = 0);
  std::vector<Ring> rings();                                            // those that are active, as their registers say
  std::vector<u32> ring_words(const Ring& ring, u64 first, u64 count);  // modulo the ring; Error
  std::vector<WaveInfo> waves();                                        // those that are valid
  WaveRegisters registers_of(const WaveInfo& wave);
  std::string owner_of(u64 va);   // "kernel add + 0x40", "inside of a buffer of 4096 bytes at 0x…"; "": nobody's
  const Json* kernel_at(u64 va);  // of the state; nullptr: none
  bool named() const { return !from_.empty() || !ctx.DEV.empty(); }  // by --from or DEV
  Inspect& inspect() { return *chip_; }
  bool live() const { return !is_file_; }  // asking again may give another answer

 private:
  std::string ask(const Inspect::Request& request);
  std::string from_, save_;
  bool boot_ = false, is_file_ = false;
  std::unique_ptr<Inspect> chip_;
  Snapshot kept_;
  std::optional<Json> state_;
};

// ---- packets.cc: what is in a ring or an indirect buffer -----------------------------------------------------------
struct PacketAt {
  u64 va = 0;
  const hw::Layout* row = nullptr;  // nullptr: not a packet
  std::vector<u32> words;           // with the header
  std::string text;
  std::vector<std::string> notes;  // registers it sets, the kernel it starts, its arguments
  std::string kernel;              // that it starts
  bool pending = false;            // the engine has not taken it
  std::vector<PacketAt> inside;    // of the indirect buffer that it names
};
class Decoder {  // remembers the registers that packets set, so that a dispatch can be named
 public:
  explicit Decoder(View& view, bool arguments = true) : view_(view), arguments_(arguments) {}
  std::vector<PacketAt> pm4(std::span<const u32> words, u64 va, int depth = 0);
  std::vector<PacketAt> sdma(std::span<const u32> words, u64 va);
  // The last packets before the write pointer, at most so many dwords, and those that wait.
  std::vector<PacketAt> ring(const Ring& ring, u64 dwords);

 private:
  void dispatch(PacketAt& p, const u32 groups[3]);
  View& view_;
  bool arguments_;
  std::map<const hw::Layout*, std::map<int, u32>> set_;
};
void look_at_everything(View& view);  // for a snapshot

// A bit field as people write it: "[31]", "[15:8]".
std::string bits_text(const hw::Field& field, int generation);
void print_json(const Json& value);
u64 parse_number(std::string_view text, std::string_view what);  // 0x… or decimal. UsageError
bool matches(std::string_view pattern, std::string_view name);   // * and ?; letters of either case

}  // namespace ingot
