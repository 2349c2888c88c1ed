"""A whole comparison: the same numbers however it is run, nothing twice, and nothing of a user's lost."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import steepest
from steepest.workbench import Budget, Result, compare
from steepest.workbench.campaign import run_job
from steepest.workbench.protocol import Job
from steepest.workbench.provenance import code_of, versions
from steepest.workbench.storage import open_storage
from steepest.workbench.store import Queue

BUDGET = Budget(steps=20, trials=5, seeds=(0, 1))

WORK = """import numpy as np
from steepest.workbench import ArrayTask, workload

CENTRE = 1.0

@workload(steps=8, metric="gap", failed=1e3)
def bowl(seed):
    "A bowl that writes down when it is trained on."
    with open({log!r}, "a") as log:
        log.write(f"{{seed}}\\n")
    x = np.random.default_rng(seed).normal(size=5)
    def slope(step):
        return float(x @ x), {{"x": x - CENTRE}}
    return ArrayTask({{"x": x}}, slope, lambda part: {{"gap": float((x - CENTRE) @ (x - CENTRE))}})
"""

RULES = "import steepest\n\ndef mine(lr=0.1):\n    return steepest.sgd({factor} * lr, momentum=0.9)\n"


class Theirs:
    """A user's workload in a file, which counts its runs."""

    def __init__(self, folder: Path) -> None:
        self.log, self.file = folder / "runs.log", folder / "their_work.py"
        self.write()

    def write(self, old: str = "", new: str = "") -> None:
        self.file.write_text(
            WORK.format(log=str(self.log)).replace(old, new) if old else WORK.format(log=str(self.log))
        )

    @property
    def name(self) -> str:
        return f"{self.file}:bowl"

    def runs(self) -> int:
        """How many there were since the last call."""
        count = len(self.log.read_text().splitlines()) if self.log.exists() else 0
        self.log.unlink(missing_ok=True)
        return count


@pytest.fixture
def theirs(tmp_path: Path) -> Theirs:
    return Theirs(tmp_path)


def numbers(result: Result) -> list[Any]:
    """All but the times."""
    return [
        (e.workload, e.optimizer, e.track, e.values, e.chain, e.python, e.space, e.trials, e.edges, e.fixed,
         [(r.seed, r.cost, r.curve, r.losses, r.rates, r.validation, r.test, r.failed, r.steps) for r in e.runs])
        for e in result.entries
    ]  # fmt: skip


def interrupting(after: int) -> Callable[[int, int, str], None]:
    def progress(done: int, total: int, what: str) -> None:
        if done >= after:
            raise KeyboardInterrupt

    return progress


@pytest.fixture(scope="module")
def whole() -> Result:
    return compare("quadratics", ["sgd", "adam"], tracks=["default", "rate", "tuned"], budget=BUDGET, jobs=1)


def test_two_processes_give_what_one_gives(whole: Result) -> None:
    two = compare("quadratics", ["sgd", "adam"], tracks=["default", "rate", "tuned"], budget=BUDGET, jobs=2)
    assert numbers(two) == numbers(whole)
    assert [(e.optimizer, e.track) for e in whole.entries] == [
        (optimizer, track) for optimizer in ("sgd", "adam") for track in ("default", "rate", "tuned")
    ]


@pytest.mark.parametrize("after", [1, 4, 17])
def test_an_interrupted_comparison_goes_on_and_ends_in_the_same(whole: Result, after: int, tmp_path: Path) -> None:
    def part(progress: Any = None) -> Result:
        return compare(
            "quadratics", ["sgd", "adam"], tracks=["default", "rate", "tuned"], budget=BUDGET, jobs=1,
            storage=f"journal:{tmp_path / 'study.log'}", progress=progress,
        )  # fmt: skip

    stopped = part(interrupting(after))
    assert stopped.unfinished and len(stopped.entries) + len(stopped.unfinished) == 6
    assert numbers(stopped) == [one for one in numbers(whole) if one in numbers(stopped)]
    resumed = part()
    assert resumed.unfinished == ()
    assert numbers(resumed) == numbers(whole)
    queue = Queue(open_storage(f"journal:{tmp_path / 'study.log'}"), "runs", {"versions": versions()})
    params = [json.dumps(one.params, sort_keys=True) for one in queue.finished()]
    assert len(params) == len(set(params))


