"""`Monitor`: asks an optimizer to measure inside its steps, and hands what it finds to outputs.

It never brings training down: what an output raises closes that output with one warning, and what goes wrong in the monitor
itself ends monitoring with one warning. Mistakes in how it is made are errors at once.
"""

from __future__ import annotations

import contextlib
import math
import time
import warnings
import weakref
from bisect import bisect_right
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from steepest.checks import Count, check_value, printable
from steepest.monitor.columns import Columns, weakly
from steepest.monitor.facts import facts_of, params_of, unwrapped
from steepest.monitor.given import is_number, losses_of, number_of, without_graph
from steepest.monitor.nonfinite import Watchman
from steepest.monitor.output import Output, Outputs, checked, folder_of, recorders_of
from steepest.monitor.probes import Probe, Probes, Subject
from steepest.monitor.records import Event, Facts, Record
from steepest.monitor.telemetry import OURS, STANDARD, check_names, watched
from steepest.step.stepper import Stepper

__all__ = ["Monitor"]

_Numbers: TypeAlias = Sequence[tuple[Mapping[str, float], NDArray[np.int64]]]
"""The numbers that a step has used, and the tensors that it has used them for."""


class Monitor:
    """Records what happens inside an optimizer's steps.

    Measurements join the passes that the step makes anyway, and only on every ``every``-th step; ``print(optimizer.plan)``
    shows what each of them adds. A flight recorder keeps the run in ``folder``, for ``steepest watch`` and ``steepest doctor``.

    Where `steepest.torch.release_gradients` steps inside the backward pass, all is measured as well, but nobody looks for the first
    value that is not finite, and how long the optimizer takes is not known.

    Parameters
    ----------
    optimizer : one of steepest.torch or steepest.numpy, also inside a wrapper of Lightning or Accelerate.
    model : the torch module, for its parameters' names and for probes.
    every : a record is made at each step that this divides, >= 1; 10.
    to : outputs: `Terminal`, `TensorBoard`, `Report`, `JsonLines`, or whatever has an `Output`'s methods.
    folder : of the flight recorder; ``"auto"`` is that of the first output that has one, else ``runs/`` and the time; None
        keeps no record.
    measurements : names from `steepest.monitor.records.MEASUREMENTS`; the standard ones that the chains have a place for.
    probes : what costs more, on demand: see `steepest.monitor.probes`.
    notes : numbers and texts to keep with the run (``{"batch_size": 32}``).

    Raises
    ------
    TypeError, ValueError : for an optimizer that can't measure, names that there are not, values out of range; before
        anything is changed. Never later: what fails while training goes on is said once, as a RuntimeWarning.

    Examples
    --------
    >>> import numpy as np, steepest, steepest.numpy as opt
    >>> w = {"weight": np.array([3.0, 4.0])}
    >>> optimizer = opt.Optimizer(w, steepest.sgd(0.1))
    >>> with steepest.Monitor(optimizer, every=2, folder=None) as monitor:
    ...     for _ in range(4):
    ...         optimizer.step({"weight": 2 * w["weight"]})
    ...         monitor(loss=float(w["weight"] @ w["weight"]))
    >>> monitor.last.step, round(float(monitor.last.tensors["grad_norm"][0]), 3)
    (4, 5.12)
    """

    def __init__(
        self,
        optimizer: Any,
        model: Any = None,
        *,
        every: int = 10,
        to: Sequence[Output] | Output = (),
        folder: str | Path | None = "auto",
        measurements: Collection[str] | None = None,
        probes: Sequence[Probe] = (),
        notes: Mapping[str, Any] | None = None,
    ) -> None:
        optimizer = unwrapped(optimizer)
        check_value("Monitor", "every", every, Count)
        if optimizer.stepper.watch is not None:
            raise ValueError("Monitor: this optimizer already has a monitor. Close it first: monitor.close().")
        chains = optimizer.stepper.chains
        if measurements is not None:
            measurements = (measurements,) if isinstance(measurements, str) else tuple(measurements)
            check_names("Monitor", measurements, chains)
        outputs = checked(to)
        self.folder = folder_of(folder, outputs)
        recorders = recorders_of(self.folder, outputs)
        self._optimizer, self._model, self.every = weakly(optimizer), weakly(model), int(every)
        self.last: Record | None = None
        self._probes, self._probing = Probes(probes), len(probes) > 0
        self._calls = 0
        self._losses: list[Any] = []
        self._metrics: dict[str, Any] = {}
        self._began = self._then = time.perf_counter()
        self._taken = 0
        watch = partial(
            watched,
            every=self.every,
            measurements=STANDARD if measurements is None else measurements,
            taken=frozenset(name for chain in chains for link in chain for name, _ in link.measures),
        )
        self._columns = Columns(optimizer, model)
        self._watchman = Watchman(optimizer, self._columns)
        self._steps, self._seen = optimizer.steps, 0
        self._recorded = self._steps - self._steps % self.every
        self._seconds = optimizer.seconds
        self._strangers = 0
        self._stepper = weakly(None)
        self._outputs = Outputs([*recorders, *outputs])
        optimizer.watch(watch, _Inspector(self))
        try:
            self._outputs.start(facts_of(optimizer, model, self.every, notes or {}))
        except Exception:
            optimizer.watch(None)
            raise
        self._probes.start(Subject(optimizer, self._columns.names, params_of(optimizer), model), self._steps)
        # The last page is written, too, where nobody calls close. The optimizer holds the monitor, so this is not before its end.
        self._at_exit = weakref.finalize(self, Outputs.left, self._outputs)

    @property
    def optimizer(self) -> Any:
        """The optimizer that is monitored; None once it is gone. The optimizer holds the monitor, not the other way round."""
        return self._optimizer()

    @property
    def model(self) -> Any:
        """The model, None where there is none or it is gone."""
        return self._model()

    @property
    def facts(self) -> Facts:
        """What the outputs were told at the start."""
        return self._outputs.facts

    # ---- while training

    def __call__(self, loss: Any = None, /, **metrics: Any) -> None:
        """Once after each of the optimizer's steps (or batches): the loss, and other numbers to keep by name.

        A tensor on a device is read only when a record is made, together with all since the record before. Where the optimizer's
        steps have gone back (a `Guard` has rewound them, an older checkpoint was loaded), recording goes on from there.
        """
        optimizer = self._optimizer()
        if self._outputs.closed or optimizer is None:
            return
        try:
            if self._watchman.failed is not None:
                raise self._watchman.failed
            steps = optimizer.steps
            seen, self._seen = self._watchman.taken - self._seen, self._watchman.taken
            if steps < self._steps:
                self._go_back(optimizer)
            elif 0 < seen < steps - self._steps:  # a later checkpoint was loaded before the steps since the last call
                self._steps = steps - seen
                self._recorded = self._steps - self._steps % self.every
            if metrics:
                loss = metrics.pop("loss", loss)
                self._metrics |= {name: value for name, value in metrics.items() if is_number(name, value)}
            self._calls += 1
            self._losses.append(None if loss is None else without_graph(loss))
            if steps > self._steps:
                self._taken += steps - self._steps
                self._steps = steps
                if self._probing:
                    self._probes.measure(steps)
                if steps - steps % self.every > self._recorded:
                    self._record(optimizer, steps - steps % self.every)
                if self._probing:
                    self._probes.before(steps + 1)
        except Exception as error:
            self._give_up(error)

    def event(self, event: Event | str, message: str = "", **of: Any) -> None:
        """Note that something happened at this step: an `Event`, or its kind and a message."""
        try:
            optimizer = self._optimizer()
            if optimizer is not None and optimizer.steps < self._steps:
                self._go_back(optimizer, told=(event if isinstance(event, str) else event.kind) == "rewound")
            if isinstance(event, str):
                # A guard's: what probes have seen of a batch that it leaves out is forgotten. The watchman's events, which are no
                # texts, come between a batch's forward pass and its step: too late for that.
                if self._probing and event in ("nonfinite", "spike", "rewound"):
                    self._probes.before(self._steps + 1)
                event = Event(self._steps, self._calls, event, message, **of)
            self._outputs.send("event", event)
        except Exception as error:
            self._give_up(error)

    def _look(self, look: Callable[..., list[Event]], *given: Any) -> None:
        """What the watchman sees in the step that runs now."""
        for event in look(*given, self._calls):
            self.event(event)

    def _go_back(self, optimizer: Any, told: bool = False) -> None:
        """Training was put back: the losses of what was undone are recorded, and what is recorded from here on replaces it."""
        steps, before = min(optimizer.steps, self._watchman.steps), self._steps
        if steps < self._recorded:  # else no record has been undone, and the losses wait for the next one
            if self._losses and self._taken:
                self._record_rest()
            self._recorded = steps - steps % self.every
            self._taken, self._then, self._seconds = 0, time.perf_counter(), optimizer.seconds
        self._probes.taken()
        self._steps = steps
        if not told:
            said = f"the optimizer's steps went back from {before} to {steps}"
            self._outputs.send("event", Event(steps, self._calls, "rewound", said))

    def _record(self, optimizer: Any, step: int) -> None:
        now = time.perf_counter()
        stepper, taken = self._stepper() or optimizer.stepper, max(1, self._taken)
        numbers = list(stepper.readings.numbers())
        tensors = self._measured(optimizer, stepper, step, numbers)
        scalars = {name: number_of(value) for name, value in self._metrics.items()}
        scalars |= _rates(optimizer, stepper, step, numbers)
        if "grad_norm" in tensors:
            scalars["grad_norm"] = math.hypot(*tensors["grad_norm"][~np.isnan(tensors["grad_norm"])].tolist())
        scalars["step_seconds"] = (now - self._then) / taken
        if optimizer.seconds > self._seconds:  # steps inside the backward pass are not counted
            scalars["optimizer_seconds"] = (optimizer.seconds - self._seconds) / taken
        probed, per_tensor = self._probes.taken()
        losses, given = losses_of(self._losses)
        record = Record(
            step,
            self._calls,
            now - self._began,
            losses,
            scalars | probed,
            {name: _in_float32(values) for name, values in tensors.items()} | per_tensor,
            given,
        )
        self._recorded, self._then, self._seconds, self._taken = step, now, optimizer.seconds, 0
        self._losses, self._metrics, self.last = [], {}, record
        self._outputs.send("record", record)

    def _measured(
        self, optimizer: Any, stepper: Stepper, step: int, numbers: _Numbers
    ) -> dict[str, NDArray[np.float64]]:
        """What this step has measured, in the order of the facts' tensors."""
        if stepper.readings.step != step:
            return {}
        tensors = stepper.measured_tensors()
        tensors |= {name.removeprefix(OURS): values for name, values in tensors.items() if name.startswith(OURS)}
        tensors = {name: values for name, values in tensors.items() if not name.startswith(OURS)}
        if "spike" in tensors:
            tensors["spike"] *= _correction(len(stepper.tensors), numbers)
        places = self._columns.places(optimizer, stepper)
        return tensors if places is None else self._placed(len(stepper.tensors), places, tensors)

    def _placed(
        self, count: int, places: NDArray[np.intp], tensors: dict[str, NDArray[np.float64]]
    ) -> dict[str, NDArray[np.float64]]:
        """The columns of the parameters that there were at the start; that there are others now is said once."""
        strangers = count - int((places < count).sum())
        if strangers > self._strangers:
            said = f"parameters were added after the monitor was made, {strangers} of them: make a new Monitor to record them."
            self._outputs.send("event", Event(self._steps, self._calls, "note", said))
        self._strangers = strangers
        return {name: np.append(values, np.nan)[places] for name, values in tensors.items()}

    # ---- the end

    def close(self) -> None:
        """End monitoring: the last steps' losses are recorded, outputs are closed, the optimizer is as it was."""
        if self._outputs.closed:
            return
        try:
            self._probes.close()
            if self._losses and self._taken:
                self._record_rest()
        except Exception as error:
            self._give_up(error)
        self._outputs.close()
        self._at_exit.detach()
        self._leave()

    def _leave(self) -> None:
        """Leave the optimizer as it was."""
        with contextlib.suppress(Exception):  # one that is gone, or broken by now, is not the monitor's to report
            self._optimizer().watch(None)

    def _record_rest(self) -> None:
        """Losses since the last record, with nothing measured."""
        losses, given = losses_of(self._losses)
        rest = Record(self._steps, self._calls, time.perf_counter() - self._began, losses, {}, {}, given)
        self._losses = []
        self._outputs.send("record", rest)

    def _give_up(self, error: Exception) -> None:
        said = f"Monitor: {type(error).__name__}: {error}. Monitoring ends here; training goes on."
        warnings.warn(printable(said), RuntimeWarning, stacklevel=3)
        self._losses = []
        self._outputs.close()
        self._at_exit.detach()
        self._leave()

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, *_: object) -> None:
        if kind is not None:
            self.event("note", f"training ended by {kind.__name__}: {error}")
        self.close()


