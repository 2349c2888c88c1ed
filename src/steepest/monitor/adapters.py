"""A run sent on to a tracking service, through an object that the user has made: nothing of theirs is imported here first.

Both send per record: the scalars, the mean of the losses given since the record before, and each tensor's values (of more than
500 tensors their quantiles, see `steepest.monitor.tags.QUANTILES`); an event counts up ``events/<kind>``, and its text is kept
as the last one. All names begin with ``steepest/``, beside the user's own.
Of a distributed run only the first process sends. What was sent stays: of steps that a rewind has undone both are there.
"""

from __future__ import annotations

import importlib
import re
import time
from typing import Any

from steepest.monitor.records import Event, Facts, Record
from steepest.monitor.tags import tagged

__all__ = ["MLflow", "WeightsAndBiases"]

_PREFIX = "steepest/"
_MOST = 1000
"""Metrics that MLflow takes at once."""


class WeightsAndBiases:
    """Send to Weights & Biases: ``WeightsAndBiases(wandb.init(project="digits"))``.

    Charts have the optimizer's step as their axis (``steepest/step``); the run's own step stays the user's to count.

    Parameters
    ----------
    run : what `wandb.init` returned, or the module after `wandb.init`.
    """

    def __init__(self, run: Any) -> None:
        _check("WeightsAndBiases", "run", run, ("log", "define_metric"), "the run that wandb.init() returned")
        self._run = run
        self._sends = _Sends()
        self._waiting: dict[str, float] = {}

    def start(self, facts: Facts) -> None:
        """Name the axis, and add the facts to the run's config."""
        self._sends.start(facts)
        if self._sends.on:
            self._run.define_metric(f"{_PREFIX}step")
            self._run.define_metric(f"{_PREFIX}*", step_metric=f"{_PREFIX}step")
            self._run.config.update({"steepest": _described(facts)}, allow_val_change=True)

    def record(self, record: Record) -> None:
        """Log a record, and the events since the one before."""
        if self._sends.on:
            self._log(record.step, self._sends.values(record))

    def event(self, event: Event) -> None:
        """Count an event, and keep its text in the run's summary.

        The count is logged with the next record: two calls of `log` without one of the user's between them would take two of
        the run's steps, and a user who numbers these would lose what belongs to the second.
        """
        if self._sends.on:
            self._waiting |= {f"{_PREFIX}step": event.step, **self._sends.count(event)}
            self._run.summary[f"{_PREFIX}last_event"] = _sentence(event)

    def close(self) -> None:
        """Log the last events; the run is the user's to finish."""
        if self._waiting:
            self._log(int(self._waiting[f"{_PREFIX}step"]), {})

    def _log(self, step: int, values: dict[str, float]) -> None:
        self._run.log({**self._waiting, f"{_PREFIX}step": step, **values})
        self._waiting = {}


class MLflow:
    """Send to MLflow: ``MLflow(mlflow)`` into the active run, or ``MLflow(MlflowClient(), run_id)``.

    Each record is a request that training waits for, unless the module's are asynchronous:
    ``mlflow.config.enable_async_logging()``. Tensors' values are under ``steepest/tensors/``; what a name may not contain is
    written as ``_``.

    Parameters
    ----------
    client_or_module : an `MlflowClient`, or the module `mlflow`.
    run_id : of the run; with the module, the active run unless given.
    """

    def __init__(self, client_or_module: Any, run_id: str | None = None) -> None:
        self._module = hasattr(client_or_module, "log_metrics")
        wanted = ("log_metrics", "set_tags") if self._module else ("log_batch",)
        _check("MLflow", "client_or_module", client_or_module, wanted, "the module mlflow or an MlflowClient")
        if run_id is None and not self._module:
            raise TypeError(
                "MLflow: run_id must be the id of a run if a client is given, got None. Pass client.create_run(…).info.run_id."
            )
        self._to, self._run_id = client_or_module, run_id
        # Its file store makes a file of each name, and a folder of what is before a slash: grad_norm can't be both.
        self._sends = _Sends(under="tensors/")

    def start(self, facts: Facts) -> None:
        """Set the facts as tags."""
        self._sends.start(facts)
        if self._sends.on:
            self._tags({f"steepest.{name}": value for name, value in _described(facts).items()})

    def record(self, record: Record) -> None:
        """Log a record."""
        if self._sends.on:
            self._metrics(self._sends.values(record), record.step)

    def event(self, event: Event) -> None:
        """Count an event, and keep its text as a tag."""
        if self._sends.on:
            self._metrics(self._sends.count(event), event.step)
            self._tags({"steepest.last_event": _sentence(event)})

    def close(self) -> None:
        """Nothing: the run is the user's to end."""

    def _metrics(self, values: dict[str, float], step: int) -> None:
        named = [(_allowed(name), value) for name, value in values.items()]
        now = int(time.time() * 1000)
        for start in range(0, len(named), _MOST):
            part = named[start : start + _MOST]
            if self._module:
                self._to.log_metrics(dict(part), step=step, **self._of_run())
            else:
                metric = importlib.import_module("mlflow.entities").Metric
                self._to.log_batch(self._run_id, metrics=[metric(name, value, now, step) for name, value in part])

    def _tags(self, tags: dict[str, Any]) -> None:
        texts = {_allowed(name): str(value)[:5000] for name, value in tags.items()}
        if self._module and self._run_id is None:
            self._to.set_tags(texts)
        else:
            client = self._to.MlflowClient() if self._module else self._to
            tag = importlib.import_module("mlflow.entities").RunTag
            client.log_batch(self._run_id, tags=[tag(name, text) for name, text in texts.items()])

    def _of_run(self) -> dict[str, str]:
        return {} if self._run_id is None else {"run_id": self._run_id}


def _allowed(name: str) -> str:
    """The name without what MLflow refuses."""
    return re.sub(r"[^\w\-. :/]", "_", name)


class _Sends:
    """What both send: names and values, and how often each kind of event has come."""

    def __init__(self, under: str = "") -> None:
        self.on, self._under = False, under
        self._names: list[str] = []
        self._counts: dict[str, int] = {}

    def start(self, facts: Facts) -> None:
        self.on = facts.process == 0
        self._names = [one.name for one in facts.tensors]

    def values(self, record: Record) -> dict[str, float]:
        _, given = record.given_losses()
        loss = {"loss": float(given.mean())} if len(given) else {}
        return {_PREFIX + name: value for name, value in {**loss, **tagged(record, self._names, self._under)}.items()}

    def count(self, event: Event) -> dict[str, float]:
        self._counts[event.kind] = self._counts.get(event.kind, 0) + 1
        return {f"{_PREFIX}events/{event.kind}": self._counts[event.kind]}


def _described(facts: Facts) -> dict[str, Any]:
    return {
        "optimizer": facts.optimizer,
        "chains": "\n".join(facts.chains),
        "framework": facts.framework,
        "every": facts.every,
        **{f"version.{name}": version for name, version in facts.versions.items()},
        **{f"notes.{name}": value for name, value in facts.notes.items()},
    }


def _sentence(event: Event) -> str:
    of = f" ({', '.join(event.tensors)})" if event.tensors else ""
    return f"{event.kind} at step {event.step}: {event.message}{of}"


def _check(what: str, argument: str, given: Any, methods: tuple[str, ...], rule: str) -> None:
    missing = [name for name in methods if not callable(getattr(given, name, None))]
    if missing:
        raise TypeError(f"{what}: {argument} must be {rule}, got {given!r}, which has no method {missing[0]}.")