def test_nothing_is_run_twice(theirs: Theirs, tmp_path: Path) -> None:
    storage = f"journal:{tmp_path / 'study.log'}"

    def again(optimizers: list[str], **given: Any) -> Result:
        return compare(theirs.name, optimizers, budget=BUDGET, jobs=1, storage=storage, **given)

    again(["sgd(0.1)"], progress=interrupting(1))
    first = theirs.runs()
    full = again(["sgd(0.1)", "sgd(momentum=0.9)"])
    second = theirs.runs()
    judged = {(run.seed, entry.python) for entry in full.entries for run in entry.runs}
    searching = sum(len(trial.costs) for entry in full.entries for trial in entry.trials)
    # On the rate track a chain with a rate of its own is what it is on the default track: those runs serve both.
    assert (first, second) == (1, len(judged) + searching - 1)
    assert numbers(again(["sgd(0.1)", "sgd(momentum=0.9)"])) == numbers(full)
    assert theirs.runs() == 0


def test_a_changed_file_of_the_users_is_run_anew(theirs: Theirs, tmp_path: Path) -> None:
    rules = tmp_path / "my_rules.py"
    storage = f"journal:{tmp_path / 'study.log'}"

    def again() -> Result:
        return compare(
            theirs.name, [f"{rules}:mine", "sgd(0.1)"], tracks=["default"], budget=BUDGET, jobs=1, storage=storage
        )

    rules.write_text(RULES.format(factor=1.0))
    first = again()
    assert theirs.runs() == 4
    rules.write_text(RULES.format(factor=2.0))
    second = again()
    assert theirs.runs() == 2
    assert second.entries[0].costs != first.entries[0].costs
    assert second.entries[1].costs == first.entries[1].costs
    theirs.write("CENTRE = 1.0", "CENTRE = 2.0")
    third = again()
    assert theirs.runs() == 4
    assert third.entries[1].costs != first.entries[1].costs
    theirs.write()
    rules.write_text(RULES.format(factor=1.0))
    assert numbers(again()) == numbers(first)  # what was there is there
    assert theirs.runs() == 0


def test_other_files_do_not_change_the_code_of_a_run(theirs: Theirs, tmp_path: Path) -> None:
    assert code_of("quadratics", "sgd") == ""
    assert code_of("quadratics", f"clip_by_norm(1) | {theirs.file}:bowl") == code_of(theirs.name, "sgd")


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_error_in_a_users_workload_names_its_line_and_the_mended_one_goes_on(
    theirs: Theirs, tmp_path: Path, jobs: int
) -> None:
    storage = f"journal:{tmp_path / 'study.log'}"

    def again() -> Result:
        return compare(theirs.name, ["sgd(0.1)"], tracks=["default"], budget=BUDGET, jobs=jobs, storage=storage)

    theirs.write("x @ x)", "x @ y)")
    with pytest.raises(ValueError, match="NameError") as caught:
        again()
    line = (
        theirs.file.read_text()
        .splitlines()
        .index(next(li for li in theirs.file.read_text().splitlines() if "x @ y" in li))
        + 1
    )
    assert str(caught.value) == f"workload {theirs.name}: their_work.py:{line}: NameError: name 'y' is not defined"
    theirs.write()
    assert [len(entry.runs) for entry in again().entries] == [2]


