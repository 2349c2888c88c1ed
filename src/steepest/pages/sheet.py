"""One HTML file that needs no network: Bokeh's script inside, one style sheet, templates that escape what they are given."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from bokeh.embed import components
from bokeh.resources import Resources
from jinja2 import ChoiceLoader, Environment, PackageLoader
from markupsafe import Markup

from steepest.pages.figures import Picture

__all__ = ["LIMIT", "embedded", "environment", "library"]

LIMIT = 1_990_000
"""Bytes of a page; Bokeh's own script takes 1,270,000 of them."""


@functools.cache
def environment(package: str) -> Environment:
    """Templates of a package; they extend ``sheet.html`` and take ``figure`` from ``picture.html``."""
    loader = ChoiceLoader([PackageLoader(package, "."), PackageLoader("steepest.pages", ".")])
    return Environment(loader=loader, autoescape=True, trim_blocks=True)


@functools.cache
def library() -> Markup:
    """Bokeh's script."""
    return Markup(Resources(mode="inline", components=["bokeh"]).render())


def embedded(pictures: Sequence[Picture]) -> tuple[Markup, list[dict[str, Any]]]:
    """A script, and for each picture what ``figure`` shows."""
    script, places = components(tuple(picture.plot for picture in pictures)) if pictures else ("", ())
    shown = [
        {"title": p.title, "note": p.note, "html": Markup(place)} for p, place in zip(pictures, places, strict=True)
    ]
    return Markup(script), shown
