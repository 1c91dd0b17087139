#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`make check`: every check a change must pass, each configuration built once, tests two (or J) at a time.

A step is a row of STEPS: a name and a function that yields results (what, "passed" | "failed" | "skipped", detail). A gtest binary
gives one result per test. What fails is shown where it fails; the last line counts everything: N passed, N failed, N skipped.
    check.py [step...]     runs these steps, or all
"""
import concurrent.futures
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tools", "check"))
import source  # noqa: E402

OUT = "build/check"
JOBS = int(os.environ.get("J") or os.cpu_count() or 2)
TEST_TIMEOUT_S = 900
# The configurations, each with the variables of its build. The tests that use threads run under the thread sanitizer too.
BUILDS = {
    "gcc": {},
    # Clang counts libstdc++ 12's own use of get_temporary_buffer as ours, and warns of GCC's attribute `optimize`.
    "clang": {"CXX": "clang++-19", "OPTIMIZE": "0",
              "EXTRA": "-fconstexpr-steps=100000000 -Wno-deprecated-declarations -Wno-unknown-attributes"},
    "asan": {"SANITIZE": "address,undefined", "OPTIMIZE": "1"},
    "tsan": {"SANITIZE": "thread", "OPTIMIZE": "1"},
}
THREADED_TESTS = ("base", "runtime", "tools")


def run(command, timeout=None, **environment):
    """Exit status and output; its own process group dies with the timeout."""
    env = {**os.environ, **environment}
    for name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "B", "CXX", "EXTRA", "SANITIZE", "OPTIMIZE", "DEBUG", "DEV"):
        if name not in environment:
            env.pop(name, None)
    process = subprocess.Popen(command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True)
    try:
        output, _ = process.communicate(timeout=timeout)
        return process.returncode, output
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        output, _ = process.communicate()
        return 124, output + f"\nstopped after {timeout} s"


def make(build, *targets):
    variables = {**BUILDS[build]}
    if os.environ.get("CXX") and "CXX" not in variables:
        variables["CXX"] = os.environ["CXX"]
    return run(["make", f"-j{JOBS}", "--no-print-directory", "-k", f"B={OUT}/{build}", f"KCONFIG_CONFIG={OUT}/config",
                *(f"{k}={v}" for k, v in variables.items()), *targets])


def last_lines(output, n=40):
    return "\n".join(output.strip().split("\n")[-n:])


def build_step(build, *targets):
    status, output = make(build, *(targets or ["all"]))
    errors = [line for line in output.split("\n") if not re.match(r"(ccache )?(g\+\+|clang\+\+|ar )\S* ", line)]
    yield f"build {build}", "failed" if status else "passed", "\n".join(errors[:60]) if status else ""


def source_step():
    tree = source.Tree(ROOT)
    for name, check in source.CHECKS.items():
        complaints = list(check(tree))
        yield name, "failed" if complaints else "passed", "\n".join(complaints)


def format_step():
    files = source.Tree(ROOT).sources("userspace/", "compiler/", "tools/", "tests/", extensions=(".cc", ".h"))
    status, output = run(["clang-format-14", "--dry-run", "--Werror", *files]) if files else (0, "")
    bad = sorted(set(re.findall(r"^([^:\n]+):\d+:\d+: error", output, re.M)))
    yield "clang-format", "failed" if status else "passed", "`make format` mends: " + " ".join(bad) if bad else output


def script_step():
    """The tests of the checks and of the build itself: Python's unittest in tests/check."""
    status, output = run([sys.executable, "-m", "unittest", "discover", "-v", "-s", "tests/check", "-t", "tests/check",
                          "-p", "*_test.py"], INGOT=f"{OUT}/gcc/ingot")
    found = re.findall(r"^(\w+) \(\S+\).*? \.\.\. (ok|FAIL|ERROR|skipped.*)$", output, re.M | re.S)
    for name, verdict in found:
        result = "passed" if verdict == "ok" else "skipped" if verdict.startswith("skipped") else "failed"
        yield name, result, output if result == "failed" else verdict
    if status and not any(v in ("FAIL", "ERROR") for _, v in found):
        yield "tests/check", "failed", output


