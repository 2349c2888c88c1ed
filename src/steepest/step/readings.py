"""What the steps of some tensors have measured last, read from the engines as arrays and given out by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steepest.engines.executor import Job, tensor_values
from steepest.engines.tensors import Tensor
from steepest.language.expression import Rate

__all__ = ["Readings"]


@dataclass(frozen=True, slots=True)
class _Reading:
    """One measurement of one job: a value for each of its tensors, or for each of its rows of numbers."""

    tensors: Sequence[Tensor]
    values: NDArray[np.float64]
    indices: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))


class Readings:
    """Measurements by name, each as it was when it was taken last; and apart from them those of the last step that took any.

    ``step`` is that step's number, counted from 1; 0 before the first.
    """

    def __init__(self) -> None:
        self.step = 0
        self._by_name: dict[str, list[_Reading]] = {}
        self._latest: dict[str, list[_Reading]] = {}
        self._ran: Sequence[Job] = ()

    def ran(self, jobs: Sequence[Job]) -> None:
        """These jobs are the step that runs now."""
        self._ran = jobs

    def take(self, step: int) -> None:
        """Keep what each of the step's jobs has measured, all of it read from its engine at once."""
        read: dict[str, list[_Reading]] = {}
        for job in self._ran:
            if not job.program.measures:
                continue
            indices = np.array([t.index for t in job.bound.tensors])
            of_tensors = [m for m in job.program.measures if m.value.rate == Rate.TENSOR]
            values = tensor_values(job, [m.value.index for m in of_tensors])
            for measure in of_tensors:
                one = _Reading(job.bound.tensors, values[measure.value.index], indices)
                read.setdefault(measure.name, []).append(one)
            for measure in job.program.measures:
                if measure.value.rate < Rate.TENSOR:
                    value = measure.value
                    numbers = [float(v[value.index]) if value.op != "const" else value.value for v in job.values]
                    read.setdefault(measure.name, []).append(_Reading((), np.array(numbers)))
        self._keep(read, step)

    def join(self, parts: Iterable[Readings], step: int) -> None:
        """Take what these have measured in their last steps for one step's measurements."""
        found: dict[str, list[_Reading]] = {}
        ran: list[Job] = []
        for part in parts:
            ran += part._ran
            for name, readings in part._latest.items():
                found.setdefault(name, []).extend(readings)
        self._ran = ran
        if found:
            self._keep(found, step)

    def _keep(self, read: dict[str, list[_Reading]], step: int) -> None:
        self.step, self._latest = step, read
        self._by_name = self._by_name | read

    def copy(self) -> Readings:
        """The same, which later steps don't change."""
        made = Readings()
        made.become(self)
        return made

    def become(self, other: Readings) -> None:
        """Take the place of everything that was measured: what ``other`` has."""
        self.step, self._ran = other.step, other._ran
        self._by_name, self._latest = other._by_name, other._latest

    def named(self) -> dict[str, Any]:
        """By name: a number, a number per row of numbers, or a number per tensor's name."""
        found: dict[str, Any] = {}
        for name, readings in self._by_name.items():
            numbers = np.concatenate([one.values for one in readings]).tolist()
            tensors = [t.name for one in readings for t in one.tensors]
            found[name] = dict(zip(tensors, numbers, strict=True)) if tensors else _joined(numbers)
        return found

    def per_tensor(self, count: int) -> dict[str, NDArray[np.float64]]:
        """What the last step measured per tensor, by index; nan where one of the ``count`` was not measured."""
        found = {}
        for name, readings in self._latest.items():
            if readings[0].tensors:
                found[name] = np.full(count, np.nan)
                for one in readings:
                    found[name][one.indices] = one.values
        return found

    def numbers(self) -> Iterator[tuple[Mapping[str, float], NDArray[np.int64]]]:
        """Step count, hyperparameters and host states as the last step used them, under their plan's names, and whose, by index."""
        for job in self._ran:
            indices, rows = np.array([t.index for t in job.bound.tensors]), np.array(job.row_of)
            yield from ((inputs, indices[rows == row]) for row, inputs in enumerate(job.inputs))

    def totals_finite(self) -> bool:
        """Whether all sums over the model that the last step has waited for were finite."""
        return all(
            isfinite(values[index])
            for job in self._ran
            for stage in job.program.model_reductions
            for index in stage
            for values in job.values
        )


def _joined(found: list[float]) -> Any:
    """One number where all rows measured the same."""
    same = all(f == found[0] or (f != f and found[0] != found[0]) for f in found)
    return found[0] if same else found
