"""Units that do nothing: dead ones, and those that are driven to where their slope is nearly 0."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from steepest.checks import Axis, Count, check_value
from steepest.monitor.columns import weakly
from steepest.monitor.probes import Subject, Values
from steepest.monitor.probes.hooks import Hooks

__all__ = ["Activations"]

_Test = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True, slots=True)
class _Kind:
    """``dead``: an output from which no gradient comes, for a unit to be so for all samples; ``saturated``: a nearly flat one."""

    dead: _Test | None = None
    saturated: _Test | None = None


def _zero(x: torch.Tensor) -> torch.Tensor:
    return x == 0


_KINDS: Mapping[type[nn.Module], _Kind] = {
    nn.ReLU: _Kind(dead=_zero),
    nn.ReLU6: _Kind(dead=_zero, saturated=lambda x: x == 6),
    nn.Tanh: _Kind(saturated=lambda x: x.abs() > 0.97),
    nn.Hardtanh: _Kind(saturated=lambda x: x.abs() == 1),
    nn.Sigmoid: _Kind(saturated=lambda x: (x < 0.03) | (x > 0.97)),
    nn.Hardsigmoid: _Kind(saturated=lambda x: (x == 0) | (x == 1)),
}
"""Karpathy's thresholds for tanh (0.97), and what they are for a sigmoid, ``(1 ± 0.97) / 2`` rounded outwards."""


class Activations:
    """Measures the share of dead units and of saturated outputs of a torch model, layer by layer.

    A unit is dead if its ReLU gave 0 for all samples (and places, and micro-batches) of a step: nothing flows back through it. An
    output is saturated beyond ±0.97 for tanh, below 0.03 or above 0.97 for a sigmoid. Modules are seen, and what is called as a
    function (``torch.relu(x)``) is not. Passes without gradients, as in an evaluation, do not count. Where a module serves several
    layers, those of one width count as one: a unit is dead there if it gave 0 in all of them.

    Parameters
    ----------
    model : whose activations are seen: modules of the types ReLU, ReLU6, Tanh, Hardtanh, Sigmoid and Hardsigmoid.
    every : in steps, >= 1; 100.
    axis : the dimension that numbers the units; by default 1 where an output has four dimensions or more (channels of images),
        else the last. Give 1 for one-dimensional convolutions.

    Values
    ------
    activations_dead, activations_saturated : the share over all layers that can be so; each is missing where there is none.
    activations_dead/NAME, activations_saturated/NAME : that of one layer.

    Raises
    ------
    ValueError : when it starts, for a model without such modules.

    Notes
    -----
    Price: hooks are there at each ``every``-th step only, so other steps cost nothing. At those one comparison and one reduction
    over each activation, 3% of a step of a perceptron (``benchmarks/probes.py``). A compiled model does not call hooks that come
    later: there it sees nothing.
    """

    def __init__(
        self, model: nn.Module, *, every: int = 100, axis: int | None = None, name: str = "activations"
    ) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(f"Activations: model must be a torch module, got {type(model).__name__}.")
        check_value("Activations", "every", every, Count)
        check_value("Activations", "axis", axis, Axis | None)
        self._model, self.every, self.axis, self.name = weakly(model), every, axis, name
        self._first = [(layer, weakly(module)) for layer, module in model.named_modules()]
        self._hooks = Hooks()
        self._subject: Subject | None = None
        self._alive: dict[tuple[str, tuple[int, ...]], torch.Tensor] = {}
        self._saturated: dict[str, tuple[torch.Tensor, int]] = {}

    @property
    def model(self) -> nn.Module | None:
        """The model, whose hooks hold this probe; None once it is gone."""
        found: nn.Module | None = self._model()
        return found

    def _modules(self) -> list[tuple[str, nn.Module]]:
        """The model's modules; where the model was made for this probe alone, and is gone, those that it had."""
        if (model := self.model) is not None:
            return list(model.named_modules())
        return [(name, module) for name, one in self._first if (module := one()) is not None]

    def start(self, subject: Subject) -> None:
        self._subject = subject
        if not any(type(module) in _KINDS for _, module in self._modules()):
            known = ", ".join(kind.__name__ for kind in _KINDS)
            raise ValueError(
                f"Activations: the model must have modules of the types {known}, got none. Functions aren't seen: use modules."
            )

    def before(self, step: int) -> None:
        self.close()
        self._hooks.start(None if self._subject is None else self._subject.optimizer)
        for name, module in self._modules():
            kind = _KINDS.get(type(module))
            if kind is not None:
                self._hooks.add(module.register_forward_hook, self._hook(name, kind))

    def measure(self, step: int) -> Values:
        self._hooks.finish()
        found: dict[str, float] = {}
        for what, layers in (("dead", self._dead()), ("saturated", self._flat())):
            if layers:
                units = sum(count for _, count in layers.values())
                found[f"{self.name}_{what}"] = sum(number for number, _ in layers.values()) / max(units, 1)
                found |= {f"{self.name}_{what}/{n}": number / max(count, 1) for n, (number, count) in layers.items()}
        self._alive, self._saturated = {}, {}
        return found

    def close(self) -> None:
        self._hooks.remove()
        self._alive, self._saturated = {}, {}

    def _hook(self, name: str, kind: _Kind) -> Callable[[nn.Module, Any, torch.Tensor], None]:
        def see(module: nn.Module, _: Any, output: torch.Tensor) -> None:
            if not torch.is_grad_enabled() or not output.requires_grad:
                return
            seen = output.detach()
            if kind.dead is not None:
                axis = (self.axis if self.axis is not None else 1 if seen.ndim >= 4 else -1) % max(seen.ndim, 1)
                others = tuple(d for d in range(seen.ndim) if d != axis)
                alive = ~(kind.dead(seen).all(dim=others) if others else kind.dead(seen))
                layer = name, tuple(alive.shape)
                known = self._alive.get(layer)
                self._alive[layer] = alive if known is None else known | alive
            if kind.saturated is not None:
                count, of = self._saturated.get(name, (torch.zeros((), dtype=torch.int64, device=seen.device), 0))
                self._saturated[name] = count + kind.saturated(seen).sum(), of + seen.numel()

        return see

    def _dead(self) -> dict[str, tuple[int, int]]:
        found: dict[str, tuple[int, int]] = {}
        for (name, _), alive in self._alive.items():
            dead, of = found.get(name, (0, 0))
            found[name] = dead + int((~alive).sum()), of + alive.numel()
        return found

    def _flat(self) -> dict[str, tuple[int, int]]:
        return {name: (int(count), of) for name, (count, of) in self._saturated.items()}
