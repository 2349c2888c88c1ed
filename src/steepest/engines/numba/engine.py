"""The cpu engine: one compiled function per program, called once for all tensors, over threads.

A tensor is cut into rows of a fixed number of elements (whole units, where a rule knows units), so that partial sums are the
same bits for any number of threads. Tensors of one row run all segments of a stage at once, while they are in the cache;
longer ones run segment by segment, a row of a later segment waiting for its tensor's rows before it. Threads take rows from
a common counter, so a late one costs nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steepest.engines.names import storage_of
from steepest.engines.numba.frame import ABI
from steepest.engines.numba.kernels import compiled
from steepest.engines.numba.threads import Team, own_threads
from steepest.engines.tensors import Tensor
from steepest.language.operations import REDUCTIONS
from steepest.plan.plan import Plan, Program

__all__ = ["CpuEngine"]

ROW = 1 << 18
"""Elements per row: long enough that hardware prefetching pays, short enough to share."""
ALONE = 1 << 16
"""Elements below which waking another thread costs more than it gives."""


class CpuEngine:
    """Runs tensors that are dense in memory, in place: float64 in float64; float32, float16 and bfloat16 in float32."""

    addresses_suffice = True

    def __init__(self, team: Team | None = None) -> None:
        self.team = team or own_threads

    @staticmethod
    def can_run(plan: Plan, tensor: Tensor) -> bool:
        """Whether a tensor's layout suits: dense, native, aligned; rows of dimension 0 where the plan knows units."""
        param = tensor.param
        if (
            param.dtype not in (np.float32, np.float64, np.float16, np.uint16)
            or not param.dtype.isnative
            or not param.flags.aligned
        ):
            return False
        axes = plan.program(plan.usual).axes
        if axes and param.ndim > 1:
            return bool(param.flags.c_contiguous) and all(axis % param.ndim == 0 for axis in axes)
        return is_dense(param)

    def bind(self, program: Program, tensors: list[Tensor], rows: list[int]) -> _BoundCpu:
        return _BoundCpu(program, tensors, rows, self.team)


def is_dense(array: NDArray[Any]) -> bool:
    """Whether the elements fill one stretch of memory, in any order of the dimensions."""
    if array.size == 0:
        return True  # whatever strides the framework has given it
    expected = array.itemsize
    for stride, length in sorted(zip(array.strides, array.shape, strict=True)):
        if length > 1:
            if stride != expected:
                return False
            expected *= length
    return True


