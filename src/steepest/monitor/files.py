"""Whether a file that an output writes is still there: what is written to a deleted one is lost without an error."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, TypeAlias

__all__ = ["Identity", "check_file", "check_path", "identity_of"]

Identity: TypeAlias = tuple[int, int]
"""What tells a file from another one that has got its name."""


def identity_of(path: Path) -> Identity:
    found = path.stat()
    return found.st_dev, found.st_ino


def check_file(what: str, path: Path, file: IO[bytes]) -> None:
    """Raise FileNotFoundError unless the open file still has its name."""
    try:
        found = path.stat()
    except FileNotFoundError:
        raise _gone(what, path) from None
    if not os.path.samestat(found, os.fstat(file.fileno())):
        raise _gone(what, path)


def check_path(what: str, path: Path, known: Identity | None) -> None:
    """Raise FileNotFoundError unless the file is there and has this identity; None where the file system gives it none."""
    try:
        found = identity_of(path)
    except FileNotFoundError:
        raise _gone(what, path) from None
    if known is not None and found != known:
        raise _gone(what, path)


def _gone(what: str, path: Path) -> FileNotFoundError:
    return FileNotFoundError(
        f"{what}: the file {str(path)!r} must stay while it is written, but somebody has deleted, moved or replaced it. "
        f"To record again, restart the training or make another monitor."
    )
