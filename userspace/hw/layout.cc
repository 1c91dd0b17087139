// SPDX-License-Identifier: MIT
// Reading and printing rows: bit fields over dwords, text in both directions, addresses in both directions.
#include "userspace/hw/layout.h"
#include <algorithm>
#include <charconv>

namespace ingot::hw {
namespace {

const Value* find_value(const Layout& layout, std::string_view field, auto matches) {
  for (const Value& v : layout.values) {
    if (field != v.field) continue;
    if (!v.names) {
      if (matches(v)) return &v;
      continue;
    }
    for (const Value* n = v.names; n->field; n++)
      if (matches(*n)) return n;
  }
  return nullptr;
}

u64 width_mask(int width) { return width >= 64 ? ~u64(0) : (u64(1) << width) - 1; }

// Calls f(dword, first bit of it, bits of it, first bit of the field) for each dword that the field touches.
template <class Each>
void each_dword(const Field& field, int generation, Each f) {
  Bits bits = field.bits[size_t(generation)];
  if (bits.hi < 0) return;
  for (int bit = bits.lo; bit <= bits.hi;) {
    int first = bit % 32, n = std::min(32 - first, bits.hi - bit + 1);
    f(size_t(field.dword + bit / 32), first, n, bit - bits.lo);
    bit += n;
  }
}

std::string generation_name(const Layout& layout, int generation) {
  return size_t(generation) < layout.generations.size() ? layout.generations[size_t(generation)] : str(generation);
}

}  // namespace

u64 get_bits(std::span<const u32> words, const Field& field, int generation) {
  u64 value = 0;
  each_dword(field, generation, [&](size_t dword, int first, int n, int at) {
    if (dword < words.size()) value |= (u64(words[dword] >> first) & width_mask(n)) << at;
  });
  return value;
}

void set_bits(std::span<u32> words, const Layout& layout, const Field& field, int generation, u64 value) {
  if (!field.exists(generation))
    throw Error(layout.name, ".", field.name, " does not exist on ", generation_name(layout, generation));
  int width = field.width(generation);
  if (value > width_mask(width))
    throw Error(layout.name, ".", field.name, " has ", width, " bits, ", hex(value), " does not fit");
  each_dword(field, generation, [&](size_t dword, int first, int n, int at) {
    if (dword >= words.size()) return;
    u32 mask = u32(width_mask(n)) << first;
    words[dword] = (words[dword] & ~mask) | (u32(value >> at) << first & mask);
  });
}

const Field* find_field(const Layout& layout, std::string_view name) {
  for (const Field& f : layout.fields)
    if (name == f.name) return &f;
  return nullptr;
}

i64 words_of(const Layout& layout, int generation) {
  if (!layout.exists(generation, 0) && !layout.exists(generation, 1))
    throw Error(layout.name, " does not exist on ", generation_name(layout, generation));
  return layout.dwords[size_t(generation)];
}

std::string value_name(const Layout& layout, std::string_view field, u64 value) {
  const Value* v = find_value(layout, field, [&](const Value& row) { return row.value == value; });
  return v ? v->name : "";
}

std::vector<u32> stray_bits(const Layout& layout, std::span<const u32> words, int generation) {
  std::vector<u32> rest(words.begin(), words.end());
  for (const Field& f : layout.fields)
    if (f.exists(generation)) set_bits(rest, layout, f, generation, 0);
  return rest;
}

std::string describe_fields(const Layout& layout, std::span<const u32> words, int generation) {
  std::string out;
  for (const Field& f : layout.fields) {
    u64 value = get_bits(words, f, generation);
    if (!value) continue;
    std::string name = value_name(layout, f.name, value);
    out += str(" ", f.name, "=", !name.empty() ? name : value < 10 ? str(value) : hex(value));
  }
  std::vector<u32> rest = stray_bits(layout, words, generation);
  for (size_t i = 0; i < rest.size(); i++)
    if (rest[i]) out += str(" ?", i, "=", hex(rest[i]));
  return out.empty() ? out : out.substr(1);
}

std::string describe(const Layout& layout, std::span<const u32> words, int generation) {
  std::string fields = describe_fields(layout, words, generation);
  return fields.empty() ? layout.name : str(layout.name, " ", fields);
}

std::vector<u32> parse_fields(const Layout& layout, std::string_view text, int generation) {
  std::vector<u32> words(size_t(words_of(layout, generation)));
  auto number = [&](std::string_view digits) -> std::optional<u64> {
    bool hexadecimal = digits.starts_with("0x");
    if (hexadecimal) digits.remove_prefix(2);
    u64 value = 0;
    auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value, hexadecimal ? 16 : 10);
    return error == std::errc() && end == digits.data() + digits.size() ? std::optional(value) : std::nullopt;
  };
  for (std::string_view part : split(text, ' ')) {
    if (part.empty()) continue;
    size_t equals = part.find('=');
    if (equals == part.npos) throw Error(layout.name, ": \"", part, "\" is not field=value");
    std::string_view name = part.substr(0, equals), given = part.substr(equals + 1);
    std::optional<u64> value = number(given);
    if (name.starts_with('?')) {
      std::optional<u64> dword = number(name.substr(1));
      if (!dword || *dword >= words.size() || !value) throw Error(layout.name, ": \"", part, "\" is not ?dword=bits");
      words[size_t(*dword)] |= u32(*value);
      continue;
    }
    const Field* field = find_field(layout, name);
    if (!field) {
      std::vector<std::string_view> known;
      for (const Field& f : layout.fields)
        if (f.exists(generation)) known.push_back(f.name);
      throw Error(layout.name, " has no field ", name, "; it has ", known);
    }
    if (!value)
      if (const Value* v = find_value(layout, name, [&](const Value& row) { return given == row.name; }))
        value = v->value;
    if (!value) throw Error(layout.name, ".", name, ": \"", given, "\" is neither a number nor one of its names");
    set_bits(words, layout, *field, generation, *value);
  }
  return words;
}

