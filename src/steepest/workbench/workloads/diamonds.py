"""The prices of diamonds from a table: numbers and grades, a small network, as much of today's work is.

There are enough rows for batches of thousands; ``diamonds-large-batch`` makes as many passes over them in far fewer steps,
where the learning rate must grow with the batch or be adapted to each layer (LARS, LAMB).
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from steepest.workbench.workload import TorchTask, workload
from steepest.workbench.workloads import data
from steepest.workbench.workloads.rates import RATES
from steepest.workbench.workloads.sampling import SPLIT_SEED, split
from steepest.workbench.workloads.supervised import Parts, seeded, supervised

__all__ = ["diamonds", "diamonds_large_batch"]

BATCH, LARGE_BATCH = 128, 8192
NUMBERS = ("carat", "depth", "table", "x", "y", "z")
FARTHEST = 5.0
"""Standard deviations at which a number is cut off: some lengths are typing errors (0 mm, 59 mm)."""


class Network(nn.Module):
    """A vector of 4 for every grade beside the six numbers; 128 and 64 hidden units with ReLU; one output."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.grades = nn.ModuleList(nn.Embedding(len(levels), width) for levels in data.LEVELS.values())
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise((len(NUMBERS) + width * len(self.grades), 128, 64, 1)):
            layer = nn.Linear(inputs, outputs)
            nn.init.normal_(layer.weight, std=(2 / inputs) ** 0.5)
            nn.init.zeros_(layer.bias)
            layers += [layer, nn.ReLU()]
        nn.init.normal_(layer.weight, std=0.01)  # the first guess is nearly the mean
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        numbers, grades = x[:, : len(NUMBERS)], x[:, len(NUMBERS) :].long()
        vectors = [embedding(grades[:, i]) for i, embedding in enumerate(self.grades)]
        said: torch.Tensor = self.layers(torch.cat([numbers, *vectors], dim=1))
        return said


@cache
def _parts() -> Parts:
    """80, 10 and 10 per cent. Numbers are standardised (carat by its logarithm), the target is log(price) less its mean."""
    columns = data.diamonds()
    indices = split(np.zeros(len(columns["price"]), dtype=np.int64), 0.1, 0.1)
    numbers = np.stack([np.log(columns["carat"]), *(columns[name] for name in NUMBERS[1:])], axis=1)
    train = numbers[indices["train"]]
    scaled = np.clip((numbers - train.mean(axis=0)) / train.std(axis=0), -FARTHEST, FARTHEST)
    x = np.concatenate([scaled, np.stack([columns[name] for name in data.LEVELS], axis=1)], axis=1)
    price = np.log(columns["price"])
    y = (price - price[indices["train"]].mean())[:, None]
    inputs, targets = torch.from_numpy(x.astype(np.float32)), torch.from_numpy(y.astype(np.float32))
    return {part: (inputs[i], targets[i]) for part, i in indices.items()}


def _measures(said: torch.Tensor, target: torch.Tensor) -> dict[str, float]:
    loss = float(functional.mse_loss(said, target))
    return {"loss": loss, "rmse": loss**0.5}


def _task(seed: int, batch: int) -> TorchTask:
    with seeded(seed):
        model = Network()
    return supervised(model, _parts(), functional.mse_loss, _measures, batch, seed)


@workload(
    steps=1350,
    metric="rmse",
    failed=1.5,
    source=data.FILES["diamonds.xz"].source,
    data=data.FILES["diamonds.xz"].sha256,
    split_seed=SPLIT_SEED,
    batch=BATCH,
    target=0.115,
    seconds=1.0,
    rates=RATES["diamonds"],
)
def diamonds(seed: int) -> TorchTask:
    """43,152 diamonds, six numbers and three grades; 128-64, ReLU; error of the log of the price; batches of 128, 4 epochs"""
    return _task(seed, BATCH)


@workload(
    steps=60,
    metric="rmse",
    failed=1.5,
    source=data.FILES["diamonds.xz"].source,
    data=data.FILES["diamonds.xz"].sha256,
    split_seed=SPLIT_SEED,
    batch=LARGE_BATCH,
    target=0.14,
    seconds=1.0,
    rates=RATES["diamonds-large-batch"],
)
def diamonds_large_batch(seed: int) -> TorchTask:
    """43,152 diamonds, six numbers and three grades; 128-64, ReLU; error of the log of the price; batches of 8,192, 10 epochs"""
    return _task(seed, LARGE_BATCH)
