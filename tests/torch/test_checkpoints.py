"""State dicts: to torch's optimizers and back, through files, by name, and through `torch.distributed.checkpoint`."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)

import steepest as s
import steepest.torch as opt
from steepest import Chain, schedules

Make = Callable[[Any], Any]
RULES: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {}),
    ("SGD", {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1}),
    ("SGD", {"momentum": 0.9, "nesterov": True}),
    ("Adagrad", {"lr_decay": 0.1, "initial_accumulator_value": 0.1}),
    ("RMSprop", {"momentum": 0.9, "centered": True}),
    ("Adadelta", {}),
    ("Adam", {"weight_decay": 0.1, "maximize": True}),
    ("Adam", {"amsgrad": True}),
    ("AdamW", {}),
    ("Adamax", {}),
    ("NAdam", {"decoupled_weight_decay": True, "weight_decay": 0.1}),
    ("RAdam", {}),
]


@pytest.fixture(autouse=True)
def in_float64() -> Any:
    """torch's NAdam keeps its product of momenta in the default type."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def model(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 2))


def train(net: Any, optimizer: Any, first: int, last: int) -> None:
    for step in range(first, last):
        random = torch.Generator().manual_seed(step)
        x = torch.randn(8, 4, generator=random).to(next(net.parameters()).dtype)
        optimizer.zero_grad()
        net(x).square().mean().backward()
        optimizer.step()


def through_file(state_dict: Any) -> Any:
    file = io.BytesIO()
    torch.save(state_dict, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def again(net: torch.nn.Module) -> Any:
    """The same model in another process."""
    other = model(1).to(next(net.parameters()).dtype)
    other.load_state_dict(through_file(net.state_dict()))
    return other


def plain(value: Any) -> Any:
    """What holds tensors, as something that can be compared exactly."""
    if isinstance(value, torch.Tensor):
        return str(value.dtype), value.tolist()
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def assert_same(ours: Any, theirs: Any, within: float = 1e-12) -> None:
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a.detach(), b.detach(), rtol=within, atol=within)


# ---- torch's optimizers


@pytest.mark.parametrize(("name", "values"), RULES)
def test_a_run_goes_from_torch_to_here_and_back_as_if_it_had_never_been_switched(
    name: str, values: dict[str, Any]
) -> None:
    makes = {module: getattr(module, name) for module in (opt, torch.optim)}
    straight = model()
    optimizer = makes[torch.optim](straight.parameters(), lr=0.05, **values)
    train(straight, optimizer, 0, 12)
    for order in ((torch.optim, opt, torch.optim), (opt, torch.optim, opt)):
        net, saved = model(), None
        for leg, module in enumerate(order):
            net = again(net)
            one = makes[module](net.parameters(), lr=0.3)  # overwritten by what is loaded
            if saved is not None:
                one.load_state_dict(saved)
            else:
                one = makes[module](net.parameters(), lr=0.05, **values)
            train(net, one, 4 * leg, 4 * leg + 4)
            saved = through_file(one.state_dict())
        assert_same(net, straight)


def test_torchs_named_checkpoint_is_found_by_name() -> None:
    straight = model()
    optimizer = torch.optim.Adam(straight.named_parameters(), lr=0.05)
    train(straight, optimizer, 0, 3)
    net, saved = again(straight), through_file(optimizer.state_dict())
    train(straight, optimizer, 3, 6)
    one = opt.Adam(reversed(list(net.named_parameters())), lr=0.3)
    one.load_state_dict(saved)
    train(net, one, 3, 6)
    assert_same(net, straight)


# ---- through files, in another process

