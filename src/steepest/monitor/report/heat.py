"""The heat map of all layers over the steps, for every measurement, one shown at a time; and one layer's course below it.

A cell is a byte: 0 for not known, 1 to `LEVELS` along the measurement's scale, one more for infinite. So a page has room for
hundreds of layers, and the colour, the scale and the course of a layer speak the same language. ``heat.js`` changes
what is shown; here are the first state and all the data.
"""

from __future__ import annotations

import gzip
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from bokeh.models import (
    ColumnDataSource,
    CustomJS,
    CustomJSHover,
    FixedTicker,
    HoverTool,
    Image,
    LinearColorMapper,
)
from bokeh.models.annotations import ColorBar
from bokeh.palettes import viridis

from steepest.monitor.marks import number, shape_of, shortened
from steepest.monitor.records import MEASUREMENTS, Run
from steepest.monitor.report.axis import Axis, plot_over
from steepest.pages.figures import COLOURS, GREY, Look, Picture

__all__ = ["Heat", "heat_of"]

Array: TypeAlias = npt.NDArray[np.floating]

LEVELS = 64
COLUMNS = 400
FEWEST_COLUMNS = 8
ROOM = 420_000
"""Bytes of a page that all cells may take."""
NAME = 20
"""Characters of a layer's name beside the map."""
UNKNOWN, INFINITE = "rgba(128, 128, 128, 0.5)", "#e7298a"
_BETWEEN = ("#08306b", "#0072b2", "#9ccbe3", "#f3f3f0", "#f2b879", "#d55e00", "#7a2500")


@dataclass(frozen=True, slots=True)
class Scale:
    """How a measurement becomes colour: between given ends or its own, to both sides of a middle, the mean of a cell's records
    or the largest of them."""

    low: float | None = None
    high: float | None = None
    middle: float | None = None
    log: bool = True
    percent: bool = False
    largest: bool = False


_SHARE = Scale(0.0, 1.0, log=False, percent=True)
SCALES = {
    "update_ratio": Scale(middle=1e-3),
    "cosine": Scale(-1.0, 1.0, middle=0.0, log=False),
    "trust_ratio": Scale(middle=1.0),
    "clipped": _SHARE,
    "zero_grads": _SHARE,
    "unmoved": _SHARE,
    "spike": Scale(largest=True),
    "nonfinite_grads": Scale(largest=True),
}


@dataclass(frozen=True, slots=True)
class Heat:
    """The two plots, what the script has to know, and what stands above and below."""

    map: Picture
    course: Picture
    about: dict[str, Any]


def heat_of(run: Run, axis: Axis, layer: int = 0, room: int = ROOM) -> Heat | None:
    """The heat map of a run, with a layer's course; None where nothing was measured."""
    known = [name for name, values in run.tensors.items() if not np.isnan(values).all()]
    if not known or not len(axis.rows):
        return None
    order = [name for name in ("update_ratio", "grad_norm") if name in known]
    names = [*order, *(name for name in MEASUREMENTS if name in known and name not in order)]
    names += [name for name in known if name not in names]
    scales = {name: _fitted(run.tensors[name][axis.rows], SCALES.get(name, Scale())) for name in names}
    cells, edges = _cells(run, axis, scales, room)
    about = {
        "levels": LEVELS, "names": [f"{one.name} {shape_of(one.shape)}" for one in run.facts.tensors], "layer": layer,
        "first": float(edges[0]), "last": float(edges[-1]), "columns": len(edges) - 1, "measurement": names[0],
        "palettes": {"one": _palette(viridis(LEVELS)), "two": _palette(_between(LEVELS))},
        "measurements": {name: _about(name, scale) for name, scale in scales.items()},
        "together": math.ceil(len(axis.rows) / (len(edges) - 1)),
    }  # fmt: skip
    source = ColumnDataSource({name: [image] for name, image in cells.items()})
    return Heat(_map(run, axis, source, edges, about), _course(run, axis, cells[names[0]], edges, about), about)


# ---- cells


def _cells(run: Run, axis: Axis, scales: dict[str, Scale], room: int) -> tuple[dict[str, Any], npt.NDArray[np.float64]]:
    """An image of bytes for each measurement, its last layer in the first row, with as many columns as there is room for."""
    steps = run.steps[axis.rows].astype(np.float64)
    columns = min(len(steps), COLUMNS)
    while True:
        edges = np.linspace(steps[0] - run.facts.every, steps[-1], columns + 1)
        made = {n: _image(run.tensors[n][axis.rows], steps, edges, scale) for n, scale in scales.items()}
        size = sum(len(gzip.compress(image.tobytes(), 6)) for image in made.values()) * 4 / 3
        if size <= room or columns <= FEWEST_COLUMNS:
            return made, edges
        columns = max(FEWEST_COLUMNS, int(0.95 * columns * room / size))


