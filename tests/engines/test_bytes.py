"""Bytes per parameter of an optimizer's plan: each buffer counts with its own size, whatever the parameters' type."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import steepest as s
import steepest.numpy
import steepest.torch
from steepest.plan.planner import plan

SIZES = {
    torch.bfloat16: 22, torch.float16: 22, torch.float32: 28, torch.float64: 56, torch.complex64: 56, torch.complex128: 112,
}  # fmt: skip


def parameters(*types: torch.dtype) -> list[torch.nn.Parameter]:
    return [torch.nn.Parameter(torch.ones(3, dtype=dtype)) for dtype in types]


@pytest.mark.parametrize("dtype", SIZES)
def test_adamw_moves_parameters_and_gradients_of_their_type_and_states_of_theirs(dtype: torch.dtype) -> None:
    found = steepest.torch.AdamW(parameters(dtype)).plan
    name, size = str(dtype).removeprefix("torch."), SIZES[dtype]
    own, state = torch.empty((), dtype=dtype).itemsize, max(4, torch.empty((), dtype=dtype).itemsize)
    assert found.bytes_per_parameter() == found[0].bytes_per_parameter() == size == 3 * own + 4 * state
    reads, writes = 2 * own + 2 * state, own + 2 * state
    assert f"1 pass, {size} bytes per parameter ({name}: reads {reads}, writes {writes})" in str(found)
    assert f"reads {reads} (exp_avg exp_avg_sq grad param)   writes {writes} (exp_avg exp_avg_sq param)" in str(found)


def test_the_states_of_an_optimizer_have_the_sizes_that_are_counted() -> None:
    for dtype in SIZES:
        (param,) = parameters(dtype)
        optimizer = steepest.torch.AdamW([param])
        param.grad = torch.ones_like(param)
        optimizer.step()
        moved = 3 * param.itemsize + 2 * sum(optimizer.state[param][n].itemsize for n in ("exp_avg", "exp_avg_sq"))
        assert optimizer.plan.bytes_per_parameter() == moved


def test_an_optimizer_of_several_types_has_a_plan_for_each() -> None:
    optimizer = steepest.torch.AdamW(parameters(torch.float32, torch.bfloat16, torch.float32))
    assert [(one.dtype, one.bytes_per_parameter()) for one in optimizer.plan] == [("float32", 28), ("bfloat16", 22)]
    assert optimizer.plan.bytes_per_parameter() == 28
    assert optimizer.plan.bytes_per_parameter(2) == 22
    assert len(set(optimizer.plan.source().split("@njit"))) == len(optimizer.plan.source().split("@njit"))


def test_a_model_that_is_turned_into_another_type_has_a_plan_of_that_type() -> None:
    model = torch.nn.Linear(2, 2)
    optimizer = steepest.torch.SGD(model.parameters(), lr=0.1)
    assert optimizer.plan.bytes_per_parameter() == 12
    model.bfloat16()
    assert optimizer.plan.bytes_per_parameter() == 6


def test_numpy_counts_float32_and_float64() -> None:
    optimizer = steepest.numpy.AdamW([np.ones(2), np.ones(2, dtype=np.float32)])
    assert [(one.dtype, one.bytes_per_parameter()) for one in optimizer.plan] == [("float64", 56), ("float32", 28)]


def test_a_plan_by_itself_counts_for_parameters_of_any_size() -> None:
    one = plan(s.adamw(1e-3))
    assert [one.bytes_per_parameter(size) for size in (2, 4, 8)] == [22, 28, 56]
    assert one.program(one.usual).bytes_per_parameter(2) == 22


def test_what_a_measurement_and_another_outcome_add_is_counted_in_the_parameters_type() -> None:
    made = s.chain(s.sgd(0.1), s.lookahead(5), s.measure(gap=lambda param, grad: s.norm(param - grad, per="tensor")))
    text = str(steepest.torch.Optimizer(parameters(torch.bfloat16), made).plan)
    assert "1 pass, 6 bytes per parameter (bfloat16: reads 4, writes 2)" in text
    assert "14 bytes; pass 1 also reads 4 (slow), pass 1 also writes 4 (slow)" in text
