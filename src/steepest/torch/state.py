"""State dicts in torch's form: made, checked and laid out for an optimizer's parameters."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType
from typing import Any, NamedTuple

import torch
from torch.nn.parameter import is_lazy

from steepest.plan.planner import plan
from steepest.step.groups import (
    FIX,
    SCHEDULES,
    Loading,
    check_mapping,
    checked_form,
    frozen,
    saved,
    saved_schedules,
    whole,
)
from steepest.step.recipes import Recipe
from steepest.torch.entries import parted
from steepest.torch.groups import SWITCHES
from steepest.torch.views import ParamView, names_of

__all__ = ["Incompatible", "Loaded", "dictionary", "load"]


class Incompatible(NamedTuple):
    """What a state dict lacked, and what it had too much: names of parameters, or of a parameter's states."""

    missing_keys: list[str]
    unexpected_keys: list[str]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A state dict, checked and laid out for these parameters; nothing has been changed yet."""

    names: Sequence[list[str] | None]
    """The names that each group takes over, if it has none."""
    values: list[dict[str, Any]]
    loading: Loading
    numbers: list[dict[str, float]]
    states: list[dict[str, torch.Tensor]]
    steps: int
    incompatible: Incompatible

    def apply(self, groups: Sequence[dict[str, Any]], held: Sequence[ParamView]) -> bool:
        """Change groups and states. Return whether parameters have got other names."""
        for group, values, names in zip(groups, self.values, self.names, strict=True):
            group.update(values if names is None else {**values, "param_names": names})
        for plateau, state in self.loading.plateaus:
            plateau.load_state_dict(state)
        for one, numbers, states in zip(held, self.numbers, self.states, strict=True):
            one.forget()
            one.tensor.host.update(numbers)
            for name, state in states.items():
                one.keep(name, state)
        return [one.tensor.name for one in held] != names_of(groups)


def dictionary(
    made: dict[str, Any], recipes: Sequence[Recipe], steps: int, schedules: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """torch's state dict, with schedules as text, the steps taken, and the text of a ready chain, in each group."""
    for group, recipe, own in zip(made["param_groups"], recipes, schedules, strict=True):
        group.update(saved_schedules(own))
        for name in recipe.defaults:
            several = group[name] if isinstance(group[name], (tuple, list)) else (group[name],)
            if any(map(callable, several)):
                group[name] = saved(frozen(group[name]))
        group["steps"] = steps
        if recipe.text:
            group["chain"] = recipe.text
    return made


def load(
    what: str,
    given: Mapping[str, Any],
    groups: Sequence[Mapping[str, Any]],
    recipes: Sequence[Recipe],
    held: Sequence[ParamView],
    strict: bool,
    schedules: object,
) -> Loaded:
    """Check a state dict against these groups and parameters, and lay its states out for them."""
    what = f"{what}.load_state_dict"
    old = _checked_groups(what, given)
    entries, orphans = _entries(what, given["state"], {i for g in old for i in g["params"]})
    sources, adopted, order, missing, unexpected = _matched(what, groups, old)
    unexpected += orphans
    named = names_of([{**g, "param_names": g.get("param_names") or n} for g, n in zip(groups, adopted, strict=True)])
    steps = _steps(what, old, given["state"])
    loading = Loading(what, steps, schedules)
    values = [_values(loading, number, *row) for number, row in enumerate(zip(groups, sources, recipes, strict=True))]
    chains = [r({**g, **v}) for g, v, r in zip(groups, values, recipes, strict=True) for _ in g["params"]]
    numbers: list[dict[str, float]] = []
    found: list[dict[str, torch.Tensor]] = []
    views = iter(held)
    for param, name, position, chain in zip(
        (p for g in groups for p in g["params"]), named, order, chains, strict=True
    ):
        if is_lazy(param):
            if entries.get(position):
                raise ValueError(
                    f"{what}: parameter {name!r} must be initialized before its state is loaded. Run the model once, or load its "
                    f"weights first."
                )
            continue
        one = next(views)
        own = plan(chain.for_parameter(name, one.tensor.shape))
        entry = {} if position is None else entries.get(position) or {}
        counted, states = parted(what, one, entry, own)
        lacking = [n for n in own.trace.starts if counted and n not in states and n not in counted]
        missing += [f"{name}.{n}" for n in lacking]
        unknown = [n for n, v in entry.items() if n != "step" and n not in own.trace.starts and v is not None]
        unexpected += [f"{name}.{n}" for n in unknown]
        numbers.append(counted)
        found.append({name: one.laid_out(state) for name, state in states.items()})
    if strict and (missing or unexpected):
        said = [f"{kind}: {', '.join(ns)}" for kind, ns in (("missing", missing), ("unexpected", unexpected)) if ns]
        raise ValueError(
            f"{what}: the state dict doesn't fit. {'; '.join(said).capitalize()}. Load it into an optimizer of the same rule and "
            f"parameters, or pass strict=False, which resets missing states and drops unexpected ones."
        )
    return Loaded(adopted, values, loading, numbers, found, steps, Incompatible(missing, unexpected))


_DECOUPLED = "decoupled_weight_decay"
_FLAGS = (*SWITCHES, _DECOUPLED)
"""What a group of torch holds in addition to a recipe's values, each a truth value or None."""


