// SPDX-License-Identifier: MIT
// safetensors: eight bytes of header length (little endian), a JSON header, the data. Format: README of
// github.com/huggingface/safetensors. The header is an object of {"dtype", "shape", "data_offsets"} by tensor name, and
// of strings under "__metadata__"; offsets count from the header's end and together cover the data without holes or
// overlap.
//
// Reading trusts nothing: a cursor never passes the end, numbers do not overflow, every rule above is checked before a
// tensor is made, and what is wrong is said with its place. The grammar has a fixed depth, so nothing recurses.
#include "compiler/tensor/tensor.h"

namespace ingot {
namespace {

constexpr std::pair<DType, std::string_view> names[] = {
    {BOOL, "BOOL"},    {I8, "I8"},        {U8, "U8"},     {I16, "I16"}, {U16, "U16"},
    {I32, "I32"},      {U32, "U32"},      {I64, "I64"},   {U64, "U64"}, {F16, "F16"},
    {E4M3, "F8_E4M3"}, {E5M2, "F8_E5M2"}, {BF16, "BF16"}, {F32, "F32"}, {F64, "F64"},
};
constexpr size_t most_header_bytes = 100'000'000;  // the format's limit

struct Entry {
  std::string name;
  DType dtype;
  Shape shape;
  u64 begin = 0, end = 0;
};

class Json {  // a cursor over the header
 public:
  Json(std::string_view text, std::string_view file) : text_(text), file_(file) {}
  template <class... A>
  [[noreturn]] void fail(const A&... why) const {
    throw Error(file_, ": safetensors header, byte ", at_ + 8, ": ", why...);
  }
  char peek() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\r' || text_[at_] == '\t'))
      at_++;
    return at_ < text_.size() ? text_[at_] : 0;
  }
  bool take(char c) { return peek() == c && at_ < text_.size() && (at_++, true); }
  void expect(char c) {
    if (!take(c)) fail("expected '", c, "'");
  }
  bool done() { return !peek() && at_ == text_.size(); }
  template <class F>
  void list(char open, char close, F item) {
    expect(open);
    if (take(close)) return;
    do item();
    while (take(','));
    expect(close);
  }
  template <class F>
  void object(F member) {
    list('{', '}', [&] {
      std::string key = string();
      expect(':');
      member(key);
    });
  }
  u64 number() {
    peek();
    u64 value = 0;
    auto [end, error] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), value);
    size_t digits = size_t(end - text_.data()) - at_;
    if (error != std::errc() || (digits > 1 && text_[at_] == '0')) fail("expected an unsigned integer of 64 bits");
    at_ += digits;
    return value;
  }
  std::string string() {
    expect('"');
    std::string out;
    while (at_ < text_.size() && text_[at_] != '"') {
      u8 c = u8(text_[at_++]);
      if (c < 0x20) fail("a control character in a string");
      if (c != '\\') {
        out += char(c);
        continue;
      }
      char e = at_ < text_.size() ? text_[at_++] : 0;
      constexpr std::string_view from = "\"\\/bfnrt", to = "\"\\/\b\f\n\r\t";
      if (e == 'u')
        append_utf8(out, escape());
      else if (size_t i = from.find(e); e && i != from.npos)
        out += to[i];
      else
        fail("an unknown escape in a string");
    }
    if (at_ == text_.size()) fail("a string does not end");
    at_++;
    if (!is_utf8(out)) fail("a string that is not UTF-8");
    return out;
  }

 private:
  u32 hex4() {
    u32 value = 0;
    const char* begin = text_.data() + at_;
    if (text_.size() - at_ < 4 || std::from_chars(begin, begin + 4, value, 16).ptr != begin + 4)
      fail("\\u needs four hex digits");
    at_ += 4;
    return value;
  }
  u32 escape() {
    u32 c = hex4();
    if (c >= 0xDC00 && c < 0xE000) fail("half a surrogate pair");
    if (c < 0xD800 || c >= 0xDC00) return c;
    if (text_.substr(at_, 2) != "\\u") fail("half a surrogate pair");
    at_ += 2;
    u32 low = hex4();
    if (low < 0xDC00 || low >= 0xE000) fail("half a surrogate pair");
    return 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
  }
  static void append_utf8(std::string& out, u32 c) {
    int more = c < 0x80 ? 0 : c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    constexpr u32 lead[] = {0, 0xC0, 0xE0, 0xF0};
    out += char(lead[more] | c >> 6 * more);
    while (more--) out += char(0x80 | (c >> 6 * more & 0x3F));
  }
  static bool is_utf8(std::string_view s) {
    for (size_t i = 0; i < s.size();) {
      u32 c = u8(s[i++]);
      int more = c < 0x80 ? 0 : c >> 5 == 6 ? 1 : c >> 4 == 14 ? 2 : c >> 3 == 30 ? 3 : -1;
      if (more < 0 || s.size() - i < size_t(more)) return false;
      constexpr u32 lowest[] = {0, 0x80, 0x800, 0x10000};
      u32 value = more ? c & (0x3F >> more) : c;
      for (int k = 0; k < more; k++, i++) {
        if ((u8(s[i]) & 0xC0) != 0x80) return false;
        value = value << 6 | (u8(s[i]) & 0x3F);
      }
      if (value < lowest[more] || value > 0x10FFFF || (value >= 0xD800 && value < 0xE000)) return false;
    }
    return true;
  }
  std::string_view text_, file_;
  size_t at_ = 0;
};

