"""Error messages have the form ``{where}: {argument} must be {rule}, got {value}. {How to fix it.}``, see CONTRIBUTING.md."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "steepest"
MODULES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
OTHER_FORMS = re.compile(r"allowed (is|are)\b|(?<!here )\b(is|are) no\b|\(link ")


def messages(source: str) -> Iterator[str]:
    """All string literals of the raise statements, of errors that functions return, and of the functions that warn."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Raise) or (isinstance(node, ast.Call) and _makes_a_message(node.func)):
            for part in ast.walk(node):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    yield part.value


def _makes_a_message(function: ast.expr) -> bool:
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name.endswith("Error") or name in ("warn", "add_note")


@pytest.mark.parametrize("module", MODULES)
def test_messages_name_the_rule_before_the_value(module: str) -> None:
    source = (PACKAGE / module).read_text(encoding="utf-8")
    assert [message for message in messages(source) if OTHER_FORMS.search(message)] == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('raise ValueError(f"{what}: lr is {lr}, allowed is [0, inf).")', True),
        ('raise TypeError("these are " f"no results of {name}.")', True),
        ('return TypeError("3 is no chain.")', True),
        ('warn(f"{rule} (link 2) changes the update.")', True),
        ('raise ValueError(f"{what}: there is no file {path}.")', False),
        ('raise ValueError(f"{what}: lr must be >= 0, got {lr}.")', False),
        ('"""A rule is no recipe; allowed is one."""', False),
    ],
)
def test_the_search_finds_messages_of_other_forms(source: str, found: bool) -> None:
    source = f"def f():\n    {source}"
    assert any(map(OTHER_FORMS.search, messages(source))) is found
