"""Chains as plain data: which functions, in which order, with which values, on which parameters.

A rule, called with its hyperparameters, gives a `Chain` of one `Link`; ``chain`` joins chains, ``measure`` adds a value to be
read, ``only`` and ``exclude`` restrict a chain to some parameters. Nothing is traced or computed here: a chain can be
compared, copied, pickled and printed, and a plan's key is made of it.
"""

from __future__ import annotations

import copy
import importlib
import inspect
import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any, TypeAlias

from steepest.checks import Count, Range, Value, check_number, check_value
from steepest.language.identity import numbers_of

__all__ = [
    "MEASURABLE", "READABLE", "Chain", "Link", "Selector", "Start", "chain", "check_patterns", "copy_of_param", "exclude",
    "full", "measure", "only", "scalar", "zeros",
]  # fmt: skip

READABLE = ("update", "param", "grad", "state", "step")
MEASURABLE = (*READABLE, "update_before", "param_before")


@dataclass(frozen=True, slots=True)
class Start:
    """What a state holds before its first step: a number, a hyperparameter's value, or a copy of the parameter.

    ``on_host`` states are one float64 number per tensor, known once per step (NAdam's product of momenta).
    """

    value: float | str = 0.0
    copy: bool = False
    on_host: bool = False


zeros = Start()
copy_of_param = Start(copy=True)


def full(value: float | str) -> Start:
    """A state that starts filled with a number, or with the value of the hyperparameter of that name."""
    return Start(value)


def scalar(value: float) -> Start:
    """A state of one float64 number per tensor, kept on the host and known once per step."""
    return Start(float(value), on_host=True)


_PASS_A_CHAIN = "Pass the result of a rule or recipe, such as adam()."

Predicate: TypeAlias = Callable[[str, tuple[int, ...]], bool]


@dataclass(frozen=True, slots=True)
class Selector:
    """Which parameters a link applies to: any criterion met, or (``inverted``) none met."""

    patterns: tuple[str, ...] = ()
    where: Predicate | None = None
    max_ndim: int | None = None
    inverted: bool = False

    def __call__(self, name: str, shape: tuple[int, ...]) -> bool:
        met = (
            any(fnmatchcase(name, pattern) for pattern in self.patterns)
            or (self.where is not None and bool(self.where(name, shape)))
            or (self.max_ndim is not None and len(shape) <= self.max_ndim)
        )
        return met != self.inverted

    def __str__(self) -> str:
        said = [repr(p) for p in self.patterns]
        said += [f"where={getattr(self.where, '__name__', 'predicate')}"] if self.where else []
        said += [f"max_ndim={self.max_ndim}"] if self.max_ndim is not None else []
        return f"{'exclude' if self.inverted else 'only'} {', '.join(said)}"


@dataclass(frozen=True, slots=True)
class Link:
    """One rule of a chain with its hyperparameters' values.

    ``values`` are numbers and schedules, symbols to the planner; ``structure`` holds what decides which operations there
    are (bool, str, None, the order of a norm). ``reads`` are the names of the function's positional arguments. The function
    returns the new value of the first. ``measures`` maps names to functions for a link that only measures. ``selectors`` all
    must accept a parameter. ``number`` is set in a parameter's part of a chain: which of the whole chain's links of this rule
    it is, from 1.
    ``recipe`` is the name of the recipe that made the link, for messages.
    """

    name: str
    function: Callable[..., Any] | None
    reads: tuple[str, ...] = ()
    state: tuple[tuple[str, Start], ...] = ()
    values: tuple[tuple[str, Value], ...] = ()
    structure: tuple[tuple[str, Any], ...] = ()
    selectors: tuple[Selector, ...] = ()
    measures: tuple[tuple[str, Callable[..., Any]], ...] = ()
    number: int = 0
    recipe: str = field(default="", compare=False, repr=False)

    @property
    def written(self) -> str:
        """The name that the user wrote: the recipe's, or the rule's."""
        return self.recipe or (self.name if self.function else str(self))

    @property
    def changes(self) -> str:
        """``"update"`` or ``"param"``; empty for a link that only measures."""
        return self.reads[0] if self.function else ""

    @property
    def follows(self) -> bool:
        """Whether the rule only follows the weights: it changes ``param`` and keeps a state, but reads no gradient or update.

        Such a rule (an average, Lookahead) runs at every step of the optimizer, also for a parameter without a gradient.
        """
        return bool(self.state) and self.changes == "param" and not {"update", "grad"} & {*self.reads}

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled with the name of its rule, since under its own name the function's module holds the rule."""
        rest = (
            self.reads,
            self.state,
            self.values,
            self.structure,
            self.selectors,
            self.measures,
            self.number,
            self.recipe,
        )
        if self.function is None:
            return Link, (self.name, None, *rest)
        place = (self.function.__module__, self.function.__qualname__)
        if _function_at(*place) is not self.function:
            raise pickle.PicklingError(
                f"{self.name}: the rule can't be pickled, because it isn't an attribute of its module. Define it at the top "
                f"level of a module, or save the optimizer's state_dict() instead."
            )
        return _link_at, (self.name, *place, *rest)

    def __deepcopy__(self, memo: dict[int, Any]) -> Link:
        """Only a value can change (a plateau's state): functions are shared, also those that can't be pickled."""
        return replace(self, values=copy.deepcopy(self.values, memo))

    def applies_to(self, name: str, shape: tuple[int, ...]) -> bool:
        return all(selector(name, shape) for selector in self.selectors)

    def __str__(self) -> str:
        if not self.function:
            return f"measure({', '.join(name for name, _ in self.measures)})"
        return self.name + "".join(f" [{selector}]" for selector in self.selectors)


