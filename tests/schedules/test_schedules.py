"""Schedules as values: what they are at their boundaries, how they compose, print, compare, and survive being saved."""

from __future__ import annotations

import copy
import functools
import inspect
import json
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from steepest import schedules
from steepest.checks import Value
from steepest.schedules import (
    ReduceOnPlateau,
    Schedule,
    constant,
    cosine,
    cyclic,
    exponential,
    from_json,
    inverse_sqrt,
    join,
    linear,
    multi_step,
    one_cycle,
    piecewise,
    polynomial,
    scale,
    step,
    warm_restarts,
    warmup,
    wsd,
)
from steepest.schedules.namespace import Namespace
from steepest.schedules.saved import KINDS
from tests.needed import require_module

HUGE = 10**9
LAST = 2**53

# Any schedule at all: each kind with any arguments it allows, and compositions of these.
amounts = st.floats(0, 10)
peaks = st.floats(0.5, 10)
small = st.floats(0, 0.5)
factors = st.floats(0.01, 4)
shrinks = st.floats(0, 1, exclude_min=True)
counts = st.integers(1, 60)
boundaries = st.lists(counts, max_size=4, unique=True).map(sorted)
shapes = st.sampled_from(["linear", "exponential", "cosine"])


def piecewise_of(bounds: list[int]) -> st.SearchStrategy[Schedule]:
    return st.builds(piecewise, amounts, st.just(bounds), st.lists(factors, min_size=len(bounds), max_size=len(bounds)))


simple = st.one_of(
    st.builds(constant, amounts),
    st.builds(linear, amounts, amounts, counts),
    st.builds(polynomial, amounts, amounts, counts, factors),
    st.builds(step, amounts, counts, shrinks),
    st.builds(exponential, peaks, shrinks, counts, st.booleans(), final=st.none() | small),
    st.builds(exponential, peaks, steps=counts, staircase=st.booleans(), rate=amounts),
    boundaries.flatmap(piecewise_of),
    st.builds(multi_step, amounts, boundaries, factors),
    st.builds(inverse_sqrt, peaks, counts, small),
    st.builds(cosine, peaks, st.integers(61, 99), st.integers(0, 60), small, amounts),
    st.builds(
        wsd, peaks, st.just(120), st.integers(0, 60), counts, small, amounts, st.sampled_from(["linear", "1-sqrt"])
    ),
    st.builds(warm_restarts, peaks, counts, st.integers(1, 4), small, shrinks),
    st.builds(
        cyclic,
        small,
        peaks,
        counts,
        st.none() | counts,
        st.sampled_from(["triangular", "triangular2", "exp_range"]),
        shrinks,
    ),
    st.builds(
        one_cycle, peaks, counts, st.floats(0, 0.5), st.sampled_from(["cosine", "linear"]), three_phase=st.booleans()
    ),
)


def composed(parts: st.SearchStrategy[Schedule]) -> st.SearchStrategy[Schedule]:
    rises = parts.filter(lambda schedule: schedule(0) > 1e-300)
    return st.one_of(
        st.builds(scale, parts, parts | amounts),
        st.builds(lambda a, b, at: join([a, b], [at]), parts | amounts, parts, counts),
        st.builds(warmup, st.integers(0, 60), parts),
        st.builds(lambda steps, part, shape: warmup(steps, part, part(0) / 7, shape), counts, rises, shapes),
    )


any_schedule = st.recursive(simple, composed, max_leaves=5)


@given(any_schedule)
def test_a_schedule_survives_print_json_pickle_and_copy_exactly(schedule: Schedule) -> None:
    same = [
        eval(repr(schedule), dict(vars(schedules))),
        from_json(schedule.to_json()),
        from_json(schedule.to_json().encode()),
        from_json(json.loads(schedule.to_json())),
        pickle.loads(pickle.dumps(schedule)),
        copy.copy(schedule),
        copy.deepcopy(schedule),
    ]
    for other in same:
        assert other == schedule and hash(other) == hash(schedule) and repr(other) == repr(schedule)
        assert other.values(130).tolist() == schedule.values(130).tolist()


@given(any_schedule, st.lists(st.integers(0, LAST), max_size=20))
def test_an_array_of_steps_gives_the_same_bits_as_one_step_at_a_time(schedule: Schedule, far: list[int]) -> None:
    steps = [*range(130), *far]
    values = schedule(np.array(steps))
    assert values.dtype == np.float64 and values.shape == (len(steps),)
    alone = [schedule(t) for t in steps]
    assert all(type(value) is float for value in alone)
    assert values.tolist() == alone
    assert schedule(np.array(steps, dtype=np.float64)).tolist() == alone  # 2**53 and below are floats exactly


