"""The watchman: finds the first value that is not finite, and says whose it is, while gradients and weights still show it.

Looking at every element at every step would cost a pass. But a nan spreads: what comes from one element of one parameter
makes the next loss nan, and with it every gradient. So each step it reads one element of the last gradient, which is nearest
to the loss, and, where a chain waits for a norm of the whole model, that norm, which is nan in the step in which the first
gradient is. Only when one of these is not finite does it go through the tensors: before the step, the parameters are still
as the step before left them, so the one that is not finite is where it began.
"""

from __future__ import annotations

import cmath
import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from steepest.monitor.columns import Columns, weakly
from steepest.monitor.facts import params_of
from steepest.monitor.marks import listed
from steepest.monitor.records import Event
from steepest.step.stepper import Stepper

__all__ = ["Watchman"]

_KINDS: dict[str, Any] = {"torch.float32": ctypes.c_float, "torch.float64": ctypes.c_double}
_EXPONENTS = {"torch.bfloat16": 0x7F80, "torch.float16": 0x7C00}
"""The bits of the exponent, all of which are 1 in nan and infinity."""

REPORTED = 1000
"""A bound for what the reports of one run add to its file."""


class Watchman:
    """Looks at an optimizer's steps as an `Inspector` does; each look returns events for the call number ``call``.

    What goes wrong here must not go wrong in the optimizer's step: it is kept in ``failed``, and nothing is looked at any more.
    It holds the optimizer weakly, since the optimizer holds it.
    """

    def __init__(self, optimizer: Any, columns: Columns) -> None:
        self._optimizer, self._columns = weakly(optimizer), columns
        self.failed: Exception | None = None
        self.taken = 0
        self.reported = 0
        self.broken = False
        self.steps = optimizer.steps
        # On another device each look would wait for the device: there the recording steps tell.
        self.looks = all(str(getattr(p, "device", "cpu")) == "cpu" for p in params_of(optimizer))

    def before(self, grads: Sequence[Any], call: int) -> list[Event]:
        """Look at one element of the last gradient; at all of them, and at the parameters, if it is not finite."""
        return self._tried(self._before, grads, call)

    def after(self, grads: Sequence[Any], stepper: Stepper, call: int) -> list[Event]:
        """Look at the norms of the whole model that the step has waited for, and whether a guard has left it out."""
        return self._tried(self._after, grads, stepper, call)

    def _tried(self, look: Callable[..., list[Event]], *arguments: Any) -> list[Event]:
        if self.failed is None:
            try:
                found = look(*arguments)[: max(0, REPORTED - self.reported)]
                self.reported += len(found)
                return found
            except Exception as error:
                self.failed = error.with_traceback(None)  # which holds the gradients, and this
        return []

    def _before(self, grads: Sequence[Any], call: int) -> list[Event]:
        self.steps = self._optimizer().steps
        if self.looks:
            last = next((grad for grad in reversed(grads) if grad is not None and _has_elements(grad)), None)
            if last is None or _first_is_finite(last):
                self.broken = False
            elif not self.broken:
                return [self._find(grads, call, before=True)]
        return []

    def _after(self, grads: Sequence[Any], stepper: Stepper, call: int) -> list[Event]:
        found = []
        if self.looks and not self.broken and not stepper.readings.totals_finite():
            found.append(self._find(grads, call, before=False))
        if self._optimizer().steps == self.steps:
            found.append(Event(self.steps + 1, call + 1, "skipped", "a guard of the chain left this step out"))
            self.broken = False
        else:
            self.taken += 1
        return found

    def _find(self, grads: Sequence[Any], call: int, before: bool) -> Event:
        self.broken = True
        optimizer = self._optimizer()
        step, number = optimizer.steps, self.steps + 1
        names, params = self._columns.names_in(optimizer), params_of(optimizer)
        bad_grads = [n for n, g in zip(names, grads, strict=True) if g is not None and not _is_finite(g)]
        bad_params = [n for n, p in zip(names, params, strict=True) if not _is_finite(p)] if before else []
        values = {"parameters": float(len(bad_params)), "gradients": float(len(bad_grads))}
        if bad_params:
            said = f"not finite since step {step}: {_listed(bad_params, len(names), 'parameter')}"
            return Event(step, call, "nonfinite", said, tuple(bad_params), values)
        said = f"not finite at step {number}: {_listed(bad_grads, len(names), 'gradient')}"
        if not bad_grads:
            largest = max((_largest(g), n) for n, g in zip(names, grads, strict=True) if g is not None)[1]
            said = f"the norm of all gradients is not finite at step {number}, though each of them is: the largest is in {largest}"
            bad_grads = [largest]
        elif before and len(bad_grads) == len([g for g in grads if g is not None]):
            said += ", while all parameters were finite: the loss of this batch"
            values["batches"] = 1.0
        return Event(number, call + 1, "nonfinite", said, tuple(bad_grads), values)


def _listed(names: Sequence[str], of: int, what: str) -> str:
    if len(names) == of and of > 1:
        return f"all {of} {what}s"
    return f"{what}{'s' if len(names) > 1 else ''} {listed(names, 4)}"


def _has_elements(grad: Any) -> bool:
    if isinstance(grad, np.ndarray):
        return grad.size > 0 and grad.dtype.kind in "fc"
    return hasattr(grad, "detach") and (grad._nnz() if grad.is_sparse else grad.numel()) > 0


def _first_is_finite(grad: Any) -> bool:
    """Of the first element alone: a look at all of them would cost a pass over memory at every step."""
    if isinstance(grad, np.ndarray):
        return cmath.isfinite(grad.item(0))
    grad = grad._values() if grad.is_sparse else grad
    if type(grad).__name__ == "Tensor" and (address := grad.data_ptr()):
        kind = str(grad.dtype)
        if kind in _KINDS:  # from memory: asking the tensor takes twenty times as long
            return cmath.isfinite(_KINDS[kind].from_address(address).value)
        if exponent := _EXPONENTS.get(kind):
            return ctypes.c_uint16.from_address(address).value & exponent != exponent
    grad = grad.to_local() if hasattr(grad, "to_local") else grad
    return _is_finite(grad[(0,) * grad.ndim]) if grad.numel() else True


def _largest(values: Any) -> float:
    if isinstance(values, np.ndarray):
        return float(np.abs(values).max(initial=0))
    values = _here(values)
    return float(values.abs().max()) if values.numel() else 0.0


def _is_finite(values: Any) -> bool:
    if isinstance(values, np.ndarray):
        return bool(np.isfinite(values).all())
    return bool(_here(values).isfinite().all())


def _here(values: Any) -> Any:
    """What this process holds of a tensor, dense."""
    values = values.detach()
    values = values.coalesce().values() if values.is_sparse else values
    return values.to_local() if hasattr(values, "to_local") else values
