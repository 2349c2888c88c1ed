"""The engines: the compiled one against array operations, both against rules run by hand, and what a step promises."""

from __future__ import annotations

import ast
import math
import re
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings, strategies as st

import steepest
import steepest.numpy as opt
from steepest import Chain, Real, chain, rule, zeros
from steepest.engines.arrays import ArrayEngine
from steepest.engines.numba import engine, kernels
from steepest.engines.numba.frame import source
from steepest.engines.tensors import Tensor
from steepest.plan.planner import plan
from steepest.step.stepper import Stepper
from tests.strategies import (
    ALL,
    ELEMENTWISE,
    PER_MODEL,
    PER_TENSOR,
    PER_UNIT,
    Array,
    Eager,
    chains,
    seeds,
    shapes,
    values,
)

Grads = Sequence[Array | None]


def trained(
    params: list[Array], steps: Sequence[Grads], made: Chain, engine: str
) -> tuple[list[Array], dict[str, Any]]:
    """Copies of the parameters after the steps, and all states."""
    own = [np.array(p, order="K") for p in params]
    optimizer = opt.Optimizer(own, made, engine=engine)
    for grads in steps:
        try:
            optimizer.step(grads)
        except FloatingPointError:
            break
    return own, optimizer.state


def everything(result: tuple[list[Array], dict[str, Any]]) -> dict[str, Array]:
    params, state = result
    found = {f"param {i}": p for i, p in enumerate(params)}
    return found | {f"{n} {k}": np.asarray(v) for n, states in state.items() for k, v in states.items()}


def assert_same_bits(a: dict[str, Array], b: dict[str, Array]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name, strict=True)
        numbers = ~np.isnan(a[name])
        assert np.array_equal(np.signbit(a[name])[numbers], np.signbit(b[name])[numbers]), f"{name}: the sign of a zero"


def assert_close(a: dict[str, Array], b: dict[str, Array], relative: float) -> None:
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_allclose(a[name], b[name], rtol=relative, atol=relative, err_msg=name, strict=True)


def drawn_steps(seed: int, forms: list[tuple[int, ...]], count: int, dtype: Any, special: bool) -> list[Grads]:
    rng = np.random.default_rng(seed)
    made: list[Grads] = []
    for step in range(count):
        grads: list[Array | None] = []
        for i, shape in enumerate(forms):
            absent = rng.random() < 0.2
            grads.append(None if absent else values(seed + 31 * step + i, shape, dtype, special))
        made.append(grads)
    return made


# ---- the compiled engine and array operations


FAST = [ELEMENTWISE[i] for i in (0, 1, 4, 6, 8, 10, 12, 16, 17)]
REDUCING = [*FAST, *PER_TENSOR, *PER_UNIT, *PER_MODEL]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(made=chains(FAST, most=3, wrappers=1), forms=shapes(3), seed=seeds, special=st.booleans())
@settings(max_examples=6)
def test_without_a_reduction_both_engines_give_the_same_bits(
    dtype: Any, made: Chain, forms: list[tuple[int, ...]], seed: int, special: bool
) -> None:
    params = [values(seed + 7 + i, shape, dtype) for i, shape in enumerate(forms)]
    steps = drawn_steps(seed, forms, 3, dtype, special)
    compiled, arrays = (everything(trained(params, steps, made, engine)) for engine in ("cpu", "arrays"))
    assert_same_bits(compiled, arrays)


@pytest.mark.parametrize("name", range(len(ELEMENTWISE)))
def test_every_elementwise_rule_gives_the_same_bits_on_both_engines_with_special_values(name: int) -> None:
    made = chain(ELEMENTWISE[name](), steepest.descend(0.1))
    params = [values(1, (4, 9), np.float32), values(2, (4, 9), np.float32, special=True)]
    steps = drawn_steps(3, [(4, 9), (4, 9)], 4, np.float32, special=True)
    compiled, arrays = (everything(trained(params, steps, made, engine)) for engine in ("cpu", "arrays"))
    assert_same_bits(compiled, arrays)


