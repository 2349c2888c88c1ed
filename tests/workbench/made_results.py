"""Results as a comparison would leave them, made up from a seed: a quality for each optimizer, noise over seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from steepest.workbench.results import Entry, Facts, Result, Track, Trial, WorkloadFacts
from steepest.workbench.training import Run

SEEDS = tuple(range(10))
QUALITIES = {"adamw": 0.20, "adam": 0.205, "lion": 0.26, "sgd(momentum=0.9)": 0.40}


def made_workload(name: str = "digits-mlp", *, accuracy: bool = False, target: float | None = None) -> WorkloadFacts:
    metric, failed = ("accuracy", 0.2) if accuracy else ("loss", 2.4)
    about = "1,797 handwritten digits, a network 64-128-128-10, batch size 32"
    return WorkloadFacts(
        name, about, "UCI digits (CC BY 4.0)", metric, accuracy, 500, target, failed, 32, "5a" * 32, 0, "c0ffee"
    )


def made_run(facts: WorkloadFacts, chain: str, seed: int, value: float, micros: float = 20.0, points: int = 50) -> Run:
    """A run whose test value is ``value``; one that is not finite has failed on the way."""
    failed = "" if math.isfinite(value) else f"step {facts.steps // 2}: the training loss is nan"
    start, end = (0.1, value) if facts.higher_is_better else (2.3, value)
    share = np.linspace(0, 1, points + 1)[1:]
    levels = (start + (end - start) * (1 - np.exp(-5 * share)) / (1 - math.exp(-5))) if not failed else 2.3 + share
    curve = tuple((round(facts.steps * s), float(level)) for s, level in zip(share, levels, strict=True))
    kept = curve[: points // 2] if failed else curve
    measures = {} if failed else {facts.metric: value}
    cost = math.inf if failed else -value if facts.higher_is_better else value
    return Run(
        facts.name, chain, seed, kept[-1][0], failed, cost, measures, measures, kept, tuple(v for _, v in kept),
        tuple(0.1 for _ in kept), 1.0, 0.2, micros,
    )  # fmt: skip


def made_trials(
    names: Sequence[str],
    best: float,
    rng: np.random.Generator,
    count: int,
    *,
    grid: bool = False,
    accuracy: bool = False,
) -> tuple[Trial, ...]:
    """Costs that are parabolas in the logarithm of the rate; too large rates fail."""
    trials = []
    for number in range(count):
        rate = 10 ** ((number - count // 2) / 2 - 2.5) if grid else 10 ** rng.uniform(-5, 0)
        values: dict[str, float | str | bool] = {"lr": float(rate)}
        values |= {name: float(10 ** rng.uniform(-4, -0.5)) for name in names if name not in ("lr", "nesterov")}
        if "nesterov" in names:
            values["nesterov"] = bool(rng.integers(2))
        off = math.log10(rate) + 2.5
        loss = best * (1 + 0.3 * off**2 + (0 if grid else 0.1 * rng.exponential()))
        cost = -(1 - loss / 10) if accuracy else loss
        trials.append(Trial(values, (math.inf if off > 1.7 else cost, math.inf if off > 1.9 else cost * 1.01)))
    return tuple(trials)


def made_entry(
    facts: WorkloadFacts, optimizer: str, track: Track, values: Mapping[int, float], trials: tuple[Trial, ...] = (), *,
    edges: tuple[str, ...] = (), state: float = 8.0, micros: float = 20.0,
) -> Entry:  # fmt: skip
    """An entry whose runs end with the given test values, by seed."""
    tried = {} if track == "default" else dict(trials[0].values) if trials else {}
    call = f"steepest.chain({optimizer!r})"
    runs = tuple(made_run(facts, optimizer, seed, value, micros) for seed, value in values.items())
    space = dict.fromkeys(tried, "log-uniform in [1e-5, 1]")
    return Entry(
        facts.name, optimizer, track, tried, f"scale_by_{optimizer} | descend", call, space, trials, edges,
        ("eps",) if track == "tuned" else ("beta1", "beta2", "eps"), runs, 20.0 + state, state,
        len(trials) if track == "tuned" else 0,
    )  # fmt: skip


def made_result(
    workloads: Sequence[WorkloadFacts] | None = None, qualities: Mapping[str, float] = QUALITIES,
    seeds: Sequence[int] = SEEDS, trials: int = 20, tracks: Sequence[Track] = ("default", "rate", "tuned"),
    names: Sequence[str] = ("lr", "beta1", "nesterov"), unfinished: tuple[str, ...] = (),
) -> Result:  # fmt: skip
    """Every optimizer on every track of every workload; the seeds share their noise, as paired ones do."""
    workloads = [made_workload()] if workloads is None else workloads
    rng = np.random.default_rng(0)
    entries = []
    for facts in workloads:
        shared = {seed: 0.01 * rng.normal() for seed in seeds}
        for number, (optimizer, quality) in enumerate(qualities.items()):
            for track in tracks:
                level = quality * {"default": 1.4, "rate": 1.1, "tuned": 1.0}[track]
                losses = {seed: level + shared[seed] + 0.004 * rng.normal() for seed in seeds}
                ends = {seed: 1 - loss / 10 if facts.higher_is_better else loss for seed, loss in losses.items()}
                if "sgd" in optimizer and track != "tuned":
                    ends[seeds[0]] = math.nan
                tried = {
                    "default": (),
                    "rate": made_trials(["lr"], level, rng, 9, grid=True, accuracy=facts.higher_is_better),
                    "tuned": made_trials(names, level, rng, trials, accuracy=facts.higher_is_better),
                }[track]
                entries.append(
                    made_entry(
                        facts, optimizer, track, ends, tried, edges=("lr",) if optimizer == "lion" and tried else (),
                        state=4.0 * (number % 3), micros=15.0 + 5 * number,
                    )
                )  # fmt: skip
    versions = {"steepest": "0.1.0", "numpy": "2.4.6", "python": "3.11.9"}
    facts_ = Facts(
        versions, "2 cores, x86_64, 1 thread a process", "steepest compare --workload digits-mlp", "2026-01-02 03:04 UTC",
        421.0, (1000, 1001), tuple(seeds), trials, 2, 1,
    )  # fmt: skip
    return Result(facts_, tuple(workloads), tuple(entries), unfinished)
