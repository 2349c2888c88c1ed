"""Clipping: by value, by norm (of the model, of a tensor), adaptively by unit.

Sources: Pascanu et al. (2013); Brock et al. (2021) for adaptive clipping. Norms are computed in float64, so a sum of
squares beyond float32 does not overflow. The 1e-6 in the denominators is PyTorch's and Brock's.
"""

from __future__ import annotations

from typing import Literal

from steepest.checks import Axis, Order, Positive, Real
from steepest.language.functions import isfinite, maximum, minimum, norm, rms
from steepest.language.rule import Chain, recipe, rule
from steepest.language.trace import require

__all__ = ["adaptive_grad_clip", "clip_by_block_rms", "clip_by_global_norm", "clip_by_norm", "clip_by_value"]


@rule
def _clip_by_value(update, *, low: Real, high: Real):
    return minimum(maximum(update, low), high)


_clip_by_value.function.__name__ = "clip_by_value"


@recipe
def clip_by_value(low: Real, high: Real) -> Chain:
    """Clip every element of the update to [low, high]; nan stays nan. ``low < high``.

    >>> import steepest
    >>> print(steepest.clip_by_value(-0.5, 0.5))
    clip_by_value
    """
    if not callable(low) and not callable(high) and low >= high:
        raise ValueError(f"clip_by_value: low is {low!r}, allowed is below high, which is {high!r}.")
    return _clip_by_value(low, high)


@rule
def clip_by_global_norm(
    update,
    *,
    max_norm: Positive,
    norm_type: Order = 2.0,
    on_nonfinite: Literal["propagate", "skip", "error"] = "propagate",
):
    """Scale all updates of the model by ``min(1, max_norm / (total + 1e-6))``, ``total`` their common p-norm.

    ``norm_type`` may be any positive number or ``math.inf``. A total that is nan or infinite is never hidden:
    ``"propagate"`` lets it flow as PyTorch does, ``"skip"`` leaves out the whole step (state and step count included),
    ``"error"`` raises FloatingPointError before anything is changed.
    """
    total = norm(update, per="model", order=norm_type)
    if on_nonfinite != "propagate":
        require(isfinite(total), on_nonfinite, "clip_by_global_norm: the norm of all gradients is not finite")
    return update * minimum(1.0, max_norm / (total + 1e-6))


@rule
def clip_by_norm(update, *, max_norm: Positive, norm_type: Order = 2.0):
    """The same, tensor by tensor."""
    return update * minimum(1.0, max_norm / (norm(update, per="tensor", order=norm_type) + 1e-6))


@rule
def clip_by_block_rms(update, *, threshold: Positive):
    """Divide each tensor by ``max(1, rms / threshold)``, as Optax and Adafactor."""
    return update / maximum(1.0, rms(update, per="tensor") / threshold)


@rule
def adaptive_grad_clip(update, param, *, clipping: Positive = 0.01, eps: Positive = 1e-3, axis: Axis = 0):
    """Brock et al., Equation 3: each unit's update is at most ``clipping`` times as long as its weights.

    A unit is one slice along ``axis`` (0: PyTorch's layouts, -1: JAX's), the whole tensor where it has at most one
    dimension. The paper leaves the final linear layer out: ``exclude(adaptive_grad_clip(0.01), "head.*")``. The default
    0.01 is the paper's for SGD with batches of 4096; with Adam or Lion it is too tight.
    """
    limit = clipping * maximum(norm(param, per="unit", axis=axis), eps)
    return update * minimum(1.0, limit / maximum(norm(update, per="unit", axis=axis), 1e-6))
