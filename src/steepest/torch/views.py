"""A torch parameter and its states, and the buffers that engines see of them: the same memory, never a copy.

Strided CPU tensors of the four usual types are seen as NumPy arrays (bfloat16 as its bits), whatever their strides; every
other tensor as itself. A complex tensor is seen as real numbers, as torch's own optimizers do. Of a sharded tensor the
engines see this process's part. Parameters in 16 bits keep their states in float32: a second moment in bfloat16 with
beta2 = 0.999 would never decay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch.nn.parameter import is_lazy

from steepest.engines.tensors import Tensor
from steepest.numpy.arrays import check_memory, overlaps_itself
from steepest.plan.plan import Plan
from steepest.torch.sharding import cuts_of, local_part, placed_as
from steepest.torch.unchanged import extent

__all__ = [
    "ParamView", "Swapped", "buffer_of", "check_apart", "check_complex", "effective_strides", "held_in", "names_of",
]  # fmt: skip

SEEN_BY_NUMPY = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
NARROW = (torch.float16, torch.bfloat16)
_PLAIN, _SEEN_AS_IT_IS = {torch.Tensor, torch.nn.Parameter}, {torch.float32, torch.float64, torch.float16}


class ParamView:
    """One parameter: the torch tensors on one side, the engines' `Tensor` on the other.

    ``states`` holds the states as torch tensors by name; ``numbers`` the host numbers as they were last shown in
    ``optimizer.state``: a tensor of one element, and what it said.
    """

    __slots__ = ("numbers", "param", "states", "tensor")

    def __init__(self, what: str, name: str, param: torch.Tensor) -> None:
        check_parameter(what, name, param)
        self.param = param
        self.states: dict[str, torch.Tensor] = {}
        self.numbers: dict[str, tuple[torch.Tensor, float]] = {}
        # Given the parameter and the states, not this object: a cycle would keep both alive until the garbage collector runs.
        allocate = partial(_new_state, param, self.states)
        self.tensor = Tensor(name, 0, {"param": buffer_of(param)}, allocate=allocate, cuts=cuts_of(what, name, param))
        self.tensor.shape, self.tensor.of_type = tuple(param.shape), str(param.dtype).removeprefix("torch.")

    @property
    def state_dtype(self) -> torch.dtype:
        """The type of this parameter's states."""
        return _state_dtype(self.param)

    def has_type_of(self, buffer: Any) -> bool:
        """Whether a gradient's buffer, if there is one, is of the parameter's type."""
        return buffer is None or buffer.dtype == self.tensor.param.dtype

    def see_param(self, what: str) -> None:
        """Look at the parameter's memory again, after it has been given another: ``p.data = …``, ``model.to(…)``."""
        for name, state in self.states.items():
            if state.shape != self.param.shape:
                raise ValueError(
                    f"{what}: parameter {self.tensor.name!r} was resized from {list(state.shape)} to "
                    f"{list(self.param.shape)}; its state {name} belongs to the old shape. Clear its states, "
                    f"optimizer.state.pop(param), or make a new optimizer."
                )
        check_parameter(what, self.tensor.name, self.param)
        self.tensor.buffers["param"] = buffer_of(self.param)
        self.tensor.shape, self.tensor.of_type = tuple(self.param.shape), str(self.param.dtype).removeprefix("torch.")
        for name, state in list(self.states.items()):
            self.keep(name, state if self._fits(state) else self.laid_out(state))

    def laid_out(self, value: torch.Tensor) -> torch.Tensor:
        """A copy of a state from elsewhere, in this parameter's layout, type and place."""
        made = torch.empty_like(self.param.detach(), dtype=self.state_dtype)
        return made.copy_(placed_as(value.detach(), made))

    def _fits(self, value: torch.Tensor) -> bool:
        like = self.param.detach()
        same = value.dtype == self.state_dtype and value.device == like.device and type(value) is type(like)
        return same and effective_strides(value.shape, value.stride()) == effective_strides(like.shape, like.stride())

    def keep(self, name: str, value: torch.Tensor) -> None:
        """Make a tensor a state of this parameter: the tensor itself where its layout suits, else a copy."""
        if value.shape != self.param.shape:
            raise ValueError(
                f"the state {name} of parameter {self.tensor.name!r} must have its parameter's shape, {list(self.param.shape)}, "
                f"got {list(value.shape)}."
            )
        self.states[name] = value if self._fits(value) else self.laid_out(value)
        self.tensor.buffers[name] = buffer_of(self.states[name])

    def prune(self) -> None:
        """Drop the states that a step has started which then did not happen."""
        for name in self.states.keys() - self.tensor.buffers.keys():
            del self.states[name]

    def forget(self) -> None:
        """Drop all states: the next step starts new ones."""
        self.states.clear()
        self.numbers = {}
        self.tensor.host, self.tensor.buffers = {}, {"param": self.tensor.param}


