"""Tracing: a chain is run once on symbols, and what it computes is written down as one graph.

The result names every buffer that is stored, every number the host must supply, every value to be measured, and every
condition that must hold before anything may be stored. A chain that makes no sense is refused here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from steepest.language.chain import MEASURABLE, Chain, Link, Start
from steepest.language.expression import Expr, Graph, Rate
from steepest.language.identity import as_key, numbers_of

__all__ = ["Guard", "Measure", "Trace", "check_order", "require", "structure_of", "trace"]


@dataclass(frozen=True, slots=True)
class Guard:
    """A condition that is known once per model and must hold before the first store; else ``otherwise`` happens."""

    condition: Expr
    otherwise: str
    message: str


@dataclass(frozen=True, slots=True)
class Measure:
    """A value to be read after the step, on the steps where ``condition`` holds."""

    name: str
    value: Expr
    condition: Expr


@dataclass(frozen=True, slots=True)
class Trace:
    """What a chain computes.

    Attributes
    ----------
    graph : all values, in order.
    stores : buffer name (``param`` or a state) -> its new value.
    host_stores : host state name -> its new value, known once per step.
    inputs : symbol -> (position of the link, name of its hyperparameter).
    starts : state name -> (what it holds at first, position of its link).
    measures, guards : see their classes.
    """

    chain: Chain
    graph: Graph
    stores: dict[str, Expr]
    host_stores: dict[str, Expr]
    inputs: dict[str, tuple[int, str]]
    starts: dict[str, tuple[Start, int]]
    measures: tuple[Measure, ...]
    guards: tuple[Guard, ...]


@dataclass
class _State:
    """What a rule sees as ``state``: its own names, mapped to the chain's distinct ones."""

    _link: Link
    _names: dict[str, str]
    _scope: dict[str, Any]
    _graph: Graph
    _ready: bool = field(default=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_ready", True)

    def __getattr__(self, name: str) -> Any:
        return self._scope[self._known(name)]

    def __setattr__(self, name: str, value: Any) -> None:
        if not self.__dict__.get("_ready"):
            object.__setattr__(self, name, value)
            return
        full_name = self._known(name)
        if self._link.function is None:
            raise TypeError(f"measure: state.{name} can't be assigned. A measurement only reads states.")
        value = self._graph.lift(value)
        on_host = dict(self._link.state)[name].on_host
        if on_host and value.rate != Rate.STEP:
            raise TypeError(
                f"{self._link.name}: state {name} is a scalar on the host, but its new value is known once per "
                f"{value.rate.word}. Declare it with zeros to hold one value per element."
            )
        self._scope[full_name] = value

    def _known(self, name: str) -> str:
        names = self.__dict__.get("_names", {})
        if name not in names:
            link: Link = self.__dict__["_link"]
            known = "Declared in @rule(…)" if link.function else "The rules before it have"
            raise AttributeError(f"{link.name}: state has no {name!r}. {known}: {', '.join(names) or 'none'}.")
        return str(names[name])


def require(condition: Any, otherwise: str, message: str) -> None:
    """Let the whole step depend on a condition that is known once per model.

    ``otherwise="skip"``: where it fails the step changes nothing at all; ``"error"``: it raises FloatingPointError with
    the message, before anything is changed. No store of any group happens before the condition is known. Run eagerly
    (on numbers) a condition that fails raises in both cases.
    """
    if otherwise not in ("skip", "error"):
        raise ValueError(f"require: otherwise must be one of 'skip', 'error', got {otherwise!r}.")
    if not isinstance(condition, Expr):
        if not condition:
            raise FloatingPointError(message)
        return
    if condition.rate > Rate.MODEL:
        raise TypeError(
            f"require: the condition must have one value per model, got one per {condition.rate.word}. "
            f"Reduce it: sum(where(condition, 0.0, 1.0), per='model') == 0."
        )
    condition.graph.guards.append(Guard(condition, otherwise, message))


def structure_of(chain: Chain) -> tuple[Any, ...]:
    """What decides which operations a chain has; two chains with equal structure share a plan, whatever their numbers."""
    return tuple(
        (
            link.name,
            link.function,
            link.reads,
            link.state,
            tuple((name, as_key(value)) for name, value in link.structure),
            link.measures,
            tuple(n for n, _ in link.values),
            link.number,
        )
        for link in chain
    )


def trace(chain: Chain, absent: bool = False, apart: bool = False) -> Trace:
    """Run every rule of a chain once on symbols.

    Rules that follow the weights count the optimizer's steps, ``steps``; all others the parameter's own, ``step``. With
    ``absent`` the trace is that of a parameter without a gradient: only the rules that follow the weights run. With ``apart`` a
    sum over the model is never one value for two links.
    """
    graph = Graph(apart)
    scope: dict[str, Expr] = {"param": graph.load("param"), "grad": graph.load("grad"), "step": graph.input("step")}
    scope["update"] = scope["update_before"] = scope["grad"]
    scope["param_before"] = scope["param"]
    inputs: dict[str, tuple[int, str]] = {}
    starts: dict[str, tuple[Start, int]] = {}
    measures: list[Measure] = []
    for position, (link, asking) in enumerate(zip(chain, numbers_of(chain), strict=True)):
        graph.asking = asking
        names: dict[str, str] = {}
        for name, start in link.state:
            # A number on the host is known by its name alone, so it may not have a hyperparameter's.
            names[name] = _distinct(name, {**starts, **inputs} if start.on_host else starts)
            starts[names[name]] = (start, position)
            scope[names[name]] = graph.input(names[name]) if start.on_host else graph.load(names[name])
        hyper: dict[str, Any] = dict(link.structure)
        for name, _ in link.values:
            symbol = _distinct(name, {**inputs, "step": 0, "steps": 0, **starts})
            inputs[symbol] = (position, name)
            hyper[name] = graph.input(symbol)
        if absent and not link.follows:
            continue
        if link.function is None:
            names = {name: name for name in starts}
        offered = {n: scope[n] for n in MEASURABLE if n != "state"}
        if link.follows:
            offered["step"] = graph.input("steps")
        offered["state"] = _State(link, names, scope, graph)  # type: ignore[assignment]  # stands in for its values
        try:
            if link.function is None:
                measures += _measures(link, offered, hyper["every"])
            else:
                scope["update_before"] = scope["update"]
                scope[link.reads[0]] = _result(link, link.function(*(offered[n] for n in link.reads), **hyper), graph)
        except Exception as error:
            error.add_note(f"in rule {link.name!r} of the chain {chain.brief}")
            raise
    stores = {n: scope[n] for n in ("param", *starts) if n == "param" or not starts[n][0].on_host}
    host_stores = {n: scope[n] for n, (start, _) in starts.items() if start.on_host}
    return Trace(chain, graph, stores, host_stores, inputs, starts, tuple(measures), tuple(graph.guards))


def _distinct(name: str, taken: Any) -> str:
    number, candidate = 1, name
    while candidate in taken:
        number += 1
        candidate = f"{name}_{number}"
    return candidate


def _result(link: Link, value: Any, graph: Graph) -> Expr:
    try:
        return graph.lift(value)
    except TypeError:
        raise TypeError(
            f"{link.name}: a rule must return the new value of its first argument, {link.reads[0]!r}, got {_kind(value)}."
        ) from None


def _kind(value: Any) -> str:
    return "None" if value is None else "its state" if isinstance(value, _State) else f"a {type(value).__name__}"


def _measures(link: Link, offered: dict[str, Any], every: Expr | int) -> list[Measure]:
    made = []
    graph: Graph = offered["step"].graph
    # The optimizer's steps, not the tensor's own: all tensors are measured at the same ones.
    recorded = graph.const(1.0) if every == 1 and isinstance(every, int) else graph.input("steps") % every == 0
    for name, function in link.measures:
        value = _call(function, offered)
        try:
            value = graph.lift(value)
        except TypeError:
            raise TypeError(f"measure: {name} must return one value, got {_kind(value)}.") from None
        if value.rate > Rate.TENSOR:
            raise TypeError(
                f"measure: {name} must have one value per step, model or tensor, got one per {value.rate.word}. "
                f"Reduce it: norm(…, per='tensor')."
            )
        made.append(Measure(name, value, recorded))
    return made


def _call(function: Callable[..., Any], offered: dict[str, Any]) -> Any:
    return function(**{n: offered[n] for n in inspect.signature(function).parameters})


def check_order(chain: Chain) -> None:
    """Raise for a chain whose order makes no sense, with the reason and the fix."""
    applied: Link | None = None
    moved: Link | None = None
    for number, link in enumerate(chain, 1):
        applies = link.changes == "param" and "update" in link.reads
        if link.changes == "update" or applies:
            if applied is not None:
                again = applies or any(one.changes == "param" and "update" in one.reads for one in chain.links[number:])
                does = "applies" if applies else "changes"
                fix = (
                    "A chain applies its update once: remove one of them."
                    if again
                    else f"Move {link.written} before {applied.written}."
                )
                raise ValueError(
                    f"chain: {link.written} {does} the update, but {applied.written} before it has already applied it. {fix}"
                )
            if moved is not None:
                raise ValueError(
                    f"chain: {moved.written} must come last, but {link.written} follows it. "
                    f"Move {moved.written} to the end of the chain."
                )
        if applies:
            applied = link
        elif link.changes == "param":
            moved = link
    if applied is None:
        what = (
            f"the chain {chain.brief} computes an update but never applies it" if len(chain) else "the chain is empty"
        )
        raise ValueError(f"chain: {what}. End it with descend(lr), or use a recipe such as sgd(lr) or adamw(lr).")
