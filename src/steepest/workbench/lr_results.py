"""What a search for a learning rate found, as plain data.

A `RangeTest` is one run in which the rate rises (Smith 2015, 2018); a `GridTest` is many short runs, each with one rate; a
`Found` holds both. Each says its own weakness. Knows no framework and makes no run.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from steepest.workbench.results import Trial

__all__ = ["FORMAT", "Found", "GridTest", "RangeTest", "near_best"]

FORMAT = 1
"""The version of the stored form; another one is refused."""

RANGE_WEAKNESS = (
    "This is one short run. The loss at a rate also shows what all smaller rates before it have done, and smoothing shows it "
    "late. For adaptive methods and for longer budgets the suggestion may be too low or too high, by a factor of ten and more. "
    "Take its order of magnitude; a grid of runs decides."
)
GRID_WEAKNESS = (
    "Runs of {steps} steps say which rate is best for {steps} steps; a longer budget, or a schedule, may want another. The grid "
    "knows it to a factor of the square root of 10."
)
TRAINING_COST = " The cost is the training loss at the end of each run: nothing here was measured on data kept apart."


@dataclass(frozen=True, slots=True)
class RangeTest:
    """One run whose learning rate rises exponentially.

    Attributes
    ----------
    subject, optimizer : what was trained, and by what.
    steps : batches that were asked for; the first shows the loss before any update.
    initial : that loss.
    rates, losses : the rate of each update, and the loss of the next batch after it; infinite where it was not finite.
    smoothed : the losses' exponential average with ``smoothing``, divided by the weight that it has collected.
    stopped : why the run ended early; empty where it did not.
    steepest : the rate at which the smoothed loss fell fastest; None where it never clearly fell.
    tenth : a tenth of the rate at the smoothed loss's minimum; None likewise.
    scales : each parameter group's rate, relative to the one shown.
    weakness : what the method can't know.
    """

    subject: str
    optimizer: str
    steps: int
    initial: float
    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    smoothing: float
    stopped: str
    steepest: float | None
    tenth: float | None
    scales: tuple[float, ...] = (1.0,)
    weakness: str = RANGE_WEAKNESS

    def to_json(self) -> dict[str, Any]:
        """Plain data; what is infinite stays a float, as Python's JSON writes it."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RangeTest:
        """What `to_json` gave."""
        lists = {name: tuple(data[name]) for name in ("rates", "losses", "smoothed", "scales")}
        return cls(**{**data, **lists})


@dataclass(frozen=True, slots=True)
class GridTest:
    """Short runs, some for each rate of a grid.

    Attributes
    ----------
    subject, optimizer : what was trained, and by what.
    steps : the length of each run.
    measure : what the cost is; lower is better.
    seeds : what the runs of a rate differ in.
    trials : every rate that was tried, from low to high, with the cost of each seed's run (infinite: it failed).
    best : the rate with the lowest median cost; None where all fail.
    low, high : the rates next to the best, it included, whose median cost is within 5 % of its.
    at_edge : whether the best still was the last of the widest grid.
    weakness : what the method can't know.
    """

    subject: str
    optimizer: str
    steps: int
    measure: str
    seeds: tuple[int, ...]
    trials: tuple[Trial, ...]
    best: float | None
    low: float | None
    high: float | None
    at_edge: bool
    weakness: str

    def to_json(self) -> dict[str, Any]:
        """Plain data; what is infinite stays a float, as Python's JSON writes it."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> GridTest:
        """What `to_json` gave."""
        trials = tuple(Trial(t["values"], tuple(t["costs"])) for t in data["trials"])
        return cls(**{**data, "seeds": tuple(data["seeds"]), "trials": trials})


@dataclass(frozen=True, slots=True)
class Found:
    """Both tests of one optimizer; ``grid`` is None where only the range test was asked for."""

    range: RangeTest
    grid: GridTest | None = None

    def to_json(self) -> str:
        """One text; infinite numbers as Python's JSON writes them."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Found:
        """What `to_json` gave. Raises ValueError for anything else."""
        try:
            data = json.loads(text)
            form = data.get("format") if isinstance(data, dict) else None
            if form != FORMAT:
                raise ValueError(f"the format of the results must be {FORMAT}, got {form!r}. Run the search again.")
            grid = data["grid"]
            return cls(RangeTest.from_json(data["range"]), None if grid is None else GridTest.from_json(grid))
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"these aren't results of a search for a learning rate: {error}.") from None


def near_best(trials: Sequence[Trial], share: float = 0.05) -> tuple[float | None, float | None, float | None]:
    """The best rate, and the lowest and highest one of the unbroken row around it whose cost is within a share of its."""
    costs = [trial.cost for trial in trials]
    rates = [float(trial.values["lr"]) for trial in trials]
    best = min(range(len(costs)), key=costs.__getitem__)
    if math.isinf(costs[best]):
        return None, None, None
    limit = costs[best] + share * abs(costs[best])
    low = high = best
    while low > 0 and costs[low - 1] <= limit:
        low -= 1
    while high + 1 < len(costs) and costs[high + 1] <= limit:
        high += 1
    return rates[best], rates[low], rates[high]
