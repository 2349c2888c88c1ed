"""A whole comparison: every contender of the protocol, served by a queue of runs that any number of processes work on.

Everything is kept in the storage as it is finished. The same command goes on where a stopped one ended: what is there already
is not run again, and the outcome is the same, whatever stopped it and however many processes worked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from steepest.checks import Count, check_value, unknown_name
from steepest.plan.planner import checked_plan
from steepest.workbench.adaptive import sobol
from steepest.workbench.attempts import Finished
from steepest.workbench.processes import THREADS, cores
from steepest.workbench.protocol import Budget, Contender, Job, contend, failed_run, perform
from steepest.workbench.provenance import code_of, command, machine, versions
from steepest.workbench.results import TRACKS, Entry, Facts, Result, Track, WorkloadFacts
from steepest.workbench.spaces import Choice, Configuration, Dimension, centre, reading, searched, space_of, told
from steepest.workbench.storage import open_storage, temporary
from steepest.workbench.store import Queue
from steepest.workbench.training import Run
from steepest.workbench.users import telling
from steepest.workbench.workers import Report, run
from steepest.workbench.workload import Workload, find

__all__ = [
    "DEFAULT", "EVERYTHING", "Progress", "check_optimizers", "check_spaces", "check_tracks", "compare", "distributions",
    "explained", "facts_of", "find_all", "job_of", "run_job", "run_of",
]  # fmt: skip

DEFAULT = (
    "sgd", "sgd(momentum=0.9)", "adagrad", "rmsprop", "adam", "adamw", "radam", "nadam", "lion", "lamb", "lars",
    "clip_by_global_norm(1.0) | sgd(momentum=0.9)", "lookahead(adam)", "adamw | ema(0.95)", "adamw(cosine(lr, steps))",
)  # fmt: skip
"""What `compare` tries where nothing is said: the families, a clip, both wrappers, a schedule."""
EVERYTHING = (
    *DEFAULT, "adadelta", "adamax", "clip_by_value(-0.01, 0.01) | sgd(momentum=0.9)", "clip_by_norm(0.5) | sgd(momentum=0.9)",
    "clip_by_block_rms(0.01) | sgd(momentum=0.9)", "adaptive_grad_clip(0.1) | sgd(momentum=0.9)",
    "adamw(linear(lr, 0, steps))", "adamw(polynomial(lr, 0, steps, 2))", "adamw(step(lr, steps // 4, 0.5))",
    "adamw(multi_step(lr, (steps // 2, 3 * steps // 4), 0.3))", "adamw(exponential(lr, rate=4 / steps))",
    "adamw(cosine(lr, steps, warmup=steps // 10))", "adamw(warm_restarts(lr, steps // 7, 2))",
    "adamw(wsd(lr, steps, steps // 10, steps // 5))", "adamw(inverse_sqrt(lr, steps // 10))",
    "adamw(cyclic(lr / 10, lr, steps // 8))", "adamw(one_cycle(lr, steps))",
    "adamw(ReduceOnPlateau(lr, factor=0.3, patience=3))",
)  # fmt: skip
"""Every optimizer, clip, wrapper and kind of schedule of the library: ``--optimizers all``."""

Progress = Callable[[int, int, str], None]
"""``progress(runs finished, runs asked for so far, what has just been finished)``."""


def compare(
    workload: str | Workload | Sequence[str] = "digits-mlp",
    optimizers: Sequence[str] = DEFAULT,
    *,
    tracks: Sequence[str] = ("default", "rate"),
    budget: Budget | None = None,
    jobs: int | None = None,
    storage: str | None = None,
    space: str = "",
    progress: Progress | None = None,
) -> Result:
    """Compare optimizers on real work by the protocol; the result is data.

    Parameters
    ----------
    workload : names of workloads, of this library or ``module:name`` of one's own.
    optimizers : chains as text, or ``my_rules.py:name`` for a recipe of one's own.
    tracks : of ``"default"``, ``"rate"``, ``"tuned"``; the more, the longer.
    budget : steps, trials and seeds; the same for every optimizer.
    jobs : processes, >= 1; None for one per core.
    storage : where runs are kept, see `open_storage`; None keeps them only until the end.
    space : narrows the tuned track, ``"lr=1e-4:1e-2; adamw.eps=1e-8"``.
    progress : called after every run.

    An interrupt (Ctrl-C) returns what has finished, with what has not named in ``unfinished``. With more than one job, a script
    calls this under ``if __name__ == "__main__":``, as always with processes that are started anew.

    >>> from steepest.workbench import Budget, compare
    >>> result = compare("quadratics", ["sgd(0.1)"], tracks=["default"], budget=Budget(steps=20, seeds=(0,)), jobs=1)
    >>> [(entry.optimizer, len(entry.runs)) for entry in result.entries]
    [('sgd(0.1)', 1)]
    """
    jobs = cores() if jobs is None else jobs
    check_value("compare", "jobs", jobs, Count)
    budget = budget or Budget()
    works = find_all(workload)
    optimizers = check_optimizers(optimizers, works, budget)
    wanted = check_tracks(tracks)
    spaces = check_spaces(optimizers, wanted, space)
    begun, started = time.perf_counter(), datetime.now().isoformat(timespec="seconds")
    contenders = {
        (w.name, o, t): contend(w, o, t, budget, _draw, spaces.get(o, {}))
        for w in works
        for o in optimizers
        for t in wanted
    }
    with temporary(storage) as url:
        queue = Queue(open_storage(url), "runs", {"versions": versions()})
        entries, unfinished, earlier = _drive(contenders, queue, jobs, progress)
    facts = Facts(
        versions(), machine(), command("compare"), started,
        time.perf_counter() - begun, budget.search_seeds, budget.seeds, budget.trials, jobs, THREADS,
        earlier=earlier,
    )  # fmt: skip
    ordered = tuple(entries[key] for key in contenders if key in entries)
    return Result(
        facts, tuple(facts_of(w.with_steps(budget.steps or w.steps)) for w in works), ordered, tuple(unfinished)
    )


def find_all(workload: str | Workload | Sequence[str]) -> list[Workload]:
    """The workloads, each once; raises ValueError where there is none, or one that is not known."""
    names = [workload] if isinstance(workload, (str, Workload)) else list(workload)
    if not names:
        raise ValueError(
            "compare: workload must be at least one name, got none. Run `steepest list --workloads` to see all names."
        )
    return [find(name) for name in dict.fromkeys(one.name if isinstance(one, Workload) else one for one in names)]


def check_optimizers(optimizers: Sequence[str], works: Sequence[Workload], budget: Budget) -> list[str]:
    """The chains, each once; raises ValueError or TypeError for one that can't be read or planned, before any training."""
    if not optimizers or isinstance(optimizers, str):
        raise ValueError(
            f"compare: optimizers must be a list of chains, got {optimizers!r}. Run `steepest list` to see all recipes and rules."
        )
    for text in optimizers:
        for work in works:
            checked_plan(reading(text, {}, budget.steps or work.steps, centre(text, work.rates)).chain)
    return list(dict.fromkeys(optimizers))


