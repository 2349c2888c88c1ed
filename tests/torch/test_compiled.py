"""Optimizers inside functions that `torch.compile` traces: the same values as without, for whatever is called there."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

import steepest
import steepest.torch as opt

NAMES = ("SGD", "Adagrad", "RMSprop", "Adadelta", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "Lion", "LAMB", "LARS")
CHAIN = steepest.chain(steepest.clip_by_global_norm(1.0), steepest.sgd(0.1), steepest.ema(0.5))
Weights = torch.nn.Parameter


@pytest.fixture(autouse=True)
def fresh_graphs() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def backward(*weights: Weights) -> None:
    sum(w.square().sum() for w in weights).backward()


def results_of(function: Callable[[Weights], Any], backend: str) -> tuple[Any, Any]:
    """What a function returns when it is compiled, and when it is not."""
    return torch.compile(function, backend=backend)(Weights(torch.ones(3))), function(Weights(torch.ones(3)))


def named(name: str) -> Callable[[Weights], Any]:
    def used(weights: Weights) -> Any:
        optimizer = getattr(opt, name)([weights], lr=0.1)
        for _ in range(2):
            optimizer.zero_grad()
            backward(weights)
            optimizer.step()
        return weights.detach()

    return used


@pytest.mark.parametrize(("name", "backend"), [*((name, "eager") for name in NAMES), ("Adam", "aot_eager")])
def test_an_optimizer_is_built_and_stepped_inside_a_compiled_function(name: str, backend: str) -> None:
    compiled, plain = results_of(named(name), backend)
    assert not torch.equal(plain, torch.ones(3))
    assert torch.equal(compiled, plain)


def with_a_chain(weights: Weights) -> Any:
    optimizer = opt.Optimizer([weights], CHAIN)
    for _ in range(2):
        backward(weights)
        optimizer.step()
    with optimizer.using("average"):
        average = weights.detach().clone()
    return average, weights.detach(), optimizer.steps


def with_lookahead(weights: Weights) -> Any:
    optimizer = opt.Lookahead(opt.SGD([weights], lr=0.1), k=2)
    for _ in range(2):
        optimizer.zero_grad()
        backward(weights)
        optimizer.step()
    return weights.detach()


def with_a_group_added(weights: Weights) -> Any:
    added = Weights(torch.full((2,), 2.0))
    optimizer = opt.Adam([weights], lr=0.1)
    optimizer.add_param_group({"params": [added], "lr": 0.2})
    backward(weights, added)
    optimizer.step()
    return weights.detach(), added.detach()


def with_a_state_dict(weights: Weights) -> Any:
    optimizer, other = opt.Adam([weights], lr=0.1), opt.Adam([weights], lr=0.1)
    backward(weights)
    optimizer.step()
    other.load_state_dict(optimizer.state_dict())
    other.step()
    return weights.detach(), other.steps


def with_states(weights: Weights) -> Any:
    optimizer = opt.Adam([weights], lr=0.1)
    backward(weights)
    optimizer.step()
    return optimizer.state[weights]["exp_avg"] + 0, optimizer.param_groups[0]["lr"], len(optimizer.plan)


def with_gradients_clipped(weights: Weights) -> Any:
    backward(weights)
    total = opt.clip_grad_norm_([weights], 1.0)
    opt.clip_grad_value_([weights], 0.5)
    opt.adaptive_clip_grad_([weights])
    return total, weights.grad


def with_released_gradients(weights: Weights) -> Any:
    optimizer = opt.SGD([weights], lr=0.1)
    released = opt.release_gradients(optimizer)
    backward(weights)
    optimizer.step()
    released.remove()
    return weights.detach()


@pytest.mark.parametrize(
    "function",
    [
        with_a_chain,
        with_lookahead,
        with_a_group_added,
        with_a_state_dict,
        with_states,
        with_gradients_clipped,
        with_released_gradients,
    ],
)
def test_a_compiled_function_gives_what_it_gives_uncompiled(function: Callable[[Weights], Any]) -> None:
    compiled, plain = results_of(function, "eager")
    torch.testing.assert_close(compiled, plain, rtol=0, atol=0)


@pytest.mark.parametrize("whole", [False, True], ids=["optimizer.step", "training step"])
def test_a_compiled_step_follows_a_scheduler(whole: bool) -> None:
    def trained(module: Any, compiled: bool) -> torch.Tensor:
        weights = Weights(torch.tensor([1.0, 2.0, 3.0]))
        optimizer = module.AdamW([weights], lr=0.1)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)

        def step() -> None:
            if whole:
                optimizer.zero_grad()
                backward(weights)
            optimizer.step()

        run = torch.compile(step, backend="eager") if compiled else step
        for _ in range(6):
            if not whole:
                optimizer.zero_grad()
                backward(weights)
            run()
            scheduler.step()
        return weights.detach()

    torch.testing.assert_close(trained(opt, compiled=True), trained(torch.optim, compiled=False))


def test_importing_the_front_end_leaves_the_compiler_unloaded() -> None:
    code = "import sys, steepest.torch; assert 'torch._dynamo' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_clipping_loads_the_compiler_only_inside_a_graph() -> None:
    code = (
        "import sys, torch, steepest.torch as opt; w = torch.nn.Parameter(torch.ones(3)); w.grad = torch.ones(3);"
        "opt.clip_grad_norm_([w], 1.0); assert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
