"""Rows of several sessions and processes as one `Run`: three steps, each from runs to a run.

`columns` makes a run of one session of one process; `averaged` joins what the processes saw of the same session; `joined`
sets one session behind the other, as if training had never stopped, and leaves out the records that rewinds have undone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steepest.monitor.recorder.run_file import NO_LOSS
from steepest.monitor.records import Event, Facts, Run, TensorFacts, line_of, rows_of, with_derived

__all__ = ["averaged", "columns", "cut", "joined"]

_Floats = dict[str, NDArray[np.float32]]


def columns(
    facts: Facts,
    names: dict[str, list[str]],
    rows: Sequence[tuple[Any, ...]],
    events: Sequence[Event],
    marked: bool = True,
) -> Run:
    """One session of one process; a row is step, call, seconds, losses, scalars, tensors, the last three as BLOBs.

    In files that don't mark the calls without a loss (``marked``) any nan stands for none, unless the first record has all.
    """
    steps, calls, seconds, losses, scalars, tensors = zip(*rows, strict=True) if rows else ((),) * 6
    lengths = np.array([len(one) // 8 for one in losses], dtype=np.int64)
    last = np.array(calls, dtype=np.int64)
    before = np.cumsum(lengths) - lengths
    loss_calls = np.arange(lengths.sum()) + np.repeat(last - lengths + 1 - before, lengths)
    bits = np.frombuffer(b"".join(losses), dtype="<u8")
    given, numbers = bits != NO_LOSS, bits.view("<f8").astype(np.float64)
    if not marked and np.isnan(numbers[: lengths[:1].sum()]).any():
        given = ~np.isnan(numbers)
    values = _unpacked(scalars, "<f8", 1, names["scalars"])
    return Run(
        facts,
        np.array(steps, dtype=np.int64),
        last,
        np.array(seconds, dtype=np.float64),
        numbers[given],
        loss_calls[given].astype(np.int64),
        {name: one[:, 0].astype(np.float64) for name, one in values.items()},
        {
            n: one.astype(np.float32)
            for n, one in _unpacked(tensors, "<f4", len(facts.tensors), names["measurements"]).items()
        },
        tuple(events),
    )


def cut(run: Run, end: float) -> Run:
    """The run before step ``end``, where a later session begins."""
    stay = run.steps < end if end > 1 else np.zeros(len(run), dtype=bool)
    if stay.all():
        return replace(run, events=tuple(one for one in run.events if one.step < end))
    heard = run.loss_calls <= run.calls[stay].max(initial=-1)
    return replace(
        rows_of(run, stay),
        losses=run.losses[heard],
        loss_calls=run.loss_calls[heard],
        events=tuple(one for one in run.events if one.step < end and end > 1),
    )


def averaged(runs: Sequence[Run]) -> Run:
    """What several processes saw of one session, at the first one's records.

    Losses and scalars are means over the processes that have them at the same call: a scalar that is nan is missing, a loss that
    is nan was given. A tensor's values are the first process's, or those of the first other that has them where it has nan.
    Events are those of all, each once.
    """
    base, *others = runs
    if not others:
        return base
    known = {one.name for one in base.facts.tensors}
    more = {one.name: one for other in others for one in other.facts.tensors if one.name not in known}
    all_tensors = (*base.facts.tensors, *more.values())
    tensors = _arranged(base, all_tensors)
    scalars = dict.fromkeys(name for run in runs for name in run.scalars)
    for other in others:
        _, mine, its = np.intersect1d(base.calls, other.calls, return_indices=True)
        for name, values in _arranged(other, all_tensors).items():
            have = tensors.setdefault(name, np.full((len(base), len(all_tensors)), np.nan, dtype=np.float32))
            have[mine] = np.where(np.isnan(have[mine]), values[its], have[mine])
    loss_calls, losses = _mean_losses(runs)
    events = {(e.step, e.call, e.kind, e.message, e.tensors): e for one in reversed(runs) for e in one.events}
    return replace(
        base,
        facts=replace(base.facts, tensors=all_tensors),
        losses=losses,
        loss_calls=loss_calls,
        scalars={name: _mean([(run.calls, run.scalars.get(name)) for run in runs]) for name in scalars},
        tensors=tensors,
        events=tuple(sorted(events.values(), key=lambda one: one.call)),
        finished=all(one.finished for one in runs),
    )


def joined(runs: Sequence[Run]) -> Run:
    """Sessions one behind the other, as one line of steps: calls and seconds go on where the one before stopped; the last's
    tensors."""
    last, parts, call, second = runs[-1], list[Run](), 0, 0.0
    for run in runs:
        begins = [*run.loss_calls[:1].tolist(), *run.calls[:1].tolist(), *(one.call for one in run.events[:1])]
        if not begins:
            continue
        if parts:
            shift = max(0, call - min(begins) + 1)
            step = int(run.steps[0]) if len(run) else run.events[0].step
            resumed = Event(step, min(begins), "note", "training was resumed")
            run = replace(
                run,
                calls=run.calls + shift,
                loss_calls=run.loss_calls + shift,
                seconds=run.seconds + second,
                events=tuple(replace(one, call=one.call + shift) for one in (resumed, *run.events)),
            )
        parts.append(run)
        call = max([call, *run.calls[-1:].tolist(), *(one.call for one in run.events[-1:])])
        second = max([second, *run.seconds[-1:].tolist()])
    rows = [len(run) for run in parts]
    arranged = [_arranged(run, last.facts.tensors) for run in parts]
    made = Run(
        last.facts,
        _end_to_end([run.steps for run in parts], np.int64),
        _end_to_end([run.calls for run in parts], np.int64),
        _end_to_end([run.seconds for run in parts], np.float64),
        _end_to_end([run.losses for run in parts], np.float64),
        _end_to_end([run.loss_calls for run in parts], np.int64),
        _stacked([run.scalars for run in parts], rows, ()),
        with_derived(_stacked(arranged, rows, (len(last.facts.tensors),))),
        tuple(event for run in parts for event in run.events),
        last.finished,
    )
    return line_of(made)


def _unpacked(blobs: Sequence[bytes], kind: str, width: int, names: list[str]) -> dict[str, NDArray[Any]]:
    """Each name's values, (rows, width): a BLOB holds the first names' values, how many its length tells."""
    lengths = np.array([len(one) for one in blobs], dtype=np.int64)
    made = {name: np.full((len(blobs), width), np.nan, dtype=kind) for name in names}
    for length in set(lengths.tolist()) - {0}:
        rows = np.flatnonzero(lengths == length).tolist()
        block = np.frombuffer(b"".join([blobs[row] for row in rows]), dtype=kind).reshape(len(rows), -1, width)
        for position in range(block.shape[1]):
            made[names[position]][rows] = block[:, position]
    return made


def _arranged(run: Run, tensors: tuple[TensorFacts, ...]) -> _Floats:
    """The run's measurements with a column for each of ``tensors``; nan where it has none of that name."""
    wanted = [one.name for one in tensors]
    if run.names == tuple(wanted):
        return dict(run.tensors)
    have = {name: column for column, name in enumerate(run.names)}
    made = {}
    for name, values in run.tensors.items():
        made[name] = np.full((len(run), len(wanted)), np.nan, dtype=np.float32)
        for column, one in enumerate(wanted):
            if one in have:
                made[name][:, column] = values[:, have[one]]
    return made


