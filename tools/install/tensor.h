// SPDX-License-Identifier: MIT
// <ingot/tensor.h>: the tensor API as installed. The headers keep the names they have in the source tree, under
// include/ingot.
#pragma once
#include "compiler/tensor/tensor.h"
