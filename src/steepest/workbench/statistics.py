"""What the runs of a comparison say, in numbers: intervals, paired differences, rates, tuning. SciPy does the statistics.

A cost is a measure turned so that lower is better; it is infinite where a run failed, and a failed run is never dropped. So
every function here takes infinite costs: an interval may end at infinity, and a median is infinite where half of the runs
failed. Whatever is drawn at random is drawn from a fixed seed: the same results give the same numbers.

Sources: Agarwal et al. 2021, «Deep RL at the edge of the statistical precipice» (interquartile mean, stratified bootstrap);
Dodge et al. 2019, «Show your work» (best of k trials).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import stats

from steepest.workbench.results import Entry, Trial, WorkloadFacts

__all__ = [
    "FEWEST_SEEDS", "Against", "BestMoment", "Interval", "Sensitivity", "Shown", "Summary", "ToTarget", "against_best",
    "best_moment", "best_of", "cost_of", "differences", "ends", "from_best", "holm", "interquartile_mean", "judged",
    "learning_curve", "median", "median_difference", "noise", "rate_sensitivity", "resampled", "run_seconds", "seeds_needed",
    "signed_rank", "smallest_p", "steps_to_target", "success_rate", "summary", "to_target", "tolerance", "trials_needed",
    "wins",
]  # fmt: skip

Array: TypeAlias = npt.NDArray[np.float64]
Shown: TypeAlias = Literal["clear", "likely", "no"]
"""A difference is ``"likely"`` where its interval excludes 0 and it exceeds the seeds' noise, ``"clear"`` where Holm's p is
below 0.05 besides."""

RESAMPLES = 2000
TAILS = (0.025, 0.975)
FEWEST_SEEDS = 5
"""With fewer pairs even the whole range of the differences covers their median in less than 90 %: nothing is claimed."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


def cost_of(facts: WorkloadFacts, value: float) -> float:
    """A value of the workload's metric as a cost; infinite where it is not a number or says that the run has failed."""
    turned, limit = -value if facts.higher_is_better else value, _failure_limit(facts)
    return math.inf if not math.isfinite(value) or turned >= limit else turned


def _failure_limit(facts: WorkloadFacts) -> float:
    """The cost from which on a run has failed; infinite where a workload names none."""
    if not math.isfinite(facts.failed):
        return math.inf
    return -facts.failed if facts.higher_is_better else facts.failed


def judged(entry: Entry, facts: WorkloadFacts) -> dict[int, float]:
    """The cost on the test part by seed; that on validation where there is no test part, infinite where the run failed."""
    return {
        run.seed: math.inf if run.failed else cost_of(facts, run.test[facts.metric]) if facts.metric in run.test else run.cost
        for run in entry.runs
    }  # fmt: skip


def median(samples: Sequence[float] | Array) -> float:
    """The median of numbers that may be infinite; 0 in the middle between -inf and inf. Infinite for no number at all."""
    return float(_medians(np.asarray(samples, dtype=float)[None])[0]) if len(samples) else math.inf


def _medians(rows: Array) -> Array:
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


def ends(estimates: Array) -> tuple[float, float]:
    """The 95 % interval: order statistics, since what lies between a finite and an infinite one is no number."""
    low, high = np.quantile(estimates, TAILS, method="inverted_cdf")
    return float(low), float(high)


def interquartile_mean(strata: Sequence[Sequence[float]]) -> Interval:
    """The mean of the middle half of all costs; the bootstrap draws within each stratum (a workload), as many as there are."""
    pooled = np.concatenate([np.asarray(s, dtype=float) for s in strata])
    drawn = np.concatenate(resampled(strata), axis=1)
    return Interval(float(stats.trim_mean(pooled, 0.25)), *ends(stats.trim_mean(drawn, 0.25, axis=1)))


def differences(a: Mapping[int, float], b: Mapping[int, float]) -> Array:
    """The cost of ``a`` minus that of ``b`` on the seeds that both were run with; 0 where both failed."""
    return np.array([0.0 if a[seed] == b[seed] else a[seed] - b[seed] for seed in a if seed in b])


def median_difference(paired: Array) -> Interval:
    """The median of paired differences with its percentile bootstrap interval."""
    return Interval(median(paired), *ends(_medians(resampled([paired])[0])))


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


