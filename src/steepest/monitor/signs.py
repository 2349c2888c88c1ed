"""What makes a layer worth a look: a table of signs, each a function of a run's columns with a level per record and tensor.

The view sorts its layers by these levels and raises its alarms from them. They are meant for a glance while training goes
on: few, cheap, quiet on a healthy run. What they mean and what to do about it is the doctor's to say.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steepest.monitor.records import Facts, Run, TensorFacts

__all__ = ["BAND", "SIGNS", "Levels", "Sign", "is_matrix", "levels", "matrices", "median"]

BAND = (-4, -2)
"""Powers of ten between which a matrix's update-to-weight ratio is healthy; 1e-3 is the usual advice (CS231n; Karpathy)."""

Levels = NDArray[np.int8]
"""0 fine, 1 worth a look, 2 alarming: a row per record, a column per tensor."""
_FIRST_STEPS = 25
"""Until then RMSprop's second moment, which starts from zero and has no correction, makes ``spike`` large in healthy runs."""


@dataclass(frozen=True, slots=True)
class Sign:
    """``level`` says how bad `value` is; ``said`` is the reason, given that value."""

    kind: str
    value: str
    level: Callable[[Run, NDArray[np.float32]], NDArray[np.bool_ | np.int_]]
    said: str


def is_matrix(tensor: TensorFacts) -> bool:
    """Whether a healthy update ratio is known for this tensor: a bias or a gain that starts from zero has none."""
    return sum(size > 1 for size in tensor.shape) >= 2


def matrices(facts: Facts) -> NDArray[np.bool_]:
    """Of every tensor."""
    return np.array([is_matrix(one) for one in facts.tensors], dtype=bool)


def _broken(run: Run, grad_norm: NDArray[np.float32]) -> NDArray[np.int_]:
    weight_norm = run.tensors.get("weight_norm")  # nan as well where a tensor was not measured, had no gradient
    measured = np.isinf(grad_norm) if weight_norm is None else np.isfinite(weight_norm)
    return 2 * (measured & ~np.isfinite(grad_norm))


def _large(run: Run, ratio: NDArray[np.float32]) -> NDArray[np.int_]:
    high = 10.0 ** BAND[1]
    judged = np.isfinite(ratio) & matrices(run.facts)
    return judged * (1 * (ratio > high) + (ratio > 10**0.5 * high))


def _small(run: Run, ratio: NDArray[np.float32]) -> NDArray[np.bool_]:
    # Where all layers move little, the learning rate has decayed or fine-tunes; where one does, it is left behind.
    judged = np.where(np.isfinite(ratio) & matrices(run.facts), ratio, np.nan)
    usual = median(judged)[:, None]
    return (judged < 10.0 ** BAND[0]) & (judged < usual / 100)


def _still(run: Run, unmoved: NDArray[np.float32]) -> NDArray[np.bool_]:
    zero = run.tensors.get("zero_grads")  # rows of an embedding that had no gradient rightly stay where they are
    return unmoved - (0 if zero is None else np.nan_to_num(zero)) > 0.5


SIGNS = (
    Sign("nonfinite", "nonfinite_grads", lambda run, v: 2 * (v > 0), "{} gradients nan or infinite"),
    Sign("nonfinite", "grad_norm", _broken, "gradient norm {}"),
    Sign("nonfinite", "weight_norm", lambda run, v: 2 * np.isinf(v), "weight norm {}"),
    Sign("spike", "spike", lambda run, v: 2 * ((v > 2.3) & (run.steps >= _FIRST_STEPS)[:, None]), "gradient spike {}"),
    Sign("update ratio", "update_ratio", _large, "update ratio {}"),
    Sign("left behind", "update_ratio", _small, "hardly moves, ratio {}"),
    Sign("no gradient", "grad_norm", lambda run, v: v == 0, "gradient {}"),
    Sign("unmoved", "unmoved", _still, "{} of its elements unmoved"),
    Sign("trust ratio", "trust_ratio", lambda run, v: (v > 10) | (v < 0.01), "trust ratio {}"),
)


def levels(run: Run) -> list[tuple[Sign, Levels]]:
    """Every sign that these columns can be asked for."""
    with np.errstate(all="ignore"):
        return [
            (one, np.asarray(one.level(run, run.tensors[one.value])).astype(np.int8))
            for one in SIGNS
            if one.value in run.tensors
        ]


def median(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Each row's median over what is not nan; nan for a row of nothing else. nanmedian takes ten times as long, and warns."""
    ordered = np.sort(values, axis=1)  # nan last
    known = (~np.isnan(values)).sum(axis=1)
    if not values.shape[1]:
        return np.full(len(values), np.nan)
    rows = np.arange(len(values))
    low, high = ordered[rows, np.maximum(known - 1, 0) // 2], ordered[rows, np.minimum(known // 2, values.shape[1] - 1)]
    return np.where(known > 0, (low.astype(np.float64) + high) / 2, np.nan)
