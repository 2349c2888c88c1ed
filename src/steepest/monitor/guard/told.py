"""What a guard has done, for whoever wants to know: its events, a monitor, warnings for everybody, the report of an error."""

from __future__ import annotations

import warnings
from collections import deque
from typing import Any

from steepest.checks import printable
from steepest.monitor.records import Event

__all__ = ["Told"]

_REMEMBERED, _REPORTED = 100, 10
"""Events that are kept, and how many of them an error reports."""


class Told:
    """The last events, and how they are passed on."""

    def __init__(self, optimizer: Any, monitor: Any) -> None:
        self.optimizer, self.monitor = optimizer, monitor
        self.events: deque[Event] = deque(maxlen=_REMEMBERED)

    def remember(self, call: int, kind: str, message: str, values: dict[str, float] | None = None) -> None:
        """What a monitor has seen by itself."""
        self.events.append(Event(self.optimizer.steps, call, kind, message, (), values or {}))

    def note(self, call: int, kind: str, message: str, values: dict[str, float] | None = None) -> None:
        self.remember(call, kind, message, values)
        if self.monitor is not None:
            self.monitor.event(kind, message, values=values or {})

    def warn(self, call: int, message: str) -> None:
        """What should not be missed where there is no monitor."""
        self.note(call, "note", message)
        warnings.warn(printable(f"Guard: {message}."), RuntimeWarning, stacklevel=5)

    def report(self) -> str:
        last = list(self.events)[-_REPORTED:]
        return "".join(f"\n  batch {e.call}, after step {e.step}: {e.kind}: {printable(e.message)}" for e in last)
