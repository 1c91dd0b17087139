// SPDX-License-Identifier: MIT
// Layouts: everything of a chip that has an address and bits (registers, packets, descriptors, page-table entries,
// firmware messages) is one row of a .def, and this is what reads the rows.
//
// A vendor's header names its table of contents and includes userspace/hw/rows.def, which reads the table twice: once
// as plain structs whose members are u64 and default to zero (so a call site is written with designated initialisers
// and a misspelt field does not compile), once as constexpr arrays of Field. std::bit_cast joins the two, so there is
// no code per field. The driver packs, the model unpacks, the tools describe and parse, all from the same row.
//
// A generation of the chip is a column, never a copy of the table: a register's place, a packet's length and a field's
// bits are given once when all generations agree, else per generation, with `absent` where there is none. Asking for
// what a generation does not have throws with the row's name. Two fields on one bit do not compile (rows.def asserts
// all_disjoint for each row); a value that does not fit its field throws.
#pragma once
#include <array>
#include <bit>
#include <map>
#include <optional>
#include "userspace/base/base.h"

namespace ingot::hw {

inline constexpr int max_generations = 4;
template <class T>
using Columns = std::array<T, max_generations>;

struct Bits {  // counted from the field's dword on, may run into the following ones. hi < 0: the generation has none
  i16 hi = -1, lo = -1;
};
struct Where {  // a register: offset in dwords from the base of a segment of its block
  u32 offset = ~u32(0);
  u8 segment = 0;
  i16 block = -1;  // another block than the row's
  constexpr bool exists() const { return offset != ~u32(0); }
};
inline constexpr struct Absent {
  constexpr operator Bits() const { return {}; }
  constexpr operator Where() const { return {}; }
  constexpr operator i64() const { return -1; }
} absent;
template <class T>
struct Cells {  // a row's columns: one value for all generations, or one each
  Columns<T> at;
  constexpr Cells(T all) : at{all, all, all, all} {}
  constexpr Cells(T a, T b, T c = absent, T d = absent) : at{a, b, c, d} {}
};

struct Field {
  const char* name = nullptr;
  u16 dword = 0;
  Columns<Bits> bits;
  constexpr int width(int generation) const { return bits[size_t(generation)].hi - bits[size_t(generation)].lo + 1; }
  constexpr bool exists(int generation) const { return bits[size_t(generation)].hi >= 0; }
};
struct Value {  // a name for a value of the field; or `names`, an array that ends with {}: it takes those names
  const char* field = nullptr;
  const char* name = nullptr;
  u64 value = 0;
  const Value* names = nullptr;
};
enum class Kind : u8 { STRUCT, REGISTER, PACKET, COMMAND, ENUM };
struct Layout {
  const char* name;
  Kind kind;
  const char* family;       // what numbers `code`: "PM4", "SDMA", "SMU", …; registers: the block's name
  Columns<i64> code;        // packet opcode, message or command number; -1: absent in that generation
  Columns<i64> dwords;      // length, without a variable tail; -1: absent
  i16 block[2] = {};        // registers, of each copy
  Columns<Where> where[2];  // registers; the second set is of the other copy, for what both memory hubs have
  const char* prefix[2];    // of the printed name of each copy ("GC", "MM"); "" for other rows
  u16 count = 1;            // consecutive registers of this layout…
  u16 stride = 0;           // …in dwords
  std::span<const Field> fields;
  std::span<const Value> values;
  std::span<const char* const> generations;  // names of the columns
  constexpr bool exists(int generation, int copy = 0) const {
    return kind == Kind::REGISTER ? where[copy][size_t(generation)].exists()
                                  : dwords[size_t(generation)] >= 0 && code[size_t(generation)] >= 0;
  }
};
template <class T>
inline constexpr const Layout& layout_of = layout_for(static_cast<const T*>(nullptr));  // defined by rows.def

// ---- layout.cc -----------------------------------------------------------------------------------------------------
// Field access on words. Words past the end of `words` read as zero and are not written, so hostile lengths are safe.
u64 get_bits(std::span<const u32> words, const Field& field, int generation);
void set_bits(std::span<u32> words, const Layout& layout, const Field& field, int generation, u64 value);  // Error
const Field* find_field(const Layout& layout, std::string_view name);
i64 words_of(const Layout& layout, int generation);  // Error when the generation has no such thing
// "RELEASE_MEM event_type=CACHE_FLUSH_AND_INV_TS_EVENT event_index=5": fields that are not zero, by name; bits that are
// in no field as ?dword=mask. parse_fields reads the part after the name back: names of values, decimal, 0x….
std::string describe(const Layout& layout, std::span<const u32> words, int generation);
std::string describe_fields(const Layout& layout, std::span<const u32> words, int generation);
std::vector<u32> parse_fields(const Layout& layout, std::string_view text, int generation);
std::vector<u32> stray_bits(const Layout& layout, std::span<const u32> words, int generation);  // in no field
std::string value_name(const Layout& layout, std::string_view field, u64 value);                // "" when it has none
const Layout* find_layout(std::span<const Layout* const> rows, std::string_view name);
const Layout* find_code(std::span<const Layout* const> rows, std::string_view family, i64 code, int generation);

// Where the blocks of one chip are: base addresses in dwords by block, instance and segment (an AMD chip's discovery
// table gives them).
struct Bases {
  std::map<std::array<int, 3>, u64> at;  // {block, instance, segment}
};
struct RegisterName {  // which row an address is, and which of its copies
  const Layout* layout = nullptr;
  int copy = 0, index = 0, instance = 0;
  std::string text() const;  // "GCVM_CONTEXT0_CNTL[3]"; ".1" after it for another instance than 0
};
// The address of a register in dwords; Error names the register when the generation or the chip does not have it.
u64 register_address(const Layout& layout, int generation, const Bases& bases, int copy = 0, int index = 0,
                     int instance = 0);
class RegisterMap {  // from address to name, for one chip
 public:
  RegisterMap() = default;
  RegisterMap(std::span<const Layout* const> rows, int generation, const Bases& bases);
  const RegisterName* find(u64 dword_address) const;
  const std::map<u64, RegisterName>& all() const { return names_; }

