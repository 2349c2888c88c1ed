"""Handwritten digits and a network of three layers, written in NumPy: needs no framework, takes a fraction of a second."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from steepest.workbench.digits import BATCH, FAILED, WIDTHS, Matrix, data, evaluate, forward, initial, log_softmax
from steepest.workbench.workload import ArrayTask, workload
from steepest.workbench.workloads.data import FILES
from steepest.workbench.workloads.rates import RATES
from steepest.workbench.workloads.sampling import batches

__all__ = ["digits_mlp"]


def loss_and_gradients(params: dict[str, Matrix], x: Matrix, y: NDArray[np.int64]) -> tuple[float, dict[str, Matrix]]:
    """The mean cross-entropy of a batch, and its gradients by backpropagation."""
    activations = forward(params, x)
    scores = log_softmax(activations[-1])
    own = np.arange(len(y)), y
    delta = np.exp(scores)
    delta[own] -= 1
    delta /= np.float32(len(y))
    grads: dict[str, Matrix] = {}
    for layer in reversed(range(len(WIDTHS) - 1)):
        grads[f"{layer}.weight"] = delta.T @ activations[layer]
        grads[f"{layer}.bias"] = delta.sum(axis=0)
        if layer:
            delta = (delta @ params[f"{layer}.weight"]) * (activations[layer] > 0)
    return float(-scores[own].mean()), grads


@workload(
    steps=400,
    failed=FAILED,
    source=FILES["digits.xz"].source,
    data=FILES["digits.xz"].sha256,  # of the parts: they are split there
    batch=BATCH,
    target=0.06,
    seconds=0.3,
    rates=RATES["digits-mlp"],
)
def digits_mlp(seed: int) -> ArrayTask:
    """1,257 digits of 8 x 8 pixels; 64-128-128-10, ReLU, cross-entropy; batches of 64, 20 epochs"""
    x, y = data()["train"]
    params = initial(seed)
    order = batches(len(x), BATCH, seed)

    def gradients(step: int) -> tuple[float, dict[str, Matrix]]:
        batch = order(step)
        return loss_and_gradients(params, x[batch], y[batch])

    def measures(part: str) -> dict[str, float]:
        loss, accuracy = evaluate(params, part)
        return {"loss": loss, "accuracy": accuracy}

    return ArrayTask(params, gradients, measures)