@pytest.mark.parametrize(("dtype", "relative"), [(np.float32, 3e-6), (np.float64, 1e-12)])
@given(made=chains(REDUCING, most=3, wrappers=1), forms=shapes(3), seed=seeds)
@settings(max_examples=6)
def test_with_reductions_both_engines_agree_to_rounding(
    dtype: Any, relative: float, made: Chain, forms: list[tuple[int, ...]], seed: int
) -> None:
    params = [values(seed + 7 + i, shape, dtype) for i, shape in enumerate(forms)]
    steps = drawn_steps(seed, forms, 3, dtype, special=False)
    compiled, arrays = (everything(trained(params, steps, made, engine)) for engine in ("cpu", "arrays"))
    assert_close(compiled, arrays, relative)


@pytest.mark.parametrize("number", range(len(PER_TENSOR) + len(PER_UNIT) + len(PER_MODEL)))
def test_nan_and_infinity_reach_the_same_places_through_every_reduction(number: int) -> None:
    made = chain([*PER_TENSOR, *PER_UNIT, *PER_MODEL][number](), steepest.descend(0.1))
    forms: list[tuple[int, ...]] = [(4, 3), (5,), (), (0,), (2, 3, 2, 2)]
    params = [values(i, shape) for i, shape in enumerate(forms)]
    for odd in (np.nan, np.inf, -np.inf, 1e200):
        grads = [values(10 + i, shape) for i, shape in enumerate(forms)]
        grads[0][1, 2] = odd
        compiled, arrays = (everything(trained(params, [grads], made, engine)) for engine in ("cpu", "arrays"))
        assert_close(compiled, arrays, 1e-12)


def test_the_maximum_over_a_unit_without_elements_is_minus_infinity() -> None:
    @rule
    def largest(update: Any) -> Any:
        return update - steepest.max(update, per="unit")

    one = plan(chain(largest(), steepest.descend(0.1)))
    program = one.program(one.usual)
    bound = ArrayEngine().bind(program, [Tensor("w", 0, {"param": np.ones((3, 0)), "grad": np.ones((3, 0))})], [0])
    bound.run(0, np.zeros((1, len(program.scalars))))
    (value,) = bound.reduced[0].values()
    np.testing.assert_array_equal(value, np.full((3, 1), -np.inf))


# ---- rules run by hand


@given(made=chains(ALL, most=4), shape=shapes(1), seed=seeds, special=st.booleans())
@settings(max_examples=150)
@example(chain(steepest.clip_by_block_rms(0.5), steepest.descend(0.1)), [(0,)], 1, False)
def test_the_array_engine_gives_what_the_rules_give_by_hand(
    made: Chain, shape: list[tuple[int, ...]], seed: int, special: bool
) -> None:
    param = values(seed + 1, shape[0])
    guarded = bool(plan(made).trace.guards)  # by hand a guard that fails raises
    steps = [[values(seed + 2 + i, shape[0], special=special and i == 2)] for i in range(2 if guarded else 3)]
    by_hand = Eager(made, param)
    for (grad,) in steps:
        by_hand.step(grad)
    params, _ = trained([param], steps, made, "arrays")
    np.testing.assert_allclose(params[0], by_hand.param, rtol=1e-9, atol=1e-12, strict=True)


# ---- rows, threads, layouts


def big(shape: tuple[int, ...], dtype: Any = np.float32) -> tuple[list[Array], list[Grads]]:
    forms = [shape, (300,), (3, 2), (17, 4)]
    params = [values(i, form, dtype) for i, form in enumerate(forms)]
    return params, [[values(50 * s + i, form, dtype) for i, form in enumerate(forms)] for s in range(1, 4)]


MANY_ROWS = {
    "adamw": steepest.adamw(0.1),
    "lamb after a global norm": chain(steepest.clip_by_global_norm(1.0), steepest.lamb(0.1, weight_decay=0.01)),
    "largest element": chain(steepest.clip_by_global_norm(0.5, math.inf), steepest.sgd(0.1, momentum=0.9)),
    "units": chain(steepest.adaptive_grad_clip(0.05), steepest.clip_by_global_norm(1.0), steepest.lamb(0.1)),
}


