"""Time steps in which something has changed since the step before, as ratios to torch.optim.

A regular step reads addresses and runs. These cases are not regular: other gradients are missing at each step (mixture of
experts), parameters have other memory (``p.data = …``), one gradient is sparse, groups are added, gradients are clipped in place.
Ours and torch's run alternately in one process, each on parameters of its own. Gradients and memory are exchanged outside of the
timed part. "best" and "median" are over rounds; a ratio below 1 means that ours takes less time. The last column is the limit: the
time in which the bytes of the step's buffers cross memory at the measured bandwidth.
The last table compares ours with itself: steps before which ``lr`` is written, and steps with a constant ``lr``.

    python benchmarks/changing_steps.py [--rounds 60] [--only "missing;sparse"]
"""

from __future__ import annotations

import argparse
import random
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from limit import machine, seconds

import steepest.numpy
import steepest.torch as opt

COUNT, SHAPE = 200, (64, 64)
Timed = Callable[[], float]


def timed(step: Callable[[], Any]) -> float:
    """The seconds that one call takes."""
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def tensors(count: int = COUNT, shape: tuple[int, ...] = SHAPE) -> tuple[list[torch.nn.Parameter], list[torch.Tensor]]:
    """Parameters and a gradient for each."""
    generator = torch.Generator().manual_seed(0)
    params = [torch.nn.Parameter(torch.randn(shape, generator=generator)) for _ in range(count)]
    return params, [torch.randn(shape, generator=generator) for _ in params]


def at_rest(library: Any) -> Timed:
    """AdamW with the same gradients at each step."""
    params, grads = tensors()
    optimizer = library.AdamW(params)
    for p, g in zip(params, grads, strict=True):
        p.grad = g
    return lambda: timed(optimizer.step)


def missing(library: Any) -> Timed:
    """AdamW with gradients for another random half of the parameters at each step."""
    params, grads = tensors()
    optimizer, draw = library.AdamW(params), random.Random(0)

    def run() -> float:
        for p, g in zip(params, grads, strict=True):
            p.grad = g if draw.random() < 0.5 else None
        return timed(optimizer.step)

    return run


def moved(library: Any) -> Timed:
    """AdamW with ``p.data = …`` for all parameters before each step."""
    params, grads = tensors()
    optimizer, other = library.AdamW(params), [p.detach().clone() for p in params]

    def run() -> float:
        nonlocal other
        now = [p.data for p in params]
        for p, g, data in zip(params, grads, other, strict=True):
            p.data, p.grad = data, g
        other = now
        return timed(optimizer.step)

    return run


def sparse(library: Any, name: str = "SGD") -> Timed:
    """SGD with one sparse gradient of 64 rows among dense ones."""
    params, grads = tensors()
    table = torch.nn.Parameter(torch.zeros(1000, 64))
    optimizer = getattr(library, name)([table, *params], lr=0.1)
    rows = torch.arange(64)[None]
    grads = [torch.sparse_coo_tensor(rows, torch.ones(64, 64), (1000, 64), check_invariants=True).coalesce(), *grads]

    def run() -> float:
        for p, g in zip([table, *params], grads, strict=True):
            p.grad = g
        return timed(optimizer.step)

    return run


def sparse_adagrad(library: Any) -> Timed:
    """Adagrad with one sparse gradient of 64 rows among dense ones."""
    return sparse(library, "Adagrad")


def added(library: Any) -> Timed:
    """200 calls of ``add_param_group``."""

    def run() -> float:
        params, _ = tensors(COUNT + 1, (4,))
        optimizer = library.AdamW(params[:1])
        return timed(lambda: [optimizer.add_param_group({"params": [p]}) for p in params[1:]])

    return run


def clipped(library: Any) -> Timed:
    """``clip_grad_value_`` in place."""
    params, grads = tensors()
    for p, g in zip(params, grads, strict=True):
        p.grad = g
    clip = opt.clip_grad_value_ if library is opt else torch.nn.utils.clip_grad_value_
    return lambda: timed(lambda: clip(params, 0.5))


def clipped_large(library: Any) -> Timed:
    """``clip_grad_value_`` in place, 10 gradients of a million elements."""
    params, grads = tensors(10, (1000, 1000))
    for p, g in zip(params, grads, strict=True):
        p.grad = g
    clip = opt.clip_grad_value_ if library is opt else torch.nn.utils.clip_grad_value_
    return lambda: timed(lambda: clip(params, 0.5))


