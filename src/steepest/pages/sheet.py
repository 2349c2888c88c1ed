"""One HTML file that needs no network: Bokeh's script inside, one style sheet, templates that escape what they are given."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Any

from bokeh.embed import components
from bokeh.resources import Resources
from jinja2 import ChoiceLoader, Environment, PackageLoader
from markupsafe import Markup

from steepest.pages.figures import Picture

__all__ = ["LIMIT", "POLICY", "embedded", "environment", "library"]

LIMIT = 1_990_000
"""Bytes of a page; Bokeh's own script takes 1,270,000 of them."""
POLICY = Markup(
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'unsafe-inline'; img-src data: blob:; font-src data:; base-uri 'none'; form-action 'none'\">"
)
"""Forbids a browser to load anything for a page, whatever a run's names contain. Bokeh makes functions from texts (eval)."""
_ADDRESS = re.compile(r"""(["'`])https?://(?!www\.w3\.org/)[\w.-]+/[^"'`\s$]*""")
"""An address in Bokeh's script: of MathJax, which it loads for a text with ``$$``, of maps and icons. Names of XML are none."""


@functools.cache
def environment(package: str) -> Environment:
    """Templates of a package; they extend ``sheet.html`` and take ``figure`` from ``picture.html``."""
    loader = ChoiceLoader([PackageLoader(package, "."), PackageLoader("steepest.pages", ".")])
    made = Environment(loader=loader, autoescape=True, trim_blocks=True)
    made.globals["policy"] = POLICY
    return made


@functools.cache
def library() -> Markup:
    """Bokeh's script, without the addresses that it would load more from."""
    return Markup(_ADDRESS.sub(r"\1about:blank", Resources(mode="inline", components=["bokeh"]).render()))


def embedded(pictures: Sequence[Picture]) -> tuple[Markup, list[dict[str, Any]]]:
    """A script, and for each picture what ``figure`` shows."""
    script, places = components(tuple(picture.plot for picture in pictures)) if pictures else ("", ())
    shown = [
        {"title": p.title, "note": p.note, "html": Markup(place)} for p, place in zip(pictures, places, strict=True)
    ]
    return Markup(script), shown
