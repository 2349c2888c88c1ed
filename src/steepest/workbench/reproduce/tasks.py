"""What the claims on small networks share: the digits' network with other batches, sizes and labels; tuning a learning rate.

Seeds that choose are never those that judge: a search takes `SEARCH` on the validation part, figures come from the test part.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

import steepest
from steepest.workbench.digits import FAILED, data, evaluate, initial
from steepest.workbench.training import train
from steepest.workbench.workload import ArrayTask, Workload
from steepest.workbench.workloads.digits_mlp import loss_and_gradients
from steepest.workbench.workloads.sampling import batches

__all__ = ["SEARCH", "best_rate", "digits", "end", "rates"]

SEARCH = (1_000, 1_001)


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


def end(workload: Workload, chain: steepest.Chain, seed: int, part: str = "test") -> float:
    """The loss on a part after the last step; the loss at which a run counts as failed where it has failed."""
    run = train(workload, chain, seed)
    return workload.failed if run.failed else float((run.test if part == "test" else run.validation)[workload.metric])


def rates(low: float, high: float, per_decade: int = 2) -> list[float]:
    """From ``low`` to ``high`` in equal factors."""
    count = round(np.log10(high / low) * per_decade) + 1
    return [float(rate) for rate in np.geomspace(low, high, count)]


def best_rate(
    workload: Workload, make: Callable[[float], steepest.Chain], tried: Iterable[float], seeds: Sequence[int] = SEARCH
) -> float:
    """The learning rate with the least median validation loss."""
    return min(tried, key=lambda lr: statistics.median(end(workload, make(lr), s, "validation") for s in seeds))
