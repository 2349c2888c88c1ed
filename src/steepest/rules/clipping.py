"""Clipping: by value, by norm (of the model, of a tensor), adaptively by unit.

Sources: Pascanu et al. (2013); Brock et al. (2021) for adaptive clipping. Norms are computed in float64, so a sum of
squares beyond float32 does not overflow. The 1e-6 in the denominators is PyTorch's and Brock's.
"""

from __future__ import annotations

from typing import Literal

from steepest.checks import Axis, Order, Positive, Real
from steepest.language.chain import Chain
from steepest.language.functions import isfinite, maximum, minimum, norm, rms
from steepest.language.rule import recipe, rule
from steepest.language.trace import require


@rule(name="clip_by_value")
def _clip_by_value(update, *, low: Real, high: Real):
    return minimum(maximum(update, low), high)


@recipe(kind="clip")
def clip_by_value(low: Real, high: Real) -> Chain:
    """Clip every element of the update to [low, high]; nan stays nan.

    Parameters
    ----------
    low : any finite number below ``high``, or a schedule.
    high : any finite number above ``low``, or a schedule.

    Raises
    ------
    ValueError, TypeError : a value outside its range; ``low >= high``.

    Examples
    --------
    >>> import steepest
    >>> print(steepest.clip_by_value(-0.5, 0.5))
    clip_by_value

    Source: ``torch.nn.utils.clip_grad_value_``, ``numpy.clip``.
    """
    if not callable(low) and not callable(high) and low >= high:
        raise ValueError(f"clip_by_value: low must be < high, got low={low!r} and high={high!r}.")
    return _clip_by_value(low, high)


@rule(kind="clip")
def clip_by_global_norm(
    update,
    *,
    max_norm: Positive,
    norm_type: Order = 2.0,
    on_nonfinite: Literal["propagate", "skip", "error"] = "propagate",
):
    """Scale all updates of the model by ``min(1, max_norm / (total + 1e-6))``, ``total`` their common p-norm.

    The gradients themselves are not touched, and all groups of an optimizer share one norm.

    Parameters
    ----------
    max_norm : the largest norm, > 0, or a schedule. No default: it belongs to the model; start from a high percentile of
        the norms that a run without clipping shows.
    norm_type : order of the norm, any positive number or ``math.inf``; 2, as Pascanu et al.
    on_nonfinite : what a norm that is nan or infinite does, which is never hidden: "propagate" lets it flow as PyTorch does,
        "skip" leaves out the whole step (state and step count included), "error" raises FloatingPointError before anything
        is changed.

    Raises
    ------
    ValueError, TypeError : a value outside its range.

    Examples
    --------
    >>> import steepest
    >>> print(steepest.chain(steepest.clip_by_global_norm(1.0), steepest.adamw(1e-3)))
    clip_by_global_norm > scale_by_adam > add_decayed_weights > descend

    Source: Pascanu et al. (2013), Algorithm 1; the 1e-6 is that of ``torch.nn.utils.clip_grad_norm_``.
    """
    total = norm(update, per="model", order=norm_type)
    if on_nonfinite != "propagate":
        require(isfinite(total), on_nonfinite, "clip_by_global_norm: the norm of all gradients is not finite")
    return update * minimum(1.0, max_norm / (total + 1e-6))


@rule(kind="clip")
def clip_by_norm(update, *, max_norm: Positive, norm_type: Order = 2.0):
    """Scale the update of each tensor by ``min(1, max_norm / (norm + 1e-6))``, ``norm`` its own p-norm.

    Parameters
    ----------
    max_norm : the largest norm of a tensor, > 0, or a schedule.
    norm_type : order of the norm, any positive number or ``math.inf``; 2, as Pascanu et al.

    Source: ``torch.nn.utils.clip_grad_norm_`` called for each tensor.
    """
    return update * minimum(1.0, max_norm / (norm(update, per="tensor", order=norm_type) + 1e-6))


@rule(kind="clip")
def clip_by_block_rms(update, *, threshold: Positive):
    """Divide each tensor's update by ``max(1, rms / threshold)``, ``rms`` the root of its mean square.

    Parameters
    ----------
    threshold : the largest root mean square, > 0, or a schedule. Adafactor takes 1.

    Source: Shazeer & Stern (2018), section 6; ``optax.clip_by_block_rms``.
    """
    return update / maximum(1.0, rms(update, per="tensor") / threshold)


@rule(kind="clip")
def adaptive_grad_clip(update, param, *, clipping: Positive = 0.01, eps: Positive = 1e-3, axis: Axis = 0):
    """Brock et al., Equation 3: each unit's update is at most ``clipping`` times as long as its weights.

    A unit is one slice along ``axis``, the whole tensor where it has at most one dimension. The paper leaves the final linear
    layer out: ``exclude(adaptive_grad_clip(0.01), "head.*")``.

    Parameters
    ----------
    clipping : the longest update in lengths of the unit's weights, > 0, or a schedule. 0.01 is the paper's for SGD with
        batches of 4096; with Adam or Lion it is too tight.
    eps : what shorter weights count as, > 0, so that weights that start at 0 can leave it; 1e-3, as in the paper.
    axis : the dimension that numbers the units: 0 for PyTorch's layouts, -1 for JAX's.

    Source: Brock et al. (2021), Equation 3; the 1e-6 is that of the authors' code.
    """
    limit = clipping * maximum(norm(param, per="unit", axis=axis), eps)
    return update * minimum(1.0, limit / maximum(norm(update, per="unit", axis=axis), 1e-6))
