// SPDX-License-Identifier: MIT
#define TABLE rdna_vop3
#include "compiler/isa/rdna_table.h"
