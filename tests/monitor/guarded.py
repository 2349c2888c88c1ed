"""Trainings for the tests of `Guard`, on NumPy and on torch, in this process or as one to be killed:
``python -m tests.monitor.guarded numpy FOLDER RESULT``."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import steepest as s
import steepest.numpy as opt
from steepest import schedules

if TYPE_CHECKING:
    import torch

BATCHES = 60
SIZE = 60_000
"""Weights of the training that is killed: most of its time it writes."""


class OnArrays:
    """Least squares with momentum, a schedule, Lookahead, an average, and dropout by NumPy's common random numbers."""

    def __init__(self, size: int = 6) -> None:
        np.random.seed(3)
        random.seed(4)
        self.rng = np.random.default_rng(5)
        self.w = {"w": np.linspace(-1.0, 1.0, size), "b": np.zeros(1)}
        chain = s.chain(
            s.skip_nonfinite(),
            s.sgd(schedules.cosine(0.05, BATCHES), momentum=0.9),
            s.lookahead(3),
            s.ema(0.9),
        )
        self.optimizer = opt.Optimizer(self.w, chain, engine="arrays")
        self.model: Any = None
        self.also = (self.rng,)
        self.learn: Callable[[], None]

    def forward(self, number: int, scale: float = 1.0) -> float:
        """The loss of a batch, which is the same whenever it is seen; the dropout is not."""
        with np.errstate(all="ignore"):
            return self._forward(number, scale)

    def _forward(self, number: int, scale: float) -> float:
        size = len(self.w["w"])
        x = np.random.default_rng(number).normal(size=(8, size)) * scale
        y = x[:, 0] - 2.0 * x[:, 1] + 0.5
        kept = (np.random.random(x.shape) < 0.9) * random.uniform(0.9, 1.1)
        x = x * kept / np.sqrt(size)
        difference = x @ self.w["w"] + self.w["b"] - y
        grads = {"w": 2 * x.T @ difference / len(x), "b": 2 * np.array([difference.mean()])}

        def learn() -> None:
            grads["b"] += 1e-3 * self.rng.normal(size=1)
            self.optimizer.step(grads)

        self.learn = learn
        return float(np.mean(difference**2))

    def buffers(self) -> dict[str, Any]:
        return {}

    def put_back(self, buffers: dict[str, Any]) -> None:
        pass

    def everything(self) -> dict[str, np.ndarray]:
        state = {f"{p}.{n}": np.array(v) for p, states in self.optimizer.state.items() for n, v in states.items()}
        numbers = {"numpy": np.random.get_state()[1].copy(), "python": np.array(random.getstate()[1])}
        rng = {"rng": np.array(str(self.rng.bit_generator.state))}
        return {**{n: a.copy() for n, a in self.w.items()}, **state, **numbers, **rng}


class OnTorch:
    """A network with dropout and batch norm, AdamW with Lookahead, and one of torch's schedulers."""

    def __init__(self, size: int = 6) -> None:
        import torch

        import steepest.torch as torch_opt

        torch.manual_seed(3)
        self.model = torch.nn.Sequential(
            torch.nn.Linear(size, 8),
            torch.nn.BatchNorm1d(8),
            torch.nn.Tanh(),
            torch.nn.Dropout(0.2),
            torch.nn.Linear(8, 1),
        )
        chain = s.chain(s.skip_nonfinite(), s.adamw(0.02), s.lookahead(3), s.ema(0.9))
        self.optimizer = torch_opt.Optimizer(self.model.named_parameters(), chain)
        self.scheduler = torch.optim.lr_scheduler.MultiStepLR(self.optimizer, [20, 40], 0.5)
        self.also = (self.scheduler,)

    def forward(self, number: int, scale: float = 1.0) -> torch.Tensor:
        import torch

        own = torch.Generator().manual_seed(number)
        x = torch.randn(16, self.model[0].in_features, generator=own)
        y = x[:, :1] - 2.0 * x[:, 1:2] + 0.5
        loss = torch.nn.functional.mse_loss(self.model(x), y * scale)

        def learn() -> None:
            loss.backward()
            self.optimizer.step()
            self.scheduler.step()

        self.learn = learn
        return loss

    def buffers(self) -> dict[str, torch.Tensor]:
        return {name: b.clone() for name, b in self.model.named_buffers()}

    def put_back(self, buffers: dict[str, torch.Tensor]) -> None:
        for name, b in self.model.named_buffers():
            b.copy_(buffers[name])

    def everything(self) -> dict[str, np.ndarray]:
        import torch

        found = {n: t.detach().clone().numpy() for n, t in self.model.state_dict().items()}
        for name, p in self.model.named_parameters():
            found |= {f"{name}.{n}": v.detach().clone().numpy() for n, v in self.optimizer.state[p].items()}
        lr = self.optimizer.param_groups[0]["lr"]
        return found | {"random": torch.get_rng_state().numpy(), "lr": np.array([lr, self.scheduler.last_epoch])}


TRAININGS: dict[str, Callable[..., Any]] = {"numpy": OnArrays, "torch": OnTorch}


def guarded(one: Any, guard: s.Guard, scales: dict[int, float], last: int = BATCHES) -> None:
    """Train from the guard's position on the batches up to ``last``; those in ``scales`` are spoilt."""
    while guard.calls < last:
        number = guard.calls + 1
        loss = one.forward(number, scales.get(number, 1.0))
        one.optimizer.zero_grad() if one.model is not None else None
        if guard(loss):
            one.learn()


def without(
    kind: str, left_out: Collection[int], scales: dict[int, float] | None = None, last: int = BATCHES
) -> dict[str, np.ndarray]:
    """The same training by somebody who knows beforehand which batches to leave out; all that it ends with."""
    one = TRAININGS[kind]()  # which sows the common random numbers
    for number in range(1, last + 1):
        buffers = one.buffers()
        one.forward(number, (scales or {}).get(number, 1.0))
        if number in left_out:
            one.put_back(buffers)
            continue
        one.optimizer.zero_grad() if one.model is not None else None
        one.learn()
    found: dict[str, np.ndarray] = one.everything()
    return found


def assert_same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def together(function: Callable[..., None], *given: Any, seconds: float = 400.0) -> None:
    """Run ``function(rank, *given)`` in two processes, for a bounded time."""
    import torch.multiprocessing as mp

    running, end = mp.spawn(function, given, 2, join=False), time.monotonic() + seconds
    while not running.join(max(0.0, end - time.monotonic())):
        if time.monotonic() >= end:
            for process in running.processes:
                process.kill()
            raise TimeoutError(f"{function.__name__}: the processes have not come together in {seconds} seconds")


SPOILT = {25: 1e3, 31: float("nan"), **dict.fromkeys(range(40, 44), 1e4)}


def long_training(kind: str, folder: Path | None, **options: Any) -> tuple[Any, s.Guard]:
    """One that meets single bad batches and a row of them, and takes a snapshot at each step."""
    one = TRAININGS[kind](SIZE if kind == "numpy" else 600)
    guard = s.Guard(one.optimizer, one.model, rewind=1, skip=2, folder=folder, also=one.also, **options)
    return one, guard


if __name__ == "__main__":
    kind, folder, result = sys.argv[1:]
    one, guard = long_training(kind, Path(folder))
    print(guard.resume(), flush=True)
    guarded(one, guard, SPOILT)
    np.savez(result, **one.everything())
