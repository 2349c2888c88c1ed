"""Every schedule against code or mathematics that this project did not write, at every step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from steepest import schedules as ours
from steepest.schedules import ReduceOnPlateau, Schedule
from tests.needed import require_module

torch = require_module("torch")
optax = require_module("optax")
jax = require_module("jax")
mpmath = require_module("mpmath")  # PyTorch brings it

theirs = torch.optim.lr_scheduler
LR = 0.3


def optimizer(lr: float = LR) -> Any:
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)


def by_recursion(make: Callable[[Any], Any], steps: int, lr: float = LR) -> list[float]:
    """What a training loop of ``steps`` steps uses."""
    sgd = optimizer(lr)
    scheduler = make(sgd)
    values = []
    for step in range(steps):
        values.append(sgd.param_groups[0]["lr"])
        sgd.step()
        if step < steps - 1:
            scheduler.step()
    return values


def by_closed_form(make: Callable[[Any], Any], steps: int) -> list[float]:
    """PyTorch's own closed form, which does not drift."""
    scheduler = make(optimizer())
    values = []
    for scheduler.last_epoch in range(steps):
        values += scheduler._get_closed_form_lr()
    return values


TORCH: dict[str, tuple[Schedule, Callable[..., list[float]], Callable[[Any], Any], int]] = {
    "step": (ours.step(LR, 7, gamma=0.93), by_closed_form, lambda o: theirs.StepLR(o, 7, gamma=0.93), 5000),
    "step, recursive": (ours.step(LR, 100, gamma=0.5), by_recursion, lambda o: theirs.StepLR(o, 100, gamma=0.5), 3000),
    "exponential": (ours.exponential(LR, 0.999), by_closed_form, lambda o: theirs.ExponentialLR(o, 0.999), 5000),
    "exponential, recursive": (
        ours.exponential(LR, gamma=0.99),
        by_recursion,
        lambda o: theirs.ExponentialLR(o, gamma=0.99),
        2000,
    ),
    "multi_step": (
        ours.multi_step(LR, [1, 2, 1000, 2999]),
        by_closed_form,
        lambda o: theirs.MultiStepLR(o, [1, 2, 1000, 2999]),
        3001,
    ),
    "multi_step, recursive": (
        ours.multi_step(LR, [30, 80], gamma=0.3),
        by_recursion,
        lambda o: theirs.MultiStepLR(o, [30, 80], gamma=0.3),
        200,
    ),
    "cosine": (
        ours.cosine(LR, 4000),
        by_closed_form,
        lambda o: theirs.CosineAnnealingLR(o, T_max=4000),
        4001,
    ),
    "cosine, with a final value": (
        ours.cosine(LR, 3000, final=0.01),
        by_closed_form,
        lambda o: theirs.CosineAnnealingLR(o, T_max=3000, eta_min=0.01),
        3001,
    ),
    "linear": (
        ours.linear(LR / 3, LR, 1500),
        by_closed_form,
        lambda o: theirs.LinearLR(o, start_factor=1 / 3, total_iters=1500),
        2000,
    ),
    "warmup of a constant": (
        ours.warmup(5, LR, initial=LR / 3),
        by_recursion,
        lambda o: theirs.LinearLR(o),
        20,
    ),
    "polynomial, cubic": (
        ours.polynomial(LR, 0.0, 1000, power=3.0),
        by_closed_form,
        lambda o: theirs.PolynomialLR(o, total_iters=1000, power=3.0),
        2000,
    ),
    "polynomial, root": (
        ours.polynomial(LR, 0.0, 1000, power=0.5),
        by_closed_form,
        lambda o: theirs.PolynomialLR(o, total_iters=1000, power=0.5),
        2000,
    ),
    "warm_restarts": (
        ours.warm_restarts(LR, T_0=37),
        by_recursion,
        lambda o: theirs.CosineAnnealingWarmRestarts(o, T_0=37),
        2000,
    ),
    "warm_restarts, T_0 1": (
        ours.warm_restarts(LR, T_0=1, T_mult=3),
        by_recursion,
        lambda o: theirs.CosineAnnealingWarmRestarts(o, T_0=1, T_mult=3),
        3000,
    ),
    "warm_restarts, doubling": (
        ours.warm_restarts(LR, T_0=10, T_mult=2, final=0.001),
        by_recursion,
        lambda o: theirs.CosineAnnealingWarmRestarts(o, T_0=10, T_mult=2, eta_min=0.001),
        5000,
    ),
    "cyclic": (
        ours.cyclic(0.1, LR, step_size_up=37),
        by_recursion,
        lambda o: theirs.CyclicLR(o, 0.1, LR, step_size_up=37, cycle_momentum=False),
        3000,
    ),
    "cyclic, uneven": (
        ours.cyclic(0.1, LR, step_size_up=10, step_size_down=31),
        by_recursion,
        lambda o: theirs.CyclicLR(o, 0.1, LR, step_size_up=10, step_size_down=31, cycle_momentum=False),
        3000,
    ),
    "cyclic, triangular2": (
        ours.cyclic(0.1, LR, step_size_up=50, mode="triangular2"),
        by_recursion,
        lambda o: theirs.CyclicLR(o, 0.1, LR, step_size_up=50, mode="triangular2", cycle_momentum=False),
        3000,
    ),
    "cyclic, exp_range": (
        ours.cyclic(0.1, LR, step_size_up=50, mode="exp_range", gamma=0.999),
        by_recursion,
        lambda o: theirs.CyclicLR(o, 0.1, LR, 50, mode="exp_range", gamma=0.999, cycle_momentum=False),
        3000,
    ),
    "one_cycle": (
        ours.one_cycle(LR, 2000),
        by_recursion,
        lambda o: theirs.OneCycleLR(o, LR, total_steps=2000, cycle_momentum=False),
        2000,
    ),
    "one_cycle, ends between two steps": (
        ours.one_cycle(LR, 997, pct_start=0.123),
        by_recursion,
        lambda o: theirs.OneCycleLR(o, LR, total_steps=997, pct_start=0.123, cycle_momentum=False),
        997,
    ),
    "one_cycle, no rise": (
        ours.one_cycle(LR, 100, pct_start=0.0),
        by_recursion,
        lambda o: theirs.OneCycleLR(o, LR, total_steps=100, pct_start=0.0, cycle_momentum=False),
        100,
    ),
    "one_cycle, only a rise": (
        ours.one_cycle(LR, 100, pct_start=1.0),
        by_recursion,
        lambda o: theirs.OneCycleLR(o, LR, total_steps=100, pct_start=1.0, cycle_momentum=False),
        100,
    ),
    "one_cycle, three phases": (
        ours.one_cycle(LR, 1500, pct_start=0.4, three_phase=True),
        by_recursion,
        lambda o: theirs.OneCycleLR(o, LR, total_steps=1500, pct_start=0.4, three_phase=True, cycle_momentum=False),
        1500,
    ),
    "one_cycle, linear": (
        ours.one_cycle(LR, 1000, shape="linear", div_factor=10.0, final_div_factor=10.0),
        by_recursion,
        lambda o: theirs.OneCycleLR(
            o, LR, 1000, anneal_strategy="linear", div_factor=10.0, final_div_factor=10.0, cycle_momentum=False
        ),
        1000,
    ),
    "one_cycle, linear in three phases": (
        ours.one_cycle(LR, 1000, 0.25, shape="linear", final_div_factor=10.0, three_phase=True),
        by_recursion,
        lambda o: theirs.OneCycleLR(
            o,
            LR,
            1000,
            pct_start=0.25,
            anneal_strategy="linear",
            final_div_factor=10.0,
            three_phase=True,
            cycle_momentum=False,
        ),
        1000,
    ),
}


