"""Keep a function out of the graphs that `torch.compile` traces.

An optimizer works on addresses and starts its own threads, which no graph can hold. Use `outside_of_graphs` on every function
that a user may call inside a compiled function: the graph ends there, the function runs as written, and the next graph starts.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from torch._compile import _disable_dynamo

__all__ = ["outside_of_graphs"]

_P = ParamSpec("_P")
_T = TypeVar("_T")


def outside_of_graphs(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Run a function as written, also when a compiled function calls it."""
    # As torch.optim does it: torch.compiler.disable would import torch._dynamo here, which takes a second.
    disabled = _disable_dynamo(function)

    @wraps(function)
    def called(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        return disabled(*args, **kwargs) if torch.compiler.is_compiling() else function(*args, **kwargs)

    return called
