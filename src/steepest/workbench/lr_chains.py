"""What the tests of a learning rate train: a chain for every rate, how long, and from which seed on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias

import steepest
from steepest.workbench.spaces import centre, reading, space_of
from steepest.workbench.workload import Workload

__all__ = ["SEED", "STEPS", "ChainOf", "chains_of", "driven", "read_with"]

ChainOf: TypeAlias = Callable[[float], steepest.Chain]
"""A chain for a learning rate."""
STEPS = 200
"""Of a run, where nothing is said."""
SEED = 1_000
"""The first seed of the runs: those that choose are none of those that a comparison judges by."""


def chains_of(what: str, workload: Workload, optimizer: str | ChainOf, steps: int) -> tuple[ChainOf, float, str]:
    """A chain for a rate, the rate from which a search starts, and what the optimizer is called."""
    if isinstance(optimizer, str):
        made: ChainOf = partial(read_with, optimizer, steps)
        middle, said = centre(optimizer, workload.rates), optimizer
    else:
        made, middle, said = optimizer, 1e-3, getattr(optimizer, "__name__", "chain")
    chain = made(middle)
    if all(name != "lr" for link in chain for name, _ in link.values):
        raise ValueError(f"{what}: the chain must have a learning rate (lr), got {said}.")
    open_to_search = not isinstance(optimizer, str) or "lr" in space_of(optimizer, schedule=False)
    if not open_to_search or not any(_follows(made, middle)):
        raise ValueError(
            f"{what}: the learning rate must be open, but {said} sets it. Remove it, or write lr instead of it."
        )
    return made, middle, said if isinstance(optimizer, str) else str(chain)


def driven(made: ChainOf, middle: float, rate: Callable[[], float]) -> steepest.Chain:
    """The chain, with a rate that a function says in place of a schedule, or in proportion where a link has a multiple of it."""

    def given(value: Any) -> Callable[[int], float]:
        scale = 1.0 if callable(value) else float(value) / middle
        return lambda _: scale * rate()

    return steepest.Chain(
        tuple(
            replace(link, values=tuple((n, given(v) if n == "lr" and follows else v) for n, v in link.values))
            for link, follows in zip(made(middle), _follows(made, middle), strict=True)
        )
    )


def read_with(text: str, steps: int, rate: float) -> steepest.Chain:
    """The chain that a text describes, for a rate."""
    return reading(text, {"lr": rate}, steps).chain


def _follows(made: ChainOf, middle: float) -> list[bool]:
    """Which links' learning rates follow the one that a chain is made for; others, such as descend(1.0), say their own."""
    rates = [[dict(link.values).get("lr") for link in made(lr)] for lr in (middle, 2 * middle)]
    return [one != other for one, other in zip(*rates, strict=True)]
