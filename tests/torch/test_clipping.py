"""Clipping in place on ``p.grad``, beside PyTorch's and timm's own functions."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import steepest.torch as opt
from tests.oracles import timm_module

SHAPES = [(), (5,), (4, 3), (2, 3, 4), (0, 3), (70, 1000)]
TOLERANCE = {
    torch.float64: {"rtol": 1e-12, "atol": 0.0},
    torch.float32: {"rtol": 1e-5, "atol": 0.0},
    torch.bfloat16: {"rtol": 1e-2, "atol": 0.0},
    torch.float16: {"rtol": 2e-3, "atol": 0.0},
}
DTYPES = pytest.mark.parametrize("dtype", TOLERANCE, ids=lambda d: str(d).removeprefix("torch."))


def drawn(dtype: torch.dtype = torch.float32, scale: float = 1.0, shapes: Any = SHAPES) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(5)
    params = [nn.Parameter(torch.randn(shape, generator=generator).to(dtype)) for shape in shapes]
    for p in params:
        p.grad = (scale * torch.randn(p.shape, generator=generator)).to(dtype)
    params.append(nn.Parameter(torch.ones(3, dtype=dtype)))  # without a gradient
    return params


def in_32(norm: torch.Tensor) -> torch.Tensor:
    """torch returns a norm in the type of the gradients, ours is at least float32."""
    return norm.float() if norm.dtype in (torch.float16, torch.bfloat16) else norm


def compared(
    ours: Callable[[Any], Any], theirs: Callable[[Any], Any], make: Callable[[], Any], **tolerance: Any
) -> None:
    """Both clips on equal gradients: equal gradients after them, in the same memory, and equal answers."""
    a, b = make(), make()
    memory = [None if p.grad is None else p.grad.data_ptr() for p in a]
    weights = [p.detach().clone() for p in a]
    torch.testing.assert_close(ours(a), theirs(b), **tolerance)
    for p, q, before, where in zip(a, b, weights, memory, strict=True):
        assert torch.equal(p.detach(), before)
        assert (p.grad is None) == (q.grad is None)
        if p.grad is not None:
            assert p.grad.data_ptr() == where
            torch.testing.assert_close(p.grad, q.grad, **tolerance)


@DTYPES
@pytest.mark.parametrize("order", [1.0, 2.0, 3.0, math.inf])
def test_clipping_by_the_norm_gives_torchs_gradients_and_norm(order: float, dtype: torch.dtype) -> None:
    small = [shape for shape in SHAPES if 0 not in shape or order != math.inf]  # torch has no maximum of nothing
    small = [shape for shape in small if dtype != torch.float16 or shape != SHAPES[-1]]  # beyond 65504 there
    for max_norm in (0.7, 1e9):
        compared(
            lambda ps, m=max_norm: opt.clip_grad_norm_(ps, m, order),
            lambda ps, m=max_norm: in_32(nn.utils.clip_grad_norm_(ps, m, order)),
            lambda: drawn(dtype, shapes=small),
            **TOLERANCE[dtype],
        )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("norm_type", "norm"), [(2.0, 103923.0), (1.0, 180000.0), (math.inf, 60000.0)])
def test_the_norm_of_gradients_in_16_bits_is_returned_in_32(dtype: torch.dtype, norm_type: float, norm: float) -> None:
    weights = nn.Parameter(torch.zeros(3, dtype=dtype))
    weights.grad = torch.full((3,), 60000.0, dtype=dtype)
    total = opt.clip_grad_norm_(weights, 1.0, norm_type)
    assert total.dtype == torch.float32
    assert float(total) == pytest.approx(norm, rel=4e-3)  # bfloat16 has no 60000
    clipped = torch.linalg.vector_norm(weights.grad.double(), norm_type)
    assert float(clipped) == pytest.approx(1.0, rel=4e-3)


@DTYPES
def test_clipping_by_value_gives_torchs_gradients(dtype: torch.dtype) -> None:
    compared(
        lambda ps: opt.clip_grad_value_(ps, 0.3),
        lambda ps: nn.utils.clip_grad_value_(ps, 0.3),
        lambda: drawn(dtype),
        rtol=0.0,
        atol=0.0,
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_adaptive_clipping_gives_timms_gradients(dtype: torch.dtype) -> None:
    theirs = timm_module("timm.utils.agc").adaptive_clip_grad
    for clipping in (0.01, 0.5):
        compared(
            lambda ps, c=clipping: opt.adaptive_clip_grad_(ps, c),
            lambda ps, c=clipping: theirs(ps, c),
            lambda: drawn(dtype, 3.0),
            **TOLERANCE[dtype],
        )


def test_adaptive_clipping_along_the_last_axis_is_that_of_the_transposed() -> None:
    a, b = drawn(shapes=[(4, 3)], scale=9.0), drawn(shapes=[(4, 3)], scale=9.0)
    turned = nn.Parameter(b[0].detach().T.contiguous())
    turned.grad = b[0].grad.T.contiguous()
    opt.adaptive_clip_grad_(a, axis=-1)
    opt.adaptive_clip_grad_(turned)
    torch.testing.assert_close(a[0].grad, turned.grad.T)


@pytest.mark.parametrize("memory", ["transposed", "every second", "channels last"])
def test_gradients_in_any_layout_are_clipped_where_they_lie(memory: str) -> None:
    def make() -> list[nn.Parameter]:
        params = drawn(shapes=[(6, 4, 2, 2)])[:1]
        grad = params[0].grad
        if memory == "transposed":
            params[0].grad = grad.transpose(0, 1).contiguous().transpose(0, 1)
        elif memory == "every second":
            params[0].grad = torch.stack([grad, grad], dim=-1)[..., 0]
        else:
            params[0].grad = grad.to(memory_format=torch.channels_last)
        return params

    timms = timm_module("timm.utils.agc").adaptive_clip_grad
    compared(lambda ps: opt.clip_grad_norm_(ps, 0.5), lambda ps: nn.utils.clip_grad_norm_(ps, 0.5), make)
    compared(lambda ps: opt.clip_grad_value_(ps, 0.5), lambda ps: nn.utils.clip_grad_value_(ps, 0.5), make)
    compared(lambda ps: opt.adaptive_clip_grad_(ps), lambda ps: timms(ps), make)


def test_one_tensor_a_generator_and_types_together_are_taken() -> None:
    def mixed() -> list[nn.Parameter]:
        return [*drawn(torch.float32), *drawn(torch.float64), *drawn(torch.bfloat16, shapes=[(4,)])]

    compared(
        lambda ps: opt.clip_grad_norm_(ps, 0.5), lambda ps: nn.utils.clip_grad_norm_(ps, 0.5), mixed, rtol=1e-2, atol=0
    )
    compared(lambda ps: opt.clip_grad_norm_(ps[2], 0.5), lambda ps: nn.utils.clip_grad_norm_(ps[2], 0.5), drawn)
    compared(
        lambda ps: opt.clip_grad_norm_((p for p in ps), 0.5),
        lambda ps: nn.utils.clip_grad_norm_((p for p in ps), 0.5),
        drawn,
    )


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_norm_that_is_not_finite_flows_on_or_is_refused_unchanged(bad: float) -> None:
    def make() -> list[nn.Parameter]:
        params = drawn(shapes=[(4,), (3,)])
        params[0].grad[1] = bad
        return params

    compared(
        lambda ps: opt.clip_grad_norm_(ps, 1.0), lambda ps: nn.utils.clip_grad_norm_(ps, 1.0), make, equal_nan=True
    )
    params = make()
    before = [p.grad.clone() for p in params[:2]]
    message = (
        "clip_grad_norm_: the norm of order 2 of all gradients isn't finite. Nothing was changed. To clip anyway, leave "
        "out error_if_nonfinite."
    )
    with pytest.raises(RuntimeError, match=f"^{re.escape(message)}$"):
        opt.clip_grad_norm_(params, 1.0, error_if_nonfinite=True)
    for p, grad in zip(params, before, strict=False):
        torch.testing.assert_close(p.grad, grad, equal_nan=True, rtol=0, atol=0)


def test_a_norm_whose_square_overflows_float32_is_still_known() -> None:
    w = nn.Parameter(torch.zeros(4))
    w.grad = torch.full((4,), 3e30)
    torch.testing.assert_close(opt.clip_grad_norm_(w, 1.0), torch.tensor(6e30))
    torch.testing.assert_close(w.grad, torch.full((4,), 0.5))


def test_a_limit_of_infinity_only_measures() -> None:
    compared(lambda ps: opt.clip_grad_norm_(ps, math.inf), lambda ps: nn.utils.clip_grad_norm_(ps, math.inf), drawn)


def test_nothing_to_clip_has_the_norm_zero() -> None:
    w = nn.Parameter(torch.ones(3))
    for params in ([], [w], w):
        total = opt.clip_grad_norm_(params, 1.0, error_if_nonfinite=True)
        assert torch.equal(total, torch.tensor(0.0))
        opt.clip_grad_value_(params, 1.0)
        opt.adaptive_clip_grad_(params)
    assert w.grad is None


def test_clipped_gradients_are_new_to_autograd() -> None:
    w = nn.Parameter(torch.ones(3))
    w.grad = torch.ones(3)
    for clip in (
        lambda: opt.clip_grad_norm_(w, 0.1),
        lambda: opt.clip_grad_value_(w, 0.1),
        lambda: opt.adaptive_clip_grad_(w),
    ):
        before = w.grad._version
        clip()
        assert w.grad._version > before


def test_the_norm_of_complex_gradients_is_torchs() -> None:
    def make() -> list[nn.Parameter]:
        torch.manual_seed(0)
        w = nn.Parameter(torch.zeros(3, 2, dtype=torch.complex64))
        w.grad = torch.randn(3, 2, dtype=torch.complex64)
        return [w]

    compared(lambda ps: opt.clip_grad_norm_(ps, 0.5), lambda ps: nn.utils.clip_grad_norm_(ps, 0.5), make)
    with pytest.raises(ValueError, match=r"^clip_grad_norm_: norm_type must be 2\.0 if a gradient is complex, got inf"):
        opt.clip_grad_norm_(make(), 0.5, math.inf)
    with pytest.raises(TypeError, match=r"^clip_grad_value_: gradients must be real, got a complex one"):
        opt.clip_grad_value_(make(), 0.5)


def test_what_can_not_be_clipped_is_said_and_left_as_it_was() -> None:
    params = drawn(shapes=[(4, 3)])
    before = params[0].grad.clone()
    for call, message in (
        (lambda: opt.clip_grad_norm_(params, -1.0), "clip_grad_norm_: max_norm must be > 0, got -1.0."),
        (lambda: opt.clip_grad_norm_(params, 1.0, 0.0), "clip_grad_norm_: norm_type must be > 0, got 0.0."),
        (lambda: opt.clip_grad_value_(params, 0.0), "clip_grad_value_: clip_value must be > 0, got 0.0."),
        (
            lambda: opt.adaptive_clip_grad_(params, axis=2),
            "adaptive_clip_grad_: axis must be a whole number in [-2, 1], got 2. Parameter '0' has 2 dimensions.",
        ),
        (
            lambda: opt.clip_grad_norm_([params[0], params[0]], 1.0),
            "clip_grad_norm_: parameters must be different, got one twice. Its gradient would be clipped twice.",
        ),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            call()
    embedding = nn.Embedding(4, 3, sparse=True)
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(
        TypeError, match=r"^clip_grad_norm_: gradients must have the layout torch\.strided, got torch\.sparse_coo"
    ):
        opt.clip_grad_norm_(embedding.parameters(), 1.0)
    assert torch.equal(params[0].grad, before)
