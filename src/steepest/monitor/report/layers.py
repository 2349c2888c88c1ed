"""The pictures that have a line for each layer, as Bokeh models.

A few layers get a line each; of many the bands that hold the middle half and nine tenths of them are drawn, and the three that
end highest and lowest by name. The heat map, which has all layers, is in `steepest.monitor.report.heat`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from bokeh.models import ColumnDataSource, VArea
from bokeh.models.annotations import BoxAnnotation, Span

from steepest.monitor.marks import shortened
from steepest.monitor.records import Run
from steepest.monitor.report.axis import Axis, bounds_of, dots, on, plot_over
from steepest.monitor.signs import BAND, matrices
from steepest.pages.figures import COLOURS, GREY, Look, Picture, brief, hover, legend, looks_of

__all__ = ["LINES", "layer_pictures"]

LINES = 8
"""So many layers get a line each."""
ENDS = 3
"""Of many layers so many that end highest, and as many that end lowest, are drawn by name."""
BRIEF_NAME = 20


@dataclass(frozen=True, slots=True)
class PerLayer:
    """One picture of all layers: its title, what its axis says, what is to be known, and how its values are laid out."""

    measurement: str
    title: str
    label: str
    note: str
    log: bool = True
    share: bool = False


PER_LAYER = (
    PerLayer("grad_norm", "Gradient norm by layer", "gradient norm", "As it arrives, before any clipping."),
    PerLayer("update_ratio", "Update-to-weight ratio", "update / weight",
             f"How far a step moves a matrix, by its own length; shaded: 1e{BAND[0]} to 1e{BAND[1]}, which is usual."),
    PerLayer("weight_norm", "Weight norm", "weight norm", "Length of each parameter."),
    PerLayer("distance", "Distance from the first weights", "distance", "How far each parameter has come."),
    PerLayer("clipped", "Clipped elements", "share of the elements", "What the clips changed.", log=False, share=True),
    PerLayer("trust_ratio", "Trust ratio", "trust ratio", "What the layer-wise rule multiplied the update by."),
)  # fmt: skip


def layer_pictures(run: Run, axis: Axis) -> list[Picture]:
    """A picture for each measurement of the table that this run has; a layer looks the same in all of them."""
    layers = {of.measurement: _chosen(run, of) for of in PER_LAYER if of.measurement in run.tensors}
    looks = looks_of(dict.fromkeys(run.names[i] for chosen in layers.values() for i in chosen))
    made = [_per_layer(run, axis, of, layers[of.measurement], looks) for of in PER_LAYER if of.measurement in layers]
    return [one for one in made if one is not None]


def _chosen(run: Run, of: PerLayer) -> list[int]:
    """The layers that are drawn by name: all of a few, else those that end highest and lowest."""
    judged = _judged(run, of)
    if len(judged) <= LINES:
        return judged
    values = run.tensors[of.measurement][:, judged].astype(np.float64)
    late = values[-max(1, len(values) // 4) :]
    finite = np.isfinite(late)
    with np.errstate(all="ignore"):
        level = np.where(finite, late, 0).sum(axis=0) / finite.sum(axis=0)
    ranked = [int(i) for i in np.argsort(-np.nan_to_num(level, nan=-1), kind="stable") if np.isfinite(level[i])]
    kept = ranked[:ENDS] + [i for i in ranked[-ENDS:] if i not in ranked[:ENDS]]
    return [judged[i] for i in kept]


def _judged(run: Run, of: PerLayer) -> list[int]:
    """A healthy update ratio is known for matrices alone; everything else is drawn of every tensor that has it."""
    known = np.isfinite(run.tensors[of.measurement]).any(axis=0)
    judged = known & matrices(run.facts) if of.measurement == "update_ratio" else known
    return [int(i) for i in np.flatnonzero(judged if judged.any() else known)]


def _per_layer(run: Run, axis: Axis, of: PerLayer, chosen: list[int], looks: dict[str, Look]) -> Picture | None:
    judged = _judged(run, of)
    values = run.tensors[of.measurement]
    if not judged or not len(axis.rows):
        return None
    means = {i: axis.mean(values[:, i]) for i in chosen}
    columns = {"x": brief(axis.x)}
    many = len(judged) > len(chosen)
    bands = _quantiles(axis.mean(values[:, judged])) if many else {}
    bounds = bounds_of(np.concatenate([*means.values(), *bands.values()]), log=of.log)
    if of.share:
        bounds = (-0.02, 1.02, "linear")
    columns |= {name: on(bounds, band) for name, band in bands.items()}
    columns |= {f"y{i}": on(bounds, line) for i, line in means.items()}
    plot = plot_over(of.label, axis, bounds)
    if of.measurement == "update_ratio":
        plot.add_layout(
            BoxAnnotation(
                bottom=10.0 ** BAND[0], top=10.0 ** BAND[1], fill_color=COLOURS[2], fill_alpha=0.13, line_color=None
            )
        )
        middle = 10.0 ** (sum(BAND) / 2)
        plot.add_layout(
            Span(location=middle, dimension="width", line_color=COLOURS[2], line_dash="dotted", line_width=1.5)
        )
    source, items = ColumnDataSource(columns), []
    if many:
        nine = plot.add_glyph(source, VArea(x="x", y1="q05", y2="q95", fill_color=GREY, fill_alpha=0.22))
        half = plot.add_glyph(source, VArea(x="x", y1="q25", y2="q75", fill_color=GREY, fill_alpha=0.3))
        median = plot.add_glyph(source, Look(GREY, "solid", "circle").line("q50", 2.5), name="median")
        items.append(("median", [median, half, nine]))
    for i in chosen:
        name = run.names[i]
        line = plot.add_glyph(source, looks[name].line(f"y{i}", 1.5), name=name)
        items.append((shortened(name, BRIEF_NAME), [line, *dots(plot, line, looks[name].colour, f"y{i}")]))
    hover(plot, [item[1][0] for item in items], [("", "$name"), ("step", "@x{0,0}"), (of.label, "$y")])
    legend(plot, items, len(items))
    note = f"{of.note} {len(judged)} layers." if many else of.note
    return Picture(of.title, note, plot)


def _quantiles(values: npt.NDArray[np.float64]) -> dict[str, npt.NDArray[np.float64]]:
    """Across the layers, of what is known at each step."""
    ordered = np.sort(values, axis=1)  # nan last
    known = (~np.isnan(values)).sum(axis=1)
    rows = np.arange(len(values))
    found = {}
    for share in (5, 25, 50, 75, 95):
        at = np.rint(share / 100 * np.maximum(known - 1, 0)).astype(np.int64)
        found[f"q{share:02}"] = ordered[rows, at]
    return found
