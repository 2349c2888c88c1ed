"""What a search for a learning rate found, to be read: a few lines for the terminal, a page with Bokeh's plots inside.

The page is one file without network. Every number on it is in the results.
"""

from __future__ import annotations

import html
import math
import textwrap
from collections.abc import Iterator
from typing import Any, Literal

import steepest
from steepest.workbench.lr_results import Found, GridTest, RangeTest
from steepest.workbench.words import counted

__all__ = ["headline", "page", "summary"]

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; max-width: 64rem; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; } code { overflow-wrap: anywhere; }
.weakness { color: #7a4a00; max-width: 48rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .15rem .8rem .15rem 0; border-bottom: 1px solid #ddd; font-weight: 400; }
th { color: #666; }
"""
_NONE = "none: the loss never fell clearly below its start"


def summary(found: Found) -> str:
    """Suggested rates, the interval of good ones, what the method can't know, and at the end what to use."""
    return "\n".join(_lines(found))


def _lines(found: Found) -> Iterator[str]:
    swept, grid = found.range, found.grid
    yield f"{swept.optimizer} on {swept.subject}"
    if grid is not None:
        yield ""
        yield f"grid test: {len(grid.trials)} rates, {counted(len(grid.seeds), 'seed')}, {grid.steps} steps each"
        yield f"  best rate        {_best(grid)}"
        if grid.best is not None:
            yield f"  within 5 %       {_near(grid)}"
        yield _wrapped(grid.weakness)
    yield ""
    yield f"range test: {swept.steps} steps, {_number(swept.rates[0])} to {_number(swept.rates[-1])}"
    yield f"  steepest descent {_number(swept.steepest) or _NONE}"
    yield f"  minimum / 10     {_number(swept.tenth) or _NONE}"
    yield _wrapped(f"ended            {swept.stopped or 'at the highest rate'}", behind=19)
    if len(set(swept.scales)) > 1:
        yield f"  groups           rates in the proportions {', '.join(f'{s:.3g}' for s in swept.scales)}"
    yield _wrapped(swept.weakness)
    yield ""
    yield headline(found)


def headline(found: Found) -> str:
    """What to do: one sentence."""
    swept, grid = found.range, found.grid
    if grid is not None and grid.best is None:
        return "No learning rate to recommend: every rate failed."
    if grid is not None and grid.at_edge:
        return f"Begin with a learning rate of {_number(grid.best)}: the grid ended there, and a better one may lie beyond."
    if grid is not None:
        return f"Use a learning rate of {_number(grid.best)}."
    if swept.steepest is None:
        return "No learning rate to recommend: the loss never fell clearly below its start."
    return f"Try a learning rate of {_number(swept.steepest)}; one run can't tell more than its order of magnitude."


def page(found: Found) -> str:
    """One self-contained HTML file."""
    from bokeh.embed import components

    from steepest.pages.sheet import POLICY, library

    plots = [_range_plot(found.range)] + ([] if found.grid is None else [_grid_plot(found.grid)])
    script, places = components(plots)
    title = f"Learning rate of <code>{html.escape(found.range.optimizer)}</code> on {html.escape(found.range.subject)}"
    parts = [
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        POLICY,
        '<meta name="viewport" content="width=device-width">',
        f"<title>steepest lr-find</title><style>{_STYLE}</style>{library()}{script}</head><body><h1>{title}</h1>",
        f"<p><b>{headline(found)}</b></p>",
    ]
    if found.grid is not None:
        parts += ["<h2>Grid test: many short runs</h2>", _grid_text(found.grid), places[1], _table(found.grid)]
    parts += ["<h2>Range test: one run whose rate rises</h2>", _range_text(found.range), places[0]]
    parts.append(f"<p>steepest {steepest.__version__}</p></body></html>")
    return "\n".join(parts)


def _grid_text(grid: GridTest) -> str:
    near = f" Within 5 % of its cost: {_near(grid)}." if grid.best is not None else ""
    return (
        f"<p>Best rate: <b>{_best(grid)}</b>.{near} Median and whole range of {counted(len(grid.seeds), 'seed')}, "
        f"{grid.steps} steps each; the cost is the {html.escape(grid.measure)}.</p>"
        f'<p class="weakness">{html.escape(grid.weakness)}</p>'
    )


def _range_text(swept: RangeTest) -> str:
    scales = ", ".join(f"{scale:.3g}" for scale in swept.scales)
    groups = f" The groups' rates are in the proportions {scales}." if len(set(swept.scales)) > 1 else ""
    return (
        f"<p>Steepest descent: <b>{_number(swept.steepest) or _NONE}</b>. A tenth of the rate at the minimum: "
        f"<b>{_number(swept.tenth) or _NONE}</b>. Ended {html.escape(swept.stopped) or 'at the highest rate'}.{groups}</p>"
        f'<p class="weakness">{html.escape(swept.weakness)}</p>'
    )


def _table(grid: GridTest) -> str:
    rows = [
        f"<tr><td>{_number(float(t.values['lr']))}</td><td>{_cost(t.cost)}</td>"
        f"<td>{_cost(min(t.costs))} – {_cost(max(t.costs))}</td></tr>"
        for t in grid.trials
    ]
    return f"<table><tr><th>rate</th><th>median cost</th><th>lowest to highest</th></tr>{''.join(rows)}</table>"


def _figure(label: str, shown: list[float], **options: Any) -> Any:
    """A plot over the rate, wide enough for the numbers in it; logarithmic upwards where all are positive."""
    from bokeh.models import PlainText, Range1d
    from bokeh.plotting import figure

    scale: Literal["log", "linear"] = "log" if shown and min(shown) > 0 else "linear"
    made = figure(
        x_axis_type="log", y_axis_type=scale, height=340, sizing_mode="stretch_width", x_axis_label="learning rate",
        y_axis_label=PlainText(text=label), tools="pan,box_zoom,wheel_zoom,reset,save", active_scroll=None, **options,
    )  # fmt: skip
    if shown:
        low, high = min(shown), max(shown)
        if scale == "log":
            room = (high / low) ** 0.08 if high > low else 2.0
            made.y_range = Range1d(start=low / room, end=high * room)
        else:
            room = 0.08 * (high - low) or 1.0
            made.y_range = Range1d(start=low - room, end=high + room)
    made.toolbar.logo = None
    return made


def _legend_above(plot: Any) -> None:
    plot.legend.orientation = "horizontal"
    plot.add_layout(plot.legend[0], "above")


def _range_plot(swept: RangeTest) -> Any:
    finite = [(r, v, s) for r, v, s in zip(swept.rates, swept.losses, swept.smoothed, strict=True) if math.isfinite(s)]
    rates, losses, curve = (list(column) for column in zip(*finite, strict=True)) if finite else ([], [], [])
    top = max(swept.initial, *curve[: len(curve) // 2], 0.0) * 1.5 if curve else 1.0
    shown = [v for v in [*losses, *curve, swept.initial] if v <= top] if top > 0 else [*losses, *curve]
    plot = _figure("training loss", shown)
    plot.line(rates, losses, color="#b6c4dd", legend_label="loss of a batch")
    plot.line(rates, curve, color="#2563eb", line_width=2, legend_label="smoothed")
    for rate, colour, said in (
        (swept.steepest, "#16a34a", "steepest descent"),
        (swept.tenth, "#d97706", "minimum / 10"),
    ):
        if rate is not None:
            plot.vspan([rate], line_color=colour, line_width=2, line_dash="dashed", legend_label=said)
    _legend_above(plot)
    return plot


def _grid_plot(grid: GridTest) -> Any:
    from bokeh.models.annotations import BoxAnnotation

    rates = [float(t.values["lr"]) for t in grid.trials]
    seeds = [(r, c) for r, t in zip(rates, grid.trials, strict=True) for c in t.costs if math.isfinite(c)]
    medians = [(r, t.cost) for r, t in zip(rates, grid.trials, strict=True) if math.isfinite(t.cost)]
    failed = [r for r, t in zip(rates, grid.trials, strict=True) if math.isinf(t.cost)]
    shown = [c for _, c in seeds]
    plot = _figure(f"cost: {grid.measure}", shown, x_range=(min(rates) / 1.5, max(rates) * 1.5))
    if grid.low is not None and grid.high is not None:
        half = 10**0.25  # to the middle between two rates of the grid
        plot.add_layout(
            BoxAnnotation(left=grid.low / half, right=grid.high * half, fill_color="#16a34a", fill_alpha=0.1)
        )
    for rate, trial in zip(rates, grid.trials, strict=True):
        finite = [c for c in trial.costs if math.isfinite(c)]
        if len(finite) > 1:
            plot.line([rate, rate], [min(finite), max(finite)], color="#2563eb", line_alpha=0.5, line_width=2)
    plot.scatter(
        [r for r, _ in seeds], [c for _, c in seeds], color="#2563eb", alpha=0.4, size=5, legend_label="a seed"
    )
    plot.line([r for r, _ in medians], [c for _, c in medians], color="#2563eb", line_width=2, legend_label="median")
    if failed:
        top = [max(shown, default=1.0)] * len(failed)
        plot.scatter(failed, top, marker="x", color="#dc2626", size=10, legend_label="failed")
    _legend_above(plot)
    return plot


def _best(grid: GridTest) -> str:
    if grid.best is None:
        return "none: every rate failed"
    return f"{_number(grid.best)}{' (at the edge of the widest grid: a better one may lie beyond)' if grid.at_edge else ''}"


def _near(grid: GridTest) -> str:
    return "no other rate of the grid" if grid.low == grid.high else f"{_number(grid.low)} to {_number(grid.high)}"


def _wrapped(text: str, behind: int = 2) -> str:
    """Lines that the narrowest terminal in use, of 80 columns, has room for; those behind the first are indented so far."""
    return textwrap.fill(text, 80, initial_indent="  ", subsequent_indent=" " * behind)


def _number(rate: float | None) -> str:
    return "" if rate is None else f"{rate:.2g}"


def _cost(value: float) -> str:
    return "failed" if math.isinf(value) else f"{value:.4g}"
