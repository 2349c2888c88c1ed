"""A comparison as one HTML page: the answer first, then what it rests on. It needs no network and stays below 2 MB.

Bokeh draws (`steepest.workbench.pictures`); the words are in ``page.html``. Pictures are put in by importance as long as they
fit; what doesn't is named on the page.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from steepest.monitor.marks import duration
from steepest.pages.figures import FIRST_SHOWN, Look, Picture, looks_of
from steepest.pages.sheet import LIMIT, embedded, environment, library
from steepest.workbench import outcomes, pictures, statistics
from steepest.workbench.folder import write_whole
from steepest.workbench.outcomes import Summary
from steepest.workbench.ranking import speed_ups, verdict_track
from steepest.workbench.recommendation import recommend
from steepest.workbench.results import TRACKS, Entry, Result, WorkloadFacts
from steepest.workbench.statistics import Interval
from steepest.workbench.words import TRACK_NAMES, counted, listed, measure, shown, shown_factor, shown_interval

__all__ = ["LIMIT", "page", "write"]

MANY = 4
"""With more workloads than this only those optimizers get lines that are seen at once: pictures of all workloads fit."""
COLUMNS = {
    "All results": (
        "median", "IQM", "failed", "worse than the best", "best wins, %", "p", "steps to target", "seconds to target",
        "reach it, %",
    ),
    "On the validation part, and what it took": (
        "end", "best moment", "at step", "µs / step", "bytes / step", "bytes of state", "trials", "enough trials", "good rates",
        "rate area", "at an edge",
    ),
}  # fmt: skip
"""The tables of a workload. The first is what optimizers are compared by."""


def write(result: Result, folder: Path) -> tuple[Path, Path]:
    """Write ``report.html`` and ``results.json`` into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    report, data = folder / "report.html", folder / "results.json"
    write_whole(data, result.to_json())  # first: the page can be made again from it
    write_whole(report, page(result))
    return report, data


def page(result: Result) -> str:
    """The page."""
    looks = looks_of(dict.fromkeys(entry.optimizer for entry in result.entries))
    parts = [_part(result, facts) for facts in result.workloads]
    reference, faster = speed_ups(result)
    context: dict[str, Any] = {
        "result": result, "recommendation": recommend(result), "parts": parts, "profile": [], "scripts": [], "left_out": {},
        "library": library(), "optimizers": list(looks),
        "first_shown": FIRST_SHOWN, "reference": reference, "faster": faster, "shown_factor": shown_factor,
        "track_names": TRACK_NAMES, "untuned": _untuned(result), "works": _works(result),
        "few": statistics.FEWEST_FOR_INTERVAL, "margin": listed(sorted({_tolerance(f) for f in result.workloads})),
        "duration": duration(result.facts.seconds), "short": _short, "listed": listed, "counted": counted,
    }  # fmt: skip
    templates = environment("steepest.workbench")
    template = templates.get_template("page.html")
    room = LIMIT - len(template.render(context).encode())
    left_out: dict[str, list[str]] = context["left_out"]
    groups: list[tuple[str, dict[str, Any], str]] = [("the profiles", context, "profile")]
    # Trials take the most room and decide the least.
    for slot, called in (
        ("pictures", "the curves of"),
        ("entries", "what was searched on"),
        ("trials", "the trials of"),
    ):
        groups += [(called, part, slot) for part in parts if part["drawn"] or slot == "entries"]
    for said, holder, slot in groups:
        name = "" if holder is context else holder["facts"].name
        if left_out:  # what is less important must not take the room
            left_out.setdefault(said, []).append(name)
            continue
        script, shown_there = _html(slot, holder, result, looks, templates)
        taken = len(script.encode()) + len(str(shown_there).encode())
        if taken > room - 40 * len(groups):  # room for saying what is left out
            left_out[said] = [name]
            continue
        room -= taken
        context["scripts"].append(script)
        holder[slot] = shown_there
    return template.render(context)


def _html(
    slot: str, holder: dict[str, Any], result: Result, looks: dict[str, Look], templates: Environment
) -> tuple[str, Any]:
    """A script and what it draws into, for one slot of the page; only text for what was searched."""
    if slot == "entries":
        text = templates.get_template("page_entries.html").render(
            entries=holder["details"], track_names=TRACK_NAMES, short=_short
        )
        return "", Markup(text)
    return embedded(pictures.profile(result, looks) if slot == "profile" else _pictures(slot, holder, looks))


def _pictures(slot: str, part: dict[str, Any], looks: dict[str, Look]) -> list[Picture]:
    facts, best, order, tracks = part["facts"], part["drawn"], part["order"], part["by_track"]
    if slot == "trials":
        return pictures.trials(tracks["tuned"], order, facts, looks)
    return [
        *pictures.curves(best, facts, looks),
        *pictures.rates(tracks["rate"], order, facts, looks),
        *pictures.best_of(tracks["tuned"], order, facts, looks),
    ]


