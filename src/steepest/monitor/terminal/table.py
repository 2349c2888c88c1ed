"""The table of layers in the terminal view: who is suspicious stands on top, with the reason where there is room for it.

A column is a row of `COLUMNS`; what doesn't fit a width is left out in the order of the columns' ranks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steepest.checks import printable
from steepest.monitor.marks import Glyphs, gauge, number, shortened
from steepest.monitor.signs import BAND, is_matrix
from steepest.monitor.terminal.course import Course

__all__ = ["COLUMNS", "Line", "table"]

Line = list[tuple[str, str]]
"""Pieces of text with their styles, in rich's words; empty for none."""

STYLES = ("", "yellow", "bold red")
"""Of a level: fine, worth a look, alarming."""
MARKS = ("   ", " ! ", "!! ")
SCALE = (-6, 0)
SHORTEST_NAME, LONGEST_NAME = 16, 48
REASONS = 24
"""The least width of the column that says why a layer is on top."""


@dataclass(frozen=True, slots=True)
class _Layer:
    """One row of the table."""

    name: str
    level: int
    reason: str
    judged: bool
    values: dict[str, float]


@dataclass(frozen=True, slots=True)
class _Column:
    """``width`` and what stands in it; ``rank`` says which columns are kept where there is little room."""

    title: str
    width: int
    rank: int
    needs: str
    cell: Callable[[_Layer, Glyphs], Line]


def _value(name: str) -> Callable[[_Layer, Glyphs], Line]:
    def cell(layer: _Layer, drawn: Glyphs) -> Line:
        value = layer.values[name]
        return [("" if math.isnan(value) else number(value), "bold red" if math.isinf(value) else "")]

    return cell


def _percent(layer: _Layer, drawn: Glyphs) -> Line:
    share = layer.values["clipped"]
    return [("" if math.isnan(share) else f"{100 * share:.0f} %", "yellow" if share > 0.5 else "")]


def _power(layer: _Layer, drawn: Glyphs) -> Line:
    ratio = layer.values["update_ratio"]
    power = "" if math.isnan(ratio) else "0" if ratio == 0 else f"{math.log10(ratio):.1f}"
    return [(power, _tone(layer))]


def _gauge(layer: _Layer, drawn: Glyphs) -> Line:
    scale = gauge(layer.values["update_ratio"], *SCALE, BAND, drawn)
    before, here, after = scale.partition(drawn.here)
    return [(before, "dim"), (here, _tone(layer)), (after, "dim")]


def _tone(layer: _Layer) -> str:
    """Of an update ratio: how far it is from the healthy band, where that is known for such a tensor."""
    ratio = layer.values["update_ratio"]
    if not layer.judged or not 0 < ratio < math.inf:
        return "dim"
    return "green" if 10.0 ** BAND[0] <= ratio <= 10.0 ** BAND[1] else STYLES[max(layer.level, 1)]


COLUMNS = (
    _Column("grad norm", 9, 1, "grad_norm", _value("grad_norm")),
    _Column("ratio", 5, 0, "update_ratio", _power),
    _Column("-6    -3    0", 13, 2, "update_ratio", _gauge),
    _Column("weights", 8, 3, "weight_norm", _value("weight_norm")),
    _Column("clipped", 7, 4, "clipped", _percent),
    _Column("trust", 8, 5, "trust_ratio", _value("trust_ratio")),
)


def table(
    course: Course, width: int, room: int | None, drawn: Glyphs, skip: int = 0, by_suspicion: bool = True
) -> list[Line]:
    """The layers in at most ``room`` lines, those before ``skip`` left out, and how many there are below."""
    if not course.tensors or (room is not None and room < 2):
        return []
    worst, order = _order(course, by_suspicion)
    end = len(order) if room is None else skip + room - 1
    if end < len(order):
        end = max(end - 1, skip + 1)
    columns = _fitting([one for one in COLUMNS if one.needs in course.tensors], width)
    taken = 3 + sum(one.width + 1 for one in columns)
    longest = max(len(one.name) for one in course.facts.tensors)
    spare = width - taken - min(longest, LONGEST_NAME) - 2
    reasons = spare if spare >= REASONS and worst.any() else 0
    names = max(min(longest, LONGEST_NAME if reasons else width, width - taken), 5)
    title = f"   {'layer':<{names}}" + "".join(f" {one.title:>{one.width}}" for one in columns)
    lines: list[Line] = [[(title[:width], "dim")]]
    for index in order[skip:end].tolist():
        lines.append(_row(_layer(course, index), columns, names, reasons, drawn))
    if len(below := order[end:]):
        suspicious = int((worst[below] > 0).sum())
        text = f"   {drawn.cut} {len(below)} more" + (f", {suspicious} of them worth a look" if suspicious else "")
        lines.append([(text[:width], "dim")])
    return lines


def _order(course: Course, by_suspicion: bool) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
    """Each layer's worst level, and the layers in the order of it; those of a level stay in the model's order."""
    worst = np.zeros(len(course.facts.tensors), dtype=np.int8)
    for _, level in course.found:
        worst = np.maximum(worst, level)
    return worst, np.argsort(-worst, kind="stable") if by_suspicion else np.arange(len(worst))


def _layer(course: Course, index: int) -> _Layer:
    signs = [(int(level[index]), sign) for sign, level in course.found if level[index]]
    level, sign = max(signs, key=lambda one: one[0], default=(0, None))
    tensor = course.facts.tensors[index]
    values = {name: float(row[index]) for name, row in course.tensors.items()}
    reason = sign.said.format(number(values[sign.value])) if sign else ""
    return _Layer(printable(tensor.name), level, reason, is_matrix(tensor), values)


def _row(layer: _Layer, columns: list[_Column], names: int, reasons: int, drawn: Glyphs) -> Line:
    style = STYLES[layer.level]
    line: Line = [(f"{MARKS[layer.level]}{shortened(layer.name, names, drawn):<{names}}", style)]
    for column in columns:
        (text, tone), *rest = column.cell(layer, drawn)
        line += [(text.rjust(column.width + 1 - sum(len(one) for one, _ in rest)), tone), *rest]
    if layer.reason and reasons:
        line.append((f"  {layer.reason[:reasons]}", style))
    return line


def _fitting(columns: list[_Column], width: int) -> list[_Column]:
    """Those that leave room for the names, the highest ranks left out first."""
    kept = sorted(columns, key=lambda one: one.rank)
    while kept and 3 + SHORTEST_NAME + sum(one.width + 1 for one in kept) > width:
        kept.pop()
    return [one for one in columns if one in kept]
