"""A live torch model and its optimizer while learning rates are tried on them: the groups' rates, a batch's loss, an update."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from statistics import fmean
from typing import TYPE_CHECKING, Any

from steepest.interrupts import interrupts_held
from steepest.schedules import constant
from steepest.workbench.untouched import parameters_of, seed_all

if TYPE_CHECKING:
    import torch

__all__ = ["Groups", "Live"]

AHEAD = 1000
"""A schedule's rate is the highest of so many steps to come: a warm-up starts at 0."""


class Groups:
    """An optimizer's parameter groups, whose rates are set together, each in its proportion."""

    def __init__(self, what: str, optimizer: Any) -> None:
        import torch

        if not isinstance(optimizer, torch.optim.Optimizer):
            raise TypeError(f"{what}: optimizer must be a torch.optim.Optimizer, got {type(optimizer).__name__}.")
        self.groups = optimizer.param_groups
        without = [n for n, group in enumerate(self.groups) if "lr" not in group]
        if without:
            raise ValueError(
                f"{what}: every group must have an lr, but param_groups[{without[0]}] of {type(optimizer).__name__} has none."
            )
        steps = getattr(optimizer, "steps", 0)
        schedules = getattr(optimizer, "schedules", [{}] * len(self.groups))
        self.given = [own.get("lr", group["lr"]) for group, own in zip(self.groups, schedules, strict=True)]
        own = [max(float(lr(steps + t)) for t in range(AHEAD)) if callable(lr) else float(lr) for lr in self.given]
        self.rate = next((lr for lr in own if lr > 0), 0.0)
        if self.rate == 0:
            raise ValueError(
                f"{what}: lr must be > 0 in at least one group, got 0 in all. Set it, for example to 1e-3."
            )
        self.scales = [lr / self.rate for lr in own]

    def set(self, rate: float) -> None:
        """A number for a number, a tensor for a tensor, never the one that the user may hold; a schedule for a schedule."""
        import torch

        for group, scale, given in zip(self.groups, self.scales, self.given, strict=True):
            number = scale * rate
            if torch.is_tensor(given):
                group["lr"] = torch.full_like(given, number)
            else:
                group["lr"] = constant(number) if callable(given) else number


class Live:
    """A model that is being trained: the loss of a batch, then the update that it asks for."""

    def __init__(self, what: str, model: Any, optimizer: Any, loss_of_step: Callable[[int], torch.Tensor]) -> None:
        import torch

        if not isinstance(model, torch.nn.Module):
            raise TypeError(f"{what}: model must be a torch.nn.Module, got {type(model).__name__}.")
        self.what, self.optimizer, self.loss_of_step = what, optimizer, loss_of_step
        self.params = parameters_of(model, optimizer)
        closure = inspect.signature(optimizer.step).parameters.get("closure")
        self.asks_again = closure is not None and closure.default is closure.empty  # such as LBFGS
        self.step = 0
        self.last: Any = None

    def loss(self, step: int) -> float:
        """The loss of a batch; what it was computed from stays for `update`."""
        self.step = step
        self.last = self._checked()
        return float(self.last.detach())

    def _checked(self) -> Any:
        import torch

        with torch.enable_grad():
            loss = self.loss_of_step(self.step)
        said = f"{self.what}: the loss of step {self.step}"
        if not torch.is_tensor(loss):
            raise TypeError(f"{said} must be a tensor that has backward(), got {type(loss).__name__}.")
        if loss.numel() != 1 or loss.is_complex():
            raise ValueError(
                f"{said} must be one real number, got a tensor of shape {list(loss.shape)} and {loss.dtype}. Take its mean()."
            )
        if not loss.requires_grad:
            raise ValueError(
                f"{said} must depend on a parameter. Compute it from the model, without no_grad or detach."
            )
        return loss

    def update(self) -> None:
        """The gradients of the last loss, and a step of the optimizer; an interrupt waits for the end of the step."""
        if self.asks_again:
            self.last = None
            self.optimizer.step(self._again)
            return
        self.drop_gradients()
        loss, self.last = self.last, None
        loss.backward()
        with interrupts_held():
            self.optimizer.step()

    def _again(self) -> Any:
        self.drop_gradients()
        loss = self._checked()
        loss.backward()
        return loss

    def drop_gradients(self) -> None:
        """The user's own gradients are set aside, never written to."""
        for param in self.params:
            param.grad = None

    def drop(self) -> None:
        """Forget the last loss and what it was computed from."""
        self.last = None

    def cost(
        self, put_back: Callable[[], Any], groups: Groups, rate: float, seed: int, first: int, steps: int
    ) -> float:
        """A run from the start with one rate: the mean loss of its last tenth, infinite where a loss was not finite.

        ``first`` is the number of its first batch.
        """
        put_back()
        groups.set(rate)
        seed_all(seed)
        losses = []
        for step in range(first, first + steps):
            losses.append(self.loss(step))
            if not math.isfinite(losses[-1]):
                return math.inf
            if step == first + steps - 1:
                break
            try:
                self.update()
            except FloatingPointError:
                return math.inf
        self.drop()
        return fmean(losses[-max(1, steps // 10) :])
