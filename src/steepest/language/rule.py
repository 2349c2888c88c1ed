"""Rules, and chains of them: the mathematics as the user writes it, before anything is traced.

``@rule`` turns a function on symbolic values into a maker of one-link chains. ``chain`` joins chains, ``only`` and
``exclude`` restrict one to some parameters, ``measure`` adds a value to be read. A `Chain` is plain data: which functions,
in which order, with which values.
"""

from __future__ import annotations

import copy
import functools
import importlib
import inspect
import pickle
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any, ParamSpec, TypeAlias, get_type_hints, overload

from steepest.checks import (
    Count,
    Range,
    Real,
    Value,
    check_arguments,
    check_number,
    check_value,
    range_of,
    unknown_name,
)

__all__ = [
    "Chain", "Link", "Rule", "Selector", "Start", "chain", "copy_of_param", "exclude", "full", "measure", "only", "recipe",
    "rule", "scalar", "zeros",
]  # fmt: skip

P = ParamSpec("P")
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
    are (bool, str, None, the order of a norm). ``reads`` are the names of the function's positional arguments; the first is
    what it returns anew. ``measures`` maps names to functions for a link that only measures. ``selectors`` all must accept a
    parameter.
    """

    name: str
    function: Callable[..., Any] | None
    reads: tuple[str, ...] = ()
    state: tuple[tuple[str, Start], ...] = ()
    values: tuple[tuple[str, Value], ...] = ()
    structure: tuple[tuple[str, Any], ...] = ()
    selectors: tuple[Selector, ...] = ()
    measures: tuple[tuple[str, Callable[..., Any]], ...] = ()

    @property
    def changes(self) -> str:
        """``"update"`` or ``"param"``; empty for a link that only measures."""
        return self.reads[0] if self.function else ""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled with the name of its rule, since under its own name the function's module holds the rule."""
        if self.function is None:
            return Link, (
                self.name,
                None,
                self.reads,
                self.state,
                self.values,
                self.structure,
                self.selectors,
                self.measures,
            )
        place = (self.function.__module__, self.function.__qualname__)
        if _function_at(*place) is not self.function:
            raise pickle.PicklingError(
                f"{self.name}: the rule can't be pickled, since it is no attribute of its module. Define it at the top of a "
                f"module, or save the optimizer's state_dict() instead."
            )
        rest = (self.reads, self.state, self.values, self.structure, self.selectors, self.measures)
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


def _function_at(module: str, name: str) -> Any:
    found = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part, None)  # type: ignore[assignment]  # from the module to what it holds
    return getattr(found, "function", None)


def _link_at(name: str, module: str, rule_name: str, *rest: Any) -> Link:
    return Link(name, _function_at(module, rule_name), *rest)


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

    def for_parameter(self, name: str, shape: tuple[int, ...]) -> Chain:
        """The chain that one parameter sees: without the links that exclude it."""
        if all(not link.selectors for link in self.links):
            return self
        return Chain(tuple(replace(link, selectors=()) for link in self.links if link.applies_to(name, shape)))