def check_tracks(tracks: Sequence[str]) -> list[Track]:
    """The tracks, in the order of their effort; raises ValueError where there is none, or one that is not known."""
    unknown = [track for track in tracks if track not in TRACKS]
    if unknown or not tracks:
        raise ValueError(unknown_name("compare", "track", unknown[0] if unknown else "", TRACKS))
    return [track for track in TRACKS if track in tracks]


def check_spaces(optimizers: Sequence[str], tracks: Sequence[str], said: str) -> dict[str, dict[str, Dimension]]:
    """What the tuned track searches of each optimizer, after what a user says about any of them.

    Raises ValueError or TypeError for what concerns none of them, and for values that they refuse.
    """
    parts = told(said)
    if "tuned" not in tracks:
        if parts:
            raise ValueError(
                f"space: tracks must include tuned if a space is given, got {', '.join(tracks)}. Add --track tuned."
            )
        return {}
    known = {optimizer: space_of(optimizer) for optimizer in optimizers}
    every = {name for space in known.values() for name in space}
    if strange := [name for name, _ in parts if name not in every]:
        raise ValueError(unknown_name("space", "hyperparameter", strange[0], every))
    return {
        optimizer: searched(optimizer, "; ".join(f"{name}={value}" for name, value in parts if name in space))
        for optimizer, space in known.items()
    }


