"""The documentation: its code runs, its links lead somewhere, its generated pages are whole."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import steepest
from tests.docs.run_page import DOCS, blocks

ROOT = DOCS.parent
PAGES = sorted(path for path in DOCS.rglob("*.md") if path.relative_to(DOCS).parts[0] not in ("rules", "_build"))
WITH_CODE = [path for path in PAGES if blocks(path.read_text(encoding="utf-8"))]


def name_of(path: Path) -> str:
    return path.relative_to(DOCS).as_posix()


@pytest.fixture(scope="module")
def rule_pages() -> Iterator[ModuleType]:
    """The extension that writes docs/rules, importable as Sphinx finds it."""
    before = list(sys.path)
    sys.path[:0] = [str(DOCS / "_extensions"), str(DOCS)]
    try:
        yield importlib.import_module("rule_pages")
    finally:
        sys.path[:] = before


@pytest.fixture(scope="module")
def generated(rule_pages: ModuleType) -> dict[str, str]:
    return rule_pages.pages()


@pytest.mark.parametrize("page", WITH_CODE, ids=name_of)
def test_a_pages_code_runs_without_a_warning(page: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", str(ROOT / "tests" / "docs" / "run_page.py"), str(page)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_pages_links_and_toctrees_lead_somewhere(page: Path, rule_pages: ModuleType) -> None:
    text = page.read_text(encoding="utf-8")
    outside = re.sub(r"^([ ]*)(`{3,})(?!\{toctree\}).*?^\1\2[ ]*$", "", text, flags=re.MULTILINE | re.DOTALL)
    targets = re.findall(r"\]\(([^()\s]+)\)", outside)
    for body in re.findall(r"^```\{toctree\}\n(.*?)^```", outside, flags=re.MULTILINE | re.DOTALL):
        entries = [line.strip() for line in body.splitlines() if line.strip() and not line.startswith(":")]
        targets += [f"{entry}.md" for entry in entries if entry != "self" and "*" not in entry]
    targets += re.findall(r"^```\{literalinclude\} (\S+)", text, flags=re.MULTILINE)
    missing = []
    for target in targets:
        path = target.partition("#")[0]
        if path and not re.match(r"[a-z]+:", path) and not _exists((page.parent / path).resolve(), rule_pages):
            missing.append(target)
    assert missing == []


def _exists(path: Path, rule_pages: ModuleType) -> bool:
    """Whether a file is there, or will be when the rules' pages are written."""
    if path.parent == DOCS / "rules":
        return path.name in rule_pages.names()
    return path.exists()


def test_every_rule_has_its_page(generated: dict[str, str], rule_pages: ModuleType) -> None:
    assert {name for name in generated if name.endswith(".md")} == rule_pages.names()
    for name in [*steepest.OPTIMIZERS, *steepest.CLIPS, *steepest.WRAPPERS]:
        page = generated[f"{name}.md"]
        for heading in ("Equation", "Call", "Hyperparameters", "State and cost", "Tested against", "Source"):
            assert f"\n## {heading}\n" in page, (name, heading)
        assert f"({name}.md)" in generated["index.md"]


def test_every_hyperparameter_of_a_rule_is_explained(generated: dict[str, str]) -> None:
    for name in [*steepest.OPTIMIZERS, *steepest.CLIPS, *steepest.WRAPPERS]:
        section = generated[f"{name}.md"].partition("## Hyperparameters")[2].partition("\n## ")[0]
        rows = [line.split(" | ") for line in section.splitlines() if line.startswith("| `")]
        assert [row[0] for row in rows if not row[-1].strip(" |")] == [], name


SOURCES = re.compile(r"Kingma|Chen|Pascanu|paper|Program 1|authors|PyTorch|timm|Optax|lecture")


@pytest.mark.parametrize("name", [*steepest.OPTIMIZERS, *steepest.CLIPS, *steepest.WRAPPERS])
def test_a_default_is_the_one_that_its_text_quotes_and_has_a_source(name: str, rule_pages: ModuleType) -> None:
    page = importlib.import_module("rule_page")
    recipe = page.Recipe(name, steepest.RECIPES[name])
    texts = page.meanings(recipe.function)
    for argument, parameter in recipe.parameters.items():
        text, default = texts[argument], parameter.default
        assert not re.search(rf"\buse `{name}`", text), argument
        numbers = default if isinstance(default, tuple) else [default]
        if not all(isinstance(n, int | float) and not isinstance(n, bool) for n in numbers):
            continue
        quoted = [float(n) for n in re.findall(r"(?<![\w.])\d+(?:\.\d+)?(?:e-?\d+)?(?![\w^*])", text)]
        if any(numbers) and not (isinstance(default, int) and default == 1):  # 1: at every step
            assert set(numbers) <= set(quoted), (argument, text)
            assert SOURCES.search(text), (argument, text)


def test_a_recipe_does_not_inherit_what_is_not_true_of_it(generated: dict[str, str]) -> None:
    def row(page: str, argument: str) -> str:
        return next(line for line in generated[f"{page}.md"].splitlines() if line.startswith(f"| `{argument}` |"))

    assert "behind the moments, which do not see it. 1e-2" in row("adamw", "weight_decay")
    assert "inside the maximum" in row("adamax", "eps")
    assert "before its correction" in row("radam", "eps")


