"""Addresses of a step's gradients, checked and taken in one compiled call instead of attribute look-ups for each array."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steepest.engines.numba import kernels
from steepest.engines.tensors import Tensor

__all__ = ["Gatherer"]


class Gatherer:
    """Takes the addresses of all gradients of a step in one call, if every one is what the parameters lead to expect."""

    def __init__(self, tensors: list[Tensor]) -> None:
        params = [t.param for t in tensors]
        self.function = _gather()
        self.header = object.__basicsize__
        self.dtypes = np.array([id(np.dtype(p.dtype.type)) for p in params], dtype=np.int64)
        self.ndims = np.array([p.ndim for p in params], dtype=np.int64)
        self.first_dim = np.cumsum([0] + [p.ndim for p in params])[:-1].astype(np.int64)
        self.shapes = np.array([n for p in params for n in p.shape], dtype=np.int64)
        self.strides = np.array([n for p in params for n in p.strides], dtype=np.int64)
        self.sizes = np.array([p.nbytes for p in params], dtype=np.int64)
        ranges = sorted((b.ctypes.data, b.ctypes.data + b.nbytes) for t in tensors for b in [t.param] if b.nbytes)
        self.starts = np.array([lo for lo, _ in ranges], dtype=np.int64)
        self.ends = np.array([hi for _, hi in ranges], dtype=np.int64)
        self.addresses = np.zeros(len(params), dtype=np.int64)

    def __call__(self, grads: Sequence[Any]) -> NDArray[np.int64] | None:
        """The addresses, or None if any gradient needs a closer look."""
        objects = np.fromiter(map(id, grads), dtype=np.int64, count=len(grads))
        irregular = self.function(
            objects, self.header, id(np.ndarray), self.dtypes, self.ndims, self.first_dim, self.shapes, self.strides,
            self.sizes, self.starts, self.ends, self.addresses,
        )  # fmt: skip
        return self.addresses if irregular < 0 else None


@cache
def _gather() -> Callable[..., Any]:
    """The compiled function, or one that always asks for a closer look where arrays are laid out in another way."""
    text = Path(kernels.__file__).with_name("gather.py").read_text(encoding="utf-8")
    function = kernels.load("gather", text, "gather")
    probe = np.arange(6, dtype=np.float32).reshape(2, 3)
    words = np.array([probe.ctypes.data, id(probe.dtype)])
    header = object.__basicsize__
    seen = np.frombuffer(ctypes.string_at(id(probe) + header, 56), dtype=np.int64)
    return function if seen[0] == words[0] and seen[5] == words[1] else lambda *_: 0
