"""Lookahead around another optimizer of this front end."""

from __future__ import annotations

from steepest import rules
from steepest.checks import Count, Fraction
from steepest.step.recipes import wrapped
from steepest.torch.graphs import outside_of_graphs
from steepest.torch.optimizer import Optimizer

__all__ = ["Lookahead"]


class Lookahead(Optimizer):
    """Lookahead around another optimizer: the same fused step as ``chain(inner, lookahead(k, alpha))``.

    Shares the inner optimizer's groups, so a scheduler may hold either; step this one only. The slow weights start at the
    weights of the first step.

    Parameters
    ----------
    optimizer : an optimizer of `steepest.torch` that has taken no step.
    k : steps between two synchronisations, a whole number >= 1; 5, as in the paper, which takes 5 to 10.
    alpha : how far the slow weights go, in [0, 1], or a schedule; 0.5, as in the paper.

    Examples
    --------
    >>> import torch, steepest.torch as opt
    >>> inner = opt.SGD([torch.nn.Parameter(torch.ones(3))], lr=0.1)
    >>> print(opt.Lookahead(inner, k=5, alpha=0.5).plan[0].trace.chain)
    descend > lookahead

    Source: Zhang et al. (2019), Algorithm 1.
    """

    @outside_of_graphs
    def __init__(self, optimizer: Optimizer, k: Count = 5, alpha: Fraction = 0.5) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(
                f"Lookahead: optimizer must be an optimizer of steepest.torch, got {type(optimizer).__name__}. "
                f"steepest.torch.{type(optimizer).__name__} may be the same rule."
            )
        if isinstance(optimizer, Lookahead):
            raise TypeError(
                "Lookahead: optimizer must not be a Lookahead. To use two, write a chain with two lookahead(…)."
            )
        if optimizer.steps:
            raise ValueError("Lookahead: the inner optimizer has already taken steps. Wrap it before its first step.")
        rules.lookahead(k, alpha)
        inner = optimizer._core
        self._begin(inner.engine)
        self._core.densifies = inner.densifies
        recipes = [wrapped(one, k, alpha) for one in inner.live.recipes]
        common = None if inner.recipe is None else wrapped(inner.recipe, k, alpha)
        inner.live.schedules.give_back(inner.groups)
        # torch keeps the very groups that it is given, so both optimizers hold them.
        self._set_up(inner.groups, common, {**optimizer.defaults, "k": k, "alpha": alpha}, recipes)
        inner.groups, inner.outer = self._core.groups, self._core
