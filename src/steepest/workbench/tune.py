"""Tuning one optimizer on one workload: points spread evenly, then TPE, with runs that fall behind stopped early.

The best configuration is chosen on the search seeds and judged, beside the defaults, on others. Any number of processes and
machines share a study; the same command goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import statistics
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from steepest.checks import Count, check_value
from steepest.workbench.adaptive import SPREAD, Search
from steepest.workbench.attempts import Finished
from steepest.workbench.campaign import (
    Progress,
    check_optimizers,
    distributions,
    explained,
    facts_of,
    find_all,
    job_of,
    run_job,
    run_of,
)  # fmt: skip
from steepest.workbench.processes import THREADS, cores
from steepest.workbench.protocol import Budget, Job, entry_of
from steepest.workbench.provenance import code_of, command, machine, versions
from steepest.workbench.results import Facts, Result, Trial
from steepest.workbench.spaces import Configuration, Dimension, edges_of, narrowed, searched, space_of, values_of
from steepest.workbench.storage import open_storage, temporary
from steepest.workbench.store import Queue
from steepest.workbench.training import Run
from steepest.workbench.workers import Report, run
from steepest.workbench.workload import Workload

__all__ = ["tune", "tune_job"]


def tune(
    optimizer: str,
    workload: str = "digits-mlp",
    *,
    trials: int = 40,
    budget: Budget | None = None,
    space: str = "",
    jobs: int | None = None,
    storage: str | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Result:
    """Search an optimizer's declared space and judge the best configuration beside the defaults.

    Parameters
    ----------
    optimizer : a chain as text; what it leaves open is searched.
    workload : a name, or ``module:name`` of one's own.
    trials : configurations to try, >= 1; raising it goes on with the same study.
    budget : steps of a run, and the seeds that choose and judge.
    space : narrows what is searched, ``"lr=1e-4:1e-2; schedule=cosine"``.
    jobs, storage, progress : as `compare`.
    seed : of the search.

    Raises ValueError where the optimizer leaves nothing open. An interrupt returns what there is.
    """
    jobs = cores() if jobs is None else jobs
    for name, value in (("trials", trials), ("jobs", jobs)):
        check_value("tune", name, value, Count)
    budget = budget or Budget()
    (work,) = find_all(workload)
    work = work.with_steps(budget.steps or work.steps)
    check_optimizers([optimizer], [work], budget)
    space_searched = searched(optimizer, space)
    if not space_searched:
        raise ValueError(
            f"tune: {optimizer} sets every hyperparameter, so nothing is left to search. Leave out a value: write adamw "
            f"instead of adamw(lr=1e-3, …)."
        )
    begun, started = time.perf_counter(), datetime.now().isoformat(timespec="seconds")
    fixed = {
        "workload": work.name, "steps": work.steps, "optimizer": optimizer, "space": space, "seeds": list(budget.search_seeds),
        "code": code_of(work.name, optimizer),
    }  # fmt: skip
    search = Search(distributions(space_searched), trials, seed, fixed, "median", max(1, work.steps // 10))
    tried: list[Finished] = []
    runs: dict[Job, Run] = {}
    unfinished: tuple[str, ...] = ()
    with temporary(storage) as url:
        opened = open_storage(url)
        facts, name = {"versions": versions()}, f"tune {work.name} {optimizer} {_digest(search)}"
        queue = Queue(opened, name, facts, search)
        judges = Queue(opened, f"{name}, judged", facts)
        earlier = len(queue.finished()) + len(judges.finished())
        total = trials + 2 * len(budget.seeds)
        try:
            _serve(queue, tune_job, jobs, len(queue.finished()), total, f"searching {optimizer}", progress)
            tried = queue.finished()
            best = _values(_first(tried), space_searched)
            wanted = [job for values in ({}, best) for job in _judged(work, optimizer, values, budget)]
            judges.put({**job.to_json(), "code": fixed["code"]} for job in wanted)
            there = {job_of(one.params) for one in judges.finished()}
            done = trials + sum(job in there for job in wanted)
            _serve(judges, run_job, jobs, done, total, f"judging {optimizer} and its defaults", progress)
        except KeyboardInterrupt:
            tried, unfinished = queue.finished(), (f"{optimizer} on {work.name}",)
        for one in judges.finished():
            job = job_of(one.params)
            runs[job] = run_of(job, one)
    entries = []
    if any(not one.stopped for one in tried):
        first = _first(tried)
        best = _values(first, space_searched)
        shown = {name: str(dimension) for name, dimension in space_searched.items()}
        found = [Trial(_values(one, space_searched), tuple(one.result or [one.cost]), one.stopped) for one in tried]
        usual, tuned = (
            [runs[job] for job in _judged(work, optimizer, values, budget) if job in runs] for values in ({}, best)
        )
        if usual:
            entries.append(entry_of(work, optimizer, "default", {}, {}, [], (), usual))
        edges = edges_of(space_searched, _drawn(first, space_searched))
        entries.append(entry_of(work, optimizer, "tuned", best, shown, found, edges, tuned, min(SPREAD, len(found))))
    return Result(
        Facts(
            versions(), machine(), command("tune"), started, time.perf_counter() - begun, budget.search_seeds, budget.seeds,
            trials, jobs, THREADS, "tune", earlier,
        ),
        (facts_of(work),), tuple(entries), unfinished,
    )  # fmt: skip


def _digest(search: Search) -> str:
    """What tells studies of one optimizer on one workload apart: another space, other steps, changed code."""
    return hashlib.sha256(json.dumps(search.facts(), sort_keys=True).encode()).hexdigest()[:8]


def _first(tried: list[Finished]) -> Finished:
    """The best of those that were not stopped early: of the others the cost is that of a part."""
    return min((one for one in tried if not one.stopped), key=lambda one: (one.cost, one.number))


def _drawn(one: Finished, space: Mapping[str, Dimension]) -> dict[str, Any]:
    return {name: one.params[name] for name in space}


def _values(one: Finished, space: Mapping[str, Dimension]) -> dict[str, float | str | bool]:
    return values_of(space, _drawn(one, space))


def _judged(work: Workload, optimizer: str, values: Configuration, budget: Budget) -> list[Job]:
    return [Job(work.name, work.steps, optimizer, tuple(sorted(values.items())), seed) for seed in budget.seeds]


def _serve(
    queue: Queue,
    function: Callable[[dict[str, Any], Report], tuple[float, Any]],
    jobs: int,
    done: int,
    total: int,
    said: str,
    progress: Any,
) -> None:
    """Serve one phase of the search, which ``said`` names; ``done`` of the ``total`` of all phases are there already."""
    for _ in run(queue, function, jobs):
        done += 1
        if progress:
            progress(done, total, said)


def tune_job(params: dict[str, Any], report: Report) -> tuple[float, Any]:
    """One configuration: a run for every search seed, the first of which may be stopped when it falls behind."""
    text, steps = params["optimizer"], params["steps"]
    space = narrowed(space_of(text), params["space"])
    values = tuple(sorted(values_of(space, {name: params[name] for name in space}).items()))
    costs: list[float] = []
    for number, seed in enumerate(params["seeds"]):
        made = explained(Job(params["workload"], steps, text, values, seed), report if number == 0 else None)
        costs.append(made.cost)
        if made.steps < steps:  # stopped, or failed
            break
    return statistics.median_high(costs), costs
