"""What is known exactly of gradient descent: rates and limits on quadratics, variance under noise, clipping.

Independent runs lie side by side in one array: to an optimizer that works by element they are so many separate weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

import steepest
import steepest.numpy as opt
from steepest.workbench.reproduce.claim import Claim, Figures, Paper, above, below, known, near

__all__ = ["CLAIMS", "weights_over"]

Array = NDArray[np.float64]
Make = Callable[..., steepest.Chain]

CONDITION_NUMBER = 100.0
CURVATURES = np.linspace(1.0, CONDITION_NUMBER, 200)
LARGEST, SMALLEST = CONDITION_NUMBER, 1.0
WINDOW = 1000
"""Steps over which a rate is measured, after as many that are left out."""


def weights_over(
    chain: steepest.Chain, gradient: Callable[[Array, int], Array], start: Array, steps: int, low: float = -math.inf
) -> Array:
    """The weights before the first step and after each one. With ``low`` they are put back into [low, -low] each time."""
    w = start.copy()
    optimizer = opt.Optimizer([w], chain)
    path = np.empty((steps + 1, *w.shape))
    path[0] = w
    for t in range(steps):
        optimizer.step([gradient(w, t)])
        if low > -math.inf:
            np.clip(w, low, -low, out=w)
        path[t + 1] = w
    return path


def rate(chain: steepest.Chain) -> float:
    """By what the distance to the minimum is multiplied at each step, in the long run."""
    with np.errstate(over="ignore", invalid="ignore"):
        path = weights_over(chain, lambda w, _: CURVATURES * w, np.ones_like(CURVATURES), 2 * WINDOW)
        distance = np.abs(path).max(axis=1)
        distance = np.maximum(distance[1:], distance[:-1])  # oscillating weights pass through 0, but not twice in a row
        found = float((distance[-1] / distance[-1 - WINDOW]) ** (1 / WINDOW))
    return found if np.isfinite(distance[-1]) else math.inf


def _rates(limit: float, chains: dict[str, steepest.Chain], at: Make) -> Figures:
    return {
        **{name: known(rate(chain)) for name, chain in chains.items()},
        "rate 1 % below the limit": known(rate(at(0.99 * limit))),
        "rate 1 % above the limit": known(rate(at(1.01 * limit))),
    }


LIMITS = (below("rate 1 % below the limit", 0.9999), above("rate 1 % above the limit", 1.001))


def gradient_descent(seeds: Sequence[int], make: Make = steepest.sgd) -> Figures:
    chains = {
        "rate, lr 2/(L + mu)": make(2 / (LARGEST + SMALLEST)),
        "rate, lr 1/L": make(1 / LARGEST),
    }
    return _rates(2 / LARGEST, chains, make)


def heavy_ball(seeds: Sequence[int], make: Make = steepest.sgd) -> Figures:
    root = math.sqrt(CONDITION_NUMBER)
    best = make(4 / (math.sqrt(LARGEST) + math.sqrt(SMALLEST)) ** 2, momentum=((root - 1) / (root + 1)) ** 2)
    beta = 0.9
    return _rates(2 * (1 + beta) / LARGEST, {"rate": best}, lambda lr: make(lr, momentum=beta))


def nesterov(seeds: Sequence[int], make: Make = steepest.sgd) -> Figures:
    root, wide = math.sqrt(CONDITION_NUMBER), math.sqrt(3 * CONDITION_NUMBER + 1)
    chains = {
        "rate, lr 1/L": make(1 / LARGEST, momentum=(root - 1) / (root + 1), nesterov=True),
        "rate, tuned": make(4 / (3 * LARGEST + SMALLEST), momentum=(wide - 2) / (wide + 2), nesterov=True),
    }
    beta = 0.9
    limit = 2 / LARGEST * (1 + beta) / (1 + 2 * beta)
    return _rates(limit, chains, lambda lr: make(lr, momentum=beta, nesterov=True))


# ---- noise

NOISY = ((1.0, 0.1, 0.0), (1.0, 0.1, 0.9), (2.0, 0.05, 0.5), (0.3, 0.2, 0.9))
"""Curvature, learning rate, momentum."""


def stationary_variance(
    chain: steepest.Chain, curvature: float, seed: int, runs: int = 10_000, steps: int = 600, every: int = 1
) -> float:
    """The variance of many weights under gradients with noise of variance 1, after as many steps to settle."""
    rng = np.random.default_rng(seed)
    w = np.zeros(runs)
    optimizer = opt.Optimizer([w], chain)
    squares = []
    for t in range(1, 2 * steps + 1):
        optimizer.step([curvature * w + rng.standard_normal(runs)])
        if t > steps and t % every == 0:
            squares.append(float(w @ w) / runs)
    return float(np.mean(squares))


def noise_variance(seeds: Sequence[int], make: Make = steepest.sgd) -> Figures:
    figures = {}
    for h, lr, beta in NOISY:
        expected = lr * (1 + beta) / (h * (1 - beta) * (2 * (1 + beta) - lr * h))
        found = stationary_variance(make(lr, momentum=beta), h, seeds[0])
        figures[f"measured/formula, h={h:g} lr={lr:g} momentum={beta:g}"] = known(found / expected)
    return figures


LOOKAHEADS = ((5, 0.5), (10, 0.8))


def lookahead_variance(seeds: Sequence[int], wrap: Make = steepest.lookahead) -> Figures:
    h, lr = 1.0, 0.1
    inner = lr / (h * (2 - lr * h))
    figures = {}
    for k, alpha in LOOKAHEADS:
        r = 1 - lr * h
        a, b = alpha**2 * (1 - r ** (2 * k)), 2 * alpha * (1 - alpha) * (1 - r**k)
        found = stationary_variance(steepest.sgd(lr) | wrap(k, alpha), h, seeds[0], every=k)
        figures[f"measured/formula, k={k} alpha={alpha:g}"] = known(found / (inner * a / (a + b)))
        figures[f"Lookahead/SGD, k={k} alpha={alpha:g}"] = known(found / inner)
    return figures


# ---- clipping and decay


def clipping_bound(seeds: Sequence[int], clip: Make = steepest.clip_by_global_norm) -> Figures:
    rng = np.random.default_rng(seeds[0])
    lr, max_norm = 0.1, 2.0
    params = [np.zeros((5, 3)), np.zeros(7)]
    optimizer = opt.Optimizer(params, clip(max_norm) | steepest.sgd(lr))
    longest, shorter = 0.0, 0.0
    for scale in np.logspace(-3, 6, 200):
        grads = [scale * rng.standard_normal(p.shape) for p in params]
        before = [p.copy() for p in params]
        optimizer.step(grads)
        step = _norm([p - q for p, q in zip(params, before, strict=True)])
        longest = max(longest, step)
        if _norm(grads) < max_norm:
            shorter = max(shorter, abs(step / (lr * _norm(grads)) - 1))
    return {
        "longest step / (lr max_norm)": known(longest / (lr * max_norm)),
        "change of shorter gradients": known(shorter),
    }


def _norm(arrays: Sequence[Array]) -> float:
    return math.sqrt(sum(float((a * a).sum()) for a in arrays))


def decoupled_decay(seeds: Sequence[int], make: Make = steepest.adamw) -> Figures:
    lr, decay, steps = 1e-2, 0.1, 200

    def lost(recipe: Make, size: float) -> float:
        """What decay alone takes from a weight of 1 under gradients of this size that cancel out."""

        def end(weight_decay: float) -> float:
            chain = recipe(lr, weight_decay=weight_decay)
            return float(weights_over(chain, lambda w, t: np.full_like(w, size * (-1) ** t), np.ones(1), steps)[-1, 0])

        return end(0.0) - end(decay)

    return {
        "AdamW's decay, gradients 1e2 / 1e-2": known(lost(make, 1e2) / lost(make, 1e-2)),
        "Adam-L2's decay, gradients 1e2 / 1e-2": known(lost(steepest.adam, 1e2) / lost(steepest.adam, 1e-2)),
    }


CLAIMS = (
    Claim(
        "gradient-descent-rate",
        "Gradient descent's rate and its stability limit on a quadratic",
        Paper("Nesterov", 2004, "", "Introductory Lectures on Convex Optimization, theorem 2.1.15"),
        "With curvatures in [mu, L] the error shrinks by (k-1)/(k+1) a step at lr 2/(L+mu), by 1-1/k at 1/L; it grows beyond 2/L.",
        "200 curvatures, condition number k = 100; rate over steps 1,000 to 2,000",
        1, True, 1, gradient_descent,
        (near("rate, lr 2/(L + mu)", 99 / 101, 1e-4), near("rate, lr 1/L", 0.99, 1e-4), *LIMITS),
    ),
    Claim(
        "heavy-ball-rate",
        "Heavy ball's rate and its stability limit on a quadratic",
        Paper("Polyak", 1964, "", "Some methods of speeding up the convergence of iteration methods"),
        "With the best lr and momentum the error shrinks by (√k-1)/(√k+1) a step; stable for lr < 2(1+momentum)/L.",
        "200 curvatures, k = 100; the limit at momentum 0.9",
        1, True, 1, heavy_ball,
        (near("rate", 9 / 11, 1e-3), *LIMITS),
    ),
    Claim(
        "nesterov-rate",
        "Nesterov's rate and its stability limit on a quadratic",
        Paper("Lessard, Recht and Packard", 2016, "1408.3595", "proposition 1"),
        "The error shrinks by 1-1/√k a step at lr 1/L, by 1-2/√(3k+1) when tuned for quadratics; stable for "
        "lr < (2/L)(1+momentum)/(1+2 momentum).",
        "200 curvatures, k = 100; the limit at momentum 0.9",
        1, True, 1, nesterov,
        (near("rate, lr 1/L", 0.9, 1e-3), near("rate, tuned", 1 - 2 / math.sqrt(301), 1e-3), *LIMITS),
    ),
    Claim(
        "noise-variance",
        "The stationary variance of SGD and heavy ball under noise",
        Paper("Mandt, Hoffman and Blei", 2017, "1704.04289", "SGD near a minimum; here for the discrete recursion"),
        "Noise of variance s² on curvature h leaves the variance lr s²(1+b)/(h(1-b)(2(1+b)-lr h)) at momentum b.",
        "10,000 independent weights, 600 steps to settle and 600 measured",
        3, True, 1, noise_variance,
        tuple(near(f"measured/formula, h={h:g} lr={lr:g} momentum={b:g}", 1, 0.015) for h, lr, b in NOISY),
    ),
    Claim(
        "lookahead-variance",
        "Lookahead's stationary variance is below its inner optimizer's",
        Paper("Zhang et al.", 2019, "1907.08610", "proposition 2"),
        "Over SGD with r = 1-lr h: V = V_SGD a²(1-r^2k) / (a²(1-r^2k) + 2a(1-a)(1-r^k)), below V_SGD for every a < 1.",
        "10,000 independent weights, measured when slow and fast weights meet",
        2, True, 1, lookahead_variance,
        (
            *(near(f"measured/formula, k={k} alpha={a:g}", 1, 0.03) for k, a in LOOKAHEADS),
            *(below(f"Lookahead/SGD, k={k} alpha={a:g}", 0.95) for k, a in LOOKAHEADS),
        ),
    ),
    Claim(
        "clipping-bound",
        "Clipping by global norm bounds SGD's step",
        Paper("Pascanu, Mikolov and Bengio", 2013, "1211.5063", "algorithm 1"),
        "No step is longer than lr max_norm; gradients below the threshold pass unchanged.",
        "200 gradients whose sizes span nine decades, two tensors",
        0.5, True, 1, clipping_bound,
        (near("longest step / (lr max_norm)", 1, 1e-5), below("change of shorter gradients", 1e-9)),
    ),
    Claim(
        "decoupled-decay",
        "AdamW's decay does not depend on the gradients' size; Adam's L2 does",
        Paper("Loshchilov and Hutter", 2019, "1711.05101", "section 2, proposition 2"),
        "Adam scales an L2 term down where gradients are large; decoupled decay shrinks all weights alike.",
        "one weight, gradients that cancel out, 200 steps",
        1, True, 1, decoupled_decay,
        (
            near("AdamW's decay, gradients 1e2 / 1e-2", 1, 1e-3),
            below("Adam-L2's decay, gradients 1e2 / 1e-2", 0.1),
        ),
    ),
)  # fmt: skip
