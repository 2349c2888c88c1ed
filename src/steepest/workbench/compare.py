"""The protocol: each optimizer's learning rate is chosen on validation, then it is judged on test with other seeds.

The same initial weights and batches for every optimizer, seed by seed. The rate comes from a logarithmic grid around a
family's usual one that widens while its edge wins (to a limit, and the result says when it was reached). Chosen and judged at
the end of training, not at the best moment. A run that fails counts as infinitely bad and is never dropped.
"""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context

import steepest
from steepest.checks import Count, check_value
from steepest.workbench.digits import Run, steps_for, train
from steepest.workbench.parse import load_recipe, parse

__all__ = ["DEFAULT", "Comparison", "Contender", "Run", "compare"]

OPTIMIZERS = ("sgd", "sgd(momentum=0.9)", *(name for name in steepest.OPTIMIZERS if name != "sgd"))
CLIPS = (
    "clip_by_value(-0.01, 0.01) | sgd(momentum=0.9)",
    "clip_by_global_norm(1.0) | sgd(momentum=0.9)",
    "clip_by_norm(0.5) | sgd(momentum=0.9)",
    "clip_by_block_rms(0.01) | sgd(momentum=0.9)",
    "adaptive_grad_clip(0.1) | sgd(momentum=0.9)",
)
WRAPPERS = ("lookahead(adam)", "adamw | ema(0.95)")
SCHEDULES = (
    "adamw(linear(lr, 0, steps))",
    "adamw(polynomial(lr, 0, steps, 2))",
    "adamw(step(lr, steps // 4, 0.5))",
    "adamw(multi_step(lr, (steps // 2, 3 * steps // 4), 0.3))",
    "adamw(exponential(lr, rate=4 / steps))",
    "adamw(cosine(lr, steps))",
    "adamw(cosine(lr, steps, warmup=steps // 10))",
    "adamw(warm_restarts(lr, steps // 7, 2))",
    "adamw(wsd(lr, steps, steps // 10, steps // 5))",
    "adamw(inverse_sqrt(lr, steps // 10))",
    "adamw(cyclic(lr / 10, lr, steps // 8))",
    "adamw(one_cycle(lr, steps))",
)
DEFAULT = (*OPTIMIZERS, *CLIPS, *WRAPPERS, *SCHEDULES)
"""Every optimizer, clip, wrapper and kind of schedule of the library."""

_CENTRES = {
    "sgd(momentum": 0.03, "sgd": 0.3, "adagrad": 0.03, "rmsprop": 1e-3, "adadelta": 1.0, "adamax": 1e-2, "nadam": 3e-3,
    "radam": 3e-3, "adamw": 3e-3, "adam": 3e-3, "lion": 3e-4, "lamb": 1e-2, "lars": 3.0,
}  # fmt: skip
_GRID = (-2, -1, 0, 1, 2)
_WIDEST = 8
_SEARCH_SEEDS = (1_000, 1_001)


@dataclass(frozen=True, slots=True)
class Contender:
    """One optimizer's result.

    ``search`` maps each tried learning rate to its median validation loss; ``at_edge`` says that the best one still was the
    last of the widest grid. ``schedule`` is the learning rate over the steps, where it is one.
    """

    name: str
    chain: str
    lr: float
    search: tuple[tuple[float, float], ...]
    at_edge: bool
    runs: tuple[Run, ...]
    schedule: tuple[float, ...]
    bytes_per_parameter: int

    @property
    def test_losses(self) -> list[float]:
        return [run.test_loss for run in self.runs]

    @property
    def median_loss(self) -> float:
        return statistics.median(self.test_losses)

    @property
    def median_accuracy(self) -> float:
        return statistics.median(run.test_accuracy for run in self.runs)

    @property
    def accuracy_range(self) -> tuple[float, float]:
        accuracies = [run.test_accuracy for run in self.runs]
        return min(accuracies), max(accuracies)

    @property
    def loss_range(self) -> tuple[float, float]:
        return min(self.test_losses), max(self.test_losses)

    @property
    def failures(self) -> int:
        return sum(run.failed for run in self.runs)

    @property
    def step_microseconds(self) -> float:
        return statistics.median(run.step_microseconds for run in self.runs)


@dataclass(frozen=True, slots=True)
class Comparison:
    """All results, best median test loss first, and how they came about."""

    contenders: tuple[Contender, ...]
    seeds: int
    epochs: int
    steps: int
    interrupted: bool = False
    unfinished: tuple[str, ...] = ()