@pytest.mark.parametrize("name", MANY_ROWS)
@pytest.mark.parametrize("row", [16, 1 << 18])
def test_any_number_of_threads_gives_the_same_bits(name: str, row: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "ROW", row)
    monkeypatch.setattr(engine, "ALONE", 0)
    params, steps = big((50, 13))
    results = []
    for threads in (1, 2, 3):
        monkeypatch.setenv("STEEPEST_NUM_THREADS", str(threads))
        results += [everything(trained(params, steps, MANY_ROWS[name], "cpu")) for _ in range(3)]
    for other in results[1:]:
        assert_same_bits(results[0], other)
    arrays = everything(trained(params, steps, MANY_ROWS[name], "arrays"))
    assert_close(results[0], arrays, 3e-6)


def strided(seed: int, layout: str, dtype: Any = np.float64) -> Array:
    base = values(seed, (12, 10), dtype)
    return {
        "C": lambda: base[:6, :5].copy(),
        "Fortran": lambda: np.asfortranarray(base[:6, :5]),
        "transposed": lambda: base[:5, :6].copy().T,
        "strided": lambda: base[::2, ::2],
        "reversed": lambda: base[5::-1, 4::-1],
        "part": lambda: base[:6, :5],
    }[layout]()


LAYOUTS = ["C", "Fortran", "transposed", "strided", "reversed", "part"]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["adamw", "units"])
def test_any_layout_of_parameters_and_gradients_gives_the_same_numbers(layout: str, name: str) -> None:
    for of_gradient in LAYOUTS:
        expected = np.ascontiguousarray(strided(1, layout))
        steps = [[strided(2 + i, of_gradient)] for i in range(3)]
        plain = opt.Optimizer([expected], MANY_ROWS[name])
        param = strided(1, layout)
        optimizer = opt.Optimizer([param], MANY_ROWS[name])
        for grads in steps:
            before = grads[0].copy()
            optimizer.step(grads)
            plain.step([np.ascontiguousarray(grads[0])])
            np.testing.assert_array_equal(grads[0], before)
        np.testing.assert_allclose(param, expected, rtol=1e-12)


def test_a_unit_that_is_known_on_some_steps_only_is_right_in_every_layout() -> None:
    @rule
    def sometimes(update: Any, step: Any) -> Any:
        return steepest.where(step % 2 == 0, update / steepest.norm(update, per="unit", axis=-1), update)

    made = chain(sometimes(), steepest.descend(0.1))
    params = [values(1, (3, 4)), np.asfortranarray(values(2, (3, 4)))]
    steps = [[values(5 + i, (3, 4)), values(9 + i, (3, 4))] for i in range(3)]
    auto, arrays = (everything(trained(params, steps, made, engine)) for engine in ("auto", "arrays"))
    assert_close(auto, arrays, 1e-12)


# ---- groups


def grouped(groups: list[tuple[list[Array], Chain]], grads: list[Array], engine: str = "auto") -> opt.Optimizer:
    optimizer = opt.Optimizer([{"params": params, "chain": made} for params, made in groups], engine=engine)
    optimizer.step(grads)
    return optimizer


@pytest.mark.parametrize("engine", ["cpu", "arrays"])
@pytest.mark.parametrize("norm_type", [1, 2, 3, math.inf])
def test_a_global_norm_spans_groups_with_different_chains(engine: str, norm_type: float) -> None:
    grads = [values(i, (4, 3)) for i in range(3)]
    params = [values(7 + i, (4, 3)) for i in range(3)]
    total = np.linalg.norm(np.concatenate([g.ravel() for g in grads]), norm_type)
    clip = steepest.clip_by_global_norm(0.5, norm_type)
    own = [p.copy() for p in params]
    first = (own[:1], chain(clip, steepest.sgd(0.1)))
    second = (own[1:], chain(clip, steepest.lion(0.1)))
    optimizer = grouped([first, second], grads, engine)
    np.testing.assert_allclose(own[0], params[0] - 0.1 * grads[0] * 0.5 / (total + 1e-6), rtol=1e-12)
    average = 0.01 * grads[1] * 0.5 / (total + 1e-6)
    np.testing.assert_allclose(optimizer.state["1"]["exp_avg"], average, rtol=1e-12)


