"""The file that a run leaves behind, as its writer and its readers know it. docs/run-format.md describes it in full.

Each process of a run writes one SQLite database, ``<folder>/steepest-<process>.sqlite``:

- `about`: what never changes in any version of the format: who wrote the file, and where it is described;
- `sessions`: a row each time that training started with this file, with the run's facts as JSON;
- `measurements`, `scalars`: the names of what a session's records hold, by position;
- `records`: a row per recording step. ``tensors`` is a BLOB of little-endian float32, a row per measurement and in it a value
  per tensor of the facts; ``scalars`` and ``losses`` are BLOBs of little-endian float64. A call that gave no loss has a nan
  of its own among them, with the bits of `NO_LOSS`;
- `events`: a row per event; the view `latest`: the records that no later one has replaced.

A later session replaces what earlier ones recorded from its first step on: training that resumes at step 500 continues
the run from there, training that starts again stands alone. A record replaces those before it of its own step and later
ones: training was rewound. Replaced records stay until their room is needed.

``PRAGMA application_id`` is 0x73746570 (``step``), ``PRAGMA user_version`` the format: `records.FORMAT`.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

from steepest.monitor.plain import number_of
from steepest.monitor.records import FORMAT, Event, Facts, TensorFacts

__all__ = [
    "APPLICATION", "NO_LOSS", "SCHEMA", "Session", "begin_of", "check_format", "code_of", "event_of", "facts_of", "file_of",
    "files_of", "plainly",
]  # fmt: skip

APPLICATION = 0x73746570
NO_LOSS = 0x7FF8_0000_6E6F_6E65
"""A nan that says ``none``, as R's NA says 1954: every program reads it as nan, and no arithmetic makes it."""

SCHEMA = f"""
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {FORMAT};
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT);  -- the same in every version of the format
CREATE TABLE sessions (
    session INTEGER PRIMARY KEY,  -- 1, 2 …: one for each time that training started with this file
    facts TEXT NOT NULL,          -- what the run is, as JSON; the order of its tensors is that of the values in records.tensors
    writer TEXT NOT NULL,         -- the process that writes or wrote it
    first_step INTEGER,           -- replaces the records of earlier sessions from this step on; NULL before the first record
    finished INTEGER NOT NULL     -- 1 as soon as the monitor was closed
);
CREATE TABLE measurements (session INTEGER, position INTEGER, name TEXT, PRIMARY KEY (session, position)) WITHOUT ROWID;
CREATE TABLE scalars (session INTEGER, position INTEGER, name TEXT, PRIMARY KEY (session, position)) WITHOUT ROWID;
CREATE TABLE records (
    id INTEGER PRIMARY KEY,       -- rises; numbers are missing where records were thinned out
    session INTEGER NOT NULL,
    step INTEGER NOT NULL,        -- steps that the optimizer had taken
    call INTEGER NOT NULL,        -- times that the monitor had been called in this session
    seconds REAL NOT NULL,        -- since the session started
    losses BLOB NOT NULL,         -- '<f8': those of the calls up to this one, the last belonging to it; nan where none was given
    scalars BLOB NOT NULL,        -- '<f8': in the order of the table scalars; nan where missing; later ones may be left out
    tensors BLOB NOT NULL         -- '<f4': (measurements, tensors), in the order of the table measurements; likewise
);
CREATE TABLE events (
    id INTEGER PRIMARY KEY, session INTEGER NOT NULL, step INTEGER NOT NULL, call INTEGER NOT NULL,
    kind TEXT NOT NULL, message TEXT NOT NULL,
    tensors TEXT NOT NULL,        -- JSON: the names of those that it is about
    "values" TEXT NOT NULL        -- JSON: numbers by name
);
CREATE VIEW latest AS SELECT id, session, step, call, seconds, losses, scalars, tensors FROM (
    SELECT *, min(step) OVER (ORDER BY id DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS lowest_later FROM records
) AS records WHERE (lowest_later IS NULL OR lowest_later > step) AND NOT EXISTS (
    SELECT 1 FROM sessions AS later WHERE later.session > records.session AND later.first_step <= records.step
);
"""

