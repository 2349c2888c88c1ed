"""Schedules in the hands of trainers: what they log, save and monitor, and their own schedulers, which replace schedules."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

import steepest as s
import steepest.torch as opt
from steepest import schedules
from tests.torch.test_integrations import data, lightning, lightning_module, network, tiny_bert, trainer_of

COSINE = schedules.cosine(0.01, steps=6, warmup=2)
PLATEAU = schedules.ReduceOnPlateau(0.01, warmup=2)
KINDS = pytest.mark.parametrize("lr", [COSINE, PLATEAU], ids=["schedule", "plateau"])


@KINDS
def test_transformers_own_scheduler_replaces_a_schedule_with_one_warning_and_saves_checkpoints(
    lr: Any, tmp_path: Path
) -> None:
    model = tiny_bert()
    trainer = trainer_of(tmp_path, model, optimizers=(opt.AdamW(model.parameters(), lr=lr), None))
    trainer.args.logging_strategy, trainer.args.logging_steps = "steps", 1
    with pytest.warns(UserWarning, match="instead of") as caught:
        trainer.train()
    assert len([one for one in caught if "replace schedules" in str(one.message)]) == 1
    rates = [row["learning_rate"] for row in trainer.state.log_history if "learning_rate" in row]
    assert rates == [lr(0)] * 6 == [0.0] * 6  # the trainer's line starts from the number that it found
    state = json.loads((tmp_path / "checkpoint-3" / "trainer_state.json").read_text())
    assert [row["learning_rate"] for row in state["log_history"]] == rates[:3]


def test_transformers_logs_and_saves_the_numbers_of_a_schedule_under_a_constant_scheduler_of_its_own(
    tmp_path: Path,
) -> None:
    from transformers import TrainerCallback

    rates: list[float] = []

    class Seen(TrainerCallback):  # type: ignore[misc]  # transformers has no types
        def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            rates.append(kwargs["optimizer"].param_groups[0]["lr"])

    model = tiny_bert()
    falling = schedules.linear(0.01, 0.001, steps=6)
    trainer = trainer_of(
        tmp_path, model, optimizers=(opt.AdamW(model.parameters(), lr=falling), None), callbacks=[Seen()]
    )
    with pytest.warns(UserWarning, match=r"is 0\.01 instead of linear\(0\.01, final=0\.001, steps=6\)"):
        trainer.train()
    assert [round(rate, 9) for rate in rates] == [round(0.01 * (1 - t / 6), 9) for t in range(6)]


@lightning
@KINDS
@pytest.mark.parametrize("chain", [False, True], ids=["class", "chain"])
def test_lightnings_monitor_logs_rate_and_momentum_of_each_step(lr: Any, chain: bool, tmp_path: Path) -> None:
    import lightning.pytorch as pl
    from lightning.pytorch.callbacks import LearningRateMonitor
    from lightning.pytorch.loggers import CSVLogger

    def make(parameters: Any) -> Any:
        return opt.Optimizer(parameters, s.adamw(lr)) if chain else opt.AdamW(parameters, lr=lr)

    module = lightning_module(make)
    trainer = pl.Trainer(
        accelerator="cpu", max_steps=6, logger=CSVLogger(tmp_path), enable_checkpointing=False, log_every_n_steps=1,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[LearningRateMonitor("step", log_momentum=True)],
    )  # fmt: skip
    trainer.fit(module, DataLoader(data(), batch_size=6))
    rows = list(csv.DictReader((Path(trainer.logger.log_dir) / "metrics.csv").read_text().splitlines()))
    rate = next(name for name in rows[0] if name.startswith("lr") and not name.endswith("momentum"))
    assert [float(row[rate]) for row in rows if row[rate]] == pytest.approx([lr(t) for t in range(6)])
    assert {float(row[f"{rate}-momentum"]) for row in rows if row[f"{rate}-momentum"]} == {0.9}


def test_skorch_records_the_numbers_of_its_scheduler_which_replaces_a_schedule() -> None:
    from skorch import NeuralNetClassifier
    from skorch.callbacks import LRScheduler

    torch.manual_seed(0)
    x, y = data().tensors
    net = NeuralNetClassifier(
        network(), criterion=nn.CrossEntropyLoss, optimizer=opt.SGD, optimizer__lr=schedules.cosine(0.1, steps=20), max_epochs=3,
        train_split=None, verbose=0, batch_size=24,
        callbacks=[("rate", LRScheduler("StepLR", step_size=1, gamma=0.5))],
    )  # fmt: skip
    with pytest.warns(UserWarning, match=r"is 0\.1 instead of cosine\(0\.1, steps=20\)"):
        net.fit(x, y)
    assert net.history[:, "event_lr"] == pytest.approx([0.1, 0.05, 0.025])
    json.dumps(net.history.to_list())
