"""Surfaces of two variables that one can look at: a loop that walks down them, and their picture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from shown import COLOURS

import steepest.numpy as opt


def walk(chain: Any, gradient: Callable[[np.ndarray], np.ndarray], start: Any, steps: int) -> np.ndarray:
    """The points on the way, the start included."""
    point = np.array(start, dtype=float)
    optimizer = opt.Optimizer([point], chain, engine="arrays")
    path = [point.copy()]
    with np.errstate(all="ignore"):
        for _ in range(steps):
            optimizer.step([gradient(point)])
            path.append(point.copy())
    return np.array(path)


def contours(ax: Any, function: Callable[[np.ndarray], Any], x: tuple[float, float], y: tuple[float, float]) -> None:
    """Lines of equal height, dense where the surface is low."""
    grid = np.meshgrid(np.linspace(*x, 81), np.linspace(*y, 61))
    height = function(np.array(grid))
    low, high = height.min(), height.max()
    levels = low + (high - low) * np.linspace(0, 1, 13)[1:] ** 2
    ax.contour(*grid, height, levels=levels, colors="#888888", linestyles="solid", linewidths=0.6, alpha=0.6)
    ax.grid(visible=False)
    ax.set_xlim(*x)
    ax.set_ylim(*y)


def draw(ax: Any, path: np.ndarray, label: str = "", colour: str = COLOURS[0]) -> None:
    """A path with its points; what leaves the picture is cut off."""
    ax.plot(*path.T, "o-", color=colour, markersize=3, linewidth=1, label=label)
    ax.plot(*path[0], "o", color=colour, markersize=6)
