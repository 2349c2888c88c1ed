# Written by tools/stubs.py from what the rules and recipes declare. Don't edit this file, run the script again.
from collections.abc import Callable
from typing import Literal, ParamSpec

from steepest.checks import Axis, Count, Decay, Fraction, NonNegative, Order, Positive, Real
from steepest.language.chain import Chain
from steepest.language.rule import Rule
from steepest.rules.adam import (
    adam as adam,
    adamax as adamax,
    adamw as adamw,
    lion as lion,
    nadam as nadam,
    radam as radam,
)
from steepest.rules.adaptive import adadelta as adadelta, adagrad as adagrad, rmsprop as rmsprop
from steepest.rules.averaging import ema as ema
from steepest.rules.clipping import clip_by_value as clip_by_value
from steepest.rules.descent import sgd as sgd
from steepest.rules.layerwise import lamb as lamb, lars as lars

__all__ = [
    "CLIPS",
    "OPTIMIZERS",
    "PARTS",
    "RECIPES",
    "WRAPPERS",
    "accumulate_momentum",
    "adadelta",
    "adagrad",
    "adam",
    "adamax",
    "adamw",
    "adaptive_grad_clip",
    "add_decayed_weights",
    "clip_by_block_rms",
    "clip_by_global_norm",
    "clip_by_norm",
    "clip_by_value",
    "descend",
    "ema",
    "lamb",
    "lars",
    "lion",
    "lookahead",
    "nadam",
    "negate",
    "radam",
    "rmsprop",
    "scale_by_adadelta",
    "scale_by_adagrad",
    "scale_by_adam",
    "scale_by_adamax",
    "scale_by_amsgrad",
    "scale_by_inverse_time",
    "scale_by_lars_ratio",
    "scale_by_learning_rate",
    "scale_by_lion",
    "scale_by_nadam",
    "scale_by_radam",
    "scale_by_rms",
    "scale_by_stddev",
    "scale_by_trust_ratio",
    "sgd",
    "skip_nonfinite",
]

_P = ParamSpec("_P")

class _Rule(Rule[_P]):
    # The library's own rules also take their values by position.
    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> Chain: ...  # type: ignore[override]

def _rule(function: Callable[_P, Chain], /) -> _Rule[_P]: ...

CLIPS: dict[str, Callable[..., Chain]]
OPTIMIZERS: dict[str, Callable[..., Chain]]
PARTS: dict[str, Callable[..., Chain]]
RECIPES: dict[str, Callable[..., Chain]]
WRAPPERS: dict[str, Callable[..., Chain]]

@_rule
def clip_by_global_norm(
    max_norm: Positive, norm_type: Order = 2.0, on_nonfinite: Literal["propagate", "skip", "error"] = "propagate"
) -> Chain:
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

@_rule
def clip_by_norm(max_norm: Positive, norm_type: Order = 2.0) -> Chain:
    """Scale the update of each tensor by ``min(1, max_norm / (norm + 1e-6))``, ``norm`` its own p-norm.

    Parameters
    ----------
    max_norm : the largest norm of a tensor, > 0, or a schedule.
    norm_type : order of the norm, any positive number or ``math.inf``; 2, as Pascanu et al.

    Source: ``torch.nn.utils.clip_grad_norm_`` called for each tensor.
    """

@_rule
def clip_by_block_rms(threshold: Positive) -> Chain:
    """Divide each tensor's update by ``max(1, rms / threshold)``, ``rms`` the root of its mean square.

    Parameters
    ----------
    threshold : the largest root mean square, > 0, or a schedule. Adafactor takes 1.

    Source: Shazeer & Stern (2018), section 6; ``optax.clip_by_block_rms``.
    """

@_rule
def adaptive_grad_clip(clipping: Positive = 0.01, eps: Positive = 0.001, axis: Axis = 0) -> Chain:
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

@_rule
def lookahead(k: Count = 5, alpha: Fraction = 0.5) -> Chain:
    """Zhang et al., Algorithm 1: every k steps the slow weights move by ``alpha`` towards the fast ones, which follow.

    The slow weights start at the initial weights, so the first synchronisation moves to between them and the k-th.
    All parameters synchronise at the same steps of the optimizer, also those without a gradient in such a step.

    Parameters
    ----------
    k : steps between two synchronisations, a whole number >= 1; 5, as in the paper, which takes 5 to 10.
    alpha : how far the slow weights go, in [0, 1], or a schedule; 0.5, as in the paper.

    Examples
    --------
    >>> import steepest
    >>> print(steepest.chain(steepest.sgd(0.1), steepest.lookahead(5)))
    descend > lookahead

    Source: Zhang et al. (2019), Algorithm 1.
    """

@_rule
def descend(lr: NonNegative) -> Chain:
    """Apply the update: ``param - lr * update``."""

