"""What may be searched: for every recipe the ranges from which its hyperparameters are drawn.

The ranges are those of published tuning protocols (Choi et al. 2019; Dahl et al. 2023, AlgoPerf), on logarithmic scales, with
``1 - beta`` in place of ``beta``. A user's own recipe declares its space by its arguments' types and defaults. A
configuration is a flat mapping, ``{"lr": 0.003, "adamw.beta2": 0.99, "schedule": "cosine"}``; `reading` turns it into a chain.
"""

from __future__ import annotations

import ast
import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, get_type_hints

import steepest
from steepest import schedules
from steepest.checks import Range, range_of, unknown_name
from steepest.workbench.parse import Reading, is_file, read, split_list
from steepest.workbench.users import load_recipe

__all__ = [
    "Choice",
    "Configuration",
    "DECLARED",
    "Dimension",
    "Log",
    "SCHEDULE",
    "centre",
    "edges_of",
    "fixed_of",
    "names_lr",
    "narrowed",
    "reading",
    "searched",
    "space_of",
    "told",
    "values_of",
]

STEPS = 1_000_000
"""What ``steps`` stands for where a chain is only looked at: so many that no warm-up is longer."""
Configuration: TypeAlias = Mapping[str, float | str | bool]


@dataclass(frozen=True, slots=True)
class Log:
    """A number drawn on a logarithmic scale; ``below`` says that it is the distance below that number (``1 - beta``).

    ``closed`` are bounds that a user has set: no search goes beyond them.
    """

    low: float
    high: float
    below: float | None = None
    closed: bool = False

    def value(self, drawn: float) -> float:
        return drawn if self.below is None else round(self.below - drawn, 12)

    def __str__(self) -> str:
        scale = f"{self.low:g} to {self.high:g}, logarithmic"
        return scale if self.below is None else f"{self.below:g} - x, x {scale}"


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few values."""

    values: tuple[float | str | bool, ...]

    def value(self, drawn: float | str | bool) -> float | str | bool:
        return drawn

    def __str__(self) -> str:
        return f"one of {', '.join(map(str, self.values))}"


Dimension: TypeAlias = Log | Choice

_BETAS: dict[str, Dimension] = {"beta1": Log(0.02, 0.5, 1.0), "beta2": Log(1e-4, 0.3, 1.0)}
_ADAM: dict[str, Dimension] = {"lr": Log(1e-5, 3e-2), **_BETAS, "eps": Log(1e-10, 1.0)}
_DECAY = Log(1e-4, 0.5)
DECLARED: dict[str, dict[str, Dimension]] = {
    "sgd": {"lr": Log(1e-3, 10.0), "weight_decay": Log(1e-7, 1e-3)},
    "adagrad": {"lr": Log(1e-3, 1.0), "eps": Log(1e-10, 1e-4), "initial_accumulator_value": Choice((0.0, 0.1))},
    "rmsprop": {
        "lr": Log(1e-5, 1e-1), "alpha": Log(1e-3, 0.3, 1.0), "eps": Log(1e-10, 1e-2), "momentum": Choice((0.0, 0.9)),
    },
    "adadelta": {"lr": Log(1e-2, 10.0), "rho": Log(1e-3, 0.3, 1.0), "eps": Log(1e-8, 1e-3)},
    "adam": _ADAM,
    "adamw": {**_ADAM, "weight_decay": _DECAY},
    "nadam": _ADAM,
    "radam": _ADAM,
    "adamax": {"lr": Log(1e-5, 3e-2), **_BETAS},
    "lion": {
        "lr": Log(1e-6, 3e-3), "beta1": Choice((0.9, 0.95)), "beta2": Choice((0.98, 0.99)), "weight_decay": Log(1e-3, 5.0),
    },
    "lamb": {"lr": Log(1e-4, 3e-1), "beta2": Log(1e-3, 0.02, 1.0), "weight_decay": Log(1e-4, 0.3)},
    "lars": {"lr": Log(1e-2, 30.0), "weight_decay": Log(1e-5, 1e-2)},
    "lookahead": {"k": Choice((5, 10)), "alpha": Choice((0.5, 0.8))},
    "ema": {"decay": Log(1e-3, 0.3, 1.0)},
    "clip_by_global_norm": {"max_norm": Log(0.1, 10.0)},
    "clip_by_norm": {"max_norm": Log(0.1, 10.0)},
    "clip_by_block_rms": {"threshold": Log(1e-3, 10.0)},
    "adaptive_grad_clip": {"clipping": Log(1e-3, 0.3)},
}  # fmt: skip
"""By recipe; what is missing stays at its default."""

SCHEDULE: dict[str, Dimension] = {
    "schedule": Choice(("constant", "linear", "cosine", "wsd")),
    "warmup": Choice((0.0, 0.02, 0.05, 0.1)),
}
"""The same family of schedules for every optimizer whose learning rate is open; ``warmup`` is a share of the steps."""

_NEEDED = {
    "clip_by_global_norm": {"max_norm": 1.0},
    "clip_by_norm": {"max_norm": 1.0},
    "clip_by_block_rms": {"threshold": 1.0},
}
"""Values for what a recipe can't do without, where a text leaves it to the search."""


