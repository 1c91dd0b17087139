// SPDX-License-Identifier: MIT
#define TABLE x86_sse
#include "compiler/isa/x86_table.h"
