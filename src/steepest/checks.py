"""The ranges of hyperparameters, and the messages of failed checks.

Ranges are written once, as ``Annotated`` types: a rule or recipe that declares ``beta1: Decay`` gets its checks,
its error messages, its documentation and (later) its search space from that one word. Every message has the form
``{where}: {argument} must be {rule}, got {value}. {How to fix it.}`` and is raised before anything is changed.
Imports nothing of the package.
"""

from __future__ import annotations

import difflib
import functools
import math
import sys
import types
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

__all__ = ["Axis", "Count", "Decay", "Fraction", "NonNegative", "Order", "Positive", "Range", "Real", "Value"]

Value: TypeAlias = float | Callable[[int], float]
"""A hyperparameter: a number, or a schedule (a function of the number of steps taken so far)."""


@dataclass(frozen=True, slots=True)
class Range:
    """An interval of allowed numbers, printed as the rule in "lr must be >= 0".

    ``structure`` marks a number that decides which operations there are (the order of a norm, an axis): it is part of the
    plan, a rule's Python ``if`` may ask for it, it can't be a schedule, and it may be infinite.

    >>> str(Range(0)), str(Range(0, 1, high_included=False)), 1.0 in Range(0, 1, high_included=False)
    ('>= 0', 'in [0, 1)', False)
    """

    low: float = -math.inf
    high: float = math.inf
    low_included: bool = True
    high_included: bool = True
    whole: bool = False
    structure: bool = False
    cure: str = ""

    def __contains__(self, value: float) -> bool:
        try:
            value = float(value)
        except OverflowError:  # a whole number that no float64 holds
            return False
        above = value >= self.low if self.low_included else value > self.low
        below = value <= self.high if self.high_included else value < self.high
        if not -math.inf < value < math.inf:
            return bool(self.structure and not self.whole and value == math.inf and above and below)
        return bool(above and below and (not self.whole or value == int(value)))

    def __str__(self) -> str:
        return self._bounds() if self._bounds() and not self.whole else self.number

    @property
    def number(self) -> str:
        """The rule with the word for its numbers, for a value that is of another kind or isn't finite: "a number in [0, 1)"."""
        endless = not self.structure and math.inf in (-self.low, self.high)
        kind = "a whole number" if self.whole else "a finite number" if endless else "a number"
        return f"{kind} {self._bounds()}".rstrip()

    def rule(self, value: float) -> str:
        """The rule that a number breaks: "finite" is part of it only for nan and what is too large."""
        return str(self) if value in Range() else self.number

    def _bounds(self) -> str:
        if self.high < math.inf and self.low > -math.inf:
            left, right = "[" if self.low_included else "(", "]" if self.high_included else ")"
            return f"in {left}{_bound(self.low)}, {_bound(self.high)}{right}"
        if self.low > -math.inf:
            return f"{'>=' if self.low_included else '>'} {_bound(self.low)}"
        return f"{'<=' if self.high_included else '<'} {_bound(self.high)}" if self.high < math.inf else ""


Real = Annotated[Value, Range()]
NonNegative = Annotated[Value, Range(0)]
Positive = Annotated[Value, Range(0, low_included=False)]
Decay = Annotated[Value, Range(0, 1, high_included=False, cure="At 1.0 the average never forgets its initial value.")]
Fraction = Annotated[Value, Range(0, 1)]
Count = Annotated[Value, Range(1, whole=True)]
Order = Annotated[float, Range(0, low_included=False, structure=True)]
Axis = Annotated[int, Range(whole=True, structure=True)]


def check_number(what: str, argument: str, value: object, allowed: Range) -> None:
    """Raise unless ``value`` is a real number inside ``allowed``."""
    if isinstance(value, bool) or (not isinstance(value, (int, float)) and not _is_number(value)):
        schedule = "" if allowed.structure else " or a schedule"
        raise TypeError(f"{what}: {argument} must be {allowed.number}{schedule}, got {value!r}.")
    if value not in allowed:  # type: ignore[operator]  # narrowed above: it has __float__
        rule = allowed.rule(value)  # type: ignore[arg-type]  # as above
        raise ValueError(f"{what}: {argument} must be {rule}, got {_plain(value)}. {allowed.cure}".rstrip())


def check_value(what: str, argument: str, value: object, annotation: object) -> None:
    """Raise unless ``value`` fits a hyperparameter's annotation (a range, bool, a choice of strings, a tuple of them)."""
    if get_origin(annotation) is Annotated:
        allowed = range_of(annotation)
        if allowed is None:
            return
        if allowed.structure or not callable(value):
            check_number(what, argument, value, allowed)
        else:
            _check_schedule(what, argument, value, allowed)
        return
    arguments = get_args(annotation)
    if get_origin(annotation) in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return
        rest = [one for one in arguments if one is not type(None)]
        if len(rest) == 1:
            check_value(what, argument, value, rest[0])
        return
    if get_origin(annotation) is tuple:
        if not isinstance(value, (tuple, list)) or len(value) != len(arguments):
            raise TypeError(f"{what}: {argument} must be a tuple of {len(arguments)} numbers, got {value!r}.")
        for position, (one, kind) in enumerate(zip(value, arguments, strict=True)):
            check_value(what, f"{argument}[{position}]", one, kind)
        return
    if get_origin(annotation) is Literal:
        if value not in arguments:
            choices = ", ".join(map(repr, arguments))
            raise ValueError(f"{what}: {argument} must be one of {choices}, got {value!r}.")
        return
    if annotation is bool and not isinstance(value, bool):
        raise TypeError(f"{what}: {argument} must be True or False, got {value!r}.")


