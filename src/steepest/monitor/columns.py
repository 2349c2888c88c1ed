"""What a monitor knows of a training without keeping it alive: weak references, and the parameters that a run has columns for.

The optimizer holds its monitor. A monitor that held the optimizer, too, would keep both, and the weights, until Python's
garbage collector looks for cycles.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steepest.monitor.facts import names_of, params_of

__all__ = ["Columns", "weakly"]


def weakly(thing: Any) -> Callable[[], Any]:
    """A function that returns the thing while somebody else holds it, then None. What can't be referred to weakly is held."""
    if thing is None:
        return lambda: None
    try:
        return weakref.ref(thing)
    except TypeError:
        return lambda: thing


class Columns:
    """The parameters of a run in the order of its facts, found again in an optimizer that has got others since."""

    def __init__(self, optimizer: Any, model: Any = None) -> None:
        self.names, self._model = names_of(optimizer, model), weakly(model)
        self._params = [weakly(p) for p in params_of(optimizer)]
        self._stepper = weakly(optimizer.stepper)

    def __len__(self) -> int:
        return len(self._params)

    def places(self, optimizer: Any, stepper: Any) -> NDArray[np.intp] | None:
        """Each column's place among the optimizer's parameters, their number where a parameter is gone; None where all are as
        they were."""
        if stepper is self._stepper():
            return None
        params = params_of(optimizer)
        at = {id(p): place for place, p in enumerate(params)}
        found = (at.get(id(one()), len(params)) for one in self._params)
        places = np.fromiter(found, dtype=np.intp, count=len(self._params))
        if len(params) == len(places) and bool((places == np.arange(len(places))).all()):
            self._stepper = weakly(stepper)
            return None
        return places

    def names_in(self, optimizer: Any) -> tuple[str, ...]:
        """The names of all parameters that the optimizer has now: the columns' own, and one for each other parameter."""
        names = list(names_of(optimizer, self._model()))
        places = self.places(optimizer, optimizer.stepper)
        for place, name in zip(range(len(names)) if places is None else places.tolist(), self.names, strict=False):
            if place < len(names):
                names[place] = name
        return tuple(names)
