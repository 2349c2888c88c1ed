"""A live torch model and its optimizer, trained for a while and then left as if nothing had happened.

What is kept and put back, bit for bit: parameters, buffers, gradients, training flags; the optimizer's groups, with the very
objects in them, and its state; the generators of torch, NumPy and Python. What only the user's code knows is not: a data
iterator's place, a generator or an attribute of one's own. One copy of parameters, buffers and state is held meanwhile.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import NoneType
from typing import TYPE_CHECKING, Any

import numpy as np

from steepest.interrupts import interrupts_held

if TYPE_CHECKING:
    import torch

__all__ = ["kept", "parameters_of", "seed_all", "untouched"]

PutBack = Callable[[], Any]


@contextmanager
def untouched(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[PutBack]:
    """Put everything back at the end of the block, also after an error or an interrupt.

    The block is given a function that does so at any time before. An interrupt that comes while things are put back waits.
    """
    put_back = kept(model, optimizer)
    try:
        yield put_back
    finally:
        with interrupts_held():
            put_back()


def kept(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> PutBack:
    """Remember how everything is; the function returned makes it so again, as often as it is called."""
    import torch

    from steepest.torch import Optimizer

    modules = [(module, module.training, module._buffers, dict(module._buffers)) for module in model.modules()]
    params = parameters_of(model, optimizer)
    tensors = [*params, *(buffer for _, _, _, row in modules for buffer in row.values() if buffer is not None)]
    values = [_kept(tensor) for tensor in {id(tensor): tensor for tensor in tensors}.values()]
    grads = [(param, param.grad, param.requires_grad) for param in params]
    ours = isinstance(optimizer, Optimizer)
    schedules = optimizer.schedules if ours else [{}] * len(optimizer.param_groups)  # type: ignore[attr-defined]
    groups = [
        (group, dict(group), own, _kept([v for v in group.values() if torch.is_tensor(v)]))
        for group, own in zip(optimizer.param_groups, schedules, strict=True)
    ]
    state = _kept(optimizer.state)
    steps = optimizer.steps if ours else 0  # type: ignore[attr-defined]  # has it where it is ours
    measured = optimizer.stepper.readings.copy() if ours else None  # type: ignore[attr-defined]
    numbers = {n: v for n, v in vars(optimizer).items() if _is_own_number(n, v, ours)}
    names = set(vars(optimizer))
    generators = _generators()

    @torch.no_grad()
    def put_back() -> None:
        if ours and optimizer.steps != steps:  # type: ignore[attr-defined]  # what schedules see
            _set_steps(optimizer, steps)
        for group, row, own, changed in groups:
            changed()
            group.clear()
            group.update(row | own)
        for group, (_, row, _, _) in zip(optimizer.param_groups, groups, strict=True):  # which has taken the schedules
            group.update(row)
        _ = optimizer.state  # of this library's: shown anew, so that the next step looks for what is changed in it
        state()
        if ours:
            optimizer.stepper.readings.become(measured)  # type: ignore[attr-defined]
        for name in [n for n, v in vars(optimizer).items() if _is_own_number(n, v, ours) and n not in names]:
            delattr(optimizer, name)
        vars(optimizer).update(numbers)
        for module, training, buffers, row in modules:
            module.training = training
            buffers.clear()
            buffers.update(row)
        for one in values:
            one()
        for param, grad, asks in grads:
            param.requires_grad_(asks)
            param.grad = grad
        generators()

    return put_back


def parameters_of(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    """The model's parameters and those that only the optimizer has, each once."""
    found = [*model.parameters(), *(param for group in optimizer.param_groups for param in group["params"])]
    return list({id(param): param for param in found}.values())


def seed_all(seed: int) -> None:
    """Start the generators of torch (on every device), NumPy and Python at a seed."""
    import torch

    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def _kept(value: Any) -> PutBack:
    """How a value is put back, with everything inside it: the same objects, with the contents that they have now."""
    import torch

    if torch.is_tensor(value):
        copy = value.detach().clone()

        def put_back() -> Any:
            if value.shape == copy.shape:
                value.detach().copy_(copy)
            else:
                value.data = copy.clone()
            return value

    elif isinstance(value, dict):
        items = {key: _kept(one) for key, one in value.items()}

        def put_back() -> Any:
            found = {key: one() for key, one in items.items()}
            value.clear()
            value.update(found)
            return value

    elif isinstance(value, list):
        row = [_kept(one) for one in value]

        def put_back() -> Any:
            value[:] = [one() for one in row]
            return value

    elif isinstance(value, np.ndarray):
        array = value.copy()

        def put_back() -> Any:
            value[...] = array
            return value

    else:

        def put_back() -> Any:
            return value

    return put_back


def _is_own_number(name: str, value: Any, ours: bool) -> bool:
    """Whether an optimizer's attribute is a number or text that its steps may change: a count of them, an estimated rate.

    Of this library's optimizers only what torch's schedulers note there; their own attributes say what they know of memory.
    """
    return name == "_opt_called" or (not ours and isinstance(value, (bool, int, float, str, NoneType)))


def _set_steps(optimizer: Any, steps: int) -> None:
    """Count the steps of an optimizer of this library from another number; its states are put back after it."""
    saved = optimizer.state_dict()
    for group in saved["param_groups"]:
        group["steps"] = steps
    optimizer.load_state_dict(saved, strict=False)


def _generators() -> PutBack:
    import torch

    cpu, numpy_state, python_state = torch.get_rng_state(), np.random.get_state(), random.getstate()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]  # torch's own
    mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None

    def put_back() -> None:
        torch.set_rng_state(cpu)
        np.random.set_state(numpy_state)
        random.setstate(python_state)
        if cuda:
            torch.cuda.set_rng_state_all(cuda)
        if mps is not None:
            torch.mps.set_rng_state(mps)

    return put_back
