#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Writes expected.txt: what PyTorch 1.13 and NumPy say about every row of cases.def (run with Debian 12's python3-torch).

The inputs are made here as cases.cc makes them: splitmix64's finaliser over FNV-1a of the test's name, the input's number and the
position. A line is a test: name, dtype, shape, checksum, values. Up to 48 values are written; of a larger result 48 of them,
evenly spaced, and a checksum over all: the sum of value * (1 + position % 7) over the finite ones. `name/grad_a` lines hold
gradients, taken in float64. Conversions to the narrow floats are done here from their definition, with exact fractions.

  make_expected.py [NAME ...]     prints the lines of the rows NAME instead
"""
import itertools, os, re, sys, warnings
from fractions import Fraction
import numpy as np
import torch
import torch.nn.functional as F

HERE = os.path.dirname(os.path.abspath(__file__))
warnings.filterwarnings("ignore")
np.seterr(all="ignore")
SAMPLES = 48

# ---- dtypes: exponent bits, mantissa bits, bias, specials; limits of integers
FLOATS = {"e4m3": (4, 3, 7, "FN"), "e5m2": (5, 2, 15, "IEEE"), "e4m3fnuz": (4, 3, 8, "FNUZ"), "e5m2fnuz": (5, 2, 16, "FNUZ"),
          "f16": (5, 10, 15, "IEEE"), "bf16": (8, 7, 127, "IEEE"), "f32": (8, 23, 127, "IEEE"), "f64": (11, 52, 1023, "IEEE")}
INTS = {s + str(n): (-(1 << n - 1), (1 << n - 1) - 1) if s == "i" else (0, (1 << n) - 1) for s in "iu" for n in (8, 16, 32, 64)}
TORCH = {"bool": torch.bool, "i8": torch.int8, "u8": torch.uint8, "i16": torch.int16, "i32": torch.int32, "i64": torch.int64,
         "f16": torch.float16, "bf16": torch.bfloat16, "f32": torch.float32, "f64": torch.float64}
NUMPY = {"bool": np.bool_, "f16": np.float16, "f32": np.float32, "f64": np.float64,
         **{n: getattr(np, n.replace("i", "int", 1) if n[0] == "i" else n.replace("u", "uint", 1)) for n in INTS}}
NAMES = {**{v: k for k, v in TORCH.items()}, **{np.dtype(v): k for k, v in NUMPY.items()}}

def round_float(x, name):
    """x (a float, or an int) to the nearest value of a format, ties to even."""
    exponent_bits, mantissa, bias, specials = FLOATS[name]
    if isinstance(x, float) and x != x: return x
    top = (1 << exponent_bits) - 1 - bias - (specials == "IEEE")            # exponent of the largest finite value
    last = (1 << mantissa) - 1 - (specials == "FN")                         # its mantissa
    largest = Fraction((1 << mantissa) + last) * Fraction(2) ** (top - mantissa)
    overflow = float("inf") if specials == "IEEE" else float("nan")
    sign = -1.0 if np.signbit(x) else 1.0
    if isinstance(x, float) and np.isinf(x): return sign * overflow
    v = abs(Fraction(x))
    if v == 0: return 0.0 if specials == "FNUZ" else sign * 0.0
    e = v.numerator.bit_length() - v.denominator.bit_length()
    if Fraction(2) ** e > v: e -= 1
    quantum = Fraction(2) ** (max(e, 1 - bias) - mantissa)
    r = round(v / quantum) * quantum                                        # Python rounds halves to even
    if r > largest: return sign * overflow
    if r == 0: return 0.0 if specials == "FNUZ" else sign * 0.0
    return sign * float(r)

def convert(x, name):
    """x: an element as a Python bool, int or float, to a dtype."""
    if name == "bool": return bool(x != 0)
    if name in INTS:
        low, high = INTS[name]
        return (int(x) - low) % (high - low + 1) + low
    return round_float(x if isinstance(x, float) else int(x), name)

class Raw:
    """An array whose dtype NumPy may lack: elements as Python values."""
    def __init__(self, values, shape, name): self.values, self.shape, self.name = values, shape, name

def to(a, name): return Raw([convert(v, name) for v in a.values], a.shape, name)

# ---- inputs
EDGES, SETS = [], {}

def mix(z):
    z = (z ^ z >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return z ^ z >> np.uint64(31)

def hashes(test, number, n):
    h = 0xCBF29CE484222325
    for c in test.encode(): h = (h ^ c) * 0x100000001B3 % 2**64
    start = (h + (number + 1) * 0x9E3779B97F4A7C15) % 2**64
    return mix(np.uint64(start) + np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))

def make_input(test, number, name, shape, values):
    n = int(np.prod(shape, dtype=np.int64))
    h = hashes(test, number, n)
    if name == "bool":
        out = [bool(v & np.uint64(1)) for v in h]
    elif values == "edge":
        if name in FLOATS:
            out = [EDGES[(i + 5 * number) % len(EDGES)] for i in range(n)]
        else:
            low, high = INTS[name]
            all_ = [0, 1, 2, 3, 7, 10, 100, high, high - 1, low, low + 1, -1, -2, -3, -7, -10, -100]
            all_ = [v for v in all_ if low <= v <= high]
            out = [all_[(i + 5 * number) % len(all_)] for i in range(n)]
    elif values == "distinct":
        out = [float(i * 7919 % n) * (4.0 / n) - 2.0 for i in range(n)]
    elif name in INTS:
        low, high = [int(float(v)) for v in values.split(":")] if values else (0, 100) if name[0] == "u" else (-50, 50)
        out = [low + int(v) % (high - low + 1) for v in h]
    else:
        low, high = [float(v) for v in (values or "-2:2").split(":")]
        out = [low + (high - low) * float(int(v) >> 48) / 65536.0 for v in h]
    return Raw([convert(v, name) for v in out], shape, name)

def as_torch(raw, dtype=None):
    t = torch.tensor(raw.values, dtype=torch.float64 if raw.name in FLOATS else TORCH[raw.name])
    return t.reshape(raw.shape).to(dtype or TORCH[raw.name])

def as_numpy(raw): return np.array(raw.values, dtype=NUMPY[raw.name]).reshape(raw.shape)

def threefry(key0, key1, count0, count1):
    """Threefry-2x32, 20 rounds: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011."""
    keys = [key0, key1, np.uint32(0x1BD11BDA) ^ key0 ^ key1]
    x, y = count0 + keys[0], count1 + keys[1]
    for i in range(20):
        r = np.uint32([13, 15, 26, 6, 17, 29, 16, 24][i % 8])
        x = x + y
        y = (y << r | y >> np.uint32(32 - r)) ^ x
        if i % 4 == 3:
            j = i // 4 + 1
            x, y = x + keys[j % 3], y + keys[(j + 1) % 3] + np.uint32(j)
    return np.stack((x, y))

# ---- rows
def rows():
    text = re.sub(r"^//.*$|^ *// .*$", "", open(os.path.join(HERE, "cases.def")).read(), flags=re.M)
    for name, value in re.findall(r'^SET\((\w+),\s*"([^"]*)"\)', text, re.M): SETS[name] = value
    edges = re.search(r"^EDGES\((.*?)\)$", text, re.M | re.S).group(1)
    EDGES.extend(float(v.strip().replace("INFINITY", "inf").replace("NAN", "nan")) for v in edges.split(","))
    pattern = r'^CASE\((\w+),\s*"([^"]*)",\s*(\w+(?:\([^)]*\))?),\s*(GRAD|NONE),\s*"([^"]*)",'
    found = re.findall(pattern, text, re.M)
    assert len(found) == len(re.findall(r"^CASE\(", text, re.M)), "a row that this script cannot read"
    return found

def expand(inputs):
    """The text of the inputs, and each combination of what T, R, N, M, K stand for, in order."""
    while "$" in inputs: inputs = re.sub(r"\$(\w+)", lambda m: SETS[m.group(1)], inputs)
    text, _, sets = inputs.partition(";")
    for one in sets.split("|"):
        words = re.findall(r"(\w+)=([^=]*?)(?=\s*\w+=|\s*$)", one.strip())
        for values in itertools.product(*[v.split() for _, v in words]):
            yield text.split(), dict(zip([k for k, _ in words], values))

def evaluate(test, specs, binding, expression, gradient):
    names, raws = [], []
    for number, spec in enumerate(specs):
        dtype, shape, values = re.fullmatch(r"(\w+)\(([^)]*)\)(?:@(\S+))?", spec).groups()
        shape = tuple(int(binding.get(d, d)) for d in shape.split(",") if d)
        raws.append(make_input(test, number, binding.get(dtype, dtype), shape, values))
        names.append("abcd"[number])
    sizes = {k: int(v) for k, v in binding.items() if k in "NMK"}
    dtypes = {k: v for k, v in binding.items() if k in "TR"}
    used = {r.name for r in raws} | set(dtypes.values())
    scope = {"torch": torch, "F": F, "np": np, "to": to, "threefry": threefry, **sizes}
    if "to(a," in expression:
        return eval(expression, {**scope, **dtypes, **dict(zip(names, raws))})
    if not used <= set(TORCH):
        return eval(expression, {**scope, "m": np, **{k: NUMPY[v] for k, v in dtypes.items()}, **dict(zip(names, map(as_numpy, raws)))})
    scope["m"] = torch
    if gradient:
        leaves = [as_torch(r, torch.float64 if r.name in FLOATS else None) for r in raws]
        for leaf in leaves: leaf.requires_grad_(leaf.dtype == torch.float64)
        result = eval(expression, {**scope, **{k: torch.float64 if v in FLOATS else TORCH[v] for k, v in dtypes.items()}, **dict(zip(names, leaves))})
        weight = as_torch(make_input(test + "/w", 0, "f32", tuple(result.shape), "-1:1"), torch.float64)
        (result * weight).sum().backward()
        return [(n, x.grad if x.grad is not None else torch.zeros_like(x)) for n, x in zip(names, leaves) if x.requires_grad]
    try:
        return eval(expression, {**scope, **{k: TORCH[v] for k, v in dtypes.items()}, **dict(zip(names, map(as_torch, raws)))})
    except RuntimeError as e:
        if "not implemented for" not in str(e) or not used & {"f16", "bf16"}: raise
        wide = lambda name: torch.float32 if name in ("f16", "bf16") else TORCH[name]
        result = eval(expression, {**scope, **{k: wide(v) for k, v in dtypes.items()}, **dict(zip(names, [as_torch(r, wide(r.name)) for r in raws]))})
        return result.to(TORCH[binding.get("T", raws[0].name)]) if result.dtype == torch.float32 else result

def line(test, result):
    if isinstance(result, Raw):
        values, shape, name = result.values, result.shape, result.name
    else:
        if isinstance(result, torch.Tensor):
            name, shape = NAMES[result.dtype], tuple(result.shape)
            values = (result.double() if result.dtype.is_floating_point else result).reshape(-1).tolist()
        else:
            result = np.asarray(result)
            name, shape = NAMES[result.dtype], result.shape
            values = result.reshape(-1).tolist()
    n = len(values)
    checksum = "-"
    if n > SAMPLES:
        checksum = "%.12g" % sum(float(v) * (1 + i % 7) for i, v in enumerate(values) if np.isfinite(float(v)))
        values = [values[i * (n - 1) // (SAMPLES - 1)] for i in range(SAMPLES)]
    kind = {"f16": np.float16, "f32": np.float32, "bf16": np.float32}.get(name)
    show = (lambda v: str(int(v))) if name not in FLOATS else (lambda v: str(kind(v)) if kind else repr(float(v)))
    return "%s %s (%s) %s %s" % (test, name, ",".join(map(str, shape)), checksum, " ".join(map(show, values)))

def main():
    wanted, lines = set(sys.argv[1:]), []
    torch.manual_seed(0)
    for name, inputs, tolerance, gradient, expression in rows():
        if not expression or (wanted and name not in wanted): continue
        for specs, binding in expand(inputs):
            test = "_".join([name, *binding.values()])
            if lines and any(l.startswith(test + " ") for l in lines[-400:]): continue  # sets of a row may overlap
            try:
                lines.append(line(test, evaluate(test, specs, binding, expression, False)))
                if gradient == "GRAD" and binding.get("T", "f32") == "f32" and binding.get("R", "f32") == "f32":
                    for leaf, g in evaluate(test, specs, binding, expression, True): lines.append(line(test + "/grad_" + leaf, g.float()))
            except Exception as e:
                raise SystemExit("%s: %s: %s" % (test, expression, e))
    if wanted:
        print("\n".join(lines))
    else:
        head = "# SPDX-License-Identifier: MIT\n# Written by make_expected.py with PyTorch %s and NumPy %s; see there for the form.\n" % (torch.__version__, np.__version__)
        with open(os.path.join(HERE, "expected.txt"), "w") as f: f.write(head + "\n".join(lines) + "\n")
        print(len(lines), "lines")

main()
