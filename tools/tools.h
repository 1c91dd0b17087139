// SPDX-License-Identifier: MIT
// What a subcommand of `ingot` is. A subcommand is a row of tools.def and a function `int name_main(Arguments)` in
// tools/name.cc (or tools/name/*.cc). main() in ingot.cc finds the row, takes NAME=value context variables out of the
// arguments, calls the function, and turns exceptions into exit codes: 0 done, 1 failed (Error and the like), 2 wrong
// usage (UsageError).
#pragma once
#include <optional>
#include "userspace/base/base.h"

namespace ingot {

using Arguments = std::span<const std::string_view>;  // after the subcommand's name, without NAME=value

struct UsageError : Error {
  using Error::Error;
};

// Declares and takes options in one step, so that the code that reads an option is also its documentation:
//   Options o("ingot dis", args);
//   bool hex = o.flag("hex", "the input is hexadecimal text");
//   i64 steps = o.number("steps", 100, "how many steps");
//   auto files = o.rest("FILE...", "disassemble FILE");   // last; prints the help and throws HelpPrinted if --help was
//   given
// An option is --name VALUE or --name=VALUE; after `--` everything is an operand.
class Options {
 public:
  Options(std::string_view command, Arguments args);
  bool flag(std::string_view name, std::string_view doc);
  std::string value(std::string_view name, std::string_view default_value, std::string_view doc);
  i64 number(std::string_view name, i64 default_value, std::string_view doc);
  double real(std::string_view name, double default_value, std::string_view doc);
  // The operands. UsageError if an option is left over, or if there are fewer than `least` or more than `most`
  // operands.
  std::vector<std::string_view> rest(std::string_view operands, std::string_view doc, size_t least = 0,
                                     size_t most = ~size_t(0));

 private:
  std::optional<std::string_view> take(std::string_view name, std::string_view argument);
  std::string_view command_;
  std::vector<std::string_view> args_, operands_;
  std::vector<std::string> names_;
  std::string help_;
  bool help_wanted_ = false;
};
struct HelpPrinted {};  // thrown by Options::rest, caught in main(): exit code 0

// The table. `main` is null for a subcommand that this build does not contain: the declarations are weak.
struct Tool {
  std::string_view name, doc;
  int (*main)(Arguments);
};
std::span<const Tool> tools();

bool on_terminal();                       // standard output is a terminal
std::string bold(std::string_view text);  // where colours are wanted: a terminal and no NO_COLOR

#define TOOL(name, doc) [[gnu::weak]] int name##_main(Arguments args);
#include "tools/tools.def"
#undef TOOL

}  // namespace ingot
