"""Every rule and option against its oracle: run eagerly, by the array engine and by the cpu engine."""

from __future__ import annotations

import functools
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import steepest as s
import steepest.numpy as opt
from tests import eager
from tests.oracles import ROWS, SHAPES, Arrays, ByTorch, Row

STEPS = 23
BY_NAME = {row.name: row for row in ROWS}


@functools.cache
def problem(dtype: str, shapes: tuple[tuple[int, ...], ...] = SHAPES) -> tuple[Arrays, list[Arrays]]:
    """Random parameters and gradients: the same numbers, rounded to float32, in both types."""
    rng = np.random.default_rng(7)

    def draw() -> Arrays:
        return [np.asarray(np.asarray(rng.normal(size=shape), dtype=np.float32), dtype=dtype) for shape in shapes]

    return draw(), [draw() for _ in range(STEPS)]


@functools.cache
def oracle(name: str, dtype: str) -> Arrays:
    return BY_NAME[name].oracle(*problem(dtype, BY_NAME[name].shapes))


def ours(row: Row, engine: str, params: Arrays, grads: list[Arrays]) -> Arrays:
    if engine == "eager" and row.joined:
        return eager.run_joined(row.chain, params, grads, row.compares)
    if engine == "eager":
        return [eager.run(row.chain, p, [step[i] for step in grads])[row.compares] for i, p in enumerate(params)]
    params = [p.copy() for p in params]
    optimizer = opt.Optimizer(params, row.chain, engine=engine)
    for step in grads:
        optimizer.step(step)
    return params if row.compares == "param" else [optimizer.state[str(i)][row.compares] for i in range(len(params))]


def difference(a: Arrays, b: Arrays) -> float:
    """The largest difference relative to the element, or to its tensor's rms: a parameter that happens to pass near zero
    carries the absolute error of the steps that brought it there."""
    worst = 0.0
    for x, y in zip(a, b, strict=True):
        assert x.shape == y.shape
        x, y = x.astype(np.float64), y.astype(np.float64)
        gap = np.abs(x - y)
        scale = np.maximum(np.abs(y), np.sqrt(np.mean(y**2)))
        worst = max(worst, float(np.max(gap / np.where(scale > 0, scale, 1.0))))
    return worst


def error(a: Arrays, exact: Arrays) -> float:
    """The root of the mean square over all elements, relative to theirs: unlike the largest error it is no lottery."""
    x, y = (np.concatenate([p.ravel().astype(np.float64) for p in arrays]) for arrays in (a, exact))
    return float(np.sqrt(np.mean((x - y) ** 2) / np.mean(y**2)))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
@pytest.mark.parametrize("engine", ["eager", "arrays", "cpu"])
def test_a_rule_agrees_with_its_oracle_in_float64(row: Row, engine: str) -> None:
    found = ours(row, engine, *problem("float64", row.shapes))
    assert difference(found, oracle(row.name, "float64")) <= 1e-12


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
@pytest.mark.parametrize("engine", ["arrays", "cpu"])
def test_a_rule_is_as_exact_in_float32_as_its_oracle(row: Row, engine: str) -> None:
    single = ours(row, engine, *problem("float32", row.shapes))
    exact, theirs = oracle(row.name, "float64"), oracle(row.name, "float32")
    assert all(p.dtype == np.float32 for p in single)
    assert difference(single, theirs) <= 1e-5
    assert error(single, exact) <= max(2 * error(theirs, exact), np.finfo(np.float32).eps)