CHAINS: dict[str, Make] = {
    "clip, AdamW, EMA": lambda p: opt.Optimizer(
        p, s.chain(s.clip_by_global_norm(1.0), s.adamw(0.05), s.ema(0.9, interval=2))
    ),
    "LAMB with a schedule": lambda p: opt.LAMB(p, lr=schedules.cosine(0.1, 10), weight_decay=0.1),
    "LARS": lambda p: opt.LARS(p, lr=0.5, weight_decay=0.1),
    "Lion": lambda p: opt.Lion(p, lr=schedules.linear(0.01, 0.0, 10)),
    "Lookahead": lambda p: opt.Lookahead(opt.RAdam(p, lr=0.05), k=3),
    "NAdam": lambda p: opt.NAdam(p, lr=0.05),
    "SGD": lambda p: opt.SGD(p, lr=schedules.cosine(0.1, 10), momentum=0.9),
    "schedules of betas": lambda p: opt.Adam(p, lr=0.05, betas=(schedules.linear(0.8, 0.9, 8), 0.99)),
    "tensor": lambda p: opt.Adam(p, lr=torch.tensor(0.05), betas=(torch.tensor(0.8), torch.tensor(0.99))),
}


@pytest.mark.parametrize("of", CHAINS)
def test_a_loaded_run_goes_on_with_the_same_bits(of: str) -> None:
    net = model()
    optimizer = CHAINS[of](net.parameters())
    train(net, optimizer, 0, 4)
    other, saved = again(net), through_file(optimizer.state_dict())
    one = CHAINS[of](other.parameters())
    one.load_state_dict(saved)
    assert one.steps == 4
    assert plain(one.state_dict()) == plain(optimizer.state_dict())
    train(net, optimizer, 4, 9)
    train(other, one, 4, 9)
    assert_same(other, net, 0)


def test_what_is_loaded_is_copied() -> None:
    net = model()
    optimizer = opt.Adam(net.parameters(), lr=torch.tensor(0.05))
    train(net, optimizer, 0, 2)
    other = again(net)
    saved = optimizer.state_dict()
    one = opt.Adam(other.parameters(), lr=0.3)
    one.load_state_dict(saved)
    before = plain(saved["state"])
    train(other, one, 2, 4)
    assert plain(saved["state"]) == before
    one.param_groups[0]["lr"].zero_()
    assert saved["param_groups"][0]["lr"] == 0.05


def test_a_plateau_remembers_what_it_has_seen() -> None:
    def make(net: torch.nn.Module) -> tuple[Any, Any]:
        plateau = schedules.ReduceOnPlateau(0.1, patience=1, factor=0.5)
        return opt.SGD(net.parameters(), lr=plateau), plateau

    net = model()
    optimizer, plateau = make(net)
    for step in range(5):
        train(net, optimizer, step, step + 1)
        plateau.step(1.0)
    assert plateau(0) < 0.1
    other = again(net)
    one, restored = make(other)
    one.load_state_dict(through_file(optimizer.state_dict()))
    assert restored.state_dict() == plateau.state_dict()
    train(net, optimizer, 5, 7)
    train(other, one, 5, 7)
    assert_same(other, net, 0)


def test_own_step_counts_and_parameters_without_a_step_are_kept() -> None:
    net = model()
    net[0].weight.requires_grad_(False)
    optimizer = opt.Adam(net.parameters(), lr=0.05)
    train(net, optimizer, 0, 3)
    net[0].weight.requires_grad_(True)
    net[2].bias.requires_grad_(False)
    net[2].bias.grad = None
    train(net, optimizer, 3, 5)
    other = again(net)
    other[2].bias.requires_grad_(False)
    one = opt.Adam(other.parameters(), lr=0.05)
    one.load_state_dict(through_file(optimizer.state_dict()))
    assert [int(one.state[p]["step"]) for p in other.parameters()] == [2, 5, 5, 3]
    for trained, optimizer_of in ((net, optimizer), (other, one)):
        trained[2].bias.requires_grad_(True)
        train(trained, optimizer_of, 5, 8)
    assert_same(other, net, 0)


def test_states_of_bfloat16_parameters_stay_float32_bit_by_bit() -> None:
    net = model().to(torch.bfloat16)
    optimizer = opt.Adam(net.parameters(), lr=0.05)
    train(net, optimizer, 0, 4)
    other = again(net)
    one = opt.Adam(other.parameters(), lr=0.05)
    one.load_state_dict(through_file(optimizer.state_dict()))
    assert all(one.state[p]["exp_avg_sq"].dtype == torch.float32 for p in other.parameters())
    train(net, optimizer, 4, 8)
    train(other, one, 4, 8)
    assert_same(other, net, 0)


