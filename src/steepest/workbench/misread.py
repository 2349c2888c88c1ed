"""Why a text can't be read as a chain: the first place at which it stops being one, and what to write there.

Python's parser says only that a text is no expression, in words about Python. Here the text is read once from left to right, as
somebody would who writes a chain, and only where that parser has already refused it.
"""

from __future__ import annotations

import keyword
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from steepest.checks import printable

__all__ = ["brief", "foreign_letter", "misread", "rule_missing"]

_TOKEN = re.compile(
    r"""(?P<space>\s+) | (?P<text>'[^'\n]*'|"[^"\n]*") | (?P<number>\.?\d(?:[eE][+-]\d|[\w.])*) | (?P<name>[^\W\d]\w*)
    | (?P<sign>\*\*|//|[=!<>]=|.)""",
    re.VERBOSE | re.DOTALL,
)
_PAIRS = {")": "(", "]": "[", "}": "{"}
_ALIKE = dict(zip("−–—‐‑│┃∣❘¦‘’“”„«»·", '-----|||||\'\'"""""*', strict=True))
"""Signs that editors and web pages put in the place of those that a chain is written with; compatibility forms are known anyway."""
_LONGEST = 100
"""Characters of a chain that are shown whole; of a longer one the neighbourhood."""


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    start: int

    @property
    def place(self) -> str:
        return f"at character {self.start + 1}"

    @property
    def named(self) -> str:
        """How it is pointed at."""
        return f"{printable(self.text)} {self.place}" if self.kind == "sign" else f"{brief(self.text)!r} {self.place}"


@dataclass(slots=True)
class _Open:
    """An open bracket, and the argument that is being read in it."""

    token: _Token
    is_call: bool
    named: bool = False
    argument: _Token | None = None
    has_name: bool = False


def misread(text: str, at: int = 0) -> str:
    """What is wrong with a text that isn't a chain. ``at`` is where the parser stopped, counted from 1, for unknown mistakes.

    >>> misread("lookahead(adam |)")
    'a rule is missing after the | at character 16. Write a rule there, or remove the |'
    """
    tokens = list(_tokens(text))
    alike = next(filter(None, map(_alike, tokens)), "")  # first: what is wrong around it may be right with it
    return alike or _mistake(text, tokens) or f"it can't be read from character {max(1, at)} on"


def rule_missing(side: str, position: int) -> str:
    """What is said of a | with nothing on one side."""
    return f"a rule is missing {side} the | at character {position}. Write a rule there, or remove the |"


