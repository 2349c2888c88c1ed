"""Training that goes back: what is recorded from there on, and that all who read a run see one line of steps."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import steepest as s
import steepest.numpy as opt
from steepest.monitor.doctor import diagnose
from steepest.monitor.doctor.losses import _precursors
from steepest.monitor.recorder import Recorder
from steepest.monitor.recorder.reader import Follow, read
from steepest.monitor.records import Event, Facts, Record, Run, standing
from steepest.monitor.report.axis import steps_of_losses
from steepest.monitor.report.memory import Memory
from steepest.monitor.report.page import page_of
from steepest.monitor.report.pictures import _line
from steepest.monitor.terminal.course import Course
from steepest.workbench.watch import _Watched
from tests.monitor.guarded import TRAININGS
from tests.monitor.made import facts, record
from tests.monitor.test_monitor import Kept
from tests.needed import require_module

BAD = range(36, 40)
"""Batches that put training back from step 35 to 25."""


class Seen:
    """Everything that reads records while they come."""

    def __init__(self) -> None:
        self.kept: Kept = Kept()

    def start(self, facts: Facts) -> None:
        self.kept.start(facts)
        self.memory, self.course = Memory(facts), Course(facts)

    def record(self, record: Record) -> None:
        self.kept.record(record)
        self.memory.add(record)
        self.course.add(Run.of(self.course.facts, [record]))

    def event(self, event: Event) -> None:
        self.kept.event(event)
        self.memory.add_event(event)
        self.course.add(Run.of(self.course.facts, [], [event]))

    def close(self) -> None: ...


def spans(course: Course) -> dict[str, tuple[int, int, int]]:
    return {kind: (one.first, one.last, one.count) for kind, one in course.alarms.items()}


def training(kind: str, folder: Path, seen: Seen, watched: bool = True) -> Iterator[tuple[int, Any]]:
    """Sixty batches under a guard; each batch with the optimizer, after it."""
    one = TRAININGS[kind]()
    with s.Monitor(one.optimizer, one.model, every=10, to=seen, folder=folder) as monitor:
        guard = s.Guard(
            one.optimizer, one.model, rewind=25, skip=3, also=one.also, monitor=monitor if watched else None
        )
        for number in range(1, 61):
            loss = one.forward(number, math.nan if number in BAD else 1.0)
            one.optimizer.zero_grad() if one.model is not None else None
            if guard(loss):
                one.learn()
            monitor(loss)
            yield number, one.optimizer


@pytest.mark.parametrize("watched", [True, False], ids=["told by the guard", "by itself"])
@pytest.mark.parametrize("kind", TRAININGS)
def test_after_a_rewind_recording_goes_on_from_the_step_gone_back_to(kind: str, watched: bool, tmp_path: Path) -> None:
    seen = Seen()
    steps = [optimizer.steps for _, optimizer in training(kind, tmp_path, seen, watched)]
    assert (steps[34], steps[38], steps[39], steps[-1]) == (35, 25, 26, 46)
    records = seen.kept.records
    assert [one.step for one in records] == [10, 20, 30, 35, 30, 40, 46]
    assert [one.call for one in records] == [10, 20, 30, 38, 44, 54, 60]
    assert np.concatenate([one.losses for one in records]).size == 60
    assert not records[3].tensors and set(records[4].tensors) == set(records[2].tensors)
    (event,) = [one for one in seen.kept.events if one.kind == "rewound"]
    assert (event.step, event.call) == (25, 38)
    said = "back to step 25, 14 batches left out: 4 bad" if watched else "the optimizer's steps went back from 35 to 25"
    assert event.message.startswith(said)


@pytest.mark.parametrize("kind", TRAININGS)
def test_everybody_who_reads_a_rewound_run_sees_one_line_of_steps(kind: str, tmp_path: Path) -> None:
    seen = Seen()
    batches = training(kind, tmp_path, seen)
    next(batches)
    follow, watched = Follow(tmp_path), _Watched(tmp_path)
    for number, _ in batches:
        if number >= 10:
            live, fresh = follow.look(), read(tmp_path)
            assert live.steps.tolist() == fresh.steps.tolist() == seen.memory.run(False).steps.tolist()
            assert (np.diff(live.steps) > 0).all()
            watched.look()
            assert watched.course.step == seen.course.step == live.steps[-1]
        if 39 <= number < 44:
            assert live.steps.tolist() == [10, 20, 30, 35]  # nothing has replaced them yet
    run = read(tmp_path)
    assert run.steps.tolist() == [10, 20, 30, 40, 46]
    assert run.calls.tolist() == [10, 20, 44, 54, 60]
    assert run.whole.steps.tolist() == [10, 20, 30, 35, 30, 40, 46]
    assert run.whole.whole is run.whole
    assert run.loss_calls.tolist() == list(range(1, 61)) and np.flatnonzero(np.isnan(run.losses)).tolist() == [
        *range(35, 39)
    ]
    assert [(e.kind, e.step) for e in run.events] == [("nonfinite", 35)] * 4 + [("rewound", 25)]
    np.testing.assert_array_equal(run.tensors["grad_norm"][2], seen.kept.records[4].tensors["grad_norm"])

    memory = seen.memory.run(True)
    assert memory.steps.tolist() == run.steps.tolist() and memory.whole.calls.tolist() == run.whole.calls.tolist()
    np.testing.assert_array_equal(memory.losses, run.losses)
    assert diagnose(memory) == diagnose(run)
    watched.look()
    for title, curve in seen.course.curves.items():
        np.testing.assert_array_equal(watched.course.curves[title].values, curve.values)
    again = Course(run.facts)
    again.add(run.whole)
    assert spans(again) == spans(watched.course) == spans(seen.course)
    assert (again.alarms["rewound"].first, again.step, again.call) == (25, 46, 60)

    connection = sqlite3.connect(tmp_path / "steepest-0.sqlite")
    assert [step for (step,) in connection.execute("SELECT step FROM latest ORDER BY id")] == run.steps.tolist()
    connection.close()


def gone_back(folder: Path, **options: Any) -> Run:
    """Records up to 130, then back to 100, up to 160; what is recorded the second time is larger by 1."""
    recorder = Recorder(folder, **options)
    recorder.start(facts())
    for call in range(10, 131, 10):
        recorder.record(record(call))
    recorder.event(Event(100, 130, "rewound", "back to step 100"))
    for call in range(140, 191, 10):
        recorder.record(record(call - 30, call=call, add=1.0))
    recorder.close()
    return read(folder)


def test_the_doctor_and_the_page_keep_what_led_to_the_rewind(tmp_path: Path) -> None:
    run = gone_back(tmp_path)
    assert run.steps.tolist() == list(range(10, 161, 10)) and len(run.whole) == 19
    assert run.scalars["grad_norm"][-6:].tolist() == [step + 1 for step in range(110, 161, 10)]
    steps = steps_of_losses(run)
    assert steps[[0, 99, 129, 130, 189]].tolist() == [1, 100, 130, 101, 160]
    drawn_x = _line(steps, run.losses)["x"]
    assert len(drawn_x) == 191 and drawn_x[129:132].astype(str).tolist() == ["130.0", "nan", "101.0"]
    run.whole.scalars["grad_norm"][12] = 1e4  # the record of call 130, which was undone
    said, drawn = _precursors(run.whole, 131)
    assert said == "At step 130 the gradient's norm was 1e+04, before 75." and (drawn[0].first, drawn[0].last) == (
        30,
        130,
    )
    assert _precursors(run, 131)[0] == ""
    assert "rewound" in page_of(run, diagnose(run))


def test_a_rewind_to_steps_of_an_earlier_session_replaces_its_records(tmp_path: Path) -> None:
    for session in (range(10, 101, 10), (110, 120, 60, 70)):
        recorder = Recorder(tmp_path)
        recorder.start(facts())
        for call, step in enumerate(session, 1):
            recorder.record(record(step, call=10 * call))
        recorder.close()
    run = read(tmp_path)
    assert run.steps.tolist() == [10, 20, 30, 40, 50, 60, 70]
    assert run.calls.tolist() == [10, 20, 30, 40, 50, 130, 140]
    assert len(run.losses) == 140
    assert read(tmp_path, session=1).steps.tolist() == list(range(10, 101, 10))


def test_records_that_a_rewind_has_undone_go_first_and_their_losses_stay(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, max_bytes=1_000_000)
    recorder.start(facts(100))
    count = 0
    for round_ in range(6):
        for step in range(10 + 500 * round_, 2001 + 500 * round_, 10):
            count += 1
            recorder.record(record(step, tensors=100, call=10 * count))
    recorder.close()
    run = read(tmp_path)
    assert len(run.whole) < count
    assert (np.diff(run.steps) > 0).all() and run.steps[-1] == 4500
    assert run.loss_calls.tolist() == list(range(1, 10 * count + 1))
    memory = Memory(facts(100), records=200)
    for call, step in enumerate([*range(10, 1501, 10), *range(510, 1501, 10)], 1):
        memory.add(record(step, tensors=100, call=10 * call))
    remembered = memory.run(True)
    assert remembered.steps.tolist() == list(range(10, 1501, 10)) and len(remembered.losses) == 2500


def test_points_that_a_rewind_has_undone_go_from_tensorboard(tmp_path: Path) -> None:
    require_module("tensorboard")
    from steepest.monitor.tensorboard import TensorBoard
    from tests.monitor.test_tensorboard import points, shown

    output = TensorBoard(tmp_path)
    output.start(facts())
    for call in (10, 20, 30):
        output.record(record(call))
    output.record(Record(35, 35, 1.0, np.full(5, 9.0), {}, {}))
    output.event(Event(23, 35, "rewound", "back to step 23"))
    output.record(record(30, call=42, calls=7, add=1.0))
    output.close()
    assert points(tmp_path, "grad_norm") == [(10, 10.0), (20, 20.0), (30, 31.0)]
    loss = points(tmp_path, "loss")
    assert [step for step, _ in loss] == list(range(1, 31))
    assert [value > 1 + 1.9 for _, value in loss] == [False] * 23 + [True] * 7
    assert shown(tmp_path).Tensors("events/rewound")[0].step == 23


# ---- without a guard


def trained(optimizer: Any, monitor: Any, w: Any, steps: int) -> None:
    for _ in range(steps):
        optimizer.step([2 * w])
        monitor(float(w @ w))


def test_an_older_checkpoint_that_is_loaded_is_noticed_with_its_step() -> None:
    w, kept = np.ones(3), Kept()
    optimizer = opt.Adam([w], lr=0.01)
    with s.Monitor(optimizer, every=5, to=kept, folder=None) as monitor:
        trained(optimizer, monitor, w, 12)
        checkpoint = optimizer.state_dict()
        trained(optimizer, monitor, w, 6)
        optimizer.load_state_dict(checkpoint)
        trained(optimizer, monitor, w, 9)
        monitor.event("note", "now by hand")
    assert [one.step for one in kept.records] == [5, 10, 15, 18, 15, 20, 21]
    assert kept.events == [
        Event(12, 18, "rewound", "the optimizer's steps went back from 18 to 12"),
        Event(21, 27, "note", "now by hand"),
    ]
    assert kept.run.steps.tolist() == [5, 10, 15, 20, 21]


def test_going_back_within_an_interval_replaces_nothing_and_the_next_record_has_all_losses() -> None:
    w, kept = np.ones(3), Kept()
    optimizer = opt.SGD([w], lr=0.01)
    with s.Monitor(optimizer, every=10, to=kept, folder=None) as monitor:
        trained(optimizer, monitor, w, 12)
        checkpoint = optimizer.state_dict()
        trained(optimizer, monitor, w, 3)
        optimizer.load_state_dict(checkpoint)
        monitor.event("note", "loaded")
        trained(optimizer, monitor, w, 8)
    assert [(one.step, one.call, len(one.losses)) for one in kept.records] == [(10, 10, 10), (20, 23, 13)]
    assert [(one.kind, one.step) for one in kept.events] == [("rewound", 12), ("note", 12)]


def test_probes_are_taken_at_the_steps_after_the_one_gone_back_to(tmp_path: Path) -> None:
    class Probe:
        name, every = "asked", 4
        calls: list[tuple[str, int]] = []  # noqa: RUF012  # of the one there is

        def start(self, subject: Any) -> None: ...
        def before(self, step: int) -> None:
            self.calls.append(("before", step))

        def measure(self, step: int) -> dict[str, float]:
            self.calls.append(("measure", step))
            return {"asked": float(step)}

        def close(self) -> None: ...

    w, kept, probe = np.ones(3), Kept(), Probe()
    optimizer = opt.SGD([w], lr=0.01)
    with s.Monitor(optimizer, every=8, to=kept, folder=None, probes=[probe]) as monitor:
        trained(optimizer, monitor, w, 7)
        checkpoint = optimizer.state_dict()
        trained(optimizer, monitor, w, 6)
        optimizer.load_state_dict(checkpoint)
        monitor.event("rewound", "by hand")
        trained(optimizer, monitor, w, 1)
    assert probe.calls == [
        ("before", 4), ("measure", 4), ("before", 8), ("measure", 8), ("before", 12), ("measure", 12),
        ("before", 8), ("measure", 8),
    ]  # fmt: skip
    assert [one.scalars.get("asked") for one in kept.records] == [8.0, None, 8.0]  # that of step 12 was undone


def test_a_record_stands_until_its_step_or_an_earlier_one_is_recorded_again() -> None:
    assert standing(np.array([10, 20, 30, 38, 30, 40])).tolist() == [True, True, False, False, True, True]
    assert standing(np.array([10, 20, 15, 12, 30])).tolist() == [True, False, False, True, True]
    assert standing(np.zeros(0, dtype=np.int64)).tolist() == []
