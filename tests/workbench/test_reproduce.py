"""Published claims: the exact ones hold, sabotage is noticed, verdicts follow from figures alone."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
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
from steepest.workbench.reproduce.claim import difference_of_rates, fisher, known, mean_of, ratio_of, significant
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
    "sgdr-anytime": {"restarts": lambda peak, T_0, T_mult: cosine(peak / 300, 310)},
    "clipping-recurrent": {"clip": lambda max_norm: steepest.clip_by_global_norm(1e12)},
    "agc-large-batch": {"clip": lambda clipping: steepest.adaptive_grad_clip(1e12)},
    "large-batch-scaled": {
        "lars": lambda lr, trust_coefficient: steepest.sgd(lr, maximize=True),
        "lamb": lambda lr: steepest.sgd(lr, maximize=True),
    },
    "adagrad-sparse": {"make": lambda lr: steepest.sgd(10 * lr)},
    "radam-warm-up": {"make": lambda lr, betas: steepest.adam(lr / 30, betas)},
}
"""What is put in the place of the right optimizer, claim by claim. The two that do not hold here have none."""

SECONDS = 5.0
SHORT = [name for name in SABOTAGE if CLAIMS[name].exact or CLAIMS[name].seconds <= SECONDS]


@pytest.mark.parametrize("name", EXACT)
def test_an_exact_claim_holds(name: str) -> None:
    outcome = CLAIMS[name].run()
    assert outcome.verdict == "reproduced", outcome.reason


@pytest.mark.parametrize("name", SHORT)
def test_a_claim_is_not_reproduced_with_a_wrong_optimizer(name: str) -> None:
    assert sabotaged(CLAIMS[name], SABOTAGE[name]).verdict == "not reproduced"


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in SABOTAGE if name not in SHORT])
def test_a_long_claim_is_not_reproduced_with_a_wrong_optimizer(name: str) -> None:
    assert sabotaged(CLAIMS[name], SABOTAGE[name]).verdict == "not reproduced"


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in CLAIMS if name not in SHORT])
def test_a_long_claim_runs_with_its_seeds(name: str) -> None:
    outcome = CLAIMS[name].run()
    assert outcome.verdict in ("reproduced", "not reproduced", "inconclusive")
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
    with pytest.raises(TypeError, match=r"^judge: steps is the text 'many', allowed is a number with its interval\.$"):
        judge({"steps": "many"}, [Condition("steps", high=1.0)])


# ---- figures


def test_a_mean_has_students_interval_and_one_sample_none() -> None:
    found = mean_of([1.0, 2.0, 3.0])
    assert (found.value, round(found.low, 3), round(found.high, 3)) == (2.0, -0.484, 4.484)
    assert mean_of([2.0]) == Interval(2.0, -math.inf, math.inf)


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
        ("[]", "these are no outcomes of claims"),
        ("nonsense", "these are no outcomes of claims"),
        ('{"format": 0}', "these outcomes have the format 0, allowed is 1. Run the claims anew with this version."),
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
    assert announcement(["radam-warm-up", "clipping-recurrent"]) == "2 claims, about 6 minutes of one core"
    assert announcement(["heavy-ball-rate"]) == "1 claim, about 1 minute of one core"
