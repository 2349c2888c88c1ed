"""Finding a learning rate: `range_test` quickly, in one run; `grid_test` honestly, in many. `lr_find` does so on a live model.

    from steepest.workbench import lr_find
    found = lr_find(model, optimizer, lambda step: loss_of(model, batches[step % len(batches)]), steps=200)
    print(summary(found))

Nothing is left changed: the model and its optimizer, of this library or of torch, go on as if they had not been tried.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from steepest.checks import Range, check_number
from steepest.workbench.campaign import Progress
from steepest.workbench.folder import write_whole
from steepest.workbench.lr_chains import SEED, STEPS, ChainOf, chains_of, driven
from steepest.workbench.lr_grid import grid_test, widened
from steepest.workbench.lr_live import Groups, Live
from steepest.workbench.lr_page import page, summary
from steepest.workbench.lr_results import GRID_WEAKNESS, TRAINING_COST, Found, GridTest, RangeTest, near_best
from steepest.workbench.lr_sweep import watch_over
from steepest.workbench.processes import cores, one_thread
from steepest.workbench.protocol import GRID
from steepest.workbench.training import optimizer_for
from steepest.workbench.untouched import untouched
from steepest.workbench.users import telling
from steepest.workbench.words import counted
from steepest.workbench.workload import Workload, find

if TYPE_CHECKING:
    import torch

__all__ = ["Found", "GridTest", "RangeTest", "grid_test", "lr_find", "page", "range_test", "run", "summary"]

START, END = 1e-6, 100.0


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
    made, middle, said = chains_of("range_test", workload, optimizer, steps)
    task = workload.task(seed)
    now = [start]
    stepper = optimizer_for(task, driven(made, middle, lambda: now[0]))
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
                watch.stopped = f"after {counted(step, 'update')}: {error}"
                break
            if progress:
                progress(step + 1, steps, "range test")
    return watch.result(workload.name, said, steps)


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
                watch.stopped = f"after {counted(step, 'update')}: {error}"
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

            trials, at_edge = widened(groups.rate, numbers, costs)
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
            raise ValueError(f"output must be a writable folder, got {str(folder)!r}: {error.strerror}.") from error
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
        write_whole(folder / "lr-find.json", found.to_json())
        write_whole(folder / "lr-find.html", page(found))
    return found