def test_step_counts_beyond_float32_are_kept() -> None:
    net = model()
    optimizer = opt.Adam(net.parameters(), lr=0.0)
    train(net, optimizer, 0, 1)
    for p in net.parameters():
        optimizer.state[p]["step"].fill_(2**24 - 1)
    train(net, optimizer, 0, 3)
    assert [int(optimizer.state[p]["step"]) for p in net.parameters()] == [2**24 + 2] * 4


# ---- by name


def test_by_name_neither_the_order_nor_the_groups_matter() -> None:
    net = model()
    optimizer = opt.Adam(net.named_parameters(), lr=0.05)
    train(net, optimizer, 0, 3)
    other = again(net)
    named = list(other.named_parameters())
    one = opt.Adam([{"params": named[2:][::-1]}, {"params": named[:2], "lr": 0.2}], lr=0.3)
    assert one.load_state_dict(through_file(optimizer.state_dict())) == ([], [])
    assert [g["lr"] for g in one.param_groups] == [0.05, 0.05]
    assert [g["param_names"] for g in one.param_groups] == [["2.bias", "2.weight"], ["0.weight", "0.bias"]]
    train(net, optimizer, 3, 6)
    train(other, one, 3, 6)
    assert_same(other, net, 0)


def test_added_and_removed_parameters_are_all_named_or_returned() -> None:
    net = model()
    optimizer = opt.Adam(net.named_parameters(), lr=0.05)
    train(net, optimizer, 0, 3)
    saved = through_file(optimizer.state_dict())
    other = again(net)
    extra = torch.nn.Parameter(torch.ones(3))
    one = opt.Adam([("extra", extra), *list(other.named_parameters())[1:]], lr=0.3)
    before = plain(one.state_dict())
    with pytest.raises(ValueError, match=r"Missing: extra; unexpected: 0\.weight\. Load it into"):
        one.load_state_dict(saved)
    assert plain(one.state_dict()) == before and not one.state and one.steps == 0
    found = one.load_state_dict(saved, strict=False)
    assert (found.missing_keys, found.unexpected_keys) == (["extra"], ["0.weight"])
    assert extra not in one.state and int(one.state[other[0].bias]["step"]) == 3
    extra.grad = torch.ones(3)
    one.step()
    assert int(one.state[extra]["step"]) == 1


def test_a_checkpoint_of_adam_starts_lookahead_with_fresh_slow_weights() -> None:
    net = model()
    adam = opt.Adam(net.parameters(), lr=0.05)
    train(net, adam, 0, 3)
    saved = through_file(adam.state_dict())
    one = opt.Lookahead(opt.Adam(net.parameters(), lr=0.05), k=2)
    with pytest.raises(ValueError, match=r"Missing: 0\.slow, 1\.slow, 2\.slow, 3\.slow\. Load it into"):
        one.load_state_dict(saved)
    found = one.load_state_dict(saved, strict=False)
    assert found.missing_keys == ["0.slow", "1.slow", "2.slow", "3.slow"]
    weights = [p.detach().clone() for p in net.parameters()]
    net.zero_grad()
    for p in net.parameters():
        p.grad = torch.ones_like(p)
    one.step()
    assert all(int(one.state[p]["step"]) == 4 for p in net.parameters())
    for p, w in zip(net.parameters(), weights, strict=True):  # step 4 is a synchronisation
        torch.testing.assert_close(one.state[p]["slow"], p.detach())
        assert not torch.equal(p, w)


# ---- refused


