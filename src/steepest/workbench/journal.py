"""The study file: Optuna's journal, one line of JSON for every change, which many processes append to.

Appending is ours. The lock is the kernel's, so that it ends with a process that is killed while it holds it (Optuna's own is
a second file, which stays for 30 seconds and is then taken by several). What such a process, or a full disk, left of its last
line is cut off before the next one is written. Optuna's dashboard may read such a file; don't let it write.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import TrialState

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]  # asked for below

__all__ = ["open_journal"]

BEGINNING = b'{"op_code":'
UNSYNCED = 1.0
"""Seconds of finished work, of each process, that may be in the system's memory only."""


def open_journal(path: str, patience: float) -> JournalStorage:
    """Open or create a study file, waiting ``patience`` seconds at most for others to let go of it, now and later.

    Raises OSError where it can't be written, TimeoutError where it stays locked, ValueError for another kind of file or a
    damaged one; then the file is left as it was.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab"):
        pass
    with open(path, "rb") as file:
        if not BEGINNING.startswith(file.read(len(BEGINNING))):
            raise ValueError("it is not a study file")
    if fcntl is None:
        return JournalStorage(JournalFileBackend(path, lock_obj=JournalFileOpenLock(path)))
    study_file = _StudyFile(path, patience)
    with study_file.locked(), open(path, "rb") as file:
        for last in deque(file, maxlen=1):
            json.loads(last)  # Optuna lets the last line pass, and stumbles over it when another one follows
    return JournalStorage(study_file)


class _StudyFile(JournalFileBackend):
    """Optuna's way to read such a file, and ours to append to it."""

    def __init__(self, path: str, patience: float) -> None:
        super().__init__(path)
        self.path, self.patience, self.synced = path, patience, -math.inf

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        text = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode()
        with self.locked() as file:
            while text:
                text = text[os.write(file, text) :]
            # What a power cut may take is work that has begun, and what was done in this time before it: short jobs do not
            # wait for the disk one by one.
            done = any(log.get("state") in (TrialState.COMPLETE, TrialState.PRUNED) for log in logs)
            if done and time.monotonic() - self.synced > UNSYNCED:
                os.fsync(file)
                self.synced = time.monotonic()

    @contextmanager
    def locked(self) -> Iterator[int]:
        """The file, which nobody else appends to meanwhile; its last line is whole."""
        file = os.open(self.path, os.O_RDWR | os.O_APPEND)
        pause, end = 0.0005, time.monotonic() + self.patience
        try:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > end:
                        raise TimeoutError(f"locked for {self.patience:g} seconds") from None
                time.sleep(pause)
                pause = min(2 * pause, 0.02)
            _mend(file)
            yield file
        finally:
            os.close(file)


def _mend(file: int) -> None:
    """Cut off a last line that was never finished."""
    size = os.fstat(file).st_size
    if not size or os.pread(file, 1, size - 1) == b"\n":
        return
    end, newline = size, -1
    while end and newline < 0:
        begin = max(0, end - 65536)
        newline = os.pread(file, end - begin, begin).rfind(b"\n")
        end = begin
    os.ftruncate(file, end + newline + 1)
