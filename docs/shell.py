"""Commands in pages: run in a terminal of their own, their output printed, so that what a page shows is what the command says."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shlex
import struct
import subprocess
import sys
import tempfile
import termios
import textwrap

ROWS, COLUMNS = 40, 92
"""The terminal that a page shows: as wide as a page has room for on a screen of 1280 pixels."""
STYLES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


def command(line: str) -> None:
    """Run ``steepest …`` and print what it prints; a failure is the page's failure."""
    program, *arguments = shlex.split(line)
    assert program == "steepest", f"only steepest is run here, not {program}"
    code = "import sys; from steepest.workbench.cli import main; sys.exit(main())"
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    with tempfile.TemporaryFile("w+") as complaints:
        running = subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=terminal,
            stderr=complaints,
            env={**os.environ, "COLUMNS": str(COLUMNS), "NO_COLOR": "1", "TERM": "xterm"},
        )
        os.close(terminal)
        said = STYLES.sub("", _everything(controller).decode()).replace("\r\n", "\n")
        os.close(controller)
        if running.wait():
            complaints.seek(0)
            raise RuntimeError(f"{line}: exit status {running.returncode}\n{said}{complaints.read()}")
    print("\n".join(_folded(text.rstrip()) for text in said.rstrip().splitlines()))


def _everything(controller: int) -> bytes:
    """What is written to a terminal until nobody has it open any more: Linux says so by an error, others by an end."""
    parts = []
    while True:
        try:
            part = os.read(controller, 65536)
        except OSError:
            break
        if not part:
            break
        parts.append(part)
    return b"".join(parts)


def _folded(line: str) -> str:
    """A sentence that is longer than the terminal, as one can read it there: broken between words."""
    return line if len(line) <= COLUMNS else textwrap.fill(line, COLUMNS, break_on_hyphens=False)
