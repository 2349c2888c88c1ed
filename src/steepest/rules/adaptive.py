"""Rules that divide by a history of squared gradients: AdaGrad, RMSProp, Adadelta.

Sources: Duchi et al. (2011); Tieleman & Hinton (2012), lecture 6e, and Graves (2013) for the centred form; Zeiler (2012).
Epsilon stands outside the root in AdaGrad and RMSProp, inside in Adadelta, as in PyTorch.
"""

from __future__ import annotations

from steepest.checks import Decay, Fraction, NonNegative
from steepest.language.chain import Chain, chain, full, zeros
from steepest.language.functions import sqrt
from steepest.language.rule import recipe, rule
from steepest.rules.descent import before, descend, momentum_if


@rule(sum=full("initial_accumulator_value"))
def scale_by_adagrad(update, state, *, initial_accumulator_value: NonNegative = 0.0, eps: NonNegative = 1e-10):
    """Duchi et al.: divide by the root of the sum of squares."""
    state.sum = state.sum + update**2
    return update / (sqrt(state.sum) + eps)


@rule
def scale_by_inverse_time(update, step, *, lr_decay: NonNegative = 0.0):
    """Divide by ``1 + (t - 1) * lr_decay``."""
    return update / (1 + (step - 1) * lr_decay)


@rule(square_avg=zeros)
def scale_by_rms(update, state, *, alpha: Fraction = 0.99, eps: NonNegative = 1e-8):
    """Divide by the root of an exponential average of squares."""
    state.square_avg = alpha * state.square_avg + (1 - alpha) * update**2
    return update / (sqrt(state.square_avg) + eps)


@rule(square_avg=zeros, grad_avg=zeros)
def scale_by_stddev(update, state, *, alpha: Fraction = 0.99, eps: NonNegative = 1e-8):
    """Graves: divide by the root of the average's variance."""
    state.square_avg = alpha * state.square_avg + (1 - alpha) * update**2
    state.grad_avg = alpha * state.grad_avg + (1 - alpha) * update
    return update / (sqrt(state.square_avg - state.grad_avg**2) + eps)


@rule(square_avg=zeros, acc_delta=zeros)
def scale_by_adadelta(update, state, *, rho: Fraction = 0.9, eps: NonNegative = 1e-6):
    """Zeiler, Algorithm 1: the ratio of two averages carries the unit of the parameter."""
    state.square_avg = rho * state.square_avg + (1 - rho) * update**2
    delta = sqrt(state.acc_delta + eps) / sqrt(state.square_avg + eps) * update
    state.acc_delta = rho * state.acc_delta + (1 - rho) * delta**2
    return delta


@recipe(kind="optimizer", class_name="Adagrad", switches="foreach differentiable fused")
def adagrad(
    lr: NonNegative = 1e-2,
    lr_decay: NonNegative = 0.0,
    weight_decay: NonNegative = 0.0,
    initial_accumulator_value: NonNegative = 0.0,
    eps: NonNegative = 1e-10,
    maximize: bool = False,
) -> Chain:
    """AdaGrad: ``sum += g^2``; ``p -= lr / (1 + (t - 1) * lr_decay) * g / (sqrt(sum) + eps)``.

    Parameters
    ----------
    lr : learning rate, >= 0, or a schedule; 1e-2 is PyTorch's default.
    lr_decay : >= 0.
    weight_decay : >= 0, added to the gradient.
    initial_accumulator_value : what ``sum`` starts from, >= 0.
    eps : outside the root, >= 0; 1e-10 is PyTorch's default.
    maximize : ascend instead.

    Raises
    ------
    ValueError, TypeError : a value outside its range.

    Examples
    --------
    >>> import steepest
    >>> print(steepest.adagrad())
    scale_by_adagrad > descend

    Source: Duchi et al. (2011), Figure 1 (diagonal); ``torch.optim.Adagrad``.
    """
    off = not callable(lr_decay) and lr_decay == 0
    return chain(
        before(weight_decay, maximize),
        scale_by_adagrad(initial_accumulator_value, eps),
        Chain() if off else scale_by_inverse_time(lr_decay),
        descend(lr),
    )


@recipe(kind="optimizer", class_name="RMSprop", switches="foreach capturable differentiable")
def rmsprop(
    lr: NonNegative = 1e-2,
    alpha: Fraction = 0.99,
    eps: NonNegative = 1e-8,
    weight_decay: NonNegative = 0.0,
    momentum: NonNegative = 0.0,
    centered: bool = False,
    maximize: bool = False,
) -> Chain:
    """RMSProp: ``square_avg = alpha * square_avg + (1 - alpha) * g^2``; ``p -= lr * g / (sqrt(square_avg) + eps)``.

    Parameters
    ----------
    lr : learning rate, >= 0, or a schedule; 1e-2 is PyTorch's default (Hinton's lecture: 1e-3).
    alpha : decay of the average, in [0, 1]; 0.99 is PyTorch's default (the lecture: 0.9).
    eps : outside the root, >= 0; 1e-8 is PyTorch's default.
    weight_decay : >= 0, added to the gradient.
    momentum : of the scaled update, >= 0; 0 keeps no buffer.
    centered : divide by the standard deviation instead (Graves 2013).
    maximize : ascend instead.

    Raises
    ------
    ValueError, TypeError : a value outside its range.

    Examples
    --------
    >>> import steepest
    >>> print(steepest.rmsprop(momentum=0.9))
    scale_by_rms > accumulate_momentum > descend

    Source: Tieleman & Hinton (2012), lecture 6e; ``torch.optim.RMSprop``.
    """
    scale = scale_by_stddev if centered else scale_by_rms
    return chain(before(weight_decay, maximize), scale(alpha, eps), momentum_if(momentum), descend(lr))


@recipe(kind="optimizer", class_name="Adadelta", switches="foreach capturable differentiable")
def adadelta(
    lr: NonNegative = 1.0,
    rho: Decay = 0.9,
    eps: NonNegative = 1e-6,
    weight_decay: NonNegative = 0.0,
    maximize: bool = False,
) -> Chain:
    """Adadelta: ``delta = sqrt(acc_delta + eps) / sqrt(square_avg + eps) * g``; ``p -= lr * delta``.

    Parameters
    ----------
    lr : >= 0, or a schedule; 1.0, the paper has none.
    rho : decay of both averages, in [0, 1); 0.9 is PyTorch's default (the paper: 0.95).
    eps : inside both roots, >= 0; it sets the size of the first steps. 1e-6, as in the paper and PyTorch.
    weight_decay : >= 0, added to the gradient.
    maximize : ascend instead.

    Raises
    ------
    ValueError, TypeError : a value outside its range.

    Examples
    --------
    >>> import steepest
    >>> print(steepest.adadelta())
    scale_by_adadelta > descend

    Source: Zeiler (2012), Algorithm 1; ``torch.optim.Adadelta``.
    """
    return chain(before(weight_decay, maximize), scale_by_adadelta(rho, eps), descend(lr))