def test_groups_that_measure_different_things_do_not_add_them_up() -> None:
    a, b = np.array([3.0, 4.0]), np.array([1.0])
    of_update = steepest.measure(grad_norm=lambda update: steepest.norm(update, per="model"))
    of_param = steepest.measure(weight=lambda param: steepest.sum(param, per="model"))
    first, second = chain(of_update, steepest.sgd(0.0)), chain(of_param, steepest.sgd(0.0))
    optimizer = grouped([([a], first), ([b], second)], [np.array([6.0, 8.0]), np.array([5.0])])
    assert optimizer.measured == {"grad_norm": 10.0, "weight": 1.0}


def test_groups_that_clip_by_different_norms_do_not_mix_them() -> None:
    a, b = np.zeros(2), np.zeros(2)
    first = chain(steepest.clip_by_global_norm(1.0, 2), steepest.sgd(1.0))
    second = chain(steepest.clip_by_global_norm(1.0, math.inf), steepest.sgd(1.0))
    grouped([([a], first), ([b], second)], [np.array([3.0, 4.0]), np.array([6.0, 8.0])])
    np.testing.assert_allclose(a, [-0.6, -0.8], rtol=1e-5)
    np.testing.assert_allclose(b, [-0.75, -1.0], rtol=1e-5)


@rule
def shrink(update: Any) -> Any:
    return update / (1 + steepest.norm(update, per="model"))


@rule
def flatten(update: Any) -> Any:
    return update / (1 + steepest.max(steepest.abs(update), per="model"))


@pytest.mark.parametrize("engine", ["cpu", "arrays"])
def test_groups_with_global_norms_in_different_orders_are_refused_before_any_change(engine: str) -> None:
    a, b = np.ones(3), np.ones(3)
    momentum = steepest.accumulate_momentum(0.9)
    first = chain(momentum, shrink(), flatten(), steepest.descend(0.1))
    second = chain(momentum, flatten(), shrink(), steepest.descend(0.1))
    optimizer = opt.Optimizer([{"params": [a], "chain": first}, {"params": [b], "chain": second}], engine=engine)
    with pytest.raises(ValueError, match="must have their global norms in the same order"):
        optimizer.step([np.ones(3), np.ones(3)])
    np.testing.assert_array_equal([a, b], np.ones((2, 3)))
    assert not any(np.any(states["momentum_buffer"]) for states in optimizer.state.values())


@pytest.mark.parametrize("engine", ["cpu", "arrays"])
def test_a_skipped_step_changes_nothing_in_any_group(engine: str) -> None:
    clip = steepest.clip_by_global_norm(1.0, on_nonfinite="skip")
    params = [values(i, (5, 2)) for i in range(2)]
    groups = [(params[:1], chain(clip, steepest.adamw(0.1))), (params[1:], steepest.sgd(0.1, momentum=0.9))]
    optimizer = grouped(groups, [values(3, (5, 2)), values(4, (5, 2))], engine)
    before = {k: v.copy() for k, v in everything((params, optimizer.state)).items()}
    for odd in (np.nan, np.inf, -np.inf):
        grads = [values(5, (5, 2)), values(6, (5, 2))]
        grads[0][2, 1] = odd
        optimizer.step(grads)
        assert_same_bits(before, everything((params, optimizer.state)))
        assert optimizer.steps == 1
    optimizer.step([values(7, (5, 2)), values(8, (5, 2))])
    assert optimizer.steps == 2 and optimizer.state["0"]["step"] == 2.0


