// SPDX-License-Identifier: MIT
// `ingot ulp`: the error of the math functions as a user gets them, through Tensor, scheduler and machine code of DEV.
//
// Functions of F32 run over every input (or every 1009th), POW over random pairs, functions of F64 over random inputs.
// The truth is the C library in the next wider type: double for F32, the x87's 64-bit mantissa for F64. An error counts
// in units in the last place of the exact result; a NaN, an infinity or a zero of the wrong sign where another value
// belongs is infinitely wrong. With --resume FILE a stopped run goes on where it was; FILE holds a line of figures for
// each function.
#include <bit>
#include <cmath>
#include <cstdio>
#include <limits>

#include "compiler/tensor/tensor.h"
#include "tools/tools.h"

namespace ingot {
namespace {

struct Function {
  const char* name;
  Op op;
  DType dtype;
  int sources;
  double limit;                                         // ulp promised
  double (*exact)(double, double);                      // F32
  long double (*exact_wide)(long double, long double);  // F64
};
#define FUNCTION(name, op, value)                                                                            \
  {name, Op::op, F32, 1, 2, [](double x, double) -> double { return value; }, nullptr}, {                                  \
    name "_f64", Op::op, F64, 1, 4, nullptr, [](long double x, long double) -> long double { return value; } \
  }
const Function functions[] = {
    FUNCTION("exp2", EXP2, std::exp2(x)),
    FUNCTION("exp", EXP, std::exp(x)),
    FUNCTION("log2", LOG2, std::log2(x)),
    FUNCTION("log", LOG, std::log(x)),
    FUNCTION("sin", SIN, std::sin(x)),
    FUNCTION("cos", COS, std::cos(x)),
    FUNCTION("tan", TAN, std::tan(x)),
    FUNCTION("tanh", TANH, std::tanh(x)),
    FUNCTION("erf", ERF, std::erf(x)),
    FUNCTION("sqrt", SQRT, std::sqrt(x)),
    FUNCTION("rsqrt", RSQRT, 1 / std::sqrt(x)),
    FUNCTION("recip", RECIP, 1 / x),
    {"pow", Op::POW, F32, 2, 2, [](double x, double y) { return std::pow(x, y); }, nullptr},
    {"pow_f64", Op::POW, F64, 2, 4, nullptr, [](long double x, long double y) { return std::pow(x, y); }},
};
#undef FUNCTION

template <class T, class Exact>
double ulps(T got, Exact want) {
  if (std::isnan(got) || std::isnan(want)) return std::isnan(got) && std::isnan(want) ? 0 : INFINITY;
  constexpr int lowest = std::numeric_limits<T>::min_exponent - 1, digits = std::numeric_limits<T>::digits;
  T nearest = T(want);
  if (got == nearest && (got == 0 || std::isinf(got))) {
    if (got == 0 && std::signbit(got) != std::signbit(want)) return INFINITY;
    if (std::isinf(got)) return 0;
  }
  if (std::isinf(want)) return INFINITY;
  Exact value = std::isinf(got) ? std::copysign(std::ldexp(Exact(1), std::numeric_limits<T>::max_exponent), Exact(got))
                                : Exact(got);
  int exponent = want == 0 ? lowest : std::max(std::ilogb(want), lowest);
  return double(std::fabs(value - want) / std::ldexp(Exact(1), exponent - digits + 1));
}

u64 random_word(u64 i) {  // splitmix64: the i-th word of one fixed sequence, so that a resumed run goes on with it
  u64 v = (i + 1) * 0x9E3779B97F4A7C15ull;
  v = (v ^ v >> 30) * 0xBF58476D1CE4E5B9ull;
  v = (v ^ v >> 27) * 0x94D049BB133111EBull;
  return v ^ v >> 31;
}

struct Figures {
  u64 next = 0;  // inputs done
  double worst = 0;
  u64 x = 0, y = 0;  // codes of the worst input
};

constexpr i64 chunk = 1 << 20, piece = 1 << 14;

template <class T, class Code, class Exact>
void run_chunk(const Function& f, Exact (*exact)(Exact, Exact), u64 stride, i64 n, Figures& figures) {
  static std::vector<Code> in[2];
  static std::vector<T> out;
  for (int k = 0; k < f.sources; k++) in[k].resize(size_t(n));
  out.resize(size_t(n));
  parallel((n + piece - 1) / piece, [&](i64 p) {
    for (i64 i = p * piece; i < std::min(n, (p + 1) * piece); i++) {
      u64 index = figures.next + u64(i);
      if (sizeof(T) == 4 && f.sources == 1) {
        in[0][size_t(i)] = Code(index * stride);
        continue;
      }
      T v = std::bit_cast<T>(in[0][size_t(i)] = Code(random_word(2 * index)));
      u64 word = random_word(2 * index + 1);
      if (f.sources == 1) {  // half of them of moderate size: random codes are mostly huge or tiny
        if (word & 1) in[0][size_t(i)] = std::bit_cast<Code>(std::ldexp(v, -std::ilogb(v) + int(word >> 8) % 12 - 6));
      } else {  // half of the exponents give results that neither overflow nor vanish; an eighth are small integers
        T y = std::bit_cast<T>(Code(word)),
          range = std::numeric_limits<T>::max_exponent + std::numeric_limits<T>::digits;
        if (word & 1)
          y = T(i64(word)) * T(0x1p-63) * range / std::log2(std::fabs(v));
        else if (!(word & 6))
          y = T(i64(word) >> 58);
        in[1][size_t(i)] = std::bit_cast<Code>(y);
      }
    }
  });
  Tensor x = from_bytes(in[0].data(), f.dtype, {n});
  Tensor r = f.sources == 1 ? x.alu(f.op) : x.alu(f.op, from_bytes(in[1].data(), f.dtype, {n}));
  r.read(out.data(), f.dtype);
  std::vector<Figures> found(size_t((n + piece - 1) / piece));
  parallel(i64(found.size()), [&](i64 p) {
    Figures& own = found[size_t(p)];
    own.worst = -1;
    for (i64 i = p * piece; i < std::min(n, (p + 1) * piece); i++) {
      Code a = in[0][size_t(i)], b = f.sources > 1 ? in[1][size_t(i)] : 0;
      double error = ulps(out[size_t(i)], exact(std::bit_cast<T>(a), std::bit_cast<T>(b)));
      if (error > own.worst) own = {0, error, a, b};
    }
  });
  for (const Figures& own : found)
    if (own.worst > figures.worst) figures.worst = own.worst, figures.x = own.x, figures.y = own.y;
  figures.next += u64(n);
}

std::string input_text(const Function& f, const Figures& g) {
  auto text = [&](u64 code) {
    char buffer[40];
    snprintf(buffer, sizeof buffer, "%a",
             f.dtype == F32 ? double(std::bit_cast<float>(u32(code))) : std::bit_cast<double>(code));
    return std::string(buffer);
  };
  return f.sources == 1 ? text(g.x) : text(g.x) + " to the " + text(g.y);
}

}  // namespace

int ulp_main(Arguments args) {
  Options o("ingot ulp", args);
  const bool all = o.flag("all", "every F32 input, 10^8 pairs, 10^7 F64 inputs; otherwise a sample that takes seconds");
  const bool json = o.flag("json", "print a JSON array");
  const std::string resume = o.value("resume", "", "FILE with the figures so far; read first, kept up to date");
  auto names = o.rest("[FUNCTION...]", "Measures the error of the math functions on DEV, in units in the last place.");
  for (std::string_view name : names)
    if (std::none_of(std::begin(functions), std::end(functions), [&](const Function& f) { return name == f.name; })) {
      std::string known;
      for (const Function& f : functions) known += str(" ", f.name);
      throw UsageError("no function ", name, "; there are", known);
    }

  std::vector<Figures> figures(std::size(functions));
  if (!resume.empty() && file_exists(resume)) {
    std::string text = read_file(resume);
    for (std::string_view line : split(text, '\n')) {
      char name[32];
      Figures g;
      unsigned long long next, x, y;
      if (sscanf(std::string(line).c_str(), "%31s %llu %la %llx %llx", name, &next, &g.worst, &x, &y) != 5) continue;
      for (size_t i = 0; i < figures.size(); i++)
        if (std::string_view(name) == functions[i].name) figures[i] = {next, g.worst, x, y};
    }
  }
  auto save = [&] {
    std::string text;
    for (size_t i = 0; i < figures.size(); i++) {
      char line[160];
      snprintf(line, sizeof line, "%s %llu %a %llx %llx\n", functions[i].name,
               static_cast<unsigned long long>(figures[i].next), figures[i].worst,
               static_cast<unsigned long long>(figures[i].x), static_cast<unsigned long long>(figures[i].y));
      text += line;
    }
    write_file(resume, text);
  };

  bool good = true, first = true;
  if (!json) printf("%s\n", bold("function        inputs     max ulp  limit  verdict  worst input").c_str());
  for (size_t i = 0; i < std::size(functions); i++) {
    const Function& f = functions[i];
    if (!names.empty() && std::find(names.begin(), names.end(), f.name) == names.end()) continue;
    Figures& g = figures[i];
    bool exhaustive = f.dtype == F32 && f.sources == 1;
    u64 stride = exhaustive && !all ? 1009 : 1;
    u64 total = exhaustive ? ((u64(1) << 32) + stride - 1) / stride
                : all      ? (f.dtype == F32 ? 100'000'000 : 10'000'000)
                           : 1 << 20;
    i64 start = now_ns(), saved = start;
    u64 before = g.next;
    while (g.next < total) {
      i64 n = i64(std::min<u64>(chunk, total - g.next));
      if (f.dtype == F32)
        run_chunk<float, u32>(f, f.exact, stride, n, g);
      else
        run_chunk<double, u64>(f, f.exact_wide, stride, n, g);
      i64 now = now_ns();
      if (!resume.empty() && (now - saved > 2'000'000'000 || g.next == total)) save(), saved = now;
      double rate = double(g.next - before) / (double(now - start) * 1e-9);
      if (on_terminal() && !json && g.next < total)
        printf("\r%-10s %5.1f %%  %6.1f M/s  %5.0f s left ", f.name, 100.0 * double(g.next) / double(total),
               rate * 1e-6, double(total - g.next) / rate),
            fflush(stdout);
    }
    bool within = g.worst <= f.limit;
    good &= within;
    if (json)
      printf(
          "%s{\"function\": \"%s\", \"inputs\": %llu, \"max_ulp\": %s, \"limit\": %g, \"worst\": \"%s\", \"ok\": %s}",
          first ? "[" : ",\n ", f.name, static_cast<unsigned long long>(g.next),
          std::isinf(g.worst) ? "null" : str(g.worst).c_str(), f.limit, input_text(f, g).c_str(),
          within ? "true" : "false");
    else
      printf("%s%-10s %12llu  %8.4f  %5g  %-7s  %s\n", on_terminal() ? "\r\033[K" : "", f.name,
             static_cast<unsigned long long>(g.next), g.worst, f.limit, within ? "ok" : "ABOVE",
             input_text(f, g).c_str());
    fflush(stdout);
    first = false;
  }
  if (json) printf("%s]\n", first ? "[" : "");
  return good ? 0 : 1;
}

}  // namespace ingot
