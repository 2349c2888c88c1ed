"""One thread at a time, and no interrupt in the middle.

A step writes weights, states and counts in many places. `Turn` keeps other threads out while it does, and `interrupts_held` lets
Ctrl-C and other signals wait for its end. So a step has either happened and is counted, or nothing has.
Imports nothing of the package.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ["Turn", "between", "interrupts_held"]

_SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGALRM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGBREAK")
    if hasattr(signal, name)
)


# The functions of C below Python's own, which convert numbers to enums and back and take twenty times as long.
_c = sys.modules.get("_signal", signal)
_get: Callable[[int], Any] = _c.getsignal
_set: Callable[[int, Any], Any] = _c.signal
_main = threading.main_thread


class interrupts_held:  # noqa: N801  # used as a function is
    """Let the handlers of signals run at the end of the block instead of inside it.

    Only Python's own handlers are held: a signal that ends the process at once still does. Signal masks would not do, since they
    hold for one thread, and the handler runs whichever thread a signal reaches. Outside the main thread no handler ever runs.
    """

    __slots__ = ("_before", "_came")

    def __enter__(self) -> None:
        self._came: list[int] = []
        self._before: list[tuple[int, Callable[[int, FrameType | None], Any]]] = []
        if threading.get_ident() != _main().ident:
            return
        try:
            for number in _SIGNALS:
                handler = _get(number)
                if callable(handler):
                    _set(number, self._note)
                    self._before.append((number, handler))
        except BaseException as error:  # a handler that ran just now has raised
            self._restore()
            if isinstance(error, ValueError):  # an interpreter that may not set handlers, where none runs either
                return
            raise

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._came.append(number)

    def _restore(self) -> None:
        while self._before:
            number, handler = self._before.pop()
            _set(number, handler)

    def __exit__(self, *_: object) -> None:
        if self._before:
            self._restore()
            if self._came:
                _deliver(self._came)


@contextmanager
def between(begin: Callable[[], object], end: Callable[[], object]) -> Iterator[None]:
    """Run a block between two calls, the second one also after an error.

    ``end`` is called twice, since an interrupt can come just before the first call. The second call must find nothing to do.
    """
    try:
        try:
            begin()
            yield
        finally:
            end()
    finally:
        end()


def _deliver(numbers: list[int]) -> None:
    """Raise these signals, all of them, also if a handler of an earlier one raises."""
    if numbers:
        try:
            signal.raise_signal(numbers.pop(0))
        finally:
            _deliver(numbers)


class Turn:
    """Whose turn it is: one thread at a time may step or change an optimizer.

    A second thread that wants to step is refused by `step`, since its gradients would be stepped in an order that nobody has
    chosen. A second thread that only looks or loads waits in `wait`. The thread whose turn it is may enter again.
    Each copy of an optimizer gets a turn of its own.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def __reduce__(self) -> tuple[type[Turn], tuple[()]]:
        return Turn, ()

    def step(self, what: str) -> _Entered:
        """A block without interrupts; RuntimeError if another thread has its turn. ``what`` is the optimizer's name."""
        return _Entered(self._lock, what)

    def wait(self) -> _Entered:
        """A block without interrupts, which begins when the turn of any other thread has ended."""
        return _Entered(self._lock)


class _Entered(interrupts_held):
    __slots__ = ("_lock", "_what")

    def __init__(self, lock: Any, what: str | None = None) -> None:
        self._lock, self._what = lock, what

    def __enter__(self) -> None:
        interrupts_held.__enter__(self)
        if self._lock.acquire(blocking=False):
            return
        super().__exit__()  # an interrupt ends the wait
        if self._what is not None:
            raise RuntimeError(
                f"{self._what}.step: another thread is using this optimizer. Step an optimizer from one thread at a time: "
                f"use a lock, or an optimizer of its own for each thread."
            )
        while True:
            with self._lock:
                pass
            super().__enter__()
            if self._lock.acquire(blocking=False):
                return
            super().__exit__()

    def __exit__(self, *_: object) -> None:
        self._lock.release()
        interrupts_held.__exit__(self)
