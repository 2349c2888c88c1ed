"""The array engine on PyTorch: any device, dtype and strides, one ``torch._foreach_`` call per operation and set of tensors.

Tensors of one device, type and row of scalars form a set, and a value is known for all of a set at once: element and unit
values as a list of tensors, a value per tensor as one vector, what the host knows as a number. So nothing waits for the
device before a stage's sums over the model are read back, all of them together. What no foreach call computes as the
language defines it runs tensor by tensor, by the operation's own function on arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from steepest.engines.tensors import Tensor
from steepest.language.expression import Expr, Rate, is_reduction
from steepest.language.operations import OPERATIONS, REDUCTIONS
from steepest.plan.evaluate import narrows, reduced
from steepest.plan.plan import Pass, Plan, Program

__all__ = ["ForeachEngine"]

MOST, MOST_ON_CPU = 1 << 24, 1 << 18
"""Elements of a set, unless one tensor alone has more: a step's intermediate values never take the model's size, and on a CPU
they find room in its cache."""


class ForeachEngine:
    """Runs any tensor: float64 in float64; float32, float16 and bfloat16 in float32."""

    addresses_suffice = False

    @staticmethod
    def can_run(plan: Plan, tensor: Tensor) -> bool:
        return True

    def bind(self, program: Program, tensors: list[Tensor], rows: list[int]) -> _BoundForeach:
        return _BoundForeach(program, tensors, rows)


def _as_torch(buffer: Any) -> torch.Tensor:
    """A buffer of the cpu engine as a torch tensor on the same memory; 16 bits without a type are bfloat16."""
    if isinstance(buffer, torch.Tensor):
        return buffer
    if buffer.dtype == np.uint16:
        return torch.from_numpy(buffer.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(buffer)


@dataclass(slots=True, eq=False)
class _Set:
    """Tensors of one device, type and row of scalars, by their position among all; ``sizes`` are their numbers of elements.

    Element values are held in ``dtype``, all others in ``wide``.
    """

    row: int
    device: torch.device
    dtype: torch.dtype
    wide: torch.dtype
    positions: list[int]
    tensors: list[Tensor]
    sizes: torch.Tensor
    reduced: dict[int, Any] = field(default_factory=dict)

    def number(self, value: float, dtype: torch.dtype) -> torch.Tensor:
        """A number of the host where the tensors are."""
        return torch.full((), _rounded(value, dtype), dtype=dtype, device=self.device)

    def load(self, name: str) -> list[torch.Tensor]:
        """A buffer of every tensor in the type of computation: itself where it is in that type already."""
        return _converted([t.buffers[name] for t in self.tensors], self.dtype)


class _BoundForeach:
    def __init__(self, program: Program, tensors: list[Tensor], rows: list[int]) -> None:
        self.program, self.tensors = program, tensors
        self.seen = [replace(t, buffers={n: _as_torch(b) for n, b in t.buffers.items()}) for t in tensors]
        self.sets = _sets(self.seen, rows)
        self.spent = [_spent(program, one) for one in program.passes]

    def bind_gradients(self, addresses: NDArray[np.int64] | None = None) -> None:
        for seen, tensor in zip(self.seen, self.tensors, strict=True):
            if "grad" in tensor.buffers:
                seen.buffers["grad"] = _as_torch(tensor.buffers["grad"])
        for one in self.sets:
            one.reduced = {}

    def bind_params(self, addresses: NDArray[np.int64]) -> None:
        for seen, tensor in zip(self.seen, self.tensors, strict=True):
            seen.buffers["param"] = _as_torch(tensor.buffers["param"])

    @torch.no_grad()
    def run(self, stage: int, scalars: NDArray[np.float64]) -> dict[int, float]:
        for one in self.sets:
            for segment in self.program.stages[stage]:
                for number in segment.passes:
                    self._sweep(one, number, scalars[one.row])
        if stage + 1 == len(self.program.stages):
            for seen in self.seen:  # else the gradients would live until the next step
                seen.buffers.pop("grad", None)
        return self._partials(self.program.model_reductions[stage])

    def _sweep(self, one: _Set, number: int, scalars: NDArray[np.float64]) -> None:
        program, now = self.program, self.program.passes[number]
        values = _Values(one, dict(zip(program.scalars, scalars.tolist(), strict=True)))
        for name, at in program.stored_at.items():
            if at < number and name in now.loads:
                values.known[program.stores[name].index] = one.load(name)
        for i in sorted({*now.slow, *now.body}):
            node = program.graph.nodes[i]
            if node.op == "load":
                values.known[i] = one.load(node.value)
            elif is_reduction(node):
                values.known[i] = one.reduced[i]
            else:
                values.known[i] = values.computed(node)
            for a in self.spent[number].get(i, ()):
                del values.known[a]
        for i in now.reductions:
            one.reduced[i] = values.reduced(program.graph.nodes[i])
        _store(one, {name: values.listed(program.stores[name], one.dtype) for name in now.stores})

    def _partials(self, indices: Sequence[int]) -> dict[int, float]:
        """What the sets' reductions come to together: read from each device at once."""
        rows = {i: REDUCTIONS[self.program.graph.nodes[i].op] for i in indices}
        totals = {i: row.start for i, row in rows.items()}
        for sets in self._by_device().values() if totals else ():
            of = [(i, one.reduced[i]) for one in sets for i in totals]
            read = torch.stack([rows[i].array(torch, v) for i, v in of])
            for (i, _), number in zip(of, _read(read), strict=True):
                totals[i] = rows[i].join(totals[i], number)
        return totals

    def tensor_reductions(self, indices: Sequence[int]) -> dict[int, NDArray[np.float64]]:
        nodes = self.program.graph.nodes
        found = {i: np.full(len(self.tensors), REDUCTIONS[nodes[i].op].start) for i in indices}
        for sets in self._by_device().values() if indices else ():
            numbers = np.array(_read(torch.cat([one.reduced[i] for i in indices for one in sets])))
            positions = [p for one in sets for p in one.positions]
            for i, values in zip(indices, numbers.reshape(len(indices), -1), strict=True):
                found[i][positions] = values
        return found

    def _by_device(self) -> dict[torch.device, list[_Set]]:
        """The sets of each device that has something to read: a meta tensor has nothing."""
        found: dict[torch.device, list[_Set]] = {}
        for one in self.sets:
            if one.device.type != "meta":
                found.setdefault(one.device, []).append(one)
        return found

    def parts(self, index: int) -> list[NDArray[np.float64]]:
        if self.program.graph.nodes[index].rate == Rate.TENSOR:
            return list(self.tensor_reductions([index])[index].reshape(-1, 1))
        found = {p: v for one in self.sets for p, v in zip(one.positions, one.reduced[index], strict=True)}
        return [found[p].detach().cpu().double().numpy().reshape(-1) for p in range(len(self.tensors))]

    def join(self, index: int, totals: list[NDArray[np.float64]]) -> None:
        for one in self.sets:
            own = [torch.from_numpy(totals[p]).to(one.wide).to(one.device) for p in one.positions]
            if self.program.graph.nodes[index].rate == Rate.TENSOR:
                one.reduced[index] = torch.cat(own)
            else:
                one.reduced[index] = [t.view(v.shape) for t, v in zip(own, one.reduced[index], strict=True)]


