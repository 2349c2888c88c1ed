"""Training seen live in the terminal it runs in: losses, gradients and every layer's step, the suspicious layers on top.

The training thread only keeps what it is given; a few times a second it draws the picture, for half a percent of
the time at most. Where nothing can be drawn (a file, a notebook, another program's progress bar) there are lines instead.
"""

from __future__ import annotations

import shutil
import sys
import time
from typing import TYPE_CHECKING, TextIO

from steepest.checks import Range, check_number
from steepest.monitor.records import Event, Facts, Record, Run
from steepest.monitor.terminal.course import Course
from steepest.monitor.terminal.others import glyphs_for, is_capable, is_terminal, other_displays, say
from steepest.monitor.terminal.view import news, view

if TYPE_CHECKING:
    from steepest.monitor.terminal.screen import Screen

__all__ = ["Terminal"]

LIVE, PLAIN = 0.25, 5.0
"""Seconds between two pictures, and between two lines, unless told otherwise."""
SHARE = 0.005
"""The most of the time that drawing may take: after a picture that took 2 ms the next waits 0.4 seconds at least."""
KEPT = 256
"""So many records wait for a picture at most."""
SPARE_LINES = 4
"""Of the terminal's height left to what training itself prints."""


class Terminal:
    """Show training in the terminal: an output for `Monitor`.

    On a terminal there is a live picture under whatever training prints: step, loss, learning rate, speed, the optimizer's
    share of the step; the whole run's loss, gradient norm and update ratio (median of the matrices) as sparklines; a table
    of the layers with the suspicious ones on top; alarms. The update ratio ``‖step‖ / ‖weights‖`` stands as its power of ten
    on a scale whose middle part, 1e-4 to 1e-2, is healthy for matrices; for vectors it is grey. Prints, logging and
    warnings appear above the picture; the last picture stays.

    Elsewhere there is a line every five seconds, without control characters: in files and pipes, in notebooks, on terminals
    that can't move their cursor, and while another program draws progress bars (tqdm, as Hugging Face's and Lightning's
    trainers do, or rich) or another `Terminal` its picture, above which the lines appear. ``steepest watch`` shows the picture
    in a second terminal then.

    NO_COLOR is heeded, and under ``LANG=C`` or an encoding other than Unicode everything is ASCII.

    Parameters
    ----------
    live : a picture; unless told otherwise, where the stream is a terminal. True also for a terminal that doesn't say that
        it is one, False for lines in any case.
    refresh : seconds between two pictures or lines at least; unless told otherwise 0.25 and 5. Pictures come more rarely
        where drawing them would take more than half a percent of the time.
    file : where to write; ``sys.stdout`` unless told otherwise.

    Raises
    ------
    ValueError, TypeError : ``refresh`` isn't a positive number, ``live`` not True, False or None.

    Examples
    --------
    >>> import sys
    >>> from steepest.monitor.records import Facts, Record, TensorFacts
    >>> from steepest.monitor.terminal import Terminal
    >>> import numpy as np
    >>> terminal = Terminal()
    >>> terminal.start(Facts(0.0, "numpy", "Adam", ("adam(0.1)",), ({},), (TensorFacts("weight", (2,), "float32"),), {}, 10))
    >>> terminal.record(Record(10, 10, 0.1, np.array([0.5]), {"lr": 0.1, "grad_norm": 2.0}, {}))
    step 10  loss 0.5  grad norm 2  100 steps/s
    """

    def __init__(self, *, live: bool | None = None, refresh: float | None = None, file: TextIO | None = None) -> None:
        if not (live is None or isinstance(live, bool)):
            raise TypeError(f"Terminal: live must be True, False or None, got {live!r}.")
        if refresh is not None:
            check_number("Terminal", "refresh", refresh, Range(0, low_included=False, structure=True))
        self._live, self._refresh, self._file = live, refresh, file
        self._screen: Screen | None = None
        self._begin(None)

    def _begin(self, course: Course | None) -> None:
        self._course = course
        self._records: list[Record] = []
        self._events: list[Event] = []
        self._due, self._last_line = float("-inf"), time.monotonic()
        self._told: dict[str, int] = {}

    def start(self, facts: Facts) -> None:
        """Take the facts; of several processes, only the first shows anything."""
        self._begin(None if facts.process else Course(facts))
        if self._course is not None:
            self._opened()  # which imports rich: not at a step

    def record(self, record: Record) -> None:
        """Keep the record, and show it when it is time."""
        if self._course is None:
            return
        self._records.append(record)
        if time.monotonic() >= self._due:
            self._show(self._course)
        elif len(self._records) >= KEPT:
            self._digest()

    def event(self, event: Event) -> None:
        """Keep the event; the first of its kind is shown with the next record."""
        if self._course is None:
            return
        self._events.append(event)
        if event.kind not in self._told:
            self._due = float("-inf")
        if len(self._events) >= KEPT:
            self._digest()

    def close(self) -> None:
        """Show the last record, and leave it there."""
        unseen = bool(self._records or self._events)
        self._digest()
        course, screen = self._course, self._screen
        self._course = self._screen = None
        try:
            if course is None:
                pass
            elif screen is not None and screen.was_used and not other_displays():
                if screen.is_blocked:
                    say("", self._file or sys.stdout)
                self._draw(course, screen)
            elif unseen and (course.records or course.alarms):
                self._tell(course)
        finally:
            if screen is not None:
                screen.close()

    def _digest(self) -> None:
        """What has been kept becomes part of the course."""
        if self._course is not None and (self._records or self._events):
            self._course.add(Run.of(self._course.facts, self._records, self._events).whole)
            self._records, self._events = [], []

    def _show(self, course: Course) -> None:
        self._digest()  # in time by itself: so much for each record
        begin = time.monotonic()
        screen = self._opened()
        if screen is None:
            self._tell(course)
        elif not screen.is_blocked:
            self._draw(course, screen)
        elif begin - self._last_line >= PLAIN:
            self._tell(course, "\n")
        pause = self._refresh or (PLAIN if screen is None else LIVE)
        end = time.monotonic()
        self._due = end + max(pause, (end - begin) / SHARE)

    def _opened(self) -> Screen | None:
        """The screen, where a picture may be drawn now."""
        stream = self._file or sys.stdout
        if self._live is False or stream is None or not (self._live or is_capable(stream)):
            return None
        if other_displays():
            if self._screen is not None:
                self._screen.erase()
            return None
        if self._screen is None:
            try:
                from steepest.monitor.terminal.screen import Screen, is_taken
            except ModuleNotFoundError:
                if self._live:
                    raise
                self._live = False  # rich is optional: lines need nothing
                return None
            if is_taken(stream):
                return None
            self._screen = Screen(stream)
        return self._screen

    def _draw(self, course: Course, screen: Screen) -> None:
        width, height = screen.console.size
        room = max(
            height - 1 - SPARE_LINES, min(height - 1, 6)
        )  # a picture higher than the terminal can't be drawn again
        screen.draw(view(course, width - 1, room, drawn=screen.drawn))
        self._told = {kind: alarm.count for kind, alarm in course.alarms.items()}
        self._last_line = time.monotonic()

    def _tell(self, course: Course, before: str = "") -> None:
        """A line, and one for each alarm that is new or has come twice as often as when it was told."""
        stream = self._file or sys.stdout
        if stream is None:  # a program without a console
            return
        width = shutil.get_terminal_size().columns - 1 if is_terminal(stream) else 200
        say(before + "\n".join(news(course, self._told, width, glyphs_for(stream))), stream)
        self._last_line = time.monotonic()
