// SPDX-License-Identifier: MIT
// Runs cases.def: every test of every row on REF, on the CPU with AVX2 and with AVX-512, the latter two with guarded
// buffers. A result is compared with REF's, element by element, and with expected.txt, which make_expected.py wrote
// from PyTorch and NumPy: REF shares the op table with the compiler, so it alone could be wrong in the same way.
// Gradients are compared with PyTorch's, between devices, and, in f64, with finite differences.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <map>
#include <memory>
#include <sstream>

#include "compiler/runtime/runtime.h"
#include "tests/ops/ops.h"

namespace ingot::ops {
namespace {

constexpr Tolerance EXACT{true};
constexpr Tolerance ULP(double n) { return {false, n, 0}; }
constexpr Tolerance NEAR(double n, double scale) { return {false, n, scale}; }
constexpr bool GRAD = true, NONE = false;

// Tensors by value, as the user's code would hold them: assigning to one is seen by the others of that name only.
using Function = Tensor (*)(const Tensor& a, const Tensor& b, const Tensor& c, const Tensor& d, DType T, DType R, i64 N,
                            i64 M, i64 K);
struct Row {
  const char *name, *inputs;
  Tolerance tolerance;
  bool gradient;
  const char* expected;
  Function function;
};
#define SET(...)
#define EDGES(...)
#define CASE(name, inputs, tolerance, gradient, expected, ...)                                                      \
  {#name,                                                                                                           \
   inputs,                                                                                                          \
   tolerance,                                                                                                       \
   gradient,                                                                                                        \
   expected,                                                                                                        \
   []([[maybe_unused]] const Tensor& a, [[maybe_unused]] const Tensor& b, [[maybe_unused]] const Tensor& c,         \
      [[maybe_unused]] const Tensor& d, [[maybe_unused]] DType T, [[maybe_unused]] DType R, [[maybe_unused]] i64 N, \
      [[maybe_unused]] i64 M, [[maybe_unused]] i64 K) -> Tensor { return __VA_ARGS__; }},
const Row rows[] = {
#include "tests/ops/cases.def"
};
#undef SET
#undef EDGES
#undef CASE
#define SET(name, text) {#name, text},
#define EDGES(...)
#define CASE(...)
const std::map<std::string, std::string> sets = {
#include "tests/ops/cases.def"
};
#undef SET
#undef EDGES
#define SET(...)
#define EDGES(...) __VA_ARGS__
#undef CASE
#define CASE(...)
const double edges[] = {
#include "tests/ops/cases.def"
};

// ---- the same inputs as make_expected.py ---------------------------------------------------------------------------

u64 mix(u64 z) {
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ z >> 27) * 0x94D049BB133111EBull;
  return z ^ z >> 31;
}

struct Input {
  DType dtype;
  Shape shape;
  std::string values;  // after @
};

// As `dtype`, whose values are those of input.dtype: gradients by finite differences want f64.
std::vector<u8> make_input(const std::string& test, int number, const Input& input, DType dtype) {
  i64 n = 1;
  for (i64 s : input.shape) n *= s;
  u64 start = 0xCBF29CE484222325ull;
  for (char c : test) start = (start ^ u8(c)) * 0x100000001B3ull;
  start += u64(number + 1) * 0x9E3779B97F4A7C15ull;
  const DTypeRow& row = input.dtype.row();
  const bool real = input.dtype.is_float();
  double low = real ? -2 : input.dtype.is_signed() ? -50 : 0, high = real ? 2 : input.dtype.is_signed() ? 50 : 100;
  if (const size_t colon = input.values.find(':'); colon != std::string::npos) {
    low = std::stod(input.values.substr(0, colon));
    high = std::stod(input.values.substr(colon + 1));
  }
  std::vector<i64> limits;
  if (!real && !input.dtype.is_bool()) {
    const i64 lowest = input.dtype.is_signed() ? i64(~u64(0) << (row.bits - 1)) : 0;
    const u64 highest = input.dtype.is_signed() ? (u64(1) << (row.bits - 1)) - 1 : ~u64(0) >> (64 - row.bits);
    for (u64 v : {u64(0), u64(1), u64(2), u64(3), u64(7), u64(10), u64(100), highest, highest - 1})
      limits.push_back(i64(v));
    for (i64 v : {lowest, lowest + 1}) limits.push_back(v);
    if (input.dtype.is_signed()) limits.insert(limits.end(), {-1, -2, -3, -7, -10, -100});
  }
  std::vector<u8> bytes(size_t(n * dtype.bytes()));
  for (i64 i = 0; i < n; i++) {
    const u64 h = mix(start + u64(i + 1) * 0x9E3779B97F4A7C15ull);
    Value v;
    if (input.dtype.is_bool())
      v.i = h & 1;
    else if (input.values == "edge" && real)
      v.f = edges[size_t(i + 5 * number) % std::size(edges)];
    else if (input.values == "edge")
      v.i = limits[size_t(i + 5 * number) % limits.size()];
    else if (input.values == "distinct")
      v.f = double(i * 7919 % n) * (4.0 / double(n)) - 2.0;
    else if (real)
      v.f = low + (high - low) * double(h >> 48) / 65536.0;
    else
      v.i = i64(low) + i64(h % u64(i64(high) - i64(low) + 1));
    if (real) v.f = round_to(v.f, input.dtype);
    store_element(bytes.data(), i, dtype, real ? v : Value{.i = wrap_to(v.i, input.dtype)});
  }
  return bytes;
}

// ---- tests: each combination of a row's sets -----------------------------------------------------------------------

struct Case {
  const Row* row;
  std::string name;
  DType T = F32, R = F32;
  i64 N = 1, M = 1, K = 1;
  std::vector<Input> inputs;
  bool gradient = false;

