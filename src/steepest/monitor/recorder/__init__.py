"""The flight recorder: a run's file, written while training goes on, whole after whatever ends it, and of bounded size.

`Recorder` is an output like others. Each record is a transaction in SQLite's write-ahead log: others read meanwhile, and
a process that is killed has lost nothing that `record` returned from. A file system that several machines share (or one
that has no such log) gets a rollback journal, and records that come within a second of the transaction before wait for the
next one. Events never wait. What is in the file: `run_file`; who reads it: `reader`, `merging`; how it stays small: `thinning`.
"""

from __future__ import annotations

import math
import os
import platform
import sqlite3
import sys
import time
import uuid
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from steepest.checks import Range, check_number
from steepest.monitor.files import Identity, check_path, identity_of
from steepest.monitor.plain import to_json
from steepest.monitor.recorder.run_file import NO_LOSS, SCHEMA, begin_of, check_format, code_of, file_of, plainly
from steepest.monitor.recorder.thinning import LEAST, thin_events, thin_records
from steepest.monitor.records import Event, Facts, Record

__all__ = ["Recorder"]

_LEAST_BYTES = 1_000_000
_PATIENCE = 0.2
"""Seconds to wait for another program that has locked the file; what could not be written then is tried again."""
_WAITING = 1000
"""So many records wait for such a lock; then it is an error."""
_MACHINES_SHARE = (
    "9p", "afs", "beegfs", "ceph", "cifs", "drvfs", "gfs2", "glusterfs", "gpfs", "lustre", "nfs", "nfs4", "ocfs2", "smb2",
    "smb3", "smbfs", "vboxsf", "virtiofs", "vmhgfs",
)  # fmt: skip
"""File systems that another machine may have mounted too: a write-ahead log needs memory that its readers share."""
_MOUNTS = Path("/proc/self/mounts")


