"""What everything that shows or keeps a run's records answers to, and all of a monitor's outputs together."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from steepest.checks import printable
from steepest.monitor.ranks import distributed, is_open, rank_and_size
from steepest.monitor.records import Event, Facts, Record

__all__ = ["Output", "Outputs", "checked", "folder_of", "recorders_of"]


class Output(Protocol):
    """Where a `Monitor` sends what it sees. All calls come from the thread that trains, so each must be quick.

    An error that a method raises ends this output with one warning; training and the other outputs go on.
    """

    def start(self, facts: Facts) -> None:
        """Called once, before the first record: open what has to be open."""

    def record(self, record: Record) -> None:
        """Called at every recording step. Where training was rewound, an event has said so, and steps go back: a record replaces
        those before it of its own step and later ones."""

    def event(self, event: Event) -> None:
        """Called when something happens, before the record of its step."""

    def close(self) -> None:
        """Called once, at the end of training: write what is left. May come without `start`."""


class Outputs:
    """The outputs that still work, and the facts that they start with.

    In a process that may still get a rank they start with the first record or event: a first process only sends, and each has a
    file of its own.
    """

    facts: Facts

    def __init__(self, outputs: Sequence[Output]) -> None:
        self.alive, self.closed = list(outputs), False
        self._process, self._last = os.getpid(), (0, 0)
        self._waits = False

    def start(self, facts: Facts) -> None:
        """Start all, now or with what is sent first."""
        self.facts, self._waits = facts, is_open()
        if not self._waits:
            self.send("start", facts)

    def _start_late(self) -> None:
        self._waits = False
        process, processes = rank_and_size()
        self.facts = replace(self.facts, process=process, processes=processes)
        self.send("start", self.facts)

    def send(self, method: str, what: Any) -> None:
        """Call a method of all; one that raises is closed with a warning. A child process that was forked sends nothing."""
        if os.getpid() != self._process:
            return
        if self._waits:
            self._start_late()
        if method != "start":
            self._last = (what.step, what.call)
        for output in tuple(self.alive):
            try:
                getattr(output, method)(what)
            except Exception as error:
                self.alive = [one for one in self.alive if one is not output]
                warnings.warn(
                    f"Monitor: {type(output).__name__} failed and is closed ({printable(f'{type(error).__name__}: {error}')}). "
                    f"Training and the other outputs go on.",
                    RuntimeWarning,
                    stacklevel=4,
                )
                with contextlib.suppress(Exception):  # it has been said already that this one is broken
                    output.close()

    def left(self) -> None:
        """At the end of a program that did not close its monitor."""
        if not self.closed:
            self.send("event", Event(*self._last, "note", "training ended without closing the monitor"))
            self.close()

    def close(self) -> None:
        """Close all, once."""
        if not self.closed:
            if self._waits and os.getpid() == self._process:
                self._start_late()
            self.closed = True
            for output in self.alive if os.getpid() == self._process else ():
                try:
                    output.close()
                except Exception as error:
                    said = f"Monitor: {type(output).__name__} could not be closed ({type(error).__name__}: {error})."
                    warnings.warn(printable(said), RuntimeWarning, stacklevel=3)
            self.alive = []


def checked(to: Sequence[Output] | Output) -> list[Output]:
    """What a monitor was given, as a list; raise TypeError for anything that isn't an output."""
    listed = list(to) if isinstance(to, Sequence) and not isinstance(to, str) else [to]
    for position, one in enumerate(listed):
        if not all(callable(getattr(one, name, None)) for name in ("start", "record", "event", "close")):
            fix = (
                f"Call it: {one.__name__}(…)."
                if isinstance(one, type)
                else "Pass Terminal(), TensorBoard(folder), Report(path) …."
            )
            raise TypeError(f"Monitor: to[{position}] must be an output, got {one!r}. {fix}")
    return listed


def folder_of(folder: str | Path | None, outputs: Sequence[Output]) -> Path | None:
    """Where the flight recorder writes: what was said, or, for ``"auto"``, beside the first output that writes somewhere.

    Else a folder of its own, by the time, which no other run has.
    """
    if folder is None:
        return None
    if str(folder) != "auto":
        return Path(folder)
    for one in outputs:
        if getattr(one, "folder", None) is not None:
            return Path(one.folder)  # type: ignore[attr-defined]  # asked for on the line above
        if getattr(one, "path", None) is not None:
            path = Path(one.path)  # type: ignore[attr-defined]  # likewise
            return path.with_suffix("") if path.suffix else path.with_name(f"{path.name}-run")
    runs, named = Path("runs"), datetime.now().strftime("%Y-%m-%d-%H%M%S")
    if rank_and_size()[1] > 1:
        return runs / _named_alike(named)
    found, number = runs / named, 1
    while found.exists():
        number += 1
        found = runs / f"{named}-{number}"
    return found


def _named_alike(name: str) -> str:
    """The first process's name, in all processes of a distributed run: each has its own clock."""
    torch = distributed()
    if torch is not None:
        names = [name]
        torch.broadcast_object_list(names)
        return names[0]
    job = os.environ.get("SLURM_JOB_ID")  # also where a batch script starts one process of its own
    if not job:
        raise ValueError(
            "Monitor: folder must be given if there are several processes, got 'auto'. Each process would choose its own folder. "
            "Pass folder='runs/…', or make the monitor after torch.distributed.init_process_group."
        )
    return f"slurm-{job}"


def recorders_of(folder: Path | None, outputs: Sequence[Output]) -> list[Output]:
    """The flight recorder, unless there is to be none or one of the outputs is one."""
    if folder is None:
        return []
    from steepest.monitor.recorder import Recorder

    return [] if any(isinstance(one, Recorder) for one in outputs) else [Recorder(folder)]
