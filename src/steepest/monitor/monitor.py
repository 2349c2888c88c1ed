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
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steepest.checks import Count, check_value
from steepest.monitor.facts import facts_of, params_of, unwrapped
from steepest.monitor.nonfinite import Watchman
from steepest.monitor.output import Output
from steepest.monitor.probes import Probe, Probes, Subject
from steepest.monitor.records import Event, Record
from steepest.monitor.telemetry import STANDARD, check_names, watched

__all__ = ["Monitor"]


class Monitor:
    """Records what happens inside an optimizer's steps.

    Measurements join the passes that the step makes anyway, and only on every ``every``-th step; ``print(optimizer.plan)``
    shows what each of them adds. A flight recorder keeps the run in ``folder``, for ``steepest watch`` and ``steepest doctor``.

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
        self.optimizer = unwrapped(optimizer)
        check_value("Monitor", "every", every, Count)
        if self.optimizer.stepper.watch is not None:
            raise ValueError("Monitor: this optimizer has a monitor already. Close that one first: monitor.close().")
        if measurements is not None:
            measurements = (measurements,) if isinstance(measurements, str) else tuple(measurements)
            check_names("Monitor", measurements, self.optimizer.stepper.chains)
        outputs = _outputs(to)
        self.every, self.model = int(every), model
        self.last: Record | None = None
        self._probes, self._probing = Probes(probes), len(probes) > 0
        self._calls = 0
        self._losses: list[Any] = []
        self._metrics: dict[str, Any] = {}
        self._began = self._then = time.perf_counter()
        self._taken = 0
        watch = partial(watched, every=self.every, measurements=tuple(measurements or STANDARD))
        facts = facts_of(self.optimizer, model, self.every, notes or {})
        self.optimizer.watch(watch)
        self.facts = facts = replace(facts, plan=str(self.optimizer.plan))
        params = params_of(self.optimizer)
        names = [t.name for t in facts.tensors]
        self._groups = np.array([t.group for t in facts.tensors], dtype=np.intp)
        self._watchman = Watchman(self.optimizer, model, self._where, self.event)
        self.optimizer.watch(watch, self._watchman)
        self._steps = self.optimizer.steps
        self._recorded = self._steps - self._steps % self.every
        self._seconds = self.optimizer.seconds
        self.folder = _folder(folder, outputs)
        self._outputs = _Outputs([*_recorders(self.folder, outputs), *outputs])
        self._outputs.send("start", facts)
        self._probes.start(Subject(self.optimizer, tuple(names), tuple(params), model), self._steps)
        # The last page is written, too, where nobody calls close. The optimizer holds the monitor, so this is at its end.
        self._at_exit = weakref.finalize(self, _Outputs.close, self._outputs)

    # ---- while training

    def __call__(self, loss: Any = None, /, **metrics: Any) -> None:
        """Once after each of the optimizer's steps (or batches): the loss, and other numbers to keep by name.

        A tensor on a device is read only when a record is made, together with all since the record before. Where the optimizer's
        steps have gone back (a `Guard` has rewound them, an older checkpoint was loaded), recording goes on from there.
        """
        if self._outputs.closed:
            return
        try:
            if self._watchman.failed is not None:
                raise self._watchman.failed
            steps = self.optimizer.steps
            if steps < self._steps:
                self._go_back()
            if metrics:
                loss = metrics.pop("loss", loss)
                self._metrics |= metrics
            self._calls += 1
            self._losses.append(math.nan if loss is None else _without_graph(loss))
            if steps > self._steps:
                self._taken += steps - self._steps
                self._steps = steps
                if self._probing:
                    self._probes.measure(steps)
                if steps - steps % self.every > self._recorded:
                    self._record(steps - steps % self.every)
                if self._probing:
                    self._probes.before(steps + 1)
        except Exception as error:
            self._give_up(error)

    def event(self, event: Event | str, message: str = "", **of: Any) -> None:
        """Note that something happened at this step: an `Event`, or its kind and a message."""
        try:
            if self.optimizer.steps < self._steps:
                self._go_back(told=event == "rewound")
                # The watchman's events, which are no texts, come between a batch's forward pass and its step: too late for probes.
                if self._probing and isinstance(event, str):
                    self._probes.before(self._steps + 1)
            if isinstance(event, str):
                event = Event(self._steps, self._calls, event, message, **of)
            self._outputs.send("event", event)
        except Exception as error:
            self._give_up(error)

    def _where(self) -> tuple[int, int]:
        return self.optimizer.steps, self._calls

    def _go_back(self, told: bool = False) -> None:
        """Training was put back: the losses of what was undone are recorded, and what is recorded from here on replaces it."""
        steps, before = min(self.optimizer.steps, self._watchman.steps), self._steps
        if steps < self._recorded:  # else no record has been undone, and the losses wait for the next one
            if self._losses and self._taken:
                self._record_rest()
            self._recorded = steps - steps % self.every
            self._taken, self._then, self._seconds = 0, time.perf_counter(), self.optimizer.seconds
        self._probes.taken()
        self._steps = steps
        if not told:
            said = f"the optimizer's steps went back from {before} to {steps}"
            self._outputs.send("event", Event(steps, self._calls, "rewound", said))

    def _record(self, step: int) -> None:
        now = time.perf_counter()
        optimizer, taken = self.optimizer, max(1, self._taken)
        stepper = optimizer.stepper
        tensors = stepper.measured_tensors(np.float32)
        if "spike" in tensors:
            tensors["spike"] *= self._correction(step)
        scalars = {name: _number(value) for name, value in self._metrics.items()}
        for number, group in enumerate(optimizer.param_groups):
            if "lr" in group:
                lr = group["lr"]
                scalars[f"lr[{number}]" if number else "lr"] = float(lr(step - 1) if callable(lr) else lr)
        if "grad_norm" in tensors:
            scalars["grad_norm"] = math.hypot(*stepper.readings.values("grad_norm"))
        scalars["step_seconds"] = (now - self._then) / taken
        scalars["optimizer_seconds"] = (optimizer.seconds - self._seconds) / taken
        probed, per_tensor = self._probes.taken()
        record = Record(
            step,
            self._calls,
            now - self._began,
            _numbers(self._losses),
            scalars | probed,
            tensors | per_tensor,
        )
        self._recorded, self._then, self._seconds, self._taken = step, now, optimizer.seconds, 0
        self._losses, self._metrics, self.last = [], {}, record
        self._outputs.send("record", record)

    def _correction(self, step: int) -> NDArray[np.float64]:
        """What turns grad² / v into grad² / corrected v, per tensor: the second moment starts at 0 (Adam's bias correction)."""
        groups = self.optimizer.param_groups
        found = [g.get("betas", (0, None))[1] if "betas" in g else g.get("beta2") for g in groups]
        of_groups = [math.sqrt(1 - float(b) ** step) if isinstance(b, (int, float)) else 1.0 for b in found]
        return np.array(of_groups)[self._groups]

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
        self._at_exit()
        with contextlib.suppress(Exception):  # an optimizer that is broken by now is not the monitor's to report
            self.optimizer.watch(None)

    def _record_rest(self) -> None:
        """Losses since the last record, with nothing measured."""
        rest = Record(self._steps, self._calls, time.perf_counter() - self._began, _numbers(self._losses), {}, {})
        self._losses = []
        self._outputs.send("record", rest)

    def _give_up(self, error: Exception) -> None:
        said = f"Monitor: {type(error).__name__}: {error}. Monitoring ends here; training goes on."
        warnings.warn(said, RuntimeWarning, stacklevel=3)
        self._losses = []
        self._at_exit()
        with contextlib.suppress(Exception):
            self.optimizer.watch(None)

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class _Outputs:
    """The outputs that still work."""

    def __init__(self, outputs: Sequence[Output]) -> None:
        self.alive, self.closed = list(outputs), False

    def send(self, method: str, what: Any) -> None:
        for output in tuple(self.alive):
            try:
                getattr(output, method)(what)
            except Exception as error:
                self.alive = [one for one in self.alive if one is not output]
                warnings.warn(
                    f"Monitor: {type(output).__name__} failed and is closed ({type(error).__name__}: {error}). "
                    f"Training and the other outputs go on.",
                    RuntimeWarning,
                    stacklevel=4,
                )
                with contextlib.suppress(Exception):  # it has been said already that this one is broken
                    output.close()

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            for output in self.alive:
                try:
                    output.close()
                except Exception as error:
                    said = f"Monitor: {type(output).__name__} could not be closed ({type(error).__name__}: {error})."
                    warnings.warn(said, RuntimeWarning, stacklevel=3)
            self.alive = []


def _outputs(to: Sequence[Output] | Output) -> list[Output]:
    listed = list(to) if isinstance(to, Sequence) and not isinstance(to, str) else [to]
    for position, one in enumerate(listed):
        if not all(callable(getattr(one, name, None)) for name in ("start", "record", "event", "close")):
            hint = f" Call it: {one.__name__}(…)." if isinstance(one, type) else ""
            raise TypeError(
                f"Monitor: to[{position}] is {one!r}, allowed is an output: Terminal(), TensorBoard(folder), Report(path) ….{hint}"
            )
    return listed


def _folder(folder: str | Path | None, outputs: Sequence[Output]) -> Path | None:
    if folder is None:
        return None
    if str(folder) != "auto":
        return Path(folder)
    for one in outputs:
        if getattr(one, "folder", None) is not None:
            return Path(one.folder)  # type: ignore[attr-defined]  # asked for on the line above
        if getattr(one, "path", None) is not None:
            return Path(one.path).with_suffix("")  # type: ignore[attr-defined]  # likewise
    return Path("runs") / datetime.now().strftime("%Y-%m-%d-%H%M%S")


def _recorders(folder: Path | None, outputs: Sequence[Output]) -> list[Output]:
    """The flight recorder, unless there is to be none or one of the outputs is one."""
    if folder is None:
        return []
    from steepest.monitor.recorder import Recorder

    return [] if any(isinstance(one, Recorder) for one in outputs) else [Recorder(folder)]


def _without_graph(loss: Any) -> Any:
    """A number at once where no device is waited for: a tensor kept until the record would cost more."""
    if getattr(loss, "is_cpu", False):
        return loss.item()
    return loss.detach() if hasattr(loss, "detach") else loss


def _number(value: Any) -> float:
    return float(value.detach() if hasattr(value, "detach") else value)


def _numbers(values: Sequence[Any]) -> NDArray[np.float64]:
    """Numbers and tensors as an array: tensors on a device are read from it all at once."""
    if values and all(hasattr(v, "detach") for v in values):
        import torch

        return torch.stack([v.reshape(()) for v in values]).double().cpu().numpy()
    return np.array([float(v) for v in values], dtype=np.float64)
