"""A monitored run as one HTML page: what it came to, what is wrong with it, pictures, every layer, what it was set to.

It needs no network and stays below 2 MB: the heat map takes the room that is left. The words are in ``page.html``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Template
from markupsafe import Markup

from steepest.monitor.doctor import ALARM, Finding, unjudged
from steepest.monitor.marks import duration, number, whole
from steepest.monitor.records import Event, Facts, Run
from steepest.monitor.report.axis import Axis
from steepest.monitor.report.heat import ROOM, heat_of
from steepest.monitor.report.layers import LINES, layer_pictures
from steepest.monitor.report.pictures import model_pictures, optimizer_share, other_pictures
from steepest.monitor.report.table import table_of
from steepest.monitor.signs import matrices, median
from steepest.pages.figures import Picture
from steepest.pages.sheet import LIMIT, embedded, environment, library

__all__ = ["page_of"]

PICTURES = 150_000
"""Bytes that the other pictures usually take."""
EVENTS = 100
"""Of each kind, in the list."""
PLAN = 30_000
"""Characters of a plan's text."""


def page_of(run: Run, findings: Sequence[Finding] = ()) -> str:
    """The page of a run, however far it has come.

    Parameters
    ----------
    run : what was recorded.
    findings : the doctor's, most important first; empty where it found nothing.
    """
    axis, table = Axis(run), table_of(run)
    first = [*model_pictures(run, axis), *layer_pictures(run, axis)]
    others = other_pictures(run, axis)
    context: dict[str, Any] = {
        "title": f"{_of(run.facts)}{_steps(run)}", "line": _line(run), "state": _state(run), "tiles": _tiles(run),
        "findings": findings, "alarm": ALARM, "alarms": [one for one in findings if one.confidence >= ALARM],
        "titles": {one.cause: one.title for one in findings}, "unjudged": unjudged(run), "events": _events(run.events),
        "many": len(run.names) > LINES, "table": table, "facts": run.facts, "settings": _settings(run.facts),
        "plan": run.facts.plan[:PLAN] + " …" * (len(run.facts.plan) > PLAN),
        "library": library(), "whole": whole, "scripts": [],
    }  # fmt: skip
    room = LIMIT - len(_template().render(context).encode()) - PICTURES
    while True:
        made = _rendered(run, axis, context, first, others, table.worst, min(room, ROOM))
        beyond = len(made.encode()) - LIMIT
        if beyond <= 0 or room <= 0:
            return made
        room = min(room, ROOM) - beyond - 5_000


def _rendered(
    run: Run,
    axis: Axis,
    context: dict[str, Any],
    first: Sequence[Picture],
    others: Sequence[Picture],
    layer: int,
    room: int,
) -> str:
    heat = heat_of(run, axis, layer, room) if room > 0 else None
    maps = [] if heat is None else [heat.map, heat.course]
    script, shown = embedded([*maps, *first, *others])  # in one script: so all share the axis of steps
    extra = {
        "scripts": [script], "pictures": shown[len(maps) : len(maps) + len(first)], "others": shown[len(maps) + len(first) :],
    }  # fmt: skip
    if heat is not None:
        code = Path(__file__).with_name("heat.js").read_text(encoding="utf-8")
        title = Markup('<span class="heat-title">{}</span> of <span id="heat-layer">{}</span>')  # what a click changes
        shown[1]["title"] = title.format(
            heat.about["measurements"][heat.about["measurement"]]["title"], heat.about["names"][layer]
        )
        extra |= {"heat": {"about": heat.about, "map": shown[0], "course": shown[1], "code": Markup(code)}}
    return _template().render(context | extra)


def _template() -> Template:
    return environment("steepest.monitor.report").get_template("page.html")


# ---- what it came to


def _steps(run: Run) -> str:
    last = int(run.steps[-1]) if len(run) else 0
    return f"{last:,} step{'' if last == 1 else 's'}"


def _of(facts: Facts) -> str:
    """The optimizer's class, where it says more than that it is one."""
    return "" if facts.optimizer == "Optimizer" else f"{facts.optimizer}: "


def _line(run: Run) -> str:
    """The run in a sentence."""
    if not len(run):
        return f"{_of(run.facts)}no record yet."
    said = f"{_of(run.facts)}{_steps(run)} in {duration(float(run.seconds[-1]))}"
    first, last = _loss_ends(run.losses)
    if math.isfinite(last) and math.isfinite(first):
        said += f"; the loss went from {number(first)} to {number(last)}"
    elif math.isfinite(first):
        said += f"; the loss began at {number(first)} and is {number(float(run.losses[-1]))} now"
    return f"{said}."


