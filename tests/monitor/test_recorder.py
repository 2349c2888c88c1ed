"""The flight recorder: what is in its file, whatever ends the process that writes it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from steepest.monitor import recorder as module
from steepest.monitor.recorder import Recorder
from steepest.monitor.recorder.reader import read
from steepest.monitor.recorder.thinning import thinned
from steepest.monitor.records import Event, Record
from tests.monitor.made import MEASURED, curve, facts, record, recorded

ROOT = Path(__file__).parents[2]


def started(code: str, *arguments: object) -> subprocess.Popen[str]:
    """A process that runs ``code`` after importing what the tests use."""
    begin = "import sys; from pathlib import Path; from tests.monitor.made import *\n"
    command = [sys.executable, "-c", begin + code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def test_what_was_recorded_is_read_back_exactly(tmp_path: Path) -> None:
    recorded(tmp_path, range(10, 101, 10))
    run = read(tmp_path)
    assert run.facts == facts()
    assert run.finished
    assert run.steps.tolist() == run.calls.tolist() == list(range(10, 101, 10))
    assert run.seconds.tolist() == [step * 0.5 for step in range(10, 101, 10)]
    assert run.loss_calls.tolist() == list(range(1, 101))
    assert run.losses.tolist() == [curve(call) for call in range(1, 101)]
    assert run.scalars["grad_norm"].tolist() == list(range(10, 101, 10))
    for name in MEASURED:
        wanted = np.array([record(step).tensors[name] for step in range(10, 101, 10)])
        np.testing.assert_array_equal(run.tensors[name], wanted)
    ratio = run.tensors["update_norm"] / run.tensors["weight_norm"]
    np.testing.assert_array_equal(run.tensors["update_ratio"], ratio)


def test_losses_keep_float64_and_what_is_not_finite(tmp_path: Path) -> None:
    losses = np.array([1e-300, 1 / 3, np.inf, -np.inf, np.nan])
    recorder = Recorder(tmp_path)
    recorder.start(facts(1))
    recorder.record(Record(5, 5, 1.0, losses, {"lr": np.inf}, {"grad_norm": np.float32([np.nan])}))
    recorder.close()
    np.testing.assert_array_equal(read(tmp_path).losses, losses)
    assert read(tmp_path).scalars["lr"].tolist() == [np.inf]


def test_a_call_without_a_loss_is_told_from_a_loss_that_is_nan(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    recorder.start(facts(1))
    losses, given = np.array([np.nan, np.nan, 2.0]), np.array([False, True, True])
    recorder.record(Record(3, 3, 1.0, losses, {}, {}, given))
    recorder.record(Record(6, 6, 2.0, np.full(3, np.nan), {}, {}, np.zeros(3, dtype=bool)))
    recorder.record(Record(9, 9, 3.0, np.array([1.0, np.nan, 3.0]), {}, {}))
    recorder.close()
    run = read(tmp_path)
    assert run.loss_calls.tolist() == [2, 3, 7, 8, 9]
    np.testing.assert_array_equal(run.losses, [np.nan, 2, 1, np.nan, 3])
    with closing(sqlite3.connect(recorder.path)) as connection:  # whoever knows nothing of it reads nan
        ((blob,),) = connection.execute("SELECT losses FROM latest WHERE step = 3")
    np.testing.assert_array_equal(np.frombuffer(blob, "<f8"), losses)


@pytest.mark.parametrize(("first", "calls"), [([1.0, 1.0], [1, 2, 3, 4]), ([np.nan, 1.0], [2, 4])])
def test_in_a_file_of_an_older_version_nan_is_no_loss_where_the_first_record_misses_one(
    tmp_path: Path, first: list[float], calls: list[int]
) -> None:
    recorder = Recorder(tmp_path)
    recorder.start(facts(1))
    recorder.record(Record(2, 2, 1.0, np.array(first), {}, {}))
    recorder.record(Record(4, 4, 2.0, np.array([np.nan, 1.0]), {}, {}))
    recorder.close()
    with closing(sqlite3.connect(recorder.path)) as connection, connection:
        connection.execute("DELETE FROM about WHERE name = 'no_loss'")
    assert read(tmp_path).loss_calls.tolist() == calls


def test_names_may_come_later_and_be_missing(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    recorder.start(facts(2))
    none = np.zeros(0)
    recorder.record(Record(10, 1, 0.1, none, {"lr": 0.1}, {"grad_norm": np.float32([1, 2])}))
    both = {"weight_norm": np.float32([5, 6]), "grad_norm": np.float32([3, 4])}
    recorder.record(Record(20, 2, 0.2, none, {"accuracy": 0.5}, both))
    recorder.record(Record(23, 3, 0.3, none, {}, {}))
    recorder.close()
    run = read(tmp_path)
    np.testing.assert_array_equal(run.scalars["lr"], [0.1, np.nan, np.nan])
    np.testing.assert_array_equal(run.scalars["accuracy"], [np.nan, 0.5, np.nan])
    np.testing.assert_array_equal(run.tensors["grad_norm"], np.float32([[1, 2], [3, 4], [np.nan, np.nan]]))
    np.testing.assert_array_equal(run.tensors["weight_norm"], np.float32([[np.nan] * 2, [5, 6], [np.nan] * 2]))


def test_a_value_too_many_is_refused_and_nothing_of_it_written(tmp_path: Path) -> None:
    recorder = recorded(tmp_path, range(10, 21, 10), close=False)
    with pytest.raises(ValueError, match=r"^Recorder: 'grad_norm' must have 3 values, got 4\.$"):
        recorder.record(record(30, tensors=4))
    recorder.record(record(40))
    recorder.close()
    assert read(tmp_path).steps.tolist() == [10, 20, 40]


def test_events_are_kept_with_their_values(tmp_path: Path) -> None:
    event = Event(7, 8, "nonfinite", "an overflow", ("layers.0.weight",), {"count": 3.0, "largest": float("inf")})
    recorder = recorded(tmp_path, range(0), close=False)
    recorder.event(event)
    recorder.close()
    assert read(tmp_path).events == (event,)


def test_a_finished_run_is_one_plain_file(tmp_path: Path) -> None:
    recorder = recorded(tmp_path, range(10, 101, 10), close=False)
    assert {path.name for path in tmp_path.iterdir()} == {
        "steepest-0.sqlite", "steepest-0.sqlite-wal", "steepest-0.sqlite-shm", "steepest-0.lock",
    }  # fmt: skip
    recorder.close()
    recorder.close()
    assert [path.name for path in tmp_path.iterdir()] == ["steepest-0.sqlite"]
    header = (tmp_path / "steepest-0.sqlite").read_bytes()[:100]
    assert header[18:20] == b"\x01\x01"  # no write-ahead log: it can be read where nothing can be written
    assert header[68:72] == b"step"


def test_close_without_start_does_nothing(tmp_path: Path) -> None:
    Recorder(tmp_path / "run").close()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("given", [0, 999_999, 1.5, "32 MB"])
def test_max_bytes_has_a_range(tmp_path: Path, given: object) -> None:
    with pytest.raises(
        (ValueError, TypeError), match=r"^Recorder: max_bytes must be a whole number >= 1000000, got .*\.$"
    ):
        Recorder(tmp_path, max_bytes=given)  # type: ignore[arg-type]


# ---- killed, and read while it is written


@pytest.mark.parametrize("shared", [False, True], ids=["write-ahead log", "rollback journal"])
def test_a_killed_process_leaves_all_that_record_returned_from(tmp_path: Path, shared: bool) -> None:
    code = """
