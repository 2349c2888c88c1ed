"""The pictures of a comparison's page, as Bokeh models: curves, learning rates, what tuning buys, profiles, trials.

An optimizer looks the same in all of them, by colour, dash and marker. Numbers come from `steepest.workbench.outcomes`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from bokeh.models import ColumnDataSource, FixedTicker, Range1d, Scatter, VArea
from bokeh.models.renderers import GlyphRenderer

from steepest.pages.figures import FIRST_SHOWN, Look, Picture, brief, hover, legend, new_plot
from steepest.workbench import outcomes, statistics
from steepest.workbench.ranking import profiles
from steepest.workbench.results import Entry, Result, Trial, WorkloadFacts
from steepest.workbench.words import TRACK_NAMES, measure

__all__ = ["best_of", "curves", "profile", "rates", "thinned", "trials"]

Array: TypeAlias = npt.NDArray[np.float64]

POINTS = 600
"""Trials in a picture."""


def curves(entries: Sequence[Entry], facts: WorkloadFacts, looks: dict[str, Look]) -> list[Picture]:
    """The validation metric over the steps, of entries of one track from the best to the worst."""
    drawn = [(e.optimizer, outcomes.learning_curve(e, facts)) for e in entries]
    drawn = [(name, curve) for name, curve in drawn if np.isfinite(curve[:, 1:]).any()]
    if not drawn:
        return []
    low, high, scale = _range(np.concatenate([curve[:, 1] for _, curve in drawn]))
    plot = new_plot("step", f"validation {measure(facts)}", "linear", scale)
    plot.x_range, plot.y_range = Range1d(start=0, end=facts.steps), Range1d(start=low, end=high)
    steps = sorted({step for _, curve in drawn for step in curve[:, 0]})
    columns = {"x": brief(steps)}
    for i, (_, curve) in enumerate(drawn):  # one source for all: their steps are stored once
        padded = np.full((len(steps), 3), np.nan)
        padded[np.searchsorted(steps, curve[:, 0])] = curve[:, 1:]
        columns |= {f"y{i}": brief(padded[:, 0]), f"low{i}": brief(padded[:, 1]), f"high{i}": brief(padded[:, 2])}
    source = ColumnDataSource(columns)
    items, lines = [], []
    for i, (name, _) in enumerate(drawn):
        band = VArea(x="x", y1=f"low{i}", y2=f"high{i}", fill_color=looks[name].colour, fill_alpha=0.18)
        lines.append(plot.add_glyph(source, looks[name].line(f"y{i}"), name=name))
        items.append((name, [plot.add_glyph(source, band), lines[-1]]))
    legend(plot, items)
    hover(plot, lines, [("", "$name"), ("step", "@x"), (measure(facts), "$y")])
    note = f"Median over the seeds and the middle half of them ({TRACK_NAMES[entries[0].track]}); a line ends where half failed."
    return [Picture("Learning curves", note, plot)]


def rates(
    entries: Sequence[Entry], order: Sequence[str], facts: WorkloadFacts, looks: dict[str, Look]
) -> list[Picture]:
    """The cost over the learning rate, of the track that searched it."""
    by_name = {e.optimizer: s for e in entries if (s := outcomes.rate_sensitivity(e.trials, facts))}
    found = {name: by_name[name] for name in order if name in by_name}
    if not found:
        return []
    low, high, scale = _range(_metric([cost for s in found.values() for cost in s.costs], facts))
    plot = new_plot("learning rate", f"validation {measure(facts)}", "log", scale)
    plot.y_range = Range1d(start=low, end=high)
    items, points = [], []
    for name, s in found.items():
        look, y = looks[name], _metric(s.costs, facts)
        mark: Any = look.marker
        columns: dict[str, Any] = {"x": brief(s.rates), "y": brief(y)}
        at = "y"
        if not np.isfinite(y).all():  # a failure is a cross at the bad edge, where the line has a gap
            columns |= {"at": brief(np.where(np.isfinite(y), y, _worst(low, high, scale, facts))),
                        "mark": [look.marker if works else "x" for works in np.isfinite(y)]}  # fmt: skip
            at, mark = "at", {"field": "mark"}
        source = ColumnDataSource(columns)
        points.append(
            plot.add_glyph(
                source, Scatter(x="x", y=at, marker=mark, size=7, fill_color=look.colour, line_color=look.colour), name=name
            )
        )  # fmt: skip
        items.append((name, [plot.add_glyph(source, look.line()), points[-1]]))
    legend(plot, items)
    hover(plot, points, [("", "$name"), ("learning rate", "@x"), (measure(facts), "@y")])
    note = (
        "How exactly the rate must be met: the median of the search runs for each rate, everything else at its default."
    )
    return [Picture("Learning-rate sensitivity", note, plot)]


def best_of(
    entries: Sequence[Entry], order: Sequence[str], facts: WorkloadFacts, looks: dict[str, Look]
) -> list[Picture]:
    """What a budget of trials buys, on the tuned track."""
    costs = {e.optimizer: [t.cost for t in e.spread_trials] for e in entries if e.spread > 1}
    rows = [(name, _metric(statistics.best_of(costs[name], min(50, len(costs[name])))[:, 0], facts)) for name in order
            if name in costs]  # fmt: skip
    if not rows or not np.isfinite(np.concatenate([row for _, row in rows])).any():
        return []
    low, high, scale = _range(np.concatenate([row for _, row in rows]))
    plot = new_plot("trials", f"validation {measure(facts)}", "linear", scale)
    plot.y_range = Range1d(start=low, end=high)
    longest = max(len(row) for _, row in rows)
    columns = {"x": brief(np.arange(1.0, longest + 1))}
    for i, (_, row) in enumerate(rows):
        columns[f"y{i}"] = brief(np.pad(row, (0, longest - len(row)), constant_values=np.nan))
    source = ColumnDataSource(columns)
    lines = [plot.add_glyph(source, looks[name].line(f"y{i}"), name=name) for i, (name, _) in enumerate(rows)]
    legend(plot, [(name, [line]) for (name, _), line in zip(rows, lines, strict=True)])
    hover(plot, lines, [("", "$name"), ("trials", "@x"), (measure(facts), "$y")])
    early = any(trial.stopped for e in entries for trial in e.spread_trials)
    note = (
        "The best of so many trials, typically: the median over orders of chance, of those that no other trial led to."
    )
    behind = " Trials that were stopped early count as worse than all others." if early else ""
    return [Picture("What tuning buys", note + behind, plot)]


def profile(result: Result, looks: dict[str, Look]) -> list[Picture]:
    """On what share of the workloads an optimizer is within a factor of the best; none for fewer than four workloads."""
    of, found = profiles(result)
    if found is None:
        return []
    plot = new_plot(f"times the best {of}", "share of the workloads", "linear", "linear")
    last = max(
        found.taus[np.flatnonzero(np.diff(share, prepend=0))[-1]] for share in found.shares.values() if share.any()
    )
    plot.x_range = Range1d(start=1, end=min(4.0, 1 + 1.3 * max(0.2, float(last) - 1)))
    plot.y_range = Range1d(start=-0.02, end=1.04)
    items, lines = [], []
    for name in sorted(found.areas, key=lambda name: -found.areas[name])[: 2 * FIRST_SHOWN]:
        share = found.shares[name]
        jumps = np.flatnonzero(np.diff(share, prepend=-1, append=-1))  # a step function: only where it changes
        x, y = np.repeat(np.append(found.taus, 4)[jumps], 2)[1:-1], np.repeat(share[jumps[:-1]], 2)
        lines.append(plot.add_glyph(ColumnDataSource({"x": brief(x), "y": brief(y)}), looks[name].line(), name=name))
        items.append((f"{found.areas[name]:.2f} {name}", [lines[-1]]))
    legend(plot, items)
    hover(plot, lines, [("", "$name"), ("times the best", "$x"), ("share", "$y")])
    note = f"On what share of the workloads an optimizer comes within a factor of the best {of}; the number is the mean height."
    return [Picture("Performance profiles", note, plot)]


def trials(
    entries: Sequence[Entry], order: Sequence[str], facts: WorkloadFacts, looks: dict[str, Look]
) -> list[Picture]:
    """A picture for each hyperparameter with the cost of every whole trial that set it; the first has the names for all."""
    by_name = {e.optimizer: e.whole_trials for e in entries if e.whole_trials}
    kept = {name: thinned(by_name[name], len(order)) for name in order if name in by_name}
    axes = list(dict.fromkeys(key for some in kept.values() for trial in some for key in trial.values))
    levels = _metric([trial.cost for some in kept.values() for trial in some], facts)
    if not axes or not np.isfinite(levels).any():
        return []
    low, high, scale = _range(levels)
    words = {axis: _words(axis, [trial for some in kept.values() for trial in some]) for axis in axes}
    sources = {}
    for name, some in kept.items():  # one source for all the pictures: costs are stored once
        y = _metric([trial.cost for trial in some], facts)
        columns: dict[str, Any] = {"y": brief(np.where(np.isfinite(y), y, _worst(low, high, scale, facts)))}
        columns |= {
            axis: brief(_positions(axis, words[axis], some)) for axis in axes if any(axis in t.values for t in some)
        }
        if not np.isfinite(y).all():
            columns["mark"] = [looks[name].marker if works else "x" for works in np.isfinite(y)]
        sources[name] = ColumnDataSource(columns)
    renderers: dict[str, list[GlyphRenderer[Any]]] = {name: [] for name in kept}
    made = []
    for axis in axes:
        numbers = [x for source in sources.values() for x in source.data.get(axis, []) if math.isfinite(x)]
        log = not words[axis] and min(numbers) > 0 and max(numbers) > 20 * min(numbers)
        plot = new_plot(axis, f"validation {measure(facts)}", "log" if log else "linear", scale, 250)
        plot.y_range = Range1d(start=low, end=high)
        if words[axis]:
            plot.xaxis.ticker = FixedTicker(ticks=list(range(len(words[axis]))))
            plot.xaxis.major_label_overrides = dict(enumerate(words[axis]))
            plot.x_range = Range1d(start=-0.5, end=len(words[axis]) - 0.5)
        here = []
        for name, source in sources.items():
            if axis in source.data:
                look = looks[name]
                mark = Scatter(
                    x=axis, y="y", marker={"field": "mark"} if "mark" in source.data else look.marker, size=6,
                    fill_color=look.colour, line_color=look.colour, fill_alpha=0.5, line_width=1.5,
                )  # fmt: skip
                here.append(plot.add_glyph(source, mark, name=name))
                renderers[name].append(here[-1])
        hover(plot, here, [("", "$name"), (measure(facts), "@y"), *([] if words[axis] else [(axis, f"@{{{axis}}}")])])
        made.append(Picture(axis, "", plot))
    legend(made[0].plot, list(renderers.items()))
    return made


def _words(axis: str, tried: Sequence[Trial]) -> list[str]:
    """What a hyperparameter that is not a number was set to."""
    values = [trial.values[axis] for trial in tried if axis in trial.values]
    return sorted({str(value) for value in values}) if any(isinstance(v, (str, bool)) for v in values) else []


def _positions(axis: str, words: list[str], tried: Sequence[Trial]) -> Array:
    """Where trials lie along an axis; not a number where they don't set it."""
    if not words:
        return np.array([float(trial.values.get(axis, math.nan)) for trial in tried])
    at = np.array([words.index(str(t.values[axis])) if axis in t.values else math.nan for t in tried])
    return at + np.random.default_rng(0).uniform(
        -0.3, 0.3, len(at)
    )  # so that the points of one word don't cover each other


