// SPDX-License-Identifier: MIT
// Random graphs on a device against REF. A seed decides everything: shapes (small, odd, with axes of size 1), dtypes,
// chains of movement, elementwise ops, reductions, casts, gathers, assignments, several roots. Two kinds:
//   exact    values are small integers in every dtype, and a bound kept for each tensor stops sums and products before
//   a dtype would
//            round. So any order of a sum gives the same bits, and device and REF must agree in every bit.
//   smooth   also exp, log, tanh, division …; compared within a tolerance. Where a rounding error could jump
//   (comparisons, casts to
//            integers, floor, argmax) only exact values are used.
// A failure prints the steps, the smallest graph that fails and the command that runs the seed again; a crash prints
// the latter.
//   build/test_ops --gtest_filter='Fuzz.*' --graphs=N --seed=S      (make fuzz N= SEED=)
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <cmath>

#include "tests/ops/ops.h"

namespace ingot::ops {

i64 fuzz_graphs = 2000, fuzz_seed = 1;  // main.cc sets them

namespace {

struct Random {  // splitmix64
  u64 state;
  u64 next() {
    u64 z = state += 0x9E3779B97F4A7C15ull;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ z >> 27) * 0x94D049BB133111EBull;
    return z ^ z >> 31;
  }
  i64 below(i64 n) { return i64(next() % u64(n)); }
  i64 between(i64 low, i64 high) { return low + below(high - low + 1); }
  bool chance(int percent) { return below(100) < percent; }
  template <class T, size_t n>
  const T& pick(const T (&list)[n]) {
    return list[below(n)];
  }
};

constexpr i64 largest = 3000;  // elements of a tensor

struct Node {
  Tensor t;
  double bound;  // |value| <= bound
  bool exact;    // every value is an integer, computed without rounding in any order
  std::string name;
};

// Integers up to this size are exact in the dtype (and, wrapping, any are in an integer dtype).
double exact_limit(DType d) {
  return d.is_float() ? std::ldexp(1, d.row().mantissa_bits + 1) : d.is_bool() ? 1 : std::ldexp(1, d.bits() - 1) - 1;
}

struct Graph {
  Random random;
  const char* device;
  bool smooth;
  bool floats_only;                  // for gradients: no integers, no jumps
  const std::vector<Tensor>* given;  // inputs of a replay; nullptr: make them
  std::vector<Tensor> inputs;
  std::vector<Node> nodes;
  std::vector<std::string> steps;

  Graph(u64 seed, const char* device, bool smooth, bool floats_only = false, const std::vector<Tensor>* given = nullptr)
      : random{seed}, device(device), smooth(smooth), floats_only(floats_only), given(given) {}

  i64 some_size() {
    constexpr i64 sizes[] = {1, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 33};
    return random.pick(sizes);
  }
  DType some_dtype() {
    if (floats_only) return F32;
    constexpr DType dtypes[] = {F32, F32, F32, F16, BF16, F64, I32, I32, I8, U8, I16, U16, I64, U32, BOOL};
    return random.pick(dtypes);
  }
  const Node& any_node() {
    return nodes[size_t(random.chance(60) ? i64(nodes.size()) - 1 - random.below(std::min<i64>(3, i64(nodes.size())))
                                          : random.below(i64(nodes.size())))];
  }
  static Shape shape_of(const Tensor& t) { return {t.shape().begin(), t.shape().end()}; }

  const Node& add(Tensor t, double bound, bool exact, const std::string& step) {
    nodes.push_back({t, bound, exact, str("t", nodes.size())});
    steps.push_back(str(nodes.back().name, " = ", step, "  // ", t.dtype(), " ", t.shape()));
    return nodes.back();
  }

