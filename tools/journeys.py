"""Count what a reader follows: calls, functions, files and changes of file inside steepest, for common operations.

Each journey runs once under `sys.setprofile`. A change of file is a call whose caller in steepest is in another file. Calls of
other libraries, of C functions and of comprehensions aren't counted.

    python tools/journeys.py [--list "torch AdamW regular step"]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch

import steepest
import steepest.numpy
import steepest.torch

SRC = str(Path(steepest.__file__).parent)
Call = tuple[str, str]


def calls_of(journey: Callable[[], Any]) -> tuple[list[Call], int]:
    """The (file, function) of each call in order, and how many calls come from another file."""
    calls: list[Call] = []
    changes = 0

    def note(frame: FrameType, event: str, _: Any) -> None:
        nonlocal changes
        name, code = frame.f_code.co_filename, frame.f_code
        if event != "call" or not name.startswith(SRC) or code.co_name in ("<listcomp>", "<dictcomp>", "<setcomp>"):
            return
        calls.append((name.removeprefix(SRC + "/"), code.co_qualname))
        caller = frame.f_back
        while caller is not None and not caller.f_code.co_filename.startswith(SRC):
            caller = caller.f_back
        changes += caller is not None and caller.f_code.co_filename != name

    sys.setprofile(note)
    try:
        journey()
    finally:
        sys.setprofile(None)
    return calls, changes


def torch_step(chain: steepest.Chain | None) -> Callable[[], Any]:
    """The fourth step on four parameters whose gradients stay; of AdamW without a chain."""
    params = [torch.nn.Parameter(torch.ones(8, 8)) for _ in range(4)]
    optimizer = steepest.torch.AdamW(params) if chain is None else steepest.torch.Optimizer(params, chain)
    for p in params:
        p.grad = torch.ones_like(p)
    for _ in range(3):
        optimizer.step()
    return optimizer.step


def numpy_step() -> Callable[[], Any]:
    """The fourth step on four arrays."""
    params, grads = ([np.ones((8, 8), dtype=np.float32) for _ in range(4)] for _ in range(2))
    optimizer = steepest.numpy.AdamW(params)
    for _ in range(3):
        optimizer.step(grads)
    return lambda: optimizer.step(grads)


def loading() -> Callable[[], Any]:
    """A state dict into a new optimizer of four parameters."""
    step = torch_step(None)
    optimizer: Any = step.__self__  # type: ignore[attr-defined]  # a bound method
    params = [torch.nn.Parameter(torch.ones(8, 8)) for _ in range(4)]
    saved, other = optimizer.state_dict(), steepest.torch.AdamW(params)
    return lambda: other.load_state_dict(saved)


def bad_chain() -> Callable[[], Any]:
    """From `Optimizer` to the error of a chain in which a rule has no state of the name that it reads."""
    params = [torch.nn.Parameter(torch.ones(8, 8))]
    chain = steepest.chain(steepest.adamw(), steepest.clip_by_global_norm(1.0))

    def journey() -> None:
        try:
            steepest.torch.Optimizer(params, chain)
        except (TypeError, ValueError):
            return
        raise AssertionError("the chain was accepted")

    return journey


JOURNEYS: dict[str, Callable[[], Callable[[], Any]]] = {
    "torch AdamW regular step": lambda: torch_step(None),
    "torch clip + LAMB": lambda: torch_step(steepest.chain(steepest.clip_by_global_norm(1.0), steepest.lamb())),
    "NumPy AdamW": numpy_step,
    "load_state_dict (torch)": loading,
    "a bad chain, to its error": bad_chain,
}


def main() -> None:
    """Print a row for each journey."""
    parser = argparse.ArgumentParser(description="count calls, functions, files and changes of file inside steepest")
    parser.add_argument("--list", default="", help="name of one journey whose calls to print (default: none)")
    given = parser.parse_args()
    print(f"{'':28}{'calls':>7}{'functions':>11}{'files':>7}{'changes of file':>17}")
    for name, make in JOURNEYS.items():
        calls, changes = calls_of(make())
        print(f"{name:28}{len(calls):7,}{len({*calls}):11}{len({file for file, _ in calls}):7}{changes:17}")
        if name == given.list:
            print(*(f"    {file}: {function}" for file, function in calls), sep="\n")


if __name__ == "__main__":
    main()
