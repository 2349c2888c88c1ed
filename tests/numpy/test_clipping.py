"""Clipping: units, types and numbers that are not finite. The rows of `oracles` cover the usual case."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
import torch

import steepest as s
import steepest.numpy as opt
from tests.oracles import SHAPES, timm_module

ENGINES = pytest.mark.parametrize("engine", ["arrays", "cpu"])


def clipped(clip: s.Chain, grad: np.ndarray, param: np.ndarray | None = None, engine: str = "arrays") -> np.ndarray:
    """The clipped gradient: what descent at learning rate 1 subtracts from weights; from zeros it is exact."""
    start = np.zeros_like(grad) if param is None else param
    moved = start.copy()
    opt.Optimizer([moved], s.chain(clip, s.sgd(1.0)), engine=engine).step([grad])
    return start - moved


def drawn(dtype: type = np.float64, scale: float = 1.0) -> list[np.ndarray]:
    rng = np.random.default_rng(11)
    return [np.asarray(scale * rng.normal(size=shape), dtype=dtype) for shape in SHAPES]


@ENGINES
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_clipping_by_value_is_numpys_with_nan_and_infinities(dtype: type, engine: str) -> None:
    grad = np.array([-np.inf, -2.0, -0.25, -0.0, 0.0, 0.1, 0.5, 7.0, np.inf, np.nan], dtype=dtype)
    np.testing.assert_array_equal(clipped(s.clip_by_value(-0.25, 0.5), grad, engine=engine), np.clip(grad, -0.25, 0.5))


@ENGINES
def test_a_gradient_within_the_norm_is_not_changed(engine: str) -> None:
    grad = np.array([[0.3, -0.2], [0.1, 0.0]])
    for clip in (
        s.clip_by_global_norm(1.0), s.clip_by_norm(1.0), s.clip_by_block_rms(1.0), s.clip_by_global_norm(1.0, math.inf),
    ):  # fmt: skip
        np.testing.assert_array_equal(clipped(clip, grad, engine=engine), grad)


def test_a_global_norm_joins_what_clipping_by_norm_keeps_apart() -> None:
    grads = [np.full(4, 3.0), np.full((2, 2), 4.0)]
    for clip, expected in ((s.clip_by_global_norm(1.0), [0.6, 0.8]), (s.clip_by_norm(1.0), [1.0, 1.0])):
        params = [np.zeros_like(g) for g in grads]
        opt.Optimizer(params, s.chain(clip, s.sgd(1.0)), engine="arrays").step(grads)
        np.testing.assert_allclose([np.linalg.norm(p) for p in params], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("order", "dtype", "tolerance"),
    [*((order, np.float64, 1e-12) for order in (1.0, 2.0, 3.0, math.inf)), (2.0, np.float32, 1e-6)],
)
def test_clipping_norms_in_place_is_torchs(order: float, dtype: type, tolerance: float) -> None:
    grads = drawn(dtype)
    tensors = [torch.nn.Parameter(torch.zeros(g.shape, dtype=torch.from_numpy(g).dtype)) for g in grads]
    for t, g in zip(tensors, grads, strict=True):
        t.grad = torch.from_numpy(g.copy())
    theirs = torch.nn.utils.clip_grad_norm_(tensors, 0.9, order)
    np.testing.assert_allclose(opt.clip_grad_norm_(grads, 0.9, order), theirs.item(), rtol=tolerance)
    for t, g in zip(tensors, grads, strict=True):
        np.testing.assert_allclose(g, t.grad.numpy(), rtol=tolerance)


def test_clipping_values_in_place_is_numpys() -> None:
    grads = drawn()
    expected = [np.clip(g, -0.4, 0.2) for g in grads]
    opt.clip_grad_value_(grads, -0.4, 0.2)
    for g, e in zip(grads, expected, strict=True):
        np.testing.assert_array_equal(g, e)


def test_adaptive_clipping_in_place_is_timms_also_for_weights_near_zero() -> None:
    params, grads = drawn(), drawn(scale=50.0)
    params[0][1] *= 1e-9
    tensors = [torch.nn.Parameter(torch.from_numpy(p.copy())) for p in params]
    for t, g in zip(tensors, grads, strict=True):
        t.grad = torch.from_numpy(g.copy())
    timm_module("timm.utils.agc").adaptive_clip_grad(tensors, clip_factor=0.02, eps=1e-3)
    opt.adaptive_clip_grad_(params, grads, 0.02)
    for t, g in zip(tensors, grads, strict=True):
        np.testing.assert_allclose(g, t.grad.numpy(), rtol=1e-12)


@pytest.mark.parametrize("kind", [list, dict])
def test_clipping_in_place_skips_what_has_no_gradient(kind: type) -> None:
    def given(*arrays: np.ndarray | None) -> Any:
        return list(arrays) if kind is list else dict(zip("abc", arrays, strict=True))

    left, right = np.array([3.0, -3.0]), np.array([[4.0], [4.0]]).T
    assert opt.clip_grad_norm_(given(left, None, right), 1.0) == pytest.approx(math.sqrt(50))
    np.testing.assert_allclose(np.concatenate([left, right[0]]), np.array([3, -3, 4, 4]) / math.sqrt(50), rtol=1e-6)
    opt.clip_grad_value_(given(None, left, right), -0.1, 0.2)
    np.testing.assert_array_equal(np.concatenate([left, right[0]]), [0.2, -0.1, 0.2, 0.2])
    weights = [np.ones(2), np.ones((3, 3)), np.ones((1, 2))]
    opt.adaptive_clip_grad_(given(*weights), given(left, None, right), 0.01)
    np.testing.assert_allclose([np.linalg.norm(left), np.linalg.norm(right)], 0.01 * math.sqrt(2), rtol=1e-12)
    for w in weights:
        np.testing.assert_array_equal(w, np.ones_like(w))


@pytest.mark.parametrize("axis", [2, 3, -3])
def test_an_axis_that_a_parameter_does_not_have_is_refused_and_nothing_changes(axis: int) -> None:
    params, grads = {"b": np.ones(2), "w": np.ones((2, 3))}, {"b": np.ones(2), "w": np.ones((2, 3))}
    message = (
        f"adaptive_clip_grad_: axis must be a whole number in [-2, 1], got {axis}. Parameter 'w' has 2 dimensions."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        opt.adaptive_clip_grad_(params, grads, axis=axis)
    np.testing.assert_array_equal(grads["w"], np.ones((2, 3)))


@pytest.mark.parametrize("axis", [1, -1])
def test_an_axis_of_the_matrices_leaves_vectors_and_numbers_whole(axis: int) -> None:
    grads = [np.array(1.0), np.ones(2), np.ones((2, 3))]
    opt.adaptive_clip_grad_([np.ones_like(g) for g in grads], grads, 0.01, axis=axis)
    for g in grads:
        np.testing.assert_allclose(g, 0.01, rtol=1e-12)


def test_clipping_nothing_in_place_finds_a_norm_of_zero() -> None:
    assert opt.clip_grad_norm_([None, None], 1.0) == 0.0
    assert opt.clip_grad_norm_({"a": None}, 1.0, math.inf, error_if_nonfinite=True) == 0.0
    opt.clip_grad_value_([None], 0.0, 1.0)
    opt.adaptive_clip_grad_([np.ones(2)], [None])


def test_a_bad_argument_is_named_with_the_function_that_was_called() -> None:
    grad = np.array([3.0, 4.0])
    for call, message in (
        (lambda: opt.clip_grad_norm_([grad], 0), "clip_grad_norm_: max_norm must be > 0, got 0."),
        (
            lambda: opt.clip_grad_value_([grad], -math.inf, 1),
            "clip_grad_value_: low must be a finite number, got -inf.",
        ),
        (lambda: opt.adaptive_clip_grad_([grad], [grad], eps=0.0), "adaptive_clip_grad_: eps must be > 0, got 0.0."),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            call()
    np.testing.assert_array_equal(grad, [3.0, 4.0])


def test_a_bad_gradient_after_one_that_is_missing_is_named_by_its_place_and_nothing_changes() -> None:
    grad = np.array([3.0, 4.0])
    with pytest.raises(
        TypeError, match=re.escape("clip_grad_norm_: parameter '2' must have dtype float32 or float64, got int64.")
    ):
        opt.clip_grad_norm_([grad, None, np.ones(2, np.int64)], 1.0)
    with pytest.raises(ValueError, match=re.escape("clip_grad_norm_: params must have at least one array, got none")):
        opt.clip_grad_norm_([], 1.0)
    np.testing.assert_array_equal(grad, [3.0, 4.0])


@pytest.mark.parametrize("norm_clip", [s.clip_by_global_norm(0.5), s.clip_by_norm(0.5)], ids=["global", "tensor"])
def test_a_clipped_step_of_descent_is_at_most_lr_times_the_norm(norm_clip: s.Chain) -> None:
    for scale in (1e-3, 1.0, 1e8, 1e300):
        grad = scale * np.ones(9)
        assert np.linalg.norm(clipped(norm_clip, grad)) <= 0.5


def test_agc_takes_slices_along_the_first_dimension_and_whole_vectors_as_units() -> None:
    rng = np.random.default_rng(0)
    for shape in ((6,), (4, 5), (4, 3, 2), (4, 3, 2, 2)):
        w, g = rng.normal(size=shape), 100 * rng.normal(size=shape)
        change = clipped(s.adaptive_grad_clip(0.01), g, w)
        axes = tuple(range(1, w.ndim)) if w.ndim > 1 else None
        lengths = np.sqrt(np.sum(change**2, axis=axes)) / np.sqrt(np.sum(w**2, axis=axes))
        np.testing.assert_allclose(lengths, 0.01, rtol=1e-9)


def test_agc_along_the_last_axis_is_agc_of_the_transposed() -> None:
    rng = np.random.default_rng(0)
    w, g = rng.normal(size=(4, 5)), 100 * rng.normal(size=(4, 5))
    last = clipped(s.adaptive_grad_clip(0.01, axis=-1), g, w)
    first = clipped(s.adaptive_grad_clip(0.01), g.T.copy(), w.T.copy())
    np.testing.assert_allclose(last, first.T, rtol=1e-9)


@ENGINES
def test_a_norm_whose_square_overflows_float32_does_not(engine: str) -> None:
    g = np.full(4, 3e30, dtype=np.float32)
    for clip in (s.clip_by_global_norm(1.0), s.clip_by_norm(1.0)):
        np.testing.assert_allclose(clipped(clip, g, engine=engine), 0.5, rtol=1e-6)


@ENGINES
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_norm_that_is_not_finite_flows_as_in_torch(bad: float, engine: str) -> None:
    g = np.array([1.0, bad, -2.0])
    w = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
    w.grad = torch.from_numpy(g.copy())
    torch.nn.utils.clip_grad_norm_([w], 1.0)
    torch.optim.SGD([w], 1.0).step()
    np.testing.assert_array_equal(clipped(s.clip_by_global_norm(1.0), g, engine=engine), -w.detach().numpy())