def test_the_same_command_tries_again_what_failed_with_an_error(theirs: Theirs, tmp_path: Path) -> None:
    storage = f"journal:{tmp_path / 'study.log'}"
    missing = tmp_path / "data.txt"
    theirs.write("    x = np", f"    open({str(missing)!r}).close()\n    x = np")
    for _ in range(2):
        with pytest.raises(ValueError, match=r"their_work.py:\d+: FileNotFoundError"):
            compare(theirs.name, ["sgd(0.1)"], tracks=["default"], budget=BUDGET, jobs=1, storage=storage)
    missing.write_text("")
    result = compare(theirs.name, ["sgd(0.1)"], tracks=["default"], budget=BUDGET, jobs=1, storage=storage)
    assert result.entries[0].runs[0].failed == ""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("float(x @ x)", "[float(v) for v in 'ab']", "their_work.py:13: ValueError: could not convert string to float: 'a'"),
        ("float(x @ x)", "__import__('json').loads('{')", "their_work.py:13: JSONDecodeError: Expecting property name"),
        ('{"gap": float((x - CENTRE) @ (x - CENTRE))}', "0.5",
         "evaluate must return a dict of measures, {'gap': …}, got 0.5 (float) for 'validation'."),
        ('    return ArrayTask({"x": x}', '    ArrayTask({"x": x}', "bowl (their_work.py:6) must return a TorchTask "
         "or an ArrayTask, got None. End it with return TorchTask(model, loss, evaluate)."),
        ('float(x @ x), {"x"', '{"x"', "ArrayTask: slope (their_work.py:12) must return the loss and a dict of gradients"),
        ('{"gap"', '{"gab"', "evaluate must return the metric, 'gap', got gab."),
    ],
)  # fmt: skip
def test_what_a_users_workload_does_wrong_is_one_line(theirs: Theirs, old: str, new: str, said: str) -> None:
    theirs.write(old, new)
    with pytest.raises((ValueError, TypeError), match="workload") as caught:
        run_job(Job(theirs.name, 3, "sgd", (), 0).to_json(), lambda step, value: False)
    assert str(caught.value).startswith(f"workload {theirs.name}: {said}")


@pytest.mark.parametrize("text", ["sgd(1e30)", "clip_by_global_norm(1, 2, 'error') | sgd(1e30)"])
def test_failures_cost_infinitely_much_and_are_never_dropped(text: str) -> None:
    result = compare("quadratics", [text, "sgd(0.1)"], tracks=["default", "rate"], budget=BUDGET, jobs=1)
    costs = {(entry.optimizer, entry.track): entry.costs for entry in result.entries}
    assert costs[text, "default"] == costs[text, "rate"] == [math.inf] * 2
    assert all(map(math.isfinite, costs["sgd(0.1)", "default"]))
    assert all(run.failed for entry in result.entries[:2] for run in entry.runs)
    assert Result.from_json(result.to_json()).entries == result.entries


def test_a_comparison_on_two_workloads_keeps_the_order_asked_for() -> None:
    result = compare(["quadratics-noisy", "quadratics", "quadratics"], ["sgd(0.1)", "sgd(0.1)"], tracks=["default"],
                     budget=BUDGET, jobs=1)  # fmt: skip
    assert [facts.name for facts in result.workloads] == ["quadratics-noisy", "quadratics"]
    assert [facts.steps for facts in result.workloads] == [20, 20]
    assert [entry.workload for entry in result.entries] == ["quadratics-noisy", "quadratics"]


def test_every_line_to_paste_makes_the_chain_that_ran(whole: Result) -> None:
    for entry in whole.entries:
        made = eval(entry.python, {"steepest": steepest})
        assert str(made) == entry.chain
        assert entry.runs[0].chain == entry.chain