def _image(
    values: Array, steps: npt.NDArray[np.float64], edges: npt.NDArray[np.float64], scale: Scale
) -> npt.NDArray[np.uint8]:
    column = np.clip(np.searchsorted(edges, steps, side="left") - 1, 0, len(edges) - 2)
    filled, starts = np.unique(column, return_index=True)
    exact = values.astype(np.float64)
    finite, infinite = np.isfinite(exact), np.isinf(exact)
    if scale.largest:
        joined = np.maximum.reduceat(np.where(finite, exact, -np.inf), starts, axis=0)
    else:
        joined = np.add.reduceat(np.where(finite, exact, 0), starts, axis=0)
        joined /= np.maximum(np.add.reduceat(finite.astype(np.int64), starts, axis=0), 1)
    level = np.where(np.logical_or.reduceat(finite, starts, axis=0), _levels(joined, scale), 0)
    level[np.logical_or.reduceat(infinite, starts, axis=0)] = LEVELS + 1
    # Where records are further apart than columns, a record stands until the next one.
    before = np.searchsorted(filled, np.arange(len(edges) - 1), side="right") - 1
    return np.ascontiguousarray(level[before].T[::-1].astype(np.uint8))


def _levels(values: Array, scale: Scale) -> npt.NDArray[np.int64]:
    """From 1 to `LEVELS`; what lies beyond the scale is at its end."""
    return np.clip(np.rint(_positions(values, scale)), 1, LEVELS).astype(np.int64)


def _positions(values: Array, scale: Scale) -> npt.NDArray[np.float64]:
    """Where values stand when 1 and `LEVELS` are the ends of the scale."""
    low, high = float(scale.low or 0), float(scale.high or 0)
    exact = np.asarray(values, dtype=np.float64)
    if scale.log:
        exact, low, high = np.log(np.maximum(exact, 1e-300)), math.log(low), math.log(high)
    return 1 + np.clip((exact - low) / (high - low), -9, 9) * (LEVELS - 1)


def _fitted(values: Array, scale: Scale) -> Scale:
    """The scale with ends: its own, or the 1st and the 99th percentile of what is finite, the last 100th of it if it rises."""
    if scale.low is not None:
        return scale
    finite = values[np.isfinite(values)].astype(np.float64)
    positive = finite[finite > 0]
    if not len(finite):
        return Scale(0.0, 1.0, log=False)
    if scale.middle is not None and len(positive):
        ends = np.abs(np.log10(np.quantile(positive, [0.01, 0.99]) / scale.middle))
        reach = 10 ** min(max(float(ends.max()), 1.5), 3.0)
        return Scale(scale.middle / reach, scale.middle * reach, scale.middle)
    low, high = (float(q) for q in np.quantile(positive if len(positive) else finite, [0.01, 0.99]))
    high = float(finite.max()) if scale.largest else high
    if finite.min() >= 0 and len(positive) and high > 20 * low:
        return Scale(low, high, log=True, largest=scale.largest)
    low, high = (float(q) for q in np.quantile(finite, [0.01, 0.99]))
    high = float(finite.max()) if scale.largest else high
    return Scale(low, high if high > low else low + (abs(low) or 1.0), log=False, largest=scale.largest)


def _about(name: str, scale: Scale) -> dict[str, Any]:
    """What the script has to know of a measurement."""
    low, high = float(scale.low or 0), float(scale.high or 0)
    at = _ticks(low, high, scale)
    return {
        "low": low, "high": high, "log": scale.log, "palette": "one" if scale.middle is None else "two",
        "percent": scale.percent, "title": name.replace("_", " "), "meaning": MEASUREMENTS.get(name, ""),
        "largest": scale.largest, "ticks": np.round(_positions(at, scale), 3).tolist(),
        "labels": [f"{100 * v:.0f} %" if scale.percent else number(v).replace("e-0", "e-") for v in at],
    }  # fmt: skip


