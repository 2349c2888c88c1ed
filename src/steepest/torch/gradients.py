"""Gradients as engines take them: regular ones by their addresses, all others after a closer look, sparse ones by rows.

In nearly every step every gradient lies as its parameter does; `Regular` finds that out in a few calls for all of them.
`looked_at` handles what is left: other strides, lazy conjugates and negations, sharded and sparse gradients, gradients
that share memory with a parameter. Gradients are read, never written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from steepest.buckets import drop_states, start_states
from steepest.engines.tensors import Tensor
from steepest.language.expression import Rate, is_reduction
from steepest.plan.plan import Plan
from steepest.stepping import Stepper
from steepest.torch.held import Held, buffer_of, effective_strides, extent
from steepest.torch.sharding import check_placements, is_sharded, layout_of, local_part
from steepest.torch.unchanged import Alike

__all__ = ["Regular", "looked_at", "sparse_rows"]

_pointer, _stride, _is_neg, _is_conj = (
    torch.Tensor.data_ptr,
    torch.Tensor.stride,
    torch.Tensor.is_neg,
    torch.Tensor.is_conj,
)


class _Memory:
    """The stretches of memory that parameters occupy."""

    def __init__(self, held: Sequence[Held]) -> None:
        seen = [local_part(h.param.detach()) for h in held]
        ranges = sorted((t.data_ptr(), t.data_ptr() + extent(t)) for t in seen if t.numel())
        self.starts = np.array([lo for lo, _ in ranges], dtype=np.int64)
        self.ends = np.array([hi for _, hi in ranges], dtype=np.int64)

    def touched_by(self, starts: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of these stretches overlap a parameter."""
        if not len(self.ends):
            return np.zeros(len(starts), dtype=bool)
        next_one = np.searchsorted(self.ends, starts, side="right")
        inside = next_one < len(self.ends)
        return inside & (self.starts[np.minimum(next_one, len(self.starts) - 1)] < starts + sizes) & (sizes > 0)


class Regular:
    """Takes the addresses of all gradients at once, if every one lies in memory as its parameter does."""

    def __init__(self, held: Sequence[Held], absent: tuple[int, ...]) -> None:
        without = set(absent)
        self.present = [h.tensor.index for h in held if h.tensor.index not in without]
        self.absent = absent
        params = [held[i].param for i in self.present]
        self.sharded = any(map(is_sharded, params))
        self.placements = [layout_of(p) for p in params] if self.sharded else []
        params = [local_part(p) for p in params] if self.sharded else params
        self.sizes = np.array([extent(p) for p in params], dtype=np.int64)
        self.extents = self.sizes.tolist()
        self.memory = _Memory(held)
        self.apart: set[tuple[int, int]] = set()
        self.alike = Alike(_lying_as(params))
        self.pointers: list[int] = []
        self.addresses = np.zeros(len(held), dtype=np.int64)
        self.index = np.array(self.present, dtype=np.int64)

    def __call__(self, grads: list[Any]) -> NDArray[np.int64] | None:
        """The addresses by index, or None if any gradient needs a closer look."""
        if any(grads[i] is not None for i in self.absent):
            return None
        seen = [grads[i] for i in self.present] if self.absent else grads
        if self.sharded:
            if any(g is None or layout_of(g) != own for g, own in zip(seen, self.placements, strict=True)):
                return None
            seen = [*map(local_part, seen)]
        try:
            if not self.alike(seen):
                return None
            pointers = [*map(_pointer, seen)]
        except (TypeError, RuntimeError):  # None, or sparse
            return None
        if pointers != self.pointers:
            starts = np.array(pointers, dtype=np.int64)
            places = [*zip(pointers, self.extents, strict=True)]
            if not self.apart.issuperset(places):  # allocators give the same memory again and again
                if self.memory.touched_by(starts, self.sizes).any():
                    return None
                self.apart.update(places)
            self.pointers = pointers
            if self.absent:
                self.addresses[self.index] = starts
            else:
                self.addresses = starts
        return self.addresses


