"""The embedded workload: handwritten digits and a small network written in NumPy.

1,797 images of 8 x 8 pixels in ten classes (scikit-learn's bundled copy of the UCI set, CC BY 4.0), split 1257/240/300 by
class with a fixed seed; a network 64-128-128-10 with ReLU, softmax cross-entropy, float32. A seed fixes the initial weights
and the order of the batches, the same for every optimizer.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from numpy.typing import NDArray

import steepest
import steepest.numpy as opt

__all__ = ["BATCH", "Run", "steps_for", "train"]

Matrix = NDArray[np.float32]
WIDTHS = (64, 128, 128, 10)
BATCH = 64


@dataclass(frozen=True, slots=True)
class Run:
    """One training run: what it was given, what came out. Losses are cross-entropies in nats; infinite where it failed."""

    seed: int
    lr: float
    failed: bool
    validation_loss: float
    validation_accuracy: float
    test_loss: float
    test_accuracy: float
    curve: tuple[float, ...] = field(default=())
    step_microseconds: float = 0.0


@cache
def data() -> dict[str, tuple[Matrix, NDArray[np.int64]]]:
    """The three parts, pixels scaled to [0, 1]."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32)
    x_rest, x_test, y_rest, y_test = train_test_split(x, y, test_size=300, stratify=y, random_state=0)
    x_train, x_val, y_train, y_val = train_test_split(x_rest, y_rest, test_size=240, stratify=y_rest, random_state=0)
    return {"train": (x_train, y_train), "validation": (x_val, y_val), "test": (x_test, y_test)}


def steps_for(epochs: int) -> int:
    """Steps in so many epochs; the last batch of an epoch is smaller."""
    return epochs * -(-len(data()["train"][0]) // BATCH)


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


def gradients(params: dict[str, Matrix], x: Matrix, y: NDArray[np.int64]) -> dict[str, Matrix]:
    """Of the mean cross-entropy."""
    activations = forward(params, x)
    delta = np.exp(log_softmax(activations[-1]))
    delta[np.arange(len(y)), y] -= 1
    delta /= np.float32(len(y))
    grads: dict[str, Matrix] = {}
    for layer in reversed(range(len(WIDTHS) - 1)):
        grads[f"{layer}.weight"] = delta.T @ activations[layer]
        grads[f"{layer}.bias"] = delta.sum(axis=0)
        if layer:
            delta = (delta @ params[f"{layer}.weight"]) * (activations[layer] > 0)
    return grads


def evaluate(params: dict[str, Matrix], part: str) -> tuple[float, float]:
    """Mean cross-entropy and accuracy on a part."""
    x, y = data()[part]
    scores = log_softmax(forward(params, x)[-1])
    return float(-scores[np.arange(len(y)), y].mean()), float((scores.argmax(axis=1) == y).mean())


def train(chain: steepest.Chain, seed: int, epochs: int, lr: float) -> Run:
    """One run. It fails where a loss is not finite, or the last is above that of guessing."""
    params = initial(seed)
    optimizer = opt.Optimizer(params, chain)
    rng = np.random.default_rng([seed, 1])
    x, y = data()["train"]
    averaged = any(name == "average" for link in chain for name, _ in link.state)
    curve: list[float] = []
    spent = 0.0
    steps = 0
    with np.errstate(all="ignore"):
        for _ in range(epochs):
            order = rng.permutation(len(x))
            for lo in range(0, len(x), BATCH):
                batch = order[lo : lo + BATCH]
                grads = gradients(params, x[batch], y[batch])
                begun = time.perf_counter()
                optimizer.step(grads)
                spent += time.perf_counter() - begun if steps >= 10 else 0.0
                steps += 1
            if averaged:
                with optimizer.using("average"):
                    results = {part: evaluate(params, part) for part in ("validation", "test")}
            else:
                results = {part: evaluate(params, part) for part in ("validation", "test")}
            curve.append(results["validation"][0])
            if not np.isfinite(curve[-1]):
                break
    failed = not np.isfinite(curve[-1]) or curve[-1] > 1.5 * np.log(WIDTHS[-1])
    infinite = float("inf")
    return Run(
        seed,
        lr,
        bool(failed),
        infinite if failed else results["validation"][0],
        0.0 if failed else results["validation"][1],
        infinite if failed else results["test"][0],
        0.0 if failed else results["test"][1],
        tuple(c if np.isfinite(c) else infinite for c in curve),
        1e6 * spent / max(1, steps - 10),
    )
