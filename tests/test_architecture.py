"""Who may import whom: docs/architecture.md as a test, over the syntax of every module in src."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "steepest"
MODULES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))

CORE = {"checks", "files", "interrupts", "language", "rules", "schedules", "plan", "show", "engines", "step"}
MAY_IMPORT = {
    "checks": set(),
    "files": set(),
    "interrupts": set(),
    "language": {"checks"},
    "rules": {"checks", "language"},
    "schedules": {"checks"},
    "plan": {"checks", "language"},
    "show": {"checks", "language", "plan"},
    "engines": {"checks", "files", "language", "plan"},
    "step": {"checks", "files", "language", "rules", "schedules", "plan", "engines"},
    "numpy": CORE,
    "torch": CORE | {"numpy"},
    "__init__": CORE | {"numpy", "torch", "monitor", "workbench"},
    "pages": set(),
    "monitor": CORE | {"numpy", "torch", "pages", "__init__"},
    "workbench": CORE | {"numpy", "torch", "pages", "monitor", "__init__"},
}
UPWARD = {("plan/plan.py", "steepest.show.explain.explain")}
"""Imports of a room below, each inside a function: printing a plan is the only one."""
HOMES = {
    "numba": ["engines/numba/*"],
    "llvmlite": ["engines/numba/*"],
    "torch": ["torch/*", "monitor/*", "workbench/*"],
    "scipy": ["workbench/*"],
    "bokeh": ["pages/*", "monitor/report/*", "workbench/*"],
    "jinja2": ["pages/*", "monitor/report/*", "workbench/*"],
    "rich": ["monitor/terminal/*", "workbench/*"],
    "tensorboard": ["monitor/tensorboard.py"],
    "lightning": ["monitor/callbacks/lightning.py"],
    "transformers": ["monitor/callbacks/transformers.py"],
    "skorch": ["monitor/callbacks/skorch.py"],
    "optuna": ["workbench/*"],
    "sqlalchemy": ["workbench/*"],
}


def room(module: str) -> str:
    return module.split("/")[0].removesuffix(".py")


def imported(module: str) -> Iterator[tuple[int, str]]:
    """Line and absolute name of every import, those for the type checker and those inside functions too."""
    package = ["steepest", *Path(module).parts[:-1]]
    for node in ast.walk(ast.parse((PACKAGE / module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*above, *filter(None, [node.module])])
            yield from ((node.lineno, f"{source}.{alias.name}") for alias in node.names)


def imported_room(name: str) -> str:
    """`steepest.plan.planner` is of the room plan; `steepest.adamw` is a name of the package itself."""
    part = [*name.split("."), "__init__"][1]
    return part if any(room(module) == part for module in MODULES) else "__init__"


@pytest.mark.parametrize("module", MODULES)
def test_a_room_imports_only_the_rooms_above_it(module: str) -> None:
    assert room(module) in MAY_IMPORT, f"{module}: a new room; give it a place in MAY_IMPORT and docs/architecture.md"
    allowed = MAY_IMPORT[room(module)] | {room(module)}
    ours = [(line, name) for line, name in imported(module) if name.split(".")[0] == "steepest"]
    wrong = [(line, name) for line, name in ours if imported_room(name) not in allowed and (module, name) not in UPWARD]
    assert [f"{module}:{line} imports {name}" for line, name in wrong] == []


@pytest.mark.parametrize("module", MODULES)
def test_a_framework_is_imported_only_in_the_module_named_for_it(module: str) -> None:
    strangers = [
        f"{module}:{line} imports {name}"
        for line, name in imported(module)
        if (homes := HOMES.get(name.split(".")[0])) and not any(fnmatch(module, home) for home in homes)
    ]
    assert strangers == []


def test_the_workbench_lives_on_public_names() -> None:
    private = [
        f"{module}:{line} imports {name}"
        for module in MODULES
        for line, name in imported(module)
        if room(module) == "workbench" and re.match(r"steepest\.(?!workbench\.).*\b_(?!_)", name)
    ]
    assert private == []


def test_import_steepest_loads_no_framework_and_warns_of_nothing() -> None:
    code = f"import sys, steepest; print(*sorted(sys.modules.keys() & {sorted(HOMES)}))"
    command = [sys.executable, "-W", "error", "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=PACKAGE.parent)
    assert (run.stdout.strip(), run.stderr) == ("", "")


def test_no_committed_text_names_a_folder_of_somebodys_machine() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    absolute = re.compile("(?<![\\w.~*})-])/(" + "|".join(["home", "root", "work", "Users"]) + ")/")
    found = []
    for name in filter(None, listed.split("\0")):
        try:
            lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
        except (UnicodeDecodeError, FileNotFoundError):  # not text, or deleted and not yet committed
            continue
        found += [f"{name}:{number}: {line.strip()}" for number, line in enumerate(lines, 1) if absolute.search(line)]
    assert found == []


PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_the_architecture_page_has_every_room_below_those_that_it_imports() -> None:
    table = PAGE.partition("## Rooms")[2].partition("\n\n`tests")[0]
    rooms = re.findall(r"^\| `(\w+)(?:/|\.py)` \|", table, re.MULTILINE)
    assert set(rooms) == {room(module) for module in MODULES} - {"__init__"}
    for position, name in enumerate(rooms):
        above = {*rooms[:position], "__init__"}
        assert above >= MAY_IMPORT[name], f"{name} stands above {MAY_IMPORT[name] - above}"


def test_the_architecture_page_names_every_module_and_nothing_else() -> None:
    named = {one for one in re.findall(r"`([\w/*]+(?:\.py|/))`", PAGE) if not one.startswith("tests/")}
    paths = [*MODULES, *{f"{parent}/" for module in MODULES for parent in Path(module).parents}]

    def names(pattern: str, path: str) -> bool:
        return fnmatch(path, pattern) or fnmatch(path, f"*/{pattern}")

    assert [one for one in named if not any(names(one, path) for path in paths)] == []
    families = (
        "rules/",
        "schedules/",
        "workloads/",
        "reproduce/",
        "callbacks/",
        "probes/",
        "doctor/",
    )  # a file per member
    alone = [one for one in MODULES if not one.endswith("__init__.py") and not any(f in one for f in families)]
    assert [one for one in alone if not any(names(pattern, one) for pattern in named)] == []