import steepest.monitor.recorder as module
module._is_shared = lambda path: sys.argv[2] == "True"
recorder = recorded(Path(sys.argv[1]), range(0), close=False)
for step in range(10, 10**9, 10):
    recorder.record(record(step))
    print(step, flush=True)
"""
    for attempt in range(3):
        folder = tmp_path / str(attempt)
        process = started(code, folder, shared)
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(200 * attempt + 1)]
        process.send_signal(signal.SIGKILL)
        rest, _ = process.communicate()
        said = [int(line) for line in ("".join(lines) + rest).splitlines(keepends=True) if line.endswith("\n")]
        run = read(folder)
        assert not run.finished
        assert run.steps.tolist() == list(range(10, int(run.steps[-1]) + 1, 10))
        assert run.losses.tolist() == [curve(call) for call in range(1, int(run.calls[-1]) + 1)]
        if not shared:
            assert run.steps[-1] >= said[-1]
        again = recorded(
            folder, range(int(run.steps[-1]) + 10, int(run.steps[-1]) + 31, 10)
        )  # the lock was left behind
        assert again.path.exists()
        assert len(read(folder)) == len(run) + 3


def test_a_process_killed_in_the_middle_of_a_transaction_without_a_log_leaves_what_was_before(tmp_path: Path) -> None:
    code = """
