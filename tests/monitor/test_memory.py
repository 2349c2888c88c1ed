"""Nothing that watches a training keeps it alive: with the garbage collector off, all is gone with the last name of it."""

from __future__ import annotations

import gc
import itertools
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

import steepest as s
import steepest.numpy
import steepest.torch
from steepest.monitor.probes import Activations, Histograms, NoiseScale


@pytest.fixture(autouse=True)
def nothing_collected() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Arrays:
    """A training on arrays, with what `step` needs."""

    def __init__(self) -> None:
        self.model: Any = None
        self.weight = np.ones(3)
        self.optimizer: Any = steepest.numpy.Adam({"w": self.weight}, lr=0.1)

    def step(self) -> float:
        self.optimizer.step({"w": self.weight.copy()})
        return 1.0

    def parts(self) -> dict[str, Any]:
        return {"optimizer": self.optimizer, "weight": self.weight}


class Tensors:
    """A training of a torch model."""

    def __init__(self) -> None:
        self.model: Any = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1))
        self.optimizer: Any = steepest.torch.AdamW(self.model.parameters(), lr=0.1)

    def step(self) -> torch.Tensor:
        self.optimizer.zero_grad()
        for _ in range(2):
            loss = self.model(torch.ones(2, 3)).square().sum()
            loss.backward()
        self.optimizer.step()
        return loss.detach()

    def parts(self) -> dict[str, Any]:
        return {"optimizer": self.optimizer, "model": self.model, "weight": self.model[0].weight}


def monitored(one: Any, probes: Any = (), **options: Any) -> dict[str, Any]:
    monitor = s.Monitor(one.optimizer, one.model, every=1, folder=None, probes=probes, **options)
    for _ in range(2):
        monitor(one.step())
    return {"monitor": monitor, **{probe.name: probe for probe in probes}}


def guarded(one: Any, monitor: Any = None) -> dict[str, Any]:
    guard = s.Guard(one.optimizer, one.model, rewind=1, monitor=monitor)
    for _ in range(2):
        guard(1.0)
        one.step()
    return {"guard": guard}


def closed(one: Any) -> dict[str, Any]:
    made = monitored(one)
    made["monitor"].close()
    return made


def both(one: Any) -> dict[str, Any]:
    made = monitored(one)
    return made | guarded(one, made["monitor"])


SETUPS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "monitor": monitored,
    "monitor, closed": closed,
    "guard": guarded,
    "guard and monitor": both,
    "histograms": lambda one: monitored(one, [Histograms(every=1)]),
}
ON_TORCH: dict[str, Callable[[Any], dict[str, Any]]] = SETUPS | {
    "activations": lambda one: monitored(one, [Activations(one.model, every=1)]),
    "noise scale": lambda one: monitored(one, [NoiseScale(2, every=1)]),
}
CASES = [(Arrays, name) for name in SETUPS] + [(Tensors, name) for name in ON_TORCH]


@pytest.mark.parametrize(("training", "setup"), CASES)
def test_a_watched_training_is_freed_at_once_in_whatever_order_it_is_deleted(training: Any, setup: str) -> None:
    kinds = list(ON_TORCH[setup](training())) + list(training().parts())
    for order in itertools.islice(itertools.permutations(kinds), 0, None, max(1, len(kinds))):
        one = training()
        held = ON_TORCH[setup](one) | one.parts()
        alive = {name: weakref.ref(part) for name, part in held.items()}
        del one
        for name in order:
            del held[name]
        assert [name for name, part in alive.items() if part() is not None] == []


@pytest.mark.parametrize("training", [Arrays, Tensors])
def test_a_monitor_does_not_keep_what_it_watches_and_outlives_it(training: Any) -> None:
    one = training()
    held = monitored(one)
    alive = {name: weakref.ref(part) for name, part in one.parts().items()}
    del one
    assert [name for name, part in alive.items() if part() is not None] == []
    monitor = held["monitor"]
    monitor(1.0)
    monitor.event("note", "the training is gone")
    assert (monitor.optimizer, monitor.model, monitor.last.step) == (None, None, 2)
    monitor.close()


@pytest.mark.parametrize("training", [Arrays, Tensors])
def test_a_monitor_that_nobody_holds_watches_as_long_as_its_optimizer_lives(training: Any) -> None:
    closed = []

    class Output:
        def start(self, facts: Any) -> None: ...
        def record(self, record: Any) -> None: ...
        def event(self, event: Any) -> None: ...
        def close(self) -> None:
            closed.append(1)

    one = training()
    s.Monitor(one.optimizer, one.model, every=1, folder=None, to=Output())
    one.step()
    assert one.optimizer.stepper.watch is not None and closed == []
    del one
    assert closed == [1]


def test_a_model_that_was_made_for_the_monitor_alone_still_gives_the_names() -> None:
    first, second = torch.nn.Linear(2, 2), torch.nn.Linear(2, 1)
    optimizer = steepest.torch.SGD([*first.parameters(), *second.parameters()], lr=0.1)
    probe = Activations(torch.nn.ModuleList([torch.nn.ReLU()]), every=1)
    events: list[Any] = []

    class Output:
        def start(self, facts: Any) -> None: ...
        def record(self, record: Any) -> None: ...
        def event(self, event: Any) -> None:
            events.append(event)

        def close(self) -> None: ...

    s.Monitor(optimizer, torch.nn.ModuleList([first, second]), every=1, folder=None, to=Output())
    for p in optimizer.param_groups[0]["params"]:
        p.grad = torch.zeros_like(p)
    second.bias.grad = torch.full_like(second.bias, float("nan"))
    optimizer.step()
    assert [event.tensors for event in events] == [("1.bias",)]
    assert probe.model is None