def _mean(parts: Sequence[tuple[NDArray[np.int64], NDArray[np.float64] | None]]) -> NDArray[np.float64]:
    """The mean, at each call of the first part, of all parts that have a value there; nan where none has."""
    calls, _ = parts[0]
    total, count = np.zeros(len(calls)), np.zeros(len(calls))
    for theirs, values in parts:
        if values is not None:
            _, mine, its = np.intersect1d(calls, theirs, return_indices=True)
            known = ~np.isnan(values[its])
            total[mine[known]] += values[its][known]
            count[mine[known]] += 1
    with np.errstate(invalid="ignore"):
        mean: NDArray[np.float64] = total / count
    return mean


def _mean_losses(runs: Sequence[Run]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The calls, up to the first run's last record, at which any of them has a loss; and the means of those that have one."""
    last = runs[0].calls.max(initial=0)
    calls = np.unique(np.concatenate([run.loss_calls for run in runs]))
    calls = calls[calls <= last]
    total, count = np.zeros(len(calls)), np.zeros(len(calls))
    for run in runs:
        _, mine, its = np.intersect1d(calls, run.loss_calls, return_indices=True)
        with np.errstate(invalid="ignore"):  # inf - inf
            total[mine] += run.losses[its]
        count[mine] += 1
    return calls, total / count


def _end_to_end(parts: Sequence[NDArray[Any]], kind: type) -> NDArray[Any]:
    return np.concatenate(parts) if parts else np.zeros(0, dtype=kind)


def _stacked(
    parts: Sequence[dict[str, NDArray[Any]]], rows: Sequence[int], width: tuple[int, ...]
) -> dict[str, NDArray[Any]]:
    """Columns of several runs, one below the other; nan where a run has none of that name."""
    kinds = {name: one.dtype for part in parts for name, one in part.items()}
    return {
        name: np.concatenate(
            [p.get(name, np.full((n, *width), np.nan, dtype=kind)) for p, n in zip(parts, rows, strict=True)]
        )
        for name, kind in kinds.items()
    }
