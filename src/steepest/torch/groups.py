"""What torch's parameter groups hold beside a recipe's values, and which recipe belongs to which group."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from steepest.step.recipes import LiveGroups, Recipe

__all__ = ["SWITCHES", "check_values", "recipes_of"]

SWITCHES: dict[str, Any] = {"foreach": None, "capturable": False, "differentiable": False, "fused": None}
"""What torch's optimizers take beside their mathematics; kept in the groups, so that state dicts fit both ways."""


def recipes_of(live: LiveGroups) -> list[Recipe]:
    """Each group's recipe, or ValueError for a group that has none."""
    found = live.matched()
    if None in found:
        raise ValueError(
            f"{live.what}: param_groups[{found.index(None)}] must be added by add_param_group, got a group that was inserted "
            f"by hand. Remove it and call add_param_group."
        )
    return [recipe for recipe in found if recipe is not None]


def check_values(what: str, group: Mapping[str, Any], foreach_takes_tensors: bool = True) -> None:
    """Raise for what torch refuses in a group, and for the switches that can't be honoured."""
    for name, value in group.items():
        if name in ("params", "param_names"):
            continue
        several = value if isinstance(value, (tuple, list)) else (value,)
        for v in several:
            if isinstance(v, torch.Tensor) and v.numel() != 1:
                raise ValueError(
                    f"{what}: {name} must be a number or a tensor of 1 element, got a tensor of {v.numel()} elements."
                )
        kinds = {isinstance(v, torch.Tensor) for v in several}
        if name == "betas" and len(kinds) > 1:
            raise ValueError(f"{what}: betas must be two floats or two tensors, got one of each: {value!r}.")
        if True in kinds and group.get("foreach") and not foreach_takes_tensors:
            raise ValueError(
                f"{what}: {name} must be a number if foreach is True, as in torch's {what}, got a tensor. Leave out foreach, which "
                f"changes nothing here."
            )
    if group.get("differentiable"):
        raise ValueError(
            f"{what}: differentiable must be False, got True. The step changes memory in place, outside of autograd. To "
            f"differentiate through a step, use torch.optim."
        )
    if group.get("capturable"):
        raise ValueError(
            f"{what}: capturable must be False, got True. A captured graph would freeze the learning rate and the step count, "
            f"which are numbers on the host. Step outside of the graph."
        )
    if group.get("fused") and group.get("foreach"):
        raise RuntimeError(f"{what}: fused and foreach must not both be True.")
