"""Gradients of another type than their parameters, which ``Tensor.grad_dtype`` allows: converted to what a step computes in."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import steepest
import steepest.torch as opt

pytestmark = pytest.mark.skipif(not hasattr(torch.Tensor, "grad_dtype"), reason="grad_dtype came with PyTorch 2.9")
NAMES = ("SGD", "Adagrad", "RMSprop", "Adadelta", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "Lion", "LAMB", "LARS")
ENGINES = pytest.mark.parametrize("engine", ["cpu", "arrays"])


def parameters(dtype: torch.dtype, grad_dtype: torch.dtype | None) -> list[torch.nn.Parameter]:
    own = torch.Generator().manual_seed(0)
    made = [torch.nn.Parameter(torch.randn(shape, generator=own).to(dtype)) for shape in ((4, 3), (5,), (6, 2))]
    made[0].grad_dtype = made[2].grad_dtype = grad_dtype
    return made


def gradients(step: int) -> list[torch.Tensor]:
    """In float32, beyond the precision of 16 bits."""
    own = torch.Generator().manual_seed(step)
    return [torch.randn(shape, generator=own) for shape in ((4, 3), (5,), (2, 6))]


@ENGINES
@pytest.mark.parametrize("name", NAMES)
def test_a_step_in_16_bits_loses_nothing_of_gradients_in_32(name: str, engine: str) -> None:
    params, exact = parameters(torch.bfloat16, torch.float32), parameters(torch.bfloat16, torch.float32)
    reference = [torch.nn.Parameter(p.detach().float()) for p in exact]
    optimizer = getattr(opt, name)(params, lr=0.1, engine=engine)
    expected = getattr(opt, name)(reference, lr=0.1, engine=engine)
    for step in range(4):
        for p, q, g in zip(params, reference, gradients(step), strict=True):
            grad = (
                g.reshape(p.shape) if p.ndim == 1 else g.reshape(p.shape[::-1]).T
            )  # some not laid out as their parameters
            p.grad = grad if p.grad_dtype == torch.float32 else grad.bfloat16()
            q.grad = p.grad.float()
        optimizer.step()
        expected.step()
        for q in reference:  # a parameter in 16 bits is rounded after each step
            q.data.copy_(q.data.bfloat16())
    for p, q in zip(params, reference, strict=True):
        torch.testing.assert_close(p.detach().float(), q.detach(), rtol=0, atol=0)


@ENGINES
@pytest.mark.parametrize("grad_dtype", [torch.float32, None], ids=str)
def test_sgd_gives_torchs_weights(grad_dtype: torch.dtype | None, engine: str) -> None:
    found = {}
    for module, values in ((torch.optim, {}), (opt, {"engine": engine})):
        weights = torch.nn.Parameter(torch.ones(4, dtype=torch.bfloat16))
        weights.grad_dtype = grad_dtype
        optimizer = module.SGD([weights], lr=0.1, **values)
        (weights.float() * torch.tensor([1.0, 2.0, 3.0, 4.0])).sum().backward()
        optimizer.step()
        found[module] = weights.tolist()
    assert found[opt] == found[torch.optim] == [0.8984375, 0.80078125, 0.69921875, 0.6015625]


@ENGINES
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64], ids=str)
def test_the_type_of_gradients_may_change_from_step_to_step(dtype: torch.dtype, engine: str) -> None:
    """``grad_dtype = None`` allows any type. Gradients that all types hold give the same step in each."""
    types = (dtype, torch.float32, dtype, dtype, torch.float64, torch.bfloat16, torch.float16, dtype, dtype)
    changing, plain = (torch.nn.Parameter(torch.ones(6, dtype=dtype)) for _ in range(2))
    changing.grad_dtype = None
    optimizers = [opt.AdamW([p], lr=0.125, engine=engine) for p in (changing, plain)]
    for number, other in enumerate(types):
        grad = torch.tensor([1.0, -2.0, 0.5, 4.0, 0.0, 3.0]) * (number + 1)
        changing.grad, plain.grad = grad.to(other), grad.to(dtype)
        for optimizer in optimizers:
            optimizer.step()
        assert torch.equal(changing.detach(), plain.detach()), number


def test_complex_gradients_of_another_precision_are_converted() -> None:
    wide, plain = (torch.nn.Parameter(torch.ones(3, dtype=torch.complex64)) for _ in range(2))
    wide.grad_dtype = torch.complex128
    wide.grad, plain.grad = torch.full((3,), 1 + 2j, dtype=torch.complex128), torch.full((3,), 1 + 2j)
    for p in (wide, plain):
        opt.Adam([p], lr=0.1).step()
    assert torch.equal(wide.detach(), plain.detach())


def test_sparse_gradients_in_32_bits_are_stepped_by_rows() -> None:
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        weights = torch.nn.Parameter(torch.ones(4, 2, dtype=torch.bfloat16))
        weights.grad_dtype = dtype
        optimizer = opt.Adagrad([weights], lr=0.1)
        for row in (1, 3, 1):
            values = torch.full((1, 2), 0.5, dtype=dtype)
            weights.grad = torch.sparse_coo_tensor(torch.tensor([[row]]), values, (4, 2), check_invariants=True)
            optimizer.step()
        found.append(weights.detach().clone())
    assert torch.equal(*found) and found[0][0].tolist() == [1.0, 1.0] and found[0][1, 0] < 0.9


def test_released_gradients_may_have_another_type() -> None:
    found = []
    for grad_dtype in (torch.float32, torch.bfloat16):
        weights = torch.nn.Parameter(torch.ones(4, dtype=torch.bfloat16))
        weights.grad_dtype = grad_dtype
        optimizer = opt.AdamW([weights], lr=0.1)
        opt.release_gradients(optimizer)
        for _ in range(3):
            (weights.float() * torch.tensor([1.0, 2.0, 3.0, 4.0])).sum().backward()
            assert weights.grad is None
            optimizer.step()
        found.append(weights.detach().clone())
    assert torch.equal(*found)


def test_gradients_in_32_bits_are_clipped_inside_the_chain() -> None:
    weights = torch.nn.Parameter(torch.ones(2, dtype=torch.bfloat16))
    weights.grad_dtype = torch.float32
    weights.grad = torch.tensor([3e5, 4e5])
    opt.Optimizer([weights], steepest.chain(steepest.clip_by_global_norm(1.0), steepest.sgd(0.5))).step()
    assert weights.tolist() == pytest.approx([0.7, 0.6], abs=4e-3)


@pytest.mark.parametrize("moved", ["dtype", "kind"])
def test_a_type_that_grad_dtype_does_not_allow_is_refused_with_a_way_out(moved: str) -> None:
    weights = torch.nn.Parameter(torch.ones(2))
    weights.grad = torch.ones(2)
    optimizer = opt.SGD([weights], lr=0.1)
    before: Any = weights.data.to(torch.float64 if moved == "dtype" else torch.complex64)
    weights.data = before.clone()
    with pytest.raises(
        TypeError, match=r"call zero_grad\(\)\. For gradients of another type, set the parameter's grad_dtype\."
    ):
        optimizer.step()
    assert torch.equal(weights.data, before)
