"""Makes the class of a recipe, with the arguments, defaults and group keys of torch's class of the same rule.

The recipe declares the name of the class and which of torch's switches it takes; `OF_TORCH` is what else torch's classes have.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from steepest.language.chain import Chain
from steepest.language.rule import entry_of
from steepest.numpy.classes import document
from steepest.step.recipes import Recipe
from steepest.torch.graphs import outside_of_graphs
from steepest.torch.groups import SWITCHES
from steepest.torch.optimizer import Optimizer

__all__ = ["class_of"]

OF_TORCH: dict[str, dict[str, Any]] = {
    "SGD": {"_densifies": True},
    "Adam": {"_foreach_takes_tensors": False},
    "AdamW": {"_foreach_takes_tensors": False, "fixed": {"decoupled_weight_decay": True}},
}
"""Attributes of classes whose namesakes in torch have a habit of their own. ``fixed`` are group keys without an argument."""

PARAMS = "params : parameters, named parameters, or groups, as for every torch optimizer."
ARGUMENTS = {
    "foreach": ("bool | None", "kept in the groups, so that state dicts fit torch's class; changes nothing."),
    "capturable": ("bool", "as torch's, False only: a captured graph would freeze the step's numbers."),
    "differentiable": ("bool", "as torch's, False only: the step changes memory in place, outside of autograd."),
    "fused": ("bool | None", "kept in the groups, so that state dicts fit torch's class; changes nothing."),
    "engine": (
        "str",
        '``"auto"``, ``"cpu"`` (compiled, by Numba) or ``"arrays"`` (``torch._foreach_`` calls, any device).',
    ),
}
"""Type and documentation of the arguments that aren't the recipe's."""


class _Named(Optimizer):
    """An optimizer whose groups hold the arguments of one recipe, and torch's switches."""

    recipe: Callable[..., Chain]
    fixed: dict[str, Any] = {}  # noqa: RUF012  # read only

    @outside_of_graphs
    def __init__(self, params: Any, *positional: Any, engine: str = "auto", **named: Any) -> None:
        cls = type(self)
        self._begin(engine)
        signature = cls.__signature__  # type: ignore[attr-defined]  # made by class_of
        try:
            bound = signature.bind(params, *positional, **named)
        except TypeError as error:
            known = [n for n in signature.parameters if n != "params"]
            raise TypeError(f"{cls.__name__}: {error}. Its arguments are {', '.join(known)}.") from None
        bound.apply_defaults()
        values = {n: v for n, v in bound.arguments.items() if n not in ("params", "engine")}
        own = {n: v for n, v in values.items() if n not in SWITCHES}
        self._set_up(params, Recipe(cls.recipe, own), {**values, **cls.fixed})


def class_of(recipe: Callable[..., Chain], module: str) -> type[Optimizer]:
    """The optimizer class of a recipe, which ``module`` will hold under the name that the recipe declares."""
    name, more = entry_of(recipe).class_name, (*entry_of(recipe).switches, "engine")
    doc = document(recipe, "as a `torch.optim.Optimizer`", PARAMS, *(f"{n} : {ARGUMENTS[n][1]}" for n in more))
    namespace = {"recipe": staticmethod(recipe), "__doc__": doc, "__module__": module}
    made = type(name, (_Named,), {**namespace, **OF_TORCH.get(name, {})})
    parameters = [inspect.Parameter("params", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation="ParamsT")]
    keyword = inspect.Parameter.KEYWORD_ONLY
    for p in inspect.signature(recipe).parameters.values():
        late = parameters[-1].kind is keyword or p.name == "maximize"
        parameters.append(p.replace(kind=keyword) if late else p)
    defaults = {**SWITCHES, "engine": "auto"}
    parameters += [inspect.Parameter(n, keyword, default=defaults[n], annotation=ARGUMENTS[n][0]) for n in more]
    made.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return made