@given(any_schedule, st.integers(0, LAST))
def test_no_schedule_is_negative_or_nan(schedule: Schedule, t: int) -> None:
    assert schedule(t) >= 0


@pytest.mark.parametrize("kind", ["int8", "uint8", "int64", "uint64", "float32", "float64"])
def test_an_array_of_any_number_type_and_shape_works_as_int64(kind: str) -> None:
    schedule = warmup(3, cyclic(0.1, 1.0, step_size_up=100))
    t = np.arange(120, dtype=kind).reshape(2, 60)
    assert schedule(t).tolist() == schedule.values(120).reshape(2, 60).tolist()
    assert schedule(t[0, :0]).shape == (0,) and schedule(t[0, 7:8].reshape(())).shape == ()


def test_one_step_may_be_any_kind_of_whole_number_or_a_float() -> None:
    schedule = linear(1.0, 0.0, steps=4)
    for one in (1, np.int64(1), np.uint8(1), 1.0, np.float32(1)):
        assert schedule(one) == 0.75 and type(schedule(one)) is float
    assert schedule(1.5) == 0.625 == schedule(np.array(1.5))


def test_a_schedule_is_a_hyperparameter_to_the_type_checker_and_to_python() -> None:
    lr: Value = cosine(1e-3, steps=100)
    assert callable(lr) and lr(0) == 1e-3
    lr = ReduceOnPlateau(0.1)
    assert lr(0) == lr(HUGE) == 0.1


def test_every_public_function_is_a_kind_that_json_knows() -> None:
    functions = {name for name in schedules.__all__ if inspect.isfunction(getattr(schedules, name))}
    assert functions - {"from_json"} == set(KINDS)
    assert all(KINDS[name] is getattr(schedules, name) for name in KINDS)
    assert [name for name in schedules.__all__ if not inspect.getdoc(getattr(schedules, name))] == []


def test_every_constructor_shows_its_arguments_and_gives_a_schedule() -> None:
    shown = {name: inspect.signature(make) for name, make in KINDS.items()}
    assert all(one.return_annotation == "Schedule" for one in shown.values())
    assert list(shown["cosine"].parameters) == ["peak", "steps", "warmup", "initial", "final"]
    kinds = {parameter.kind for one in shown.values() for parameter in one.parameters.values()}
    assert kinds == {inspect.Parameter.POSITIONAL_OR_KEYWORD}


def test_a_formula_never_branches_on_the_step_so_that_a_compiler_can_trace_it() -> None:
    jax = require_module("jax")
    jnp = jax.numpy
    traced = Namespace(
        where=jnp.where,
        minimum=jnp.minimum,
        maximum=jnp.maximum,
        sqrt=jnp.sqrt,
        cos=jnp.cos,
        exp=jnp.exp,
        power=jnp.power,
        count=lambda bounds, t: sum((t >= bound).astype(int) for bound in bounds if bound < 2**31),
        take=lambda table, index: jnp.asarray(table)[index],
    )
    parts = [
        polynomial(1.0, 0.1, 20, 2.0),
        step(1.0, 7),
        exponential(1.0, 0.9, staircase=True),
        exponential(1.0, rate=0.1),
        piecewise(1.0, [5, 9], [0.5, 0.1]),
        multi_step(1.0, [5, 9]),
        inverse_sqrt(1.0, 10),
        cosine(1.0, 30, 5),
        wsd(1.0, 30, 5, 10, shape="1-sqrt"),
        warm_restarts(1.0, 5, gamma=0.5),
        warm_restarts(1.0, 5, T_mult=2),
        cyclic(0.1, 1.0, 6, 3, "triangular2"),
        cyclic(0.1, 1.0, 6, 3, "exp_range", 0.9),
        one_cycle(1.0, 30, three_phase=True),
        warmup(5, step(1.0, 7), 0.1, "exponential"),
        linear(1.0, 0.5, 5).then(constant(0.5), at=5) * 0.5,
    ]
    assert {part.kind for part in parts} == set(KINDS.values()) - {constant, linear, join}
    for part in parts:
        compiled = jax.jit(lambda t, part=part: part.formula(t, traced))
        np.testing.assert_allclose([compiled(t) for t in range(40)], part.values(40), rtol=1e-5, atol=1e-6)


# Composition


def test_each_joined_schedule_counts_its_own_steps_from_zero() -> None:
    a, b, c = linear(1.0, 0.0, 10), cosine(0.5, 20), step(0.3, 2)
    joined = join([a, b, c], boundaries=[5, 12]).values(40).tolist()
    assert joined == [*a.values(5).tolist(), *b.values(7).tolist(), *c.values(28).tolist()]


def test_then_continues_a_join_instead_of_nesting_it() -> None:
    a, b, c = linear(1.0, 0.0, 10), cosine(0.5, 20), step(0.3, 2)
    assert a.then(b, at=5).then(c, at=12).then(0.1, at=20) == join([a, b, c, 0.1], [5, 12, 20])


