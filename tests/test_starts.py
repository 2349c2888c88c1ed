"""The tests themselves, started as people start them: from scripts and in the background."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
INTERRUPTED = (
    "tests/workbench/test_store.py::test_an_interrupt_in_this_process_gives_the_job_back",
    "tests/workbench/test_store.py::test_interrupted_and_resumed_is_bit_for_bit_uninterrupted",
)


@pytest.mark.skipif(sys.platform != "linux", reason="starts by a shell and sends signals")
@pytest.mark.parametrize("processes", ["0", "1"])
def test_tests_that_interrupt_pass_where_a_shell_ignores_interrupts(processes: str) -> None:
    ignoring = ["sh", "-c", 'trap "" INT HUP TERM; exec "$@"', "sh"]
    pytest_command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "--numprocesses",
        processes,
        *INTERRUPTED,
    ]
    done = subprocess.run(
        [*ignoring, *pytest_command], capture_output=True, text=True, check=False, cwd=ROOT, timeout=300
    )
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout.splitlines()[-1]
