"""Schedules that go one way: along a line or a power, down in steps, exponentially, by a table, as an inverse root.

Each is held at its last value once it has arrived. Imports ``schedule``, ``arguments`` and ``namespace``.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Iterable, Sequence
from typing import Any

from steepest.schedules.arguments import LAST, Amount, Factor, Shrink, Steps, check_increasing, check_size, refuse
from steepest.schedules.namespace import Formula, Namespace, line_between
from steepest.schedules.schedule import kind

__all__ = ["exponential", "inverse_sqrt", "linear", "multi_step", "piecewise", "polynomial", "step"]


@kind(lambda a: (a.steps,))
def linear(initial: Amount, final: Amount, steps: Steps) -> Formula:
    """A line: ``initial + (final - initial) * t/steps``, then ``final``.

    Parameters
    ----------
    initial : value at t = 0, >= 0.
    final : value from t = steps on, >= 0, above or below ``initial``.
    steps : >= 1.

    Examples
    --------
    >>> linear(1.0, 0.0, steps=4).values(6)
    array([1.  , 0.75, 0.5 , 0.25, 0.  , 0.  ])

    Source: ``optax.linear_schedule``. PyTorch's ``LinearLR(start_factor, end_factor, total_iters)`` is
    ``linear(lr * start_factor, lr * end_factor, total_iters)``; it starts at a third of the rate by default.
    """

    def at(t: Any, xp: Namespace) -> Any:
        return line_between(initial, final, xp.minimum(t, steps), steps)

    return at


@kind(lambda a: (a.steps,))
def polynomial(initial: Amount, final: Amount, steps: Steps, power: Factor = 1.0) -> Formula:
    """A power of what is left: ``final + (initial - final) * (1 - t/steps)**power``, then ``final``.

    Parameters
    ----------
    initial : value at t = 0, >= 0.
    final : value from t = steps on, >= 0.
    steps : >= 1.
    power : > 0; 1.0, a line (PyTorch's default).

    Examples
    --------
    >>> polynomial(1.0, 0.0, steps=4, power=2).values(5)
    array([1.    , 0.5625, 0.25  , 0.0625, 0.    ])

    Source: ``optax.polynomial_schedule``; PyTorch's PolynomialLR with ``final=0``.
    """

    def at(t: Any, xp: Namespace) -> Any:
        weight = xp.power((steps - xp.minimum(t, steps)) / steps, power)
        return initial * weight + final * (1 - weight)

    return at


@kind(lambda a: range(a.step_size, 16 * a.step_size, a.step_size))
def step(initial: Amount, step_size: Steps, gamma: Shrink = 0.1) -> Formula:
    """Step decay: ``initial * gamma**floor(t/step_size)``, the exponent in whole numbers.

    Parameters
    ----------
    initial : value of the first ``step_size`` steps, >= 0.
    step_size : steps between two drops, >= 1.
    gamma : factor at each drop, in (0, 1]; 0.1, PyTorch's default.

    Examples
    --------
    >>> step(1.0, step_size=2, gamma=0.5).values(5)
    array([1.  , 1.  , 0.5 , 0.5 , 0.25])

    Source: PyTorch's StepLR. Some tutorials count ``floor((1 + t)/step_size)``, one step early.
    """

    def at(t: Any, xp: Namespace) -> Any:
        return initial * xp.power(gamma, t // step_size)

    return at


def _turns_of_exponential(a: Any) -> Iterable[int]:
    """Where ``final`` is reached, on the line and on the staircase; 0 and infinity never are."""
    rate = a.rate if a.gamma is None else -math.log(a.gamma)
    if not a.final or rate == 0:
        return ()
    periods = min((math.log(a.initial) - math.log(a.final)) / rate, LAST / a.steps - 1)
    return math.ceil(periods * a.steps), math.ceil(periods) * a.steps


@kind(_turns_of_exponential)
def exponential(
    initial: Factor,
    gamma: Factor | None = None,
    steps: Steps = 1,
    staircase: bool = False,
    rate: Amount | None = None,
    final: Amount | None = None,
) -> Formula:
    """Exponential decay: ``initial * gamma**(t/steps)``, or ``initial * exp(-rate * t/steps)``.

    Parameters
    ----------
    initial : value at t = 0, > 0.
    gamma : factor per ``steps`` steps, > 0; above 1 the value grows (a search for the learning rate does that).
    steps : >= 1; 1.
    staircase : use floor(t/steps), in whole numbers, in place of t/steps; False.
    rate : instead of ``gamma``, >= 0; ``gamma = exp(-rate)``. Exactly one of the two is given.
    final : bound that the value never passes, on the far side of ``initial``, >= 0; None, no bound.
        Without it a growing value ends at infinity.

    Raises
    ------
    TypeError, ValueError
        When gamma and rate are both given or both missing, or ``final`` lies on the wrong side.

    Examples
    --------
    >>> exponential(1.0, gamma=0.5, steps=2, staircase=True).values(5)
    array([1.  , 1.  , 0.5 , 0.5 , 0.25])
    >>> exponential(1.0, rate=0.5)(2)
    0.36787944117144233

    Source: PyTorch's ExponentialLR (``steps=1``); ``optax.exponential_decay``, with its ``decay_rate`` as ``gamma``,
    ``transition_steps`` as ``steps`` and ``end_value`` as ``final``.
    """
    if (gamma is None) == (rate is None):
        raise TypeError(
            f"exponential: exactly one of gamma and rate must be given, got gamma={gamma!r} and rate={rate!r}. "
            f"gamma is exp(-rate)."
        )
    grows = gamma is not None and gamma > 1
    if final is not None and (final < initial if grows else final > initial):
        rule = f">= {initial!r}" if grows else f"in [0, {initial!r}]"
        raise refuse("exponential", "final", final, rule, f"The value {'grows' if grows else 'falls'} towards it.")

    def at(t: Any, xp: Namespace) -> Any:
        exponent = t // steps if staircase else t / steps
        value = initial * (xp.power(gamma, exponent) if rate is None else xp.exp(-rate * exponent))
        if final is None:
            return value
        return xp.minimum(value, final) if grows else xp.maximum(value, final)

    return at


@kind(lambda a: a.boundaries)
def piecewise(initial: Amount, boundaries: Sequence[Steps], factors: Sequence[Amount]) -> Formula:
    """Constant pieces: ``initial`` times the product of the factors whose boundary is ``<= t``.

    Parameters
    ----------
    initial : value before the first boundary, >= 0.
    boundaries : first step of each next piece, >= 1, strictly increasing.
    factors : one per boundary, >= 0; each multiplies what the ones before it have left.

    Examples
    --------
    >>> piecewise(1.0, boundaries=[1, 3], factors=[0.5, 0.1]).values(5)
    array([1.  , 0.5 , 0.5 , 0.05, 0.05])

    Source: ``optax.piecewise_constant_schedule(initial, dict(zip(boundaries, factors)))``.
    """
    check_size("piecewise", "factors", len(factors), len(boundaries), "Give one factor for each boundary.")
    check_increasing("piecewise", boundaries)
    bounds, values = tuple(boundaries), tuple(itertools.accumulate((initial, *factors), operator.mul))

    def at(t: Any, xp: Namespace) -> Any:
        return xp.take(values, xp.count(bounds, t))

    return at


@kind(lambda a: a.boundaries)
def multi_step(initial: Amount, boundaries: Sequence[Steps], gamma: Factor = 0.1) -> Formula:
    """The same factor at every boundary: ``initial * gamma**(number of boundaries <= t)``.

    Parameters
    ----------
    initial : value before the first boundary, >= 0.
    boundaries : first step of each next piece, >= 1, strictly increasing; PyTorch's ``milestones``.
    gamma : > 0; 0.1, PyTorch's default.

    Examples
    --------
    >>> multi_step(1.0, boundaries=[1, 3], gamma=0.5).values(5)
    array([1.  , 0.5 , 0.5 , 0.25, 0.25])

    Source: PyTorch's MultiStepLR.
    """
    check_increasing("multi_step", boundaries)
    bounds, values = tuple(boundaries), tuple(initial * gamma**drops for drops in range(len(boundaries) + 1))

    def at(t: Any, xp: Namespace) -> Any:
        return xp.take(values, xp.count(bounds, t))

    return at


@kind(lambda a: (a.warmup,))
def inverse_sqrt(peak: Amount, warmup: Steps, initial: Amount = 0.0) -> Formula:
    """A linear rise, then ``peak * sqrt(warmup/t)``.

    Parameters
    ----------
    peak : value at t = warmup, >= 0.
    warmup : >= 1. It is also the time scale of the decay: at ``4 * warmup`` half the peak is left.
    initial : value at t = 0, in [0, peak]; 0.0.

    Examples
    --------
    >>> schedule = inverse_sqrt(1.0, warmup=100)
    >>> schedule(50), schedule(100), schedule(400)
    (0.5, 1.0, 0.5)

    Source: Vaswani et al. (2017), section 5.3, whose rate is this with ``peak = 1/sqrt(d_model * warmup)``.
    """
    if initial > peak:
        raise refuse("inverse_sqrt", "initial", initial, f"in [0, {peak!r}]", "The rise ends at the peak.")

    def at(t: Any, xp: Namespace) -> Any:
        rise = line_between(initial, peak, xp.minimum(t, warmup), warmup)
        return xp.where(t < warmup, rise, peak * xp.sqrt(warmup / xp.maximum(t, warmup)))

    return at