Entry entry_of(Json& json, const std::string& name, u64 data_bytes) {
  Entry e;
  e.name = name;
  std::vector<u64> offsets;
  std::vector<std::string> seen;
  json.object([&](const std::string& key) {
    if (std::ranges::count(seen, key)) json.fail(name, ": ", key, " twice");
    seen.push_back(key);
    if (key == "dtype") {
      std::string type = json.string();
      for (auto [t, text] : names)
        if (type == text) e.dtype = t;
      if (!e.dtype.bits()) json.fail(name, ": unknown dtype ", type);
    } else if (key == "shape") {
      json.list('[', ']', [&] { e.shape.push_back(i64(std::min<u64>(json.number(), u64(INT64_MAX)))); });
    } else if (key == "data_offsets") {
      json.list('[', ']', [&] { offsets.push_back(json.number()); });
    } else {
      json.fail(name, ": unknown key ", key);
    }
  });
  if (seen.size() != 3) json.fail(name, ": needs dtype, shape and data_offsets");
  if (e.shape.size() > 32) json.fail(name, ": ", e.shape.size(), " axes; at most 32");
  if (offsets.size() != 2 || offsets[0] > offsets[1] || offsets[1] > data_bytes)
    json.fail(name, ": data_offsets ", offsets, " of ", data_bytes, " bytes of data");
  u64 want = u64(e.dtype.bytes());
  bool empty = std::ranges::find(e.shape, 0) != e.shape.end();
  for (i64 n : e.shape)
    if (!empty && __builtin_mul_overflow(want, u64(n), &want)) json.fail(name, ": shape ", e.shape, " is too large");
  if (empty) want = 0;
  e.begin = offsets[0], e.end = offsets[1];
  if (want != e.end - e.begin)
    json.fail(name, ": ", e.dtype, " of shape ", e.shape, " takes ", want, " bytes, data_offsets give ",
              e.end - e.begin);
  return e;
}

}  // namespace

