"""The largest eigenvalue of a symmetric matrix that is known only by its products with vectors.

The locally optimal conjugate gradient method (Knyazev 2001, LOBPCG with one vector): each iteration takes the best vector of the
plane through the last one, its residual and the last direction. It needs one product per iteration like power iteration, about
its square root in number, finds the largest eigenvalue and not the one of largest size, and keeps six vectors, where Lanczos'
method with its reorthogonalisation keeps two for each iteration.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

__all__ = ["Found", "largest_eigenvalue"]


@dataclass(frozen=True, slots=True)
class Found:
    """``residual`` is ``|A x - value x|``: there is an eigenvalue at least so near. ``products`` were needed."""

    value: float
    vector: torch.Tensor
    residual: float
    products: int


def largest_eigenvalue(
    product: Callable[[torch.Tensor], torch.Tensor], start: torch.Tensor, tolerance: float, most: int
) -> Found:
    """Iterate from ``start`` until the residual is at most ``tolerance`` times the eigenvalue, or for ``most`` products.

    The error of the eigenvalue is at most the residual, and about its square over the distance to the next one.
    """
    basis: list[tuple[torch.Tensor, torch.Tensor]] = []
    x = start / torch.linalg.vector_norm(start)
    ax = product(x)
    value, residual, used = _dot(x, ax), 0.0, 1
    direction: tuple[torch.Tensor, torch.Tensor] | None = None
    while True:
        r = ax - value * x
        residual = float(torch.linalg.vector_norm(r))
        if not residual > tolerance * abs(value) or used >= most:
            return Found(value, x, residual, used)
        r = r / residual
        r = r - _dot(x, r) * x
        r = r / torch.linalg.vector_norm(r)
        basis = [(x, ax), (r, product(r))]
        used += 1
        if direction is not None:
            basis += _orthonormal(direction, basis)
        a = np.array([[_dot(u, av) for _, av in basis] for u, _ in basis])
        _, vectors = np.linalg.eigh((a + a.T) / 2)
        weights = vectors[:, -1]
        direction = _combined(weights[1:], basis[1:])
        x, ax = _combined(weights, basis)
        length = torch.linalg.vector_norm(x)
        x, ax = x / length, ax / length
        value = _dot(x, ax)


def _orthonormal(
    direction: tuple[torch.Tensor, torch.Tensor], basis: list[tuple[torch.Tensor, torch.Tensor]]
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The part of the direction that is new, if there is one; what it becomes under the matrix follows without a product."""
    d, ad = direction
    before = float(torch.linalg.vector_norm(d))
    for _ in range(2):  # the second time removes what rounding has left
        for u, au in basis:
            along = _dot(u, d)
            d, ad = d - along * u, ad - along * au
    length = float(torch.linalg.vector_norm(d))
    return [(d / length, ad / length)] if length > 1e-4 * before else []


def _combined(weights: Any, basis: list[tuple[torch.Tensor, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
    pairs = [(float(w), u, au) for w, (u, au) in zip(weights, basis, strict=True)]
    x, ax = pairs[0][0] * pairs[0][1], pairs[0][0] * pairs[0][2]
    for w, u, au in pairs[1:]:
        x, ax = x + w * u, ax + w * au
    return x, ax


def _dot(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.dot(a, b))