@dataclass(frozen=True, slots=True)
class Chain:
    """Rules in the order in which they are applied. Made by rules, recipes and `chain`; joined by `chain` or ``|``."""

    links: tuple[Link, ...] = field(default=())

    def __or__(self, other: Chain) -> Chain:
        return chain(self, other)

    def __iter__(self) -> Iterator[Link]:
        return iter(self.links)

    def __len__(self) -> int:
        return len(self.links)

    def __str__(self) -> str:
        return " > ".join(map(str, self.links)) or "(empty)"

    @property
    def follows(self) -> bool:
        """Whether any of the rules follows the weights, see `Link.follows`."""
        return any(link.follows for link in self.links)

    @property
    def brief(self) -> str:
        """The chain's text for a message: of a long chain its first and last links."""
        links = list(map(str, self.links))
        kept = links if len(links) <= 20 else [*links[:8], f"… {len(links) - 16} more …", *links[-8:]]
        return " > ".join(kept) or "(empty)"

    def for_parameter(self, name: str, shape: tuple[int, ...]) -> Chain:
        """The chain that one parameter sees: without the links that exclude it."""
        if all(not link.selectors for link in self.links):
            return self
        applies = [link.applies_to(name, shape) for link in self.links]
        kept = [link for link, does in zip(self.links, applies, strict=True) if does]
        left_out = {link.name for link, does in zip(self.links, applies, strict=True) if not does}
        if left_out.isdisjoint(link.name for link in kept):
            return Chain(tuple(replace(link, selectors=()) for link in kept))
        numbers = [n for (_, n), does in zip(numbers_of(self.links), applies, strict=True) if does]
        return Chain(tuple(replace(link, selectors=(), number=n) for link, n in zip(kept, numbers, strict=True)))


def chain(*chains: Chain) -> Chain:
    """Rules and recipes one after another, as one chain.

    >>> import steepest
    >>> print(steepest.chain(steepest.clip_by_value(-1, 1), steepest.sgd(0.1)))
    clip_by_value > descend
    """
    for position, one in enumerate(chains):
        if not isinstance(one, Chain):
            called = getattr(one, "__name__", None) or getattr(one, "name", None)  # a recipe's, or a rule's
            fix = f"Call it: {called}(…)." if callable(one) and called else _PASS_A_CHAIN
            raise TypeError(f"chain: argument {position + 1} must be a chain, got {one!r}. {fix}")
    return Chain(tuple(link for one in chains for link in one.links))


