"""Sharded parameters (DTensor): which part of a tensor this process has, and who has the others.

Of a parameter that is sharded over a mesh (FSDP2's ``fully_shard``, tensor parallelism) each process steps its own part.
Only sums over a whole tensor, a whole unit or the whole model need the others: `reduce` adds the partial sums of all tensors
up in one small all-reduce per mesh and barrier. No parameter is ever gathered.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import torch

__all__ = ["check_placements", "is_sharded", "local_part", "placed_as", "shared_by"]


def is_sharded(tensor: Any) -> bool:
    """Whether a tensor is a DTensor."""
    return hasattr(tensor, "placements") and hasattr(tensor, "device_mesh")


def local_part(tensor: torch.Tensor) -> torch.Tensor:
    """The part of a tensor that lies in this process: all of it, unless it is sharded."""
    if not is_sharded(tensor):
        return tensor
    with torch.no_grad():
        return tensor.to_local()  # type: ignore[attr-defined,no-any-return]  # a DTensor's


def shared_by(param: torch.Tensor) -> tuple[Hashable, Hashable]:
    """Who has the other parts of this tensor, and of this tensor's units: the mesh dimensions along which it is cut."""
    return (), ()


def check_placements(what: str, name: str, param: torch.Tensor, grad: torch.Tensor) -> None:
    """Raise unless a gradient is cut as its parameter is."""
    if is_sharded(param) != is_sharded(grad):
        raise TypeError(
            f"{what}: parameter {name!r} is {type(param).__name__}, its gradient {type(grad).__name__}. Both "
            f"or none must be sharded."
        )


def placed_as(value: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A whole tensor, cut as another one is; one that is cut already as it is."""
    if not is_sharded(like) or is_sharded(value):
        return value
    from torch.distributed.tensor import distribute_tensor

    mesh, placements = like.device_mesh, like.placements  # type: ignore[attr-defined]  # a DTensor's
    return distribute_tensor(value.to(like.device), mesh, placements, src_data_rank=None)
