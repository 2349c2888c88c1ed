"""Schedules from JSON: the table of kinds, and the way back from text to a schedule.

A new kind is one row here. Imports the files of the kinds.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping

from steepest.checks import unknown_name
from steepest.schedules.arguments import declared
from steepest.schedules.cycles import cyclic, one_cycle, warm_restarts
from steepest.schedules.decays import exponential, inverse_sqrt, linear, multi_step, piecewise, polynomial, step
from steepest.schedules.phases import cosine, warmup, wsd
from steepest.schedules.schedule import Schedule, constant, join, scale

__all__ = ["KINDS", "from_json"]

KINDS: dict[str, Callable[..., Schedule]] = {
    declared(inspect.unwrap(kind))[0]: kind
    for kind in (
        constant, linear, polynomial, step, exponential, piecewise, multi_step, inverse_sqrt,
        cosine, warmup, wsd, warm_restarts, cyclic, one_cycle, join, scale,
    )
}  # fmt: skip


def from_json(source: str | bytes | Mapping[str, object]) -> Schedule:
    """The schedule that ``Schedule.to_json`` has written, or that a configuration file describes.

    Parameters
    ----------
    source : JSON text, or a mapping: ``kind``, the function's name, and its arguments by name. Arguments with a default
        may be left out; a schedule inside is a mapping of the same form or a number.

    Raises
    ------
    TypeError, ValueError
        When the text isn't JSON, a name is not known, or an argument is missing, of the wrong kind or out of range.

    Examples
    --------
    >>> from_json({"kind": "warmup", "steps": 500, "schedule": {"kind": "step", "initial": 0.1, "step_size": 1000}})
    warmup(500, step(0.1, step_size=1000))
    >>> from_json(cosine(0.1, steps=100).to_json()) == cosine(0.1, steps=100)
    True
    """
    text = source if isinstance(source, (str, bytes)) else json.dumps(source)
    try:
        schedule = json.loads(text, object_hook=_made)  # the inner ones first
    except json.JSONDecodeError as error:
        error.add_note(f"from_json: source must be JSON text or a mapping, got {source!r}. {_EXAMPLE}")
        raise
    if not isinstance(schedule, Schedule):
        raise TypeError(f"from_json: source must be an object with a 'kind', got {source!r}. {_EXAMPLE}")
    return schedule


_EXAMPLE = 'Example: {"kind": "constant", "value": 0.1}.'


def _made(described: dict[str, object]) -> Schedule:
    if "kind" not in described:
        raise ValueError(
            f"from_json: source must have a 'kind', one of {', '.join(KINDS)}, got {described!r}. {_EXAMPLE}"
        )
    name = described.pop("kind")
    if not isinstance(name, str) or name not in KINDS:
        raise ValueError(unknown_name("from_json", "kind", str(name), KINDS))
    return KINDS[name](**described)
