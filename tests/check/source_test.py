# SPDX-License-Identifier: MIT
"""The checks of tools/check/source.py catch what they are for: each is given a small tree with one mistake in it."""
import os
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tools", "check"))
import source  # noqa: E402

MIT = "// SPDX-License-Identifier: MIT\n"


class SourceChecks(unittest.TestCase):
    def complaints(self, check, **files):
        """What `check` says about a tree of these files; __ in a name is /, and the last _ is the dot."""
        with tempfile.TemporaryDirectory() as root:
            subprocess.run(["git", "init", "-q", root], check=True)
            for name, text in files.items():
                path = os.path.join(root, ".".join(name.replace("__", "/").rsplit("_", 1)))
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "w", encoding="utf-8") as f:
                    f.write(text)
            return list(source.CHECKS[check](source.Tree(root)))

    def test_include_upwards_is_refused(self):
        bad = self.complaints("include-edges", compiler__uop__a_cc=MIT + '#include "compiler/codegen/codegen.h"\n')
        self.assertEqual(bad, ["compiler/uop/a.cc:2: compiler/uop must not include compiler/codegen/codegen.h"])

    def test_include_sideways_is_refused(self):
        self.assertTrue(self.complaints("include-edges", compiler__isa__a_cc='#include "compiler/schedule/schedule.h"\n'))
        self.assertTrue(self.complaints("include-edges", userspace__model__a_h='#include "userspace/device/device.h"\n'))
        self.assertTrue(self.complaints("include-edges", compiler__uop__a_h='#include "tools/tools.h"\n'))

    def test_include_downwards_is_accepted_through_steps(self):
        self.assertFalse(self.complaints("include-edges", compiler__tensor__a_cc='#include "userspace/base/base.h"\n',
                                         compiler__isa__a_cc='#include "userspace/hw/bus.h"\n',
                                         userspace__device__a_h='#include "kmod/ingot_uapi.h"\n'))
        self.assertTrue(self.complaints("include-edges", compiler__isa__a_cc='#include "userspace/hw/layout.h"\n'))

    def test_include_in_a_comment_is_no_include(self):
        self.assertFalse(self.complaints("include-edges", compiler__uop__a_cc='// #include "compiler/isa/isa.h"\n'))

    def test_include_from_a_def_and_relative_ones_are_seen(self):
        self.assertTrue(self.complaints("include-edges", compiler__uop__a_def='#include "compiler/isa/isa.h"\n'))
        self.assertTrue(self.complaints("include-edges", compiler__uop__a_cc='#include "uop.h"\n'))

    def test_unknown_folder_is_refused(self):
        self.assertTrue(self.complaints("include-edges", compiler__utils__a_cc="int a;\n"))

    def test_wall_is_enforced(self):
        at_the_wall = "int a;\n" * 30000
        self.assertFalse(self.complaints("walls", compiler__uop__a_cc=at_the_wall + "// comment\n\n/* more\ncomment */\n"))
        self.assertTrue(self.complaints("walls", compiler__uop__a_cc=at_the_wall, userspace__base__b_h="int b;\n"))
        self.assertTrue(self.complaints("walls", kmod__main_c="int a;\n" * 2501))
        self.assertFalse(self.complaints("walls", compiler__uop__a_def=at_the_wall * 2, tests__uop__a_cc=at_the_wall * 2))

    def test_licence_line(self):
        self.assertTrue(self.complaints("licences", tools__a_cc="int a;\n"))
        self.assertFalse(self.complaints("licences", tools__a_cc=MIT, tools__b_sh="#!/bin/sh\n# SPDX-License-Identifier: MIT\n"))
        self.assertTrue(self.complaints("licences", kmod__main_c=MIT))

    def test_getenv(self):
        self.assertTrue(self.complaints("getenv", compiler__uop__a_cc='auto a = getenv("DEBUG");\n'))
        self.assertFalse(self.complaints("getenv", userspace__base__context_cc='auto a = getenv("DEBUG");\n',
                                         compiler__uop__a_cc='// getenv("DEBUG")\nconst char* a = "getenv(";\n'))

    def test_number_from_a_manual(self):
        self.assertTrue(self.complaints("numbers", userspace__amd__a_cc="u32 a = 0x2200 + 0x8c4;\n"))
        self.assertFalse(self.complaints("numbers", userspace__amd__a_cc="u32 a = 0xff, m = 0xFFFF'FFFF; // 0x1234\n"))

    def test_vendor_name(self):
        self.assertTrue(self.complaints("vendors", compiler__codegen__a_cc="bool nvidia = true;\n"))
        self.assertFalse(self.complaints("vendors", compiler__codegen__a_cc="// as NVIDIA does\n", userspace__nv__a_cc="int nvidia;\n"))

    def test_comments_and_strings_are_told_apart(self):
        self.assertEqual(source.strip('a("//b"); // c\n').rstrip(), 'a("");')
        self.assertEqual(source.strip("x = '\"'; y = 1'000; // c\n").rstrip(), "x = ' '; y = 1'000;")
        self.assertEqual(source.strip('R"(a\n// b)" c'), '"s\n" c')


if __name__ == "__main__":
    unittest.main()
