"""Kernels: generated text, compiled by Numba and kept on disk beside it, so that a second process starts warm.

What Numba keeps may be broken, and the folder may be full or not writable: then the kernel is compiled again, for this process.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numba

from steepest.engines import cache as files
from steepest.engines.source import source
from steepest.plan.plan import Program

__all__ = ["Kernel", "compiled", "load"]


class Kernel:
    """A program's compiled ``run``: to be called with a place in memory (`WORDS`), here or by a C library's threads."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.function = load("step", text, "run")

    def __call__(self, place: int) -> None:
        self.function(place)

    @cached_property
    def address(self) -> int:
        """Where a C function ``void work(long)`` begins that does the same."""
        self.pointer = load("step", self.text, "entry")()  # kept, or its code would be freed
        return int(self.pointer.address)


_COMPILED: dict[str, Kernel] = {}


def compiled(program: Program, dtype: str, storage: Mapping[str, str]) -> Kernel:
    """The compiled function of a program, from memory, from the cache folder, or made now."""
    text = source(program, dtype, "One optimizer step.", storage)
    if text not in _COMPILED:
        _COMPILED[text] = Kernel(text)
    return _COMPILED[text]


def load(name: str, text: str, function: str) -> Callable[..., Any]:
    """A function of generated text; ``name`` is what its file begins with."""
    try:
        module = files.load(name, text, _salt())
        made = getattr(module, function)
    except RuntimeError:  # Numba found no place for its own files
        return getattr(files.load(name, text, _salt(), on_disk=False), function)  # type: ignore[no-any-return]  # generated

    def guarded(*arguments: Any) -> Any:
        try:
            return guarded.__wrapped__(*arguments)  # type: ignore[attr-defined]  # a function may carry it
        except OSError as error:  # raised when Numba saves what it compiled, before anything has run
            files.warn_once(files.cache_folder(), error)
        except (EOFError, pickle.UnpicklingError, ValueError, AttributeError, ImportError, IndexError, KeyError):
            # Raised when Numba reads what it has kept and finds it broken; nothing has run here either.
            files.discard(module)
        fallback = getattr(files.load(name, text, _salt(), on_disk=False), function)
        guarded.__wrapped__ = fallback  # type: ignore[attr-defined]  # a function may carry it
        return fallback(*arguments)

    guarded.__wrapped__ = made  # type: ignore[attr-defined]  # a function may carry it
    return guarded


def _salt() -> str:
    here = Path(__file__).parent
    return f"{numba.__version__} {(here / 'cpu_pointers.py').read_text(encoding='utf-8')}"