import os, signal
import steepest.monitor.recorder as module
module._is_shared = lambda path: True
recorder = recorded(Path(sys.argv[1]), range(10, 101, 10), close=False)
connection = recorder._connection
connection.execute("PRAGMA cache_size = 1"), connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE records SET step = -1"), connection.execute("DELETE FROM records WHERE id > 3")
connection.execute("CREATE TABLE large AS SELECT zeroblob(10000000)")  # more than the cache: the file is half changed
os.kill(os.getpid(), signal.SIGKILL)
"""
    started(code, tmp_path).communicate()
    assert (tmp_path / "steepest-0.sqlite-journal").stat().st_size > 0
    before = read(tmp_path)
    assert before.steps.tolist() == [10]  # the rest was not a second old
    recorded(tmp_path, range(20, 41, 10))
    assert read(tmp_path).steps.tolist() == [10, 20, 30, 40]


def test_without_a_log_a_record_waits_for_the_next_one_after_a_second_and_an_event_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_is_shared", lambda path: True)
    now = 100.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    recorder = Recorder(tmp_path)
    recorder.start(facts())
    recorder.record(record(10))
    recorder.record(record(20))
    assert read(tmp_path).steps.tolist() == [10]
    now += 1
    recorder.record(record(30))
    assert read(tmp_path).steps.tolist() == [10, 20, 30]
    recorder.record(record(40))
    recorder.event(Event(41, 41, "nonfinite", "gradient of layers.0.weight"))
    run = read(tmp_path)
    assert (run.steps.tolist(), [one.step for one in run.events]) == ([10, 20, 30, 40], [41])
    recorder.close()


@pytest.mark.parametrize("shared", [False, True], ids=["write-ahead log", "rollback journal"])
def test_a_run_is_read_while_it_is_written(tmp_path: Path, shared: bool) -> None:
    code = """
import time
import steepest.monitor.recorder as module
module._is_shared = lambda path: sys.argv[2] == "True"
recorder = recorded(Path(sys.argv[1]), range(0), close=False)
print("started", flush=True)
for step in range(10, 30001, 10):
    recorder.record(record(step))
    time.sleep(0.0003)
recorder.close()
"""
    process = started(code, tmp_path, shared)
    assert process.stdout is not None and process.stdout.readline() == "started\n"
    seen = []
    while process.poll() is None:
        run = read(tmp_path)
        seen.append(len(run))
        assert run.steps.tolist() == list(range(10, 10 * len(run) + 1, 10))
        assert len(run.losses) == 10 * len(run)
    _, error = process.communicate()
    assert (process.returncode, error) == (0, "")
    assert len(set(seen)) > (1 if shared else 2)  # it grew before our eyes
    assert read(tmp_path).finished and len(read(tmp_path)) == 3000


def test_another_program_that_locks_the_file_for_a_while_costs_nothing(tmp_path: Path) -> None:
    recorder = recorded(tmp_path, range(10, 21, 10), close=False)
    other = sqlite3.connect(recorder.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    recorder.record(record(30))
    recorder.event(Event(31, 31, "note", "still there"))
    assert read(tmp_path).steps.tolist() == [10, 20]
    other.execute("ROLLBACK")
    other.close()
    recorder.record(record(40))
    assert read(tmp_path).steps.tolist() == [10, 20, 30, 40]
    assert [one.message for one in read(tmp_path).events] == ["still there"]
    recorder.close()


@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")  # JAX, if another test of this process has loaded it
def test_a_process_that_was_forked_while_recording_neither_writes_nor_finishes_the_run(tmp_path: Path) -> None:
    recorder = recorded(tmp_path, range(10, 21, 10), close=False)
    code = os.fork() if sys.version_info < (3, 12) else None
    if code is None:
        pytest.skip("fork warns in a process with threads")
    if code == 0:
        try:
            recorder.record(record(30))
            recorder.close()
        finally:
            os._exit(0)
    os.waitpid(code, 0)
    recorder.record(record(40))
    run = read(tmp_path)
    assert (run.steps.tolist(), run.finished) == ([10, 20, 40], False)
    recorder.close()


# ---- one writer


def test_a_second_writer_is_refused_by_the_number_of_the_first(tmp_path: Path) -> None:
    code = """
