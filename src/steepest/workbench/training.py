"""One training run: a workload, a chain and a seed in; a record of what happened out.

The measured time of a step is the optimizer's alone. A run whose loss or metric is not finite, or whose last metric says so,
has failed: its cost is infinite, and it is kept.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

import steepest
from steepest.schedules import ReduceOnPlateau
from steepest.workbench.words import described
from steepest.workbench.workload import Task, Workload

__all__ = ["EVALUATIONS", "Run", "learning_rate", "optimizer_for", "train"]

EVALUATIONS = 50
"""How often a run is evaluated on the validation part, its last step included (or after every step of a shorter one)."""
UNTIMED = 10
"""Steps before the timer starts: the first ones compile."""
COMPILING = 2
"""Of a run that ended sooner, those that are left out: a program is compiled in its first or its second step."""


@dataclass(frozen=True, slots=True)
class Run:
    """What one run was given and what came out of it.

    ``validation`` and ``test`` are the measures after the last step (empty where it failed before); ``cost`` is the
    validation metric turned so that lower is better, infinite where the run failed. ``curve`` holds (step, validation
    metric), ``losses`` the mean training loss between evaluations, ``rates`` the learning rate there. ``seconds`` is the whole
    run, ``step_microseconds`` the optimizer's share of a step (the median; 0 where only steps that compile were made),
    ``evaluation_seconds`` what evaluating took.
    """

    workload: str
    chain: str
    seed: int
    steps: int
    failed: str
    cost: float
    validation: Mapping[str, float]
    test: Mapping[str, float]
    curve: tuple[tuple[int, float], ...]
    losses: tuple[float, ...]
    rates: tuple[float, ...]
    seconds: float
    evaluation_seconds: float
    step_microseconds: float

    def to_json(self) -> dict[str, Any]:
        """Plain data; what is not finite stays a float, as Python's JSON writes it."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Run:
        """What `to_json` gave."""
        lists = {
            "curve": tuple((int(step), float(value)) for step, value in data["curve"]),
            "losses": tuple(data["losses"]),
            "rates": tuple(data["rates"]),
        }
        return cls(**{**data, **lists})


def optimizer_for(task: Task, chain: steepest.Chain) -> Any:
    """An optimizer of this library for the task's parameters, of whichever framework they are."""
    if all(isinstance(p, np.ndarray) for p in task.params.values()):
        return steepest.numpy.Optimizer(dict(task.params), chain)
    return steepest.torch.Optimizer(list(task.params.items()), chain)


def train(
    workload: Workload,
    chain: steepest.Chain,
    seed: int,
    *,
    pruned: Callable[[int, float], bool] | None = None,
) -> Run:
    """One run of a workload with a chain, to the end of its budget, or until it fails or ``pruned(step, cost)`` says so."""
    begun = time.perf_counter()
    chain = copy.deepcopy(chain)  # a ReduceOnPlateau remembers: every run begins with its own
    task = workload.task(seed)
    optimizer = optimizer_for(task, chain)
    on_arrays = all(isinstance(p, np.ndarray) for p in task.params.values())
    averaged = any(name == "average" for link in chain for name, _ in link.state)
    plateaus = {id(v): v for link in chain for _, v in link.values if isinstance(v, ReduceOnPlateau)}.values()
    rate = learning_rate(chain)
    due = _evaluations(workload.steps)
    curve: list[tuple[int, float]] = []
    losses: list[float] = []
    rates: list[float] = []
    recent: list[float] = []
    validation: Mapping[str, float] = {}
    times: list[float] = []
    failed, evaluating = "", 0.0
    step = 0
    with np.errstate(all="ignore"):
        for step in range(1, workload.steps + 1):
            loss, grads = task.gradients(step - 1)
            recent.append(loss)
            before = time.perf_counter()
            try:
                optimizer.step(grads) if on_arrays else optimizer.step()
            except FloatingPointError as error:  # a chain with on_nonfinite="error"
                failed = f"step {step}: {error}"
            times.append(time.perf_counter() - before)
            if not failed and not math.isfinite(loss):
                failed = f"step {step}: the training loss is {loss}"
            if not failed and step not in due:
                continue
            if callable(rate):
                rates.append(float(rate(step - 1)))
            losses.append(float(np.mean(recent)))
            recent = []
            if failed:
                break
            before = time.perf_counter()
            with optimizer.using("average") if averaged else nullcontext():
                validation = _measures(workload, task, "validation")
            evaluating += time.perf_counter() - before
            value = _metric(workload, validation)
            curve.append((step, value))
            if not math.isfinite(value):
                failed = f"step {step}: the validation {workload.metric} is {value}"
                break
            for plateau in plateaus:
                plateau.step(value)
            if pruned is not None and step < workload.steps and pruned(step, workload.cost(value)):
                break
        cost = math.inf if failed or not curve else workload.cost(curve[-1][1])
        if not failed and math.isinf(cost):
            failed = f"the last validation {workload.metric} is {curve[-1][1]:.4g}, worse than {workload.failed:.4g}"
        test: Mapping[str, float] = {}
        if not failed and step == workload.steps:
            with optimizer.using("average") if averaged else nullcontext():
                test = _measures(workload, task, "test")
    return Run(
        workload.name, str(chain), seed, step, failed, cost, validation, test, tuple(curve), tuple(losses), tuple(rates),
        time.perf_counter() - begun, evaluating, 1e6 * float(np.median(times[UNTIMED:] or times[COMPILING:] or [0.0])),
    )  # fmt: skip


def _evaluations(steps: int) -> set[int]:
    count = min(EVALUATIONS, steps)
    return {round(steps * (i + 1) / count) for i in range(count)}


def _measures(workload: Workload, task: Task, part: str) -> Mapping[str, float]:
    made = task.evaluate(part)
    if not isinstance(made, Mapping):
        raise TypeError(
            f"workload {workload.name}: evaluate must return a dict of measures, {{{workload.metric!r}: …}}, "
            f"got {described(made)} for {part!r}."
        )
    numbers: dict[str, float] = {}
    for name, value in made.items():  # of NumPy or torch, too: they are kept as JSON
        try:
            numbers[name] = float(value)
        except (TypeError, ValueError, RuntimeError):
            raise TypeError(
                f"workload {workload.name}: evaluate must return numbers, got {described(value)} as {name!r} for {part!r}."
            ) from None
    return numbers


def _metric(workload: Workload, measures: Mapping[str, float]) -> float:
    if workload.metric not in measures:
        known: Sequence[str] = sorted(measures)
        raise ValueError(
            f"workload {workload.name}: evaluate must return the metric, {workload.metric!r}, got {', '.join(known) or 'nothing'}. "
            f"Return it, or set another metric: @workload(metric=…)."
        )
    return measures[workload.metric]


def learning_rate(chain: steepest.Chain) -> float | Callable[[int], float] | None:
    """What a chain was given as ``lr``: a number, a schedule, or nothing."""
    return next((value for link in chain for name, value in link.values if name == "lr"), None)
