"""Who else writes to a terminal, and how to write lines there that tear nothing of theirs.

rich and tqdm are asked only where the program has imported them itself.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Mapping
from typing import Any, TextIO

from steepest.monitor.marks import Glyphs, glyphs

__all__ = ["encodable", "glyphs_for", "is_capable", "is_terminal", "other_displays", "say"]


def is_terminal(stream: Any) -> bool:
    """What the stream says of itself; a closed one is none."""
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):
        return False


def is_capable(stream: TextIO, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether lines can be drawn again where they stand: a terminal that knows how to move its cursor."""
    return is_terminal(stream) and environment.get("TERM", "") not in ("dumb", "unknown") and not _is_legacy(stream)


def _is_legacy(stream: TextIO) -> bool:
    """A console of Windows that takes no control sequences; rich has found out how to ask it."""
    if sys.platform != "win32":
        return False
    from rich.console import Console

    return bool(Console(file=stream).legacy_windows)


def other_displays() -> bool:
    """Whether another program draws over lines of its own now: an open bar of tqdm, or one of rich's live displays."""
    proxy = getattr(sys.modules.get("rich.file_proxy"), "FileProxy", ())
    if isinstance(sys.stdout, proxy) or isinstance(sys.stderr, proxy):
        return True
    try:
        return any(is_terminal(getattr(bar, "fp", None)) for bar in _bars())
    except RuntimeError:  # another thread has just opened or closed one
        return True


def say(text: str, stream: TextIO) -> None:
    """Print lines, above whatever bars there are."""
    if len(_bars()):
        sys.modules["tqdm.std"].tqdm.write(encodable(text, stream), file=stream)
    else:
        print(encodable(text, stream), file=stream, flush=True)


def encodable(text: str, stream: Any) -> str:
    """The text with a question mark for what the stream's encoding hasn't got."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)


def glyphs_for(stream: TextIO) -> Glyphs:
    """What can be drawn there."""
    return glyphs(getattr(stream, "encoding", None), os.environ)


def _bars() -> Collection[Any]:
    """tqdm's open bars, for which it has no public name; a disabled one isn't among them."""
    bars: Collection[Any] = getattr(getattr(sys.modules.get("tqdm.std"), "tqdm", None), "_instances", ())
    return bars
