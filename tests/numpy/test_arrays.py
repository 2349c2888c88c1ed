"""Arrays that a front end can't use: of another library, or with elements that share memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import steepest.numpy
import steepest.torch
from steepest.numpy.arrays import overlaps_itself


class ArrayImpl:
    """An array of another library, as JAX's."""

    def __array__(self, *_: Any, **__: Any) -> Any:
        return np.ones(2)


def test_an_array_of_another_library_is_refused_with_the_call_that_converts_it() -> None:
    optimizer = steepest.numpy.SGD([np.ones(2)], lr=0.1)
    with pytest.raises(TypeError) as caught:
        optimizer.step([ArrayImpl()])  # type: ignore[list-item]
    assert str(caught.value) == (
        "SGD.step: the gradient of '0' must be a NumPy array or None, got ArrayImpl. Convert it: numpy.asarray(grad)."
    )
    with pytest.raises(TypeError, match=r"in place, got ArrayImpl\. Convert it: numpy\.array\(param\)\.$"):
        steepest.numpy.SGD([ArrayImpl()], lr=0.1)  # type: ignore[list-item]
    with pytest.raises(TypeError, match=r"got Parameter\. .*PyTorch's tensors are for steepest\.torch\.$"):
        steepest.numpy.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.1)  # type: ignore[list-item]


OVERLAPS = {
    ((3, 3), (1, 1)): True, ((3, 3), (2, 1)): True, ((2, 2), (2, 3)): False, ((3, 2), (1, 2)): True, ((2, 3), (1, 2)): False,
    ((3, 3), (3, 1)): False, ((3, 3), (1, 3)): False, ((4,), (1,)): False, ((0, 3), (1, 1)): False, ((1, 3), (1, 1)): False,
    ((2, 2, 2), (3, 1, 2)): True, ((2, 2, 2), (4, 1, 2)): False, ((5,), (0,)): True, ((2, 3), (-3, 1)): False,
}  # fmt: skip


@pytest.mark.parametrize(("layout", "expected"), OVERLAPS.items())
def test_two_elements_of_one_place_are_found(layout: tuple[Any, Any], expected: bool) -> None:
    shape, strides = layout
    places = [sum(i * s for i, s in zip(at, strides, strict=True)) for at in np.ndindex(*shape)]
    assert overlaps_itself(shape, strides) is (len(set(places)) < len(places)) is expected
    assert overlaps_itself(shape, [8 * s for s in strides], 8) is expected


def test_a_parameter_whose_elements_share_memory_is_refused() -> None:
    memory = np.arange(5.0)
    inside = np.lib.stride_tricks.as_strided(memory, (3, 3), (8, 8))
    with pytest.raises(ValueError) as caught:
        steepest.numpy.SGD([inside], lr=0.1)
    assert str(caught.value) == (
        "SGD: parameter '0' must have memory of its own for each element, got strides (8, 8). Copy it: numpy.array(param)."
    )
    with pytest.raises(
        ValueError, match=r"memory of its own for each element, got strides \(1, 1\)\. Copy it: param\."
    ):
        steepest.torch.SGD([torch.nn.Parameter(torch.arange(5.0).as_strided((3, 3), (1, 1)))], lr=0.1)
    param = torch.nn.Parameter(torch.ones(3, 3))
    optimizer = steepest.torch.SGD([param], lr=0.1)
    param.data = torch.arange(5.0).as_strided((3, 3), (1, 1))
    param.grad = torch.ones(3, 3)
    with pytest.raises(ValueError, match="memory of its own"):
        optimizer.step()
    assert torch.equal(param.detach(), torch.arange(5.0).as_strided((3, 3), (1, 1)))
