"""The protocol: what is run for an optimizer on a track, how its configuration is chosen, on what it is judged.

Searched and chosen on one set of seeds, at the end of training; judged on another set. Every contender gets the same steps,
trials and family of schedules. A learning rate's grid widens while its edge wins; a space that is left at an edge is widened
once, and what remains there is said. A failed run costs infinitely much and is never dropped.

A contender is a generator: it asks for runs and is sent them, so any number of processes may do the work, in any order, with
the same outcome.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from steepest.plan.planner import checked_plan
from steepest.workbench.results import Entry, Track, Trial
from steepest.workbench.spaces import (
    Configuration,
    Dimension,
    Log,
    centre,
    edges_of,
    fixed_of,
    reading,
    space_of,
    values_of,
)
from steepest.workbench.training import Run, train
from steepest.workbench.workload import Workload, find

__all__ = ["Budget", "Contender", "Job", "contend", "perform"]

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
        said = " ".join(str(error).split())
        return Run(
            job.workload, job.optimizer, job.seed, 0, said, math.inf, {}, {}, (), (), (), 0.0, 0.0, 0.0,
        )  # fmt: skip
    return train(workload, chain, job.seed, pruned=pruned)


def _default_rate(text: str, values: Configuration, workload: Workload) -> float | None:
    """The rate for a text that computes with ``lr`` where none was chosen; recipes have defaults of their own."""
    return centre(text, workload.rates) if "lr" not in values and "lr" in space_of(text) and "(lr" in text else None


Contender: TypeAlias = Generator[list[Job], list[Run], Entry]


def contend(
    workload: Workload,
    text: str,
    track: Track,
    budget: Budget,
    draw: Callable[[Mapping[str, Dimension], int, int], Drawn],
    narrow: Callable[[Mapping[str, Dimension]], Mapping[str, Dimension]] = lambda space: space,
) -> Contender:
    """One optimizer on one track: a generator of the runs it needs, which returns its entry.

    ``draw(space, count, seed)`` gives configurations for the tuned track; ``narrow`` restricts its space.
    """
    steps = budget.steps or workload.steps
    workload = workload.with_steps(steps)
    trials: list[Trial] = []
    edges: tuple[str, ...] = ()
    shown: dict[str, str] = {}
    values: Configuration = {}
    if track == "rate" and "lr" in space_of(text, schedule=False):
        space = {"lr": _grid_space(text, workload)}
        values, trials, edges = yield from _search_rate(workload, text, budget, steps)
        shown = {"lr": "a grid of factors of sqrt(10) that widens while its edge wins"}
    elif track == "tuned":
        space = dict(narrow(space_of(text)))
        if space:
            values, trials, edges, space = yield from _search_space(workload, text, budget, steps, space, draw)
        shown = {name: str(dimension) for name, dimension in space.items()}
    runs = yield [_job(workload, text, values, seed, steps) for seed in budget.seeds]
    made = reading(text, values, steps, _default_rate(text, values, workload))
    plan = checked_plan(made.chain)
    states = sum(not start.on_host for start, _ in plan.trace.starts.values())
    return Entry(
        workload.name, text, track, dict(values), str(made.chain), made.python, shown, tuple(trials), edges,
        fixed_of(text, dict.fromkeys(shown)), tuple(runs), plan.bytes_per_parameter(), 4 * states,
    )  # fmt: skip


def _grid_space(text: str, workload: Workload) -> Dimension:
    middle = centre(text, workload.rates)
    return Log(middle * 10 ** (-WIDEST / 2), middle * 10 ** (WIDEST / 2))


def _job(workload: Workload, text: str, values: Configuration, seed: int, steps: int) -> Job:
    return Job(workload.name, steps, text, tuple(sorted(values.items())), seed)


def _search_rate(
    workload: Workload, text: str, budget: Budget, steps: int
) -> Generator[list[Job], list[Run], tuple[Configuration, list[Trial], tuple[str, ...]]]:
    middle = centre(text, workload.rates)
    tried: dict[int, Trial] = {}
    wanted: list[int] = list(GRID)
    while True:
        found = yield from _trials(workload, text, budget, steps, [{"lr": middle * 10 ** (i / 2)} for i in wanted])
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
    if edges:
        wider = {name: _wider(d, drawn[best][name]) if name in edges else d for name, d in space.items()}
        more = list(draw(wider, max(1, budget.trials // 4), 1))
        space = {name: _spanning(space[name], wider[name]) for name in space}
        drawn += more
        trials += yield from _trials(workload, text, budget, steps, [values_of(wider, d) for d in more])
        best = min(range(len(trials)), key=lambda i: (trials[i].cost, i))
        edges = edges_of(space, drawn[best])
    return dict(trials[best].values), trials, edges, space


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


def contenders(
    workloads: Sequence[str], optimizers: Sequence[str], tracks: Sequence[Track], budget: Budget, **options: Any
) -> dict[tuple[str, str, Track], Contender]:
    """A generator for every optimizer on every track of every workload."""
    return {(w, o, t): contend(find(w), o, t, budget, **options) for w in workloads for o in optimizers for t in tracks}
