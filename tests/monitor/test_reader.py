"""A run read: sessions one behind the other, processes together, what is new, and files that are none."""

from __future__ import annotations

import math
import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from steepest.monitor.recorder import Recorder
from steepest.monitor.recorder.reader import Follow, read
from steepest.monitor.recorder.run_file import SCHEMA
from steepest.monitor.records import Event, Record, TensorFacts
from tests.monitor.made import curve, facts, record, recorded

# ---- sessions


def test_training_that_resumes_replaces_what_was_recorded_from_there_on(tmp_path: Path) -> None:
    recorded(tmp_path, range(10, 731, 10), close=False)._release()  # killed at 730, the checkpoint was of step 500
    second = Recorder(tmp_path)
    second.start(facts(started=2000.0))
    for step in range(510, 601, 10):
        second.record(record(step, call=step - 500, add=1.0))  # a new monitor counts its calls from 1
    run = read(tmp_path)
    assert run.steps.tolist() == list(range(10, 601, 10))
    assert run.calls.tolist() == list(range(10, 601, 10))
    assert run.loss_calls.tolist() == list(range(1, 601))
    wanted = [curve(call) for call in range(1, 501)] + [curve(call) + 1 for call in range(1, 101)]
    assert run.losses.tolist() == wanted
    assert run.seconds.tolist() == [5.0 * n for n in range(1, 51)] + [250.0 + 5.0 * n for n in range(51, 61)]
    assert run.scalars["grad_norm"].tolist() == [*range(10, 501, 10), *range(511, 602, 10)]
    assert run.facts.started == 2000.0
    assert run.events == (Event(510, 501, "note", "training was resumed"),)
    assert not run.finished
    second.close()
    assert read(tmp_path).finished
    assert read(tmp_path, session=1).steps.tolist() == list(range(10, 731, 10))


def test_a_resumed_monitor_that_counts_on_is_left_its_calls(tmp_path: Path) -> None:
    recorded(tmp_path, range(10, 101, 10))
    recorded(tmp_path, range(110, 201, 10))
    assert read(tmp_path).calls.tolist() == list(range(10, 201, 10))


def test_what_was_recorded_in_between_two_records_before_the_end_stays(tmp_path: Path) -> None:
    first = recorded(tmp_path, range(10, 501, 10), close=False)
    first.record(Record(503, 503, 251.5, np.zeros(3), {}, {}))  # the losses after the last full record, at close
    first.close()
    second = Recorder(tmp_path)
    second.start(facts())
    second.record(Record(507, 507, 1.0, np.ones(4), {}, {}))  # resumed at 503, closed before the next full record
    second.close()
    run = read(tmp_path)
    assert run.steps.tolist()[-2:] == [500, 507]
    assert run.losses.tolist()[-4:] == [1.0] * 4


def test_training_that_starts_again_stands_alone(tmp_path: Path) -> None:
    first = recorded(tmp_path, range(10, 731, 10), close=False)
    first.event(Event(0, 0, "note", "the first try"))
    first.event(Event(5, 5, "spike", "too large"))
    first.close()
    recorded(tmp_path, range(10, 51, 10), add=1.0)
    run = read(tmp_path)
    assert run.steps.tolist() == [10, 20, 30, 40, 50]
    assert run.events == ()
    assert run.loss_calls.tolist() == list(range(1, 51))
    assert run.losses.tolist() == [curve(call) + 1 for call in range(1, 51)]


def test_a_session_that_has_no_record_yet_shows_those_before_it(tmp_path: Path) -> None:
    recorded(tmp_path, range(10, 51, 10))
    second = recorded(tmp_path, range(0), close=False)
    assert read(tmp_path).steps.tolist() == [10, 20, 30, 40, 50]
    assert not read(tmp_path).finished
    second.close()


def test_a_session_with_other_tensors_keeps_the_columns_of_those_that_stayed(tmp_path: Path) -> None:
    recorded(tmp_path, range(10, 31, 10), what=facts(2))
    head = TensorFacts("head", (2,), "float32")
    recorded(tmp_path, range(40, 51, 10), what=replace(facts(), tensors=(head, *facts(1).tensors)))
    run = read(tmp_path)
    assert run.names == ("head", "layers.0.weight")
    np.testing.assert_array_equal(run.tensors["grad_norm"][:, 0], [np.nan] * 3 + [40, 50])
    np.testing.assert_array_equal(run.tensors["grad_norm"][:, 1], [10, 20, 30, 41, 51])


