"""Schedules of a whole run: a rise into any schedule, cosine annealing, and warm-up, stable, decay.

A rise starts at ``initial`` at t = 0 and is at the peak at t = warmup, as in Optax: with ``initial`` 0, its default,
the first step moves no parameter; ``initial=peak / warmup`` gives it a share, too. PyTorch's LinearLR starts at a third
of the rate. Imports ``schedule``, ``arguments`` and ``namespace``.
"""

from __future__ import annotations

from typing import Any, Literal

from steepest.schedules.arguments import Amount, Steps, StepsOrZero, refuse
from steepest.schedules.namespace import Formula, Namespace, cosine_between, line_between
from steepest.schedules.schedule import Part, kind, lifted

__all__ = ["cosine", "warmup", "wsd"]


@kind(lambda a: (a.steps, *(a.steps + turn for turn in lifted(a.schedule).turns)))
def warmup(
    steps: StepsOrZero,
    schedule: Part,
    initial: Amount = 0.0,
    shape: Literal["linear", "exponential", "cosine"] = "linear",
) -> Formula:
    """A rise from ``initial`` to a schedule's first value, then the schedule: ``schedule(t - steps)`` for t >= steps.

    Before that, with ``peak = schedule(0)`` and ``x = t/steps``:
    linear ``initial + (peak - initial)*x``, exponential ``initial * (peak/initial)**x``,
    cosine ``initial + (peak - initial)*(1 - cos(πx))/2``.

    Parameters
    ----------
    steps : length of the rise, >= 0; at t = steps the value is the peak exactly.
    schedule : a schedule, or a number for a constant one.
    initial : value at t = 0, in [0, peak]; for the exponential shape above 0. 0.0, as Optax.
    shape : "linear".

    Raises
    ------
    TypeError, ValueError
        When ``schedule`` is neither schedule nor number, or the rise would fall.

    Examples
    --------
    >>> schedule = warmup(500, cosine(1e-3, steps=9_500))
    >>> schedule(0), schedule(250), schedule(500), schedule(10_000)
    (0.0, 0.0005, 0.001, 0.0)
    >>> warmup(2, 0.1, initial=0.001, shape="exponential").values(4)
    array([0.001, 0.01 , 0.1  , 0.1  ])

    Source: Goyal et al. (2017), section 2.2 (linear); ``optax.warmup_exponential_decay_schedule``.
    """
    after = lifted(schedule).formula
    peak = lifted(schedule)(0)
    if initial > peak:
        raise refuse("warmup", "initial", initial, f"in [0, {peak!r}]", "The rise ends at the schedule's first value.")
    if shape == "exponential" and initial == 0:
        raise refuse("warmup", "initial", initial, f"in (0, {peak!r}]", "An exponential rise never leaves 0.")
    if steps == 0:
        return after

    def at(t: Any, xp: Namespace) -> Any:
        s = xp.minimum(t, steps)
        if shape == "linear":
            rise = line_between(initial, peak, s, steps)
        elif shape == "cosine":
            rise = cosine_between(initial, peak, s, steps, xp)
        else:
            rise = xp.power(initial, (steps - s) / steps) * xp.power(peak, s / steps)  # their quotient may overflow
        return xp.where(t < steps, rise, after(xp.maximum(t - steps, 0), xp))

    return at


