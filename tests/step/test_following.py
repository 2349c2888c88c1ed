"""Averages and slow weights follow a parameter also through steps in which it has no gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import steepest
import steepest.numpy as opt

torch = pytest.importorskip("torch")

import steepest.torch as torch_opt  # noqa: E402  # after the check that torch is there

GRADS = [0.5, -1.0, 0.25, 2.0, -0.5, 1.5, 0.75, -2.0, 1.0, -0.25]
Run = Callable[[steepest.Chain, Sequence[Sequence[bool]], str], tuple[list[list[float]], list[dict[str, float]]]]


def run_numpy(chain: steepest.Chain, present: Sequence[Sequence[bool]], engine: str) -> Any:
    params = [np.full(1, 1.0), np.full(1, -2.0)]
    optimizer = opt.Optimizer(params, chain, engine=engine)
    weights = []
    for number, here in enumerate(present):
        optimizer.step([np.full(1, GRADS[number] * (i + 1)) if h else None for i, h in enumerate(here)])
        weights.append([p.item() for p in params])
    states = [{k: np.asarray(v).item() for k, v in optimizer.state.get(str(i), {}).items()} for i in range(2)]
    return weights, states


def run_torch(chain: steepest.Chain, present: Sequence[Sequence[bool]], engine: str, released: bool = False) -> Any:
    params = [torch.nn.Parameter(torch.full((1,), v, dtype=torch.float64)) for v in (1.0, -2.0)]
    optimizer = torch_opt.Optimizer(params, chain, engine=engine)
    handle = torch_opt.release_gradients(optimizer) if released else None
    weights = []
    for number, here in enumerate(present):
        optimizer.zero_grad()
        loss = sum(p.sum() * GRADS[number] * (i + 1) for i, (p, h) in enumerate(zip(params, here, strict=True)) if h)
        if isinstance(loss, torch.Tensor):
            loss.backward()
        optimizer.step()
        weights.append([p.item() for p in params])
    if handle is not None:
        handle.remove()
    return weights, [{k: v.item() for k, v in optimizer.state[p].items()} for p in params]


def run_released(chain: steepest.Chain, present: Sequence[Sequence[bool]], engine: str) -> Any:
    return run_torch(chain, present, engine, released=True)


def moved(present: Sequence[Sequence[bool]], lr: float) -> list[list[float]]:
    """The weights of plain gradient descent."""
    now, found = [1.0, -2.0], []
    for number, here in enumerate(present):
        now = [w - lr * GRADS[number] * (i + 1) * h for i, (w, h) in enumerate(zip(now, here, strict=True))]
        found.append(now)
    return found


SOMETIMES = [
    (True, True),
    (True, False),
    (False, True),
    (False, False),
    (True, True),
    (False, True),
    (True, False),
    (True, True),
]
FROZEN = [(True, True)] * 3 + [(False, True)] * 6
LATE = [(True, False)] * 3 + [(True, True)] * 4
ABSENCES = [SOMETIMES, FROZEN, LATE]
RUNS = [run_numpy, run_torch, run_released]
ENGINES = ["cpu", "arrays"]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("present", ABSENCES)
def test_an_average_is_that_of_all_steps_as_torchs_averaged_model_has_it(run: Run, engine: str, present: Any) -> None:
    weights, states = run(steepest.sgd(0.05) | steepest.ema(0.9), present, engine)
    np.testing.assert_allclose(weights, moved(present, 0.05), rtol=1e-14)
    module = torch.nn.ParameterList([torch.tensor([v], dtype=torch.float64) for v in (1.0, -2.0)])
    averaged = torch.optim.swa_utils.AveragedModel(module, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9))
    for row in weights:
        for param, value in zip(module, row, strict=True):
            param.data.fill_(value)
        averaged.update_parameters(module)
    first = [next(n for n, here in enumerate(present) if here[i]) for i in range(2)]
    for i, (own, expected) in enumerate(zip(states, averaged.module, strict=True)):
        assert own["average"] == pytest.approx(expected.item(), rel=1e-12)
        assert own["step"] == sum(here[i] for here in present)
        assert first[i] >= 0


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("present", ABSENCES)
def test_lookahead_synchronises_all_parameters_at_the_same_steps(run: Run, engine: str, present: Any) -> None:
    weights, states = run(steepest.sgd(0.05) | steepest.lookahead(3, 0.5), present, engine)
    fast, slow, expected = [1.0, -2.0], [1.0, -2.0], []
    for number, here in enumerate(present, 1):
        fast = [w - 0.05 * GRADS[number - 1] * (i + 1) * h for i, (w, h) in enumerate(zip(fast, here, strict=True))]
        if number % 3 == 0:
            slow = [s + 0.5 * (f - s) for s, f in zip(slow, fast, strict=True)]
            fast = list(slow)
        expected.append(fast)
    np.testing.assert_allclose(weights, expected, rtol=1e-13)
    np.testing.assert_allclose([s["slow"] for s in states], slow, rtol=1e-13)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("run", RUNS)
def test_an_average_with_an_interval_and_correction_counts_the_optimizers_steps(run: Run, engine: str) -> None:
    chain = steepest.adam(0.05) | steepest.ema(0.9, interval=2, bias_correction=True)
    weights, states = run(chain, SOMETIMES, engine)
    for i in range(2):
        total = norm = 0.0
        for number, row in enumerate(weights, 1):
            if number % 2 == 0:
                total, norm = 0.9 * total + 0.1 * row[i], 0.9 * norm + 0.1
        assert states[i]["average"] == pytest.approx(total / norm, rel=1e-12)


@steepest.rule(mean=steepest.zeros, seen=steepest.scalar(0))
def mean_of_weights(param: Any, state: Any) -> Any:
    """A user's average over all steps, with a count of its own on the host."""
    state.seen = state.seen + 1
    state.mean = state.mean + (param - state.mean) / state.seen
    return param


