"""Two tasks that ask a recurrent network to remember (Hochreiter and Schmidhuber, 1997), for one that can't easily.

A plain tanh network multiplies by the same matrix in every step: gradients vanish where its spectral radius is small, explode
where it is large, and clipping makes the difference between success and failure (Pascanu, Mikolov and Bengio, 2013). Both
tasks generate their sequences from seed and step; `adding` and `temporal_order` make workloads of any length and radius.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from steepest.workbench.workload import TorchTask, Workload
from steepest.workbench.workloads.rates import RATES
from steepest.workbench.workloads.supervised import Loss, Measures, cross_entropy_and_accuracy, seeded

__all__ = ["adding", "rnn_memory", "rnn_memory_order", "temporal_order"]

BATCH, HIDDEN, HELD_OUT = 32, 50, 1000
Draw = Callable[[np.random.Generator, int, int], tuple[NDArray[np.float32], NDArray[np.generic]]]
"""So many sequences of this length, as (time, sequence, input), and their targets."""


class Recurrent(nn.Module):
    """h ← tanh(W h + U x + b), the last h read out; W is Gaussian, scaled to the spectral radius."""

    def __init__(self, inputs: int, outputs: int, radius: float) -> None:
        super().__init__()
        self.cells = nn.RNN(inputs, HIDDEN)
        self.head = nn.Linear(HIDDEN, outputs)
        for name, p in self.named_parameters():
            nn.init.zeros_(p) if "bias" in name else nn.init.normal_(p, std=0.1)
        within = self.cells.get_parameter("weight_hh_l0")
        within.data *= radius / torch.linalg.eigvals(within.data).abs().max()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        said: torch.Tensor = self.head(self.cells(x)[0][-1])
        return said


def marked_sum(rng: np.random.Generator, count: int, length: int) -> tuple[NDArray[np.float32], NDArray[np.generic]]:
    """A number and a mark at every time; one mark in each half. The target is the sum of the two marked numbers."""
    x = np.zeros((length, count, 2), dtype=np.float32)
    x[..., 0] = rng.random((length, count))
    each = np.arange(count)
    first, second = rng.integers(0, length // 2, count), rng.integers(length // 2, length, count)
    x[first, each, 1] = x[second, each, 1] = 1
    return x, (x[first, each, 0] + x[second, each, 0])[:, None]


def ordered_pair(rng: np.random.Generator, count: int, length: int) -> tuple[NDArray[np.float32], NDArray[np.generic]]:
    """Six symbols, one-hot: four that mean nothing; X or Y at about 15 % and at about 45 % of the time. Which, is the class."""
    symbols = rng.integers(0, 4, (length, count))
    each = np.arange(count)
    for low, high, choice in zip((0.1, 0.4), (0.2, 0.5), classes := rng.integers(0, 2, (2, count)), strict=True):
        times = rng.integers(int(low * length), int(high * length), count)
        symbols[times, each] = 4 + choice
    return np.eye(6, dtype=np.float32)[symbols], 2 * classes[0] + classes[1]


def _starter(
    draw: Draw, length: int, radius: float, outputs: int, loss: Loss, measures: Measures
) -> Callable[[int], TorchTask]:
    """Tasks of a kind of sequences. The held-out ones are the same for all seeds."""

    def sequences(seed: list[int], count: int) -> tuple[torch.Tensor, torch.Tensor]:
        x, y = draw(np.random.default_rng(seed), count, length)
        return torch.from_numpy(x), torch.from_numpy(y)

    def start(seed: int) -> TorchTask:
        parts = {part: sequences([2**32 + i], HELD_OUT) for i, part in enumerate(("validation", "test"))}
        with seeded(seed):
            model = Recurrent(parts["test"][0].shape[-1], outputs, radius)

        def loss_of(step: int) -> torch.Tensor:
            x, y = sequences([seed, 1, step], BATCH)
            return loss(model(x), y)

        def evaluate(part: str) -> dict[str, float]:
            x, y = parts[part]
            return measures(model(x), y)

        return TorchTask(model, loss_of, evaluate)

    return start


def adding(name: str, *, length: int, radius: float, steps: int) -> Workload:
    """The adding problem: mean squared error of the sum of two marked numbers; 1/6 for whoever always says 1.

    ``length`` is that of the sequences, >= 2; ``radius`` the spectral radius of the recurrent weights at the start.
    """

    def measures(said: torch.Tensor, target: torch.Tensor) -> dict[str, float]:
        return {
            "loss": float(functional.mse_loss(said, target)),
            "solved": float(((said - target).abs() < 0.1).double().mean()),
        }

    about = f"adding over {length} times; tanh network of {HIDDEN}, spectral radius {radius}; batches of {BATCH}"
    start = _starter(marked_sum, length, radius, 1, functional.mse_loss, measures)
    return Workload(name, start, steps, failed=1.5 / 6, about=about, source="generated", batch=BATCH)


def temporal_order(name: str, *, length: int, radius: float, steps: int) -> Workload:
    """The temporal order problem: which of two symbols came first and which second, long ago; four classes.

    ``length`` is that of the sequences, >= 10; ``radius`` the spectral radius of the recurrent weights at the start.
    """
    about = (
        f"temporal order over {length} times; tanh network of {HIDDEN}, spectral radius {radius}; batches of {BATCH}"
    )
    start = _starter(ordered_pair, length, radius, 4, functional.cross_entropy, cross_entropy_and_accuracy)
    return Workload(name, start, steps, failed=1.5 * math.log(4), about=about, source="generated", batch=BATCH)


rnn_memory = replace(
    adding("rnn-memory", length=30, radius=1.2, steps=3000),
    target=0.02,
    seconds=5.0,
    rates=RATES["rnn-memory"],
)
rnn_memory_order = replace(
    temporal_order("rnn-memory-order", length=30, radius=1.2, steps=2000),
    target=0.001,
    seconds=4.0,
    rates=RATES["rnn-memory-order"],
)
