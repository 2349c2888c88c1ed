"""A new operation or reduction is one row: with it alone every engine, plan and equation has it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import steepest
import steepest.numpy
from steepest.language.functions import apply, reduce
from steepest.language.operations import OPERATIONS, REDUCTIONS, Operation, Reduction
from steepest.show.latex import equations_latex
from tests.needed import require_module

SHAPES = ((3, 4), (5,), (2, 3, 2), (0, 3), (1,))


def tanh(a: float) -> float:
    return math.tanh(a)


def smaller(a: float, b: float) -> float:
    return a if a < b or a != a else b


@pytest.fixture(autouse=True)
def rows(monkeypatch: pytest.MonkeyPatch) -> None:
    row = Operation("tanh", "tanh({})", tanh, lambda xp, a: xp.tanh(a), latex=r"\tanh {}")
    monkeypatch.setitem(OPERATIONS, "tanh", row)
    joined = "{0} if ({0} < {1}) | ({0} != {0}) else {1}"
    least = Reduction(
        "min", math.inf, smaller, joined, "minimum", lambda xp, x, **over: xp.amin(x, **over), "MIN", lambda v, n: v,
        latex=r"\min",
    )  # fmt: skip
    monkeypatch.setitem(REDUCTIONS, "min", least)


@steepest.rule
def squash(update):
    return apply("tanh", update)


@steepest.rule
def above_least(update, *, per: str = "tensor"):
    return update - reduce("min", update, per, None)


def stepped_by_numpy(chain: steepest.Chain, grads: list[Any], engine: str) -> list[Any]:
    params = [np.zeros_like(g) for g in grads]
    steepest.numpy.Optimizer(params, chain, engine=engine).step(grads)
    return params


def stepped_by_torch(chain: steepest.Chain, grads: list[Any], engine: str) -> list[Any]:
    torch, opt = require_module("torch"), require_module("steepest.torch")
    params = [torch.nn.Parameter(torch.zeros(g.shape, dtype=torch.from_numpy(g).dtype)) for g in grads]
    for p, g in zip(params, grads, strict=True):
        p.grad = torch.from_numpy(g)
    opt.Optimizer(params, chain, engine=engine).step()
    return [p.detach().numpy() for p in params]


STEPPED = [
    pytest.param(step, engine, id=f"{step.__name__}-{engine}")
    for step in (stepped_by_numpy, stepped_by_torch)
    for engine in ("cpu", "arrays")
]


def given(rng: np.random.Generator, dtype: Any) -> list[Any]:
    return [rng.normal(size=shape).astype(dtype) for shape in SHAPES]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("step", "engine"), STEPPED)
def test_a_row_is_an_operation_in_every_engine(
    step: Callable[..., list[Any]], engine: str, dtype: Any, rng: np.random.Generator
) -> None:
    grads = given(rng, dtype)
    moved = step(squash() | steepest.descend(1.0), grads, engine)
    for ours, grad in zip(moved, grads, strict=True):
        np.testing.assert_allclose(ours, -np.tanh(grad), rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("per", ["model", "tensor", "unit"])
@pytest.mark.parametrize(("step", "engine"), STEPPED)
def test_a_row_is_a_reduction_in_every_engine(
    step: Callable[..., list[Any]], engine: str, per: str, rng: np.random.Generator
) -> None:
    grads = given(rng, np.float64)
    grads[0][1, 2] = math.nan if per != "model" else grads[0][1, 2]
    least = min(g.min() for g in grads if g.size) if per == "model" else None
    moved = step(above_least(per=per) | steepest.descend(1.0), grads, engine)
    for ours, grad in zip(moved, grads, strict=True):
        axes = tuple(range(1, grad.ndim)) if per == "unit" and grad.ndim > 1 else None
        subtracted = least if per == "model" else grad.min(axis=axes, keepdims=True) if grad.size else 0.0
        np.testing.assert_array_equal(ours, -(grad - subtracted))


def test_plans_and_equations_have_a_new_row() -> None:
    chain = squash() | above_least() | steepest.descend(0.1)
    plan = str(steepest.numpy.Optimizer([np.ones(3)], chain).plan)
    assert "tanh(grad)" in plan and "min(" in plan and "per tensor" in plan
    lines = " ".join(equations_latex(chain))
    assert r"\tanh g_t" in lines and r"\min_{\text{tensor}}" in lines


def test_a_state_may_have_the_name_of_a_function(rng: np.random.Generator) -> None:
    @steepest.rule(tanh=steepest.zeros)
    def named(update, state):
        state.tanh = state.tanh + apply("tanh", update)
        return state.tanh

    (grad,) = grads = [rng.normal(size=3)]
    np.testing.assert_allclose(stepped_by_numpy(named() | steepest.descend(1.0), grads, "cpu")[0], -np.tanh(grad))
