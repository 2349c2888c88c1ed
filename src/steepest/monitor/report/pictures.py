"""The pictures of a whole model over its steps, as Bokeh models: loss with events, gradient norm, learning rate, time, others.

All pictures of a run share one axis of steps: who looks closer in one looks closer in all.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from bokeh.models import ColumnDataSource, Scatter, VArea, VSpan
from bokeh.models.annotations import Span

from steepest.monitor.marks import number
from steepest.monitor.records import Event, Facts, Run
from steepest.monitor.report.axis import POINTS, Axis, Bounds, bounds_of, dots, inside, on, plot_over, steps_of_losses
from steepest.monitor.report.memory import extremes
from steepest.pages.figures import COLOURS, GREY, Look, Picture, brief, hover, legend, looks_of

__all__ = ["clip_thresholds", "model_pictures", "optimizer_share", "other_pictures", "smoothed"]

OTHERS = 12
"""Pictures of numbers that the user or a probe gave."""
LR = r"lr(\[\d+\])?"
KNOWN = ("grad_norm", "step_seconds", "optimizer_seconds")


def model_pictures(run: Run, axis: Axis) -> list[Picture]:
    """Loss, gradient norm, learning rate; those that this run has something to say in."""
    return [one for one in (_loss(run, axis), _grad_norm(run, axis), _rates(run, axis)) if one]


def other_pictures(run: Run, axis: Axis) -> list[Picture]:
    """The time of a step, and a picture for each number that the user or a probe gave, of at most so many."""
    others = [name for name in run.scalars if name not in KNOWN and not re.fullmatch(LR, name)]
    return [one for one in (_time(run, axis), *(_other(run, axis, name) for name in others[:OTHERS])) if one]


def _loss(run: Run, axis: Axis) -> Picture | None:
    losses = run.losses
    finite = np.isfinite(losses)
    if not finite.any():
        return None
    x = steps_of_losses(run)
    shown = extremes(losses, POINTS) if len(losses) > 2 * POINTS else np.arange(len(losses))
    window = max(1, len(losses) // 50)
    at = np.unique(np.linspace(0, len(losses) - 1, POINTS).astype(np.int64))
    smooth = smoothed(losses, window, at)
    low = min(float(np.quantile(losses[finite], 0.01)), float(np.nanmin(smooth)))
    bounds = bounds_of(np.append(losses[finite & (losses >= low)], low), log=True)
    plot = plot_over("loss", axis, bounds)
    raw = plot.add_glyph(
        ColumnDataSource(_line(x[shown], losses[shown])),
        Look(GREY, "solid", "circle").line(width=1),
    )
    items = [("every call", [raw, *dots(plot, raw, GREY)])]
    if window > 1:
        source = ColumnDataSource(_line(x[at], smooth))
        line = plot.add_glyph(source, Look(COLOURS[0], "solid", "circle").line(), name=f"mean over {window} calls")
        items.append((f"mean over {window} calls", [line]))
    hover(plot, [items[-1][1][0]], [("step", "@x{0,0}"), ("loss", "@y")], mode="vline")
    broken = ~finite
    if broken.any():
        at_top = np.full(int(broken.sum()), inside(bounds, 0.97))
        source = ColumnDataSource({"x": brief(x[broken][:POINTS]), "y": brief(at_top[:POINTS])})
        cross = Scatter(x="x", y="y", marker="x", size=8, line_color=COLOURS[1], line_width=2)
        items.append(("not finite", [plot.add_glyph(source, cross)]))
    items += _events(plot, run.events, bounds)
    legend(plot, items, len(items))
    note = "Thin: of neighbouring calls the lowest and the highest." if len(shown) < len(losses) else ""
    return Picture("Loss", note, plot)


def _line(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> dict[str, Any]:
    """Its columns; with a gap wherever it goes back."""
    back = np.flatnonzero(np.diff(x) < 0) + 1
    return {"x": brief(np.insert(x, back, np.nan)), "y": brief(np.insert(y, back, np.nan))}


def _events(plot: Any, events: Sequence[Event], bounds: Bounds) -> list[tuple[str, list[Any]]]:
    kinds: dict[str, list[Event]] = {}
    for event in events:
        kinds.setdefault(event.kind, []).append(event)
    items: list[tuple[str, list[Any]]] = []
    marks = ("inverted_triangle", "diamond", "square", "star", "hex", "plus")
    for number_, (kind, of) in enumerate(kinds.items()):
        shown = of if len(of) <= 200 else [of[i] for i in np.linspace(0, len(of) - 1, 200).astype(int)]
        colour = COLOURS[1:][number_ % (len(COLOURS) - 1)]
        source = ColumnDataSource({
            "x": brief([e.step for e in shown]), "y": brief(np.full(len(shown), inside(bounds, 0.93))),
            "said": [e.message[:160] for e in shown], "step": [e.step for e in shown],
        })  # fmt: skip
        span = plot.add_glyph(source, VSpan(x="x", line_color=colour, line_alpha=0.35))
        mark = Scatter(x="x", y="y", marker=marks[number_ % len(marks)], size=9, fill_color=colour, line_color=colour)
        point = plot.add_glyph(source, mark, name=kind)
        hover(plot, [point], [("", "$name"), ("step", "@step"), ("", "@said")])
        items.append((f"{kind} ({len(of)})", [span, point]))
    return items


def _grad_norm(run: Run, axis: Axis) -> Picture | None:
    values = run.scalars.get("grad_norm")
    if values is None or not np.isfinite(values).any():
        return None
    low, high = axis.ends(values)
    thresholds = clip_thresholds(run.facts)
    bounds = bounds_of(np.concatenate([low, high, thresholds]), log=True)
    plot = plot_over("gradient norm", axis, bounds)
    source = ColumnDataSource(
        {"x": brief(axis.x), "y": on(bounds, axis.mean(values)), "low": on(bounds, low), "high": on(bounds, high)}
    )
    if axis.together > 1:
        plot.add_glyph(source, VArea(x="x", y1="low", y2="high", fill_color=COLOURS[0], fill_alpha=0.25))
    line = plot.add_glyph(source, Look(COLOURS[0], "solid", "circle").line())
    dots(plot, line, COLOURS[0])
    for threshold in thresholds:
        plot.add_layout(
            Span(location=threshold, dimension="width", line_color=COLOURS[1], line_dash="dashed", line_width=2)
        )
    hover(plot, [line], [("step", "@x{0,0}"), ("norm", "@y"), *([("highest", "@high")] if axis.together > 1 else [])],
          mode="vline")  # fmt: skip
    note = f"Of the whole model, before any clipping; {_share_of(axis)}."
    if thresholds:
        with np.errstate(invalid="ignore"):
            known = values[np.isfinite(values)]
            above = np.mean(known > thresholds[0])
        note = (
            f"Of the whole model, before any clipping. Dashed: clipped beyond {', '.join(map(number, thresholds))}, "
            f"{100 * above:.0f} % of the records are."
        )
    return Picture("Gradient norm", note.replace("; .", "."), plot)


def clip_thresholds(facts: Facts) -> list[float]:
    """The norms to which the whole gradient is clipped as it arrives; a schedule is none."""
    found = [
        group.get("max_norm")
        for chain, group in zip(facts.chains, facts.groups, strict=False)
        if chain.split(" > ")[0] == "clip_by_global_norm"
    ]
    return list(dict.fromkeys(float(one) for one in found if isinstance(one, (int, float)) and one > 0))


def _share_of(axis: Axis) -> str:
    return f"shaded: the range of {axis.together} records" if axis.together > 1 else ""


def _rates(run: Run, axis: Axis) -> Picture | None:
    found = {name: axis.mean(values) for name, values in run.scalars.items() if re.fullmatch(LR, name)}
    found = {name: values for name, values in found.items() if np.isfinite(values).any()}
    if not found:
        return None
    bounds = bounds_of(np.concatenate([*found.values()]), log=True, typical=True)
    plot = plot_over("learning rate", axis, bounds)
    looks = looks_of(found)
    columns = {"x": brief(axis.x), **{f"y{i}": on(bounds, values) for i, values in enumerate(found.values())}}
    source = ColumnDataSource(columns)
    items = []
    for i, name in enumerate(found):
        line = plot.add_glyph(source, looks[name].line(f"y{i}"), name=_rate_name(name, run.facts))
        items.append((_rate_name(name, run.facts), [line, *dots(plot, line, looks[name].colour, f"y{i}")]))
    hover(plot, [item[1][0] for item in items], [("", "$name"), ("step", "@x{0,0}"), ("learning rate", "$y")])
    if len(items) > 1:
        legend(plot, items)
    return Picture("Learning rate", "", plot)


def _rate_name(name: str, facts: Facts) -> str:
    position = 0 if name == "lr" else int(name[3:-1])
    names = [facts_group.get("name") for facts_group in facts.groups]
    given = names[position] if position < len(names) else None
    return str(given or f"group {position}")


def _time(run: Run, axis: Axis) -> Picture | None:
    if "step_seconds" not in run.scalars:
        return None
    whole = 1000 * axis.mean(run.scalars["step_seconds"])
    inside = 1000 * axis.mean(run.scalars.get("optimizer_seconds", np.full(len(run), np.nan)))
    if not np.isfinite(whole).any():
        return None
    finite = whole[np.isfinite(whole)]
    top = min(1.25 * float(finite.max()), 5 * float(np.median(finite)))  # the first step compiles
    plot = plot_over("milliseconds a step", axis, (0.0, top or 1.0, "linear"))
    source = ColumnDataSource({"x": brief(axis.x), "whole": brief(whole), "inside": brief(inside)})
    rest = plot.add_glyph(source, VArea(x="x", y1="inside", y2="whole", fill_color=GREY, fill_alpha=0.35))
    part = plot.add_glyph(source, VArea(x="x", y1=0, y2="inside", fill_color=COLOURS[0], fill_alpha=0.8))
    line = plot.add_glyph(source, Look(GREY, "solid", "circle").line("whole", 1))
    dots(plot, line, GREY, "whole")
    hover(
        plot, [line], [("step", "@x{0,0}"), ("a step, ms", "@whole"), ("in the optimizer, ms", "@inside")], mode="vline"
    )
    legend(plot, [("in the optimizer", [part]), ("everything else", [rest, line])])
    share = optimizer_share(run)
    note = f"The optimizer takes {100 * share:.1f} % of it." if math.isfinite(share) else ""
    return Picture("Time of a step", note, plot)


def optimizer_share(run: Run) -> float:
    """What part of the time between two steps the optimizer takes, over the whole run but its first record, which compiles."""
    if not {"step_seconds", "optimizer_seconds"} <= run.scalars.keys():
        return math.nan
    whole, inside = run.scalars["step_seconds"], run.scalars["optimizer_seconds"]
    known = np.isfinite(whole) & np.isfinite(inside)
    known &= (np.arange(len(run)) > 0) | (known.sum() == 1)
    return float(inside[known].sum() / whole[known].sum()) if whole[known].sum() > 0 else math.nan


def _other(run: Run, axis: Axis, name: str) -> Picture | None:
    known = np.isfinite(run.scalars[name]).nonzero()[0]
    if not len(known):
        return None
    if len(known) > POINTS:
        known = known[np.linspace(0, len(known) - 1, POINTS).astype(np.int64)]
    values = run.scalars[name][known]
    bounds = bounds_of(values, log=True, typical=True)
    plot = plot_over(name[:40], axis, bounds, 250)
    source = ColumnDataSource({"x": brief(run.steps[known]), "y": on(bounds, values)})
    line = plot.add_glyph(source, Look(COLOURS[2], "solid", "circle").line())
    dots(plot, line, COLOURS[2])
    hover(plot, [line], [("step", "@x{0,0}"), (name[:40], "@y")], mode="vline")
    return Picture(name, "", plot)


def smoothed(losses: npt.NDArray[np.float64], window: int, at: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """The mean of the finite losses around some of them, a window of so many; fewer at both ends."""
    made = np.full(len(at), np.nan)
    for i, middle in enumerate(at.tolist()):  # a difference of cumulated sums would forget all after one loss of 1e20
        near = losses[max(middle - window // 2, 0) : middle - window // 2 + window]
        finite = near[np.isfinite(near)]
        made[i] = finite.mean() if len(finite) else math.nan
    return made
