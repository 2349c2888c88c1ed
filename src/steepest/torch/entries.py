"""A parameter's entry in ``optimizer.state``: what it shows, and what is taken over from it.

Step counts and other host numbers are shown as tensors of one element, as torch keeps them. Whoever looks may change
anything, so the next step compares what was shown with what is there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from steepest.plan.plan import Plan
from steepest.step.groups import frozen, whole
from steepest.step.stepper import Stepper
from steepest.torch.views import ParamView

__all__ = ["differs", "parted", "refresh", "show", "take"]


def show(held: ParamView, shown: dict[torch.Tensor, Any]) -> None:
    """Bring a parameter's entry up to date; one without a step has none."""
    tensor = held.tensor
    if not tensor.host:
        shown.pop(held.param, None)
        return
    entry = shown.get(held.param)
    if not isinstance(entry, dict):
        entry = shown[held.param] = {}
    for name, number in tensor.host.items():
        known = held.numbers.get(name)
        dtype = torch.float32 if name == "step" else torch.float64
        made = known[0] if known else torch.zeros((), dtype=dtype, device="cpu")
        made.fill_(number)
        held.numbers[name] = made, made.item()
        entry[name] = made
    for name in tensor.buffers:
        if name not in ("param", "grad"):
            entry[name] = held.states[name]


@torch.no_grad()
def refresh(held: Sequence[ParamView], stepper: Stepper) -> None:
    """Bring the step counts and host states up to date that somebody may hold: in a state dict they go with the moments."""
    for tensors, host in stepper.histories():
        for name, number in host.items():
            shown = [known[0] for t in tensors if (known := held[t.index].numbers.get(name))]
            if shown:
                torch._foreach_copy_(shown, [torch.full_like(shown[0], number)] * len(shown))


def differs(held: ParamView, entry: Mapping[str, Any]) -> bool:
    """Whether an entry is another than what was shown."""
    tensor = held.tensor
    if not entry:
        return bool(tensor.host)
    for name in tensor.host:
        shown = held.numbers.get(name)
        if shown is None or entry.get(name) is not shown[0] or shown[0].item() != shown[1]:
            return True
    names = [name for name in tensor.buffers if name not in ("param", "grad")]
    return not tensor.host or any(entry.get(name) is not held.states.get(name) for name in names)


def take(what: str, held: ParamView, entry: Mapping[str, Any], own: Plan) -> None:
    """Make an entry the parameter's states. A missing state starts from its first value; an unknown one stays unused."""
    before, shown = held.tensor.host, held.numbers
    numbers, found = parted(what, held, entry, own)
    held.forget()
    for name, value in numbers.items():
        known = shown.get(name)
        exact = known is not None and name in before and known[1] == value
        held.tensor.host[name] = before[name] if exact else value
    for name, state in found.items():
        held.keep(name, state)


def parted(
    what: str, held: ParamView, entry: Mapping[str, Any], own: Plan
) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    """The host numbers and the states of an entry that a plan knows, checked; nothing where there has been no step.

    torch's SGD counts no steps: a parameter of it that has a state has had one at least, which is all that its rule asks.
    """
    starts, of = own.trace.starts, repr(held.tensor.name)
    found = {name: entry[name] for name in starts if entry.get(name) is not None}
    step = entry.get("step")
    if step is None and not found:
        return {}, {}
    numbers = {
        "step": 1.0 if step is None else float(whole(what, f"step of {of}", _number(what, f"step of {of}", step)))
    }
    states = {}
    for name, value in found.items():
        if starts[name][0].on_host:
            numbers[name] = float(_number(what, f"{name} of {of}", value))
        else:
            _check_moments(what, f"{name} of {of}", value, held.param)
            states[name] = value
    return numbers, states


def _number(what: str, name: str, value: Any) -> float:
    """The real number that a value is or, as a tensor of one element, holds."""
    if not isinstance(value, torch.Tensor) or (value.numel() == 1 and _is_readable(value)):
        value = frozen(value)
        if isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool):
            return value  # type: ignore[return-value]  # a NumPy number is as good
    said = f"a {_kind(value)} tensor" if isinstance(value, torch.Tensor) else repr(value)
    raise TypeError(f"{what}: {name} must be a number, got {said}.")


def _check_moments(what: str, name: str, value: Any, param: torch.Tensor) -> None:
    """Raise unless a value can be a state that the parameter has in full: nothing is lost by copying it."""
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{what}: {name} must be a tensor, got {type(value).__name__}.")
    if tuple(value.shape) != tuple(param.shape):
        raise ValueError(
            f"{what}: {name} must have its parameter's shape, {list(param.shape)}, got {list(value.shape)}."
        )
    fits = value.is_complex() if param.is_complex() else value.is_floating_point()
    if not fits or not (_is_readable(value) or (value.is_meta and param.is_meta)):
        kind = "complex" if param.is_complex() else "floating-point"
        raise TypeError(f"{what}: {name} must be a dense tensor of {kind} numbers, got a {_kind(value)} tensor.")


def _is_readable(value: torch.Tensor) -> bool:
    """Whether a tensor has its elements in memory, one by one."""
    return value.layout == torch.strided and not (value.is_meta or value.is_quantized or value.is_nested)


def _kind(value: torch.Tensor) -> str:
    """A tensor's type, and what is unusual about its memory."""
    layout = "" if value.layout == torch.strided else str(value.layout).removeprefix("torch.") + " "
    return f"{'meta ' if value.is_meta else ''}{layout}{str(value.dtype).removeprefix('torch.')}"
