"""Clipping in place on ``p.grad``, for those who want it apart from the step, under the names of PyTorch and timm.

A clip runs as a chain whose last rule writes the update back, on tensors whose state ``clipped`` is the gradient's own
memory. A clip inside an optimizer's chain does the same without passes of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import reduce
from operator import attrgetter
from typing import Any, Literal

import torch
from torch.autograd.graph import increment_version

from steepest import rules
from steepest.checks import Range, check_arguments, check_number
from steepest.engines.tensors import Tensor
from steepest.interrupts import interrupts_held
from steepest.language.chain import Chain
from steepest.numpy.clipping import check_axis, with_total, written_back
from steepest.step.stepper import Stepper
from steepest.torch.foreach import ForeachEngine
from steepest.torch.graphs import outside_of_graphs
from steepest.torch.views import NARROW, buffer_of, effective_strides

__all__ = ["adaptive_clip_grad_", "clip_grad_norm_", "clip_grad_value_"]

_FOREACH = ForeachEngine()
_grad, _layout = attrgetter("grad"), attrgetter("layout")
_LARGE = 1 << 14
"""Elements from which a call of its own costs less than a second pass over memory."""


@outside_of_graphs
def clip_grad_norm_(
    parameters: torch.Tensor | Iterable[torch.Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> torch.Tensor:
    """Scale gradients in place by ``min(1, max_norm / (total + 1e-6))``; return their total norm before.

    Parameters
    ----------
    parameters : one tensor or several; those without a gradient are skipped, the norm of nothing is 0.
    max_norm : a positive number; infinity only measures.
    norm_type : the order of the norm, a positive number or infinity.
    error_if_nonfinite : raise RuntimeError, before anything is changed, where the total is nan or infinite.
    foreach : taken as PyTorch takes it, without effect.

    Squares are added up in float64, so that they do not overflow. The norm of 16-bit gradients is a float32 tensor, since float16
    ends at 65504. Raises ValueError for a gradient that is given twice, and for complex ones unless ``norm_type`` is 2; TypeError
    for sparse ones.

    >>> import torch, steepest.torch as opt
    >>> w = torch.nn.Parameter(torch.zeros(2))
    >>> w.grad = torch.tensor([3.0, 4.0])
    >>> opt.clip_grad_norm_(w, 1.0)
    tensor(5.)
    >>> w.grad
    tensor([0.6000, 0.8000])

    Source: `torch.nn.utils.clip_grad_norm_`.
    """
    what, max_norm, norm_type = "clip_grad_norm_", float(max_norm), float(norm_type)
    on_nonfinite: Literal["error", "propagate"] = "error" if error_if_nonfinite else "propagate"
    if max_norm != math.inf:
        check_arguments(what, {"max_norm": max_norm, "norm_type": norm_type}, rules.clip_by_global_norm.function)
    clip = None if max_norm == math.inf else rules.clip_by_global_norm(max_norm, norm_type, on_nonfinite)
    given = _with_gradients(what, parameters)
    if not given:
        return torch.zeros((), dtype=torch.float32, device="cpu")
    grads = [p.grad for p in given if p.grad is not None]
    if norm_type != 2.0 and any(map(torch.is_complex, grads)):
        raise ValueError(f"{what}: norm_type must be 2.0 if a gradient is complex, got {norm_type}.")
    try:
        total = _run([_clipped_itself(n, g) for n, g in enumerate(grads)], with_total(norm_type, clip))["total"]
    except FloatingPointError:
        raise RuntimeError(
            f"{what}: the norm of order {norm_type:g} of all gradients isn't finite. Nothing was changed. To clip anyway, "
            f"leave out error_if_nonfinite."
        ) from None
    dtype = reduce(torch.promote_types, (g.real.dtype if g.is_complex() else g.dtype for g in grads))
    return torch.tensor(total, dtype=torch.float32 if dtype in NARROW else dtype, device=grads[0].device)


@outside_of_graphs
def clip_grad_value_(parameters: torch.Tensor | Iterable[torch.Tensor], clip_value: float) -> None:
    """Clip every element of the gradients to [-clip_value, clip_value], in place; nan stays nan.

    ``clip_value`` is a positive number. Parameters without a gradient are skipped. Raises TypeError for sparse or complex
    gradients, before any is changed.

    >>> import torch, steepest.torch as opt
    >>> w = torch.nn.Parameter(torch.zeros(2))
    >>> w.grad = torch.tensor([-3.0, 0.1])
    >>> opt.clip_grad_value_([w], 0.5)
    >>> w.grad
    tensor([-0.5000,  0.1000])

    Source: `torch.nn.utils.clip_grad_value_`.
    """
    what, clip_value = "clip_grad_value_", float(clip_value)
    check_number(what, "clip_value", clip_value, Range(0, low_included=False))
    several = [parameters] if isinstance(parameters, torch.Tensor) else list(parameters)
    grads = [g for g in map(_grad, several) if g is not None]
    _check_strided(what, grads)
    if any(map(torch.is_complex, grads)):
        raise TypeError(f"{what}: gradients must be real, got a complex one. Complex numbers have no order.")
    # A large one in one pass over memory; the others in torch's two calls for all of them, which take less time.
    large, small = list[torch.Tensor](), grads
    if max(map(torch.Tensor.numel, grads), default=0) >= _LARGE:
        large = [g for g in grads if g.numel() >= _LARGE and g.is_cpu]
        small = [g for g in grads if g.numel() < _LARGE or not g.is_cpu]
    with torch.no_grad(), interrupts_held():
        for grad in large:
            grad.clamp_(-clip_value, clip_value)
        if small:
            torch._foreach_clamp_min_(small, -clip_value)
            torch._foreach_clamp_max_(small, clip_value)


@outside_of_graphs
def adaptive_clip_grad_(
    parameters: torch.Tensor | Iterable[torch.Tensor], clipping: float = 0.01, eps: float = 1e-3, axis: int = 0
) -> None:
    """Adaptive gradient clipping in place: each unit of a gradient at most ``clipping`` times as long as its weights.

    Parameters
    ----------
    parameters : one tensor or several; those without a gradient are skipped.
    clipping : a positive number; 0.01 is the paper's for SGD with batches of 4096.
    eps : a positive number, below which no unit's length counts; 1e-3 is the paper's.
    axis : the dimension that numbers the units; a tensor with at most one dimension is a unit as a whole.

    Raises ValueError if ``axis`` isn't a dimension of a parameter that has two or more, and for a gradient that is given
    twice; TypeError for sparse ones.

    >>> import torch, steepest.torch as opt
    >>> w = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    >>> w.grad = torch.tensor([0.0, 10.0])
    >>> opt.adaptive_clip_grad_(w, 0.01)
    >>> w.grad
    tensor([0.0000, 0.0500])

    Source: Brock et al. (2021), Equation 3; timm's ``adaptive_clip_grad``.
    """
    what = "adaptive_clip_grad_"
    check_arguments(what, {"clipping": clipping, "eps": eps, "axis": axis}, rules.adaptive_grad_clip.function)
    clip = rules.adaptive_grad_clip(clipping, eps, axis)
    rows = [_clipped_beside(n, p) for n, p in enumerate(_with_gradients(what, parameters))]
    check_axis(what, [t for t, _, _ in rows], axis)
    _run(rows, clip)


# ---- from parameters to tensors


def _with_gradients(what: str, parameters: torch.Tensor | Iterable[torch.Tensor]) -> list[torch.Tensor]:
    several = [parameters] if isinstance(parameters, torch.Tensor) else list(parameters)
    given = [p for p in several if p.grad is not None]
    if len({id(p) for p in given}) < len(given):
        raise ValueError(f"{what}: parameters must be different, got one twice. Its gradient would be clipped twice.")
    _check_strided(what, [*map(_grad, given)])
    return given


def _check_strided(what: str, grads: list[torch.Tensor]) -> None:
    for layout in {*map(_layout, grads)} - {torch.strided}:
        raise TypeError(
            f"{what}: gradients must have the layout torch.strided, got {layout}. Make them dense: nn.Embedding(…, sparse=False)."
        )


_Row = tuple[Tensor, torch.Tensor, torch.Tensor]
"""A tensor for the engines, the gradient to be clipped, and where it lies: itself, or a copy in the right layout."""


def _clipped_itself(index: int, grad: torch.Tensor) -> _Row:
    """A gradient as a parameter of its own: so any layout suits."""
    memory = torch.empty_like(grad).copy_(grad) if grad.is_neg() or grad.is_conj() else grad
    buffer = buffer_of(memory)
    return Tensor(str(index), index, {"param": buffer, "clipped": buffer}), grad, memory


def _clipped_beside(index: int, param: torch.Tensor) -> _Row:
    """A gradient with the weights that its length is compared with."""
    grad, param = param.grad, param.detach()
    assert grad is not None
    alike = effective_strides(grad.shape, grad.stride()) == effective_strides(param.shape, param.stride())
    suits = alike and grad.dtype == param.dtype and not grad.is_neg() and not grad.is_conj()
    memory = grad if suits else torch.empty_strided(param.shape, param.stride(), dtype=param.dtype, device=param.device)
    if not suits:
        memory.copy_(grad.detach())
    tensor = Tensor(str(index), index, {"param": buffer_of(param), "clipped": buffer_of(memory)})
    tensor.shape = tuple(param.shape)
    return tensor, grad, memory


@torch.no_grad()
def _run(rows: list[_Row], clip: Chain) -> dict[str, Any]:
    """Clip; a copy's result goes back to its gradient."""
    if not rows:
        return {}
    stepper = Stepper([[t for t, _, _ in rows]], [written_back(clip)], "auto", _FOREACH)
    with interrupts_held():
        stepper.step([t.buffers["clipped"] for t, _, _ in rows])
        for _, grad, memory in rows:
            if memory is not grad:
                grad.copy_(memory)
    increment_version([grad for _, grad, _ in rows])
    return stepper.readings.named()