_CAUSES = {
    sqlite3.SQLITE_FULL: "its disk is full. Make room",
    sqlite3.SQLITE_IOERR: "the system can't read or write it. See whether its disk is full, and whether it is still there",
    sqlite3.SQLITE_READONLY: "it can't be written. Ask for the permission, or name another folder",
    sqlite3.SQLITE_CANTOPEN: "it can't be opened. Ask for the permission, or name another folder",
    sqlite3.SQLITE_PERM: "it can't be opened. Ask for the permission, or name another folder",
    sqlite3.SQLITE_BUSY: "another program has locked it. End that program",
    sqlite3.SQLITE_PROTOCOL: "its file system has no locks. Name a folder on a local disk",
    sqlite3.SQLITE_CORRUPT: "it is damaged. Restore it from a copy, or move it away",
    sqlite3.SQLITE_NOTADB: "it is another kind of file, or damaged. Move it away",
}
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


@dataclass(frozen=True, slots=True)
class Session:
    """One row of `sessions`."""

    number: int
    facts: Facts
    first_step: int | None
    finished: bool


def file_of(folder: Path, process: int) -> Path:
    """The file of one of a run's processes."""
    return folder / f"steepest-{process}.sqlite"


def files_of(folder: Path) -> dict[int, Path]:
    """The files in a run's folder, by process."""
    numbers = ((path.stem.removeprefix("steepest-"), path) for path in folder.glob("steepest-*.sqlite"))
    return dict(sorted((int(number), path) for number, path in numbers if number.isdecimal()))


def begin_of(step: int, every: int) -> int:
    """The first step that a session's first record or event, at ``step``, speaks of: the one after the last record before.

    >>> begin_of(510, every=10), begin_of(503, every=10)
    (501, 501)
    """
    return (step - 1) // every * every + 1


def code_of(error: sqlite3.Error) -> int:
    """SQLite's primary result code; 0 where Python's module raised the error itself."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


@contextmanager
def plainly(what: str, path: Path, after: str = "") -> Iterator[None]:
    """Whatever SQLite raises in the block is one line of ValueError for a damaged file, of OSError for the rest."""
    try:
        yield
    except sqlite3.Error as error:
        cause = _CAUSES.get(code_of(error), "SQLite refuses it. Name another folder")
        kind = ValueError if code_of(error) in _DAMAGE else OSError
        raise kind(f"{what}: {str(path)!r}: {cause} ({error}).{after}") from None


def check_format(what: str, path: Path, connection: sqlite3.Connection) -> None:
    """Raise unless this version reads the file."""
    ((tables,),) = connection.execute("SELECT count(*) FROM sqlite_master")
    if not tables:
        raise ValueError(
            f"{what}: {str(path)!r} is empty. Its writer is just starting, or was stopped before it began."
        )
    ((application,),) = connection.execute("PRAGMA application_id")
    if application != APPLICATION:
        raise ValueError(f"{what}: {str(path)!r} is an SQLite file of another program. Move it away.")
    ((version,),) = connection.execute("PRAGMA user_version")
    if version > FORMAT:
        (writer,) = connection.execute("SELECT value FROM about WHERE name = 'writer'").fetchone() or (
            "a newer version",
        )
        raise ValueError(
            f"{what}: {str(path)!r} has format {version}, but this version reads formats up to {FORMAT}. {writer} wrote it: "
            "install that version or a newer one."
        )


def facts_of(text: str) -> Facts:
    """Facts from their JSON; what a newer version of the same format added is left out."""
    given = json.loads(text)
    known = {one.name: given[one.name] for one in fields(Facts) if one.name in given}
    tensors = tuple(
        TensorFacts(t["name"], tuple(t["shape"]), t["dtype"], t["group"], t.get("frozen", False))
        for t in known["tensors"]
    )
    return Facts(**known | {"tensors": tensors, "chains": tuple(known["chains"]), "groups": tuple(known["groups"])})


def event_of(step: int, call: int, kind: str, message: str, tensors: str, values: str) -> Event:
    """An event from its row."""
    numbers = {name: number_of(value) for name, value in json.loads(values).items()}
    return Event(step, call, kind, message, tuple(json.loads(tensors)), numbers)
