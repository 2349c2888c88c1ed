"""The named optimizers, one for each recipe, and Lookahead around any of them.

Their groups hold the recipe's arguments, so that each can be changed by its name; signature and documentation are the recipe's.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from steepest import rules
from steepest.language.chain import Chain, chain
from steepest.numpy.optimizer import Optimizer, Params

__all__ = [
    "LAMB", "LARS", "SGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "Lion", "Lookahead", "NAdam", "RAdam",
    "RMSprop",
]  # fmt: skip


class _Named(Optimizer):
    """An optimizer whose groups hold the arguments of one recipe."""

    recipe: Callable[..., Chain]

    def __init__(self, params: Params, *positional: Any, engine: str = "auto", **named: Any) -> None:
        recipe = type(self).recipe
        signature = inspect.signature(recipe)
        recipe(*positional, **named)  # speaks with the recipe's own words where a value is wrong
        bound = signature.bind(*positional, **named)
        bound.apply_defaults()
        self._set_up(recipe, params, dict(bound.arguments), engine)


def _bind(name: str, recipe: Callable[..., Chain]) -> type[_Named]:
    doc = f"`steepest.{recipe.__name__}` on NumPy arrays.\n\n{inspect.getdoc(recipe)}"
    made = type(name, (_Named,), {"recipe": staticmethod(recipe), "__doc__": doc, "__module__": __name__})
    parameters = list(inspect.signature(recipe).parameters.values())
    first = inspect.Parameter("params", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    engine = inspect.Parameter("engine", inspect.Parameter.KEYWORD_ONLY, default="auto", annotation="str")
    made.__signature__ = inspect.Signature([first, *parameters, engine])  # type: ignore[attr-defined]
    return made


SGD = _bind("SGD", rules.sgd)
Adagrad = _bind("Adagrad", rules.adagrad)
RMSprop = _bind("RMSprop", rules.rmsprop)
Adadelta = _bind("Adadelta", rules.adadelta)
Adam = _bind("Adam", rules.adam)
AdamW = _bind("AdamW", rules.adamw)
Adamax = _bind("Adamax", rules.adamax)
NAdam = _bind("NAdam", rules.nadam)
RAdam = _bind("RAdam", rules.radam)
Lion = _bind("Lion", rules.lion)
LAMB = _bind("LAMB", rules.lamb)
LARS = _bind("LARS", rules.lars)


class Lookahead(Optimizer):
    """Lookahead around another optimizer: the same fused chain as ``chain(inner, lookahead(k, alpha))``.

    Shares the inner optimizer's groups, so a value may be changed in either. Step this one only. The slow weights start at the
    weights of the first step.

    >>> import numpy as np, steepest.numpy as opt
    >>> print(opt.Lookahead(opt.SGD([np.ones(3)], lr=0.1), k=5, alpha=0.5).plan[0].trace.chain)
    descend > lookahead
    """

    def __init__(self, optimizer: Optimizer, k: Any = 5, alpha: Any = 0.5) -> None:
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
