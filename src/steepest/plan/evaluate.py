"""What all engines on arrays share: in which type an operation computes, and over which elements a reduction goes. Pure.

The tables `OPERATIONS` and `REDUCTIONS` define the functions themselves.
"""

from __future__ import annotations

from typing import Any

from steepest.language.expression import Expr, Rate
from steepest.language.operations import REDUCTIONS

__all__ = ["narrows", "reduced"]


def narrows(node: Expr) -> bool:
    """Whether slower values take the tensor's type in this operation: where they meet elements that are not ``wide``."""
    return node.rate == Rate.ELEMENT and node.kind != "wide" and not any(a.kind == "wide" for a in node.args)


def reduced(node: Expr, value: Any, empty: Any, xp: Any) -> Any:
    """Reduce the values of a tensor to one, or to one for each unit, whose dimension stays.

    ``value`` has the tensor's shape. ``empty(shape, number)`` makes the result of a tensor without elements.
    """
    row, dims = REDUCTIONS[node.op], range(value.ndim)
    units = node.rate == Rate.UNIT and value.ndim > 1
    axes = tuple(d for d in dims if d != node.value % value.ndim) if units else ()
    if 0 in value.shape:
        return empty(tuple(1 if d in axes else n for d, n in enumerate(value.shape)) if units else (), row.start)
    return row.array(xp, value, axis=axes, keepdims=True) if units else row.array(xp, value)