@pytest.mark.parametrize("engine", ["cpu", "arrays"])
def test_an_error_is_raised_before_anything_is_changed(engine: str) -> None:
    clip = steepest.clip_by_global_norm(1.0, on_nonfinite="error")
    params = [values(i, (5, 2)) for i in range(2)]
    groups = [(params[:1], chain(clip, steepest.adamw(0.1))), (params[1:], steepest.sgd(0.1, momentum=0.9))]
    optimizer = grouped(groups, [values(3, (5, 2)), values(4, (5, 2))], engine)
    before = {k: v.copy() for k, v in everything((params, optimizer.state)).items()}
    with pytest.raises(FloatingPointError, match=r"the norm of all gradients is not finite\. Nothing was changed\."):
        optimizer.step([np.full((5, 2), np.nan), values(6, (5, 2))])
    assert_same_bits(before, everything((params, optimizer.state)))
    assert optimizer.steps == 1


def test_a_guard_that_waits_for_a_group_without_one_says_so() -> None:
    made = [
        chain(shrink(), steepest.skip_nonfinite(), steepest.descend(0.1)),
        chain(steepest.accumulate_momentum(0.9), shrink(), steepest.descend(0.1)),
    ]
    a, b = np.ones(3), np.ones(3)
    optimizer = opt.Optimizer([{"params": [a], "chain": made[0]}, {"params": [b], "chain": made[1]}])
    with pytest.raises(ValueError, match="on_nonfinite"):
        optimizer.step([np.ones(3), np.ones(3)])
    np.testing.assert_array_equal([a, b], np.ones((2, 3)))


def test_many_groups_of_one_program_are_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    params = [values(i, (4,)) for i in range(20)]
    optimizer = opt.Adam([{"params": [p], "lr": 0.1 / (i + 1)} for i, p in enumerate(params)], lr=0.1)
    calls = []
    run = engine._BoundCpu.run
    monkeypatch.setattr(engine._BoundCpu, "run", lambda self, *args: calls.append(1) or run(self, *args))
    optimizer.step([np.ones(4)] * 20)
    assert len(calls) == 1
    for i, p in enumerate(params):
        np.testing.assert_allclose(p, values(i, (4,)) - 0.1 / (i + 1), rtol=1e-6)


def test_a_parameter_without_a_gradient_keeps_its_own_step_count() -> None:
    a, b = np.zeros(2), np.zeros(2)
    optimizer = opt.Adam([a, b], lr=0.1)
    optimizer.step([np.ones(2), None])
    optimizer.step([np.ones(2), np.ones(2)])
    alone = np.zeros(2)
    other = opt.Adam([alone], lr=0.1)
    other.step([np.ones(2)])
    np.testing.assert_array_equal(b, alone)
    assert (optimizer.state["0"]["step"], optimizer.state["1"]["step"]) == (2.0, 1.0)


@pytest.mark.parametrize("engine", ["cpu", "arrays"])
@pytest.mark.parametrize("left_out", [("b",), ("w", "b")])
def test_a_parameter_that_every_link_leaves_out_stays_as_it_is(left_out: tuple[str, ...], engine: str) -> None:
    params = {"w": np.ones((4, 3)), "b": np.ones(4)}
    optimizer = opt.Optimizer(params, steepest.exclude(steepest.sgd(0.1, momentum=0.9), *left_out), engine=engine)
    for _ in range(2):
        optimizer.step({name: np.ones_like(array) for name, array in params.items()})
    moved = {name: array for name, array in params.items() if name not in left_out}
    for name, array in params.items():
        np.testing.assert_allclose(array, 1 - 0.1 * (1 + 1.9) if name in moved else 1.0)
    assert optimizer.steps == 2


