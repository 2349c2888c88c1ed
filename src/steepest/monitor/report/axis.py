"""The axis of steps that all pictures of a run share, and axes of values that show what there is.

Neighbouring records become one point where there are more than a picture can show.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from bokeh.models import CustomJSTickFormatter, Range1d, Scatter

from steepest.monitor.records import Run
from steepest.monitor.tags import steps_of_calls
from steepest.pages.figures import brief, new_plot

__all__ = ["Axis", "Bounds", "bounds_of", "dots", "inside", "measured_rows", "on", "plot_over", "steps_of_losses"]

Array: TypeAlias = npt.NDArray[np.floating]
Bounds: TypeAlias = tuple[float, float, str]
"""Where an axis begins and ends, and its scale."""

POINTS = 400
"""Of a line: more can't be told apart in a picture."""
DOTTED = 40
"""A line of fewer points shows them."""


class Axis:
    """The steps of a run, few enough to be drawn: neighbouring records become one point."""

    def __init__(self, run: Run) -> None:
        self.rows = measured_rows(run)
        count = min(len(self.rows), POINTS)
        self._starts = np.linspace(0, len(self.rows), count, endpoint=False).astype(np.int64)
        self.together = math.ceil(len(self.rows) / count) if count else 1
        ends = np.append(self._starts[1:], len(self.rows)) - 1 if count else self._starts
        self.x = run.steps[self.rows][ends].astype(np.float64)
        first, last = (int(run.steps[0]), int(run.steps[-1])) if len(run) else (0, 1)
        start = 0 if first <= run.facts.every else first
        self.range = Range1d(start=start if last > start else last - 1, end=max(last, start + 1))

    def mean(self, values: Array) -> npt.NDArray[np.float64]:
        """Means of what is finite over the records that become a point."""
        chosen = values[self.rows].astype(np.float64)
        if self.together == 1:
            return np.where(np.isfinite(chosen), chosen, np.nan)
        finite = np.isfinite(chosen)
        with np.errstate(all="ignore"):
            sums = np.add.reduceat(np.where(finite, chosen, 0), self._starts, axis=0)
            made: npt.NDArray[np.float64] = sums / np.add.reduceat(finite.astype(np.float64), self._starts, axis=0)
        return made

    def ends(self, values: Array) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """The lowest and the highest of what is finite."""
        chosen = values[self.rows].astype(np.float64)
        chosen[~np.isfinite(chosen)] = np.nan
        return np.fmin.reduceat(chosen, self._starts), np.fmax.reduceat(chosen, self._starts)


def measured_rows(run: Run) -> npt.NDArray[np.int64]:
    """The records that have more than losses: a run often ends with one of nothing but its last losses."""
    known = np.zeros(len(run), dtype=bool)
    for values in run.scalars.values():
        known |= ~np.isnan(values)
    for layers in run.tensors.values():
        known |= ~np.isnan(layers).all(axis=1)
    return np.flatnonzero(known)


def steps_of_losses(run: Run) -> npt.NDArray[np.float64]:
    """The step that each loss belongs to, as near as the records tell; it goes back where training did."""
    return steps_of_calls(run.loss_calls, run.whole.steps, run.whole.calls, run.facts.every)


def plot_over(label: str, axis: Axis, bounds: Bounds, height: int = 280) -> Any:
    """An empty plot over the steps."""
    low, high, scale = bounds
    plot = new_plot("step", label, "linear", scale, height)
    plot.x_range, plot.y_range = axis.range, Range1d(start=low, end=high)
    plot.xaxis.formatter = CustomJSTickFormatter(code="return tick.toLocaleString('en')")
    plot.xaxis.ticker.desired_num_ticks = 5  # a phone has no room for more
    plot.yaxis.formatter = CustomJSTickFormatter(code=_NUMBER)
    return plot


_NUMBER = """
const size = Math.abs(tick), short = Number(tick.toPrecision(4));
return size && (size < 1e-3 || size >= 1e5) ? short.toExponential().replace("e+", "e") : String(short)
"""


def bounds_of(values: Array, *, log: bool, typical: bool = False) -> Bounds:
    """Where an axis of these values begins and ends; logarithmic, if it may be, where they span more than a factor of 8.

    With ``typical`` only where half of them are below a thirtieth of the highest: a schedule that ends at 0 is none.
    """
    finite = values[np.isfinite(values)].astype(np.float64)
    positive = finite[finite > 0]
    if log and len(positive) and finite.min() >= 0:
        high = float(positive.max())
        usual = float(np.quantile(positive, 0.02)) / 30  # what is far below all others must not press them flat
        low = max(float(positive.min()), usual, high * 1e-12)
        if high > (30 * np.median(finite) if typical else 8 * low):
            margin = (high / low) ** 0.06
            return max(low / margin, 1e-300), min(high * margin, 1e300), "log"
    if not len(finite):
        return 0.0, 1.0, "linear"
    low, high = float(np.clip(finite.min(), -1e300, 1e300)), float(np.clip(finite.max(), -1e300, 1e300))
    margin = 0.08 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin, "linear"


def on(bounds: Bounds, values: Array) -> npt.NDArray[np.float32]:
    """Values that the axis has a place for."""
    return brief(np.where(values > 0, values, np.nan) if bounds[2] == "log" else values)


def inside(bounds: Bounds, share: float) -> float:
    low, high, scale = bounds
    return float(low * (high / low) ** share) if scale == "log" else low + share * (high - low)


def dots(plot: Any, line: Any, colour: str, y: str = "y") -> list[Any]:
    """Points, where there are so few that a line between them may be none."""
    if len(line.data_source.data["x"]) > DOTTED:
        return []
    return [plot.add_glyph(line.data_source, Scatter(x="x", y=y, size=5, fill_color=colour, line_color=colour))]
