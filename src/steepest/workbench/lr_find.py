"""Finding a learning rate: `range_test` quickly, in one run; `grid_test` honestly, in many. `lr_find` does so on a live model.

    from steepest.workbench import lr_find
    found = lr_find(model, optimizer, lambda step: loss_of(model, batches[step % len(batches)]), steps=200)
    print(summary(found))

Nothing is left changed: the model and its optimizer, of this library or of torch, go on as if they had not been tried.
"""

from __future__ import annotations

import itertools
import math
import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

import steepest
from steepest.checks import Range, check_number
from steepest.workbench.campaign import Progress, cores
from steepest.workbench.lr_live import Groups, Live
from steepest.workbench.lr_page import page, summary
from steepest.workbench.lr_results import (
    GRID_WEAKNESS,
    TRAINING_COST,
    Found,
    GridTest,
    RangeTest,
    near_best,
)
from steepest.workbench.lr_sweep import watch_over
from steepest.workbench.processes import one_thread
from steepest.workbench.protocol import GRID, WIDEST
from steepest.workbench.results import Trial
from steepest.workbench.spaces import centre, reading, space_of
from steepest.workbench.training import optimizer_for, train
from steepest.workbench.untouched import untouched
from steepest.workbench.users import telling
from steepest.workbench.workload import Workload, find

if TYPE_CHECKING:
    import torch

__all__ = ["Found", "GridTest", "RangeTest", "grid_test", "lr_find", "page", "range_test", "run", "summary"]

ChainOf: TypeAlias = Callable[[float], steepest.Chain]
"""A chain for a learning rate."""
STEPS = 200
START, END = 1e-6, 100.0
SEED = 1_000
"""The first seed of the runs: those that choose are none of those that a comparison judges by."""


def range_test(
    workload: Workload,
    optimizer: str | ChainOf,
    *,
    steps: int = STEPS,
    start: float = START,
    end: float = END,
    seed: int = SEED,
    progress: Progress | None = None,
) -> RangeTest:
    """Train once while the rate rises from ``start`` to ``end`` exponentially; end early where the loss diverges.

    Where the chain has a schedule of the learning rate, the rising one takes its place; all else is as at the usual rate.

    Parameters
    ----------
    workload : what to train.
    optimizer : a chain's text, or a function of the rate that returns a chain.
    steps : batches, >= 10; the first shows the loss before any update.
    start, end : rates, 0 < start < end.
    progress : called after every step.

    Raises
    ------
    ValueError : for values out of range, for a chain that has no learning rate or says its own.

    Source: Smith (2015), "Cyclical Learning Rates for Training Neural Networks", Section 3.3; the rules that read the curve
    are those of fastai's learning rate finder.
    """
    watch = watch_over("range_test", steps, start, end)
    made, middle, said = _made("range_test", workload, optimizer, steps)
    task = workload.task(seed)
    now = [start]
    stepper = optimizer_for(task, _with_rate(made, middle, lambda: now[0]))
    on_arrays = all(isinstance(p, np.ndarray) for p in task.params.values())
    with np.errstate(all="ignore"):
        for step in range(steps):
            loss, grads = task.gradients(step)
            if watch.sees(float(loss)):
                break
            now[0] = watch.rates[step]
            try:
                stepper.step(grads) if on_arrays else stepper.step()
            except FloatingPointError as error:  # a chain with on_nonfinite="error"
                watch.stopped = f"after {step} updates: {error}"
                break
            if progress:
                progress(step + 1, steps, "range test")
    return watch.result(workload.name, said, steps)


def grid_test(
    workload: Workload,
    optimizer: str | ChainOf,
    *,
    steps: int = STEPS,
    seeds: int = 3,
    jobs: int = 1,
    progress: Progress | None = None,
) -> GridTest:
    """Train anew for every rate of a grid of factors of sqrt(10), which widens while its edge wins.

    Parameters
    ----------
    workload : what to train; the cost is its metric on the validation part after the last step.
    optimizer : a chain's text, or a function of the rate that returns a chain.
    steps : the length of each run, >= 10.
    seeds : runs for each rate, >= 1.
    jobs : processes; more than one for a workload and a chain that are found by their texts.
    progress : called after every run.

    Raises
    ------
    ValueError : for values out of range, for a chain that has no learning rate or says its own.
    """
    what = "grid_test"
    for name, value, least in (("steps", steps, 10), ("seeds", seeds, 1), ("jobs", jobs, 1)):
        check_number(what, name, value, Range(least, whole=True, structure=True))
    made, middle, said = _made(what, workload, optimizer, steps)
    numbers = tuple(range(SEED, SEED + seeds))
    if jobs > 1 and not (isinstance(optimizer, str) and _is_found(workload)):
        raise ValueError(
            f"{what}: jobs is {jobs}, allowed is 1 for a chain or a workload that other processes can't find by its text."
        )
    text = optimizer if isinstance(optimizer, str) else ""
    done = asked = 0

    def costs(rates: Sequence[float], numbers: Sequence[int]) -> list[float]:
        nonlocal done, asked
        asked += len(rates)
        found = []
        for cost in each(one, rates, numbers):
            found.append(cost)
            done += 1
            if progress:
                progress(done, asked, "grid of rates")
        return found

    with _workers(jobs) as each:
        one: Callable[[float, int], float] = partial(_cost, workload.with_steps(steps), made)
        if jobs > 1:
            one = partial(_named_cost, workload.name, text, steps)
        trials, at_edge = _widened(middle, numbers, costs)
    sign = "minus " if workload.higher_is_better else ""
    return GridTest(
        workload.name, said, steps, f"{sign}{workload.metric} on validation", numbers, trials, *near_best(trials), at_edge,
        GRID_WEAKNESS.format(steps=steps),
    )  # fmt: skip


