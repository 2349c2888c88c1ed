"""Optimizers that are copied, wrapped and deleted: one core for all handles, and nothing that outlives it."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer

import steepest as s
import steepest.torch as opt

NAMED = [
    opt.SGD, opt.Adagrad, opt.RMSprop, opt.Adadelta, opt.Adam, opt.AdamW, opt.Adamax, opt.NAdam, opt.RAdam, opt.Lion, opt.LAMB,
    opt.LARS,
]  # fmt: skip
Make = Callable[[Any], opt.Optimizer]
MAKES: list[Make] = [
    *NAMED,
    lambda p: opt.Lookahead(opt.SGD(p, lr=0.1)),
    lambda p: opt.Optimizer(p, s.chain(s.clip_by_global_norm(1.0), s.adamw(s.schedules.cosine(0.1, 9)), s.ema(0.9))),
    lambda p: opt.Optimizer(p, s.chain(s.clip_by_norm(1.0), s.adamw(0.1)), engine="arrays"),
]


@pytest.fixture
def without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def trained(make: Make, steps: int = 2) -> tuple[torch.nn.Module, opt.Optimizer]:
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
    optimizer = make(net.parameters())
    for _ in range(steps):
        optimizer.zero_grad()
        net(torch.ones(2, 3)).sum().backward()
        optimizer.step()
    return net, optimizer


def alive(net: torch.nn.Module, optimizer: Any) -> list[Any]:
    """Weak references to everything that must go with a model and its optimizer."""
    states = [v for entry in optimizer.state.values() for v in entry.values()]
    return [weakref.ref(one) for one in (*net.parameters(), *states, optimizer)]


@pytest.mark.parametrize("make", MAKES)
@pytest.mark.usefixtures("without_collector")
def test_a_deleted_model_and_optimizer_are_freed_without_the_collector(make: Make) -> None:
    net, optimizer = trained(make)
    references = alive(net, optimizer)
    del net, optimizer
    assert [r() for r in references] == [None] * len(references)


@pytest.mark.usefixtures("without_collector")
@pytest.mark.parametrize("keep", ["handle", "no handle", "removed"])
def test_released_gradients_keep_neither_model_nor_optimizer_alive(keep: str) -> None:
    net, optimizer = trained(opt.AdamW)
    handle = opt.release_gradients(optimizer)
    for _ in range(2):
        net(torch.ones(2, 3)).sum().backward()
        optimizer.step()
    if keep == "removed":
        handle.remove()
    if keep == "no handle":
        del handle
    references = alive(net, optimizer)
    del net, optimizer
    if keep != "handle":  # a handle may know the parameters that it has hooks on
        assert [r() for r in references] == [None] * len(references)
    assert references[-1]() is None


@pytest.mark.usefixtures("without_collector")
def test_schedulers_new_memory_frozen_layers_and_state_dicts_keep_nothing_alive() -> None:
    net, optimizer = trained(opt.Adam)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    saved = copy.deepcopy(optimizer.state_dict())
    net[0].weight.data = net[0].weight.data.clone()
    net[2].requires_grad_(False)
    optimizer.zero_grad()
    net(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    scheduler.step()
    optimizer.load_state_dict(saved)
    optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(2))]})
    optimizer.step()
    references = alive(net, optimizer)
    del net, optimizer, scheduler, saved
    assert [r() for r in references] == [None] * len(references)


@pytest.mark.parametrize("make", MAKES)
def test_a_shallow_copy_shares_states_steps_and_groups(make: Make) -> None:
    net, optimizer = trained(make)
    other = copy.copy(optimizer)
    assert type(other) is type(optimizer)
    for one in (other, optimizer, other):
        net(torch.ones(2, 3)).sum().backward()
        one.step()
    assert optimizer.steps == other.steps == 5
    assert optimizer.param_groups is other.param_groups
    first, second = optimizer.state_dict()["state"], other.state_dict()["state"]
    assert [float(e["step"]) for e in first.values()] == [5.0] * 4
    for entry, same in zip(first.values(), second.values(), strict=True):
        assert all(torch.equal(v, same[name]) for name, v in entry.items())


class Manual(pl.LightningModule):
    """A module that steps by hand and does something with Lightning's handle before some steps."""

    def __init__(self, make: Any, act: Callable[[Manual, Any, int], None]) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.layer = torch.nn.Linear(3, 1, bias=False)
        self.make, self.act = make, act
        self.noted: list[Any] = []

    def training_step(self, batch: Any, number: int) -> None:
        handle = self.optimizers()
        assert isinstance(handle, LightningOptimizer)
        self.act(self, handle, number)
        handle.zero_grad()
        self.manual_backward(self.layer(batch).square().sum())
        handle.step()

    def configure_optimizers(self) -> Any:
        return self.make(self.parameters(), lr=0.1)

    def train_dataloader(self) -> Any:
        return torch.utils.data.DataLoader(torch.ones(6, 3), batch_size=1)


def noted(make: Any, act: Callable[[Manual, Any, int], None]) -> tuple[list[Any], list[Any], torch.Tensor]:
    torch.manual_seed(0)
    module = Manual(make, act)
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    pl.Trainer(max_epochs=1, accelerator="cpu", **quiet).fit(module)  # type: ignore[arg-type]
    real = module.optimizers(use_pl_optimizer=False)
    steps = [float(entry["step"]) for entry in real.state.values()]  # type: ignore[union-attr]
    return module.noted, steps, module.layer.weight.detach()


def reads(module: Manual, handle: Any, number: int) -> None:
    module.noted.append([float(v["step"]) for v in handle.state_dict()["state"].values()])
    module.noted.append([float(v["step"]) for v in handle.state.values()])


def edits(module: Manual, handle: Any, number: int) -> None:
    if number == 3:
        for entry in handle.state.values():
            entry["exp_avg"].zero_()


def loads(module: Manual, handle: Any, number: int) -> None:
    if number == 2:
        module.noted.append(copy.deepcopy(handle.state_dict()))
    if number == 4:
        handle.load_state_dict(module.noted.pop())


def starts_again(module: Manual, handle: Any, number: int) -> None:
    if number == 0:
        module.noted.append(copy.deepcopy(handle.state_dict()))
    if number == 3:
        handle.load_state_dict(module.noted.pop())


def adds(module: Manual, handle: Any, number: int) -> None:
    if number == 2:
        module.more = torch.nn.Parameter(torch.ones(2))
        handle.add_param_group({"params": [module.more], "lr": 0.5})


def stops(module: Manual, handle: Any, number: int) -> None:
    if number == 2:
        handle.param_groups[0]["lr"] = 0.0


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("act", [reads, edits, adds, stops])
def test_lightnings_handle_sees_and_changes_what_torchs_optimizer_would(act: Any) -> None:
    seen, steps, weight = noted(opt.AdamW, act)
    expected_seen, expected_steps, expected_weight = noted(torch.optim.AdamW, act)
    assert (seen, steps) == (expected_seen, expected_steps)
    torch.testing.assert_close(weight, expected_weight)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("act", "last"), [(loads, 4.0), (starts_again, 3.0)])
def test_a_state_loaded_through_lightnings_handle_is_the_optimizers(act: Any, last: float) -> None:
    _, steps, _ = noted(opt.AdamW, act)
    assert steps == [last]
