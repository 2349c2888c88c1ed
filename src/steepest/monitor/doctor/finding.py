"""What the doctor says, as plain data: findings with their evidence, and the rules that lead to them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from steepest.monitor.records import Run

__all__ = ["ALARM", "Finding", "Rule", "Series", "Sign", "sure"]

ALARM = 0.5
"""A finding from this confidence on is an alarm; below, it is a remark that a healthy run may deserve too."""


@dataclass(frozen=True, slots=True)
class Series:
    """What to draw as evidence: a measurement of some tensors, or, without tensors, a scalar or ``"loss"``; and between which
    steps to look (of ``"loss"``: between which batches)."""

    name: str
    tensors: tuple[str, ...]
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Sign:
    """What a rule has seen in a run; together with the rule it is a finding.

    ``onset`` is the step at which it began: what began later may follow from it.
    """

    title: str
    confidence: float
    evidence: str
    series: tuple[Series, ...]
    advice: str
    code: str
    onset: int


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of the doctor.

    Attributes
    ----------
    cause : a key, the same in all versions.
    says : when it fires, in words, with the thresholds.
    source : where the rule or its threshold comes from; what is the library's own says so.
    needs : what it can't judge without, all of one of these sets: measurements, scalars, ``"losses"``, ``"events"``, or the note
        ``"batch_size"``.
    examine : finds the signs of the cause in a run.
    concerns : whether a run can have the cause at all.
    """

    cause: str
    says: str
    source: str
    needs: tuple[tuple[str, ...], ...]
    examine: Callable[[Run], Iterable[Sign]]
    concerns: Callable[[Run], bool] = lambda run: True

    def can_judge(self, run: Run) -> bool:
        """Whether the run has what the rule looks at, and can have the cause."""
        return self.concerns(run) and any(all(_has(run, name) for name in one) for one in self.needs)


def _has(run: Run, name: str) -> bool:
    """A scalar may be one of several parts of the model: ``activations_dead/relu``. Events are looked out for from the start."""
    if name == "losses":
        return bool(np.isfinite(run.losses).any())
    if name == "events":
        return len(run) > 0 or len(run.events) > 0
    if name == "batch_size":
        return isinstance(run.facts.notes.get(name), (int, float))
    return len(run) > 0 and (name in run.tensors or any(name == one.partition("/")[0] for one in run.scalars))


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong with a run, or may be.

    Attributes
    ----------
    cause, title : a short key, and plain words.
    confidence : from 0 to 1; from `ALARM` on it is an alarm.
    evidence : what was measured, with numbers and steps.
    series : the recorded measurements behind it, for a picture.
    rule, source : when the rule fires, and who says so.
    advice, code : what to do, and the line that does it.
    onset : the step at which it began.
    tensors : every parameter that the evidence names.
    explained_by : the cause of another finding that this one follows from; "" where there is none.
    """

    cause: str
    title: str
    confidence: float
    evidence: str
    series: tuple[Series, ...]
    rule: str
    source: str
    advice: str
    code: str
    onset: int
    tensors: tuple[str, ...] = ()
    explained_by: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def sure(value: float, threshold: float, certain: float, low: float = 0.5, high: float = 0.95) -> float:
    """A confidence: ``low`` at the threshold, ``high`` where the value is certain, logarithmic between.

    >>> sure(10, threshold=1, certain=100, low=0.5, high=0.9)
    0.7
    """
    if not value > 0:
        return high if certain < threshold else low
    part = math.log(value / threshold) / math.log(certain / threshold) if math.isfinite(value) else 1.0
    return round(low + (high - low) * min(1.0, max(0.0, part)), 2)
