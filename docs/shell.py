"""Commands in pages: run as in a shell, their output printed, so that what a page shows is what the command says."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys


def command(line: str) -> None:
    """Run ``steepest …`` and print what it prints; a failure is the page's failure."""
    program, *arguments = shlex.split(line)
    assert program == "steepest", f"only steepest is run here, not {program}"
    code = "import sys; from steepest.workbench.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "116", "NO_COLOR": "1"},
    )
    if done.returncode:
        raise RuntimeError(f"{line}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    print("\n".join(text.rstrip() for text in done.stdout.rstrip().splitlines()))
