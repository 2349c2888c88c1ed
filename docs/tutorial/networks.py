"""The tutorial's network, written out once: handwritten digits, a loss with its gradients, and the loop that trains it.

Everything is NumPy, so that each line of a page can be read. A seed fixes the first weights and the order of the batches, the
same for every optimizer.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

import steepest.numpy as opt
from steepest.workbench.digits import data

threadpool_limits(1, user_api="blas")  # matrices as small as these gain nothing from a second thread

BATCH = 64
Params = dict[str, np.ndarray]


def initial(seed: int = 0, widths: tuple[int, ...] = (64, 64, 10)) -> Params:
    """Weights by He's initialisation, biases of 0: ``0.weight``, ``0.bias``, ``1.weight`` …, all float32."""
    rng = np.random.default_rng(seed)
    params: Params = {}
    for layer, (fan_in, fan_out) in enumerate(itertools.pairwise(widths)):
        params[f"{layer}.weight"] = rng.normal(0, np.sqrt(2 / fan_in), (fan_out, fan_in)).astype(np.float32)
        params[f"{layer}.bias"] = np.zeros(fan_out, np.float32)
    return params


def forward(params: Params, x: np.ndarray) -> list[np.ndarray]:
    """The activations of every layer, ReLU between them; the last are the logits."""
    activations = [x]
    layers = len(params) // 2
    for layer in range(layers):
        z = activations[-1] @ params[f"{layer}.weight"].T + params[f"{layer}.bias"]
        activations.append(np.maximum(z, np.float32(0)) if layer < layers - 1 else z)
    return activations


def loss_and_gradients(params: Params, x: np.ndarray, y: np.ndarray) -> tuple[float, Params]:
    """The mean cross-entropy of a batch, and its gradients by backpropagation."""
    activations = forward(params, x)
    scores = log_softmax(activations[-1])
    own = np.arange(len(y)), y
    delta = np.exp(scores)
    delta[own] -= 1
    delta /= np.float32(len(y))
    grads: Params = {}
    for layer in reversed(range(len(params) // 2)):
        grads[f"{layer}.weight"] = delta.T @ activations[layer]
        grads[f"{layer}.bias"] = delta.sum(axis=0)
        if layer:
            delta = (delta @ params[f"{layer}.weight"]) * (activations[layer] > 0)
    return float(-scores[own].mean()), grads


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def evaluate(params: Params, part: str = "validation") -> tuple[float, float]:
    """Mean cross-entropy and accuracy on ``"train"``, ``"validation"`` or ``"test"``."""
    x, y = data()[part]
    scores = log_softmax(forward(params, x)[-1])
    return float(-scores[np.arange(len(y)), y].mean()), float((scores.argmax(axis=1) == y).mean())


def batches(seed: int = 0, size: int = BATCH) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches without end: every epoch goes through the training part in a new order."""
    x, y = data()["train"]
    rng = np.random.default_rng([seed, 1])
    while True:
        order = rng.permutation(len(x))
        for start in range(0, len(x) - size + 1, size):
            batch = order[start : start + size]
            yield x[batch], y[batch]


@dataclass
class Run:
    """What a training left behind: the loss of every batch, and loss and accuracy on the validation part at the end."""

    losses: np.ndarray
    loss: float
    accuracy: float
    params: Params
    optimizer: opt.Optimizer


def train(
    chain: Any,
    steps: int = 200,
    seed: int = 0,
    *,
    size: int = BATCH,
    params: Params | None = None,
    look: Callable[[int, Params, Params], None] | None = None,
) -> Run:
    """Train from the seed's first weights, or from ``params`` in place.

    ``look(step, params, grads)`` sees every step's gradients before they are applied. A rate that is too high is no error here:
    the losses become large, then nan.
    """
    params = initial(seed) if params is None else params
    optimizer = opt.Optimizer(params, chain)
    losses = np.full(steps, np.nan)
    with np.errstate(all="ignore"):
        for step, (x, y) in enumerate(itertools.islice(batches(seed, size), steps)):
            losses[step], grads = loss_and_gradients(params, x, y)
            if look is not None:
                look(step, params, grads)
            optimizer.step(grads)
        loss, accuracy = evaluate(params)
    return Run(losses, loss, accuracy, params, optimizer)


def validation_losses(
    recipe: Callable[[float], Any], rates: Iterable[float], *, seeds: Iterable[int] = (0, 1, 2), steps: int = 200
) -> np.ndarray:
    """The median validation loss over the seeds, for each learning rate; infinite where training blew up."""
    seeds = tuple(seeds)
    found = [[train(recipe(float(rate)), steps, seed).loss for seed in seeds] for rate in rates]
    return np.median(np.nan_to_num(found, nan=np.inf), axis=1)


def smooth(losses: np.ndarray, weight: float = 0.9) -> np.ndarray:
    """An exponential average with bias correction, for curves of batch losses."""
    average, result = 0.0, np.empty(len(losses))
    for i, loss in enumerate(losses):
        average = weight * average + (1 - weight) * loss
        result[i] = average / (1 - weight ** (i + 1))
    return result
