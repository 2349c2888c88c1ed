"""Steps inside the backward pass: the same bits as usual steps, with gradients that are gone when it ends."""

from __future__ import annotations

import copy
import gc
import re
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import nn

import steepest as s
import steepest.torch as opt
from steepest.schedules import cosine

Make = Callable[[Any], opt.Optimizer]

CHAINS: dict[str, Callable[[], s.Chain]] = {
    "sgd": lambda: s.sgd(0.05, 0.9, weight_decay=0.01),
    "adamw": lambda: s.adamw(0.01),
    "nadam": lambda: s.nadam(0.01),
    "lion": lambda: s.lion(0.01),
    "lamb": lambda: s.lamb(0.01, weight_decay=0.01),
    "lars": lambda: s.lars(0.5, weight_decay=0.01),
    "clip_by_value": lambda: s.chain(s.clip_by_value(-0.01, 0.01), s.adam(0.01)),
    "clip_by_norm": lambda: s.chain(s.clip_by_norm(0.1), s.adam(0.01)),
    "agc": lambda: s.chain(s.adaptive_grad_clip(0.01), s.sgd(0.05, 0.9)),
    "lookahead": lambda: s.chain(s.adam(0.01), s.lookahead(3, 0.5)),
    "ema": lambda: s.chain(s.adamw(0.01), s.ema(0.9)),
    "only": lambda: s.chain(s.exclude(s.clip_by_norm(0.1), "*bias"), s.adam(0.01)),
}


