"""The threads that run a kernel together.

A kernel holds no lock and takes its work from a common counter, so Python threads are enough: whoever has a share in it calls
the same function on the same place in memory.
"""

from __future__ import annotations

import os
import queue
import threading
from functools import cache
from typing import Any, Protocol

from steepest.engines.numba.kernels import Kernel

__all__ = ["Team", "number_of_threads", "own_threads"]


def number_of_threads() -> int:
    """How many threads a step may use: ``STEEPEST_NUM_THREADS``, or the cores this process may run on."""
    given = os.environ.get("STEEPEST_NUM_THREADS", "")
    if given.isdigit() and int(given) > 0:
        return int(given)
    return _cores()


class Team(Protocol):
    """Threads that run a kernel together."""

    def run(self, kernel: Kernel, place: int, most: int) -> None:
        """Run the kernel on its place in memory, on at most so many threads at once; return when all have returned.

        The caller is one of the threads. Implemented by `_Pool` here and by `_TorchThreads` in ``torch/threads.py``.
        """


class _Pool:
    """Threads that wait for work; made when they are first needed, and again in a forked child."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.work: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.threads = 0

    def run(self, kernel: Kernel, place: int, most: int) -> None:
        helpers = min(number_of_threads(), most) - 1
        if helpers <= 0:
            kernel(place)
            return
        done: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        asked = 0
        failures: list[BaseException] = []
        try:
            for _ in range(self._started(helpers)):
                self.work.put((kernel, place, done))
                asked += 1
            kernel(place)
        finally:
            # Whatever ends this call, no helper may go on writing after it.
            while asked:
                try:
                    failure = done.get()
                    asked -= 1
                except BaseException as error:
                    failure = error
                if failure is not None:
                    failures.append(failure)
        if failures:
            raise failures[0]

    def _started(self, wanted: int) -> int:
        """Start helpers until there are so many, and return how many there are: fewer where the system gives no more."""
        with self.lock:
            while self.threads < wanted:
                try:
                    threading.Thread(target=self._serve, args=(self.work,), name="steepest", daemon=True).start()
                except (RuntimeError, MemoryError):
                    break
                self.threads += 1
            return min(self.threads, wanted)

    @staticmethod
    def _serve(work: queue.SimpleQueue[Any]) -> None:
        while True:
            kernel, place, done = work.get()
            failure = None
            try:
                kernel(place)
            except BaseException as error:
                failure = error
            done.put(failure)
            del kernel, done


@cache
def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


own_threads = _Pool()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=own_threads.__init__)  # type: ignore[misc]  # threads do not survive a fork
