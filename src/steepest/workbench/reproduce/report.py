"""Outcomes as the page docs/reproduced.md: written from results alone, never by hand."""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Iterable

import numpy as np

import steepest
from steepest.workbench.reproduce.claim import Claim, Outcome, shown
from steepest.workbench.words import counted

__all__ = ["line", "markdown"]


def line(claim: Claim, outcome: Outcome) -> str:
    """A claim's verdict in one line, for a terminal."""
    return f"{outcome.verdict:>14}  {claim.name}: {outcome.reason} ({outcome.seconds:.0f} s)"


def markdown(results: Iterable[tuple[Claim, Outcome]]) -> str:
    """A page: a table of verdicts, then for each claim what was published, what is done here, and the figures."""
    results = list(results)
    counts = Counter(outcome.verdict for _, outcome in results)
    summary = ", ".join(f"{counts[v]} {v}" for v in ("reproduced", "not reproduced", "inconclusive") if counts[v])
    parts = [INTRODUCTION.format(summary=summary, machine=_machine(), total=sum(o.seconds for _, o in results))]
    for title, exact in (("Exact results", True), ("Claims at small scale", False)):
        chosen = [(c, o) for c, o in results if c.exact is exact]
        if chosen:
            parts += [f"## {title}", _table(chosen)]
    parts += ["## Figures", *(_section(claim, outcome) for claim, outcome in results)]
    return "\n\n".join(parts) + "\n"


INTRODUCTION = """\
# Published claims, tried out

This page is written by `python -m steepest.workbench.reproduce --all --json docs/reproduced.json --markdown docs/reproduced.md`;
with `--update` and names of claims in place of `--all` those alone are measured anew. It shows
{summary}.

A verdict is computed from figures and conditions that stand in the code. Figures with brackets are means over seeds with their 95 %
interval, which is wider by half a step where samples are read off a grid: a claim is reproduced where the whole interval meets
every condition, not reproduced where it misses one, and inconclusive in between. Small networks on two cores can support a claim
or fail to show it; that they fail to show it does not refute it at the size that the paper used.

Run on {machine}; {total:.0f} seconds of one core."""


def _machine() -> str:
    versions = f"steepest {steepest.__version__}, Python {platform.python_version()}, NumPy {np.__version__}"
    return f"{platform.machine()} with {counted(os.cpu_count() or 1, 'core')}, {versions}"


def _table(results: Iterable[tuple[Claim, Outcome]]) -> str:
    rows = ["| claim | paper | verdict | what decided |", "|---|---|---|---|"]
    for claim, outcome in results:
        decided = "; ".join(
            f"{c.figure} {shown(figure)} ({c})"
            for c in claim.conditions
            if not isinstance(figure := outcome.figures[c.figure], str)
        )
        cells = (f"[{claim.title}](#{claim.name})", str(claim.paper), outcome.verdict, decided)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)


def _section(claim: Claim, outcome: Outcome) -> str:
    figures = "\n".join(f"- {name}: {f if isinstance(f, str) else shown(f)}" for name, f in outcome.figures.items())
    seeds = "exact" if claim.exact else f"{claim.seeds} seeds" if claim.seeds > 1 else "no chance"
    return (
        f"### {claim.name}\n\n**{outcome.verdict}** ({outcome.seconds:.0f} s, {seeds}). {claim.paper}.\n\n"
        f"Published: {claim.statement}\n\nHere: {claim.setting}.\n\n{figures}"
    )
