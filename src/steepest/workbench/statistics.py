"""Statistics of costs, which may be infinite: intervals, paired differences, tests, the best of several trials.

A cost is infinite where a run failed, and a failed run is never dropped. So every function here takes infinite numbers: an
interval may end at infinity, and a median is infinite where half of the runs failed. Whatever is drawn at random is drawn from
a fixed seed: the same results give the same numbers. Nothing here knows what a run or a workload is.

Sources: Agarwal et al. 2021, «Deep RL at the edge of the statistical precipice» (interquartile mean, stratified bootstrap);
Dodge et al. 2019, «Show your work» (best of k trials); Hahn and Meeker 1991, «Statistical intervals», section 5.2 (order statistics
as an interval of the median, whatever the distribution); Hesterberg 2015, «What teachers should know about the bootstrap» (the
expanded percentile interval).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import stats

__all__ = [
    "FEWEST_FOR_INTERVAL", "FEWEST_SEEDS", "TAIL", "Interval", "best_of", "differences", "ends", "holm", "interquartile_mean",
    "kind_of", "median", "median_difference", "medians", "noise", "resampled", "seeds_needed", "signed_rank", "smallest_p",
    "success_rate", "wins",
]  # fmt: skip

Array: TypeAlias = npt.NDArray[np.float64]

RESAMPLES = 2000
TAIL = 0.025
"""What an interval of 95 % leaves out at either end."""
FEWEST_SEEDS = 5
"""With fewer pairs even the whole range of the differences covers their median in less than 90 %: nothing is claimed."""
FEWEST_FOR_INTERVAL = 6
"""Fewer samples have no interval of 95 %: their range stands for it, and is called so (`kind_of`)."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and its 95 % interval; of fewer than `FEWEST_FOR_INTERVAL` samples their range."""

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


def median(samples: Sequence[float] | Array) -> float:
    """The median of numbers that may be infinite; 0 in the middle between -inf and inf. Infinite for no number at all."""
    return float(medians(np.asarray(samples, dtype=float)[None])[0]) if len(samples) else math.inf