  Tensor call(const std::vector<Tensor>& in) const {
    auto at = [&](size_t i) { return i < in.size() ? in[i] : Tensor(); };
    const Tensor a = at(0), b = at(1), c = at(2), d = at(3);
    return row->function(a, b, c, d, T, R, N, M, K);
  }
};

std::vector<std::string> words(const std::string& text, char separator = ' ') {
  std::vector<std::string> out;
  std::stringstream in(text);
  for (std::string word; std::getline(in, word, separator);)
    if (word.find_first_not_of(' ') != std::string::npos) out.push_back(word);
  return out;
}

DType dtype_named(const std::string& name) {
  auto dtype = dtype_from_name(name);
  if (!dtype) throw Error("cases.def: no dtype ", name);
  return *dtype;
}

void expand(const Row& row, std::vector<Case>& out) {
  std::string text = row.inputs;
  for (size_t at; (at = text.find('$')) != std::string::npos;) {
    size_t end = at + 1;
    while (end < text.size() && (isalnum(text[end]) || text[end] == '_')) end++;
    text.replace(at, end - at, sets.at(text.substr(at + 1, end - at - 1)));
  }
  const size_t semicolon = text.find(';');
  const std::vector<std::string> specs = words(text.substr(0, semicolon));
  std::string all = semicolon == std::string::npos ? "" : text.substr(semicolon + 1);
  if (words(all).empty()) all = " ";
  for (size_t begin = 0; begin <= all.size();) {
    const size_t bar = std::min(all.find('|', begin), all.size());
    std::vector<std::pair<std::string, std::vector<std::string>>> axes;  // "T" → f32, f64
    for (std::string word : words(all.substr(begin, bar - begin))) {
      if (const size_t equals = word.find('='); equals != std::string::npos) {
        axes.push_back({word.substr(0, equals), {}});
        word.erase(0, equals + 1);
      }
      axes.back().second.push_back(word);
    }
    i64 combinations = 1;
    for (auto& a : axes) combinations *= i64(a.second.size());
    for (i64 k = 0; k < combinations; k++) {
      Case c;
      c.row = &row, c.name = row.name;
      std::map<std::string, std::string> binding;
      i64 rest = combinations, index = k;
      for (auto& [symbol, values] : axes) {
        rest /= i64(values.size());
        const std::string& value = values[size_t(index / rest)];
        index %= rest;
        binding[symbol] = value;
        c.name += "_" + value;
        if (symbol == "T")
          c.T = dtype_named(value);
        else if (symbol == "R")
          c.R = dtype_named(value);
        else
          (symbol == "N" ? c.N : symbol == "M" ? c.M : c.K) = std::stol(value);
      }
      auto bound = [&](const std::string& word) { return binding.count(word) ? binding[word] : word; };
      bool reals = false;
      for (const std::string& spec : specs) {
        const size_t open = spec.find('('), close = spec.find(')'), at = spec.find('@');
        Input input{dtype_named(bound(spec.substr(0, open))), {}, at == std::string::npos ? "" : spec.substr(at + 1)};
        for (const std::string& n : words(spec.substr(open + 1, close - open - 1), ','))
          input.shape.push_back(std::stol(bound(n)));
        reals = reals || input.dtype == F32;
        c.inputs.push_back(input);
      }
      c.gradient = row.gradient && reals && c.T == F32 && c.R == F32;
      // sets of a row may overlap
      if (std::none_of(out.begin(), out.end(), [&](const Case& o) { return o.row == &row && o.name == c.name; }))
        out.push_back(c);
    }
    begin = bar + 1;
  }
}

const std::vector<Case>& cases() {
  static const std::vector<Case> all = [] {
    std::vector<Case> out;
    for (const Row& row : rows) expand(row, out);
    return out;
  }();
  return all;
}

// ---- running one ---------------------------------------------------------------------------------------------------

std::vector<Tensor> inputs_of(const Case& c, const Place& place, bool wide = false) {
  std::vector<Tensor> in;
  for (size_t i = 0; i < c.inputs.size(); i++) {
    const DType dtype = wide && c.inputs[i].dtype == F32 ? F64 : c.inputs[i].dtype;
    const std::vector<u8> bytes = make_input(c.name, int(i), c.inputs[i], dtype);
    in.push_back(from_bytes(bytes.data(), dtype, c.inputs[i].shape, place.device));
  }
  return in;
}

Result forward(const Case& c, const Place& place) {
  Scoped dev(ctx.DEV, place.device);
  Scoped guard(ctx.GUARD, place.guard);
  return result_of(c.call(inputs_of(c, place)));
}

// sum(result * weights): what gradients are taken of
Tensor weighted(const Case& c, const std::vector<Tensor>& in, const Place& place) {
  const Tensor out = c.call(in);
  const Input w{F32, Shape(out.shape().begin(), out.shape().end()), "-1:1"};
  const std::vector<u8> bytes = make_input(c.name + "/w", 0, w, out.dtype());
  return (out * from_bytes(bytes.data(), out.dtype(), w.shape, place.device)).sum();
}

std::vector<Tensor> reals(const std::vector<Tensor>& in) {
  std::vector<Tensor> out;
  for (const Tensor& t : in)
    if (t.is_float()) out.push_back(t);
  return out;
}

std::vector<Result> backward(const Case& c, const Place& place, bool wide = false) {
  Scoped dev(ctx.DEV, place.device);
  Scoped guard(ctx.GUARD, place.guard);
  std::vector<Tensor> in = inputs_of(c, place, wide);
  std::vector<Tensor> gradients = gradient(weighted(c, in, place), reals(in));
  realize(gradients);
  std::vector<Result> out;
  for (const Tensor& g : gradients) out.push_back(result_of(g));
  return out;
}

// ---- expected.txt --------------------------------------------------------------------------------------------------

struct Expected {
  DType dtype;
  std::string shape, checksum;
  std::vector<std::string> values;
};
const std::map<std::string, Expected>& expected() {
  static const std::map<std::string, Expected> table = [] {
    std::string folder = __FILE__;
    folder.erase(folder.rfind('/'));
    std::map<std::string, Expected> out;
    std::stringstream file(read_file(folder + "/expected.txt"));
    for (std::string line; std::getline(file, line);) {
      if (line[0] == '#') continue;
      std::vector<std::string> w = words(line);
      out[w[0]] = {dtype_named(w[1]), w[2], w[3], {w.begin() + 4, w.end()}};
    }
    return out;
  }();
  return table;
}

// Compares with a line of expected.txt: all its values, and its checksum if it holds a sample only.
std::string difference(const Result& got, const std::string& name, const Tolerance& tolerance) {
  auto found = expected().find(name);
  if (found == expected().end()) return str("no line ", name, " in expected.txt: run make golden");
  const Expected& e = found->second;
  std::string shape;
  for (i64 s : got.shape) shape += (shape.empty() ? "" : ",") + std::to_string(s);
  shape = "(" + shape + ")";
  if (got.dtype != e.dtype || shape != e.shape) return str(got.dtype, " ", shape, ", expected ", e.dtype, " ", e.shape);
  const i64 n = got.size(), written = i64(e.values.size());
  Result wanted{got.dtype, {written}, std::vector<u8>(size_t(written * got.dtype.bytes()))}, sample = wanted;
  for (i64 i = 0; i < written; i++) {
    const std::string& text = e.values[size_t(i)];
    Value v;
    if (got.dtype.is_float())
      v.f = std::strtod(text.c_str(), nullptr);
    else
      v.i = got.dtype == U64 ? i64(std::stoull(text)) : std::stoll(text);
    store_element(wanted.bytes.data(), i, got.dtype, v);
    store_element(sample.bytes.data(), i, got.dtype, got[n == written ? i : i * (n - 1) / (written - 1)]);
  }
  std::string text = ops::difference(sample, wanted, tolerance);
  if (!text.empty()) return str(name, ": ", text, n == written ? "" : " (of the sample)");
  if (e.checksum == "-") return "";
  double sum = 0, magnitude = 0, allowed = 0;
  for (i64 i = 0; i < n; i++) {
    double v = got.dtype == U64 ? double(u64(got[i].i)) : got.number(i);
    if (!std::isfinite(v)) continue;
    sum += v * double(1 + i % 7);
    magnitude += std::abs(v) * double(1 + i % 7);
    allowed += tolerance.allowed(v, got.dtype) * double(1 + i % 7);
  }
  const double wanted_sum = std::strtod(e.checksum.c_str(), nullptr);
  if (std::abs(sum - wanted_sum) <= allowed + 1e-10 * magnitude) return "";
  return str(name, ": checksum ", sum, ", expected ", wanted_sum, " within ", allowed + 1e-10 * magnitude);
}

const Tolerance& between_devices(const Case& c) { return c.row->tolerance; }
// A gradient sums over a whole axis what the result holds once.
Tolerance of_gradient(const Case& c) {
  return {false, std::max(4 * c.row->tolerance.epsilons, 64.), std::max(c.row->tolerance.scale, 4.)};
}

const Result& reference_result(const Case& c) {
  static std::map<const Case*, std::unique_ptr<Result>> results;
  auto& r = results[&c];
  if (!r) r = std::make_unique<Result>(forward(c, reference));
  return *r;
}
const std::vector<Result>& reference_gradients(const Case& c) {
  static std::map<const Case*, std::unique_ptr<std::vector<Result>>> results;
  auto& r = results[&c];
  if (!r) r = std::make_unique<std::vector<Result>>(backward(c, reference));
  return *r;
}

class Forward : public testing::TestWithParam<const Case*> {};
class Gradient : public testing::TestWithParam<const Case*> {};

TEST_P(Forward, Reference) {
  const Case& c = *GetParam();
  EXPECT_GT(reference_result(c).size(), 0);
  if (*c.row->expected) {
    EXPECT_EQ(difference(reference_result(c), c.name, c.row->tolerance), "");
  }
}
void forward_on(const Case& c, const Place& place) {
  if (std::string why = absent(place); !why.empty()) GTEST_SKIP() << why;
  const Result got = forward(c, place);
  EXPECT_EQ(ops::difference(got, reference_result(c), between_devices(c)), "") << "compared with REF";
  if (*c.row->expected) {
    EXPECT_EQ(difference(got, c.name, c.row->tolerance), "");
  }
}
TEST_P(Forward, Avx2) { forward_on(*GetParam(), avx2); }
TEST_P(Forward, Avx512) { forward_on(*GetParam(), avx512); }
TEST_P(Forward, Gfx1100) { forward_on(*GetParam(), gfx1100); }

// The emulator's two modes give the same bits: evaluated, by the checker's chip, and compiled for the host at once.
void blocks_on(const Case& c, std::vector<Result> (*run)(const Case&, const Place&)) {
  if (std::string why = absent(gfx1100); !why.empty()) GTEST_SKIP() << why;
  const std::vector<Result> evaluated = run(c, gfx1100);
  Scoped checker(ctx.MODEL_CHECK, 0), strict(ctx.MODEL_STRICT, 0),
      hot(ctx.MODEL_HOT, 0);  // when the other chip is made
  const std::vector<Result> compiled = run(c, gfx1100_blocks);
  EXPECT_GT(counters().blocks, 0u);
  ASSERT_EQ(evaluated.size(), compiled.size());
  for (size_t i = 0; i < evaluated.size(); i++)
    EXPECT_TRUE(evaluated[i].bytes == compiled[i].bytes) << ops::difference(compiled[i], evaluated[i], {true});
}
std::vector<Result> forward_alone(const Case& c, const Place& place) { return {forward(c, place)}; }
std::vector<Result> backward_alone(const Case& c, const Place& place) { return backward(c, place); }
class ForwardSample : public Forward {};
class GradientSample : public Gradient {};
TEST_P(ForwardSample, Gfx1100Blocks) { blocks_on(*GetParam(), forward_alone); }
TEST_P(GradientSample, Gfx1100Blocks) { blocks_on(*GetParam(), backward_alone); }
TEST_P(Forward, DISABLED_LongGfx1100Blocks) { blocks_on(*GetParam(), forward_alone); }

std::string gradient_name(const Case& c, size_t leaf) {  // the leaf-th float input
  for (size_t i = 0;; i++)
    if (c.inputs[i].dtype.is_float() && leaf-- == 0) return str(c.name, "/grad_", char('a' + i));
}
TEST_P(Gradient, Reference) {
  const Case& c = *GetParam();
  const std::vector<Result>& g = reference_gradients(c);
  for (size_t i = 0; i < g.size(); i++) EXPECT_EQ(difference(g[i], gradient_name(c, i), of_gradient(c)), "");
}
void gradient_on(const Case& c, const Place& place) {
  if (std::string why = absent(place); !why.empty()) GTEST_SKIP() << why;
  const std::vector<Result> got = backward(c, place);
  for (size_t i = 0; i < got.size(); i++) {
    EXPECT_EQ(ops::difference(got[i], reference_gradients(c)[i], of_gradient(c)), "") << "compared with REF";
    EXPECT_EQ(difference(got[i], gradient_name(c, i), of_gradient(c)), "");
  }
}
TEST_P(Gradient, Avx2) { gradient_on(*GetParam(), avx2); }
TEST_P(Gradient, Avx512) { gradient_on(*GetParam(), avx512); }
TEST_P(Gradient, Gfx1100) { gradient_on(*GetParam(), gfx1100); }
TEST_P(Gradient, DISABLED_LongGfx1100Blocks) { blocks_on(*GetParam(), backward_alone); }

// In f64, along one random direction: (L(x + h v) - L(x - h v)) / 2h against the sum of gradient * v.
TEST_P(Gradient, FiniteDifference) {
  const Case& c = *GetParam();
  const std::vector<Result> gradients = backward(c, reference, true);
  constexpr double h = 1e-6;
  double slope[2], analytic = 0, magnitude = 1;
  for (int side = 0; side < 2; side++) {
    Scoped dev(ctx.DEV, reference.device);
    std::vector<Tensor> in = inputs_of(c, reference, true);
    size_t leaf = 0;
    for (size_t i = 0; i < in.size(); i++) {
      if (!in[i].is_float()) continue;
      Result x = result_of(in[i]);
      for (i64 k = 0; k < x.size(); k++) {
        const double v = double(mix(u64(k) * 31 + i + 77) >> 40) * 0x1p-23 - 1;
        if (side == 0) {
          analytic += gradients[leaf].number(k) * v;
          magnitude += std::abs(gradients[leaf].number(k) * v);
        }
        store_element(x.bytes.data(), k, F64, {.f = x.number(k) + (side ? -h : h) * v});
      }
      leaf++;
      in[i] = from_bytes(x.bytes.data(), F64, x.shape, reference.device);
    }
    slope[side] = weighted(c, in, reference).to(F64).item();
  }
  // f64 rounding divided by h, and the third derivative times h^2, are both far below this share of the terms' sizes.
  EXPECT_NEAR((slope[0] - slope[1]) / (2 * h), analytic, 1e-6 * magnitude + 1e-9 * std::abs(slope[0]) / h);
}

std::vector<const Case*> pointers(bool gradient, size_t one_in = 1) {
  std::vector<const Case*> out;
  size_t n = 0;
  for (const Case& c : cases())
    if ((!gradient || c.gradient) && n++ % one_in == 0) out.push_back(&c);
  return out;
}
std::string name_of(const testing::TestParamInfo<const Case*>& info) { return info.param->name; }
INSTANTIATE_TEST_SUITE_P(Ops, Forward, testing::ValuesIn(pointers(false)), name_of);
INSTANTIATE_TEST_SUITE_P(Ops, Gradient, testing::ValuesIn(pointers(true)), name_of);
INSTANTIATE_TEST_SUITE_P(Ops, ForwardSample, testing::ValuesIn(pointers(false, 12)), name_of);
INSTANTIATE_TEST_SUITE_P(Ops, GradientSample, testing::ValuesIn(pointers(true, 6)), name_of);

// Every elementwise method has a row that is named after it or calls it (operators stand for their methods).
TEST(Cases, EveryElementwiseMethodIsUsed) {
  std::string folder = __FILE__;
  const std::string text = read_file(folder.substr(0, folder.rfind('/')) + "/cases.def");
#define UNARY(name, ...)                                                                                            \
  EXPECT_TRUE(text.find("a." #name "()") != std::string::npos || text.find("CASE(" #name ",") != std::string::npos) \
      << #name;
#define BINARY(name, ...) \
  EXPECT_TRUE(text.find("CASE(" #name) != std::string::npos || text.find("." #name "(") != std::string::npos) << #name;
#include "compiler/tensor/elementwise.def"
#undef UNARY
#undef BINARY
}

}  // namespace
}  // namespace ingot::ops