def space_of(text: str, schedule: bool = True) -> dict[str, Dimension]:
    """Every hyperparameter that a chain's text leaves open, with what it is drawn from; the learning rate first."""
    found: dict[str, Dimension] = {}
    recipes = _described(text).recipes
    for recipe, given in recipes:
        declared = _declared_by_user(recipe) if is_file(recipe) else DECLARED.get(recipe, {})
        for name, dimension in declared.items():
            if name in given or (name in ("beta1", "beta2") and "betas" in given):
                continue
            if name == "lr":
                found["lr"] = _momentum_range(recipe, given, dimension)
            else:
                found[f"{recipe}.{name}"] = dimension
    if names_lr(text):  # a schedule of the user's own, or a number, of the rate that is searched
        rates = [DECLARED[recipe]["lr"] for recipe, _ in recipes if "lr" in DECLARED.get(recipe, {})]
        found.setdefault("lr", rates[0] if rates else Log(1e-5, 1.0))
    elif "lr" in found and schedule:
        found.update(SCHEDULE)
    return {name: found[name] for name in sorted(found, key=lambda n: (n != "lr", "." not in n))}


def names_lr(text: str) -> bool:
    """Whether a text computes with the rate: ``adamw(cosine(lr, steps))``."""
    links = [ast.parse(link, mode="eval") for link in split_list(text, "|") if not is_file(link)]
    return any(isinstance(node, ast.Name) and node.id == "lr" for link in links for node in ast.walk(link))


def _momentum_range(recipe: str, given: frozenset[str], dimension: Dimension) -> Dimension:
    return Log(1e-4, 1.0) if recipe == "sgd" and "momentum" in given else dimension


def _described(text: str) -> Reading:
    return read(text, {"lr": 1e-3, "steps": STEPS}, _NEEDED)


def _declared_by_user(recipe: str) -> dict[str, Dimension]:
    """From a recipe's own annotated types: two decades around a default, ``1 - beta`` for a decay, flags as choices.

    ``lr`` needs no type.
    """
    function = load_recipe(*_parted(recipe))
    hints = get_type_hints(function, include_extras=True)
    found: dict[str, Dimension] = {}
    for key, parameter in inspect.signature(function).parameters.items():
        default = 1e-3 if key == "lr" and parameter.default is parameter.empty else parameter.default
        allowed = range_of(hints.get(key)) or (Range(0) if key == "lr" else None)
        if isinstance(default, bool):
            found[key] = Choice((False, True))
        elif isinstance(default, (int, float)) and allowed is not None and not allowed.structure and default > 0:
            found[key] = _around(float(default), allowed)
    return found