@pytest.mark.parametrize("row", TORCH.values(), ids=TORCH.keys())
def test_a_schedule_is_pytorchs_at_every_step(row: tuple[Schedule, Any, Any, int]) -> None:
    schedule, run, make, steps = row
    np.testing.assert_allclose([schedule(t) for t in range(steps)], run(make, steps), rtol=1e-12, atol=0)


def test_the_last_rate_of_one_cycle_is_its_quotient_where_pytorchs_line_rounds_it() -> None:
    final = LR / 25 / 1e4
    theirs_last = by_recursion(
        lambda o: theirs.OneCycleLR(o, LR, total_steps=1000, anneal_strategy="linear", cycle_momentum=False), 1000
    )[-1]
    assert ours.one_cycle(LR, 1000, shape="linear")(999) == final
    assert theirs_last != final and math.isclose(theirs_last, final, rel_tol=1e-10)


@pytest.fixture
def in_float64() -> Iterator[None]:
    """Optax computes in float32 otherwise."""
    before = jax.config.read("jax_enable_x64")
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


OPTAX: dict[str, tuple[Schedule, Callable[[], Any], int]] = {
    "constant": (ours.constant(LR), lambda: optax.constant_schedule(LR), 100),
    "linear": (ours.linear(0.1, LR, 700), lambda: optax.linear_schedule(0.1, LR, 700), 1000),
    "linear, falling": (ours.linear(LR, 0.0, 700), lambda: optax.linear_schedule(LR, 0.0, 700), 1000),
    "polynomial": (ours.polynomial(LR, 0.01, 500, 2.5), lambda: optax.polynomial_schedule(LR, 0.01, 2.5, 500), 1000),
    "exponential": (ours.exponential(LR, 0.5, steps=30), lambda: optax.exponential_decay(LR, 30, 0.5), 1000),
    "exponential, staircase": (
        ours.exponential(LR, 0.9, steps=7, staircase=True, final=0.01),
        lambda: optax.exponential_decay(LR, 7, 0.9, staircase=True, end_value=0.01),
        1000,
    ),
    "exponential, growing": (
        ours.exponential(1e-6, 10.0, steps=100, final=1.0),
        lambda: optax.exponential_decay(1e-6, 100, 10.0, end_value=1.0),
        1000,
    ),
    "piecewise": (
        ours.piecewise(LR, [1, 10, 500], [0.5, 3.0, 0.1]),
        lambda: optax.piecewise_constant_schedule(LR, {1: 0.5, 10: 3.0, 500: 0.1}),
        1000,
    ),
    "cosine": (
        ours.cosine(LR, 1000, warmup=100, initial=0.01, final=0.003),
        lambda: optax.warmup_cosine_decay_schedule(0.01, LR, 100, 1000, 0.003),
        1200,
    ),
    "cosine from 0": (
        ours.cosine(LR, 1000, warmup=333, final=0.003),
        lambda: optax.warmup_cosine_decay_schedule(0.0, LR, 333, 1000, 0.003),
        1200,
    ),
    "warmup then exponential": (
        ours.warmup(50, ours.exponential(LR, 0.5, steps=100), initial=0.1),
        lambda: optax.warmup_exponential_decay_schedule(0.1, LR, 50, 100, 0.5),
        1000,
    ),
    "join": (
        ours.join([ours.linear(0.1, LR, 50), LR, ours.cosine(LR, 100, final=0.02)], [50, 200]),
        lambda: optax.join_schedules(
            [
                optax.linear_schedule(0.1, LR, 50),
                optax.constant_schedule(LR),
                optax.cosine_decay_schedule(LR, 100, alpha=0.02 / LR),
            ],
            [50, 200],
        ),
        400,
    ),
    "warm restarts with a rise each": (
        ours.cosine(LR, 40, 10, final=0.01).then(ours.cosine(LR / 2, 80, 10, final=0.01), at=40),
        lambda: optax.sgdr_schedule(
            [
                {"init_value": 0.0, "peak_value": peak, "warmup_steps": 10, "decay_steps": steps, "end_value": 0.01}
                for peak, steps in [(LR, 40), (LR / 2, 80)]
            ]
        ),
        120,
    ),
}


