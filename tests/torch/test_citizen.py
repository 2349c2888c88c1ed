"""The optimizers as torch's own machinery meets them: schedulers, hooks, scalers, copies, compilers, changed parameters."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim import lr_scheduler
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch.optim.swa_utils import SWALR

import steepest as s
import steepest.torch as opt
from steepest import Chain, rule, schedules, zeros

Params = list[torch.nn.Parameter]
Make = Callable[[Any], Any]


def parameters(*shapes: tuple[int, ...], dtype: torch.dtype = torch.float64, seed: int = 0) -> Params:
    random = torch.Generator().manual_seed(seed)
    shapes = shapes or ((4, 3), (5,), ())
    return [torch.nn.Parameter(torch.randn(n, generator=random, dtype=torch.float64).to(dtype)) for n in shapes]


def give_gradients(params: Sequence[torch.Tensor], seed: int) -> None:
    random = torch.Generator().manual_seed(1000 + seed)
    for p in params:
        p.grad = torch.randn(p.shape, generator=random, dtype=torch.float64).to(p.dtype)


def take_steps(optimizer: Any, params: Sequence[torch.Tensor], first: int, last: int) -> None:
    for step in range(first, last):
        give_gradients(params, step)
        optimizer.step()


def assert_same(ours: Sequence[torch.Tensor], theirs: Sequence[torch.Tensor], within: float = 1e-12) -> None:
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.detach(), b.detach(), rtol=within, atol=within)


def plain(value: Any) -> Any:
    """What holds tensors, as something that can be compared exactly."""
    if isinstance(value, torch.Tensor):
        return str(value.dtype), value.tolist()
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def snapshot(optimizer: Any, params: Sequence[torch.Tensor]) -> Any:
    """Everything that a step may change."""
    return plain([p.detach() for p in params]), plain(optimizer.state_dict())


def assert_unchanged(optimizer: Any, params: Sequence[torch.Tensor], before: Any) -> None:
    assert snapshot(optimizer, params) == before


def beside_torch(name: str, run: Callable[[Any, Params], Any], **values: Any) -> None:
    """Run the same with this project's class and with torch's; the weights must agree."""
    found = []
    for module in (opt, torch.optim):
        params = parameters()
        run(getattr(module, name)(params, **values), params)
        found.append(params)
    assert_same(*found)


def model(dtype: torch.dtype = torch.float64) -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 2)).to(dtype)


def train(net: Any, optimizer: Any, steps: int, first: int = 0) -> None:
    for step in range(first, first + steps):
        random = torch.Generator().manual_seed(step)
        x = torch.randn(8, 4, generator=random, dtype=torch.float64)
        optimizer.zero_grad()
        net(x.to(next(net.parameters()).dtype)).square().mean().backward()
        optimizer.step()


# ---- schedulers

SCHEDULERS: dict[str, tuple[str, Make]] = {
    "LambdaLR": ("Adam", lambda o: lr_scheduler.LambdaLR(o, lambda n: 0.9**n)),
    "MultiplicativeLR": ("Adam", lambda o: lr_scheduler.MultiplicativeLR(o, lambda n: 0.9)),
    "StepLR": ("SGD", lambda o: lr_scheduler.StepLR(o, 3)),
    "MultiStepLR": ("AdamW", lambda o: lr_scheduler.MultiStepLR(o, [2, 5])),
    "ConstantLR": ("Adagrad", lambda o: lr_scheduler.ConstantLR(o, 0.5, 4)),
    "LinearLR": ("RMSprop", lambda o: lr_scheduler.LinearLR(o, 0.1, total_iters=5)),
    "LinearLR from zero to zero": ("Adam", lambda o: lr_scheduler.LinearLR(o, 1.0, 0.0, total_iters=5)),
    "ExponentialLR": ("Adadelta", lambda o: lr_scheduler.ExponentialLR(o, 0.8)),
    "PolynomialLR": ("SGD", lambda o: lr_scheduler.PolynomialLR(o, 6)),
    "CosineAnnealingLR": ("RAdam", lambda o: lr_scheduler.CosineAnnealingLR(o, 4)),
    "CosineAnnealingWarmRestarts": ("Adamax", lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 3)),
    "CyclicLR momentum": ("SGD", lambda o: lr_scheduler.CyclicLR(o, 0.01, 0.1, 3, cycle_momentum=True)),
    "CyclicLR betas": ("Adam", lambda o: lr_scheduler.CyclicLR(o, 0.01, 0.1, 3, cycle_momentum=True)),
    "OneCycleLR momentum": ("SGD", lambda o: lr_scheduler.OneCycleLR(o, 0.1, 12)),
    "OneCycleLR betas": ("AdamW", lambda o: lr_scheduler.OneCycleLR(o, 0.1, 12)),
    "SequentialLR": (
        "Adam",
        lambda o: lr_scheduler.SequentialLR(
            o, [lr_scheduler.LinearLR(o, 0.1, total_iters=3), lr_scheduler.CosineAnnealingLR(o, 6)], [3]
        ),
    ),
    "ChainedScheduler": (
        "Adam",
        lambda o: lr_scheduler.ChainedScheduler(
            [lr_scheduler.ConstantLR(o, 0.5, 3), lr_scheduler.ExponentialLR(o, 0.9)], optimizer=o
        ),
    ),
    "SWALR": ("SGD", lambda o: SWALR(o, 0.01, anneal_epochs=4)),
}


@pytest.mark.parametrize("of", SCHEDULERS)
def test_a_scheduler_of_torch_does_with_these_what_it_does_with_its_own(of: str) -> None:
    name, make = SCHEDULERS[of]

    def run(optimizer: Any, params: Params) -> None:
        scheduler = make(optimizer)
        for step in range(10):
            take_steps(optimizer, params, step, step + 1)
            scheduler.step()

    values = {"momentum": 0.9} if name == "SGD" else {}
    beside_torch(name, run, lr=0.05, **values)


def test_reduce_on_plateau_of_torch_lowers_the_learning_rate() -> None:
    def run(optimizer: Any, params: Params) -> None:
        scheduler = lr_scheduler.ReduceLROnPlateau(optimizer, patience=1)
        for step in range(8):
            take_steps(optimizer, params, step, step + 1)
            scheduler.step(1.0)
        assert optimizer.param_groups[0]["lr"] < 0.01

    beside_torch("Adam", run, lr=0.05)


def test_a_schedule_of_this_project_is_a_hyperparameter_like_any_other() -> None:
    def run(optimizer: Any, params: Params) -> None:
        for step in range(8):
            if isinstance(optimizer, torch.optim.AdamW) and not isinstance(optimizer, opt.Optimizer):
                optimizer.param_groups[0].update(lr=lr(step), weight_decay=decay(step), betas=(beta(step), 0.99))
            take_steps(optimizer, params, step, step + 1)

    lr, decay, beta = schedules.cosine(0.1, 6), schedules.linear(0.1, 0.0, 6), schedules.linear(0.8, 0.9, 6)
    found = []
    for module in (opt, torch.optim):
        params = parameters()
        own = module is opt
        made = opt.AdamW(params, lr=lr, betas=(beta, 0.99), weight_decay=decay) if own else torch.optim.AdamW(params)
        run(made, params)
        found.append(params)
    assert_same(*found)


# ---- hyperparameters


def test_a_learning_rate_tensor_is_read_anew_at_every_step() -> None:
    def run(optimizer: Any, params: Params) -> None:
        rate = optimizer.param_groups[0]["lr"]
        for step in range(6):
            take_steps(optimizer, params, step, step + 1)
            rate.mul_(0.5) if step < 4 else rate.zero_()

    found = []
    for module in (opt, torch.optim):
        params = parameters()
        run(module.Adam(params, lr=torch.tensor(0.1, dtype=torch.float64)), params)
        found.append(params)
    assert_same(*found)


CHANGES: dict[str, tuple[str, dict[str, Any], list[dict[str, Any]]]] = {
    "weight decay on and off": ("Adam", {"lr": 0.1}, [{"weight_decay": 0.1}, {"weight_decay": 0.0}]),
    "decoupled decay off and on": ("AdamW", {"lr": 0.1}, [{"weight_decay": 0.0}, {"weight_decay": 0.3}]),
    "learning rate 0": ("AdamW", {"lr": 0.1}, [{"lr": 0.0}, {"lr": 0.05}]),
    "whole numbers": ("SGD", {"lr": 1, "momentum": 0.5}, [{"lr": 2}, {"lr": 0}]),
    "maximize": ("Adam", {"lr": 0.1}, [{"maximize": True}, {"maximize": False}]),
    "amsgrad off": ("Adam", {"lr": 0.1, "amsgrad": True}, [{"amsgrad": False}, {"amsgrad": True}]),
    "momentum off and on": ("SGD", {"lr": 0.1, "momentum": 0.9}, [{"momentum": 0.0}, {"momentum": 0.9}]),
    "nesterov": ("SGD", {"lr": 0.1, "momentum": 0.9}, [{"nesterov": True}, {"nesterov": False}]),
    "betas": ("NAdam", {"lr": 0.1}, [{"betas": (0.5, 0.9)}, {"betas": [0.0, 0.0]}]),
    "eps": ("RMSprop", {"lr": 0.1}, [{"eps": 0.0}, {"eps": 1e-3}]),
    "NumPy's numbers": ("SGD", {"lr": 0.1}, [{"lr": np.float32(0.25)}, {"lr": np.array(0.5)}]),
}


@pytest.mark.parametrize("of", CHANGES)
def test_values_of_a_group_may_be_changed_between_any_two_steps(of: str) -> None:
    name, values, changes = CHANGES[of]

    def run(optimizer: Any, params: Params) -> None:
        take_steps(optimizer, params, 0, 3)
        for number, change in enumerate(changes, 1):
            optimizer.param_groups[0].update(change)
            take_steps(optimizer, params, 3 * number, 3 * number + 3)

    if name == "NAdam":
        torch.set_default_dtype(torch.float64)
    try:
        beside_torch(name, run, **values)
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_wrong_value_is_refused_at_the_next_step_and_changes_nothing() -> None:
    params = parameters()
    optimizer = opt.Adam(params, lr=0.1)
    take_steps(optimizer, params, 0, 2)
    give_gradients(params, 2)
    for wrong in ({"lr": -1.0}, {"lr": float("nan")}, {"betas": (0.9, 1.0)}, {"amsgrad": 3}, {"eps": "small"}):
        kept = dict(optimizer.param_groups[0])
        before = snapshot(optimizer, params)
        optimizer.param_groups[0].update(wrong)
        with pytest.raises((ValueError, TypeError), match="must be"):
            optimizer.step()
        optimizer.param_groups[0].update(kept)
        assert_unchanged(optimizer, params, before)
    optimizer.step()


@pytest.mark.parametrize("name", ["Adam", "SGD"])
def test_switches_of_torch_are_taken_or_refused_with_a_reason(name: str) -> None:
    make = getattr(opt, name)
    for taken in ({"foreach": True}, {"foreach": False}, {"fused": True}, {"fused": False}, {"differentiable": False}):
        make(parameters(), **taken)
    with pytest.raises(ValueError, match=r"differentiable must be False, got True\. The step changes memory in place"):
        make(parameters(), differentiable=True)
    with pytest.raises(RuntimeError, match="fused and foreach must not both be True"):
        make(parameters(), fused=True, foreach=True)
    if name == "Adam":
        make(parameters(), capturable=False)
        with pytest.raises(
            ValueError, match=r"capturable must be False, got True\. A captured graph would freeze the learning rate"
        ):
            make(parameters(), capturable=True)
    with pytest.raises(TypeError, match=rf"{name}: got an unexpected keyword argument 'beta'. Its arguments are lr,"):
        make(parameters(), beta=0.9)


# ---- groups and names


def test_a_group_may_join_after_some_steps() -> None:
    def run(optimizer: Any, params: Params) -> None:
        take_steps(optimizer, params, 0, 3)
        late = parameters((3,), seed=5)
        optimizer.add_param_group({"params": late, "lr": 0.5})
        params += late
        take_steps(optimizer, params, 3, 6)

    beside_torch("Adam", run, lr=0.1)


def test_a_refused_group_leaves_the_optimizer_as_it_was() -> None:
    params = parameters()
    optimizer = opt.Adam(params, lr=0.1)
    take_steps(optimizer, params, 0, 2)
    before = snapshot(optimizer, params)
    whole = torch.nn.Parameter(torch.ones(3))
    for wrong, said in (
        ({"params": parameters((2,)), "lr": -1.0}, "lr"),
        ({"params": [params[0].detach()[1:]]}, "share memory"),
        ({"params": [torch.nn.Parameter(torch.ones(3).expand(2, 3))]}, "stride 0"),
        ({"params": [torch.ones(3, dtype=torch.int64)]}, "int64"),
        ({"params": [params[0]]}, "more than one parameter group"),
        ({"params": [whole], "chain": s.sgd}, "chain must be a chain, got sgd"),
    ):
        with pytest.raises((ValueError, TypeError), match=said):
            optimizer.add_param_group(wrong)
    assert len(optimizer.param_groups) == 1
    assert_unchanged(optimizer, params, before)
    take_steps(optimizer, params, 2, 3)


def test_named_parameters_give_measures_their_names() -> None:
    net = model()
    optimizer = opt.Optimizer(
        net.named_parameters(), s.chain(s.measure(grad_norm=lambda update: s.norm(update, per="tensor")), s.sgd(0.1))
    )
    train(net, optimizer, 1)
    assert set(optimizer.measured["grad_norm"]) == {name for name, _ in net.named_parameters()}


def test_groups_may_have_chains_of_their_own_and_three_hundred_of_them_agree_with_torch() -> None:
    params, others = parameters((3,), (4,), dtype=torch.float32), parameters((3,), (4,), dtype=torch.float32)
    optimizer = opt.Optimizer(
        [{"params": params[:1], "chain": s.adam(0.1)}, {"params": params[1:], "chain": s.sgd(0.2)}]
    )
    adam, sgd = torch.optim.Adam(others[:1], 0.1), torch.optim.SGD(others[1:], 0.2)
    for step in range(4):
        take_steps(optimizer, params, step, step + 1)
        give_gradients(others, step)
        adam.step()
        sgd.step()
    assert_same(params, others, 1e-6)
    found = []
    for module in (opt, torch.optim):
        many = parameters(*[(3,)] * 300)
        made = module.Adam([{"params": [p], "lr": 0.001 * (i + 1)} for i, p in enumerate(many)])
        take_steps(made, many, 0, 3)
        found.append(many)
    assert_same(*found)


def test_parameters_of_a_group_may_be_replaced_and_removed() -> None:
    def run(optimizer: Any, params: Params) -> None:
        take_steps(optimizer, params, 0, 2)
        params[1] = parameters((6,), seed=9)[0]
        optimizer.param_groups[0]["params"][1] = params[1]
        take_steps(optimizer, params, 2, 4)
        del params[0], optimizer.param_groups[0]["params"][0]
        take_steps(optimizer, params, 4, 6)

    beside_torch("Adam", run, lr=0.1)


def test_param_groups_may_be_replaced() -> None:
    def run(optimizer: Any, params: Params) -> None:
        take_steps(optimizer, params, 0, 2)
        optimizer.param_groups = [{**optimizer.param_groups[0], "lr": 0.5}]
        take_steps(optimizer, params, 2, 4)
        optimizer.param_groups[0]["lr"] = 0.05
        take_steps(optimizer, params, 4, 6)

    beside_torch("Adam", run, lr=0.1)


def test_a_parameter_given_twice_and_views_of_the_same_memory_are_refused() -> None:
    p = torch.nn.Parameter(torch.ones(4, 3))
    with (
        pytest.warns(UserWarning, match="duplicate parameters"),
        pytest.raises(ValueError, match="are the same tensor"),
    ):
        opt.Adam([p, p])
    for view in (p.detach()[1:], p.detach().t(), p.detach().view(-1)):
        with pytest.raises(ValueError, match="parameters '0' and '1' share memory"):
            opt.Adam([p, view])
    opt.Adam([p.detach()[:, :1], p.detach()[:, 1:]])


# ---- closures, hooks, zero_grad


def test_a_closure_runs_once_with_gradients_enabled_before_they_are_read() -> None:
    p = torch.nn.Parameter(torch.ones(3))
    optimizer = opt.SGD([p], lr=0.5)
    calls = []

    def closure() -> torch.Tensor:
        calls.append(torch.is_grad_enabled())
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    with torch.no_grad():
        assert optimizer.step(closure).item() == 3.0
    assert calls == [True]
    assert p.tolist() == [0.0, 0.0, 0.0]


def test_hooks_run_in_torchs_order() -> None:
    params = parameters()
    optimizer = opt.Adam(params, lr=0.1)
    seen: list[str] = []
    handles = [
        register_optimizer_step_pre_hook(lambda *_: seen.append("all before")),
        register_optimizer_step_post_hook(lambda *_: seen.append("all after")),
        optimizer.register_step_pre_hook(lambda *_: seen.append("before")),
        optimizer.register_step_post_hook(lambda *_: seen.append("after")),
        optimizer.register_state_dict_pre_hook(lambda *_: seen.append("before saving")),
        optimizer.register_state_dict_post_hook(lambda o, d: seen.append("after saving")),
        optimizer.register_load_state_dict_pre_hook(lambda o, d: seen.append("before loading")),
        optimizer.register_load_state_dict_post_hook(lambda *_: seen.append("after loading")),
    ]
    take_steps(optimizer, params, 0, 1)
    optimizer.load_state_dict(optimizer.state_dict())
    for handle in handles:
        handle.remove()
    take_steps(optimizer, params, 1, 2)
    assert seen == [
        "all before", "before", "after", "all after", "before saving", "after saving", "before loading", "after loading",
    ]  # fmt: skip


def test_hooks_may_replace_state_dicts() -> None:
    params = parameters()
    optimizer = opt.SGD(params, lr=0.1)
    optimizer.register_state_dict_post_hook(lambda o, d: {**d, "more": 1})
    assert optimizer.state_dict()["more"] == 1

    def halve(o: Any, d: dict[str, Any]) -> dict[str, Any]:
        return {**d, "param_groups": [{**g, "lr": 0.05} for g in d["param_groups"]]}

    optimizer.register_load_state_dict_pre_hook(halve)
    optimizer.load_state_dict(optimizer.state_dict())
    assert optimizer.param_groups[0]["lr"] == 0.05


def test_gradients_may_be_zeroed_or_dropped() -> None:
    def run(optimizer: Any, params: Params) -> None:
        take_steps(optimizer, params, 0, 2)
        optimizer.zero_grad(set_to_none=False)
        optimizer.step()
        optimizer.zero_grad()
        assert all(p.grad is None for p in params)
        optimizer.step()
        take_steps(optimizer, params, 2, 4)

    beside_torch("Adam", run, lr=0.1)


# ---- gradients


def test_parameters_without_a_gradient_keep_their_own_step_count() -> None:
    def run(optimizer: Any, params: Params) -> None:
        for step in range(12):
            give_gradients(params, step)
            if step % 3:
                params[step % 2].grad = None
            if step == 7:
                params[2].requires_grad_(False)
                params[2].grad = None
            if step == 9:
                params[2].requires_grad_(True)
            optimizer.step()
        assert [int(optimizer.state[p]["step"]) for p in params] == [8, 8, 11]

    beside_torch("Adam", run, lr=0.1)


@pytest.mark.parametrize("engine", ["auto", "arrays"])
def test_gradients_and_what_they_are_views_of_are_never_changed(engine: str) -> None:
    params = parameters((4, 6), (5,), ())
    optimizer = opt.Optimizer(
        params, s.chain(s.clip_by_global_norm(0.1), s.adamw(0.1, maximize=True), s.ema(0.9)), engine=engine
    )
    for step in range(4):
        give_gradients(params, step)
        if step > 1:
            params[0].grad = params[0].grad.t().contiguous().t()
        bits = [p.grad.clone() for p in params]
        versions = [p.grad._version for p in params]
        optimizer.step()
        assert all(torch.equal(p.grad, b) for p, b in zip(params, bits, strict=True))
        assert [p.grad._version for p in params] == versions


def test_gradients_in_any_layout_give_the_same_step() -> None:
    def run(optimizer: Any, params: Params) -> None:
        for step in range(6):
            give_gradients(params, step)
            grad = params[0].grad
            assert grad is not None
            params[0].grad = [
                grad, grad.t().contiguous().t(), grad.repeat_interleave(2, dim=1)[:, ::2],
                grad[:1].expand(4, 3), torch._neg_view(grad), grad.unsqueeze(0).squeeze(0),
            ][step]  # fmt: skip
            optimizer.step()

    beside_torch("Adam", run, lr=0.1)


def test_lazily_conjugated_gradients_are_read_as_they_are() -> None:
    found = []
    for module in (opt, torch.optim):
        p = torch.nn.Parameter(torch.tensor([1 + 1j, 2 - 1j, 0.5j], dtype=torch.complex128))
        optimizer = module.SGD([p], lr=0.1)
        for _ in range(3):
            p.grad = torch.tensor([1 + 2j, 3 + 4j, 1j], dtype=torch.complex128).conj()
            optimizer.step()
        found.append([p])
    assert_same(*found)


@pytest.mark.parametrize("engine", ["auto", "arrays"])
def test_a_gradient_may_share_memory_with_a_parameter_and_is_read_as_it_was_before_the_step(engine: str) -> None:
    p, q = parameters((5,), (5,))
    first, second = p.detach().clone(), q.detach().clone()
    optimizer = opt.SGD([p, q], lr=0.1, engine=engine)
    for _ in range(3):
        p.grad, q.grad = q.detach(), p.detach()
        optimizer.step()
        first, second = first - 0.1 * second, second - 0.1 * first
        assert_same([p, q], [first, second])


def test_gradients_that_do_not_fit_are_refused_with_the_name_and_change_nothing() -> None:
    net = model()
    optimizer = opt.Adam(net.named_parameters(), lr=0.1)
    train(net, optimizer, 2)
    before = [p.detach().clone() for p in net.parameters()]
    net[0].weight.data = net[0].weight.data.float()
    with pytest.raises(
        TypeError,
        match=r"Adam.step: the gradient of '0.weight' must have its parameter's dtype, torch.float32, got torch.float64",
    ):
        optimizer.step()
    net[0].weight.data = before[0].clone()
    assert_same(list(net.parameters()), before, 0)
    assert all(int(optimizer.state[p]["step"]) == 2 for p in net.parameters())
    train(net, optimizer, 1, 2)


def test_a_frozen_model_takes_no_step_and_changes_nothing() -> None:
    params = parameters()
    optimizer = opt.AdamW(params, lr=0.1)
    optimizer.step()
    assert_same(params, parameters(), 0)
    assert not optimizer.state


# ---- parameters that change


def test_a_resized_parameter_is_refused_until_its_state_is_cleared() -> None:
    params = parameters((4,), (3,))
    optimizer = opt.Adam(params, lr=0.1)
    take_steps(optimizer, params, 0, 2)
    params[0].grad = None
    params[0].data = torch.ones(6, dtype=torch.float64)
    give_gradients(params, 2)
    other = params[1].detach().clone()
    with pytest.raises(ValueError, match=r"parameter '0' was resized from \[4\] to \[6\].*optimizer.state.pop"):
        optimizer.step()
    assert torch.equal(params[1], other)
    optimizer.state.pop(params[0])
    optimizer.step()
    assert optimizer.state[params[0]]["exp_avg"].shape == (6,)
    assert [int(optimizer.state[p]["step"]) for p in params] == [1, 3]


def test_parameters_may_be_given_other_memory_and_another_layout() -> None:
    def run(optimizer: Any, params: Params) -> None:
        for step in range(8):
            take_steps(optimizer, params, step, step + 1)
            if step == 2:
                params[0].data = params[0].data.clone()
            if step == 4:
                params[0].data = params[0].data.t().contiguous().t()
            if step == 5:
                params[1].data = torch.zeros(5, dtype=torch.float64)

    beside_torch("Adam", run, lr=0.1)


@pytest.mark.parametrize("to", [torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_a_model_may_change_its_type_after_some_steps(to: torch.dtype) -> None:
    net = model(torch.float32)
    optimizer = opt.Adam(net.parameters(), lr=0.01)
    train(net, optimizer, 3)
    moments = [optimizer.state[p]["exp_avg_sq"].clone() for p in net.parameters()]
    net.zero_grad()
    net.to(to)
    weights = [p.detach().clone() for p in net.parameters()]
    optimizer.step()
    assert_same(list(net.parameters()), weights, 0)
    kept = torch.float64 if to == torch.float64 else torch.float32
    for p, moment in zip(net.parameters(), moments, strict=True):
        assert optimizer.state[p]["exp_avg_sq"].dtype == kept
        torch.testing.assert_close(optimizer.state[p]["exp_avg_sq"], moment.to(kept))
    train(net, optimizer, 1, 3)
    assert all(int(optimizer.state[p]["step"]) == 4 and torch.isfinite(p).all() for p in net.parameters())


# ---- state


def test_state_changed_by_the_user_is_used_at_the_next_step() -> None:
    def run(optimizer: Any, params: Params) -> None:
        a, b, c = params
        take_steps(optimizer, params, 0, 2)
        optimizer.state[a]["exp_avg"].zero_()
        take_steps(optimizer, params, 2, 4)
        optimizer.state[b]["exp_avg_sq"] = torch.ones(5, dtype=torch.float64)
        optimizer.state[a]["step"] = torch.tensor(1.0)
        take_steps(optimizer, params, 4, 6)
        optimizer.state[c]["step"].zero_()
        take_steps(optimizer, params, 6, 8)
        del optimizer.state[a]
        optimizer.state[b].clear()
        take_steps(optimizer, params, 8, 10)
        optimizer.state = defaultdict(dict)
        take_steps(optimizer, params, 10, 12)
        assert all(int(optimizer.state[p]["step"]) == 2 for p in params)

    beside_torch("Adam", run, lr=0.1)


def test_a_state_of_another_shape_is_refused_by_its_name() -> None:
    params = parameters()
    optimizer = opt.Adam(params, lr=0.1)
    take_steps(optimizer, params, 0, 2)
    optimizer.state[params[1]]["exp_avg"] = torch.zeros(2, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"Adam.state: exp_avg of '1' must have its parameter's shape"):
        optimizer.step()


def test_states_of_16_bit_parameters_are_float32_and_lie_in_the_layout_of_their_parameters() -> None:
    p = torch.nn.Parameter(torch.ones(2, 3, 4, 4, dtype=torch.bfloat16).to(memory_format=torch.channels_last))
    optimizer = opt.Adam([p], lr=0.1)
    p.grad = torch.ones_like(p)
    optimizer.step()
    state = optimizer.state[p]["exp_avg"]
    assert state.dtype == torch.float32 and state.stride() == p.stride()


# ---- autograd


def test_autograd_notices_that_weights_were_changed_in_place() -> None:
    for module in (opt, torch.optim):
        p, q = torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(3))
        optimizer = module.SGD([p, q], lr=0.1)
        loss = (p.exp() * p * p).sum()
        p.grad = torch.ones(3)
        before = p._version, q._version
        optimizer.step()
        assert (p._version > before[0], q._version) == (True, before[1])
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


def test_a_step_runs_under_anomaly_detection() -> None:
    net = model()
    optimizer = opt.Adam(net.parameters(), lr=0.1)
    with pytest.warns(UserWarning, match="Anomaly Detection"), torch.autograd.detect_anomaly():
        train(net, optimizer, 2)
    assert all(int(optimizer.state[p]["step"]) == 2 for p in net.parameters())


# ---- scaler, compiler


def test_a_scaler_skips_a_step_with_infinite_gradients_and_unscales_the_others() -> None:
    def run(optimizer: Any, params: Params) -> None:
        scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
        for step in range(4):
            optimizer.zero_grad()
            random = torch.Generator().manual_seed(step)
            weights = [torch.randn(p.shape, generator=random, dtype=p.dtype) for p in params]
            loss = sum((p * w).sum() for p, w in zip(params, weights, strict=True))
            scaler.scale(loss).backward()
            if step == 1:
                params[0].grad.view(-1)[0] = float("inf")
            scaler.step(optimizer)
            scaler.update()
        assert int(optimizer.state[params[0]]["step"]) == 3

    beside_torch("Adam", run, lr=0.1)


def test_a_compiled_model_and_a_compiled_train_step_are_trained_as_any_other() -> None:
    def plain(net: Any, optimizer: Any, x: torch.Tensor) -> None:
        optimizer.zero_grad()
        net(x).square().mean().backward()
        optimizer.step()

    found = []
    for kind in ("eager", "compiled model", "compiled step"):
        net = model(torch.float32)
        optimizer = opt.AdamW(net.parameters(), lr=0.01)
        step = torch.compile(plain, backend="eager") if kind == "compiled step" else plain
        used = torch.compile(net, backend="eager") if kind == "compiled model" else net
        for number in range(4):
            optimizer.param_groups[0]["lr"] *= 0.9
            step(used, optimizer, torch.randn(8, 4, generator=torch.Generator().manual_seed(number)))
        found.append(list(net.parameters()))
    assert_same(found[0], found[1], 1e-6)
    assert_same(found[0], found[2], 1e-6)


# ---- copies


@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
def test_a_copy_of_model_and_optimizer_goes_on_as_the_original(how: str) -> None:
    net = model()
    inner = opt.Adam([{"params": net[0].parameters()}, {"params": net[2].parameters(), "lr": 0.05}], lr=0.1)
    optimizer = opt.Lookahead(inner, k=2)
    train(net, optimizer, 3)
    if how == "deepcopy":
        other, again = copy.deepcopy((net, optimizer))
    else:
        other, again = pickle.loads(pickle.dumps((net, optimizer)))
    assert type(again) is opt.Lookahead and again.steps == 3
    train(net, optimizer, 4, 3)
    train(other, again, 4, 3)
    assert_same(list(other.parameters()), list(net.parameters()), 0)


@pytest.mark.parametrize(
    "make",
    [
        lambda p: opt.SGD(p, lr=0.1, momentum=0.9),
        lambda p: opt.NAdam(p, lr=schedules.cosine(0.1, 10)),
        lambda p: opt.Optimizer(p, s.chain(s.clip_by_global_norm(1.0), s.lamb(0.1), s.ema(0.9)), engine="arrays"),
    ],
)
def test_a_pickled_optimizer_goes_on_as_the_original(make: Make) -> None:
    net = model()
    optimizer = make(list(net.parameters()))
    train(net, optimizer, 3)
    other, again = pickle.loads(pickle.dumps((net, optimizer)))
    assert again._core.engine == optimizer._core.engine
    train(net, optimizer, 4, 3)
    train(other, again, 4, 3)
    assert_same(list(other.parameters()), list(net.parameters()), 0)
    assert plain(again.state_dict()) == plain(optimizer.state_dict())


def test_two_optimizers_step_disjoint_parameters() -> None:
    net, other = model(), model()
    both = [opt.Adam(net[0].parameters(), lr=0.1), opt.SGD(net[2].parameters(), lr=0.1)]
    theirs = [torch.optim.Adam(other[0].parameters(), lr=0.1), torch.optim.SGD(other[2].parameters(), lr=0.1)]
    for step in range(4):
        for trained, optimizers in ((net, both), (other, theirs)):
            trained.zero_grad()
            x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
            trained(x).square().mean().backward()
            for one in optimizers:
                one.step()
    assert_same(list(net.parameters()), list(other.parameters()))


def test_nothing_keeps_tensors_alive_after_the_optimizer_is_gone() -> None:
    params = parameters()
    optimizer = opt.Optimizer(params, s.chain(s.clip_by_global_norm(1.0), s.adamw(0.1), s.ema(0.9)))
    take_steps(optimizer, params, 0, 3)
    seen = [weakref.ref(t) for p in params for t in (p, p.grad, *optimizer.state[p].values())]
    del params, optimizer
    gc.collect()
    assert not [r for r in seen if r() is not None]


# ---- sparse gradients


def sparse_gradients(weight: torch.Tensor, step: int) -> torch.Tensor:
    random = torch.Generator().manual_seed(step)
    rows = torch.randint(0, 5, (1, 6), generator=random)
    return torch.sparse_coo_tensor(
        rows, torch.randn(6, 3, generator=random, dtype=weight.dtype), weight.shape, check_invariants=False
    )


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")  # torch's Adagrad
@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("SGD", {}),
        ("SGD", {"momentum": 0.9}),
        ("SGD", {"momentum": 0.9, "dampening": 0.5, "maximize": True}),
        ("SGD", {"momentum": 0.9, "nesterov": True}),
        ("Adagrad", {}),
        ("Adagrad", {"lr_decay": 0.1, "initial_accumulator_value": 0.1, "maximize": True}),
    ],
)
@pytest.mark.parametrize("engine", ["auto", "arrays"])
def test_sparse_gradients_give_what_torch_makes_of_them(name: str, values: dict[str, Any], engine: str) -> None:
    found = []
    for module in (opt, torch.optim):
        weight, bias = parameters((8, 3), (3,))
        more = {"engine": engine} if module is opt else {}
        optimizer = getattr(module, name)([weight, bias], lr=0.1, **values, **more)
        for step in range(6):
            give_gradients([bias], step)
            weight.grad = sparse_gradients(weight, step)
            optimizer.step()
        found.append([weight, bias])
    assert_same(*found)


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
def test_an_embedding_with_sparse_gradients_is_trained_as_by_torch_and_only_where_it_was_used() -> None:
    found = []
    for module in (opt, torch.optim):
        torch.manual_seed(0)
        table = torch.nn.Embedding(50, 4, sparse=True, dtype=torch.float64)
        before = table.weight.detach().clone()
        optimizer = module.Adagrad(table.parameters(), lr=0.1)
        for step in range(4):
            optimizer.zero_grad()
            table(torch.tensor([step, 3, 3, 7])).square().sum().backward()
            optimizer.step()
        touched = (table.weight != before).any(dim=1).nonzero().flatten().tolist()
        assert touched == [0, 1, 2, 3, 7]
        found.append([table.weight, optimizer.state[table.weight]["sum"]])
    assert_same(*found)


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
@pytest.mark.parametrize("name", ["SGD", "Adagrad"])
def test_sparse_gradients_may_be_sparse_in_all_dimensions_or_name_no_row(name: str) -> None:
    found = []
    for module in (opt, torch.optim):
        weight, bias, scale = parameters((8, 3), (3,), ())
        optimizer = getattr(module, name)([weight, bias, scale], lr=0.1)
        give_gradients([weight, bias, scale], 0)
        for p in (weight, bias):
            p.grad = (p.grad * (p.grad > 0)).to_sparse()
        optimizer.step()
        weight.grad = torch.zeros(8, 3, dtype=torch.float64).to_sparse(1)
        optimizer.step()
        found.append([weight, bias, scale])
    assert_same(*found)


def test_sgd_without_momentum_never_makes_a_sparse_gradient_dense(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> None:
        raise AssertionError("made dense")

    weight = parameters((8, 3))[0]
    before = weight.detach().clone()
    optimizer = opt.SGD([weight], lr=0.1)
    weight.grad = sparse_gradients(weight, 0)
    expected = before - 0.1 * weight.grad.to_dense()
    monkeypatch.setattr(torch.Tensor, "to_dense", refused)
    optimizer.step()
    assert_same([weight], [expected])


@pytest.mark.parametrize(
    "made", [s.adam(0.1), s.adamw(0.1), s.sgd(0.1, weight_decay=0.1), s.lars(0.1), s.chain(s.sgd(0.1), s.ema(0.9))]
)
def test_sparse_gradients_are_refused_by_the_parameters_name_where_every_row_would_move(made: Chain) -> None:
    weight, bias = parameters((8, 3), (3,))
    optimizer = opt.Optimizer([("table", weight), ("bias", bias)], made)
    weight.grad = sparse_gradients(weight, 0)
    give_gradients([bias], 0)
    before = snapshot(optimizer, [weight, bias])
    with pytest.raises(RuntimeError, match=r"parameter 'table' has a sparse gradient, but .* does not support sparse"):
        optimizer.step()
    assert_unchanged(optimizer, [weight, bias], before)


# ---- chains and what belongs to them


def test_weights_are_swapped_for_the_average_and_put_back() -> None:
    params = parameters()
    optimizer = opt.Optimizer(params, s.chain(s.clip_by_global_norm(1.0), s.adamw(0.1), s.ema(0.5)))
    with pytest.raises(ValueError, match="'average' does not exist before the first step"), optimizer.using("average"):
        pass
    take_steps(optimizer, params, 0, 3)
    weights = [p.detach().clone() for p in params]
    averages = [optimizer.state[p]["average"].clone() for p in params]
    calls: list[int] = []

    def closure() -> float:
        calls.append(1)
        return 0.0

    with optimizer.using("average"):
        assert_same(params, averages, 0)
        for refused in (optimizer.step, optimizer.state_dict, lambda: optimizer.load_state_dict({})):
            with pytest.raises(RuntimeError, match="the weights are swapped for 'average'"):
                refused()
        with pytest.raises(RuntimeError, match="step: the weights are swapped"):
            optimizer.step(closure)
        with pytest.raises(RuntimeError, match="swapped for 'average' already"), optimizer.using("average"):
            pass
        assert torch.is_grad_enabled()
    assert not calls
    assert_same(params, weights, 0)
    with pytest.raises(ValueError, match=r"unknown state 'averag'\. Did you mean 'average'"), optimizer.using("averag"):
        pass
    with pytest.raises(KeyError), optimizer.using("average"):
        raise KeyError
    assert_same(params, weights, 0)
    take_steps(optimizer, params, 3, 4)


def test_lookahead_shares_its_groups_with_the_inner_optimizer_and_swaps_its_slow_weights() -> None:
    params = parameters()
    inner = opt.RAdam(params, lr=0.1)
    optimizer = opt.Lookahead(inner, k=3, alpha=0.5)
    assert optimizer.param_groups is inner.param_groups
    scheduler = lr_scheduler.StepLR(optimizer, 2)
    for step in range(4):
        take_steps(optimizer, params, step, step + 1)
        scheduler.step()
    assert inner.param_groups[0]["lr"] == pytest.approx(0.001)
    with optimizer.using("slow"):
        assert_same(params, [optimizer.state[p]["slow"] for p in params], 0)
    late = parameters((2,), seed=3)
    optimizer.add_param_group({"params": late})
    assert len(inner.param_groups) == 2
    take_steps(optimizer, params + late, 4, 6)


def test_a_rule_of_the_users_own_is_an_optimizer() -> None:
    @rule(speed=zeros)
    def heavy(update: Any, state: Any, *, mu: float = 0.9) -> Any:
        state.speed = mu * state.speed + update
        return state.speed

    params, others = parameters(), parameters()
    optimizer = opt.Optimizer(params, s.chain(heavy(0.8), s.descend(0.1)))
    theirs = torch.optim.SGD(others, lr=0.1, momentum=0.8)
    take_steps(optimizer, params, 0, 4)
    take_steps(theirs, others, 0, 4)
    assert_same(params, others)
    assert set(optimizer.param_groups[0]) >= {"mu", "lr"}


def test_a_step_with_nonfinite_gradients_is_refused_or_skipped_and_changes_nothing() -> None:
    params = parameters()
    optimizer = opt.Optimizer(
        params, s.chain(s.clip_by_global_norm(1.0, on_nonfinite="error"), s.adamw(0.1), s.ema(0.5))
    )
    for started in (False, True):
        if started:
            take_steps(optimizer, params, 0, 2)
        before = snapshot(optimizer, params)
        give_gradients(params, 2)
        params[1].grad[0] = float("nan")
        versions = [p._version for p in params]
        with pytest.raises(FloatingPointError, match="Nothing was changed"):
            optimizer.step()
        assert_unchanged(optimizer, params, before)
        assert [p._version for p in params] == versions
    skipping = opt.Optimizer(params, s.chain(s.clip_by_global_norm(1.0, on_nonfinite="skip"), s.adamw(0.1)))
    before = snapshot(skipping, params)
    skipping.step()
    assert_unchanged(skipping, params, before)
    assert skipping.steps == 0


def test_the_plan_is_printed_and_a_step_runs_on_the_meta_device() -> None:
    params = parameters()
    assert "scale_by_adam > add_decayed_weights > descend" in str(opt.AdamW(params).plan)
    meta = [torch.nn.Parameter(torch.empty(n, device="meta")) for n in ((4, 3), (5,))]
    optimizer = opt.Optimizer(meta, s.chain(s.clip_by_global_norm(1.0), s.lamb(0.1), s.ema(0.9)))
    for _ in range(2):
        for p in meta:
            p.grad = torch.empty_like(p)
        optimizer.step()
    assert optimizer.state[meta[0]]["average"].device.type == "meta"
    assert int(optimizer.state[meta[0]]["step"]) == 2


def test_what_a_chain_measures_is_read_after_the_step() -> None:
    params = parameters()
    optimizer = opt.Optimizer(
        params, s.chain(s.measure(grad_norm=lambda update: s.norm(update, per="model")), s.sgd(0.1))
    )
    assert optimizer.measured == {}
    take_steps(optimizer, params, 0, 1)
    norm = torch.cat([p.grad.flatten() for p in params]).norm().item()
    assert optimizer.measured["grad_norm"] == pytest.approx(norm)


def test_they_are_torch_optimizers_and_show_their_arguments() -> None:
    optimizer = opt.AdamW(parameters(), lr=0.1)
    assert isinstance(optimizer, torch.optim.Optimizer)
    assert set(torch.optim.AdamW(parameters()).param_groups[0]) == set(optimizer.param_groups[0])
    assert "lr: 0.1" in repr(optimizer)


def test_a_complex_parameter_is_refused_where_its_real_view_would_mean_something_else() -> None:
    w = torch.nn.Parameter(torch.ones(2, 3, dtype=torch.complex64))
    with pytest.raises(ValueError, match="units of the complex parameter '0' must lie along dimension 0, got -1"):
        opt.Optimizer([w], s.chain(s.adaptive_grad_clip(0.1, axis=-1), s.sgd(0.1)))
    with pytest.raises(
        ValueError, match=r"norm_type of clip_by_global_norm must be 2 for the complex parameter '0', got 1\.0"
    ):
        opt.Optimizer([w], s.chain(s.clip_by_global_norm(1.0, 1.0), s.sgd(0.1)))
