"""The values of groups, whatever the framework: what counts as a number."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import steepest as s
import steepest.numpy as opt
from steepest.schedules import cosine
from steepest.step.groups import frozen


@pytest.mark.parametrize(
    "value",
    [np.array(0.5), np.float64(0.5), np.float32(0.5), torch.tensor(0.5), torch.tensor([0.5]), torch.tensor([[0.5]])],
    ids=repr,
)
def test_what_holds_one_number_is_frozen_to_it(value: Any) -> None:
    assert type(frozen(value)) is float
    assert frozen([value, (value, None)]) == (0.5, (0.5, None))


@pytest.mark.parametrize(
    "value", [np.array([0.5]), torch.tensor([0.5, 0.5]), cosine(0.1, steps=3), None, "sum", True, 3], ids=repr
)
def test_everything_else_is_left_as_it_is(value: Any) -> None:
    assert frozen(value) is value


def test_what_is_written_inside_using_is_lost_and_the_state_stays_also_after_an_error() -> None:
    w = np.array([1.0, 2.0])
    optimizer = opt.Optimizer([w], s.chain(s.sgd(0.1), s.ema(0.5)))
    for _ in range(2):
        optimizer.step([np.ones(2)])
    weights, average = w.copy(), optimizer.state["0"]["average"].copy()
    for error in (False, True):
        try:
            with optimizer.using("average"):
                np.testing.assert_array_equal(w, average)
                w += 100
                with pytest.raises(RuntimeError, match="swapped for 'average' already"), optimizer.using("average"):
                    pass
                if error:
                    raise KeyError
        except KeyError:
            pass
        np.testing.assert_array_equal(w, weights)
        np.testing.assert_array_equal(optimizer.state["0"]["average"], average)
    optimizer.step([np.ones(2)])
    np.testing.assert_allclose(optimizer.state["0"]["average"], (average + weights - 0.1) / 2)
