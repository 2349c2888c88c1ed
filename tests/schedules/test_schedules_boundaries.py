"""Schedules at their boundaries: the first step of a rise, a drop or a cycle, the end, and steps far away."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from steepest.schedules import (
    cosine,
    cyclic,
    exponential,
    join,
    linear,
    multi_step,
    one_cycle,
    piecewise,
    polynomial,
    step,
    warm_restarts,
    warmup,
    wsd,
)

HUGE = 10**9
LAST = 2**53


@pytest.mark.parametrize("shape", ["linear", "exponential", "cosine"])
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 500, 9999])
def test_a_rise_starts_at_its_initial_value_and_reaches_the_peak_at_its_last_step_exactly(
    shape: Any, steps: int
) -> None:
    schedule = warmup(steps, 0.3, initial=0.07, shape=shape)
    assert schedule(0) == 0.07
    assert schedule(steps) == 0.3 == schedule(HUGE)
    assert np.all(np.diff(schedule.values(steps + 1)) > 0)


def test_an_exponential_rise_over_all_of_float64_stays_finite() -> None:
    values = warmup(10, 1.7e308, initial=5e-324, shape="exponential").values(11)
    assert values[0] == 5e-324 and np.all(np.diff(values) > 0) and values[10] == 1.7e308


def test_a_rise_from_zero_wastes_its_first_step_unless_told_otherwise() -> None:
    assert warmup(4, 1.0).values(6).tolist() == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    assert warmup(3, 1.0, initial=0.25).values(5).tolist() == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_the_schedule_after_a_rise_begins_with_its_own_first_step() -> None:
    inner = step(0.4, step_size=3, gamma=0.5)
    assert warmup(5, inner).values(15)[5:].tolist() == inner.values(10).tolist()
    assert warmup(0, inner).values(10).tolist() == inner.values(10).tolist()


def test_cosine_counts_its_warmup_in_its_steps() -> None:
    whole = cosine(1e-3, steps=10_000, warmup=500, final=1e-5)
    parts = warmup(500, cosine(1e-3, steps=9_500, final=1e-5))
    assert whole.values(11_000).tolist() == parts.values(11_000).tolist()
    assert [whole(t) for t in (0, 500, 10_000)] == [0.0, 1e-3, 1e-5]
    assert whole(9_999) > 1e-5


@pytest.mark.parametrize("after", [0, 1, 2, 100, 1000, HUGE, LAST - 1000])
def test_a_schedule_with_an_end_is_held_there_where_pytorchs_cosine_rises_again(after: int) -> None:
    ended = {
        linear(0.3, 0.07, 1000),
        polynomial(0.3, 0.07, 1000, power=2.0),
        cosine(0.3, 1000, final=0.07),
        cosine(0.3, 1000, 10, final=0.07),
        wsd(0.3, 1000, 10, 300, final=0.07),
        wsd(0.3, 1000, 10, 300, final=0.07, shape="cosine"),
        wsd(0.3, 1000, 0, 300, final=0.07, shape="1-sqrt"),
        exponential(0.3, 0.9, final=0.07),
        multi_step(0.07, [999, 1000], gamma=1.0),
        one_cycle(0.28, 1000, div_factor=2.0, final_div_factor=2.0),
    }
    assert {schedule(1000 + after) for schedule in ended} == {0.07}


@pytest.mark.parametrize("high, low", [(1e-3, 1e-5), (0.3, 0.1), (0.7, 0.0), (3.0, 2.9), (1 / 3, 1e-300)])
def test_both_ends_of_a_fall_are_the_very_numbers_given(high: float, low: float) -> None:
    for fall in (linear(high, low, 77), polynomial(high, low, 77, 3.0), cosine(high, 77, final=low)):
        assert (fall(0), fall(77)) == (high, low)
    assert [cyclic(low, high, 7, 3)(t) for t in (0, 7, 10, 17)] == [low, high, low, high]
    assert [warm_restarts(high, 7, 2, final=low)(t) for t in (0, 7, 21, 49)] == [high] * 4


def test_step_decay_drops_at_multiples_of_its_size_and_not_one_step_early() -> None:
    schedule = step(1.0, step_size=10, gamma=0.5)
    assert [schedule(t) for t in (0, 9, 10, 19, 20)] == [1.0, 1.0, 0.5, 0.5, 0.25]


@pytest.mark.parametrize("size", [3, 7, 10, 49, 999_999_937])
def test_drops_far_away_are_found_in_whole_numbers(size: int) -> None:
    schedule = step(1.0, size, gamma=1 - 2**-30)
    for drops in (1, 3, HUGE // size, LAST // size):
        before, after = schedule(drops * size - 1), schedule(drops * size)
        assert (before, after) == ((1 - 2**-30) ** (drops - 1), (1 - 2**-30) ** drops)


def test_a_value_changes_at_its_boundary_itself() -> None:
    assert piecewise(1.0, [1, 3], [0.5, 4.0]).values(5).tolist() == [1.0, 0.5, 0.5, 2.0, 2.0]
    assert multi_step(1.0, [1, 3], gamma=0.5).values(5).tolist() == [1.0, 0.5, 0.5, 0.25, 0.25]
    assert join([1.0, 2.0, 3.0], [1, 3]).values(5).tolist() == [1.0, 2.0, 2.0, 3.0, 3.0]
    assert multi_step(1.0, []).values(2).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("T_0", [1, 2, 3, 10, 1000, 12345])
@pytest.mark.parametrize("T_mult", [1, 2, 3, 10])
def test_a_restart_happens_at_its_very_step_in_every_cycle(T_0: int, T_mult: int) -> None:
    schedule = warm_restarts(1.0, T_0, T_mult, final=0.25)
    start, length = 0, T_0
    for _ in range(60):
        if start + length > LAST:
            break
        last = 0.25 + 0.75 * (1 + math.cos(math.pi * (length - 1) / length)) / 2
        assert schedule(start) == 1.0
        assert math.isclose(schedule(start + length - 1), last, rel_tol=1e-15)
        start, length = start + length, length * T_mult


@pytest.mark.parametrize("T_mult", [1, 2])
@pytest.mark.parametrize("t", [HUGE, HUGE + 1, 10**15 + 7, LAST])
def test_a_step_far_away_is_the_step_of_its_cycle(T_mult: int, t: int) -> None:
    start, length = 0, 10
    if T_mult == 1:
        start = t - t % 10
    while T_mult > 1 and start + length <= t:
        start, length = start + length, length * T_mult
    expected = (1 + math.cos(math.pi * (t - start) / length)) / 2
    assert warm_restarts(1.0, 10, T_mult)(t) == expected


def test_peaks_shrink_at_restarts_but_never_below_the_final_value() -> None:
    same, growing = warm_restarts(1.0, 2, gamma=0.5, final=0.2), warm_restarts(1.0, 2, 2, gamma=0.5, final=0.2)
    assert [same(t) for t in (0, 2, 4, 6, 8)] == [1.0, 0.5, 0.25, 0.2, 0.2]
    assert [growing(t) for t in (0, 2, 6, 14, 30)] == [1.0, 0.5, 0.25, 0.2, 0.2]


def test_cycles_far_away_are_at_their_ends_exactly() -> None:
    schedule = cyclic(0.1, 0.9, step_size_up=7, step_size_down=3)
    for cycle in (1, HUGE, LAST // 10 - 1):
        assert [schedule(10 * cycle + t) for t in (0, 7, 10)] == [0.1, 0.9, 0.1]


def test_the_phases_of_one_cycle_end_where_they_should() -> None:
    two = one_cycle(1.0, steps=100, pct_start=0.25, div_factor=10, final_div_factor=100)
    assert [two(t) for t in (0, 24, 99, 100, HUGE)] == [0.1, 1.0, 0.001, 0.001, 0.001]
    three = one_cycle(1.0, 100, 0.25, "linear", div_factor=10, final_div_factor=100, three_phase=True)
    assert [three(t) for t in (0, 24, 48, 99, 100)] == [0.1, 1.0, 0.1, 0.001, 0.001]
    assert one_cycle(1.0, steps=1)(0) == 1 / 25 / 1e4


def test_growth_without_a_bound_ends_at_infinity_without_a_warning() -> None:
    schedule = exponential(1.0, gamma=2.0)
    assert schedule(1023) == 2.0**1023 and schedule(1024) == math.inf
    assert schedule(np.array([1023, 1024, HUGE])).tolist() == [2.0**1023, math.inf, math.inf]
    assert schedule.then(1.0, at=10)(HUGE) == 1.0
    assert exponential(1.0, gamma=2.0, final=8.0).values(5).tolist() == [1.0, 2.0, 4.0, 8.0, 8.0]
