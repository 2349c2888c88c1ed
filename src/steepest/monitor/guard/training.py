"""A training as state that can be put back: weights, buffers, the optimizer, whatever else has a state, random numbers, data.

Two kinds of state differ in when they are put back. Weights, buffers, optimizer and schedulers go back whenever training is
rewound. Random numbers and the position in the data do not: after a rewind training goes on with the next batch and the next
random numbers, as if the batches since had been left out one by one. They go back in a new process, which continues the old one.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from steepest.monitor.facts import names_of, params_of
from steepest.monitor.guard.packing import packed

__all__ = ["Training"]

FORMAT = 1


class Training:
    """``also`` are put back by every rewind, ``data`` only where another process goes on."""

    def __init__(self, optimizer: Any, model: Any, also: Sequence[Any], data: Sequence[Any]) -> None:
        for name, given in (("also", also), ("data", data)):
            for position, one in enumerate(given):
                _check_state("Guard", f"{name}[{position}]", one)
        self.optimizer, self.model, self.also, self.data = optimizer, model, tuple(also), tuple(data)
        self.on_torch = type(optimizer).__module__.startswith("steepest.torch")

    def check_states(self) -> None:
        """Raise TypeError, with nothing changed, where a state holds what no snapshot can keep."""
        for name, given in (("also", self.also), ("data", self.data)):
            for position, one in enumerate(given):
                packed("Guard", {f"{name}[{position}]": _state(one)}, copy=False)

    # ---- taken

    def groups(self) -> list[int]:
        """How many parameters each of the optimizer's groups has."""
        return [len(group["params"]) for group in self.optimizer.param_groups]

    def weights(self) -> dict[str, Any]:
        """Every parameter by name: the optimizer's, and those of the model that it does not step."""
        found = dict(zip(names_of(self.optimizer, self.model), params_of(self.optimizer), strict=True))
        held = {id(p) for p in found.values()}
        others = self.model.named_parameters() if hasattr(self.model, "named_parameters") else ()
        return found | {name: p for name, p in others if id(p) not in held}

    def buffers(self) -> dict[str, Any]:
        """The model's buffers: what forward passes change, as running statistics."""
        return dict(self.model.named_buffers()) if hasattr(self.model, "named_buffers") else {}

    def copied_buffers(self) -> dict[str, Any]:
        return {name: buffer.detach().clone() for name, buffer in self.buffers().items()}

    def position(self) -> dict[str, Any]:
        """Random numbers and data, as they are now."""
        return {"random": _random_numbers(self.on_torch), "data": [_state(one) for one in self.data]}

    def state(self) -> dict[str, Any]:
        """Weights, optimizer and whatever else goes back by a rewind, but for the buffers."""
        return {
            "format": FORMAT,
            "params": self.weights(),
            "optimizer": self.optimizer.state_dict(),
            "also": [_state(one) for one in self.also],
        }

    # ---- put back

    def check(self, tree: Mapping[str, Any]) -> None:
        """Raise ValueError, with nothing changed, for a snapshot of another training."""
        if tree.get("format") != FORMAT:
            raise ValueError(f"Guard: the format of the snapshot must be {FORMAT}, got {tree.get('format')!r}.")
        for kind, here in (("params", self.weights()), ("buffers", self.buffers())):
            shapes, own = ({name: tuple(a.shape) for name, a in arrays.items()} for arrays in (tree[kind], here))
            for name in [*shapes, *own]:
                if shapes.get(name) != own.get(name):
                    raise ValueError(
                        f"Guard: {name!r} is {_said(shapes.get(name))} in the snapshot, but {_said(own.get(name))} here. Build "
                        f"the same model, or pass another folder."
                    )
        saved = tree["optimizer"]["param_groups"]
        then, now = [len(group["params"]) for group in saved], self.groups()
        by_name = all("param_names" in group for group in saved)  # then they may stand in other groups
        if then != now and not (by_name and sum(then) == sum(now)):
            raise ValueError(
                f"Guard: the optimizer must have groups of {then} parameters as in the snapshot, got {now}. Add the missing groups "
                f"with add_param_group, or pass another folder."
            )
        counts = (("also", tree["also"], self.also), ("data", tree["position"]["data"], self.data))
        for name, states, objects in counts:
            if len(states) != len(objects):
                raise ValueError(
                    f"Guard: {name} must have {len(states)} objects as in the snapshot, got {len(objects)}. Pass the same objects "
                    f"in the same order."
                )

    def put_back(self, tree: Mapping[str, Any]) -> None:
        """Everything that a rewind puts back."""
        self.optimizer.load_state_dict(tree["optimizer"], schedules="saved")
        _copy(tree["params"], self.weights(), self.on_torch)
        self.put_back_buffers(tree["buffers"])
        for one, state in zip(self.also, tree["also"], strict=True):
            _load(one, state)

    def put_back_buffers(self, buffers: Mapping[str, Any]) -> None:
        if buffers:
            _copy(buffers, self.buffers(), self.on_torch)

    def put_back_position(self, position: Mapping[str, Any]) -> None:
        """Random numbers and data, so that another process goes on."""
        for one, state in zip(self.data, position["data"], strict=True):
            _load(one, state)
        _set_random_numbers(position["random"])


def _copy(saved: Mapping[str, Any], here: Mapping[str, Any], on_torch: bool) -> None:
    if not on_torch:
        for name, array in saved.items():
            here[name][...] = array
        return
    import torch

    with torch.no_grad():
        for name, array in saved.items():
            here[name].copy_(array)


def _said(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else f"of shape {list(shape)}"


# ---- states


def _check_state(what: str, name: str, one: Any) -> None:
    stateful = callable(getattr(one, "state_dict", None)) and callable(getattr(one, "load_state_dict", None))
    if not stateful and not isinstance(one, np.random.Generator) and not _is_generator(one):
        raise TypeError(
            f"{what}: {name} must have state_dict() and load_state_dict(), or be a generator of NumPy or torch, got "
            f"{type(one).__name__}. To resume a loader without them, skip guard.calls batches."
        )


def _state(one: Any) -> Any:
    if isinstance(one, np.random.Generator):
        return one.bit_generator.state
    return one.get_state() if _is_generator(one) else one.state_dict()


def _load(one: Any, state: Any) -> None:
    if isinstance(one, np.random.Generator):
        one.bit_generator.state = state
    elif _is_generator(one):
        one.set_state(state)
    else:
        one.load_state_dict(state)


def _is_generator(one: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(one, torch.Generator)


def _random_numbers(on_torch: bool) -> dict[str, Any]:
    """The generators that everybody shares."""
    found: dict[str, Any] = {"python": random.getstate(), "numpy": np.random.get_state()}
    if on_torch:
        import torch

        found["torch"] = torch.get_rng_state()
        if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # torch says nothing of it
            found["cuda"] = torch.cuda.get_rng_state_all()
    return found


def _set_random_numbers(states: Mapping[str, Any]) -> None:
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    if "torch" in states:
        import torch

        torch.set_rng_state(states["torch"])
        if "cuda" in states and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(states["cuda"])
