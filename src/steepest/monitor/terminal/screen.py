"""Lines at the bottom of a terminal that give way to whatever else is written to it.

rich's own `Live` replaces ``sys.stdout`` by a proxy: a logging handler made earlier writes past it, and a bar that is drawn over
one line with carriage returns is held back until that line ends. A `Screen` listens at the streams' ``write`` instead: before
a foreign text it removes its lines, after one that ends its line it puts them back. It hides no cursor, changes no mode and
starts no thread, so that nothing has to be restored however training ends.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from itertools import groupby
from operator import itemgetter
from typing import TextIO

from rich.console import Console, ConsoleOptions
from rich.segment import Segment
from rich.style import Style

from steepest.monitor.terminal.others import encodable, glyphs_for, is_terminal
from steepest.monitor.terminal.table import Line

__all__ = ["Screen", "console_for", "is_taken", "rendered"]

_PAUSE = 0.05
"""Seconds after a picture in which a foreign line doesn't bring it back: a thousand of them would draw it a thousand times."""


_open: list[Screen] = []


def is_taken(stream: TextIO) -> bool:
    """Whether another `Screen` of this process draws under what this stream shows: two would move each other's lines."""
    return any(one.listens_to(stream) for one in _open)


def console_for(stream: TextIO) -> Console:
    """rich's idea of a terminal: its size, and its colours with NO_COLOR and TERM as they are."""
    return Console(file=stream, force_terminal=True, highlight=False, markup=False, emoji=False)


@cache
def _style(words: str) -> Style:
    return Style.parse(words)


class _Lines:
    """Lines as rich takes them."""

    def __init__(self, lines: list[Line]) -> None:
        self.lines = lines

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for line in self.lines:
            for style, pieces in groupby(line, key=itemgetter(1)):  # rich takes its time for every segment
                yield Segment("".join(text for text, _ in pieces), _style(style) if style else None)
            yield Segment.line()


def rendered(console: Console, lines: list[Line]) -> list[str]:
    """Each line as what is written to the terminal for it, cut to its width."""
    with console.capture() as captured:
        console.print(_Lines(lines), end="")
    return encodable(captured.get(), console.file).split("\n")[: len(lines)]


class Screen:
    """A picture under what a stream's terminal shows, drawn again in its place by each `draw`."""

    def __init__(self, stream: TextIO) -> None:
        self.console = console_for(stream)
        self.drawn = glyphs_for(stream)
        self._stream, self._write = stream, stream.write
        self._frame: list[str] = []
        self._widths: list[int] = []
        self._shown = False
        self._at_start = True
        self._last = -1.0
        self._process = os.getpid()
        self._lock = threading.RLock()
        self._passages: list[tuple[TextIO, Callable[[str], int]]] = []
        for one in {id(one): one for one in (stream, sys.stdout, sys.stderr)}.values():
            if one is stream or is_terminal(one):
                self._listen(one)
        _open.append(self)

    @property
    def is_blocked(self) -> bool:
        """Whether somebody has written the beginning of a line, under which a picture would tear it."""
        return not self._at_start

    @property
    def was_used(self) -> bool:
        """Whether a picture was ever drawn."""
        return bool(self._frame)

    def listens_to(self, stream: TextIO) -> bool:
        """Whether its picture gives way to what is written there; a child process has nobody who does."""
        heard = (self._stream, *(one for one, _ in self._passages))
        return os.getpid() == self._process and any(one is stream for one in heard)

    def draw(self, lines: list[Line]) -> None:
        """Show these lines instead of those before."""
        frame = rendered(self.console, lines)
        with self._lock:
            text = self._way_up() + "".join(f"{line}\x1b[K\n" for line in frame) + "\x1b[J"
            self._frame, self._widths = frame, [sum(len(text) for text, _ in line) for line in lines]
            self._put(text)
            self._shown, self._last = True, time.monotonic()

    def erase(self) -> None:
        """Leave what stood above as if nothing had been drawn."""
        with self._lock:
            if self._shown:
                # Line by line: tmux keeps a screen that is cleared from its first character on as history.
                self._put(self._way_up() + "\x1b[K\n" * self._height() + self._way_up())
                self._shown = False

    def close(self) -> None:
        """Stop listening. What is shown stays."""
        for stream, passage in self._passages:
            if vars(stream).get("write") is passage:
                del stream.write  # the instance's, which hides the class's
        self._passages = []
        if self in _open:
            _open.remove(self)

    def _put(self, text: str) -> None:
        self._write(text)
        self._stream.flush()

    def _height(self) -> int:
        """Of the picture, of which a terminal made narrower since has wrapped some lines."""
        width = max(self.console.width, 1)
        return sum(max(1, -(-one // width)) for one in self._widths)

    def _way_up(self) -> str:
        """To the picture's first line."""
        return f"\r\x1b[{self._height()}A" if self._shown else ""

    def _listen(self, stream: TextIO) -> None:
        original = stream.write

        def passage(text: str) -> int:
            # Closed; in a child, which has its own copy of all this; or nothing, as rich does after each capture.
            if not self._passages or os.getpid() != self._process or not text:
                return original(text)
            with self._lock:
                self.erase()
                length = original(text)
                self._at_start = text.endswith("\n") or (text.endswith("\r") and not text.strip())
                if self._at_start and self._frame and time.monotonic() - self._last > _PAUSE:
                    stream.flush()
                    self._put("".join(f"{line}\x1b[K\n" for line in self._frame))
                    self._shown, self._last = True, time.monotonic()
                return length

        with suppress(AttributeError):  # a stream that takes no attribute is left alone
            stream.write = passage  # type: ignore[method-assign]  # what print, logging and tqdm look up at each call
            self._passages.append((stream, passage))
