"""Every page that has code as a Jupyter notebook: `make notebooks`.

Folders are those of the site. What the pages' code imports is copied beside them, and links lead from notebook to notebook
where the page has become one.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import nbformat
from myst_nb.core.read import read_myst_markdown_notebook

DOCS = Path(__file__).parent
LINK = re.compile(r"\]\(([^)#:]+)\.md(#[^)]*)?\)")


def write(target: Path) -> list[Path]:
    """Write all notebooks below a folder; the paths written."""
    pages = [p for p in sorted(DOCS.rglob("*.md")) if p.read_text("utf8").startswith("---\nfile_format: mystnb")]
    written = []
    for page in pages:
        notebook = read_myst_markdown_notebook(page.read_text("utf8"), path=page)

        def linked(found: re.Match[str], folder: Path = page.parent) -> str:
            is_page = (folder / f"{found[1]}.md").resolve() in pages
            return f"]({found[1]}.ipynb{found[2] or ''})" if is_page else found[0]

        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = LINK.sub(linked, cell.source)
        path = target / page.relative_to(DOCS).with_suffix(".ipynb")
        path.parent.mkdir(parents=True, exist_ok=True)
        for module in {*DOCS.glob("*.py"), *page.parent.glob("*.py")} - {DOCS / "conf.py", DOCS / "notebooks.py"}:
            shutil.copy(module, path.parent)
        nbformat.write(notebook, path)
        written.append(path)
    return written


if __name__ == "__main__":
    for path in write(Path(sys.argv[1])):
        print(path)