@pytest.mark.parametrize("row", [row for row in ROWS if isinstance(row.oracle, ByTorch)], ids=lambda row: row.name)
def test_states_carry_the_names_and_values_that_torch_gives_them(row: Row) -> None:
    params, grads = problem("float64", row.shapes)
    _, theirs = row.oracle.run(params, grads)
    params = [p.copy() for p in params]
    optimizer = opt.Optimizer(params, row.chain, engine="arrays")
    for step in grads:
        optimizer.step(step)
    for index, states in enumerate(theirs):
        found = optimizer.state[str(index)]
        assert set(found) == {*states, "step"}
        assert found["step"] == STEPS
        for name, value in states.items():
            assert difference([np.asarray(found[name])], [value]) <= 1e-12, name


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("SGD", {}),
        ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.1, "weight_decay": 0.1}),
        ("Adagrad", {}),
        ("Adagrad", {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.1, "eps": 0.1}),
        ("RMSprop", {}),
        ("RMSprop", {"lr": 0.1, "alpha": 0.9, "eps": 0.1, "weight_decay": 0.1, "momentum": 0.9, "centered": True}),
        ("Adadelta", {}),
        ("Adadelta", {"lr": 0.1, "rho": 0.8, "eps": 0.1, "weight_decay": 0.1}),
        ("Adam", {}),
        ("Adam", {"lr": 0.1, "betas": (0.8, 0.9), "eps": 0.1, "weight_decay": 0.1, "amsgrad": True, "maximize": True}),
        ("AdamW", {}),
        ("AdamW", {"lr": 0.1, "betas": (0.8, 0.9), "eps": 0.1, "weight_decay": 0.1, "amsgrad": True}),
        ("Adamax", {}),
        ("Adamax", {"lr": 0.1, "betas": (0.8, 0.9), "eps": 0.1, "weight_decay": 0.1}),
        ("NAdam", {}),
        ("NAdam", {"lr": 0.1, "betas": (0.8, 0.9), "momentum_decay": 0.1, "decoupled_weight_decay": True}),
        ("RAdam", {}),
        ("RAdam", {"lr": 0.1, "betas": (0.8, 0.9), "weight_decay": 0.1, "decoupled_weight_decay": True}),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value) or "defaults",
)
def test_a_class_named_as_in_torch_takes_the_same_arguments_and_defaults(name: str, values: dict[str, Any]) -> None:
    params, grads = problem("float64")
    theirs = ByTorch(lambda p: getattr(torch.optim, name)(p, **values))(params, grads)
    params = [p.copy() for p in params]
    optimizer = getattr(opt, name)(params, engine="arrays", **values)
    for step in grads:
        optimizer.step(step)
    assert difference(params, theirs) <= 1e-12


@pytest.mark.parametrize("engine", ["eager", "arrays"])
@pytest.mark.parametrize("name", [n for n in BY_NAME if n.startswith(("lamb", "lars"))], ids=lambda name: name)
def test_a_layer_of_zero_weights_or_zero_gradient_is_treated_as_by_the_oracle(name: str, engine: str) -> None:
    row = BY_NAME[name]
    ones, none = np.full((3, 2), 0.5), np.zeros((3, 2))
    params, grads = [none, ones, none], [[ones, none, none], [none, none, ones]]
    found = ours(row, engine, params, grads)
    assert all(np.all(np.isfinite(p)) for p in found)
    assert difference(found, row.oracle(params, grads)) <= 1e-12


@pytest.mark.parametrize("name", list(s.OPTIMIZERS))
def test_maximizing_is_minimizing_the_negative(name: str) -> None:
    params, grads = problem("float64", ((4, 3),))
    up = eager.run(s.OPTIMIZERS[name](maximize=True), params[0], [g[0] for g in grads])
    down = eager.run(s.OPTIMIZERS[name](), params[0], [-g[0] for g in grads])
    np.testing.assert_array_equal(up["param"], down["param"])


def step_once(chain: s.Chain, param: np.ndarray, grad: np.ndarray) -> np.ndarray:
    param = param.copy()
    opt.Optimizer([param], chain, engine="arrays").step([grad])
    return param


def test_adam_moves_by_its_learning_rate_along_a_constant_gradient() -> None:
    w = np.zeros(3)
    optimizer = opt.Optimizer([w], s.adam(0.1, eps=0.0), engine="arrays")
    for t in range(1, 6):
        optimizer.step([np.array([1e-3, 1.0, 1e3])])
        np.testing.assert_allclose(w, -0.1 * t, rtol=1e-12)


def test_the_first_steps_of_rmsprop_and_adagrad_have_the_lengths_of_their_equations() -> None:
    one = np.array([3.0])
    np.testing.assert_allclose(step_once(s.rmsprop(0.1, eps=0.0), np.zeros(1), one), -0.1 / math.sqrt(0.01))
    w = np.zeros(1)
    optimizer = opt.Optimizer([w], s.adagrad(0.1, eps=0.0), engine="arrays")
    for t in range(1, 5):
        before = w.copy()
        optimizer.step([one])
        np.testing.assert_allclose(before - w, 0.1 / math.sqrt(t))


def test_epsilon_stands_outside_the_root_of_the_corrected_second_moment() -> None:
    """Keras' "epsilon hat" would make this first step 31.6 times smaller yet."""
    moved = step_once(s.adam(0.1, eps=1e-8), np.zeros(1), np.full(1, 1e-8))
    np.testing.assert_allclose(moved, -0.05, rtol=1e-12)


def test_a_rare_gradient_moves_adam_by_at_most_its_known_bound() -> None:
    """Kingma & Ba, Section 2.1: a lone gradient after a long silence moves by lr (1 - beta1) / sqrt(1 - beta2)."""
    grads = [np.zeros(1)] * 2000
    moved = eager.run(s.adam(0.1, (0.9, 0.99), eps=1e-30), np.zeros(1), [*grads, np.ones(1)])["param"]
    np.testing.assert_allclose(moved, -0.1 * 0.1 / math.sqrt(1e-2), rtol=1e-6)


