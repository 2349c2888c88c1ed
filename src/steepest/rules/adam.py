"""The family of Adam: exponential averages of the gradient and its square.

Sources: Kingma & Ba (2015), Algorithm 1 (Adam) and 2 (Adamax); Loshchilov & Hutter (2019), AdamW; Reddi et al. (2018),
AMSGrad; Dozat (2016), NAdam; Liu et al. (2020), RAdam; Chen et al. (2023), Lion. Epsilon stands outside the root of the
corrected second moment, as in the paper's Algorithm 1 and PyTorch (not Keras' "epsilon hat").
"""

from __future__ import annotations

from steepest.checks import Decay, NonNegative
from steepest.language.chain import Chain, chain, scalar, zeros
from steepest.language.functions import abs, maximum, sign, sqrt, where
from steepest.language.rule import recipe, rule
from steepest.rules.descent import before, decay, descend, negate


@rule(exp_avg=zeros, exp_avg_sq=zeros)
def scale_by_adam(
    update,
    state,
    step,
    *,
    beta1: Decay = 0.9,
    beta2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    bias_correction: bool = True,
):
    """Kingma & Ba, Algorithm 1. Without bias correction the moments are used as they are."""
    state.exp_avg = beta1 * state.exp_avg + (1 - beta1) * update
    state.exp_avg_sq = beta2 * state.exp_avg_sq + (1 - beta2) * update**2
    correction1, correction2 = (1 - beta1**step, 1 - beta2**step) if bias_correction else (1.0, 1.0)
    return state.exp_avg / correction1 / (sqrt(state.exp_avg_sq / correction2) + eps)


@rule(exp_avg=zeros, exp_avg_sq=zeros, max_exp_avg_sq=zeros)
def scale_by_amsgrad(update, state, step, *, beta1: Decay = 0.9, beta2: Decay = 0.999, eps: NonNegative = 1e-8):
    """Adam with the largest second moment so far, compared before its bias correction as PyTorch does."""
    state.exp_avg = beta1 * state.exp_avg + (1 - beta1) * update
    state.exp_avg_sq = beta2 * state.exp_avg_sq + (1 - beta2) * update**2
    state.max_exp_avg_sq = maximum(state.max_exp_avg_sq, state.exp_avg_sq)
    return state.exp_avg / (1 - beta1**step) / (sqrt(state.max_exp_avg_sq / (1 - beta2**step)) + eps)


@rule(exp_avg=zeros, exp_inf=zeros)
def scale_by_adamax(update, state, step, *, beta1: Decay = 0.9, beta2: Decay = 0.999, eps: NonNegative = 1e-8):
    """Kingma & Ba, Algorithm 2; epsilon inside the maximum, as PyTorch."""
    state.exp_avg = beta1 * state.exp_avg + (1 - beta1) * update
    state.exp_inf = maximum(beta2 * state.exp_inf, abs(update) + eps)
    return state.exp_avg / ((1 - beta1**step) * state.exp_inf)


@rule(exp_avg=zeros, exp_avg_sq=zeros, mu_product=scalar(1.0))
def scale_by_nadam(
    update,
    state,
    step,
    *,
    beta1: Decay = 0.9,
    beta2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    momentum_decay: NonNegative = 4e-3,
):
    """Dozat's Nesterov momentum in Adam, with the momentum's own schedule and its running product."""
    mu = beta1 * (1 - 0.5 * 0.96 ** (step * momentum_decay))
    mu_next = beta1 * (1 - 0.5 * 0.96 ** ((step + 1) * momentum_decay))
    state.mu_product = state.mu_product * mu
    state.exp_avg = beta1 * state.exp_avg + (1 - beta1) * update
    state.exp_avg_sq = beta2 * state.exp_avg_sq + (1 - beta2) * update**2
    now = (1 - mu) / (1 - state.mu_product) * update
    ahead = mu_next / (1 - state.mu_product * mu_next) * state.exp_avg
    return (now + ahead) / (sqrt(state.exp_avg_sq / (1 - beta2**step)) + eps)


