"""`steepest watch`: the terminal view of a run from its folder, while another process trains or long after.

It reads what the flight recorder writes, and nothing else; it needs a terminal only for the live picture, so it works over
ssh, in a pipe and in a script.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from steepest.monitor.marks import duration
from steepest.monitor.plain import to_json
from steepest.monitor.recorder.reader import Follow
from steepest.monitor.records import Run, rows_of
from steepest.monitor.terminal.course import Course
from steepest.monitor.terminal.others import encodable, glyphs_for, is_capable, is_terminal
from steepest.monitor.terminal.view import news, view

__all__ = ["newest", "summary", "watch"]

SHARE = 0.05
"""The most of its time that watching takes: training may need all cores."""
PATIENCE = 10.0
"""Seconds for which a file that can't be read is tried again; on a shared disk its writer may hold it."""
FILES = "steepest-*.sqlite*"
ENDS = ("q", "Q", "\x1b", "\x04")
MOVES = {"j": 1, "k": -1, "\x1b[B": 1, "\x1b[A": -1, " ": 0.5, "\x1b[6~": 0.5, "\x1b[5~": -0.5}
"""Keys, and by how many layers they scroll, or by which part of the screen."""
ORDERS = ("suspicious layers first", "layers in the model's order")
"""What the key s changes to, from either order."""


def watch(folder: str | None = None, *, once: bool = False, as_json: bool = False, refresh: float = 0.5) -> None:
    """Show a run until it is finished or the user ends it: by q or Ctrl-C.

    Parameters
    ----------
    folder : of the run; the newest under ``runs/`` unless told otherwise.
    once : print the present state and return.
    as_json : print the last record as JSON and return.
    refresh : seconds between two looks at the folder, at least.

    Raises
    ------
    ValueError, OSError : there is no such run, or it can't be read.
    """
    path = newest(Path("runs")) if folder is None else Path(folder)
    watched = _Watched(path)
    if as_json:
        print(summary(watched.run, path))
    elif once or watched.course.finished:
        _show(watched)
    elif is_capable(sys.stdout):
        with suppress(KeyboardInterrupt):
            _live(watched, refresh)
        _show(watched)
    else:
        with suppress(KeyboardInterrupt):
            _lines(watched, max(refresh, 5.0))


def newest(folder: Path) -> Path:
    """The folder of the run that was written to last, here or below."""
    written = [(_modified(one), one.parent) for one in folder.glob(f"**/{FILES}")]
    if not written:
        raise ValueError(
            f"there is no run under {str(folder)!r}: no file steepest-*.sqlite of a Monitor. Pass its folder: "
            "steepest watch FOLDER."
        )
    return max(written)[1]


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # a log that has just been joined with its file
        return 0.0


def summary(run: Run, folder: Path) -> str:
    """The run's last record as one line of JSON, with what has happened."""
    last = Course(run.facts)
    last.add(run.whole)
    return to_json(
        {
            "folder": str(folder), "finished": run.finished, "step": last.step, "call": last.call, "seconds": last.seconds,
            "loss": last.loss, "scalars": last.scalars,
            "tensors": {
                name: {measured: values[index] for measured, values in last.tensors.items()}
                for index, name in enumerate(run.names)
            },
            "events": [
                {"step": e.step, "call": e.call, "kind": e.kind, "message": e.message, "tensors": e.tensors, "values": e.values}
                for e in run.events
            ],
        }
    )  # fmt: skip


