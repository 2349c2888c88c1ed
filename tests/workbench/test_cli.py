"""The command line: exit statuses, one line for a mistake, files that agree with each other."""

from __future__ import annotations

import html
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

import steepest
from steepest.workbench import Comparison, compare
from steepest.workbench import compare as _compare
from steepest.workbench.cli import main
from steepest.workbench.report import accuracy, loss, page, rate, to_json, write

SOURCES = Path(steepest.__file__).parents[1]


@pytest.fixture(scope="module")
def result() -> Comparison:
    names = ["adam", "sgd(cosine(lr, steps))", "sgd(1e30)", "clip_by_value(-0.1, 0.1) | sgd(0.1)"]
    return compare(names, seeds=2, epochs=2, jobs=1)


def test_compare_ranks_and_writes_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "out"
    arguments = ["--optimizers", "sgd(0.001), lookahead(adam)", "--seeds", "2", "--epochs", "1", "--jobs", "1"]
    assert main(["compare", *arguments, "--output", str(folder)]) == 0
    said = capsys.readouterr()
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert [c["name"] for c in results["contenders"]] == ["lookahead(adam)", "sgd(0.001)"]
    for contender in results["contenders"]:
        assert f"{contender['median_test_loss']:.4f}" in said.out
        assert contender["name"] in said.out
    assert (folder / "report.html").is_file()
    assert said.err == ""  # no progress bar where there is no terminal


def test_every_number_of_the_reports_table_is_in_the_results(result: Comparison) -> None:
    text = page(result)
    rows = re.findall(r"<tr><td>\d+</td>.*?</tr>", text)
    contenders = json.loads(to_json(result))["contenders"]
    assert len(rows) == len(contenders) == 4
    for row, c in zip(rows, contenders, strict=True):
        cells = [html.unescape(re.sub("<[^>]*>", "", cell)) for cell in re.findall("<td.*?</td>", row)]
        losses = sorted(math.inf if run["test_loss"] is None else run["test_loss"] for run in c["runs"])
        accuracies = sorted(run["test_accuracy"] for run in c["runs"])
        assert cells[1] == c["name"]
        assert cells[3] == loss(math.inf if c["median_test_loss"] is None else c["median_test_loss"])
        assert cells[4] == f"{loss(losses[0])} – {loss(losses[-1])}"
        assert cells[5] == accuracy(c["median_test_accuracy"])
        assert cells[6] == f"{accuracy(accuracies[0])} – {accuracy(accuracies[-1])}"
        assert cells[7] == f"{sum(run['failed'] for run in c['runs'])} of 2"
        assert cells[9] == str(c["bytes_per_parameter"])
        assert cells[2].split()[0] == ("its" if c["lr"] is None else f"{c['lr']:.3g}")


def test_the_report_needs_no_network_and_no_script(result: Comparison) -> None:
    text = page(result)
    assert not re.search(r"<script|<link|<img|https?://|url\(|@import", text)
    assert "prefers-color-scheme: dark" in text


def test_names_are_escaped_in_the_report(result: Comparison) -> None:
    evil = replace(result.contenders[0], name="<b>'my & rules'.py:x</b>")
    text = page(replace(result, contenders=(evil,)))
    assert "<b>'my" not in text
    assert "&lt;b&gt;&#x27;my &amp; rules" in text


def test_a_rate_says_how_it_came_about(result: Comparison) -> None:
    searched = next(c for c in result.contenders if c.name == "adam")
    assert rate(replace(searched, lr=0.01, at_edge=False)) == "0.01"
    assert rate(replace(searched, lr=0.01, at_edge=True)) == "0.01 (edge)"
    assert rate(replace(searched, lr=0.01, search=())) == "0.01 (given)"
    assert rate(replace(searched, lr=None, search=())) == "its own"


def test_a_report_without_a_single_result_can_be_written(result: Comparison, tmp_path: Path) -> None:
    report, data = write(replace(result, contenders=(), interrupted=True, unfinished=("adam",)), tmp_path)
    assert "Not finished: adam" in report.read_text(encoding="utf-8")
    assert json.loads(data.read_text(encoding="utf-8"))["contenders"] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "--seeds", "0"], "steepest compare: argument --seeds: '0', allowed is a whole number >= 1. See"),
        (["compare", "--epochs", "many"], "steepest compare: argument --epochs: 'many', allowed is"),
        (["compare", "--optimizers", "adamm"], "steepest compare: character 1 of 'adamm': unknown rule or recipe"),
        (["compare", "--optimizers", ","], "steepest compare: compare: optimizers is (), allowed is a list of chains."),
        (["compare", "--optimizers", "clip_by_norm(1)"], "steepest compare: chain: the chain clip_by_norm computes an"),
        (["compare", "--optimizers", "gone.py:f"], "steepest compare: gone.py:f: there is no file gone.py."),
        (["plan", "adam(lr=-1)"], "steepest plan: adam: lr is -1, allowed is [0, inf)."),
        (["plan"], "steepest plan: the following arguments are required: chain."),
        (["comparr"], "steepest: argument command: invalid choice: 'comparr'"),
        ([], "steepest: the following arguments are required: command."),
    ],
)
def test_a_mistake_ends_with_one_line_and_status_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(message)
    assert said.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []  # no empty folder is left behind


