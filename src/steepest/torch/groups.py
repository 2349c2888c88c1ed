"""From a parameter group to its chain.

A group holds what torch's schedulers and users change at any time: numbers and tensors of one element. A recipe turns its values
into a chain. Numbers go into the chain as `Live` values, which are read from the group anew at every step, so changing one plans
nothing. A number that a schedule gives goes in as its `Scheduled`. The recipe is called again only when the group's form changes:
a number leaves 0 or becomes 0, a flag flips, a schedule comes or goes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol
from weakref import ref

import numpy as np
import torch

from steepest import rules
from steepest.checks import check_arguments
from steepest.language.chain import Chain, chain
from steepest.language.trace import trace
from steepest.step.groups import frozen

__all__ = [
    "SWITCHES",
    "Live",
    "Recipe",
    "chains_of",
    "check_values",
    "forms_of",
    "recipe_of_chain",
    "recipes_of",
    "wrapped",
]

LIVE = "a number"
SWITCHES: dict[str, Any] = {"foreach": None, "capturable": False, "differentiable": False, "fused": None}
"""What torch's optimizers take beside their mathematics; kept in the groups, so that state dicts fit both ways."""


class Live:
    """A number of a parameter group, read anew at every step.

    Plans outlive optimizers, and keep the chain they were first made for; so this holds no tensor alive.
    """

    __slots__ = ("name", "number", "owner", "place", "said")

    def __init__(self, owner: ref[Any], number: int, name: str, place: int | None, said: str) -> None:
        self.owner, self.number, self.name, self.place, self.said = owner, number, name, place, said

    def __call__(self, step: Any) -> float:
        value = self.owner().groups[self.number][self.name]  # type: ignore[union-attr]  # it is the owner that asks
        return float(value if self.place is None else value[self.place])

    def __repr__(self) -> str:
        return f"{self(0):g}"


@dataclass(frozen=True)
class Recipe:
    """What makes a chain of a group's values: ``make(**values)``, with a default for each.

    ``text`` is the chain's, if that is fixed.
    """

    make: Callable[..., Chain]
    defaults: Mapping[str, Any]
    text: str = ""
    joined: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Values that are tuples of what the plan names: ``betas`` of ``beta1`` and ``beta2``."""

    def __call__(self, group: Mapping[str, Any]) -> Chain:
        """The chain of a group's values as they are now: speaks with the recipe's words where one is wrong."""
        return self.make(**{name: plain(group[name]) for name in self.defaults})


def plain(value: Any) -> Any:
    """Tensors and arrays of one element as numbers, lists as tuples."""
    return frozen(value)


def number_in(value: Any) -> float | None:
    """The number that a value is, if it is one that may be live: a float, or a tensor or array of one element."""
    if isinstance(value, float) or (isinstance(value, (np.floating, torch.Tensor, np.ndarray)) and _count(value) == 1):
        return float(value)
    return None


def _count(value: Any) -> int:
    return value.numel() if isinstance(value, torch.Tensor) else int(np.size(value))


def form_of(value: Any) -> Any:
    """What a recipe can see of a value: one number other than 0 is like another."""
    if type(value) is float:
        return LIVE if value != 0 else 0.0
    if isinstance(value, (tuple, list)):
        return tuple(map(form_of, value))
    number = number_in(value)
    if number is not None:
        return LIVE if number != 0 else 0.0
    return type(value), (id(value) if callable(value) else value)


def forms_of(values: Sequence[Mapping[str, Any]], recipes: Sequence[Recipe]) -> list[list[Any]]:
    """What recipes can see of their groups' values: while it is the same, so are the chains."""
    return [[form_of(g[name]) for name in recipe.defaults] for g, recipe in zip(values, recipes, strict=True)]


class Owner(Protocol):
    """Whose groups numbers are read from: a `Core`."""

    @property
    def what(self) -> str: ...
    @property
    def groups(self) -> Sequence[Mapping[str, Any]]: ...
    def values(self) -> Sequence[Mapping[str, Any]]: ...


def chains_of(owner: Owner, recipes: Sequence[Recipe]) -> list[Chain]:
    """The chain of each of an owner's groups, with its numbers live; where a value is wrong, its recipe raises."""
    rows = zip(owner.values(), recipes, strict=True)
    return [_chain_of(owner, number, group, recipe) for number, (group, recipe) in enumerate(rows)]


def _chain_of(owner: Owner, number: int, group: Mapping[str, Any], recipe: Recipe) -> Chain:
    of = ref(owner)
    recipe(group)

    def lifted(name: str, value: Any, place: int | None) -> Any:
        found = number_in(value)
        if found is None or found == 0:
            return plain(value)
        where = f"[{name!r}]" if place is None else f"[{name!r}][{place}]"
        return Live(of, number, name, place, f"{owner.what}: param_groups[{number}]{where}")

    values: dict[str, Any] = {}
    for name in recipe.defaults:
        value = group[name]
        if isinstance(value, (tuple, list)):
            values[name] = tuple(lifted(name, v, i) for i, v in enumerate(value))
        else:
            values[name] = lifted(name, value, None)
    return recipe.make(**values)


