"""The one schedule that depends on what happens: it lowers its value when a metric stops improving.

It has state, so it isn't a `Schedule`: it can be a hyperparameter by itself, and its state is saved with the model's.
Imports ``arguments`` and ``namespace``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal, SupportsFloat, cast

from steepest.checks import Range
from steepest.schedules.arguments import Amount, StepsOrZero, checked, declared, is_number, refuse
from steepest.schedules.namespace import line_between

__all__ = ["ReduceOnPlateau"]

_STATE = ("lr", "best", "num_bad_epochs", "cooldown_counter")


@dataclass(slots=True, eq=False)
class ReduceOnPlateau:
    """Multiply the value by ``factor`` once a metric has not improved for more than ``patience`` measurements.

    A measurement improves when it beats the best so far by the threshold: ``metric < best*(1 - threshold)`` ("min",
    "rel"), ``metric < best - threshold`` ("min", "abs"), ``metric > best*(1 + threshold)`` ("max", "rel") or
    ``metric > best + threshold`` ("max", "abs"). Then ``lr = max(lr*factor, min_lr)``, unless that changes it by at
    most ``eps``. A metric that is nan never improves. With "rel" a metric should be positive: below 0 the threshold
    turns round.

    Called with the number of steps taken, it is the current value: ``lr``, or before ``warmup`` steps a value on the line from
    ``initial`` to ``lr``.

    Parameters
    ----------
    lr : initial value, >= 0; afterwards the current one.
    mode : "min" for a metric that should fall, "max" for one that should rise.
    factor : in [0, 1); 0.1.
    patience : measurements without improvement that are tolerated, >= 0; 10.
    threshold : >= 0, below 1 for "min" with "rel"; 1e-4.
    threshold_mode : "rel" or "abs".
    cooldown : measurements after a reduction that never count as bad, >= 0; 0.
    min_lr : bound from below, >= 0; 0.0.
    eps : >= 0; 1e-8. All defaults so far are PyTorch's.
    warmup : length of a linear rise to ``lr``, in steps of the optimizer, >= 0; 0.
    initial : value at t = 0 if there is a warm-up, in [0, lr]; 0.0.

    Raises
    ------
    TypeError, ValueError
        When an argument or a metric is of the wrong kind or out of range; nothing has changed then.

    Examples
    --------
    >>> lr = ReduceOnPlateau(0.1, factor=0.5, patience=1)
    >>> [lr.step(metric) for metric in (3.0, 2.0, 2.0, 2.0, 1.0)]
    [0.1, 0.1, 0.1, 0.05, 0.05]
    >>> lr(1_000)
    0.05

    Source: PyTorch's ReduceLROnPlateau.
    """

    lr: Amount
    mode: Literal["min", "max"] = "min"
    factor: Annotated[float, Range(0, 1, high_included=False, cure="At 1 nothing is ever reduced.")] = 0.1
    patience: StepsOrZero = 10
    threshold: Amount = 1e-4
    threshold_mode: Literal["rel", "abs"] = "rel"
    cooldown: StepsOrZero = 0
    min_lr: Amount = 0.0
    eps: Amount = 1e-8
    warmup: StepsOrZero = 0
    initial: Amount = 0.0
    best: float = field(init=False, repr=False)
    num_bad_epochs: int = field(init=False, repr=False, default=0)
    cooldown_counter: int = field(init=False, repr=False, default=0)
    why_alone: ClassVar[str] = (
        "A plateau depends on its metric, not on the step alone, so no schedule can contain it. For a warm-up, write "
        "ReduceOnPlateau(…, warmup=…)."
    )

    def __post_init__(self) -> None:
        what, parameters, hints = declared(type(self))
        for name in parameters:
            setattr(self, name, checked(what, name, getattr(self, name), hints[name]))
        if (self.mode, self.threshold_mode) == ("min", "rel") and self.threshold >= 1:
            raise refuse(what, "threshold", self.threshold, "in [0, 1)", "At 1 a metric would have to fall below 0.")
        if self.initial > self.lr:
            raise refuse(what, "initial", self.initial, f"in [0, {self.lr!r}]", "The warm-up rises to lr.")
        self.best = math.inf if self.mode == "min" else -math.inf

    def __call__(self, t: int) -> float:
        return line_between(self.initial, self.lr, t, self.warmup) if t < self.warmup else self.lr

    def turning_points(self) -> list[tuple[int, float]]:
        """The start and the end of the warm-up, with the values there; what the metric will do is not known."""
        return [(0, self(0)), (self.warmup, self.lr)]

    def step(self, metric: SupportsFloat) -> float:
        """Take one measurement into account and return the value to use from now on."""
        value = _number(metric)
        if self._improves(value):
            self.best = value
            self.num_bad_epochs = 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            reduced = max(self.lr * self.factor, self.min_lr)
            if self.lr - reduced > self.eps:
                self.lr = reduced
            self.cooldown_counter = self.cooldown
            self.num_bad_epochs = 0
        return self.lr

    def _improves(self, value: float) -> bool:
        margin = -self.threshold if self.mode == "min" else self.threshold
        limit = self.best * (1.0 + margin) if self.threshold_mode == "rel" else self.best + margin
        return value < limit if self.mode == "min" else value > limit

    def state_dict(self) -> dict[str, float]:
        """What has happened so far (the arguments are not part of it), under PyTorch's names, and ``lr``."""
        return {name: getattr(self, name) for name in _STATE}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Go on from a saved state; an error leaves this one as it was.

        >>> other, lr = ReduceOnPlateau(0.1), ReduceOnPlateau(0.1, patience=0)
        >>> lr.step(1.0), lr.step(1.0)
        (0.1, 0.010000000000000002)
        >>> other.load_state_dict(lr.state_dict())
        >>> other.state_dict()
        {'lr': 0.010000000000000002, 'best': 1.0, 'num_bad_epochs': 0, 'cooldown_counter': 0}
        """
        what = "ReduceOnPlateau.load_state_dict"
        if set(state) != set(_STATE):
            raise ValueError(f"{what}: the state must have the keys {sorted(_STATE)}, got {sorted(state)}.")
        _, _, hints = declared(type(self))
        lr = checked(what, "lr", state["lr"], hints["lr"])
        bad, waiting = (checked(what, name, state[name], hints["patience"]) for name in _STATE[2:])
        best = state["best"]
        if not is_number(best) or math.isnan(best):
            raise ValueError(f"{what}: best must be a number or an infinity, got {best!r}. No metric improves on nan.")
        self.lr, self.best = cast("float", lr), float(best)
        self.num_bad_epochs, self.cooldown_counter = cast("int", bad), cast("int", waiting)


def _number(metric: object) -> float:
    if isinstance(metric, (bool, str, bytes)) or not isinstance(metric, SupportsFloat):
        raise TypeError(f"ReduceOnPlateau: metric must be a number, got {metric!r}. nan counts as no improvement.")
    return float(metric)
