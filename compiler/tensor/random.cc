// SPDX-License-Identifier: MIT
// Random numbers: Threefry-2x32 with 20 rounds (Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2,
// 3, SC'11). Number i of a seed is a pure function of (seed, i), so it is computed where it is used, and is the same on
// every device.
//
// The generator's state is a buffer U64 {seed, counter}. Drawing n numbers adds n to an offset kept here and reads
// counter + offset; the next realize() stores counter + offset into the buffer with one ASSIGN, which is recorded by a
// capture. So a captured step draws fresh numbers at each replay, and a step of many draws advances the state once.
#include <cmath>
#include <numbers>
#include <numeric>
#include "compiler/tensor/tensor.h"

namespace ingot {
namespace {

struct Generator {
  Generator() { Arena::main(); }  // made first, so that it outlives the state's Pin
  Tensor state;
  i64 offset = 0;
};
thread_local Generator g;

// Two U32 words for each of the next elements of the stream, of this shape.
std::pair<Tensor, Tensor> words(const Shape& shape) {
  if (!g.state.defined()) manual_seed(0);
  if (Tensor here = g.state.to(ctx.DEV); here.uop() != g.state.uop()) {  // the state follows the device in use
    realize(here);
    g.state = here;
  }
  i64 n = 1;
  for (i64 s : shape) n *= s;
  Tensor number = Tensor(make(Op::IOTA, I64, {}, {n})).reshape(shape).to(U64);
  Tensor count = g.state[1] + g.offset + number, seed = g.state[0];
  g.offset += n;
  auto low = [](const Tensor& t) { return t.to(U32); };
  auto high = [](const Tensor& t) { return (t >> 32).to(U32); };
  return threefry2x32(low(seed), high(seed), low(count), high(count));
}
// [0, 1): 24 bits for F32 and narrower (narrower: as many as they hold), 53 for F64
Tensor unit(const std::pair<Tensor, Tensor>& w, DType t) {
  if (t != F64) {
    int bits = std::min(t.row().mantissa_bits + 1, 24);
    return (w.first >> (32 - bits)).to(F32).mul(std::ldexp(1.0, -bits)).to(t);
  }
  return ((w.first >> 5).to(F64) * 67108864.0 + (w.second >> 6).to(F64)) * 0x1p-53;
}
Shape list(const Ints& shape) {
  for (i64 n : shape)
    if (n < 0) throw Error("random numbers of shape ", shape.vec(), ": a size is negative");
  return shape.vec();
}
void expect_float(const char* what, DType t) {
  if (!t.is_float()) throw Error(what, " of ", t, ": floats only");
}
i64 fan_in(const Ints& shape) {
  if (shape.size() < 2) throw Error("fan in of shape ", shape.vec(), ": at least 2 axes");
  return std::accumulate(shape.begin() + 1, shape.end(), i64(1), std::multiplies<>());
}

}  // namespace

TensorState* advance_random() {
  if (!g.offset) return nullptr;
  g.state.assign(g.state + where(arange(2) == 1, full({}, g.offset, U64), 0));
  g.offset = 0;
  return &TensorState::of(g.state);
}
void manual_seed(u64 seed) {
  u64 state[] = {seed, 0};
  set_random_state(from_data(std::span<const u64>(state), 2));
}
Tensor random_state() {
  if (!g.state.defined()) manual_seed(0);
  std::vector<u64> copy = g.state.to_vector<u64>();
  copy[1] += u64(g.offset);
  return from_data(std::span<const u64>(copy), 2);
}
void set_random_state(const Tensor& state) {
  if (state.dtype() != U64 || state.dim() != 1 || state.size(0) != 2)
    throw Error("random state ", state.describe(), ": expected u64 (2), {seed, counter}");
  std::vector<u64> copy = state.to_vector<u64>();
  Tensor fresh = from_data(std::span<const u64>(copy), 2);
  g.offset = 0;
  U memory = g.state.defined() ? g.state.uop() : nullptr;
  while (memory && memory->op != Op::BUFFER) memory = memory->nsrc ? memory->src(0) : nullptr;
  if (memory && !is_lost(memory))
    g.state.assign(fresh.to(g.state.device())).realize();  // the same buffer: captured steps read it
  else
    g.state = fresh;
}

// Rotations and key schedule: the paper, and Random123's threefry.h. Injection s adds key word s mod 3 and the number
// s.
std::pair<Tensor, Tensor> threefry2x32(const Tensor& key0, const Tensor& key1, const Tensor& count0,
                                       const Tensor& count1) {
  constexpr int rotation[8] = {13, 15, 26, 6, 17, 29, 16, 24};
  const Tensor key[3] = {key0, key1, key0 ^ key1 ^ full({}, 0x1BD11BDA, U32)};
  Tensor x0 = count0 + key[0], x1 = count1 + key[1];
  for (int round = 0; round < 20; round++) {
    int r = rotation[round % 8];
    x0 = x0 + x1;
    x1 = ((x1 << r) | (x1 >> (32 - r))) ^ x0;
    if (round % 4 == 3) {
      int s = round / 4 + 1;
      x0 = x0 + key[s % 3];
      x1 = x1 + key[(s + 1) % 3] + s;
    }
  }
  return {x0, x1};
}

Tensor rand(Ints shape, DType t, At at) {
  Here here(at);
  expect_float("rand", t);
  return unit(words(list(shape)), t);
}
Tensor randn(Ints shape, DType t, At at) {  // Box and Muller: one normal number from two uniform ones
  Here here(at);
  expect_float("randn", t);
  auto [a, b] = words(list(shape));
  DType in = t == F64 ? F64 : F32;
  Tensor u = ((a >> 8).to(in) + 1) * 0x1p-24,
         angle = (b >> 8).to(in) * (2 * std::numbers::pi * 0x1p-24);  // u is never 0
  return ((u.log() * -2).sqrt() * angle.cos()).to(t);
}
Tensor randint(i64 low, i64 high, Ints shape, DType t, At at) {
  Here here(at);
  u64 range = u64(high) - u64(low);
  if (low >= high || range > u64(1) << 32) throw Error("randint from ", low, " to ", high, ": 1 to 2^32 values");
  Tensor word = words(list(shape)).first.to(U64);  // the high word of word * range: bias below range / 2^32
  return (((word * full({}, i64(range), U64)) >> 32).to(I64) + low).to(t);
}
Tensor uniform(Ints shape, double low, double high, DType t, At at) {
  Here here(at);
  return rand(shape, t) * (high - low) + low;
}
Tensor normal(Ints shape, double mean, double std, DType t, At at) {
  Here here(at);
  return randn(shape, t) * std + mean;
}
Tensor kaiming_uniform(Ints shape, double a, At at) {
  Here here(at);
  double bound = std::sqrt(6 / ((1 + a * a) * double(fan_in(shape))));
  return uniform(shape, -bound, bound);
}
Tensor xavier_uniform(Ints shape, double gain, At at) {
  Here here(at);
  i64 in = fan_in(shape);
  double bound = gain * std::sqrt(6 / double(in + in / shape[1] * shape[0]));
  return uniform(shape, -bound, bound);
}
Tensor randperm(i64 n, At at) {  // Fisher and Yates
  Here here(at);
  if (n < 0) throw Error("randperm of ", n);
  std::vector<i64> order(static_cast<size_t>(n)), word;
  std::iota(order.begin(), order.end(), 0);
  if (n > 1) word = words({n}).first.to_vector<i64>();
  for (i64 i = n - 1; i > 0; i--) std::swap(order[size_t(i)], order[size_t(word[size_t(i)] * (i + 1) >> 32)]);
  return from_data(std::span<const i64>(order), n);
}
Tensor bernoulli(const Tensor& p, At at) {
  Here here(at);
  return (rand(p.shape()) < p).to(p.dtype());
}
Tensor dropout(const Tensor& x, double p, bool training, At at) {
  Here here(at);
  if (!(p >= 0 && p <= 1)) throw Error("dropout with probability ", p, ": expected 0 to 1");
  if (!training || p == 0) return x;
  if (p == 1) return x * 0;
  return where(rand(x.shape()) < 1 - p, x * (1 / (1 - p)), 0);
}

}  // namespace ingot
