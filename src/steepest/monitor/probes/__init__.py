"""What costs more than a measurement inside the step, on demand: the noise of gradients, sharpness, activations, histograms.

A probe is taken at each step that its ``every`` divides. Whoever serves probes, a `Monitor` through `Probes`, calls them thus,
all from the thread that trains:

    start(subject)     once, before the first step: what is trained
    before(step)       when the next step is to be number ``step`` and the probe is due at it: before that batch's forward pass,
                       so at the end of the monitor's call of the step before. Called again for the same step where the step
                       did not happen (left out by a guard) or training was put back
    measure(step)      right after step number ``step``, and only where ``before(step)`` was the last call. Gives numbers for
                       the whole model, which join a record's scalars, and arrays with a value per tensor in the order of
                       ``subject.params``, nan where a tensor has none, which join a record's tensors
    close()            once, at the end; leaves no hook behind. May come without ``start``

Names of values begin with the probe's name. A probe changes nothing of the training: neither weights nor gradients nor states
nor random numbers. Each says its price in its docstring; ``benchmarks/probes.py`` measures it. This module imports no framework.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from steepest.checks import Count, check_value, printable
from steepest.monitor.columns import weakly

if TYPE_CHECKING:
    from steepest.monitor.probes.activations import Activations
    from steepest.monitor.probes.histograms import Histograms
    from steepest.monitor.probes.noise import NoiseScale
    from steepest.monitor.probes.sharpness import Sharpness

__all__ = ["Activations", "Histograms", "NoiseScale", "Probe", "Probes", "Sharpness", "Subject", "Values"]

Values: TypeAlias = Mapping[str, float | NDArray[Any]]
"""What a probe has measured: a number of the model, or an array with a value per tensor."""

_HOMES = {"Activations": "activations", "Histograms": "histograms", "NoiseScale": "noise", "Sharpness": "sharpness"}


class Subject:
    """What is trained: the optimizer, its parameters and their names in its order, and the model where there is one.

    All are held weakly: a probe, whose hooks the parameters hold, keeps nothing alive. The optimizer and the model are None once
    they are gone; a parameter that is gone raises ReferenceError.
    """

    __slots__ = ("_model", "_optimizer", "_params", "names")

    def __init__(self, optimizer: Any, names: Sequence[str], params: Sequence[Any], model: Any = None) -> None:
        self._optimizer, self._model = weakly(optimizer), weakly(model)
        self._params = tuple(map(weakly, params))
        self.names = tuple(names)

    @property
    def optimizer(self) -> Any:
        return self._optimizer()

    @property
    def model(self) -> Any:
        return self._model()

    @property
    def params(self) -> tuple[Any, ...]:
        found = tuple(one() for one in self._params)
        for name, param in zip(self.names, found, strict=True):
            if param is None:
                raise ReferenceError(f"parameter {name!r} is gone")
        return found


@runtime_checkable
class Probe(Protocol):
    """What `Monitor` asks of a probe; when it calls what, this package's docstring says."""

    name: str
    every: int

    def start(self, subject: Subject) -> None: ...
    def before(self, step: int) -> None: ...
    def measure(self, step: int) -> Values: ...
    def close(self) -> None: ...


class Probes:
    """Serves probes: calls those that are due, and keeps what they give until a record takes it.

    A probe that fails is closed with one warning; training and the other probes go on.
    """

    def __init__(self, probes: Sequence[Probe] = ()) -> None:
        for position, one in enumerate(probes):
            if not isinstance(one, Probe):
                raise TypeError(
                    f"probes[{position}] must be a probe, got {one!r}. Pass Sharpness(…), Activations(…) …."
                )
            check_value(f"probes[{position}]", "every", one.every, Count)
        names = [one.name for one in probes]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"probes must have different names, got {name!r} twice. Pass name=… to one of them.")
        self._probes = list(probes)
        self._armed: dict[str, int] = {}
        self._scalars: dict[str, float] = {}
        self._tensors: dict[str, NDArray[np.float32]] = {}

    def start(self, subject: Subject, steps: int = 0) -> None:
        """Before the first step; ``steps`` have been taken so far."""
        for one in tuple(self._probes):
            self._tried(one, one.start, subject)
        self.before(steps + 1)

    def before(self, step: int) -> None:
        """The next step is to be this one."""
        for one in tuple(self._probes):
            self._armed.pop(one.name, None)
            if step % one.every == 0:
                self._armed[one.name] = step
                self._tried(one, one.before, step)

    def measure(self, step: int) -> None:
        """This step has been taken."""
        for one in tuple(self._probes):
            if self._armed.get(one.name) == step:
                del self._armed[one.name]
                self._keep(self._tried(one, one.measure, step) or {})

    def _keep(self, values: Values) -> None:
        for name, value in values.items():
            if isinstance(value, np.ndarray):
                self._tensors[name] = value.astype(np.float32)
            else:
                self._scalars[name] = float(value)

    def taken(self) -> tuple[dict[str, float], dict[str, NDArray[np.float32]]]:
        """Scalars and tensors measured since this was asked last, for the record that is made now."""
        found = self._scalars, self._tensors
        self._scalars, self._tensors = {}, {}
        return found

    def close(self) -> None:
        """Close all probes."""
        for one in tuple(self._probes):
            self._tried(one, one.close)
        self._probes, self._armed = [], {}

    def _tried(self, probe: Probe, call: Any, *arguments: Any) -> Any:
        try:
            return call(*arguments)
        except Exception as error:
            self._probes = [one for one in self._probes if one is not probe]
            warnings.warn(
                f"Monitor: the probe {probe.name!r} failed and is closed ({printable(f'{type(error).__name__}: {error}')}).",
                RuntimeWarning,
                stacklevel=3,
            )
            with contextlib.suppress(Exception):  # it has been said already that this one is broken
                probe.close()
            return None


if not TYPE_CHECKING:  # a checker would take any name for one of the package's

    def __getattr__(name: str) -> Any:
        if name in _HOMES:
            return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name, obj=sys.modules[__name__])
