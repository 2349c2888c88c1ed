"""A tensor's states of the NumPy front end: as they are shown, and as saved ones are taken over, checked."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from steepest.engines.tensors import Tensor
from steepest.step.groups import whole
from steepest.step.saving import Stored

__all__ = ["fitted", "states_of"]


def states_of(tensor: Tensor) -> dict[str, NDArray[Any]]:
    """The arrays of a tensor that are states, by name."""
    return {name: array for name, array in tensor.buffers.items() if name not in ("param", "grad")}


def fitted(what: str, parameter: str, name: str, saved: Any, expected: Any) -> Any:
    """A saved state in the place of the one that is expected, or an error that names both."""
    if not isinstance(expected, np.ndarray):
        if name == "step":
            return float(whole(what, f"step of {parameter!r}", saved))
        if isinstance(saved, bool) or not isinstance(saved, (int, float, np.integer, np.floating)):
            raise ValueError(f"{what}: {name} of {parameter!r} must be a number, got {type(saved).__name__}.")
        return float(saved)
    try:
        saved = saved if isinstance(saved, Stored) else np.asarray(saved)
    except Exception as error:  # whatever a foreign array says when it can't be one of NumPy's, or a list with gaps
        raise TypeError(
            f"{what}: {name} of {parameter!r} must be an array, got {type(saved).__name__} ({error})."
        ) from None
    if saved.shape != expected.shape or saved.dtype != expected.dtype:
        raise ValueError(
            f"{what}: {name} of {parameter!r} must be {expected.dtype}{list(expected.shape)}, got "
            f"{saved.dtype}{list(saved.shape)}."
        )
    expected[...] = saved.read() if isinstance(saved, Stored) else saved
    return expected