recorder = recorded(Path(sys.argv[1]), range(10, 21, 10), close=False)
print("started", flush=True)
sys.stdin.read()
"""
    begin = "import sys; from pathlib import Path; from tests.monitor.made import *\n"
    with subprocess.Popen(
        [sys.executable, "-c", begin + code, str(tmp_path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
    ) as process:  # fmt: skip
        assert process.stdout is not None and process.stdout.readline() == "started\n"
        wanted = (
            rf"^Recorder: folder must not be in use, got '{re.escape(str(tmp_path))}', into which process {process.pid} on \S+ is "
            r"recording\. Pass another folder, or end that process\.$"
        )
        with pytest.raises(ValueError, match=wanted):
            recorded(tmp_path, range(10, 21, 10))
        process.kill()
    recorded(tmp_path, range(30, 41, 10))
    assert read(tmp_path).steps.tolist() == [10, 20, 30, 40]


def test_a_second_writer_of_the_same_process_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    first = recorded(tmp_path, range(10, 21, 10), close=False)
    with pytest.raises(ValueError, match=f"process {os.getpid()} on"):
        Recorder(tmp_path).start(facts())
    first.record(record(30))
    first.close()
    assert read(tmp_path).steps.tolist() == [10, 20, 30]


def test_processes_of_one_run_write_beside_each_other(tmp_path: Path) -> None:
    first = recorded(tmp_path, range(10, 21, 10), what=facts(processes=2), close=False)
    second = recorded(tmp_path, range(10, 21, 10), what=facts(process=1, processes=2), close=False)
    assert (first.path.name, second.path.name) == ("steepest-0.sqlite", "steepest-1.sqlite")
    first.close(), second.close()


# ---- the disk


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="limits are those of POSIX")
def test_a_disk_that_fills_up_is_one_error_and_what_was_written_stays(tmp_path: Path) -> None:
    code = """
import resource, signal
resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))
recorder = recorded(Path(sys.argv[1]), range(0), close=False)
try:
    for step in range(10, 10**9, 10):
        recorder.record(record(step, tensors=3, calls=1000, call=100 * step))
except OSError as error:
    print(step, error)
