"""Rules for loss spikes on healthy trainings: how many batches each would have left out, and how large a rise it would have seen.

Every batch's loss of a few of the workbench's workloads under AdamW and SGD at their usual rates. A rule sees the losses that it
has let pass. «sees» is how far above the median of the last hundred a loss must lie to be a spike, as a share of what the loss
has fallen by since its start: the median over the steps from the hundredth.

    python benchmarks/spike_rules.py [--steps 1500] [--only digits-mlp,char-gpt]
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable, Sequence

import numpy as np

import steepest
from steepest.monitor.guard.spikes import FACTOR, WARMUP, WINDOW, beyond_the_worst
from steepest.workbench.training import optimizer_for
from steepest.workbench.workload import find

Rule = Callable[[Sequence[float], float], float]
WORKLOADS = ("digits-mlp", "diamonds", "unicode-bow", "mnist-cnn", "rnn-memory-order", "rnn-memory", "char-gpt")
OPTIMIZERS: dict[str, Callable[[float], steepest.Chain]] = {
    "adamw": lambda lr: steepest.adamw(lr),
    "sgd": lambda lr: steepest.sgd(lr),
}


def deviations(count: float) -> Rule:
    def limit(past: Sequence[float], start: float) -> float:
        near = past[-WINDOW:]
        middle = statistics.median(near)
        return middle + count * 1.4826 * statistics.median(abs(x - middle) for x in near)

    return limit


RULES: dict[str, Rule] = {
    "twice the mean of 10": lambda past, start: 2 * statistics.fmean(past[-10:]),
    "Lightning: mean of 10 + twice it": lambda past, start: 3 * statistics.fmean(past[-10:]),
    "7 standard deviations, 1000": lambda past, start: statistics.fmean(past) + 7 * float(np.std(past)),
    "10 deviations above the median, 100": deviations(10),
    "2 times as far as the worst of 100": lambda past, start: beyond_the_worst(past[-WINDOW:], start, 2.0),
    "3 times as far as the worst of 100": lambda past, start: beyond_the_worst(past[-WINDOW:], start, FACTOR),
}


def losses_of(name: str, optimizer: str, steps: int) -> list[float]:
    work = find(name)
    task = work.start(0)
    stepped = optimizer_for(task, OPTIMIZERS[optimizer](work.rates[optimizer]))
    on_arrays = all(isinstance(p, np.ndarray) for p in task.params.values())
    found: list[float] = []
    with np.errstate(all="ignore"):
        for step in range(steps):
            loss, grads = task.gradients(step)
            if not math.isfinite(loss):
                return found
            found.append(loss)
            stepped.step(grads) if on_arrays else stepped.step()
    return found


def judged(losses: Sequence[float], rule: Rule) -> tuple[int, float]:
    """Batches left out, and the smallest rise that would have been seen."""
    past: list[float] = []
    alarms, seen = 0, []
    start = math.nan
    for step, loss in enumerate(losses):
        limit = math.inf
        if len(past) >= WARMUP:
            start = statistics.median(past) if math.isnan(start) else start
            limit = rule(past[-1000:], start)
        if loss > limit:
            alarms += 1
            continue
        past.append(loss)
        if step >= WINDOW:
            middle = statistics.median(past[-WINDOW:])
            seen.append((limit - middle) / (start - middle) if start > middle else math.nan)
    return alarms, float(np.nanmedian(seen)) if np.isfinite(seen).any() else math.nan


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--only", default=",".join(WORKLOADS))
    arguments = parser.parse_args()
    curves = {f"{n} {o}": losses_of(n, o, arguments.steps) for n in arguments.only.split(",") for o in OPTIMIZERS}
    curves = {name: losses for name, losses in curves.items() if len(losses) == arguments.steps}  # others diverged
    total = sum(map(len, curves.values()))
    print(f"{len(curves)} trainings, {total} batches")
    for name, rule in RULES.items():
        found = [judged(losses, rule) for losses in curves.values()]
        worst = max(range(len(found)), key=lambda i: found[i][0])
        sees = statistics.median(s for _, s in found if not math.isnan(s))
        print(
            f"{name:38}{sum(a for a, _ in found):6} left out, most {found[worst][0]:4} ({list(curves)[worst]}), sees {sees:.2f}"
        )


if __name__ == "__main__":
    main()
