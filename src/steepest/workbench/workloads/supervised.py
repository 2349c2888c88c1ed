"""What the workloads on PyTorch share: a model, three parts of inputs and targets, a loss; seeded weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeAlias

import torch

from steepest.workbench.workload import TorchTask
from steepest.workbench.workloads.sampling import batches

__all__ = ["Parts", "classification", "cross_entropy_and_accuracy", "seeded", "supervised"]

Parts: TypeAlias = Mapping[str, tuple[torch.Tensor, torch.Tensor]]
Loss: TypeAlias = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Measures: TypeAlias = Callable[[torch.Tensor, torch.Tensor], dict[str, float]]


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """What torch's layers draw inside comes from this seed; the generator of the process stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def supervised(
    model: torch.nn.Module, parts: Parts, loss: Loss, measures: Measures, batch: int, seed: int
) -> TorchTask:
    """Train on batches of ``parts["train"]``; measure a whole part at once. Both compare outputs with targets."""
    x, y = parts["train"]
    order = batches(len(x), batch, seed)

    def loss_of(step: int) -> torch.Tensor:
        indices = torch.from_numpy(order(step))
        return loss(model(x[indices]), y[indices])

    def evaluate(part: str) -> dict[str, float]:
        inputs, targets = parts[part]
        return measures(model(inputs), targets)

    return TorchTask(model, loss_of, evaluate)


def cross_entropy_and_accuracy(logits: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    """Mean cross-entropy in nats, and the share of examples whose class has the largest score."""
    loss = torch.nn.functional.cross_entropy(logits, labels)
    return {"loss": float(loss), "accuracy": float((logits.argmax(dim=1) == labels).double().mean())}


def classification(model: torch.nn.Module, parts: Parts, batch: int, seed: int) -> TorchTask:
    """`supervised` with cross-entropy."""
    return supervised(model, parts, torch.nn.functional.cross_entropy, cross_entropy_and_accuracy, batch, seed)
