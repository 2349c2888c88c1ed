"""Recognise a first step that is only meant to make an optimizer's states.

``torch.distributed.checkpoint.state_dict`` has no other way to make the states that it loads into: it sets each group's ``lr`` and
all gradients to 0, and calls ``step()``. Rules that move weights without ``lr`` (a decay of its own rate, a user's rule) would
move them then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from steepest.engines.executor import Part
from steepest.step.stepper import Stepper
from steepest.torch.sharding import local_part

__all__ = ["only_makes_states"]


def only_makes_states(stepper: Stepper, groups: Sequence[Mapping[str, Any]]) -> bool:
    """Whether nothing has a state yet, every learning rate is 0, and so is every gradient; there must be one.

    Where parameters are sharded, all processes come to the same answer.
    """
    if stepper.steps or any(t.host for t in stepper.tensors):
        return False
    rates = [group["lr"] for group in groups if "lr" in group]
    if any(callable(rate) or float(rate) != 0 for rate in rates):
        return False
    grads = [p.grad for group in groups for p in group["params"] if p.grad is not None]
    zeros = bool(grads) and all(_is_zero(grad) for grad in grads)
    holders = dict.fromkeys(t.holders() for t in stepper.tensors if t.cuts)
    if holders and stepper.share is not None:
        found = stepper.share([Part("max", processes, np.array([float(not zeros)])) for processes in holders])
        zeros = not any(float(one[0]) for one in found)
    return zeros


def _is_zero(grad: torch.Tensor) -> bool:
    local = local_part(grad)
    return local.layout == torch.strided and local.device.type != "meta" and not bool((local != 0).any())
