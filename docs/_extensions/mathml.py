"""Mathematics as MathML, which every browser draws itself: no script, nothing fetched, readable aloud.

docutils has the translation from LaTeX; Sphinx only has to be told of it. Two things it does are mended here: the index of a
letter with an accent stands beside it, not below; and a prime, which fonts have small and high already, stands beside its letter
at full size. As an exponent it would be made small a second time, and look like a dot.
"""

import re
from collections.abc import Callable
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
    for element in root.iter():
        if element.tag in (tag("msup"), tag("msubsup")):
            _beside(element, tag)
    return ElementTree.tostring(root, encoding="unicode")


PRIMES = {"′": "′", "′′": "″", "′′′": "‴"}


def _beside(element: ElementTree.Element, tag: Callable[[str], str]) -> None:
    """A letter whose exponent is primes becomes the letter with its primes beside it, and the index it had."""
    letter, *index, exponent = element
    primes = PRIMES.get("".join("".join(exponent.itertext()).split()))
    if primes is None:
        return
    mark = ElementTree.Element(tag("mo"), {"lspace": "0", "rspace": "0"})
    mark.text = primes
    if not index:
        element.tag, element[:] = tag("mrow"), [letter, mark]
        return
    marked = ElementTree.Element(tag("mrow"))
    marked.extend([letter, mark])
    element.tag, element[:] = tag("msub"), [marked, *index]


def _inline(writer: Any, node: Any) -> None:
    writer.body.append(_mathml(node.astext(), as_block=False))
    raise SkipNode


def _block(writer: Any, node: Any) -> None:
    writer.body.append(f'<div class="math">{_mathml(node.astext(), as_block=True)}</div>')
    raise SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
