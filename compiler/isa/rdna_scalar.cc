// SPDX-License-Identifier: MIT
#define TABLE rdna_scalar
#include "compiler/isa/rdna_table.h"
