"""A published claim, what was measured for it, and the rule that turns figures into a verdict.

A claim measures figures, each with an interval, and holds conditions on them as data; nobody writes a verdict. A condition is
met where the figure's whole interval lies inside its bounds, missed where all of it lies outside, and open in between, as it is
with too few seeds. All met: reproduced. One missed: not reproduced. Anything else is inconclusive.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
from scipy import stats

from steepest.workbench.statistics import Interval, success_rate

__all__ = [
    "Claim", "Condition", "Figures", "Outcome", "Paper", "Verdict", "above", "below", "difference_of_rates", "fisher",
    "geometric_mean_of", "judge", "known", "mean_of", "near", "ratio_of", "shown",
    "significant",
]  # fmt: skip

Verdict: TypeAlias = Literal["reproduced", "not reproduced", "inconclusive"]
Figures: TypeAlias = Mapping[str, Interval | str]
"""What was measured, by name: a value with its interval, or a text that is only shown."""


@dataclass(frozen=True, slots=True)
class Paper:
    """Where a claim was published; ``place`` is the section, figure or theorem."""

    authors: str
    year: int
    arxiv: str
    place: str

    def __str__(self) -> str:
        source = f"arXiv:{self.arxiv}, " if self.arxiv else ""
        return f"{self.authors} {self.year}, {source}{self.place}"


@dataclass(frozen=True, slots=True)
class Condition:
    """What the claim asks of one figure: to lie in [low, high].

    ``decisive`` is False for what can only leave a verdict open, as a p-value above the usual limit does.
    """

    figure: str
    low: float = -math.inf
    high: float = math.inf
    decisive: bool = True

    def met(self, found: Interval) -> bool | None:
        """True, False, or None where the figure's interval leaves it open."""
        if self.low <= found.low and found.high <= self.high:
            return True
        outside = found.low > self.high or found.high < self.low
        return False if outside and self.decisive else None

    def __str__(self) -> str:
        if math.isinf(self.low):
            return f"at most {self.high:.6g}"
        if math.isinf(self.high):
            return f"at least {self.low:.6g}"
        return f"{(self.low + self.high) / 2:.6g} ± {(self.high - self.low) / 2:.2g}"


def above(figure: str, bound: float) -> Condition:
    """The figure is at least ``bound``."""
    return Condition(figure, low=bound)


def below(figure: str, bound: float) -> Condition:
    """The figure is at most ``bound``."""
    return Condition(figure, high=bound)


def near(figure: str, expected: float, tolerance: float) -> Condition:
    """The figure is ``expected`` to within ``tolerance``, which is absolute."""
    return Condition(figure, expected - tolerance, expected + tolerance)


