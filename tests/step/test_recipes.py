"""From groups to chains: which changes are read live, which ask the recipe again, and what copies of the numbers read."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import steepest as s
import steepest.numpy as opt
from steepest.language.chain import Chain
from steepest.step.recipes import LiveGroups, Recipe

VALUES: dict[str, Any] = {"lr": 0.1, "betas": (0.5, 0.75), "eps": 1e-8, "weight_decay": 0.0, "amsgrad": False}


def groups_of(recipe: Callable[..., Chain] = s.adamw, **values: Any) -> LiveGroups:
    live = LiveGroups("AdamW")
    live.rows = [{"params": [], **VALUES, **values}]
    live.settle([Recipe(recipe, VALUES)])
    live.take_schedules(0)
    live.look()
    return live


def asked_again(live: LiveGroups) -> bool:
    """Whether the recipe is asked for a chain at the next step."""
    given: list[Any] = []
    live.rechain(1, given.append)
    return bool(given)


@pytest.mark.parametrize(
    "value", [0.2, np.float32(0.2), np.array(0.2), torch.tensor(0.2), torch.tensor([0.2])], ids=repr
)
def test_another_number_is_read_without_asking_the_recipe(value: Any) -> None:
    live = groups_of()
    (link, *_) = [link for link in live.chains()[0] if "lr" in dict(link.values)]
    live.rows[0]["lr"] = value
    assert not asked_again(live)
    assert dict(link.values)["lr"](0) == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lr", 0.0),
        ("lr", np.array(0.0)),
        ("weight_decay", 0.1),
        ("amsgrad", True),
        ("betas", (0.75, 0.5)),
        ("betas", [0.0, 0.75]),
        ("lr", s.schedules.linear(0.1, 0.01, 9)),
    ],
)
def test_a_value_of_another_form_asks_the_recipe_once(name: str, value: Any) -> None:
    live = groups_of()
    live.rows[0][name] = value
    assert asked_again(live) and not asked_again(live)


@pytest.mark.parametrize("rate", [np.array(0.5), torch.tensor(0.5)], ids=["array", "tensor"])
def test_a_number_that_becomes_0_in_place_asks_the_recipe(rate: Any) -> None:
    live = groups_of(lr=rate)
    rate *= 0.5
    assert not asked_again(live)
    rate *= 0
    assert asked_again(live)


@pytest.mark.parametrize("several", [np.ones(2), torch.ones(2), [0.1, 0.2]], ids=["array", "tensor", "list"])
def test_a_value_that_is_no_number_is_refused_at_every_look(several: Any) -> None:
    live = groups_of()
    live.rows[0]["lr"] = several
    for _ in range(2):
        with pytest.raises(TypeError, match="adamw: lr"):
            live.rechain(1, lambda chains: None)
    live.rows[0]["lr"] = 0.1
    assert not asked_again(live)


def test_two_numbers_that_no_longer_ascend_are_refused() -> None:
    optimizer = opt.LAMB([np.ones(3)], clamp=(0.5, 2.0))
    optimizer.step([np.ones(3)])
    optimizer.param_groups[0]["clamp"] = (2.0, 0.5)
    with pytest.raises(ValueError, match="lamb: clamp"):
        optimizer.step([np.ones(3)])


def test_a_chain_of_the_same_structure_is_read_without_planning_and_another_one_replaces_it() -> None:
    def made(lr: float, decay: float) -> Chain:
        return s.chain(s.only(s.add_decayed_weights(decay), "a"), s.sgd(lr))

    arrays, others = ({name: np.ones(2) for name in "ab"} for _ in range(2))
    optimizer = opt.Optimizer(arrays, made(0.5, 0.25))
    optimizer.step([np.ones(2)] * 2)
    chains = optimizer.stepper.chains
    for lr, decay, kept in ((0.25, 0.5, True), (0.125, 0.0, False), (0.0, 0.5, False)):
        optimizer.param_groups[0]["chain"] = made(lr, decay)
        optimizer.step([np.ones(2)] * 2)
        assert (optimizer.stepper.chains is chains) is kept
        chains = optimizer.stepper.chains
    for lr, decay in ((0.5, 0.25), (0.25, 0.5), (0.125, 0.0), (0.0, 0.5)):
        opt.Optimizer(others, made(lr, decay)).step([np.ones(2)] * 2)
    np.testing.assert_array_equal([*arrays.values()], [*others.values()])


def test_a_number_out_of_range_names_its_group() -> None:
    optimizer = opt.SGD([{"params": [np.ones(3)]}, {"params": [np.ones(3)]}], lr=0.5)
    optimizer.param_groups[1]["lr"] = -1.0
    with pytest.raises(ValueError, match="sgd: lr") as caught:
        optimizer.step([np.ones(3)] * 2)
    assert caught.value.__notes__ == ["in SGD.param_groups[1]"]


@pytest.mark.parametrize(
    "how", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o)), copy.copy], ids=["deep", "pickle", "copy"]
)
def test_a_copy_reads_its_own_groups_also_after_the_original_is_gone(how: Callable[[Any], Any]) -> None:
    optimizer = opt.SGD([np.zeros(2)], lr=0.5)
    optimizer.step([np.ones(2)])
    made = how(optimizer)
    optimizer.param_groups[0]["lr"] = 0.25
    shared = made.param_groups is optimizer.param_groups
    del optimizer
    gc.collect()
    made.step([np.ones(2)])
    np.testing.assert_array_equal(made.param_groups[0]["params"][0], [-0.75 if shared else -1.0] * 2)


def test_a_plan_keeps_no_groups_alive_and_prints_the_numbers_that_it_was_made_with() -> None:
    optimizer = opt.SGD([np.zeros(2)], lr=0.5)
    plans, chain, groups = optimizer.plan, optimizer.stepper.chains[0], weakref.ref(optimizer._live)
    del optimizer
    assert groups() is None and str(plans) == str(opt.SGD([np.zeros(2)], lr=0.5).plan)
    assert [repr(value) for link in chain for _, value in link.values] == ["0.5"]


def test_a_plan_prints_also_after_its_group_has_got_another_chain() -> None:
    optimizer = opt.Optimizer([np.zeros(2)], s.chain(s.clip_by_global_norm(0.5), s.adamw(0.25)))
    plans, said = optimizer.plan, str(optimizer.plan)
    numbers = [value for link in optimizer.stepper.chains[0] for _, value in link.values]
    optimizer.param_groups[0]["chain"] = s.sgd(0.1)
    assert str(plans) == said and repr(numbers[1:]) == "[0.9, 0.999, 1e-08, 0.01, 0.25]"
