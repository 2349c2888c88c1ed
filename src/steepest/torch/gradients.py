"""Gradients as engines take them: regular ones by their addresses, all others after a closer look.

In nearly every step every gradient lies as its parameter does; `AddressReader` finds that out in a few calls for all of them.
`check_gradients` handles what is left: other strides, lazy conjugates and negations, sharded and sparse gradients, gradients
that share memory with a parameter. Gradients are read, never written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from steepest.plan.plan import Plan
from steepest.torch.sharding import check_placements, layout_of, local_part
from steepest.torch.sparse import by_rows, steps_rows_alone
from steepest.torch.unchanged import Alike, Memory, Parameters, extent, form_of
from steepest.torch.views import ParamView, buffer_of, effective_strides

__all__ = ["AddressReader", "check_gradient", "check_gradients"]

_pointer, _stride, _is_neg, _is_conj = (
    torch.Tensor.data_ptr,
    torch.Tensor.stride,
    torch.Tensor.is_neg,
    torch.Tensor.is_conj,
)


class AddressReader:
    """Takes the addresses of all gradients at once, if every one lies in memory as its parameter does.

    ``absent`` are the indices of the parameters without a gradient in the last step that was looked at.
    """

    def __init__(self, params: Parameters, absent: tuple[int, ...]) -> None:
        self.params = params
        self.sharded = params.sharded
        self.apart: set[tuple[int, int]] = set()
        self.addresses = np.zeros(len(params.all), dtype=np.int64)
        self._expect(absent)

    def _expect(self, absent: tuple[int, ...]) -> None:
        """Expect gradients of all parameters but these."""
        every, without = self.params.all, set(absent)
        self.absent = absent
        self.present = [i for i in range(len(every)) if i not in without]
        self.index = np.array(self.present, dtype=np.int64)
        self.sizes = self.params.sizes[self.index]
        self.extents = self.sizes.tolist()
        self.pointers: list[int] = []
        # What is needed to compare many steps with the same gradients; made when a second such step comes.
        self.alike: Alike | None = None
        self.placements: list[Any] = []

    def _compare(self) -> Alike:
        params = [self.params.all[i] for i in self.present]
        self.placements = [layout_of(p) for p in params] if self.sharded else []
        self.alike = Alike(_lying_as([*map(local_part, params)] if self.sharded else params))
        return self.alike

    def __call__(self, grads: list[Any]) -> NDArray[np.int64] | None:
        """The addresses by index, or None if any gradient needs a closer look."""
        if self.absent and any(grads[i] is not None for i in self.absent):
            return self._others(grads)
        seen = [grads[i] for i in self.present] if self.absent else grads
        alike = self.alike or self._compare()
        if self.sharded:
            if any(g is None or layout_of(g) != own for g, own in zip(seen, self.placements, strict=True)):
                return None
            seen = [*map(local_part, seen)]
        try:
            if not alike(seen):
                return None
            pointers = [*map(_pointer, seen)]
        except (TypeError, RuntimeError):  # None, or sparse
            return self._others(grads)
        return self._at(pointers)

    def _others(self, grads: list[Any]) -> NDArray[np.int64] | None:
        """The same, for gradients of other parameters than at the last step, which are compared one by one."""
        if self.sharded:
            return None
        params = self.params.all
        present = [i for i, g in enumerate(grads) if g is not None]
        for i in present:
            grad = grads[i]
            if type(grad) is not torch.Tensor or grad.layout is not torch.strided or grad.is_neg() or grad.is_conj():
                return None
            if form_of(grad) != form_of(params[i]):
                return None
        self._expect(tuple(i for i, g in enumerate(grads) if g is None))
        return self._at([grads[i].data_ptr() for i in present])

    def _at(self, pointers: list[int]) -> NDArray[np.int64] | None:
        """The addresses by index, from those of the gradients that are there; None if one lies in a parameter's memory."""
        if pointers != self.pointers:
            starts = np.array(pointers, dtype=np.int64)
            places = [*zip(pointers, self.extents, strict=True)]
            if not self.apart.issuperset(places):  # allocators give the same memory again and again
                if self.params.memory.touched_by(starts, self.sizes).any():
                    return None
                self.apart.update(places)
            self.pointers = pointers
            self.addresses[self.index] = starts
        return self.addresses

    def moved(self) -> None:
        """Take note that the parameters lie elsewhere."""
        self.apart.clear()
        self.pointers = []


