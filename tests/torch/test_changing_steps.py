"""Steps in which something has changed: the same results as torch's, whatever was missing, moved or sparse before."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import torch

import steepest as s
import steepest.torch as opt

COUNT = 6


def made(seed: int, count: int = COUNT) -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(3, 2), (4,), (2, 3, 2), (), (5, 1), (1, 7)]
    return [
        torch.nn.Parameter(torch.randn(shapes[i % 6], generator=generator, dtype=torch.float64)) for i in range(count)
    ]


def absent(params: list[torch.nn.Parameter], draw: random.Random) -> None:
    for p in params:
        if draw.random() < 0.4:
            p.grad = None


def moved(params: list[torch.nn.Parameter], draw: random.Random) -> None:
    for p in params:
        if draw.random() < 0.5:
            p.data = p.data.clone()


def other_strides(params: list[torch.nn.Parameter], draw: random.Random) -> None:
    for p in params:
        if p.ndim > 1 and p.grad is not None and draw.random() < 0.3:
            p.grad = p.grad.t().contiguous().t() if p.ndim == 2 else p.grad.transpose(0, 2).contiguous().transpose(0, 2)


def gradient_in_a_parameter(params: list[torch.nn.Parameter], draw: random.Random) -> None:
    if draw.random() < 0.5:
        params[0].grad = params[0].data[:]


def everything(params: list[torch.nn.Parameter], draw: random.Random) -> None:
    for change in (absent, moved, other_strides, gradient_in_a_parameter):
        if draw.random() < 0.6:
            change(params, draw)


CHANGES = [absent, moved, other_strides, gradient_in_a_parameter, everything]


@pytest.mark.parametrize("engine", ["cpu", "arrays"])
@pytest.mark.parametrize("name", ["AdamW", "SGD", "RAdam", "RMSprop"])
@pytest.mark.parametrize("change", CHANGES)
def test_steps_are_torchs_whatever_changes_between_them(change: Callable[..., None], name: str, engine: str) -> None:
    values = {"lr": 0.1, "momentum": 0.9} if name == "SGD" else {"lr": 0.1}
    ours, theirs = made(0), made(0)
    one, other = getattr(opt, name)(ours, engine=engine, **values), getattr(torch.optim, name)(theirs, **values)
    for step in range(25):
        generator = torch.Generator().manual_seed(step)
        for p in ours:
            p.grad = torch.randn(p.shape, generator=generator, dtype=p.dtype)
        change(ours, random.Random(step))
        for p, q in zip(ours, theirs, strict=True):
            q.grad = None if p.grad is None else p.grad.clone()
        one.step()
        other.step()
        for p, q in zip(ours, theirs, strict=True):
            torch.testing.assert_close(p, q, rtol=1e-10, atol=1e-12)
    for p, q in zip(ours, theirs, strict=True):
        assert float(one.state[p]["step"]) == float(other.state[q].get("step", one.state[p]["step"]))


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
@pytest.mark.parametrize("engine", ["cpu", "arrays"])
@pytest.mark.parametrize(("name", "values"), [("SGD", {}), ("SGD", {"momentum": 0.9}), ("Adagrad", {})])
@pytest.mark.parametrize("change", [absent, moved, everything])
def test_sparse_gradients_among_others_are_torchs_of_dense_ones(
    change: Callable[..., None], name: str, values: dict[str, float], engine: str
) -> None:
    ours, theirs = made(0), made(0)
    tables = [[torch.nn.Parameter(torch.ones(9, 2, dtype=torch.float64)) for _ in range(2)] for _ in range(2)]
    one = getattr(opt, name)([*ours, *tables[0]], lr=0.1, engine=engine, **values)
    other = getattr(torch.optim, name)([*theirs, *tables[1]], lr=0.1, **values)
    for step in range(20):
        generator = torch.Generator().manual_seed(step)
        draw = random.Random(step)
        for p in ours:
            p.grad = torch.randn(p.shape, generator=generator, dtype=p.dtype)
        change(ours, random.Random(step))
        for p, q in zip(ours, theirs, strict=True):
            q.grad = None if p.grad is None else p.grad.clone()
        for p, q in zip(*tables, strict=True):
            rows = torch.randint(0, 9, (1, 4), generator=generator)
            grad = torch.sparse_coo_tensor(
                rows, torch.randn(4, 2, generator=generator, dtype=p.dtype), (9, 2), check_invariants=True
            )
            kind = draw.random()
            p.grad = grad if kind < 0.6 else grad.to_dense() if kind < 0.8 else None
            q.grad = None if p.grad is None else p.grad.to_dense()
        one.step()
        other.step()
        for p, q in zip([*ours, *tables[0]], [*theirs, *tables[1]], strict=True):
            torch.testing.assert_close(p, q, rtol=1e-10, atol=1e-12)
    assert one.steps == 20


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
def test_a_refused_gradient_among_sparse_ones_changes_nothing() -> None:
    table, weight = torch.nn.Parameter(torch.ones(4, 2)), torch.nn.Parameter(torch.ones(3))
    optimizer = opt.Adagrad([table, weight], lr=0.1)
    sparse = torch.sparse_coo_tensor([[1]], torch.ones(1, 2), (4, 2), check_invariants=True)

    def step(grad: torch.Tensor) -> None:
        table.grad, weight.grad = sparse, grad
        optimizer.step()

    for _ in range(2):
        step(torch.ones(3))
    before = [table.detach().clone(), weight.detach().clone()]
    table.grad = sparse
    weight.data = torch.ones(4)
    with pytest.raises(ValueError, match="shape"):
        optimizer.step()
    weight.data = before[1]
    assert torch.equal(table, before[0])
    assert optimizer.steps == 2
    step(torch.ones(3))
    assert optimizer.steps == 3


@pytest.mark.parametrize("chain", [s.adamw(0.1), s.chain(s.clip_by_global_norm(1.0), s.sgd(0.1), s.ema(0.9))])
def test_groups_added_one_by_one_are_stepped_as_if_given_at_once(chain: s.Chain) -> None:
    ours, theirs = made(0, 30), made(0, 30)
    whole = opt.Optimizer([{"params": [p]} for p in theirs], chain)
    grown = opt.Optimizer(ours[:1], chain)
    for p in ours[1:]:
        grown.add_param_group({"params": [p]})
    for step in range(3):
        for p, q in zip(ours, theirs, strict=True):
            p.grad = torch.full_like(p, 0.1 * step + 0.1)
            q.grad = p.grad.clone()
        grown.step()
        whole.step()
    assert all(torch.equal(p, q) for p, q in zip(ours, theirs, strict=True))


def test_an_added_group_that_does_not_fit_is_refused_at_once_and_leaves_the_others() -> None:
    params = made(0)
    optimizer = opt.AdamW(params[:3], lr=0.1)
    with pytest.raises(ValueError, match="share memory"):
        optimizer.add_param_group({"params": [torch.nn.Parameter(params[0].data[:2])]})
    with pytest.raises(TypeError, match="dtype"):
        optimizer.add_param_group({"params": [torch.ones(3, dtype=torch.int64)]})
    with pytest.raises(ValueError, match="lr"):
        optimizer.add_param_group({"params": [params[4]], "lr": -1.0})
    optimizer.add_param_group({"params": [params[5]]})
    with pytest.raises(ValueError, match="share memory"):
        optimizer.add_param_group({"params": [torch.nn.Parameter(params[5].data[:, :3])]})
    assert [len(g["params"]) for g in optimizer.param_groups] == [3, 1]
    params[5].grad = torch.ones_like(params[5])
    optimizer.step()
    assert float(optimizer.state[params[5]]["step"]) == 1
