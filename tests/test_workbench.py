"""The workbench as a user meets it: chains as text, the search for a rate, the command line, the report."""

from __future__ import annotations

import importlib
import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import steepest
from steepest import schedules
from steepest.workbench import parse
from steepest.workbench.cli import main
from steepest.workbench.compare import DEFAULT, Comparison, Contender, centre, compare, search_rate
from steepest.workbench.parse import split_list
from steepest.workbench.report import accuracy, loss, page, to_json


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("adam", steepest.adam()),
        ("adam(1e-3)", steepest.adam(1e-3)),
        ("adam(betas=(0.8, 0.9), amsgrad=True)", steepest.adam(betas=(0.8, 0.9), amsgrad=True)),
        ("clip_by_value(-1, +1) | sgd(0.1)", steepest.chain(steepest.clip_by_value(-1, 1), steepest.sgd(0.1))),
        (
            "clip_by_global_norm(1, inf) | sgd",
            steepest.chain(steepest.clip_by_global_norm(1, math.inf), steepest.sgd()),
        ),
        ("lookahead(adam, k=7)", steepest.chain(steepest.adam(), steepest.lookahead(7))),
        (
            "lookahead(clip_by_norm(1) | sgd)",
            steepest.chain(steepest.clip_by_norm(1), steepest.sgd(), steepest.lookahead()),
        ),
        ("sgd(schedules_lr)", steepest.sgd(0.25)),
        ("adamw(cosine(1e-3, steps=100 // 2))", steepest.adamw(schedules.cosine(1e-3, 50))),
        (
            "exclude(add_decayed_weights(0.1), '*.bias', max_ndim=1) | sgd(0.1)",
            steepest.chain(
                steepest.exclude(steepest.add_decayed_weights(0.1), "*.bias", max_ndim=1), steepest.sgd(0.1)
            ),
        ),
    ],
)
def test_a_text_is_the_chain_that_it_names(text: str, expected: steepest.Chain) -> None:
    assert parse(text, {"schedules_lr": 0.25}) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the chain is empty"),
        ("adamm", "unknown rule or recipe 'adamm'. Did you mean 'adam'?"),
        ("adam(", "is no chain"),
        ("adam(lr=foo)", "unknown value 'foo'"),
        ("adam(lr=cosin(1, 2))", "unknown schedule 'cosin'. Did you mean 'cosine'?"),
        ("cosine(1, 2)", "cosine is a schedule. Give it to a hyperparameter"),
        ("adam.x", "is no rule or recipe"),
        ("adam(lr=[x for x in y])", "is not allowed here"),
        ("__import__('os').system('true')", "is no rule or recipe"),
        ("sgd(1 / 0)", "division by zero"),
        ("nowhere.py:rule", "there is no file nowhere.py"),
    ],
)
def test_a_mistake_in_a_text_is_named(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        parse(text)


def test_lists_are_split_at_their_own_commas_only() -> None:
    assert split_list("a, b(1, 2) | c, d('x,y')") == ["a", "b(1, 2) | c", "d('x,y')"]


def test_the_grid_widens_while_its_edge_wins_and_says_when_it_stopped_at_one() -> None:
    best, tried, at_edge = search_rate(lambda rate: abs(math.log10(rate) + 3.5), 1.0)
    assert best == pytest.approx(10**-3.5) and not at_edge and min(tried) == pytest.approx(1e-4)
    best, tried, at_edge = search_rate(lambda rate: -rate, 1.0)
    assert best == pytest.approx(1e4) and at_edge
    best, tried, at_edge = search_rate(lambda rate: math.inf if rate > 1e-3 else rate, 1.0)
    assert best == pytest.approx(1e-4) and at_edge  # where every rate of the grid fails, lower ones are tried


def test_the_default_run_has_every_optimizer_clip_wrapper_and_kind_of_schedule() -> None:
    text = " ".join(DEFAULT)
    for name in [*steepest.OPTIMIZERS, *steepest.CLIPS, *steepest.WRAPPERS]:
        assert re.search(rf"\b{name}\b", text), name
    for name in schedules.__all__:
        if name in ("constant", "join", "scale", "warmup", "piecewise", "from_json", "Schedule", "ReduceOnPlateau"):
            continue  # parts of others, or the same curve as multi_step, or fed with a metric
        assert f"{name}(" in text, name
    for name in DEFAULT:
        assert parse(name, {"lr": centre(name), "steps": 400})


@pytest.fixture(scope="module")
def result() -> Comparison:
    return compare(["adam", "adamw(cosine(lr, steps)) | ema(0.9)", "sgd(1e9)"], seeds=2, epochs=2, jobs=1)


def test_a_comparison_ranks_by_median_and_never_drops_a_failure(result: Comparison) -> None:
    assert [c.name for c in result.contenders][-1] == "sgd(1e9)"
    assert result.contenders[-1].failures == 2 and math.isinf(result.contenders[-1].median_loss)
    best = result.contenders[0]
    assert best.median_accuracy > 0.8 and len(best.runs) == 2 and len(best.runs[0].curve) == 2
    assert {run.seed for run in best.runs} == {0, 1}


def test_every_number_of_the_report_is_in_the_results(result: Comparison) -> None:
    html, data = page(result), json.loads(to_json(result))
    for c in data["contenders"]:
        assert c["name"] in html
        if c["median_test_loss"] is not None:
            assert loss(c["median_test_loss"]) in html and accuracy(c["median_test_accuracy"]) in html
    assert "http" not in html.replace("http-equiv", "") and "<script" not in html
    assert len(data["contenders"][0]["runs"]) == 2


def test_an_interrupt_keeps_what_has_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("steepest.workbench.compare")  # as an attribute the package has the function
    original = module.contend

    def contend(name: str, seeds: int, epochs: int) -> Contender:
        if name == "lion":
            raise KeyboardInterrupt
        return original(name, seeds, epochs)

    monkeypatch.setattr(module, "contend", contend)
    kept = compare(["adam", "lion", "sgd"], seeds=1, epochs=1, jobs=1)
    assert kept.interrupted and [c.name for c in kept.contenders] == ["adam"]
    assert kept.unfinished == ("lion", "sgd")
    assert "Interrupted. Not finished: lion, sgd." in page(kept)


def run_cli(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "steepest.workbench.cli", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_compare_on_the_command_line_writes_report_and_results(tmp_path: Path) -> None:
    (tmp_path / "my_rules.py").write_text(
        "import steepest\n"
        "def cautious(lr=1e-3):\n"
        "    return steepest.chain(steepest.clip_by_norm(1.0), steepest.adam(lr))\n"
    )
    done = run_cli(
        "compare", "--optimizers", "adam, my_rules.py:cautious", "--seeds", "2", "--epochs", "1", "--output", "out",
        folder=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "my_rules.py:cautious" in done.stdout and "adam" in done.stdout
    data = json.loads((tmp_path / "out" / "results.json").read_text())
    assert {c["name"] for c in data["contenders"]} == {"adam", "my_rules.py:cautious"}
    assert (tmp_path / "out" / "report.html").stat().st_size > 2000


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["compare", "--seeds", "0"], "argument --seeds: '0', allowed is a whole number >= 1"),
        (["compare", "--optimizers", "adamm"], "Did you mean 'adam'?"),
        (["compare", "--optimizers", "broken.py:rule"], "broken.py:2: ZeroDivisionError"),
        (["compare", "--optimizers", "adam", "--output", "broken.py/x"], "broken.py"),
        (["plan", "lookahead | adam"], "Move lookahead to the end of the chain."),
        (["plan", "adam(-1)"], "adam: lr is -1, allowed is [0, inf)."),
        (["plan"], "the following arguments are required: chain"),
        (["nothing"], "invalid choice"),
    ],
)
def test_a_mistake_ends_with_one_line_and_status_2(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.py").write_text("x = 1\ny = x / 0\n")
    monkeypatch.chdir(tmp_path)
    try:
        status = main(arguments)
    except SystemExit as stop:
        status = int(stop.code or 0)
    captured = capsys.readouterr()
    assert status == 2
    assert said in captured.err and captured.err.count("\n") == 1


def test_plan_and_list_print_what_they_promise(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "clip_by_global_norm(1.0) | adamw(lr=1e-3) | ema(0.999)", "--source"]) == 0
    said = capsys.readouterr().out
    assert "2 passes, 40 bytes per parameter" in said and "def pass_2(" in said
    assert main(["list"]) == 0
    said = capsys.readouterr().out
    for name in [*steepest.RECIPES, "warm_restarts", "one_cycle"]:
        assert f"  {name}(" in said, name
    assert "exp_avg = beta1 * exp_avg + (1 - beta1) * grad" in said


def test_the_report_is_drawn_by_a_browser(result: Comparison, tmp_path: Path) -> None:
    browser = shutil.which("chromium")
    if browser is None:
        if os.environ.get("CI"):
            pytest.fail("chromium is missing; .ci/run installs it")
        pytest.skip("chromium is not installed")
    (tmp_path / "report.html").write_text(page(result))
    picture = tmp_path / "report.png"
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
        f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1200,1600", f"--screenshot={picture}",
        (tmp_path / "report.html").as_uri(),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    assert picture.stat().st_size > 20_000  # an empty page of this size has about 8 kB