def broken(saved: dict[str, Any], change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    saved = {"state": {k: dict(v) for k, v in saved["state"].items()}, "param_groups": [dict(saved["param_groups"][0])]}
    change(saved)
    return saved


def quantized(value: torch.Tensor) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch gives this kind of tensor up
        return torch.quantize_per_tensor(value.float(), 1.0, 0, torch.quint8)


STEPS: list[tuple[str, Any]] = [
    ("a meta float64 tensor", torch.ones((), dtype=torch.float64, device="meta")),
    ("a sparse_coo float32 tensor", torch.ones(1).to_sparse()),
    ("a quint8 tensor", quantized(torch.ones(1))),
    ("a float32 tensor", torch.ones(3)),
    (r"\(3\+0j\)", torch.tensor(3.0 + 0j)),
    (r"\(3\+0j\)", np.complex128(3)),
    ("True", torch.tensor(True)),
]
MOMENTS: list[tuple[str, Callable[[torch.Tensor], torch.Tensor]]] = [
    ("complex128", lambda m: m.to(torch.complex128)),
    ("int64", lambda m: m.long()),
    ("bool", lambda m: m.bool()),
    ("sparse_coo float64", lambda m: m.to_sparse()),
    ("meta float64", lambda m: m.to("meta")),
    ("quint8", quantized),
]
FLAGS = ("decoupled_weight_decay", "foreach", "fused", "capturable", "differentiable")
REFUSED: list[tuple[str, Callable[[dict[str, Any]], Any]]] = [
    ("the state dict must have 'state'", lambda d: d.pop("state")),
    ("must have its parameter's shape", lambda d: d["state"][3].update(exp_avg=torch.ones(7))),
    ("lr must be >= 0, got -1.0", lambda d: d["param_groups"][0].update(lr=-1.0)),
    ("betas", lambda d: d["param_groups"][0].update(betas=(0.9,))),
    ("schedule", lambda d: d["param_groups"][0].update(lr={"function": "mine"})),
    (r"must be \[4\], got \[3\]", lambda d: d["param_groups"][0].update(params=[0, 1, 2])),
    ("Unexpected: 2.more", lambda d: d["state"][2].update(more=torch.ones(2, 6))),
    ("Missing: 1.exp_avg", lambda d: d["state"][1].pop("exp_avg")),
    ("exp_avg of '1' must be a tensor, got list", lambda d: d["state"][1].update(exp_avg=[1.0])),
    ("step of '1' must be a number, got 'three'", lambda d: d["state"][1].update(step="three")),
    ("step of '1' must be a whole number >= 0", lambda d: d["state"][1].update(step=torch.tensor(-1.0))),
    ("step of '1' must be a whole number >= 0", lambda d: d["state"][1].update(step=torch.tensor(float("nan")))),
    ("steps must be a whole number >= 0, got -3", lambda d: d["param_groups"][0].update(steps=-3)),
    ("steps must be a whole number >= 0, got 'many'", lambda d: d["param_groups"][0].update(steps="many")),
    ("'state' must be a mapping, got list", lambda d: d.update(state=[])),
    ("must be a list of groups", lambda d: d.update(param_groups={})),
    ("saved chain", lambda d: d["param_groups"][0].update(chain="descend")),
    (r"\['params'\] must be a list of numbers or names, got Tensor", lambda d: d["param_groups"][0].update(params=torch.arange(4))),
    (r"\['params'\] must be a list of numbers or names", lambda d: d["param_groups"][0].update(params="0123")),
    ("step of '1' must be a whole number >= 0, got 1e\\+300", lambda d: d["state"][1].update(step=1e300)),
    *((f"step of '1' must be a number, got {said}", lambda d, step=step: d["state"][1].update(step=step)) for said, step in STEPS),
    *((f"exp_avg of '1' must be a dense tensor of floating-point numbers, got a {said} tensor",
       lambda d, of=of: d["state"][1].update(exp_avg=of(d["state"][1]["exp_avg"]))) for said, of in MOMENTS),
    *((rf"\['{name}'\] must be True, False or None, got", lambda d, n=name, v=value: d["param_groups"][0].update({n: v}))
      for name in FLAGS for value in (float("nan"), "3", torch.tensor(1.0), 1)),
]  # fmt: skip


@pytest.mark.parametrize(("said", "change"), REFUSED)
def test_a_refused_state_dict_changes_nothing(said: str, change: Callable[[dict[str, Any]], Any]) -> None:
    net = model()
    optimizer = opt.Adam(net.parameters(), lr=0.05)
    train(net, optimizer, 0, 2)
    saved = through_file(optimizer.state_dict())
    train(net, optimizer, 2, 4)
    before = plain(optimizer.state_dict()), plain(net.state_dict())
    with pytest.raises((ValueError, TypeError), match=said):
        optimizer.load_state_dict(broken(saved, change))
    assert (plain(optimizer.state_dict()), plain(net.state_dict())) == before
    train(net, optimizer, 4, 5)


def test_a_complex_parameter_takes_complex_states_only() -> None:
    p = torch.nn.Parameter(torch.ones(3, dtype=torch.complex64))
    optimizer = opt.Adam([p], lr=0.1)
    p.grad = torch.ones_like(p)
    optimizer.step()
    saved = through_file(optimizer.state_dict())
    optimizer.load_state_dict(saved)
    before = plain(optimizer.state_dict())
    saved["state"][0]["exp_avg_sq"] = torch.ones(3)
    with pytest.raises(
        TypeError, match="exp_avg_sq of '0' must be a dense tensor of complex numbers, got a float64 tensor"
    ):
        optimizer.load_state_dict(saved)
    assert plain(optimizer.state_dict()) == before


@pytest.mark.parametrize(
    "value", [torch.ones(6, 5, dtype=torch.complex64), torch.ones(6, 5).to_sparse(), torch.ones(6, 5, device="meta")]
)
def test_a_wrong_moment_that_is_put_into_state_stops_the_next_step_before_any_change(value: torch.Tensor) -> None:
    p = torch.nn.Parameter(torch.ones(6, 5))
    optimizer = opt.Adam([p], lr=0.1)
    p.grad = torch.ones_like(p)
    optimizer.step()
    optimizer.state[p]["exp_avg"], weights = value, p.detach().clone()
    with pytest.raises(TypeError, match=r"Adam\.state: exp_avg of '0' must be a dense tensor"):
        optimizer.step()
    assert torch.equal(p, weights)


def test_adamw_stays_decoupled_when_it_loads_the_state_of_adam() -> None:
    net = model()
    theirs = torch.optim.Adam(net.parameters(), lr=0.05)
    train(net, theirs, 0, 2)
    ours = opt.AdamW(net.parameters())
    ours.load_state_dict(theirs.state_dict())
    assert ours.param_groups[0]["decoupled_weight_decay"] is True


@pytest.mark.parametrize("wrong", [None, [], "state"])
def test_what_is_no_state_dict_is_refused(wrong: Any) -> None:
    with pytest.raises(
        TypeError,
        match=r"SGD.load_state_dict: the state dict must be a mapping, got \w+\. Pass the result of state_dict\(\)",
    ):
        opt.SGD(model().parameters(), lr=0.1).load_state_dict(wrong)


def test_another_chain_is_refused() -> None:
    net = model()
    saved = opt.Optimizer(net.parameters(), s.chain(s.clip_by_value(-1.0, 1.0), s.sgd(0.1))).state_dict()
    with pytest.raises(ValueError, match="the saved chain is clip_by_value > descend, but the chain here is descend"):
        opt.Optimizer(net.parameters(), s.sgd(0.1)).load_state_dict(saved)


# ---- torch.distributed.checkpoint

FRESH: dict[str, Make] = {
    **CHAINS,
    "SGD plain": lambda p: opt.SGD(p, lr=0.1),
    "Adagrad": lambda p: opt.Adagrad(p, lr=0.1, initial_accumulator_value=0.1),
    "RMSprop": lambda p: opt.RMSprop(p, lr=0.1, momentum=0.9, centered=True),
    "Adadelta": lambda p: opt.Adadelta(p, lr=0.1),
    "Adamax": lambda p: opt.Adamax(p, lr=0.1),
    "AdamW": lambda p: opt.AdamW(p, lr=0.1, amsgrad=True),
    "named": lambda p: opt.AdamW(zip("abcd", p, strict=True), lr=0.1),
}


@pytest.mark.parametrize("of", FRESH)
def test_an_empty_step_with_learning_rate_0_makes_every_state_and_moves_nothing(of: str) -> None:
    net = model()
    weights = plain(net.state_dict())
    optimizer = FRESH[of](net.parameters())
    empty = get_optimizer_state_dict(net, optimizer)
    assert plain(net.state_dict()) == weights
    stepped = FRESH[of]((other := model()).parameters())
    train(other, stepped, 0, 1)
    full = get_optimizer_state_dict(other, stepped)
    assert {k: set(v) for k, v in empty["state"].items()} == {k: set(v) for k, v in full["state"].items()}
    assert all(torch.isfinite(v).all() for entry in empty["state"].values() for v in entry.values())


@pytest.mark.parametrize("flat", [False, True], ids=["nested", "flattened"])
@pytest.mark.parametrize("of", FRESH)
def test_a_distributed_checkpoint_goes_on_with_the_same_bits(of: str, flat: bool) -> None:
    options = StateDictOptions(flatten_optimizer_state_dict=flat)
    net = model()
    optimizer = FRESH[of](net.parameters())
    train(net, optimizer, 0, 4)
    other, saved = again(net), through_file(get_optimizer_state_dict(net, optimizer, options=options))
    one = FRESH[of](other.parameters())
    set_optimizer_state_dict(other, one, saved, options=options)
    assert one.steps == 4
    train(net, optimizer, 4, 9)
    train(other, one, 4, 9)
    assert_same(other, net, 0)


def test_a_full_distributed_checkpoint_of_several_groups_is_restored() -> None:
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)

    def make(net: Any) -> Any:
        return opt.AdamW([{"params": net[0].parameters(), "lr": 0.2}, {"params": net[2].parameters()}], lr=0.05)

    net = model()
    optimizer = make(net)
    train(net, optimizer, 0, 4)
    other, saved = again(net), through_file(get_optimizer_state_dict(net, optimizer, options=options))
    one = make(other)
    set_optimizer_state_dict(other, one, saved, options=options)
    train(net, optimizer, 4, 8)
    train(other, one, 4, 8)
    assert_same(other, net, 0)


