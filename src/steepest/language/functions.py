"""The functions a rule is written with: ``sqrt``, ``where``, ``norm`` ….

Each accepts traced values and, run eagerly, NumPy arrays or numbers: ``rule.function(g, state, …)`` on float64 arrays is
then an oracle that knows nothing of tracer, planner and engines, and a breakpoint inside a rule shows numbers.
Composite functions are written over the operations here, once, so that engines cannot disagree on them.
"""

from __future__ import annotations

import math
from typing import Any, Literal, TypeAlias

import numpy as np

from steepest.language.expression import Expr, Rate
from steepest.language.operations import OPERATIONS, REDUCTIONS

__all__ = [
    "abs", "as_stored", "cos", "count", "exp", "floor", "isfinite", "log", "max", "maximum", "mean", "minimum", "norm", "rms",
    "sign", "sqrt", "sum", "where", "wide",
]  # fmt: skip

Per: TypeAlias = Literal["model", "tensor", "unit"]


def apply(op: str, *args: Any) -> Any:
    """The operation of a row of `OPERATIONS`, on traced values, arrays or numbers."""
    for value in args:
        if isinstance(value, Expr):
            return value.graph.add(op, *args)
    return OPERATIONS[op].array(np, *args)


def sqrt(x: Any) -> Any:
    """The square root; nan below zero."""
    return apply("sqrt", x)


def exp(x: Any) -> Any:
    """The exponential function."""
    return apply("exp", x)


def log(x: Any) -> Any:
    """The natural logarithm; -inf at zero, nan below."""
    return apply("log", x)


def cos(x: Any) -> Any:
    """The cosine of an angle in radians."""
    return apply("cos", x)


def floor(x: Any) -> Any:
    """The largest whole number not above x."""
    return apply("floor", x)


def abs(x: Any) -> Any:
    """The absolute value."""
    return apply("abs", x)


def isfinite(x: Any) -> Any:
    """Whether x is neither infinite nor nan."""
    return apply("isfinite", x)


def where(condition: Any, a: Any, b: Any) -> Any:
    """``a`` where the condition holds, ``b`` elsewhere.

    Unlike a multiplication by a mask it lets no nan or infinity of the other side through. On a condition that is known
    once per step it is not even computed in the loop: the planner makes one program per outcome.
    """
    return apply("where", condition, a, b)


def minimum(a: Any, b: Any) -> Any:
    """The smaller of two values; nan if either is nan; ``b`` if they are equal."""
    return apply("minimum", a, b)


def maximum(a: Any, b: Any) -> Any:
    """The larger of two values; nan if either is nan; ``b`` if they are equal."""
    return apply("maximum", a, b)


def wide(x: Any) -> Any:
    """x in float64, whatever the tensor's own type."""
    return apply("wide", x)


def as_stored(x: Any) -> Any:
    """An element value as the parameter's memory holds it: rounded, where the parameter has 16 bits and is computed with in 32.

    So a measurement sees what a step leaves: ``norm(as_stored(param) - param_before, per="tensor")``.
    """
    return apply("as_stored", x)


def sign(x: Any) -> Any:
    """1, -1, or x itself where it is 0 or nan."""
    return where(x > 0, 1.0, where(x < 0, -1.0, x))


def _check_units(what: str, per: Per, axis: int | None) -> None:
    if per not in ("model", "tensor", "unit"):
        raise ValueError(f"{what}: per must be one of 'model', 'tensor', 'unit', got {per!r}.")
    if axis is not None and per != "unit":
        raise ValueError(
            f"{what}: axis must be None unless per is 'unit', got {axis!r}. It is the dimension that numbers the units."
        )


def reduce(op: str, x: Any, per: Per, axis: int | None) -> Any:
    """The reduction of a row of `REDUCTIONS`, of a traced value or an array."""
    _check_units(op, per, axis)
    if isinstance(x, Expr):
        return x.graph.reduce(op, x, Rate[per.upper()], axis)
    row, x = REDUCTIONS[op], np.asarray(x, dtype=np.float64)
    if per != "unit" or x.ndim <= 1:
        return row.array(np, x) if x.size else np.float64(row.start)
    return row.array(np, x, axis=tuple(d for d in range(x.ndim) if d != (axis or 0) % x.ndim), keepdims=True)


def sum(x: Any, per: Per, axis: int | None = None) -> Any:
    """The sum over all elements of a unit, a tensor or the model, accumulated in float64.

    A unit is one slice along dimension ``axis`` (0, PyTorch's layout, unless named); the whole tensor when it has at
    most one dimension.
    """
    return reduce("sum", x, per, axis)


def max(x: Any, per: Per, axis: int | None = None) -> Any:
    """The largest element of a unit, a tensor or the model; nan if any is nan; -inf if there is none."""
    return reduce("max", x, per, axis)


def norm(x: Any, per: Per, order: float = 2, axis: int | None = None) -> Any:
    """The p-norm, ``(sum |x|^order)^(1/order)``, computed in float64; ``order`` may be ``math.inf``."""
    if not order > 0:
        raise ValueError(f"norm: order must be > 0, got {order!r}.")
    if order == math.inf:
        return maximum(max(abs(x), per, axis), 0.0)
    if order == 1:
        return sum(wide(abs(x)), per, axis)
    if order == 2:
        return sqrt(sum(wide(x) ** 2, per, axis))
    return sum(wide(abs(x)) ** order, per, axis) ** (1 / order)


def count(x: Any, per: Per, axis: int | None = None) -> Any:
    """How many elements a unit, a tensor or the model has."""
    _check_units("count", per, axis)
    if isinstance(x, Expr):
        return x.graph.reduce("sum", 1.0, Rate[per.upper()], axis)
    return sum(np.ones_like(x), per, axis)


def mean(x: Any, per: Per, axis: int | None = None) -> Any:
    """The mean over a unit, a tensor or the model."""
    return sum(wide(x), per, axis) / count(x, per, axis)


def rms(x: Any, per: Per, axis: int | None = None) -> Any:
    """The root of the mean square."""
    return sqrt(mean(wide(x) ** 2, per, axis))