def _lying_as(params: Sequence[torch.Tensor]) -> Callable[[Sequence[torch.Tensor]], bool]:
    """The test whether tensors lie in memory as these parameters do now. The test keeps no parameter alive."""
    strides, shapes, dtypes = [p.stride() for p in params], [p.shape for p in params], [p.dtype for p in params]
    is_complex = any(p.is_complex() for p in params)

    def lie(seen: Sequence[torch.Tensor]) -> bool:
        if any(map(_is_neg, seen)) or (is_complex and any(map(_is_conj, seen))) or [g.dtype for g in seen] != dtypes:
            return False
        rows = zip(map(_stride, seen), strides, shapes, strict=True)
        return all(a == b or effective_strides(shape, a) == effective_strides(shape, b) for a, b, shape in rows)

    return lie


def check_gradients(
    what: str,
    held: Sequence[ParamView],
    grads: Sequence[torch.Tensor | None],
    memory: Memory,
    densifies: bool,
    plans: Sequence[Plan] = (),
) -> tuple[list[Any], dict[int, torch.Tensor]]:
    """Every gradient as its engine takes it, None where there is none; sparse ones apart, by index.

    ``memory`` is the parameters': a gradient in it is copied. With ``densifies`` a sparse gradient is made dense, unless its
    parameter's plan is given and can step rows alone.
    """
    buffers: list[Any] = []
    sparse: dict[int, torch.Tensor] = {}
    for position, (one, grad) in enumerate(zip(held, grads, strict=True)):
        if grad is None:
            buffers.append(None)
            continue
        check_gradient(what, one, grad)
        grad = grad.detach()
        if grad.dtype != one.param.dtype:  # as allowed by grad_dtype: what a step computes in loses nothing
            grad = grad.to(one.state_dtype)
        sparsely = grad.layout == torch.sparse_coo and grad.ndim > 0
        if sparsely and (not densifies or (plans and steps_rows_alone(one, plans[position]))):
            sparse[one.tensor.index] = by_rows(grad)
            buffers.append(None)
            continue
        if grad.layout != torch.strided:
            grad = grad.to_dense()
        buffers.append(_as_laid_out(one, local_part(grad), memory))
    return buffers, sparse


def check_gradient(what: str, one: ParamView, grad: torch.Tensor) -> None:
    """Raise for a gradient that is not of its parameter's form."""
    name, param = one.tensor.name, one.param
    for attribute in ("shape", "dtype", "device"):
        given, allowed = getattr(grad, attribute), getattr(param, attribute)
        if given != allowed and not (attribute == "dtype" and _may_have(param, grad)):
            kind = ValueError if attribute == "shape" else TypeError
            raise kind(
                f"{what}: the gradient of {name!r} must have its parameter's {attribute}, {allowed}, got {given}. "
                f"It was computed before the parameter was changed: call zero_grad()."
                + (" For gradients of another type, set the parameter's grad_dtype." if attribute == "dtype" else "")
            )
    check_placements(what, name, param, grad)


def _may_have(param: torch.Tensor, grad: torch.Tensor) -> bool:
    """Whether a parameter's ``grad_dtype`` allows this gradient's type: None allows any."""
    allowed = getattr(param, "grad_dtype", param.dtype)  # since PyTorch 2.9
    return allowed in (None, grad.dtype) and grad.is_complex() == param.is_complex()


def _as_laid_out(one: ParamView, grad: torch.Tensor, memory: Memory) -> Any:
    """A gradient's buffer; copied where its strides are not the parameter's or its memory is a parameter's."""
    grad = grad.resolve_conj().resolve_neg()
    param = local_part(one.param.detach())
    alike = effective_strides(grad.shape, grad.stride()) == effective_strides(param.shape, param.stride())
    start = np.array([grad.data_ptr()], dtype=np.int64)
    size = np.array([extent(grad)], dtype=np.int64)
    if not alike or bool(memory.touched_by(start, size)[0]):
        grad = torch.empty_strided(param.shape, param.stride(), dtype=grad.dtype, device=grad.device).copy_(grad)
    return buffer_of(grad)
