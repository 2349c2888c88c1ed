"""The queue of jobs: exactly once, by many processes, through kills and interrupts, on every storage."""

from __future__ import annotations

import fcntl
import math
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution

from steepest.workbench import journal, storage, store, workers
from steepest.workbench.adaptive import Search, sobol
from steepest.workbench.attempts import Finished
from steepest.workbench.processes import lives, started, this_process
from steepest.workbench.storage import open_storage
from steepest.workbench.store import Queue
from steepest.workbench.workers import Function, run, work
from tests.needed import skip_or_fail
from tests.workbench.jobs import average, bowl, deadly, held, mistaken, ran

ROOT = Path(__file__).resolve().parents[2]
FACTS = {"steps": 300, "seeds": [0, 1, 2], "versions": {"numpy": "2.4"}}
COMMAND = """
import sys
from tests.workbench.test_store import jobs, queue
from tests.workbench import jobs as functions
from steepest.workbench.workers import run
if __name__ == "__main__":
    url, log, function, count = sys.argv[1:]
    q = queue(url)
    q.put(jobs(log, int(count), seconds=0.05))
    for one in run(q, getattr(functions, function), jobs=2):
        print(one.number, flush=True)
"""


def jobs(log: Path | str, count: int, **more: Any) -> list[dict[str, Any]]:
    return [{"i": i, "log": str(log), **more} for i in range(count)]


def queue(url: str, name: str = "circles", search: Search | None = None) -> Queue:
    return Queue(open_storage(url), name, FACTS, search)


def outcome(finished: list[Finished]) -> str:
    """What came out, bit for bit."""
    return repr([(one.params["i"], one.cost, one.result, one.stopped, one.error) for one in finished])


def uninterrupted(folder: Path, count: int, function: Function = average) -> str:
    q = queue(f"journal:{folder}/reference.log")
    q.put(jobs(folder / "reference", count))
    assert len(list(run(q, function, jobs=1))) == count
    return outcome(q.finished())


