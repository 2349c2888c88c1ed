"""The picture of a `Course`: lines of styled text, made to fit a width and a height.

From top to bottom: what is trained and how fast, three curves, the layers with the suspicious ones on top, the alarms. Knows
nothing of terminals and streams: `screen` and `steepest watch` put the lines where they belong.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from steepest.checks import printable
from steepest.monitor.marks import (
    UNICODE,
    Glyphs,
    duration,
    number,
    shortened,
    sparkline,
    whole,
)
from steepest.monitor.terminal.course import OF_EVERY_RECORD, SERIOUS, Alarm, Course
from steepest.monitor.terminal.table import SHORTEST_NAME, Line, table

__all__ = ["news", "plain", "view"]


def view(
    course: Course,
    width: int,
    height: int | None = None,
    *,
    drawn: Glyphs = UNICODE,
    source: str = "",
    skip: int = 0,
    by_suspicion: bool = True,
) -> list[Line]:
    """The picture in at most ``height`` lines of at most ``width`` characters; ``skip`` layers of the table are left out on top."""
    width = max(width, 20)
    lines = _header(course, width, drawn, source)
    alarms = _alarms(course, width, 99 if height is None else max(1, height // 6), drawn)
    curves = _curves(course, width, drawn)
    room = None if height is None else height - len(lines) - len(alarms)
    if room is None or room >= len(curves) + 5:
        lines += curves
        room = None if room is None else room - len(curves)
    lines += table(course, width, room, drawn, skip, by_suspicion) + alarms
    return [_within(line, width) for line in lines[:height]]


def _within(line: Line, width: int) -> Line:
    """A line that is too long without its end: what fits no column of a very narrow terminal."""
    if sum(len(text) for text, _ in line) <= width:
        return line
    kept: Line = []
    for text, style in line:
        kept.append((text[:width], style))
        width = max(width - len(text), 0)
    return kept


def news(course: Course, told: dict[str, int], width: int = 200, drawn: Glyphs = UNICODE) -> list[str]:
    """`plain`, and a line for each alarm that is new or has come twice as often as when it was told, which ``told`` keeps."""
    new = [one for one in course.alarms.values() if one.count >= 2 * told.get(one.kind, 0)]
    told |= {one.kind: one.count for one in new}
    lines = [plain(course, width, drawn)] if course.records else []
    return lines + [f"{one.kind:<13}{said(one, width - 13, drawn)}" for one in new]


def plain(course: Course, width: int = 200, drawn: Glyphs = UNICODE) -> str:
    """One line that says the most important, and what the user gave as far as there is room."""
    words = [f"step {course.step}"]
    if course.curves["loss"].values.size:
        words.append(f"loss {course.loss:.4g}")
    if "grad_norm" in course.scalars:
        words.append(f"grad norm {number(course.scalars['grad_norm'])}")
    words += _speed(course)
    ratio, name = course.largest_ratio
    text = "  ".join(words)
    if name:
        text += f"  update ratio up to {number(ratio)}: "
        text += shortened(printable(name), max(width - len(text), SHORTEST_NAME), drawn)
    for given in (f"  {printable(one)} {number(v)}" for one, v in course.scalars.items() if not _is_known(one)):
        text += given if len(text) + len(given) <= width else ""
    return text


def _is_known(scalar: str) -> bool:
    return scalar.partition("[")[0] in OF_EVERY_RECORD


def _speed(course: Course) -> list[str]:
    return [f"{number(1 / course.step_seconds)} steps/s"] if course.step_seconds > 0 else []


def _header(course: Course, width: int, drawn: Glyphs, source: str) -> list[Line]:
    facts = course.facts
    count = sum(math.prod(one.shape) for one in facts.tensors)
    plural = "s" if len(facts.tensors) != 1 else ""
    parts = [
        "steepest",
        printable(facts.optimizer),
        f"{len(facts.tensors)} tensor{plural}",
        f"{whole(count)} parameters",
    ]
    source = printable(source)[-width // 2 :]
    while len(parts) > 1 and len(drawn.between.join(parts)) + len(source) + 3 > width:
        parts.pop()
    left = drawn.between.join(parts)
    first: Line = [(left, "bold"), (source.rjust(width - len(left)), "dim")]
    if not course.records:
        return [first, [("waiting for the first record", "dim")]]
    items: list[tuple[str, str]] = [(f"step {course.step:,}", "bold")]
    if course.curves["loss"].values.size:
        items.append((f"loss {course.loss:.4g}", "bold" if math.isfinite(course.loss) else "bold red"))
    rates = [value for name, value in course.scalars.items() if name.partition("[")[0] == "lr"]
    if rates:
        low, high = min(rates), max(rates)
        items.append((f"lr {number(low)}" + (f" {drawn.to} {number(high)}" if high != low else ""), ""))
    items += [(speed, "") for speed in _speed(course)]
    if course.step_seconds > 0 and course.optimizer_seconds >= 0:
        share = f"{100 * course.optimizer_seconds / course.step_seconds:.0f} %"
        items.append((f"optimizer {share} of step", ""))
    items.append((duration(course.seconds), ""))
    items += [
        (f"{printable(name)} {number(value)}", "") for name, value in course.scalars.items() if not _is_known(name)
    ]
    return [first, *_flow(items, width)[:3]]


def _flow(items: Iterable[tuple[str, str]], width: int) -> list[Line]:
    """Items beside each other, as many lines as they need."""
    lines: list[Line] = []
    used = width + 1
    for text, style in items:
        text = text[:width]
        if used + 2 + len(text) > width:
            lines.append([(text, style)])
            used = len(text)
        else:
            lines[-1] += [("  ", ""), (text, style)]
            used += 2 + len(text)
    return lines


def _curves(course: Course, width: int, drawn: Glyphs) -> list[Line]:
    lines: list[Line] = []
    for title, curve in course.curves.items():
        values = curve.values
        finite = values[np.isfinite(values)]
        if not len(values):
            continue
        bounds = f"{number(finite.min())} {drawn.to} {number(finite.max())}" if len(finite) else "nothing finite"
        last = {"loss": course.loss, "grad norm": course.scalars.get("grad_norm", math.nan)}.get(
            title, course.median_ratio
        )
        spark = sparkline(values, min(max(width - 13 - 10 - 22, 8), 100), drawn)
        line: Line = [(f"{title:<13}", "dim"), *_marked(spark, drawn.broken)]
        line += [(f"{number(last):>10}", "bold" if math.isfinite(last) else "bold red")]
        if len(spark) + 13 + 10 + 3 + len(bounds) <= width:
            line.append((f"   {bounds}", "dim"))
        lines.append(line)
    return lines


def _marked(spark: str, broken: str) -> Line:
    pieces = spark.split(broken)
    line: Line = [(pieces[0], "cyan")]
    for piece in pieces[1:]:
        line += [(broken, "bold red"), (piece, "cyan")]
    return line


def _alarms(course: Course, width: int, most: int, drawn: Glyphs) -> list[Line]:
    if not course.alarms:
        return []
    latest = sorted(course.alarms.values(), key=lambda one: one.last, reverse=True)
    lines: list[Line] = [[(f"{2 * drawn.rule} alarms ".ljust(width, drawn.rule), "dim")]]
    recent = course.step - 10 * course.facts.every
    for one in latest[:most]:
        style = ("bold red" if one.kind in SERIOUS else "yellow") if one.last >= recent else "dim"
        kind = f"{one.kind:<13}"
        lines.append([(kind, style), (said(one, width - len(kind), drawn), "dim" if style == "dim" else "")])
    return lines


def said(alarm: Alarm, width: int, drawn: Glyphs = UNICODE) -> str:
    """At which steps, and what; where it is too long, the tensor's name gives way."""
    text = (
        f"step {alarm.last:,}  "
        if alarm.count == 1
        else f"{alarm.first:,}-{alarm.last:,} {drawn.times}{alarm.count:,}  "
    )
    text += printable(alarm.message.removeprefix(f"{alarm.kind} "))
    more = f" and {alarm.more} more" if alarm.more else ""
    if alarm.tensor:
        text += (
            ": "
            + shortened(printable(alarm.tensor), max(width - len(text) - 2 - len(more), SHORTEST_NAME), drawn)
            + more
        )
    return text if len(text) <= width else text[: max(width - len(drawn.cut), 0)] + drawn.cut