@rule(exp_avg=zeros, exp_avg_sq=zeros)
def scale_by_radam(update, state, step, *, beta1: Decay = 0.9, beta2: Decay = 0.999, eps: NonNegative = 1e-8):
    """Liu et al., Algorithm 2, rectified where ``rho > 5`` (PyTorch; the paper where ``rho > 4``); momentum below."""
    state.exp_avg = beta1 * state.exp_avg + (1 - beta1) * update
    state.exp_avg_sq = beta2 * state.exp_avg_sq + (1 - beta2) * update**2
    corrected = state.exp_avg / (1 - beta1**step)
    rho_inf = 2 / (1 - beta2) - 1
    rho = rho_inf - 2 * step * beta2**step / (1 - beta2**step)
    rectifier = sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))
    adaptive = rectifier * sqrt(1 - beta2**step) / (sqrt(state.exp_avg_sq) + eps)
    return where(rho > 5, corrected * adaptive, corrected)


@rule(exp_avg=zeros)
def scale_by_lion(update, state, *, beta1: Decay = 0.9, beta2: Decay = 0.99):
    """Chen et al., Program 1: the sign of an interpolation, and a slower average to remember."""
    direction = sign(beta1 * state.exp_avg + (1 - beta1) * update)
    state.exp_avg = beta2 * state.exp_avg + (1 - beta2) * update
    return direction


@recipe(kind="optimizer", class_name="Adam", switches="foreach capturable differentiable fused")
def adam(
    lr: NonNegative = 1e-3,
    betas: tuple[Decay, Decay] = (0.9, 0.999),
    eps: NonNegative = 1e-8,
    weight_decay: NonNegative = 0.0,
    amsgrad: bool = False,
    maximize: bool = False,
    decoupled_weight_decay: bool = False,
) -> Chain:
    """Adam: ``p -= lr * m_hat / (sqrt(v_hat) + eps)``, with coupled (L2) weight decay.

    Parameters
    ----------
    lr : learning rate, >= 0, or a schedule. 1e-3, Kingma & Ba, Algorithm 1.
    betas : decay of the averages of the gradient and of its square, each in [0, 1), or schedules. 0.9 and 0.999, Kingma & Ba,
        Algorithm 1.
    eps : added to the root of the corrected second moment, >= 0. 1e-8, Kingma & Ba, Algorithm 1.
    weight_decay : >= 0, added to the gradient before the moments see it (L2), unless ``decoupled_weight_decay`` is set.
    amsgrad : divide by the largest second moment so far (Reddi et al. 2018).
    maximize : ascend instead.
    decoupled_weight_decay : add the decay behind the moments instead, as `adamw` does.

    Raises
    ------
    ValueError, TypeError : a value outside its range.

    Examples
    --------
    >>> import steepest
    >>> print(steepest.adam(1e-3))
    scale_by_adam > descend

    Source: Kingma & Ba (2015), Algorithm 1, epsilon outside the root; argument names of ``torch.optim.Adam``.
    """
    scale = scale_by_amsgrad if amsgrad else scale_by_adam
    return _with_decay(scale(*betas, eps), lr, weight_decay, decoupled_weight_decay, maximize)