def _read(vector: torch.Tensor) -> list[float]:
    """On the host. Subclasses around other tensors have no ``tolist``."""
    wrapped = is_traceable_wrapper_subclass(vector)
    return [float(v) for v in vector.unbind()] if wrapped else vector.tolist()


def _sets(tensors: list[Tensor], rows: list[int]) -> list[_Set]:
    found: dict[tuple[Any, ...], list[list[int]]] = {}
    room: dict[tuple[Any, ...], int] = {}
    for i, (t, row) in enumerate(zip(tensors, rows, strict=True)):
        key = (row, t.param.device, t.param.dtype, type(t.param))
        if key not in found or room[key] < t.param.numel():
            found.setdefault(key, []).append([])
            room[key] = MOST_ON_CPU if t.param.device.type == "cpu" else MOST
        found[key][-1].append(i)
        room[key] -= t.param.numel()
    return [_set(row, positions, [tensors[i] for i in positions]) for (row, *_), s in found.items() for positions in s]


def _set(row: int, positions: list[int], tensors: list[Tensor]) -> _Set:
    device = tensors[0].param.device
    dtype = torch.float64 if tensors[0].param.dtype == torch.float64 else torch.float32
    wide = torch.float64 if _has_float64(device) else torch.float32
    sizes = torch.tensor([t.param.numel() for t in tensors], dtype=wide, device=device)
    return _Set(row, device, dtype, wide, positions, tensors, sizes)


