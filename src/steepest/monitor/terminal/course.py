"""What the terminal view knows of a run while it goes on: its last record, three curves of bounded length, its alarms.

A `Course` is fed with columns, whether they are the few records since the last picture or a whole run read from its folder. It
goes by calls: where training was rewound, its steps go back, and its curves keep what led there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from steepest.monitor.marks import number
from steepest.monitor.records import Facts, Run
from steepest.monitor.signs import Levels, Sign, levels, matrices, median

__all__ = ["Alarm", "Course", "Curve"]

OF_EVERY_RECORD = ("lr", "grad_norm", "step_seconds", "optimizer_seconds")
"""Scalars that are nan where they are not finite; others are where nobody gave them."""
SERIOUS = ("nonfinite", "spike", "rewound", "update ratio")


@dataclass(frozen=True, slots=True)
class Alarm:
    """All that was seen of one kind: between which steps, how often, what was said last, of which tensor, of how many more."""

    kind: str
    first: int
    last: int
    count: int
    message: str
    tensor: str = ""
    more: int = 0


class Curve:
    """The values of a whole run in bounded memory: when there are too many, neighbours become one, the larger of both."""

    def __init__(self, length: int = 512) -> None:
        self._values = np.empty(length)
        self._count = 0
        self._stride = 1
        self._waiting: list[float] = []

    def extend(self, values: Iterable[float]) -> None:
        for value in values:
            self._waiting.append(value)
            if len(self._waiting) < self._stride:
                continue
            self._values[self._count] = _largest(self._waiting)
            self._waiting.clear()
            self._count += 1
            if self._count == len(self._values):
                self._count //= 2
                pairs = self._values.reshape(-1, 2)
                self._values[: self._count] = [_largest(pair) for pair in pairs.tolist()]
                self._stride *= 2

    @property
    def values(self) -> NDArray[np.float64]:
        """In order, the last one from what has not filled a place yet."""
        rest = [_largest(self._waiting)] if self._waiting else []
        return np.concatenate([self._values[: self._count], rest])


def _largest(values: Iterable[float]) -> float:
    """Nan as soon as one value is not finite, so that it is not lost among larger ones."""
    return max(values) if all(map(math.isfinite, values := list(values))) else math.nan


class Course:
    """The state of a run as its view shows it.

    Attributes
    ----------
    step, call, seconds, loss : of the last record; the loss is the mean of those that it has.
    scalars, tensors : the last known values.
    found : each sign with its level for every tensor, for these values.
    step_seconds, optimizer_seconds : means over what was added last; nan where unknown.
    median_ratio, largest_ratio : of the matrices' update ratios at the last record, the largest with its tensor's name; of all
        tensors where there is no matrix.
    curves : by their titles.
    alarms : the latest last.
    """

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.step, self.call, self.seconds, self.loss = 0, 0, 0.0, math.nan
        self.scalars: dict[str, float] = {}
        self.tensors: dict[str, NDArray[np.float32]] = {}
        self.found: list[tuple[Sign, Levels]] = []
        self.step_seconds = self.optimizer_seconds = math.nan
        self.median_ratio = math.nan
        self.largest_ratio = math.nan, ""
        self.curves = {"loss": Curve(), "grad norm": Curve(), "update ratio": Curve()}
        self.alarms: dict[str, Alarm] = {}
        self.records = 0
        self.finished = False

    def add(self, run: Run) -> None:
        """The next records of the run, and the events between them."""
        if len(run):
            self._add_records(run)
        for event in run.events:
            named = [one for one in event.tensors if one not in event.message] or [""]
            self._alarm(Alarm(event.kind, event.step, event.step, 1, event.message, named[0], len(named) - 1))
        self.finished = run.finished

    def _add_records(self, run: Run) -> None:
        before = self.step, self.seconds
        self.step, self.call, self.seconds = int(run.steps[-1]), int(run.calls[-1]), float(run.seconds[-1])
        self.records += len(run)
        self._add_losses(run)
        # A run ends with a record of nothing but its last losses: what is shown of the rest stays.
        scalars = np.array([*run.scalars.values()]) if run.scalars else np.zeros((0, len(run)))
        rows = np.flatnonzero(~np.isnan(scalars).all(axis=0)) if run.scalars or not run.tensors else np.arange(len(run))
        if len(rows):
            self._add_measured(run, rows)
        if "step_seconds" not in self.scalars and self.step > before[0] and self.seconds > before[1]:
            self.step_seconds = (self.seconds - before[1]) / (self.step - before[0])

    def _add_losses(self, run: Run) -> None:
        """The mean of each record's losses."""
        ends = np.searchsorted(run.loss_calls, run.calls, side="right")
        for step, losses in zip(run.steps.tolist(), np.split(run.losses, ends[:-1]), strict=True):
            if not len(losses):
                continue
            broken = losses[~np.isfinite(losses)]
            if len(broken):
                self._alarm(Alarm("nonfinite", step, step, 1, f"loss {number(broken[-1])}"))
            self.loss = float(losses.mean())
            self.curves["loss"].extend([self.loss])

    def _add_measured(self, run: Run, rows: NDArray[np.int64]) -> None:
        last = rows[-1]
        for name, values in run.scalars.items():
            known = values[~np.isnan(values)]
            if name in OF_EVERY_RECORD or len(known):
                self.scalars[name] = float(values[last] if name in OF_EVERY_RECORD else known[-1])
        self.step_seconds, self.optimizer_seconds = (
            float(run.scalars[name][rows[-20:]].mean()) if name in run.scalars else math.nan
            for name in ("step_seconds", "optimizer_seconds")
        )
        if "grad_norm" in run.scalars:
            self.curves["grad norm"].extend(run.scalars["grad_norm"][rows].tolist())
        if run.tensors:
            self.tensors = {name: values[last] for name, values in run.tensors.items()}
            every = levels(run)
            self.found = [(sign, found[last]) for sign, found in every]
            for sign, found in every:
                if (bad := found >= 2).any():
                    self._alarm_of(run, sign, bad)
        if "update_ratio" in run.tensors:
            self._add_ratios(run, rows)

    def _add_ratios(self, run: Run, rows: NDArray[np.int64]) -> None:
        judged = np.flatnonzero(matrices(self.facts))
        judged = judged if len(judged) else np.arange(len(self.facts.tensors))
        ratios = run.tensors["update_ratio"][rows][:, judged]
        medians = median(ratios)
        self.curves["update ratio"].extend(medians.tolist())
        self.median_ratio = float(medians[-1])
        last = np.where(np.isfinite(ratios[-1]), ratios[-1], -1)
        if len(last) and (largest := float(last.max())) >= 0:
            self.largest_ratio = largest, run.names[judged[int(last.argmax())]]

    def _alarm_of(self, run: Run, sign: Sign, bad: NDArray[np.bool_]) -> None:
        rows = np.flatnonzero(bad.any(axis=1))
        values, last = run.tensors[sign.value][rows[-1]], bad[rows[-1]]
        worst = int(np.where(last, np.where(np.isnan(values), np.inf, values), -np.inf).argmax())
        said = sign.said.format(number(float(values[worst])))
        steps = run.steps[rows]
        self._alarm(
            Alarm(sign.kind, int(steps.min()), int(steps.max()), len(rows), said, run.names[worst], int(last.sum()) - 1)
        )

    def _alarm(self, new: Alarm) -> None:
        old = self.alarms.pop(new.kind, None)
        if old:
            first, last = min(old.first, new.first), max(old.last, new.last)
            new = replace(new, first=first, last=last, count=old.count + new.count)
        self.alarms[new.kind] = new
