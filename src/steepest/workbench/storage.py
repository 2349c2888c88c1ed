"""Where results are kept: a study file or a database, opened by a text, and what is said when that fails.

``journal:study.log`` is one file that any number of processes append to, of several machines too where they share a folder
with working locks; ``sqlite:///study.db`` another; ``postgresql://user@host/name`` a server. Whatever goes wrong there,
at the start or hours later, is one line of ValueError.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

__all__ = ["PATIENCE", "Storage", "open_storage", "temporary"]

PATIENCE = 30.0
"""How many seconds to wait for a lock that others hold, or for a server."""

_KINDS = ("journal:PATH", "sqlite:///PATH", "postgresql://USER@HOST/NAME")
_CAUSES = (
    (("locked", "lock timeout"), "another program has locked it. Wait until it has finished, or end it"),
    (("no longer compatible",), "another version of Optuna made it. Install that one, or begin a new study"),
    (("not a study file", "not a database"), "it is another kind of file. Name a new one, or a study"),
    (("malformed", "invalid log", "delimiter", "expecting value", "unterminated", "extra data", "double quotes"),
     "it is damaged. Restore it from a copy, or begin a new one"),
    (("full", "no space", "quota", "too large", "disk i/o"),
     "its disk is full, or refuses to hold more. Make room and give the same command again"),
    (("readonly", "read-only", "permission denied", "unable to open", "not a directory", "is a directory",
      "file exists"),
     "it can't be written. Ask for the permission, or name another place"),
    (("refused", "could not translate", "name or service", "timeout", "timed out", "not known", "unreachable", "terminat",
      "closed the connection", "server closed", "connection is closed", "consuming input failed"),
     "the server can't be reached. Start it, and give the same command again"),
    (("no module named",), "its driver is missing. Install it: pip install 'psycopg[binary]'"),
)  # fmt: skip
"""What a message of the system, the database or its driver contains, and what it means to the user."""


@dataclass(frozen=True, slots=True)
class Storage:
    """An open storage: its ``url`` to open it again in another process, and Optuna's object."""

    url: str
    backend: BaseStorage

    @contextmanager
    def plainly(self) -> Iterator[None]:
        """Whatever the storage raises in the block is a ValueError of one line."""
        with _plainly(self.url):
            yield


def open_storage(url: str) -> Storage:
    """Open or create the storage that ``url`` names.

    Parameters
    ----------
    url : ``journal:study.log`` (one file; folders are created), ``sqlite:///study.db`` or ``postgresql://user@host/name``.

    Raises ValueError, one line without passwords, for anything else and for what can't be opened, read or written.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    kind, _, path = url.partition(":")
    scheme, _, driver = kind.partition("+")
    if scheme == "postgres":
        scheme = "postgresql"
    if scheme not in ("journal", "sqlite", "postgresql") or not path.strip("/") or path.endswith(":memory:"):
        raise ValueError(f"storage: url must be {', '.join(_KINDS[:2])} or {_KINDS[2]}, got {_shown(url)!r}.")
    with _plainly(url, opening=True):
        if scheme == "journal":
            from steepest.workbench.journal import open_journal

            return Storage(url, open_journal(path, PATIENCE))
        full = f"{scheme}+{driver or 'psycopg'}:{path}" if scheme == "postgresql" else url
        return Storage(url, optuna.storages.get_storage(_database(full.replace("{", "{{").replace("}", "}}"), scheme)))


def _database(url: str, scheme: str) -> Any:
    import sqlalchemy
    from optuna.storages import RDBStorage

    wait = round(PATIENCE)
    arguments = {"sqlite": {"timeout": wait, "isolation_level": None}, "postgresql": {"connect_timeout": wait}}
    options = {"connect_args": arguments[scheme], "pool_pre_ping": scheme == "postgresql"}
    for remaining in (3, 2, 1, 0):
        try:
            storage = RDBStorage(url, engine_kwargs=options)
            break
        except (sqlalchemy.exc.SQLAlchemyError, AssertionError) as error:
            # Of several that create the tables at the same moment, all but one fail.
            if not remaining or not ("exist" in str(error) or "unique" in str(error) or not str(error)):
                raise
            time.sleep(0.2)
    if scheme == "sqlite":
        # SQLite has no SELECT … FOR UPDATE, with which Optuna lets only one process claim a trial: two would find it waiting.
        sqlalchemy.event.listen(storage.engine, "begin", lambda made: made.exec_driver_sql("BEGIN IMMEDIATE"))
    weakref.finalize(storage, storage.engine.dispose)  # or its connections complain, one by one
    return storage


@contextmanager
def _plainly(url: str, opening: bool = False) -> Iterator[None]:
    try:
        yield
    except _raised(opening) as error:  # asked for when something is raised
        raise ValueError(_message(url, error)) from error


def _raised(opening: bool) -> tuple[type[Exception], ...]:
    """What storages raise. SQLAlchemy's errors where it is loaded: a study file doesn't need it, and it is slow to load."""
    from optuna.exceptions import StorageInternalError

    raised: tuple[type[Exception], ...] = (OSError, json.JSONDecodeError, StorageInternalError)
    if "sqlalchemy" in sys.modules:
        from sqlalchemy.exc import SQLAlchemyError

        raised += (SQLAlchemyError,)
    if opening:  # what Optuna raises for the lines of a file, or the tables, that it can't understand
        raised += (ValueError, ImportError, LookupError, AssertionError, RuntimeError, TypeError, AttributeError)
    return raised


def _message(url: str, error: BaseException) -> str:
    cause = error.__cause__ or error
    cause = getattr(cause, "orig", None) or cause
    said = " ".join((getattr(cause, "strerror", None) or str(cause)).split())
    if isinstance(cause, (LookupError, AssertionError, TypeError, AttributeError)):
        said = f"malformed: {type(cause).__name__} {said}".strip()
    meant = next((meaning for signs, meaning in _CAUSES if any(sign in said.lower() for sign in signs)), None)
    return f"storage {_shown(url)}: {meant} ({said})." if meant else f"storage {_shown(url)}: {said}."


def _shown(url: str) -> str:
    """Without the password."""
    before, at, after = url.rpartition("@")
    scheme, slashes, user = before.partition("://")
    return f"{scheme}{slashes}{user.partition(':')[0]}{at}{after}" if at and slashes else url


@contextmanager
def temporary(storage: str | None) -> Iterator[str]:
    """The storage's URL, or that of a file that is gone at the end."""
    if storage is not None:
        yield storage
        return
    folder = tempfile.mkdtemp(prefix="steepest-")
    try:
        yield f"journal:{Path(folder) / 'study.log'}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
