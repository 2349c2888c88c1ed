"""Results as a page and as data: one self-contained HTML file (no script, no network) and one JSON file with the same numbers."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median

import numpy as np

import steepest
from steepest.workbench.compare import Comparison, Contender
from steepest.workbench.digits import FAILED

__all__ = ["accuracy", "from_json", "loss", "page", "rate", "to_json", "write"]

_COLOURS = ("#2563eb", "#dc2626", "#16a34a", "#d97706", "#7c3aed", "#0891b2", "#db2777", "#65a30d")
_STYLE = """
:root { color-scheme: light dark; --ink: #1a1a1a; --soft: #666; --line: #ddd; --ground: #fff; --bar: #2563eb; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8e8; --soft: #a0a0a0; --line: #3a3a3a; --ground: #161616; --bar: #60a5fa; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--ground); max-width: 78rem; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: .2rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
p, figcaption { color: var(--soft); max-width: 48rem; } figure { margin: 1rem 0; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; width: 100%;
  font-size: .88rem; }
th, td { text-align: right; padding: .2rem .4rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { color: var(--soft); font-weight: 600; } .name { text-align: left; font-family: ui-monospace, monospace; font-size: .78rem;
  white-space: normal; min-width: 13rem; }
svg { width: 100%; height: auto; } svg text { fill: var(--soft); font: 11px system-ui, sans-serif; }
.frame { stroke: var(--line); stroke-width: 1; fill: none; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: 1rem; }
.grid figure { margin: 0; } .grid figcaption { font: .75rem ui-monospace, monospace; overflow-wrap: anywhere; }
.warning { color: #b45309; }
"""


def loss(value: float) -> str:
    return "failed" if math.isinf(value) else f"{value:.4f}"


def rate(contender: Contender) -> str:
    """A learning rate and how it came about: searched, at the edge of the widest grid, or given by the chain itself."""
    if contender.lr is None:
        return "its own"
    mark = " (edge)" if contender.at_edge else "" if contender.search else " (given)"
    return f"{contender.lr:.3g}{mark}"


def accuracy(value: float) -> str:
    return f"{100 * value:.2f}"


def to_json(result: Comparison) -> str:
    """All results; infinite losses are written as null, as JSON has no infinity."""

    def plain(value: object) -> object:
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(v) for v in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    head = {"steepest": steepest.__version__, "numpy": np.__version__, "workload": "digits"}
    ranked: list[object] = []
    for contender in result.contenders:
        row = plain(asdict(contender))
        summary = {"median_test_loss": contender.median_loss, "median_test_accuracy": contender.median_accuracy}
        ranked.append({**plain(summary), **row})  # type: ignore[dict-item]  # both are dicts
    body = {k: plain(v) for k, v in asdict(result).items() if k != "contenders"}
    return json.dumps({**head, **body, "contenders": ranked}, indent=1)


def from_json(text: str) -> dict[str, object]:
    """The results as plain data."""
    return dict(json.loads(text))


def write(result: Comparison, folder: Path) -> tuple[Path, Path]:
    """Write ``report.html`` and ``results.json`` into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    report, data = folder / "report.html", folder / "results.json"
    report.write_text(page(result), encoding="utf-8")
    data.write_text(to_json(result), encoding="utf-8")
    return report, data


def page(result: Comparison) -> str:
    """The report."""
    contenders = result.contenders
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">',
        f"<title>steepest compare</title><style>{_STYLE}</style></head><body>",
        "<h1>Optimizers on handwritten digits</h1>",
        f"<p>{len(contenders)} contenders, {result.seeds} seeds, {result.epochs} epochs ({result.steps} steps). A network "
        "64-128-128-10 on 1,257 images; the learning rate is chosen on 240 others by the loss at the end of training (two "
        "seeds of their own), the result measured on 300 more. All contenders see the same initial weights and batches. One "
        "workload ranks nothing in general: look at the spread before the order.</p>",
        f"<p>Test loss and accuracy are medians over the seeds. A run has failed where its loss is not finite or ends above "
        f"{FAILED:.2f} on validation, and counts as the worst of all. (edge): the best rate was the last of the widest grid, so "
        "a better one may lie beyond. (given): the chain says its own rate, nothing was searched. Times are taken while "
        "all processes train; they are no benchmark.</p>",
    ]
    if result.interrupted:
        names = ", ".join(result.unfinished)
        parts.append(f'<p class="warning">Interrupted. Not finished: {html.escape(names) or "nothing"}.</p>')
    if contenders:
        parts += ["<h2>Results</h2>", _table(contenders)]
        parts += ["<h2>Test loss, seed by seed</h2>", _strip(contenders)]
        parts += ["<h2>Validation loss over epochs, median of the seeds</h2>", _curves(contenders)]
        scheduled = [c for c in contenders if c.schedule]
        if scheduled:
            parts += ["<h2>Schedules, as they ran</h2>", '<div class="grid">', *map(_schedule, scheduled), "</div>"]
        parts += ["<h2>Learning rates tried</h2>", _search(contenders)]
    versions = f"steepest {steepest.__version__}, NumPy {np.__version__}"
    parts.append(
        f"<p>{versions}. Not tuned: everything but the learning rate. Data: UCI digits (CC BY 4.0).</p></body></html>"
    )
    return "\n".join(parts)


def _table(contenders: Sequence[Contender]) -> str:
    head = (
        "<tr><th></th><th class=name>optimizer</th><th>learning rate</th><th>test loss</th><th>lowest to highest</th>"
    )
    head += (
        "<th>accuracy %</th><th>lowest to highest</th><th>failed</th><th>µs / step</th><th>bytes / parameter</th></tr>"
    )
    rows = []
    for number, c in enumerate(contenders, 1):
        low, high = c.loss_range
        worst, best = c.accuracy_range
        rows.append(
            f"<tr><td>{number}</td><td class=name>{html.escape(c.name)}</td><td>{rate(c)}</td>"
            f"<td>{loss(c.median_loss)}</td><td>{loss(low)} – {loss(high)}</td><td>{accuracy(c.median_accuracy)}</td>"
            f"<td>{accuracy(worst)} – {accuracy(best)}</td><td>{c.failures} of {len(c.runs)}</td>"
            f"<td>{c.step_microseconds:.0f}</td><td>{c.bytes_per_parameter}</td></tr>"
        )
    return f'<div class="wide"><table>{head}{"".join(rows)}</table></div>'


def _strip(contenders: Sequence[Contender]) -> str:
    finite = [v for c in contenders for v in c.test_losses if math.isfinite(v)]
    if not finite:
        return "<p>No run ended with a finite loss.</p>"
    low, high = min(finite), max(finite)
    left, width, row = 330, 620, 18
    height = row * len(contenders) + 30

    def x(value: float) -> float:
        scaled = (math.log(value) - math.log(low)) / (math.log(high) - math.log(low) or 1)
        return left + width * scaled

    parts = [f'<svg viewBox="0 0 1000 {height}" role="img" aria-label="test loss of each seed">']
    for tick in _ticks(low, high):
        parts.append(f'<path class="frame" d="M{x(tick):.1f} 0V{height - 22}"/>')
        parts.append(f'<text x="{x(tick):.1f}" y="{height - 6}" text-anchor="middle">{tick:g}</text>')
    for number, c in enumerate(contenders):
        y = row * number + 12
        label = c.name if len(c.name) <= 52 else c.name[:51] + "…"
        parts.append(f'<text x="{left - 12}" y="{y + 4}" text-anchor="end">{html.escape(label)}</text>')
        for value in c.test_losses:
            if math.isfinite(value):
                parts.append(f'<circle cx="{x(value):.1f}" cy="{y}" r="3.2" fill="var(--bar)" fill-opacity=".55"/>')
            else:
                parts.append(f'<text x="{left + width + 14}" y="{y + 4}">✕</text>')
        if math.isfinite(c.median_loss):
            parts.append(f'<path d="M{x(c.median_loss):.1f} {y - 6}v12" stroke="var(--ink)" stroke-width="2"/>')
    parts.append("</svg>")
    return (
        f"<figure>{''.join(parts)}<figcaption>Logarithmic; the bar is the median, ✕ a failed run.</figcaption></figure>"
    )


def _curves(contenders: Sequence[Contender]) -> str:
    values = [v for c in contenders for v in _median_curve(c) if math.isfinite(v)]
    if not values:
        return "<p>No run has a finite loss.</p>"
    low, high = min(values), min(max(values), 3.0)
    small = []
    for number, c in enumerate(contenders):
        colour = _COLOURS[number % len(_COLOURS)]
        others = "".join(_line(_median_curve(o), low, high, "var(--line)", 1) for o in contenders if o is not c)
        own = _line(_median_curve(c), low, high, colour, 2)
        small.append(
            f'<figure><svg viewBox="0 0 256 130" role="img"><rect class="frame" x="50" y="6" width="200" height="104"/>'
            f'{others}{own}<text x="46" y="14" text-anchor="end">{high:.2g}</text>'
            f'<text x="46" y="110" text-anchor="end">{low:.2g}</text>'
            f'<text x="50" y="124">1</text><text x="250" y="124" text-anchor="end">{len(_median_curve(c))}</text></svg>'
            f"<figcaption>{html.escape(c.name)}</figcaption></figure>"
        )
    note = "<p>Each picture shows one contender before all others; logarithmic, in nats.</p>"
    return note + f'<div class="grid">{"".join(small)}</div>'


def _median_curve(contender: Contender) -> list[float]:
    length = max(len(run.curve) for run in contender.runs)
    curves = [[*run.curve, *[math.inf] * (length - len(run.curve))] for run in contender.runs]
    return [median(column) for column in zip(*curves, strict=True)]


def _line(curve: Sequence[float], low: float, high: float, colour: str, width: float) -> str:
    points = []
    for i, value in enumerate(curve):
        if not math.isfinite(value):
            break
        share = (math.log(min(value, high)) - math.log(low)) / (math.log(high) - math.log(low) or 1)
        points.append(f"{50 + 200 * i / max(1, len(curve) - 1):.1f},{110 - 104 * share:.1f}")
    return f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}" stroke-width="{width}"/>'


def _schedule(contender: Contender) -> str:
    curve = contender.schedule
    top = max(curve) or 1.0
    picked = sorted({round(i * (len(curve) - 1) / 400) for i in range(401)})
    points = " ".join(f"{50 + 200 * i / max(1, len(curve) - 1):.1f},{110 - 100 * curve[i] / top:.1f}" for i in picked)
    return (
        f'<figure><svg viewBox="0 0 256 130" role="img"><rect class="frame" x="50" y="6" width="200" height="104"/>'
        f'<polyline points="{points}" fill="none" stroke="var(--bar)" stroke-width="1.8"/>'
        f'<text x="46" y="14" text-anchor="end">{top:.2g}</text><text x="46" y="110" text-anchor="end">0</text>'
        f'<text x="50" y="124">0</text><text x="250" y="124" text-anchor="end">{len(curve)} steps</text></svg>'
        f"<figcaption>{html.escape(contender.name)}</figcaption></figure>"
    )


def _search(contenders: Sequence[Contender]) -> str:
    rows = []
    for c in filter(lambda c: c.search, contenders):
        tried = "  ".join(
            f"<b>{rate:.3g}: {loss(value)}</b>" if rate == c.lr else f"{rate:.3g}: {loss(value)}"
            for rate, value in c.search
        )
        rows.append(f'<tr><td class=name>{html.escape(c.name)}</td><td style="text-align:left">{tried}</td></tr>')
    note = (
        "<p>Median validation loss at the end of training; the grid widens by a factor of √10 while its edge wins.</p>"
    )
    return note + f'<div class="wide"><table>{"".join(rows)}</table></div>'


def _ticks(low: float, high: float) -> list[float]:
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [m * 10.0**e for e in exponents for m in (1, 2, 5) if low <= m * 10.0**e <= high]
    return ticks or [low]