def recipes_of(
    what: str, groups: Sequence[Mapping[str, Any]], added: Sequence[Mapping[str, Any]], recipes: Sequence[Recipe]
) -> list[Recipe]:
    """Each group's recipe: that of the very group, also if groups were moved or taken out by hand, else by position.

    ``recipes`` belong to the groups that were ``added``.
    """
    known = {id(group): recipe for group, recipe in zip(added, recipes, strict=True)}
    strange = [number for number, group in enumerate(groups) if id(group) not in known]
    if strange and len(groups) != len(recipes):
        raise ValueError(
            f"{what}: param_groups[{strange[0]}] must be added by add_param_group, got a group that was inserted by hand. "
            f"Remove it and call add_param_group."
        )
    return list(recipes) if strange else [known[id(group)] for group in groups]


def recipe_of_chain(what: str, given: object) -> Recipe:
    """A ready chain as a recipe: every hyperparameter of its links is a value, named as the plan names it.

    Betas of one link are one value, ``betas``, where torch's schedulers and loggers look for them.
    """
    if not isinstance(given, Chain):
        name = getattr(given, "__name__", "")
        fix = (
            f"Call it: {name}(…)."
            if callable(given) and name
            else "Pass the result of a rule, a recipe or steepest.chain."
        )
        raise TypeError(f"{what}: chain must be a chain, got {name or repr(given)}. {fix}")
    inputs = trace(given).inputs
    joined: dict[str, tuple[str, ...]] = {}
    for position in dict.fromkeys(place for place, _ in inputs.values()):
        betas = tuple(s for s, (place, name) in inputs.items() if place == position and re.fullmatch(r"beta\d", name))
        if len(betas) > 1:
            joined["betas" if not joined else f"betas_{len(joined) + 1}"] = betas
    of = {symbol: name for name, symbols in joined.items() for symbol in symbols}
    values: dict[str, Any] = {}
    for symbol, (position, name) in inputs.items():
        value = dict(given.links[position].values)[name]
        if symbol in of:
            values[of[symbol]] = (*values.get(of[symbol], ()), value)
        else:
            values[symbol] = value
    return Recipe(partial(_with_values, given, tuple(inputs.items()), joined), values, str(given), joined)


def _with_values(
    given: Chain, inputs: tuple[tuple[str, tuple[int, str]], ...], joined: Mapping[str, tuple[str, ...]], **values: Any
) -> Chain:
    for name, symbols in joined.items():
        several = values.pop(name)
        if not isinstance(several, tuple) or len(several) != len(symbols):
            raise TypeError(f"Optimizer: {name} must be a tuple of {len(symbols)} numbers, got {several!r}.")
        values.update(zip(symbols, several, strict=True))
    links = list(given.links)
    new: dict[int, dict[str, Any]] = {}
    for symbol, (position, name) in inputs:
        new.setdefault(position, {})[name] = values[symbol]
    for position, changed in new.items():
        link = links[position]
        if link.function is not None:
            check_arguments(link.name, changed, link.function)
        kept = {n: v if callable(v) else float(v) for n, v in changed.items()}
        links[position] = replace(link, values=tuple((n, kept[n]) for n, _ in link.values))
    return Chain(tuple(links))


def wrapped(inner: Recipe, k: Any, alpha: Any) -> Recipe:
    """A recipe with Lookahead around it."""
    return replace(
        inner, make=partial(_with_lookahead, inner.make), defaults={**inner.defaults, "k": k, "alpha": alpha}
    )


def _with_lookahead(inner: Callable[..., Chain], k: Any, alpha: Any, **values: Any) -> Chain:
    return chain(inner(**values), rules.lookahead(k, alpha))


def check_values(what: str, group: Mapping[str, Any], foreach_takes_tensors: bool = True) -> None:
    """Raise for what torch refuses in a group, and for the switches that can't be honoured."""
    for name, value in group.items():
        if name in ("params", "param_names"):
            continue
        several = value if isinstance(value, (tuple, list)) else (value,)
        for v in several:
            if isinstance(v, torch.Tensor) and v.numel() != 1:
                raise ValueError(
                    f"{what}: {name} must be a number or a tensor of 1 element, got a tensor of {v.numel()} elements."
                )
        kinds = {isinstance(v, torch.Tensor) for v in several}
        if name == "betas" and len(kinds) > 1:
            raise ValueError(f"{what}: betas must be two floats or two tensors, got one of each: {value!r}.")
        if True in kinds and group.get("foreach") and not foreach_takes_tensors:
            raise ValueError(
                f"{what}: {name} must be a number if foreach is True, as in torch's {what}, got a tensor. Leave out foreach, which "
                f"changes nothing here."
            )
    if group.get("differentiable"):
        raise ValueError(
            f"{what}: differentiable must be False, got True. The step changes memory in place, outside of autograd. To "
            f"differentiate through a step, use torch.optim."
        )
    if group.get("capturable"):
        raise ValueError(
            f"{what}: capturable must be False, got True. A captured graph would freeze the learning rate and the step count, "
            f"which are numbers on the host. Step outside of the graph."
        )
    if group.get("fused") and group.get("foreach"):
        raise RuntimeError(f"{what}: fused and foreach must not both be True.")
