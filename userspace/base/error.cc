// SPDX-License-Identifier: MIT
// The constructors of the three exceptions and the failure of check(). A failed check is a mistake of ours: it throws
// too, so that a tool can still restore the terminal and a fuzzer can print its seed, and its text says where.
#include "userspace/base/base.h"

namespace ingot {

OsError::OsError(std::string_view what, int errno_value)
    : Error(str(what, ": ", strerror(errno_value))), number(errno_value) {}

DeviceError::DeviceError(std::string_view what, std::string decoded_state)
    : Error(decoded_state.empty() ? std::string(what) : str(what, "\n", decoded_state)),
      state(std::move(decoded_state)) {}

void check_failed(const char* file, int line, const char* condition, const std::string& message) {
  throw Error(str("internal error, please report it: ", file, ":", line, ": not ", condition,
                  message.empty() ? "" : ": ", message));
}

}  // namespace ingot
