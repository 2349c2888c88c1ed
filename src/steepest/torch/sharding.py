"""Sharded parameters (DTensor): which part of a tensor this process has, and who has the others.

Of a parameter that is sharded over a mesh (FSDP2's ``fully_shard``, tensor parallelism) each process steps its own part.
Only sums over a whole tensor, a whole unit or the whole model need the others: `share` adds the partial sums of all tensors
up in one small all-reduce per mesh and barrier. No parameter is ever gathered.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import distributed

from steepest.engines.executor import Part
from steepest.language.operations import REDUCTIONS

__all__ = ["check_placements", "cuts_of", "is_sharded", "layout_of", "local_part", "placed_as", "pointers_of", "share"]


class _Holders(NamedTuple):
    """A group of processes that hold the parts of a tensor, and where they exchange numbers."""

    group: Any
    device_type: str


def is_sharded(tensor: Any) -> bool:
    """Whether a tensor is a DTensor."""
    return hasattr(tensor, "placements") and hasattr(tensor, "device_mesh")


def local_part(tensor: torch.Tensor) -> torch.Tensor:
    """The part of a tensor that lies in this process: all of it, unless it is sharded."""
    if not is_sharded(tensor):
        return tensor
    with torch.no_grad():
        return tensor.to_local()  # type: ignore[attr-defined,no-any-return]  # a DTensor's


def pointers_of(tensors: Sequence[torch.Tensor], sharded: bool) -> list[int]:
    """Where the tensors, or this process's parts of them, begin in memory."""
    return [*map(torch.Tensor.data_ptr, map(local_part, tensors) if sharded else tensors)]


def cuts_of(what: str, name: str, param: torch.Tensor) -> tuple[tuple[Hashable, int], ...]:
    """Who holds the other parts of a parameter: a group of processes for each mesh dimension that it is cut over, with the
    tensor's dimension that is cut."""
    layout = layout_of(param)
    if layout is None:
        return ()
    mesh, placements = layout
    partial = [p for p in placements if p.is_partial()]
    if partial:
        raise TypeError(
            f"{what}: parameter {name!r} must have the placements Shard or Replicate, got {partial[0]}. Redistribute it: a "
            f"partial sum isn't a weight."
        )
    return tuple(
        (_Holders(mesh.get_group(n), mesh.device_type), p.dim) for n, p in enumerate(placements) if p.is_shard()
    )


def check_placements(what: str, name: str, param: torch.Tensor, grad: torch.Tensor) -> None:
    """Raise unless a gradient is cut as its parameter is."""
    if is_sharded(param) != is_sharded(grad):
        raise TypeError(
            f"{what}: parameter {name!r} is a {type(param).__name__} and its gradient a {type(grad).__name__}. Shard both or "
            f"neither."
        )
    given, allowed = layout_of(grad), layout_of(param)
    if given is not None and allowed is not None and given != allowed:
        raise TypeError(
            f"{what}: the gradient of {name!r} must have its parameter's placements, {allowed[1]}, got {given[1]}. "
            f"Redistribute it: grad.redistribute(placements=param.placements)."
        )


def placed_as(value: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A whole tensor, cut as another one is; one that is cut already, cut again where it differs."""
    layout = layout_of(like)
    if layout is None:
        return value
    mesh, placements = layout
    if is_sharded(value):
        cut: Any = value
        return value if layout_of(value) == layout_of(like) else cut.redistribute(mesh, placements)
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(like.device), mesh, placements, src_data_rank=None)


def share(parts: Sequence[Part]) -> list[NDArray[np.float64]]:
    """Join parts over processes: one all-reduce for all reductions of one kind over the same groups."""
    found: list[NDArray[np.float64]] = [part.value for part in parts]
    together: dict[tuple[Hashable, ...], list[int]] = {}
    for number, part in enumerate(parts):
        together.setdefault((part.op, *part.holders), []).append(number)
    for numbers in together.values():
        first = parts[numbers[0]]
        joined = torch.from_numpy(np.concatenate([parts[n].value for n in numbers]))
        for holders in first.holders:
            assert isinstance(holders, _Holders)
            joined = _all_reduce(joined, first.op, holders)
        sizes = np.cumsum([len(parts[n].value) for n in numbers])[:-1]
        for n, total in zip(numbers, np.split(joined.numpy(), sizes), strict=True):
            found[n] = total
    return found


def _all_reduce(values: torch.Tensor, op: str, holders: _Holders) -> torch.Tensor:
    """Joined over a group of processes."""
    there = values.to(holders.device_type)
    distributed.all_reduce(there, getattr(distributed.ReduceOp, REDUCTIONS[op].collective), holders.group)
    return there.to(values.device)


def layout_of(tensor: Any) -> tuple[Any, tuple[Any, ...]] | None:
    """A sharded tensor's mesh and placements."""
    return (tensor.device_mesh, tuple(tensor.placements)) if is_sharded(tensor) else None