@_rule
def scale_by_learning_rate(lr: NonNegative) -> Chain:
    """Multiply the update by the learning rate, for rules that keep it inside their momentum."""

@_rule
def negate() -> Chain:
    """Turn descent into ascent (``maximize=True``)."""

@_rule
def add_decayed_weights(weight_decay: NonNegative) -> Chain:
    """Add ``weight_decay * param`` to the update.

    Before a preconditioner this is the coupled decay of Adam (L2), after it the decoupled decay of AdamW.
    """

@_rule
def accumulate_momentum(momentum: NonNegative = 0.9, dampening: Real = 0.0, nesterov: bool = False) -> Chain:
    """PyTorch's momentum: the first step takes the update undampened."""

@_rule
def scale_by_adagrad(initial_accumulator_value: NonNegative = 0.0, eps: NonNegative = 1e-10) -> Chain:
    """Duchi et al.: divide by the root of the sum of squares."""

@_rule
def scale_by_inverse_time(lr_decay: NonNegative = 0.0) -> Chain:
    """Divide by ``1 + (t - 1) * lr_decay``."""

@_rule
def scale_by_rms(alpha: Fraction = 0.99, eps: NonNegative = 1e-08) -> Chain:
    """Divide by the root of an exponential average of squares."""

@_rule
def scale_by_stddev(alpha: Fraction = 0.99, eps: NonNegative = 1e-08) -> Chain:
    """Graves: divide by the root of the average's variance."""

@_rule
def scale_by_adadelta(rho: Fraction = 0.9, eps: NonNegative = 1e-06) -> Chain:
    """Zeiler, Algorithm 1: the ratio of two averages carries the unit of the parameter."""

@_rule
def scale_by_adam(
    beta1: Decay = 0.9, beta2: Decay = 0.999, eps: NonNegative = 1e-08, bias_correction: bool = True
) -> Chain:
    """Kingma & Ba, Algorithm 1. Without bias correction the moments are used as they are."""

@_rule
def scale_by_amsgrad(beta1: Decay = 0.9, beta2: Decay = 0.999, eps: NonNegative = 1e-08) -> Chain:
    """Adam with the largest second moment so far, compared before its bias correction as PyTorch does."""

@_rule
def scale_by_adamax(beta1: Decay = 0.9, beta2: Decay = 0.999, eps: NonNegative = 1e-08) -> Chain:
    """Kingma & Ba, Algorithm 2; epsilon inside the maximum, as PyTorch."""

@_rule
def scale_by_nadam(
    beta1: Decay = 0.9, beta2: Decay = 0.999, eps: NonNegative = 1e-08, momentum_decay: NonNegative = 0.004
) -> Chain:
    """Dozat's Nesterov momentum in Adam, with the momentum's own schedule and its running product."""

@_rule
def scale_by_radam(beta1: Decay = 0.9, beta2: Decay = 0.999, eps: NonNegative = 1e-08) -> Chain:
    """Liu et al., Algorithm 2, rectified where ``rho > 5`` (PyTorch; the paper where ``rho > 4``); momentum below."""

@_rule
def scale_by_lion(beta1: Decay = 0.9, beta2: Decay = 0.99) -> Chain:
    """Chen et al., Program 1: the sign of an interpolation, and a slower average to remember."""

@_rule
def scale_by_trust_ratio(
    trust_coefficient: NonNegative = 1.0,
    eps: NonNegative = 0.0,
    low: NonNegative | None = None,
    high: Positive | None = None,
) -> Chain:
    """Scale the update to the length of the parameter: ``trust_coefficient * phi(|p|) / (|u| + eps)``.

    ``phi`` clamps to [low, high] where given (LAMB, Section 3). The ratio is 1 where either norm is 0.
    """

@_rule
def scale_by_lars_ratio(
    weight_decay: NonNegative, trust_coefficient: NonNegative = 0.001, eps: NonNegative = 0.0
) -> Chain:
    """LARS as printed, Equation 6: decay is added, and the norms of gradient and decay are, ``|g| + weight_decay * |p|``."""

@_rule
def skip_nonfinite() -> Chain:
    """Leave out the whole step, states and step count included, if one element of the model's update is nan or infinite.

    First in a chain it looks at the gradients. The count of such elements has to be complete before anything is stored, which
    is a pass more over the gradients: 4 bytes per parameter in float32. In a model with several groups each group's chain
    needs it; they count together. `Guard` bounds how many steps in a row may be left out.

    >>> import numpy as np, steepest, steepest.numpy as opt
    >>> w = np.array([1.0, 2.0])
    >>> optimizer = opt.Optimizer([w], steepest.chain(steepest.skip_nonfinite(), steepest.adamw(0.1)))
    >>> optimizer.step([np.array([np.nan, 1.0])])
    >>> w, optimizer.steps
    (array([1., 2.]), 0)

    Source: Micikevicius et al. (2018), section 3.2, which skips the update when the scaled loss has overflowed.
    """