def test_lion_moves_every_coordinate_by_its_learning_rate() -> None:
    rng = np.random.default_rng(2)
    w = np.zeros(50)
    optimizer = opt.Lion([w], lr=0.125, engine="arrays")
    for _ in range(20):
        before = w.copy()
        optimizer.step([rng.normal(size=50)])
        np.testing.assert_array_equal(np.abs(w - before), 0.125)


def test_decoupled_decay_shrinks_by_lr_times_decay_whatever_the_gradient() -> None:
    w, g = np.array([2.0, -3.0]), np.array([1.0, 1e6])
    plain, decayed = (step_once(s.adamw(0.1, weight_decay=d), w, g) for d in (0.0, 0.5))
    np.testing.assert_allclose(plain - decayed, 0.1 * 0.5 * w, rtol=1e-12)


@pytest.mark.parametrize(("smallest", "largest"), [(1.0, 10.0), (1.0, 100.0)])
def test_gradient_descent_contracts_a_quadratic_at_its_exact_rate(smallest: float, largest: float) -> None:
    curvature = np.array([smallest, largest])
    w = np.ones(2)
    optimizer = opt.SGD([w], lr=2 / (smallest + largest), engine="arrays")
    rate = (largest - smallest) / (largest + smallest)
    for t in range(1, 30):
        optimizer.step([curvature * w])
        np.testing.assert_allclose(np.abs(w), rate**t, rtol=1e-12)


@pytest.mark.parametrize(("times_limit", "converges"), [(0.99, True), (1.01, False)])
def test_heavy_ball_is_stable_up_to_its_known_learning_rate(times_limit: float, converges: bool) -> None:
    """Stable if and only if lr < 2 (1 + momentum) / curvature."""
    w = np.ones(1)
    optimizer = opt.SGD([w], lr=times_limit * 2 * 1.5 / 4.0, momentum=0.5, engine="arrays")
    for _ in range(1500):
        optimizer.step([4.0 * w])
    assert (abs(w[0]) < 1e-6) if converges else (abs(w[0]) > 1e3)


def test_lamb_moves_every_layer_by_the_learning_rate_relative_to_its_weights() -> None:
    w = np.random.default_rng(0).normal(size=(6, 5))
    after = step_once(s.lamb(0.01), w, np.random.default_rng(1).normal(size=(6, 5)))
    np.testing.assert_allclose(np.linalg.norm(after - w) / np.linalg.norm(w), 0.01)


def test_lamb_clamps_the_norm_of_the_weights_and_not_the_ratio() -> None:
    rng = np.random.default_rng(3)
    for scale, length in ((100.0, 2.0), (1e-3, 0.5), (1.0 / 6, 1.0)):
        w = np.full((6, 6), scale)
        moved = step_once(s.lamb(0.01, clamp=(0.5, 2.0)), w, rng.normal(size=(6, 6)))
        np.testing.assert_allclose(np.linalg.norm(moved - w), 0.01 * length)


def test_lars_moves_every_layer_by_the_trust_coefficient_relative_to_its_weights() -> None:
    rng = np.random.default_rng(4)
    w = rng.normal(size=(6, 5))
    moved = step_once(s.lars(2.0, weight_decay=0.1), w, 1e3 * rng.normal(size=(6, 5)))
    np.testing.assert_allclose(np.linalg.norm(moved - w) / np.linalg.norm(w), 2e-3)


@pytest.mark.parametrize("chain", [s.lamb(0.1), s.lars(0.1, trust_coefficient=1.0)], ids=["lamb", "lars"])
def test_the_trust_ratio_is_one_where_a_norm_is_zero(chain: s.Chain) -> None:
    moved = step_once(chain, np.zeros(4), np.ones(4))
    assert np.all(np.isfinite(moved)) and np.all(moved < 0)
    still = step_once(chain, np.ones(4), np.zeros(4))
    np.testing.assert_array_equal(still, np.ones(4))


def test_a_zero_gradient_moves_nothing_and_gives_no_nan() -> None:
    for name, recipe in s.OPTIMIZERS.items():
        moved = step_once(recipe(weight_decay=0.0) if name == "adamw" else recipe(), np.ones(4), np.zeros(4))
        np.testing.assert_array_equal(moved, np.ones(4), err_msg=name)


@pytest.mark.parametrize("beta2", [0.9, 0.98, 0.99, 0.999, 0.9999])
def test_radam_takes_momentum_steps_until_its_sixth(beta2: float) -> None:
    w = np.zeros(1)
    optimizer = opt.Optimizer([w], s.radam(0.1, (0.0, beta2), eps=0.0), engine="arrays")
    lengths = []
    for _ in range(6):
        before = w.copy()
        optimizer.step([np.array([2.0])])
        lengths.append(float((before - w)[0]))
    np.testing.assert_allclose(lengths[:5], 0.2)
    assert lengths[5] < 0.15


