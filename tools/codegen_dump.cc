// SPDX-License-Identifier: MIT
// `ingot codegen-dump`: the machine code of a fixed set of kernels, a line `case.kernel.arch hex` each, for `make
// codegen-diff`: a change that is only a refactoring leaves every line as it was. The cases are the shapes of work that
// the compiler treats differently, and nothing is run, so any machine prints the code of every target. Inputs are
// memory without values; the heuristics see one thread count, so the machine does not matter either.
#include <cstdio>

#include "compiler/runtime/runtime.h"
#include "compiler/tensor/tensor.h"
#include "tools/tools.h"

namespace ingot {
namespace {

Tensor gradients(const Tensor& loss, std::initializer_list<Tensor> targets) {  // of all targets, as one tensor
  std::vector<Tensor> flat;
  for (const Tensor& g : gradient(loss, targets)) flat.push_back(g.flatten(0));
  return cat(flat, 0);
}

struct Case {
  const char* name;
  Tensor (*make)();
};
constexpr Case cases[] = {
    {"elementwise",
     [] {
       return (empty({64, 100}) * 3 + empty({100})).relu();
     }},
    {"functions", [] { return empty({1000}).exp() + empty({1000}).sin() / empty({1000}).sqrt(); }},
    {"f64", [] { return empty({333}, F64).exp() * 2; }},
    {"half", [] { return empty({320}, F16) * empty({320}, F16) + 1; }},
    {"integers", [] { return empty({77}, I32) / 7 + empty({77}, I32) % 5; }},
    {"narrow", [] { return empty({256}, U8).to(F32) * (1. / 255); }},
    {"narrowing", [] { return empty({256}, F32).to(I8); }},
    {"bool", [] { return where(empty({200}) < empty({200}), empty({200}), 0); }},
    {"sum", [] { return empty({10000}).sum(); }},
    {"sum_rows",
     [] {
       return empty({128, 300}).sum(1);
     }},
    {"sum_columns",
     [] {
       return empty({300, 128}).sum(0);
     }},
    {"max",
     [] {
       return empty({100, 33}).max(1);
     }},
    {"argmax",
     [] {
       return empty({100, 10}).argmax(1);
     }},
    {"softmax",
     [] {
       return empty({32, 50}).softmax(1);
     }},
    {"matmul",
     [] {
       return empty({128, 256}).matmul(empty({256, 192}));
     }},
    {"matmul_odd",
     [] {
       return empty({37, 29}).matmul(empty({29, 53}));
     }},
    {"matmul_transposed",
     [] {
       return empty({64, 96}).matmul(empty({80, 96}).T());
     }},
    {"transpose",
     [] {
       return empty({64, 48}).T().contiguous();
     }},
    {"pad_flip",
     [] {
       return empty({30, 40}).flip({1}).pad({1, 2, 3, 4}).contiguous();
     }},
    {"gather",
     [] {
       return empty({1000, 16}).index_select(0, empty({64}, I32));
     }},
    {"max_pool",
     [] {
       return max_pool2d(empty({4, 8, 16, 16}), {2, 2});
     }},
    {"conv2d",
     [] {
       return conv2d(empty({4, 8, 20, 20}), empty({16, 8, 3, 3}), empty({16})).relu();
     }},
    {"conv2d_backward",
     [] {
       Tensor x = empty({4, 8, 20, 20}), w = empty({16, 8, 3, 3});
       return gradients(conv2d(x, w).square().sum(), {x, w});
     }},
    {"cumsum",
     [] {
       return empty({8, 100}).cumsum(1);
     }},
    {"random", [] { return rand({500}); }},
};

Program compiled(const ScheduledKernel& k, const Target& target) {
  std::vector<Param> params;
  for (const KernelBuffer& b : k.buffers) params.push_back({b.dtype, b.elements, b.written, b.read});
  Arena arena;
  ArenaScope scope(arena);
  return compile(import(k.sink), params, k.name, target);
}

}  // namespace

int codegen_dump_main(Arguments args) {
  Options o("ingot codegen-dump", args);
  o.rest("", "Prints a fixed set of kernels as lines `case.kernel.arch hex`.", 0, 0);
  const Target targets[] = {{"x86", "avx2", isa::x86::AVX2, 2},
                            {"x86", "avx512", isa::x86::AVX2 | isa::x86::AVX512, 2}};
  for (const Case& c : cases) {
    const Tensor result = c.make();
    const U root = result.uop();
    const int number = device_number("");
    const Schedule s = schedule({&root, 1}, [&](U u) { return new_buffer(u->dtype, u->shape(), number); });
    for (size_t i = 0; i < s.kernels.size(); i++)
      for (const Target& t : targets) {
        std::string line = str(c.name, ".", i, ".", t.arch, " ");
        for (u8 byte : compiled(s.kernels[i], t).code) line += hex(byte, 2).substr(2);
        puts(line.c_str());
      }
  }
  return 0;
}

}  // namespace ingot