CASES: dict[str, tuple[Callable[[Any], Timed], float, float]] = {
    # The case, the bar for its ratio, and the megabytes that must cross memory.
    "at rest": (at_rest, 1.0, COUNT * 4096 * 28 / 1e6),
    "missing gradients": (missing, 1.0, COUNT * 4096 * 14 / 1e6),
    "moved parameters": (moved, 1.0, COUNT * 4096 * 28 / 1e6),
    "sparse, SGD": (sparse, 1.0, (COUNT + 1) * 4096 * 12 / 1e6),
    "sparse, Adagrad": (sparse_adagrad, 1.0, (COUNT + 1) * 4096 * 20 / 1e6),
    "add_param_group": (added, 10.0, 0.0),
    "clip_grad_value_": (clipped, 1.0, COUNT * 4096 * 8 / 1e6),
    "clip_grad_value_, large": (clipped_large, 1.0, 10 * 8.0),
}


def stepping(front: str) -> tuple[Timed, Timed]:
    """AdamW on 200 tensors of 64 with another ``lr`` at each step, and with the same one."""

    def made() -> tuple[Any, Callable[[], Any]]:
        if front == "NumPy":
            params, grads = ([np.ones(64, dtype=np.float32) for _ in range(COUNT)] for _ in range(2))
            optimizer: Any = steepest.numpy.AdamW(params)
            return optimizer, lambda: optimizer.step(grads)
        weights, gradients = tensors(COUNT, (64,))
        for p, g in zip(weights, gradients, strict=True):
            p.grad = g
        optimizer = opt.AdamW(weights)
        return optimizer, optimizer.step

    def with_another_lr() -> None:
        nonlocal number
        number += 1
        written.param_groups[0]["lr"] = 1e-3 / number
        step()

    number, (written, step), (_, constant) = 0, made(), made()
    return lambda: timed(with_another_lr), lambda: timed(constant)


def import_seconds(code: str) -> float:
    """The least time of three new processes that run a line."""
    return min(timed(lambda: subprocess.run([sys.executable, "-c", code], check=True)) for _ in range(3))


def main() -> None:
    """Print a row for each case."""
    parser = argparse.ArgumentParser(description="time steps in which something has changed, beside torch.optim")
    parser.add_argument("--rounds", type=int, default=60, help="timed steps per case (default: 60)")
    parser.add_argument("--only", default="", help="names of cases, or parts of them, separated by ; (default: all)")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    print(machine())
    source, target = np.ones(1 << 24, dtype=np.float32), np.empty(1 << 24, dtype=np.float32)
    bandwidth = 2 * source.nbytes / 1e6 / min(seconds(lambda: np.copyto(target, source)) for _ in range(6))
    print(f"{'':26}{'ours, ms':>20}{'torch, ms':>20}{'ratio':>14}{'bar':>6}{'limit, ms':>11}")
    print(f"{'':26}{'best   median':>20}{'best   median':>20}{'best median':>14}")
    for name, (make, bar, megabytes) in CASES.items():
        if given.only and not any(part in name for part in given.only.split(";")):
            continue
        both = make(opt), make(torch.optim)
        rounds = max(3, given.rounds // 10) if name == "add_param_group" else given.rounds
        for run in both * 3:
            run()
        pairs = [(both[0](), both[1]()) for _ in range(rounds)]
        ours, theirs = ([pair[side] * 1e3 for pair in pairs] for side in (0, 1))
        middle = statistics.median(a / b for a, b in pairs)
        print(
            f"{name:26}{min(ours):12.2f}{statistics.median(ours):8.2f}{min(theirs):12.2f}{statistics.median(theirs):8.2f}"
            f"{min(ours) / min(theirs):8.2f}{middle:6.2f}{bar:6.0f}{megabytes / bandwidth * 1e3:11.2f}"
        )
    if not given.only or "lr" in given.only:
        print(f"\n{'':26}{'lr written, ms':>20}{'lr constant, ms':>20}{'ratio':>14}{'bar':>6}")
        for front in ("NumPy", "torch"):
            runs = stepping(front)
            for run in runs * 3:
                run()
            pairs = [(runs[0](), runs[1]()) for _ in range(10 * given.rounds)]
            other, same = ([pair[side] * 1e3 for pair in pairs] for side in (0, 1))
            middle = statistics.median(a / b for a, b in pairs)
            print(
                f"{front + ', lr written':26}{min(other):12.3f}{statistics.median(other):8.3f}"
                f"{min(same):12.3f}{statistics.median(same):8.3f}{min(other) / min(same):8.2f}{middle:6.2f}{1.3:6.1f}"
            )
    if not given.only:
        plain, whole = import_seconds("import torch"), import_seconds("import steepest.torch")
        print(f"import steepest.torch: {whole:.2f} s; import torch alone: {plain:.2f} s")


if __name__ == "__main__":
    main()
