// SPDX-License-Identifier: MIT
// `ingot rerun DIR`: runs every kernel that SAVE_KERNELS=DIR saved, on the device that DEV names, and compares its
// buffers byte for byte with the saved ones. One line per kernel; exit code 1 if one differs, crashes or cannot be
// read.
#include <cstdio>
#include "compiler/runtime/runtime.h"
#include "tools/tools.h"

namespace ingot {

int rerun_main(Arguments args) {
  Options o("ingot rerun", args);
  bool quiet = o.flag("quiet", "print only the kernels that differ");
  auto folder = o.rest(
      "DIR",
      "Runs the kernels that SAVE_KERNELS=DIR saved again on DEV, in a child process each, and compares every buffer.",
      1, 1);
  std::vector<Rerun> all = rerun(std::string(folder[0]), device_number(""));
  size_t bad = 0;
  for (const Rerun& r : all) {
    bad += !r.problem.empty();
    if (!r.problem.empty() || !quiet)
      printf("%-8s %s %s%s%s\n", r.problem.empty() ? "equal" : "DIFFERS", r.file.c_str(), r.kernel.c_str(),
             r.problem.empty() ? "" : ": ", r.problem.c_str());
  }
  printf("%zu kernels, %zu equal, %zu not\n", all.size(), all.size() - bad, bad);
  return bad ? 1 : 0;
}

}  // namespace ingot
