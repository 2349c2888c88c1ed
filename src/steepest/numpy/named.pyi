# Written by tools/stubs.py from what the rules and recipes declare. Don't edit this file, run the script again.
from steepest.checks import Decay, Fraction, NonNegative, Positive, Real
from steepest.numpy.lookahead import Lookahead as Lookahead
from steepest.numpy.optimizer import Optimizer, Params

__all__ = [
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "LAMB",
    "LARS",
    "Lion",
    "Lookahead",
    "NAdam",
    "RAdam",
    "RMSprop",
    "SGD",
]

class Adadelta(Optimizer):
    """Adadelta: ``delta = sqrt(acc_delta + eps) / sqrt(square_avg + eps) * g``; ``p -= lr * delta``.

    The recipe `steepest.adadelta` on NumPy arrays.

    Parameters
    ----------
    params : list or dict of float32 or float64 arrays, or a list of groups with a ``"params"`` each.
    lr : >= 0, or a schedule; 1.0, the paper has none.
    rho : decay of both averages, in [0, 1); 0.9 is PyTorch's default (the paper: 0.95).
    eps : inside both roots, >= 0; it sets the size of the first steps. 1e-6, as in the paper and PyTorch.
    weight_decay : >= 0, added to the gradient.
    maximize : ascend instead.
    engine : ``"auto"``, ``"cpu"`` (compiled, by Numba) or ``"arrays"`` (plain NumPy, the reference).

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
    def __init__(
        self,
        params: Params,
        lr: NonNegative = 1.0,
        rho: Decay = 0.9,
        eps: NonNegative = 1e-06,
        weight_decay: NonNegative = 0.0,
        maximize: bool = False,
        *,
        engine: str = "auto",
    ) -> None: ...

class Adagrad(Optimizer):
    """AdaGrad: ``sum += g^2``; ``p -= lr / (1 + (t - 1) * lr_decay) * g / (sqrt(sum) + eps)``.

    The recipe `steepest.adagrad` on NumPy arrays.

    Parameters
    ----------
    params : list or dict of float32 or float64 arrays, or a list of groups with a ``"params"`` each.
    lr : learning rate, >= 0, or a schedule; 1e-2 is PyTorch's default.
    lr_decay : >= 0.
    weight_decay : >= 0, added to the gradient.
    initial_accumulator_value : what ``sum`` starts from, >= 0.
    eps : outside the root, >= 0; 1e-10 is PyTorch's default.
    maximize : ascend instead.
    engine : ``"auto"``, ``"cpu"`` (compiled, by Numba) or ``"arrays"`` (plain NumPy, the reference).

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
    def __init__(
        self,
        params: Params,
        lr: NonNegative = 0.01,
        lr_decay: NonNegative = 0.0,
        weight_decay: NonNegative = 0.0,
        initial_accumulator_value: NonNegative = 0.0,
        eps: NonNegative = 1e-10,
        maximize: bool = False,
        *,
        engine: str = "auto",
    ) -> None: ...