 private:
  std::map<u64, RegisterName> names_;
};

// ---- packing -------------------------------------------------------------------------------------------------------
template <class T>
inline constexpr size_t member_count = layout_of<T>.fields.size();
template <class T>
std::array<u64, member_count<T>> members(const T& value) {
  return std::bit_cast<std::array<u64, member_count<T>>>(value);
}
template <class T>
std::vector<u32> pack(const T& value, int generation) {
  std::vector<u32> words(size_t(words_of(layout_of<T>, generation)));
  std::array<u64, member_count<T>> all = members(value);
  for (size_t i = 0; i < all.size(); i++)
    if (all[i]) set_bits(words, layout_of<T>, layout_of<T>.fields[i], generation, all[i]);
  return words;
}
template <class T>
u32 pack32(const T& value, int generation) {  // of a layout of one dword
  check(words_of(layout_of<T>, generation) == 1, layout_of<T>.name);
  u32 word = 0;
  std::array<u64, member_count<T>> all = members(value);
  for (size_t i = 0; i < all.size(); i++)
    if (all[i]) set_bits({&word, 1}, layout_of<T>, layout_of<T>.fields[i], generation, all[i]);
  return word;
}
template <class T>
u64 pack64(const T& value, int generation) {  // of a layout of two dwords, a page-table entry for one
  std::vector<u32> words = pack(value, generation);
  words.resize(2);
  return words[0] | u64(words[1]) << 32;
}
template <class T>
T unpack(std::span<const u32> words, int generation) {
  std::array<u64, member_count<T>> all{};
  for (size_t i = 0; i < all.size(); i++) all[i] = get_bits(words, layout_of<T>.fields[i], generation);
  return std::bit_cast<T>(all);
}
template <class T>
T unpack32(u32 word, int generation) {
  return unpack<T>(std::span<const u32>(&word, 1), generation);
}
template <class T>
T unpack64(u64 value, int generation) {
  u32 words[2] = {u32(value), u32(value >> 32)};
  return unpack<T>(words, generation);
}

// ---- for static_assert ---------------------------------------------------------------------------------------------
constexpr int max_dwords = 512;
constexpr bool all_disjoint(const Layout& layout) {  // no two fields share a bit, and all lie inside, per generation
  for (size_t g = 0; g < layout.generations.size(); g++) {
    i64 words = layout.dwords[g] < 0 ? max_dwords : layout.dwords[g];
    std::array<u32, max_dwords> taken{};
    for (const Field& f : layout.fields) {
      Bits b = f.bits[g];
      if (b.hi < 0) continue;
      int first = f.dword * 32 + b.lo, last = f.dword * 32 + b.hi;
      if (first > last || last - first >= 64 || last >= words * 32) return false;
      for (int at = first; at <= last; at = (at / 32 + 1) * 32) {
        int n = last / 32 == at / 32 ? last - at + 1 : 32 - at % 32;
        u32 mask = u32(((u64(1) << n) - 1) << at % 32);
        if (taken[size_t(at / 32)] & mask) return false;
        taken[size_t(at / 32)] |= mask;
      }
    }
  }
  return true;
}

}  // namespace ingot::hw
