"""The few operations that schedule formulas are made of, once for Python numbers and once for NumPy arrays.

A formula is a function of ``t`` and of a namespace, and never branches on ``t``. So one definition gives a float for
an int (in about a microsecond, as it runs at every step), an array for an array, and a traced value for any library
that supplies these eight operations. Cosine, exponential and power of arrays go through Python's ``math``, element by
element: NumPy's own differ in the last bit from one processor to the next, and a plot should show the very numbers
that training uses. Imports nothing of the package.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

__all__ = ["ARRAYS", "SCALARS", "Formula", "Namespace", "cosine_between", "line_between"]


@dataclass(frozen=True, slots=True)
class Namespace:
    """One library's version of the operations; ``+ - * / // %`` and comparisons are the values' own.

    ``count(bounds, t)`` is the number of entries of the increasing tuple ``bounds`` that are ``<= t``;
    ``take(table, index)`` is an entry of a tuple. ``power`` gives infinity where the result is too large.
    """

    where: Callable[[Any, Any, Any], Any]
    minimum: Callable[[Any, Any], Any]
    maximum: Callable[[Any, Any], Any]
    sqrt: Callable[[Any], Any]
    cos: Callable[[Any], Any]
    exp: Callable[[Any], Any]
    power: Callable[[Any, Any], Any]
    count: Callable[[tuple[int, ...], Any], Any]
    take: Callable[[tuple[float, ...], Any], Any]


Formula: TypeAlias = Callable[[Any, Namespace], Any]


def line_between(start: float, end: float, t: Any, steps: float) -> Any:
    """``start`` at 0, ``end`` at ``steps``, both exactly: two weights, each rounded once, instead of a difference."""
    return start * ((steps - t) / steps) + end * (t / steps)


def cosine_between(start: float, end: float, t: Any, steps: float, xp: Namespace) -> Any:
    """Half a cosine from ``start`` at 0 to ``end`` at ``steps``, both exactly."""
    weight = (1 + xp.cos(math.pi * t / steps)) / 2
    return start * weight + end * (1 - weight)


def _power(base: float, exponent: float) -> float:
    try:
        return float(base**exponent)
    except OverflowError:
        return math.inf


def _elementwise(function: Callable[..., float], arguments: int) -> Callable[..., Any]:
    apply = np.frompyfunc(function, arguments, 1)
    return lambda *values: np.asarray(apply(*values), dtype=np.float64)


SCALARS = Namespace(
    where=lambda condition, a, b: a if condition else b,
    minimum=min,
    maximum=max,
    sqrt=math.sqrt,
    cos=math.cos,
    exp=math.exp,
    power=_power,
    count=bisect.bisect_right,
    take=lambda table, index: table[index],
)

ARRAYS = Namespace(
    where=np.where,
    minimum=np.minimum,
    maximum=np.maximum,
    sqrt=np.sqrt,
    cos=_elementwise(math.cos, 1),
    exp=_elementwise(math.exp, 1),
    power=_elementwise(_power, 2),
    count=lambda bounds, t: np.searchsorted(np.asarray(bounds, dtype=np.int64), t, side="right"),
    take=lambda table, index: np.asarray(table)[index],
)
