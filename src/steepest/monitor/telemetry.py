"""Measurements put into a chain: what a monitor reads, as `measure` links that the planner fuses with the step.

Every measurement is a row of `_ROWS`: at which place of a chain it is taken, and a function of the values there. All are known
once per tensor, so nothing in the step waits for them, and all are sums over elements that a pass has loaded anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from steepest.checks import unknown_name
from steepest.language.chain import Chain, Link, copy_of_param, measure
from steepest.language.functions import as_stored, isfinite, maximum, mean, norm, sqrt, sum, where, wide
from steepest.language.rule import rule
from steepest.monitor.records import DERIVED, MEASUREMENTS

__all__ = ["ALL", "STANDARD", "available", "check_measurements", "check_names", "watched"]

STANDARD = (
    "grad_norm", "update_norm", "weight_norm", "update_ratio", "effective_lr", "clipped", "clipped_norm", "trust_ratio", "spike",
)  # fmt: skip
"""What a `Monitor` measures unless told otherwise."""
OURS = "monitor."
"""Stands in front of a measurement's name where the user measures something else under the same."""
ALL = tuple(name for name in MEASUREMENTS if name != "distance")
"""Everything that needs no memory of its own; ``"distance"`` keeps a copy of the first weights."""


@rule(first_weights=copy_of_param)
def _remember_first(param, state):  # type: ignore[no-untyped-def]  # a rule's body runs on symbols
    return param


def _nonfinite(grad: Any) -> Any:
    return sum(where(isfinite(grad), 0.0, 1.0), per="tensor")


def _changed(update: Any, grad: Any) -> Any:
    return mean(where(update == grad, 0.0, 1.0), per="tensor")


def _changed_last(update: Any, update_before: Any) -> Any:
    return mean(where(update == update_before, 0.0, 1.0), per="tensor")


def _gain(update: Any, update_before: Any) -> Any:
    return norm(update, per="tensor") / norm(update_before, per="tensor")


def _unmoved(param: Any, param_before: Any) -> Any:
    return mean(where(as_stored(param) == param_before, 1.0, 0.0), per="tensor")


def _cosine(param: Any, param_before: Any, grad: Any) -> Any:
    along = sum(wide(param_before - param) * grad, per="tensor")
    return along / (norm(param - param_before, per="tensor") * norm(grad, per="tensor"))


def _spike(second: str) -> Callable[..., Any]:
    return lambda grad, state: sqrt(mean(grad**2 / maximum(getattr(state, second), 1e-16), per="tensor"))


def _denominator(second: str) -> Callable[..., Any]:
    return lambda state: mean(sqrt(getattr(state, second)), per="tensor")


def _length(moment: str) -> Callable[..., Any]:
    return lambda state: norm(getattr(state, moment), per="tensor")


def _gap(name: str) -> Callable[..., Any]:
    return lambda param, state: norm(param - getattr(state, name), per="tensor")


@dataclass(frozen=True, slots=True)
class _Row:
    """Where a measurement is taken, its function, and, where it is one of a state, the states of which the first that there is
    is meant: ``function`` then makes the function from its name."""

    place: str
    function: Callable[..., Any]
    states: tuple[str, ...] = ()


_FIRST, _SECOND = ("exp_avg", "momentum_buffer"), ("exp_avg_sq", "square_avg")
_ROWS = {
    "grad_norm": _Row("start", lambda grad: norm(grad, per="tensor")),
    "zero_grads": _Row("start", lambda grad: mean(where(grad == 0, 1.0, 0.0), per="tensor")),
    "nonfinite_grads": _Row("start", _nonfinite),
    "clipped": _Row("clip", _changed),
    "clipped_norm": _Row("clip", lambda update: norm(update, per="tensor")),
    "trust_ratio": _Row("ratio", _gain),
    "weight_norm": _Row("end", lambda param_before: norm(param_before, per="tensor")),
    "update_norm": _Row("end", lambda param, param_before: norm(param - param_before, per="tensor")),
    "unmoved": _Row("end", _unmoved),
    "cosine": _Row("end", _cosine),
    "spike": _Row("end", _spike, _SECOND),
    "denominator": _Row("end", _denominator, (*_SECOND, "sum")),
    "momentum_norm": _Row("end", _length, _FIRST),
    "average_gap": _Row("end", _gap, ("average",)),
    "distance": _Row("end", _gap, ("first_weights",)),
}
_MISSING = {
    "clipped": "no chain has a clip",
    "clipped_norm": "no chain has a clip",
    "trust_ratio": "no chain has a layer-wise ratio (lamb, lars, scale_by_trust_ratio)",
    "spike": "no chain keeps a second moment",
    "denominator": "no chain keeps a second moment",
    "momentum_norm": "no chain keeps a first moment",
    "average_gap": "no chain keeps an average (ema)",
}