def _around(default: float, allowed: Range) -> Dimension:
    if allowed.whole:
        around = {round(default / 2), round(default), round(default * 2)}
        return Choice(tuple(sorted(value for value in around if value in allowed)))
    if allowed.high <= 1.0 and default > 0.5:
        distance = max(1.0 - default, 1e-4)
        return Log(distance / 30, min(0.5, distance * 30), 1.0)
    highest = allowed.high if allowed.high_included else 0.999 * allowed.high
    return Log(max(default / 100, allowed.low), min(default * 100, highest))


def fixed_of(text: str, searched: Mapping[str, Any]) -> tuple[str, ...]:
    """The hyperparameters of a chain that a search leaves as they are."""
    fixed = []
    for recipe, _ in _described(text).recipes:
        made_by = load_recipe(*_parted(recipe)) if is_file(recipe) else steepest.RECIPES[recipe]
        for name in inspect.signature(made_by).parameters:
            parts = ("beta1", "beta2") if name == "betas" else (name,)
            open_ones = [f"{recipe}.{p}" in searched or (p == "lr" and "lr" in searched) for p in parts]
            if not all(open_ones) and name != "maximize":
                fixed.append(f"{recipe}.{name}")
    return tuple(fixed)


def _parted(recipe: str) -> tuple[str, str]:
    path, _, name = recipe.rpartition(":")
    return path, name


def narrowed(space: Mapping[str, Dimension], text: str) -> dict[str, Dimension]:
    """A space with what a user says: ``lr=1e-4:1e-2`` narrows, ``adamw.eps=1e-8`` fixes, ``schedule=cosine,linear`` chooses.

    >>> print(narrowed(space_of("sgd"), "lr = 0.01:1; schedule=cosine")["lr"])
    0.01 to 1, logarithmic
    """
    made = dict(space)
    for name, said in told(text):
        if name not in made:
            raise ValueError(unknown_name("space", "hyperparameter", name, list(made)))
        made[name] = _said(name, made[name], said)
    return made


def told(text: str) -> list[tuple[str, str]]:
    """What a user says about a space, by hyperparameter."""
    parts = [part.partition("=") for part in text.split(";") if part.strip()]
    if strange := [name for name, equals, _ in parts if not equals]:
        raise ValueError(
            f"space: {strange[0].strip()!r} has no value. Write, for example, 'lr=1e-4:1e-2; schedule=cosine'."
        )
    return [(name.strip(), said.strip()) for name, _, said in parts]


def _said(name: str, before: Dimension, said: str) -> Dimension:
    values = [value.strip() for value in said.split(",")]
    if isinstance(before, Choice) and isinstance(before.values[0], (str, bool)):
        known = {str(value): value for value in before.values}
        if strange := [value for value in values if value not in known]:
            raise ValueError(unknown_name("space", name, strange[0], known))
        return Choice(tuple(known[value] for value in values))
    try:
        numbers = [float(value) for value in (said.split(":") if ":" in said else values)]
    except ValueError:
        numbers = [math.nan]
    whole = isinstance(before, Choice) and all(isinstance(value, int) for value in before.values)
    if ":" in said and len(numbers) == 2 and 0 < numbers[0] < numbers[1] < math.inf:
        low, high = numbers
        if whole:
            return Choice(tuple(range(math.ceil(low), math.floor(high) + 1)) or (low,))
        below = before.below if isinstance(before, Log) else None
        if below is not None and high < below:
            return Log(round(below - high, 12), round(below - low, 12), below, closed=True)
        return Log(low, high, closed=True)
    if ":" in said or not all(map(math.isfinite, numbers)):
        raise ValueError(
            f"space: {name} must be low:high with 0 < low < high, or values separated by commas, got {said!r}."
        )
    return Choice(tuple(int(n) if whole and n == int(n) else n for n in numbers))


def searched(text: str, said: str) -> dict[str, Dimension]:
    """A chain's `space_of`, narrowed by what a user says of it.

    Raises ValueError or TypeError, before any training, for what is unknown and for values that the recipes refuse.
    """
    space = narrowed(space_of(text), said)
    for name in dict.fromkeys(name for name, _ in told(said)):
        dimension = space[name]
        for drawn in dimension.values if isinstance(dimension, Choice) else (dimension.low, dimension.high):
            reading(text, {"lr": 1e-3, **values_of(space, {name: drawn})}, STEPS)
    return space


