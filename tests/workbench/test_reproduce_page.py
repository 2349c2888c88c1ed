"""What is published of the claims: verdicts that follow from the stored figures, and a page that follows from both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from steepest.workbench.reproduce import CLAIMS, Outcome, from_json, judge, markdown, updated
from steepest.workbench.reproduce.__main__ import main
from steepest.workbench.reproduce.claim import known
from steepest.workbench.statistics import Interval

DOCS = Path(__file__).parents[2] / "docs"


def published() -> dict[str, Outcome]:
    return {claim.name: outcome for claim, outcome in from_json((DOCS / "reproduced.json").read_text(encoding="utf-8"))}


@pytest.mark.parametrize("name", CLAIMS)
def test_a_published_verdict_is_what_the_stored_figures_give(name: str) -> None:
    outcome = published()[name]
    judged = judge(outcome.figures, CLAIMS[name].conditions)
    assert (outcome.verdict, outcome.reason) == (judged.verdict, judged.reason)


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_takes_about_as_long_as_it_says(name: str) -> None:
    assert published()[name].seconds <= 1.5 * CLAIMS[name].seconds


def test_the_page_is_what_the_stored_outcomes_give() -> None:
    def said(page: str) -> list[str]:
        return [line for line in page.splitlines() if not line.startswith("Run on ")]

    stored = from_json((DOCS / "reproduced.json").read_text(encoding="utf-8"))
    assert [claim.name for claim, _ in stored] == list(CLAIMS)
    assert said(markdown(stored)) == said((DOCS / "reproduced.md").read_text(encoding="utf-8"))


def test_an_update_keeps_other_outcomes_and_judges_all_of_them_anew() -> None:
    wide, narrow = CLAIMS["rare-classes"], CLAIMS["decoupled-decay"]
    far = Outcome("reproduced", {c.figure: Interval(0.0, -1e9, -1e9) for c in wide.conditions}, "by hand")
    old, new = (Outcome("reproduced", {c.figure: known(x) for c in narrow.conditions}, "") for x in (0.0, 9.0))
    results = updated([(wide, far), (narrow, old)], [(narrow, new)])
    assert [claim.name for claim, _ in results] == ["decoupled-decay", "rare-classes"]
    assert [outcome.verdict for _, outcome in results] == ["not reproduced", "not reproduced"]
    assert results[0][1].figures == new.figures


def test_stored_figures_that_a_condition_misses_are_refused() -> None:
    claim = CLAIMS["sgdr-restarts"]
    with pytest.raises(
        ValueError,
        match=r"^reproduce: the stored figures of sgdr-restarts lack 'restarts at other steps'\. "
        r"Measure the claim again\.$",
    ):
        updated([(claim, Outcome("reproduced", {}, ""))], [])


def test_the_command_updates_what_it_measured_alone(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.json"
    path.write_text((DOCS / "reproduced.json").read_text(encoding="utf-8"), encoding="utf-8")
    assert main(["sgdr-restarts", "--jobs", "1", "--json", str(path), "--update"]) == 0
    found = {claim.name: outcome for claim, outcome in from_json(path.read_text(encoding="utf-8"))}
    assert list(found) == list(CLAIMS)
    assert found["radam-warm-up"] == published()["radam-warm-up"]
    assert main(["sgdr-restarts", "--update"]) == 2
    assert "--json must be given with --update" in capsys.readouterr().err
