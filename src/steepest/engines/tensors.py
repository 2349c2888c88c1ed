"""What an engine is given: tensors with their buffers, and the interface that it answers with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from steepest.plan.plan import Program

__all__ = ["Bound", "Engine", "Tensor"]


@dataclass(slots=True, eq=False)
class Tensor:
    """One parameter with everything that belongs to it.

    ``buffers`` holds ``param``, ``grad`` (set anew at every step) and the states; ``host`` the step count and the host
    states, by name.
    """

    name: str
    index: int
    buffers: dict[str, NDArray[Any]]
    host: dict[str, float] = field(default_factory=dict)

    @property
    def param(self) -> NDArray[Any]:
        return self.buffers["param"]


class Bound(Protocol):
    """A program bound to tensors: `run` a stage, then ask for what it reduced."""

    tensors: list[Tensor]

    def bind_gradients(self, addresses: NDArray[np.int64] | None = None) -> None:
        """Look at the tensors' gradients again, or take their addresses (by index) as given."""

    def run(self, stage: int, scalars: NDArray[np.float64]) -> dict[int, float]:
        """Run one stage. ``scalars[row]`` holds the program's scalars; returns its partial MODEL reductions."""

    def tensor_reduction(self, index: int) -> NDArray[np.float64]:
        """The value of a TENSOR reduction for every tensor, after its stage has run."""


class Engine(Protocol):
    """Binds programs to tensors; ``rows[i]`` is the row of scalars that tensor i uses."""

    name: str

    def bind(self, program: Program, tensors: list[Tensor], rows: list[int]) -> Bound: ...
