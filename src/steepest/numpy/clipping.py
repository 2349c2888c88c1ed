"""Clipping in place, for those who want it apart from the step: a chain whose last rule writes the update back.

The chains (`written_back`, `with_total`) and the check of an axis serve every front end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steepest import rules
from steepest.checks import Range, check_arguments
from steepest.engines.tensors import Tensor
from steepest.interrupts import interrupts_held
from steepest.language.chain import Chain, chain, measure, zeros
from steepest.language.functions import norm
from steepest.language.rule import rule
from steepest.numpy.arrays import Arrays, listed_gradients, tensors_of
from steepest.numpy.optimizer import Gradients
from steepest.step.stepper import Stepper

__all__ = ["adaptive_clip_grad_", "check_axis", "clip_grad_norm_", "clip_grad_value_", "with_total", "written_back"]


@rule(clipped=zeros)
def _write_back(param: Any, update: Any, state: Any) -> Any:
    state.clipped = update
    return param


def written_back(clip: Chain) -> Chain:
    """A clip whose result is stored in ``clipped``, which a front end lays where the gradient is; weights stay."""
    return chain(clip, _write_back())


def with_total(norm_type: float, clip: Chain | None = None) -> Chain:
    """A clip, if any, after the measurement ``total``: the norm of all gradients before it."""
    return _total(norm_type) if clip is None else chain(_total(norm_type), clip)


@cache  # a plan is known by the functions in its chain
def _total(norm_type: float) -> Chain:
    return measure(total=lambda update: norm(update, per="model", order=norm_type))


def check_axis(what: str, tensors: Sequence[Tensor], axis: int) -> None:
    """Raise if ``axis`` isn't a dimension of a parameter that has two or more."""
    for t in tensors:
        dimensions = len(t.shape)
        allowed = Range(-dimensions, dimensions - 1, whole=True)
        if dimensions > 1 and axis not in allowed:
            raise ValueError(
                f"{what}: axis must be {allowed}, got {axis!r}. Parameter {t.name!r} has {dimensions} dimensions."
            )


def _clip_in_place(what: str, row: list[Tensor], grads: Gradients, clip: Chain) -> dict[str, Any]:
    checked = listed_gradients(what, row, grads)
    held: list[NDArray[Any] | None] = []
    for t, own, g in zip(row, tensors_of(what, [_standing_in(checked)])[0], checked, strict=True):
        if g is None:
            held.append(None)
            continue
        if own.param.shape != t.param.shape or own.param.dtype != t.param.dtype:
            raise ValueError(
                f"{what}: the gradient of {t.name!r} must be {t.param.dtype}{list(t.param.shape)} like the parameter, "
                f"got {own.param.dtype}{list(own.param.shape)}."
            )
        same = g.strides == t.param.strides
        t.buffers["clipped"] = g if same else np.empty_like(t.param)
        held.append(g if same else _laid_out(g, t.param))
    stepper = Stepper([row], [written_back(clip)], "auto")
    with interrupts_held():
        stepper.step(held)
        for g, t in zip(checked, row, strict=True):
            if g is not None and t.buffers["clipped"] is not g:
                g[...] = t.buffers["clipped"]
    return stepper.readings.named()


def _standing_in(grads: Any) -> Any:
    """Gradients as parameters of their own: an array without elements stands for None, so that all keep their names."""
    if isinstance(grads, Mapping):
        return {name: np.empty(0) if g is None else g for name, g in grads.items()}
    return [np.empty(0) if g is None else g for g in grads] if isinstance(grads, Sequence) else grads


def _laid_out(array: NDArray[Any], like: NDArray[Any]) -> NDArray[Any]:
    made = np.empty_like(like)
    made[...] = array
    return made


def clip_grad_norm_(
    grads: Gradients, max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False
) -> float:
    """Scale gradients in place by ``min(1, max_norm / (total + 1e-6))``; return their total norm before.

    None among the gradients is skipped; the norm of nothing is 0. A chain with `steepest.clip_by_global_norm` does the same
    inside the step, without a pass of its own.

    >>> import numpy as np, steepest.numpy as opt
    >>> g = np.array([3.0, 4.0])
    >>> opt.clip_grad_norm_([g], 1.0)
    5.0
    >>> g.round(4)
    array([0.6, 0.8])
    """
    check_arguments(
        "clip_grad_norm_", {"max_norm": max_norm, "norm_type": norm_type}, rules.clip_by_global_norm.function
    )
    clip = rules.clip_by_global_norm(max_norm, norm_type, "error" if error_if_nonfinite else "propagate")
    row = tensors_of("clip_grad_norm_", [_standing_in(grads)])[0]
    return float(_clip_in_place("clip_grad_norm_", row, grads, with_total(norm_type, clip)).get("total", 0.0))


def clip_grad_value_(grads: Gradients, low: float, high: float) -> None:
    """Clip every element of the gradients to [low, high], in place; None among them is skipped.

    >>> import numpy as np, steepest.numpy as opt
    >>> g = np.array([-3.0, 0.1])
    >>> opt.clip_grad_value_([g], -0.5, 0.5)
    >>> g
    array([-0.5,  0.1])
    """
    check_arguments("clip_grad_value_", {"low": low, "high": high}, rules.clip_by_value)
    clip = rules.clip_by_value(low, high)
    _clip_in_place("clip_grad_value_", tensors_of("clip_grad_value_", [_standing_in(grads)])[0], grads, clip)


def adaptive_clip_grad_(
    params: Arrays, grads: Gradients, clipping: float = 0.01, eps: float = 1e-3, axis: int = 0
) -> None:
    """Adaptive gradient clipping in place: each unit at most ``clipping`` times as long as its weights.

    None among the gradients is skipped. Raises ValueError if ``axis`` isn't a dimension of a parameter that has two or more;
    one with fewer is a unit as a whole.
    """
    check_arguments(
        "adaptive_clip_grad_", {"clipping": clipping, "eps": eps, "axis": axis}, rules.adaptive_grad_clip.function
    )
    clip = rules.adaptive_grad_clip(clipping, eps, axis)
    row = tensors_of("adaptive_clip_grad_", [params])[0]
    check_axis("adaptive_clip_grad_", row, axis)
    _clip_in_place("adaptive_clip_grad_", row, grads, clip)
