"""Whether tensors are as they were at the last step, found out in a few calls for all of them.

Anybody may give a parameter other memory (``p.data = …``, ``model.to(…)``) or a group other parameters between two steps. So
each step compares: the very tensors of each group, where they begin in memory, and how they are laid out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import is_not
from typing import Any

import torch
from torch.nn.parameter import is_lazy

from steepest.torch.sharding import is_sharded, pointers_of

__all__ = ["Alike", "Parameters"]


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
    forms = [(p.shape, p.stride(), p.dtype) for p in params]
    return lambda tensors: all((p.shape, p.stride(), p.dtype) == form for p, form in zip(tensors, forms, strict=True))


def _guards(tensors: Sequence[torch.Tensor]) -> Any:
    try:
        from torch._C._dynamo.guards import TensorGuards

        sizes, strides = [list(t.shape) for t in tensors], [list(t.stride()) for t in tensors]
        make: Any = TensorGuards  # whose stub leaves out one level of lists
        return make(*tensors, dynamic_dims_sizes=sizes, dynamic_dims_strides=strides)
    except (ImportError, TypeError, RuntimeError):
        return None
