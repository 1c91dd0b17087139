// SPDX-License-Identifier: MIT
#define TABLE rdna_compare
#include "compiler/isa/rdna_table.h"
