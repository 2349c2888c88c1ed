"""Processes: who this one is, whether another still lives, one thread each, and interrupts that come at a moment that suits.

A process is named by its machine, its id and the time it started, so that a number which the system has given out again is
not taken for the one that died.
"""

from __future__ import annotations

import functools
import os
import signal
import socket
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypedDict

__all__ = [
    "THREADS", "Process", "cores", "interrupts_blocked", "leave_interrupts_to_the_parent", "lives",
    "one_thread", "this_machine", "this_process"
]  # fmt: skip

THREADS = 1
"""Of a process that runs jobs, see `one_thread`."""


class Process(TypedDict):
    """A process as it is stored: the machine that it runs on, its id and its start, and the same of the one it works for."""

    machine: str
    pid: int
    started: int
    parent: tuple[int, int] | None


@functools.cache
def this_machine() -> str:
    """Where process ids mean the same: host name, boot and pid namespace. Without Linux's /proc, a name that is nobody else's."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()} {boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return f"{socket.gethostname()} {uuid.uuid4()}"


def this_process(parent: tuple[int, int] | None = None) -> Process:
    """This process, working for ``parent`` (an id and a start) or for nobody."""
    return {"machine": this_machine(), "pid": os.getpid(), "started": started(os.getpid()) or 0, "parent": parent}


def started(pid: int) -> int | None:
    """When a process of this machine started, in the kernel's ticks; None where it is gone, or dead and not yet waited for."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else int(fields[18])


def lives(pid: int, since: int) -> bool:
    """Whether the process of this machine with that id and that start is still there."""
    return started(pid) == since


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread per process: as many jobs as cores are faster than threads, and the same numbers come out however many
    processes work. Holds for libraries that are loaded already and, through the environment, for children."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it comes without types

    settings = dict.fromkeys(
        ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "STEEPEST_NUM_THREADS"), str(THREADS)
    )
    before = {name: os.environ.get(name) for name in settings}
    with ExitStack() as stack:
        os.environ.update(settings)
        stack.callback(_restore, before)
        stack.enter_context(threadpool_limits(THREADS))
        if torch := sys.modules.get("torch"):
            stack.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(THREADS)
        yield


def _restore(before: dict[str, str | None]) -> None:
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@contextmanager
def interrupts_blocked() -> Iterator[None]:
    """An interrupt waits for the end of the block; processes started in it are born without them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def cores() -> int:
    """How many processes can work at once here."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def leave_interrupts_to_the_parent() -> None:
    """In a process of a pool: an interrupt ends the parent's work, and the parent the pool."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
