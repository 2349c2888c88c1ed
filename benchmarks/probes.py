"""What probes and the guard cost: a training step plain, and what each adds to the step at which it is due.

A language model of 3.7 million parameters in 54 tensors under AdamW (``torch_training.py``), and for activations a perceptron with
three hidden ReLU layers of width 1024 on batches of 256. «adds» is the median over rounds of the time of a step with the probe,
its call before the forward pass and its measurement after the step included, less the plain step timed right before it. On all
other steps a probe costs nothing: it has no hooks then. Times are the processor's, on one thread, so that other work on the machine
does not count; for the guard's calls, which may wait for the disk, also by the clock.

    python benchmarks/probes.py [--rounds 15]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from limit import machine
from torch import nn
from torch_training import BATCH, LENGTH, VOCABULARY, Transformer

import steepest
import steepest.torch
from steepest.monitor.probes import Activations, Histograms, NoiseScale, Probe, Sharpness, Subject

MICRO = 2
"""Backward passes of a step."""


class Training:
    """A model and its step on one batch, in `MICRO` parts."""

    def __init__(self, perceptron: bool) -> None:
        torch.manual_seed(0)
        if perceptron:
            layers: list[nn.Module] = [m for _ in range(3) for m in (nn.Linear(1024, 1024), nn.ReLU())]
            self.model: nn.Module = nn.Sequential(*layers, nn.Linear(1024, 10))
            x, y = torch.randn(256, 1024), torch.randint(10, (256,))
            self.loss = lambda: nn.functional.cross_entropy(self.model(x), y)
        else:
            self.model = Transformer()
            tokens = torch.randint(VOCABULARY, (BATCH, LENGTH + 1))
            self.loss = lambda: nn.functional.cross_entropy(
                self.model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten()
            )
        self.optimizer = steepest.torch.AdamW(self.model.parameters(), lr=1e-4)
        params = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.subject = Subject(self.optimizer, tuple(map(str, range(len(params)))), tuple(params), self.model)

    def step(self) -> torch.Tensor:
        for _ in range(MICRO):
            loss = self.loss()
            (loss / MICRO).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.detach()


def seconds(function: Callable[[], Any], clock: Callable[[], float] = time.process_time) -> float:
    began = clock()
    function()
    return clock() - began


def cost(training: Training, probe: Probe, rounds: int) -> tuple[float, float, dict[str, Any]]:
    """The plain step, what the probe adds, and what it measured last, with what it added the first time."""
    probe.start(training.subject)
    plain, added = [], []
    values: dict[str, Any] = {}

    def probed(step: int) -> None:
        nonlocal values
        probe.before(step)
        training.step()
        values = dict(probe.measure(step))

    first = seconds(lambda: probed(0))  # the first sharpness starts from nothing
    for number in range(1, rounds + 1):
        plain.append(seconds(training.step))
        added.append(seconds(lambda number=number: probed(number)) - plain[-1])  # type: ignore[misc]  # bound at once
    probe.close()
    usual = statistics.median(plain)
    return usual, statistics.median(added), {**values, "first": first - usual}


def probes(rounds: int) -> None:
    language = Training(perceptron=False)
    perceptron = Training(perceptron=True)
    rows: list[tuple[str, Training, Probe]] = [
        (f"NoiseScale, {MICRO} micro-batches seen", language, NoiseScale(BATCH)),
        ("NoiseScale, 2 batches of its own", language, NoiseScale(BATCH, loss_fn=language.loss)),
        ("Sharpness", language, Sharpness(language.loss)),
        ("Activations", perceptron, Activations(perceptron.model)),
        ("Histograms", language, Histograms()),
        ("Histograms of weights", language, Histograms(of=["weights"])),
    ]
    print(f"{'':36}{'step':>10}{'adds':>10}{'of a step':>11}")
    for name, training, probe in rows:
        plain, added, values = cost(training, probe, rounds)
        products = values.get("sharpness_products")
        said = f", {products:.0f} products; the first time {values['first'] / plain:.0f} steps" if products else ""
        print(f"{name:36}{plain * 1e3:8.1f}ms{added * 1e3:8.1f}ms{added / plain:10.0%} {said}")


def guards(rounds: int) -> None:
    training = Training(perceptron=False)
    size = sum(p.numel() for p in training.subject.params) * 12 / 1e6
    loss = training.step()
    print(f"\nGuard, {size:.0f} MB of weights and moments")
    with tempfile.TemporaryDirectory() as folder:
        for name, options in {
            "a call": {}, "a call that takes a snapshot in memory": {"rewind": 1},
            "a call that writes a snapshot": {"rewind": 1, "folder": Path(folder)},
        }.items():  # fmt: skip
            guard = steepest.Guard(training.optimizer, training.model, most_skipped=10**9, **options)
            times, waits = [], []
            for _ in range(rounds if options else 100 * rounds):
                if options:
                    training.step()
                began = time.perf_counter()
                times.append(seconds(lambda guard=guard: guard(loss)))  # type: ignore[misc]  # bound at once
                waits.append(time.perf_counter() - began)
            found, waited = statistics.median(times) * 1e3, statistics.median(waits) * 1e3
            print(f"{name:40}{found:10.3f}ms, by the clock {waited:.3f}ms")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{machine()}, torch {torch.__version__} on one")
    probes(arguments.rounds)
    guards(arguments.rounds)
