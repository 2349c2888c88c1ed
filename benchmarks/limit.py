"""The limit: how long a step's bytes alone take, moved by plain streaming kernels; shared by the benchmarks of all front ends.

A plan says which buffers each of its passes reads and writes. The kernels here read and write as many of the same size, in
place, pass by pass, on as many threads, and compute next to nothing. A step as fast as this has nothing left to gain but bytes.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numba
import numpy as np

import steepest
from steepest.engines.numba.threads import number_of_threads
from steepest.language.expression import Rate
from steepest.plan.plan import Plan, Program

TENSORS, SHAPE = 25, (1000, 1000)
"""The tensors on which steps are compared with the limit: too large for any cache."""
BUFFERS = 6
"""Buffers per tensor that a pool has for the limit: as many as a step of any rule here touches."""


def limits_of(plan: Plan, pool: list[list[np.ndarray]], period: int) -> tuple[list[Callable[[], None]], float]:
    """The limits of the steps of one period, the last of which is another program, and the mean of their bytes per parameter."""
    itemsize = pool[0][0].itemsize
    programs = [plan.program(plan.usual)] * period
    if period > 1:
        programs[-1] = plan.program((True,))
    mean = sum(program.bytes_per_parameter(itemsize) for program in programs) / period
    return [limit_of(program, pool) for program in programs], mean


_KERNELS: dict[tuple[int, int], Callable[..., Any]] = {}
_THREADS = ThreadPoolExecutor(max(1, number_of_threads() - 1))


def limit_of(program: Program, pool: list[list[np.ndarray]]) -> Callable[[], None]:
    """A function that moves the bytes of one step of a program: its passes over all tensors, one after another.

    Threads take half tensors from a common list. (Numba's own threads would go on spinning when they are done, and disturb
    whatever is measured next.)
    """
    groups: list[tuple[set[str], set[str]]] = [(set(), set())]
    for one in program.passes:
        groups[-1][0].update(one.loads)
        groups[-1][1].update(one.stores)
        if one.barrier != Rate.UNIT:
            groups.append((set(), set()))
    streams = [(len(reads - writes), len(writes)) for reads, writes in groups if reads or writes]
    one = pool[0][0].dtype.type(1e-12)
    half = pool[0][0].size // 2
    halves = [[b[lo : lo + half] for b in buffers] for buffers in pool for lo in (0, half)]

    def take(kernel: Callable[..., Any], count: int, work: Iterator[list[np.ndarray]]) -> None:
        for buffers in work:
            kernel(*buffers[:count], one)

    def run() -> None:
        for read_only, updated in streams:
            if (read_only, updated) not in _KERNELS:
                _KERNELS[read_only, updated] = streaming_kernel(read_only, updated)
            kernel = _KERNELS[read_only, updated]
            work = iter(halves)
            helpers = [_THREADS.submit(take, kernel, read_only + updated, work) for _ in range(number_of_threads() - 1)]
            take(kernel, read_only + updated, work)
            for helper in helpers:
                helper.result()

    return run


def streaming_kernel(read_only: int, updated: int) -> Callable[..., Any]:
    """``w += r0 + r1 …`` for every updated buffer w, or the sum of what is only read: nothing but the traffic of one pass."""
    reads = [f"r{i}" for i in range(read_only)]
    writes = [f"w{i}" for i in range(updated)]
    total = " + ".join(f"{r}[i]" for r in reads) or "one"
    body = [f"        {w}[i] = {w}[i] + x" for w in writes] or ["        s = add(s, x)"]
    text = (
        f"@njit(nogil=True)\ndef piece({', '.join([*reads, *writes])}, one):\n    s = one\n"
        f"    for i in range(len({(reads + writes)[0]})):\n        x = {total}\n" + "\n".join(body) + "\n    return s\n"
    )
    add = numba.njit(fastmath={"reassoc"})(lambda a, b: a + b)
    space: dict[str, Any] = {"njit": numba.njit, "add": add}
    exec(text, space)
    return space["piece"]  # type: ignore[no-any-return]  # generated


def seconds(function: Callable[[], Any]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def machine() -> str:
    """What figures of this machine must be read with."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = names[0] if names else cpu
    return (
        f"{cpu}, {number_of_threads()} threads, Python {platform.python_version()}, NumPy {np.__version__}, "
        f"Numba {numba.__version__}, steepest {steepest.__version__}"
    )
