"""The curve of a range test: collected loss by loss, ended where it diverges, and read by the rules that suggest a rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import fmean, median

from steepest.checks import Range, check_number
from steepest.workbench.lr_results import RangeTest
from steepest.workbench.words import counted

__all__ = ["Watch", "suggestions", "watch_over"]

DIVERGED = 4.0
"""A range test ends where the smoothed loss is more than so many times the lowest."""


@dataclass(slots=True)
class Watch:
    """The losses of a range test as they come in, and whether it should go on."""

    what: str
    rates: list[float]
    smoothing: float
    average: float = 0.0
    initial: float = math.nan
    losses: list[float] = field(default_factory=list)
    curve: list[float] = field(default_factory=list)
    stopped: str = ""

    def sees(self, loss: float) -> bool:
        """Take the next loss, the first one from before any update; True where the test ends."""
        if math.isnan(self.initial):
            if not math.isfinite(loss):
                raise ValueError(f"{self.what}: the loss before any update must be a finite number, got {loss}.")
            self.initial = loss
            return False
        self.losses.append(loss if math.isfinite(loss) else math.inf)
        self.average = self.smoothing * self.average + (1 - self.smoothing) * self.losses[-1]
        self.curve.append(self.average / (1 - self.smoothing ** len(self.losses)))
        last, lowest = self.curve[-1], min(self.curve)
        if not math.isfinite(last):
            self.stopped = f"the loss is {loss}"
        elif last > lowest + (DIVERGED - 1) * abs(lowest):
            self.stopped = f"the smoothed loss {last:.3g} is more than {DIVERGED:g} times the lowest, {lowest:.3g}"
        if self.stopped:
            self.stopped = f"after {counted(len(self.losses), 'update')}: {self.stopped}"
        return bool(self.stopped) or len(self.losses) == len(self.rates)

    def result(self, subject: str, optimizer: str, steps: int) -> RangeTest:
        rates = self.rates[: len(self.losses)]
        steepest, tenth = suggestions(rates, self.losses, self.curve, self.smoothing)
        return RangeTest(
            subject, optimizer, steps, self.initial, tuple(rates), tuple(self.losses), tuple(self.curve), self.smoothing,
            self.stopped, steepest, tenth,
        )  # fmt: skip


def watch_over(what: str, steps: int, start: float, end: float) -> Watch:
    """After the checks: as many rates as updates, and a smoothing over a twentieth of them."""
    check_number(what, "steps", steps, Range(10, whole=True, structure=True))
    for name, value in (("start", start), ("end", end)):
        check_number(what, name, value, Range(0, low_included=False))
    if start >= end:
        raise ValueError(f"{what}: start must be < end, got start={start:g} and end={end:g}.")
    rates = [start * (end / start) ** (i / (steps - 2)) for i in range(steps - 1)]
    return Watch(what, rates, max(0.5, 1 - 20 / steps))


def suggestions(
    rates: Sequence[float], losses: Sequence[float], curve: Sequence[float], smoothing: float
) -> tuple[float | None, float | None]:
    """The rate of the steepest descent of a smoothed curve, and a tenth of the rate at its minimum.

    Both None where the curve never falls by more than four standard deviations, which are estimated from the differences of
    neighbouring losses. The first points, which average over few losses, are not looked at.
    """
    finite = [value for value in curve if math.isfinite(value)]
    first = min(round(1 / (1 - smoothing)), len(finite) // 3)
    if len(finite) < first + 3:
        return None, None
    lowest = min(range(first, len(finite)), key=lambda i: finite[i])
    noise = median(abs(b - a) for a, b in pairwise(losses[: lowest + 1]))
    spread = (
        noise / 0.954 * math.sqrt((1 - smoothing) / (1 + smoothing))
    )  # of the curve, were the losses normal and alike
    if lowest < first + 2 or fmean(finite[: first + 1]) - finite[lowest] <= 4 * spread:
        return None, None
    falling = min(range(first + 1, lowest), key=lambda i: finite[i + 1] - finite[i - 1])
    return rates[falling], rates[lowest] / 10
