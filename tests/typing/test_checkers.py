"""Two type checkers over the public API: right calls and the README pass, every wrong call is reported where it stands."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

from tests.needed import require_module

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
FILES = [HERE / "right.py", HERE / "wrong.py"]
# Following the imports of torch and of the workbench's libraries takes mypy more than a minute, and basedpyright reads them.
MYPY = """
[mypy]
python_version = 3.11
[mypy-torch.*,bokeh.*,jinja2.*,lightning.*,numba.*,optuna.*,rich.*,skorch.*,sqlalchemy.*,tensorboard.*,transformers.*]
follow_imports = skip
ignore_missing_imports = True
"""


def checked_files(folder: Path) -> list[str]:
    """The files of this folder, and each Python block of the README as a file of its own."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(blocks) == 2
    for number, block in enumerate(blocks):
        (folder / f"readme_{number}.py").write_text(block, encoding="utf-8")
    return [str(path) for path in (*FILES, *sorted(folder.glob("readme_*.py")))]


def compare(reported: dict[str, str], *marks: str) -> None:
    """Compare the reports, by file and line, with the lines that end in one of the marks."""
    lines = [(f"{p.name}:{n}", line) for p in FILES for n, line in enumerate(p.read_text("utf-8").splitlines(), 1)]
    wrong = {place for place, line in lines if line.endswith(marks)}
    assert {place: message for place, message in reported.items() if place not in wrong} == {}
    assert sorted(wrong - {*reported}) == []


def test_mypy_accepts_right_calls_and_reports_each_wrong_one(tmp_path: Path) -> None:
    require_module("mypy")
    (tmp_path / "mypy.ini").write_text(MYPY)
    options = [f"--config-file={tmp_path / 'mypy.ini'}", f"--cache-dir={tmp_path}", "--output=json"]
    run = subprocess.run(
        [sys.executable, "-m", "mypy", *options, *checked_files(tmp_path)],
        capture_output=True, text=True, check=False, env={**os.environ, "MYPYPATH": str(ROOT / "src")},
    )  # fmt: skip
    assert run.stderr == ""
    found = [json.loads(line) for line in run.stdout.splitlines()]
    errors = [one for one in found if one["severity"] == "error"]
    compare({f"{Path(one['file']).name}:{one['line']}": one["message"] for one in errors}, "  # wrong")


def test_basedpyright_accepts_right_calls_and_reports_each_wrong_one(tmp_path: Path) -> None:
    require_module("basedpyright")
    config = {
        "include": checked_files(tmp_path),
        "extraPaths": [str(ROOT / "src")],
        "pythonVersion": "3.11",
        "typeCheckingMode": "standard",  # as pyright does without a configuration
    }
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(config))
    command = [sys.executable, "-m", "basedpyright", "--outputjson", f"--pythonpath={sys.executable}"]
    run = subprocess.run([*command, f"--project={tmp_path}"], capture_output=True, text=True, check=False)
    errors = [one for one in json.loads(run.stdout)["generalDiagnostics"] if one["severity"] == "error"]
    lines = [one["range"]["start"]["line"] + 1 for one in errors]
    reported = {f"{Path(one['file']).name}:{n}": one["message"] for one, n in zip(errors, lines, strict=True)}
    compare(reported, "  # wrong", "  # wrong (pyright)")


def test_the_right_calls_run(tmp_path: Path) -> None:
    names = runpy.run_path(str(FILES[0]))
    names["train"](str(tmp_path))
    assert (tmp_path / "a.html").stat().st_size > 10_000
    assert names["adam"].steps == 1
