"""The grid of learning rates: every rate trained anew, on several seeds, in as many processes as are wanted."""

from __future__ import annotations

import itertools
import math
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TypeAlias

from steepest.checks import Range, check_number
from steepest.workbench.campaign import Progress
from steepest.workbench.lr_chains import SEED, STEPS, ChainOf, chains_of, read_with
from steepest.workbench.lr_results import GRID_WEAKNESS, GridTest, near_best
from steepest.workbench.processes import leave_interrupts_to_the_parent, one_thread
from steepest.workbench.protocol import GRID, WIDEST
from steepest.workbench.results import Trial
from steepest.workbench.training import train
from steepest.workbench.users import telling
from steepest.workbench.workload import Workload, find

__all__ = ["Costs", "grid_test", "widened"]

Costs: TypeAlias = Callable[[Sequence[float], Sequence[int]], list[float]]
"""The costs of runs, each with a rate and a seed."""


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
    made, middle, said = chains_of(what, workload, optimizer, steps)
    numbers = tuple(range(SEED, SEED + seeds))
    if jobs > 1 and not (isinstance(optimizer, str) and _is_found(workload)):
        raise ValueError(
            f"{what}: jobs must be 1 for a chain or a workload that other processes can't load by its name, got {jobs}."
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
        trials, at_edge = widened(middle, numbers, costs)
    sign = "minus " if workload.higher_is_better else ""
    return GridTest(
        workload.name, said, steps, f"{sign}{workload.metric} on validation", numbers, trials, *near_best(trials), at_edge,
        GRID_WEAKNESS.format(steps=steps),
    )  # fmt: skip


def widened(middle: float, seeds: tuple[int, ...], costs: Costs) -> tuple[tuple[Trial, ...], bool]:
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
        return _cost(find(workload).with_steps(steps), partial(read_with, text, steps), rate, seed)


@contextmanager
def _workers(jobs: int) -> Iterator[Callable[..., Iterator[float]]]:
    """A ``map`` that is served by so many processes, each of one thread; an interrupt ends them."""
    with ExitStack() as stack:
        if jobs == 1:
            yield map
            return
        stack.enter_context(one_thread())
        spawn = multiprocessing.get_context("spawn")
        pool = stack.enter_context(ProcessPoolExecutor(jobs, spawn, leave_interrupts_to_the_parent))
        stack.callback(pool.shutdown, wait=True, cancel_futures=True)
        yield pool.map
