"""The command line: exit statuses, one line for a mistake, nothing left behind by a refusal, and going on after an interrupt."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import steepest
from steepest.workbench import Result, page
from steepest.workbench.cli import main
from steepest.workbench.workload import BUILT_IN

SOURCES = Path(steepest.__file__).parents[1]
QUICK = ["--workload", "quadratics", "--steps", "20", "--seeds", "2", "--jobs", "1"]

BROKEN = "import steepest.workbench as wb\n\n@wb.workload(steps=5)\ndef circles(seed):\n    return undefined\n"
RULE = """import steepest

@steepest.rule()
def odd(update, *, factor: steepest.Positive = 2.0):
    return update * undefined

def mine(lr=0.1):
    return steepest.chain(odd(), steepest.sgd(lr))
"""
SLOW = """import time
import numpy as np
from steepest.workbench import ArrayTask, workload

@workload(steps=40, metric="gap", failed=1e6)
def slow(seed):
    with open("runs.log", "a") as log:
        log.write(f"{seed}\\n")
    x = np.random.default_rng(seed).normal(size=5)
    def slope(step):
        time.sleep(0.005)
        return float(x @ x), {"x": x.copy()}
    return ArrayTask({"x": x}, slope, lambda part: {"gap": float(x @ x)})
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def without_ids(path: Path, text: str) -> bool:
    """Whether a page is that text, but for the ids that Bokeh draws."""
    ids = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|p\d{4,}")
    return ids.sub("", path.read_text(encoding="utf-8")) == ids.sub("", text)


def test_compare_prints_a_table_and_writes_report_and_results(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *QUICK, "--optimizers", "sgd(0.001), sgd(lr=0.5)", "--output", "out/deep"]) == 0
    said = capsys.readouterr()
    result = Result.from_json((here / "out" / "deep" / "results.json").read_text(encoding="utf-8"))
    assert [(e.optimizer, e.track) for e in result.entries] == [
        (optimizer, track) for optimizer in ("sgd(0.001)", "sgd(lr=0.5)") for track in ("default", "rate")
    ]
    lines = said.out.splitlines()
    assert lines[0].strip() == "quadratics, 20 steps, 2 seeds: gap on the test part"
    assert said.out.index("sgd(lr=0.5)") < said.out.index("sgd(0.001)")  # the best one first
    assert "steepest.sgd(lr=0.5)" in said.out
    assert lines[-2:] == ["report   out/deep/report.html", "results  out/deep/results.json"]
    assert said.err == ""  # no progress where there is no terminal
    assert without_ids(here / "out" / "deep" / "report.html", page.page(result))


def test_json_is_all_that_is_printed_where_it_is_asked_for(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--optimizers", "sgd(1e30), sgd(0.5)", "--track", "default", "--json", "--output", "out"]
    assert main(["compare", *QUICK, *arguments]) == 0
    printed = capsys.readouterr().out
    result = Result.from_json(printed)
    assert printed.strip() == (here / "out" / "results.json").read_text(encoding="utf-8").strip()
    assert [entry.costs[0] == float("inf") for entry in result.entries] == [True, False]


def test_without_an_output_a_folder_of_its_own_is_made(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *QUICK, "--optimizers", "sgd(0.5)", "--track", "default"]) == 0
    (folder,) = (here / "runs").iterdir()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d-\d{6}", folder.name)
    assert f"report   {folder.relative_to(here)}/report.html" in capsys.readouterr().out


def test_what_stands_in_brackets_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    text = "only(add_decayed_weights(0.1), '[x]*') | sgd(0.5)"
    assert main(["compare", *QUICK, "--optimizers", text, "--track", "default"]) == 0
    assert "'[x]*'" in capsys.readouterr().out