class _BoundCpu:
    def __init__(self, program: Program, tensors: list[Tensor], rows: list[int], team: Team) -> None:
        self.program, self.tensors, self.team = program, tensors, team
        first = tensors[0]
        storage = {n: storage_of(first.buffers.get(n, first.param).dtype) for n in (*program.buffers, "param")}
        self.kernel = compiled(program, "float64" if first.param.dtype == np.float64 else "float32", storage)
        self.table = np.zeros((len(tensors), max(1, len(program.buffers))), dtype=np.int64)
        for column, name in enumerate(program.buffers):
            if name != "grad":
                self.table[:, column] = [t.buffers[name].ctypes.data for t in tensors]
        self.grad_column = program.buffers.index("grad") if "grad" in program.buffers else -1
        self.index = np.array([t.index for t in tensors], dtype=np.int64)
        units = [_units(program, t.param) for t in tensors]
        self.widths = np.array([width for _, width in units], dtype=np.int64)
        self.first_unit = np.cumsum([0] + [count for count, _ in units])[:-1].astype(np.int64)
        cut = [_rows(count, width) for count, width in units]
        self.rows = np.array(
            [(t, lo, hi) for t, pieces in enumerate(cut) for lo, hi in pieces], dtype=np.int64
        ).reshape(-1, 3)
        self.first_row = np.cumsum([0] + [len(pieces) for pieces in cut]).astype(np.int64)
        self.scalar_row = np.array(rows, dtype=np.int64)
        nodes = program.graph.nodes
        kinds = [(i, nodes[i].rate) for one in program.passes for i in one.reductions]
        self.slots = {i: s for s, i in enumerate(i for i, rate in kinds if rate.word != "unit")}
        self.unit_slots = {i: s for s, i in enumerate(i for i, rate in kinds if rate.word == "unit")}
        unit_slots = len(self.unit_slots)
        self.partials = np.zeros((max(1, len(self.rows)), max(1, len(self.slots))))
        total_units = sum(count for count, _ in units) if unit_slots else 1
        self.units = np.zeros((max(1, total_units), max(1, unit_slots)))
        self.progress = np.zeros(1 + len(tensors), dtype=np.int64)
        self.elements = sum(t.param.size for t in tensors)
        self.stage_start = list(itertools.accumulate((len(s) for s in program.stages), initial=0))
        self.items = [self._items(stage) for stage in range(len(program.stages))]
        self.scalars = np.zeros((max(rows, default=0) + 1, len(program.scalars)))
        self.words = [self._words(stage) for stage in range(len(program.stages))]
        self.places = [words.ctypes.data for words in self.words]

    def _words(self, stage: int) -> NDArray[np.int64]:
        """What the compiled function finds at its place in memory for a stage."""
        progress = self.progress.ctypes.data
        given: dict[str, Any] = {
            **vars(self), "items": self.items[stage], "stage_start": self.stage_start[stage], "counter": progress,
            "done": progress + 8,
        }  # fmt: skip
        words: list[int] = []
        for name, _, _ in ABI:
            value = given[name]
            words += [value.ctypes.data, *value.shape] if isinstance(value, np.ndarray) else [value]
        return np.array(words, dtype=np.int64)

    def _items(self, stage: int) -> NDArray[np.int64]:
        """The work of a stage: (first row, last row, first segment, last segment), in the order in which it is taken.

        A tensor's later segment stands after the first segment of the next tensor, so that a thread that reaches it
        rarely has to wait, and finds the tensor in the cache.
        """
        start, end = self.stage_start[stage], self.stage_start[stage + 1]
        items: list[tuple[int, int, int, int]] = []
        waiting: list[list[tuple[int, int, int, int]]] = []
        for lo, hi in itertools.pairwise(self.first_row.tolist()):
            if hi - lo <= 1 or end - start == 1:
                items += [(r, r + 1, start, end) for r in range(lo, hi)]
                continue
            items += [(r, r + 1, start, start + 1) for r in range(lo, hi)]
            waiting = [rest for rest in waiting if rest]
            for rest in waiting:
                items += rest[: _segment_length(rest)]
                del rest[: _segment_length(rest)]
            waiting.append([(r, r + 1, s, s + 1) for s in range(start + 1, end) for r in range(lo, hi)])
        for rest in waiting:
            items += rest
        return np.array(items, dtype=np.int64).reshape(-1, 4)

    def bind_gradients(self, addresses: NDArray[np.int64] | None = None) -> None:
        if self.grad_column < 0:
            return
        if addresses is None:
            self.table[:, self.grad_column] = [t.buffers["grad"].ctypes.data for t in self.tensors]
        else:
            self.table[:, self.grad_column] = addresses[self.index]

    def bind_params(self, addresses: NDArray[np.int64]) -> None:
        if "param" in self.program.buffers:
            self.table[:, self.program.buffers.index("param")] = addresses[self.index]

    def run(self, stage: int, scalars: NDArray[np.float64]) -> dict[int, float]:
        self.scalars[...] = scalars
        self.progress[:] = 0
        self.team.run(self.kernel, self.places[stage], len(self.items[stage]) if self.elements > ALONE else 1)
        return {i: self._combined(i, self.partials[: len(self.rows)]) for i in self.program.model_reductions[stage]}

    def _combined(self, index: int, partials: NDArray[np.float64]) -> float:
        row, column = REDUCTIONS[self.program.graph.nodes[index].op], partials[:, self.slots[index]]
        return float(row.array(np, column)) if len(column) else row.start

    def tensor_reductions(self, indices: Sequence[int]) -> dict[int, NDArray[np.float64]]:
        rows = {i: REDUCTIONS[self.program.graph.nodes[i].op] for i in indices}
        found = {i: np.full(len(self.tensors), row.start) for i, row in rows.items()}
        filled = self.first_row[1:] > self.first_row[:-1]  # a tensor without elements has no row
        starts = self.first_row[:-1][filled]
        for i, row in rows.items() if len(starts) else ():
            join: np.ufunc = getattr(np, row.ufunc)
            found[i][filled] = join.reduceat(self.partials[: len(self.rows), self.slots[i]], starts)
        return found

    def parts(self, index: int) -> list[NDArray[np.float64]]:
        if index in self.slots:
            return list(self.tensor_reductions([index])[index].reshape(-1, 1))
        neutral = REDUCTIONS[self.program.graph.nodes[index].op].start
        starts = zip(self.tensors, self.first_unit.tolist(), strict=True)
        column = self.units[:, self.unit_slots[index]]
        return [column[at : at + t.units()].copy() if t.param.size else np.full(t.units(), neutral) for t, at in starts]

    def join(self, index: int, totals: list[NDArray[np.float64]]) -> None:
        neutral = REDUCTIONS[self.program.graph.nodes[index].op].start
        for i, (tensor, total) in enumerate(zip(self.tensors, totals, strict=True)):
            first, last = self.first_row[i], self.first_row[i + 1]
            if index in self.slots:
                self.partials[first:last, self.slots[index]] = neutral
                self.partials[first:last, self.slots[index]][:1] = total
            elif tensor.param.size:
                at = self.first_unit[i]
                self.units[at : at + len(total), self.unit_slots[index]] = total


def _segment_length(rest: list[tuple[int, int, int, int]]) -> int:
    """How many of the waiting items are of the first one's segment."""
    return sum(item[2] == rest[0][2] for item in rest)


def _units(program: Program, param: NDArray[Any]) -> tuple[int, int]:
    """How many units a tensor has and how many elements each; single elements where no rule knows units."""
    if not program.axes:
        return param.size, 1
    if param.size == 0:
        return 0, 0
    return (param.shape[0], param.size // param.shape[0]) if param.ndim > 1 else (1, param.size)


def _rows(units: int, width: int) -> list[tuple[int, int]]:
    if units == 0:
        return []
    step = max(1, ROW // max(1, width))
    return [(lo, min(lo + step, units)) for lo in range(0, units, step)]
