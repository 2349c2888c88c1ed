"""The values of groups, whatever the framework: what counts as a number, and when a value has changed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from steepest.schedules import cosine
from steepest.values import differ, frozen


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


@pytest.mark.parametrize("several", [np.ones(2), torch.ones(2)], ids=["array", "tensor"])
def test_a_value_that_has_no_truth_counts_as_changed(several: Any) -> None:
    assert differ([{"lr": several}], [{"lr": several.sum()}])
    assert not differ([{"lr": 0.1}], [{"lr": 0.1}])
