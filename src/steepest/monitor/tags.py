"""A record as numbers with names, for outputs that know nothing else: ``"lr"``, ``"update_ratio/layer.weight"``.

Losses come one per call of the monitor, everything else at steps of the optimizer; where gradients are accumulated these are not
the same. `steps_of_calls` puts them on one axis.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from steepest.monitor.recorder.run_file import begin_of
from steepest.monitor.records import Record, with_derived

__all__ = ["QUANTILES", "losses_by_step", "steps_of_calls", "tagged", "tensors_by_name"]


QUANTILES = {"lowest": 0.0, "tenth": 0.1, "median": 0.5, "nine tenths": 0.9, "highest": 1.0}
"""What stands for the values of very many tensors."""


def tagged(record: Record, names: Sequence[str], under: str = "", most: int = 500) -> dict[str, float]:
    """The scalars by their names, and each tensor's values as ``measurement/tensor``; those not measured (nan) are left out.

    ``under`` is put before the names of tensors' values. Of more than ``most`` tensors there are `QUANTILES` in place of values.

    >>> ratio = {"update_norm": np.float32([2, 1]), "weight_norm": np.float32([4, np.nan])}
    >>> tagged(Record(1, 1, 0.0, np.zeros(1), {"lr": 0.1}, ratio), ["weight", "bias"])["update_ratio/weight"]
    0.5
    """
    tags = dict(record.scalars)
    if len(names) > most:
        for measurement, values in with_derived(record.tensors).items():
            known = values[~np.isnan(values)]
            if len(known):
                found = np.quantile(known, [*QUANTILES.values()], method="nearest").tolist()
                tags |= {f"{under}{measurement}/{name}": float(one) for name, one in zip(QUANTILES, found, strict=True)}
        return tags
    for measurement, by_name in tensors_by_name(record, names).items():
        tags |= {f"{under}{measurement}/{name}": value for name, value in by_name.items() if value == value}
    return tags


def tensors_by_name(record: Record, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Measurements, those that follow from others included, with each tensor's value by its name."""
    return {
        measurement: dict(zip(names, values.tolist(), strict=True))
        for measurement, values in with_derived(record.tensors).items()
    }


def losses_by_step(
    record: Record, before: tuple[int, int] | None, every: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Steps since the record before that have a loss, and the mean of the losses that belong to each.

    ``before`` is that record's step and call, ``every`` that of the facts.

    >>> losses_by_step(Record(4, 8, 0.0, np.array([1.0, 3.0, 5.0, 7.0]), {}, {}), (2, 4), 2)  # two calls a step
    (array([3, 4]), array([2., 6.]))
    """
    first = record.call - len(record.losses)
    calls, losses = record.given_losses()
    known = (0, first) if before is None else (before[0], first)
    places = steps_of_calls(calls, np.array([record.step]), np.array([record.call]), every, known)
    steps, which = np.unique(np.ceil(np.round(places, 6)).astype(np.int64), return_inverse=True)
    return steps, np.bincount(which, weights=losses, minlength=len(steps)) / np.bincount(which)


def steps_of_calls(
    calls: NDArray[np.int64],
    steps: NDArray[np.int64],
    ends: NDArray[np.int64],
    every: int,
    before: tuple[int, int] = (0, 0),
) -> NDArray[np.float64]:
    """The step that each call belongs to, as near as records tell; a fraction where a step has several calls.

    ``steps`` and ``ends`` are those of the records, in the order of their calls, ``before`` those of the record before the first,
    (0, 0) if there is none. Between two records the calls lie evenly. A first record, and one behind which training went back,
    speaks of a step for each of its calls, but of none before the last multiple of ``every``: so its first steps are known where
    training resumes.

    >>> steps_of_calls(np.arange(1, 41), np.array([1010]), np.array([40]), 10)[[0, 3, 39]]  # resumed at 1000, four calls a step
    array([1000.25, 1001.  , 1010.  ])
    """
    begins, called = np.append(before[0], steps[:-1]), np.append(before[1], ends[:-1])
    unknown = steps <= begins
    unknown[:1] |= before[0] == 0
    least = np.array([begin_of(step, every) - 1 for step in steps[unknown].tolist()], dtype=np.int64)
    begins[unknown] = np.maximum(steps[unknown] - (ends - called)[unknown], least)
    row = np.minimum(np.searchsorted(ends, calls), len(ends) - 1)
    share = (calls - called[row]) / np.maximum(ends[row] - called[row], 1)
    made: NDArray[np.float64] = begins[row] + np.clip(share, 0, 1) * (steps[row] - begins[row])
    return made