def _has_float64(device: torch.device) -> bool:
    if device.type == "xpu":
        return bool(torch.xpu.get_device_properties(device).has_fp64)
    return device.type != "mps"


def _spent(program: Program, one: Pass) -> dict[int, list[int]]:
    """After which element value of a pass which others are not needed any more: their memory is free for the next."""
    nodes = program.graph.nodes
    last = {a.index: i for i in one.body for a in nodes[i].args if a.rate == Rate.ELEMENT}
    kept = {a.index for i in one.reductions for a in nodes[i].args} | {
        program.stores[name].index for name in one.stores
    }
    spent: dict[int, list[int]] = {}
    for a, i in last.items():
        if a not in kept:
            spent.setdefault(i, []).append(a)
    return spent


def _store(one: _Set, new: dict[str, list[torch.Tensor]]) -> None:
    """Write all values; one that is itself a buffer about to be written is copied before."""
    written = {id(t.buffers[name]) for name in new for t in one.tensors}
    new = {name: [v.clone() if id(v) in written else v for v in values] for name, values in new.items()}
    for name, values in new.items():
        torch._foreach_copy_([t.buffers[name] for t in one.tensors], values)


# ---- values of a set


class _Values:
    """What one pass knows of a set, by index: numbers, vectors with an entry per tensor, lists with a tensor per tensor."""

    def __init__(self, one: _Set, numbers: dict[int, float]) -> None:
        self.set = one
        self.known: dict[int, Any] = dict(numbers)

    def of(self, arg: Expr) -> Any:
        return arg.value if arg.op == "const" else self.known[arg.index]

    def computed(self, node: Expr) -> Any:
        """An operation; slower values take the tensors' type where they meet its elements."""
        one = self.set
        dtype = one.dtype if narrows(node) else one.wide
        if node.rate == Rate.TENSOR:
            args = [self._tensor(a, dtype) for a in node.args]
            return OPERATIONS[node.op].array(_XP, *args)
        if node.op == "wide":
            return _converted(self.of(node.args[0]), one.wide)
        if node.op == "as_stored":
            return _converted(_converted(self.of(node.args[0]), one.tensors[0].param.dtype), one.dtype)
        if node.op in _FOREACH:
            return self._foreach(node, dtype)
        columns = [self.listed(a, dtype) for a in node.args]
        return [OPERATIONS[node.op].array(_XP, *row) for row in zip(*columns, strict=True)]

    def _foreach(self, node: Expr, dtype: torch.dtype) -> list[torch.Tensor]:
        """By one call. Only sums, differences and products take a number as it is: in powers and quotients PyTorch computes
        something else for a lone number (``rsqrt``, a product with the reciprocal) than for a tensor of them."""
        function = _FOREACH[node.op]
        if node.op in ("add", "sub", "mul"):
            (first, second), (a, b) = map(self.of, node.args), node.args
            if isinstance(second, float):
                return list(function(self._floats(a, dtype), _rounded(second, dtype)))
            if isinstance(first, float):
                others = self._floats(b, dtype)
                if node.op == "sub":
                    function, others = torch._foreach_add, list(torch._foreach_neg(others))
                return list(function(others, _rounded(first, dtype)))
        return list(function(*(self._floats(a, dtype) for a in node.args)))

    def _floats(self, arg: Expr, dtype: torch.dtype) -> list[torch.Tensor]:
        """`listed`, where PyTorch's arithmetic would not take a condition."""
        values = self.listed(arg, dtype)
        return _converted(values, dtype) if arg.kind == "bool" else values

    def _tensor(self, arg: Expr, dtype: torch.dtype) -> Any:
        value = self.of(arg)
        if isinstance(value, float):
            return self.set.number(value, torch.bool if arg.kind == "bool" else dtype)
        return value

    def listed(self, arg: Expr, dtype: torch.dtype) -> list[torch.Tensor]:
        """A value as one tensor for each of the set; a slower one in ``dtype``."""
        value = self._tensor(arg, dtype)
        if arg.rate == Rate.ELEMENT:
            return list(value)
        if arg.kind != "bool":
            value = _converted(value, dtype) if arg.rate == Rate.UNIT else value.to(dtype)
        if arg.rate == Rate.UNIT:
            return list(value)
        return list(value.unbind()) if arg.rate == Rate.TENSOR else [value] * len(self.set.tensors)

    def reduced(self, node: Expr) -> Any:
        """A reduction in ``wide``: a vector, or a list of tensors that keep the dimensions of their units."""
        one, (arg,), row = self.set, node.args, REDUCTIONS[node.op]
        if node.rate < Rate.UNIT and arg.rate < Rate.UNIT:
            value = self._tensor(arg, one.wide).to(one.wide)
            return torch.where(one.sizes > 0, row.repeated(value, one.sizes), row.start)
        made = []
        for v, t in zip(self.listed(arg, one.wide), one.tensors, strict=True):
            empty = partial(v.new_full, dtype=one.wide)
            made.append(reduced(node, v.to(one.wide).expand(t.param.shape), empty, torch))
        return made if node.rate == Rate.UNIT else torch.stack(made)


