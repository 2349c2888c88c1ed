"""Sphinx's part of the rules' pages: docs/rules is written before the sources are read, from the code, and only where it changed.

A recipe or schedule that is added to the library has its page at the next build. The pages are not committed.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
DOCS = HERE.parent
ROOT = DOCS.parent
sys.path[:0] = [path for path in (str(HERE), str(DOCS)) if path not in sys.path]

GROUPS = (
    ("Optimizers", "OPTIMIZERS", "Each is a chain of rules; all take schedules for their numbers."),
    ("Clipping", "CLIPS", "In front of an optimizer in a chain; costs are those of a step together with plain `sgd`."),
    ("Wrappers", "WRAPPERS", "At the end of a chain; costs are those of a step together with plain `sgd`."),
)


def pages() -> dict[str, str]:
    """All files of docs/rules by name."""
    import rule_page
    import schedule_page

    import steepest

    files: dict[str, str] = {}
    parts = [
        "# Rules",
        "Everything on these pages is printed from the code; what could not be is marked with its source.",
    ]
    for heading, table, said in GROUPS:
        rows, listed = [], []
        for name, make in getattr(steepest, table).items():
            recipe = rule_page.Recipe(name, make)
            files[f"{name}.md"] = rule_page.page(recipe)
            found = rule_page.costs(recipe)
            listed.append(name)
            cells = [f"[{rule_page.title(recipe)}]({name}.md)", str(found["passes"]), str(found["bytes"])]
            rows.append([*cells, str(found["state_bytes"]), rule_page.one_line(recipe)])
        header = ["rule", "passes", "bytes moved per parameter", "bytes of state", "in one line"]
        parts += [f"## {heading}", said, rule_page.table(header, rows), _toctree(listed)]
    families = schedule_page.families()
    files.update(schedule_page.pages())
    rows = [
        [
            f"[{module.__name__.rpartition('.')[2]}]({schedule_page.file_of(module)}.md)",
            ", ".join(f"`{name}`" for name in names),
            schedule_page.one_line(module),
        ]
        for module, names in families.items()
    ]
    parts += ["## Schedules", "Pure functions of the step, for every number of a rule."]
    parts += [rule_page.table(["family", "schedules", "in one line"], rows)]
    parts += [_toctree([schedule_page.file_of(module) for module in families])]
    files["index.md"] = "\n\n".join(parts) + "\n"
    return files


def names() -> set[str]:
    """The pages that there will be."""
    import schedule_page

    import steepest

    rules = [name for _, table, _ in GROUPS for name in getattr(steepest, table)]
    return {"index.md", *(f"{n}.md" for n in (*rules, *map(schedule_page.file_of, schedule_page.families())))}


def _toctree(names: list[str]) -> str:
    return "```{toctree}\n:hidden:\n\n" + "\n".join(names) + "\n```"


def write(folder: Path) -> list[str]:
    """Write what is new or another, delete what has gone; names what was written. Nothing is made if no input changed."""
    folder.mkdir(parents=True, exist_ok=True)
    stamp, now = folder / ".inputs", _inputs()
    if stamp.exists() and stamp.read_text(encoding="utf-8") == now:
        return []
    files = pages()
    changed = []
    for name, text in files.items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            changed.append(name)
    for path in folder.iterdir():
        if path.name not in files and path != stamp:
            path.unlink()
    stamp.write_text(now, encoding="utf-8")
    return changed


def _inputs() -> str:
    """What the pages are made of, as one hash: the library, the extension's own files, the tests' rows, the figures."""
    package = ROOT / "src" / "steepest"
    rooms = [package / name for name in ("language", "rules", "schedules", "plan", "show", "step", "numpy", "torch")]
    paths = [path for room in rooms for path in room.rglob("*.py")]
    paths += [package / "checks.py", package / "workbench" / "spaces.py", *HERE.glob("*.py"), *HERE.glob("*.toml")]
    paths += [DOCS / "shown.py", DOCS / "figures.json", DOCS / "agreement.json"]
    paths += [ROOT / "tests" / "oracles.py", ROOT / "tests" / "rules" / "test_rules.py"]
    found = hashlib.sha256()
    for path in sorted(paths):
        found.update(str(path.relative_to(ROOT)).encode())
        found.update(path.read_bytes() if path.exists() else b"")
    return found.hexdigest()


def setup(app: Any) -> dict[str, Any]:
    app.connect("builder-inited", lambda app: write(Path(app.srcdir) / "rules"))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
