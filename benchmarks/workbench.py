"""What the workbench adds to a workload's own training, and what a second process saves.

«plain» is a workload's training loop as one would write it: its task's gradients, a step of the optimizer, now and then an
evaluation, with averaged weights where there are any. «workbench» is the same run by `train`: losses and times kept, failures
looked for, rates noted, the record made. Evaluations answer at once on both sides, so that the harness's part can't hide
behind them. Both run alternately in one process on one thread, in turns of who goes first; «best» compares the fastest
rounds, «median» is the median of the rounds' ratios.

Then the whole of `steepest compare` on the digits, from the command to the page, by one process and by two, alternately;
what came out must be the same bit for bit.

    python benchmarks/workbench.py [--rounds 30] [--comparisons 3]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from limit import machine, seconds

from steepest.workbench.parse import parse
from steepest.workbench.processes import one_thread
from steepest.workbench.training import EVALUATIONS, optimizer_for, train
from steepest.workbench.workload import Task, Workload, find

ROWS: dict[str, tuple[str, int]] = {
    "digits-mlp": ("sgd(0.1)", 400),
    "digits-mlp, adamw | ema": ("adamw(1e-3) | ema(0.95)", 400),
    "autoencoder": ("adam(1e-3)", 100),
    "rnn-memory": ("adam(1e-3)", 200),
}
"""The chain and the steps of each row, named by its workload; the cheapest optimizers leave a harness the least to hide behind."""
HARNESS, PROCESSES = 1.03, 1.8
"""The bars: the longest that a run by the workbench may take, of a plain one; how much faster two processes must be."""


# ---- the harness


def quick(name: str, steps: int) -> Workload:
    """The workload with another budget, and evaluations that answer at once."""
    work = find(name).with_steps(steps)

    def start(seed: int) -> Task:
        task: Any = work.start(seed)
        task.evaluation = lambda part: {work.metric: 0.0}
        return task  # type: ignore[no-any-return]  # both kinds have the attribute, which the protocol doesn't ask for

    return replace(work, start=start)


def plain(work: Workload, text: str) -> None:
    """The run without a workbench."""
    task = work.start(0)
    optimizer = optimizer_for(task, parse(text))
    for step in range(work.steps):
        _, grads = task.gradients(step)
        optimizer.step() if grads is None else optimizer.step(grads)
        if (step + 1) % (work.steps // EVALUATIONS) == 0:
            with optimizer.using("average") if "ema" in text else nullcontext():
                task.evaluate("validation")


def alternately(one: Callable[[], Any], other: Callable[[], Any], rounds: int) -> tuple[list[float], list[float]]:
    """The seconds of both, round by round, in turns of which goes first."""
    first, second = [], []
    for number in range(rounds):
        if number % 2:
            second.append(seconds(other))
            first.append(seconds(one))
        else:
            first.append(seconds(one))
            second.append(seconds(other))
    return first, second


def harness(name: str, rounds: int) -> str:
    text, steps = ROWS[name]
    work = quick(name.partition(",")[0], steps)

    def by_workbench() -> None:
        assert not train(work, parse(text), 0).failed

    for run in (lambda: plain(work, text), by_workbench):
        run()
    own, ours = alternately(lambda: plain(work, text), by_workbench, rounds)
    best = min(ours) / min(own)
    middle = statistics.median(b / a for a, b in zip(own, ours, strict=True))
    return (
        f"{name:28}{1e6 * min(own) / steps:10.1f}{1e6 * min(ours) / steps:11.1f}{best - 1:10.2%}{middle - 1:9.2%}"
        f"{HARNESS - 1:7.0%}  {'yes' if best <= HARNESS else 'NO'}"
    )


# ---- processes


def compared(jobs: int, folder: Path) -> float:
    """Seconds of `steepest compare` on the digits; its results lie in the folder."""
    command = ["compare", "--jobs", str(jobs), "--output", str(folder)]
    before = time.perf_counter()
    subprocess.run([sys.executable, "-m", "steepest.workbench.cli", *command], check=True, capture_output=True)
    return time.perf_counter() - before


def outcome(folder: Path) -> Any:
    """All that came out but the times."""
    entries = json.loads((folder / "results.json").read_text())["entries"]
    for entry in entries:
        for run in entry["runs"]:
            for timed in ("seconds", "evaluation_seconds", "step_microseconds"):
                del run[timed]
    return entries


def processes(rounds: int) -> str:
    with tempfile.TemporaryDirectory() as folder:
        one, two = Path(folder) / "one", Path(folder) / "two"
        single, double = alternately(lambda: compared(1, one), lambda: compared(2, two), rounds)
        same = outcome(one) == outcome(two)
    best = min(single) / min(double)
    middle = statistics.median(a / b for a, b in zip(single, double, strict=True))
    met = "yes" if best >= PROCESSES and same else "NO"
    return (
        f"steepest compare on the digits: one process {min(single):.1f} s, two {min(double):.1f} s; "
        f"{best:.2f} times faster, median {middle:.2f} (bar {PROCESSES}); the same numbers: {'yes' if same else 'NO'}; met: {met}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--comparisons", type=int, default=3, help="rounds of whole comparisons; 0 for none")
    given = parser.parse_args()
    load = ""
    with suppress(OSError, AttributeError):
        load = f", load average {os.getloadavg()[0]:.2f}"
    print(f"{machine()}{load}")
    print(f"{'microseconds for a step':28}{'plain':>10}{'workbench':>11}{'best':>10}{'median':>9}{'bar':>7}  met")
    with one_thread():
        for name in ROWS:
            print(harness(name, given.rounds), flush=True)
    if given.comparisons:
        print(processes(given.comparisons))


if __name__ == "__main__":
    main()
