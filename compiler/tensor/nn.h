// SPDX-License-Identifier: MIT
// Layers as plain structs. A model is an aggregate of them, of Tensors, vectors, arrays, optionals and other
// aggregates:
//
//   struct Model {
//     nn::Conv2d conv{1, 32, 5};
//     nn::BatchNorm2d norm{32};
//     Tensor operator()(const Tensor& x) const { return norm(conv(x)).relu(); }
//   };
//   Model model;
//   for (auto& [name, t] : nn::state_dict(model)) …  // conv.weight, conv.bias, norm.weight, norm.running_mean …
//
// Nothing is registered: fields are found by structured bindings (the first struct whose every field converts from
// anything tells how many there are), and named by what the compiler prints for a pointer to a field of an object that
// exists only as a name. Copies of a model share its tensors. A layer that is not an aggregate offers `void visit(f)`
// and calls f(name, field).
//
// Parameters are Tensors with requires_grad(); the rest of the state (running statistics) is saved but not trained.
#pragma once
#include <array>
#include <optional>
#include <tuple>
#include "compiler/tensor/tensor.h"

namespace ingot::nn {

// ---- finding tensors in aggregates ---------------------------------------------------------------------------------
namespace fields {

struct Anything {
  template <class T>
  operator T() const;  // never defined: only the question whether T{Anything…} compiles
};
template <class T, size_t... I>
constexpr bool takes(std::index_sequence<I...>) {
  return requires { T{((void)I, Anything{})...}; };
}
template <class T, size_t N = 0>
constexpr size_t count() {  // the largest number of initialisers, at most 24
  if constexpr (N == 24)
    return takes<T>(std::make_index_sequence<24>()) ? 24 : 0;
  else if constexpr (count<T, N + 1>() > 0)
    return count<T, N + 1>();
  else
    return takes<T>(std::make_index_sequence<N>()) ? N : 0;
}
// clang-format off
template <class T, class F>
constexpr auto tie(T& t, F f) {  // f(each field)
  constexpr size_t n = count<std::remove_const_t<T>>();
#define FIELDS(n_, ...) else if constexpr (n == n_) { auto& [__VA_ARGS__] = t; return f(__VA_ARGS__); }
  if constexpr (n == 0) return f();
  FIELDS(1, a) FIELDS(2, a, b) FIELDS(3, a, b, c) FIELDS(4, a, b, c, d) FIELDS(5, a, b, c, d, e) FIELDS(6, a, b, c, d, e, g)
  FIELDS(7, a, b, c, d, e, g, h) FIELDS(8, a, b, c, d, e, g, h, i) FIELDS(9, a, b, c, d, e, g, h, i, j)
  FIELDS(10, a, b, c, d, e, g, h, i, j, k) FIELDS(11, a, b, c, d, e, g, h, i, j, k, l)
  FIELDS(12, a, b, c, d, e, g, h, i, j, k, l, m) FIELDS(13, a, b, c, d, e, g, h, i, j, k, l, m, o)
  FIELDS(14, a, b, c, d, e, g, h, i, j, k, l, m, o, p) FIELDS(15, a, b, c, d, e, g, h, i, j, k, l, m, o, p, q)
  FIELDS(16, a, b, c, d, e, g, h, i, j, k, l, m, o, p, q, r) FIELDS(17, a, b, c, d, e, g, h, i, j, k, l, m, o, p, q, r, s)
  FIELDS(18, a, b, c, d, e, g, h, i, j, k, l, m, o, p, q, r, s, u)
  FIELDS(19, a, b, c, d, e, g, h, i, j, k, l, m, o, p, q, r, s, u, v)
  FIELDS(20, a, b, c, d, e, g, h, i, j, k, l, m, o, p, q, r, s, u, v, w)
  FIELDS(21, a, b, c, d, e, g, h, i, j, k, l, m, o, p, q, r, s, u, v, w, x)
  FIELDS(22, a, b, c, d, e, g, h, i, j, k, l, m, o, p, q, r, s, u, v, w, x, y)
  FIELDS(23, a, b, c, d, e, g, h, i, j, k, l, m, o, p, q, r, s, u, v, w, x, y, z)
  FIELDS(24, a, b, c, d, e, g, h, i, j, k, l, m, o, p, q, r, s, u, v, w, x, y, z, a1)
#undef FIELDS
}
// clang-format on

template <class T>
struct Box {
  T value;
};
#ifdef __clang__
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wundefined-var-template"
#pragma clang diagnostic ignored "-Wundefined-internal"  // of a model in an anonymous namespace
#endif
template <class T>
extern const Box<T> unmade;  // never defined: only addresses of its fields are asked for
template <class T, size_t I>
constexpr auto address_of_field() {
  return tie(unmade<T>.value, [](auto&... field) { return std::get<I>(std::tuple(&field...)); });
}
template <auto Pointer>
constexpr std::string_view printed() {  // "… Pointer = (& unmade<Model>.Box<Model>::value.Model::conv)]" or the like
  std::string_view text = __PRETTY_FUNCTION__;
  size_t end =
      text.find_last_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789", text.rfind(']') - 1) + 1;
#ifndef __clang__
  size_t semicolon = text.rfind("; std::string_view");  // GCC appends its type aliases
  if (semicolon != text.npos) end = text.find_last_not_of(") ", semicolon - 1) + 1;
#endif
  size_t begin = text.find_last_of(".:&", end - 1) + 1;
  return text.substr(begin, end - begin);
}
template <class T, size_t I>
constexpr std::string_view name() {
  return printed<address_of_field<T, I>()>();
}
#ifdef __clang__
#pragma clang diagnostic pop
#endif

}  // namespace fields

// f(name, tensor) for every defined Tensor in `model`, in order of declaration; names are joined with dots, as torch
// does.
template <class M, class F>
void visit(M& model, const F& f, const std::string& name = "") {
  using T = std::remove_const_t<M>;
  auto below = [&](std::string_view part) { return name.empty() ? std::string(part) : str(name, '.', part); };
  if constexpr (std::is_same_v<T, Tensor>) {
    if (model.defined()) f(name, model);
  } else if constexpr (requires { model.visit([](std::string_view, auto&) {}); }) {
    model.visit([&](std::string_view part, auto& field) { visit(field, f, below(part)); });
  } else if constexpr (requires {
                         model.has_value();
                         *model;
                       }) {
    if (model) visit(*model, f, name);
  } else if constexpr (requires {
                         model.begin();
                         model.size();
                       }) {
    if constexpr (std::is_class_v<std::remove_reference_t<decltype(*model.begin())>>)
      for (size_t i = 0; auto& element : model) visit(element, f, below(str(i++)));
  } else if constexpr (std::is_aggregate_v<T> && std::is_class_v<T>) {
    static_assert(fields::count<T>() > 0 || std::is_empty_v<T>,
                  "more than 24 fields, or fields that cannot be counted: give it visit()");
    fields::tie(model, [&](auto&... field) {
      [&]<size_t... I>(std::index_sequence<I...>) { (visit(field, f, below(fields::name<T, I>())), ...); }
      (std::make_index_sequence<sizeof...(field)>());
    });
  }
}

using StateDict = std::map<std::string, Tensor>;
template <class M>
StateDict state_dict(const M& model) {
  StateDict out;
  visit(model, [&](const std::string& name, const Tensor& t) { out.emplace(name, t); });
  return out;
}
template <class M>
std::vector<Tensor> parameters(const M& model) {
  std::vector<Tensor> out;
  visit(model, [&](const std::string&, const Tensor& t) {
    if (t.requires_grad() && std::ranges::none_of(out, [&](const Tensor& o) { return o.same(t); })) out.push_back(t);
  });
  return out;
}
// Copies the values of `from` into the tensors of `to`. Error lists what is missing, unexpected, or of another shape,
// and then nothing is changed.
void load_state_dict(StateDict to, const StateDict& from);
template <class M>
void load_state_dict(const M& model, const StateDict& from) {
  load_state_dict(state_dict(model), from);
}

// ---- training mode -------------------------------------------------------------------------------------------------
// Layers that
// behave differently while training (BatchNorm2d, Dropout) ask is_training(): false unless a Training scope is open.
bool is_training();
struct Training {
  explicit Training(bool on = true);
  ~Training();
  Training(const Training&) = delete;
  bool outer;
};

// ---- layers. Weights start as torch's: uniform within 1 / sqrt(fan in) ---------------------------------------------
struct Linear {
  Tensor weight, bias;  // (out, in), (out)
  Linear() = default;
  Linear(i64 in, i64 out, bool with_bias = true);
  Tensor operator()(const Tensor& x, At at = At::current()) const { return linear(x, weight, bias, at); }
  template <class F>
  void visit(F&& f) const {
    f("weight", weight), f("bias", bias);
  }
};
struct Conv2d {
  Tensor weight, bias;
  ConvOptions options;
  Conv2d() = default;
  Conv2d(i64 in, i64 out, Ints window, const ConvOptions& options = {}, bool with_bias = true);  // one size: square
  Tensor operator()(const Tensor& x, At at = At::current()) const { return conv2d(x, weight, bias, options, at); }
  template <class F>
  void visit(F&& f) const {
    f("weight", weight), f("bias", bias);
  }
};
struct BatchNorm2d {  // per channel (axis 1), over all other axes
  Tensor weight, bias, running_mean, running_var, num_batches_tracked;
  double eps = 1e-5, momentum = 0.1;
  BatchNorm2d() = default;
  explicit BatchNorm2d(i64 channels, double eps = 1e-5, double momentum = 0.1, bool affine = true);
  // Training: normalises with the batch's statistics and moves the running ones, which the next realize() stores.
  Tensor operator()(const Tensor& x, At at = At::current()) const;
  template <class F>
  void visit(F&& f) const {
    f("weight", weight), f("bias", bias), f("running_mean", running_mean), f("running_var", running_var);
    f("num_batches_tracked", num_batches_tracked);
  }
};
struct LayerNorm {
  Tensor weight, bias;
  Shape shape;
  double eps = 1e-5;
  LayerNorm() = default;
  explicit LayerNorm(Ints shape, double eps = 1e-5, bool affine = true);
  Tensor operator()(const Tensor& x, At at = At::current()) const {
    return layer_norm(x, shape, weight, bias, eps, at);
  }
  template <class F>
  void visit(F&& f) const {
    f("weight", weight), f("bias", bias);
  }
};
struct GroupNorm {
  Tensor weight, bias;
  i64 groups = 1;
  double eps = 1e-5;
  GroupNorm() = default;
  GroupNorm(i64 groups, i64 channels, double eps = 1e-5, bool affine = true);
  Tensor operator()(const Tensor& x, At at = At::current()) const {
    return group_norm(x, groups, weight, bias, eps, at);
  }
  template <class F>
  void visit(F&& f) const {
    f("weight", weight), f("bias", bias);
  }
};
struct RMSNorm {
  Tensor weight;
  double eps = 1e-6;
  RMSNorm() = default;
  explicit RMSNorm(i64 width, double eps = 1e-6);
  Tensor operator()(const Tensor& x, At at = At::current()) const { return rms_norm(x, weight, eps, at); }
  template <class F>
  void visit(F&& f) const {
    f("weight", weight);
  }
};
struct Embedding {
  Tensor weight;
  Embedding() = default;
  Embedding(i64 classes, i64 width);  // standard normal
  Tensor operator()(const Tensor& index, At at = At::current()) const { return embedding(index, weight, at); }
  template <class F>
  void visit(F&& f) const {
    f("weight", weight);
  }
};
struct Dropout {
  double p = 0.5;
  Tensor operator()(const Tensor& x, At at = At::current()) const { return dropout(x, p, is_training(), at); }
};
struct MultiheadAttention {  // self-attention over x (N, L, E); torch's parameter names and batch_first layout
  Tensor in_proj_weight, in_proj_bias;
  Linear out_proj;
  i64 heads = 1;
  double p = 0;
  MultiheadAttention() = default;
  MultiheadAttention(i64 width, i64 heads, double dropout_p = 0);
  Tensor operator()(const Tensor& x, const Tensor& mask = {}, bool is_causal = false, At at = At::current()) const;
  template <class F>
  void visit(F&& f) const {
    f("in_proj_weight", in_proj_weight), f("in_proj_bias", in_proj_bias), f("out_proj", out_proj);
  }
};

}  // namespace ingot::nn
