"""A record as numbers with names, for outputs that know nothing else: ``"lr"``, ``"update_ratio/layer.weight"``.

Losses come one per call of the monitor, everything else at steps of the optimizer; where gradients are accumulated these are not
the same. `losses_by_step` puts them on one axis.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from steepest.monitor.records import Record, with_derived

__all__ = ["losses_by_step", "tagged", "tensors_by_name"]


def tagged(record: Record, names: Sequence[str], under: str = "") -> dict[str, float]:
    """The scalars by their names, and each tensor's values as ``measurement/tensor``; those not measured (nan) are left out.

    ``under`` is put before the names of tensors' values.

    >>> ratio = {"update_norm": np.float32([2, 1]), "weight_norm": np.float32([4, np.nan])}
    >>> tagged(Record(1, 1, 0.0, np.zeros(1), {"lr": 0.1}, ratio), ["weight", "bias"])["update_ratio/weight"]
    0.5
    """
    tags = dict(record.scalars)
    for measurement, values in tensors_by_name(record, names).items():
        tags |= {f"{under}{measurement}/{name}": value for name, value in values.items() if value == value}
    return tags


def tensors_by_name(record: Record, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Measurements, those that follow from others included, with each tensor's value by its name."""
    return {
        measurement: dict(zip(names, values.tolist(), strict=True))
        for measurement, values in with_derived(record.tensors).items()
    }


def losses_by_step(record: Record, before: tuple[int, int] | None) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Steps since the record before, and the mean of the losses that belong to each.

    ``before`` is that record's step and call; without one the calls up to this record are taken to be a step each.

    >>> losses_by_step(Record(4, 8, 0.0, np.array([1.0, 3.0, 5.0, 7.0]), {}, {}), (2, 4))  # two calls a step
    (array([3, 4]), array([2., 6.]))
    """
    calls = len(record.losses)
    steps = record.step - before[0] if before is not None else min(calls, record.step)
    places = (np.arange(1, calls + 1) * max(1, steps) + calls - 1) // max(1, calls)  # rounded up
    counts = np.bincount(places)
    taken = np.flatnonzero(counts)
    sums = np.bincount(places, weights=record.losses)
    return record.step - max(1, steps) + taken, sums[taken] / counts[taken]
