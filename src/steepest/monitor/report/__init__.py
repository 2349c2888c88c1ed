"""`Report`: a run as one HTML page, written while training goes on and at its end. What is on it: `page`."""

from __future__ import annotations

import importlib.util
import os
import time
from pathlib import Path

from steepest.checks import Range, check_number
from steepest.files import whole
from steepest.monitor.records import Event, Facts, Record, Run
from steepest.monitor.report.memory import Memory

__all__ = ["Report", "write"]

SHARE = 0.02
"""The most of its time that training waits for pages."""


class Report:
    """Write a run as one HTML file: what the doctor finds, pictures, a heat map of all layers, what the run was set to.

    The file needs no network and has less than 2 MB, however long training takes: older records are thinned, the newest stay
    whole. It is written anew while training goes on, so that a run that is killed leaves a page, and at the end. Of a run that
    resumes, a page shows what came since; ``steepest report`` on the recorder's folder makes one of all sessions. Of a
    distributed run only the first process writes.

    Parameters
    ----------
    path : the file, ``.html``; made with its folder where missing. The flight recorder's folder has its name without that.
    seconds : between two pages while training goes on, at least, > 0; 60. Pages that take long come more rarely: training
        waits for them a fiftieth of its time at most. ``math.inf`` writes one page, at the end.

    Raises
    ------
    ModuleNotFoundError : the packages bokeh or jinja2 are missing.
    ValueError : ``path`` does not end in ``.html``, or ``seconds`` is out of range.
    OSError : by the others: the file can't be written.

    Examples
    --------
    >>> import math, tempfile, numpy as np, steepest, steepest.numpy as opt
    >>> from steepest.monitor.report import Report
    >>> w = {"weight": np.array([3.0, 4.0])}
    >>> optimizer = opt.Optimizer(w, steepest.sgd(0.1))
    >>> report = Report(tempfile.mkdtemp() + "/run.html", seconds=math.inf)
    >>> with steepest.Monitor(optimizer, to=report, every=1) as monitor:
    ...     optimizer.step({"weight": 2 * w["weight"]})
    ...     monitor(25.0)
    >>> report.path.read_text(encoding="utf-8")[:15]
    '<!doctype html>'
    """

    def __init__(self, path: str | os.PathLike[str], *, seconds: float = 60.0) -> None:
        for package in ("bokeh", "jinja2"):
            if importlib.util.find_spec(package) is None:
                raise ModuleNotFoundError(
                    f"Report: the package {package} is missing. pip install 'steepest[monitor]'", name=package
                )
        self.path = Path(path)
        if self.path.suffix != ".html":
            raise ValueError(f"Report: path must end in .html, got {str(path)!r}.")
        check_number("Report", "seconds", seconds, Range(0, low_included=False, structure=True))
        self.seconds = float(seconds)
        self._memory: Memory | None = None
        self._next = 0.0

    def start(self, facts: Facts) -> None:
        """Make the folder, and begin to remember."""
        if facts.process:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._memory = Memory(facts)
        self._next = time.monotonic() + self.seconds

    def record(self, record: Record) -> None:
        """Remember a record; write a page when it is time for one."""
        if self._memory is None:
            return
        self._memory.add(record)
        begun = time.monotonic()
        if begun >= self._next:
            write(self._memory.run(finished=False), self.path)
            ended = time.monotonic()
            self._next = ended + max(self.seconds, (ended - begun) / SHARE)

    def event(self, event: Event) -> None:
        """Remember an event."""
        if self._memory is not None:
            self._memory.add_event(event)

    def close(self) -> None:
        """Write the last page."""
        if self._memory is not None:
            memory, self._memory = self._memory, None
            write(memory.run(finished=True), self.path)


def write(run: Run, path: Path) -> Path:
    """Write a run's page with the doctor's findings, whole or not at all: on a full disk the page before stands."""
    from steepest.monitor.doctor import diagnose
    from steepest.monitor.report.page import page_of

    with whole(path) as file:
        file.write(page_of(run, diagnose(run)).encode())
    return path
