"""The protocol: what is run for an optimizer on a track, how its configuration is chosen, on what it is judged.

Searched and chosen on one set of seeds, at the end of training; judged on another set. Every contender gets the same steps,
trials and family of schedules. A learning rate's grid widens while its edge wins; a space that is left at an edge is widened
once, with a quarter more trials, and what remains there is said. A failed run costs infinitely much and is never dropped.

A contender is a generator: it asks for runs and is sent them, so any number of processes may do the work, in any order, with
the same outcome.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from steepest.checks import Count, check_value
from steepest.plan.planner import checked_plan
from steepest.workbench.results import Entry, Track, Trial
from steepest.workbench.spaces import (
    Configuration,
    Dimension,
    Log,
    centre,
    edges_of,
    fixed_of,
    names_lr,
    reading,
    space_of,
    values_of,
)
from steepest.workbench.training import Run, train
from steepest.workbench.workload import Workload, find

__all__ = ["Budget", "Contender", "Job", "contend", "entry_of", "failed_run", "perform"]

GRID = (-2, -1, 0, 1, 2)
WIDEST = 8
"""Half decades from the centre beyond which a grid does not widen."""
Drawn: TypeAlias = Sequence[Configuration]


@dataclass(frozen=True, slots=True)
class Budget:
    """The same for every contender.

    ``steps`` of a run, None for the workload's own; ``trials`` of the tuned track; the seeds that choose, and those that judge.
    """

    steps: int | None = None
    trials: int = 20
    search_seeds: tuple[int, ...] = (1_000, 1_001)
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)

    def __post_init__(self) -> None:
        for name, value in (("steps", self.steps), ("trials", self.trials)):
            if value is not None:
                check_value("budget", name, value, Count)
        for name, seeds in (("search_seeds", self.search_seeds), ("seeds", self.seeds)):
            if not seeds or len({*seeds}) < len(seeds):
                raise ValueError(f"budget: {name} must be one or more different seeds, got {seeds!r}.")
        if both := {*self.seeds} & {*self.search_seeds}:
            raise ValueError(
                f"budget: seed {min(both)} is in both seeds and search_seeds. Use different seeds for search and evaluation."
            )


@dataclass(frozen=True, slots=True)
class Job:
    """One run to be made; its data identify it, and are all that a worker needs."""

    workload: str
    steps: int
    optimizer: str
    values: tuple[tuple[str, float | str | bool], ...]
    seed: int

    def to_json(self) -> dict[str, Any]:
        return {
            "workload": self.workload, "steps": self.steps, "optimizer": self.optimizer, "values": dict(self.values),
            "seed": self.seed,
        }  # fmt: skip

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Job:
        values = tuple(sorted(data["values"].items()))
        return cls(data["workload"], data["steps"], data["optimizer"], values, data["seed"])


def perform(job: Job, pruned: Callable[[int, float], bool] | None = None) -> Run:
    """Make the run. A rate that the recipe refuses, such as a schedule's peak below its start, is a failed run."""
    workload = find(job.workload).with_steps(job.steps)
    values = dict(job.values)
    try:
        chain = reading(job.optimizer, values, job.steps, _default_rate(job.optimizer, values, workload)).chain
    except ValueError as error:
        return failed_run(job, " ".join(str(error).split()))
    return train(workload, chain, job.seed, pruned=pruned)


def failed_run(job: Job, reason: str) -> Run:
    """A run that never began."""
    return Run(job.workload, job.optimizer, job.seed, 0, reason, math.inf, {}, {}, (), (), (), 0.0, 0.0, 0.0)


def _default_rate(text: str, values: Configuration, workload: Workload) -> float | None:
    """The rate for a text that computes with ``lr`` where none was chosen; recipes have defaults of their own."""
    return centre(text, workload.rates) if "lr" not in values and names_lr(text) else None


Contender: TypeAlias = Generator[list[Job], list[Run], Entry]


def contend(
    workload: Workload,
    text: str,
    track: Track,
    budget: Budget,
    draw: Callable[[Mapping[str, Dimension], int, int], Drawn],
    space: Mapping[str, Dimension],
) -> Contender:
    """One optimizer on one track: a generator of the runs it needs, which returns its entry.

    The tuned track searches ``space``; ``draw(space, count, seed)`` gives configurations of it.
    """
    steps = budget.steps or workload.steps
    workload = workload.with_steps(steps)
    trials: list[Trial] = []
    edges: tuple[str, ...] = ()
    shown: dict[str, str] = {}
    values: Configuration = {}
    if track == "rate" and "lr" in space_of(text, schedule=False):
        values, trials, edges = yield from _search_rate(workload, text, budget, steps)
        shown = {"lr": "a grid of factors of sqrt(10) that widens while its edge wins"}
    elif track == "tuned":
        space = dict(space)
        if space:
            values, trials, edges, space = yield from _search_space(workload, text, budget, steps, space, draw)
        shown = {name: str(dimension) for name, dimension in space.items()}
    runs = yield [_job(workload, text, values, seed, steps) for seed in budget.seeds]
    # A grid is in order, and what lies beyond an edge was led to.
    spread = min(budget.trials, len(trials)) if track == "tuned" else 0
    return entry_of(workload, text, track, values, shown, trials, edges, runs, spread)


