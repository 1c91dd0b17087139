// SPDX-License-Identifier: MIT
#define TABLE rdna_global
#include "compiler/isa/rdna_table.h"
