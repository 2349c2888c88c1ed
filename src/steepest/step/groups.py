"""The values of parameter groups, whatever the framework: taken apart, frozen, saved and restored.

A group is a mapping of ``"params"`` and a recipe's arguments. Its values are frozen before they are compared or planned with:
what holds a single number becomes that number, so that a change in place is seen at the next step. Saved, they are numbers, with
the schedules behind them as JSON text beside them. A chain or a function can't be saved and stays what the new optimizer was
built with, checked by its text.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from steepest.checks import unknown_name, warn
from steepest.language.chain import Chain
from steepest.schedules import ReduceOnPlateau, Schedule, from_json

__all__ = [
    "FIX", "SCHEDULES", "Loading", "check_mapping", "check_names", "checked_form", "frozen", "groups_of", "plateaus", "saved",
    "saved_schedules", "whole",
]  # fmt: skip

FIX = "Pass the result of state_dict()."
SCHEDULES = "schedules"
"""The key of a saved group's schedules, one text of JSON."""


def groups_of(what: str, params: Any, defaults: Mapping[str, Any], array: type) -> list[dict[str, Any]]:
    """The groups that the user means; parameters without groups are one. ``array`` is the type of a single parameter."""
    if not (isinstance(params, Sequence) and len(params) and all(isinstance(p, Mapping) for p in params)):
        return [{"params": params}]
    groups = []
    for number, group in enumerate(params):
        if "params" not in group:
            raise ValueError(
                f"{what}: group {number} must have 'params', got {', '.join(map(repr, group)) or 'an empty group'}."
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


def saved(value: Any) -> Any:
    """A group's frozen value as JSON can hold it; a schedule by its own JSON, what has none by its text."""
    if isinstance(value, Schedule):
        return {"schedule": json.loads(value.to_json())}
    if isinstance(value, ReduceOnPlateau):
        return {"plateau": value.state_dict()}
    if isinstance(value, Chain):
        own = {key: saved(one) for key, one in _values_of(value).items()}
        return {"chain": str(value), "plateaus": [p.state_dict() for p in plateaus(value)], "values": own}
    if callable(value):
        return {"function": saved_function(value)}
    if isinstance(value, tuple):
        return {"tuple": [saved(v) for v in value]} if any(map(callable, value)) else value
    return value


def saved_function(value: Any) -> str:
    """What is saved of a plain function: its name."""
    return getattr(value, "__qualname__", repr(value))


def saved_schedules(values: Mapping[str, Any]) -> dict[str, str]:
    """The schedules of a group's values as one text, under the key by which a saved group has them; nothing without any."""
    return {SCHEDULES: json.dumps({name: saved(frozen(value)) for name, value in values.items()})} if values else {}


def plateaus(chain: Chain) -> list[ReduceOnPlateau]:
    """The plateaus among a chain's values, in order."""
    return [value for link in chain for _, value in link.values if isinstance(value, ReduceOnPlateau)]


def check_mapping(what: str, name: str, value: object) -> None:
    """Raise unless a part of a state dict is a mapping."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{what}: {name} must be a mapping, got {type(value).__name__}. {FIX}")


def checked_form(what: str, state_dict: Mapping[str, Any], *keys: str) -> Sequence[Mapping[str, Any]]:
    """The groups of a state dict that must have ``keys``, after what holds something else has been checked."""
    check_mapping(what, "the state dict", state_dict)
    for key in ("state", "param_groups", *keys):
        if key not in state_dict:
            raise ValueError(f"{what}: the state dict must have {key!r}. {FIX}")
    state, groups = state_dict["state"], state_dict["param_groups"]
    check_mapping(what, "'state'", state)
    if not isinstance(groups, Sequence) or not all(isinstance(g, Mapping) and "params" in g for g in groups):
        raise TypeError(f"{what}: 'param_groups' must be a list of groups with 'params'. {FIX}")
    return groups


def check_names(what: str, number: int, saved: Sequence[str], here: Sequence[str]) -> None:
    """Raise unless a group was saved with the parameters that it has here."""
    for name in sorted({*saved} - {*here}):
        raise ValueError(f"{what}: group {number} was saved with the parameter {name!r}, which it doesn't have here.")
    for name in sorted({*here} - {*saved}):
        raise ValueError(f"{what}: group {number} was saved without the parameter {name!r}, which it has here.")


def whole(what: str, name: str, value: Any) -> int:
    """A count from a state dict, checked."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{what}: {name} must be a whole number >= 0, got {value!r}.")
    if not 0 <= value < 2**53 or value != int(value):
        raise ValueError(f"{what}: {name} must be a whole number >= 0, got {value!r}.")
    return int(value)