@pytest.mark.parametrize("row", OPTAX.values(), ids=OPTAX.keys())
def test_a_schedule_is_optaxs_at_every_step(row: tuple[Schedule, Any, int], in_float64: None) -> None:
    schedule, make, steps = row
    expected = np.broadcast_to(jax.vmap(make())(jax.numpy.arange(steps)), (steps,))
    assert expected.dtype == np.float64
    np.testing.assert_allclose(schedule.values(steps), expected, rtol=1e-12, atol=0)


def rising(x: Any, peak: Any, low: Any, shape: str) -> Any:
    if shape == "linear":
        return low + (peak - low) * x
    if shape == "cosine":
        return low + (peak - low) * (1 - mpmath.cos(mpmath.pi * x)) / 2
    return low * (peak / low) ** x


LEFT = {
    "linear": lambda x: 1 - x,
    "cosine": lambda x: (1 + mpmath.cos(mpmath.pi * x)) / 2,
    "1-sqrt": lambda x: 1 - mpmath.sqrt(x),
}


@pytest.mark.parametrize("shape", LEFT)
def test_wsd_is_its_equation_in_fifty_digits(shape: Any) -> None:
    schedule = ours.wsd(LR, 1000, 100, 300, initial=0.01, final=0.001, shape=shape)
    with mpmath.workdps(50):
        peak, low, end = map(mpmath.mpf, (LR, 0.01, 0.001))
        for t in range(1100):
            x = mpmath.mpf(min(max(t - 700, 0), 300)) / 300
            exact = low + (peak - low) * t / 100 if t < 100 else end + (peak - end) * LEFT[shape](x)
            assert math.isclose(schedule(t), exact, rel_tol=1e-13), t


