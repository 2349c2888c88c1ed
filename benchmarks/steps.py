"""How long a step takes, beside the time that its bytes alone need.

For each rule: milliseconds for 25 tensors of a million float32 each, bytes per parameter as the plan counts them, and the
ratio to a plain streaming kernel that reads and writes as many buffers, pass by pass, in place, on as many threads. Both run
alternately in one process; «best» compares the fastest rounds, «median» is the median of the rounds' ratios. NumPy written
by hand, as in a tutorial, stands beside it. Then many small tensors, and the first step of a process.

    python benchmarks/steps.py [--dtype float64] [--rounds 15] [--only "adam;lamb"] [--json docs/figures.json]

The documentation's pages of the rules take their figures from the file that ``--json`` writes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from limit import BUFFERS, SHAPE, TENSORS, limits_of, machine, seconds

import steepest
import steepest.numpy as opt

K = 5

ROWS: dict[str, tuple[Callable[[], steepest.Chain], float]] = {
    "sgd": (lambda: steepest.sgd(1e-3), 1.15),
    "sgd, momentum": (lambda: steepest.sgd(1e-3, 0.9), 1.15),
    "adagrad": (lambda: steepest.adagrad(1e-3), 1.15),
    "rmsprop": (lambda: steepest.rmsprop(1e-3), 1.15),
    "adam": (lambda: steepest.adam(1e-3), 1.15),
    "adamw": (lambda: steepest.adamw(1e-3), 1.15),
    "radam": (lambda: steepest.radam(1e-3), 1.15),
    "nadam": (lambda: steepest.nadam(1e-3), 1.15),
    "adamax": (lambda: steepest.adamax(1e-3), 1.15),
    "adadelta": (lambda: steepest.adadelta(1e-3), 1.15),
    "lion": (lambda: steepest.lion(1e-4), 1.15),
    "lamb": (lambda: steepest.lamb(1e-3, weight_decay=0.01), 1.25),
    "lars": (lambda: steepest.lars(1e-3), 1.25),
    "agc + sgd, momentum": (lambda: steepest.chain(steepest.adaptive_grad_clip(0.01), steepest.sgd(1e-3, 0.9)), 1.3),
    "agc + sgd": (lambda: steepest.chain(steepest.adaptive_grad_clip(0.01), steepest.sgd(1e-3)), 1.3),
    "lookahead(adam, k=5)": (lambda: steepest.chain(steepest.adam(1e-3), steepest.lookahead(K, 0.5)), 1.15),
    "clip + adamw + ema": (
        lambda: steepest.chain(steepest.clip_by_global_norm(1.0), steepest.adamw(1e-3), steepest.ema(0.999)),
        1.2,
    ),
}


# ---- by hand, as in a tutorial


def by_hand(name: str, params: list[np.ndarray], grads: list[np.ndarray]) -> Callable[[], None] | None:
    m = [np.zeros_like(p) for p in params]
    v = [np.zeros_like(p) for p in params]
    lr = params[0].dtype.type(1e-3)

    def sgd() -> None:
        for p, g in zip(params, grads, strict=True):
            p -= lr * g

    def momentum() -> None:
        for i, (p, g) in enumerate(zip(params, grads, strict=True)):
            m[i] = 0.9 * m[i] + g
            p -= lr * m[i]

    def rmsprop() -> None:
        for i, (p, g) in enumerate(zip(params, grads, strict=True)):
            v[i] = 0.99 * v[i] + 0.01 * g**2
            p -= lr * g / (np.sqrt(v[i]) + 1e-8)

    def adam() -> None:
        for i, (p, g) in enumerate(zip(params, grads, strict=True)):
            m[i] = 0.9 * m[i] + 0.1 * g
            v[i] = 0.999 * v[i] + 0.001 * g**2
            p -= lr * (m[i] / 0.5) / (np.sqrt(v[i] / 0.5) + 1e-8)

    def lamb() -> None:
        for i, (p, g) in enumerate(zip(params, grads, strict=True)):
            m[i] = 0.9 * m[i] + 0.1 * g
            v[i] = 0.999 * v[i] + 0.001 * g**2
            u = (m[i] / 0.5) / (np.sqrt(v[i] / 0.5) + 1e-6) + 0.01 * p
            p -= lr * np.linalg.norm(p) / np.linalg.norm(u) * u

    return {"sgd": sgd, "sgd, momentum": momentum, "rmsprop": rmsprop, "adam": adam, "lamb": lamb}.get(name)


# ---- measuring


def large(name: str, dtype: str, rounds: int, pool: list[list[np.ndarray]]) -> dict[str, Any]:
    make, bar = ROWS[name]
    rng = np.random.default_rng(0)
    params = [rng.normal(size=SHAPE).astype(dtype) for _ in range(TENSORS)]
    grads = [(1e-3 * rng.normal(size=SHAPE)).astype(dtype) for _ in range(TENSORS)]
    optimizer = opt.Optimizer(params, make())
    repeat = K if "lookahead" in name else 1
    for _ in range(10 + (-10) % repeat):
        optimizer.step(grads)
    limits, size = limits_of(optimizer.plan[0], pool, repeat)
    for limit in limits:
        limit()
    ours, bound, ratios = [], [], []
    for _ in range(rounds):
        a = sum(seconds(lambda: optimizer.step(grads)) for _ in range(repeat)) / repeat
        b = sum(seconds(limit) for limit in limits) / repeat
        ours.append(a)
        bound.append(b)
        ratios.append(a / b)
    hand = by_hand(name, params, grads)
    return {
        "name": name,
        "chain": str(make()),
        "bytes": size,
        "best_ms": min(ours) * 1e3,
        "median_ms": statistics.median(ours) * 1e3,
        "limit_gb_per_s": size * TENSORS * SHAPE[0] * SHAPE[1] / min(bound) / 1e9,
        "best_ratio": min(ours) / min(bound),
        "median_ratio": statistics.median(ratios),
        "bar": bar,
        "by_hand_ms": min(seconds(hand) for _ in range(3)) * 1e3 if hand else None,
    }


def line(row: dict[str, Any]) -> str:
    met = "yes" if row["best_ratio"] <= row["bar"] else "NO"
    hand = "        -" if row["by_hand_ms"] is None else f"{row['by_hand_ms']:9.1f}"
    return (
        f"{row['name']:24}{row['best_ms']:9.2f}{row['median_ms']:9.2f}{row['bytes']:8.4g}{row['limit_gb_per_s']:8.1f}"
        f"{row['best_ratio']:8.2f}{row['median_ratio']:8.2f}{row['bar']:7.2f}  {met:4}{hand}"
    )


def small(rounds: int = 300) -> str:
    rng = np.random.default_rng(0)
    lines = []
    for name in ("sgd", "adam", "lamb", "clip + adamw + ema"):
        params = [rng.normal(size=64).astype(np.float32) for _ in range(200)]
        optimizer = opt.Optimizer(params, ROWS[name][0]())
        sets = [[rng.normal(size=64).astype(np.float32) for _ in range(200)] for _ in range(4)]
        for grads in sets:
            optimizer.step(grads)
        times = [seconds(partial(optimizer.step, sets[i % 4])) for i in range(rounds)]
        lines.append(f"{name:24}{min(times) * 1e3:9.3f}{statistics.median(times) * 1e3:9.3f}   bar 0.1 ms")
    return "\n".join(lines)


_FIRST = """
import time; start = time.perf_counter()
import numpy as np
base = time.perf_counter()
import steepest
imported = time.perf_counter()
import steepest.numpy as opt
optimizer = opt.Adam([np.ones((100, 100), dtype=np.float32)], lr=1e-3)
grads = [np.ones((100, 100), dtype=np.float32)]
begun = time.perf_counter()
optimizer.step(grads)
print(imported - base, time.perf_counter() - base, time.perf_counter() - begun)
"""


def first() -> str:
    def once(folder: str) -> tuple[float, ...]:
        environment = {**os.environ, "STEEPEST_CACHE_DIR": folder}
        done = subprocess.run(
            [sys.executable, "-c", _FIRST], env=environment, capture_output=True, text=True, check=True
        )
        return tuple(map(float, done.stdout.split()))

    with tempfile.TemporaryDirectory() as folder:
        cold = once(folder)
        warm = [once(folder) for _ in range(5)]
    best = [min(column) for column in zip(*warm, strict=True)]
    middle = [statistics.median(column) for column in zip(*warm, strict=True)]
    return (
        f"first Adam step, cold cache: {cold[2]:.2f} s (bar 5 s); with all imports {cold[1]:.2f} s\n"
        f"first Adam step, warm cache: best {best[2]:.2f}, median {middle[2]:.2f} s (bar 1 s); "
        f"with all imports {middle[1]:.2f} s\n"
        f"import steepest, after NumPy: best {best[0] * 1e3:.0f}, median {middle[0] * 1e3:.0f} ms (bar 150 ms)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", default="", help="names of rows, separated by ';'")
    parser.add_argument("--json", type=Path, help="write the figures of the large tensors to this file as well")
    given = parser.parse_args()
    pool = [[np.zeros(SHAPE, dtype=given.dtype).reshape(-1) for _ in range(BUFFERS)] for _ in range(TENSORS)]
    for buffers in pool:
        for b in buffers:
            b[:] = 1.0
    print(machine())
    print(
        f"{TENSORS} tensors of {SHAPE[0] * SHAPE[1]:,} {given.dtype}; times in ms; limit in GB/s; ratios to the limit"
    )
    print(
        f"{'rule':24}{'best':>9}{'median':>9}{'bytes':>8}{'limit':>8}{'ratio':>8}{'median':>8}{'bar':>7}  {'met':4}{'by hand':>9}"
    )
    wanted = [n.strip() for n in given.only.split(";") if n.strip()] or list(ROWS)
    rows = []
    for name in wanted:
        rows.append(large(name, given.dtype, given.rounds, pool))
        print(line(rows[-1]), flush=True)
    if given.json:
        for row in rows:
            row.update({key: float(f"{v:.4g}") for key, v in row.items() if isinstance(v, float)})
        said = {"machine": machine(), "tensors": TENSORS, "shape": SHAPE, "dtype": given.dtype, "rounds": given.rounds}
        given.json.write_text(json.dumps({**said, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    if not given.only:
        print(f"\n200 tensors of 64 float32, a step with Python: best, median in ms\n{small()}\n\n{first()}")


if __name__ == "__main__":
    main()
