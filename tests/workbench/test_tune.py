"""Tuning: better than the defaults, resumed without repeating, longer when asked, honest when stopped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import steepest
from steepest.workbench import Budget, Result, page, tables, tune
from steepest.workbench.adaptive import SPREAD
from steepest.workbench.outcomes import summary

BUDGET = Budget(steps=20, seeds=(0, 1))

WORK = """import numpy as np
from steepest.workbench import ArrayTask, workload

@workload(steps=20, metric="gap", failed=1e6)
def bowl(seed):
    with open({log!r}, "a") as log:
        log.write(f"{{seed}}\\n")
    x = np.random.default_rng(seed).normal(size=5)
    return ArrayTask({{"x": x}}, lambda step: (float(x @ x), {{"x": x.copy()}}), lambda part: {{"gap": float(x @ x)}})
"""


def searched(seed: list[str]) -> int:
    return sum(int(one) >= 1_000 for one in seed)


@pytest.fixture
def work(tmp_path: Path) -> tuple[str, Callable[[], list[str]]]:
    """A user's workload, and which seeds have been run since one last asked."""
    log, file = tmp_path / "runs.log", tmp_path / "their_work.py"
    file.write_text(WORK.format(log=str(log)))

    def ran() -> list[str]:
        found = log.read_text().split() if log.exists() else []
        log.unlink(missing_ok=True)
        return found

    return f"{file}:bowl", ran


@pytest.fixture(scope="module")
def result() -> Result:
    return tune("adam", "quadratics", trials=16, budget=BUDGET, jobs=1)


def test_tuning_beats_the_defaults(result: Result) -> None:
    default, tuned = result.entries
    (facts,) = result.workloads
    assert (default.track, tuned.track) == ("default", "tuned")
    before, after = summary(default, facts), summary(tuned, facts)
    assert before is not None and after is not None
    assert after.mean.value < 0.5 * before.mean.value


def test_what_is_shown_is_what_was_tried_and_ran(result: Result) -> None:
    default, tuned = result.entries
    assert (default.values, default.trials, default.python) == ({}, (), "steepest.adam()")
    best = min(tuned.trials, key=lambda trial: trial.cost)
    assert tuned.values == best.values
    assert [run.seed for run in tuned.runs] == [0, 1]
    assert (len(tuned.trials), tuned.spread) == (16, SPREAD)
    assert 5 < len(tuned.whole_trials) < 16  # the others were stopped early, and say so
    assert (result.facts.tool, result.facts.earlier) == ("tune", 0)
    made = eval(tuned.python, {"steepest": steepest})
    assert str(made) == tuned.chain == tuned.runs[0].chain
    assert set(tuned.space) == {"lr", "adam.beta1", "adam.beta2", "adam.eps", "schedule", "warmup"} == set(tuned.values)
    assert float(f"{tuned.values['lr']:.3g}") == tuned.values["lr"]
    assert Result.from_json(result.to_json()).entries == result.entries


def test_the_same_command_gives_the_same_and_runs_nothing(
    work: tuple[str, Callable[[], list[str]]], tmp_path: Path
) -> None:
    name, ran = work
    storage = f"journal:{tmp_path / 'study.log'}"

    def again(trials: int, **given: Any) -> Result:
        return tune("sgd", name, trials=trials, budget=BUDGET, jobs=1, storage=storage, **given)

    first = again(8)
    assert 8 <= searched(ran()) <= 16
    second = again(8)
    assert ran() == []
    assert (first.facts.earlier, second.facts.earlier) == (0, 12)  # of the search, and two times two that judge
    assert second.entries == first.entries
    more = again(12)  # the same study goes on
    seeds = ran()
    assert 4 <= searched(seeds) <= 8
    assert set(map(str, first.entries[1].trials)) <= set(map(str, more.entries[1].trials))
    assert min(t.cost for t in more.entries[1].trials) <= min(t.cost for t in first.entries[1].trials)
    fewer = tune("sgd", name, trials=12, budget=Budget(steps=20, seeds=(0,)), jobs=1, storage=storage)
    assert ran() == []
    assert [[run.seed for run in entry.runs] for entry in fewer.entries] == [[0], [0]]


def test_progress_names_the_phase_and_counts_on_through_both() -> None:
    told: list[tuple[int, int, str]] = []
    tune("sgd", "quadratics", trials=3, budget=BUDGET, jobs=1, progress=lambda *one: told.append(one))
    assert [done for done, _, _ in told] == [1, 2, 3, 4, 5, 6, 7]
    assert {total for _, total, _ in told} == {7}
    assert [said for *_, said in told] == ["searching sgd"] * 3 + ["judging sgd and its defaults"] * 4


