"""`skip_nonfinite`: what is left out, and what is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import steepest as s
import steepest.numpy as opt
import steepest.torch as torch_opt
from steepest.plan.planner import plan

CHAIN = s.chain(s.skip_nonfinite(), s.adamw(0.1), s.lookahead(2))


def started(dtype: Any, engine: str, chain: s.Chain = CHAIN) -> tuple[opt.Optimizer, list[np.ndarray]]:
    params = [np.full((3, 2), 1.5, dtype=dtype), np.full(4, -0.5, dtype=dtype)]
    optimizer = opt.Optimizer(params, chain, engine=engine)
    optimizer.step([np.full_like(p, 0.25) for p in params])
    return optimizer, params


@pytest.mark.parametrize("engine", ["arrays", "cpu"])
@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_element_that_is_not_finite_leaves_out_the_step_of_all_tensors(dtype: Any, odd: float, engine: str) -> None:
    optimizer, params = started(dtype, engine)
    before = [p.copy() for p in params], optimizer.state_dict()
    grads = [np.full_like(p, 0.25) for p in params]
    grads[1][2] = odd
    optimizer.step(grads)
    after = optimizer.state_dict()
    assert optimizer.steps == after["steps"] == 1
    for old, new in zip(before[0], params, strict=True):
        np.testing.assert_array_equal(old, new)
    np.testing.assert_equal(before[1]["state"], after["state"])
    optimizer.step([np.full_like(p, 0.25) for p in params])
    assert optimizer.steps == 2 and not np.array_equal(before[0][0], params[0])


@pytest.mark.parametrize("engine", ["arrays", "cpu"])
def test_gradients_whose_squares_overflow_are_finite(engine: str) -> None:
    optimizer, params = started(np.float64, engine, s.chain(s.skip_nonfinite(), s.sgd(1e-300)))
    optimizer.step([np.full_like(p, 1e300) for p in params])
    assert optimizer.steps == 2
    np.testing.assert_allclose(params[0], 0.5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("engine", ["auto", "arrays"])
def test_torch_leaves_out_the_same_steps(dtype: torch.dtype, engine: str) -> None:
    params = [torch.nn.Parameter(torch.full((n,), 0.5, dtype=dtype)) for n in (3, 5)]
    optimizer = torch_opt.Optimizer(params, CHAIN, engine=engine)
    for number, odd in enumerate((0.5, float("nan"), 65504.0, float("-inf"))):
        before = [p.detach().clone() for p in params]
        params[0].grad, params[1].grad = torch.full_like(params[0], 0.25), torch.full_like(params[1], 0.25)
        params[1].grad[4] = odd
        optimizer.step()
        same = all(torch.equal(a, b) for a, b in zip(before, params, strict=True))
        assert same == (number in (1, 3))
    assert optimizer.steps == 2


def test_a_clip_after_it_reads_the_gradients_once() -> None:
    both = s.chain(s.skip_nonfinite(), s.clip_by_global_norm(1.0), s.adamw())
    clip = s.chain(s.clip_by_global_norm(1.0), s.adamw())
    assert plan(both).bytes_per_parameter() == plan(clip).bytes_per_parameter()


def test_eager_it_says_what_is_wrong() -> None:
    with pytest.raises(FloatingPointError, match=r"^skip_nonfinite: an element of the update is not finite$"):
        s.skip_nonfinite.function(np.array([1.0, np.nan]))