def medians(rows: Array) -> Array:
    """The `median` of each row."""
    ordered = np.sort(rows, axis=1)
    n = rows.shape[1]
    low, high = ordered[:, (n - 1) // 2], ordered[:, n // 2]
    with np.errstate(invalid="ignore"):
        between = np.where(low == high, low, low / 2 + high / 2)
    return np.where(np.isnan(between), 0.0, between)


def resampled(strata: Sequence[Sequence[float] | Array]) -> list[Array]:
    """Of each stratum as many samples as it has, drawn anew: a row for each resample."""
    rng = np.random.default_rng(0)
    return [rng.choice(np.asarray(samples, dtype=float), (RESAMPLES, len(samples))) for samples in strata]


def ends(estimates: Array, tail: float = TAIL) -> tuple[float, float]:
    """The interval that leaves out so much at either end: order statistics, since what lies between a finite and an infinite one
    is no number."""
    low, high = np.quantile(estimates, [tail, 1 - tail], method="inverted_cdf")
    return float(low), float(high)


def kind_of(n: int) -> str:
    """What the interval of so many samples is called."""
    return "range" if n < FEWEST_FOR_INTERVAL else "95 %"


def interquartile_mean(strata: Sequence[Sequence[float]]) -> Interval:
    """The mean of the middle half of all costs, of fewer than four that of all.

    The bootstrap draws within each stratum (a workload), as many as there are. Its percentiles are too narrow for few samples, by
    as much as a normal interval is beside Student's with the deviation of a sample: so they are taken further out (Hesterberg).
    """
    pooled = np.concatenate([np.asarray(s, dtype=float) for s in strata])
    value = float(stats.trim_mean(pooled, 0.25))
    if len(pooled) < FEWEST_FOR_INTERVAL:
        return Interval(value, float(pooled.min()), float(pooled.max()))
    drawn = np.concatenate(resampled(strata), axis=1)
    n, free = len(pooled), max(1, len(pooled) - len(strata))
    tail = float(stats.norm.cdf(math.sqrt(n / free) * stats.t.ppf(TAIL, free)))
    return Interval(value, *ends(stats.trim_mean(drawn, 0.25, axis=1), tail))


def differences(a: Mapping[int, float], b: Mapping[int, float]) -> Array:
    """The cost of ``a`` minus that of ``b`` on the seeds that both were run with; 0 where both failed."""
    return np.array([0.0 if a[seed] == b[seed] else a[seed] - b[seed] for seed in a if seed in b])


def median_difference(paired: Array) -> Interval:
    """The median of paired differences with the shortest symmetric interval of order statistics that covers 95 % or more.

    The k-th lowest and the k-th highest of n enclose the median with the chance that of n fair coins k to n - k show heads.
    """
    ordered = np.sort(paired)
    k = max(1, int(stats.binom.ppf(TAIL, len(ordered), 0.5)))
    return Interval(median(paired), float(ordered[k - 1]), float(ordered[-k]))


def success_rate(successes: int, n: int) -> Interval:
    """A share with Wilson's interval, which is honest at 0 and at ``n``."""
    found = stats.binomtest(successes, n).proportion_ci(method="wilson")
    return Interval(successes / n, float(found.low), float(found.high))


def wins(paired: Array) -> Interval:
    """The share of seeds on which ``a`` beats ``b``, of ``differences(b, a)``: those above 0. A tie counts half; for the ends
    of Wilson's interval it counts to either side."""
    n, won, tied = len(paired), int((paired > 0).sum()), int((paired == 0).sum())
    return Interval((won + tied / 2) / n, success_rate(won, n).low, success_rate(won + tied, n).high)


def signed_rank(paired: Array) -> float:
    """The two-sided p of Wilcoxon's signed-rank test; 1 where all differences are 0."""
    if not paired.any():
        return 1.0
    # Ranks are all that the test looks at; an infinite difference has one, too.
    ranks = np.sign(paired) * stats.rankdata(np.abs(paired))
    ranks = ranks[ranks != 0]
    return float(stats.wilcoxon(ranks).pvalue)


def smallest_p(n: int) -> float:
    """The smallest two-sided p that ``n`` pairs can give, by their signs or signed ranks: 0.0625 for 5."""
    return min(1.0, 2.0 ** (1 - n))


def seeds_needed(comparisons: int) -> int:
    """The fewest pairs whose smallest p is below 0.05 after Holm's correction over so many comparisons."""
    return next(n for n in range(1, 64) if smallest_p(n) * max(1, comparisons) < 0.05)


def holm(p: Sequence[float]) -> list[float]:
    """The p values corrected for their number by Holm's step-down method (Holm 1979, Scandinavian Journal of Statistics 6)."""
    order = np.argsort(p)
    stepped = np.maximum.accumulate(np.asarray(p, dtype=float)[order] * np.arange(len(p), 0, -1))
    return [float(x) for x in np.minimum(1.0, stepped)[np.argsort(order)]]


def noise(costs: Sequence[float]) -> float:
    """What the seed alone changes: the median absolute deviation; 0 where the median is infinite."""
    middle = median(costs)
    return median(np.abs(np.asarray(costs) - middle)) if math.isfinite(middle) else 0.0


def best_of(costs: Sequence[float], k: int | None = None) -> Array:
    """The best of 1, 2, … k trials drawn from these: a row of median, lower and upper quartile for each.

    It is what a bootstrap with endless resamples gives (Dodge et al. 2019, section 3): of k draws from n sorted costs the best is
    at most the i-th with probability ``1 - (1 - i/n)^k``.
    """
    n = len(costs)
    ordered: Array = np.sort(np.asarray(costs, dtype=float))
    draws = np.arange(1, (k or n) + 1)[:, None]
    at = np.ceil(n * (1 - (1 - np.array([0.5, 0.25, 0.75])) ** (1 / draws)) - 1e-9)
    best: Array = ordered[np.maximum(at, 1).astype(int) - 1]
    return best
