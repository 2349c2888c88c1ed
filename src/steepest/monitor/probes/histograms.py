"""How the elements of weights, gradients and updates are distributed: exact counts between powers of two."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steepest.checks import Count, check_value, unknown_name
from steepest.monitor.probes import Subject, Values
from steepest.monitor.probes.hooks import Hooks

__all__ = ["LOWEST", "Histograms", "histogram"]

LOWEST, _BINS = -64, 128
"""Bin k of a sign holds ``2 ** (LOWEST + k) <= |x| < 2 ** (LOWEST + k + 1)``; the first also what is smaller, the last what is
larger."""
KINDS = ("weights", "gradients", "updates")
WIDTH = 2 * _BINS + 2


def histogram(values: Any) -> NDArray[np.int64]:
    """Exact counts of an array's or a tensor's elements: negative ones from the largest to the smallest size, zeros, positive
    ones from the smallest to the largest, and in the last place what is not finite.

    >>> counts = histogram(np.array([0.0, 1.0, 1.5, 2.0, -3.0, np.nan]))
    >>> middle = len(counts) // 2 - 1
    >>> int(counts[middle]), counts[middle + 1 - LOWEST : middle + 3 - LOWEST], int(counts[-1])
    (1, array([2, 1]), 1)
    """
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(values, torch.Tensor):
        return _of_tensor(values)
    values = np.asarray(values).reshape(-1)
    finite = np.isfinite(values)
    known = values if finite.all() else values[finite]
    _, exponents = np.frexp(known)
    size = np.clip(exponents.astype(np.int64) - 1 - LOWEST, 0, _BINS - 1) + 1
    place = np.where(known > 0, size, np.where(known < 0, -size, 0)) + _BINS
    counts = np.bincount(place, minlength=WIDTH)
    counts[-1] = values.size - known.size
    return counts


def _of_tensor(values: Any) -> NDArray[np.int64]:
    import torch

    with torch.no_grad():
        values = values.detach().reshape(-1)
        values = values if values.dtype in (torch.float32, torch.float64) else values.float()
        finite = torch.isfinite(values)
        known = values if bool(finite.all()) else values[finite]
        size = (torch.frexp(known).exponent.long() - 1 - LOWEST).clamp(0, _BINS - 1) + 1
        counts = torch.bincount(size * torch.sign(known).long() + _BINS, minlength=WIDTH)
        counts[-1] = values.numel() - known.numel()
        return counts.cpu().numpy()


class Histograms:
    """Counts, for each tensor, how many elements lie between which powers of two.

    The edges are fixed, so counts of different steps and tensors can be added and compared, and those of sixteen-bit types are
    edges: what float16 would round to 0 can be counted. Also without a monitor: ``histogram(array)``.

    Parameters
    ----------
    every : in steps, >= 1; 100.
    of : which of ``"weights"``, ``"gradients"`` and ``"updates"``; all of them. Gradients are seen under torch only.

    Values
    ------
    histograms_weights, histograms_gradients, histograms_updates : per tensor the median of the sizes of what is not 0, to the
        nearest power of ``2 ** 0.5``; nan where there is nothing else.

    Attributes
    ----------
    counts : by kind, the last step's counts: a row per tensor in the optimizer's order, columns as `histogram` gives them.
    step : that step.

    Notes
    -----
    Price, at each ``every``-th step: about five passes over each kind, and for updates a copy of the weights; a third of a step of
    a language model of 3.7 million parameters, for weights alone a tenth (``benchmarks/probes.py``).
    """

    def __init__(self, *, every: int = 100, of: Collection[str] = KINDS, name: str = "histograms") -> None:
        check_value("Histograms", "every", every, Count)
        self.of = (of,) if isinstance(of, str) else tuple(of)
        for kind in self.of:
            if kind not in KINDS:
                raise ValueError(unknown_name("Histograms", "kind", kind, KINDS))
        self.every, self.name = every, name
        self.counts: dict[str, NDArray[np.int64]] = {}
        self.step = 0
        self._subject: Subject | None = None
        self._before: list[Any] = []
        self._gradients: list[Any] = []
        self._hooks = Hooks()

    def start(self, subject: Subject) -> None:
        self._subject = subject

    def before(self, step: int) -> None:
        assert self._subject is not None
        self.close()
        optimizer, params = self._subject.optimizer, self._subject.params
        if "updates" in self.of:
            self._before = [p.copy() if isinstance(p, np.ndarray) else p.detach().clone() for p in params]
        if "gradients" in self.of:
            self._hooks.start(optimizer, at_step=self._see)

    def measure(self, step: int) -> Values:
        assert self._subject is not None
        self._hooks.finish()
        params = [p if isinstance(p, np.ndarray) else p.detach() for p in self._subject.params]
        self.step, self.counts = step, {}
        if "weights" in self.of:
            self.counts["weights"] = np.stack([histogram(p) for p in params])
        if self._gradients:
            self.counts["gradients"] = np.stack(self._gradients)
        if self._before:
            updates = [after - before for after, before in zip(params, self._before, strict=True)]
            self.counts["updates"] = np.stack([histogram(u) for u in updates])
        self.close()
        return {f"{self.name}_{kind}": _medians(rows) for kind, rows in self.counts.items()}

    def close(self) -> None:
        self._hooks.remove()
        self._before, self._gradients = [], []

    def _see(self) -> None:
        """Right after the step, when gradients are complete and still there."""
        assert self._subject is not None
        self._gradients = [
            np.zeros(WIDTH, np.int64) if p.grad is None else histogram(_dense(p.grad)) for p in self._subject.params
        ]


def _dense(grad: Any) -> Any:
    return grad.to_dense() if grad.is_sparse else grad


def _medians(rows: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.array([_median(row) for row in rows])


def _median(counts: Sequence[int] | NDArray[np.int64]) -> float:
    """The middle, on the logarithmic scale, of the bin in which the median size lies."""
    row = np.asarray(counts)
    sizes = row[_BINS + 1 : 2 * _BINS + 1] + row[_BINS - 1 :: -1][:_BINS]
    if not sizes.any():
        return float("nan")
    middle = int(np.searchsorted(np.cumsum(sizes), (sizes.sum() + 1) // 2))
    return float(2.0 ** (LOWEST + middle + 0.5))
