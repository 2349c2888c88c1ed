"""Rules and recipes: functions on symbolic values that the user writes, made into what gives chains.

``@rule`` turns the mathematics of one rule into a maker of one-link chains, whose values are checked against the ranges that
the function declares; ``@recipe`` does the same for a function that returns a chain with the paper's defaults. Both note where
the catalogue lists what they make (`Entry`), and the front ends make classes of the recipes that declare one.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Concatenate, Generic, Literal, ParamSpec, Protocol, TypeAlias, overload

from steepest.checks import Real, Value, check_arguments, check_value, hints_of, range_of, unknown_name
from steepest.language.chain import READABLE, Chain, Link, Start

__all__ = ["Entry", "Kind", "Rule", "entry_of", "recipe", "rule"]

P = ParamSpec("P")
Kind: TypeAlias = Literal["optimizer", "clip", "wrapper", "part"]


@dataclass(frozen=True, slots=True)
class Entry:
    """Where the catalogue lists a rule or recipe, and which optimizer class is made of it.

    ``switches`` are the arguments that torch's class of the same name takes beside the mathematics, such as ``foreach``.
    """

    kind: Kind = "part"
    class_name: str = ""
    switches: tuple[str, ...] = ()


def entry_of(made: Callable[..., Any]) -> Entry:
    """What a rule or recipe declares."""
    return made.entry  # type: ignore[attr-defined,no-any-return]  # a rule's field, or set by recipe


class _CallSignature:
    """A rule's arguments as `inspect.signature` finds them: its hyperparameters, by position or by name."""

    def __get__(self, made: Rule[Any] | None, owner: type) -> inspect.Signature | None:
        if made is None:
            return None  # the class's own is that of its constructor
        parameters = list(made.hyperparameters.values())
        defaults = [p.default is not p.empty for p in parameters]
        if defaults == sorted(defaults):  # Python allows no other order by position
            parameters = [p.replace(kind=p.POSITIONAL_OR_KEYWORD) for p in parameters]
        return inspect.Signature(parameters, return_annotation="Chain")


@dataclass(frozen=True, slots=True, repr=False)
class Rule(Generic[P]):
    """A rule: called with hyperparameters it gives a chain of one link; ``.function`` is the mathematics, runnable eagerly.

    For type checkers `P` are the hyperparameters as the function declares them, by name. A call that gives some of them by
    position is checked only for the kinds of its values, since Python can't say that keyword-only arguments may be positional.
    """

    function: Callable[..., Any]
    name: str
    state: tuple[tuple[str, Start], ...]
    reads: tuple[str, ...]
    hyperparameters: Mapping[str, inspect.Parameter]
    entry: Entry = Entry()
    __signature__: ClassVar = _CallSignature()

    @property
    def __doc__(self) -> str | None:  # type: ignore[override]
        return self.function.__doc__

    def __repr__(self) -> str:
        return f"the rule {self.name}"

    @property
    def defaults(self) -> dict[str, Any]:
        empty = inspect.Parameter.empty
        return {name: p.default for name, p in self.hyperparameters.items() if p.default is not empty}

    @overload
    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> Chain: ...
    @overload
    def __call__(self, value: Value | None, /, *values: Value | str | None, **named: Value | str | None) -> Chain: ...
    def __call__(self, /, *positional: Any, **named: Any) -> Chain:
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


class _RuleMaker(Protocol):
    """What ``rule(…)`` returns: it takes a function of one to five values and of keyword-only hyperparameters."""

    @overload
    def __call__(self, function: Callable[Concatenate[Any, Any, Any, Any, Any, P], Any], /) -> Rule[P]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[Any, Any, Any, Any, P], Any], /) -> Rule[P]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[Any, Any, Any, P], Any], /) -> Rule[P]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[Any, Any, P], Any], /) -> Rule[P]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[Any, P], Any], /) -> Rule[P]: ...


@overload
def rule(function: Callable[Concatenate[Any, Any, Any, Any, Any, P], Any], /) -> Rule[P]: ...
@overload
def rule(function: Callable[Concatenate[Any, Any, Any, Any, P], Any], /) -> Rule[P]: ...
@overload
def rule(function: Callable[Concatenate[Any, Any, Any, P], Any], /) -> Rule[P]: ...
@overload
def rule(function: Callable[Concatenate[Any, Any, P], Any], /) -> Rule[P]: ...
@overload
def rule(function: Callable[Concatenate[Any, P], Any], /) -> Rule[P]: ...
@overload
def rule(*, name: str = "", kind: Kind = "part", **state: Start) -> _RuleMaker: ...
def rule(
    function: Callable[..., Any] | None = None, /, *, name: str = "", kind: Kind = "part", **state: Start
) -> Rule[Any] | _RuleMaker:
    """Make a rule of a function on symbolic values.

    The function returns the new value of its first argument, ``update`` or ``param``. Its other positional arguments name
    what it reads: update, param, grad, state, step. Its keyword-only arguments are the hyperparameters, with their ranges as
    types. States are declared here with what they hold at first. ``name`` is the rule's name if it isn't the function's, and
    ``kind`` is where the library's own catalogue lists the rule.

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
    return (
        functools.partial(_rule, name=name, kind=kind, state=state)
        if function is None
        else _rule(function, name, kind, state)
    )


def _rule(function: Callable[..., Any], name: str, kind: Kind, state: Mapping[str, Start]) -> Rule[Any]:
    if not inspect.isfunction(function):
        raise TypeError(f"rule: the argument must be a function, got {function!r}.")
    given: dict[str, object] = {"name": name, "kind": kind}
    taken = [n for n, value in given.items() if isinstance(value, Start)]
    name = function.__name__ if not name or taken else name
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
    taken += [n for n in state if n in READABLE]
    if taken:
        raise TypeError(
            f"{name}: a state can't be named {taken[0]!r}, which is the name of a rule's argument. Rename it."
        )
    for n, start in state.items():
        if not isinstance(start, Start):
            raise TypeError(
                f"{name}: state {n} must start as zeros, copy_of_param, full(…) or scalar(…), got {start!r}."
            )
        if isinstance(start.value, str) and start.value not in hyperparameters:
            raise TypeError(unknown_name(f"{name}: state {n}", "hyperparameter", start.value, hyperparameters))
    return Rule(function, name, tuple(state.items()), reads, hyperparameters, Entry(kind))


@overload
def recipe(function: Callable[P, Chain], /) -> Callable[P, Chain]: ...
@overload
def recipe(
    function: None = None, /, *, kind: Kind = "part", class_name: str = "", switches: str = ""
) -> Callable[[Callable[P, Chain]], Callable[P, Chain]]: ...
def recipe(
    function: Callable[P, Chain] | None = None, /, *, kind: Kind = "part", class_name: str = "", switches: str = ""
) -> Callable[P, Chain] | Callable[[Callable[P, Chain]], Callable[P, Chain]]:
    """A short chain with the paper's defaults: its arguments are checked under the recipe's own name and words.

    The values are the function's annotated arguments, by position in the declared order or by name. The library's own recipes
    declare where the catalogue lists them (``kind``), the name of their class in both front ends, and which of torch's
    ``switches`` this class takes there.
    """
    entry = Entry(kind, class_name, tuple(switches.split()))
    return functools.partial(_checked, entry=entry) if function is None else _checked(function, entry)


def _checked(function: Callable[P, Chain], entry: Entry) -> Callable[P, Chain]:
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

    checked.entry = entry  # type: ignore[attr-defined]  # read by entry_of
    return checked