class Tied(nn.Module):
    """A weight used twice, a layer used in every second pass, one that is frozen, and an embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 6)
        self.deep = nn.Sequential(nn.Linear(6, 300), nn.Tanh(), nn.Linear(300, 6))
        self.sometimes = nn.Linear(6, 6)
        self.frozen = nn.Linear(6, 6)
        self.frozen.requires_grad_(False)
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        h = self.frozen(self.deep(self.embed(x)))
        h = self.sometimes(h) if self.calls % 2 else h
        return h @ self.embed.weight.T


def model_of(kind: type[nn.Module] = Tied, **arguments: Any) -> nn.Module:
    torch.manual_seed(3)
    return kind(**arguments)


def loss_of(model: nn.Module, step: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(step)
    x, y = torch.randint(0, 11, (2, 8), generator=generator)
    return nn.functional.cross_entropy(model(x), y)


@contextmanager
def released(optimizer: opt.Optimizer, apart: bool, accumulate: int = 1) -> Iterator[None]:
    if not apart:
        yield
        return
    with opt.release_gradients(optimizer, accumulate=accumulate):
        yield


def trained(make: Make, apart: bool, steps: int = 7, accumulate: int = 1) -> tuple[nn.Module, opt.Optimizer]:
    model = model_of()
    optimizer = make(model.named_parameters())
    with released(optimizer, apart, accumulate):
        for step in range(steps):
            for part in range(accumulate):
                loss_of(model, step * accumulate + part).backward()
            optimizer.step()
            if apart:
                assert all(p.grad is None for p in model.parameters())
            optimizer.zero_grad()
    return model, optimizer


def assert_same_bits(one: nn.Module, other: nn.Module) -> None:
    for (name, a), (_, b) in zip(one.named_parameters(), other.named_parameters(), strict=True):
        assert torch.equal(a, b), name


def assert_same_states(one: opt.Optimizer, other: opt.Optimizer) -> None:
    first, second = one.state_dict(), other.state_dict()
    assert first["param_groups"] == second["param_groups"]
    assert first["state"].keys() == second["state"].keys()
    for index, entry in first["state"].items():
        assert entry.keys() == second["state"][index].keys()
        for name, value in entry.items():
            assert torch.equal(value, second["state"][index][name]), (index, name)


# ---- the same as usual steps


@pytest.mark.parametrize("engine", ["cpu", "arrays"])
@pytest.mark.parametrize("name", CHAINS)
def test_steps_in_the_backward_pass_give_the_bits_of_usual_steps(name: str, engine: str) -> None:
    def make(params: Any) -> opt.Optimizer:
        return opt.Optimizer(params, CHAINS[name](), engine=engine)

    (usual, theirs), (apart, ours) = trained(make, False), trained(make, True)
    assert_same_bits(usual, apart)
    assert_same_states(theirs, ours)
    assert ours.steps == theirs.steps == 7


def test_gradients_add_up_over_several_passes_and_are_freed_in_the_last() -> None:
    def make(params: Any) -> opt.Optimizer:
        return opt.AdamW(params, lr=0.01)

    assert_same_bits(trained(make, False, accumulate=3)[0], trained(make, True, accumulate=3)[0])
    model = model_of(nn.Linear, in_features=3, out_features=2)
    optimizer = opt.SGD(model.parameters(), lr=0.1)
    with opt.release_gradients(optimizer, accumulate=2):
        for expected in (True, False):
            model(torch.ones(1, 3)).sum().backward()
            assert (model.weight.grad is not None) is expected


def test_a_parameter_that_misses_one_of_the_passes_is_stepped_when_the_step_ends() -> None:
    a, b = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = opt.SGD([a, b], lr=0.1)
    with opt.release_gradients(optimizer, accumulate=2):
        (a.sum() + b.sum()).backward()
        a.sum().backward()
        assert a.grad is None and b.grad is not None
        assert b.tolist() == [1.0, 1.0]
        optimizer.step()
    assert b.grad is None
    torch.testing.assert_close(b.detach(), torch.full((2,), 0.9))
    torch.testing.assert_close(a.detach(), torch.full((2,), 0.8))


def test_a_shared_weight_is_stepped_once_with_the_sum_of_its_gradients() -> None:
    w = nn.Parameter(torch.tensor([2.0]))
    optimizer = opt.SGD([w], lr=0.1)
    with opt.release_gradients(optimizer):
        (w * 3 + torch.sin(w * 0) + w * 4).sum().backward()
        optimizer.step()
    torch.testing.assert_close(w.detach(), torch.tensor([2.0 - 0.1 * 7]))


def test_each_parameter_keeps_its_own_step_count() -> None:
    model, optimizer = trained(lambda params: opt.Adam(params, lr=0.01), True)
    state = optimizer.state
    assert state[model.embed.weight]["step"] == 7
    assert state[model.sometimes.weight]["step"] == 4
    assert model.frozen.weight not in state


def test_schedulers_groups_and_schedules_act_as_in_usual_steps() -> None:
    def run(apart: bool) -> nn.Module:
        model = model_of()
        slow = {"params": [*model.deep.parameters()], "lr": 1e-3, "weight_decay": 0.0}
        fast = {"params": [model.embed.weight, *model.sometimes.parameters()]}
        optimizer = opt.AdamW([slow, fast], lr=0.1, weight_decay=cosine(0.1, 20))
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.5)
        with released(optimizer, apart):
            for step in range(6):
                loss_of(model, step).backward()
                optimizer.step()
                optimizer.zero_grad()
                scheduler.step()
                if step == 3:
                    optimizer.param_groups[0]["lr"] = 0.0
                if step == 4:
                    optimizer.param_groups[0]["weight_decay"] = 0.1
        return model

    assert_same_bits(run(False), run(True))


def test_a_schedule_sees_the_steps_of_the_optimizer() -> None:
    seen: list[int] = []

    def lr(step: int) -> float:
        seen.append(int(step))
        return 0.1 / (step + 1)

    model = model_of()
    optimizer = opt.Optimizer(model.parameters(), s.sgd(lr))
    seen.clear()
    with opt.release_gradients(optimizer):
        for step in range(3):
            loss_of(model, step).backward()
            optimizer.step()
    assert sorted(set(seen)) == [0, 1, 2, 3]  # 3: the number that the group shows for the next step


def test_measurements_are_those_of_a_usual_step() -> None:
    def make(params: Any) -> opt.Optimizer:
        length = s.measure(length=lambda update: s.norm(update, per="tensor"))
        return opt.Optimizer(params, s.chain(length, s.sgd(0.1)))

    assert trained(make, True)[1].measured == trained(make, False)[1].measured != {}


# ---- the closure and the handle


def test_a_closure_is_run_once_with_gradients_enabled_and_its_loss_returned() -> None:
    model, calls = model_of(), []
    optimizer = opt.SGD(model.parameters(), lr=0.1)

    def closure() -> torch.Tensor:
        calls.append(torch.is_grad_enabled())
        loss = loss_of(model, 0)
        loss.backward()
        return loss

    before = model.embed.weight.detach().clone()
    with opt.release_gradients(optimizer), torch.no_grad():
        loss = optimizer.step(closure)
    assert calls == [True] and loss.item() > 0
    assert not torch.equal(before, model.embed.weight)
    assert optimizer.steps == 1


@pytest.mark.parametrize("cut", [0, 1, 3, 6])
def test_usual_steps_and_steps_in_the_backward_pass_may_take_turns(cut: int) -> None:
    def run(switch: int | None) -> nn.Module:
        model = model_of()
        optimizer = opt.NAdam(model.parameters(), lr=0.01)
        handle = None
        for step in range(9):
            if step == switch:
                handle = opt.release_gradients(optimizer)
            if handle is not None and step == cut + 3:
                handle.remove()
                handle.remove()
            loss_of(model, step).backward()
            optimizer.step()
            optimizer.zero_grad()
        return model

    assert_same_bits(run(None), run(cut))


def test_the_optimizer_is_not_kept_alive_by_the_hooks() -> None:
    model = model_of()
    optimizer = opt.SGD(model.parameters(), lr=0.1)
    opt.release_gradients(optimizer)
    known = weakref.ref(optimizer)
    del optimizer
    gc.collect()
    assert known() is None
    loss_of(model, 0).backward()
    assert model.embed.weight.grad is not None


# ---- what may change in between


def test_a_state_dict_saved_in_between_continues_as_if_uninterrupted() -> None:
    expected = trained(lambda params: opt.AdamW(params, lr=0.01), False, steps=8)[0]
    model = model_of()
    optimizer = opt.AdamW(model.named_parameters(), lr=0.01)
    with opt.release_gradients(optimizer):
        for step in range(4):
            loss_of(model, step).backward()
            optimizer.step()
        saved = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
        for step in range(20, 23):
            loss_of(model, step).backward()
            optimizer.step()
        model.load_state_dict(saved[0])
        optimizer.load_state_dict(saved[1])
        assert optimizer.steps == 4
        model.calls = 4
        for step in range(4, 8):
            loss_of(model, step).backward()
            optimizer.step()
    assert_same_bits(expected, model)


def test_what_is_written_into_state_counts_at_the_next_backward_pass() -> None:
    def run(apart: bool) -> nn.Module:
        model = model_of()
        optimizer = opt.SGD(model.parameters(), lr=0.1, momentum=0.9)
        with released(optimizer, apart):
            for step in range(4):
                loss_of(model, step).backward()
                optimizer.step()
                optimizer.zero_grad()
                if step == 1:
                    optimizer.state[model.embed.weight]["momentum_buffer"] = torch.ones(11, 6)
                    del optimizer.state[model.deep[0].weight]
        return model

    assert_same_bits(run(False), run(True))


def test_parameters_may_be_added_thawed_and_given_other_memory() -> None:
    def run(apart: bool) -> nn.Module:
        model = model_of()
        optimizer = opt.Adam([*model.deep.parameters(), *model.frozen.parameters()], lr=0.01)
        with released(optimizer, apart):
            for step in range(6):
                loss_of(model, step).backward()
                optimizer.step()
                optimizer.zero_grad()
                model.zero_grad()
                if step == 1:
                    optimizer.add_param_group({"params": [model.embed.weight], "lr": 0.1})
                if step == 2:
                    model.frozen.requires_grad_(True)
                if step == 3:
                    model.deep[0].weight.data = model.deep[0].weight.data.clone()
        return model

    assert_same_bits(run(False), run(True))


def test_sparse_and_strided_gradients_are_stepped_as_usual() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(11, 6, sparse=True)
            self.weight = nn.Parameter(torch.randn(11, 6))
            self.weight.register_hook(lambda grad: grad.T.contiguous().T)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.embed(x) @ self.weight.T

    def run(apart: bool) -> nn.Module:
        model = model_of(Odd)
        optimizer = opt.Adagrad(model.parameters(), lr=0.1)
        with released(optimizer, apart):
            for step in range(4):
                loss_of(model, step).backward()
                optimizer.step()
                optimizer.zero_grad()
        return model

    assert_same_bits(run(False), run(True))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.complex64])
def test_every_type_of_parameter_is_stepped_as_usual(dtype: torch.dtype) -> None:
    def run(apart: bool) -> torch.Tensor:
        torch.manual_seed(0)
        w = nn.Parameter(torch.randn(5, 4, dtype=dtype))
        optimizer = opt.AdamW([w], lr=0.1)
        with released(optimizer, apart):
            for _ in range(3):
                (w * w.detach().clone()).abs().sum().backward()
                optimizer.step()
                optimizer.zero_grad()
        return w.detach()

    assert torch.equal(run(False), run(True))


def test_an_optimizer_in_lookahead_is_released_through_lookahead() -> None:
    def make(params: Any) -> opt.Optimizer:
        return opt.Lookahead(opt.AdamW(params, lr=0.01), k=3)

    assert_same_bits(trained(make, False)[0], trained(make, True)[0])


# ---- memory


def test_few_gradients_live_at_once() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(*[nn.Linear(16, 16, bias=False) for _ in range(12)])
    optimizer = opt.AdamW(model.parameters(), lr=1e-3)
    alive: list[int] = []
    for layer in model:
        layer.register_full_backward_hook(
            lambda *_: alive.append(sum(p.grad is not None for p in model.parameters())) or None
        )
    with opt.release_gradients(optimizer, model):
        model(torch.ones(2, 16, requires_grad=True)).sum().backward()
    assert len(alive) == 12 and max(alive) <= 1


@pytest.mark.parametrize("engine", ["cpu", "arrays"])
def test_no_gradient_is_kept_alive_after_a_usual_step(engine: str) -> None:
    w = nn.Parameter(torch.ones(3))
    optimizer = opt.Optimizer([w], s.chain(s.clip_by_global_norm(1.0), s.adam(0.1)), engine=engine)
    for _ in range(3):
        w.grad = torch.ones(3)
        known = weakref.ref(w.grad.untyped_storage())
        memory = weakref.ref(w.grad)
        optimizer.step()
        optimizer.zero_grad()
        assert memory() is None and known() is None


# ---- what is refused


@pytest.mark.parametrize(
    ("chain", "said"),
    [
        (
            s.chain(s.clip_by_global_norm(1.0), s.adamw(0.1)),
            "clip_by_global_norm needs a sum over",
        ),
        (
            s.chain(s.clip_by_value(-1, 1), s.clip_by_global_norm(1.0, on_nonfinite="skip"), s.sgd(0.1)),
            "clip_by_global_norm needs a guard over",
        ),
        (
            s.chain(s.measure(total=lambda update: s.norm(update, per="model")), s.sgd(0.1)),
            "measure(total) needs a sum over",
        ),
    ],
)
def test_a_chain_that_must_see_the_whole_model_is_refused_by_the_name_of_its_rule(chain: s.Chain, said: str) -> None:
    model = model_of()
    optimizer = opt.Optimizer(model.parameters(), chain)
    message = re.escape(f"release_gradients: {said} the whole model, which is known only after the backward pass")
    with pytest.raises(ValueError, match=f"^{message}"):
        opt.release_gradients(optimizer)
    loss_of(model, 0).backward()
    optimizer.step()
    assert optimizer.steps == 1


def test_a_group_with_such_a_chain_is_refused_while_gradients_are_released() -> None:
    a, b = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = opt.SGD([a], lr=0.1)
    with opt.release_gradients(optimizer):
        with pytest.raises(ValueError, match=r"^release_gradients: clip_by_global_norm needs"):
            optimizer.add_param_group({"params": [b], "chain": s.chain(s.clip_by_global_norm(1.0), s.sgd(0.1))})
        assert len(optimizer.param_groups) == 1
        a.sum().backward()
        optimizer.step()
    torch.testing.assert_close(a.detach(), torch.full((2,), 0.9))


def test_a_second_backward_pass_before_the_step_is_refused_and_changes_nothing() -> None:
    w = nn.Parameter(torch.ones(2))
    optimizer = opt.SGD([w], lr=0.1)
    with opt.release_gradients(optimizer):
        w.sum().backward()
        before = w.detach().clone()
        message = (
            "release_gradients: parameter '0' got another gradient before optimizer.step() was called. Call "
            "optimizer.step() after every 1 backward passes, or pass accumulate=…."
        )
        with pytest.raises(RuntimeError, match=f"^{re.escape(message)}$"):
            w.sum().backward()
    assert torch.equal(w.detach(), before)


def test_what_can_not_be_released_is_said() -> None:
    model = model_of()
    optimizer = opt.SGD(model.deep.parameters(), lr=0.1)
    with pytest.raises(
        TypeError, match=r"^release_gradients: optimizer must be an optimizer of steepest\.torch, got SGD\.$"
    ):
        opt.release_gradients(torch.optim.SGD(model.parameters(), lr=0.1))
    for accumulate in (0, 1.5):
        with pytest.raises(
            ValueError, match=rf"^release_gradients: accumulate must be a whole number >= 1, got {accumulate}\.$"
        ):
            opt.release_gradients(optimizer, accumulate=accumulate)
    with pytest.raises(ValueError, match=r"^release_gradients: parameter 'embed\.weight' of the model isn't the optim"):
        opt.release_gradients(optimizer, model)
    opt.release_gradients(optimizer, model.deep)
    with pytest.raises(
        RuntimeError, match=r"^release_gradients: the gradients of this optimizer are already released\."
    ):
        opt.release_gradients(optimizer)


def test_no_step_is_taken_while_the_weights_are_swapped() -> None:
    w = nn.Parameter(torch.ones(2))
    optimizer = opt.Optimizer([w], s.chain(s.sgd(0.1), s.ema(0.9)))
    with opt.release_gradients(optimizer):
        w.sum().backward()
        optimizer.step()
        with (
            optimizer.using("average"),
            pytest.raises(RuntimeError, match=r"^step: the weights are swapped for 'averag"),
        ):
            w.sum().backward()
