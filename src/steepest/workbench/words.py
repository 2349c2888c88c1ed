"""Numbers and names as sentences, tables and pages say them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # whoever only counts something needs no SciPy
    from steepest.workbench.overall import SpeedUp
    from steepest.workbench.results import WorkloadFacts
    from steepest.workbench.statistics import Interval

__all__ = [
    "TRACK_NAMES", "TRACK_WORDS", "counted", "described", "listed", "measure", "shown", "shown_factor", "shown_interval",
]  # fmt: skip

TRACK_NAMES = {"default": "its defaults", "rate": "learning rate searched", "tuned": "tuned"}
TRACK_WORDS = {"rate": "with its learning rate searched", "tuned": "tuned"}


def measure(facts: WorkloadFacts) -> str:
    """The measure that decides, as pages call it."""
    return facts.metric.replace("_", " ")


def shown(cost: float, facts: WorkloadFacts) -> str:
    """A cost as the metric's value."""
    if not math.isfinite(cost):
        return "failed"
    return f"{-cost + 0.0 if facts.higher_is_better else cost:.4g}"


def shown_interval(interval: Interval, facts: WorkloadFacts) -> str:
    """A cost's interval as that of the metric, the lower number first; empty where both ends are failures."""
    if not (math.isfinite(interval.low) or math.isfinite(interval.high)):
        return ""
    ends = [interval.low, interval.high]
    low, high = reversed(ends) if facts.higher_is_better else ends
    return f"{shown(low, facts)} to {shown(high, facts)}"


def counted(number: int, what: str) -> str:
    """How many of something, in the singular or the plural."""
    return f"{number:,} {what}{'s' * (number != 1)}"


def shown_factor(found: SpeedUp) -> str:
    """A speed-up with its interval, and on which side of it the true one lies."""
    said = f"{found.ratio.value:.3g} ({found.ratio.low:.3g} to {found.ratio.high:.3g})"
    return f"{found.bound} {said}".lstrip()


def listed(names: Sequence[str], most: int = 6) -> str:
    """Names as a sentence has them; of many the first, and how many more."""
    if len(names) > most:
        return f"{', '.join(names[: most - 1])} and {len(names) - most + 1} more"
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def described(value: object) -> str:
    """What a user's function has returned: a value and its kind, on a piece of a line."""
    if value is None:
        return "None"
    text = " ".join(repr(value).split())
    return f"{text if len(text) <= 40 else f'{text[:39]}…'} ({type(value).__name__})"