def _converted(values: Sequence[torch.Tensor], dtype: torch.dtype) -> list[torch.Tensor]:
    if all(v.dtype == dtype for v in values):
        return list(values)
    made = [torch.empty_like(v, dtype=dtype) for v in values]
    torch._foreach_copy_(made, list(values))
    return made


def _rounded(number: float, dtype: torch.dtype) -> float:
    """A number as a tensor of the type would hold it: PyTorch refuses one beyond the type instead of making it infinite."""
    if dtype == torch.float64:
        return number
    with np.errstate(over="ignore"):
        return float(np.float32(number))


# ---- the operations


def _remainder(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """With the sign of the divisor, zeros too. In steps, since SLEEF's fmod is nan where ``a / b`` overflows."""
    b = b.to(torch.result_type(a, b))
    step = 2.0**700 if b.dtype == torch.float64 else 2.0**100
    rest = a
    for divisor in (b * step * step, b * step, b):
        rest = torch.fmod(rest, divisor)
    return torch.where(rest == 0, torch.copysign(rest, b), torch.where((b < 0) != (rest < 0), rest + b, rest))


class _Namespace:
    """PyTorch as the operations' functions on arrays see it."""

    remainder = staticmethod(_remainder)
    power = staticmethod(torch.pow)

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


_XP = _Namespace()

_FOREACH: dict[str, Callable[..., Any]] = {
    "add": torch._foreach_add, "sub": torch._foreach_sub, "mul": torch._foreach_mul, "div": torch._foreach_div,
    "pow": torch._foreach_pow, "neg": torch._foreach_neg, "abs": torch._foreach_abs, "sqrt": torch._foreach_sqrt,
    "exp": torch._foreach_exp, "log": torch._foreach_log, "floor": torch._foreach_floor, "cos": torch._foreach_cos,
}  # fmt: skip
"""The operations that a foreach call computes as the language defines them. Its minimum and maximum are missing: of two
zeros with different signs they may give either."""
