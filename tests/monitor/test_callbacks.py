"""The monitor in the trainers that people use: it records what happened, and training is what it is without it."""

from __future__ import annotations

import copy
import importlib
import pickle
import warnings
from collections.abc import Callable, Iterator
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


# ---- the level of the loss where gradients are accumulated


@lightning
@pytest.mark.parametrize(
    ("accumulated", "steps"), [(4, 3), (5, 3)]
)  # 12 batches in 3 epochs: the last window has 4 or 4
def test_lightnings_losses_are_those_of_the_batches_whatever_is_accumulated(
    accumulated: int, steps: int, tmp_path: Path
) -> None:
    kept = Kept()
    module = shared.lightning_module(shared.ours)
    returned: list[float] = []
    step = module.training_step

    def seen(batch: Any, batch_idx: int) -> Any:
        loss = step(batch, batch_idx)
        returned.append(loss.item())
        return {"loss": loss} if batch_idx % 2 else loss

    module.training_step = seen
    callback = steepest.monitor.LightningCallback(every=1, to=kept, folder=None)
    shared.fitted(module, tmp_path, callbacks=[callback], accumulate_grad_batches=accumulated)
    assert kept.run.steps.tolist() == list(range(1, steps + 1))
    np.testing.assert_allclose(kept.run.losses, returned, rtol=1e-6)


@lightning
@pytest.mark.filterwarnings("ignore:`training_step` returned `None`")
def test_a_lightning_schedule_of_accumulation_and_batches_without_a_loss_keep_the_level(tmp_path: Path) -> None:
    from lightning.pytorch.callbacks import GradientAccumulationScheduler

    kept = Kept()
    module = shared.lightning_module(shared.ours)
    returned: list[float] = []
    step = module.training_step

    def seen(batch: Any, batch_idx: int) -> Any:
        loss = step(batch, batch_idx)
        if batch_idx == 1:
            return None
        returned.append(loss.item())
        return loss

    module.training_step = seen
    callback = steepest.monitor.LightningCallback(every=1, to=kept, folder=None)
    shared.fitted(module, tmp_path, callbacks=[GradientAccumulationScheduler({0: 1, 1: 2, 2: 4}), callback])
    assert len(returned) == 9
    np.testing.assert_allclose(kept.run.losses, returned, rtol=1e-6)
    assert kept.run.loss_calls.tolist() == [1, 3, 4, 5, 7, 8, 9, 11, 12]


@lightning
def test_the_loss_of_a_manual_lightning_step_is_taken_as_it_is_and_a_missing_one_is_said_once(tmp_path: Path) -> None:
    for gives in (True, False):
        kept = Kept()
        module = shared.lightning_module(shared.ours)
        module.automatic_optimization = False

        def training_step(batch: Any, batch_idx: int, module: Any = module, gives: bool = gives) -> Any:
            loss = nn.functional.cross_entropy(module.network(batch[0]), batch[1])
            module.optimizers().zero_grad()
            module.manual_backward(loss)
            module.optimizers().step()
            return torch.tensor(2.5) if gives else None

        module.training_step = training_step
        callback = steepest.monitor.LightningCallback(every=2, to=kept, folder=None)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            shared.fitted(module, tmp_path, callbacks=[callback])
        ours = [str(one.message) for one in said if "LightningCallback" in str(one.message)]
        assert kept.run.losses.tolist() == ([2.5] * 12 if gives else [])
        missing = 'LightningCallback: the records have no loss: training_step returned none. Return the loss, or {"loss": loss}.'
        assert ours == ([] if gives else [missing])


def tiny_gpt() -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(1)
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=32, n_positions=16, n_embd=16, n_layer=1, n_head=2, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
            bos_token_id=0, eos_token_id=0, loss_type="ForCausalLMLoss",
        )
    )  # fmt: skip


def texts() -> list[dict[str, Any]]:
    words = torch.randint(0, 32, (24, 8), generator=torch.Generator().manual_seed(2))
    return [{"input_ids": row, "labels": row.clone()} for row in words]


def language_trainer(folder: Path, callback: Any, cls: Any = None, function: Any = None, **settings: Any) -> Any:
    from transformers import Trainer, TrainingArguments

    arguments = TrainingArguments(
        output_dir=str(folder), per_device_train_batch_size=2, save_strategy="no", logging_steps=1, report_to=[],
        disable_tqdm=True, use_cpu=True, dataloader_pin_memory=False, **{"max_steps": 4, **settings},
    )  # fmt: skip
    model = tiny_gpt()
    optimizer = opt.AdamW(model.parameters(), lr=0.01)
    return (cls or Trainer)(
        model=model, args=arguments, train_dataset=texts(), compute_loss_func=function, callbacks=[callback],
        optimizers=(optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)),
    )  # fmt: skip


def summed_loss(outputs: Any, labels: Any, num_items_in_batch: Any) -> Any:
    logits = outputs.logits.flatten(0, 1)
    return nn.functional.cross_entropy(logits, labels.flatten(), reduction="sum") / num_items_in_batch


