"""Mathematics as MathML, which every browser draws itself: no script, nothing fetched, readable aloud.

docutils has the translation from LaTeX; Sphinx only has to be told of it. One thing it does is mended here: the index of a
letter with an accent stands beside it, not below.
"""

import re
from html import unescape
from typing import Any
from xml.etree import ElementTree

from docutils.nodes import SkipNode
from docutils.utils.math import latex2mathml
from sphinx.application import Sphinx

NAMESPACE = "http://www.w3.org/1998/Math/MathML"
ElementTree.register_namespace("", NAMESPACE)


def _mathml(latex: str, as_block: bool) -> str:
    text = latex2mathml.tex2mathml(latex, as_block=as_block)
    root = ElementTree.fromstring(re.sub(r"&(?!amp;|lt;|gt;)\w+;", lambda m: unescape(m[0]), text))
    tag = f"{{{NAMESPACE}}}".__add__
    for element in list(root.iter(tag("munderover"))):
        letter, index, above = element
        if above.get("stretchy") == "false":
            element.tag = tag("msub")
            accented = ElementTree.Element(tag("mover"), {"accent": "true"})
            accented.extend([letter, above])
            element[:] = [accented, index]
    return ElementTree.tostring(root, encoding="unicode")


def _inline(writer: Any, node: Any) -> None:
    writer.body.append(_mathml(node.astext(), as_block=False))
    raise SkipNode


def _block(writer: Any, node: Any) -> None:
    writer.body.append(f'<div class="math">{_mathml(node.astext(), as_block=True)}</div>')
    raise SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