def _loss_ends(losses: np.ndarray[Any, np.dtype[np.float64]]) -> tuple[float, float]:
    """The mean of the first and of the last fiftieth."""
    count = max(1, len(losses) // 50)
    ends = [part[np.isfinite(part)] for part in (losses[:count], losses[-count:])]
    begin, end = (float(part.mean()) if len(part) else math.nan for part in ends)
    return begin, end


def _state(run: Run) -> str:
    if run.finished:
        return ""
    now = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M")
    return f"Written on {now}, while training went on; or it ended without closing the monitor."


def _tiles(run: Run) -> list[tuple[str, str, str]]:
    """What one looks for first: what it is, its value, what it is compared with."""
    made = []
    count = max(1, len(run.losses) // 50)
    _, last = _loss_ends(run.losses)
    if math.isfinite(last):
        lowest = float(np.nanmin(np.where(np.isfinite(run.losses), run.losses, np.nan)))
        made.append(
            (
                "loss",
                number(last),
                f"mean of the last {count:,} calls; lowest {number(lowest)}" if count > 1 else "the last",
            )
        )
    for name, title in (("lr", "learning rate"), ("grad_norm", "gradient norm")):
        known = run.scalars.get(name, np.zeros(0))
        known = known[np.isfinite(known)]
        if len(known):
            made.append((title, number(float(known[-1])), f"highest {number(float(known.max()))}"))
    if "update_ratio" in run.tensors:
        judged = matrices(run.facts)
        ratios = median(run.tensors["update_ratio"][:, judged if judged.any() else slice(None)])
        ratios = ratios[np.isfinite(ratios)]
        if len(ratios):
            made.append(
                ("update / weight", number(float(np.median(ratios))), "median of matrices and records; usual is 0.001")
            )
    if "clipped" in run.tensors:
        values = run.tensors["clipped"]
        values = values[np.isfinite(values).any(axis=1)]
        if len(values):
            made.append(("clipped", f"{100 * np.nanmean(np.nanmax(values, axis=1) > 0):.0f} %", "of the records"))
    step = run.scalars.get("step_seconds", np.zeros(0))
    step = step[np.isfinite(step)]
    if len(step):
        share = optimizer_share(run)
        note = f"{100 * share:.1f} % in the optimizer" if math.isfinite(share) else ""
        made.append(("time of a step", f"{1000 * float(np.median(step)):.3g} ms", note))
    return made


def _events(events: Sequence[Event]) -> list[dict[str, Any]]:
    """By kind, those that happened first in front."""
    kinds: dict[str, list[Event]] = {}
    for event in events:
        kinds.setdefault(event.kind, []).append(event)
    return [
        {"kind": kind, "count": len(of), "first": of[0], "last": of[-1], "all": of[:EVENTS]}
        for kind, of in kinds.items()
    ]


# ---- what it was set to


def _settings(facts: Facts) -> list[tuple[str, str]]:
    """Facts in the order in which one asks for them."""
    made = [("optimizer", f"{facts.optimizer} of steepest.{facts.framework}")]
    several = len(facts.groups) > 1
    for position, (chain, group) in enumerate(zip(facts.chains, facts.groups, strict=False)):
        of = f" of group {position}" if several else ""
        made.append((f"chain{of}", chain))
        if group:
            made.append((f"values{of}", ", ".join(f"{name} {_as_text(value)}" for name, value in group.items())))
    sizes = [math.prod(one.shape) for one in facts.tensors]
    made.append(
        ("parameters", f"{whole(sum(sizes))} in {len(sizes):,} tensors, {_kinds(one.dtype for one in facts.tensors)}")
    )
    if facts.states:
        made.append(("states", ", ".join(f"{name} ({kind})" for name, kind in facts.states.items())))
    made.append(("recorded", f"every {facts.every} steps" if facts.every > 1 else "every step"))
    if facts.processes > 1:
        made.append(("process", f"{facts.process} of {facts.processes}"))
    started = datetime.fromtimestamp(facts.started).astimezone()
    made.append(("started", started.strftime("%Y-%m-%d %H:%M:%S %z")))
    made.append(("versions", ", ".join(f"{name} {version}" for name, version in facts.versions.items())))
    made += [(name, _as_text(value)) for name, value in facts.notes.items()]
    return [(name, value[:2000]) for name, value in made if value]


def _kinds(kinds: Any) -> str:
    return ", ".join(dict.fromkeys(kinds))


def _as_text(value: Any) -> str:
    return (
        number(value)
        if isinstance(value, float)
        else ", ".join(map(_as_text, value))
        if isinstance(value, (list, tuple))
        else str(value)
    )
