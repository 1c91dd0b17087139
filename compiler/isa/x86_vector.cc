// SPDX-License-Identifier: MIT
#define TABLE x86_vector
#include "compiler/isa/x86_table.h"
