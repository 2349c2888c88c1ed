"""Which of how many processes of a distributed training this one is, whatever started them.

`torch.distributed` decides where it is initialised. Before that, and without torch, the launcher's environment does. Imports
nothing of the package, and torch only where it is imported already.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from typing import Any

__all__ = ["distributed", "is_open", "launched_as", "rank_and_size"]

_LAUNCHERS = (
    ("RANK", ("WORLD_SIZE",)),  # torchrun, accelerate, deepspeed
    ("SLURM_PROCID", ("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS")),
    ("OMPI_COMM_WORLD_RANK", ("OMPI_COMM_WORLD_SIZE",)),  # Open MPI
    ("PMI_RANK", ("PMI_SIZE",)),  # MPICH, Intel MPI
)
"""The variable that each launcher sets to the rank, and those of which the first that is set is the number of processes."""


def rank_and_size() -> tuple[int, int]:
    """This process's rank and the number of processes; (0, 1) for a process on its own."""
    torch = distributed()
    if torch is not None:
        return torch.get_rank(), torch.get_world_size()
    return launched_as() or (0, 1)


def distributed() -> Any:
    """The module ``torch.distributed`` where it is initialised, else None."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return None
    return torch.distributed


def launched_as() -> tuple[int, int] | None:
    """Rank and size as a launcher's environment gives them; None where it gives none. Empty values count as missing."""
    for rank_name, size_names in _LAUNCHERS:
        rank, size = _number(rank_name), next((n for n in map(_number, size_names) if n is not None), None)
        if rank is not None and size is not None and rank < size:
            return rank, size
    local, size = _number("LOCAL_RANK"), _number("WORLD_SIZE")
    if local is None or size is None:
        return None
    node, on_node = _number("NODE_RANK") or 0, _number("LOCAL_WORLD_SIZE") or size
    rank = node * on_node + local  # of nodes whose size is not given all ranks differ, but some numbers are skipped
    return rank, max(size, rank + 1)


def is_open() -> bool:
    """Whether this process may still get a rank: a child process, as of `torch.multiprocessing.spawn`, with none so far."""
    return multiprocessing.parent_process() is not None and distributed() is None and launched_as() is None


def _number(name: str) -> int | None:
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() else None
