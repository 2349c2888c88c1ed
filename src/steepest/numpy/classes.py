"""Makes the class of a recipe: an optimizer whose groups hold the recipe's arguments, so that each can be changed by its name.

Signature and documentation of the class are the recipe's.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from steepest.language.chain import Chain
from steepest.language.rule import entry_of
from steepest.numpy.optimizer import Optimizer, Params
from steepest.step.recipes import Recipe

__all__ = ["class_of", "document"]

PARAMS = 'params : list or dict of float32 or float64 arrays, or a list of groups with a ``"params"`` each.'
ENGINE = 'engine : ``"auto"``, ``"cpu"`` (compiled, by Numba) or ``"arrays"`` (plain NumPy, the reference).'


class _Named(Optimizer):
    """An optimizer whose groups hold the arguments of one recipe."""

    recipe: Callable[..., Chain]

    def __init__(self, params: Params, *positional: Any, engine: str = "auto", **named: Any) -> None:
        recipe = type(self).recipe
        signature = inspect.signature(recipe)
        recipe(*positional, **named)  # speaks with the recipe's own words where a value is wrong
        bound = signature.bind(*positional, **named)
        bound.apply_defaults()
        self._set_up(Recipe(recipe, dict(bound.arguments)), params, engine)


def class_of(recipe: Callable[..., Chain], module: str) -> type[Optimizer]:
    """The optimizer class of a recipe, which ``module`` will hold under the name that the recipe declares."""
    doc = document(recipe, "on NumPy arrays", PARAMS, ENGINE)
    made = type(
        entry_of(recipe).class_name, (_Named,), {"recipe": staticmethod(recipe), "__doc__": doc, "__module__": module}
    )
    parameters = list(inspect.signature(recipe).parameters.values())
    first = inspect.Parameter("params", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation="Params")
    engine = inspect.Parameter("engine", inspect.Parameter.KEYWORD_ONLY, default="auto", annotation="str")
    made.__signature__ = inspect.Signature([first, *parameters, engine])  # type: ignore[attr-defined]
    return made


def document(recipe: Callable[..., Chain], where: str, first: str, *last: str) -> str:
    """The recipe's documentation as that of its class, whose other arguments stand before and after the recipe's."""
    summary, _, rest = (inspect.getdoc(recipe) or "").partition("\n\n")
    before, heading, rest = rest.partition("Parameters\n----------\n")
    arguments, _, after = rest.partition("\n\n")
    said = f"The recipe `steepest.{recipe.__name__}` {where}."
    return f"{summary}\n\n{said}\n\n{before}{heading}" + "\n".join([first, arguments, *last]) + f"\n\n{after}"
