"""Every rule and option against its oracle: run eagerly, by the array engine and by the cpu engine."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import steepest as s
import steepest.numpy as opt
from tests import eager
from tests.oracles import ROWS, Row

SHAPES = [(4, 3), (5,), (), (2, 3, 2, 2), (1, 7)]
STEPS = 23


def problem(dtype: type, shapes: list[tuple[int, ...]] = SHAPES) -> tuple[list[np.ndarray], list[list[np.ndarray]]]:
    rng = np.random.default_rng(7)
    params = [np.asarray(rng.normal(size=shape), dtype=dtype) for shape in shapes]
    return params, [[np.asarray(rng.normal(size=x), dtype=dtype) for x in shapes] for _ in range(STEPS)]


def ours(row: Row, params: list[np.ndarray], grads: list[list[np.ndarray]], engine: str) -> list[np.ndarray]:
    params = [p.copy() for p in params]
    optimizer = opt.Optimizer(params, row.chain, engine=engine)
    for step in grads:
        optimizer.step(step)
    return params if row.compares == "param" else [optimizer.state[str(i)][row.compares] for i in range(len(params))]


def difference(a: list[np.ndarray], b: list[np.ndarray]) -> float:
    """The largest difference relative to the element, or to its tensor's rms: a parameter that happens to pass near zero
    carries the absolute error of the steps that brought it there."""
    worst = 0.0
    for x, y in zip(a, b, strict=True):
        x, y = x.astype(np.float64), y.astype(np.float64)
        scale = np.maximum(np.abs(y), np.sqrt(np.mean(y**2)))
        worst = max(worst, float(np.max(np.abs(x - y) / scale)))
    return worst


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
@pytest.mark.parametrize("engine", ["arrays", "cpu"])
def test_a_rule_agrees_with_its_oracle_in_float64(row: Row, engine: str) -> None:
    params, grads = problem(np.float64)
    assert difference(ours(row, params, grads, engine), row.oracle(params, grads)) <= 1e-12


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
@pytest.mark.parametrize("engine", ["arrays", "cpu"])
def test_a_rule_is_as_exact_in_float32_as_its_oracle(row: Row, engine: str) -> None:
    params, grads = problem(np.float32)
    exact = row.oracle([p.astype(np.float64) for p in params], [[g.astype(np.float64) for g in x] for x in grads])
    single = ours(row, params, grads, engine)
    theirs = row.oracle(params, grads)
    assert all(p.dtype == np.float32 for p in single)
    assert difference(single, theirs) <= 1e-5
    floor = 4 * np.finfo(np.float32).eps
    assert difference(single, exact) <= 2 * difference(theirs, exact) + floor


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
@pytest.mark.parametrize("shape", [(4, 3), (5,)])
def test_a_rule_run_eagerly_agrees_with_its_oracle(row: Row, shape: tuple[int, ...]) -> None:
    params, grads = problem(np.float64, [shape])
    found = eager.run(row.chain, params[0], [step[0] for step in grads])
    assert difference([found[row.compares]], row.oracle(params, grads)) <= 1e-12


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


def test_lamb_moves_every_layer_by_the_learning_rate_relative_to_its_weights() -> None:
    w = np.random.default_rng(0).normal(size=(6, 5))
    after = step_once(s.lamb(0.01), w, np.random.default_rng(1).normal(size=(6, 5)))
    np.testing.assert_allclose(np.linalg.norm(after - w) / np.linalg.norm(w), 0.01)


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


def test_lookahead_first_synchronises_to_the_mean_of_the_initial_and_the_kth_weights() -> None:
    start = np.array([1.0, 2.0])
    fast, w = start.copy(), start.copy()
    plain = opt.Optimizer([fast], s.sgd(0.1))
    wrapped = opt.Optimizer([w], s.chain(s.sgd(0.1), s.lookahead(3, 0.5)))
    for _ in range(3):
        plain.step([np.ones(2)])
        wrapped.step([np.ones(2)])
    np.testing.assert_allclose(w, (start + fast) / 2)
    np.testing.assert_array_equal(wrapped.state["0"]["slow"], w)


def test_agc_takes_slices_along_the_first_dimension_and_whole_vectors_as_units() -> None:
    rng = np.random.default_rng(0)
    for shape in ((6,), (4, 5), (4, 3, 2), (4, 3, 2, 2)):
        w, g = rng.normal(size=shape), 100 * rng.normal(size=shape)
        after = step_once(s.chain(s.adaptive_grad_clip(0.01), s.sgd(1.0)), w, g)
        axes = tuple(range(1, w.ndim)) if w.ndim > 1 else None
        lengths = np.sqrt(np.sum((after - w) ** 2, axis=axes)) / np.sqrt(np.sum(w**2, axis=axes))
        np.testing.assert_allclose(lengths, 0.01, rtol=1e-9)


def test_agc_along_the_last_axis_is_agc_of_the_transposed() -> None:
    rng = np.random.default_rng(0)
    w, g = rng.normal(size=(4, 5)), 100 * rng.normal(size=(4, 5))
    last = step_once(s.chain(s.adaptive_grad_clip(0.01, axis=-1), s.sgd(1.0)), w, g)
    first = step_once(s.chain(s.adaptive_grad_clip(0.01), s.sgd(1.0)), w.T.copy(), g.T.copy())
    np.testing.assert_allclose(last, first.T, rtol=1e-12)


@pytest.mark.parametrize("engine", ["arrays", "cpu"])
def test_a_norm_whose_square_overflows_float32_does_not(engine: str) -> None:
    g = np.full(4, 3e30, dtype=np.float32)
    w = np.zeros(4, dtype=np.float32)
    opt.Optimizer([w], s.chain(s.clip_by_global_norm(1.0), s.sgd(1.0)), engine=engine).step([g])
    np.testing.assert_allclose(w, -0.5, rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_norm_that_is_not_finite_flows_as_in_torch(bad: float) -> None:
    g = np.array([1.0, bad, -2.0])
    w = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
    w.grad = torch.from_numpy(g.copy())
    torch.nn.utils.clip_grad_norm_([w], 1.0)
    torch.optim.SGD([w], 1.0).step()
    after = step_once(s.chain(s.clip_by_global_norm(1.0), s.sgd(1.0)), np.zeros(3), g)
    np.testing.assert_array_equal(after, w.detach().numpy())


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
    """Reddi et al. (2018), Figure 1: Cx, -x, -x on [-1, 1]; the optimum is -1."""
    ends = {}
    for amsgrad in (False, True):
        x, m, v, largest = 0.5, 0.0, 0.0, 0.0
        scale = s.adam(1.0, (0.0, 0.1), 1e-12, amsgrad=amsgrad).links[0]
        states = {name: np.zeros(1) for name, _ in scale.state}
        holder = type("State", (), {})()
        for name, value in states.items():
            setattr(holder, name, value)
        for t in range(1, 1001):
            g = np.array([3.0 if t % 3 == 1 else -1.0])
            update = scale.function(g, holder, float(t), **dict(scale.values), **dict(scale.structure))
            x = float(np.clip(x - 0.5 / math.sqrt(t) * update[0], -1, 1))
        ends[amsgrad] = x
        del m, v, largest
    assert ends[False] > 0.95
    assert ends[True] < -0.95