TensorFile parse_safetensors(std::span<const u8> bytes, std::string_view file) {
  if (bytes.size() < 8)
    throw Error(file, ": ", bytes.size(), " bytes; a safetensors file starts with 8 bytes of header length");
  u64 n = 0;
  for (int i = 7; i >= 0; i--) n = n << 8 | bytes[size_t(i)];
  if (n > bytes.size() - 8 || n > most_header_bytes)
    throw Error(file, ": header of ", n, " bytes in a file of ", bytes.size(),
                "; not a safetensors file, or a truncated one");
  std::span<const u8> data = bytes.subspan(8 + n);
  Json json({reinterpret_cast<const char*>(bytes.data()) + 8, n}, file);
  TensorFile out;
  std::map<std::string, Entry> entries;
  bool has_metadata = false;
  json.object([&](const std::string& name) {
    if (name == "__metadata__") {
      if (std::exchange(has_metadata, true)) json.fail("__metadata__ twice");
      json.object([&](const std::string& key) {
        std::string value = json.string();
        if (!out.metadata.emplace(key, value).second) json.fail("__metadata__: ", key, " twice");
      });
    } else if (!entries.emplace(name, entry_of(json, name, data.size())).second) {
      json.fail(name, " twice");
    }
  });
  if (!json.done()) json.fail("text after the header's object");

  std::vector<const Entry*> order;
  for (auto& [name, e] : entries) order.push_back(&e);
  std::ranges::sort(order, {}, [](const Entry* e) { return std::pair(e->begin, e->end); });
  u64 covered = 0;
  for (const Entry* e : order) {
    if (e->begin != covered)
      throw Error(file, ": ", e->name, " begins at byte ", e->begin, " of the data, ",
                  e->begin < covered ? "inside another tensor" : "after a hole", "; expected ", covered);
    covered = e->end;
    if (e->dtype == BOOL)
      for (u64 i = e->begin; i < e->end; i++)
        if (data[i] > 1) throw Error(file, ": ", e->name, " holds a bool of value ", data[i]);
  }
  if (covered != data.size()) throw Error(file, ": ", data.size() - covered, " bytes of data belong to no tensor");
  for (const Entry* e : order) out.tensors.emplace(e->name, from_bytes(data.data() + e->begin, e->dtype, e->shape));
  return out;
}
TensorFile load_safetensors(const std::string& path) {
  MappedFile file(path);
  return parse_safetensors(file.bytes(), path);
}

void save_safetensors(const std::string& path, const std::map<std::string, Tensor>& tensors,
                      const std::map<std::string, std::string>& metadata) {
  std::vector<std::pair<std::string, Tensor>> order(tensors.begin(), tensors.end());
  std::vector<Tensor> all;
  for (auto& [name, t] : order) {
    if (name == "__metadata__") throw Error("save_safetensors: a tensor cannot be named __metadata__");
    all.push_back(t);
  }
  realize(std::span<const Tensor>(all));
  // Wide elements first: then every tensor is aligned to its element without holes.
  std::ranges::stable_sort(order, std::greater<>(), [](const auto& p) { return p.second.dtype().bytes(); });
  std::string header = "{", data;
  auto member = [&](std::string_view key, std::string_view value) {
    if (header.back() != '{') header += ',';
    header += str(quote_json(key), ':', value);
  };
  if (!metadata.empty()) {
    std::string object = "{";
    for (auto& [key, value] : metadata)
      object += str(object.size() > 1 ? "," : "", quote_json(key), ':', quote_json(value));
    member("__metadata__", object + "}");
  }
  for (auto& [name, t] : order) {
    std::string_view dtype;
    for (auto [d, text] : names)
      if (d == t.dtype()) dtype = text;
    if (dtype.empty())
      throw Error("save_safetensors: ", name, " is ", t.describe(), ", which the format cannot hold; convert it first");
    std::string shape = "[";
    for (i64 n : t.shape()) shape += str(shape.size() > 1 ? "," : "", n);
    size_t begin = data.size();
    data.resize(begin + size_t(t.nbytes()));
    if (t.numel()) t.read(data.data() + begin, t.dtype());
    member(name,
           str("{\"dtype\":\"", dtype, "\",\"shape\":", shape, "],\"data_offsets\":[", begin, ',', data.size(), "]}"));
  }
  header += '}';
  header.resize((header.size() + 7) / 8 * 8, ' ');
  std::string file;
  for (int i = 0; i < 8; i++) file += char(u64(header.size()) >> 8 * i);
  write_file(path, file + header + data);
}

}  // namespace ingot