@recipe(kind="optimizer", class_name="AdamW", switches="foreach capturable differentiable fused")
def adamw(
    lr: NonNegative = 1e-3,
    betas: tuple[Decay, Decay] = (0.9, 0.999),
    eps: NonNegative = 1e-8,
    weight_decay: NonNegative = 1e-2,
    amsgrad: bool = False,
    maximize: bool = False,
) -> Chain:
    """Adam with decoupled decay: ``p -= lr * (m_hat / (sqrt(v_hat) + eps) + weight_decay * p)``.

    The decay is multiplied by the learning rate, as in PyTorch and Optax.

    Parameters
    ----------
    lr : learning rate, >= 0, or a schedule. 1e-3, Kingma & Ba, Algorithm 1.
    betas : decay of the averages of the gradient and of its square, each in [0, 1), or schedules. 0.9 and 0.999, Kingma & Ba,
        Algorithm 1.
    eps : added to the root of the corrected second moment, >= 0. 1e-8, Kingma & Ba, Algorithm 1.
    weight_decay : >= 0, or a schedule; added behind the moments, which do not see it. 1e-2 is PyTorch's default (Optax: 1e-4).
    amsgrad : divide by the largest second moment so far (Reddi et al. 2018).
    maximize : ascend instead.

    Raises
    ------
    ValueError, TypeError : a value outside its range.

    Examples
    --------
    >>> import steepest
    >>> print(steepest.adamw(1e-3))
    scale_by_adam > add_decayed_weights > descend

    Source: Loshchilov & Hutter (2019), Algorithm 2, whose schedule multiplies the decay without the learning rate.
    """
    scale = scale_by_amsgrad if amsgrad else scale_by_adam
    return _with_decay(scale(*betas, eps), lr, weight_decay, True, maximize)


def _with_decay(scale: Chain, lr: NonNegative, weight_decay: NonNegative, decoupled: bool, maximize: bool) -> Chain:
    first = before(0.0 if decoupled else weight_decay, maximize)
    return chain(first, scale, decay(weight_decay) if decoupled else Chain(), descend(lr))


@recipe(kind="optimizer", class_name="RAdam", switches="foreach capturable differentiable")
def radam(
    lr: NonNegative = 1e-3,
    betas: tuple[Decay, Decay] = (0.9, 0.999),
    eps: NonNegative = 1e-8,
    weight_decay: NonNegative = 0.0,
    decoupled_weight_decay: bool = False,
    maximize: bool = False,
) -> Chain:
    """RAdam: Adam whose step is rectified for the variance of its first second moments; a momentum step before that.

    ``rho = rho_inf - 2 t b2^t / (1 - b2^t)``; where ``rho > 5``: ``p -= lr * m_hat * r * sqrt(1 - b2^t) / (sqrt(v) + eps)``,
    else ``p -= lr * m_hat``.

    Parameters
    ----------
    lr : learning rate, >= 0, or a schedule. 1e-3, the authors' code.
    betas : decay of the averages of the gradient and of its square, each in [0, 1), or schedules. 0.9 and 0.999, the authors'
        code.
    eps : added to the root of the second moment before its correction, >= 0. 1e-8, the authors' code.
    weight_decay : >= 0, added to the gradient before the moments see it (L2), unless ``decoupled_weight_decay`` is set.
    decoupled_weight_decay : add the decay behind the moments instead, as `adamw` does.
    maximize : ascend instead.

    Raises
    ------
    ValueError, TypeError : a value outside its range.

    Examples
    --------
    >>> import steepest
    >>> print(steepest.radam(1e-3))
    scale_by_radam > descend

    Source: Liu et al. (2020), Algorithm 2, with PyTorch's threshold 5.
    """
    return _with_decay(scale_by_radam(*betas, eps), lr, weight_decay, decoupled_weight_decay, maximize)


