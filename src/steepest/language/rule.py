"""Rules and recipes: functions on symbolic values that the user writes, made into what gives chains.

``@rule`` turns the mathematics of one rule into a maker of one-link chains, whose values are checked against the ranges that
the function declares; ``@recipe`` does the same for a function that returns a chain with the paper's defaults.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ParamSpec, overload

from steepest.checks import Real, check_arguments, check_value, hints_of, range_of, unknown_name
from steepest.language.chain import READABLE, Chain, Link, Start

__all__ = ["Rule", "recipe", "rule"]

P = ParamSpec("P")


@dataclass(frozen=True, slots=True, repr=False)
class Rule:
    """A rule: called with hyperparameters it gives a chain of one link; ``.function`` is the mathematics, runnable eagerly."""

    function: Callable[..., Any]
    state: tuple[tuple[str, Start], ...]
    reads: tuple[str, ...]
    hyperparameters: Mapping[str, inspect.Parameter]

    @property
    def name(self) -> str:
        return self.function.__name__

    @property
    def __doc__(self) -> str | None:  # type: ignore[override]
        return self.function.__doc__

    def __repr__(self) -> str:
        return f"the rule {self.name}"

    @property
    def defaults(self) -> dict[str, Any]:
        empty = inspect.Parameter.empty
        return {name: p.default for name, p in self.hyperparameters.items() if p.default is not empty}

    def __call__(self, *positional: Any, **named: Any) -> Chain:
        return Chain((self.link(*positional, **named),))

    def link(self, *positional: Any, **named: Any) -> Link:
        """Check the values of the hyperparameters, given by position in the declared order or by name."""
        names = list(self.hyperparameters)
        if len(positional) > len(names):
            known = ", ".join(names) or "none"
            raise TypeError(
                f"{self.name}: got {len(positional)} positional arguments, but its hyperparameters are: {known}."
            )
        given = dict(zip(names, positional, strict=False))
        for name, value in named.items():
            if name not in self.hyperparameters:
                raise TypeError(unknown_name(self.name, "hyperparameter", name, names))
            if name in given:
                raise TypeError(f"{self.name}: {name} was given twice, by position and by name.")
            given[name] = value
        missing = [name for name in names if name not in given and name not in self.defaults]
        if missing:
            raise TypeError(f"{self.name}: {missing[0]} is missing. It has no default.")
        values = {name: given.get(name, self.defaults.get(name)) for name in names}
        check_arguments(self.name, values, self.function)
        hints = hints_of(self.function)
        symbols, structure = [], []
        for name, value in values.items():
            declared = range_of(hints.get(name))
            if value is None or isinstance(value, (bool, str)) or (declared is not None and declared.structure):
                structure.append((name, value if value is None or not hasattr(value, "item") else value.item()))
                continue
            if declared is None:
                check_value(self.name, name, value, Real)
            symbols.append((name, value if callable(value) else float(value)))
        return Link(self.name, self.function, self.reads, self.state, tuple(symbols), tuple(structure))


@overload
def rule(function: Callable[..., Any], /) -> Rule: ...
@overload
def rule(function: None = None, /, **state: Start) -> Callable[[Callable[..., Any]], Rule]: ...
def rule(function: Callable[..., Any] | None = None, /, **state: Start) -> Rule | Callable[[Callable[..., Any]], Rule]:
    """Make a rule of a function on symbolic values.

    The function returns the new value of its first argument, ``update`` or ``param``. Its other positional arguments name
    what it reads: update, param, grad, state, step. Its keyword-only arguments are the hyperparameters, with their ranges as
    types. States are declared here with what they hold at first.

    A parameter without a gradient is left out of a step. A rule that changes ``param``, has a state and reads neither
    ``update`` nor ``grad`` follows the weights: it runs at every step of the optimizer, whose steps its ``step`` counts.

    >>> import steepest
    >>> @steepest.rule(momentum_buffer=steepest.zeros)
    ... def heavy_ball(update, state, *, momentum: steepest.Decay = 0.9):
    ...     state.momentum_buffer = momentum * state.momentum_buffer + update
    ...     return state.momentum_buffer
    >>> print(steepest.chain(heavy_ball(momentum=0.8), steepest.descend(0.1)))
    heavy_ball > descend
    """

    def decorate(function: Callable[..., Any]) -> Rule:
        if not inspect.isfunction(function):
            raise TypeError(f"rule: the argument must be a function, got {function!r}.")
        name = function.__name__
        parameters = inspect.signature(function).parameters
        kinds = {p.kind for p in parameters.values()}
        if kinds & {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL}:
            raise TypeError(f"{name}: a rule can't take *args or **kwargs. Name each argument.")
        keyword_only = inspect.Parameter.KEYWORD_ONLY
        reads = tuple(n for n, p in parameters.items() if p.kind is not keyword_only)
        unknown = [n for n in reads if n not in READABLE]
        if unknown:
            raise TypeError(
                f"{name}: positional arguments of a rule must be among {', '.join(READABLE)}, got {unknown[0]!r}. "
                f"Write hyperparameters after a bare *."
            )
        if not reads or reads[0] not in ("update", "param"):
            raise TypeError(
                f"{name}: the first argument of a rule must be 'update' or 'param', got {reads[0] if reads else None!r}. "
                f"The rule returns its new value."
            )
        if state and "state" not in reads:
            raise TypeError(
                f"{name}: a rule that declares states ({', '.join(state)}) must read 'state'. Add the argument."
            )
        hyperparameters = {n: p for n, p in parameters.items() if p.kind is keyword_only}
        for n, start in state.items():
            if not isinstance(start, Start):
                raise TypeError(
                    f"{name}: state {n} must start as zeros, copy_of_param, full(…) or scalar(…), got {start!r}."
                )
            if n in READABLE:
                raise TypeError(
                    f"{name}: a state can't be named {n!r}, which is the name of a rule's argument. Rename it."
                )
            if isinstance(start.value, str) and start.value not in hyperparameters:
                raise TypeError(unknown_name(f"{name}: state {n}", "hyperparameter", start.value, hyperparameters))
        return Rule(function, tuple(state.items()), reads, hyperparameters)

    return decorate if function is None else decorate(function)


def recipe(function: Callable[P, Chain]) -> Callable[P, Chain]:
    """A short chain with the paper's defaults: its arguments are checked under the recipe's own name and words.

    The values are the function's annotated arguments, by position in the declared order or by name.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def checked(*positional: P.args, **named: P.kwargs) -> Chain:
        for name in named:
            if name not in signature.parameters:
                raise TypeError(unknown_name(function.__name__, "argument", name, signature.parameters))
        try:
            bound = signature.bind(*positional, **named)
        except TypeError as error:
            raise TypeError(
                f"{function.__name__}: {error}. Its arguments are {', '.join(signature.parameters)}."
            ) from None
        check_arguments(function.__name__, bound.arguments, function)
        made = function(*positional, **named)
        return Chain(tuple(replace(link, recipe=function.__name__) for link in made.links))

    return checked
