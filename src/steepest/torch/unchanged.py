"""Whether tensors are as they were at the last step, found out in a few calls for all of them.

Anybody may give a parameter other memory (``p.data = …``, ``model.to(…)``) or a group other parameters between two steps. So
each step compares: the very tensors of each group, where they begin in memory, and how they are laid out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import is_not
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.parameter import is_lazy

from steepest.torch.sharding import is_sharded, local_part, pointers_of

__all__ = ["Alike", "Memory", "Parameters", "extent", "form_of"]


class Parameters:
    """The parameters of some groups as they were when they were looked at last: which they are, and where they lie.

    Parameters of lazy modules have no memory before the first forward pass. They wait until then, and the others are in ``all``.
    """

    def __init__(self, groups: Sequence[list[torch.Tensor]] = ()) -> None:
        self.groups = groups
        every = [p for group in groups for p in group]
        self.all = [p for p in every if not is_lazy(p)]
        self.waiting = [*filter(is_lazy, every)]
        self.look()

    def look(self) -> None:
        """Take them as they lie now."""
        self.sharded = any(map(is_sharded, self.all))
        self.pointers = pointers_of(self.all, self.sharded)
        self.laid_out = Alike(_laid_out_as(self.all))
        local = [*map(local_part, self.all)] if self.sharded else self.all
        self.sizes = np.array([extent(p) for p in local], dtype=np.int64)
        self.widths = np.array([p.element_size() for p in local], dtype=np.int64)
        self.memory = Memory(self.pointers, self.sizes)

    def are_those_of(self, groups: Sequence[Mapping[str, Any]]) -> bool:
        """Whether groups hold the same parameters, and those that wait for memory still do."""
        if len(groups) != len(self.groups) or not all(map(is_lazy, self.waiting)):
            return False
        for group, own in zip(groups, self.groups, strict=True):
            params = group["params"]
            if len(params) != len(own) or any(map(is_not, params, own)):
                return False
        return True

    def lie_as_before(self) -> bool:
        """Whether they are where they were, and laid out as they were."""
        return pointers_of(self.all, self.sharded) == self.pointers and self.laid_out(self.all)

    def have_moved(self) -> bool:
        """Whether they lie elsewhere but in the same form, each in memory of its own; if so, take them as they lie now."""
        if self.sharded or not self.laid_out(self.all):
            return False
        pointers = pointers_of(self.all, self.sharded)
        memory = Memory(pointers, self.sizes)
        if memory.overlaps() or (np.array(pointers, dtype=np.int64) % self.widths).any():
            return False
        self.pointers, self.memory = pointers, memory
        return True


class Memory:
    """Stretches of memory that tensors occupy, from where they begin and how many bytes they reach."""

    def __init__(self, pointers: Sequence[int], sizes: NDArray[np.int64]) -> None:
        starts = np.array(pointers, dtype=np.int64)
        order = np.argsort(starts, kind="stable")
        order = order[sizes[order] > 0]
        self.starts, self.ends = starts[order], starts[order] + sizes[order]

    @classmethod
    def of(cls, tensors: Sequence[torch.Tensor]) -> Memory:
        """The memory of tensors, or of this process's parts of them."""
        local = [local_part(t.detach()) for t in tensors]
        return cls([t.data_ptr() for t in local], np.array([extent(t) for t in local], dtype=np.int64))

    def overlaps(self) -> bool:
        """Whether two of the stretches do."""
        return bool((self.starts[1:] < self.ends[:-1]).any())

    def touched_by(self, starts: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of these stretches overlap one of the tensors'."""
        if not len(self.ends):
            return np.zeros(len(starts), dtype=bool)
        next_one = np.searchsorted(self.ends, starts, side="right")
        inside = next_one < len(self.ends)
        return inside & (self.starts[np.minimum(next_one, len(self.starts) - 1)] < starts + sizes) & (sizes > 0)


def extent(tensor: torch.Tensor) -> int:
    """Bytes from a tensor's first element to behind its last; 0 for an empty one."""
    reach = sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True))
    return (reach + 1) * tensor.element_size() if tensor.numel() else 0


class Alike:
    """Remembers the form of tensors that a test has found good: others of the same form are good without the test.

    torch's own guards compare type, device, shape, strides and lazy flags of hundreds of tensors in a few microseconds.
    Where this torch has none, every call tests.
    """

    def __init__(self, test: Callable[[Sequence[torch.Tensor]], bool]) -> None:
        self.test = test
        self.guards: Any = None

    def __call__(self, tensors: Sequence[torch.Tensor]) -> bool:
        if self.guards is not None and self.guards.check(*tensors):
            return True
        good = self.test(tensors)
        self.guards = _guards(tensors) if good and tensors else None
        return good


def _laid_out_as(params: Sequence[torch.Tensor]) -> Callable[[Sequence[torch.Tensor]], bool]:
    """The test whether tensors have the shapes, strides and types that these have now. It keeps none of them alive."""
    forms = [form_of(p) for p in params]
    return lambda tensors: all(form_of(p) == form for p, form in zip(tensors, forms, strict=True))


def form_of(tensor: torch.Tensor) -> tuple[Any, ...]:
    """How a tensor lies in memory, wherever that is."""
    return tensor.shape, tensor.stride(), tensor.dtype, tensor.device


def _guards(tensors: Sequence[torch.Tensor]) -> Any:
    try:
        from torch._C._dynamo.guards import TensorGuards

        sizes, strides = [list(t.shape) for t in tensors], [list(t.stride()) for t in tensors]
        make: Any = TensorGuards  # whose stub leaves out one level of lists
        return make(*tensors, dynamic_dims_sizes=sizes, dynamic_dims_strides=strides)
    except (ImportError, TypeError, RuntimeError):
        return None
