"""torch's default device and default type change nothing: steps, states, checkpoints, clips and probes name their own."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

import steepest
import steepest.torch as opt
from steepest.monitor.probes import Activations, Histograms, NoiseScale, Sharpness

CPU: dict[str, Any] = {"device": "cpu"}
NAMES = ("SGD", "Adagrad", "RMSprop", "Adadelta", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "Lion", "LAMB", "LARS")
CHAINS = {
    **{name: lambda ps, e, name=name: getattr(opt, name)(ps, lr=0.1, engine=e) for name in NAMES},
    "tensor rate": lambda ps, e: opt.AdamW(ps, lr=torch.tensor(0.1, dtype=torch.float32, **CPU), engine=e),
    "clip, sums, average": lambda ps, e: opt.Optimizer(
        ps,
        steepest.chain(
            steepest.clip_by_global_norm(1.0),
            steepest.adaptive_grad_clip(0.1),
            steepest.skip_nonfinite(),
            steepest.adamw(0.1),
            steepest.ema(0.9),
        ),
        engine=e,
    ),
    "Lookahead": lambda ps, e: opt.Lookahead(opt.Adam(ps, lr=0.1, engine=e), k=2),
}


@contextmanager
def defaults(device: str | None, dtype: torch.dtype | None) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_device(device)
    torch.set_default_dtype(dtype or before)
    try:
        yield
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(before)


DEFAULTS = pytest.mark.parametrize(
    ("device", "dtype"),
    [("meta", None), (None, torch.float64), ("meta", torch.bfloat16)],
    ids=["meta", "float64", "meta bfloat16"],
)


def parameters(dtype: torch.dtype = torch.float32) -> list[torch.nn.Parameter]:
    own = torch.Generator("cpu").manual_seed(0)
    made = [torch.randn(shape, generator=own, dtype=torch.float32, **CPU).to(dtype) for shape in ((4, 3), (5,), ())]
    for one in (params := [torch.nn.Parameter(m) for m in made]):
        one.grad = torch.randn(one.shape, generator=own, dtype=torch.float32, **CPU).to(dtype)
    return params


def trained(make: Callable[[Any, str], Any], engine: str, dtype: torch.dtype) -> list[Any]:
    """Everything that a run shows: weights, states, a checkpoint continued by another optimizer, a copy's step."""
    params = parameters(dtype)
    optimizer = make(params, engine)
    for _ in range(3):
        optimizer.step()
    saved = copy.deepcopy(optimizer.state_dict())
    others = parameters(dtype)
    other = make(others, engine)
    other.load_state_dict(saved)
    other.step()
    optimizer.step()
    copied = copy.deepcopy(optimizer)
    copied.step()
    states = [optimizer.state[p] for p in params]
    assert all(t.device.type == "cpu" for state in states for t in state.values())
    return [params, others, copied.param_groups[0]["params"], states, saved["state"]]


@pytest.mark.parametrize("engine", ["auto", "arrays"])
@pytest.mark.parametrize(
    ("name", "of"),
    [*((name, torch.float32) for name in CHAINS), ("AdamW", torch.bfloat16), ("AdamW", torch.complex64)],
    ids=str,
)
def test_steps_and_checkpoints_are_those_without_defaults(name: str, of: torch.dtype, engine: str) -> None:
    expected = trained(CHAINS[name], engine, of)
    for device, dtype in (("meta", None), (None, torch.float64), ("meta", torch.float16)):
        with defaults(device, dtype):
            found = trained(CHAINS[name], engine, of)
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


@DEFAULTS
def test_sparse_rows_are_stepped_as_without_defaults(device: str | None, dtype: torch.dtype | None) -> None:
    def stepped() -> torch.Tensor:
        weights = torch.nn.Parameter(torch.ones(4, 2, dtype=torch.float32, **CPU))
        optimizer = opt.Adagrad([weights], lr=0.1)
        for row in (1, 3):
            values = torch.full((1, 2), 0.5, dtype=torch.float32, **CPU)
            weights.grad = torch.sparse_coo_tensor(
                torch.tensor([[row]], **CPU), values, (4, 2), check_invariants=True, **CPU
            )
            optimizer.step()
        return weights.detach()

    expected = stepped()
    with defaults(device, dtype):
        assert torch.equal(stepped(), expected)


@DEFAULTS
def test_clips_are_those_without_defaults(device: str | None, dtype: torch.dtype | None) -> None:
    def clipped() -> list[Any]:
        params = parameters()
        totals = [opt.clip_grad_norm_(params, 0.5), opt.clip_grad_norm_(params, 0.5, float("inf"))]
        opt.clip_grad_value_(params, 0.1)
        opt.adaptive_clip_grad_(params, 0.01)
        return [*totals, opt.clip_grad_norm_([], 1.0), [p.grad for p in params]]

    expected = clipped()
    with defaults(device, dtype):
        torch.testing.assert_close(clipped(), expected, rtol=0, atol=0)


def network() -> tuple[torch.nn.Module, torch.Tensor]:
    own = torch.Generator("cpu").manual_seed(0)
    kind: dict[str, Any] = {"dtype": torch.float32, "device": "cpu"}
    layers = torch.nn.Sequential(torch.nn.Linear(4, 6, **kind), torch.nn.Tanh(), torch.nn.Linear(6, 1, **kind))
    with torch.no_grad():
        for p in layers.parameters():
            p.copy_(torch.randn(p.shape, generator=own, **kind))
    return layers, torch.randn(8, 4, generator=own, **kind)


@DEFAULTS
def test_gradients_are_released_as_without_defaults(device: str | None, dtype: torch.dtype | None) -> None:
    def released() -> list[torch.Tensor]:
        model, x = network()
        optimizer = opt.AdamW(model.parameters(), lr=0.01)
        opt.release_gradients(optimizer)
        for _ in range(3):
            model(x).square().mean().backward()
            optimizer.step()
        return [p.detach() for p in model.parameters()]

    expected = released()
    with defaults(device, dtype):
        torch.testing.assert_close(released(), expected, rtol=0, atol=0)


@DEFAULTS
def test_the_monitor_and_its_probes_measure_what_they_do_without_defaults(
    device: str | None, dtype: torch.dtype | None
) -> None:
    def monitored() -> dict[str, Any]:
        model, x = network()
        optimizer = opt.AdamW(model.parameters(), lr=0.01)

        def loss_of_model() -> torch.Tensor:
            return model(x).square().mean()

        probes = [
            Sharpness(loss_of_model, every=2),
            Activations(model, every=2),
            Histograms(every=2),
            NoiseScale(8, every=2, loss_fn=loss_of_model),
        ]
        with steepest.Monitor(optimizer, model, every=1, folder=None, probes=probes) as monitor:
            for _ in range(4):
                optimizer.zero_grad()
                loss = loss_of_model()
                loss.backward()
                optimizer.step()
                monitor(loss)
        assert monitor.last is not None
        found = {**monitor.last.scalars, **monitor.last.tensors}
        assert {"sharpness", "sharpness_preconditioned", "activations_saturated"} <= {*found}
        return {name: value for name, value in found.items() if "second" not in name}

    expected = monitored()
    with defaults(device, dtype):
        found = monitored()
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, (float, np.ndarray)):
            np.testing.assert_array_equal(found[name], value, err_msg=name)
