#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`make accept`: a table of promises: what was promised, what was measured here and now, the verdict.

A promise is a function with @promise(name, what is promised). It returns the measured value as text and whether it holds: True,
False, or None when this machine or this build cannot measure it; then the text says why. Nothing is typed in: each value comes
from running the command that the function runs.
    accept.py [name...]    these rows, or all
"""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
B = os.environ.get("B", "build")
sys.path.insert(0, os.path.join(ROOT, "tools", "check"))
import source  # noqa: E402

PROMISES = []


def promise(name, text):
    def register(function):
        PROMISES.append((name, text, function))
        return function
    return register


def run(*command, **environment):
    env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "DEBUG", "DEV", "ROWS")}
    result = subprocess.run(command, cwd=ROOT, env={**env, **environment}, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                            check=False)
    if result.returncode:
        raise RuntimeError(f"{' '.join(command)}: status {result.returncode}: {(result.stderr or result.stdout).strip()[-300:]}")
    return result.stdout


def make(*arguments):
    return run("make", "--no-print-directory", *arguments)


def process_ms(program, *arguments, runs=50, **environment):
    """Wall time of a whole process, from before it is spawned until it is reaped: the quickest run, since others share the machine."""
    times = []
    env = {**os.environ, **environment}
    null = [(os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)]
    for _ in range(runs):
        start = time.perf_counter()
        pid = os.posix_spawn(program, [program, *arguments], env, file_actions=null)
        status = os.waitpid(pid, 0)[1]
        times.append((time.perf_counter() - start) * 1e3)
        if status:
            raise RuntimeError(f"{program}: status {status}")
    return min(times)


def bench(name):
    make("-s", f"B={B}", f"{B}/bench_{name}")
    return os.path.join(ROOT, B, "bench_" + name)


def gtest(binary, pattern, **environment):
    """Runs some tests; (passed, failed, skipped)."""
    make("-s", "-j2", f"B={B}", f"{B}/test_{binary}")
    with tempfile.TemporaryDirectory() as folder:
        report = os.path.join(folder, "report.json")
        env = {**os.environ, **environment}
        subprocess.run([os.path.join(ROOT, B, "test_" + binary), f"--gtest_filter={pattern}", f"--gtest_output=json:{report}"], cwd=ROOT,
                       env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        try:
            with open(report, encoding="utf-8") as f:
                cases = [c for s in json.load(f)["testsuites"] for c in s["testsuite"] if c["status"] == "RUN"]
        except OSError:
            return 0, 1, 0
    failed = sum(1 for c in cases if c.get("failures"))
    skipped = sum(1 for c in cases if c.get("result") == "SKIPPED")
    return len(cases) - failed - skipped, failed, skipped


def tests_pass(binary, pattern, **environment):
    passed, failed, skipped = gtest(binary, pattern, **environment)
    if not passed and not failed:
        return f"no test {pattern}" + (f", {skipped} skipped" if skipped else ""), None
    return f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""), not failed


# ---- the project itself ------------------------------------------------------------------------------------------------------
@promise("build", "a full build takes under 3 minutes on 2 cores")
def full_build():
    folder = tempfile.mkdtemp(prefix="build_", dir=os.path.join(ROOT, B))
    try:
        start = time.monotonic()
        # A compiler cache would measure the cache.
        make("-s", "-j2", f"B={folder}", "CXX=g++", "all")
        seconds = time.monotonic() - start
    finally:
        shutil.rmtree(folder)
    return f"{seconds:.0f} s with -j2 on {os.cpu_count()} cores", seconds < 180


@promise("one-object", "touching one .cc compiles one object")
def one_object():
    make("-s", "-j2", f"B={B}", "all")
    os.utime(os.path.join(ROOT, "compiler/uop/rewrite.cc"))
    objects = re.findall(r" -c (\S+)", make("-j2", f"B={B}", "all"))
    return f"{len(objects)} compiled: {' '.join(objects)}", objects == ["compiler/uop/rewrite.cc"]


@promise("off", "what is switched off is not compiled")
def switched_off():
    folder = tempfile.mkdtemp(prefix="off_", dir=os.path.join(ROOT, B))
    config = os.path.join(folder, "config")
    try:
        make("-s", f"KCONFIG_CONFIG={config}", "defconfig")
        with open(config, encoding="utf-8") as f:
            text = f.read()
        off = ["TOOL_TRAIN", "TOOL_ULP"]
        for symbol in off:
            text = text.replace(f"CONFIG_{symbol}=y", f"# CONFIG_{symbol} is not set")
        with open(config, "w", encoding="utf-8") as f:
            f.write(text)
        planned = re.findall(r" -c (\S+)", make("-n", f"B={folder}", f"KCONFIG_CONFIG={config}", f"{folder}/ingot"))
    finally:
        shutil.rmtree(folder)
    extra = [f for f in planned if f.startswith(("tools/train", "tools/ulp"))]
    return f"train and ulp off: {len(planned)} objects, of them {len(extra)} of theirs", bool(planned) and not extra


@promise("lines", "userspace and compiler under 30,000 code lines, kmod under 2,500")
def lines():
    tree = source.Tree(ROOT)
    counts = source.count_lines(tree)
    main = sum(n for f, n in counts.items() if f.startswith(("userspace", "compiler")))
    return f"{main:,} and {counts.get('kmod', 0):,}", not list(source.check_walls(tree))


# ---- quick -------------------------------------------------------------------------------------------------------------------
@promise("start", "cold, process start to the first result of a small tensor sum: 3 ms or less")
def first_sum():
    program = bench("first_sum")
    folder = tempfile.mkdtemp()
    try:
        times = []
        for i in range(50):  # a cache folder that does not exist yet each time: the kernel is compiled
            times.append(process_ms(program, runs=1, XDG_CACHE_HOME=os.path.join(folder, str(i))))
        cold = min(times)
        warm = process_ms(program, XDG_CACHE_HOME=os.path.join(folder, "0"))
    finally:
        shutil.rmtree(folder)
    return f"{cold:.2f} ms with no kernel cache, {warm:.2f} ms with one", cold <= 3


@promise("version", "`ingot version` starts and ends in 3 ms")
def version():
    ms = process_ms(os.path.join(ROOT, B, "ingot"), "version")
    return f"{ms:.2f} ms", ms <= 3


# ---- right: rows that are tests, run here in full ----------------------------------------------------------------------------
TEST_ROWS = [
    ("rules", "every rewrite rule holds in the arithmetic that its list is named for", "uop", "Rules.*"),
    ("dtypes", "conversions are exact over all 2^16 and 2^8 values", "uop", "DType.*"),
    ("chains", "a million nodes and chains 200,000 deep neither overflow the stack nor leak", "uop", "Arena.*"),
    ("x86", "every x86 row agrees with the golden bytes and text of llvm-mc and llvm-objdump", "isa", "*"),
    ("random", "over random byte strings our disassembler and llvm-objdump agree, or both refuse", "isa", "X86Random.AgreesWithLlvm"),
    ("stage", "packing an operand into a level's memory changes no result, on any machine tree", "codegen", "Stage.*"),
    ("ops", "every op case agrees with the reference and PyTorch, on AVX2 and AVX-512", "ops", "Forward.*"),
    ("gradients", "gradients of every op case agree with finite differences", "ops", "Gradient.*"),
    ("fuzz", "2,000 random graphs agree with the reference", "ops", "Fuzz*"),
    ("functions", "float32 functions are within their units in the last place (samples; all inputs: make ulp)", "codegen", "Decomp.*:*F32*"),
    ("capture", "a captured step gives the plain step's bits and refuses what it did not record", "runtime", "Capture*:Step.*"),
    ("memory", "1,000 training steps leave memory flat", "runtime", "Realize.memory_and_nodes_stay_flat*:Step.replays_alone*"),
    ("files", "mutated and truncated safetensors files give errors", "tensor", "Safetensors.*"),
    ("idx", "mutated and truncated IDX files give errors", "train", "Idx.*"),
    ("kernels", "a training step is at most 100 kernels", "schedule", "Convnet.*"),
    ("rdna", "every RDNA3 row agrees with the golden bytes and text of llvm-mc and llvm-objdump", "isa", "Rdna*"),
    ("clang", "clang's kernels for gfx1100 give the host's results and the checker is silent", "emu", "Clang.*"),
    ("waits", "our waits, hazards and pairs in clang's kernels: the host's results, the checker silent", "emu", "Wait.*:Pair.*"),
    ("model", "the chip model refuses what the chip would; the driver boots, copies, recovers", "amd", "*"),
    ("gpu-ops", "every op case agrees on the model of a Radeon with all its checks on", "ops", "*.Gfx1100/*"),
    ("gpu-fuzz", "random graphs agree there", "ops", "Fuzz.*Gfx1100"),
    ("gpu-train", "20 training steps there lose what the CPU's lose, to 1e-3", "e2e", "TrainOnModel*"),
    ("gpu-tools", "reg, ring, vm, wave and top see a chip, a process and a file", "tools", "*"),
]
for row in TEST_ROWS:
    promise(*row[:2])(lambda row=row: tests_pass(*row[2:]))


@promise("ulp", "float32 functions to 2 ulp over all 2^32 inputs, pow over 10^8 pairs (`make ulp` keeps what it measured)")
def all_inputs():
    tool, state = (os.path.join(ROOT, B, name) for name in ("ingot", "ulp.state"))
    if not os.path.exists(state) or os.path.getmtime(state) < os.path.getmtime(tool):
        return "not measured with this build: `make ulp` takes a quarter of an hour", None
    rows = json.loads(run(tool, "ulp", "--all", "--json", "--resume", state))
    single = [r for r in rows if not r["function"].endswith("_f64")]
    worst = max(single, key=lambda r: r["max_ulp"] if r["max_ulp"] is not None else 1e9)
    return (f"{len(rows)} functions; worst of float32 {worst['function']} {worst['max_ulp']}, {sum(not r['ok'] for r in rows)} above their limit",
            all(r["ok"] for r in rows))


# ---- the main job ------------------------------------------------------------------------------------------------------------
def train(*arguments, **environment):
    """The JSON objects that `ingot train mnist` prints: one a step, and the summary."""
    out = run(os.path.join(ROOT, B, "ingot"), "train", "mnist", "--json", *arguments, **environment)
    objects = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    return objects[:-1], objects[-1]


def losses(steps):
    return [s["loss"] for s in steps]


@promise("accuracy", "trained on 9,000 real images, at least 97 % on the other 1,000")
def accuracy():
    _, end = train("--steps", "100", "--save", "")
    measured = f"{100 * end['accuracy']:.2f} % in {end['seconds']:.1f} s, {end['gflops']:.0f} of {end['peak_gflops']:.0f} GFLOP/s"
    return (measured + ", on drawn digits: set INGOT_DATA", None) if end["synthetic"] else (measured, end["accuracy"] >= 0.97)


@promise("step", "a training step is at least 5 times faster than tinygrad's: 563 ms on the machine of 2815 ms")
def step_time():
    _, end = train("--steps", "20", "--save", "")
    ms = end["seconds"] * 1e3 / 20
    return f"{ms:.0f} ms a step, first one included; {end['kernels']} kernels", ms <= 2815 / 5 and end["kernels"] <= 100


@promise("gpu", "the network of `make run` learns to 90 % on the model of a Radeon within 10 minutes")
def model_accuracy():
    _, end = train("--steps", "60", "--batch", "64", "--save", "", DEV="MODEL+AMD::gfx1100", MODEL_STRICT="0", MODEL_CHECK="0")
    return f"{100 * end['accuracy']:.1f} % in {end['seconds']:.0f} s", end["accuracy"] >= 0.9 and end["seconds"] <= 600


@promise("faults", "1,000 faults on the way: every step completes or is tried again, within 15 minutes")
def model_faults():
    start = time.monotonic()
    steps, _ = train("--steps", "60", "--batch", "4", "--channels", "2", "--faults", "1000", "--save", "", DEV="MODEL+AMD::gfx1100",
                     MODEL_STRICT="0", MODEL_CHECK="0")
    seconds, tally = time.monotonic() - start, next(s for s in steps if "completed" in s)
    done = sum("loss" in s for s in steps)
    return (f"{tally['faults']} faults: {tally['completed']} steps completed, {tally['failed']} tried again; {done} steps, {seconds:.0f} s",
            done == 60 and tally["faults"] == tally["completed"] + tally["failed"] == 1000 and seconds <= 900)


def rdna_quality():
    """What the benchmark says, later lines over earlier ones."""
    end = {}
    for line in run(bench("rdna"), "--json").splitlines():
        end |= json.loads(line)
    return end


@promise("static", "RDNA3 code against clang-19 -O3: geometric mean at most 1.0, worst 1.3")
def static_quality():
    end = rdna_quality()
    if "missing" in end:
        return "clang-19 is not installed", None
    return (f"{end['kernels']} kernels: {end['geomean']:.2f}, worst {end['worst']:.2f}; {end['unlike']} that cannot be compared",
            end["kernels"] >= 20 and end["geomean"] <= 1 and end["worst"] <= 1.3 and not end["unlike"])


@promise("wmma", "the inner loop of a matmul keeps the matrix unit busy for 90 %, by the model")
def matrix_unit():
    end = rdna_quality()
    return (f"{end['matrix_unit']:.1f} % with {end['waves']} waves a SIMD, {end['one_group']:.1f} % with one group; "
            f"{end['with_copies']:.1f} % with the copies into LDS", end["matrix_unit"] >= 90 and end["one_group"] >= 90)


@promise("same-bits", "two runs with the same seed and thread count give the same bits")
def same_bits():
    first, second = (train("--steps", "10", "--save", "")[0] for _ in range(2))
    return f"{len(first)} losses, {sum(a != b for a, b in zip(losses(first), losses(second)))} differ", losses(first) == losses(second)


@promise("resume", "--resume goes on with the losses of a run that was not interrupted")
def resume():
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "half.safetensors")
        whole = losses(train("--steps", "12", "--save", "")[0])
        head = losses(train("--steps", "6", "--save", file)[0])
        tail = losses(train("--steps", "12", "--resume", file, "--save", "")[0])
    return f"{len(head)} + {len(tail)} losses against {len(whole)}", bool(tail) and head + tail == whole


@promise("compile", "graph, schedule and machine code of the training step: 0.1 s, cold, on 2 cores")
def compile_time():
    with tempfile.TemporaryDirectory() as folder:  # a cache folder that does not exist yet, as a new user has
        data = {"INGOT_DATA": os.environ["INGOT_DATA"]} if os.environ.get("INGOT_DATA") else {}
        ends = [train("--steps", "1", "--offline", "--save", "", **data, XDG_CACHE_HOME=os.path.join(folder, str(i)))[1] for i in range(3)]
    parts = [[end[part] for part in ("graph_ms", "schedule_ms", "compile_ms")] for end in ends]
    graph, schedule, code = min(parts, key=sum)
    total = graph + schedule + code
    return f"{total:.0f} ms: graph {graph:.1f}, schedule {schedule:.1f}, code {code:.1f}; quickest of {len(ends)}", total <= 100


def main(wanted):
    rows = [p for p in PROMISES if not wanted or p[0] in wanted]
    if not rows:
        print(f"accept: no such row; there are: {' '.join(p[0] for p in PROMISES)}")
        return 2
    verdicts = {True: "holds", False: "FAILS", None: "open"}
    failed = 0
    print(f"{'':10} {'promise':72} | {'measured':56} | verdict")
    for name, text, function in rows:
        try:
            measured, holds = function()
        except Exception as e:  # a row that cannot be measured must not hide the others
            measured, holds = f"{type(e).__name__}: {e}".replace("\n", " ")[:300], False
        failed += holds is False
        print(f"{name:10} {text:72} | {measured:56} | {verdicts[holds]}", flush=True)
    print(f"{failed} of {len(rows)} promises do not hold")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
