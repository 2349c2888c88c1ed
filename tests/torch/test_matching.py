"""How a state dict finds its groups and parameters: by name, by number, and after groups were changed by hand."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict

import steepest
import steepest.torch as opt

NAMES = ("SGD", "Adagrad", "RMSprop", "Adadelta", "Adam", "AdamW", "Adamax", "NAdam", "RAdam")
Parameters = list[torch.nn.Parameter]


def parameters(count: int = 2) -> Parameters:
    params = [torch.nn.Parameter(torch.full((n + 1,), 1.0)) for n in range(count)]
    for number, one in enumerate(params, start=1):
        one.grad = torch.full_like(one, float(number))
    return params


def named(params: Parameters, *names: str) -> list[tuple[str, torch.nn.Parameter]]:
    return list(zip(names, params, strict=True))


def stepped(module: Any, groups: Any, name: str = "Adam", steps: int = 3, **values: Any) -> Any:
    optimizer = getattr(module, name)(groups, **values)
    for _ in range(steps):
        optimizer.step()
    return optimizer


def numbers(saved: dict[str, Any]) -> Any:
    """A state dict as plain numbers."""
    state = {
        k: {n: v.tolist() if isinstance(v, torch.Tensor) else v for n, v in e.items()}
        for k, e in saved["state"].items()
    }
    return {"state": state, "param_groups": saved["param_groups"]}


# ---- names


@pytest.mark.parametrize("name", NAMES)
def test_an_optimizer_without_names_takes_over_those_of_a_state_dict_as_torchs_does(name: str) -> None:
    found = {}
    for module in (torch.optim, opt):
        saved = stepped(module, named(parameters(), "a", "b"), name, lr=0.1).state_dict()
        other = getattr(module, name)(parameters(), lr=0.1)
        other.load_state_dict(saved)
        found[module] = other.state_dict()["param_groups"][0]["param_names"], other.param_groups[0]["param_names"]
    assert found[opt] == found[torch.optim] == (["a", "b"], ["a", "b"])


def test_names_that_were_taken_over_find_the_state_at_the_next_load() -> None:
    source = stepped(opt, named(parameters(), "a", "b"))
    between = opt.Adam(parameters())
    between.load_state_dict(source.state_dict())
    params = parameters()
    turned = opt.Adam(named(params[::-1], "b", "a"))
    turned.load_state_dict(copy.deepcopy(between).state_dict())
    for own, first in zip(params, source.param_groups[0]["params"], strict=True):
        torch.testing.assert_close(turned.state[own], source.state[first], rtol=0, atol=0)


def test_names_that_were_taken_over_decide_which_parameters_are_left_out() -> None:
    decay = steepest.exclude(steepest.add_decayed_weights(0.5), where=lambda name, shape: name.endswith("bias"))
    chain = steepest.chain(decay, steepest.descend(0.1))
    source = opt.Optimizer(named(parameters(), "0.weight", "0.bias"), chain)
    source.step()
    params = parameters()
    for p in params:
        p.grad = torch.zeros_like(p)
    other = opt.Optimizer(params, chain)
    other.load_state_dict(source.state_dict())
    other.step()
    assert [p.tolist() for p in params] == [[pytest.approx(0.95)], [1.0, 1.0]]
    assert [t.name for t in other.stepper.tensors] == ["0.weight", "0.bias"]


def test_an_optimizer_with_names_keeps_them_if_a_state_dict_has_none() -> None:
    other = opt.Adam(named(parameters(), "a", "b"))
    other.load_state_dict(stepped(opt, parameters()).state_dict())
    assert other.state_dict()["param_groups"][0]["param_names"] == ["a", "b"] and other.steps == 3


def test_groups_with_and_without_names_are_matched_one_by_one() -> None:
    """A hook of the user's, for one, may name some groups only."""
    params = parameters(3)
    source = stepped(opt, [{"params": params[:2]}, {"params": params[2:]}])
    saved = source.state_dict()
    saved["param_groups"][0]["param_names"] = ["a", "b"]
    others = parameters(3)
    other = opt.Adam([{"params": others[1::-1]}, {"params": others[2:]}])
    other.param_groups[0]["param_names"] = ["b", "a"]
    other.load_state_dict(saved)
    for own, first in zip(others, params, strict=True):
        torch.testing.assert_close(other.state[own], source.state[first], rtol=0, atol=0)