def test_of_steps_that_go_back_within_a_session_the_last_stand_and_all_are_kept(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    recorder.start(facts())
    for call, step in enumerate([10, 20, 30, 10, 20, 30, 40], 1):
        recorder.record(record(step, call=call * 10))
    recorder.close()
    run = read(tmp_path)
    assert run.steps.tolist() == [10, 20, 30, 40]
    assert run.calls.tolist() == [40, 50, 60, 70]
    assert run.whole.steps.tolist() == [10, 20, 30, 10, 20, 30, 40]
    assert run.whole.calls.tolist() == list(range(10, 71, 10))
    assert run.loss_calls.tolist() == list(range(1, 71))


@pytest.mark.parametrize("given", [0, 3, -1])
def test_session_has_a_range(tmp_path: Path, given: int) -> None:
    recorded(tmp_path, range(10, 31, 10))
    recorded(tmp_path, range(40, 51, 10))
    assert len(read(tmp_path, session=2)) == 5
    with pytest.raises(ValueError, match=rf"^read: session must be a whole number in \[1, 2\], got {given}\.$"):
        read(tmp_path, session=given)


# ---- processes


def test_losses_and_scalars_are_means_over_the_processes(tmp_path: Path) -> None:
    for process in range(3):
        what = facts(process=process, processes=3)
        recorded(tmp_path, range(10, 101 - 10 * process, 10), what=what, add=float(process))  # the last ones are behind
    run = read(tmp_path)
    assert run.facts == facts(processes=3)
    assert run.finished
    assert run.steps.tolist() == list(range(10, 101, 10))
    lead = [1.0] * 80 + [0.5] * 10 + [0.0] * 10
    np.testing.assert_allclose(run.losses, [curve(call) + more for call, more in zip(range(1, 101), lead, strict=True)])
    np.testing.assert_allclose(run.scalars["step_seconds"], [1.25] * 8 + [0.75, 0.25])
    np.testing.assert_allclose(
        run.scalars["grad_norm"], [step + more for step, more in zip(run.steps, lead[9::10], strict=True)]
    )


def test_a_loss_that_only_the_last_process_has_is_that_of_the_run(tmp_path: Path) -> None:
    for process in range(2):
        recorder = Recorder(tmp_path)
        recorder.start(facts(1, process=process, processes=2))
        losses, given = (np.full(2, np.nan), np.zeros(2, dtype=bool)) if process == 0 else (np.array([2.0, 4.0]), None)
        scalars = {"accuracy": math.nan if process == 0 else 0.5}
        recorder.record(Record(2, 2, 1.0, losses, scalars, {}, given))
        recorder.close()
    run = read(tmp_path)
    assert (run.losses.tolist(), run.loss_calls.tolist()) == ([2.0, 4.0], [1, 2])
    assert run.scalars["accuracy"].tolist() == [0.5]


def test_a_loss_that_is_nan_in_one_process_is_nan(tmp_path: Path) -> None:
    for process, losses in enumerate(([1.0, 2.0], [3.0, np.nan])):
        recorder = Recorder(tmp_path)
        recorder.start(facts(1, process=process, processes=2))
        recorder.record(Record(2, 2, 1.0, np.array(losses), {"lr": 0.1} if process else {}, {}))
        recorder.close()
    np.testing.assert_array_equal(read(tmp_path).losses, [2.0, np.nan])
    assert read(tmp_path).scalars["lr"].tolist() == [0.1]


def test_a_tensor_that_the_first_process_did_not_measure_comes_from_another(tmp_path: Path) -> None:
    nan = math.nan
    both = [([1, nan, nan], facts(2).tensors), ([7, 2, 3], (*facts(2).tensors[1:], *facts(3).tensors[2:]))]
    for process, (values, tensors) in enumerate(both):
        recorder = Recorder(tmp_path)
        recorder.start(replace(facts(), tensors=tensors, process=process, processes=2))
        recorder.record(Record(2, 2, 1.0, np.zeros(2), {}, {"grad_norm": np.float32(values[: len(tensors)])}))
        recorder.close()
    run = read(tmp_path)
    assert run.names == ("layers.0.weight", "layers.1.weight", "layers.2.weight")
    np.testing.assert_array_equal(run.tensors["grad_norm"], np.float32([[1, 7, 2]]))


def test_events_of_all_processes_come_in_order_and_each_once(tmp_path: Path) -> None:
    for process in range(2):
        recorder = recorded(tmp_path, range(0), what=facts(process=process, processes=2), close=False)
        recorder.event(Event(3, 3, "skipped", "in both"))
        recorder.event(Event(5 - process, 5 - process, "nonfinite", f"in {process}"))
        recorder.close()
    assert [one.message for one in read(tmp_path).events] == ["in both", "in 1", "in 0"]


def test_files_of_an_earlier_run_with_more_processes_are_left_out(tmp_path: Path) -> None:
    for process in range(2):
        recorded(
            tmp_path, range(10, 101, 10), what=facts(process=process, processes=2, started=1000.0 + process), add=9.0
        )
    recorded(tmp_path, range(60, 121, 10), what=facts(started=5000.0))
    run = read(tmp_path)
    assert run.steps.tolist() == list(range(10, 121, 10))
    assert run.losses[:50].tolist() == [curve(call) + 9 for call in range(1, 51)]
    assert run.losses[50:].tolist() == [curve(call) for call in range(51, 121)]


def test_a_run_of_which_the_first_process_is_missing_is_read(tmp_path: Path) -> None:
    for process in (1, 2):
        recorded(tmp_path, range(10, 31, 10), what=facts(process=process, processes=3))
    assert read(tmp_path).facts.process == 1
    assert read(tmp_path).steps.tolist() == [10, 20, 30]


# ---- what is new


def test_follow_reads_only_what_is_new(tmp_path: Path) -> None:
    recorder = recorded(tmp_path, range(10, 51, 10), close=False)
    follow = Follow(tmp_path)
    first = follow.look()
    assert follow.look() is first
    recorder.record(record(60))
    assert follow.look().steps.tolist() == [10, 20, 30, 40, 50, 60]
    recorder.event(Event(61, 61, "note", "here"))
    assert [one.message for one in follow.look().events] == ["here"]
    recorder.close()
    assert follow.look().finished
    recorded(tmp_path, range(40, 51, 10))
    assert follow.look().steps.tolist() == [10, 20, 30, 40, 50] and len(follow.look().events) == 1
    recorded(tmp_path, range(10, 21, 10), what=facts(process=1))
    assert len(follow.look()) == 5
    again = read(tmp_path)
    assert again.losses.tolist() == follow.look().losses.tolist()


def test_follow_sees_that_records_were_thinned_and_that_the_file_is_another(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, max_bytes=1_000_000)
    recorder.start(facts(100))
    follow = Follow(tmp_path)
    for step in range(10, 10_001, 10):
        recorder.record(record(step, tensors=100))
        if step % 1000 == 0:
            assert follow.look().steps.tolist() == read(tmp_path).steps.tolist()
    assert len(follow.look()) < 1000
    recorder.close()
    recorder.path.unlink()
    recorded(tmp_path, range(10, 10_001, 10), what=facts(1))
    assert len(follow.look()) == 1000
    assert follow.look().names == ("layers.0.weight",)


# ---- what is no run


def test_a_folder_without_a_run_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError,
        match=r"^read: folder must be the folder of a run, got '.*'\. It has no file steepest-\*\.sqlite\.$",
    ):
        read(tmp_path)
    with pytest.raises(
        ValueError, match=r"^read: folder must be the folder of a run, got '.*/no', which doesn't exist\.$"
    ):
        read(tmp_path / "no")


