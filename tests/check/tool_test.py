# SPDX-License-Identifier: MIT
"""The ingot command as a user meets it: exit codes, messages, completion. Runs the tool of the build that INGOT names."""
import json
import os
import pty
import shutil
import subprocess
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
INGOT = os.path.join(ROOT, os.environ.get("INGOT", "build/check/gcc/ingot"))


def ingot(*arguments, **environment):
    return subprocess.run([INGOT, *arguments], env={**os.environ, **environment}, stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, check=False)


@unittest.skipUnless(os.path.exists(INGOT), "the tool is not built")
class Tool(unittest.TestCase):
    def test_exit_codes(self):
        self.assertEqual(ingot("version").returncode, 0)
        self.assertEqual(ingot("--help").returncode, 0)
        self.assertEqual(ingot("devices", "--help").returncode, 0)
        self.assertEqual(ingot().returncode, 2)
        self.assertEqual(ingot("frobnicate").returncode, 2)
        self.assertEqual(ingot("devices", "--frobnicate").returncode, 2)
        self.assertEqual(ingot("devices", "DEV=frobnicate").returncode, 1)

    def test_near_words_are_suggested(self):
        self.assertIn("did you mean devices", ingot("devcies").stderr)
        self.assertIn("did you mean --json", ingot("devices", "--jsn").stderr)
        self.assertIn("DEBUG", ingot("version", "DEBG=1").stderr)
        self.assertEqual(ingot("version", "DEBG=1").returncode, 2)

    def test_output_that_cannot_be_written_is_a_failure(self):
        with open("/dev/full", "w", encoding="utf-8") as full:
            self.assertEqual(subprocess.run([INGOT, "help", "env"], stdout=full, stderr=subprocess.DEVNULL, check=False).returncode, 1)

    def test_every_command_has_help(self):
        listed = [line.split()[0] for line in ingot("--help").stdout.split("Exit codes")[0].split("Commands\n")[1].splitlines() if line]
        self.assertIn("devices", listed)
        for command in listed:
            with self.subTest(command):
                shown = ingot(command, "--help")
                self.assertEqual((shown.returncode, bool(shown.stdout)), (0, True), shown.stderr)

    def test_every_context_variable_is_documented(self):
        with open(os.path.join(ROOT, "userspace/base/context.def"), encoding="utf-8") as f:
            names = [line[4:line.index(",")] for line in f if line.startswith("VAR(")]
        shown = ingot("help", "env").stdout
        self.assertTrue(names)
        for name in names:
            self.assertRegex(shown, rf"(?m)^{name} ")

    def test_devices_as_json(self):
        devices = json.loads(ingot("devices", "--json").stdout)
        self.assertEqual(sum(d["chosen"] for d in devices), 1)
        self.assertIn("REF", [d["name"] for d in devices])

    def test_colours_only_on_a_terminal_without_no_color(self):
        def on_terminal(**environment):
            parent, child = pty.openpty()
            env = {k: v for k, v in os.environ.items() if k != "NO_COLOR"}
            subprocess.run([INGOT, "--help"], stdout=child, env={**env, **environment}, check=True)
            os.close(child)
            text = os.read(parent, 1 << 16).decode()
            os.close(parent)
            return text
        self.assertIn("\033[", on_terminal())
        self.assertNotIn("\033[", on_terminal(NO_COLOR="1"))
        self.assertNotIn("\033[", ingot("--help").stdout)

    def test_completion(self):
        for shell in "bash", "zsh", "fish":
            script = ingot("completion", shell)
            self.assertEqual(script.returncode, 0)
            self.assertIn("devices", script.stdout)
            if shutil.which(shell):
                subprocess.run([shell, "-n"], input=script.stdout, text=True, check=True)
        self.assertEqual(ingot("completion", "csh").returncode, 2)
        ask = 'source <(ingot completion bash); COMP_CWORD={}; COMP_WORDS=({}); _ingot 2>/dev/null; echo "${{COMPREPLY[@]}}"'
        def complete(position, words):
            return subprocess.run(["bash", "-c", ask.format(position, words)], capture_output=True, text=True, check=True,
                                  env={**os.environ, "PATH": os.path.dirname(INGOT) + ":" + os.environ["PATH"]}).stdout.split()
        self.assertEqual(complete(1, "ingot dev"), ["devices"])
        self.assertIn("--json", complete(2, "ingot devices --j"))


if __name__ == "__main__":
    unittest.main()
