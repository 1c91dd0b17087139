// SPDX-License-Identifier: MIT
// `ingot dis`: machine code to assembly text, one line per instruction; bytes that are no instruction become `.byte`
// lines. The input is a binary file, standard input, or hexadecimal text given with --hex (spaces, commas and 0x are
// skipped).
#include <cstdio>
#include <iostream>
#include <iterator>

#include "compiler/isa/isa.h"
#include "tools/tools.h"

namespace ingot {

static std::vector<u8> bytes_of_hex(std::string_view text) {
  std::vector<u8> bytes;
  int high = -1;
  for (size_t i = 0; i < text.size(); i++) {
    char c = text[i];
    if (c == ' ' || c == ',' || c == '\n' || c == '\t') continue;
    if (c == '0' && i + 1 < text.size() && text[i + 1] == 'x' && high < 0) {
      i++;
      continue;
    }
    int digit = c >= '0' && c <= '9'   ? c - '0'
                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                       : -1;
    if (digit < 0) throw UsageError("\"", c, "\" is not a hexadecimal digit");
    if (high < 0) {
      high = digit;
    } else {
      bytes.push_back(u8(high << 4 | digit));
      high = -1;
    }
  }
  if (high >= 0) throw UsageError("an odd number of hexadecimal digits: the last byte is half");
  return bytes;
}

int dis_main(Arguments args) {
  Options o("ingot dis", args);
  std::string name = o.value("isa", "x86", "instruction set");
  std::string arch = o.value("arch", "", "processor, where the instruction set has several: gfx1100");
  std::string text = o.value("hex", "", "disassemble these bytes, given as hexadecimal text");
  bool plain = o.flag("no-encoding", "leave the bytes out");
  auto files = o.rest("[FILE | -]", "disassemble the bytes of FILE, or of standard input", 0, 1);
  const isa::Isa* isa = isa::find_isa(name, arch);
  if (!isa) throw UsageError("no instruction set is called \"", name, " ", arch, "\"; there are: ", isa::isa_names());
  std::vector<u8> code;
  if (!text.empty()) {
    code = bytes_of_hex(text);
  } else {
    std::string raw = files.empty() || files[0] == "-" ? std::string(std::istreambuf_iterator<char>(std::cin), {})
                                                       : read_file(std::string(files[0]));
    code.assign(raw.begin(), raw.end());
  }
  std::string shown = isa::disassemble(*isa, code, !plain);
  std::fwrite(shown.data(), 1, shown.size(), stdout);
  return 0;
}

}  // namespace ingot
