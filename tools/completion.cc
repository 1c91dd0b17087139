// SPDX-License-Identifier: MIT
// `ingot completion SHELL`: a completion script for bash, zsh or fish. Commands and context variables are written into
// the script from their tables; the options of a command are asked of the command's own --help when they are needed.
#include <algorithm>
#include <cstdio>

#include "tools/tools.h"

namespace ingot {

static std::string spelled(std::string_view name) {
  std::string s(name);
  std::replace(s.begin(), s.end(), '_', '-');
  return s;
}

static std::string commands() {
  std::string out;
  for (const Tool& t : tools())
    if (t.main) out += str(out.empty() ? "" : " ", spelled(t.name));
  return out;
}

static std::string variables() {
  std::string out;
  for (const VariableRow& v : context_rows()) out += str(out.empty() ? "" : " ", v.name, "=");
  return out;
}

static std::string bash() {
  return str(
      "_ingot() {\n"
      "  local word=${COMP_WORDS[COMP_CWORD]}\n"
      "  if [ \"$COMP_CWORD\" = 1 ]; then COMPREPLY=($(compgen -W '",
      commands(),
      "' -- \"$word\")); return; fi\n"
      "  case $word in\n"
      "    -*) COMPREPLY=($(compgen -W \"$(ingot \"${COMP_WORDS[1]}\" --help 2>/dev/null | grep -o -e '--[a-z-]*')\""
      " -- \"$word\")) ;;\n"
      "    [A-Z]*) compopt -o nospace; COMPREPLY=($(compgen -W '",
      variables(),
      "' -- \"$word\")) ;;\n"
      "    *) compopt -o default; [ \"${COMP_WORDS[1]}\" != help ] || COMPREPLY=($(compgen -W 'env ",
      commands(),
      "' -- \"$word\")) ;;\n"
      "  esac\n"
      "}\n"
      "complete -F _ingot ingot\n");
}

static std::string zsh() {
  std::string out =
      "#compdef ingot\n"
      "local -a commands variables\n"
      "commands=(\n";
  for (const Tool& t : tools())
    if (t.main) {
      std::string doc(t.doc);
      for (size_t i = 0; (i = doc.find(':', i)) != std::string::npos; i += 2) doc.insert(i, 1, '\\');
      out += str("  '", spelled(t.name), ":", doc, "'\n");
    }
  return out +=
         str(")\n"
             "variables=(",
             variables(),
             ")\n"
             "if (( CURRENT == 2 )); then\n"
             "  _describe command commands\n"
             "elif [[ $PREFIX == -* ]]; then\n"
             "  compadd -- ${(f)\"$(ingot $words[2] --help 2>/dev/null | grep -o -e '--[a-z-]*')\"}\n"
             "elif [[ $PREFIX == [A-Z]* ]]; then\n"
             "  compadd -S '' -- $variables\n"
             "else\n"
             "  _files\n"
             "fi\n");
}

static std::string fish() {
  std::string out;
  for (const Tool& t : tools())
    if (t.main) {
      std::string doc(t.doc);
      for (size_t i = 0; (i = doc.find('\'', i)) != std::string::npos; i += 2) doc.insert(i, 1, '\\');
      out += str("complete -c ingot -n __fish_use_subcommand -f -a ", spelled(t.name), " -d '", doc, "'\n");
    }
  return out +=
         str("complete -c ingot -n 'not __fish_use_subcommand' -a '(string match -q \"-*\" -- (commandline -ct); and ",
             "ingot (commandline -opc)[2] --help 2>/dev/null | string match -ra -- \"--[a-z-]+\")'\n",
             "complete -c ingot -n 'not __fish_use_subcommand' -a '", variables(), "'\n");
}

int completion_main(Arguments args) {
  Options o("ingot completion", args);
  std::string_view shell =
      o.rest("bash|zsh|fish",
             "Prints a completion script. bash: source <(ingot completion bash)\n"
             "zsh: ingot completion zsh > \"${fpath[1]}/_ingot\"; fish: ingot completion fish | source",
             1, 1)[0];
  std::string script = shell == "bash" ? bash() : shell == "zsh" ? zsh() : shell == "fish" ? fish() : "";
  if (script.empty()) throw UsageError("ingot completion: no shell '", shell, "'; there are bash, zsh and fish");
  fputs(script.c_str(), stdout);
  return 0;
}

}  // namespace ingot
