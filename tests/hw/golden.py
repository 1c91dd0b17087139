#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes golden/registers.txt and golden/fields.txt anew: what other sources say of the registers that the rows have.

    golden.py LINUX UMR

LINUX is a Linux tree (places, from asic_reg/*_offset.h), UMR one of AMD's register debugger (fields, from database/ip/*.reg); the rows
themselves are from tinygrad. Of the tables only names and counts are read. golden/structures.txt is kept by hand: its sources are
programs that decode packets, and C structures.
"""
import os
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
TABLES = os.path.join(HERE, "../../userspace/hw/amd")
GENERATIONS = ("gfx11", "gfx12", "gfx94")
FILES = {  # by block, per generation
    "GC": ("gc/gc_11_0_0", "gc/gc_12_0_0", "gc/gc_9_4_3"),
    "MMHUB": ("mmhub/mmhub_3_0_0", "mmhub/mmhub_4_1_0", "mmhub/mmhub_1_8_0"),
    "NBIO": ("nbio/nbio_4_3_0", "nbif/nbif_6_3_1", "nbio/nbio_7_9_0"),
    "MP0": ("mp/mp_13_0_0", "mp/mp_14_0_2", "mp/mp_13_0_6"),
    "MP1": ("mp/mp_13_0_0", "mp/mp_14_0_2", "mp/mp_13_0_6"),
    "HDP": ("hdp/hdp_6_0_0", "hdp/hdp_7_0_0", "hdp/hdp_4_4_2"),
    "OSSSYS": ("oss/osssys_6_0_0", "oss/osssys_7_0_0", "oss/osssys_4_4_2"),
    "SDMA": ("gc/gc_11_0_0", "gc/gc_12_0_0", "sdma/sdma_4_4_2"),
}
LINUX_PATH = "drivers/gpu/drm/amd/include/asic_reg/%s_offset.h"
UMR_PATH = "database/ip/%s.reg"


def places(text):
    """{name: (offset, segment)} of an _offset.h."""
    return {m[1]: (int(m[2], 16), int(m[3])) for m in
            re.finditer(r"#define (reg\w+)\s+(0x[0-9a-f]+)\s*\n#define \1_BASE_IDX\s+(\d+)", text)}


def fields(text):
    """{name: [(field, high, low)]} of a .reg: a line per register, its fields below it behind a tab."""
    out, current = {}, None
    for line in text.split("\n"):
        words = line.split()
        if line.startswith("\t"):
            current.append((words[0], int(words[2]), int(words[1])))
        elif len(words) >= 6:
            current = []
            if words[1] == "0":
                out[words[0]] = current
    return out


def names(row, block, generation, copy, index):
    """What the sources may call copy `index` of a row."""
    if row.startswith("SDMA0_"):
        if generation == "gfx94":
            return [] if index else [row.replace("SDMA0_QUEUE0", "SDMA_GFX").replace("SDMA0_", "SDMA_")]
        return [row.replace("SDMA0", f"SDMA{index}")]
    if row.startswith("IH_") and index:
        return [row + "_RING1"]
    if row.startswith("S2A_"):
        return [f"{p}S2A_DOORBELL_ENTRY_{index}_CTRL" for p in ("", "GDC_S2A0_")]
    if row == "DOORBELL0_CTRL_ENTRY_1":
        return [f"DOORBELL0_CTRL_ENTRY_{index + 1}"]
    if row in ("SCRATCH_REG0", "COMPUTE_USER_DATA_0"):
        return [row[:-1] + str(index)]
    if copy is not None:
        n = re.sub(r"(CONTEXT|ENG)0", lambda m: m[1] + str(index), row)
        prefix = ("GC", "MM")[copy]
        return [prefix + n, n, prefix + n + "_LO32", n + "_LO32"]
    return [row, row.replace("MP0_", "MPASP_")] if block == "MP0" else [row]


def main(linux, umr):
    read, cache = lambda path: open(path, encoding="utf-8").read(), {}

    def load(root, path, parse):
        full = os.path.join(root, path)
        if full not in cache:
            cache[full] = parse(read(full)) if os.path.exists(full) else {}
        return cache[full]

    where, what = [], []
    tables = "".join(read(os.path.join(TABLES, f + ".def")) for f in ("nbio", "mp", "vm", "gc", "compute", "sdma", "ih"))
    for kind, row, rest in re.findall(r"^(REG|REGS|HUB)\((\w+), (.*)$", tables, re.M):
        first, second = (re.split(r",\s*", rest) + [""])[:2]
        count = int(first) if kind == "HUB" else int(second) if kind == "REGS" else 1
        if first == "FIXED":
            continue
        for copy in (0, 1) if kind == "HUB" else (None,):
            block = ("GC", "MMHUB")[copy] if kind == "HUB" else "SDMA" if row.startswith("SDMA0_") else first
            for generation, file in zip(GENERATIONS, FILES[block]):
                for index in sorted({0, min(1, count - 1), count - 1}):
                    found = load(linux, LINUX_PATH % file, places)
                    name = next((n for n in names(row, block, generation, copy, index) if "reg" + n in found), None)
                    if name is None:
                        continue
                    offset, segment = found["reg" + name]
                    where.append(f"{generation} {row} {copy or 0} {index} {offset:#x} {segment} reg{name} linux:{LINUX_PATH % file}")
                    if index:
                        continue
                    database = UMR_PATH % os.path.basename(file)
                    known = load(umr, database, fields)
                    name = next((n for n in names(row, block, generation, copy, index) if "reg" + n in known), None)
                    what += [f"{generation} {row} {copy or 0} {f} {high} {low} umr:{database}" for f, high, low in known.get(f"reg{name}", [])]
    for file, head, lines in (("registers", "places: generation row copy index offset segment name source", where),
                              ("fields", "fields: generation row copy field high low source", what)):
        with open(os.path.join(HERE, "golden", file + ".txt"), "w", encoding="utf-8") as out:
            out.write(f"# The second list of register {head}. golden.py writes this file; golden.cc compares.\n"
                      "# linux: the Linux kernel's file, as in freebsd/drm-kmod 129bf0f2961d; umr: AMD's register debugger\n"
                      "# (gitlab.freedesktop.org/tomstdenis/umr), as in ps4gentoo/ps4-umr 22b6a54b9610.\n" + "\n".join(lines) + "\n")
        print(f"{file}.txt: {len(lines)} lines")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