@dataclass(frozen=True, slots=True)
class Against:
    """The best optimizer of a track against another one, paired by seed.

    ``difference`` is the median of the other's cost minus the best's: positive is worse, in the metric's unit. ``wins`` is the
    share of seeds on which the best ends better. ``noise`` is the larger of the two deviations over seeds.
    """

    optimizer: str
    n: int
    difference: Interval
    wins: Interval
    p: float
    p_holm: float
    noise: float

    @property
    def shown(self) -> Shown:
        beyond = self.difference.excludes_zero and abs(self.difference.value) > self.noise
        if self.n < FEWEST_SEEDS or not beyond:
            return "no"
        return "clear" if self.p_holm < 0.05 else "likely"


def from_best(entries: Sequence[Entry], facts: WorkloadFacts) -> list[Entry]:
    """Entries of one track from the best to the worst, by the median and then the interquartile mean of the judged costs."""

    def key(entry: Entry) -> tuple[float, float, str]:
        costs = list(judged(entry, facts).values())
        return median(costs), float(stats.trim_mean(costs, 0.25)) if costs else math.inf, entry.optimizer

    return sorted(entries, key=key)


def against_best(entries: Sequence[Entry], facts: WorkloadFacts) -> list[Against]:
    """The best of one track's entries against each of the others, from the best to the worst of them."""
    ordered = from_best([e for e in entries if e.runs], facts)
    if len(ordered) < 2:
        return []
    best = judged(ordered[0], facts)
    pairs = [(e.optimizer, other, differences(other, best)) for e in ordered[1:] for other in [judged(e, facts)]]
    pairs = [pair for pair in pairs if len(pair[2])]
    raw = [signed_rank(paired) for *_, paired in pairs]
    return [
        Against(
            name, len(paired), median_difference(paired), wins(paired), p, p_holm,
            max(noise(list(best.values())), noise(list(other.values()))),
        )
        for (name, other, paired), p, p_holm in zip(pairs, raw, holm(raw), strict=True)
    ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class ToTarget:
    """The median of the steps and seconds until the target, infinite where half of the runs miss it, and who reaches it."""

    steps: float
    seconds: float
    reached: Interval


def to_target(entry: Entry, facts: WorkloadFacts) -> ToTarget | None:
    """When the validation metric first reaches the target; a run that fails later misses it. None without target or runs.

    Seconds are the share of the run's time without that of evaluating.
    """
    if facts.target is None or not entry.runs:
        return None
    steps = list(steps_to_target(entry, facts, facts.target).values())
    each = [max(0.0, run.seconds - run.evaluation_seconds) / max(1, run.steps) for run in entry.runs]
    seconds = [at * long for at, long in zip(steps, each, strict=True)]
    return ToTarget(median(steps), median(seconds), success_rate(sum(map(math.isfinite, steps)), len(steps)))


def steps_to_target(entry: Entry, facts: WorkloadFacts, target: float) -> dict[int, float]:
    """By seed the step at which the validation metric first reaches the target; infinite where a run misses it or fails."""
    aim = -target if facts.higher_is_better else target
    return {
        run.seed: math.inf if run.failed else next((at for at, v in run.curve if cost_of(facts, v) <= aim), math.inf)
        for run in entry.runs
    }


@dataclass(frozen=True, slots=True)
class BestMoment:
    """Medians over the runs: the best validation cost on the way, its step, and the cost at the end, which alone decides."""

    cost: float
    step: float
    end: float


def best_moment(entry: Entry, facts: WorkloadFacts) -> BestMoment:
    """What the best checkpoint of every run would have been. A run that fails later counts with what it had reached."""
    costs = [[(cost_of(facts, value), step) for step, value in run.curve] for run in entry.runs]
    best = [min(own, default=(math.inf, 0)) for own in costs]
    reached = [step if math.isfinite(cost) else math.inf for cost, step in best]
    return BestMoment(median([cost for cost, _ in best]), median(reached), median([run.cost for run in entry.runs]))


def run_seconds(entries: Sequence[Entry]) -> float:
    """What a whole run took, evaluating included: the median over those that did not fail. Infinite without one."""
    return median([run.seconds for entry in entries for run in entry.runs if not run.failed])


def tolerance(best: float, facts: WorkloadFacts) -> float:
    """How far from the best cost still counts as good: 5 % of it, or 1 point of a share between 0 and 1 (an accuracy)."""
    return 0.01 if facts.higher_is_better and 0 <= -best <= 1 else 0.05 * abs(best)


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """The learning rates that were tried with their median costs, and the interval around the best that is good, too.

    ``open_low`` and ``open_high`` say that the interval ends where the search did: it may be wider. ``area`` is that below the
    line of (cost - best cost) over the decimal logarithm of the rate, from the lowest to the highest rate that was tried.
    """

    rates: tuple[float, ...]
    costs: tuple[float, ...]
    best: float
    low: float
    high: float
    open_low: bool
    open_high: bool
    area: float

    @property
    def decades(self) -> float:
        return math.log10(self.high / self.low)

    @property
    def tried_decades(self) -> float:
        return math.log10(self.rates[-1] / self.rates[0])


def rate_sensitivity(trials: Sequence[Trial], facts: WorkloadFacts, rate: str = "lr") -> Sensitivity | None:
    """How exactly a learning rate must be met; None where no rate was tried or none worked.

    In the area a rate that fails costs what the workload calls failed, the least that it can cost: infinite without such a value.
    """
    grouped: dict[float, list[float]] = {}
    for trial in trials:
        value = trial.values.get(rate)
        if isinstance(value, (int, float)) and value > 0:
            grouped.setdefault(float(value), []).extend(trial.costs)
    rates = sorted(grouped)
    costs = [median(grouped[value]) for value in rates]
    if not costs or math.isinf(min(costs)):
        return None
    at = costs.index(min(costs))
    limit = costs[at] + tolerance(costs[at], facts)
    first = last = at
    while first > 0 and costs[first - 1] <= limit:
        first -= 1
    while last + 1 < len(costs) and costs[last + 1] <= limit:
        last += 1
    excess = np.minimum(costs, _failure_limit(facts)) - costs[at]
    area = float(np.trapezoid(excess, np.log10(rates))) if np.isfinite(excess).all() else math.inf
    return Sensitivity(
        tuple(rates), tuple(costs), rates[at], rates[first], rates[last], first == 0, last == len(rates) - 1, area
    )


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


def trials_needed(costs: Sequence[float], facts: WorkloadFacts) -> int | None:
    """After how many trials the best of them is typically (in the median) good; None where no trial worked."""
    if not costs or math.isinf(min(costs)):
        return None
    good = best_of(costs)[:, 0] <= min(costs) + tolerance(min(costs), facts)
    return int(np.argmax(good)) + 1 if good.any() else len(costs)


def learning_curve(entry: Entry, facts: WorkloadFacts) -> Array:
    """Rows of step, and of the metric the median, lower and upper quartile over seeds; infinitely bad where runs failed."""
    worst = -math.inf if facts.higher_is_better else math.inf
    at = [dict(run.curve) for run in entry.runs]
    steps = sorted({step for curve in at for step in curve})
    rows = []
    for step in steps:
        column = [curve.get(step, worst) for curve in at]
        column = [value if math.isfinite(value) else worst for value in column]
        rows.append([step, median(column), *np.quantile(column, [0.25, 0.75], method="inverted_cdf")])
    return np.array(rows, dtype=float).reshape(-1, 4)


@dataclass(frozen=True, slots=True)
class Summary:
    """One row of the table: an optimizer on a track of a workload. Costs are lower-is-better, on the test part.

    ``step_microseconds`` is infinite where no run came beyond the step that compiles.
    """

    optimizer: str
    track: str
    n: int
    median: float
    mean: Interval
    succeeded: Interval
    target: ToTarget | None
    best_moment: BestMoment
    sensitivity: Sensitivity | None
    step_microseconds: float
    bytes_per_parameter: float
    state_bytes_per_parameter: float
    trials: int
    stopped_trials: int
    failed_trials: int
    trials_needed: int | None


def summary(entry: Entry, facts: WorkloadFacts) -> Summary | None:
    """What an entry's runs and trials come to; None where it has no runs."""
    if not entry.runs:
        return None
    costs = list(judged(entry, facts).values())
    tried = [trial.cost for trial in entry.trials]
    return Summary(
        entry.optimizer, entry.track, len(costs), median(costs), interquartile_mean([costs]),
        success_rate(sum(map(math.isfinite, costs)), len(costs)), to_target(entry, facts), best_moment(entry, facts),
        rate_sensitivity(entry.trials, facts) if entry.track == "rate" else None,
        median([run.step_microseconds for run in entry.runs if run.step_microseconds > 0]),
        entry.bytes_per_parameter, entry.state_bytes_per_parameter,
        len(tried), len(tried) - len(entry.whole_trials), sum(math.isinf(t.cost) for t in entry.whole_trials),
        trials_needed(tried, facts),
    )  # fmt: skip
