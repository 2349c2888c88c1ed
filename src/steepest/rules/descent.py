"""Gradient descent and what surrounds every rule: applying the update, momentum, weight decay.

Sources: Polyak (1964) and Nesterov (1983) in the form of Sutskever et al. (2013) as PyTorch states it; decoupled decay
after Loshchilov & Hutter (2019).
"""

from __future__ import annotations

from steepest.checks import NonNegative, Real
from steepest.language.chain import Chain, chain, zeros
from steepest.language.functions import where
from steepest.language.rule import recipe, rule


@rule
def descend(param, update, *, lr: NonNegative):
    """Apply the update: ``param - lr * update``."""
    return param - lr * update


@rule
def scale_by_learning_rate(update, *, lr: NonNegative):
    """Multiply the update by the learning rate, for rules that keep it inside their momentum."""
    return lr * update


@rule
def negate(update):
    """Turn descent into ascent (``maximize=True``)."""
    return -update


@rule
def add_decayed_weights(update, param, *, weight_decay: NonNegative):
    """Add ``weight_decay * param`` to the update.

    Before a preconditioner this is the coupled decay of Adam (L2), after it the decoupled decay of AdamW.
    """
    return update + weight_decay * param


@rule(momentum_buffer=zeros)
def accumulate_momentum(
    update, state, step, *, momentum: NonNegative = 0.9, dampening: Real = 0.0, nesterov: bool = False
):
    """PyTorch's momentum: the first step takes the update undampened."""
    accumulated = momentum * state.momentum_buffer + (1 - dampening) * update
    state.momentum_buffer = where(step == 1, update, accumulated)
    return update + momentum * state.momentum_buffer if nesterov else state.momentum_buffer


def before(weight_decay: NonNegative, maximize: bool) -> Chain:
    """What stands before a rule with coupled decay: the sign, then ``g + weight_decay * p``; nothing where both are off."""
    return chain(negate() if maximize else Chain(), decay(weight_decay))


def decay(weight_decay: NonNegative) -> Chain:
    """`add_decayed_weights`, or nothing where the decay is 0 (so that an infinite weight leaks no nan)."""
    return add_decayed_weights(weight_decay) if callable(weight_decay) or weight_decay != 0 else Chain()


def momentum_if(momentum: NonNegative, dampening: Real = 0.0, nesterov: bool = False) -> Chain:
    """`accumulate_momentum`, or nothing where the momentum is 0."""
    on = callable(momentum) or momentum != 0
    return accumulate_momentum(momentum, dampening, nesterov) if on else Chain()


@recipe(kind="optimizer", class_name="SGD", switches="foreach differentiable fused")
def sgd(
    lr: NonNegative = 1e-3,
    momentum: NonNegative = 0.0,
    dampening: Real = 0.0,
    weight_decay: NonNegative = 0.0,
    nesterov: bool = False,
    maximize: bool = False,
) -> Chain:
    r"""Stochastic gradient descent, with PyTorch's momentum and coupled weight decay.

    ``d = g + weight_decay * p``; ``buffer = momentum * buffer + (1 - dampening) * d`` (``d`` at the first step);
    ``p -= lr * buffer`` (Nesterov: ``p -= lr * (d + momentum * buffer)``).

    Parameters
    ----------
    lr : learning rate, >= 0, or a schedule. 1e-3 is PyTorch's default.
    momentum : >= 0; 0 keeps no buffer.
    dampening : share of the update that does not enter the buffer; any finite number.
    weight_decay : >= 0, added to the gradient (L2).
    nesterov : look ahead along the buffer; needs ``momentum > 0`` and ``dampening = 0``.
    maximize : ascend instead.

    Raises
    ------
    ValueError, TypeError : a value outside its range; Nesterov without momentum or with dampening.

    Examples
    --------
    >>> import steepest
    >>> print(steepest.sgd(0.1, momentum=0.9))
    accumulate_momentum > descend

    Source: PyTorch, ``torch.optim.SGD``; Sutskever et al. (2013), which keeps the learning rate inside the buffer instead.
    """
    if nesterov and ((not callable(momentum) and momentum <= 0) or dampening != 0):
        raise ValueError(
            f"sgd: nesterov must be False unless momentum > 0 and dampening = 0, got nesterov=True with "
            f"momentum={momentum!r} and dampening={dampening!r}."
        )
    return chain(before(weight_decay, maximize), momentum_if(momentum, dampening, nesterov), descend(lr))
