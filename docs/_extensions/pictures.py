"""Pictures that a page's code has drawn get the words for those who do not see them: what is written in the picture itself.

Matplotlib's pictures and those of plans are SVG with their texts as texts: titles, axes, legends. They stand behind the heading of
the section that the picture is in. A picture that says what it shows by other means (`alt`) keeps that.
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from docutils import nodes
from sphinx.application import Sphinx

SVG = "{http://www.w3.org/2000/svg}"
LONGEST = 300


def written(svg: str) -> list[str]:
    """The texts of a picture, each once, without the numbers at its axes."""
    found = ("".join(text.itertext()).strip() for text in ElementTree.fromstring(svg).iter(f"{SVG}text"))
    return list(dict.fromkeys(text for text in found if any(letter.isalpha() for letter in text)))


def describe(app: Sphinx, document: nodes.document) -> None:
    for image in document.findall(nodes.image):
        path = Path(app.srcdir, image["uri"])
        if image.get("alt") or path.suffix != ".svg" or not path.is_file():
            continue
        section: Any = image
        while section.parent is not None and not isinstance(section, nodes.section):
            section = section.parent
        heading = section.next_node(nodes.title)
        said = f"{heading.astext() if heading is not None else 'A picture'}. In the picture: "
        said += ", ".join(written(path.read_text(encoding="utf-8")))
        image["alt"] = textwrap.shorten(said, LONGEST, placeholder=" …")


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("doctree-read", describe, priority=900)  # behind the images' own collector, which finds their files
    return {"parallel_read_safe": True, "parallel_write_safe": True}