def test_tune_judges_what_it_found_beside_the_defaults(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", "sgd", *QUICK, "--trials", "4", "--output", "out"]) == 0
    result = Result.from_json((here / "out" / "results.json").read_text(encoding="utf-8"))
    assert [entry.track for entry in result.entries] == ["default", "tuned"]
    assert result.facts.trials == 4
    assert "steepest.sgd(lr=" in capsys.readouterr().out


def test_report_makes_the_page_again(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *QUICK, "--optimizers", "sgd(0.5)", "--track", "default", "--output", "out"]) == 0
    before, data = (
        (here / "out" / "report.html").read_text(encoding="utf-8"),
        (here / "out" / "results.json").read_bytes(),
    )
    (here / "out" / "report.html").unlink()
    capsys.readouterr()
    assert main(["report", "out"]) == 0
    assert capsys.readouterr().out == "report   out/report.html\n"
    assert without_ids(here / "out" / "report.html", before)
    assert (here / "out" / "results.json").read_bytes() == data


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            None,
            "out: the folder must have a results.json or a run, got neither. Pass a folder that compare or a monitor",
        ),
        ("{", "out/results.json: these aren't results of steepest compare: "),
        (
            '{"format": 99}',
            "out/results.json: the format of the results must be 1, got 99. Compare again with this version.",
        ),
        ("[]", "out/results.json: the format of the results must be 1, got None."),
        ('{"format": 1}', "out/results.json: these aren't results of steepest compare: KeyError('facts') is missing"),
    ],
)
def test_report_refuses_what_are_no_results(
    text: str | None, message: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "out").mkdir()
    if text is not None:
        (here / "out" / "results.json").write_text(text)
    assert main(["report", "out"]) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"steepest report: {message}")
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert not (here / "out" / "report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "--seeds", "0"], "steepest compare: argument --seeds: must be a whole number >= 1, got '0'. See"),
        (["compare", "--steps", "many"], "steepest compare: argument --steps: must be a whole number >= 1, got 'many'. See"),
        (["compare", "--seeds", "1500"], "steepest compare: budget: seed 1000 is in both seeds and search_seeds."),
        (["compare", "--epochs", "3"], "steepest: unrecognized arguments: --epochs 3."),
        (["compare", "--optimizers", "adamm"], "steepest compare: character 1 of 'adamm': unknown rule or recipe 'adamm'. Did you"),
        (["compare", "--optimizers", "adam(lr="], "steepest compare: 'adam(lr=' isn't a chain: the ( at character 5 is never"),
        (["compare", "--optimizers", "sgd | adam(lr=x)"], "steepest compare: character 15 of 'sgd | adam(lr=x)': unknown value"),
        (["compare", "--optimizers", ","], "steepest compare: optimizers must be a list of chains, got ()."),
        (["compare", "--optimizers", "clip_by_norm(1)"], "steepest compare: chain: the chain clip_by_norm computes an"),
        (["compare", "--optimizers", "gone.py:f"], "steepest compare: gone.py:f: there is no file gone.py."),
        (["compare", "--optimizers", "rule.py:mine"], "steepest compare: rule.py:5: NameError: name 'undefined' is not defined"),
        (["compare", "--optimizers", "rule.py:mime"], "steepest compare: rule.py: unknown recipe 'mime'. Did you mean 'mine'?"),
        (["compare", "--workload", ","], "steepest compare: workload must be at least one name, got none."),
        (["compare", "--workload", "digit-mlp"], "steepest compare: workload: unknown name 'digit-mlp'. Did you mean"),
        (["compare", "--workload", "nowhere:x"], "steepest compare: nowhere: there is no module nowhere, here or among those"),
        (["compare", "--workload", "broken.py:x"], "steepest compare: broken.py: unknown name 'x'. Known: circles, wb."),
        (["compare", "--workload", "broken.py:wb"], "steepest compare: workload broken.py:wb: it must be a function of a seed"),
        (["compare", "--workload", "rule.py:odd"], "steepest compare: workload rule.py:odd: it must be a function of a seed"),
        (["compare", "--workload", "syntax.py:x"], "steepest compare: syntax.py:1: SyntaxError: '(' was never closed"),
        (["compare", "--workload", "needs.py:x"], "steepest compare: needs.py:1: ModuleNotFoundError: No module named 'optunaa'"),
        (["compare", "--workload", ":circles"], "steepest compare: :circles isn't the name of something in a module. Write"),
        (["compare", "--workload", "outer.py:x"], "steepest compare: inner.py:2: ZeroDivisionError: division by zero"),
        (["compare", "--workload", "leaves.py:x"], "steepest compare: leaves.py:2: SystemExit: 3\n"),
        (["compare", "--workload", "broken.py:circles", "--jobs", "1"],
         "steepest compare: workload broken.py:circles: broken.py:5: NameError: name 'undefined' is not defined"),
        (["compare", "--workload", "broken.py"],
         "steepest compare: workload: the name must be FILE:NAME, got the file 'broken.py'. Write broken.py:circles.\n"),
        (["compare", "--workload", "rule.py"],
         "steepest compare: workload: the name must be FILE:NAME, got the file 'rule.py'. The file has no workload. Write a"),
        (["compare", "--workload", "gone.py"], "steepest compare: gone.py: there is no file gone.py."),
        (["lr-find", "--workload", "broken.py:circles", "--jobs", "1"],
         "steepest lr-find: workload broken.py:circles: broken.py:5: NameError: name 'undefined' is not defined\n"),
        (["compare", "--track", "tunes"], "steepest compare: unknown track 'tunes'. Did you mean 'tuned'?"),
        (["compare", "--track", ","], "steepest compare: unknown track ''. Known: default, rate, tuned."),
        (["compare", "--space", "lr=1:2"], "steepest compare: space: tracks must include tuned if a space is given, got default"),
        (["compare", "--track", "tuned", "--space", "lrr=1"], "steepest compare: space: unknown hyperparameter 'lrr'. Did you"),
        (["compare", "--storage", "study.log"], "steepest compare: storage: url must be journal:PATH"),
        (["compare", "--storage", "journal:corrupt.log"], "steepest compare: storage journal:corrupt.log: it is "),
        (["compare", "--storage", "sqlite:///corrupt.log"], "steepest compare: storage sqlite:///corrupt.log: it is another kind"),
        (["compare", "--storage", "journal:broken.py/x.log"], "steepest compare: storage journal:broken.py/x.log: it can't be"),
        (["compare", "--output", "broken.py/x"], "steepest compare: output must be a writable folder, got 'broken.py/x'"),
        (["tune"], "steepest tune: the following arguments are required: optimizer."),
        (["tune", "sgd(0.1, weight_decay=0)"], "steepest tune: sgd(0.1, weight_decay=0) sets every hyperparameter, so"),
        (["tune", "adam", "--space", "adam.ep=1"], "steepest tune: space: unknown hyperparameter 'adam.ep'. Did you mean"),
        (["tune", "sgd", "--workload", "broken.py:circles", "--jobs", "1"],
         "steepest tune: workload broken.py:circles: broken.py:5: NameError: name 'undefined' is not defined"),
        (["lr-find", "--workload", "nothing"], "steepest lr-find: workload: unknown name 'nothing'."),
        (["report", "nowhere"], "steepest report: nowhere: the folder must have a results.json or a run, got neither."),
        (["plan", "adam(lr=-1)"], "steepest plan: adam: lr must be >= 0, got -1."),
        (["plan", "lookahead | adam"], "steepest plan: chain: lookahead must come last, but "),
        (["plan", "rule.py:mine"], "steepest plan: rule.py:5: NameError: name 'undefined' is not defined"),
        (["plan"], "steepest plan: the following arguments are required: chain."),
        (["list", "--search", "--workloads"], "steepest list: argument --workloads: not allowed with argument --search."),
        (["completion", "fish"], "steepest completion: argument shell: invalid choice: 'fish'"),
        (["comparr"], "steepest: argument command: invalid choice: 'comparr'"),
        ([], "steepest: the following arguments are required: command."),
    ],
)  # fmt: skip
def test_a_mistake_ends_with_one_line_and_status_2_and_leaves_nothing_behind(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], here: Path
) -> None:
    files = {
        "broken.py": BROKEN, "rule.py": RULE, "syntax.py": "x = (\n", "needs.py": "import optunaa\n", "corrupt.log": "{]\n" * 9,
        "outer.py": "import inner\n", "inner.py": "def f():\n    return 1 / 0\nf()\n", "leaves.py": "import sys\nsys.exit(3)\n",
    }  # fmt: skip
    for name, text in files.items():
        (here / name).write_text(text)
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(message)
    assert said.err.count("\n") == 1
    left = {path.name for path in here.iterdir()} - {*files, "__pycache__"}
    assert left == set()
    assert (here / "corrupt.log").read_text() == files["corrupt.log"]


