"""The array engine: walks a program with array operations, one tensor after another.

The reference for every other engine, and what runs a tensor that no other engine can. Each operation is one call of the
array namespace ``xp`` (NumPy here; torch and JAX have the same names), so memory is crossed once per operation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steepest.engines.tensors import Tensor
from steepest.language.expression import Expr, Rate, is_reduction
from steepest.language.operations import OPERATIONS, REDUCTIONS
from steepest.plan.evaluate import narrows, reduced
from steepest.plan.plan import Pass, Plan, Program

__all__ = ["ArrayEngine"]


class ArrayEngine:
    """Runs any dtype, any strides, any unit axis."""

    addresses_suffice = False

    @staticmethod
    def can_run(plan: Plan, tensor: Tensor) -> bool:
        return True

    def bind(self, program: Program, tensors: list[Tensor], rows: list[int]) -> _BoundArrays:
        return _BoundArrays(program, tensors, rows)


class _BoundArrays:
    def __init__(self, program: Program, tensors: list[Tensor], rows: list[int]) -> None:
        self.program, self.tensors, self.rows = program, tensors, rows
        self.reduced: list[dict[int, Any]] = [{} for _ in tensors]

    def bind_gradients(self, addresses: NDArray[np.int64] | None = None) -> None:
        self.reduced = [{} for _ in self.tensors]

    def bind_params(self, addresses: NDArray[np.int64]) -> None:
        """Nothing: each step reads the tensors' buffers."""

    def run(self, stage: int, scalars: NDArray[np.float64]) -> dict[int, float]:
        reductions = {i: REDUCTIONS[self.program.graph.nodes[i].op] for i in self.program.model_reductions[stage]}
        totals = {i: row.start for i, row in reductions.items()}
        with np.errstate(all="ignore"):
            for tensor, row, known in zip(self.tensors, self.rows, self.reduced, strict=True):
                for segment in self.program.stages[stage]:
                    for number in segment.passes:
                        self._sweep(self.program.passes[number], number, tensor, scalars[row], known)
                for i in totals:
                    totals[i] = reductions[i].join(totals[i], float(known[i]))
        return totals

    def _sweep(
        self, one: Pass, number: int, tensor: Tensor, scalars: NDArray[np.float64], known: dict[int, Any]
    ) -> None:
        program = self.program
        nodes = program.graph.nodes
        values: dict[int, Any] = {i: float(s) for i, s in zip(program.scalars, scalars, strict=True)}
        for name, at in program.stored_at.items():
            if at < number and name in one.loads:
                values[program.stores[name].index] = tensor.buffers[name]
        dtype = tensor.param.dtype
        for i in sorted({*one.slow, *one.body}):
            node = nodes[i]
            if node.op == "load":
                values[i] = tensor.buffers[node.value]
            elif is_reduction(node):
                values[i] = known[i]
            elif node.op == "as_stored":
                values[i] = np.asarray(values[node.args[0].index], dtype=dtype)
            else:
                row = OPERATIONS[node.op]
                values[i] = row.array(np, *(_argument(a, node, values, dtype) for a in node.args))
        for i in one.reductions:
            known[i] = _reduce(nodes[i], values, tensor.param)
        new = {name: _argument(program.stores[name], program.stores[name], values, dtype) for name in one.stores}
        for name, value in new.items():
            value = value.copy() if any(value is b for b in tensor.buffers.values()) else value
            new[name] = value
        for name, value in new.items():
            tensor.buffers[name][...] = value

    def tensor_reductions(self, indices: Sequence[int]) -> dict[int, NDArray[np.float64]]:
        return {i: np.array([float(r[i]) for r in self.reduced]) for i in indices}

    def parts(self, index: int) -> list[NDArray[np.float64]]:
        return [np.array(r[index], dtype=np.float64).reshape(-1) for r in self.reduced]

    def join(self, index: int, totals: list[NDArray[np.float64]]) -> None:
        for known, total in zip(self.reduced, totals, strict=True):
            known[index] = total.reshape(np.shape(known[index]))


def _argument(arg: Expr, of: Expr, values: dict[int, Any], dtype: np.dtype[Any]) -> Any:
    """A slower value in the type in which it meets an element."""
    value = arg.value if arg.op == "const" else values[arg.index]
    if of.rate == Rate.ELEMENT and arg.rate < Rate.ELEMENT and arg.kind != "bool":
        with np.errstate(over="ignore"):
            value = np.asarray(value, dtype=dtype if narrows(of) else np.float64)
    if arg.kind == "bool" and isinstance(value, float):
        value = value != 0.0
    return value


def _reduce(node: Expr, values: dict[int, Any], like: NDArray[Any]) -> Any:
    arg = node.args[0]
    value = arg.value if arg.op == "const" else values[arg.index]
    value = np.broadcast_to(np.asarray(value, dtype=np.float64), like.shape)
    return reduced(node, value, np.full, np)
