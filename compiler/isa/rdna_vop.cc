// SPDX-License-Identifier: MIT
#define TABLE rdna_vop
#include "compiler/isa/rdna_table.h"