  const Node& input(Shape shape, DType dtype) {
    const size_t number = inputs.size();
    i64 n = 1;
    for (i64 s : shape) n *= s;
    Random values{random.next() ^ (given ? 1 : 0)};  // a replay gets other values in inputs of the same shapes
    if (given) {
      inputs.push_back((*given)[number]);
    } else {
      std::vector<u8> bytes(size_t(n * dtype.bytes()));
      for (i64 i = 0; i < n; i++) {
        const i64 v = dtype.is_bool() ? values.below(2) : dtype.is_unsigned() ? values.below(5) : values.between(-4, 4);
        store_element(bytes.data(), i, dtype, dtype.is_float() ? Value{.f = double(v)} : Value{.i = v});
      }
      inputs.push_back(from_bytes(bytes.data(), dtype, shape, device));
    }
    return add(inputs.back(), dtype.is_bool() ? 1 : 4, true, "input");
  }
  Shape some_shape() {
    Shape shape;
    i64 n = 1;
    for (i64 rank = random.between(0, 4); rank--;) {
      const i64 s = some_size();
      if (n * s <= largest / 4) shape.push_back(s), n *= s;
    }
    return shape;
  }

  // One more tensor, or none if the draw does not fit.
  void step() {
    const Node x = any_node();
    const Tensor& t = x.t;
    const i64 rank = t.dim(), n = t.numel();
    const DType d = t.dtype();
    const double limit = exact_limit(d);
    auto keep = [&](Tensor r, const std::string& text) { add(r, x.bound, x.exact, str(x.name, ".", text)); };
    switch (random.below(36)) {
      case 0: input(some_shape(), some_dtype()); break;
      case 1: {  // a size becomes two factors, or two sizes one
        Shape s = shape_of(t);
        if (s.empty()) return keep(t.reshape({1, 1}), "reshape(1, 1)");
        const size_t a = size_t(random.below(rank));
        if (rank > 1 && a + 1 < s.size() && random.chance(50)) {
          s[a] *= s[a + 1];
          s.erase(s.begin() + i64(a) + 1);
        } else if (rank < 5) {
          i64 factor = 1;
          for (i64 f : {2, 3, 5, 4, 8})
            if (s[a] % f == 0 && random.chance(60)) factor = f;
          s[a] /= factor;
          s.insert(s.begin() + i64(a) + random.below(2), factor);
        }
        keep(t.reshape(s), str("reshape", s));
        break;
      }
      case 2:
      case 3: {
        Shape order(size_t(rank), 0);
        for (i64 i = 0; i < rank; i++) order[size_t(i)] = i;
        for (i64 i = rank - 1; i > 0; i--) std::swap(order[size_t(i)], order[size_t(random.below(i + 1))]);
        keep(t.permute(order), str("permute", order));
        break;
      }
      case 4: {
        Shape s = shape_of(t);
        i64 total = n;
        for (i64& v : s)
          if (i64 to = some_size(); v == 1 && total * to <= largest) v = to, total *= to;
        if (i64 to = some_size(); rank < 5 && total * to <= largest) s.insert(s.begin(), to);
        keep(t.expand(s), str("expand", s));
        break;
      }
      case 5:
      case 6: {
        if (!rank) return;
        Shape s;
        i64 total = 1;
        for (i64 i = rank - 1; i >= 0; i--) {
          i64 before = random.below(4), after = random.below(4);
          if (random.chance(15) && t.size(i) > 2) before = -1;
          s.push_back(before), s.push_back(after);
          total *= t.size(i) + before + after;
        }
        if (total > largest) return;
        const bool value = random.chance(30) && !d.is_bool();
        add(t.pad(s, value ? 2 : 0), std::max(x.bound, 2.), x.exact, str(x.name, ".pad", s, value ? " with 2" : ""));
        break;
      }
      case 7:
      case 8: {
        if (!rank) return;
        std::vector<std::pair<i64, i64>> ranges;
        std::string text;
        for (i64 i = 0; i < rank; i++) {
          const i64 begin = random.below(t.size(i)), end = random.between(begin + 1, t.size(i));
          ranges.push_back(random.chance(50) ? std::pair(begin, end) : std::pair(i64(0), t.size(i)));
          text += str(" ", ranges.back().first, ":", ranges.back().second);
        }
        keep(t.shrink(ranges), "shrink" + text);
        break;
      }
      case 9:
      case 10: {
        Shape axes;
        for (i64 i = 0; i < rank; i++)
          if (random.chance(50)) axes.push_back(i);
        if (!axes.empty()) keep(t.flip(axes), str("flip", axes));
        break;
      }
      case 11: {
        if (!rank) return;
        const i64 axis = random.below(rank), by = random.between(2, 3);
        std::vector<Index> index;
        for (i64 i = 0; i < axis; i++) index.push_back(Slice{});
        index.push_back(
            Slice{random.chance(50) ? std::optional<i64>(random.below(t.size(axis))) : std::nullopt, {}, by});
        keep(t.index(index), str("every ", by, "th of axis ", axis));
        break;
      }
      case 12: {
        if (!rank || 2 * n > largest) return;
        const i64 axis = random.below(rank);
        const Tensor two[] = {t, t.flip(axis)};
        keep(cat(two, axis), str("cat(itself flipped, ", axis, ")"));
        break;
      }
      case 13: {
        if (!rank || t.size(-1) < 3) return;
        const i64 k = random.between(1, 3), stride = random.between(1, 2), dilation = random.between(1, 2);
        if ((k - 1) * dilation + 1 > t.size(-1) || n * k > largest) return;
        keep(t.windows(k, stride, dilation), str("windows(", k, ", ", stride, ", ", dilation, ")"));
        break;
      }
      case 14: keep(t.contiguous(), "contiguous()"); break;
      case 15:
      case 16:
      case 17: {  // elementwise with a tensor of a shape that broadcasts
        Node y = any_node();
        Shape both;
        try {
          both = broadcast_shapes(t.shape(), y.t.shape());
        } catch (const Error&) {
          y = {t.flip(0 < rank ? Ints{rank - 1} : Ints{}), x.bound, x.exact, x.name + " flipped"};
          if (!rank) y.t = t;
          both = shape_of(t);
        }
        i64 total = 1;
        for (i64 s : both) total *= s;
        if (total > largest) return;
        const DType r = promote(d, y.t.dtype());
        const bool exact = x.exact && y.exact, wraps = r.is_int();
        if (r.is_float() && std::max(x.bound, y.bound) > exact_limit(r)) return;
        const int which = int(random.below(4));
        const double bound = which == 0   ? x.bound + y.bound
                             : which == 1 ? x.bound + y.bound
                             : which == 2 ? x.bound * y.bound
                                          : std::max(x.bound, y.bound);
        if (!wraps && bound > exact_limit(r)) return;
        if (r.is_bool() && which == 1) return;
        Tensor result = which == 0 ? t + y.t : which == 1 ? t - y.t : which == 2 ? t * y.t : maximum(t, y.t);
        const char* names[] = {" + ", " - ", " * ", " max "};
        add(result, wraps ? exact_limit(r) : bound, exact, str(x.name, names[which], y.name));
        break;
      }
      case 18: {  // comparisons and where
        const Node y = any_node();
        if (floats_only || !x.exact || !y.exact || y.t.dim() != rank || shape_of(y.t) != shape_of(t)) return;
        const DType r = promote(d, y.t.dtype());
        if (r.is_float() && std::max(x.bound, y.bound) > exact_limit(r)) return;
        const int which = int(random.below(3));
        if (which < 2)
          add(which ? t < y.t : t == y.t, 1, true, str(x.name, which ? " < " : " == ", y.name));
        else
          add(where(t.to(BOOL), y.t, y.t * 0), y.bound, true, str("where(", x.name, ", ", y.name, ", 0)"));
        break;
      }
      case 19: {
        if (d.is_bool()) return floats_only ? void() : void(add(!t, 1, true, "!" + x.name));
        if (d.is_unsigned()) return;
        if (random.chance(50))
          keep(-t, "neg()");
        else
          keep(t.relu(), "relu()");
        break;
      }
      case 20: {
        if (d.is_bool() || (d.is_float() && x.bound + 3 > limit)) return;
        const i64 k = random.between(1, 3);
        add(random.chance(50) ? t + k : k - t, d.is_int() ? limit : x.bound + 3, x.exact,
            str(x.name, " with number ", k));
        break;
      }
      case 21: {
        if (!d.is_int() || floats_only) return;
        const i64 k = random.between(2, 9);
        if (random.chance(50))
          add(t % k, double(k), true, str(x.name, " % ", k));
        else
          add(t.floor_divide(k), x.bound, true, str(x.name, " // ", k));
        break;
      }
      case 22: {
        if (!d.is_int() || floats_only) return;
        add((t & 7) ^ (t >> 1), limit, true, str("(", x.name, " & 7) ^ (", x.name, " >> 1)"));
        break;
      }
      case 23:
      case 24: {  // cast
        if (floats_only) return;
        const DType to = some_dtype();
        if (!x.exact && !to.is_float()) return;
        if (to.is_float() && x.bound > exact_limit(to)) return;
        if (d.is_float() && to.is_int() && (x.bound > exact_limit(to) || to.is_unsigned())) return;
        add(t.to(to),
            to.is_bool()  ? 1
            : to.is_int() ? exact_limit(to)
                          : x.bound,
            x.exact, str(x.name, ".to(", to, ")"));
        break;
      }
      case 25:
      case 26:
      case 27: {  // sums
        Shape axes;
        i64 count = 1;
        for (i64 i = 0; i < rank; i++)
          if (random.chance(50)) axes.push_back(i), count *= t.size(i);
        if (axes.empty()) count = n;
        const bool keepdim = random.chance(50);
        const DType r = d.is_float() ? d : I64;
        if (d.is_float() && x.bound * double(count) > limit) return;
        add(t.sum(axes, keepdim), std::min(x.bound * double(count), exact_limit(r)), x.exact,
            str(x.name, ".sum", axes, keepdim ? " keepdim" : ""));
        break;
      }
      case 28:
      case 29: {
        if (d.is_bool()) return;
        Shape axes;
        for (i64 i = 0; i < rank; i++)
          if (random.chance(50)) axes.push_back(i);
        const bool low = random.chance(50);
        keep(low ? t.min(axes) : t.max(axes), str(low ? "min" : "max", axes));
        break;
      }
      case 30: {
        if (!rank || !x.exact || floats_only || d.is_bool()) return;
        const i64 axis = random.below(rank);
        add(t.argmax(axis), double(t.size(axis)), true, str(x.name, ".argmax(", axis, ")"));
        break;
      }
      case 31: {
        if (!rank || x.bound * double(t.size(0)) > limit || d.is_bool() || (d.is_int() && d != I64)) return;
        add(t.cumsum(0), x.bound * double(t.size(0)), x.exact, str(x.name, ".cumsum(0)"));
        break;
      }
      case 32: {  // gather along an axis with indices that are a tensor of the graph
        if (!rank || n > largest / 4) return;
        const i64 axis = random.below(rank), length = some_size();
        Shape s = shape_of(t);
        if (n / s[size_t(axis)] * length > largest) return;
        const i64 size = s[size_t(axis)];
        s[size_t(axis)] = length;
        i64 count = 1;
        for (i64 v : s) count *= v;
        Tensor index = ((arange(count) * 5 + 3) % size).reshape(s);
        if (random.chance(50)) index = index.to(I32);
        keep(t.gather(axis, index), str("gather(", axis, ", ", length, " of ", size, ")"));
        break;
      }
      case 33: {  // matrix product with itself
        if (rank < 2 || d.is_bool() || n * t.size(-2) > 40000 || t.numel() / t.size(-1) * t.size(-2) > largest) return;
        if (d.is_float() && x.bound * x.bound * double(t.size(-1)) > limit) return;
        add(t.matmul(t.transpose()), d.is_float() ? x.bound * x.bound * double(t.size(-1)) : exact_limit(I64), x.exact,
            str(x.name, " @ its transpose"));
        break;
      }
      case 34: {  // write to a fresh buffer that earlier nodes read
        if (given || floats_only || d.is_bool() || (d.is_float() && x.bound + 4 > limit)) return;
        Node fresh = input(shape_of(t), d);
        Tensor buffer = fresh.t;
        add(buffer * 1, fresh.bound, true, str(fresh.name, " * 1, read before the write"));
        buffer += t;
        nodes[nodes.size() - 2].bound = add(buffer * 1, d.is_int() ? limit : x.bound + fresh.bound, x.exact,
                                            str("(", fresh.name, " += ", x.name, ") * 1"))
                                            .bound;
        nodes[nodes.size() - 3].bound = nodes.back().bound, nodes[nodes.size() - 3].exact = x.exact;
        break;
      }
      case 35: {
        if (!smooth || !d.is_float() || x.bound > 1000) return;
        const Tensor s = t * (1 / std::max(1., x.bound));  // within -1 … 1
        switch (random.below(8)) {
          case 0: add(s.exp(), 3, false, str("exp of scaled ", x.name)); break;
          case 1: add((s.square() + 1).log(), 1, false, str("log(1 + square) of scaled ", x.name)); break;
          case 2: add(s.sin(), 1, false, str("sin of scaled ", x.name)); break;
          case 3: add(s.tanh(), 1, false, str("tanh of scaled ", x.name)); break;
          case 4: add((s.square() + 1).sqrt(), 2, false, str("sqrt(1 + square) of scaled ", x.name)); break;
          case 5: add(s / (s.square() + 1), 1, false, str("x / (1 + x x) of scaled ", x.name)); break;
          case 6: add(s.sigmoid(), 1, false, str("sigmoid of scaled ", x.name)); break;
          default:
            if (rank) add(s.softmax(-1), 1, false, str("softmax of scaled ", x.name));
        }
      }
    }
  }
  void build(int count) {
    input(some_shape(), some_dtype());
    while (i64(nodes.size()) < count) {
      const size_t before = nodes.size();
      step();
      if (nodes.size() == before && random.chance(5)) input(some_shape(), some_dtype());
    }
  }
  std::string text() const {
    std::string out;
    for (const std::string& s : steps) out += "  " + s + "\n";
    return out;
  }
};

int length_of(u64 seed) { return 4 + int(seed % 13); }
Place place_of(i64 seed) {  // both instruction sets; one graph in four without guard pages
  static const bool wide = absent(avx512).empty();
  return {wide && seed % 2 ? avx512.device : avx2.device, seed % 4 ? 1 : 0};
}

char crash_text[200];
void on_crash(int signal_number) {
  [[maybe_unused]] ssize_t n = write(STDERR_FILENO, crash_text, strlen(crash_text));
  signal(signal_number, SIG_DFL);
  raise(signal_number);
}
std::string replay(std::string_view test, i64 seed) {
  return str("build/test_ops --gtest_filter=Fuzz.", test, " --graphs=1 --seed=", seed);
}

// Runs body(seed) for the seeds of this run; stops at the third failure.
void for_seeds(const char* test, i64 graphs, const Place& least, const std::function<void(i64)>& body) {
  if (std::string why = absent(least); !why.empty()) GTEST_SKIP() << why;
  for (int s : {SIGSEGV, SIGBUS, SIGILL, SIGFPE}) signal(s, on_crash);
  int failures = 0;
  for (i64 i = 0; i < graphs && failures < 3; i++) {
    const i64 seed = fuzz_seed + i;
    const std::string again = replay(test, seed);
    snprintf(crash_text, sizeof crash_text, "\ncrashed; run it again with\n  %s\n", again.c_str());
    const int before = testing::UnitTest::GetInstance()->current_test_info()->result()->total_part_count();
    try {
      body(seed);
    } catch (const std::exception& e) {
      ADD_FAILURE() << e.what() << "\nrun it again with\n  " << again;
    }
    failures += testing::UnitTest::GetInstance()->current_test_info()->result()->total_part_count() > before;
  }
  for (int s : {SIGSEGV, SIGBUS, SIGILL, SIGFPE}) signal(s, SIG_DFL);
}

// {}: equal, the sign of a zero aside: MAX has either's. Otherwise 256 roundings of the coarsest float that the value
// went through.
Tolerance tolerance_of(const Node& n) {
  if (n.exact) return {};
  const int bits = n.t.dtype().row().mantissa_bits;
  int coarsest = bits;
  for (U u : toposort(n.t.uop()))
    if (u->dtype.is_float()) coarsest = std::min(coarsest, int(u->dtype.row().mantissa_bits));
  return {false, std::ldexp(256, bits - coarsest), std::max(1., n.bound)};
}

// The roots: the last three tensors, brought into memory together.
std::vector<Result> last_three(Graph& g) {
  std::vector<Tensor> roots;
  for (size_t i = g.nodes.size() - std::min<size_t>(3, g.nodes.size()); i < g.nodes.size(); i++)
    roots.push_back(g.nodes[i].t);
  realize(roots);
  std::vector<Result> out;
  for (const Tensor& t : roots) out.push_back(result_of(t));
  return out;
}

// The first tensor of the graph that is wrong when computed alone, its UOps and what is wrong.
std::string smallest_failure(i64 seed, bool smooth, const Place& place) {
  for (int i = 0; i < 200; i++) {
    Result wanted, got;
    std::string graph, what;
    Tolerance tolerance;
    {
      Scoped dev(ctx.DEV, reference.device);
      Graph g(u64(seed), reference.device, smooth);
      g.build(length_of(u64(seed)));
      if (i >= int(g.nodes.size())) break;
      wanted = result_of(g.nodes[size_t(i)].t);
      tolerance = tolerance_of(g.nodes[size_t(i)]);
    }
    Scoped dev(ctx.DEV, place.device);
    Scoped guard(ctx.GUARD, place.guard);
    Graph g(u64(seed), place.device, smooth);
    g.build(length_of(u64(seed)));
    graph = print(g.nodes[size_t(i)].t.uop());
    try {
      what = difference(result_of(g.nodes[size_t(i)].t), wanted, tolerance);
    } catch (const std::exception& e) {
      what = e.what();
    }
    if (!what.empty()) return str("smallest: t", i, ": ", what, "\n", graph);
  }
  return "each tensor alone is right: they are wrong together\n";
}

void compare(const char* test, i64 seed, bool smooth, const Place& place) {
  std::vector<Result> wanted, got;
  std::vector<Tolerance> tolerance;
  std::string text, failed;
  {
    Scoped dev(ctx.DEV, reference.device);
    Graph g(u64(seed), reference.device, smooth);
    g.build(length_of(u64(seed)));
    text = g.text();
    for (size_t i = g.nodes.size() - std::min<size_t>(3, g.nodes.size()); i < g.nodes.size(); i++)
      tolerance.push_back(tolerance_of(g.nodes[i]));
    wanted = last_three(g);
  }
  try {
    Scoped dev(ctx.DEV, place.device);
    Scoped guard(ctx.GUARD, place.guard);
    Graph g(u64(seed), place.device, smooth);
    g.build(length_of(u64(seed)));
    got = last_three(g);
    for (size_t i = 0; i < got.size() && failed.empty(); i++) failed = difference(got[i], wanted[i], tolerance[i]);
  } catch (const Error& e) {
    failed = e.what();
  }
  if (!failed.empty())
    ADD_FAILURE() << place.device << (place.guard ? " GUARD=1" : "") << ": " << failed << "\n"
                  << text << smallest_failure(seed, smooth, place) << "run it again with\n  " << replay(test, seed);
}

i64 exact_graphs() { return fuzz_graphs * 6 / 10; }
TEST(Fuzz, Exact) {
  for_seeds("Exact", exact_graphs(), avx2, [](i64 seed) { compare("Exact", seed, false, place_of(seed)); });
}
TEST(Fuzz, Smooth) {
  for_seeds("Smooth", fuzz_graphs - exact_graphs(), avx2,
            [](i64 seed) { compare("Smooth", seed, true, place_of(seed)); });
}
TEST(Fuzz, ExactGfx1100) {
  for_seeds("ExactGfx1100", exact_graphs(), gfx1100, [](i64 seed) { compare("ExactGfx1100", seed, false, gfx1100); });
}
TEST(Fuzz, SmoothGfx1100) {
  for_seeds("SmoothGfx1100", fuzz_graphs - exact_graphs(), gfx1100,
            [](i64 seed) { compare("SmoothGfx1100", seed, true, gfx1100); });
}

// Gradients of a sum of the last tensor by every input, on a device and on REF.
void compare_gradients(const char* test, i64 seed, const Place& there) {
  auto gradients = [](i64 seed, const Place& place, std::string& text) {
    Scoped dev(ctx.DEV, place.device);
    Scoped guard(ctx.GUARD, place.guard);
    Graph g(u64(seed), place.device, true, true);
    g.build(length_of(u64(seed)));
    text = g.text();
    std::vector<Result> out;
    for (const Tensor& t :
         gradient(g.nodes.back().t.to(F32).sum() * (1 / std::max(1., g.nodes.back().bound)), g.inputs))
      out.push_back(result_of(t));
    return out;
  };
  std::string text;
  const std::vector<Result> wanted = gradients(seed, reference, text), got = gradients(seed, there, text);
  for (size_t i = 0; i < got.size(); i++) {
    double size = 1;
    for (i64 k = 0; k < wanted[i].size(); k++) size = std::max(size, std::abs(wanted[i].number(k)));
    EXPECT_EQ(difference(got[i], wanted[i], {false, 4096, size}), "") << "by input " << i << "\n"
                                                                      << text << replay(test, seed);
  }
}
TEST(Fuzz, Gradient) {
  for_seeds("Gradient", std::max<i64>(1, fuzz_graphs / 10), avx2,
            [](i64 seed) { compare_gradients("Gradient", seed, place_of(seed)); });
}
TEST(Fuzz, GradientGfx1100) {
  for_seeds("GradientGfx1100", std::max<i64>(1, fuzz_graphs / 10), gfx1100,
            [](i64 seed) { compare_gradients("GradientGfx1100", seed, gfx1100); });
}

// The same graph captured: the call that runs plainly, the one that records and two replays give what an eager run
// gives, bit for bit.
void compare_captured(const char* test, i64 seed, const Place& place) {
  Scoped dev(ctx.DEV, place.device);
  Scoped guard(ctx.GUARD, place.guard);
  const int length = length_of(u64(seed));
  auto make_inputs = [&](i64 shift) {  // shapes and dtypes of a run of the generator, other values
    Graph g(u64(seed), place.device, false);
    const Tensor none;
    std::vector<Tensor> replayed;
    g.given = nullptr;
    g.build(length);
    for (const Tensor& t : g.inputs)
      replayed.push_back((shift % 2 ? t.flip(t.dim() ? Ints{t.dim() - 1} : Ints{}) : t).clone());
    realize(replayed);
    return replayed;
  };
  auto eager = [&](const std::vector<Tensor>& in) {
    Graph g(u64(seed), place.device, false, false, &in);
    g.build(length);
    return std::vector<Tensor>{g.nodes.back().t.to(F64) + 1};  // computed, never an input itself
  };
  {  // only graphs whose draws do not depend on whether inputs are given
    Graph g(u64(seed), place.device, false);
    g.build(length);
    for (const std::string& s : g.steps)
      if (s.find("+=") != std::string::npos) return;
  }
  Captured step([&](std::span<const Tensor> in) { return eager({in.begin(), in.end()}); });
  for (i64 call = 0; call < 4; call++) {
    const std::vector<Tensor> in = make_inputs(call);
    const Result wanted = result_of(eager(in)[0]), got = result_of(step(in)[0]);
    EXPECT_EQ(difference(got, wanted, {true}), "") << "call " << call << "\n" << replay(test, seed);
  }
}
TEST(Fuzz, Captured) {
  for_seeds("Captured", std::max<i64>(1, fuzz_graphs / 20), avx2,
            [](i64 seed) { compare_captured("Captured", seed, place_of(seed)); });
}
TEST(Fuzz, CapturedGfx1100) {
  for_seeds("CapturedGfx1100", std::max<i64>(1, fuzz_graphs / 20), gfx1100,
            [](i64 seed) { compare_captured("CapturedGfx1100", seed, gfx1100); });
}

}  // namespace
}  // namespace ingot::ops