def _state_dtype(param: torch.Tensor) -> torch.dtype:
    return torch.float32 if param.dtype in NARROW else param.dtype


def _new_state(
    param: torch.Tensor, states: dict[str, torch.Tensor], tensor: Tensor, name: str, copy: bool, value: float
) -> Any:
    """Make a state of a parameter, put it among its states, and return the engines' view of it."""
    like, dtype = param.detach(), _state_dtype(param)
    if copy:
        made = torch.empty_like(like, dtype=dtype).copy_(like)
    else:
        start = complex(value, value) if dtype.is_complex else value
        made = torch.full_like(like, start, dtype=dtype) if value else torch.zeros_like(like, dtype=dtype)
    states[name] = made
    return buffer_of(made)


def held_in(what: str, groups: Sequence[Mapping[str, Any]], known: Sequence[ParamView]) -> list[list[ParamView]]:
    """Each group's parameters, by their names or their places over all groups; of those that are known, what is known.

    Parameters of lazy modules that have no memory yet are left out.
    """
    by_param = {id(one.param): one for one in known}
    names, taken = names_of(groups), dict[int, str]()
    for name, param in zip(names, (p for group in groups for p in group["params"]), strict=True):
        if id(param) in taken:
            raise ValueError(
                f"{what}: parameters {taken[id(param)]!r} and {name!r} are the same tensor. Pass it once: "
                f"model.parameters() lists tied weights once."
            )
        taken[id(param)] = name
    found = [
        [by_param.get(id(p)) or ParamView(what, taken[id(p)], p) for p in group["params"] if not is_lazy(p)]
        for group in groups
    ]
    held = [one for row in found for one in row]
    check_apart(what, held)
    for one in held:
        one.tensor.name = taken[id(one.param)]
    return found


def names_of(groups: Sequence[Mapping[str, Any]]) -> list[str]:
    """The name of each parameter of all groups: its own, or its place."""
    names: list[str] = []
    for group in groups:
        names += group.get("param_names") or map(str, range(len(names), len(names) + len(group["params"])))
    return names


class Swapped:
    """Parameters that hold a state of theirs in place of their weights, until `undo` puts the weights back."""

    def __init__(self, held: Sequence[ParamView], name: str) -> None:
        self.held = held
        self.weights = [one.param.detach().clone() for one in held]
        try:
            for one in held:
                one.param.copy_(one.states[name])
        except BaseException:
            self.undo()
            raise

    def undo(self) -> None:
        """Put the weights back. Whatever was written to the parameters meanwhile is lost."""
        for one, weights in zip(self.held, self.weights, strict=True):
            one.param.copy_(weights)


def buffer_of(tensor: torch.Tensor) -> Any:
    """What engines see of a tensor: the same memory."""
    plain = type(tensor) in _PLAIN and tensor.is_cpu and tensor.layout is torch.strided
    if plain and tensor.dtype in _SEEN_AS_IT_IS:  # nearly all, and without delay
        return tensor.detach().numpy()
    seen = local_part(tensor.detach())
    if seen.is_complex():
        seen = torch.view_as_real(seen)
        if seen.ndim == 2:  # one dimension is one unit, whatever its stride
            seen = seen.unsqueeze(0)
    if seen.device.type != "cpu" or seen.layout != torch.strided or type(seen) is not torch.Tensor:
        return seen
    if seen.dtype not in SEEN_BY_NUMPY:
        return seen
    if seen.dtype == torch.bfloat16:
        return seen.view(torch.int16).numpy().view(np.uint16)
    return seen.numpy()