class _Watched:
    """A run and its course, which grows with it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._follow = Follow(folder)
        self._failing: float | None = None
        self._begin(self._follow.look().whole)

    def _begin(self, run: Run) -> None:
        self.run, self.course = run, Course(run.facts)
        self.course.add(run)

    def look(self) -> bool:
        """Read what is new; whether there was anything."""
        try:
            run = self._follow.look().whole
        except (ValueError, OSError):
            now = time.monotonic()
            self._failing = self._failing or now
            if now - self._failing > PATIENCE:
                raise
            return False
        self._failing = None
        if run is self.run:
            return False
        if _goes_on(self.run, run):
            self.course.add(_rest(run, len(self.run), len(self.run.events)))
            self.run = run
        else:
            self._begin(run)
        return True

    @property
    def source(self) -> str:
        """The folder, and whether anybody still writes there."""
        if self.course.finished:
            return f"{self.folder}, finished"
        silent = time.time() - max((_modified(one) for one in self.folder.glob(FILES)), default=time.time())
        usual = self.run.seconds[-1] / len(self.run) if len(self.run) else 60.0
        return f"{self.folder}, silent for {duration(silent)}" if silent > max(10.0, 10 * usual) else str(self.folder)


def _goes_on(before: Run, now: Run) -> bool:
    """Whether a run has only grown: not resumed at an earlier step in another session, nor thinned."""
    count = len(before)
    return (
        before.facts == now.facts
        and np.array_equal(now.steps[:count], before.steps)
        and np.array_equal(now.seconds[:count], before.seconds)
        and now.events[: len(before.events)] == before.events
    )


def _rest(run: Run, records: int, events: int) -> Run:
    """The part of a run behind so many records and events."""
    losses = int(np.searchsorted(run.loss_calls, run.calls[records - 1], side="right")) if records else 0
    rest = rows_of(run, slice(records, None))
    return replace(rest, losses=run.losses[losses:], loss_calls=run.loss_calls[losses:], events=run.events[events:])


# ---- on the terminal


def _show(watched: _Watched) -> None:
    """The present state as ordinary output."""
    from rich.console import Console

    from steepest.monitor.terminal.screen import rendered

    capable = is_capable(sys.stdout)
    console = Console(width=None if capable else 140, highlight=False, force_terminal=capable)
    height = console.height - 1 if capable else None
    lines = view(watched.course, console.width - 1, height, drawn=glyphs_for(sys.stdout), source=watched.source)
    print("\n".join(line.rstrip() for line in rendered(console, lines)), flush=True)


def _lines(watched: _Watched, refresh: float) -> None:
    told: dict[str, int] = {}
    drawn = glyphs_for(sys.stdout)
    while True:
        for line in news(watched.course, told, drawn=drawn):
            print(encodable(line, sys.stdout), flush=True)
        while not watched.course.finished:
            time.sleep(refresh)
            if watched.look():
                break
        else:
            return


def _live(watched: _Watched, refresh: float) -> None:
    from steepest.monitor.terminal.screen import console_for, rendered

    console, drawn = console_for(sys.stdout), glyphs_for(sys.stdout)
    skip, by_suspicion = 0, True
    with _keys() as pressed, _full_screen():
        while not watched.course.finished:
            begin = time.monotonic()
            width, height = console.width - 1, max(console.height - 2, 2)
            lines = view(
                watched.course, width, height, drawn=drawn, source=watched.source, skip=skip, by_suspicion=by_suspicion
            )
            lines += [[]] * (height - len(lines))
            lines.append([(f"q end  j k scroll  s {ORDERS[by_suspicion]}"[:width], "dim")])
            sys.stdout.write("\x1b[H" + "\r\n".join(f"{line}\x1b[K" for line in rendered(console, lines)) + "\x1b[J")
            sys.stdout.flush()
            for key in pressed(max(refresh, (time.monotonic() - begin) / SHARE)):
                if key in ENDS:
                    return
                by_suspicion ^= key == "s"
                skip += int(MOVES.get(key, 0) * (height if abs(MOVES.get(key, 0)) < 1 else 1))
            skip = min(max(skip, 0), max(len(watched.run.names) - 1, 0))
            watched.look()


@contextmanager
def _full_screen() -> Iterator[None]:
    """The terminal's second screen without a cursor, given back whatever happens short of SIGKILL."""

    def end(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    numbers = (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM))
    ours = [one for one in numbers if signal.getsignal(one) not in (signal.SIG_IGN, None)]  # nohup ignores SIGHUP
    before = {one: signal.signal(one, end) for one in ours}
    sys.stdout.write("\x1b[?1049h\x1b[?25l")
    try:
        yield
    finally:
        sys.stdout.write("\x1b[?25h\x1b[?1049l")
        sys.stdout.flush()
        for one, handler in before.items():
            signal.signal(one, handler)


@contextmanager
def _keys() -> Iterator[Callable[[float], list[str]]]:
    """A function that waits for keys for so many seconds at most, and only waits where no terminal is read."""
    try:
        import termios
        import tty
    except ImportError:
        yield _windows_keys
        return

    def pressed(seconds: float) -> list[str]:
        if not select.select([sys.stdin], [], [], seconds)[0]:
            return []
        text = os.read(sys.stdin.fileno(), 64).decode("ascii", "replace")
        return (
            [text] if text[:1] == "\x1b" else list(text) or ["q"]
        )  # an arrow's bytes come at once; none: the terminal is gone

    if not is_terminal(sys.stdin):
        yield _wait
        return
    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    try:
        yield pressed
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _wait(seconds: float) -> list[str]:
    time.sleep(seconds)
    return []


def _windows_keys(seconds: float) -> list[str]:
    import msvcrt

    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if msvcrt.kbhit():  # type: ignore[attr-defined]  # as Windows has it
            return [str(msvcrt.getwch())]  # type: ignore[attr-defined]
        time.sleep(0.05)
    return []
