"""What a schedule's arguments may be: the ranges as types, and the binding and checking of a call by its annotations.

A value is stored in one normal form (float, int, str, bool, None, a schedule, or a tuple of these), so that equal
schedules compare equal, hash equal, print alike and survive JSON. The ranges are those of ``steepest.checks``; only
the static types differ, since a schedule's own arguments are numbers and never functions of the step.
Imports ``steepest.checks``.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, TypeAlias, Union, cast, get_args, get_origin, get_type_hints

import numpy as np

from steepest.checks import (
    Count,
    Fraction,
    NonNegative,
    Positive,
    Range,
    check_number,
    check_value,
    range_of,
    unknown_name,
)

__all__ = [
    "LAST", "Amount", "Factor", "Share", "Shrink", "Steps", "StepsOrZero",
    "bind", "check_increasing", "check_size", "checked", "declared", "is_number", "refuse", "required",
]  # fmt: skip

Amount: TypeAlias = Annotated[float, range_of(NonNegative)]
Factor: TypeAlias = Annotated[float, range_of(Positive)]
Share: TypeAlias = Annotated[float, range_of(Fraction)]
Shrink: TypeAlias = Annotated[float, Range(0, 1, low_included=False)]
Steps: TypeAlias = Annotated[int, range_of(Count)]
StepsOrZero: TypeAlias = Annotated[int, Range(0, whole=True)]

LAST = 2**53
"""The largest step and the largest count: up to here every whole number is a float, and every formula is exact."""

_ONLY_NUMBERS = "A plain function can't be printed, compared or saved: use it alone, as the hyperparameter itself."


def bind(function: Callable[..., Any], args: tuple[object, ...], kwargs: Mapping[str, object]) -> dict[str, object]:
    """The arguments of a call, all of them, checked, in normal form and in declared order."""
    what, parameters, hints = declared(function)
    for name in kwargs:
        if name not in parameters:
            raise TypeError(unknown_name(what, "argument", name, parameters))
    if len(args) > len(parameters):
        raise TypeError(
            f"{what}: got {len(args)} positional arguments, but its arguments are: {', '.join(parameters)}."
        )
    given = dict(zip(parameters, args, strict=False))
    for name, value in kwargs.items():
        if name in given:
            raise TypeError(f"{what}: {name} is given twice, as {given[name]!r} by position and as {value!r} by name.")
        given[name] = value
    for name, parameter in parameters.items():
        if name not in given and parameter.default is parameter.empty:
            raise TypeError(f"{what}: {name} is missing. Required: {', '.join(required(parameters.values()))}.")
    return {
        name: checked(what, name, given.get(name, parameter.default), hints[name])
        for name, parameter in parameters.items()
    }


def declared(function: Callable[..., Any]) -> tuple[str, dict[str, inspect.Parameter], dict[str, Any]]:
    """Name, parameters and annotations of a function or dataclass (its initial fields)."""
    parameters = dict(inspect.signature(function).parameters)
    return function.__name__, parameters, get_type_hints(function, include_extras=True)


def required(parameters: Iterable[inspect.Parameter]) -> list[str]:
    """The names of the parameters without a default."""
    return [parameter.name for parameter in parameters if parameter.default is parameter.empty]


def checked(what: str, argument: str, value: object, annotation: object) -> object:
    """Return ``value`` in normal form; raise if it doesn't fit the annotation."""
    if get_origin(annotation) is Sequence:
        return _tuple(what, argument, value, get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return _alternative(what, argument, value, get_args(annotation))
    allowed = range_of(annotation)
    if allowed is not None:
        return _number(what, argument, value, allowed)
    check_value(what, argument, value, annotation)
    return value


def _number(what: str, argument: str, value: object, allowed: Range) -> float:
    if not is_number(value):
        raise TypeError(f"{what}: {argument} must be {allowed.number}, got {value!r}. {_reason(value)}".rstrip())
    if isinstance(value, int) and abs(value) > LAST:
        raise refuse(what, argument, value, "at most 2**53 in size", "Larger floats skip whole numbers.")
    check_number(what, argument, value, allowed)
    number = float(value)  # type: ignore[arg-type]  # is_number: it has __float__
    if allowed.whole and number > LAST:
        raise refuse(what, argument, value, "at most 2**53 in size", "Larger floats skip whole numbers.")
    return int(number) if allowed.whole else number + 0.0  # -0.0 + 0.0 is 0.0: equal values print alike


def _tuple(what: str, argument: str, value: object, annotation: object) -> tuple[object, ...]:
    if isinstance(value, np.ndarray) and value.ndim == 1:
        value = value.tolist()
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        raise TypeError(f"{what}: {argument} must be a list or a tuple, got {value!r}.")
    return tuple(checked(what, f"{argument}[{place}]", one, annotation) for place, one in enumerate(value))


def _alternative(what: str, argument: str, value: object, annotations: tuple[Any, ...]) -> object:
    """One of None, an instance of a class, or a number in a range."""
    classes = tuple(one for one in annotations if isinstance(one, type))
    if isinstance(value, classes):
        return value
    rest = next(one for one in annotations if not isinstance(one, type))
    if not is_number(value):
        names = " or ".join("None" if one is types.NoneType else f"a {one.__name__}" for one in classes)
        number = cast(Range, range_of(rest)).number
        raise TypeError(f"{what}: {argument} must be {names} or {number}, got {value!r}. {_reason(value)}".rstrip())
    return checked(what, argument, value, rest)


def is_number(value: object) -> bool:
    """Whether a value is a Python or NumPy number; True and False are none."""
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def _reason(value: object) -> str:
    return getattr(value, "why_alone", _ONLY_NUMBERS) if callable(value) else ""


def refuse(what: str, argument: str, value: object, rule: str, reason: str) -> ValueError:
    """The error for a value that doesn't fit the other arguments."""
    return ValueError(f"{what}: {argument} must be {rule}, got {value!r}. {reason}")


def check_size(what: str, argument: str, size: int, allowed: int, reason: str) -> None:
    """Raise unless a sequence has as many entries as another argument asks for."""
    if size != allowed:
        raise refuse(what, f"len({argument})", size, str(allowed), reason)


def check_increasing(what: str, boundaries: Sequence[int]) -> None:
    """Raise unless every boundary is larger than the one before it."""
    for place in range(1, len(boundaries)):
        if boundaries[place] <= boundaries[place - 1]:
            rule = f"> {boundaries[place - 1]}"
            raise refuse(what, f"boundaries[{place}]", boundaries[place], rule, "Boundaries must increase strictly.")
