"""What an engine is given: tensors with their buffers, and the interface that it answers with."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from steepest.plan.plan import Plan, Program

__all__ = ["Bound", "Engine", "Tensor", "like_param"]


def like_param(tensor: Tensor, name: str, copy: bool, value: float) -> NDArray[Any]:
    """A new state in the parameter's layout: a copy of the parameter, or filled with a number."""
    param: NDArray[Any] = tensor.param
    if copy:
        made = np.empty_like(param)
        made[...] = param
        return made
    return np.zeros_like(param) if value == 0 else np.full_like(param, value)


@dataclass(slots=True, eq=False)
class Tensor:
    """One parameter with everything that belongs to it, or this process's part of it.

    ``buffers`` holds ``param``, ``grad`` (set again at every step) and the states, all arrays of one framework; ``host`` the
    step count and the host states, by name. ``shape`` is the whole parameter's. ``allocate`` makes a state. ``cuts`` tells
    who holds the other parts: groups of processes, each with the dimension along which the parameter is cut among them.
    ``of_type`` is the parameter's type where engines see another, as of complex numbers.
    """

    name: str
    index: int
    buffers: dict[str, Any]
    host: dict[str, float] = field(default_factory=dict)
    allocate: Callable[[Tensor, str, bool, float], Any] = like_param
    shape: tuple[int, ...] = ()
    cuts: tuple[tuple[Hashable, int], ...] = ()
    of_type: str = ""

    def __post_init__(self) -> None:
        self.shape = self.shape or tuple(self.param.shape)

    @property
    def param(self) -> Any:
        return self.buffers["param"]

    @property
    def dtype(self) -> str:
        """The name of the parameter's type; NumPy has none for bfloat16, whose bits it sees as uint16."""
        name = self.of_type or str(self.param.dtype).removeprefix("torch.")
        return "bfloat16" if name == "uint16" else name

    @property
    def dtypes(self) -> tuple[Any, ...]:
        """The types that a program is compiled for: the parameter's, and the gradient's of this step where it is another."""
        own, grad = self.param.dtype, self.buffers.get("grad")
        return (own,) if grad is None or grad.dtype == own else (own, grad.dtype)

    def holders(self, unit_axis: int | None = None) -> tuple[Hashable, ...]:
        """The groups of processes whose sums make one of this tensor's, or one of its units'."""
        if unit_axis is None or len(self.shape) <= 1:
            return tuple(group for group, _ in self.cuts)
        return tuple(group for group, dim in self.cuts if dim != unit_axis % len(self.shape))

    def units(self) -> int:
        """How many units along dimension 0 this process has a part of: one of a tensor of at most one dimension."""
        return int(self.param.shape[0]) if len(self.shape) > 1 else 1


class Bound(Protocol):
    """A program bound to tensors: `run` a stage, then ask for what it reduced."""

    tensors: list[Tensor]

    def bind_gradients(self, addresses: NDArray[np.int64] | None = None) -> None:
        """Look at the tensors' gradients again, or take their addresses (by index) as given."""

    def bind_params(self, addresses: NDArray[np.int64]) -> None:
        """Use the tensors' parameters where they lie now, at these addresses by index; their form is the same."""

    def run(self, stage: int, scalars: NDArray[np.float64]) -> dict[int, float]:
        """Run one stage. ``scalars[row]`` holds the program's scalars; returns its partial MODEL reductions."""

    def tensor_reductions(self, indices: Sequence[int]) -> dict[int, NDArray[np.float64]]:
        """The values of TENSOR reductions for every tensor, after their stages have run, read from a device at once."""

    def parts(self, index: int) -> list[NDArray[np.float64]]:
        """A TENSOR or UNIT reduction of every tensor, after its stage has run: one number, or one for each unit."""

    def join(self, index: int, totals: list[NDArray[np.float64]]) -> None:
        """Put what the parts of all processes come to in the place of this one's."""


class Engine(Protocol):
    """Binds programs to tensors; ``rows[i]`` is the row of scalars that tensor i uses."""

    addresses_suffice: bool
    """Whether a step needs only the addresses of gradients that have their parameters' form, no Python object for each."""

    @staticmethod
    def can_run(plan: Plan, tensor: Tensor) -> bool:
        """Whether the engine can step a tensor: its type, its layout, the dimensions that the plan's units number."""

    def bind(self, program: Program, tensors: list[Tensor], rows: list[int]) -> Bound: ...
