// SPDX-License-Identifier: MIT
// `ingot train JOB`: a job is a row here and a function in its own file.
#include "tools/train/train.h"

#include <cstdio>

#include "tools/tools.h"

namespace ingot {

static constexpr Tool jobs[] = {
    {"mnist", "a convnet that reads handwritten digits", mnist_main},
};

int train_main(Arguments args) {
  for (const Tool& job : jobs)
    if (!args.empty() && args[0] == job.name) return job.main(args.subspan(1));
  std::string text = "usage: ingot train JOB [options]   (ingot train JOB --help)\n";
  for (const Tool& job : jobs) text += str("  ", job.name, "  ", job.doc, "\n");
  if (args.empty() || (args[0] != "--help" && args[0] != "-h")) throw UsageError(text);
  fputs(text.c_str(), stdout);
  return 0;
}

}  // namespace ingot
