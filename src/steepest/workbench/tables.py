"""The table that a comparison ends with in the terminal: every optimizer on every track, best first."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from steepest.workbench.outcomes import from_best, summary
from steepest.workbench.ranking import speed_ups
from steepest.workbench.results import Entry, Result, WorkloadFacts
from steepest.workbench.statistics import kind_of
from steepest.workbench.words import counted, shown, shown_factor, shown_interval

__all__ = ["table"]


def table(result: Result) -> Iterator[Any]:
    """A rich table for each workload; for four and more that have a target one of the steps to it."""
    from rich.table import Table
    from rich.text import Text

    for facts in result.workloads:
        entries = from_best([e for e in result.entries if e.workload == facts.name], facts)
        length = f"{counted(facts.steps, 'step')}, {counted(len(result.facts.seeds), 'seed')}"
        made = Table(
            title=Text(f"{facts.name}, {length}: {facts.metric} on the test part"),
            title_justify="left",
        )
        made.add_column("optimizer", overflow="fold")
        kinds = {kind_of(len(entry.runs)) for entry in entries if entry.runs}
        interval = " or ".join(sorted(f"{kind} interval" if "%" in kind else kind for kind in kinds)) or "interval"
        for heading in ("track", "lr", facts.metric, interval, "failed", "µs/step", "state B"):
            made.add_column(heading, justify="right")
        for entry in entries:
            made.add_row(*map(Text, _row(entry, facts, len(kinds) > 1)))  # what is in brackets is no markup
        yield made
    reference, faster = speed_ups(result)
    if faster:
        title = f"times as quick to the targets as {reference}, in steps"
        made = Table(title=Text(title), title_justify="left")
        made.add_column("optimizer", overflow="fold")
        for heading in ("geometric mean (95 %)", "it misses", "reference misses", "both miss", "of runs"):
            made.add_column(Text(heading), justify="right")
        for one in faster:
            counts = one.missed, one.reference_missed, one.both_missed, one.runs
            made.add_row(*map(Text, (one.optimizer, shown_factor(one), *map(str, counts))))
        yield made


def _row(entry: Entry, facts: WorkloadFacts, mixed: bool) -> list[str]:
    """The cells; ``mixed`` says that each interval must name its kind, since some are 95 % and some ranges."""
    found = summary(entry, facts)
    if found is None:
        return [entry.optimizer, entry.track, _rate(entry), "no runs", "", "", "", ""]
    failed = sum(bool(run.failed) for run in entry.runs)
    interval = shown_interval(found.mean, facts)
    named = f"{kind_of(found.n)}: {interval}" if mixed and interval else interval
    return [
        entry.optimizer, entry.track, _rate(entry), shown(found.mean.value, facts), named, str(failed),
        f"{found.step_microseconds:.0f}" if math.isfinite(found.step_microseconds) else "", f"{found.state_bytes_per_parameter:g}",
    ]  # fmt: skip


def _rate(entry: Entry) -> str:
    lr = entry.values.get("lr")
    mark = " (edge)" if "lr" in entry.edges else ""
    return "given" if lr is None else f"{float(lr):.3g}{mark}"
