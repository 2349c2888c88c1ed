"""Name patterns of `only` and `exclude` that match no parameter are refused when an optimizer is made, in both front ends."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch

import steepest as s
import steepest.numpy
import steepest.torch

DECAY = s.add_decayed_weights(0.5)


def made(front: str, groups: list[tuple[list[str] | int, s.Chain | None]], shared: s.Chain | None = None) -> Any:
    """An optimizer of small parameters: named, or so many without names, in groups that may have chains of their own."""
    rows: list[dict[str, Any]] = []
    for names, own in groups:
        params: Any
        if front == "numpy":
            new = lambda: np.ones(2)  # noqa: E731  # one line for each front end
            params = [new() for _ in range(names)] if isinstance(names, int) else {n: new() for n in names}
        else:
            new = lambda: torch.nn.Parameter(torch.ones(2))  # type: ignore[assignment,return-value]  # noqa: E731
            params = [new() for _ in range(names)] if isinstance(names, int) else [(n, new()) for n in names]
        rows.append({"params": params} if own is None else {"params": params, "chain": own})
    return (steepest_of(front))(rows, shared)


def steepest_of(front: str) -> Any:
    return steepest.numpy.Optimizer if front == "numpy" else steepest.torch.Optimizer


def decayed(*patterns: str) -> s.Chain:
    return s.chain(s.exclude(DECAY, *patterns), s.descend(1.0))


@pytest.mark.parametrize("front", ["numpy", "torch"])
@pytest.mark.parametrize(
    ("names", "pattern", "got", "cure"),
    [
        (2, "*.bias", "'0', '1'", "Name the parameters: pass model.named_parameters(), or a dict of arrays."),
        (["weight", "bias"], "*.bias", "'weight', 'bias'", "A pattern must match the whole name"),
        (["a.weight", "a.bias"], "bias|norm", "'a.weight', 'a.bias'", "A pattern must match the whole name"),
        (["a.weight", "a.bias"], "*.Bias", "'a.weight', 'a.bias'", "including upper and lower case."),
        (["module.head.weight"], "head.*", "'module.head.weight'", "A pattern must match the whole name"),
        (
            [f"l{i}.w" for i in range(7)],
            "head.*",
            "'l0.w', 'l1.w', 'l2.w', 'l3.w', 'l4.w' and 2 more",
            "the whole name",
        ),
    ],
)
def test_a_pattern_that_matches_no_parameter_is_refused(
    front: str, names: Any, pattern: str, got: str, cure: str
) -> None:
    said = f"Optimizer: pattern '{pattern}' of add_decayed_weights must match the name of a parameter, got {got}. "
    with pytest.raises(ValueError, match=re.escape(said) + ".*" + re.escape(cure)):
        made(front, [(names, None)], decayed(pattern))


@pytest.mark.parametrize("front", ["numpy", "torch"])
@pytest.mark.parametrize("choose", [s.only, s.exclude])
def test_each_of_several_patterns_must_match(front: str, choose: Any) -> None:
    chain = s.chain(choose(DECAY, "*.bias", "norm*"), s.descend(1.0))
    with pytest.raises(ValueError, match=r"pattern 'norm\*' of add_decayed_weights must"):
        made(front, [(["a.bias", "a.weight"], None)], chain)
    with pytest.raises(ValueError, match=r"pattern 'norm\*' of adamw must"):
        made(front, [(["a.bias", "a.weight"], None)], choose(s.adamw(0.1), "*.bias", "norm*"))
    made(front, [(["a.bias", "norm.weight"], None)], chain)


@pytest.mark.parametrize("front", ["numpy", "torch"])
def test_a_pattern_may_match_in_any_group_that_has_it(front: str) -> None:
    made(front, [(["a.weight"], None), (["a.bias"], None)], decayed("*.bias"))
    made(front, [(["a.weight"], decayed("*.bias")), (["a.bias"], decayed("*.bias"))])
    with pytest.raises(ValueError, match=r"pattern '\*\.bias' of .*, got 'a\.weight'\."):
        made(front, [(["a.weight"], decayed("*.bias")), (["a.bias"], s.sgd(0.1))])


@pytest.mark.parametrize("front", ["numpy", "torch"])
def test_a_predicate_and_max_ndim_may_match_nothing(front: str) -> None:
    for choice in ({"where": lambda name, shape: False}, {"max_ndim": 0}):
        made(front, [(["a.weight"], None)], s.chain(s.exclude(DECAY, **choice), s.descend(1.0)))  # type: ignore[arg-type]


def test_a_group_that_is_added_with_a_chain_is_looked_at_and_not_added_where_a_pattern_matches_nothing() -> None:
    optimizer = made("torch", [(["a.weight", "a.bias"], None)], decayed("*.bias"))
    late = torch.nn.Parameter(torch.ones(2))
    with pytest.raises(ValueError, match=r"pattern 'head\.\*' of"):
        optimizer.add_param_group({"params": [("b.weight", late)], "chain": decayed("head.*")})
    assert len(optimizer.param_groups) == 1
    optimizer.add_param_group({"params": [("b.weight", late)]})  # the first group has matches for its chain
    for listed in ("params", "param_names"):  # a group that changes later is not looked at again
        optimizer.param_groups[0][listed].pop()
    late.grad = torch.ones(2)
    optimizer.step()
    assert late.tolist() == [-0.5, -0.5]


def test_steps_inside_the_backward_pass_look_at_patterns_once_for_all_parameters() -> None:
    model = torch.nn.Linear(2, 1)
    optimizer = steepest.torch.Optimizer(model.named_parameters(), decayed("bias"))
    with torch.no_grad():
        model.weight.fill_(1.0), model.bias.fill_(1.0)
    with steepest.torch.release_gradients(optimizer):
        model(torch.zeros(1, 2)).sum().backward()
        optimizer.step()
    assert (model.weight.tolist(), model.bias.tolist()) == ([[0.5, 0.5]], [0.0])