@pytest.mark.parametrize("shape", ["linear", "exponential", "cosine"])
def test_warmup_is_its_equation_in_fifty_digits(shape: Any) -> None:
    schedule = ours.warmup(1000, ours.step(LR, 100), initial=0.001, shape=shape)
    with mpmath.workdps(50):
        for t in range(1000):
            exact = rising(mpmath.mpf(t) / 1000, mpmath.mpf(LR), mpmath.mpf(0.001), shape)
            assert math.isclose(schedule(t), exact, rel_tol=1e-13), t
    assert [schedule(t) for t in (1000, 1099)] == [LR, LR]
    assert schedule(1100) == LR * 0.1


def test_inverse_sqrt_and_exponential_are_their_equations_in_fifty_digits() -> None:
    root, decay = ours.inverse_sqrt(LR, 400), ours.exponential(LR, rate=0.003)
    stairs = ours.exponential(LR, rate=0.2, steps=30, staircase=True)
    with mpmath.workdps(50):
        peak = mpmath.mpf(LR)
        for t in range(3000):
            # Vaswani et al.: min(t**-0.5, t * warmup**-1.5), scaled to the peak
            exact = peak * min(mpmath.mpf(400) / t, (mpmath.mpf(t) / 400) ** 2) ** 0.5 if t else 0
            assert math.isclose(root(t), exact, rel_tol=1e-14), t
            assert math.isclose(decay(t), peak * mpmath.exp(-mpmath.mpf(0.003) * t), rel_tol=1e-14), t
            assert math.isclose(stairs(t), peak * mpmath.exp(-mpmath.mpf(0.2) * (t // 30)), rel_tol=1e-14), t


metrics = st.one_of(st.floats(0.01, 3.0), st.sampled_from([1.0, 0.9999, 0.9998, 1.0001, math.nan, math.inf, -1.0]))


@given(
    st.lists(metrics, max_size=60),
    st.fixed_dictionaries(
        {},
        optional={
            "mode": st.sampled_from(["min", "max"]),
            "factor": st.floats(0.1, 0.9),
            "patience": st.integers(0, 4),
            "threshold": st.sampled_from([0.0, 1e-4, 0.1]),
            "threshold_mode": st.sampled_from(["rel", "abs"]),
            "cooldown": st.integers(0, 4),
            "min_lr": st.sampled_from([0.0, 0.05, 1.0]),
            "eps": st.sampled_from([0.0, 1e-8, 0.05]),
        },
    ),
)
def test_reduce_on_plateau_is_pytorchs_for_any_metrics(measured: list[float], arguments: dict[str, Any]) -> None:
    sgd = optimizer()
    scheduler = theirs.ReduceLROnPlateau(sgd, **arguments)
    plateau = ReduceOnPlateau(LR, **arguments)
    for metric in measured:
        scheduler.step(metric)
        assert plateau.step(metric) == sgd.param_groups[0]["lr"]
        state = plateau.state_dict()
        assert state == {name: scheduler.state_dict()[name] for name in state if name != "lr"} | {"lr": plateau.lr}