def effective_strides(shape: Any, strides: Any) -> tuple[int, ...]:
    """Strides of the dimensions that are longer than 1; the others' say nothing."""
    return tuple(s for n, s in zip(shape, strides, strict=True) if n > 1)


def check_parameter(what: str, name: str, param: torch.Tensor) -> None:
    """Raise for a parameter that can't be stepped in place."""
    if not (param.is_floating_point() or param.is_complex()):
        raise TypeError(
            f"{what}: parameter {name!r} must have a floating-point or complex dtype, got {param.dtype}. "
            f"Leave it out: [p for p in model.parameters() if p.is_floating_point()]."
        )
    if param.layout != torch.strided:
        raise TypeError(f"{what}: parameter {name!r} must have the layout torch.strided, got {param.layout}.")
    local = local_part(param)
    if local.numel() > 1 and any(s == 0 for s in effective_strides(local.shape, local.stride())):
        raise ValueError(f"{what}: parameter {name!r} repeats elements (stride 0). Copy it: param.clone().")
    if overlaps_itself(local.shape, local.stride()):
        raise ValueError(
            f"{what}: parameter {name!r} must have memory of its own for each element, got strides {tuple(local.stride())}. "
            f"Copy it: param.contiguous().clone()."
        )


def is_simple(group: Mapping[str, Any]) -> bool:
    """Whether a group has neither schedules nor complex, sharded or wrapped parameters."""
    values = [v for value in group.values() for v in (value if isinstance(value, tuple) else (value,))]
    return not any(map(callable, values)) and all(type(p) in _PLAIN and not p.is_complex() for p in group["params"])


def check_added(what: str, groups: Sequence[Mapping[str, Any]]) -> None:
    """Raise for a parameter of the last group that can't be stepped in place."""
    group, before = groups[-1], sum(len(one["params"]) for one in groups[:-1])
    for number, param in enumerate(group["params"]):
        check_parameter(what, group["param_names"][number] if "param_names" in group else str(before + number), param)


def check_complex(what: str, held: ParamView, own: Plan) -> None:
    """Refuse what a complex parameter, seen as real numbers, would not mean: units along another dimension than the first,
    and norms other than the Euclidean."""
    if not held.param.is_complex():
        return
    complex_one = f"the complex parameter {held.tensor.name!r}"
    axes = [axis for axis in own.program(own.usual).axes if axis != 0]
    if axes and held.param.ndim > 1:
        raise ValueError(
            f"{what}: units of {complex_one} must lie along dimension 0, got {axes[0]} in {own.trace.chain.brief}."
        )
    for link in own.trace.chain:
        order = dict(link.structure).get("norm_type", 2.0)
        if order != 2.0:
            raise ValueError(f"{what}: norm_type of {link.written} must be 2 for {complex_one}, got {order!r}.")


def check_apart(what: str, held: Sequence[ParamView]) -> None:
    """Refuse parameters that share memory: it would be updated twice."""
    check_memory(what, [one.tensor for one in held if isinstance(one.tensor.param, np.ndarray)])
    elsewhere = [
        one for one in held if not isinstance(one.tensor.param, np.ndarray) and one.param.device.type != "meta"
    ]
    ranges = sorted(
        (str(p.device), p.data_ptr(), p.data_ptr() + extent(p), one.tensor.name)
        for one in elsewhere
        for p in [local_part(one.param.detach())]
        if p.layout == torch.strided and p.numel() == extent(p) // p.element_size()
    )
    for (device, _, end, name), (other_device, start, _, other) in pairwise(ranges):
        if device == other_device and start < end:
            raise ValueError(
                f"{what}: parameters {name!r} and {other!r} share memory. Pass the whole tensor, or copy one of them."
            )