const Layout* find_layout(std::span<const Layout* const> rows, std::string_view name) {
  for (const Layout* l : rows) {
    if (name == l->name) return l;
    for (const char* prefix : l->prefix)  // a hub's register is also found under the name of either copy
      if (l->kind == Kind::REGISTER && *prefix && name.starts_with(prefix) && name.substr(strlen(prefix)) == l->name)
        return l;
  }
  return nullptr;
}

const Layout* find_code(std::span<const Layout* const> rows, std::string_view family, i64 code, int generation) {
  for (const Layout* l : rows)
    if (family == l->family && l->kind != Kind::REGISTER && l->code[size_t(generation)] == code &&
        l->dwords[size_t(generation)] >= 0)
      return l;
  return nullptr;
}

std::string RegisterName::text() const {
  std::string out = str(layout->prefix[copy], layout->name);
  if (layout->count > 1) out += str("[", index, "]");
  if (instance) out += str(".", instance);
  return out;
}

u64 register_address(const Layout& layout, int generation, const Bases& bases, int copy, int index, int instance) {
  const Where& where = layout.where[copy][size_t(generation)];
  std::string name = str(layout.prefix[copy], layout.name);
  if (!where.exists()) throw Error(name, " does not exist on ", generation_name(layout, generation));
  if (index < 0 || index >= layout.count) throw Error(name, " has ", layout.count, " copies, there is no ", index);
  int block = where.block >= 0 ? where.block : layout.block[copy];
  auto base = bases.at.find({block, instance, where.segment});
  if (base == bases.at.end())
    throw Error(name, ": this chip has no segment ", where.segment, " of instance ", instance, " of its block");
  return base->second + where.offset + u64(index) * layout.stride;
}

RegisterMap::RegisterMap(std::span<const Layout* const> rows, int generation, const Bases& bases) {
  for (const Layout* l : rows) {
    if (l->kind != Kind::REGISTER) continue;
    for (int copy = 0; copy < 2; copy++) {
      const Where& where = l->where[copy][size_t(generation)];
      if (!where.exists() || (copy && !*l->prefix[1])) continue;
      int block = where.block >= 0 ? where.block : l->block[copy];
      for (auto& [place, base] : bases.at)
        if (place[0] == block && place[2] == where.segment)
          for (int i = 0; i < l->count; i++)
            names_.emplace(base + where.offset + u64(i) * l->stride, RegisterName{l, copy, i, place[1]});
    }
  }
}

const RegisterName* RegisterMap::find(u64 dword_address) const {
  auto i = names_.find(dword_address);
  return i == names_.end() ? nullptr : &i->second;
}

}  // namespace ingot::hw
