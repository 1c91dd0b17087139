// SPDX-License-Identifier: MIT
// `ingot asm`: assembly text to machine code. Lines as llvm-mc takes them (Intel syntax for x86), `label:` and comments
// after
// #, ; or //. With -o the bytes go to a file, else they are printed: as hexadecimal (--hex), or as a listing with
// encodings.
#include <cstdio>
#include <iostream>
#include <iterator>

#include "compiler/isa/isa.h"
#include "tools/tools.h"

namespace ingot {

int asm_main(Arguments args) {
  std::vector<std::string_view> spelled(args.begin(), args.end());
  for (std::string_view& a : spelled)
    if (a == "-o") a = "--output";  // the letter every assembler has
  Options o("ingot asm", spelled);
  std::string name = o.value("isa", "x86", "instruction set");
  std::string arch = o.value("arch", "", "processor, where the instruction set has several: gfx1100");
  std::string out = o.value("output", "", "write the bytes to this file; also -o FILE");
  bool hex_only = o.flag("hex", "print the bytes as hexadecimal");
  auto files = o.rest("[FILE | -]", "assemble FILE, or standard input", 0, 1);
  const isa::Isa* isa = isa::find_isa(name, arch);
  if (!isa) throw UsageError("no instruction set is called \"", name, " ", arch, "\"; there are: ", isa::isa_names());
  std::string text = files.empty() || files[0] == "-" ? std::string(std::istreambuf_iterator<char>(std::cin), {})
                                                      : read_file(std::string(files[0]));
  std::vector<u8> code = isa::assemble(*isa, text);
  if (!out.empty()) {
    write_file(out, {reinterpret_cast<const char*>(code.data()), code.size()});
    return 0;
  }
  std::string shown;
  if (hex_only) {
    for (u8 byte : code) shown += hex(byte, 2).substr(2);
    shown += '\n';
  } else {
    shown = isa::disassemble(*isa, code, true);
  }
  std::fwrite(shown.data(), 1, shown.size(), stdout);
  return 0;
}

}  // namespace ingot
