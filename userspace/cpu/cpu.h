// SPDX-License-Identifier: MIT
// The CPU as a device: host memory, executable pages, and kernels split over the pool of threads.
//
// A kernel is a System V function void f(void* const* params, i64 begin, i64 end, void* local) that runs the values
// begin … end-1 of its outermost range. It runs with the default MXCSR whatever the caller's is: round to nearest even,
// denormals kept (neither flushed to zero nor read as zero), exceptions masked. A NaN result has unspecified sign and
// payload.
#pragma once
#include "userspace/device/device.h"

namespace ingot::cpu {

// arch: "" (the best), "avx2" or "avx512"; Error if the host lacks it; nullptr if this host is not x86-64 or there is
// no CPU `index`.
std::unique_ptr<Device> open(int index, std::string_view arch);
// A loaded kernel, for callers that need no more than a call of it: they give scratch memory and the float mode.
using Entry = void (*)(void* const* params, i64 begin, i64 end, void* local);
Entry entry_of(const Code& code);
// Host memory without an ISA: load() and run() are errors. The reference evaluator's device.
std::unique_ptr<Device> open_memory(int index, std::string_view arch);

}  // namespace ingot::cpu
