"""Values as text one line high: sparklines, gauges, names cut in the middle, numbers that fit a column, counts, times, shapes.

The view in the terminal is drawn with them, pages and sentences use the same. What is no letter comes in Unicode or in ASCII
(`glyphs`), so that the view needs no other thought for a terminal that has no block characters. Imports nothing but NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "ASCII",
    "UNICODE",
    "Glyphs",
    "duration",
    "gauge",
    "glyphs",
    "listed",
    "number",
    "shape_of",
    "shortened",
    "sparkline",
    "whole",
]

Values = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Glyphs:
    """The characters of a view. ``levels`` rise from low to high; ``broken`` stands for values that are not finite."""

    levels: str
    broken: str
    cut: str
    outside: str
    healthy: str
    here: str
    rule: str
    between: str
    to: str
    times: str


UNICODE = Glyphs("▁▂▃▄▅▆▇█", "×", "…", "·", "─", "●", "─", " · ", "…", "×")
ASCII = Glyphs("_.:-=+*#", "!", "..", ".", "-", "O", "-", " | ", "..", "x")


def glyphs(encoding: str | None, environment: Mapping[str, str]) -> Glyphs:
    """Unicode where the stream is encoded in it and the user's locale doesn't deny it.

    Python writes UTF-8 under ``LANG=C`` as well, and then sets LC_CTYPE itself: so the two others are asked.
    """
    locale = environment.get("LC_ALL") or environment.get("LANG") or ""
    able = (encoding or "").lower().replace("_", "-").startswith(("utf-8", "utf8", "utf-16", "cp65001"))
    return UNICODE if able and locale not in ("C", "POSIX") else ASCII


def sparkline(values: Values, width: int, drawn: Glyphs = UNICODE) -> str:
    """At most ``width`` characters, each the largest of its share of the values; a share with a nan or infinity is broken.

    The scale is logarithmic where all finite values are positive and the largest is more than four times the smallest.
    """
    if not len(values) or width < 1:
        return ""
    cells = np.asarray(values, dtype=np.float64)
    if len(cells) > width:
        starts = np.linspace(0, len(cells), width, endpoint=False).astype(np.int64)
        cells = np.maximum.reduceat(np.where(np.isfinite(cells), cells, np.nan), starts)  # maximum hands nan on
    whole_ones = np.isfinite(cells)
    finite = cells[whole_ones]
    if not len(finite):
        return drawn.broken * len(cells)
    low, high = finite.min(), finite.max()
    if low > 0 and high > 4 * low:
        finite, low, high = np.log(finite), np.log(low), np.log(high)
    # Halved before subtracting: the difference of two finite numbers may be infinite.
    share = (finite / 2 - low / 2) / (high / 2 - low / 2) if high > low else np.full(len(finite), 0.5)
    rows = np.zeros(len(cells), dtype=np.int64)
    rows[whole_ones] = np.clip((share * len(drawn.levels)).astype(np.int64), 0, len(drawn.levels) - 1)
    return "".join(
        drawn.levels[row] if finite_one else drawn.broken for row, finite_one in zip(rows, whole_ones, strict=True)
    )


def gauge(value: float, low: int, high: int, band: tuple[int, int], drawn: Glyphs = UNICODE) -> str:
    """A scale of powers of ten from ``low`` to ``high``, two characters each, the healthy band marked, and where a value is.

    >>> gauge(1e-3, -6, 0, (-4, -2))
    '····──●──····'
    """
    scale = [drawn.healthy if 2 * band[0] <= i <= 2 * band[1] else drawn.outside for i in range(2 * low, 2 * high + 1)]
    if not math.isnan(value):
        power = low if value <= 0 else high if math.isinf(value) else math.log10(value)
        scale[min(max(round(2 * (power - low)), 0), len(scale) - 1)] = drawn.here
    return "".join(scale)


def shortened(name: str, width: int, drawn: Glyphs = UNICODE) -> str:
    """A name of parts with dots between them, made to fit: from the front parts shrink to a letter, the last two in the middle.

    Numbers stay, and so does what stands last: the two say which layer this is.

    >>> shortened("transformer.blocks.11.attention.projection.weight", 30)
    't.b.11.a.projection.weight'
    >>> shortened("transformer.blocks.11.attention.projection.weight", 24)
    't.b.11.a.pr…ction.weight'
    """
    parts = name.split(".")
    for position, part in enumerate(parts):
        too_long = len(".".join(parts)) - width
        if too_long <= 0:
            break
        if position >= len(parts) - 2 and len(part) - too_long >= 4 + len(drawn.cut):
            parts[position] = _cut(part, len(part) - too_long, drawn)
        elif not part.isdigit() and len(part) > 3 and position < len(parts) - 1:
            parts[position] = part[:1]
    return _cut(".".join(parts), width, drawn)


def _cut(text: str, width: int, drawn: Glyphs) -> str:
    left = width - len(drawn.cut)
    if len(text) <= width or left < 2:
        return text[: max(width, 0)]
    front = left * 2 // 5
    return text[:front] + drawn.cut + text[len(text) - (left - front) :]


def number(value: float) -> str:
    """Three digits, at most nine characters.

    >>> number(0.012345), number(123456.0), number(-1.2345e-7), number(float("nan"))
    ('0.0123', '1.23e+05', '-1.23e-07', 'nan')
    """
    return f"{value:.3g}"


def whole(count: float) -> str:
    """A count, large ones in thousands, millions or billions.

    >>> whole(1234), whole(12_345), whole(124_439_808)
    ('1,234', '12.3 k', '124 M')
    """
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if count >= size:
            return f"{count / min(size, 1e3) if unit == 'k' else count / size:.3g} {unit}"
    return f"{count:,.0f}"


def duration(seconds: float) -> str:
    """In the two largest units that it has.

    >>> duration(7.4), duration(754), duration(3 * 3600 + 300)
    ('7 s', '12 min 34 s', '3 h 5 min')
    """
    minutes, seconds = divmod(int(max(seconds, 0)), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def shape_of(shape: Sequence[int]) -> str:
    """A tensor's sizes.

    >>> shape_of((64, 3, 3)), shape_of(())
    ('64×3×3', 'scalar')
    """
    return "×".join(map(str, shape)) or "scalar"


def listed(names: Sequence[str], most: int = 3) -> str:
    """Some names as text.

    >>> listed(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
