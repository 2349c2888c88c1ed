"""Steps inside the backward pass: a parameter is stepped as soon as its gradient is complete, which is then freed.

So never more than a few gradients live at once, where a usual step needs all of them. That is possible where no parameter's
step waits for another's gradient: `release_gradients` refuses chains with a norm or a guard of the whole model. Each
parameter has a small `Stepper` of its own, on the same tensors and states as the optimizer's, so that nothing is sorted or
looked up for all parameters when one is stepped.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.autograd.graph import increment_version

from steepest.checks import Range, check_number
from steepest.language.chain import Chain
from steepest.language.expression import Rate
from steepest.language.trace import trace
from steepest.step.stepper import Stepper
from steepest.torch.core import Core
from steepest.torch.gradients import check_gradients
from steepest.torch.graphs import outside_of_graphs
from steepest.torch.optimizer import Optimizer
from steepest.torch.sparse import check_rows, sparse_rows
from steepest.torch.unchanged import Memory
from steepest.torch.views import ParamView

__all__ = ["Released", "release_gradients"]

_WHAT = "release_gradients"


@outside_of_graphs
def release_gradients(optimizer: Optimizer, model: torch.nn.Module | None = None, accumulate: int = 1) -> Released:
    """Let an optimizer step each parameter inside the backward pass, and free its gradient at once.

    The weights are those of usual steps, bit for bit. ``optimizer.step()`` is still called after each backward pass (each
    ``accumulate`` of them): it runs its closure, counts the step, and steps parameters that have a gradient left.

    Parameters
    ----------
    optimizer : any of this library's whose chain knows no sum over the whole model and no guard.
    model : if given, checked: each of its parameters that asks for a gradient must be the optimizer's, since the gradients
        of others would stay.
    accumulate : how many backward passes make a step, a whole number >= 1; gradients add up in those before the last.

    Returns
    -------
    A handle: ``remove()``, or the end of its ``with`` block, makes ``optimizer.step()`` the usual step again.

    Raises
    ------
    ValueError : for a chain that must see the whole model, naming the rule; for a parameter that is not the optimizer's.
    RuntimeError : where gradients are released already; in a backward pass that comes before ``optimizer.step()`` has been
        called.

    Weights change inside the backward pass, so that a graph can't be used twice. A `GradScaler`, and averaging over processes
    as in ``DistributedDataParallel``, come after these steps and are not for them; nor is an error in the middle of a
    backward pass undone: parameters that have been stepped are.

    >>> import torch, steepest.torch as opt
    >>> w = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    >>> optimizer = opt.SGD([w], lr=0.1)
    >>> with opt.release_gradients(optimizer):
    ...     (w**2).sum().backward()
    ...     optimizer.step()
    >>> w.data, w.grad
    (tensor([0.8000, 1.6000]), None)

    Source: Lv et al. (2023), "Full Parameter Fine-tuning for Large Language Models with Limited Resources", Section 3.
    """
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"{_WHAT}: optimizer must be an optimizer of steepest.torch, got {type(optimizer).__name__}.")
    check_number(_WHAT, "accumulate", accumulate, Range(1, whole=True, structure=True))
    if optimizer._core.released is not None:
        raise RuntimeError(f"{_WHAT}: the gradients of this optimizer are already released. Call remove() first.")
    if model is not None:
        own = {id(p) for group in optimizer.param_groups for p in group["params"]}
        others = [n for n, p in model.named_parameters() if p.requires_grad and id(p) not in own]
        if others:
            raise ValueError(
                f"{_WHAT}: parameter {others[0]!r} of the model isn't the optimizer's, so its gradient would stay. Pass it to "
                f"the optimizer, freeze it, or leave out model."
            )
    return Released(optimizer, int(accumulate))


class Released:
    """What `release_gradients` returns: an optimizer that steps inside the backward pass, until `remove`."""

    def __init__(self, optimizer: Optimizer, accumulate: int) -> None:
        core = optimizer._core
        # The core holds this object, so a strong reference would keep both alive after the optimizer is deleted.
        self._core, self.accumulate = weakref.ref(core), accumulate
        self._hooks: dict[torch.Tensor, Any] = {}
        self._ones: dict[torch.Tensor, _One] = {}
        self._looked = False
        stepper = core.ready(optimizer.param_groups)
        for chain in stepper.chains:
            self.check(chain)
        self.attach(stepper, core.held)
        core.released = self

    def __enter__(self) -> Released:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    @outside_of_graphs
    def remove(self) -> None:
        """Make the optimizer's steps usual ones again. Gradients that are there stay."""
        for hook in self._hooks.values():
            hook.remove()
        self._hooks, self._ones = {}, {}
        core = self._core()
        if core is not None and core.released is self:
            core.released = None
            if core.stepper is not None:
                core.stepper.join()

    # ---- called by the optimizer

    def check(self, chain: Chain) -> None:
        """Raise for a chain whose steps wait for all gradients of the model."""
        for number in range(1, len(chain) + 1):
            traced = trace(Chain(chain.links[:number]))
            guarded = any(g for g in traced.guards)
            if guarded or any(node.rate == Rate.MODEL for node in traced.graph.nodes):
                waits = "guard" if guarded else "sum"
                raise ValueError(
                    f"{_WHAT}: {chain.links[number - 1].written} needs a {waits} over the whole model, which is known only after "
                    f"the backward pass, when the gradients are gone. Remove it. clip_by_norm, clip_by_value and "
                    f"adaptive_grad_clip need only their own tensor."
                )

    def attach(self, stepper: Stepper, held: Sequence[ParamView]) -> None:
        """Take the parameters that the optimizer has now; those that it has no longer keep a hook without effect."""
        parts = stepper.split()
        self._ones = {h.param: _One(h, part) for h, part in zip(held, parts, strict=True)}
        self._addresses = np.zeros(len(parts), dtype=np.int64)
        for param in self._ones.keys() - self._hooks.keys():
            self._hooks[param] = _hooked(param, self)
        self.begin()

    def begin(self) -> None:
        """Start a step: no parameter has a gradient of it, and the optimizer must be looked at again."""
        self._looked = False
        for one in self._ones.values():
            one.arrived, one.stepped = 0, False

    def finish(self, groups: list[dict[str, Any]]) -> None:
        """End a step: step what has a gradient left, since it was not used in every backward pass, and count."""
        core = self._core()
        if core is not None:
            with core.turn.wait(), torch.no_grad():
                self._finish(core, core.ready(groups))

    def _finish(self, core: Core, stepper: Stepper) -> None:
        core.refuse_while_swapped("step")
        schedules = core.live.schedules
        if schedules:
            schedules.warn(core.groups)
        for param in [p for p in self._ones if p.grad is not None]:
            self._step(core, param)
        for one in self._ones.values():
            if not one.stepped and one.part.follows:  # an average goes on without a gradient
                one.part.steps = core.steps
                one.part.step([None])
                increment_version([one.held.param])
        stepper.steps += 1
        if schedules:
            schedules.sync(core.groups, stepper.steps)
        parts = [one.part for one in self._ones.values() if one.stepped]
        stepper.readings.join([p.readings for p in parts if p.readings.step == p.steps], stepper.steps)
        self.begin()

    # ---- inside the backward pass

    @outside_of_graphs
    def _arrive(self, param: torch.Tensor) -> None:
        one, core = self._ones.get(param), self._core()
        if one is None or core is None:
            return
        with core.turn.wait():  # a backward pass has a thread for each device
            if one.stepped:
                raise RuntimeError(
                    f"{_WHAT}: parameter {one.held.tensor.name!r} got another gradient before optimizer.step() was called. Call "
                    f"optimizer.step() after every {self.accumulate} backward passes, or pass accumulate=…."
                )
            one.arrived += 1
            if one.arrived == self.accumulate:
                with torch.no_grad():
                    self._step(core, param)

    def _step(self, core: Core, param: torch.Tensor) -> None:
        core.refuse_while_swapped("step")
        if not self._looked or core.shown:
            core.ready(core.groups)
            self._looked = True
        one = self._ones.get(param)
        grad = param.grad
        if one is None or grad is None:
            return
        part, index = one.part, one.held.tensor.index
        part.steps = core.steps
        if part.needs_only_addresses() and _lies_as(param, grad):
            self._addresses[index] = grad.data_ptr()
            part.step((), self._addresses)
        else:
            self._step_with_checks(core, one, grad)
        increment_version([param])
        param.grad = None
        one.stepped = True

    @staticmethod
    def _step_with_checks(core: Core, one: _One, grad: torch.Tensor) -> None:
        """A parameter's first step, or one on a gradient that does not lie as its parameter does."""
        what, index = f"{core.what}.step", one.held.tensor.index
        (buffer,), sparse = check_gradients(
            what, [one.held], [grad], Memory.of([one.held.param]), core.densifies, one.part.own_plans
        )
        if not sparse:
            like_param = one.held.has_type_of(buffer)
            if not like_param:
                one.part.forget_layout()
            one.part.step([buffer])
            if not like_param:  # the next gradient may be of the parameter's type
                one.part.forget_layout()
            return
        held, buffers = [one.held] * (index + 1), [None] * (index + 1)
        check_rows(what, one.held, one.part.own_plans[0])
        one.part.forget_layout()
        try:
            with sparse_rows(one.part, held, buffers, sparse):
                one.part.step([buffers[index]])
        finally:
            one.part.forget_layout()