def centre(name: str) -> float:
    """The learning rate from which the grid starts: the family's usual one on this workload, or a recipe's own default."""
    path, _, recipe = name.rpartition(":")
    if path.endswith(".py"):
        import inspect

        lr = inspect.signature(load_recipe(path, recipe)).parameters.get("lr")
        return float(lr.default) if lr is not None and isinstance(lr.default, (int, float)) else 1e-3
    squeezed = name.replace(" ", "")
    found = [(squeezed.find(key), -len(key), rate) for key, rate in _CENTRES.items() if key in squeezed]
    return min(found)[2] if found else 1e-3


def search_rate(loss_at: Callable[[float], float], middle: float) -> tuple[float, dict[float, float], bool]:
    """The best rate of a grid of factors of sqrt(10) that widens while its edge wins; and whether it still is at an edge.

    >>> best, tried, at_edge = search_rate(lambda rate: abs(math.log10(rate / 100.0)), 1.0)
    >>> round(best), at_edge
    (100, False)
    """
    tried = {i: loss_at(middle * 10 ** (i / 2)) for i in _GRID}
    while True:
        best = min(tried, key=lambda i: (tried[i], abs(i)))
        low, high = min(tried), max(tried)
        if best not in (low, high):
            at_edge = False
            break
        beyond = low - 1 if best == low else high + 1
        if abs(beyond) > _WIDEST:
            at_edge = True
            break
        tried[beyond] = loss_at(middle * 10 ** (beyond / 2))
    rates = {middle * 10 ** (i / 2): loss for i, loss in sorted(tried.items())}
    return middle * 10 ** (best / 2), rates, at_edge


def contend(name: str, seeds: int, epochs: int) -> Contender:
    """Search and judge one contender; runs in a process of its own."""
    steps = steps_for(epochs)

    def made(lr: float) -> steepest.Chain:
        return parse(name, {"lr": lr, "steps": steps})

    def loss_at(lr: float) -> float:
        try:
            chain = made(lr)
        except ValueError:  # a rate that the recipe refuses, such as a schedule's peak below its start
            return math.inf
        return statistics.median(train(chain, seed, epochs, lr).validation_loss for seed in _SEARCH_SEEDS)

    lr, tried, at_edge = search_rate(loss_at, centre(name))
    chain = made(lr)
    runs = tuple(train(chain, seed, epochs, lr) for seed in range(seeds))
    given = next((value for link in chain for key, value in link.values if key == "lr" and callable(value)), None)
    curve = tuple(float(given(t)) for t in range(steps)) if given else ()
    size = _bytes(chain)
    return Contender(name, str(chain), lr, tuple(tried.items()), at_edge, runs, curve, size)


def _bytes(chain: steepest.Chain) -> int:
    from steepest.plan.planner import plan

    return plan(chain).bytes_per_parameter()


def compare(
    optimizers: Sequence[str] = DEFAULT,
    seeds: int = 5,
    epochs: int = 20,
    jobs: int | None = None,
    progress: Callable[[Contender], None] | None = None,
) -> Comparison:
    """Train with every optimizer and rank them by median test loss.

    Parameters
    ----------
    optimizers : chains as text, or ``my_rules.py:name`` for a recipe of one's own.
    seeds : runs to judge by, >= 1; other seeds choose the learning rate.
    epochs : passes over the training set, >= 1.
    jobs : processes; None for one per core.
    progress : called with each contender as it finishes.

    An interrupt (Ctrl-C) returns what has finished, with ``interrupted`` set.
    """
    for what, value in (("seeds", seeds), ("epochs", epochs), ("jobs", jobs if jobs is not None else 1)):
        check_value("compare", what, value, Count)
    if not optimizers:
        raise ValueError("compare: optimizers is empty, allowed is at least one chain. `steepest list` shows them.")
    names = list(dict.fromkeys(optimizers))
    for name in names:
        parse(name, {"lr": centre(name), "steps": steps_for(epochs)})
    finished: list[Contender] = []
    interrupted = False
    try:
        for contender in _results(names, seeds, epochs, jobs or _cores()):
            finished.append(contender)
            if progress:
                progress(contender)
    except KeyboardInterrupt:
        interrupted = True
    done = {c.name for c in finished}
    ranked = sorted(finished, key=lambda c: (c.median_loss, -c.median_accuracy))
    unfinished = tuple(name for name in names if name not in done)
    return Comparison(tuple(ranked), seeds, epochs, steps_for(epochs), interrupted, unfinished)


def _results(names: Sequence[str], seeds: int, epochs: int, jobs: int) -> Iterator[Contender]:
    if jobs == 1 or len(names) == 1:
        with _one_thread():
            for name in names:
                yield contend(name, seeds, epochs)
        return
    with _one_thread(), ProcessPoolExecutor(min(jobs, len(names)), mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(contend, name, seeds, epochs) for name in names]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread per process: the network is so small that a second one would only wait. Children inherit it."""
    settings = dict.fromkeys(
        ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "STEEPEST_NUM_THREADS"), "1"
    )
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
