"""What the claims on small networks share: the digits' network with other batches, sizes and labels; tuning a learning rate.

What chooses never judges: a search takes the seeds `SEARCH` and the validation part, figures come from other seeds and the test
part. A search whose best rate lies at the edge of its grid goes on beyond it.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import steepest
from steepest.workbench.digits import FAILED, data, evaluate, initial
from steepest.workbench.training import train
from steepest.workbench.workload import ArrayTask, Workload
from steepest.workbench.workloads.digits_mlp import loss_and_gradients
from steepest.workbench.workloads.sampling import batches

__all__ = ["SEARCH", "WIDEST", "Searched", "best_rate", "digits", "end", "ends", "largest", "rates", "searched"]

SEARCH = (1_000, 1_001)
WIDEST = 6
"""By how many rates at most a search goes beyond its grid."""


def digits(batch: int, steps: int, kept: int | None = None, flipped: float = 0.0) -> Workload:
    """The digits' network on the first ``kept`` examples, of whose labels a share is replaced by random ones."""
    x, y = data()["train"]
    x, y = x[:kept], y[:kept].copy()
    rng = np.random.default_rng(0)
    wrong = rng.random(len(y)) < flipped
    y[wrong] = rng.integers(0, 10, int(wrong.sum()))

    def start(seed: int) -> ArrayTask:
        params = initial(seed)
        order = batches(len(x), min(batch, len(x)), seed)

        def gradients(step: int) -> tuple[float, Mapping[str, Any]]:
            chosen = order(step)
            return loss_and_gradients(params, x[chosen], y[chosen])

        def measures(part: str) -> dict[str, float]:
            loss, accuracy = evaluate(params, part)
            return {"loss": loss, "accuracy": accuracy}

        return ArrayTask(params, gradients, measures)

    return Workload("digits", start, steps=steps, failed=FAILED)


def ends(workload: Workload, chain: steepest.Chain, seed: int) -> tuple[float, float]:
    """The losses after the last step, on validation and test part; where the run failed, that at which it counts as failed."""
    run = train(workload, chain, seed)
    if run.failed:
        return workload.failed, workload.failed
    return float(run.validation[workload.metric]), float(run.test[workload.metric])


def end(workload: Workload, chain: steepest.Chain, seed: int) -> float:
    """The loss on the test part after the last step, as `ends` gives it."""
    return ends(workload, chain, seed)[1]


def rates(low: float, high: float, per_decade: int = 2) -> list[float]:
    """From ``low`` to ``high`` in equal factors."""
    count = round(np.log10(high / low) * per_decade) + 1
    return [float(rate) for rate in np.geomspace(low, high, count)]


@dataclass(frozen=True, slots=True)
class Searched:
    """The rate of least cost; ``inside`` says whether smaller and larger ones were tried."""

    rate: float
    cost: float
    inside: bool

    def __str__(self) -> str:
        return f"{self.rate:.2g}" if self.inside else f"{self.rate:.2g} (at the edge of the search)"


def searched(cost: Callable[[float], float], tried: Sequence[float]) -> Searched:
    """The best of two rates or more; while it lies at the edge, the grid goes on by its last factor, `WIDEST` times at most.

    >>> searched(lambda lr: abs(lr - 8), [1, 2, 4])
    Searched(rate=8.0, cost=0.0, inside=True)
    """
    low, high = min(tried), max(tried)
    factor = high / max(rate for rate in tried if rate < high)
    costs = {rate: cost(rate) for rate in tried}
    best = min(costs, key=costs.__getitem__)
    for _ in range(WIDEST):
        if low < best < high:
            break
        beyond = low / factor if best == low else high * factor
        low, high = min(low, beyond), max(high, beyond)
        costs[beyond] = cost(beyond)
        best = min(costs, key=costs.__getitem__)
    return Searched(best, costs[best], low < best < high)


def largest(trains: Callable[[float], bool], tried: Sequence[float]) -> float:
    """The largest of two rates or more at which it trains, the smallest where it never does; where it trains at the largest, the
    grid goes on by its last factor while it does, `WIDEST` times at most.

    >>> largest(lambda lr: lr < 10, [1, 2])
    8.0
    """
    *smaller, rate = sorted(map(float, tried))
    if not trains(rate):
        return next(filter(trains, reversed(smaller)), smaller[0])
    factor = rate / smaller[-1]
    for _ in range(WIDEST):
        if not trains(rate * factor):
            break
        rate *= factor
    return rate


def best_rate(workload: Workload, make: Callable[[float], steepest.Chain], tried: Sequence[float]) -> Searched:
    """The learning rate with the least median validation loss."""
    return searched(lambda lr: statistics.median(ends(workload, make(lr), s)[0] for s in SEARCH), tried)
