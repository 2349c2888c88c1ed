"""Which examples belong to which part, and which come in which batch: from seeds alone, the same for every optimizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["SPLIT_SEED", "batches", "split"]

Indices = NDArray[np.int64]
SPLIT_SEED = 0
"""Of every split: no run's seed plays a part in it."""


def split(labels: NDArray[np.integer], validation: float, test: float) -> Mapping[str, Indices]:
    """Indices of the three parts. Each class gives the same share of its examples (rounded down) to each held-out part.

    The split never changes.

    >>> {part: len(indices) for part, indices in split(np.repeat([0, 1], 50), 0.1, 0.2).items()}
    {'train': 70, 'validation': 10, 'test': 20}
    """
    rng = np.random.default_rng(SPLIT_SEED)
    parts: dict[str, list[Indices]] = {"train": [], "validation": [], "test": []}
    for label in np.unique(labels):
        order = rng.permutation(np.flatnonzero(labels == label))
        ends = int(len(order) * validation), int(len(order) * validation) + int(len(order) * test)
        for part, indices in zip(("validation", "test", "train"), np.split(order, ends), strict=True):
            parts[part].append(indices)
    return {part: np.concatenate(indices) for part, indices in parts.items()}


def batches(count: int, size: int, seed: int) -> Callable[[int], Indices]:
    """The indices of step t's batch: every epoch is a new order of all examples; its last batch may be smaller.

    >>> order = batches(5, 2, seed=0)
    >>> [len(order(step)) for step in range(6)]
    [2, 2, 1, 2, 2, 1]
    """
    per_epoch = -(-count // size)

    @lru_cache(maxsize=1)
    def epoch(number: int) -> Indices:
        return np.random.default_rng([seed, 1, number]).permutation(count)

    def indices(step: int) -> Indices:
        place = step % per_epoch
        return epoch(step // per_epoch)[place * size : (place + 1) * size]

    return indices
