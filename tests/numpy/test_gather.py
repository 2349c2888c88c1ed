"""Addresses of NumPy gradients: taken if every gradient lies in memory of its own as its parameter does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from steepest.engines.tensors import Tensor
from steepest.numpy.gather import Gatherer

MEMORY = np.zeros(64, dtype=np.float32)
PARAMS = [MEMORY[8:20].reshape(3, 4), MEMORY[24:29], np.ones((2, 2))[:, :1], np.ones(())]


def addresses(grads: list[Any]) -> list[int] | None:
    """What a gatherer finds for these gradients of `PARAMS`."""
    found = Gatherer([Tensor(str(i), i, {"param": p}) for i, p in enumerate(PARAMS)])(grads)
    return None if found is None else found.tolist()


def grads() -> list[Any]:
    return [np.ones((3, 4), np.float32), np.ones(5, np.float32), np.ones((2, 2))[:, :1], np.ones(())]


def test_regular_gradients_are_taken_by_their_addresses() -> None:
    given = grads()
    assert addresses(given) == [g.ctypes.data for g in given]


@pytest.mark.parametrize("start", [3, 7, 8, 19, 24, 28])
def test_a_gradient_in_the_memory_of_any_parameter_needs_a_closer_look(start: int) -> None:
    given = grads()
    given[0] = MEMORY[start : start + 12].reshape(3, 4)
    assert addresses(given) is None


@pytest.mark.parametrize("start", [29, 40])
def test_a_gradient_beside_a_parameter_is_taken_by_its_address(start: int) -> None:
    given = grads()
    given[1] = MEMORY[start : start + 5]
    assert addresses(given) == [g.ctypes.data for g in given]


@pytest.mark.parametrize(
    "other",
    [
        None, [1.0] * 12, np.ones((3, 4)), np.ones((4, 3), np.float32), np.ones(12, np.float32), np.ones((4, 3), np.float32).T,
        np.ones((3, 4), ">f4"), np.ones((3, 4), np.float32).view(np.recarray), np.ones((3, 5), np.float32)[:, :4],
        np.frombuffer(bytes(49), np.float32, offset=1, count=12).reshape(3, 4),
    ],
    ids=["none", "list", "type", "shape", "dimensions", "order", "bytes", "subclass", "strides", "unaligned"],
)  # fmt: skip
def test_any_other_gradient_needs_a_closer_look(other: Any) -> None:
    given = grads()
    given[0] = other
    assert addresses(given) is None
