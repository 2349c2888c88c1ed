"""Lookahead around another optimizer of this front end."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from steepest import rules
from steepest.checks import Count, Fraction
from steepest.language.chain import Chain, chain
from steepest.numpy.optimizer import Optimizer

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
        recipe, inner = partial(_with_lookahead, optimizer._recipe), optimizer._stepper
        optimizer._schedules.give_back(optimizer._groups)
        optimizer._others |= {"k", "alpha"}
        optimizer._outer = self
        for group in optimizer._groups:
            group.update(k=k, alpha=alpha)
        self._begin(
            recipe, {**optimizer.defaults, "k": k, "alpha": alpha}, optimizer._groups, inner.groups, inner.engine
        )


def _with_lookahead(inner: Callable[..., Chain], k: Any, alpha: Any, **values: Any) -> Chain:
    return chain(inner(**values), rules.lookahead(k, alpha))
