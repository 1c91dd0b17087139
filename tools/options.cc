// SPDX-License-Identifier: MIT
// Options of a subcommand, declared where they are read (see tools.h). Each call takes its own arguments out of the
// list and adds its line to the help; rest() finds what nobody took. So help text, parsing and checking cannot
// disagree.
#include <unistd.h>

#include <cstdio>

#include "tools/tools.h"

namespace ingot {

bool on_terminal() { return isatty(STDOUT_FILENO); }
std::string bold(std::string_view text) {
  return on_terminal() && ctx.NO_COLOR.empty() ? str("\033[1m", text, "\033[0m") : std::string(text);
}

Options::Options(std::string_view command, Arguments args) : command_(command) {
  bool options_ended = false;
  for (std::string_view a : args) {
    if (options_ended)
      operands_.push_back(a);
    else if (a == "--")
      options_ended = true;
    else if (a == "--help" || a == "-h")
      help_wanted_ = true;
    else
      args_.push_back(a);
  }
}

static void add_line(std::string& help, std::string left, std::string_view doc, std::string_view default_value) {
  left.resize(std::max<size_t>(left.size() + 2, 26), ' ');
  help += str("  ", left, doc);
  if (!default_value.empty()) help += str(" (default ", default_value, ")");
  help += '\n';
}

// The last value given to --name, which leaves the list; `argument` is empty for a flag.
std::optional<std::string_view> Options::take(std::string_view name, std::string_view argument) {
  const std::string option = str("--", name);
  names_.push_back(option);
  std::optional<std::string_view> found;
  for (size_t i = 0; i < args_.size();) {
    std::string_view a = args_[i];
    size_t taken = 1;
    if (a == option) {
      if (!argument.empty()) {
        if (i + 1 == args_.size()) throw UsageError(command_, ": ", option, " needs a value: ", option, " ", argument);
        taken = 2;
      }
      found = args_[i + taken - 1];
    } else if (a.starts_with(option) && a.size() > option.size() && a[option.size()] == '=') {
      if (argument.empty()) throw UsageError(command_, ": ", option, " takes no value, got ", a);
      found = a.substr(option.size() + 1);
    } else {
      i++;
      continue;
    }
    args_.erase(args_.begin() + i64(i), args_.begin() + i64(i + taken));
  }
  return found;
}

bool Options::flag(std::string_view name, std::string_view doc) {
  add_line(help_, str("--", name), doc, "");
  return take(name, "").has_value();
}

std::string Options::value(std::string_view name, std::string_view default_value, std::string_view doc) {
  add_line(help_, str("--", name, " TEXT"), doc, default_value);
  return std::string(take(name, "TEXT").value_or(default_value));
}

template <class T>
static T parse_number(std::string_view command, std::string_view name, std::string_view text) {
  T v{};
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), v);
  if (error != std::errc() || end != text.data() + text.size())
    throw UsageError(command, ": --", name, " is a number, got '", text, "'");
  return v;
}

i64 Options::number(std::string_view name, i64 default_value, std::string_view doc) {
  add_line(help_, str("--", name, " N"), doc, str(default_value));
  auto text = take(name, "N");
  return text ? parse_number<i64>(command_, name, *text) : default_value;
}

double Options::real(std::string_view name, double default_value, std::string_view doc) {
  add_line(help_, str("--", name, " X"), doc, str(default_value));
  auto text = take(name, "X");
  return text ? parse_number<double>(command_, name, *text) : default_value;
}

std::vector<std::string_view> Options::rest(std::string_view operands, std::string_view doc, size_t least,
                                            size_t most) {
  const bool variables = !context_rows().empty();
  std::string usage =
      str("usage: ", command_, help_.empty() ? "" : " [options]", operands.empty() ? "" : " ", operands);
  if (help_wanted_) {
    printf("%s\n%.*s\n", usage.c_str(), int(doc.size()), doc.data());
    if (!help_.empty()) printf("\n%s\n%s", bold("Options").c_str(), help_.c_str());
    if (variables) printf("\nNAME=value sets a context variable (ingot help env).\n");
    throw HelpPrinted();
  }
  std::vector<std::string_view> all;
  for (std::string_view a : args_) {
    if (a.size() > 1 && a[0] == '-' && !(a[1] >= '0' && a[1] <= '9')) {
      std::vector<std::string_view> known(names_.begin(), names_.end());
      std::string near = closest(a.substr(0, a.find('=')), known);
      throw UsageError(command_, ": unknown option ", a, near.empty() ? "" : "; did you mean ", near, "\n", usage);
    }
    all.push_back(a);
  }
  all.insert(all.end(), operands_.begin(), operands_.end());
  if (all.size() < least || all.size() > most) throw UsageError(command_, ": got ", all.size(), " operands\n", usage);
  return all;
}

}  // namespace ingot