recorder.close()
"""
    out, error = started(code, tmp_path).communicate(timeout=60)
    assert error == ""
    step, said = out.split(" ", 1)
    assert int(step) > 100
    file = re.escape(repr(str(tmp_path / "steepest-0.sqlite")))
    kept = rf"What was recorded up to step {int(step) - 10} stays readable\."
    assert re.match(
        rf"^Recorder: {file}: (its disk is full|the system can't read or write it)\. .* \(.*\)\. {kept}\n$", said
    )
    run = read(tmp_path)
    assert run.steps.tolist() == list(range(10, int(step), 10))
    assert not run.finished


def test_a_full_disk_is_said_as_such_and_recording_goes_on_when_there_is_room(tmp_path: Path) -> None:
    recorder = recorded(tmp_path, range(10, 21, 10), close=False)
    connection = recorder._connection
    assert connection is not None
    connection.execute("PRAGMA max_page_count = 1")
    large = replace(record(30), losses=np.zeros(100_000))
    file = re.escape(repr(str(recorder.path)))
    with pytest.raises(
        OSError,
        match=rf"^Recorder: {file}: its disk is full\. Make room \(database or disk is full\)\. "
        r"What was recorded up to step 20 stays readable\.$",
    ):
        recorder.record(large)
    assert read(tmp_path).steps.tolist() == [10, 20]
    connection.execute("PRAGMA max_page_count = 1000000")
    recorder.record(record(40))
    recorder.close()
    assert read(tmp_path).steps.tolist() == [10, 20, 30, 40]
    assert read(tmp_path).finished


@pytest.fixture
def closed() -> Iterator[Path]:
    """A folder that this process may read and not write, root or not."""
    folder = Path(tempfile.mkdtemp(prefix="steepest-"))
    before = os.geteuid()
    yield folder
    os.seteuid(before)
    folder.chmod(0o755)
    shutil.rmtree(folder)


def close_to_us(folder: Path) -> None:
    for path in folder.iterdir():
        path.chmod(0o444)
    folder.chmod(0o555)
    if os.geteuid() == 0:
        os.seteuid(65534)


needs_permissions = pytest.mark.skipif(not hasattr(os, "seteuid"), reason="permissions are those of POSIX")


@needs_permissions
def test_a_folder_that_cannot_be_written_is_said_in_one_line(closed: Path) -> None:
    close_to_us(closed)
    with pytest.raises(
        OSError, match=rf"^Recorder: '{closed}/steepest-0\.sqlite': it can't be opened\. Ask for the permission"
    ):
        Recorder(closed).start(facts())
    with pytest.raises(
        PermissionError,
        match=rf"^Recorder: folder must be writable, got '{closed}/a': Permission denied\.$",
    ):
        Recorder(closed / "a").start(facts())


@needs_permissions
@pytest.mark.parametrize("end", ["finished", "killed", "journal"])
def test_a_run_is_read_where_nothing_can_be_written(closed: Path, end: str) -> None:
    if end == "finished":
        recorded(closed, range(10, 101, 10))
    else:
        code = """
import os, signal
import steepest.monitor.recorder as module
module._is_shared = lambda path: sys.argv[2] == "journal"
recorder = recorded(Path(sys.argv[1]), range(10, 101, 10), close=False)
if sys.argv[2] == "journal":
    recorder._connection.execute("PRAGMA cache_size = 1"), recorder._connection.execute("BEGIN IMMEDIATE")
    recorder._connection.execute("CREATE TABLE large AS SELECT zeroblob(10000000)")