@recipe(kind="optimizer", class_name="NAdam", switches="foreach capturable differentiable")
def nadam(
    lr: NonNegative = 2e-3,
    betas: tuple[Decay, Decay] = (0.9, 0.999),
    eps: NonNegative = 1e-8,
    weight_decay: NonNegative = 0.0,
    momentum_decay: NonNegative = 4e-3,
    decoupled_weight_decay: bool = False,
    maximize: bool = False,
) -> Chain:
    """NAdam: Adam with Nesterov momentum whose strength follows its own schedule (``momentum_decay``).

    Parameters
    ----------
    lr : learning rate, >= 0, or a schedule. 2e-3, PyTorch's default.
    betas : decay of the averages of the gradient and of its square, each in [0, 1), or schedules. 0.9 and 0.999, PyTorch's
        defaults.
    eps : added to the root of the corrected second moment, >= 0. 1e-8, PyTorch's default.
    weight_decay : >= 0, added to the gradient before the moments see it (L2), unless ``decoupled_weight_decay`` is set.
    momentum_decay : how fast the momentum rises from half of ``beta1`` towards it, >= 0; 4e-3, PyTorch's default.
    decoupled_weight_decay : add the decay behind the moments instead, as `adamw` does.
    maximize : ascend instead.

    Raises
    ------
    ValueError, TypeError : a value outside its range.

    Examples
    --------
    >>> import steepest
    >>> print(steepest.nadam())
    scale_by_nadam > descend

    Source: Dozat (2016) as PyTorch states it.
    """
    scale = scale_by_nadam(*betas, eps, momentum_decay)
    return _with_decay(scale, lr, weight_decay, decoupled_weight_decay, maximize)


@recipe(kind="optimizer", class_name="Adamax", switches="foreach capturable differentiable")
def adamax(
    lr: NonNegative = 2e-3,
    betas: tuple[Decay, Decay] = (0.9, 0.999),
    eps: NonNegative = 1e-8,
    weight_decay: NonNegative = 0.0,
    maximize: bool = False,
) -> Chain:
    """Adamax: Adam with the decayed maximum of the gradient in place of its second moment.

    ``u = max(beta2 * u, |g| + eps)``; ``p -= lr / (1 - beta1^t) * m / u``.

    Parameters
    ----------
    lr : learning rate, >= 0, or a schedule. 2e-3, Kingma & Ba, Algorithm 2.
    betas : decay of the average of the gradient and of the maximum of its magnitude, each in [0, 1), or schedules. 0.9 and 0.999,
        Kingma & Ba, Algorithm 2.
    eps : added to the gradient's magnitude inside the maximum, >= 0. 1e-8, PyTorch's default; the paper has none.
    weight_decay : >= 0, added to the gradient before the averages see it (L2).
    maximize : ascend instead.

    Raises
    ------
    ValueError, TypeError : a value outside its range.

    Examples
    --------
    >>> import steepest
    >>> print(steepest.adamax())
    scale_by_adamax > descend

    Source: Kingma & Ba (2015), Algorithm 2; epsilon as in PyTorch.
    """
    return chain(before(weight_decay, maximize), scale_by_adamax(*betas, eps), descend(lr))


@recipe(kind="optimizer", class_name="Lion")
def lion(
    lr: NonNegative = 1e-4,
    betas: tuple[Decay, Decay] = (0.9, 0.99),
    weight_decay: NonNegative = 0.0,
    maximize: bool = False,
) -> Chain:
    """Lion: ``p -= lr * (sign(beta1 * m + (1 - beta1) * g) + weight_decay * p)``; ``m = beta2 * m + (1 - beta2) * g``.

    Every coordinate moves by ``lr``: take a learning rate 3 to 10 times below AdamW's, a decay as much above.

    Parameters
    ----------
    lr : learning rate, >= 0, or a schedule. 1e-4, Chen et al., Program 1.
    betas : of the interpolation whose sign is taken, and of the average that is kept, each in [0, 1), or schedules. 0.9 and
        0.99, Program 1.
    weight_decay : >= 0, decoupled, multiplied by the learning rate.
    maximize : ascend instead.

    Examples
    --------
    >>> import steepest
    >>> print(steepest.lion(1e-4, weight_decay=0.1))
    scale_by_lion > add_decayed_weights > descend

    Source: Chen et al. (2023), Program 1.
    """
    return chain(negate() if maximize else Chain(), scale_by_lion(*betas), decay(weight_decay), descend(lr))