def brief(text: str, at: int = 0) -> str:
    """A text as messages show it: of a long one what is around the position."""
    if len(text) <= _LONGEST:
        return text
    begin = max(0, min(at - _LONGEST // 2, len(text) - _LONGEST))
    end = begin + _LONGEST
    return f"{'…' * (begin > 0)}{text[begin:end]}{'…' * (end < len(text))}"


def foreign_letter(name: str) -> str:
    """A sentence on the first letter of a name that no name of the library has; empty where there is none.

    >>> foreign_letter("\N{CYRILLIC SMALL LETTER A}dam")
    " Its letter 1 is CYRILLIC SMALL LETTER A (U+0430), which isn't a letter of the library's names."
    """
    for position, letter in enumerate(name, 1):
        if not letter.isascii():
            called = unicodedata.name(letter, "a letter without a name")
            return f" Its letter {position} is {called} (U+{ord(letter):04X}), which isn't a letter of the library's names."
    return ""


def _tokens(text: str) -> Iterator[_Token]:
    for found in _TOKEN.finditer(text):
        if found.lastgroup != "space" or not found.group().isascii():
            yield _Token(str(found.lastgroup), found.group(), found.start())


def _mistake(text: str, tokens: list[_Token]) -> str:
    """The first one, in the order of the text; empty where there is none that is known here."""
    opened: list[_Open] = []
    before: _Token | None = None
    wanted = True  # a rule, a value or an argument; else a sign that goes on or ends
    for token in tokens:
        if said := _strange(token):
            return said
        inside = opened[-1] if opened else None
        is_operand = token.kind in ("text", "number", "name")
        if inside and inside.argument is None and token.text not in _PAIRS and token.text != ",":
            inside.argument = token
        if is_operand or (token.text in "([" and wanted):
            if not wanted:
                return _unjoined(token, inside)
            wanted = not is_operand
            if not is_operand:
                opened.append(_Open(token, False))
        elif token.text in "([":
            opened.append(_Open(token, before is not None and before.kind == "name"))
            wanted = True
        elif token.text in ")]":
            if inside is None:
                return (
                    f"the {token.named} has no opening {_PAIRS[token.text]}. Remove it, or add the {_PAIRS[token.text]}"
                )
            if inside.token.text != _PAIRS[token.text]:
                return f"the {token.named} can't close the {inside.token.named}"
            if said := (_missing(before, token) if wanted else "") or _nameless(inside):
                return said
            opened.pop()
            wanted = False
        elif token.text == ",":
            if said := (_missing(before, token) if wanted else "") or _nameless(inside):
                return said
            if inside:
                inside.named |= inside.has_name
                inside.argument, inside.has_name = None, False
            wanted = True
        elif token.text == "=":
            if inside is None:
                return f"the {token.named} is outside of parentheses. Write arguments in parentheses: adam(lr=1e-3)"
            if inside.argument is token or before is None or before.kind != "name" or inside.argument is not before:
                return f"the name of an argument is missing before the {token.named}. Write, for example, adam(lr=1e-3)"
            inside.has_name = wanted = True
        elif wanted and token.text not in ("+", "-"):
            if token.text == "*" and (pattern := re.match(r"[^\s,()|]*", text[token.start :])):
                return f"a value can't start with the {token.named}. Write a pattern in quotes: '{pattern.group()}'"
            return _missing(before, token) or f"something is missing before the {token.named}"
        else:
            wanted = True
        before = token
    if opened:
        return f"the {opened[-1].token.named} is never closed"
    return _missing(before, None) if wanted else ""


def _alike(token: _Token) -> str:
    """A sign, or a space, that is none of those that Python knows."""
    if token.kind not in ("sign", "space") or token.text.isascii():
        return ""
    odd = next(one for one in token.text if not one.isascii())
    position, code = token.start + token.text.index(odd) + 1, f"U+{ord(odd):04X}"
    meant = _ALIKE.get(odd) or unicodedata.normalize("NFKC", odd)
    if meant.isspace() or unicodedata.category(odd) == "Cf":
        return f"there is an invisible character ({code}) at character {position}. Type a space, or remove it"
    if len(meant) == 1 and meant.isascii():
        return f"the {printable(odd)} at character {position} ({code}) only looks like {meant}. Type {meant}"
    return f"the {printable(odd)} at character {position} ({code}) has no meaning in a chain"


def _strange(token: _Token) -> str:
    """What stands in no chain at all."""
    text, place = token.text, token.place
    if token.kind == "number" and not _is_number(text):
        return f"{brief(text)!r} {place} isn't a number"
    if token.kind == "name" and keyword.iskeyword(text) and text not in ("True", "False", "None"):
        return f"{text!r} {place} isn't a rule, a value or the name of an argument"
    if text in ("'", '"'):
        return f"the quote {place} is never closed"
    if text in ("{", "}"):
        return f"the {printable(text)} {place} has no meaning in a chain. Write arguments in ( )"
    if text == ":":
        return f"the : {place} has no meaning in a chain. Pass arguments with =. Write a recipe in a file as my_rules.py:name"
    if text in (";", "&", "\\", "#", ">", "<"):
        return f"the {printable(text)} {place} has no meaning in a chain. Join rules by |"
    if token.kind == "sign" and text not in "|,=+-*/()[].**//":
        return f"the {printable(text)} {place} has no meaning in a chain"
    return ""


def _is_number(text: str) -> bool:
    if re.fullmatch(r"0[\d_]*[1-9_]|[\d_]{300,}", text):  # Python takes no 007, and nobody such a number
        return False
    for kind in (float, complex, lambda text: int(text, 0)):
        try:
            kind(text)
        except ValueError:
            continue
        return True
    return False


def _unjoined(token: _Token, inside: _Open | None) -> str:
    """Two things with nothing between them."""
    if inside is None:
        return f"{token.named} isn't joined to the text before it. Write | between rules and ( ) around arguments"
    return f"a comma is missing before {token.named}"


def _nameless(inside: _Open | None) -> str:
    """An argument without a name after one that has one."""
    if inside is None or not inside.is_call or inside.argument is None or not inside.named or inside.has_name:
        return ""
    return (
        f"the argument {inside.argument.named} has no name but follows a named argument. Name it, move it to the front, or write "
        "( ) around values that belong together"
    )


def _missing(before: _Token | None, token: _Token | None) -> str:
    """What is missing between two tokens, of which the first wants something to follow; empty where all is well."""
    if token is not None and token.text == "|" and (before is None or before.text in ("(", "[", ",", "=")):
        return rule_missing("before", token.start + 1)
    if before is None:
        return ""
    if before.text == "|":
        return rule_missing("after", before.start + 1)
    if before.text == "=":
        return f"a value is missing after the {before.named}"
    if before.text in "([,":
        if token is not None and token.text == ",":
            return f"an argument is missing before the {token.named}"
        return ""
    return f"a number is missing after the {before.named}"
