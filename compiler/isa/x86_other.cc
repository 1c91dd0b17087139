// SPDX-License-Identifier: MIT
#define TABLE x86_other
#include "compiler/isa/x86_table.h"