def facts_of(work: Workload) -> WorkloadFacts:
    """What pages say of a workload."""
    return WorkloadFacts(
        work.name, work.about, work.source, work.metric, work.higher_is_better, work.steps, work.target, work.failed,
        work.batch, work.data, work.split_seed, work.digest,
    )  # fmt: skip


def _draw(space: Mapping[str, Dimension], count: int, seed: int) -> Sequence[Configuration]:
    return sobol(distributions(space), count, seed)


def distributions(space: Mapping[str, Dimension]) -> dict[str, Any]:
    """A space as Optuna's distributions."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    return {
        name: CategoricalDistribution(d.values) if isinstance(d, Choice) else FloatDistribution(d.low, d.high, log=True)
        for name, d in space.items()
    }


@dataclass(slots=True)
class _Open:
    """A contender that waits for runs: which, and those that are there."""

    contender: Contender
    jobs: list[Job] = field(default_factory=list)
    done: dict[Job, Run] = field(default_factory=dict)


def _drive(
    contenders: Mapping[tuple[str, str, Track], Contender], queue: Queue, jobs: int, progress: Progress | None
) -> tuple[dict[tuple[str, str, Track], Entry], list[str], int]:
    """Serve all contenders until they have what they need; what an interrupt leaves undone is named.

    Counted is how many of the runs had been made by earlier commands.
    """
    entries: dict[tuple[str, str, Track], Entry] = {}
    waiting: dict[Job, list[tuple[str, str, Track]]] = {}
    opened = {key: _Open(contender) for key, contender in contenders.items()}
    known: dict[Job, Run] = {}

    def advance(key: tuple[str, str, Track], runs: list[Run] | None) -> None:
        one = opened[key]
        try:
            one.jobs = next(one.contender) if runs is None else one.contender.send(runs)
        except StopIteration as end:
            entries[key] = end.value
            del opened[key]
            return
        one.done = {}
        for job in one.jobs:
            waiting.setdefault(job, []).append(key)

    def deliver() -> None:
        """Hand over what is known, as long as that brings anybody on."""
        ready = True
        while ready:
            ready = False
            for key, one in list(opened.items()):
                if all(job in known for job in one.jobs):
                    advance(key, [known[job] for job in one.jobs])
                    ready = True

    def learn(finished: Finished) -> None:
        job = job_of(finished.params)
        known[job] = run_of(job, finished)

    def put() -> None:
        wanted = [job for job in waiting if job not in known]
        queue.put({**job.to_json(), "code": fresh[job.workload, job.optimizer]} for job in wanted)

    fresh = {(w, o): code_of(w, o) for w, o, _ in contenders}
    for finished in queue.finished():
        if fresh.get((finished.params["workload"], finished.params["optimizer"])) == finished.params["code"]:
            learn(finished)
    earlier = set(known)
    for key in list(opened):
        advance(key, None)
    try:
        deliver()
        while opened:
            put()
            for finished in run(queue, run_job, jobs):
                learn(finished)
                before = len(waiting)
                deliver()
                if len(waiting) > before:
                    put()
                if progress:
                    progress(sum(job in known for job in waiting), len(waiting), finished.params["optimizer"])
            deliver()
    except KeyboardInterrupt:
        pass
    return entries, [f"{o} on {w} ({t})" for w, o, t in opened], sum(job in earlier for job in waiting)


def job_of(params: Mapping[str, Any]) -> Job:
    """The job that a queue keeps, without the hash of its code."""
    return Job.from_json({name: value for name, value in params.items() if name != "code"})


def run_of(job: Job, finished: Finished) -> Run:
    """What a queue has finished, as a run; a job that has killed its process again and again is a failed one."""
    return failed_run(job, finished.error) if finished.error else Run.from_json(finished.result)


def run_job(params: dict[str, Any], report: Report) -> tuple[float, Any]:
    """What a worker does: one run. What a user's own code raises is told with their line."""
    made = explained(job_of(params))
    return made.cost, made.to_json()


def explained(job: Job, pruned: Report | None = None) -> Run:
    """`perform`; an error in a user's workload or rule becomes one line that says where in their file."""
    with telling(job.workload):
        return perform(job, pruned)