def test_a_product_is_the_product_of_the_values_on_either_side_of_the_star() -> None:
    a, b = cosine(0.5, 20, 5), step(0.3, 2)
    assert (a * b).values(30).tolist() == (a.values(30) * b.values(30)).tolist()
    assert a * 0.5 == 0.5 * a == np.float64(0.5) * a == a * np.float32(0.5) == scale(a, 0.5)
    assert (a * 0.5).values(30).tolist() == (a.values(30) * 0.5).tolist()


def test_schedules_are_equal_when_kind_and_arguments_are() -> None:
    assert linear(1, 0, 10) == linear(initial=np.float32(1.0), final=-0.0, steps=10.0)  # type: ignore[arg-type]
    assert len({linear(1, 0, 10), linear(1.0, 0.0, np.int64(10)), linear(1, 0, 11)}) == 2  # type: ignore[arg-type]
    assert linear(1, 0, 10) != polynomial(1, 0, 10)
    assert join((0.1, 0.2), (3,)) == join([0.1, 0.2], np.array([3]))  # type: ignore[arg-type]
    assert linear(1, 0, 10) != object()


def test_a_schedule_prints_as_the_call_that_makes_it() -> None:
    assert [
        repr(cosine(1e-3, steps=10_000, warmup=500)),
        repr(cosine(1e-3, 10_000, final=1e-5)),
        repr(warmup(500, cosine(1e-3, steps=9_500), shape="cosine")),
        repr(constant(0.1).then(step(0.1, 30), at=5) * 2),
        repr(exponential(1.0, rate=0.5, staircase=True)),
        repr(ReduceOnPlateau(0.1, patience=3)),
    ] == [
        "cosine(0.001, steps=10000, warmup=500)",
        "cosine(0.001, steps=10000, final=1e-05)",
        "warmup(500, cosine(0.001, steps=9500), shape='cosine')",
        "scale(join((constant(0.1), step(0.1, step_size=30)), boundaries=(5,)), factor=2.0)",
        "exponential(1.0, staircase=True, rate=0.5)",
        "ReduceOnPlateau(lr=0.1, mode='min', factor=0.1, patience=3, threshold=0.0001, threshold_mode='rel', "
        "cooldown=0, min_lr=0.0, eps=1e-08, warmup=0, initial=0.0)",
    ]


def test_a_schedule_cannot_be_changed() -> None:
    schedule = constant(0.1)
    with pytest.raises(AttributeError):
        schedule.arguments = (0.2,)  # type: ignore[misc]
    with pytest.raises((AttributeError, TypeError)):
        schedule.lr = 0.2  # type: ignore[attr-defined]
    numbers = [0.1, 0.2]
    joined = join(numbers, [1])
    numbers[0] = 5.0
    assert joined(0) == 0.1


def test_json_keeps_every_argument_so_that_a_new_default_changes_no_saved_schedule() -> None:
    text = warmup(5, cosine(0.1, steps=10)).to_json()
    assert json.loads(text) == {
        "kind": "warmup",
        "steps": 5,
        "schedule": {"kind": "cosine", "peak": 0.1, "steps": 10, "warmup": 0, "initial": 0.0, "final": 0.0},
        "initial": 0.0,
        "shape": "linear",
    }


# The stateful one


def test_a_saved_plateau_goes_on_as_if_it_had_never_stopped() -> None:
    metrics = [5.0, 4.0, 4.0, 4.0, 4.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0]
    arguments: dict[str, Any] = {"factor": 0.5, "patience": 1, "cooldown": 1}
    for cut in range(len(metrics)):
        whole, first, second = (ReduceOnPlateau(0.8, **arguments) for _ in range(3))
        expected = [whole.step(metric) for metric in metrics]
        values = [first.step(metric) for metric in metrics[:cut]]
        second.load_state_dict(json.loads(json.dumps(first.state_dict())))
        values += [second.step(metric) for metric in metrics[cut:]]
        assert values == expected and second.state_dict() == whole.state_dict()
    assert expected == [0.8] * 3 + [0.4] * 4 + [0.2] * 3 + [0.1]


def test_a_plateau_takes_a_metric_from_any_library_and_can_be_copied() -> None:
    plateau = ReduceOnPlateau(1.0, patience=0)
    for metric in (1, np.float32(1), np.array(1.0)):
        plateau.step(metric)
    twin = pickle.loads(pickle.dumps(plateau))
    assert twin.state_dict() == plateau.state_dict() == copy.deepcopy(plateau).state_dict()
    assert plateau(0) == functools.reduce(lambda lr, _: lr * 0.1, range(2), 1.0)