def measure(*, every: int = 1, **measures: Callable[..., Any]) -> Chain:
    """Values to be read after each step from ``optimizer.measured``: functions of update, param, grad, state, step.

    Each reads the values as they are at this place of the chain and returns one that is known once per step, model or
    tensor (``norm(update, per="model")``). ``state`` holds the states of all rules before it, under the plan's names;
    ``update_before`` is the update as the rule in front found it, ``param_before`` the parameter as the step found it. A
    measurement joins a pass that reads the value anyway, or the plan shows what it adds. With ``every=k`` it is left out of
    the program on all but every k-th step.

    >>> import steepest
    >>> moved = steepest.measure(moved=lambda param, param_before: steepest.norm(param - param_before, per="tensor"))
    >>> print(steepest.chain(steepest.sgd(0.1), moved))
    descend > measure(moved)
    """
    check_value("measure", "every", every, Count)
    if not measures:
        raise ValueError(
            "measure: at least one measurement must be given, got none. Write, for example, measure(grad_norm=lambda "
            "update: norm(update, per='model'))."
        )
    for name, function in measures.items():
        if not callable(function):
            raise TypeError(f"measure: {name} must be a function of {', '.join(MEASURABLE)}, got {function!r}.")
        unknown = [n for n in inspect.signature(function).parameters if n not in MEASURABLE]
        if unknown:
            raise TypeError(f"measure: arguments of {name} must be among {', '.join(MEASURABLE)}, got {unknown[0]!r}.")
    # A number is structure, so that measurements of one rhythm share one condition, and two programs serve them all.
    values, structure = ((("every", every),), ()) if callable(every) else ((), (("every", int(every)),))
    return Chain((Link("measure", None, values=values, structure=structure, measures=tuple(measures.items())),))


def only(what: Chain, *patterns: str, where: Predicate | None = None, max_ndim: int | None = None) -> Chain:
    """Restrict rules to parameters whose name matches a pattern, or that satisfy ``where(name, shape)``, or have at most
    ``max_ndim`` dimensions.

    An optimizer raises ValueError for a pattern that matches none of its parameters."""
    return _restrict("only", what, Selector(patterns, where, max_ndim, inverted=False))


def exclude(what: Chain, *patterns: str, where: Predicate | None = None, max_ndim: int | None = None) -> Chain:
    """Apply rules to all parameters but those whose name matches a pattern, or that satisfy ``where(name, shape)``, or
    have at most ``max_ndim`` dimensions.

    An optimizer raises ValueError for a pattern that matches none of its parameters.

    >>> import steepest
    >>> print(steepest.exclude(steepest.add_decayed_weights(0.01), max_ndim=1))
    add_decayed_weights [exclude max_ndim=1]
    """
    return _restrict("exclude", what, Selector(patterns, where, max_ndim, inverted=True))


def _restrict(name: str, what: Chain, selector: Selector) -> Chain:
    if not isinstance(what, Chain):
        raise TypeError(f"{name}: the first argument must be a chain, got {what!r}. {_PASS_A_CHAIN}")
    if not selector.patterns and selector.where is None and selector.max_ndim is None:
        raise ValueError(
            f"{name}: at least one criterion must be given, got none. Pass a pattern ('*.bias'), where=…, or "
            f"max_ndim=…."
        )
    for pattern in selector.patterns:
        if not isinstance(pattern, str):
            raise TypeError(f"{name}: pattern must be a string such as '*.bias', got {pattern!r}.")
    if selector.where is not None and not callable(selector.where):
        raise TypeError(f"{name}: where must be a function of name and shape, got {selector.where!r}.")
    if selector.max_ndim is not None:
        check_number(name, "max_ndim", selector.max_ndim, Range(0, whole=True, structure=True))
    return Chain(tuple(replace(link, selectors=(*link.selectors, selector)) for link in what.links))


def check_patterns(what: str, chains: Sequence[Chain], names: Sequence[Sequence[str]]) -> None:
    """Raise ValueError for a pattern that matches no parameter of all groups whose chains have it.

    ``names`` holds the names of each group's parameters. A predicate or ``max_ndim`` may match none.
    """
    reach: dict[str, tuple[Link, list[str]]] = {}
    for one, group in zip(chains, names, strict=True):
        links = {pattern: link for link in one for selector in link.selectors for pattern in selector.patterns}
        for pattern, link in links.items():
            reach.setdefault(pattern, (link, []))[1].extend(group)
    for pattern, (link, found) in reach.items():
        if found and not any(fnmatchcase(name, pattern) for name in found):
            first = ", ".join(map(repr, found[:5])) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
            unnamed = all(name.isdecimal() for name in found)
            cure = (
                "Name the parameters: pass model.named_parameters(), or a dict of arrays"
                if unnamed
                else ("A pattern must match the whole name, including upper and lower case")
            )
            raise ValueError(
                f"{what}: pattern {pattern!r} of {link.written} must match the name of a parameter, got {first}. {cure}. If it "
                f"may match none, use where=lambda name, shape: …."
            )


def _function_at(module: str, name: str) -> Any:
    found = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part, None)  # type: ignore[assignment]  # from the module to what it holds
    return getattr(found, "function", None)


def _link_at(name: str, module: str, rule_name: str, *rest: Any) -> Link:
    return Link(name, _function_at(module, rule_name), *rest)