def _lying_as(params: Sequence[torch.Tensor]) -> Callable[[Sequence[torch.Tensor]], bool]:
    """The test whether tensors lie in memory as these parameters do now. The test keeps no parameter alive."""
    strides, shapes, dtypes = [p.stride() for p in params], [p.shape for p in params], [p.dtype for p in params]
    is_complex = any(p.is_complex() for p in params)

    def lie(seen: Sequence[torch.Tensor]) -> bool:
        if any(map(_is_neg, seen)) or (is_complex and any(map(_is_conj, seen))):
            return False
        if [g.dtype for g in seen] != dtypes:
            return False
        rows = zip(map(_stride, seen), strides, shapes, strict=True)
        return all(a == b or effective_strides(shape, a) == effective_strides(shape, b) for a, b, shape in rows)

    return lie


def looked_at(
    what: str, held: Sequence[Held], grads: Sequence[torch.Tensor | None], densifies: bool, plans: Sequence[Plan] = ()
) -> tuple[list[Any], dict[int, torch.Tensor]]:
    """Every gradient as its engine takes it, None where there is none; sparse ones apart, by index.

    With ``densifies`` a sparse gradient is made dense, unless its parameter's plan is given and can step rows alone.
    """
    memory = _Memory(held)
    buffers: list[Any] = []
    sparse: dict[int, torch.Tensor] = {}
    for position, (one, grad) in enumerate(zip(held, grads, strict=True)):
        if grad is None:
            buffers.append(None)
            continue
        _check(what, one, grad)
        grad = grad.detach()
        if grad.dtype != one.param.dtype:  # as allowed by grad_dtype: what a step computes in loses nothing
            grad = grad.to(one.state_dtype)
        sparsely = grad.layout == torch.sparse_coo and grad.ndim > 0
        if sparsely and (not densifies or (plans and _steps_rows_alone(one, plans[position]))):
            by_rows = grad if grad.sparse_dim() == 1 else grad.to_dense().to_sparse(1)
            sparse[one.tensor.index] = by_rows.coalesce()
            buffers.append(None)
            continue
        if grad.layout != torch.strided:
            grad = grad.to_dense()
        buffers.append(_as_laid_out(one, local_part(grad), memory))
    return buffers, sparse


def _check(what: str, one: Held, grad: torch.Tensor) -> None:
    name, param = one.tensor.name, one.param
    for attribute in ("shape", "dtype", "device"):
        given, allowed = getattr(grad, attribute), getattr(param, attribute)
        if given != allowed and not (attribute == "dtype" and _may_have(param, grad)):
            kind = ValueError if attribute == "shape" else TypeError
            raise kind(
                f"{what}: the gradient of {name!r} has {attribute} {given}, allowed is its parameter's, {allowed}. "
                f"It was made before the parameter was changed: call zero_grad()."
                + (" For gradients of another type set grad_dtype of the parameter." if attribute == "dtype" else "")
            )
    check_placements(what, name, param, grad)


def _may_have(param: torch.Tensor, grad: torch.Tensor) -> bool:
    """Whether a parameter's ``grad_dtype`` allows this gradient's type: None allows any."""
    allowed = getattr(param, "grad_dtype", param.dtype)  # since PyTorch 2.9
    return allowed in (None, grad.dtype) and grad.is_complex() == param.is_complex()


def _as_laid_out(one: Held, grad: torch.Tensor, memory: _Memory) -> Any:
    """A gradient's buffer; copied where its strides are not the parameter's or its memory is a parameter's."""
    grad = grad.resolve_conj().resolve_neg()
    param = local_part(one.param.detach())
    alike = effective_strides(grad.shape, grad.stride()) == effective_strides(param.shape, param.stride())
    start = np.array([grad.data_ptr()], dtype=np.int64)
    size = np.array([extent(grad)], dtype=np.int64)
    if not alike or bool(memory.touched_by(start, size)[0]):
        grad = torch.empty_strided(param.shape, param.stride(), dtype=grad.dtype, device=grad.device).copy_(grad)
    return buffer_of(grad)