class _Inspector:
    """What the optimizer holds, and with it the monitor."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor

    def before(self, grads: Sequence[Any]) -> None:
        self._monitor._look(self._monitor._watchman.before, grads)

    def after(self, grads: Sequence[Any], stepper: Stepper) -> None:
        self._monitor._stepper = weakly(stepper)  # asking the optimizer for it would look at all parameters again
        self._monitor._look(self._monitor._watchman.after, grads, stepper)


def _rates(optimizer: Any, stepper: Stepper, step: int, numbers: _Numbers) -> dict[str, float]:
    """Each group's learning rate as the step has used it; schedulers have moved on by now."""
    used = dict[int, float]()
    ends = list(accumulate(map(len, stepper.groups)))
    for inputs, indices in numbers:
        if "lr" in inputs:
            used.setdefault(bisect_right(ends, indices[0]), inputs["lr"])
    rates = {}
    for number, (group, schedules) in enumerate(zip(optimizer.param_groups, optimizer.schedules, strict=True)):
        rate = used.get(number, schedules.get("lr", group.get("lr")))
        if rate is not None:
            rates[f"lr[{number}]" if number else "lr"] = float(rate(step - 1) if callable(rate) else rate)
    return rates


def _correction(count: int, numbers: _Numbers) -> NDArray[np.float64]:
    """What turns grad² / v into grad² / corrected v, per tensor: the second moment starts at 0 (Adam's bias correction)."""
    found = np.ones(count)
    for inputs, indices in numbers:
        if "beta2" in inputs:
            found[indices] = math.sqrt(1 - inputs["beta2"] ** inputs["step"])
    return found


def _in_float32(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """What is finite stays finite: a norm may lie beyond float32."""
    most = float(np.finfo(np.float32).max)
    return np.where(np.isfinite(values), np.clip(values, -most, most), values).astype(np.float32)
