// SPDX-License-Identifier: MIT
// What `ingot chip` is made of, for its test.
#pragma once
#include <string>

namespace ingot {
namespace model {
class Chip;
}
// Serves the chip at a socket until SIGINT or SIGTERM, one user at a time: another one is refused with the first one's
// process. Error: somebody serves there already.
void serve_chip(model::Chip& chip, const std::string& path);
}  // namespace ingot
