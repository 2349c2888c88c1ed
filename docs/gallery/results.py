"""A comparison's results without what was on the way, to keep beside a page; and their picture.

PYTHONPATH=docs python docs/gallery/results.py runs/digits/results.json docs/gallery/digits.json
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from shown import COLOURS, plt

from steepest.workbench import Result, recommend
from steepest.workbench.outcomes import against_best, from_best, judged
from steepest.workbench.results import Entry, WorkloadFacts
from steepest.workbench.statistics import interquartile_mean, kind_of
from steepest.workbench.words import shown, shown_interval

ROW = 0.27
"""The height of a row in inches."""
SAID = {"clear": "behind", "likely": "likely behind", "no": "no difference shown"}


def thinned(text: str) -> str:
    """The same results without curves; nothing that the tables and the recommendation are made of."""
    result = Result.from_json(text)
    entries = [
        replace(e, runs=tuple(replace(r, curve=(), losses=(), rates=()) for r in e.runs)) for e in result.entries
    ]
    data = json.loads(replace(result, entries=tuple(entries)).to_json())
    return json.dumps(data, separators=(",", ":")).replace('{"workload"', '\n{"workload"') + "\n"


def load(name: str) -> Result:
    return Result.from_json(Path(name).read_text(encoding="utf-8"))


class Page:
    """An HTML fragment that notebooks show."""

    def __init__(self, html: str) -> None:
        self.html = html

    def _repr_html_(self) -> str:
        return self.html


def listed(lines: Iterable[str]) -> Page:
    return Page(f'<ul class="simple">{"".join(f"<li><p>{line}</p></li>" for line in lines)}</ul>')


def describe(result: Result) -> Page:
    """How the figures came about."""
    facts = result.facts
    return listed(
        [
            f"<code>{escape(facts.command)}</code>",
            f"{facts.started[:10]}, {facts.seconds:.0f} s with {facts.jobs} processes on {escape(facts.machine)}",
            ", ".join(f"{name} {number}" for name, number in facts.versions.items()),
            f"{tried(result)} runs: {len(facts.search_seeds)} seeds choose, {len(facts.seeds)} others judge",
            *(f"<strong>{w.name}</strong>: {w.steps} steps; {escape(w.about)}" for w in result.workloads),
        ]
    )


def tried(result: Result) -> int:
    return sum(len(e.runs) + sum(len(t.costs) for t in e.trials) for e in result.entries)


def entries_of(result: Result, workload: str, track: str) -> list[Entry]:
    return [e for e in result.entries if (e.workload, e.track) == (workload, track)]


def table(result: Result, facts: WorkloadFacts) -> Page:
    """With the rate searched, from the best: the interquartile mean on the test part, its interval, and the paired verdict."""
    entries = from_best(entries_of(result, facts.name, "rate"), facts)
    verdict = {one.optimizer: SAID[one.shown] for one in against_best(entries, facts)}
    interval = kind_of(max(len(e.runs) for e in entries))
    heads = "".join(
        f"<th>{one}</th>" for one in (facts.name, "lr", facts.metric, interval, "paired with the first row")
    )
    rows = []
    for e in entries:
        mean = interquartile_mean([list(judged(e, facts).values())])
        name, rate = f"<code>{escape(e.optimizer)}</code>", f"{float(e.values['lr']):.2g}"
        cells = (name, rate, shown(mean.value, facts), shown_interval(mean, facts), verdict.get(e.optimizer, ""))
        rows.append(f"<tr>{''.join(f'<td>{one}</td>' for one in cells)}</tr>")
    return Page(f'<table class="docutils"><thead><tr>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table>')


def answer(result: Result) -> Page:
    """The recommendation in the library's words."""
    found = recommend(result)
    return listed(
        escape(line)
        for line in (found.overall, *(text for v in found.verdicts for text in (v.answer, *v.sure)))
        if line
    )


def draw(result: Result, facts: WorkloadFacts) -> Any:
    """A row for each optimizer: runs as points, the interquartile mean with its range or 95 % interval as a mark on a bar."""
    ordered = [e.optimizer for e in from_best(entries_of(result, facts.name, "rate"), facts)]
    tracks = [track for track in ("default", "rate") if entries_of(result, facts.name, track)]
    height = ROW * len(ordered) * (0.5 + len(tracks)) + 0.9
    figure, ax = plt.subplots(figsize=(5.6, height))
    for i, track in enumerate(tracks):
        colour, label = (COLOURS[1], "defaults") if track == "default" else (COLOURS[0], "learning rate searched")
        for e in entries_of(result, facts.name, track):
            y = ordered.index(e.optimizer) + (0.55 if track == "rate" else 0.8)
            costs = [cost for cost in judged(e, facts).values() if math.isfinite(cost)]
            mean = interquartile_mean([list(judged(e, facts).values())])
            if not math.isfinite(mean.value):
                continue
            first = e.optimizer == entries_of(result, facts.name, track)[0].optimizer
            ax.plot(costs, [y] * len(costs), ".", color=colour, alpha=0.45, markersize=4)
            ax.plot([mean.low, mean.high], [y, y], color=colour, linewidth=2.4, solid_capstyle="round")
            ax.plot(mean.value, y, "os"[i], color=colour, markersize=5.5, label=label if first else None)
    ax.set_xscale("log")
    for row, name in enumerate(ordered):
        ax.text(
            0.0,
            row + (0.25 if len(tracks) > 1 else 0.3),
            f"  {name}",
            transform=ax.get_yaxis_transform(),
            fontsize=9,
            va="center",
        )
        ax.axhline(row, color="#88888833", linewidth=0.7)
    ax.set(
        ylim=(len(ordered), 0), yticks=[], xlabel=f"{facts.metric} on the test part (lower is better)", title=facts.name
    )
    low, high = ax.get_xlim()
    for bases in ((1, 2, 5), (1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 4, 5, 6, 8), np.arange(1, 10, 0.1)):
        ticks = [base * 10.0**power for power in range(-4, 4) for base in bases]
        within = [t for t in ticks if low <= t <= high]
        if len(within) >= 3:
            break
    ax.set_xticks(within, [f"{t:.3g}" for t in within])
    ax.minorticks_off()
    if len(tracks) > 1:
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.65 / height), ncols=2)
    return figure


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(thinned(Path(sys.argv[1]).read_text(encoding="utf-8")), encoding="utf-8")
