"""Whether rejected losses are a new level of the loss, and no spikes: another task, another weight of a term.

Weights that are to blame for a row of spikes give lower losses where they are put back. Where losses come back as they were, at the
weights of one snapshot or more, the weights have nothing to do with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from steepest.monitor.guard.processes import worst

__all__ = ["EVIDENCE", "Rejected", "at_one_level"]

EVIDENCE = 6
"""Rejected losses, in two rows or more, by which it is decided."""


class Rejected:
    """The losses rejected since the last snapshot: a row for the weights of each rewind, the last one open."""

    def __init__(self) -> None:
        self._rows: list[list[float | None]] = [[]]

    def add(self, loss: float | None) -> None:
        """One more; nan where it was not finite in some process, None where only other processes have seen a spike."""
        self._rows[-1].append(loss)

    def interrupt(self) -> None:
        """A good loss came: the open row begins anew."""
        self._rows[-1].clear()

    def rewound(self) -> None:
        """What follows comes from other weights."""
        self._rows.append([])

    @property
    def rewinds(self) -> int:
        return len(self._rows) - 1

    @property
    def median(self) -> float:
        """Of those that this process has seen; nan where there are none."""
        seen = [loss for row in self._rows for loss in row if loss is not None]
        return median(seen) if seen else math.nan

    def are_one_level(self, width: float) -> bool:
        """Whether going back has changed nothing, for no process; losses scatter by ``width``. All processes ask together."""
        rows = [row for row in self._rows if row]
        if len(rows) < 2 or sum(map(len, rows)) < EVIDENCE:  # the same in all processes
            return False
        own = [[loss for loss in row if loss is not None] for row in rows]
        return not worst(not at_one_level(own, width))

    def forget(self) -> None:
        self._rows = [[]]


def at_one_level(rows: Sequence[Sequence[float]], width: float) -> bool:
    """Whether the median of each row lies where the first row lies, give or take ``width``.

    >>> at_one_level([[1.5, 1.4], [1.45], []], width=0.1), at_one_level([[9.0, 12.0], [3.0]], width=0.1)
    (False, False)
    >>> at_one_level([[1.5, 1.4], [1.45, 9.0, 1.3]], width=0.1), at_one_level([[], []], width=0.1)
    (True, True)
    """
    if not any(rows):
        return True
    low, high = min(rows[0], default=math.nan) - width, max(rows[0], default=math.nan) + width
    return all(row and low <= median(row) <= high for row in rows)
