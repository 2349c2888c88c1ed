"""How the site is built: `make docs`. Nothing is fetched, nothing is written by hand that the code can say itself."""

import hashlib
import os
import sys
from pathlib import Path
from typing import Any
from zlib import crc32

import steepest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_extensions"))
# What the pages' code imports (shown.py), in the processes that run it.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH", "")]))
os.environ.setdefault("STEEPEST_NUM_THREADS", "2")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # small products: more threads only wait for each other

project = "steepest"
author = "the authors of steepest"
copyright = author
version = release = steepest.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "mathml",
    "pictures",
    "rule_pages",
    "reference",
    "trainers",
]
exclude_patterns = ["_extensions", "_static", "**.ipynb_checkpoints"]
suppress_warnings = ["mystnb.unknown_mime_type"]
nitpicky = False

myst_enable_extensions = ["amsmath", "attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "cache"
# The cache knows a page by its cells alone: what they import is part of its place, or stale pictures would stay.
_imported = sorted([*HERE.rglob("*.py"), *(HERE.parent / "src").rglob("*.py")])
_state = hashlib.sha256(b"".join(path.read_bytes() for path in _imported)).hexdigest()[:16]
nb_execution_cache_path = str(HERE.parent / "build" / "executed" / _state)
nb_execution_timeout = 120
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_merge_streams = True

autodoc_member_order = "bysource"
autodoc_typehints = "none"
default_role = "code"  # docstrings put names between single backticks

html_theme = "furo"
html_title = "steepest"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_show_sphinx = False
html_copy_source = True
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


def setup(app: Any) -> None:
    """Mix the pages: neighbours, such as the tutorial's with much code, are then read by different processes."""
    app.connect("env-before-read-docs", lambda app, env, names: names.sort(key=lambda name: crc32(name.encode())))