def _part(result: Result, facts: WorkloadFacts) -> dict[str, Any]:
    """What the page shows of a workload, without its pictures."""
    mine = [entry for entry in result.entries if entry.workload == facts.name]
    tracks = {track: outcomes.from_best([e for e in mine if e.track == track], facts) for track in TRACKS}
    drawn = [e for e in tracks[verdict_track(result, facts.name)] if e.runs][
        : FIRST_SHOWN if len(result.workloads) > MANY else 10
    ]
    order = [e.optimizer for e in drawn]
    count = sum(len(e.trials) for e in tracks["tuned"])
    whole = sum(len(e.whole_trials) for e in tracks["tuned"])
    kept = sum(len(pictures.thinned(e.whole_trials, len(order))) for e in tracks["tuned"] if e.optimizer in order)
    early = f"{count - whole:,} of {count:,} trials fell behind and were stopped early: they are not drawn. "
    of = (early if whole < count else "") + (
        f"{kept:,} of {whole:,} trials are drawn, the best of each optimizer among them"
        if kept < whole
        else f"All {'others ' * (whole < count)}are drawn"
    )
    tables = {track: _rows(tracks[track], facts) for track in reversed(TRACKS) if tracks[track]}
    return {
        "facts": facts,
        "measure": measure(facts),
        "drawn": drawn,
        "order": order,
        "by_track": tracks,
        "pictures": [],
        "trials": [],
        "trials_note": f"The track «{TRACK_NAMES['tuned']}», by the validation {measure(facts)} that decided the search. {of}.",
        "of": len(tracks[verdict_track(result, facts.name)]),
        "limit": f"{facts.failed:.3g}" if math.isfinite(facts.failed) else "infinitely bad",
        "tolerance": _tolerance(facts),
        "tables": [
            {
                "title": title,
                "columns": columns,
                "tracks": [(TRACK_NAMES[t], rows[title]) for t, rows in tables.items()],
            }
            for title, columns in COLUMNS.items()
        ],
        "entries": "",
        "details": mine,
    }


def _tolerance(facts: WorkloadFacts) -> str:
    return "1 point of the best" if facts.higher_is_better else "5 % of the best"


def _rows(entries: Sequence[Entry], facts: WorkloadFacts) -> dict[str, list[tuple[str, list[str]]]]:
    """For each table the name and the cells of every optimizer of a track."""
    against = {a.optimizer: a for a in outcomes.against_best(entries, facts)}
    rows: dict[str, list[tuple[str, list[str]]]] = {title: [] for title in COLUMNS}
    for entry in entries:
        s = outcomes.summary(entry, facts)
        if s is None:
            for title, columns in COLUMNS.items():
                rows[title].append((entry.optimizer, ["no runs", *[""] * (len(columns) - 1)]))
            continue
        a = against.get(entry.optimizer)
        paired = ["best" if against else "", "", ""]
        if a:
            d = a.difference
            paired = [f"{_short(d.value)} ({_short(d.low)} to {_short(d.high)})", _share(a.wins), f"{a.p_holm:.2g}"]
        t = s.target
        target = [_steps(t.steps), _short(t.seconds), _share(t.reached)] if t else [""] * 3
        failed = s.n - round(s.succeeded.value * s.n)
        rates = s.sensitivity
        cells = [
            shown(s.median, facts), _with_interval(s.mean, facts), f"{failed} of {s.n}",
            *paired, *target,
        ], [
            shown(s.best_moment.end, facts), shown(s.best_moment.cost, facts), _steps(s.best_moment.step),
            _short(s.step_microseconds) if math.isfinite(s.step_microseconds) else "",
            f"{s.bytes_per_parameter:g}", f"{s.state_bytes_per_parameter:g}", _trials(s), str(s.trials_needed or ""),
            *([f"{rates.decades:.1f}", f"{_short(rates.area)} over {rates.tried_decades:.1f}"] if rates else ["", ""]),
            ", ".join(entry.edges),
        ]  # fmt: skip
        for title, own in zip(COLUMNS, cells, strict=True):
            rows[title].append((entry.optimizer, own))
    return rows


def _works(result: Result) -> list[tuple[str, list[str]]]:
    """For each workload what must be the same where the same is to come out, and what a run costs."""
    taken = [outcomes.run_seconds([e for e in result.entries if e.workload == f.name]) for f in result.workloads]
    least = min(taken, default=math.inf)
    rows = []
    for facts, seconds in zip(result.workloads, taken, strict=True):
        known = math.isfinite(seconds)
        times = seconds / least if known and 0 < least < seconds else 1.0
        rows.append((facts.name, [
            "" if facts.batch is None else f"{facts.batch:,}", f"{facts.steps:,}",
            "" if facts.target is None else f"{facts.target:g}", _short(seconds) if known else "",
            "" if times == 1 else f"{times:.1f}" if times < 10 else f"{times:.0f}",
            "" if facts.split_seed is None else str(facts.split_seed), facts.data[:16], facts.digest,
        ]))  # fmt: skip
    return rows


def _untuned(result: Result) -> list[tuple[str, tuple[str, ...]]]:
    """For each optimizer what stayed at its default on every track that was run."""
    fixed: dict[str, tuple[str, ...]] = {}
    for entry in result.entries:
        known = fixed.setdefault(entry.optimizer, entry.fixed)
        fixed[entry.optimizer] = tuple(name for name in known if name in entry.fixed)
    return list(fixed.items())


def _trials(s: Summary) -> str:
    """How many there were, and what became of those that came to no end."""
    ended = {"stopped early": s.stopped_trials, "failed": s.failed_trials}
    said = ", ".join(f"{count} {how}" for how, count in ended.items() if count)
    return f"{s.trials} ({said})" if said else str(s.trials)


def _with_interval(of: Interval, facts: WorkloadFacts) -> str:
    interval = shown_interval(of, facts)
    return shown(of.value, facts) + (f" ({interval})" if interval else "")


def _share(of: Interval) -> str:
    return f"{100 * of.value:.0f} ({100 * of.low:.0f} to {100 * of.high:.0f})"


def _steps(value: float) -> str:
    return f"{value:g}" if math.isfinite(value) else _short(value)


def _short(value: object) -> str:
    if isinstance(value, float):
        return "∞" if value == math.inf else "−∞" if value == -math.inf else f"{value:.3g}"
    return str(value)
