"""Which learning rate: where the grid of a chain starts, how it widens, and whether there is anything to search.

The grid has factors of sqrt(10). It starts around the family's usual rate on this workload and widens while its edge wins.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable

import steepest
from steepest.workbench.parse import is_file, load_recipe, split_list

__all__ = ["centre", "depends_on_rate", "search_rate"]

_CENTRES = {
    "sgd(momentum": 0.03, "sgd": 0.3, "adagrad": 0.03, "rmsprop": 1e-3, "adadelta": 1.0, "adamax": 1e-2, "nadam": 3e-3,
    "radam": 3e-3, "adamw": 3e-3, "adam": 3e-3, "lion": 3e-4, "lamb": 1e-2, "lars": 3.0,
}  # fmt: skip
_GRID = (-2, -1, 0, 1, 2)
_WIDEST = 8


def centre(name: str) -> float:
    """The learning rate from which the grid starts: the family's usual one on this workload, or a recipe's own default."""
    for link in filter(is_file, split_list(name, "|")):
        path, _, recipe = link.rpartition(":")
        lr = inspect.signature(load_recipe(path, recipe)).parameters.get("lr")
        if lr is not None and isinstance(lr.default, (int, float)):
            return float(lr.default)
    squeezed = name.replace(" ", "")
    found = [(squeezed.find(key), -len(key), rate) for key, rate in _CENTRES.items() if key in squeezed]
    return min(found)[2] if found else 1e-3


def search_rate(loss_at: Callable[[float], float], middle: float) -> tuple[float, dict[float, float], bool]:
    """The best rate of a grid of factors of sqrt(10) that widens while its edge wins; and whether it still is at an edge.

    Where every rate fails (an infinite loss), the grid widens downwards.

    >>> best, tried, at_edge = search_rate(lambda rate: abs(math.log10(rate / 100.0)), 1.0)
    >>> round(best), at_edge
    (100, False)
    """
    tried = {i: loss_at(middle * 10 ** (i / 2)) for i in _GRID}
    while True:
        best = min(tried, key=lambda i: (tried[i], abs(i)))
        low, high = min(tried), max(tried)
        if math.isinf(tried[best]):
            best = low
        if best not in (low, high):
            at_edge = False
            break
        beyond = low - 1 if best == low else high + 1
        if abs(beyond) > _WIDEST:
            at_edge = True
            break
        tried[beyond] = loss_at(middle * 10 ** (beyond / 2))
    rates = {middle * 10 ** (i / 2): loss for i, loss in sorted(tried.items())}
    return middle * 10 ** (best / 2), rates, at_edge


def depends_on_rate(made: Callable[[float], steepest.Chain], lr: float, steps: int) -> bool:
    """Whether another learning rate makes another chain: ``adam(lr=0.01)`` says its own."""

    def numbers(chain: steepest.Chain) -> list[object]:
        moments = sorted({0, 1, steps // 2, steps - 1})
        return [
            (link.name, link.structure, key, [value(t) for t in moments] if callable(value) else value)
            for link in chain
            for key, value in link.values
        ]

    try:
        return numbers(made(lr)) != numbers(made(2 * lr))
    except ValueError:  # refused for one of them: it plays a part
        return True
