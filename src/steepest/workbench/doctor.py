"""`steepest doctor`: what is wrong with a run in a folder, in plain words or as JSON.

It reads what the flight recorder has written, finished or not, and nothing else; rich is asked for colours and line breaks
where there is a terminal, and is not needed elsewhere.
"""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from steepest.checks import printable
from steepest.monitor.doctor import ALARM, RULES, Finding, diagnose, unjudged
from steepest.monitor.plain import to_json
from steepest.monitor.recorder.reader import read
from steepest.monitor.records import Run
from steepest.workbench.watch import newest
from steepest.workbench.words import counted

__all__ = ["doctor", "lines"]

WIDTH = 100
"""Columns of a page that is not on a terminal."""


def doctor(folder: str | None = None, *, as_json: bool = False) -> tuple[Finding, ...]:
    """Print what is found in a run, and return it.

    Parameters
    ----------
    folder : of the run; the newest under ``runs/`` unless told otherwise.
    as_json : print JSON: the findings, what was looked for and what could not be.

    Raises
    ------
    ValueError, OSError : there is no such run, or it can't be read.
    """
    try:
        path = newest(Path("runs")) if folder is None else Path(folder)
    except ValueError as error:
        raise ValueError(str(error).replace("steepest watch", "steepest doctor")) from None
    run = read(path)
    findings = diagnose(run)
    if as_json:
        missing = [{"cause": cause, "needs": list(needs)} for cause, needs in unjudged(run)]
        causes = sorted({rule.cause for rule in RULES if rule.can_judge(run)})
        found = [one.to_json() for one in findings]
        print(to_json({"folder": str(path), "findings": found, "looked_for": causes, "not_looked_for": missing}))
    elif sys.stdout.isatty():
        _coloured(run, findings, path)
    else:
        print("\n".join(f"{mark}{text}" for _, mark, text in _wrapped(lines(run, findings, path), WIDTH)))
    return findings


Line = tuple[str, str, str]
"""A style of rich, what stands before the text, and the text."""


def lines(run: Run, findings: Sequence[Finding], folder: Path) -> Iterator[Line]:
    """What is said of a run, paragraph by paragraph."""
    facts = run.facts
    steps = _steps(run) if len(run) else "no record yet"
    yield "bold", "", f"{folder}: {facts.optimizer}, {counted(len(facts.tensors), 'parameter')}, {steps}"
    alarms = [one for one in findings if one.confidence >= ALARM and not one.explained_by]
    remarks = [one for one in findings if one.confidence < ALARM and not one.explained_by]
    if not len(run) and not findings:
        yield "", "", "Too early to say: nothing has been recorded yet."
        return
    if not alarms:
        yield "green", "", "Nothing found that looks wrong."
    for place, one in enumerate(alarms, 1):
        yield "", "", ""
        yield "bold red", f"{place}. ", f"{one.title}. ({one.confidence:.0%} certain)"
        yield "", "   ", one.evidence
        yield "", "   ", f"{one.advice}"
        yield "cyan", "       ", one.code
        yield "dim", "   ", f"Rule: {one.rule} Source: {one.source}."
        following = [f"{f.title} (from step {f.onset})" for f in findings if f.explained_by == one.cause]
        if following:
            yield "", "   ", f"Follows from it: {'; '.join(following)}."
    if remarks:
        yield "", "", ""
        yield "", "", "Remarks, which a healthy run may deserve too:"
        for one in remarks:
            yield "", "- ", f"{one.title} ({one.confidence:.0%}). {one.evidence} {one.advice}"
    yield "", "", ""
    yield "dim", "", _scope(run)


def _steps(run: Run) -> str:
    first, last = run.steps[0], run.steps[-1]
    return f"{counted(len(run), 'record')} of step{f's {first:,} to' if last > first else ''} {last:,}"


def _scope(run: Run) -> str:
    """What was looked at, and what for want of measurements was not."""
    causes = {rule.cause for rule in RULES if rule.can_judge(run)}
    missing = [(cause, needs) for cause, needs in unjudged(run) if cause not in causes]
    said = f"Looked for {len(causes)} causes in {', '.join(run.tensors) or 'the losses'}."
    if missing:
        wanted = "; ".join(f"{cause} needs {' and '.join(needs)}" for cause, needs in missing)
        said += f" Not looked for: {wanted}."
    return said


def _wrapped(told: Iterator[Line], width: int) -> Iterator[Line]:
    for style, mark, given in told:
        text = printable(given, lines=style == "cyan")
        parts = [text] if style == "cyan" else textwrap.wrap(text, width - len(mark), break_long_words=False) or [""]
        for place, part in enumerate(parts):
            yield style, mark if place == 0 else " " * len(mark), part


def _coloured(run: Run, findings: Sequence[Finding], folder: Path) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    width = min(WIDTH, shutil.get_terminal_size().columns)
    for style, mark, text in _wrapped(lines(run, findings, folder), width):
        console.print(Text(mark + text, style=style), soft_wrap=True)
