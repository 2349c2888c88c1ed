"""Lines of code that change what a run's optimizer is set to: for its own groups, and for no other optimizer than its own."""

from __future__ import annotations

from collections.abc import Iterable

from steepest.monitor.records import Run

__all__ = ["change"]


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
    among = f"(optimizer.param_groups[i] for i in {tuple(chosen)})" if chosen else "optimizer.param_groups"
    old = f"group[{value!r}]"
    return f"for group in {among}: {old} {how.format(old=old)}"
