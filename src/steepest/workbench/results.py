"""What a comparison found out, as plain data: it can be stored as JSON, shown in a terminal or on a page, and judged again.

A `Result` holds, for every workload, an `Entry` for every optimizer on every track. Nothing here is computed: statistics and
recommendation are functions of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

from steepest.workbench.training import Run

__all__ = ["FORMAT", "TRACKS", "Entry", "Facts", "Result", "Track", "Trial", "WorkloadFacts"]

FORMAT = 1
"""The version of the stored form; another one is refused."""

Track: TypeAlias = Literal["default", "rate", "tuned"]
TRACKS: tuple[Track, ...] = ("default", "rate", "tuned")
"""No search; a search of the learning rate; a search of every hyperparameter that the optimizer declares."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One configuration that a search tried: its values, and the cost of a run for each search seed (infinite: failed).

    ``stopped`` says that it fell behind and was ended early: its costs are those of a part.
    """

    values: Mapping[str, float | str | bool]
    costs: tuple[float, ...]
    stopped: bool = False

    @property
    def cost(self) -> float:
        """The median over the seeds; the upper one of two in the middle, so that one failure of two counts.

        Infinite for one that was stopped: of it no more is known than that it is not among the best.
        """
        if self.stopped:
            return float("inf")
        return sorted(self.costs)[len(self.costs) // 2] if self.costs else float("inf")


@dataclass(frozen=True, slots=True)
class Entry:
    """One optimizer on one track of one workload.

    Attributes
    ----------
    optimizer : as the user wrote it.
    track : see `TRACKS`.
    values : the hyperparameters that were chosen; empty on the default track.
    chain : what the planner ran, link by link.
    python : the line to paste.
    space : what was searched: a text for each hyperparameter.
    trials : everything that was tried, in order.
    edges : hyperparameters whose best value lies at an edge of what was searched, though it was widened.
    fixed : hyperparameters that stayed at their defaults.
    runs : the judged runs, one for each seed of the second set.
    bytes_per_parameter, state_bytes_per_parameter : what a step moves, and what it keeps.
    spread : how many of the first trials were spread over the whole space before anything was known of it; 0 in older files.
    """

    workload: str
    optimizer: str
    track: Track
    values: Mapping[str, float | str | bool]
    chain: str
    python: str
    space: Mapping[str, str]
    trials: tuple[Trial, ...]
    edges: tuple[str, ...]
    fixed: tuple[str, ...]
    runs: tuple[Run, ...]
    bytes_per_parameter: float
    state_bytes_per_parameter: float
    spread: int = 0

    @property
    def costs(self) -> list[float]:
        return [run.cost for run in self.runs]

    @property
    def whole_trials(self) -> list[Trial]:
        """Those that were not stopped early."""
        return [trial for trial in self.trials if not trial.stopped]

    @property
    def spread_trials(self) -> tuple[Trial, ...]:
        """Those that no other one led to: of them alone it can be said what a smaller number would have found."""
        return self.trials[: self.spread]


@dataclass(frozen=True, slots=True)
class WorkloadFacts:
    """What the pages say of a workload; see `steepest.workbench.Workload`. ``digest`` is the same for the same work."""

    name: str
    about: str
    source: str
    metric: str
    higher_is_better: bool
    steps: int
    target: float | None
    failed: float
    batch: int | None = None
    data: str = ""
    split_seed: int | None = None
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """How the figures came about: versions, machine, seeds, budget, processes and the threads of each.

    ``seconds`` is what the last command took, ``earlier`` how many runs it found there already; ``tool`` is the command's name.
    What has a default here and in `WorkloadFacts` is not in older files.
    """

    versions: Mapping[str, str]
    machine: str
    command: str
    started: str
    seconds: float
    search_seeds: tuple[int, ...]
    seeds: tuple[int, ...]
    trials: int
    jobs: int
    threads: int | None = None
    tool: str = "compare"
    earlier: int = 0


@dataclass(frozen=True, slots=True)
class Result:
    """A whole comparison; ``unfinished`` says what an interrupt left undone."""

    facts: Facts
    workloads: tuple[WorkloadFacts, ...]
    entries: tuple[Entry, ...]
    unfinished: tuple[str, ...] = ()

    def to_json(self) -> str:
        """One text; numbers that are not finite as Python's JSON writes them (Infinity, NaN)."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Result:
        """What `to_json` gave. Raises ValueError for anything else."""
        try:
            data = json.loads(text)
            form = data.pop("format", None) if isinstance(data, dict) else None
        except json.JSONDecodeError as error:
            raise ValueError(f"these aren't results of steepest compare: {error}.") from None
        if form != FORMAT:
            raise ValueError(
                f"the format of the results must be {FORMAT}, got {form!r}. Compare again with this version."
            )
        try:
            return cls(
                _facts(data["facts"]),
                tuple(WorkloadFacts(**w) for w in data["workloads"]),
                tuple(_entry(e) for e in data["entries"]),
                tuple(data["unfinished"]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"these aren't results of steepest compare: {error!r} is missing or of another type."
            ) from None


def _facts(data: dict[str, Any]) -> Facts:
    return Facts(**{**data, "search_seeds": tuple(data["search_seeds"]), "seeds": tuple(data["seeds"])})


def _entry(data: dict[str, Any]) -> Entry:
    trials = tuple(Trial(t["values"], tuple(t["costs"]), t.get("stopped", False)) for t in data["trials"])
    lists = {"edges": tuple(data["edges"]), "fixed": tuple(data["fixed"]), "trials": trials}
    return Entry(**{**data, **lists, "runs": tuple(map(Run.from_json, data["runs"]))})
