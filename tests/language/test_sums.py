"""Sums over the whole model: which links of several groups share one, in every front end and engine."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import steepest as s
import steepest.numpy as opt
import steepest.torch
from steepest import Chain, chain
from steepest.language.trace import structure_of

ENGINES = [(front, engine) for front in ("numpy", "torch") for engine in ("cpu", "arrays")]


def moved(front: str, engine: str, groups: list[tuple[dict[str, list[float]], Chain]]) -> dict[str, list[float]]:
    """How far one step moves each parameter, by name: gradients are given, the first weights are 0."""
    named = {name: np.array(grad) for grads, _ in groups for name, grad in grads.items()}
    if front == "numpy":
        weights = {name: np.zeros(len(grad)) for name, grad in named.items()}
        own = [{"params": {n: weights[n] for n in grads}, "chain": made} for grads, made in groups]
        opt.Optimizer(own, engine=engine).step(named)
        return {name: (-w).tolist() for name, w in weights.items()}
    params = {name: torch.nn.Parameter(torch.zeros(len(g), dtype=torch.float64)) for name, g in named.items()}
    for name, param in params.items():
        param.grad = torch.from_numpy(named[name])
    rows = [{"params": [(n, params[n]) for n in grads], "chain": made} for grads, made in groups]
    steepest.torch.Optimizer(rows, engine=engine).step()
    return {name: (-p.detach()).tolist() for name, p in params.items()}


def by_squares() -> Callable[..., Chain]:
    @s.rule
    def normalize(update: Any) -> Any:
        return update / s.sum(update**2, per="model")

    return normalize


def by_magnitudes() -> Callable[..., Chain]:
    @s.rule
    def normalize(update: Any) -> Any:
        return update / s.sum(s.abs(update), per="model")

    return normalize


@s.rule
def divide(update: Any, *, by: str, order: s.Order = 1.0, squared: bool = False) -> Any:
    total = s.sum(s.abs(update), per="model") if by == "magnitudes" else s.sum(update**2, per="model")
    return update / (total**2 if squared else total)


def power(exponent: float) -> Callable[..., Chain]:
    @s.rule
    def normalize(update: Any) -> Any:
        return update / s.sum(s.abs(update) ** exponent, per="model")

    return normalize


@pytest.mark.parametrize(("front", "engine"), ENGINES)
@pytest.mark.parametrize(
    ("one", "other"),
    [
        (by_squares()(), by_magnitudes()()),
        (divide("squares"), divide("magnitudes")),
        (power(2.0)(), power(1.0)()),
    ],
    ids=["two rules of one name", "a text", "closures"],
)
def test_groups_whose_rules_share_only_a_name_have_sums_of_their_own(
    one: Chain, other: Chain, front: str, engine: str
) -> None:
    descend = s.descend(1.0)
    found = moved(front, engine, [({"a": [2.0]}, chain(one, descend)), ({"b": [2.0]}, chain(other, descend))])
    assert found == {"a": [0.5], "b": [1.0]}


@pytest.mark.parametrize(("front", "engine"), ENGINES)
def test_a_flag_and_a_number_of_structure_tell_sums_apart(front: str, engine: str) -> None:
    rows = [divide("magnitudes"), divide("magnitudes", squared=True), divide("magnitudes", 2.0)]
    groups = [({name: [2.0]}, chain(row, s.descend(1.0))) for name, row in zip("abc", rows, strict=True)]
    assert moved(front, engine, groups) == {"a": [1.0], "b": [0.5], "c": [1.0]}


@pytest.mark.parametrize(("front", "engine"), ENGINES)
def test_one_rule_shares_its_sum_over_groups_whatever_its_numbers_and_its_chain(front: str, engine: str) -> None:
    first = chain(s.clip_by_global_norm(1.0), s.sgd(1.0))
    second = chain(s.add_decayed_weights(0.5), s.clip_by_global_norm(2.0), s.sgd(1.0))
    found = moved(front, engine, [({"a": [3.0]}, first), ({"b": [4.0]}, second)])
    assert found == {"a": pytest.approx([0.6], rel=1e-6), "b": pytest.approx([1.6], rel=1e-6)}


@pytest.mark.parametrize(("front", "engine"), ENGINES)
def test_a_rule_that_is_made_anew_for_each_group_is_one_rule_where_its_code_and_values_are(
    front: str, engine: str
) -> None:
    groups = [({name: [2.0]}, chain(power(1.0)(), s.descend(1.0))) for name in "ab"]
    assert moved(front, engine, groups) == {"a": [0.5], "b": [0.5]}


@pytest.mark.parametrize(("front", "engine"), ENGINES)
def test_the_second_link_of_a_rule_shares_with_second_links_only(front: str, engine: str) -> None:
    normalize = by_magnitudes()
    twice = chain(normalize(), s.clip_by_value(-0.25, 0.25), normalize(), s.descend(1.0))
    once = chain(normalize(), s.descend(1.0))
    found = moved(front, engine, [({"a": [2.0]}, twice), ({"b": [2.0]}, once), ({"c": [4.0]}, twice)])
    # The first links: 2 + 2 + 4. The second: 1/4 + 1/4.
    assert found == {"a": [0.5], "b": [0.25], "c": [0.5]}


@pytest.mark.parametrize(("front", "engine"), ENGINES)
def test_links_on_other_parameters_of_one_chain_have_sums_of_their_own(front: str, engine: str) -> None:
    normalize = by_magnitudes()
    made = chain(s.only(normalize(), "a.*"), s.only(normalize(), "b.*"), s.descend(1.0))
    found = moved(front, engine, [({"a.x": [1.0], "a.y": [3.0], "b.x": [2.0], "b.y": [2.0]}, made)])
    assert found == {"a.x": [0.25], "a.y": [0.75], "b.x": [0.5], "b.y": [0.5]}


@pytest.mark.parametrize(("front", "engine"), ENGINES)
def test_a_measurement_of_what_a_clip_sums_changes_nothing_where_another_group_is_only_measured(
    front: str, engine: str
) -> None:
    measured = s.measure(total=lambda update: s.sum(s.abs(update), per="model"))
    clipped = chain(measured, by_magnitudes()(), s.descend(1.0))
    plain = chain(measured, s.descend(1.0))
    assert moved(front, engine, [({"a": [2.0]}, clipped), ({"b": [2.0]}, plain)]) == {"a": [1.0], "b": [2.0]}


@pytest.mark.parametrize("engine", ["cpu", "arrays"])
def test_measurements_of_one_name_and_other_functions_are_not_added_up(engine: str) -> None:
    squares = chain(s.measure(total=lambda update: s.sum(update**2, per="model")), s.sgd(0.0))
    magnitudes = chain(s.measure(total=lambda update: s.sum(s.abs(update), per="model")), s.sgd(0.0))
    groups = [{"params": {"a": np.zeros(1)}, "chain": squares}, {"params": {"b": np.zeros(1)}, "chain": magnitudes}]
    optimizer = opt.Optimizer(groups, engine=engine)
    optimizer.step({"a": np.array([3.0]), "b": np.array([4.0])})
    assert optimizer.measured == {"total": [9.0, 4.0]}


@pytest.mark.parametrize("engine", ["cpu", "arrays"])
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_a_copy_shares_and_separates_the_same_sums(copied: Callable[[Any], Any], engine: str) -> None:
    weights = {name: np.zeros(1) for name in "abcd"}
    rows = [divide("squares"), divide("magnitudes"), divide("squares"), divide("magnitudes")]
    optimizer = copied(
        opt.Optimizer(
            [
                {"params": {name: weights[name]}, "chain": chain(row, s.descend(1.0))}
                for name, row in zip("abcd", rows, strict=True)
            ],
            engine=engine,
        )
    )
    optimizer.step([np.array([2.0])] * 4)
    found = [float(-t.param[0]) for t in optimizer.stepper.tensors]
    assert found == [0.25, 0.5, 0.25, 0.5]


def test_true_and_one_are_two_structures() -> None:
    link = divide("a").links[0]
    flagged = Chain((replace(link, structure=(("by", True),)),))
    numbered = Chain((replace(link, structure=(("by", 1),)),))
    assert structure_of(flagged) != structure_of(numbered)
