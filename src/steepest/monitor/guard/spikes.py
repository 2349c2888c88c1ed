"""When a loss is a spike: the rule, and the memory of losses that it needs.

A loss is one where it lies three times as far above the median as the worst of the last hundred good ones did, and by at least
a twentieth of what the loss has fallen since the start. The worst loss says how wide the losses of this training scatter
whatever their distribution, so small batches and a loss near 0 raise no alarm; a spike itself is no good loss and moves nothing.

Rejected, by the batches that they leave out of 13 healthy trainings of 1500 (``benchmarks/spike_rules.py``): twice the mean of the
last ten, one batch in 7; Lightning's `SpikeDetection`, three times that mean, one in 20; ten deviations above the median, by the
median deviation, one in 180; seven standard deviations above the mean of the last thousand (OLMo 2), 4 in all, but there a loss
must rise by twice what it has fallen to be a spike. This rule leaves out none, and sees rises of a quarter of the fall.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any, TypeAlias

__all__ = ["FACTOR", "WARMUP", "WINDOW", "Limit", "Losses", "beyond_the_worst"]

WINDOW = 100
WARMUP = 20
"""Losses before the first limit; their median is where training started."""
FACTOR = 3.0
FALL = 0.05

Limit: TypeAlias = Callable[[Sequence[float]], float]
"""Given the last good losses, the newest last, the limit above which the next one is a spike."""


def beyond_the_worst(past: Sequence[float], start: float, factor: float = FACTOR) -> float:
    """``median + max(factor * (worst - median), (start - median) / 20)`` of the last good losses.

    Infinite where half of them are the lowest: so they are where a loss is 0 for most batches (hinge, triplets), and then the few
    others, which alone have a gradient, are no spikes.

    >>> beyond_the_worst([1.0, 1.5, 1.1, 0.9, 1.0], start=3.0)
    2.5
    """
    middle = median(past)
    if middle == min(past):
        return math.inf
    return middle + max(factor * (max(past) - middle), FALL * (start - middle))


class Losses:
    """The last good losses, and the limit that they set.

    ``rule`` is the factor of `beyond_the_worst`, a `Limit`, or None for no limit at all.
    """

    def __init__(self, rule: float | Limit | None) -> None:
        self.rule = rule
        self.past: deque[float] = deque(maxlen=WINDOW)
        self.start = math.nan

    def limit(self) -> float:
        """Infinite during the warm-up."""
        if self.rule is None or math.isnan(self.start):
            return math.inf
        return (
            float(self.rule(list(self.past)))
            if callable(self.rule)
            else beyond_the_worst(self.past, self.start, self.rule)
        )

    def width(self) -> float:
        """How far above the median the worst of the last good losses lies."""
        return max(self.past) - median(self.past) if self.past else 0.0

    def forget(self) -> None:
        """Begin a new warm-up."""
        self.past.clear()
        self.start = math.nan

    def add(self, loss: float) -> None:
        self.past.append(loss)
        if math.isnan(self.start) and len(self.past) == WARMUP:
            self.start = median(self.past)

    def state_dict(self) -> dict[str, Any]:
        return {"past": list(self.past), "start": self.start}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.past = deque(state["past"], maxlen=WINDOW)
        self.start = state["start"]
