// SPDX-License-Identifier: MIT
#define TABLE rdna_flat
#include "compiler/isa/rdna_table.h"
