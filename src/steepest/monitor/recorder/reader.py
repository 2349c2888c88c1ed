"""A run read from its folder, once or again and again while it is written.

`read` gives the whole run; `Follow` keeps what it has read and asks the files only for what is new, for a live view. Nothing
here writes: a file without permission to write beside it is copied and the copy read.
"""

from __future__ import annotations

import math
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from steepest.checks import Range, check_value
from steepest.monitor.recorder.merging import averaged, columns, cut, joined
from steepest.monitor.recorder.run_file import Session, check_format, code_of, event_of, facts_of, files_of, plainly
from steepest.monitor.records import Event, Run

__all__ = ["Follow", "read"]


def read(folder: str | os.PathLike[str], *, session: int | None = None) -> Run:
    """The run in a folder, all its processes and sessions together, finished or not.

    Losses and scalars are means over the processes, tensors' values the first process's, filled from others. Where training
    was resumed, calls and seconds go on, and a note among the events says so.

    Parameters
    ----------
    folder : what the recorder was given.
    session : the run as it was at the end of this session, 1 for the first; the last unless told otherwise.

    Raises
    ------
    ValueError : the folder holds no run, or a file is damaged, no file of a run, or of a newer format.
    OSError : a file can't be read.
    """
    return Follow(folder, session=session).look()


class Follow:
    """A run that may be growing: each `look` reads what is new since the one before.

    Parameters are those of `read`. Where nothing is new, `look` returns the same `Run` as before, after a fraction of a
    millisecond for each process.
    """

    def __init__(self, folder: str | os.PathLike[str], *, session: int | None = None) -> None:
        self.folder, self.session = Path(folder), session
        self._files: dict[int, _File] = {}
        self._run: Run | None = None

    def look(self) -> Run:
        """The run as it is now."""
        paths = files_of(self.folder)
        if not paths:
            if not self.folder.is_dir():
                raise ValueError(
                    f"read: folder must be the folder of a run, got {str(self.folder)!r}, which doesn't exist."
                )
            raise ValueError(
                f"read: folder must be the folder of a run, got {str(self.folder)!r}. It has no file steepest-*.sqlite."
            )
        new = [paths.keys() != self._files.keys()]
        self._files = {process: self._files.get(process) or _File(path) for process, path in paths.items()}
        new += [one.refresh() for one in self._files.values()]
        if self._run is None or any(new):
            self._run = _run_of(list(self._files.values()), self.session, self.folder)
        return self._run


@dataclass(slots=True)
class _File:
    """What was read of one process's file."""

    path: Path
    sessions: list[Session] = field(default_factory=list)
    names: dict[int, dict[str, list[str]]] = field(default_factory=dict)
    rows: dict[int, list[tuple[Any, ...]]] = field(default_factory=dict)
    events: dict[int, list[Event]] = field(default_factory=dict)
    state: tuple[Any, ...] = ()
    marked: bool = True

    def refresh(self) -> bool:
        """Read what is new; whether there was anything."""
        with plainly("read", self.path), _reading(self.path) as connection:
            check_format("read", self.path, connection)
            connection.execute("BEGIN")  # all that follows is of one moment
            state = connection.execute(_STATE).fetchone()
            if state == self.state:
                return False
            if state[:2] != self.state[:2]:  # thinned, or another file: none of what was read need be there still
                self.rows, self.events, self.state = {}, {}, (*state[:2], 0, 0)
            self.marked = bool(connection.execute("SELECT 1 FROM about WHERE name = 'no_loss'").fetchall())
            sessions = connection.execute("SELECT session, facts, first_step, finished FROM sessions ORDER BY session")
            self.sessions = [Session(n, facts_of(text), first, bool(done)) for n, text, first, done in sessions]
            self.names = {one.number: {"measurements": [], "scalars": []} for one in self.sessions}
            for table in ("measurements", "scalars"):
                for session, name in connection.execute(_NAMES.format(table)):
                    self.names[session][table].append(name)
            for session, *row in connection.execute(_NEW_RECORDS, (self.state[2],)):
                self.rows.setdefault(session, []).append(tuple(row))
            for session, *row in connection.execute(_NEW_EVENTS, (self.state[3],)):
                self.events.setdefault(session, []).append(event_of(*row))
            self.state = state
        return True

    def runs(self) -> list[Run]:
        """A run for each session, with what later ones have replaced."""
        return [
            replace(
                columns(
                    one.facts,
                    self.names[one.number],
                    self.rows.get(one.number, ()),
                    self.events.get(one.number, ()),
                    self.marked,
                ),
                finished=one.finished,
            )
            for one in self.sessions
        ]


_STATE = """SELECT
    (SELECT value FROM about WHERE name = 'file'), (SELECT value FROM about WHERE name = 'thinned'),
    coalesce((SELECT max(id) FROM records), 0), coalesce((SELECT max(id) FROM events), 0),
    (SELECT count(*) FROM sessions), (SELECT sum(finished) FROM sessions)"""
_NAMES = "SELECT session, name FROM {} ORDER BY session, position"
_NEW_RECORDS = "SELECT session, step, call, seconds, losses, scalars, tensors FROM records WHERE id > ? ORDER BY id"
_NEW_EVENTS = 'SELECT session, step, call, kind, message, tensors, "values" FROM events WHERE id > ? ORDER BY id'


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    """The file, opened so that nothing is written to it.

    What a killed writer left half done has to be undone before it can be read, and a log wants an index beside it. Where
    neither may be written, that happens to a copy.
    """
    try:
        connection = _opened(path, "ro")
    except sqlite3.Error as error:
        if code_of(error) not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            raise
        with tempfile.TemporaryDirectory(prefix="steepest-") as folder:
            for one in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-journal")):
                if one.exists():
                    shutil.copyfile(one, Path(folder) / one.name)
            with closing(_opened(Path(folder) / path.name, "rw")) as connection:
                yield connection
        return
    with closing(connection):
        yield connection


def _opened(path: Path, mode: str) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode={mode}", timeout=5.0, isolation_level=None, uri=True)
    try:
        connection.execute("SELECT count(*) FROM sqlite_master")
    except BaseException:
        connection.close()
        raise
    return connection


def _run_of(files: list[_File], session: int | None, folder: Path) -> Run:
    """The first process's sessions, what the others saw of each, and all of them one behind the other."""
    begun = [one for one in files if one.sessions]
    if not begun:
        raise ValueError(
            f"read: folder must have a run that has started, got {str(folder)!r}, where a run is just starting. Try again."
        )
    base, *others = begun
    check_value("read", "session", session, Annotated[int, Range(1, len(base.sessions), whole=True)] | None)
    sessions = base.sessions[:session]
    groups = [{0: run} for run in base.runs()[:session]]
    for number, other in enumerate(others, 1):
        for run in other.runs():
            same = [one for one in groups if one[0].facts.processes == run.facts.processes]
            if same:  # the last one that started at about the same time
                min(same, key=lambda one: abs(one[0].facts.started - run.facts.started))[number] = run
    firsts = [math.inf if one.first_step is None else one.first_step for one in sessions]
    ends = [min(firsts[number + 1 :], default=math.inf) for number in range(len(sessions))]
    return joined(
        [averaged([cut(run, end) for run in group.values()]) for group, end in zip(groups, ends, strict=True)]
    )
