"""The monitor in the trainers that people use: it records what happened, and training is what it is without it."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import steepest.monitor
import steepest.torch as opt
from steepest.monitor.records import Run

shared = importlib.import_module("tests.torch.test_integrations")
lightning = shared.lightning


class Kept:
    """An output that keeps what it is sent."""

    def __init__(self) -> None:
        self.facts: list[Any] = []
        self.records: list[Any] = []
        self.events: list[Any] = []
        self.closed = 0

    def start(self, facts: Any) -> None:
        self.facts.append(facts)

    def record(self, record: Any) -> None:
        self.records.append(record)

    def event(self, event: Any) -> None:
        self.events.append(event)

    def close(self) -> None:
        self.closed += 1

    @property
    def run(self) -> Run:
        return Run.of(self.facts[0], self.records, self.events)


def assert_recorded(kept: Kept, steps: list[int]) -> None:
    run = kept.run
    assert run.steps.tolist() == steps
    assert np.isfinite(run.losses).all()
    assert len(run.losses) == steps[-1]
    assert (run.tensors["grad_norm"] > 0).any(axis=1).all()
    assert kept.closed == 1


@lightning
def test_lightning_is_monitored_beside_its_own_clipping_and_logging(tmp_path: Path) -> None:
    import lightning.pytorch as pl

    kept = Kept()
    callback = steepest.monitor.LightningCallback(every=4, to=kept, folder=None)
    monitored, plain = shared.lightning_module(shared.ours), shared.lightning_module(shared.ours)
    seen: list[int] = []

    class Logging(pl.Callback):
        def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
            module.log("batches", float(module.batches))
            seen.append(trainer.global_step)

    shared.fitted(monitored, tmp_path / "a", callbacks=[Logging(), callback], gradient_clip_val=0.1)
    shared.fitted(plain, tmp_path / "b", gradient_clip_val=0.1)
    shared.assert_same_bits(monitored, plain)
    assert_recorded(kept, [4, 8, 12])
    assert seen == list(range(1, 13))
    assert kept.run.names == tuple(name for name, _ in monitored.named_parameters())
    assert kept.run.scalars["grad_norm"].max() <= 0.1001  # Lightning has clipped before the step


@lightning
def test_lightning_training_that_fails_closes_its_monitor(tmp_path: Path) -> None:
    kept = Kept()
    module = shared.lightning_module(shared.ours)
    step = module.training_step

    def failing(batch: Any, batch_idx: int) -> torch.Tensor:
        if module.batches == 5:
            raise ValueError("no such batch")
        return step(batch, batch_idx)  # type: ignore[no-any-return]  # a loss

    module.training_step = failing
    with pytest.raises(ValueError, match="no such batch"):
        shared.fitted(module, tmp_path, callbacks=[steepest.monitor.LightningCallback(every=2, to=kept, folder=None)])
    assert [(e.kind, e.message) for e in kept.events] == [("note", "training ended by ValueError: no such batch")]
    assert kept.closed == 1


def test_transformers_trainer_is_monitored_with_the_loss_of_every_step(tmp_path: Path) -> None:
    kept = Kept()
    models = []
    for callbacks in ([steepest.monitor.TransformersCallback(every=2, to=kept, folder=None)], []):
        model = shared.tiny_bert()
        optimizers = shared.with_scheduler(shared.ours, model)
        shared.trainer_of(tmp_path / str(len(models)), model, optimizers=optimizers, callbacks=callbacks).train()
        models.append(model)
        assert not model._forward_hooks
    shared.assert_same_bits(*models)
    assert_recorded(kept, [2, 4, 6])
    np.testing.assert_allclose(kept.run.scalars["lr"], [0.01 * 5 / 6, 0.01 * 3 / 6, 0.01 / 6], rtol=1e-12)
    assert kept.run.names == tuple(name for name, _ in model.named_parameters())


def test_skorch_is_monitored_and_can_be_cloned() -> None:
    from sklearn.base import clone
    from skorch import NeuralNetClassifier

    x, y = shared.data().tensors
    kept, nets = Kept(), []
    for callbacks in ([steepest.monitor.SkorchCallback(every=4, to=[kept], folder=None)], None):
        torch.manual_seed(1)
        net = NeuralNetClassifier(
            shared.network(), criterion=nn.CrossEntropyLoss, optimizer=opt.AdamW, optimizer__lr=0.01, max_epochs=3,
            batch_size=6, train_split=None, verbose=0, iterator_train__shuffle=False, callbacks=callbacks,
        )  # fmt: skip
        net.fit(x.numpy(), y.numpy())
        nets.append(net)
    shared.assert_same_bits(nets[0].module_, nets[1].module_)
    assert_recorded(kept, [4, 8, 12])
    assert clone(steepest.monitor.SkorchCallback(every=7)).every == 7