def test_radam_is_rectified_by_the_published_factor() -> None:
    """Under a constant gradient and without momentum a rectified step has the length lr * r(t)."""
    grads = [np.full(1, 3.0)] * 2000
    chain = s.radam(1.0, (0.0, 0.999), eps=0.0)
    w = np.zeros(1)
    optimizer = opt.Optimizer([w], chain, engine="arrays")
    lengths = [0.0]
    for grad in grads:
        before = w.copy()
        optimizer.step([grad])
        lengths.append(float((before - w)[0]))
    np.testing.assert_allclose([lengths[t] for t in (6, 100, 1000, 2000)], [0.02582, 0.2153, 0.6453, 0.8283], rtol=3e-4)


def test_lookahead_leaves_slow_weights_untouched_between_synchronisations() -> None:
    w = np.zeros(2)
    optimizer = opt.Optimizer([w], s.chain(s.sgd(1.0), s.lookahead(4, 0.5)), engine="arrays")
    slow = []
    for _ in range(8):
        optimizer.step([-np.ones(2)])
        slow.append(optimizer.state["0"]["slow"][0])
    assert slow == [0.0, 0.0, 0.0, 2.0, 2.0, 2.0, 2.0, 4.0]


def test_lookahead_synchronises_although_a_weight_was_infinite_before() -> None:
    """A multiplication by a 0/1 mask (Optax) would let 0 * inf into the weights between synchronisations."""
    w = np.ones(1)
    optimizer = opt.Optimizer([w], s.chain(s.sgd(1.0), s.lookahead(3, 0.5)), engine="arrays")
    optimizer.step([np.full(1, -np.inf)])
    assert w[0] == np.inf and optimizer.state["0"]["slow"][0] == 1.0


def test_lookahead_first_synchronises_to_the_mean_of_the_initial_and_the_kth_weights() -> None:
    start = np.array([1.0, 2.0])
    fast, w = start.copy(), start.copy()
    plain = opt.Optimizer([fast], s.sgd(0.1), engine="arrays")
    wrapped = opt.Optimizer([w], s.chain(s.sgd(0.1), s.lookahead(3, 0.5)), engine="arrays")
    for _ in range(3):
        plain.step([np.ones(2)])
        wrapped.step([np.ones(2)])
    np.testing.assert_allclose(w, (start + fast) / 2)
    np.testing.assert_array_equal(wrapped.state["0"]["slow"], w)


@pytest.mark.parametrize("corrected", [False, True])
def test_the_average_of_weights_that_stand_still_is_these_weights(corrected: bool) -> None:
    w = np.array([1.1, -0.3, 7e-5], dtype=np.float32)
    chain = s.chain(s.sgd(0.1), s.ema(0.9999, bias_correction=corrected))
    optimizer = opt.Optimizer([w], chain, engine="arrays")
    for _ in range(1000):
        optimizer.step([np.zeros(3, dtype=np.float32)])
    np.testing.assert_array_equal(optimizer.state["0"]["average"], w)


@pytest.mark.parametrize("name", ["adam", "adamax", "nadam", "radam", "lamb"])
def test_bias_corrections_are_finite_at_step_one_billion(name: str) -> None:
    w = np.ones(3)
    optimizer = opt.Optimizer([w], s.OPTIMIZERS[name](), engine="arrays")
    optimizer.step([np.ones(3)])
    state = optimizer.state_dict()
    state["state"]["0"]["step"] = 1e9
    optimizer.load_state_dict(state)
    optimizer.step([np.ones(3)])
    assert np.all(np.isfinite(w)) and np.all(w < 1)


def test_adam_fails_where_amsgrad_converges() -> None:
    """Reddi et al. (2018), Figure 1: Cx, -x, -x on [-1, 1] with C = 3; the optimum is -1."""
    ends = {}
    for amsgrad in (False, True):
        scale = s.adam(1.0, (0.0, 0.1), 0.0, amsgrad=amsgrad).links[0]
        state = SimpleNamespace(**{name: 0.0 for name, _ in scale.state})
        x = 0.5
        for t in range(1, 1001):
            gradient = 3.0 if t % 3 == 1 else -1.0
            update = scale.function(gradient, state, float(t), **dict(scale.values), **dict(scale.structure))
            x = min(max(x - 0.5 / math.sqrt(t) * float(update), -1.0), 1.0)
        ends[amsgrad] = x
    assert ends[False] > 0.95
    assert ends[True] < -0.95
