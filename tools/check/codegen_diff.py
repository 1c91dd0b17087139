#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`make codegen-diff OLD=commit [NEW=commit]`: do both make the same machine code, byte for byte?

Builds each commit in a folder of its own (NEW: the working tree) and compares what `ingot codegen-dump` prints: for each kernel of
a fixed set, for each architecture, a line `name hex`. Kernels that differ are shown as disassembly, side by side. Exit status 1
when any differs.
"""
import difflib
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def build(commit):
    """The dump of a commit, or of the working tree if commit is None, and the tool that made it."""
    tree, out = ROOT, "build/codegen/working"
    if commit:
        revision = subprocess.run(["git", "rev-parse", "--verify", commit + "^{commit}"], cwd=ROOT, check=True, capture_output=True,
                                  text=True).stdout.strip()
        tree, out = os.path.join(ROOT, "build", "codegen", revision), "build"
        if not os.path.isdir(tree):
            os.makedirs(tree)
            archive = subprocess.Popen(["git", "archive", revision], cwd=ROOT, stdout=subprocess.PIPE)
            subprocess.run(["tar", "x", "-C", tree], stdin=archive.stdout, check=True)
            if archive.wait():
                sys.exit("git archive failed")
    env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "OLD", "NEW")}
    made = subprocess.run(["make", "-s", "-j" + os.environ.get("J", "2"), f"B={out}", f"{out}/ingot"], cwd=tree, env=env, check=False)
    if made.returncode:
        sys.exit(f"{commit or 'the working tree'} does not build")
    tool = os.path.join(tree, out, "ingot")
    dump = subprocess.run([tool, "codegen-dump", "CACHE=0"], cwd=tree, capture_output=True, text=True, check=False)
    if dump.returncode:
        sys.exit(f"{commit or 'the working tree'}: ingot codegen-dump: {dump.stderr.strip()}")
    kernels = dict(line.split(" ", 1) for line in dump.stdout.splitlines() if " " in line)
    if not kernels:
        sys.exit(f"{commit or 'the working tree'}: ingot codegen-dump printed no kernels")
    return kernels, tool


def disassembled(tool, code):
    return subprocess.run([tool, "dis"], input=bytes.fromhex(code), capture_output=True, check=False).stdout.decode().splitlines()


def main(arguments):
    old, old_tool = build(arguments[0])
    new, new_tool = build(arguments[1] if len(arguments) > 1 else None)
    differ = [name for name in old | new if old.get(name) != new.get(name)]
    for name in differ:
        if name not in old or name not in new:
            print(f"{name}: only {'after' if name in new else 'before'}")
            continue
        print(f"{name}: {len(old[name]) // 2} bytes before, {len(new[name]) // 2} after")
        for line in difflib.unified_diff(disassembled(old_tool, old[name]), disassembled(new_tool, new[name]), lineterm="", n=2):
            print("  " + line)
    print(f"{len(old | new)} kernels, {len(differ)} differ")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