def lr_find(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    loss_of_step: Callable[[int], torch.Tensor],
    *,
    steps: int = STEPS,
    start: float = START,
    end: float = END,
    seeds: int = 0,
) -> Found:
    """Try learning rates on a live model, and leave it and its optimizer bit for bit as they were, also after an error.

    Put back are parameters, buffers, gradients and training flags, the optimizer's groups and state, and the generators of
    torch, NumPy and Python. What only ``loss_of_step`` knows is not: the place of an iterator, a generator of one's own.

    Parameters
    ----------
    model : in the mode in which it is to be trained: no ``train()`` is called.
    optimizer : any of this library or of ``torch.optim``. All groups' rates rise by the same factor; the rates shown are
        those of the first group whose own is not 0. A schedule's is the highest of its next 1000 steps.
    loss_of_step : returns the loss of batch 0, 1, 2 …, a tensor of one element. Calls no ``backward``.
    steps : batches of the range test, and the length of a run of the grid test, >= 10.
    start, end : rates of the range test, 0 < start < end.
    seeds : runs for each rate of the grid test, 0 for none. Each seeds the generators and has batches of its own, the
        ``steps`` that follow the last one's; the cost is the mean training loss of the last tenth of the steps.

    Raises
    ------
    ValueError, TypeError : for values out of range, an optimizer without ``lr``, a loss that is not one number.

    >>> import torch
    >>> weight = torch.nn.Linear(1, 1, bias=False)
    >>> optimizer = torch.optim.SGD(weight.parameters(), lr=0.1)
    >>> found = lr_find(weight, optimizer, lambda step: (weight(torch.ones(1)) ** 2).mean(), steps=100)
    >>> found.range.stopped != "", optimizer.param_groups[0]["lr"]
    (True, 0.1)
    """
    what = "lr_find"
    watch = watch_over(what, steps, start, end)
    check_number(what, "seeds", seeds, Range(0, whole=True, structure=True))
    groups = Groups(what, optimizer)
    live = Live(what, model, optimizer, loss_of_step)
    names = type(model).__name__, type(optimizer).__name__
    grid = None
    with untouched(model, optimizer) as put_back:
        for step in range(steps):
            if watch.sees(live.loss(step)):
                break
            groups.set(watch.rates[step])
            try:
                live.update()
            except FloatingPointError as error:
                watch.stopped = f"after {step} updates: {error}"
                break
        live.drop()
        found = replace(watch.result(*names, steps), scales=tuple(groups.scales))
        if seeds:
            numbers = tuple(range(SEED, SEED + seeds))

            def costs(rates: Sequence[float], seeds: Sequence[int]) -> list[float]:
                return [
                    live.cost(put_back, groups, rate, seed, (seed - SEED) * steps, steps)
                    for rate, seed in zip(rates, seeds, strict=True)
                ]

            trials, at_edge = _widened(groups.rate, numbers, costs)
            grid = GridTest(
                *names, steps, "training loss of the last tenth", numbers, trials, *near_best(trials), at_edge,
                GRID_WEAKNESS.format(steps=steps) + TRAINING_COST,
            )  # fmt: skip
    return Found(found, grid)


def run(
    workload_name: str,
    optimizer_text: str,
    *,
    steps: int = STEPS,
    seeds: int = 3,
    jobs: int | None = 1,
    output: str | Path | None = None,
    progress: Progress | None = None,
) -> Found:
    """Both tests of a workload and a chain, by their names; ``lr-find.html`` and ``lr-find.json`` in the folder ``output``.

    ``jobs`` None is one process per core; ``progress`` is called as the range test (one run) and the grid's runs go on.
    Raises ValueError for what can't be found or read, and where the folder can't be written, before anything is trained.
    """
    workload = find(workload_name)
    folder = None if output is None else Path(output)
    if folder is not None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"output is {str(folder)!r}, allowed is a folder: {error.strerror}.") from error
    jobs = cores() if jobs is None else jobs
    for name, value, least in (("seeds", seeds, 1), ("jobs", jobs, 1)):
        check_number("lr-find", name, value, Range(least, whole=True, structure=True))

    def swept(done: int, total: int, said: str) -> None:
        if progress:
            progress(0, 1 + len(GRID) * seeds, f"{said}, step {done} of {total}")

    def tried(done: int, total: int, said: str) -> None:
        if progress:
            progress(1 + done, 1 + total, said)

    with one_thread(), telling(workload_name):  # one thread, so that any number of processes gives the same numbers
        found = Found(
            range_test(workload, optimizer_text, steps=steps, progress=swept),
            grid_test(workload, optimizer_text, steps=steps, seeds=seeds, jobs=jobs, progress=tried),
        )
    if folder is not None:
        (folder / "lr-find.html").write_text(page(found), encoding="utf-8")
        (folder / "lr-find.json").write_text(found.to_json(), encoding="utf-8")
    return found