def eventually(true: Callable[[], object], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def command(url: str, log: Path, function: str, count: int) -> subprocess.Popen[str]:
    script = log.with_suffix(".py")
    script.write_text(COMMAND)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, str(script), url, str(log), function, str(count)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment, start_new_session=True,
    )  # fmt: skip


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """A PostgreSQL server on loopback, of the user postgres where this is root, whom it refuses."""
    found = [*sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True), shutil.which("initdb")]
    if not found[0]:
        skip_or_fail("PostgreSQL's initdb", "apt-get install postgresql")
    programs = Path(found[0]).resolve().parent
    user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="steepest-postgres-"))
    try:
        if user:
            shutil.chown(folder, "postgres")

        def call(*words: str) -> None:
            subprocess.run([*user, *words], check=True, cwd=folder, stdout=subprocess.DEVNULL, timeout=60)

        data = str(folder / "data")
        call(str(programs / "initdb"), "-D", data, "-U", "steepest", "-A", "trust", "-N", "--no-locale", "-E", "UTF8")
        options = f"-p {port} -h 127.0.0.1 -k {folder} -c fsync=off"
        call(str(programs / "pg_ctl"), "-D", data, "-w", "-l", str(folder / "log"), "-o", options, "start")
        try:
            yield f"postgresql://steepest:secret@127.0.0.1:{port}/postgres"
        finally:
            call(str(programs / "pg_ctl"), "-D", data, "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["journal", "sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        return str(request.getfixturevalue("server"))
    return f"journal:{tmp_path}/study.log" if request.param == "journal" else f"sqlite:///{tmp_path}/study.db"


def test_four_processes_do_each_job_once_and_what_comes_out_is_what_one_process_gives(url: str, tmp_path: Path) -> None:
    q = queue(url, name=str(tmp_path))
    q.put(jobs(tmp_path / "log", 24, processes=4))
    new = list(run(q, average, jobs=4))
    assert sorted(ran(str(tmp_path / "log"))) == list(range(24))
    assert sorted(one.number for one in new) == list(range(24))
    assert outcome(q.finished()) == uninterrupted(tmp_path, 24)
    assert [one.cost for one in q.finished()][3] == math.inf


def test_the_same_command_again_does_nothing(url: str, tmp_path: Path) -> None:
    for new in (6, 0, 0):
        q = queue(url, name=str(tmp_path))
        q.put(jobs(tmp_path / "log", 6))
        assert len(list(run(q, average, jobs=1))) == new
    assert ran(str(tmp_path / "log")) == list(range(6))


def test_a_killed_worker_loses_its_running_job_and_nothing_else(url: str, tmp_path: Path) -> None:
    q = queue(url, name=str(tmp_path))
    q.put(jobs(tmp_path / "log", 12))
    marker = tmp_path / "log.held"

    def kill() -> None:
        eventually(lambda: marker.exists() and marker.read_text())
        os.kill(int(marker.read_text()), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    assert len(list(run(q, held, jobs=2))) == 12
    killer.join()
    assert sorted(ran(str(tmp_path / "log"))) == sorted([*range(12), 5])
    assert outcome(q.finished()) == uninterrupted(tmp_path, 12)


def test_a_run_killed_with_all_its_processes_goes_on_where_it_was(tmp_path: Path) -> None:
    url, log = f"journal:{tmp_path}/study.log", tmp_path / "log"
    first = command(url, log, "held", 12)
    eventually(lambda: len(ran(str(log))) >= 9)  # job 5 holds one process, the other goes on
    done = {one.params["i"] for one in queue(url).finished()}
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    second = command(url, log, "held", 12)
    assert second.communicate(timeout=60)[1] == ""
    begun = ran(str(log))
    assert all(begun.count(i) == 1 for i in done)
    assert all(begun.count(i) <= 2 for i in range(12)) and len(begun) <= 14
    q = queue(url)
    assert outcome(q.finished()) == uninterrupted(tmp_path, 12)


def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    parent = command(f"journal:{tmp_path}/study.log", tmp_path / "log", "held", 6)
    marker = tmp_path / "log.held"
    eventually(lambda: marker.exists() and marker.read_text())
    os.kill(parent.pid, signal.SIGKILL)
    eventually(lambda: started(int(marker.read_text())) is None, seconds=10)
    parent.communicate()


def test_interrupted_and_resumed_is_bit_for_bit_uninterrupted(tmp_path: Path) -> None:
    url, log = f"journal:{tmp_path}/study.log", tmp_path / "log"
    process = command(url, log, "held", 12)
    eventually(lambda: len(ran(str(log))) >= 9)
    os.killpg(process.pid, signal.SIGINT)
    before = time.monotonic()
    _, error = process.communicate(timeout=20)
    assert time.monotonic() - before < 5
    assert error.splitlines()[-1] == "KeyboardInterrupt"
    q = queue(url)
    assert q.running() == 0
    assert {trial.user_attrs.get("reason") for trial in q.study.trials} <= {None, "back"}
    list(run(q, average, jobs=1))
    assert outcome(q.finished()) == uninterrupted(tmp_path, 12)


def test_an_interrupt_in_this_process_gives_the_job_back(tmp_path: Path) -> None:
    q = queue(f"journal:{tmp_path}/study.log")
    q.put(jobs(tmp_path / "log", 3))

    def interrupted(params: dict[str, Any], report: Any) -> tuple[float, Any]:
        if params["i"] == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return average(params, report)

    with pytest.raises(KeyboardInterrupt):
        list(run(q, interrupted, jobs=1))
    assert (q.running(), q.remaining()) == (0, 2)
    assert [one.params["i"] for one in run(q, average, jobs=1)] == [1, 2]


def test_a_job_that_kills_its_process_three_times_has_failed_and_the_others_are_done(tmp_path: Path) -> None:
    q = queue(f"journal:{tmp_path}/study.log")
    q.put(jobs(tmp_path / "log", 6))
    assert len(list(run(q, deadly, jobs=2))) == 6
    assert sorted(ran(str(tmp_path / "log"))) == [0, 1, 2, 2, 2, 3, 4, 5]
    failed = q.finished()[2]
    assert (failed.cost, failed.result) == (math.inf, None)
    assert failed.error == "its process died 3 times, the last time by signal SIGKILL"
    assert list(run(q, deadly, jobs=2)) == []


@pytest.mark.parametrize("processes", [1, 2])
def test_a_users_mistake_is_raised_here_and_tried_again_by_the_next_command(tmp_path: Path, processes: int) -> None:
    log = tmp_path / "log"
    q = queue(f"journal:{tmp_path}/study.log")
    q.put(jobs(log, 6))
    with pytest.raises(ValueError) as raised:
        list(run(q, mistaken, jobs=processes))
    assert str(raised.value) == "circles: radius must be > 0, got -1."
    assert raised.value.__notes__[0] == f"study circles, job { ({'i': 2, 'log': str(log)}) }"
    assert q.running() == 0
    Path(f"{log}.mended").touch()
    q.put(jobs(log, 6))
    list(run(q, mistaken, jobs=processes))
    assert outcome(q.finished()) == uninterrupted(tmp_path, 6)


def test_what_is_no_number_and_what_is_no_json(url: str, tmp_path: Path) -> None:
    q = queue(url, name=str(tmp_path))
    q.put([{"cost": cost} for cost in (math.nan, math.inf, -math.inf, 1e-300, 0.1)])
    list(run(q, lambda params, report: (params["cost"], {"text": "é\n'", "empty": []}), jobs=1))
    assert [one.cost for one in q.finished()] == [math.inf, math.inf, -math.inf, 1e-300, 0.1]
    assert q.finished()[0].result == {"text": "é\n'", "empty": []}
    with pytest.raises(TypeError, match=r"the job .* must be JSON data\. Object of type set"):
        q.put([{"set": {1}}])
    q.put([{"i": 1}])
    with pytest.raises(TypeError, match=r"the result must be JSON data\. Object of type set"):
        list(run(q, lambda params, report: (0.0, {1}), jobs=1))


def test_jobs_that_two_commands_put_at_the_same_time_are_done_once(tmp_path: Path) -> None:
    one, other = (queue(f"journal:{tmp_path}/study.log") for _ in range(2))
    stale = other._jobs()
    one.put(jobs(tmp_path / "log", 4))
    other._jobs = lambda *_: dict(stale)  # type: ignore[method-assign]  # it looked before the first one wrote
    other.put(jobs(tmp_path / "log", 4))
    assert len(one.study.trials) == 8
    assert len(list(run(one, average, jobs=1))) == 4
    assert ran(str(tmp_path / "log")) == list(range(4))


def test_a_job_of_another_machine_is_taken_over_when_that_is_silent(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(store, "LOST", 0.5)
    there, here = (queue(f"journal:{tmp_path}/study.log") for _ in range(2))
    there.put(jobs(tmp_path / "log", 1))
    job = there.claim({**this_process(), "machine": "another"})
    assert job is not None
    for _ in range(4):
        there.beat(job)
        assert here.claim(this_process()) is None
        time.sleep(0.3)
    time.sleep(0.6)
    taken = here.claim(this_process())
    assert taken is not None and taken.params == job.params
    there.complete(job, 1.0, "too late")
    here.complete(taken, 2.0, "in time")
    assert [(one.cost, one.result) for one in there.finished()] == [(2.0, "in time")]


def test_a_long_job_gives_signs_of_life(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(workers, "BEAT", 0.1)
    q = queue(f"journal:{tmp_path}/study.log")
    q.put(jobs(tmp_path / "log", 1, seconds=1.5))
    list(run(q, average, jobs=1))
    assert time.time() - q.study.trials[0].user_attrs["heartbeat"] < 10


def test_several_queues_of_one_storage_are_worked_on_by_the_same_processes(tmp_path: Path) -> None:
    opened = open_storage(f"journal:{tmp_path}/study.log")
    queues = [Queue(opened, name, FACTS) for name in ("a", "b", "c")]
    for number, q in enumerate(queues):
        q.put(jobs(tmp_path / f"log{number}", 5))
    assert sorted((one.study, one.params["i"]) for one in run(queues, average, jobs=2)) == [
        (name, i) for name in "abc" for i in range(5)
    ]


SPACE = {"lr": FloatDistribution(1e-5, 10.0, log=True), "momentum": CategoricalDistribution([False, True])}


def searched(folder: Path, name: str, prune: Any = "never", trials: int = 30) -> Queue:
    search = Search(SPACE, trials, seed=3, fixed={"log": str(folder / name)}, prune=prune, warmup=2)
    return queue(f"journal:{folder}/{name}.log", search=search)


def test_a_search_finds_the_bowl_and_one_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole = searched(tmp_path, "whole")
    assert len(list(run(whole, bowl, jobs=1))) == 30
    best = min(whole.finished(), key=lambda one: one.cost)
    assert best.params["momentum"] and 0.003 < best.params["lr"] < 0.03
    assert best.cost < min(one.cost for one in whole.finished()[:10])
    for count in (4, 13):
        stopped = searched(tmp_path, "stopped")
        stopped.spread()
        list(work([stopped], bowl, stop=lambda count=count, q=stopped: len(q.finished()) >= count))
        assert len(stopped.finished()) == count
        job = stopped.claim({**this_process(), "pid": 2**22, "started": 1})  # of a process that is gone
        assert job is not None
    list(run(searched(tmp_path, "stopped"), bowl, jobs=1))
    points = [[(one.params, one.cost) for one in q.finished()] for q in (whole, stopped)]
    assert points[0] == points[1]


def test_processes_that_share_a_search_try_as_many_points_as_it_has(tmp_path: Path) -> None:
    q = searched(tmp_path, "shared", prune="median")
    assert len(list(run(q, bowl, jobs=3))) == 30
    assert len({repr(one.params) for one in q.finished()}) == 30
    stopped = [one for one in q.finished() if one.stopped]
    assert stopped and all(2 <= one.result["steps"] < 10 for one in stopped)
    assert not min(q.finished(), key=lambda one: one.cost).stopped


def test_wilcoxons_test_stops_what_is_worse_on_most_seeds(tmp_path: Path) -> None:
    q = searched(tmp_path, "wilcoxon", prune="wilcoxon")
    list(run(q, bowl, jobs=1))
    assert any(one.stopped for one in q.finished())


def test_the_points_of_a_search_are_spread_and_the_same_for_everybody() -> None:
    points = sobol(SPACE, 16, seed=7)
    assert points == sobol(SPACE, 16, seed=7) != sobol(SPACE, 16, seed=8)
    assert sorted(math.floor(16 * (math.log10(point["lr"]) + 5) / 6) for point in points) == list(range(16))
    assert sum(point["momentum"] for point in points) == 8


def test_other_facts_are_refused_by_name(url: str, tmp_path: Path) -> None:
    opened = open_storage(url)
    Queue(opened, str(tmp_path), FACTS)
    changed = {**FACTS, "steps": 400, "versions": {"numpy": "2.5"}, "code": "ab12"}
    with pytest.raises(ValueError) as raised:
        Queue(opened, str(tmp_path), changed)
    assert str(raised.value) == (
        f'study {tmp_path}: code is "ab12", stored is absent; steps is 400, stored is 300; versions.numpy is "2.5", stored is '
        '"2.4". Run the same command as before, or start a new study.'
    )


def test_another_format_and_another_programs_study_are_refused(tmp_path: Path) -> None:
    q = queue(f"journal:{tmp_path}/study.log")
    q.study.set_user_attr("steepest", {"format": 0})
    with pytest.raises(ValueError) as raised:
        queue(f"journal:{tmp_path}/study.log")
    assert str(raised.value) == "study circles: the format must be 1, got 0. Start a new study with this version."
    import optuna

    theirs = optuna.create_study(study_name="theirs", storage=q.storage.backend)
    theirs.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    with pytest.raises(ValueError, match=r"^study theirs: another program made the study of that name\. Use another"):
        queue(f"journal:{tmp_path}/study.log", name="theirs")


def test_the_last_line_of_a_writer_that_was_killed_is_cut_off_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "study.log"
    q = queue(f"journal:{path}")
    q.put(jobs(tmp_path / "log", 3))
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"op_code":6,"worker_id":"x","trial')
    again = queue(f"journal:{path}")
    assert path.read_bytes() == whole
    assert len(list(run(again, average, jobs=1))) == 3


@pytest.mark.parametrize(("unsynced", "waits"), [(3600.0, 1), (-1.0, 5)])
def test_jobs_wait_for_the_disk_only_when_what_is_done_has_long_been_in_memory_alone(
    tmp_path: Path, monkeypatch: Any, unsynced: float, waits: int
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    monkeypatch.setattr(journal, "UNSYNCED", unsynced)
    q = queue(f"journal:{tmp_path}/study.log")
    q.put(jobs(tmp_path / "log", 5))
    list(run(q, average, jobs=1))
    assert len(synced) == waits


def full(*_: object) -> int:
    raise OSError(28, "No space left on device")


def one_line(url: str, pattern: str) -> None:
    with pytest.raises(ValueError, match=pattern) as raised:
        queue(url)
    assert "\n" not in str(raised.value) and "secret" not in str(raised.value)


def test_what_cannot_be_opened_is_said_in_one_line(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(storage, "PATIENCE", 1.0)
    good = tmp_path / "good.log"
    queue(f"journal:{good}").put(jobs("log", 3))
    for name, text in {
        "middle.log": good.read_bytes().replace(b'"study_id"', b'"study_', 1),
        "last.log": good.read_bytes() + b'{"op_code":\n',
        "unknown.log": good.read_bytes() + b'{"op_code":99,"worker_id":"x"}\n',
    }.items():
        (tmp_path / name).write_bytes(text)
        one_line(f"journal:{tmp_path}/{name}", rf"^storage journal:.*/{name}: it is damaged\. Restore it from a copy")
        assert (tmp_path / name).read_bytes() == text
    for name in ("notes.txt", "notes.db"):
        (tmp_path / name).write_text("dear diary, " * 100)
        scheme = "journal:" if name == "notes.txt" else "sqlite:///"
        one_line(f"{scheme}{tmp_path}/{name}", r"^storage .*: it is another kind of file\. Name a new one")
        assert (tmp_path / name).read_text() == "dear diary, " * 100
    one_line(f"journal:{tmp_path}/notes.txt/study.log", r"it can't be written\. Ask for the permission")
    one_line(f"sqlite:///{tmp_path}/none/study.db", r"it can't be written\. Ask for the permission")
    for unknown in ("study.log", "mysql://me:secret@host/study", "sqlite://", "journal:"):
        one_line(
            unknown, r"^storage: url must be journal:PATH, sqlite:///PATH or postgresql://USER@HOST/NAME, got '.*'\.$"
        )
    one_line(
        "postgresql://me:secret@127.0.0.1:9/study", r"^storage postgresql://me@127.*: the server can't be reached\."
    )
    with open(good, "rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        one_line(
            f"journal:{good}", r"another program has locked it\. Wait until it has finished, or end it \(locked for 1"
        )
    monkeypatch.setattr(os, "write", full)
    one_line(
        f"journal:{tmp_path}/full.log",
        r"its disk is full, or refuses to hold more\. Make room and give the same command again",
    )


def test_databases_that_are_locked_or_of_another_optuna_are_said_in_one_line(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(storage, "PATIENCE", 1.0)
    url = f"sqlite:///{tmp_path}/study.db"
    queue(url)
    other = sqlite3.connect(tmp_path / "study.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    one_line(url, r"another program has locked it\.")
    other.execute("ROLLBACK")
    other.execute("UPDATE alembic_version SET version_num = 'v99.0.0.a'")
    other.close()
    one_line(url, r"another version of Optuna made it\. Install that one, or begin a new study")


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="no users here")
def test_a_folder_without_permission_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir(mode=0o500)
    queue(f"journal:{tmp_path}/imports-are-done.log")
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        one_line(f"journal:{tmp_path}/mine/study.log", r"it can't be written\. Ask for the permission")
    finally:
        if root:
            os.seteuid(0)


def test_a_server_that_stops_is_said_in_one_line_and_a_name_is_needed(server: str, monkeypatch: Any) -> None:
    one_line(server.replace("/postgres", "/nowhere"), r'database "nowhere" does not exist')
    one_line(server.replace("127.0.0.1", "nowhere.invalid"), r"the server can't be reached")


def test_the_queue_is_imported_without_optuna() -> None:
    code = (
        "import sys, steepest.workbench.workers; print(sorted(sys.modules.keys() & {'optuna', 'sqlalchemy', 'torch'}))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert said.stdout.strip() == "[]"


def test_a_study_file_is_worked_on_without_sqlalchemy(tmp_path: Path) -> None:
    code = f"""
import sys
from steepest.workbench.storage import open_storage
from steepest.workbench.store import Queue
from steepest.workbench.workers import run
queue = Queue(open_storage("journal:{tmp_path}/study.log"), "circles", {{}})
queue.put([{{"i": 1}}])
print([one.cost for one in run(queue, lambda params, report: (0.5, None), jobs=1)], "sqlalchemy" in sys.modules)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert said.stdout.strip() == "[0.5] False"


def test_a_process_is_told_from_another_of_the_same_number() -> None:
    me = this_process()
    assert lives(me["pid"], me["started"])
    assert not lives(me["pid"], me["started"] - 1)
    child = subprocess.Popen([sys.executable, "-c", ""])
    since = started(child.pid)
    eventually(lambda: started(child.pid) is None)  # before it has been waited for
    assert since is not None and not lives(child.pid, since)
    child.wait()
