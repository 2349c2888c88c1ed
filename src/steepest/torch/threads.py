"""The step on torch's own threads.

After a backward pass the threads of torch's OpenMP library spin for some milliseconds, waiting for more work, on the very
cores that other threads would need. So the kernel is handed to them: through ``GOMP_parallel``, the call that compiled
OpenMP code makes, found in the library that this torch has loaded. Where there is none (macOS, Windows), in a forked child, and
where the numbers of threads differ, the engine's own threads do it.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache
from typing import Any

import torch

from steepest.engines.numba.engine import CpuEngine
from steepest.engines.numba.kernels import Kernel
from steepest.engines.numba.threads import own_threads

__all__ = ["engine"]


class _TorchThreads:
    """Runs kernels on torch's threads, as many as torch uses itself."""

    def __init__(self, parallel: Any, process: int) -> None:
        self.parallel, self.process = parallel, process

    def run(self, kernel: Kernel, place: int, most: int) -> None:
        threads = torch.get_num_threads()
        if most <= 1 or threads == 1:
            kernel(place)
        elif "STEEPEST_NUM_THREADS" in os.environ or os.getpid() != self.process:
            own_threads.run(kernel, place, most)
        else:
            self.parallel(kernel.address, place, threads, 0)


@cache
def engine(process: int) -> CpuEngine:
    """The cpu engine on torch's threads, or on its own if torch has none that can be used.

    ``process`` is the id of the process that imported this package. In a forked child of it, torch's threads don't exist.
    """
    try:
        parallel = ctypes.CDLL(torch._C.__file__).GOMP_parallel
    except (OSError, AttributeError):
        return CpuEngine()
    parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    parallel.restype = None
    return CpuEngine(_TorchThreads(parallel, process))
