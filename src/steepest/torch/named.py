"""The named optimizers: each recipe under the arguments, defaults and group keys of torch's class of the same rule."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from steepest import rules
from steepest.language.chain import Chain
from steepest.torch.graphs import outside_of_graphs
from steepest.torch.groups import SWITCHES, Recipe, wrapped
from steepest.torch.optimizer import Optimizer

__all__ = [
    "LAMB", "LARS", "SGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "Lion", "Lookahead", "NAdam", "RAdam", "RMSprop",
]  # fmt: skip


class _Named(Optimizer):
    """An optimizer whose groups hold the arguments of one recipe, and torch's switches."""

    recipe: Callable[..., Chain]
    fixed: dict[str, Any]

    @outside_of_graphs
    def __init__(self, params: Any, *positional: Any, engine: str = "auto", **named: Any) -> None:
        cls = type(self)
        self._begin(engine)
        signature = cls.__signature__  # type: ignore[attr-defined]  # made by _bind
        try:
            bound = signature.bind(params, *positional, **named)
        except TypeError as error:
            known = [n for n in signature.parameters if n != "params"]
            raise TypeError(f"{cls.__name__}: {error}. Its arguments are {', '.join(known)}.") from None
        bound.apply_defaults()
        values = {n: v for n, v in bound.arguments.items() if n not in ("params", "engine")}
        own = {n: v for n, v in values.items() if n not in SWITCHES}
        self._set_up(params, Recipe(cls.recipe, own), {**values, **cls.fixed})


def _bind(
    name: str, made_by: Callable[..., Chain], switches: str = "", fixed: dict[str, Any] | None = None
) -> type[_Named]:
    """A class for a recipe. ``fixed`` are group keys of torch's class that this one has no argument for."""
    doc = f"`steepest.{made_by.__name__}` as a `torch.optim.Optimizer`.\n\n{inspect.getdoc(made_by)}"
    namespace = {"recipe": staticmethod(made_by), "fixed": fixed or {}, "__doc__": doc, "__module__": __name__}
    made = type(name, (_Named,), namespace)
    parameters = [inspect.Parameter("params", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    keyword = inspect.Parameter.KEYWORD_ONLY
    for p in inspect.signature(made_by).parameters.values():
        late = parameters[-1].kind is keyword or p.name == "maximize"
        parameters.append(p.replace(kind=keyword) if late else p)
    parameters += [inspect.Parameter(n, keyword, default=SWITCHES[n]) for n in switches.split()]
    parameters.append(inspect.Parameter("engine", keyword, default="auto"))
    made.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return made


SGD = _bind("SGD", rules.sgd, "foreach differentiable fused")
SGD._densifies = True
Adagrad = _bind("Adagrad", rules.adagrad, "foreach differentiable fused")
RMSprop = _bind("RMSprop", rules.rmsprop, "foreach capturable differentiable")
Adadelta = _bind("Adadelta", rules.adadelta, "foreach capturable differentiable")
Adam = _bind("Adam", rules.adam, "foreach capturable differentiable fused")
AdamW = _bind("AdamW", rules.adamw, "foreach capturable differentiable fused", {"decoupled_weight_decay": True})
Adam._foreach_takes_tensors = AdamW._foreach_takes_tensors = False
Adamax = _bind("Adamax", rules.adamax, "foreach capturable differentiable")
NAdam = _bind("NAdam", rules.nadam, "foreach capturable differentiable")
RAdam = _bind("RAdam", rules.radam, "foreach capturable differentiable")
Lion = _bind("Lion", rules.lion)
LAMB = _bind("LAMB", rules.lamb)
LARS = _bind("LARS", rules.lars)


class Lookahead(Optimizer):
    """Lookahead around another optimizer: the same fused step as ``chain(inner, lookahead(k, alpha))``.

    Shares the inner optimizer's groups, so a scheduler may hold either; step this one only. The slow weights start at the
    weights of the first step.

    >>> import torch, steepest.torch as opt
    >>> inner = opt.SGD([torch.nn.Parameter(torch.ones(3))], lr=0.1)
    >>> print(opt.Lookahead(inner, k=5, alpha=0.5).plan[0].trace.chain)
    descend > lookahead

    Source: Zhang et al. (2019), Algorithm 1.
    """

    @outside_of_graphs
    def __init__(self, optimizer: Optimizer, k: Any = 5, alpha: Any = 0.5) -> None:
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
        recipes = [wrapped(one, k, alpha) for one in inner.recipes]
        common = None if inner.recipe is None else wrapped(inner.recipe, k, alpha)
        inner.schedules.give_back(inner.groups)
        # torch keeps the very groups that it is given, so both optimizers hold them.
        self._set_up(inner.groups, common, {**optimizer.defaults, "k": k, "alpha": alpha}, recipes)
        inner.groups, inner.outer = self._core.groups, self._core
