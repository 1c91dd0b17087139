// SPDX-License-Identifier: MIT
// GoogleTest's main, and two arguments more for the comparison with LLVM over random bytes: --strings=N --seed=S.
#include <gtest/gtest.h>

#include <cstdio>

#include "userspace/base/base.h"

namespace ingot::isa {
extern i64 random_strings, random_seed;
}

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  for (int i = 1; i < argc; i++) {
    std::string_view argument = argv[i];
    if (argument.starts_with("--strings=")) {
      ingot::isa::random_strings = atol(argv[i] + 10);
    } else if (argument.starts_with("--seed=")) {
      ingot::isa::random_seed = atol(argv[i] + 7);
    } else {
      fprintf(stderr, "%s: unknown argument %s; expected --strings=N, --seed=S or GoogleTest's\n", argv[0], argv[i]);
      return 2;
    }
  }
  return RUN_ALL_TESTS();
}
