"""What is measured inside a step equals what NumPy says of the same step, and costs no bits and no bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import steepest as s
import steepest.numpy as opt
from steepest.monitor.records import DERIVED, MEASUREMENTS
from steepest.monitor.telemetry import ALL, STANDARD, available, check_names, watched
from steepest.plan.plan import Program
from steepest.plan.planner import plan

CHAINS = {
    "sgd": s.sgd(0.1),
    "momentum": s.sgd(0.1, momentum=0.9),
    "adamw": s.adamw(0.01),
    "rmsprop": s.rmsprop(0.01),
    "lamb": s.lamb(0.01, weight_decay=0.1),
    "lars": s.lars(0.1),
    "clip": s.chain(s.clip_by_global_norm(1.0), s.adamw(0.01)),
    "value then norm": s.chain(s.clip_by_value(-0.5, 0.5), s.clip_by_global_norm(1.0), s.sgd(0.1)),
    "agc": s.chain(s.adaptive_grad_clip(0.1), s.sgd(0.1, momentum=0.9)),
    "ema": s.chain(s.adam(0.01), s.ema(0.9)),
    "lookahead": s.chain(s.adam(0.01), s.lookahead(2)),
}


def params_and_grads(steps: int = 4) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    rng = np.random.default_rng(0)
    shapes = {"first.weight": (4, 3), "first.bias": (4,), "last": (2, 4)}
    params = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    grads = [{name: rng.normal(size=shape) for name, shape in shapes.items()} for _ in range(steps)]
    for one in grads:
        one["last"][0, 0] = 0.0
    return params, grads


def norms(arrays: dict[str, Any]) -> np.ndarray:
    return np.array([np.linalg.norm(a) for a in arrays.values()])


@pytest.mark.parametrize("engine", ["cpu", "arrays"])
@pytest.mark.parametrize("name", CHAINS)
def test_measurements_of_a_step_are_what_numpy_says_of_it(name: str, engine: str) -> None:
    params, grads = params_and_grads()
    optimizer = opt.Optimizer(params, CHAINS[name], engine=engine)
    optimizer.watch(lambda one: watched(one, 1, [*ALL, "distance"]))
    start = {n: p.copy() for n, p in params.items()}
    for g in grads:
        before = {n: p.copy() for n, p in params.items()}
        optimizer.step(g)
    moved = {n: params[n] - before[n] for n in params}
    found = optimizer.stepper.measured_tensors()
    expected = {
        "grad_norm": norms(g),
        "weight_norm": norms(before),
        "update_norm": norms(moved),
        "cosine": [-np.sum(moved[n] * g[n]) / np.linalg.norm(moved[n]) / np.linalg.norm(g[n]) for n in params],
        "zero_grads": [np.mean(v == 0) for v in g.values()],
        "nonfinite_grads": [0.0, 0.0, 0.0],
        "unmoved": [np.mean(v == 0) for v in moved.values()],
        "distance": norms({n: params[n] - start[n] for n in params}),
    }
    state = optimizer.state
    moment = next((m for m in ("exp_avg", "momentum_buffer") if m in state["last"]), None)
    second = next((m for m in ("exp_avg_sq", "square_avg") if m in state["last"]), None)
    if moment:
        expected["momentum_norm"] = norms({n: state[n][moment] for n in params})
    if second:
        expected["denominator"] = [np.mean(np.sqrt(state[n][second])) for n in params]
        expected["spike"] = [np.sqrt(np.mean(g[n] ** 2 / np.maximum(state[n][second], 1e-16))) for n in params]
    if "average" in state["last"]:
        expected["average_gap"] = norms({n: params[n] - state[n]["average"] for n in params})
    for measurement, values in expected.items():
        np.testing.assert_allclose(found.pop(measurement), values, rtol=1e-10, atol=1e-14, err_msg=measurement)
    assert set(found) <= {"clipped", "clipped_norm", "trust_ratio"}


def clipped(g: dict[str, Any], low: float, most: float) -> dict[str, Any]:
    g = {n: np.clip(v, -low, low) for n, v in g.items()}
    total = np.sqrt(sum(np.sum(v**2) for v in g.values()))
    return {n: v * min(1.0, most / (total + 1e-6)) for n, v in g.items()}


def test_clips_are_measured_by_what_they_changed() -> None:
    params, grads = params_and_grads(1)
    optimizer = opt.Optimizer(params, CHAINS["value then norm"])
    optimizer.watch(lambda one: watched(one, 1))
    optimizer.step(grads[0])
    after = clipped(grads[0], 0.5, 1.0)
    found = optimizer.stepper.measured_tensors()
    np.testing.assert_allclose(found["clipped_norm"], norms(after), rtol=1e-12)
    np.testing.assert_allclose(found["clipped"], [np.mean(after[n] != grads[0][n]) for n in params])
    assert found["clipped"][2] == 7 / 8  # the one gradient of 0 can't be clipped


def test_a_clip_behind_another_rule_is_compared_with_what_it_was_given() -> None:
    params, grads = params_and_grads(1)
    late = s.exclude(s.clip_by_value(-0.5, 0.5), "first.*")
    optimizer = opt.Optimizer(params, s.chain(s.accumulate_momentum(0.9), late, s.descend(0.1)))
    optimizer.watch(lambda one: watched(one, 1))
    optimizer.step(grads[0])
    found = optimizer.stepper.measured_tensors()
    np.testing.assert_allclose(found["clipped"], [np.nan, np.nan, np.mean(np.abs(grads[0]["last"]) > 0.5)])


def test_the_trust_ratio_is_the_one_that_lamb_applies() -> None:
    params, grads = params_and_grads(1)
    before = {n: p.copy() for n, p in params.items()}
    optimizer = opt.Optimizer(params, s.lamb(0.01))
    optimizer.watch(lambda one: watched(one, 1))
    optimizer.step(grads[0])
    found = optimizer.stepper.measured_tensors()
    direction = {n: g / (np.abs(g) + 1e-6) for n, g in grads[0].items()}  # Adam's first step
    np.testing.assert_allclose(found["trust_ratio"], norms(before) / norms(direction), rtol=1e-10)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["momentum", "adamw", "rmsprop", "ema", "lookahead"])
def test_watching_changes_no_bit_of_a_training_whose_steps_wait_for_no_sum(name: str, dtype: str) -> None:
    def trained(watch: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        params, grads = params_and_grads(7)
        params = {n: p.astype(dtype) for n, p in params.items()}
        optimizer = opt.Optimizer(params, CHAINS[name])
        optimizer.watch(watch)
        for g in grads:
            optimizer.step({n: v.astype(dtype) for n, v in g.items()})
        return params, optimizer.state

    plain, state = trained(None)
    seen, seen_state = trained(lambda one: watched(one, 3, ALL))
    for n in plain:
        assert plain[n].tobytes() == seen[n].tobytes()
        assert {k: np.asarray(v).tobytes() for k, v in state[n].items()} == {
            k: np.asarray(v).tobytes() for k, v in seen_state[n].items()
        }


def without_indices(program: Program) -> list[tuple[Any, ...]]:
    """The passes as what they load, store and compute: a graph that measures as well numbers the same values otherwise."""
    return [(one.loads, one.stores, len(one.body), len(one.reductions), one.barrier) for one in program.passes]


@pytest.mark.parametrize("name", CHAINS)
def test_a_step_that_records_nothing_runs_the_plain_program(name: str) -> None:
    chain = CHAINS[name]
    plain, seen = plan(chain), plan(watched(chain, 10, ALL))
    usual = seen.program(seen.usual)
    assert usual.measures == ()
    assert without_indices(usual) == without_indices(plain.program(plain.usual))
    assert usual.bytes_per_parameter() == plain.bytes_per_parameter()


@pytest.mark.parametrize("name", CHAINS)
def test_the_standard_measurements_add_no_byte_and_no_pass_to_a_recording_step(name: str) -> None:
    chain = CHAINS[name]
    plain, seen = plan(chain), plan(watched(chain, 1))
    assert seen.bytes_per_parameter() == plain.bytes_per_parameter()
    assert len(seen.program(seen.usual).passes) == len(plain.program(plain.usual).passes)


def test_two_programs_serve_all_measurements() -> None:
    seen = plan(watched(CHAINS["clip"], 10, ALL))
    assert len(seen.conditions) == 1


def test_the_plan_says_what_each_measurement_adds() -> None:
    text = str(plan(watched(s.sgd(0.1), 10, ["grad_norm", "update_norm", "cosine"])))
    assert "measured grad_norm = sqrt(r0)           adds 0 bytes\n" in text  # cosine needs the same sum
    assert "adds 0 bytes, 1 sum" in text.splitlines()[-1]


def test_tensors_are_measured_at_the_optimizers_steps_whatever_their_own_count() -> None:
    params, grads = params_and_grads(4)
    optimizer = opt.Optimizer(params, s.adam(0.01))
    optimizer.watch(lambda one: watched(one, 4))
    for number, g in enumerate(grads):
        optimizer.step({n: None if n == "last" and number < 2 else v for n, v in g.items()})
    np.testing.assert_allclose(optimizer.stepper.measured_tensors()["grad_norm"], norms(grads[-1]))


def test_a_tensor_without_a_gradient_is_not_measured() -> None:
    params, grads = params_and_grads(1)
    optimizer = opt.Optimizer(params, s.adam(0.01))
    optimizer.watch(lambda one: watched(one, 1))
    optimizer.step({**grads[0], "last": None})
    assert np.isnan(optimizer.stepper.measured_tensors()["grad_norm"]).tolist() == [False, False, True]


def test_nobody_watches_a_copy() -> None:
    import copy
    import pickle

    params, grads = params_and_grads(1)
    optimizer = opt.Optimizer(params, s.adam(0.01))
    optimizer.watch(lambda one: watched(one, 1))
    for made in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        made.step(grads[0])
        assert made.stepper.measured_tensors() == {}


def test_every_measurement_is_taken_or_derived_and_described() -> None:
    chain = s.chain(s.clip_by_global_norm(1.0), s.lamb(0.1), s.ema(0.9))
    taken = available(watched(chain, 1, [*MEASUREMENTS]), MEASUREMENTS)
    assert {*taken, *DERIVED} == set(MEASUREMENTS)
    assert set(STANDARD) < set(ALL) < set(MEASUREMENTS)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["grad_nrom"], "Monitor: unknown measurement 'grad_nrom'. Did you mean 'grad_norm'?"),
        (["trust_ratio"], "Monitor: measurements has 'trust_ratio', but no chain has a layer-wise ratio (lamb, lars, "
                          "scale_by_trust_ratio). Leave it out."),
        (["grad_norm", "clipped"], "Monitor: measurements has 'clipped', but no chain has a clip. Leave it out."),
        (["average_gap"], "Monitor: measurements has 'average_gap', but no chain keeps an average (ema). Leave it out."),
    ],
)  # fmt: skip
def test_a_measurement_of_something_that_does_not_exist_is_refused(names: list[str], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        check_names("Monitor", names, [s.sgd(0.1)])
    assert str(caught.value) == message


def test_a_measurement_may_not_change_a_state() -> None:
    def steal(state: Any) -> Any:
        state.exp_avg = state.exp_avg * 0
        return s.norm(state.exp_avg, per="tensor")

    with pytest.raises(
        TypeError, match=r"measure: state\.exp_avg can't be assigned\. A measurement only reads states\."
    ):
        plan(s.chain(s.adam(0.1), s.measure(stolen=steal)))
    with pytest.raises(
        AttributeError, match=r"measure: state has no 'slow'. The rules before it have: exp_avg, exp_avg_sq"
    ):
        plan(s.chain(s.adam(0.1), s.measure(one=lambda state: s.norm(state.slow, per="tensor"))))
