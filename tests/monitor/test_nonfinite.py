"""The watchman: it looks at one element, names what it finds, and never stands in the way of a step."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

import steepest as s
import steepest.numpy as opt
import steepest.torch
from steepest.monitor import nonfinite
from steepest.monitor.columns import Columns
from steepest.monitor.facts import names_of
from steepest.monitor.nonfinite import Watchman
from tests.monitor.test_callbacks import Kept

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_the_first_element_of_any_type_is_told_from_its_bits(dtype: torch.dtype, bad: float) -> None:
    largest = torch.finfo(dtype).max
    for value in (0.0, -0.0, 1.0, largest, -largest, torch.finfo(dtype).tiny):
        assert nonfinite._first_is_finite(torch.tensor([value, bad], dtype=dtype))
    assert not nonfinite._first_is_finite(torch.tensor([bad, 1.0], dtype=dtype))


def test_of_sparse_complex_and_strided_gradients_one_element_is_looked_at_too() -> None:
    table = torch.sparse_coo_tensor(
        torch.tensor([[1, 1, 3]]), torch.tensor([math.nan, 1.0, 2.0]), (5,), check_invariants=True
    )
    assert not nonfinite._first_is_finite(table)
    assert not nonfinite._first_is_finite(torch.tensor([complex(1.0, math.nan), 0.0]))
    assert not nonfinite._first_is_finite(torch.tensor([[math.nan, 1.0], [2.0, 3.0]]).T)
    assert nonfinite._first_is_finite(torch.tensor([[1.0, math.nan], [2.0, 3.0]]).T)
    assert nonfinite._first_is_finite(np.array([[1.0, math.nan]])) and not nonfinite._first_is_finite(
        np.array([math.nan])
    )


def test_a_parameter_without_elements_is_not_the_one_that_is_looked_at() -> None:
    params = {"a": np.ones(2), "empty": np.ones((0, 2))}
    optimizer, kept = opt.Optimizer(params, s.sgd(0.1)), Kept()
    with s.Monitor(optimizer, every=5, to=kept, folder=None) as monitor:
        optimizer.step({"a": np.array([math.nan, 1.0]), "empty": np.ones((0, 2))})
        monitor(1.0)
    assert [(e.step, e.kind, e.tensors) for e in kept.events] == [(1, "nonfinite", ("a",))]


def test_a_norm_that_overflows_is_reported_with_the_largest_gradient() -> None:
    params = {"a": np.ones(2), "b": np.ones(2)}
    optimizer, kept = opt.Optimizer(params, s.chain(s.clip_by_global_norm(1.0), s.sgd(0.1))), Kept()
    with s.Monitor(optimizer, every=5, to=kept, folder=None) as monitor:
        optimizer.step({"a": np.array([1e10, 1.0]), "b": np.array([-1e200, 1e180])})
        monitor(1.0)
    (event,) = kept.events
    assert (
        event.message
        == "the norm of all gradients is not finite at step 1, though each of them is: the largest is in b"
    )
    assert (event.tensors, event.values) == (("b",), {"parameters": 0.0, "gradients": 0.0})


def test_mistakes_in_gradients_keep_their_own_messages_under_a_monitor() -> None:
    for wrong in ([1.0, 2.0], np.array([1j, 2.0])):
        optimizer = opt.Optimizer({"a": np.ones(2)}, s.sgd(0.1))
        with pytest.raises(Exception) as unwatched:  # whatever it is: the same is wanted below
            optimizer.step({"a": wrong})
        with s.Monitor(optimizer, every=1, folder=None), pytest.raises(type(unwatched.value)) as watched:
            optimizer.step({"a": wrong})
        assert str(watched.value) == str(unwatched.value)


def test_an_error_of_the_watchman_ends_monitoring_and_not_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(grad: Any) -> bool:
        raise RuntimeError("no such element")

    monkeypatch.setattr(nonfinite, "_first_is_finite", broken)
    optimizer = opt.Optimizer({"a": np.ones(2)}, s.sgd(0.5))
    monitor = s.Monitor(optimizer, every=1, folder=None)
    optimizer.step({"a": np.ones(2)})
    with pytest.warns(RuntimeWarning, match=r"no such element\. Monitoring ends here; training goes on\."):
        monitor(1.0)
    assert optimizer.steps == 1


def test_a_nan_after_a_group_was_added_is_named() -> None:
    first, second = torch.nn.Linear(2, 2), torch.nn.Linear(2, 1)
    optimizer = steepest.torch.SGD(first.parameters(), lr=0.1)
    model = torch.nn.Sequential(first, second)
    watchman = Watchman(optimizer, Columns(optimizer, model))
    optimizer.add_param_group({"params": list(second.parameters())})
    found = watchman.before([torch.zeros(2, 2), torch.zeros(2), torch.zeros(1, 2), torch.tensor([math.nan])], 0)
    assert (watchman.failed, [one.tensors for one in found]) == (None, [("1.bias",)])


def test_every_parameter_has_a_name_of_its_own() -> None:
    first, second = torch.nn.Linear(2, 2), torch.nn.Linear(2, 1)
    optimizer = steepest.torch.SGD([{"params": list(m.named_parameters())} for m in (first, second)], lr=0.1)
    assert names_of(optimizer) == ("weight", "bias", "weight#2", "bias#2")
    assert names_of(optimizer, torch.nn.Sequential(first, second)) == ("0.weight", "0.bias", "1.weight", "1.bias")


def test_an_optimizer_class_of_ones_own_is_of_the_framework_that_it_comes_from() -> None:
    class Mine(steepest.torch.AdamW):
        pass

    kept = Kept()
    s.Monitor(Mine([torch.nn.Parameter(torch.ones(2))], lr=0.1), to=kept, folder=None).close()
    assert (kept.run.facts.framework, kept.run.facts.optimizer) == ("torch", "Mine")
