"""The doctor on real trainings, sick on purpose and healthy: a few of them always, all of them where it is asked for."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.trainings import HEALTHY, OTHER_HEALTHY, OTHER_KINDS, OTHER_SICK, SICK, Case
from steepest.monitor.doctor import ALARM, FOLLOWS, RULES, Finding, diagnose

ROOT = Path(__file__).parents[2]
QUICK = ("one-layer-fast", "dead", "nan-parameter", "bad-batch", "digits-adamw", "digits-momentum")
SIGN = Finding("", "", 0.0, "", (), "", "", "", "", 0)
CASES = {case.name: case for case in (*SICK, *HEALTHY, *OTHER_SICK, *OTHER_HEALTHY)}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def is_right(case: Case, seed: int) -> bool:
    found = diagnose(case.train(seed))
    if not case.expected:
        return not any(one.confidence >= ALARM for one in found)
    alarm = bool(found) and found[0].confidence >= ALARM
    return alarm and found[0].cause == case.expected and (not case.place or case.place in found[0].tensors)


@pytest.mark.parametrize("name", QUICK)
def test_a_training_is_judged_rightly(name: str) -> None:
    assert is_right(CASES[name], seed=1)


@pytest.mark.parametrize("case", OTHER_KINDS, ids=lambda case: case.name)
def test_a_healthy_training_that_looks_like_a_sick_one_is_no_alarm(case: Case) -> None:
    assert is_right(case, seed=1)


@pytest.mark.long
@pytest.mark.parametrize("cases", [SICK, HEALTHY], ids=["sick", "healthy"])
def test_nine_of_ten_kinds_are_judged_rightly_with_every_seed_that_thresholds_were_set_on(
    cases: tuple[Case, ...],
) -> None:
    right = {case.name: all(is_right(case, seed) for seed in (0, 1, 2)) for case in cases}
    wrong = [name for name, is_so in right.items() if not is_so]
    assert len(wrong) <= len(cases) / 10, f"wrong: {wrong}"


def test_the_page_lists_the_rules_as_they_are_in_the_code() -> None:
    page = (ROOT / "docs" / "doctor.md").read_text(encoding="utf-8")
    for rule in RULES:
        assert f"| {rule.cause} | {rule.says} | {rule.source} |" in page
    for cause, effects in FOLLOWS.items():
        assert f"| {cause} | {', '.join(effects)} |" in page


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("benchmarks.doctor")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--only", "decay"], "--write with --only: a page is of all trainings. Leave --only out."),
        (
            ["--seeds", "20,31"],
            "--write: --seeds must be none of 0 to 2, 10 to 12, 20 to 22, got 20,31. They made the rules.",
        ),
    ],
)
def test_the_page_is_written_neither_of_a_part_nor_of_seeds_that_rules_know(
    bench: Any,
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.argv", ["doctor.py", "--write", str(tmp_path / "page.md"), *arguments])
    with pytest.raises(SystemExit):
        bench.main()
    assert capsys.readouterr().err.rstrip().endswith(said)


def test_the_page_says_nothing_of_results_but_what_was_judged(bench: Any) -> None:
    """Of two trainings: their seeds, what was found, how the loss went, the code that judged."""
    sick, well = (
        next(case for case in cases if case.name == name) for cases, name in ((SICK, "decay"), (HEALTHY, "digits-sgd"))
    )
    alarm = replace(SIGN, cause="decay_dominates", confidence=0.9)
    judged = [
        bench.Judged(sick, 7, (alarm,), (), (2.3, 2.0, 2.1)),
        bench.Judged(well, 7, (), (alarm,), (1.4, 0.7, 1.4)),
    ]
    page = "\n".join(bench.page({"A suite": judged}, [7, 8], 12.0))
    for part in (
        "--seeds 7,8 --write",
        f"commit {bench.commit()}",
        "; 12 seconds.\nOver all suites, on seeds 7, 8:\n\n- With all measurements: recognised 1 of 1 sick trainings",
        "- With only the standard measurements: recognised 0 of 1 sick trainings, cause and place first; no alarm in 0 of 1",
        "| decay_dominates | decay_dominates 0.90 (standard: no alarm) |",
        "| digits-sgd | SGD | 1.4 → 0.7 → 1.4 | no alarm (standard: decay_dominates) |",
    ):
        assert part in page