class Adam(Optimizer):
    """Adam: ``p -= lr * m_hat / (sqrt(v_hat) + eps)``, with coupled (L2) weight decay.

    The recipe `steepest.adam` on NumPy arrays.

    Parameters
    ----------
    params : list or dict of float32 or float64 arrays, or a list of groups with a ``"params"`` each.
    lr : learning rate, >= 0, or a schedule. 1e-3, Kingma & Ba, Algorithm 1.
    betas : decay of the averages of the gradient and of its square, each in [0, 1), or schedules. 0.9 and 0.999, Kingma & Ba,
        Algorithm 1.
    eps : added to the root of the corrected second moment, >= 0. 1e-8, Kingma & Ba, Algorithm 1.
    weight_decay : >= 0, added to the gradient before the moments see it (L2), unless ``decoupled_weight_decay`` is set.
    amsgrad : divide by the largest second moment so far (Reddi et al. 2018).
    maximize : ascend instead.
    decoupled_weight_decay : add the decay behind the moments instead, as `adamw` does.
    engine : ``"auto"``, ``"cpu"`` (compiled, by Numba) or ``"arrays"`` (plain NumPy, the reference).

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
    def __init__(
        self,
        params: Params,
        lr: NonNegative = 0.001,
        betas: tuple[Decay, Decay] = (0.9, 0.999),
        eps: NonNegative = 1e-08,
        weight_decay: NonNegative = 0.0,
        amsgrad: bool = False,
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
        *,
        engine: str = "auto",
    ) -> None: ...

class AdamW(Optimizer):
    """Adam with decoupled decay: ``p -= lr * (m_hat / (sqrt(v_hat) + eps) + weight_decay * p)``.

    The recipe `steepest.adamw` on NumPy arrays.

    The decay is multiplied by the learning rate, as in PyTorch and Optax.

    Parameters
    ----------
    params : list or dict of float32 or float64 arrays, or a list of groups with a ``"params"`` each.
    lr : learning rate, >= 0, or a schedule. 1e-3, Kingma & Ba, Algorithm 1.
    betas : decay of the averages of the gradient and of its square, each in [0, 1), or schedules. 0.9 and 0.999, Kingma & Ba,
        Algorithm 1.
    eps : added to the root of the corrected second moment, >= 0. 1e-8, Kingma & Ba, Algorithm 1.
    weight_decay : >= 0, or a schedule; added behind the moments, which do not see it. 1e-2 is PyTorch's default (Optax: 1e-4).
    amsgrad : divide by the largest second moment so far (Reddi et al. 2018).
    maximize : ascend instead.
    engine : ``"auto"``, ``"cpu"`` (compiled, by Numba) or ``"arrays"`` (plain NumPy, the reference).

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
    def __init__(
        self,
        params: Params,
        lr: NonNegative = 0.001,
        betas: tuple[Decay, Decay] = (0.9, 0.999),
        eps: NonNegative = 1e-08,
        weight_decay: NonNegative = 0.01,
        amsgrad: bool = False,
        maximize: bool = False,
        *,
        engine: str = "auto",
    ) -> None: ...

class Adamax(Optimizer):
    """Adamax: Adam with the decayed maximum of the gradient in place of its second moment.

    The recipe `steepest.adamax` on NumPy arrays.

    ``u = max(beta2 * u, |g| + eps)``; ``p -= lr / (1 - beta1^t) * m / u``.

    Parameters
    ----------
    params : list or dict of float32 or float64 arrays, or a list of groups with a ``"params"`` each.
    lr : learning rate, >= 0, or a schedule. 2e-3, Kingma & Ba, Algorithm 2.
    betas : decay of the average of the gradient and of the maximum of its magnitude, each in [0, 1), or schedules. 0.9 and 0.999,
        Kingma & Ba, Algorithm 2.
    eps : added to the gradient's magnitude inside the maximum, >= 0. 1e-8, PyTorch's default; the paper has none.
    weight_decay : >= 0, added to the gradient before the averages see it (L2).
    maximize : ascend instead.
    engine : ``"auto"``, ``"cpu"`` (compiled, by Numba) or ``"arrays"`` (plain NumPy, the reference).

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
    def __init__(
        self,
        params: Params,
        lr: NonNegative = 0.002,
        betas: tuple[Decay, Decay] = (0.9, 0.999),
        eps: NonNegative = 1e-08,
        weight_decay: NonNegative = 0.0,
        maximize: bool = False,
        *,
        engine: str = "auto",
    ) -> None: ...

class LAMB(Optimizer):
    """LAMB: Adam's step with the decay inside, scaled layer by layer to the length of the weights.

    The recipe `steepest.lamb` on NumPy arrays.

    ``u = m_hat / (sqrt(v_hat) + eps) + weight_decay * p``; ``p -= lr * phi(|p|) / |u| * u``, ratio 1 where a norm is 0.

    Parameters
    ----------
    params : list or dict of float32 or float64 arrays, or a list of groups with a ``"params"`` each.
    lr : learning rate, >= 0, or a schedule: the relative length of a layer's step. 1e-3, timm's default.
    betas : decay of the averages of the gradient and of its square, each in [0, 1), or schedules. 0.9 and 0.999, as in the
        authors' code.
    eps : added to the root of the corrected second moment, >= 0. 1e-6, as in the authors' code.
    weight_decay : >= 0, inside the norm (paper, apex, timm, Optax; outside in Keras).
    bias_correction : on by default, as the paper's Algorithm 2.
    clamp : (low, high) for ``phi``; None leaves the norm of the weights as it is. PyTorch-optimizer clamps to (0, 10).
    maximize : ascend instead.
    engine : ``"auto"``, ``"cpu"`` (compiled, by Numba) or ``"arrays"`` (plain NumPy, the reference).

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
    def __init__(
        self,
        params: Params,
        lr: NonNegative = 0.001,
        betas: tuple[Decay, Decay] = (0.9, 0.999),
        eps: NonNegative = 1e-06,
        weight_decay: NonNegative = 0.0,
        bias_correction: bool = True,
        clamp: tuple[NonNegative, Positive] | None = None,
        maximize: bool = False,
        *,
        engine: str = "auto",
    ) -> None: ...