class Loading:
    """What groups take over from a state dict, and where that differs from the schedules here.

    Parameters
    ----------
    what : str
        The call, for messages.
    steps : int
        The steps that had been taken.
    choice : "saved", "own" or None
        Which schedules to use if saved and own ones differ. None uses the saved ones and makes `warn` say so.
    """

    def __init__(self, what: str, steps: int, choice: object) -> None:
        if choice not in (None, "saved", "own"):
            raise ValueError(
                f"{what}: schedules must be 'saved', 'own' or None, got {choice!r}. None warns if they differ."
            )
        self.what, self.steps, self.choice = what, steps, choice
        self.plateaus: list[tuple[ReduceOnPlateau, Any]] = []
        self._differences: list[str] = []

    def check_names(self, number: int, saved: Mapping[str, Any], current: Mapping[str, Any]) -> None:
        """Raise unless a group was saved with the values that it has here."""
        names = {*saved} - {SCHEDULES}
        if names != {*current}:
            raise ValueError(
                f"{self.what}: group {number} was saved with {', '.join(sorted(names))}, "
                f"but it has {', '.join(sorted(current))} here."
            )

    def group(self, number: int, saved: Mapping[str, Any], current: Mapping[str, Any]) -> dict[str, Any]:
        """The values of a group, by name, whose saved ones are not ``"params"`` or the like."""
        text = saved.get(SCHEDULES)
        try:
            schedules = {} if text is None else json.loads(text)
            given = {**saved, **schedules, **{n: v for n, v in saved.items() if isinstance(v, Mapping)}}
        except (TypeError, ValueError):
            raise ValueError(
                f"{self.what}: {SCHEDULES} of group {number} must be what state_dict() returns, got {text!r}."
            ) from None
        return {
            name: self._value(
                f"{name} of group {number}" if number else name, given[name], saved[name], current.get(name)
            )
            for name in saved
            if name != SCHEDULES
        }

    def warn(self) -> None:
        """Say once what differed."""
        if self._differences:
            warn(f"{self.what}: {'. '.join(self._differences)}. Choose with schedules='saved' or schedules='own'.")

    def _value(self, name: str, saved: Any, number: Any, current: Any) -> Any:
        """One value from what was saved of it, which may be a schedule, and the number that was saved beside that."""
        several = saved.get("tuple") if isinstance(saved, Mapping) else saved
        scheduled = several is not saved or (isinstance(current, tuple) and any(map(callable, current)))
        if scheduled and isinstance(several, (tuple, list)):
            beside, here = (
                one if isinstance(one, (tuple, list)) and len(one) == len(several) else several
                for one in (number, current)
            )
            rows = enumerate(zip(several, beside, here, strict=True))
            return tuple(self._value(f"{name}[{place}]", *row) for place, row in rows)
        if not isinstance(saved, Mapping):
            value = number
        elif "chain" in saved:
            return self._chain(saved, current)
        elif self.choice == "own":
            return current
        else:
            value, giving = self._made(name, saved, current)
            if giving is not None and not isinstance(number, Mapping) and not self._gives(giving, number):
                self._differs(f"{name} was saved as {number!r} beside {giving!r}. The number is used")
                return number
            if "plateau" in saved:
                self.plateaus.append((value, saved["plateau"]))
        if not callable(current) or value is current or value == current:
            return value
        if self.choice == "own" or self._gives(current, value):
            return current
        self._differs(f"{name} was saved as {value!r} and is {current!r} here. The saved one is used")
        return value

    def _made(self, name: str, saved: Mapping[str, Any], current: Any) -> tuple[Any, Any]:
        """A saved schedule, and what gives its numbers; a plateau or a function of the user is the one here."""
        if "schedule" in saved:
            schedule = from_json(saved["schedule"])
            return schedule, schedule
        if "plateau" in saved and isinstance(current, ReduceOnPlateau):
            then = copy.copy(current)
            then.load_state_dict(saved["plateau"])
            return current, then
        if "plateau" in saved or isinstance(current, ReduceOnPlateau) or not callable(current):
            raise ValueError(
                f"{self.what}: {name} was saved as {dict(saved)}, but it is {current!r} here. Use the same schedule, or load with "
                f"schedules='own'."
            )
        if saved.get("function") != saved_function(current):
            function = saved.get("function")
            self._differs(f"{name} was saved as the function {function} and is {current!r} here. The own one is used")
        return current, None

    def _gives(self, schedule: Any, number: Any) -> bool:
        """Whether a schedule gives a number at the saved step, but for the last digits of another machine."""
        try:
            return math.isclose(schedule(self.steps), number, rel_tol=1e-9)
        except Exception:
            return False

    def _chain(self, saved: Mapping[str, Any], current: Any) -> Any:
        """The chain here, whose text must be the saved one's, with the saved schedules."""
        here = plateaus(current) if isinstance(current, Chain) else []
        states = saved.get("plateaus", ())
        if str(current) != saved["chain"] or len(states) != len(here):
            raise ValueError(
                f"{self.what}: the saved chain is {saved['chain']} with {len(states)} plateaus, but the chain here is "
                f"{current} with {len(here)}. Build the same chain."
            )
        for plateau, state in zip(here, states, strict=True):
            copy.copy(plateau).load_state_dict(state)
            self.plateaus.append((plateau, state))
        links = list(current.links)
        for key, value in saved.get("values", {}).items():
            place, name = key.split(" ")
            own = dict(links[int(place)].values)[name]
            if isinstance(own, Schedule) or (isinstance(value, Mapping) and "schedule" in value):
                made = self._value(f"{name} of {links[int(place)].written}", value, value, own)
                values = tuple((n, made if n == name else v) for n, v in links[int(place)].values)
                links[int(place)] = replace(links[int(place)], values=values)
        return Chain(tuple(links))

    def _differs(self, difference: str) -> None:
        if self.choice is None:
            self._differences.append(difference)


def _values_of(chain: Chain) -> dict[str, Any]:
    """A chain's numbers and schedules, by the place of their link and their name."""
    return {f"{place} {name}": value for place, link in enumerate(chain) for name, value in link.values}
