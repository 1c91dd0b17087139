#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Where the polynomials of compiler/codegen/decomp.cc come from: Remez exchange in 60 decimal digits.

Each row of POLYNOMIALS says which function p approximates, where, to which degree, and in which weight the error counts
(weight * (p - f) is what the exchange levels; it is chosen as the relative error that p's error causes in the final result).
Coefficients are rounded to the type that computes with them, lowest first, and the rest is fitted again around each rounded
one, so that the last printed error is that of the numbers that stand in decomp.cc. Needs only the standard library.
usage: minimax.py [NAME ...]
"""
import struct
import sys
from decimal import Decimal as D, getcontext

getcontext().prec = 60
ZERO, ONE, TWO = D(0), D(1), D(2)
LN2 = TWO.ln()
PI = D("3.14159265358979323846264338327950288419716939937510582097494459230781640628620899863")


def series(x, first, ratio):  # sum of terms, term[k+1] = term[k] * ratio(k)
    total, term, k = ZERO, first, 0
    while abs(term) > D(10) ** -65:
        total += term
        term *= ratio(k)
        k += 1
    return total


def erf(x):
    return TWO / PI.sqrt() * (-x * x).exp() * series(x, x, lambda k: 2 * x * x / (2 * k + 3)) if x else ZERO


def erfc(x):
    getcontext().prec = 90
    value = ONE - erf(x)
    getcontext().prec = 60
    return +value


# Tails of series, so that nothing cancels near zero. s stands for x * x.
def exp_tail(x, n):  # (e^x - sum of the first n terms) / x^n
    first = ONE
    for k in range(2, n + 1):
        first /= k
    return series(x, first, lambda k: x / (k + n + 1))


def sin_tail(s):  # (sin x / x - 1) / s
    return series(s, D(-1) / 6, lambda k: -s / ((2 * k + 4) * (2 * k + 5)))


def cos_tail(s):  # (cos x - 1 + s / 2) / s^2
    return series(s, ONE / 24, lambda k: -s / ((2 * k + 5) * (2 * k + 6)))


def log_tail(x):  # (ln(1 + x) - x) / x^2
    if abs(x) < D("0.01"):
        return sum((-1) ** (k + 1) * x**k / (k + 2) for k in range(40))
    return ((ONE + x).ln() - x) / (x * x)


def atanh_tail(s):  # (2 atanh x - 2 x) / x^3
    return series(s, ONE, lambda k: s * (2 * k + 3) / (2 * k + 5)) * TWO / 3


def erf_over_x(s):
    x = s.sqrt()
    return erf(x) / x if x else TWO / PI.sqrt()


def tanh_tail(s):  # (tanh x / x - 1) / s
    x = s.sqrt()
    if x < D("1e-8"):
        return D(-1) / 3
    e = (2 * x).exp()
    return ((e - 1) / (e + 1) / x - 1) / s


def log2_erfc(x):
    return erfc(x).ln() / LN2


HALF_LN2 = LN2 / 2
QUARTER_PI_SQUARED = (PI / 4) ** 2
SQRT_HALF = D("0.5").sqrt()
S_LOG = ((TWO.sqrt() - 1) / (TWO.sqrt() + 1)) ** 2
M = D("1.01")  # reductions overshoot their interval a little

# name: (function, from, to, degree, weight of an error at t, type)
POLYNOMIALS = {
    "exp2_f32": (lambda x: LN2 * exp_tail(x * LN2, 1), D("-.5"), D(".5"), 5, lambda x: x / TWO**x, "f32"),
    "exp_f32": (lambda x: exp_tail(x, 2), -HALF_LN2 * M, HALF_LN2 * M, 4, lambda x: x * x / x.exp(), "f32"),
    "log_f32": (log_tail, SQRT_HALF - 1, TWO.sqrt() - 1, 8, lambda x: x * x / (ONE + x).ln() if x else ZERO, "f32"),
    "sin_f32": (sin_tail, ZERO, QUARTER_PI_SQUARED * M, 2, lambda s: s, "f32"),
    "cos_f32": (cos_tail, ZERO, QUARTER_PI_SQUARED * M, 2, lambda s: s * s, "f32"),
    "tanh_f32": (tanh_tail, ZERO, D("0.16"), 3, lambda s: s, "f32"),
    "erf_f32": (lambda s: erf_over_x(s) - 1, ZERO, D("0.81"), 5, lambda s: ONE, "f32"),
    "log2_erfc_f32": (log2_erfc, D("0.9"), D("4"), 8, lambda x: erfc(x), "f32"),
    "exp2_f64": (lambda x: LN2 * exp_tail(x * LN2, 1), D("-.5"), D(".5"), 11, lambda x: x / TWO**x, "f64"),
    "exp_f64": (lambda x: exp_tail(x, 2), -HALF_LN2 * M, HALF_LN2 * M, 10, lambda x: x * x / x.exp(), "f64"),
    "log_f64": (atanh_tail, ZERO, S_LOG * M, 6, lambda s: s, "f64"),
    "log_long_f64": (lambda s: (atanh_tail(s) - TWO / 3) / s, ZERO, S_LOG * M, 7, lambda s: s * s, "f64"),
    "sin_f64": (sin_tail, ZERO, QUARTER_PI_SQUARED * M, 5, lambda s: s, "f64"),
    "cos_f64": (cos_tail, ZERO, QUARTER_PI_SQUARED * M, 5, lambda s: s * s, "f64"),
    "erf_f64": (lambda s: erf_over_x(s) - 1, ZERO, D("1"), 12, lambda s: ONE, "f64"),
    "log2_erfc_f64": (log2_erfc, D("1"), D("6"), 18, lambda x: erfc(x), "f64"),
}


def solve(rows):  # Gaussian elimination with pivoting on [a | b]
    n = len(rows)
    for i in range(n):
        p = max(range(i, n), key=lambda r: abs(rows[r][i]))
        rows[i], rows[p] = rows[p], rows[i]
        for r in range(i + 1, n):
            f = rows[r][i] / rows[i][i]
            if f:
                rows[r] = [a - f * b for a, b in zip(rows[r], rows[i])]
    x = [ZERO] * n
    for i in reversed(range(n)):
        x[i] = (rows[i][n] - sum(rows[i][k] * x[k] for k in range(i + 1, n))) / rows[i][i]
    return x


def cosine(i, n):  # of pi * i / n
    x = PI * i / n
    return series(x * x, ONE, lambda k: -x * x / ((2 * k + 1) * (2 * k + 2)))


def remez(grid, f, w, first, degree):
    """Coefficients first … degree of the best p on the grid, and its largest weighted error."""
    count = degree - first + 1
    points = [round((1 - float(cosine(i, count))) / 2 * (len(grid) - 1)) for i in range(count + 1)]
    for _ in range(30):
        rows = [[w[i] * (grid[i] ** k if k else ONE) for k in range(first, degree + 1)] + [D((-1) ** j), w[i] * f[i]]
                for j, i in enumerate(points)]
        c = solve(rows)[:count]
        error = []
        for t, fi, wi in zip(grid, f, w):
            p = ZERO
            for ck in reversed(c):
                p = p * t + ck
            error.append(wi * (p * (t**first if first else ONE) - fi))
        peaks = []  # the largest of each run of one sign
        for i, e in enumerate(error):
            if not e:
                continue
            if peaks and (error[peaks[-1]] > 0) == (e > 0):
                if abs(e) > abs(error[peaks[-1]]):
                    peaks[-1] = i
            else:
                peaks.append(i)
        while len(peaks) > count + 1:
            peaks.pop(0 if abs(error[peaks[0]]) < abs(error[peaks[-1]]) else -1)
        if len(peaks) < count + 1 or peaks == points:
            break
        points = peaks
    return c, max(map(abs, error))


def fit(name):
    function, low, high, degree, weight, kind = POLYNOMIALS[name]
    n = 40 * (degree + 2)
    grid = [(low + high) / 2 - (high - low) / 2 * cosine(i, n) for i in range(n + 1)]
    grid = [t for t in grid if weight(t)]
    f, w = [function(t) for t in grid], [weight(t) for t in grid]
    done = []
    for k in range(degree + 1):
        again, error = remez(grid, f, w, k, degree)
        if k == 0:
            c, best, ideal = again, error, error
        else:  # what is left of the last fit, unless the exchange found better
            c = c[1:]
            best = max(abs(wi * (fi - sum(cj * t ** (k + j) for j, cj in enumerate(c)))) for t, fi, wi in zip(grid, f, w))
            if error < best:
                c, best = again, error
        value = float(c[0])
        if kind == "f32":
            value = struct.unpack("f", struct.pack("f", value))[0]
        done.append(value)
        f = [fi - D(value) * (t**k if k else ONE) for fi, t in zip(f, grid)]
    reached = max(abs(a * b) for a, b in zip(f, w))
    digits = 9 if kind == "f32" else 17
    print(f"// {name}: error {float(reached):.2g} (best {float(ideal):.2g})")
    print("{" + ", ".join(f"{v:.{digits}g}" for v in done) + "}")


for name in sys.argv[1:] or POLYNOMIALS:
    fit(name)
