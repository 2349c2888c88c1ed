"""The named optimizers beside torch's own: every configuration that torch tests itself with, in every type and layout."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.testing._internal.common_optimizers import OptimizerErrorEnum, optim_db

import steepest.torch as opt

NAMES = ("SGD", "Adagrad", "RMSprop", "Adadelta", "Adam", "AdamW", "Adamax", "NAdam", "RAdam")
INFOS = {info.optim_cls.__name__: info for info in optim_db if info.optim_cls.__name__ in NAMES}
CONFIGURATIONS = [
    pytest.param(name, given.kwargs, id=f"{name} {given.desc}")
    for name in NAMES
    for given in INFOS[name].optim_inputs_func(device="cpu")
]
ERRORS = [
    pytest.param(name, error, id=f"{name} {error.optimizer_error_input.desc}")
    for name in NAMES
    for error in INFOS[name].optim_error_inputs_func(device="cpu", dtype=torch.float32)
]
ENGINES = ("auto", "arrays")
Make = Callable[[Sequence[torch.Tensor]], torch.optim.Optimizer]


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """torch's NAdam keeps its product of momenta in the default type."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def tensors(seed: int, dtype: torch.dtype) -> list[torch.Tensor]:
    """Contiguous, transposed, channels last, without dimensions, empty, and a slice of every second column."""
    random = torch.Generator().manual_seed(seed)

    def some(*shape: int) -> torch.Tensor:
        wide = torch.complex128 if dtype.is_complex else torch.float64
        return torch.randn(shape, generator=random, dtype=wide).to(dtype)

    last = some(2, 3, 4, 4).to(memory_format=torch.channels_last)
    return [some(4, 3), some(5, 4).t(), last, some(), some(0), some(3, 0), some(4, 10)[:, ::2], some(7)[::3], some(33)]


def gradients(seed: int, dtype: torch.dtype, params: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """In the layout of their parameters; some elements are exactly 0."""
    made = [torch.empty_like(p).copy_(g) for p, g in zip(params, tensors(seed, dtype), strict=True)]
    for grad in made:
        if grad.ndim == 2 and grad.numel():
            grad[0, 0] = 0
    return made


def after(make: Make, dtype: torch.dtype, steps: int, of: torch.dtype | None = None) -> list[torch.Tensor]:
    """The parameters after some steps in ``dtype``, on numbers that are also numbers of the type ``of``."""
    params = [torch.nn.Parameter(p.to(dtype)) for p in tensors(0, of or dtype)]
    for given, param in zip(tensors(0, of or dtype), params, strict=True):
        param.data = given if given.dtype == dtype else param.data
    optimizer = make(params)
    for step in range(1, steps + 1):
        for param, grad in zip(params, gradients(step, of or dtype, params), strict=True):
            param.grad = grad.to(dtype)
        optimizer.step()
    return [p.detach() for p in params]


def far(a: torch.Tensor, b: torch.Tensor) -> float:
    """The largest difference, relative to an element or to its tensor's root mean square, whichever is larger."""
    if not a.numel():
        return 0.0
    wide = torch.complex128 if a.is_complex() else torch.float64
    a, b = a.to(wide), b.to(wide)
    scale = b.abs().square().mean().sqrt()
    return float(((a - b).abs() / torch.maximum(b.abs(), scale)).max())


def assert_near(ours: Sequence[torch.Tensor], theirs: Sequence[torch.Tensor], within: float) -> None:
    for number, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        assert a.shape == b.shape and a.dtype == b.dtype and a.stride() == b.stride()
        assert far(a, b) <= within, (number, far(a, b))


def pair(name: str, values: dict[str, Any], engine: str = "auto") -> tuple[Make, Make]:
    return (
        lambda params: getattr(opt, name)(params, engine=engine, **values),
        lambda params: getattr(torch.optim, name)(params, **values),
    )


# ---- numbers


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("dtype", "within"),
    [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.complex128, 1e-12), (torch.complex64, 1e-5)],
    ids=str,
)
@pytest.mark.parametrize(("name", "values"), CONFIGURATIONS)
def test_weights_are_those_of_torch(
    name: str, values: dict[str, Any], dtype: torch.dtype, within: float, engine: str
) -> None:
    ours, theirs = pair(name, values, engine)
    with default_dtype(torch.float64):
        assert_near(after(ours, dtype, 24), after(theirs, dtype, 24), within)


@pytest.mark.parametrize(
    ("name", "values", "engine"),
    [(*one.values, "arrays") for one in CONFIGURATIONS] + [(name, {}, "auto") for name in NAMES],
)
def test_bfloat16_weights_are_nearer_to_the_truth_than_those_of_torch(
    name: str, values: dict[str, Any], engine: str
) -> None:
    ours, theirs = pair(name, values, engine)
    steps = 6
    a, b = after(ours, torch.bfloat16, steps), after(theirs, torch.bfloat16, steps)
    truth = after(theirs, torch.float64, steps, of=torch.bfloat16)
    assert_near(a, b, 8 * 2**-8)
    distances = [[(one.double() - true).norm() for one, true in zip(found, truth, strict=True)] for found in (a, b)]
    assert sum(distances[0]) <= sum(distances[1]) * 1.05


# ---- errors

SAYS = {
    "invalid param type": "params argument given to the optimizer should be an iterable",
    "a param group cannot have duplicate parameters": "duplicate parameters",
    "duplicate parameters should not occur across param groups either": "appear in more than one parameter group",
    "all optimizer params should be with/without names": "with/without names",
    "all optimizer param groups should be with/without names.": "with/without names",
}
"""What torch's own base class says; all else is said by this project, and names the argument."""


@pytest.mark.parametrize(("name", "error"), ERRORS)
def test_what_torch_refuses_is_refused_with_the_same_kind_of_error(name: str, error: Any) -> None:
    given = error.optimizer_error_input
    assert error.error_on == OptimizerErrorEnum.CONSTRUCTION_ERROR
    params = [torch.nn.Parameter(torch.ones(2, 2))] if given.params is None else given.params
    said = SAYS.get(given.desc)
    if said is None:
        wrong = set(given.kwargs) - {"foreach"} - ({"lr"} if len(given.kwargs) > 1 else set())
        said = f"{name.lower()}: .*({'|'.join(sorted(wrong or {'lr'}))}).*"
    with pytest.raises(error.error_type, match=f"(?i){said}"):
        getattr(opt, name)(params, **given.kwargs)
