"""The optimizers in the trainers that people use: the same weights as with torch's own class, interrupted or not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, StepLR
from torch.utils.data import DataLoader, TensorDataset

import steepest as s
import steepest.torch as opt

Make = Callable[[Any], torch.optim.Optimizer]


def ours(params: Any) -> torch.optim.Optimizer:
    return opt.AdamW(params, lr=0.01, weight_decay=0.1)


def theirs(params: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(params, lr=0.01, weight_decay=0.1)


def network() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 3))


def data(count: int = 24) -> TensorDataset:
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(count, 5, generator=generator)
    return TensorDataset(x, x[:, :3].argmax(dim=1))


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def assert_same_to_rounding(a: nn.Module, b: nn.Module) -> None:
    torch.testing.assert_close(weights(a), weights(b), rtol=1e-4, atol=1e-5)


def assert_same_bits(a: nn.Module, b: nn.Module) -> None:
    torch.testing.assert_close(weights(a), weights(b), rtol=0, atol=0)


# ---- a plain loop


def test_a_plain_loop_with_a_scheduler_and_closures_trains_as_with_torchs_class() -> None:
    def trained(make: Make) -> nn.Module:
        model = network()
        optimizer = make(model.parameters())
        scheduler = StepLR(optimizer, 4, gamma=0.3)
        calls = 0
        for _ in range(3):
            for x, y in DataLoader(data(), batch_size=6):

                def closure(x: torch.Tensor = x, y: torch.Tensor = y) -> torch.Tensor:
                    nonlocal calls
                    calls += 1
                    optimizer.zero_grad()
                    loss = nn.functional.cross_entropy(model(x), y)
                    loss.backward()
                    return loss

                assert optimizer.step(closure).ndim == 0
                scheduler.step()
        assert calls == 12
        return model

    assert_same_to_rounding(trained(ours), trained(theirs))


# ---- Lightning


def lightning_module(make: Make, schedule: bool = False) -> Any:
    import lightning.pytorch as pl

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = network()
            self.batches = 0

        def training_step(self, batch: Any, _: int) -> torch.Tensor:
            self.batches += 1
            x, y = batch
            return nn.functional.cross_entropy(self.network(x), y)

        def configure_optimizers(self) -> Any:
            optimizer = make(self.parameters())
            if not schedule:
                return optimizer
            scheduler = LambdaLR(optimizer, lambda step: 0.9**step)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    return Module()


def fitted(module: Any, folder: Path, epochs: int = 3, resume: Path | None = None, **arguments: Any) -> Any:
    import lightning.pytorch as pl

    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=epochs, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder, **arguments,
    )  # fmt: skip
    trainer.fit(module, DataLoader(data(), batch_size=6), ckpt_path=resume, weights_only=True)
    return trainer


# It recommends more workers for loading, which a test of 24 rows has no use for; it calls what this PyTorch deprecates.
lightning = pytest.mark.filterwarnings(
    "ignore:The 'train_dataloader' does not have many workers",
    r"ignore:`isinstance\(treespec, LeafSpec\)` is deprecated:FutureWarning",
)


@lightning
@pytest.mark.parametrize("schedule", [False, True])
def test_lightning_trains_as_with_torchs_class(schedule: bool, tmp_path: Path) -> None:
    a, b = lightning_module(ours, schedule), lightning_module(theirs, schedule)
    for module in (a, b):
        fitted(module, tmp_path)
        assert module.batches == 12  # each closure has run once
    assert_same_to_rounding(a, b)


@lightning
def test_a_run_resumed_from_lightnings_checkpoint_is_the_uninterrupted_one(tmp_path: Path) -> None:
    whole = lightning_module(ours, schedule=True)
    fitted(whole, tmp_path, epochs=4)
    fitted(lightning_module(ours, schedule=True), tmp_path, epochs=2).save_checkpoint(tmp_path / "half.ckpt")
    rest = lightning_module(ours, schedule=True)
    trainer = fitted(rest, tmp_path, epochs=4, resume=tmp_path / "half.ckpt")
    assert rest.batches == 8
    assert trainer.optimizers[0].steps == 16
    assert_same_bits(whole, rest)


@lightning
@pytest.mark.parametrize("algorithm", ["norm", "value"])
def test_lightnings_gradient_clipping_clips(algorithm: str, tmp_path: Path) -> None:
    modules = [lightning_module(make) for make in (ours, theirs, ours)]
    for module, limit in zip(modules, (0.05, 0.05, None), strict=True):
        fitted(module, tmp_path, gradient_clip_val=limit, gradient_clip_algorithm=algorithm)
    clipped, expected, free = modules
    assert_same_to_rounding(clipped, expected)
    assert not torch.allclose(clipped.network[0].weight, free.network[0].weight, atol=1e-4)


@lightning
def test_a_clip_in_the_chain_stands_in_for_lightnings(tmp_path: Path) -> None:
    def make(params: Any) -> torch.optim.Optimizer:
        return opt.Optimizer(params, s.chain(s.clip_by_global_norm(0.05), s.adamw(0.01, weight_decay=0.1)))

    inside, outside = lightning_module(make), lightning_module(theirs)
    fitted(inside, tmp_path, gradient_clip_val=None)
    fitted(outside, tmp_path, gradient_clip_val=0.05)
    assert_same_to_rounding(inside, outside)


@lightning
def test_lightning_accumulates_into_released_gradients(tmp_path: Path) -> None:
    def make(params: Any) -> torch.optim.Optimizer:
        optimizer = ours(params)
        assert isinstance(optimizer, opt.Optimizer)
        opt.release_gradients(optimizer, accumulate=2)
        return optimizer

    released, usual = lightning_module(make), lightning_module(ours)
    for module in (released, usual):
        fitted(module, tmp_path, accumulate_grad_batches=2)
    assert_same_bits(released, usual)


# ---- Transformers


def tiny_bert() -> Any:
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(1)
    return BertForSequenceClassification(
        BertConfig(
            vocab_size=32, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
            max_position_embeddings=16, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, num_labels=3,
        )
    )  # fmt: skip


def sentences() -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(2)
    words = torch.randint(0, 32, (24, 8), generator=generator)
    return [{"input_ids": row, "labels": int(row.sum()) % 3} for row in words]


def trainer_of(folder: Path, model: Any, **arguments: Any) -> Any:
    from transformers import Trainer, TrainingArguments

    settings = TrainingArguments(
        output_dir=str(folder), max_steps=6, per_device_train_batch_size=4, learning_rate=0.01, weight_decay=0.1,
        lr_scheduler_type="linear", max_grad_norm=1.0, save_steps=3, save_strategy="steps", logging_strategy="no",
        report_to=[], disable_tqdm=True, use_cpu=True, dataloader_pin_memory=False,
    )  # fmt: skip
    return Trainer(model=model, args=settings, train_dataset=sentences(), **arguments)


def with_scheduler(make: Make, model: nn.Module) -> tuple[Any, Any]:
    optimizer = make(model.parameters())
    return optimizer, LambdaLR(optimizer, lambda step: 1 - step / 6)


def test_transformers_trains_with_an_optimizer_and_its_scheduler(tmp_path: Path) -> None:
    models = []
    for make in (ours, theirs):
        model = tiny_bert()
        trainer_of(tmp_path / make.__name__, model, optimizers=with_scheduler(make, model)).train()
        models.append(model)
    assert_same_to_rounding(*models)


def test_transformers_makes_the_optimizer_of_its_class_with_its_two_groups(tmp_path: Path) -> None:
    models = []
    for cls in (opt.AdamW, torch.optim.AdamW):
        model = tiny_bert()
        trainer = trainer_of(tmp_path / cls.__module__, model, optimizer_cls_and_kwargs=(cls, {"lr": 0.01}))
        trainer.train()
        groups = trainer.optimizer.param_groups
        assert [g["weight_decay"] for g in groups] == [0.1, 0.0]
        models.append(model)
    assert_same_to_rounding(*models)


def test_a_run_resumed_from_transformers_checkpoint_is_the_uninterrupted_one(tmp_path: Path) -> None:
    whole = tiny_bert()
    trainer_of(tmp_path, whole, optimizers=with_scheduler(ours, whole)).train()
    rest = tiny_bert()
    trainer = trainer_of(tmp_path, rest, optimizers=with_scheduler(ours, rest))
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert trainer.optimizer.optimizer.steps == 6
    assert_same_bits(whole, rest)


# ---- Accelerate


@pytest.fixture
def accelerator() -> Iterator[Any]:
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, GradientState, PartialState

    def forget() -> None:
        for state in (AcceleratorState, GradientState, PartialState):
            state._reset_state()

    forget()
    yield Accelerator(cpu=True, gradient_accumulation_steps=2)
    forget()


def test_accelerate_prepares_accumulates_clips_and_schedules(accelerator: Any) -> None:
    def trained(make: Make) -> nn.Module:
        model = network()
        optimizer = make(model.parameters())
        scheduler = StepLR(optimizer, 2, gamma=0.3)
        loader = DataLoader(data(), batch_size=6)
        model, optimizer, loader, scheduler = accelerator.prepare(model, optimizer, loader, scheduler)
        for _ in range(3):
            for x, y in loader:
                with accelerator.accumulate(model):
                    accelerator.backward(nn.functional.cross_entropy(model(x), y))
                    if accelerator.sync_gradients:
                        accelerator.clip_grad_norm_(model.parameters(), 0.1)
                    optimizer.step()
                    scheduler.step()
                    optimizer.zero_grad()
        return accelerator.unwrap_model(model)

    assert_same_to_rounding(trained(ours), trained(theirs))


# ---- skorch


def test_skorch_trains_with_groups_by_pattern() -> None:
    from skorch import NeuralNetClassifier

    x, y = data().tensors
    nets = []
    for cls in (opt.AdamW, torch.optim.AdamW):
        calls = []

        class Counted(NeuralNetClassifier):
            def train_step_single(self, batch: Any, calls: list[int] = calls, **arguments: Any) -> Any:
                calls.append(1)
                return super().train_step_single(batch, **arguments)

        torch.manual_seed(1)
        net = Counted(
            network(), criterion=nn.CrossEntropyLoss, optimizer=cls, optimizer__lr=0.01,
            optimizer__param_groups=[("*bias", {"lr": 0.1, "weight_decay": 0.0})], max_epochs=3, batch_size=6,
            train_split=None, verbose=0, iterator_train__shuffle=False,
        )  # fmt: skip
        net.fit(x.numpy(), y.numpy())
        assert len(calls) == 12  # each closure has run once
        assert [g["lr"] for g in net.optimizer_.param_groups] == [0.1, 0.01]
        nets.append(net.module_)
    assert_same_to_rounding(*nets)