@pytest.mark.parametrize("names", [["a"], ["a", "b", "c"], ["a", "a"], "ab"])
def test_saved_names_that_do_not_fit_the_parameters_are_refused(names: Any) -> None:
    saved = stepped(opt, parameters()).state_dict()
    saved["param_groups"][0]["param_names"] = names
    other = opt.Adam(parameters())
    with pytest.raises(ValueError, match=r"param_groups\[0\]\['param_names'\] must be 2 different names, got"):
        other.load_state_dict(saved)
    assert "param_names" not in other.param_groups[0] and not other.state


def test_names_in_place_of_numbers_are_matched_by_name() -> None:
    """`torch.distributed.checkpoint` gives such state dicts, and its own loading turns them into numbers again."""
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    source = opt.Adam(model.parameters())
    for number, p in enumerate(model.parameters()):
        p.grad = torch.full_like(p, float(number))
    source.step()
    saved = get_optimizer_state_dict(model, source)
    assert saved["param_groups"][0]["params"] == ["0.weight", "0.bias", "1.weight", "1.bias"]
    other = opt.Adam(list(model.named_parameters())[::-1])
    assert other.load_state_dict(saved) == ([], [])
    for p in model.parameters():
        torch.testing.assert_close(other.state[p], source.state[p], rtol=0, atol=0)
    unnamed = opt.Adam(model.parameters())
    unnamed.load_state_dict(saved)
    assert "param_names" not in unnamed.param_groups[0]
    torch.testing.assert_close(unnamed.state[model[1].bias], source.state[model[1].bias], rtol=0, atol=0)


# ---- states that no group lists


def test_numbers_that_became_text_are_read_as_numbers() -> None:
    source = stepped(opt, parameters(), steps=50)
    saved = source.state_dict()
    text = json.loads(json.dumps({str(key): key for key in saved["state"]}))
    other = opt.Adam(parameters())
    other.load_state_dict({**saved, "state": {k: saved["state"][v] for k, v in text.items()}})
    assert other.steps == 50
    assert numbers(other.state_dict()) == numbers(saved)


def test_groups_that_list_text_find_numbers() -> None:
    source = stepped(opt, parameters())
    saved = source.state_dict()
    saved["param_groups"][0]["params"] = ["0", "1"]
    other = opt.Adam(parameters())
    other.load_state_dict(saved)
    assert numbers(other.state_dict()) == numbers(source.state_dict())


@pytest.mark.parametrize(
    ("key", "shown"), [(7, r"state\[7\]"), ("7", r"state\['7'\]"), ("00", r"state\['00'\]"), ("a", r"state\['a'\]")]
)
def test_a_state_that_no_group_lists_is_unexpected(key: Any, shown: str) -> None:
    saved = stepped(opt, parameters()).state_dict()
    saved["state"][key] = saved["state"][0]
    other = opt.Adam(parameters())
    with pytest.raises(ValueError, match=rf"Unexpected: {shown}\. Load it into"):
        other.load_state_dict(saved)
    assert other.steps == 0 and not other.state
    found = other.load_state_dict(saved, strict=False)
    assert found.unexpected_keys == [shown.replace("\\", "")] and other.steps == 3


def test_a_number_and_its_text_together_are_not_confused() -> None:
    saved = stepped(opt, parameters()).state_dict()
    saved["state"]["0"] = {name: torch.zeros_like(value) for name, value in saved["state"][0].items()}
    other = opt.Adam(parameters())
    with pytest.raises(ValueError, match=r"Unexpected: state\['0'\]\. Load it into"):
        other.load_state_dict(saved)


def test_states_without_content_are_nobodys_loss() -> None:
    saved = stepped(opt, parameters()).state_dict()
    saved["state"]["frozen"] = {}
    assert opt.Adam(parameters()).load_state_dict(saved) == ([], [])


# ---- groups changed by hand


