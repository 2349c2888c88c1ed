"""What is sent to tracking services: to small stand-ins that have the signatures of wandb 0.31 and mlflow 3.17."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import steepest
import steepest.numpy as opt
from steepest.monitor.adapters import MLflow, WeightsAndBiases
from steepest.monitor.output import Output
from steepest.monitor.records import Event, Record
from tests.monitor.made import MEASURED, curve, facts, record

EVENT = Event(3, 3, "skipped", "no finite gradient", ("layers.0.weight",))
NAMES = [f"layers.{n}.weight" for n in range(3)]
ALL = [f"{measured}/{name}" for measured in (*MEASURED, "update_ratio", "effective_lr") for name in NAMES]


@dataclass
class Config:
    held: dict[str, Any] = field(default_factory=dict)

    def update(self, d: dict[str, Any], allow_val_change: bool | None = None) -> None:
        assert allow_val_change, "wandb refuses to change a value of a run that is resumed"
        self.held.update(d)


@dataclass
class FakeRun:
    """`wandb.Run`, as far as it is used."""

    logged: list[dict[str, Any]] = field(default_factory=list)
    metrics: dict[str, str | None] = field(default_factory=dict)
    config: Config = field(default_factory=Config)
    summary: dict[str, Any] = field(default_factory=dict)

    def log(self, data: dict[str, Any], step: int | None = None, commit: bool | None = None) -> None:
        assert step is None, "the run's own step is the user's: a smaller one than theirs would be dropped"
        self.logged.append(data)

    def define_metric(self, name: str, step_metric: str | None = None, step_sync: bool | None = None) -> None:
        self.metrics[name] = step_metric


@dataclass(frozen=True)
class Metric:
    key: str
    value: float
    timestamp: int
    step: int


@dataclass(frozen=True)
class RunTag:
    key: str
    value: str


@dataclass
class FakeClient:
    """`mlflow.MlflowClient`, as far as it is used."""

    batches: list[tuple[str, list[Metric], list[RunTag]]] = field(default_factory=list)

    def log_batch(
        self,
        run_id: str,
        metrics: Sequence[Metric] = (),
        params: Sequence[Any] = (),
        tags: Sequence[RunTag] = (),
        synchronous: bool | None = None,
    ) -> None:
        assert len(metrics) <= 1000 and len(tags) <= 100
        self.batches.append((run_id, list(metrics), list(tags)))


@dataclass
class FakeModule:
    """The module `mlflow`, as far as it is used."""

    client: FakeClient = field(default_factory=FakeClient)
    logged: list[tuple[dict[str, float], int | None, str | None]] = field(default_factory=list)
    tags: dict[str, Any] = field(default_factory=dict)

    def log_metrics(
        self,
        metrics: dict[str, float],
        step: int | None = None,
        synchronous: bool | None = None,
        run_id: str | None = None,
    ) -> None:
        self.logged.append((metrics, step, run_id))

    def set_tags(self, tags: dict[str, Any], synchronous: bool | None = None) -> None:
        self.tags.update(tags)

    def MlflowClient(self) -> FakeClient:  # noqa: N802  # theirs
        return self.client


@pytest.fixture
def entities(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "mlflow.entities", SimpleNamespace(Metric=Metric, RunTag=RunTag))


def sent(output: Output, **what: Any) -> None:
    output.start(facts(**what))
    output.record(record(10))
    output.event(EVENT)
    output.event(EVENT)
    output.close()


def test_weights_and_biases_gets_records_on_an_axis_of_their_own() -> None:
    run = FakeRun()
    sent(WeightsAndBiases(run))
    assert run.metrics == {"steepest/step": None, "steepest/*": "steepest/step"}
    assert run.config.held["steepest"]["chains"] == "adamw(0.001)\nsgd(0.1)"
    assert run.config.held["steepest"]["notes.batch_size"] == 32
    first, rest = run.logged
    names = ["step", "loss", "lr", "grad_norm", "step_seconds", *ALL]
    assert sorted(first) == sorted(f"steepest/{name}" for name in names)
    assert first["steepest/step"] == 10
    assert first["steepest/loss"] == pytest.approx(np.mean([curve(call) for call in range(1, 11)]))
    assert first["steepest/clipped/layers.2.weight"] == 18.0
    assert rest == {"steepest/step": 3, "steepest/events/skipped": 2}
    assert run.summary == {"steepest/last_event": "skipped at step 3: no finite gradient (layers.0.weight)"}


def test_weights_and_biases_gets_events_together_with_the_next_record() -> None:
    run = FakeRun()
    output = WeightsAndBiases(run)
    output.start(facts())
    output.event(EVENT)
    output.event(EVENT)
    assert run.logged == []
    output.record(record(10))
    output.record(record(20))
    output.close()
    first, second = run.logged
    assert (first["steepest/step"], first["steepest/events/skipped"]) == (10, 2)
    assert "steepest/events/skipped" not in second


def test_the_module_mlflow_gets_metrics_and_tags_of_the_active_run() -> None:
    module = FakeModule()
    sent(MLflow(module))
    assert module.tags["steepest.chains"] == "adamw(0.001)\nsgd(0.1)"
    assert module.tags["steepest.last_event"] == "skipped at step 3: no finite gradient (layers.0.weight)"
    (values, step, run_id), *events = module.logged
    assert (step, run_id) == (10, None)
    assert sorted(values) == sorted(
        [f"steepest/{name}" for name in ("loss", "lr", "grad_norm", "step_seconds")]
        + [f"steepest/tensors/{name}" for name in ALL]
    )
    assert events == [({"steepest/events/skipped": 1}, 3, None), ({"steepest/events/skipped": 2}, 3, None)]


def test_the_module_mlflow_with_a_run_id_sends_everything_there(entities: None) -> None:
    module = FakeModule()
    sent(MLflow(module, "abc"))
    assert {run_id for _, _, run_id in module.logged} == {"abc"}
    assert module.tags == {}
    assert [run_id for run_id, _, _ in module.client.batches] == ["abc"] * 3


def test_a_client_of_mlflow_gets_batches_for_its_run(entities: None) -> None:
    client = FakeClient()
    sent(MLflow(client, "abc"))
    assert {run_id for run_id, _, _ in client.batches} == {"abc"}
    metrics = [one for _, some, _ in client.batches for one in some]
    tags = {one.key: one.value for _, _, some in client.batches for one in some}
    assert {one.step for one in metrics} == {10, 3}
    assert next(one.value for one in metrics if one.key == "steepest/tensors/clipped/layers.2.weight") == 18.0
    assert tags["steepest.optimizer"] == "AdamW" and tags["steepest.every"] == "10"


def test_names_that_mlflow_refuses_are_written_otherwise_and_many_values_come_in_parts(entities: None) -> None:
    client, many = FakeClient(), 500
    output = MLflow(client, "abc")
    output.start(facts(many, notes={"size[größe]": 3}))
    assert "steepest.notes.size_größe_" in {tag.key for _, _, tags in client.batches for tag in tags}
    output.record(
        Record(
            1,
            1,
            0.1,
            np.ones(1),
            {"lr[1]": 0.1},
            {name: np.ones(many, dtype=np.float32) for name in ("grad_norm", "clipped", "cosine")},
        )
    )
    parts = [metrics for _, metrics, _ in client.batches if metrics]
    assert [len(part) for part in parts] == [1000, 502]
    assert [one.key for one in parts[0][:2]] == ["steepest/loss", "steepest/lr_1_"]


def test_of_very_many_tensors_services_get_quantiles(entities: None) -> None:
    client, run, many = FakeClient(), FakeRun(), 1001
    values = np.append(np.arange(many - 1, dtype=np.float32), np.float32("nan"))
    for output in (MLflow(client, "abc"), WeightsAndBiases(run)):
        output.start(facts(many))
        output.record(Record(1, 1, 0.1, np.ones(1), {"lr": 0.1}, {"grad_norm": values}))
    (metrics,) = [metrics for _, metrics, _ in client.batches if metrics]
    sent_to_mlflow = {one.key: one.value for one in metrics}
    names = ("lowest", "tenth", "median", "nine tenths", "highest")
    assert list(sent_to_mlflow)[:2] == ["steepest/loss", "steepest/lr"]
    assert [sent_to_mlflow[f"steepest/tensors/grad_norm/{name}"] for name in names] == [0.0, 100.0, 500.0, 899.0, 999.0]
    assert len(sent_to_mlflow) == 7
    assert {f"steepest/grad_norm/{name}" for name in names} < run.logged[-1].keys()


@pytest.mark.parametrize("make", [lambda: WeightsAndBiases(FakeRun()), lambda: MLflow(FakeModule())])
def test_only_the_first_process_sends(make) -> None:  # type: ignore[no-untyped-def]
    output = make()
    sent(output, process=1, processes=2)
    to = output._run if isinstance(output, WeightsAndBiases) else output._to
    assert to.logged == []


def test_what_can_not_be_sent_to_is_said_in_one_line() -> None:
    with pytest.raises(
        TypeError,
        match=r"^WeightsAndBiases: run must be the run that wandb\.init\(\) returned, got None, which has no method log\.$",
    ):
        WeightsAndBiases(None)
    with pytest.raises(
        TypeError,
        match=r"^MLflow: client_or_module must be the module mlflow or an MlflowClient, got 'mlflow', "
        r"which has no method log_batch\.$",
    ):
        MLflow("mlflow")
    with pytest.raises(
        TypeError,
        match=r"^MLflow: run_id must be the id of a run if a client is given, got None\. Pass client\.create_run\(",
    ):
        MLflow(FakeClient())


def test_the_loss_is_the_mean_of_those_given_and_is_not_sent_where_none_was() -> None:
    run, w = FakeRun(), np.ones(2)
    optimizer = opt.SGD({"w": w}, lr=0.01)
    with steepest.Monitor(optimizer, every=2, to=WeightsAndBiases(run), folder=None) as monitor:
        for losses in ((None, None), (None, 3.0), (1.0, float("nan"))):
            for loss in losses:
                optimizer.step({"w": w})
                monitor(loss)
    sent = [{name: value for name, value in one.items() if name == "steepest/loss"} for one in run.logged]
    assert sent[:2] == [{}, {"steepest/loss": 3.0}] and np.isnan(sent[2]["steepest/loss"])
