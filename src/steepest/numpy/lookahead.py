"""Lookahead around another optimizer of this front end."""

from __future__ import annotations

from steepest import rules
from steepest.checks import Count, Fraction
from steepest.numpy.optimizer import Optimizer
from steepest.step.recipes import wrapped

__all__ = ["Lookahead"]


class Lookahead(Optimizer):
    """Lookahead around another optimizer: the same fused chain as ``chain(inner, lookahead(k, alpha))``.

    Shares the inner optimizer's groups, so a value may be changed in either. Step this one only. The slow weights start at the
    weights of the first step.

    Parameters
    ----------
    optimizer : an optimizer of `steepest.numpy` that has taken no step.
    k : steps between two synchronisations, a whole number >= 1; 5, as in the paper, which takes 5 to 10.
    alpha : how far the slow weights go, in [0, 1], or a schedule; 0.5, as in the paper.

    Examples
    --------
    >>> import numpy as np, steepest.numpy as opt
    >>> print(opt.Lookahead(opt.SGD([np.ones(3)], lr=0.1), k=5, alpha=0.5).plan[0].trace.chain)
    descend > lookahead
    """

    def __init__(self, optimizer: Optimizer, k: Count = 5, alpha: Fraction = 0.5) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"Lookahead: optimizer must be an optimizer of steepest.numpy, got {optimizer!r}.")
        if optimizer.steps:
            raise ValueError("Lookahead: the inner optimizer has already taken steps. Wrap it before its first step.")
        if isinstance(optimizer, Lookahead):
            raise TypeError(
                "Lookahead: optimizer must not be a Lookahead. To use two, write a chain with two lookahead(…)."
            )
        rules.lookahead(k, alpha)
        live, inner = optimizer._live, optimizer._stepper
        live.schedules.give_back(live.rows)
        optimizer._names |= {"k", "alpha"}
        optimizer._outer = self
        for group in live.rows:
            group.update(k=k, alpha=alpha)
        self._begin(wrapped(live.recipes[0], k, alpha), live.rows, inner.groups, inner.engine)