@pytest.fixture
def closed() -> Iterator[Path]:
    """A folder that this process may read and not write, root or not; beside it ``out``, where it may."""
    outer = Path(tempfile.mkdtemp(prefix="steepest-"))
    outer.chmod(0o755)
    (outer / "closed").mkdir(mode=0o555)
    (outer / "out").mkdir()
    (outer / "out").chmod(0o777)
    before = os.geteuid()
    try:
        if before == 0:
            os.seteuid(65534)
        yield outer / "closed"
    finally:
        os.seteuid(before)
        shutil.rmtree(outer)


@pytest.fixture(scope="module")
def loaded() -> None:
    """All modules that a comparison needs: another user may not be allowed to read them."""
    with tempfile.TemporaryDirectory() as folder:
        given = ["--optimizers", "sgd(0.5)", "--track", "default", "--output", f"{folder}/out"]
        for kind in ("journal:", "sqlite:///"):
            assert main(["compare", *QUICK, *given, "--storage", f"{kind}{folder}/{kind[:6]}"]) == 0


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="permissions are those of POSIX")
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--output", "{}"], "output must be a writable folder, got '{}': Permission denied."),
        (["--output", "{}/out"], "output must be a writable folder, got '{}/out': Permission denied."),
        (["--storage", "journal:{}/s.log"], "storage journal:{}/s.log: it can't be written. Ask for the permission, or name"),
        (["--storage", "sqlite:///{}/s.db"], "storage sqlite:///{}/s.db: it can't be written. Ask for the permission, or name"),
    ],
)  # fmt: skip
def test_a_folder_without_permission_is_noticed_before_training(
    given: list[str], message: str, loaded: None, closed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = closed.parent / "out" / "new"
    arguments = [*QUICK, "--output", str(output), *(one.format(closed) for one in given)]
    assert main(["compare", *arguments]) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"steepest compare: {message.format(closed)}")
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert not output.exists()


