"""Handwritten digits and the forward pass of a small network in NumPy.

1,797 images of 8 x 8 pixels in ten classes (the UCI set as scikit-learn brings it, CC BY 4.0), split 1257/240/300 by class; a
network 64-128-128-10 with ReLU, softmax cross-entropy, float32. A seed fixes the initial weights
and the order of the batches, the same for every optimizer.
"""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np
from numpy.typing import NDArray

from steepest.workbench.workloads.data import digits

__all__ = ["BATCH", "FAILED", "WIDTHS", "Matrix", "data", "evaluate", "forward", "initial", "log_softmax"]

Matrix = NDArray[np.float32]
WIDTHS = (64, 128, 128, 10)
BATCH = 64
FAILED = 1.5 * float(np.log(WIDTHS[-1]))
"""A validation loss (nats) above which a run has failed: half as much again as guessing."""


@cache
def data() -> dict[str, tuple[Matrix, NDArray[np.int64]]]:
    """The three parts, pixels scaled to [0, 1]."""
    return {part: ((x / 16).astype(np.float32), y.astype(np.int64)) for part, (x, y) in digits().items()}


def initial(seed: int) -> dict[str, Matrix]:
    """He's initialisation."""
    rng = np.random.default_rng(seed)
    params: dict[str, Matrix] = {}
    for layer, (fan_in, fan_out) in enumerate(itertools.pairwise(WIDTHS)):
        weight = rng.normal(0, np.sqrt(2 / fan_in), size=(fan_out, fan_in))
        params[f"{layer}.weight"] = weight.astype(np.float32)
        params[f"{layer}.bias"] = np.zeros(fan_out, dtype=np.float32)
    return params


def forward(params: dict[str, Matrix], x: Matrix) -> list[Matrix]:
    """The activations of every layer; the last are logits."""
    activations = [x]
    layers = len(WIDTHS) - 1
    for layer in range(layers):
        z = activations[-1] @ params[f"{layer}.weight"].T + params[f"{layer}.bias"]
        activations.append(np.maximum(z, np.float32(0)) if layer < layers - 1 else z)
    return activations


def log_softmax(logits: Matrix) -> Matrix:
    shifted = logits - logits.max(axis=1, keepdims=True)
    normaliser: Matrix = np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    scores: Matrix = shifted - normaliser
    return scores


def evaluate(params: dict[str, Matrix], part: str) -> tuple[float, float]:
    """Mean cross-entropy and accuracy on a part."""
    x, y = data()[part]
    scores = log_softmax(forward(params, x)[-1])
    return float(-scores[np.arange(len(y)), y].mean()), float((scores.argmax(axis=1) == y).mean())
