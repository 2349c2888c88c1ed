"""What `steepest list` shows: every recipe, rule and schedule with its equation, defaults and source.

Equations are printed from the traced rules, so they can't drift from what runs.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import steepest
from steepest import schedules
from steepest.plan.planner import plan
from steepest.show.explain import equations
from steepest.workbench.spaces import DECLARED, SCHEDULE
from steepest.workbench.workload import BUILT_IN, find

__all__ = ["listing", "spaces", "workloads"]

_EXAMPLES: dict[str, dict[str, Any]] = {
    "clip_by_value": {"low": -1.0, "high": 1.0},
    "clip_by_global_norm": {"max_norm": 1.0},
    "clip_by_norm": {"max_norm": 1.0},
    "clip_by_block_rms": {"threshold": 1.0},
    "descend": {"lr": 0.1},
    "scale_by_learning_rate": {"lr": 0.1},
    "add_decayed_weights": {"weight_decay": 0.1},
    "scale_by_lars_ratio": {"weight_decay": 0.1},
}


def listing() -> Iterator[str]:
    """The lines, group by group."""
    groups = (
        ("optimizers", steepest.OPTIMIZERS),
        ("clipping", steepest.CLIPS),
        ("wrappers", steepest.WRAPPERS),
        ("rules to compose", steepest.PARTS),
    )
    for title, recipes in groups:
        yield f"\n{title}"
        for name, make in recipes.items():
            yield from _entry(name, make)
    yield "\nschedules"
    for name in schedules.__all__:
        function = getattr(schedules, name)
        if name not in ("Schedule", "from_json"):
            yield f"  {name}{_arguments(inspect.signature(function))}"
            yield f"      {_first_line(function)}"
            yield f"      {_source(function)}"


def spaces() -> Iterator[str]:
    """What a search draws each recipe's hyperparameters from, and the schedules that every optimizer is tried with."""
    for name, space in DECLARED.items():
        yield f"\n{name}"
        yield from (f"  {argument:26}{dimension}" for argument, dimension in space.items())
    yield "\nevery optimizer whose learning rate is open"
    yield from (f"  {argument:26}{dimension}" for argument, dimension in SCHEDULE.items())
    yield "\nA recipe of your own declares its space by the types and defaults of its arguments."


def workloads() -> Iterator[str]:
    """The library's workloads, with where their data come from."""
    for name in BUILT_IN:
        try:
            work = find(name)
        except ModuleNotFoundError as error:  # the other ones need no PyTorch
            yield f"\n{error}"
            continue
        seconds = "" if work.seconds is None else f", about {work.seconds:g} s a run"
        yield f"\n{name}: {work.steps} steps, judged by {work.metric}{seconds}"
        yield f"  {work.about}"
        yield f"  {work.source}"


def _entry(name: str, make: Callable[..., Any]) -> Iterator[str]:
    function = getattr(make, "function", make)
    yield f"  {name}{_arguments(inspect.signature(make))}"
    yield f"      {_first_line(function)}"
    for equation in _equations(make(**_EXAMPLES.get(name, {}))):
        yield f"        {equation}"
    yield f"      {_source(function)}"


def _source(function: Callable[..., Any]) -> str:
    """The docstring's paragraph on where it comes from, or where to read on."""
    paragraphs = (inspect.getdoc(function) or "").split("\n\n")
    module = inspect.getmodule(function)
    home = (module.__name__ if module else "").removeprefix("steepest.").replace(".", "/")
    said = [" ".join(text.split()) for text in paragraphs if text.startswith("Source:")]
    return said[0] if said else f"Source: see {home}.py"


def _equations(chain: steepest.Chain) -> list[str]:
    changes = [link.changes for link in chain]
    if "param" in changes:
        return equations(plan(chain))
    shown = equations(plan(steepest.chain(chain, steepest.descend(1.0))))
    return [
        line.replace("param = param - lr * ", "update = ", 1) if line.startswith("param") else line for line in shown
    ]


def _arguments(signature: inspect.Signature) -> str:
    said = []
    for parameter in signature.parameters.values():
        default = "" if parameter.default is parameter.empty else f"={parameter.default!r}"
        said.append(f"{parameter.name}{default}")
    return f"({', '.join(said)})"


def _first_line(function: Callable[..., Any]) -> str:
    text = inspect.getdoc(function) or ""
    return text.split("\n\n")[0].replace("\n", " ")