# ---- sparse gradients


@contextmanager
def sparse_rows(
    what: str, stepper: Stepper, held: Sequence[Held], buffers: list[Any], sparse: dict[int, torch.Tensor]
) -> Iterator[None]:
    """Let the step see only the rows of a parameter that a sparse gradient names; they are written back at the end.

    Allowed where a gradient of 0 moves nothing, neither weights nor states, so that the other rows are as if stepped.
    """
    plans = dict(zip((t.index for t in stepper.tensors), stepper.own_plans, strict=True))
    for index in sparse:
        _check_rows(what, held[index], plans[index])
    stepper.forget_layout()
    whole: list[tuple[Held, dict[str, Any], Any, list[str]]] = []
    try:
        for index, grad in sparse.items():
            one = held[index]
            tensor = one.tensor
            rows = grad.indices()[0].cpu().numpy() if isinstance(tensor.param, np.ndarray) else grad.indices()[0]
            started: list[str] = []
            whole.append((one, tensor.buffers, rows, started))
            start_states(tensor, plans[index], started)
            tensor.buffers = {name: buffer[rows] for name, buffer in tensor.buffers.items()}
            buffers[index] = buffer_of(grad.values())
        steps = stepper.steps
        yield
        happened = stepper.steps > steps
    except BaseException:
        happened = False
        raise
    finally:
        stepper.forget_layout()
        for one, buffers_before, rows, started in whole:
            tensor = one.tensor
            if happened:
                for name, part in tensor.buffers.items():
                    buffers_before[name][rows] = part
            tensor.buffers = buffers_before
            if not happened:
                drop_states(tensor, started)


def _check_rows(what: str, one: Held, own: Plan) -> None:
    if not _steps_rows_alone(one, own):
        raise RuntimeError(
            f"{what}: parameter {one.tensor.name!r} has a sparse gradient, but {own.trace.chain.brief} does not support sparse "
            f"gradients: it moves weights or states whose gradient is 0, or sums over them. SGD and Adagrad without weight decay "
            f"do; otherwise make the gradient dense: nn.Embedding(…, sparse=False)."
        )


def _steps_rows_alone(one: Held, own: Plan) -> bool:
    """Whether the rows that a sparse gradient names can be stepped without the others."""
    return not one.param.is_complex() and _moves_nothing_at_zero(own)


def _moves_nothing_at_zero(own: Plan) -> bool:
    """Whether a step with gradient 0 leaves weights and states alone, tried out on a few numbers."""
    nodes = own.trace.graph.nodes
    for node in nodes:
        if is_reduction(node) and (node.rate != Rate.MODEL or _loads(own, node.index) != {"grad"}):
            return False
    rng = np.random.default_rng(0)
    probe = Tensor("probe", 0, {"param": rng.normal(size=5)})
    start_states(probe, own, [])
    for name in probe.buffers:
        probe.buffers[name][...] = rng.uniform(0.5, 1.0, size=5)
    probe.host["step"] = 1_000_002.0
    before = {name: buffer.copy() for name, buffer in probe.buffers.items()}
    stepper = Stepper([[probe]], [own.trace.chain], "arrays")
    for _ in range(2):
        stepper.step([np.zeros(5)])
    return all(np.array_equal(before[name], probe.buffers[name]) for name in before)


def _loads(own: Plan, index: int) -> set[str]:
    nodes = own.trace.graph.nodes
    found: set[str] = set()
    seen: set[int] = set()
    todo = [index]
    while todo:
        i = todo.pop()
        if i not in seen:
            seen.add(i)
            todo += [a.index for a in nodes[i].args]
            found |= {str(nodes[i].value)} if nodes[i].op == "load" else set()
    return found