@pytest.mark.parametrize("made", [s.lamb(0.1, weight_decay=0.1), s.lars(0.1, weight_decay=0.1)], ids=str)
def test_zero_gradients_and_zero_weights_give_no_nan(made: Chain) -> None:
    params: Sequence[torch.nn.Parameter] = [torch.nn.Parameter(torch.zeros(3, 2)), torch.nn.Parameter(torch.ones(2))]
    optimizer = opt.Optimizer(params, made)
    for _ in range(2):
        for p in params:
            p.grad = torch.zeros_like(p)
        optimizer.step()
    assert all(torch.isfinite(p).all() for p in params)


@pytest.mark.parametrize("engine", ["cpu", "arrays"])
@pytest.mark.parametrize(
    "make", [opt.AdamW, opt.NAdam, lambda p, engine: opt.SGD(p, lr=0.1, momentum=0.9, engine=engine)]
)
def test_a_state_dict_in_memory_follows_the_run_as_torchs_does(make: Any, engine: str) -> None:
    params = [torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(2))]
    optimizer = make(params, engine=engine)

    def step(present: int) -> None:
        for p in params[:present]:
            p.grad = torch.full_like(p, 0.5)
        for p in params[present:]:
            p.grad = None
        optimizer.step()

    for _ in range(3):
        step(2)
    kept = optimizer.state_dict()
    step(2)
    step(1)
    step(2)
    now = optimizer.state_dict()
    for index, count in ((0, 6.0), (1, 5.0)):
        assert float(kept["state"][index]["step"]) == count
        for name, value in now["state"][index].items():
            assert torch.equal(kept["state"][index][name], value)
    other = make([torch.nn.Parameter(p.detach().clone()) for p in params], engine=engine)
    other.load_state_dict(kept)
    step(2)
    for p, q in zip(other.param_groups[0]["params"], params, strict=True):
        p.grad = torch.full_like(p, 0.5)
        assert q.grad is not None
    other.step()
    for p, q in zip(other.param_groups[0]["params"], params, strict=True):
        assert torch.equal(p, q)
