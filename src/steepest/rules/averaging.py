"""Wrappers that keep a second set of weights: Lookahead and the exponential moving average.

Sources: Zhang et al. (2019); Polyak & Juditsky (1992) for averaging, in the exponential form of
``torch.optim.swa_utils.AveragedModel``.

These rules follow the weights: they run at every step of the optimizer, also for a parameter without a gradient in that step.
Their ``step`` counts the optimizer's steps.
"""

from __future__ import annotations

from steepest.checks import Count, Fraction
from steepest.language.chain import Chain, copy_of_param
from steepest.language.functions import floor, where
from steepest.language.rule import recipe, rule


@rule(kind="wrapper", slow=copy_of_param)
def lookahead(param, state, step, *, k: Count = 5, alpha: Fraction = 0.5):
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
    synchronise = step % k == 0
    state.slow = where(synchronise, state.slow + alpha * (param - state.slow), state.slow)
    return where(synchronise, state.slow, param)


@rule(name="ema", average=copy_of_param)
def _ema(param, state, step, *, decay: Fraction = 0.999, interval: Count | None = None, bias_correction: bool = False):
    updates = step if interval is None else floor(step / interval)
    kept = _corrected(decay, updates) if bias_correction else decay
    # Not kept * average + (1 - kept) * param: rounded to float32 these two factors miss 1, and the average of weights that
    # stand still drifts by 2e-4 of them in 5000 steps at decay 0.9999.
    average = where(updates == 1, param, state.average + (1 - kept) * (param - state.average))
    state.average = average if interval is None else where(step % interval == 0, average, state.average)
    return param


def _corrected(decay, updates):
    """At a decay of 1 its limit, by which all weights so far count the same."""
    below = where(decay < 1, decay, 0.0)
    return where(decay < 1, below * (1 - below ** (updates - 1)) / (1 - below**updates), 1 - 1 / updates)


@recipe(kind="wrapper")
def ema(decay: Fraction = 0.999, interval: Count = 1, bias_correction: bool = False) -> Chain:
    """Keep ``average = decay * average + (1 - decay) * p`` beside the weights; it starts as the first weights it sees.

    Parameters
    ----------
    decay : in [0, 1], or a schedule; 0.999 is the default of PyTorch's ``get_ema_multi_avg_fn``. At 1 the average stands still.
    interval : average on every ``interval``-th step only, >= 1.
    bias_correction : weigh the weights seen so far as an average that started from 0 and is divided by
        ``1 - decay**updates``; ``average`` holds the corrected value. At a decay of 1 it is the plain mean of all weights.

    The average follows a parameter through all steps of the optimizer, also those in which the parameter has no gradient.
    ``with optimizer.using("average"):`` swaps the averages in and out again.

    >>> import steepest
    >>> print(steepest.chain(steepest.sgd(0.1), steepest.ema(0.99)))
    descend > ema

    Source: ``torch.optim.swa_utils.AveragedModel`` with ``get_ema_multi_avg_fn``.
    """
    always = not callable(interval) and interval == 1
    return _ema(decay, None if always else interval, bias_correction)
