"""What a monitored run consists of, as plain data: facts written once, records at every k-th step, events in between.

A `Monitor` makes them, outputs show them, the recorder keeps them, and a `Run` is all of them as columns: what the doctor,
`steepest watch` and the report read. `MEASUREMENTS` says what each value of a tensor means.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "DERIVED", "FORMAT", "MEASUREMENTS", "Event", "Facts", "Record", "Run", "TensorFacts", "line_of", "rows_of", "standing",
    "with_derived",
]  # fmt: skip

FORMAT = 1
"""Rises when a reader of an older version would misunderstand what is written."""

MEASUREMENTS = {
    "grad_norm": "length of the gradient as it arrives, before any clipping",
    "clipped_norm": "length of the update after the last clip of the chain",
    "clipped": "share of the elements that the clips changed",
    "update_norm": "length of the step: the parameter after it, before it is rounded to 16 bits, minus that before",
    "weight_norm": "length of the parameter before the step",
    "update_ratio": "update_norm / weight_norm",
    "effective_lr": "update_norm / grad_norm: the rate that plain SGD would need for a step of this length",
    "trust_ratio": "length of the update after the layer-wise rule over that before it",
    "cosine": "cosine between the step and the negative gradient",
    "spike": "root of the mean of grad² / max(v, 1e-16), v the second moment after the step: above 2.3 a sign of trouble",
    "momentum_norm": "length of the first moment after the step",
    "denominator": "mean over the elements of the root of the second moment after the step, without its correction",
    "zero_grads": "share of the gradient's elements that are exactly 0",
    "nonfinite_grads": "number of the gradient's elements that are nan or infinite",
    "unmoved": "share of the elements that the step left exactly as they were: the change was 0, or rounding took it",
    "distance": "length of the way from the first weights to these",
    "average_gap": "length of the difference between the averaged weights and these",
}
"""Values that a record may hold for every tensor; those in `DERIVED` are computed from others when a run is read."""

DERIVED = {"update_ratio": ("update_norm", "weight_norm"), "effective_lr": ("update_norm", "grad_norm")}


def with_derived(tensors: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """The measurements, and those that are computed from them."""
    made = dict(tensors)
    with np.errstate(all="ignore"):
        for name, (above, below) in DERIVED.items():
            if above in tensors and below in tensors:
                made[name] = tensors[above] / tensors[below]
    return made


@dataclass(frozen=True, slots=True)
class TensorFacts:
    """One parameter: its group's number, its elements' type as NumPy and torch name it (``"float32"``), and whether the user had
    frozen it when the run started (torch's ``requires_grad=False``)."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    group: int = 0
    frozen: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """What a run is, known when it starts.

    Attributes
    ----------
    started : seconds since 1970.
    framework, optimizer : ``"numpy"`` or ``"torch"``, and the name of the optimizer's class.
    chains, groups : each group's chain as text, and its values that are numbers, texts or truth values.
    tensors : in the order in which a record's values stand: that of the optimizer's parameters.
    states : each state's name and its elements' type.
    every : a record is made at each step that this divides.
    plan : the optimizer's plan as text, measurements included.
    process, processes : which of how many processes of a distributed run this is.
    versions : of steepest, Python and what else matters.
    notes : what the user says of the run (``batch_size`` …): numbers and texts.
    """

    started: float
    framework: str
    optimizer: str
    chains: tuple[str, ...]
    groups: tuple[dict[str, Any], ...]
    tensors: tuple[TensorFacts, ...]
    states: dict[str, str]
    every: int
    plan: str = ""
    process: int = 0
    processes: int = 1
    versions: dict[str, str] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class Record:
    """What was seen up to one step.

    Attributes
    ----------
    step : steps that the optimizer had taken, this one included.
    call : how often the monitor had been called, this time included: the number of the batch, counted from 1.
    seconds : since the run started.
    losses : one for each call since the record before, the last belonging to `call`; nan where none was given.
    scalars : values of the whole model: ``lr`` (``lr[1]`` for the second group), ``grad_norm``, ``step_seconds`` (mean since
        the record before), ``optimizer_seconds`` (of it, inside the optimizer's step), and what the user gave.
    tensors : for each measurement a value per tensor; nan where a tensor was not measured.
    given : which of the calls gave a loss, None where all did: a loss may be nan itself.
    """

    step: int
    call: int
    seconds: float
    losses: NDArray[np.float64]
    scalars: dict[str, float]
    tensors: dict[str, NDArray[np.float32]]
    given: NDArray[np.bool_] | None = None

    def given_losses(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The calls that gave a loss, and their losses."""
        calls = np.arange(self.call - len(self.losses) + 1, self.call + 1)
        return (calls, self.losses) if self.given is None else (calls[self.given], self.losses[self.given])


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened at one step: ``kind`` is ``"nonfinite"``, ``"skipped"``, ``"spike"``, ``"rewound"``, ``"note"``."""

    step: int
    call: int
    kind: str
    message: str
    tensors: tuple[str, ...] = ()
    values: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Run:
    """A whole run as columns: a row per record, a column per tensor; nan where a value is missing.

    ``steps`` rise strictly. Where training was rewound, the records of the steps that were undone stand until one of these
    steps is recorded again; then they are in `whole` only. Losses and events are those of every call, undone or not:
    ``losses[i]`` belongs to the call ``loss_calls[i]``; calls that gave none are missing, so a loss that is nan was nan.
    ``finished`` says that the monitor was closed.
    """

    facts: Facts
    steps: NDArray[np.int64]
    calls: NDArray[np.int64]
    seconds: NDArray[np.float64]
    losses: NDArray[np.float64]
    loss_calls: NDArray[np.int64]
    scalars: dict[str, NDArray[np.float64]]
    tensors: dict[str, NDArray[np.float32]]
    events: tuple[Event, ...] = ()
    finished: bool = False
    _whole: Run | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(cls, facts: Facts, records: Sequence[Record], events: Iterable[Event] = (), finished: bool = False) -> Run:
        """Records, in the order of their calls, as columns; the derived measurements are added."""
        width = len(facts.tensors)
        scalars = {name: np.full(len(records), np.nan) for one in records for name in one.scalars}
        tensors = {n: np.full((len(records), width), np.nan, dtype=np.float32) for one in records for n in one.tensors}
        for row, one in enumerate(records):
            for name, value in one.scalars.items():
                scalars[name][row] = value
            for name, values in one.tensors.items():
                tensors[name][row] = values
        calls, losses = zip(*(one.given_losses() for one in records), strict=True) if records else ((), ())
        made = cls(
            facts,
            np.array([one.step for one in records], dtype=np.int64),
            np.array([one.call for one in records], dtype=np.int64),
            np.array([one.seconds for one in records], dtype=np.float64),
            np.concatenate(losses) if losses else np.zeros(0),
            np.concatenate(calls).astype(np.int64) if calls else np.zeros(0, dtype=np.int64),
            scalars,
            with_derived(tensors),
            tuple(events),
            finished,
        )
        return line_of(made)

    @property
    def whole(self) -> Run:
        """The run with the records that rewinds have undone, in the order of calls: its steps go back where training did."""
        return self if self._whole is None else self._whole

    @property
    def names(self) -> tuple[str, ...]:
        """The tensors' names, in the order of the columns."""
        return tuple(one.name for one in self.facts.tensors)

    def __len__(self) -> int:
        return len(self.steps)


def standing(steps: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of the records, in the order of calls, stand: those behind which no other has the same step or an earlier one.

    >>> standing(np.array([10, 20, 30, 38, 30, 40]))
    array([ True,  True, False, False,  True,  True])
    """
    last = np.iinfo(np.int64).max
    lowest_later = np.minimum.accumulate(np.append(steps, last)[:0:-1])[::-1]
    return steps < lowest_later


def rows_of(run: Run, rows: NDArray[np.bool_] | slice) -> Run:
    """The run with some of its records; losses and events are left."""
    return replace(
        run,
        steps=run.steps[rows],
        calls=run.calls[rows],
        seconds=run.seconds[rows],
        scalars={name: one[rows] for name, one in run.scalars.items()},
        tensors={name: one[rows] for name, one in run.tensors.items()},
    )


def line_of(run: Run) -> Run:
    """The run with the records that stand; those that rewinds have undone are in its `whole`."""
    stand = standing(run.steps)
    return run if stand.all() else replace(rows_of(run, stand), _whole=run)
