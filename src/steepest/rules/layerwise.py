"""Layer-wise rules for large batches: the length of a layer's step is tied to the length of its weights.

Sources: You et al. (2017), LARS; You et al. (2020), LAMB. Both leave biases and norm layers out in practice: write
``exclude(scale_by_trust_ratio(), max_ndim=1)`` in a chain, or give such parameters a group of their own.
"""

from __future__ import annotations

from steepest.checks import Decay, NonNegative, Positive
from steepest.language.chain import Chain, chain
from steepest.language.functions import maximum, minimum, norm, where
from steepest.language.rule import recipe, rule
from steepest.rules.adam import scale_by_adam
from steepest.rules.descent import before, decay, descend, momentum_if, negate, scale_by_learning_rate


@rule
def scale_by_trust_ratio(
    update,
    param,
    *,
    trust_coefficient: NonNegative = 1.0,
    eps: NonNegative = 0.0,
    low: NonNegative | None = None,
    high: Positive | None = None,
):
    """Scale the update to the length of the parameter: ``trust_coefficient * phi(|p|) / (|u| + eps)``.

    ``phi`` clamps to [low, high] where given (LAMB, Section 3). The ratio is 1 where either norm is 0.
    """
    weight, length = norm(param, per="tensor"), norm(update, per="tensor")
    clamped = weight if low is None else maximum(weight, low)
    clamped = clamped if high is None else minimum(clamped, high)
    return update * where((weight > 0) & (length > 0), trust_coefficient * clamped / (length + eps), 1.0)


@rule
def scale_by_lars_ratio(
    update, param, *, weight_decay: NonNegative, trust_coefficient: NonNegative = 1e-3, eps: NonNegative = 0.0
):
    """LARS as printed, Equation 6: decay is added, and the norms of gradient and decay are, ``|g| + weight_decay * |p|``."""
    weight, length = norm(param, per="tensor"), norm(update, per="tensor")
    ratio = trust_coefficient * weight / (length + weight_decay * weight + eps)
    return (update + weight_decay * param) * where((weight > 0) & (length > 0), ratio, 1.0)


@recipe(kind="optimizer", class_name="LAMB")
def lamb(
    lr: NonNegative = 1e-3,
    betas: tuple[Decay, Decay] = (0.9, 0.999),
    eps: NonNegative = 1e-6,
    weight_decay: NonNegative = 0.0,
    bias_correction: bool = True,
    clamp: tuple[NonNegative, Positive] | None = None,
    maximize: bool = False,
) -> Chain:
    """LAMB: Adam's step with the decay inside, scaled layer by layer to the length of the weights.

    ``u = m_hat / (sqrt(v_hat) + eps) + weight_decay * p``; ``p -= lr * phi(|p|) / |u| * u``, ratio 1 where a norm is 0.

    Parameters
    ----------
    lr : learning rate, >= 0, or a schedule: the relative length of a layer's step. 1e-3, timm's default.
    betas : decay of the averages of the gradient and of its square, each in [0, 1), or schedules. 0.9 and 0.999, as in the
        authors' code.
    eps : added to the root of the corrected second moment, >= 0. 1e-6, as in the authors' code.
    weight_decay : >= 0, inside the norm (paper, apex, timm, Optax; outside in Keras).
    bias_correction : on by default, as the paper's Algorithm 2.
    clamp : (low, high) for ``phi``; None leaves the norm of the weights as it is. PyTorch-optimizer clamps to (0, 10).
    maximize : ascend instead.

    Raises
    ------
    ValueError, TypeError : a value outside its range; ``clamp`` with low >= high.

    Examples
    --------
    >>> import steepest
    >>> print(steepest.lamb(1e-3, weight_decay=0.01))
    scale_by_adam > add_decayed_weights > scale_by_trust_ratio > descend

    Source: You et al. (2020), Algorithm 2. No gradient clipping inside (timm and apex clip by global norm 1 first).
    """
    low, high = clamp if clamp is not None else (None, None)
    if low is not None and high is not None and not callable(low) and not callable(high) and low >= high:
        raise ValueError(f"lamb: clamp must be (low, high) with low < high, got {clamp!r}.")
    return chain(
        negate() if maximize else Chain(),
        scale_by_adam(*betas, eps, bias_correction),
        decay(weight_decay),
        scale_by_trust_ratio(1.0, 0.0, low, high),
        descend(lr),
    )


@recipe(kind="optimizer", class_name="LARS")
def lars(
    lr: NonNegative = 1.0,
    momentum: NonNegative = 0.9,
    weight_decay: NonNegative = 0.0,
    trust_coefficient: NonNegative = 1e-3,
    eps: NonNegative = 0.0,
    nesterov: bool = False,
    norms_apart: bool = False,
    lr_in_momentum: bool = True,
    maximize: bool = False,
) -> Chain:
    """LARS: momentum on a gradient that is scaled layer by layer to the length of the weights.

    ``d = g + weight_decay * p``; ``d *= trust_coefficient * |p| / (|d| + eps)``; momentum on ``lr * d``; ``p -= buffer``.

    Parameters
    ----------
    lr : learning rate, >= 0, or a schedule; 1.0 as in timm. A step has about ``lr * trust_coefficient / (1 - momentum)`` times
        the length of its weights: a hundredth.
    momentum : >= 0; 0.9 as in the paper.
    weight_decay : >= 0.
    trust_coefficient : >= 0; 1e-3, the paper's eta.
    eps : added to the denominator, >= 0.
    nesterov : look ahead along the buffer.
    norms_apart : the paper's denominator ``|g| + weight_decay * |p| + eps`` (timm) instead of Optax's ``|d| + eps``.
    lr_in_momentum : the learning rate enters the buffer (paper, Optax); False applies it outside (timm).
    maximize : ascend instead.

    Raises
    ------
    ValueError, TypeError : a value outside its range.

    Examples
    --------
    >>> import steepest
    >>> print(steepest.lars(0.1))
    scale_by_trust_ratio > scale_by_learning_rate > accumulate_momentum > descend

    Source: You et al. (2017), Algorithm 1.
    """
    if norms_apart:
        first = chain(before(0.0, maximize), scale_by_lars_ratio(weight_decay, trust_coefficient, eps))
    else:
        first = chain(before(weight_decay, maximize), scale_by_trust_ratio(trust_coefficient, eps))
    if lr_in_momentum:
        return chain(first, scale_by_learning_rate(lr), momentum_if(momentum, 0.0, nesterov), descend(1.0))
    return chain(first, momentum_if(momentum, 0.0, nesterov), descend(lr))
