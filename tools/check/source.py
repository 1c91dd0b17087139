#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Checks that read the source: include edges, licences, getenv, numbers from manuals, vendor names, line budgets.

Each check is a function from the tree to a list of complaints "file:line: what"; the rules are the tables right below. The tree is
what git tracks or would track, so that a new file is checked before it is committed.
    source.py [check...]   runs these checks, or all        source.py lines   prints the code lines per folder
"""
import os
import re
import subprocess
import sys

# Who may include whom (the picture in README.md): a folder may include itself, these, and all that these may include.
EDGES = {
    "userspace/base": [],
    "userspace/hw": ["userspace/base"],
    "userspace/device": ["userspace/hw", "kmod/ingot_uapi.h"],
    "userspace/cpu": ["userspace/device"],
    "userspace/amd": ["userspace/device"],
    "userspace/nv": ["userspace/device"],
    "userspace/other": ["userspace/device"],
    "userspace/model": ["userspace/hw"],
    "compiler/uop": ["userspace/base"],
    "compiler/isa": ["compiler/uop", "userspace/hw/bus.h"],
    "compiler/text": ["compiler/uop"],
    "compiler/schedule": ["compiler/uop"],
    "compiler/codegen": ["compiler/isa", "compiler/text"],
    "compiler/runtime": ["compiler/codegen", "compiler/schedule", "userspace/device", "userspace/cpu", "userspace/amd",
                         "userspace/nv", "userspace/other", "userspace/model"],
    "compiler/tensor": ["compiler/runtime"],
}
# Code lines a folder is expected to need (a guide), and the walls (`make lines` fails above them).
BUDGETS = {
    "userspace/base": 900, "userspace/hw": 230, "userspace/device": 1650, "userspace/cpu": 300, "userspace/amd": 2100,
    "userspace/nv": 2000, "userspace/other": 1000, "userspace/model": 1800, "compiler/uop": 2700, "compiler/isa": 3000,
    "compiler/text": 500, "compiler/schedule": 1400, "compiler/codegen": 2600, "compiler/runtime": 550, "compiler/tensor": 2400,
}
WALLS = {("userspace", "compiler"): 30000, ("kmod",): 2500}

# Hexadecimal literals wider than a byte come from a manual and belong in a .def. Masks (2^n - 1, 2^n) are arithmetic, and 64-bit
# constants are hash multipliers; otherwise only these files may have some.
HEX_ALLOWED = {
    "compiler/codegen/decomp.cc": "bits of float constants, and 2/pi",
    "compiler/codegen/emit_x86.cc": "a displacement that is found again and replaced",
    "compiler/runtime/cache.cc": "sqlite's application id, 'ingo'",
    "compiler/uop/dtype.cc": "the parts of an IEEE 754 double",
    "compiler/tensor/io.cc": "the surrogates of UTF-16 in JSON",
    "compiler/tensor/random.cc": "the parity constant of Threefry",
    "userspace/base/sha256.cc": "FIPS 180-4",
    "userspace/cpu/cpu.cc": "MXCSR's default and the CPUID leaves of the processor's name",
}
VENDORS = r"\b(amd|radeon|nvidia|geforce|cuda|intel|qualcomm|adreno)\b"
VENDOR_FREE = ("userspace/base/", "userspace/device/", "compiler/uop/", "compiler/schedule/", "compiler/codegen/", "compiler/tensor/")
SPDX = "SPDX-License-Identifier: "
NO_SPDX = re.compile(r"^LICENSE$|\.(bin|json|npy|npz|safetensors|gz|png|vec|idx)$|^tests/.*golden/|^tests/.*/data/")


class Tree:
    def __init__(self, root):
        self.root = root
        listing = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=root, check=True,
                                 capture_output=True).stdout.decode()
        self.files = sorted(f for f in set(listing.split("\0")) if f and os.path.isfile(os.path.join(root, f)))
        self.cache = {}

    def text(self, name):
        with open(os.path.join(self.root, name), encoding="utf-8", errors="replace") as f:
            return f.read()

    def code(self, name):
        """The text with comments blanked and the contents of strings emptied; the line numbers stay."""
        if name not in self.cache:
            self.cache[name] = strip(self.text(name))
        return self.cache[name]

    def sources(self, *prefixes, extensions=(".cc", ".h", ".c")):
        return [f for f in self.files if f.endswith(extensions) and f.startswith(prefixes or ("",))]


TOKEN = re.compile(r'//[^\n]*|/\*.*?\*/|R"([^(\s]*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'(?![0-9a-fA-F])', re.S)


def strip(text):
    def blank(m):
        token = m.group(0)
        if token[0] == "'":
            return "' '"
        if token[0] == "/":
            return "\n" * token.count("\n") or " "
        return '""' if "\n" not in token else '"' + "s\n" * token.count("\n") + '"'
    # The names in include lines are strings that must stay.
    return "\n".join(line for line in TOKEN.sub(blank, re.sub(r'(?m)^(\s*#\s*include\s*)"([^"\n]*)"', r"\1<\2>", text)).split("\n"))


def folder(name):
    return "/".join(name.split("/")[:2])


def may_include(name, header):
    """Whether the file may include the header, both named from the root."""
    top = name.split("/")[0]
    if top in ("tools", "tests"):
        return header.split("/")[0] in ("compiler", "userspace", "kmod", "tools") or folder(header) == folder(name)
    seen, todo = set(), [folder(name)]
    while todo:
        at = todo.pop()
        if at in seen:
            continue
        seen.add(at)
        todo += EDGES.get(at, [])
    return header in seen or folder(header) in seen or (top == "kmod" and header.startswith("kmod/"))


def check_include_edges(tree):
    ours = re.compile(r"^\s*#\s*include\s*<((?:compiler|userspace|kmod|tools|tests)/[^>]*)>")
    for f in tree.sources(extensions=(".cc", ".h", ".c", ".def")):
        if folder(f) not in EDGES and f.split("/")[0] in ("userspace", "compiler"):
            yield f"{f}:1: the folder {folder(f)} is not in the picture of include edges (README.md, tools/check/source.py)"
        for n, line in enumerate(tree.code(f).split("\n"), 1):
            m = ours.match(line)
            if m and not may_include(f, m.group(1)):
                yield f"{f}:{n}: {folder(f)} must not include {m.group(1)}"
            quoted = re.match(r'\s*#\s*include\s*"([^"]*)"', tree.text(f).split("\n")[n - 1]) if not m and "include" in line else None
            if quoted and not f.startswith(("kmod/", "tests/")):
                yield f"{f}:{n}: \"{quoted.group(1)}\" is not named from the root"


def check_licences(tree):
    for f in tree.files:
        if NO_SPDX.search(f) or os.path.islink(os.path.join(tree.root, f)):
            continue
        head = tree.text(f).split("\n")[:2]
        line = head[1] if head[0].startswith("#!") and len(head) > 1 else head[0]
        wanted = "GPL-2.0" if f.startswith("kmod/") and f.endswith((".c", ".h", "Makefile", "Kbuild")) else "MIT"
        if SPDX not in line or wanted not in line:
            yield f"{f}:1: the first line has no {SPDX}{wanted}"


def check_getenv(tree):
    for f in tree.sources():
        if f == "userspace/base/context.cc":
            continue
        for n, line in enumerate(tree.code(f).split("\n"), 1):
            if re.search(r"\b(?:secure_)?getenv\s*\(", line):
                yield f"{f}:{n}: reads the environment; a row of userspace/base/context.def and ctx.NAME do that"


def check_numbers(tree):
    for f in tree.sources("userspace/", "compiler/", "tools/"):
        if f in HEX_ALLOWED:
            continue
        for n, line in enumerate(tree.code(f).split("\n"), 1):
            for m in re.finditer(r"\b0[xX]([0-9a-fA-F']+)", line):
                value = int(m.group(1).replace("'", ""), 16)
                if 255 < value < 1 << 40 and value & (value - 1) and value & (value + 1):
                    yield f"{f}:{n}: {m.group(0)}: a number from a manual is a row of a .def (else: HEX_ALLOWED, with the reason)"


def check_vendors(tree):
    for f in tree.sources(*VENDOR_FREE):
        for n, line in enumerate(tree.code(f).split("\n"), 1):
            m = re.search(VENDORS, line, re.I)
            if m:
                yield f"{f}:{n}: names a vendor ({m.group(0)}); back ends and ISAs are rows"


TABLE = re.compile(r"^ *(?:static |inline )*constexpr [\w:<>]+ \w+\[\] = \{\n.*?\};$|"
                   # C has no constexpr: the rows of a constant struct, operations among them
                   r"^(?:static |const )*struct [\w *]*(?:\{[^{}]*\} )?\w+(?:\[\])? = \{\n.*?^\};$", re.M | re.S)


def code_lines(tree, f):
    """No blanks, comments or tables: neither .def files nor the rows of a constexpr array."""
    return sum(1 for line in TABLE.sub("", tree.code(f)).split("\n") if line.strip())


# Numbers and layouts, no code: what a .def would be, were it not read by C. Counted, but outside of the wall.
INTERFACE = "kmod/ingot_uapi.h"


def count_lines(tree):
    counts = {}
    for f in tree.sources("userspace/", "compiler/", "kmod/", "tools/"):
        key = "kmod interface" if f == INTERFACE else "kmod" if f.startswith("kmod/") else folder(f) if not f.startswith("tools/") else "tools"
        counts[key] = counts.get(key, 0) + code_lines(tree, f)
    return counts


def check_walls(tree):
    counts = count_lines(tree)
    for tops, wall in WALLS.items():
        total = sum(n for f, n in counts.items() if f.split("/")[0] in tops)
        if total > wall:
            yield f"{' + '.join(tops)}: {total} code lines, the wall is {wall}"


def print_lines(tree):
    counts = count_lines(tree)
    print(f"{'folder':20} {'lines':>7} {'budget':>7}")
    for f in [*BUDGETS, "kmod", "kmod interface", "tools"]:
        if counts.get(f):
            print(f"{f:20} {counts[f]:7} {BUDGETS.get(f, ''):7}{'  over its guide' if counts[f] > BUDGETS.get(f, 1e9) else ''}")
    for tops, wall in WALLS.items():
        print(f"{' + '.join(tops):20} {sum(n for f, n in counts.items() if f.split('/')[0] in tops):7} {wall:7}  wall")


CHECKS = {name[6:].replace("_", "-"): f for name, f in list(globals().items()) if name.startswith("check_")}


def main(arguments):
    tree = Tree(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    if arguments == ["lines"]:
        print_lines(tree)
        names = ["walls"]
    else:
        names = arguments or list(CHECKS)
    failed = 0
    for name in names:
        for complaint in CHECKS[name](tree):
            print(complaint)
            failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
