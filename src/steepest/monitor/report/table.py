"""The table of layers at a run's last record: those that stand out first, with the reason."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from steepest.monitor.marks import number, shape_of
from steepest.monitor.records import MEASUREMENTS, Run
from steepest.monitor.report.axis import measured_rows
from steepest.monitor.signs import levels

__all__ = ["Row", "Table", "table_of"]

ROWS = 1000
"""At most; those that stand out are among them."""
SHARES = ("clipped", "zero_grads", "unmoved")


@dataclass(frozen=True, slots=True)
class Row:
    """One layer: what stands out and how badly (0 nothing, 2 alarming), and its values as text."""

    name: str
    shape: str
    level: int
    reason: str
    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """``worst`` is the number of the layer that stands out most, the first where none does; ``worst_level`` how badly."""

    step: int
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    layers: int
    worst: int = 0
    worst_level: int = 0


def table_of(run: Run) -> Table:
    """The table at the last record that has more than losses."""
    rows = measured_rows(run)
    measured = [name for name, values in run.tensors.items() if len(rows) and not np.isnan(values[rows[-1]]).all()]
    columns = [name for name in MEASUREMENTS if name in measured]
    columns += [name for name in measured if name not in columns]
    if not columns:
        return Table(0, (), (), len(run.names))
    last = int(rows[-1])
    level, reason = np.zeros(len(run.names), dtype=int), [""] * len(run.names)
    for sign, found in levels(run):
        for i in np.flatnonzero(found[last] > level):
            reason[i] = sign.said.format(number(float(run.tensors[sign.value][last, i])))
        level = np.maximum(level, found[last])
    order = sorted(range(len(run.names)), key=lambda i: -level[i])
    made = tuple(
        Row(
            run.names[i],
            shape_of(run.facts.tensors[i].shape),
            int(level[i]),
            reason[i],
            tuple(_cell(name, float(run.tensors[name][last, i])) for name in columns),
        )
        for i in order[:ROWS]
    )
    titles = tuple(name.replace("_", " ") for name in columns)
    return Table(
        int(run.steps[last]), titles, made, len(run.names), order[0] if order else 0, int(level.max(initial=0))
    )


def _cell(name: str, value: float) -> str:
    if math.isnan(value):
        return ""
    return f"{100 * value:.3g} %" if name in SHARES else number(value)
