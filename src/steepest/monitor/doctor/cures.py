"""Lines of code that change what a run's optimizer is set to: for its own groups, and for no other optimizer than its own."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from steepest import rules
from steepest.monitor.records import Run

__all__ = ["behind", "change", "watched_for_nan"]


def change(run: Run, value: str, how: str, groups: Iterable[int] = ()) -> str:
    """A line that changes one value of these groups, or of all: ``{old}`` in ``how`` is what the value was.

    NumPy's ready chains keep their values in the chain, so there the line is for the place where that is made.

    >>> from steepest.monitor.records import Facts
    >>> facts = Facts(0.0, "torch", "AdamW", ("descend",) * 2, ({"lr": 0.1}, {"lr": 0.01}), (), {}, every=10)
    >>> change(Run.of(facts, []), "lr", "*= 0.1", groups=[1])
    "optimizer.param_groups[1]['lr'] *= 0.1"
    >>> change(Run.of(facts, []), "lr", "= steepest.schedules.warmup(30, {old})")
    "for group in optimizer.param_groups: group['lr'] = steepest.schedules.warmup(30, group['lr'])"
    """
    chosen = sorted({*groups})
    if run.facts.framework == "numpy" and any("chain" in group for group in run.facts.groups):
        return f"{value} {how.format(old=value)}  # where the chain is made"
    if len(chosen) == 1:
        old = f"optimizer.param_groups[{chosen[0]}][{value!r}]"
        return f"{old} {how.format(old=old)}"
    some = 0 < len(chosen) < len(run.facts.groups)
    among = f"(optimizer.param_groups[i] for i in {tuple(chosen)})" if some else "optimizer.param_groups"
    old = f"group[{value!r}]"
    return f"for group in {among}: {old} {how.format(old=old)}"


def behind(run: Run, link: str) -> str:
    """The optimizer's chain behind one more link.

    >>> from steepest.monitor.records import Facts
    >>> facts = Facts(0.0, "torch", "SGD", ("descend",), ({"lr": 0.1, "momentum": 0.0},), (), {}, every=10)
    >>> behind(Run.of(facts, []), "steepest.skip_nonfinite()")
    'steepest.torch.Optimizer(model.named_parameters(), steepest.chain(steepest.skip_nonfinite(), steepest.sgd(lr=0.1)))'
    """
    facts = run.facts
    recipe = facts.optimizer.lower()
    if recipe not in rules.OPTIMIZERS or not facts.groups:
        return f"chain = steepest.chain({link}, chain)"
    front, params = ("torch", "model.named_parameters()") if facts.framework == "torch" else ("numpy", "params")
    likewise = "  # the first group's; the others' likewise" if len(facts.groups) > 1 else ""
    return f"steepest.{front}.Optimizer({params}, steepest.chain({link}, {_called(recipe, facts.groups[0])})){likewise}"


def _called(recipe: str, values: Mapping[str, Any]) -> str:
    """The call of a recipe with these values, where they are not its defaults; a schedule by its argument's name."""
    said = []
    for one in inspect.signature(rules.OPTIMIZERS[recipe]).parameters.values():
        value = values.get(one.name)
        value = tuple(value) if isinstance(value, list) else value
        if value is not None and (value != one.default or one.name == "lr"):
            said.append(f"{one.name}={one.name if isinstance(value, str) else repr(value)}")
    return f"steepest.{recipe}({', '.join(said)})"


def watched_for_nan(run: Run) -> str:
    """What makes the framework point at the operation that gives the first nan."""
    return "torch.autograd.set_detect_anomaly(True)" if run.facts.framework == "torch" else "numpy.seterr(all='raise')"
