"""What everything that shows or keeps a run's records answers to."""

from __future__ import annotations

from typing import Protocol

from steepest.monitor.records import Event, Facts, Record

__all__ = ["Output"]


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
