"""`make notebooks`: every page with cells becomes a notebook that has what it needs beside it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import nbformat
import pytest

from tests.docs.run_page import DOCS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("notebooks")
    spec = importlib.util.spec_from_file_location("notebooks", DOCS / "notebooks.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.write(target)
    return target


def test_every_page_with_cells_is_a_valid_notebook(folder: Path) -> None:
    pages = {p.relative_to(DOCS) for p in DOCS.rglob("*.md") if "\n```{code-cell}" in p.read_text("utf8")}
    assert {p.relative_to(folder).with_suffix(".md") for p in folder.rglob("*.ipynb")} == pages
    for path in folder.rglob("*.ipynb"):
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        for cell in notebook.cells:
            if cell.cell_type == "code" and "magic" not in cell.metadata.get("tags", []):
                compile(cell.source, str(path), "exec")


def test_what_the_pages_import_lies_beside_them_and_links_lead_to_notebooks(folder: Path) -> None:
    for path in folder.rglob("*.ipynb"):
        assert (path.parent / "shown.py").exists()
    assert (folder / "tutorial" / "networks.py").exists()
    assert not list(folder.rglob("conf.py"))
    assert "](05-schedules.ipynb)" in (folder / "tutorial" / "04-adam.ipynb").read_text("utf8")