# ---- chains of a rate


def _made(what: str, workload: Workload, optimizer: str | ChainOf, steps: int) -> tuple[ChainOf, float, str]:
    """A chain for a rate, the rate from which a search starts, and what the optimizer is called."""
    if isinstance(optimizer, str):
        made: ChainOf = partial(_read, optimizer, steps)
        middle, said = centre(optimizer, workload.rates), optimizer
    else:
        made, middle, said = optimizer, 1e-3, getattr(optimizer, "__name__", "chain")
    chain = made(middle)
    if all(name != "lr" for link in chain for name, _ in link.values):
        raise ValueError(f"{what}: {said} has no learning rate (lr), so there is none to find.")
    open_to_search = not isinstance(optimizer, str) or "lr" in space_of(optimizer, schedule=False)
    if not open_to_search or not any(_follows(made, middle)):
        raise ValueError(f"{what}: {said} says its own learning rate. Leave it out, or write lr in its place.")
    return made, middle, said if isinstance(optimizer, str) else str(chain)


def _follows(made: ChainOf, middle: float) -> list[bool]:
    """Which links' learning rates follow the one that a chain is made for; others, such as descend(1.0), say their own."""
    rates = [[dict(link.values).get("lr") for link in made(lr)] for lr in (middle, 2 * middle)]
    return [one != other for one, other in zip(*rates, strict=True)]


def _with_rate(made: ChainOf, middle: float, rate: Callable[[], float]) -> steepest.Chain:
    """The chain, with a rate that a function says in place of a schedule, or in proportion where a link has a multiple of it."""

    def given(value: Any) -> Callable[[int], float]:
        scale = 1.0 if callable(value) else float(value) / middle
        return lambda _: scale * rate()

    return steepest.Chain(
        tuple(
            replace(link, values=tuple((n, given(v) if n == "lr" and follows else v) for n, v in link.values))
            for link, follows in zip(made(middle), _follows(made, middle), strict=True)
        )
    )


def _read(text: str, steps: int, rate: float) -> steepest.Chain:
    return reading(text, {"lr": rate}, steps).chain


# ---- the grid test

Costs: TypeAlias = Callable[[Sequence[float], Sequence[int]], list[float]]
"""The costs of runs, each with a rate and a seed."""


def _widened(middle: float, seeds: tuple[int, ...], costs: Costs) -> tuple[tuple[Trial, ...], bool]:
    """Every rate tried, and whether the best one is still at an edge. Where all fail, the grid widens downwards."""
    tried: dict[int, Trial] = {}
    wanted = list(GRID)
    while True:
        pairs = [(middle * 10 ** (i / 2), seed) for i in wanted for seed in seeds]
        found = iter(costs([rate for rate, _ in pairs], [seed for _, seed in pairs]))
        for i in wanted:
            tried[i] = Trial({"lr": middle * 10 ** (i / 2)}, tuple(itertools.islice(found, len(seeds))))
        best = min(tried, key=lambda i: (tried[i].cost, abs(i)))
        low, high = min(tried), max(tried)
        if math.isinf(tried[best].cost):
            best = low
        beyond = low - 1 if best == low else high + 1
        if best not in (low, high) or abs(beyond) > WIDEST:
            return tuple(tried[i] for i in sorted(tried)), best in (low, high)
        wanted = [beyond]


def _is_found(workload: Workload) -> bool:
    try:
        return find(workload.name) == workload
    except (ValueError, TypeError, ImportError):
        return False


def _cost(workload: Workload, made: ChainOf, rate: float, seed: int) -> float:
    try:
        chain = made(rate)
    except ValueError:  # a rate that the recipe refuses, such as a schedule's peak below its start
        return math.inf
    return train(workload, chain, seed).cost


def _named_cost(workload: str, text: str, steps: int, rate: float, seed: int) -> float:
    with telling(workload):
        return _cost(find(workload).with_steps(steps), partial(_read, text, steps), rate, seed)


@contextmanager
def _workers(jobs: int) -> Iterator[Callable[..., Iterator[float]]]:
    """A ``map`` that is served by so many processes, each of one thread; an interrupt ends them."""
    with ExitStack() as stack:
        if jobs == 1:
            yield map
            return
        stack.enter_context(one_thread())
        spawn = multiprocessing.get_context("spawn")
        pool = stack.enter_context(ProcessPoolExecutor(jobs, spawn, _leave_interrupts_to_the_parent))
        stack.callback(pool.shutdown, wait=True, cancel_futures=True)
        yield pool.map


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
