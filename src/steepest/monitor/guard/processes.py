"""What the processes of a distributed training agree on; a single process agrees with itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from steepest.monitor.ranks import distributed, rank_and_size

__all__ = ["largest", "newest_of_all", "own_folder", "worst"]


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
    together = _together()
    if together is None:
        return list(numbers)
    found = _tensor(list(numbers))
    together.all_reduce(found, together.ReduceOp.MAX)
    return [int(number) for number in found.tolist()]


def newest_of_all(numbers: Iterable[int], most: int) -> int | None:
    """The largest number that every process has among its ``most`` largest; None where there is none."""
    own = sorted(numbers, reverse=True)[:most]
    together = _together()
    if together is None:
        return own[0] if own else None
    padded = _tensor(own + [-1] * (most - len(own)))
    found = [padded.clone() for _ in range(together.get_world_size())]
    together.all_gather(found, padded)
    common = set.intersection(*({int(n) for n in one} for one in found)) - {-1}
    return max(common, default=None)


def _together() -> Any:
    """torch's module, where several processes train together."""
    module = distributed()
    return module if module is not None and module.get_world_size() > 1 else None


def _tensor(numbers: list[int]) -> Any:
    import torch

    device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
    return torch.tensor(numbers, dtype=torch.int64, device=device)
