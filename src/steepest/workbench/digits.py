"""The embedded workload: handwritten digits and a small network written in NumPy.

1,797 images of 8 x 8 pixels in ten classes (scikit-learn's bundled copy of the UCI set, CC BY 4.0), split 1257/240/300 by
class with a fixed seed; a network 64-128-128-10 with ReLU, softmax cross-entropy, float32. A seed fixes the initial weights
and the order of the batches, the same for every optimizer.
"""

from __future__ import annotations

import copy
import itertools
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

import steepest
import steepest.numpy as opt
from steepest.schedules import ReduceOnPlateau

__all__ = ["BATCH", "FAILED", "Run", "learning_rate", "steps_for", "train"]

Matrix = NDArray[np.float32]
WIDTHS = (64, 128, 128, 10)
BATCH = 64
FAILED = 1.5 * float(np.log(WIDTHS[-1]))
"""A validation loss (nats) above which a run has failed: half as much again as guessing."""
UNTIMED = 10  # steps: the first ones compile


@dataclass(frozen=True, slots=True)
class Run:
    """One training run: what it was given, what came out. Losses are cross-entropies in nats; infinite where it failed.

    ``curve`` is the validation loss after each epoch, ``rates`` the learning rate during each, where it is scheduled.
    """

    seed: int
    lr: float | None
    failed: bool
    validation_loss: float
    validation_accuracy: float
    test_loss: float
    test_accuracy: float
    curve: tuple[float, ...] = ()
    rates: tuple[float, ...] = ()
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


def train(chain: steepest.Chain, seed: int, epochs: int, lr: float | None) -> Run:
    """One run. It fails where a loss is not finite, where the chain refuses a gradient that is not, and where the last
    validation loss is above `FAILED`. ``lr`` is what the run's record says.
    """
    params = initial(seed)
    chain = copy.deepcopy(chain)  # a ReduceOnPlateau remembers: every run begins with its own
    optimizer = opt.Optimizer(params, chain)
    rng = np.random.default_rng([seed, 1])
    x, y = data()["train"]
    averaged = any(name == "average" for link in chain for name, _ in link.state)
    rate = learning_rate(chain)
    plateaus = {id(v): v for link in chain for _, v in link.values if isinstance(v, ReduceOnPlateau)}.values()
    curve: list[float] = []
    rates: list[float] = []
    spent = 0.0
    steps = 0
    with np.errstate(all="ignore"):
        for _ in range(epochs):
            if callable(rate):
                rates.append(float(rate(steps)))
            order = rng.permutation(len(x))
            try:
                for lo in range(0, len(x), BATCH):
                    batch = order[lo : lo + BATCH]
                    grads = gradients(params, x[batch], y[batch])
                    begun = time.perf_counter()
                    optimizer.step(grads)
                    spent += time.perf_counter() - begun if steps >= UNTIMED else 0.0
                    steps += 1
            except FloatingPointError:  # a chain with on_nonfinite="error"
                curve.append(np.inf)
                break
            with optimizer.using("average") if averaged else nullcontext():
                validation = evaluate(params, "validation")
                test = evaluate(params, "test") if len(curve) == epochs - 1 else (np.inf, 0.0)
            curve.append(validation[0] if np.isfinite(validation[0]) else np.inf)
            if not np.isfinite(curve[-1]):
                break
            for plateau in plateaus:
                plateau.step(curve[-1])
    failed = not curve[-1] <= FAILED or not np.isfinite(test[0])
    if failed:
        validation = test = (float("inf"), 0.0)
    timed = 1e6 * spent / max(1, steps - UNTIMED)
    return Run(seed, lr, failed, *validation, *test, tuple(map(float, curve)), tuple(rates), timed)


def learning_rate(chain: steepest.Chain) -> float | Callable[[int], float] | None:
    """What a chain was given as ``lr``: a number, a schedule, or nothing."""
    return next((value for link in chain for name, value in link.values if name == "lr"), None)