@steepest.rule
def shrink(param: Any, *, by: steepest.Fraction = 0.5) -> Any:
    """A user's rule that changes weights and keeps no state."""
    return param * by


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("run", RUNS)
def test_a_users_rule_with_a_state_follows_and_one_without_leaves_a_frozen_weight_alone(run: Run, engine: str) -> None:
    weights, states = run(steepest.sgd(0.05) | shrink(0.5) | mean_of_weights(), FROZEN, engine)
    assert [row[0] for row in weights[2:]] == [weights[2][0]] * 7
    for i in range(2):
        assert states[i]["mean"] == pytest.approx(np.mean([row[i] for row in weights]), rel=1e-12)
        assert states[i]["seen"] == len(FROZEN)


def test_evaluation_with_the_average_of_a_frozen_layer_uses_its_weights() -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(1, 1, bias=False), torch.nn.Linear(1, 1, bias=False))
    optimizer = torch_opt.Optimizer(net.parameters(), steepest.sgd(0.05) | steepest.ema(0.9))
    for step in range(320):
        if step == 20:
            net[0].requires_grad_(False)
        optimizer.zero_grad()
        (net(torch.ones(1, 1)) - 3).square().sum().backward()
        optimizer.step()
    with optimizer.using("average"):
        assert net(torch.ones(1, 1)).item() == pytest.approx(3.0, abs=1e-4)


def test_a_resumed_run_goes_on_averaging_as_the_original() -> None:
    chain = steepest.adamw(0.05) | steepest.lookahead(3) | steepest.ema(0.9)
    whole, halves = ([np.full(1, 1.0), np.full(1, -2.0)] for _ in range(2))
    one = opt.Optimizer(whole, chain)
    first = opt.Optimizer(halves, chain)
    for number, here in enumerate(SOMETIMES):
        grads = [np.full(1, GRADS[number]) if h else None for h in here]
        one.step(grads)
        if number == 5:
            saved = first.state_dict()
            first = opt.Optimizer(halves, chain)
            first.load_state_dict(saved)
        first.step(grads)
    np.testing.assert_array_equal(whole, halves)
    assert str(one.state) == str(first.state)
