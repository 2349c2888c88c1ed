"""What the attempts at a job say: where it stands, what came out.

Each attempt is a trial of an Optuna study, and all is derived from their order, which is the same for every reader: a job is
done by its first complete trial, else it is in the hands of its first trial that has not failed. Nothing here writes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from steepest.workbench.processes import this_machine

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

__all__ = ["DEATHS", "Finished", "by_job", "finished_of", "is_owned", "params_of", "status_of"]

DEATHS = 3
"""How often a job may take its process with it before it counts as failed."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A job that is done.

    ``cost`` is infinite where the job failed; then ``error`` says why if it was not the function that said so, and there is
    no result. ``stopped`` says that the pruner ended it: its cost is that of a part.
    """

    study: str
    number: int
    params: dict[str, Any]
    cost: float
    result: Any
    stopped: bool = False
    error: str = ""


def by_job(trials: Iterable[FrozenTrial], size: int) -> dict[str, list[FrozenTrial]]:
    """The attempts at every job, in the order of their numbers; ``size`` is how many parameters one has that a search invents."""
    jobs: dict[str, list[FrozenTrial]] = {}
    for trial in trials:
        key = trial.user_attrs.get("job") or f"#{trial.number}"
        if trial.state.name == "FAIL":
            surplus = trial.user_attrs.get("reason") == "surplus"
            if surplus or (key[0] == "#" and len(trial.params) < size):
                continue  # invented, and given up before it was a job
        jobs.setdefault(key, []).append(trial)
    return jobs


def status_of(attempts: list[FrozenTrial]) -> tuple[str, FrozenTrial]:
    """Where a job stands, and the trial that says so."""
    live: FrozenTrial | None = None
    for trial in attempts:
        state = trial.state.name
        if state in ("COMPLETE", "PRUNED"):
            return "done", trial
        if state != "FAIL" and live is None:
            live = trial
    if live is not None:
        return live.state.name.lower(), live
    reasons = [trial.user_attrs.get("reason") for trial in attempts]
    if reasons[-1] == "error":
        return "error", attempts[-1]
    return ("dead" if reasons.count("died") >= DEATHS else "lost"), attempts[-1]


def params_of(trial: FrozenTrial) -> dict[str, Any]:
    """The parameters of the job: those it was put with, or those a search has drawn."""
    key = trial.user_attrs.get("job", "#")
    return dict(trial.params) if key.startswith("#") else dict(json.loads(key))


def finished_of(study: str, attempts: list[FrozenTrial]) -> Finished | None:
    """What is done, or given up after too many deaths; None for anything else."""
    status, trial = status_of(attempts)
    number = attempts[0].number
    if status == "dead":
        died = f"its process died {DEATHS} times, the last time {trial.user_attrs.get('error', '')}".strip()
        return Finished(study, number, params_of(trial), math.inf, None, error=died)
    if status != "done" or trial.value is None:
        return None
    result = json.loads(trial.user_attrs["result"])
    return Finished(study, number, params_of(trial), trial.value, result, trial.state.name == "PRUNED")


def is_owned(trial: FrozenTrial, pid: int, started: int) -> bool:
    """Whether that process of this machine has claimed it."""
    owner = trial.user_attrs.get("owner")
    return owner is not None and (owner["machine"], owner["pid"], owner["started"]) == (this_machine(), pid, started)
