// SPDX-License-Identifier: MIT
#define TABLE rdna_ds
#include "compiler/isa/rdna_table.h"
