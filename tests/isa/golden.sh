#!/bin/sh
# SPDX-License-Identifier: MIT
# Writes tests/isa/golden/ from LLVM 19's assembler and disassembler.
set -e
make -s "${B:-build}/test_isa"
"${B:-build}/test_isa" --gtest_also_run_disabled_tests --gtest_filter="*Golden.DISABLED_Write"
