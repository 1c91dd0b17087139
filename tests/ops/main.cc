// SPDX-License-Identifier: MIT
// GoogleTest's main, and two arguments more for the fuzzer: --graphs=N --seed=S.
#include <gtest/gtest.h>

#include <cstdio>

#include "userspace/base/base.h"

namespace ingot::ops {
extern i64 fuzz_graphs, fuzz_seed;
}

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  for (int i = 1; i < argc; i++) {
    std::string_view argument = argv[i];
    if (argument.starts_with("--graphs=")) {
      ingot::ops::fuzz_graphs = atol(argv[i] + 9);
    } else if (argument.starts_with("--seed=")) {
      ingot::ops::fuzz_seed = atol(argv[i] + 7);
    } else {
      fprintf(stderr, "%s: unknown argument %s; expected --graphs=N, --seed=S or GoogleTest's\n", argv[0], argv[i]);
      return 2;
    }
  }
  return RUN_ALL_TESTS();
}
