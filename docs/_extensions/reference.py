"""The library's docstrings made ready for autodoc: their sections become field lists, their one-backtick words code.

napoleon is not used: it takes what stands behind a parameter's colon for its type, and here it is its meaning.
"""

from __future__ import annotations

import inspect
import re
from typing import Any

from docstrings import SECTIONS, entries

from steepest.language.rule import Rule


def reworked(lines: list[str]) -> list[str]:
    """A docstring as reStructuredText."""
    out: list[str] = []
    number = 0
    while number < len(lines):
        line = lines[number]
        if line in SECTIONS and number + 1 < len(lines) and re.fullmatch("-{3,}", lines[number + 1]):
            block: list[str] = []
            number += 2
            while number < len(lines) and not _ends(lines, number):
                block.append(lines[number])
                number += 1
            out += _section(line, block)
            continue
        out.append(re.sub(r"^Source:", "**Source:**", line))
        number += 1
    return out


def _ends(lines: list[str], number: int) -> bool:
    following = lines[number + 1] if number + 1 < len(lines) else ""
    section = lines[number] in SECTIONS and re.fullmatch("-{3,}", following) is not None
    return section or lines[number].startswith("Source:")


def _section(name: str, block: list[str]) -> list[str]:
    if name in ("Examples", "Notes"):
        return ["", f".. rubric:: {name}", "", *block, ""]
    if name == "Raises":
        return ["", *_raises(block), ""]
    if name == "Returns":
        return ["", ":returns: " + " ".join(line.strip() for line in block if line.strip()), ""]
    first, rest = _split(block)
    if name == "Parameters":
        fields = [f":param {key.replace('*', chr(92) + '*')}: {text}" for key, text in entries(first).items()]
    else:
        fields = ["", f".. rubric:: {name}", "", *(f"* ``{key}``: {text}" for key, text in entries(first).items())]
    return ["", *fields, "", *rest, ""]


def _split(block: list[str]) -> tuple[list[str], list[str]]:
    """A section's entries, and the paragraphs that stand below them."""
    for number, line in enumerate(block):
        if not line.strip() and any(rest.strip() for rest in block[number:]):
            after = block[number + 1 :]
            if not re.match(r"[\w.*]+(, [\w.*]+)* : ", after[0] if after else ""):
                return block[:number], after
    return block, []


def _raises(block: list[str]) -> list[str]:
    found: list[str] = []
    for line in block:
        if not line.strip():
            continue
        if line.startswith(" ") and found:
            found[-1] += " " + line.strip()
        else:
            kinds, _, text = line.partition(" : ")
            found.append(f":raises {kinds.strip()}: {text.strip()}".rstrip())
    return found


def on_docstring(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    lines[:] = reworked(list(lines))


def on_signature(app: Any, what: str, name: str, thing: Any, options: Any, arguments: str, returns: str) -> Any:
    """A rule is called with its hyperparameters."""
    if isinstance(thing, Rule):
        shown = [p.replace(annotation=p.empty) for p in inspect.signature(thing).parameters.values()]
        return str(inspect.Signature(shown)), ""
    return None


def setup(app: Any) -> dict[str, Any]:
    app.connect("autodoc-process-docstring", on_docstring)
    app.connect("autodoc-process-signature", on_signature)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