class LARS(Optimizer):
    """LARS: momentum on a gradient that is scaled layer by layer to the length of the weights.

    The recipe `steepest.lars` on NumPy arrays.

    ``d = g + weight_decay * p``; ``d *= trust_coefficient * |p| / (|d| + eps)``; momentum on ``lr * d``; ``p -= buffer``.

    Parameters
    ----------
    params : list or dict of float32 or float64 arrays, or a list of groups with a ``"params"`` each.
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
    engine : ``"auto"``, ``"cpu"`` (compiled, by Numba) or ``"arrays"`` (plain NumPy, the reference).

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
    def __init__(
        self,
        params: Params,
        lr: NonNegative = 1.0,
        momentum: NonNegative = 0.9,
        weight_decay: NonNegative = 0.0,
        trust_coefficient: NonNegative = 0.001,
        eps: NonNegative = 0.0,
        nesterov: bool = False,
        norms_apart: bool = False,
        lr_in_momentum: bool = True,
        maximize: bool = False,
        *,
        engine: str = "auto",
    ) -> None: ...

class Lion(Optimizer):
    """Lion: ``p -= lr * (sign(beta1 * m + (1 - beta1) * g) + weight_decay * p)``; ``m = beta2 * m + (1 - beta2) * g``.

    The recipe `steepest.lion` on NumPy arrays.

    Every coordinate moves by ``lr``: take a learning rate 3 to 10 times below AdamW's, a decay as much above.

    Parameters
    ----------
    params : list or dict of float32 or float64 arrays, or a list of groups with a ``"params"`` each.
    lr : learning rate, >= 0, or a schedule. 1e-4, Chen et al., Program 1.
    betas : of the interpolation whose sign is taken, and of the average that is kept, each in [0, 1), or schedules. 0.9 and
        0.99, Program 1.
    weight_decay : >= 0, decoupled, multiplied by the learning rate.
    maximize : ascend instead.
    engine : ``"auto"``, ``"cpu"`` (compiled, by Numba) or ``"arrays"`` (plain NumPy, the reference).

    Examples
    --------
    >>> import steepest
    >>> print(steepest.lion(1e-4, weight_decay=0.1))
    scale_by_lion > add_decayed_weights > descend

    Source: Chen et al. (2023), Program 1.
    """
    def __init__(
        self,
        params: Params,
        lr: NonNegative = 0.0001,
        betas: tuple[Decay, Decay] = (0.9, 0.99),
        weight_decay: NonNegative = 0.0,
        maximize: bool = False,
        *,
        engine: str = "auto",
    ) -> None: ...

class NAdam(Optimizer):
    """NAdam: Adam with Nesterov momentum whose strength follows its own schedule (``momentum_decay``).

    The recipe `steepest.nadam` on NumPy arrays.

    Parameters
    ----------
    params : list or dict of float32 or float64 arrays, or a list of groups with a ``"params"`` each.
    lr : learning rate, >= 0, or a schedule. 2e-3, PyTorch's default.
    betas : decay of the averages of the gradient and of its square, each in [0, 1), or schedules. 0.9 and 0.999, PyTorch's
        defaults.
    eps : added to the root of the corrected second moment, >= 0. 1e-8, PyTorch's default.
    weight_decay : >= 0, added to the gradient before the moments see it (L2), unless ``decoupled_weight_decay`` is set.
    momentum_decay : how fast the momentum rises from half of ``beta1`` towards it, >= 0; 4e-3, PyTorch's default.
    decoupled_weight_decay : add the decay behind the moments instead, as `adamw` does.
    maximize : ascend instead.
    engine : ``"auto"``, ``"cpu"`` (compiled, by Numba) or ``"arrays"`` (plain NumPy, the reference).

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
    def __init__(
        self,
        params: Params,
        lr: NonNegative = 0.002,
        betas: tuple[Decay, Decay] = (0.9, 0.999),
        eps: NonNegative = 1e-08,
        weight_decay: NonNegative = 0.0,
        momentum_decay: NonNegative = 0.004,
        decoupled_weight_decay: bool = False,
        maximize: bool = False,
        *,
        engine: str = "auto",
    ) -> None: ...

