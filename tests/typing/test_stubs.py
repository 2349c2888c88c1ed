"""The stubs for editors and type checkers are those that `tools/stubs.py` writes, and a new recipe takes one edit."""

from __future__ import annotations

import inspect
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import steepest
import steepest.numpy
import steepest.torch
from tests.needed import require_module

ROOT = Path(__file__).resolve().parents[2]
NAMED = [getattr(front.named, name) for front in (steepest.numpy, steepest.torch) for name in front.named.__all__]


def test_the_stubs_are_those_that_the_script_writes() -> None:
    require_module("ruff")
    stubs = runpy.run_path(str(ROOT / "tools" / "stubs.py"))["stubs"]()
    assert {path: path.read_text(encoding="utf-8") for path in stubs} == stubs


@pytest.mark.parametrize("named", NAMED, ids=lambda named: f"{named.__module__}.{named.__name__}")
def test_a_class_documents_each_of_its_arguments(named: Any) -> None:
    arguments = [p for p in inspect.signature(named).parameters if p != "self"]
    section = (inspect.getdoc(named) or "").partition("Parameters\n----------\n")[2].partition("\n\n")[0]
    assert re.findall(r"^(\w+) : ", section, re.MULTILINE) == arguments


RECIPE = '''

@recipe(kind="optimizer", class_name="Plain", switches="foreach")
def plain(lr: NonNegative = 0.1) -> Chain:
    """Plain descent.

    Parameters
    ----------
    lr : learning rate, >= 0.
    """
    return descend(lr)
'''
SHOWN = """
import inspect, steepest, steepest.numpy, steepest.torch
assert steepest.RECIPES["plain"] is steepest.OPTIMIZERS["plain"] is steepest.plain
assert "plain" in steepest.__all__ and "Plain" in steepest.numpy.__all__ and "Plain" in steepest.torch.__all__
print(*inspect.signature(steepest.numpy.Plain).parameters)
print(*inspect.signature(steepest.torch.Plain).parameters)
"""


def test_a_recipe_that_is_added_in_one_place_is_in_the_catalogue_and_a_class_of_both_front_ends(tmp_path: Path) -> None:
    shutil.copytree(
        ROOT / "src" / "steepest", tmp_path / "steepest", ignore=shutil.ignore_patterns("data", "__pycache__")
    )
    with (tmp_path / "steepest" / "rules" / "descent.py").open("a", encoding="utf-8") as file:
        file.write(RECIPE)

    def run(*command: str) -> str:
        command = (sys.executable, "-B", *command)
        done = subprocess.run(command, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(tmp_path)})
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert run("-c", SHOWN) == "params lr engine\nparams lr foreach engine\n"
    require_module("ruff")
    run(str(ROOT / "tools" / "stubs.py"))
    stubs = [(tmp_path / "steepest" / name).read_text(encoding="utf-8") for name in
             ("rules/__init__.pyi", "numpy/named.pyi", "torch/named.pyi")]  # fmt: skip
    assert "plain as plain" in stubs[0]
    assert all("class Plain(Optimizer):" in text for text in stubs[1:])
