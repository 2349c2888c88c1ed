"""The protocol without training: a driver that answers with made-up costs sees what is asked for, and what is chosen."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Generator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from steepest.workbench.campaign import _draw
from steepest.workbench.protocol import Budget, Job, _search_rate, contend, entry_of, failed_run, perform
from steepest.workbench.results import Entry, Trial
from steepest.workbench.spaces import Choice, Log, searched, space_of
from steepest.workbench.training import Run
from steepest.workbench.workload import Workload, find

BUDGET = Budget(steps=50, trials=8, seeds=(0, 1, 2))


def answered(generator: Generator[list[Job], list[Run], Any], cost: Callable[[Job], float]) -> tuple[Any, list[Job]]:
    """What a generator returns when every job it asks for costs what ``cost`` says, and the jobs."""
    asked: list[Job] = []
    try:
        jobs = next(generator)
        while True:
            asked += jobs
            jobs = generator.send([replace(failed_run(job, ""), cost=cost(job)) for job in jobs])
    except StopIteration as end:
        return end.value, asked


def rate_of(job: Job) -> float:
    return float(dict(job.values)["lr"])


@pytest.fixture
def work() -> Workload:
    return replace(find("quadratics"), rates={"adam": 1.0, "sgd": 1.0})


def searched_rates(work: Workload, cost: Callable[[float], float]) -> tuple[float, list[float], tuple[str, ...]]:
    (values, trials, edges), _ = answered(_search_rate(work, "adam", BUDGET, 50), lambda job: cost(rate_of(job)))
    return values["lr"], [trial.values["lr"] for trial in trials], edges


@pytest.mark.parametrize(("optimum", "trials"), [(1.0, 5), (10.0, 6), (100.0, 8), (1e-3, 10)])
def test_the_grid_widens_until_its_edge_no_longer_wins(work: Workload, optimum: float, trials: int) -> None:
    best, tried, edges = searched_rates(work, lambda rate: abs(math.log10(rate / optimum)))
    assert best == optimum
    assert edges == ()
    assert len(tried) == trials
    ratios = [b / a for a, b in itertools.pairwise(tried)]
    assert ratios == pytest.approx([math.sqrt(10)] * len(ratios), rel=2e-3)  # three digits


def test_the_grid_stops_at_its_limit_and_says_so(work: Workload) -> None:
    best, tried, edges = searched_rates(work, lambda rate: -rate)
    assert (best, max(tried), edges) == (1e4, 1e4, ("lr",))


def test_the_grid_goes_down_where_every_rate_fails(work: Workload) -> None:
    best, _, edges = searched_rates(work, lambda rate: rate if rate < 0.02 else math.inf)
    assert (best, edges) == (1e-4, ("lr",))
    best, _, edges = searched_rates(work, lambda rate: math.inf)
    assert (best, edges) == (1e-4, ("lr",))
    best, _, edges = searched_rates(work, lambda rate: abs(math.log10(rate) + 2.5) if rate < 0.02 else math.inf)
    assert (best, edges) == (0.00316, ())


def test_one_failure_of_two_seeds_counts(work: Workload) -> None:
    def cost(job: Job) -> float:
        return math.inf if rate_of(job) > 0.5 and job.seed == 1_001 else -rate_of(job)

    (values, trials, _), _ = answered(_search_rate(work, "adam", BUDGET, 50), cost)
    assert values == {"lr": 0.316}
    assert [trial.cost for trial in trials][-3:] == [math.inf] * 3
    assert all(len(trial.costs) == 2 for trial in trials)


def entry(
    text: str, track: Any, work: Workload, cost: Callable[[Job], float], said: str = ""
) -> tuple[Entry, list[Job]]:
    made: tuple[Entry, list[Job]] = answered(contend(work, text, track, BUDGET, _draw, searched(text, said)), cost)
    return made


def test_the_default_track_runs_the_judged_seeds_alone(work: Workload) -> None:
    made, asked = entry("sgd", "default", work, lambda job: 1.0)
    assert asked == [Job("quadratics", 50, "sgd", (), seed) for seed in (0, 1, 2)]
    assert (made.values, made.trials, made.space, made.python) == ({}, (), {}, "steepest.sgd()")


@pytest.mark.parametrize("text", ["adam(0.01)", "sgd(cosine(0.1, 40))"])
def test_a_rate_that_is_given_is_not_searched(work: Workload, text: str) -> None:
    made, asked = entry(text, "rate", work, lambda job: 1.0)
    assert (len(asked), made.trials, made.values) == (3, (), {})


def test_the_rate_track_chooses_by_other_seeds_than_it_judges_by(work: Workload) -> None:
    made, asked = entry("sgd", "rate", work, lambda job: abs(math.log10(rate_of(job) / 3.16)))
    searching, judging = asked[:-3], asked[-3:]
    assert {job.seed for job in searching} == {1_000, 1_001}
    assert [job.seed for job in judging] == [0, 1, 2]
    assert {rate_of(job) for job in judging} == {3.16} == {made.values["lr"]}
    assert made.python == "steepest.sgd(lr=3.16)"


def test_the_tuned_track_draws_as_many_for_everybody_and_runs_what_it_shows(work: Workload) -> None:
    counts = set()
    for text in ("sgd", "adam", "lookahead(adamw)"):
        made, asked = entry(text, "tuned", work, lambda job: abs(math.log10(rate_of(job)) + 2.0))
        counts.add(len(made.trials))
        tried = {job.values for job in asked if job.seed >= 1_000}
        assert tried == {tuple(sorted(trial.values.items())) for trial in made.trials}
        for values in map(dict, tried):
            assert all(float(f"{v:.3g}") == v for k, v in values.items() if k == "lr" or k.endswith(("eps", "decay")))
        assert {job.values for job in asked[-3:]} == {tuple(sorted(made.values.items()))}
        assert made.values in [trial.values for trial in made.trials]
        assert made.space["schedule"] == "one of constant, linear, cosine, wsd"
    assert counts <= {8, 10}  # widened once, by a fourth, or not


@pytest.mark.parametrize(("sign", "towards"), [(-1, "high"), (1, "low")])
def test_a_space_left_at_an_edge_is_widened_once_and_what_remains_is_said(
    work: Workload, sign: int, towards: str
) -> None:
    before = space_of("sgd")["lr"]
    assert isinstance(before, Log)

    def draw(space: Mapping[str, Any], count: int, seed: int) -> list[dict[str, Any]]:
        lr = space["lr"]
        fixed = {n: d.values[0] if isinstance(d, Choice) else (d.low * d.high) ** 0.5 for n, d in space.items()}
        return [{**fixed, "lr": lr.low * (lr.high / lr.low) ** (i / (count - 1))} for i in range(count)]

    made, _ = answered(contend(work, "sgd", "tuned", BUDGET, draw, space_of("sgd")), lambda job: sign * rate_of(job))
    assert (len(made.trials), made.spread) == (8 + 2, 8)
    assert made.edges == ("lr",)
    best = before.high * 10 if towards == "high" else before.low / 10
    assert made.values["lr"] == pytest.approx(best)
    low, high = (before.low, best) if towards == "high" else (best, before.high)
    assert made.space["lr"] == f"{low:g} to {high:g}, logarithmic"


def test_bounds_that_a_user_has_set_are_kept(work: Workload) -> None:
    made, asked = entry("sgd", "tuned", work, lambda job: -rate_of(job), "lr=0.01:0.011; schedule=constant; warmup=0")
    assert all(0.01 <= rate_of(job) <= 0.011 for job in asked)
    assert made.edges == ("lr",)
    assert len(made.trials) == 8


def test_a_search_in_which_everything_fails_still_ends_in_judged_runs(work: Workload) -> None:
    for track in ("rate", "tuned"):
        made, asked = entry("adam", track, work, lambda job: math.inf)
        assert len(made.runs) == 3 and made.costs == [math.inf] * 3
        assert all(trial.cost == math.inf for trial in made.trials)
        assert len(asked) == 2 * len(made.trials) + 3


def test_a_configuration_that_is_refused_is_a_failed_run_and_its_entry_says_why(work: Workload) -> None:
    run = perform(Job("quadratics", 50, "sgd", (("lr", -1.0),), 0))
    assert (run.failed, run.cost) == ("sgd: lr must be >= 0, got -1.0.", math.inf)
    made = entry_of(work, "sgd", "rate", {"lr": -1.0}, {}, [], ("lr",), [run])
    assert (made.python, made.chain) == ("# sgd: lr must be >= 0, got -1.0.", "descend")


def test_a_rate_that_is_named_in_any_way_has_a_default(work: Workload) -> None:
    for text in ("sgd(momentum=0.9, lr=lr)", "adamw(linear( lr, 0, steps))", "adam(cyclic(0.1 * lr, lr, 9))"):
        run = perform(Job("quadratics", 5, text, (), 0))
        assert run.failed == "" and run.steps == 5


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"steps": 0}, "budget: steps must be a whole number >= 1, got 0."),
        ({"trials": 0}, "budget: trials must be a whole number >= 1, got 0."),
        ({"seeds": ()}, "budget: seeds must be one or more different seeds, got ()."),
        ({"seeds": (1, 1)}, "budget: seeds must be one or more different seeds, got (1, 1)."),
        ({"seeds": range(2000)},
         "budget: seed 1000 is in both seeds and search_seeds. Use different seeds for search and evaluation."),
    ],
)  # fmt: skip
def test_a_budget_that_cannot_be_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match="budget") as caught:
        Budget(**given)
    assert str(caught.value) == message


def test_a_trials_cost_is_the_upper_median() -> None:
    assert Trial({}, (1.0, math.inf)).cost == math.inf
    assert Trial({}, (3.0, 1.0, 2.0)).cost == 2.0


def test_a_job_survives_json_to_the_last_bit() -> None:
    job = Job("quadratics", 50, "adam", (("adam.beta2", 0.999), ("lr", 0.1 + 0.2), ("schedule", "wsd")), 3)
    assert Job.from_json(job.to_json()) == job
