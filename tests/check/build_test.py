# SPDX-License-Identifier: MIT
"""The build and the set-up script: what is switched off is not compiled, and setup.sh asks apt for exactly what is missing."""
import os
import re
import subprocess
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def make(*arguments):
    env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "B", "KCONFIG_CONFIG")}
    return subprocess.run(["make", "--no-print-directory", *arguments], cwd=ROOT, env=env, capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, check=True).stdout


class Build(unittest.TestCase):
    def compiled(self, **symbols):
        """The sources a build of the tool would compile, with these symbols changed from the defaults."""
        with tempfile.TemporaryDirectory() as folder:
            config = os.path.join(folder, "config")
            make(f"KCONFIG_CONFIG={config}", "defconfig")
            with open(config, encoding="utf-8") as f:
                text = f.read()
            for symbol, value in symbols.items():
                line = f"# CONFIG_{symbol} is not set" if value == "n" else f"CONFIG_{symbol}={value}"
                text, changed = re.subn(rf"(?m)^(# )?CONFIG_{symbol}\b.*$", line, text)
                self.assertEqual(changed, 1, symbol)
            with open(config, "w", encoding="utf-8") as f:
                f.write(text)
            commands = make("-n", f"B={folder}/b", f"KCONFIG_CONFIG={config}", f"{folder}/b/ingot")
            return set(re.findall(r" -c (\S+)", commands)), commands

    def test_what_is_off_is_not_compiled(self):
        everything, _ = self.compiled()
        self.assertTrue({"tools/devices.cc", "tools/ingot.cc", "compiler/isa/x86.cc"} <= everything)
        less, _ = self.compiled(TOOL_DEVICES="n")
        self.assertEqual(everything - less, {"tools/devices.cc"})
        less, _ = self.compiled(DEVICE_CPU="n", ISA_X86="n")
        self.assertIn("compiler/isa/x86.cc", everything - less)
        self.assertFalse([f for f in less if "x86" in f])

    def test_symbols_reach_the_compiler(self):
        _, commands = self.compiled(OPTIMIZE="1")
        self.assertIn(" -O1 ", commands)
        _, commands = self.compiled(SANITIZE_NONE="n", SANITIZE_THREAD="y")
        self.assertIn("-fsanitize=thread", commands)

    def test_defaults_are_what_savedefconfig_writes(self):
        with open(os.path.join(ROOT, "tools/install/defconfig"), encoding="utf-8") as f:
            before = f.read()
        with tempfile.TemporaryDirectory() as folder:
            make(f"KCONFIG_CONFIG={folder}/config", "defconfig")
            make(f"KCONFIG_CONFIG={folder}/config", f"DEFCONFIG={folder}/saved", "savedefconfig")
            with open(f"{folder}/saved", encoding="utf-8") as f:
                self.assertEqual(f.read(), before)

    def test_help_names_every_documented_target(self):
        shown = make("help")
        for target in "all", "run", "check", "check-long", "accept", "lines", "install", "menuconfig", "codegen-diff", "ulp", "fuzz":
            self.assertRegex(shown, rf"(?m)^  {target} ")


class Setup(unittest.TestCase):
    def setup_sh(self, what, installed, user="0"):
        """Runs setup.sh with stand-ins for dpkg-query, apt-get, id and sudo; exit status, output, the apt-get calls."""
        with tempfile.TemporaryDirectory() as folder:
            scripts = {
                "dpkg-query": 'while [ $# -gt 0 ] && [ "$1" != "-f" ]; do shift; done; shift 2; for p; do case " ' + installed +
                              ' " in *" $p "*) echo "installed $p" ;; esac; done',
                "apt-get": f'echo "$@" >> {folder}/calls',
                "id": f"echo {user}",
                "sudo": "exit 1",
            }
            for name, text in scripts.items():
                path = os.path.join(folder, name)
                with open(path, "w", encoding="utf-8") as f:
                    f.write("#!/bin/sh\n" + text + "\n")
                os.chmod(path, 0o755)
            result = subprocess.run([os.path.join(ROOT, "tools/install/setup.sh"), what], stdin=subprocess.DEVNULL, text=True,
                                    capture_output=True, env={"PATH": folder + ":/usr/bin:/bin"}, check=False)
            calls = ""
            if os.path.exists(folder + "/calls"):
                with open(folder + "/calls", encoding="utf-8") as f:
                    calls = f.read()
            return result.returncode, result.stderr, calls

    with open(os.path.join(ROOT, "tools/install/setup.sh"), encoding="utf-8") as script:
        build = re.search(r'^packages="([^"]*)"$', script.read(), re.M).group(1)

    def test_headers_of_libraries_have_their_packages(self):
        """What is neither C++'s, POSIX's nor Linux's is a library, and on a bare machine it must be installed."""
        packages = {"sqlite3.h": "libsqlite3-dev", "zlib.h": "zlib1g-dev", "nlohmann/json.hpp": "nlohmann-json3-dev",
                    "pci/pci.h": "libpci-dev"}
        found = subprocess.run(["git", "grep", "-hoE", r"#include <[^>]*>", "--", "userspace", "compiler", "tools"], cwd=ROOT,
                               capture_output=True, text=True, check=True).stdout
        libraries = {h for h in re.findall(r"<([^>]*)>", found) if "." in h and h.split("/")[0] not in
                     ("ingot", "sys", "linux") and (h in packages or "/" in h)}
        self.assertLessEqual(libraries, set(packages), "headers without a row here")
        for header in libraries:
            self.assertIn(packages[header], self.build.split())

    def test_nothing_missing_calls_nothing(self):
        self.assertEqual(self.setup_sh("build", self.build), (0, "", ""))

    def test_root_installs_what_is_missing(self):
        status, _, calls = self.setup_sh("build", self.build.replace("zlib1g-dev ", ""))
        self.assertEqual(status, 0)
        self.assertEqual(calls, "update -q\ninstall -y --no-install-recommends zlib1g-dev\n")

    def test_without_rights_the_command_is_printed(self):
        status, said, calls = self.setup_sh("build", "g++ curl", user="1000")
        self.assertEqual((status, calls), (1, ""))
        missing = [p for p in self.build.split() if p not in ("g++", "curl")]
        self.assertIn("apt-get install -y --no-install-recommends " + " ".join(missing), said)

    def test_checking_needs_more(self):
        _, _, calls = self.setup_sh("check", self.build)
        self.assertIn("libgtest-dev", calls)
        self.assertIn("clang-19", calls)
        self.assertNotIn("qemu", calls)
        self.assertIn("qemu-system-x86", self.setup_sh("lab", self.build)[2])


if __name__ == "__main__":
    unittest.main()
