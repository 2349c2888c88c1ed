"""What the entries of a comparison come to, in numbers: judged costs, the best against the others, targets, rates, trials.

A cost is a measure turned so that lower is better; it is infinite where a run failed, and a failed run is never dropped.
`steepest.workbench.statistics` computes with such numbers; here they get their meaning.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
from scipy import stats

from steepest.workbench.results import Entry, Trial, WorkloadFacts
from steepest.workbench.statistics import (
    FEWEST_SEEDS,
    Array,
    Interval,
    best_of,
    differences,
    holm,
    interquartile_mean,
    median,
    median_difference,
    noise,
    signed_rank,
    success_rate,
    wins,
)  # fmt: skip

__all__ = [
    "Against", "BestMoment", "Sensitivity", "Shown", "Summary", "ToTarget", "against_best", "best_moment", "cost_of",
    "from_best", "judged", "learning_curve", "paired_against", "rate_sensitivity", "run_seconds", "steps_to_target", "summary",
    "to_target", "tolerance", "trials_needed",
]  # fmt: skip

Shown: TypeAlias = Literal["clear", "likely", "no"]
"""A difference is ``"likely"`` where its interval excludes 0 and it exceeds the seeds' noise, whatever the number of comparisons;
``"clear"`` where Holm's p is below 0.05 besides."""


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

    @property
    def possible(self) -> float:
        """How large the difference may be, to either side."""
        return max(abs(self.difference.low), abs(self.difference.high))

    def alike(self, margin: float) -> bool:
        """Whether no difference was shown and none above the margin is possible. That no difference was shown is not enough."""
        return self.n >= FEWEST_SEEDS and self.shown == "no" and self.possible <= margin


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
    found = [one for other in ordered[1:] if (one := paired_against(other, ordered[0], facts))]
    corrected = holm([one.p for one in found])
    return [replace(one, p_holm=p_holm) for one, p_holm in zip(found, corrected, strict=True)]


def paired_against(other: Entry, best: Entry, facts: WorkloadFacts) -> Against | None:
    """Another entry against the best alone, without a correction; None where they have no seed in common."""
    costs, of_best = judged(other, facts), judged(best, facts)
    paired = differences(costs, of_best)
    if not len(paired):
        return None
    p = signed_rank(paired)
    deviation = max(noise(list(of_best.values())), noise(list(costs.values())))
    return Against(other.optimizer, len(paired), median_difference(paired), wins(paired), p, p, deviation)


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
    """How exactly a learning rate must be met, by `Trial.cost`; None where no rate was tried or none worked.

    In the area a rate that fails costs what the workload calls failed, the least that it can cost: infinite without such a value.
    """
    grouped: dict[float, list[float]] = {}
    for trial in trials:
        value = trial.values.get(rate)
        if isinstance(value, (int, float)) and value > 0 and not trial.stopped:
            grouped.setdefault(float(value), []).extend(trial.costs)
    rates = sorted(grouped)
    costs = [Trial({}, tuple(grouped[value])).cost for value in rates]  # as the search that chose a rate has seen them
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


def trials_needed(entry: Entry, facts: WorkloadFacts) -> int | None:
    """After how many trials that were spread the best of them is typically (in the median) as good as the best of the whole search.

    None where so many were not spread, or no trial worked.
    """
    costs = [trial.cost for trial in entry.spread_trials]
    best = min((trial.cost for trial in entry.trials), default=math.inf)
    if not costs or math.isinf(best):
        return None
    good = best_of(costs)[:, 0] <= best + tolerance(best, facts)
    return int(np.argmax(good)) + 1 if good.any() else None


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
        trials_needed(entry, facts),
    )  # fmt: skip
