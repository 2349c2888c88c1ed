"""Parameters without memory when the optimizer is made: those of lazy modules, and those on the meta device."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

import steepest
import steepest.torch as opt

pytestmark = pytest.mark.filterwarnings("ignore:Lazy modules are a new feature:UserWarning")
NAMES = ("SGD", "RMSprop", "Adadelta", "Adam", "AdamW", "Adamax", "NAdam", "RAdam")  # torch's Adagrad refuses lazy ones
INPUTS = torch.randn(8, 3, generator=torch.Generator().manual_seed(1))


def network() -> nn.Sequential:
    """Two lazy layers around others."""
    torch.manual_seed(0)
    return nn.Sequential(nn.LazyLinear(4), nn.ReLU(), nn.Linear(4, 4), nn.LazyLinear(1))


def trained(model: nn.Module, optimizer: Any, steps: int = 4) -> nn.Module:
    torch.manual_seed(2)  # lazy layers draw their weights in the first pass
    for _ in range(steps):
        optimizer.zero_grad()
        model(INPUTS).square().mean().backward()
        optimizer.step()
    return model


def assert_same(model: nn.Module, other: nn.Module) -> None:
    for own, its in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(own, its, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("engine", ["auto", "arrays"])
@pytest.mark.parametrize("name", NAMES)
def test_an_optimizer_made_before_the_first_pass_trains_as_torchs_does(name: str, engine: str) -> None:
    theirs, ours = network(), network()
    trained(theirs, getattr(torch.optim, name)(theirs.parameters(), lr=0.05))
    optimizer = getattr(opt, name)(ours.parameters(), lr=0.05, engine=engine)
    trained(ours, optimizer)
    assert_same(ours, theirs)
    assert optimizer.steps == 4 and len(optimizer.state_dict()["state"]) == 6


def test_a_layer_that_is_never_run_is_left_out_until_it_is() -> None:
    model, late = network(), nn.LazyLinear(2)
    optimizer = opt.AdamW([*model.parameters(), *late.parameters()], lr=0.05)
    trained(model, optimizer)
    assert [t.name for t in optimizer.stepper.tensors] == ["0", "1", "2", "3", "4", "5"]
    assert optimizer.state_dict()["param_groups"][0]["params"] == [0, 1, 2, 3, 4, 5, 6, 7]
    late(INPUTS).sum().backward()
    optimizer.step()
    states = optimizer.state_dict()["state"]
    assert [int(states[n]["step"]) for n in (0, 6, 7)] == [5, 1, 1]


def clipped_chain(params: Any) -> Any:
    return opt.Optimizer(params, steepest.chain(steepest.clip_by_global_norm(0.1), steepest.adamw(0.05)))


def chain_by_shape(params: Any) -> Any:
    return opt.Optimizer(params, steepest.exclude(steepest.lars(0.05), max_ndim=1))


def lookahead(params: Any) -> Any:
    return opt.Lookahead(opt.SGD(params, lr=0.05), k=2)


@pytest.mark.parametrize("make", [clipped_chain, chain_by_shape, lookahead])
def test_shapes_and_sums_are_those_of_an_optimizer_made_after_the_first_pass(make: Callable[[Any], Any]) -> None:
    before, after = network(), network()
    torch.manual_seed(2)
    after(INPUTS)
    trained(before, make(before.parameters()))
    trained(after, make(after.parameters()))
    assert_same(before, after)


def test_names_groups_copies_and_state_dicts_are_had_before_the_first_pass() -> None:
    model = network()
    named = list(model.named_parameters())
    optimizer = opt.Adam(named[:2], lr=0.05)
    optimizer.add_param_group({"params": named[2:]})
    saved = optimizer.state_dict()
    assert saved["state"] == {} and [g["params"] for g in saved["param_groups"]] == [[0, 1], [2, 3, 4, 5]]
    assert optimizer.load_state_dict(pickle.loads(pickle.dumps(saved))) == ([], [])
    assert repr(copy.deepcopy(optimizer)) == repr(optimizer) and optimizer.steps == 0
    expected = network()
    trained(model, optimizer)
    trained(expected, torch.optim.Adam(expected.parameters(), lr=0.05))
    assert_same(model, expected)
    assert [t.name for t in optimizer.stepper.tensors] == [name for name, _ in named]


def test_a_state_is_loaded_after_the_weights_and_refused_before() -> None:
    source = network()
    first = opt.Adam(source.parameters(), lr=0.05)
    trained(source, first)
    model = network()
    optimizer = opt.Adam(model.named_parameters(), lr=0.05)
    with pytest.raises(ValueError, match=r"parameter '0\.weight' must be initialized before its state is loaded\. Run"):
        optimizer.load_state_dict(first.state_dict())
    assert optimizer.steps == 0
    model.load_state_dict(source.state_dict())
    optimizer.load_state_dict(first.state_dict())
    assert optimizer.steps == 4
    trained(model, optimizer, 2)
    trained(source, first, 2)
    assert_same(model, source)


def test_gradients_are_released_from_the_second_pass_on() -> None:
    model, expected = network(), network()
    optimizer = opt.SGD(model.parameters(), lr=0.05)
    opt.release_gradients(optimizer)
    trained(expected, torch.optim.SGD(expected.parameters(), lr=0.05))
    torch.manual_seed(2)
    for _ in range(4):
        model(INPUTS).square().mean().backward()
        optimizer.step()
        assert all(p.grad is None for p in model.parameters())
    assert_same(model, expected)


def test_a_monitor_asks_for_a_first_pass() -> None:
    model = network()
    optimizer = opt.SGD(model.parameters(), lr=0.05)
    with pytest.raises(ValueError, match=r"^Monitor: every parameter must be initialized, got 4 uninitialized ones"):
        steepest.Monitor(optimizer, model, folder=None)
    model(INPUTS)
    with steepest.Monitor(optimizer, model, every=1, folder=None) as monitor:
        loss = model(INPUTS).square().mean()
        loss.backward()
        optimizer.step()
        monitor(loss)
        assert monitor.last is not None


# ---- the meta device


@pytest.fixture
def swapped() -> Iterator[None]:
    """`to_empty` keeps the parameters and exchanges what is in them, as FSDP2 has it."""
    torch.__future__.set_swap_module_params_on_conversion(True)
    yield
    torch.__future__.set_swap_module_params_on_conversion(False)


@pytest.mark.parametrize("steps_before", [0, 2])
@pytest.mark.usefixtures("swapped")
def test_parameters_that_leave_the_meta_device_are_stepped_as_torch_steps_them(steps_before: int) -> None:
    found = {}
    for module in (torch.optim, opt):
        model = nn.Linear(3, 2, device="meta")
        optimizer = module.AdamW(model.parameters(), lr=0.1)
        for _ in range(steps_before):  # steps on nothing, which some tools make to fill the state
            for p in model.parameters():
                p.grad = torch.zeros_like(p)
            optimizer.step()
        optimizer.zero_grad()
        model.to_empty(device="cpu")
        with torch.no_grad():
            for p in model.parameters():
                p.fill_(1.0)
        if steps_before:
            optimizer.state.clear()
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.ones(1, 3)).square().sum().backward()
            optimizer.step()
        found[module] = [p.detach() for p in model.parameters()]
    torch.testing.assert_close(found[opt], found[torch.optim])
