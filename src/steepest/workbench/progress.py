"""How far a command has come: a bar on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from steepest.checks import printable
from steepest.workbench.words import counted

__all__ = ["progress_of"]


@contextmanager
def progress_of(command: str) -> Iterator[Callable[[int, int, str], None]]:
    """``progress(done, total, what)``, which shows it with the time left."""
    console = Console(stderr=True)
    if not console.is_terminal:
        begun = last = time.monotonic()
        before: int | None = None

        def plain(done: int, total: int, what: str) -> None:
            nonlocal last, before
            if before is None:
                before = max(0, done - 1)  # what an earlier command has done took none of this one's time
            if (now := time.monotonic()) - last >= 30:
                last = now
                said = f"{done} of {counted(total, 'run')}"
                if done > before:
                    left = (total - done) * (now - begun) / (done - before)
                    said += f", about {_minutes(left)} left for these"
                print(printable(f"steepest {command}: {said}; {what}"), file=sys.stderr, flush=True)

        yield plain
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("training", total=None)

        def advance(done: int, total: int, what: str) -> None:
            bar.update(task, completed=done, total=total, description=printable(what)[:40])

        yield advance


def _minutes(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