def test_an_interrupt_keeps_what_was_tried_and_the_same_command_goes_on(
    work: tuple[str, Callable[[], list[str]]], tmp_path: Path
) -> None:
    name, ran = work
    stop: list[int] = [3]

    def progress(done: int, total: int, what: str) -> None:
        if done == stop[0]:
            raise KeyboardInterrupt

    def again(storage: str | None) -> Result:
        return tune("sgd", name, trials=8, budget=BUDGET, jobs=1, storage=storage, progress=progress)

    storage = f"journal:{tmp_path / 'study.log'}"
    stopped = again(storage)
    assert stopped.unfinished == (f"sgd on {name}",)
    (entry,) = stopped.entries
    assert (entry.track, len(entry.trials), entry.runs) == ("tuned", 3, ())
    assert "not finished" in page.page(stopped).lower()
    assert [table.row_count for table in tables.table(stopped)] == [1]
    stop[0] = 0
    first = ran()
    resumed = again(storage)
    assert resumed.unfinished == ()
    second = ran()
    whole = again(None)
    assert [entry.trials for entry in resumed.entries] == [entry.trials for entry in whole.entries]
    assert [entry.values for entry in resumed.entries] == [entry.values for entry in whole.entries]
    assert [entry.costs for entry in resumed.entries] == [entry.costs for entry in whole.entries]
    assert sorted(first + second) == sorted(ran())


def test_what_failed_with_an_error_is_tried_again_also_where_the_search_invented_it(
    work: tuple[str, Callable[[], list[str]]], tmp_path: Path
) -> None:
    name, ran = work
    file, missing = Path(name.rpartition(":")[0]), tmp_path / "data.txt"
    file.write_text(file.read_text().replace("    x = np", f"    open({str(missing)!r}).close()\n    x = np"))
    storage = f"journal:{tmp_path / 'study.log'}"

    def remove(done: int, total: int, what: str) -> None:
        if done == 11:  # after the points that were spread
            missing.unlink()

    def again(progress: Any = None) -> Result:
        return tune("sgd", name, trials=13, budget=BUDGET, jobs=1, storage=storage, progress=progress)

    missing.write_text("")
    with pytest.raises(ValueError, match=r"their_work.py:\d+: FileNotFoundError"):
        again(remove)
    missing.write_text("")
    ran()
    result = again()
    assert result.unfinished == ()
    assert 2 <= searched(ran()) <= 4  # the two that were left
    assert result.entries[1].runs[0].failed == ""


def test_another_space_other_steps_and_changed_code_are_other_studies(
    work: tuple[str, Callable[[], list[str]]], tmp_path: Path
) -> None:
    name, ran = work
    storage = f"journal:{tmp_path / 'study.log'}"

    def again(steps: int = 20, space: str = "") -> int:
        tune("sgd", name, trials=2, budget=Budget(steps, seeds=(0,)), jobs=1, storage=storage, space=space)
        return len(ran())

    assert again() > 0
    assert again(steps=10) > 0
    assert again(space="lr=0.1:0.2; schedule=constant") > 0
    assert again() == again(steps=10) == 0
    file = Path(name.rpartition(":")[0])
    file.write_text(file.read_text().replace("size=5", "size=6"))
    assert again() > 0


def test_what_a_user_fixes_stays(tmp_path: Path) -> None:
    said = "lr=0.1:0.5; sgd.weight_decay=0; schedule=constant,linear; warmup=0"
    tuned = tune("sgd", "quadratics", trials=5, budget=BUDGET, jobs=1, space=said).entries[1]
    assert all(0.1 <= trial.values["lr"] <= 0.5 for trial in tuned.trials)
    assert {trial.values["sgd.weight_decay"] for trial in tuned.trials} == {0.0}
    assert {trial.values["schedule"] for trial in tuned.trials} <= {"constant", "linear"}


def test_where_everything_fails_the_entry_says_so() -> None:
    result = tune("sgd", "quadratics", trials=3, budget=BUDGET, jobs=1, space="lr=1e20:1e30; warmup=0")
    tuned = result.entries[1]
    assert {trial.cost for trial in tuned.trials} == {float("inf")}
    assert all(run.failed for run in tuned.runs)


@pytest.mark.parametrize(
    ("optimizer", "given", "message"),
    [
        ("sgd(0.1, weight_decay=0)", {}, "tune: sgd(0.1, weight_decay=0) sets every hyperparameter, so nothing is left to search."),
        ("adam", {"trials": 0}, "tune: trials must be a whole number >= 1, got 0."),
        ("adam", {"jobs": 0}, "tune: jobs must be a whole number >= 1, got 0."),
        ("adamm", {}, "character 1 of 'adamm': unknown rule or recipe 'adamm'. Did you mean 'adam'?"),
        ("adam", {"workload": "quadratic"}, "workload: unknown name 'quadratic'. Did you mean 'quadratics'?"),
        ("adam", {"space": "lr=2:1"}, "space: lr must be low:high with 0 < low < high"),
        ("adam", {"space": "adam.epss=1"}, "space: unknown hyperparameter 'adam.epss'. Did you mean 'adam.eps'?"),
        ("adam", {"space": "adam.eps=-1"}, "adam: eps must be >= 0, got -1.0."),
    ],
)  # fmt: skip
def test_a_mistake_is_refused_before_any_training(optimizer: str, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        tune(optimizer, **{"workload": "quadratics", **given})
    assert str(caught.value).startswith(message)
