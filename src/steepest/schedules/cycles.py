"""Schedules that rise and fall: warm restarts, triangular cycles, and the one cycle of a whole run.

The place in a cycle is found in whole numbers, so a restart happens at its very step however far the run has come.
Imports ``schedule``, ``arguments`` and ``namespace``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal

from steepest.schedules.arguments import LAST, Amount, Factor, Share, Shrink, Steps, refuse
from steepest.schedules.namespace import Formula, Namespace, cosine_between, line_between
from steepest.schedules.schedule import kind

__all__ = ["cyclic", "one_cycle", "warm_restarts"]


def _restarts(a: Any) -> Iterable[int]:
    """The first restarts: later cycles are lower, and fall further only as they are longer."""
    length, start = a.T_0, 0
    while start + length <= LAST and (a.T_mult > 1 or start == 0):
        start += length
        length *= a.T_mult
        yield start


@kind(_restarts)
def warm_restarts(peak: Amount, T_0: Steps, T_mult: Steps = 1, final: Amount = 0.0, gamma: Shrink = 1.0) -> Formula:
    """SGDR: in cycle i, of length ``T_i = T_0 * T_mult**i``, ``final + (peak_i - final)/2 * (1 + cos(π*T_cur/T_i))``.

    ``T_cur`` counts from 0 in each cycle, so its first step is at the peak and ``final`` itself is never reached;
    ``peak_i = max(peak * gamma**i, final)``.

    Parameters
    ----------
    peak : value at t = 0, >= 0.
    T_0 : length of the first cycle, >= 1.
    T_mult : how many times longer each next cycle is, a whole number >= 1; 1.
    final : what each cycle falls towards, in [0, peak], PyTorch's ``eta_min``; 0.0.
    gamma : factor on the peak at each restart, in (0, 1]; 1.0, the paper has none.

    Raises
    ------
    ValueError
        When ``final`` is above the peak.

    Examples
    --------
    >>> warm_restarts(1.0, T_0=2, T_mult=2, gamma=0.5).values(7)
    array([1.       , 0.5      , 0.5      , 0.4267767, 0.25     , 0.0732233,
           0.25     ])

    Source: Loshchilov & Hutter (2017), equation 5; PyTorch's CosineAnnealingWarmRestarts.
    """
    if final > peak:
        raise refuse("warm_restarts", "final", final, f"in [0, {peak!r}]", "Each cycle falls from the peak towards it.")
    if T_mult == 1:

        def at(t: Any, xp: Namespace) -> Any:
            top = peak if gamma == 1 else xp.maximum(peak * xp.power(gamma, t // T_0), final)
            return cosine_between(top, final, t % T_0, T_0, xp)

        return at

    lengths = [T_0]
    starts = [0]
    while starts[-1] + lengths[-1] <= LAST:  # at most 53 cycles
        starts.append(starts[-1] + lengths[-1])
        lengths.append(lengths[-1] * T_mult)
    bounds, begin, length = tuple(starts[1:]), tuple(map(float, starts)), tuple(map(float, lengths))
    tops = tuple(max(peak * gamma**cycle, final) for cycle in range(len(starts)))

    def growing(t: Any, xp: Namespace) -> Any:
        cycle = xp.count(bounds, t)
        return cosine_between(xp.take(tops, cycle), final, t - xp.take(begin, cycle), xp.take(length, cycle), xp)

    return growing


@kind(lambda a: (a.step_size_up, a.step_size_up + (a.step_size_down or a.step_size_up)))
def cyclic(
    initial: Amount,
    peak: Amount,
    step_size_up: Steps = 2000,
    step_size_down: Steps | None = None,
    mode: Literal["triangular", "triangular2", "exp_range"] = "triangular",
    gamma: Shrink = 1.0,
) -> Formula:
    """Triangles: ``initial + (peak - initial) * height * a``, where height goes 0 to 1 to 0 in every cycle.

    ``a`` is 1 (triangular), ``0.5**cycle`` (triangular2, cycle from 0) or ``gamma**t`` (exp_range).

    Parameters
    ----------
    initial : value at both ends of a cycle, in [0, peak]; PyTorch's ``base_lr``.
    peak : value in the first cycle's middle, >= 0; PyTorch's ``max_lr``.
    step_size_up : steps of the rise, >= 1; 2000, PyTorch's default.
    step_size_down : steps of the fall, >= 1; None, as many.
    mode : "triangular".
    gamma : for "exp_range" alone, in (0, 1]; 1.0.

    Raises
    ------
    ValueError
        When ``initial`` is above the peak.

    Examples
    --------
    >>> cyclic(0.0, 1.0, step_size_up=2, mode="triangular2").values(8)
    array([0.  , 0.5 , 1.  , 0.5 , 0.  , 0.25, 0.5 , 0.25])

    Source: Smith (2017); PyTorch's CyclicLR, without its momentum.
    """
    if initial > peak:
        raise refuse("cyclic", "initial", initial, f"in [0, {peak!r}]", "A cycle rises from it to the peak.")
    down = step_size_up if step_size_down is None else step_size_down
    length = step_size_up + down

    def at(t: Any, xp: Namespace) -> Any:
        s = t % length
        height = xp.where(s <= step_size_up, s / step_size_up, (length - s) / down)
        if mode == "triangular2":
            height = height * xp.power(0.5, t // length)
        elif mode == "exp_range":
            height = height * xp.power(gamma, t)
        return initial * (1 - height) + peak * height

    return at


def _turns_of_one_cycle(a: Any) -> Iterable[int]:
    rise = a.pct_start * a.steps - 1
    return math.floor(rise), math.ceil(rise), math.floor(2 * rise), math.ceil(2 * rise), a.steps - 1


@kind(_turns_of_one_cycle)
def one_cycle(
    peak: Amount,
    steps: Steps,
    pct_start: Share = 0.3,
    shape: Literal["cosine", "linear"] = "cosine",
    div_factor: Factor = 25.0,
    final_div_factor: Factor = 1e4,
    three_phase: bool = False,
) -> Formula:
    """One rise to the peak and one fall far below the start: the 1cycle policy.

    From ``initial = peak/div_factor`` to the peak at ``pct_start*steps - 1``, then to
    ``final = initial/final_div_factor`` at ``steps - 1``, the last step of a run, and held there. With three phases:
    back to ``initial`` at ``2*pct_start*steps - 2``, then to ``final``. Each phase is half a cosine or a line.

    Parameters
    ----------
    peak : >= 0; PyTorch's ``max_lr``.
    steps : length of the run, >= 1; PyTorch's ``total_steps``.
    pct_start : share (no percentage) of the run that rises, in [0, 1], with three phases in [0, 0.5]; 0.3.
    shape : "cosine"; PyTorch's ``anneal_strategy``.
    div_factor : > 0; 25.0.
    final_div_factor : > 0; 1e4. Counted from ``initial``, as PyTorch.
    three_phase : False.

    Raises
    ------
    ValueError
        When two phases with ``pct_start`` are longer than the run.

    Examples
    --------
    >>> schedule = one_cycle(1.0, steps=11, pct_start=6 / 11, shape="linear", div_factor=2, final_div_factor=2)
    >>> schedule(0), schedule(5), schedule(10), schedule(11)
    (0.5, 1.0, 0.25, 0.25)

    Source: Smith & Topin (2018); the defaults and the phases' ends are those of PyTorch's OneCycleLR, without its
    momentum: that is a schedule of its own.
    """
    if three_phase and pct_start > 0.5:
        raise refuse("one_cycle", "pct_start", pct_start, "in [0, 0.5]", "With three phases it is used twice.")
    initial = peak / div_factor
    final = initial / final_div_factor
    ends = [pct_start * steps - 1.0, 2 * pct_start * steps - 2.0] if three_phase else [pct_start * steps - 1.0]
    values = [initial, peak, initial, final] if three_phase else [initial, peak, final]
    spans = list(zip([0.0, *ends], [*ends, steps - 1.0], values, values[1:], strict=False))

    def at(t: Any, xp: Namespace) -> Any:
        value = spans[-1][3] + 0.0 * t
        for begin, end, before, after in reversed(spans):
            if end > begin:  # a phase that ends before it begins has no step
                s = xp.minimum(xp.maximum(t - begin, 0.0), end - begin)
                if shape == "linear":
                    phase = line_between(before, after, s, end - begin)
                else:
                    phase = cosine_between(before, after, s / (end - begin), 1.0, xp)
                value = xp.where(t <= end, phase, value)
        return value

    return at
