"""The step by which PyTorch's distributed checkpoints make an optimizer's states: no weight may move, of no chain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict

import steepest as s
import steepest.torch as opt


@s.rule
def shrink(param: Any) -> Any:
    return param * 0.99


@s.rule
def apply(param: Any, update: Any) -> Any:
    return param - 0.1 * update


CHAINS: dict[str, Callable[[], s.Chain]] = {
    "AdamW as in the paper": lambda: s.chain(
        s.scale_by_adam(), s.scale_by_learning_rate(0.1), s.add_decayed_weights(0.05),
        s.descend(s.schedules.linear(1.0, 0.0, steps=20)),
    ),
    "a rule that shrinks": lambda: s.chain(s.sgd(0.1, momentum=0.9), shrink()),
    "no rate at all": lambda: s.chain(s.accumulate_momentum(0.9), apply(), shrink()),
    "averages": lambda: s.chain(s.adamw(0.1), s.lookahead(1), s.ema(0.5)),
    "a global norm": lambda: s.chain(s.clip_by_global_norm(1.0), s.lamb(0.1, weight_decay=0.1)),
    **{name: (lambda name=name: getattr(s, name)(0.1)) for name in s.OPTIMIZERS},
}  # fmt: skip


def trained(optimizer: torch.optim.Optimizer, model: torch.nn.Module, steps: int = 3) -> list[float]:
    for number in range(steps):
        optimizer.zero_grad()
        model(torch.full((1, 2), 1.0 + number)).square().sum().backward()
        optimizer.step()
    return [float(v) for p in model.parameters() for v in p.detach().flatten()]


def model_of(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return torch.nn.Linear(2, 2)


@pytest.mark.parametrize("name", CHAINS)
def test_no_weight_moves_when_a_distributed_checkpoint_makes_the_states_and_training_is_as_without(name: str) -> None:
    expected = trained(opt.Optimizer((one := model_of()).named_parameters(), CHAINS[name](), engine="arrays"), one)
    model = model_of()
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = opt.Optimizer(model.named_parameters(), CHAINS[name](), engine="arrays")
    found = get_optimizer_state_dict(model, optimizer)
    assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))
    assert set(found["state"]) == {"weight", "bias"}
    assert {float(entry["step"]) for entry in found["state"].values()} == {0.0}
    assert optimizer.steps == 0
    assert trained(optimizer, model) == expected


@pytest.mark.parametrize("name", CHAINS)
def test_a_run_goes_on_from_a_distributed_checkpoint_as_if_it_had_not_stopped(name: str) -> None:
    model, other = model_of(), model_of(1)
    optimizer = opt.Optimizer(model.named_parameters(), CHAINS[name](), engine="arrays")
    trained(optimizer, model)
    other.load_state_dict(model.state_dict())
    resumed = opt.Optimizer(other.named_parameters(), CHAINS[name](), engine="arrays")
    set_optimizer_state_dict(other, resumed, get_optimizer_state_dict(model, optimizer))
    assert all(torch.equal(a, b) for a, b in zip(other.parameters(), model.parameters(), strict=True))
    assert trained(resumed, other) == trained(optimizer, model)


@pytest.mark.parametrize("cls", ["AdamW", "SGD", "LAMB", "Lion"])
def test_named_classes_make_their_states_and_move_nothing(cls: str) -> None:
    model = model_of()
    before = [p.detach().clone() for p in model.parameters()]
    get_optimizer_state_dict(model, getattr(opt, cls)(model.parameters(), lr=0.1, weight_decay=0.1))
    assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))


def test_no_weight_moves_where_gradients_are_released() -> None:
    model = model_of()
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = opt.Optimizer(model.named_parameters(), s.chain(s.sgd(0.1, momentum=0.9), shrink()))
    with opt.release_gradients(optimizer):
        get_optimizer_state_dict(model, optimizer)
    assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))


@pytest.mark.parametrize(
    ("lr", "grad", "steps_before"), [(0.1, 0.0, 0), (0.0, 1.0, 0), (0.0, float("nan"), 0), (0.0, 0.0, 1)]
)
def test_every_other_step_is_a_step(lr: float, grad: float, steps_before: int) -> None:
    w = torch.nn.Parameter(torch.ones(2))
    optimizer = opt.Optimizer([w], s.chain(s.sgd(0.1), shrink()))
    for _ in range(steps_before):
        w.grad = torch.ones(2)
        optimizer.step()
    before = w.detach().clone()
    optimizer.param_groups[0]["lr"] = lr
    w.grad = torch.full((2,), grad)
    optimizer.step()
    torch.testing.assert_close(w.detach(), (before - lr * w.grad) * 0.99, equal_nan=True)
    assert optimizer.steps == steps_before + 1


def test_a_step_without_any_gradient_is_a_step() -> None:
    w = torch.nn.Parameter(torch.ones(2))
    optimizer = opt.Optimizer([w], s.chain(s.sgd(0.0), shrink()))
    optimizer.step()
    assert optimizer.steps == 1 and not optimizer.state
