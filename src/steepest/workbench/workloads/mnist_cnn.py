"""Digits of MNIST and a small convolutional network without batch normalisation (NF-ResNet's way; Brock et al., 2021).

Scaled weight standardisation keeps the signal's size from layer to layer, whatever the size of the weights; every residual
branch starts at zero (SkipInit; De and Smith, 2020). So a batch of any size trains the same network, and what large batches
do to an optimizer is seen by itself.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import nn
from torch.nn import functional

from steepest.workbench.workload import TorchTask, workload
from steepest.workbench.workloads import data
from steepest.workbench.workloads.rates import RATES
from steepest.workbench.workloads.sampling import SPLIT_SEED, split
from steepest.workbench.workloads.supervised import Parts, classification, seeded

__all__ = ["mnist_cnn", "mnist_cnn_large_batch"]

BATCH, LARGE_BATCH = 64, 1000
GAIN = (2 / (1 - 1 / torch.pi)) ** 0.5
"""Makes the variance of relu(z), z normal, one again (Brock et al., 2021, section 4)."""


class StandardisedConv(nn.Conv2d):
    """A 3 x 3 convolution with weights of mean 0 and variance 1/fan-in for each output, times a learned gain."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(inputs, outputs, 3, stride=stride, padding=1)
        self.gain = nn.Parameter(torch.ones(outputs, 1, 1, 1))
        nn.init.zeros_(self.get_parameter("bias"))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        variance, mean = torch.var_mean(self.weight, dim=(1, 2, 3), keepdim=True)
        scale = self.gain * torch.rsqrt(variance * self.weight[0].numel() + 1e-4)
        return functional.conv2d(x, (self.weight - mean) * scale, self.bias, self.stride, self.padding)


class Residual(nn.Module):
    """x + α f(x), with α = 0 at the start."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = StandardisedConv(channels, channels), StandardisedConv(channels, channels)
        self.alpha = nn.Parameter(torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = self.first(GAIN * functional.relu(x))
        branch: torch.Tensor = self.second(GAIN * functional.relu(inner))
        return x + self.alpha * branch


class Network(nn.Module):
    """Three convolutions with stride 2 (16, 32 and 64 channels), a residual branch after each of the first two."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.ModuleList(
            [
                StandardisedConv(1, 16, 2),
                Residual(16),
                StandardisedConv(16, 32, 2),
                Residual(32),
                StandardisedConv(32, 64, 2),
            ]
        )
        self.head = nn.Linear(64, 10)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.body:
            shrinks = isinstance(layer, StandardisedConv) and layer.in_channels > 1
            x = layer(GAIN * functional.relu(x) if shrinks else x)
        logits: torch.Tensor = self.head((GAIN * functional.relu(x)).mean(dim=(2, 3)))
        return logits


@cache
def _parts() -> Parts:
    """4,000, 500 and 500 images, as many of each digit, pixels scaled to the training part's mean 0 and deviation 1."""
    pixels, labels = data.mnist()
    indices = split(labels, 0.1, 0.1)
    train = pixels[indices["train"]]
    scaled = ((pixels - train.mean()) / train.std()).astype("float32").reshape(-1, 1, 28, 28)
    x, y = torch.from_numpy(scaled), torch.from_numpy(labels.astype("int64"))
    return {part: (x[i], y[i]) for part, i in indices.items()}


def _task(seed: int, batch: int) -> TorchTask:
    with seeded(seed):
        model = Network()
    return classification(model, _parts(), batch, seed)


@workload(
    steps=630,
    failed=3.45,
    source=data.FILES["mnist_5k.xz"].source,
    data=data.FILES["mnist_5k.xz"].sha256,
    split_seed=SPLIT_SEED,
    batch=BATCH,
    target=0.165,
    seconds=8.0,
    rates=RATES["mnist-cnn"],
)
def mnist_cnn(seed: int) -> TorchTask:
    """4,000 images of MNIST; convolutions 16-32-64, two residual branches, no batch norm; batches of 64, 10 epochs"""
    return _task(seed, BATCH)


@workload(
    steps=120,
    failed=3.45,
    source=data.FILES["mnist_5k.xz"].source,
    data=data.FILES["mnist_5k.xz"].sha256,
    split_seed=SPLIT_SEED,
    batch=LARGE_BATCH,
    target=0.22,
    seconds=18.0,
    rates=RATES["mnist-cnn-large-batch"],
)
def mnist_cnn_large_batch(seed: int) -> TorchTask:
    """4,000 images of MNIST; convolutions 16-32-64, two residual branches, no batch norm; batches of 1,000, 30 epochs"""
    return _task(seed, LARGE_BATCH)
