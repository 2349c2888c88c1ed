"""What a monitor can say of a run before its first step: whose optimizer it is, and what it is set to."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from steepest.language.chain import Chain
from steepest.monitor.ranks import rank_and_size
from steepest.monitor.records import Facts, TensorFacts
from steepest.plan.planner import plan

__all__ = ["facts_of", "names_of", "params_of", "unwrapped"]


def unwrapped(optimizer: Any) -> Any:
    """The optimizer that measures: Accelerate and Lightning hand out wrappers around it."""
    inner = optimizer
    while not hasattr(inner, "stepper") and hasattr(inner, "optimizer"):
        inner = inner.optimizer
    if hasattr(inner, "stepper"):
        return inner
    kind = type(inner)
    raise TypeError(
        f"Monitor: optimizer must be one of steepest.torch or steepest.numpy, which measure inside the step, got "
        f"{kind.__module__}.{kind.__qualname__}. Most have torch's name, arguments and checkpoints: use steepest.torch.AdamW for "
        f"torch.optim.AdamW."
    )


def params_of(optimizer: Any) -> list[Any]:
    """The parameters, in the order of the groups."""
    return [p for group in optimizer.param_groups for p in group["params"]]


def names_of(optimizer: Any, model: Any = None) -> tuple[str, ...]:
    """A name of its own for each parameter: the model's, where it has one for it, else the optimizer's.

    Of several parameters with one name (two modules in one optimizer) the later ones get a number: ``weight#2``.
    """
    own, params = [t.name for t in optimizer.stepper.tensors], params_of(optimizer)
    if len(own) < len(params):
        raise ValueError(
            f"Monitor: every parameter must be initialized, got {len(params) - len(own)} uninitialized ones of lazy modules. Run "
            f"the model once before you make the Monitor."
        )
    named = {id(p): name for name, p in model.named_parameters()} if hasattr(model, "named_parameters") else {}
    wanted = [named.get(id(p), name) for p, name in zip(params, own, strict=True)]
    found: dict[str, None] = {}
    taken = set(wanted)
    for name in wanted:
        made, number = name, 1
        while made in found or (number > 1 and made in taken):
            number += 1
            made = f"{name}#{number}"
        found[made] = None
    return tuple(found)


def facts_of(optimizer: Any, model: Any, every: int, notes: Mapping[str, Any]) -> Facts:
    """All of it."""
    groups = optimizer.param_groups
    names, params = names_of(optimizer, model), params_of(optimizer)
    of_group = [number for number, group in enumerate(groups) for _ in group["params"]]
    tensors = tuple(
        TensorFacts(name, tuple(p.shape), _dtype(p), number, not getattr(p, "requires_grad", True))
        for name, p, number in zip(names, params, of_group, strict=True)
    )
    process, processes = rank_and_size()
    return Facts(
        started=time.time(),
        framework=_framework(optimizer),
        optimizer=type(optimizer).__name__,
        chains=tuple(str(chain) for chain in optimizer.stepper.chains),
        groups=tuple(
            (_of_chain(group["chain"]) if "chain" in group else {}) | _plain_values({**group, **schedules})
            for group, schedules in zip(groups, optimizer.schedules, strict=True)
        ),
        tensors=tensors,
        states=_states(optimizer),
        every=every,
        plan=str(optimizer.plan),
        process=process,
        processes=processes,
        versions=_versions(),
        notes=dict(notes),
    )


def _framework(optimizer: Any) -> str:
    """``"numpy"`` or ``"torch"``: the front end that the class, a user's own too, comes from."""
    return next(c.__module__ for c in type(optimizer).__mro__ if c.__module__.startswith("steepest.")).split(".")[1]


def _dtype(array: Any) -> str:
    return str(array.dtype).removeprefix("torch.")


def _states(optimizer: Any) -> dict[str, str]:
    """Each state's element type. States are in the type that their parameter is computed in, float32 below 32 bits."""
    found: dict[str, str] = {}
    for tensor, own in zip(optimizer.stepper.tensors, optimizer.stepper.own_plans, strict=True):
        for name, (start, _) in own.trace.starts.items():
            kind = "float64" if start.on_host or "64" in str(tensor.param.dtype) else "float32"
            found[name] = str(tensor.buffers[name].dtype) if name in tensor.buffers else kind
    return found


def _of_chain(chain: Chain) -> dict[str, Any]:
    """A ready chain's hyperparameters, under the names that its plan gives them."""
    inputs = plan(chain).trace.inputs
    return {symbol: _plain(dict(chain.links[at].values)[name]) for symbol, (at, name) in inputs.items()}


def _plain_values(group: Mapping[str, Any]) -> dict[str, Any]:
    """What of a group's values are numbers, texts or truth values; a schedule as its text."""
    return {name: _plain(value) for name, value in group.items() if name not in ("params", "param_names")}


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (tuple, list)):
        return [_plain(v) for v in value]
    if hasattr(value, "item") and getattr(value, "size", None) is not None and not callable(value):
        try:
            return value.item()
        except (TypeError, ValueError, RuntimeError):  # of more than one element, or on no device
            return str(value)
    return str(value)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("steepest", "numpy", "numba", "torch"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
