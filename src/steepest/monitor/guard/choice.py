"""Which snapshot training goes back to: the newest that every process can use, since replicas must go back together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from steepest.monitor.guard.packing import unpacked
from steepest.monitor.guard.processes import newest_of_all, worst
from steepest.monitor.guard.snapshots import KEPT, Snapshots

__all__ = ["newest_usable"]

_WHOLE, _BROKEN, _UNREADABLE = range(3)


def newest_usable(
    store: Snapshots,
    check: Callable[[Any], None],
    passed: dict[int, str],
    below: int | None = None,
    strict: bool = False,
) -> tuple[int, Any] | None:
    """Its number and what it holds; None, on all processes, where there is none.

    Why newer ones were passed over is left in ``passed``. ``check`` raises for what does not fit this training. With ``strict``
    only files that are broken are passed over: what else keeps one from being read, or from fitting, is raised, on all processes.
    """
    left, unlisted = [], None
    try:
        left = [number for number in store.numbers if below is None or number < below]
    except OSError as error:
        unlisted = error
    if strict and worst(unlisted is not None):
        raise unlisted or RuntimeError("Guard: another process can't list its snapshots. Its error gives the reason.")
    while (number := newest_of_all(left, 2 * KEPT)) is not None:
        tree, failed = None, None
        try:
            found = store.read(number)
            if found is not None:
                tree = unpacked(found)
                check(tree)
        except Exception as error:
            failed = error
        state = worst(_UNREADABLE if failed is not None else _BROKEN if tree is None else _WHOLE)
        if state == _UNREADABLE and strict:
            raise failed or RuntimeError(
                f"Guard: another process can't use its snapshot {number}. Its error gives the reason."
            )
        passed |= {newer: "not all processes have it" for newer in left if newer > number and newer not in passed}
        if state == _WHOLE:
            return number, tree
        own_reason = (
            f"{type(failed).__name__}: {failed}"
            if failed is not None
            else "its file is broken"
            if tree is None
            else None
        )
        passed[number] = own_reason or "another process can't use it"
        left.remove(number)
    passed |= dict.fromkeys(left, "not all processes have it")
    return None
