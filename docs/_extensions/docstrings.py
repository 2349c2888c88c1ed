"""The library's docstrings taken apart: plain text in NumPy's order, where a parameter's line says ``name : meaning``.

Used twice: by the pages of the rules, and by autodoc, whose napoleon would take the meaning for a type.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass, field
from typing import Any

SECTIONS = ("Parameters", "Attributes", "Returns", "Raises", "Warns", "Examples", "Notes")


@dataclass
class Docstring:
    """The paragraphs before the sections, each section's lines, and what is said of the source."""

    summary: str = ""
    paragraphs: list[str] = field(default_factory=list)
    sections: dict[str, list[str]] = field(default_factory=dict)
    source: str = ""


def parsed(thing: Any) -> Docstring:
    lines = (inspect.getdoc(thing) or "").splitlines()
    parts: dict[str, list[str]] = {"": []}
    name = ""
    number = 0
    while number < len(lines):
        line = lines[number]
        if line in SECTIONS and number + 1 < len(lines) and re.fullmatch("-{3,}", lines[number + 1]):
            name = line
            parts[name] = []
            number += 2
            continue
        if line.startswith("Source:"):
            name = "Source"
            parts[name] = [line.removeprefix("Source:").strip()]
        else:
            parts[name].append(line)
        number += 1
    blocks = [block for block in re.split(r"\n\s*\n", "\n".join(parts.pop(""))) if block.strip()]
    source = " ".join(" ".join(parts.pop("Source", [])).split())
    # What follows a section's last entry without being indented is a paragraph again.
    for section in [s for s in parts if s in ("Parameters", "Attributes")]:
        kept, rest = _entries_and_rest(parts[section])
        parts[section] = kept
        blocks += rest
    plain = [b for b in blocks if not b.lstrip().startswith(">>>")]
    return Docstring(plain[0] if plain else "", plain[1:], parts, source)


def _entries_and_rest(lines: list[str]) -> tuple[list[str], list[str]]:
    blocks = re.split(r"\n\s*\n", "\n".join(lines).strip("\n"))
    return blocks[0].splitlines(), [b for b in blocks[1:] if b.strip()]


def entries(lines: list[str]) -> dict[str, str]:
    """``name : text`` with its continuation lines, as one line each; several names may share a text."""
    found: dict[str, str] = {}
    names: list[str] = []
    for line in lines:
        match = re.match(r"([\w.*]+(?:, [\w.*]+)*) : (.*)", line)
        if match:
            names = match[1].split(", ")
            found.update(dict.fromkeys(names, match[2].strip()))
        elif line.strip():
            for name in names:
                found[name] += " " + line.strip()
    return found


def markdown(text: str) -> str:
    """A docstring's paragraph as Markdown: literals keep their one backtick."""
    return re.sub(r"``(.+?)``", r"`\1`", " ".join(text.split()))
