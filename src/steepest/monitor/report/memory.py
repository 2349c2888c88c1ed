"""What a report remembers of a run: records, losses and events, each in bounded memory however long training takes.

Records are thinned as the flight recorder's are: those that a rewind has undone go first, then older ones get further apart,
the newest quarter stays whole. Losses outlive
the records they came with; when there are too many, of each four of the older ones the lowest and the highest stay, so
that no spike is lost.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from steepest.monitor.recorder.thinning import thinned
from steepest.monitor.records import Event, Facts, Record, Run, line_of, standing

__all__ = ["Memory", "extremes"]

RECORDS = 2000
VALUES = 8_000_000
"""Values of tensors in all records: 32 MB."""
FEWEST = 128
"""So many records are kept, however many tensors there are."""
LOSSES = 200_000
EVENTS = 1000


class Memory:
    """A run as far as it has come, in at most 2,000 records (fewer where there are many tensors), 200,000 losses, 1,000 events."""

    def __init__(self, facts: Facts, records: int = RECORDS, losses: int = LOSSES, events: int = EVENTS) -> None:
        self.facts = facts
        self._most, self._most_losses, self._most_events = records, losses, events
        self._ids: list[int] = []
        self._count = 0
        self._records: list[Record] = []
        self._events: list[Event] = []
        self._loss_calls: list[NDArray[np.int64]] = []
        self._losses: list[NDArray[np.float64]] = []
        self._loss_count = 0

    def add(self, record: Record) -> None:
        """Remember a record, and forget others where there are too many."""
        calls, losses = record.given_losses()
        self._loss_calls.append(calls)
        self._losses.append(np.asarray(losses, dtype=np.float64))
        self._loss_count += len(losses)
        self._records.append(replace(record, losses=np.zeros(0), given=None))
        self._ids.append(self._count)
        self._count += 1
        width = len(self.facts.tensors) * len(record.tensors)
        if len(self._records) > min(self._most, max(FEWEST, VALUES // max(1, width))):
            stay = standing(np.array([one.step for one in self._records]))
            if len(stay) - stay.sum() < len(stay) // 4:
                stay[stay] = thinned(np.array(self._ids)[stay])
            self._records = [one for one, stays in zip(self._records, stay, strict=True) if stays]
            self._ids = [one for one, stays in zip(self._ids, stay, strict=True) if stays]
        if self._loss_count > self._most_losses:
            self._thin_losses()

    def add_event(self, event: Event) -> None:
        """Remember an event; of too many the first half and the last ones stay."""
        self._events.append(event)
        if len(self._events) > self._most_events:
            del self._events[self._most_events // 2]

    def run(self, finished: bool) -> Run:
        """All that is remembered, as columns."""
        calls, losses = self._joined()
        run = Run.of(self.facts, self._records, self._events, finished).whole
        return line_of(replace(run, losses=losses, loss_calls=calls))

    def _joined(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        if not self._losses:
            return np.zeros(0, dtype=np.int64), np.zeros(0)
        return np.concatenate(self._loss_calls).astype(np.int64), np.concatenate(self._losses)

    def _thin_losses(self) -> None:
        calls, losses = self._joined()
        older = len(losses) * 3 // 4
        stay = np.concatenate([extremes(losses[:older], older // 4), np.arange(older, len(losses))])
        self._loss_calls, self._losses, self._loss_count = [calls[stay]], [losses[stay]], len(stay)


def extremes(values: NDArray[np.float64], shares: int) -> NDArray[np.int64]:
    """Where, in each of so many equal shares, the lowest and the highest value stand; what is not finite is the highest.

    >>> extremes(np.array([3.0, 1.0, 2.0, 9.0, 5.0, np.nan, 4.0, 6.0]), 2)
    array([1, 3, 5, 6])
    """
    if not len(values) or shares < 1:
        return np.zeros(0, dtype=np.int64)
    starts = np.unique(np.linspace(0, len(values), shares, endpoint=False).astype(np.int64))
    share = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(values))))
    ranked = np.lexsort((np.where(np.isfinite(values), values, np.inf), share))
    return np.unique(np.concatenate([ranked[starts], ranked[np.append(starts[1:], len(values)) - 1]]))
