// SPDX-License-Identifier: MIT
#define TABLE x86_fp16
#include "compiler/isa/x86_table.h"