def _ticks(low: float, high: float, scale: Scale) -> npt.NDArray[np.float64]:
    if not scale.log:
        return np.linspace(low, high, 5)
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    every = max(1, math.ceil((last - first) / 6))
    decades = np.asarray(10.0 ** np.arange(first, last + 1, every), dtype=np.float64)
    return decades if len(decades) > 1 else np.geomspace(low, high, 4, dtype=np.float64)


# ---- plots


def _map(
    run: Run, axis: Axis, source: ColumnDataSource, edges: npt.NDArray[np.float64], about: dict[str, Any]
) -> Picture:
    count, shown = len(run.names), about["measurements"][about["measurement"]]
    height = int(np.clip(16 * count, 96, 640))
    plot = plot_over("", axis, (0, count, "linear"), height + 100)
    plot.xgrid.visible = plot.ygrid.visible = False
    every = math.ceil(count / (height // 14))
    beyond = max(0, max(map(len, run.names)) - NAME)
    # All lose as many letters: names of one kind are cut alike.
    widths = [len(name) - beyond if len(name) - beyond >= NAME // 2 else NAME for name in run.names]
    named = {count - 1 - i + 0.5: shortened(run.names[i], widths[i]) for i in range(0, count, every)}
    plot.yaxis.update(
        ticker=FixedTicker(ticks=list(named)), major_label_overrides=named, major_label_text_font_size="11px",
        major_tick_line_color=None, axis_line_color=None,
    )  # fmt: skip
    mapper = LinearColorMapper(
        palette=about["palettes"][shown["palette"]], low=-0.5, high=LEVELS + 1.5, name="heat colours"
    )
    cells = Image(image=about["measurement"], x=edges[0], y=0, dw=edges[-1] - edges[0], dh=count, color_mapper=mapper)
    renderer = plot.add_glyph(source, cells, name="heat cells")
    plot.add_tools(
        HoverTool(
            renderers=[renderer], tooltips=[("", "$x{custom}")], visible=False,
            formatters={"$x": CustomJSHover(code="return steepest.said(special_vars.x, special_vars.y)")},
        )
    )  # fmt: skip
    plot.js_on_event("tap", CustomJS(code="steepest.pick(cb_obj.y)"))
    bar = ColorBar(
        color_mapper=mapper, display_low=0.51, display_high=LEVELS + 0.49, name="heat bar", orientation="horizontal",
        ticker=FixedTicker(ticks=shown["ticks"]), major_label_overrides=dict(zip(shown["ticks"], shown["labels"], strict=True)),
        background_fill_color=None, major_label_text_color=GREY, major_tick_line_color=GREY, bar_line_color=None, height=10,
        width="auto", padding=4,
    )  # fmt: skip
    plot.add_layout(bar, "below")
    return Picture("All layers", "", plot)


def _course(
    run: Run, axis: Axis, image: npt.NDArray[np.uint8], edges: npt.NDArray[np.float64], about: dict[str, Any]
) -> Picture:
    shown = about["measurements"][about["measurement"]]
    plot = plot_over("", axis, (0, LEVELS + 1, "linear"), 200)
    plot.yaxis.update(
        ticker=FixedTicker(ticks=shown["ticks"]), name="heat axis",
        major_label_overrides=dict(zip(shown["ticks"], shown["labels"], strict=True)),
    )  # fmt: skip
    plot.ygrid.ticker = plot.yaxis[0].ticker
    row = image[len(run.names) - 1 - about["layer"]].astype(np.float32)
    x = ((edges[1:] + edges[:-1]) / 2).astype(np.float32)
    source = ColumnDataSource({"x": x, "y": np.where((row > 0) & (row <= LEVELS), row, np.nan).astype(np.float32)})
    plot.add_glyph(source, Look(COLOURS[0], "solid", "circle").line(), name="heat course")
    if len(x) <= 40:
        plot.scatter("x", "y", source=source, size=5, color=COLOURS[0])
    return Picture("One layer", "", plot)


def _palette(colours: Iterable[str]) -> list[str]:
    """With colours that no scale has for what is not known and for what is infinite."""
    return [UNKNOWN, *colours, INFINITE]


def _between(count: int) -> list[str]:
    """Blue below the middle, orange above: apart for the colour-blind too."""
    anchors = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in _BETWEEN], dtype=float)
    at = np.linspace(0, len(anchors) - 1, count)
    mixed = np.stack([np.interp(at, np.arange(len(anchors)), anchors[:, i]) for i in range(3)], axis=1)
    return [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in np.rint(mixed).astype(int)]