def chain(*chains: Chain) -> Chain:
    """Rules and recipes one after another, as one chain.

    >>> import steepest
    >>> print(steepest.chain(steepest.clip_by_value(-1, 1), steepest.sgd(0.1)))
    clip_by_value > descend
    """
    for position, one in enumerate(chains):
        if not isinstance(one, Chain):
            hint = f" Call it: {one.name}(…)." if isinstance(one, Rule) else ""
            hint = hint or (f" Call it: {one.__name__}(…)." if callable(one) and hasattr(one, "__name__") else "")
            raise TypeError(
                f"chain: argument {position + 1} is {one!r}, allowed is what a rule or recipe returns.{hint}"
            )
    return Chain(tuple(link for one in chains for link in one.links))


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
            raise TypeError(f"{self.name}: {len(positional)} values were given, allowed are {len(names)}: {names}.")
        given = dict(zip(names, positional, strict=False))
        for name, value in named.items():
            if name not in self.hyperparameters:
                raise TypeError(unknown_name(self.name, "hyperparameter", name, names))
            if name in given:
                raise TypeError(f"{self.name}: {name} was given twice, by position and by name.")
            given[name] = value
        missing = [name for name in names if name not in given and name not in self.defaults]
        if missing:
            raise TypeError(f"{self.name}: {missing[0]} is missing; it has no default.")
        values = {name: given.get(name, self.defaults.get(name)) for name in names}
        check_arguments(self.name, values, self.function)
        hints = get_type_hints(self.function, include_extras=True)
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
            raise TypeError(f"rule: the argument is {function!r}, allowed is a function.")
        name = function.__name__
        parameters = inspect.signature(function).parameters
        kinds = {p.kind for p in parameters.values()}
        if kinds & {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL}:
            raise TypeError(f"{name}: a rule names each argument; *args and **kwargs are not allowed.")
        keyword_only = inspect.Parameter.KEYWORD_ONLY
        reads = tuple(n for n, p in parameters.items() if p.kind is not keyword_only)
        unknown = [n for n in reads if n not in READABLE]
        if unknown:
            raise TypeError(
                f"{name}: a rule may read {', '.join(READABLE)}; it asks for {unknown[0]!r}. "
                f"Hyperparameters stand after a bare *."
            )
        if not reads or reads[0] not in ("update", "param"):
            raise TypeError(f"{name}: the first argument is what the rule changes, 'update' or 'param'.")
        if state and "state" not in reads:
            raise TypeError(f"{name}: state is declared ({', '.join(state)}), but the rule does not read 'state'.")
        hyperparameters = {n: p for n, p in parameters.items() if p.kind is keyword_only}
        for n, start in state.items():
            if not isinstance(start, Start):
                raise TypeError(
                    f"{name}: state {n} starts as {start!r}, allowed are zeros, copy_of_param, full(…), scalar(…)."
                )
            if n in READABLE:
                raise TypeError(f"{name}: a state may not be named {n!r}.")
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
        return function(*positional, **named)

    return checked


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
            "measure: no measurement was given. Name one: measure(grad_norm=lambda update: norm(update, per='model'))."
        )
    for name, function in measures.items():
        if not callable(function):
            raise TypeError(f"measure: {name} is {function!r}, allowed is a function of {', '.join(MEASURABLE)}.")
        unknown = [n for n in inspect.signature(function).parameters if n not in MEASURABLE]
        if unknown:
            raise TypeError(f"measure: {name} asks for {unknown[0]!r}, allowed are {', '.join(MEASURABLE)}.")
    # A number is structure, so that measurements of one rhythm share one condition, and two programs serve them all.
    values, structure = ((("every", every),), ()) if callable(every) else ((), (("every", int(every)),))
    return Chain((Link("measure", None, values=values, structure=structure, measures=tuple(measures.items())),))


def only(what: Chain, *patterns: str, where: Predicate | None = None, max_ndim: int | None = None) -> Chain:
    """Restrict rules to parameters whose name matches a pattern, or that satisfy ``where(name, shape)``, or have at most
    ``max_ndim`` dimensions."""
    return _restrict("only", what, Selector(patterns, where, max_ndim, inverted=False))


def exclude(what: Chain, *patterns: str, where: Predicate | None = None, max_ndim: int | None = None) -> Chain:
    """Apply rules to all parameters but those whose name matches a pattern, or that satisfy ``where(name, shape)``, or
    have at most ``max_ndim`` dimensions.

    >>> import steepest
    >>> print(steepest.exclude(steepest.add_decayed_weights(0.01), max_ndim=1))
    add_decayed_weights [exclude max_ndim=1]
    """
    return _restrict("exclude", what, Selector(patterns, where, max_ndim, inverted=True))


def _restrict(name: str, what: Chain, selector: Selector) -> Chain:
    if not isinstance(what, Chain):
        raise TypeError(f"{name}: the first argument is {what!r}, allowed is what a rule or recipe returns.")
    if not selector.patterns and selector.where is None and selector.max_ndim is None:
        raise ValueError(f"{name}: no criterion was given. Name a pattern ('*.bias'), where=…, or max_ndim=….")
    for pattern in selector.patterns:
        if not isinstance(pattern, str):
            raise TypeError(f"{name}: pattern is {pattern!r}, allowed is a text like '*.bias'.")
    if selector.where is not None and not callable(selector.where):
        raise TypeError(f"{name}: where is {selector.where!r}, allowed is a function of name and shape.")
    if selector.max_ndim is not None:
        check_number(name, "max_ndim", selector.max_ndim, Range(0, whole=True, structure=True))
    return Chain(tuple(replace(link, selectors=(*link.selectors, selector)) for link in what.links))