def significant(figure: str) -> Condition:
    """The figure is a p-value of at most 0.05; a larger one shows nothing."""
    return Condition(figure, high=0.05, decisive=False)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A claim's verdict with the figures that it was computed from; ``reason`` says which condition decided, ``seconds`` what
    measuring took of the processor: on a busy machine less than the time that passes."""

    verdict: Verdict
    figures: Figures
    reason: str
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain data; what is not finite stays a float, as Python's JSON writes it."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Outcome:
        """What `to_json` gave."""
        figures = {name: f if isinstance(f, str) else Interval(**f) for name, f in data["figures"].items()}
        return cls(**{**data, "figures": figures})


def judge(figures: Figures, conditions: Sequence[Condition]) -> Outcome:
    """The verdict on figures.

    >>> judge({"ratio": Interval(0.5, 0.4, 0.6)}, [below("ratio", 1.0)]).verdict
    'reproduced'
    >>> judge({"ratio": Interval(0.5, 0.4, 1.6)}, [below("ratio", 1.0)]).reason
    'ratio is 0.5 [0.4, 1.6], asked is at most 1'
    """
    left_open: list[str] = []
    missed: list[str] = []
    for condition in conditions:
        found = figures[condition.figure]
        if isinstance(found, str):
            raise TypeError(f"judge: {condition.figure} must be a number with its interval, got the string {found!r}.")
        met = condition.met(found)
        if met is not True:
            said = f"{condition.figure} is {shown(found)}, asked is {condition}"
            (left_open if met is None else missed).append(said)
    if missed:
        return Outcome("not reproduced", figures, "; ".join(missed))
    if left_open:
        return Outcome("inconclusive", figures, "; ".join(left_open))
    return Outcome("reproduced", figures, "; ".join(f"{c.figure} {c}" for c in conditions))


def shown(figure: Interval) -> str:
    """Four digits, and the interval where there is one."""
    exact = figure.low == figure.high
    return f"{figure.value:.4g}" if exact else f"{figure.value:.4g} [{figure.low:.3g}, {figure.high:.3g}]"


@dataclass(frozen=True, slots=True)
class Claim:
    """A published claim and its small version here.

    Attributes
    ----------
    name, title : how it is called, and in words.
    paper : where it was published.
    statement : what was published, as a direction; figures are left to the paper.
    setting : what is measured here, in one line.
    seconds : how long that takes on one core, roughly.
    exact : the figures follow from theory to within the conditions' tolerance; no statistics.
    seeds : how many seeds it runs with; 1 where chance plays no part.
    measure : seeds in, figures out.
    conditions : what decides.
    """

    name: str
    title: str
    paper: Paper
    statement: str
    setting: str
    seconds: float
    exact: bool
    seeds: int
    measure: Callable[[Sequence[int]], Figures]
    conditions: tuple[Condition, ...]

    def run(self, seeds: Sequence[int] | None = None) -> Outcome:
        """Measure and judge; ``seeds`` are 0, 1, … where none are given."""
        begun = time.process_time()
        figures = self.measure(range(self.seeds) if seeds is None else seeds)
        return replace(judge(figures, self.conditions), seconds=time.process_time() - begun)


# ---- figures with intervals


def known(value: float) -> Interval:
    """A figure without chance."""
    return Interval(float(value), float(value), float(value))


def mean_of(samples: Sequence[float], grid: float = 0.0) -> Interval:
    """The mean with Student's 95 % interval, unbounded for fewer than two samples or where some are infinite.

    Samples read off a ``grid`` are each known to half of its step; the interval is wider by that, since equal ones show no spread.
    """
    mean = float(np.mean(samples))
    if all(math.isinf(x) for x in samples) and math.isinf(mean):
        return known(mean)
    if len(samples) < 2 or not np.isfinite(mean):
        return Interval(mean, -math.inf, math.inf)
    half = (
        float(stats.t.ppf(0.975, len(samples) - 1)) * float(np.std(samples, ddof=1)) / math.sqrt(len(samples))
        + grid / 2
    )
    return Interval(mean, mean - half, mean + half)


def geometric_mean_of(samples: Sequence[float]) -> Interval:
    """The geometric mean with the interval of its logarithm. Positive samples, of which any may be infinite."""
    found = mean_of([math.log(x) for x in samples])
    return Interval(*(math.exp(x) if x < 700 else math.inf for x in (found.value, found.low, found.high)))


def ratio_of(a: Sequence[float], b: Sequence[float]) -> Interval:
    """The geometric mean of ``a / b``, paired by seed, with its interval. Positive samples."""
    return geometric_mean_of([x / y for x, y in zip(a, b, strict=True)])


def difference_of_rates(a: int, b: int, n: int) -> Interval:
    """The success rate ``a / n`` minus ``b / n``, with Newcombe's interval of two Wilson intervals (1998, method 10)."""
    one, other = success_rate(a, n), success_rate(b, n)
    difference = one.value - other.value
    return Interval(
        difference,
        difference - math.hypot(one.value - one.low, other.high - other.value),
        difference + math.hypot(one.high - one.value, other.value - other.low),
    )


def fisher(a: int, b: int, n: int) -> Interval:
    """Fisher's exact p that ``a`` successes of ``n`` are not more than ``b`` of ``n``."""
    return known(float(stats.fisher_exact([[a, n - a], [b, n - b]], alternative="greater").pvalue))
