"""Turning points of schedules, and the ranges of hyperparameters that a schedule leaves there."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest

import steepest
import steepest.numpy as opt
from steepest import schedules

# ---- turning points, and ranges that a schedule leaves there

TURNS: dict[str, tuple[schedules.Schedule, tuple[int, ...]]] = {
    "constant": (schedules.constant(0.5), (0,)),
    "linear": (schedules.linear(0.1, 0.9, steps=7), (0, 7)),
    "polynomial": (schedules.polynomial(0.1, 0.9, steps=7, power=2), (0, 7)),
    "step": (schedules.step(0.9, step_size=5), (0, 4, 5, 10)),
    "exponential that grows to its bound": (schedules.exponential(0.1, gamma=2.0, final=0.9), (0, 4)),
    "exponential that falls to its bound": (schedules.exponential(0.9, rate=0.5, steps=3, final=0.1), (0, 14)),
    "staircase": (schedules.exponential(0.1, gamma=2.0, steps=10, staircase=True, final=0.9), (0, 39, 40)),
    "piecewise": (schedules.piecewise(0.9, [3, 8], [0.5, 0.1]), (0, 2, 3, 8)),
    "multi_step": (schedules.multi_step(0.9, [3, 8], gamma=0.5), (0, 2, 3, 8)),
    "inverse_sqrt": (schedules.inverse_sqrt(0.9, warmup=5), (0, 5)),
    "cosine": (schedules.cosine(0.5, steps=20, warmup=5, final=0.9), (0, 5, 20)),
    "warmup": (schedules.warmup(5, schedules.linear(0.5, 0.9, steps=10)), (0, 5, 15)),
    "wsd": (schedules.wsd(0.9, steps=20, warmup=5, decay=5), (0, 5, 15, 20)),
    "warm_restarts": (schedules.warm_restarts(0.9, T_0=4), (0, 3, 4)),
    "warm_restarts that grow": (schedules.warm_restarts(0.9, T_0=2, T_mult=3), (0, 1, 2, 7, 8, 25, 26)),
    "cyclic": (schedules.cyclic(0.1, 0.9, 4, 6), (0, 4, 10)),
    "one_cycle": (schedules.one_cycle(0.9, steps=20), (0, 5, 19)),
    "one_cycle of three phases": (schedules.one_cycle(0.9, steps=20, three_phase=True), (0, 5, 10, 19)),
    "join": (schedules.constant(0.5).then(schedules.linear(0.1, 0.9, steps=4), at=6), (0, 5, 6, 10)),
    "join that cuts": (schedules.linear(0.1, 0.9, steps=9).then(0.5, at=4), (0, 3, 4)),
    "scale": (schedules.cosine(0.9, steps=9) * schedules.linear(0.5, 1.0, steps=5), (0, 5, 9)),
}


@pytest.mark.parametrize(("schedule", "turns"), TURNS.values(), ids=TURNS)
def test_turning_points_hold_the_extremes_of_a_schedule_with_their_steps(
    schedule: schedules.Schedule, turns: tuple[int, ...]
) -> None:
    points = schedule.turning_points()
    assert set(turns) <= {t for t, _ in points}
    assert [value for _, value in points] == [schedule(t) for t, _ in points]
    reached, known = schedule.values(100), [value for _, value in points]
    assert max(known) == max(reached)
    if not any(
        name in repr(schedule) for name in ("step(", "inverse_sqrt", "warm_restarts")
    ):  # these only approach an end
        assert min(known) == min(reached)


LEAVING: list[tuple[Callable[[], object], str]] = [
    (lambda: steepest.clip_by_global_norm(schedules.linear(1.0, 0.0, steps=7)),
     "clip_by_global_norm: max_norm must be > 0, got linear(1.0, final=0.0, steps=7), which gives 0.0 at step 7."),
    (lambda: steepest.adamw(betas=(schedules.linear(0.9, 1.0, steps=7), 0.999)),
     "adamw: betas[0] must be in [0, 1), got linear(0.9, final=1.0, steps=7), which gives 1.0 at step 7."),
    (lambda: steepest.ema(schedules.cosine(0.9, steps=4, final=1.5)), "ema: decay must be in [0, 1], got cosine("),
    (lambda: steepest.lion(betas=(0.9, schedules.warmup(3, schedules.linear(0.9, 1.0, steps=4)))), "which gives 1.0 at step 7."),
    (lambda: steepest.sgd(0.1) | steepest.lookahead(alpha=schedules.one_cycle(1.5, steps=10)), "which gives 1.5 at step 2."),
    (lambda: steepest.lookahead(schedules.linear(5, 10, steps=10)), "k must be a whole number >= 1, got linear("),
    (lambda: steepest.lookahead(alpha=schedules.constant(0.5).then(2.0, at=50)), "which gives 2.0 at step 50."),
    (lambda: steepest.lookahead(alpha=schedules.cyclic(0.1, 1.2, 30) * 0.9), "which gives 1.047 at step 29."),
    (lambda: steepest.ema(schedules.linear(0.5, 1.6, steps=8) * schedules.linear(1.6, 0.5, steps=8)), "ema: decay must be"),
    (lambda: steepest.clip_by_norm(schedules.ReduceOnPlateau(1.0, warmup=5)), "which gives 0.0 at step 0."),
    (lambda: steepest.adam(betas=(0.9, schedules.ReduceOnPlateau(1.0))), "which gives 1.0 at step 0."),
]  # fmt: skip


@pytest.mark.parametrize(("make", "message"), LEAVING, ids=[m[:40] for _, m in LEAVING])
def test_a_schedule_that_leaves_its_range_at_a_known_step_is_refused_when_the_chain_is_made(
    make: Callable[[], object], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


def test_a_schedule_that_only_approaches_the_bound_of_its_range_is_allowed() -> None:
    for falling in (
        schedules.exponential(1.0, gamma=0.5),
        schedules.step(1.0, 10),
        schedules.inverse_sqrt(1.0, 5, 0.1),
    ):
        steepest.clip_by_global_norm(falling)
    steepest.sgd(schedules.exponential(1e-6, gamma=1.5))  # grows without an end


def test_a_plateau_warms_up_to_its_value_and_follows_its_metric_all_the_while() -> None:
    lr = schedules.ReduceOnPlateau(0.8, factor=0.5, patience=0, warmup=4, initial=0.4)
    assert [lr(t) for t in range(6)] == pytest.approx([0.4, 0.5, 0.6, 0.7, 0.8, 0.8])
    lr.step(1.0)
    assert lr.step(1.0) == 0.4 and [lr(t) for t in (0, 2, 4, 9)] == [0.4] * 4
    with pytest.raises(ValueError, match=re.escape("ReduceOnPlateau: initial must be in [0, 0.1], got 0.5.")):
        schedules.ReduceOnPlateau(0.1, warmup=4, initial=0.5)
    reason = "so no schedule can contain it. For a warm-up, write ReduceOnPlateau(…, warmup=…)."
    for compose in (
        lambda p: schedules.warmup(100, p),
        lambda p: schedules.scale(p, 0.5),
        lambda p: schedules.join([p], []),
    ):
        with pytest.raises(TypeError, match=re.escape(reason)):
            compose(lr)


# ---- averages whose decay arrives at 1


@pytest.mark.parametrize("engine", ["cpu", "arrays"])
def test_an_average_stands_still_once_its_decay_is_1(engine: str) -> None:
    w = np.zeros(3, np.float32)
    chain = steepest.chain(steepest.sgd(1.0), steepest.ema(schedules.linear(0.0, 1.0, steps=2)))
    optimizer = opt.Optimizer([w], chain, engine=engine)
    averages = []
    for _ in range(6):
        optimizer.step([-np.ones(3, np.float32)])
        averages.append(optimizer.state["0"]["average"][0])
    assert averages == [1.0, 1.5, 1.5, 1.5, 1.5, 1.5]  # decays 0, 0.5, 1, 1, …


@pytest.mark.parametrize("interval", [1, 2])
@pytest.mark.parametrize("engine", ["cpu", "arrays"])
def test_a_corrected_average_of_decay_1_is_the_mean_of_all_weights_as_just_below_1(engine: str, interval: int) -> None:
    def averages(decay: float) -> list[float]:
        w, found = np.zeros(2), []
        chain = steepest.chain(steepest.sgd(1.0), steepest.ema(decay, interval, bias_correction=True))
        optimizer = opt.Optimizer([w], chain, engine=engine)
        for _ in range(3 * interval):
            optimizer.step([-np.ones(2)])
            found.append(float(optimizer.state["0"]["average"][0]))
        return found[interval - 1 :: interval]

    assert averages(1.0) == pytest.approx([1.0, 1.5, 2.0] if interval == 1 else [2.0, 3.0, 4.0], rel=1e-15)
    assert averages(1 - 1e-9) == pytest.approx(averages(1.0), rel=1e-8)
