"""Kernels: generated text, compiled by Numba and kept on disk, so that a second process starts warm.

Numba's own cache is not used. It loads pickles from wherever its variables lead to, whoever can write there, and it has no
checksums. `_Kept` takes its place: one file for each function, form of arguments and machine, in the folder of `cache`.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import NullCache
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

from steepest.engines.numba import cache
from steepest.engines.numba.frame import source
from steepest.plan.plan import Program

__all__ = ["Kernel", "compiled", "load"]

_ARGUMENTS = (numba.types.int64,)
_rebuilt: Any = CompileResult._rebuild
_pickled: Any = dumps


class Kernel:
    """A program's compiled ``run``: to be called with a place in memory (`ABI`), here or by a C library's threads."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.function = load("step", text, "run")
        with cache.alone(self.function.__module__):
            self.function.compile(_ARGUMENTS)

    def __call__(self, place: int) -> None:
        self.function(place)

    @cached_property
    def address(self) -> int:
        """Where a C function ``void run(long)`` begins that does the same: Numba makes one of each function."""
        result = self.function.overloads[_ARGUMENTS]  # kept by the function, or its code would be freed
        return int(result.library.get_pointer_to_function(result.fndesc.llvm_cfunc_wrapper_name))


_COMPILED: dict[str, Kernel] = {}


def compiled(program: Program, dtype: str, storage: Mapping[str, str]) -> Kernel:
    """The compiled function of a program, from memory, from the cache folder, or made now."""
    key = dtype, *storage.items()
    if key not in program.texts:
        program.texts[key] = source(program, dtype, "One optimizer step.", storage)
    text = program.texts[key]
    if text not in _COMPILED:
        _COMPILED[text] = Kernel(text)
    return _COMPILED[text]


def load(name: str, text: str, function: str) -> Any:
    """A function of generated text, for Numba to compile at its first call; ``name`` is what its files begin with."""
    module = cache.module_of(name, text, _salt())
    made = getattr(module, function)
    made._cache = _Kept(f"{module.__name__.removeprefix('steepest_generated_')}.{function}")
    return made


def _salt() -> str:
    here = Path(__file__).parent
    return f"{numba.__version__} {(here / 'pointers.py').read_text(encoding='utf-8')}"


class _Kept(NullCache):
    """What Numba asks before it compiles a function, and tells what it has compiled.

    Whatever is wrong with a file, or with another version's way to read it, the function is compiled again.
    """

    def __init__(self, stem: str) -> None:
        self.stem = stem

    def _name(self, signature: Any, context: Any) -> str:
        asked = repr((signature, context.codegen().magic_tuple()))
        return f"{self.stem}-{hashlib.sha256(asked.encode()).hexdigest()[:16]}.nbc"

    def load_overload(self, signature: Any, context: Any) -> Any:
        try:
            context.refresh()
            content = cache.read(self._name(signature, context))
            return None if content is None else _rebuilt(context, *pickle.loads(content))
        except Exception:
            return None

    def save_overload(self, signature: Any, result: Any) -> None:
        if not result.lifted and not result.library.has_dynamic_globals:  # an address is another in the next process
            cache.write(self._name(signature, result.target_context), _pickled(result._reduce()))