@pytest.mark.parametrize("name", NAMES)
def test_groups_that_were_repeated_by_hand_are_saved_as_torch_saves_them(name: str) -> None:
    found = {}
    for module in (torch.optim, opt):
        optimizer = stepped(module, parameters(), name, lr=0.1)
        optimizer.param_groups.extend(optimizer.param_groups)
        for one in (optimizer, copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
            groups = one.state_dict()["param_groups"]
            assert groups[0] == groups[1]
        found[module] = [g["params"] for g in groups]
    assert found[opt] == found[torch.optim] == [[0, 1], [0, 1]]


@pytest.mark.parametrize(
    "use",
    [
        lambda o: o.step(),
        lambda o: o.plan,
        lambda o: o.stepper,
        lambda o: o.load_state_dict(o.state_dict()),
        lambda o: o.add_param_group({"params": parameters(1)}),
        lambda o: steepest.Monitor(o, folder=None),
    ],
    ids=["step", "plan", "stepper", "load_state_dict", "add_param_group", "Monitor"],
)
def test_groups_that_were_repeated_by_hand_are_refused_in_one_sentence(use: Any) -> None:
    optimizer = stepped(opt, parameters())
    optimizer.param_groups.extend(optimizer.param_groups)
    with pytest.raises(ValueError, match=r"parameters '0' and '2' are the same tensor\. Pass it once"):
        use(optimizer)
    assert len(optimizer.param_groups) == 2 and optimizer.steps == 3 and repr(optimizer)
    del optimizer.param_groups[1]
    optimizer.step()
    assert optimizer.steps == 4 and [t.name for t in optimizer.stepper.tensors] == ["0", "1"]


def test_a_group_put_in_by_hand_is_refused_in_one_sentence() -> None:
    optimizer = stepped(opt, parameters())
    optimizer.param_groups.append({**optimizer.param_groups[0], "params": parameters(1)})
    for use in (optimizer.step, optimizer.state_dict):
        with pytest.raises(ValueError, match=r"Adam: param_groups\[1\] must be added by add_param_group"):
            use()


def test_a_group_taken_out_or_moved_by_hand_keeps_its_own_rule() -> None:
    a, b, c = parameters(3)
    groups = [{"params": [p], "chain": chain} for p, chain in zip((a, b, c), rules(), strict=True)]
    optimizer = opt.Optimizer(groups)
    del optimizer.param_groups[0]
    optimizer.param_groups.reverse()
    optimizer.step()
    assert a.tolist() == [1.0] and b.tolist() == pytest.approx([0.8] * 2) and c.tolist() == pytest.approx([0.1] * 3)
    saved = optimizer.state_dict()["param_groups"]
    assert [g["chain"] for g in saved] == [str(rules()[2]), str(rules()[1])]
    assert pickle.loads(pickle.dumps(optimizer)).state_dict()["param_groups"] == saved


def rules() -> list[Any]:
    return [steepest.adam(0.1), steepest.sgd(0.1), steepest.chain(steepest.clip_by_value(-9.0, 9.0), steepest.sgd(0.3))]


def test_the_state_of_a_parameter_that_was_exchanged_in_its_group_is_left_out_of_the_state_dict() -> None:
    old, new = parameters(1)[0], parameters(1)[0]
    optimizer = stepped(opt, [old])
    optimizer.param_groups[0]["params"][0] = new
    assert optimizer.state_dict()["state"] == {}
    assert int(optimizer.state[old]["step"]) == 3
    optimizer.step()
    assert int(optimizer.state_dict()["state"][0]["step"]) == 1
    optimizer.param_groups[0]["params"][0] = old  # as in torch, its state is found again
    optimizer.step()
    assert int(optimizer.state_dict()["state"][0]["step"]) == 4


# ---- tensors as hyperparameters


@pytest.mark.parametrize("name", NAMES)
def test_a_tensor_as_learning_rate_with_foreach_is_refused_where_torch_refuses_it(name: str) -> None:
    found = {}
    for module in (torch.optim, opt):
        params = parameters()
        try:
            stepped(module, params, name, lr=torch.tensor(0.1), foreach=True)
            found[module] = [p.detach() for p in params]
        except ValueError:
            found[module] = []
    assert (not found[torch.optim]) == (name in ("Adam", "AdamW"))
    torch.testing.assert_close(found[opt], found[torch.optim])


def test_the_refusal_of_a_tensor_with_foreach_names_the_way_out() -> None:
    with pytest.raises(ValueError) as raised:
        opt.AdamW(parameters(), lr=torch.tensor(0.1), foreach=True)
    assert str(raised.value) == (
        "AdamW: lr must be a number if foreach is True, as in torch's AdamW, got a tensor. Leave out foreach, which "
        "changes nothing here."
    )