@cache
def _of_state(name: str, state: str) -> Callable[..., Any]:
    """The same function for the same state, so that chains of one structure share a plan."""
    made: Callable[..., Any] = _ROWS[name].function(state)
    return made


def watched(
    given: Chain, every: int = 10, measurements: Collection[str] = STANDARD, taken: Collection[str] = ()
) -> Chain:
    """A chain with measurements, taken at each step that ``every`` divides; what the chain does to parameters stays the same.

    Measurements that the chain has no place for are left out; names in ``taken``, which the user's own have, get `OURS` in front.

    >>> import steepest
    >>> from steepest.monitor.telemetry import watched
    >>> print(watched(steepest.sgd(0.1)))
    measure(grad_norm) > descend > measure(weight_norm, update_norm)
    """
    kept = "distance" in measurements
    links = [*given.links, *(_remember_first().links if kept else ())]
    clips = [i for i, link in enumerate(links) if _is_clip(link)]
    places = {"start": -1, "end": len(links) - 1, "clip": max(clips, default=None), "ratio": _ratio(links)}
    wanted = available(Chain(tuple(links)), measurements)
    after: dict[int, list[Link]] = {}

    def measured(**named: Callable[..., Any]) -> tuple[Link, ...]:
        return measure(every=every, **{OURS + n if n in taken else n: f for n, f in named.items()}).links

    for place, position in places.items():
        named = {name: _function(name, links) for name in wanted if _ROWS[name].place == place}
        if position is None or not named:
            continue
        if place == "clip" and clips != list(range(len(clips))) and "clipped" in named:
            # Not the first of the chain: compared with what this one rule was given, for the tensors that it applies to.
            named.pop("clipped")
            added = measured(clipped=_changed_last)
            after.setdefault(position, []).extend(replace(a, selectors=links[position].selectors) for a in added)
        if named:
            added = measured(**named)
            selectors = links[position].selectors if place == "ratio" else ()
            after.setdefault(position, []).extend(replace(a, selectors=selectors) for a in added)
    result = after.get(-1, [])
    for position, link in enumerate(links):
        result += [link, *after.get(position, ())]
    return Chain(tuple(result))


def _is_clip(link: Link) -> bool:
    """Rules are known by their names: a user's own ``clip_by_something`` is measured as ours are."""
    return "clip" in link.name and link.changes == "update"


def _ratio(links: list[Link]) -> int | None:
    found = [i for i, link in enumerate(links) if "ratio" in link.name and link.changes == "update"]
    return max(found, default=None)


def _states(links: Iterable[Link]) -> set[str]:
    return {name for link in links for name, start in link.state if not start.on_host}


def _function(name: str, links: list[Link]) -> Callable[..., Any]:
    row, states = _ROWS[name], _states(links)
    return _of_state(name, next(s for s in row.states if s in states)) if row.states else row.function


def available(given: Chain, measurements: Iterable[str]) -> list[str]:
    """Those of the measurements that are taken inside the step and that this chain has a place for, in the table's order."""
    wanted = {source for name in measurements for source in DERIVED.get(name, (name,))}
    links, states = list(given.links), _states(given.links)
    places = {"start", "end"} | ({"clip"} if any(map(_is_clip, links)) else set())
    places |= set() if _ratio(links) is None else {"ratio"}
    has = {"first_weights", *states}
    return [n for n, r in _ROWS.items() if n in wanted and r.place in places and (not r.states or has & {*r.states})]


def check_measurements(what: str, measurements: str | Collection[str]) -> None:
    """Raise ValueError for a measurement that there is not."""
    for name in (measurements,) if isinstance(measurements, str) else measurements:
        if name not in MEASUREMENTS:
            raise ValueError(unknown_name(what, "measurement", name, MEASUREMENTS))


def check_names(what: str, measurements: Collection[str], chains: Iterable[Chain]) -> None:
    """Raise ValueError for a measurement that there is not, or that no chain has a place for."""
    check_measurements(what, measurements)
    found = {name for one in chains for name in available(one, measurements)}
    for name in measurements:
        if not found.issuperset(DERIVED.get(name, (name,))):
            raise ValueError(f"{what}: measurements has {name!r}, but {_MISSING[name]}. Leave it out.")
