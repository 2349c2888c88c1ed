"""From a parameter group to its chain, whatever the framework.

A group holds what users and schedulers change at any time: numbers, and arrays or tensors of one element. A recipe turns its values
into a chain. Numbers go into the chain as `Live` values, which are read from the group again at every step, so changing one plans
nothing. A number that a schedule gives goes in as its `Scheduled`. The recipe is called again only when the group's form changes:
a number leaves 0 or becomes 0, a flag flips, a schedule comes or goes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from operator import is_, itemgetter
from types import NoneType
from typing import Any, TypeAlias
from weakref import ref

import numpy as np

from steepest import rules
from steepest.checks import check_arguments
from steepest.language.chain import Chain, chain
from steepest.language.trace import trace
from steepest.step.groups import frozen
from steepest.step.scheduled import Scheduled, Schedules

__all__ = ["Live", "LiveGroups", "Recipe", "checked_chain", "recipe_of_chain", "wrapped"]

LIVE = "a number"


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
        """The chain of a group's values as they are now; an error is the recipe's own."""
        return self.make(**{name: frozen(group[name]) for name in self.defaults})


_NO_RECIPE = Recipe(Chain, {})
Place: TypeAlias = int | tuple[int, int] | None
"""Where in a group's value a number is: nowhere else, at an index, or at the place of a link and of its value."""


class Live:
    """A number of a parameter group, read again at every step: a value, an element of one, or a number of a link of a chain.

    Plans outlive optimizers, and keep the chain they were first made for; so this holds no groups alive. Once the groups are gone,
    or have something else in this place, it is the number that it was when it was made.
    """

    __slots__ = ("group", "name", "number", "owner", "place")

    def __init__(self, owner: LiveGroups, group: int, name: str, place: Place, number: float) -> None:
        self.owner, self.group, self.name, self.place, self.number = ref(owner), group, name, place, number

    def __call__(self, step: Any) -> float:
        owner = self.owner()
        if owner is None:
            return self.number
        try:
            value, place = owner.rows[self.group][self.name], self.place
            if place is None:
                return float(value)
            return float(value.links[place[0]].values[place[1]][1] if isinstance(place, tuple) else value[place])
        except (AttributeError, LookupError, TypeError):  # a value of another form: the next step makes another chain
            return self.number

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy reads the copied groups."""
        return Live, (self.owner(), self.group, self.name, self.place, self.number)

    def __repr__(self) -> str:
        return f"{self(0):g}"

    def refuse(self) -> None:
        """Raise the recipe's own error for a number that is out of range."""
        owner = self.owner()
        if owner is not None:
            owner.check(self.group)


@dataclass(frozen=True, slots=True, eq=False)
class _Look:
    """A group's values as they were at the last look, and what its recipe can see of them."""

    get: Callable[[Mapping[str, Any]], Any]
    values: tuple[Any, ...]
    form: tuple[Any, ...]
    fixed: bool
    """Whether a value that is the same object must have the same form."""

    @classmethod
    def at(cls, group: Mapping[str, Any], names: Iterable[str]) -> _Look:
        """A first look."""
        listed = tuple(names)
        get = itemgetter(*listed) if len(listed) > 1 else lambda group: tuple(group[name] for name in listed)
        return cls(get, (), (), False).again(group)

    def again(self, group: Mapping[str, Any]) -> _Look:
        """The next look; this one if the form can only be the same."""
        values = self.get(group)
        if self.fixed:
            for new, old in zip(values, self.values, strict=True):
                if new is not old and not (type(new) is type(old) is float and new and old):
                    break
            else:
                return self
        return replace(self, values=values, form=tuple(map(form_of, values)), fixed=not any(map(_changeable, values)))


