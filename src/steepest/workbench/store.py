"""A queue of jobs that several processes and machines work on at once, kept as an Optuna study.

A job is a dict of parameters; what it computes is nobody's business here. Each attempt at a job is a trial of the study; where
the job stands after them, `steepest.workbench.attempts` reads.

- a trial is claimed, and given up, by whoever changes its state first: the storage lets one win;
- a trial whose process is gone fails, and another one of the same job begins to wait. Should two processes add it, the
  second is never claimed.

So a process may be killed at any moment, and the same command goes on from there.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from steepest.workbench.adaptive import SPREAD, Search, pruner, sobol, stops, suggest
from steepest.workbench.attempts import Finished, by_job, finished_of, is_owned, params_of, status_of
from steepest.workbench.processes import Process, lives, this_machine
from steepest.workbench.storage import Storage

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

__all__ = ["FORMAT", "Job", "Queue", "holds_results"]

FORMAT = 1
"""The version of the stored form; another one is refused."""
LOST = 120.0
"""Seconds without a sign of life from a process of another machine after which its job is given to another."""
UNSIGNED = 15.0
"""The same for a claim without a name: a process signs its claim at once, unless it is killed in between."""


@dataclass(frozen=True, slots=True)
class Job:
    """A claimed job: its trial, and the parameters that the function is given."""

    trial: int
    params: dict[str, Any]


_ABSENT = "absent"


class Queue:
    """The jobs of one study.

    Parameters
    ----------
    storage : see `open_storage`.
    name : of the study in it; it is created if it is not there.
    facts : what the results depend on beside the parameters: steps, seeds, versions, a hash of the code. JSON.
    search : what to try after the jobs that were put; None for nothing.

    Raises ValueError where the stored study has other facts: it says which.
    """

    def __init__(self, storage: Storage, name: str, facts: Mapping[str, Any], search: Search | None = None) -> None:
        self.storage, self.name, self.facts, self.search = storage, name, dict(facts), search
        self._seen: dict[int, tuple[Any, float]] = {}
        with storage.plainly():
            self._id = self._load()
        self._study: Study | None = None
        if search:
            self._pruner = pruner(search)

    def spread(self) -> None:
        """Put the points with which the search begins, and those again that it came upon and that failed with an error."""
        from optuna.trial import TrialState

        if self.search:
            self.put(sobol(self.search.space, min(self.search.trials, SPREAD), self.search.seed))
            with self.storage.plainly():
                for key, attempts in self._jobs().items():
                    if status_of(attempts)[0] == "error":
                        self._add(TrialState.WAITING, {"job": key}, attempts[-1].params)

    def put(self, jobs: Iterable[Mapping[str, Any]]) -> None:
        """Add the jobs that are not there yet, and those again that failed with an error. Their order is kept."""
        from optuna.trial import TrialState

        jobs = [dict(job) for job in jobs]
        keys = [_text(f"study {self.name}: the job {job!r}", job) for job in jobs]
        with self.storage.plainly():
            known = self._jobs()
        space = self.search.space if self.search else {}
        for key, job in zip(keys, jobs, strict=True):
            if key not in known or status_of(known[key])[0] == "error":
                known.setdefault(key, [])
                point = job if job.keys() == space.keys() else {}
                with self.storage.plainly():
                    self._add(TrialState.WAITING, {"job": key}, point)

    def claim(self, owner: Process) -> Job | None:
        """A job to do, which nobody else gets; None where all are done, or in other hands."""
        from optuna.trial import TrialState

        with self.storage.plainly():
            for attempts in self._rescued().values():
                status, trial = status_of(attempts)
                mine = status == "waiting" and self._change(trial._trial_id, TrialState.RUNNING)
                if mine and self._sign(trial._trial_id, "owner", owner):
                    return self._job(trial)
            return self._invent(owner) if self.search else None

    def complete(self, job: Job, cost: float, result: Any, stopped: bool = False) -> None:
        """Store what came out; a cost that is not a number counts as infinite. Raises TypeError for a result that is not JSON."""
        from optuna.trial import TrialState

        text = _text(f"study {self.name}: the result", result)
        cost = math.inf if math.isnan(cost) else float(cost)
        with self.storage.plainly():
            if self._sign(job.trial, "result", text):
                self._change(job.trial, TrialState.PRUNED if stopped else TrialState.COMPLETE, [cost])

    def fail(self, job: Job, reason: str, text: str = "") -> None:
        """End an attempt: ``"error"`` in the job, its process ``"died"``; or ``"back"``, and somebody else may do it."""
        with self.storage.plainly():
            self._fail(job.trial, reason, text)
            self._requeued(self._jobs())

    def died(self, pid: int, started: int, text: str) -> bool:
        """End what a process of this machine was doing, which is gone; whether it was doing anything."""
        with self.storage.plainly():
            owned = [trial for trial in self._running() if is_owned(trial, pid, started)]
            ended = [self._fail(trial._trial_id, "died" if text else "back", text) for trial in owned]
            self._requeued(self._jobs())
        return any(ended)

    def beat(self, job: Job) -> None:
        """Say that the job is still being worked on."""
        with self.storage.plainly():
            self._sign(job.trial, "heartbeat", time.time())

    def report(self, job: Job, step: int, value: float) -> bool:
        """Whether the job should stop, in view of the ``value`` (lower is better) it has reached at ``step``."""
        from optuna.exceptions import UpdateFinishedTrialError

        search = self.search
        if search is None or search.prune == "never" or (search.prune == "wilcoxon" and not math.isfinite(value)):
            return False
        with self.storage.plainly():
            try:
                self.storage.backend.set_trial_intermediate_value(job.trial, int(step), float(value))
            except UpdateFinishedTrialError:
                return False
            return stops(self._pruner, self.study, self.storage.backend.get_trial(job.trial))

    def finished(self, seen: Iterable[int] = ()) -> list[Finished]:
        """What is done, in the order in which it was put, without the numbers in ``seen``."""
        with self.storage.plainly():
            jobs = self._jobs()
        seen = frozenset(seen)
        found = (finished_of(self.name, attempts) for attempts in jobs.values() if attempts[0].number not in seen)
        return [one for one in found if one]

    def errors(self) -> list[str]:
        """What failed with an error and was not put again."""
        with self.storage.plainly():
            ends = [status_of(attempts) for attempts in self._jobs().values()]
        return [trial.user_attrs.get("error", "") for status, trial in ends if status == "error"]

    def remaining(self) -> int:
        """How many jobs are neither done nor failed; those that a search has yet to invent count."""
        with self.storage.plainly():
            jobs = self._jobs()
        unborn = max(0, self.search.trials - len(jobs)) if self.search else 0
        return unborn + sum(status_of(attempts)[0] in ("waiting", "running", "lost") for attempts in jobs.values())

    def running(self) -> int:
        """How many jobs are being worked on."""
        with self.storage.plainly():
            return len(self._running())

    @property
    def study(self) -> Study:
        """Optuna's view of it."""
        import optuna

        if self._study is None:
            self._study = optuna.load_study(study_name=self.name, storage=self.storage.backend)
        return self._study

    def _load(self) -> int:
        from optuna.exceptions import DuplicatedStudyError
        from optuna.study import StudyDirection

        backend = self.storage.backend
        try:
            found = backend.get_study_id_from_name(self.name)
        except KeyError:
            try:
                found = backend.create_new_study([StudyDirection.MINIMIZE], self.name)
            except DuplicatedStudyError:  # somebody else did, a moment ago
                found = backend.get_study_id_from_name(self.name)
        facts = {**self.facts, "search": self.search.facts()} if self.search else self.facts
        ours = {"format": FORMAT, "facts": json.loads(_text(f"study {self.name}: facts", facts))}
        stored = backend.get_study_user_attrs(found).get("steepest")
        if stored is None:
            if backend.get_n_trials(found):
                raise ValueError(
                    f"study {self.name}: another program made the study of that name. Use another name or another storage."
                )
            backend.set_study_user_attr(found, "steepest", ours)
            stored = backend.get_study_user_attrs(found)["steepest"]
        if stored["format"] != FORMAT:
            raise ValueError(
                f"study {self.name}: the format must be {FORMAT}, got {stored['format']!r}. Start a new study with this version."
            )
        if different := [
            f"{key} is {mine}, stored is {theirs}" for key, mine, theirs in _differences(ours["facts"], stored["facts"])
        ]:
            raise ValueError(
                f"study {self.name}: {'; '.join(different)}. Run the same command as before, or start a new study."
            )
        return found

    def _trials(self) -> list[FrozenTrial]:
        return self.storage.backend.get_all_trials(self._id, deepcopy=False)

    def _running(self) -> list[FrozenTrial]:
        return [trial for trial in self._trials() if trial.state.name == "RUNNING"]

    def _jobs(self, trials: list[FrozenTrial] | None = None) -> dict[str, list[FrozenTrial]]:
        size = len(self.search.space) if self.search else 0
        return by_job(self._trials() if trials is None else trials, size)

    def _add(self, state: Any, attributes: Mapping[str, Any], params: Mapping[str, Any]) -> int:
        from optuna.trial import create_trial

        space = self.search.space if self.search else {}
        distributions = {name: space[name] for name in params}
        made = create_trial(state=state, params=dict(params), distributions=distributions, user_attrs=dict(attributes))
        return self.storage.backend.create_new_trial(self._id, made)

    def _job(self, trial: FrozenTrial) -> Job:
        fixed = self.search.fixed if self.search else {}
        return Job(trial._trial_id, {**fixed, **params_of(trial)})

    def _change(self, trial: int, state: Any, values: list[float] | None = None) -> bool:
        """Whether this process was the one that changed the state."""
        from optuna.exceptions import UpdateFinishedTrialError

        try:
            return self.storage.backend.set_trial_state_values(trial, state, values)
        except UpdateFinishedTrialError:
            return False

    def _sign(self, trial: int, key: str, value: Any) -> bool:
        from optuna.exceptions import UpdateFinishedTrialError

        try:
            self.storage.backend.set_trial_user_attr(trial, key, value)
        except UpdateFinishedTrialError:  # it was taken for lost
            return False
        return True

    def _fail(self, trial: int, reason: str, text: str = "") -> bool:
        from optuna.trial import TrialState

        signed = self._sign(trial, "reason", reason) and (not text or self._sign(trial, "error", text))
        return signed and self._change(trial, TrialState.FAIL)

    def _rescued(self) -> dict[str, list[FrozenTrial]]:
        """The jobs, after those that nobody works on any more have been made to wait again."""
        trials = self._trials()
        gone = [trial for trial in trials if trial.state.name == "RUNNING" and self._is_lost(trial)]
        for trial in gone:
            self._fail(trial._trial_id, "lost")
        return self._requeued(self._jobs() if gone else self._jobs(trials))

    def _requeued(self, jobs: dict[str, list[FrozenTrial]]) -> dict[str, list[FrozenTrial]]:
        from optuna.trial import TrialState

        lost = [(key, attempts[-1]) for key, attempts in jobs.items() if status_of(attempts)[0] == "lost"]
        for key, trial in lost:
            self._add(TrialState.WAITING, {"job": key}, trial.params)
        return self._jobs() if lost else jobs

    def _is_lost(self, trial: FrozenTrial) -> bool:
        owner = trial.user_attrs.get("owner")
        if owner and owner["machine"] == this_machine():
            if lives(owner["pid"], owner["started"]):
                return False
            # The parent that lives sees it too, and knows what of.
            return not (owner["parent"] and lives(*owner["parent"]))
        # Clocks of machines differ: what counts is how long this process has seen no change.
        sign = (trial._trial_id, owner, trial.user_attrs.get("heartbeat"))
        before, since = self._seen.setdefault(trial._trial_id, (sign, time.monotonic()))
        if before != sign:
            self._seen[trial._trial_id] = (sign, time.monotonic())
            return False
        return time.monotonic() - since > (LOST if owner else UNSIGNED)

    def _invent(self, owner: Process) -> Job | None:
        """A new configuration, if there is room for one more."""
        from optuna.trial import TrialState

        search = self.search
        if search is None or len(self._jobs()) >= search.trials:
            return None
        made = self._add(TrialState.RUNNING, {"owner": owner}, {})
        ids = [attempts[0]._trial_id for attempts in self._jobs().values()]
        if ids.index(made) >= search.trials:  # others had the same thought
            self._fail(made, "surplus")
            return None
        suggest(self.study, made, search, ids.index(made))
        return self._job(self.storage.backend.get_trial(made))


def holds_results(storage: Storage) -> bool:
    """Whether anything has been finished in any study."""
    with storage.plainly():
        studies = storage.backend.get_all_studies()
        trials = (t for one in studies for t in storage.backend.get_all_trials(one._study_id, deepcopy=False))
        return any(trial.state.name in ("COMPLETE", "PRUNED") for trial in trials)


def _text(what: str, value: Any) -> str:
    """JSON with its keys in order, so that equal values have equal texts."""
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise TypeError(f"{what} must be JSON data. {error}.") from None


def _differences(ours: Any, theirs: Any, where: str = "") -> list[tuple[str, str, str]]:
    """Where two pieces of JSON differ: the key, and what stands there, shortened."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        keys = [*ours, *(key for key in theirs if key not in ours)]
        pairs = [(f"{where}.{key}".strip("."), ours.get(key, _ABSENT), theirs.get(key, _ABSENT)) for key in keys]
        return [one for key, mine, other in pairs for one in _differences(mine, other, key)]
    if _shown(ours) == _shown(theirs) and ours == theirs:
        return []
    return [(where, _shown(ours), _shown(theirs))]


def _shown(value: Any) -> str:
    text = value if value is _ABSENT else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
