"""Losses and metrics as the user gives them, read as numbers: at once on the processor, from a device all at a time."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steepest.checks import printable

__all__ = ["is_number", "losses_of", "number_of", "without_graph"]


def is_number(name: str, value: Any) -> bool:
    if hasattr(value, "__float__") or hasattr(value, "detach"):
        return True
    said = (
        f"Monitor: metric {name!r} must be a number, got {value!r}. It is left out. Keep texts in notes or in an event."
    )
    warnings.warn(printable(said), RuntimeWarning, stacklevel=4)
    return False


def without_graph(loss: Any) -> Any:
    """A number at once where no device is waited for; else a copy, since the loss may be written to again."""
    if getattr(loss, "is_cpu", False):
        return loss.item()
    return loss.detach().clone() if hasattr(loss, "detach") else float(loss)


def number_of(value: Any) -> float:
    return float(value.detach() if hasattr(value, "detach") else value)


def losses_of(values: Sequence[Any]) -> tuple[NDArray[np.float64], NDArray[np.bool_] | None]:
    """Losses, nan for None; and which were given, None where all were."""
    given = np.array([value is not None for value in values], dtype=bool)
    losses = np.full(len(values), np.nan)
    losses[given] = _numbers([value for value in values if value is not None])
    return losses, None if given.all() else given


def _numbers(values: Sequence[Any]) -> NDArray[np.float64]:
    """Numbers and tensors as an array: tensors on a device are read from it all at once."""
    if values and all(hasattr(v, "detach") for v in values):
        import torch

        return torch.stack([v.reshape(()) for v in values]).double().cpu().numpy()
    return np.array([float(v) for v in values], dtype=np.float64)
