"""What the callbacks of all trainers share: a monitor for each training, and nothing that could end a training.

Trainers call no ``on_train_end`` where an error or an interrupt ends a training. So each training begins by ending what is left of
the one before.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, TypeVar, cast

from steepest.checks import Count, check_value, printable, unknown_name
from steepest.monitor.monitor import Monitor
from steepest.monitor.output import checked
from steepest.monitor.probes import Probes
from steepest.monitor.telemetry import check_measurements

__all__ = ["Watched", "check_options", "harmless"]

_OPTIONS = tuple(inspect.signature(Monitor).parameters)[2:]
"""All arguments of `Monitor` but the optimizer and the model, which the trainer has."""
_Method = TypeVar("_Method", bound=Callable[..., None])


def check_options(what: str, options: Mapping[str, Any]) -> None:
    """Raise TypeError or ValueError for arguments that no monitor takes, while no training runs that it could end."""
    for name in options:
        if name not in _OPTIONS:
            raise TypeError(unknown_name(what, "argument", name, _OPTIONS))
    check_value(what, "every", options.get("every", 10), Count)
    check_measurements(what, options.get("measurements") or ())
    checked(options.get("to", ()))
    Probes(options.get("probes", ()))


class Watched:
    """The monitor of a trainer's present training, or of its last one. ``what`` is the name of the callback."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.monitor: Monitor | None = None
        self._open = self._lacks_loss = False
        self._undo: Callable[[], None] | None = None

    def begin(
        self,
        optimizer: Callable[[], Any],
        model: Any,
        options: Mapping[str, Any],
        wrap: Callable[[], Callable[[], None] | None] = lambda: None,
    ) -> None:
        """Make a monitor. ``wrap`` changes the trainer for it, and returns what changes it back when the monitor ends."""
        self.end("this training ended without on_train_end, by an error or an interrupt")
        self.monitor, self._lacks_loss = None, True
        self.monitor = Monitor(optimizer(), model, **options)
        self._open = True
        self._undo = wrap()

    def batch(self, loss: Any, metrics: Mapping[str, Any], where: str) -> None:
        """Call the monitor; ``where`` says where the trainer would have a loss, for the case that there is none."""
        if self.monitor is None or not self._open:
            return
        self.monitor(loss, **metrics)
        if self._lacks_loss and (loss is not None or self.monitor.last is not None):
            self._lacks_loss = False
            if loss is None:
                warnings.warn(f"{self.what}: the records have no loss: {where}.", RuntimeWarning, stacklevel=4)

    def end(self, note: str = "") -> None:
        """Close the monitor of a training that has not been ended yet, with a note of why."""
        undo, self._undo = self._undo, None
        if undo is not None:
            undo()
        if self._open and self.monitor is not None:
            self._open = False
            if note:
                self.monitor.event("note", note)
            self.monitor.close()

    def fail(self, error: Exception) -> None:
        """End monitoring, with a warning; the training goes on."""
        reason = f"{type(error).__name__}: {error}".removesuffix(".")
        said = f"{self.what}: {reason}. This training is not recorded; it goes on."
        warnings.warn(printable(said), RuntimeWarning, stacklevel=3)
        self.end(f"monitoring ended by {reason}")

    def __getstate__(self) -> dict[str, Any]:
        """A copy of a callback, as a net that is pickled holds it, watches nothing."""
        return {"what": self.what}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["what"])  # type: ignore[misc]  # as new


def harmless(method: _Method) -> _Method:
    """Let a callback's method, which finds `Watched` under ``watched_``, never raise into the training."""

    @wraps(method)
    def called(callback: Any, *given: Any, **named: Any) -> None:
        try:
            method(callback, *given, **named)
        except Exception as error:
            callback.watched_.fail(error)

    return cast(_Method, called)
