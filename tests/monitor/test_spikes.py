"""When a loss is a spike, on losses of known distributions; and what a snapshot's file can hold."""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import steepest as s
import steepest.numpy as opt
from steepest.monitor.guard.packing import packed, unpacked
from steepest.monitor.guard.snapshots import Snapshots
from steepest.monitor.guard.spikes import WARMUP, WINDOW, Losses, beyond_the_worst


def alarms(losses: Any, rule: Any = 3.0) -> list[int]:
    seen, found = Losses(rule), []
    for number, loss in enumerate(losses):
        if loss > seen.limit():
            found.append(number)
        else:
            seen.add(float(loss))
    return found


def test_the_limit_is_so_far_above_the_median_as_it_says() -> None:
    assert beyond_the_worst([2.0, 1.0, 1.0, 0.5], start=1.0, factor=3.0) == 4.0
    assert beyond_the_worst([1.0, 1.0, 0.9], start=9.0) == pytest.approx(1.4)  # a twentieth of the fall of 8


def test_there_is_no_limit_where_half_of_the_losses_are_the_lowest() -> None:
    assert beyond_the_worst([1.0, 1.0, 1.0], start=0.5) == beyond_the_worst([2.0, 1.0, 1.0], start=9.0) == math.inf


@pytest.mark.parametrize("falling", [0, 60], ids=["from the start", "after a fall"])
def test_the_few_losses_that_are_not_zero_are_no_spikes(falling: int) -> None:
    """As of triplets and hinges: precisely those have a gradient."""
    fallen = np.linspace(1.0, 0.0, falling)
    rare = np.zeros(3000)
    rare[::200] = 0.3
    late = np.r_[np.zeros(120), np.full(50, 0.3)]
    assert alarms(np.r_[fallen, rare]) == [] == alarms(np.r_[fallen, late])


def test_there_is_no_limit_before_the_warm_up_is_over() -> None:
    losses = Losses(3.0)
    for loss in range(WARMUP):
        assert losses.limit() == math.inf
        losses.add(loss)
    assert losses.start == (WARMUP - 1) / 2 and losses.limit() < math.inf


@pytest.mark.parametrize("shape", ["normal", "laplace", "lognormal"])
def test_false_alarms_are_rare_whatever_the_distribution(shape: str, rng: np.random.Generator) -> None:
    falling = np.exp(-np.arange(20_000) / 2000)
    noise = {
        "normal": rng.normal(0, 0.05, 20_000),
        "laplace": rng.laplace(0, 0.05, 20_000),
        "lognormal": rng.lognormal(-3, 1.0, 20_000),
    }[shape]
    assert len(alarms(1 + falling + noise)) <= (20 if shape == "lognormal" else 2)


def test_spikes_of_a_language_model_are_found_and_do_not_hide_each_other(rng: np.random.Generator) -> None:
    losses = 2.2 + 8 * np.exp(-np.arange(3000) / 100) + rng.normal(0, 0.05, 3000)
    spikes = [1000, 1001, 1002, 1500, 2500]
    losses[spikes] = [4.0, 7.0, 3.5, 3.2, 3.2]
    assert alarms(losses) == spikes


def test_a_converged_loss_may_move_in_its_last_digits(rng: np.random.Generator) -> None:
    losses = 1e-12 + 3 * np.exp(-np.arange(2000) / 10)
    losses[1000:] += np.abs(rng.normal(0, 1e-6, 1000))
    assert alarms(losses) == []


def test_a_rule_of_ones_own_sees_the_last_good_losses() -> None:
    def lightning(past: list[float]) -> float:
        assert len(past) <= WINDOW
        return 3 * sum(past[-10:]) / 10

    steady = [1.0] * 150
    assert alarms([*steady, 2.9, 3.5, 4.4, 4.2], lightning) == [152]
    assert alarms([*steady, 1e9], None) == []
    guard = s.Guard(opt.SGD([np.ones(1)], lr=0.1), spike=lightning, most_skipped=200)  # nobody steps here
    assert all(guard(loss) for loss in steady) and not guard(3.5)
    assert guard.events[-1].message == "loss 3.5 above 3; batch left out"


def test_losses_are_remembered_as_they_were(rng: np.random.Generator) -> None:
    one, other = Losses(3.0), Losses(3.0)
    for loss in rng.normal(size=150):
        one.add(float(loss))
    other.load_state_dict(unpacked(packed("losses", one.state_dict())))
    assert other.state_dict() == one.state_dict() and other.limit() == one.limit()


# ---- packing

TREE: dict[str, Any] = {
    "plain": [None, True, 3, 2**90, -0.1, "text", b"\x00\xff", math.inf],
    "containers": ((), {1: {"a": (2,)}}, OrderedDict(a=1), Counter({3: 2}), {4, 5}, frozenset("a"), {(1, "b"): 0}),
    "arrays": {
        "a": np.arange(6, dtype=np.uint32).reshape(2, 3),
        "b": np.float32(0.1),
        "c": np.zeros((0, 2)),
        "a/b": np.array(1),
    },
}
TENSORS: dict[str, Any] = {
    "bfloat16": torch.tensor([0.1, 0.2]).bfloat16(), "parameter": torch.nn.Parameter(torch.ones(2)), "number": torch.tensor(3),
    "part": torch.arange(1000.0)[3:5], "transposed": torch.arange(6.0).reshape(2, 3).t(),
}  # fmt: skip


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, (np.ndarray, np.generic)):
        return type(a) is type(b) and a.dtype == b.dtype and np.array_equal(a, b)
    if isinstance(a, dict):
        return type(a) is type(b) and list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


@pytest.mark.parametrize("suffix", [".npz", ".pt", None])
def test_whatever_is_packed_comes_back_as_it_was(suffix: str | None, tmp_path: Path) -> None:
    tree = TREE if suffix == ".npz" else {**TREE, "tensors": TENSORS}
    store = Snapshots(tmp_path if suffix else None, suffix or ".pt")
    store.keep(7, packed("tree", tree, copy=suffix is None))
    found = store.read(7)
    assert found is not None
    assert same(tree, unpacked(found))
    if suffix is None:  # what is read may be changed
        unpacked(found)["arrays"]["a"][:] = 0
        again = store.read(7)
        assert again is not None and same(tree, unpacked(again))


def test_of_a_part_of_a_larger_tensor_only_the_part_is_written(tmp_path: Path) -> None:
    store = Snapshots(tmp_path, ".pt")
    store.keep(1, packed("tree", {"part": torch.zeros(1_000_000)[:2]}, copy=False))
    assert store.path(1).stat().st_size < 10_000


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (object(), "builtins.object"), (lambda: 0, "builtins.function"), (np.array([None]), "numpy.ndarray"),
        (1j, "builtins.complex"), (torch.Size([1]), "torch.Size"), (torch.float32, "torch.dtype"),
    ],
)  # fmt: skip
def test_what_could_not_be_read_again_is_refused_by_its_place(value: Any, kind: str) -> None:
    with pytest.raises(
        TypeError, match=rf"^tree: a\.1\.b must be a number, string, array or tensor, or .* of them, got {kind}\."
    ):
        packed("tree", {"a": [0, {"b": value}]})