class RAdam(Optimizer):
    """RAdam: Adam whose step is rectified for the variance of its first second moments; a momentum step before that.

    The recipe `steepest.radam` on NumPy arrays.

    ``rho = rho_inf - 2 t b2^t / (1 - b2^t)``; where ``rho > 5``: ``p -= lr * m_hat * r * sqrt(1 - b2^t) / (sqrt(v) + eps)``,
    else ``p -= lr * m_hat``.

    Parameters
    ----------
    params : list or dict of float32 or float64 arrays, or a list of groups with a ``"params"`` each.
    lr : learning rate, >= 0, or a schedule. 1e-3, the authors' code.
    betas : decay of the averages of the gradient and of its square, each in [0, 1), or schedules. 0.9 and 0.999, the authors'
        code.
    eps : added to the root of the second moment before its correction, >= 0. 1e-8, the authors' code.
    weight_decay : >= 0, added to the gradient before the moments see it (L2), unless ``decoupled_weight_decay`` is set.
    decoupled_weight_decay : add the decay behind the moments instead, as `adamw` does.
    maximize : ascend instead.
    engine : ``"auto"``, ``"cpu"`` (compiled, by Numba) or ``"arrays"`` (plain NumPy, the reference).

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
    def __init__(
        self,
        params: Params,
        lr: NonNegative = 0.001,
        betas: tuple[Decay, Decay] = (0.9, 0.999),
        eps: NonNegative = 1e-08,
        weight_decay: NonNegative = 0.0,
        decoupled_weight_decay: bool = False,
        maximize: bool = False,
        *,
        engine: str = "auto",
    ) -> None: ...

class RMSprop(Optimizer):
    """RMSProp: ``square_avg = alpha * square_avg + (1 - alpha) * g^2``; ``p -= lr * g / (sqrt(square_avg) + eps)``.

    The recipe `steepest.rmsprop` on NumPy arrays.

    Parameters
    ----------
    params : list or dict of float32 or float64 arrays, or a list of groups with a ``"params"`` each.
    lr : learning rate, >= 0, or a schedule; 1e-2 is PyTorch's default (Hinton's lecture: 1e-3).
    alpha : decay of the average, in [0, 1]; 0.99 is PyTorch's default (the lecture: 0.9).
    eps : outside the root, >= 0; 1e-8 is PyTorch's default.
    weight_decay : >= 0, added to the gradient.
    momentum : of the scaled update, >= 0; 0 keeps no buffer.
    centered : divide by the standard deviation instead (Graves 2013).
    maximize : ascend instead.
    engine : ``"auto"``, ``"cpu"`` (compiled, by Numba) or ``"arrays"`` (plain NumPy, the reference).

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
    def __init__(
        self,
        params: Params,
        lr: NonNegative = 0.01,
        alpha: Fraction = 0.99,
        eps: NonNegative = 1e-08,
        weight_decay: NonNegative = 0.0,
        momentum: NonNegative = 0.0,
        centered: bool = False,
        maximize: bool = False,
        *,
        engine: str = "auto",
    ) -> None: ...

class SGD(Optimizer):
    """Stochastic gradient descent, with PyTorch's momentum and coupled weight decay.

    The recipe `steepest.sgd` on NumPy arrays.

    ``d = g + weight_decay * p``; ``buffer = momentum * buffer + (1 - dampening) * d`` (``d`` at the first step);
    ``p -= lr * buffer`` (Nesterov: ``p -= lr * (d + momentum * buffer)``).

    Parameters
    ----------
    params : list or dict of float32 or float64 arrays, or a list of groups with a ``"params"`` each.
    lr : learning rate, >= 0, or a schedule. 1e-3 is PyTorch's default.
    momentum : >= 0; 0 keeps no buffer.
    dampening : share of the update that does not enter the buffer; any finite number.
    weight_decay : >= 0, added to the gradient (L2).
    nesterov : look ahead along the buffer; needs ``momentum > 0`` and ``dampening = 0``.
    maximize : ascend instead.
    engine : ``"auto"``, ``"cpu"`` (compiled, by Numba) or ``"arrays"`` (plain NumPy, the reference).

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
    def __init__(
        self,
        params: Params,
        lr: NonNegative = 0.001,
        momentum: NonNegative = 0.0,
        dampening: Real = 0.0,
        weight_decay: NonNegative = 0.0,
        nesterov: bool = False,
        maximize: bool = False,
        *,
        engine: str = "auto",
    ) -> None: ...