@dataclass(slots=True, eq=False)
class _One:
    """A parameter with the stepper of its own; what happened to it since the last ``optimizer.step()``."""

    held: ParamView
    part: Stepper
    arrived: int = 0
    stepped: bool = False


def _lies_as(param: torch.Tensor, grad: torch.Tensor) -> bool:
    """Whether a gradient lies in memory as its parameter does, and elsewhere: then its address is all that a step needs."""
    if type(grad) is not torch.Tensor or grad.layout != torch.strided or grad.is_neg() or grad.is_conj():
        return False
    alike = grad.dtype == param.dtype and grad.shape == param.shape and grad.stride() == param.stride()
    return alike and abs(grad.data_ptr() - param.data_ptr()) >= grad.nbytes


def _hooked(param: torch.Tensor, released: Released) -> Any:
    """A hook, also on a parameter that is frozen now. It does not keep the optimizer alive."""
    known = weakref.ref(released)

    def arrived(param: torch.Tensor) -> None:
        found = known()
        if found is not None:
            found._arrive(param)

    frozen = not param.requires_grad
    try:
        param.requires_grad_(True)
        return param.register_post_accumulate_grad_hook(arrived)  # type: ignore[no-untyped-call]  # torch's own
    finally:
        if frozen:
            param.requires_grad_(False)
