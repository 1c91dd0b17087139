// SPDX-License-Identifier: MIT
// safetensors: round trip, the texts of errors, and mutated files: whatever the bytes, an Error or tensors, never a
// crash. Each mutant lies in a block of exactly its size, so that AddressSanitizer sees a read past its end.
#include <unistd.h>
#include <memory>
#include "tests/tensor/tensor_test.h"

namespace ingot {
namespace {

std::string header_of(std::string json, std::string_view data = "") {
  json.resize((json.size() + 7) / 8 * 8, ' ');
  std::string out;
  for (int i = 0; i < 8; i++) out += char(u64(json.size()) >> 8 * i);
  return out + json + std::string(data);
}
TensorFile parse(std::string_view file) {
  return parse_safetensors({reinterpret_cast<const u8*>(file.data()), file.size()}, "x");
}

struct Saved {
  std::string path = str("/tmp/ingot_test_", getpid(), ".safetensors");
  ~Saved() { unlink(path.c_str()); }
};

TEST(Safetensors, round_trip) {
  Saved file;
  std::map<std::string, Tensor> tensors;
  for (DType t : {BOOL, I8, U8, I16, U16, I32, U32, I64, U64, F16, BF16, F32, F64, E4M3, E5M2})
    tensors[str("a.", t)] = tensor({{0, 1, 1}, {1, 0, 1}}).to(t);
  tensors["empty"] = zeros({0, 4});
  tensors["scalar \"quoted\" ü\n"] = tensor(2.5);
  save_safetensors(file.path, tensors, {{"step", "12"}, {"note", "a\tb"}});
  TensorFile loaded = load_safetensors(file.path);
  EXPECT_EQ(loaded.metadata, (std::map<std::string, std::string>{{"step", "12"}, {"note", "a\tb"}}));
  ASSERT_EQ(loaded.tensors.size(), tensors.size());
  for (auto& [name, t] : tensors) {
    const Tensor& l = loaded.tensors.at(name);
    EXPECT_EQ(l.describe(), t.describe());
    EXPECT_EQ(l.to_vector<double>(), t.to_vector<double>()) << name;
  }
  std::string bytes = read_file(file.path);
  EXPECT_EQ(u8(bytes[0]) % 8, 0);  // data begins aligned
  save_safetensors(file.path, loaded.tensors, loaded.metadata);
  EXPECT_EQ(read_file(file.path), bytes);
  EXPECT_NE(error_of([&] {
              save_safetensors(file.path, {{"w", zeros(1, E4M3FNUZ)}});
            }).find("w is e4m3fnuz (1), which the format cannot hold"),
            std::string::npos);
}
TEST(Safetensors, says_what_is_wrong) {
  const char* f32 = R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  EXPECT_EQ(parse(header_of(f32, "12345678")).tensors.at("w").describe(), "f32 (2)");
  struct Case {
    std::string file, text;
  };
  const Case cases[] = {
      {"abc", "x: 3 bytes; a safetensors file starts with 8 bytes of header length"},
      {std::string(8, '\xff'),
       "x: header of 18446744073709551615 bytes in a file of 8; not a safetensors file, or a truncated one"},
      {header_of(f32, "1234567"), "w: data_offsets (0, 8) of 7 bytes of data"},
      {header_of(f32, "123456789"), "x: 1 bytes of data belong to no tensor"},
      {header_of(R"({"w":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", "12345678"),
       "w: f32 of shape (3) takes 12 bytes, data_offsets give 8"},
      {header_of(R"({"w":{"dtype":"F99","shape":[2],"data_offsets":[0,8]}})", "12345678"), "w: unknown dtype F99"},
      {header_of(R"({"w":{"dtype":"F32","shape":[2]}})"), "w: needs dtype, shape and data_offsets"},
      {header_of(R"({"w":{"dtype":"U8","shape":[-1],"data_offsets":[0,0]}})"),
       "expected an unsigned integer of 64 bits"},
      {header_of(R"({"w":{"dtype":"U8","shape":[18446744073709551615,3],"data_offsets":[0,0]}})"), "is too large"},
      {header_of(
           R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
           "123"),
       "b begins at byte 1 of the data, inside another tensor; expected 2"},
      {header_of(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})", "12"),
       "a begins at byte 1 of the data, after a hole; expected 0"},
      {header_of(
           R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})"),
       "a twice"},
      {header_of(R"({"a":{"dtype":"BOOL","shape":[1],"data_offsets":[0,1]}})", "7"), "a holds a bool of value 55"},
      {header_of(R"({"__metadata__":{"a":1}})"), "expected '\"'"},
      {header_of(R"({"__metadata__":{"a":"\ud800"}})"), "half a surrogate pair"},
      {header_of("{\"__metadata__\":{\"a\":\"\xc0\x80\"}}"), "a string that is not UTF-8"},
      {header_of("{} {}"), "text after the header's object"},
      {header_of("[]"), "expected '{'"},
  };
  for (const Case& c : cases) {
    std::string text = error_of([&] { parse(c.file); });
    EXPECT_NE(text.find(c.text), std::string::npos) << c.file.substr(8) << "\n  said: " << text;
  }
  EXPECT_EQ(parse(header_of(R"({"__metadata__":{"a":"\u00e9\ud83d\ude00\n"}})")).metadata.at("a"), "é😀\n");
}
void parse_mutants(i64 rounds) {
  i64 accepted = 0;
  const std::string seeds[] = {
      header_of(
          R"({"__metadata__":{"step":"1\u0041"},"w":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},"b":{"dtype":"U8","shape":[],"data_offsets":[8,9]}})",
          "12345678z"),
      header_of(
          R"({"a":{"dtype":"BOOL","shape":[1,2],"data_offsets":[0,2]},"z":{"dtype":"I64","shape":[0],"data_offsets":[2,2]}})",
          std::string(2, 1)),
  };
  const std::string_view pieces[] = {"{", "}",   "[",  "]",   "\"",   ",",   ":",   "0",   "18446744073709551615",
                                     "-", "\\u", "\\", "{\"", "\xff", "1e9", "F64", "null"};
  u64 state = 12345;
  auto next = [&](u64 n) {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return (state >> 33) % n;
  };
  for (i64 round = 0; round < rounds; round++) {
    std::string file = seeds[next(2)];
    for (u64 k = next(4) + (round % 3 > 0); k--;) {
      size_t at = file.empty() ? 0 : next(next(2) ? file.size() : std::min<size_t>(file.size(), 160));
      switch (next(5)) {
        case 0: file.resize(at); break;
        case 1: file.erase(at, next(8)); break;
        case 2: file.insert(at, pieces[next(std::size(pieces))]); break;
        case 3: file.insert(at, file.substr(next(file.size() + 1), next(40))); break;
        default:
          if (!file.empty()) file[at] = char(next(2) ? next(256) : u64(u8(file[at])) ^ 1 << next(8));
      }
    }
    std::unique_ptr<u8[]> exact(new u8[file.size()]);
    std::copy(file.begin(), file.end(), exact.get());
    try {
      parse_safetensors({exact.get(), file.size()}, "x");
      accepted++;
    } catch (const Error&) {}
  }
  EXPECT_GT(accepted, rounds / 50);
  EXPECT_LT(accepted, rounds);
}
TEST(Safetensors, mutants) { parse_mutants(100000); }

}  // namespace
}  // namespace ingot