class Recorder:
    """Keep a run in ``folder``, one file for each of its processes.

    A folder that holds a run already is continued: training that resumes at some step replaces what was recorded from that
    step on, training that starts again is what one sees from then on. What was replaced stays in the file until its room is
    needed; ``read(folder, session=1)`` shows it.

    Parameters
    ----------
    folder : where the file ``steepest-<process>.sqlite`` is; made where missing.
    max_bytes : size of the file, at least 1 MB; 32 MB unless told otherwise. Older records are thinned for it, never
        below 16 records. Beside it the log ``-wal`` takes a few MB while training goes on.

    Raises
    ------
    ValueError : by `start`: another process is recording into the file; it is damaged, no file of a run, or of a newer format.
    OSError : by `start` where the folder can't be written; by the others when the disk is full, and the file stays readable, or
        when somebody has deleted the file.

    Examples
    --------
    >>> import tempfile
    >>> from steepest.monitor.records import Facts, TensorFacts
    >>> recorder = Recorder(tempfile.mkdtemp())
    >>> recorder.start(Facts(0.0, "numpy", "Adam", ("adam(0.1)",), ({},), (TensorFacts("weight", (2,), "float32"),), {}, 10))
    >>> recorder.close()
    >>> recorder.path.name
    'steepest-0.sqlite'
    """

    def __init__(self, folder: str | os.PathLike[str], *, max_bytes: int = 32_000_000) -> None:
        check_number("Recorder", "max_bytes", max_bytes, Range(_LEAST_BYTES, whole=True, structure=True))
        self.folder = Path(folder)
        self.path = file_of(self.folder, 0)
        self.max_bytes = int(max_bytes)
        self._connection: sqlite3.Connection | None = None
        self._lock: sqlite3.Connection | None = None
        self._identity: Identity | None = None

    def start(self, facts: Facts) -> None:
        """Open the file, lock it against other writers, and begin a session."""
        self.path = file_of(self.folder, facts.process)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise type(error)(
                f"Recorder: folder must be writable, got {str(self.folder)!r}: {error.strerror}."
            ) from None
        try:
            with plainly("Recorder", self.path):
                self._lock = self._locked()
                self._connection = _opened(self.path)
                self._identity = None if _is_shared(self.path) else identity_of(self.path)
                self._begin(self._connection, facts)
        except BaseException:
            self._release()
            raise

    def _begin(self, connection: sqlite3.Connection, facts: Facts) -> None:
        self._width, self._every = len(facts.tensors), facts.every
        self._process, self._failed, self._first = os.getpid(), False, True
        self._records: list[tuple[Any, ...]] = []
        self._events: list[tuple[Any, ...]] = []
        self._names: dict[str, dict[str, int]] = {"measurements": {}, "scalars": {}}
        self._new_names: list[tuple[str, int, str]] = []
        self._until, self._written, self._unchecked = 0, -math.inf, 0
        ((journal,),) = connection.execute("PRAGMA journal_mode")
        self._pause = 0.0 if journal == "wal" else 1.0
        ((self._page_size,),) = connection.execute("PRAGMA page_size")
        connection.execute("BEGIN IMMEDIATE")
        self._session = connection.execute(
            "INSERT INTO sessions (facts, writer, finished) VALUES (?, ?, 0)",
            (to_json(asdict(facts)), f"process {os.getpid()} on {platform.node()}"),
        ).lastrowid
        connection.execute("COMMIT")
        ((self._events_held,),) = connection.execute(f"SELECT coalesce(sum({_EVENT_SIZE}), 0) FROM events")

    def record(self, record: Record) -> None:
        """Keep a record; it is in the file when this returns, or without a write-ahead log when the next event or `close`
        does, or the next record at least a second after the last transaction."""
        losses = _losses_of(record)
        scalars = self._blob("scalars", record.scalars, "<f8", 1)
        tensors = self._blob("measurements", record.tensors, "<f4", self._width)
        self._records.append((self._session, record.step, record.call, record.seconds, losses, scalars, tensors))
        self._write()

    def event(self, event: Event) -> None:
        """Keep an event, and the records that wait; all are in the file when this returns."""
        tensors, values = to_json(event.tensors), to_json(event.values)
        self._events.append((self._session, event.step, event.call, event.kind, event.message, tensors, values))
        self._write(at_once=True)

    def close(self) -> None:
        """Write what waits, say that the run is finished, and leave one file without a log."""
        connection = self._connection
        if connection is None or os.getpid() != self._process:
            return
        try:
            if not self._failed:
                check_path("Recorder", self.path, self._identity)
                with plainly("Recorder", self.path):
                    connection.execute("PRAGMA busy_timeout = 5000")
                    self._write(at_once=True)
                    connection.execute("UPDATE sessions SET finished = 1 WHERE session = ?", (self._session,))
                with suppress(sqlite3.Error):  # while somebody reads; then the log stays, and the file is as good
                    connection.execute("PRAGMA journal_mode = DELETE")
        finally:
            self._release()

    def _blob(self, table: str, values: dict[str, Any], kind: str, width: int) -> bytes:
        """The values in the order of the table of names, to which new names are added."""
        names = self._names[table]
        for name in values:
            if name not in names:
                self._new_names.append((table, len(names), name))
                names[name] = len(names)
        missing = np.full(width, np.nan)
        blob = b"".join([np.asarray(values.get(name, missing), dtype=kind).tobytes() for name in names])
        if len(blob) != len(names) * width * int(kind[-1]):
            wrong = next(name for name, value in values.items() if np.size(value) != width)
            raise ValueError(f"Recorder: {wrong!r} must have {width} values, got {np.size(values[wrong])}.")
        return blob

    def _write(self, *, at_once: bool = False) -> None:
        connection, now = self._connection, time.monotonic()
        if connection is None or os.getpid() != self._process or (now - self._written < self._pause and not at_once):
            return
        try:
            check_path("Recorder", self.path, self._identity)
            self._transaction(connection)
        except OSError:
            self._failed = True
            raise
        except sqlite3.Error as error:
            if code_of(error) == sqlite3.SQLITE_BUSY and len(self._records) + len(self._events) < _WAITING:
                return
            self._failed = True
            with plainly("Recorder", self.path, f" What was recorded up to step {self._until} stays readable."):
                raise
        self._until = self._records[-1][1] if self._records else self._until
        self._first = self._first and not self._records
        self._records, self._events, self._new_names = [], [], []
        self._written, self._failed = now, False

    def _transaction(self, connection: sqlite3.Connection) -> None:
        self._unchecked += 1
        alone = len(self._records) == 1 and not (self._events or self._new_names or self._first)
        if alone and self._unchecked < _CHECKED:  # the usual case: one statement is a transaction of its own
            connection.execute(_INSERT_RECORD, self._records[0])
            return
        self._unchecked = 0
        connection.execute("BEGIN IMMEDIATE")
        try:
            self._insert(connection)
            self._thin(connection)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:  # a full disk has ended it already
                connection.execute("ROLLBACK")
            raise

    def _insert(self, connection: sqlite3.Connection) -> None:
        for table, position, name in self._new_names:
            connection.execute(f"INSERT INTO {table} VALUES (?, ?, ?)", (self._session, position, name))
        if self._first and self._records:
            first = begin_of(self._records[0][1], self._every)
            connection.execute("UPDATE sessions SET first_step = ? WHERE session = ?", (first, self._session))
        connection.executemany(_INSERT_RECORD, self._records)
        if self._events:
            connection.executemany(_INSERT_EVENT, self._events)
            self._events_held += sum(len(one[4]) + len(one[5]) + len(one[6]) + 32 for one in self._events)

    def _thin(self, connection: sqlite3.Connection) -> None:
        """Thin what has grown too large: events beyond an eighth of the file, records when it is full."""
        if self._events_held > self.max_bytes // 8:
            thin_events(connection)
            ((self._events_held,),) = connection.execute(f"SELECT coalesce(sum({_EVENT_SIZE}), 0) FROM events")
            connection.execute(_COUNT_THINNING)
        if self._is_full(connection):
            ((count,),) = connection.execute("SELECT count(*) FROM records")
            if count >= 2 * LEAST:
                thin_records(connection, self.max_bytes // 4)
                connection.execute(_COUNT_THINNING)

    def _is_full(self, connection: sqlite3.Connection) -> bool:
        most = (self.max_bytes - self.max_bytes // 64) // self._page_size - 8  # thinning wants a little room itself
        ((pages,),) = connection.execute("PRAGMA page_count")
        if pages <= most:
            return False
        ((free,),) = connection.execute("PRAGMA freelist_count")
        return bool(pages - free > most)

    def _locked(self) -> sqlite3.Connection:
        """A lock that ends with this process, however it ends: SQLite's own, on an empty file beside the run's."""
        lock = sqlite3.connect(self.path.with_suffix(".lock"), timeout=0, isolation_level=None, check_same_thread=False)
        try:
            lock.execute("PRAGMA journal_mode = OFF")  # no second file beside it: nothing is ever written
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.Error as error:
            lock.close()
            if code_of(error) != sqlite3.SQLITE_BUSY:
                raise
            raise ValueError(
                f"Recorder: folder must not be in use, got {str(self.folder)!r}, into which {_writer(self.path)} is recording. "
                "Pass another folder, or end that process."
            ) from None
        return lock

    def _release(self) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
        if self._lock is not None:
            with suppress(OSError):  # some systems delete no open file
                self.path.with_suffix(".lock").unlink()
            self._lock.close()
        self._connection = self._lock = None


_CHECKED = 8
"""Every so many records the size of the file is looked at."""
_INSERT_RECORD = (
    "INSERT INTO records (session, step, call, seconds, losses, scalars, tensors) VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_INSERT_EVENT = (
    'INSERT INTO events (session, step, call, kind, message, tensors, "values") VALUES (?, ?, ?, ?, ?, ?, ?)'
)
_COUNT_THINNING = "UPDATE about SET value = value + 1 WHERE name = 'thinned'"
_EVENT_SIZE = 'length(message) + length(tensors) + length("values") + 32'


def _losses_of(record: Record) -> bytes:
    losses = np.array(record.losses, dtype="<f8")
    if record.given is not None:
        losses.view("<u8")[~record.given] = NO_LOSS
    return losses.tobytes()


def _opened(path: Path) -> sqlite3.Connection:
    """The file, new or of earlier sessions, with a log that its file system bears."""
    connection = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)
    try:
        ((tables,),) = connection.execute("SELECT count(*) FROM sqlite_master")
        if tables:
            check_format("Recorder", path, connection)
        connection.execute("PRAGMA page_size = 8192")  # in 4096 bytes only one record of 2 kB finds room
        wanted = "DELETE" if _is_shared(path) else "WAL"
        try:
            ((journal,),) = connection.execute(f"PRAGMA journal_mode = {wanted}")
        except sqlite3.OperationalError:
            journal = "refused"
        if journal != wanted.lower():
            connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(
            "PRAGMA wal_autocheckpoint = 500"
        )  # pages: the log grows to 4 MB, more while records are thinned
        connection.execute("PRAGMA journal_size_limit = 4000000")
        if not tables:
            about = {
                "writer": f"steepest {_version()}",
                "file": uuid.uuid4().hex,
                "thinned": "0",
                "described": _DESCRIBED,
                "no_loss": f"{NO_LOSS:x}",
            }
            rows = "".join(f"INSERT INTO about VALUES ('{name}', '{value}');" for name, value in about.items())
            connection.executescript(f"BEGIN IMMEDIATE; {SCHEMA} {rows} COMMIT;")
    except BaseException:
        connection.close()
        raise
    return connection


_DESCRIBED = "docs/run-format.md of steepest; in short, the comments in the CREATE statements of this file"


def _version() -> str:
    from steepest import __version__

    return __version__


def _writer(path: Path) -> str:
    """Who holds the lock, as far as its file says."""
    with suppress(sqlite3.Error):
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=_PATIENCE)
        try:
            (writer,) = connection.execute("SELECT writer FROM sessions ORDER BY session DESC LIMIT 1").fetchone()
            return str(writer)
        finally:
            connection.close()
    return "another process"


def _is_shared(path: Path) -> bool:
    """Whether the file lies on a file system that other machines may have mounted too; Linux tells."""
    if sys.platform != "linux":
        return False
    here, found = path.resolve(), (0, "")
    with suppress(OSError):
        for line in _MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines():
            _, place, kind, *_ = line.split(" ")
            place = place.replace("\\040", " ")
            if len(place) >= found[0] and here.is_relative_to(place):  # of two in one place the later covers the other
                found = (len(place), kind)
    return found[1] in _MACHINES_SHARE or found[1].startswith("fuse.")