os.kill(os.getpid(), signal.SIGKILL)
"""
        started(code, closed, end).communicate()
        (closed / "steepest-0.sqlite-shm").unlink(missing_ok=True)
    close_to_us(closed)
    assert read(closed).steps.tolist() == ([10] if end == "journal" else list(range(10, 101, 10)))


def test_a_file_in_place_of_the_folder_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(FileExistsError, match=r"^Recorder: folder must be writable, got '.*/run': File exists\.$"):
        Recorder(tmp_path / "run").start(facts())


@pytest.mark.parametrize(
    ("line", "shared"),
    [
        ("disk / ext4 rw 0 0", False),
        ("server:/a {} nfs4 rw 0 0", True),
        ("host {} fuse.sshfs rw 0 0", True),
        ("server:/a {}/other nfs4 rw 0 0", False),
        ("tmpfs {} tmpfs rw 0 0\nserver:/a {} nfs4 rw 0 0", True),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells what is mounted where")
def test_a_file_system_of_several_machines_gets_no_write_ahead_log(
    tmp_path: Path, line: str, shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = str(tmp_path).replace(" ", "\\040")
    (tmp_path / "mounts").write_text(line.replace("{}", place) + "\n")
    monkeypatch.setattr(module, "_MOUNTS", tmp_path / "mounts")
    recorder = recorded(tmp_path / "run", range(10, 21, 10), close=False)
    assert (tmp_path / "run" / "steepest-0.sqlite-wal").exists() is not shared
    recorder.close()
    assert read(tmp_path / "run").steps.tolist() == [10, 20]


# ---- its size


def test_thinning_keeps_the_first_and_the_newest_quarter_and_an_even_spacing() -> None:
    ids = np.arange(1, 1001)
    newest = 1000
    for _ in range(60):
        ids = ids[thinned(ids)]
        assert ids[0] == 1
        more = 1000 - len(ids)
        ids = np.concatenate([ids, np.arange(newest + 1, newest + more + 1)])
        newest += more
        assert (ids[-250:] == np.arange(newest - 249, newest + 1)).all()
        gaps = np.diff(ids)
        assert gaps.max() <= 2 * newest / 500  # nowhere sparser than an even spacing of a quarter of the records
        assert (np.diff(gaps[1:]) <= 0).mean() > 0.97  # the older, the sparser
    assert newest > 10_000


def test_the_file_stays_below_its_bound_and_keeps_the_shape_of_the_curves(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, max_bytes=1_000_000)
    recorder.start(facts(25))
    recorder.event(Event(1, 1, "note", "the first"))
    largest = 0
    for step in range(10, 60_001, 10):
        recorder.record(record(step, tensors=25))
        if step % 500 == 0:
            largest = max(largest, recorder.path.stat().st_size)
    assert largest <= 1_000_000
    recorder.close()
    assert size(tmp_path) <= 1_000_000
    run = read(tmp_path)
    assert run.steps[0] == 10 and run.steps[-1] == 60_000
    assert run.events == (Event(1, 1, "note", "the first"),)
    assert len(run) > 500
    assert np.diff(run.steps).max() <= 60_000 / 100
    assert run.steps[-100:].tolist() == list(range(59_010, 60_001, 10))
    np.testing.assert_array_equal(run.tensors["grad_norm"][:, 0], run.steps.astype(np.float32))
    np.testing.assert_allclose(run.losses, [curve(call) for call in run.loss_calls])
    everywhere = np.interp(np.arange(1, 60_001), run.loss_calls, run.losses)
    wanted = np.array([curve(call) for call in range(1, 60_001)])
    assert np.abs(everywhere - wanted).max() < 0.02  # of 2.1: nothing of the curve is lost


def test_losses_outlive_their_records_while_they_take_less_than_a_quarter(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, max_bytes=1_000_000)
    recorder.start(facts(100))
    for step in range(10, 20_001, 10):
        recorder.record(record(step, tensors=100))
    recorder.close()
    run = read(tmp_path)
    assert len(run) < 1000
    assert run.loss_calls.tolist() == list(range(1, 20_001))
    np.testing.assert_array_equal(run.losses, [curve(call) for call in range(1, 20_001)])


def test_replaced_records_go_first(tmp_path: Path) -> None:
    first = Recorder(tmp_path, max_bytes=1_000_000)
    first.start(facts(100))
    for step in range(10, 4001, 10):
        first.record(record(step, tensors=100))
    first.close()
    second = Recorder(tmp_path, max_bytes=1_000_000)
    second.start(facts(100))
    for step in range(10, 3001, 10):
        second.record(record(step, tensors=100))
    second.close()
    assert size(tmp_path) <= 1_000_000
    assert read(tmp_path).steps.tolist() == list(range(10, 3001, 10))
    assert len(read(tmp_path, session=1)) == 0


def test_a_flood_of_events_is_thinned_too(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, max_bytes=1_000_000)
    recorder.start(facts())
    for step in range(1, 10_001):
        recorder.event(Event(step, step, "nonfinite", "the gradient is not finite", ("layers.0.weight",)))
    recorder.record(record(10_000))
    recorder.close()
    assert size(tmp_path) < 500_000
    events = read(tmp_path).events
    assert events[0].step == 1 and events[-1].step == 10_000
    assert 500 < len(events) < 2000


def test_sixteen_records_are_left_however_large_they_are(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, max_bytes=1_000_000)
    recorder.start(facts(10_000))
    for step in range(10, 1001, 10):
        recorder.record(record(step, tensors=10_000))
    recorder.close()
    run = read(tmp_path)
    assert 16 <= len(run) <= 32
    assert run.steps[0] == 10 and run.steps[-1] == 1000


@pytest.mark.long
def test_a_million_steps_stay_below_50_mb_and_open_in_two_seconds(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    recorder.start(facts(25))
    values = record(10, tensors=25).tensors
    values |= dict.fromkeys(("cosine", "spike", "unmoved", "momentum_norm"), values["clipped"])
    losses, largest = np.linspace(1, 2, 10), 0
    for step in range(10, 1_000_001, 10):
        recorder.record(Record(step, step, step * 0.1, losses, {"lr": 0.1, "grad_norm": 1.0}, values))
        if step % 1000 == 0:
            largest = max(largest, size(tmp_path))
    assert largest < 50_000_000
    recorder.close()
    begin = time.perf_counter()
    run = read(tmp_path)
    assert time.perf_counter() - begin < 2
    assert len(run.losses) > 900_000
    assert np.diff(run.steps).max() <= 200
    assert size(tmp_path) <= 32_000_000


# ---- the file of others


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_text("# notes\n" * 100), r"it is another kind of file, or damaged\. Move it away"),
        (lambda path: sqlite3.connect(path).execute("CREATE TABLE a (b)").connection.close(),
         r"is an SQLite file of another program\. Move it away\.$"),
    ],
    ids=["text", "another program's"],
)  # fmt: skip
def test_a_file_of_something_else_is_left_alone(tmp_path: Path, make, message: str) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "steepest-0.sqlite"
    make(path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=message):
        Recorder(tmp_path).start(facts())
    assert path.read_bytes() == before
    with pytest.raises(ValueError, match=message):
        read(tmp_path)


def test_a_newer_format_is_refused_with_the_version_that_wrote_it(tmp_path: Path) -> None:
    path = recorded(tmp_path, range(10, 21, 10)).path
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 9")
    connection.execute("UPDATE about SET value = 'steepest 7.0.0' WHERE name = 'writer'")
    connection.commit(), connection.close()
    wanted = (
        rf"'{re.escape(str(path))}' has format 9, but this version reads formats up to 1\. steepest 7\.0\.0 wrote it: "
        r"install that version or a newer one\.$"
    )
    with pytest.raises(ValueError, match="^read: " + wanted):
        read(tmp_path)
    with pytest.raises(ValueError, match="^Recorder: " + wanted):
        Recorder(tmp_path).start(facts())


def test_the_documented_lines_read_a_run_without_steepest(tmp_path: Path) -> None:
    recorded(tmp_path / "runs" / "a", range(10, 51, 10))
    recorded(tmp_path / "runs" / "a", range(40, 61, 10))
    text = (ROOT / "docs" / "run-format.md").read_text(encoding="utf-8")
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL) if "sqlite3" in block]
    assert "steepest." not in code.replace("steepest-0", "")
    assert len(code.strip().splitlines()) <= 14
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["40", "50", "60"]
    _, loss, rest = lines[-1].split(" ", 2)
    assert float(loss) == pytest.approx(curve(60))
    found = {name: float(value) for name, value in re.findall(r"'(\w+)': np\.float32\(([\d.]+)\)", rest)}
    assert found == {name: float(values.max()) for name, values in record(60).tensors.items()}


def test_the_facts_are_strict_json(tmp_path: Path) -> None:
    odd = {"lr": float("nan"), "limit": float("inf"), "of": np.float32(0.5), "shape": np.arange(2), "what": Path}
    path = recorded(tmp_path, range(0), what=facts(notes=odd)).path
    ((text,),) = sqlite3.connect(path).execute("SELECT facts FROM sessions").fetchall()

    def refused(name: str) -> None:
        raise AssertionError(name)

    notes = json.loads(text, parse_constant=refused)["notes"]
    assert notes == {"lr": None, "limit": "Infinity", "of": 0.5, "shape": [0, 1], "what": str(Path)}