def test_a_chain_may_change_to_one_that_another_engine_runs() -> None:
    w, expected = values(1, (3, 4)), values(1, (3, 4))
    grads = [values(2 + i, (3, 4)) for i in range(4)]
    chains_of = [steepest.sgd(0.1), chain(steepest.adaptive_grad_clip(0.1, axis=-1), steepest.sgd(0.1))]
    one, other = opt.Optimizer([w], chains_of[0]), opt.Optimizer([expected], chains_of[0], engine="arrays")
    for i, grad in enumerate(grads):
        for optimizer in (one, other):
            optimizer.param_groups[0]["chain"] = chains_of[i // 2]
            optimizer.step([grad])
    np.testing.assert_allclose(w, expected, rtol=1e-12)


# ---- memory


def test_tied_and_overlapping_parameters_are_refused() -> None:
    w = np.zeros((4, 4))
    with pytest.raises(ValueError, match="are the same array"):
        opt.SGD([w, w])
    with pytest.raises(ValueError, match="share memory"):
        opt.SGD([w[:3], w[2:]])
    opt.SGD([w[:, ::2], w[:, 1::2]])


@pytest.mark.parametrize("engine", ["cpu", "arrays"])
def test_a_gradient_that_shares_memory_with_a_parameter_is_read_as_it_was(engine: str) -> None:
    made = chain(steepest.clip_by_norm(0.5), steepest.lamb(0.1))
    a, b = values(1, (6,)), values(2, (6,))
    own = [a.copy(), b.copy()]
    optimizer = opt.Optimizer(own, made, engine=engine)
    expected = [a.copy(), b.copy()]
    other = opt.Optimizer(expected, made, engine=engine)
    for _ in range(2):
        other.step([expected[1][::-1].copy(), expected[0].copy()])
        optimizer.step([own[1][::-1], own[0]])
    np.testing.assert_array_equal(own, expected)


@pytest.mark.parametrize("shift", [1, -1])
def test_a_gradient_of_the_parameters_own_form_that_overlaps_it_is_read_as_it_was(shift: int) -> None:
    def pieces(memory: Array) -> tuple[Array, Array]:
        return (memory[1:], memory[:-1]) if shift > 0 else (memory[:-1], memory[1:])

    memory = values(1, (1001,))
    start, grad = (piece.copy() for piece in pieces(memory))
    param, overlapping = pieces(memory)
    opt.SGD([param], lr=0.5, engine="cpu").step([overlapping])
    np.testing.assert_array_equal(param, start - 0.5 * grad)


def test_two_parameters_may_have_the_same_gradient() -> None:
    a, b, grad = np.zeros(3), np.zeros(3), np.ones(3)
    opt.SGD([a, b], lr=0.1).step([grad, grad])
    np.testing.assert_array_equal([a, b, grad], [[-0.1] * 3, [-0.1] * 3, [1.0] * 3])


# ---- generated code


NAMES = [
    "k", "i", "n", "t", "u", "m1", "v3", "s0", "r1", "c2", "t0", "u4", "sum5", "lr_32", "m_i", "a_holds", "first", "row",
    "pass_1", "segment_1", "sum", "sum_", "address", "sqrt", "items",
]  # fmt: skip


def rules_with_names(states: list[str], numbers: list[str]) -> Chain:
    """A rule whose every state, and one whose every hyperparameter, has one of the names."""
    keep = "".join(f"    state.{n} = 0.5 * state.{n} + update\n    update = update + 0.1 * state.{n}\n" for n in states)
    arguments = ", ".join(f"{n}: Real = {0.1 + i / 100}" for i, n in enumerate(numbers))
    scale = "".join(f"    size = size * (1 + {n})\n    update = update * {n} + size\n" for n in numbers)
    text = (
        f"def keep(update, state):\n{keep}    return update\n"
        f"def scale(update, *, {arguments}):\n    size = steepest.norm(update, per='tensor')\n{scale}    return update\n"
    )
    names: dict[str, Any] = {"steepest": steepest, "Real": Real}
    exec(text, names)
    return chain(rule(**dict.fromkeys(states, zeros))(names["keep"])(), rule(names["scale"])())


@pytest.mark.parametrize("states", [NAMES, ["other"]])
def test_states_and_hyperparameters_of_any_name_do_not_disturb_the_generated_code(states: list[str]) -> None:
    made = chain(rules_with_names(states, NAMES), steepest.descend(0.1))
    params = [values(1, (4, 3)), values(2, (5,))]
    steps = [[values(3 + i, (4, 3)), values(7 + i, (5,))] for i in range(2)]
    compiled, arrays = (everything(trained(params, steps, made, engine)) for engine in ("cpu", "arrays"))
    assert_close(compiled, arrays, 1e-12)


def test_a_number_on_the_host_may_have_the_name_of_an_earlier_hyperparameter() -> None:
    @rule
    def double(update: Any, *, rate: Real = 2.0) -> Any:
        return rate * update

    @rule(rate=steepest.scalar(1.0))
    def grow(update: Any, state: Any) -> Any:
        state.rate = state.rate + 1
        return state.rate * update

    w = np.zeros(1)
    optimizer = opt.Optimizer([w], chain(double(), grow(), steepest.descend(1.0)))
    for _ in range(2):
        optimizer.step([np.ones(1)])
    assert w[0] == -2.0 * 2.0 - 2.0 * 3.0


@given(chains())
@settings(max_examples=60)
def test_generated_code_is_valid_python_without_a_float64_number_in_a_float32_loop(made: Chain) -> None:
    one = plan(made)
    for program in (one.program(one.usual), one.program(tuple(not o for o in one.usual))):
        for dtype in ("float32", "float64"):
            tree = ast.parse(source(program, dtype, "A step."))
            if dtype == "float64":
                continue
            loops = [f for f in tree.body if isinstance(f, ast.FunctionDef) and f.name.startswith("pass_")]
            assert len(loops) == len(program.passes)
            for loop in (node for f in loops for node in f.body if isinstance(node, ast.For)):
                wide = {"float64"}
                for line in loop.body:
                    text = ast.unparse(line)
                    name, _, value = text.partition(" = ")
                    if re.fullmatch(r"r\d+", name) or wide & set(re.findall(r"\w+", value)):
                        wide.add(name)  # sums, and what `wide` asks for, are float64 on purpose
                        continue
                    numbers = [n for n in ast.walk(line) if isinstance(n, ast.Constant) and isinstance(n.value, float)]
                    assert not numbers, text


def test_the_types_that_numba_infers_in_a_float32_loop_are_float32() -> None:
    from numba import float32, types

    from steepest.engines.numba import cache

    made = chain(steepest.clip_by_value(-1, 1), steepest.adamw(0.1), steepest.lookahead(2), steepest.ema())
    for outcome in ((True, False), (False, False)):
        program = plan(made).program(outcome)
        loop = cache.module_of("probe", source(program, "float32", "A step."), "").pass_1
        arrays = [types.Array(float32, 1, "C")] * len(program.buffers)
        loop.compile((types.int64, *arrays, *[types.float64] * (loop.py_func.__code__.co_argcount - 1 - len(arrays))))
        types_of = loop.overloads[loop.signatures[0]].type_annotation.typemap
        values_of = {n: t for n, t in types_of.items() if re.fullmatch(r"(v\d+|\w+_i|\w+_32|c\d+)(\.\d+)?", n)}
        assert values_of and set(map(str, values_of.values())) <= {"float32", "int64"}


def test_the_source_of_a_plan_is_the_generated_text() -> None:
    optimizer = opt.Adam([np.zeros(3)])
    text = optimizer.plan.source()
    assert '"""scale_by_adam > descend' in text and "exp_avg_sq_i" in text and "float32" in text
    assert "address_float64" in optimizer.plan.source("float64")
    ast.parse(text)


def test_a_folder_that_cannot_be_written_costs_one_warning(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    from steepest.engines.numba import cache

    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("STEEPEST_CACHE_DIR", str(blocked / "below"))
    monkeypatch.setattr(cache, "_warned", set())
    monkeypatch.setattr(kernels, "_COMPILED", {})
    w = np.zeros(3)
    with pytest.warns(RuntimeWarning, match="can't be written"):
        opt.SGD([w], lr=0.1).step([np.ones(3)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        opt.SGD([w], lr=0.1, weight_decay=0.5).step([np.ones(3)])
    assert w[0] == -0.1 - 0.1 * (1 - 0.05)


def test_an_engine_of_an_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match="engine must be one of 'auto', 'cpu', 'arrays', got 'gpu'"):
        Stepper([], [], engine="gpu")
