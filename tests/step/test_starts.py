"""The tests themselves, started in the background or with odd variables, and where something that they need is missing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.needed import require_module, require_program

ROOT = Path(__file__).resolve().parents[2]
INTERRUPTED = (
    "tests/workbench/test_store.py::test_an_interrupt_in_this_process_gives_the_job_back",
    "tests/workbench/test_store.py::test_interrupted_and_resumed_is_bit_for_bit_uninterrupted",
)
PRINTED = (
    "tests/monitor/test_watch.py::test_a_finished_run_is_printed_with_all_its_layers_and_ends",
    "tests/workbench/test_cli.py::test_a_mistake_ends_with_one_line_and_status_2_and_leaves_nothing_behind",
)


def last_line(tests: Sequence[str], *options: str, by: Sequence[str] = (), **environment: str) -> str:
    """The closing line of pytest, started by a command or with variables of its own."""
    command = [*by, sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--color=no", *options, *tests]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=300, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stdout
    return done.stdout.splitlines()[-1]


@pytest.mark.skipif(sys.platform != "linux", reason="starts by a shell and sends signals")
@pytest.mark.parametrize("processes", ["0", "1"])
def test_tests_that_interrupt_pass_where_a_shell_ignores_interrupts(processes: str) -> None:
    ignoring = ["sh", "-c", 'trap "" INT HUP TERM; exec "$@"', "sh"]
    assert "2 passed" in last_line(INTERRUPTED, "--numprocesses", processes, by=ignoring)


def test_tests_that_print_pass_where_variables_change_what_is_printed() -> None:
    assert re.match(r"\d\d passed", last_line(PRINTED, "-q", COLUMNS="40", FORCE_COLOR="1", LC_ALL="C", TERM="dumb"))


@pytest.mark.parametrize(
    ("require", "what", "install"),
    [
        (require_program, "no-browser", "apt-get install no-browser"),
        (require_module, "no_module", r"pip install -e '\.\[dev\]'"),
    ],
)
@pytest.mark.parametrize("ci", [False, True])
def test_a_test_whose_need_is_missing_skips_with_one_line_and_fails_in_ci(
    require: Callable[[str], object], what: str, install: str, ci: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true" if ci else "")
    outcome = pytest.fail.Exception if ci else pytest.skip.Exception
    with pytest.raises(outcome, match=f"^{what} is missing. Install it: {install}.$"):
        require(what)


def test_what_is_there_is_found() -> None:
    assert require_module("json") is json
    assert Path(require_program("sh")).is_file()
