"""What holds over all workloads: performance profiles, who is behind in them, and by which factor one is quicker than a reference.

Nothing here is said of fewer than `FEWEST_WORKLOADS` workloads. A miss is never dropped: in the profiles it is infinite, in the
speed-up it is censored at the budget, and both numbers say so.

Sources: Dolan and Moré 2002, «Benchmarking optimization software with performance profiles»; Fleming and Wallace 1986, «How not
to lie with statistics» (the geometric mean of ratios does not depend on the reference).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from steepest.workbench.statistics import FEWEST_SEEDS, TAIL, Array, Interval, ends, medians, resampled

__all__ = ["FEWEST_WORKLOADS", "Profiles", "SpeedUp", "behind_first", "performance_profiles", "speed_ups"]

FEWEST_WORKLOADS = 4
"""With fewer workloads optimizers are not ranked."""
TAUS = np.linspace(1, 4, 301)
"""The factors over which a profile is drawn."""


@dataclass(frozen=True, slots=True)
class Profiles:
    """For each optimizer, on what share of the workloads it needs at most ``taus`` times what the best needs there; ``areas``
    are the means over ``taus``: 1 is best everywhere."""

    taus: Array
    shares: Mapping[str, Array]
    areas: Mapping[str, float]


def performance_profiles(measures: Mapping[str, Sequence[float]]) -> Profiles | None:
    """Profiles of measures (steps, losses: positive, lower is better, infinite where missed), one for each workload.

    None for fewer than `FEWEST_WORKLOADS` workloads.
    """
    table = np.array(list(measures.values()), dtype=float)
    if table.ndim != 2 or table.shape[1] < FEWEST_WORKLOADS:
        return None
    shares = (_ratios(table)[:, :, None] <= TAUS).mean(axis=1)
    return Profiles(
        TAUS,
        dict(zip(measures, shares, strict=True)),
        {name: float(share.mean()) for name, share in zip(measures, shares, strict=True)},
    )


def _ratios(table: Array) -> Array:
    """Times the best of the column; the best itself is 1, even where it is 0, and a miss is infinite."""
    best = table.min(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(np.isinf(table), np.inf, np.where(table == best, 1.0, table / best))


def behind_first(measures: Mapping[str, Sequence[Mapping[int, float]]]) -> dict[str, Interval]:
    """By how much the area of the first optimizer's profile is above that of each other, with intervals that hold all at once.

    The measures are by workload and seed. The bootstrap draws seeds within each workload, the same for all optimizers; empty where
    a workload has fewer than `FEWEST_SEEDS` that all have run. The intervals know of other seeds, not of other workloads.
    """
    names, count = list(measures), len(next(iter(measures.values())))
    columns = []
    for i in range(count):
        by_seed = [measures[name][i] for name in names]
        shared = [seed for seed in by_seed[0] if all(seed in one for one in by_seed)]
        if len(shared) < FEWEST_SEEDS:
            return {}
        columns.append(np.array([[one[seed] for seed in shared] for one in by_seed]))
    drawn = resampled([range(column.shape[1]) for column in columns])
    areas = np.zeros((len(names), 1 + len(drawn[0])))  # first of the runs as they are, then of each resample
    for column, rows in zip(columns, drawn, strict=True):
        picks = rows.astype(int)
        table = np.array([[*medians(own[None]), *medians(own[picks])] for own in column])
        areas += (len(TAUS) - np.searchsorted(TAUS, _ratios(table))) / len(TAUS) / count
    gaps = areas[0] - areas[1:]
    return {
        name: Interval(float(gap[0]), *ends(gap[1:], TAIL / len(gaps)))
        for name, gap in zip(names[1:], gaps, strict=True)
    }


@dataclass(frozen=True, slots=True)
class SpeedUp:
    """How many times fewer steps an optimizer needs to the targets than the reference.

    Attributes
    ----------
    ratio : the geometric mean over the workloads of that over the seeds, paired; its interval is over the seeds.
    runs : pairs of runs that it rests on.
    missed, reference_missed : pairs in which the one alone misses the target, or the reference alone.
    both_missed : pairs that say nothing: they count as alike.
    """

    optimizer: str
    ratio: Interval
    runs: int
    missed: int
    reference_missed: int
    both_missed: int

    @property
    def bound(self) -> str:
        """Where the true ratio lies, since a miss counts as reaching the target with the last step."""
        if self.both_missed or (self.missed and self.reference_missed):
            return "about"
        return "at most" if self.missed else "at least" if self.reference_missed else ""


def speed_ups(
    steps: Mapping[str, Sequence[Mapping[int, float]]], budgets: Sequence[int]
) -> tuple[str, tuple[SpeedUp, ...]]:
    """The reference, and every other optimizer against it, the quickest first; nothing for too few workloads.

    Parameters
    ----------
    steps : for each optimizer and workload the steps to the target by seed, infinite where it was missed (`steps_to_target`).
    budgets : the steps of a run on each workload. A miss counts as that many: it is censored there, never dropped.

    The reference is the optimizer that misses fewest targets, of several the first: the fewer it misses, the less is guessed.
    """
    if len(budgets) < FEWEST_WORKLOADS or not steps:
        return "", ()
    reference = min(steps, key=lambda name: sum(math.isinf(at) for by_seed in steps[name] for at in by_seed.values()))
    found = []
    for name in steps:
        pairs = [
            np.array([(known[seed], own[seed]) for seed in known if seed in own]).reshape(-1, 2)
            for known, own in zip(steps[reference], steps[name], strict=True)
        ]
        if name == reference or not all(map(len, pairs)):
            continue
        logs = [np.log(np.minimum(p, budget)) for p, budget in zip(pairs, budgets, strict=True)]
        strata = [log[:, 0] - log[:, 1] for log in logs]
        drawn = np.mean([rows.mean(axis=1) for rows in resampled(strata)], axis=0)
        low, high = ends(drawn)
        ratio = Interval(*(math.exp(x) for x in (float(np.mean([s.mean() for s in strata])), low, high)))
        theirs, own_missed = np.isinf(np.concatenate(pairs)).T
        found.append(
            SpeedUp(
                name, ratio, len(theirs), int((own_missed & ~theirs).sum()), int((theirs & ~own_missed).sum()),
                int((theirs & own_missed).sum()),
            )
        )  # fmt: skip
    return reference, tuple(sorted(found, key=lambda one: -one.ratio.value))
