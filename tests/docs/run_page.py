"""Runs a page's code as it stands: every code cell and every plain Python block, in order, in one namespace.

    python -W error tests/docs/run_page.py docs/start.md

The working directory is a copy of the page's folder, so that nothing is left in the tree.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"
_BLOCK = re.compile(
    r"^(?P<indent>[ ]*)(?P<fence>`{3,})(?P<kind>\{code-cell\}[^\n]*|python)[ ]*\n(?P<text>.*?)^(?P=indent)(?P=fence)[ ]*$",
    flags=re.MULTILINE | re.DOTALL,
)
_OPTIONS = re.compile(r"\A(?:---\n(?P<yaml>.*?)^---\n|(?P<lines>(?::[^\n]*\n)+))", flags=re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A piece of a page's code, and the line of the page it starts at."""

    text: str
    line: int


def blocks(page: str) -> list[Block]:
    """What runs. Cells tagged ``magic`` are IPython's alone."""
    found = []
    for match in _BLOCK.finditer(page):
        text, line = match["text"], page.count("\n", 0, match.start("text"))
        indent = match["indent"]
        text = "".join(one.removeprefix(indent) for one in text.splitlines(keepends=True))
        options = _OPTIONS.match(text) if match["kind"] != "python" else None
        if options:
            line += options[0].count("\n")
            text = text[options.end() :]
        if options is None or "magic" not in options[0]:
            found.append(Block(text, line))
    return found


def _record(folder: str) -> None:
    """A run for the pages that read one and make none."""
    import numpy as np

    import steepest.numpy

    w = np.ones(3)
    optimizer = steepest.numpy.SGD([w], lr=0.1)
    with steepest.Monitor(optimizer, every=1, folder=folder) as monitor:
        for _ in range(5):
            optimizer.step([2 * w])
            monitor(float(w @ w))


def main(path: Path) -> None:
    os.environ["MPLBACKEND"] = "Agg"
    work = Path(tempfile.mkdtemp()) / path.parent.name
    folder = path.resolve().parent
    shutil.copytree(folder, work, ignore=lambda at, names: [n for n in names if (Path(at) / n).is_dir()])
    sys.path[:1] = [str(DOCS), str(work)]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(DOCS), os.environ.get("PYTHONPATH", "")]))
    os.chdir(work)
    space: dict[str, object] = {"__name__": "__main__"}
    page = path.read_text(encoding="utf-8")
    if 'read("runs/a")' in page and "Monitor(" not in page:
        _record("runs/a")
    for block in blocks(page):
        exec(compile("\n" * block.line + block.text, str(path), "exec"), space)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
