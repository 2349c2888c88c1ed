"""Quadratic functions, whose whole story is known: f(x) = ½ (x - x*)ᵀ H (x - x*), with eigenvalues from μ to L, κ = L/μ.

The workloads measure f(x) - f(x*), which starts at 1. Beside them stand the formulas that a measurement can be held against:
how fast gradient descent, heavy ball and Nesterov's method contract, and where noise in the gradients keeps them. Everything
in float64, so that 1e-16 is the floor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from steepest.workbench.workload import ArrayTask, Workload
from steepest.workbench.workloads.rates import RATES

__all__ = [
    "best_gradient_descent", "best_heavy_ball", "best_nesterov", "gradient_descent_rate", "heavy_ball_rate",
    "lookahead_rate", "lookahead_variance", "nesterov_rate", "quadratic", "quadratics", "quadratics_ill_conditioned",
    "quadratics_noisy", "stationary_variance",
]  # fmt: skip

Vector = NDArray[np.float64]


def quadratic(name: str, *, condition: float, steps: int, dimensions: int = 100, noise: float = 0.0) -> Workload:
    """A rotated quadratic with eigenvalues evenly spaced on a logarithmic scale from 1/``condition`` to 1.

    Every step's gradient has Gaussian noise of standard deviation ``noise`` in each coordinate. Function and minimum are the
    same for all seeds; a seed chooses the start, on the level f(x) - f(x*) = 1, and the noise.
    """
    rng = np.random.default_rng([0, dimensions])
    rotation = np.linalg.qr(rng.normal(size=(dimensions, dimensions)))[0]
    eigenvalues = np.geomspace(1 / condition, 1, dimensions)
    # Not by BLAS, whose bits depend on the number of threads: processes must agree on the function.
    hessian = np.einsum("ik,jk->ij", rotation * eigenvalues, rotation)
    minimum = rng.normal(size=dimensions)

    def value(x: Vector) -> float:
        return float(0.5 * (x - minimum) @ hessian @ (x - minimum))

    def start(seed: int) -> ArrayTask:
        away = np.random.default_rng(seed).normal(size=dimensions)
        x = minimum + away / np.sqrt(0.5 * away @ hessian @ away)

        def gradients(step: int) -> tuple[float, dict[str, Vector]]:
            disturbed = noise * np.random.default_rng([seed, 1, step]).normal(size=dimensions) if noise else 0.0
            return value(x), {"x": hessian @ (x - minimum) + disturbed}

        return ArrayTask({"x": x}, gradients, lambda part: {"gap": value(x)})

    exact = f"gradients with noise {noise}" if noise else "exact gradients"
    about = (
        f"{dimensions} dimensions, rotated, condition number {condition:,.0f}, {exact}; the gap to the minimum, from 1"
    )
    return Workload(name, start, steps, metric="gap", failed=1.0, about=about, source="generated")


quadratics = replace(
    quadratic("quadratics", condition=1e2, steps=300),
    target=1e-6,
    seconds=0.1,
    rates=RATES["quadratics"],
)
quadratics_ill_conditioned = replace(
    quadratic("quadratics-ill-conditioned", condition=1e4, steps=1000),
    target=1e-5,
    seconds=0.2,
    rates=RATES["quadratics-ill-conditioned"],
)
quadratics_noisy = replace(
    quadratic("quadratics-noisy", condition=1e2, steps=1000, noise=0.1),
    target=0.02,
    seconds=0.3,
    rates=RATES["quadratics-noisy"],
)


# ---- how fast: by which factor the distance to the minimum shrinks in a step, in the long run


def gradient_descent_rate(lr: float, eigenvalues: Sequence[float]) -> float:
    """Of x ← x - lr H (x - x*): the largest |1 - lr h|. It diverges from lr > 2/L on."""
    return max(abs(1 - lr * h) for h in eigenvalues)


def heavy_ball_rate(lr: float, momentum: float, eigenvalues: Sequence[float]) -> float:
    """Of v ← βv + g, x ← x - lr v: the largest root of z² - (1 + β - lr h) z + β. Stable for lr < 2(1 + β)/L."""
    return max(_largest_root(1 + momentum - lr * h, momentum) for h in eigenvalues)


def nesterov_rate(lr: float, momentum: float, eigenvalues: Sequence[float]) -> float:
    """Of v ← βv + g, x ← x - lr (g + βv): the largest root of z² - (1 + β)(1 - lr h) z + β(1 - lr h).

    Stable for lr < (2/L)(1 + β)/(1 + 2β).
    """
    return max(_largest_root((1 + momentum) * (1 - lr * h), momentum * (1 - lr * h)) for h in eigenvalues)


def _largest_root(minus_p: float, q: float) -> float:
    return float(max(abs(np.roots([1.0, -minus_p, q]))))


def best_gradient_descent(smallest: float, largest: float) -> tuple[float, float]:
    """Learning rate 2/(L + μ) and rate (κ - 1)/(κ + 1).

    >>> lr, rate = best_gradient_descent(0.01, 1.0)
    >>> round(rate, 6), round(gradient_descent_rate(lr, [0.01, 1.0]), 6)
    (0.980198, 0.980198)
    """
    condition = largest / smallest
    return 2 / (largest + smallest), (condition - 1) / (condition + 1)


def best_heavy_ball(smallest: float, largest: float) -> tuple[float, float, float]:
    """Learning rate 4/(√L + √μ)², momentum ((√κ - 1)/(√κ + 1))² and rate (√κ - 1)/(√κ + 1) (Polyak, 1964)."""
    root = (largest / smallest) ** 0.5
    rate = (root - 1) / (root + 1)
    return 4 / (largest**0.5 + smallest**0.5) ** 2, rate**2, rate


def best_nesterov(smallest: float, largest: float) -> tuple[float, float, float]:
    """Learning rate 4/(3L + μ), momentum (√(3κ + 1) - 2)/(√(3κ + 1) + 2), rate 1 - 2/√(3κ + 1).

    The best on quadratics (Lessard, Recht and Packard, 2016, Proposition 1).

    >>> lr, momentum, rate = best_nesterov(0.01, 1.0)
    >>> round(rate, 5), round(nesterov_rate(lr, momentum, [0.01, 1.0]), 5)
    (0.88472, 0.88472)
    """
    root = (3 * largest / smallest + 1) ** 0.5
    return 4 / (3 * largest + smallest), (root - 2) / (root + 2), 1 - 2 / root


def lookahead_rate(lr: float, k: int, alpha: float, eigenvalues: Sequence[float]) -> float:
    """Of Lookahead around gradient descent, per synchronisation (k steps): the largest |1 - α + α (1 - lr h)ᵏ|."""
    return max(abs(1 - alpha + alpha * (1 - lr * h) ** k) for h in eigenvalues)


# ---- where noise keeps them: the variance of a coordinate with curvature h and gradient noise of standard deviation σ


def stationary_variance(lr: float, curvature: float, noise: float, momentum: float = 0.0) -> float:
    """Of SGD with heavy-ball momentum: lr σ² (1 + β) / (h (1 - β) (2 (1 + β) - lr h)).

    Without momentum lr σ² / (h (2 - lr h)). Momentum leaves it nearly as it is at the same lr/(1 - β).

    >>> round(stationary_variance(0.1, 1.0, 1.0), 7), round(stationary_variance(0.1, 1.0, 1.0, momentum=0.9), 7)
    (0.0526316, 0.5135135)
    """
    stable = 2 * (1 + momentum) - lr * curvature
    return lr * noise**2 * (1 + momentum) / (curvature * (1 - momentum) * stable)


def lookahead_variance(lr: float, curvature: float, noise: float, k: int, alpha: float) -> float:
    """Of the slow weights of Lookahead around SGD (Zhang et al., 2019, Proposition 2), with r = 1 - lr h:

    V_SGD α²(1 - r²ᵏ) / (α²(1 - r²ᵏ) + 2α(1 - α)(1 - rᵏ)); less than V_SGD for every α < 1.
    """
    r = 1 - lr * curvature
    fast = alpha**2 * (1 - r ** (2 * k))
    return stationary_variance(lr, curvature, noise) * fast / (fast + 2 * alpha * (1 - alpha) * (1 - r**k))
