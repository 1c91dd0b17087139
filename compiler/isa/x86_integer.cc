// SPDX-License-Identifier: MIT
#define TABLE x86_integer
#include "compiler/isa/x86_table.h"
