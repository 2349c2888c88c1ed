"""The protocol: each optimizer's learning rate is chosen on validation, then it is judged on test with other seeds.

The same initial weights and batches for every optimizer, seed by seed. The rate comes from a logarithmic grid around a
family's usual one that widens while its edge wins (to a limit, and the result says when it was reached). Chosen and judged at
the end of training, not at the best moment. A run that fails counts as infinitely bad and is never dropped.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import statistics
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass

import steepest
from steepest.checks import Count, check_value
from steepest.plan.planner import checked_plan
from steepest.schedules import ReduceOnPlateau
from steepest.workbench.digits import Run, learning_rate, steps_for, train
from steepest.workbench.parse import parse
from steepest.workbench.search import centre, depends_on_rate, search_rate

__all__ = ["DEFAULT", "Comparison", "Contender", "Run", "check_chains", "compare"]

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
    "adamw(ReduceOnPlateau(lr, factor=0.3, patience=1))",
)
DEFAULT = (*OPTIMIZERS, *CLIPS, *WRAPPERS, *SCHEDULES)
"""Every optimizer, clip, wrapper and kind of schedule of the library."""

_SEARCH_SEEDS = (1_000, 1_001)


@dataclass(frozen=True, slots=True)
class Contender:
    """One optimizer's result.

    ``search`` maps each tried learning rate to its median validation loss; ``at_edge`` says that the best one still was the
    last of the widest grid. A chain that says its own rate is not searched: ``search`` is empty, and ``lr`` is that rate,
    or None where it is a schedule. ``schedule`` is the learning rate over the steps, where it is one; ``runs`` holds the
    judged runs.
    """

    name: str
    chain: str
    lr: float | None
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


def contend(name: str, seeds: int, epochs: int) -> Contender:
    """Search and judge one contender; runs in a process of its own."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # comes with scikit-learn, without types

    steps = steps_for(epochs)
    middle = centre(name)

    def made(lr: float) -> steepest.Chain:
        return parse(name, {"lr": lr, "steps": steps})

    def loss_at(lr: float) -> float:
        try:
            chain = made(lr)
        except ValueError:  # a rate that the recipe refuses, such as a schedule's peak below its start
            return math.inf
        return statistics.median(train(chain, seed, epochs, lr).validation_loss for seed in _SEARCH_SEEDS)

    lr: float | None
    tried: dict[float, float]
    with threadpool_limits(1):  # as in the processes of a pool, so that both give the same numbers
        if depends_on_rate(made, middle, steps):
            lr, tried, at_edge = search_rate(loss_at, middle)
            chain = made(lr)
        else:
            chain, tried, at_edge = made(middle), {}, False
            own = learning_rate(chain)
            lr = None if own is None or callable(own) else float(own)
        runs = tuple(train(chain, seed, epochs, lr) for seed in range(seeds))
    given = learning_rate(chain)
    curve: tuple[float, ...] = ()
    if isinstance(given, ReduceOnPlateau):  # known only from a run: the first one's, epoch by epoch
        per_epoch = steps // epochs
        curve = tuple(rate for rate in runs[0].rates for _ in range(per_epoch))
    elif callable(given):
        curve = tuple(float(given(t)) for t in range(steps))
    return Contender(name, str(chain), lr, tuple(tried.items()), at_edge, runs, curve, _bytes(chain))


def _bytes(chain: steepest.Chain) -> int:
    return checked_plan(chain).bytes_per_parameter()


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

    An interrupt (Ctrl-C) returns what has finished, with ``interrupted`` set. With more than one job, a script calls this
    under ``if __name__ == "__main__":``, as always with processes that are started anew.

    >>> result = compare(["sgd(0.1)"], seeds=1, epochs=1, jobs=1)
    >>> result.contenders[0].name, result.contenders[0].lr, result.steps
    ('sgd(0.1)', 0.1, 20)
    """
    for what, value in (("seeds", seeds), ("epochs", epochs), ("jobs", jobs if jobs is not None else 1)):
        check_value("compare", what, value, Count)
    names = check_chains(optimizers, epochs)
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


def check_chains(optimizers: Sequence[str], epochs: int = 20) -> list[str]:
    """The chains, each once; raises ValueError or TypeError for one that can't be read or planned, before any training."""
    if not optimizers or isinstance(optimizers, str):
        raise ValueError(
            f"compare: optimizers is {optimizers!r}, allowed is a list of chains. `steepest list` shows what they are made of."
        )
    for name in optimizers:
        checked_plan(parse(name, {"lr": centre(name), "steps": steps_for(epochs)}))
    return list(dict.fromkeys(optimizers))


def _results(names: Sequence[str], seeds: int, epochs: int, jobs: int) -> Iterator[Contender]:
    if jobs == 1 or len(names) == 1:
        with _one_thread():
            for name in names:
                yield contend(name, seeds, epochs)
        return
    others = multiprocessing.active_children()
    spawn = multiprocessing.get_context("spawn")
    with _one_thread(), ProcessPoolExecutor(min(jobs, len(names)), spawn, _leave_interrupts_to_the_parent) as pool:
        with _interrupts_blocked():  # from the first moment of the children, which inherit it
            futures = [pool.submit(contend, name, seeds, epochs) for name in names]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in multiprocessing.active_children():  # an unfinished contender would take long to wait for
                if child not in others:
                    child.terminate()
            raise


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """An interrupt waits for the end of the block."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


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