def reading(text: str, configuration: Configuration, steps: int, default_lr: float | None = None) -> Reading:
    """The chain of a text with the values of a configuration; ``default_lr`` where neither says a rate."""
    variables: dict[str, Any] = {"steps": steps}
    lr = configuration.get("lr", default_lr)
    if lr is not None:
        variables["lr"] = _scheduled(float(lr), configuration, steps)
    values: dict[str, dict[str, Any]] = {name: dict(needed) for name, needed in _NEEDED.items()}
    for key, value in configuration.items():
        recipe, dot, name = key.rpartition(".")
        if dot:
            values.setdefault(recipe, {})[name] = value
    for recipe, given in values.items():
        betas = {name: given.pop(name) for name in ("beta1", "beta2") if name in given and recipe in steepest.RECIPES}
        if betas:
            usual = inspect.signature(steepest.RECIPES[recipe]).parameters["betas"].default
            given["betas"] = (betas.get("beta1", usual[0]), betas.get("beta2", usual[1]))
    return read(text, variables, values)


def _scheduled(lr: float, configuration: Configuration, steps: int) -> Any:
    kind = configuration.get("schedule")
    if kind is None:
        return lr
    rising = round(float(configuration.get("warmup", 0.0)) * steps)
    falling = max(1, steps - rising)
    if kind == "cosine":
        return schedules.cosine(lr, steps, warmup=rising)
    if kind == "wsd":
        return schedules.wsd(lr, steps, rising, max(1, steps // 5))
    if kind == "linear":
        decaying = schedules.linear(lr, 0.0, falling)
        return schedules.warmup(rising, decaying) if rising else decaying
    return schedules.warmup(rising, schedules.constant(lr)) if rising else lr


_CENTRES = {
    "sgd(momentum": 0.03, "sgd": 0.3, "adagrad": 0.03, "rmsprop": 1e-3, "adadelta": 1.0, "adamax": 1e-2, "nadam": 3e-3,
    "radam": 3e-3, "adamw": 3e-3, "adam": 3e-3, "lion": 3e-4, "lamb": 1e-2, "lars": 3.0,
}  # fmt: skip


def centre(text: str, rates: Mapping[str, float] | None = None) -> float:
    """The learning rate from which a search starts: the family's usual one on this workload, or a recipe's own default."""
    known = {**_CENTRES, **(rates or {})}
    for recipe, given in _described(text).recipes:
        if is_file(recipe):
            parameter = inspect.signature(load_recipe(*_parted(recipe))).parameters.get("lr")
            if parameter is not None and isinstance(parameter.default, (int, float)):
                return float(parameter.default)
        family = recipe.removeprefix("scale_by_")
        if family == "sgd" and "momentum" in given:
            family = "sgd(momentum"
        if family in known:
            return known[family]
    return 1e-3


def edges_of(space: Mapping[str, Dimension], drawn: Configuration) -> tuple[str, ...]:
    """The hyperparameters whose value lies within a tenth of a decade of an edge of what was searched."""
    found = []
    for name, dimension in space.items():
        value = drawn.get(name)
        if isinstance(dimension, Log) and isinstance(value, (int, float)):
            distance = min(abs(math.log10(value / dimension.low)), abs(math.log10(value / dimension.high)))
            if distance < 0.1:
                found.append(name)
    return tuple(found)


def values_of(space: Mapping[str, Dimension], drawn: Configuration) -> dict[str, float | str | bool]:
    """The hyperparameters' values of what a sampler has drawn, rounded to three digits so that one can write them down."""
    return {name: _rounded(space[name], value) for name, value in drawn.items()}


def _rounded(dimension: Dimension, drawn: Any) -> float | str | bool:
    return dimension.value(float(f"{drawn:.3g}") if isinstance(dimension, Log) else drawn)