def _checked_groups(what: str, given: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The saved groups, after everything that holds something else is of the right kind."""
    groups = checked_form(what, given)
    for number, group in enumerate(groups):
        params = group["params"]
        if not isinstance(params, (list, tuple)) or not all(isinstance(i, (int, str)) for i in params):
            raise TypeError(
                f"{what}: param_groups[{number}]['params'] must be a list of numbers or names, got {type(params).__name__}. "
                f"{FIX}"
            )
        names = group.get("param_names")
        if names and (not isinstance(names, (list, tuple)) or len({*map(str, names)}) != len(params)):
            raise ValueError(
                f"{what}: param_groups[{number}]['param_names'] must be {len(params)} different names, got {names!r}. {FIX}"
            )
        for name in _FLAGS:
            if not isinstance(group.get(name), (bool, NoneType)):
                raise TypeError(
                    f"{what}: param_groups[{number}][{name!r}] must be True, False or None, got {group[name]!r}. {FIX}"
                )
    return groups


class _Match(NamedTuple):
    """Where the values of each group and the state of each parameter come from."""

    sources: list[Mapping[str, Any]]
    """The saved group for each group."""
    adopted: list[list[str] | None]
    """The names that each group takes over: those saved, if it has none."""
    order: list[Any]
    """The key of each parameter's saved entry."""
    missing: list[str]
    unexpected: list[str]


def _matched(what: str, groups: Sequence[Mapping[str, Any]], old: Sequence[Mapping[str, Any]]) -> _Match:
    """Match by name over all groups if all of them have names, else group by group, by name or by position.

    `torch.distributed.checkpoint` lists names in place of numbers. They are names here, if they are those of the parameters.
    """
    listed = [i for g in old for i in g["params"]]
    if listed and {*listed} == {n for g in groups for n in g.get("param_names", ())}:
        old = [{**g, "param_names": g["params"]} for g in old]
    if _have_names([*old, *groups]):
        match = _Match([_source(g, old) for g in groups], [None for _ in groups], [], [], [])
        pools = [(groups, old)]
    else:
        _check_sizes(what, old, groups)
        adopted = [None if g.get("param_names") else s.get("param_names") for g, s in zip(groups, old, strict=True)]
        match = _Match(list(old), adopted, [], [], [])
        pools = [([g], [s]) for g, s in zip(groups, old, strict=True)]
    for some, before in pools:
        if _have_names([*some, *before]):
            ids = {n: i for g in before for n, i in zip(g.get("param_names", ()), g["params"], strict=True)}
            names = [n for g in some for n in g.get("param_names", ())]
            match.order.extend(ids.get(n) for n in names)
            match.missing.extend(n for n in names if n not in ids)
            match.unexpected.extend(n for n in ids if n not in set(names))
        else:
            match.order.extend(i for g in before for i in g["params"])
    return match


def _have_names(groups: Sequence[Mapping[str, Any]]) -> bool:
    return all(g.get("param_names") for g in groups if g["params"])


def _entries(what: str, state: Mapping[Any, Any], listed: Collection[Any]) -> tuple[dict[Any, Any], list[str]]:
    """The entries of ``state`` under the numbers or names that the groups list, and what no group lists.

    JSON and other formats turn a number into text: "0" is taken for 0 if only one of them is listed and has an entry.
    """
    entries, unexpected = {}, []
    for key, entry in state.items():
        other = str(key) if type(key) is int else int(key) if isinstance(key, str) and _is_number(key) else None
        found = key if key in listed else other if other in listed and other not in state else None
        if found is None:
            unexpected += [] if entry == {} else [f"state[{key!r}]"]
        else:
            check_mapping(what, f"state[{key!r}]", entry)
            entries[found] = entry
    return entries, unexpected


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and str(int(text)) == text


def _source(group: Mapping[str, Any], old: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The saved group that had the first of this group's parameters; none where all are new."""
    for name in group.get("param_names", ()):
        for one in old:
            if name in one.get("param_names", ()):
                return one
    return {}


def _check_sizes(what: str, old: Sequence[Mapping[str, Any]], groups: Sequence[Mapping[str, Any]]) -> None:
    sizes, ours = [len(g["params"]) for g in old], [len(g["params"]) for g in groups]
    if sizes != ours:
        raise ValueError(
            f"{what}: the numbers of parameters of the saved groups must be {ours}, got {sizes}. Build the same groups, or pass "
            f"named parameters, so that states are found by name."
        )


def _steps(what: str, old: Sequence[Mapping[str, Any]], state: Mapping[Any, Mapping[str, Any]]) -> int:
    """The steps that were saved; where none were, as by torch, the most that a parameter has had: torch's SGD counts none."""
    told = next((g["steps"] for g in old if "steps" in g), None)
    if told is None:
        counts = [frozen(entry.get("step")) if "step" in entry else 1.0 for entry in state.values() if entry]
        told = max((n for n in counts if isinstance(n, (int, float))), default=0)
    return whole(what, "steps", told)


def _values(
    loading: Loading, number: int, group: Mapping[str, Any], source: Mapping[str, Any], recipe: Recipe
) -> dict[str, Any]:
    """The values that a group takes over from a saved one."""
    what = loading.what
    text = source.get("chain", recipe.text)
    if text != recipe.text:
        raise ValueError(
            f"{what}: the saved chain is {text}, but the chain here is {recipe.text}. Build the same chain."
        )
    kept = {n: copy.deepcopy(v) for n, v in source.items() if n not in ("params", "param_names", "steps", "chain")}
    if _DECOUPLED not in recipe.defaults:  # AdamW stays decoupled, as torch's does
        kept.pop(_DECOUPLED, None)
    for name, parts in recipe.joined.items():  # saved one by one before 0.1
        if name not in kept and {*parts} <= {*kept}:
            kept[name] = {"tuple": [kept.pop(part) for part in parts]}
    own = {name: value for name, value in kept.items() if name in recipe.defaults or name == SCHEDULES}
    others = {name: value for name, value in kept.items() if name not in own}
    values = others | loading.group(number, own, group)
    for name, value in values.items():
        if isinstance(group.get(name), tuple) and isinstance(value, list):
            values[name] = tuple(value)
    return values