def test_a_new_rule_has_a_page_without_a_word_written(rule_pages: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    @steepest.recipe(kind="optimizer")
    def plain(lr: steepest.NonNegative = 0.1) -> steepest.Chain:
        """Plain descent.

        Parameters
        ----------
        lr : learning rate, >= 0; a tenth.

        Source: none.
        """
        return steepest.descend(lr)

    plain.__module__ = "steepest.rules.descent"
    page = importlib.import_module("rule_page")
    monkeypatch.setitem(steepest.OPTIMIZERS, "plain", plain)
    monkeypatch.setattr(steepest, "plain", plain, raising=False)
    recipe = page.Recipe("plain", plain)
    monkeypatch.setattr(page, "source_section", lambda recipe: iter(()))  # its file is no part of the library
    assert "plain.md" in rule_pages.names()
    text = page.page(recipe)
    assert r"\theta_t &= \theta_{t-1} - \eta \, g_t" in text
    assert "| `lr` | >= 0 or a schedule | `0.1` | learning rate, >= 0; a tenth. |" in text


def test_pages_are_written_only_when_they_change(
    generated: dict[str, str], rule_pages: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rule_pages, "pages", lambda: generated)
    assert set(rule_pages.write(tmp_path)) == set(generated)
    assert rule_pages.write(tmp_path) == []
    (tmp_path / ".inputs").unlink()
    (tmp_path / "gone.md").write_text("of a rule that is no more")
    written = (tmp_path / "adam.md").stat().st_mtime_ns
    assert rule_pages.write(tmp_path) == []
    assert (tmp_path / "adam.md").stat().st_mtime_ns == written
    assert not (tmp_path / "gone.md").exists()


def test_the_figures_that_pages_show_are_of_rows_that_there_are(rule_pages: ModuleType) -> None:
    page = importlib.import_module("rule_page")
    assert set(page.agreement()) <= {row["name"] for row in page.oracle_rows()}
    assert all(value <= 1e-12 for value in (row["float64"] for row in page.agreement().values()))


def test_the_table_of_steps_on_numpy_arrays_has_the_figures_of_the_rules_pages() -> None:
    text = (DOCS / "performance.md").read_text(encoding="utf-8")
    rows = json.loads((DOCS / "figures.json").read_text(encoding="utf-8"))["rows"]
    for row in rows:
        ratios = f"{row['best_ratio']:.2f} ({row['median_ratio']:.2f})"
        assert f"| {row['name']} | {row['bytes']:g} | {row['best_ms']:.1f} | {ratios} |" in text


def test_the_oracles_read_as_data_are_those_that_run(rule_pages: ModuleType) -> None:
    from tests.oracles import ROWS

    page = importlib.import_module("rule_page")
    assert [row["name"] for row in page.oracle_rows()] == [row.name for row in ROWS]


@pytest.mark.parametrize("module", ["steepest", "numpy", "torch", "schedules", "monitor", "workbench"])
def test_every_public_name_is_in_the_reference_once(module: str) -> None:
    place = "steepest" if module == "steepest" else f"steepest.{module}"
    public = importlib.import_module(place)
    text = "".join(path.read_text(encoding="utf-8") for path in (DOCS / "reference").glob("*.md"))
    named = re.findall(rf"^\.\. auto(?:function|class):: {re.escape(place)}\.(\w+)$", text, flags=re.MULTILINE)
    ranges_and_starts = re.findall(r"`(?:steepest\.)?(\w+)`", text) if module == "steepest" else []
    elsewhere = importlib.import_module("steepest.monitor").__all__ if module == "steepest" else ()
    missing = [
        name
        for name in public.__all__
        if name not in (*named, *ranges_and_starts, *elsewhere) and not inspect.ismodule(getattr(public, name))
    ]
    tables = ("CLIPS", "OPTIMIZERS", "PARTS", "RECIPES", "WRAPPERS")
    assert [name for name in missing if name not in tables] == []
    assert len(named) == len(set(named))


SPHINX_WITHOUT = """
import sys


class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


absent, arguments = sys.argv[1].split(), sys.argv[2:]
sys.meta_path.insert(0, Absent())
from sphinx.cmd.build import main

sys.exit(main(arguments))
"""


def test_the_reference_needs_no_package_that_only_tests_need(tmp_path: Path) -> None:
    absent = "accelerate hypothesis lightning psycopg pytest safetensors skorch sklearn transformers"
    source, built = tmp_path / "source", tmp_path / "built"
    source.mkdir()
    shutil.copy(DOCS / "reference" / "monitor.md", source / "index.md")
    listed = re.findall(r"^    \"([\w.]+)\",$", (DOCS / "conf.py").read_text(encoding="utf-8"), flags=re.MULTILINE)
    extensions = ",".join(one for one in listed if one != "rule_pages")  # it writes into docs
    options = ["-D", f"extensions={extensions}", "-D", "suppress_warnings=myst.xref_missing", "-b", "text", "-W", "-q"]
    command = [sys.executable, "-c", SPHINX_WITHOUT, absent, *options, "-c", str(DOCS), str(source), str(built)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    text = (built / "index.txt").read_text(encoding="utf-8")
    for name in ("LightningCallback", "SkorchCallback", "TransformersCallback"):
        callback = getattr(steepest.monitor, name)
        shown = [p.replace(annotation=p.empty) for p in inspect.signature(callback).parameters.values()]
        assert f"class steepest.monitor.{name}{inspect.Signature(shown)}\n\n   {callback.__doc__.split()[0]} " in text


@pytest.mark.long
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet", str(DOCS), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-8000:]
    assert (tmp_path / "search.html").exists()
    assert (tmp_path / "searchindex.js").stat().st_size > 10_000
    for page in tmp_path.rglob("*.html"):
        fetched = re.findall(r'(?:src|href)="(https?://[^"]+)"', page.read_text(encoding="utf-8"))
        assert [one for one in fetched if re.search(r"\.(?:js|css|woff2?)\b", one)] == [], page