def test_an_output_that_cannot_be_written_is_noticed_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / "out"
    assert main(["compare", "--output", str(folder)]) == 2
    expected = (
        f"steepest compare: output is {str(folder)!r}, allowed is a folder that can be written: Not a directory.\n"
    )
    assert capsys.readouterr().err == expected


def test_a_users_broken_file_names_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "my_rules.py"
    file.write_text("import steepest\ndef mine(lr=0.1):\n    return steepest.sgdd(lr)\n")
    assert main(["compare", "--optimizers", f"{file}:mine", "--output", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"steepest compare: {file}:3: AttributeError: ")
    assert said.count("\n") == 1


def test_an_interrupt_reports_what_has_finished_and_ends_with_130(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    finished = []
    whole = sys.modules[_compare.__module__].contend

    def contend(name: str, seeds: int, epochs: int) -> object:
        if finished:
            raise KeyboardInterrupt
        finished.append(name)
        return whole(name, seeds, epochs)

    monkeypatch.setattr(sys.modules[_compare.__module__], "contend", contend)
    arguments = ["--optimizers", "sgd(0.1),adam", "--seeds", "1", "--epochs", "1", "--jobs", "1"]
    assert main(["compare", *arguments, "--output", str(tmp_path)]) == 130
    said = capsys.readouterr()
    assert "sgd(0.1)" in said.out
    assert said.err == "interrupted; not finished: adam\n"
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert [c["name"] for c in results["contenders"]] == ["sgd(0.1)"]
    assert "Not finished: adam" in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.skipif(sys.platform != "linux", reason="sees in /proc when the processes have started")
@pytest.mark.parametrize("wait", [0.1, 4.0], ids=["while they start", "while they train"])
def test_ctrl_c_in_a_terminal_stops_all_processes_without_a_traceback(tmp_path: Path, wait: float) -> None:
    command = [
        sys.executable,
        "-m",
        "steepest.workbench.cli",
        "compare",
        "--optimizers",
        "sgd(0.1),adam(0.01),lamb(0.01)",
    ]
    command += ["--epochs", "100000", "--jobs", "2", "--output", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(SOURCES)}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdout=pipe, stderr=pipe, text=True, env=environment, start_new_session=True
    ) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        until = time.monotonic() + 60
        while len(children.read_text().split()) < 3 and time.monotonic() < until:  # the tracker of resources and two
            time.sleep(0.02)
        time.sleep(wait)
        os.killpg(process.pid, signal.SIGINT)
        try:
            out, err = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # a failure leaves nothing training behind
            raise
    assert process.returncode == 130, err
    assert "Traceback" not in out + err
    assert err == "interrupted; not finished: sgd(0.1), adam(0.01), lamb(0.01)\n"
    assert (tmp_path / "results.json").is_file()


def test_list_shows_equation_defaults_and_source_of_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    said = capsys.readouterr().out
    for group in ("optimizers", "clipping", "wrappers", "rules to compose", "schedules"):
        assert f"\n{group}\n" in f"\n{said}"
    for name in (*steepest.RECIPES, "cosine", "warm_restarts", "ReduceOnPlateau"):
        assert re.search(rf"^  {name}\(", said, re.MULTILINE), name
    entries = re.split(r"\n(?=  \w)", said)[1:]
    assert [e.split("(")[0] for e in entries if "Source: " not in e] == []
    assert "exp_avg = beta1 * exp_avg + (1 - beta1) * grad" in said
    assert "adamw(lr=0.001, betas=(0.9, 0.999), eps=1e-08, weight_decay=0.01" in said


def test_plan_prints_the_plan(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "clip_by_global_norm(1.0) | adamw(lr=1e-3) | ema(0.999)"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(
        "chain: clip_by_global_norm > scale_by_adam > add_decayed_weights > descend > ema\n2 passes, "
    )


def test_the_report_renders_in_a_browser(result: Comparison, tmp_path: Path) -> None:
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        assert not os.environ.get("CI"), "Chromium is missing, and CI must render the report"
        pytest.skip("Chromium is missing: the report was not rendered")
    report, _ = write(result, tmp_path)
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    command = [browser, *flags, "--virtual-time-budget=2000", "--dump-dom", report.as_uri()]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("<svg") == page(result).count("<svg") > 5
    for contender in result.contenders:
        assert html.escape(contender.name, quote=False) in run.stdout
    picture = tmp_path / "report.png"
    command = [browser, *flags, f"--screenshot={picture}", "--window-size=1200,1600", report.as_uri()]
    subprocess.run(command, capture_output=True, check=True, timeout=120)
    assert picture.stat().st_size > 20_000
