"""How much memory a step takes beyond weights, gradients and states, and a whole iteration with gradients released.

«step» is how many bytes `optimizer.step()` has allocated at its highest; «iteration» the same of forward pass, backward pass
and step together, from a state without gradients; «gradients» the most bytes of gradients alive at once, looked at after every
layer's backward pass. In MB, after steps in which states are made and code is compiled. PyTorch's profiler reports what its
allocator gives out and takes back, tracemalloc what Python and NumPy hold; compiled steps allocate nothing themselves.

    python benchmarks/memory.py [--layers 24] [--width 1024]
"""

from __future__ import annotations

import argparse
import gc
import tracemalloc
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

import steepest
import steepest.torch as opt

MB = 1e6


def lamb(params: Any) -> opt.Optimizer:
    return opt.Optimizer(params, steepest.chain(steepest.clip_by_norm(1.0), steepest.lamb(1e-3)))


ROWS: dict[str, tuple[Callable[[Any], torch.optim.Optimizer], bool]] = {
    "torch AdamW, foreach": (partial(torch.optim.AdamW, lr=1e-3, foreach=True), False),
    "torch AdamW, one by one": (partial(torch.optim.AdamW, lr=1e-3, foreach=False), False),
    "torch AdamW, fused": (partial(torch.optim.AdamW, lr=1e-3, fused=True), False),
    "steepest AdamW": (partial(opt.AdamW, lr=1e-3), False),
    "steepest AdamW, arrays": (partial(opt.AdamW, lr=1e-3, engine="arrays"), False),
    "steepest AdamW, released": (partial(opt.AdamW, lr=1e-3), True),
    "steepest clip_by_norm + LAMB": (lamb, False),
    "steepest clip_by_norm + LAMB, released": (lamb, True),
}
"""What makes the optimizer, and whether its gradients are released."""


def most_allocated(function: Callable[[], Any]) -> float:
    """By how many bytes what is allocated rises at its highest."""
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        tracemalloc.start()
        function()
        by_python = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    results = profiled.profiler.kineto_results
    changes = sorted((e.start_ns(), e.nbytes()) for e in results.events() if e.name() == "[memory]")
    now = most = 0
    for _, change in changes:
        now += change
        most = max(most, now)
    return most + by_python


def measured(name: str, layers: int, width: int) -> tuple[float, float, float]:
    make, released = ROWS[name]
    torch.manual_seed(0)
    model = torch.nn.Sequential(*[torch.nn.Linear(width, width, bias=False) for _ in range(layers)])
    params = list(model.parameters())
    optimizer = make(params)
    if released:
        assert isinstance(optimizer, opt.Optimizer)
        opt.release_gradients(optimizer, model)
    x = torch.randn(4, width, requires_grad=True)  # so that every layer's hook is called
    alive = 0

    def count(*_: Any) -> None:
        nonlocal alive
        alive = max(alive, sum(p.grad.nbytes for p in params if p.grad is not None))

    for layer in model:
        layer.register_full_backward_hook(count)

    def forward_and_backward() -> None:
        model(x).square().mean().backward()
        count()

    def iteration() -> None:
        forward_and_backward()
        optimizer.step()
        optimizer.zero_grad()

    for _ in range(3):
        iteration()
    whole = most_allocated(iteration)
    forward_and_backward()
    step = most_allocated(optimizer.step)
    return step, whole, alive


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--width", type=int, default=1024)
    given = parser.parse_args()
    weights = given.layers * given.width**2 * 4 / MB
    print(
        f"{given.layers} layers of {given.width} x {given.width} float32, {weights:.1f} MB; PyTorch {torch.__version__}"
    )
    print(f"{'MB beyond weights and states':40}{'step':>10}{'iteration':>12}{'gradients':>12}")
    for name in ROWS:
        step, whole, alive = measured(name, given.layers, given.width)
        print(f"{name:40}{step / MB:10.3f}{whole / MB:12.1f}{alive / MB:12.1f}", flush=True)


if __name__ == "__main__":
    main()
