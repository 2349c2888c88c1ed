"""Which engine runs a tensor: the compiled one where Numba is there and the layout suits, else the one for arrays.

Numba is imported when the first tensor asks for the compiled engine; where it is missing, that is said once.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

from steepest.engines.tensors import Engine, Tensor
from steepest.plan.plan import Plan

__all__ = ["LARGEST", "check_engine", "engine_for"]

LARGEST = 400
"""The largest `Plan.size` that is compiled: Numba's time grows faster than a function's length, and this takes half a minute."""
_CERTAINLY_SMALL = 100
"""Values of a trace that no number of passes makes too large."""


def check_engine(name: str) -> None:
    """Raise unless it is the name of a choice: ``"auto"`` or ``"cpu"`` (compiled where that can be), or ``"arrays"``."""
    if name not in ("auto", "cpu", "arrays"):
        raise ValueError(f"engine must be one of 'auto', 'cpu', 'arrays', got {name!r}.")


def engine_for(
    own: Plan, tensor: Tensor, name: str, arrays: Engine, cpu: Callable[[], Engine] | None, warned: set[str]
) -> Engine:
    """The engine of one tensor. ``arrays`` is its framework's, as is what ``cpu`` makes; without it threads are our own.

    A step that would take minutes to compile runs on ``arrays``. The first of them is a RuntimeWarning, noted in ``warned``.
    """
    compiled = None if name == "arrays" else _made(cpu or _own_cpu_engine)
    if compiled is None or not compiled.can_run(own, tensor):
        return arrays
    if len(own.trace.graph.nodes) <= _CERTAINLY_SMALL or own.size <= LARGEST:
        return compiled  # type: ignore[no-any-return]
    if not warned:
        warned.add("size")
        warnings.warn(
            f"steepest: a step of this chain of {len(own.trace.chain)} links is too large to compile ({own.size} values, at most "
            f"{LARGEST}), so it runs on the slower array engine. Shorten the chain, or pass engine='arrays' to accept this.",
            RuntimeWarning,
            stacklevel=2,
        )
    return arrays


_MISSING: list[str] = []


def _made(cpu: Callable[[], Engine]) -> Any:
    """The cpu engine, or None where Numba is missing (said once)."""
    if _MISSING:
        return None
    try:
        return cpu()
    except ImportError as error:
        warnings.warn(
            f"steepest: the cpu engine is not available ({error}); steps run on the slower array engine. "
            f"Install Numba: pip install numba.",
            RuntimeWarning,
            stacklevel=2,
        )
        _MISSING.append(str(error))
        return None


@cache
def _own_cpu_engine() -> Engine:
    from steepest.engines.numba.engine import CpuEngine

    return CpuEngine()
