"""The folder that a command writes to, and the study file in it that keeps its runs until the command has come to its end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryFile

from steepest.files import whole

__all__ = ["KEPT", "ended", "go_on", "kept", "output_folder", "write_whole"]

KEPT = "what has finished is kept."
"""How a line begins that says how to go on."""
UNFINISHED = "unfinished.log"
"""The study file in the output folder; nothing else has this name, for it is removed at the end."""


@contextmanager
def output_folder(output: str | None) -> Iterator[Path]:
    """Where a command writes, found writable before minutes of training, not after them; gone again where nothing came."""
    folder = Path(output) if output else Path("runs") / datetime.now().strftime("%Y-%m-%d-%H%M%S")
    made = [one for one in (folder, *folder.parents) if not os.path.exists(one)]
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise ValueError(f"output must be a writable folder, got {str(folder)!r}: {error.strerror}.") from error
        yield folder
    except BaseException:
        for one in made:
            with suppress(OSError):  # not empty, or not made
                one.rmdir()
        raise


@contextmanager
def kept(folder: Path, storage: str | None, output: str | None) -> Iterator[str]:
    """Where runs are kept: the storage that was named, or a study file in the folder, until the command has come to its end.

    After an error the file stays where anything in it has been finished, and a note says how to go on.
    """
    file = folder / UNFINISHED
    there = file.exists()
    try:
        yield storage or f"journal:{file}"
    except BaseException as error:
        if not storage:
            if _worth_keeping(file):
                error.add_note(go_on(folder, storage, output))
            elif not there:
                file.unlink(missing_ok=True)
        raise


def go_on(folder: Path, storage: str | None, output: str | None) -> str:
    """What to do where a command has ended before its end; it finds its runs again by what was named."""
    again = "" if storage or output else f" with --storage journal:{folder / UNFINISHED}"
    return f"{KEPT} Give the same command again{again} to go on."


def ended(folder: Path) -> None:
    """A command has come to its end: what it has found out is in its results."""
    (folder / UNFINISHED).unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all: on a full disk what was there before stays. Raises ValueError where it can't be written."""
    try:
        with whole(path) as file:
            file.write(text.encode())
    except OSError as error:
        raise ValueError(
            f"{path} can't be written: {error.strerror}. Free some space, or pass another folder."
        ) from error


def _worth_keeping(file: Path) -> bool:
    from steepest.workbench.storage import open_storage
    from steepest.workbench.store import holds_results

    if not file.exists():
        return False
    try:
        return holds_results(open_storage(f"journal:{file}"))
    except (ValueError, OSError):  # perhaps what the command itself ends with; nothing is lost in doubt
        return True