def with_own_loss() -> Any:
    from transformers import Trainer

    class Own(Trainer):
        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
            inputs = {**inputs}
            labels = inputs.pop("labels")
            loss = nn.functional.cross_entropy(model(**inputs).logits.flatten(0, 1), labels.flatten())
            return (loss, None) if return_outputs else loss

    return Own


@pytest.mark.parametrize(
    ("own_class", "function", "settings"),
    [
        (False, None, {}),
        (False, None, {"gradient_accumulation_steps": 4}),
        (False, None, {"gradient_accumulation_steps": 5, "max_steps": 6}),  # the third step has 2 batches
        (False, None, {"gradient_accumulation_steps": 4, "label_smoothing_factor": 0.1}),
        (False, summed_loss, {"gradient_accumulation_steps": 4}),
        (True, None, {"gradient_accumulation_steps": 4}),
    ],
)
def test_the_transformers_loss_is_the_one_that_the_trainer_logs(
    own_class: bool, function: Any, settings: dict[str, Any], tmp_path: Path
) -> None:
    kept = Kept()
    callback = steepest.monitor.TransformersCallback(every=1, to=kept, folder=None)
    trainer = language_trainer(tmp_path, callback, with_own_loss() if own_class else None, function, **settings)
    trainer.train()
    logged = [one["loss"] for one in trainer.state.log_history if "loss" in one]
    assert len(logged) == trainer.state.global_step
    np.testing.assert_allclose(kept.run.losses, logged, atol=1e-6, rtol=1e-6)
    assert "training_step" not in vars(trainer)


def test_a_transformers_trainer_without_a_training_step_is_told_once_that_it_has_no_loss(tmp_path: Path) -> None:
    kept = Kept()
    callback = steepest.monitor.TransformersCallback(every=2, to=kept, folder=None)
    trainer = language_trainer(tmp_path, callback)
    callback._trainer = lambda: None
    with pytest.warns(RuntimeWarning, match="TransformersCallback: the records have no loss: this trainer") as said:
        trainer.train()
    assert len([one for one in said if "no loss" in str(one.message)]) == 1
    assert kept.run.steps.tolist() == [2, 4]


# ---- trainings that end by an error, and those after them


class Interrupted(list):  # type: ignore[type-arg]  # of rows
    """Data of which the sixth row that is read raises."""

    def __init__(self, rows: Any, error: BaseException) -> None:
        super().__init__(rows)
        self.error, self.read = error, 0

    def __getitem__(self, number: Any) -> Any:
        self.read += 1
        if self.read == 6:
            raise self.error
        return super().__getitem__(number)


LEFT = "this training ended without on_train_end, by an error or an interrupt"