class LiveGroups:
    """The parameter groups of an optimizer, with a recipe for each and the schedules behind their numbers.

    Parameters
    ----------
    what : str
        Name of the optimizer's class, for messages.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self.rows: list[dict[str, Any]] = []
        self.added: list[dict[str, Any]] = []
        """The groups that the recipes belong to: users may move groups and take them out."""
        self.recipes: list[Recipe] = []
        self.schedules = Schedules(what)
        self.scheduled = False
        """Whether there were schedules at the last `rechain`."""
        self._looks: list[_Look] = []

    def values(self) -> Sequence[Mapping[str, Any]]:
        """The groups, with schedules in the places of the numbers that they give."""
        if not self.schedules:
            return self.rows
        return [self.schedules.placed(number, group) for number, group in enumerate(self.rows)]

    def check(self, number: int) -> None:
        """Raise the recipe's error if it refuses the values of a group."""
        try:
            self.recipes[number](self.values()[number])
        except (TypeError, ValueError) as error:
            error.add_note(f"in {self.what}.param_groups[{number}]")
            raise

    def matched(self) -> list[Recipe | None]:
        """Each group's recipe: that of the very group, else by position if there are as many groups as recipes."""
        known = {id(group): recipe for group, recipe in zip(self.added, self.recipes, strict=True)}
        found = [known.get(id(group)) for group in self.rows]
        return [*self.recipes] if None in found and len(found) == len(self.recipes) else found

    def settle(self, recipes: Sequence[Recipe]) -> None:
        """Take these as the recipes of the groups as they are now."""
        self.recipes, self.added = list(recipes), list(self.rows)

    def take_schedules(self, steps: int) -> bool:
        """Let numbers stand in the groups for schedules that stand there, and return whether any did."""
        if self._is_unchanged():
            return False
        recipes = [recipe or _NO_RECIPE for recipe in self.matched()]
        names = [recipe.defaults for recipe in recipes]
        return self.schedules.take(self.rows, names, steps, lambda number, values: recipes[number](values))

    def chains(self, recipes: Sequence[Recipe] | None = None) -> list[Chain]:
        """The chain of each group, with its numbers live; where a value is wrong, its recipe raises."""
        rows = zip(self.values(), recipes or self.recipes, strict=True)
        return [self._chain(number, group, recipe) for number, (group, recipe) in enumerate(rows)]

    def _chain(self, number: int, group: Mapping[str, Any], recipe: Recipe) -> Chain:
        recipe(group)
        values: dict[str, Any] = {}
        for name in recipe.defaults:
            value = group[name]
            if isinstance(value, (tuple, list)):
                values[name] = tuple(self._live(number, name, v, i) for i, v in enumerate(value))
            elif isinstance(value, Chain):
                links = []
                for at, link in enumerate(value):
                    own = tuple((n, self._live(number, name, v, (at, i))) for i, (n, v) in enumerate(link.values))
                    links.append(replace(link, values=own))
                values[name] = Chain(tuple(links))
            else:
                values[name] = self._live(number, name, value)
        return recipe.make(**values)

    def _live(self, number: int, name: str, value: Any, place: Place = None) -> Any:
        """A value, or a `Live` one if it is a number other than 0."""
        found = number_in(value)
        return Live(self, number, name, place, found) if found else frozen(value)

    def __getstate__(self) -> dict[str, Any]:
        """A copy looks again."""
        return {**vars(self), "_looks": []}

    def look(self) -> None:
        """Take note of the values as they are, of which chains have been made."""
        self._looks = []
        self._looks = self._now(self.values())

    def rechain(self, steps: int, use: Callable[[list[Chain]], object]) -> None:
        """Give new chains to ``use`` if any group has another form than at the last look."""
        self.scheduled = bool(self.schedules)
        now, known = self._now(self.values() if self.scheduled else self.rows), self._looks
        if now == known:
            return
        if [look.form for look in now] != [look.form for look in known]:
            self.take_schedules(steps)
            use(self.chains())
            self.scheduled = bool(self.schedules)
            now = self._now(self.values())
        self._looks = now

    def _now(self, values: Sequence[Mapping[str, Any]]) -> list[_Look]:
        if len(self._looks) == len(values):
            return [look.again(group) for look, group in zip(self._looks, values, strict=True)]
        rows = zip(values, self.recipes, strict=True)
        return [_Look.at(group, recipe.defaults) for group, recipe in rows]

    def _is_unchanged(self) -> bool:
        """Whether all groups are the same, and have the forms of the last look."""
        if len(self.rows) != len(self.added) or not all(map(is_, self.rows, self.added)):
            return False
        try:
            return self._looks == self._now(self.values())
        except KeyError:  # a value was taken out
            return False


def number_in(value: Any) -> float | None:
    """The number that a value is, if it is one that may be live: a float, or an array or tensor of one element."""
    if isinstance(value, (float, np.floating)):
        return float(value)
    if isinstance(value, np.ndarray):
        single = value.size == 1 and value.dtype.kind in "fiub"
    else:
        single = hasattr(value, "numel") and value.numel() == 1
    return float(value.item()) if single else None


def form_of(value: Any) -> Any:
    """What a recipe can see of a value: a number other than 0 is like another, but of two it can see whether they ascend."""
    if type(value) is float:
        return LIVE if value else 0.0
    if isinstance(value, (tuple, list)):
        numbers = [number for number in map(number_in, value) if number is not None]
        return *map(form_of, value), len(value) == len(numbers) == 2 and numbers[0] < numbers[1]
    if isinstance(value, Chain):
        return [(replace(link, values=()), [(name, form_of(v)) for name, v in link.values]) for link in value]
    number = number_in(value)
    if number is not None:
        return LIVE if number else 0.0
    return type(value), value if isinstance(value, (bool, int, str, NoneType)) else id(value)


def _changeable(value: Any) -> bool:
    """Whether a value, or a part of it, can be changed in place, or waits to be taken as a schedule."""
    if isinstance(value, tuple):
        return any(map(_changeable, value))
    return hasattr(value, "__setitem__") or (callable(value) and not isinstance(value, Scheduled))


def checked_chain(what: str, chain: object = None) -> Chain:
    """What the user gives as a chain, or a TypeError."""
    if isinstance(chain, Chain):
        return chain
    name = getattr(chain, "__name__", "")
    fix = (
        f"Call it: {name}(…)." if callable(chain) and name else "Pass the result of a rule, a recipe or steepest.chain."
    )
    raise TypeError(f"{what}: chain must be a chain, got {name or repr(chain)}. {fix}")


def recipe_of_chain(what: str, chain: object) -> Recipe:
    """A ready chain as a recipe: every hyperparameter of its links is a value, named as the plan names it.

    Betas of one link are one value, ``betas``, where torch's schedulers and loggers look for them.
    """
    given = checked_chain(what, chain)
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