def entry_of(
    workload: Workload,
    text: str,
    track: Track,
    values: Configuration,
    searched: Mapping[str, str],
    trials: Sequence[Trial],
    edges: tuple[str, ...],
    runs: Sequence[Run],
    spread: int = 0,
) -> Entry:
    """What a comparison keeps of a contender: its choice, its runs, and what its chain costs."""
    try:
        made = reading(text, values, workload.steps, _default_rate(text, values, workload))
    except ValueError as error:  # every configuration was refused, and so was the one that stands for them
        usual = reading(text, {}, workload.steps, centre(text, workload.rates))
        made = replace(usual, python=f"# {' '.join(str(error).split())}")
    plan = checked_plan(made.chain)
    states = sum(not start.on_host for start, _ in plan.trace.starts.values())
    return Entry(
        workload.name, text, track, dict(values), str(made.chain), made.python, dict(searched), tuple(trials), edges,
        fixed_of(text, searched), tuple(runs), plan.bytes_per_parameter(), 4 * states, spread,
    )  # fmt: skip


def _job(workload: Workload, text: str, values: Configuration, seed: int, steps: int) -> Job:
    return Job(workload.name, steps, text, tuple(sorted(values.items())), seed)


def _search_rate(
    workload: Workload, text: str, budget: Budget, steps: int
) -> Generator[list[Job], list[Run], tuple[Configuration, list[Trial], tuple[str, ...]]]:
    middle = centre(text, workload.rates)
    tried: dict[int, Trial] = {}
    wanted: list[int] = list(GRID)
    while True:
        found = yield from _trials(workload, text, budget, steps, [{"lr": _grid_rate(middle, i)} for i in wanted])
        tried.update(zip(wanted, found, strict=True))
        best = min(tried, key=lambda i: (tried[i].cost, abs(i)))
        low, high = min(tried), max(tried)
        if math.isinf(tried[best].cost):
            best = low  # everything fails: try lower rates
        if best not in (low, high) or max(abs(low - 1), abs(high + 1)) > WIDEST:
            break
        wanted = [low - 1 if best == low else high + 1]
    ordered = [tried[i] for i in sorted(tried)]
    return dict(tried[best].values), ordered, ("lr",) if best in (min(tried), max(tried)) else ()


def _grid_rate(middle: float, i: int) -> float:
    """``i`` half decades from the middle, in three digits so that one can write it down."""
    return float(f"{middle * 10 ** (i / 2):.3g}")


def _search_space(
    workload: Workload,
    text: str,
    budget: Budget,
    steps: int,
    space: dict[str, Dimension],
    draw: Callable[[Mapping[str, Dimension], int, int], Drawn],
) -> Generator[list[Job], list[Run], tuple[Configuration, list[Trial], tuple[str, ...], dict[str, Dimension]]]:
    drawn = list(draw(space, budget.trials, 0))
    values = [values_of(space, d) for d in drawn]
    trials = yield from _trials(workload, text, budget, steps, values)
    best = min(range(len(trials)), key=lambda i: (trials[i].cost, i))
    edges = edges_of(space, drawn[best])
    if wide := [name for name in edges if not _closed(space[name])]:
        wider = {name: _wider(d, drawn[best][name]) if name in wide else d for name, d in space.items()}
        more = list(draw(wider, max(1, budget.trials // 4), 1))
        space = {name: _spanning(space[name], wider[name]) for name in space}
        drawn += more
        trials += yield from _trials(workload, text, budget, steps, [values_of(wider, d) for d in more])
        best = min(range(len(trials)), key=lambda i: (trials[i].cost, i))
        edges = edges_of(space, drawn[best])
    return dict(trials[best].values), trials, edges, space


def _closed(dimension: Dimension) -> bool:
    return isinstance(dimension, Log) and dimension.closed


def _wider(dimension: Dimension, value: Any) -> Dimension:
    """A decade beyond the edge that a value is at."""
    if not isinstance(dimension, Log):
        return dimension
    upwards = abs(math.log10(value / dimension.high)) < abs(math.log10(value / dimension.low))
    if upwards:
        highest = dimension.high * 10 if dimension.below is None else min(dimension.high * 10, 0.999 * dimension.below)
        return replace(dimension, low=dimension.high, high=highest) if highest > dimension.high else dimension
    return replace(dimension, low=dimension.low / 10, high=dimension.low)


def _spanning(a: Dimension, b: Dimension) -> Dimension:
    return (
        replace(a, low=min(a.low, b.low), high=max(a.high, b.high)) if isinstance(a, Log) and isinstance(b, Log) else a
    )


def _trials(
    workload: Workload, text: str, budget: Budget, steps: int, configurations: Sequence[Configuration]
) -> Generator[list[Job], list[Run], list[Trial]]:
    seeds = budget.search_seeds
    runs = yield [_job(workload, text, values, seed, steps) for values in configurations for seed in seeds]
    costs = [run.cost for run in runs]
    return [
        Trial(dict(values), tuple(costs[i * len(seeds) : (i + 1) * len(seeds)]))
        for i, values in enumerate(configurations)
    ]
