"""The conformance page says what comes out when the libraries run: of those that the tests install, each line again."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))
conformance: Any = importlib.import_module("conformance")
sys.path.remove(str(ROOT / "tools"))
TESTED = ("torch", "optax", "timm")


# timm compiles its optimizers by what this PyTorch deprecates.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("row", [r for r in conformance.ROWS if r.library in TESTED], ids=lambda row: row.key)
def test_each_call_agrees_or_differs_as_the_page_says(row: Any) -> None:
    found = conformance.measured(row)
    assert found.same <= conformance.SAME
    assert (found.plain > 1e-9) == bool(row.same), "a convention is named exactly where the plain call differs"
    assert bool(row.convention) == bool(row.same)


def test_the_page_is_the_one_that_the_rows_and_figures_make() -> None:
    known = conformance.known()
    assert [row.key for row in conformance.ROWS] == list(known)
    assert (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8") == conformance.page(known)
    assert all(one.same <= conformance.SAME for one in known.values())