def _check_schedule(what: str, argument: str, value: object, allowed: Range) -> None:
    """Raise for a schedule that will leave ``allowed`` at its end or at a turning point; a plain function has none."""
    known = getattr(value, "turning_points", None)
    for step, number in known() if known else ():
        if number not in allowed:
            fix = allowed.cure or "Keep the whole schedule in this range."
            raise ValueError(
                f"{what}: {argument} must be {allowed.rule(number)}, got {value!r}, which gives {number!r} at step {step}. {fix}"
            )


def check_arguments(what: str, given: Mapping[str, object], function: Callable[..., Any]) -> None:
    """Check every given argument against the annotations of ``function``; arguments without a range pass."""
    hints = hints_of(function)
    for name, value in given.items():
        if name in hints:
            check_value(what, name, value, hints[name])


@functools.cache
def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of a function, with their ranges."""
    return get_type_hints(function, include_extras=True)


def range_of(annotation: object) -> Range | None:
    """The range that an annotation declares, if it declares one."""
    if get_origin(annotation) is Annotated:
        return next((extra for extra in get_args(annotation)[1:] if isinstance(extra, Range)), None)
    found = (
        [range_of(one) for one in get_args(annotation)] if get_origin(annotation) in (Union, types.UnionType) else []
    )
    return next((one for one in found if one is not None), None)


def warn(message: str) -> None:
    """Warn whoever called the library: the first caller that is neither in it nor in torch."""
    frame, level = sys._getframe(1), 2
    while frame.f_back and frame.f_back.f_globals.get("__name__", "").partition(".")[0] in ("steepest", "torch"):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, UserWarning, stacklevel=level + 1)


_SHOWN = 16


def printable(text: str, *, lines: bool = False) -> str:
    """A name or a message as one line (``lines``: as its lines) that a terminal only shows, whatever is in it.

    Characters that control a terminal, turn the direction of writing, or have no width are written as escapes.

    >>> print(printable("layer\\x1b]0;title\\x07\\n1.\\u202egewicht\\u200b 重み"))
    layer\\x1b]0;title\\x07 1.\\u202egewicht\\u200b 重み
    """
    if lines:
        return "\n".join(_visible(line) for line in text.split("\n"))
    return text if text.isascii() and text.isprintable() and "  " not in text else " ".join(map(_visible, text.split()))


def _visible(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(
        one.encode("unicode_escape").decode() if unicodedata.category(one) in _UNSEEN else one for one in text
    )


_UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode's categories of controls, formats (bidirectional, of no width), lone surrogates, and separators of lines."""


def unknown_name(what: str, kind: str, name: str, known: Iterable[str]) -> str:
    """The message for an unknown name: the nearest known name, then all known names, or similar ones if there are many.

    >>> unknown_name("steepest", "recipe", "adamm", ["adam", "lamb"])
    "steepest: unknown recipe 'adamm'. Did you mean 'adam'? Known: adam, lamb."
    """
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    if len(known) <= _SHOWN:
        return f"{what}: unknown {kind} {name!r}.{hint} Known: {', '.join(known)}."
    similar = difflib.get_close_matches(name, known, n=5, cutoff=0.4)
    if not near:
        hint = f" Similar names: {', '.join(similar)}." if similar else f" Examples: {', '.join(known[:5])}."
    return f"{what}: unknown {kind} {name!r}.{hint}" + (
        f" Run 'steepest list' to see all {len(known)}." if "recipe" in kind else ""
    )


def _is_number(value: object) -> bool:
    """NumPy scalars and 0-d arrays count as numbers; strings, arrays and traced values do not."""
    return getattr(value, "shape", None) == () and getattr(getattr(value, "dtype", None), "kind", "") in "iuf"


def _plain(value: object) -> str:
    """The value as a message shows it: NumPy's without its type, one of thousands of digits without them."""
    if isinstance(value, int) and abs(value) > sys.float_info.max:
        return "a whole number beyond float64"
    return repr(value.item()) if hasattr(value, "item") else repr(value)


def _bound(number: float) -> str:
    """As short as it can be without losing a digit."""
    if isinstance(number, int) or (number.is_integer() and abs(number) < 2**53):
        return str(int(number))
    return f"{number:g}" if float(f"{number:g}") == number else repr(number)
