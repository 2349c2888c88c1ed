"""How the rules look at a run: its matrices, its settings, its losses, and numbers in words.

Everything here takes a run with any measurement missing, values that are nan, and no records at all. Its records are in the
order of calls: their steps go back where training was rewound.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from steepest.monitor.doctor.finding import Series
from steepest.monitor.marks import listed, number
from steepest.monitor.records import Run
from steepest.monitor.signs import matrices, median

__all__ = [
    "Values", "across", "at_records", "began", "down", "highest", "listed", "matrix_columns", "middle", "names_of", "number",
    "rates", "second_moment", "series", "setting", "span", "values_of",
]  # fmt: skip

Values = NDArray[np.float64]


def values_of(run: Run, name: str) -> Values | None:
    """A measurement, a row per record and a column per tensor; None where it was not made."""
    found = run.tensors.get(name)
    return None if found is None or not len(run) or not found.shape[1] else found.astype(np.float64)


def matrix_columns(run: Run) -> NDArray[np.intp]:
    """The columns of tensors of two dimensions or more; of all, where none is one.

    Biases and gains start from 0 or 1 and have no usual ratio of step to length.
    """
    found = np.flatnonzero(matrices(run.facts))
    return found if len(found) else np.arange(len(run.facts.tensors))


def across(values: Values) -> Values:
    """Each record's median over its tensors."""
    return median(values)


def down(values: Values) -> Values:
    """Each tensor's median over the records."""
    return median(values.T)


def middle(values: Values) -> float:
    """The median of all that is finite; nan where nothing is."""
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else float("nan")


def highest(values: Values) -> Values:
    """Each record's largest value; nan where there is none."""
    filled = np.where(np.isnan(values), -np.inf, values)
    best: Values = filled.max(axis=1, initial=-np.inf)
    return np.where(best == -np.inf, np.nan, best)


def at_records(run: Run) -> Values:
    """The mean of the losses up to each record, since the one before; nan where there are none."""
    if not len(run):
        return np.zeros(0)
    ends = np.searchsorted(run.loss_calls, run.calls, side="right")
    starts = np.append(0, ends[:-1])
    # Sums of each record's own: a difference of cumulated sums would forget all after one nan, and most after one of 1e20.
    with np.errstate(invalid="ignore"):
        sums = np.add.reduceat(np.append(run.losses, 0.0), np.stack([starts, ends], axis=1).ravel())[::2]
    counts = ends - starts
    means: Values = np.where(counts > 0, sums, np.nan) / np.maximum(counts, 1)
    return means


def rates(run: Run, group: int = 0) -> Values | None:
    """A group's learning rate at each record, or its fixed one where records have none."""
    found = run.scalars.get(f"lr[{group}]" if group else "lr")
    if found is not None and np.isfinite(found).any():
        return found
    fixed = setting(run, group, "lr")
    return None if fixed is None else np.full(len(run), fixed)


def setting(run: Run, group: int, *names: str) -> float | None:
    """The first of these values that a group has as a number; ``"betas.1"`` is the second of a pair."""
    values = run.facts.groups[group] if group < len(run.facts.groups) else {}
    for name in names:
        key, _, place = name.partition(".")
        found = values.get(key)
        if place and isinstance(found, Sequence) and not isinstance(found, str) and len(found) > int(place):
            found = found[int(place)]
        if isinstance(found, (int, float)) and not isinstance(found, bool):
            return float(found)
    return None


def second_moment(run: Run) -> str | None:
    """The name of the state that holds averages of squared gradients."""
    return next((n for n in ("exp_avg_sq", "square_avg", "exp_inf") if n in run.facts.states), None)


# ---- in words


def names_of(run: Run, columns: Sequence[int] | NDArray[np.intp]) -> tuple[str, ...]:
    return tuple(run.facts.tensors[int(i)].name for i in columns)


def span(run: Run, first: int = 0, last: int = -1) -> tuple[int, int]:
    """Between which steps two records and those between them lie, by their places."""
    if not len(run):
        return 0, 0
    steps = run.steps[first : None if last == -1 else last + 1]
    return int(steps.min()), int(steps.max())


def began(run: Run, row: int) -> int:
    """The step of a record; 0 for the first, which may only be the first to be seen."""
    return int(run.steps[row]) if row else 0


def series(
    run: Run, name: str, columns: Sequence[int] | NDArray[np.intp] = (), first: int = 0, last: int = -1
) -> Series:
    """Evidence: a measurement of these columns, between two records; the losses of all batches."""
    if name == "loss":
        return Series("loss", (), *((int(run.loss_calls[0]), int(run.loss_calls[-1])) if len(run.losses) else (0, 0)))
    return Series(name, names_of(run, columns), *span(run, first, last))