@kind(lambda a: (a.warmup, a.steps))
def cosine(peak: Amount, steps: Steps, warmup: StepsOrZero = 0, initial: Amount = 0.0, final: Amount = 0.0) -> Formula:
    """Cosine annealing: ``final + (peak - final)/2 * (1 + cos(π*(t - warmup)/T_max))``, then ``final``.

    ``T_max = steps - warmup``; before it a linear rise. Held at ``final`` after ``steps``, where PyTorch's
    CosineAnnealingLR rises again.

    Parameters
    ----------
    peak : value at t = warmup, >= 0.
    steps : the whole length, warm-up included, >= 1 and above ``warmup``.
    warmup : length of the rise, >= 0; 0.
    initial : value at t = 0 when there is a warm-up, in [0, peak]; 0.0.
    final : value from t = steps on, >= 0, PyTorch's ``eta_min``; 0.0. It may be above the peak: an average's decay that
        rises from 0.996 to 1 is ``cosine(0.996, steps, final=1.0)``.

    Raises
    ------
    ValueError
        When nothing is left for the cosine (``warmup >= steps``), or the rise would fall.

    Examples
    --------
    >>> cosine(1.0, steps=4).values(6)
    array([1.        , 0.85355339, 0.5       , 0.14644661, 0.        ,
           0.        ])
    >>> cosine(1.0, steps=6, warmup=2, final=0.5).values(3)
    array([0. , 0.5, 1. ])

    Source: Loshchilov & Hutter (2017), equation 5, one cycle; ``optax.warmup_cosine_decay_schedule``.
    """
    if warmup >= steps:
        raise refuse("cosine", "warmup", warmup, f"in [0, {steps - 1}]", "steps includes the warm-up.")
    if initial > peak:
        raise refuse("cosine", "initial", initial, f"in [0, {peak!r}]", "The rise ends at the peak.")
    T_max = steps - warmup

    def at(t: Any, xp: Namespace) -> Any:
        s = xp.minimum(xp.maximum(t - warmup, 0), T_max)
        value = cosine_between(peak, final, s, T_max, xp)
        if warmup == 0:
            return value
        return xp.where(t < warmup, line_between(initial, peak, xp.minimum(t, warmup), warmup), value)

    return at


@kind(lambda a: (a.warmup, a.steps - a.decay, a.steps))
def wsd(
    peak: Amount,
    steps: Steps,
    warmup: StepsOrZero,
    decay: Steps,
    initial: Amount = 0.0,
    final: Amount = 0.0,
    shape: Literal["linear", "cosine", "1-sqrt"] = "linear",
) -> Formula:
    """Warm-up, stable, decay: a linear rise, the peak, and a fall over the last ``decay`` steps, then ``final``.

    In the fall, with ``x = (t - (steps - decay))/decay``, the value is ``final + (peak - final)*w``:
    linear ``w = 1 - x``, cosine ``w = (1 + cos(πx))/2``, 1-sqrt ``w = 1 - sqrt(x)``.

    Parameters
    ----------
    peak : value of the stable phase, >= 0.
    steps : the whole length, >= 1.
    warmup : length of the rise, >= 0.
    decay : length of the fall, >= 1; ``warmup + decay <= steps``.
    initial : value at t = 0 when there is a warm-up, in [0, peak]; 0.0.
    final : value from t = steps on, >= 0; 0.0.
    shape : "linear".

    Raises
    ------
    ValueError
        When warm-up and decay don't fit into ``steps``, or the rise would fall.

    Examples
    --------
    >>> wsd(1.0, steps=8, warmup=2, decay=4).values(10)
    array([0.  , 0.5 , 1.  , 1.  , 1.  , 0.75, 0.5 , 0.25, 0.  , 0.  ])
    >>> wsd(1.0, steps=8, warmup=2, decay=4, shape="1-sqrt")(5)
    0.5

    Source: Hu et al. (2024), MiniCPM, section 4; the shape 1-sqrt: Hägele et al. (2024), equation 1.
    """
    if warmup + decay > steps:
        rule = f"in [1, {steps - warmup}]" if warmup < steps else f"< {steps}"
        argument, value = ("decay", decay) if warmup < steps else ("warmup", warmup)
        raise refuse("wsd", argument, value, rule, f"Warm-up and decay must fit into steps, {steps}.")
    if initial > peak:
        raise refuse("wsd", "initial", initial, f"in [0, {peak!r}]", "The rise ends at the peak.")
    stable_end = steps - decay

    def at(t: Any, xp: Namespace) -> Any:
        s = xp.minimum(xp.maximum(t - stable_end, 0), decay)
        if shape == "linear":
            value = line_between(peak, final, s, decay)
        elif shape == "cosine":
            value = cosine_between(peak, final, s, decay, xp)
        else:
            done = xp.sqrt(s / decay)
            value = peak * (1 - done) + final * done
        if warmup == 0:
            return value
        return xp.where(t < warmup, line_between(initial, peak, xp.minimum(t, warmup), warmup), value)

    return at