def test_other_files_in_the_folder_do_not_matter(tmp_path: Path) -> None:
    recorded(tmp_path, range(10, 31, 10))
    (tmp_path / "steepest-notes.sqlite").write_text("mine")
    (tmp_path / "events.out.tfevents.1").write_text("")
    assert len(read(tmp_path)) == 3


@pytest.mark.parametrize("left", [0, 50, 3000, 20_000])
def test_a_file_that_was_cut_off_is_said_to_be_damaged(tmp_path: Path, left: int) -> None:
    path = recorded(tmp_path, range(10, 2001, 10)).path
    assert path.stat().st_size > 40_000
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(
        ValueError,
        match=r"^read: '.*/steepest-0\.sqlite'(: it is damaged\. Restore it from a copy, or move it away \(.*\)\.|"
        r": it is another kind of file, or damaged\. Move it away \(.*\)\.|"
        r" is empty\. Its writer is just starting, or was stopped before it began\.)$",
    ):
        read(tmp_path)


def test_a_file_with_a_damaged_page_is_said_to_be_damaged(tmp_path: Path) -> None:
    path = recorded(tmp_path, range(10, 2001, 10)).path
    content = bytearray(path.read_bytes())
    content[len(content) // 2 :] = b"\xff" * (len(content) - len(content) // 2)
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match=r"^read: '.*': it is damaged\. Restore it from a copy, or move it away \(.*\)\.$"
    ):
        read(tmp_path)


def test_a_file_whose_writer_is_just_starting_is_said_so(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "steepest-0.sqlite")
    with pytest.raises(
        ValueError, match=r"' is empty\. Its writer is just starting, or was stopped before it began\.$"
    ):
        read(tmp_path)
    connection.executescript(SCHEMA)
    connection.close()
    with pytest.raises(
        ValueError,
        match=r"^read: folder must have a run that has started, got '.*', where a run is just starting\. Try again\.$",
    ):
        read(tmp_path)


def test_facts_of_a_newer_version_of_the_same_format_are_read(tmp_path: Path) -> None:
    path = recorded(tmp_path, range(10, 31, 10)).path
    connection = sqlite3.connect(path)
    connection.execute("UPDATE sessions SET facts = json_set(facts, '$.colour', 'blue')")
    connection.commit(), connection.close()
    assert read(tmp_path).facts == facts()
