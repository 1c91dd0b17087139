// SPDX-License-Identifier: MIT
// The command: `ingot SUBCOMMAND [arguments]`, in the manner of git. The subcommands are the rows of tools.def; one
// that this build was configured without is still known, so that the message can name its Kconfig symbol. This is the
// one place where the tools catch exceptions: 0 done, 1 failed, 2 wrong usage.
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "tools/tools.h"

namespace ingot {

static constexpr Tool rows[] = {
#define TOOL(name, doc) {#name, doc, name##_main},
#include "tools/tools.def"
#undef TOOL
};
std::span<const Tool> tools() { return rows; }

// The row of a name as typed: codegen-dump is codegen_dump.
static const Tool* find(std::string_view typed) {
  std::string name(typed);
  std::replace(name.begin(), name.end(), '-', '_');
  for (const Tool& t : rows)
    if (t.name == name) return &t;
  return nullptr;
}

static const Tool& find_built(std::string_view typed) {
  const Tool* tool = find(typed);
  if (!tool) {
    std::vector<std::string_view> known;
    for (const Tool& t : rows) known.push_back(t.name);
    std::string near = closest(typed, known);
    throw UsageError("ingot: no command '", typed, "'", near.empty() ? "" : "; did you mean ", near,
                     "\nSee `ingot --help`.");
  }
  if (!tool->main) {
    std::string symbol(tool->name);
    std::transform(symbol.begin(), symbol.end(), symbol.begin(), [](char c) { return char(toupper(c)); });
    throw Error("ingot ", typed, " is not in this build; TOOL_", symbol, " in `make menuconfig` switches it on");
  }
  return *tool;
}

static int print_help() {
  printf("usage: ingot COMMAND [NAME=value...] [arguments]\n\n%s\n", bold("Commands").c_str());
  for (const Tool& t : rows) {
    std::string name(t.name);
    std::replace(name.begin(), name.end(), '_', '-');
    if (t.main) printf("  %-14s%.*s\n", name.c_str(), int(t.doc.size()), t.doc.data());
  }
  printf(
      "\n%s\n"
      "  0  done\n  1  failed: the message says why\n  2  wrong usage\n\n"
      "`ingot help COMMAND` describes a command, `ingot help env` the context variables, which any command takes\n"
      "as NAME=value before or among its arguments: `ingot train mnist DEBUG=2`.\n",
      bold("Exit codes").c_str());
  return 0;
}

static int print_variables() {
  printf("Context variables, from the environment or as NAME=value arguments of any command:\n\n");
  for (const VariableRow& v : context_rows()) {
    printf("%s", bold(v.name).c_str());
    printf("%*s%.*s", int(std::max<i64>(14 - i64(v.name.size()), 1)), "", int(v.doc.size()), v.doc.data());
    if (!v.default_value.empty() && v.default_value != "\"\"")
      printf(" (default %.*s)", int(v.default_value.size()), v.default_value.data());
    printf("\n");
  }
  return 0;
}

int help_main(Arguments args) {
  if (args.empty() || args[0].starts_with("-")) return print_help();
  if (args[0] == "env") return print_variables();
  const std::string_view help[] = {"--help"};
  return find_built(args[0]).main(Arguments(help));
}

int version_main(Arguments args) {
  Options o("ingot version", args);
  o.rest("", "Prints the version and what this build contains.", 0, 0);
  printf("ingot %s\n", INGOT_VERSION);
  printf("compiler: %s, C++ %ld\n", __VERSION__, __cplusplus);
  printf("commands:");
  for (const Tool& t : rows)
    if (t.main) printf(" %.*s", int(t.name.size()), t.name.data());
  printf("\n");
  return 0;
}

static std::vector<std::string_view> take_variables(std::span<char*> arguments) {
  std::vector<std::string_view> words;
  for (const char* a : arguments)
    if (!set_from_argument(a)) words.push_back(a);
  return words;
}

static int run(Arguments words) {
  if (words.empty()) return print_help(), 2;
  if (words[0] == "--help" || words[0] == "-h") return print_help();
  return find_built(words[0] == "--version" ? "version" : words[0]).main(words.subspan(1));
}

}  // namespace ingot

int main(int argc, char** argv) {
  using namespace ingot;
  int code = 2;  // of an error in the arguments themselves
  try {
    const std::vector<std::string_view> words = take_variables({argv + 1, size_t(argc - 1)});
    code = 1;
    const int result = run(words);
    if (fflush(stdout) != 0) throw OsError("cannot write to standard output", errno);
    return result;
  } catch (const HelpPrinted&) {
    return 0;
  } catch (const UsageError& e) {
    fprintf(stderr, "%s\n", e.what());
    return 2;
  } catch (const std::exception& e) {
    fprintf(stderr, "ingot: %s\n", e.what());
  }
  return code;
}
