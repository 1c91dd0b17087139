// SPDX-License-Identifier: MIT
#define TABLE x86_apx
#include "compiler/isa/x86_table.h"
