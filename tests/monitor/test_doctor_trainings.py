"""The doctor on real trainings, sick on purpose and healthy: a few of them always, all of them where it is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.trainings import HEALTHY, OTHER_HEALTHY, OTHER_SICK, SICK, Case
from steepest.monitor.doctor import ALARM, FOLLOWS, RULES, diagnose

ROOT = Path(__file__).parents[2]
QUICK = ("one-layer-fast", "dead", "nan-parameter", "bad-batch", "digits-adamw", "digits-momentum")
CASES = {case.name: case for case in (*SICK, *HEALTHY, *OTHER_SICK, *OTHER_HEALTHY)}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def is_right(case: Case, seed: int) -> bool:
    found = diagnose(case.train(seed))
    if not case.expected:
        return not any(one.confidence >= ALARM for one in found)
    return bool(found) and found[0].cause == case.expected and (not case.place or case.place in found[0].tensors)


@pytest.mark.parametrize("name", QUICK)
def test_a_training_is_judged_rightly(name: str) -> None:
    assert is_right(CASES[name], seed=1)


@pytest.mark.long
@pytest.mark.parametrize("cases", [SICK, HEALTHY], ids=["sick", "healthy"])
def test_nine_of_ten_kinds_are_judged_rightly_with_every_seed(cases: tuple[Case, ...]) -> None:
    right = {case.name: all(is_right(case, seed) for seed in (20, 21, 22)) for case in cases}
    wrong = [name for name, is_so in right.items() if not is_so]
    assert len(wrong) <= len(cases) / 10, f"wrong: {wrong}"


def test_the_page_lists_the_rules_as_they_are_in_the_code() -> None:
    page = (ROOT / "docs" / "doctor.md").read_text(encoding="utf-8")
    for rule in RULES:
        assert f"| {rule.cause} | {rule.says} | {rule.source} |" in page
    for cause, effects in FOLLOWS.items():
        assert f"| {cause} | {', '.join(effects)} |" in page
