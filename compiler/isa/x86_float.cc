// SPDX-License-Identifier: MIT
#define TABLE x86_float
#include "compiler/isa/x86_table.h"