def test_a_users_recipe_takes_part_by_its_own_default(tmp_path: Path) -> None:
    file = tmp_path / "my_rules.py"
    file.write_text(RULES.format(factor=1.0))
    result = compare("quadratics", [f"{file}:mine"], tracks=["default", "rate", "tuned"], budget=BUDGET, jobs=1)
    default, rate, tuned = result.entries
    assert [trial.values["lr"] for trial in rate.trials][:5] == [0.01, 0.0316, 0.1, 0.316, 1.0]
    names = {"mine": lambda **given: steepest.sgd(1.0 * given.get("lr", 0.1), momentum=0.9), "steepest": steepest}
    for entry in (default, rate, tuned):
        assert str(eval(entry.python, names)) == entry.chain
        assert not any(run.failed for run in entry.runs)
    assert len({trial.values["schedule"] for trial in tuned.trials}) > 1
    assert all(math.isfinite(trial.cost) for trial in tuned.trials if trial.values["lr"] <= 1.0)


CHAINS = "compare: optimizers must be a list of chains"
FIX = "Run `steepest list` to see all recipes and rules."
TUNED = {"tracks": ["tuned"], "optimizers": ["sgd"]}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"jobs": 0}, "compare: jobs must be a whole number >= 1, got 0."),
        ({"optimizers": []}, f"{CHAINS}, got []. {FIX}"),
        ({"optimizers": "adam"}, f"{CHAINS}, got 'adam'. {FIX}"),
        ({"optimizers": ["adamm"]}, "character 1 of 'adamm': unknown rule or recipe 'adamm'. Did you mean 'adam'? Run "
         "'steepest list' to see all "),
        ({"workload": []}, "compare: workload must be at least one name, got none. Run `steepest list --workloads` to see "
         "all names."),
        ({"workload": "quadratic"}, "workload: unknown name 'quadratic'. Did you mean 'quadratics'? Known"),
        ({"tracks": []}, "compare: unknown track ''. Known: default, rate, tuned."),
        ({"tracks": ["tunes"]}, "compare: unknown track 'tunes'. Did you mean 'tuned'? Known: default, rate, tuned."),
        ({"space": "lr=1:2"}, "space: tracks must include tuned if a space is given, got default, rate. Add --track tuned."),
        ({"space": "lrr=1:2", **TUNED},
         "space: unknown hyperparameter 'lrr'. Did you mean 'lr'? Known: lr, schedule, sgd.weight_decay, warmup."),
        ({"space": "sgd.weight_decay=-1", **TUNED}, "sgd: weight_decay must be >= 0, got -1.0."),
        ({"storage": "nowhere"}, "storage: url must be journal:PATH, sqlite:///PATH or postgresql://USER@HOST/NAME, got "
         "'nowhere'."),
    ],
)  # fmt: skip
def test_bad_arguments_are_refused_before_any_training(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        compare(**{"workload": "quadratics", **arguments})
    assert str(caught.value).startswith(message)


def test_a_space_said_of_one_optimizer_leaves_the_others_alone() -> None:
    result = compare(
        "quadratics", ["sgd", "adam"], tracks=["tuned"], budget=BUDGET, jobs=1, space="adam.eps=1e-6; lr=0.01:0.1"
    )
    sgd, adam = result.entries
    assert (sgd.space["lr"], adam.space["lr"]) == ("0.01 to 0.1, logarithmic",) * 2
    assert adam.space["adam.eps"] == "one of 1e-06"
    assert {trial.values["adam.eps"] for trial in adam.trials} == {1e-6}
    assert sgd.space["sgd.weight_decay"] == "1e-07 to 0.001, logarithmic"


def test_the_public_names_are_the_functions_whatever_was_imported_before() -> None:
    code = (
        "import steepest.workbench.campaign, steepest.workbench.tune, steepest.workbench.lr_find, steepest.workbench.parse\n"
        "import steepest.workbench as wb\n"
        "from steepest.workbench import compare, lr_find, parse, tune, workload\n"
        "assert all(map(callable, (compare, lr_find, parse, tune, workload, wb.tune)))\n"
        "assert sorted(set(wb.__all__)) == sorted(wb.__all__) and all(hasattr(wb, name) for name in wb.__all__)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
