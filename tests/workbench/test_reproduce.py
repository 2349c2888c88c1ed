"""Published claims: the exact ones hold, sabotage is noticed, verdicts follow from figures alone."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import steepest
from steepest.schedules import cosine
from steepest.workbench.processes import one_thread
from steepest.workbench.reproduce import (
    CLAIMS,
    EXACT,
    QUICK,
    Claim,
    Condition,
    Outcome,
    announcement,
    chosen,
    from_json,
    judge,
    markdown,
    run_claims,
    to_json,
)
from steepest.workbench.reproduce.__main__ import main
from steepest.workbench.reproduce.claim import (
    difference_of_rates,
    fisher,
    geometric_mean_of,
    known,
    mean_of,
    ratio_of,
    significant,
)
from steepest.workbench.reproduce.tasks import WIDEST, Searched, largest, searched
from steepest.workbench.statistics import Interval


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


def sabotaged(claim: Claim, swapped: Mapping[str, Any]) -> Outcome:
    """The claim with other optimizers in place of the named ones."""
    return replace(claim, measure=functools.partial(claim.measure, **swapped)).run()


SABOTAGE: dict[str, Mapping[str, Any]] = {
    "gradient-descent-rate": {"make": lambda lr: steepest.sgd(0.9 * lr)},
    "heavy-ball-rate": {"make": functools.partial(steepest.sgd, nesterov=True)},
    "nesterov-rate": {"make": lambda lr, momentum, nesterov: steepest.sgd(lr, momentum=momentum)},
    "noise-variance": {"make": lambda lr, momentum: steepest.sgd(lr)},
    "lookahead-variance": {"wrap": lambda k, alpha: steepest.lookahead(k, 1.0)},
    "clipping-bound": {"clip": steepest.clip_by_norm},
    "decoupled-decay": {"make": steepest.adam},
    "adam-step": {"make": steepest.nadam},
    "adaptive-steps": {"adagrad": steepest.rmsprop},
    "layerwise-steps": {"lamb": steepest.adam},
    "radam-rectifier": {"make": steepest.adam},
    "adam-non-convergence": {"make": functools.partial(steepest.adam, amsgrad=True)},
    "amsgrad-convergence": {"amsgrad": False},
    "sgdr-restarts": {"make": lambda peak, T_0, T_mult: cosine(peak, 310)},
    "clipping-curvature": {"clip": lambda max_norm: steepest.clip_by_global_norm(1e12)},
    "adagrad-moving-optimum": {"moving": steepest.adagrad},
    "rare-classes": {"make": lambda lr: steepest.sgd(100 * lr)},
    "edge-of-stability": {"make": lambda lr, momentum=0.0: steepest.sgd(lr / 100, momentum=momentum)},
    "adam-edge-of-stability": {"make": lambda lr: steepest.adam(lr / 100)},
    "lookahead-robustness": {"wrap": lambda k, alpha: steepest.lookahead(k, 0.0)},
    "clipping-larger-rates": {"clip": lambda max_norm: steepest.clip_by_global_norm(1e12)},
    "agc-large-batch": {"clip": lambda clipping: steepest.adaptive_grad_clip(1e12)},
    "adagrad-sparse": {"make": lambda lr: steepest.sgd(10 * lr)},
}
"""What is put in the place of the right optimizer, claim by claim. Claims that do not hold here have none."""

NEAR_MISSES: list[tuple[str, str, Mapping[str, Any]]] = [
    ("never learns", "rare-classes", {"make": lambda lr: steepest.sgd(1e-9), "limit": 300}),
    ("never learns", "adagrad-moving-optimum", {"moving": lambda lr: steepest.rmsprop(1e-9)}),
    ("never learns", "amsgrad-convergence", {"make": lambda lr, **rest: steepest.adam(1e-12, **rest)}),
    ("changes nothing", "lookahead-variance", {"wrap": lambda k, alpha: steepest.Chain()}),
    ("changes nothing", "clipping-curvature", {"clip": lambda max_norm: steepest.Chain()}),
    ("changes nothing", "clipping-bound", {"clip": lambda max_norm: steepest.Chain()}),
    ("clips by value", "clipping-bound", {"clip": lambda max_norm: steepest.clip_by_value(-max_norm, max_norm)}),
    ("has no layer-wise rates", "layerwise-steps", {"lars": lambda lr, **rest: steepest.sgd(lr)}),
    (
        "decays by L2",
        "decoupled-decay",
        {"make": lambda lr, weight_decay: steepest.adam(lr, weight_decay=weight_decay)},
    ),
]
LONG_NEAR_MISSES: list[tuple[str, str, Mapping[str, Any]]] = [
    ("changes nothing", "lookahead-robustness", {"wrap": lambda k, alpha: steepest.Chain()}),
    ("changes nothing", "agc-large-batch", {"clip": lambda clipping: steepest.Chain()}),
]
"""What differs from the right optimizer in the one thing that the claim is about."""

STORED = Path(__file__).parents[2] / "docs" / "reproduced.json"
SECONDS = 5.0
SHORT = [name for name in SABOTAGE if CLAIMS[name].exact or CLAIMS[name].seconds <= SECONDS]


@pytest.mark.parametrize("name", EXACT)
def test_an_exact_claim_holds(name: str) -> None:
    outcome = CLAIMS[name].run()
    assert outcome.verdict == "reproduced", outcome.reason


@pytest.mark.parametrize("name", SHORT)
def test_a_claim_is_not_reproduced_with_a_wrong_optimizer(name: str) -> None:
    assert sabotaged(CLAIMS[name], SABOTAGE[name]).verdict == "not reproduced"


@pytest.mark.parametrize(("miss", "name", "swapped"), NEAR_MISSES, ids=lambda x: x if isinstance(x, str) else "")
def test_a_claim_is_not_reproduced_by_a_near_miss(miss: str, name: str, swapped: Mapping[str, Any]) -> None:
    assert sabotaged(CLAIMS[name], swapped).verdict == "not reproduced", miss


@pytest.mark.long
@pytest.mark.parametrize(("miss", "name", "swapped"), LONG_NEAR_MISSES, ids=lambda x: x if isinstance(x, str) else "")
def test_a_long_claim_is_not_reproduced_by_a_near_miss(miss: str, name: str, swapped: Mapping[str, Any]) -> None:
    assert sabotaged(CLAIMS[name], swapped).verdict == "not reproduced", miss


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in SABOTAGE if name not in SHORT])
def test_a_long_claim_is_not_reproduced_with_a_wrong_optimizer(name: str) -> None:
    assert sabotaged(CLAIMS[name], SABOTAGE[name]).verdict == "not reproduced"


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in CLAIMS if name not in SHORT])
def test_a_long_claim_has_the_verdict_that_is_published(name: str) -> None:
    outcome = CLAIMS[name].run()
    published = {claim.name: stored for claim, stored in from_json(STORED.read_text(encoding="utf-8"))}
    assert outcome.verdict == published[name].verdict
    assert Outcome.from_json(json.loads(json.dumps(outcome.to_json()))) == outcome


@pytest.mark.parametrize("name", ["adagrad-moving-optimum", "rare-classes"])
def test_one_seed_is_too_few_for_a_verdict(name: str) -> None:
    assert CLAIMS[name].run([0]).verdict == "inconclusive"


def test_a_tiny_run_of_lookahead_measures_all_its_figures() -> None:
    claim = CLAIMS["lookahead-robustness"]
    measure = functools.partial(claim.measure, steps=5, lrs=(0.01, 0.1))
    outcome = replace(claim, measure=measure).run([0, 1])
    spread = outcome.figures["spread over lr and momentum, Lookahead / SGD"]
    assert isinstance(spread, Interval)
    assert 0 < spread.low <= spread.value <= spread.high < math.inf


def test_a_tiny_run_of_adagrad_is_without_a_verdict() -> None:
    claim = CLAIMS["adagrad-sparse"]
    assert replace(claim, measure=functools.partial(claim.measure, examples=100)).run([0]).verdict == "inconclusive"


# ---- verdicts


@pytest.mark.parametrize("name", CLAIMS)
def test_a_verdict_follows_the_figures(name: str) -> None:
    conditions = CLAIMS[name].conditions

    def figures(place: Callable[[Condition], Interval]) -> dict[str, Interval]:
        return {c.figure: place(c) for c in conditions}

    def inside(c: Condition) -> Interval:
        return known(c.low if math.isfinite(c.low) else c.high)

    def outside(c: Condition) -> Interval:
        return known(c.low - 1 if math.isfinite(c.low) else c.high + 1)

    def wide(c: Condition) -> Interval:
        return Interval(inside(c).value, -math.inf, math.inf)

    assert judge(figures(inside), conditions).verdict == "reproduced"
    assert judge(figures(outside), conditions).verdict == "not reproduced"
    assert judge(figures(wide), conditions).verdict == "inconclusive"


def test_a_missed_condition_outweighs_an_open_one() -> None:
    conditions = [Condition("open", high=1.0), Condition("missed", high=1.0)]
    outcome = judge({"open": Interval(1, 0, 2), "missed": known(3)}, conditions)
    assert (outcome.verdict, outcome.reason) == ("not reproduced", "missed is 3, asked is at most 1")


def test_a_large_p_leaves_a_verdict_open() -> None:
    assert judge({"p": known(0.2)}, [significant("p")]).verdict == "inconclusive"
    assert judge({"p": known(0.01)}, [significant("p")]).verdict == "reproduced"


def test_a_figure_that_is_not_a_number_decides_nothing() -> None:
    assert judge({"x": known(math.nan)}, [Condition("x", high=1.0)]).verdict == "inconclusive"


def test_a_text_is_no_figure_to_judge() -> None:
    with pytest.raises(TypeError, match=r"^judge: steps must be a number with its interval, got the string 'many'\.$"):
        judge({"steps": "many"}, [Condition("steps", high=1.0)])


# ---- figures


def test_a_mean_has_students_interval_and_one_sample_none() -> None:
    found = mean_of([1.0, 2.0, 3.0])
    assert (found.value, round(found.low, 3), round(found.high, 3)) == (2.0, -0.484, 4.484)
    assert mean_of([2.0]) == Interval(2.0, -math.inf, math.inf)


def test_samples_read_off_a_grid_are_known_to_half_of_its_step() -> None:
    assert mean_of([1.0] * 6, grid=0.5) == Interval(1.0, 0.75, 1.25)
    assert mean_of([1.0, 1.0], grid=0.5) == mean_of([1.0] * 6, grid=0.5)


def test_a_geometric_mean_is_infinite_where_a_sample_is() -> None:
    assert geometric_mean_of([2.0, math.inf]) == Interval(math.inf, 0.0, math.inf)
    assert geometric_mean_of([math.inf, math.inf]) == known(math.inf)


def test_a_search_goes_on_beyond_its_grid_while_the_best_is_at_the_edge() -> None:
    assert searched(lambda lr: abs(lr - 2), [1.0, 2.0, 4.0]) == Searched(2.0, 0.0, inside=True)
    assert searched(lambda lr: abs(lr - 0.25), [4.0, 1.0, 2.0]) == Searched(0.25, 0.0, inside=True)
    assert searched(lambda lr: -lr, [1.0, 2.0]) == Searched(2.0 ** (1 + WIDEST), -(2.0 ** (1 + WIDEST)), inside=False)
    assert str(searched(lambda lr: -lr, [1.0, 2.0])) == "1.3e+02 (at the edge of the search)"


def test_the_largest_rate_that_trains_may_lie_beyond_the_grid() -> None:
    assert largest(lambda lr: lr < 3, [1.0, 2.0, 4.0]) == 2.0
    assert largest(lambda lr: lr < 30, [1.0, 2.0, 4.0]) == 16.0
    assert largest(lambda lr: False, [1.0, 2.0, 4.0]) == 1.0


def test_a_ratio_is_paired_by_seed() -> None:
    found = ratio_of([1.0, 10.0, 100.0], [2.0, 20.0, 200.0])
    assert [found.value, found.low, found.high] == pytest.approx([0.5, 0.5, 0.5])


def test_a_difference_of_rates_has_newcombes_interval() -> None:
    found = difference_of_rates(9, 3, 10)  # Newcombe 1998, table II, case c: 0.1705 to 0.8090
    assert [found.value, found.low, found.high] == pytest.approx([0.6, 0.1705, 0.8090], abs=1e-4)
    assert difference_of_rates(10, 0, 10).low > 0.5


def test_fishers_test_needs_many_seeds() -> None:
    assert fisher(9, 3, 10).value < 0.05 < fisher(2, 0, 2).value


# ---- runs


def test_runs_come_back_in_order_from_processes_and_through_json() -> None:
    names = ["sgdr-restarts", "decoupled-decay"]
    seen: list[str] = []
    results = run_claims(names, jobs=2, progress=lambda claim, _: seen.append(claim.name))
    assert [claim.name for claim, _ in results] == names
    assert sorted(seen) == sorted(names)
    assert from_json(to_json(results)) == results


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(
        ValueError, match=r"^reproduce: unknown claim 'heavy-bal-rate'\. Did you mean 'heavy-ball-rate'\?"
    ):
        run_claims(["heavy-bal-rate"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "these aren't outcomes of claims"),
        ("nonsense", "these aren't outcomes of claims"),
        ('{"format": 0}', "the format of the outcomes must be 1, got 0. Run the claims again with this version."),
    ],
)
def test_other_json_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_json(text)


def test_the_page_shows_every_verdict_with_its_figures() -> None:
    outcome = Outcome("inconclusive", {c.figure: known(0.5) for c in CLAIMS["rare-classes"].conditions}, "", 2.0)
    page = markdown([(CLAIMS["rare-classes"], outcome)])
    assert "1 inconclusive" in page
    assert "loss of rare / frequent classes, SGD 0.5 (at least 3)" in page
    assert "**inconclusive** (2 s, 6 seeds)" in page


def test_the_command_writes_what_it_measured(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["sgdr-restarts", "--jobs", "1", "--json", str(tmp_path / "a.json"), "--markdown", str(tmp_path / "a.md")])
        == 0
    )
    assert "reproduced  sgdr-restarts" in capsys.readouterr().out
    assert [claim.name for claim, _ in from_json((tmp_path / "a.json").read_text())] == ["sgdr-restarts"]
    assert "### sgdr-restarts" in (tmp_path / "a.md").read_text()
    assert main(["no-such"]) == 2
    assert "unknown claim 'no-such'" in capsys.readouterr().err


def test_the_quick_claims_fit_into_ten_minutes_of_two_cores() -> None:
    assert set(EXACT) <= set(QUICK)
    assert sum(CLAIMS[name].seconds for name in QUICK) <= 2 * 600
    assert len([name for name in QUICK if not CLAIMS[name].exact]) >= 10


def test_without_names_the_command_lists_every_claim_with_its_time(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in listed] == list(CLAIMS)
    assert any(line.startswith("radam-warm-up            300 s  RAdam does") for line in listed)


def test_claims_are_chosen_by_name_or_as_a_set() -> None:
    assert chosen(["heavy-ball-rate", "heavy-ball-rate"]) == ["heavy-ball-rate"]
    assert (chosen([], everything=True), chosen([], quick=True), chosen([])) == (list(CLAIMS), list(QUICK), [])
    assert announcement(["radam-warm-up", "clipping-recurrent"]) == "2 claims, about 8 minutes of one core"
    assert announcement(["heavy-ball-rate"]) == "1 claim, about 1 minute of one core"