def test_transformers_training_goes_on_after_an_interrupt_and_is_monitored_anew(tmp_path: Path) -> None:
    kept = Kept()
    callback = steepest.monitor.TransformersCallback(every=1, to=kept, folder=None)
    trainer = language_trainer(tmp_path, callback)
    trainer.train_dataset = Interrupted(texts(), KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert not trainer.model._forward_hooks
    trainer.train()
    assert [one.message for one in kept.events] == [LEFT]
    assert (kept.closed, len(kept.facts), "training_step" in vars(trainer)) == (2, 2, False)
    assert [one.step for one in kept.records][-1] == trainer.optimizer.optimizer.steps
    assert trainer.optimizer.optimizer.stepper.watch is None


@lightning
def test_lightning_fits_again_with_the_same_callback_after_an_interrupt(tmp_path: Path) -> None:
    kept = Kept()
    module = shared.lightning_module(shared.ours)
    step = module.training_step

    def interrupted(batch: Any, batch_idx: int) -> Any:
        module.training_step = step
        raise KeyboardInterrupt

    callback = steepest.monitor.LightningCallback(every=4, to=kept, folder=None)
    module.training_step = interrupted
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        shared.fitted(module, tmp_path, callbacks=[callback])
    shared.fitted(module, tmp_path, callbacks=[callback])
    assert ([one.kind for one in kept.events], kept.closed) == (["note"], 2)
    assert [one.step for one in kept.records] == [4, 8, 12]


def test_transformers_finds_a_smaller_batch_that_fits_with_a_monitor_too(tmp_path: Path) -> None:
    from transformers import Trainer

    class Full(Trainer):
        def training_step(self, model: Any, inputs: Any, *given: Any, **named: Any) -> Any:
            if len(inputs["input_ids"]) == 2:
                raise RuntimeError("CUDA out of memory. Tried to allocate")
            return super().training_step(model, inputs, *given, **named)

    kept = Kept()
    callback = steepest.monitor.TransformersCallback(every=1, to=kept, folder=None)
    trainer = language_trainer(tmp_path, callback, Full, auto_find_batch_size=True)
    trainer.train()
    assert trainer._train_batch_size == 1
    assert [one.message[:36] for one in kept.events] == ["training ended by RuntimeError: CUDA"]
    assert [one.step for one in kept.records] == [1, 2, 3, 4]
    assert all(np.isfinite(one.losses).all() for one in kept.records)
    assert kept.closed == 2


def skorch_net(callback: Any, **settings: Any) -> Any:
    from skorch import NeuralNetClassifier

    torch.manual_seed(1)
    return NeuralNetClassifier(
        shared.network(), criterion=nn.CrossEntropyLoss, optimizer=opt.AdamW, optimizer__lr=0.01, max_epochs=1, batch_size=6,
        train_split=None, verbose=0, iterator_train__shuffle=False, callbacks=[callback], **settings,
    )  # fmt: skip


def test_a_skorch_net_with_a_warm_start_fits_again_after_an_error() -> None:
    kept = Kept()
    callback = steepest.monitor.SkorchCallback(every=1, to=kept, folder=None)
    net = skorch_net(callback, warm_start=True)
    x, y = (tensor.numpy() for tensor in shared.data().tensors)
    net.initialize()
    broken = net.train_step_single

    def failing(batch: Any, **given: Any) -> Any:
        net.train_step_single = broken
        raise RuntimeError("once")

    net.train_step_single = failing
    with pytest.raises(RuntimeError, match="once"):
        net.fit(x, y)
    net.fit(x, y)
    net.partial_fit(x, y)
    assert [one.message for one in kept.events] == [LEFT]
    assert [one.step for one in kept.records] == list(range(1, 9))
    assert kept.closed == 3


def test_a_monitored_skorch_net_can_be_copied_and_pickled() -> None:
    net = skorch_net(steepest.monitor.SkorchCallback(every=1, folder=None))
    x, y = (tensor.numpy() for tensor in shared.data().tensors)
    net.fit(x, y)
    for copied in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        np.testing.assert_array_equal(copied.predict_proba(x), net.predict_proba(x))
        copied.partial_fit(x, y)
    assert net.callbacks[0].monitor_.last.step == 4


# ---- a monitor that can't be made, or fails


@pytest.fixture
def trainings(tmp_path: Path) -> Iterator[dict[str, Callable[[Any], None]]]:
    """A training under each trainer, with a callback of its own, of whose optimizer there can be no monitor."""
    x, y = (tensor.numpy() for tensor in shared.data().tensors)

    def lightning_fit(callback: Any) -> None:
        shared.fitted(shared.lightning_module(shared.theirs), tmp_path, callbacks=[callback])

    def transformers_train(callback: Any) -> None:
        model = shared.tiny_bert()
        optimizers = shared.with_scheduler(shared.theirs, model)
        shared.trainer_of(tmp_path, model, optimizers=optimizers, callbacks=[callback]).train()

    def skorch_fit(callback: Any) -> None:
        skorch_net(callback).set_params(optimizer=torch.optim.AdamW).fit(x, y)

    yield {"Lightning": lightning_fit, "Transformers": transformers_train, "Skorch": skorch_fit}


TRAINERS = ["Lightning", "Transformers", "Skorch"]


@lightning
@pytest.mark.parametrize("trainer", TRAINERS)
def test_another_optimizer_is_one_warning_and_training_goes_on(trainer: str, trainings: Any) -> None:
    callback = getattr(steepest.monitor, f"{trainer}Callback")(every=1, folder=None)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        trainings[trainer](callback)
    ours = [str(one.message) for one in said if f"{trainer}Callback" in str(one.message)]
    assert len(ours) == 1
    assert ours[0].startswith(
        f"{trainer}Callback: TypeError: Monitor: optimizer must be one of steepest.torch or steepest.numpy"
    )
    assert ours[0].endswith("This training is not recorded; it goes on.")


@pytest.mark.parametrize("trainer", TRAINERS)
def test_mistakes_in_a_callbacks_arguments_are_errors_before_training(trainer: str) -> None:
    make = getattr(steepest.monitor, f"{trainer}Callback")
    for wrong, error, message in (
        ({"evry": 5}, TypeError, f"{trainer}Callback: unknown argument 'evry'. Did you mean 'every'?"),
        ({"every": 0}, ValueError, f"{trainer}Callback: every"),
        ({"measurements": ["gradnorm"]}, ValueError, f"{trainer}Callback: unknown measurement 'gradnorm'."),
        ({"to": [3]}, TypeError, "Monitor: to[0] must be an output, got 3."),
        ({"probes": [3]}, TypeError, "probes[0] must be a probe, got 3."),
    ):
        with pytest.raises(error) as raised:
            make(**wrong)
        assert str(raised.value).startswith(message)


@lightning
def test_a_lightning_module_without_that_optimizer_is_one_warning(tmp_path: Path) -> None:
    callback = steepest.monitor.LightningCallback(optimizer=3, folder=None)
    with pytest.warns(RuntimeWarning, match="LightningCallback: IndexError: list index out of range. This training is"):
        shared.fitted(shared.lightning_module(shared.ours), tmp_path, callbacks=[callback])
    assert callback.monitor is None
