"""The watchman: finds the first value that is not finite, and says whose it is, while gradients and weights still show it.

Looking at every element at every step would cost a pass. But a nan spreads: what comes from one element of one parameter
makes the next loss nan, and with it every gradient. So each step it reads one element of the last gradient, which is nearest
to the loss, and, where a chain waits for a norm of the whole model, that norm, which is nan in the step in which the first
gradient is. Only when one of these is not finite does it go through the tensors: before the step, the parameters are still
as the step before left them, so the one that is not finite is where it began.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from steepest.monitor.records import Event
from steepest.stepping import Stepper

__all__ = ["Watchman"]

_KINDS: dict[str, Any] = {"torch.float32": ctypes.c_float, "torch.float64": ctypes.c_double}

REPORTED = 1000
"""A bound for what the reports of one run add to its file."""


class Watchman:
    """An `Inspector` of an optimizer's steps. ``report`` is called with what it finds; ``where`` gives step and call so far."""

    def __init__(
        self,
        optimizer: Any,
        names: Sequence[str],
        params: Sequence[Any],
        where: Callable[[], tuple[int, int]],
        report: Callable[[Event], None],
    ) -> None:
        self.optimizer, self.names, self.params, self.where, self.report = optimizer, names, params, where, report
        self.reported = 0
        self.broken = False
        self.steps = optimizer.steps
        # On another device each look would wait for the device: there the recording steps tell.
        self.looks = all(str(getattr(p, "device", "cpu")) == "cpu" for p in params)

    def before(self, grads: Sequence[Any]) -> None:
        """Look at one element of the last gradient; at all of them, and at the parameters, if it is not finite."""
        self.steps = self.optimizer.steps
        if self.looks:
            last = next((grad for grad in reversed(grads) if grad is not None), None)
            if last is None or _first_is_finite(last):
                self.broken = False
            elif not self.broken:
                self._find(grads, before=True)

    def after(self, grads: Sequence[Any], stepper: Stepper) -> None:
        """Look at the norms of the whole model that the step has waited for, and whether a guard has left it out."""
        if self.looks and not self.broken and not stepper.readings.totals_finite():
            self._find(grads, before=False)
        if self.optimizer.steps == self.steps:
            _, call = self.where()
            self._report(Event(self.steps + 1, call + 1, "skipped", "a guard of the chain left this step out"))
            self.broken = False

    def _find(self, grads: Sequence[Any], before: bool) -> None:
        self.broken = True
        step, call = self.where()
        bad_grads = [n for n, g in zip(self.names, grads, strict=True) if g is not None and not _is_finite(g)]
        bad_params = [n for n, p in zip(self.names, self.params, strict=True) if not _is_finite(p)] if before else []
        values = {"parameters": float(len(bad_params)), "gradients": float(len(bad_grads))}
        if bad_params:
            said = f"not finite since step {step}: {_listed(bad_params, len(self.names), 'parameter')}"
            self._report(Event(step, call, "nonfinite", said, tuple(bad_params), values))
            return
        number = self.steps + 1
        said = f"not finite at step {number}: {_listed(bad_grads, len(self.names), 'gradient')}"
        if before and len(bad_grads) == len([g for g in grads if g is not None]):
            said += ", while all parameters were finite: the loss of this batch"
        self._report(Event(number, call + 1, "nonfinite", said, tuple(bad_grads), values))

    def _report(self, event: Event) -> None:
        self.reported += 1
        if self.reported <= REPORTED:
            self.report(event)


def _listed(names: Sequence[str], of: int, what: str) -> str:
    if len(names) == of and of > 1:
        return f"all {of} {what}s"
    shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
    return f"{what}{'s' if len(names) > 1 else ''} {shown}"


def _first_is_finite(grad: Any) -> bool:
    if isinstance(grad, np.ndarray):
        return grad.size == 0 or math.isfinite(grad.item(0))
    if type(grad).__name__ == "Tensor" and not grad.is_sparse:
        kind, address = _KINDS.get(str(grad.dtype)), grad.data_ptr()
        if kind is not None and address:  # from memory: asking the tensor takes twenty times as long, at every step
            return math.isfinite(kind.from_address(address).value)
    return _is_finite(grad)


def _is_finite(values: Any) -> bool:
    if isinstance(values, np.ndarray):
        return bool(np.isfinite(values).all())
    values = values.coalesce().values() if getattr(values, "is_sparse", False) else values
    values = values.to_local() if hasattr(values, "to_local") else values
    return bool(values.detach().isfinite().all())
