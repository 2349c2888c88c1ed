"""The values of parameter groups, whatever the framework: taken apart, frozen, saved and restored.

A group is a mapping of ``"params"`` and a recipe's arguments. Its values are frozen before they are compared or planned with:
what holds a single number becomes that number, so that a change in place is seen at the next step. Saved, they are what JSON
can hold; a chain or a function can't be saved and stays what the new optimizer was built with, checked by its text.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from steepest.checks import unknown_name
from steepest.language.chain import Chain
from steepest.schedules import ReduceOnPlateau, Schedule, from_json

__all__ = [
    "check_names", "checked_form", "differ", "frozen", "groups_of", "plateaus", "restored", "saved", "unsaved", "whole",
]  # fmt: skip


def groups_of(what: str, params: Any, defaults: Mapping[str, Any], array: type) -> list[dict[str, Any]]:
    """The groups that the user means; parameters without groups are one. ``array`` is the type of a single parameter."""
    if not (isinstance(params, Sequence) and len(params) and all(isinstance(p, Mapping) for p in params)):
        return [{"params": params}]
    groups = []
    for number, group in enumerate(params):
        if "params" not in group:
            raise ValueError(
                f"{what}: group {number} has no 'params'; it has {', '.join(map(repr, group)) or 'nothing'}."
            )
        for name in group:
            if name != "params" and name not in defaults:
                raise TypeError(unknown_name(f"{what}: group {number}", "value", name, defaults))
        given = group["params"]
        groups.append({**group, "params": [given] if isinstance(given, array) else given})
    return groups


def frozen(value: Any) -> Any:
    """The value, free of what could be changed in place without being seen.

    An array or scalar without dimensions becomes its number. So does a tensor of one element, known by ``numel``: PyTorch's
    own optimizers take one for a number, NumPy's arrays of one element are refused by the recipe. Lists become tuples.

    >>> import numpy as np
    >>> frozen([np.array(0.9), np.float64(0.999)]), frozen(np.array([0.9]))
    ((0.9, 0.999), array([0.9]))
    """
    if isinstance(value, (list, tuple)):
        return tuple(map(frozen, value))
    single = getattr(value, "ndim", None) == 0 or (hasattr(value, "numel") and value.numel() == 1)
    return value.item() if single and hasattr(value, "item") else value


def differ(values: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]]) -> bool:
    """Whether any group has another value than it had."""
    try:
        return values != others
    except (ValueError, RuntimeError):  # an array or tensor, of which the recipe will say that it is none of its values
        return True


def saved(value: Any) -> Any:
    """A group's frozen value as JSON can hold it; a schedule by its own JSON, what has none by its text."""
    if isinstance(value, Schedule):
        return {"schedule": value.to_json()}
    if isinstance(value, ReduceOnPlateau):
        return {"plateau": value.state_dict()}
    if isinstance(value, Chain):
        return {"chain": str(value), "plateaus": [p.state_dict() for p in plateaus(value)]}
    if callable(value):
        return {"function": getattr(value, "__qualname__", repr(value))}
    if isinstance(value, tuple):
        return {"tuple": [saved(v) for v in value]}
    return value


def plateaus(chain: Chain) -> list[ReduceOnPlateau]:
    """The plateaus among a chain's values, in order."""
    return [value for link in chain for _, value in link.values if isinstance(value, ReduceOnPlateau)]


def checked_form(what: str, state_dict: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The saved groups, after everything that holds something else is of the right kind."""
    allowed = "allowed is what state_dict() returns."
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"{what}: the state is {type(state_dict).__name__}, {allowed}")
    for key in ("state", "param_groups", "steps"):
        if key not in state_dict:
            raise ValueError(f"{what}: {key!r} is missing; {allowed}")
    state, groups = state_dict["state"], state_dict["param_groups"]
    if not isinstance(state, Mapping) or not all(isinstance(states, Mapping) for states in state.values()):
        raise TypeError(f"{what}: 'state' is no mapping of mappings, {allowed}")
    if not isinstance(groups, Sequence) or not all(
        isinstance(group, Mapping) and "params" in group for group in groups
    ):
        raise TypeError(f"{what}: 'param_groups' is no list of groups with 'params', {allowed}")
    return groups


def check_names(what: str, number: int, saved: Sequence[str], here: Sequence[str]) -> None:
    """Raise unless a group was saved with the parameters that it has here."""
    for name in sorted({*saved} - {*here}):
        raise ValueError(f"{what}: group {number} was saved with the parameter {name!r}, which it does not have here.")
    for name in sorted({*here} - {*saved}):
        raise ValueError(f"{what}: group {number} was saved without the parameter {name!r}, which it has here.")


def whole(what: str, name: str, value: Any) -> int:
    """A count from a state dict, checked."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{what}: {name} is {value!r}, allowed is a whole number >= 0.")
    if not 0 <= value < 2**53 or value != int(value):
        raise ValueError(f"{what}: {name} is {value!r}, allowed is a whole number >= 0.")
    return int(value)


def restored(
    what: str,
    number: int,
    saved: Mapping[str, Any],
    current: Mapping[str, Any],
    found: list[tuple[ReduceOnPlateau, Any]],
) -> dict[str, Any]:
    """The values of a group from a state dict; what can't be saved (chains, functions) stays as it is here."""
    if set(saved) - {"params"} != set(current):
        raise ValueError(
            f"{what}: group {number} was saved with {', '.join(sorted(set(saved) - {'params'}))}; "
            f"it has {', '.join(sorted(current))} here."
        )
    return {name: unsaved(what, name, saved[name], value, found) for name, value in current.items()}


def unsaved(what: str, name: str, saved: Any, current: Any, found: list[tuple[ReduceOnPlateau, Any]]) -> Any:
    """One value; what a plateau here has to take over is added to ``found``, checked but not taken over yet."""
    if not isinstance(saved, Mapping):
        return saved
    if "schedule" in saved:
        return from_json(saved["schedule"])
    if "tuple" in saved:
        fits = isinstance(current, tuple) and len(current) == len(saved["tuple"])
        held = current if fits else (None,) * len(saved["tuple"])
        return tuple(unsaved(what, name, s, c, found) for s, c in zip(saved["tuple"], held, strict=True))
    if "chain" in saved:
        here = plateaus(current) if isinstance(current, Chain) else []
        states = saved.get("plateaus", ())
        if str(current) != saved["chain"] or len(states) != len(here):
            raise ValueError(
                f"{what}: the saved chain is {saved['chain']} with {len(states)} plateaus; here it is {current} with "
                f"{len(here)}. Build the same chain."
            )
        for plateau, state in zip(here, states, strict=True):
            copy.copy(plateau).load_state_dict(state)
            found.append((plateau, state))
        return current
    if "plateau" in saved and isinstance(current, ReduceOnPlateau):
        copy.copy(current).load_state_dict(saved["plateau"])
        found.append((current, saved["plateau"]))
        return current
    if isinstance(current, ReduceOnPlateau) or "plateau" in saved or not callable(current):
        raise ValueError(f"{what}: {name} was saved as {dict(saved)}; here it is {current!r}. Give the same schedule.")
    return current