def gtests(build, names, environment):
    """Runs the test programs in shards, JOBS at a time, each with a temporary folder and caches of its own."""
    def shard(name, i):
        folder = tempfile.mkdtemp(prefix=f"ingot_{name}_{i}_")
        report = os.path.join(folder, "report.json")
        start = time.monotonic()
        status, output = run([*wrapper, f"{OUT}/{build}/test_{name}", f"--gtest_output=json:{report}"], timeout=TEST_TIMEOUT_S,
                             GTEST_TOTAL_SHARDS=str(JOBS), GTEST_SHARD_INDEX=str(i), TEST_TMPDIR=folder, TMPDIR=folder,
                             XDG_CACHE_HOME=folder, **environment)
        results = []
        try:
            with open(report, encoding="utf-8") as f:
                suites = json.load(f)["testsuites"]
        except (OSError, ValueError):
            suites = []
        for suite in suites:
            for case in suite["testsuite"]:
                what = f"{build} {suite['name']}.{case['name']}"
                if case.get("failures"):
                    results.append((what, "failed", "\n".join(f["failure"] for f in case["failures"])))
                elif case.get("result") == "SKIPPED":
                    reason = re.search(rf"{re.escape(suite['name'] + '.' + case['name'])}\n(.*?)\n\[  SKIPPED", output, re.S)
                    results.append((what, "skipped", reason.group(1).strip().split("\n")[-1] if reason else ""))
                elif case.get("status") == "RUN":
                    results.append((what, "passed", ""))
        if status and not any(r[1] == "failed" for r in results):
            results.append((f"{build} test_{name} shard {i}", "failed", f"exit status {status}\n{last_lines(output)}"))
        shutil.rmtree(folder, ignore_errors=True)
        return name, time.monotonic() - start, results

    # GCC's thread sanitizer refuses kernels that randomise addresses widely; setarch -R switches that off where it is allowed.
    wrapper = ["setarch", "-R"] if build == "tsan" and run(["setarch", "-R", "true"])[0] == 0 else []
    seconds = {}
    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        work = [pool.submit(shard, name, i) for name in names for i in range(JOBS)]
        for done in concurrent.futures.as_completed(work):
            name, time_s, results = done.result()
            seconds[name] = seconds.get(name, 0) + time_s
            yield from results
    slow = sorted(seconds.items(), key=lambda s: -s[1])[:6]
    print("     " + ", ".join(f"{name} {s:.0f} s" for name, s in slow))


def test_names(build):
    folder = os.path.join(ROOT, OUT, build)
    built = sorted(f[5:] for f in os.listdir(folder) if f.startswith("test_")) if os.path.isdir(folder) else []
    return [n for n in built if os.path.isdir(os.path.join(ROOT, "tests", n))]  # a folder that is gone leaves its binary behind


def test_step(build, only=None, **environment):
    yield from gtests(build, [n for n in test_names(build) if not only or n in only], environment)


def install_step():
    """Installs into a folder of its own and builds the example against that, as a user would, with both libraries."""
    destination = os.path.join(ROOT, OUT, "install")
    shutil.rmtree(destination, ignore_errors=True)
    status, output = make("gcc", "install", "DESTDIR=" + destination, "PREFIX=/usr")
    yield "install", "failed" if status else "passed", output
    if status:
        return
    lib = os.path.join(destination, "usr", "lib")
    environment = {"PKG_CONFIG_PATH": os.path.join(lib, "pkgconfig"), "PKG_CONFIG_SYSROOT_DIR": destination,
                   "LD_LIBRARY_PATH": lib}
    for linkage, option in ("shared", ""), ("static", "--static"):
        program = os.path.join(ROOT, OUT, "hello_" + linkage)
        libs = "-Wl,-Bstatic -lingot -Wl,-Bdynamic" if option else ""
        command = (f"g++ -std=c++20 -Wall -Wextra -Werror tools/examples/hello.cc -o {program} "
                   f"$(pkg-config --cflags ingot) -L{lib} {libs} $(pkg-config --libs {option} ingot) && {program}")
        status, output = run(["sh", "-ec", command], timeout=300, **environment)
        expected = re.search(r"// prints: (.*)", source.Tree(ROOT).text("tools/examples/hello.cc")).group(1)
        right = status == 0 and expected in output
        yield f"example, {linkage} library", "passed" if right else "failed", f"expected: {expected}\n{output}"


