"""What the processes of a distributed training agree on; a single process agrees with itself."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from steepest.monitor.facts import process_of

__all__ = ["largest", "newest_of_all", "own_folder", "rank_and_size", "worst"]


def rank_and_size() -> tuple[int, int]:
    """Which of how many processes this is."""
    distributed = _distributed()
    return process_of() if distributed is None else (distributed.get_rank(), distributed.get_world_size())


def own_folder(folder: str | PathLike[str] | None) -> Path | None:
    """Each of several processes has a folder of its own in it."""
    if folder is None:
        return None
    rank, size = rank_and_size()
    return Path(folder) / f"process-{rank}" if size > 1 else Path(folder)


def worst(verdict: int) -> int:
    """The largest of the verdicts of all processes."""
    return largest([verdict])[0]


def largest(numbers: Sequence[int]) -> list[int]:
    """The largest of each number over all processes."""
    distributed = _distributed()
    if distributed is None:
        return list(numbers)
    found = _tensor(list(numbers))
    distributed.all_reduce(found, distributed.ReduceOp.MAX)
    return [int(number) for number in found.tolist()]


def newest_of_all(numbers: Iterable[int], most: int) -> int | None:
    """The largest number that every process has among its ``most`` largest; None where there is none."""
    own = sorted(numbers, reverse=True)[:most]
    distributed = _distributed()
    if distributed is None:
        return own[0] if own else None
    padded = _tensor(own + [-1] * (most - len(own)))
    found = [padded.clone() for _ in range(distributed.get_world_size())]
    distributed.all_gather(found, padded)
    common = set.intersection(*({int(n) for n in one} for one in found)) - {-1}
    return max(common, default=None)


def _distributed() -> Any:
    """torch's module, where several processes train together."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return None
    return torch.distributed if torch.distributed.get_world_size() > 1 else None


def _tensor(numbers: list[int]) -> Any:
    import torch

    device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
    return torch.tensor(numbers, dtype=torch.int64, device=device)