def full(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_on_a_full_disk_the_page_that_was_there_stays_and_the_runs_are_kept(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["compare", *QUICK, "--optimizers", "sgd(0.5)", "--track", "default", "--output", "out"]
    assert main(command) == 0
    before = {path.name: path.read_bytes() for path in (here / "out").iterdir()}
    capsys.readouterr()
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        assert main(command) == 2
        assert main(["report", "out"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "steepest compare: out/results.json can't be written: No space left on device. Free some space, or pass another folder.",
        "what has finished is kept. Give the same command again to go on.",
        "steepest report: out/results.json can't be written: No space left on device. Free some space, or pass another folder.",
    ]
    assert {path.name: path.read_bytes() for path in (here / "out").iterdir() if path.name in before} == before
    assert main(command) == 0
    assert {path.name for path in (here / "out").iterdir()} == before.keys()


def test_a_refused_command_leaves_a_folder_that_was_there(here: Path) -> None:
    (here / "out").mkdir()
    assert main(["compare", "--output", "out/new/deep", "--optimizers", "adamm"]) == 2
    assert list((here / "out").iterdir()) == []


def start(*arguments: str, folder: Path, by: Sequence[str] = ()) -> subprocess.Popen[str]:
    command = [*by, sys.executable, "-m", "steepest.workbench.cli", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(SOURCES)}
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=folder,
        start_new_session=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[str, str]:
    try:
        return process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # a failure leaves nothing training behind
        raise


@pytest.mark.skipif(sys.platform != "linux", reason="sends the signal to a group of processes")
def test_ctrl_c_keeps_what_has_finished_and_the_same_command_goes_on(here: Path) -> None:
    (here / "their.py").write_text(SLOW)
    command = ["compare", "--workload", "their.py:slow", "--optimizers", "sgd(0.1),sgd(0.2),sgd(0.3)", "--seeds", "4"]
    command += ["--track", "default", "--jobs", "2", "--storage", "journal:study.log", "--output", "out"]
    with start(*command, folder=here) as process:
        until = time.monotonic() + 90
        while not (here / "runs.log").exists() or len((here / "runs.log").read_text().split()) < 6:
            assert time.monotonic() < until and process.poll() is None, ended(process)
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)
        out, err = ended(process)
    assert process.returncode == 130, err
    assert "Traceback" not in out + err
    stopped = Result.from_json((here / "out" / "results.json").read_text(encoding="utf-8"))
    assert stopped.unfinished
    assert ", ".join(stopped.unfinished) in out
    assert err == "interrupted; what has finished is kept. Give the same command again to go on.\n"
    assert (here / "out" / "report.html").is_file()
    assert main([*command, "--jobs", "1"]) == 0
    whole = Result.from_json((here / "out" / "results.json").read_text(encoding="utf-8"))
    assert whole.unfinished == ()
    assert [len(entry.runs) for entry in whole.entries] == [4, 4, 4]
    begun = len((here / "runs.log").read_text().split())
    assert 12 <= begun <= 14  # the two that were running at the interrupt were begun again


@pytest.mark.skipif(sys.platform != "linux", reason="sends the signal to a group of processes")
@pytest.mark.parametrize("output", [[], ["--output", "out"]])
def test_without_a_storage_what_had_finished_at_ctrl_c_is_kept_in_the_folder_until_the_end(
    output: list[str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "their.py").write_text(SLOW)
    command = ["compare", "--workload", "their.py:slow", "--optimizers", "sgd(0.1)", "--track", "default", *output]
    with start(*command, "--seeds", "6", "--jobs", "1", folder=here) as process:
        until = time.monotonic() + 90
        while not (here / "runs.log").exists() or len((here / "runs.log").read_text().split()) < 4:
            assert time.monotonic() < until and process.poll() is None, ended(process)
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, err = ended(process)
    assert process.returncode == 130, err
    (kept,) = [path.relative_to(here) for path in here.rglob("unfinished.log")]
    added = [] if output else ["--storage", f"journal:{kept}"]
    again = " ".join(["again", *(["with"] if added else []), *added])
    assert err == f"interrupted; what has finished is kept. Give the same command {again} to go on.\n"
    assert main([*command, "--seeds", "6", "--jobs", "1", *added]) == 0
    assert len((here / "runs.log").read_text().split()) <= 7  # the one that was running was begun again
    assert kept.exists() == bool(added)


@pytest.mark.parametrize("output", [[], ["--output", "out"]])
def test_an_error_without_a_storage_keeps_what_had_finished_and_says_how_to_go_on(
    output: list[str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    opened = "    open('data.txt' if seed == 2 else 'their.py').close()\n"
    (here / "their.py").write_text(SLOW.replace("    x = np", f"{opened}    x = np"))
    command = ["compare", "--workload", "their.py:slow", "--optimizers", "sgd(0.1)", "--track", "default", *output]
    command += ["--seeds", "4", "--jobs", "1"]
    assert main(command) == 2
    mistake, again, *rest = capsys.readouterr().err.splitlines()
    assert mistake.startswith("steepest compare: workload their.py:slow: their.py:") and "FileNotFoundError" in mistake
    (kept,) = [path.relative_to(here) for path in here.rglob("unfinished.log")]
    added = [] if output else ["--storage", f"journal:{kept}"]
    with_it = f" with {' '.join(added)}" if added else ""
    assert (again, rest) == (f"what has finished is kept. Give the same command again{with_it} to go on.", [])
    assert (here / "runs.log").read_text().split() == ["0", "1", "2"]
    (here / "data.txt").touch()
    assert main([*command, *added]) == 0
    assert (here / "runs.log").read_text().split() == ["0", "1", "2", "2", "3"]
    assert kept.exists() == bool(added)


@pytest.mark.skipif(sys.platform != "linux", reason="sends the signal to a group of processes")
def test_ctrl_c_while_processes_start_leaves_no_traceback_and_no_process(here: Path) -> None:
    command = [
        "compare",
        *QUICK[:-2],
        "--steps",
        "100000",
        "--jobs",
        "2",
        "--optimizers",
        "sgd(0.1)",
        "--output",
        "out",
    ]
    with start(*command, folder=here) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        until = time.monotonic() + 90
        while len(children.read_text().split()) < 2 and time.monotonic() < until and process.poll() is None:
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)
        out, err = ended(process)
    assert process.returncode == 130, err
    assert "Traceback" not in out + err
    assert err == "interrupted; what has finished is kept. Give the same command again to go on.\n"
    assert out.startswith("Nothing to recommend for quadratics. No optimizer has been judged yet.\n")  # no empty table
    assert (here / "out" / "results.json").is_file()


@pytest.mark.skipif(sys.platform != "linux", reason="sends the signal to a group of processes")
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_command_that_was_started_with_interrupts_ignored_goes_on_to_its_end(jobs: str, here: Path) -> None:
    (here / "their.py").write_text(SLOW)
    command = ["compare", "--workload", "their.py:slow", "--optimizers", "sgd(0.1)", "--track", "default"]
    command += ["--seeds", "6", "--jobs", jobs, "--output", "out"]
    with start(*command, folder=here, by=["sh", "-c", 'trap "" INT; exec "$@"', "sh"]) as process:
        until = time.monotonic() + 90
        while not (here / "runs.log").exists() or len((here / "runs.log").read_text().split()) < 2:
            assert time.monotonic() < until and process.poll() is None, ended(process)
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)
        _, err = ended(process)
    assert (process.returncode, err) == (0, "")
    result = Result.from_json((here / "out" / "results.json").read_text(encoding="utf-8"))
    assert result.unfinished == ()
    assert [[run.seed for run in entry.runs] for entry in result.entries] == [[0, 1, 2, 3, 4, 5]]
    assert sorted((here / "runs.log").read_text().split()) == ["0", "1", "2", "3", "4", "5"]


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


def test_list_search_shows_every_declared_range(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--search"]) == 0
    said = capsys.readouterr().out
    for name in steepest.OPTIMIZERS:
        assert re.search(rf"^{name}\n  lr ", said, re.MULTILINE), name
    assert re.search(r"^  beta2 +1 - x, x 0.0001 to 0.3, logarithmic$", said, re.MULTILINE)
    assert re.search(r"^  schedule +one of constant, linear, cosine, wsd$", said, re.MULTILINE)


def test_list_workloads_names_all_with_the_sources_of_their_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--workloads"]) == 0
    said = capsys.readouterr().out
    for name in BUILT_IN:
        assert re.search(rf"^{name}: \d+ steps, judged by \w+", said, re.MULTILINE), name
    assert "CC BY 4.0" in said


def test_list_workloads_without_pytorch_shows_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        sys.executable,
        "-c",
        "import sys; sys.modules['torch'] = None\nfrom steepest.workbench.cli import main\nmain(['list', '--workloads'])",
    ]
    said = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(SOURCES)}
    ).stdout
    assert "digits-mlp: 400 steps" in said
    assert "workload char-gpt: it needs PyTorch. Install steepest[torch]" in said


def test_plan_prints_the_plan_and_the_code(capsys: pytest.CaptureFixture[str]) -> None:
    chain = "clip_by_global_norm(1.0) | adamw(lr=1e-3) | ema(0.999)"
    assert main(["plan", chain]) == 0
    said = capsys.readouterr().out
    assert said.startswith(
        "chain: clip_by_global_norm > scale_by_adam > add_decayed_weights > descend > ema\n2 passes, 40 bytes "
    )
    assert main(["plan", chain, "--source"]) == 0
    longer = capsys.readouterr().out
    assert longer.startswith(said) and "def pass_2(" in longer


def test_completion_prints_a_script_that_bash_accepts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    assert "lr-find" in script and "--storage" in script
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_version_and_help_are_quick_and_load_nothing_heavy(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"steepest {steepest.__version__}\n"
    for command in ("compare", "tune", "lr-find", "reproduce", "report", "list", "plan", "completion"):
        assert main([command, "--help"]) == 0
        usage, said, *_ = capsys.readouterr().out.split("\n\n")
        assert usage.startswith(f"usage: steepest {command}")
        assert said[0].isupper() and said.endswith(".")  # what it is for
    heavy = "{'optuna', 'bokeh', 'torch', 'numba', 'sklearn', 'scipy', 'rich', 'sqlalchemy'}"
    code = f"import sys; from steepest.workbench.cli import main; main(['--help']); print(*sys.modules.keys() & {heavy}, 'none')"
    begun = time.perf_counter()
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    print(f"--help: {time.perf_counter() - begun:.2f} s")
    assert run.stdout.splitlines()[-1] == "none"
