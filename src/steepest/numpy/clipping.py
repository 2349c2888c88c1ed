"""Clipping in place, for those who want it apart from the step: a chain whose last rule writes the update back."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from steepest import rules
from steepest.collect import Arrays, listed_gradients, tensors_of
from steepest.language.functions import norm
from steepest.language.rule import Chain, chain, measure, rule, zeros
from steepest.stepping import Stepper

__all__ = ["adaptive_clip_grad_", "clip_grad_norm_", "clip_grad_value_"]


@rule(clipped=zeros)
def _write_back(param: Any, update: Any, state: Any) -> Any:
    state.clipped = update
    return param


def _clip_in_place(what: str, params: Arrays, grads: Arrays, clip: Chain) -> dict[str, Any]:
    row = tensors_of(what, [params])[0]
    checked = listed_gradients(what, row, grads)
    for t, g in zip(row, tensors_of(what, [list(checked)])[0], strict=True):
        if g.param.shape != t.param.shape or g.param.dtype != t.param.dtype:
            raise ValueError(
                f"{what}: the gradient of {t.name!r} is {g.param.dtype}{list(g.param.shape)}, allowed is its parameter's "
                f"{t.param.dtype}{list(t.param.shape)}."
            )
        same = g.param.strides == t.param.strides
        t.buffers["clipped"] = g.param if same else np.empty_like(t.param)
    stepper = Stepper([row], [chain(clip, _write_back())], "auto")
    held = [g if g.strides == t.param.strides else _laid_out(g, t.param) for g, t in zip(checked, row, strict=True)]
    stepper.step(held)
    for g, t in zip(checked, row, strict=True):
        if t.buffers["clipped"] is not g:
            g[...] = t.buffers["clipped"]
    return stepper.measured


def _laid_out(array: NDArray[Any], like: NDArray[Any]) -> NDArray[Any]:
    made = np.empty_like(like)
    made[...] = array
    return made


def clip_grad_norm_(grads: Arrays, max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False) -> float:
    """Scale gradients in place by ``min(1, max_norm / (total + 1e-6))``; return their total norm before.

    A chain with `steepest.clip_by_global_norm` does the same inside the step, without a pass of its own.

    >>> import numpy as np, steepest.numpy as opt
    >>> g = np.array([3.0, 4.0])
    >>> opt.clip_grad_norm_([g], 1.0)
    5.0
    >>> g.round(4)
    array([0.6, 0.8])
    """
    clip = rules.clip_by_global_norm(max_norm, norm_type, "error" if error_if_nonfinite else "propagate")
    total = measure(total=lambda update: norm(update, per="model", order=norm_type))
    return float(_clip_in_place("clip_grad_norm_", grads, grads, chain(total, clip))["total"])


def clip_grad_value_(grads: Arrays, low: float, high: float) -> None:
    """Clip every element of the gradients to [low, high], in place.

    >>> import numpy as np, steepest.numpy as opt
    >>> g = np.array([-3.0, 0.1])
    >>> opt.clip_grad_value_([g], -0.5, 0.5)
    >>> g
    array([-0.5,  0.1])
    """
    _clip_in_place("clip_grad_value_", grads, grads, rules.clip_by_value(low, high))


def adaptive_clip_grad_(
    params: Arrays, grads: Arrays, clipping: float = 0.01, eps: float = 1e-3, axis: int = 0
) -> None:
    """Adaptive gradient clipping in place: each unit at most ``clipping`` times as long as its weights."""
    _clip_in_place("adaptive_clip_grad_", params, grads, rules.adaptive_grad_clip(clipping, eps, axis))