def lab_step():
    """The stack in a virtual machine: tests/lab/lab.py prints a line for each row."""
    status, output = make("gcc", *(programs := [f"{OUT}/gcc/lab/bus", f"{OUT}/gcc/lab/guest"]))
    run(["make", "-s", "kmod"])  # without kernel headers its rows are skipped
    if not status:
        status, output = run([sys.executable, "tests/lab/lab.py", "--ingot", f"{OUT}/gcc/ingot", "--programs", *programs],
                             timeout=300)
    verdicts = {"ok": "passed", "FAIL": "failed", "skip": "skipped"}
    for name, verdict, detail in re.findall(r"^ *[\d.]+ s  (\S+) +(ok|FAIL|skip)(.*)$", output, re.M):
        yield f"lab {name}", verdicts[verdict], detail.lstrip(", ")
    if skipped := re.search(r"^lab: skipped: (.*)", output, re.M):
        yield "lab", "skipped", skipped.group(1)
    elif status:
        yield "lab", "failed", last_lines(output, 20)


STEPS = [
    ("source", source_step),
    ("format", format_step),
    ("gcc", lambda: build_step("gcc")),
    ("scripts", script_step),
    ("tests", lambda: test_step("gcc")),
    ("tests-ref", lambda: test_step("gcc", ["runtime", "tensor"], DEV="REF")),
    ("example", install_step),
    ("clang", lambda: build_step("clang")),
    ("asan", lambda: build_step("asan", "tests", OUT + "/asan/ingot")),
    ("tests-asan", lambda: test_step("asan", ASAN_OPTIONS="detect_stack_use_after_return=1:strict_string_checks=1",
                                     UBSAN_OPTIONS="print_stacktrace=1")),
    ("tsan", lambda: build_step("tsan", *(f"{OUT}/tsan/test_{t}" for t in THREADED_TESTS
                                          if os.path.isdir(os.path.join(ROOT, "tests", t))))),
    ("tests-tsan", lambda: test_step("tsan", THREADED_TESTS, TSAN_OPTIONS="halt_on_error=1")),
    ("lab", lab_step),
]
ON_REQUEST = {"lab"}  # only when named


def main(wanted):
    unknown = set(wanted) - {name for name, _ in STEPS}
    if unknown:
        print(f"check: no step {', '.join(unknown)}; there are: {' '.join(name for name, _ in STEPS)}")
        return 2
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    reasons = {}
    begin = time.monotonic()
    for name, step in STEPS:
        if name not in wanted if wanted else name in ON_REQUEST:
            continue
        start, here = time.monotonic(), {"passed": 0, "failed": 0, "skipped": 0}
        print(f"{name} ...", flush=True)
        for what, result, detail in step():
            here[result] += 1
            counts[result] += 1
            if result == "failed":
                print(f"FAILED {what}\n{detail}", flush=True)
            elif result == "skipped":
                reasons.setdefault(detail, []).append(what)
        print(f"     {', '.join(f'{n} {k}' for k, n in here.items() if n) or 'nothing to do'} "
              f"({time.monotonic() - start:.0f} s)", flush=True)
    for reason, names in reasons.items():
        print(f"skipped {len(names)}: {reason or 'no reason given'} ({', '.join(names[:3])}{' ...' if len(names) > 3 else ''})")
    print(f"{time.monotonic() - begin:.0f} s")
    print(", ".join(f"{n} {k}" for k, n in counts.items()))
    return 1 if counts["failed"] or not counts["passed"] else 0


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)
    sys.exit(main(sys.argv[1:]))