def thinned(tried: Sequence[Trial], optimizers: int) -> list[Trial]:
    """At most an optimizer's share of `POINTS`: the best trial and others by chance."""
    share = max(1, POINTS // max(1, optimizers))
    if len(tried) <= share:
        return list(tried)
    best = min(range(len(tried)), key=lambda i: tried[i].cost)
    others = np.random.default_rng(0).permutation(len(tried))
    return [tried[i] for i in sorted({best, *(int(i) for i in others[others != best][: share - 1])})]


def _metric(costs: Sequence[float] | Array, facts: WorkloadFacts) -> Array:
    """Costs as the metric's values; not a number where they are infinite."""
    turned = np.asarray(costs, dtype=float) * (-1 if facts.higher_is_better else 1)
    return np.where(np.isfinite(turned), turned, np.nan)


def _worst(low: float, high: float, scale: str, facts: WorkloadFacts) -> float:
    """Where a failure is drawn: in the margin of an axis, on its bad side."""
    share = 0.03 if facts.higher_is_better else 0.97
    return low * (high / low) ** share if scale == "log" else low + share * (high - low)


def _range(levels: Array) -> tuple[float, float, str]:
    """Where an axis begins and ends, and its scale: logarithmic for positive levels that span more than a factor of 8.

    It ends at the 2nd and the 98th percentile where the rest lies far away: one diverging optimizer would hide the others.
    """
    finite = levels[np.isfinite(levels)]
    low, high = (float(q) for q in np.quantile(finite, [0.02, 0.98], method="nearest"))
    far = 2 * (high - low)
    low = max(low - far, float(finite.min())) if finite.min() >= low - far else low
    high = float(finite.max()) if finite.max() <= high + far else high
    if low > 0 and high > 8 * low:
        margin = (high / low) ** 0.08
        return low / margin, high * margin, "log"
    margin = 0.08 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin, "linear"
