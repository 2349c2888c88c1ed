"""A deep autoencoder with a narrow middle: the classic of badly conditioned training (Hinton and Salakhutdinov, 2006).

Plain gradient descent crawls here, momentum and second-order methods don't (Martens, 2010; Sutskever et al., 2013).
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

from steepest.workbench.workload import TorchTask, workload
from steepest.workbench.workloads import data
from steepest.workbench.workloads.rates import RATES
from steepest.workbench.workloads.sampling import SPLIT_SEED, split
from steepest.workbench.workloads.supervised import Parts, seeded, supervised

__all__ = ["autoencoder"]

WIDTHS = (784, 256, 64, 16, 64, 256, 784)
BATCH = 64


def _network() -> nn.Sequential:
    """tanh between the layers; weights of variance 1/fan-in. The outputs are logits of the pixels."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(WIDTHS):
        layer = nn.Linear(inputs, outputs)
        nn.init.normal_(layer.weight, std=inputs**-0.5)
        nn.init.zeros_(layer.bias)
        layers += [layer, nn.Tanh()]
    nn.init.normal_(layer.weight, std=0.01)
    return nn.Sequential(*layers[:-1])


@cache
def _parts() -> Parts:
    """4,000, 500 and 500 images, pixels from 0 to 1, which are their own targets."""
    pixels, labels = data.mnist()
    images = torch.from_numpy(pixels.astype("float32") / 255)
    return {part: (images[i], images[i]) for part, i in split(labels, 0.1, 0.1).items()}


def _measures(logits: torch.Tensor, images: torch.Tensor) -> dict[str, float]:
    """Mean cross-entropy of a pixel in nats, and the squared error of an image."""
    loss = functional.binary_cross_entropy_with_logits(logits, images)
    return {"loss": float(loss), "squared_error": float((logits.sigmoid() - images).square().sum(dim=1).mean())}


@workload(
    steps=1260,
    failed=1.04,
    source=data.FILES["mnist_5k.xz"].source,
    data=data.FILES["mnist_5k.xz"].sha256,
    split_seed=SPLIT_SEED,
    batch=BATCH,
    target=0.135,
    seconds=4.0,
    rates=RATES["autoencoder"],
)
def autoencoder(seed: int) -> TorchTask:
    """4,000 images of MNIST; autoencoder 784-256-64-16-64-256-784, tanh, cross-entropy of pixels; batches of 64, 20 epochs"""
    with seeded(seed):
        model = _network()
    return supervised(model, _parts(), functional.binary_cross_entropy_with_logits, _measures, BATCH, seed)
